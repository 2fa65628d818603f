//! Is it alive, does it take calls, how is it: for supervisors and Prometheus.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::AppState;
use super::metrics::render;
use super::problem::{Problem, ProblemDocument};
use crate::call::roster::Readiness;

/// Answers as long as the process serves HTTP.
#[utoipa::path(get, operation_id = "healthz", path = "/healthz", tag = "health", responses((status = 200, description = "Alive", body = String)))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Answers 200 if calls are taken: the store answers, the node neither starts nor drains and has room.
#[utoipa::path(
    get, operation_id = "readyz", path = "/readyz", tag = "health",
    responses(
        (status = 200, description = "Takes calls", body = String),
        (status = 503, description = "Does not, with the reason", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn readyz(State(state): State<AppState>) -> Result<&'static str, Problem> {
    let refusal = match state.live.readiness() {
        Readiness::Open => None,
        Readiness::Closed => Some(("not_accepting", "the node starts or drains")),
        Readiness::Overloaded => {
            Some(("overloaded", "the media threads are as busy as they may be"))
        }
    };
    if let Some((code, detail)) = refusal {
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, detail));
    }
    state.bookings.ping().await?;
    Ok("ok\n")
}

/// Metrics in the OpenMetrics text format.
#[utoipa::path(get, operation_id = "metrics", path = "/metrics", tag = "health", responses((status = 200, description = "Metrics", body = String, content_type = "application/openmetrics-text")))]
pub(super) async fn metrics(State(state): State<AppState>) -> Response {
    let store_up = state.bookings.ping().await.is_ok();
    let text = render(&state.bookings, &state.live.gauges(), store_up);
    (
        [(
            CONTENT_TYPE,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        )],
        text,
    )
        .into_response()
}

/// This document.
#[utoipa::path(get, operation_id = "openapi", path = "/openapi.json", tag = "health", responses((status = 200, description = "OpenAPI")))]
pub(super) async fn openapi_document() -> Json<utoipa::openapi::OpenApi> {
    Json(super::openapi())
}
