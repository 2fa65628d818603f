//! `/v1/callers`: what is kept of one caller, and forgetting him, for when he asks for it.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::AppState;
use super::auth::Asker;
use super::body::{Fields, given};
use super::path::{CallerPath, Named};
use super::problem::{Problem, ProblemDocument};
use crate::booking::change::FieldError;
use crate::booking::store::callers::KeptCaller;
use crate::booking::{CallerNumber, KeyRole, Permission, PrivacyPolicy};

/// A number whose hash is asked for.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "tells the OpenAPI document what `find` reads")]
pub(super) struct CallerRequest {
    /// As the calls' signalling has it: with or without what is only for the eye, and a leading `+` or `00`.
    #[schema(min_length = 1, max_length = 128)]
    number: String,
    /// Whose caller, for keys of role platform; left out, one whose calls reached nobody: with a wrong PIN, to a number that
    /// several organisations share.
    organisation: Option<String>,
}

/// What tells a caller from others.
#[derive(Serialize, ToSchema)]
#[schema(as = CallerName)]
pub(super) struct CallerNameView {
    /// As call records have it in `caller_hash`.
    #[schema(pattern = "^[0-9a-f]{32}$")]
    hash: String,
}

/// What is kept of a caller.
#[derive(Serialize, ToSchema)]
#[schema(as = Caller)]
pub(super) struct CallerView {
    /// What tells him from others.
    #[schema(pattern = "^[0-9a-f]{32}$")]
    hash: String,
    /// Whose caller he is; null: one that reached nobody.
    organisation: Option<String>,
    /// His number, in each form in which it is kept, as far as it may be shown.
    numbers: Vec<String>,
    /// How many call records; `GET /v1/calls?caller_hash=` lists them.
    calls: u64,
    /// When the first of these calls arrived.
    #[schema(format = "date-time")]
    first_call_at: String,
    /// When the last did.
    #[schema(format = "date-time")]
    last_call_at: String,
    /// How many meetings these calls reached.
    meetings: u64,
    /// How many events tell of them.
    events: u64,
}

/// Tells the hash of a caller's number. For keys that may manage; each may ask 60 times a minute.
#[utoipa::path(
    post, operation_id = "findCaller", path = "/v1/callers", tag = "callers", security(("key" = [])), request_body = CallerRequest,
    responses(
        (status = 200, description = "The hash, whether he ever called or not", body = CallerNameView),
        (status = 422, description = "The request breaks rules", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 429, description = "Asked too often; see Retry-After", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn find(
    State(state): State<AppState>,
    asker: Asker,
    mut fields: Fields,
) -> Result<Json<CallerNameView>, Problem> {
    asker.must(Permission::Manage)?;
    let (number, organisation) = (
        given(fields.text("number")),
        given(fields.text("organisation")),
    );
    fields.finish()?;
    let wrong = |code, must| Problem::invalid(vec![FieldError::new("number", code, must)]);
    let number = number.ok_or_else(|| wrong("required", "is required"))?;
    if number.chars().count() > NUMBER_CHARS_MAX {
        return Err(wrong("too_long", "must have at most 128 characters"));
    }
    let owner = if organisation.is_none() && asker.key.role == KeyRole::Platform {
        None
    } else {
        let acting = state
            .bookings
            .acting_for(&asker.key, organisation.as_deref());
        Some(acting.await?.id)
    };
    if let Some(owner) = owner {
        asker.acted_for(owner);
    }
    let number = CallerNumber::new(&number);
    let found = state
        .bookings
        .ask_caller_hash(state.now(), &asker.key, owner, &number);
    let hash = found.await?;
    let hash = hash.ok_or_else(|| wrong("invalid", "must be a number that was not withheld"))?;
    Ok(Json(CallerNameView {
        hash: hash.to_string(),
    }))
}

/// Tells what is kept of a caller. For keys that may manage.
#[utoipa::path(
    get, operation_id = "readCaller", path = "/v1/callers/{hash}", tag = "callers", security(("key" = [])), params(("hash" = String, Path)),
    responses(
        (status = 200, description = "What there is", body = CallerView),
        (status = 404, description = "Nothing is kept of him, or not by you", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn read(
    State(state): State<AppState>,
    asker: Asker,
    Named(path): Named<CallerPath>,
) -> Result<Json<CallerView>, Problem> {
    asker.must(Permission::Manage)?;
    let hash = path.hash.to_string();
    let kept = state.bookings.kept_of_caller(&asker.key, path.hash).await?;
    let policy = state
        .bookings
        .privacy_of(state.now(), kept.organisation)
        .await;
    Ok(Json(CallerView::new(policy, hash, kept)))
}

/// Forgets a caller: his call records stay, without number, hash and names that others gave his calls, and events that
/// tell of them, without number and name. What webhooks were told already is out. For keys that may manage.
#[utoipa::path(
    delete, operation_id = "eraseCaller", path = "/v1/callers/{hash}", tag = "callers", security(("key" = [])), params(("hash" = String, Path)),
    responses(
        (status = 204, description = "Nothing is kept of him any more"),
        (status = 404, description = "Nothing is kept of him, or not by you", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn erase(
    State(state): State<AppState>,
    asker: Asker,
    Named(path): Named<CallerPath>,
) -> Result<StatusCode, Problem> {
    asker.must(Permission::Manage)?;
    let owner = state.bookings.erase_caller(&asker.key, path.hash).await?;
    if let Some(owner) = owner {
        asker.acted_for(owner);
    }
    Ok(StatusCode::NO_CONTENT)
}

impl CallerView {
    fn new(policy: PrivacyPolicy, hash: String, kept: KeptCaller) -> Self {
        let mut numbers: Vec<String> = kept.numbers.iter().map(|n| policy.shown(n)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.retain(|number| !number.is_empty());
        Self {
            hash,
            organisation: kept.organisation_name,
            numbers,
            calls: kept.calls,
            first_call_at: kept.first_call_at.to_string(),
            last_call_at: kept.last_call_at.to_string(),
            meetings: kept.meetings,
            events: kept.events,
        }
    }
}

const NUMBER_CHARS_MAX: usize = 128;
