//! The jitter buffer: packets in as they come, payloads out in the order and at the time they are
//! to be played, in RTP ticks, whatever the packet time.
//!
//! There is one playout position that advances with the audio handed out. The delay is what lies
//! between a packet's arrival and its turn; `DelayEstimator` says how much the network asks for,
//! `Margin` how much there is, and the difference is made up in pieces by whoever has the PCM (see
//! [`JitterBuffer::plan`]). Only where nothing is heard anyway does the position itself move: before
//! a stream begins, back to a late packet while its absence is being concealed, forward over a
//! backlog that is too long to be caught up with.

mod absence;
mod ahead;
mod delay;
mod margin;
mod payloads;
mod received;
mod seat;
mod slot;
pub(crate) mod stretch;
mod trend;

use std::time::{Duration, Instant};

use crate::media::audio_level::AudioLevel;
use crate::units::{ExtSeqNo, RtpTicks};
use absence::Absence;
use delay::{DelayEstimator, PLAUSIBLE};
use margin::Margin;
pub use margin::Plan;
use payloads::{Payloads, Place};
use received::{Received, Reference};
use slot::Slot;

/// Sizes and limits, fixed at construction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JitterConfig {
    /// The RTP clock.
    pub clock: u32,
    /// The longest delay that is ever built up.
    pub delay_max: Duration,
    /// Packets held at most.
    pub packets_max: usize,
    /// Bytes a packet's payload may have.
    pub payload_max: usize,
    /// Bytes that all payloads held may have.
    pub bytes_max: usize,
}

/// Orders one stream's packets and decides when each is due.
#[derive(Debug)]
pub struct JitterBuffer {
    config: JitterConfig,
    payloads: Payloads,
    slots: Box<[Slot]>,
    /// Indices into `slots`; the first `count` are held, by sequence number.
    order: Box<[u8]>,
    count: usize,
    position: Position,
    reference: Option<Reference>,
    received: Received,
    delay: DelayEstimator,
    absence: Option<Absence>,
    margin: Margin,
    extra: i64,
    waited: i64,
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// It waits for its turn.
    Stored,
    /// Its turn is over.
    Late,
    /// It waits, and the oldest one had to go.
    Overflow,
    /// Larger than a slot, or empty.
    Misfit,
}

/// What is to be played next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// A payload: decode all, leave out the first `skip` ticks.
    Packet {
        /// For [`JitterBuffer::payload`], valid until the next insertion.
        slot: usize,
        /// Ticks that were concealed already.
        skip: u32,
    },
    /// Something is lost or hasn't come yet. `ticks` up to the next packet where that is known;
    /// `next` is that packet, if it follows the loss directly.
    Missing {
        /// Ticks until the next packet.
        ticks: Option<u32>,
        /// A slot for [`JitterBuffer::payload`].
        next: Option<usize>,
    },
    /// The sender says nothing for so many ticks, if the end is known.
    Pause {
        /// Ticks until the next packet.
        ticks: Option<u32>,
    },
    /// No stream is running.
    Stopped,
}

impl JitterBuffer {
    /// Allocates all it will ever use.
    #[must_use]
    pub fn new(config: JitterConfig) -> Self {
        let packets = config.packets_max.clamp(1, usize::from(u8::MAX));
        Self {
            config: JitterConfig {
                packets_max: packets,
                ..config
            },
            payloads: Payloads::new(config.bytes_max.max(config.payload_max)),
            slots: vec![Slot::EMPTY; packets].into(),
            order: (0..=u8::MAX).take(packets).collect(),
            count: 0,
            position: Position::Stopped,
            reference: None,
            received: Received::EMPTY,
            delay: DelayEstimator::new(config.clock),
            absence: None,
            margin: Margin::new(),
            extra: 0,
            waited: 0,
        }
    }

    /// A moment on the RTP clock, counted from the first that was asked for.
    pub fn ticks_at(&mut self, now: Instant) -> i64 {
        self.delay.micros(now) * i64::from(self.config.clock) / 1_000_000
    }

    /// Could a packet with this timestamp belong to the stream as it runs? Not when it is a second
    /// or more from where the clock says it should be.
    pub fn is_plausible(&mut self, now: Instant, timestamp: RtpTicks) -> bool {
        let Some(reference) = self.reference else {
            return true;
        };
        let limit = i64::try_from(PLAUSIBLE.as_micros()).unwrap_or(i64::MAX);
        self.delay
            .relative(now, reference.extend(timestamp))
            .is_none_or(|relative| relative.abs() < limit)
    }

    /// Takes an audio packet of `ticks`, as loud as its sender says, if he says it.
    pub fn insert(
        &mut self,
        now: Instant,
        sequence: ExtSeqNo,
        timestamp: RtpTicks,
        ticks: u32,
        level: Option<AudioLevel>,
        payload: &[u8],
    ) -> Inserted {
        if payload.is_empty() || payload.len() > self.config.payload_max || ticks == 0 {
            return Inserted::Misfit;
        }
        let timestamp = self.extend(timestamp);
        let relative = self.delay.observe(now, timestamp);
        self.received.mark(sequence, true);
        let slot = Slot {
            sequence,
            timestamp,
            ticks,
            place: Place::default(),
            level,
            relative,
        };
        if self.is_over(&slot) {
            return Inserted::Late;
        }
        let mut full = false;
        while self.count == self.slots.len() || !self.has_room(payload.len()) {
            if let Some((_, oldest)) = self.head() {
                self.received.lose(oldest.sequence);
            }
            self.take_head();
            full = true;
        }
        self.store(slot, payload);
        if full {
            Inserted::Overflow
        } else {
            Inserted::Stored
        }
    }

    /// A packet that isn't audio (a key, comfort noise) took this sequence number: no gap, and none
    /// to conceal until audio comes again.
    pub fn note_other(&mut self, sequence: ExtSeqNo) {
        self.received.mark(sequence, false);
    }

    /// The sender has announced silence within the audio itself (Opus DTX), or it was agreed on that he sends
    /// nothing.
    pub const fn note_pause(&mut self) {
        self.received.paused = true;
    }

    /// Has the sender said that what was played last is followed by silence, or by a key?
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.received.is_paused()
    }

    /// Is this a sender who just doesn't send while nobody talks, without announcing it?
    #[must_use]
    pub const fn pauses_unsaid(&self) -> bool {
        self.received.pauses_unsaid
    }

    /// Another stream begins: all of the old one is dropped.
    pub fn restart(&mut self) {
        self.count = 0;
        self.position = Position::Stopped;
        self.reference = None;
        self.received = Received::EMPTY;
        self.delay.reset();
        self.margin.reset();
    }

    /// Hold so much more delay than the network asks for (for redundancy in later packets).
    pub fn set_extra(&mut self, extra: Duration) {
        self.extra = i64::try_from(extra.as_micros()).unwrap_or(0);
    }

    /// What comes next, given that `staged` ticks of the frame pulled at `now` are already there.
    /// After anything but a packet, tell by [`Self::advance`] how much was filled in.
    pub fn next(&mut self, now: Instant, staged: u32) -> (Next, u32) {
        let mut dropped = 0;
        let Some(mut play) = self.begin(now) else {
            return (Next::Stopped, 0);
        };
        dropped += self.skip_backlog(now, &mut play);
        dropped += self.settle_late(now, &mut play);
        self.position = Position::Playing(play);
        let next = match self.head() {
            None => self.without_packet(now),
            Some((_, head)) if head.timestamp > play => self.before(head, play),
            Some((index, head)) => {
                self.take_head();
                self.position = Position::Playing(head.end());
                self.note_taken(now, &head, staged, play);
                Next::Packet {
                    slot: index,
                    skip: ticks_between(head.timestamp, play),
                }
            }
        };
        (next, dropped)
    }

    /// The payload in a slot that [`Self::next`] named.
    #[must_use]
    pub fn payload(&self, slot: usize) -> &[u8] {
        let place = self.slots.get(slot).map(|slot| slot.place);
        self.payloads.get(place.unwrap_or_default())
    }

    /// How loud the packet in a slot that [`Self::next`] named is said to be.
    #[must_use]
    pub fn level(&self, slot: usize) -> Option<AudioLevel> {
        self.slots.get(slot)?.level
    }

    /// So many ticks were filled in for what is missing.
    pub const fn advance(&mut self, ticks: u32) {
        if let Position::Playing(play) = &mut self.position {
            *play += ticks as i64;
        }
    }

    /// So many ticks, up to the packet in a slot that [`Self::next`] named, were had from a copy within that packet:
    /// what was lost need not come any more.
    pub fn made_good(&mut self, ticks: u32, slot: usize) {
        self.advance(ticks);
        let next = self.slots.get(slot).map(|next| next.sequence);
        if let (Some(next), Position::Playing(play)) = (next, self.position) {
            self.received.make_good(next, play);
        }
    }

    /// Is the very next packet there? Only then can audio be taken out without a gap.
    #[must_use]
    pub fn has_next(&self) -> bool {
        let Position::Playing(play) = self.position else {
            return false;
        };
        self.head().is_some_and(|(_, head)| head.timestamp <= play)
    }

    /// How the delay should change, in microseconds of audio.
    pub fn plan(&mut self, now: Instant) -> Plan {
        let now = self.delay.micros(now);
        let target = self.target(now);
        self.margin.plan(now, target, self.delay.later())
    }

    /// So many microseconds of the plan were carried out.
    pub fn plan_done(&mut self, now: Instant, micros: i64) {
        let now = self.delay.micros(now);
        self.margin.done(now, micros);
    }

    /// The delay of the packet played last, between the arrival of the fastest and its turn.
    #[must_use]
    pub fn delay(&self) -> Duration {
        Duration::from_micros(u64::try_from(self.waited).unwrap_or(0))
    }

    /// Packets held.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Is nothing held?
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes allocated.
    #[must_use]
    pub fn allocated(&self) -> usize {
        self.payloads.allocated() + size_of_val(&*self.slots) + self.order.len()
    }

    fn target(&self, now: i64) -> i64 {
        (self.delay.target(now) + self.extra).min(self.delay_max())
    }

    fn delay_max(&self) -> i64 {
        i64::try_from(self.config.delay_max.as_micros()).unwrap_or(i64::MAX)
    }

    const fn micros_of(&self, ticks: i64) -> i64 {
        self.delay.micros_of(ticks)
    }

    fn extend(&mut self, timestamp: RtpTicks) -> i64 {
        let extended = self
            .reference
            .map_or(0, |reference| reference.extend(timestamp));
        self.reference = Some(Reference {
            timestamp,
            extended,
        });
        extended
    }

    /// The playout position; starts the stream when its first packet has waited long enough.
    fn begin(&mut self, now: Instant) -> Option<i64> {
        if let Position::Playing(play) = self.position {
            return Some(play);
        }
        let (_, head) = self.head()?;
        let micros = self.delay.micros(now);
        let waited = self.delay.relative(now, head.timestamp).unwrap_or(0);
        let is_due = waited >= self.target(micros) || self.count == self.slots.len();
        is_due.then_some(head.timestamp)
    }

    /// Drops what can't be caught up with by small corrections; returns how many packets.
    fn skip_backlog(&mut self, now: Instant, play: &mut i64) -> u32 {
        let Some(newest) = self
            .count
            .checked_sub(1)
            .and_then(|last| self.held(last))
            .map(|(_, slot)| slot)
        else {
            return 0;
        };
        let micros = self.delay.micros(now);
        let packet = self.micros_of(i64::from(newest.ticks));
        let most = self.delay_max() + packet.max(PACKET_USUAL) + SLACK;
        if self.micros_of(newest.end() - *play) <= most {
            return 0;
        }
        let keep = self.target(micros) + packet;
        let mut dropped = 0;
        while let Some((_, head)) = self.head() {
            if self.micros_of(newest.end() - head.timestamp) <= keep
                || head.sequence == newest.sequence
            {
                *play = head.timestamp;
                break;
            }
            self.take_head();
            dropped += 1;
        }
        self.margin.reset();
        dropped
    }

    /// Drops late packets, or goes back to the beginning of the first; returns how many were dropped.
    fn settle_late(&mut self, now: Instant, play: &mut i64) -> u32 {
        let mut dropped = 0;
        while let Some((_, head)) = self.head() {
            if head.timestamp >= *play {
                break;
            }
            if self.should_go_back(now, &head, *play) {
                let micros = self.delay.micros(now);
                self.delay
                    .raise(micros, head.relative.min(self.delay_max()));
                self.margin.reset();
                *play = head.timestamp;
                break;
            }
            if head.end() > *play {
                break; // its end is still of use
            }
            self.take_head();
            dropped += 1;
        }
        dropped
    }

    /// Going back makes the delay longer by what was concealed meanwhile. That is right when the
    /// network asks for it, when more than one packet would be lost, or when there is nothing else
    /// to play, up to the longest delay allowed.
    fn should_go_back(&mut self, now: Instant, head: &Slot, play: i64) -> bool {
        let micros = self.delay.micros(now);
        let delay = self.delay.relative(now, head.timestamp).unwrap_or(0);
        if delay > self.delay_max() {
            return false;
        }
        let late = (0..self.count)
            .filter_map(|n| self.held(n))
            .filter(|(_, slot)| slot.timestamp < play)
            .count();
        let on_time = self
            .held(late)
            .is_some_and(|(_, slot)| slot.timestamp <= play);
        let is_meant = DelayEstimator::covers(self.target(micros), head.relative);
        is_meant || late > 1 || !on_time
    }

    /// Nothing is held.
    fn without_packet(&mut self, now: Instant) -> Next {
        let silent = self
            .received
            .last
            .map(|last| now.saturating_duration_since(last));
        if self.received.is_paused() {
            if silent.is_none_or(|silent| silent > STOPPED_AFTER) {
                self.stop();
            }
            return Next::Pause { ticks: None };
        }
        if silent.is_some_and(|silent| silent <= STOPPED_AFTER) {
            return Next::Missing {
                ticks: None,
                next: None,
            };
        }
        self.stop();
        Next::Stopped
    }

    fn stop(&mut self) {
        self.position = Position::Stopped;
        self.delay.forget_base();
        self.margin.reset();
    }

    /// The next packet held is not due yet.
    fn before(&self, head: Slot, play: i64) -> Next {
        let ticks = Some(ticks_between(play, head.timestamp));
        if self.received.is_whole(head.sequence) {
            return Next::Pause { ticks };
        }
        let follows = self
            .received
            .played
            .is_some_and(|played| head.sequence.0 <= played.0 + 3);
        let next = follows
            .then(|| self.order.first().map(|index| usize::from(*index)))
            .flatten();
        Next::Missing { ticks, next }
    }

    fn note_taken(&mut self, now: Instant, head: &Slot, staged: u32, play: i64) {
        let pause = i64::from(self.config.clock) * PAUSE_LEAST_MS / 1_000;
        let span = head.timestamp..head.end();
        self.received.play(now, head.sequence, span, pause);
        let offset = self.micros_of(i64::from(staged)) - self.micros_of(play - head.timestamp);
        let slack = self.delay.relative(now, head.timestamp).unwrap_or(0);
        self.waited = slack + offset;
        let micros = self.delay.micros(now);
        self.margin.take(micros, slack, offset.max(0));
    }

    /// It or something later was already played, or its turn is further back than could be gone back to.
    fn is_over(&self, slot: &Slot) -> bool {
        if self
            .received
            .played
            .is_some_and(|played| slot.sequence <= played)
        {
            return true;
        }
        let Position::Playing(play) = self.position else {
            return false;
        };
        slot.end() <= play && self.micros_of(play - slot.timestamp) > self.delay_max()
    }

    fn head(&self) -> Option<(usize, Slot)> {
        self.held(0)
    }

    /// The `n`-th packet held, with its slot's index.
    fn held(&self, n: usize) -> Option<(usize, Slot)> {
        if n >= self.count {
            return None;
        }
        let index = usize::from(*self.order.get(n)?);
        Some((index, *self.slots.get(index)?))
    }

    /// Frees the first slot; its payload stays readable until the slot is used again.
    fn take_head(&mut self) {
        if let Some(held) = self
            .order
            .get_mut(..self.count)
            .filter(|held| !held.is_empty())
        {
            held.rotate_left(1);
            self.count -= 1;
        }
    }

    /// Sees to it that there is room for a payload; `false` where too many bytes are held.
    fn has_room(&mut self, bytes: usize) -> bool {
        if self.count == 0 {
            self.payloads.clear();
        }
        if self.payloads.has_room(bytes) {
            return true;
        }
        let held = self.order.get(..self.count).unwrap_or_default();
        self.payloads.close_gaps(&mut self.slots, held);
        self.payloads.has_room(bytes)
    }

    fn store(&mut self, slot: Slot, payload: &[u8]) {
        let Some(index) = self.order.get(self.count).map(|index| usize::from(*index)) else {
            return;
        };
        let place = self.payloads.store(payload);
        if let Some(free) = self.slots.get_mut(index) {
            *free = Slot { place, ..slot };
        }
        self.count += 1;
        let mut at = self.count - 1;
        while at > 0
            && self
                .held(at - 1)
                .is_some_and(|(_, before)| before.sequence > slot.sequence)
        {
            self.order.swap(at, at - 1);
            at -= 1;
        }
    }
}

/// Of the next tick to be handed out, on the extended timestamps.
#[derive(Debug, Clone, Copy)]
enum Position {
    Stopped,
    Playing(i64),
}

/// From `from` to `to`, nothing where `to` is not later.
fn ticks_between(from: i64, to: i64) -> u32 {
    u32::try_from(to - from).unwrap_or(0)
}

/// A buffer that ran empty this long ago belongs to a stream that stopped.
const STOPPED_AFTER: Duration = Duration::from_millis(500);
/// A backlog may exceed the longest delay by a packet, of 60 ms or as long as they are, …
const PACKET_USUAL: i64 = 60_000;
/// … and by a frame.
const SLACK: i64 = 20_000;
/// Who is silent for less without a word has a clock that isn't even.
const PAUSE_LEAST_MS: i64 = 100;

#[cfg(test)]
mod tests;
