//! Answers kept for those who ask again with the same `Idempotency-Key`.

use jiff::Timestamp;

use super::{SqlStore, error, get, micros};
use crate::booking::store::{AnswerClaim, AnswerTurn, Conflict, StoreError};

/// An expired or abandoned claim of the same name gives way; of two who come at once one is first.
pub(super) async fn claim(store: &SqlStore, claim: AnswerClaim) -> Result<AnswerTurn, StoreError> {
    let (key, at) = (claim.key.to_string(), micros(claim.created_at));
    sqlx::query(
        "DELETE FROM answers WHERE api_key = $1 AND name = $2
         AND (created_at <= $3 OR (sealed IS NULL AND created_at <= $4))",
    )
    .bind(key.clone())
    .bind(claim.name.clone())
    .bind(micros(claim.expired_before()))
    .bind(micros(claim.abandoned_before()))
    .execute(&store.write)
    .await
    .map_err(error)?;
    let inserted = sqlx::query(
        "INSERT INTO answers (api_key, name, request, created_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (api_key, name) DO NOTHING",
    )
    .bind(key.clone())
    .bind(claim.name.clone())
    .bind(claim.request.clone())
    .bind(at)
    .execute(&store.write)
    .await
    .map_err(error)?;
    if inserted.rows_affected() > 0 {
        return Ok(AnswerTurn::First);
    }
    let row = sqlx::query("SELECT request, sealed FROM answers WHERE api_key = $1 AND name = $2")
        .bind(key)
        .bind(claim.name)
        .fetch_optional(&store.write)
        .await
        .map_err(error)?
        .ok_or(StoreError::Conflict(Conflict::Claim))?;
    let (request, sealed): (String, Option<String>) = (get(&row, "request")?, get(&row, "sealed")?);
    Ok(if request == claim.request {
        sealed.map_or(AnswerTurn::InFlight, AnswerTurn::Answered)
    } else {
        AnswerTurn::OtherRequest
    })
}

pub(super) async fn keep(
    store: &SqlStore,
    claim: AnswerClaim,
    sealed: String,
) -> Result<(), StoreError> {
    let sql = "UPDATE answers SET sealed = $4 WHERE api_key = $1 AND name = $2 AND created_at = $3";
    sqlx::query(sql)
        .bind(claim.key.to_string())
        .bind(claim.name)
        .bind(micros(claim.created_at))
        .bind(sealed)
        .execute(&store.write)
        .await
        .map(drop)
        .map_err(error)
}

pub(super) async fn release(store: &SqlStore, claim: AnswerClaim) -> Result<(), StoreError> {
    let sql = "DELETE FROM answers WHERE api_key = $1 AND name = $2 AND created_at = $3";
    sqlx::query(sql)
        .bind(claim.key.to_string())
        .bind(claim.name)
        .bind(micros(claim.created_at))
        .execute(&store.write)
        .await
        .map(drop)
        .map_err(error)
}

pub(super) async fn purge(store: &SqlStore, before: Timestamp) -> Result<(), StoreError> {
    let delete = sqlx::query("DELETE FROM answers WHERE created_at < $1").bind(micros(before));
    delete.execute(&store.write).await.map(drop).map_err(error)
}
