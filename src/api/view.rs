//! What answers look like.

use serde::Serialize;
use serde_json::Value;

use super::AppState;
use super::occurrences::RecurrenceBody;
use crate::booking::meeting::PinsPer;
use crate::booking::room::MeetingRoom;
use crate::booking::service::Explanation;
use crate::booking::store::StoredCall;
use crate::booking::{
    DialInNumber, Direction, HangupBy, Meeting, MeetingState, Outcome, PrivacyPolicy, RecurrenceId,
    Role, Verstat,
};

pub(super) use crate::call::roster::ParticipantView;

/// A meeting.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Meeting)]
pub(super) struct MeetingView {
    /// Names it here.
    #[schema(format = "uuid")]
    id: String,
    /// Its owner.
    organisation: String,
    /// For people.
    title: String,
    /// Where it is in its life.
    state: MeetingState,
    /// In the meeting's own zone; of a series, its first occurrence.
    #[schema(format = "date-time")]
    starts_at: String,
    /// In the meeting's own zone; null: permanent.
    #[schema(format = "date-time")]
    ends_at: Option<String>,
    /// IANA name; the local times in it are what is kept.
    timezone: String,
    /// What repeats it; null: it takes place once.
    recurrence: Option<RecurrenceBody>,
    /// From when callers may come, to wait or to join; of a series, to the occurrence that is open or next.
    #[schema(format = "date-time")]
    opens_at: String,
    /// From when nobody may come any more; of a series, to the occurrence that is open or next.
    #[schema(format = "date-time")]
    closes_at: Option<String>,
    /// The room that it has; null: none.
    room: Option<MeetingRoomView>,
    /// Most participants at once; null: as many as the node takes.
    capacity: Option<u32>,
    /// `it` or `en`; null: that of the dialled number.
    language: Option<&'static str>,
    /// Your own name for it.
    external_id: Option<String>,
    /// Whatever you want to find again.
    metadata: Option<Value>,
    /// Guests wait for a host.
    wait_for_host: bool,
    /// Guests join muted.
    mute_on_join: bool,
    /// May guests unmute themselves?
    guests_may_unmute: bool,
    /// How long before its start callers may come.
    early_join_minutes: u32,
    /// How long it may run over its end.
    overrun_minutes: u32,
    /// Quiet and loud talkers are brought to about the same loudness.
    automatic_gain: bool,
    /// Noise around the talkers is suppressed.
    noise_suppression: bool,
    /// What one PIN opens.
    pins_per: PinsPer,
    /// Of a series with PINs for each occurrence, those of the occurrence that is open or next. Hidden from keys of role
    /// `reader`; null also once they were released, 30 days after the end.
    pins: Option<PinsView>,
    /// Where to dial in.
    numbers: Vec<NumberView>,
    /// Links for browsers; null until browsers can join.
    join: Option<JoinView>,
    /// When it was booked.
    #[schema(format = "date-time")]
    created_at: String,
    /// When it was last changed.
    #[schema(format = "date-time")]
    updated_at: String,
}

/// The room of a meeting.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = MeetingRoom)]
struct MeetingRoomView {
    /// Names it here.
    #[schema(format = "uuid")]
    id: String,
    /// For people.
    name: String,
    /// Most participants at once.
    capacity: u32,
}

impl MeetingRoomView {
    fn new(room: &MeetingRoom) -> Self {
        Self {
            id: room.id.to_string(),
            name: room.name.clone(),
            capacity: room.capacity,
        }
    }
}

/// The PINs of a meeting.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Pins)]
pub(super) struct PinsView {
    /// For everybody invited.
    guest: Option<String>,
    /// For who steers the meeting.
    host: Option<String>,
}

impl PinsView {
    /// Those that open an occurrence, or a meeting that takes place once.
    pub(super) fn new(meeting: &Meeting, occurrence: Option<RecurrenceId>) -> Self {
        let pin = |role| {
            let pin = meeting.pin_to(role, occurrence);
            pin.map(|pin| pin.expose().to_owned())
        };
        Self {
            guest: pin(Role::Guest),
            host: pin(Role::Host),
        }
    }

    /// Is there one?
    pub(super) const fn are_there(&self) -> bool {
        self.guest.is_some() || self.host.is_some()
    }
}

/// Links for browsers.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Join)]
struct JoinView {
    /// For everybody invited.
    guest_url: String,
    /// For who steers the meeting.
    host_url: String,
}

/// A number to dial.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = DialInNumber)]
pub(super) struct NumberView {
    /// E.164 or an extension, as dialled.
    number: String,
    /// ISO 3166 alpha-2.
    country: Option<String>,
    /// The language callers are greeted in.
    language: Option<&'static str>,
    /// Whose meetings it serves; null: everybody's.
    organisation: Option<String>,
    /// For people.
    label: Option<String>,
    /// Calling it costs nothing.
    toll_free: bool,
}

/// A call, also one that never got in.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Call)]
pub(super) struct CallView {
    /// Names it.
    #[schema(format = "uuid")]
    pub(super) id: String,
    /// `sip`, `asterisk`, `browser` or `link`.
    pub(super) kind: String,
    /// Who called whom.
    pub(super) direction: Direction,
    /// The owner of the meeting it reached.
    pub(super) organisation: Option<String>,
    /// The dialled number; of a call by us (`out`), the number that was shown.
    pub(super) number: String,
    /// Who called, or was called by us. Masked by the privacy policy.
    pub(super) caller: String,
    /// When it arrived.
    #[schema(format = "date-time")]
    pub(super) started_at: String,
    /// When it was answered.
    #[schema(format = "date-time")]
    pub(super) answered_at: Option<String>,
    /// When it was over.
    #[schema(format = "date-time")]
    pub(super) ended_at: String,
    /// The meeting it reached.
    #[schema(format = "uuid")]
    pub(super) meeting_id: Option<String>,
    /// The occurrence of a series, by its recurrence id.
    pub(super) occurrence: Option<String>,
    /// The participant it became.
    #[schema(format = "uuid")]
    pub(super) participant_id: Option<String>,
    /// How it ended.
    pub(super) outcome: Outcome,
    /// How many PINs were tried.
    pub(super) pin_attempts: u32,
    /// Who hung up.
    pub(super) hangup_by: HangupBy,
    /// The release cause (ITU-T Q.850).
    pub(super) q850: u8,
    /// The node that took it.
    pub(super) node: String,
    /// The trunk it came by; null where it came by none.
    pub(super) trunk: Option<String>,
    /// What that trunk said of the caller's number (STIR): whether the network found that whoever placed the call may use
    /// it. Only kept: nothing goes by it. Null where it said nothing, or isn't trusted for that (`trust_identity`).
    pub(super) verstat: Option<Verstat>,
    /// The SIP Call-ID.
    pub(super) sip_call_id: Option<String>,
    /// Asterisk's name of its channel; null where it came by none.
    pub(super) asterisk_channel: Option<String>,
    /// Media quality.
    pub(super) quality: Option<Value>,
    /// What tells the caller from others of the organisation, without his number; null where he withheld it or was
    /// forgotten.
    #[schema(pattern = "^[0-9a-f]{32}$")]
    pub(super) caller_hash: Option<String>,
}

/// What a PIN opens.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = PinExplanation)]
pub(super) struct ExplanationView {
    /// What a caller would get; the words of call records.
    outcome: Outcome,
    /// The meeting.
    #[schema(format = "uuid")]
    meeting_id: Option<String>,
    /// What the PIN makes of its user.
    role: Option<Role>,
    /// From when callers may come.
    #[schema(format = "date-time")]
    opens_at: Option<String>,
    /// From when nobody may come any more.
    #[schema(format = "date-time")]
    closes_at: Option<String>,
}

/// A page of a list.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Page<T: utoipa::ToSchema> {
    /// The items.
    pub(super) items: Vec<T>,
    /// To be given as `cursor` for the next page; null: there is none.
    pub(super) next: Option<String>,
}

impl MeetingView {
    pub(super) fn new(state: &AppState, meeting: Meeting, sees_pins: bool) -> Self {
        let live = state.is_live(meeting.id);
        Self::with_state(state, meeting.state(state.now(), live), meeting, sees_pins)
    }

    fn with_state(app: &AppState, state: MeetingState, meeting: Meeting, sees_pins: bool) -> Self {
        let schedule = &meeting.options.schedule;
        let local = |at| schedule.rfc3339(at);
        let has_pins = sees_pins && !meeting.is_retired(app.now());
        let numbers = app.bookings.numbers();
        let session = meeting.session(app.now());
        Self {
            id: meeting.id.to_string(),
            state,
            starts_at: local(schedule.starts_at()),
            ends_at: schedule.ends_at().map(local),
            timezone: schedule.zone_name().to_owned(),
            recurrence: RecurrenceBody::of(&meeting.options),
            opens_at: local(session.opens_at),
            closes_at: session.closes_at.map(local),
            capacity: meeting.capacity(),
            room: meeting.room.as_ref().map(MeetingRoomView::new),
            language: meeting.options.language.map(|language| language.code()),
            wait_for_host: meeting.options.wait_for_host,
            mute_on_join: meeting.options.mute_on_join,
            guests_may_unmute: meeting.options.guests_may_unmute,
            early_join_minutes: meeting.options.early_join_minutes,
            overrun_minutes: meeting.options.overrun_minutes,
            automatic_gain: meeting.options.sound.automatic_gain,
            noise_suppression: meeting.options.sound.noise_suppression,
            pins_per: meeting.options.pins_per,
            pins: has_pins.then(|| PinsView::new(&meeting, session.occurrence)),
            numbers: numbers
                .serving(&meeting.organisation_name)
                .map(NumberView::new)
                .collect(),
            join: None,
            created_at: meeting.created_at.to_string(),
            updated_at: meeting.updated_at.to_string(),
            organisation: meeting.organisation_name,
            title: meeting.options.title,
            external_id: meeting.options.external_id,
            metadata: meeting.options.metadata,
        }
    }
}

impl NumberView {
    pub(super) fn new(number: &DialInNumber) -> Self {
        Self {
            number: number.number.clone(),
            country: number.country.clone(),
            language: number.language.map(|language| language.code()),
            organisation: number.organisation.clone(),
            label: number.label.clone(),
            toll_free: number.toll_free,
        }
    }
}

impl CallView {
    pub(super) fn new(policy: PrivacyPolicy, stored: StoredCall) -> Self {
        let call = stored.call;
        let without_number = |name| policy.show.scrubbed(&call.caller, name);
        Self {
            id: call.id.to_string(),
            kind: stored.kind,
            direction: call.direction,
            organisation: stored.organisation_name,
            number: call.number,
            caller: policy.shown(&call.caller),
            started_at: call.started_at.to_string(),
            answered_at: call.answered_at.map(|at| at.to_string()),
            ended_at: call.ended_at.to_string(),
            meeting_id: call.meeting.map(|id| id.to_string()),
            occurrence: call.occurrence.map(|id| id.to_string()),
            participant_id: call.participant.map(|id| id.to_string()),
            outcome: call.outcome,
            pin_attempts: call.pin_attempts,
            hangup_by: call.hangup_by,
            q850: call.q850,
            node: stored.node,
            trunk: call.trunk,
            verstat: call.verstat,
            sip_call_id: call.sip_call_id.map(without_number),
            asterisk_channel: call.asterisk_channel.map(without_number),
            quality: call.quality,
            caller_hash: stored.caller_hash.map(|hash| hash.to_string()),
        }
    }
}

impl ExplanationView {
    pub(super) fn new(explanation: &Explanation) -> Self {
        Self {
            outcome: explanation.outcome,
            meeting_id: explanation.meeting.map(|id| id.to_string()),
            role: explanation.role,
            opens_at: explanation.opens_at.map(|at| at.to_string()),
            closes_at: explanation.closes_at.map(|at| at.to_string()),
        }
    }
}
