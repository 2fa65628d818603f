//! `/v1/pins/explain`: what a PIN opens.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::AppState;
use super::auth::Asker;
use super::body::{Fields, given};
use super::problem::{Problem, ProblemDocument};
use super::view::ExplanationView;
use crate::booking::change::{Change, FieldError, parse_time};
use crate::booking::{Permission, Pin};

/// A PIN to explain.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "tells the OpenAPI document what `explain` reads")]
pub(super) struct ExplainRequest {
    /// 4 to 16 digits.
    #[schema(pattern = "^[0-9]{4,16}$")]
    pin: String,
    /// The dialled number; left out: any.
    number: Option<String>,
    /// At that time; left out: now.
    #[schema(format = "date-time")]
    at: Option<String>,
}

/// Tells what a PIN of yours opens, and if not, why not.
#[utoipa::path(
    post, operation_id = "explainPin", path = "/v1/pins/explain", tag = "pins", security(("key" = [])), request_body = ExplainRequest,
    responses(
        (status = 200, description = "What a caller would get", body = ExplanationView),
        (status = 429, description = "Asked too often; see Retry-After", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn explain(
    State(state): State<AppState>,
    asker: Asker,
    mut fields: Fields,
) -> Result<Json<ExplanationView>, Problem> {
    asker.must(Permission::SeePins)?;
    let (pin, number, at) = (
        fields.text("pin"),
        given(fields.text("number")),
        given(fields.text("at")),
    );
    fields.finish()?;
    let pin = read_pin(pin).map_err(|error| Problem::invalid(vec![error]))?;
    let now = state.now();
    let at = at
        .map_or(Ok(now), |text| parse_time("at", &text))
        .map_err(|error| Problem::invalid(vec![error]))?;
    let explanation = state
        .bookings
        .explain(now, &asker.key, &pin, number.as_deref(), at)
        .await?;
    let meeting = explanation.meeting.map(|id| id.to_string());
    tracing::info!(target: "voicebridge::audit", key = %asker.key.id, outcome = explanation.outcome.word(), ?meeting, "a PIN was explained");
    Ok(Json(ExplanationView::new(&explanation)))
}

fn read_pin(pin: Change<String>) -> Result<Pin, FieldError> {
    match pin {
        Change::Set(digits) => Pin::parse(&digits)
            .map_err(|wrong| FieldError::new("pin", "invalid", wrong.to_string())),
        Change::Keep | Change::Clear => Err(FieldError::new("pin", "required", "is required")),
    }
}
