//! The sending side of a leg: 20 ms payloads in, RTP packets out, under the leg's own sequence
//! numbers, timestamps and SSRC, which run unbroken whatever the payloads come from.

use std::net::SocketAddr;

use crate::media::codec::{Codec, PAYLOAD_BYTES_MAX};
use crate::media::command::LegSlot;
use crate::media::parameters::MediaParameters;
use crate::media::prefetch::prefetch;
use crate::media::rtp::RtpHeader;
use crate::units::{FRAME, Ptime, RtpTicks, SeqNo, Ssrc};

/// Where packets go: sockets in the engine, a list in tests.
pub trait Transmit {
    /// Sends one RTP packet from the leg's RTP socket.
    fn rtp(&mut self, leg: LegSlot, to: SocketAddr, packet: &[u8]);
    /// Sends one RTCP packet; `muxed`: from the RTP socket (RFC 5761).
    fn rtcp(&mut self, leg: LegSlot, to: SocketAddr, muxed: bool, packet: &[u8]);
    /// This leg will soon be sent something.
    fn prefetch(&self, _leg: LegSlot) {}
    /// What comes next takes long: what was sent until now should not wait for it.
    fn hasten(&mut self) {}
}

/// One encoded 20 ms frame with room for an RTP header before it, so that it can be sent to many
/// with nothing but the header rewritten.
pub struct PacketBuffer {
    bytes: [u8; RTP_HEADER_BYTES + PACKET_PAYLOAD_MAX],
    length: usize,
}

impl Default for PacketBuffer {
    fn default() -> Self {
        Self {
            bytes: [0; RTP_HEADER_BYTES + PACKET_PAYLOAD_MAX],
            length: 0,
        }
    }
}

impl PacketBuffer {
    /// The encoded frame.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.bytes
            .get(RTP_HEADER_BYTES..RTP_HEADER_BYTES + self.length)
            .unwrap_or_default()
    }

    /// Takes a frame that is encoded already. What does not fit is cut off.
    pub fn set_payload(&mut self, payload: &[u8]) {
        self.length = 0;
        self.append(payload);
    }

    /// Lets an encoder write the frame; it returns the length, `None` leaves the buffer empty.
    pub fn fill(&mut self, encode: impl FnOnce(&mut [u8]) -> Option<usize>) {
        let room = self.bytes.get_mut(RTP_HEADER_BYTES..).unwrap_or_default();
        self.length = encode(room).unwrap_or(0).min(PACKET_PAYLOAD_MAX);
    }

    fn append(&mut self, payload: &[u8]) {
        let start = RTP_HEADER_BYTES + self.length;
        let room = self.bytes.get_mut(start..).unwrap_or_default();
        let length = payload.len().min(room.len());
        for (to, from) in room.iter_mut().zip(payload) {
            *to = *from;
        }
        self.length += length;
    }

    fn remove_front(&mut self, length: usize) {
        let start = RTP_HEADER_BYTES + length.min(self.length);
        let end = RTP_HEADER_BYTES + self.length;
        self.bytes.copy_within(start..end, RTP_HEADER_BYTES);
        self.length = end - start;
    }

    /// The packet: this header before the first `length` bytes of payload.
    fn packet(&mut self, header: [u8; RTP_HEADER_BYTES], length: usize) -> &[u8] {
        let length = length.min(self.length);
        if let Some(place) = self.bytes.first_chunk_mut() {
            *place = header;
        }
        self.bytes
            .get(..RTP_HEADER_BYTES + length)
            .unwrap_or_default()
    }
}

/// Sequence number, timestamp and SSRC of one leg, and its cutting of frames to packet times.
pub struct Packetiser {
    codec: Codec,
    payload_type: u8,
    ptime: Ptime,
    ssrc: Ssrc,
    sequence: SeqNo,
    /// Of the next byte to be sent; counts at the codec's RTP clock.
    timestamp: RtpTicks,
    /// The next packet begins a talk spurt (RFC 3551 section 4.1).
    marker: bool,
    /// What waits for its packet to fill, where packets are not one frame.
    waiting: PacketBuffer,
    packets: u32,
    octets: u32,
}

/// Random beginnings (RFC 3550 section 5.1), drawn on the control side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpOrigin {
    /// The synchronisation source.
    pub ssrc: Ssrc,
    /// The first sequence number.
    pub sequence: SeqNo,
    /// The first timestamp.
    pub timestamp: RtpTicks,
}

impl Packetiser {
    /// Starts at `origin`.
    #[must_use]
    pub fn new(parameters: &MediaParameters, origin: RtpOrigin) -> Self {
        Self {
            codec: parameters.codec,
            payload_type: parameters.payload_type_send,
            ptime: parameters.ptime,
            ssrc: origin.ssrc,
            sequence: origin.sequence,
            timestamp: origin.timestamp,
            marker: true,
            waiting: PacketBuffer::default(),
            packets: 0,
            octets: 0,
        }
    }

    /// Goes on under new parameters: sequence, timestamp and SSRC run on; another RTP clock takes
    /// the SSRC of `origin` (RFC 7160 section 4.1).
    pub fn change(&mut self, parameters: &MediaParameters, origin: RtpOrigin) {
        if parameters.codec.rtp_clock() != self.codec.rtp_clock() {
            self.ssrc = origin.ssrc;
            self.timestamp = origin.timestamp;
            self.packets = 0;
            self.octets = 0;
        } else {
            self.timestamp = self.timestamp.plus(self.waiting_ticks());
        }
        self.waiting.length = 0;
        self.marker |= parameters.codec != self.codec;
        self.codec = parameters.codec;
        self.payload_type = parameters.payload_type_send;
        self.ptime = parameters.ptime;
    }

    /// Sends one 20 ms frame, at once where packets are one frame. The frame's buffer is left as
    /// it was but for the header's place.
    pub fn send_frame(&mut self, frame: &mut PacketBuffer, mut send: impl FnMut(&[u8])) {
        if frame.length == 0 {
            self.skip_frames(1, send);
            return;
        }
        let bytes_per_packet = self.bytes_per_packet();
        if self.waiting.length == 0 && bytes_per_packet.is_none_or(|bytes| bytes == frame.length) {
            let header = self.next_header(frame.length, ticks_per_frame(self.codec));
            send(frame.packet(header, frame.length));
            return;
        }
        self.waiting.append(frame.payload());
        while let Some(bytes) = bytes_per_packet.filter(|bytes| *bytes <= self.waiting.length) {
            self.send_waiting(bytes, &mut send);
        }
    }

    /// Time passes without sound: what waits is sent short, the timestamp advances, the sequence
    /// number does not, and the next packet begins a talk spurt.
    pub fn skip_frames(&mut self, frames: u32, mut send: impl FnMut(&[u8])) {
        if frames == 0 {
            return;
        }
        if self.waiting.length > 0 {
            self.send_waiting(self.waiting.length, &mut send);
        }
        self.timestamp = self
            .timestamp
            .plus(frames.wrapping_mul(ticks_per_frame(self.codec)));
        self.marker = true;
    }

    /// The next packet begins a talk spurt.
    pub const fn mark(&mut self) {
        self.marker = true;
    }

    /// Before a frame is sent.
    pub(super) fn prefetch(&self) {
        prefetch(&self.waiting.length);
        prefetch(&self.sequence);
        prefetch(&self.ssrc);
    }

    /// The synchronisation source.
    #[must_use]
    pub const fn ssrc(&self) -> Ssrc {
        self.ssrc
    }

    /// The timestamp of the sound sent next.
    #[must_use]
    pub const fn timestamp(&self) -> RtpTicks {
        self.timestamp
    }

    /// Packets sent under this SSRC.
    #[must_use]
    pub const fn packets(&self) -> u32 {
        self.packets
    }

    /// Payload bytes sent under this SSRC.
    #[must_use]
    pub const fn octets(&self) -> u32 {
        self.octets
    }

    fn send_waiting(&mut self, bytes: usize, send: &mut impl FnMut(&[u8])) {
        let header = self.next_header(bytes, bytes as u32 * TICKS_PER_BYTE);
        send(self.waiting.packet(header, bytes));
        self.waiting.remove_front(bytes);
    }

    const fn waiting_ticks(&self) -> u32 {
        self.waiting.length as u32 * TICKS_PER_BYTE
    }

    /// `None`: a packet is a frame (Opus, whose frames can't be cut).
    const fn bytes_per_packet(&self) -> Option<usize> {
        match self.codec {
            Codec::Pcmu | Codec::Pcma | Codec::G722 => {
                Some(self.ptime.ms() as usize * BYTES_PER_MS)
            }
            Codec::Opus => None,
        }
    }

    fn next_header(&mut self, payload: usize, ticks: u32) -> [u8; RTP_HEADER_BYTES] {
        let mut header = [0; RTP_HEADER_BYTES];
        let fields = RtpHeader {
            marker: self.marker,
            payload_type: self.payload_type,
            sequence: self.sequence,
            timestamp: self.timestamp,
            ssrc: self.ssrc,
        };
        let written = fields.write(&mut header);
        debug_assert_eq!(written, Some(RTP_HEADER_BYTES));
        self.sequence = self.sequence.next();
        self.timestamp = self.timestamp.plus(ticks);
        self.marker = false;
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(payload as u32);
        header
    }
}

const fn ticks_per_frame(codec: Codec) -> u32 {
    codec.rtp_clock() / 1000 * FRAME.as_millis() as u32
}

const RTP_HEADER_BYTES: usize = RtpHeader::LEN;
/// G.711 and G.722 carry 64 kbit/s: a byte is 1/8 ms, and one tick of their 8 kHz RTP clock.
const BYTES_PER_MS: usize = 8;
const TICKS_PER_BYTE: u32 = 1;
/// 60 ms and a frame of the byte-stream codecs, or one frame of Opus.
const PACKET_PAYLOAD_MAX: usize = if PAYLOAD_BYTES_MAX > 80 * BYTES_PER_MS {
    PAYLOAD_BYTES_MAX
} else {
    80 * BYTES_PER_MS
};

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(codec: Codec, ptime: u32) -> MediaParameters {
        MediaParameters {
            ptime: Ptime::nearest(ptime),
            ..MediaParameters::plain(codec, "127.0.0.1:4000".parse().unwrap())
        }
    }

    const ORIGIN: RtpOrigin = RtpOrigin {
        ssrc: Ssrc(0x0102_0304),
        sequence: SeqNo(0xFFFF),
        timestamp: RtpTicks(0xFFFF_FFB0),
    };

    fn frame(length: usize, value: u8) -> PacketBuffer {
        let mut frame = PacketBuffer::default();
        frame.set_payload(&vec![value; length]);
        frame
    }

    /// (marker, sequence, timestamp, payload length) of each packet.
    fn sent(packetiser: &mut Packetiser, frames: &[usize]) -> Vec<(bool, u16, u32, usize)> {
        let mut out = Vec::new();
        for length in frames {
            packetiser.send_frame(&mut frame(*length, 0x55), |packet| out.push(read(packet)));
        }
        out
    }

    fn read(p: &[u8]) -> (bool, u16, u32, usize) {
        let timestamp = u32::from_be_bytes([p[4], p[5], p[6], p[7]]);
        (
            p[1] & 0x80 != 0,
            u16::from_be_bytes([p[2], p[3]]),
            timestamp,
            p.len() - 12,
        )
    }

    #[test]
    fn a_packet_is_a_header_of_twelve_bytes_and_the_frame() {
        let mut packetiser = Packetiser::new(&parameters(Codec::Pcma, 20), ORIGIN);
        let mut packets = Vec::new();
        packetiser.send_frame(&mut frame(160, 0xD5), |packet| {
            packets.push(packet.to_vec())
        });
        let mut expected = vec![0x80, 0x88, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xB0, 1, 2, 3, 4];
        expected.extend([0xD5; 160]);
        assert_eq!(packets, [expected]);
    }

    #[test]
    fn sequence_and_timestamp_run_on_over_their_wraps() {
        let mut packetiser = Packetiser::new(&parameters(Codec::G722, 20), ORIGIN);
        let packets = sent(&mut packetiser, &[160, 160, 160]);
        assert_eq!(
            packets,
            [
                (true, 0xFFFF, 0xFFFF_FFB0, 160),
                (false, 0, 0x50, 160),
                (false, 1, 0xF0, 160)
            ]
        );
    }

    #[test]
    fn frames_are_cut_and_joined_to_the_packet_time() {
        let at = |ms| {
            let mut packetiser = Packetiser::new(
                &parameters(Codec::Pcmu, ms),
                RtpOrigin {
                    sequence: SeqNo(0),
                    timestamp: RtpTicks(0),
                    ..ORIGIN
                },
            );
            sent(&mut packetiser, &[160; 6])
                .iter()
                .map(|p| (p.2, p.3))
                .collect::<Vec<_>>()
        };
        assert_eq!(at(10), (0..12).map(|n| (n * 80, 80)).collect::<Vec<_>>());
        assert_eq!(at(30), [(0, 240), (240, 240), (480, 240), (720, 240)]);
        assert_eq!(at(40), [(0, 320), (320, 320), (640, 320)]);
        assert_eq!(at(60), [(0, 480), (480, 480)]);
    }

    #[test]
    fn missed_frames_advance_the_timestamp_but_not_the_sequence() {
        let mut packetiser = Packetiser::new(&parameters(Codec::Opus, 20), ORIGIN);
        sent(&mut packetiser, &[70]);
        packetiser.skip_frames(3, |_| panic!("nothing waits"));
        let timestamp = 0xFFFF_FFB0_u32.wrapping_add(4 * 960);
        assert_eq!(sent(&mut packetiser, &[71]), [(true, 0, timestamp, 71)]);
    }

    #[test]
    fn what_waits_is_sent_before_a_gap() {
        let mut packetiser = Packetiser::new(
            &parameters(Codec::Pcmu, 40),
            RtpOrigin {
                sequence: SeqNo(7),
                timestamp: RtpTicks(0),
                ..ORIGIN
            },
        );
        assert!(sent(&mut packetiser, &[160]).is_empty());
        let mut short = Vec::new();
        packetiser.skip_frames(2, |packet| short.push(read(packet)));
        assert_eq!(short, [(true, 7, 0, 160)]);
        assert_eq!(sent(&mut packetiser, &[160, 160]), [(true, 8, 480, 320)]);
    }

    #[test]
    fn the_same_clock_keeps_the_ssrc_and_another_takes_a_new_one() {
        let mut packetiser = Packetiser::new(&parameters(Codec::Pcmu, 20), ORIGIN);
        sent(&mut packetiser, &[160]);
        let other = RtpOrigin {
            ssrc: Ssrc(9),
            sequence: SeqNo(500),
            timestamp: RtpTicks(5),
        };
        packetiser.change(&parameters(Codec::G722, 20), other);
        assert_eq!(packetiser.ssrc(), ORIGIN.ssrc);
        assert_eq!(sent(&mut packetiser, &[160]), [(true, 0, 0x50, 160)]);
        packetiser.change(&parameters(Codec::Opus, 20), other);
        assert_eq!(packetiser.ssrc(), Ssrc(9));
        assert_eq!(sent(&mut packetiser, &[60]), [(true, 1, 5, 60)]);
    }
}
