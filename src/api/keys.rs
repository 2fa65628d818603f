//! `/v1/keys`: an organisation's API keys. A key itself is in the answer that makes it and nowhere else.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use super::AppState;
use super::auth::Asker;
use super::body::{Fields, given};
use super::meetings::scope;
use super::path::{KeyPath, Named};
use super::problem::{Problem, ProblemDocument};
use super::query::Parameters;
use super::view::Page;
use crate::booking::change::{Change, FieldError, parse_time};
use crate::booking::service::NewKey;
use crate::booking::{ApiKey, KeyRole, KeySecret, Permission, Scope};

/// A key as it is asked for.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "tells the OpenAPI document what `create` reads")]
pub(super) struct KeyRequest {
    /// Required of keys of role `platform`: whose key it is to be.
    organisation: Option<String>,
    /// `admin`, `operator`, `booking` or `reader`; `platform` only for keys of that role.
    #[schema(value_type = KeyRole)]
    role: String,
    /// `dial`, if your key has it too.
    #[schema(value_type = Option<Vec<Scope>>)]
    scopes: Option<Vec<String>>,
    /// Until when it is good; left out: until it is revoked.
    #[schema(format = "date-time")]
    expires_at: Option<String>,
}

/// How to replace a key.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "tells the OpenAPI document what `rotate` reads")]
pub(super) struct KeyRotation {
    /// How long the old key is good yet; 0 to 43,200, default 60.
    #[schema(maximum = 43_200)]
    grace_minutes: Option<u32>,
}

/// A key without its secret.
#[derive(Serialize, ToSchema)]
#[schema(as = Key)]
pub(super) struct KeyView {
    /// Names it, to rotate or revoke it.
    #[schema(format = "uuid")]
    id: String,
    /// Whose it is.
    organisation: String,
    /// What it may do.
    role: KeyRole,
    /// What it may do besides.
    scopes: Vec<Scope>,
    /// Its first characters, to find it in a configuration.
    prefix: String,
    /// When it was made.
    #[schema(format = "date-time")]
    created_at: String,
    /// Until when it is good; null: until it is revoked.
    #[schema(format = "date-time")]
    expires_at: Option<String>,
    /// When it was revoked.
    #[schema(format = "date-time")]
    revoked_at: Option<String>,
}

/// A new key.
#[derive(Serialize, ToSchema)]
#[schema(as = NewKey)]
pub(super) struct NewKeyView {
    /// What is known of it.
    #[serde(flatten)]
    view: KeyView,
    /// The key itself: keep it now, it is never shown again.
    key: String,
}

/// Lists keys, oldest first, also those that are no good any more.
#[utoipa::path(
    get, operation_id = "listKeys", path = "/v1/keys", tag = "keys", security(("key" = [])),
    params(("organisation" = Option<String>, Query, description = "For keys of role platform; left out: all")),
    responses((status = 200, description = "All of them", body = Page<KeyView>))
)]
pub(super) async fn list(
    State(state): State<AppState>,
    asker: Asker,
    mut parameters: Parameters,
) -> Result<Json<Page<KeyView>>, Problem> {
    asker.must(Permission::Manage)?;
    let owner = scope(&state, &asker, &mut parameters).await?;
    parameters.finish()?;
    let mut keys = state.bookings.keys_seen_by(&asker.key).await?;
    keys.retain(|key| owner.as_ref().is_none_or(|o| o.id == key.organisation.id));
    Ok(Json(Page {
        items: keys.iter().map(KeyView::new).collect(),
        next: None,
    }))
}

/// Makes a key.
#[utoipa::path(
    post, operation_id = "createKey", path = "/v1/keys", tag = "keys", security(("key" = [])), request_body = KeyRequest,
    responses(
        (status = 201, description = "Made; the only answer that holds the key itself", body = NewKeyView),
        (status = 422, description = "The request breaks rules", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn create(
    State(state): State<AppState>,
    asker: Asker,
    mut fields: Fields,
) -> Result<(StatusCode, Json<NewKeyView>), Problem> {
    asker.must(Permission::Manage)?;
    let (role, scopes) = (fields.text("role"), fields.any("scopes"));
    let (expires, named) = (
        given(fields.text("expires_at")),
        given(fields.text("organisation")),
    );
    fields.finish()?;
    let owner = state
        .bookings
        .acting_for(&asker.key, named.as_deref())
        .await?;
    let mut wrong = Vec::new();
    let role = read_role(&asker, role).map_err(|error| wrong.push(error));
    let scopes = read_scopes(&asker, scopes).map_err(|error| wrong.push(error));
    let expires_at =
        read_expiry(state.now(), expires.as_deref()).map_err(|error| wrong.push(error));
    let (Ok(role), Ok(scopes), Ok(expires_at)) = (role, scopes, expires_at) else {
        return Err(Problem::invalid(wrong));
    };
    let new = NewKey {
        organisation: owner.name.clone(),
        role,
        scopes,
        expires_at,
    };
    asker.acted_for(owner.id);
    let made = state.bookings.create_key_for(state.now(), owner, new);
    Ok((StatusCode::CREATED, Json(NewKeyView::new(&made.await?))))
}

/// Makes a key like this one; the old one is good for a while yet.
#[utoipa::path(
    post, operation_id = "rotateKey", path = "/v1/keys/{id}/rotate", tag = "keys", security(("key" = [])), params(("id" = String, Path)), request_body = KeyRotation,
    responses(
        (status = 201, description = "Made; the only answer that holds the key itself", body = NewKeyView),
        (status = 422, description = "The request breaks rules", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn rotate(
    State(state): State<AppState>,
    asker: Asker,
    Named(path): Named<KeyPath>,
    mut fields: Fields,
) -> Result<(StatusCode, Json<NewKeyView>), Problem> {
    asker.must(Permission::Manage)?;
    let grace = given(fields.number("grace_minutes")).unwrap_or(GRACE_MINUTES_DEFAULT);
    fields.finish()?;
    if !(0..=GRACE_MINUTES_MAX).contains(&grace) {
        let must = "must be 0 to 43,200";
        let error = FieldError::new("grace_minutes", "out_of_range", must);
        return Err(Problem::invalid(vec![error]));
    }
    let old = state.bookings.key_seen_by(&asker.key, path.id).await?;
    asker.acted_for(old.organisation.id);
    let grace = SignedDuration::from_mins(grace);
    let made = state.bookings.rotate_key(state.now(), old, grace).await?;
    Ok((StatusCode::CREATED, Json(NewKeyView::new(&made))))
}

/// Makes a key worthless at once and for ever.
#[utoipa::path(
    delete, operation_id = "revokeKey", path = "/v1/keys/{id}", tag = "keys", security(("key" = [])), params(("id" = String, Path)),
    responses((status = 204, description = "It is worthless"))
)]
pub(super) async fn revoke(
    State(state): State<AppState>,
    asker: Asker,
    Named(path): Named<KeyPath>,
) -> Result<StatusCode, Problem> {
    asker.must(Permission::Manage)?;
    let key = state.bookings.key_seen_by(&asker.key, path.id).await?;
    asker.acted_for(key.organisation.id);
    state.bookings.revoke_key(state.now(), key.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl KeyView {
    fn new(key: &ApiKey) -> Self {
        Self {
            id: key.id.to_string(),
            organisation: key.organisation.name.clone(),
            role: key.role,
            scopes: key.scopes.clone(),
            prefix: key.prefix.clone(),
            created_at: key.created_at.to_string(),
            expires_at: key.expires_at.map(|at| at.to_string()),
            revoked_at: key.revoked_at.map(|at| at.to_string()),
        }
    }
}

impl NewKeyView {
    fn new((key, secret): &(ApiKey, KeySecret)) -> Self {
        Self {
            view: KeyView::new(key),
            key: secret.expose().to_owned(),
        }
    }
}

/// Nobody makes a key that may do more than his own.
fn read_role(asker: &Asker, role: Change<String>) -> Result<KeyRole, FieldError> {
    let allowed = if asker.key.role == KeyRole::Platform {
        "must be platform, admin, operator, booking or reader"
    } else {
        "must be admin, operator, booking or reader"
    };
    let Some(word) = given(role) else {
        return Err(FieldError::new("role", "required", allowed));
    };
    let role = word.parse::<KeyRole>().ok();
    let may = |role: &KeyRole| *role != KeyRole::Platform || asker.key.role == KeyRole::Platform;
    role.filter(may)
        .ok_or_else(|| FieldError::new("role", "invalid", allowed))
}

fn read_scopes(asker: &Asker, scopes: Change<serde_json::Value>) -> Result<Vec<Scope>, FieldError> {
    let Some(value) = given(scopes) else {
        return Ok(Vec::new());
    };
    let invalid = || FieldError::new("scopes", "invalid", "must be a list of dial, or empty");
    let mut scopes: Vec<Scope> = serde_json::from_value(value).map_err(|_| invalid())?;
    scopes.dedup();
    let has =
        |scope: &Scope| asker.key.role == KeyRole::Platform || asker.key.scopes.contains(scope);
    if scopes.iter().all(has) {
        Ok(scopes)
    } else {
        let must = "may hold only what your own key has";
        Err(FieldError::new("scopes", "invalid", must))
    }
}

fn read_expiry(now: Timestamp, text: Option<&str>) -> Result<Option<Timestamp>, FieldError> {
    let at = text
        .map(|text| parse_time("expires_at", text))
        .transpose()?;
    if at.is_some_and(|at| at <= now) {
        let must = "must be in the future";
        return Err(FieldError::new("expires_at", "out_of_range", must));
    }
    Ok(at)
}

const GRACE_MINUTES_DEFAULT: i64 = 60;
/// A month.
const GRACE_MINUTES_MAX: i64 = 43_200;
