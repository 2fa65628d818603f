//! Webhooks: made, read, changed, tried out, replayed; and what whoever delivers needs.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{BookingError, Bookings, new_id};
use crate::booking::change::{Change, FieldError};
use crate::booking::delivery::Pending;
use crate::booking::event::{Event, EventKind, EventPosition, KeptEvent};
use crate::booking::key::{ApiKey, KeyRole, Organisation};
use crate::booking::store::StoreError;
use crate::booking::store::webhooks::{Lease, Replay, TakeEvents, Tried};
use crate::booking::webhook::{Delivery, DeliveryFilter, DisabledBecause, Webhook, WebhookSecret};

/// A webhook as it is asked for, or what to change of it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WebhookChange {
    /// Where to.
    pub url: Change<String>,
    /// Of what; null: of everything.
    pub kinds: Change<Value>,
    /// Is he told?
    pub enabled: Change<bool>,
}

/// From where on a webhook is told again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayFrom {
    /// This event.
    Event(Uuid),
    /// What happened then or later.
    Time(Timestamp),
}

impl Bookings {
    /// Makes a webhook, which is told of what happens from now on.
    ///
    /// # Errors
    /// [`BookingError::Invalid`], [`BookingError::TooManyWebhooks`], or the store's.
    pub async fn create_webhook(
        &self,
        now: Timestamp,
        owner: Organisation,
        asked: WebhookChange,
    ) -> Result<Webhook, BookingError> {
        let blank = Webhook {
            id: new_id(now)?,
            organisation: owner.id,
            organisation_name: owner.name,
            url: String::new(),
            kinds: None,
            enabled: true,
            disabled_because: None,
            secret: WebhookSecret::generate()?,
            former_secret: None,
            created_at: crate::booking::meeting::kept(now),
            revision: 1,
            position: EventPosition::default(),
        };
        let webhook = self.changed(blank, asked)?;
        let have = self.store().webhooks(Some(owner.id)).await?.len();
        if have >= WEBHOOKS_MAX {
            return Err(BookingError::TooManyWebhooks);
        }
        self.store().new_webhook(webhook.clone()).await?;
        self.inner.events.webhooks_changed.notify_one();
        Ok(webhook)
    }

    /// The webhooks that this key may see, oldest first; of all organisations for a platform key.
    ///
    /// # Errors
    /// The store's.
    pub async fn list_webhooks(
        &self,
        organisation: Option<&Organisation>,
    ) -> Result<Vec<Webhook>, BookingError> {
        let organisation = organisation.map(|organisation| organisation.id);
        Ok(self.store().webhooks(organisation).await?)
    }

    /// A webhook that this key may see.
    ///
    /// # Errors
    /// [`BookingError::NotFound`], or the store's.
    pub async fn webhook(&self, key: &ApiKey, id: Uuid) -> Result<Webhook, BookingError> {
        let found = self.store().webhook(id).await?;
        let sees = |webhook: &Webhook| {
            key.role == KeyRole::Platform || webhook.organisation == key.organisation.id
        };
        found.filter(sees).ok_or(BookingError::NotFound)
    }

    /// Changes what is asked of a webhook and keeps the rest.
    ///
    /// # Errors
    /// [`BookingError::Invalid`], [`BookingError::Changed`], or the store's.
    pub async fn patch_webhook(
        &self,
        now: Timestamp,
        webhook: Webhook,
        asked: WebhookChange,
    ) -> Result<Webhook, BookingError> {
        let mut changed = self.changed(webhook, asked)?;
        if !self.store().change_webhook(changed.clone(), now).await? {
            return Err(BookingError::Changed);
        }
        changed.revision += 1;
        self.inner.events.webhooks_changed.notify_one();
        Ok(changed)
    }

    /// Gives a webhook a new secret; for a while messages are signed with the old one too, so that its receiver can
    /// change in his own time.
    ///
    /// # Errors
    /// [`BookingError::Changed`], or the store's.
    pub async fn rotate_webhook_secret(
        &self,
        now: Timestamp,
        webhook: Webhook,
        grace: SignedDuration,
    ) -> Result<Webhook, BookingError> {
        let until = now.saturating_add(grace).unwrap_or(now);
        let former = (webhook.secret.clone(), crate::booking::meeting::kept(until));
        let mut changed = Webhook {
            secret: WebhookSecret::generate()?,
            former_secret: Some(former).filter(|_| until > now),
            ..webhook
        };
        if !self.store().change_webhook_secret(changed.clone()).await? {
            return Err(BookingError::Changed);
        }
        changed.revision += 1;
        self.inner.events.webhooks_changed.notify_one();
        Ok(changed)
    }

    /// Deletes a webhook with what it was told.
    ///
    /// # Errors
    /// The store's.
    pub async fn delete_webhook(&self, webhook: Webhook) -> Result<(), BookingError> {
        self.store().delete_webhook(webhook.id).await?;
        self.inner.events.webhooks_changed.notify_one();
        Ok(())
    }

    /// Tells this webhook alone an event that is none, to see whether it works; the event's id.
    ///
    /// # Errors
    /// The store's.
    pub async fn test_webhook(
        &self,
        now: Timestamp,
        webhook: Webhook,
    ) -> Result<Uuid, BookingError> {
        let id = new_id(now)?;
        let event = Event {
            id,
            kind: EventKind::WebhookTest,
            at: now,
            organisation: Some(webhook.organisation),
            meeting: None,
            data: json!({"webhook_id": webhook.id.to_string()}),
        };
        self.keep_events(vec![event]).await?;
        let replay = Replay {
            webhook,
            from: EventPosition::default(),
            since: Timestamp::MIN,
            only: Some(id),
            at: now,
        };
        self.store().replay(replay).await?;
        self.inner.events.webhooks_changed.notify_one();
        Ok(id)
    }

    /// Tells a webhook again what happened from there on, as far as it is kept; how much that is.
    ///
    /// # Errors
    /// [`BookingError::NotFound`] where there is no such event, or the store's.
    pub async fn replay_webhook(
        &self,
        now: Timestamp,
        webhook: Webhook,
        from: ReplayFrom,
    ) -> Result<u64, BookingError> {
        let owner = Some(webhook.organisation);
        let (from, since) = match from {
            ReplayFrom::Time(since) => (EventPosition::default(), since),
            ReplayFrom::Event(id) => {
                let found = self.store().event_position(id, owner, Timestamp::MIN);
                (found.await?.ok_or(BookingError::NotFound)?, Timestamp::MIN)
            }
        };
        let replay = Replay {
            webhook,
            from,
            since,
            only: None,
            at: now,
        };
        let how_many = self.store().replay(replay).await?;
        self.inner.events.webhooks_changed.notify_one();
        Ok(how_many)
    }

    /// What a webhook was and is to be told, latest first, and whether there is more.
    ///
    /// # Errors
    /// The store's.
    pub async fn list_deliveries(
        &self,
        mut filter: DeliveryFilter,
    ) -> Result<(Vec<Delivery>, bool), BookingError> {
        let limit = filter.limit as usize;
        filter.limit = filter.limit.saturating_add(1);
        let mut deliveries = self.store().deliveries(filter).await?;
        let more = deliveries.len() > limit;
        deliveries.truncate(limit);
        Ok((deliveries, more))
    }

    /// Waits until somebody on this node has changed something about webhooks.
    pub async fn webhooks_changed(&self) {
        self.inner.events.webhooks_changed.notified().await;
    }

    /// The webhooks that this process delivers to from now on, for [`LEASE`].
    ///
    /// # Errors
    /// The store's.
    pub async fn lease_webhooks(
        &self,
        now: Timestamp,
        holder: Uuid,
    ) -> Result<Vec<Webhook>, StoreError> {
        let until = now.saturating_add(LEASE).unwrap_or(Timestamp::MAX);
        let lease = Lease {
            holder,
            at: now,
            until,
        };
        self.store().lease_webhooks(lease).await
    }

    /// Another process may deliver now.
    ///
    /// # Errors
    /// The store's.
    pub async fn release_webhooks(&self, holder: Uuid) -> Result<(), StoreError> {
        self.store().release_webhooks(holder).await
    }

    /// Makes deliveries of events. `false`: somebody else delivers now.
    ///
    /// # Errors
    /// The store's.
    pub async fn take_events(&self, take: TakeEvents) -> Result<bool, StoreError> {
        self.store().take_events(take).await
    }

    /// What is still to be delivered, oldest first.
    ///
    /// # Errors
    /// The store's.
    pub async fn pending_deliveries(
        &self,
        webhook: Uuid,
        after: EventPosition,
        limit: u32,
    ) -> Result<Vec<Pending>, StoreError> {
        self.store().pending(webhook, after, limit).await
    }

    /// Writes down how a try went.
    ///
    /// # Errors
    /// The store's.
    pub async fn settle_delivery(&self, tried: Tried) -> Result<(), StoreError> {
        let settled = tried.settled;
        self.store().settle_delivery(tried).await?;
        self.inner.events.count_try(settled);
        Ok(())
    }

    /// The receiver wants no more: nothing is told until somebody switches it on again.
    ///
    /// # Errors
    /// The store's.
    pub async fn webhook_is_gone(&self, webhook: Uuid, holder: Uuid) -> Result<(), StoreError> {
        let because = DisabledBecause::Gone;
        self.store().disable_webhook(webhook, holder, because).await
    }

    /// An event by its position.
    ///
    /// # Errors
    /// The store's.
    pub async fn event_at(&self, position: EventPosition) -> Result<Option<KeptEvent>, StoreError> {
        self.store().event_at(position).await
    }

    fn changed(&self, base: Webhook, asked: WebhookChange) -> Result<Webhook, BookingError> {
        let mut wrong = Vec::new();
        let url = match asked.url {
            Change::Set(url) => self.settings().reach.read(&url).map(|_| url),
            Change::Keep if !base.url.is_empty() => Ok(base.url),
            Change::Keep | Change::Clear => Err(FieldError::new("url", "required", "is required")),
        };
        let kinds = match asked.kinds {
            Change::Set(value) => read_kinds(value).map(Some),
            Change::Clear => Ok(None),
            Change::Keep => Ok(base.kinds),
        };
        let url = url.map_err(|error| wrong.push(error));
        let kinds = kinds.map_err(|error| wrong.push(error));
        let (Ok(url), Ok(kinds)) = (url, kinds) else {
            return Err(BookingError::Invalid(wrong));
        };
        let (enabled, disabled_because) = match asked.enabled {
            Change::Set(enabled) => (enabled, None),
            Change::Clear => (true, None),
            Change::Keep => (base.enabled, base.disabled_because),
        };
        Ok(Webhook {
            url,
            kinds,
            enabled,
            disabled_because,
            ..base
        })
    }
}

fn read_kinds(value: Value) -> Result<Vec<EventKind>, FieldError> {
    let wrong = || {
        let words: Vec<&str> = EventKind::ALL.iter().map(|kind| kind.word()).collect();
        let must = format!("must be a list of {}, or null for all", words.join(", "));
        FieldError::new("types", "invalid", must)
    };
    let mut kinds: Vec<EventKind> = serde_json::from_value(value).map_err(|_| wrong())?;
    kinds.sort_unstable_by_key(|kind| kind.word());
    kinds.dedup();
    let all_known = kinds.iter().all(|kind| EventKind::ALL.contains(kind));
    if kinds.is_empty() || !all_known {
        return Err(wrong());
    }
    Ok(kinds)
}

/// How long a process that says nothing more keeps others from delivering.
pub const LEASE: SignedDuration = SignedDuration::from_secs(15);
/// Most webhooks of an organisation.
const WEBHOOKS_MAX: usize = 20;
