//! `/v1/trunks`: how this node's trunks stand.

use axum::Json;
use axum::extract::State;

use super::AppState;
use super::auth::Asker;
use super::organisations::must_be_platform;
use super::problem::Problem;
use super::view::Page;
use crate::call::roster::TrunkStanding;

/// Lists this node's trunks in the order of its configuration: whether they are registered and answer, and since when.
/// For keys of role platform.
#[utoipa::path(
    get, operation_id = "listTrunks", path = "/v1/trunks", tag = "health", security(("key" = [])),
    responses((status = 200, description = "All of them", body = Page<TrunkStanding>))
)]
pub(super) async fn list(
    State(state): State<AppState>,
    asker: Asker,
) -> Result<Json<Page<TrunkStanding>>, Problem> {
    must_be_platform(&asker)?;
    Ok(Json(Page {
        items: state.live.gauges().trunks,
        next: None,
    }))
}
