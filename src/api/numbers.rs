//! `/v1/numbers`: what people dial, and whose meetings each number leads to.

use axum::Json;
use axum::extract::State;
use axum::http::header::{ETAG, LOCATION};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::AppState;
use super::auth::Asker;
use super::body::Fields;
use super::meetings::{if_match, scope};
use super::organisations::must_be_platform;
use super::path::{Named, NumberPath};
use super::problem::{Problem, ProblemDocument};
use super::query::{Parameters, cursor};
use super::view::{NumberView, Page};
use crate::booking::Permission;
use crate::booking::number::{NumberChange, NumberRecord};

/// A number as it is asked for.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "tells the OpenAPI document what `asked` reads")]
pub(super) struct NumberRequest {
    /// E.164 with `+`, an extension or a name, as it arrives in calls. Of two that differ only in what stands
    /// between letters and digits, there can be one.
    #[schema(
        example = "+390612345678",
        pattern = "^(\\+[0-9]{1,64}|[A-Za-z0-9._-]{1,64})$"
    )]
    number: String,
    /// What callers are greeted in: `it` or `en`.
    #[schema(pattern = "^(it|en)$")]
    language: String,
    /// Where it is a local call: ISO 3166 alpha-2.
    #[schema(pattern = "^[A-Za-z]{2}$")]
    country: Option<String>,
    /// Whose meetings it leads to, by name; null: everybody's.
    organisation: Option<String>,
    /// What people call it; at most 100 characters.
    #[schema(min_length = 1, max_length = 100, pattern = "^\\S(.*\\S)?$")]
    label: Option<String>,
    /// Does calling it cost nothing? Default false.
    toll_free: Option<bool>,
}

/// What to change of a number; what is left out stays.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "tells the OpenAPI document what `asked` reads")]
pub(super) struct NumberPatch {
    /// As it arrives in calls. For keys of role `platform`.
    #[schema(pattern = "^(\\+[0-9]{1,64}|[A-Za-z0-9._-]{1,64})$")]
    number: Option<String>,
    /// `it` or `en`.
    #[schema(pattern = "^(it|en)$")]
    language: Option<String>,
    /// ISO 3166 alpha-2.
    #[schema(pattern = "^[A-Za-z]{2}$")]
    country: Option<String>,
    /// Whose meetings it leads to, by name; null: everybody's. For keys of role `platform`.
    organisation: Option<String>,
    /// What people call it.
    #[schema(min_length = 1, max_length = 100, pattern = "^\\S(.*\\S)?$")]
    label: Option<String>,
    /// Does calling it cost nothing?
    toll_free: Option<bool>,
}

/// A number that is kept.
#[derive(Serialize, ToSchema)]
#[schema(as = Number)]
pub(super) struct NumberRecordView {
    /// Names it here.
    #[schema(format = "uuid")]
    id: String,
    /// What it is like.
    #[serde(flatten)]
    number: NumberView,
    /// When it was made.
    #[schema(format = "date-time")]
    created_at: String,
}

/// Makes a number. For keys of role platform. While there is none at all, whatever is dialled is answered.
#[utoipa::path(
    post, operation_id = "createNumber", path = "/v1/numbers", tag = "numbers", security(("key" = [])), request_body = NumberRequest,
    responses((status = 201, description = "Made", body = NumberRecordView))
)]
pub(super) async fn create(
    State(state): State<AppState>,
    asker: Asker,
    fields: Fields,
) -> Result<Response, Problem> {
    must_be_platform(&asker)?;
    let asked = asked(fields)?;
    let made = state.bookings.create_number(state.now(), asked).await?;
    Ok(answer(StatusCode::CREATED, &asker, &made))
}

/// Lists the numbers that lead to your meetings, oldest first.
#[utoipa::path(
    get, operation_id = "listNumbers", path = "/v1/numbers", tag = "numbers", security(("key" = [])),
    params(
        ("organisation" = Option<String>, Query, description = "For keys of role platform: those that lead to its meetings; left out: all"),
        ("cursor" = Option<String>, Query, description = "The `next` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 1,000; default 100"),
    ),
    responses((status = 200, description = "A page", body = Page<NumberRecordView>))
)]
pub(super) async fn list(
    State(state): State<AppState>,
    asker: Asker,
    mut parameters: Parameters,
) -> Result<Json<Page<NumberRecordView>>, Problem> {
    asker.must(Permission::Read)?;
    let owner = scope(&state, &asker, &mut parameters).await?;
    let (after, limit) = (parameters.cursor()?, parameters.limit()? as usize);
    parameters.finish()?;
    let mut numbers = state.bookings.list_numbers(owner.as_ref()).await?;
    numbers.retain(|number| after.is_none_or(|after| (number.created_at, number.id) > after));
    let more = numbers.len() > limit;
    numbers.truncate(limit);
    let last = numbers.last().map(|last| cursor(last.created_at, last.id));
    Ok(Json(Page {
        items: numbers.iter().map(NumberRecordView::new).collect(),
        next: last.filter(|_| more),
    }))
}

/// Reads a number.
#[utoipa::path(
    get, operation_id = "readNumber", path = "/v1/numbers/{id}", tag = "numbers", security(("key" = [])), params(("id" = String, Path)),
    responses((status = 200, description = "It; its revision is in ETag", body = NumberRecordView))
)]
pub(super) async fn read(
    State(state): State<AppState>,
    asker: Asker,
    Named(path): Named<NumberPath>,
) -> Result<Response, Problem> {
    asker.must(Permission::Read)?;
    let number = state.bookings.number(&asker.key, path.id).await?;
    Ok(answer(StatusCode::OK, &asker, &number))
}

/// Changes a number. Keys of role `admin` change how their organisation's own numbers greet and are shown; what is
/// dialled, whose it is, and shared numbers are changed by keys of role `platform`.
#[utoipa::path(
    patch, operation_id = "changeNumber", path = "/v1/numbers/{id}", tag = "numbers", security(("key" = [])), request_body = NumberPatch,
    params(("id" = String, Path), ("If-Match" = Option<String>, Header, description = "The ETag it must still have")),
    responses(
        (status = 200, description = "Changed, for calls from now on", body = NumberRecordView),
        (status = 412, description = "It was changed meanwhile", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "The request breaks rules", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn change(
    State(state): State<AppState>,
    asker: Asker,
    Named(path): Named<NumberPath>,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response, Problem> {
    asker.must(Permission::Manage)?;
    let (asked, expected) = (asked(fields)?, if_match(&headers)?);
    let changed = state
        .bookings
        .patch_number(&asker.key, path.id, asked, expected)
        .await?;
    Ok(answer(StatusCode::OK, &asker, &changed))
}

/// Deletes a number: calls to it are no longer answered. For keys of role platform. The last one stays: without any,
/// whatever is dialled would be answered.
#[utoipa::path(
    delete, operation_id = "deleteNumber", path = "/v1/numbers/{id}", tag = "numbers", security(("key" = [])), params(("id" = String, Path)),
    responses(
        (status = 204, description = "It is gone"),
        (status = 409, description = "It is the last one", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn remove(
    State(state): State<AppState>,
    asker: Asker,
    Named(path): Named<NumberPath>,
) -> Result<StatusCode, Problem> {
    must_be_platform(&asker)?;
    let number = state.bookings.number(&asker.key, path.id).await?;
    state.bookings.delete_number(&number).await?;
    if let Some(owner) = number.organisation {
        asker.acted_for(owner);
    }
    Ok(StatusCode::NO_CONTENT)
}

impl NumberRecordView {
    fn new(record: &NumberRecord) -> Self {
        Self {
            id: record.id.to_string(),
            number: NumberView::new(&record.number),
            created_at: record.created_at.to_string(),
        }
    }
}

fn asked(mut fields: Fields) -> Result<NumberChange, Problem> {
    let asked = NumberChange {
        number: fields.text("number"),
        country: fields.text("country"),
        language: fields.text("language"),
        organisation: fields.text("organisation"),
        label: fields.text("label"),
        toll_free: fields.flag("toll_free"),
    };
    fields.finish()?;
    Ok(asked)
}

fn answer(status: StatusCode, asker: &Asker, record: &NumberRecord) -> Response {
    if let Some(owner) = record.organisation {
        asker.acted_for(owner);
    }
    let mut response = (status, Json(NumberRecordView::new(record))).into_response();
    let headers = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{}\"", record.revision)) {
        headers.insert(ETAG, etag);
    }
    let location = format!("/v1/numbers/{}", record.id);
    if status == StatusCode::CREATED
        && let Ok(location) = HeaderValue::from_str(&location)
    {
        headers.insert(LOCATION, location);
    }
    response
}
