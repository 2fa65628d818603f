//! All participants of a run in one thread: what they send goes out when it is due, what they hear is
//! counted by the time at which the kernel took it in.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Receiver;

use crate::histogram::Histogram;
use crate::system::{self, MILLISECOND, SECOND};
use crate::wire::{BATCH, Fan, HEADER_BYTES, Header, Outgoing};

/// A sound that many participants send, from different places on.
pub(crate) struct SoundLoop {
    frames: Vec<Option<Vec<u8>>>,
    levels: Vec<u8>,
    /// How many frames before each are really sent.
    sent_before: Vec<u32>,
    sent: u32,
}

/// One participant, once its call is up.
#[derive(Clone)]
pub(crate) struct Caller {
    /// Which one.
    pub(crate) index: usize,
    /// Where it sends to.
    pub(crate) to: SocketAddrV4,
    /// RTP payload type.
    pub(crate) payload_type: u8,
    /// Tells the level of each packet.
    pub(crate) levels: bool,
    /// RTP ticks per frame.
    pub(crate) step: u32,
    /// What it sends.
    pub(crate) sound: Arc<SoundLoop>,
    /// From which frame on.
    pub(crate) offset: usize,
    /// How far its clock is off.
    pub(crate) skew_ppm: i64,
    /// When it sends within the 20 ms, ns.
    pub(crate) phase: u64,
    /// Keep when its frames were sent.
    pub(crate) logged: bool,
    /// Keep what it hears.
    pub(crate) taped: bool,
}

/// What lies between the participants and the server.
#[derive(Clone, Copy, Default)]
pub(crate) struct Network {
    /// Each packet is late by up to so much.
    pub(crate) jitter_ms: u64,
    /// So many of a thousand are lost.
    pub(crate) loss_permille: u32,
}

/// When it is measured, and when all is over.
#[derive(Default)]
pub(crate) struct Window {
    pub(crate) begin: AtomicU64,
    pub(crate) end: AtomicU64,
    pub(crate) stop: AtomicBool,
}

/// A packet that was heard.
pub(crate) struct Taped {
    /// When it came, ns.
    pub(crate) at: u64,
    /// RTP sequence number.
    pub(crate) sequence: u16,
    /// What it carried.
    pub(crate) payload: Vec<u8>,
}

/// What one participant saw.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) packets: u64,
    pub(crate) lost: u64,
    pub(crate) gaps: u64,
    pub(crate) tape: Vec<Taped>,
    /// When each frame left, counted from the first; without what the network adds.
    pub(crate) sent_at: Vec<u64>,
    last: Option<Last>,
}

struct Last {
    ssrc: [u8; 4],
    sequence: u16,
    at: u64,
}

/// What the whole run saw.
pub(crate) struct Outcome {
    pub(crate) seen: Vec<Seen>,
    /// How far the spacing of packets is from 20 ms.
    pub(crate) spacing: Histogram,
    /// How late the generator itself was.
    pub(crate) lateness: Histogram,
    /// Packets that its own socket didn't take.
    pub(crate) unsent: u64,
}

/// See the module's text.
pub(crate) struct Generator {
    fan: Fan,
    network: Network,
    callers: Vec<Option<Caller>>,
    due: BinaryHeap<Reverse<(u64, usize, u64)>>,
    outcome: Outcome,
    random: u64,
}

impl SoundLoop {
    pub(crate) fn new(frames: Vec<Option<Vec<u8>>>, levels: Vec<u8>) -> Self {
        let mut sent = 0;
        let sent_before = frames
            .iter()
            .map(|frame| {
                let before = sent;
                sent += u32::from(frame.is_some());
                before
            })
            .collect();
        Self {
            frames,
            levels,
            sent_before,
            sent,
        }
    }

    /// How many frames it has.
    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    /// The frames, as they are sent.
    pub(crate) fn frames(&self) -> &[Option<Vec<u8>>] {
        &self.frames
    }

    /// How loud the `frame`th frame from the start is, in dB below overload.
    fn level(&self, frame: usize) -> u8 {
        self.levels[frame % self.len()]
    }

    /// The payload of the `frame`th frame from the start, and its sequence number.
    fn packet(&self, frame: usize) -> Option<(&[u8], u16)> {
        let (round, place) = (frame / self.len(), frame % self.len());
        let payload = self.frames[place].as_deref()?;
        let sequence = round as u32 * self.sent + self.sent_before[place];
        Some((payload, sequence as u16))
    }
}

impl Generator {
    /// For so many participants.
    pub(crate) fn new(fan: Fan, count: usize, network: Network) -> Self {
        Self {
            fan,
            network,
            callers: vec![None; count],
            due: BinaryHeap::new(),
            outcome: Outcome {
                seen: (0..count).map(|_| Seen::default()).collect(),
                spacing: Histogram::new(),
                lateness: Histogram::new(),
                unsent: 0,
            },
            random: 1,
        }
    }

    /// Sends and listens until it is told to stop.
    pub(crate) fn run(mut self, new: &Receiver<Caller>, window: &Window) -> Outcome {
        while !window.stop.load(Ordering::Acquire) {
            for caller in new.try_iter() {
                self.adopt(caller);
            }
            let (begin, end) = (
                window.begin.load(Ordering::Acquire),
                window.end.load(Ordering::Acquire),
            );
            self.send(begin..end);
            self.listen(begin..end);
            let next = self.due.peek().map_or(u64::MAX, |Reverse((at, ..))| *at);
            system::sleep_until(next.min(system::now() + MILLISECOND));
        }
        self.outcome
    }

    fn adopt(&mut self, caller: Caller) {
        let index = caller.index;
        // Its call goes elsewhere now.
        if let Some(known) = &mut self.callers[index] {
            known.to = caller.to;
            return;
        }
        let now = system::now();
        let first = now - now % FRAME + FRAME + caller.phase;
        // With jitter a frame may overtake the one before, so that several are always under way.
        let ahead = 1 + self.network.jitter_ms.div_ceil(20);
        self.callers[index] = Some(caller);
        self.outcome.seen[index].sent_at.clear();
        // The first is where all later ones are counted from.
        self.outcome.seen[index].sent_at.push(first);
        for frame in 0..ahead {
            self.plan(index, first, frame);
        }
    }

    fn plan(&mut self, index: usize, first: u64, frame: u64) {
        let Some(caller) = &self.callers[index] else {
            return;
        };
        let frame_time = FRAME as i64 * 1_000_000 / (1_000_000 + caller.skew_ppm);
        let nominal = first + frame * frame_time as u64;
        let jitter = match self.network.jitter_ms {
            0 => 0,
            most => self.draw() % (most * MILLISECOND),
        };
        self.due.push(Reverse((nominal + jitter, index, frame)));
    }

    fn send(&mut self, measured: std::ops::Range<u64>) {
        loop {
            let now = system::now();
            let mut planned = [(0, 0, 0); BATCH];
            let mut count = 0;
            while count < BATCH
                && let Some(Reverse((at, ..))) = self.due.peek()
                && *at <= now
                && let Some(Reverse(next)) = self.due.pop()
            {
                planned[count] = next;
                count += 1;
            }
            if count == 0 {
                return;
            }
            self.send_batch(&planned[..count], now, &measured);
        }
    }

    fn send_batch(
        &mut self,
        planned: &[(u64, usize, u64)],
        now: u64,
        measured: &std::ops::Range<u64>,
    ) {
        for &(at, index, frame) in planned {
            if measured.contains(&at) {
                self.outcome.lateness.add(now - at);
            }
            let first = self.outcome.seen[index].sent_at[0];
            let ahead = 1 + self.network.jitter_ms.div_ceil(20);
            self.log(index, frame, now - at);
            self.plan(index, first, frame + ahead);
        }
        let lost: Vec<bool> = planned.iter().map(|_| self.is_lost()).collect();
        let mut outgoing = Vec::with_capacity(BATCH);
        for (&(_, index, frame), lost) in planned.iter().zip(lost) {
            let Some(caller) = &self.callers[index] else {
                continue;
            };
            let place = caller.offset + frame as usize;
            if let (false, Some((payload, sequence))) = (lost, caller.sound.packet(place)) {
                outgoing.push(Outgoing {
                    from: index,
                    to: caller.to,
                    header: header(caller, sequence, frame),
                    payload,
                });
            }
        }
        let sent = self.fan.send(&outgoing);
        self.outcome.unsent += (outgoing.len() - sent) as u64;
    }

    /// Keeps when a frame would have left on a clean network.
    fn log(&mut self, index: usize, frame: u64, late: u64) {
        let Some(caller) = &self.callers[index] else {
            return;
        };
        if !caller.logged || frame == 0 {
            return;
        }
        let frame_time = (FRAME as i64 * 1_000_000 / (1_000_000 + caller.skew_ppm)) as u64;
        let sent_at = &mut self.outcome.seen[index].sent_at;
        let nominal = sent_at[0] + frame * frame_time;
        let frame = frame as usize;
        if sent_at.len() <= frame {
            sent_at.resize(frame + 1, 0);
        }
        sent_at[frame] = nominal + late;
    }

    fn listen(&mut self, measured: std::ops::Range<u64>) {
        let Self {
            fan,
            callers,
            outcome,
            ..
        } = self;
        fan.receive(|index, at, packet| {
            if let Some(Some(caller)) = callers.get(index) {
                let seen = &mut outcome.seen[index];
                seen.take(packet, at, &measured, caller.taped, &mut outcome.spacing);
            }
        });
    }

    fn is_lost(&mut self) -> bool {
        self.network.loss_permille > 0
            && self.draw() % 1_000 < u64::from(self.network.loss_permille)
    }

    fn draw(&mut self) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.random >> 24
    }
}

impl Seen {
    fn take(
        &mut self,
        packet: &[u8],
        at: u64,
        measured: &std::ops::Range<u64>,
        taped: bool,
        spacing: &mut Histogram,
    ) {
        if packet.len() < 12 || packet[0] >> 6 != 2 {
            return;
        }
        let sequence = u16::from_be_bytes([packet[2], packet[3]]);
        let ssrc = [packet[8], packet[9], packet[10], packet[11]];
        let before = self.last.replace(Last { ssrc, sequence, at });
        if !measured.contains(&at) {
            return;
        }
        self.packets += 1;
        if let Some(before) = before.filter(|before| before.ssrc == ssrc) {
            let step = sequence.wrapping_sub(before.sequence);
            let passed = at.saturating_sub(before.at);
            if step == 1 {
                spacing.add(passed.abs_diff(FRAME));
            } else if (2..0x8000).contains(&step) {
                self.lost += u64::from(step) - 1;
            }
            self.gaps += u64::from(passed > GAP);
        }
        if taped && let Some(payload) = payload_of(packet) {
            self.tape.push(Taped {
                at,
                sequence,
                payload: payload.to_vec(),
            });
        }
    }
}

/// What follows the header, its contributors and its extension (RFC 3550 section 5.1).
fn payload_of(packet: &[u8]) -> Option<&[u8]> {
    let mut start = 12 + 4 * usize::from(packet[0] & 0x0F);
    if packet[0] & 0x10 != 0 {
        let words = packet.get(start + 2..start + 4)?;
        start += 4 + 4 * usize::from(u16::from_be_bytes([words[0], words[1]]));
    }
    packet.get(start..)
}

fn header(caller: &Caller, sequence: u16, frame: u64) -> Header {
    let mut header = [0; HEADER_BYTES];
    header[0] = 0x80;
    header[1] = caller.payload_type;
    header[2..4].copy_from_slice(&sequence.to_be_bytes());
    header[4..8].copy_from_slice(&(frame as u32).wrapping_mul(caller.step).to_be_bytes());
    header[8..12].copy_from_slice(&(0x5EED_0000 + caller.index as u32).to_be_bytes());
    if !caller.levels {
        return Header::new(header, 12);
    }
    // A header extension of one word (RFC 8285 section 4.2); the voice flag is set, as many always do.
    let level = caller.sound.level(caller.offset + frame as usize);
    header[0] |= 0x10;
    header[12..18].copy_from_slice(&[0xBE, 0xDE, 0, 1, 2 << 4, 0x80 | level]);
    Header::new(header, HEADER_BYTES)
}

/// A timer that does nothing but notice how late it is woken, every 5 ms: what any program on that core has to
/// live with.
pub(crate) fn bare_timer(core: usize, window: &Window) -> Histogram {
    system::stay_on(core);
    let mut lateness = Histogram::new();
    let mut due = system::now();
    while !window.stop.load(Ordering::Acquire) {
        due += 5 * MILLISECOND;
        system::sleep_until(due);
        let now = system::now();
        let measured = window.begin.load(Ordering::Acquire)..window.end.load(Ordering::Acquire);
        if measured.contains(&due) {
            lateness.add(now.saturating_sub(due));
        }
        due = due.max(now.saturating_sub(SECOND));
    }
    lateness
}

/// Nanoseconds.
pub(crate) const FRAME: u64 = 20 * MILLISECOND;
const GAP: u64 = 60 * MILLISECOND;
