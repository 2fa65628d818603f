use super::*;
use crate::media::seeded::Random;
use crate::media::voice::VoiceDetector;
use crate::units::SampleRate;

const RATE: SampleRate = SampleRate::Hz8000;

/// Something like speech: syllables of a tone's harmonics with pauses, drawn from a seed.
fn speech(seed: u64, dbfs: f32, frames: usize) -> Vec<i16> {
    let mut random = Random::new(seed);
    let peak = 8_000.0;
    let (mut pcm, mut phase) = (Vec::new(), 0.0_f32);
    while pcm.len() < frames * 160 {
        let samples = 400 + random.below(1_600);
        let loud = [0.0, 0.25, 0.6, 1.0][random.below(4)];
        let step = (100.0 + 80.0 * random.unit()) / 8_000.0;
        for n in 0..samples {
            phase = (phase + step).fract();
            let rise = (n.min(samples - n) as f32 / 100.0).min(1.0);
            let tone: f32 = (1..8)
                .map(|h| (phase * h as f32 * std::f32::consts::TAU).sin() / h as f32)
                .sum();
            pcm.push((tone * 0.5 * peak * loud * rise) as i16);
        }
    }
    pcm.truncate(frames * 160);
    let factor = 10.0_f32.powf((dbfs - level(&pcm)) / 20.0);
    pcm.iter()
        .map(|x| (f32::from(*x) * factor) as i16)
        .collect()
}

struct Scene {
    treatment: Treatment,
    detector: VoiceDetector,
    sent: Envelope,
}

impl Scene {
    fn new(automatic_gain: bool) -> Self {
        let mut treatment = Treatment::new();
        assert!(treatment.set(automatic_gain, None).is_none());
        Self {
            treatment,
            detector: VoiceDetector::new(RATE),
            sent: Envelope::new(),
        }
    }

    /// One frame comes from the leg, then one is sent to it. What is summed, if anything is.
    fn frame(&mut self, returned: &[i16], sent: &[i16]) -> (Voice, Vec<i16>) {
        let voice = self.detector.process(returned);
        let voice = self
            .treatment
            .judge(voice, returned, Some(&self.sent), true);
        let mut pcm = returned.to_vec();
        self.treatment.process(&mut pcm);
        self.sent.push(halves(sent, f32::from));
        (voice, pcm)
    }
}

fn level(pcm: &[i16]) -> f32 {
    let power: f32 = pcm.iter().map(|x| f32::from(*x).powi(2)).sum::<f32>() / pcm.len() as f32;
    10.0 * (power / 32_768.0_f32.powi(2)).max(1e-12).log10()
}

/// `original`, so many samples later and so much softer.
fn echo_of(original: &[i16], delay: usize, decibels: f32) -> Vec<i16> {
    let factor = 10.0_f32.powf(decibels / 20.0);
    let silence = std::iter::repeat_n(&0, delay);
    silence
        .chain(original)
        .take(original.len())
        .map(|x| (f32::from(*x) * factor) as i16)
        .collect()
}

#[test]
fn without_gain_or_echo_every_sample_stays() {
    for gain in [false, true] {
        let mut scene = Scene::new(gain);
        // At the target, where automatic gain has nothing to do either.
        let own = speech(1, -22.0, 500);
        let other = speech(2, -20.0, 500);
        for (own, other) in own.chunks(160).zip(other.chunks(160)) {
            assert_eq!(scene.frame(own, other).1, own);
        }
    }
}

#[test]
fn quiet_and_loud_talkers_come_out_alike_and_unclipped() {
    let out = [-30.0, -6.0].map(|dbfs| {
        let mut scene = Scene::new(true);
        let pcm = speech(1, dbfs, 1_500);
        let silence = [0; 160];
        let treated: Vec<i16> = pcm
            .chunks(160)
            .flat_map(|frame| scene.frame(frame, &silence).1)
            .collect();
        let settled = &treated[160 * 750..];
        assert!(settled.iter().all(|x| x.unsigned_abs() < 32_600));
        (level(&pcm), level(settled))
    });
    let [(quiet_in, quiet), (loud_in, loud)] = out;
    assert!(loud_in - quiet_in > 18.0);
    assert!((loud - quiet).abs() < 6.0, "{quiet} and {loud} dBFS");
}

#[test]
fn the_gain_makes_no_step() {
    let mut scene = Scene::new(true);
    let steady: Vec<i16> = (0..160 * 500)
        .map(|n| ((n as f32 * 0.05).sin() * 1_000.0) as i16)
        .collect();
    let out: Vec<i16> = steady
        .chunks(160)
        .flat_map(|frame| {
            let voice = Voice {
                level: Decibels(-33.0),
                active: true,
                noise_floor: Decibels(-70.0),
            };
            scene.treatment.judge(voice, frame, None, true);
            let mut pcm = frame.to_vec();
            scene.treatment.process(&mut pcm);
            pcm
        })
        .collect();
    let gain = scene.treatment.gain().as_amplitude();
    assert!(gain > 2.0);
    let steepest = 1_000.0 * 0.05 * gain + 8.0;
    assert!(
        out.windows(2)
            .all(|w| f32::from(w[1] - w[0]).abs() <= steepest)
    );
}

#[test]
fn what_a_leg_returns_of_the_others_is_found_and_damped() {
    for (delay_ms, decibels) in [(60, -6.0), (180, -12.0), (400, -20.0)] {
        let mut scene = Scene::new(false);
        let sent = speech(7, -18.0, 1_500);
        let back = echo_of(&sent, delay_ms * 8, decibels);
        let mut summed = Vec::new();
        for (back, sent) in back.chunks(160).zip(sent.chunks(160)) {
            summed.extend(scene.frame(back, sent).1);
        }
        let echo = scene.treatment.echo().expect("an echo is found");
        assert!(
            (echo.delay_ms - delay_ms as f32).abs() <= 20.0,
            "{echo:?} for {delay_ms} ms"
        );
        let damping = level(&back[160 * 500..]) - level(&summed[160 * 500..]);
        assert!(damping > 15.0, "{damping} dB at {delay_ms} ms");
    }
}

#[test]
fn two_people_talking_at_once_are_no_echo() {
    for seed in 0..20 {
        let mut scene = Scene::new(false);
        let own = speech(100 + seed, -20.0, 3_000);
        let other = speech(200 + seed, -20.0, 3_000);
        for (own, other) in own.chunks(160).zip(other.chunks(160)) {
            let (_, summed) = scene.frame(own, other);
            assert_eq!(summed, own, "seed {seed}");
        }
        assert_eq!(scene.treatment.echo(), None, "seed {seed}");
    }
}

#[test]
fn who_returns_echo_is_heard_when_he_speaks_himself() {
    let mut scene = Scene::new(false);
    let sent = speech(7, -18.0, 2_000);
    let back = echo_of(&sent, 160 * 6, -20.0);
    let own = speech(8, -20.0, 2_000);
    let mut lost = 0;
    let mut spoken = 0;
    for (n, (back, sent)) in back.chunks(160).zip(sent.chunks(160)).enumerate() {
        // He speaks in the second half, over the others' voices.
        let own = &own[n * 160..][..160];
        let speaks = n >= 1_000;
        let mixed: Vec<i16> = back
            .iter()
            .zip(own)
            .map(|(b, o)| if speaks { b + o } else { *b })
            .collect();
        let (_, summed) = scene.frame(&mixed, sent);
        if speaks && level(own) > -20.0 {
            spoken += 1;
            lost += u32::from(level(&summed) < level(&mixed) - 3.0);
        }
    }
    assert!(scene.treatment.echo().is_some());
    assert!(spoken > 100, "{spoken}");
    assert!(lost * 50 <= spoken, "{lost} of {spoken} frames were damped");
}

#[test]
fn an_echo_that_is_gone_is_forgotten() {
    let mut scene = Scene::new(false);
    let sent = speech(7, -18.0, 1_000);
    let back = echo_of(&sent, 960, -10.0);
    for (back, sent) in back.chunks(160).zip(sent.chunks(160)) {
        scene.frame(back, sent);
    }
    assert!(scene.treatment.echo().is_some());
    let own = speech(9, -20.0, 3_000);
    let other = speech(10, -20.0, 3_000);
    for (own, other) in own.chunks(160).zip(other.chunks(160)) {
        scene.frame(own, other);
    }
    assert_eq!(scene.treatment.echo(), None);
}

#[test]
fn noise_suppression_takes_noise_and_leaves_a_voice() {
    for rate in SampleRate::ALL {
        let mut random = Random::new(5);
        let per_frame = rate.frame_samples();
        let mut treatment = Treatment::new();
        treatment.set(false, Some(Box::new(Denoiser::new(rate))));
        let mut left = Vec::new();
        let mut noise = Vec::new();
        for _ in 0..300 {
            let mut pcm: Vec<i16> = (0..per_frame)
                .map(|_| ((random.unit() - 0.5) * 1_500.0) as i16)
                .collect();
            treatment.judge(Voice::SILENT, &pcm, None, true);
            noise.extend_from_slice(&pcm);
            treatment.process(&mut pcm);
            left.extend_from_slice(&pcm);
        }
        let half = left.len() / 2;
        let taken = level(&noise[half..]) - level(&left[half..]);
        assert!(taken > 8.0, "{taken} dB at {rate:?}");
    }
}

#[test]
fn what_was_said_before_a_mute_or_elsewhere_isnt_heard_after_it() {
    let per_frame = SampleRate::Hz8000.frame_samples();
    for interrupted in [false, true] {
        let mut treatment = Treatment::new();
        treatment.set(false, Some(Box::new(Denoiser::new(SampleRate::Hz8000))));
        let frame = |treatment: &mut Treatment, n: usize, loudness: f64| {
            let sample = |at: usize| {
                let t = (n * per_frame + at) as f64 / 8_000.0 * std::f64::consts::TAU;
                let voice: f64 = (1..12_u32).map(|k| (t * 140.0 * f64::from(k)).sin()).sum();
                (voice * loudness * (t * 3.0).sin().abs()) as i16
            };
            let mut pcm: Vec<i16> = (0..per_frame).map(sample).collect();
            treatment.judge(Voice::SILENT, &pcm, None, true);
            treatment.process(&mut pcm);
            pcm.iter().map(|sample| sample.abs()).max().unwrap_or(0)
        };
        for n in 0..90 {
            frame(&mut treatment, n, 2_000.0);
        }
        if interrupted {
            treatment.interrupt();
        }
        let heard = frame(&mut treatment, 90, 0.0);
        assert_eq!(heard < 100, interrupted, "{heard}");
    }
}
