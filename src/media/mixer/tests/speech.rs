//! What a meeting sounds like, on recorded human voices: Debian's prompts for Asterisk.

#![expect(clippy::print_stdout, reason = "the figures are worth reading")]

use super::*;
use crate::media::dtmf::inband::InbandDetector;
use crate::media::resample::Resampler;

const FOLDER: &str = "/usr/share/asterisk/sounds";

/// So many seconds of a human voice at 16 kHz, pauses cut short, at an RMS of `dbfs`.
pub(super) fn voice(language: &str, skip: usize, seconds: usize, dbfs: f64) -> Vec<i16> {
    let mut files: Vec<_> = std::fs::read_dir(format!("{FOLDER}/{language}"))
        .expect("the recorded voices are installed by scripts/install-deps")
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "g722"))
        .collect();
    files.sort();
    let mut pcm: Vec<i16> = Vec::new();
    for file in files.iter().cycle().skip(skip) {
        let mut decoder = Decoder::new(Codec::G722).unwrap();
        for payload in std::fs::read(file).unwrap().chunks(160) {
            let mut frame = [0; 320];
            let length = decoder.decode(payload, &mut frame).unwrap();
            if rms(&frame[..length]) > -55.0 {
                pcm.extend(&frame[..length]);
            }
        }
        if pcm.len() >= seconds * 16_000 {
            break;
        }
    }
    pcm.truncate(seconds * 16_000);
    let factor = 10.0_f64.powf((dbfs - rms(&pcm)) / 20.0);
    pcm.iter()
        .map(|x| (f64::from(*x) * factor).round() as i16)
        .collect()
}

fn rms(pcm: &[i16]) -> f64 {
    let energy: f64 = pcm.iter().map(|x| f64::from(*x).powi(2)).sum();
    10.0 * (energy / pcm.len().max(1) as f64 / 32_768.0_f64.powi(2))
        .max(1e-12)
        .log10()
}

fn narrow(wide: &[i16]) -> Vec<i16> {
    let mut resampler = Resampler::new(SampleRate::Hz16000, SampleRate::Hz8000);
    let mut pcm = Vec::new();
    for frame in wide.chunks_exact(320) {
        let input: Vec<f32> = frame.iter().map(|x| f32::from(*x)).collect();
        let mut output = [0.0; 160];
        resampler.process(&input, &mut output);
        pcm.extend(output.map(|x| x as i16));
    }
    pcm
}

pub(super) fn at(pcm: &[i16], index: usize) -> f64 {
    pcm.get(index).map_or(0.0, |x| f64::from(*x))
}

#[test]
fn ten_minutes_of_speech_trigger_no_key_and_lose_little() {
    for language in ["en", "it"] {
        let wide = voice(language, 0, 300, -20.0);
        for rate in [SampleRate::Hz8000, SampleRate::Hz16000] {
            let pcm = if rate == SampleRate::Hz8000 {
                narrow(&wide)
            } else {
                wide.clone()
            };
            let mut detector = InbandDetector::new(rate);
            let (mut keys, mut silenced, mut frames) = (0, 0, 0);
            let mut lossy = InbandDetector::new(rate);
            for frame in pcm.chunks_exact(rate.frame_samples()) {
                let mut frame = frame.to_vec();
                // Less sure of itself after each of many losses, it is to hear no keys either.
                let again = lossy.process(&mut frame.clone(), frames % 15 == 0);
                keys += u32::from(again.is_some());
                keys += u32::from(detector.process(&mut frame, false).is_some());
                silenced += u32::from(detector.is_pressed());
                frames += 1;
            }
            println!("{language} {rate:?}: {keys} keys, {silenced} of {frames} frames silenced");
            assert_eq!(keys, 0, "{language} {rate:?}");
            assert!(silenced * 200 < frames, "{silenced} of {frames} frames");
        }
    }
}

#[test]
fn one_talker_at_the_target_is_heard_to_the_bit() {
    for gain in [false, true] {
        let speech = narrow(&voice("en", 40, 10, -22.0));
        let mut world = World::new(&[Codec::Pcma, Codec::Pcma]);
        world.leg(0).set_sound(gain, None);
        world.run(
            500,
            |peer, i, _| if peer == 0 { at(&speech, i) } else { 0.0 },
        );
        let mut decoded: Vec<i16> = Vec::new();
        let mut codec = (
            Encoder::new(Codec::Pcma).unwrap(),
            Decoder::new(Codec::Pcma).unwrap(),
        );
        for frame in speech.chunks_exact(160) {
            let (mut payload, mut pcm) = ([0; 400], [0; 5_760]);
            let bytes = codec.0.encode(frame, &mut payload).unwrap();
            let length = codec.1.decode(&payload[..bytes], &mut pcm).unwrap();
            decoded.extend(&pcm[..length]);
        }
        let heard = &world.peers[1].heard;
        let same = |delay: usize| {
            let pairs = heard[delay..].chunks(160).zip(decoded.chunks(160));
            pairs.filter(|(heard, said)| heard == said).count()
        };
        let best = (0..10).map(|frames| same(frames * 160)).max().unwrap();
        println!("gain {gain}: {best} of 500 frames identical");
        assert!(best >= 480, "{best} frames");
    }
}

#[test]
fn quiet_and_loud_voices_come_out_within_six_decibels() {
    let heard = [-30.0, -6.0].map(|dbfs| {
        let speech = narrow(&voice("en", 100, 25, dbfs));
        let mut world = World::new(&[Codec::Pcmu, Codec::Pcmu]);
        world.leg(0).set_sound(true, None);
        world.run(
            1_250,
            |peer, i, _| {
                if peer == 0 { at(&speech, i) } else { 0.0 }
            },
        );
        let heard = &world.peers[1].heard;
        rms(&heard[heard.len() - 160 * 500..])
    });
    println!("-30 and -6 dBFS come out at {heard:.1?} dBFS");
    assert!((heard[0] - heard[1]).abs() < 6.0);
}

#[test]
fn four_at_full_scale_neither_clip_nor_hear_themselves() {
    let mut world = World::new(&[Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::Opus]);
    world.run(150, |peer, _, t| sine(32_000.0, TONES[peer], t));
    for (listener, tone) in TONES.into_iter().enumerate() {
        let own = world.level(listener, tone, 50);
        let others = (0..4).filter(|n| *n != listener);
        let quietest = others
            .map(|n| world.level(listener, TONES[n], 50))
            .fold(f64::MAX, f64::min);
        let peak = world.peers[listener].heard.iter().map(|x| x.unsigned_abs());
        let peak = peak.max().unwrap();
        println!(
            "{listener}: peak {peak}, own voice {:.1} dB below the others",
            quietest - own
        );
        assert!(quietest - own >= 40.0, "{listener}: {}", quietest - own);
        // G.722 and Opus overshoot by themselves what they are given below the ceiling.
        assert!(listener > 1 || peak < 32_767, "{listener}: {peak}");
    }
}

#[test]
fn a_phone_that_returns_the_others_is_found_and_damped() {
    let speech = narrow(&voice("it", 30, 40, -20.0));
    let mut world = World::new(&[Codec::Pcma; 3]);
    let mut found = None;
    // The third returns what it heard 120 ms before, 12 dB softer.
    for frame in 0..2_000_usize {
        let heard = world.peers[2].heard.clone();
        let begin = frame * 160;
        world.run(1, |peer, i, _| match peer {
            0 => at(&speech, i),
            2 => {
                let back = (heard.len() + i - begin).checked_sub(160 * 7);
                back.map_or(0.0, |n| at(&heard, n) * 0.25)
            }
            _ => 0.0,
        });
        if found.is_none() && world.leg(2).report().echo.is_some() {
            found = Some(frame);
        }
    }
    let echo = world.leg(2).report().echo.expect("it is found");
    // The first hears nothing but what the third returns.
    let level = |from: usize, to: usize| rms(&world.peers[0].heard[from * 160..to * 160]);
    let before = level(20, found.unwrap().saturating_sub(20));
    let after = level(found.unwrap() + 50, 2_000);
    println!(
        "found after {} ms of speech: {echo:?}; returned {before:.1} dBFS before, {after:.1} after",
        found.unwrap() * 20
    );
    assert!(echo.damped);
    assert!(before - after > 20.0, "{before} and {after} dBFS");
}

#[test]
fn what_is_whispered_to_a_phone_that_returns_it_is_not_heard_by_the_others() {
    let speech = narrow(&voice("it", 30, 30, -20.0));
    let whispered = voice("en", 7, 4, -20.0);
    let mut world = World::new(&[Codec::Pcmu, Codec::Pcmu, Codec::Opus]);
    // The third returns what it heard 140 ms before, 12 dB softer; the first falls silent.
    let run = |world: &mut World, frames: usize, speaks: bool| {
        for _ in 0..frames {
            let heard = world.peers[2].heard.clone();
            let begin = heard.len() / 960 * 960;
            world.run(1, |peer, i, _| match peer {
                0 if speaks => at(&speech, i),
                2 => (begin + i % 960)
                    .checked_sub(960 * 8)
                    .map_or(0.0, |n| at(&heard, n) * 0.25),
                _ => 0.0,
            });
        }
    };
    run(&mut world, 1_400, true);
    assert!(world.leg(2).report().echo.is_some(), "it is found");
    run(&mut world, 60, false);
    let begin = world.peers[1].heard.len();
    world.leg(2).play(Playlist {
        items: vec![rendition(Codec::Opus, 200, |t| {
            at(&whispered, (t * 16_000.0) as usize)
        })],
        token: 1,
    });
    run(&mut world, 195, false);
    let heard = rms(&world.peers[1].heard[begin..]);
    let returned = rms(&world.peers[2].heard[world.peers[2].heard.len() - 960 * 195..]) - 12.0;
    println!("returned at {returned:.1} dBFS, heard at {heard:.1}");
    assert!(returned > -40.0 && heard < -55.0, "{returned}, {heard}");
}

#[test]
fn people_who_talk_over_each_other_are_no_echo() {
    let (english, italian) = (
        narrow(&voice("en", 7, 120, -20.0)),
        narrow(&voice("it", 90, 120, -20.0)),
    );
    let mut world = World::new(&[Codec::Pcma; 3]);
    world.run(6_000, |peer, i, _| match peer {
        0 => at(&english, i),
        1 => at(&italian, i),
        _ => 0.0,
    });
    for leg in 0..3 {
        assert_eq!(world.leg(leg).report().echo, None, "leg {leg}");
    }
}
