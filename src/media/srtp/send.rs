//! Protecting what we send.

use super::cipher::Protection;
use super::key::MasterKey;
use super::{
    ENCRYPTED, INDEX_BYTES, RTCP_HEADER_BYTES, RTCP_SSRC_AT, RTP_SSRC_AT, rtp_header_bytes,
    sequence_of, word_at,
};

/// Protects the packets of one leg, whose sequence numbers run on without a break.
pub struct SrtpSender {
    rtp: Protection,
    rtcp: Protection,
    /// The stream's SSRC, its last sequence number and how often that wrapped.
    stream: Option<(u32, u16, u32)>,
    rtcp_index: u32,
}

impl SrtpSender {
    /// Begins with a key that nothing was sent under.
    #[must_use]
    pub fn new(key: &MasterKey) -> Self {
        Self {
            rtp: Protection::rtp(key),
            rtcp: Protection::rtcp(key),
            stream: None,
            rtcp_index: 0,
        }
    }

    /// Protects the RTP packet in the first `length` bytes of `buffer`, which has room for
    /// [`OVERHEAD_MAX`](super::OVERHEAD_MAX) more. Returns the new length; `None`: not RTP, or no room.
    pub fn protect_rtp(&mut self, buffer: &mut [u8], length: usize) -> Option<usize> {
        let packet = buffer.get_mut(..length)?;
        let header = rtp_header_bytes(packet)?;
        let (ssrc, sequence) = (word_at(packet, RTP_SSRC_AT)?, sequence_of(packet)?);
        let rollovers = match self.stream {
            Some((known, last, rollovers)) if known == ssrc => {
                rollovers.wrapping_add(u32::from(sequence < last))
            }
            Some(_) | None => 0,
        };
        self.stream = Some((ssrc, sequence, rollovers));
        let index = (u64::from(rollovers) << 16) | u64::from(sequence);
        self.rtp.crypt(ssrc, index, packet.get_mut(header..)?);
        let tag = self.rtp.tag([packet, &rollovers.to_be_bytes()]);
        append(buffer, length, tag.get(..self.rtp.tag_bytes())?)
    }

    /// Protects the RTCP packet in the first `length` bytes of `buffer`, like [`Self::protect_rtp`].
    pub fn protect_rtcp(&mut self, buffer: &mut [u8], length: usize) -> Option<usize> {
        let packet = buffer.get_mut(..length)?;
        let ssrc = word_at(packet, RTCP_SSRC_AT)?;
        let index = self.rtcp_index;
        self.rtcp_index = index.wrapping_add(1) & !ENCRYPTED;
        let text = packet.get_mut(RTCP_HEADER_BYTES..)?;
        self.rtcp.crypt(ssrc, u64::from(index), text);
        let length = append(buffer, length, &(ENCRYPTED | index).to_be_bytes())?;
        debug_assert!(length >= RTCP_HEADER_BYTES + INDEX_BYTES);
        let tag = self.rtcp.tag([buffer.get(..length)?, &[]]);
        append(buffer, length, tag.get(..self.rtcp.tag_bytes())?)
    }
}

fn append(buffer: &mut [u8], length: usize, more: &[u8]) -> Option<usize> {
    let end = length + more.len();
    buffer.get_mut(length..end)?.copy_from_slice(more);
    Some(end)
}
