//! Sample rate conversion between 8, 16 and 48 kHz, one 20 ms frame at a time.
//!
//! A polyphase FIR: conceptually, zeros are put between the samples of the slower rate and a
//! low-pass just below its Nyquist frequency is applied; practically only the products with samples that
//! exist are formed. The work is arranged as `factor` filters of 32 taps that each run over
//! contiguous samples at the slower rate, so the inner loop is the same both ways, and no
//! horizontal sums are needed.
//!
//! Samples are `f32` in the scale of `i16`, unclipped: sums wider than 16 bit pass through.

use std::sync::OnceLock;

use crate::units::SampleRate;

/// A streaming converter for one direction. Delays by half its filter: 2 ms from or to 8 kHz, 1 ms
/// between 16 and 48 kHz. Keeps the end of the last frame only; the filters are the process's.
#[derive(Debug)]
pub struct Resampler {
    direction: Direction,
    from: SampleRate,
    to: SampleRate,
    /// The filter of each phase, newest sample's weight last.
    phases: &'static [[f32; TAPS]],
    /// The last samples, at the slower rate, of each stream: one when converting up, one per
    /// phase when converting down.
    histories: Box<[[f32; HISTORY]]>,
    filter: Filter,
}

#[derive(Debug, Clone, Copy)]
enum Direction {
    Up,
    Down,
}

impl Resampler {
    /// Allocates everything it will need and picks the fastest filter the processor has.
    ///
    /// Made for different rates; with equal ones it copies.
    #[must_use]
    pub fn new(from: SampleRate, to: SampleRate) -> Self {
        Self::with_filter(from, to, Filter::detect())
    }

    fn with_filter(from: SampleRate, to: SampleRate, filter: Filter) -> Self {
        let direction = if to > from {
            Direction::Up
        } else {
            Direction::Down
        };
        let phases = shared_phases(from, to, direction);
        let streams = match direction {
            Direction::Up => 1,
            Direction::Down => phases.len(),
        };
        Self {
            direction,
            from,
            to,
            phases,
            histories: vec![[0.0; HISTORY]; streams].into(),
            filter,
        }
    }

    /// Converts exactly one 20 ms frame. Slices of another length are left alone; that is a
    /// mistake of the caller's.
    pub fn process(&mut self, input: &[f32], output: &mut [f32]) {
        let fits =
            input.len() == self.from.frame_samples() && output.len() == self.to.frame_samples();
        debug_assert!(fits, "not one 20 ms frame");
        if !fits {
            return;
        }
        let mut room = [0.0; HISTORY + SLOWER_FRAME_MAX];
        let slower = self.from.min(self.to).frame_samples();
        let Some(stream) = room
            .get_mut(..HISTORY + slower)
            .filter(|_| self.from != self.to)
        else {
            output.copy_from_slice(input);
            return;
        };
        match self.direction {
            Direction::Up => self.process_up(input, stream, output),
            Direction::Down => self.process_down(input, stream, output),
        }
    }

    /// Forgets the signal.
    pub fn reset(&mut self) {
        self.histories.fill([0.0; HISTORY]);
    }

    fn process_up(&mut self, input: &[f32], stream: &mut [f32], output: &mut [f32]) {
        let factor = self.phases.len();
        let mut room = [0.0; SLOWER_FRAME_MAX];
        let phase_output = &mut room[..stream.len() - HISTORY];
        for history in &mut self.histories {
            join(history, input.iter(), stream);
            for (phase, taps) in self.phases.iter().enumerate() {
                phase_output.fill(0.0);
                self.filter.accumulate(stream, taps, phase_output);
                let places = output.iter_mut().skip(phase).step_by(factor);
                places.zip(&*phase_output).for_each(|(y, &x)| *y = x);
            }
        }
    }

    fn process_down(&mut self, input: &[f32], stream: &mut [f32], output: &mut [f32]) {
        let factor = self.phases.len();
        output.fill(0.0);
        for (phase, (history, taps)) in self.histories.iter_mut().zip(self.phases).enumerate() {
            join(history, input.iter().skip(phase).step_by(factor), stream);
            self.filter.accumulate(stream, taps, output);
        }
    }
}

/// Puts what is kept of the frame before ahead of this frame's samples, and keeps the end of these.
fn join<'a>(
    history: &mut [f32; HISTORY],
    samples: impl Iterator<Item = &'a f32>,
    stream: &mut [f32],
) {
    let (past, present) = stream.split_at_mut(HISTORY);
    past.copy_from_slice(history);
    present.iter_mut().zip(samples).for_each(|(s, &x)| *s = x);
    history.copy_from_slice(&stream[stream.len() - HISTORY..]);
}

/// The inner loop, in the instructions of the processor at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filter {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2Fma,
}

impl Filter {
    fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return Self::Avx2Fma;
        }
        Self::Portable
    }

    /// Adds to each `output[n]` the product of `taps` with the window of `stream` that starts at
    /// n; `stream` is [`HISTORY`] longer than `output`.
    fn accumulate(self, stream: &[f32], taps: &[f32; TAPS], output: &mut [f32]) {
        match self {
            Self::Portable => accumulate::<false>(stream, taps, output),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `detect` gives this variant only where the processor has both features.
            Self::Avx2Fma => unsafe { accumulate_avx2_fma(stream, taps, output) },
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn accumulate_avx2_fma(stream: &[f32], taps: &[f32; TAPS], output: &mut [f32]) {
    accumulate::<true>(stream, taps, output);
}

/// Written so that the compiler keeps a block of sums in vector registers through all taps.
/// `FUSED` only where the processor has the instruction; elsewhere it is a slow library call.
#[inline(always)]
fn accumulate<const FUSED: bool>(stream: &[f32], taps: &[f32; TAPS], output: &mut [f32]) {
    let blocks = output.as_chunks_mut::<BLOCK>().0.iter_mut();
    for (sums, window) in blocks.zip(stream.windows(BLOCK + HISTORY).step_by(BLOCK)) {
        let mut block = *sums;
        for (samples, &tap) in window.windows(BLOCK).zip(taps) {
            for (sum, &sample) in block.iter_mut().zip(samples) {
                *sum = if FUSED {
                    sample.mul_add(tap, *sum)
                } else {
                    *sum + sample * tap
                };
            }
        }
        *sums = block;
    }
}

/// The filters of one conversion, computed at its first use and kept: they are the same for all.
fn shared_phases(from: SampleRate, to: SampleRate, direction: Direction) -> &'static [[f32; TAPS]] {
    type Phases = OnceLock<Box<[[f32; TAPS]]>>;
    static SHARED: [[Phases; RATES]; RATES] = [const { [const { OnceLock::new() }; RATES] }; RATES];
    SHARED[from.index()][to.index()].get_or_init(|| {
        let factor = from.max(to).frame_samples() / from.min(to).frame_samples();
        phases(direction, factor)
    })
}

/// The prototype low-pass cut into phases.
fn phases(direction: Direction, factor: usize) -> Box<[[f32; TAPS]]> {
    let prototype = prototype(factor);
    let gain = match direction {
        // All phases together see each input sample `factor` times as often as it is there.
        Direction::Up => factor as f64,
        Direction::Down => 1.0,
    };
    (0..factor)
        .map(|phase| {
            let first = match direction {
                Direction::Up => phase,
                Direction::Down => factor - 1 - phase,
            };
            let mut taps = [0.0; TAPS];
            let ours = prototype.iter().skip(first).step_by(factor);
            taps.iter_mut()
                .rev()
                .zip(ours)
                .for_each(|(tap, &h)| *tap = (h * gain) as f32);
            taps
        })
        .collect()
}

/// A Kaiser-windowed sinc at the faster rate. Every phase has the same sum, or a constant would come
/// out with images.
fn prototype(factor: usize) -> Vec<f64> {
    let length = TAPS * factor;
    let middle = (length - 1) as f64 / 2.0;
    let mut taps: Vec<f64> = (0..length)
        .map(|n| {
            let position = n as f64 - middle;
            sinc(CUTOFF * position / factor as f64) * kaiser(position / middle)
        })
        .collect();
    for phase in 0..factor {
        let sum: f64 = taps.iter().skip(phase).step_by(factor).sum();
        let scale = 1.0 / (sum * factor as f64);
        taps.iter_mut()
            .skip(phase)
            .step_by(factor)
            .for_each(|tap| *tap *= scale);
    }
    taps
}

fn sinc(x: f64) -> f64 {
    let angle = std::f64::consts::PI * x;
    if angle == 0.0 {
        1.0
    } else {
        angle.sin() / angle
    }
}

/// The Kaiser window, not normalised, over -1 to 1.
fn kaiser(x: f64) -> f64 {
    bessel_i0(KAISER_BETA * (1.0 - x * x).max(0.0).sqrt())
}

/// The modified Bessel function of order 0, by its power series.
fn bessel_i0(x: f64) -> f64 {
    let mut term = 1.0;
    let mut sum = 1.0;
    for k in 1..BESSEL_TERMS {
        let ratio = x / (2.0 * f64::from(k));
        term *= ratio * ratio;
        sum += term;
    }
    sum
}

/// Taps per phase.
const TAPS: usize = 32;

/// Samples of the past that the first output of a frame needs.
const HISTORY: usize = TAPS - 1;

const RATES: usize = SampleRate::ALL.len();

/// Of two different rates, the slower one has at most this many samples in a frame.
const SLOWER_FRAME_MAX: usize = SampleRate::Hz16000.frame_samples();

/// Outputs formed at once: four AVX registers. Divides all frame lengths.
const BLOCK: usize = 32;

/// Middle of the transition, of the slower rate's Nyquist frequency: so that at 16 kHz what ends at
/// 7 kHz loses less than 0.1 dB, and its image at 9 kHz is 60 dB down.
const CUTOFF: f64 = 0.9875;

/// 70 dB of stop band, and a transition of 1.1 kHz at 8 kHz (2.3 kHz at 16 kHz).
const KAISER_BETA: f64 = 7.0;

/// Enough for full `f64` precision up to [`KAISER_BETA`].
const BESSEL_TERMS: u32 = 30;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::SampleRate::{Hz8000, Hz16000, Hz48000};

    const PAIRS: [(SampleRate, SampleRate); 6] = [
        (Hz8000, Hz16000),
        (Hz16000, Hz8000),
        (Hz8000, Hz48000),
        (Hz48000, Hz8000),
        (Hz16000, Hz48000),
        (Hz48000, Hz16000),
    ];

    const FRAMES: usize = 25;

    fn convert(mut resampler: Resampler, input: &[f32]) -> Vec<f32> {
        let frame = resampler.to.frame_samples();
        let mut output = vec![0.0; input.len() / resampler.from.frame_samples() * frame];
        for (input, output) in input
            .chunks(resampler.from.frame_samples())
            .zip(output.chunks_mut(frame))
        {
            resampler.process(input, output);
        }
        output
    }

    fn tone(rate: SampleRate, hz: f64) -> Vec<f32> {
        (0..FRAMES * rate.frame_samples())
            .map(|n| {
                let angle = std::f64::consts::TAU * hz * n as f64 / f64::from(rate.hz());
                (angle.sin() * 10_000.0) as f32
            })
            .collect()
    }

    fn noise(samples: usize) -> Vec<f32> {
        let mut state = 1_u32;
        (0..samples)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 16) as f32 - 32_768.0
            })
            .collect()
    }

    /// The level of the component at `hz`, and of everything else, in dB of the tone sent in.
    fn levels(output: &[f32], rate: SampleRate, hz: f64) -> (f64, f64) {
        // Whole periods of all test tones, after the filter has filled.
        let steady: Vec<f64> = output
            .iter()
            .skip(5 * rate.frame_samples())
            .map(|&x| f64::from(x))
            .collect();
        let (mut sine, mut cosine) = (0.0, 0.0);
        for (n, &x) in steady.iter().enumerate() {
            let angle = std::f64::consts::TAU * hz * n as f64 / f64::from(rate.hz());
            sine += x * angle.sin();
            cosine += x * angle.cos();
        }
        let samples = steady.len() as f64;
        let power = (sine.powi(2) + cosine.powi(2)) * 2.0 / samples.powi(2);
        let total = steady.iter().map(|x| x * x).sum::<f64>() / samples;
        let db = |power: f64| 10.0 * (power / 5e7).max(1e-20).log10();
        (db(power), db(total - power))
    }

    #[test]
    fn the_pass_band_is_flat_and_without_images() {
        for (from, to) in PAIRS {
            let highest = if from.min(to) == Hz8000 {
                3_400.0
            } else {
                7_000.0
            };
            for hz in [
                50.0, 300.0, 1_000.0, 2_000.0, 3_000.0, 3_300.0, 3_400.0, 6_500.0, 7_000.0,
            ] {
                if hz > highest {
                    continue;
                }
                let output = convert(Resampler::new(from, to), &tone(from, hz));
                let (level, rest) = levels(&output, to, hz);
                assert!(level.abs() < 0.1, "{from:?} to {to:?}, {hz} Hz: {level} dB");
                assert!(
                    rest < -60.0,
                    "{from:?} to {to:?}, {hz} Hz: images {rest} dB"
                );
            }
        }
    }

    #[test]
    fn what_the_slower_rate_cannot_hold_is_kept_out_of_it() {
        for (from, to) in PAIRS.into_iter().filter(|(from, to)| from > to) {
            let edge = if to == Hz8000 { 4_600.0 } else { 9_000.0 };
            for hz in [
                4_600.0, 5_000.0, 7_900.0, 9_000.0, 12_000.0, 15_000.0, 23_000.0,
            ] {
                if hz < edge || hz > f64::from(from.hz()) / 2.0 {
                    continue;
                }
                let output = convert(Resampler::new(from, to), &tone(from, hz));
                let (level, rest) = levels(&output, to, hz);
                assert!(
                    level.max(rest) < -60.0,
                    "{from:?} to {to:?}, {hz} Hz: {level} {rest}"
                );
            }
        }
    }

    /// What the module's head says happens conceptually, in one go and in double precision.
    fn by_definition(from: SampleRate, to: SampleRate, input: &[f32]) -> Vec<f64> {
        let factor = from.max(to).frame_samples() / from.min(to).frame_samples();
        let (spread, keep) = if to > from { (factor, 1) } else { (1, factor) };
        let prototype = prototype(factor);
        let samples = input.len() * spread / keep;
        (0..samples)
            .map(|n| {
                let newest = n * keep + keep - 1;
                let terms = prototype.iter().enumerate().filter_map(|(k, h)| {
                    let at = newest.checked_sub(k)?;
                    at.is_multiple_of(spread)
                        .then(|| h * f64::from(input[at / spread]))
                });
                terms.sum::<f64>() * spread as f64
            })
            .collect()
    }

    #[test]
    fn frame_by_frame_equals_one_go_in_either_instruction_set() {
        for (from, to) in PAIRS {
            let input = noise(4 * from.frame_samples());
            let expected = by_definition(from, to, &input);
            for filter in [Filter::Portable, Filter::detect()] {
                let output = convert(Resampler::with_filter(from, to, filter), &input);
                assert_eq!(output.len(), expected.len());
                for (n, (y, e)) in output.iter().zip(&expected).enumerate() {
                    let difference = (f64::from(*y) - e).abs() / 32_768.0;
                    assert!(
                        difference < 1e-5,
                        "{from:?} to {to:?} {filter:?} {n}: {y} {e}"
                    );
                }
            }
        }
    }

    #[test]
    fn sums_wider_than_16_bit_pass_unclipped() {
        for (from, to) in PAIRS {
            let output = convert(
                Resampler::new(from, to),
                &vec![200_000.0; FRAMES * from.frame_samples()],
            );
            let steady = output.iter().skip(5 * to.frame_samples());
            assert!(
                steady.into_iter().all(|y| (y - 200_000.0).abs() < 1.0),
                "{from:?} to {to:?}"
            );
        }
    }

    #[test]
    fn a_reset_forgets_the_signal() {
        for (from, to) in PAIRS {
            let mut resampler = Resampler::new(from, to);
            let mut output = vec![1.0; to.frame_samples()];
            resampler.process(&noise(from.frame_samples()), &mut output);
            resampler.reset();
            resampler.process(&vec![0.0; from.frame_samples()], &mut output);
            assert!(output.iter().all(|&y| y == 0.0));
        }
    }
}
