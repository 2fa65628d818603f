//! The people in the live meetings, as the API reads and steers them. The side that holds the calls
//! implements [`LiveCalls`]; the API knows nothing else of it.

use std::future::Future;
use std::pin::Pin as Pinned;

use jiff::Timestamp;

use crate::booking::admission::CallId;
use crate::booking::{CallerNumber, Meeting, MeetingId, ParticipantId, PrivacyPolicy, Role};
use crate::call::{Outgoing, RoomTerms};
use crate::units::DialplanPlace;

/// A boxed answer: keeps [`LiveCalls`] usable behind `Arc<dyn …>`.
pub type LiveFuture<'a, T> = Pinned<Box<dyn Future<Output = Result<T, LiveError>> + Send + 'a>>;

/// The live calls of this node. Answers come within a second or not at all; a caller that goes away
/// drops the future, so nothing may be half done between two awaits.
pub trait LiveCalls: Send + Sync {
    /// Everybody in the meeting or waiting for it, in the order they came; empty if nobody is there.
    fn participants(&self, meeting: MeetingId) -> LiveFuture<'_, Vec<Participant>>;

    /// Mutes (`true`), or lets the participant unmute himself again (`false`): nobody is ever unmuted
    /// from afar.
    fn set_muted(
        &self,
        meeting: MeetingId,
        participant: ParticipantId,
        muted: bool,
    ) -> LiveFuture<'_, ()>;

    /// Changes the name shown to others; `None` takes it away.
    fn rename(
        &self,
        meeting: MeetingId,
        participant: ParticipantId,
        name: Option<String>,
    ) -> LiveFuture<'_, ()>;

    /// Hangs up on one participant.
    fn remove(&self, meeting: MeetingId, participant: ParticipantId) -> LiveFuture<'_, ()>;

    /// The booking was changed while people may be there: these are its terms now. Nobody there is no
    /// matter.
    fn update_meeting(&self, meeting: MeetingId, terms: RoomTerms) -> LiveFuture<'_, ()>;

    /// Ends the meeting for all that are in it or wait; how many that were.
    fn end_meeting(&self, meeting: MeetingId) -> LiveFuture<'_, u32>;

    /// Sends a participant on into the dialplan of the Asterisk that he came by: his call here is over.
    fn move_on(
        &self,
        meeting: MeetingId,
        participant: ParticipantId,
        place: DialplanPlace,
    ) -> LiveFuture<'_, ()>;

    /// Calls somebody into a meeting. What becomes of it is told as that of any call.
    fn dial(&self, order: DialOrder) -> LiveFuture<'_, ()>;

    /// The meetings somebody is in at this moment, without the echo meeting. Cheap: asked for every
    /// answer that names a meeting's state.
    fn live_meetings(&self) -> Vec<MeetingId>;

    /// Does the node take new calls? `/readyz` says so.
    fn readiness(&self) -> Readiness;

    /// The figures for `/metrics`. Cheap: read from atomics.
    fn gauges(&self) -> Gauges;
}

/// Brings a booking as it is now to those who are in the meeting or wait for it: they stay on the new terms if its
/// PINs would still open it, else it ends for them.
///
/// # Errors
/// Those of [`LiveCalls`].
pub async fn follow(
    live: &dyn LiveCalls,
    meeting: &Meeting,
    now: Timestamp,
) -> Result<(), LiveError> {
    match meeting.open_now(now) {
        Some(admission) => {
            let terms = RoomTerms::from(&admission);
            live.update_meeting(meeting.id, terms).await
        }
        None => live.end_meeting(meeting.id).await.map(drop),
    }
}

/// Somebody to be called.
#[derive(Debug, Clone)]
pub struct DialOrder {
    /// What the call is to be named.
    pub call: CallId,
    /// Whom, as `booking::dial` writes numbers.
    pub to: CallerNumber,
    /// The number that he is shown.
    pub from: Option<String>,
    /// What he is called into.
    pub outgoing: Outgoing,
}

/// Does a node take new calls?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Readiness {
    /// Not yet or no more: it starts or drains.
    #[default]
    Closed,
    /// Not now: with more, the sound of those that are there would suffer.
    Overloaded,
    /// It does.
    Open,
}

/// Why a live call could not be read or steered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LiveError {
    /// No such participant in this meeting, or not any more.
    #[error("no such participant")]
    NoSuchParticipant,
    /// He can't be sent on: no Asterisk has him.
    #[error("the participant didn't come by Asterisk's ARI, and can't be sent on")]
    NotByAsterisk,
    /// `[[asterisk]]` doesn't allow the context.
    #[error("leave_to of this participant's [[asterisk]] doesn't name the context")]
    ContextNotAllowed,
    /// The dialplan has no such extension.
    #[error("Asterisk's dialplan has no such extension in this context")]
    NoSuchExtension,
    /// The meeting has as many participants as it may have, with those who are being called.
    #[error("the meeting is full")]
    Full,
    /// Nothing is configured that could dial.
    #[error(
        "this node can't dial the number: no [[sip.trunk]] that takes it and no [[asterisk]] has a dial"
    )]
    CannotDial,
    /// What could dial is away.
    #[error("no trunk and no Asterisk that can dial is there now")]
    NoLine,
    /// The side that holds the calls does not answer: it starts, drains or is overloaded.
    #[error("the live calls can't be reached now")]
    Unavailable,
}

/// One participant of a live meeting.
#[derive(Debug, Clone)]
pub struct Participant {
    /// Names him in the API, for as long as he is there.
    pub id: ParticipantId,
    /// His name: of his personal PIN, or given by the API.
    pub name: Option<String>,
    /// What his PIN made of him.
    pub role: Role,
    /// How he came: `sip`, later also `asterisk`, `browser`, `link`.
    pub kind: &'static str,
    /// Where he is on his way in.
    pub state: ParticipantState,
    /// As signalled; whoever shows it masks it by the privacy policy first.
    pub number: CallerNumber,
    /// Can't be heard.
    pub muted: bool,
    /// Who muted him last; `None` if he is not muted.
    pub muted_by: Option<MutedBy>,
    /// Has his hand up.
    pub hand: bool,
    /// Is heard now.
    pub talking: bool,
    /// His level over the last second or so, dB below full scale.
    pub level_db: f32,
    /// When he came in, or began to wait.
    pub joined_at: Timestamp,
    /// `PCMA`, `G722`, `opus`, …
    pub codec: &'static str,
    /// How well he hears and is heard.
    pub quality: Quality,
}

/// A participant as API answers and events show him.
#[derive(Debug, Clone, serde::Serialize, utoipa::ToSchema)]
#[schema(as = Participant)]
pub struct ParticipantView {
    /// Names him, for as long as he is there.
    #[schema(format = "uuid")]
    id: String,
    /// His name, if he has one.
    name: Option<String>,
    /// What his PIN made of him.
    role: Role,
    /// `sip`, `asterisk`, `browser` or `link`.
    kind: &'static str,
    /// Where he is on his way in.
    state: ParticipantState,
    /// Masked by the privacy policy.
    number: String,
    /// Can't be heard.
    muted: bool,
    /// Who muted him last; null if he is not muted.
    muted_by: Option<MutedBy>,
    /// Has his hand up.
    hand: bool,
    /// Is heard now.
    talking: bool,
    /// dB below full scale.
    level_db: f32,
    /// When he came in, or began to wait.
    #[schema(format = "date-time")]
    joined_at: String,
    /// What his audio comes in.
    codec: &'static str,
    /// How well he hears and is heard.
    quality: Quality,
}

impl ParticipantView {
    /// With as much of his number as the policy shows.
    #[must_use]
    pub fn new(policy: PrivacyPolicy, participant: Participant) -> Self {
        Self {
            id: participant.id.to_string(),
            name: participant.name,
            role: participant.role,
            kind: participant.kind,
            state: participant.state,
            number: policy.shown(&participant.number),
            muted: participant.muted,
            muted_by: participant.muted_by,
            hand: participant.hand,
            talking: participant.talking,
            level_db: participant.level_db,
            joined_at: participant.joined_at.to_string(),
            codec: participant.codec,
            quality: participant.quality,
        }
    }
}

/// Where a participant is on his way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ParticipantState {
    /// Waits for the start or the host.
    Waiting,
    /// Waits to be admitted.
    Lobby,
    /// Is in.
    Joined,
    /// Was cut off and may come back.
    Reconnecting,
}

/// Who muted a participant.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum MutedBy {
    /// He did.
    #[serde(rename = "self")]
    Himself,
    /// A host or the API did.
    Host,
}

/// Quality of one leg: live over the last ten to twenty seconds, in a call record over the whole call.
#[derive(Debug, Clone, Copy, PartialEq, Default, serde::Serialize, utoipa::ToSchema)]
pub struct Quality {
    /// Packets lost on the way to us, 0 to 1.
    pub loss: f32,
    /// Interarrival jitter (RFC 3550 section 6.4.1), ms.
    pub jitter_ms: f32,
    /// Delay from his mouth to the mix as far as it is known: half the round trip and the buffer, ms.
    pub delay_ms: f32,
    /// What of that waits in the jitter buffer, ms.
    pub buffer_ms: f32,
    /// Round trip by RTCP, ms; null where the peer doesn't report.
    pub round_trip_ms: Option<f32>,
    /// How much more in bursts packets are lost than by chance: 1 is chance (BurstR of ITU-T G.107).
    pub burst_ratio: f32,
    /// Share of his audio that had to be concealed, 0 to 1.
    pub concealed: f32,
    /// He has been sent audio for eight seconds, and none has come from him: nobody hears him.
    pub one_way: bool,
    /// Mean opinion score by the E-model (ITU-T G.107), 1 to 4.5.
    pub mos: f32,
    /// How much louder he is made for the others, dB.
    pub gain_db: f32,
    /// What he returns of the others' voices; null where he doesn't.
    pub echo: Option<EchoQuality>,
}

/// Echo that a leg returns: a speakerphone, a hybrid.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, utoipa::ToSchema)]
pub struct EchoQuality {
    /// From what he was sent to its return, ms.
    pub delay_ms: f32,
    /// How much louder it comes back than it was sent (mostly below 0), dB.
    pub level_db: f32,
    /// Is it being kept from the others now?
    pub damped: bool,
}

/// What the live side reports to `/metrics`, read at the moment of the scrape.
#[derive(Debug, Clone, Default)]
pub struct Gauges {
    /// Legs by kind: `("sip", 12)`.
    pub legs: Vec<(&'static str, u64)>,
    /// Meetings somebody is in, without the echo meeting.
    pub meetings_live: u64,
    /// How late the mixer's ticks were, since start, by media thread.
    pub tick_lateness: Vec<DurationHistogram>,
    /// The share of a core that each media thread uses, 0 to 1.
    pub media_busy: Vec<f64>,
    /// Audio packets that were dropped outside of any call, since start, by reason.
    pub packets_dropped: Vec<(&'static str, u64)>,
    /// Audio packets that came to a call's port and were neither used nor answered, since start, by reason.
    pub packets_refused: Vec<(&'static str, u64)>,
    /// Handshakes that calls' keys were to come by, since start, by what became of them.
    pub handshakes: Vec<(&'static str, u64)>,
    /// Their datagrams that were dropped, since start, by reason.
    pub handshake_packets_dropped: Vec<(&'static str, u64)>,
    /// Frames that were concealed, since start.
    pub concealed_frames: u64,
    /// Legs that were sent audio for eight seconds while none came from them, since start; each once.
    pub one_way_audio: u64,
    /// Calls not admitted for want of capacity, since start, by reason.
    pub admission_refused: Vec<(&'static str, u64)>,
    /// What SIP holds and has repeated.
    pub sip: SipTraffic,
    /// Trunks.
    pub trunks: Vec<TrunkStanding>,
    /// From a call's arrival to the first byte of its first prompt, since start, by kind.
    pub set_up: Vec<(&'static str, DurationHistogram)>,
    /// Asterisks by name: connected.
    pub asterisks: Vec<(String, bool)>,
    /// What happened with them, since start: name, event, how often.
    pub asterisk_events: Vec<(String, &'static str, u64)>,
}

/// What SIP holds now, and what it has repeated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SipTraffic {
    /// Dialogs now: calls as their signalling sees them, those that are being left among them.
    pub dialogs: usize,
    /// Transactions now; what comes again is known by them for half a minute.
    pub transactions: usize,
    /// Messages that were sent again because nobody answered, since start.
    pub retransmissions: u64,
}

/// How a trunk stands.
#[derive(Debug, Clone, PartialEq, serde::Serialize, utoipa::ToSchema)]
#[schema(as = Trunk)]
pub struct TrunkStanding {
    /// What it is called in the configuration.
    pub name: String,
    /// As far as is known, calls come and go by it.
    pub up: bool,
    /// Its registrar knows us; null where it has none.
    pub registered: Option<bool>,
    /// It answers OPTIONS; null where it isn't asked, or hasn't been yet.
    pub reachable: Option<bool>,
    /// Since when it is up, or isn't (on this node).
    #[schema(format = "date-time")]
    pub since: String,
    /// Calls that it has now, both ways together.
    pub calls: usize,
    /// As many it may have; null: as there is room for.
    pub calls_max: Option<usize>,
    /// From the last OPTIONS to its answer, ms; null where there was none.
    pub round_trip_ms: Option<f64>,
    /// Where its requests go now, like "tls:192.0.2.7:5061"; null where nothing leads there.
    pub target: Option<String>,
    /// Other places that its name leads to, and that are left alone because they failed.
    pub left_alone: Vec<TargetLeft>,
}

/// A place that a trunk's name leads to and that isn't used for a while.
#[derive(Debug, Clone, PartialEq, serde::Serialize, utoipa::ToSchema)]
#[schema(as = TrunkTargetLeft)]
pub struct TargetLeft {
    /// Like "udp:192.0.2.7:5060".
    pub target: String,
    /// What happened there last: "no answer", "answered 503", "connection refused", "TLS failed" and the like.
    pub fault: String,
    /// Seconds until it may be used again.
    pub seconds: u64,
}

/// How long something took, each time it happened.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DurationHistogram {
    /// Seconds, all together.
    pub sum_seconds: f64,
    /// `(upper bound in seconds, how often in this bucket alone)`, ascending; the last bound is
    /// `f64::INFINITY` or left out if nothing is above.
    pub buckets: Vec<(f64, u64)>,
}
