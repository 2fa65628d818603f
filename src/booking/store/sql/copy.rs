//! From one database into another, table by table.

use std::future::poll_fn;
use std::pin::Pin;

use futures_core::Stream;
use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Row, Transaction};

use super::{Dialect, SqlStore, error, get, get_number};
use crate::booking::store::StoreError;

/// A column of ours holds text or a whole number, nothing else.
struct Column {
    name: String,
    is_text: bool,
}

/// Copies everything into an empty database: all or nothing. Tells of each table how many rows it had.
pub(super) async fn copy(
    from: &SqlStore,
    to: &SqlStore,
) -> Result<Vec<(&'static str, u64)>, StoreError> {
    expect_known_tables(from).await?;
    expect_known_tables(to).await?;
    let mut source = from.begin_snapshot().await?;
    let mut target = to.begin().await?;
    let mut copied = Vec::with_capacity(TABLES.len());
    for table in TABLES {
        if count(&mut target, table).await? > 0 {
            return Err(StoreError::NotEmpty);
        }
    }
    for table in TABLES {
        let columns = columns(to, &mut target, table).await?;
        copy_table(&mut source, &mut target, table, &columns).await?;
        let (had, has) = (
            count(&mut source, table).await?,
            count(&mut target, table).await?,
        );
        if had != has {
            return Err(StoreError::Corrupt(format!(
                "{has} of {had} rows of {table} arrived"
            )));
        }
        copied.push((table, has));
    }
    target.commit().await.map_err(error)?;
    Ok(copied)
}

impl SqlStore {
    /// A transaction that sees everything as it was at one moment.
    async fn begin_snapshot(&self) -> Result<Transaction<'static, Any>, StoreError> {
        let begun = match self.dialect {
            Dialect::Sqlite => self.read.begin().await,
            Dialect::Postgres(_) => {
                let sql = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
                self.read.begin_with(sql).await
            }
        };
        begun.map_err(error)
    }
}

/// A table that isn't in our list would be left behind without a word.
async fn expect_known_tables(store: &SqlStore) -> Result<(), StoreError> {
    let unknown = tables(store)
        .await?
        .into_iter()
        .find(|table| !TABLES.contains(&table.as_str()));
    match unknown {
        None => Ok(()),
        Some(table) => Err(StoreError::Unavailable(format!(
            "there is a table {table} that isn't voicebridge's"
        ))),
    }
}

async fn tables(store: &SqlStore) -> Result<Vec<String>, StoreError> {
    let sql = match store.dialect {
        Dialect::Sqlite => {
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name <> '_sqlx_migrations'"
        }
        Dialect::Postgres(_) => {
            "SELECT table_name::text AS name FROM information_schema.tables WHERE table_schema = current_schema() AND table_name <> '_sqlx_migrations'"
        }
    };
    let rows = sqlx::query(sql)
        .fetch_all(&store.read)
        .await
        .map_err(error)?;
    rows.iter().map(|row| get(row, "name")).collect()
}

async fn columns(
    store: &SqlStore,
    transaction: &mut Transaction<'static, Any>,
    table: &str,
) -> Result<Vec<Column>, StoreError> {
    let sql = match store.dialect {
        Dialect::Sqlite => "SELECT name, LOWER(type) AS kind FROM pragma_table_info($1)",
        Dialect::Postgres(_) => {
            "SELECT column_name::text AS name, data_type::text AS kind FROM information_schema.columns
             WHERE table_schema = current_schema() AND table_name = $1"
        }
    };
    let rows = sqlx::query(sql)
        .bind(table.to_owned())
        .fetch_all(&mut **transaction)
        .await
        .map_err(error)?;
    let column = |row: &AnyRow| {
        let kind: String = get(row, "kind")?;
        Ok(Column {
            name: get(row, "name")?,
            is_text: kind == "text",
        })
    };
    rows.iter().map(column).collect()
}

async fn copy_table(
    source: &mut Transaction<'static, Any>,
    target: &mut Transaction<'static, Any>,
    table: &str,
    columns: &[Column],
) -> Result<(), StoreError> {
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    let names = names.join(", ");
    let places: Vec<String> = (1..=columns.len()).map(|n| format!("${n}")).collect();
    let insert = format!(
        "INSERT INTO {table} ({names}) VALUES ({})",
        places.join(", ")
    );
    let select = AssertSqlSafe(format!("SELECT {names} FROM {table}"));
    let mut rows = sqlx::query(select).fetch(&mut **source);
    while let Some(row) = poll_fn(|context| Pin::new(&mut rows).poll_next(context)).await {
        let row = row.map_err(error)?;
        let mut query = sqlx::query(AssertSqlSafe(insert.clone()));
        for (at, column) in columns.iter().enumerate() {
            query = if column.is_text {
                query.bind(row.try_get::<Option<String>, _>(at).map_err(error)?)
            } else {
                query.bind(row.try_get::<Option<i64>, _>(at).map_err(error)?)
            };
        }
        query.execute(&mut **target).await.map_err(error)?;
    }
    Ok(())
}

async fn count(
    transaction: &mut Transaction<'static, Any>,
    table: &str,
) -> Result<u64, StoreError> {
    let sql = AssertSqlSafe(format!("SELECT COUNT(*) AS how_many FROM {table}"));
    let row = sqlx::query(sql)
        .fetch_one(&mut **transaction)
        .await
        .map_err(error)?;
    get_number(&row, "how_many")
}

/// All tables; what refers to another stands after it.
const TABLES: [&str; 27] = [
    "processes",
    "organisations",
    "secrets",
    "numbers",
    "number_seeds",
    "number_plan",
    "api_keys",
    "rooms",
    "meetings",
    "room_slots",
    "pins",
    "calls",
    "idempotency",
    "answers",
    "audit",
    "event_counter",
    "events",
    "webhooks",
    "deliveries",
    "present",
    "live_meetings",
    "dials",
    "seats",
    "usage_months",
    "failure_budgets",
    "failures",
    "failure_shares",
];
