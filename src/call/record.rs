//! What is kept of a call, gathered while it lasts.

use jiff::Timestamp;

use crate::booking::admission::{CallId, OrganisationId};
use crate::booking::{
    Admission, CallRecord, CallerNumber, Direction, HangupBy, MeetingId, NoLine, Outcome,
    ParticipantId, RecurrenceId, Verstat,
};
use crate::call::past::Called;
use crate::call::{Arrival, Past, Route};

/// How and by whom a call is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ending {
    /// Who ends it.
    pub(super) by: HangupBy,
    /// The release cause.
    pub(super) q850: u8,
}

impl Ending {
    /// Called by us, he didn't answer in time.
    pub(super) const NO_ANSWER: Self = Self {
        by: HangupBy::System,
        q850: NO_ANSWER,
    };
    /// The caller hung up.
    pub(super) const CALLER: Self = Self {
        by: HangupBy::Caller,
        q850: NORMAL_CLEARING,
    };
    /// Media or signalling is gone.
    pub(super) const LOST: Self = Self {
        by: HangupBy::Network,
        q850: RECOVERY_ON_TIMER_EXPIRY,
    };
    /// No keys for audio that must be encrypted.
    pub(super) const UNSECURED: Self = Self {
        by: HangupBy::System,
        q850: INCOMPATIBLE_DESTINATION,
    };
    /// We said why and hang up.
    pub(super) const TOLD: Self = Self {
        by: HangupBy::System,
        q850: NORMAL_CLEARING,
    };
    /// One of our limits was reached.
    pub(super) const LIMIT: Self = Self {
        by: HangupBy::System,
        q850: RECOVERY_ON_TIMER_EXPIRY,
    };
    /// The store or the room gave no answer.
    pub(super) const UNAVAILABLE: Self = Self {
        by: HangupBy::System,
        q850: TEMPORARY_FAILURE,
    };
    /// A host or the API removed him.
    pub(super) const REMOVED: Self = Self {
        by: HangupBy::Host,
        q850: NORMAL_CLEARING,
    };
    /// No such number, or one that is never answered.
    pub(super) const UNALLOCATED: Self = Self {
        by: HangupBy::System,
        q850: UNALLOCATED_NUMBER,
    };
    /// The node is full.
    pub(super) const CONGESTION: Self = Self {
        by: HangupBy::System,
        q850: SWITCHING_CONGESTION,
    };

    /// Called by us, his side says why he can't be had.
    pub(super) const fn by_called(q850: u8) -> Self {
        let by = HangupBy::Caller;
        Self { by, q850 }
    }

    /// Called by us, the network says why he can't be had.
    pub(super) const fn by_network(q850: u8) -> Self {
        let by = HangupBy::Network;
        Self { by, q850 }
    }

    /// Dropped without a word.
    pub(super) const fn dropped(by: HangupBy) -> Self {
        let q850 = match by {
            HangupBy::Caller | HangupBy::Host | HangupBy::Moved => NORMAL_CLEARING,
            HangupBy::System => NORMAL_UNSPECIFIED,
            HangupBy::Network => RECOVERY_ON_TIMER_EXPIRY,
        };
        Self { by, q850 }
    }
}

/// How far the caller got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// No key, no PIN.
    Silent,
    /// Something, but nothing that decided anything yet.
    Undecided,
    /// Refused so far, for this reason.
    Refused(Outcome),
    /// He was in the meeting.
    Joined(ParticipantId),
}

/// A call record in the making.
#[derive(Debug, Clone)]
pub(super) struct RecordDraft {
    id: CallId,
    arrival: Option<(ArrivalFacts, Timestamp)>,
    answered_at: Option<Timestamp>,
    reached: Option<Reached>,
    progress: Progress,
    pin_attempts: u32,
    direction: Direction,
}

/// The meeting a PIN led to.
#[derive(Debug, Clone, Copy)]
struct Reached {
    organisation: OrganisationId,
    meeting: MeetingId,
    occurrence: Option<RecurrenceId>,
}

#[derive(Debug, Clone)]
struct ArrivalFacts {
    kind: &'static str,
    caller: CallerNumber,
    number: String,
    trunk: Option<String>,
    verstat: Option<Verstat>,
    sip_call_id: Option<String>,
    asterisk_channel: Option<String>,
}

impl RecordDraft {
    /// Of a call that has not arrived yet.
    pub(super) const fn new(id: CallId) -> Self {
        Self {
            id,
            arrival: None,
            answered_at: None,
            reached: None,
            progress: Progress::Silent,
            pin_attempts: 0,
            direction: Direction::In,
        }
    }

    /// It arrived.
    pub(super) fn arrived(&mut self, wall: Timestamp, arrival: Arrival) {
        let Arrival {
            kind,
            caller,
            number,
            trunk,
            verstat,
            sip_call_id,
            asterisk_channel,
            ..
        } = arrival;
        self.arrival = Some((
            ArrivalFacts {
                kind,
                caller,
                number,
                trunk,
                verstat,
                sip_call_id,
                asterisk_channel,
            },
            wall,
        ));
    }

    /// We call him, into this meeting.
    pub(super) fn called_out(&mut self, admission: &Admission) {
        self.direction = Direction::Out;
        self.admitted(admission);
    }

    /// It goes out this way.
    pub(super) fn goes_by(&mut self, route: Route) {
        let Some((facts, _)) = &mut self.arrival else {
            return;
        };
        facts.kind = route.kind;
        facts.trunk = route.trunk;
        facts.sip_call_id = route.sip_call_id;
        facts.asterisk_channel = route.asterisk_channel;
    }

    /// Whom we called, where we did.
    pub(super) fn called(&self) -> Option<Called> {
        let (facts, _) = self.arrival.as_ref()?;
        (self.direction == Direction::Out).then(|| Called {
            number: facts.caller.clone(),
            shown: facts.number.clone(),
        })
    }

    /// It is a call that another process has lost.
    pub(super) fn resumed(&mut self, past: &Past) {
        if let Some((facts, started_at)) = &mut self.arrival {
            *started_at = past.started_at;
            if let Some(called) = &past.called {
                self.direction = Direction::Out;
                facts.caller = called.number.clone();
                facts.number.clone_from(&called.shown);
            }
        }
        self.answered_at = Some(past.answered_at);
        self.pin_attempts = past.pin_attempts;
        self.not_silent();
    }

    /// It was answered, now or by the process that lost it; when that was.
    pub(super) fn answered(&mut self, wall: Timestamp) -> Timestamp {
        *self.answered_at.get_or_insert(wall)
    }

    /// A key was pressed, or the call was cut short: no longer a caller who did nothing.
    pub(super) fn not_silent(&mut self) {
        if self.progress == Progress::Silent {
            self.progress = Progress::Undecided;
        }
    }

    /// A PIN was tried.
    pub(super) fn pin_tried(&mut self) {
        self.pin_attempts += 1;
        self.not_silent();
    }

    /// A PIN was accepted.
    pub(super) const fn admitted(&mut self, admission: &Admission) {
        self.reached = Some(Reached {
            organisation: admission.organisation,
            meeting: admission.meeting,
            occurrence: admission.occurrence,
        });
        self.progress = Progress::Undecided;
    }

    /// A PIN was right, but there is no line for him.
    pub(super) const fn found(&mut self, no_line: &NoLine) {
        self.reached = Some(Reached {
            organisation: no_line.organisation,
            meeting: no_line.meeting,
            occurrence: no_line.occurrence,
        });
    }

    /// He is not let in, for now at least; what comes later replaces it.
    pub(super) const fn refused(&mut self, outcome: Outcome) {
        self.progress = Progress::Refused(outcome);
    }

    /// What he was refused for is settled.
    pub(super) const fn undecided(&mut self) {
        self.progress = Progress::Undecided;
    }

    /// His time for a PIN is up. Wrong PINs outweigh it.
    pub(super) fn gave_no_pin(&mut self) {
        self.not_silent();
        if self.progress == Progress::Undecided {
            self.progress = Progress::Refused(Outcome::NoInput);
        }
    }

    /// He is in.
    pub(super) const fn joined(&mut self, participant: ParticipantId) {
        self.progress = Progress::Joined(participant);
    }

    /// The participant he became.
    pub(super) const fn participant(&self) -> Option<ParticipantId> {
        match self.progress {
            Progress::Joined(participant) => Some(participant),
            Progress::Silent | Progress::Undecided | Progress::Refused(_) => None,
        }
    }

    /// The outcome if it ended now.
    const fn outcome(&self) -> Outcome {
        match self.progress {
            Progress::Silent => Outcome::NoInput,
            Progress::Undecided => Outcome::Error,
            Progress::Refused(outcome) => outcome,
            Progress::Joined(_) => Outcome::Joined,
        }
    }

    pub(super) const fn answered_at(&self) -> Option<Timestamp> {
        self.answered_at
    }

    pub(super) fn started_at(&self) -> Option<Timestamp> {
        self.arrival.as_ref().map(|(_, started_at)| *started_at)
    }

    pub(super) fn kind(&self) -> &'static str {
        self.arrival.as_ref().map_or("", |(facts, _)| facts.kind)
    }

    pub(super) fn number(&self) -> &str {
        self.arrival.as_ref().map_or("", |(facts, _)| &facts.number)
    }

    pub(super) fn caller(&self) -> CallerNumber {
        let known = self.arrival.as_ref().map(|(facts, _)| facts.caller.clone());
        known.unwrap_or_else(|| CallerNumber::new(""))
    }

    pub(super) fn meeting(&self) -> Option<MeetingId> {
        self.reached.map(|reached| reached.meeting)
    }

    pub(super) fn organisation(&self) -> Option<OrganisationId> {
        self.reached.map(|reached| reached.organisation)
    }

    pub(super) const fn pin_attempts(&self) -> u32 {
        self.pin_attempts
    }

    /// The finished record.
    pub(super) fn finish(&self, wall: Timestamp, ending: Ending) -> CallRecord {
        let facts = self.arrival.as_ref().map(|(facts, _)| facts);
        CallRecord {
            id: self.id,
            kind: self.kind(),
            direction: self.direction,
            organisation: self.organisation(),
            number: self.number().to_owned(),
            caller: self.caller(),
            started_at: self.started_at().unwrap_or(wall),
            answered_at: self.answered_at,
            ended_at: wall,
            meeting: self.meeting(),
            occurrence: self.reached.and_then(|reached| reached.occurrence),
            participant: self.participant(),
            outcome: self.outcome(),
            pin_attempts: self.pin_attempts,
            hangup_by: ending.by,
            q850: ending.q850,
            trunk: facts.and_then(|facts| facts.trunk.clone()),
            verstat: facts.and_then(|facts| facts.verstat),
            sip_call_id: facts.and_then(|facts| facts.sip_call_id.clone()),
            asterisk_channel: facts.and_then(|facts| facts.asterisk_channel.clone()),
            quality: None,
        }
    }
}

// ITU-T Q.850 section 2.2.
const UNALLOCATED_NUMBER: u8 = 1;
const NORMAL_CLEARING: u8 = 16;
const NO_ANSWER: u8 = 19;
const NORMAL_UNSPECIFIED: u8 = 31;
const TEMPORARY_FAILURE: u8 = 41;
const SWITCHING_CONGESTION: u8 = 42;
const INCOMPATIBLE_DESTINATION: u8 = 88;
const RECOVERY_ON_TIMER_EXPIRY: u8 = 102;
