//! Noise suppression: RNNoise, as the `nnnoiseless` crate has it, at any rate that legs use. It works
//! at 48 kHz on 10 ms at a time; what comes out is 10 ms late, and 4 ms more from 8 kHz, 2 ms from
//! 16 kHz, for the conversion there and back.

use std::sync::LazyLock;

use nnnoiseless::{DenoiseState, RnnModel};

use crate::media::resample::Resampler;
use crate::units::{FRAME_SAMPLES_MAX, SampleRate};

/// Takes the noise from one leg's voice.
pub struct Denoiser {
    rate: SampleRate,
    state: Box<DenoiseState<'static>>,
    /// To 48 kHz and back; `None` where it is that already.
    resamplers: Option<(Resampler, Resampler)>,
    narrow: Box<[f32]>,
    noisy: Box<[f32; FRAME_SAMPLES_MAX]>,
    clean: Box<[f32; FRAME_SAMPLES_MAX]>,
}

impl Denoiser {
    /// For frames at `rate`. Allocates all it will ever use.
    #[must_use]
    pub fn new(rate: SampleRate) -> Self {
        let wide = SampleRate::Hz48000;
        Self {
            rate,
            state: DenoiseState::with_model(&MODEL),
            resamplers: (rate != wide)
                .then(|| (Resampler::new(rate, wide), Resampler::new(wide, rate))),
            narrow: vec![0.0; rate.frame_samples()].into(),
            noisy: Box::new([0.0; FRAME_SAMPLES_MAX]),
            clean: Box::new([0.0; FRAME_SAMPLES_MAX]),
        }
    }

    /// To be called once on each thread that will run it: the Fourier transform behind it keeps its
    /// tables per thread and makes them at their first use.
    pub fn prepare_thread() {
        let mut pcm = [0; FRAME_SAMPLES_MAX];
        for (n, sample) in pcm.iter_mut().enumerate() {
            *sample = if n % 96 < 48 { 8_000 } else { -8_000 };
        }
        Self::new(SampleRate::Hz48000).process(&mut pcm);
    }

    /// Begins anew after a pause: what was in the pipe is forgotten, what is known of the noise is not.
    pub fn resume(&mut self) {
        if let Some((up, down)) = &mut self.resamplers {
            up.reset();
            down.reset();
        }
        let silence = [0.0; DenoiseState::FRAME_SIZE];
        let mut rest = [0.0; DenoiseState::FRAME_SIZE];
        // A window spans two of them.
        for _ in 0..2 {
            self.state.process_frame(&mut rest, &silence);
        }
    }

    /// Cleans one 20 ms frame at the rate it was made for; leaves others alone.
    pub fn process(&mut self, pcm: &mut [i16]) {
        if pcm.len() != self.rate.frame_samples() {
            return;
        }
        for (place, sample) in self.narrow.iter_mut().zip(pcm.iter()) {
            *place = f32::from(*sample);
        }
        match &mut self.resamplers {
            Some((up, _)) => up.process(&self.narrow, &mut self.noisy[..]),
            None => self.noisy.copy_from_slice(&self.narrow),
        }
        let halves = self.noisy.chunks_exact(DenoiseState::FRAME_SIZE);
        for (noisy, clean) in halves.zip(self.clean.chunks_exact_mut(DenoiseState::FRAME_SIZE)) {
            self.state.process_frame(clean, noisy);
        }
        match &mut self.resamplers {
            Some((_, down)) => down.process(&self.clean[..], &mut self.narrow),
            None => self.narrow.copy_from_slice(&self.clean[..]),
        }
        for (sample, clean) in pcm.iter_mut().zip(&self.narrow) {
            // The conversion of a float saturates.
            *sample = clean.round() as i16;
        }
    }
}

/// The weights, the same for all. Read on the control side, where denoisers are made.
static MODEL: LazyLock<RnnModel> = LazyLock::new(RnnModel::default);
