//! Errors as problem documents (RFC 9457), whoever found them: a handler, axum, or a panic.
//!
//! A [`Problem`] travels as an extension of an empty response; [`finish`], the outermost layer, knows
//! the request id and writes the document.

use std::any::Any;

use axum::Json;
use axum::extract::Request;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::Modify;
use utoipa::openapi::{Content, OpenApi, Ref, Response as Answer, ResponseBuilder};

use super::document::operations_of;
use crate::booking::change::FieldError;
use crate::booking::room::RoomSlot;
use crate::booking::service::{AuthError, ExplainError};
use crate::booking::store::{Conflict, StoreError};
use crate::booking::{BookingError, DialRefusal};
use crate::call::roster::LiveError;

/// What went wrong, on its way to the client.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    errors: Vec<FieldError>,
    next_free: Vec<RoomSlot>,
    retry_after_seconds: Option<u32>,
}

/// A problem document (RFC 9457 section 3).
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ProblemDocument {
    /// `about:blank`: `code` tells problems apart.
    r#type: &'static str,
    /// The HTTP status in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// A word for programs; stable.
    code: &'static str,
    /// A sentence for people.
    detail: String,
    /// Each thing that is wrong with the request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<ProblemField>,
    /// With `room_taken`: the next times at which such a room is free for as long; at most three.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    next_free: Vec<FreeSlot>,
    /// Names the request in the log; also in `X-Request-Id`.
    request_id: String,
}

/// One thing that is wrong with a request.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct ProblemField {
    /// The field's or parameter's name.
    field: String,
    /// Where it is in the body (RFC 6901).
    pointer: String,
    /// A word for programs; stable.
    code: &'static str,
    /// A sentence for people, with what is allowed.
    message: String,
}

/// A time at which a room is free.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct FreeSlot {
    /// From then; RFC 3339.
    #[schema(format = "date-time")]
    starts_at: String,
    /// To before then; RFC 3339.
    #[schema(format = "date-time")]
    ends_at: String,
}

impl Problem {
    /// With a word for programs and a sentence for people.
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            errors: Vec::new(),
            next_free: Vec::new(),
            retry_after_seconds: None,
        }
    }

    /// 422: the body breaks rules.
    pub(super) fn invalid(errors: Vec<FieldError>) -> Self {
        let only_unsupported =
            !errors.is_empty() && errors.iter().all(|error| error.code == "not_supported");
        let code = if only_unsupported {
            "not_supported"
        } else {
            "invalid"
        };
        let named: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Self {
            errors,
            ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, named.join("; "))
        }
    }

    /// 400: a parameter or header breaks a rule.
    pub(super) fn bad_parameter(error: FieldError) -> Self {
        let detail = error.to_string();
        Self {
            errors: vec![error],
            ..Self::new(StatusCode::BAD_REQUEST, "invalid_parameter", detail)
        }
    }

    pub(super) fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "there is no such thing, or it belongs to somebody else",
        )
    }

    /// 410: what a repeated request made is there no more.
    pub(super) fn deleted_meanwhile() -> Self {
        let detail = "the first request with this Idempotency-Key made it, and it was deleted since; to make another, use another Idempotency-Key";
        Self::new(StatusCode::GONE, "deleted_meanwhile", detail)
    }

    pub(super) fn forbidden() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            "this key may not do that",
        )
    }

    pub(super) fn unauthorized() -> Self {
        let detail = "a valid API key is needed: Authorization: Bearer KEY";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    fn document(self, request_id: String) -> ProblemDocument {
        let field = |error: FieldError| ProblemField {
            pointer: format!("/{}", error.field.replace('~', "~0").replace('/', "~1")),
            field: error.field,
            code: error.code,
            message: error.message,
        };
        let free = |slot: RoomSlot| FreeSlot {
            starts_at: slot.starts_at.to_string(),
            ends_at: slot.ends_at.to_string(),
        };
        ProblemDocument {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            code: self.code,
            detail: self.detail,
            errors: self.errors.into_iter().map(field).collect(),
            next_free: self.next_free.into_iter().map(free).collect(),
            request_id,
        }
    }

    /// For errors that axum answers by itself.
    fn from_status(status: StatusCode) -> Self {
        let (code, detail) = match status {
            StatusCode::PAYLOAD_TOO_LARGE => ("too_large", "the request is too large"),
            StatusCode::SERVICE_UNAVAILABLE => ("timeout", "the request took too long"),
            StatusCode::BAD_REQUEST => ("bad_request", "the request can't be read"),
            _ if status.is_server_error() => (
                "internal",
                "something went wrong here; the log tells more under the request id",
            ),
            _ => ("bad_request", "the request can't be served"),
        };
        Self::new(status, code, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<BookingError> for Problem {
    fn from(error: BookingError) -> Self {
        let detail = error.to_string();
        let conflict = |code| Self::new(StatusCode::CONFLICT, code, detail.clone());
        match error {
            BookingError::Invalid(errors) => Self::invalid(errors),
            BookingError::NotFound => Self::not_found(),
            BookingError::Forbidden => Self::forbidden(),
            BookingError::Changed => Self::new(StatusCode::PRECONDITION_FAILED, "changed", detail),
            BookingError::ClaimMismatch => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency_key_reused",
                detail,
            ),
            BookingError::ClaimInFlight => conflict("idempotency_key_in_flight"),
            BookingError::Retired => conflict("retired"),
            BookingError::Cancelled => conflict("cancelled"),
            BookingError::TooManyWebhooks => conflict("too_many_webhooks"),
            BookingError::NotOpen => conflict("not_open"),
            BookingError::Dial(refusal) => refusal.into(),
            BookingError::Store(error) => error.into(),
            BookingError::NoRandomness(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
            }
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let detail = error.to_string();
        let unavailable = |code, detail: &str| Self {
            retry_after_seconds: Some(5),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail)
        };
        match error {
            StoreError::Conflict(conflict) => Self {
                next_free: conflict.next_free().slots().collect(),
                ..Self::new(StatusCode::CONFLICT, conflict_code(conflict), detail)
            },
            StoreError::Locked => unavailable("store_locked", &detail),
            StoreError::Busy => unavailable("store_unavailable", &detail),
            StoreError::Away(_) => {
                unavailable("store_unavailable", "the database can't be reached now")
            }
            StoreError::DiskFull => unavailable("store_full", &detail),
            StoreError::ReadOnly => unavailable("store_read_only", &detail),
            StoreError::Corrupt(_)
            | StoreError::Newer
            | StoreError::NotEmpty
            | StoreError::Misfit(_)
            | StoreError::Unavailable(_) => {
                tracing::error!(%error, "the store failed");
                unavailable(
                    "store_unavailable",
                    "the store can't be used now; the log tells more",
                )
            }
        }
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::BadKey => Self::unauthorized(),
            AuthError::Store(error) => error.into(),
        }
    }
}

impl From<ExplainError> for Problem {
    fn from(error: ExplainError) -> Self {
        let detail = error.to_string();
        match error {
            ExplainError::TooOften { retry_seconds } => Self {
                retry_after_seconds: Some(retry_seconds),
                ..Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", detail)
            },
            ExplainError::Booking(error) => error.into(),
        }
    }
}

impl From<DialRefusal> for Problem {
    fn from(refusal: DialRefusal) -> Self {
        let limit = |retry_seconds| Self {
            retry_after_seconds: Some(retry_seconds),
            ..Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "dial_limit",
                refusal.to_string(),
            )
        };
        match refusal {
            DialRefusal::NotAllowed => {
                Self::new(StatusCode::FORBIDDEN, "not_allowed", refusal.to_string())
            }
            DialRefusal::AtOnce => limit(AT_ONCE_RETRY_SECONDS),
            DialRefusal::PerHour { retry_seconds } => limit(retry_seconds),
        }
    }
}

impl From<LiveError> for Problem {
    fn from(error: LiveError) -> Self {
        let unavailable = |code| Self {
            retry_after_seconds: Some(5),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, error.to_string())
        };
        match error {
            LiveError::NoSuchParticipant => Self::not_found(),
            LiveError::Full => Self::new(StatusCode::CONFLICT, "full", error.to_string()),
            LiveError::CannotDial | LiveError::NotByAsterisk => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "not_supported",
                error.to_string(),
            ),
            LiveError::ContextNotAllowed => {
                Self::new(StatusCode::FORBIDDEN, "not_allowed", error.to_string())
            }
            LiveError::NoSuchExtension => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "no_such_extension",
                error.to_string(),
            ),
            LiveError::Unavailable => unavailable("unavailable"),
            LiveError::NoLine => unavailable("no_line"),
        }
    }
}

/// Tells the OpenAPI document that any request may be answered with a problem.
pub(super) struct AnyProblem;

impl Modify for AnyProblem {
    fn modify(&self, openapi: &mut OpenApi) {
        let content = Content::new(Some(Ref::from_schema_name("ProblemDocument")));
        let problem = Answer::new(
            "Any error: 401 without a good key, 403 if it may not, 404 for what is not there or not yours, …",
        );
        let problem = ResponseBuilder::from(problem)
            .content("application/problem+json", content)
            .build();
        for operation in openapi.paths.paths.values_mut().flat_map(operations_of) {
            operation
                .responses
                .responses
                .insert("default".to_owned(), problem.clone().into());
        }
    }
}

/// The outermost layer: gives the request an id, and every error its document.
pub(super) async fn finish(request: Request, next: Next) -> Response {
    let request_id = request_id(&request);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = next.run(request).await;
    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        response = explain(response, &request_id);
    }
    if status.is_server_error() {
        tracing::error!(%request_id, %method, path = ?path, status = status.as_u16(), "a request failed");
    }
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

pub(super) async fn no_such_path() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "no_such_path",
        "there is nothing under this path; GET /openapi.json lists all",
    )
}

pub(super) async fn no_such_method() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "this path doesn't take this method; see Allow",
    )
}

/// A panic is a bug: it costs one request, not the process.
pub(super) fn from_panic(_panic: Box<dyn Any + Send + 'static>) -> Response {
    Problem::from_status(StatusCode::INTERNAL_SERVER_ERROR).into_response()
}

/// Writes the problem document; what axum answered by itself is replaced, its headers that matter stay.
fn explain(mut response: Response, request_id: &str) -> Response {
    let status = response.status();
    let problem = response
        .extensions_mut()
        .remove::<Problem>()
        .unwrap_or_else(|| Problem::from_status(status));
    let retry_after = problem.retry_after_seconds;
    let mut explained = (status, Json(problem.document(request_id.to_owned()))).into_response();
    let headers = explained.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    for stays in [ALLOW, ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL] {
        if let Some(value) = response.headers_mut().remove(&stays) {
            headers.insert(stays, value);
        }
    }
    if let Some(seconds) = retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if status == StatusCode::UNAUTHORIZED {
        let bearer = || HeaderValue::from_static("Bearer realm=\"voicebridge\"");
        let asked = response.headers_mut().remove(WWW_AUTHENTICATE);
        headers.insert(WWW_AUTHENTICATE, asked.unwrap_or_else(bearer));
    }
    explained
}

/// The client's own id if it is harmless in a log, else a new one.
fn request_id(request: &Request) -> String {
    let harmless = |id: &&str| {
        let fits = (1..=REQUEST_ID_BYTES_MAX).contains(&id.len());
        fits && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    let given = request
        .headers()
        .get(&REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(harmless);
    given.map_or_else(new_request_id, str::to_owned)
}

fn new_request_id() -> String {
    let mut random = [0_u8; 16];
    // An id that repeats is a nuisance in the log and nothing else.
    let _ = getrandom::fill(&mut random);
    uuid::Builder::from_random_bytes(random)
        .into_uuid()
        .to_string()
}

const fn conflict_code(conflict: Conflict) -> &'static str {
    match conflict {
        Conflict::ExternalId => "external_id_taken",
        Conflict::Claim => "idempotency_key_in_flight",
        Conflict::PinsExhausted => "pins_exhausted",
        Conflict::PinTaken => "pin_taken",
        Conflict::PinsMax => "pins_max",
        Conflict::LastPin => "last_pin",
        Conflict::MeetingsMax => "meetings_max",
        Conflict::NumbersMax => "numbers_max",
        Conflict::LastNumber => "last_number",
        Conflict::RoomTaken(_) => "room_taken",
        Conflict::RoomInUse => "room_in_use",
        Conflict::RoomsMax => "rooms_max",
        // What a meeting asks for wrongly is told as a field's error before it comes here.
        Conflict::NoSuchRoom
        | Conflict::RoomTooSmall { .. }
        | Conflict::NoRoomSoLarge { .. }
        | Conflict::Other => "conflict",
    }
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// A call may end at any moment.
const AT_ONCE_RETRY_SECONDS: u32 = 30;
const REQUEST_ID_BYTES_MAX: usize = 64;
