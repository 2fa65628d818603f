//! What is done to one leg's voice before it is summed: noise suppressed where asked for, echo
//! damped, loudness brought to a common target. Where there is nothing to do, the samples stay as
//! they are, to the bit.

mod denoise;
mod echo;
mod gain;

pub use denoise::Denoiser;
pub use echo::{Echo, Envelope};

use crate::media::limiter::{Limiter, whole};
use crate::media::prefetch::prefetch;
use crate::media::voice::Voice;
use crate::units::{Decibels, FRAME_SAMPLES_MAX};
use echo::EchoFinder;
pub(in crate::media) use echo::halves;
use gain::AutomaticGain;

/// How a meeting wants its voices treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SoundOptions {
    /// Quiet and loud talkers are brought to about the same loudness.
    pub automatic_gain: bool,
    /// Noise around the talkers is suppressed.
    pub noise_suppression: bool,
}

impl Default for SoundOptions {
    fn default() -> Self {
        Self {
            automatic_gain: true,
            noise_suppression: false,
        }
    }
}

/// One leg's voice on its way into the sum.
pub(in crate::media) struct Treatment {
    gain: Option<AutomaticGain>,
    denoiser: Option<Box<Denoiser>>,
    /// Was the last frame denoised, and is this one?
    denoised: (bool, bool),
    finder: EchoFinder,
    /// What it was sent of late, while that was not what everybody hears.
    sent: Envelope,
    only_echo: bool,
    /// The factor that the frame before ended with.
    applied: f32,
    limiter: Limiter,
}

impl Treatment {
    pub(in crate::media) fn new() -> Self {
        Self {
            gain: None,
            denoiser: None,
            denoised: (false, false),
            finder: EchoFinder::new(),
            sent: Envelope::new(),
            only_echo: false,
            applied: 1.0,
            limiter: Limiter::default(),
        }
    }

    /// What the meeting wants. Returns the denoiser it had, to be dropped elsewhere.
    pub(in crate::media) fn set(
        &mut self,
        automatic_gain: bool,
        denoiser: Option<Box<Denoiser>>,
    ) -> Option<Box<Denoiser>> {
        if self.gain.is_some() != automatic_gain {
            self.gain = automatic_gain.then(AutomaticGain::default);
        }
        self.denoised = (false, false);
        std::mem::replace(&mut self.denoiser, denoiser)
    }

    /// What it says now doesn't follow what it said before: it was muted meanwhile, or is elsewhere.
    pub(in crate::media) const fn interrupt(&mut self) {
        self.denoised = (false, false);
    }

    /// Judges this frame, before anything is summed. `shared` is what everybody was sent, where that
    /// is what this leg hears; `seated`: it is being summed. Returns the voice as the meeting is to
    /// take it.
    pub(in crate::media) fn judge(
        &mut self,
        voice: Voice,
        pcm: &[i16],
        shared: Option<&Envelope>,
        seated: bool,
    ) -> Voice {
        self.denoised = (self.denoised.1, false);
        self.only_echo = if voice.active && (seated || self.finder.is_found()) {
            let returned = halves(pcm, f32::from);
            self.finder.hear(shared.unwrap_or(&self.sent), returned)
        } else {
            self.finder.rest()
        };
        if let Some(gain) = &mut self.gain
            && voice.active
            && !self.only_echo
        {
            gain.hear(voice);
        }
        Voice {
            active: voice.active && !self.only_echo,
            level: Decibels(voice.level.0 + self.gain().0),
            ..voice
        }
    }

    /// Before a frame is judged.
    pub(in crate::media) fn prefetch(&self) {
        self.finder.prefetch();
        prefetch(&self.gain);
        prefetch(&self.only_echo);
    }

    /// Treats what is about to be summed.
    pub(in crate::media) fn process(&mut self, pcm: &mut [i16]) {
        if let Some(denoiser) = &mut self.denoiser {
            if !self.denoised.0 {
                denoiser.resume();
            }
            denoiser.process(pcm);
            self.denoised.1 = true;
        }
        let from = self.applied;
        self.applied = self.factor();
        if from == 1.0 && self.applied == 1.0 && self.limiter.gain() >= 1.0 {
            return;
        }
        self.amplify(pcm, from);
    }

    /// It was sent its own mix.
    pub(in crate::media) fn note_sent(&mut self, halves: [f32; 2]) {
        self.sent.push(halves);
    }

    /// It parts from what everybody hears, and knows what that was.
    pub(in crate::media) fn part(&mut self, shared: &Envelope) {
        self.sent.clone_from(shared);
    }

    /// What it returns, if it does.
    pub(in crate::media) fn echo(&self) -> Option<Echo> {
        self.finder.echo()
    }

    /// Was the last frame that was judged nothing but echo?
    pub(in crate::media) const fn is_only_echo(&self) -> bool {
        self.only_echo
    }

    /// The gain applied; 0 dB where there is none.
    pub(in crate::media) fn gain(&self) -> Decibels {
        self.gain
            .as_ref()
            .map_or(Decibels::IDENTITY, AutomaticGain::gain)
    }

    fn factor(&self) -> f32 {
        let gain = self.gain();
        let gain = if gain == Decibels::IDENTITY {
            1.0
        } else {
            gain.as_amplitude()
        };
        if self.only_echo { gain * DAMPED } else { gain }
    }

    /// Without a step: the factor changes over the first quarter of the frame.
    fn amplify(&mut self, pcm: &mut [i16], from: f32) {
        let mut wide = [0; FRAME_SAMPLES_MAX];
        let wide = &mut wide[..pcm.len().min(FRAME_SAMPLES_MAX)];
        let ramp = (wide.len() / 4).max(1);
        let to = self.applied;
        let (turning, steady) = wide.split_at_mut(ramp.min(pcm.len()));
        let step = (to - from) / ramp as f32;
        for (n, (out, sample)) in turning.iter_mut().zip(pcm.iter()).enumerate() {
            *out = whole(f32::from(*sample) * (from + step * (n + 1) as f32));
        }
        for (out, sample) in steady.iter_mut().zip(pcm.iter().skip(ramp)) {
            *out = whole(f32::from(*sample) * to);
        }
        self.limiter.process(wide, pcm);
    }
}

/// 24 dB down.
const DAMPED: f32 = 0.063;

#[cfg(test)]
mod tests;
