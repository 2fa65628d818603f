//! Concealment of lost audio for codecs without their own: the last pitch periods are repeated and
//! fade away, in the spirit of ITU-T G.711 Appendix I.
//!
//! Unlike the appendix nothing is delayed on the way and what is good passes untouched. So a loss
//! can't be blended in before it begins: the step there is taken up and let go over a millisecond
//! instead. Where it ends the first good samples are blended.

use crate::media::prefetch::prefetch_slice;
use crate::units::SampleRate;

/// Conceals one leg's losses at 8 or 16 kHz.
#[derive(Debug)]
pub struct Concealer {
    /// What was played last, in a ring; in order, newest at the end, while a loss lasts.
    history: Box<[i16]>,
    /// Where the oldest sample is, and the next one goes.
    oldest: usize,
    /// The periods that are repeated while a loss lasts.
    cycle: Box<[f32]>,
    scale: usize,
    loss: Loss,
}

/// Where in a loss we are.
#[derive(Debug, Clone, Copy)]
enum Loss {
    None,
    /// `cycle[..length]` is repeated, `at` is next; `elapsed` samples are concealed.
    Running(Running),
}

#[derive(Debug, Clone, Copy)]
struct Running {
    length: usize,
    at: usize,
    pitch: usize,
    elapsed: usize,
    /// How many concealed samples the history ends with.
    remembered: usize,
    /// What is left of the step between the last good sample and the first concealed one.
    step: f32,
}

impl Concealer {
    /// Before so many samples come.
    pub fn prefetch(&self, samples: usize) {
        let from_oldest = self.history.get(self.oldest..).unwrap_or_default();
        prefetch_slice(from_oldest.get(..samples).unwrap_or(from_oldest));
    }

    /// For audio at `rate`.
    #[must_use]
    pub fn new(rate: SampleRate) -> Self {
        let scale = rate.hz() as usize / 8000;
        Self {
            history: vec![0; HISTORY * scale].into(),
            oldest: 0,
            cycle: vec![0.0; PITCH_MAX * PERIODS_MAX * scale].into(),
            scale,
            loss: Loss::None,
        }
    }

    /// Good audio that follows what was played so far. After a loss its beginning is blended with
    /// what the concealment would have gone on with; otherwise nothing is touched.
    pub fn good(&mut self, pcm: &mut [i16]) {
        if let Loss::Running(Running { pitch, elapsed, .. }) = self.loss {
            self.put_in_order();
            // The longer the loss, the longer the blend (I.2.7): a quarter period and 4 ms per 10 ms.
            let blend = pitch / 4 + elapsed * 2 / 5;
            let blend = blend.min(BLEND_MAX * self.scale).min(pcm.len());
            for (n, sample) in pcm.iter_mut().take(blend).enumerate() {
                let share = (n + 1) as f32 / (blend + 1) as f32;
                let concealed = self.next_sample();
                *sample = narrow(f32::from(*sample) * share + concealed * (1.0 - share));
            }
            self.loss = Loss::None;
        }
        self.remember(pcm);
    }

    /// Fills `pcm` with what stands in for lost audio. True once that is all silence.
    pub fn conceal(&mut self, pcm: &mut [i16]) -> bool {
        self.put_in_order();
        if matches!(self.loss, Loss::None) {
            self.begin();
        }
        for sample in pcm.iter_mut() {
            *sample = narrow(self.next_sample());
        }
        self.remember(pcm);
        if let Loss::Running(loss) = &mut self.loss {
            loss.remembered += pcm.len();
        }
        self.is_exhausted()
    }

    /// What follows is a beginning, not the return from a loss.
    pub fn reset(&mut self) {
        self.history.fill(0);
        self.loss = Loss::None;
    }

    /// Has a loss lasted so long that nothing is left of the voice?
    #[must_use]
    pub const fn is_exhausted(&self) -> bool {
        matches!(self.loss, Loss::Running(Running { elapsed, .. }) if elapsed >= FADE_END * self.scale)
    }

    /// Bytes allocated.
    #[must_use]
    pub fn allocated(&self) -> usize {
        size_of_val(&*self.history) + size_of_val(&*self.cycle)
    }

    fn begin(&mut self) {
        let pitch = self.find_pitch();
        self.fill_cycle(pitch, 1, 0);
        let newest = |back: usize| {
            self.history
                .iter()
                .rev()
                .nth(back)
                .map_or(0.0, |x| f32::from(*x))
        };
        let step = newest(0) - newest(pitch);
        self.loss = Loss::Running(Running {
            length: pitch,
            at: 0,
            pitch,
            elapsed: 0,
            remembered: 0,
            step,
        });
    }

    fn next_sample(&mut self) -> f32 {
        let Loss::Running(mut loss) = self.loss else {
            return 0.0;
        };
        let gain = gain_after(loss.elapsed, self.scale);
        if gain > 0.0 && loss.at >= loss.length {
            self.close_cycle(&mut loss);
        }
        let sample = self.cycle.get(loss.at).copied().unwrap_or(0.0) + loss.step;
        loss.step *= 1.0 - STEP_DECAY / self.scale as f32;
        loss.at += 1;
        loss.elapsed += 1;
        self.loss = Loss::Running(loss);
        sample * gain
    }

    /// Goes back to the beginning. Repeating one period for long sounds like a buzzer, so after 10 ms
    /// there are two of them, after 20 ms three (I.2.5); the newest one is what the last one led to.
    fn close_cycle(&mut self, loss: &mut Running) {
        let periods = (1 + loss.elapsed / (10 * PER_MS * self.scale)).min(PERIODS_MAX);
        loss.at = 0;
        if periods * loss.pitch > loss.length {
            loss.length = periods * loss.pitch;
            loss.at = loss.length - loss.pitch;
            self.fill_cycle(loss.pitch, periods, loss.remembered);
        }
    }

    /// Copies the last `periods` good periods; their end is blended into what came before their
    /// beginning, so that the cycle closes without a step.
    fn fill_cycle(&mut self, pitch: usize, periods: usize, concealed: usize) {
        let length = (pitch * periods).min(self.cycle.len());
        let end = self.history.len().saturating_sub(concealed);
        let blend = pitch / 4;
        let Some(start) = end.checked_sub(length + blend) else {
            return;
        };
        let Some(source) = self.history.get(start..end) else {
            return;
        };
        let (before, periods) = source.split_at(blend);
        for (n, slot) in self.cycle.iter_mut().take(length).enumerate() {
            let sample = f32::from(periods[n]);
            *slot = match n.checked_sub(length - blend) {
                Some(m) => {
                    let share = (m + 1) as f32 / (blend + 1) as f32;
                    sample * (1.0 - share) + f32::from(before[m]) * share
                }
                None => sample,
            };
        }
    }

    /// The lag of the best normalised correlation of the last 20 ms, coarsely, then around it.
    fn find_pitch(&self) -> usize {
        let (shortest, longest) = (PITCH_MIN * self.scale, PITCH_MAX * self.scale);
        let step = 2 * self.scale;
        let coarse = self.best_lag((shortest..=longest).step_by(step), step);
        let from = coarse.saturating_sub(step - 1).max(shortest);
        self.best_lag(from..=(coarse + step - 1).min(longest), 1)
    }

    fn best_lag(&self, lags: impl Iterator<Item = usize>, step: usize) -> usize {
        let mut best = (f32::MIN, PITCH_MAX * self.scale);
        for lag in lags {
            let score = self.correlation(lag, step);
            if score > best.0 {
                best = (score, lag);
            }
        }
        best.1
    }

    fn correlation(&self, lag: usize, step: usize) -> f32 {
        let window = CORRELATED * self.scale;
        let Some(recent) = self.history.len().checked_sub(window) else {
            return 0.0;
        };
        let (Some(now), Some(then)) =
            (self.history.get(recent..), self.history.get(recent - lag..))
        else {
            return 0.0;
        };
        let (mut product, mut energy) = (0.0_f32, 1.0_f32);
        for (a, b) in now.iter().zip(then).step_by(step) {
            let (a, b) = (f32::from(*a), f32::from(*b));
            product += a * b;
            energy += b * b;
        }
        product / energy.sqrt()
    }

    fn put_in_order(&mut self) {
        self.history.rotate_left(self.oldest);
        self.oldest = 0;
    }

    fn remember(&mut self, pcm: &[i16]) {
        let length = self.history.len();
        let new = pcm.get(pcm.len().saturating_sub(length)..).unwrap_or(pcm);
        let (before_end, from_start) = new.split_at(new.len().min(length - self.oldest));
        for (places, samples) in [(self.oldest, before_end), (0, from_start)] {
            if let Some(places) = self.history.get_mut(places..places + samples.len()) {
                places.copy_from_slice(samples);
            }
        }
        self.oldest = (self.oldest + new.len()) % length;
    }
}

/// Full for 10 ms, then down by a fifth every 10 ms to nothing at 60 ms (I.2.6).
fn gain_after(elapsed: usize, scale: usize) -> f32 {
    let full = FADE_START * scale;
    let fading = (FADE_END - FADE_START) * scale;
    1.0 - (elapsed.saturating_sub(full) as f32 / fading as f32).min(1.0)
}

fn narrow(sample: f32) -> i16 {
    sample.round() as i16
}

// All in samples at 8 kHz.
const PER_MS: usize = 8;
/// Three longest periods, a quarter more, and what a loss may have appended while it is still heard.
const HISTORY: usize = PITCH_MAX * PERIODS_MAX + PITCH_MAX / 4 + 1 + FADE_END;
/// 200 Hz and 66 Hz.
const PITCH_MIN: usize = 40;
const PITCH_MAX: usize = 120;
const PERIODS_MAX: usize = 3;
const CORRELATED: usize = 160;
const FADE_START: usize = 10 * PER_MS;
const FADE_END: usize = 60 * PER_MS;
const BLEND_MAX: usize = 10 * PER_MS;
/// Part per sample at 8 kHz: gone within 2 ms.
const STEP_DECAY: f32 = 0.2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::seeded::Random;
    use std::f32::consts::TAU;

    const RATES: [SampleRate; 2] = [SampleRate::Hz8000, SampleRate::Hz16000];

    fn tone(rate: SampleRate, hz: f32, from: usize, samples: usize) -> Vec<i16> {
        let at = |n: usize| (n as f32 * hz / rate.hz() as f32).fract() * TAU;
        (from..from + samples)
            .map(|n| (at(n).sin() * 10_000.0) as i16)
            .collect()
    }

    fn power(pcm: &[i16]) -> f32 {
        pcm.iter().map(|x| f32::from(*x).powi(2)).sum::<f32>() / pcm.len() as f32
    }

    /// The largest step between neighbours.
    fn steepest(pcm: &[i16]) -> i32 {
        pcm.windows(2)
            .map(|pair| (i32::from(pair[1]) - i32::from(pair[0])).abs())
            .max()
            .unwrap()
    }

    #[test]
    fn good_audio_passes_untouched() {
        let mut concealer = Concealer::new(SampleRate::Hz8000);
        let mut random = Random::new(1);
        for _ in 0..20 {
            let frame: Vec<i16> = (0..160).map(|_| random.next_u32() as i16).collect();
            let mut played = frame.clone();
            concealer.good(&mut played);
            assert_eq!(played, frame);
        }
    }

    #[test]
    fn a_lost_frame_of_a_tone_goes_on_without_a_click_and_in_its_pitch() {
        for rate in RATES {
            for hz in [101.0, 180.0, 233.0, 440.0, 1000.0] {
                let n = rate.frame_samples();
                let mut concealer = Concealer::new(rate);
                let mut out = Vec::new();
                for frame in 0..20 {
                    let mut pcm = tone(rate, hz, frame * n, n);
                    if frame == 10 {
                        concealer.conceal(&mut pcm);
                    } else {
                        concealer.good(&mut pcm);
                    }
                    out.extend(pcm);
                }
                let natural = steepest(&tone(rate, hz, 0, n * 20));
                let joints = &out[9 * n..12 * n];
                assert!(
                    steepest(joints) <= natural * 5 / 4 + 400,
                    "{rate:?} {hz}: {} {natural}",
                    steepest(joints)
                );
                let kept = power(&out[10 * n..11 * n]) / power(&out[8 * n..9 * n]);
                assert!((0.55..1.1).contains(&kept), "{rate:?} {hz}: {kept}");
            }
        }
    }

    #[test]
    fn a_long_loss_fades_to_silence_by_60_ms() {
        for rate in RATES {
            let n = rate.frame_samples();
            let mut concealer = Concealer::new(rate);
            for frame in 0..10 {
                concealer.good(&mut tone(rate, 150.0, frame * n, n));
            }
            let mut powers = Vec::new();
            for _ in 0..5 {
                let mut pcm = vec![1; n];
                let silent = concealer.conceal(&mut pcm);
                powers.push(power(&pcm));
                assert_eq!(silent, powers.len() >= 3);
            }
            assert!(
                powers[0] > powers[1] * 1.5 && powers[1] > powers[2] * 3.0,
                "{powers:?}"
            );
            assert_eq!(powers[3..], [0.0, 0.0]);
        }
    }

    #[test]
    fn the_return_from_silence_is_smooth() {
        let rate = SampleRate::Hz8000;
        let mut concealer = Concealer::new(rate);
        concealer.good(&mut tone(rate, 300.0, 0, 160));
        concealer.conceal(&mut [0; 800]);
        let mut back = tone(rate, 300.0, 407, 160);
        concealer.good(&mut back);
        assert!(back[0].abs() < 400, "{}", back[0]);
        assert_eq!(back[100..], tone(rate, 300.0, 407, 160)[100..]);
    }

    #[test]
    fn noise_is_concealed_at_its_level_and_does_not_buzz() {
        let mut random = Random::new(3);
        let mut concealer = Concealer::new(SampleRate::Hz8000);
        for _ in 0..10 {
            let mut pcm: Vec<i16> = (0..160)
                .map(|_| (random.below(4000) as i32 - 2000) as i16)
                .collect();
            concealer.good(&mut pcm);
        }
        let mut lost = [0_i16; 320];
        concealer.conceal(&mut lost);
        let expected = 2000.0_f32.powi(2) / 3.0;
        assert!((0.4..1.6).contains(&(power(&lost[..80]) / expected)));
        // A buzz repeats itself: no lag up to 15 ms may correlate over the whole of it.
        let correlation = |lag: usize| {
            let (a, b) = (&lost[160..320], &lost[160 - lag..320 - lag]);
            let product: f32 = a
                .iter()
                .zip(b)
                .map(|(a, b)| f32::from(*a) * f32::from(*b))
                .sum();
            product / (power(a) * power(b)).sqrt() / 160.0
        };
        let worst = (40..=60).map(correlation).fold(0.0, f32::max);
        assert!(worst < 0.95, "{worst}");
    }

    #[test]
    fn silence_and_full_scale_stay_what_they_are() {
        let mut concealer = Concealer::new(SampleRate::Hz16000);
        let mut lost = [7_i16; 320];
        concealer.conceal(&mut lost);
        assert_eq!(lost, [0; 320]);
        concealer.good(&mut [i16::MIN; 320]);
        concealer.good(&mut [i16::MIN; 320]);
        concealer.conceal(&mut lost);
        assert!(lost.iter().all(|x| *x <= 0));
    }
}
