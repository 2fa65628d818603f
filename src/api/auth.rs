//! Who asks: `Authorization: Bearer KEY` (RFC 6750 section 2.1).

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use utoipa::Modify;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};

use super::AppState;
use super::audit::Trace;
use super::problem::Problem;
use crate::booking::admission::OrganisationId;
use crate::booking::{ApiKey, Permission, Scope};

/// The key a request came with: known, not revoked, not expired.
#[derive(Clone)]
pub(super) struct Asker {
    pub(super) key: ApiKey,
    trace: Option<Trace>,
}

impl Asker {
    /// Lets on only whose key may do that.
    pub(super) fn must(&self, permission: Permission) -> Result<(), Problem> {
        if self.key.role.may(permission) {
            Ok(())
        } else {
            Err(Problem::forbidden())
        }
    }

    /// Lets on only whose key has that scope, whatever its role.
    pub(super) fn must_have(&self, scope: Scope) -> Result<(), Problem> {
        if self.key.scopes.contains(&scope) {
            Ok(())
        } else {
            Err(Problem::forbidden())
        }
    }

    /// Whose thing it was done to, for the audit trail; known already where the key has one owner.
    pub(super) fn acted_for(&self, organisation: OrganisationId) {
        if let Some(trace) = &self.trace {
            trace.is_for(organisation);
        }
    }

    /// May the answer hold PINs and join URLs?
    pub(super) fn sees_pins(&self) -> bool {
        self.key.role.may(Permission::SeePins)
    }
}

impl FromRequestParts<AppState> for Asker {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let key = bearer(&parts.headers).ok_or_else(Problem::unauthorized)?;
        let key = state.bookings.authenticate(state.now(), key).await?;
        let trace = parts.extensions.get::<Trace>().cloned();
        if let Some(trace) = &trace {
            trace.is_by(&key);
        }
        Ok(Self { key, trace })
    }
}

/// The API key as it was presented.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let header = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

/// Tells the OpenAPI document about keys.
pub(super) struct BearerScheme;

impl Modify for BearerScheme {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme(
            "key",
            SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)),
        );
        components.add_security_scheme(
            "fsapi",
            SecurityScheme::Http(Http::new(HttpAuthScheme::Basic)),
        );
    }
}
