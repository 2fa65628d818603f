//! The gateway: one task that owns the SIP endpoint, the engine's control side, the rooms and all calls.
//!
//! It takes one input at a time, lets the state machine concerned decide, and carries out what it says
//! until nothing is left to do. No lock, no shared state: everybody else talks to it by message.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

use super::active_call::{ActiveCall, Line};
use super::asterisk::{AsteriskCaller, Asterisks};
use super::asterisk_link::News;
use super::clock;
use super::events::Reporter;
use super::occupancy::{Occupancy, Peer};
use super::records::Recorder;
use super::requests::{Picture, Request};
use super::settings::GatewaySettings;
use super::transport::{Inbound, Transport};
use super::trunks::Trunks;
use crate::booking::admission::CallId;
use crate::booking::{Bookings, CallRecord, PinVerdict};
use crate::call::{CallInput, Observer, Rooms, Speaker};
use crate::engine::Control;
use crate::handshake::Identity;
use crate::sip::Endpoint;
use crate::sip::event::DialogId;
use crate::units::LegId;

/// What comes back from work that was spawned.
#[derive(Debug)]
pub(super) enum Wake {
    /// The bookings' answer.
    PinVerdict(CallId, PinVerdict),
    /// The pause before a call of ours is tried once more is over.
    TryAgain(CallId),
}

/// See the module's text.
pub(super) struct Gateway {
    pub(super) settings: GatewaySettings,
    pub(super) bookings: Bookings,
    pub(super) speaker: Arc<dyn Speaker>,
    pub(super) endpoint: Endpoint,
    pub(super) transport: Transport,
    pub(super) engine: Control,
    pub(super) rooms: Rooms,
    pub(super) calls: HashMap<CallId, ActiveCall>,
    pub(super) by_dialog: HashMap<DialogId, CallId>,
    pub(super) asterisks: Asterisks,
    pub(super) trunks: Trunks,
    pub(super) by_line: HashMap<AsteriskCaller, CallId>,
    pub(super) by_leg: HashMap<LegId, CallId>,
    pub(super) occupancy: Occupancy,
    /// Records that wait for their leg's last figures.
    pub(super) parting: HashMap<LegId, Box<CallRecord>>,
    pub(super) recorder: Recorder,
    pub(super) observer: Observer,
    pub(super) reporter: Reporter,
    pub(super) wakes: mpsc::Sender<Wake>,
    pub(super) picture: watch::Sender<Picture>,
    pub(super) last_token: u32,
    pub(super) counters: super::counters::Counters,
    pub(super) draining: bool,
    /// Registrars that haven't answered our parting by then are not waited for.
    pub(super) parted_by: Option<Instant>,
    /// Those who wait for the last call to be gone.
    pub(super) drained: Vec<oneshot::Sender<()>>,
    /// Who we are in handshakes; `None`: none are made.
    pub(super) identity: Option<Identity>,
    /// When handshakes are to be looked after.
    pub(super) handshakes_due: BTreeSet<(Instant, CallId)>,
    deadlines: BTreeSet<(Instant, CallId)>,
    inputs: VecDeque<(CallId, CallInput)>,
}

/// The machines a gateway steers, made by `start`.
pub(super) struct Machines {
    pub(super) settings: GatewaySettings,
    pub(super) bookings: Bookings,
    pub(super) speaker: Arc<dyn Speaker>,
    pub(super) endpoint: Endpoint,
    pub(super) transport: Transport,
    pub(super) engine: Control,
    pub(super) recorder: Recorder,
    pub(super) reporter: Reporter,
    pub(super) asterisks: Asterisks,
    pub(super) trunks: Trunks,
    pub(super) identity: Option<Identity>,
}

/// What a gateway hears by.
pub(super) struct Ears {
    pub(super) inbound: mpsc::Receiver<Inbound>,
    pub(super) asterisks: mpsc::Receiver<(usize, News)>,
    pub(super) wakes: mpsc::Receiver<Wake>,
    pub(super) requests: mpsc::Receiver<Request>,
}

impl Gateway {
    pub(super) fn new(
        machines: Machines,
        wakes: mpsc::Sender<Wake>,
        picture: watch::Sender<Picture>,
    ) -> Self {
        let Machines {
            settings,
            bookings,
            speaker,
            endpoint,
            transport,
            engine,
            recorder,
            reporter,
            asterisks,
            trunks,
            identity,
        } = machines;
        Self {
            settings,
            bookings,
            speaker,
            endpoint,
            transport,
            engine,
            rooms: Rooms::default(),
            calls: HashMap::new(),
            by_dialog: HashMap::new(),
            asterisks,
            trunks,
            by_line: HashMap::new(),
            by_leg: HashMap::new(),
            occupancy: Occupancy::default(),
            parting: HashMap::new(),
            recorder,
            observer: Observer::default(),
            reporter,
            wakes,
            picture,
            last_token: 0,
            counters: super::counters::Counters::default(),
            draining: false,
            parted_by: None,
            drained: Vec::new(),
            identity,
            handshakes_due: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            inputs: VecDeque::new(),
        }
    }

    /// Runs until a `Request::Shutdown`, or until everybody who could ask for one is gone.
    pub(super) async fn run(mut self, mut ears: Ears) {
        let mut pump = tokio::time::interval(PUMP);
        pump.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut show = tokio::time::interval(SHOW);
        let mut extend = tokio::time::interval(EXTEND);
        loop {
            let wake_at = self.next_timeout().unwrap_or_else(|| clock::now() + IDLE);
            tokio::select! {
                Some(message) = ears.inbound.recv() => {
                    self.handle_inbound(clock::now(), message);
                    self.handle_burst(&mut ears.inbound);
                }
                Some((asterisk, news)) = ears.asterisks.recv() => {
                    self.asterisks.handle_news(clock::now(), asterisk, news);
                }
                Some(wake) = ears.wakes.recv() => self.handle_wake(wake),
                request = ears.requests.recv() => match request {
                    Some(Request::Shutdown(done)) => {
                        self.shut_down(done, ears).await;
                        return;
                    }
                    Some(request) => self.handle_request(request),
                    None => return,
                },
                () = tokio::time::sleep_until(wake_at.into()) => self.handle_timeouts(clock::now()),
                _ = pump.tick(), if self.engine_busy() => {}
                _ = show.tick() => self.show(),
                _ = extend.tick() => self.extend_counted(),
            }
            self.settle(clock::now());
            self.tell_drained();
        }
    }

    pub(super) fn handle_burst(&mut self, inbound: &mut mpsc::Receiver<Inbound>) {
        for _ in 0..BURST {
            let Ok(message) = inbound.try_recv() else {
                return;
            };
            self.handle_inbound(clock::now(), message);
        }
    }

    fn handle_inbound(&mut self, now: Instant, message: Inbound) {
        match message {
            Inbound::Datagram(flow, bytes) => self.endpoint.handle_datagram(now, flow, &bytes),
            Inbound::Opened(connection, writer) => self.transport.opened(connection, writer),
            Inbound::Proven(connection, trunks) => {
                self.endpoint.handle_proven(connection, trunks);
            }
            Inbound::Stream(flow, bytes) => self.endpoint.handle_stream(now, flow, &bytes),
            Inbound::Closed(connection) => {
                self.transport.close(connection);
                self.endpoint.handle_closed(now, connection);
            }
            Inbound::Reached { trunk, flow, local } => {
                self.trunk_reached(now, trunk, flow, local);
            }
            Inbound::Sought { trunk, sought } => self.handle_sought(now, trunk, sought),
        }
    }

    fn handle_wake(&mut self, wake: Wake) {
        match wake {
            Wake::PinVerdict(call, verdict) => {
                if !self.calls.contains_key(&call) {
                    return self.give_seat_back(call, &verdict);
                }
                self.input(call, CallInput::PinVerdict(verdict));
            }
            Wake::TryAgain(call) => self.try_again(clock::now(), call),
        }
    }

    fn handle_timeouts(&mut self, now: Instant) {
        if self.endpoint.poll_timeout().is_some_and(|at| at <= now) {
            self.endpoint.handle_timeout(now);
        }
        self.asterisks.handle_timeout(now);
        if self.rooms.poll_timeout().is_some_and(|at| at <= now) {
            self.rooms.handle_timeout(now, clock::wall());
        }
        while let Some(&(at, id)) = self.deadlines.first().filter(|(at, _)| *at <= now) {
            self.deadlines.remove(&(at, id));
            if let Some(active) = self.calls.get_mut(&id) {
                active.deadline = None;
                active.call.handle_timeout(now, clock::wall());
                self.drain_call(now, id);
            }
        }
        self.look_after_handshakes(now);
    }

    /// Carries out everything that the last input led to. Of the engine's news so much at once that messages and
    /// timers have their turn too: with handshakes in it strangers have a say in how much there is.
    pub(super) fn settle(&mut self, now: Instant) {
        let mut news = ENGINE_NEWS_AT_ONCE;
        loop {
            let mut moved = false;
            while let Some(event) = self.endpoint.poll_event() {
                self.handle_sip(now, event);
                moved = true;
            }
            while self.handle_asterisks() {
                moved = true;
            }
            self.engine.pump();
            while news > 0
                && let Some(event) = self.engine.poll_event()
            {
                news -= 1;
                self.handle_engine(now, event);
                moved = true;
            }
            while let Some((id, input)) = self.inputs.pop_front() {
                self.step(now, id, input);
                moved = true;
            }
            while let Some(output) = self.rooms.poll_output() {
                self.handle_room(output);
                moved = true;
            }
            self.report();
            self.transmit(now);
            if !moved {
                return;
            }
        }
    }

    fn transmit(&mut self, now: Instant) {
        self.asterisks.transmit();
        while let Some(transmit) = self.endpoint.poll_transmit() {
            let flow = transmit.flow;
            if !self.transport.send(transmit)
                && let Some(connection) = flow.connection()
            {
                self.endpoint.handle_closed(now, connection);
            }
        }
        while let Some(connection) = self.endpoint.poll_close() {
            self.transport.close(connection);
        }
    }

    /// Queues an input for a call; it is taken before the gateway waits again.
    pub(super) fn input(&mut self, id: CallId, input: CallInput) {
        self.inputs.push_back((id, input));
    }

    fn step(&mut self, now: Instant, id: CallId, input: CallInput) {
        if let Some(active) = self.calls.get_mut(&id) {
            active.call.handle_input(now, clock::wall(), input);
            self.drain_call(now, id);
        }
    }

    fn drain_call(&mut self, now: Instant, id: CallId) {
        while let Some(output) = self
            .calls
            .get_mut(&id)
            .and_then(|active| active.call.poll_output())
        {
            self.carry_out(now, id, output);
        }
        self.remember(now, id);
        let Some(active) = self.calls.get_mut(&id) else {
            return;
        };
        let next = active.call.poll_timeout();
        if next != active.deadline {
            if let Some(at) = active.deadline {
                self.deadlines.remove(&(at, id));
            }
            self.deadlines.extend(next.map(|at| (at, id)));
            active.deadline = next;
        }
    }

    /// Takes a finished call out of every table.
    pub(super) fn forget(&mut self, id: CallId) -> Option<ActiveCall> {
        let active = self.calls.remove(&id)?;
        if let Some(at) = active.deadline {
            self.deadlines.remove(&(at, id));
        }
        if let Some(at) = active.secured.as_ref().and_then(|secured| secured.due) {
            self.handshakes_due.remove(&(at, id));
        }
        match &active.line {
            Line::Sip { dialog, .. } => drop(self.by_dialog.remove(dialog)),
            Line::Asterisk(line) => drop(self.by_line.remove(line)),
            Line::Ahead | Line::Gone => {}
        }
        self.occupancy.change(active.peer, None);
        Some(active)
    }

    /// The call counts for this peer from now on, and for no other.
    pub(super) fn count_for(&mut self, id: CallId, peer: Option<Peer>) {
        if let Some(active) = self.calls.get_mut(&id) {
            self.occupancy.change(active.peer, peer);
            active.peer = peer;
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        let calls = self.deadlines.first().map(|&(at, _)| at);
        let handshakes = self.handshakes_due.first().map(|&(at, _)| at);
        [
            self.endpoint.poll_timeout(),
            self.asterisks.poll_timeout(),
            self.rooms.poll_timeout(),
            calls,
            handshakes,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn engine_busy(&self) -> bool {
        self.engine.legs() > 0 || !self.parting.is_empty()
    }
}

/// How often the engine's rings are looked at while there are legs: a key waits no longer than this.
const PUMP: Duration = Duration::from_millis(20);
/// How old what `live_meetings` and `gauges` give may be.
const SHOW: Duration = Duration::from_millis(500);
/// How often it is said that calls go on which are counted.
const EXTEND: Duration = Duration::from_secs(30);
/// How long the gateway sleeps with nothing to do.
const IDLE: Duration = Duration::from_secs(3_600);
/// Messages taken in one go before timers and the engine have their turn.
const BURST: usize = 64;
/// News of the engine worked off in one go; what is left waits for [`PUMP`] at most.
const ENGINE_NEWS_AT_ONCE: usize = 512;
