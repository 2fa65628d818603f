//! Callers who are in, and minutes of the month.

use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Transaction};

use super::{Dialect, SqlStore, error, get, get_number, micros, organisations};
use crate::booking::admission::{CallId, CallRecord, OrganisationId, Outcome};
use crate::booking::store::quotas::{QuotaStore, SeatClaim, SeatTurn, Used};
use crate::booking::store::{StoreError, StoreFuture};

impl QuotaStore for SqlStore {
    fn take_seat(&self, claim: SeatClaim) -> StoreFuture<'_, SeatTurn> {
        self.bounded(take(self, claim))
    }

    fn leave_seat(&self, call: CallId) -> StoreFuture<'_, ()> {
        self.bounded(async move {
            let delete = sqlx::query("DELETE FROM seats WHERE id = $1").bind(call.to_string());
            delete.execute(&self.write).await.map(drop).map_err(error)
        })
    }

    fn extend_seats(&self, calls: Vec<CallId>, until: Timestamp) -> StoreFuture<'_, ()> {
        self.bounded(extend(self, calls, until))
    }

    fn used(&self, organisation: OrganisationId, at: Timestamp) -> StoreFuture<'_, Used> {
        self.bounded(used(self, organisation, at))
    }
}

/// Where there is a quota, who asks for the same organisation at the same time waits until this transaction ends.
async fn take(store: &SqlStore, claim: SeatClaim) -> Result<SeatTurn, StoreError> {
    let mut transaction = store.begin().await?;
    if let Some(quotas) = quotas(store, &mut transaction, &claim).await? {
        let used = in_use(
            &mut transaction,
            claim.organisation,
            claim.at,
            Some(claim.call),
        )
        .await?;
        let minutes = used.micros / MINUTE_MICROS;
        let is_used_up = |used: u64, most: Option<u64>| most.is_some_and(|most| used >= most);
        if is_used_up(used.callers, quotas.callers) {
            return Ok(SeatTurn::CallersMax);
        }
        if is_used_up(minutes, quotas.minutes) {
            return Ok(SeatTurn::MinutesUsedUp);
        }
    }
    sqlx::query(
        "INSERT INTO seats (id, organisation, begun_at, counts_until) VALUES ($1, $2, $3, $4)
         ON CONFLICT (id) DO UPDATE SET counts_until = excluded.counts_until",
    )
    .bind(claim.call.to_string())
    .bind(claim.organisation.to_string())
    .bind(micros(claim.at))
    .bind(micros(claim.counts_until))
    .execute(&mut *transaction)
    .await
    .map_err(error)?;
    transaction.commit().await.map_err(error)?;
    Ok(SeatTurn::Taken)
}

/// What may be used at most.
struct Quotas {
    callers: Option<u64>,
    minutes: Option<u64>,
}

/// `None`: there are none, or none that holds for him. Whoever else asks waits from here on.
async fn quotas(
    store: &SqlStore,
    transaction: &mut Transaction<'static, Any>,
    claim: &SeatClaim,
) -> Result<Option<Quotas>, StoreError> {
    if !claim.limited {
        return Ok(None);
    }
    let sql = match store.dialect {
        // The transaction has the write lock already.
        Dialect::Sqlite => {
            "SELECT callers_max, minutes_per_month FROM organisations
             WHERE id = $1 AND (callers_max IS NOT NULL OR minutes_per_month IS NOT NULL)"
        }
        Dialect::Postgres(_) => {
            "SELECT callers_max, minutes_per_month FROM organisations
             WHERE id = $1 AND (callers_max IS NOT NULL OR minutes_per_month IS NOT NULL) FOR NO KEY UPDATE"
        }
    };
    let row = sqlx::query(sql)
        .bind(claim.organisation.to_string())
        .fetch_optional(&mut **transaction)
        .await
        .map_err(error)?;
    let quota = |row: &AnyRow, column| {
        let most: Option<i64> = get(row, column)?;
        Ok::<_, StoreError>(most.map(|most| most.max(0).unsigned_abs()))
    };
    row.map(|row| {
        Ok(Quotas {
            callers: quota(&row, "callers_max")?,
            minutes: quota(&row, "minutes_per_month")?,
        })
    })
    .transpose()
}

/// Callers and time, but for one call's.
async fn in_use(
    transaction: &mut Transaction<'static, Any>,
    organisation: OrganisationId,
    at: Timestamp,
    without: Option<CallId>,
) -> Result<Used, StoreError> {
    let without = without.map_or_else(String::new, |call| call.to_string());
    let row = sqlx::query(
        "SELECT COUNT(*) AS callers, CAST(COALESCE(SUM($2 - begun_at), 0) AS BIGINT) AS so_far FROM seats
         WHERE organisation = $1 AND counts_until > $2 AND id <> $3",
    )
    .bind(organisation.to_string())
    .bind(micros(at))
    .bind(without)
    .fetch_one(&mut **transaction)
    .await
    .map_err(error)?;
    let (callers, so_far): (u64, i64) = (get_number(&row, "callers")?, get_number(&row, "so_far")?);
    let row = sqlx::query("SELECT micros FROM usage_months WHERE organisation = $1 AND month = $2")
        .bind(organisation.to_string())
        .bind(month(at))
        .fetch_optional(&mut **transaction)
        .await
        .map_err(error)?;
    let ended = row.map_or(Ok(0), |row| get_number::<u64>(&row, "micros"))?;
    Ok(Used {
        meetings: 0,
        callers,
        micros: ended + so_far.max(0).unsigned_abs(),
    })
}

async fn used(
    store: &SqlStore,
    organisation: OrganisationId,
    at: Timestamp,
) -> Result<Used, StoreError> {
    let mut transaction = store.read.begin().await.map_err(error)?;
    let meetings = organisations::live(&mut transaction, organisation, None, at).await?;
    let used = in_use(&mut transaction, organisation, at, None).await?;
    Ok(Used { meetings, ..used })
}

async fn extend(store: &SqlStore, calls: Vec<CallId>, until: Timestamp) -> Result<(), StoreError> {
    for some in calls.chunks(CALLS_AT_ONCE) {
        let ids: Vec<String> = some.iter().map(|id| format!("'{id}'")).collect();
        let sql = format!(
            "UPDATE seats SET counts_until = $1 WHERE id IN ({})",
            ids.join(", ")
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(micros(until))
            .execute(&store.write)
            .await
            .map_err(error)?;
    }
    Ok(())
}

/// A call is over whose record was kept just now: his seat is free, what it took is counted.
pub(super) async fn leave(
    transaction: &mut Transaction<'static, Any>,
    call: &CallRecord,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM seats WHERE id = $1")
        .bind(call.id.to_string())
        .execute(&mut **transaction)
        .await
        .map_err(error)?;
    let (Some(owner), Some(answered)) = (call.organisation, call.answered_at) else {
        return Ok(());
    };
    let took = micros(call.ended_at) - micros(answered);
    if call.outcome != Outcome::Joined || took <= 0 {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO usage_months (organisation, month, micros) VALUES ($1, $2, $3)
         ON CONFLICT (organisation, month) DO UPDATE SET micros = usage_months.micros + excluded.micros",
    )
    .bind(owner.to_string())
    .bind(month(call.ended_at))
    .bind(took)
    .execute(&mut **transaction)
    .await
    .map(drop)
    .map_err(error)
}

/// Those of nodes that went away.
pub(super) async fn purge(store: &SqlStore, before: Timestamp) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM seats WHERE counts_until < $1")
        .bind(micros(before))
        .execute(&store.write)
        .await
        .map(drop)
        .map_err(error)
}

fn month(at: Timestamp) -> String {
    at.strftime("%Y-%m").to_string()
}

const MINUTE_MICROS: u64 = 60_000_000;
/// Ids in one statement.
const CALLS_AT_ONCE: usize = 500;
