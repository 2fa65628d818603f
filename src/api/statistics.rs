//! `/v1/statistics`: what went on, as JSON, or as CSV (RFC 4180) for spreadsheets.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use super::AppState;
use super::auth::Asker;
use super::calls::{cell, wants_csv};
use super::meetings::scope;
use super::problem::Problem;
use super::query::Parameters;
use crate::booking::change::FieldError;
use crate::booking::statistics::{BadPeriod, Period, QualityUsage, Step, Usage};
use crate::booking::{Outcome, Permission, Zone};

/// What went on.
#[derive(Serialize, ToSchema)]
pub(super) struct Statistics {
    /// With whom; null: all organisations, and calls that reached none.
    organisation: Option<String>,
    /// Whose days and months.
    timezone: String,
    /// The pieces of the period, oldest first.
    items: Vec<UsageView>,
}

/// What went on in a stretch of time. Calls belong to when they arrived.
#[derive(Serialize, ToSchema)]
#[schema(as = Usage)]
pub(super) struct UsageView {
    /// From then on.
    #[schema(format = "date-time")]
    from: String,
    /// Until just before then.
    #[schema(format = "date-time")]
    to: String,
    /// All calls.
    calls: u64,
    /// Those that joined.
    joined: u64,
    /// The others, by outcome.
    refusals: BTreeMap<&'static str, u64>,
    /// Meetings, or occurrences of series, that somebody joined.
    meetings: u64,
    /// Most callers in meetings at once, each counted from when his call was answered.
    callers_peak: u64,
    /// Minutes that calls took which joined, from answer to end.
    minutes: f64,
    /// The same by the number that was dialled, the 100 most used at most; calls to people are in none.
    numbers: Vec<NumberUsageView>,
    /// How well they heard.
    quality: QualityUsageView,
}

/// What came by a number.
#[derive(Serialize, ToSchema)]
#[schema(as = NumberUsage)]
pub(super) struct NumberUsageView {
    /// As dialled.
    number: String,
    /// Calls that joined.
    joined: u64,
    /// Minutes that they took.
    minutes: f64,
}

/// The quality of calls, where it was measured.
#[derive(Serialize, ToSchema)]
#[schema(as = QualityUsage)]
pub(super) struct QualityUsageView {
    /// Of how many calls.
    measured: u64,
    /// The mean of what they lost, 0 to 1; null: none was measured.
    loss_mean: Option<f64>,
    /// How many lost nothing, up to 1 %, to 3 %, to 5 %, and more.
    loss: [u64; 5],
    /// The mean of their mean opinion scores; null: none was measured.
    mos_mean: Option<f64>,
    /// How many had a score of at least 4.34 (very satisfied, by ITU-T G.107), 4.03, 3.60, 3.10, and less.
    mos: [u64; 5],
}

/// Counts what went on: meetings, callers, minutes, refusals, quality.
#[utoipa::path(
    get, operation_id = "readStatistics", path = "/v1/statistics", tag = "statistics", security(("key" = [])),
    params(
        ("from" = Option<String>, Query, description = "Calls that arrived then or later; RFC 3339; 30 days before `to` unless you say otherwise"),
        ("to" = Option<String>, Query, description = "Calls that arrived before then; RFC 3339; now unless you say otherwise. At most 366 days after `from`, by day 100, by month 5 years"),
        ("by" = Option<Step>, Query, description = "By local `day` or `month`; left out: in one piece"),
        ("timezone" = Option<String>, Query, description = "Whose days and months, by IANA name; UTC unless you say otherwise"),
        ("organisation" = Option<String>, Query, description = "For keys of role platform; left out: all"),
    ),
    responses((status = 200, description = "What was counted; CSV with `Accept: text/csv`: a row for each piece, whose `number` is empty, and one for each number in it",
        content((Statistics = "application/json"), (String = "text/csv"))))
)]
pub(super) async fn read(
    State(state): State<AppState>,
    asker: Asker,
    headers: HeaderMap,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    asker.must(Permission::Read)?;
    let organisation = scope(&state, &asker, &mut parameters).await?;
    let pieces = pieces(state.now(), &mut parameters)?;
    parameters.finish()?;
    let owner = organisation.as_ref().map(|organisation| organisation.id);
    let usage = state.bookings.usage(owner, pieces.periods).await?;
    let statistics = Statistics {
        organisation: organisation.map(|organisation| organisation.name),
        timezone: pieces.timezone,
        items: usage
            .into_iter()
            .map(|(period, usage)| UsageView::new(&pieces.zone, period, usage))
            .collect(),
    };
    if wants_csv(&headers) {
        let mut response = csv(&statistics).into_response();
        response.headers_mut().insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/csv; charset=utf-8; header=present"),
        );
        Ok(response)
    } else {
        Ok(Json(statistics).into_response())
    }
}

/// What is asked about.
struct Pieces {
    timezone: String,
    zone: TimeZone,
    periods: Vec<Period>,
}

fn pieces(now: Timestamp, parameters: &mut Parameters) -> Result<Pieces, Problem> {
    let to = parameters.time("to")?.unwrap_or(now);
    let month_before = to.saturating_sub(MONTH).unwrap_or(Timestamp::MIN);
    let from = parameters.time("from")?.unwrap_or(month_before);
    let step: Option<Step> = parameters.word("by", "day, month")?;
    let timezone = parameters
        .text("timezone")?
        .unwrap_or_else(|| "UTC".to_owned());
    let wrong =
        |field, code, must: &str| Problem::bad_parameter(FieldError::new(field, code, must));
    let zone = Zone::named(&timezone).ok_or_else(|| {
        let must = "must be the IANA name of a time zone, like Europe/Rome";
        wrong("timezone", "invalid", must)
    })?;
    let (timezone, zone) = (zone.name().to_owned(), zone.rules().clone());
    let periods = Period { from, to }.cut(step, &zone);
    let periods = periods.map_err(|bad| match bad {
        BadPeriod::Empty | BadPeriod::TooLong => wrong("to", "out_of_range", &bad.to_string()),
    })?;
    Ok(Pieces {
        timezone,
        zone,
        periods,
    })
}

impl UsageView {
    fn new(zone: &TimeZone, period: Period, usage: Usage) -> Self {
        let local = |at: Timestamp| at.display_with_offset(zone.to_offset(at)).to_string();
        let refused = Outcome::ALL.into_iter().filter(|o| *o != Outcome::Joined);
        Self {
            from: local(period.from),
            to: local(period.to),
            calls: usage.calls(),
            joined: usage.ended(Outcome::Joined),
            refusals: refused
                .map(|outcome| (outcome.word(), usage.ended(outcome)))
                .collect(),
            meetings: usage.meetings,
            callers_peak: usage.callers_peak,
            minutes: minutes(usage.micros),
            numbers: usage
                .numbers
                .into_iter()
                .map(|number| NumberUsageView {
                    joined: number.joined,
                    minutes: minutes(number.micros),
                    number: number.number,
                })
                .collect(),
            quality: QualityUsageView::new(&usage.quality),
        }
    }
}

impl QualityUsageView {
    fn new(quality: &QualityUsage) -> Self {
        let mean = |sum: u64, of: f64| {
            let count = quality.measured;
            (count > 0).then(|| sum as f64 / count as f64 / of)
        };
        Self {
            measured: quality.measured,
            loss_mean: mean(quality.loss_ppm_sum, 1e6),
            loss: quality.loss,
            mos_mean: mean(quality.mos_sum, 1e2),
            mos: quality.mos,
        }
    }
}

fn csv(statistics: &Statistics) -> String {
    let refusals = Outcome::ALL.into_iter().filter(|o| *o != Outcome::Joined);
    let refusals: Vec<&str> = refusals.map(Outcome::word).collect();
    let mut text = CSV_COLUMNS.join(",");
    for word in &refusals {
        text.push(',');
        text.push_str(word);
    }
    text.push_str("\r\n");
    for piece in &statistics.items {
        let quality = &piece.quality;
        let mean = |mean: Option<f64>| mean.map(|mean| format!("{mean:.4}")).unwrap_or_default();
        let mut row = vec![
            piece.from.clone(),
            piece.to.clone(),
            String::new(),
            piece.joined.to_string(),
            format!("{:.2}", piece.minutes),
            piece.calls.to_string(),
            piece.meetings.to_string(),
            piece.callers_peak.to_string(),
            quality.measured.to_string(),
            mean(quality.loss_mean),
            mean(quality.mos_mean),
        ];
        let counts = quality.loss.iter().chain(&quality.mos);
        row.extend(counts.map(u64::to_string));
        let refused = refusals.iter().map(|word| piece.refusals.get(word));
        row.extend(refused.map(|count| count.copied().unwrap_or_default().to_string()));
        let width = row.len();
        text.push_str(&(row.join(",") + "\r\n"));
        for number in &piece.numbers {
            let mut row = vec![
                piece.from.clone(),
                piece.to.clone(),
                cell(Some(&number.number.as_str().into())),
                number.joined.to_string(),
                format!("{:.2}", number.minutes),
            ];
            row.resize(width, String::new());
            text.push_str(&(row.join(",") + "\r\n"));
        }
    }
    text
}

fn minutes(micros: u64) -> f64 {
    let seconds = micros as f64 / 1e6;
    (seconds / 60.0 * 100.0).round() / 100.0
}

const MONTH: SignedDuration = SignedDuration::from_hours(24 * 30);
const CSV_COLUMNS: [&str; 21] = [
    "from",
    "to",
    "number",
    "joined",
    "minutes",
    "calls",
    "meetings",
    "callers_peak",
    "measured",
    "loss_mean",
    "mos_mean",
    "loss_none",
    "loss_to_1_percent",
    "loss_to_3_percent",
    "loss_to_5_percent",
    "loss_more",
    "mos_from_4_34",
    "mos_from_4_03",
    "mos_from_3_60",
    "mos_from_3_10",
    "mos_less",
];
