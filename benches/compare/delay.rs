//! One-way delay through the bridge: a talker's voice is looked for in what a listener heard, 200 ms at a time,
//! to the sample. From the moment at which a sample's packet was sent to the moment at which it was heard,
//! less its place in either packet: neither the sender's packetisation nor a phone's jitter buffer is in it.
//!
//! The talker's side of the comparison is decoded from what it sends, so that its own encoder's delay isn't
//! counted either.

use voicebridge::media::codec::{Codec, Decoder, PAYLOAD_SAMPLES_MAX};

use crate::generator::{Seen, SoundLoop, Taped};
use crate::system::MILLISECOND;

/// A talker's voice at 8 kHz, with the times at which its frames were sent.
pub(crate) struct Voice {
    frames: Vec<Vec<f32>>,
    offset: usize,
    sent_at: Vec<u64>,
}

/// A delay that was found, and when.
#[derive(Clone, Copy)]
pub(crate) struct Delay {
    /// When the piece was heard, ns.
    pub(crate) at: u64,
    /// Milliseconds.
    pub(crate) ms: f32,
}

impl Voice {
    /// Of a talker who spoke `sound` from its `offset`th frame on.
    pub(crate) fn new(codec: Codec, sound: &SoundLoop, offset: usize, seen: &Seen) -> Self {
        let mut ear = Ear::new(codec);
        let mut frames = Vec::new();
        // Twice: what the codec remembers is then what it remembers in a loop.
        for _ in 0..2 {
            frames = sound
                .frames()
                .iter()
                .map(|frame| {
                    frame
                        .as_deref()
                        .map_or(vec![0.0; FRAME_SAMPLES], |f| ear.hear(f))
                })
                .collect();
        }
        Self {
            frames,
            offset,
            sent_at: seen.sent_at.clone(),
        }
    }

    /// The samples of the frames sent between two times, and the first frame's number.
    fn between(&self, from: u64, to: u64) -> (usize, Vec<f32>) {
        let first = self.sent_at.partition_point(|at| *at < from).max(1);
        let last = self.sent_at.partition_point(|at| *at < to);
        let frame = |n: usize| self.frames[(self.offset + n) % self.frames.len()].iter();
        (first, (first..last).flat_map(frame).copied().collect())
    }

    /// The delays of all pieces on a tape.
    pub(crate) fn delays(&self, codec: Codec, tape: &[Taped]) -> Vec<Delay> {
        let mut ear = Ear::new(codec);
        let heard: Vec<(u64, u16, Vec<f32>)> = tape
            .iter()
            .map(|packet| (packet.at, packet.sequence, ear.hear(&packet.payload)))
            .collect();
        heard
            .chunks_exact(PIECE_FRAMES)
            .filter(|piece| is_whole(piece))
            .filter_map(|piece| {
                let samples: Vec<f32> = piece.iter().flat_map(|(.., pcm)| pcm).copied().collect();
                let at = piece[0].0;
                self.delay(at, &samples).map(|ms| Delay { at, ms })
            })
            .collect()
    }

    fn delay(&self, at: u64, piece: &[f32]) -> Option<f32> {
        let (first, said) = self.between(at.saturating_sub(FURTHEST), at + PIECE);
        let best = find(piece, &said)?;
        let (frame, place) = (first + best / FRAME_SAMPLES, best % FRAME_SAMPLES);
        let sent = *self.sent_at.get(frame)? as f64 + place as f64 * SAMPLE;
        Some(((at as f64 - sent) / 1e6) as f32)
    }
}

/// Where a piece lies in what was said, if it is found there beyond doubt.
fn find(piece: &[f32], said: &[f32]) -> Option<usize> {
    let energy: f32 = piece.iter().map(|sample| sample * sample).sum();
    if energy < PIECE_ENERGY_MIN || said.len() < piece.len() {
        return None;
    }
    let mut window: f64 = said[..piece.len()].iter().map(|s| f64::from(s * s)).sum();
    let (mut best, mut place) = (0.0, 0);
    for start in 0..said.len() - piece.len() {
        let product = dot(piece, &said[start..start + piece.len()]);
        let likeness = product / (energy * window.max(1.0) as f32).sqrt();
        if likeness > best {
            (best, place) = (likeness, start);
        }
        let (leaves, comes) = (said[start], said[start + piece.len()]);
        window += f64::from(comes * comes) - f64::from(leaves * leaves);
    }
    (best > LIKENESS_MIN).then_some(place)
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; 8];
    for (a, b) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum()
}

/// Nothing lost, and whole frames only.
fn is_whole(piece: &[(u64, u16, Vec<f32>)]) -> bool {
    piece.iter().all(|(.., pcm)| pcm.len() == FRAME_SAMPLES)
        && piece
            .windows(2)
            .all(|pair| pair[1].1.wrapping_sub(pair[0].1) == 1)
}

/// A decoder whose sound is brought to 8 kHz.
struct Ear {
    decoder: Decoder,
    ratio: usize,
    pcm: Vec<i16>,
}

impl Ear {
    fn new(codec: Codec) -> Self {
        Self {
            decoder: Decoder::new(codec).expect("a decoder"),
            ratio: (codec.sample_rate().hz() / 8_000) as usize,
            pcm: vec![0; PAYLOAD_SAMPLES_MAX],
        }
    }

    /// Empty where it can't be decoded.
    fn hear(&mut self, payload: &[u8]) -> Vec<f32> {
        let count = self.decoder.decode(payload, &mut self.pcm).unwrap_or(0);
        self.pcm[..count]
            .chunks_exact(self.ratio)
            .map(|chunk| chunk.iter().map(|s| f32::from(*s)).sum::<f32>() / chunk.len() as f32)
            .collect()
    }
}

const FRAME_SAMPLES: usize = 160;
const PIECE_FRAMES: usize = 10;
const PIECE: u64 = 200 * MILLISECOND;
const FURTHEST: u64 = 400 * MILLISECOND;
/// Nanoseconds.
const SAMPLE: f64 = 125_000.0;
/// A pause can't be found.
const PIECE_ENERGY_MIN: f32 = 1_600.0 * 300.0 * 300.0;
const LIKENESS_MIN: f32 = 0.45;
