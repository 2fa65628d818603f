//! Failure budgets: shares that are never more than the whole, however many nodes ask at once.

use jiff::{SignedDuration, Timestamp};
use sqlx::{Any, Transaction};

use super::{SqlStore, error, get, get_number, get_time, micros};
use crate::booking::budget::{SHARE_LASTS, Share, more_of};
use crate::booking::store::budget::{BudgetStore, Door, ShareClaim};
use crate::booking::store::{StoreError, StoreFuture};

impl BudgetStore for SqlStore {
    fn share_budget(&self, claim: ShareClaim) -> StoreFuture<'_, Share> {
        self.bounded(share(self, claim))
    }

    fn failures(&self, door: Door, now: Timestamp) -> StoreFuture<'_, u32> {
        self.bounded(failures(self, door, now))
    }
}

/// Who else asks for the same budget waits until this transaction ends.
async fn share(store: &SqlStore, claim: ShareClaim) -> Result<Share, StoreError> {
    let mut transaction = store.begin().await?;
    let was_low = lock(&mut transaction, claim.door).await?;
    let before = holding(&mut transaction, &claim).await?;
    let failed = claim.report.failed.saturating_sub(before.told);
    if failed > 0 {
        add_failures(&mut transaction, &claim, failed).await?;
    }
    let failed_of_all = count_failures(&mut *transaction, claim.door, claim.at).await?;
    let others = held_by_others(&mut transaction, &claim).await?;
    let kept = u64::from(before.held).saturating_sub(failed);
    let taken = u64::from(failed_of_all) + others + kept;
    let free = u64::from(claim.per_hour).saturating_sub(taken);
    let held = u64::from(claim.report.wanted).min(kept + more_of(free));
    hold(&mut transaction, &claim, held).await?;
    let left = claim.per_hour.saturating_sub(failed_of_all);
    let half = claim.per_hour / 2;
    let is_low = left <= half + if was_low { half / 2 } else { 0 };
    if is_low != was_low {
        set_low(&mut transaction, claim.door, is_low).await?;
    }
    transaction.commit().await.map_err(error)?;
    Ok(Share {
        held: u32::try_from(held).unwrap_or(u32::MAX),
        held_by_others: u32::try_from(others).unwrap_or(u32::MAX),
        failed_of_all,
        became_low: is_low && !was_low,
    })
}

/// Makes the budget's row where there is none.
async fn lock(transaction: &mut Transaction<'static, Any>, door: Door) -> Result<bool, StoreError> {
    let row = sqlx::query(
        "INSERT INTO failure_budgets (door, low) VALUES ($1, 0)
         ON CONFLICT (door) DO UPDATE SET low = failure_budgets.low RETURNING low",
    )
    .bind(door.word())
    .fetch_one(&mut **transaction)
    .await
    .map_err(error)?;
    Ok(get::<i64>(&row, "low")? != 0)
}

/// What a process has of a budget.
struct Holding {
    held: u32,
    told: u64,
}

/// A share that nobody renewed for so long that others got it is gone.
async fn holding(
    transaction: &mut Transaction<'static, Any>,
    claim: &ShareClaim,
) -> Result<Holding, StoreError> {
    let row = sqlx::query(
        "SELECT held, told, usable_until FROM failure_shares WHERE door = $1 AND holder = $2",
    )
    .bind(claim.door.word())
    .bind(claim.holder.to_string())
    .fetch_optional(&mut **transaction)
    .await
    .map_err(error)?;
    let Some(row) = row else {
        return Ok(Holding {
            held: 0,
            told: claim.report.told,
        });
    };
    let counts = get_time(&row, "usable_until")? > hour_before(claim.at);
    Ok(Holding {
        held: if counts { get_number(&row, "held")? } else { 0 },
        told: get_number(&row, "told")?,
    })
}

async fn add_failures(
    transaction: &mut Transaction<'static, Any>,
    claim: &ShareClaim,
    how_many: u64,
) -> Result<(), StoreError> {
    let at = claim.report.failed_at.as_second();
    let minute_ends = (at - at.rem_euclid(60)).saturating_add(60);
    let counts_until = minute_ends.saturating_add(HOUR.as_secs());
    let how_many = i64::try_from(how_many).unwrap_or(i64::MAX);
    sqlx::query(
        "INSERT INTO failures (door, counts_until, how_many) VALUES ($1, $2, $3)
         ON CONFLICT (door, counts_until) DO UPDATE SET how_many = failures.how_many + $4",
    )
    .bind(claim.door.word())
    .bind(counts_until.saturating_mul(1_000_000))
    .bind(how_many)
    .bind(how_many)
    .execute(&mut **transaction)
    .await
    .map(drop)
    .map_err(error)
}

async fn failures(store: &SqlStore, door: Door, now: Timestamp) -> Result<u32, StoreError> {
    count_failures(&store.read, door, now).await
}

async fn count_failures<'a>(
    on: impl sqlx::Executor<'a, Database = Any>,
    door: Door,
    now: Timestamp,
) -> Result<u32, StoreError> {
    let row = sqlx::query(
        "SELECT CAST(COALESCE(SUM(how_many), 0) AS BIGINT) AS failed FROM failures WHERE door = $1 AND counts_until > $2",
    )
    .bind(door.word())
    .bind(micros(now))
    .fetch_one(on)
    .await
    .map_err(error)?;
    let failed: u64 = get_number(&row, "failed")?;
    Ok(u32::try_from(failed).unwrap_or(u32::MAX))
}

async fn held_by_others(
    transaction: &mut Transaction<'static, Any>,
    claim: &ShareClaim,
) -> Result<u64, StoreError> {
    let row = sqlx::query(
        "SELECT CAST(COALESCE(SUM(held), 0) AS BIGINT) AS held FROM failure_shares
         WHERE door = $1 AND holder <> $2 AND usable_until > $3",
    )
    .bind(claim.door.word())
    .bind(claim.holder.to_string())
    .bind(micros(hour_before(claim.at)))
    .fetch_one(&mut **transaction)
    .await
    .map_err(error)?;
    get_number(&row, "held")
}

async fn hold(
    transaction: &mut Transaction<'static, Any>,
    claim: &ShareClaim,
    held: u64,
) -> Result<(), StoreError> {
    let usable_until = claim.at.saturating_add(SHARE_LASTS);
    let (held, told) = (i64::try_from(held), i64::try_from(claim.report.failed));
    sqlx::query(
        "INSERT INTO failure_shares (door, holder, held, told, usable_until) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (door, holder) DO UPDATE
         SET held = excluded.held, told = excluded.told, usable_until = excluded.usable_until",
    )
    .bind(claim.door.word())
    .bind(claim.holder.to_string())
    .bind(held.unwrap_or(i64::MAX))
    .bind(told.unwrap_or(i64::MAX))
    .bind(micros(usable_until.unwrap_or(Timestamp::MAX)))
    .execute(&mut **transaction)
    .await
    .map(drop)
    .map_err(error)
}

async fn set_low(
    transaction: &mut Transaction<'static, Any>,
    door: Door,
    low: bool,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE failure_budgets SET low = $1 WHERE door = $2")
        .bind(i64::from(low))
        .bind(door.word())
        .execute(&mut **transaction)
        .await
        .map(drop)
        .map_err(error)
}

/// Forgets what counts no longer.
pub(super) async fn purge(store: &SqlStore, before: Timestamp) -> Result<(), StoreError> {
    for sql in [
        "DELETE FROM failures WHERE counts_until < $1",
        "DELETE FROM failure_shares WHERE usable_until < $1",
    ] {
        sqlx::query(sql)
            .bind(micros(before))
            .execute(&store.write)
            .await
            .map_err(error)?;
    }
    Ok(())
}

fn hour_before(at: Timestamp) -> Timestamp {
    at.saturating_sub(HOUR).unwrap_or(Timestamp::MIN)
}

const HOUR: SignedDuration = SignedDuration::from_hours(1);
