//! Call records.

use jiff::Timestamp;
use sqlx::any::AnyRow;

use super::{
    SqlStore, error, get, get_number, get_time, get_time_or_null, get_uuid, get_uuid_or_null,
    get_word, micros, quotas, unreadable, word,
};
use crate::booking::admission::{CallId, CallRecord, MeetingId, OrganisationId, ParticipantId};
use crate::booking::privacy::{CallerHash, CallerNumber};
use crate::booking::store::{CallFilter, PURGE_BATCH, StoreError, StoredCall};

pub(super) async fn insert(store: &SqlStore, stored: StoredCall) -> Result<(), StoreError> {
    let (over, call) = (stored.call.clone(), stored.call);
    let figure = |name: &str, times: f64| {
        let figure = call.quality.as_ref()?.get(name)?.as_f64()?;
        let figure = (figure * times).round();
        (0.0..=FIGURE_MAX)
            .contains(&figure)
            .then_some(figure as i64)
    };
    let (loss_ppm, mos_hundredths) = (figure("loss", 1e6), figure("mos", 1e2));
    let mut transaction = store.begin().await?;
    let kept = sqlx::query(
        "INSERT INTO calls (id, kind, organisation, number, caller, started_at, answered_at, ended_at, meeting, participant,
             outcome, pin_attempts, hangup_by, q850, node, sip_call_id, quality, echo, occurrence,
             asterisk_channel, direction, caller_hash, trunk, loss_ppm, mos_hundredths, verstat)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26)
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(call.id.to_string())
    .bind(stored.kind)
    .bind(call.organisation.map(|id| id.to_string()))
    .bind(call.number)
    .bind(call.caller.expose().to_owned())
    .bind(micros(call.started_at))
    .bind(call.answered_at.map(micros))
    .bind(micros(call.ended_at))
    .bind(call.meeting.map(|id| id.to_string()))
    .bind(call.participant.map(|id| id.to_string()))
    .bind(call.outcome.word())
    .bind(i64::from(call.pin_attempts))
    .bind(word(&call.hangup_by))
    .bind(i64::from(call.q850))
    .bind(stored.node)
    .bind(call.sip_call_id)
    .bind(call.quality.map(|quality| quality.to_string()))
    .bind(i64::from(stored.echo))
    .bind(call.occurrence.map(|id| id.to_string()))
    .bind(call.asterisk_channel)
    .bind(word(&call.direction))
    .bind(stored.caller_hash.map(|hash| hash.to_string()))
    .bind(call.trunk)
    .bind(loss_ppm)
    .bind(mos_hundredths)
    .bind(call.verstat.as_ref().map(word))
    .execute(&mut *transaction)
    .await
    .map_err(error)?;
    if kept.rows_affected() > 0 {
        quotas::leave(&mut transaction, &over).await?;
    }
    transaction.commit().await.map_err(error)
}

pub(super) async fn list(
    store: &SqlStore,
    filter: CallFilter,
) -> Result<Vec<StoredCall>, StoreError> {
    let (after_at, after_id) = filter
        .after
        .map(|(at, id)| (micros(at), id.to_string()))
        .unzip();
    let rows = sqlx::query(
        "SELECT c.*, o.name AS organisation_name FROM calls c LEFT JOIN organisations o ON o.id = c.organisation
         WHERE c.echo = 0
           AND ($1 IS NULL OR c.organisation = $1)
           AND ($2 IS NULL OR c.started_at >= $2)
           AND ($3 IS NULL OR c.started_at < $3)
           AND ($4 IS NULL OR c.outcome = $4)
           AND ($5 IS NULL OR c.meeting = $5)
           AND ($6 IS NULL OR c.started_at < $6 OR (c.started_at = $6 AND c.id < $7))
           AND ($9 IS NULL OR c.caller_hash = $9)
         ORDER BY c.started_at DESC, c.id DESC LIMIT $8",
    )
    .bind(filter.organisation.map(|id| id.to_string()))
    .bind(filter.from.map(micros))
    .bind(filter.to.map(micros))
    .bind(filter.outcome.map(|outcome| outcome.word()))
    .bind(filter.meeting.map(|id| id.to_string()))
    .bind(after_at)
    .bind(after_id)
    .bind(i64::from(filter.limit))
    .bind(filter.caller.map(|hash| hash.to_string()))
    .fetch_all(&store.read)
    .await
    .map_err(error)?;
    rows.iter().map(stored).collect()
}

pub(super) async fn purge(
    store: &SqlStore,
    organisation: Option<OrganisationId>,
    before: Timestamp,
) -> Result<u64, StoreError> {
    // A call that is over began before; by its beginning it is found.
    let sql = match organisation {
        Some(_) => {
            "DELETE FROM calls WHERE id IN (SELECT id FROM calls
             WHERE started_at < $1 AND ended_at < $1 AND organisation = $3 LIMIT $2)"
        }
        None => {
            "DELETE FROM calls WHERE id IN (SELECT id FROM calls
             WHERE started_at < $1 AND ended_at < $1 AND organisation IS NULL LIMIT $2)"
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

fn stored(row: &AnyRow) -> Result<StoredCall, StoreError> {
    let quality: Option<String> = get(row, "quality")?;
    let quality = quality
        .map(|json| serde_json::from_str(&json))
        .transpose()
        .map_err(|_| unreadable("quality"))?;
    let occurrence: Option<String> = get(row, "occurrence")?;
    let occurrence = occurrence
        .map(|id| id.parse())
        .transpose()
        .map_err(|_| unreadable("occurrence"))?;
    let direction: Option<String> = get(row, "direction")?;
    let direction = direction
        .map(|word| serde_json::from_value(serde_json::Value::String(word)))
        .transpose()
        .map_err(|_| unreadable("direction"))?;
    let verstat: Option<String> = get(row, "verstat")?;
    let verstat = verstat
        .map(|word| serde_json::from_value(serde_json::Value::String(word)))
        .transpose()
        .map_err(|_| unreadable("verstat"))?;
    let call = CallRecord {
        id: CallId(get_uuid(row, "id")?),
        kind: "",
        direction: direction.unwrap_or_default(),
        organisation: get_uuid_or_null(row, "organisation")?.map(OrganisationId),
        number: get(row, "number")?,
        caller: CallerNumber::new(get(row, "caller")?),
        started_at: get_time(row, "started_at")?,
        answered_at: get_time_or_null(row, "answered_at")?,
        ended_at: get_time(row, "ended_at")?,
        meeting: get_uuid_or_null(row, "meeting")?.map(MeetingId),
        occurrence,
        participant: get_uuid_or_null(row, "participant")?.map(ParticipantId),
        outcome: get_word(row, "outcome")?,
        pin_attempts: get_number(row, "pin_attempts")?,
        hangup_by: get_word(row, "hangup_by")?,
        q850: get_number(row, "q850")?,
        trunk: get(row, "trunk")?,
        verstat,
        sip_call_id: get(row, "sip_call_id")?,
        asterisk_channel: get(row, "asterisk_channel")?,
        quality,
    };
    let caller_hash: Option<String> = get(row, "caller_hash")?;
    let caller_hash = caller_hash
        .map(CallerHash::try_from)
        .transpose()
        .map_err(|_| unreadable("caller_hash"))?;
    Ok(StoredCall {
        caller_hash,
        kind: get(row, "kind")?,
        organisation_name: get(row, "organisation_name")?,
        node: get(row, "node")?,
        echo: get::<i64>(row, "echo")? != 0,
        call,
    })
}

/// A million of a million.
const FIGURE_MAX: f64 = 1e6;
