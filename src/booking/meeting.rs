//! A booked meeting: what was asked for, when it is open, and what a valid PIN grants at a given time.

mod each;

use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};
use serde::{Deserialize, Serialize};

use crate::booking::admission::{Admission, MeetingId, OrganisationId, PinVerdict, Refusal, Role};
use crate::booking::pin::PinRecord;
use crate::booking::privacy::Pin;
use crate::booking::recurrence::{Recurrence, RecurrenceId};
use crate::booking::room::{MeetingRoom, RoomRequest};
use crate::booking::series::{Margins, Occurrence, Series, Sitting};
use crate::media::treatment::SoundOptions;
use crate::units::{Brand, Language};

pub use each::{AHEAD_MAX, PinsPer};

/// A meeting as it is kept.
#[derive(Debug, Clone)]
pub struct Meeting {
    /// Names it in the API.
    pub id: MeetingId,
    /// Its owner.
    pub organisation: OrganisationId,
    /// Its owner's name.
    pub organisation_name: String,
    /// What was booked.
    pub options: MeetingOptions,
    /// The room that it has; without one it gets what it asks for when it is kept.
    pub room: Option<MeetingRoom>,
    /// Its PINs; none once they were released.
    pub pins: Vec<PinRecord>,
    /// The always-open meeting for `probe`.
    pub echo: bool,
    /// When it was cancelled.
    pub cancelled_at: Option<Timestamp>,
    /// When it was ended before its time.
    pub ended_at: Option<Timestamp>,
    /// When it was booked.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Counts the changes; the ETag.
    pub revision: i64,
}

/// What is booked, checked and with defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct MeetingOptions {
    /// For people.
    pub title: String,
    /// From when to when; of a series, its first occurrence.
    pub schedule: Schedule,
    /// What repeats it; `None`: it takes place once.
    pub recurrence: Option<Recurrence>,
    /// The room it asks for.
    pub room: Option<RoomRequest>,
    /// Most participants at once, as asked; `None`: as many as its room holds, or the node takes.
    pub capacity: Option<u32>,
    /// The language callers are spoken to in; `None`: that of the dialled number.
    pub language: Option<Language>,
    /// The booking system's own name for it.
    pub external_id: Option<String>,
    /// Whatever the booking system wants to find again; a JSON object.
    pub metadata: Option<serde_json::Value>,
    /// Guests wait for a host.
    pub wait_for_host: bool,
    /// Guests join muted.
    pub mute_on_join: bool,
    /// May guests unmute themselves?
    pub guests_may_unmute: bool,
    /// How long before its start callers may come and wait.
    pub early_join_minutes: u32,
    /// How long it may run over its end.
    pub overrun_minutes: u32,
    /// How its voices are treated.
    pub sound: SoundOptions,
    /// What one PIN opens; stays as it was booked.
    pub pins_per: PinsPer,
}

/// From when to when: the civil times of a zone are what was agreed, the instants follow from them.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    zone: TimeZone,
    zone_name: String,
    starts_local: DateTime,
    ends_local: Option<DateTime>,
    starts_at: Timestamp,
    ends_at: Option<Timestamp>,
}

/// Where a meeting is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum MeetingState {
    /// Nobody may come in yet.
    Scheduled,
    /// Callers may come in; nobody is there.
    Open,
    /// Somebody is in it.
    Live,
    /// Over.
    Ended,
    /// Cancelled.
    Cancelled,
}

/// What can be entered at a moment, or what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// What a caller finds.
    pub phase: MeetingState,
    /// Which occurrence of a series it is.
    pub occurrence: Option<RecurrenceId>,
    /// From when callers may come, to wait or to join.
    pub opens_at: Timestamp,
    /// The booked start.
    pub starts_at: Timestamp,
    /// The booked end, of the last one where occurrences follow each other closely; `None`: permanent.
    pub ends_at: Option<Timestamp>,
    /// From when nobody may come any more.
    pub closes_at: Option<Timestamp>,
}

impl Meeting {
    /// From when callers may come at all, to wait or to join.
    #[must_use]
    pub fn opens_at(&self) -> Timestamp {
        self.options.opens_at()
    }

    /// From when nobody may come any more at all: the last end and what it may run over, or when it was
    /// ended; `None`: never.
    #[must_use]
    pub fn closes_at(&self) -> Option<Timestamp> {
        self.ended_at.or_else(|| self.options.closes_at())
    }

    /// The occurrences, where it is a series.
    #[must_use]
    pub fn series(&self) -> Option<Series<'_>> {
        Series::of(self.options.recurrence.as_ref()?, &self.options.schedule)
    }

    /// What can be entered at `now`, or what comes next.
    #[must_use]
    pub fn session(&self, now: Timestamp) -> Session {
        let series = self.series().filter(|_| self.ended_at.is_none());
        let Some(series) = series.filter(|_| self.cancelled_at.is_none()) else {
            return self.whole(now);
        };
        let margins = self.options.margins();
        let of = |phase, occurrence: &Occurrence, ends_at| Session {
            phase,
            occurrence: Some(occurrence.id),
            opens_at: margins.opens(occurrence),
            starts_at: occurrence.starts_at,
            ends_at: Some(ends_at),
            closes_at: Some(margins.closes(occurrence)),
        };
        match series.sitting(now, margins) {
            Sitting::Open {
                occurrence,
                stay_until,
            } => Session {
                closes_at: Some(after(stay_until, margins.overrun)),
                ..of(MeetingState::Open, &occurrence, stay_until)
            },
            Sitting::Void(void) if void.cancelled => {
                of(MeetingState::Cancelled, &void, void.ends_at)
            }
            Sitting::Void(void) => of(MeetingState::Ended, &void, void.ends_at),
            Sitting::Next(next) => of(MeetingState::Scheduled, &next, next.ends_at),
            Sitting::Over => Session {
                phase: MeetingState::Ended,
                ..self.whole(now)
            },
        }
    }

    /// From when its PINs may belong to another meeting. Counted from the last change at the earliest,
    /// so that a wrong end can be corrected.
    #[must_use]
    pub fn retires_at(&self) -> Option<Timestamp> {
        let over = self.cancelled_at.or_else(|| self.closes_at());
        over.map(|over| after(over.max(self.updated_at), QUARANTINE))
    }

    /// Are its PINs lost to it?
    #[must_use]
    pub fn is_retired(&self, now: Timestamp) -> bool {
        self.pins.is_empty() || self.retires_at().is_some_and(|at| at <= now)
    }

    /// Where it is in its life; `live` says whether somebody is in it. A series goes on after an
    /// occurrence that was cancelled or ended.
    #[must_use]
    pub fn state(&self, now: Timestamp, live: bool) -> MeetingState {
        if self.cancelled_at.is_some() {
            return MeetingState::Cancelled;
        }
        if live {
            return MeetingState::Live;
        }
        let phase = self.session(now).phase;
        match (phase, self.series()) {
            (MeetingState::Cancelled | MeetingState::Ended, Some(series))
                if self.ended_at.is_none() =>
            {
                let goes_on = series.next(now).is_some();
                if goes_on {
                    MeetingState::Scheduled
                } else {
                    MeetingState::Ended
                }
            }
            (phase, Some(_) | None) => phase,
        }
    }

    /// Where one occurrence is in its life; `live` says whether somebody is in the meeting.
    #[must_use]
    pub fn occurrence_state(
        &self,
        occurrence: &Occurrence,
        now: Timestamp,
        live: bool,
    ) -> MeetingState {
        let margins = self.options.margins();
        let over = self.ended_at.unwrap_or(Timestamp::MAX);
        if self.cancelled_at.is_some() || occurrence.cancelled {
            MeetingState::Cancelled
        } else if margins.closes(occurrence).min(over) <= now {
            MeetingState::Ended
        } else if now < margins.opens(occurrence) {
            MeetingState::Scheduled
        } else if live && self.session(now).occurrence == Some(occurrence.id) {
            MeetingState::Live
        } else {
            MeetingState::Open
        }
    }

    /// What a valid PIN of this meeting is worth at `now`.
    #[must_use]
    pub fn verdict(&self, now: Timestamp, pin: &PinRecord) -> PinVerdict {
        self.admit(now, pin.occurrence, pin.role, pin.label.as_deref())
    }

    /// What somebody may at `now` whose PIN made him this.
    #[must_use]
    pub fn grants(&self, now: Timestamp, role: Role, name: Option<&str>) -> PinVerdict {
        self.admit(now, None, role, name)
    }

    fn admit(
        &self,
        now: Timestamp,
        occurrence: Option<RecurrenceId>,
        role: Role,
        name: Option<&str>,
    ) -> PinVerdict {
        let session = self.session_of(now, occurrence);
        match session.phase {
            MeetingState::Cancelled => PinVerdict::Refused(Refusal::Cancelled),
            MeetingState::Ended => PinVerdict::Refused(Refusal::Ended),
            MeetingState::Scheduled => PinVerdict::Refused(Refusal::TooEarly {
                opens_at: Box::new(self.local(session.opens_at)),
            }),
            MeetingState::Open | MeetingState::Live => {
                PinVerdict::Admitted(Box::new(self.admission(&session, role, name)))
            }
        }
    }

    /// What any of its PINs grants at `now`; `None`: nobody may come in.
    #[must_use]
    pub fn open_now(&self, now: Timestamp) -> Option<Admission> {
        match self.grants(now, self.pins.first()?.role, None) {
            PinVerdict::Admitted(admission) => Some(*admission),
            PinVerdict::Refused(_) => None,
        }
    }

    /// An instant in the meeting's own zone.
    #[must_use]
    fn local(&self, at: Timestamp) -> Zoned {
        at.to_zoned(self.options.schedule.zone.clone())
    }

    /// What it would be if it took place once.
    fn whole(&self, now: Timestamp) -> Session {
        let schedule = &self.options.schedule;
        let phase = if self.cancelled_at.is_some() {
            MeetingState::Cancelled
        } else if self.closes_at().is_some_and(|closes| closes <= now) {
            MeetingState::Ended
        } else if now < self.opens_at() {
            MeetingState::Scheduled
        } else {
            MeetingState::Open
        };
        Session {
            phase,
            occurrence: None,
            opens_at: self.opens_at(),
            starts_at: schedule.starts_at,
            ends_at: schedule.ends_at,
            closes_at: self.closes_at(),
        }
    }

    /// The PIN of a role without a name of its own, to all of it.
    #[must_use]
    pub fn pin_for(&self, role: Role) -> Option<&Pin> {
        self.pin_to(role, None)
    }

    fn admission(&self, session: &Session, role: Role, name: Option<&str>) -> Admission {
        Admission {
            meeting: self.id,
            revision: self.revision,
            occurrence: session.occurrence,
            organisation: self.organisation,
            brand: Brand::of(&self.organisation_name),
            role,
            name: name.map(str::to_owned),
            opens_at: session.starts_at,
            ends_at: session.ends_at,
            overrun: Duration::from_secs(u64::from(self.options.overrun_minutes) * 60),
            capacity: self.capacity(),
            wait_for_host: self.options.wait_for_host,
            mute_on_join: self.options.mute_on_join,
            guests_may_unmute: self.options.guests_may_unmute,
            language: self.options.language,
            sound: self.options.sound,
            echo: self.echo,
        }
    }
}

impl MeetingOptions {
    /// With every option at its default.
    #[must_use]
    pub fn new(title: &str, schedule: Schedule) -> Self {
        Self {
            title: title.to_owned(),
            schedule,
            recurrence: None,
            room: None,
            capacity: None,
            language: None,
            external_id: None,
            metadata: None,
            wait_for_host: false,
            mute_on_join: false,
            guests_may_unmute: true,
            early_join_minutes: EARLY_JOIN_MINUTES_DEFAULT,
            overrun_minutes: OVERRUN_MINUTES_DEFAULT,
            sound: SoundOptions::default(),
            pins_per: PinsPer::Series,
        }
    }

    /// From when callers may come. Days may be added to a series before its first.
    #[must_use]
    pub fn opens_at(&self) -> Timestamp {
        let recurrence = self.recurrence.as_ref();
        let series = recurrence.and_then(|recurrence| Series::of(recurrence, &self.schedule));
        let first = series.and_then(|series| series.next(Timestamp::MIN));
        let starts_at = first.map_or(self.schedule.starts_at, |first| first.starts_at);
        before(starts_at, self.early_join_minutes)
    }

    /// From when nobody may come any more, as booked.
    #[must_use]
    pub fn closes_at(&self) -> Option<Timestamp> {
        let end = match &self.recurrence {
            Some(recurrence) => recurrence.last_ends_at(),
            None => self.schedule.ends_at,
        };
        end.map(|end| after(end, self.margins().overrun))
    }

    /// How long before and after its booked time it may be entered.
    #[must_use]
    pub fn margins(&self) -> Margins {
        Margins {
            early: SignedDuration::from_mins(i64::from(self.early_join_minutes)),
            overrun: SignedDuration::from_mins(i64::from(self.overrun_minutes)),
        }
    }
}

impl Schedule {
    /// From instants and the zone people live by.
    #[must_use]
    pub fn new(starts_at: Timestamp, ends_at: Option<Timestamp>, zone: Zone) -> Self {
        let (starts_at, ends_at) = (kept(starts_at), ends_at.map(kept));
        let local = |at: Timestamp| zone.rules.to_datetime(at);
        Self {
            starts_local: local(starts_at),
            ends_local: ends_at.map(local),
            starts_at,
            ends_at,
            zone_name: zone.name,
            zone: zone.rules,
        }
    }

    /// As it was stored: each civil time with the instant it meant when it was booked.
    #[must_use]
    pub(crate) fn stored(
        zone: Zone,
        starts: (DateTime, Timestamp),
        ends: Option<(DateTime, Timestamp)>,
    ) -> Self {
        Self {
            starts_local: starts.0,
            ends_local: ends.map(|end| end.0),
            starts_at: starts.1,
            ends_at: ends.map(|end| end.1),
            zone_name: zone.name,
            zone: zone.rules,
        }
    }

    /// The same civil times in a zone; `None` if they can't be told as instants. An instant that shows its time there
    /// stays, also where the clocks show that time twice.
    #[must_use]
    pub fn in_zone(&self, zone: Zone) -> Option<Self> {
        let instant = |local: DateTime, was: Timestamp| {
            let stays = zone.rules.to_datetime(was) == local;
            stays
                .then_some(was)
                .or_else(|| zone.rules.to_timestamp(local).ok())
        };
        let ends_at = match self.ends_local.zip(self.ends_at) {
            Some((local, was)) => Some(instant(local, was)?),
            None => None,
        };
        Some(Self {
            starts_local: self.starts_local,
            ends_local: self.ends_local,
            starts_at: instant(self.starts_local, self.starts_at)?,
            ends_at,
            zone_name: zone.name,
            zone: zone.rules,
        })
    }

    /// An instant as the civil time that names it; `None`: the clocks show that time for the second time.
    #[must_use]
    pub(super) fn civil(&self, at: Timestamp) -> Option<DateTime> {
        let local = self.zone.to_datetime(at);
        let named = self.zone.to_timestamp(local).ok();
        (named == Some(at)).then_some(local)
    }

    /// The zone's rules.
    #[must_use]
    pub const fn time_zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The zone's IANA name.
    #[must_use]
    pub fn zone_name(&self) -> &str {
        &self.zone_name
    }

    /// The zone.
    #[must_use]
    pub fn zone(&self) -> Zone {
        Zone {
            name: self.zone_name.clone(),
            rules: self.zone.clone(),
        }
    }

    /// The start, as the zone's clocks show it.
    #[must_use]
    pub const fn starts_local(&self) -> DateTime {
        self.starts_local
    }

    /// The end, as the zone's clocks show it; `None`: permanent.
    #[must_use]
    pub const fn ends_local(&self) -> Option<DateTime> {
        self.ends_local
    }

    /// The start.
    #[must_use]
    pub const fn starts_at(&self) -> Timestamp {
        self.starts_at
    }

    /// The end; `None`: permanent.
    #[must_use]
    pub const fn ends_at(&self) -> Option<Timestamp> {
        self.ends_at
    }

    /// An instant as RFC 3339 with the zone's offset at that time.
    #[must_use]
    pub fn rfc3339(&self, at: Timestamp) -> String {
        at.display_with_offset(self.zone.to_offset(at)).to_string()
    }
}

/// A time zone with the name it was asked for by.
#[derive(Debug, Clone, PartialEq)]
pub struct Zone {
    name: String,
    rules: TimeZone,
}

impl Zone {
    /// By IANA name, any case; `None` for anything else.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        if name.len() > ZONE_NAME_BYTES_MAX {
            return None;
        }
        let rules = TimeZone::get(name).ok()?;
        let name = rules.iana_name()?.to_owned();
        Some(Self { name, rules })
    }

    /// Its IANA name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When its clocks are changed to what.
    #[must_use]
    pub const fn rules(&self) -> &TimeZone {
        &self.rules
    }

    /// Universal time.
    #[must_use]
    pub fn utc() -> Self {
        Self {
            name: "UTC".to_owned(),
            rules: TimeZone::UTC,
        }
    }
}

/// As fine as times are kept, so that what is answered is what is read back.
pub(crate) fn kept(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}

fn before(at: Timestamp, minutes: u32) -> Timestamp {
    at.saturating_sub(SignedDuration::from_mins(i64::from(minutes)))
        .unwrap_or(Timestamp::MIN)
}

fn after(at: Timestamp, duration: SignedDuration) -> Timestamp {
    at.saturating_add(duration).unwrap_or(Timestamp::MAX)
}

/// Most characters of a title.
pub const TITLE_CHARS_MAX: usize = 200;
/// Most bytes of an external id.
pub const EXTERNAL_ID_BYTES_MAX: usize = 255;
/// Most bytes of metadata, written as compact JSON.
pub const METADATA_BYTES_MAX: usize = 4_096;
/// Most participants a meeting may ask for.
pub const CAPACITY_MAX: u32 = 2_000;
/// Longest early-join window.
pub const EARLY_JOIN_MINUTES_MAX: u32 = 24 * 60;
/// Longest overrun.
pub const OVERRUN_MINUTES_MAX: u32 = 24 * 60;
/// Early-join window where a meeting doesn't say otherwise.
pub const EARLY_JOIN_MINUTES_DEFAULT: u32 = 15;
/// Overrun where a meeting doesn't say otherwise.
pub const OVERRUN_MINUTES_DEFAULT: u32 = 60;
/// How long the PINs of a meeting that is over belong to nobody else.
pub const QUARANTINE: SignedDuration = SignedDuration::from_hours(30 * 24);
const ZONE_NAME_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(start: &str, end: Option<&str>) -> Schedule {
        let zone = Zone::named("europe/rome").unwrap();
        Schedule::new(
            start.parse().unwrap(),
            end.map(|e| e.parse().unwrap()),
            zone,
        )
    }

    fn meeting(options: MeetingOptions) -> Meeting {
        let pin = PinRecord {
            id: uuid::Uuid::nil(),
            pin: Pin::parse("4815162342").unwrap(),
            role: Role::Guest,
            label: None,
            occurrence: None,
        };
        Meeting {
            id: MeetingId(uuid::Uuid::nil()),
            organisation: OrganisationId(uuid::Uuid::nil()),
            organisation_name: "demo".to_owned(),
            options,
            room: None,
            pins: vec![pin],
            echo: false,
            cancelled_at: None,
            ended_at: None,
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
            revision: 1,
        }
    }

    #[test]
    fn a_pin_is_answered_truthfully_before_during_and_after() {
        let m = meeting(MeetingOptions::new(
            "a",
            schedule("2026-03-29T08:00:00Z", Some("2026-03-29T09:00:00Z")),
        ));
        let at = |t: &str| m.verdict(t.parse().unwrap(), &m.pins[0]);
        match at("2026-03-29T07:44:59Z") {
            PinVerdict::Refused(Refusal::TooEarly { opens_at }) => {
                assert_eq!(
                    opens_at.to_string(),
                    "2026-03-29T09:45:00+02:00[Europe/Rome]"
                );
            }
            other @ (PinVerdict::Admitted(_) | PinVerdict::Refused(_)) => panic!("{other:?}"),
        }
        match at("2026-03-29T07:45:00Z") {
            PinVerdict::Admitted(a) => {
                assert_eq!(a.opens_at, "2026-03-29T08:00:00Z".parse().unwrap())
            }
            other @ PinVerdict::Refused(_) => panic!("{other:?}"),
        }
        assert!(matches!(
            at("2026-03-29T09:59:59Z"),
            PinVerdict::Admitted(_)
        ));
        assert!(matches!(
            at("2026-03-29T10:00:00Z"),
            PinVerdict::Refused(Refusal::Ended)
        ));
    }

    #[test]
    fn a_permanent_meeting_never_ends_and_a_cancelled_one_never_opens() {
        let mut m = meeting(MeetingOptions::new(
            "a",
            schedule("2026-03-29T08:00:00Z", None),
        ));
        let late = "2036-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(m.state(late, false), MeetingState::Open);
        assert_eq!(m.state(late, true), MeetingState::Live);
        assert!(!m.is_retired(late));
        m.cancelled_at = Some(late);
        assert_eq!(m.state(late, true), MeetingState::Cancelled);
        assert!(!m.is_retired(late));
        assert!(m.is_retired(after(late, QUARANTINE)));
    }

    #[test]
    fn local_times_stay_when_the_zone_changes() {
        let rome = schedule("2026-07-01T08:00:00Z", Some("2026-07-01T09:00:00Z"));
        let tokyo = rome.in_zone(Zone::named("Asia/Tokyo").unwrap()).unwrap();
        assert_eq!(tokyo.starts_local(), rome.starts_local());
        assert_eq!(
            tokyo.rfc3339(tokyo.starts_at()),
            "2026-07-01T10:00:00+09:00"
        );
        assert_eq!(rome.rfc3339(rome.starts_at()), "2026-07-01T10:00:00+02:00");
    }

    #[test]
    fn only_iana_names_are_zones() {
        assert_eq!(
            Zone::named("EUROPE/rome").unwrap(),
            Zone::named("Europe/Rome").unwrap()
        );
        for bad in [
            "",
            "Mars/Olympus",
            "+02:00",
            "../etc/passwd",
            "Europe/Rome\0",
        ] {
            assert!(Zone::named(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn nothing_printed_of_a_meeting_shows_its_pins() {
        let m = meeting(MeetingOptions::new(
            "a",
            schedule("2026-03-29T08:00:00Z", None),
        ));
        assert!(!format!("{m:?}").contains("4815162342"));
    }
}
