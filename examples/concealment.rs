//! Writes what a listener hears of a human voice with 5 % of its packets lost: concealed by
//! voicebridge, left silent, and with the last packet repeated. `scripts/quality` rates them.
//!
//! `cargo run --release --example concealment FOLDER` leaves 16-bit mono at 8 kHz there.
#![allow(clippy::unwrap_used, reason = "a tool for tests")]

use std::path::Path;
use std::time::{Duration, Instant};

use voicebridge::media::codec::{Codec, Decoder, Encoder};
use voicebridge::media::parameters::MediaParameters;
use voicebridge::media::receive::{Receiver, ReceiverConfig};
use voicebridge::media::resample::Resampler;
use voicebridge::units::SampleRate;

fn main() {
    let folder = std::env::args().nth(1).expect("a folder to write to");
    let folder = Path::new(&folder);
    let voice = voice("/usr/share/asterisk/sounds/en", 60);
    let clean = receive(&voice, |_| false);
    let lost = |n: usize| n > 10 && (n as u32).wrapping_mul(2_654_435_761) >> 16 < 3_277;
    let concealed = receive(&voice, lost);
    let (mut silent, mut repeated) = (clean.clone(), clean.clone());
    let shift = delay_in_frames(&voice, &clean);
    for n in (0..voice.len() / FRAME).filter(|n| lost(*n)) {
        let here = (n + shift) * FRAME;
        if here + FRAME <= clean.len() {
            silent[here..here + FRAME].fill(0);
            repeated.copy_within(here - FRAME..here, here);
        }
    }
    let files = [
        ("clean", clean),
        ("concealed", concealed),
        ("silent", silent),
        ("repeated", repeated),
    ];
    for (name, pcm) in files {
        let bytes: Vec<u8> = pcm.iter().flat_map(|x| x.to_le_bytes()).collect();
        std::fs::write(folder.join(format!("{name}.raw")), bytes).unwrap();
    }
}

/// What comes out of the receiver where the n-th packet is lost if `lost` says so.
#[expect(
    clippy::disallowed_methods,
    reason = "a beginning; then the clock is pushed"
)]
fn receive(voice: &[i16], lost: impl Fn(usize) -> bool) -> Vec<i16> {
    let address = "127.0.0.1:4000".parse().unwrap();
    let parameters = MediaParameters {
        telephone_event: Some(voicebridge::media::parameters::TelephoneEvent {
            payload_type: 101,
            clock: 8_000,
        }),
        ..MediaParameters::plain(Codec::Pcma, address)
    };
    let mut receiver = Receiver::new(&parameters, ReceiverConfig::default()).unwrap();
    let mut encoder = Encoder::new(Codec::Pcma).unwrap();
    let start = Instant::now();
    let mut heard = Vec::new();
    for (n, frame) in voice.chunks_exact(FRAME).enumerate() {
        let now = start + Duration::from_millis(20) * n as u32;
        let mut payload = [0; 400];
        let bytes = encoder.encode(frame, &mut payload).unwrap();
        if !lost(n) {
            let mut packet = vec![0x80, 8];
            packet.extend((n as u16).to_be_bytes());
            packet.extend((n as u32 * FRAME as u32).to_be_bytes());
            packet.extend([0, 0, 0, 7]);
            packet.extend(&payload[..bytes]);
            receiver.handle_rtp(now, &packet);
        }
        receiver.pull_frame(now + Duration::from_millis(5));
        heard.extend_from_slice(receiver.pcm());
    }
    heard
}

fn delay_in_frames(voice: &[i16], heard: &[i16]) -> usize {
    let likeness = |frames: &usize| -> i64 {
        let pairs = heard[frames * FRAME..].iter().zip(voice);
        pairs.map(|(a, b)| i64::from(*a) * i64::from(*b)).sum()
    };
    (0..12).max_by_key(likeness).unwrap()
}

fn voice(folder: &str, seconds: usize) -> Vec<i16> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the recorded voices are installed by scripts/install-deps")
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "g722"))
        .collect();
    files.sort();
    let mut resampler = Resampler::new(SampleRate::Hz16000, SampleRate::Hz8000);
    let mut pcm = Vec::new();
    for file in files.iter().skip(60) {
        let mut decoder = Decoder::new(Codec::G722).unwrap();
        for payload in std::fs::read(file).unwrap().chunks_exact(160) {
            let (mut wide, mut narrow) = ([0; 320], [0.0; FRAME]);
            decoder.decode(payload, &mut wide).unwrap();
            resampler.process(&wide.map(f32::from), &mut narrow);
            pcm.extend(narrow.map(|x| x as i16));
        }
        if pcm.len() >= seconds * 8_000 {
            break;
        }
    }
    pcm
}

const FRAME: usize = 160;
