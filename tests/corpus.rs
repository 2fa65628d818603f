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
#[path = "support/changed.rs"]
mod changed;
#[allow(dead_code, reason = "other tests use the rest")]
mod seeded;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use changed::{change_bytes, changed, message_seeds, packet_seeds};
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
    let seeds = message_seeds();
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

const CHANGED: usize = 150;
