//! Comfort noise: where nobody is heard, a quiet room is, so that nobody takes the line for dead.
//! It comes within a tenth of a second and goes while the first word fades in.

use std::f32::consts::TAU;
use std::sync::OnceLock;

use crate::units::SampleRate;

/// One bridge's comfort noise. A listener's own mix is as far into it as he has been alone.
pub(super) struct Noise {
    rooms: &'static [Box<[i16]>; SampleRate::ALL.len()],
    frame: usize,
    shared: [Fade; SampleRate::ALL.len()],
}

/// How much of it is heard, from 0 to [`Comfort::FULL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::media) struct Comfort(u8);

/// How much at the beginning and at the end of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Fade {
    pub(super) from: Comfort,
    pub(super) to: Comfort,
}

impl Comfort {
    /// Frames until all of it is there.
    const FULL: u8 = 5;

    /// The way to the next frame, where it is `wanted` or not.
    pub(super) const fn fade(self, wanted: bool) -> Fade {
        let more = self.0 + 1;
        let to = match (wanted, more > Self::FULL) {
            (false, _) => 0,
            (true, true) => Self::FULL,
            (true, false) => more,
        };
        Fade {
            from: self,
            to: Self(to),
        }
    }
}

impl Fade {
    /// A sample of the noise as it is heard.
    fn of(self, sample: i16, position: usize, length: usize) -> i32 {
        let (from, to) = (i32::from(self.from.0), i32::from(self.to.0));
        let (position, length) = (position as i32 + 1, length as i32);
        let weight = from * (length - position) + to * position;
        i32::from(sample) * weight / (length * i32::from(Comfort::FULL))
    }
}

impl Noise {
    /// The first one makes what all take from.
    pub(super) fn new() -> Self {
        static ROOMS: OnceLock<[Box<[i16]>; SampleRate::ALL.len()]> = OnceLock::new();
        Self {
            rooms: ROOMS.get_or_init(|| SampleRate::ALL.map(room)),
            frame: 0,
            shared: [Fade::default(); SampleRate::ALL.len()],
        }
    }

    pub(super) const fn next_frame(&mut self) {
        self.frame = (self.frame + 1) % FRAMES;
    }

    /// Nobody hears it.
    pub(super) fn rest(&mut self) {
        self.shared = [Fade::default(); SampleRate::ALL.len()];
    }

    /// Adds what everybody hears of it, where it is `wanted`, to what there is at this rate.
    pub(super) fn add(&mut self, rate: SampleRate, wanted: bool, total: &mut [i32]) {
        let fade = self.shared[rate.index()].to.fade(wanted);
        self.shared[rate.index()] = fade;
        self.change(rate, Fade::default(), fade, total);
    }

    /// In a copy of what everybody hears, puts `fade` in the place of the shared one.
    pub(super) fn replace(&self, rate: SampleRate, fade: Fade, mix: &mut [i32]) {
        self.change(rate, self.shared(rate), fade, mix);
    }

    /// What everybody hears of it in this frame.
    pub(super) const fn shared(&self, rate: SampleRate) -> Fade {
        self.shared[rate.index()]
    }

    fn change(&self, rate: SampleRate, old: Fade, new: Fade, mix: &mut [i32]) {
        if old == new {
            return;
        }
        let length = rate.frame_samples();
        let room = self.rooms[rate.index()].iter().skip(self.frame * length);
        for (position, (place, sample)) in mix.iter_mut().zip(room).enumerate() {
            *place += new.of(*sample, position, length) - old.of(*sample, position, length);
        }
    }
}

/// A room's sound: strongest below 400 Hz, 6 dB less per octave above, nothing below 80 Hz. Its end
/// leads into its beginning.
fn room(rate: SampleRate) -> Box<[i16]> {
    let pole = |hz: f32| 1.0 - (-TAU * hz / rate.hz() as f32).exp();
    let (upper, lower) = (pole(400.0), pole(80.0));
    let samples = FRAMES * rate.frame_samples();
    let (mut above, mut below) = (0.0_f32, 0.0_f32);
    let mut pass = || {
        let mut state = SEED;
        let mut filtered = |_| {
            state = xorshift(state);
            let white = (state >> 8) as f32 / 8_388_608.0 - 1.0;
            above += upper * (white - above);
            below += lower * (above - below);
            above - below
        };
        (0..samples).map(&mut filtered).collect::<Vec<f32>>()
    };
    pass();
    let sound = pass();
    let power = sound.iter().map(|x| x * x).sum::<f32>() / samples as f32;
    let factor = RMS / power.sqrt();
    sound.iter().map(|x| (x * factor).round() as i16).collect()
}

/// xorshift32 (Marsaglia).
const fn xorshift(mut state: u32) -> u32 {
    state ^= state << 13;
    state ^= state >> 17;
    state ^ state << 5
}

const SEED: u32 = 0x9E37_79B9;
/// Two seconds, then it begins again.
const FRAMES: usize = 100;
/// -64 dBFS.
const RMS: f32 = 20.7;

#[cfg(test)]
mod tests {
    use super::*;

    fn level(pcm: &[i16]) -> f64 {
        let energy: f64 = pcm.iter().map(|x| f64::from(*x).powi(2)).sum();
        10.0 * (energy / pcm.len() as f64 / 32_768.0_f64.powi(2)).log10()
    }

    /// Mean power of the differences over 125 us against the power: 2 for white noise at 8 kHz.
    fn hiss(pcm: &[i16], rate: SampleRate) -> f64 {
        let lag = rate.frame_samples() / 160;
        let power = |x: f64| x * x;
        let differences: f64 = pcm
            .iter()
            .zip(&pcm[lag..])
            .map(|(a, b)| power(f64::from(*b) - f64::from(*a)))
            .sum();
        differences / pcm.iter().map(|x| power(f64::from(*x))).sum::<f64>()
    }

    #[test]
    fn it_is_quiet_coloured_and_goes_round_without_a_step() {
        for rate in SampleRate::ALL {
            let room = room(rate);
            assert!((level(&room) + 64.0).abs() < 0.2, "{}", level(&room));
            assert!(hiss(&room, rate) < 0.8, "{}", hiss(&room, rate));
            let steps = room.windows(2).map(|pair| pair[0].abs_diff(pair[1]));
            let seam = room[0].abs_diff(room[room.len() - 1]);
            assert!(seam <= steps.max().unwrap());
        }
    }

    #[test]
    fn it_comes_slowly_and_goes_in_one_frame() {
        let mut noise = Noise::new();
        let levels: Vec<u8> = [true, true, true, true, true, true, false, false, true]
            .into_iter()
            .map(|wanted| {
                noise.add(SampleRate::Hz8000, wanted, &mut [0; 160]);
                noise.shared(SampleRate::Hz8000).to.0
            })
            .collect();
        assert_eq!(levels, [1, 2, 3, 4, 5, 5, 0, 0, 1]);
    }

    #[test]
    fn a_listeners_own_share_takes_the_place_of_the_shared_one() {
        let mut noise = Noise::new();
        let rate = SampleRate::Hz16000;
        let (mut mix, mut alone) = (vec![1_000; 320], vec![1_000; 320]);
        noise.add(rate, true, &mut mix);
        let full = Fade {
            from: Comfort(5),
            to: Comfort(5),
        };
        noise.replace(rate, full, &mut mix);
        noise.change(rate, Fade::default(), full, &mut alone);
        assert_eq!(mix, alone);
    }
}
