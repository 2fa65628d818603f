//! What the rooms that meetings are booked into need of a store.

use jiff::Timestamp;
use uuid::Uuid;

use super::StoreFuture;
use crate::booking::admission::{MeetingId, OrganisationId};
use crate::booking::meeting::Meeting;
use crate::booking::room::Room;

/// The rooms. Meetings get theirs with their booking and every change, in the same transaction.
pub trait RoomStore: Send + Sync {
    /// The rooms of an organisation, oldest first; `None`: of all.
    fn rooms(&self, organisation: Option<OrganisationId>) -> StoreFuture<'_, Vec<Room>>;

    /// A room by its id.
    fn room(&self, id: Uuid) -> StoreFuture<'_, Option<Room>>;

    /// Keeps a new room; [`Conflict::Other`](super::Conflict::Other) if there is one of this name, and
    /// [`Conflict::RoomsMax`](super::Conflict::RoomsMax) if there are too many.
    fn new_room(&self, new: Room) -> StoreFuture<'_, ()>;

    /// Replaces name and capacity, if the revision is still that; counts it up. `false`: it isn't.
    /// [`Conflict::RoomInUse`](super::Conflict::RoomInUse) if a booking ahead asks for more.
    fn change_room(&self, now: Timestamp, changed: Room) -> StoreFuture<'_, bool>;

    /// Deletes a room; [`Conflict::RoomInUse`](super::Conflict::RoomInUse) if there are bookings ahead.
    fn delete_room(&self, now: Timestamp, room: Room) -> StoreFuture<'_, ()>;

    /// Endless series whose rooms are taken for less far than until then, by id, after this one.
    fn series_to_roll(
        &self,
        until: Timestamp,
        after: Option<MeetingId>,
        limit: u32,
    ) -> StoreFuture<'_, Vec<Meeting>>;

    /// Takes the room of an endless series for as far as is looked at, unless it was changed meanwhile. Gives how many
    /// of its occurrences found the room taken.
    fn roll_room(&self, now: Timestamp, series: Meeting) -> StoreFuture<'_, u64>;
}
