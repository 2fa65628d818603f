//! What happens in calls and meetings, as booking systems are told of it.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::booking::admission::{MeetingId, OrganisationId};

/// What happened.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, serde::Deserialize, utoipa::ToSchema,
)]
pub enum EventKind {
    /// The first participant is in.
    #[serde(rename = "meeting.started")]
    MeetingStarted,
    /// The last one left, or it was ended.
    #[serde(rename = "meeting.ended")]
    MeetingEnded,
    /// A call ended that never got in.
    #[serde(rename = "call.refused")]
    CallRefused,
    /// Somebody waits, for the start or the host.
    #[serde(rename = "participant.waiting")]
    ParticipantWaiting,
    /// Somebody is in.
    #[serde(rename = "participant.joined")]
    ParticipantJoined,
    /// Somebody is gone who was in or waited.
    #[serde(rename = "participant.left")]
    ParticipantLeft,
    /// Somebody was renamed or muted, raised his hand, or no audio comes from him (`quality.one_way`).
    #[serde(rename = "participant.updated")]
    ParticipantUpdated,
    /// More than half of an hour's wrong PINs are used up: somebody is guessing. Told to platforms.
    #[serde(rename = "failure_budget.low")]
    FailureBudgetLow,
    /// Somebody wants to see whether his webhook works; told to that one alone.
    #[serde(rename = "webhook.test")]
    WebhookTest,
}

impl EventKind {
    /// All that a webhook may be told of: what is an organisation's business.
    pub const ALL: [Self; 7] = [
        Self::MeetingStarted,
        Self::MeetingEnded,
        Self::CallRefused,
        Self::ParticipantWaiting,
        Self::ParticipantJoined,
        Self::ParticipantLeft,
        Self::ParticipantUpdated,
    ];

    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::MeetingStarted => "meeting.started",
            Self::MeetingEnded => "meeting.ended",
            Self::CallRefused => "call.refused",
            Self::ParticipantWaiting => "participant.waiting",
            Self::ParticipantJoined => "participant.joined",
            Self::ParticipantLeft => "participant.left",
            Self::ParticipantUpdated => "participant.updated",
            Self::FailureBudgetLow => "failure_budget.low",
            Self::WebhookTest => "webhook.test",
        }
    }
}

/// Where an event stands among all: later ones stand higher, on whichever node they happened. Not shown to
/// anybody, as it would tell how much happens elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct EventPosition(pub i64);

/// Something that happened. Holds of a caller's number as much as may be shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Names it.
    pub id: Uuid,
    /// What.
    pub kind: EventKind,
    /// When.
    pub at: Timestamp,
    /// Whose business it is; `None`: a call's that reached nobody.
    pub organisation: Option<OrganisationId>,
    /// In which meeting.
    pub meeting: Option<MeetingId>,
    /// What else is to be said of it.
    pub data: Value,
}

impl Event {
    /// Of whom it tells, where it tells of one participant.
    #[must_use]
    pub fn participant(&self) -> Option<String> {
        match self.kind {
            EventKind::ParticipantWaiting
            | EventKind::ParticipantJoined
            | EventKind::ParticipantLeft
            | EventKind::ParticipantUpdated => Some(self.data["id"].as_str()?.to_owned()),
            EventKind::MeetingStarted
            | EventKind::MeetingEnded
            | EventKind::CallRefused
            | EventKind::FailureBudgetLow
            | EventKind::WebhookTest => None,
        }
    }
}

/// An event as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptEvent {
    /// Where it stands.
    pub position: EventPosition,
    /// The name of its organisation.
    pub organisation_name: Option<String>,
    /// What happened.
    pub event: Event,
}

/// An event as others read it.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[schema(as = Event)]
pub struct EventDocument {
    /// Names it: whoever is told twice knows it by this.
    #[schema(format = "uuid")]
    id: String,
    /// What happened.
    r#type: EventKind,
    /// When.
    #[schema(format = "date-time")]
    time: String,
    /// Whose business it is; null: a call's that reached nobody.
    organisation: Option<String>,
    /// In which meeting; null: a call's that reached none.
    #[schema(format = "uuid")]
    meeting_id: Option<String>,
    /// Of `participant.*` the participant as the list of participants shows him, of `meeting.*` its `title` and
    /// `external_id`, of `call.refused` what the call's record says, of
    /// `failure_budget.low` whose PINs they are (`callers` or `jitsi`), how many are left and how many there are in an hour, of `webhook.test` the webhook's id.
    data: Value,
}

impl From<KeptEvent> for EventDocument {
    fn from(kept: KeptEvent) -> Self {
        let event = kept.event;
        Self {
            id: event.id.to_string(),
            r#type: event.kind,
            time: event.at.to_string(),
            organisation: kept.organisation_name,
            meeting_id: event.meeting.map(|id| id.to_string()),
            data: event.data,
        }
    }
}

/// Which events, from where on, how many; oldest first.
#[derive(Debug, Clone, Copy)]
pub struct EventFilter {
    /// Of whom; `None`: of all.
    pub organisation: Option<OrganisationId>,
    /// After this one.
    pub after: EventPosition,
    /// At most so many.
    pub limit: u32,
}

/// How long who was away can go on where he was.
pub const RESUMABLE_FOR: SignedDuration = SignedDuration::from_hours(24);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_written_as_its_word() {
        for kind in EventKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.word());
        }
    }
}
