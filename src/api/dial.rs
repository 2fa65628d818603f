//! `/v1/meetings/{id}/dial`: calling somebody into a meeting.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::AppState;
use super::auth::Asker;
use super::body::{Fields, given};
use super::participants::check_name;
use super::path::{MeetingPath, Named};
use super::problem::{Problem, ProblemDocument};
use crate::booking::change::{Change, FieldError};
use crate::booking::dial::normalised;
use crate::booking::service::DialRequest;
use crate::booking::{CallerNumber, Permission, Role, Scope};
use crate::call::roster::DialOrder;
use crate::call::{Outgoing, reaches_emergency};
use crate::units::Language;

/// Who is to be called.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "tells the OpenAPI document what `asked` reads")]
pub(super) struct DialBody {
    /// His number: `+` and digits (E.164), or digits.
    to: String,
    /// The number that he is shown: one of those that the meeting is reached by.
    from: Option<String>,
    /// What he is called in the meeting; at most 100 characters.
    #[schema(max_length = 100)]
    name: Option<String>,
    /// What he is spoken to in: `it` or `en`; left out: as the meeting says.
    #[schema(pattern = "^(it|en)$")]
    language: Option<String>,
    /// `guest` (the default), `host` or `listener`.
    #[schema(pattern = "^(guest|host|listener)$")]
    role: Option<String>,
}

/// A call that was begun.
#[derive(Serialize, ToSchema)]
#[schema(as = DialledCall)]
pub(super) struct DialView {
    /// Names its record in `/v1/calls`, once it is over.
    #[schema(format = "uuid")]
    call_id: String,
}

/// Calls somebody, who presses 1 to join the meeting. Needs a key with scope `dial`, and prefixes that the
/// organisation may have dialled. What becomes of it is told by events, and by the call's record.
#[utoipa::path(
    post, operation_id = "dial", path = "/v1/meetings/{id}/dial", tag = "participants", security(("key" = [])),
    request_body = DialBody, params(("id" = String, Path)),
    responses(
        (status = 202, description = "It is being dialled", body = DialView),
        (status = 403, description = "The key has no scope `dial` (`forbidden`), no prefix of the organisation's allows the number (`not_allowed`), or it is an emergency number (`emergency_number`)", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "The meeting isn't open (`not_open`), or full (`full`)", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "The request breaks rules, or nothing is configured that can dial (`not_supported`)", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 429, description = "The organisation has as many calls as it may have (`dial_limit`)", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "What can dial is away (`no_line`), or no more calls are taken", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn dial(
    State(state): State<AppState>,
    asker: Asker,
    Named(path): Named<MeetingPath>,
    fields: Fields,
) -> Result<(StatusCode, Json<DialView>), Problem> {
    asker.must_have(Scope::Dial)?;
    let asked = asked(fields)?;
    if asked.role == Role::Host {
        asker.must(Permission::Steer)?;
    }
    if reaches_emergency(asked.to.expose()) {
        let never = "emergency numbers are never dialled";
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "emergency_number",
            never,
        ));
    }
    let meeting = state.bookings.meeting(&asker.key, path.id).await?;
    let permit = state
        .bookings
        .permit_dial(state.now(), &meeting, &asked)
        .await?;
    let call = permit.call;
    let order = DialOrder {
        call,
        to: asked.to,
        from: permit.from,
        outgoing: Outgoing {
            admission: permit.admission,
            language: asked.language,
        },
    };
    if let Err(error) = state.live.dial(order).await {
        state.bookings.release_dial(call).await?;
        return Err(error.into());
    }
    let view = DialView {
        call_id: call.to_string(),
    };
    Ok((StatusCode::ACCEPTED, Json(view)))
}

fn asked(mut fields: Fields) -> Result<DialRequest, Problem> {
    let (to, from, name) = (fields.text("to"), fields.text("from"), fields.text("name"));
    let (language, role) = (fields.text("language"), fields.text("role"));
    fields.finish()?;
    check_name(&name)?;
    let mut wrong = Vec::new();
    let to = to_number(to).map_err(|error| wrong.push(error));
    let language = given(language).map(|code| {
        let must = "must be it or en";
        let read = code.parse::<Language>();
        read.map_err(|_| wrong.push(FieldError::new("language", "invalid", must)))
    });
    let role = role_of(given(role)).map_err(|error| wrong.push(error));
    match (to, language.transpose(), role) {
        (Ok(to), Ok(language), Ok(role)) => Ok(DialRequest {
            to,
            from: given(from),
            role,
            name: given(name),
            language,
        }),
        _ => Err(Problem::invalid(wrong)),
    }
}

fn to_number(to: Change<String>) -> Result<CallerNumber, FieldError> {
    match to {
        Change::Set(written) => normalised(&written)
            .map_err(|error| FieldError::new("to", "invalid", error.to_string())),
        Change::Keep | Change::Clear => Err(FieldError::new("to", "required", "is required")),
    }
}

/// A machine can't press 1.
fn role_of(word: Option<String>) -> Result<Role, FieldError> {
    match word.as_deref() {
        None | Some("guest") => Ok(Role::Guest),
        Some("host") => Ok(Role::Host),
        Some("listener") => Ok(Role::Listener),
        Some(_) => {
            let must = "must be guest, host or listener";
            Err(FieldError::new("role", "invalid", must))
        }
    }
}
