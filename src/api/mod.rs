//! The HTTP API: requests in, the bookings' and the live calls' answers out. No rule lives here.
//!
//! The way of a request: request id → panic guard → time-out → size limit → key → handler. Whatever
//! goes wrong on that way leaves as a problem document (RFC 9457).

mod auth;
mod body;
mod calls;
mod health;
mod meetings;
mod metrics;
mod participants;
mod pins;
mod problem;
mod query;
mod view;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{MethodRouter, get, patch, post};
use jiff::Timestamp;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;
use utoipa::OpenApi;

use crate::booking::{Bookings, MeetingId};
use crate::call::roster::LiveCalls;
use crate::config::Config;

use auth::BearerScheme;

pub use metrics::render as render_metrics;
pub use problem::{Problem, ProblemDocument};

/// What the handlers work with.
#[derive(Clone)]
pub struct AppState {
    /// The bookings.
    pub bookings: Bookings,
    /// The calls of this node.
    pub live: Arc<dyn LiveCalls>,
    /// Reads the clock; `Timestamp::now` but in tests.
    pub clock: fn() -> Timestamp,
}

impl AppState {
    fn now(&self) -> Timestamp {
        (self.clock)()
    }

    fn is_live(&self, meeting: MeetingId) -> bool {
        self.live.live_meetings().contains(&meeting)
    }
}

/// What is to be served on `http.listen` and, where it is configured, on `http.admin_listen`, in this
/// order. With the second, metrics are on that one alone.
#[must_use]
pub fn routers(
    config: &Config,
    bookings: &Bookings,
    live: Arc<dyn LiveCalls>,
    clock: fn() -> Timestamp,
) -> Vec<Router> {
    let state = AppState {
        bookings: bookings.clone(),
        live,
        clock,
    };
    if config.http.admin_listen.is_none() {
        return vec![router(state)];
    }
    let public = api_routes().into_iter().chain(health_routes());
    vec![guarded(public, state.clone()), admin_router(state)]
}

/// Everything: the API, health and metrics.
pub fn router(state: AppState) -> Router {
    guarded(routes(), state)
}

/// Health and metrics alone.
pub fn admin_router(state: AppState) -> Router {
    guarded(health_routes().into_iter().chain(metrics_routes()), state)
}

/// The OpenAPI document, made from the code.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    Documentation::openapi()
}

type Route = (&'static str, MethodRouter<AppState>);

fn routes() -> impl Iterator<Item = Route> {
    api_routes()
        .into_iter()
        .chain(health_routes())
        .chain(metrics_routes())
}

fn api_routes() -> Vec<Route> {
    vec![
        ("/v1/meetings", get(meetings::list).post(meetings::create)),
        (
            "/v1/meetings/{id}",
            get(meetings::read)
                .patch(meetings::change)
                .delete(meetings::cancel),
        ),
        (
            "/v1/meetings/by-external-id/{external_id}",
            get(meetings::read_by_external_id)
                .put(meetings::put_by_external_id)
                .delete(meetings::cancel_by_external_id),
        ),
        ("/v1/meetings/{id}/end", post(meetings::end)),
        ("/v1/meetings/{id}/participants", get(participants::list)),
        (
            "/v1/meetings/{id}/participants/{participant_id}",
            patch(participants::change).delete(participants::remove),
        ),
        ("/v1/calls", get(calls::list)),
        ("/v1/pins/explain", post(pins::explain)),
        ("/v1/numbers", get(pins::numbers)),
        ("/openapi.json", get(health::openapi_document)),
    ]
}

fn health_routes() -> Vec<Route> {
    vec![
        ("/healthz", get(health::healthz)),
        ("/readyz", get(health::readyz)),
    ]
}

fn metrics_routes() -> Vec<Route> {
    vec![("/metrics", get(health::metrics))]
}

fn guarded(routes: impl IntoIterator<Item = Route>, state: AppState) -> Router {
    let router = routes
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| {
            router.route(path, methods)
        });
    router
        .fallback(problem::no_such_path)
        .method_not_allowed_fallback(problem::no_such_method)
        .with_state(state)
        .layer(TimeoutLayer::with_status_code(
            StatusCode::SERVICE_UNAVAILABLE,
            REQUEST_TIMEOUT,
        ))
        .layer(CatchPanicLayer::custom(problem::from_panic))
        .layer(axum::middleware::from_fn(problem::finish))
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "voicebridge",
        description = "Books meetings that people dial into by telephone. Errors are problem documents (RFC 9457). Clients ignore fields they don't know; requests with fields that aren't known are refused."
    ),
    paths(
        meetings::create,
        meetings::list,
        meetings::read,
        meetings::change,
        meetings::cancel,
        meetings::read_by_external_id,
        meetings::put_by_external_id,
        meetings::cancel_by_external_id,
        meetings::end,
        participants::list,
        participants::change,
        participants::remove,
        calls::list,
        pins::explain,
        pins::numbers,
        health::healthz,
        health::readyz,
        health::metrics,
        health::openapi_document,
    ),
    components(schemas(ProblemDocument)),
    modifiers(&BearerScheme)
)]
struct Documentation;

/// Longest time a request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_openapi_document_lists_every_route() {
        let documented: Vec<String> = openapi().paths.paths.into_keys().collect();
        let mut routed: Vec<&str> = routes().map(|(path, _)| path).collect();
        routed.sort_unstable();
        let mut documented: Vec<&str> = documented.iter().map(String::as_str).collect();
        documented.sort_unstable();
        assert_eq!(documented, routed);
    }
}
