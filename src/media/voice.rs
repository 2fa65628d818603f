//! How loud a frame is and whether somebody talks in it: energy above an adaptive noise floor, with
//! hysteresis and hangover. Decides within the frame in which a voice sets in.

use std::f32::consts::TAU;

use crate::units::{Decibels, SampleRate};

/// What a frame sounds like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Voice {
    /// RMS in dB below full scale (32768); -127 is digital silence.
    pub level: Decibels,
    /// Somebody talks, or did within the hangover.
    pub active: bool,
    /// What the leg sounds like when nobody talks, hum filtered out.
    pub noise_floor: Decibels,
}

impl Voice {
    /// Nothing heard yet.
    pub const SILENT: Self = Self {
        level: Decibels(-127.0),
        active: false,
        noise_floor: Decibels(FLOOR_START),
    };
}

/// Follows one leg's voice.
#[derive(Debug)]
pub struct VoiceDetector {
    high_pass: [Biquad; 2],
    floor: f32,
    hangover: u8,
    voice: Voice,
}

impl VoiceDetector {
    /// For frames at `rate`.
    #[must_use]
    pub fn new(rate: SampleRate) -> Self {
        let section = Biquad::high_pass(HIGH_PASS_HZ, rate.hz() as f32);
        Self {
            high_pass: [section; 2],
            floor: FLOOR_START,
            hangover: 0,
            voice: Voice::SILENT,
        }
    }

    /// Judges one 20 ms frame.
    pub fn process(&mut self, frame: &[i16]) -> Voice {
        let (level, loudest) = self.measure(frame);
        let active = self.decide(loudest);
        self.follow_floor(loudest, active);
        self.voice = Voice {
            level: Decibels(level),
            active,
            noise_floor: Decibels(self.floor),
        };
        self.voice
    }

    /// Takes one 20 ms frame of made-up noise: it has a level, but nobody talks in it, and it says
    /// nothing about the noise on the line.
    pub fn process_comfort(&mut self, frame: &[i16]) -> Voice {
        let (level, _) = self.measure(frame);
        self.hangover = self.hangover.saturating_sub(1);
        self.voice.level = Decibels(level);
        self.voice.active = self.hangover > 0;
        self.voice
    }

    /// The judgement on the last frame.
    #[must_use]
    pub const fn voice(&self) -> Voice {
        self.voice
    }

    /// Plain level of the frame, and of the louder of its halves without hum, in dBFS.
    fn measure(&mut self, frame: &[i16]) -> (f32, f32) {
        let half = (frame.len() / 2).max(1);
        let (mut plain, mut loudest) = (0.0_f32, 0.0_f32);
        for part in frame.chunks(half) {
            let mut filtered = 0.0_f32;
            for sample in part {
                let x = f32::from(*sample);
                plain += x * x;
                let y = self
                    .high_pass
                    .iter_mut()
                    .fold(x, |x, section| section.filter(x));
                filtered += y * y;
            }
            loudest = loudest.max(filtered / half as f32);
        }
        (dbfs(plain / frame.len().max(1) as f32), dbfs(loudest))
    }

    fn decide(&mut self, loudest: f32) -> bool {
        let threshold = if self.hangover > 0 {
            (self.floor + ABOVE_TO_STAY).max(LEAST_TO_STAY)
        } else {
            (self.floor + ABOVE_TO_BEGIN).max(LEAST_TO_BEGIN)
        };
        self.hangover = if loudest > threshold {
            HANGOVER_FRAMES
        } else {
            self.hangover.saturating_sub(1)
        };
        self.hangover > 0
    }

    /// Falls fast, rises slowly, and while somebody seems to talk slower still: a voice pauses, noise
    /// doesn't. The ceiling keeps a steady tone a voice for as long as it lasts.
    fn follow_floor(&mut self, loudest: f32, active: bool) {
        let step = if loudest < self.floor {
            (loudest - self.floor) * FALL
        } else if active {
            RISE_IN_VOICE
        } else {
            (loudest - self.floor).min(RISE)
        };
        self.floor = (self.floor + step).clamp(FLOOR_LEAST, FLOOR_MOST);
    }
}

fn dbfs(mean_square: f32) -> f32 {
    Decibels::from_amplitude(mean_square.sqrt() / 32768.0)
        .0
        .max(-127.0)
}

/// A second-order section.
#[derive(Debug, Clone, Copy)]
struct Biquad {
    b0: f32,
    a1: f32,
    a2: f32,
    s1: f32,
    s2: f32,
}

impl Biquad {
    /// Butterworth, by the bilinear transform.
    fn high_pass(corner: f32, rate: f32) -> Self {
        let k = (TAU * corner / rate / 2.0).tan();
        let norm = 1.0 / (1.0 + k * std::f32::consts::SQRT_2 + k * k);
        Self {
            b0: norm,
            a1: 2.0 * (k * k - 1.0) * norm,
            a2: (1.0 - k * std::f32::consts::SQRT_2 + k * k) * norm,
            s1: 0.0,
            s2: 0.0,
        }
    }

    fn filter(&mut self, x: f32) -> f32 {
        let y = self.b0 * x + self.s1;
        self.s1 = -2.0 * self.b0 * x - self.a1 * y + self.s2;
        self.s2 = self.b0 * x - self.a2 * y;
        y
    }
}

/// Mains hum and its first harmonics lie below, what makes speech intelligible above.
const HIGH_PASS_HZ: f32 = 200.0;
/// 240 ms: the pauses within words.
const HANGOVER_FRAMES: u8 = 12;
/// dB above the floor.
const ABOVE_TO_BEGIN: f32 = 9.0;
const ABOVE_TO_STAY: f32 = 6.0;
/// dBFS: a quiet talker's syllables are louder, a room is not.
const LEAST_TO_BEGIN: f32 = -47.0;
const LEAST_TO_STAY: f32 = -51.0;
/// dBFS.
const FLOOR_START: f32 = -60.0;
const FLOOR_LEAST: f32 = -75.0;
const FLOOR_MOST: f32 = -35.0;
/// Part of the way per frame.
const FALL: f32 = 0.25;
/// dB per frame: 5 dB/s, and 1 dB/s.
const RISE: f32 = 0.1;
const RISE_IN_VOICE: f32 = 0.02;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::seeded::Random;

    /// Frames of a sine whose RMS is `dbfs`.
    fn tone(rate: SampleRate, hz: f32, dbfs: f32, frames: usize) -> Vec<Vec<i16>> {
        let peak = 32768.0 * 10.0_f32.powf(dbfs / 20.0) * std::f32::consts::SQRT_2;
        let samples = rate.frame_samples();
        let at = |n: usize| ((n as f32 / rate.hz() as f32 * hz).fract() * TAU).sin() * peak;
        (0..frames)
            .map(|f| (0..samples).map(|n| at(f * samples + n) as i16).collect())
            .collect()
    }

    fn noise(random: &mut Random, dbfs: f32) -> Vec<i16> {
        let peak = 32768.0 * 10.0_f32.powf(dbfs / 20.0) * 3.0_f32.sqrt();
        (0..160)
            .map(|_| ((random.unit() * 2.0 - 1.0) * peak) as i16)
            .collect()
    }

    const RATE: SampleRate = SampleRate::Hz8000;

    #[test]
    fn the_level_is_the_rms_of_the_frame() {
        let mut detector = VoiceDetector::new(RATE);
        let square = vec![16_384_i16; 160];
        assert!((detector.process(&square).level.0 + 6.02).abs() < 0.01);
        for dbfs in [-10.0, -20.0, -40.0] {
            let frame = &tone(RATE, 1000.0, dbfs, 1)[0];
            assert!((detector.process(frame).level.0 - dbfs).abs() < 0.2);
        }
        assert_eq!(detector.process(&[0; 160]).level, Decibels(-127.0));
    }

    #[test]
    fn a_voice_is_noticed_in_its_first_frame_and_let_go_after_the_hangover() {
        for rate in SampleRate::ALL {
            let mut detector = VoiceDetector::new(rate);
            let silent = vec![0_i16; rate.frame_samples()];
            for _ in 0..50 {
                assert!(!detector.process(&silent).active);
            }
            for frame in tone(rate, 400.0, -25.0, 10) {
                assert!(detector.process(&frame).active);
            }
            let after = (0..50)
                .take_while(|_| detector.process(&silent).active)
                .count();
            assert!((11..=13).contains(&after), "about 240 ms: {after} frames");
        }
    }

    #[test]
    fn a_voice_that_sets_in_at_the_end_of_a_frame_is_noticed() {
        let mut detector = VoiceDetector::new(RATE);
        let mut frame = tone(RATE, 400.0, -20.0, 1).remove(0);
        frame[..120].fill(0);
        assert!(detector.process(&frame).active);
    }

    #[test]
    fn comfort_noise_has_a_level_but_ends_a_voice_and_moves_no_floor() {
        let mut random = Random::new(3);
        let mut detector = VoiceDetector::new(RATE);
        let before = detector.process(&tone(RATE, 500.0, -20.0, 1)[0]);
        assert!(before.active);
        for _ in 0..20 {
            detector.process_comfort(&noise(&mut random, -45.0));
        }
        let after = detector.voice();
        assert!(!after.active && (after.level.0 + 45.0).abs() < 1.5);
        assert_eq!(after.noise_floor, before.noise_floor);
    }

    #[test]
    fn a_rooms_noise_and_hum_are_no_voice() {
        let mut random = Random::new(1);
        let mut detector = VoiceDetector::new(RATE);
        for _ in 0..500 {
            assert!(!detector.process(&noise(&mut random, -55.0)).active);
        }
        for hz in [50.0, 60.0, 100.0] {
            let mut detector = VoiceDetector::new(RATE);
            // The very first frame begins with a step that no line makes.
            let mut frames = tone(RATE, hz, -40.0, 500).into_iter();
            detector.process(&frames.next().unwrap());
            let active = frames
                .skip(12)
                .filter(|frame| detector.process(frame).active)
                .count();
            assert_eq!(active, 0, "{hz} Hz");
        }
    }

    #[test]
    fn loud_steady_noise_stops_being_a_voice_and_a_voice_above_it_is_still_one() {
        let mut random = Random::new(2);
        let mut detector = VoiceDetector::new(RATE);
        for _ in 0..700 {
            detector.process(&noise(&mut random, -45.0));
        }
        assert!(!detector.process(&noise(&mut random, -45.0)).active);
        assert!(detector.process(&tone(RATE, 500.0, -25.0, 1)[0]).active);
    }

    #[test]
    fn a_steady_tone_is_a_voice_for_as_long_as_it_lasts() {
        for rate in SampleRate::ALL {
            let mut detector = VoiceDetector::new(rate);
            assert!(
                tone(rate, 700.0, -20.0, 1000)
                    .iter()
                    .all(|frame| detector.process(frame).active)
            );
        }
    }
}
