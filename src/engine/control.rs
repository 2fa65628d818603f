//! What the gateway calls. Nothing here waits: commands go into rings or, where those are full,
//! into a backlog; a leg that is on its way from one thread to another has its commands kept
//! until it has arrived.

mod bridges;
mod origin;
mod overload;
mod ways;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Instant;

use crate::engine::config::{EngineConfig, EngineError};
use crate::engine::io::{Sleeper, lock_memory};
use crate::engine::load::LoadWatch;
use crate::engine::memory::MemoryWatch;
use crate::engine::port::{RingSizes, ThreadPort, links};
use crate::engine::shared::SharedPorts;
use crate::engine::sockets::PortRange;
use crate::engine::sound::SoundAsked;
use crate::engine::thread::{MediaThread, ThreadPlace};
use crate::media::clip::Rendition;
use crate::media::command::{
    EngineEvent, LegCommand, LegKind, LegPort, LegReport, LegSlot, MixerCommand, Returned, Route,
};
use crate::media::leg::{CodecSet, Leg, LegConfig, LegStart, LegUpdate};
use crate::media::parameters::MediaParameters;
use crate::media::playback::{BridgeClip, Playlist, SilenceFrames};
use crate::media::rtcp::NtpClock;
use crate::media::srtp::Srtp;
use crate::units::{BridgeId, LegId};
use bridges::BridgeEntry;
use origin::{random, random_origin, wall_clock};
use ways::Way;

/// The control side of the engine.
pub struct Control {
    config: EngineConfig,
    leg_config: LegConfig,
    epoch: Instant,
    threads: Vec<ThreadPort>,
    ports: PortRange,
    shared: SharedPorts,
    warned_of_buffers: bool,
    load: LoadWatch,
    memory: MemoryWatch,
    legs: HashMap<LegId, LegEntry>,
    bridges: HashMap<BridgeId, BridgeEntry>,
    events: VecDeque<EngineEvent>,
    next_leg: u64,
}

/// A leg that has its sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenedLeg {
    /// Its name from now on.
    pub leg: LegId,
    /// Where it receives RTP; RTCP on the port above.
    pub rtp: SocketAddr,
}

struct LegEntry {
    way: Way,
    /// The thread it lives on or is on its way to.
    thread: usize,
    state: LegState,
    parameters: Option<MediaParameters>,
    bridge: Option<BridgeId>,
    sound: SoundAsked,
    /// Its own, for what belongs to a handshake; audio is sent by its thread.
    socket: Option<Arc<UdpSocket>>,
}

enum LegState {
    /// Nothing is agreed yet: it has its way to the peer only.
    Opened {
        port: LegPort,
        waiting: Vec<LegCommand>,
    },
    /// On its thread.
    Living { slot: LegSlot },
    /// Released by a thread, not yet back.
    Moving { waiting: Vec<LegCommand> },
    /// Asked to close, or to close as soon as it comes back.
    Closing,
}

impl LegEntry {
    /// Where its packets are to be brought now.
    fn route(&self, leg: LegId) -> Route {
        match self.state {
            LegState::Living { slot } => Route::To {
                thread: self.thread,
                slot,
                leg,
            },
            LegState::Moving { .. } => Route::Parked,
            LegState::Opened { .. } | LegState::Closing => Route::Nowhere,
        }
    }
}

impl Control {
    /// Starts the threads.
    ///
    /// # Errors
    /// Where a codec, a thread or an epoll set can't be made.
    pub fn start(config: EngineConfig) -> Result<Self, EngineError> {
        let sleeper = Sleeper::new();
        let (mut control, threads) = Self::new(config, sleeper.epoch())?;
        for (index, thread) in threads.into_iter().enumerate() {
            control.threads[index].spawn(index, thread, sleeper)?;
        }
        if control.config.realtime {
            control.become_realtime();
        }
        Ok(control)
    }

    /// Without the rights to it, audio is as punctual as the machine's other work lets it be.
    fn become_realtime(&self) {
        let prioritised = self.threads.iter().try_for_each(ThreadPort::prioritise);
        if let Err(error) = prioritised {
            tracing::warn!(%error, "media threads get no real-time priority; allow it by LimitRTPRIO=10");
        }
        if let Err(error) = lock_memory() {
            tracing::warn!(%error, "memory isn't locked; allow it by LimitMEMLOCK=infinity");
        }
    }

    /// Control side and media sides, the latter for the caller to run: [`MediaThread::tick`].
    ///
    /// # Errors
    /// Where a codec or an epoll set can't be made.
    pub fn new(
        config: EngineConfig,
        epoch: Instant,
    ) -> Result<(Self, Vec<MediaThread>), EngineError> {
        let silence = Arc::new(SilenceFrames::new()?);
        Self::with_rings(config, epoch, &silence, RingSizes::default())
    }

    fn with_rings(
        config: EngineConfig,
        epoch: Instant,
        silence: &Arc<SilenceFrames>,
        room: RingSizes,
    ) -> Result<(Self, Vec<MediaThread>), EngineError> {
        let places = links(epoch, &config).into_iter().enumerate();
        let sides = places.map(|(index, links)| {
            let place = ThreadPlace { index, links };
            ThreadPort::new(epoch, &config, place, Arc::clone(silence), room)
        });
        let (threads, media): (Vec<_>, Vec<_>) =
            sides.collect::<io::Result<Vec<_>>>()?.into_iter().unzip();
        let control = Self {
            leg_config: LegConfig {
                media_timeout: config.media_timeout,
                hold_timeout: config.hold_timeout,
                clock: NtpClock::new(epoch, wall_clock()),
            },
            epoch,
            threads,
            ports: PortRange::new(config.address, &config.ports),
            shared: SharedPorts::default(),
            warned_of_buffers: false,
            load: LoadWatch::new(config.busy_max),
            memory: MemoryWatch::default(),
            legs: HashMap::new(),
            bridges: HashMap::new(),
            events: VecDeque::new(),
            next_leg: 1,
            config,
        };
        Ok((control, media))
    }

    /// What was agreed with the peer: the first time, and at every re-INVITE. Sequence, timestamp
    /// and SSRC run on; another RTP clock takes a new SSRC (RFC 7160).
    ///
    /// # Errors
    /// [`EngineError::UnknownLeg`], [`EngineError::Codec`], [`EngineError::Io`].
    pub fn connect_leg(
        &mut self,
        leg: LegId,
        parameters: &MediaParameters,
    ) -> Result<(), EngineError> {
        let receiver = self.config.receiver;
        let entry = self.legs.get(&leg).ok_or(EngineError::UnknownLeg)?;
        self.fit_codec(entry.bridge, Some(parameters.codec));
        let entry = self.legs.get_mut(&leg).ok_or(EngineError::UnknownLeg)?;
        let codecs = if entry
            .parameters
            .is_some_and(|old| same_payloads(&old, parameters))
        {
            None
        } else {
            Some(Box::new(CodecSet::new(parameters, receiver)?))
        };
        let origin = random_origin()?;
        let srtp = parameters.srtp.map(|keys| Box::new(Srtp::new(&keys)));
        entry.parameters = Some(*parameters);
        match (&entry.state, codecs) {
            (LegState::Opened { .. }, Some(codecs)) => self.settle(
                leg,
                LegStart {
                    parameters: *parameters,
                    origin,
                    codecs,
                    srtp,
                },
            ),
            (
                LegState::Opened { .. }
                | LegState::Living { .. }
                | LegState::Moving { .. }
                | LegState::Closing,
                codecs,
            ) => {
                self.command(
                    leg,
                    LegCommand::Update(Box::new(LegUpdate {
                        parameters: *parameters,
                        origin,
                        codecs,
                        srtp,
                    })),
                );
            }
        }
        self.note_rate(leg, parameters.codec.sample_rate());
        Ok(())
    }

    /// Plays to a leg, instead of what is playing; then [`EngineEvent::PlayFinished`] with the token,
    /// unless it is stopped or replaced. In a bridge it is whispered over the mix, to this leg only.
    pub fn play(&mut self, leg: LegId, items: Vec<Arc<Rendition>>, token: u32) {
        self.command(leg, LegCommand::Play(Playlist { items, token }));
    }

    /// Plays no more to a leg.
    pub fn stop_playing(&mut self, leg: LegId) {
        self.command(leg, LegCommand::StopPlaying);
    }

    /// What a leg hears while nothing else plays and it is in no bridge, or alone in one. Legs with
    /// the same recording hear the same position of it.
    pub fn music(&mut self, leg: LegId, rendition: Option<Arc<Rendition>>) {
        self.command(leg, LegCommand::Music(rendition));
    }

    /// A leg's voice is not summed, or is again.
    pub fn mute(&mut self, leg: LegId, muted: bool) {
        self.command(leg, LegCommand::Mute(muted));
    }

    /// Brings a leg into a bridge, which is made for the first one; the leg moves to its thread.
    /// In the `echo` meeting each leg hears itself, and there is no bridge. A leg that is not
    /// there stays out.
    pub fn join(&mut self, leg: LegId, bridge: BridgeId, echo: bool) {
        if echo {
            self.put_outside(leg, LegCommand::Echo);
        } else if let Err(error) = self.join_bridge(leg, bridge) {
            tracing::error!(leg = leg.0, bridge = bridge.0, %error, "a leg could not join its bridge");
        }
    }

    /// Takes a leg out of its bridge or echo, back to prompts only.
    pub fn leave(&mut self, leg: LegId) {
        self.put_outside(leg, LegCommand::Leave);
    }

    /// Plays to everybody in a bridge: one recording per sample rate in use. Who listens at a rate
    /// that none was given for does not hear it.
    pub fn play_to_bridge(&mut self, bridge: BridgeId, renditions: Vec<Arc<Rendition>>) {
        if let Some(entry) = self.bridges.get(&bridge) {
            let clip = Box::new(BridgeClip::new(renditions));
            self.threads[entry.thread].push(MixerCommand::PlayToBridge {
                bridge: entry.slot,
                clip,
            });
        }
    }

    /// Closes a leg: [`EngineEvent::LegClosed`] follows.
    pub fn close_leg(&mut self, leg: LegId) {
        let Some(entry) = self.legs.get_mut(&leg) else {
            return;
        };
        let left = entry.bridge.take();
        self.route_leg(leg, Route::Nowhere);
        let Some(entry) = self.legs.get_mut(&leg) else {
            return;
        };
        match std::mem::replace(&mut entry.state, LegState::Closing) {
            LegState::Opened { .. } => self.forget(leg, LegReport::default()),
            LegState::Living { slot } => {
                let thread = entry.thread;
                self.threads[thread].push(MixerCommand::Leg {
                    slot,
                    command: LegCommand::Close,
                });
            }
            LegState::Moving { .. } | LegState::Closing => {}
        }
        self.leave_bridge(left);
    }

    /// Passes on what waits, drops what came back. To be called once per frame or so.
    pub fn pump(&mut self) {
        for thread in 0..self.threads.len() {
            self.collect_events(thread);
            while self.take_next_back(thread) {}
            self.threads[thread].flush();
        }
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<EngineEvent> {
        if self.events.is_empty() {
            self.pump();
        }
        self.events.pop_front()
    }

    /// How many legs there is room for.
    #[must_use]
    pub const fn legs_max(&self) -> usize {
        self.config.legs_max
    }

    /// How many legs there are.
    #[must_use]
    pub fn legs(&self) -> usize {
        self.legs.len()
    }

    /// Ends the threads and closes everything. Waits for one frame at most.
    pub fn shutdown(self) {
        drop(self);
    }

    fn join_bridge(&mut self, leg: LegId, bridge: BridgeId) -> Result<(), EngineError> {
        let entry = self.legs.get(&leg).ok_or(EngineError::UnknownLeg)?;
        if matches!(entry.state, LegState::Closing) || entry.bridge == Some(bridge) {
            return Ok(());
        }
        let codec = entry.parameters.map(|parameters| parameters.codec);
        let (thread, slot) = self.bridge_for(bridge, entry.thread)?;
        self.fit_codec(Some(bridge), codec);
        self.fit_one_more(bridge);
        let left = self
            .legs
            .get_mut(&leg)
            .and_then(|entry| entry.bridge.replace(bridge));
        self.relocate(leg, thread);
        self.command(leg, LegCommand::Join(slot));
        self.leave_bridge(left);
        Ok(())
    }

    pub(super) fn sound_of(&mut self, leg: LegId) -> Option<&mut SoundAsked> {
        self.legs.get_mut(&leg).map(|entry| &mut entry.sound)
    }

    /// For a leg that lives, at once; for one that doesn't yet, as soon as it does.
    pub(super) fn command(&mut self, leg: LegId, command: LegCommand) {
        let Some(entry) = self.legs.get_mut(&leg) else {
            return;
        };
        match &mut entry.state {
            LegState::Living { slot } => {
                let slot = *slot;
                self.threads[entry.thread].push(MixerCommand::Leg { slot, command });
            }
            LegState::Opened { waiting, .. } | LegState::Moving { waiting } => {
                if command.is_place() {
                    waiting.retain(|earlier| !earlier.is_place());
                }
                waiting.push(command);
            }
            LegState::Closing => {}
        }
    }

    /// The first agreement: the leg begins to live.
    fn settle(&mut self, leg: LegId, start: LegStart) {
        let now = self.now();
        let config = self.leg_config;
        let Some(entry) = self.legs.get_mut(&leg) else {
            return;
        };
        match std::mem::replace(&mut entry.state, LegState::Closing) {
            LegState::Opened { port, waiting } => {
                let new = Box::new(Leg::new(leg, LegKind::Caller, config, start, now));
                self.adopt(leg, new, port, waiting);
            }
            other @ (LegState::Living { .. } | LegState::Moving { .. } | LegState::Closing) => {
                entry.state = other
            }
        }
    }

    /// A leg comes to its thread, and what was asked meanwhile after it.
    fn adopt(&mut self, id: LegId, leg: Box<Leg>, port: LegPort, waiting: Vec<LegCommand>) {
        let Some(entry) = self.legs.get_mut(&id) else {
            return;
        };
        let thread = &mut self.threads[entry.thread];
        // There are as many slots as legs; those of legs that have just left may not be back yet.
        let Some(slot) = thread.take_leg_slot() else {
            self.forget(id, leg.report());
            return;
        };
        entry.state = LegState::Living { slot };
        thread.push(MixerCommand::Adopt { slot, leg, port });
        for command in waiting {
            thread.push(MixerCommand::Leg { slot, command });
        }
        let route = entry.route(id);
        self.route_leg(id, route);
    }

    /// Brings a leg to a thread, if it isn't there or on its way there already.
    fn relocate(&mut self, leg: LegId, to: usize) {
        let Some(entry) = self.legs.get_mut(&leg) else {
            return;
        };
        if entry.thread == to {
            return;
        }
        self.threads[entry.thread].legs -= 1;
        self.threads[to].legs += 1;
        let from = std::mem::replace(&mut entry.thread, to);
        if let LegState::Living { slot } = entry.state {
            entry.state = LegState::Moving {
                waiting: Vec::new(),
            };
            self.route_leg(leg, Route::Parked);
            self.threads[from].push(MixerCommand::Leg {
                slot,
                command: LegCommand::Release,
            });
        }
    }

    fn put_outside(&mut self, leg: LegId, command: LegCommand) {
        let left = self
            .legs
            .get_mut(&leg)
            .and_then(|entry| entry.bridge.take());
        self.command(leg, command);
        self.leave_bridge(left);
    }

    fn collect_events(&mut self, thread: usize) {
        let thread = &mut self.threads[thread];
        self.events
            .extend(std::iter::from_fn(|| thread.pop_event()));
        self.events
            .extend(std::iter::from_fn(|| thread.pop_handshake()));
    }

    fn take_next_back(&mut self, thread: usize) -> bool {
        let Some(returned) = self.threads[thread].pop_returned() else {
            return false;
        };
        // What the thread told of a leg before it gave it back may have come since the events were
        // last taken: it goes before what the leg's next thread tells, and before its end.
        self.collect_events(thread);
        self.take_back(thread, returned);
        true
    }

    fn take_back(&mut self, thread: usize, returned: Returned) {
        match returned {
            Returned::Closed { slot, leg, .. } => {
                self.threads[thread].free_leg_slot(slot);
                self.part_with(leg);
            }
            Returned::Released { slot, leg, port } => {
                self.threads[thread].free_leg_slot(slot);
                self.take_released(leg, port);
            }
            Returned::Bridge { slot, .. } => self.threads[thread].free_bridge_slot(slot),
            Returned::Playlist(_)
            | Returned::Rendition(_)
            | Returned::Clip(_)
            | Returned::Port(_)
            | Returned::Update(_)
            | Returned::Denoiser(_)
            | Returned::Fitting(_) => {}
        }
    }

    fn take_released(&mut self, leg: Box<Leg>, port: LegPort) {
        let id = leg.id();
        let Some(entry) = self.legs.get_mut(&id) else {
            return;
        };
        match std::mem::replace(&mut entry.state, LegState::Closing) {
            LegState::Moving { waiting } => self.adopt(id, leg, port, waiting),
            LegState::Closing | LegState::Opened { .. } | LegState::Living { .. } => {
                self.part_with(leg);
            }
        }
    }

    /// A leg is over: what it had no room to tell comes before its end.
    fn part_with(&mut self, mut leg: Box<Leg>) {
        self.events.extend(std::iter::from_fn(|| leg.poll_event()));
        self.forget(leg.id(), leg.report());
    }

    fn forget(&mut self, leg: LegId, report: LegReport) {
        if let Some(entry) = self.legs.remove(&leg) {
            self.threads[entry.thread].legs -= 1;
            self.release_way(entry.way);
            self.events
                .push_back(EngineEvent::LegClosed { leg, report });
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the engine is a shell: it owns the media clock"
    )]
    fn now(&self) -> Instant {
        Instant::now().max(self.epoch)
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.threads.iter().for_each(ThreadPort::stop);
        self.threads.iter_mut().for_each(ThreadPort::join);
    }
}

/// Can receiver and encoder go on? The address, the direction and the packet time may differ.
fn same_payloads(old: &MediaParameters, new: &MediaParameters) -> bool {
    old.codec == new.codec
        && old.payload_type_receive == new.payload_type_receive
        && old.telephone_event == new.telephone_event
        && old.comfort_noise == new.comfort_noise
        && old.audio_level == new.audio_level
}

#[cfg(test)]
mod inspect;
#[cfg(test)]
pub(super) use inspect::State;
