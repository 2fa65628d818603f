//! A known tone out, and how much of it is in what comes back.

use std::f64::consts::TAU;

use crate::units::{Decibels, SampleRate};

/// A sine that runs on from frame to frame.
#[derive(Debug, Clone)]
pub struct Tone {
    hz: f64,
    amplitude: f64,
    sample: u64,
}

impl Tone {
    /// `hz`, at `level` dBFS (RMS of a full-scale sine is -3 dBFS).
    #[must_use]
    pub fn new(hz: f64, level: Decibels) -> Self {
        let amplitude = f64::from(level.as_amplitude()) * std::f64::consts::SQRT_2 * 32_767.0;
        Self {
            hz,
            amplitude: amplitude.min(32_767.0),
            sample: 0,
        }
    }

    /// Fills one frame, or silence where it is `off`; the phase runs on.
    pub fn fill(&mut self, rate: SampleRate, off: bool, frame: &mut [i16]) {
        for sample in frame {
            let phase = self.sample as f64 * self.hz / f64::from(rate.hz());
            let value = self.amplitude * (TAU * phase.fract()).sin();
            *sample = if off { 0 } else { value.round() as i16 };
            self.sample += 1;
        }
    }
}

/// The level of one frequency in a block, dBFS (RMS), by Goertzel's recurrence.
#[must_use]
pub fn level_of(hz: f64, rate: SampleRate, block: &[i16]) -> Decibels {
    if block.is_empty() {
        return Decibels(-127.0);
    }
    let coefficient = 2.0 * (TAU * hz / f64::from(rate.hz())).cos();
    let (mut last, mut before) = (0.0_f64, 0.0_f64);
    for sample in block {
        let next = f64::from(*sample) + coefficient * last - before;
        before = last;
        last = next;
    }
    let power = last * last + before * before - coefficient * last * before;
    let amplitude = 2.0 * power.max(0.0).sqrt() / block.len() as f64;
    Decibels::from_amplitude((amplitude / std::f64::consts::SQRT_2 / 32_768.0) as f32)
}

/// The level of a whole block, dBFS (RMS).
#[must_use]
pub fn level(block: &[i16]) -> Decibels {
    let energy: f64 = block.iter().map(|&sample| f64::from(sample).powi(2)).sum();
    let rms = (energy / block.len().max(1) as f64).sqrt() / 32_768.0;
    Decibels::from_amplitude(rms as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tone_is_measured_at_its_own_level_and_only_at_its_own_frequency() {
        for rate in SampleRate::ALL {
            let mut tone = Tone::new(1_000.0, Decibels(-20.0));
            let mut block = vec![0; rate.frame_samples() * 10];
            tone.fill(rate, false, &mut block);
            assert!((level_of(1_000.0, rate, &block).0 + 20.0).abs() < 0.1);
            assert!((level(&block).0 + 20.0).abs() < 0.1);
            assert!(level_of(1_500.0, rate, &block).0 < -60.0);
        }
    }
}
