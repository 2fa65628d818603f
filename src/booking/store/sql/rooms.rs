//! Rooms: made, changed, deleted.

use jiff::Timestamp;
use sqlx::any::AnyRow;
use uuid::Uuid;

use super::room_slots::{self, lock};
use super::{Dialect, SqlStore, error, get, get_number, get_time, get_uuid, meetings, micros};
use crate::booking::admission::{MeetingId, OrganisationId};
use crate::booking::meeting::Meeting;
use crate::booking::room::{ROOMS_MAX, Room};
use crate::booking::store::rooms::RoomStore;
use crate::booking::store::{Conflict, StoreError, StoreFuture};

impl RoomStore for SqlStore {
    fn rooms(&self, organisation: Option<OrganisationId>) -> StoreFuture<'_, Vec<Room>> {
        self.bounded(list(self, organisation))
    }

    fn room(&self, id: Uuid) -> StoreFuture<'_, Option<Room>> {
        self.bounded(by_id(self, id))
    }

    fn new_room(&self, new: Room) -> StoreFuture<'_, ()> {
        self.bounded(insert(self, new))
    }

    fn change_room(&self, now: Timestamp, changed: Room) -> StoreFuture<'_, bool> {
        self.bounded(change(self, now, changed))
    }

    fn delete_room(&self, now: Timestamp, room: Room) -> StoreFuture<'_, ()> {
        self.bounded(delete(self, now, room))
    }

    fn series_to_roll(
        &self,
        until: Timestamp,
        after: Option<MeetingId>,
        limit: u32,
    ) -> StoreFuture<'_, Vec<Meeting>> {
        self.bounded(meetings::with_rooms_until(self, until, after, limit))
    }

    fn roll_room(&self, now: Timestamp, series: Meeting) -> StoreFuture<'_, u64> {
        self.bounded(room_slots::roll(self, now, series))
    }
}

async fn list(
    store: &SqlStore,
    organisation: Option<OrganisationId>,
) -> Result<Vec<Room>, StoreError> {
    let sql = "SELECT r.*, o.name AS organisation_name FROM rooms r JOIN organisations o ON o.id = r.organisation
               WHERE ($1 IS NULL OR r.organisation = $1) ORDER BY r.created_at, r.id";
    let rows = sqlx::query(sql)
        .bind(organisation.map(|id| id.to_string()))
        .fetch_all(&store.read)
        .await
        .map_err(error)?;
    rows.iter().map(record).collect()
}

async fn by_id(store: &SqlStore, id: Uuid) -> Result<Option<Room>, StoreError> {
    let sql = "SELECT r.*, o.name AS organisation_name FROM rooms r JOIN organisations o ON o.id = r.organisation
               WHERE r.id = $1";
    let query = sqlx::query(sql).bind(id.to_string());
    let row = query.fetch_optional(&store.read).await.map_err(error)?;
    row.as_ref().map(record).transpose()
}

/// Who makes one at the same time waits until this transaction ends.
async fn insert(store: &SqlStore, new: Room) -> Result<(), StoreError> {
    let mut transaction = store.begin().await?;
    let lock = match store.dialect {
        Dialect::Sqlite => "SELECT id FROM organisations WHERE id = $1",
        Dialect::Postgres(_) => "SELECT id FROM organisations WHERE id = $1 FOR NO KEY UPDATE",
    };
    let owner = new.organisation.to_string();
    let locked = sqlx::query(lock).bind(owner.clone());
    locked
        .fetch_optional(&mut *transaction)
        .await
        .map_err(error)?;
    let count = sqlx::query("SELECT COUNT(*) AS there FROM rooms WHERE organisation = $1");
    let count = count.bind(owner.clone()).fetch_one(&mut *transaction);
    if get_number::<u64>(&count.await.map_err(error)?, "there")? >= ROOMS_MAX {
        return Err(StoreError::Conflict(Conflict::RoomsMax));
    }
    let sql = "INSERT INTO rooms (id, organisation, name, capacity, created_at, revision) VALUES ($1, $2, $3, $4, $5, $6)";
    sqlx::query(sql)
        .bind(new.id.to_string())
        .bind(owner)
        .bind(new.name)
        .bind(i64::from(new.capacity))
        .bind(micros(new.created_at))
        .bind(new.revision)
        .execute(&mut *transaction)
        .await
        .map_err(error)?;
    transaction.commit().await.map_err(error)
}

async fn change(store: &SqlStore, now: Timestamp, changed: Room) -> Result<bool, StoreError> {
    let mut transaction = store.begin().await?;
    lock(store, &mut transaction, changed.organisation).await?;
    let asks_more = "SELECT 1 FROM meetings m WHERE m.room = $1 AND (m.capacity > $2 OR m.room_min_capacity > $2)
          AND (m.room_until IS NOT NULL OR EXISTS (SELECT 1 FROM room_slots s WHERE s.meeting = m.id AND s.ends_at > $3))
        LIMIT 1";
    let found = sqlx::query(asks_more)
        .bind(changed.id.to_string())
        .bind(i64::from(changed.capacity))
        .bind(micros(now))
        .fetch_optional(&mut *transaction)
        .await
        .map_err(error)?;
    if found.is_some() {
        return Err(StoreError::Conflict(Conflict::RoomInUse));
    }
    let sql = "UPDATE rooms SET name = $1, capacity = $2, revision = revision + 1 WHERE id = $3 AND revision = $4";
    let done = sqlx::query(sql)
        .bind(changed.name)
        .bind(i64::from(changed.capacity))
        .bind(changed.id.to_string())
        .bind(changed.revision)
        .execute(&mut *transaction)
        .await
        .map_err(error)?;
    transaction.commit().await.map_err(error)?;
    Ok(done.rows_affected() > 0)
}

async fn delete(store: &SqlStore, now: Timestamp, room: Room) -> Result<(), StoreError> {
    let mut transaction = store.begin().await?;
    lock(store, &mut transaction, room.organisation).await?;
    let id = room.id.to_string();
    let ahead = "SELECT meeting FROM room_slots WHERE room = $1 AND ends_at > $2
                 UNION ALL SELECT id FROM meetings WHERE room = $1 AND room_until IS NOT NULL LIMIT 1";
    let ahead = sqlx::query(ahead).bind(id.clone()).bind(micros(now));
    let ahead = ahead.fetch_optional(&mut *transaction).await;
    if ahead.map_err(error)?.is_some() {
        return Err(StoreError::Conflict(Conflict::RoomInUse));
    }
    let gone = sqlx::query("DELETE FROM rooms WHERE id = $1").bind(id);
    gone.execute(&mut *transaction).await.map_err(error)?;
    transaction.commit().await.map_err(error)
}

fn record(row: &AnyRow) -> Result<Room, StoreError> {
    Ok(Room {
        id: get_uuid(row, "id")?,
        organisation: OrganisationId(get_uuid(row, "organisation")?),
        organisation_name: get(row, "organisation_name")?,
        name: get(row, "name")?,
        capacity: get_number(row, "capacity")?,
        created_at: get_time(row, "created_at")?,
        revision: get(row, "revision")?,
    })
}
