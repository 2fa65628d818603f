//! Sample rate conversion between 8, 16 and 48 kHz, one 20 ms frame at a time.
//!
//! A polyphase FIR: conceptually, zeros are put between the samples of the slower rate and a
//! low-pass at its Nyquist frequency is applied; practically only the products with samples that
//! exist are formed. The work is arranged as `factor` filters of [`TAPS`] taps that each run over
//! contiguous samples at the slower rate, so the inner loop is the same both ways, and no
//! horizontal sums are needed.
//!
//! Samples are `f32` in the scale of `i16`, unclipped: sums wider than 16 bit pass through.

use crate::units::SampleRate;

/// A streaming converter for one direction. Delays by half its filter: 2 ms from or to 8 kHz, 1 ms
/// between 16 and 48 kHz.
#[derive(Debug)]
pub struct Resampler {
    direction: Direction,
    from: SampleRate,
    to: SampleRate,
    /// The filter of each phase, newest sample's weight last.
    phases: Box<[[f32; TAPS]]>,
    /// Samples at the slower rate, each stream preceded by the last of the frame before. One
    /// stream when converting up, one per phase when converting down.
    streams: Box<[Box<[f32]>]>,
    /// What one phase gives for one frame, at the slower rate.
    phase_output: Box<[f32]>,
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
    /// Equal rates give a converter that only delays.
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
        let slower = from.min(to).frame_samples();
        let factor = from.max(to).frame_samples() / slower;
        let streams = match direction {
            Direction::Up => 1,
            Direction::Down => factor,
        };
        Self {
            direction,
            from,
            to,
            phases: phases(direction, factor),
            streams: vec![vec![0.0; HISTORY + slower].into_boxed_slice(); streams].into(),
            phase_output: vec![0.0; slower].into(),
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
        match self.direction {
            Direction::Up => self.process_up(input, output),
            Direction::Down => self.process_down(input, output),
        }
        self.keep_history();
    }

    /// Forgets the signal.
    pub fn reset(&mut self) {
        self.streams.iter_mut().for_each(|stream| stream.fill(0.0));
    }

    fn process_up(&mut self, input: &[f32], output: &mut [f32]) {
        let factor = self.phases.len();
        for stream in &mut self.streams {
            stream
                .iter_mut()
                .skip(HISTORY)
                .zip(input)
                .for_each(|(s, &x)| *s = x);
            for (phase, taps) in self.phases.iter().enumerate() {
                self.phase_output.fill(0.0);
                self.filter.accumulate(stream, taps, &mut self.phase_output);
                let places = output.iter_mut().skip(phase).step_by(factor);
                places.zip(&self.phase_output).for_each(|(y, &x)| *y = x);
            }
        }
    }

    fn process_down(&mut self, input: &[f32], output: &mut [f32]) {
        let factor = self.phases.len();
        output.fill(0.0);
        for (phase, (stream, taps)) in self.streams.iter_mut().zip(&self.phases).enumerate() {
            let samples = input.iter().skip(phase).step_by(factor);
            stream
                .iter_mut()
                .skip(HISTORY)
                .zip(samples)
                .for_each(|(s, &x)| *s = x);
            self.filter.accumulate(stream, taps, output);
        }
    }

    fn keep_history(&mut self) {
        for stream in &mut self.streams {
            let end = stream.len() - HISTORY;
            stream.copy_within(end.., 0);
        }
    }
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

/// A Kaiser-windowed sinc at the faster rate, cut off at the slower rate's Nyquist frequency. Every
/// phase has the same sum, or a constant would come out with images.
fn prototype(factor: usize) -> Vec<f64> {
    let length = TAPS * factor;
    let middle = (length - 1) as f64 / 2.0;
    let mut taps: Vec<f64> = (0..length)
        .map(|n| {
            let position = n as f64 - middle;
            sinc(position / factor as f64) * kaiser(position / middle)
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

/// Outputs formed at once: four AVX registers. Divides all frame lengths.
const BLOCK: usize = 32;

/// 70 dB of stop band, and a transition of 1.1 kHz around 4 kHz (2.3 kHz around 8 kHz).
const KAISER_BETA: f64 = 7.0;

/// Enough for full `f64` precision up to [`KAISER_BETA`].
const BESSEL_TERMS: u32 = 30;
