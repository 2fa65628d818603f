//! PINs for new meetings: free, no beginning of another, and not too many of them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::{Any, Row, Transaction};

use super::{Dialect, SqlStore, error, get_number};
use crate::booking::pin::PinMint;
use crate::booking::privacy::{PIN_DIGITS_MAX, PIN_DIGITS_MIN, Pin};
use crate::booking::store::{Conflict, StoreError};

/// How many PINs of the length that each mint gives are taken: counted now and then, as that means reading all of
/// them.
#[derive(Debug, Default)]
pub(super) struct Taken(Mutex<HashMap<PinMint, Count>>);

#[derive(Debug, Clone, Copy)]
struct Count {
    taken: u64,
    in_use_max: u64,
    /// So many more may be given before it is counted again; others may be giving some too.
    until_recount: u64,
}

/// The first candidate that is neither taken nor a beginning of, nor begins with, a PIN in use.
pub(super) async fn allocate(
    store: &SqlStore,
    transaction: &mut Transaction<'static, Any>,
    mint: &PinMint,
) -> Result<Pin, StoreError> {
    if !store.taken.has_room(mint) && !recount(store, transaction, mint).await? {
        return Err(StoreError::Conflict(Conflict::PinsExhausted));
    }
    for _ in 0..CANDIDATES_MAX {
        let candidate = mint
            .candidate()
            .map_err(|none| StoreError::Unavailable(none.to_string()))?;
        if is_ours_alone(store.dialect, transaction, &candidate).await?
            && is_free(transaction, &candidate).await?
        {
            return Ok(candidate);
        }
    }
    Err(StoreError::Conflict(Conflict::PinsExhausted))
}

/// A PIN that was chosen elsewhere, if it is free: no rule is asked but that no PIN is or begins another one.
pub(super) async fn claim(
    dialect: Dialect,
    transaction: &mut Transaction<'static, Any>,
    digits: &Pin,
) -> Result<Pin, StoreError> {
    // Whoever holds these gives PINs now, and waits for nobody.
    for _ in 0..CLAIM_TRIES {
        if is_ours_alone(dialect, transaction, digits).await? {
            return if is_free(transaction, digits).await? {
                Ok(digits.clone())
            } else {
                Err(StoreError::Conflict(Conflict::PinTaken))
            };
        }
        tokio::time::sleep(CLAIM_PAUSE).await;
    }
    Err(StoreError::Locked)
}

/// Two PINs of which one begins with the other have their first digits in common: those are locked until
/// the transaction ends. Never waits, so nobody waits for each other.
async fn is_ours_alone(
    dialect: Dialect,
    transaction: &mut Transaction<'static, Any>,
    candidate: &Pin,
) -> Result<bool, StoreError> {
    match dialect {
        Dialect::Sqlite => Ok(true),
        Dialect::Postgres(_) => {
            let first = candidate.expose().get(..PIN_DIGITS_MIN);
            let first: i32 = first.and_then(|digits| digits.parse().ok()).unwrap_or(0);
            let row = sqlx::query("SELECT pg_try_advisory_xact_lock($1, $2) AS ours")
                .bind(PIN_LOCKS)
                .bind(first)
                .fetch_one(&mut **transaction)
                .await
                .map_err(error)?;
            row.try_get("ours").map_err(error)
        }
    }
}

async fn is_free(
    transaction: &mut Transaction<'static, Any>,
    candidate: &Pin,
) -> Result<bool, StoreError> {
    let digits = candidate.expose();
    let query = sqlx::query(
        "SELECT 1 FROM pins WHERE digits IN ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
         UNION ALL SELECT 1 FROM pins WHERE digits >= $14 AND digits <= $15 LIMIT 1",
    );
    // All its beginnings; those longer than itself are itself.
    let beginnings = (PIN_DIGITS_MIN..=PIN_DIGITS_MAX)
        .map(|length| digits.get(..length).unwrap_or(digits).to_owned());
    let query = beginnings.fold(query, |query, beginning| query.bind(beginning));
    // What begins with the candidate, in whatever order the database keeps texts of digits.
    let last = format!("{digits:9<PIN_DIGITS_MAX$}");
    let query = query.bind(digits.to_owned()).bind(last);
    let taken = query
        .fetch_optional(&mut **transaction)
        .await
        .map_err(error)?;
    Ok(taken.is_none())
}

/// Counts; `false`: there are too many.
async fn recount(
    store: &SqlStore,
    transaction: &mut Transaction<'static, Any>,
    mint: &PinMint,
) -> Result<bool, StoreError> {
    let row = sqlx::query("SELECT COUNT(*) AS taken FROM pins WHERE LENGTH(digits) = $1")
        .bind(i64::try_from(mint.length()).unwrap_or(i64::MAX))
        .fetch_one(&mut **transaction)
        .await
        .map_err(error)?;
    Ok(store.taken.note(mint, get_number(&row, "taken")?))
}

impl Taken {
    /// Takes one of those that may be given before it is counted again.
    fn has_room(&self, mint: &PinMint) -> bool {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(count) = counts.get_mut(mint) else {
            return false;
        };
        let room = count.until_recount > 0 && count.taken < count.in_use_max;
        count.until_recount = count.until_recount.saturating_sub(1);
        count.taken += 1;
        room
    }

    /// Notes a count; is there room for one?
    fn note(&self, mint: &PinMint, taken: u64) -> bool {
        let in_use_max = mint.in_use_max();
        let left = in_use_max.saturating_sub(taken);
        let count = Count {
            taken,
            in_use_max,
            until_recount: left / NODES_AT_ONCE,
        };
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= MINTS_MAX {
            counts.clear();
        }
        counts.insert(mint.clone(), count);
        left > 0
    }
}

/// At most a twentieth of the PINs is taken, so even a tenth of this many misses is out of the question.
const CANDIDATES_MAX: usize = 64;
/// Rules that are remembered with their counts.
const MINTS_MAX: usize = 1_000;
/// Most nodes that give PINs of one store at the same time, for the count; twice what is sensible.
const NODES_AT_ONCE: u64 = 32;
const CLAIM_TRIES: u32 = 100;
const CLAIM_PAUSE: Duration = Duration::from_millis(20);
/// Our locks among all advisory locks of the database.
const PIN_LOCKS: i32 = 0x7662_0001;
