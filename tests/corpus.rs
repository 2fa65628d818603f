//! What fuzzing began with and found, once more; and messages and packets with something changed in them:
//! a seeded share in every run, a million of each by
//! `cargo test --release --test corpus -- --ignored --nocapture`.

#![allow(clippy::disallowed_methods, reason = "a measurement reads the clock")]

#[path = "../fuzz/src/lib.rs"]
#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "a library of its own in fuzz/"
)]
mod fuzz;
#[allow(dead_code, reason = "other tests use the rest")]
mod seeded;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fuzz::{Node, Phone, TARGETS};
use seeded::Random;
use voicebridge::media::codec::Codec;
use voicebridge::media::srtp::{Kind, Suite};

#[test]
fn what_was_fuzzed_with_breaks_nothing_any_more() {
    for (name, target) in TARGETS {
        let inputs = corpus(name);
        assert!(!inputs.is_empty(), "{name} has no corpus");
        for (path, input) in inputs {
            eprintln!("{}", path.display());
            target(&input);
        }
    }
}

#[test]
fn every_target_can_be_run() {
    let manifest = fs::read_to_string(folder().join("Cargo.toml")).expect("a manifest");
    for (name, _) in TARGETS {
        let main = format!("fuzz_targets/{name}.rs");
        assert!(manifest.contains(&main), "{name} is no binary");
        let text = fs::read_to_string(folder().join(&main)).expect("a binary");
        assert!(text.contains(&format!("voicebridge_fuzz::{name}(data)")));
    }
    let files = fs::read_dir(folder().join("fuzz_targets")).expect("a folder");
    assert_eq!(files.count(), TARGETS.len());
}

#[test]
fn changed_inputs_break_no_target() {
    for (name, target) in TARGETS {
        let seeds: Vec<Vec<u8>> = corpus(name).into_iter().map(|(_, input)| input).collect();
        let mut random = Random::new(7);
        for _ in 0..CHANGED {
            target(&changed(&mut random, &seeds));
        }
    }
}

#[test]
fn changed_messages_and_packets_in_a_row_leave_nothing_behind() {
    messages(3_000);
    packets(3_000);
}

#[test]
#[ignore = "a measurement, for a quiet machine"]
fn a_million_changed_messages_and_a_million_packets() {
    messages(1_000_000).check("messages");
    packets(1_000_000).check("packets");
}

/// What a run has seen.
struct Figures {
    count: u32,
    worst: Duration,
    took: Duration,
    /// Resident, after a tenth of the run and at its end.
    kilobytes: (u64, u64),
}

impl Figures {
    fn check(&self, what: &str) {
        let (early, late) = self.kilobytes;
        eprintln!(
            "{} {what} in {:.1?}, {:.1?} each, the worst {:.1?}; {early} KiB after a tenth, {late} at the end",
            self.count,
            self.took,
            self.took / self.count,
            self.worst
        );
        assert!(self.worst < Duration::from_millis(100));
        assert!(late < early + 4_096, "the memory grows");
    }
}

/// One endpoint hears them all, by datagrams and over connections, and takes a call afterwards.
fn messages(count: u32) -> Figures {
    let mut seeds: Vec<Vec<u8>> = corpus("sip_datagrams")
        .into_iter()
        .flat_map(|(_, input)| {
            input
                .split(|b| *b == 0x1e)
                .map(<[u8]>::to_vec)
                .collect::<Vec<_>>()
        })
        .collect();
    seeds.retain(|seed| !seed.is_empty());
    let mut random = Random::new(11);
    let mut node = Node::new();
    let figures = run(count, |_| {
        let message = changed(&mut random, &seeds);
        let stream = random.below(4) == 0;
        let begun = Instant::now();
        if stream {
            node.stream(&message);
            node.reopen();
        } else {
            node.datagram(&message);
        }
        begun.elapsed()
    });
    assert!(node.takes_a_call(), "the next call is not taken");
    node.end();
    figures
}

/// A leg of each codec, plain and encrypted, hears them all; its frames go on.
fn packets(count: u32) -> Figures {
    let codecs = [
        (Codec::Pcmu, None),
        (Codec::Pcma, Some(Suite::AesCm128HmacSha1Tag80)),
        (Codec::G722, None),
        (Codec::Opus, None),
    ];
    let mut phones: Vec<Phone> = codecs
        .into_iter()
        .map(|(codec, suite)| Phone::new(codec, suite))
        .collect();
    let seeds = packet_seeds();
    let mut random = Random::new(13);
    run(count, |number| {
        let phone = &mut phones[number as usize % codecs.len()];
        let seed = &seeds[random.below(seeds.len())];
        let mut packet = seed.clone();
        for _ in 0..random.below(4) {
            change_bytes(&mut random, &mut packet);
        }
        let way = random.below(8);
        let begun = Instant::now();
        match way {
            0 => phone.foreign(&packet),
            1 => phone.rtcp(&packet),
            2 => phone.protected(Kind::Rtcp, &packet),
            3 => phone.rtp(&packet),
            4 => phone.audio(&packet),
            _ => phone.protected(Kind::Rtp, &packet),
        }
        if number % 16 < 4 {
            phone.frames(1);
        }
        begun.elapsed()
    })
}

fn run(count: u32, mut step: impl FnMut(u32) -> Duration) -> Figures {
    let begun = Instant::now();
    let (mut worst, mut early) = (Duration::ZERO, 0);
    for number in 0..count {
        worst = worst.max(step(number));
        if number == count / 10 {
            early = resident_kilobytes();
        }
    }
    Figures {
        count,
        worst,
        took: begun.elapsed(),
        kilobytes: (early, resident_kilobytes()),
    }
}

/// A seed with something changed: lines of it, values, bytes.
fn changed(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(4) {
        if random.below(2) == 0 {
            change_bytes(random, &mut bytes);
        } else {
            change_lines(random, &mut bytes, seeds);
        }
    }
    bytes
}

fn change_bytes(random: &mut Random, bytes: &mut Vec<u8>) {
    let at = random.below(bytes.len() + 1);
    let end = (at + random.below(12)).min(bytes.len());
    match random.below(6) {
        0 => drop(bytes.drain(at..end)),
        1 => drop(bytes.splice(at..at, SPICES[random.below(SPICES.len())].bytes())),
        2 => {
            let copy = bytes[at..end].to_vec();
            bytes.splice(at..at, copy);
        }
        3 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = random.next() as u8;
            }
        }
        4 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        _ => {
            let spice = SPICES[random.below(SPICES.len())].repeat(1 + random.below(40));
            bytes.splice(at..end, spice.into_bytes());
        }
    }
}

/// By the grammar: a line goes, comes twice, comes from elsewhere, changes its place, gets another value,
/// is folded; a number becomes a remarkable one.
fn change_lines(random: &mut Random, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let mut lines: Vec<String> = text.split("\r\n").map(ToOwned::to_owned).collect();
    let at = random.below(lines.len());
    match random.below(8) {
        0 => drop(lines.remove(at)),
        1 => lines.insert(at, lines[at].clone()),
        2 => {
            let other = String::from_utf8_lossy(&seeds[random.below(seeds.len())]).into_owned();
            let others: Vec<&str> = other.split("\r\n").collect();
            lines.insert(at, others[random.below(others.len())].to_owned());
        }
        3 => {
            let to = random.below(lines.len());
            lines.swap(at, to);
        }
        4 => {
            let spice = SPICES[random.below(SPICES.len())];
            if let Some((name, _)) = lines[at].split_once(':') {
                lines[at] = format!("{name}: {spice}");
            }
        }
        5 => lines[at] = lines[at].replacen(' ', "\r\n ", 1),
        6 => lines[at] = lines[at].to_ascii_uppercase(),
        _ => {
            let number = NUMBERS[random.below(NUMBERS.len())];
            let digits = lines[at].find(|c: char| c.is_ascii_digit());
            if let Some(begin) = digits {
                let rest = lines[at][begin..].trim_start_matches(|c: char| c.is_ascii_digit());
                lines[at] = format!("{}{number}{rest}", &lines[at][..begin]);
            }
        }
    }
    *bytes = lines.join("\r\n").into_bytes();
}

/// Audio, key events, comfort noise, extensions; reports; STUN, DTLS and nothing.
fn packet_seeds() -> Vec<Vec<u8>> {
    let rtp = |first: u8, payload_type: u8, rest: &[u8]| {
        [
            &[first, payload_type, 0, 9, 0, 0, 0, 160, 0, 0, 0, 7][..],
            rest,
        ]
        .concat()
    };
    let stun = [
        &[0, 1, 0, 8, 0x21, 0x12, 0xA4, 0x42][..],
        &[7; 12],
        &[0, 6, 0, 3, b'a', b':', b'b', 0],
    ]
    .concat();
    vec![
        rtp(0x80, 0, &[0xff; 160]),
        rtp(0x80, 8, &[0xd5; 160]),
        rtp(0x80, 9, &[0x7c; 160]),
        rtp(0x80, 96, &[0xf8, 0xff, 0xfe]),
        rtp(0x80, 101, &[5, 0x0a, 0, 160]),
        rtp(0x80, 101, &[5, 0x8a, 3, 32]),
        rtp(0x80, 13, &[70]),
        rtp(0x90, 0, &[0xbe, 0xde, 0, 1, 0x10, 0x45, 0, 0, 1, 2, 3, 4]),
        rtp(
            0xb0,
            0,
            &[0, 0, 0, 8, 0xbe, 0xde, 0, 1, 0x10, 0x45, 0, 0, 1, 2, 0, 2],
        ),
        vec![
            0x80, 200, 0, 6, 0, 0, 0, 7, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 160, 0, 0, 0, 9, 0, 0, 1,
            0,
        ],
        vec![
            0x81, 201, 0, 7, 0, 0, 0, 7, 0, 0, 0, 9, 26, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, 9, 0, 0, 0,
            0, 0, 0, 0, 0, 0x81, 202, 0, 2, 0, 0, 0, 7, 1, 1, b'a', 0,
        ],
        vec![0x81, 203, 0, 1, 0, 0, 0, 7],
        vec![0x81, 204, 0, 2, 0, 0, 0, 7, b'n', b'a', b'm', b'e'],
        stun,
        vec![22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0],
        Vec::new(),
    ]
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder().join("corpus").join(name))
        .into_iter()
        .flatten()
        .map(|file| file.expect("a file").path())
        .collect();
    files.sort();
    let read = |path: PathBuf| {
        let input = fs::read(&path).expect("an input");
        (path, input)
    };
    files.into_iter().map(read).collect()
}

fn resident_kilobytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().split(' ').next()?.parse().ok())
        .expect("a figure")
}

const SPICES: &[&str] = &[
    "\r\n",
    "\r\n\r\n",
    "\n",
    "\r",
    "\0",
    "\"",
    "<",
    ">",
    ";",
    ",",
    ":",
    "=",
    "%",
    "%00",
    "[",
    "]",
    "@",
    "\\",
    " ",
    "\t",
    "\u{e9}",
    "\u{1e}",
    "sip:",
    "sips:a@[::1]:5061",
    "tel:+390612345678",
    "<sip:a@b>;tag=",
    "z9hG4bK",
    "timer",
    "100rel",
    "SIP/2.0",
    "application/sdp",
    "inline:",
    "a=rtpmap:0 PCMU/8000",
    "m=audio 1 RTP/AVP 0",
    "c=IN IP6 ::1",
    "FREQ=YEARLY;COUNT=3",
    "true",
    "\"\"\"",
    "[[",
    "null",
    "{}",
    "xxxxxxxxxxxxxxxx",
];

const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "00000000000",
    "90",
    "255",
    "256",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775808",
    "18446744073709551616",
    "1e9",
    "0x7f",
    "99999999999999999999999999999",
];

const CHANGED: usize = 150;
