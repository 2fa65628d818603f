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
    high_pass: HighPass,
    hum: Hum,
    floor: f32,
    hangover: u8,
    /// Frames left out since the last one that was judged.
    skipped: u8,
    voice: Voice,
}

impl VoiceDetector {
    /// For frames at `rate`.
    #[must_use]
    pub fn new(rate: SampleRate) -> Self {
        Self {
            high_pass: HighPass::new(rate),
            hum: Hum::UNKNOWN,
            floor: FLOOR_START,
            hangover: 0,
            skipped: 0,
            voice: Voice::SILENT,
        }
    }

    /// Judges one 20 ms frame.
    pub fn process(&mut self, frame: &[i16]) -> Voice {
        let plain = Halves::of(frame);
        let loudest = self.loudest(frame, &plain);
        let active = self.decide(loudest);
        self.follow_floor(loudest, active);
        self.skipped = 0;
        let voice = Voice {
            level: plain.level(),
            active,
            noise_floor: Decibels(self.floor),
        };
        self.voice = voice;
        voice
    }

    /// Judges one 20 ms frame that was made up for what is lost, or for a key: a voice may go on in it, but it says
    /// nothing about the noise on the line.
    pub fn process_made_up(&mut self, frame: &[i16]) -> Voice {
        let plain = Halves::of(frame);
        let loudest = self.loudest(frame, &plain);
        self.voice.active = self.decide(loudest);
        self.voice.level = plain.level();
        self.skipped = 0;
        self.voice
    }

    /// Takes one 20 ms frame of made-up noise: it has a level, but nobody talks in it, and it says
    /// nothing about the noise on the line.
    pub fn process_comfort(&mut self, frame: &[i16]) -> Voice {
        self.high_pass.rest();
        self.hangover = self.hangover.saturating_sub(1);
        self.voice.level = Halves::of(frame).level();
        self.voice.active = self.hangover > 0;
        self.voice
    }

    /// A 20 ms frame that is silent by the sender's word was left out: it is as loud as the sender
    /// says, or as the last one was.
    pub const fn process_skipped(&mut self, level: Option<Decibels>) -> Voice {
        self.high_pass.rest();
        self.hangover = self.hangover.saturating_sub(1);
        self.skipped = self.skipped.saturating_add(1);
        if let Some(level) = level {
            self.voice.level = level;
        }
        self.voice.active = self.hangover > 0;
        self.voice
    }

    /// A 20 ms frame that is as loud as its sender says was left out.
    pub fn process_told(&mut self, level: Decibels) -> Voice {
        // A room that got quieter is followed at once, as a voice in it may be quieter too.
        let fall = (self.of_room(level.0) - self.floor).min(0.0) * FALL;
        self.floor = (self.floor + fall).max(FLOOR_LEAST);
        self.voice.noise_floor = Decibels(self.floor);
        self.process_skipped(Some(level))
    }

    /// Might a frame that is so loud as a whole be the beginning of a voice?
    #[must_use]
    pub fn may_begin(&self, level: Decibels) -> bool {
        level.0 + HALF + MARGIN > self.threshold()
    }

    /// The judgement on the last frame.
    #[must_use]
    pub const fn voice(&self) -> Voice {
        self.voice
    }

    /// The level of the louder half without hum, in dBFS. A frame that would be no voice even with
    /// all its hum need not be filtered, nor one that is far above what a voice needs to go on:
    /// what hum they have is known from a filtered one before.
    fn loudest(&mut self, frame: &[i16], plain: &Halves) -> f32 {
        let with_hum = plain.loudest();
        let speaks = self.hangover > 0;
        if !speaks && with_hum + MARGIN <= self.threshold() {
            let hum = self.hum.take(plain.last()).unwrap_or_else(|| {
                let filtered = self.high_pass.process(frame);
                self.high_pass.rest();
                self.hum.note(plain.last(), filtered.last())
            });
            return with_hum - hum;
        }
        if speaks && with_hum - self.hum.decibels - SURE > self.threshold() && self.hum.skip() {
            self.high_pass.rest();
            return with_hum - self.hum.decibels;
        }
        let filtered = self.high_pass.process(frame);
        self.hum.note(plain.last(), filtered.last());
        filtered.loudest()
    }

    fn threshold(&self) -> f32 {
        if self.hangover > 0 {
            (self.floor + ABOVE_TO_STAY).max(LEAST_TO_STAY)
        } else {
            (self.floor + ABOVE_TO_BEGIN).max(LEAST_TO_BEGIN)
        }
    }

    fn decide(&mut self, loudest: f32) -> bool {
        self.hangover = if loudest > self.threshold() {
            HANGOVER_FRAMES
        } else {
            self.hangover.saturating_sub(1)
        };
        self.hangover > 0
    }

    /// Falls fast, rises slowly, and while somebody seems to talk slower still: a voice pauses, noise
    /// doesn't. The ceiling keeps a steady tone a voice for as long as it lasts.
    fn follow_floor(&mut self, loudest: f32, active: bool) {
        let loudest = self.of_room(loudest);
        let step = if loudest < self.floor {
            (loudest - self.floor) * FALL
        } else if active {
            RISE_IN_VOICE
        } else {
            // A frame now and then speaks for those left out, up to a point.
            let frames = f32::from(self.skipped.min(SKIPPED_COUNTED)) + 1.0;
            (loudest - self.floor).min(RISE * frames)
        };
        self.floor = (self.floor + step).clamp(FLOOR_LEAST, FLOOR_MOST);
    }

    /// Where a frame so loud lets the floor fall to. No room is as silent as zeros are: they are a phone's that is
    /// muted, or that leaves out what it takes for no speech, and its noise is there again afterwards.
    const fn of_room(&self, level: f32) -> f32 {
        if level < NO_ROOM {
            self.floor.min(FLOOR_START)
        } else {
            level
        }
    }
}

/// How loud the halves of a frame are: their mean squares.
#[derive(Debug, Clone, Copy)]
struct Halves([f32; 2]);

impl Halves {
    fn of(frame: &[i16]) -> Self {
        let (first, last) = frame.split_at(frame.len() / 2);
        let mean = |part: &[i16]| energy(part, f32::from) / part.len().max(1) as f32;
        Self([mean(first), mean(last)])
    }

    fn level(&self) -> Decibels {
        dbfs((self.0[0] + self.0[1]) / 2.0)
    }

    fn loudest(&self) -> f32 {
        dbfs(self.0[0].max(self.0[1])).0
    }

    fn last(&self) -> f32 {
        dbfs(self.0[1]).0
    }
}

/// The sum of the squares, in lanes of their own, so that the compiler may use vectors.
pub(in crate::media) fn energy<S: Copy>(part: &[S], value: impl Fn(S) -> f32) -> f32 {
    let square = |sample: &S| {
        let sample = value(*sample);
        sample * sample
    };
    let (blocks, rest) = part.as_chunks::<LANES>();
    let mut sums = [0.0_f32; LANES];
    for block in blocks {
        for (sum, sample) in sums.iter_mut().zip(block) {
            *sum += square(sample);
        }
    }
    sums.iter().sum::<f32>() + rest.iter().map(square).sum::<f32>()
}

fn dbfs(mean_square: f32) -> Decibels {
    Decibels::from_power(mean_square / (32_768.0 * 32_768.0))
}

/// How much of a quiet leg's sound is hum, measured now and then and where the sound changes.
#[derive(Debug, Clone, Copy)]
struct Hum {
    decibels: f32,
    /// What it was part of.
    level: f32,
    /// Frames for which that is believed.
    believed: u8,
}

impl Hum {
    const UNKNOWN: Self = Self {
        decibels: 0.0,
        level: 0.0,
        believed: 0,
    };

    fn take(&mut self, level: f32) -> Option<f32> {
        self.believed = self.believed.checked_sub(1)?;
        ((level - self.level).abs() < HUM_ALIKE).then_some(self.decibels)
    }

    /// As long as a voice goes on, three frames of four.
    fn skip(&mut self) -> bool {
        let fresh = self.believed > HUM_FRAMES - VOICE_FRAMES;
        self.believed -= u8::from(fresh);
        fresh
    }

    fn note(&mut self, level: f32, filtered: f32) -> f32 {
        *self = Self {
            decibels: (level - filtered).max(0.0),
            level,
            believed: HUM_FRAMES,
        };
        self.decibels
    }
}

/// Takes the hum out. Wide sound is judged at 16 kHz.
#[derive(Debug)]
struct HighPass {
    sections: [Biquad; 2],
    /// Samples that are made one of.
    step: usize,
}

impl HighPass {
    fn new(rate: SampleRate) -> Self {
        let step = (rate.hz() / 16_000).max(1);
        let section = Biquad::high_pass(HIGH_PASS_HZ, (rate.hz() / step) as f32);
        Self {
            sections: [section; 2],
            step: step as usize,
        }
    }

    fn process(&mut self, frame: &[i16]) -> Halves {
        let half = frame.len() / 2;
        let (first, last) = frame.split_at(half);
        Halves([self.mean_square(first), self.mean_square(last)])
    }

    /// What comes next has no past.
    const fn rest(&mut self) {
        self.sections[0].rest();
        self.sections[1].rest();
    }

    fn mean_square(&mut self, part: &[i16]) -> f32 {
        let [mut first, mut second] = self.sections;
        let mut sum = 0.0;
        let mut square_of = |x: f32| {
            let y = second.filter(first.filter(x));
            sum += y * y;
        };
        if let (triples, []) = part.as_chunks::<3>()
            && self.step == 3
        {
            for triple in triples {
                let all: i32 = triple.iter().map(|sample| i32::from(*sample)).sum();
                square_of(all as f32 / 3.0);
            }
        } else {
            part.iter().for_each(|sample| square_of((*sample).into()));
        }
        self.sections = [first, second];
        sum / (part.len() / self.step).max(1) as f32
    }
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

    const fn rest(&mut self) {
        self.s1 = 0.0;
        self.s2 = 0.0;
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
const NO_ROOM: f32 = -85.0;
/// dB by which filtering might make a half louder.
const MARGIN: f32 = 1.0;
/// dB by which the louder half of a frame is louder than all of it, at most.
const HALF: f32 = 3.0;
/// How far above the threshold a voice is beyond doubt.
const SURE: f32 = 6.0;
/// 1 s, and 60 ms.
const HUM_FRAMES: u8 = 50;
const VOICE_FRAMES: u8 = 3;
/// dB by which the level of half a frame of steady noise may differ from another's.
const HUM_ALIKE: f32 = 3.0;
const LANES: usize = 16;
/// Part of the way per frame.
const FALL: f32 = 0.25;
/// dB per frame: 5 dB/s, and 1 dB/s.
const RISE: f32 = 0.1;
const RISE_IN_VOICE: f32 = 0.02;
/// Frames left out that one stands for.
const SKIPPED_COUNTED: u8 = 10;

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
    fn a_rooms_noise_is_no_voice_after_a_key_or_a_loss_and_a_mute_tells_nothing_of_the_room() {
        let settled = || {
            let mut random = Random::new(4);
            let mut detector = VoiceDetector::new(RATE);
            for _ in 0..1_500 {
                detector.process(&noise(&mut random, -44.0));
            }
            (detector, random)
        };
        let (mut detector, mut random) = settled();
        for _ in 0..50 {
            detector.process_made_up(&[0; 160]);
        }
        for n in 0..500 {
            let voice = detector.process(&noise(&mut random, -44.0));
            assert!(!voice.active, "frame {n}");
        }
        let muted: [fn(&mut VoiceDetector) -> Voice; 2] = [
            |detector| detector.process(&[0; 160]),
            |detector| detector.process_told(Decibels(-127.0)),
        ];
        for mute in muted {
            let (mut detector, _) = settled();
            for _ in 0..500 {
                mute(&mut detector);
            }
            let floor = detector.process_skipped(None).noise_floor;
            assert!((floor.0 - FLOOR_START).abs() < 1.0, "{floor:?}");
        }
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

    /// What was decided for a frame that had to be filtered whatever its level.
    fn filtered(detector: &mut VoiceDetector, frame: &[i16]) -> bool {
        let loudest = detector.high_pass.process(frame).loudest();
        let active = detector.decide(loudest);
        detector.follow_floor(loudest, active);
        active
    }

    #[test]
    fn what_is_not_filtered_is_judged_as_if_it_were() {
        for seed in 0..12 {
            let hum_db = -44.0 - 3.0 * seed as f32;
            let mut random = Random::new(seed);
            let (mut quick, mut thorough) = (VoiceDetector::new(RATE), VoiceDetector::new(RATE));
            let hum = tone(RATE, 100.0, hum_db, 1);
            let (mut level, mut differ, mut voiced) = (-60.0, 0, 0);
            for n in 0..6_000 {
                if random.below(12) == 0 {
                    let speaks = n / 400 % 2 == 1 && random.below(4) > 0;
                    level = -62.0 + if speaks { 40.0 } else { 6.0 } * random.unit();
                }
                let mut frame = noise(&mut random, level);
                frame.iter_mut().zip(&hum[0]).for_each(|(x, y)| *x += y);
                let judged = quick.process(&frame).active;
                let expected = filtered(&mut thorough, &frame);
                voiced += u32::from(expected);
                differ += u32::from(judged != expected);
                let off = (quick.floor - thorough.floor).abs();
                assert!(off < 8.0, "hum {hum_db}, frame {n}: floor {off} dB off");
            }
            assert!(voiced > 800, "{voiced}");
            assert!(differ <= 60, "hum {hum_db}: {differ} of {voiced} frames");
        }
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
