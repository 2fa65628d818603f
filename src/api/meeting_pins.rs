//! `/v1/meetings/{id}/pins`: PINs of single people and machines.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::AppState;
use super::auth::Asker;
use super::body::{Fields, given};
use super::path::{MeetingPath, Named, PinPath};
use super::problem::{Problem, ProblemDocument};
use super::query::Parameters;
use super::view::Page;
use crate::booking::change::FieldError;
use crate::booking::pin::PinRecord;
use crate::booking::{Permission, Role};

/// A PIN as it is asked for.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "tells the OpenAPI document what `create` reads")]
pub(super) struct PinRequest {
    /// Whose it is; what the others see and hear of him. 1 to 100 characters.
    #[schema(min_length = 1, max_length = 100)]
    label: String,
    /// What it makes of its user: `listener` joins muted and can't unmute himself, `bridge` is a machine
    /// that hears no prompts and makes no tones.
    role: Role,
    /// A PIN that people know already, 4 to 16 digits, instead of a new one; for keys of role `admin`, which may give
    /// none shorter than others are, and `platform`. Neither length nor forbidden patterns of the organisation are asked
    /// of it, but it must not be, begin or be begun by one that is in use, whoever's.
    #[schema(min_length = 4, max_length = 16, pattern = "^[0-9]+$")]
    pin: Option<String>,
}

/// A PIN of a meeting.
#[derive(Serialize, ToSchema)]
#[schema(as = Pin)]
pub(super) struct PinView {
    /// Names it here.
    #[schema(format = "uuid")]
    id: String,
    /// The digits.
    pin: String,
    /// What it makes of its user.
    role: Role,
    /// Whose it is; null: everybody's with this role.
    label: Option<String>,
    /// The occurrence that it opens, by its recurrence id; null: all there are.
    occurrence: Option<String>,
}

/// Lists the PINs of a meeting; none once they were released, 30 days after its end.
#[utoipa::path(
    get, operation_id = "listPins", path = "/v1/meetings/{id}/pins", tag = "pins", security(("key" = [])), params(("id" = String, Path)),
    responses((status = 200, description = "All of them", body = Page<PinView>))
)]
pub(super) async fn list(
    State(state): State<AppState>,
    asker: Asker,
    Named(path): Named<MeetingPath>,
    parameters: Parameters,
) -> Result<Response, Problem> {
    asker.must(Permission::SeePins)?;
    parameters.finish()?;
    let pins = state
        .bookings
        .meeting_pins(state.now(), &asker.key, path.id)
        .await?;
    Ok(page(&pins))
}

/// Gives a meeting one more PIN; of a series, to all of it.
#[utoipa::path(
    post, operation_id = "createPin", path = "/v1/meetings/{id}/pins", tag = "pins", security(("key" = [])), request_body = PinRequest,
    params(("id" = String, Path)),
    responses(
        (status = 201, description = "Given", body = PinView),
        (status = 409, description = "The meeting is cancelled, over for too long, or has 1,000 PINs with those withdrawn within 30 days (and 4,000 of single occurrences); or the PIN to import can't be: pin_taken", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "The request breaks rules", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn create(
    State(state): State<AppState>,
    asker: Asker,
    Named(path): Named<MeetingPath>,
    mut fields: Fields,
) -> Result<Response, Problem> {
    asker.must(Permission::Book)?;
    let (label, role) = (given(fields.text("label")), given(fields.text("role")));
    let known = given(fields.text("pin"));
    fields.finish()?;
    let (label, role) = required(label, role)?;
    let (bookings, now, key) = (&state.bookings, state.now(), &asker.key);
    let (meeting, added) = match known {
        Some(digits) => {
            let given = bookings.import_pin(now, key, path.id, (role, &label), &digits);
            given.await?
        }
        None => bookings.add_pin(now, key, path.id, role, &label).await?,
    };
    asker.acted_for(meeting.organisation);
    let answer = (StatusCode::CREATED, Json(PinView::new(&added)));
    Ok(unstored(answer.into_response()))
}

/// Withdraws a PIN: callers are told it is wrong, and nobody else gets it for 30 days. Who is in with it
/// stays. The last one can't be withdrawn: cancel the meeting, or replace its PINs.
#[utoipa::path(
    delete, operation_id = "deletePin", path = "/v1/meetings/{id}/pins/{pin_id}", tag = "pins", security(("key" = [])),
    params(("id" = String, Path), ("pin_id" = String, Path)),
    responses(
        (status = 204, description = "Withdrawn"),
        (status = 409, description = "It is the last one, or the meeting is cancelled, or over for too long", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn withdraw(
    State(state): State<AppState>,
    asker: Asker,
    Named(path): Named<PinPath>,
) -> Result<StatusCode, Problem> {
    asker.must(Permission::Book)?;
    let meeting = state
        .bookings
        .withdraw_pin(state.now(), &asker.key, path.id, path.pin_id)
        .await?;
    asker.acted_for(meeting.organisation);
    Ok(StatusCode::NO_CONTENT)
}

/// Replaces all PINs of a meeting by new ones with the same roles and labels; the old ones are withdrawn.
#[utoipa::path(
    post, operation_id = "rotatePins", path = "/v1/meetings/{id}/pins/rotate", tag = "pins", security(("key" = [])), params(("id" = String, Path)),
    responses(
        (status = 200, description = "The new ones", body = Page<PinView>),
        (status = 409, description = "The meeting is cancelled, over for too long, or has 1,000 PINs with those withdrawn within 30 days (and 4,000 of single occurrences)", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn rotate(
    State(state): State<AppState>,
    asker: Asker,
    Named(path): Named<MeetingPath>,
) -> Result<Response, Problem> {
    asker.must(Permission::Book)?;
    let meeting = state
        .bookings
        .rotate_pins(state.now(), &asker.key, path.id)
        .await?;
    asker.acted_for(meeting.organisation);
    Ok(page(&meeting.pins))
}

impl PinView {
    fn new(record: &PinRecord) -> Self {
        Self {
            id: record.id.to_string(),
            pin: record.pin.expose().to_owned(),
            role: record.role,
            label: record.label.clone(),
            occurrence: record.occurrence.map(|id| id.to_string()),
        }
    }
}

fn page(pins: &[PinRecord]) -> Response {
    let items = pins.iter().map(PinView::new).collect();
    unstored(Json(Page { items, next: None }).into_response())
}

/// PINs belong in nobody's cache.
fn unstored(mut response: Response) -> Response {
    let no_store = HeaderValue::from_static("no-store");
    response.headers_mut().insert(CACHE_CONTROL, no_store);
    response
}

/// Both, or all that is wrong with them.
fn required(label: Option<String>, role: Option<String>) -> Result<(String, Role), Problem> {
    let missing = |name| FieldError::new(name, "required", "is required");
    let label = label.ok_or_else(|| missing("label"));
    let role = role.ok_or_else(|| missing("role")).and_then(read_role);
    match (label, role) {
        (Ok(label), Ok(role)) => Ok((label, role)),
        (label, role) => Err(Problem::invalid(
            [label.err(), role.err()].into_iter().flatten().collect(),
        )),
    }
}

fn read_role(word: String) -> Result<Role, FieldError> {
    serde_json::from_value(serde_json::Value::String(word)).map_err(|_| {
        let message = "must be guest, host, listener or bridge";
        FieldError::new("role", "invalid", message)
    })
}
