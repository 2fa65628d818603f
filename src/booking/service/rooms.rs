//! The rooms that meetings are booked into: made, read, changed, deleted, and taken further on by endless series.

use std::sync::atomic::Ordering;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::{BookingError, Bookings, is_conflict, new_id};
use crate::booking::change::FieldError;
use crate::booking::key::{ApiKey, KeyRole, Organisation};
use crate::booking::room::{Room, RoomChange, horizon};
use crate::booking::store::{Conflict, StoreError};

impl Bookings {
    /// Makes a room.
    ///
    /// # Errors
    /// [`BookingError::Invalid`], [`Conflict::RoomsMax`], or the store's.
    pub async fn create_room(
        &self,
        now: Timestamp,
        organisation: &Organisation,
        asked: RoomChange,
    ) -> Result<Room, BookingError> {
        let (name, capacity) = asked.apply(None).map_err(BookingError::Invalid)?;
        let new = Room {
            id: new_id(now)?,
            organisation: organisation.id,
            organisation_name: organisation.name.clone(),
            name,
            capacity,
            created_at: crate::booking::meeting::kept(now),
            revision: 1,
        };
        self.store().new_room(new.clone()).await.map_err(taken)?;
        Ok(new)
    }

    /// An organisation's rooms, oldest first; `None`: all.
    ///
    /// # Errors
    /// The store's.
    pub async fn list_rooms(
        &self,
        organisation: Option<&Organisation>,
    ) -> Result<Vec<Room>, BookingError> {
        let owner = organisation.map(|organisation| organisation.id);
        Ok(self.store().rooms(owner).await?)
    }

    /// A room that this key may see: its organisation's, or any for a platform key.
    ///
    /// # Errors
    /// [`BookingError::NotFound`], or the store's.
    pub async fn room(&self, key: &ApiKey, id: Uuid) -> Result<Room, BookingError> {
        let found = self.store().room(id).await?;
        let sees =
            |room: &Room| key.role == KeyRole::Platform || room.organisation == key.organisation.id;
        found.filter(sees).ok_or(BookingError::NotFound)
    }

    /// Changes what is asked of a room and keeps the rest.
    ///
    /// # Errors
    /// [`BookingError::Invalid`], [`BookingError::Changed`], [`BookingError::NotFound`],
    /// [`Conflict::RoomInUse`], or the store's.
    pub async fn patch_room(
        &self,
        now: Timestamp,
        key: &ApiKey,
        id: Uuid,
        asked: RoomChange,
        expected: Option<i64>,
    ) -> Result<Room, BookingError> {
        let room = self.room(key, id).await?;
        let (name, capacity) = asked.apply(Some(&room)).map_err(BookingError::Invalid)?;
        if expected.is_some_and(|revision| revision != room.revision) {
            return Err(BookingError::Changed);
        }
        let mut changed = Room {
            name,
            capacity,
            ..room
        };
        let done = self.store().change_room(now, changed.clone()).await;
        if !done.map_err(taken)? {
            return Err(BookingError::Changed);
        }
        changed.revision += 1;
        Ok(changed)
    }

    /// Deletes a room; meetings that are over have none from then on.
    ///
    /// # Errors
    /// [`Conflict::RoomInUse`], or the store's.
    pub async fn delete_room(&self, now: Timestamp, room: Room) -> Result<(), BookingError> {
        Ok(self.store().delete_room(now, room).await?)
    }

    /// Has endless series take their rooms as far ahead as is looked at. To be called once an hour or so, by any number
    /// of nodes.
    ///
    /// # Errors
    /// The store's.
    pub async fn roll_rooms(&self, now: Timestamp) -> Result<(), BookingError> {
        let until = horizon(now).saturating_sub(LAG).unwrap_or(now);
        let mut after = None;
        loop {
            let page = self.store().series_to_roll(until, after, PAGE).await?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = Some(last.id);
            for series in page {
                let meeting = series.id;
                let missed = self.store().roll_room(now, series).await?;
                if missed > 0 {
                    self.inner.rooms_missed.fetch_add(missed, Ordering::Relaxed);
                    tracing::warn!(%meeting, missed, "occurrences of an endless series find their room taken");
                }
            }
        }
    }

    /// Occurrences of endless series that found their rooms taken since start.
    #[must_use]
    pub fn rooms_missed(&self) -> u64 {
        self.inner.rooms_missed.load(Ordering::Relaxed)
    }
}

/// What is wrong with a request for a room is told as that.
pub(super) fn without_room(error: StoreError) -> BookingError {
    let StoreError::Conflict(conflict) = &error else {
        return error.into();
    };
    let (field, code) = if *conflict == Conflict::NoSuchRoom {
        ("room", "unknown")
    } else if matches!(conflict, Conflict::NoRoomSoLarge { .. }) {
        ("room", "out_of_range")
    } else if matches!(conflict, Conflict::RoomTooSmall { .. }) {
        ("capacity", "out_of_range")
    } else {
        return error.into();
    };
    BookingError::Invalid(vec![FieldError::new(field, code, error.to_string())])
}

fn taken(error: StoreError) -> BookingError {
    if is_conflict(&error, Conflict::Other) {
        let taken = FieldError::new("name", "taken", "is another room of the organisation");
        BookingError::Invalid(vec![taken])
    } else {
        error.into()
    }
}

const PAGE: u32 = 100;
/// A series is taken further on once a month, not every hour.
const LAG: SignedDuration = SignedDuration::from_hours(24 * 30);
