//! Packets on their way from the thread that received them at a shared port to the one that their
//! leg lives on: a bounded ring of bytes for each pair of threads.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use rtrb::{Consumer, Producer, RingBuffer};

use crate::engine::io::PACKET_BYTES;
use crate::media::command::LegSlot;
use crate::units::LegId;

/// What is told of a packet beside its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Envelope {
    /// Its leg's place on the thread it goes to.
    pub(super) slot: LegSlot,
    /// Who is meant: the place may be another's by the time it arrives.
    pub(super) leg: LegId,
    /// Did it come to the RTCP socket?
    pub(super) is_rtcp: bool,
    /// Who sent it.
    pub(super) from: SocketAddr,
    /// When it was received.
    pub(super) at: Instant,
}

/// The end that packets go in at.
pub(super) struct LinkIn {
    ring: Producer<u8>,
    epoch: Instant,
}

/// The end that they come out of.
pub(super) struct LinkOut {
    ring: Consumer<u8>,
    epoch: Instant,
    packet: Box<[u8; PACKET_BYTES]>,
}

/// A link's two ends.
pub(super) fn link(epoch: Instant) -> (LinkIn, LinkOut) {
    let (put, take) = RingBuffer::new(LINK_BYTES);
    let into = LinkIn { ring: put, epoch };
    let out = LinkOut {
        ring: take,
        epoch,
        packet: Box::new([0; PACKET_BYTES]),
    };
    (into, out)
}

impl LinkIn {
    /// Passes a packet on. `false`: there is no room for it.
    pub(super) fn push(&mut self, envelope: &Envelope, packet: &[u8]) -> bool {
        let has_room =
            packet.len() <= PACKET_BYTES && self.ring.slots() >= ENVELOPE_BYTES + packet.len();
        let written = has_room
            && self
                .ring
                .push_entire_slice(&envelope.write(packet.len() as u16, self.epoch))
                .is_ok();
        written && self.ring.push_entire_slice(packet).is_ok()
    }
}

impl LinkOut {
    /// The next packet, once all of it is there.
    pub(super) fn pop(&mut self) -> Option<(Envelope, &[u8])> {
        let mut bytes = [0; ENVELOPE_BYTES];
        copy_out(&self.ring.read_chunk(ENVELOPE_BYTES).ok()?, &mut bytes);
        let (envelope, length) = Envelope::read(&bytes, self.epoch);
        if self.ring.slots() < ENVELOPE_BYTES + length {
            return None;
        }
        self.ring.pop_entire_slice(&mut bytes).ok()?;
        let packet = self.packet.get_mut(..length)?;
        self.ring.pop_entire_slice(packet).ok()?;
        Some((envelope, packet))
    }
}

/// Reads without taking.
fn copy_out(chunk: &rtrb::chunks::ReadChunk<'_, u8>, to: &mut [u8; ENVELOPE_BYTES]) {
    let (front, back) = chunk.as_slices();
    for (to, from) in to.iter_mut().zip(front.iter().chain(back)) {
        *to = *from;
    }
}

impl Envelope {
    fn write(&self, length: u16, epoch: Instant) -> [u8; ENVELOPE_BYTES] {
        let ip = match self.from.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let nanos = self.at.saturating_duration_since(epoch).as_nanos() as u64;
        let mut bytes = [0; ENVELOPE_BYTES];
        bytes[..16].copy_from_slice(&ip.octets());
        bytes[16..24].copy_from_slice(&nanos.to_ne_bytes());
        bytes[24..28].copy_from_slice(&self.slot.0.to_ne_bytes());
        bytes[28..30].copy_from_slice(&self.from.port().to_ne_bytes());
        bytes[30..32].copy_from_slice(&length.to_ne_bytes());
        bytes[32..40].copy_from_slice(&self.leg.0.to_ne_bytes());
        bytes[40] = u8::from(self.is_rtcp);
        bytes
    }

    fn read(bytes: &[u8; ENVELOPE_BYTES], epoch: Instant) -> (Self, usize) {
        let field = |at: usize| [bytes[at], bytes[at + 1]];
        let ip: [u8; 16] = std::array::from_fn(|at| bytes[at]);
        let nanos = u64::from_ne_bytes(std::array::from_fn(|at| bytes[16 + at]));
        let envelope = Self {
            slot: LegSlot(u32::from_ne_bytes(std::array::from_fn(|at| bytes[24 + at]))),
            leg: LegId(u64::from_ne_bytes(std::array::from_fn(|at| bytes[32 + at]))),
            is_rtcp: bytes[40] != 0,
            from: SocketAddr::new(
                Ipv6Addr::from(ip).to_canonical(),
                u16::from_ne_bytes(field(28)),
            ),
            at: epoch + Duration::from_nanos(nanos),
        };
        (envelope, usize::from(u16::from_ne_bytes(field(30))))
    }
}

/// So many legs may send to one link for a whole frame before it is emptied.
pub(super) const LEGS_PER_LINK: usize = 300;
/// Address, time, slot, port, length, leg, channel.
const ENVELOPE_BYTES: usize = 41;
/// The packets of 600 legs in a frame, of 2,400 in a tick.
const LINK_BYTES: usize = 128 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::seeded;

    fn envelope(start: Instant, n: u32) -> Envelope {
        let from = if n.is_multiple_of(2) {
            "192.0.2.7:4000"
        } else {
            "[2001:db8::7]:65535"
        };
        Envelope {
            slot: LegSlot(n),
            leg: LegId(u64::MAX - u64::from(n)),
            is_rtcp: n.is_multiple_of(3),
            from: from.parse().unwrap(),
            at: start + Duration::from_nanos(u64::from(n) * 1_000_003),
        }
    }

    #[test]
    fn packets_come_out_as_they_went_in_around_the_end_of_the_ring() {
        let start = seeded::start();
        let (mut put, mut take) = link(start);
        let packet = |n: u32| vec![n as u8; (n as usize * 37) % PACKET_BYTES];
        for n in 0..2_000 {
            assert!(put.push(&envelope(start, n), &packet(n)));
            if n > 20 {
                let (came, bytes) = take.pop().unwrap();
                assert_eq!(
                    (came, bytes),
                    (envelope(start, n - 21), &packet(n - 21)[..])
                );
            }
        }
        assert_eq!(std::iter::from_fn(|| take.pop().map(|_| ())).count(), 21);
    }

    #[test]
    fn a_full_link_takes_nothing_more_and_loses_nothing_it_took() {
        let start = seeded::start();
        let (mut put, mut take) = link(start);
        let took = (0..10_000)
            .take_while(|n| put.push(&envelope(start, *n), &[1; 172]))
            .count();
        assert_eq!(took, LINK_BYTES / (ENVELOPE_BYTES + 172));
        for n in 0..took {
            assert_eq!(take.pop().unwrap().0, envelope(start, n as u32));
        }
        assert!(take.pop().is_none());
        assert!(!put.push(&envelope(start, 1), &[0; PACKET_BYTES + 1]));
    }

    #[test]
    fn half_a_packet_is_left_where_it_is() {
        let start = seeded::start();
        let (mut put, mut take) = link(start);
        let whole = envelope(start, 4).write(3, put.epoch);
        put.ring.push_entire_slice(&whole).unwrap();
        assert!(take.pop().is_none());
        put.ring.push_entire_slice(&[1, 2, 3]).unwrap();
        assert_eq!(take.pop(), Some((envelope(start, 4), &[1, 2, 3][..])));
    }
}
