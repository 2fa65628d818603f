//! The PINs of a meeting that exists: added, withdrawn, replaced.

use std::collections::HashMap;

use sqlx::{Any, Transaction};
use uuid::Uuid;

use super::{
    SqlStore, allocation, error, get, get_number, get_uuid, meetings, micros, organisations, word,
};
use crate::booking::meeting::Meeting;
use crate::booking::pin::PinRecord;
use crate::booking::recurrence::RecurrenceId;
use crate::booking::store::{Conflict, NewPin, PINS_AT_ONCE_MAX, PinChange, PinStep, StoreError};

pub(super) async fn change(
    store: &SqlStore,
    mut change: PinChange,
) -> Result<Option<Meeting>, StoreError> {
    let id = change.meeting;
    let made = change.steps.iter().filter(|step| step.makes_one()).count();
    debug_assert!(made <= PINS_AT_ONCE_MAX, "{made} PINs");
    let mut transaction = store.begin().await?;
    if !hold(&mut transaction, &change).await? {
        return Ok(None);
    }
    change.mint = organisations::mint_of(&mut transaction, id, &change.mint).await?;
    for step in &change.steps {
        take(store, &mut transaction, &change, step).await?;
    }
    expect_few(&mut transaction, &change).await?;
    transaction.commit().await.map_err(error)?;
    meetings::by_id(store, id).await
}

/// Holds back whoever else changes this meeting or its PINs. `false`: there is none, or not this one any more.
async fn hold(
    transaction: &mut Transaction<'static, Any>,
    change: &PinChange,
) -> Result<bool, StoreError> {
    let query = match change.due_to {
        None => sqlx::query(
            "UPDATE meetings SET updated_at = $2, revision = revision + 1 WHERE id = $1",
        )
        .bind(change.meeting.to_string())
        .bind(micros(change.at)),
        Some(revision) => {
            sqlx::query("UPDATE meetings SET revision = revision WHERE id = $1 AND revision = $2")
                .bind(change.meeting.to_string())
                .bind(revision)
        }
    };
    let held = query.execute(&mut **transaction).await.map_err(error)?;
    Ok(held.rows_affected() > 0)
}

async fn take(
    store: &SqlStore,
    transaction: &mut Transaction<'static, Any>,
    change: &PinChange,
    step: &PinStep,
) -> Result<(), StoreError> {
    match step {
        PinStep::Add(new) => add(store, transaction, change, new).await,
        PinStep::Withdraw(id) => withdraw(transaction, change, *id).await.map(drop),
        PinStep::Replace(id, new) => {
            // Withdrawn by somebody else meanwhile: then nothing takes its place.
            if withdraw(transaction, change, *id).await? {
                add(store, transaction, change, new).await?;
            }
            Ok(())
        }
    }
}

async fn add(
    store: &SqlStore,
    transaction: &mut Transaction<'static, Any>,
    change: &PinChange,
    new: &NewPin,
) -> Result<(), StoreError> {
    if has_such(transaction, change, new).await? {
        return Ok(());
    }
    let pin = match &new.digits {
        Some(digits) => allocation::claim(store.dialect, transaction, digits).await?,
        None => allocation::allocate(store, transaction, &change.mint).await?,
    };
    let record = PinRecord {
        id: new.id,
        pin,
        role: new.role,
        label: new.label.clone(),
        occurrence: new.occurrence,
    };
    meetings::insert_pin(transaction, change.meeting, change.at, &record).await
}

/// Was the occurrence given its PIN by somebody else meanwhile?
async fn has_such(
    transaction: &mut Transaction<'static, Any>,
    change: &PinChange,
    new: &NewPin,
) -> Result<bool, StoreError> {
    let Some(occurrence) = new.occurrence else {
        return Ok(false);
    };
    let sql = "SELECT 1 FROM pins WHERE meeting = $1 AND occurrence = $2 AND role = $3 AND label IS NULL AND withdrawn_at IS NULL";
    let found = sqlx::query(sql)
        .bind(change.meeting.to_string())
        .bind(occurrence.to_string())
        .bind(word(&new.role))
        .fetch_optional(&mut **transaction)
        .await
        .map_err(error)?;
    Ok(found.is_some())
}

/// Brings to the store which occurrences the PINs of a series open. `false`: it was given others meanwhile.
pub(super) async fn follow(
    transaction: &mut Transaction<'static, Any>,
    meeting: &Meeting,
) -> Result<bool, StoreError> {
    let sql = "SELECT id, occurrence FROM pins WHERE meeting = $1 AND occurrence IS NOT NULL AND withdrawn_at IS NULL";
    let rows = sqlx::query(sql)
        .bind(meeting.id.to_string())
        .fetch_all(&mut **transaction)
        .await
        .map_err(error)?;
    let known = meeting.pins.iter().map(|pin| (pin.id, pin.occurrence));
    let known: HashMap<Uuid, Option<RecurrenceId>> = known.collect();
    for row in rows {
        let (id, was): (Uuid, String) = (get_uuid(&row, "id")?, get(&row, "occurrence")?);
        let Some(is) = known.get(&id) else {
            return Ok(false);
        };
        let is = is.map(|id| id.to_string());
        let Some(is) = is.filter(|is| *is != was) else {
            continue;
        };
        sqlx::query("UPDATE pins SET occurrence = $2 WHERE id = $1")
            .bind(id.to_string())
            .bind(is)
            .execute(&mut **transaction)
            .await
            .map_err(error)?;
    }
    Ok(true)
}

/// `false`: it was withdrawn before, or isn't this meeting's.
async fn withdraw(
    transaction: &mut Transaction<'static, Any>,
    change: &PinChange,
    id: Uuid,
) -> Result<bool, StoreError> {
    let sql =
        "UPDATE pins SET withdrawn_at = $3 WHERE id = $1 AND meeting = $2 AND withdrawn_at IS NULL";
    let done = sqlx::query(sql)
        .bind(id.to_string())
        .bind(change.meeting.to_string())
        .bind(micros(change.at))
        .execute(&mut **transaction)
        .await
        .map_err(error)?;
    Ok(done.rows_affected() > 0)
}

/// A meeting keeps one PIN at least, and not too many with those in quarantine.
async fn expect_few(
    transaction: &mut Transaction<'static, Any>,
    change: &PinChange,
) -> Result<(), StoreError> {
    let sql = "SELECT COUNT(*) AS kept, COUNT(withdrawn_at) AS withdrawn, COUNT(occurrence) AS to_one FROM pins
               WHERE meeting = $1";
    let row = sqlx::query(sql)
        .bind(change.meeting.to_string())
        .fetch_one(&mut **transaction)
        .await
        .map_err(error)?;
    let number = |name| get_number::<u64>(&row, name);
    let (kept, withdrawn, to_one) = (number("kept")?, number("withdrawn")?, number("to_one")?);
    if kept - to_one > PINS_MAX || to_one > OCCURRENCE_PINS_MAX {
        Err(StoreError::Conflict(Conflict::PinsMax))
    } else if kept == withdrawn && change.due_to.is_none() {
        Err(StoreError::Conflict(Conflict::LastPin))
    } else {
        Ok(())
    }
}

impl PinStep {
    const fn makes_one(&self) -> bool {
        match self {
            Self::Add(_) | Self::Replace(..) => true,
            Self::Withdraw(_) => false,
        }
    }
}

/// PINs of one meeting, with those in quarantine.
const PINS_MAX: u64 = 1_000;
/// And those of its single occurrences. Each has two, for as long as it is ahead and for 60 days after that; a rule gives
/// one a day, and at most 1,000 are added to it.
const OCCURRENCE_PINS_MAX: u64 = 4_000;
