//! Organisations with their settings.

use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{Any, Transaction};

use super::{
    Dialect, SqlStore, error, get, get_number, get_time, get_uuid, micros, unreadable, word,
};
use crate::booking::admission::{MeetingId, OrganisationId};
use crate::booking::dial::DialRules;
use crate::booking::key::{ECHO_ORGANISATION, Organisation};
use crate::booking::meeting::Meeting;
use crate::booking::organisation::{OrganisationRecord, OrganisationSettings};
use crate::booking::pin::{Forbidden, PinMint, PinRules};
use crate::booking::store::{Conflict, StoreError};

pub(super) async fn by_id(
    store: &SqlStore,
    id: OrganisationId,
) -> Result<Option<OrganisationRecord>, StoreError> {
    let query = sqlx::query("SELECT * FROM organisations WHERE id = $1").bind(id.to_string());
    let row = query.fetch_optional(&store.read).await.map_err(error)?;
    row.as_ref().map(record).transpose()
}

pub(super) async fn list(store: &SqlStore) -> Result<Vec<OrganisationRecord>, StoreError> {
    let sql = "SELECT * FROM organisations WHERE name <> $1 ORDER BY created_at, id";
    let query = sqlx::query(sql).bind(ECHO_ORGANISATION);
    let rows = query.fetch_all(&store.read).await.map_err(error)?;
    rows.iter().map(record).collect()
}

pub(super) async fn insert(store: &SqlStore, new: OrganisationRecord) -> Result<(), StoreError> {
    let sql =
        "INSERT INTO organisations (language, privacy_show, privacy_store, retain_days, meetings_max,
             dial_prefixes, dial_digits_min, dial_digits_max, dial_at_once_max, dial_per_hour_max,
             pin_length, pin_digits, pin_forbidden, callers_max, minutes_per_month, id, name, created_at, revision)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)";
    bind_settings(sqlx::query(sql), &new.settings)
        .bind(new.organisation.id.to_string())
        .bind(new.organisation.name)
        .bind(micros(new.created_at))
        .bind(new.revision)
        .execute(&store.write)
        .await
        .map(drop)
        .map_err(error)
}

/// `false`: somebody else changed it meanwhile.
pub(super) async fn change(
    store: &SqlStore,
    changed: OrganisationRecord,
) -> Result<bool, StoreError> {
    let sql = "UPDATE organisations SET language = $1, privacy_show = $2, privacy_store = $3, retain_days = $4, meetings_max = $5,
                   dial_prefixes = $6, dial_digits_min = $7, dial_digits_max = $8, dial_at_once_max = $9, dial_per_hour_max = $10,
                   pin_length = $11, pin_digits = $12, pin_forbidden = $13, callers_max = $14, minutes_per_month = $15,
                   revision = revision + 1
               WHERE id = $16 AND revision = $17";
    let done = bind_settings(sqlx::query(sql), &changed.settings)
        .bind(changed.organisation.id.to_string())
        .bind(changed.revision)
        .execute(&store.write)
        .await
        .map_err(error)?;
    Ok(done.rows_affected() > 0)
}

/// Is there room for one more meeting? Who asks at the same time waits until this transaction ends.
pub(super) async fn expect_room(
    store: &SqlStore,
    transaction: &mut Transaction<'static, Any>,
    meeting: &Meeting,
) -> Result<(), StoreError> {
    let sql = match store.dialect {
        Dialect::Sqlite => {
            "SELECT meetings_max FROM organisations WHERE id = $1 AND meetings_max IS NOT NULL"
        }
        Dialect::Postgres(_) => {
            "SELECT meetings_max FROM organisations WHERE id = $1 AND meetings_max IS NOT NULL FOR UPDATE"
        }
    };
    let row = sqlx::query(sql)
        .bind(meeting.organisation.to_string())
        .fetch_optional(&mut **transaction)
        .await
        .map_err(error)?;
    let Some(row) = row else { return Ok(()) };
    let most: u64 = get_number(&row, "meetings_max")?;
    let live = live(
        transaction,
        meeting.organisation,
        Some(meeting.id),
        meeting.updated_at,
    );
    if live.await? < most {
        Ok(())
    } else {
        Err(StoreError::Conflict(Conflict::MeetingsMax))
    }
}

/// How many meetings are neither over nor cancelled, but for one.
pub(super) async fn live(
    transaction: &mut Transaction<'static, Any>,
    organisation: OrganisationId,
    without: Option<MeetingId>,
    at: Timestamp,
) -> Result<u64, StoreError> {
    let sql = "SELECT COUNT(*) AS live FROM meetings
               WHERE organisation = $1 AND id <> $2 AND cancelled_at IS NULL AND (closes_at IS NULL OR closes_at > $3)";
    let without = without.map_or_else(String::new, |id| id.to_string());
    let row = sqlx::query(sql)
        .bind(organisation.to_string())
        .bind(without)
        .bind(micros(at))
        .fetch_one(&mut **transaction)
        .await
        .map_err(error)?;
    get_number(&row, "live")
}

type Query<'q> = sqlx::query::Query<'q, Any, sqlx::any::AnyArguments>;

fn bind_settings<'q>(query: Query<'q>, settings: &OrganisationSettings) -> Query<'q> {
    query
        .bind(settings.language.map(|language| language.code()))
        .bind(settings.show.map(|show| word(&show)))
        .bind(settings.store.map(|store| word(&store)))
        .bind(settings.retain_days.map(i64::from))
        .bind(settings.meetings_max.map(i64::from))
        .bind(
            (!settings.dial.prefixes.is_empty())
                .then(|| serde_json::json!(settings.dial.prefixes).to_string()),
        )
        .bind(settings.dial.digits_min.map(i64::from))
        .bind(settings.dial.digits_max.map(i64::from))
        .bind(settings.dial.at_once_max.map(i64::from))
        .bind(settings.dial.per_hour_max.map(i64::from))
        .bind(settings.pin.length.map(i64::from))
        .bind(settings.pin.digits.clone())
        .bind({
            let words: Vec<&str> = settings.pin.forbidden.iter().map(Forbidden::word).collect();
            (!words.is_empty()).then(|| serde_json::json!(words).to_string())
        })
        .bind(settings.callers_max.map(i64::from))
        .bind(settings.minutes_per_month.map(i64::from))
}

/// The mint for a meeting that is there: by its organisation's rules as they are in this transaction.
pub(super) async fn mint_of(
    transaction: &mut Transaction<'static, Any>,
    meeting: MeetingId,
    mint: &PinMint,
) -> Result<PinMint, StoreError> {
    let sql = "SELECT o.pin_length, o.pin_digits, o.pin_forbidden FROM organisations o
               JOIN meetings m ON m.organisation = o.id WHERE m.id = $1";
    let row = sqlx::query(sql)
        .bind(meeting.to_string())
        .fetch_one(&mut **transaction)
        .await
        .map_err(error)?;
    Ok(mint.under(pin_rules(&row)?))
}

fn pin_rules(row: &AnyRow) -> Result<PinRules, StoreError> {
    let length: Option<i64> = get(row, "pin_length")?;
    let forbidden: Option<String> = get(row, "pin_forbidden")?;
    let words: Vec<String> = forbidden
        .map_or(Ok(Vec::new()), |list| serde_json::from_str(&list))
        .map_err(|_| unreadable("pin_forbidden"))?;
    Ok(PinRules {
        length: length
            .map(u32::try_from)
            .transpose()
            .map_err(|_| unreadable("pin_length"))?,
        digits: get(row, "pin_digits")?,
        forbidden: Forbidden::read_all(&words).ok_or_else(|| unreadable("pin_forbidden"))?,
    })
}

fn record(row: &AnyRow) -> Result<OrganisationRecord, StoreError> {
    let disclosure = |column: &str| {
        let word: Option<String> = get(row, column)?;
        word.map(|word| serde_json::from_value(serde_json::Value::String(word)))
            .transpose()
            .map_err(|_| unreadable(column))
    };
    let number = |column: &str| {
        let number: Option<i64> = get(row, column)?;
        number
            .map(u32::try_from)
            .transpose()
            .map_err(|_| unreadable(column))
    };
    let language: Option<String> = get(row, "language")?;
    let prefixes: Option<String> = get(row, "dial_prefixes")?;
    let prefixes = prefixes.map(|list| serde_json::from_str(&list));
    Ok(OrganisationRecord {
        organisation: Organisation {
            id: OrganisationId(get_uuid(row, "id")?),
            name: get(row, "name")?,
        },
        settings: OrganisationSettings {
            language: language
                .map(|code| code.parse())
                .transpose()
                .map_err(|_| unreadable("language"))?,
            show: disclosure("privacy_show")?,
            store: disclosure("privacy_store")?,
            retain_days: number("retain_days")?,
            meetings_max: number("meetings_max")?,
            callers_max: number("callers_max")?,
            minutes_per_month: number("minutes_per_month")?,
            dial: DialRules {
                prefixes: prefixes
                    .transpose()
                    .map_err(|_| unreadable("dial_prefixes"))?
                    .unwrap_or_default(),
                digits_min: number("dial_digits_min")?,
                digits_max: number("dial_digits_max")?,
                at_once_max: number("dial_at_once_max")?,
                per_hour_max: number("dial_per_hour_max")?,
            },
            pin: pin_rules(row)?,
        },
        created_at: get_time(row, "created_at")?,
        revision: get(row, "revision")?,
    })
}
