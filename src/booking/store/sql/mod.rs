//! Bookings in an SQL database: a SQLite file or a PostgreSQL server.
//!
//! Every statement is written once, in SQL that both understand. What differs is told apart in three
//! places only: how it is opened ([`sqlite`], [`postgres`]), what its errors mean, and how a transaction
//! that must not meet another begins ([`SqlStore::begin`], `meetings::allocate`).

mod allocation;
mod answers;
mod audit;
mod away;
mod budget;
mod callers;
mod calls;
mod copy;
mod deliveries;
mod dials;
mod events;
mod keys;
mod meetings;
mod numbers;
mod organisations;
mod pins;
mod postgres;
mod presence;
mod quotas;
mod room_slots;
mod rooms;
mod sqlite;
mod statistics;
mod webhooks;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{Any, AnyPool, Row, Transaction};
use uuid::Uuid;

use super::{
    AnswerClaim, AnswerTurn, CallFilter, Claim, DialClaim, DialTurn, MeetingFilter, NewBooking,
    NewEvents, PinChange, PurgeBefore, Purged, Store, StoreError, StoreFuture, StoredCall,
};
use crate::booking::admission::{CallId, MeetingId, OrganisationId};
use crate::booking::audit::{AuditEntry, AuditFilter};
use crate::booking::event::{EventFilter, EventPosition, KeptEvent};
use crate::booking::key::{ApiKey, Organisation};
use crate::booking::meeting::Meeting;
use crate::booking::organisation::OrganisationRecord;
use crate::booking::pin::PinRecord;
use crate::booking::presence::{LeftBehind, Teller};
use crate::booking::privacy::Pin;

/// A database that is open.
#[derive(Debug, Clone)]
pub struct SqlStore {
    read: AnyPool,
    write: AnyPool,
    dialect: Dialect,
    taken: Arc<allocation::Taken>,
    watch: Arc<away::Watch>,
}

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Sqlite,
    Postgres(postgres::Trust),
}

impl SqlStore {
    fn new(read: AnyPool, write: AnyPool, dialect: Dialect) -> Self {
        Self {
            read,
            write,
            dialect,
            taken: Arc::default(),
            watch: Arc::default(),
        }
    }

    /// Opens an SQLite file, makes it if there is none, and brings its tables up to date.
    ///
    /// # Errors
    /// Every [`StoreError`] but `Conflict`.
    pub async fn sqlite(file: &Path) -> Result<Self, StoreError> {
        sqlite::open(file, sqlite::BUSY_TIMEOUT).await
    }

    /// As [`Self::sqlite`], waiting that long for a lock of another process.
    ///
    /// # Errors
    /// As [`Self::sqlite`].
    pub async fn sqlite_waiting(file: &Path, busy: Duration) -> Result<Self, StoreError> {
        sqlite::open(file, busy).await
    }

    /// Opens a database of a PostgreSQL server, which must be there, and brings its tables up to date.
    ///
    /// # Errors
    /// Every [`StoreError`] but `Conflict`.
    pub async fn postgres(url: &str) -> Result<Self, StoreError> {
        postgres::open(url).await
    }

    /// Copies everything into another database, which must be empty: all or nothing. Tells of each table
    /// how many rows it had. Takes as long as it takes; what changes meanwhile is not copied.
    ///
    /// # Errors
    /// [`StoreError::NotEmpty`] and what either database may say.
    pub async fn copy_to(&self, to: &Self) -> Result<Vec<(&'static str, u64)>, StoreError> {
        copy::copy(self, to).await
    }

    /// Waits for what is being written, then closes it.
    pub async fn close(&self) {
        self.read.close().await;
        self.write.close().await;
    }

    /// A transaction for writing. In SQLite it holds the write lock from its beginning, so that what it
    /// reads stays true; in PostgreSQL what must stay true is locked by whoever needs it.
    async fn begin(&self) -> Result<Transaction<'static, Any>, StoreError> {
        let begun = match self.dialect {
            Dialect::Sqlite => self.write.begin_with("BEGIN IMMEDIATE").await,
            Dialect::Postgres(_) => self.write.begin().await,
        };
        begun.map_err(error)
    }

    /// A server may stop answering without a word; a file can't.
    fn bounded<'a, T: Send + 'a>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'a,
    ) -> StoreFuture<'a, T> {
        self.bounded_by(away::PATIENCE, work)
    }

    fn bounded_by<'a, T: Send + 'a>(
        &self,
        patience: Duration,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'a,
    ) -> StoreFuture<'a, T> {
        match self.dialect {
            Dialect::Sqlite => Box::pin(work),
            Dialect::Postgres(_) => {
                let watch = Arc::clone(&self.watch);
                Box::pin(async move { watch.ask(patience, work).await })
            }
        }
    }

    async fn check_now(&self) -> Result<Option<String>, StoreError> {
        let transaction = self.begin().await?;
        transaction.rollback().await.map_err(error)?;
        match self.dialect {
            Dialect::Sqlite => sqlite::check(&self.read).await.map(|()| None),
            Dialect::Postgres(trust) => postgres::check(&self.read, trust).await.map(Some),
        }
    }

    /// What was deleted isn't to be found in the files either. In PostgreSQL that is left to the server's vacuum.
    async fn forget_deleted(&self) -> Result<(), StoreError> {
        match self.dialect {
            Dialect::Sqlite => sqlite::empty_log(&self.write).await,
            Dialect::Postgres(_) => Ok(()),
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
        let calls = calls::purge(self, before.organisation, before.calls).await?;
        let audit = audit::purge(self, before.organisation, before.audit).await?;
        events::purge(self, before.organisation, before.events).await?;
        deliveries::purge(self, before.organisation, before.events).await?;
        let (meetings, pins) = match before.organisation {
            Some(owner) => (meetings::purge(self, owner, before.meetings).await?, 0),
            None => {
                keys::purge_claims(self, before.claims).await?;
                answers::purge(self, before.claims).await?;
                dials::purge(self, before.claims).await?;
                quotas::purge(self, before.claims).await?;
                budget::purge(self, before.claims).await?;
                presence::purge(self, before.events).await?;
                let pins = meetings::release_pins(self, before.pins).await?;
                self.forget_deleted().await?;
                (0, pins)
            }
        };
        Ok(Purged {
            calls,
            audit,
            meetings,
            pins,
        })
    }
}

impl Store for SqlStore {
    fn ping(&self) -> StoreFuture<'_, ()> {
        self.bounded(self.ping_now())
    }

    fn check(&self) -> StoreFuture<'_, Option<String>> {
        self.bounded(self.check_now())
    }

    fn organisation(&self, name: &str) -> StoreFuture<'_, Option<Organisation>> {
        let name = name.to_owned();
        self.bounded(keys::organisation(self, name))
    }

    fn organisations(&self) -> StoreFuture<'_, Vec<Organisation>> {
        self.bounded(keys::organisations(self))
    }

    fn organisation_or_new(
        &self,
        now: Timestamp,
        new: Organisation,
    ) -> StoreFuture<'_, Organisation> {
        self.bounded(keys::organisation_or_new(self, now, new))
    }

    fn book(&self, booking: NewBooking) -> StoreFuture<'_, Meeting> {
        self.bounded(meetings::book(self, booking))
    }

    fn meeting(&self, id: MeetingId) -> StoreFuture<'_, Option<Meeting>> {
        self.bounded(meetings::by_id(self, id))
    }

    fn revisions(&self, meetings: Vec<MeetingId>) -> StoreFuture<'_, Vec<(MeetingId, i64)>> {
        self.bounded(meetings::revisions(self, meetings))
    }

    fn meeting_by_external_id(
        &self,
        organisation: OrganisationId,
        external_id: &str,
    ) -> StoreFuture<'_, Option<Meeting>> {
        let external_id = external_id.to_owned();
        self.bounded(meetings::by_external_id(self, organisation, external_id))
    }

    fn meetings(&self, filter: MeetingFilter) -> StoreFuture<'_, Vec<Meeting>> {
        self.bounded(meetings::list(self, filter))
    }

    fn echo_meeting(&self) -> StoreFuture<'_, Option<Meeting>> {
        self.bounded(meetings::echo(self))
    }

    fn change(&self, meeting: Meeting) -> StoreFuture<'_, bool> {
        self.bounded(meetings::change(self, meeting))
    }

    fn change_pins(&self, change: PinChange) -> StoreFuture<'_, Option<Meeting>> {
        self.bounded(pins::change(self, change))
    }

    fn pin(&self, pin: &Pin) -> StoreFuture<'_, Option<(PinRecord, Meeting)>> {
        let pin = pin.clone();
        self.bounded_by(away::PATIENCE_OF_A_CALLER, meetings::by_pin(self, pin))
    }

    fn series_with_occurrence_pins(
        &self,
        not_over_by: Timestamp,
        after: Option<MeetingId>,
        limit: u32,
    ) -> StoreFuture<'_, Vec<Meeting>> {
        self.bounded(meetings::with_occurrence_pins(
            self,
            not_over_by,
            after,
            limit,
        ))
    }

    fn pin_lengths(&self) -> StoreFuture<'_, Vec<usize>> {
        self.bounded(meetings::pin_lengths(self))
    }

    fn live_pins(&self, now: Timestamp) -> StoreFuture<'_, u64> {
        self.bounded(meetings::live_pins(self, now))
    }

    fn live_conferences(
        &self,
        organisation: OrganisationId,
        now: Timestamp,
    ) -> StoreFuture<'_, u64> {
        self.bounded(meetings::live_conferences(self, organisation, now))
    }

    fn insert_key(&self, key: ApiKey, hash: String) -> StoreFuture<'_, ()> {
        self.bounded(keys::insert(self, key, hash))
    }

    fn key_by_prefix(&self, prefix: &str) -> StoreFuture<'_, Option<(ApiKey, String)>> {
        let prefix = prefix.to_owned();
        self.bounded(keys::by_prefix(self, prefix))
    }

    fn keys(&self) -> StoreFuture<'_, Vec<ApiKey>> {
        self.bounded(keys::all(self))
    }

    fn revoke_key(&self, now: Timestamp, id: Uuid) -> StoreFuture<'_, bool> {
        self.bounded(keys::revoke(self, now, id))
    }

    fn claimed(&self, key: Uuid, name: &str) -> StoreFuture<'_, Option<Claim>> {
        let name = name.to_owned();
        self.bounded(keys::claimed(self, key, name))
    }

    fn record_call(&self, call: StoredCall) -> StoreFuture<'_, ()> {
        self.bounded(calls::insert(self, call))
    }

    fn calls(&self, filter: CallFilter) -> StoreFuture<'_, Vec<StoredCall>> {
        self.bounded(calls::list(self, filter))
    }

    fn organisation_record(
        &self,
        id: OrganisationId,
    ) -> StoreFuture<'_, Option<OrganisationRecord>> {
        self.bounded(organisations::by_id(self, id))
    }

    fn organisation_records(&self) -> StoreFuture<'_, Vec<OrganisationRecord>> {
        self.bounded(organisations::list(self))
    }

    fn new_organisation(&self, new: OrganisationRecord) -> StoreFuture<'_, ()> {
        self.bounded(organisations::insert(self, new))
    }

    fn change_organisation(&self, changed: OrganisationRecord) -> StoreFuture<'_, bool> {
        self.bounded(organisations::change(self, changed))
    }

    fn key(&self, id: Uuid) -> StoreFuture<'_, Option<ApiKey>> {
        self.bounded(keys::by_id(self, id))
    }

    fn expire_key(&self, at: Timestamp, id: Uuid) -> StoreFuture<'_, ()> {
        self.bounded(keys::expire(self, at, id))
    }

    fn audit(&self, entry: AuditEntry) -> StoreFuture<'_, ()> {
        self.bounded(audit::insert(self, entry))
    }

    fn audit_entries(&self, filter: AuditFilter) -> StoreFuture<'_, Vec<AuditEntry>> {
        self.bounded(audit::list(self, filter))
    }

    fn keep_events(&self, new: NewEvents) -> StoreFuture<'_, EventPosition> {
        self.bounded(events::insert(self, new))
    }

    fn beat(&self, teller: Teller, now: Timestamp) -> StoreFuture<'_, ()> {
        self.bounded(presence::beat(self, teller, now))
    }

    fn left_behind(
        &self,
        teller: Teller,
        silent_since: Timestamp,
    ) -> StoreFuture<'_, Vec<LeftBehind>> {
        self.bounded(presence::left_behind(self, teller, silent_since))
    }

    fn last_event(&self) -> StoreFuture<'_, EventPosition> {
        self.bounded(events::last(self))
    }

    fn event_position(
        &self,
        id: Uuid,
        organisation: Option<OrganisationId>,
        since: Timestamp,
    ) -> StoreFuture<'_, Option<EventPosition>> {
        self.bounded(events::position(self, id, organisation, since))
    }

    fn events(&self, filter: EventFilter) -> StoreFuture<'_, Vec<KeptEvent>> {
        self.bounded(events::list(self, filter))
    }

    fn claim_answer(&self, claim: AnswerClaim) -> StoreFuture<'_, AnswerTurn> {
        self.bounded(answers::claim(self, claim))
    }

    fn keep_answer(&self, claim: AnswerClaim, sealed: String) -> StoreFuture<'_, ()> {
        self.bounded(answers::keep(self, claim, sealed))
    }

    fn release_answer(&self, claim: AnswerClaim) -> StoreFuture<'_, ()> {
        self.bounded(answers::release(self, claim))
    }

    fn claim_dial(&self, claim: DialClaim) -> StoreFuture<'_, DialTurn> {
        self.bounded(dials::claim(self, claim))
    }

    fn extend_dials(&self, calls: Vec<CallId>, until: Timestamp) -> StoreFuture<'_, ()> {
        self.bounded(dials::extend(self, calls, until))
    }

    fn end_dial(&self, call: CallId) -> StoreFuture<'_, ()> {
        self.bounded(dials::end(self, call))
    }

    fn release_dial(&self, call: CallId) -> StoreFuture<'_, ()> {
        self.bounded(dials::release(self, call))
    }

    fn purge(&self, before: PurgeBefore) -> StoreFuture<'_, Purged> {
        self.bounded(self.purge_now(before))
    }
}

/// What an error of the driver means.
fn error(error: sqlx::Error) -> StoreError {
    if let sqlx::Error::Database(database) = &error {
        return if sqlite::is_of(database.as_ref()) {
            sqlite::error(database.as_ref())
        } else {
            postgres::error(database.as_ref())
        };
    }
    if matches!(
        error,
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)
    ) {
        StoreError::Corrupt("a value can't be read".to_owned())
    } else if matches!(error, sqlx::Error::PoolTimedOut) {
        // In SQLite: the one connection that writes waits for somebody else's lock. In PostgreSQL: there
        // is no server, or all connections are taken.
        StoreError::Busy
    } else if matches!(
        error,
        sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::WorkerCrashed
    ) {
        StoreError::Away(error.to_string())
    } else {
        StoreError::Unavailable(error.to_string())
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
fn get<'r, T>(row: &'r AnyRow, column: &str) -> Result<T, StoreError>
where
    T: sqlx::Decode<'r, Any> + sqlx::Type<Any>,
{
    row.try_get(column).map_err(error)
}

fn get_time(row: &AnyRow, column: &str) -> Result<Timestamp, StoreError> {
    Timestamp::from_microsecond(get(row, column)?).map_err(|_| unreadable(column))
}

fn get_time_or_null(row: &AnyRow, column: &str) -> Result<Option<Timestamp>, StoreError> {
    let micros: Option<i64> = get(row, column)?;
    micros
        .map(Timestamp::from_microsecond)
        .transpose()
        .map_err(|_| unreadable(column))
}

fn get_uuid(row: &AnyRow, column: &str) -> Result<Uuid, StoreError> {
    get::<&str>(row, column)?
        .parse()
        .map_err(|_| unreadable(column))
}

fn get_uuid_or_null(row: &AnyRow, column: &str) -> Result<Option<Uuid>, StoreError> {
    let text: Option<&str> = get(row, column)?;
    text.map(str::parse)
        .transpose()
        .map_err(|_| unreadable(column))
}

/// A whole number in the range of its use.
fn get_number<T: TryFrom<i64>>(row: &AnyRow, column: &str) -> Result<T, StoreError> {
    T::try_from(get::<i64>(row, column)?).map_err(|_| unreadable(column))
}

fn get_word<T: serde::de::DeserializeOwned>(row: &AnyRow, column: &str) -> Result<T, StoreError> {
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
