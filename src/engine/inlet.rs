//! The receiving side of a media thread: its legs' own sockets, the shared ports that it is the
//! home of, and what other threads received for its legs.
//!
//! All of it is bounded, so that no flood can keep a tick from its mixing; what is left over is
//! fetched at the next one.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::health::Counters;
use crate::engine::io::{BATCH, Inbox, Moment, PACKET_BYTES, Poller, packets_kept};
use crate::engine::link::{Envelope, LEGS_PER_LINK, LinkIn, LinkOut};
use crate::engine::routes::Routes;
use crate::media::command::{LegPort, LegSlot, LegSockets, Route, SharedPort, SharedSource};
use crate::media::leg::{Leg, Sifted, TICKS_PER_FRAME};
use crate::media::mixer::LegTable;
use crate::media::prefetch::prefetch;
use crate::units::LegId;

/// See the module's text.
pub(super) struct Inlet {
    thread: usize,
    poller: Poller,
    inbox: Inbox,
    homes: Vec<Home>,
    routes: Routes,
    parked: Vec<Parked>,
    links: Links,
    /// How often what came in meanwhile is fetched in this tick yet.
    again: u8,
    /// For so many legs its sockets keep all that comes within a frame, several times over.
    legs_kept: usize,
    /// When it was fetched last.
    fetched_at: Option<Instant>,
    /// Packets fetched in the last tick.
    fetched: usize,
    /// Did it leave some, or bring some of a handshake?
    hurries: bool,
    /// Packets came that don't say when.
    unstamped: bool,
}

/// A thread's ends of the links to and from all others.
#[derive(Default)]
pub(super) struct Links {
    /// By thread; none to itself.
    pub(super) to: Vec<Option<LinkIn>>,
    pub(super) from: Vec<LinkOut>,
    /// To the control side: what belongs to handshakes.
    pub(super) handshakes: Option<LinkIn>,
}

/// A shared port that is received from here.
struct Home {
    port: SharedPort,
    sockets: Arc<LegSockets>,
}

/// A packet for a leg that is on its way from one thread to another.
struct Parked {
    source: SharedSource,
    at: Instant,
    bytes: [u8; PACKET_BYTES],
    length: usize,
}

impl Inlet {
    /// For `legs_max` legs, any of which may come by a shared port if there are to be such. Allocates
    /// all it will ever need.
    pub(super) fn new(
        thread: usize,
        legs_max: usize,
        is_shared: bool,
        links: Links,
    ) -> std::io::Result<Self> {
        let shared = |count: usize| if is_shared { count } else { 0 };
        Ok(Self {
            thread,
            poller: Poller::new(SOCKETS_PER_POLL)?,
            inbox: Inbox::new(),
            homes: Vec::with_capacity(shared(HOME_PORTS_MAX)),
            routes: Routes::new(shared(2 * legs_max)),
            parked: Vec::with_capacity(shared(PARKED_MAX)),
            links,
            again: 0,
            legs_kept: LEGS_PER_FETCH,
            fetched_at: None,
            fetched: 0,
            hurries: false,
            unstamped: false,
        })
    }

    /// Begins to receive from a leg's own sockets.
    pub(super) fn watch(&mut self, slot: LegSlot, port: &LegPort) {
        if let LegPort::Own(sockets) = port {
            // A full epoll set (ENOSPC, ENOMEM) leaves the leg deaf; it is closed when its media
            // is found to be lost.
            let _deaf = self.poller.add(&sockets.rtp, mark(slot, false));
            let _deaf = self.poller.add(&sockets.rtcp, mark(slot, true));
            // What lies there already has not been passed over: nobody has looked.
            self.fetched_at = None;
        }
    }

    /// Ends it.
    pub(super) fn unwatch(&self, port: &LegPort) {
        if let LegPort::Own(sockets) = port {
            let _gone = self.poller.remove(&sockets.rtp);
            let _gone = self.poller.remove(&sockets.rtcp);
        }
    }

    /// Receives from a shared port from now on.
    pub(super) fn open_port(&mut self, port: SharedPort, sockets: Arc<LegSockets>) {
        debug_assert!(self.homes.len() < self.homes.capacity());
        self.legs_kept = self.legs_kept.min(packets_kept(&sockets.rtp) / RESERVE);
        self.homes.push(Home { port, sockets });
    }

    /// May what comes in stay where it is until the next frame of somebody here? Not what is others' to
    /// have, nor more than sockets and links keep, nor what doesn't say when it came.
    pub(super) fn may_wait(&self, legs: usize) -> bool {
        let relays = !self.homes.is_empty() && self.links.to.iter().any(Option::is_some);
        let linked = !self.links.from.is_empty() && legs > LEGS_PER_LINK;
        !relays && !linked && !self.unstamped && legs <= self.legs_kept
    }

    /// Is there more to do than frames ask for: a handshake, more packets than could be fetched, or than so
    /// many legs send within so many ticks?
    pub(super) const fn is_pressed(&self, legs: usize, ticks: u64) -> bool {
        let sent = 2 * legs as u64 * ticks.div_ceil(TICKS_PER_FRAME) + PACKETS_BESIDE * ticks;
        self.hurries || self.fetched as u64 > sent
    }

    /// Fetches what came in since the last tick.
    pub(super) fn receive(
        &mut self,
        at: Moment,
        legs: &mut LegTable,
        ports: &[Option<LegPort>],
        counters: &Counters,
    ) {
        self.again = AGAIN_PER_TICK;
        self.hurries = false;
        self.fetched = 0;
        self.fetch(at, legs, ports, counters);
    }

    /// Fetches what came in since `at`, when that was done last, if it is a while ago: bridges that take long
    /// to mix make those after them wait, but not what came for those meanwhile. Returns when it was done.
    pub(super) fn receive_again(
        &mut self,
        at: Moment,
        legs: &mut LegTable,
        ports: &[Option<LegPort>],
        counters: &Counters,
    ) -> Moment {
        let is_due = |at: Moment| at.later(FETCHED_EVERY);
        let Some(now) = is_due(at).filter(|_| self.again > 0) else {
            return at;
        };
        self.fetch(now, legs, ports, counters);
        self.take_forwarded(legs, counters);
        // Where that itself takes long there is a flood, which waits for the next tick.
        self.again = is_due(now).map_or(self.again - 1, |_| 0);
        now
    }

    fn fetch(
        &mut self,
        at: Moment,
        legs: &mut LegTable,
        ports: &[Option<LegPort>],
        counters: &Counters,
    ) {
        let at = at.after(self.fetched_at.replace(at.now()));
        for home in 0..self.homes.len() {
            for is_rtcp in [false, true] {
                self.receive_shared(at, home, is_rtcp, legs, counters);
            }
        }
        for _ in 0..POLLS_PER_TICK {
            if self.receive_ready(at, legs, ports, counters) == 0 {
                return;
            }
        }
        self.note_left_over(counters);
    }

    /// More came than is fetched in one go.
    fn note_left_over(&mut self, counters: &Counters) {
        self.hurries = true;
        self.fetched_at = None;
        counters.bounds_reached.add(1);
    }

    /// One packet from each socket that has some; how many that were. A flood at one leg doesn't starve
    /// the others.
    fn receive_ready(
        &mut self,
        at: Moment,
        legs: &mut LegTable,
        ports: &[Option<LegPort>],
        counters: &Counters,
    ) -> usize {
        let mut packets = 0;
        for index in 0..self.poller.poll() {
            self.prefetch_own(index, legs, ports);
            if let Some(mark) = self.poller.mark(index) {
                packets += self.receive_own(at, mark, legs, ports, counters);
            }
        }
        packets
    }

    /// What others received for legs that live here. After the commands, so that a leg is there
    /// before its packets are.
    pub(super) fn take_forwarded(&mut self, legs: &mut LegTable, counters: &Counters) {
        for link in &mut self.links.from {
            let mut left = FORWARDED_PER_LINK;
            while left > 0
                && let Some((envelope, packet)) = link.pop()
            {
                left -= 1;
                deliver(legs, &envelope, packet, counters);
            }
            counters.bounds_reached.add(u64::from(left == 0));
        }
    }

    /// Whose packets an address sends from now on; those that were kept go there.
    pub(super) fn route(
        &mut self,
        source: SharedSource,
        route: Route,
        legs: &mut LegTable,
        counters: &Counters,
    ) {
        if !self.routes.set(source, route) {
            counters.unknown_sources.add(1);
        }
        let source = source.canonical();
        let (links, thread) = (&mut self.links, self.thread);
        if let Route::To {
            thread: to,
            slot,
            leg,
        } = route
        {
            for parked in self.parked.iter().filter(|kept| kept.source == source) {
                let packet = parked.bytes.get(..parked.length).unwrap_or_default();
                let envelope = envelope(slot, leg, source, parked.at);
                links.pass(thread, to, legs, &envelope, packet, counters);
            }
        }
        if route != Route::Parked {
            self.parked.retain(|kept| kept.source != source);
        }
    }

    /// Before a socket's turn: its leg's memory, and that of the legs after it.
    fn prefetch_own(&self, index: usize, legs: &LegTable, ports: &[Option<LegPort>]) {
        let slot = |index| Some(unmark(self.poller.mark(index)?).0.0 as usize);
        let leg = |index| legs.get(slot(index)?)?.as_deref();
        if let Some(leg) = leg(index) {
            leg.prefetch_room();
        }
        if let Some(leg) = leg(index + 1) {
            leg.prefetch_receiver();
        }
        if let Some(leg) = leg(index + 2) {
            leg.prefetch_arrival();
        }
        if let Some(Some(port)) = slot(index + 2).and_then(|slot| ports.get(slot)) {
            port.prefetch();
        }
    }

    fn receive_shared(
        &mut self,
        at: Moment,
        home: usize,
        is_rtcp: bool,
        legs: &mut LegTable,
        counters: &Counters,
    ) {
        let Some(Home { port, sockets }) = self.homes.get(home) else {
            return;
        };
        let (port, socket) = (*port, sockets.of(is_rtcp));
        for _ in 0..BATCHES_PER_SHARED_SOCKET {
            let count = self.inbox.receive(socket, BATCH);
            counters.packets_in.add(count as u64);
            self.fetched += count;
            let source = |from| SharedSource {
                port,
                is_rtcp,
                from,
            };
            let routes = self.find_routes(count, source, legs);
            for (index, route) in routes.into_iter().enumerate().take(count) {
                prefetch_next(&routes, index, self.thread, legs);
                let Some((from, packet)) = self.inbox.packet(index) else {
                    continue;
                };
                let stamp = self.inbox.stamp(index);
                self.unstamped |= stamp.is_none();
                let (source, came) = (source(from), at.came(stamp));
                match route {
                    Route::To { thread, slot, leg } => {
                        let envelope = envelope(slot, leg, source, came);
                        let links = &mut self.links;
                        links.pass(self.thread, thread, legs, &envelope, packet, counters);
                    }
                    Route::Parked => park(&mut self.parked, source, came, packet, counters),
                    Route::Nowhere => counters.unknown_sources.add(1),
                }
            }
            if count < BATCH {
                return;
            }
        }
        self.note_left_over(counters);
    }

    /// Where each packet of a batch goes. All are looked for before any is delivered, so that what each
    /// needs is in the caches by then.
    fn find_routes(
        &self,
        count: usize,
        source: impl Fn(SocketAddr) -> SharedSource,
        legs: &LegTable,
    ) -> [Route; BATCH] {
        let senders =
            || (0..count).map(|index| self.inbox.packet(index).map(|(from, _)| source(from)));
        for source in senders().flatten() {
            self.routes.prefetch(source);
        }
        let mut routes = [Route::Nowhere; BATCH];
        for (place, source) in routes.iter_mut().zip(senders()) {
            *place = source.map_or(Route::Nowhere, |source| self.routes.find(source));
            if let Some(leg) = leg_on(self.thread, place, legs) {
                leg.prefetch_arrival();
            }
        }
        routes
    }

    /// Fetches one packet of a socket; how many that were.
    fn receive_own(
        &mut self,
        at: Moment,
        mark: u64,
        legs: &mut LegTable,
        ports: &[Option<LegPort>],
        counters: &Counters,
    ) -> usize {
        let (slot, is_rtcp) = unmark(mark);
        let index = slot.0 as usize;
        let (Some(Some(leg)), Some(Some(LegPort::Own(sockets)))) =
            (legs.get_mut(index), ports.get(index))
        else {
            return 0;
        };
        let count = self.inbox.receive_one(sockets.of(is_rtcp));
        counters.packets_in.add(count as u64);
        self.fetched += count;
        if let Some((from, packet)) = self.inbox.packet(0) {
            let stamp = self.inbox.stamp(0);
            self.unstamped |= stamp.is_none();
            let came = at.came(stamp);
            if is_rtcp {
                leg.handle_rtcp(came, from, packet);
                return count;
            }
            match leg.sift(came, from, packet) {
                Sifted::Media => leg.handle_rtp(came, from, packet),
                Sifted::Handshake => {
                    let source = own_source(from);
                    let envelope = envelope(slot, leg.id(), source, came);
                    self.hurries |= leg.parameters().awaits_keys();
                    self.links.pass_to_control(&envelope, packet, counters);
                }
                Sifted::Excess => {}
            }
        }
        count
    }
}

impl Links {
    /// Brings a packet to its leg, or to the thread that the leg lives on.
    fn pass(
        &mut self,
        here: usize,
        thread: usize,
        legs: &mut LegTable,
        envelope: &Envelope,
        packet: &[u8],
        counters: &Counters,
    ) {
        if thread == here {
            deliver(legs, envelope, packet, counters);
            return;
        }
        let link = self.to.get_mut(thread).and_then(Option::as_mut);
        if link.is_some_and(|link| link.push(envelope, packet)) {
            counters.forwarded.add(1);
        } else {
            counters.forwards_dropped.add(1);
        }
    }

    /// Hands what belongs to a handshake to the control side.
    fn pass_to_control(&mut self, envelope: &Envelope, packet: &[u8], counters: &Counters) {
        let link = self.handshakes.as_mut();
        if !link.is_some_and(|link| link.push(envelope, packet)) {
            counters.forwards_dropped.add(1);
        }
    }
}

impl LegPort {
    /// Before it is used: where the kernel's number of its socket lies.
    pub(super) fn prefetch(&self) {
        if let Self::Own(sockets) = self {
            prefetch(&*sockets.rtp);
        }
    }
}

impl LegSockets {
    pub(super) fn of(&self, is_rtcp: bool) -> &UdpSocket {
        if is_rtcp { &self.rtcp } else { &self.rtp }
    }
}

/// To the leg that is meant. Home and owner of a shared port learn of a move at different times: where
/// the leg has left, its place is empty or a stranger's. The leg itself asks whether the sender is its
/// peer.
fn deliver(legs: &mut LegTable, envelope: &Envelope, packet: &[u8], counters: &Counters) {
    let place = legs.get_mut(envelope.slot.0 as usize);
    let Some(leg) = place
        .and_then(Option::as_mut)
        .filter(|leg| leg.id() == envelope.leg)
    else {
        counters.strays.add(1);
        return;
    };
    if envelope.is_rtcp {
        leg.handle_rtcp(envelope.at, envelope.from, packet);
    } else {
        leg.handle_rtp(envelope.at, envelope.from, packet);
    }
}

/// The leg that a route leads to, where it lives here.
fn leg_on<'a>(here: usize, route: &Route, legs: &'a LegTable) -> Option<&'a Leg> {
    match route {
        Route::To { thread, slot, .. } if *thread == here => legs.get(slot.0 as usize)?.as_deref(),
        Route::To { .. } | Route::Parked | Route::Nowhere => None,
    }
}

/// Before a packet of a batch is delivered: what those after it need of their legs.
fn prefetch_next(routes: &[Route], index: usize, here: usize, legs: &LegTable) {
    let leg = |index| leg_on(here, routes.get(index)?, legs);
    if let Some(leg) = leg(index + 1) {
        leg.prefetch_room();
    }
    if let Some(leg) = leg(index + 3) {
        leg.prefetch_receiver();
    }
}

/// Who sent to a leg's own port: the envelope has no place for which that is, and needs none.
const fn own_source(from: SocketAddr) -> SharedSource {
    SharedSource {
        port: SharedPort(0),
        is_rtcp: false,
        from,
    }
}

const fn envelope(slot: LegSlot, leg: LegId, source: SharedSource, at: Instant) -> Envelope {
    Envelope {
        slot,
        leg,
        is_rtcp: source.is_rtcp,
        from: source.from,
        at,
    }
}

fn park(
    parked: &mut Vec<Parked>,
    source: SharedSource,
    at: Instant,
    packet: &[u8],
    counters: &Counters,
) {
    if parked.len() == parked.capacity() || packet.len() > PACKET_BYTES {
        counters.forwards_dropped.add(1);
        return;
    }
    let mut kept = Parked {
        source: source.canonical(),
        at,
        bytes: [0; PACKET_BYTES],
        length: packet.len(),
    };
    if let Some(room) = kept.bytes.get_mut(..packet.len()) {
        room.copy_from_slice(packet);
    }
    parked.push(kept);
}

fn mark(slot: LegSlot, is_rtcp: bool) -> u64 {
    u64::from(slot.0) << 1 | u64::from(is_rtcp)
}

const fn unmark(mark: u64) -> (LegSlot, bool) {
    (LegSlot((mark >> 1) as u32), mark & 1 == 1)
}

/// Shared ports that one thread may be the home of.
pub(super) const HOME_PORTS_MAX: usize = 8;
const SOCKETS_PER_POLL: usize = 512;
/// 128 packets per socket and tick, of 512 sockets at once: a hundred times what legs send.
const POLLS_PER_TICK: usize = 128;
const AGAIN_PER_TICK: u8 = 8;
const FETCHED_EVERY: Duration = Duration::from_micros(500);
/// 4,096 packets per socket and tick: four times what 4,000 legs send.
const BATCHES_PER_SHARED_SOCKET: usize = 64;
/// Half of that: so many may send for a whole frame before it is fetched.
const LEGS_PER_FETCH: usize = 2_048;
/// What a socket keeps, in packets that each of its legs sends within a frame.
const RESERVE: usize = 4;
/// Within a tick, beside what legs send: reports, and a stranger's.
const PACKETS_BESIDE: u64 = 16;
const FORWARDED_PER_LINK: usize = 4_096;
/// A move takes a few ticks: a packet or two of every leg that moves meanwhile.
const PARKED_MAX: usize = 128;
