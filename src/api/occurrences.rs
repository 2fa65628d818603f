//! `/v1/meetings/{id}/occurrences`: a series, one by one.

use axum::Json;
use axum::extract::State;
use axum::http::header::ETAG;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::AppState;
use super::auth::Asker;
use super::body::{Fields, given};
use super::meetings::if_match;
use super::path::{MeetingPath, Named, OccurrencePath};
use super::problem::{Problem, ProblemDocument};
use super::query::{Parameters, cursor};
use super::view::{Page, PinsView};
use crate::booking::change::{Change, parse_time};
use crate::booking::service::OccurrenceChange;
use crate::booking::{Meeting, MeetingOptions, MeetingState, Occurrence, Permission, Schedule};

/// What repeats a meeting.
#[derive(Serialize, ToSchema)]
#[schema(as = Recurrence)]
pub(super) struct RecurrenceBody {
    /// RFC 5545, with or without `RRULE:`; daily, weekly, monthly or yearly. `starts_at` must be its first
    /// occurrence. Without COUNT and UNTIL it is endless; else it gives at most 3,660 occurrences.
    #[schema(example = "FREQ=WEEKLY;BYDAY=MO;COUNT=10")]
    rule: String,
    /// Starts to leave out: RFC 3339, local times without an offset, or dates; at most 1,000.
    #[schema(max_items = 1000)]
    excluded: Option<Vec<String>>,
    /// Starts to add, in the same forms; at most 1,000.
    #[schema(max_items = 1000)]
    added: Option<Vec<String>>,
}

/// One occurrence of a series.
#[derive(Serialize, ToSchema)]
#[schema(as = Occurrence)]
pub(super) struct OccurrenceView {
    /// Names it: when it was to start, in the local time of the series. Stays when it is moved.
    #[schema(example = "20261123T100000")]
    recurrence_id: String,
    /// In the meeting's own zone.
    #[schema(format = "date-time")]
    starts_at: String,
    /// In the meeting's own zone.
    #[schema(format = "date-time")]
    ends_at: String,
    /// Where it is in its life. `live` only of the one that callers find now.
    state: MeetingState,
    /// It takes place at another time than the rule says.
    moved: bool,
    /// What opens it. Hidden from keys of role `reader`; null also where the PIN of each occurrence is its own, and this
    /// one gets it later, or lost it 30 days after its end.
    pins: Option<PinsView>,
}

/// What to change of an occurrence: what is left out stays.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "tells the OpenAPI document what `change` reads")]
pub(super) struct OccurrencePatch {
    /// RFC 3339 with an offset.
    #[schema(format = "date-time")]
    starts_at: Option<String>,
    /// RFC 3339 with an offset; left out where the start is another: as long as it was.
    #[schema(format = "date-time")]
    ends_at: Option<String>,
    /// false brings a cancelled one back.
    cancelled: Option<bool>,
}

/// Lists the occurrences of a series by start, also those that were cancelled. A meeting that takes place
/// once has none.
#[utoipa::path(
    get, operation_id = "listOccurrences", path = "/v1/meetings/{id}/occurrences", tag = "meetings", security(("key" = [])),
    params(
        ("id" = String, Path),
        ("from" = Option<String>, Query, description = "Not over by then; RFC 3339; left out: now"),
        ("to" = Option<String>, Query, description = "Begun before then; RFC 3339; left out: no end"),
        ("cursor" = Option<String>, Query, description = "The `next` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 1,000; default 100"),
    ),
    responses((status = 200, description = "A page", body = Page<OccurrenceView>))
)]
pub(super) async fn list(
    State(state): State<AppState>,
    asker: Asker,
    Named(path): Named<MeetingPath>,
    mut parameters: Parameters,
) -> Result<Json<Page<OccurrenceView>>, Problem> {
    asker.must(Permission::Read)?;
    let meeting = state.bookings.meeting(&asker.key, path.id).await?;
    let from = parameters.time("from")?.unwrap_or_else(|| state.now());
    let to = parameters.time("to")?.unwrap_or(Timestamp::MAX);
    let after = parameters.cursor()?;
    let limit = parameters.limit()? as usize;
    parameters.finish()?;
    let Some(series) = meeting.series() else {
        return Ok(Json(Page {
            items: Vec::new(),
            next: None,
        }));
    };
    // Occurrences don't overlap: what comes after a start ends after it.
    let from = after.map_or(from, |(at, _)| from.max(at));
    let mut items = series.occurrences(from, to, limit + 2);
    items.retain(|o| after.is_none_or(|(at, _)| o.starts_at > at));
    let more = items.len() > limit;
    items.truncate(limit);
    let last = items.last().filter(|_| more);
    let next = last.map(|last| cursor(last.starts_at, meeting.id.0));
    let live = state.is_live(meeting.id);
    let view = |o| OccurrenceView::new(&meeting, o, state.now(), live, asker.sees_pins());
    Ok(Json(Page {
        items: items.into_iter().map(view).collect(),
        next,
    }))
}

/// Moves an occurrence, or brings a cancelled one back. The PINs stay.
#[utoipa::path(
    patch, operation_id = "changeOccurrence", path = "/v1/meetings/{id}/occurrences/{recurrence_id}", tag = "meetings", security(("key" = [])),
    request_body = OccurrencePatch,
    params(
        ("id" = String, Path), ("recurrence_id" = String, Path),
        ("If-Match" = Option<String>, Header, description = "The ETag the meeting must still have"),
    ),
    responses(
        (status = 200, description = "Changed; the meeting's new revision is in ETag", body = OccurrenceView),
        (status = 409, description = "The meeting is cancelled, over for too long, or its room is taken then (`room_taken`, with `next_free`)", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 412, description = "The meeting was changed meanwhile", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn change(
    State(state): State<AppState>,
    asker: Asker,
    Named(path): Named<OccurrencePath>,
    headers: HeaderMap,
    mut fields: Fields,
) -> Result<Response, Problem> {
    asker.must(Permission::Book)?;
    let (starts, ends, cancelled) = (
        fields.text("starts_at"),
        fields.text("ends_at"),
        given(fields.flag("cancelled")),
    );
    fields.finish()?;
    let change = OccurrenceChange {
        starts_at: time("starts_at", starts)?,
        ends_at: time("ends_at", ends)?,
        cancelled,
    };
    edit(&state, &asker, path, change, &headers).await
}

/// Cancels one occurrence; the rest of the series stays.
#[utoipa::path(
    delete, operation_id = "cancelOccurrence", path = "/v1/meetings/{id}/occurrences/{recurrence_id}", tag = "meetings", security(("key" = [])),
    params(
        ("id" = String, Path), ("recurrence_id" = String, Path),
        ("If-Match" = Option<String>, Header, description = "The ETag the meeting must still have"),
    ),
    responses((status = 204, description = "Cancelled, now or before"))
)]
pub(super) async fn cancel(
    State(state): State<AppState>,
    asker: Asker,
    Named(path): Named<OccurrencePath>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    asker.must(Permission::Book)?;
    let change = OccurrenceChange {
        cancelled: Some(true),
        ..OccurrenceChange::default()
    };
    edit(&state, &asker, path, change, &headers).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn edit(
    state: &AppState,
    asker: &Asker,
    path: OccurrencePath,
    change: OccurrenceChange,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let now = state.now();
    let (meeting, occurrence) = state
        .bookings
        .change_occurrence(
            now,
            &asker.key,
            path.id,
            path.recurrence_id,
            change,
            if_match(headers)?,
        )
        .await?;
    state.tell_live(&meeting).await;
    let live = state.is_live(meeting.id);
    let view = OccurrenceView::new(&meeting, occurrence, now, live, asker.sees_pins());
    let mut response = Json(view).into_response();
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{}\"", meeting.revision)) {
        response.headers_mut().insert(ETAG, etag);
    }
    Ok(response)
}

impl RecurrenceBody {
    /// As it is kept; times in the meeting's own zone.
    pub(super) fn of(options: &MeetingOptions) -> Option<Self> {
        let asked = options.recurrence.as_ref()?.repetitions();
        let schedule: &Schedule = &options.schedule;
        let told = |local: &jiff::civil::DateTime| {
            let at = schedule.time_zone().to_timestamp(*local).ok()?;
            Some(schedule.rfc3339(at))
        };
        Some(Self {
            rule: asked.rule,
            excluded: Some(asked.excluded.iter().filter_map(told).collect()),
            added: Some(asked.added.iter().filter_map(told).collect()),
        })
    }
}

impl OccurrenceView {
    fn new(
        meeting: &Meeting,
        occurrence: Occurrence,
        now: Timestamp,
        live: bool,
        sees_pins: bool,
    ) -> Self {
        let schedule = &meeting.options.schedule;
        let pins = PinsView::new(meeting, Some(occurrence.id));
        let has_pins = sees_pins && !meeting.is_retired(now);
        Self {
            recurrence_id: occurrence.id.to_string(),
            starts_at: schedule.rfc3339(occurrence.starts_at),
            ends_at: schedule.rfc3339(occurrence.ends_at),
            state: meeting.occurrence_state(&occurrence, now, live),
            moved: occurrence.moved,
            pins: Some(pins).filter(|pins| has_pins && pins.are_there()),
        }
    }
}

fn time(name: &str, change: Change<String>) -> Result<Option<Timestamp>, Problem> {
    given(change)
        .map(|text| parse_time(name, &text).map_err(|error| Problem::invalid(vec![error])))
        .transpose()
}
