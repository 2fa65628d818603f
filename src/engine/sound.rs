//! How legs' voices are treated: denoisers are made here, on the control side, and handed over.

use crate::engine::control::Control;
use crate::media::command::LegCommand;
use crate::media::treatment::{Denoiser, SoundOptions};
use crate::units::{LegId, SampleRate};

/// What a leg's voice gets, as far as the control side has asked for it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct SoundAsked {
    wanted: Option<SoundOptions>,
    /// The rate of its codec, once there is one.
    rate: Option<SampleRate>,
}

impl Control {
    /// How a leg's voice is treated on its way into a meeting. What it was before is of no matter.
    pub fn set_sound(&mut self, leg: LegId, wanted: SoundOptions) {
        let Some(asked) = self.sound_of(leg) else {
            return;
        };
        if asked.wanted != Some(wanted) {
            asked.wanted = Some(wanted);
            self.ask_sound(leg);
        }
    }

    /// A leg has a codec of this rate from now on: a denoiser is made for one rate.
    pub(super) fn note_rate(&mut self, leg: LegId, rate: SampleRate) {
        let Some(asked) = self.sound_of(leg) else {
            return;
        };
        if asked.rate.replace(rate) != Some(rate)
            && asked.wanted.is_some_and(|wanted| wanted.noise_suppression)
        {
            self.ask_sound(leg);
        }
    }

    fn ask_sound(&mut self, leg: LegId) {
        let Some(SoundAsked {
            wanted: Some(wanted),
            rate,
        }) = self.sound_of(leg).copied()
        else {
            return;
        };
        let denoiser = rate
            .filter(|_| wanted.noise_suppression)
            .map(|rate| Box::new(Denoiser::new(rate)));
        self.command(
            leg,
            LegCommand::Sound {
                automatic_gain: wanted.automatic_gain,
                denoiser,
            },
        );
    }
}
