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
        let room = self.0.rsplit_once('@').map_or("", |(room, _)| room);
        let room = percent_decode_str(room).decode_utf8_lossy();
        let title: String = room.chars().take(TITLE_CHARS_MAX).collect();
        let options = MeetingOptions {
            external_id: Some(self.external_id()),
            ..MeetingOptions::new(&title, Schedule::new(now, None, Zone::utc()))
        };
        kept_on(options, now)
    }
}

/// What asking about a conference does to the meeting of its name.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing {
    /// It goes on as it is.
    Stays,
    /// Somebody cancelled or ended it, and asking doesn't undo that.
    Closed,
    /// It was made for this, and its end moves on.
    Renewed(Box<MeetingOptions>),
    /// Its PINs are lost to it: another one takes the name.
    Retired,
}

impl Standing {
    /// What becomes of this meeting. One that somebody booked, or whose schedule he changed, stays as he wants it.
    #[must_use]
    pub fn of(meeting: &Meeting, now: Timestamp) -> Self {
        if meeting.is_retired(now) {
            return Self::Retired;
        }
        if meeting.cancelled_at.is_some() || meeting.ended_at.is_some() {
            return Self::Closed;
        }
        let half = now.saturating_add(KEPT / 2).unwrap_or(Timestamp::MAX);
        match our_end(&meeting.options) {
            Some(end) if end <= half => {
                Self::Renewed(Box::new(kept_on(meeting.options.clone(), now)))
            }
            Some(_) | None => Self::Stays,
        }
    }
}

/// With an end of ours, and a mark that it is.
fn kept_on(mut options: MeetingOptions, now: Timestamp) -> MeetingOptions {
    let until = now.saturating_add(KEPT).unwrap_or(Timestamp::MAX);
    let schedule = &options.schedule;
    options.schedule = Schedule::new(schedule.starts_at(), Some(until), schedule.zone());
    let mark = options.schedule.ends_at().map(|end| end.to_string());
    let metadata = options.metadata.get_or_insert_with(|| json!({}));
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.insert(MADE_FOR.to_owned(), json!("jitsi"));
        metadata.insert(KEPT_UNTIL.to_owned(), json!(mark));
    }
    options
}

/// When it ends, if nobody but us ever said so.
fn our_end(options: &MeetingOptions) -> Option<Timestamp> {
    let metadata = options.metadata.as_ref()?;
    let made = metadata.get(MADE_FOR).is_some() && options.recurrence.is_none();
    let mark: Timestamp = metadata.get(KEPT_UNTIL)?.as_str()?.parse().ok()?;
    let end = options.schedule.ends_at()?;
    (made && end == mark).then_some(end)
}

/// How long a conference that nobody asks about keeps its PIN, at least half of this.
const KEPT: SignedDuration = SignedDuration::from_hours(48);
/// Leaves room for the mark within an external id.
const NAME_BYTES_MAX: usize = 240;
const TITLE_CHARS_MAX: usize = 200;
/// Begins the external id of a conference's meeting.
pub(crate) const MARK: &str = "jitsi:";
/// In the metadata of meetings that nobody booked.
pub(crate) const MADE_FOR: &str = "made_for";
/// Beside it: the end they were given. Where the schedule says another one, somebody changed it.
const KEPT_UNTIL: &str = "kept_until";
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
