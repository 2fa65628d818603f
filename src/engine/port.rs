//! The control side's end of one media thread: its rings, the commands that wait for room in
//! them, and which slots of its tables are free.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rtrb::{Consumer, Producer, PushError, RingBuffer};

use crate::engine::config::EngineConfig;
use crate::engine::health::{Counters, ThreadHealth};
use crate::engine::inlet::Links;
use crate::engine::io::{Sleeper, prioritise, thread_cpu};
use crate::engine::link::{LinkOut, link};
use crate::engine::thread::{MediaThread, Rings, ThreadPlace};
use crate::media::command::{BridgeSlot, EngineEvent, LegSlot, MixerCommand, Returned};
use crate::media::playback::SilenceFrames;

/// One thread, seen from the control side.
pub(super) struct ThreadPort {
    commands: Producer<MixerCommand>,
    backlog: VecDeque<MixerCommand>,
    events: Consumer<EngineEvent>,
    returned: Consumer<Returned>,
    handshakes: LinkOut,
    free_legs: Vec<LegSlot>,
    free_bridges: Vec<BridgeSlot>,
    /// Legs and bridges assigned here, also those on their way.
    pub(super) legs: usize,
    pub(super) bridges: usize,
    counters: Arc<Counters>,
    stop: Arc<AtomicBool>,
    handle: Option<JoinHandle<()>>,
}

impl ThreadPort {
    /// A thread's two sides. The media side is not running yet.
    pub(super) fn new(
        epoch: Instant,
        config: &EngineConfig,
        mut place: ThreadPlace,
        silence: Arc<SilenceFrames>,
        room: RingSizes,
    ) -> io::Result<(Self, MediaThread)> {
        let (commands, commands_out) = RingBuffer::new(room.commands);
        let (events_in, events) = RingBuffer::new(room.events);
        let (returned_in, returned) = RingBuffer::new(room.returned);
        let (handshakes_in, handshakes) = link(epoch);
        place.links.handshakes = Some(handshakes_in);
        let counters = Arc::<Counters>::default();
        let rings = Rings {
            commands: commands_out,
            events: events_in,
            returned: returned_in,
        };
        let thread = MediaThread::new(epoch, config, place, rings, silence, Arc::clone(&counters))?;
        let slots = |count: usize| 0..u32::try_from(count).unwrap_or(u32::MAX);
        let port = Self {
            commands,
            backlog: VecDeque::new(),
            events,
            returned,
            handshakes,
            free_legs: slots(config.legs_max).rev().map(LegSlot).collect(),
            free_bridges: slots(config.bridges_max()).rev().map(BridgeSlot).collect(),
            legs: 0,
            bridges: 0,
            counters,
            stop: Arc::default(),
            handle: None,
        };
        Ok((port, thread))
    }

    /// Lets the media side run on a thread of its own.
    pub(super) fn spawn(
        &mut self,
        index: usize,
        thread: MediaThread,
        sleeper: Sleeper,
    ) -> io::Result<()> {
        let stop = Arc::clone(&self.stop);
        let builder = std::thread::Builder::new()
            .name(format!("media-{index}"))
            .stack_size(STACK_BYTES);
        let run = move || {
            let _last = LastResort;
            MediaThread::prepare();
            thread.run(sleeper, &stop);
        };
        self.handle = Some(builder.spawn(run)?);
        Ok(())
    }

    /// Lets the media side run before all other work of the machine.
    ///
    /// # Errors
    /// Where that isn't allowed; it goes on as before.
    pub(super) fn prioritise(&self) -> io::Result<()> {
        self.handle.as_ref().map_or(Ok(()), prioritise)
    }

    /// Passes a command on, after those that wait already.
    pub(super) fn push(&mut self, command: MixerCommand) {
        self.backlog.push_back(command);
        self.flush();
    }

    /// Passes on what the ring has room for.
    pub(super) fn flush(&mut self) {
        while let Some(command) = self.backlog.pop_front() {
            if let Err(PushError::Full(command)) = self.commands.push(command) {
                self.backlog.push_front(command);
                return;
            }
        }
    }

    pub(super) fn pop_event(&mut self) -> Option<EngineEvent> {
        self.events.pop().ok()
    }

    /// What came of handshakes: whose, from where, what.
    pub(super) fn pop_handshake(&mut self) -> Option<EngineEvent> {
        let (envelope, datagram) = self.handshakes.pop()?;
        Some(EngineEvent::Handshake {
            leg: envelope.leg,
            from: envelope.from,
            datagram: datagram.to_vec(),
        })
    }

    pub(super) fn pop_returned(&mut self) -> Option<Returned> {
        self.returned.pop().ok()
    }

    pub(super) fn take_leg_slot(&mut self) -> Option<LegSlot> {
        self.free_legs.pop()
    }

    pub(super) fn free_leg_slot(&mut self, slot: LegSlot) {
        self.free_legs.push(slot);
    }

    pub(super) fn take_bridge_slot(&mut self) -> Option<BridgeSlot> {
        self.free_bridges.pop()
    }

    pub(super) fn free_bridge_slot(&mut self, slot: BridgeSlot) {
        self.free_bridges.push(slot);
    }

    pub(super) fn health(&self) -> ThreadHealth {
        ThreadHealth {
            alive: self
                .handle
                .as_ref()
                .is_some_and(|handle| !handle.is_finished()),
            cpu: self.handle.as_ref().map_or(Duration::ZERO, thread_cpu),
            legs: self.legs,
            bridges: self.bridges,
            commands_backlog: self.backlog.len(),
            ..self.counters.read()
        }
    }

    /// Tells the thread to end after its next tick.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// Waits for its end, one frame at most.
    pub(super) fn join(&mut self) {
        if let Some(handle) = self.handle.take() {
            // A panic of the thread was reported when it happened.
            let _panicked = handle.join();
        }
    }
}

/// What leads from each thread to each other one, where there are shared ports.
pub(super) fn links(epoch: Instant, config: &EngineConfig) -> Vec<Links> {
    let threads = config.threads.max(1);
    let mut all: Vec<Links> = (0..threads).map(|_| Links::default()).collect();
    let pairs = (0..threads).flat_map(|from| (0..threads).map(move |to| (from, to)));
    for (from, to) in pairs.filter(|_| config.shared) {
        let ends = (from != to).then(|| link(epoch));
        let (into, out) = ends.unzip();
        all[from].to.push(into);
        all[to].from.extend(out);
    }
    all
}

/// A media thread that panics takes the process along: its callers would be left in silence for good, and new ones put
/// there too, while whoever watches over the process starts another, which finds Asterisk's callers again.
struct LastResort;

impl Drop for LastResort {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

/// How much each of a thread's rings holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct RingSizes {
    pub(super) commands: usize,
    pub(super) events: usize,
    pub(super) returned: usize,
}

impl Default for RingSizes {
    fn default() -> Self {
        Self {
            commands: 1_024,
            events: 4_096,
            returned: 1_024,
        }
    }
}

/// libopus works on the stack.
const STACK_BYTES: usize = 2 << 20;

#[cfg(test)]
mod inspect;
