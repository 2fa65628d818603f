//! What statistics need of a store.

use super::StoreFuture;
use crate::booking::admission::OrganisationId;
use crate::booking::statistics::{Period, Usage};

/// What went on, counted.
pub trait StatisticsStore: Send + Sync {
    /// Of an organisation's calls that arrived in a period; `None`: of all.
    fn usage(&self, organisation: Option<OrganisationId>, period: Period)
    -> StoreFuture<'_, Usage>;
}
