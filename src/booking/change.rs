//! What somebody asks to book or change, and the rules it is checked by. Every rule that is broken is
//! told at once, each with the field it concerns.

mod recurrence;
mod room;

use jiff::Timestamp;

use crate::booking::meeting::{
    CAPACITY_MAX, EARLY_JOIN_MINUTES_DEFAULT, EARLY_JOIN_MINUTES_MAX, EXTERNAL_ID_BYTES_MAX,
    METADATA_BYTES_MAX, MeetingOptions, OVERRUN_MINUTES_DEFAULT, OVERRUN_MINUTES_MAX, Schedule,
    TITLE_CHARS_MAX, Zone,
};
use crate::booking::room::RoomRequest;
use crate::media::treatment::SoundOptions;
use crate::units::Language;

pub use recurrence::{PINS_STAY, RecurrenceRequest, refusal};

/// What is asked of one option.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Change<T> {
    /// Nothing: keep what is there, or take the default.
    #[default]
    Keep,
    /// Explicitly nothing (`null`): the default.
    Clear,
    /// This.
    Set(T),
}

/// One thing that is wrong with what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// The field's name.
    pub field: String,
    /// A word for programs: `required`, `invalid`, `too_long`, `out_of_range`, `unknown_field`, `not_supported`.
    pub code: &'static str,
    /// A sentence for people, with what is allowed.
    pub message: String,
}

impl FieldError {
    /// With all three.
    #[must_use]
    pub fn new(field: &str, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            field: field.to_owned(),
            code,
            message: message.into(),
        }
    }
}

impl std::fmt::Display for FieldError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// A meeting as it is asked for: to book, to replace, or to change.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MeetingChange {
    /// For people.
    pub title: Change<String>,
    /// RFC 3339 with offset.
    pub starts_at: Change<String>,
    /// RFC 3339 with offset; cleared: permanent.
    pub ends_at: Change<String>,
    /// IANA name.
    pub timezone: Change<String>,
    /// What repeats it; cleared: it takes place once.
    pub recurrence: Change<RecurrenceRequest>,
    /// The room it takes place in; cleared: in none.
    pub room: Change<RoomRequest>,
    /// Most participants at once.
    pub capacity: Change<i64>,
    /// `it` or `en`.
    pub language: Change<String>,
    /// The booking system's own name for it.
    pub external_id: Change<String>,
    /// A JSON object.
    pub metadata: Change<serde_json::Value>,
    /// Guests wait for a host.
    pub wait_for_host: Change<bool>,
    /// Guests join muted.
    pub mute_on_join: Change<bool>,
    /// May guests unmute themselves?
    pub guests_may_unmute: Change<bool>,
    /// How long before its start callers may come.
    pub early_join_minutes: Change<i64>,
    /// How long it may run over its end.
    pub overrun_minutes: Change<i64>,
    /// Quiet and loud talkers are brought to about the same loudness.
    pub automatic_gain: Change<bool>,
    /// Noise around the talkers is suppressed.
    pub noise_suppression: Change<bool>,
    /// `series` or `occurrence`.
    pub pins_per: Change<String>,
}

impl MeetingChange {
    /// Applied to `base`, or to the defaults where there is none.
    ///
    /// # Errors
    /// Everything that is wrong, in the order of the fields.
    pub fn apply(self, base: Option<&MeetingOptions>) -> Result<MeetingOptions, Vec<FieldError>> {
        let mut wrong = Wrong(Vec::new());
        let title = wrong.title(self.title, base);
        let schedule = wrong.schedule(&self.starts_at, &self.ends_at, &self.timezone, base);
        let recurrence = match &schedule {
            Some(schedule) if wrong.0.is_empty() => {
                wrong.recurrence(self.recurrence, schedule, base)
            }
            Some(_) | None => None,
        };
        let pins_per = wrong.pins_per(self.pins_per, recurrence.is_some(), base);
        let room = wrong.room(self.room, base);
        let capacity = wrong.number(
            "capacity",
            self.capacity,
            base.map(|b| b.capacity.map(i64::from)),
            None,
            1,
            CAPACITY_MAX,
        );
        let language = wrong.language(self.language, base);
        let external_id = wrong.external_id(self.external_id, base);
        let metadata = wrong.metadata(self.metadata, base);
        let early = base.map(|b| Some(i64::from(b.early_join_minutes)));
        let early = wrong.number(
            "early_join_minutes",
            self.early_join_minutes,
            early,
            Some(EARLY_JOIN_MINUTES_DEFAULT),
            0,
            EARLY_JOIN_MINUTES_MAX,
        );
        let overrun = base.map(|b| Some(i64::from(b.overrun_minutes)));
        let overrun = wrong.number(
            "overrun_minutes",
            self.overrun_minutes,
            overrun,
            Some(OVERRUN_MINUTES_DEFAULT),
            0,
            OVERRUN_MINUTES_MAX,
        );
        match (title, schedule) {
            (Some(title), Some(schedule)) if wrong.0.is_empty() => Ok(MeetingOptions {
                title,
                schedule,
                recurrence,
                room,
                capacity,
                language,
                external_id,
                metadata,
                wait_for_host: self.wait_for_host.or(base.map(|b| b.wait_for_host), false),
                mute_on_join: self.mute_on_join.or(base.map(|b| b.mute_on_join), false),
                guests_may_unmute: self
                    .guests_may_unmute
                    .or(base.map(|b| b.guests_may_unmute), true),
                early_join_minutes: early.unwrap_or(EARLY_JOIN_MINUTES_DEFAULT),
                overrun_minutes: overrun.unwrap_or(OVERRUN_MINUTES_DEFAULT),
                sound: SoundOptions {
                    automatic_gain: self
                        .automatic_gain
                        .or(base.map(|b| b.sound.automatic_gain), true),
                    noise_suppression: self
                        .noise_suppression
                        .or(base.map(|b| b.sound.noise_suppression), false),
                },
                pins_per,
            }),
            (Some(_) | None, Some(_) | None) => Err(wrong.0),
        }
    }

    /// Does it touch the time of the meeting?
    #[must_use]
    pub fn touches_schedule(&self) -> bool {
        self.starts_at != Change::Keep || self.ends_at != Change::Keep
    }
}

impl<T> Change<T> {
    /// What results, with what was there before and the default.
    fn or(self, before: Option<T>, default: T) -> T {
        match self {
            Self::Keep => before.unwrap_or(default),
            Self::Clear => default,
            Self::Set(value) => value,
        }
    }
}

/// Checks an external id that is not part of a body.
///
/// # Errors
/// What is wrong with it.
pub fn check_external_id(id: &str) -> Result<(), FieldError> {
    if id.is_empty() {
        Err(FieldError::new(
            "external_id",
            "invalid",
            "must not be empty",
        ))
    } else if id.len() > EXTERNAL_ID_BYTES_MAX {
        Err(FieldError::new(
            "external_id",
            "too_long",
            format!("at most {EXTERNAL_ID_BYTES_MAX} bytes"),
        ))
    } else if id.chars().any(char::is_control) {
        Err(FieldError::new(
            "external_id",
            "invalid",
            "must not hold control characters",
        ))
    } else {
        Ok(())
    }
}

/// Reads a time as the API takes it.
///
/// # Errors
/// A sentence with what is allowed.
pub fn parse_time(field: &str, text: &str) -> Result<Timestamp, FieldError> {
    let at = rfc3339(text).filter(|at| (YEAR_2000..YEAR_2200).contains(&at.as_second()));
    at.ok_or_else(|| {
        let allowed = "must be a time as of RFC 3339 with an offset, between the years 2000 and 2200, such as 2026-11-23T10:00:00+01:00";
        FieldError::new(field, "invalid", allowed)
    })
}

/// Reads an end of a period that is asked for. Nothing lies before 2000 or after 2200, but a period may.
///
/// # Errors
/// A sentence with what is allowed.
pub fn parse_bound(field: &str, text: &str) -> Result<Timestamp, FieldError> {
    let at = rfc3339(text).ok_or_else(|| {
        let allowed =
            "must be a time as of RFC 3339 with an offset, such as 2026-11-23T10:00:00+01:00";
        FieldError::new(field, "invalid", allowed)
    })?;
    let year = |second| Timestamp::from_second(second).unwrap_or(at);
    Ok(at.clamp(year(YEAR_2000), year(YEAR_2200)))
}

fn rfc3339(text: &str) -> Option<Timestamp> {
    let separator = text.as_bytes().get(10)?;
    let at = text.parse().ok()?;
    separator.eq_ignore_ascii_case(&b't').then_some(at)
}

/// Collects what is wrong.
struct Wrong(Vec<FieldError>);

impl Wrong {
    fn add(&mut self, field: &str, code: &'static str, message: impl Into<String>) {
        self.0.push(FieldError::new(field, code, message));
    }

    fn title(&mut self, change: Change<String>, base: Option<&MeetingOptions>) -> Option<String> {
        let Change::Set(title) = change else {
            let kept = base
                .filter(|_| change == Change::Keep)
                .map(|b| b.title.clone());
            if kept.is_none() {
                self.add("title", "required", "is required");
            }
            return kept;
        };
        if title.trim().is_empty() {
            self.add("title", "invalid", "must not be empty");
        } else if title.chars().count() > TITLE_CHARS_MAX {
            self.add(
                "title",
                "too_long",
                format!("at most {TITLE_CHARS_MAX} characters"),
            );
        } else if title.chars().any(char::is_control) {
            self.add("title", "invalid", "must not hold control characters");
        }
        Some(title)
    }

    fn schedule(
        &mut self,
        starts: &Change<String>,
        ends: &Change<String>,
        zone: &Change<String>,
        base: Option<&MeetingOptions>,
    ) -> Option<Schedule> {
        let zone = self.zone(zone, base);
        let base = base.map(|b| &b.schedule);
        let moved = match (&zone, base) {
            (Some(zone), Some(base)) => base.in_zone(zone.clone()),
            (Some(_) | None, Some(_) | None) => None,
        };
        let starts_at = match starts {
            Change::Keep => moved
                .as_ref()
                .map(Schedule::starts_at)
                .or_else(|| self.missing("starts_at", base)),
            Change::Clear => self.missing("starts_at", None),
            Change::Set(text) => self.time("starts_at", text),
        };
        let ends_at = match ends {
            Change::Keep if base.is_none() => {
                self.add(
                    "ends_at",
                    "required",
                    "is required; null for a permanent meeting",
                );
                None
            }
            Change::Keep => moved.as_ref().and_then(Schedule::ends_at),
            Change::Clear => None,
            Change::Set(text) => self.time("ends_at", text),
        };
        let (zone, starts_at) = (zone?, starts_at?);
        if ends_at.is_some_and(|ends_at| ends_at <= starts_at) {
            self.add("ends_at", "out_of_range", "must be after starts_at");
        }
        let untouched = *starts == Change::Keep && *ends == Change::Keep;
        Some(match moved {
            Some(moved) if untouched => moved,
            Some(_) | None => Schedule::new(starts_at, ends_at, zone),
        })
    }

    fn zone(&mut self, change: &Change<String>, base: Option<&MeetingOptions>) -> Option<Zone> {
        match (change, base) {
            (Change::Keep, Some(base)) => Some(base.schedule.zone()),
            (Change::Keep, None) | (Change::Clear, _) => {
                self.add(
                    "timezone",
                    "required",
                    "is required: an IANA name such as Europe/Rome",
                );
                None
            }
            (Change::Set(name), _) => {
                let zone = Zone::named(name);
                if zone.is_none() {
                    self.add(
                        "timezone",
                        "invalid",
                        "must be an IANA name such as Europe/Rome",
                    );
                }
                zone
            }
        }
    }

    fn missing(&mut self, field: &str, base: Option<&Schedule>) -> Option<Timestamp> {
        if base.is_none() {
            self.add(field, "required", "is required");
        }
        None
    }

    fn time(&mut self, field: &str, text: &str) -> Option<Timestamp> {
        parse_time(field, text)
            .map_err(|error| self.0.push(error))
            .ok()
    }

    fn number(
        &mut self,
        field: &str,
        change: Change<i64>,
        base: Option<Option<i64>>,
        default: Option<u32>,
        min: i64,
        max: u32,
    ) -> Option<u32> {
        let value = match change {
            Change::Keep => base.unwrap_or(default.map(i64::from)),
            Change::Clear => default.map(i64::from),
            Change::Set(value) => Some(value),
        }?;
        let fits = u32::try_from(value)
            .ok()
            .filter(|&v| value >= min && v <= max);
        if fits.is_none() {
            self.add(
                field,
                "out_of_range",
                format!("must be a whole number from {min} to {max}"),
            );
        }
        fits
    }

    fn language(
        &mut self,
        change: Change<String>,
        base: Option<&MeetingOptions>,
    ) -> Option<Language> {
        match change {
            Change::Keep => base.and_then(|b| b.language),
            Change::Clear => None,
            Change::Set(code) => {
                let language = code.parse::<Language>();
                if let Err(unknown) = &language {
                    self.add("language", "invalid", unknown.to_string());
                }
                language.ok()
            }
        }
    }

    fn external_id(
        &mut self,
        change: Change<String>,
        base: Option<&MeetingOptions>,
    ) -> Option<String> {
        match change {
            Change::Keep => base.and_then(|b| b.external_id.clone()),
            Change::Clear => None,
            Change::Set(id) => {
                if let Err(error) = check_external_id(&id) {
                    self.0.push(error);
                }
                Some(id)
            }
        }
    }

    fn metadata(
        &mut self,
        change: Change<serde_json::Value>,
        base: Option<&MeetingOptions>,
    ) -> Option<serde_json::Value> {
        match change {
            Change::Keep => base.and_then(|b| b.metadata.clone()),
            Change::Clear => None,
            Change::Set(value) => {
                if !value.is_object() {
                    self.add("metadata", "invalid", "must be a JSON object");
                } else if value.to_string().len() > METADATA_BYTES_MAX {
                    self.add(
                        "metadata",
                        "too_long",
                        format!("at most {METADATA_BYTES_MAX} bytes of JSON"),
                    );
                }
                Some(value)
            }
        }
    }
}

const YEAR_2000: i64 = 946_684_800;
const YEAR_2200: i64 = 7_258_118_400;

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> MeetingChange {
        MeetingChange {
            title: Change::Set("Jour fixe".to_owned()),
            starts_at: Change::Set("2026-11-23T10:00:00+01:00".to_owned()),
            ends_at: Change::Set("2026-11-23T11:00:00+01:00".to_owned()),
            timezone: Change::Set("Europe/Rome".to_owned()),
            ..MeetingChange::default()
        }
    }

    fn fields(change: MeetingChange, base: Option<&MeetingOptions>) -> Vec<(String, &'static str)> {
        change
            .apply(base)
            .unwrap_err()
            .into_iter()
            .map(|e| (e.field, e.code))
            .collect()
    }

    #[test]
    fn a_period_may_reach_beyond_what_can_be_booked() {
        let read = |text| parse_bound("from", text).map(|at| at.to_string());
        let exact = "2026-11-23T09:00:00.25Z";
        assert_eq!(read(exact), Ok(exact.to_owned()));
        assert_eq!(
            read("1970-01-01T00:00:00Z"),
            Ok("2000-01-01T00:00:00Z".to_owned())
        );
        assert_eq!(
            read("9999-01-01T00:00:00Z"),
            Ok("2200-01-01T00:00:00Z".to_owned())
        );
        assert!(parse_time("from", "1970-01-01T00:00:00Z").is_err());
        assert!(read("2026-11-23 09:00:00Z").is_err());
        assert!(read("").is_err());
    }

    #[test]
    fn what_is_not_asked_for_takes_the_defaults() {
        let options = asked().apply(None).unwrap();
        assert_eq!(
            options,
            MeetingOptions::new("Jour fixe", options.schedule.clone())
        );
        assert_eq!(
            options.schedule.starts_local().to_string(),
            "2026-11-23T10:00:00"
        );
    }

    #[test]
    fn everything_wrong_is_told_at_once() {
        let change = MeetingChange {
            title: Change::Set("x".repeat(201)),
            starts_at: Change::Set("2026-11-23 10:00".to_owned()),
            ends_at: Change::Set("soon".to_owned()),
            timezone: Change::Set("Rome".to_owned()),
            capacity: Change::Set(2_001),
            language: Change::Set("xx".to_owned()),
            external_id: Change::Set("é".repeat(128)),
            metadata: Change::Set(serde_json::json!({ "a": "x".repeat(4_096) })),
            early_join_minutes: Change::Set(-1),
            overrun_minutes: Change::Set(i64::MAX),
            ..MeetingChange::default()
        };
        let wrong = fields(change, None);
        let named: Vec<&str> = wrong.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(
            named,
            [
                "title",
                "timezone",
                "starts_at",
                "ends_at",
                "capacity",
                "language",
                "external_id",
                "metadata",
                "early_join_minutes",
                "overrun_minutes"
            ]
        );
    }

    #[test]
    fn what_is_missing_is_named_and_an_end_must_follow_its_start() {
        let none = fields(MeetingChange::default(), None);
        let required = |f: &str| (f.to_owned(), "required");
        assert_eq!(
            none,
            [
                required("title"),
                required("timezone"),
                required("starts_at"),
                required("ends_at")
            ]
        );
        let backwards = MeetingChange {
            ends_at: Change::Set("2026-11-23T10:00:00+01:00".to_owned()),
            ..asked()
        };
        assert_eq!(
            fields(backwards, None),
            [("ends_at".to_owned(), "out_of_range")]
        );
    }

    #[test]
    fn a_change_keeps_the_rest_and_null_brings_the_default_back() {
        let base = MeetingChange {
            capacity: Change::Set(5),
            overrun_minutes: Change::Set(0),
            ..asked()
        }
        .apply(None)
        .unwrap();
        let change = MeetingChange {
            capacity: Change::Clear,
            ends_at: Change::Clear,
            ..MeetingChange::default()
        };
        let after = change.apply(Some(&base)).unwrap();
        assert_eq!((after.capacity, after.overrun_minutes), (None, 0));
        assert_eq!(
            (after.schedule.ends_at(), after.schedule.starts_at()),
            (None, base.schedule.starts_at())
        );
        let cleared = MeetingChange {
            title: Change::Clear,
            ..MeetingChange::default()
        };
        assert_eq!(
            fields(cleared, Some(&base)),
            [("title".to_owned(), "required")]
        );
    }

    #[test]
    fn a_change_of_the_title_moves_nothing_where_the_clocks_show_a_time_twice() {
        let night = MeetingChange {
            starts_at: Change::Set("2026-10-25T02:00:00+02:00".to_owned()),
            ends_at: Change::Set("2026-10-25T02:00:00+01:00".to_owned()),
            ..asked()
        };
        let base = night.apply(None).unwrap();
        let change = MeetingChange {
            title: Change::Set("Other".to_owned()),
            ..MeetingChange::default()
        };
        let after = change.apply(Some(&base)).unwrap();
        assert_eq!(after.schedule, base.schedule);
    }

    #[test]
    fn a_moved_start_must_stay_before_the_kept_end() {
        let base = asked().apply(None).unwrap();
        let change = MeetingChange {
            starts_at: Change::Set("2026-11-23T12:00:00+01:00".to_owned()),
            ..MeetingChange::default()
        };
        assert_eq!(
            fields(change, Some(&base)),
            [("ends_at".to_owned(), "out_of_range")]
        );
    }
}
