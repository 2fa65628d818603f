//! The PINs of a meeting that exists: added, withdrawn, replaced.

use sqlx::{Any, Transaction};

use super::{SqlStore, allocation, error, get_number, meetings, micros, organisations};
use crate::booking::meeting::Meeting;
use crate::booking::pin::PinRecord;
use crate::booking::store::{Conflict, NewPin, PinChange, PinStep, StoreError};

pub(super) async fn change(
    store: &SqlStore,
    mut change: PinChange,
) -> Result<Option<Meeting>, StoreError> {
    let id = change.meeting;
    let mut transaction = store.begin().await?;
    // Also holds back whoever else changes the PINs of this meeting.
    let sql = "UPDATE meetings SET updated_at = $2, revision = revision + 1 WHERE id = $1";
    let found = sqlx::query(sql)
        .bind(id.to_string())
        .bind(micros(change.at))
        .execute(&mut *transaction)
        .await
        .map_err(error)?;
    if found.rows_affected() == 0 {
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
    let pin = match &new.digits {
        Some(digits) => allocation::claim(store.dialect, transaction, digits).await?,
        None => allocation::allocate(store, transaction, &change.mint).await?,
    };
    let record = PinRecord {
        id: new.id,
        pin,
        role: new.role,
        label: new.label.clone(),
    };
    meetings::insert_pin(transaction, change.meeting, change.at, &record).await
}

/// `false`: it was withdrawn before, or isn't this meeting's.
async fn withdraw(
    transaction: &mut Transaction<'static, Any>,
    change: &PinChange,
    id: uuid::Uuid,
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
    let sql =
        "SELECT COUNT(*) AS kept, COUNT(withdrawn_at) AS withdrawn FROM pins WHERE meeting = $1";
    let row = sqlx::query(sql)
        .bind(change.meeting.to_string())
        .fetch_one(&mut **transaction)
        .await
        .map_err(error)?;
    let (kept, withdrawn): (u64, u64) = (get_number(&row, "kept")?, get_number(&row, "withdrawn")?);
    if kept > PINS_MAX {
        Err(StoreError::Conflict(Conflict::PinsMax))
    } else if kept == withdrawn {
        Err(StoreError::Conflict(Conflict::LastPin))
    } else {
        Ok(())
    }
}

/// PINs of one meeting, with those in quarantine.
const PINS_MAX: u64 = 1_000;
