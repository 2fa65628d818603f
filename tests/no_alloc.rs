//! The media thread's tick neither allocates nor frees: a counting allocator, armed around each
//! tick of a whole day in the life of an engine with real sockets.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::{Duration, Instant};

use voicebridge::engine::{Control, EngineConfig, EngineEvent, KnownPeer, MediaThread};
use voicebridge::media::codec::Codec;
use voicebridge::media::parameters::Direction;
use voicebridge::media::treatment::SoundOptions;
use voicebridge::units::{BridgeId, LegId};

mod phones;
use phones::{Phone, rendition};

struct Counting;

thread_local! {
    static ARMED: Cell<bool> = const { Cell::new(false) };
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    if ARMED.get() {
        COUNT.set(COUNT.get() + 1);
    }
}

// SAFETY: everything is passed on to the system's allocator as it is; counting touches only
// thread-local cells that need neither initialisation nor destruction.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count();
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations and frees on this thread while `work` runs.
fn counted(work: impl FnOnce()) -> u64 {
    COUNT.set(0);
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

    /// Runs for so many frames; every tick of every thread is counted.
    fn run(&mut self, what: &str, frames: u32) {
        for _ in 0..4 * frames {
            if self.ticks.is_multiple_of(4) {
                self.phones.iter_mut().for_each(Phone::speak);
            }
            let now = self.start + Duration::from_millis(5) * self.ticks;
            for thread in &mut self.threads {
                let touched = counted(|| thread.tick(now));
                assert_eq!(touched, 0, "{what}: a tick allocated or freed");
            }
            self.ticks += 1;
            self.control.pump();
            self.events
                .extend(std::iter::from_fn(|| self.control.poll_event()));
            self.phones.iter().for_each(|phone| {
                phone.listen();
            });
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a test is a shell")]
fn world(threads: usize) -> World {
    let config = EngineConfig {
        address: "127.0.0.1".parse().unwrap(),
        ports: 23_300..=23_499,
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
    let mut world = world(2);
    for codec in Codec::ALL.into_iter().cycle().take(12) {
        let talks = world.phones.len() % 4 != 3 || codec == Codec::Opus && world.phones.len() == 3;
        world.call(codec, talks);
    }
    world.run("silence to lone legs", 10);
    let legs: Vec<_> = world
        .phones
        .iter()
        .map(|phone| (phone.leg, phone.codec))
        .collect();
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
    for phone in &mut world.phones {
        let old = std::mem::replace(phone, Phone::new(phone.leg, Codec::G722, phone.to, true));
        drop(old);
        // Some of them stay on the shared port, some take sockets of their own.
        let parameters = phone.parameters(Direction::SendRecv);
        let peer = KnownPeer::of(&parameters).filter(|_| !phone.leg.0.is_multiple_of(3));
        let port = world.control.readdress(phone.leg, peer).unwrap();
        phone.to.set_port(port);
        world.control.connect_leg(phone.leg, &parameters).unwrap();
    }
    world.run("another codec", 20);
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

#[test]
fn the_counter_notices_an_allocation_and_a_free() {
    assert_eq!(counted(|| {}), 0);
    let mut kept = None;
    assert_eq!(counted(|| kept = Some(Box::new(1))), 1);
    assert_eq!(counted(|| drop(kept.take())), 1);
}
