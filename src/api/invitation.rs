//! `/v1/meetings/{id}/invitation`: what people are told to dial.

use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

use super::AppState;
use super::auth::Asker;
use super::path::{MeetingPath, Named};
use super::problem::{Problem, ProblemDocument};
use super::query::Parameters;
use crate::booking::change::FieldError;
use crate::booking::{BookingError, Invitation, InvitationFormat, MeetingState, Permission, Role};
use crate::units::Language;

/// Writes the invitation for guests, with the PIN: of a series, to the occurrence that is open or next; as iCalendar,
/// to all of it.
#[utoipa::path(
    get, operation_id = "readInvitation", path = "/v1/meetings/{id}/invitation", tag = "meetings", security(("key" = [])),
    params(
        ("id" = String, Path),
        ("language" = Option<String>, Query, description = "`it` or `en`; left out: the meeting's, else English"),
        ("format" = Option<String>, Query, description = "`text` (default), `html`, `ics` (iCalendar; not of permanent meetings) or `bbb-welcome`, one line for BigBlueButton's welcome message"),
        ("country" = Option<String>, Query, description = "ISO 3166 alpha-2: numbers of this country come first; left out: of Italy for Italian"),
    ),
    responses(
        (status = 200, description = "The invitation", content((String = "text/plain"), (String = "text/html"), (String = "text/calendar"))),
        (status = 409, description = "The meeting is cancelled, or its PINs are lost to it", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn read(
    State(state): State<AppState>,
    asker: Asker,
    Named(path): Named<MeetingPath>,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    asker.must(Permission::SeePins)?;
    let meeting = state.bookings.meeting(&asker.key, path.id).await?;
    let language = language(&mut parameters)?
        .or(meeting.options.language)
        .unwrap_or(Language::English);
    let format = format(&mut parameters)?;
    let country = country(&mut parameters)?;
    parameters.finish()?;
    let now = state.now();
    if meeting.state(now, false) == MeetingState::Cancelled {
        return Err(BookingError::Cancelled.into());
    }
    let (session, numbers) = (meeting.session(now), state.bookings.numbers());
    let pin = meeting
        .pin_to(Role::Guest, session.occurrence)
        .filter(|_| !meeting.is_retired(now))
        .ok_or(BookingError::Retired)?;
    let invitation = Invitation::new(
        &meeting,
        session,
        pin,
        &numbers,
        language,
        country.as_deref(),
    );
    let content_type = match format {
        InvitationFormat::Text => "text/plain; charset=utf-8",
        InvitationFormat::Html | InvitationFormat::BbbWelcome => "text/html; charset=utf-8",
        InvitationFormat::Calendar => "text/calendar; charset=utf-8",
    };
    let written = invitation.write(format).map_err(|timeless| {
        let error = FieldError::new("format", "not_supported", timeless.to_string());
        Problem::bad_parameter(error)
    })?;
    let mut response = written.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn language(parameters: &mut Parameters) -> Result<Option<Language>, Problem> {
    let code = parameters.text("language")?;
    let read = code.map(|code| code.parse::<Language>());
    read.transpose().map_err(|unknown| {
        Problem::bad_parameter(FieldError::new("language", "invalid", unknown.to_string()))
    })
}

fn format(parameters: &mut Parameters) -> Result<InvitationFormat, Problem> {
    let message = match parameters.text("format")?.as_deref() {
        None | Some("text") => return Ok(InvitationFormat::Text),
        Some("html") => return Ok(InvitationFormat::Html),
        Some("bbb-welcome") => return Ok(InvitationFormat::BbbWelcome),
        Some("ics") => return Ok(InvitationFormat::Calendar),
        Some(_) => "must be text, html, ics or bbb-welcome",
    };
    let error = FieldError::new("format", "invalid", message);
    Err(Problem::bad_parameter(error))
}

fn country(parameters: &mut Parameters) -> Result<Option<String>, Problem> {
    let country = parameters.text("country")?;
    let fits = |code: &str| code.len() == 2 && code.bytes().all(|b| b.is_ascii_alphabetic());
    match country {
        Some(code) if !fits(&code) => Err(Problem::bad_parameter(FieldError::new(
            "country",
            "invalid",
            "must be two letters, as of ISO 3166",
        ))),
        country => Ok(country),
    }
}
