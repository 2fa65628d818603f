//! `/v1/meetings`: book, read, change, cancel, end.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::{ETAG, IF_MATCH, LOCATION};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::AppState;
use super::auth::Asker;
use super::body::{self, Fields};
use super::occurrences::RecurrenceBody;
use super::path::{MeetingPath, Named};
use super::problem::{Problem, ProblemDocument};
use super::query::{Parameters, cursor};
use super::repetition;
use super::rooms::RoomAsked;
use super::view::{MeetingView, Page};
use crate::booking::change::FieldError;
use crate::booking::meeting::PinsPer;
use crate::booking::service::{MeetingQuestion, Repetition};
use crate::booking::{KeyRole, Meeting, MeetingId, MeetingState, Organisation, Permission};

/// A meeting as it is asked for.
#[derive(Serialize, ToSchema)]
#[allow(
    dead_code,
    reason = "tells the OpenAPI document what `body::meeting` reads; a test compares both"
)]
pub(super) struct MeetingRequest {
    /// Required of keys of role `platform`: the organisation they act for.
    organisation: Option<String>,
    /// For people; at most 200 characters.
    #[schema(min_length = 1, max_length = 200)]
    title: String,
    /// RFC 3339 with an offset.
    #[schema(format = "date-time")]
    starts_at: String,
    /// RFC 3339 with an offset; null: permanent.
    #[schema(format = "date-time", required)]
    ends_at: Option<String>,
    /// IANA name. The local times in it are what is kept: a change of the zone alone keeps them.
    #[schema(example = "Europe/Rome")]
    timezone: String,
    /// What repeats it; null: it takes place once.
    recurrence: Option<RecurrenceBody>,
    /// The room it takes place in, in which nothing else does meanwhile.
    room: Option<RoomAsked>,
    /// Most participants at once; 1 to 2,000, and no more than its room holds, which is the default.
    #[schema(minimum = 1, maximum = 2000)]
    capacity: Option<u32>,
    /// The language callers are spoken to in: `it` or `en`.
    #[schema(pattern = "^(it|en)$")]
    language: Option<String>,
    /// Your own name for it; unique, at most 255 bytes.
    #[schema(min_length = 1, max_length = 255)]
    external_id: Option<String>,
    /// A JSON object, at most 4,096 bytes.
    #[schema(value_type = Option<Object>)]
    metadata: Option<serde_json::Value>,
    /// Guests wait for a host; default false.
    wait_for_host: Option<bool>,
    /// Guests join muted; default false.
    mute_on_join: Option<bool>,
    /// May guests unmute themselves? Default true.
    guests_may_unmute: Option<bool>,
    /// How long before its start callers may come; default 15.
    early_join_minutes: Option<u32>,
    /// How long it may run over its end; default 60.
    overrun_minutes: Option<u32>,
    /// Quiet and loud talkers are brought to about the same loudness; default true.
    automatic_gain: Option<bool>,
    /// Noise around the talkers is suppressed, at the price of some 15 ms and of processor time; default false.
    noise_suppression: Option<bool>,
    /// What one PIN opens: the whole `series`, which is the default, or one `occurrence`. Occurrences get their PINs up
    /// to a year and 100 of them ahead, and the next one in any case.
    #[schema(value_type = Option<PinsPer>)]
    pins_per: Option<String>,
}

/// What to change of a meeting: what is left out stays, null brings the default back.
#[derive(Serialize, ToSchema)]
#[allow(
    dead_code,
    reason = "tells the OpenAPI document what `body::meeting` reads; a test compares both"
)]
pub(super) struct MeetingPatch {
    /// For people; at most 200 characters.
    #[schema(min_length = 1, max_length = 200)]
    title: Option<String>,
    /// RFC 3339 with an offset.
    #[schema(format = "date-time")]
    starts_at: Option<String>,
    /// RFC 3339 with an offset; null: permanent.
    #[schema(format = "date-time")]
    ends_at: Option<String>,
    /// IANA name. The local times stay unless they are changed too.
    timezone: Option<String>,
    /// What repeats it; null: it takes place once.
    recurrence: Option<RecurrenceBody>,
    /// The room it takes place in; null: none. Asked for anew, it may become another one.
    room: Option<RoomAsked>,
    /// Most participants at once; 1 to 2,000, and no more than its room holds.
    #[schema(minimum = 1, maximum = 2000)]
    capacity: Option<u32>,
    /// `it` or `en`.
    #[schema(pattern = "^(it|en)$")]
    language: Option<String>,
    /// Your own name for it; unique, at most 255 bytes.
    #[schema(min_length = 1, max_length = 255)]
    external_id: Option<String>,
    /// A JSON object, at most 4,096 bytes.
    #[schema(value_type = Option<Object>)]
    metadata: Option<serde_json::Value>,
    /// Guests wait for a host.
    wait_for_host: Option<bool>,
    /// Guests join muted.
    mute_on_join: Option<bool>,
    /// May guests unmute themselves?
    guests_may_unmute: Option<bool>,
    /// How long before its start callers may come.
    early_join_minutes: Option<u32>,
    /// How long it may run over its end.
    overrun_minutes: Option<u32>,
    /// Quiet and loud talkers are brought to about the same loudness.
    automatic_gain: Option<bool>,
    /// Noise around the talkers is suppressed.
    noise_suppression: Option<bool>,
    /// Stays as it was booked; anything else is refused.
    #[schema(value_type = Option<PinsPer>)]
    pins_per: Option<String>,
}

/// Books a meeting and allocates its PINs.
#[utoipa::path(
    post, operation_id = "createMeeting", path = "/v1/meetings", tag = "meetings", security(("key" = [])), request_body = MeetingRequest,
    responses(
        (status = 201, description = "Booked, now or by an earlier request with the same Idempotency-Key", body = MeetingView),
        (status = 409, description = "No such room is free then (`room_taken`, with `next_free`), or something else contradicts it", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn create(
    State(state): State<AppState>,
    asker: Asker,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response, Problem> {
    asker.must(Permission::Book)?;
    let repetition = repetition(&asker, &headers, &fields)?;
    let (change, named) = body::meeting(fields)?;
    let organisation = state
        .bookings
        .acting_for(&asker.key, named.as_deref())
        .await?;
    let (meeting, _repeated) = state
        .bookings
        .create_meeting(state.now(), &organisation, change, repetition)
        .await?;
    Ok(answer(StatusCode::CREATED, &state, meeting, &asker))
}

/// Lists meetings by start.
#[utoipa::path(
    get, operation_id = "listMeetings", path = "/v1/meetings", tag = "meetings", security(("key" = [])),
    params(
        ("from" = Option<String>, Query, description = "Not over by then; RFC 3339"),
        ("to" = Option<String>, Query, description = "Begun before then; RFC 3339"),
        ("state" = Option<MeetingState>, Query, description = "In this part of their lives"),
        ("organisation" = Option<String>, Query, description = "For keys of role platform; left out: all"),
        ("cursor" = Option<String>, Query, description = "The `next` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 1,000; default 100. With `state` a page may hold fewer though more follow"),
    ),
    responses((status = 200, description = "A page", body = Page<MeetingView>))
)]
pub(super) async fn list(
    State(state): State<AppState>,
    asker: Asker,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    asker.must(Permission::Read)?;
    let organisation = scope(&state, &asker, &mut parameters).await?;
    let question = MeetingQuestion {
        organisation: organisation.map(|organisation| organisation.id),
        from: parameters.time("from")?,
        to: parameters.time("to")?,
        state: parameters.word("state", "scheduled, open, live, ended, cancelled")?,
        live: state.live.live_meetings(),
        after: parameters.cursor()?.map(|(at, id)| (at, MeetingId(id))),
        limit: parameters.limit()?,
    };
    parameters.finish()?;
    let page = state.bookings.list_meetings(state.now(), question).await?;
    let items = page
        .items
        .into_iter()
        .map(|meeting| MeetingView::new(&state, meeting, asker.sees_pins()))
        .collect();
    Ok(Json(Page {
        items,
        next: page.next.map(|(at, id)| cursor(at, id.0)),
    })
    .into_response())
}

/// Reads a meeting.
#[utoipa::path(
    get, operation_id = "readMeeting", path = "/v1/meetings/{id}", tag = "meetings", security(("key" = [])), params(("id" = String, Path)),
    responses((status = 200, description = "The meeting; its revision is in ETag", body = MeetingView))
)]
pub(super) async fn read(
    State(state): State<AppState>,
    asker: Asker,
    Named(path): Named<MeetingPath>,
) -> Result<Response, Problem> {
    asker.must(Permission::Read)?;
    let meeting = state.bookings.meeting(&asker.key, path.id).await?;
    Ok(answer(StatusCode::OK, &state, meeting, &asker))
}

/// Changes a meeting; its PINs stay. Who is in it or waits stays on the new terms if his PIN would still
/// open it, else the meeting ends for him.
#[utoipa::path(
    patch, operation_id = "changeMeeting", path = "/v1/meetings/{id}", tag = "meetings", security(("key" = [])), request_body = MeetingPatch,
    params(("id" = String, Path), ("If-Match" = Option<String>, Header, description = "The ETag it must still have")),
    responses(
        (status = 200, description = "Changed", body = MeetingView),
        (status = 409, description = "It is cancelled, over for too long, or no such room is free then (`room_taken`, with `next_free`)", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 412, description = "It was changed meanwhile", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn change(
    State(state): State<AppState>,
    asker: Asker,
    Named(path): Named<MeetingPath>,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response, Problem> {
    asker.must(Permission::Book)?;
    let expected = if_match(&headers)?;
    let (change, named) = body::meeting(fields)?;
    if named.is_some() {
        return Err(Problem::invalid(vec![FieldError::new(
            "organisation",
            "invalid",
            "can't be changed",
        )]));
    }
    let meeting = state
        .bookings
        .patch_meeting(state.now(), &asker.key, path.id, change, expected)
        .await?;
    state.tell_live(&meeting).await;
    Ok(answer(StatusCode::OK, &state, meeting, &asker))
}

/// Cancels a meeting. For who is in it or waits, it ends.
#[utoipa::path(
    delete, operation_id = "cancelMeeting", path = "/v1/meetings/{id}", tag = "meetings", security(("key" = [])),
    params(("id" = String, Path), ("If-Match" = Option<String>, Header, description = "The ETag it must still have")),
    responses((status = 204, description = "Cancelled, now or before"))
)]
pub(super) async fn cancel(
    State(state): State<AppState>,
    asker: Asker,
    Named(path): Named<MeetingPath>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    asker.must(Permission::Book)?;
    state
        .bookings
        .cancel_meeting(state.now(), &asker.key, path.id, if_match(&headers)?)
        .await?;
    see_off(&state, path.id).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Reads a meeting by your own name for it.
#[utoipa::path(
    get, operation_id = "readMeetingByExternalId", path = "/v1/meetings/by-external-id/{external_id}", tag = "meetings", security(("key" = [])),
    params(
        ("external_id" = String, Path, description = "Percent-encoded"),
        ("organisation" = Option<String>, Query, description = "Required of keys of role platform"),
    ),
    responses((status = 200, description = "The meeting", body = MeetingView))
)]
pub(super) async fn read_by_external_id(
    State(state): State<AppState>,
    asker: Asker,
    Path(external_id): Path<String>,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    asker.must(Permission::Read)?;
    let organisation = owner(&state, &asker, &mut parameters).await?;
    parameters.finish()?;
    let meeting = state
        .bookings
        .meeting_by_external_id(&organisation, &external_id)
        .await?;
    Ok(answer(StatusCode::OK, &state, meeting, &asker))
}

/// Books, replaces or brings back the meeting of this name. What is left out takes its default; the PINs
/// stay, also through DELETE and PUT within 30 days.
#[utoipa::path(
    put, operation_id = "putMeetingByExternalId", path = "/v1/meetings/by-external-id/{external_id}", tag = "meetings", security(("key" = [])), request_body = MeetingRequest,
    params(
        ("external_id" = String, Path, description = "Percent-encoded"),
        ("If-Match" = Option<String>, Header, description = "The ETag it must still have"),
    ),
    responses(
        (status = 200, description = "Replaced", body = MeetingView),
        (status = 201, description = "Booked", body = MeetingView),
        (status = 409, description = "No such room is free then (`room_taken`, with `next_free`), or something else contradicts it", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 412, description = "It was changed meanwhile", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn put_by_external_id(
    State(state): State<AppState>,
    asker: Asker,
    Path(external_id): Path<String>,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response, Problem> {
    asker.must(Permission::Book)?;
    let expected = if_match(&headers)?;
    let (change, named) = body::meeting(fields)?;
    let organisation = state
        .bookings
        .acting_for(&asker.key, named.as_deref())
        .await?;
    let (meeting, new) = state
        .bookings
        .put_meeting(state.now(), &organisation, &external_id, change, expected)
        .await?;
    state.tell_live(&meeting).await;
    Ok(answer(
        if new {
            StatusCode::CREATED
        } else {
            StatusCode::OK
        },
        &state,
        meeting,
        &asker,
    ))
}

/// Cancels the meeting of this name. For who is in it or waits, it ends.
#[utoipa::path(
    delete, operation_id = "cancelMeetingByExternalId", path = "/v1/meetings/by-external-id/{external_id}", tag = "meetings", security(("key" = [])),
    params(
        ("external_id" = String, Path, description = "Percent-encoded"),
        ("organisation" = Option<String>, Query, description = "Required of keys of role platform"),
        ("If-Match" = Option<String>, Header, description = "The ETag it must still have"),
    ),
    responses((status = 204, description = "Cancelled, now or before"))
)]
pub(super) async fn cancel_by_external_id(
    State(state): State<AppState>,
    asker: Asker,
    Path(external_id): Path<String>,
    headers: HeaderMap,
    mut parameters: Parameters,
) -> Result<StatusCode, Problem> {
    asker.must(Permission::Book)?;
    let organisation = owner(&state, &asker, &mut parameters).await?;
    parameters.finish()?;
    let meeting = state
        .bookings
        .meeting_by_external_id(&organisation, &external_id)
        .await?;
    state
        .bookings
        .cancel_meeting(state.now(), &asker.key, meeting.id, if_match(&headers)?)
        .await?;
    see_off(&state, meeting.id).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends a meeting for all that are in it or wait. One with an end is over then; a permanent one can be
/// joined again.
#[utoipa::path(
    post, operation_id = "endMeeting", path = "/v1/meetings/{id}/end", tag = "meetings", security(("key" = [])), params(("id" = String, Path)),
    responses((status = 200, description = "Ended", body = MeetingView))
)]
pub(super) async fn end(
    State(state): State<AppState>,
    asker: Asker,
    Named(path): Named<MeetingPath>,
) -> Result<Response, Problem> {
    asker.must(Permission::Steer)?;
    let meeting = state.bookings.meeting(&asker.key, path.id).await?;
    state.bookings.end_meeting(state.now(), meeting.id).await?;
    state.live.end_meeting(meeting.id).await?;
    let meeting = state.bookings.meeting(&asker.key, path.id).await?;
    Ok(answer(StatusCode::OK, &state, meeting, &asker))
}

/// The meeting was cancelled; a node that can't be reached is only logged.
async fn see_off(state: &AppState, meeting: MeetingId) {
    if let Err(error) = state.live.end_meeting(meeting).await {
        tracing::warn!(%meeting, %error, "a cancelled meeting did not end for the calls in it");
    }
}

/// Of whom meetings or calls are listed: of its own, or for a platform key of whom it names, or of all.
pub(super) async fn scope(
    state: &AppState,
    asker: &Asker,
    parameters: &mut Parameters,
) -> Result<Option<Organisation>, Problem> {
    let named = parameters.text("organisation")?;
    if asker.key.role == KeyRole::Platform && named.is_none() {
        return Ok(None);
    }
    Ok(Some(
        state
            .bookings
            .acting_for(&asker.key, named.as_deref())
            .await?,
    ))
}

pub(super) async fn owner(
    state: &AppState,
    asker: &Asker,
    parameters: &mut Parameters,
) -> Result<Organisation, Problem> {
    let named = parameters.text("organisation")?;
    let owner = state
        .bookings
        .acting_for(&asker.key, named.as_deref())
        .await?;
    asker.acted_for(owner.id);
    Ok(owner)
}

fn answer(status: StatusCode, state: &AppState, meeting: Meeting, asker: &Asker) -> Response {
    asker.acted_for(meeting.organisation);
    let (etag, location) = (
        format!("\"{}\"", meeting.revision),
        format!("/v1/meetings/{}", meeting.id),
    );
    let mut response = (
        status,
        Json(MeetingView::new(state, meeting, asker.sees_pins())),
    )
        .into_response();
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        response.headers_mut().insert(ETAG, etag);
    }
    if status == StatusCode::CREATED
        && let Ok(location) = HeaderValue::from_str(&location)
    {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// The revision that `If-Match` asks for (RFC 9110 section 13.1.1); what is no ETag of ours matches nothing.
pub(super) fn if_match(headers: &HeaderMap) -> Result<Option<i64>, Problem> {
    let Some(value) = headers.get(IF_MATCH) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    if text.is_empty() || text.contains(',') {
        let must = "must be one ETag or *";
        return Err(Problem::bad_parameter(FieldError::new(
            "If-Match", "invalid", must,
        )));
    }
    let revision = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .and_then(|text| text.parse().ok());
    Ok(Some(revision.unwrap_or(NO_REVISION)))
}

/// The booking keeps the claim in its own transaction, so that not even a node that dies books twice.
fn repetition(
    asker: &Asker,
    headers: &HeaderMap,
    fields: &Fields,
) -> Result<Option<Repetition>, Problem> {
    let name = repetition::key_name(headers)?;
    Ok(name.map(|name| Repetition {
        key: asker.key.id,
        name,
        body_hash: fields.hash(),
    }))
}

/// Revisions count from 1.
const NO_REVISION: i64 = -1;
