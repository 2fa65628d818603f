//! Conferences of a Jitsi Meet as it names them, and what each becomes here: a meeting under that name.

use jiff::{SignedDuration, Timestamp};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::json;

use crate::booking::meeting::{Meeting, MeetingOptions, Schedule, Zone};

/// A conference's name, `room@domain`: in lower case, percent-encoded but for what always stands plainly.
/// Written differently it is the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConferenceName(String);

impl ConferenceName {
    /// As a Jitsi Meet writes it, encoded or not; `None`: no room, not of these domains, or too long.
    #[must_use]
    pub fn read(text: &str, domains: &[String]) -> Option<Self> {
        let plain = percent_decode_str(text).decode_utf8().ok()?.to_lowercase();
        let (room, domain) = plain.rsplit_once('@')?;
        let served = domains.iter().any(|served| served == domain);
        let name = utf8_percent_encode(&plain, ENCODED).to_string();
        let fits = name.len() <= NAME_BYTES_MAX && !plain.chars().any(char::is_control);
        (served && fits && !room.trim().is_empty()).then_some(Self(name))
    }

    /// Of a meeting that was made, or booked, under a conference's name.
    #[must_use]
    pub fn of(meeting: &Meeting) -> Option<Self> {
        let id = meeting.options.external_id.as_deref()?;
        id.strip_prefix(MARK).map(|name| Self(name.to_owned()))
    }

    /// `room@domain`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What its meeting is called.
    #[must_use]
    pub fn external_id(&self) -> String {
        format!("{MARK}{}", self.0)
    }

    /// The meeting it becomes: open from now on, for a while.
    #[must_use]
    pub fn meeting(&self, now: Timestamp) -> MeetingOptions {
        let until = now.saturating_add(KEPT).unwrap_or(Timestamp::MAX);
        let room = self.0.rsplit_once('@').map_or("", |(room, _)| room);
        let room = percent_decode_str(room).decode_utf8_lossy();
        let title: String = room.chars().take(TITLE_CHARS_MAX).collect();
        MeetingOptions {
            external_id: Some(self.external_id()),
            metadata: Some(json!({MADE_FOR: "jitsi"})),
            ..MeetingOptions::new(&title, Schedule::new(now, Some(until), Zone::utc()))
        }
    }

    /// Does its meeting go on as it is? One that was booked by somebody else does in any case.
    #[must_use]
    pub fn is_still_good(meeting: &Meeting, now: Timestamp) -> bool {
        let mark = meeting.options.metadata.as_ref();
        let is_ours = mark.is_some_and(|metadata| metadata.get(MADE_FOR).is_some());
        if !is_ours {
            return true;
        }
        let half = now.saturating_add(KEPT / 2).unwrap_or(Timestamp::MAX);
        let lasts = meeting
            .options
            .schedule
            .ends_at()
            .is_none_or(|ends| ends > half);
        lasts && meeting.cancelled_at.is_none() && meeting.ended_at.is_none()
    }
}

/// How long a conference that nobody asks about keeps its PIN, at least half of this.
const KEPT: SignedDuration = SignedDuration::from_hours(24 * 180);
/// Leaves room for the mark within an external id.
const NAME_BYTES_MAX: usize = 240;
const TITLE_CHARS_MAX: usize = 200;
const MARK: &str = "jitsi:";
/// In the metadata of meetings that nobody booked.
const MADE_FOR: &str = "made_for";
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'@')
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<String> {
        let domains = ["muc.meet.example.org".to_owned()];
        ConferenceName::read(text, &domains).map(|name| name.0)
    }

    #[test]
    fn a_conference_is_the_same_however_it_is_written() {
        let name = Some("riunione%20citt%C3%A0@muc.meet.example.org".to_owned());
        for text in [
            "riunione città@muc.meet.example.org",
            "Riunione%20Citt%C3%A0@MUC.meet.example.org",
            "riunione%20citt%c3%a0@muc.meet.example.org",
        ] {
            assert_eq!(read(text), name, "{text}");
        }
        let tenant = "team/room-1@muc.meet.example.org";
        assert_eq!(read(tenant).as_deref(), Some(tenant));
    }

    #[test]
    fn what_is_no_conference_of_ours_has_no_name() {
        let long = format!("{}@muc.meet.example.org", "x".repeat(300));
        for text in [
            "",
            "room",
            "@muc.meet.example.org",
            "%20@muc.meet.example.org",
            "room@elsewhere.example.org",
            "a%00b@muc.meet.example.org",
            "%ff@muc.meet.example.org",
            &long,
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
