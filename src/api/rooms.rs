//! `/v1/rooms`: what meetings are booked into, one at a time.

use axum::Json;
use axum::extract::State;
use axum::http::header::{ETAG, LOCATION};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::AppState;
use super::auth::Asker;
use super::body::{Fields, given};
use super::meetings::{if_match, scope};
use super::path::{Named, RoomPath};
use super::problem::{Problem, ProblemDocument};
use super::query::{Parameters, cursor};
use super::view::Page;
use crate::booking::Permission;
use crate::booking::room::{Room, RoomChange};

/// Which room a meeting asks for: this one, or the smallest free one for so many. One of both.
#[derive(Serialize, ToSchema)]
#[schema(as = RoomAsked, min_properties = 1, max_properties = 1)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "tells the OpenAPI document what `body` reads")]
pub(super) struct RoomAsked {
    /// This one.
    #[schema(format = "uuid", nullable = false)]
    id: Option<String>,
    /// The smallest free one for so many; 1 to 2,000.
    #[schema(minimum = 1, maximum = 2000, nullable = false)]
    min_capacity: Option<u32>,
}

/// A room as it is asked for.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "tells the OpenAPI document what `asked` reads")]
pub(super) struct RoomRequest {
    /// Required of keys of role `platform`: the organisation they act for.
    organisation: Option<String>,
    /// For people; one of this name an organisation, at most 100 characters.
    #[schema(min_length = 1, max_length = 100, pattern = "^\\S(.*\\S)?$")]
    name: String,
    /// Most participants at once; 1 to 2,000.
    #[schema(minimum = 1, maximum = 2000)]
    capacity: u32,
}

/// What to change of a room; what is left out stays.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "tells the OpenAPI document what `asked` reads")]
pub(super) struct RoomPatch {
    /// For people.
    #[schema(
        min_length = 1,
        max_length = 100,
        pattern = "^\\S(.*\\S)?$",
        nullable = false
    )]
    name: Option<String>,
    /// Most participants at once; not less than a booking ahead asks for.
    #[schema(minimum = 1, maximum = 2000, nullable = false)]
    capacity: Option<u32>,
}

/// A room.
#[derive(Serialize, ToSchema)]
#[schema(as = Room)]
pub(super) struct RoomView {
    /// Names it here.
    #[schema(format = "uuid")]
    id: String,
    /// Its owner.
    organisation: String,
    /// For people.
    name: String,
    /// Most participants at once.
    capacity: u32,
    /// When it was made.
    #[schema(format = "date-time")]
    created_at: String,
}

/// Makes a room. An organisation has at most 200.
#[utoipa::path(
    post, operation_id = "createRoom", path = "/v1/rooms", tag = "rooms", security(("key" = [])), request_body = RoomRequest,
    responses(
        (status = 201, description = "Made", body = RoomView),
        (status = 409, description = "The organisation has as many rooms as it may have", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn create(
    State(state): State<AppState>,
    asker: Asker,
    mut fields: Fields,
) -> Result<Response, Problem> {
    asker.must(Permission::Manage)?;
    let named = given(fields.text("organisation"));
    let asked = asked(fields)?;
    let owner = state
        .bookings
        .acting_for(&asker.key, named.as_deref())
        .await?;
    let made = state
        .bookings
        .create_room(state.now(), &owner, asked)
        .await?;
    Ok(answer(StatusCode::CREATED, &asker, &made))
}

/// Lists your rooms, oldest first.
#[utoipa::path(
    get, operation_id = "listRooms", path = "/v1/rooms", tag = "rooms", security(("key" = [])),
    params(
        ("organisation" = Option<String>, Query, description = "For keys of role platform; left out: all"),
        ("cursor" = Option<String>, Query, description = "The `next` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 1,000; default 100"),
    ),
    responses((status = 200, description = "A page", body = Page<RoomView>))
)]
pub(super) async fn list(
    State(state): State<AppState>,
    asker: Asker,
    mut parameters: Parameters,
) -> Result<Json<Page<RoomView>>, Problem> {
    asker.must(Permission::Read)?;
    let owner = scope(&state, &asker, &mut parameters).await?;
    let (after, limit) = (parameters.cursor()?, parameters.limit()? as usize);
    parameters.finish()?;
    let mut rooms = state.bookings.list_rooms(owner.as_ref()).await?;
    rooms.retain(|room| after.is_none_or(|after| (room.created_at, room.id) > after));
    let more = rooms.len() > limit;
    rooms.truncate(limit);
    let last = rooms.last().map(|last| cursor(last.created_at, last.id));
    Ok(Json(Page {
        items: rooms.iter().map(RoomView::new).collect(),
        next: last.filter(|_| more),
    }))
}

/// Reads a room.
#[utoipa::path(
    get, operation_id = "readRoom", path = "/v1/rooms/{id}", tag = "rooms", security(("key" = [])), params(("id" = String, Path)),
    responses((status = 200, description = "It; its revision is in ETag", body = RoomView))
)]
pub(super) async fn read(
    State(state): State<AppState>,
    asker: Asker,
    Named(path): Named<RoomPath>,
) -> Result<Response, Problem> {
    asker.must(Permission::Read)?;
    let room = state.bookings.room(&asker.key, path.id).await?;
    Ok(answer(StatusCode::OK, &asker, &room))
}

/// Changes a room. Meetings in it hold as many as it does from then on; a running one from its next change.
#[utoipa::path(
    patch, operation_id = "changeRoom", path = "/v1/rooms/{id}", tag = "rooms", security(("key" = [])), request_body = RoomPatch,
    params(("id" = String, Path), ("If-Match" = Option<String>, Header, description = "The ETag it must still have")),
    responses(
        (status = 200, description = "Changed", body = RoomView),
        (status = 409, description = "A booking ahead asks for more", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 412, description = "It was changed meanwhile", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn change(
    State(state): State<AppState>,
    asker: Asker,
    Named(path): Named<RoomPath>,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response, Problem> {
    asker.must(Permission::Manage)?;
    let (asked, expected) = (asked(fields)?, if_match(&headers)?);
    let changed = state
        .bookings
        .patch_room(state.now(), &asker.key, path.id, asked, expected)
        .await?;
    Ok(answer(StatusCode::OK, &asker, &changed))
}

/// Deletes a room that has no bookings ahead.
#[utoipa::path(
    delete, operation_id = "deleteRoom", path = "/v1/rooms/{id}", tag = "rooms", security(("key" = [])), params(("id" = String, Path)),
    responses(
        (status = 204, description = "It is gone"),
        (status = 409, description = "It has bookings ahead", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn remove(
    State(state): State<AppState>,
    asker: Asker,
    Named(path): Named<RoomPath>,
) -> Result<StatusCode, Problem> {
    asker.must(Permission::Manage)?;
    let room = state.bookings.room(&asker.key, path.id).await?;
    asker.acted_for(room.organisation);
    state.bookings.delete_room(state.now(), room).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl RoomView {
    fn new(room: &Room) -> Self {
        Self {
            id: room.id.to_string(),
            organisation: room.organisation_name.clone(),
            name: room.name.clone(),
            capacity: room.capacity,
            created_at: room.created_at.to_string(),
        }
    }
}

fn asked(mut fields: Fields) -> Result<RoomChange, Problem> {
    let asked = RoomChange {
        name: fields.text("name"),
        capacity: fields.number("capacity"),
    };
    fields.finish()?;
    Ok(asked)
}

fn answer(status: StatusCode, asker: &Asker, room: &Room) -> Response {
    asker.acted_for(room.organisation);
    let mut response = (status, Json(RoomView::new(room))).into_response();
    let headers = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{}\"", room.revision)) {
        headers.insert(ETAG, etag);
    }
    let location = format!("/v1/rooms/{}", room.id);
    if status == StatusCode::CREATED
        && let Ok(location) = HeaderValue::from_str(&location)
    {
        headers.insert(LOCATION, location);
    }
    response
}
