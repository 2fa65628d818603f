//! Rooms of an organisation that meetings are booked into: each holds one meeting at a time. What is taken is the booked
//! time of each occurrence, without early joining and overrun, so that one can follow the other at once.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::booking::admission::OrganisationId;
use crate::booking::change::{Change, FieldError};
use crate::booking::meeting::{CAPACITY_MAX, Meeting, kept};

/// A room as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// Names it in the API.
    pub id: Uuid,
    /// Its owner.
    pub organisation: OrganisationId,
    /// Its owner's name.
    pub organisation_name: String,
    /// For people; one of this name an organisation.
    pub name: String,
    /// Most participants at once.
    pub capacity: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// Counts the changes; the ETag.
    pub revision: i64,
}

/// A room as it is asked for: to make, or to change.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RoomChange {
    /// For people.
    pub name: Change<String>,
    /// Most participants at once.
    pub capacity: Change<i64>,
}

/// Which room a meeting asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoomRequest {
    /// This one.
    This(Uuid),
    /// The smallest free one for so many.
    AtLeast(u32),
}

/// The room that a meeting has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeetingRoom {
    /// Names it in the API.
    pub id: Uuid,
    /// For people.
    pub name: String,
    /// Most participants at once.
    pub capacity: u32,
}

/// From when to before when a room is taken, or free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RoomSlot {
    /// The start.
    pub starts_at: Timestamp,
    /// The end.
    pub ends_at: Timestamp,
}

/// The next times at which a room is free for as long as was asked, at most three, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NextFree([Option<RoomSlot>; 3]);

/// When a room is taken: without overlaps, by start.
#[derive(Debug, Clone, Default)]
pub struct Taken(Vec<RoomSlot>);

impl RoomChange {
    /// Name and capacity, with those of `base` where nothing else is asked.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn apply(self, base: Option<&Room>) -> Result<(String, u32), Vec<FieldError>> {
        let name = match self.name {
            Change::Set(name) => check_name(name),
            Change::Keep => base.map(|base| base.name.clone()).ok_or(required("name")),
            Change::Clear => Err(required("name")),
        };
        let capacity = match self.capacity {
            Change::Set(number) => check_capacity(number),
            Change::Keep => base.map(|base| base.capacity).ok_or(required("capacity")),
            Change::Clear => Err(required("capacity")),
        };
        match (name, capacity) {
            (Ok(name), Ok(capacity)) => Ok((name, capacity)),
            (name, capacity) => Err([name.err(), capacity.err()].into_iter().flatten().collect()),
        }
    }
}

impl NextFree {
    /// Where any of these rooms is free for that long, from then on and before `to`.
    #[must_use]
    pub fn find(rooms: &[Taken], from: Timestamp, to: Timestamp, length: SignedDuration) -> Self {
        let mut found = Self::default();
        let mut from = from;
        for place in &mut found.0 {
            let free = rooms.iter().filter_map(|taken| taken.free(from, length));
            *place = free.min().filter(|slot| slot.starts_at < to);
            let Some(slot) = *place else { break };
            from = slot.ends_at;
        }
        found
    }

    /// The times, by start.
    pub fn slots(self) -> impl Iterator<Item = RoomSlot> {
        self.0.into_iter().flatten()
    }
}

impl std::fmt::Display for NextFree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (place, slot) in self.slots().enumerate() {
            let before = if place == 0 { "; free from " } else { ", " };
            write!(f, "{before}{}", slot.starts_at)?;
        }
        Ok(())
    }
}

impl Taken {
    /// From slots by start.
    #[must_use]
    pub fn new(slots: impl IntoIterator<Item = RoomSlot>) -> Self {
        let mut taken: Vec<RoomSlot> = Vec::new();
        for slot in slots {
            match taken.last_mut() {
                Some(last) if slot.starts_at < last.ends_at => {
                    last.ends_at = last.ends_at.max(slot.ends_at);
                }
                Some(_) | None => taken.push(slot),
            }
        }
        Self(taken)
    }

    /// Is something of this time taken?
    #[must_use]
    pub fn overlaps(&self, slot: RoomSlot) -> bool {
        let next = self.0.partition_point(|t| t.ends_at <= slot.starts_at);
        self.0.get(next).is_some_and(|t| t.starts_at < slot.ends_at)
    }

    /// The first time that is free for that long.
    fn free(&self, from: Timestamp, length: SignedDuration) -> Option<RoomSlot> {
        let first = self.0.partition_point(|t| t.ends_at <= from);
        let mut starts_at = from;
        let mut ends_at = starts_at.checked_add(length).ok()?;
        for taken in self.0.iter().skip(first) {
            if taken.starts_at >= ends_at {
                break;
            }
            starts_at = taken.ends_at;
            ends_at = starts_at.checked_add(length).ok()?;
        }
        Some(RoomSlot { starts_at, ends_at })
    }
}

impl Meeting {
    /// Most participants at once: what was asked for, and no more than its room holds.
    #[must_use]
    pub fn capacity(&self) -> Option<u32> {
        let room = self.room.as_ref().map(|room| room.capacity);
        let asked = self.options.capacity;
        asked.into_iter().chain(room).min()
    }

    /// When it takes its room from `now` on; an endless series up to `until`.
    #[must_use]
    pub fn room_slots(&self, now: Timestamp, until: Timestamp) -> BTreeSet<RoomSlot> {
        if self.cancelled_at.is_some() || self.ended_at.is_some() {
            return BTreeSet::new();
        }
        let Some(series) = self.series() else {
            let schedule = &self.options.schedule;
            let slot = RoomSlot {
                starts_at: schedule.starts_at(),
                ends_at: schedule.ends_at().unwrap_or(kept(Timestamp::MAX)),
            };
            return BTreeSet::from_iter((slot.ends_at > now).then_some(slot));
        };
        let to = if self.takes_rooms_for_ever() {
            until
        } else {
            Timestamp::MAX
        };
        let all = series.occurrences(now, to, usize::MAX).into_iter();
        all.filter(|o| !o.cancelled && o.ended_at.is_none())
            .map(|o| RoomSlot {
                starts_at: o.starts_at,
                ends_at: o.ends_at,
            })
            .collect()
    }

    /// Is it a series without a last occurrence?
    #[must_use]
    pub fn takes_rooms_for_ever(&self) -> bool {
        let recurrence = self.options.recurrence.as_ref();
        self.cancelled_at.is_none()
            && self.ended_at.is_none()
            && recurrence.is_some_and(|recurrence| recurrence.last_ends_at().is_none())
    }
}

/// Up to when an endless series takes its room for now.
#[must_use]
pub fn horizon(now: Timestamp) -> Timestamp {
    kept(now.saturating_add(AHEAD).unwrap_or(Timestamp::MAX))
}

fn check_name(name: String) -> Result<String, FieldError> {
    let trimmed = !name.is_empty() && name.trim() == name;
    if trimmed && name.chars().count() <= NAME_CHARS_MAX && !name.chars().any(char::is_control) {
        return Ok(name);
    }
    let must = format!(
        "must be 1 to {NAME_CHARS_MAX} characters, no control characters, no space at either end"
    );
    Err(FieldError::new("name", "invalid", must))
}

fn check_capacity(number: i64) -> Result<u32, FieldError> {
    let fits = u32::try_from(number).ok();
    let fits = fits.filter(|number| (1..=CAPACITY_MAX).contains(number));
    fits.ok_or_else(|| {
        let must = format!("must be a whole number from 1 to {CAPACITY_MAX}");
        FieldError::new("capacity", "out_of_range", must)
    })
}

fn required(field: &str) -> FieldError {
    FieldError::new(field, "required", "is required")
}

/// Most rooms of an organisation.
pub const ROOMS_MAX: u64 = 200;
/// How far an endless series is looked at: five years.
const AHEAD: SignedDuration = SignedDuration::from_hours(24 * 1_826);
const NAME_CHARS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(minute * 60).unwrap()
    }

    fn slot(from: i64, to: i64) -> RoomSlot {
        RoomSlot {
            starts_at: at(from),
            ends_at: at(to),
        }
    }

    #[test]
    fn what_follows_at_once_does_not_overlap() {
        let taken = Taken::new([slot(10, 20), slot(12, 14), slot(30, 40)]);
        for (from, to, overlaps) in [
            (0, 10, false),
            (20, 30, false),
            (40, 50, false),
            (0, 11, true),
            (15, 16, true),
            (19, 31, true),
            (0, 100, true),
        ] {
            assert_eq!(taken.overlaps(slot(from, to)), overlaps, "{from} {to}");
        }
    }

    #[test]
    fn the_next_free_times_are_of_any_room_and_follow_each_other() {
        let rooms = [
            Taken::new([slot(10, 20), slot(25, 40)]),
            Taken::new([slot(0, 30)]),
        ];
        let length = SignedDuration::from_mins(10);
        let found = NextFree::find(&rooms, at(12), at(1_000), length);
        let found: Vec<RoomSlot> = found.slots().collect();
        assert_eq!(found, [slot(30, 40), slot(40, 50), slot(50, 60)]);
        let bounded = NextFree::find(&rooms, at(12), at(35), length);
        assert_eq!(bounded.slots().count(), 1);
    }
}
