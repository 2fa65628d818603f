//! `/v1/audit`, and the layer that fills it: every request that a key changed something with, or had a PIN
//! explained by, leaves an entry. What its body said stays out.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::http::header::LOCATION;
use axum::middleware::Next;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::AppState;
use super::auth::Asker;
use super::meetings::scope;
use super::problem::Problem;
use super::query::{Parameters, cursor};
use super::view::Page;
use crate::booking::admission::OrganisationId;
use crate::booking::audit::{AuditEntry, AuditFilter, Deed};
use crate::booking::{ApiKey, KeyRole, MeetingId, Permission};

/// Who asks, and for whom: written by the extractor of keys and by handlers, read when the answer is ready.
#[derive(Clone, Default)]
pub(super) struct Trace(Arc<Mutex<Traced>>);

#[derive(Default)]
struct Traced {
    key: Option<ApiKey>,
    organisation: Option<OrganisationId>,
}

impl Trace {
    /// A key was recognised.
    pub(super) fn is_by(&self, key: &ApiKey) {
        let mut traced = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        traced.key = Some(key.clone());
        if key.role != KeyRole::Platform {
            traced.organisation = Some(key.organisation.id);
        }
    }

    /// A platform key acts for this one.
    pub(super) fn is_for(&self, organisation: OrganisationId) {
        let mut traced = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        traced.organisation = Some(organisation);
    }

    /// Who it was and for whom; a platform key that named nobody acted for the owner of the meeting.
    async fn told(&self, state: &AppState, path: &str) -> Option<(ApiKey, Option<OrganisationId>)> {
        let (key, organisation) = {
            let traced = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            (traced.key.clone()?, traced.organisation)
        };
        let meeting = path.strip_prefix("/v1/meetings/").unwrap_or_default();
        let meeting = meeting.split('/').next().and_then(|id| id.parse().ok());
        let organisation = match (organisation, meeting) {
            (None, Some(id)) => {
                let meeting = state.bookings.meeting(&key, MeetingId(id)).await;
                meeting.ok().map(|meeting| meeting.organisation)
            }
            (known, _) => known,
        };
        Some((key, organisation))
    }
}

/// One thing that was done.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditEntry)]
pub(super) struct AuditView {
    /// Names it.
    #[schema(format = "uuid")]
    id: String,
    /// When.
    #[schema(format = "date-time")]
    time: String,
    /// By which key; null for keys of role platform, unless you have one.
    #[schema(format = "uuid")]
    key_id: Option<String>,
    /// The key's role.
    role: KeyRole,
    /// The method and the documented path.
    action: String,
    /// The path with its ids, or that of what was made.
    subject: String,
    /// How it was answered.
    status: u16,
}

/// Lists who did what, latest first.
#[utoipa::path(
    get, operation_id = "listAudit", path = "/v1/audit", tag = "audit", security(("key" = [])),
    params(
        ("from" = Option<String>, Query, description = "Then or later; RFC 3339"),
        ("to" = Option<String>, Query, description = "Before then; RFC 3339"),
        ("organisation" = Option<String>, Query, description = "For keys of role platform; left out: all"),
        ("cursor" = Option<String>, Query, description = "The `next` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 1,000; default 100"),
    ),
    responses((status = 200, description = "A page", body = Page<AuditView>))
)]
pub(super) async fn list(
    State(state): State<AppState>,
    asker: Asker,
    mut parameters: Parameters,
) -> Result<Json<Page<AuditView>>, Problem> {
    asker.must(Permission::Manage)?;
    let owner = scope(&state, &asker, &mut parameters).await?;
    let filter = AuditFilter {
        organisation: owner.map(|owner| owner.id),
        from: parameters.time("from")?,
        to: parameters.time("to")?,
        after: parameters.cursor()?,
        limit: parameters.limit()?,
    };
    parameters.finish()?;
    let (entries, more) = state.bookings.audit_trail(filter).await?;
    let last = entries.last().map(|entry| cursor(entry.at, entry.id));
    let sees_platform = asker.key.role == KeyRole::Platform;
    let view = |entry: AuditEntry| AuditView {
        id: entry.id.to_string(),
        time: entry.at.to_string(),
        key_id: (sees_platform || entry.deed.role != KeyRole::Platform)
            .then(|| entry.deed.key.to_string()),
        role: entry.deed.role,
        action: entry.deed.action,
        subject: entry.deed.subject,
        status: entry.deed.status,
    };
    Ok(Json(Page {
        items: entries.into_iter().map(view).collect(),
        next: last.filter(|_| more),
    }))
}

/// The layer: keeps what was done before it is answered.
pub(super) async fn keep(
    State(state): State<AppState>,
    mut request: Request,
    next: Next,
) -> Response {
    if matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS
    ) {
        return next.run(request).await;
    }
    let trace = Trace::default();
    request.extensions_mut().insert(trace.clone());
    let path = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(String::new, |path| path.as_str().to_owned());
    let action = format!("{} {path}", request.method());
    let asked = request.uri().path().to_owned();
    let response = next.run(request).await;
    if !response.status().is_success() {
        return response;
    }
    let made = response
        .headers()
        .get(LOCATION)
        .and_then(|value| value.to_str().ok());
    // Who was forgotten isn't written down here instead.
    let asked_for = if path.starts_with("/v1/callers/") {
        &path
    } else {
        &asked
    };
    let subject = made.unwrap_or(asked_for).to_owned();
    if let Some((key, organisation)) = trace.told(&state, &asked).await {
        let done = Deed {
            organisation,
            key: key.id,
            role: key.role,
            action,
            subject,
            status: response.status().as_u16(),
        };
        if let Err(error) = state.bookings.audit(state.now(), done).await {
            tracing::error!(target: "voicebridge::audit", %error, "an audit entry is lost");
        }
    }
    response
}
