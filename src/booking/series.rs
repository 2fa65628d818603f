//! A series in its zone: which occurrences there are when, and which of them a PIN opens now.

use std::collections::BTreeSet;

use jiff::civil::DateTime;
use jiff::{SignedDuration, Timestamp};

use crate::booking::meeting::Schedule;
use crate::booking::recurrence::{Edit, Recurrence, RecurrenceId, Rule, RuleError, shift};

/// One occurrence of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Occurrence {
    /// Names it, also after it was moved.
    pub id: RecurrenceId,
    /// Its start.
    pub starts_at: Timestamp,
    /// Its end.
    pub ends_at: Timestamp,
    /// It takes place at another time than the rule says.
    pub moved: bool,
    /// It doesn't take place.
    pub cancelled: bool,
    /// It was ended before its time.
    pub ended_at: Option<Timestamp>,
}

/// How long before and after its booked time an occurrence may be entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Margins {
    /// Before the start.
    pub early: SignedDuration,
    /// After the end.
    pub overrun: SignedDuration,
}

/// What a series is at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sitting {
    /// This occurrence can be entered. Where windows touch it is one stay, which lasts to `stay_until`,
    /// the booked end of the last of them.
    Open {
        occurrence: Occurrence,
        stay_until: Timestamp,
    },
    /// This one was cancelled or ended, and nothing else can be entered.
    Void(Occurrence),
    /// Nothing now; this one is next.
    Next(Occurrence),
    /// Nothing follows.
    Over,
}

/// Why a series or one of its occurrences can't be as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SeriesError {
    /// The rule is refused.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// It has no end, or one that can't be repeated.
    #[error("a series needs an ends_at, and a starts_at of whole seconds")]
    NoLength,
    /// It can't be named by a civil time.
    #[error(
        "{0} is shown by the clocks for the second time, and a series can't tell that from the first; choose another time"
    )]
    SecondTime(DateTime),
    /// Everything is excluded.
    #[error("excluded: leaves no occurrence")]
    AllExcluded,
    /// More than can be meant.
    #[error("excluded, added: at most {DATES_MAX} each")]
    TooManyDates,
    /// One would begin before another one ends.
    #[error("the occurrence of {0} would overlap another one")]
    Overlap(DateTime),
    /// Too many single occurrences were changed.
    #[error("at most {DATES_MAX} occurrences of a series can be changed; book a new one")]
    TooManyEdits,
}

/// What is asked of a series.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Repetitions {
    /// The rule, with or without `RRULE:`.
    pub rule: String,
    /// Starts to leave out.
    pub excluded: BTreeSet<DateTime>,
    /// Starts to add.
    pub added: BTreeSet<DateTime>,
}

/// A recurrence with the schedule of its first occurrence.
#[derive(Debug, Clone, Copy)]
pub struct Series<'a> {
    recurrence: &'a Recurrence,
    schedule: &'a Schedule,
    length: SignedDuration,
}

impl Recurrence {
    /// Checked against the schedule of its first occurrence.
    ///
    /// # Errors
    /// [`SeriesError`].
    pub fn new(asked: &Repetitions, schedule: &Schedule) -> Result<Self, SeriesError> {
        if asked.excluded.len().max(asked.added.len()) > DATES_MAX {
            return Err(SeriesError::TooManyDates);
        }
        let first = schedule.starts_local();
        if schedule.ends_at().is_none() || first.subsec_nanosecond() != 0 {
            return Err(SeriesError::NoLength);
        }
        civil(schedule, schedule.starts_at())?;
        let recurrence = Self {
            rule: Rule::parse(&asked.rule, first, schedule.time_zone())?,
            excluded: asked.excluded.clone(),
            added: asked.added.clone(),
            edits: std::collections::BTreeMap::new(),
            last_ends_at: None,
        };
        let series = Series::of(&recurrence, schedule).ok_or(SeriesError::NoLength)?;
        series.check()?;
        Ok(recurrence.settled(schedule))
    }

    /// What was asked for.
    #[must_use]
    pub fn repetitions(&self) -> Repetitions {
        Repetitions {
            rule: self.rule.text().to_owned(),
            excluded: self.excluded.clone(),
            added: self.added.clone(),
        }
    }

    /// What was asked for, when the first start moves: days left out and added take its new time of day,
    /// and days left out that are none of the series any more move as far as it did.
    #[must_use]
    pub(super) fn shifted(&self, was: &Schedule, schedule: &Schedule) -> Repetitions {
        let (from, to) = (was.starts_local(), schedule.starts_local());
        let rule = Rule::parse(self.rule.text(), to, schedule.time_zone()).ok();
        let given = |date: DateTime| {
            let first = rule.as_ref().and_then(|rule| rule.starts(to, date).next());
            first == Some(date)
        };
        let excluded = self.excluded.iter().filter_map(|&date| {
            let mut candidates = candidates(date, from, to);
            let found = candidates.find(|&date| given(date));
            found.or_else(|| date.checked_add(shift(from, to)).ok())
        });
        let added = self
            .added
            .iter()
            .filter_map(|&date| candidates(date, from, to).next());
        Repetitions {
            rule: self.rule.text().to_owned(),
            excluded: excluded.collect(),
            added: added.collect(),
        }
    }

    /// Takes over what became of single occurrences of `before`, where there still are such.
    #[must_use]
    pub(super) fn with_edits_of(
        mut self,
        before: &Self,
        was: &Schedule,
        schedule: &Schedule,
    ) -> Self {
        let edits = before.edits.iter().filter_map(|(&id, edit)| {
            let (series, old) = (Series::of(&self, schedule)?, Series::of(before, was)?);
            let RecurrenceId(id) = series.became(RecurrenceId(id), old)?;
            Some((id, edit.clone()))
        });
        self.edits = edits.collect();
        self.settled(schedule)
    }

    /// When its last occurrence ends; `None`: never.
    #[must_use]
    pub const fn last_ends_at(&self) -> Option<Timestamp> {
        self.last_ends_at
    }

    fn settled(mut self, schedule: &Schedule) -> Self {
        self.last_ends_at = Series::of(&self, schedule).and_then(|series| series.last_ends_at());
        self
    }
}

impl<'a> Series<'a> {
    /// `None` for a schedule without an end.
    #[must_use]
    pub fn of(recurrence: &'a Recurrence, schedule: &'a Schedule) -> Option<Self> {
        let length = schedule.ends_at()?.duration_since(schedule.starts_at());
        Some(Self {
            recurrence,
            schedule,
            length,
        })
    }

    /// The occurrences that touch the time from `from` to before `to`, by start, at most `max`.
    #[must_use]
    pub fn occurrences(self, from: Timestamp, to: Timestamp, max: usize) -> Vec<Occurrence> {
        self.select(from, to, max, |_| true)
    }

    /// One occurrence.
    #[must_use]
    pub fn occurrence(self, id: RecurrenceId) -> Option<Occurrence> {
        self.has(id.0).then(|| self.at(id.0))?
    }

    /// What an occurrence became when the series was changed as a whole, from what it was to this one: the one of the
    /// same day, else the one that is as far away, unless that is another one's of the same day.
    pub(super) fn became(self, id: RecurrenceId, was: Series<'_>) -> Option<RecurrenceId> {
        let (from, to) = (was.schedule.starts_local(), self.schedule.starts_local());
        let same_day = by_time(id.0, from, to).filter(|&id| self.has(id));
        let far_away = || {
            let there = all_the_way(id.0, from, to).filter(|&id| self.has(id))?;
            let stays = by_time(there, to, from).is_some_and(|before| was.has(before));
            (!stays).then_some(there)
        };
        same_day.or_else(far_away).map(RecurrenceId)
    }

    /// The series with one occurrence at another time, or back at its own.
    ///
    /// # Errors
    /// [`SeriesError::Overlap`], [`SeriesError::SecondTime`], [`SeriesError::TooManyEdits`].
    pub fn moved(
        self,
        id: RecurrenceId,
        times: Option<(Timestamp, Timestamp)>,
    ) -> Result<Recurrence, SeriesError> {
        let local = |at| civil(self.schedule, at);
        let moved = match times {
            Some((starts, ends)) => Some((local(starts)?, local(ends)?)),
            None => None,
        };
        let changed = self.edited(id, |edit| {
            edit.moved = moved;
            edit.cancelled = false;
            edit.ended_at = None;
        })?;
        changed.check_place_of(id, self.schedule)?;
        Ok(changed)
    }

    /// The series with one occurrence cancelled, or not any more.
    ///
    /// # Errors
    /// [`SeriesError::Overlap`], [`SeriesError::TooManyEdits`].
    pub fn cancelled(self, id: RecurrenceId, cancelled: bool) -> Result<Recurrence, SeriesError> {
        let changed = self.edited(id, |edit| edit.cancelled = cancelled)?;
        if !cancelled {
            changed.check_place_of(id, self.schedule)?;
        }
        Ok(changed)
    }

    /// The series with one occurrence ended before its time.
    ///
    /// # Errors
    /// [`SeriesError::TooManyEdits`].
    pub fn ended(self, id: RecurrenceId, at: Timestamp) -> Result<Recurrence, SeriesError> {
        self.edited(id, |edit| edit.ended_at = Some(at))
    }

    /// What the series is at `now`.
    pub(super) fn sitting(self, now: Timestamp, margins: Margins) -> Sitting {
        let from = now.saturating_sub(margins.overrun).unwrap_or(now);
        let to = now.saturating_add(margins.early).unwrap_or(now);
        // A start exactly at the end of the early window counts.
        let to = to
            .saturating_add(SignedDuration::from_micros(1))
            .unwrap_or(to);
        let mut near = self.occurrences(from, to, NEAR_MAX);
        near.retain(|o| margins.opens(o) <= now && now < margins.closes_as_booked(o));
        let enterable = near.iter().filter(|o| o.is_live(now));
        match enterable.min_by_key(|o| o.preference(now)) {
            Some(&occurrence) => Sitting::Open {
                occurrence,
                stay_until: self.stay_until(now, occurrence, margins),
            },
            None => match (near.last(), self.next(now)) {
                (Some(&void), _) => Sitting::Void(void),
                (None, Some(next)) => Sitting::Next(next),
                (None, None) => Sitting::Over,
            },
        }
    }

    /// One that can be entered before the one before it is over, among the first few hundred after `from` and those
    /// around each that was moved.
    pub(super) fn too_close(self, from: Timestamp, margins: Margins) -> Option<RecurrenceId> {
        let on = |o: &Occurrence| !o.cancelled && o.ended_at.is_none();
        let among = |from, to, max| {
            let all = self.select(from, to, max, on);
            all.windows(2).find_map(|pair| match pair {
                [a, b] if margins.closes_as_booked(a) > margins.opens(b) => Some(b.id),
                _ => None,
            })
        };
        let reach = margins.early + margins.overrun;
        let moved = self.recurrence.edits.iter();
        let moved = moved.filter(|(_, edit)| edit.moved.is_some());
        among(from, Timestamp::MAX, CHECKED_MAX).or_else(|| {
            moved
                .filter_map(|(id, _)| self.at(*id))
                .filter(|o| o.ends_at > from)
                .find_map(|o| {
                    let before = o.starts_at.saturating_sub(reach).unwrap_or(o.starts_at);
                    let after = o.ends_at.saturating_add(reach).unwrap_or(o.ends_at);
                    among(before, after, usize::MAX)
                })
        })
    }

    /// The next occurrence that takes place and has not begun.
    pub(super) fn next(self, now: Timestamp) -> Option<Occurrence> {
        let upcoming = |o: &Occurrence| o.starts_at > now && o.is_live(now);
        let found = self.select(now, Timestamp::MAX, 1, upcoming);
        found.first().copied()
    }

    /// The booked end of the last of the windows that touch this one's.
    fn stay_until(self, now: Timestamp, first: Occurrence, margins: Margins) -> Timestamp {
        let mut until = first.ends_at;
        for _ in 0..CHAIN_MAX {
            let closes = until.saturating_add(margins.overrun).unwrap_or(until);
            let reach = closes.saturating_add(margins.early).unwrap_or(closes);
            let later = self.select(until, reach, NEAR_MAX, |o| {
                o.is_live(now) && o.ends_at > until && margins.opens(o) <= closes
            });
            match later.iter().map(|o| o.ends_at).max() {
                Some(ends) => until = ends,
                None => break,
            }
        }
        until
    }

    /// Is it a start of the series, whatever became of it?
    fn has(self, id: DateTime) -> bool {
        let Recurrence {
            rule,
            excluded,
            added,
            ..
        } = self.recurrence;
        let first = self.schedule.starts_local();
        let by_rule = || rule.starts(first, id).next() == Some(id);
        !excluded.contains(&id) && (added.contains(&id) || (id >= first && by_rule()))
    }

    fn at(self, id: DateTime) -> Option<Occurrence> {
        let edit = self.recurrence.edits.get(&id);
        let moved = edit.and_then(|edit| edit.moved);
        let instant = |local| self.schedule.time_zone().to_timestamp(local).ok();
        let starts_at = instant(moved.map_or(id, |(starts, _)| starts))?;
        let ends_at = match moved {
            Some((_, ends)) => instant(ends)?,
            None => starts_at.checked_add(self.length).ok()?,
        };
        Some(Occurrence {
            id: RecurrenceId(id),
            starts_at,
            ends_at,
            moved: moved.is_some(),
            cancelled: edit.is_some_and(|edit| edit.cancelled),
            ended_at: edit.and_then(|edit| edit.ended_at),
        })
    }

    /// The starts of rule and added days from `from` on, without those that were moved away.
    fn unmoved(self, from: DateTime) -> impl Iterator<Item = DateTime> {
        let Recurrence {
            rule,
            excluded,
            added,
            edits,
            ..
        } = self.recurrence;
        let mut by_rule = rule.starts(self.schedule.starts_local(), from).peekable();
        let mut by_hand = added.range(from..).copied().peekable();
        let merged = std::iter::from_fn(move || match (by_rule.peek(), by_hand.peek()) {
            (Some(rule), Some(hand)) if rule == hand => {
                by_hand.next();
                by_rule.next()
            }
            (Some(rule), Some(hand)) if hand < rule => by_hand.next(),
            (Some(_), _) => by_rule.next(),
            (None, _) => by_hand.next(),
        });
        merged.filter(move |start| {
            let moved = edits.get(start).is_some_and(|edit| edit.moved.is_some());
            !moved && !excluded.contains(start)
        })
    }

    fn select(
        self,
        from: Timestamp,
        to: Timestamp,
        max: usize,
        wanted: impl Fn(&Occurrence) -> bool,
    ) -> Vec<Occurrence> {
        let touches = |o: &Occurrence| o.ends_at > from && o.starts_at < to && wanted(o);
        // Civil times and instants differ by an hour or two around a change of clocks.
        let early = from.saturating_sub(self.length + A_DAY).unwrap_or(from);
        let first = self.schedule.time_zone().to_datetime(early);
        let late = to.saturating_add(A_DAY).unwrap_or(to);
        let last = self.schedule.time_zone().to_datetime(late);
        let unmoved = self.unmoved(first).take_while(|start| *start <= last);
        let mut found: Vec<Occurrence> = unmoved
            .filter_map(|start| self.at(start))
            .filter(touches)
            .take(max)
            .collect();
        let moved = self.recurrence.edits.iter();
        let moved = moved.filter(|(_, edit)| edit.moved.is_some());
        found.extend(moved.filter_map(|(id, _)| self.at(*id)).filter(touches));
        found.sort_by_key(|o| (o.starts_at, o.id));
        found.truncate(max);
        found
    }

    fn edited(
        self,
        id: RecurrenceId,
        change: impl FnOnce(&mut Edit),
    ) -> Result<Recurrence, SeriesError> {
        let mut changed = self.recurrence.clone();
        change(changed.edits.entry(id.0).or_default());
        changed.edits.retain(|_, edit| *edit != Edit::default());
        if changed.edits.len() > DATES_MAX {
            return Err(SeriesError::TooManyEdits);
        }
        Ok(changed.settled(self.schedule))
    }

    /// Does anything take place, and is each over before the next begins? Looks at the first few hundred:
    /// a rule repeats itself.
    fn check(self) -> Result<(), SeriesError> {
        let mut before: Option<Occurrence> = None;
        let added = self.recurrence.added.first().copied();
        let from = self.schedule.starts_local();
        let from = added.map_or(from, |added| added.min(from));
        for start in self.unmoved(from).take(CHECKED_MAX) {
            let Some(occurrence) = self.at(start) else {
                continue;
            };
            if before.is_some_and(|before| before.ends_at > occurrence.starts_at) {
                return Err(SeriesError::Overlap(start));
            }
            before = Some(occurrence);
        }
        before.map(drop).ok_or(SeriesError::AllExcluded)
    }

    fn last_ends_at(self) -> Option<Timestamp> {
        self.recurrence.rule.until?;
        let all = |wanted: fn(&Occurrence) -> bool| {
            let found = self.select(Timestamp::MIN, Timestamp::MAX, usize::MAX, wanted);
            found.iter().map(|o| o.ends_at).max()
        };
        all(|o| !o.cancelled).or_else(|| all(|_| true))
    }
}

impl Recurrence {
    fn check_place_of(&self, id: RecurrenceId, schedule: &Schedule) -> Result<(), SeriesError> {
        let series = Series::of(self, schedule).ok_or(SeriesError::NoLength)?;
        let Some(it) = series.occurrence(id) else {
            return Ok(());
        };
        let others = series.select(it.starts_at, it.ends_at, 1, |o| {
            o.id != id && !o.cancelled && o.ended_at.is_none()
        });
        match others.first() {
            Some(_) => Err(SeriesError::Overlap(id.0)),
            None => Ok(()),
        }
    }
}

fn civil(schedule: &Schedule, at: Timestamp) -> Result<DateTime, SeriesError> {
    let shown = schedule.time_zone().to_datetime(at);
    schedule.civil(at).ok_or(SeriesError::SecondTime(shown))
}

/// What a start may become when the first one moves: the same day at the new time, or as far away.
fn candidates(date: DateTime, from: DateTime, to: DateTime) -> impl Iterator<Item = DateTime> {
    let by_time = by_time(date, from, to).into_iter();
    by_time.chain(all_the_way(date, from, to))
}

fn by_time(date: DateTime, from: DateTime, to: DateTime) -> Option<DateTime> {
    let same_day = from.date().to_datetime(to.time());
    date.checked_add(shift(from, same_day)).ok()
}

fn all_the_way(date: DateTime, from: DateTime, to: DateTime) -> Option<DateTime> {
    date.checked_add(shift(from, to)).ok()
}

impl Occurrence {
    /// Does it take place, and was it not ended?
    fn is_live(&self, now: Timestamp) -> bool {
        !self.cancelled && self.ended_at.is_none_or(|ended| ended > now)
    }

    /// Where several can be entered: the one that runs, else the one that begins next, else the one that
    /// runs over.
    fn preference(&self, now: Timestamp) -> (u8, SignedDuration) {
        let away = now.duration_since(self.starts_at).abs();
        if self.starts_at <= now && now < self.ends_at {
            (0, away)
        } else if now < self.starts_at {
            (1, away)
        } else {
            (2, away)
        }
    }
}

impl Margins {
    /// From when it may be entered.
    pub(super) fn opens(self, occurrence: &Occurrence) -> Timestamp {
        let starts_at = occurrence.starts_at;
        starts_at.saturating_sub(self.early).unwrap_or(starts_at)
    }

    fn closes_as_booked(self, occurrence: &Occurrence) -> Timestamp {
        let ends_at = occurrence.ends_at;
        ends_at.saturating_add(self.overrun).unwrap_or(ends_at)
    }

    /// From when it may not be entered any more.
    pub(super) fn closes(self, occurrence: &Occurrence) -> Timestamp {
        let booked = self.closes_as_booked(occurrence);
        occurrence
            .ended_at
            .map_or(booked, |ended| ended.min(booked))
    }
}

/// Most days left out, added, or changed one by one.
pub const DATES_MAX: usize = 1_000;
const A_DAY: SignedDuration = SignedDuration::from_hours(24);
/// Occurrences whose windows may hold one moment: they don't overlap, so many only where days were added.
const NEAR_MAX: usize = 2 * DATES_MAX;
/// Windows that touch and are looked at together.
const CHAIN_MAX: usize = 16;
const CHECKED_MAX: usize = 500;

#[cfg(test)]
mod tests;
