//! Comfort noise (RFC 3389): the level is honoured, the spectrum is not. Quiet white noise tells a
//! caller that the line is alive, which is all that is asked of it.

use crate::units::Decibels;

/// Makes noise.
#[derive(Debug)]
pub(super) struct ComfortNoise {
    /// Peak of the uniform noise; `None`: the sender did not announce silence.
    peak: Option<f32>,
    random: u32,
}

impl ComfortNoise {
    pub(super) const fn new() -> Self {
        Self {
            peak: None,
            random: 0x2545_F491,
        }
    }

    /// A comfort noise payload: the first byte is the level below full scale (section 3.1).
    pub(super) fn announce(&mut self, payload: &[u8]) {
        let below = payload
            .first()
            .map_or(LEVEL_DEFAULT, |level| level & 0x7F)
            .max(LEVEL_LOUDEST);
        self.peak = Some(peak_of(Decibels(-f32::from(below))));
    }

    /// How loud it is, where it was announced.
    pub(super) fn level(&self) -> Option<Decibels> {
        let rms = self.peak? / 3.0_f32.sqrt();
        Some(Decibels::from_amplitude(rms / 32_768.0))
    }

    /// Audio comes again.
    pub(super) const fn end(&mut self) {
        self.peak = None;
    }

    pub(super) const fn is_on(&self) -> bool {
        self.peak.is_some()
    }

    pub(super) fn fill(&mut self, pcm: &mut [i16]) {
        self.make(self.peak.unwrap_or(0.0), pcm);
    }

    /// Noise that nobody announced, but never loud.
    pub(super) fn fill_at(&mut self, level: Decibels, pcm: &mut [i16]) {
        let level = level.0.min(-f32::from(LEVEL_LOUDEST));
        self.make(peak_of(Decibels(level)), pcm);
    }

    fn make(&mut self, peak: f32, pcm: &mut [i16]) {
        for sample in pcm {
            self.random = self
                .random
                .wrapping_mul(1_664_525)
                .wrapping_add(1_013_904_223);
            let unit = (self.random >> 8) as f32 / 8_388_608.0 - 1.0;
            *sample = (unit * peak).round() as i16;
        }
    }
}

/// Of uniform noise.
fn peak_of(level: Decibels) -> f32 {
    32_768.0 * level.as_amplitude() * 3.0_f32.sqrt()
}

/// dB below full scale where the payload is empty.
const LEVEL_DEFAULT: u8 = 70;
/// Nobody's comfort is louder.
const LEVEL_LOUDEST: u8 = 45;

#[cfg(test)]
mod tests {
    use super::*;

    fn rms_db(payload: &[u8]) -> f32 {
        let mut noise = ComfortNoise::new();
        noise.announce(payload);
        let mut pcm = [0_i16; 8000];
        noise.fill(&mut pcm);
        let power = pcm.iter().map(|x| f32::from(*x).powi(2)).sum::<f32>() / 8000.0;
        20.0 * (power.sqrt() / 32_768.0).log10()
    }

    #[test]
    fn the_level_is_the_announced_one_but_never_loud() {
        assert!((rms_db(&[55, 1, 2]) + 55.0).abs() < 1.0);
        assert!((rms_db(&[0]) + 45.0).abs() < 1.0);
        assert!((rms_db(&[]) + 70.0).abs() < 2.0);
    }
}
