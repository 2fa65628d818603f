//! Automatic gain: brings every talker to about the same loudness. It moves slowly, and only while
//! somebody talks, so that it never pumps noise; who is near the target is left alone to the bit.

use crate::media::voice::Voice;
use crate::units::Decibels;

/// One leg's gain.
#[derive(Debug, Clone, Default)]
pub(super) struct AutomaticGain {
    /// Mean power of its speech, relative to full scale; fading.
    power: f32,
    /// Frames of speech heard, up to where the mean begins to fade.
    frames: u16,
    decibels: f32,
    /// On its way to the target.
    moving: bool,
}

impl AutomaticGain {
    /// Takes a frame into account; to be left out where nobody talks.
    pub(super) fn hear(&mut self, voice: Voice) {
        if voice.level.0 < voice.noise_floor.0 + ABOVE_NOISE {
            return;
        }
        self.frames = (self.frames + 1).min(FRAMES_REMEMBERED);
        let power = 10.0_f32.powf(voice.level.0 / 10.0);
        self.power += (power - self.power) / f32::from(self.frames);
        if self.frames >= FRAMES_TO_JUDGE {
            self.approach(self.wanted(voice.noise_floor));
        }
    }

    /// The gain now; exactly 0 dB where nothing is to be done.
    pub(super) const fn gain(&self) -> Decibels {
        Decibels(self.decibels)
    }

    fn wanted(&self, noise_floor: Decibels) -> f32 {
        let level = 10.0 * self.power.max(1e-9).log10();
        let noise_room = (NOISE_MOST - noise_floor.0).clamp(0.0, GAIN_MOST);
        (TARGET - level).clamp(GAIN_LEAST, noise_room)
    }

    fn approach(&mut self, wanted: f32) {
        let wanted = if wanted.abs() < NEAR { 0.0 } else { wanted };
        let distance = wanted - self.decibels;
        self.moving = distance.abs() > if self.moving { 0.0 } else { TOLERANCE };
        if self.moving {
            self.decibels += distance.clamp(-FALL, RISE);
        }
    }
}

/// Level of speech that is aimed at, dBFS.
const TARGET: f32 = -22.0;
const GAIN_LEAST: f32 = -12.0;
const GAIN_MOST: f32 = 20.0;
/// A line's noise is not raised above this, dBFS.
const NOISE_MOST: f32 = -45.0;
/// dB by which a frame is speech rather than the pause after it.
const ABOVE_NOISE: f32 = 6.0;
/// dB off the target that are left alone, and that are not worth a gain of their own.
const TOLERANCE: f32 = 4.0;
const NEAR: f32 = 1.0;
/// dB per frame of speech: 4 dB/s up, 8 dB/s down.
const RISE: f32 = 0.08;
const FALL: f32 = 0.16;
/// A second of speech.
const FRAMES_TO_JUDGE: u16 = 50;
/// Five seconds.
const FRAMES_REMEMBERED: u16 = 250;

#[cfg(test)]
mod tests {
    use super::*;

    fn talk(gain: &mut AutomaticGain, level: f32, floor: f32, frames: usize) -> f32 {
        for _ in 0..frames {
            gain.hear(Voice {
                level: Decibels(level),
                active: true,
                noise_floor: Decibels(floor),
            });
        }
        level + gain.gain().0
    }

    #[test]
    fn loud_and_quiet_talkers_come_within_six_decibels() {
        let quiet = talk(&mut AutomaticGain::default(), -30.0, -70.0, 500);
        let loud = talk(&mut AutomaticGain::default(), -6.0, -70.0, 500);
        assert!((quiet - loud).abs() < 6.0, "{quiet} and {loud} dBFS");
        assert!((quiet - TARGET).abs() < 0.1);
    }

    #[test]
    fn who_is_near_the_target_is_not_touched() {
        for level in [-25.5, -22.0, -18.5] {
            let mut gain = AutomaticGain::default();
            talk(&mut gain, level, -70.0, 1_000);
            assert_eq!(gain.gain(), Decibels::IDENTITY);
        }
    }

    #[test]
    fn it_never_moves_fast_nor_in_pauses() {
        let mut gain = AutomaticGain::default();
        talk(&mut gain, -40.0, -70.0, 100);
        let mut before = gain.gain().0;
        for level in [-40.0, -5.0, -60.0, -30.0].repeat(200) {
            talk(&mut gain, level, -70.0, 1);
            assert!((gain.gain().0 - before).abs() <= FALL + 0.001);
            before = gain.gain().0;
        }
        talk(&mut gain, -68.0, -70.0, 500);
        assert_eq!(gain.gain().0, before);
    }

    #[test]
    fn noise_is_not_raised_above_its_limit() {
        let mut gain = AutomaticGain::default();
        talk(&mut gain, -40.0, -50.0, 2_000);
        assert!((gain.gain().0 - 5.0).abs() < 0.1);
    }

    #[test]
    fn the_limits_hold() {
        let mut gain = AutomaticGain::default();
        talk(&mut gain, -55.0, -75.0, 3_000);
        assert!((gain.gain().0 - GAIN_MOST).abs() < 0.1);
        talk(&mut gain, -1.0, -75.0, 3_000);
        assert!((gain.gain().0 - GAIN_LEAST).abs() < 0.1);
    }
}
