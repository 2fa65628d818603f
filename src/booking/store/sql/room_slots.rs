//! When rooms are taken: written in the transaction that books or changes a meeting.
//!
//! Whoever looks for a room locks all rooms of the organisation first, so that nobody else finds the same one free; in
//! SQLite there is only one who writes.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Row, Transaction};
use uuid::Uuid;

use super::{
    Dialect, SqlStore, error, get, get_number, get_time, get_time_or_null, get_uuid,
    get_uuid_or_null, micros,
};
use crate::booking::admission::{MeetingId, OrganisationId};
use crate::booking::meeting::Meeting;
use crate::booking::room::{MeetingRoom, NextFree, RoomRequest, RoomSlot, Taken, horizon};
use crate::booking::store::{Conflict, StoreError};

type Writing = Transaction<'static, Any>;
/// What a meeting takes, and whether it has it.
type Slots = BTreeMap<RoomSlot, bool>;

/// What a meeting had of rooms before.
#[derive(Debug, Default)]
pub(super) struct Had {
    room: Option<Uuid>,
    min_capacity: Option<u32>,
    until: Option<Timestamp>,
}

/// All rooms of an organisation, smallest first; they stay as they are until the transaction ends.
pub(super) async fn lock(
    store: &SqlStore,
    transaction: &mut Writing,
    organisation: OrganisationId,
) -> Result<Vec<MeetingRoom>, StoreError> {
    let sql = match store.dialect {
        Dialect::Sqlite => {
            "SELECT id, name, capacity FROM rooms WHERE organisation = $1 ORDER BY id"
        }
        Dialect::Postgres(_) => {
            "SELECT id, name, capacity FROM rooms WHERE organisation = $1 ORDER BY id FOR UPDATE"
        }
    };
    let rows = sqlx::query(sql)
        .bind(organisation.to_string())
        .fetch_all(&mut **transaction)
        .await
        .map_err(error)?;
    let room = |row: &AnyRow| {
        Ok(MeetingRoom {
            id: get_uuid(row, "id")?,
            name: get(row, "name")?,
            capacity: get_number(row, "capacity")?,
        })
    };
    let mut rooms = rows.iter().map(room).collect::<Result<Vec<_>, _>>()?;
    rooms.sort_by(|a, b| (a.capacity, &a.name).cmp(&(b.capacity, &b.name)));
    Ok(rooms)
}

impl Had {
    pub(super) async fn read(
        transaction: &mut Writing,
        meeting: MeetingId,
    ) -> Result<Self, StoreError> {
        let sql = "SELECT room, room_min_capacity, room_until FROM meetings WHERE id = $1";
        let row = sqlx::query(sql)
            .bind(meeting.to_string())
            .fetch_optional(&mut **transaction)
            .await
            .map_err(error)?;
        row.as_ref().map_or(Ok(Self::default()), Self::of)
    }

    fn of(row: &AnyRow) -> Result<Self, StoreError> {
        let min_capacity = row.try_get::<Option<i64>, _>("room_min_capacity");
        Ok(Self {
            room: get_uuid_or_null(row, "room")?,
            min_capacity: match min_capacity.map_err(error)? {
                Some(_) => Some(get_number(row, "room_min_capacity")?),
                None => None,
            },
            until: get_time_or_null(row, "room_until")?,
        })
    }

    pub(super) const fn has_room(&self) -> bool {
        self.room.is_some()
    }

    fn asked(&self) -> Option<RoomRequest> {
        let room = self.room?;
        Some(
            self.min_capacity
                .map_or(RoomRequest::This(room), RoomRequest::AtLeast),
        )
    }
}

/// What the row of a meeting says it asked for and has.
pub(super) fn of_meeting(
    row: &AnyRow,
) -> Result<(Option<RoomRequest>, Option<MeetingRoom>), StoreError> {
    let had = Had::of(row)?;
    let Some(id) = had.room else {
        return Ok((None, None));
    };
    let room = MeetingRoom {
        id,
        name: get(row, "room_name")?,
        capacity: get_number(row, "room_capacity")?,
    };
    Ok((had.asked(), Some(room)))
}

/// Takes a room for a meeting as it is now, or gives up what it had. A meeting keeps the room that it says to have;
/// without one, the smallest of the free ones that it asks for becomes its own. `rooms` are locked.
pub(super) async fn hold(
    transaction: &mut Writing,
    meeting: &mut Meeting,
    rooms: Vec<MeetingRoom>,
) -> Result<(), StoreError> {
    let now = meeting.updated_at;
    let had = Had::read(transaction, meeting.id).await?;
    let Some(asked) = meeting.options.room else {
        meeting.room = None;
        write_slots(transaction, meeting, None, &Slots::new()).await?;
        return write_room(transaction, meeting, None).await;
    };
    let rooms = candidates(meeting, asked, &had, rooms)?;
    let had_slots = slots_of(transaction, meeting.id).await?;
    let mut missed = None;
    for room in &rooms {
        let has_it = had.room == Some(room.id);
        let until = had.until.filter(|_| has_it);
        let until = until.unwrap_or_else(|| horizon(now));
        let known = if has_it {
            had_slots.clone()
        } else {
            Slots::new()
        };
        let wanted = meeting.room_slots(now, until);
        let taken = taken(transaction, room.id, meeting.id, &wanted).await?;
        match plan(&wanted, &known, &taken) {
            Ok(slots) => {
                if !has_it || slots != had_slots {
                    write_slots(transaction, meeting, Some(room.id), &slots).await?;
                }
                meeting.room = Some(room.clone());
                return write_room(transaction, meeting, Some(until)).await;
            }
            Err(clash) => missed = missed.or(Some(clash)),
        }
    }
    let missed = missed.unwrap_or(RoomSlot {
        starts_at: now,
        ends_at: now,
    });
    let next = next_free(transaction, meeting, &rooms, missed).await?;
    Err(StoreError::Conflict(Conflict::RoomTaken(next)))
}

/// Takes the room of an endless series further on. What was booked there meanwhile stays: those occurrences take place
/// without the room, and get it when it comes free.
pub(super) async fn roll(
    store: &SqlStore,
    now: Timestamp,
    series: Meeting,
) -> Result<u64, StoreError> {
    let mut transaction = store.begin().await?;
    lock(store, &mut transaction, series.organisation).await?;
    let sql = "SELECT id FROM meetings WHERE id = $1 AND revision = $2";
    let unchanged = sqlx::query(sql)
        .bind(series.id.to_string())
        .bind(series.revision)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(error)?;
    let room = series.room.as_ref().map(|room| room.id);
    let (Some(_), Some(room)) = (unchanged, room) else {
        return Ok(0);
    };
    let until = horizon(now);
    let wanted = series.room_slots(now, until);
    let taken = taken(&mut transaction, room, series.id, &wanted).await?;
    let slots: Slots = wanted
        .into_iter()
        .map(|slot| (slot, !taken.overlaps(slot)))
        .collect();
    write_slots(&mut transaction, &series, Some(room), &slots).await?;
    write_room(&mut transaction, &series, Some(until)).await?;
    transaction.commit().await.map_err(error)?;
    Ok(slots.values().map(|held| u64::from(!held)).sum())
}

/// Which rooms would do, in the order in which they are tried.
fn candidates(
    meeting: &Meeting,
    asked: RoomRequest,
    had: &Had,
    mut rooms: Vec<MeetingRoom>,
) -> Result<Vec<MeetingRoom>, StoreError> {
    let conflict = |conflict| Err(StoreError::Conflict(conflict));
    let most = rooms.last().map_or(0, |room| room.capacity);
    let named = match (&meeting.room, asked) {
        (Some(room), _) => Some(room.id),
        (None, RoomRequest::This(id)) => Some(id),
        (None, RoomRequest::AtLeast(_)) => None,
    };
    match (named, asked) {
        (Some(id), _) => rooms.retain(|room| room.id == id),
        (None, RoomRequest::AtLeast(least)) => rooms.retain(|room| room.capacity >= least),
        (None, RoomRequest::This(_)) => {}
    }
    let Some(largest) = rooms.last().map(|room| room.capacity) else {
        return conflict(match named {
            Some(_) => Conflict::NoSuchRoom,
            None => Conflict::NoRoomSoLarge { most },
        });
    };
    let now = meeting.updated_at;
    let is_over = || meeting.room_slots(now, horizon(now)).is_empty();
    let seats = meeting.options.capacity.unwrap_or(0);
    if seats > largest && !is_over() {
        return conflict(Conflict::RoomTooSmall { most: largest });
    }
    rooms.retain(|room| room.capacity >= seats || seats > largest);
    if had.asked() == Some(asked) {
        rooms.sort_by_key(|room| Some(room.id) != had.room);
    }
    Ok(rooms)
}

/// What a meeting takes of a room; what it knew to take before isn't asked for again.
fn plan(wanted: &BTreeSet<RoomSlot>, known: &Slots, taken: &Taken) -> Result<Slots, RoomSlot> {
    let slot = |&slot: &RoomSlot| match (known.contains_key(&slot), taken.overlaps(slot)) {
        (_, false) => Ok((slot, true)),
        (true, true) => Ok((slot, false)),
        (false, true) => Err(slot),
    };
    wanted.iter().map(slot).collect()
}

async fn slots_of(transaction: &mut Writing, meeting: MeetingId) -> Result<Slots, StoreError> {
    let sql = "SELECT starts_at, ends_at, held FROM room_slots WHERE meeting = $1";
    let query = sqlx::query(sql).bind(meeting.to_string());
    let rows = query.fetch_all(&mut **transaction).await.map_err(error)?;
    let slot = |row: &AnyRow| Ok((read_slot(row)?, get::<i64>(row, "held")? != 0));
    rows.iter().map(slot).collect()
}

fn read_slot(row: &AnyRow) -> Result<RoomSlot, StoreError> {
    Ok(RoomSlot {
        starts_at: get_time(row, "starts_at")?,
        ends_at: get_time(row, "ends_at")?,
    })
}

/// When others have the room, as far as that matters here.
async fn taken(
    transaction: &mut Writing,
    room: Uuid,
    meeting: MeetingId,
    wanted: &BTreeSet<RoomSlot>,
) -> Result<Taken, StoreError> {
    let from = wanted.first().map(|slot| slot.starts_at);
    let to = wanted.iter().map(|slot| slot.ends_at).max();
    let (Some(from), Some(to)) = (from, to) else {
        return Ok(Taken::default());
    };
    let sql = "SELECT starts_at, ends_at FROM room_slots
               WHERE room = $1 AND meeting <> $2 AND held = 1 AND ends_at > $3 AND starts_at < $4 ORDER BY starts_at";
    let rows = sqlx::query(sql)
        .bind(room.to_string())
        .bind(meeting.to_string())
        .bind(micros(from))
        .bind(micros(to))
        .fetch_all(&mut **transaction)
        .await
        .map_err(error)?;
    let slots = rows.iter().map(read_slot).collect::<Result<Vec<_>, _>>()?;
    Ok(Taken::new(slots))
}

/// When one of these rooms is free for as long as the time that was taken.
async fn next_free(
    transaction: &mut Writing,
    meeting: &Meeting,
    rooms: &[MeetingRoom],
    missed: RoomSlot,
) -> Result<NextFree, StoreError> {
    let from = missed.starts_at.max(meeting.updated_at);
    let mut to = from.saturating_add(FREE_AHEAD).unwrap_or(from);
    let sql = "SELECT s.room, s.starts_at, s.ends_at FROM room_slots s JOIN rooms r ON r.id = s.room
               WHERE r.organisation = $1 AND s.meeting <> $2 AND s.held = 1 AND s.ends_at > $3 AND s.starts_at < $4
               ORDER BY s.starts_at LIMIT $5";
    let rows = sqlx::query(sql)
        .bind(meeting.organisation.to_string())
        .bind(meeting.id.to_string())
        .bind(micros(from))
        .bind(micros(to))
        .bind(FREE_SLOTS_MAX)
        .fetch_all(&mut **transaction)
        .await
        .map_err(error)?;
    let mut by_room: BTreeMap<Uuid, Vec<RoomSlot>> = BTreeMap::new();
    for row in &rows {
        let slot = read_slot(row)?;
        by_room
            .entry(get_uuid(row, "room")?)
            .or_default()
            .push(slot);
        if i64::try_from(rows.len()) == Ok(FREE_SLOTS_MAX) {
            // Of what is later nothing is known.
            to = slot.starts_at;
        }
    }
    let mut taken_of =
        |room: &MeetingRoom| Taken::new(by_room.remove(&room.id).unwrap_or_default());
    let taken: Vec<Taken> = rooms.iter().map(&mut taken_of).collect();
    let length = missed.ends_at.duration_since(missed.starts_at);
    Ok(NextFree::find(&taken, from, to, length))
}

async fn write_slots(
    transaction: &mut Writing,
    meeting: &Meeting,
    room: Option<Uuid>,
    slots: &Slots,
) -> Result<(), StoreError> {
    let gone =
        sqlx::query("DELETE FROM room_slots WHERE meeting = $1").bind(meeting.id.to_string());
    gone.execute(&mut **transaction).await.map_err(error)?;
    let Some(room) = room else { return Ok(()) };
    let slots: Vec<(&RoomSlot, &bool)> = slots.iter().collect();
    for some in slots.chunks(ROWS_AT_ONCE) {
        let row = |n: usize| {
            let first = 3 + 3 * n;
            format!("($1, $2, ${first}, ${}, ${})", first + 1, first + 2)
        };
        let rows: Vec<String> = (0..some.len()).map(row).collect();
        let sql = format!(
            "INSERT INTO room_slots (meeting, room, starts_at, ends_at, held) VALUES {}",
            rows.join(", ")
        );
        let mut query = sqlx::query(AssertSqlSafe(sql))
            .bind(meeting.id.to_string())
            .bind(room.to_string());
        for (slot, held) in some {
            query = query
                .bind(micros(slot.starts_at))
                .bind(micros(slot.ends_at))
                .bind(i64::from(**held));
        }
        query.execute(&mut **transaction).await.map_err(error)?;
    }
    Ok(())
}

/// Notes the room that the meeting has, how it was asked for, and up to when its times are written.
async fn write_room(
    transaction: &mut Writing,
    meeting: &Meeting,
    until: Option<Timestamp>,
) -> Result<(), StoreError> {
    let least = match meeting.options.room {
        Some(RoomRequest::AtLeast(least)) => Some(i64::from(least)),
        Some(RoomRequest::This(_)) | None => None,
    };
    let until = until.filter(|_| meeting.takes_rooms_for_ever());
    let sql =
        "UPDATE meetings SET room = $2, room_min_capacity = $3, room_until = $4 WHERE id = $1";
    sqlx::query(sql)
        .bind(meeting.id.to_string())
        .bind(meeting.room.as_ref().map(|room| room.id.to_string()))
        .bind(least)
        .bind(until.map(micros))
        .execute(&mut **transaction)
        .await
        .map(drop)
        .map_err(error)
}

const ROWS_AT_ONCE: usize = 200;
/// How far somebody is told when a room is free.
const FREE_AHEAD: SignedDuration = SignedDuration::from_hours(24 * 366);
/// Most bookings that are looked at for that.
const FREE_SLOTS_MAX: i64 = 20_000;
