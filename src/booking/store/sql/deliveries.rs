//! What webhooks are to be told, and what became of it.

use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{Any, Transaction};
use uuid::Uuid;

use super::webhooks::kinds_text;
use super::{
    SqlStore, error, get, get_number, get_time, get_time_or_null, get_uuid, get_uuid_or_null,
    get_word, micros, word,
};
use crate::booking::admission::{MeetingId, OrganisationId};
use crate::booking::delivery::{Pending, Settled};
use crate::booking::event::EventPosition;
use crate::booking::store::StoreError;
use crate::booking::store::webhooks::{Replay, TakeEvents, Tried};
use crate::booking::webhook::{Delivery, DeliveryFilter, DeliveryState};

/// The lease is checked with the row of the webhook, which stays locked meanwhile.
pub(super) async fn take_events(store: &SqlStore, take: TakeEvents) -> Result<bool, StoreError> {
    let mut transaction = store.begin().await?;
    let row = sqlx::query(
        "UPDATE webhooks SET leased_by = leased_by WHERE id = $1 AND leased_by = $2 AND enabled = 1
         RETURNING id, organisation, kinds, position",
    )
    .bind(take.webhook.to_string())
    .bind(take.holder.to_string())
    .fetch_optional(&mut *transaction)
    .await
    .map_err(error)?;
    let Some(row) = row else {
        return Ok(false);
    };
    make(&mut transaction, &row, take.to, take.at).await?;
    transaction.commit().await.map_err(error)?;
    Ok(true)
}

/// Makes deliveries of the events that the webhook of this row has not had yet, as its row wants them.
pub(super) async fn make(
    transaction: &mut Transaction<'static, Any>,
    webhook: &AnyRow,
    to: EventPosition,
    at: Timestamp,
) -> Result<(), StoreError> {
    let (id, organisation): (String, String) = (get(webhook, "id")?, get(webhook, "organisation")?);
    let (from, kinds): (i64, Option<String>) = (get(webhook, "position")?, get(webhook, "kinds")?);
    sqlx::query(
        "INSERT INTO deliveries (webhook, position, event, kind, meeting, state, attempts, created_at, due_at)
         SELECT $1, e.position, e.id, e.kind, e.meeting, 'pending', 0, $2, $3 FROM events e
         WHERE e.organisation = $4 AND e.position > $5 AND e.position <= $6 AND e.kind <> 'webhook.test'
           AND ($7 IS NULL OR $7 LIKE '%\"' || e.kind || '\"%')
         ON CONFLICT (webhook, position) DO NOTHING",
    )
    .bind(id.clone())
    .bind(micros(at))
    .bind(micros(at))
    .bind(organisation)
    .bind(from)
    .bind(to.0)
    .bind(kinds)
    .execute(&mut **transaction)
    .await
    .map_err(error)?;
    sqlx::query("UPDATE webhooks SET position = $1 WHERE id = $2 AND position < $3")
        .bind(to.0)
        .bind(id)
        .bind(to.0)
        .execute(&mut **transaction)
        .await
        .map(drop)
        .map_err(error)
}

pub(super) async fn replay(store: &SqlStore, replay: Replay) -> Result<u64, StoreError> {
    let webhook = replay.webhook;
    let mut transaction = store.begin().await?;
    let made = sqlx::query(
        "INSERT INTO deliveries (webhook, position, event, kind, meeting, state, attempts, created_at, due_at)
         SELECT $1, e.position, e.id, e.kind, e.meeting, 'pending', 0, $2, $3 FROM events e
         WHERE e.organisation = $4 AND e.position >= $5 AND e.at >= $6
           AND ($7 IS NULL OR e.id = $7) AND ($7 IS NOT NULL OR e.kind <> 'webhook.test')
           AND ($7 IS NOT NULL OR $8 IS NULL OR $8 LIKE '%\"' || e.kind || '\"%')
         ON CONFLICT (webhook, position) DO UPDATE SET state = 'pending', attempts = 0,
             created_at = excluded.created_at, due_at = excluded.due_at, attempted_at = NULL,
             status = NULL, error = NULL",
    )
    .bind(webhook.id.to_string())
    .bind(micros(replay.at))
    .bind(micros(replay.at))
    .bind(webhook.organisation.to_string())
    .bind(replay.from.0)
    .bind(micros(replay.since))
    .bind(replay.only.map(|id| id.to_string()))
    .bind(kinds_text(webhook.kinds.as_deref()))
    .execute(&mut *transaction)
    .await
    .map_err(error)?;
    // By its revision who delivers sees that there is more to do.
    sqlx::query("UPDATE webhooks SET revision = revision + 1 WHERE id = $1")
        .bind(webhook.id.to_string())
        .execute(&mut *transaction)
        .await
        .map_err(error)?;
    transaction.commit().await.map_err(error)?;
    Ok(made.rows_affected())
}

pub(super) async fn pending(
    store: &SqlStore,
    webhook: Uuid,
    after: EventPosition,
    limit: u32,
) -> Result<Vec<Pending>, StoreError> {
    let rows = sqlx::query(
        "SELECT position, meeting, attempts, created_at, due_at FROM deliveries
         WHERE webhook = $1 AND state = 'pending' AND position > $2 ORDER BY position LIMIT $3",
    )
    .bind(webhook.to_string())
    .bind(after.0)
    .bind(i64::from(limit))
    .fetch_all(&store.read)
    .await
    .map_err(error)?;
    let pending = |row: &AnyRow| {
        Ok(Pending {
            position: EventPosition(get(row, "position")?),
            meeting: get_uuid_or_null(row, "meeting")?.map(MeetingId),
            attempts: get_number(row, "attempts")?,
            created_at: get_time(row, "created_at")?,
            due_at: get_time(row, "due_at")?,
        })
    };
    rows.iter().map(pending).collect()
}

pub(super) async fn settle(store: &SqlStore, tried: Tried) -> Result<(), StoreError> {
    let (state, due_at) = match tried.settled {
        Settled::Delivered => (DeliveryState::Delivered, tried.at),
        Settled::Again { due_at } => (DeliveryState::Pending, due_at),
        Settled::GivenUp => (DeliveryState::Failed, tried.at),
    };
    sqlx::query(
        "UPDATE deliveries SET state = $1, due_at = $2, attempted_at = $3, status = $4, error = $5,
             attempts = attempts + 1
         WHERE webhook = $6 AND position = $7 AND state = 'pending'
           AND EXISTS (SELECT 1 FROM webhooks w WHERE w.id = deliveries.webhook AND w.leased_by = $8)",
    )
    .bind(word(&state))
    .bind(micros(due_at))
    .bind(micros(tried.at))
    .bind(tried.status.map(i64::from))
    .bind(tried.error)
    .bind(tried.webhook.to_string())
    .bind(tried.position.0)
    .bind(tried.holder.to_string())
    .execute(&store.write)
    .await
    .map(drop)
    .map_err(error)
}

pub(super) async fn list(
    store: &SqlStore,
    filter: DeliveryFilter,
) -> Result<Vec<Delivery>, StoreError> {
    let rows = sqlx::query(
        "SELECT * FROM deliveries
         WHERE webhook = $1 AND ($2 IS NULL OR state = $2)
           AND ($3 IS NULL OR position < (SELECT d.position FROM deliveries d WHERE d.webhook = $1 AND d.event = $3))
         ORDER BY position DESC LIMIT $4",
    )
    .bind(filter.webhook.to_string())
    .bind(filter.state.map(|state| word(&state)))
    .bind(filter.before.map(|id| id.to_string()))
    .bind(i64::from(filter.limit))
    .fetch_all(&store.read)
    .await
    .map_err(error)?;
    rows.iter().map(delivery).collect()
}

/// Of nobody's webhooks there is nothing.
pub(super) async fn purge(
    store: &SqlStore,
    organisation: Option<OrganisationId>,
    before: Timestamp,
) -> Result<(), StoreError> {
    let Some(owner) = organisation else {
        return Ok(());
    };
    sqlx::query(
        "DELETE FROM deliveries WHERE created_at < $1 AND webhook IN (SELECT id FROM webhooks WHERE organisation = $2)",
    )
    .bind(micros(before))
    .bind(owner.to_string())
    .execute(&store.write)
    .await
    .map(drop)
    .map_err(error)
}

fn delivery(row: &AnyRow) -> Result<Delivery, StoreError> {
    let status: Option<i64> = get(row, "status")?;
    Ok(Delivery {
        position: EventPosition(get(row, "position")?),
        event: get_uuid(row, "event")?,
        kind: get_word(row, "kind")?,
        meeting: get_uuid_or_null(row, "meeting")?.map(MeetingId),
        state: get_word(row, "state")?,
        attempts: get_number(row, "attempts")?,
        created_at: get_time(row, "created_at")?,
        due_at: get_time(row, "due_at")?,
        attempted_at: get_time_or_null(row, "attempted_at")?,
        status: status.and_then(|status| u16::try_from(status).ok()),
        error: get(row, "error")?,
    })
}
