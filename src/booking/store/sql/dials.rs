//! Calls that were begun to people: how many may be, however many ask at once.

use jiff::{SignedDuration, Timestamp};

use super::{Dialect, SqlStore, error, get, get_number, micros};
use crate::booking::admission::CallId;
use crate::booking::store::{DialClaim, DialTurn, StoreError};

/// Who asks for the same organisation at the same time waits until this transaction ends.
pub(super) async fn claim(store: &SqlStore, claim: DialClaim) -> Result<DialTurn, StoreError> {
    let owner = claim.organisation.to_string();
    let mut transaction = store.begin().await?;
    let sql = match store.dialect {
        // The transaction has the write lock already.
        Dialect::Sqlite => "SELECT id FROM organisations WHERE id = $1",
        Dialect::Postgres(_) => "SELECT id FROM organisations WHERE id = $1 FOR UPDATE",
    };
    sqlx::query(sql)
        .bind(owner.clone())
        .fetch_optional(&mut *transaction)
        .await
        .map_err(error)?;
    let hour_ago = claim.at.saturating_sub(HOUR).unwrap_or(Timestamp::MIN);
    let row = sqlx::query(
        "SELECT COUNT(CASE WHEN counts_until > $2 THEN 1 END) AS going_on,
             COUNT(CASE WHEN begun_at > $3 THEN 1 END) AS within_hour,
             MIN(CASE WHEN begun_at > $3 THEN begun_at END) AS first_at
         FROM dials WHERE organisation = $1",
    )
    .bind(owner.clone())
    .bind(micros(claim.at))
    .bind(micros(hour_ago))
    .fetch_one(&mut *transaction)
    .await
    .map_err(error)?;
    if get_number::<u64>(&row, "going_on")? >= u64::from(claim.at_once_max) {
        return Ok(DialTurn::AtOnce);
    }
    if get_number::<u64>(&row, "within_hour")? >= u64::from(claim.per_hour_max) {
        let first_at: Option<i64> = get(&row, "first_at")?;
        let first_at = first_at.and_then(|at| Timestamp::from_microsecond(at).ok());
        return Ok(DialTurn::PerHour { first_at });
    }
    sqlx::query(
        "INSERT INTO dials (id, organisation, begun_at, counts_until) VALUES ($1, $2, $3, $4)",
    )
    .bind(claim.call.to_string())
    .bind(owner)
    .bind(micros(claim.at))
    .bind(micros(claim.counts_until))
    .execute(&mut *transaction)
    .await
    .map_err(error)?;
    transaction.commit().await.map_err(error)?;
    Ok(DialTurn::Granted)
}

/// They still go on.
pub(super) async fn extend(
    store: &SqlStore,
    calls: Vec<CallId>,
    until: Timestamp,
) -> Result<(), StoreError> {
    for call in calls {
        sqlx::query("UPDATE dials SET counts_until = $1 WHERE id = $2 AND counts_until > 0")
            .bind(micros(until))
            .bind(call.to_string())
            .execute(&store.write)
            .await
            .map_err(error)?;
    }
    Ok(())
}

/// It is over; it still counts for its hour.
pub(super) async fn end(store: &SqlStore, call: CallId) -> Result<(), StoreError> {
    change(
        store,
        "UPDATE dials SET counts_until = 0 WHERE id = $1",
        call,
    )
    .await
}

/// It was never begun.
pub(super) async fn release(store: &SqlStore, call: CallId) -> Result<(), StoreError> {
    change(store, "DELETE FROM dials WHERE id = $1", call).await
}

pub(super) async fn purge(store: &SqlStore, before: Timestamp) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM dials WHERE begun_at < $1 AND counts_until < $1")
        .bind(micros(before))
        .execute(&store.write)
        .await
        .map(drop)
        .map_err(error)
}

async fn change(store: &SqlStore, sql: &'static str, call: CallId) -> Result<(), StoreError> {
    sqlx::query(sql)
        .bind(call.to_string())
        .execute(&store.write)
        .await
        .map(drop)
        .map_err(error)
}

const HOUR: SignedDuration = SignedDuration::from_hours(1);
