//! The media thread's tick neither allocates nor frees: a counting allocator, armed around each
//! tick of a whole day in the life of an engine with real sockets.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use voicebridge::engine::{Control, EngineConfig, EngineEvent, KnownPeer, MediaThread};
use voicebridge::media::codec::Codec;
use voicebridge::media::mixer::{Bridge, Fitting};
use voicebridge::media::parameters::Direction;
use voicebridge::media::treatment::SoundOptions;
use voicebridge::units::{BridgeId, LegId};

mod phones;
use phones::{Phone, rendition};

struct Counting;

thread_local! {
    static ARMED: Cell<bool> = const { Cell::new(false) };
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

fn count(bytes: usize) {
    if ARMED.get() {
        COUNT.set(COUNT.get() + 1);
        BYTES.set(BYTES.get() + bytes);
    }
}

// SAFETY: everything is passed on to the system's allocator as it is; counting touches only
// thread-local cells that need neither initialisation nor destruction.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations and frees on this thread while `work` runs.
fn counted(work: impl FnOnce()) -> u64 {
    COUNT.set(0);
    BYTES.set(0);
    ARMED.set(true);
    work();
    ARMED.set(false);
    COUNT.get()
}

struct World {
    control: Control,
    threads: Vec<MediaThread>,
    phones: Vec<Phone>,
    start: Instant,
    ticks: u32,
    events: Vec<EngineEvent>,
}

impl World {
    /// Every other one shares a port.
    fn call(&mut self, codec: Codec, talks: bool) {
        let to = "127.0.0.1:9".parse().unwrap();
        let mut phone = Phone::new(LegId(0), codec, to, talks);
        let parameters = phone.parameters(Direction::SendRecv);
        let opened = if self.phones.len().is_multiple_of(2) {
            self.control.open_leg()
        } else {
            let peer = KnownPeer::of(&parameters).unwrap();
            self.control.open_leg_for(peer)
        };
        let opened = opened.unwrap();
        (phone.leg, phone.to) = (opened.leg, opened.rtp);
        self.control.connect_leg(phone.leg, &parameters).unwrap();
        self.phones.push(phone);
    }

    fn legs(&self) -> Vec<(LegId, Codec)> {
        let of = |phone: &Phone| (phone.leg, phone.codec);
        self.phones.iter().map(of).collect()
    }

    /// Runs for so many frames; every tick of every thread is counted.
    fn run(&mut self, what: &str, frames: u32) {
        for _ in 0..4 * frames {
            if self.ticks.is_multiple_of(4) {
                self.phones.iter_mut().for_each(Phone::speak);
            }
            self.tick(what);
            self.control.pump();
            self.events
                .extend(std::iter::from_fn(|| self.control.poll_event()));
        }
    }

    /// One tick of every thread. What it tells and gives back stays in the rings.
    fn tick(&mut self, what: &str) {
        let now = self.start + Duration::from_millis(5) * self.ticks;
        for thread in &mut self.threads {
            let touched = counted(|| thread.tick(now));
            assert_eq!(touched, 0, "{what}: a tick allocated or freed");
        }
        self.ticks += 1;
        self.phones.iter().for_each(|phone| {
            phone.listen();
        });
    }

    fn keys(&self) -> usize {
        let keys = |event: &&EngineEvent| matches!(event, EngineEvent::Key { .. });
        self.events.iter().filter(keys).count()
    }

    fn close(&mut self) {
        for (leg, _) in self.legs() {
            self.control.close_leg(leg);
        }
        self.run("closing", 30);
        assert_eq!(self.control.legs(), 0);
    }
}

#[expect(clippy::disallowed_methods, reason = "a test is a shell")]
fn world(threads: usize, ports: RangeInclusive<u16>) -> World {
    let config = EngineConfig {
        address: "127.0.0.1".parse().unwrap(),
        ports,
        threads,
        legs_max: 32,
        shared: true,
        ..EngineConfig::default()
    };
    let start = Instant::now();
    MediaThread::prepare();
    let (control, threads) = Control::new(config, start).unwrap();
    World {
        control,
        threads,
        phones: Vec::new(),
        start,
        ticks: 0,
        events: Vec::new(),
    }
}

#[test]
fn the_tick_neither_allocates_nor_frees() {
    let mut world = world(2, 23_300..=23_399);
    for codec in Codec::ALL.into_iter().cycle().take(12) {
        let talks = world.phones.len() % 4 != 3 || codec == Codec::Opus && world.phones.len() == 3;
        world.call(codec, talks);
    }
    world.run("silence to lone legs", 10);
    let legs = world.legs();
    for (leg, codec) in &legs {
        world.control.music(*leg, Some(rendition(*codec, 7)));
        world
            .control
            .play(*leg, vec![rendition(*codec, 5), rendition(*codec, 3)], 1);
    }
    world.run("prompts, then music", 20);
    for (leg, _) in &legs {
        world.control.set_sound(*leg, sound(true));
        world.control.join(*leg, BridgeId(1), false);
    }
    world.run("moves, joins, a meeting", 60);
    for (leg, codec) in &legs {
        world.control.play(*leg, vec![rendition(*codec, 5)], 2);
    }
    let clip = [Codec::Pcmu, Codec::G722, Codec::Opus].map(|codec| rendition(codec, 6));
    world.control.play_to_bridge(BridgeId(1), clip.to_vec());
    world.run("whispers and a clip", 20);
    for phone in &mut world.phones {
        phone.press(5);
        phone.report();
    }
    world.control.mute(legs[0].0, true);
    world.run("keys, reports, mute", 20);
    for phone in &mut world.phones[..6] {
        phone.talks = false;
    }
    for (leg, _) in &legs[..6] {
        world.control.set_sound(*leg, sound(false));
    }
    world.run("silence, back to the shared mix", 80);
    lose_and_garble(&mut world);
    change(&mut world);
    world.ticks += 50;
    world.run("late by 250 ms", 10);
    for (leg, _) in &legs[..6] {
        world.control.leave(*leg);
    }
    world.control.join(legs[1].0, BridgeId(9), true);
    world.run("out of the meeting, one into another, echo", 20);
    for (leg, _) in &legs {
        world.control.close_leg(*leg);
    }
    world.run("closing", 5);
    assert_eq!(world.control.legs(), 0);
    assert_happened(&world.events, legs.len());
}

fn sound(noise_suppression: bool) -> SoundOptions {
    SoundOptions {
        automatic_gain: true,
        noise_suppression,
    }
}

/// Packets lost, late, doubled, garbled, and from a stranger.
fn lose_and_garble(world: &mut World) {
    let stranger = Phone::new(world.phones[0].leg, Codec::Pcmu, world.phones[0].to, true);
    for frame in 0..40 {
        for phone in &mut world.phones {
            let packet = phone.audio_packet();
            if frame % 5 != 0 {
                phone.rtp.send_to(&packet, phone.to).unwrap();
                phone.rtp.send_to(&packet, phone.to).unwrap();
                phone
                    .rtp
                    .send_to(&packet[..packet.len() / 3], phone.to)
                    .unwrap();
            }
            stranger.rtp.send_to(&packet, phone.to).unwrap();
            stranger.rtp.send_to(&[0x80; 3], phone.to).unwrap();
        }
        world.run("loss and garbage", 1);
    }
}

/// Hold, resume, another codec.
fn change(world: &mut World) {
    for direction in [
        Direction::SendOnly,
        Direction::Inactive,
        Direction::SendRecv,
    ] {
        for phone in &world.phones {
            world
                .control
                .connect_leg(phone.leg, &phone.parameters(direction))
                .unwrap();
        }
        world.run("hold and resume", 5);
    }
    for step in 1..=Codec::ALL.len() {
        for (n, phone) in world.phones.iter_mut().enumerate() {
            phone.change(Codec::ALL[(n + step) % Codec::ALL.len()]);
            world
                .control
                .connect_leg(phone.leg, &phone.parameters(Direction::SendRecv))
                .unwrap();
        }
        world.run("another codec", 10);
    }
}

fn assert_happened(events: &[EngineEvent], legs: usize) {
    let count =
        |wanted: &dyn Fn(&EngineEvent) -> bool| events.iter().filter(|event| wanted(event)).count();
    assert_eq!(
        count(&|event| matches!(event, EngineEvent::PlayFinished { token: 1, .. })),
        legs
    );
    assert_eq!(
        count(&|event| matches!(event, EngineEvent::PlayFinished { token: 2, .. })),
        legs
    );
    assert_eq!(
        count(&|event| matches!(event, EngineEvent::Key { .. })),
        legs
    );
    assert_eq!(
        count(&|event| matches!(event, EngineEvent::LegClosed { .. })),
        legs
    );
    assert!(count(&|event| matches!(event, EngineEvent::Report { .. })) >= legs);
    assert!(count(&|event| matches!(event, EngineEvent::Talking { .. })) > 0);
}

/// Everything at once, in an order drawn from a seed, on legs that all talk.
#[test]
fn a_busy_engine_neither_allocates_nor_frees() {
    let mut world = world(3, 23_400..=23_499);
    for n in 0..24 {
        world.call(Codec::ALL[n / 2 % 4], true);
    }
    let mut random = 7_u64;
    let mut below = |limit: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (random >> 33) % limit
    };
    for round in 0..400 {
        let (leg, codec) = world.legs()[below(24) as usize];
        let bridge = BridgeId(1 + below(5));
        let chosen = below(24) as usize;
        match below(10) {
            0..3 => world.control.join(leg, bridge, false),
            3 => world.control.leave(leg),
            4 => world.control.join(leg, bridge, true),
            5 => world.control.mute(leg, below(2) == 0),
            6 => world.control.play(leg, vec![rendition(codec, 3)], round),
            7 => world.control.music(leg, Some(rendition(codec, 4))),
            8 => world.phones[chosen].press(5),
            _ => {
                let clip = [Codec::Pcmu, Codec::G722, Codec::Opus].map(|it| rendition(it, 3));
                world.control.play_to_bridge(bridge, clip.to_vec());
            }
        }
        world.run("a busy engine", 1);
    }
    let threads = world.control.health();
    assert!(
        threads.iter().all(|thread| thread.packets_out > 1_000),
        "every thread had its share"
    );
    world.close();
}

/// A control side that doesn't come round leaves every ring full; a machine that stops for a while
/// leaves a second of packets and ticks.
#[test]
fn an_overloaded_engine_neither_allocates_nor_frees() {
    let mut world = world(2, 23_500..=23_599);
    for n in 0..12 {
        world.call(Codec::ALL[n / 2 % 4], true);
    }
    for (n, (leg, _)) in world.legs().into_iter().enumerate() {
        world.control.join(leg, BridgeId(1 + n as u64 % 2), false);
    }
    world.run("before the load", 30);
    let before = world.control.health();
    let legs = world.legs();
    for token in 0..400 {
        for (leg, codec) in &legs {
            world.control.play(*leg, vec![rendition(*codec, 2)], token);
        }
    }
    // Nobody takes anything: first what is given back fills up, then the news.
    for frame in 0..1_500 {
        for (leg, codec) in legs.iter().filter(|_| frame < 400) {
            let playlist = vec![rendition(*codec, 2)];
            world.control.play(*leg, playlist, frame);
        }
        for phone in world.phones.iter_mut().filter(|_| frame % 2 == 0) {
            phone.press(5);
            phone.speak();
        }
        world.tick("full rings");
    }
    let full = world.control.health();
    for (full, before) in full.iter().zip(&before) {
        assert!(full.commands_backlog > 300, "{full:?}");
        assert!(full.reports_dropped > before.reports_dropped, "{full:?}");
    }
    let keys = world.keys();
    world.run("it comes round", 60);
    let told = world.keys() - keys;
    assert!(told > 2 * 3_000, "the ring of events was full: {told} keys");
    assert!(
        world
            .control
            .health()
            .iter()
            .all(|thread| thread.commands_backlog == 0)
    );
    for phone in &mut world.phones {
        for _ in 0..50 {
            phone.speak();
        }
    }
    world.ticks += 200;
    world.run("it stood still for a second", 20);
    assert!(
        world
            .control
            .health()
            .iter()
            .all(|thread| thread.skipped > 190)
    );
    world.close();
}

/// What a meeting of four takes beside its legs. The first one may make what all share.
#[test]
fn a_small_meeting_takes_little_memory() {
    let bytes = |codec| {
        let mut made = None;
        for _ in 0..2 {
            counted(|| {
                let mut bridge = Box::new(Bridge::new(4));
                bridge.fit(Fitting::encoder(codec).unwrap());
                made = Some(bridge);
            });
        }
        BYTES.get()
    };
    let [narrow, opus] = [Codec::Pcmu, Codec::Opus].map(bytes);
    assert!((1..8 << 10).contains(&narrow), "{narrow} bytes");
    assert!((1..44 << 10).contains(&opus), "{opus} bytes");
}

#[test]
fn the_counter_notices_an_allocation_and_a_free() {
    assert_eq!(counted(|| {}), 0);
    let mut kept = None;
    assert_eq!(counted(|| kept = Some(Box::new(1))), 1);
    assert_eq!(counted(|| drop(kept.take())), 1);
}
