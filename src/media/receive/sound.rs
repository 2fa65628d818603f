//! Where the sound of a frame comes from: decoded, made good from a copy, made up, or left out where
//! nobody would hear it.

use super::unheard::{Loudness, Turn};
use super::{FrameKind, Receiver};
use crate::media::audio_level::AudioLevel;
use crate::media::codec::Codec;
use crate::units::Decibels;

impl Receiver {
    /// Plays a packet but for its first `skip` samples.
    pub(super) fn decode(&mut self, slot: usize, skip: usize) {
        let (payload, level) = (self.jitter.payload(slot), self.jitter.level(slot));
        let codec = self.parameters.codec;
        let announces_pause = codec == Codec::Opus && payload.len() <= OPUS_DTX_BYTES;
        let told = self.claims.trusted(level);
        let silent = told.is_some_and(|told| self.is_silent(payload, told));
        match self.unheard.turn(&self.decoder, payload, silent) {
            Turn::Skip => {
                let loudness = told.map_or(Loudness::AsBefore, Loudness::Told);
                self.unheard.skip(codec, payload, loudness);
                self.leave_out(slot, skip, level);
                self.note_played(announces_pause);
                return;
            }
            Turn::Look => self.unheard.look(payload),
            Turn::Decode => {
                self.catch_up();
                let payload = self.jitter.payload(slot);
                self.unheard.note_decoded(&self.decoder, payload);
            }
        }
        let payload = self.jitter.payload(slot);
        let Ok(decoded) = self.decoder.decode(payload, self.staging.room()) else {
            // Good framing, bad contents: as if it had not come.
            let samples = self.decoder.samples_in(payload).unwrap_or(0);
            self.counts.malformed += 1;
            self.conceal(samples.saturating_sub(skip).max(1));
            return;
        };
        let room = self.staging.room();
        self.claims
            .compare(level, room.get(..decoded).unwrap_or_default());
        let skipped = self.staging.skip(decoded, skip.min(decoded));
        if let Some(concealer) = &mut self.concealer {
            concealer.good(self.staging.room().get_mut(..skipped).unwrap_or_default());
        }
        self.staging.commit(skipped, FrameKind::Voice);
        self.note_played(announces_pause);
    }

    /// Would nobody take this packet for a voice if it is as loud as `told`?
    fn is_silent(&self, payload: &[u8], told: Decibels) -> bool {
        // The level is that of a whole packet; in a longer one a part may be louder.
        let samples = self.decoder.samples_in(payload);
        samples.is_some_and(|samples| samples <= self.frame_samples())
            && !self.voice.may_begin(told)
    }

    /// Goes over a packet but for its first `skip` samples.
    fn leave_out(&mut self, slot: usize, skip: usize, level: Option<AudioLevel>) {
        let samples = self.decoder.samples_in(self.jitter.payload(slot));
        self.claims.note(level);
        self.staging
            .skip_over(samples.unwrap_or(0).saturating_sub(skip));
    }

    /// The decoder hears what was left out, as far as it matters.
    fn catch_up(&mut self) {
        let room = self.staging.room();
        self.unheard
            .catch_up(&mut self.decoder, self.concealer.as_mut(), room);
    }

    /// A packet had its turn.
    fn note_played(&mut self, announces_pause: bool) {
        self.concealed = 0;
        self.paused = 0;
        if !self.jitter.is_paused() {
            self.comfort.end();
        }
        if announces_pause {
            self.jitter.note_pause();
        }
    }

    /// Something is lost: from the copy in the next packet if there is one, else made up.
    pub(super) fn make_good(&mut self, missing: usize, needed: usize, next: Option<usize>) {
        if let Some((slot, samples)) =
            next.and_then(|slot| Some((slot, self.decode_copy(slot, missing)?)))
        {
            self.staging.commit(samples, FrameKind::Voice);
            self.counts.fec_frames += 1;
            self.concealed = 0;
            self.jitter.made_good(self.ticks_of(samples), slot);
            return;
        }
        let made = self.conceal(missing.min(needed));
        self.advance(made);
    }

    fn decode_copy(&mut self, slot: usize, missing: usize) -> Option<usize> {
        if missing > COPY_MS_MAX * self.frame_samples() / 20 {
            return None;
        }
        self.catch_up();
        let room = self.staging.room().get_mut(..missing)?;
        self.decoder
            .decode_fec(self.jitter.payload(slot), room)
            .ok()
    }

    /// Makes up about `samples`; returns how many.
    fn conceal(&mut self, samples: usize) -> usize {
        let is_opus = self.parameters.codec == Codec::Opus;
        if is_opus && self.unheard.is_quiet() && self.jitter.pauses_unsaid() {
            // A pause rather than a loss (RFC 7587 section 3.1.3: nothing need be sent).
            self.unheard.skip_gap();
            return self.staging.skip_over(samples);
        }
        if self.concealed >= CONCEALED_MS_MAX * self.frame_samples() / 20 {
            return self.fall_silent(samples);
        }
        self.catch_up();
        let made = if let Some(concealer) = &mut self.concealer {
            let room = self.staging.room().get_mut(..samples).unwrap_or_default();
            concealer.conceal(room);
            room.len()
        } else {
            self.conceal_opus(samples)
        };
        self.staging.commit(made, FrameKind::Concealed);
        self.concealed += made;
        made
    }

    /// libopus conceals in steps of 2.5 ms.
    fn conceal_opus(&mut self, samples: usize) -> usize {
        let whole = samples.next_multiple_of(OPUS_STEP);
        self.catch_up();
        let room = self.staging.room();
        let Some(room) = room.get_mut(..whole) else {
            return 0;
        };
        if self.decoder.conceal(room).is_err() {
            room.fill(0);
        }
        whole
    }

    /// The sender pauses on purpose.
    pub(super) fn pause(&mut self, samples: usize) {
        let made = if self.comfort.is_on() {
            self.pause_with_noise(samples)
        } else if self.parameters.codec == Codec::Opus && !self.keys.is_pressed() {
            self.pause_opus(samples)
        } else {
            self.fall_silent(samples)
        };
        if let Some(concealer) = &mut self.concealer {
            concealer.reset();
        }
        self.advance(made);
    }

    /// Noise as the sender has announced it (RFC 3389), where somebody may hear it.
    fn pause_with_noise(&mut self, samples: usize) -> usize {
        if self.unheard.is_quiet() {
            self.unheard.skip_noise(self.comfort.level());
            return self.staging.skip_over(samples);
        }
        let room = self.staging.room().get_mut(..samples).unwrap_or_default();
        self.comfort.fill(room);
        let made = room.len();
        self.staging.commit(made, FrameKind::ComfortNoise);
        made
    }

    /// After DTX libopus makes its own comfort noise, which costs nearly as much as speech: it is
    /// asked only for the beginning, out of which ours goes on as loud.
    fn pause_opus(&mut self, samples: usize) -> usize {
        if self.unheard.is_quiet() {
            self.unheard.skip_gap();
            return self.staging.skip_over(samples);
        }
        let made = if self.paused < PAUSE_MADE_MS_MAX * self.frame_samples() / 20 {
            self.conceal_opus(samples)
        } else {
            let level = self.voice.voice().level;
            let room = self.staging.room().get_mut(..samples).unwrap_or_default();
            self.comfort.fill_at(level, room);
            room.len()
        };
        self.staging.commit(made, FrameKind::ComfortNoise);
        self.paused += made;
        made
    }

    pub(super) fn fall_silent(&mut self, samples: usize) -> usize {
        self.staging.fill_silence(samples)
    }
}

/// A payload this short has no audio: the sender is in DTX (RFC 7587 section 3.1.3).
pub(super) const OPUS_DTX_BYTES: usize = 2;
/// libopus conceals in steps of 2.5 ms.
const OPUS_STEP: usize = 120;
/// Losses up to this long may be made good from the next packet.
const COPY_MS_MAX: usize = 40;
/// After that, silence.
const CONCEALED_MS_MAX: usize = 100;
/// Of a pause, what the decoder makes up itself.
const PAUSE_MADE_MS_MAX: usize = 100;
