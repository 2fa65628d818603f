//! What participants send in the benches, encoded beforehand: a voice, the noise of a quiet room,
//! nothing. Ten seconds, over and over.
#![allow(dead_code, reason = "not every bench needs all of it")]

use std::f64::consts::TAU;

use voicebridge::media::codec::{Codec, Encoder, OpusSettings, PAYLOAD_BYTES_MAX};

/// What a participant sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sound {
    /// Somebody talks; the number makes voices differ in pitch.
    Voice(u32),
    /// A microphone in a quiet room: noise at -55 dBFS.
    Room,
    /// The same from a phone that stops sending while nobody talks (Opus DTX, RFC 6716 section 2.1.9).
    /// Codecs without such a thing send on.
    RoomDtx,
    /// Digital silence.
    Silence,
}

/// The payloads of ten seconds in 20 ms frames; `None` where the encoder says that nothing need be sent.
pub(crate) fn payloads(codec: Codec, sound: Sound) -> Vec<Option<Vec<u8>>> {
    let mut encoder = Encoder::new(codec).expect("an encoder");
    if codec == Codec::Opus {
        let settings = OpusSettings {
            dtx: sound == Sound::RoomDtx,
            ..OpusSettings::default()
        };
        encoder.set_opus(settings).expect("settings");
    }
    let rate = codec.sample_rate();
    let pcm = samples(rate.hz(), sound);
    let mut payload = [0; PAYLOAD_BYTES_MAX];
    pcm.chunks(rate.frame_samples())
        .map(|frame| {
            let bytes = encoder.encode(frame, &mut payload).expect("a whole frame");
            let sent = sound != Sound::RoomDtx || codec != Codec::Opus || bytes > DTX_BYTES_MAX;
            sent.then(|| payload[..bytes].to_vec())
        })
        .collect()
}

/// How loud each of these frames is, in dB below overload (RFC 6464 section 3).
pub(crate) fn levels(codec: Codec, sound: Sound) -> Vec<u8> {
    let rate = codec.sample_rate();
    let level = |frame: &[i16]| {
        let power = frame.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / frame.len() as f64;
        (-10.0 * (power / 32_768.0_f64.powi(2)).log10()).clamp(0.0, 127.0) as u8
    };
    samples(rate.hz(), sound)
        .chunks(rate.frame_samples())
        .map(level)
        .collect()
}

fn samples(hz: u32, sound: Sound) -> Vec<i16> {
    let count = (hz * SECONDS) as usize;
    match sound {
        Sound::Voice(number) => {
            let voice = |n| speech(n as f64 / f64::from(hz), number);
            (0..count).map(voice).collect()
        }
        Sound::Room | Sound::RoomDtx => room(count),
        Sound::Silence => vec![0; count],
    }
}

/// Harmonics of a pitch that glides up and down, fast enough that no piece of it is like one a little later, in
/// syllables.
fn speech(t: f64, number: u32) -> i16 {
    let pace = f64::from(number % 12);
    // What a pitch that swings by so many Hz, so often a second, adds to the phase.
    let glide = |by: f64, often: f64| -by / often * (TAU * often * t).cos();
    let phase = TAU * (170.0 + 17.0 * pace) * t + glide(60.0, 0.7) + glide(25.0, 2.3);
    let harmonics = (1..=18).map(|k| (phase * f64::from(k)).sin() / f64::from(k));
    // In a rhythm of its own: two in unison are taken for somebody and his echo.
    let stress = 0.7 + 0.3 * (TAU * (0.9 + 0.3 * pace) * t).sin();
    let syllable = (TAU * (3.3 + 0.4 * pace) * t).sin().abs() * stress;
    (harmonics.sum::<f64>() * 5_000.0 * syllable) as i16
}

/// Noise that falls off with frequency, at -55 dBFS.
fn room(count: usize) -> Vec<i16> {
    let mut random = 1_u32;
    let mut low = 0.0;
    let noise: Vec<f64> = (0..count)
        .map(|_| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            low += 0.5 * (f64::from(random) / f64::from(u32::MAX) - 0.5 - low);
            low
        })
        .collect();
    let rms = (noise.iter().map(|n| n * n).sum::<f64>() / count as f64).sqrt();
    let factor = 32_768.0 * 10_f64.powf(ROOM_DBFS / 20.0) / rms;
    noise.iter().map(|n| (n * factor).round() as i16).collect()
}

const SECONDS: u32 = 10;
const ROOM_DBFS: f64 = -55.0;
/// An Opus packet this short only says that there is nothing.
const DTX_BYTES_MAX: usize = 2;
