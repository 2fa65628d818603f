//! The numbers people dial.

use sqlx::any::AnyRow;
use sqlx::{Any, Transaction};
use uuid::Uuid;

use super::{
    SqlStore, error, get, get_number, get_time, get_uuid, get_uuid_or_null, micros, unreadable,
};
use crate::booking::admission::OrganisationId;
use crate::booking::number::{DialInNumber, NUMBERS_MAX, NumberRecord, significant};
use crate::booking::store::numbers::NumberStore;
use crate::booking::store::{Conflict, StoreError, StoreFuture};

impl NumberStore for SqlStore {
    fn numbers_revision(&self) -> StoreFuture<'_, i64> {
        self.bounded(revision(self))
    }

    fn numbers(&self) -> StoreFuture<'_, Vec<NumberRecord>> {
        self.bounded(list(self))
    }

    fn number(&self, id: Uuid) -> StoreFuture<'_, Option<NumberRecord>> {
        self.bounded(by_id(self, id))
    }

    fn seed_numbers(&self, seeds: Vec<NumberRecord>) -> StoreFuture<'_, ()> {
        self.bounded(seed(self, seeds))
    }

    fn new_number(&self, new: NumberRecord) -> StoreFuture<'_, ()> {
        self.bounded(insert_new(self, new))
    }

    fn change_number(&self, changed: NumberRecord) -> StoreFuture<'_, bool> {
        self.bounded(change(self, changed))
    }

    fn delete_number(&self, id: Uuid) -> StoreFuture<'_, ()> {
        self.bounded(delete(self, id))
    }
}

async fn revision(store: &SqlStore) -> Result<i64, StoreError> {
    let query = sqlx::query("SELECT revision FROM number_plan WHERE id = 1");
    let row = query.fetch_optional(&store.read).await.map_err(error)?;
    row.map_or(Ok(0), |row| get(&row, "revision"))
}

async fn list(store: &SqlStore) -> Result<Vec<NumberRecord>, StoreError> {
    let rows = sqlx::query(
        "SELECT n.*, o.id AS organisation_id FROM numbers n LEFT JOIN organisations o ON o.name = n.organisation
         ORDER BY n.created_at, n.id",
    )
    .fetch_all(&store.read)
    .await
    .map_err(error)?;
    rows.iter().map(record).collect()
}

async fn by_id(store: &SqlStore, id: Uuid) -> Result<Option<NumberRecord>, StoreError> {
    let row = sqlx::query(
        "SELECT n.*, o.id AS organisation_id FROM numbers n LEFT JOIN organisations o ON o.name = n.organisation
         WHERE n.id = $1",
    )
    .bind(id.to_string())
    .fetch_optional(&store.read)
    .await
    .map_err(error)?;
    row.as_ref().map(record).transpose()
}

/// Who brings or changes numbers at the same time, as all nodes of a restarted cluster do, waits until this
/// transaction ends: whoever changes anything about numbers locks that row first.
async fn seed(store: &SqlStore, seeds: Vec<NumberRecord>) -> Result<(), StoreError> {
    let mut transaction = store.begin().await?;
    let lock = "INSERT INTO number_plan (id, revision) VALUES (1, 0)
                ON CONFLICT (id) DO UPDATE SET revision = number_plan.revision";
    let locked = sqlx::query(lock).execute(&mut *transaction).await;
    locked.map_err(error)?;
    let mut is_new = false;
    for seed in seeds {
        let dialled = significant(&seed.number.number);
        let sql = "INSERT INTO number_seeds (dialled) VALUES ($1) ON CONFLICT DO NOTHING";
        let query = sqlx::query(sql).bind(dialled);
        let remembered = query.execute(&mut *transaction).await.map_err(error)?;
        if remembered.rows_affected() > 0 {
            insert(&mut transaction, seed).await?;
            is_new = true;
        }
    }
    if is_new {
        count_up(&mut transaction).await?;
    }
    transaction.commit().await.map_err(error)
}

/// Who adds one at the same time waits until this transaction ends: both count up first.
async fn insert_new(store: &SqlStore, new: NumberRecord) -> Result<(), StoreError> {
    let mut transaction = store.begin().await?;
    count_up(&mut transaction).await?;
    if count(&mut transaction).await? >= NUMBERS_MAX {
        return Err(StoreError::Conflict(Conflict::NumbersMax));
    }
    if !insert(&mut transaction, new).await? {
        return Err(StoreError::Conflict(Conflict::Other));
    }
    transaction.commit().await.map_err(error)
}

async fn change(store: &SqlStore, changed: NumberRecord) -> Result<bool, StoreError> {
    let mut transaction = store.begin().await?;
    count_up(&mut transaction).await?;
    let sql = "UPDATE numbers SET number = $1, dialled = $2, country = $3, language = $4, organisation = $5, label = $6,
                   toll_free = $7, revision = revision + 1
               WHERE id = $8 AND revision = $9";
    let (id, revision) = (changed.id.to_string(), changed.revision);
    let done = bind(sqlx::query(sql), changed)
        .bind(id)
        .bind(revision)
        .execute(&mut *transaction)
        .await
        .map_err(error)?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    transaction.commit().await.map_err(error)?;
    Ok(true)
}

async fn delete(store: &SqlStore, id: Uuid) -> Result<(), StoreError> {
    let mut transaction = store.begin().await?;
    count_up(&mut transaction).await?;
    let query = sqlx::query("DELETE FROM numbers WHERE id = $1").bind(id.to_string());
    let gone = query.execute(&mut *transaction).await.map_err(error)?;
    if gone.rows_affected() > 0 && count(&mut transaction).await? == 0 {
        return Err(StoreError::Conflict(Conflict::LastNumber));
    }
    transaction.commit().await.map_err(error)
}

async fn count(transaction: &mut Transaction<'static, Any>) -> Result<u64, StoreError> {
    let query = sqlx::query("SELECT COUNT(*) AS there FROM numbers");
    let row = query.fetch_one(&mut **transaction).await.map_err(error)?;
    get_number(&row, "there")
}

async fn count_up(transaction: &mut Transaction<'static, Any>) -> Result<(), StoreError> {
    let sql = "INSERT INTO number_plan (id, revision) VALUES (1, 1)
               ON CONFLICT (id) DO UPDATE SET revision = number_plan.revision + 1";
    let query = sqlx::query(sql).execute(&mut **transaction);
    query.await.map(drop).map_err(error)
}

/// `false`: it is there.
async fn insert(
    transaction: &mut Transaction<'static, Any>,
    new: NumberRecord,
) -> Result<bool, StoreError> {
    let sql = "INSERT INTO numbers (number, dialled, country, language, organisation, label, toll_free, id, created_at, revision)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (dialled) DO NOTHING";
    let (id, created_at, revision) = (new.id.to_string(), micros(new.created_at), new.revision);
    let done = bind(sqlx::query(sql), new)
        .bind(id)
        .bind(created_at)
        .bind(revision)
        .execute(&mut **transaction)
        .await
        .map_err(error)?;
    Ok(done.rows_affected() > 0)
}

type Query<'q> = sqlx::query::Query<'q, Any, sqlx::any::AnyArguments>;

fn bind(query: Query<'_>, record: NumberRecord) -> Query<'_> {
    let number = record.number;
    query
        .bind(number.number.clone())
        .bind(significant(&number.number))
        .bind(number.country)
        .bind(number.language.map(|language| language.code()))
        .bind(number.organisation)
        .bind(number.label)
        .bind(i64::from(number.toll_free))
}

fn record(row: &AnyRow) -> Result<NumberRecord, StoreError> {
    let language: Option<String> = get(row, "language")?;
    Ok(NumberRecord {
        id: get_uuid(row, "id")?,
        organisation: get_uuid_or_null(row, "organisation_id")?.map(OrganisationId),
        number: DialInNumber {
            number: get(row, "number")?,
            country: get(row, "country")?,
            language: language
                .map(|code| code.parse())
                .transpose()
                .map_err(|_| unreadable("language"))?,
            organisation: get(row, "organisation")?,
            label: get(row, "label")?,
            toll_free: get::<i64>(row, "toll_free")? != 0,
        },
        created_at: get_time(row, "created_at")?,
        revision: get(row, "revision")?,
    })
}
