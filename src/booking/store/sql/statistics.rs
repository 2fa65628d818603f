//! Call records, counted. Each question reads one stretch of an index by time.

use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe};

use super::{SqlStore, error, get, get_number, get_word, micros};
use crate::booking::admission::OrganisationId;
use crate::booking::statistics::{
    LOSS_PPM, MOS_HUNDREDTHS, NUMBERS_MAX, NumberUsage, Period, QualityUsage, Usage,
};
use crate::booking::store::statistics::StatisticsStore;
use crate::booking::store::{StoreError, StoreFuture};

impl StatisticsStore for SqlStore {
    fn usage(
        &self,
        organisation: Option<OrganisationId>,
        period: Period,
    ) -> StoreFuture<'_, Usage> {
        self.bounded(usage(self, organisation, period))
    }
}

type Query<'q> = sqlx::query::Query<'q, Any, sqlx::any::AnyArguments>;

/// Whose calls of when.
struct Asked {
    owner: Option<String>,
    period: Period,
}

impl Asked {
    /// The condition: `$1` and `$2` are the period, `$3` the owner.
    fn which(&self) -> &'static str {
        match self.owner {
            Some(_) => "organisation = $3 AND started_at >= $1 AND started_at < $2 AND echo = 0",
            None => "started_at >= $1 AND started_at < $2 AND echo = 0",
        }
    }

    fn query(&self, sql: String) -> Query<'_> {
        let query = sqlx::query(AssertSqlSafe(sql))
            .bind(micros(self.period.from))
            .bind(micros(self.period.to));
        match &self.owner {
            Some(owner) => query.bind(owner.clone()),
            None => query,
        }
    }
}

async fn usage(
    store: &SqlStore,
    organisation: Option<OrganisationId>,
    period: Period,
) -> Result<Usage, StoreError> {
    let asked = Asked {
        owner: organisation.map(|id| id.to_string()),
        period,
    };
    let mut usage = Usage {
        numbers: numbers(store, &asked).await?,
        callers_peak: peak(store, &asked).await?,
        ..Usage::default()
    };
    let which = asked.which();
    let bands = bands();
    let sql = format!(
        "SELECT outcome, COUNT(*) AS calls, {bands}, COUNT(loss_ppm) AS measured,
             CAST(COALESCE(SUM(loss_ppm), 0) AS BIGINT) AS loss_sum,
             CAST(COALESCE(SUM(mos_hundredths), 0) AS BIGINT) AS mos_sum,
             CAST(COALESCE(SUM({TOOK}), 0) AS BIGINT) AS took,
             COUNT(DISTINCT CASE WHEN outcome = 'joined' THEN meeting || COALESCE(occurrence, '') END) AS meetings
         FROM calls WHERE {which} GROUP BY outcome"
    );
    let rows = asked.query(sql).fetch_all(&store.read).await;
    for row in rows.map_err(error)? {
        usage
            .outcomes
            .push((get_word(&row, "outcome")?, get_number(&row, "calls")?));
        usage.meetings += get_number::<u64>(&row, "meetings")?;
        usage.micros += get_number::<u64>(&row, "took")?;
        add(&mut usage.quality, &row)?;
    }
    Ok(usage)
}

fn add(quality: &mut QualityUsage, row: &AnyRow) -> Result<(), StoreError> {
    quality.measured += get_number::<u64>(row, "measured")?;
    quality.loss_ppm_sum += get_number::<u64>(row, "loss_sum")?;
    quality.mos_sum += get_number::<u64>(row, "mos_sum")?;
    for (n, band) in quality.loss.iter_mut().enumerate() {
        *band += get_number::<u64>(row, &format!("loss{n}"))?;
    }
    for (n, band) in quality.mos.iter_mut().enumerate() {
        *band += get_number::<u64>(row, &format!("mos{n}"))?;
    }
    Ok(())
}

/// How many calls lie in each band of loss and of score.
fn bands() -> String {
    let mut columns = Vec::new();
    let mut above = String::new();
    let bounds = LOSS_PPM.iter().map(|bound| format!("loss_ppm <= {bound}"));
    for (n, upper) in bounds
        .chain(["loss_ppm IS NOT NULL".to_owned()])
        .enumerate()
    {
        columns.push(format!(
            "COUNT(CASE WHEN {upper}{above} THEN 1 END) AS loss{n}"
        ));
        above = LOSS_PPM
            .get(n)
            .map_or_else(String::new, |b| format!(" AND loss_ppm > {b}"));
    }
    let mut below = String::new();
    let bounds = MOS_HUNDREDTHS.iter();
    let bounds = bounds.map(|bound| format!("mos_hundredths >= {bound}"));
    let rest = "mos_hundredths IS NOT NULL".to_owned();
    for (n, lower) in bounds.chain([rest]).enumerate() {
        columns.push(format!(
            "COUNT(CASE WHEN {lower}{below} THEN 1 END) AS mos{n}"
        ));
        below = MOS_HUNDREDTHS
            .get(n)
            .map_or_else(String::new, |b| format!(" AND mos_hundredths < {b}"));
    }
    columns.join(", ")
}

/// By the number that people dialled; what we dialled came by none.
async fn numbers(store: &SqlStore, asked: &Asked) -> Result<Vec<NumberUsage>, StoreError> {
    let which = asked.which();
    let sql = format!(
        "SELECT number, COUNT(*) AS joined, CAST(SUM({TOOK}) AS BIGINT) AS took FROM calls
         WHERE {which} AND outcome = 'joined' AND (direction IS NULL OR direction <> 'out')
         GROUP BY number ORDER BY took DESC, number LIMIT {NUMBERS_MAX}"
    );
    let rows = asked.query(sql).fetch_all(&store.read).await;
    let number = |row: &AnyRow| {
        Ok(NumberUsage {
            number: get(row, "number")?,
            joined: get_number(row, "joined")?,
            micros: get_number(row, "took")?,
        })
    };
    rows.map_err(error)?.iter().map(number).collect()
}

/// Every call is a step up when it is answered and a step down when it ends. Calls that arrived before the period may
/// reach into it.
async fn peak(store: &SqlStore, asked: &Asked) -> Result<u64, StoreError> {
    let there = match asked.owner {
        Some(_) => "organisation = $3 AND ",
        None => "",
    };
    let there = format!(
        "{there}started_at >= $1 - {CALL_MICROS_MAX} AND started_at < $2 AND echo = 0
         AND outcome = 'joined' AND answered_at < $2 AND ended_at > $1"
    );
    let sql = format!(
        "SELECT CAST(COALESCE(MAX(callers), 0) AS BIGINT) AS peak FROM (
             SELECT SUM(step) OVER (ORDER BY at, step ROWS UNBOUNDED PRECEDING) AS callers FROM (
                 SELECT CASE WHEN answered_at < $1 THEN $1 ELSE answered_at END AS at, 1 AS step FROM calls WHERE {there}
                 UNION ALL SELECT ended_at AS at, -1 AS step FROM calls WHERE {there}
             ) AS steps
         ) AS sums"
    );
    let row = asked.query(sql).fetch_one(&store.read).await;
    get_number(&row.map_err(error)?, "peak")
}

/// How long a call took that joined.
const TOOK: &str = "CASE WHEN outcome = 'joined' AND ended_at > answered_at THEN ended_at - answered_at ELSE 0 END";
/// Longer than any call may last: 24 hours and some.
const CALL_MICROS_MAX: i64 = 25 * 3_600 * 1_000_000;
