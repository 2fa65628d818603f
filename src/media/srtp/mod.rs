//! SRTP and SRTCP (RFC 3711) in place, for keys that signalling exchanged (SDES, RFC 4568).
//!
//! A packet is authenticated before anything of it is remembered: no stream, no rollover counter and
//! no place in the replay window comes from a packet that its peer did not make. State is bounded: the
//! last sixteen streams of a peer, so that what was recorded of one that it has left is not taken again.

#![deny(clippy::indexing_slicing)]

mod cipher;
mod key;
mod receive;
mod send;
mod session;
mod window;

pub use key::{MasterKey, SrtpKeys, Suite};
pub use receive::SrtpReceiver;
pub use send::SrtpSender;
pub use session::{Kind, Srtp};

/// Why a packet is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SrtpError {
    /// Too short, or not RTP or RTCP at all.
    #[error("not an SRTP packet")]
    Malformed,
    /// Was had before, or is too old to tell.
    #[error("replayed")]
    Replayed,
    /// Its peer did not make it.
    #[error("the authentication tag is wrong")]
    Forged,
}

/// The most that protecting adds to a packet: SRTCP's index and a tag of 80 bits.
pub const OVERHEAD_MAX: usize = 4 + 10;

/// Bytes of an RTP header with its CSRCs and its extension: they stay readable.
fn rtp_header_bytes(packet: &[u8]) -> Option<usize> {
    let first = packet.first()?;
    if first >> 6 != 2 {
        return None;
    }
    let fixed = 12 + 4 * usize::from(first & 0x0F);
    if first & 0x10 == 0 {
        return (fixed <= packet.len()).then_some(fixed);
    }
    let words = u16::from_be_bytes(packet.get(fixed + 2..fixed + 4)?.try_into().ok()?);
    let whole = fixed + 4 + 4 * usize::from(words);
    (whole <= packet.len()).then_some(whole)
}

fn word_at(packet: &[u8], at: usize) -> Option<u32> {
    let bytes = packet.get(at..at + 4)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

fn sequence_of(packet: &[u8]) -> Option<u16> {
    let bytes = packet.get(2..4)?;
    Some(u16::from_be_bytes(bytes.try_into().ok()?))
}

const RTP_SSRC_AT: usize = 8;
const RTCP_SSRC_AT: usize = 4;
/// The first RTCP header and its sender stay readable (RFC 3711 section 3.4).
const RTCP_HEADER_BYTES: usize = 8;
/// E flag and index.
const INDEX_BYTES: usize = 4;
const ENCRYPTED: u32 = 1 << 31;

#[cfg(test)]
mod tests;
