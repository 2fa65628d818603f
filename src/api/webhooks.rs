//! `/v1/webhooks`: where an organisation's systems are told of events, and what they were told.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use jiff::SignedDuration;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::AppState;
use super::auth::Asker;
use super::body::{Fields, given};
use super::meetings::scope;
use super::path::{Named, WebhookPath};
use super::problem::{Problem, ProblemDocument};
use super::query::Parameters;
use super::view::Page;
use crate::booking::change::{FieldError, parse_time};
use crate::booking::service::{ReplayFrom, WebhookChange};
use crate::booking::webhook::{Delivery, DeliveryFilter, DeliveryState, DisabledBecause, Webhook};
use crate::booking::{EventKind, Permission};

/// A webhook as it is asked for.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "tells the OpenAPI document what `create` reads")]
pub(super) struct WebhookRequest {
    /// Required of keys of role `platform`: whose events are told.
    organisation: Option<String>,
    /// `https://…`, to a public address; the operator may allow others, and `http://…` to those.
    #[schema(format = "uri", max_length = 2000)]
    url: String,
    /// What is told; null: everything.
    types: Option<Vec<EventKind>>,
    /// Default true.
    enabled: Option<bool>,
}

/// What to change of a webhook; what is left out stays.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "tells the OpenAPI document what `change` reads")]
pub(super) struct WebhookPatch {
    /// `https://…`, to a public address.
    #[schema(format = "uri", max_length = 2000)]
    url: Option<String>,
    /// What is told; null: everything.
    types: Option<Vec<EventKind>>,
    /// false: nothing is told until it is true again. What happens meanwhile is told by a replay only.
    enabled: Option<bool>,
}

/// From where on events are told again; one of both.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "tells the OpenAPI document what `replay` reads")]
pub(super) struct ReplayRequest {
    /// From this event on.
    #[schema(format = "uuid")]
    from_event: Option<String>,
    /// What happened then or later.
    #[schema(format = "date-time")]
    from_time: Option<String>,
}

/// How to replace a webhook's secret.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "tells the OpenAPI document what `rotate` reads")]
pub(super) struct SecretRotation {
    /// How long messages are signed with the old one too; 0 to 43,200, default 1,440: a day.
    #[schema(maximum = 43_200)]
    grace_minutes: Option<u32>,
}

/// A webhook.
#[derive(Serialize, ToSchema)]
#[schema(as = Webhook)]
pub(super) struct WebhookView {
    /// Names it.
    #[schema(format = "uuid")]
    id: String,
    /// Whose events are told.
    organisation: String,
    /// Where to.
    url: String,
    /// What is told; null: everything.
    types: Option<Vec<EventKind>>,
    /// Is it told now?
    enabled: bool,
    /// Why it isn't, where nobody switched it off: `gone`, as it answered 410. What wasn't told by then is told once
    /// it is switched on again.
    disabled_because: Option<DisabledBecause>,
    /// When it was made.
    #[schema(format = "date-time")]
    created_at: String,
}

/// A new webhook.
#[derive(Serialize, ToSchema)]
#[schema(as = NewWebhook)]
pub(super) struct NewWebhookView {
    /// What is known of it.
    #[serde(flatten)]
    view: WebhookView,
    /// What messages are signed with (Standard Webhooks): keep it now, it is never shown again.
    secret: String,
}

/// What a webhook was told, or is to be told.
#[derive(Serialize, ToSchema)]
#[schema(as = Delivery)]
pub(super) struct DeliveryView {
    /// The event, and the message's `webhook-id`.
    #[schema(format = "uuid")]
    event_id: String,
    /// What happened.
    r#type: EventKind,
    /// In which meeting. Of one meeting the next is told when the one before was delivered, or given up after a day.
    #[schema(format = "uuid")]
    meeting_id: Option<String>,
    /// Where it is.
    state: DeliveryState,
    /// How often it was tried.
    attempts: u32,
    /// When it was first to be sent.
    #[schema(format = "date-time")]
    created_at: String,
    /// When it was tried last.
    #[schema(format = "date-time")]
    attempted_at: Option<String>,
    /// When it is tried next, unless it waits for another of the same meeting.
    #[schema(format = "date-time")]
    due_at: Option<String>,
    /// What the last try was answered with.
    status: Option<u16>,
    /// Why the last try failed: `status`, `redirect`, `timeout`, `unreachable`, `unresolvable`, `not_allowed`, `tls`,
    /// `broken`, `gone`.
    error: Option<String>,
}

/// That an event is told to a webhook alone.
#[derive(Serialize, ToSchema)]
pub(super) struct WebhookTest {
    /// The event, of type `webhook.test`; look for it in the deliveries.
    #[schema(format = "uuid")]
    event_id: String,
}

/// How much is told again.
#[derive(Serialize, ToSchema)]
pub(super) struct Replayed {
    /// So many events.
    events: u64,
}

/// Makes a webhook: it is told of what happens from now on.
///
/// Each message is a POST of the schema `Event`, signed as Standard Webhooks 1.0 has it. Any 2xx within ten seconds
/// says that it arrived; else it comes again, for a day, after the `Retry-After` of the answer where it has one (an
/// hour at most). 410 switches the webhook off. A message may come more than once: `webhook-id` tells.
#[utoipa::path(
    post, operation_id = "createWebhook", path = "/v1/webhooks", tag = "webhooks", security(("key" = [])), request_body = WebhookRequest,
    responses((status = 201, description = "Made; the only answer that holds the secret", body = NewWebhookView))
)]
pub(super) async fn create(
    State(state): State<AppState>,
    asker: Asker,
    mut fields: Fields,
) -> Result<
    (
        StatusCode,
        [(axum::http::HeaderName, String); 1],
        Json<NewWebhookView>,
    ),
    Problem,
> {
    asker.must(Permission::Book)?;
    let named = given(fields.text("organisation"));
    let asked = change_of(&mut fields);
    fields.finish()?;
    let owner = state
        .bookings
        .acting_for(&asker.key, named.as_deref())
        .await?;
    asker.acted_for(owner.id);
    let made = state
        .bookings
        .create_webhook(state.now(), owner, asked)
        .await?;
    let secret = made.secret.expose();
    let location = format!("/v1/webhooks/{}", made.id);
    let view = WebhookView::new(made);
    let answer = Json(NewWebhookView { view, secret });
    Ok((StatusCode::CREATED, [(LOCATION, location)], answer))
}

/// Lists webhooks, oldest first.
#[utoipa::path(
    get, operation_id = "listWebhooks", path = "/v1/webhooks", tag = "webhooks", security(("key" = [])),
    params(("organisation" = Option<String>, Query, description = "For keys of role platform; left out: all")),
    responses((status = 200, description = "All of them", body = Page<WebhookView>))
)]
pub(super) async fn list(
    State(state): State<AppState>,
    asker: Asker,
    mut parameters: Parameters,
) -> Result<Json<Page<WebhookView>>, Problem> {
    asker.must(Permission::Book)?;
    let owner = scope(&state, &asker, &mut parameters).await?;
    parameters.finish()?;
    let webhooks = state.bookings.list_webhooks(owner.as_ref()).await?;
    Ok(Json(Page {
        items: webhooks.into_iter().map(WebhookView::new).collect(),
        next: None,
    }))
}

/// Reads a webhook.
#[utoipa::path(
    get, operation_id = "readWebhook", path = "/v1/webhooks/{id}", tag = "webhooks", security(("key" = [])), params(("id" = String, Path)),
    responses((status = 200, description = "It", body = WebhookView))
)]
pub(super) async fn read(
    State(state): State<AppState>,
    asker: Asker,
    Named(path): Named<WebhookPath>,
) -> Result<Json<WebhookView>, Problem> {
    asker.must(Permission::Book)?;
    let webhook = seen(&state, &asker, path.id).await?;
    Ok(Json(WebhookView::new(webhook)))
}

/// Changes a webhook.
#[utoipa::path(
    patch, operation_id = "changeWebhook", path = "/v1/webhooks/{id}", tag = "webhooks", security(("key" = [])), request_body = WebhookPatch, params(("id" = String, Path)),
    responses(
        (status = 200, description = "Changed", body = WebhookView),
        (status = 412, description = "It was changed by somebody else at the same time", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "The request breaks rules", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn change(
    State(state): State<AppState>,
    asker: Asker,
    Named(path): Named<WebhookPath>,
    mut fields: Fields,
) -> Result<Json<WebhookView>, Problem> {
    asker.must(Permission::Book)?;
    let asked = change_of(&mut fields);
    fields.finish()?;
    let webhook = seen(&state, &asker, path.id).await?;
    let changed = state
        .bookings
        .patch_webhook(state.now(), webhook, asked)
        .await?;
    Ok(Json(WebhookView::new(changed)))
}

/// Deletes a webhook with all that is still to be told to it.
#[utoipa::path(
    delete, operation_id = "deleteWebhook", path = "/v1/webhooks/{id}", tag = "webhooks", security(("key" = [])), params(("id" = String, Path)),
    responses((status = 204, description = "It is gone"))
)]
pub(super) async fn remove(
    State(state): State<AppState>,
    asker: Asker,
    Named(path): Named<WebhookPath>,
) -> Result<StatusCode, Problem> {
    asker.must(Permission::Book)?;
    let webhook = seen(&state, &asker, path.id).await?;
    state.bookings.delete_webhook(webhook).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Tells a webhook, and nobody else, an event of type `webhook.test`.
#[utoipa::path(
    post, operation_id = "testWebhook", path = "/v1/webhooks/{id}/test", tag = "webhooks", security(("key" = [])), params(("id" = String, Path)),
    responses((status = 202, description = "It is on its way", body = WebhookTest))
)]
pub(super) async fn test(
    State(state): State<AppState>,
    asker: Asker,
    Named(path): Named<WebhookPath>,
) -> Result<(StatusCode, Json<WebhookTest>), Problem> {
    asker.must(Permission::Book)?;
    let webhook = seen(&state, &asker, path.id).await?;
    let event = state.bookings.test_webhook(state.now(), webhook).await?;
    let event_id = event.to_string();
    Ok((StatusCode::ACCEPTED, Json(WebhookTest { event_id })))
}

/// Lists what a webhook was told and is to be told, latest first, as far back as three days.
#[utoipa::path(
    get, operation_id = "listDeliveries", path = "/v1/webhooks/{id}/deliveries", tag = "webhooks", security(("key" = [])),
    params(
        ("id" = String, Path),
        ("state" = Option<DeliveryState>, Query, description = "In this state"),
        ("cursor" = Option<String>, Query, format = "uuid", description = "The `next` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 1,000; default 100"),
    ),
    responses((status = 200, description = "A page", body = Page<DeliveryView>))
)]
pub(super) async fn deliveries(
    State(state): State<AppState>,
    asker: Asker,
    Named(path): Named<WebhookPath>,
    mut parameters: Parameters,
) -> Result<Json<Page<DeliveryView>>, Problem> {
    asker.must(Permission::Book)?;
    let filter = DeliveryFilter {
        webhook: path.id,
        state: parameters.word("state", "pending, delivered, failed")?,
        before: parameters.uuid("cursor")?,
        limit: parameters.limit()?,
    };
    parameters.finish()?;
    seen(&state, &asker, path.id).await?;
    let (deliveries, more) = state.bookings.list_deliveries(filter).await?;
    let last = deliveries.last().map(|delivery| delivery.event.to_string());
    Ok(Json(Page {
        items: deliveries.into_iter().map(DeliveryView::new).collect(),
        next: last.filter(|_| more),
    }))
}

/// Tells a webhook again what happened from there on, as far back as three days, in order.
#[utoipa::path(
    post, operation_id = "replayWebhook", path = "/v1/webhooks/{id}/replay", tag = "webhooks", security(("key" = [])), request_body = ReplayRequest, params(("id" = String, Path)),
    responses((status = 202, description = "They are on their way", body = Replayed))
)]
pub(super) async fn replay(
    State(state): State<AppState>,
    asker: Asker,
    Named(path): Named<WebhookPath>,
    mut fields: Fields,
) -> Result<(StatusCode, Json<Replayed>), Problem> {
    asker.must(Permission::Book)?;
    let (event, time) = (
        given(fields.text("from_event")),
        given(fields.text("from_time")),
    );
    fields.finish()?;
    let from = replay_from(event, time).map_err(|error| Problem::invalid(vec![error]))?;
    let webhook = seen(&state, &asker, path.id).await?;
    let events = state
        .bookings
        .replay_webhook(state.now(), webhook, from)
        .await?;
    Ok((StatusCode::ACCEPTED, Json(Replayed { events })))
}

/// Gives a webhook a new secret. For a while messages are signed with both (`webhook-signature` holds two), so that
/// the receiver can change in its own time.
#[utoipa::path(
    post, operation_id = "rotateWebhookSecret", path = "/v1/webhooks/{id}/rotate", tag = "webhooks", security(("key" = [])), request_body = SecretRotation, params(("id" = String, Path)),
    responses(
        (status = 200, description = "It has a new secret; the only answer that holds it", body = NewWebhookView),
        (status = 412, description = "It was changed by somebody else at the same time", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn rotate(
    State(state): State<AppState>,
    asker: Asker,
    Named(path): Named<WebhookPath>,
    mut fields: Fields,
) -> Result<Json<NewWebhookView>, Problem> {
    asker.must(Permission::Book)?;
    let grace = given(fields.number("grace_minutes")).unwrap_or(GRACE_MINUTES_DEFAULT);
    fields.finish()?;
    if !(0..=GRACE_MINUTES_MAX).contains(&grace) {
        let must = "must be 0 to 43,200";
        let error = FieldError::new("grace_minutes", "out_of_range", must);
        return Err(Problem::invalid(vec![error]));
    }
    let webhook = seen(&state, &asker, path.id).await?;
    let grace = SignedDuration::from_mins(grace);
    let changed = state
        .bookings
        .rotate_webhook_secret(state.now(), webhook, grace)
        .await?;
    let secret = changed.secret.expose();
    let view = WebhookView::new(changed);
    Ok(Json(NewWebhookView { view, secret }))
}

/// The webhook, if this key may see it.
async fn seen(state: &AppState, asker: &Asker, id: Uuid) -> Result<Webhook, Problem> {
    let webhook = state.bookings.webhook(&asker.key, id).await?;
    asker.acted_for(webhook.organisation);
    Ok(webhook)
}

fn change_of(fields: &mut Fields) -> WebhookChange {
    WebhookChange {
        url: fields.text("url"),
        kinds: fields.any("types"),
        enabled: fields.flag("enabled"),
    }
}

fn replay_from(event: Option<String>, time: Option<String>) -> Result<ReplayFrom, FieldError> {
    match (event, time) {
        (Some(event), None) => {
            let wrong =
                |_| FieldError::new("from_event", "invalid", "must be the `id` of an event");
            event.parse().map(ReplayFrom::Event).map_err(wrong)
        }
        (None, Some(time)) => parse_time("from_time", &time).map(ReplayFrom::Time),
        (Some(_), Some(_)) | (None, None) => {
            let must = "either this or from_time is required, and not both";
            Err(FieldError::new("from_event", "required", must))
        }
    }
}

impl WebhookView {
    fn new(webhook: Webhook) -> Self {
        Self {
            id: webhook.id.to_string(),
            organisation: webhook.organisation_name,
            url: webhook.url,
            types: webhook.kinds,
            enabled: webhook.enabled,
            disabled_because: webhook.disabled_because,
            created_at: webhook.created_at.to_string(),
        }
    }
}

impl DeliveryView {
    fn new(delivery: Delivery) -> Self {
        let is_pending = delivery.state == DeliveryState::Pending;
        Self {
            event_id: delivery.event.to_string(),
            r#type: delivery.kind,
            meeting_id: delivery.meeting.map(|id| id.to_string()),
            state: delivery.state,
            attempts: delivery.attempts,
            created_at: delivery.created_at.to_string(),
            attempted_at: delivery.attempted_at.map(|at| at.to_string()),
            due_at: is_pending.then(|| delivery.due_at.to_string()),
            status: delivery.status,
            error: delivery.error,
        }
    }
}

const GRACE_MINUTES_DEFAULT: i64 = 1_440;
/// A month.
const GRACE_MINUTES_MAX: i64 = 43_200;
