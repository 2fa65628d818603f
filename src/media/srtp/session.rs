//! Both directions of one leg, and the room that a packet needs while it is worked on.

use super::{MasterKey, OVERHEAD_MAX, SrtpError, SrtpKeys, SrtpReceiver, SrtpSender};

/// Encrypts what a leg sends and decrypts what it receives.
pub struct Srtp {
    keys: SrtpKeys,
    sender: SrtpSender,
    receiver: SrtpReceiver,
}

/// RTP, or RTCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Audio and keys.
    Rtp,
    /// Reports.
    Rtcp,
}

impl Srtp {
    /// Begins with keys that nothing was sent under yet.
    #[must_use]
    pub fn new(keys: &SrtpKeys) -> Self {
        Self {
            keys: *keys,
            sender: SrtpSender::new(&keys.ours),
            receiver: SrtpReceiver::new(&keys.theirs),
        }
    }

    /// Goes on where `earlier` was, in each direction whose key is the same: a counter that began anew
    /// under a key would use its keystream twice.
    pub fn go_on_from(&mut self, earlier: &mut Self) {
        let same = |a: &MasterKey, b: &MasterKey| a == b;
        if same(&self.keys.ours, &earlier.keys.ours) {
            std::mem::swap(&mut self.sender, &mut earlier.sender);
        }
        if same(&self.keys.theirs, &earlier.keys.theirs) {
            std::mem::swap(&mut self.receiver, &mut earlier.receiver);
        }
    }

    /// Hands the protected packet to `send`. What is larger than any packet of ours is not sent.
    pub fn protect(&mut self, kind: Kind, packet: &[u8], send: impl FnOnce(&[u8])) {
        let mut room = [0; PACKET_BYTES_MAX + OVERHEAD_MAX];
        let Some(place) = room.get_mut(..packet.len()) else {
            return;
        };
        place.copy_from_slice(packet);
        let length = match kind {
            Kind::Rtp => self.sender.protect_rtp(&mut room, packet.len()),
            Kind::Rtcp => self.sender.protect_rtcp(&mut room, packet.len()),
        };
        if let Some(protected) = length.and_then(|length| room.get(..length)) {
            send(protected);
        }
    }

    /// Hands the packet as its peer wrote it to `take`, with whether it is the newest of its stream (RTP only).
    ///
    /// # Errors
    /// [`SrtpError`]: its peer did not write it, or it was had before.
    pub fn open(
        &mut self,
        kind: Kind,
        packet: &[u8],
        take: impl FnOnce(&[u8], bool),
    ) -> Result<(), SrtpError> {
        let mut room = [0; PACKET_BYTES_MAX];
        let place = room.get_mut(..packet.len()).ok_or(SrtpError::Malformed)?;
        place.copy_from_slice(packet);
        let (length, is_newest) = match kind {
            Kind::Rtp => (self.receiver.open_rtp(place)?, self.receiver.is_newest()),
            Kind::Rtcp => (self.receiver.open_rtcp(place)?, false),
        };
        take(room.get(..length).ok_or(SrtpError::Malformed)?, is_newest);
        Ok(())
    }
}

/// The largest packet that is received or sent.
const PACKET_BYTES_MAX: usize = 1_600;
