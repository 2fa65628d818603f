//! Copies for lost packets are made where somebody loses some, and only there.

use super::*;
use crate::media::leg::LegUpdate;
use crate::media::rtcp::{REPORT_BYTES_MAX, ReceptionReport, RtcpReport};
use crate::media::seeded::Random;

/// Frames between a peer's reports: 4 s.
const REPORT_FRAMES: u64 = 200;
const FRAME: usize = 960;

impl World {
    /// A peer tells by RTCP what it misses of what it is sent, in 256ths.
    fn tell(&mut self, peer: usize, fraction_lost: u8) {
        let reception = ReceptionReport {
            ssrc: Ssrc(peer as u32 + 1),
            fraction_lost,
            cumulative_lost: 0,
            highest_sequence: 0,
            jitter: 0,
            last_sender_report: 0,
            delay_since: 0,
        };
        let report = RtcpReport {
            ssrc: Ssrc(0x0909_0909),
            sender_info: None,
            reception: Some(reception),
            cname: "peer",
            bye: false,
        };
        let mut buffer = [0; REPORT_BYTES_MAX];
        let length = report.write(&mut buffer).unwrap();
        let (now, mut from) = (self.now(), self.peers[peer].address);
        from.set_port(from.port() + 1);
        self.leg(peer).handle_rtcp(now, from, &buffer[..length]);
    }

    /// Of the packets sent to a peer from so many frames on, how many carry a copy, in percent.
    fn copies(&self, peer: usize, from: usize) -> usize {
        let packets = &self.peers[peer].packets[from..];
        let with = packets.iter().filter(|packet| has_copy(packet)).count();
        100 * with / packets.len().max(1)
    }

    fn frames(&self) -> usize {
        self.frame as usize
    }
}

fn has_copy(packet: &[u8]) -> bool {
    let mut decoder = Decoder::new(Codec::Opus).unwrap();
    decoder.decode_fec(&packet[12..], &mut [0; FRAME]).is_ok()
}

/// 0 talks without a pause, the others listen.
fn talk(peer: usize, _: usize, t: f64) -> f64 {
    if peer == 0 { voice_at(t) } else { 0.0 }
}

/// A voice of 140 Hz in syllables.
fn voice_at(t: f64) -> f64 {
    let harmonics: f64 = (1..20)
        .map(|n| (140.0 * f64::from(n) * t * std::f64::consts::TAU).sin() / f64::from(n))
        .sum();
    4_000.0 * (0.3 + (t * 9.0).sin().powi(2)) * harmonics
}

/// A listener's way back: which packets it loses.
struct Lossy {
    random: Random,
    /// By frame.
    lost: Vec<bool>,
}

impl Lossy {
    fn new() -> Self {
        Self {
            random: Random::new(7),
            lost: Vec::new(),
        }
    }

    /// Runs for so many seconds in which 1 loses that share of its packets, and tells it.
    fn run(&mut self, world: &mut World, seconds: u64, share: f32) {
        for _ in 0..50 * seconds {
            world.run(1, talk);
            self.lost.push(self.random.unit() < share);
            if world.frame.is_multiple_of(REPORT_FRAMES) {
                let last = &self.lost[self.lost.len() - REPORT_FRAMES as usize..];
                let lost = last.iter().filter(|lost| **lost).count();
                world.tell(1, (256 * lost / last.len()) as u8);
            }
        }
    }
}

/// The power of what is wrong in frames that were lost: made good by the copies, and concealed.
fn errors(packets: &[Vec<u8>], lost: &[bool], from: usize) -> [f64; 2] {
    let [mut whole, mut copied, mut concealed] =
        [(); 3].map(|()| Decoder::new(Codec::Opus).unwrap());
    let mut errors = [0.0; 2];
    for n in 0..packets.len() - 1 {
        let (mut all, mut copy, mut made_up) = ([0; FRAME], [0; FRAME], [0; FRAME]);
        whole.decode(&packets[n][12..], &mut all).unwrap();
        if lost[n] {
            concealed.conceal(&mut made_up).unwrap();
            let next = (!lost[n + 1]).then_some(&packets[n + 1][12..]);
            if next.is_none_or(|next| copied.decode_fec(next, &mut copy).is_err()) {
                copied.conceal(&mut copy).unwrap();
            }
        } else {
            concealed.decode(&packets[n][12..], &mut made_up).unwrap();
            copied.decode(&packets[n][12..], &mut copy).unwrap();
        }
        if lost[n] && n >= from {
            for (error, heard) in errors.iter_mut().zip([copy, made_up]) {
                let wrong = |(a, b): (&i16, &i16)| (f64::from(*a) - f64::from(*b)).powi(2);
                *error += all.iter().zip(&heard).map(wrong).sum::<f64>();
            }
        }
    }
    errors
}

#[test]
fn who_loses_packets_gets_copies_within_seconds_and_nobody_else_ever_does() {
    let mut world = World::new(&[Codec::Pcmu, Codec::Opus, Codec::Opus]);
    let mut way = Lossy::new();
    way.run(&mut world, 8, 0.0);
    assert_eq!(world.copies(1, 0), 0, "nothing is lost");
    way.run(&mut world, 5, 0.1);
    let from = world.frames();
    way.run(&mut world, 8, 0.1);
    let copies = world.copies(1, from);
    assert!(copies > 60, "{copies} %");
    let [copied, concealed] = errors(&world.peers[1].packets, &way.lost, from);
    assert!(copied < concealed / 2.0, "{copied} {concealed}");
    way.run(&mut world, 10, 0.0);
    assert!(world.copies(1, world.frames() - 50) > 60, "not at once");
    way.run(&mut world, 14, 0.0);
    assert_eq!(
        world.copies(1, world.frames() - 100),
        0,
        "20 s without loss"
    );
}

#[test]
fn where_a_peer_tells_nothing_what_we_lose_of_its_packets_stands_for_it() {
    let mut world = World::new(&[Codec::Pcmu, Codec::Opus, Codec::Opus]);
    let mut random = Random::new(3);
    for _ in 0..500 {
        world.lost_from = (random.unit() < 0.06).then_some(1);
        world.run(1, talk);
    }
    assert!(world.copies(1, 450) > 40, "{} %", world.copies(1, 450));
}

#[test]
fn a_peer_that_has_no_use_for_copies_gets_none() {
    let mut world = World::new(&[Codec::Pcmu, Codec::Opus, Codec::Opus]);
    let parameters = MediaParameters {
        uses_fec: false,
        ..*world.leg(1).parameters()
    };
    let mut update = LegUpdate {
        parameters,
        origin: RtpOrigin {
            ssrc: Ssrc(2),
            sequence: SeqNo(0),
            timestamp: RtpTicks(0),
        },
        codecs: None,
        srtp: None,
    };
    let now = world.now();
    world.leg(1).update(now, &mut update);
    Lossy::new().run(&mut world, 12, 0.1);
    assert_eq!(world.copies(1, 0), 0);
}

#[test]
fn a_talker_who_loses_nothing_has_no_copies_and_still_finds_back_to_those_who_do() {
    let mut world = World::new(&[Codec::Pcmu, Codec::Opus, Codec::Opus]);
    let speech = |peer: usize, _: usize, t: f64| match peer {
        0 => voice_at(t),
        1 if (12.0..15.0).contains(&t) => sine(3_000.0, 700.0, t),
        _ => 0.0,
    };
    for _ in 0..50 * 20 {
        if world.frame.is_multiple_of(REPORT_FRAMES) {
            world.tell(1, 0);
            world.tell(2, 26);
        }
        world.run(1, speech);
    }
    let own =
        |frame: usize| world.peers[1].packets[frame][12..] != world.peers[2].packets[frame][12..];
    let alone: Vec<usize> = (0..world.frames()).filter(|frame| own(*frame)).collect();
    assert!(alone.len() > 140, "{}", alone.len());
    // Its encoder comes with the copies of the shared one.
    let talks = &world.peers[1].packets[alone[2]..alone[100]];
    assert!(!talks.iter().any(|packet| has_copy(packet)));
    assert!(world.copies(2, 400) > 60);
    assert_eq!(world.leg(1).hears(), Hears::Shared, "{}", alone.len());
}
