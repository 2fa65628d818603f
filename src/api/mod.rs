//! The HTTP API: requests in, the bookings' and the live calls' answers out. No rule lives here.
//!
//! The way of a request: request id → panic guard → time-out → size limit → key → handler. Whatever
//! goes wrong on that way leaves as a problem document (RFC 9457).

mod audit;
mod auth;
mod body;
mod callers;
mod calls;
mod codes;
mod dial;
mod document;
mod events;
mod examples;
mod fsapi;
mod health;
mod invitation;
mod jitsi;
mod keys;
mod meeting_pins;
mod meetings;
mod metrics;
mod numbers;
mod occurrences;
mod organisations;
mod participants;
mod path;
mod pins;
mod problem;
mod query;
mod repetition;
mod rooms;
mod statistics;
mod trunks;
mod view;
mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{MethodRouter, delete, get, patch, post};
use jiff::Timestamp;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;
use utoipa::OpenApi;

use crate::booking::{Bookings, Meeting, MeetingId};
use crate::call::roster::{self, LiveCalls};
use crate::config::Config;

use auth::BearerScheme;
use codes::EveryError;
use document::{ClosedRequests, CommonParameters, Links};
use examples::Examples;
use problem::AnyProblem;
use repetition::RepeatablePosts;

pub use codes::PROBLEM_CODES;
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

    /// Brings a change of a booking to those who are in the meeting or wait for it. It is kept already, and looked
    /// for there a second later: calls that can't be reached now are only logged.
    async fn tell_live(&self, meeting: &Meeting) {
        if let Err(error) = roster::follow(&*self.live, meeting, self.now()).await {
            tracing::warn!(meeting = %meeting.id, %error, "a change did not reach the calls in the meeting");
        }
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
    let public = api_routes()
        .into_iter()
        .chain(management_routes())
        .chain(neighbour_routes())
        .chain(health_routes());
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
        .chain(management_routes())
        .chain(neighbour_routes())
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
        ("/v1/meetings/{id}/invitation", get(invitation::read)),
        ("/v1/meetings/{id}/occurrences", get(occurrences::list)),
        (
            "/v1/meetings/{id}/occurrences/{recurrence_id}",
            patch(occurrences::change).delete(occurrences::cancel),
        ),
        (
            "/v1/meetings/{id}/pins",
            get(meeting_pins::list).post(meeting_pins::create),
        ),
        ("/v1/meetings/{id}/pins/rotate", post(meeting_pins::rotate)),
        (
            "/v1/meetings/{id}/pins/{pin_id}",
            delete(meeting_pins::withdraw),
        ),
        ("/v1/meetings/{id}/end", post(meetings::end)),
        ("/v1/meetings/{id}/dial", post(dial::dial)),
        ("/v1/meetings/{id}/participants", get(participants::list)),
        (
            "/v1/meetings/{id}/participants/{participant_id}/move",
            post(participants::move_on),
        ),
        (
            "/v1/meetings/{id}/participants/{participant_id}",
            patch(participants::change).delete(participants::remove),
        ),
        ("/v1/calls", get(calls::list)),
        ("/v1/statistics", get(statistics::read)),
        ("/v1/events", get(events::follow)),
        ("/v1/webhooks", get(webhooks::list).post(webhooks::create)),
        (
            "/v1/webhooks/{id}",
            get(webhooks::read)
                .patch(webhooks::change)
                .delete(webhooks::remove),
        ),
        ("/v1/webhooks/{id}/test", post(webhooks::test)),
        ("/v1/webhooks/{id}/deliveries", get(webhooks::deliveries)),
        ("/v1/webhooks/{id}/replay", post(webhooks::replay)),
        ("/v1/webhooks/{id}/rotate", post(webhooks::rotate)),
        ("/v1/pins/explain", post(pins::explain)),
        ("/openapi.json", get(health::openapi_document)),
    ]
}

/// Who books here and by which numbers, who may, and who did what.
fn management_routes() -> Vec<Route> {
    vec![
        ("/v1/numbers", get(numbers::list).post(numbers::create)),
        (
            "/v1/numbers/{id}",
            get(numbers::read)
                .patch(numbers::change)
                .delete(numbers::remove),
        ),
        ("/v1/rooms", get(rooms::list).post(rooms::create)),
        (
            "/v1/rooms/{id}",
            get(rooms::read).patch(rooms::change).delete(rooms::remove),
        ),
        (
            "/v1/organisations",
            get(organisations::list).post(organisations::create),
        ),
        (
            "/v1/organisations/{id}",
            get(organisations::read).patch(organisations::change),
        ),
        ("/v1/organisations/{id}/usage", get(organisations::usage)),
        ("/v1/trunks", get(trunks::list)),
        ("/v1/keys", get(keys::list).post(keys::create)),
        ("/v1/keys/{id}", delete(keys::revoke)),
        ("/v1/keys/{id}/rotate", post(keys::rotate)),
        ("/v1/audit", get(audit::list)),
        ("/v1/callers", post(callers::find)),
        (
            "/v1/callers/{hash}",
            get(callers::read).delete(callers::erase),
        ),
    ]
}

/// What systems next to voicebridge ask in words of their own.
fn neighbour_routes() -> Vec<Route> {
    let readable = || axum::middleware::from_fn(jitsi::readable);
    vec![
        (
            "/jitsi/{organisation}/conferenceMapper",
            get(jitsi::map).post(jitsi::map_posted).layer(readable()),
        ),
        (
            "/jitsi/{organisation}/phoneNumberList",
            get(jitsi::numbers).layer(readable()),
        ),
        ("/fsapi", post(fsapi::answer)),
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
    guarded_for(REQUEST_TIMEOUT, routes, state)
}

fn guarded_for(
    timeout: Duration,
    routes: impl IntoIterator<Item = Route>,
    state: AppState,
) -> Router {
    let router = routes
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| {
            router.route(path, methods)
        });
    router
        .fallback(problem::no_such_path)
        .method_not_allowed_fallback(problem::no_such_method)
        .layer(axum::middleware::from_fn_with_state(
            state.clone(),
            repetition::once,
        ))
        .layer(axum::middleware::from_fn_with_state(
            state.clone(),
            audit::keep,
        ))
        .with_state(state)
        .layer(TimeoutLayer::with_status_code(
            StatusCode::SERVICE_UNAVAILABLE,
            timeout,
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
        meeting_pins::list,
        meeting_pins::create,
        meeting_pins::withdraw,
        meeting_pins::rotate,
        invitation::read,
        occurrences::list,
        occurrences::change,
        occurrences::cancel,
        dial::dial,
        participants::list,
        participants::change,
        participants::remove,
        participants::move_on,
        calls::list,
        statistics::read,
        events::follow,
        webhooks::create,
        webhooks::list,
        webhooks::read,
        webhooks::change,
        webhooks::remove,
        webhooks::test,
        webhooks::deliveries,
        webhooks::replay,
        webhooks::rotate,
        pins::explain,
        numbers::create,
        numbers::list,
        numbers::read,
        numbers::change,
        numbers::remove,
        rooms::create,
        rooms::list,
        rooms::read,
        rooms::change,
        rooms::remove,
        organisations::create,
        organisations::list,
        organisations::read,
        organisations::change,
        organisations::usage,
        trunks::list,
        keys::list,
        keys::create,
        keys::rotate,
        keys::revoke,
        audit::list,
        callers::find,
        callers::read,
        callers::erase,
        jitsi::map,
        jitsi::map_posted,
        jitsi::numbers,
        fsapi::answer,
        health::healthz,
        health::readyz,
        health::metrics,
        health::openapi_document,
    ),
    components(schemas(ProblemDocument)),
    modifiers(&BearerScheme, &AnyProblem, &Examples, &RepeatablePosts, &CommonParameters, &ClosedRequests, &Links, &EveryError)
)]
struct Documentation;

/// Longest time a request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::booking::{BookingSettings, ParticipantId, SqlStore};
    use crate::call::RoomTerms;
    use crate::call::roster::{DialOrder, Gauges, LiveError, LiveFuture, Participant, Readiness};
    use crate::units::DialplanPlace;
    use axum::body::Body;
    use axum::http::Request;
    use tower::ServiceExt;

    /// Nobody in any call.
    struct Nobody;

    impl LiveCalls for Nobody {
        fn participants(&self, _: MeetingId) -> LiveFuture<'_, Vec<Participant>> {
            Box::pin(async { Err(LiveError::Unavailable) })
        }
        fn set_muted(&self, _: MeetingId, _: ParticipantId, _: bool) -> LiveFuture<'_, ()> {
            Box::pin(async { Err(LiveError::Unavailable) })
        }
        fn rename(&self, _: MeetingId, _: ParticipantId, _: Option<String>) -> LiveFuture<'_, ()> {
            Box::pin(async { Err(LiveError::Unavailable) })
        }
        fn remove(&self, _: MeetingId, _: ParticipantId) -> LiveFuture<'_, ()> {
            Box::pin(async { Err(LiveError::Unavailable) })
        }
        fn update_meeting(&self, _: MeetingId, _: RoomTerms) -> LiveFuture<'_, ()> {
            Box::pin(async { Err(LiveError::Unavailable) })
        }
        fn end_meeting(&self, _: MeetingId) -> LiveFuture<'_, u32> {
            Box::pin(async { Err(LiveError::Unavailable) })
        }
        fn move_on(&self, _: MeetingId, _: ParticipantId, _: DialplanPlace) -> LiveFuture<'_, ()> {
            Box::pin(async { Err(LiveError::Unavailable) })
        }
        fn dial(&self, _: DialOrder) -> LiveFuture<'_, ()> {
            Box::pin(async { Err(LiveError::Unavailable) })
        }
        fn live_meetings(&self) -> Vec<MeetingId> {
            Vec::new()
        }
        fn readiness(&self) -> Readiness {
            Readiness::Open
        }
        fn gauges(&self) -> Gauges {
            Gauges::default()
        }
    }

    async fn state(dir: &std::path::Path) -> AppState {
        let store = SqlStore::sqlite(&dir.join("v.db")).await.unwrap();
        let bookings = Bookings::new(BookingSettings::default(), Arc::new(store)).unwrap();
        AppState {
            bookings,
            live: Arc::new(Nobody),
            clock: || Timestamp::UNIX_EPOCH,
        }
    }

    async fn status(router: &Router, path: &str) -> StatusCode {
        let request = Request::get(path).body(Body::empty()).unwrap();
        router.clone().oneshot(request).await.unwrap().status()
    }

    #[tokio::test]
    async fn a_request_that_takes_too_long_is_answered_with_a_problem() {
        let dir = tempfile::tempdir().unwrap();
        let state = state(dir.path()).await;
        let forever: Route = ("/forever", get(std::future::pending::<()>));
        let router = guarded_for(Duration::from_millis(10), [forever], state);
        let answer = router
            .oneshot(Request::get("/forever").body(Body::empty()).unwrap())
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        let body = axum::body::to_bytes(answer.into_body(), 10_000)
            .await
            .unwrap();
        assert!(String::from_utf8_lossy(&body).contains("\"code\":\"timeout\""));
    }

    #[tokio::test]
    async fn with_an_admin_port_metrics_are_on_that_alone() {
        let dir = tempfile::tempdir().unwrap();
        let state = state(dir.path()).await;
        let mut config = Config::default();
        let routers =
            |config: &Config| routers(config, &state.bookings, state.live.clone(), state.clock);
        assert_eq!(
            status(&routers(&config)[0], "/metrics").await,
            StatusCode::OK
        );
        config.http.admin_listen = Some(([127, 0, 0, 1], 9090).into());
        let [public, admin] = <[Router; 2]>::try_from(routers(&config)).unwrap();
        let both = async |path| {
            (
                status(&public, path).await.as_u16(),
                status(&admin, path).await.as_u16(),
            )
        };
        assert_eq!(both("/metrics").await, (404, 200));
        assert_eq!(both("/healthz").await, (200, 200));
        assert_eq!(both("/v1/meetings").await, (401, 404));
    }

    #[test]
    fn operations_have_names_of_their_own() {
        let document = serde_json::to_value(openapi()).unwrap();
        let methods = document["paths"]
            .as_object()
            .unwrap()
            .values()
            .flat_map(|item| item.as_object().unwrap().values());
        let names: Vec<&str> = methods
            .map(|operation| operation["operationId"].as_str().unwrap())
            .collect();
        let different: std::collections::BTreeSet<&&str> = names.iter().collect();
        assert_eq!((different.len(), names.len()), (67, 67), "{names:?}");
    }

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
