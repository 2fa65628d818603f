//! SQLite: how its file is opened and what its errors mean.
//!
//! Write-ahead log, so that readers never wait and a kill loses nothing that was answered. One
//! connection writes: writers of this process queue for it in order instead of meeting at the file's
//! lock.

use std::path::Path;
use std::time::Duration;

use sqlx::AnyPool;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::error::DatabaseError;
use sqlx::sqlite::{SqliteConnectOptions, SqliteError, SqliteJournalMode};
use sqlx::{ConnectOptions, Connection, Executor, Row};

use super::{Dialect, MIGRATIONS, SqlStore, error as driver_error, migrate_error};
use crate::booking::store::{Conflict, StoreError};

pub(super) async fn open(file: &Path, busy: Duration) -> Result<SqlStore, StoreError> {
    sqlx::any::install_default_drivers();
    try_to_open(file, busy).await?;
    let options = options(file)?;
    let write = pool(1, busy, &[])
        .connect_with(options.clone())
        .await
        .map_err(driver_error)?;
    MIGRATIONS.run(&write).await.map_err(migrate_error)?;
    let read = pool(READERS, busy, &["PRAGMA query_only = on"])
        .connect_with(options)
        .await
        .map_err(driver_error)?;
    Ok(SqlStore::new(read, write, Dialect::Sqlite))
}

/// A pool would try again and again where a file can't be used at all, and then not say why.
async fn try_to_open(file: &Path, busy: Duration) -> Result<(), StoreError> {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .busy_timeout(busy);
    let opened = options.connect().await.map_err(driver_error)?;
    opened.close().await.map_err(driver_error)
}

/// Is the file sound? Slow.
pub(super) async fn check(read: &AnyPool) -> Result<(), StoreError> {
    let row = sqlx::query("PRAGMA quick_check(1)")
        .fetch_one(read)
        .await
        .map_err(driver_error)?;
    let verdict: String = row.try_get(0).map_err(driver_error)?;
    if verdict == "ok" {
        Ok(())
    } else {
        Err(StoreError::Corrupt(verdict))
    }
}

/// Brings what the write-ahead log holds into the file and empties it; what others still read stays in it for now.
pub(super) async fn empty_log(write: &AnyPool) -> Result<(), StoreError> {
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
        .fetch_optional(write)
        .await
        .map(drop)
        .map_err(driver_error)
}

pub(super) fn is_of(database: &dyn DatabaseError) -> bool {
    database.try_downcast_ref::<SqliteError>().is_some()
}

/// Tells causes apart by SQLite's result codes; the low byte is the primary code.
pub(super) fn error(database: &dyn DatabaseError) -> StoreError {
    if database.is_unique_violation() {
        return StoreError::Conflict(conflict(database.message()));
    }
    let code: u32 = database
        .code()
        .and_then(|code| code.parse().ok())
        .unwrap_or(0);
    match code & 0xff {
        SQLITE_BUSY | SQLITE_LOCKED => StoreError::Locked,
        SQLITE_FULL => StoreError::DiskFull,
        SQLITE_READONLY => StoreError::ReadOnly,
        SQLITE_CORRUPT | SQLITE_NOTADB => StoreError::Corrupt(database.message().to_owned()),
        _ => StoreError::Unavailable(database.message().to_owned()),
    }
}

/// SQLite names table and column of the constraint; the values are never part of the message.
fn conflict(message: &str) -> Conflict {
    if message.contains("meetings.external_id") {
        Conflict::ExternalId
    } else if message.contains("idempotency.") {
        Conflict::Claim
    } else {
        Conflict::Other
    }
}

/// The driver takes a URL: everything in the path but letters, digits and `/-._` is escaped.
fn options(file: &Path) -> Result<AnyConnectOptions, StoreError> {
    let unavailable = |error: &dyn std::fmt::Display| StoreError::Unavailable(error.to_string());
    let absolute = std::path::absolute(file).map_err(|error| unavailable(&error))?;
    let mut url = "sqlite://".to_owned();
    for byte in absolute.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' => {
                url.push(char::from(*byte));
            }
            other => url.push_str(&format!("%{other:02X}")),
        }
    }
    url.push_str("?mode=rwc");
    url.parse().map_err(|error| unavailable(&error))
}

fn pool(size: u32, busy: Duration, more: &'static [&'static str]) -> AnyPoolOptions {
    let waiting = format!("PRAGMA busy_timeout = {}", busy.as_millis());
    AnyPoolOptions::new()
        .max_connections(size)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .after_connect(move |connection, _| {
            let waiting = sqlx::AssertSqlSafe(waiting.clone());
            Box::pin(async move {
                connection.execute(waiting).await?;
                for pragma in PRAGMAS.iter().chain(more) {
                    connection.execute(*pragma).await?;
                }
                Ok(())
            })
        })
}

/// How long another process may hold the file.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const PRAGMAS: [&str; 4] = [
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = on",
    // What is deleted is overwritten.
    "PRAGMA secure_delete = on",
];
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
const READERS: u32 = 4;
const SQLITE_BUSY: u32 = 5;
const SQLITE_LOCKED: u32 = 6;
const SQLITE_READONLY: u32 = 8;
const SQLITE_CORRUPT: u32 = 11;
const SQLITE_FULL: u32 = 13;
const SQLITE_NOTADB: u32 = 26;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::booking::admission::OrganisationId;
    use crate::booking::key::Organisation;
    use crate::booking::store::Store as _;
    use jiff::Timestamp;
    use uuid::Uuid;

    async fn store() -> (SqlStore, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        (
            SqlStore::sqlite(&dir.path().join("v.db")).await.unwrap(),
            dir,
        )
    }

    async fn write(store: &SqlStore, name: &str) -> Result<Organisation, StoreError> {
        let new = Organisation {
            id: OrganisationId(Uuid::nil()),
            name: name.to_owned(),
        };
        store.organisation_or_new(Timestamp::UNIX_EPOCH, new).await
    }

    #[tokio::test]
    async fn a_full_disk_is_told_as_such_and_reading_goes_on() {
        let (store, _dir) = store().await;
        sqlx::query("PRAGMA max_page_count = 1")
            .execute(&store.write)
            .await
            .unwrap();
        assert_eq!(
            write(&store, &"x".repeat(100_000)).await,
            Err(StoreError::DiskFull)
        );
        assert_eq!(store.ping().await, Ok(()));
    }

    #[tokio::test]
    async fn a_file_that_may_not_be_written_is_told_as_such() {
        let (store, _dir) = store().await;
        sqlx::query("PRAGMA query_only = on")
            .execute(&store.write)
            .await
            .unwrap();
        assert_eq!(write(&store, "demo").await, Err(StoreError::ReadOnly));
    }

    #[tokio::test]
    async fn a_kill_at_any_time_loses_no_commit() {
        let (store, _dir) = store().await;
        for (pragma, value) in [
            ("journal_mode", "wal"),
            ("synchronous", "2"),
            ("foreign_keys", "1"),
            ("busy_timeout", "5000"),
            ("secure_delete", "1"),
        ] {
            let row = sqlx::query(sqlx::AssertSqlSafe(format!("PRAGMA {pragma}")))
                .fetch_one(&store.write)
                .await
                .unwrap();
            let text = row
                .try_get::<String, _>(0)
                .or_else(|_| row.try_get::<i64, _>(0).map(|n| n.to_string()));
            assert_eq!(text.unwrap(), value, "{pragma}");
        }
    }
}
