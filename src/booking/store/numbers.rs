//! What the numbers that people dial need of a store.

use uuid::Uuid;

use super::StoreFuture;
use crate::booking::number::NumberRecord;

/// The numbers. Every change counts their revision up.
pub trait NumberStore: Send + Sync {
    /// How often they were changed; by it a node notices what another one did.
    fn numbers_revision(&self) -> StoreFuture<'_, i64>;

    /// All numbers, oldest first.
    fn numbers(&self) -> StoreFuture<'_, Vec<NumberRecord>>;

    /// A number by its id.
    fn number(&self, id: Uuid) -> StoreFuture<'_, Option<NumberRecord>>;

    /// Keeps those that were never brought before and aren't there, and remembers that they were brought.
    fn seed_numbers(&self, seeds: Vec<NumberRecord>) -> StoreFuture<'_, ()>;

    /// Keeps a new number; [`Conflict::Other`](super::Conflict::Other) if it is there, and
    /// [`Conflict::NumbersMax`](super::Conflict::NumbersMax) if there are too many.
    fn new_number(&self, new: NumberRecord) -> StoreFuture<'_, ()>;

    /// Replaces it, if the revision is still that; counts it up. `false`: it isn't.
    fn change_number(&self, changed: NumberRecord) -> StoreFuture<'_, bool>;

    /// Deletes a number; [`Conflict::LastNumber`](super::Conflict::LastNumber) if it is the only one.
    fn delete_number(&self, id: Uuid) -> StoreFuture<'_, ()>;
}
