//! What callers' rights need of a store: to find what is kept of somebody, and to forget him.

use jiff::Timestamp;

use super::StoreFuture;
use crate::booking::admission::OrganisationId;
use crate::booking::privacy::{CallerHash, CallerNumber};

/// What is kept of callers.
pub trait CallerStore: Send + Sync {
    /// The secret of this name: `fresh`, if there is none yet. The same for all who share the store.
    fn secret(&self, name: &'static str, fresh: String) -> StoreFuture<'_, String>;

    /// What is kept of a caller; `None`: nothing. `organisation` `None`: whosever he is.
    fn caller(
        &self,
        organisation: Option<OrganisationId>,
        hash: CallerHash,
    ) -> StoreFuture<'_, Option<KeptCaller>>;

    /// Takes a caller out of his call records and of what is told of his calls, all or nothing. The records stay.
    fn erase_caller(
        &self,
        organisation: Option<OrganisationId>,
        hash: CallerHash,
    ) -> StoreFuture<'_, ()>;
}

/// What is kept of a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptCaller {
    /// Whose caller he is; `None`: one that reached nobody.
    pub organisation: Option<OrganisationId>,
    /// Its name.
    pub organisation_name: Option<String>,
    /// How many calls.
    pub calls: u64,
    /// When the first arrived.
    pub first_call_at: Timestamp,
    /// When the last arrived.
    pub last_call_at: Timestamp,
    /// His number in each form in which it is kept, at most a few.
    pub numbers: Vec<CallerNumber>,
    /// How many meetings his calls reached.
    pub meetings: u64,
    /// How many events tell of his calls.
    pub events: u64,
}
