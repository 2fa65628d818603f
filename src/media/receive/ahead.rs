//! What of a receiver is asked for before its turn.

use super::Receiver;
use crate::media::parameters::MediaParameters;
use crate::media::prefetch::prefetch;

impl Receiver {
    /// Before a packet comes.
    pub(in crate::media) fn prefetch_arrival(&self) {
        self.jitter.prefetch_arrival();
        prefetch(&self.stream);
        prefetch(&self.counts.loss_runs);
        prefetch(&self.loss);
        self.decoder.prefetch();
        prefetch_agreed(&self.parameters);
    }

    /// What the former's memory points to.
    pub(in crate::media) fn prefetch_room(&self) {
        self.jitter.prefetch_room();
    }

    /// Before it is asked for keys.
    pub(in crate::media) fn prefetch_keys(&self) {
        self.keys.prefetch_pressed();
    }

    /// Before a frame is pulled.
    pub(in crate::media) fn prefetch_frame(&self) {
        self.jitter.prefetch_playout();
        self.staging.prefetch();
        self.keys.prefetch();
        prefetch(&self.unheard);
        prefetch(&self.voice);
        prefetch(&self.counts);
        prefetch(&self.loss);
        prefetch(&self.concealer);
        prefetch(&self.comfort);
        prefetch(&self.kind);
        prefetch_agreed(&self.parameters);
    }

    /// What the former's memory points to.
    pub(in crate::media) fn prefetch_buffers(&self) {
        self.jitter.prefetch_buffers();
        self.staging.prefetch_samples();
        if let Some(concealer) = &self.concealer {
            concealer.prefetch(self.frame_samples());
        }
    }
}

/// What of an agreement is looked at all the time.
fn prefetch_agreed(parameters: &MediaParameters) {
    prefetch(&parameters.telephone_event);
    prefetch(&parameters.audio_level);
    prefetch(&parameters.codec);
    prefetch(&parameters.payload_type_receive);
}
