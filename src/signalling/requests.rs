//! What the API and operators ask of running calls, and the handle they ask by.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use super::clock;
use super::gateway::Gateway;
use super::quality;
use crate::booking::{CallerNumber, HangupBy, MeetingId, ParticipantId};
use crate::call::CallInput;
use crate::call::{Seat, SeatState};
use crate::call::roster::{Gauges, LiveCalls, LiveError, LiveFuture, Participant, ParticipantState, Quality};

/// A question or an order to the gateway.
#[derive(Debug)]
pub(super) enum Request {
    Participants(MeetingId, oneshot::Sender<Vec<Participant>>),
    SetMuted(MeetingId, ParticipantId, bool, oneshot::Sender<bool>),
    Rename(MeetingId, ParticipantId, Option<String>, oneshot::Sender<bool>),
    Remove(MeetingId, ParticipantId, oneshot::Sender<bool>),
    EndMeeting(MeetingId, oneshot::Sender<u32>),
    /// Take no new calls; answered when the last call is gone.
    Drain(oneshot::Sender<()>),
    /// End all calls and stop.
    Shutdown(oneshot::Sender<()>),
}

/// What is read without asking, renewed every second.
#[derive(Debug, Clone, Default)]
pub(super) struct Picture {
    pub(super) meetings: Vec<MeetingId>,
    pub(super) gauges: Gauges,
}

/// The gateway, for everybody else.
#[derive(Debug, Clone)]
pub struct GatewayHandle {
    requests: mpsc::Sender<Request>,
    picture: watch::Receiver<Picture>,
}

impl GatewayHandle {
    pub(super) const fn new(requests: mpsc::Sender<Request>, picture: watch::Receiver<Picture>) -> Self {
        Self { requests, picture }
    }

    /// Stops taking calls and waits until the last one is gone.
    pub async fn drain(&self) {
        // An error means that the gateway has stopped: then nothing is left to drain.
        let _stopped = self.ask(Request::Drain, None).await;
    }

    /// Ends all calls properly and stops the gateway.
    pub async fn shut_down(&self) {
        let _stopped = self.ask(Request::Shutdown, Some(SHUTDOWN)).await;
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
        patience: Option<Duration>,
    ) -> Result<T, LiveError> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.requests.send(request(reply)).await.map_err(|_| LiveError::Unavailable)?;
            answer.await.map_err(|_| LiveError::Unavailable)
        };
        match patience {
            Some(patience) => tokio::time::timeout(patience, asked).await.map_err(|_| LiveError::Unavailable)?,
            None => asked.await,
        }
    }

    async fn steer(&self, request: impl FnOnce(oneshot::Sender<bool>) -> Request) -> Result<(), LiveError> {
        let found = self.ask(request, Some(ANSWER)).await?;
        if found { Ok(()) } else { Err(LiveError::NoSuchParticipant) }
    }
}

impl LiveCalls for GatewayHandle {
    fn participants(&self, meeting: MeetingId) -> Vec<Participant> {
        self.rooms.participants(meeting).iter().map(|seat| self.participant(seat)).collect()
    }

    fn participant(&self, seat: &Seat) -> Participant {
        let active = self.calls.get(&seat.call);
        let report = active.and_then(|active| active.report.as_ref());
        let caller = active.map(|active| active.call.summary().caller);
        Participant {
            id: seat.participant,
            name: seat.name.clone(),
            role: seat.role,
            kind: "sip",
            state: match seat.state {
                SeatState::Waiting => ParticipantState::Waiting,
                SeatState::Joined => ParticipantState::Joined,
            },
            number: caller.unwrap_or_else(|| CallerNumber::new("")),
            muted: seat.muted_by.is_some(),
            muted_by: seat.muted_by,
            hand: seat.hand,
            talking: report.is_some_and(|report| report.talking),
            level_db: report.map_or(-127.0, |report| report.level.0),
            joined_at: seat.since,
            codec: active.and_then(|active| active.codec()).map_or("", |codec| codec.encoding_name()),
            quality: report.map_or_else(Quality::default, quality::of),
        }
    }

    /// Renews what others read without asking.
    pub(super) fn show(&self) {
        let mut gauges = self.counters.gauges();
        gauges.legs = vec![("sip", self.engine.legs() as u64)];
        gauges.tick_lateness = super::counters::lateness(&self.engine.health());
        let meetings: Vec<MeetingId> = self.rooms.live_meetings().collect();
        gauges.meetings_live = meetings.len() as u64;
        self.picture.send_replace(Picture { meetings, gauges });
    }
}

/// Whoever asked may have gone away; that is his right.
fn answer<T>(reply: oneshot::Sender<T>, value: T) {
    let _gone = reply.send(value);
}

/// A handle behind `Arc<dyn LiveCalls>`.
#[must_use]
pub fn live_calls(handle: &GatewayHandle) -> Arc<dyn LiveCalls> {
    Arc::new(handle.clone())
}

const ANSWER: Duration = Duration::from_secs(1);
const SHUTDOWN: Duration = Duration::from_secs(5);
const PARTING: Duration = Duration::from_secs(2);
