//! Organisations, API keys and remembered `Idempotency-Key`s.

use jiff::Timestamp;
use sqlx::any::AnyRow;
use uuid::Uuid;

use super::{
    SqlStore, error, get, get_time, get_time_or_null, get_uuid, get_word, micros, unreadable, word,
};
use crate::booking::admission::{MeetingId, OrganisationId};
use crate::booking::key::{ApiKey, Organisation, Scope};
use crate::booking::store::{Claim, StoreError};

pub(super) async fn organisation(
    store: &SqlStore,
    name: String,
) -> Result<Option<Organisation>, StoreError> {
    let query = sqlx::query("SELECT id, name FROM organisations WHERE name = $1").bind(name);
    let row = query.fetch_optional(&store.read).await.map_err(error)?;
    row.as_ref().map(owner).transpose()
}

pub(super) async fn organisations(store: &SqlStore) -> Result<Vec<Organisation>, StoreError> {
    let query = sqlx::query("SELECT id, name FROM organisations ORDER BY name");
    let rows = query.fetch_all(&store.read).await.map_err(error)?;
    rows.iter().map(owner).collect()
}

pub(super) async fn organisation_or_new(
    store: &SqlStore,
    now: Timestamp,
    new: Organisation,
) -> Result<Organisation, StoreError> {
    let sql = "INSERT INTO organisations (id, name, created_at) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING";
    let insert = sqlx::query(sql)
        .bind(new.id.to_string())
        .bind(&new.name)
        .bind(micros(now));
    insert.execute(&store.write).await.map_err(error)?;
    let missing = || StoreError::Unavailable("an organisation vanished".to_owned());
    organisation(store, new.name).await?.ok_or_else(missing)
}

pub(super) async fn insert(store: &SqlStore, key: ApiKey, hash: String) -> Result<(), StoreError> {
    let scopes: Vec<&str> = key.scopes.iter().map(|scope| scope.word()).collect();
    sqlx::query(
        "INSERT INTO api_keys (id, organisation, role, scopes, prefix, hash, created_at, expires_at, revoked_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(key.id.to_string())
    .bind(key.organisation.id.to_string())
    .bind(word(&key.role))
    .bind(scopes.join(" "))
    .bind(key.prefix)
    .bind(hash)
    .bind(micros(key.created_at))
    .bind(key.expires_at.map(micros))
    .bind(key.revoked_at.map(micros))
    .execute(&store.write)
    .await
    .map(drop)
    .map_err(error)
}

pub(super) async fn by_prefix(
    store: &SqlStore,
    prefix: String,
) -> Result<Option<(ApiKey, String)>, StoreError> {
    let sql = "SELECT k.*, o.name AS organisation_name FROM api_keys k
               JOIN organisations o ON o.id = k.organisation WHERE k.prefix = $1";
    let row = sqlx::query(sql)
        .bind(prefix)
        .fetch_optional(&store.read)
        .await
        .map_err(error)?;
    row.map(|row| Ok((key(&row)?, get(&row, "hash")?)))
        .transpose()
}

pub(super) async fn by_id(store: &SqlStore, id: Uuid) -> Result<Option<ApiKey>, StoreError> {
    let sql = "SELECT k.*, o.name AS organisation_name FROM api_keys k
               JOIN organisations o ON o.id = k.organisation WHERE k.id = $1";
    let query = sqlx::query(sql).bind(id.to_string());
    let row = query.fetch_optional(&store.read).await.map_err(error)?;
    row.as_ref().map(key).transpose()
}

pub(super) async fn expire(store: &SqlStore, at: Timestamp, id: Uuid) -> Result<(), StoreError> {
    let sql = "UPDATE api_keys SET expires_at = $2 WHERE id = $1 AND (expires_at IS NULL OR expires_at > $2)";
    sqlx::query(sql)
        .bind(id.to_string())
        .bind(micros(at))
        .execute(&store.write)
        .await
        .map(drop)
        .map_err(error)
}

pub(super) async fn all(store: &SqlStore) -> Result<Vec<ApiKey>, StoreError> {
    let sql = "SELECT k.*, o.name AS organisation_name FROM api_keys k
               JOIN organisations o ON o.id = k.organisation ORDER BY k.created_at, k.id";
    let rows = sqlx::query(sql)
        .fetch_all(&store.read)
        .await
        .map_err(error)?;
    rows.iter().map(key).collect()
}

pub(super) async fn revoke(store: &SqlStore, now: Timestamp, id: Uuid) -> Result<bool, StoreError> {
    let sql = "UPDATE api_keys SET revoked_at = COALESCE(revoked_at, $2) WHERE id = $1";
    let done = sqlx::query(sql)
        .bind(id.to_string())
        .bind(micros(now))
        .execute(&store.write)
        .await
        .map_err(error)?;
    Ok(done.rows_affected() > 0)
}

pub(super) async fn claimed(
    store: &SqlStore,
    api_key: Uuid,
    name: String,
) -> Result<Option<Claim>, StoreError> {
    let sql =
        "SELECT body_hash, meeting, created_at FROM idempotency WHERE api_key = $1 AND name = $2";
    let row = sqlx::query(sql)
        .bind(api_key.to_string())
        .bind(&name)
        .fetch_optional(&store.read)
        .await
        .map_err(error)?;
    row.map(|row| {
        Ok(Claim {
            key: api_key,
            name,
            body_hash: get(&row, "body_hash")?,
            meeting: MeetingId(get_uuid(&row, "meeting")?),
            created_at: get_time(&row, "created_at")?,
        })
    })
    .transpose()
}

pub(super) async fn purge_claims(store: &SqlStore, before: Timestamp) -> Result<(), StoreError> {
    let delete = sqlx::query("DELETE FROM idempotency WHERE created_at < $1").bind(micros(before));
    delete.execute(&store.write).await.map(drop).map_err(error)
}

fn owner(row: &AnyRow) -> Result<Organisation, StoreError> {
    Ok(Organisation {
        id: OrganisationId(get_uuid(row, "id")?),
        name: get(row, "name")?,
    })
}

fn key(row: &AnyRow) -> Result<ApiKey, StoreError> {
    let scopes: String = get(row, "scopes")?;
    let scopes: Result<Vec<Scope>, _> = scopes.split_whitespace().map(str::parse).collect();
    Ok(ApiKey {
        id: get_uuid(row, "id")?,
        organisation: Organisation {
            id: OrganisationId(get_uuid(row, "organisation")?),
            name: get(row, "organisation_name")?,
        },
        role: get_word(row, "role")?,
        scopes: scopes.map_err(|_| unreadable("scopes"))?,
        prefix: get(row, "prefix")?,
        created_at: get_time(row, "created_at")?,
        expires_at: get_time_or_null(row, "expires_at")?,
        revoked_at: get_time_or_null(row, "revoked_at")?,
    })
}
