//! The audit trail.

use jiff::Timestamp;
use sqlx::any::AnyRow;

use super::{
    SqlStore, error, get, get_number, get_time, get_uuid, get_uuid_or_null, get_word, micros, word,
};
use crate::booking::admission::OrganisationId;
use crate::booking::audit::{AuditEntry, AuditFilter, Deed};
use crate::booking::store::{PURGE_BATCH, StoreError};

pub(super) async fn insert(store: &SqlStore, entry: AuditEntry) -> Result<(), StoreError> {
    let deed = entry.deed;
    sqlx::query(
        "INSERT INTO audit (id, at, organisation, api_key, role, action, subject, status)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(entry.id.to_string())
    .bind(micros(entry.at))
    .bind(deed.organisation.map(|id| id.to_string()))
    .bind(deed.key.to_string())
    .bind(word(&deed.role))
    .bind(deed.action)
    .bind(deed.subject)
    .bind(i64::from(deed.status))
    .execute(&store.write)
    .await
    .map(drop)
    .map_err(error)
}

pub(super) async fn list(
    store: &SqlStore,
    filter: AuditFilter,
) -> Result<Vec<AuditEntry>, StoreError> {
    let (after_at, after_id) = filter
        .after
        .map(|(at, id)| (micros(at), id.to_string()))
        .unzip();
    let rows = sqlx::query(
        "SELECT * FROM audit
         WHERE ($1 IS NULL OR organisation = $1)
           AND ($2 IS NULL OR at >= $2)
           AND ($3 IS NULL OR at < $3)
           AND ($4 IS NULL OR at < $4 OR (at = $4 AND id < $5))
         ORDER BY at DESC, id DESC LIMIT $6",
    )
    .bind(filter.organisation.map(|id| id.to_string()))
    .bind(filter.from.map(micros))
    .bind(filter.to.map(micros))
    .bind(after_at)
    .bind(after_id)
    .bind(i64::from(filter.limit))
    .fetch_all(&store.read)
    .await
    .map_err(error)?;
    rows.iter().map(entry).collect()
}

pub(super) async fn purge(
    store: &SqlStore,
    organisation: Option<OrganisationId>,
    before: Timestamp,
) -> Result<u64, StoreError> {
    let sql = match organisation {
        Some(_) => {
            "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < $1 AND organisation = $3 LIMIT $2)"
        }
        None => {
            "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < $1 AND organisation IS NULL LIMIT $2)"
        }
    };
    let query = sqlx::query(sql)
        .bind(micros(before))
        .bind(PURGE_BATCH.cast_signed());
    let query = match organisation {
        Some(owner) => query.bind(owner.to_string()),
        None => query,
    };
    query
        .execute(&store.write)
        .await
        .map(|done| done.rows_affected())
        .map_err(error)
}

fn entry(row: &AnyRow) -> Result<AuditEntry, StoreError> {
    Ok(AuditEntry {
        id: get_uuid(row, "id")?,
        at: get_time(row, "at")?,
        deed: Deed {
            organisation: get_uuid_or_null(row, "organisation")?.map(OrganisationId),
            key: get_uuid(row, "api_key")?,
            role: get_word(row, "role")?,
            action: get(row, "action")?,
            subject: get(row, "subject")?,
            status: get_number(row, "status")?,
        },
    })
}
