//! Narrows a wide sum to 16 bit. Below the ceiling it changes nothing, to the bit; above it turns
//! the gain down smoothly, looking ahead within the frame, and lets it come back slowly. It never
//! wraps, and never flattens single samples (a hard clip).

/// Loudest sample that leaves the limiter; a single G.711 talker at full scale stays below it.
pub const CEILING: i32 = 32_500;

/// 1.5 * 2^23.
const WHOLE: f32 = 12_582_912.0;
/// A frame is worked in this many blocks (2.5 ms each at 20 ms), the gain linear within each.
const BLOCKS: usize = 8;
/// The gain comes back by this much per block: from half to full in 200 ms.
const RELEASE_PER_BLOCK: f32 = 0.5 / 80.0;

/// The gain of one mix, carried from frame to frame. Copied when a leg turns between a shared
/// and its own mix.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limiter {
    gain: f32,
}

impl Default for Limiter {
    fn default() -> Self {
        Self { gain: 1.0 }
    }
}

impl Limiter {
    /// The gain the next frame starts with: exactly 1.0 when idle.
    #[must_use]
    pub const fn gain(&self) -> f32 {
        self.gain
    }

    /// Forgets the gain.
    pub const fn reset(&mut self) {
        self.gain = 1.0;
    }

    /// Narrows one frame. Both slices have the same length, a multiple of 8.
    pub fn process(&mut self, wide: &[i32], narrow: &mut [i16]) {
        if self.gain >= 1.0 && (bound(wide) < CEILING || peak(wide) <= CEILING) {
            for (out, sample) in narrow.iter_mut().zip(wide) {
                *out = clamp(*sample);
            }
            return;
        }
        self.process_loud(wide, narrow);
    }

    fn process_loud(&mut self, wide: &[i32], narrow: &mut [i16]) {
        let length = (wide.len() / BLOCKS).max(1);
        let mut allowed = [1.0_f32; BLOCKS + 1];
        for (gain, block) in allowed.iter_mut().zip(wide.chunks(length)) {
            *gain = allowed_gain(peak(block));
        }
        let blocks = wide.chunks(length).zip(narrow.chunks_mut(length));
        for (index, (input, output)) in blocks.enumerate() {
            let here = allowed.get(index).copied().unwrap_or(1.0);
            let next = allowed.get(index + 1).copied().unwrap_or(1.0);
            let end = (self.gain + RELEASE_PER_BLOCK).min(here).min(next).min(1.0);
            apply(input, output, Ramp::new(input, self.gain, here, end));
            self.gain = end;
        }
    }
}

/// How the gain moves through one block.
struct Ramp {
    start: f32,
    step: f32,
    /// The look-ahead ends at the frame: a first block may begin with more gain than it allows.
    /// Then the gain falls by this much per sample, just fast enough, down to `floor`.
    attack: f32,
    floor: f32,
}

impl Ramp {
    fn new(block: &[i32], start: f32, allowed: f32, end: f32) -> Self {
        let step = (end - start) / block.len() as f32;
        let attack = if start > allowed {
            steepest(block, start)
        } else {
            0.0
        };
        let floor = if start > allowed {
            allowed
        } else {
            f32::INFINITY
        };
        Self {
            start,
            step,
            attack,
            floor,
        }
    }

    fn gain(&self, position: usize) -> f32 {
        let passed = (position + 1) as f32;
        let smooth = self.start + self.step * passed;
        let attack = (self.start + self.attack * passed).max(self.floor);
        if self.floor.is_finite() {
            smooth.min(attack)
        } else {
            smooth
        }
    }
}

/// The slope that meets every sample of the block in time.
fn steepest(block: &[i32], start: f32) -> f32 {
    let slope = |(index, sample): (usize, &i32)| {
        (allowed_gain(sample.saturating_abs()) - start) / (index + 1) as f32
    };
    block.iter().enumerate().map(slope).fold(0.0, f32::min)
}

fn apply(input: &[i32], output: &mut [i16], ramp: Ramp) {
    for (position, (out, sample)) in output.iter_mut().zip(input).enumerate() {
        *out = clamp(whole(*sample as f32 * ramp.gain(position)));
    }
}

fn allowed_gain(peak: i32) -> f32 {
    if peak <= CEILING {
        1.0
    } else {
        CEILING as f32 / peak as f32
    }
}

/// No sample is further from zero than this and one: all magnitudes' bits, which are quicker
/// gathered than the largest is found.
fn bound(block: &[i32]) -> i32 {
    block
        .iter()
        .fold(0, |bits, sample| bits | (sample ^ (sample >> 31)))
}

fn peak(block: &[i32]) -> i32 {
    let (least, most) = block
        .iter()
        .fold((0, 0), |(least, most): (i32, i32), sample| {
            (least.min(*sample), most.max(*sample))
        });
    most.max(least.saturating_neg())
}

/// Rounded to a whole number, for values of up to 22 bit: added to so large a number, that is what
/// the last bits of an `f32` hold. A library's `round` is a call per sample.
#[inline(always)]
pub(in crate::media) const fn whole(sample: f32) -> i32 {
    ((sample + WHOLE).to_bits() as i32).wrapping_sub(WHOLE.to_bits() as i32)
}

/// What 16 bit hold.
pub(in crate::media) fn clamp(sample: i32) -> i16 {
    sample.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(amplitude: f64, hz: f64, samples: usize, from: usize) -> Vec<i32> {
        (from..from + samples)
            .map(|i| (amplitude * (hz * i as f64 / 8000.0 * std::f64::consts::TAU).sin()) as i32)
            .collect()
    }

    #[test]
    fn below_the_ceiling_nothing_changes_to_the_bit() {
        let mut limiter = Limiter::default();
        let wide: Vec<i32> = (-80..80).map(|i| i * 406).collect();
        let mut narrow = vec![0; 160];
        limiter.process(&wide, &mut narrow);
        assert!(wide.iter().zip(&narrow).all(|(w, n)| *w == i32::from(*n)));
        assert_eq!(limiter.gain(), 1.0);
    }

    #[test]
    fn eight_times_full_scale_neither_wraps_nor_clips() {
        let mut limiter = Limiter::default();
        let mut narrow = vec![0; 160];
        for frame in 0..50 {
            let wide = sine(8.0 * 32_767.0, 440.0, 160, frame * 160);
            limiter.process(&wide, &mut narrow);
            for (w, n) in wide.iter().zip(&narrow) {
                assert!(
                    w.signum() * i32::from(n.signum()) >= 0,
                    "wrapped: {w} became {n}"
                );
                assert!(i32::from(n.abs()) <= CEILING, "{n} is above the ceiling");
            }
            let at_ceiling = narrow
                .iter()
                .filter(|n| i32::from(n.abs()) >= CEILING - 1)
                .count();
            assert!(
                at_ceiling <= 16,
                "{at_ceiling} samples lie flat at the ceiling"
            );
        }
    }

    #[test]
    fn a_steady_loud_tone_stays_a_sine() {
        let mut limiter = Limiter::default();
        let mut narrow = vec![0; 160];
        // 400 Hz: whole periods per frame, so the fundamental is one Fourier coefficient.
        for frame in 0..20 {
            limiter.process(&sine(65_534.0, 400.0, 160, frame * 160), &mut narrow);
        }
        let (mut re, mut im, mut energy) = (0.0, 0.0, 0.0);
        for (i, n) in narrow.iter().enumerate() {
            let phase = 400.0 * i as f64 / 8000.0 * std::f64::consts::TAU;
            re += f64::from(*n) * phase.cos();
            im += f64::from(*n) * phase.sin();
            energy += f64::from(*n) * f64::from(*n);
        }
        let fundamental = 2.0 * (re * re + im * im) / 160.0;
        let distortion = 10.0 * ((energy - fundamental) / fundamental).log10();
        assert!(distortion < -35.0, "distortion {distortion} dB");
    }

    #[test]
    fn the_gain_comes_back_without_a_step_and_ends_at_identity() {
        let mut limiter = Limiter::default();
        let mut narrow = vec![0; 160];
        limiter.process(&[131_068; 160], &mut narrow);
        let mut last = narrow[159];
        let before = limiter.gain();
        for _ in 0..20 {
            limiter.process(&[10_000; 160], &mut narrow);
            if last < 10_000 {
                for n in &narrow {
                    assert!(
                        (n - last).abs() < 300 || last > 10_000,
                        "step from {last} to {n}"
                    );
                    last = *n;
                }
            }
            last = narrow[159];
        }
        assert!(before < 0.3);
        assert_eq!(limiter.gain(), 1.0);
        assert_eq!(narrow, [10_000; 160]);
    }

    #[test]
    fn a_peak_at_the_first_sample_of_a_frame_is_met() {
        let mut limiter = Limiter::default();
        let mut wide = vec![0; 160];
        wide[0] = 200_000;
        wide[2] = -200_000;
        let mut narrow = vec![0; 160];
        limiter.process(&wide, &mut narrow);
        assert!(i32::from(narrow[0]) <= CEILING && i32::from(narrow[2]) >= -CEILING);
        assert!(narrow[0] > 32_000);
    }
}
