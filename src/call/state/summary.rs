//! A call at a glance, for rosters and operators.

use jiff::Timestamp;

use crate::booking::admission::{CallId, OrganisationId};
use crate::booking::{CallerNumber, MeetingId, ParticipantId, Role};
use crate::call::state::{Call, CallState};
use crate::call::{MutedBy, WaitFor};
use crate::units::Language;

/// Where a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallPhase {
    /// Rings, or is not acknowledged yet.
    Ringing,
    /// Keys in a PIN, or has it looked up; who was called by us: is asked whether he wants to join.
    Pin,
    /// Waits for the start or the host.
    Waiting(WaitFor),
    /// In the meeting.
    Joined,
    /// Hears goodbye.
    Leaving,
    /// Over.
    Ended,
}

/// A call at a glance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallSummary {
    /// The call.
    pub id: CallId,
    /// Where it is.
    pub phase: CallPhase,
    /// How it came, or went: `sip`, ...; empty before it arrived.
    pub kind: &'static str,
    /// Who calls, or is called.
    pub caller: CallerNumber,
    /// The dialled number.
    pub number: String,
    /// The language he is spoken to in.
    pub language: Language,
    /// When it arrived.
    pub started_at: Option<Timestamp>,
    /// When it was answered.
    pub answered_at: Option<Timestamp>,
    /// The owner of the meeting it reached.
    pub organisation: Option<OrganisationId>,
    /// The meeting it reached.
    pub meeting: Option<MeetingId>,
    /// The participant it became.
    pub participant: Option<ParticipantId>,
    /// What the PIN made of him, once accepted.
    pub role: Option<Role>,
    /// Who muted him; `None`: nobody.
    pub muted_by: Option<MutedBy>,
    /// How many PINs were tried.
    pub pin_attempts: u32,
}

impl Call {
    /// The call at a glance.
    #[must_use]
    pub fn summary(&self) -> CallSummary {
        CallSummary {
            id: self.id,
            phase: self.state.phase(),
            kind: self.record.kind(),
            caller: self.record.caller(),
            number: self.record.number().to_owned(),
            language: self.voice.language,
            started_at: self.record.started_at(),
            answered_at: self.record.answered_at(),
            organisation: self.record.organisation(),
            meeting: self.record.meeting(),
            participant: self.record.participant(),
            role: self.state.admission().map(|admission| admission.role),
            muted_by: self.muted_by(),
            pin_attempts: self.record.pin_attempts(),
        }
    }

    /// Who muted him; `None`: nobody, or he is not in.
    #[must_use]
    pub const fn muted_by(&self) -> Option<MutedBy> {
        match &self.state {
            CallState::Joined(joined) => joined.muted_by(),
            CallState::New
            | CallState::Ringing { .. }
            | CallState::Dialling { .. }
            | CallState::Inviting(_)
            | CallState::Answering { .. }
            | CallState::CollectingPin(_)
            | CallState::Challenged(_)
            | CallState::Slowed { .. }
            | CallState::LookingUp { .. }
            | CallState::Returning { .. }
            | CallState::Entering { .. }
            | CallState::Waiting { .. }
            | CallState::SayingGoodbye { .. }
            | CallState::Ended => None,
        }
    }
}

impl CallState {
    const fn phase(&self) -> CallPhase {
        match self {
            Self::New | Self::Ringing { .. } | Self::Dialling { .. } | Self::Answering { .. } => {
                CallPhase::Ringing
            }
            Self::Inviting(_)
            | Self::CollectingPin(_)
            | Self::Challenged(_)
            | Self::Slowed { .. }
            | Self::LookingUp { .. }
            | Self::Returning { .. }
            | Self::Entering { .. } => CallPhase::Pin,
            Self::Waiting { wait_for, .. } => CallPhase::Waiting(*wait_for),
            Self::Joined(_) => CallPhase::Joined,
            Self::SayingGoodbye { .. } => CallPhase::Leaving,
            Self::Ended => CallPhase::Ended,
        }
    }
}
