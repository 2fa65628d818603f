//! What quotas need of a store: that all nodes count the same callers and minutes.

use jiff::Timestamp;

use super::StoreFuture;
use crate::booking::admission::{CallId, OrganisationId};

/// Callers who were let in, and what their calls took.
pub trait QuotaStore: Send + Sync {
    /// Lets a caller in; however many come at once, no more than the quotas allow. Who was in before is again.
    fn take_seat(&self, claim: SeatClaim) -> StoreFuture<'_, SeatTurn>;

    /// Frees the seat of a call that no record tells the end of.
    fn leave_seat(&self, call: CallId) -> StoreFuture<'_, ()>;

    /// Lets callers count until then, those who still do.
    fn extend_seats(&self, calls: Vec<CallId>, until: Timestamp) -> StoreFuture<'_, ()>;

    /// What an organisation uses at that time.
    fn used(&self, organisation: OrganisationId, at: Timestamp) -> StoreFuture<'_, Used>;
}

/// A caller who wants to come in.
#[derive(Debug, Clone, Copy)]
pub struct SeatClaim {
    /// His call.
    pub call: CallId,
    /// Whose meeting he comes to.
    pub organisation: OrganisationId,
    /// When.
    pub at: Timestamp,
    /// Until when he counts, unless more is heard of him.
    pub counts_until: Timestamp,
    /// The quotas hold for him; not for who was in before.
    pub limited: bool,
}

/// What becomes of a [`SeatClaim`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeatTurn {
    /// He is in.
    Taken,
    /// As many are in as may be.
    CallersMax,
    /// The month's minutes are used up.
    MinutesUsedUp,
}

/// What an organisation uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Used {
    /// Meetings that are neither over nor cancelled.
    pub meetings: u64,
    /// Callers who are in now.
    pub callers: u64,
    /// Microseconds of calls that joined and ended this month, and of those that go on, so far.
    pub micros: u64,
}
