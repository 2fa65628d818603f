//! The sums of one bridge, wide enough that nothing is lost: one per sample rate in use. Voices
//! are added at their own rate, each sum is converted once to each other rate in use, and a
//! listener's own voice is subtracted at its own rate, exactly.
//!
//! A few dozen sounds of 16 bit never fill 32 bit, so nothing wraps; saying so where it counts
//! lets the compiler use vectors in a build with overflow checks.

use crate::media::limiter::whole;
use crate::media::resample::Resampler;
use crate::units::{FRAME_SAMPLES_MAX, SampleRate};

const RATES: usize = SampleRate::ALL.len();

/// The sums of one 20 ms tick of one bridge after the other.
pub(super) struct Sums {
    /// What was added at each rate.
    native: [Wide; RATES],
    /// Everything, at each rate in use.
    total: [Wide; RATES],
    input: Box<[f32; FRAME_SAMPLES_MAX]>,
    output: Box<[f32; FRAME_SAMPLES_MAX]>,
}

/// How a voice, or several, ended in mid-word: the last sample, and how much it was above the one
/// before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Ending {
    sample: i32,
    slope: i32,
}

struct Wide {
    samples: Box<[i32]>,
    silent: bool,
    /// How many sounds were added.
    parts: usize,
}

/// What one bridge keeps from tick to tick: from each rate, a converter to each other one.
pub(super) struct Converters([[Converter; RATES]; RATES]);

/// A resampler that rests while there is nothing to convert.
struct Converter {
    /// `None` between equal rates.
    resampler: Option<Resampler>,
    /// The end of earlier sound is still inside.
    ringing: bool,
}

impl Sums {
    /// All buffers.
    #[must_use]
    pub(super) fn new() -> Self {
        Self {
            native: SampleRate::ALL.map(Wide::new),
            total: SampleRate::ALL.map(Wide::new),
            input: Box::new([0.0; FRAME_SAMPLES_MAX]),
            output: Box::new([0.0; FRAME_SAMPLES_MAX]),
        }
    }

    /// Begins a tick.
    pub(super) fn begin(&mut self) {
        for wide in &mut self.native {
            wide.clear();
        }
    }

    /// Adds a voice at its own rate.
    pub(super) fn add(&mut self, rate: SampleRate, pcm: &[i16]) {
        self.native[rate.index()].add(pcm);
    }

    /// Adds what comes after a voice that is cut off.
    pub(super) fn add_ending(&mut self, rate: SampleRate, ending: Ending) {
        let wide = &mut self.native[rate.index()];
        for (place, sample) in wide.samples.iter_mut().zip(ending.samples(rate)) {
            *place += sample;
        }
        wide.silent = false;
        wide.parts += 1;
    }

    /// Makes the totals of the rates that are in use.
    pub(super) fn spread(&mut self, converters: &mut Converters, in_use: [bool; RATES]) {
        for to in SampleRate::ALL
            .into_iter()
            .filter(|rate| in_use[rate.index()])
        {
            self.total[to.index()].copy_from(&self.native[to.index()]);
        }
        for from in SampleRate::ALL {
            for to in SampleRate::ALL {
                if from == to {
                    continue;
                }
                let converter = &mut converters.0[from.index()][to.index()];
                if in_use[to.index()] {
                    self.convert(from, to, converter);
                } else {
                    converter.rest();
                }
            }
        }
    }

    /// Adds sound that exists at this rate to its total only, after [`Self::spread`].
    pub(super) fn add_to_total(&mut self, rate: SampleRate, pcm: &[i16]) {
        self.total[rate.index()].add(pcm);
    }

    /// Does nobody sound at this rate?
    #[must_use]
    pub(super) fn is_silent(&self, rate: SampleRate) -> bool {
        self.total[rate.index()].silent
    }

    /// Is at most one voice in this tick's sums, and nothing else? Then whoever it is hears nothing.
    #[must_use]
    pub(super) fn is_only(&self, rate: SampleRate) -> bool {
        self.total[rate.index()].parts <= 1
    }

    /// Everything, at a rate that is in use.
    #[must_use]
    pub(super) fn total(&self, rate: SampleRate) -> &[i32] {
        &self.total[rate.index()].samples
    }

    /// The same, for what is no sound of anybody.
    pub(super) fn total_mut(&mut self, rate: SampleRate) -> &mut [i32] {
        &mut self.total[rate.index()].samples
    }

    /// Everything but `own`, and `extra` besides, for one listener.
    pub(super) fn for_listener(
        &self,
        rate: SampleRate,
        own: Option<&[i16]>,
        extra: Option<&[i16]>,
        mix: &mut [i32],
    ) {
        for (out, sample) in mix.iter_mut().zip(self.total(rate)) {
            *out = *sample;
        }
        for (out, sample) in mix.iter_mut().zip(own.unwrap_or_default()) {
            *out = out.wrapping_sub((*sample).into());
        }
        for (out, sample) in mix.iter_mut().zip(extra.unwrap_or_default()) {
            *out = out.wrapping_add((*sample).into());
        }
    }

    fn convert(&mut self, from: SampleRate, to: SampleRate, converter: &mut Converter) {
        let source = &self.native[from.index()];
        let Some(resampler) = &mut converter.resampler else {
            return;
        };
        if source.silent && !converter.ringing {
            return;
        }
        let input = &mut self.input[..from.frame_samples()];
        let output = &mut self.output[..to.frame_samples()];
        for (place, sample) in input.iter_mut().zip(&source.samples) {
            *place = *sample as f32;
        }
        resampler.process(input, output);
        // After one frame of zeros the filter (shorter than a frame) is empty again.
        converter.ringing = !source.silent;
        let total = &mut self.total[to.index()];
        for (place, sample) in total.samples.iter_mut().zip(output) {
            *place = place.wrapping_add(whole(*sample));
        }
        total.silent = false;
        total.parts += 1;
    }
}

impl Ending {
    pub(super) fn of(pcm: &[i16]) -> Self {
        let [before, last] = pcm
            .last_chunk()
            .map_or([0; 2], |pair: &[i16; 2]| pair.map(i32::from));
        Self {
            sample: last,
            slope: last - before,
        }
    }

    pub(super) const fn add(&mut self, other: Self) {
        self.sample += other.sample;
        self.slope += other.slope;
    }

    pub(super) fn is_silence(self) -> bool {
        self == Self::default()
    }

    /// Goes on without a kink and comes to rest within a few ms, as a critically damped spring does.
    pub(super) fn samples(self, rate: SampleRate) -> impl Iterator<Item = i32> {
        let fall = (-1.0 / (REST_SECONDS * rate.hz() as f32)).exp();
        let (begin, slope) = (self.sample as f32, self.slope as f32);
        let push = (begin + slope) / fall - begin;
        (1_u16..).scan(1.0_f32, move |left, n| {
            *left *= fall;
            Some(whole((begin + push * f32::from(n)) * *left))
        })
    }
}

impl Default for Sums {
    fn default() -> Self {
        Self::new()
    }
}

/// After 7 ms next to nothing is left of what is to come to rest.
const REST_SECONDS: f32 = 0.001;

impl Wide {
    fn new(rate: SampleRate) -> Self {
        Self {
            samples: vec![0; rate.frame_samples()].into(),
            silent: true,
            parts: 0,
        }
    }

    fn clear(&mut self) {
        if !self.silent {
            self.samples.fill(0);
            self.silent = true;
            self.parts = 0;
        }
    }

    fn add(&mut self, pcm: &[i16]) {
        for (place, sample) in self.samples.iter_mut().zip(pcm) {
            *place = place.wrapping_add((*sample).into());
        }
        self.silent = false;
        self.parts += 1;
    }

    fn copy_from(&mut self, other: &Self) {
        self.samples.copy_from_slice(&other.samples);
        self.silent = other.silent;
        self.parts = other.parts;
    }
}

impl Converters {
    pub(super) fn new() -> Self {
        Self(SampleRate::ALL.map(|from| SampleRate::ALL.map(|to| Converter::new(from, to))))
    }
}

impl Converter {
    fn new(from: SampleRate, to: SampleRate) -> Self {
        let resampler = (from != to).then(|| Resampler::new(from, to));
        Self {
            resampler,
            ringing: false,
        }
    }

    /// Forgets the end of earlier sound: nobody listens at this rate.
    fn rest(&mut self) {
        if self.ringing {
            self.resampler.iter_mut().for_each(Resampler::reset);
            self.ringing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NARROW: SampleRate = SampleRate::Hz8000;

    fn voice(seed: i32) -> Vec<i16> {
        (0..160)
            .map(|i| ((i * 7_919 + seed * 104_729) % 32_768) as i16)
            .collect()
    }

    #[test]
    fn everybody_hears_the_others_exact_to_the_sample() {
        let voices: Vec<_> = (1..=5).map(voice).collect();
        let mut sums = Sums::new();
        sums.begin();
        for v in &voices {
            sums.add(NARROW, v);
        }
        sums.spread(&mut Converters::new(), [true, false, false]);
        let mut mix = [0; 160];
        for (listener, own) in voices.iter().enumerate() {
            sums.for_listener(NARROW, Some(own), None, &mut mix);
            for (i, sample) in mix.iter().enumerate() {
                let others = voices.iter().enumerate().filter(|(n, _)| *n != listener);
                assert_eq!(*sample, others.map(|(_, v)| i32::from(v[i])).sum::<i32>());
            }
        }
    }

    #[test]
    fn a_whisper_is_heard_by_its_listener_only() {
        let mut sums = Sums::new();
        sums.begin();
        sums.add(NARROW, &voice(1));
        sums.spread(&mut Converters::new(), [true, false, false]);
        let (mut mix, whisper) = ([0; 160], voice(9));
        sums.for_listener(NARROW, None, Some(&whisper), &mut mix);
        assert!((0..160).all(|i| mix[i] == i32::from(voice(1)[i]) + i32::from(whisper[i])));
        assert!((0..160).all(|i| sums.total(NARROW)[i] == i32::from(voice(1)[i])));
    }

    #[test]
    fn the_next_tick_begins_with_silence() {
        let mut sums = Sums::new();
        sums.begin();
        sums.add(NARROW, &voice(1));
        sums.spread(&mut Converters::new(), [true, false, false]);
        assert!(!sums.is_silent(NARROW));
        sums.begin();
        sums.spread(&mut Converters::new(), [true, false, false]);
        assert!(sums.is_silent(NARROW));
        assert_eq!(sums.total(NARROW), [0; 160]);
    }

    /// RMS level of `hz` in dB over whole frames after the filters have filled.
    fn level(samples: &[i32], rate: SampleRate, hz: f64) -> f64 {
        let (mut re, mut im) = (0.0, 0.0);
        for (i, sample) in samples.iter().enumerate() {
            let phase = hz * i as f64 / f64::from(rate.hz()) * std::f64::consts::TAU;
            re += f64::from(*sample) * phase.cos();
            im += f64::from(*sample) * phase.sin();
        }
        20.0 * (2.0 * (re * re + im * im).sqrt() / samples.len() as f64).log10()
    }

    #[test]
    fn all_rates_hear_each_other_at_the_same_level() {
        for from in SampleRate::ALL {
            for hz in [300.0, 1000.0, 2500.0, 3000.0] {
                let (mut sums, mut converters) = (Sums::new(), Converters::new());
                let mut heard: [Vec<i32>; 3] = Default::default();
                for frame in 0..12 {
                    let start = frame * from.frame_samples();
                    let pcm: Vec<i16> = (start..start + from.frame_samples())
                        .map(|i| {
                            (8000.0
                                * (hz * i as f64 / f64::from(from.hz()) * std::f64::consts::TAU)
                                    .sin()) as i16
                        })
                        .collect();
                    sums.begin();
                    sums.add(from, &pcm);
                    sums.spread(&mut converters, [true; 3]);
                    if frame >= 2 {
                        for to in SampleRate::ALL {
                            heard[to.index()].extend(sums.total(to));
                        }
                    }
                }
                for to in SampleRate::ALL {
                    let difference = level(&heard[to.index()], to, hz) - 20.0 * 8000.0_f64.log10();
                    assert!(
                        difference.abs() <= 0.5,
                        "{hz} Hz from {from:?} to {to:?}: {difference:.2} dB"
                    );
                }
            }
        }
    }
}
