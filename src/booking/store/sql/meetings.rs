//! Meetings and their PINs.

use jiff::Timestamp;
use jiff::civil::DateTime;
use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Row, Transaction};

use super::{
    SqlStore, allocation, error, get, get_number, get_time, get_time_or_null, get_uuid, get_word,
    micros, organisations, pins, room_slots, unreadable, word,
};
use crate::booking::admission::{MeetingId, OrganisationId};
use crate::booking::conference::{MADE_FOR, MARK};
use crate::booking::meeting::{Meeting, MeetingOptions, MeetingState, PinsPer, Schedule, Zone};
use crate::booking::pin::PinRecord;
use crate::booking::privacy::Pin;
use crate::booking::recurrence::RecurrenceId;
use crate::booking::store::{Claim, MeetingFilter, NewBooking, PINS_AT_ONCE_MAX, StoreError};
use crate::media::treatment::SoundOptions;

type Writing = Transaction<'static, Any>;

pub(super) async fn book(store: &SqlStore, booking: NewBooking) -> Result<Meeting, StoreError> {
    let NewBooking {
        mut meeting,
        pins,
        mint,
        claim,
    } = booking;
    debug_assert!(pins.len() <= PINS_AT_ONCE_MAX, "{} PINs", pins.len());
    let mut transaction = store.begin().await?;
    organisations::expect_room(store, &mut transaction, &meeting).await?;
    let rooms = match meeting.options.room {
        Some(_) => room_slots::lock(store, &mut transaction, meeting.organisation).await?,
        None => Vec::new(),
    };
    insert_meeting(&mut transaction, &meeting).await?;
    if meeting.options.room.is_some() {
        room_slots::hold(&mut transaction, &mut meeting, rooms).await?;
    }
    meeting.pins.clear();
    let mint = organisations::mint_of(&mut transaction, meeting.id, &mint).await?;
    for new in pins {
        let pin = allocation::allocate(store, &mut transaction, &mint).await?;
        let record = PinRecord {
            id: new.id,
            pin,
            role: new.role,
            label: new.label,
            occurrence: new.occurrence,
        };
        insert_pin(&mut transaction, meeting.id, meeting.created_at, &record).await?;
        meeting.pins.push(record);
    }
    if let Some(claim) = claim {
        insert_claim(&mut transaction, claim).await?;
    }
    transaction.commit().await.map_err(error)?;
    Ok(meeting)
}

pub(super) async fn by_id(store: &SqlStore, id: MeetingId) -> Result<Option<Meeting>, StoreError> {
    let sql = "SELECT m.*, o.name AS organisation_name, r.name AS room_name, r.capacity AS room_capacity FROM meetings m
               JOIN organisations o ON o.id = m.organisation LEFT JOIN rooms r ON r.id = m.room WHERE m.id = $1";
    let row = sqlx::query(sql)
        .bind(id.to_string())
        .fetch_optional(&store.read)
        .await
        .map_err(error)?;
    with_pins(store, row).await
}

pub(super) async fn revisions(
    store: &SqlStore,
    meetings: Vec<MeetingId>,
) -> Result<Vec<(MeetingId, i64)>, StoreError> {
    let mut found = Vec::with_capacity(meetings.len());
    for some in meetings.chunks(IDS_AT_ONCE) {
        let ids: Vec<String> = some.iter().map(|id| format!("'{id}'")).collect();
        let ids = ids.join(", ");
        let sql = format!("SELECT id, revision FROM meetings WHERE id IN ({ids})");
        let rows = sqlx::query(AssertSqlSafe(sql))
            .fetch_all(&store.read)
            .await
            .map_err(error)?;
        for row in &rows {
            found.push((MeetingId(get_uuid(row, "id")?), get(row, "revision")?));
        }
    }
    Ok(found)
}

pub(super) async fn by_external_id(
    store: &SqlStore,
    organisation: OrganisationId,
    external_id: String,
) -> Result<Option<Meeting>, StoreError> {
    let sql = "SELECT m.*, o.name AS organisation_name, r.name AS room_name, r.capacity AS room_capacity FROM meetings m
               JOIN organisations o ON o.id = m.organisation LEFT JOIN rooms r ON r.id = m.room WHERE m.organisation = $1 AND m.external_id = $2";
    let query = sqlx::query(sql)
        .bind(organisation.to_string())
        .bind(external_id);
    let row = query.fetch_optional(&store.read).await.map_err(error)?;
    with_pins(store, row).await
}

pub(super) async fn echo(store: &SqlStore) -> Result<Option<Meeting>, StoreError> {
    let sql = "SELECT m.*, o.name AS organisation_name, r.name AS room_name, r.capacity AS room_capacity FROM meetings m
               JOIN organisations o ON o.id = m.organisation LEFT JOIN rooms r ON r.id = m.room WHERE m.echo = 1 ORDER BY m.created_at, m.id LIMIT 1";
    let row = sqlx::query(sql)
        .fetch_optional(&store.read)
        .await
        .map_err(error)?;
    with_pins(store, row).await
}

pub(super) async fn list(
    store: &SqlStore,
    filter: MeetingFilter,
) -> Result<Vec<Meeting>, StoreError> {
    let (after_at, after_id) = filter
        .after
        .map(|(at, id)| (micros(at), id.to_string()))
        .unzip();
    let rows = sqlx::query(
        "SELECT m.*, o.name AS organisation_name, r.name AS room_name, r.capacity AS room_capacity FROM meetings m JOIN organisations o ON o.id = m.organisation LEFT JOIN rooms r ON r.id = m.room
         WHERE m.echo = 0
           AND ($1 IS NULL OR m.organisation = $1)
           AND ($2 IS NULL OR m.closes_at IS NULL OR m.closes_at > $2)
           AND ($3 IS NULL OR m.starts_at < $3)
           AND ($4 IS NULL
             OR ($4 = 'cancelled' AND m.cancelled_at IS NOT NULL)
             OR ($4 = 'ended' AND m.cancelled_at IS NULL AND (m.closes_at <= $5 OR m.recurrence IS NOT NULL))
             OR ($4 = 'scheduled' AND m.cancelled_at IS NULL AND (m.opens_at > $5 OR m.recurrence IS NOT NULL) AND (m.closes_at IS NULL OR m.closes_at > $5))
             OR ($4 = 'open' AND m.cancelled_at IS NULL AND m.opens_at <= $5 AND (m.closes_at IS NULL OR m.closes_at > $5)))
           AND ($6 IS NULL OR m.starts_at > $6 OR (m.starts_at = $6 AND m.id > $7))
         ORDER BY m.starts_at, m.id LIMIT $8",
    )
    .bind(filter.organisation.map(|id| id.to_string()))
    .bind(filter.from.map(micros))
    .bind(filter.to.map(micros))
    .bind(filter.state.map(state_word))
    .bind(micros(filter.now))
    .bind(after_at)
    .bind(after_id)
    .bind(i64::from(filter.limit))
    .fetch_all(&store.read)
    .await
    .map_err(error)?;
    let mut meetings = Vec::with_capacity(rows.len());
    for row in rows {
        meetings.extend(with_pins(store, Some(row)).await?);
    }
    Ok(meetings)
}

pub(super) async fn change(store: &SqlStore, mut meeting: Meeting) -> Result<bool, StoreError> {
    let mut transaction = store.begin().await?;
    if comes_back(&mut transaction, &meeting).await? {
        organisations::expect_room(store, &mut transaction, &meeting).await?;
    }
    let had = room_slots::Had::read(&mut transaction, meeting.id).await?;
    let rooms = if meeting.options.room.is_some() || had.has_room() {
        Some(room_slots::lock(store, &mut transaction, meeting.organisation).await?)
    } else {
        None
    };
    if !update(&mut transaction, &meeting).await? {
        return Ok(false);
    }
    if let Some(rooms) = rooms {
        room_slots::hold(&mut transaction, &mut meeting, rooms).await?;
    }
    if meeting.options.pins_per == PinsPer::Occurrence
        && !pins::follow(&mut transaction, &meeting).await?
    {
        return Ok(false);
    }
    transaction.commit().await.map_err(error)?;
    Ok(true)
}

/// `false`: its revision is another one.
async fn update(transaction: &mut Writing, meeting: &Meeting) -> Result<bool, StoreError> {
    let options = &meeting.options;
    let query = sqlx::query(
        "UPDATE meetings SET external_id = $3, title = $4, timezone = $5, starts_local = $6, ends_local = $7, starts_at = $8,
             ends_at = $9, opens_at = $10, closes_at = $11, capacity = $12, language = $13, metadata = $14, wait_for_host = $15,
             mute_on_join = $16, guests_may_unmute = $17, early_join_minutes = $18, overrun_minutes = $19, recurrence = $20, cancelled_at = $21,
             ended_at = $22, updated_at = $23, automatic_gain = $24, noise_suppression = $25, pins_per = $26, revision = revision + 1
         WHERE id = $1 AND revision = $2",
    )
    .bind(meeting.id.to_string())
    .bind(meeting.revision);
    let query = bind_options(query, options, meeting)
        .bind(meeting.cancelled_at.map(micros))
        .bind(meeting.ended_at.map(micros))
        .bind(micros(meeting.updated_at))
        .bind(i64::from(options.sound.automatic_gain))
        .bind(i64::from(options.sound.noise_suppression))
        .bind(pins_per_word(options));
    let done = query.execute(&mut **transaction).await.map_err(error)?;
    Ok(done.rows_affected() > 0)
}

/// Was it over or cancelled, and is it no longer?
async fn comes_back(transaction: &mut Writing, meeting: &Meeting) -> Result<bool, StoreError> {
    let now = meeting.updated_at;
    let lives = meeting.cancelled_at.is_none() && meeting.closes_at().is_none_or(|at| at > now);
    if !lives {
        return Ok(false);
    }
    let sql =
        "SELECT 1 FROM meetings WHERE id = $1 AND (cancelled_at IS NOT NULL OR closes_at <= $2)";
    let was_over = sqlx::query(sql)
        .bind(meeting.id.to_string())
        .bind(micros(now))
        .fetch_optional(&mut **transaction)
        .await
        .map_err(error)?;
    Ok(was_over.is_some())
}

pub(super) async fn by_pin(
    store: &SqlStore,
    pin: Pin,
) -> Result<Option<(PinRecord, Meeting)>, StoreError> {
    let row = sqlx::query(
        "SELECT m.*, o.name AS organisation_name, r.name AS room_name, r.capacity AS room_capacity,
             p.id AS pin_id, p.digits AS pin_digits, p.role AS pin_role, p.label AS pin_label,
             p.occurrence AS pin_occurrence
         FROM pins p JOIN meetings m ON m.id = p.meeting JOIN organisations o ON o.id = m.organisation LEFT JOIN rooms r ON r.id = m.room
         WHERE p.digits = $1 AND p.withdrawn_at IS NULL",
    )
    .bind(pin.expose().to_owned())
    .fetch_optional(&store.read)
    .await
    .map_err(error)?;
    let Some(row) = row else { return Ok(None) };
    let record = PinRecord {
        id: get_uuid(&row, "pin_id")?,
        pin: Pin::parse(get(&row, "pin_digits")?).map_err(|_| unreadable("digits"))?,
        role: get_word(&row, "pin_role")?,
        label: get(&row, "pin_label")?,
        occurrence: occurrence(&row, "pin_occurrence")?,
    };
    let mut meeting = meeting(&row)?;
    meeting.pins.push(record.clone());
    Ok(Some((record, meeting)))
}

pub(super) async fn with_occurrence_pins(
    store: &SqlStore,
    not_over_by: Timestamp,
    after: Option<MeetingId>,
    limit: u32,
) -> Result<Vec<Meeting>, StoreError> {
    let sql = "SELECT m.*, o.name AS organisation_name, r.name AS room_name, r.capacity AS room_capacity FROM meetings m JOIN organisations o ON o.id = m.organisation LEFT JOIN rooms r ON r.id = m.room
               WHERE m.pins_per IS NOT NULL AND m.cancelled_at IS NULL AND (m.closes_at IS NULL OR m.closes_at > $1) AND m.id > $2
               ORDER BY m.id LIMIT $3";
    let rows = sqlx::query(sql)
        .bind(micros(not_over_by))
        .bind(after.map(|id| id.to_string()).unwrap_or_default())
        .bind(i64::from(limit))
        .fetch_all(&store.read)
        .await
        .map_err(error)?;
    let mut meetings = Vec::with_capacity(rows.len());
    for row in rows {
        meetings.extend(with_pins(store, Some(row)).await?);
    }
    Ok(meetings)
}

/// Endless series whose rooms are taken for less far than until then.
pub(super) async fn with_rooms_until(
    store: &SqlStore,
    until: Timestamp,
    after: Option<MeetingId>,
    limit: u32,
) -> Result<Vec<Meeting>, StoreError> {
    let sql = "SELECT m.*, o.name AS organisation_name, r.name AS room_name, r.capacity AS room_capacity FROM meetings m
               JOIN organisations o ON o.id = m.organisation LEFT JOIN rooms r ON r.id = m.room
               WHERE m.room_until < $1 AND m.id > $2 ORDER BY m.id LIMIT $3";
    let rows = sqlx::query(sql)
        .bind(micros(until))
        .bind(after.map(|id| id.to_string()).unwrap_or_default())
        .bind(i64::from(limit))
        .fetch_all(&store.read)
        .await
        .map_err(error)?;
    rows.iter().map(meeting).collect()
}

/// From one length to the next by the index, however many PINs there are.
pub(super) async fn pin_lengths(store: &SqlStore) -> Result<Vec<usize>, StoreError> {
    let sql = "SELECT LENGTH(digits) AS length FROM pins WHERE LENGTH(digits) > $1 ORDER BY LENGTH(digits) LIMIT 1";
    let mut lengths = Vec::new();
    loop {
        let longest = lengths.last().copied().unwrap_or(0);
        let row = sqlx::query(sql)
            .bind(i32::try_from(longest).unwrap_or(i32::MAX))
            .fetch_optional(&store.read)
            .await
            .map_err(error)?;
        match row {
            Some(row) => lengths.push(get_number(&row, "length")?),
            None => return Ok(lengths),
        }
    }
}

pub(super) async fn live_pins(store: &SqlStore, now: Timestamp) -> Result<u64, StoreError> {
    let sql = "SELECT COUNT(*) AS live FROM pins p JOIN meetings m ON m.id = p.meeting
               WHERE p.withdrawn_at IS NULL AND m.cancelled_at IS NULL AND (m.closes_at IS NULL OR m.closes_at > $1)";
    let row = sqlx::query(sql)
        .bind(micros(now))
        .fetch_one(&store.read)
        .await
        .map_err(error)?;
    get_number(&row, "live")
}

pub(super) async fn live_conferences(
    store: &SqlStore,
    organisation: OrganisationId,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let sql = "SELECT COUNT(*) AS live FROM meetings
               WHERE organisation = $1 AND external_id LIKE $2 AND metadata LIKE $3 AND cancelled_at IS NULL AND closes_at > $4";
    let row = sqlx::query(sql)
        .bind(organisation.to_string())
        .bind(format!("{MARK}%"))
        .bind(format!("%\"{MADE_FOR}\":%"))
        .bind(micros(now))
        .fetch_one(&store.read)
        .await
        .map_err(error)?;
    get_number(&row, "live")
}

/// Deletes an organisation's meetings that were over before then.
pub(super) async fn purge(
    store: &SqlStore,
    organisation: OrganisationId,
    before: Timestamp,
) -> Result<u64, StoreError> {
    let sql = "DELETE FROM meetings
               WHERE organisation = $2 AND echo = 0 AND COALESCE(cancelled_at, closes_at) < $1 AND updated_at < $1";
    let gone = sqlx::query(sql)
        .bind(micros(before))
        .bind(organisation.to_string())
        .execute(&store.write)
        .await
        .map_err(error)?;
    Ok(gone.rows_affected())
}

/// Deletes the PINs of meetings that were over before then, and those that were withdrawn before then.
pub(super) async fn release_pins(store: &SqlStore, before: Timestamp) -> Result<u64, StoreError> {
    let sql = "DELETE FROM pins WHERE withdrawn_at < $1 OR meeting IN
               (SELECT id FROM meetings WHERE echo = 0 AND COALESCE(cancelled_at, closes_at) < $1 AND updated_at < $1)";
    let released = sqlx::query(sql)
        .bind(micros(before))
        .execute(&store.write)
        .await
        .map_err(error)?;
    Ok(released.rows_affected())
}

async fn insert_meeting(transaction: &mut Writing, meeting: &Meeting) -> Result<(), StoreError> {
    let query = sqlx::query(
        "INSERT INTO meetings (id, organisation, external_id, title, timezone, starts_local, ends_local, starts_at, ends_at,
             opens_at, closes_at, capacity, language, metadata, wait_for_host, mute_on_join, guests_may_unmute,
             early_join_minutes, overrun_minutes, recurrence, echo, created_at, updated_at, revision,
             automatic_gain, noise_suppression, pins_per)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23,
             $24, $25, $26, $27)",
    )
    .bind(meeting.id.to_string())
    .bind(meeting.organisation.to_string());
    bind_options(query, &meeting.options, meeting)
        .bind(i64::from(meeting.echo))
        .bind(micros(meeting.created_at))
        .bind(micros(meeting.updated_at))
        .bind(meeting.revision)
        .bind(i64::from(meeting.options.sound.automatic_gain))
        .bind(i64::from(meeting.options.sound.noise_suppression))
        .bind(pins_per_word(&meeting.options))
        .execute(&mut **transaction)
        .await
        .map(drop)
        .map_err(error)
}

type Query<'q> = sqlx::query::Query<'q, Any, sqlx::any::AnyArguments>;

/// The columns from `external_id` to `recurrence`, in the order both statements name them.
fn bind_options<'q>(query: Query<'q>, options: &MeetingOptions, meeting: &Meeting) -> Query<'q> {
    let schedule = &options.schedule;
    query
        .bind(options.external_id.clone())
        .bind(options.title.clone())
        .bind(schedule.zone_name().to_owned())
        .bind(schedule.starts_local().to_string())
        .bind(schedule.ends_local().map(|local| local.to_string()))
        .bind(micros(schedule.starts_at()))
        .bind(schedule.ends_at().map(micros))
        .bind(micros(meeting.opens_at()))
        .bind(meeting.closes_at().map(micros))
        .bind(options.capacity.map(i64::from))
        .bind(options.language.map(|language| language.code()))
        .bind(options.metadata.as_ref().map(ToString::to_string))
        .bind(i64::from(options.wait_for_host))
        .bind(i64::from(options.mute_on_join))
        .bind(i64::from(options.guests_may_unmute))
        .bind(i64::from(options.early_join_minutes))
        .bind(i64::from(options.overrun_minutes))
        .bind(
            options
                .recurrence
                .as_ref()
                .and_then(|recurrence| serde_json::to_string(recurrence).ok()),
        )
}

pub(super) async fn insert_pin(
    transaction: &mut Writing,
    meeting: MeetingId,
    at: Timestamp,
    record: &PinRecord,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO pins (id, meeting, digits, role, label, created_at, occurrence) VALUES ($1, $2, $3, $4, $5, $6, $7)")
        .bind(record.id.to_string())
        .bind(meeting.to_string())
        .bind(record.pin.expose().to_owned())
        .bind(word(&record.role))
        .bind(record.label.clone())
        .bind(micros(at))
        .bind(record.occurrence.map(|id| id.to_string()))
        .execute(&mut **transaction)
        .await
        .map(drop)
        .map_err(error)
}

/// An expired claim of the same name gives way.
async fn insert_claim(transaction: &mut Writing, claim: Claim) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM idempotency WHERE api_key = $1 AND name = $2 AND created_at <= $3")
        .bind(claim.key.to_string())
        .bind(claim.name.clone())
        .bind(micros(claim.expired_before()))
        .execute(&mut **transaction)
        .await
        .map_err(error)?;
    sqlx::query("INSERT INTO idempotency (api_key, name, body_hash, meeting, created_at) VALUES ($1, $2, $3, $4, $5)")
        .bind(claim.key.to_string())
        .bind(claim.name)
        .bind(claim.body_hash)
        .bind(claim.meeting.to_string())
        .bind(micros(claim.created_at))
        .execute(&mut **transaction)
        .await
        .map(drop)
        .map_err(error)
}

async fn with_pins(store: &SqlStore, row: Option<AnyRow>) -> Result<Option<Meeting>, StoreError> {
    let Some(row) = row else { return Ok(None) };
    let mut meeting = meeting(&row)?;
    let sql = "SELECT id, digits, role, label, occurrence FROM pins WHERE meeting = $1 AND withdrawn_at IS NULL ORDER BY created_at, role, id";
    let rows = sqlx::query(sql)
        .bind(meeting.id.to_string())
        .fetch_all(&store.read)
        .await
        .map_err(error)?;
    meeting.pins = rows.iter().map(pin).collect::<Result<_, _>>()?;
    Ok(Some(meeting))
}

fn pin(row: &AnyRow) -> Result<PinRecord, StoreError> {
    Ok(PinRecord {
        id: get_uuid(row, "id")?,
        pin: Pin::parse(get(row, "digits")?).map_err(|_| unreadable("digits"))?,
        role: get_word(row, "role")?,
        label: get(row, "label")?,
        occurrence: occurrence(row, "occurrence")?,
    })
}

fn meeting(row: &AnyRow) -> Result<Meeting, StoreError> {
    let (asked, room) = room_slots::of_meeting(row)?;
    Ok(Meeting {
        id: MeetingId(get_uuid(row, "id")?),
        organisation: OrganisationId(get_uuid(row, "organisation")?),
        organisation_name: get(row, "organisation_name")?,
        options: MeetingOptions {
            room: asked,
            ..options(row)?
        },
        room,
        pins: Vec::new(),
        echo: get::<i64>(row, "echo")? != 0,
        cancelled_at: get_time_or_null(row, "cancelled_at")?,
        ended_at: get_time_or_null(row, "ended_at")?,
        created_at: get_time(row, "created_at")?,
        updated_at: get_time(row, "updated_at")?,
        revision: get(row, "revision")?,
    })
}

fn options(row: &AnyRow) -> Result<MeetingOptions, StoreError> {
    let language: Option<String> = get(row, "language")?;
    let metadata: Option<String> = get(row, "metadata")?;
    let recurrence: Option<String> = get(row, "recurrence")?;
    Ok(MeetingOptions {
        title: get(row, "title")?,
        schedule: schedule(row)?,
        recurrence: recurrence
            .map(|json| serde_json::from_str(&json))
            .transpose()
            .map_err(|_| unreadable("recurrence"))?,
        room: None,
        capacity: match row.try_get::<Option<i64>, _>("capacity").map_err(error)? {
            Some(_) => Some(get_number(row, "capacity")?),
            None => None,
        },
        language: language
            .map(|code| code.parse())
            .transpose()
            .map_err(|_| unreadable("language"))?,
        external_id: get(row, "external_id")?,
        metadata: metadata
            .map(|json| serde_json::from_str(&json))
            .transpose()
            .map_err(|_| unreadable("metadata"))?,
        wait_for_host: get::<i64>(row, "wait_for_host")? != 0,
        mute_on_join: get::<i64>(row, "mute_on_join")? != 0,
        guests_may_unmute: get::<i64>(row, "guests_may_unmute")? != 0,
        early_join_minutes: get_number(row, "early_join_minutes")?,
        overrun_minutes: get_number(row, "overrun_minutes")?,
        sound: SoundOptions {
            automatic_gain: get::<i64>(row, "automatic_gain")? != 0,
            noise_suppression: get::<i64>(row, "noise_suppression")? != 0,
        },
        pins_per: match row.try_get::<Option<&str>, _>("pins_per").map_err(error)? {
            Some(_) => get_word(row, "pins_per")?,
            None => PinsPer::Series,
        },
    })
}

fn pins_per_word(options: &MeetingOptions) -> Option<String> {
    (options.pins_per != PinsPer::Series).then(|| word(&options.pins_per))
}

fn occurrence(row: &AnyRow, column: &str) -> Result<Option<RecurrenceId>, StoreError> {
    let id: Option<&str> = get(row, column)?;
    id.map(str::parse)
        .transpose()
        .map_err(|_| unreadable(column))
}

fn schedule(row: &AnyRow) -> Result<Schedule, StoreError> {
    let zone = Zone::named(get(row, "timezone")?).ok_or_else(|| unreadable("timezone"))?;
    let starts_local: DateTime = get::<&str>(row, "starts_local")?
        .parse()
        .map_err(|_| unreadable("starts_local"))?;
    let ends_local: Option<&str> = get(row, "ends_local")?;
    let ends_local = ends_local
        .map(str::parse)
        .transpose()
        .map_err(|_| unreadable("ends_local"))?;
    let starts_at = get_time(row, "starts_at")?;
    Ok(Schedule::stored(
        zone,
        (starts_local, starts_at),
        ends_local.zip(get_time_or_null(row, "ends_at")?),
    ))
}

/// `None` of the words for live: the store doesn't know who is there.
fn state_word(state: MeetingState) -> &'static str {
    match state {
        MeetingState::Scheduled => "scheduled",
        MeetingState::Open | MeetingState::Live => "open",
        MeetingState::Ended => "ended",
        MeetingState::Cancelled => "cancelled",
    }
}

/// In one statement.
const IDS_AT_ONCE: usize = 500;
