//! Participants who are sent on into the dialplan of the Asterisk that they came by.

use tokio::sync::oneshot;

use super::active_call::{Line, Moving};
use super::asterisk::AsteriskCaller;
use super::clock;
use super::gateway::Gateway;
use super::requests::answer;
use crate::booking::{HangupBy, MeetingId, ParticipantId};
use crate::call::CallInput;
use crate::call::roster::LiveError;
use crate::units::DialplanPlace;

type Reply = oneshot::Sender<Result<(), LiveError>>;

impl Gateway {
    /// A host or the API wants it. Who waits for the reply hears when it is known whether there is such an
    /// extension: nobody is sent into nothing.
    pub(super) fn move_on(
        &mut self,
        meeting: MeetingId,
        participant: ParticipantId,
        place: DialplanPlace,
        reply: Reply,
    ) {
        let call = self.rooms.call_of(meeting, participant);
        let active = call.and_then(|call| self.calls.get_mut(&call));
        let asked = match active {
            None => Err(LiveError::NoSuchParticipant),
            Some(active) => match active.line {
                Line::Ahead | Line::Gone => Err(LiveError::NoSuchParticipant),
                // One question at a time: an answer doesn't say which it is of.
                Line::Asterisk(_) if active.moving.is_some() => Err(LiveError::Unavailable),
                Line::Sip { .. } => Err(LiveError::NotByAsterisk),
                Line::Asterisk(line) => {
                    let found = self.asterisks.find_extension(clock::now(), line, &place);
                    found.map(|()| active)
                }
            },
        };
        match asked {
            Ok(active) => active.moving = Some(Moving::Asked { place, reply }),
            Err(error) => answer(reply, Err(error)),
        }
    }

    /// Asterisk says whether there is such an extension: if so he goes there with the end of his call here.
    pub(super) fn extension_found(&mut self, line: AsteriskCaller, exists: Option<bool>) {
        let Some(&id) = self.by_line.get(&line) else {
            return;
        };
        let Some(active) = self.calls.get_mut(&id) else {
            return;
        };
        match (active.moving.take(), exists) {
            // Who asked was told that it failed.
            (Some(Moving::Asked { reply, .. }), _) if reply.is_closed() => {}
            (Some(Moving::Asked { place, reply }), Some(true)) => {
                tracing::info!(call = %id, context = place.context(), "sent on into the dialplan");
                active.moving = Some(Moving::Going(place));
                self.input(id, CallInput::Drop(HangupBy::Moved));
                answer(reply, Ok(()));
            }
            (Some(Moving::Asked { reply, .. }), Some(false)) => {
                answer(reply, Err(LiveError::NoSuchExtension));
            }
            (Some(Moving::Asked { reply, .. }), None) => {
                answer(reply, Err(LiveError::Unavailable));
            }
            (other @ (Some(Moving::Going(_)) | None), _) => active.moving = other,
        }
    }
}
