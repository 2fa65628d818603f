//! `/v1/organisations`: who books here, and what each has differently.

use axum::Json;
use axum::extract::State;
use axum::http::header::{ETAG, LOCATION};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::AppState;
use super::auth::Asker;
use super::body::Fields;
use super::meetings::if_match;
use super::path::{Named, OrganisationPath};
use super::problem::{Problem, ProblemDocument};
use super::query::Parameters;
use super::view::Page;
use crate::booking::dial::DialRulesChange;
use crate::booking::organisation::{OrganisationChange, OrganisationRecord};
use crate::booking::pin::PinRulesChange;
use crate::booking::{Disclosure, KeyRole, Permission};

/// An organisation as it is asked for.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "tells the OpenAPI document what `asked` reads")]
pub(super) struct OrganisationRequest {
    /// Unique; can't be changed later.
    #[schema(min_length = 1, max_length = 100, pattern = "^\\S(.*\\S)?$")]
    name: String,
    /// What callers are spoken to in, in meetings that ask for no language: `it` or `en`.
    #[schema(pattern = "^(it|en)$")]
    language: Option<String>,
    /// How much of callers' numbers answers show: `none`, `last4` or `full`.
    #[schema(value_type = Option<Disclosure>)]
    privacy_show: Option<String>,
    /// How much of callers' numbers is kept: `none`, `last4` or `full`.
    #[schema(value_type = Option<Disclosure>)]
    privacy_store: Option<String>,
    /// Days until call records, meetings that are over and the audit trail are deleted; 1 to 3,650.
    #[schema(minimum = 1, maximum = 3650)]
    retain_days: Option<u32>,
    /// Most meetings that are neither over nor cancelled.
    #[schema(maximum = 10_000_000)]
    meetings_max: Option<u32>,
    /// Most callers in its meetings at once.
    #[schema(maximum = 1_000_000)]
    callers_max: Option<u32>,
    /// Most minutes that calls to its meetings may take in a month, in UTC. Who is in stays in.
    #[schema(maximum = 1_000_000_000)]
    minutes_per_month: Option<u32>,
    /// How numbers must begin that it may have dialled, like `+39`; none: nothing may be dialled.
    dial_prefixes: Option<Vec<String>>,
    /// Fewest digits of such a number, 3 to 15; 8 by default.
    #[schema(minimum = 3, maximum = 15)]
    dial_digits_min: Option<u32>,
    /// Most digits of such a number, 3 to 15; 15 by default.
    #[schema(minimum = 3, maximum = 15)]
    dial_digits_max: Option<u32>,
    /// Most calls to people that ring or go on at once; 10 by default.
    #[schema(maximum = 1_000)]
    dial_at_once_max: Option<u32>,
    /// Most calls to people within an hour, answered or not; 60 by default.
    #[schema(maximum = 100_000)]
    dial_per_hour_max: Option<u32>,
    /// Digits of its PINs, 4 to 16; left out: as many as the configuration says.
    #[schema(minimum = 4, maximum = 16)]
    pin_length: Option<u32>,
    /// The digits that its PINs are made of, each once; left out: all. None begins with 0.
    #[schema(
        min_length = 2,
        max_length = 10,
        pattern = "^[0-9]+$",
        example = "123456789"
    )]
    pin_digits: Option<String>,
    /// What none of its PINs holds anywhere: `same_digit` (three times in a row), `runs` (three digits that follow
    /// each other), `repeated_pairs` (like 4848), or these 2 to 16 digits.
    #[schema(max_items = 100)]
    pin_forbidden: Option<Vec<String>>,
}

/// What to change of an organisation: what is left out stays, null brings the configuration's back.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "tells the OpenAPI document what `asked` reads")]
pub(super) struct OrganisationPatch {
    /// What callers are spoken to in, in meetings that ask for no language: `it` or `en`.
    #[schema(pattern = "^(it|en)$")]
    language: Option<String>,
    /// How much of callers' numbers answers show: `none`, `last4` or `full`.
    #[schema(value_type = Option<Disclosure>)]
    privacy_show: Option<String>,
    /// How much of callers' numbers is kept: `none`, `last4` or `full`.
    #[schema(value_type = Option<Disclosure>)]
    privacy_store: Option<String>,
    /// Days until call records, meetings that are over and the audit trail are deleted; 1 to 3,650.
    #[schema(minimum = 1, maximum = 3650)]
    retain_days: Option<u32>,
    /// Most meetings that are neither over nor cancelled.
    #[schema(maximum = 10_000_000)]
    meetings_max: Option<u32>,
    /// Most callers in its meetings at once.
    #[schema(maximum = 1_000_000)]
    callers_max: Option<u32>,
    /// Most minutes that calls to its meetings may take in a month, in UTC. Who is in stays in.
    #[schema(maximum = 1_000_000_000)]
    minutes_per_month: Option<u32>,
    /// How numbers must begin that it may have dialled, like `+39`; none: nothing may be dialled.
    dial_prefixes: Option<Vec<String>>,
    /// Fewest digits of such a number, 3 to 15; 8 by default.
    #[schema(minimum = 3, maximum = 15)]
    dial_digits_min: Option<u32>,
    /// Most digits of such a number, 3 to 15; 15 by default.
    #[schema(minimum = 3, maximum = 15)]
    dial_digits_max: Option<u32>,
    /// Most calls to people that ring or go on at once; 10 by default.
    #[schema(maximum = 1_000)]
    dial_at_once_max: Option<u32>,
    /// Most calls to people within an hour, answered or not; 60 by default.
    #[schema(maximum = 100_000)]
    dial_per_hour_max: Option<u32>,
    /// Digits of its PINs, 4 to 16; left out: as many as the configuration says.
    #[schema(minimum = 4, maximum = 16)]
    pin_length: Option<u32>,
    /// The digits that its PINs are made of, each once; left out: all. None begins with 0.
    #[schema(
        min_length = 2,
        max_length = 10,
        pattern = "^[0-9]+$",
        example = "123456789"
    )]
    pin_digits: Option<String>,
    /// What none of its PINs holds anywhere: `same_digit` (three times in a row), `runs` (three digits that follow
    /// each other), `repeated_pairs` (like 4848), or these 2 to 16 digits.
    #[schema(max_items = 100)]
    pin_forbidden: Option<Vec<String>>,
}

/// An organisation. Null: as the configuration says, or no limit.
#[derive(Serialize, ToSchema)]
#[schema(as = Organisation)]
pub(super) struct OrganisationView {
    /// Names it here.
    #[schema(format = "uuid")]
    id: String,
    /// Names it for people and in requests of platform keys.
    name: String,
    /// What callers are spoken to in, in meetings that ask for no language.
    language: Option<&'static str>,
    /// How much of callers' numbers answers show.
    privacy_show: Option<Disclosure>,
    /// How much of callers' numbers is kept.
    privacy_store: Option<Disclosure>,
    /// Days until call records, meetings that are over and the audit trail are deleted.
    retain_days: Option<u32>,
    /// Most meetings that are neither over nor cancelled.
    meetings_max: Option<u32>,
    /// Most callers in its meetings at once.
    callers_max: Option<u32>,
    /// Most minutes that calls to its meetings may take in a month.
    minutes_per_month: Option<u32>,
    /// How numbers must begin that it may have dialled; none: nothing may be dialled.
    dial_prefixes: Vec<String>,
    /// Fewest digits of such a number.
    dial_digits_min: Option<u32>,
    /// Most digits of such a number.
    dial_digits_max: Option<u32>,
    /// Most calls to people that ring or go on at once.
    dial_at_once_max: Option<u32>,
    /// Most calls to people within an hour, answered or not.
    dial_per_hour_max: Option<u32>,
    /// Digits of its PINs.
    pin_length: Option<u32>,
    /// The digits that its PINs are made of.
    pin_digits: Option<String>,
    /// What none of its PINs holds.
    pin_forbidden: Vec<String>,
    /// When it was made.
    #[schema(format = "date-time")]
    created_at: String,
}

/// Makes an organisation. For keys of role platform.
#[utoipa::path(
    post, operation_id = "createOrganisation", path = "/v1/organisations", tag = "organisations", security(("key" = [])), request_body = OrganisationRequest,
    responses(
        (status = 201, description = "Made", body = OrganisationView),
        (status = 422, description = "The request breaks rules", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn create(
    State(state): State<AppState>,
    asker: Asker,
    fields: Fields,
) -> Result<Response, Problem> {
    must_be_platform(&asker)?;
    let asked = asked(fields)?;
    let made = state
        .bookings
        .create_organisation(state.now(), asked)
        .await?;
    asker.acted_for(made.organisation.id);
    Ok(answer(StatusCode::CREATED, &made))
}

/// Lists organisations, oldest first: yours, or all for keys of role platform.
#[utoipa::path(
    get, operation_id = "listOrganisations", path = "/v1/organisations", tag = "organisations", security(("key" = [])),
    responses((status = 200, description = "All of them", body = Page<OrganisationView>))
)]
pub(super) async fn list(
    State(state): State<AppState>,
    asker: Asker,
    parameters: Parameters,
) -> Result<Json<Page<OrganisationView>>, Problem> {
    asker.must(Permission::Read)?;
    parameters.finish()?;
    let found = state.bookings.list_organisations(&asker.key).await?;
    Ok(Json(Page {
        items: found.iter().map(OrganisationView::new).collect(),
        next: None,
    }))
}

/// Reads an organisation.
#[utoipa::path(
    get, operation_id = "readOrganisation", path = "/v1/organisations/{id}", tag = "organisations", security(("key" = [])), params(("id" = String, Path)),
    responses((status = 200, description = "It", body = OrganisationView))
)]
pub(super) async fn read(
    State(state): State<AppState>,
    asker: Asker,
    Named(path): Named<OrganisationPath>,
) -> Result<Response, Problem> {
    asker.must(Permission::Read)?;
    let found = state.bookings.organisation(&asker.key, path.id).await?;
    Ok(answer(StatusCode::OK, &found))
}

/// What an organisation uses now, of what it may.
#[derive(Serialize, ToSchema)]
pub(super) struct OrganisationUsage {
    /// Meetings that are neither over nor cancelled.
    meetings: QuotaView,
    /// Callers who are in now, on all nodes.
    callers: QuotaView,
    /// Minutes of calls that joined: those that ended this month, and of those that go on what they took so far.
    minutes: QuotaView,
    /// This month, in UTC.
    #[schema(example = "2026-11")]
    month: String,
}

/// How much is used of how much.
#[derive(Serialize, ToSchema)]
#[schema(as = Quota)]
pub(super) struct QuotaView {
    /// So much is.
    used: u64,
    /// So much may be; null: there is no limit.
    most: Option<u32>,
}

/// Tells what an organisation uses now, of what it may. For keys that may manage.
#[utoipa::path(
    get, operation_id = "readOrganisationUsage", path = "/v1/organisations/{id}/usage", tag = "organisations", security(("key" = [])), params(("id" = String, Path)),
    responses(
        (status = 200, description = "It", body = OrganisationUsage),
        (status = 404, description = "There is no such organisation, or it is not yours", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn usage(
    State(state): State<AppState>,
    asker: Asker,
    Named(path): Named<OrganisationPath>,
) -> Result<Json<OrganisationUsage>, Problem> {
    asker.must(Permission::Manage)?;
    let found = state.bookings.organisation(&asker.key, path.id).await?;
    let now = state.now();
    let used = state.bookings.used_by(now, &found).await?;
    let quota = |used, most| QuotaView { used, most };
    Ok(Json(OrganisationUsage {
        meetings: quota(used.meetings, found.settings.meetings_max),
        callers: quota(used.callers, found.settings.callers_max),
        minutes: quota(
            used.micros / MINUTE_MICROS,
            found.settings.minutes_per_month,
        ),
        month: now.strftime("%Y-%m").to_string(),
    }))
}

/// Changes what an organisation has differently; null brings the default back. For keys of role platform; its own
/// admins change the rules for its PINs (`pin_…`) and nothing else. Rules hold for PINs that are given from then on; those
/// that leave so few that guessing pays are refused.
#[utoipa::path(
    patch, operation_id = "changeOrganisation", path = "/v1/organisations/{id}", tag = "organisations", security(("key" = [])), request_body = OrganisationPatch,
    params(("id" = String, Path), ("If-Match" = Option<String>, Header, description = "Only if this is still its ETag")),
    responses(
        (status = 200, description = "Changed", body = OrganisationView),
        (status = 412, description = "It was changed meanwhile", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "The request breaks rules", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn change(
    State(state): State<AppState>,
    asker: Asker,
    Named(path): Named<OrganisationPath>,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response, Problem> {
    asker.must(Permission::Manage)?;
    let (asked, expected) = (asked(fields)?, if_match(&headers)?);
    if !asked.is_of_pins_alone() {
        must_be_platform(&asker)?;
    }
    let changed = state
        .bookings
        .patch_organisation(state.now(), &asker.key, path.id, asked, expected)
        .await?;
    asker.acted_for(changed.organisation.id);
    Ok(answer(StatusCode::OK, &changed))
}

impl OrganisationView {
    fn new(record: &OrganisationRecord) -> Self {
        let settings = &record.settings;
        Self {
            id: record.organisation.id.to_string(),
            name: record.organisation.name.clone(),
            language: settings.language.map(|language| language.code()),
            privacy_show: settings.show,
            privacy_store: settings.store,
            retain_days: settings.retain_days,
            meetings_max: settings.meetings_max,
            callers_max: settings.callers_max,
            minutes_per_month: settings.minutes_per_month,
            dial_prefixes: settings.dial.prefixes.clone(),
            dial_digits_min: settings.dial.digits_min,
            dial_digits_max: settings.dial.digits_max,
            dial_at_once_max: settings.dial.at_once_max,
            dial_per_hour_max: settings.dial.per_hour_max,
            pin_length: settings.pin.length,
            pin_digits: settings.pin.digits.clone(),
            pin_forbidden: {
                let words = settings.pin.forbidden.iter();
                words.map(|what| what.word().to_owned()).collect()
            },
            created_at: record.created_at.to_string(),
        }
    }
}

fn asked(mut fields: Fields) -> Result<OrganisationChange, Problem> {
    let asked = OrganisationChange {
        name: fields.text("name"),
        language: fields.text("language"),
        show: fields.text("privacy_show"),
        store: fields.text("privacy_store"),
        retain_days: fields.number("retain_days"),
        meetings_max: fields.number("meetings_max"),
        callers_max: fields.number("callers_max"),
        minutes_per_month: fields.number("minutes_per_month"),
        dial: DialRulesChange {
            prefixes: fields.texts("dial_prefixes"),
            digits_min: fields.number("dial_digits_min"),
            digits_max: fields.number("dial_digits_max"),
            at_once_max: fields.number("dial_at_once_max"),
            per_hour_max: fields.number("dial_per_hour_max"),
        },
        pin: PinRulesChange {
            length: fields.number("pin_length"),
            digits: fields.text("pin_digits"),
            forbidden: fields.texts("pin_forbidden"),
        },
    };
    fields.finish()?;
    Ok(asked)
}

pub(super) fn must_be_platform(asker: &Asker) -> Result<(), Problem> {
    if asker.key.role == KeyRole::Platform {
        Ok(())
    } else {
        Err(Problem::forbidden())
    }
}

fn answer(status: StatusCode, record: &OrganisationRecord) -> Response {
    let mut response = (status, Json(OrganisationView::new(record))).into_response();
    let headers = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{}\"", record.revision)) {
        headers.insert(ETAG, etag);
    }
    let location = format!("/v1/organisations/{}", record.organisation.id);
    if status == StatusCode::CREATED
        && let Ok(location) = HeaderValue::from_str(&location)
    {
        headers.insert(LOCATION, location);
    }
    response
}

const MINUTE_MICROS: u64 = 60_000_000;
