//! A leg's voice on its way into the sum, and its share in finding echo.

use super::Leg;
use crate::media::treatment::{Denoiser, Envelope, halves};
use crate::media::voice::Voice;

impl Leg {
    /// How its meeting wants its voice. Returns what it replaces, to be dropped elsewhere.
    pub fn set_sound(
        &mut self,
        automatic_gain: bool,
        denoiser: Option<Box<Denoiser>>,
    ) -> Option<Box<Denoiser>> {
        self.treatment.set(automatic_gain, denoiser)
    }

    /// This frame's voice as the meeting is to take it; `shared`: what those who hear the same were
    /// sent of late, `seated`: it has the floor.
    pub(in crate::media) fn judge(&mut self, shared: &Envelope, seated: bool) -> Voice {
        let shared = self.hears.is_common().then_some(shared);
        let receiver = &mut self.codecs.receiver;
        if !seated {
            receiver.note_unheard();
        }
        self.treatment
            .judge(receiver.voice(), receiver.pcm(), shared, seated)
    }

    /// Treats what is about to be summed of it.
    pub(in crate::media) fn treat(&mut self, pcm: &mut [i16]) {
        self.treatment.process(pcm);
    }

    /// It was sent its own mix; the loudness of its halves, the older first.
    pub(in crate::media) fn note_sent(&mut self, halves: [f32; 2]) {
        self.treatment.note_sent(halves);
    }

    /// It is sent what is whispered to it, alone.
    pub(in crate::media) fn note_whisper(&mut self) {
        let whisper = halves(self.whisper().unwrap_or_default(), f32::from);
        self.note_sent(whisper);
    }

    /// It is about to be sent its own mix instead of `shared`, or what it plays.
    pub(in crate::media) fn part_from(&mut self, shared: &Envelope) {
        self.treatment.part(shared);
    }
}
