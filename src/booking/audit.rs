//! Who did what: one entry for every request that changed something, and for every PIN that was explained.

use jiff::Timestamp;
use uuid::Uuid;

use crate::booking::admission::OrganisationId;
use crate::booking::key::KeyRole;

/// One thing that was done. Never holds what a request's body said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deed {
    /// Whose thing it was done to.
    pub organisation: Option<OrganisationId>,
    /// By which key.
    pub key: Uuid,
    /// The key's role.
    pub role: KeyRole,
    /// The method and the documented path, like `POST /v1/meetings`.
    pub action: String,
    /// The path with its ids, or where to find what was made.
    pub subject: String,
    /// How it was answered.
    pub status: u16,
}

/// It, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// Names it; sorts by time.
    pub id: Uuid,
    /// When.
    pub at: Timestamp,
    /// What.
    pub deed: Deed,
}

/// Which entries, from where on, how many; latest first.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Of whom; `None`: of all.
    pub organisation: Option<OrganisationId>,
    /// Then or later.
    pub from: Option<Timestamp>,
    /// Before then.
    pub to: Option<Timestamp>,
    /// After this one.
    pub after: Option<(Timestamp, Uuid)>,
    /// At most so many.
    pub limit: u32,
}
