//! A whole bridge's tick in steady state, without sockets and without a harness: what `valgrind`
//! counts instructions of, and what a clock is put to where caches matter.
//!
//! `cargo bench --bench tick -- g711 400 2 100` runs 100 frames of 400 G.711 legs of which two talk and the
//! others send room noise at -55 dBFS, and prints nanoseconds per leg and frame, apart for
//! packets coming in and for the mix. Codecs: `g711`, `inband` (keys as tones), `g722`, `opus`;
//! `meetings=N` as a further word splits the legs into N bridges, `silent` sends no noise, `cold` sweeps the
//! caches before each step, as the kernel does with the packets' own memory.
//! Under `valgrind --tool=callgrind --toggle-collect='tick::measured_*'` it counts only these.

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use voicebridge::media::codec::{Codec, Encoder};
use voicebridge::media::command::{LegKind, LegSlot};
use voicebridge::media::leg::{CodecSet, Leg, LegConfig, LegStart, Tick};
use voicebridge::media::mixer::{Bridge, Desk, Fitting, prefetch_ahead};
use voicebridge::media::parameters::{MediaParameters, TelephoneEvent};
use voicebridge::media::playback::SilenceFrames;
use voicebridge::media::receive::ReceiverConfig;
use voicebridge::media::rtcp::{NtpClock, NtpTime};
use voicebridge::media::sender::{RtpOrigin, Transmit};
use voicebridge::units::{LegId, RtpTicks, SeqNo, Ssrc};

struct Scene {
    codec: Codec,
    inband: bool,
    legs: usize,
    talkers: usize,
    frames: usize,
    meetings: usize,
    noise: bool,
    /// Of memory that is walked through before each step.
    sweep_bytes: usize,
}

struct World {
    bridges: Vec<Bridge>,
    desk: Desk,
    legs: Vec<Option<Box<Leg>>>,
    addresses: Vec<SocketAddr>,
    talkers: usize,
    /// Payloads per frame: some talkers', then some listeners'.
    sounds: Vec<Vec<Vec<u8>>>,
    codec: Codec,
    silence: SilenceFrames,
    start: Instant,
    frame: usize,
    packets: Vec<Vec<u8>>,
    /// Per frame: until the last listener's packet, and in all.
    waits: Vec<(Duration, Duration)>,
}

struct Nowhere {
    bytes: usize,
    /// When the last packet to a listener went, where asked for.
    listeners: Option<std::ops::RangeFrom<u32>>,
    last: Option<Instant>,
}

impl Transmit for Nowhere {
    fn rtp(&mut self, leg: LegSlot, _: SocketAddr, packet: &[u8]) {
        self.bytes += black_box(packet).len();
        if self
            .listeners
            .as_ref()
            .is_some_and(|listeners| listeners.contains(&leg.0))
        {
            self.last = Some(now());
        }
    }
    fn rtcp(&mut self, _: LegSlot, _: SocketAddr, _: bool, _: &[u8]) {}
}

fn main() {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let number = |at: usize, otherwise| {
        words
            .get(at)
            .and_then(|word| word.parse().ok())
            .unwrap_or(otherwise)
    };
    let codec = match words.first().map(String::as_str) {
        Some("opus") => Codec::Opus,
        Some("g722") => Codec::G722,
        Some(_) | None => Codec::Pcmu,
    };
    let meetings = words
        .iter()
        .find_map(|word| word.strip_prefix("meetings=")?.parse().ok());
    let scene = Scene {
        codec,
        inband: words.first().is_some_and(|word| word == "inband"),
        legs: number(1, 400),
        talkers: number(2, 2),
        frames: number(3, 100),
        meetings: meetings.unwrap_or(1),
        noise: !words.iter().any(|word| word == "silent"),
        sweep_bytes: if words.iter().any(|word| word == "cold") {
            SWEEP_BYTES
        } else {
            0
        },
    };
    let mut world = World::new(&scene);
    for _ in 0..WARM_UP {
        world.make_packets();
        measured_receive_warm(&mut world);
        mix(&mut world);
    }
    let mut swept = vec![0_u8; scene.sweep_bytes];
    let (mut receiving, mut mixing) = (Duration::MAX, Duration::MAX);
    let (mut receiving_sum, mut mixing_sum) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..scene.frames {
        world.make_packets();
        sweep(&mut swept);
        let received = timed(|| measured_receive(&mut world));
        sweep(&mut swept);
        let mixed = timed(|| measured_mix(&mut world));
        receiving = receiving.min(received);
        mixing = mixing.min(mixed);
        receiving_sum += received;
        mixing_sum += mixed;
    }
    let per_leg = |time: Duration| time.as_nanos() as f64 / scene.legs as f64;
    let mean = |time: Duration| per_leg(time) / scene.frames as f64;
    say(&format!(
        "{:?} legs {} talkers {} meetings {}: ns per leg and frame, least (mean): in {:.0} ({:.0}), mix {:.0} ({:.0}), both {:.0} ({:.0})",
        scene.codec,
        scene.legs,
        scene.talkers,
        scene.meetings,
        per_leg(receiving),
        mean(receiving_sum),
        per_leg(mixing),
        mean(mixing_sum),
        per_leg(receiving) + per_leg(mixing),
        mean(receiving_sum) + mean(mixing_sum),
    ));
    tell_waits(&world.waits);
}

fn tell_waits(waits: &[(Duration, Duration)]) {
    if !waits.is_empty() {
        let listeners = median(waits.iter().map(|wait| wait.0).collect());
        let all = median(waits.iter().map(|wait| wait.1).collect());
        say(&format!(
            "median: listeners' packets after {listeners:?}, all after {all:?}"
        ));
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = now();
    work();
    now() - start
}

/// Writes to every line.
fn sweep(memory: &mut [u8]) {
    for line in memory.iter_mut().step_by(64) {
        *line = black_box(line.wrapping_add(1));
    }
}

#[inline(never)]
fn measured_receive(world: &mut World) {
    receive(world);
}

#[inline(never)]
fn measured_mix(world: &mut World) {
    mix(world);
}

fn measured_receive_warm(world: &mut World) {
    receive(world);
}

/// Each leg's packet comes in.
fn receive(world: &mut World) {
    let now = world.now();
    for ((leg, packet), address) in world
        .legs
        .iter_mut()
        .zip(&world.packets)
        .zip(&world.addresses)
    {
        if let Some(leg) = leg
            && !packet.is_empty()
        {
            leg.handle_rtp(now, *address, packet);
        }
    }
}

fn mix(world: &mut World) {
    // In Opus the clock costs nothing beside the rest.
    let asked = world.codec == Codec::Opus && world.bridges.len() == 1;
    let mut sent = Nowhere {
        bytes: 0,
        listeners: asked.then_some(world.talkers as u32..),
        last: None,
    };
    let (now_there, number) = (world.now(), 4 * world.frame as u64);
    let World {
        bridges,
        legs,
        desk,
        silence,
        ..
    } = &mut *world;
    let tick = Tick {
        now: now_there,
        number,
        silence,
    };
    let begin = now();
    for index in 0..bridges.len() {
        let (present, next) = bridges.split_at_mut(index + 1);
        // As the engine does.
        prefetch_ahead(|count| next.get(count), legs);
        present[index].mix_tick(&tick, legs, desk, &mut sent);
        next.first().iter().for_each(|it| it.prefetch_buffers(legs));
    }
    black_box(sent.bytes);
    let end = now();
    if let Some(last) = sent.last {
        world.waits.push((last - begin, end - begin));
    }
    world.frame += 1;
}

impl World {
    fn new(scene: &Scene) -> Self {
        let start = now();
        let per_meeting = scene.legs.div_ceil(scene.meetings);
        let mut bridges: Vec<_> = (0..scene.meetings)
            .map(|_| {
                let mut bridge = Bridge::new(per_meeting);
                bridge.fit(Fitting::encoder(scene.codec).expect("a codec"));
                bridge
            })
            .collect();
        let (mut legs, mut addresses) = (Vec::new(), Vec::new());
        for index in 0..scene.legs {
            let address = SocketAddr::from(([127, 0, 1, 1], 2_000 + 2 * index as u16));
            legs.push(Some(Box::new(leg(index as u32, scene, address, start))));
            addresses.push(address);
            bridges[index / per_meeting].join(LegSlot(index as u32));
        }
        let frames = WARM_UP + scene.frames;
        let sounds = (0..2 * SOUNDS)
            .map(|seed| sound(scene.codec, seed, frames, scene.noise))
            .collect();
        Self {
            bridges,
            desk: Desk::new(),
            packets: vec![Vec::with_capacity(400); scene.legs],
            legs,
            addresses,
            talkers: scene.talkers,
            sounds,
            codec: scene.codec,
            silence: SilenceFrames::new().expect("codecs"),
            start,
            frame: 0,
            waits: Vec::with_capacity(frames),
        }
    }

    /// Of each meeting the first few talk.
    fn make_packets(&mut self) {
        let per_meeting = self.legs.len().div_ceil(self.bridges.len());
        for (index, packet) in self.packets.iter_mut().enumerate() {
            let kind = if index % per_meeting < self.talkers {
                0
            } else {
                SOUNDS
            };
            let payload = &self.sounds[kind + index % SOUNDS][self.frame];
            packet.clear();
            if payload.is_empty() {
                continue;
            }
            packet.extend([0x80, self.codec.static_payload_type().unwrap_or(96)]);
            packet.extend((self.frame as u16).to_be_bytes());
            packet.extend((self.frame as u32 * self.codec.rtp_clock() / 50).to_be_bytes());
            packet.extend((index as u32 + 1).to_be_bytes());
            packet.extend(payload);
        }
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_millis(20 * self.frame as u64)
    }
}

/// The first seeds talk, the others are rooms.
fn sound(codec: Codec, seed: usize, frames: usize, noise: bool) -> Vec<Vec<u8>> {
    let (rate, talks) = (codec.sample_rate(), seed < SOUNDS);
    let mut random = 0x9E37_79B9_u32.wrapping_mul(seed as u32 + 1) | 1;
    let mut encoder = Encoder::new(codec).expect("a codec");
    let mut sample = |n: usize| {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        let t = n as f64 / f64::from(rate.hz()) * std::f64::consts::TAU;
        let room = f64::from(random) / f64::from(u32::MAX) * 2.0 * ROOM_PEAK - ROOM_PEAK;
        let pitch = 110.0 + 17.0 * seed as f64;
        let voice: f64 = (1..12)
            .map(|k| (t * pitch * f64::from(k)).sin() / f64::from(k))
            .sum();
        let envelope = 0.3 + (t * 3.0).sin().powi(2);
        (room
            + if talks {
                3_000.0 * voice * envelope
            } else {
                0.0
            }) as i16
    };
    (0..frames)
        .map(|frame| {
            if !talks && !noise {
                return Vec::new();
            }
            let first = frame * rate.frame_samples();
            let pcm: Vec<i16> = (first..first + rate.frame_samples())
                .map(&mut sample)
                .collect();
            let mut payload = [0; 400];
            let length = encoder.encode(&pcm, &mut payload).expect("a frame");
            payload[..length].to_vec()
        })
        .collect()
}

fn leg(index: u32, scene: &Scene, address: SocketAddr, start: Instant) -> Leg {
    let parameters = MediaParameters {
        telephone_event: (!scene.inband).then_some(TelephoneEvent {
            payload_type: 101,
            clock: scene.codec.rtp_clock(),
        }),
        ..MediaParameters::plain(scene.codec, address)
    };
    let config = LegConfig {
        media_timeout: Duration::from_secs(30),
        hold_timeout: Duration::from_secs(300),
        clock: NtpClock::new(start, NtpTime(0)),
    };
    let origin = RtpOrigin {
        ssrc: Ssrc(index),
        sequence: SeqNo(0),
        timestamp: RtpTicks(0),
    };
    let codecs = Box::new(CodecSet::new(&parameters, ReceiverConfig::default()).expect("codecs"));
    Leg::new(
        LegId(u64::from(index)),
        LegKind::Caller,
        config,
        LegStart {
            parameters,
            origin,
            codecs,
            srtp: None,
        },
        start,
    )
}

#[expect(clippy::disallowed_methods, reason = "a bench is a shell")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::print_stdout, reason = "what is measured is what is asked for")]
fn say(line: &str) {
    println!("{line}");
}

/// More than a processor's caches hold.
const SWEEP_BYTES: usize = 64 << 20;
/// Frames before anything is counted.
const WARM_UP: usize = 100;
/// Different voices, and as many rooms.
const SOUNDS: usize = 8;
/// Uniform noise of -55 dBFS.
const ROOM_PEAK: f64 = 101.0;
