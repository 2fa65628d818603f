//! `/jitsi/{organisation}/…`: what a Jitsi Meet asks to offer dialling in, in its own words. Off until
//! `[[jitsi]]` is configured.
//!
//! Browsers ask from the Jitsi Meet's own site, without a key: answers may be read from anywhere.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL};
use axum::middleware::Next;
use axum::response::Response;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::AppState;
use super::body::{Fields, given};
use super::path::{JitsiPath, Named};
use super::problem::{Problem, ProblemDocument, no_such_path};
use super::query::Parameters;
use crate::booking::conference::ConferenceName;
use crate::booking::{DialInNumber, Pin};
use crate::config::{JitsiConfig, NumberForm};

/// A conference or its PIN, to be given the other.
#[derive(Serialize, ToSchema)]
#[allow(
    dead_code,
    reason = "tells the OpenAPI document what `map_posted` reads"
)]
pub(super) struct ConferenceQuestion {
    /// `room@domain`.
    conference: Option<String>,
    /// The room alone, with `domain` beside it or of the first domain that is configured.
    room: Option<String>,
    /// What stands behind the `@`, with or without `conference.` before it.
    domain: Option<String>,
    /// The PIN.
    id: Option<WrittenPin>,
}

/// A PIN, as number or as text.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[allow(
    dead_code,
    reason = "tells the OpenAPI document what `map_posted` reads"
)]
pub(super) enum WrittenPin {
    Number(u64),
    Text(String),
}

/// A conference and its PIN.
#[derive(Serialize, ToSchema)]
pub(super) struct ConferenceMapping {
    /// For people.
    message: &'static str,
    /// The PIN, as a number, beyond 15 digits as text; false: there is none.
    id: Value,
    /// `room@domain`, percent-encoded; false: there is none.
    conference: Value,
}

/// The numbers to dial, in the form that is configured.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum PhoneNumbers {
    /// One by one.
    List(Vec<ListedNumber>),
    /// By country.
    Countries(NumbersByCountry),
}

/// A number by itself.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListedNumber {
    /// ISO 3166 alpha-2; left out where it isn't known.
    #[serde(skip_serializing_if = "Option::is_none")]
    country_code: Option<String>,
    /// Calling it costs nothing.
    toll_free: bool,
    /// As dialled.
    formatted_number: String,
}

/// Numbers by country.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct NumbersByCountry {
    /// For people.
    message: &'static str,
    /// By ISO 3166 alpha-2, or `Other`.
    numbers: BTreeMap<String, Vec<String>>,
    /// There are some.
    numbers_enabled: bool,
}

/// The layer: whatever is answered, errors too, may be read by browsers from anywhere, and is kept nowhere.
pub(super) async fn readable(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Tells the PIN of a conference, which gets one when it is first asked about, or the conference of a PIN.
#[utoipa::path(
    get, operation_id = "mapConference", path = "/jitsi/{organisation}/conferenceMapper", tag = "jitsi",
    params(
        ("organisation" = String, Path, description = "By name"),
        ("conference" = Option<String>, Query, description = "`room@domain`"),
        ("id" = Option<String>, Query, description = "A PIN"),
    ),
    responses(
        (status = 200, description = "Both, or false for what there isn't", body = ConferenceMapping),
        (status = 429, description = "Too many wrong PINs or new conferences; see Retry-After", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn map(
    State(state): State<AppState>,
    Named(path): Named<JitsiPath>,
    mut parameters: Parameters,
) -> Result<Json<ConferenceMapping>, Problem> {
    let Some(jitsi) = state.bookings.jitsi(&path.organisation) else {
        return Err(no_such_path().await);
    };
    let (conference, id) = (parameters.text("conference")?, parameters.text("id")?);
    mapped(&state, jitsi, conference, id).await
}

/// As GET, of a JSON object.
#[utoipa::path(
    post, operation_id = "mapConferencePosted", path = "/jitsi/{organisation}/conferenceMapper", tag = "jitsi",
    params(("organisation" = String, Path, description = "By name")), request_body = ConferenceQuestion,
    responses(
        (status = 200, description = "Both, or false for what there isn't", body = ConferenceMapping),
        (status = 429, description = "Too many wrong PINs or new conferences; see Retry-After", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn map_posted(
    State(state): State<AppState>,
    Named(path): Named<JitsiPath>,
    mut fields: Fields,
) -> Result<Json<ConferenceMapping>, Problem> {
    let Some(jitsi) = state.bookings.jitsi(&path.organisation) else {
        return Err(no_such_path().await);
    };
    let (room, domain) = (given(fields.text("room")), given(fields.text("domain")));
    let (whole, id) = (
        given(fields.text("conference")),
        given(fields.written_pin("id")),
    );
    fields.finish_with_others()?;
    let conference = whole.or_else(|| room.map(|room| in_domain(jitsi, &room, domain.as_deref())));
    mapped(&state, jitsi, conference, id).await
}

/// Tells the numbers to dial, in the form that is configured: a list, or by country.
#[utoipa::path(
    get, operation_id = "listPhoneNumbers", path = "/jitsi/{organisation}/phoneNumberList", tag = "jitsi",
    params(("organisation" = String, Path, description = "By name")),
    responses((status = 200, description = "One by one, or by country", body = PhoneNumbers))
)]
pub(super) async fn numbers(
    State(state): State<AppState>,
    Named(path): Named<JitsiPath>,
) -> Result<Json<PhoneNumbers>, Problem> {
    let Some(jitsi) = state.bookings.jitsi(&path.organisation) else {
        return Err(no_such_path().await);
    };
    let plan = state.bookings.numbers();
    let numbers = plan.serving(&jitsi.organisation);
    Ok(Json(match jitsi.number_form {
        NumberForm::List => PhoneNumbers::List(numbers.map(listed).collect()),
        NumberForm::Countries => PhoneNumbers::Countries(by_country(numbers)),
    }))
}

async fn mapped(
    state: &AppState,
    jitsi: &JitsiConfig,
    conference: Option<String>,
    id: Option<String>,
) -> Result<Json<ConferenceMapping>, Problem> {
    let (message, id, conference) = match (conference, id) {
        (Some(conference), _) => match ConferenceName::read(&conference, &jitsi.domains) {
            Some(name) => {
                let pin = state.bookings.pin_of_conference(state.now(), jitsi, &name);
                match pin.await? {
                    Some(pin) => (FOUND, shown(pin.expose()), json!(name.as_str())),
                    None => (CLOSED, json!(false), json!(false)),
                }
            }
            None => (
                "There is no such conference here",
                json!(false),
                json!(false),
            ),
        },
        (None, Some(id)) => {
            let digits: String = id.chars().filter(|c| !c.is_whitespace()).collect();
            let found = match Pin::parse(&digits) {
                Ok(pin) => {
                    state
                        .bookings
                        .conference_of_pin(state.now(), jitsi, &pin)
                        .await?
                }
                Err(_) => None,
            };
            match found {
                Some(name) => (FOUND, shown(&digits), json!(name.as_str())),
                None => (
                    "No conference mapping was found",
                    shown(&digits),
                    json!(false),
                ),
            }
        }
        (None, None) => ("No conference or id provided", json!(false), json!(false)),
    };
    Ok(Json(ConferenceMapping {
        message,
        id,
        conference,
    }))
}

/// A room's name with a domain behind it.
fn in_domain(jitsi: &JitsiConfig, room: &str, domain: Option<&str>) -> String {
    let served = |domain: &String| jitsi.domains.iter().any(|served| served == domain);
    let given = domain.map(str::to_lowercase);
    let domain = match given {
        Some(domain) => {
            let muc = format!("conference.{domain}");
            if served(&muc) { muc } else { domain }
        }
        None => jitsi.domains.first().cloned().unwrap_or_default(),
    };
    format!("{room}@{domain}")
}

/// Numbers are exact in a browser up to 15 digits, and have no zero in front.
fn shown(digits: &str) -> Value {
    let is_number = digits.len() <= 15 && !digits.starts_with('0');
    match digits.parse::<u64>() {
        Ok(number) if is_number => json!(number),
        Ok(_) | Err(_) => json!(digits),
    }
}

fn listed(number: &DialInNumber) -> ListedNumber {
    ListedNumber {
        country_code: number.country.clone(),
        toll_free: number.toll_free,
        formatted_number: number.number.clone(),
    }
}

fn by_country<'a>(of: impl Iterator<Item = &'a DialInNumber>) -> NumbersByCountry {
    let mut numbers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for number in of {
        let country = number.country.clone().unwrap_or_else(|| "Other".to_owned());
        numbers
            .entry(country)
            .or_default()
            .push(number.number.clone());
    }
    NumbersByCountry {
        message: "Dial-In numbers:",
        numbers_enabled: !numbers.is_empty(),
        numbers,
    }
}

const CLOSED: &str = "The conference was closed";
const FOUND: &str = "Successfully retrieved conference mapping";
