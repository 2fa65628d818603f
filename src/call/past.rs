//! What is known of a caller who was in a meeting before this process was: written down beside him (for an
//! Asterisk's caller in a variable of his channel) whenever it changes, read by whoever finds him next.
//!
//! It names the meeting but grants nothing by itself: the bookings say whether the meeting still is, and the
//! shell that reads it must know that nobody else could have written it.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::booking::admission::CallId;
use crate::booking::{CallerNumber, MeetingId, ParticipantId, Role};
use crate::call::{MutedBy, SeatState};

/// Where a caller was, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// His call, which goes on: one record in the end.
    pub call: CallId,
    /// The meeting he was in or waited for.
    pub meeting: MeetingId,
    /// Who he was there.
    pub participant: ParticipantId,
    /// What his PIN made of him.
    pub role: Role,
    /// His name, of his PIN or given by the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Was he in, or did he wait?
    pub state: SeatState,
    /// When he came in, or began to wait.
    pub since: Timestamp,
    /// Who muted him.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub muted_by: Option<MutedBy>,
    /// `*6` may undo that.
    pub may_unmute: bool,
    /// Had his hand up.
    pub hand: bool,
    /// When he called.
    pub started_at: Timestamp,
    /// When he was answered.
    pub answered_at: Timestamp,
    /// How many PINs he tried.
    pub pin_attempts: u32,
    /// Set for one whom we called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub called: Option<Called>,
}

/// Somebody whom we called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Called {
    /// His number. His channel names him anyway.
    #[serde(
        serialize_with = "number_to_text",
        deserialize_with = "number_from_text"
    )]
    pub number: CallerNumber,
    /// The number that he was shown.
    pub shown: String,
}

impl Past {
    /// As it is written down.
    #[must_use]
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("names of fields and plain values only")
    }

    /// Reads what was written down; `None`: by another version, or it is none.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

fn number_to_text<S: Serializer>(number: &CallerNumber, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(number.expose())
}

fn number_from_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<CallerNumber, D::Error> {
    String::deserialize(deserializer).map(|text| CallerNumber::new(&text))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn it_is_read_as_it_was_written_and_nothing_else_is_read() {
        let at: Timestamp = "2026-03-02T09:00:00Z".parse().unwrap();
        let past = Past {
            call: CallId(Uuid::from_u128(1)),
            meeting: MeetingId(Uuid::from_u128(2)),
            participant: ParticipantId(Uuid::from_u128(3)),
            role: Role::Guest,
            name: Some("Zoë, \"the\" chair".to_owned()),
            state: SeatState::Joined,
            since: at,
            muted_by: Some(MutedBy::Host),
            may_unmute: false,
            hand: true,
            started_at: at,
            answered_at: at,
            pin_attempts: 2,
            called: Some(Called {
                number: CallerNumber::new("+390612345678"),
                shown: "+390600".to_owned(),
            }),
        };
        assert_eq!(Past::from_text(&past.to_text()), Some(past));
        for text in ["", "{}", "[]", "null", "{\"call\":1}"] {
            assert_eq!(Past::from_text(text), None, "{text}");
        }
    }
}
