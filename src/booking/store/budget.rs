//! What the failure budget needs of a store: one whole, and a share of it for each node.

use jiff::Timestamp;
use uuid::Uuid;

use super::StoreFuture;
use crate::booking::budget::{Share, ShareReport};

/// The failure budgets.
pub trait BudgetStore: Send + Sync {
    /// Takes a node's report and gives it a share: no more than it wants, never less than what it holds
    /// and wants to keep, and beyond that a tenth of what nobody holds, at least one. However many nodes ask at once, wrong guesses of an hour and shares are together never
    /// more than the budget.
    fn share_budget(&self, claim: ShareClaim) -> StoreFuture<'_, Share>;

    /// Wrong guesses within the hour, of all nodes.
    fn failures(&self, door: Door, now: Timestamp) -> StoreFuture<'_, u32>;
}

/// A node's report, with what makes it somebody's.
#[derive(Debug, Clone)]
pub struct ShareClaim {
    /// Of which budget.
    pub door: Door,
    /// Whose share: another process is another one.
    pub holder: Uuid,
    /// The present.
    pub at: Timestamp,
    /// All parts there are.
    pub per_hour: u32,
    /// What it tells and wants.
    pub report: ShareReport,
}

/// Where PINs are guessed, and by whom. Each has a budget of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Callers, and gateways on their behalf.
    Callers,
    /// Callers who got in before.
    Regulars,
    /// Trusted peers' calls that bring their PIN.
    Peers,
    /// A Jitsi Meet's browsers.
    Jitsi,
}

impl Door {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Callers => "callers",
            Self::Regulars => "regulars",
            Self::Peers => "peers",
            Self::Jitsi => "jitsi",
        }
    }
}
