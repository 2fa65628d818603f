//! `/v1/events`: what happens, as it happens, as server-sent events (WHATWG HTML, section 9.2).

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::sse::{Event as Message, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::sync::watch;
use tokio::time::{Duration, sleep};
use uuid::Uuid;

use super::AppState;
use super::auth::Asker;
use super::meetings::scope;
use super::problem::{Problem, ProblemDocument};
use super::query::Parameters;
use crate::booking::admission::OrganisationId;
use crate::booking::change::FieldError;
use crate::booking::event::{EventFilter, EventPosition, KeptEvent};
use crate::booking::service::{FeedNews, STREAMS_PER_KEY, StreamPlace};
use crate::booking::{EventDocument, Permission};

/// Follows what happens: each event as it happens, and a comment every 15 seconds where nothing does.
///
/// Every message has the event's `id`, its type as `event`, and as `data` the JSON document of the schema `Event`.
/// Who comes back with the last `id` he read as `Last-Event-ID` gets all that happened since, for 24 hours.
#[utoipa::path(
    get, operation_id = "followEvents", path = "/v1/events", tag = "events", security(("key" = [])),
    params(
        ("organisation" = Option<String>, Query, description = "For keys of role platform; left out: all"),
        ("Last-Event-ID" = Option<String>, Header, description = "The last event that was read; left out: what happens from now on"),
    ),
    responses(
        (status = 200, description = "Events, until one side ends it", content((EventDocument = "text/event-stream"))),
        (status = 410, description = "It is more than 24 hours ago, or was never told to you: read the lists, and begin anew without Last-Event-ID", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 429, description = "This key follows events ten times already, or the node serves as many as it can", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn follow(
    State(state): State<AppState>,
    asker: Asker,
    headers: HeaderMap,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    asker.must(Permission::Read)?;
    let owner = scope(&state, &asker, &mut parameters).await?;
    parameters.finish()?;
    let organisation = owner.map(|owner| owner.id);
    let latest = state.bookings.look_for_events().await?;
    let position = match last_event_id(&headers)? {
        Some(id) => {
            let known = state.bookings.event_position(state.now(), organisation, id);
            known.await?.ok_or_else(gone)?
        }
        None => latest,
    };
    let key = asker.key.id;
    let place = state.bookings.take_stream(key).ok_or_else(too_many)?;
    let follower = Follower {
        news: state.bookings.follow_events(),
        state,
        key,
        organisation,
        position,
        read: VecDeque::new(),
        greeted: false,
        _place: place,
    };
    let fresh = [
        (CACHE_CONTROL, "no-store"),
        // Else nginx keeps events until it has some kilobytes of them.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((fresh, Sse::new(messages(follower))).into_response())
}

/// Somebody who follows events, and how far he is.
struct Follower {
    state: AppState,
    key: Uuid,
    organisation: Option<OrganisationId>,
    position: EventPosition,
    news: watch::Receiver<FeedNews>,
    read: VecDeque<KeptEvent>,
    greeted: bool,
    _place: StreamPlace,
}

fn messages(follower: Follower) -> impl Stream<Item = Result<Message, Infallible>> {
    unfold(follower, |mut follower| async move {
        let message = follower.next().await?;
        Some((Ok(message), follower))
    })
}

impl Follower {
    /// The next message; `None`: the node ends, or the key is no good any more.
    async fn next(&mut self) -> Option<Message> {
        if !self.greeted {
            self.greeted = true;
            return Some(Message::default().comment("you follow events now"));
        }
        loop {
            if let Some(event) = self.read.pop_front() {
                return Some(message(event));
            }
            let news = *self.news.borrow_and_update();
            if news.latest > self.position {
                self.read(news.latest).await;
                continue;
            }
            if news.ended {
                return None;
            }
            tokio::select! {
                changed = self.news.changed() => changed.ok()?,
                () = sleep(KEEP_ALIVE) => return self.keep_alive().await,
            }
        }
    }

    /// Reads on. While the store is away nothing is told and nothing is missed.
    async fn read(&mut self, latest: EventPosition) {
        let filter = EventFilter {
            organisation: self.organisation,
            after: self.position,
            limit: READ,
        };
        match self.state.bookings.events(filter).await {
            Ok(events) => {
                let is_all = events.len() < READ as usize;
                let last = events.last().map(|event| event.position);
                let passed = if is_all { Some(latest) } else { None };
                self.position = self.position.max(last.max(passed).unwrap_or_default());
                self.read.extend(events);
            }
            Err(error) => {
                tracing::debug!(%error, "events can't be read, trying again");
                sleep(RETRY).await;
            }
        }
    }

    async fn keep_alive(&self) -> Option<Message> {
        let good = self.state.bookings.key_is_good(self.state.now(), self.key);
        // While the store is away nobody is turned out.
        let good = good.await.unwrap_or(true);
        good.then(|| Message::default().comment("nothing new"))
    }
}

fn message(kept: KeptEvent) -> Message {
    let (id, kind) = (kept.event.id.to_string(), kept.event.kind.word());
    let document = serde_json::to_string(&EventDocument::from(kept)).unwrap_or_default();
    Message::default().id(id).event(kind).data(document)
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<Uuid>, Problem> {
    let Some(value) = headers.get(LAST_EVENT_ID) else {
        return Ok(None);
    };
    let id = value.to_str().ok().and_then(|text| text.parse().ok());
    let wrong = || FieldError::new("Last-Event-ID", "invalid", "must be the `id` of an event");
    id.map(Some).ok_or_else(|| Problem::bad_parameter(wrong()))
}

fn gone() -> Problem {
    let detail = "the event named by Last-Event-ID is too old to go on from, or was none of yours; read the lists and begin anew without it";
    Problem::new(StatusCode::GONE, "events_gone", detail)
}

fn too_many() -> Problem {
    let detail = format!(
        "events are followed {STREAMS_PER_KEY} times with this key already, or as often as the node can serve; end one, or wait"
    );
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_streams", detail)
}

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Shorter than proxies and NATs wait.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const RETRY: Duration = Duration::from_secs(1);
/// Events read in one go.
const READ: u32 = 100;
