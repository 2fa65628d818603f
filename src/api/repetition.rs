//! `Idempotency-Key`: one layer for every POST of `/v1`. The first request is served and its answer kept,
//! sealed under the API key that asked; who asks again gets that answer and nothing is done twice, also
//! where what was made has been deleted since: he is told so.
//!
//! Refused requests did nothing and hold nothing. A node that dies within a request leaves a claim that
//! gives way after a minute; meetings are safe from that too, as their booking keeps a claim of its own.

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, ETAG, LOCATION};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use sha2::{Digest, Sha256};
use utoipa::Modify;
use utoipa::openapi::path::{ParameterBuilder, ParameterIn};
use utoipa::openapi::response::Response as Answer;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{Content, OpenApi, Ref, RefOr, Required, ResponseBuilder};
use uuid::Uuid;

use super::AppState;
use super::auth::bearer;
use super::body::{BODY_BYTES_MAX, unread};
use super::problem::Problem;
use crate::booking::answer::KeptAnswer;
use crate::booking::change::FieldError;
use crate::booking::service::Made;
use crate::booking::store::AnswerClaim;
use crate::booking::{ApiKey, BookingError, MeetingId};

/// The layer.
pub(super) async fn once(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let is_post = request.method() == Method::POST && request.uri().path().starts_with("/v1/");
    let api_key = bearer(request.headers()).map(str::to_owned);
    let Some(api_key) =
        api_key.filter(|_| is_post && request.headers().contains_key(IDEMPOTENCY_KEY))
    else {
        return Ok(next.run(request).await);
    };
    let key = state.bookings.authenticate(state.now(), &api_key).await?;
    let Some(name) = key_name(request.headers())? else {
        return Ok(next.run(request).await);
    };
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, BODY_BYTES_MAX)
        .await
        .map_err(|error| unread(&error))?;
    let claim = AnswerClaim {
        key: key.id,
        name,
        request: fingerprint(&parts.uri.to_string(), &body),
        created_at: state.now(),
    };
    if let Some(sealed) = state.bookings.claim_answer(&claim).await? {
        let kept = KeptAnswer::open(&sealed, &api_key, &claim.name).ok_or_else(damaged)?;
        expect_still_there(&state, &key, parts.uri.path(), &kept).await?;
        return replay(kept);
    }
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    settle(&state, claim, &api_key, response).await
}

/// The `Idempotency-Key` of a request, if it has one.
pub(super) fn key_name(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    let visible = value.as_bytes().iter().all(u8::is_ascii_graphic);
    if !visible || !(1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&value.len()) {
        let message = format!("must be 1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible ASCII characters");
        let wrong = FieldError::new("Idempotency-Key", "invalid", message);
        return Err(Problem::bad_parameter(wrong));
    }
    Ok(value.to_str().ok().map(str::to_owned))
}

/// Keeps what was done and how it was answered; what was refused may be tried again.
async fn settle(
    state: &AppState,
    claim: AnswerClaim,
    api_key: &str,
    response: Response,
) -> Result<Response, Problem> {
    if !response.status().is_success() {
        finish(state, claim, None).await;
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX)
        .await
        .map_err(|error| unread(&error))?;
    let header = |name: HeaderName| {
        let value = parts.headers.get(&name)?.to_str().ok()?.to_owned();
        Some((name.as_str().to_owned(), value))
    };
    let answer = KeptAnswer {
        status: parts.status.as_u16(),
        headers: [CONTENT_TYPE, LOCATION, ETAG]
            .into_iter()
            .filter_map(header)
            .collect(),
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    match answer.seal(api_key, &claim.name) {
        Ok(sealed) => finish(state, claim, Some(sealed)).await,
        Err(error) => tracing::error!(%error, "an answer could not be sealed, and is not kept"),
    }
    Ok(Response::from_parts(parts, Body::from(body)))
}

/// What was done is answered in any case.
async fn finish(state: &AppState, claim: AnswerClaim, sealed: Option<String>) {
    if let Err(error) = state.bookings.settle_answer(claim, sealed).await {
        tracing::error!(%error, "an answer is not kept for a repetition of its request");
    }
}

/// What was made then may have been deleted since: to say that it is there would not be true, and to make it
/// again is not what was asked for.
async fn expect_still_there(
    state: &AppState,
    key: &ApiKey,
    path: &str,
    kept: &KeptAnswer,
) -> Result<(), Problem> {
    let made = kept.made_id().filter(|_| kept.status == 201);
    let Some(made) = made.and_then(|id| made_by(path, id)) else {
        return Ok(());
    };
    match state.bookings.expect_still_there(key, made).await {
        Err(BookingError::NotFound) => Err(Problem::deleted_meanwhile()),
        there => Ok(there?),
    }
}

/// What a POST to this path made, if it is something that can be deleted.
fn made_by(path: &str, id: Uuid) -> Option<Made> {
    let segments: Vec<&str> = path.strip_prefix("/v1/")?.split('/').collect();
    match segments.as_slice() {
        ["webhooks"] => Some(Made::Webhook(id)),
        ["numbers"] => Some(Made::Number(id)),
        ["rooms"] => Some(Made::Room(id)),
        ["keys"] | ["keys", _, "rotate"] => Some(Made::Key(id)),
        ["meetings", meeting, "pins"] => {
            let meeting = MeetingId(meeting.parse().ok()?);
            Some(Made::MeetingPin(meeting, id))
        }
        _ => None,
    }
}

fn damaged() -> Problem {
    let detail = "the answer that was kept can't be read";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
}

fn replay(kept: KeptAnswer) -> Result<Response, Problem> {
    let mut response = Response::new(Body::from(kept.body));
    *response.status_mut() = StatusCode::from_u16(kept.status).map_err(|_| damaged())?;
    for (name, value) in kept.headers {
        let name = HeaderName::try_from(name).map_err(|_| damaged())?;
        let value = HeaderValue::try_from(value).map_err(|_| damaged())?;
        response.headers_mut().insert(name, value);
    }
    Ok(response)
}

/// Tells requests apart. A path holds no zero byte.
fn fingerprint(target: &str, body: &Bytes) -> String {
    let mut hash = Sha256::new();
    hash.update(target);
    hash.update([0]);
    hash.update(body);
    let digest = hash.finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Tells the OpenAPI document that every POST may be repeated.
pub(super) struct RepeatablePosts;

impl Modify for RepeatablePosts {
    fn modify(&self, openapi: &mut OpenApi) {
        let text = ObjectBuilder::new()
            .schema_type(Type::String)
            .pattern(Some(format!("^[!-~]{{1,{IDEMPOTENCY_KEY_BYTES_MAX}}}$")))
            .build();
        let parameter = ParameterBuilder::new()
            .name("Idempotency-Key")
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some("Makes repetitions harmless for 24 hours: they get the first answer again, also where it holds a secret, and nothing is done twice. Where what was made has been deleted since, they get 410 `deleted_meanwhile`. 1 to 255 visible ASCII characters"))
            .schema(Some(RefOr::T(text.into())))
            .build();
        let problem = |description: &str| {
            let content = Content::new(Some(Ref::from_schema_name("ProblemDocument")));
            ResponseBuilder::from(Answer::new(description))
                .content("application/problem+json", content)
                .build()
        };
        let conflict = problem(
            "It contradicts what is there, or the first request with this Idempotency-Key isn't answered yet",
        );
        let rules =
            problem("The request breaks rules, or the Idempotency-Key came with another before");
        let gone = problem(
            "`deleted_meanwhile`: the first request with this Idempotency-Key made it, and it was deleted since",
        );
        let paths = openapi.paths.paths.iter_mut();
        for (_, item) in paths.filter(|(path, _)| path.starts_with("/v1/")) {
            let Some(post) = &mut item.post else { continue };
            post.parameters
                .get_or_insert_default()
                .push(RefOr::T(parameter.clone()));
            let responses = &mut post.responses.responses;
            responses.insert("409".to_owned(), conflict.clone().into());
            responses.insert("422".to_owned(), rules.clone().into());
            if responses.contains_key("201") {
                responses.insert("410".to_owned(), gone.clone().into());
            }
        }
    }
}

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
