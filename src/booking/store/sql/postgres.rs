//! PostgreSQL: how its database is opened and what its errors mean.
//!
//! The server may be away. Whoever asks hears so within seconds, nothing is retried behind his back, and
//! the pool comes back by itself with the server.

use std::future::Future;
use std::time::Duration;

use sqlx::AnyPool;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::error::DatabaseError;
use sqlx::{Executor, Row};

use super::{Dialect, MIGRATIONS, SqlStore, error as driver_error, migrate_error};
use crate::booking::store::{Conflict, StoreError};

pub(super) async fn open(url: &str) -> Result<SqlStore, StoreError> {
    sqlx::any::install_default_drivers();
    let options: AnyConnectOptions = url
        .parse()
        .map_err(|_| StoreError::Unavailable("its URL can't be read".to_owned()))?;
    migrate(options.clone()).await?;
    let pool = AnyPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .after_connect(|connection, _| {
            Box::pin(async move { connection.execute(SESSION).await.map(drop) })
        })
        .connect_with(options)
        .await
        .map_err(driver_error)?;
    Ok(SqlStore::new(pool.clone(), pool, Dialect::Postgres))
}

/// Alone and without time limits: a large table takes as long as it takes.
async fn migrate(options: AnyConnectOptions) -> Result<(), StoreError> {
    let alone = AnyPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_with(options)
        .await
        .map_err(driver_error)?;
    let done = MIGRATIONS.run(&alone).await.map_err(migrate_error);
    alone.close().await;
    done
}

/// Is this the server that takes writes?
pub(super) async fn check(read: &AnyPool) -> Result<(), StoreError> {
    let row = sqlx::query("SELECT pg_is_in_recovery() AS standby")
        .fetch_one(read)
        .await
        .map_err(driver_error)?;
    if row.try_get("standby").map_err(driver_error)? {
        Err(StoreError::ReadOnly)
    } else {
        Ok(())
    }
}

/// No question takes longer than this, whatever the network does.
pub(super) async fn in_time<T>(
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(ANSWER_TIMEOUT, work).await {
        Ok(answer) => answer,
        Err(_) => Err(StoreError::Unavailable("no answer in time".to_owned())),
    }
}

/// Tells causes apart by SQLSTATE (PostgreSQL, appendix A).
pub(super) fn error(database: &dyn DatabaseError) -> StoreError {
    let code = database.code().unwrap_or_default();
    match code.as_ref() {
        UNIQUE_VIOLATION => StoreError::Conflict(conflict(database.constraint())),
        DEADLOCK | SERIALIZATION | LOCK_NOT_AVAILABLE => StoreError::Locked,
        DISK_FULL => StoreError::DiskFull,
        READ_ONLY | INSUFFICIENT_PRIVILEGE => StoreError::ReadOnly,
        DATA_CORRUPTED | INDEX_CORRUPTED => StoreError::Corrupt(database.message().to_owned()),
        // Messages of other classes may quote values, PINs among them; the code tells enough.
        _ => StoreError::Unavailable(format!("PostgreSQL error {code}")),
    }
}

/// The names PostgreSQL gives the constraints of our tables.
fn conflict(constraint: Option<&str>) -> Conflict {
    match constraint {
        Some("meetings_organisation_external_id_key") => Conflict::ExternalId,
        Some("idempotency_pkey") => Conflict::Claim,
        Some(_) | None => Conflict::Other,
    }
}

const CONNECTIONS: u32 = 16;
/// Short: while the server is away, callers wait for this.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);
/// The server gives up a little before we do.
const SESSION: &str = "SET application_name = 'voicebridge'; SET statement_timeout = '7s'; SET lock_timeout = '5s'; SET idle_in_transaction_session_timeout = '10s'";
const UNIQUE_VIOLATION: &str = "23505";
const SERIALIZATION: &str = "40001";
const DEADLOCK: &str = "40P01";
const LOCK_NOT_AVAILABLE: &str = "55P03";
const DISK_FULL: &str = "53100";
const READ_ONLY: &str = "25006";
const INSUFFICIENT_PRIVILEGE: &str = "42501";
const DATA_CORRUPTED: &str = "XX001";
const INDEX_CORRUPTED: &str = "XX002";
