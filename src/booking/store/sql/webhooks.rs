//! Webhooks: who is told what, and who tells it.

use jiff::Timestamp;
use sqlx::any::AnyRow;
use uuid::Uuid;

use super::{
    SqlStore, deliveries, error, events, get, get_time, get_time_or_null, get_uuid, micros,
    unreadable, word,
};
use crate::booking::admission::OrganisationId;
use crate::booking::delivery::Pending;
use crate::booking::event::{EventKind, EventPosition, KeptEvent};
use crate::booking::store::webhooks::{Lease, Replay, TakeEvents, Tried, WebhookStore};
use crate::booking::store::{StoreError, StoreFuture};
use crate::booking::webhook::{Delivery, DeliveryFilter, DisabledBecause, Webhook, WebhookSecret};

impl WebhookStore for SqlStore {
    fn new_webhook(&self, webhook: Webhook) -> StoreFuture<'_, ()> {
        self.bounded(insert(self, webhook))
    }

    fn webhooks(&self, organisation: Option<OrganisationId>) -> StoreFuture<'_, Vec<Webhook>> {
        self.bounded(list(self, organisation))
    }

    fn webhook(&self, id: Uuid) -> StoreFuture<'_, Option<Webhook>> {
        self.bounded(by_id(self, id))
    }

    fn change_webhook(&self, changed: Webhook, at: Timestamp) -> StoreFuture<'_, bool> {
        self.bounded(change(self, changed, at))
    }

    fn change_webhook_secret(&self, changed: Webhook) -> StoreFuture<'_, bool> {
        self.bounded(change_secret(self, changed))
    }

    fn delete_webhook(&self, id: Uuid) -> StoreFuture<'_, ()> {
        self.bounded(delete(self, id))
    }

    fn deliveries(&self, filter: DeliveryFilter) -> StoreFuture<'_, Vec<Delivery>> {
        self.bounded(deliveries::list(self, filter))
    }

    fn replay(&self, replay: Replay) -> StoreFuture<'_, u64> {
        self.bounded(deliveries::replay(self, replay))
    }

    fn lease_webhooks(&self, lease: Lease) -> StoreFuture<'_, Vec<Webhook>> {
        self.bounded(take_leases(self, lease))
    }

    fn release_webhooks(&self, holder: Uuid) -> StoreFuture<'_, ()> {
        self.bounded(release(self, holder))
    }

    fn take_events(&self, take: TakeEvents) -> StoreFuture<'_, bool> {
        self.bounded(deliveries::take_events(self, take))
    }

    fn pending(
        &self,
        webhook: Uuid,
        after: EventPosition,
        limit: u32,
    ) -> StoreFuture<'_, Vec<Pending>> {
        self.bounded(deliveries::pending(self, webhook, after, limit))
    }

    fn settle_delivery(&self, tried: Tried) -> StoreFuture<'_, ()> {
        self.bounded(deliveries::settle(self, tried))
    }

    fn disable_webhook(
        &self,
        id: Uuid,
        holder: Uuid,
        because: DisabledBecause,
    ) -> StoreFuture<'_, ()> {
        self.bounded(disable(self, id, holder, because))
    }

    fn event_at(&self, position: EventPosition) -> StoreFuture<'_, Option<KeptEvent>> {
        self.bounded(events::at(self, position))
    }
}

async fn insert(store: &SqlStore, webhook: Webhook) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO webhooks (id, organisation, url, kinds, enabled, secret, created_at, revision, position)
         VALUES ($1, $2, $3, $4, $5, $6, $7, 1, COALESCE((SELECT last FROM event_counter WHERE id = 1), 0))",
    )
    .bind(webhook.id.to_string())
    .bind(webhook.organisation.to_string())
    .bind(webhook.url)
    .bind(kinds_text(webhook.kinds.as_deref()))
    .bind(i64::from(webhook.enabled))
    .bind(webhook.secret.expose())
    .bind(micros(webhook.created_at))
    .execute(&store.write)
    .await
    .map(drop)
    .map_err(error)
}

async fn list(
    store: &SqlStore,
    organisation: Option<OrganisationId>,
) -> Result<Vec<Webhook>, StoreError> {
    let rows = sqlx::query(
        "SELECT w.*, o.name AS organisation_name FROM webhooks w JOIN organisations o ON o.id = w.organisation
         WHERE ($1 IS NULL OR w.organisation = $1) ORDER BY w.created_at, w.id",
    )
    .bind(organisation.map(|id| id.to_string()))
    .fetch_all(&store.read)
    .await
    .map_err(error)?;
    rows.iter().map(webhook).collect()
}

async fn by_id(store: &SqlStore, id: Uuid) -> Result<Option<Webhook>, StoreError> {
    let row = sqlx::query(
        "SELECT w.*, o.name AS organisation_name FROM webhooks w JOIN organisations o ON o.id = w.organisation
         WHERE w.id = $1",
    )
    .bind(id.to_string())
    .fetch_optional(&store.read)
    .await
    .map_err(error)?;
    row.as_ref().map(webhook).transpose()
}

/// What happened until now is told as it was asked for until now.
async fn change(store: &SqlStore, changed: Webhook, at: Timestamp) -> Result<bool, StoreError> {
    let mut transaction = store.begin().await?;
    let row = sqlx::query(
        "UPDATE webhooks SET revision = revision + 1 WHERE id = $1 AND revision = $2
         RETURNING id, organisation, kinds, position, enabled",
    )
    .bind(changed.id.to_string())
    .bind(changed.revision)
    .fetch_optional(&mut *transaction)
    .await
    .map_err(error)?;
    let Some(row) = row else {
        return Ok(false);
    };
    let last = events::last_in(&mut transaction).await?;
    if get::<i64>(&row, "enabled")? != 0 {
        deliveries::make(&mut transaction, &row, last, at).await?;
    }
    let sql = "UPDATE webhooks SET url = $1, kinds = $2, enabled = $3, position = $4, disabled_because = $6 WHERE id = $5";
    sqlx::query(sql)
        .bind(changed.url)
        .bind(kinds_text(changed.kinds.as_deref()))
        .bind(i64::from(changed.enabled))
        .bind(last.0)
        .bind(changed.id.to_string())
        .bind(changed.disabled_because.map(|because| word(&because)))
        .execute(&mut *transaction)
        .await
        .map_err(error)?;
    transaction.commit().await.map_err(error)?;
    Ok(true)
}

async fn change_secret(store: &SqlStore, changed: Webhook) -> Result<bool, StoreError> {
    let (former, until) = changed.former_secret.unzip();
    let sql = "UPDATE webhooks SET secret = $1, former_secret = $2, former_until = $3, revision = revision + 1
               WHERE id = $4 AND revision = $5";
    let done = sqlx::query(sql)
        .bind(changed.secret.expose())
        .bind(former.map(|secret| secret.expose()))
        .bind(until.map(micros))
        .bind(changed.id.to_string())
        .bind(changed.revision)
        .execute(&store.write)
        .await
        .map_err(error)?;
    Ok(done.rows_affected() > 0)
}

/// What was not told yet stays to be told, should somebody switch it on again.
async fn disable(
    store: &SqlStore,
    id: Uuid,
    holder: Uuid,
    because: DisabledBecause,
) -> Result<(), StoreError> {
    let sql = "UPDATE webhooks SET enabled = 0, disabled_because = $1, revision = revision + 1
               WHERE id = $2 AND leased_by = $3 AND enabled = 1";
    let query = sqlx::query(sql)
        .bind(word(&because))
        .bind(id.to_string())
        .bind(holder.to_string());
    query.execute(&store.write).await.map(drop).map_err(error)
}

async fn delete(store: &SqlStore, id: Uuid) -> Result<(), StoreError> {
    let mut transaction = store.begin().await?;
    for sql in [
        "DELETE FROM deliveries WHERE webhook = $1",
        "DELETE FROM webhooks WHERE id = $1",
    ] {
        let delete = sqlx::query(sql).bind(id.to_string());
        delete.execute(&mut *transaction).await.map_err(error)?;
    }
    transaction.commit().await.map_err(error)
}

async fn take_leases(store: &SqlStore, lease: Lease) -> Result<Vec<Webhook>, StoreError> {
    let holder = lease.holder.to_string();
    sqlx::query(
        "UPDATE webhooks SET leased_by = $1, leased_until = $2
         WHERE enabled = 1 AND (leased_by IS NULL OR leased_by = $3 OR leased_until < $4)",
    )
    .bind(holder.clone())
    .bind(micros(lease.until))
    .bind(holder.clone())
    .bind(micros(lease.at))
    .execute(&store.write)
    .await
    .map_err(error)?;
    // From where it was written: a standby or an older snapshot may not know yet.
    let rows = sqlx::query(
        "SELECT w.*, o.name AS organisation_name FROM webhooks w JOIN organisations o ON o.id = w.organisation
         WHERE w.enabled = 1 AND w.leased_by = $1",
    )
    .bind(holder)
    .fetch_all(&store.write)
    .await
    .map_err(error)?;
    rows.iter().map(webhook).collect()
}

async fn release(store: &SqlStore, holder: Uuid) -> Result<(), StoreError> {
    let sql = "UPDATE webhooks SET leased_by = NULL, leased_until = NULL WHERE leased_by = $1";
    let query = sqlx::query(sql).bind(holder.to_string());
    query.execute(&store.write).await.map(drop).map_err(error)
}

fn webhook(row: &AnyRow) -> Result<Webhook, StoreError> {
    let kinds: Option<String> = get(row, "kinds")?;
    let kinds = kinds
        .map(|text| serde_json::from_str::<Vec<EventKind>>(&text))
        .transpose()
        .map_err(|_| unreadable("kinds"))?;
    let secret: String = get(row, "secret")?;
    let former_secret: Option<String> = get(row, "former_secret")?;
    let disabled_because: Option<String> = get(row, "disabled_because")?;
    Ok(Webhook {
        id: get_uuid(row, "id")?,
        organisation: OrganisationId(get_uuid(row, "organisation")?),
        organisation_name: get(row, "organisation_name")?,
        url: get(row, "url")?,
        kinds,
        enabled: get::<i64>(row, "enabled")? != 0,
        disabled_because: disabled_because
            .map(|word| serde_json::from_value(serde_json::Value::String(word)))
            .transpose()
            .map_err(|_| unreadable("disabled_because"))?,
        secret: WebhookSecret::parse(&secret).ok_or_else(|| unreadable("secret"))?,
        former_secret: former_secret
            .and_then(|text| WebhookSecret::parse(&text))
            .zip(get_time_or_null(row, "former_until")?),
        created_at: get_time(row, "created_at")?,
        revision: get(row, "revision")?,
        position: EventPosition(get(row, "position")?),
    })
}

/// A JSON list: each word stands in quotes, by which `deliveries` finds it.
pub(super) fn kinds_text(kinds: Option<&[EventKind]>) -> Option<String> {
    let words: Vec<String> = kinds?
        .iter()
        .map(|kind| format!("\"{}\"", kind.word()))
        .collect();
    Some(format!("[{}]", words.join(",")))
}
