//! Bookings in a SQLite file.
//!
//! Write-ahead log, so that readers never wait and a kill loses nothing that was answered. One
//! connection writes: writers of this process queue for it in order instead of meeting at the file's
//! lock. The SQL is kept to what PostgreSQL also understands; only this file knows SQLite itself.

mod calls;
mod keys;
mod meetings;

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{Row, Sqlite, Transaction};
use uuid::Uuid;

use super::{
    CallFilter, Claim, Conflict, MeetingFilter, NewBooking, PurgeBefore, Purged, Store, StoreError,
    StoreFuture, StoredCall,
};
use crate::booking::admission::{MeetingId, OrganisationId};
use crate::booking::key::{ApiKey, Organisation};
use crate::booking::meeting::Meeting;
use crate::booking::pin::PinRecord;
use crate::booking::privacy::Pin;

/// A SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    read: SqlitePool,
    write: SqlitePool,
}

impl SqliteStore {
    /// Opens the file, makes it if there is none, and brings its tables up to date.
    ///
    /// # Errors
    /// Every [`StoreError`] but `Conflict`.
    pub async fn open(file: &Path) -> Result<Self, StoreError> {
        Self::open_waiting(file, BUSY_TIMEOUT).await
    }

    /// As [`Self::open`], waiting that long for a lock of another process.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_waiting(file: &Path, busy: Duration) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(busy);
        let pool = |size| {
            SqlitePoolOptions::new()
                .max_connections(size)
                .acquire_timeout(ACQUIRE_TIMEOUT)
        };
        let write = pool(1).connect_with(options.clone()).await.map_err(error)?;
        MIGRATIONS.run(&write).await.map_err(migrate_error)?;
        let read = pool(READERS)
            .connect_with(options.pragma("query_only", "on"))
            .await
            .map_err(error)?;
        Ok(Self { read, write })
    }

    /// Waits for what is being written, then closes the file.
    pub async fn close(&self) {
        self.read.close().await;
        self.write.close().await;
    }

    /// A transaction that holds the write lock from its beginning, so that what it reads stays true.
    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.write
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(error)
    }

    async fn check_now(&self) -> Result<(), StoreError> {
        let transaction = self.begin().await?;
        transaction.rollback().await.map_err(error)?;
        let row = sqlx::query("PRAGMA quick_check(1)")
            .fetch_one(&self.read)
            .await
            .map_err(error)?;
        let verdict: String = row.try_get(0).map_err(error)?;
        if verdict == "ok" {
            Ok(())
        } else {
            Err(StoreError::Corrupt(verdict))
        }
    }

    async fn ping_now(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1 FROM organisations LIMIT 1")
            .fetch_optional(&self.read)
            .await
            .map(drop)
            .map_err(error)
    }

    async fn purge_now(&self, before: PurgeBefore) -> Result<Purged, StoreError> {
        let calls = calls::purge(self, before.calls).await?;
        let (meetings, pins) = meetings::purge(self, before.meetings, before.pins).await?;
        keys::purge_claims(self, before.claims).await?;
        Ok(Purged {
            calls,
            meetings,
            pins,
        })
    }
}

impl Store for SqliteStore {
    fn ping(&self) -> StoreFuture<'_, ()> {
        Box::pin(self.ping_now())
    }

    fn check(&self) -> StoreFuture<'_, ()> {
        Box::pin(self.check_now())
    }

    fn organisation(&self, name: &str) -> StoreFuture<'_, Option<Organisation>> {
        let name = name.to_owned();
        Box::pin(keys::organisation(self, name))
    }

    fn organisations(&self) -> StoreFuture<'_, Vec<Organisation>> {
        Box::pin(keys::organisations(self))
    }

    fn organisation_or_new(
        &self,
        now: Timestamp,
        new: Organisation,
    ) -> StoreFuture<'_, Organisation> {
        Box::pin(keys::organisation_or_new(self, now, new))
    }

    fn book(&self, booking: NewBooking) -> StoreFuture<'_, Meeting> {
        Box::pin(meetings::book(self, booking))
    }

    fn meeting(&self, id: MeetingId) -> StoreFuture<'_, Option<Meeting>> {
        Box::pin(meetings::by_id(self, id))
    }

    fn meeting_by_external_id(
        &self,
        organisation: OrganisationId,
        external_id: &str,
    ) -> StoreFuture<'_, Option<Meeting>> {
        let external_id = external_id.to_owned();
        Box::pin(meetings::by_external_id(self, organisation, external_id))
    }

    fn meetings(&self, filter: MeetingFilter) -> StoreFuture<'_, Vec<Meeting>> {
        Box::pin(meetings::list(self, filter))
    }

    fn echo_meeting(&self) -> StoreFuture<'_, Option<Meeting>> {
        Box::pin(meetings::echo(self))
    }

    fn change(&self, meeting: Meeting) -> StoreFuture<'_, bool> {
        Box::pin(meetings::change(self, meeting))
    }

    fn pin(&self, pin: &Pin) -> StoreFuture<'_, Option<(PinRecord, Meeting)>> {
        let pin = pin.clone();
        Box::pin(meetings::by_pin(self, pin))
    }

    fn pin_lengths(&self) -> StoreFuture<'_, Vec<usize>> {
        Box::pin(meetings::pin_lengths(self))
    }

    fn live_pins(&self, now: Timestamp) -> StoreFuture<'_, u64> {
        Box::pin(meetings::live_pins(self, now))
    }

    fn insert_key(&self, key: ApiKey, hash: String) -> StoreFuture<'_, ()> {
        Box::pin(keys::insert(self, key, hash))
    }

    fn key_by_prefix(&self, prefix: &str) -> StoreFuture<'_, Option<(ApiKey, String)>> {
        let prefix = prefix.to_owned();
        Box::pin(keys::by_prefix(self, prefix))
    }

    fn keys(&self) -> StoreFuture<'_, Vec<ApiKey>> {
        Box::pin(keys::all(self))
    }

    fn revoke_key(&self, now: Timestamp, id: Uuid) -> StoreFuture<'_, bool> {
        Box::pin(keys::revoke(self, now, id))
    }

    fn claimed(&self, key: Uuid, name: &str) -> StoreFuture<'_, Option<Claim>> {
        let name = name.to_owned();
        Box::pin(keys::claimed(self, key, name))
    }

    fn record_call(&self, call: StoredCall) -> StoreFuture<'_, ()> {
        Box::pin(calls::insert(self, call))
    }

    fn calls(&self, filter: CallFilter) -> StoreFuture<'_, Vec<StoredCall>> {
        Box::pin(calls::list(self, filter))
    }

    fn purge(&self, before: PurgeBefore) -> StoreFuture<'_, Purged> {
        Box::pin(self.purge_now(before))
    }
}

/// Tells causes apart by SQLite's result codes; the low byte is the primary code.
fn error(error: sqlx::Error) -> StoreError {
    if let sqlx::Error::Database(database) = &error {
        if database.is_unique_violation() {
            return StoreError::Conflict(conflict(database.message()));
        }
        let code: u32 = database
            .code()
            .and_then(|code| code.parse().ok())
            .unwrap_or(0);
        return match code & 0xff {
            SQLITE_BUSY | SQLITE_LOCKED => StoreError::Locked,
            SQLITE_FULL => StoreError::DiskFull,
            SQLITE_READONLY => StoreError::ReadOnly,
            SQLITE_CORRUPT | SQLITE_NOTADB => StoreError::Corrupt(database.message().to_owned()),
            _ => StoreError::Unavailable(database.message().to_owned()),
        };
    }
    if matches!(
        error,
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)
    ) {
        StoreError::Corrupt("a value can't be read".to_owned())
    } else if matches!(error, sqlx::Error::PoolTimedOut) {
        // The one connection that writes waits for somebody else's lock.
        StoreError::Locked
    } else {
        StoreError::Unavailable(error.to_string())
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

fn migrate_error(migrate: MigrateError) -> StoreError {
    let other = migrate.to_string();
    if let MigrateError::Execute(inner) | MigrateError::ExecuteMigration(inner, _) = migrate {
        return error(inner);
    }
    if matches!(
        migrate,
        MigrateError::VersionMissing(_) | MigrateError::VersionTooNew(..)
    ) {
        StoreError::Newer
    } else if matches!(
        migrate,
        MigrateError::VersionMismatch(_) | MigrateError::Dirty(_)
    ) {
        StoreError::Corrupt(other)
    } else {
        StoreError::Unavailable(other)
    }
}

fn micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}

/// A column of a row, as whatever it is read into.
fn get<'r, T>(row: &'r SqliteRow, column: &str) -> Result<T, StoreError>
where
    T: sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite>,
{
    row.try_get(column).map_err(error)
}

fn get_time(row: &SqliteRow, column: &str) -> Result<Timestamp, StoreError> {
    Timestamp::from_microsecond(get(row, column)?).map_err(|_| unreadable(column))
}

fn get_time_or_null(row: &SqliteRow, column: &str) -> Result<Option<Timestamp>, StoreError> {
    let micros: Option<i64> = get(row, column)?;
    micros
        .map(Timestamp::from_microsecond)
        .transpose()
        .map_err(|_| unreadable(column))
}

fn get_uuid(row: &SqliteRow, column: &str) -> Result<Uuid, StoreError> {
    get::<&str>(row, column)?
        .parse()
        .map_err(|_| unreadable(column))
}

fn get_uuid_or_null(row: &SqliteRow, column: &str) -> Result<Option<Uuid>, StoreError> {
    let text: Option<&str> = get(row, column)?;
    text.map(str::parse)
        .transpose()
        .map_err(|_| unreadable(column))
}

/// A whole number in the range of its use.
fn get_number<T: TryFrom<i64>>(row: &SqliteRow, column: &str) -> Result<T, StoreError> {
    T::try_from(get::<i64>(row, column)?).map_err(|_| unreadable(column))
}

fn get_word<T: serde::de::DeserializeOwned>(
    row: &SqliteRow,
    column: &str,
) -> Result<T, StoreError> {
    let word: String = get(row, column)?;
    serde_json::from_value(serde_json::Value::String(word)).map_err(|_| unreadable(column))
}

fn word<T: serde::Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(_) | Err(_) => String::new(),
    }
}

fn unreadable(column: &str) -> StoreError {
    StoreError::Corrupt(format!("column {column} holds what can't be"))
}

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
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

    async fn store() -> (SqliteStore, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        (
            SqliteStore::open(&dir.path().join("v.db")).await.unwrap(),
            dir,
        )
    }

    async fn write(store: &SqliteStore, name: &str) -> Result<Organisation, StoreError> {
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
