//! What is kept of a caller, found by his hash.

use serde_json::Value;
use sqlx::{Any, AssertSqlSafe, Transaction};

use super::{SqlStore, error, get, get_number, get_time, get_uuid_or_null, unreadable};
use crate::booking::admission::OrganisationId;
use crate::booking::privacy::{CallerHash, CallerNumber};
use crate::booking::store::callers::{CallerStore, KeptCaller};
use crate::booking::store::{StoreError, StoreFuture};

impl CallerStore for SqlStore {
    fn secret(&self, name: &'static str, fresh: String) -> StoreFuture<'_, String> {
        self.bounded(secret(self, name, fresh))
    }

    fn caller(
        &self,
        organisation: Option<OrganisationId>,
        hash: CallerHash,
    ) -> StoreFuture<'_, Option<KeptCaller>> {
        self.bounded(kept(self, organisation, hash))
    }

    fn erase_caller(
        &self,
        organisation: Option<OrganisationId>,
        hash: CallerHash,
    ) -> StoreFuture<'_, ()> {
        self.bounded(erase(self, organisation, hash))
    }
}

async fn secret(store: &SqlStore, name: &'static str, fresh: String) -> Result<String, StoreError> {
    let insert = "INSERT INTO secrets (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
    sqlx::query(insert)
        .bind(name)
        .bind(fresh)
        .execute(&store.write)
        .await
        .map_err(error)?;
    let row = sqlx::query("SELECT value FROM secrets WHERE name = $1")
        .bind(name)
        .fetch_one(&store.write)
        .await
        .map_err(error)?;
    get(&row, "value")
}

async fn kept(
    store: &SqlStore,
    organisation: Option<OrganisationId>,
    hash: CallerHash,
) -> Result<Option<KeptCaller>, StoreError> {
    let owner = organisation.map(|id| id.to_string());
    let row = sqlx::query(
        "SELECT c.organisation, o.name AS organisation_name, COUNT(*) AS calls,
             MIN(c.started_at) AS first_at, MAX(c.started_at) AS last_at, COUNT(DISTINCT c.meeting) AS meetings
         FROM calls c LEFT JOIN organisations o ON o.id = c.organisation
         WHERE c.caller_hash = $1 AND ($2 IS NULL OR c.organisation = $2) GROUP BY c.organisation, o.name",
    )
    .bind(hash.as_str().to_owned())
    .bind(owner.clone())
    .fetch_optional(&store.read)
    .await
    .map_err(error)?;
    let Some(row) = row else { return Ok(None) };
    let numbers = sqlx::query(
        "SELECT DISTINCT caller FROM calls
         WHERE caller_hash = $1 AND ($2 IS NULL OR organisation = $2) AND caller <> '' ORDER BY caller LIMIT 10",
    )
    .bind(hash.as_str().to_owned())
    .bind(owner.clone())
    .fetch_all(&store.read)
    .await
    .map_err(error)?;
    let numbers = numbers.iter().map(|row| get::<&str>(row, "caller"));
    let events = sqlx::query(COUNT_EVENTS)
        .bind(hash.as_str().to_owned())
        .bind(owner)
        .fetch_one(&store.read)
        .await
        .map_err(error)?;
    Ok(Some(KeptCaller {
        organisation: get_uuid_or_null(&row, "organisation")?.map(OrganisationId),
        organisation_name: get(&row, "organisation_name")?,
        calls: get_number(&row, "calls")?,
        first_call_at: get_time(&row, "first_at")?,
        last_call_at: get_time(&row, "last_at")?,
        numbers: numbers
            .map(|number| number.map(CallerNumber::new))
            .collect::<Result<_, _>>()?,
        meetings: get_number(&row, "meetings")?,
        events: get_number(&events, "events")?,
    }))
}

async fn erase(
    store: &SqlStore,
    organisation: Option<OrganisationId>,
    hash: CallerHash,
) -> Result<(), StoreError> {
    let owner = organisation.map(|id| id.to_string());
    let mut transaction = store.begin().await?;
    erase_events(&mut transaction, owner.clone(), &hash).await?;
    erase_presence(&mut transaction, owner.clone(), &hash).await?;
    sqlx::query(
        "UPDATE calls SET caller = '', caller_hash = NULL, sip_call_id = NULL, asterisk_channel = NULL
         WHERE caller_hash = $1 AND ($2 IS NULL OR organisation = $2)",
    )
    .bind(hash.as_str().to_owned())
    .bind(owner)
    .execute(&mut *transaction)
    .await
    .map_err(error)?;
    transaction.commit().await.map_err(error)?;
    store.forget_deleted().await
}

/// Takes him out of what is told of his calls, many events at a time: a company's shared number has a great many.
async fn erase_events(
    transaction: &mut Transaction<'static, Any>,
    owner: Option<String>,
    hash: &CallerHash,
) -> Result<(), StoreError> {
    let rows = sqlx::query(EVENTS)
        .bind(hash.as_str().to_owned())
        .bind(owner)
        .fetch_all(&mut **transaction)
        .await
        .map_err(error)?;
    for rows in rows.chunks(ERASED_AT_ONCE) {
        let places =
            (0..rows.len()).map(|n| format!("(CAST(${} AS BIGINT), ${})", 2 * n + 1, 2 * n + 2));
        let places = places.collect::<Vec<_>>().join(", ");
        let sql = format!(
            "UPDATE events SET data = told.column2 FROM (VALUES {places}) AS told WHERE events.position = told.column1"
        );
        let mut update = sqlx::query(AssertSqlSafe(sql));
        for row in rows {
            let data: String = get(row, "data")?;
            let position: i64 = get(row, "position")?;
            update = update.bind(position).bind(without_person(&data)?);
        }
        update.execute(&mut **transaction).await.map_err(error)?;
    }
    Ok(())
}

/// Where a process was killed, it still stands that he is in a meeting.
async fn erase_presence(
    transaction: &mut Transaction<'static, Any>,
    owner: Option<String>,
    hash: &CallerHash,
) -> Result<(), StoreError> {
    let rows = sqlx::query(
        "SELECT p.participant, p.data FROM calls c JOIN present p ON p.participant = c.participant
         WHERE c.caller_hash = $1 AND ($2 IS NULL OR c.organisation = $2)",
    )
    .bind(hash.as_str().to_owned())
    .bind(owner)
    .fetch_all(&mut **transaction)
    .await
    .map_err(error)?;
    for row in &rows {
        let (participant, data): (String, String) = (get(row, "participant")?, get(row, "data")?);
        sqlx::query("UPDATE present SET data = $1 WHERE participant = $2")
            .bind(without_person(&data)?)
            .bind(participant)
            .execute(&mut **transaction)
            .await
            .map_err(error)?;
    }
    Ok(())
}

/// An event's data without who it was.
fn without_person(data: &str) -> Result<String, StoreError> {
    let mut data: Value = serde_json::from_str(data).map_err(|_| unreadable("data"))?;
    for (field, nothing) in [
        ("number", Value::from("")),
        ("caller", Value::from("")),
        ("name", Value::Null),
    ] {
        // Of a refused call, `number` is what was dialled, and `caller` who did.
        let is_dialled = field == "number" && data.get("caller").is_some();
        if let Some(value) = data.get_mut(field)
            && !is_dialled
        {
            *value = nothing;
        }
    }
    Ok(data.to_string())
}

/// What tells of his calls: each call's refusal, and what became of the participant.
const EVENTS: &str = "SELECT position, data FROM events
     WHERE id IN (SELECT id FROM calls WHERE caller_hash = $1 AND ($2 IS NULL OR organisation = $2))
     UNION SELECT position, data FROM events
     WHERE participant IN (SELECT participant FROM calls WHERE caller_hash = $1 AND ($2 IS NULL OR organisation = $2))";
const COUNT_EVENTS: &str = "SELECT COUNT(*) AS events FROM (SELECT position FROM events
     WHERE id IN (SELECT id FROM calls WHERE caller_hash = $1 AND ($2 IS NULL OR organisation = $2))
     UNION SELECT position FROM events
     WHERE participant IN (SELECT participant FROM calls WHERE caller_hash = $1 AND ($2 IS NULL OR organisation = $2))) AS told";
const ERASED_AT_ONCE: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_keeps_all_but_who_it_was() {
        let participant = r#"{"id":"7","name":"Ada","number":"…5678","role":"guest"}"#;
        assert_eq!(
            without_person(participant).unwrap(),
            r#"{"id":"7","name":null,"number":"","role":"guest"}"#
        );
        let refused = r#"{"caller":"…5678","number":"+390600"}"#;
        assert_eq!(
            without_person(refused).unwrap(),
            r#"{"caller":"","number":"+390600"}"#
        );
    }
}
