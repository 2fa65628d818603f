//! What of a leg is asked for before its turn: only what each packet and each frame uses, a third of all
//! there is. What moves into those ways or out of them moves here too.

use crate::media::leg::Leg;
use crate::media::parameters::MediaParameters;
use crate::media::prefetch::prefetch;

impl Leg {
    /// A packet for it comes soon. Some time should lie between one step and the next, which follows
    /// pointers that the first one asks for.
    pub fn prefetch_arrival(&self) {
        prefetch(&self.codecs);
        prefetch(&self.srtp);
        prefetch_agreed(&self.parameters);
        self.source.prefetch();
        prefetch(&self.liveness);
    }

    /// The second step.
    pub fn prefetch_receiver(&self) {
        self.codecs.receiver.prefetch_arrival();
    }

    /// The third one.
    pub fn prefetch_room(&self) {
        self.codecs.receiver.prefetch_room();
    }

    /// Its frame comes soon: the first of three steps.
    pub(in crate::media) fn prefetch_frame(&self) {
        prefetch(&self.codecs);
        prefetch(&self.last_tick);
        prefetch(&self.player);
        prefetch(&self.liveness);
        prefetch(&self.config);
        prefetch(&self.hears);
        prefetch_agreed(&self.parameters);
        self.source.prefetch();
        self.treatment.prefetch();
    }

    /// The second step.
    pub(in crate::media) fn prefetch_codecs(&self) {
        self.codecs.receiver.prefetch_frame();
    }

    /// The third one.
    pub(in crate::media) fn prefetch_buffers(&self) {
        self.codecs.receiver.prefetch_buffers();
    }

    /// It will soon be asked what has happened: the first of two steps.
    pub fn prefetch_news(&self) {
        prefetch(&self.codecs);
        prefetch(&self.liveness.news);
        prefetch(&self.talking);
        prefetch(&self.player);
    }

    /// The second one.
    pub fn prefetch_keys(&self) {
        self.codecs.receiver.prefetch_keys();
    }

    /// It will soon be sent something.
    pub(in crate::media) fn prefetch_sending(&self) {
        prefetch(&self.hears);
        prefetch(&self.sent);
        prefetch(&self.srtp);
        prefetch_agreed(&self.parameters);
        prefetch(&self.rtcp.schedule);
        self.source.prefetch();
        self.packetiser.prefetch();
    }
}

/// What of an agreement is looked at all the time; its addresses and keys are not.
fn prefetch_agreed(parameters: &MediaParameters) {
    prefetch(&parameters.keying);
    prefetch(&parameters.srtp);
    prefetch(&parameters.codec);
    prefetch(&parameters.proven);
}
