//! `/v1/meetings/{id}/participants`: who is there, and steering them.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::AppState;
use super::auth::Asker;
use super::body::Fields;
use super::path::{MeetingPath, Named, ParticipantPath};
use super::problem::{Problem, ProblemDocument};
use super::view::{Page, ParticipantView};
use crate::booking::change::{Change, FieldError};
use crate::booking::{Meeting, Permission, PrivacyPolicy};

/// What to change of a participant.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "tells the OpenAPI document what `change` reads")]
pub(super) struct ParticipantPatch {
    /// true mutes; false lets him unmute himself: nobody is unmuted from afar.
    muted: Option<bool>,
    /// At most 100 characters; null takes it away.
    name: Option<String>,
}

/// Lists who is in a meeting or waits for it.
#[utoipa::path(
    get, operation_id = "listParticipants", path = "/v1/meetings/{id}/participants", tag = "participants", security(("key" = [])), params(("id" = String, Path)),
    responses((status = 200, description = "All of them, in the order they came", body = Page<ParticipantView>))
)]
pub(super) async fn list(
    State(state): State<AppState>,
    asker: Asker,
    Named(path): Named<MeetingPath>,
) -> Result<Json<Page<ParticipantView>>, Problem> {
    asker.must(Permission::Read)?;
    let meeting = state.bookings.meeting(&asker.key, path.id).await?;
    let policy = privacy(&state, &meeting).await;
    let participants = state.live.participants(meeting.id).await?;
    let items = participants
        .into_iter()
        .map(|participant| ParticipantView::new(policy, participant))
        .collect();
    Ok(Json(Page { items, next: None }))
}

/// Mutes or renames a participant.
#[utoipa::path(
    patch, operation_id = "changeParticipant", path = "/v1/meetings/{id}/participants/{participant_id}", tag = "participants", security(("key" = [])),
    request_body = ParticipantPatch, params(("id" = String, Path), ("participant_id" = String, Path)),
    responses(
        (status = 200, description = "Changed", body = ParticipantView),
        (status = 422, description = "The request breaks rules", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn change(
    State(state): State<AppState>,
    asker: Asker,
    Named(path): Named<ParticipantPath>,
    mut fields: Fields,
) -> Result<Json<ParticipantView>, Problem> {
    asker.must(Permission::Steer)?;
    fields.not_supported(&["volume_db", "hand"]);
    let (muted, name) = (fields.flag("muted"), fields.text("name"));
    fields.finish()?;
    check_name(&name)?;
    let meeting = state.bookings.meeting(&asker.key, path.id).await?;
    if let Change::Set(muted) = muted {
        state
            .live
            .set_muted(meeting.id, path.participant_id, muted)
            .await?;
    }
    match name {
        Change::Set(name) => {
            state
                .live
                .rename(meeting.id, path.participant_id, Some(name))
                .await?
        }
        Change::Clear => {
            state
                .live
                .rename(meeting.id, path.participant_id, None)
                .await?
        }
        Change::Keep => {}
    }
    let participants = state.live.participants(meeting.id).await?;
    let participant = participants
        .into_iter()
        .find(|p| p.id == path.participant_id)
        .ok_or_else(Problem::not_found)?;
    let policy = privacy(&state, &meeting).await;
    Ok(Json(ParticipantView::new(policy, participant)))
}

/// Hangs up on a participant.
#[utoipa::path(
    delete, operation_id = "removeParticipant", path = "/v1/meetings/{id}/participants/{participant_id}", tag = "participants", security(("key" = [])),
    params(("id" = String, Path), ("participant_id" = String, Path)),
    responses((status = 204, description = "He is gone"))
)]
pub(super) async fn remove(
    State(state): State<AppState>,
    asker: Asker,
    Named(path): Named<ParticipantPath>,
) -> Result<StatusCode, Problem> {
    asker.must(Permission::Steer)?;
    let meeting = state.bookings.meeting(&asker.key, path.id).await?;
    state.live.remove(meeting.id, path.participant_id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn privacy(state: &AppState, meeting: &Meeting) -> PrivacyPolicy {
    let owner = Some(meeting.organisation);
    state.bookings.privacy_of(state.now(), owner).await
}

pub(super) fn check_name(name: &Change<String>) -> Result<(), Problem> {
    let Change::Set(name) = name else {
        return Ok(());
    };
    let fits = !name.trim().is_empty()
        && name.chars().count() <= NAME_CHARS_MAX
        && !name.chars().any(char::is_control);
    let message = format!("must be 1 to {NAME_CHARS_MAX} characters, no control characters");
    if fits {
        Ok(())
    } else {
        Err(Problem::invalid(vec![FieldError::new(
            "name", "invalid", message,
        )]))
    }
}

const NAME_CHARS_MAX: usize = 100;
