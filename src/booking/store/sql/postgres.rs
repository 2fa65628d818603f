//! PostgreSQL: how its database is opened and what its errors mean.
//!
//! The server may be away. Whoever asks hears so within seconds ([`super::away`]), nothing is retried behind
//! his back, and the pool comes back by itself with the server.

use std::time::Duration;

use sqlx::AnyPool;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::error::DatabaseError;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{Connection as _, Executor, Row};

use super::{Dialect, MIGRATIONS, SqlStore, error as driver_error, migrate_error};
use crate::booking::store::{Conflict, StoreError};

/// What is asked of the server before anything is said to it (`sslmode` of its URL).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// Nothing: it may even speak in the clear.
    Nothing,
    /// That it encrypts, whoever it is.
    Encryption,
    /// That a certificate by an authority we trust vouches for it.
    Certificate,
}

impl From<PgSslMode> for Trust {
    fn from(mode: PgSslMode) -> Self {
        match mode {
            PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Prefer => Self::Nothing,
            PgSslMode::Require => Self::Encryption,
            PgSslMode::VerifyCa | PgSslMode::VerifyFull => Self::Certificate,
        }
    }
}

pub(super) async fn open(url: &str) -> Result<SqlStore, StoreError> {
    sqlx::any::install_default_drivers();
    let unreadable = |_| StoreError::Unavailable("its URL can't be read".to_owned());
    let trust = url.parse::<PgConnectOptions>().map_err(unreadable)?;
    let trust = Trust::from(trust.get_ssl_mode());
    let options: AnyConnectOptions = url.parse().map_err(unreadable)?;
    migrate(options.clone()).await?;
    let pool = AnyPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .after_connect(|connection, _| {
            Box::pin(async move { connection.execute(SESSION).await.map(drop) })
        })
        // Whose question was given up may hang for as long as the network lets it. The pool would wait for it,
        // and have no connection left when all do.
        .after_release(|connection, _| {
            Box::pin(async move {
                let sound = tokio::time::timeout(RELEASE_TIMEOUT, connection.ping()).await;
                sound
                    .unwrap_or(Err(sqlx::Error::PoolTimedOut))
                    .map(|()| true)
            })
        })
        .connect_with(options)
        .await
        .map_err(driver_error)?;
    Ok(SqlStore::new(pool.clone(), pool, Dialect::Postgres(trust)))
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

/// Is this the server that takes writes? How it is reached.
pub(super) async fn check(read: &AnyPool, trust: Trust) -> Result<String, StoreError> {
    let row = sqlx::query(
        "SELECT pg_is_in_recovery() AS standby, s.version AS tls, inet_server_addr() IS NULL AS here
         FROM pg_stat_ssl s WHERE s.pid = pg_backend_pid()",
    )
    .fetch_one(read)
    .await
    .map_err(driver_error)?;
    if row.try_get("standby").map_err(driver_error)? {
        return Err(StoreError::ReadOnly);
    }
    let tls: Option<String> = row.try_get("tls").map_err(driver_error)?;
    let is_here: bool = row.try_get("here").map_err(driver_error)?;
    Ok(match (tls, trust) {
        (None, _) if is_here => "reached by a socket of this machine".to_owned(),
        (None, _) => {
            "reached without encryption; sslmode=verify-full in database.url asks for it".to_owned()
        }
        (Some(tls), Trust::Certificate) => {
            format!("encrypted by {tls}, and its certificate was checked")
        }
        (Some(tls), Trust::Nothing | Trust::Encryption) => format!(
            "encrypted by {tls}, but its certificate was not checked; sslmode=verify-full in database.url asks for that"
        ),
    })
}

/// Tells causes apart by SQLSTATE (PostgreSQL, appendix A).
pub(super) fn error(database: &dyn DatabaseError) -> StoreError {
    let code = database.code().unwrap_or_default();
    match code.as_ref() {
        UNIQUE_VIOLATION => StoreError::Conflict(conflict(database.constraint())),
        _ if AWAY.iter().any(|away| code.starts_with(away)) => {
            StoreError::Away(format!("PostgreSQL error {code}"))
        }
        DEADLOCK | SERIALIZATION | LOCK_NOT_AVAILABLE => StoreError::Locked,
        DISK_FULL => StoreError::DiskFull,
        READ_ONLY | INSUFFICIENT_PRIVILEGE => StoreError::ReadOnly,
        _ if MISFIT.iter().any(|misfit| code.starts_with(misfit)) => {
            StoreError::Misfit(format!("PostgreSQL error {code}"))
        }
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
const RELEASE_TIMEOUT: Duration = Duration::from_secs(1);
/// The server gives up a little before we do.
const SESSION: &str = "SET application_name = 'voicebridge'; SET statement_timeout = '7s'; SET lock_timeout = '5s'; SET idle_in_transaction_session_timeout = '10s'";
/// Connections that broke, a server that ends or begins, one without a place left.
const AWAY: [&str; 3] = ["08", "57P0", "53300"];
/// Values that no column takes, such as a text with a NUL, and those that a constraint refuses.
const MISFIT: [&str; 2] = ["22", "23"];
const UNIQUE_VIOLATION: &str = "23505";
const SERIALIZATION: &str = "40001";
const DEADLOCK: &str = "40P01";
const LOCK_NOT_AVAILABLE: &str = "55P03";
const DISK_FULL: &str = "53100";
const READ_ONLY: &str = "25006";
const INSUFFICIENT_PRIVILEGE: &str = "42501";
const DATA_CORRUPTED: &str = "XX001";
const INDEX_CORRUPTED: &str = "XX002";
