//! What webhooks need of a store.

use jiff::Timestamp;
use uuid::Uuid;

use super::StoreFuture;
use crate::booking::admission::OrganisationId;
use crate::booking::delivery::{Pending, Settled};
use crate::booking::event::{EventPosition, KeptEvent};
use crate::booking::webhook::{Delivery, DeliveryFilter, DisabledBecause, Webhook};

/// Webhooks and what they are told. Only who holds the lease of a webhook delivers to it.
pub trait WebhookStore: Send + Sync {
    /// Keeps a new webhook, which is told of what happens from now on.
    fn new_webhook(&self, webhook: Webhook) -> StoreFuture<'_, ()>;

    /// Webhooks, oldest first; `None`: of all organisations.
    fn webhooks(&self, organisation: Option<OrganisationId>) -> StoreFuture<'_, Vec<Webhook>>;

    /// A webhook by its id.
    fn webhook(&self, id: Uuid) -> StoreFuture<'_, Option<Webhook>>;

    /// Replaces where to, of what, and whether it is told, if the revision is still that; counts it up.
    /// What happened before is told as it was asked for before. `false`: it isn't.
    fn change_webhook(&self, changed: Webhook, at: Timestamp) -> StoreFuture<'_, bool>;

    /// Replaces the secrets, if the revision is still that; counts it up. `false`: it isn't.
    fn change_webhook_secret(&self, changed: Webhook) -> StoreFuture<'_, bool>;

    /// Deletes a webhook with its deliveries.
    fn delete_webhook(&self, id: Uuid) -> StoreFuture<'_, ()>;

    /// What a webhook was and is to be told, latest first.
    fn deliveries(&self, filter: DeliveryFilter) -> StoreFuture<'_, Vec<Delivery>>;

    /// What happened from there on is to be delivered, also again; how much that is.
    fn replay(&self, replay: Replay) -> StoreFuture<'_, u64>;

    /// Takes the lease of each webhook that is told and that nobody else holds, and renews those one has: all
    /// that are held then.
    fn lease_webhooks(&self, lease: Lease) -> StoreFuture<'_, Vec<Webhook>>;

    /// Gives all leases of that holder back.
    fn release_webhooks(&self, holder: Uuid) -> StoreFuture<'_, ()>;

    /// Makes deliveries of the events up to there. `false`: the lease is somebody else's now.
    fn take_events(&self, take: TakeEvents) -> StoreFuture<'_, bool>;

    /// What is still to be delivered, oldest first.
    fn pending(
        &self,
        webhook: Uuid,
        after: EventPosition,
        limit: u32,
    ) -> StoreFuture<'_, Vec<Pending>>;

    /// Writes down how a try went; nothing if the lease is somebody else's now.
    fn settle_delivery(&self, tried: Tried) -> StoreFuture<'_, ()>;

    /// Switches a webhook off, unless its lease is somebody else's now.
    fn disable_webhook(
        &self,
        id: Uuid,
        holder: Uuid,
        because: DisabledBecause,
    ) -> StoreFuture<'_, ()>;

    /// An event by its position.
    fn event_at(&self, position: EventPosition) -> StoreFuture<'_, Option<KeptEvent>>;
}

/// What is to be delivered again.
#[derive(Debug, Clone)]
pub struct Replay {
    /// To whom.
    pub webhook: Webhook,
    /// From this event on; `None`: from the oldest that is kept.
    pub from: EventPosition,
    /// That happened then or later.
    pub since: Timestamp,
    /// This one alone.
    pub only: Option<Uuid>,
    /// The present.
    pub at: Timestamp,
}

/// The right to deliver.
#[derive(Debug, Clone, Copy)]
pub struct Lease {
    /// Which process.
    pub holder: Uuid,
    /// The present.
    pub at: Timestamp,
    /// Until when, unless it is renewed.
    pub until: Timestamp,
}

/// Events of which deliveries are to be made.
#[derive(Debug, Clone, Copy)]
pub struct TakeEvents {
    /// For whom.
    pub webhook: Uuid,
    /// By whom.
    pub holder: Uuid,
    /// Up to this one.
    pub to: EventPosition,
    /// The present.
    pub at: Timestamp,
}

/// A try to deliver.
#[derive(Debug, Clone)]
pub struct Tried {
    /// To whom.
    pub webhook: Uuid,
    /// By whom.
    pub holder: Uuid,
    /// Of which event.
    pub position: EventPosition,
    /// When.
    pub at: Timestamp,
    /// What follows from it.
    pub settled: Settled,
    /// The HTTP status it was answered with.
    pub status: Option<u16>,
    /// Why it failed.
    pub error: Option<&'static str>,
}
