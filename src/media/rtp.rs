//! RTP packets (RFC 3550 section 5.1): a checked, borrowed view of what came in, and the header of
//! what goes out. The reading is `rtp-rs`; this is its only adapter.
#![deny(clippy::indexing_slicing)]

use rtp_rs::RtpReader;

use crate::units::{RtpTicks, SeqNo, Ssrc};

/// A received packet whose length, version, CSRC list, extension and padding are sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpPacket<'a> {
    /// The fixed header.
    pub header: RtpHeader,
    /// The header extension, where there is one (RFC 3550 section 5.3.1).
    pub extension: Option<RtpExtension<'a>>,
    /// What is left without header, extension and padding. May be empty.
    pub payload: &'a [u8],
}

/// A header extension, not looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpExtension<'a> {
    /// What kind it is.
    pub profile: u16,
    /// Whole words of 32 bits.
    pub data: &'a [u8],
}

impl<'a> RtpPacket<'a> {
    /// Reads one datagram.
    ///
    /// # Errors
    /// [`RtpError`] when the bytes are not one whole RTP packet of version 2.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, RtpError> {
        let reader = RtpReader::new(bytes).map_err(|_| RtpError)?;
        Ok(Self {
            header: RtpHeader {
                marker: reader.mark(),
                payload_type: reader.payload_type(),
                sequence: SeqNo(reader.sequence_number().into()),
                timestamp: RtpTicks(reader.timestamp()),
                ssrc: Ssrc(reader.ssrc()),
            },
            extension: reader
                .extension()
                .map(|(profile, data)| RtpExtension { profile, data }),
            payload: reader.payload(),
        })
    }
}

/// The fixed RTP header, without CSRCs or extension: all that a leg sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpHeader {
    /// First packet of a talkspurt or of a key press.
    pub marker: bool,
    /// Payload type, 0 to 127.
    pub payload_type: u8,
    /// Sequence number.
    pub sequence: SeqNo,
    /// Timestamp, in ticks of the payload type's clock.
    pub timestamp: RtpTicks,
    /// Synchronisation source.
    pub ssrc: Ssrc,
}

impl RtpHeader {
    /// Bytes that [`Self::write`] fills.
    pub const LEN: usize = 12;

    /// Writes the header to the start of `buffer`; `None` when it is shorter than [`Self::LEN`].
    #[must_use]
    pub fn write(&self, buffer: &mut [u8]) -> Option<usize> {
        let out = buffer.first_chunk_mut::<{ Self::LEN }>()?;
        let [s0, s1] = self.sequence.0.to_be_bytes();
        let [t0, t1, t2, t3] = self.timestamp.0.to_be_bytes();
        let [c0, c1, c2, c3] = self.ssrc.0.to_be_bytes();
        let second = u8::from(self.marker) << 7 | (self.payload_type & 0x7F);
        *out = [VERSION << 6, second, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3];
        Some(Self::LEN)
    }
}

/// Is this RTCP on a port shared with RTP (RFC 5761 section 4)? Says nothing about its soundness.
#[must_use]
pub fn is_rtcp(packet: &[u8]) -> bool {
    matches!(packet, [first, 192..=223, ..] if first >> 6 == VERSION)
}

/// Is this STUN or DTLS on a port shared with RTP (RFC 7983 section 7)? Says nothing about its soundness.
#[must_use]
pub const fn is_handshake(packet: &[u8]) -> bool {
    matches!(packet, [0..=3 | 20..=63, ..])
}

/// Not an RTP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a whole RTP packet of version 2")]
pub struct RtpError;

/// RFC 3550's version of the protocol.
const VERSION: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: [u8; 14] = [
        0x80, 0x80, 0x12, 0x34, 0, 0, 0, 160, 0xCA, 0xFE, 0xBA, 0xBE, 0xFF, 0x7F,
    ];

    /// Two CSRCs, an extension of one word, three bytes of padding.
    const FULL: [u8; 33] = [
        0xB2, 0x08, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x60, 0, 0, 0, 7, // header
        0, 0, 0, 1, 0, 0, 0, 2, // CSRC
        0xBE, 0xDE, 0, 1, 0x10, 0x80, 0, 0, // extension
        0xD5, 0x55, // payload
        0, 0, 3, // padding
    ];

    #[test]
    fn a_plain_packet_is_read_field_by_field() {
        let packet = RtpPacket::parse(&PLAIN).unwrap();
        assert!(packet.header.marker);
        assert_eq!(packet.header.payload_type, 0);
        assert_eq!(packet.header.sequence, SeqNo(0x1234));
        assert_eq!(packet.header.timestamp, RtpTicks(160));
        assert_eq!(packet.header.ssrc, Ssrc(0xCAFE_BABE));
        assert_eq!(packet.payload, [0xFF, 0x7F]);
        assert_eq!(packet.extension, None);
    }

    #[test]
    fn csrcs_extension_and_padding_are_not_payload() {
        let packet = RtpPacket::parse(&FULL).unwrap();
        assert_eq!(packet.payload, [0xD5, 0x55]);
        let extension = RtpExtension {
            profile: 0xBEDE,
            data: &[0x10, 0x80, 0, 0],
        };
        assert_eq!(packet.extension, Some(extension));
        assert_eq!(packet.header.timestamp, RtpTicks(0xFFFF_FF60));
        assert!(!packet.header.marker);
    }

    #[test]
    fn every_truncation_of_the_headers_is_refused() {
        for len in 0..28 {
            let mut short = FULL[..len].to_vec();
            if let Some(first) = short.first_mut() {
                *first &= !0x20; // without padding, so that only the length is wrong
            }
            assert!(RtpPacket::parse(&short).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn padding_longer_than_the_packet_and_other_versions_are_refused() {
        let mut padded = FULL;
        padded[32] = 30;
        assert!(RtpPacket::parse(&padded).is_err());
        padded[32] = 0;
        assert!(RtpPacket::parse(&padded).is_err());
        let mut version = PLAIN;
        version[0] = 0x40;
        assert!(RtpPacket::parse(&version).is_err());
    }

    #[test]
    fn a_written_header_is_literal_and_reads_back() {
        let header = RtpPacket::parse(&PLAIN).unwrap().header;
        let mut out = [0_u8; 16];
        assert_eq!(header.write(&mut out), Some(12));
        assert_eq!(out[..12], PLAIN[..12]);
        assert_eq!(header.write(&mut out[..11]), None);
    }

    #[test]
    fn rtcp_is_told_from_rtp_by_its_second_byte() {
        assert!(is_rtcp(&[0x80, 200, 0, 6]));
        assert!(!is_rtcp(&PLAIN));
        assert!(!is_rtcp(&[0x80, 0x80 | 101]));
        assert!(!is_rtcp(&[]));
    }

    #[test]
    fn a_handshake_is_told_from_media_by_its_first_byte() {
        let are: Vec<u8> = (0..=255)
            .filter(|first| is_handshake(&[*first, 0]))
            .collect();
        assert_eq!(are.len(), 4 + 44);
        assert!([0, 3, 20, 63].iter().all(|first| are.contains(first)));
        assert!(!is_handshake(&[]) && !is_handshake(&PLAIN));
    }

    #[test]
    fn no_bytes_panic() {
        let mut random = crate::media::seeded::Random::new(1);
        for _ in 0..30_000 {
            let mut bytes = FULL;
            for _ in 0..=random.below(6) {
                bytes[random.below(33)] = random.next_u32() as u8;
            }
            let len = random.below(34);
            if let Ok(packet) = RtpPacket::parse(&bytes[..len]) {
                let extension = packet.extension.map_or(0, |extension| extension.data.len());
                assert!(packet.payload.len() + extension + 12 <= len);
            }
        }
    }
}
