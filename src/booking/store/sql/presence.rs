//! Who is in which meeting, by the events that told so: written with them, in the same transaction.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sqlx::{Any, Transaction};

use super::{SqlStore, error, get, get_uuid, micros, unreadable};
use crate::booking::admission::MeetingId;
use crate::booking::event::{Event, EventKind};
use crate::booking::presence::{LeftBehind, Teller};
use crate::booking::store::StoreError;

/// Notes what an event says of who is there.
pub(super) async fn note(
    transaction: &mut Transaction<'static, Any>,
    event: &Event,
    teller: &Teller,
) -> Result<(), StoreError> {
    let Some(meeting) = event.meeting.map(|meeting| meeting.to_string()) else {
        return Ok(());
    };
    let participant = event.participant().unwrap_or_default();
    let (node, process) = (teller.node.clone(), teller.process.to_string());
    let query = match event.kind {
        EventKind::ParticipantWaiting
        | EventKind::ParticipantJoined
        | EventKind::ParticipantUpdated => {
            let came = event.kind != EventKind::ParticipantUpdated;
            sqlx::query(if came { CAME } else { CHANGED })
                .bind(participant)
                .bind(meeting)
                .bind(node)
                .bind(process)
                .bind(micros(event.at))
                .bind(event.data.to_string())
        }
        // Another node may have him by now.
        EventKind::ParticipantLeft => {
            let sql = "DELETE FROM present WHERE participant = $1 AND node = $2";
            sqlx::query(sql).bind(participant).bind(node)
        }
        EventKind::MeetingStarted => sqlx::query(
            "INSERT INTO live_meetings (meeting, node, process, at) VALUES ($1, $2, $3, $4)
             ON CONFLICT (meeting, node) DO UPDATE SET process = excluded.process, at = excluded.at",
        )
        .bind(meeting)
        .bind(node)
        .bind(process)
        .bind(micros(event.at)),
        EventKind::MeetingEnded => {
            let sql = "DELETE FROM live_meetings WHERE meeting = $1 AND node = $2";
            sqlx::query(sql).bind(meeting).bind(node)
        }
        EventKind::CallRefused | EventKind::FailureBudgetLow | EventKind::WebhookTest => {
            return Ok(());
        }
    };
    let noted = query.execute(&mut **transaction).await;
    noted.map(drop).map_err(error)
}

/// A process lives.
pub(super) async fn beat(
    store: &SqlStore,
    teller: Teller,
    now: Timestamp,
) -> Result<(), StoreError> {
    let beat = sqlx::query(
        "INSERT INTO processes (process, node, beat_at, home) VALUES ($1, $2, $3, $4)
         ON CONFLICT (process) DO UPDATE SET beat_at = excluded.beat_at",
    )
    .bind(teller.process.to_string())
    .bind(teller.node)
    .bind(micros(now))
    .bind(teller.home.map(|home| home.to_string()))
    .execute(&store.write);
    beat.await.map(drop).map_err(error)
}

/// What earlier processes of this node left that have been silent since then, or lived where this one lives
/// alone now. A meeting that is live by a
/// living process elsewhere too ends there.
pub(super) async fn left_behind(
    store: &SqlStore,
    teller: Teller,
    silent_since: Timestamp,
) -> Result<Vec<LeftBehind>, StoreError> {
    let (node, process) = (teller.node, teller.process.to_string());
    let home = teller
        .home
        .map_or_else(String::new, |home| home.to_string());
    let mut transaction = store.begin().await?;
    sqlx::query(
        "DELETE FROM live_meetings WHERE node = $1 AND process <> $2
         AND NOT EXISTS (SELECT 1 FROM processes p WHERE p.process = live_meetings.process AND p.beat_at > $3
                         AND (p.home IS NULL OR p.home <> $4))
         AND EXISTS (SELECT 1 FROM live_meetings o JOIN processes p ON p.process = o.process AND p.beat_at > $3
                     WHERE o.meeting = live_meetings.meeting AND o.node <> $1)",
    )
    .bind(node.clone())
    .bind(process.clone())
    .bind(micros(silent_since))
    .bind(home.clone())
    .execute(&mut *transaction)
    .await
    .map_err(error)?;
    let rows = sqlx::query(
        "SELECT meeting, data, at FROM present WHERE node = $1 AND process <> $2
             AND NOT EXISTS (SELECT 1 FROM processes p WHERE p.process = present.process AND p.beat_at > $3
                             AND (p.home IS NULL OR p.home <> $4))
         UNION ALL SELECT meeting, NULL, at FROM live_meetings WHERE node = $1 AND process <> $2
             AND NOT EXISTS (SELECT 1 FROM processes p WHERE p.process = live_meetings.process AND p.beat_at > $3
                             AND (p.home IS NULL OR p.home <> $4))
         ORDER BY at, meeting",
    )
    .bind(node)
    .bind(process)
    .bind(micros(silent_since))
    .bind(home)
    .fetch_all(&mut *transaction)
    .await
    .map_err(error)?;
    transaction.commit().await.map_err(error)?;
    let mut left: BTreeMap<_, LeftBehind> = BTreeMap::new();
    for row in &rows {
        let meeting = get_uuid(row, "meeting")?;
        let of_meeting = left.entry(meeting).or_insert_with(|| LeftBehind {
            meeting: MeetingId(meeting),
            participants: Vec::new(),
            was_live: false,
        });
        match get::<Option<String>>(row, "data")? {
            Some(data) => {
                let data = serde_json::from_str(&data).map_err(|_| unreadable("data"))?;
                of_meeting.participants.push(data);
            }
            None => of_meeting.was_live = true,
        }
    }
    Ok(left.into_values().collect())
}

/// Of nodes that never come back.
pub(super) async fn purge(store: &SqlStore, before: Timestamp) -> Result<(), StoreError> {
    for sql in [
        "DELETE FROM processes WHERE beat_at < $1",
        "DELETE FROM present WHERE at < $1",
        "DELETE FROM live_meetings WHERE at < $1
         AND NOT EXISTS (SELECT 1 FROM present p WHERE p.meeting = live_meetings.meeting AND p.node = live_meetings.node)",
    ] {
        let delete = sqlx::query(sql).bind(micros(before));
        delete.execute(&store.write).await.map_err(error)?;
    }
    Ok(())
}

const CAME: &str =
    "INSERT INTO present (participant, meeting, node, process, at, data) VALUES ($1, $2, $3, $4, $5, $6)
     ON CONFLICT (participant) DO UPDATE SET meeting = excluded.meeting, node = excluded.node,
         process = excluded.process, at = excluded.at, data = excluded.data";
/// What a node tells late of somebody whom another has by now doesn't make him its own again.
const CHANGED: &str = "UPDATE present SET meeting = $2, process = $4, at = $5, data = $6
     WHERE participant = $1 AND node = $3";
