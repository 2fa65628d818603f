//! Events: kept in the order in which they can be seen.

use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{Any, Transaction};
use uuid::Uuid;

use super::{
    SqlStore, error, get, get_time, get_uuid, get_uuid_or_null, get_word, micros, presence,
    unreadable,
};
use crate::booking::admission::{MeetingId, OrganisationId};
use crate::booking::event::{Event, EventFilter, EventPosition, KeptEvent};
use crate::booking::store::{NewEvents, StoreError};

/// Keeps them all or none; one that is kept already stays as it is. Gives the position of the last.
pub(super) async fn insert(store: &SqlStore, new: NewEvents) -> Result<EventPosition, StoreError> {
    let NewEvents {
        events,
        untold,
        teller,
    } = new;
    let mut transaction = store.begin().await?;
    let how_many = i64::try_from(events.len()).unwrap_or(i64::MAX);
    let last = positions(&mut transaction, how_many).await?;
    let mut happened: Vec<&Event> = untold.iter().chain(&events).collect();
    // Ids are given in the order in which things happen, also where the clock is set back.
    happened.sort_by_key(|event| event.id);
    for event in happened {
        presence::note(&mut transaction, event, &teller).await?;
    }
    for (position, event) in (last.0 - how_many + 1..).zip(events) {
        sqlx::query(
            "INSERT INTO events (position, id, kind, at, organisation, meeting, data, participant)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO NOTHING",
        )
        .bind(position)
        .bind(event.id.to_string())
        .bind(event.kind.word())
        .bind(micros(event.at))
        .bind(event.organisation.map(|id| id.to_string()))
        .bind(event.meeting.map(|id| id.to_string()))
        .bind(event.data.to_string())
        .bind(event.participant())
        .execute(&mut *transaction)
        .await
        .map_err(error)?;
    }
    transaction.commit().await.map_err(error)?;
    Ok(last)
}

/// Takes so many positions. Whoever else wants some waits for the end of the transaction: so nothing is ever
/// seen behind what was seen before.
async fn positions(
    transaction: &mut Transaction<'static, Any>,
    how_many: i64,
) -> Result<EventPosition, StoreError> {
    let row = sqlx::query(
        "INSERT INTO event_counter (id, last) VALUES (1, $1)
         ON CONFLICT (id) DO UPDATE SET last = event_counter.last + $2 RETURNING last",
    )
    .bind(how_many)
    .bind(how_many)
    .fetch_one(&mut **transaction)
    .await
    .map_err(error)?;
    Ok(EventPosition(get(&row, "last")?))
}

pub(super) async fn last(store: &SqlStore) -> Result<EventPosition, StoreError> {
    let row = sqlx::query("SELECT last FROM event_counter WHERE id = 1")
        .fetch_optional(&store.read)
        .await
        .map_err(error)?;
    let last = row.map(|row| get(&row, "last")).transpose()?;
    Ok(EventPosition(last.unwrap_or(0)))
}

/// As [`last`], in a transaction.
pub(super) async fn last_in(
    transaction: &mut Transaction<'static, Any>,
) -> Result<EventPosition, StoreError> {
    let row = sqlx::query("SELECT last FROM event_counter WHERE id = 1")
        .fetch_optional(&mut **transaction)
        .await
        .map_err(error)?;
    let last = row.map(|row| get(&row, "last")).transpose()?;
    Ok(EventPosition(last.unwrap_or(0)))
}

pub(super) async fn position(
    store: &SqlStore,
    id: Uuid,
    organisation: Option<OrganisationId>,
    since: Timestamp,
) -> Result<Option<EventPosition>, StoreError> {
    let row = sqlx::query(
        "SELECT position FROM events
         WHERE id = $1 AND at >= $2 AND ($3 IS NULL OR organisation = $3)",
    )
    .bind(id.to_string())
    .bind(micros(since))
    .bind(organisation.map(|id| id.to_string()))
    .fetch_optional(&store.read)
    .await
    .map_err(error)?;
    row.map(|row| get(&row, "position").map(EventPosition))
        .transpose()
}

pub(super) async fn list(
    store: &SqlStore,
    filter: EventFilter,
) -> Result<Vec<KeptEvent>, StoreError> {
    let sql = match filter.organisation {
        Some(_) => {
            "SELECT e.*, o.name AS organisation_name FROM events e LEFT JOIN organisations o ON o.id = e.organisation
             WHERE e.position > $1 AND e.organisation = $3 AND e.kind <> 'webhook.test' ORDER BY e.position LIMIT $2"
        }
        None => {
            "SELECT e.*, o.name AS organisation_name FROM events e LEFT JOIN organisations o ON o.id = e.organisation
             WHERE e.position > $1 AND e.kind <> 'webhook.test' ORDER BY e.position LIMIT $2"
        }
    };
    let query = sqlx::query(sql)
        .bind(filter.after.0)
        .bind(i64::from(filter.limit));
    let query = match filter.organisation {
        Some(owner) => query.bind(owner.to_string()),
        None => query,
    };
    let rows = query.fetch_all(&store.read).await.map_err(error)?;
    rows.iter().map(kept).collect()
}

pub(super) async fn at(
    store: &SqlStore,
    position: EventPosition,
) -> Result<Option<KeptEvent>, StoreError> {
    let row = sqlx::query(
        "SELECT e.*, o.name AS organisation_name FROM events e LEFT JOIN organisations o ON o.id = e.organisation
         WHERE e.position = $1",
    )
    .bind(position.0)
    .fetch_optional(&store.read)
    .await
    .map_err(error)?;
    row.as_ref().map(kept).transpose()
}

pub(super) async fn purge(
    store: &SqlStore,
    organisation: Option<OrganisationId>,
    before: Timestamp,
) -> Result<(), StoreError> {
    let sql = match organisation {
        Some(_) => "DELETE FROM events WHERE at < $1 AND organisation = $2",
        None => "DELETE FROM events WHERE at < $1 AND organisation IS NULL",
    };
    let query = sqlx::query(sql).bind(micros(before));
    let query = match organisation {
        Some(owner) => query.bind(owner.to_string()),
        None => query,
    };
    query.execute(&store.write).await.map(drop).map_err(error)
}

fn kept(row: &AnyRow) -> Result<KeptEvent, StoreError> {
    let data: String = get(row, "data")?;
    Ok(KeptEvent {
        position: EventPosition(get(row, "position")?),
        organisation_name: get(row, "organisation_name")?,
        event: Event {
            id: get_uuid(row, "id")?,
            kind: get_word(row, "kind")?,
            at: get_time(row, "at")?,
            organisation: get_uuid_or_null(row, "organisation")?.map(OrganisationId),
            meeting: get_uuid_or_null(row, "meeting")?.map(MeetingId),
            data: serde_json::from_str(&data).map_err(|_| unreadable("data"))?,
        },
    })
}
