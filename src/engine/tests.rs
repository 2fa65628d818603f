mod arrival;
mod attacks;
mod one_way;
mod packet_times;
mod shared;
mod sleep;
mod stall;
mod wire;

use std::net::{SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::media::clip::Rendition;
use crate::media::codec::{Codec, Decoder, Encoder};
use crate::media::command::Refusal;
use crate::media::parameters::{Direction, MediaParameters, TelephoneEvent};
use crate::media::seeded::Random;
use crate::units::{BridgeId, LegId, SampleRate};

/// An engine on a pushed clock with real sockets on the loopback device.
struct World {
    control: Control,
    threads: Vec<MediaThread>,
    start: Instant,
    ticks: u32,
    phones: Vec<Phone>,
    events: Vec<EngineEvent>,
}

/// The other end of a leg: speaks a tone, keeps what it was sent.
struct Phone {
    leg: LegId,
    codec: Codec,
    rtp: UdpSocket,
    rtcp: UdpSocket,
    to: SocketAddr,
    encoder: Encoder,
    hz: Option<f64>,
    sequence: u16,
    timestamp: u32,
    /// Without header and its time of arrival in ticks.
    packets: Vec<(u32, Vec<u8>)>,
}

const TEN_MS: Duration = Duration::from_millis(10);

impl World {
    fn new(threads: usize, ports: RangeInclusive<u16>) -> Self {
        Self::with(Self::config(threads, ports))
    }

    fn config(threads: usize, ports: RangeInclusive<u16>) -> EngineConfig {
        EngineConfig {
            address: "127.0.0.1".parse().unwrap(),
            ports,
            threads,
            legs_max: 16,
            media_timeout: Duration::from_secs(2),
            hold_timeout: Duration::from_secs(4),
            ..EngineConfig::default()
        }
    }

    fn with(config: EngineConfig) -> Self {
        let start = now();
        let (control, threads) = Control::new(config, start).unwrap();
        Self {
            control,
            threads,
            start,
            ticks: 0,
            phones: Vec::new(),
            events: Vec::new(),
        }
    }

    fn call(&mut self, codec: Codec, hz: Option<f64>) -> usize {
        let opened = self.control.open_leg().unwrap();
        assert_eq!(opened.rtp.port() % 2, 0);
        let phone = Phone::new(opened.leg, codec, opened.rtp, hz);
        let parameters = phone.parameters(Direction::SendRecv);
        self.control.connect_leg(opened.leg, &parameters).unwrap();
        self.phones.push(phone);
        self.phones.len() - 1
    }

    /// Runs for so many 20 ms; phones speak at the beginning of each.
    fn run(&mut self, frames: u32) {
        for _ in 0..4 * frames {
            self.run_tick();
        }
    }

    fn run_tick(&mut self) {
        if self.ticks.is_multiple_of(4) {
            self.phones.iter_mut().for_each(Phone::speak);
        }
        let now = self.start + Duration::from_millis(5) * self.ticks;
        for thread in &mut self.threads {
            thread.tick(now);
        }
        self.control.pump();
        self.events
            .extend(std::iter::from_fn(|| self.control.poll_event()));
        for phone in &mut self.phones {
            phone.listen(self.ticks);
        }
        self.ticks += 1;
    }

    fn leg(&self, phone: usize) -> LegId {
        self.phones[phone].leg
    }

    fn count(&self, wanted: impl Fn(&EngineEvent) -> bool) -> usize {
        self.events.iter().filter(|event| wanted(event)).count()
    }
}

impl Phone {
    fn new(leg: LegId, codec: Codec, to: SocketAddr, hz: Option<f64>) -> Self {
        let rtp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let rtcp = UdpSocket::bind("127.0.0.1:0").unwrap();
        rtp.set_nonblocking(true).unwrap();
        rtcp.set_nonblocking(true).unwrap();
        let encoder = Encoder::new(codec).unwrap();
        Self {
            leg,
            codec,
            rtp,
            rtcp,
            to,
            encoder,
            hz,
            sequence: 65_530,
            timestamp: 0,
            packets: Vec::new(),
        }
    }

    fn parameters(&self, direction: Direction) -> MediaParameters {
        MediaParameters {
            telephone_event: Some(TelephoneEvent {
                payload_type: 101,
                clock: self.codec.rtp_clock(),
            }),
            direction,
            remote_rtcp: self.rtcp.local_addr().unwrap(),
            ..MediaParameters::plain(self.codec, self.rtp.local_addr().unwrap())
        }
    }

    fn header(&mut self, payload_type: u8, timestamp: u32) -> Vec<u8> {
        let mut packet = vec![0x80, payload_type];
        packet.extend(self.sequence.to_be_bytes());
        packet.extend(timestamp.to_be_bytes());
        packet.extend([0, 0, 0, 7]);
        self.sequence = self.sequence.wrapping_add(1);
        packet
    }

    fn speak(&mut self) {
        let Some(hz) = self.hz else { return };
        let packet = self.tone_packet(hz);
        self.rtp.send_to(&packet, self.to).unwrap();
    }

    fn tone_packet(&mut self, hz: f64) -> Vec<u8> {
        let rate = self.codec.sample_rate();
        let first =
            u64::from(self.timestamp) * u64::from(rate.hz()) / u64::from(self.codec.rtp_clock());
        let pcm: Vec<i16> = (0..rate.frame_samples() as u64)
            .map(|i| {
                (6_000.0
                    * (hz * (first + i) as f64 / f64::from(rate.hz()) * std::f64::consts::TAU)
                        .sin()) as i16
            })
            .collect();
        let mut payload = [0; 400];
        let length = self.encoder.encode(&pcm, &mut payload).unwrap();
        let mut packet = self.header(
            self.codec.static_payload_type().unwrap_or(96),
            self.timestamp,
        );
        packet.extend(&payload[..length]);
        self.timestamp = self.timestamp.wrapping_add(self.codec.rtp_clock() / 50);
        packet
    }

    /// RFC 4733: the key going down, held, and three times up.
    fn press(&mut self, event: u8) {
        let timestamp = self.timestamp;
        for (end, duration) in [
            (0, 160_u16),
            (0, 320),
            (0, 800),
            (0x80, 800),
            (0x80, 800),
            (0x80, 800),
        ] {
            let mut packet = self.header(101, timestamp);
            packet.extend([event, end | 10]);
            packet.extend(duration.to_be_bytes());
            self.rtp.send_to(&packet, self.to).unwrap();
        }
    }

    fn listen(&mut self, tick: u32) {
        let mut buffer = [0; 2_000];
        while let Ok((length, from)) = self.rtp.recv_from(&mut buffer) {
            assert_eq!(from, self.to);
            self.packets.push((tick, buffer[..length].to_vec()));
        }
    }

    /// Level of a tone in the last `frames` packets, dB re full scale amplitude.
    fn level(&self, hz: f64, frames: usize) -> f64 {
        let heard = self.heard();
        let rate = self.codec.sample_rate();
        tone_level(
            &heard[heard.len() - frames * rate.frame_samples()..],
            rate,
            hz,
        )
    }

    /// Level of each tone in each frame.
    fn frame_levels(&self, tones: [f64; 4]) -> Vec<[f64; 4]> {
        let rate = self.codec.sample_rate();
        self.heard()
            .chunks(rate.frame_samples())
            .map(|frame| tones.map(|hz| tone_level(frame, rate, hz)))
            .collect()
    }

    fn heard(&self) -> Vec<i16> {
        let mut decoder = Decoder::new(self.codec).unwrap();
        let mut heard = Vec::new();
        for (_, packet) in &self.packets {
            let mut pcm = [0; 5_760];
            let length = decoder.decode(&packet[12..], &mut pcm).unwrap();
            heard.extend_from_slice(&pcm[..length]);
        }
        heard
    }

    fn assert_unbroken(&self) {
        for pair in self.packets.windows(2) {
            let (a, b) = (&pair[0].1, &pair[1].1);
            let number = |p: &[u8]| u16::from_be_bytes([p[2], p[3]]);
            let time = |p: &[u8]| u32::from_be_bytes([p[4], p[5], p[6], p[7]]);
            assert_eq!(number(b), number(a).wrapping_add(1));
            assert_eq!(time(b), time(a).wrapping_add(self.codec.rtp_clock() / 50));
            assert_eq!(a[8..12], b[8..12], "SSRC");
            assert!(
                pair[1].0 - pair[0].0 <= 8,
                "a gap of {} ticks",
                pair[1].0 - pair[0].0
            );
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a test is a shell")]
fn now() -> Instant {
    Instant::now()
}

fn tone_level(samples: &[i16], rate: SampleRate, hz: f64) -> f64 {
    let (mut re, mut im) = (0.0, 0.0);
    for (i, sample) in samples.iter().enumerate() {
        let phase = hz * i as f64 / f64::from(rate.hz()) * std::f64::consts::TAU;
        re += f64::from(*sample) * phase.cos();
        im += f64::from(*sample) * phase.sin();
    }
    20.0 * (2.0 * (re * re + im * im).sqrt() / samples.len() as f64 / 32_768.0)
        .max(1e-7)
        .log10()
}

fn rendition(codec: Codec, frames: usize, hz: f64) -> Arc<Rendition> {
    let rate = codec.sample_rate();
    let sound =
        |i: usize| 5_000.0 * (hz * i as f64 / f64::from(rate.hz()) * std::f64::consts::TAU).sin();
    let pcm: Vec<i16> = (0..frames * rate.frame_samples())
        .map(|i| sound(i) as i16)
        .collect();
    let mut encoder = Encoder::new(codec).unwrap();
    let (mut payload, mut frame_ends) = (Vec::new(), Vec::new());
    for frame in pcm.chunks(rate.frame_samples()) {
        let mut bytes = [0; 400];
        let length = encoder.encode(frame, &mut bytes).unwrap();
        payload.extend(&bytes[..length]);
        frame_ends.push(payload.len() as u32);
    }
    Arc::new(Rendition {
        codec,
        payload: payload.into(),
        frame_ends: frame_ends.into(),
        pcm: pcm.into(),
    })
}

#[test]
fn two_callers_hear_each_other_over_sockets() {
    let mut world = World::new(1, 22_000..=22_099);
    let a = world.call(Codec::Pcmu, Some(500.0));
    let b = world.call(Codec::Pcma, Some(900.0));
    for phone in [a, b] {
        world.control.join(world.leg(phone), BridgeId(1), false);
    }
    world.run(100);
    assert!(world.phones[a].level(900.0, 40) > -18.0 && world.phones[a].level(500.0, 40) < -60.0);
    assert!(world.phones[b].level(500.0, 40) > -18.0 && world.phones[b].level(900.0, 40) < -60.0);
    for phone in [a, b] {
        let leg = world.leg(phone);
        assert_eq!(
            world.count(
                |event| matches!(event, EngineEvent::MediaStarted { leg: of, .. } if *of == leg)
            ),
            1
        );
        assert!(world.count(|event| *event == EngineEvent::Talking { leg, talking: true }) == 1);
        assert!(
            world.count(|event| matches!(event, EngineEvent::Report { leg: l, .. } if *l == leg))
                >= 1
        );
    }
}

#[test]
fn sequence_timestamp_and_ssrc_run_unbroken_through_a_whole_call_and_a_move() {
    let mut world = World::new(2, 22_100..=22_199);
    let a = world.call(Codec::Pcmu, Some(500.0));
    let b = world.call(Codec::Pcmu, Some(900.0));
    let (leg_a, leg_b) = (world.leg(a), world.leg(b));
    world
        .control
        .music(leg_a, Some(rendition(Codec::Pcmu, 10, 700.0)));
    world.run(10);
    world
        .control
        .play(leg_a, vec![rendition(Codec::Pcmu, 20, 1_300.0)], 3);
    world.run(30);
    assert_eq!(
        world.count(|event| *event
            == EngineEvent::PlayFinished {
                leg: leg_a,
                token: 3
            }),
        1
    );
    // Each opened on its own thread; the second one to join has to move.
    world.control.join(leg_a, BridgeId(1), false);
    world.control.join(leg_b, BridgeId(1), false);
    world.run(60);
    assert!(world.phones[a].level(900.0, 30) > -18.0);
    assert!(world.phones[b].level(500.0, 30) > -18.0);
    let on_threads: Vec<_> = world
        .control
        .health()
        .iter()
        .map(|thread| thread.legs)
        .collect();
    assert!(on_threads.contains(&2), "{on_threads:?}");
    world.control.leave(leg_a);
    world.control.leave(leg_b);
    world.run(30);
    world.control.join(leg_a, BridgeId(2), false);
    world.run(30);
    for phone in [a, b] {
        assert!(
            world.phones[phone].packets.len() >= 155,
            "{}",
            world.phones[phone].packets.len()
        );
        world.phones[phone].assert_unbroken();
    }
}

#[test]
fn a_stranger_is_never_mixed_and_never_answered() {
    let mut world = World::new(1, 22_200..=22_299);
    let a = world.call(Codec::Pcmu, Some(500.0));
    let b = world.call(Codec::Pcmu, Some(900.0));
    for phone in [a, b] {
        world.control.join(world.leg(phone), BridgeId(1), false);
    }
    world.run(2);
    let mut stranger = Phone::new(world.leg(a), Codec::Pcmu, world.phones[a].to, None);
    for _ in 0..100 {
        let packet = stranger.tone_packet(1_500.0);
        stranger.rtp.send_to(&packet, stranger.to).unwrap();
        stranger.press(5);
        world.run(1);
        stranger.listen(0);
    }
    assert!(stranger.packets.is_empty());
    assert!(world.phones[b].level(1_500.0, 80) < -60.0);
    assert!(world.phones[b].level(500.0, 40) > -18.0);
    assert_eq!(
        world.count(|event| matches!(event, EngineEvent::Key { .. })),
        0
    );
    let leg = world.leg(a);
    world.control.close_leg(leg);
    world.run(2);
    let report = world.events.iter().find_map(|event| {
        if let EngineEvent::LegClosed {
            leg: closed,
            report,
        } = event
        {
            (*closed == leg).then_some(*report)
        } else {
            None
        }
    });
    assert!(report.unwrap().refused.of(Refusal::Foreign) >= 600);
}

#[test]
fn a_key_is_told_once() {
    let mut world = World::new(1, 22_300..=22_399);
    let a = world.call(Codec::Pcmu, Some(500.0));
    world.run(5);
    world.phones[a].press(7);
    world.run(10);
    let keys: Vec<_> = world
        .events
        .iter()
        .filter_map(|event| {
            if let EngineEvent::Key { leg, key } = event {
                Some((*leg, key.as_char()))
            } else {
                None
            }
        })
        .collect();
    assert_eq!(keys, [(world.leg(a), '7')]);
}

#[test]
fn lost_media_is_told_once_and_later_on_hold() {
    let mut world = World::new(1, 22_400..=22_499);
    let a = world.call(Codec::Pcmu, Some(500.0));
    let leg = world.leg(a);
    let lost = |world: &World| world.count(|event| *event == EngineEvent::MediaLost { leg });
    world.run(10);
    world.phones[a].hz = None;
    world.run(90);
    assert_eq!(lost(&world), 0);
    world.run(30);
    assert_eq!(lost(&world), 1);
    world.run(150);
    assert_eq!(lost(&world), 1);
    world.phones[a].hz = Some(500.0);
    world.run(10);
    assert_eq!(
        world.count(
            |event| matches!(event, EngineEvent::MediaStarted { leg: of, .. } if *of == leg)
        ),
        2
    );
    let parameters = world.phones[a].parameters(Direction::SendOnly);
    world.control.connect_leg(leg, &parameters).unwrap();
    world.phones[a].hz = None;
    world.run(150);
    assert_eq!(lost(&world), 1);
    world.run(80);
    assert_eq!(lost(&world), 2);
}

#[test]
fn hold_stops_our_sending_and_resuming_goes_on() {
    let mut world = World::new(1, 22_500..=22_599);
    let a = world.call(Codec::Pcmu, Some(500.0));
    let leg = world.leg(a);
    world.run(10);
    let before = world.phones[a].packets.len();
    let inactive = world.phones[a].parameters(Direction::Inactive);
    world.control.connect_leg(leg, &inactive).unwrap();
    world.run(20);
    assert!(world.phones[a].packets.len() <= before + 1);
    let before = world.phones[a].packets.len();
    let both = world.phones[a].parameters(Direction::SendRecv);
    world.control.connect_leg(leg, &both).unwrap();
    world.run(20);
    let packets = &world.phones[a].packets;
    assert!(packets.len() >= before + 19);
    let (last, first) = (&packets[before - 1].1, &packets[before].1);
    assert_eq!(
        u16::from_be_bytes([first[2], first[3]]),
        u16::from_be_bytes([last[2], last[3]]).wrapping_add(1)
    );
    let time = |p: &[u8]| u32::from_be_bytes([p[4], p[5], p[6], p[7]]);
    let missed = time(first).wrapping_sub(time(last)) / 160;
    assert!((20..=22).contains(&missed), "{missed} frames");
    assert_ne!(first[1] & 0x80, 0, "the marker begins a talk spurt");
}

#[test]
fn the_echo_meeting_gives_back_ones_own_voice() {
    let mut world = World::new(1, 22_600..=22_699);
    let a = world.call(Codec::Pcmu, Some(500.0));
    let leg = world.leg(a);
    world.control.join(leg, BridgeId(1), true);
    world.run(60);
    assert!(world.phones[a].level(500.0, 40) > -18.0);
    world.control.leave(leg);
    world.run(40);
    assert!(world.phones[a].level(500.0, 30) < -60.0);
    world.phones[a].assert_unbroken();
}

#[test]
fn what_is_asked_before_the_answer_happens_after_it() {
    let mut world = World::new(2, 22_700..=22_799);
    let opened = world.control.open_leg().unwrap();
    let other = world.call(Codec::Pcmu, Some(900.0));
    world.control.join(world.leg(other), BridgeId(9), false);
    world.control.mute(opened.leg, true);
    world.control.join(opened.leg, BridgeId(9), false);
    world.run(5);
    let phone = Phone::new(opened.leg, Codec::Pcmu, opened.rtp, Some(500.0));
    world
        .control
        .connect_leg(opened.leg, &phone.parameters(Direction::SendRecv))
        .unwrap();
    world.phones.push(phone);
    world.run(60);
    assert!(world.phones[1].level(900.0, 40) > -18.0);
    assert!(
        world.phones[other].level(500.0, 40) < -60.0,
        "muted before it joined"
    );
}

#[test]
fn closed_legs_give_back_their_ports_and_slots() {
    let mut world = World::new(2, 22_800..=22_803);
    for round in 0..20 {
        let opened: Vec<_> = (0..2)
            .map(|_| world.call(Codec::Pcmu, Some(500.0)))
            .collect();
        assert!(matches!(
            world.control.open_leg(),
            Err(EngineError::PortsExhausted)
        ));
        for phone in &opened {
            world
                .control
                .join(world.leg(*phone), BridgeId(round), false);
        }
        // Closed while one of them may still be on its way.
        if round % 2 == 0 {
            world.run(1);
        }
        for phone in &opened {
            world.control.close_leg(world.leg(*phone));
        }
        world.run(2);
        world.phones.clear();
        assert_eq!(world.control.legs(), 0);
        assert!(
            world
                .control
                .health()
                .iter()
                .all(|thread| thread.legs == 0 && thread.bridges == 0)
        );
    }
    assert_eq!(
        world.count(|event| matches!(event, EngineEvent::LegClosed { .. })),
        40
    );
}

#[test]
fn commands_beyond_the_ring_wait_and_none_is_lost() {
    let mut world = World::new(1, 22_900..=22_999);
    let a = world.call(Codec::Pcmu, None);
    let leg = world.leg(a);
    world.run(1);
    for token in 0..3_000 {
        world
            .control
            .play(leg, vec![rendition(Codec::Pcmu, 1, 700.0)], token);
    }
    assert!(world.control.health()[0].commands_backlog > 1_000);
    world.run(40);
    assert_eq!(world.control.health()[0].commands_backlog, 0);
    assert_eq!(
        world.count(|event| *event == EngineEvent::PlayFinished { leg, token: 2_999 }),
        1
    );
}

#[test]
fn late_skipped_and_doubled_ticks_are_counted_and_missed_frames_advance_the_timestamp() {
    let mut world = World::new(1, 23_000..=23_099);
    let a = world.call(Codec::Pcmu, Some(500.0));
    world.run(10);
    let before = world.control.health()[0];
    assert_eq!((before.late, before.skipped, before.doubled), (0, 0, 0));
    world.ticks += 20;
    world.run(10);
    let after = world.control.health()[0];
    assert_eq!((after.late, after.skipped, after.doubled), (2, 17, 3));
    assert_eq!(after.ticks + after.skipped, u64::from(world.ticks));
    let packets = &world.phones[a].packets;
    let time = |p: &[u8]| u32::from_be_bytes([p[4], p[5], p[6], p[7]]);
    let number = |p: &[u8]| u16::from_be_bytes([p[2], p[3]]);
    let (first, last) = (&packets[0].1, &packets.last().unwrap().1);
    let frames = time(last).wrapping_sub(time(first)) / 160;
    let sent = u32::from(number(last).wrapping_sub(number(first)));
    assert_eq!(sent as usize, packets.len() - 1);
    assert!(
        (4..=5).contains(&(frames - sent)),
        "{frames} frames, {sent} packets"
    );
}

#[test]
fn waiting_music_is_one_source_for_all_who_wait() {
    let mut world = World::new(1, 23_400..=23_449);
    let music = rendition(Codec::Pcma, 30, 437.0);
    for phone in 0..5 {
        world.call(Codec::Pcma, None);
        let leg = world.leg(phone);
        world.control.music(leg, Some(Arc::clone(&music)));
        world.run(7);
    }
    world.run(40);
    let last = |phone: usize, back: usize| {
        let packets = &world.phones[phone].packets;
        packets[packets.len() - back].1[12..].to_vec()
    };
    // Legs have their frames in different quarters of the 20 ms: compare by content.
    let heard: Vec<_> = (1..=3).map(|back| last(0, back)).collect();
    assert!((1..5).all(|phone| (1..=3).any(|back| heard.contains(&last(phone, back)))));
    assert_eq!(
        last(0, 1),
        music
            .frame((music.frames() + world.ticks as usize / 4 - 1) % 30)
            .unwrap()
    );
}

#[test]
fn reports_go_both_ways_and_give_the_round_trip() {
    let mut world = World::new(1, 23_450..=23_499);
    let a = world.call(Codec::Pcmu, Some(500.0));
    world.run(250);
    let mut buffer = [0; 500];
    let (length, from) = world.phones[a].rtcp.recv_from(&mut buffer).unwrap();
    assert_eq!(from.port(), world.phones[a].to.port() + 1);
    // A sender report with one block, then SDES (RFC 3550 sections 6.4.1 and 6.5).
    assert_eq!(buffer[..2], [0x81, 200]);
    assert_eq!(
        buffer[4..8],
        world.phones[a].packets[0].1[8..12],
        "under the SSRC of our RTP"
    );
    assert_eq!(buffer[28..32], [0, 0, 0, 7], "about the SSRC of the phone");
    assert_eq!(buffer[53], 202);
    assert!(length > 60);
    // The phone reports at once: LSR is the middle of the NTP time in our report, DLSR 0.
    let mut report = vec![0x81, 201, 0, 7, 0, 0, 0, 7];
    report.extend(&buffer[4..8]);
    report.extend([0; 12]);
    report.extend(&buffer[10..14]);
    report.extend([0; 4]);
    world.phones[a].rtcp.send_to(&report, from).unwrap();
    world.run(60);
    let figures = world.events.iter().rev().find_map(|event| {
        if let EngineEvent::Report { report, .. } = event {
            Some(*report)
        } else {
            None
        }
    });
    let round_trip = figures.unwrap().round_trip_ms.unwrap();
    assert!((0.0..5_000.0).contains(&round_trip), "{round_trip} ms");
}

#[test]
fn an_engine_on_ipv6_serves_ipv4_phones_too() {
    let config = EngineConfig {
        address: "::".parse().unwrap(),
        ports: 23_500..=23_549,
        legs_max: 2,
        ..EngineConfig::default()
    };
    let start = now();
    let (mut control, mut threads) = Control::new(config, start).unwrap();
    let opened = control.open_leg().unwrap();
    let to = SocketAddr::new("127.0.0.1".parse().unwrap(), opened.rtp.port());
    let mut phone = Phone::new(opened.leg, Codec::Pcmu, to, Some(500.0));
    control
        .connect_leg(opened.leg, &phone.parameters(Direction::SendRecv))
        .unwrap();
    control.join(opened.leg, BridgeId(1), true);
    for tick in 0..200 {
        if tick % 4 == 0 {
            phone.speak();
        }
        threads[0].tick(start + Duration::from_millis(5) * tick);
        phone.listen(tick);
    }
    assert!(phone.level(500.0, 20) > -18.0);
}

#[test]
fn another_codec_in_the_middle_of_a_call_keeps_the_figures_and_the_sound() {
    let mut world = World::new(1, 23_550..=23_599);
    let a = world.call(Codec::Pcmu, Some(500.0));
    let b = world.call(Codec::Pcmu, Some(900.0));
    let leg = world.leg(a);
    for phone in [a, b] {
        world.control.join(world.leg(phone), BridgeId(1), false);
    }
    world.run(60);
    let before = u32::from_be_bytes(world.phones[a].packets[0].1[8..12].try_into().unwrap());
    let to = world.phones[a].to;
    world.phones[a] = Phone::new(leg, Codec::Opus, to, Some(500.0));
    let parameters = world.phones[a].parameters(Direction::SendRecv);
    world.control.connect_leg(leg, &parameters).unwrap();
    world.run(60);
    let after = u32::from_be_bytes(world.phones[a].packets[0].1[8..12].try_into().unwrap());
    assert_ne!(
        before, after,
        "another RTP clock takes a new SSRC (RFC 7160)"
    );
    world.phones[a].assert_unbroken();
    assert!(world.phones[a].level(900.0, 30) > -18.0);
    assert!(world.phones[b].level(500.0, 30) > -18.0);
    world.control.close_leg(leg);
    world.run(2);
    let received = world.events.iter().find_map(|event| {
        if let EngineEvent::LegClosed {
            leg: closed,
            report,
        } = event
        {
            (*closed == leg).then_some(report.received)
        } else {
            None
        }
    });
    assert!(received.unwrap() >= 118, "{received:?}");
}

#[test]
fn relays_and_trunks_are_reserved() {
    let mut world = World::new(1, 23_100..=23_199);
    assert!(matches!(
        world.control.open(LegKind::Relay),
        Err(EngineError::Unsupported(LegKind::Relay))
    ));
    assert!(matches!(
        world.control.open(LegKind::Trunk),
        Err(EngineError::Unsupported(LegKind::Trunk))
    ));
    assert_eq!(world.control.legs(), 0);
}

#[test]
fn two_real_threads_mix_real_packets_in_real_time() {
    let config = EngineConfig {
        address: "127.0.0.1".parse().unwrap(),
        ports: 23_200..=23_299,
        threads: 2,
        legs_max: 8,
        ..EngineConfig::default()
    };
    let mut control = Control::start(config).unwrap();
    let mut phones: Vec<_> = (0..4_u32)
        .map(|n| {
            let opened = control.open_leg().unwrap();
            let phone = Phone::new(
                opened.leg,
                Codec::Pcmu,
                opened.rtp,
                Some(500.0 + 200.0 * f64::from(n)),
            );
            control
                .connect_leg(opened.leg, &phone.parameters(Direction::SendRecv))
                .unwrap();
            control.join(opened.leg, BridgeId(u64::from(n) % 2), false);
            phone
        })
        .collect();
    for frame in 0..60 {
        phones.iter_mut().for_each(Phone::speak);
        for _ in 0..2 {
            std::thread::sleep(TEN_MS);
            control.pump();
        }
        phones.iter_mut().for_each(|phone| phone.listen(frame));
    }
    // However busy the machine is: in every frame that is not silence the partner is the loudest.
    for (n, phone) in phones.iter().enumerate() {
        let levels = phone.frame_levels([500.0, 700.0, 900.0, 1_100.0]);
        let audible: Vec<_> = levels
            .iter()
            .filter(|tones| tones.iter().any(|db| *db > -30.0))
            .collect();
        assert!(
            audible.len() >= 10,
            "phone {n} hears its partner in {} frames",
            audible.len()
        );
        let partner = (n + 2) % 4;
        assert!(
            audible
                .iter()
                .all(|tones| tones.iter().all(|db| *db <= tones[partner])),
            "phone {n}: {audible:?}"
        );
    }
    assert!(
        control
            .health()
            .iter()
            .all(|thread| thread.alive && thread.ticks > 40)
    );
    for phone in &phones {
        control.close_leg(phone.leg);
    }
    while control.legs() > 0 {
        std::thread::sleep(TEN_MS);
        control.pump();
    }
    control.shutdown();
}

/// What a busy gateway asks, drawn from a seed, of threads that run meanwhile.
#[test]
fn real_threads_and_a_hasty_gateway_keep_every_leg_until_it_is_closed_once() {
    let config = EngineConfig {
        address: "127.0.0.1".parse().unwrap(),
        ports: 23_700..=23_799,
        threads: 3,
        legs_max: 12,
        ..EngineConfig::default()
    };
    let mut control = Control::start(config).unwrap();
    let mut random = Random::new(11);
    let mut phones: Vec<Phone> = Vec::new();
    let prompts = [Codec::Pcmu, Codec::G722].map(|codec| rendition(codec, 2, 700.0));
    let (mut opened, mut closed) = (0, 0);
    for round in 0..600 {
        if phones.len() < 12 {
            let leg = control.open_leg().unwrap();
            let codec = [Codec::Pcmu, Codec::G722][random.below(2)];
            let phone = Phone::new(leg.leg, codec, leg.rtp, Some(500.0));
            let parameters = phone.parameters(Direction::SendRecv);
            control.connect_leg(leg.leg, &parameters).unwrap();
            phones.push(phone);
            opened += 1;
        }
        let chosen = random.below(phones.len());
        let leg = phones[chosen].leg;
        let bridge = BridgeId(random.below(4) as u64);
        match random.below(8) {
            0..3 => control.join(leg, bridge, false),
            3 => control.leave(leg),
            4 => control.play(leg, prompts.to_vec(), round),
            5 => control.play_to_bridge(bridge, prompts.to_vec()),
            6 => control.mute(leg, round % 2 == 0),
            _ => {
                let parameters = phones[chosen].parameters(Direction::SendRecv);
                control.connect_leg(leg, &parameters).unwrap();
                control.close_leg(leg);
                phones.swap_remove(chosen);
            }
        }
        phones.iter_mut().for_each(|phone| phone.press(5));
        if random.below(3) == 0 {
            std::thread::sleep(Duration::from_millis(3));
        }
        closed += count_closed(&mut control);
        while control.legs() >= 12 && phones.len() < 12 {
            std::thread::yield_now();
            closed += count_closed(&mut control);
        }
    }
    phones.iter().for_each(|phone| control.close_leg(phone.leg));
    while control.legs() > 0 {
        std::thread::yield_now();
        closed += count_closed(&mut control);
    }
    assert_eq!(opened, closed);
    assert!(control.health().iter().all(|thread| thread.alive));
    control.shutdown();
}

fn count_closed(control: &mut Control) -> usize {
    control.pump();
    std::iter::from_fn(|| control.poll_event())
        .filter(|event| matches!(event, EngineEvent::LegClosed { .. }))
        .count()
}
