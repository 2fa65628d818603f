//! A leg's receiver and its encoder.

use crate::media::codec::{CodecError, Course, Encoder};
use crate::media::limiter::Limiter;
use crate::media::mixer::Comfort;
use crate::media::parameters::MediaParameters;
use crate::media::receive::{Receiver, ReceiverConfig};
use crate::media::sender::PacketBuffer;

/// What is remade when another codec or payload type is agreed on.
pub struct CodecSet {
    pub(super) receiver: Receiver,
    /// For a mix of its own; in step with the shared encoder at the moment of parting.
    pub(in crate::media) encoder: Encoder,
    /// Frames that are still to be encoded by [`Encoder::encode_crossing`].
    pub(in crate::media) crossing: u8,
    /// What loss its next frame is encoded for ([`Encoder::expect_loss`]).
    pub(in crate::media) loss_percent: u8,
    pub(in crate::media) limiter: Limiter,
    pub(in crate::media) comfort: Comfort,
}

impl CodecSet {
    /// Receiver and encoder. Allocates.
    ///
    /// # Errors
    /// What the codecs report.
    pub fn new(parameters: &MediaParameters, config: ReceiverConfig) -> Result<Self, CodecError> {
        Ok(Self {
            receiver: Receiver::new(parameters, config)?,
            encoder: Encoder::new(parameters.codec)?,
            crossing: 0,
            loss_percent: 0,
            limiter: Limiter::default(),
            comfort: Comfort::default(),
        })
    }

    /// Forgets what was encoded before.
    pub(in crate::media) fn restart(&mut self) {
        self.encoder.reset();
        self.crossing = 0;
        self.limiter.reset();
        self.comfort = Comfort::default();
    }

    /// Encodes what a mix came to, or clears the frame where that fails.
    pub(in crate::media) fn encode(&mut self, pcm: &[i16], frame: &mut PacketBuffer) {
        let (encoder, loss_percent) = (&mut self.encoder, self.loss_percent);
        let crosses = self.crossing > 0;
        self.crossing = self.crossing.saturating_sub(1);
        frame.fill(|room| {
            encoder.expect_loss(loss_percent).ok()?;
            let encoded = if crosses {
                encoder.encode_crossing(pcm, room)
            } else {
                encoder.encode(pcm, room)
            };
            encoded.ok()
        });
    }

    /// Encodes what was received last.
    pub(super) fn encode_echo(&mut self, frame: &mut PacketBuffer) {
        let (encoder, receiver) = (&mut self.encoder, &self.receiver);
        frame.fill(|room| {
            encoder.expect_loss(self.loss_percent).ok()?;
            encoder.encode(receiver.pcm(), room).ok()
        });
    }

    /// Encodes what all hear on the way to the shared encoder's state ([`Encoder::follow`]); true
    /// where the shared packet does.
    pub(in crate::media) fn follow(
        &mut self,
        leader: &Course,
        theirs: &[u8],
        haste: u8,
        frame: &mut PacketBuffer,
    ) -> bool {
        let mut taken = false;
        frame.fill(|room| {
            taken = self.encoder.follow(leader, theirs, haste, room).ok()?;
            Some(theirs.len())
        });
        taken
    }
}
