//! What the API and operators ask of running calls, and the handle they ask by.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::active_call::{ActiveCall, Line};
use super::gateway::{Ears, Gateway};
use super::occupancy::Peer;
use super::settings::GatewaySettings;
use super::{clock, counters};
use crate::booking::{CallerNumber, HangupBy, MeetingId, ParticipantId};
use crate::call::CallInput;
use crate::call::roster::{
    DialOrder, Gauges, LiveCalls, LiveError, LiveFuture, Participant, ParticipantState, Quality,
    Readiness, SipTraffic,
};
use crate::call::{RoomTerms, Seat, SeatState};
use crate::units::DialplanPlace;

/// A question or an order to the gateway.
#[derive(Debug)]
pub(super) enum Request {
    Participants(MeetingId, oneshot::Sender<Vec<Participant>>),
    SetMuted(MeetingId, ParticipantId, bool, oneshot::Sender<bool>),
    Rename(
        MeetingId,
        ParticipantId,
        Option<String>,
        oneshot::Sender<bool>,
    ),
    Remove(MeetingId, ParticipantId, oneshot::Sender<bool>),
    MoveOn(
        MeetingId,
        ParticipantId,
        DialplanPlace,
        oneshot::Sender<Result<(), LiveError>>,
    ),
    /// The booking was changed.
    Update(MeetingId, Box<RoomTerms>, oneshot::Sender<()>),
    EndMeeting(MeetingId, oneshot::Sender<u32>),
    /// Call somebody.
    Dial(Box<DialOrder>, oneshot::Sender<Result<(), LiveError>>),
    /// New settings for the calls to come.
    Reload(Box<GatewaySettings>),
    /// Take no new calls; answered when the last call is gone.
    Drain(oneshot::Sender<()>),
    /// End all calls and stop.
    Shutdown(oneshot::Sender<()>),
}

/// What is read without asking, renewed every second.
#[derive(Debug, Clone, Default)]
pub(super) struct Picture {
    pub(super) meetings: Vec<MeetingId>,
    /// All that somebody is in or waits for, by which revisions of their bookings.
    pub(super) rooms: Vec<(MeetingId, i64)>,
    pub(super) readiness: Readiness,
    pub(super) gauges: Gauges,
}

/// The gateway, for everybody else.
#[derive(Debug, Clone)]
pub struct GatewayHandle {
    requests: mpsc::Sender<Request>,
    picture: watch::Receiver<Picture>,
}

impl GatewayHandle {
    pub(super) const fn new(
        requests: mpsc::Sender<Request>,
        picture: watch::Receiver<Picture>,
    ) -> Self {
        Self { requests, picture }
    }

    /// The meetings that somebody is in or waits for, with the revisions of their bookings that they run by.
    #[must_use]
    pub fn running(&self) -> Vec<(MeetingId, i64)> {
        self.picture.borrow().rooms.clone()
    }

    /// Takes over new settings for the calls to come.
    pub async fn reload(&self, settings: GatewaySettings) {
        // An error means that the gateway has stopped.
        let _stopped = self
            .requests
            .send(Request::Reload(Box::new(settings)))
            .await;
    }

    /// Stops taking calls and waits until the last one is gone that another process couldn't take over.
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
            self.requests
                .send(request(reply))
                .await
                .map_err(|_| LiveError::Unavailable)?;
            answer.await.map_err(|_| LiveError::Unavailable)
        };
        match patience {
            Some(patience) => tokio::time::timeout(patience, asked)
                .await
                .map_err(|_| LiveError::Unavailable)?,
            None => asked.await,
        }
    }

    async fn steer(
        &self,
        request: impl FnOnce(oneshot::Sender<bool>) -> Request,
    ) -> Result<(), LiveError> {
        let found = self.ask(request, Some(ANSWER)).await?;
        if found {
            Ok(())
        } else {
            Err(LiveError::NoSuchParticipant)
        }
    }
}

impl LiveCalls for GatewayHandle {
    fn participants(&self, meeting: MeetingId) -> LiveFuture<'_, Vec<Participant>> {
        Box::pin(self.ask(
            move |reply| Request::Participants(meeting, reply),
            Some(ANSWER),
        ))
    }

    fn set_muted(
        &self,
        meeting: MeetingId,
        participant: ParticipantId,
        muted: bool,
    ) -> LiveFuture<'_, ()> {
        Box::pin(self.steer(move |reply| Request::SetMuted(meeting, participant, muted, reply)))
    }

    fn rename(
        &self,
        meeting: MeetingId,
        participant: ParticipantId,
        name: Option<String>,
    ) -> LiveFuture<'_, ()> {
        Box::pin(self.steer(move |reply| Request::Rename(meeting, participant, name, reply)))
    }

    fn remove(&self, meeting: MeetingId, participant: ParticipantId) -> LiveFuture<'_, ()> {
        Box::pin(self.steer(move |reply| Request::Remove(meeting, participant, reply)))
    }

    fn move_on(
        &self,
        meeting: MeetingId,
        participant: ParticipantId,
        place: DialplanPlace,
    ) -> LiveFuture<'_, ()> {
        Box::pin(async move {
            let ask = |reply| Request::MoveOn(meeting, participant, place, reply);
            self.ask(ask, Some(ANSWER)).await?
        })
    }

    fn update_meeting(&self, meeting: MeetingId, terms: RoomTerms) -> LiveFuture<'_, ()> {
        let terms = Box::new(terms);
        Box::pin(self.ask(
            move |reply| Request::Update(meeting, terms, reply),
            Some(ANSWER),
        ))
    }

    fn end_meeting(&self, meeting: MeetingId) -> LiveFuture<'_, u32> {
        Box::pin(self.ask(
            move |reply| Request::EndMeeting(meeting, reply),
            Some(ANSWER),
        ))
    }

    fn dial(&self, order: DialOrder) -> LiveFuture<'_, ()> {
        let order = Box::new(order);
        Box::pin(async move {
            self.ask(move |reply| Request::Dial(order, reply), Some(ANSWER))
                .await?
        })
    }

    fn live_meetings(&self) -> Vec<MeetingId> {
        self.picture.borrow().meetings.clone()
    }

    fn readiness(&self) -> Readiness {
        self.picture.borrow().readiness
    }

    fn gauges(&self) -> Gauges {
        self.picture.borrow().gauges.clone()
    }
}

impl Gateway {
    pub(super) fn handle_request(&mut self, request: Request) {
        match request {
            Request::Participants(meeting, reply) => answer(reply, self.participants(meeting)),
            Request::SetMuted(meeting, participant, muted, reply) => {
                let found = self
                    .rooms
                    .set_muted_by_host(meeting, participant, muted)
                    .is_ok();
                self.remember_participant(meeting, participant);
                answer(reply, found);
            }
            Request::Rename(meeting, participant, name, reply) => {
                let found = self.rooms.rename(meeting, participant, name).is_ok();
                self.remember_participant(meeting, participant);
                answer(reply, found);
            }
            Request::Remove(meeting, participant, reply) => {
                answer(reply, self.rooms.remove(meeting, participant).is_ok());
            }
            Request::MoveOn(meeting, participant, place, reply) => {
                self.move_on(meeting, participant, place, reply);
            }
            Request::Update(meeting, terms, reply) => {
                let (now, wall) = (clock::now(), clock::wall());
                self.rooms.update(now, wall, meeting, *terms);
                answer(reply, ());
            }
            Request::EndMeeting(meeting, reply) => {
                self.call_off(meeting);
                let how_many = self.rooms.end(meeting);
                // Who is answered asks at once what the meeting is now.
                self.picture
                    .send_modify(|picture| picture.meetings.retain(|live| *live != meeting));
                answer(reply, how_many);
            }
            // Who doesn't wait any more was told that nobody is called.
            Request::Dial(_, reply) if reply.is_closed() => {}
            Request::Dial(order, reply) => answer(reply, self.dial(*order)),
            Request::Reload(settings) => self.reload(*settings),
            Request::Drain(reply) => {
                self.draining = true;
                self.endpoint.set_accepting(false);
                self.endpoint.leave_trunks(clock::now());
                self.parted_by = Some(clock::now() + PARTING);
                self.show();
                self.drained.push(reply);
            }
            Request::Shutdown(_) => {}
        }
    }

    fn reload(&mut self, mut settings: GatewaySettings) {
        let most = self.engine.legs_max();
        if settings.calls_max > most {
            tracing::warn!(
                most,
                "limits.calls: there is room for as many as at the start, more need a restart"
            );
            settings.calls_max = most;
        }
        self.endpoint.set_trusted(settings.trusted.clone());
        self.transport
            .admit(settings.known(), settings.calls_per_source_max);
        self.settings = settings;
    }

    /// Something of his that only the room knows was changed.
    fn remember_participant(&mut self, meeting: MeetingId, participant: ParticipantId) {
        if let Some(call) = self.rooms.call_of(meeting, participant) {
            self.remember(clock::now(), call);
        }
    }

    /// Ends all calls but those that another process can take over; their last messages and records leave
    /// before the gateway does, and what gets lost of the messages is sent again for a while.
    pub(super) async fn shut_down(mut self, done: oneshot::Sender<()>, mut ears: Ears) {
        self.draining = true;
        let (left, ending): (Vec<_>, Vec<_>) = self
            .calls
            .iter()
            .map(|(id, active)| (*id, active.outlives_us()))
            .partition(|(_, outlives_us)| *outlives_us);
        for (id, _) in ending {
            self.input(id, CallInput::Drop(HangupBy::System));
        }
        if !left.is_empty() {
            tracing::info!(
                calls = left.len(),
                "calls by Asterisk are left for the next instance"
            );
        }
        self.asterisks.play_music(clock::now());
        let deadline = clock::now() + PARTING;
        while clock::now() < deadline {
            self.handle_burst(&mut ears.inbound);
            while let Ok((asterisk, news)) = ears.asterisks.try_recv() {
                self.asterisks.handle_news(clock::now(), asterisk, news);
            }
            self.endpoint.handle_timeout(clock::now());
            self.settle(clock::now());
            let has_parted = self.is_empty_of_its_own() && !self.endpoint.is_taking_leave();
            if has_parted && self.asterisks.are_done() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.engine.shutdown();
        answer(done, ());
    }

    /// Tells those who wait for the last call to be gone.
    pub(super) fn tell_drained(&mut self) {
        let parted =
            !self.endpoint.is_parting() || self.parted_by.is_some_and(|at| at <= clock::now());
        if self.draining && self.is_empty_of_its_own() && parted {
            for reply in self.drained.drain(..) {
                answer(reply, ());
            }
        }
    }

    /// No call is left that would end with this process, and no record is outstanding.
    fn is_empty_of_its_own(&self) -> bool {
        self.calls.values().all(ActiveCall::outlives_us) && self.parting.is_empty()
    }

    fn participants(&self, meeting: MeetingId) -> Vec<Participant> {
        self.rooms
            .participants(meeting)
            .iter()
            .map(|seat| self.participant(seat))
            .collect()
    }

    pub(super) fn participant(&self, seat: &Seat) -> Participant {
        let active = self.calls.get(&seat.call);
        let report = active.and_then(|active| active.report.as_ref());
        let summary = active.map(|active| active.call.summary());
        Participant {
            id: seat.participant,
            name: seat.name.clone(),
            role: seat.role,
            kind: summary.as_ref().map_or("", |summary| summary.kind),
            state: match seat.state {
                SeatState::Waiting => ParticipantState::Waiting,
                SeatState::Joined => ParticipantState::Joined,
            },
            number: summary.map_or_else(|| CallerNumber::new(""), |summary| summary.caller),
            muted: seat.muted_by.is_some(),
            muted_by: seat.muted_by,
            hand: seat.hand,
            talking: report.is_some_and(|report| report.talking),
            level_db: report.map_or(-127.0, |report| report.level.0),
            joined_at: seat.since,
            codec: active
                .and_then(|active| active.codec())
                .map_or("", |codec| codec.encoding_name()),
            quality: active.map_or_else(Quality::default, |active| active.window.quality()),
        }
    }

    /// Legs whose call is over are counted as SIP's until they are closed.
    fn legs_by_kind(&self) -> Vec<(&'static str, u64)> {
        let has_leg = |active: &&ActiveCall| {
            matches!(active.line, Line::Asterisk(_)) && active.leg().is_some()
        };
        let of_asterisks = self.calls.values().filter(has_leg).count() as u64;
        let all = self.engine.legs() as u64;
        vec![
            ("sip", all.saturating_sub(of_asterisks)),
            ("asterisk", of_asterisks),
        ]
    }

    /// Tables that many calls have made large become small again.
    fn give_room_back(&mut self) {
        self.endpoint.give_room_back();
        self.calls.shrink_to(2 * self.calls.len());
        self.by_dialog.shrink_to(2 * self.by_dialog.len());
        self.by_line.shrink_to(2 * self.by_line.len());
        self.by_leg.shrink_to(2 * self.by_leg.len());
        self.occupancy.shrink();
        self.parting.shrink_to(2 * self.parting.len());
    }

    /// Renews what others read without asking.
    pub(super) fn show(&mut self) {
        self.give_room_back();
        self.engine.watch_load(clock::now());
        let mut gauges = self.counters.gauges();
        let sip = self.endpoint.counters();
        let refused = sip.refused.iter().map(|(why, count)| (*why, *count));
        gauges.admission_refused.extend(refused);
        gauges.sip = SipTraffic {
            dialogs: sip.dialogs,
            transactions: sip.transactions,
            retransmissions: sip.retransmissions,
        };
        gauges.admission_refused.extend(self.transport.refused());
        gauges.legs = self.legs_by_kind();
        gauges.asterisks = self.asterisks.connected();
        gauges.trunks = self.trunks.standing(
            |trunk| self.endpoint.reach(trunk),
            |trunk| self.occupancy.of(Peer::Trunk(trunk)),
        );
        gauges.asterisk_events = self.asterisks.events();
        let threads = self.engine.health();
        gauges.tick_lateness = threads.iter().map(counters::lateness).collect();
        gauges.media_busy = threads.iter().map(|t| f64::from(t.busy)).collect();
        gauges.packets_dropped = counters::packets_dropped(&threads);
        let meetings: Vec<MeetingId> = self.rooms.live_meetings().collect();
        gauges.meetings_live = meetings.len() as u64;
        let readiness = if self.draining {
            Readiness::Closed
        } else if self.engine.overload().is_some() {
            Readiness::Overloaded
        } else {
            Readiness::Open
        };
        self.picture.send_replace(Picture {
            meetings,
            rooms: self.rooms.running().collect(),
            readiness,
            gauges,
        });
    }
}

/// Whoever asked may have gone away; that is his right.
pub(super) fn answer<T>(reply: oneshot::Sender<T>, value: T) {
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
