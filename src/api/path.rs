//! What the path of a request names. A part that can't be read names nothing: 404, as for what isn't there.

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::problem::Problem;
use crate::booking::admission::OrganisationId;
use crate::booking::{CallerHash, MeetingId, ParticipantId, RecurrenceId};

/// The named parts of a path, read; those that `T` doesn't have are not looked at.
pub(super) struct Named<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Named<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = Path::from_request_parts(parts, state).await;
        read.map(|Path(names)| Self(names))
            .map_err(|_| Problem::not_found())
    }
}

/// A meeting.
#[derive(Deserialize)]
pub(super) struct MeetingPath {
    pub(super) id: MeetingId,
}

/// One of a meeting's PINs.
#[derive(Deserialize)]
pub(super) struct PinPath {
    pub(super) id: MeetingId,
    pub(super) pin_id: Uuid,
}

/// One of a meeting's occurrences.
#[derive(Deserialize)]
pub(super) struct OccurrencePath {
    pub(super) id: MeetingId,
    pub(super) recurrence_id: RecurrenceId,
}

/// Somebody in a meeting.
#[derive(Deserialize)]
pub(super) struct ParticipantPath {
    pub(super) id: MeetingId,
    pub(super) participant_id: ParticipantId,
}

/// A webhook.
#[derive(Deserialize)]
pub(super) struct WebhookPath {
    pub(super) id: Uuid,
}

/// Whose Jitsi Meet asks.
#[derive(Deserialize)]
pub(super) struct JitsiPath {
    pub(super) organisation: String,
}

/// A number.
#[derive(Deserialize)]
pub(super) struct NumberPath {
    pub(super) id: Uuid,
}

/// A room.
#[derive(Deserialize)]
pub(super) struct RoomPath {
    pub(super) id: Uuid,
}

/// An API key.
#[derive(Deserialize)]
pub(super) struct KeyPath {
    pub(super) id: Uuid,
}

/// An organisation.
#[derive(Deserialize)]
pub(super) struct OrganisationPath {
    pub(super) id: OrganisationId,
}

/// A caller.
#[derive(Deserialize)]
pub(super) struct CallerPath {
    pub(super) hash: CallerHash,
}
