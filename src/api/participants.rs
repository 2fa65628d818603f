//! `/v1/meetings/{id}/participants`: who is there, and steering them.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::AppState;
use super::auth::Asker;
use super::body::{Fields, given};
use super::path::{MeetingPath, Named, ParticipantPath};
use super::problem::{Problem, ProblemDocument};
use super::view::{Page, ParticipantView};
use crate::booking::change::{Change, FieldError};
use crate::booking::{Meeting, Permission, PrivacyPolicy};
use crate::call::reaches_emergency;
use crate::units::DialplanPlace;

/// What to change of a participant.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "tells the OpenAPI document what `change` reads")]
pub(super) struct ParticipantPatch {
    /// true mutes; false lets him unmute himself: nobody is unmuted from afar.
    muted: Option<bool>,
    /// At most 100 characters; null takes it away.
    #[schema(max_length = 100)]
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

/// Where a participant is to go on.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "tells the OpenAPI document what `place` reads")]
pub(super) struct MoveBody {
    /// A context of Asterisk's dialplan: one that `leave_to` in `[[asterisk]]` names.
    context: String,
    /// The extension in it.
    extension: String,
    /// The priority in that; 1 where it is left out.
    #[schema(minimum = 1, maximum = 9999)]
    priority: Option<u16>,
}

/// Sends a participant who came by Asterisk's ARI on into its dialplan. His call here is over, and he is not hung
/// up on; the dialplan finds `VOICEBRIDGE_OUTCOME`. Nothing happens where there is no such extension.
#[utoipa::path(
    post, operation_id = "moveParticipant", path = "/v1/meetings/{id}/participants/{participant_id}/move", tag = "participants", security(("key" = [])),
    request_body = MoveBody, params(("id" = String, Path), ("participant_id" = String, Path)),
    responses(
        (status = 204, description = "He is on his way"),
        (status = 403, description = "The context isn't one of `leave_to` (`not_allowed`), or the extension is an emergency number (`emergency_number`)", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "The request breaks rules, he came another way than by ARI (`not_supported`), or there is no such extension (`no_such_extension`)", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "Asterisk can't be reached now", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn move_on(
    State(state): State<AppState>,
    asker: Asker,
    Named(path): Named<ParticipantPath>,
    fields: Fields,
) -> Result<StatusCode, Problem> {
    asker.must(Permission::Steer)?;
    let place = place(fields)?;
    if reaches_emergency(place.extension()) {
        let never = "nobody is sent to an emergency number";
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "emergency_number",
            never,
        ));
    }
    let meeting = state.bookings.meeting(&asker.key, path.id).await?;
    let moved = state.live.move_on(meeting.id, path.participant_id, place);
    moved.await?;
    Ok(StatusCode::NO_CONTENT)
}

fn place(mut fields: Fields) -> Result<DialplanPlace, Problem> {
    fields.not_supported(&["meeting_id"]);
    let (context, extension) = (fields.text("context"), fields.text("extension"));
    let priority = given(fields.number("priority")).unwrap_or(1);
    fields.finish()?;
    let mut wrong = Vec::new();
    let mut check = |name, value: Change<String>, fits: fn(&str) -> bool, must: &str| {
        let value = given(value);
        match &value {
            None => wrong.push(FieldError::new(name, "required", "is required")),
            Some(text) if !fits(text) => wrong.push(FieldError::new(name, "invalid", must)),
            Some(_) => {}
        }
        value.unwrap_or_default()
    };
    let is_extension = DialplanPlace::is_extension;
    let context = check(
        "context",
        context,
        DialplanPlace::is_context,
        DialplanPlace::CONTEXT,
    );
    let extension = check(
        "extension",
        extension,
        is_extension,
        DialplanPlace::EXTENSION,
    );
    let place = u16::try_from(priority)
        .ok()
        .and_then(|priority| DialplanPlace::new(&context, &extension, priority));
    if wrong.is_empty() && place.is_none() {
        let must = DialplanPlace::PRIORITY.1;
        wrong.push(FieldError::new("priority", "invalid", must));
    }
    place.ok_or_else(|| Problem::invalid(wrong))
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
