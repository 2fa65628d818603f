//! Taking what was protected for us.

use super::cipher::Protection;
use super::key::MasterKey;
use super::window::ReplayWindow;
use super::{
    ENCRYPTED, INDEX_BYTES, RTCP_HEADER_BYTES, RTCP_SSRC_AT, RTP_SSRC_AT, SrtpError,
    rtp_header_bytes, sequence_of, word_at,
};

/// Authenticates and decrypts the packets of one leg's peer.
pub struct SrtpReceiver {
    rtp: Protection,
    rtcp: Protection,
    /// The one in use first. What a peer has sent under an SSRC that it has left must not be taken
    /// again, so those are remembered too.
    pub(super) streams: [Option<Stream>; STREAMS],
    rtcp_streams: [Option<Stream>; STREAMS],
    is_newest: bool,
}

#[derive(Clone, Copy)]
pub(super) struct Stream {
    ssrc: u32,
    window: ReplayWindow,
}

impl SrtpReceiver {
    /// Begins with the peer's key.
    #[must_use]
    pub fn new(key: &MasterKey) -> Self {
        Self {
            rtp: Protection::rtp(key),
            rtcp: Protection::rtcp(key),
            streams: [None; STREAMS],
            rtcp_streams: [None; STREAMS],
            is_newest: false,
        }
    }

    /// Lays the RTP packet in `packet` open and returns its length.
    ///
    /// # Errors
    /// [`SrtpError`]: nothing was remembered and nothing decrypted.
    pub fn open_rtp(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let malformed = SrtpError::Malformed;
        let length = packet
            .len()
            .checked_sub(self.rtp.tag_bytes())
            .ok_or(malformed)?;
        let (plain, tag) = packet.split_at_mut_checked(length).ok_or(malformed)?;
        let header = rtp_header_bytes(plain).ok_or(malformed)?;
        let ssrc = word_at(plain, RTP_SSRC_AT).ok_or(malformed)?;
        let sequence = sequence_of(plain).ok_or(malformed)?;
        let known = self.streams.iter().flatten().find(|s| s.ssrc == ssrc);
        let index = known.map_or(u64::from(sequence), |s| guess(s.window.highest(), sequence));
        if known.is_some_and(|stream| !stream.window.may_be_new(index)) {
            return Err(SrtpError::Replayed);
        }
        let rollovers = (index >> 16) as u32;
        if !self.rtp.is_genuine([plain, &rollovers.to_be_bytes()], tag) {
            return Err(SrtpError::Forged);
        }
        self.is_newest = note(&mut self.streams, ssrc, index);
        let text = plain.get_mut(header..).ok_or(malformed)?;
        self.rtp.crypt(ssrc, index, text);
        Ok(length)
    }

    /// Lays the RTCP packet in `packet` open and returns its length.
    ///
    /// # Errors
    /// As [`Self::open_rtp`].
    pub fn open_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let malformed = SrtpError::Malformed;
        let length = packet
            .len()
            .checked_sub(self.rtcp.tag_bytes())
            .ok_or(malformed)?;
        let (signed, tag) = packet.split_at_mut_checked(length).ok_or(malformed)?;
        let plain = length
            .checked_sub(INDEX_BYTES)
            .filter(|plain| *plain >= RTCP_HEADER_BYTES)
            .ok_or(malformed)?;
        let ssrc = word_at(signed, RTCP_SSRC_AT).ok_or(malformed)?;
        let trailer = word_at(signed, plain).ok_or(malformed)?;
        let index = u64::from(trailer & !ENCRYPTED);
        let known = self.rtcp_streams.iter().flatten().find(|s| s.ssrc == ssrc);
        if known.is_some_and(|stream| !stream.window.may_be_new(index)) {
            return Err(SrtpError::Replayed);
        }
        if !self.rtcp.is_genuine([signed, &[]], tag) {
            return Err(SrtpError::Forged);
        }
        note(&mut self.rtcp_streams, ssrc, index);
        if trailer & ENCRYPTED != 0 {
            let text = signed.get_mut(RTCP_HEADER_BYTES..plain).ok_or(malformed)?;
            self.rtcp.crypt(ssrc, index, text);
        }
        Ok(plain)
    }

    /// Is the RTP packet opened last the newest of its stream? One that was overtaken, or kept back by
    /// somebody on the way, tells nothing of where its peer is now.
    #[must_use]
    pub const fn is_newest(&self) -> bool {
        self.is_newest
    }
}

/// Notes what was authenticated, its stream in front of all others; was it the newest of its stream?
fn note(streams: &mut [Option<Stream>; STREAMS], ssrc: u32, index: u64) -> bool {
    let known = streams
        .iter()
        .position(|stream| stream.is_some_and(|stream| stream.ssrc == ssrc));
    // Where it is new, the one that was silent for longest has to go.
    let (before, _) = streams.split_at_mut(known.map_or(STREAMS, |place| place + 1));
    before.rotate_right(1);
    let Some(first) = streams.first_mut() else {
        return false;
    };
    match first.as_mut().filter(|_| known.is_some()) {
        Some(stream) => {
            // A stream that the peer has left tells nothing of where he is.
            let is_newest = known == Some(0) && index > stream.window.highest();
            stream.window.note(index);
            is_newest
        }
        None => {
            let window = ReplayWindow::starting(index);
            *first = Some(Stream { ssrc, window });
            true
        }
    }
}

/// The index that `sequence` most likely stands for (RFC 3711 section 3.3.1).
fn guess(highest: u64, sequence: u16) -> u64 {
    let rollovers = highest >> 16;
    let candidate = |rollovers: u64| (rollovers << 16) | u64::from(sequence);
    let same = candidate(rollovers);
    if same + HALF < highest {
        candidate(rollovers + 1)
    } else if same > highest + HALF && rollovers > 0 {
        candidate(rollovers - 1)
    } else {
        same
    }
}

const HALF: u64 = 1 << 15;
/// More SSRCs than a call has under one key, unless it is put on hold many times.
const STREAMS: usize = 16;
