//! One media thread: it owns its legs, their sockets and its bridges. Every 5 ms it fetches what
//! came in, does what the control side asks, and mixes a quarter of the bridges and lone legs; ticks that
//! have none of these it sleeps through, where nobody waits for it.
//! It never allocates, frees, locks, logs or blocks (but for the sleep between ticks).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rtrb::{Consumer, Producer};

use crate::engine::config::EngineConfig;
use crate::engine::health::Counters;
use crate::engine::inlet::{Inlet, Links};
use crate::engine::io::{Moment, Sleeper};
use crate::engine::outlet::{Outlet, SharedOutlet};
use crate::engine::phases::{PHASES, Phases};
use crate::media::command::{
    BridgeSlot, EngineEvent, LegCommand, LegPort, LegSlot, MixerCommand, Returned,
};
use crate::media::leg::{Leg, Tick};
use crate::media::mixer::{Bridge, Desk, Fitting, prefetch_ahead};
use crate::media::playback::SilenceFrames;
use crate::media::sender::PacketBuffer;
use crate::media::treatment::Denoiser;

/// One media thread. [`MediaThread::tick`] is all it does; tests call it on a thread of theirs.
pub struct MediaThread {
    epoch: Instant,
    /// Are its sockets IPv6?
    is_ipv6: bool,
    next_tick: u64,
    last_tick: u64,
    /// Until then it sleeps through no tick: what was asked for is seldom all, and a flood goes on.
    awake_until: u64,
    legs: Box<[Option<Box<Leg>>]>,
    /// By leg slot: its way to its peer.
    ports: Box<[Option<LegPort>]>,
    bridges: Box<[Option<Box<Bridge>>]>,
    desk: Box<Desk>,
    phases: Phases,
    rings: Rings,
    inlet: Inlet,
    shared: SharedOutlet,
    silence: Arc<SilenceFrames>,
    frame: Box<PacketBuffer>,
    counters: Arc<Counters>,
}

/// A thread among the others.
pub(super) struct ThreadPlace {
    /// Which it is.
    pub(super) index: usize,
    /// What leads to and from the others.
    pub(super) links: Links,
}

/// The thread's ends of its rings.
pub(super) struct Rings {
    pub(super) commands: Consumer<MixerCommand>,
    pub(super) events: Producer<EngineEvent>,
    pub(super) returned: Producer<Returned>,
}

impl MediaThread {
    /// A thread's whole state, with room for `legs_max` legs. Allocates all it will ever need.
    pub(super) fn new(
        epoch: Instant,
        config: &EngineConfig,
        place: ThreadPlace,
        rings: Rings,
        silence: Arc<SilenceFrames>,
        counters: Arc<Counters>,
    ) -> std::io::Result<Self> {
        let legs_max = config.legs_max;
        Ok(Self {
            epoch,
            is_ipv6: config.address.is_ipv6(),
            next_tick: 0,
            last_tick: 0,
            awake_until: 0,
            legs: (0..legs_max).map(|_| None).collect(),
            ports: (0..legs_max).map(|_| None).collect(),
            bridges: (0..config.bridges_max()).map(|_| None).collect(),
            desk: Box::default(),
            phases: Phases::new(legs_max, config.bridges_max()),
            rings,
            inlet: Inlet::new(place.index, legs_max, config.shared, place.links)?,
            shared: SharedOutlet::new(config.shared),
            silence,
            frame: Box::default(),
            counters,
        })
    }

    /// Ticks until it is told to stop.
    pub(super) fn run(mut self, sleeper: Sleeper, stop: &AtomicBool) {
        while !stop.load(Ordering::Acquire) {
            let at = sleeper.sleep_until(tick_time(self.next_tick));
            self.tick_at(at);
        }
    }

    /// Everything that is due at `now`; nothing, where that is before the next tick. Packets come when
    /// they are fetched.
    pub fn tick(&mut self, now: Instant) {
        self.tick_at(Moment::pushed(now));
    }

    fn tick_at(&mut self, at: Moment) {
        let now = at.now();
        let passed = now.saturating_duration_since(self.epoch);
        let current = u64::try_from(passed.as_nanos() / TICK.as_nanos()).unwrap_or(u64::MAX);
        let Some(behind) = current.checked_sub(self.next_tick) else {
            return;
        };
        self.counters
            .woke(passed.saturating_sub(tick_time(self.next_tick)));
        if behind > PHASES {
            self.note_absence(now);
        }
        let skipped = behind.saturating_sub(PHASES - 1);
        self.counters.skipped.add(skipped);
        self.counters.doubled.add(behind - skipped);
        self.inlet
            .receive(at, &mut self.legs, &self.ports, &self.counters);
        let has_obeyed = self.obey(now);
        self.inlet.take_forwarded(&mut self.legs, &self.counters);
        for number in self.next_tick + skipped..=current {
            self.counters.ticks.add(1);
            self.counters
                .late
                .add(u64::from(passed.saturating_sub(tick_time(number)) > TICK));
            self.mix(at, number);
        }
        let ticks = current - self.last_tick;
        if has_obeyed || self.inlet.is_pressed(self.phases.legs(), ticks) {
            self.awake_until = current + AWAKE_TICKS;
        }
        self.last_tick = current;
        self.next_tick = self.tick_after(current, at);
    }

    /// The next tick that has to be run. What comes meanwhile must say itself when that was.
    fn tick_after(&self, current: u64, at: Moment) -> u64 {
        let (legs, next) = (self.phases.legs(), current + 1);
        let may_sleep = at.is_stamped() && current >= self.awake_until && self.inlet.may_wait(legs);
        if !may_sleep {
            return next;
        }
        let early = u64::from(legs > LEGS_AT_ONCE);
        (self.phases.next_used(next) - early).max(next)
    }

    /// To be called once on the thread that will tick, before it does: what libraries keep per thread
    /// is made now rather than in a tick.
    pub fn prepare() {
        Denoiser::prepare_thread();
    }

    /// When the next tick is due.
    #[must_use]
    pub fn next_tick_at(&self) -> Instant {
        self.epoch + tick_time(self.next_tick)
    }

    /// Packets have waited for longer than a frame because of this thread, not of the network.
    fn note_absence(&mut self, now: Instant) {
        let since = self.epoch + tick_time(self.last_tick);
        for leg in self.legs.iter_mut().flatten() {
            leg.note_absence(since, now);
        }
    }

    /// Does what the control side asks, as long as there is room to give back what that frees. Was there
    /// something?
    fn obey(&mut self, now: Instant) -> bool {
        let asked = !self.rings.commands.is_empty();
        for _ in 0..COMMANDS_PER_TICK {
            if !self.obey_one(now) {
                break;
            }
        }
        asked
    }

    fn obey_one(&mut self, now: Instant) -> bool {
        if self.rings.returned.slots() < RETURNS_PER_COMMAND {
            return false;
        }
        let Ok(command) = self.rings.commands.pop() else {
            return false;
        };
        self.handle_command(now, command);
        true
    }

    fn handle_command(&mut self, now: Instant, command: MixerCommand) {
        match command {
            MixerCommand::Adopt { slot, leg, port } => self.adopt(slot, leg, port),
            MixerCommand::OpenPort {
                port,
                sockets,
                is_home,
            } => {
                if is_home {
                    self.inlet.open_port(port, Arc::clone(&sockets));
                }
                self.shared.open_port(port, sockets);
            }
            MixerCommand::Route { source, route } => {
                self.inlet
                    .route(source, route, &mut self.legs, &self.counters);
            }
            MixerCommand::Leg { slot, command } => self.handle_leg_command(now, slot, command),
            MixerCommand::OpenBridge { bridge, new } => self.open_bridge(bridge, new),
            MixerCommand::CloseBridge { bridge } => self.close_bridge(bridge),
            MixerCommand::FitBridge { bridge, fitting } => self.fit_bridge(bridge, fitting),
            MixerCommand::PlayToBridge { bridge, clip } => {
                let replaced = match self.bridges.get_mut(bridge.0 as usize) {
                    Some(Some(bridge)) => bridge.play(clip),
                    Some(None) | None => Some(clip),
                };
                self.rings.give_back(replaced.map(Returned::Clip));
            }
        }
    }

    fn handle_leg_command(&mut self, now: Instant, slot: LegSlot, command: LegCommand) {
        let Some(Some(leg)) = self.legs.get_mut(slot.0 as usize) else {
            self.rings.give_back(contents(command));
            return;
        };
        match command {
            LegCommand::Release => self.remove(slot, |slot, leg, port| Returned::Released {
                slot,
                leg,
                port,
            }),
            LegCommand::Close => {
                self.remove(slot, |slot, leg, port| Returned::Closed { slot, leg, port })
            }
            LegCommand::Update(mut update) => {
                if update.codecs.is_some()
                    && let Some(bridge) = self.phases.bridge_of(slot)
                    && let Some(Some(bridge)) = self.bridges.get_mut(bridge.0 as usize)
                {
                    bridge.detach(leg);
                }
                leg.update(now, &mut update);
                self.rings.give_back(Some(Returned::Update(update)));
            }
            LegCommand::Play(playlist) => self
                .rings
                .give_back(leg.play(playlist).map(Returned::Playlist)),
            LegCommand::StopPlaying => self
                .rings
                .give_back(leg.stop_playing().map(Returned::Playlist)),
            LegCommand::Music(music) => self
                .rings
                .give_back(leg.set_music(music).map(Returned::Rendition)),
            LegCommand::Mute(muted) => leg.set_muted(muted),
            LegCommand::Rewire(port) => self.rewire(slot, port),
            LegCommand::Sound {
                automatic_gain,
                denoiser,
            } => self.rings.give_back(
                leg.set_sound(automatic_gain, denoiser)
                    .map(Returned::Denoiser),
            ),
            LegCommand::Join(bridge) => self.join(slot, bridge),
            LegCommand::Echo => self.seat_alone(slot, true),
            LegCommand::Leave => self.seat_alone(slot, false),
        }
    }

    fn adopt(&mut self, slot: LegSlot, mut leg: Box<Leg>, port: LegPort) {
        let index = slot.0 as usize;
        let (Some(leg_place @ None), Some(port_place @ None)) =
            (self.legs.get_mut(index), self.ports.get_mut(index))
        else {
            self.rings
                .give_back(Some(Returned::Closed { slot, leg, port }));
            return;
        };
        self.inlet.watch(slot, &port);
        leg.reseat();
        *leg_place = Some(leg);
        *port_place = Some(port);
        self.phases.seat_alone(slot);
    }

    fn remove(
        &mut self,
        slot: LegSlot,
        returned: impl FnOnce(LegSlot, Box<Leg>, LegPort) -> Returned,
    ) {
        self.leave_bridge(slot);
        self.phases.unseat(slot);
        let index = slot.0 as usize;
        let leg = self.legs.get_mut(index).and_then(Option::take);
        let port = self.ports.get_mut(index).and_then(Option::take);
        if let (Some(leg), Some(port)) = (leg, port) {
            self.inlet.unwatch(&port);
            self.rings.give_back(Some(returned(slot, leg, port)));
        }
    }

    /// Another way to the same peer.
    fn rewire(&mut self, slot: LegSlot, port: LegPort) {
        if let Some(Some(place)) = self.ports.get_mut(slot.0 as usize) {
            self.inlet.watch(slot, &port);
            let old = std::mem::replace(place, port);
            self.inlet.unwatch(&old);
            self.rings.give_back(Some(Returned::Port(old)));
        }
    }

    fn join(&mut self, slot: LegSlot, bridge_slot: BridgeSlot) {
        if self.phases.bridge_of(slot) == Some(bridge_slot) {
            return;
        }
        self.leave_bridge(slot);
        let Some(Some(leg)) = self.legs.get_mut(slot.0 as usize) else {
            return;
        };
        leg.set_echo(false);
        leg.reseat();
        if let Some(Some(bridge)) = self.bridges.get_mut(bridge_slot.0 as usize)
            && bridge.join(slot)
        {
            self.phases.seat_in(slot, bridge_slot);
        } else {
            self.phases.seat_alone(slot);
        }
    }

    fn seat_alone(&mut self, slot: LegSlot, echo: bool) {
        self.leave_bridge(slot);
        if let Some(Some(leg)) = self.legs.get_mut(slot.0 as usize) {
            leg.set_echo(echo);
            leg.reseat();
            self.phases.seat_alone(slot);
        }
    }

    fn leave_bridge(&mut self, slot: LegSlot) {
        if let Some(bridge) = self.phases.bridge_of(slot)
            && let Some(Some(bridge)) = self.bridges.get_mut(bridge.0 as usize)
            && let Some(Some(leg)) = self.legs.get_mut(slot.0 as usize)
        {
            bridge.leave(slot, leg);
        }
    }

    fn open_bridge(&mut self, slot: BridgeSlot, bridge: Box<Bridge>) {
        match self.bridges.get_mut(slot.0 as usize) {
            Some(place @ None) => {
                *place = Some(bridge);
                self.phases.seat_bridge(slot);
            }
            Some(Some(_)) | None => self
                .rings
                .give_back(Some(Returned::Bridge { slot, bridge })),
        }
    }

    fn fit_bridge(&mut self, slot: BridgeSlot, fitting: Fitting) {
        let unused = match self.bridges.get_mut(slot.0 as usize) {
            Some(Some(bridge)) => bridge.fit(fitting),
            Some(None) | None => Some(fitting),
        };
        self.rings.give_back(unused.map(Returned::Fitting));
    }

    fn close_bridge(&mut self, slot: BridgeSlot) {
        while let Some(member) = self.any_member(slot) {
            self.seat_alone(member, false);
        }
        self.phases.unseat_bridge(slot);
        let bridge = self.bridges.get_mut(slot.0 as usize).and_then(Option::take);
        self.rings
            .give_back(bridge.map(|bridge| Returned::Bridge { slot, bridge }));
    }

    fn any_member(&self, slot: BridgeSlot) -> Option<LegSlot> {
        self.bridges
            .get(slot.0 as usize)?
            .as_ref()?
            .members()
            .next()
    }

    fn mix(&mut self, mut at: Moment, number: u64) {
        let Self {
            inlet,
            legs,
            bridges,
            desk,
            phases,
            rings,
            frame,
            shared,
            ..
        } = self;
        let silence = &self.silence;
        let tick = |at: Moment| Tick {
            now: at.now(),
            number,
            silence,
        };
        let mut outlet = Outlet {
            ports: &self.ports,
            shared,
            is_ipv6: self.is_ipv6,
            counters: &self.counters,
        };
        let row = phases.bridges(number);
        for (index, slot) in row.iter().enumerate() {
            let after = |count| bridge_at(*row.get(index + 1 + count)?, bridges);
            prefetch_ahead(after, legs);
            let Some(Some(bridge)) = bridges.get_mut(slot.0 as usize) else {
                continue;
            };
            at = inlet.receive_again(at, legs, &self.ports, &self.counters);
            let tick = tick(at);
            bridge.mix_tick(&tick, legs, desk, &mut outlet);
            outlet.flush();
            if rings.has_room_back() {
                rings.give_back(bridge.poll_finished().map(Returned::Clip));
            }
            for (index, member) in bridge.members().enumerate() {
                bridge.prefetch_news(index, legs);
                rings.report(legs, member, &tick, &self.counters);
            }
            let next = row.get(index + 1);
            if let Some(next) = next.and_then(|slot| bridge_at(*slot, bridges)) {
                next.prefetch_buffers(legs);
            }
        }
        let tick = tick(at);
        for slot in phases.lone(number) {
            let Some(Some(leg)) = legs.get_mut(slot.0 as usize) else {
                continue;
            };
            leg.lone_tick(&tick, slot, frame, &mut outlet);
            rings.report(legs, slot, &tick, &self.counters);
        }
        outlet.flush();
    }
}

impl Rings {
    /// Tells what must be told of a leg; what finds no room stays in the leg and is told later.
    fn tell(&mut self, leg: &mut Leg) {
        while !self.events.is_full() {
            let Some(event) = leg.poll_event() else { break };
            self.push_event(event);
        }
        while !self.events.is_full() && self.has_room_back() {
            let Some(playlist) = leg.poll_finished() else {
                break;
            };
            self.push_event(EngineEvent::PlayFinished {
                leg: leg.id(),
                token: playlist.token,
            });
            self.give_back(Some(Returned::Playlist(playlist)));
        }
    }

    /// After a leg's frame: what must be told, and once a second its figures, if there is room
    /// beyond what is kept free for the former.
    fn report(
        &mut self,
        legs: &mut [Option<Box<Leg>>],
        slot: LegSlot,
        tick: &Tick<'_>,
        counters: &Counters,
    ) {
        let Some(Some(leg)) = legs.get_mut(slot.0 as usize) else {
            return;
        };
        self.tell(leg);
        if !(tick.frame() + u64::from(slot.0)).is_multiple_of(FRAMES_PER_REPORT) {
            return;
        }
        if self.events.slots() > EVENTS_RESERVED {
            self.push_event(EngineEvent::Report {
                leg: leg.id(),
                report: leg.report(),
            });
        } else {
            counters.reports_dropped.add(1);
        }
    }

    /// Only called with room for it.
    fn push_event(&mut self, event: EngineEvent) {
        let pushed = self.events.push(event);
        debug_assert!(pushed.is_ok(), "an event was pushed without room");
    }

    fn has_room_back(&self) -> bool {
        self.returned.slots() > RETURNS_PER_COMMAND
    }

    /// Only called with room for it: [`MediaThread::obey`] sees to it before each command.
    fn give_back(&mut self, returned: Option<Returned>) {
        if let Some(returned) = returned {
            let pushed = self.returned.push(returned);
            debug_assert!(pushed.is_ok(), "something was given back without room");
        }
    }
}

fn bridge_at(slot: BridgeSlot, bridges: &[Option<Box<Bridge>>]) -> Option<&Bridge> {
    bridges.get(slot.0 as usize)?.as_deref()
}

/// What a command for a leg that is gone carries, to be dropped elsewhere.
fn contents(command: LegCommand) -> Option<Returned> {
    match command {
        LegCommand::Update(update) => Some(Returned::Update(update)),
        LegCommand::Play(playlist) => Some(Returned::Playlist(playlist)),
        LegCommand::Music(music) => music.map(Returned::Rendition),
        LegCommand::Rewire(port) => Some(Returned::Port(port)),
        LegCommand::Sound { denoiser, .. } => denoiser.map(Returned::Denoiser),
        LegCommand::Release
        | LegCommand::Close
        | LegCommand::StopPlaying
        | LegCommand::Mute(_)
        | LegCommand::Join(_)
        | LegCommand::Echo
        | LegCommand::Leave => None,
    }
}

fn tick_time(number: u64) -> Duration {
    Duration::from_nanos(number.saturating_mul(TICK.as_nanos() as u64))
}

/// Four ticks make a frame.
pub(super) const TICK: Duration = Duration::from_millis(5);
const COMMANDS_PER_TICK: usize = 64;
/// With more legs, most of their packets are fetched one tick before their frame, which then comes on time.
const LEGS_AT_ONCE: usize = 100;
/// A tenth of a second.
const AWAKE_TICKS: u64 = 20;
/// No command gives back more than this.
const RETURNS_PER_COMMAND: usize = 2;
const FRAMES_PER_REPORT: u64 = 50;
/// Room in the event ring that telemetry leaves free.
const EVENTS_RESERVED: usize = 1_024;

#[cfg(test)]
mod inspect;
#[cfg(test)]
pub(super) use inspect::{Asked, Passing};
