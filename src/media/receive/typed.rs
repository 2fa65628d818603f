//! PINs typed as tones over links that lose and delay packets.

use std::f32::consts::TAU;

use super::*;
use crate::media::codec::{Encoder, PAYLOAD_BYTES_MAX};
use crate::media::rtp::RtpHeader;
use crate::media::seeded::{self, Random};
use crate::units::{RtpTicks, SeqNo};

/// A telephone that types by itself, or a finger.
struct Typing {
    tone_ms: usize,
    gap_ms: usize,
}

#[derive(Debug)]
struct Link {
    loss_percent: usize,
    jitter_ms: usize,
}

/// PINs of ten keys that were not heard as they were typed, of `pins`.
fn misheard(codec: Codec, typing: &Typing, link: &Link, pins: u64) -> usize {
    (0..pins)
        .filter(|seed| {
            let mut random = Random::new(*seed);
            let pin: String = (0..10)
                .map(|_| char::from(b'0' + random.below(10) as u8))
                .collect();
            heard(codec, &pin, typing, link, &mut random) != pin
        })
        .count()
}

fn heard(codec: Codec, pin: &str, typing: &Typing, link: &Link, random: &mut Random) -> String {
    let parameters = MediaParameters::plain(codec, "198.51.100.7:4000".parse().unwrap());
    let mut receiver = Receiver::new(&parameters, ReceiverConfig::default()).unwrap();
    let mut encoder = Encoder::new(codec).unwrap();
    let rate = codec.sample_rate().hz() as usize;
    let samples = typed(pin, typing, rate, random);
    let start = seeded::start();
    let mut packets: Vec<(u64, Vec<u8>)> = samples
        .chunks_exact(rate / 50)
        .enumerate()
        .filter_map(|(n, pcm)| {
            let mut payload = [0; PAYLOAD_BYTES_MAX];
            let length = encoder.encode(pcm, &mut payload).unwrap();
            let header = RtpHeader {
                marker: n == 0,
                payload_type: parameters.payload_type_receive,
                sequence: SeqNo(n as u16),
                timestamp: RtpTicks(n as u32 * 160),
                ssrc: Ssrc(7),
            };
            let mut bytes = vec![0; 12];
            header.write(&mut bytes).unwrap();
            bytes.extend_from_slice(&payload[..length]);
            let late = random.below(link.jitter_ms * 1000 + 1) as u64;
            let lost = random.below(100) < link.loss_percent;
            (!lost).then_some((n as u64 * 20_000 + late, bytes))
        })
        .collect();
    packets.sort_by_key(|(at, _)| *at);
    let mut arriving = packets.into_iter().peekable();
    let mut keys = String::new();
    for pull in 1..=samples.len() as u64 * 50 / rate as u64 {
        let until = pull * 20_000 + 7_000;
        while let Some((at, packet)) = arriving.next_if(|(at, _)| *at <= until) {
            receiver.handle_rtp(start + Duration::from_micros(at), &packet);
        }
        receiver.pull_frame(start + Duration::from_micros(until));
        keys.extend(std::iter::from_fn(|| receiver.poll_key()).map(|press| press.key.as_char()));
    }
    keys
}

/// A second to find the delay, the keys, and a second's end; over faint noise.
fn typed(pin: &str, typing: &Typing, rate: usize, random: &mut Random) -> Vec<i16> {
    const ROWS: [f32; 4] = [697.0, 770.0, 852.0, 941.0];
    const COLUMNS: [f32; 3] = [1209.0, 1336.0, 1477.0];
    let mut samples = vec![0.0_f32; rate + random.below(rate / 50)];
    for key in pin.chars() {
        let place = "123456789*0#".find(key).unwrap();
        let (row, column) = (ROWS[place / 3], COLUMNS[place % 3]);
        let tone = |n: usize, f: f32| (n as f32 / rate as f32 * TAU * f).sin() * 4000.0;
        samples.extend((0..typing.tone_ms * rate / 1000).map(|n| tone(n, row) + tone(n, column)));
        samples.extend(std::iter::repeat_n(0.0, typing.gap_ms * rate / 1000));
    }
    samples.extend(std::iter::repeat_n(0.0, rate));
    samples
        .into_iter()
        .map(|x| (x + (random.unit() - 0.5) * 20.0) as i16)
        .collect()
}

#[test]
fn a_pin_typed_as_tones_comes_through_a_bad_link() {
    let finger = Typing {
        tone_ms: 100,
        gap_ms: 100,
    };
    let machine = Typing {
        tone_ms: 60,
        gap_ms: 60,
    };
    for codec in [Codec::Pcmu, Codec::G722] {
        for (typing, loss_percent, jitter_ms, most) in [
            (&machine, 0, 40, 0),
            (&finger, 1, 10, 0),
            (&finger, 5, 20, 1),
        ] {
            let link = Link {
                loss_percent,
                jitter_ms,
            };
            let wrong = misheard(codec, typing, &link, 20);
            assert!(wrong <= most, "{codec:?} {link:?}: {wrong} of 20 misheard");
        }
    }
}
