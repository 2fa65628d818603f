//! Sending many packets through one socket with one call. They are copied into
//! buffers of its own, so that the sender's one buffer serves for the next packet at once.

use std::mem;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr;

use super::PACKET_BYTES;
use super::address::RawAddress;

/// Packets that wait to be sent through one socket.
pub(in crate::engine) struct Outbox {
    buffers: Box<[[u8; PACKET_BYTES]; BATCH]>,
    receivers: Box<[RawAddress; BATCH]>,
    parts: Box<[libc::iovec; BATCH]>,
    headers: Box<[libc::mmsghdr; BATCH]>,
    count: usize,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::engine) struct Sent {
    /// Packets that the kernel took.
    pub(in crate::engine) packets: u64,
    /// Packets that it didn't.
    pub(in crate::engine) errors: u64,
}

// SAFETY: the raw pointers in `parts` and `headers` are written before each call, lead into this
// outbox's own boxes, and are read by nobody else.
unsafe impl Send for Outbox {}

impl Outbox {
    pub(in crate::engine) fn new() -> Self {
        let part = libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        };
        // SAFETY: all zeros is a valid message header: null pointers, no lengths.
        let header: libc::mmsghdr = unsafe { mem::zeroed() };
        Self {
            buffers: Box::new([[0; PACKET_BYTES]; BATCH]),
            receivers: Box::new([RawAddress::empty(); BATCH]),
            parts: Box::new([part; BATCH]),
            headers: Box::new([header; BATCH]),
            count: 0,
        }
    }

    /// Takes a packet to be sent. `false`: it is longer than any packet of ours, or there is no
    /// room.
    pub(in crate::engine) fn push(&mut self, to: SocketAddr, packet: &[u8]) -> bool {
        let index = self.count;
        let Some(room) = self
            .buffers
            .get_mut(index)
            .and_then(|buffer| buffer.get_mut(..packet.len()))
        else {
            return false;
        };
        room.copy_from_slice(packet);
        self.receivers[index].set(to);
        self.parts[index].iov_len = packet.len();
        self.count += 1;
        true
    }

    /// Is there no room for another one?
    pub(in crate::engine) const fn is_full(&self) -> bool {
        self.count == BATCH
    }

    /// Sends what waits. A packet that the kernel refuses is passed over; where it has no room
    /// left at all, so is the rest.
    pub(in crate::engine) fn flush(&mut self, socket: &UdpSocket) -> Sent {
        let count = mem::take(&mut self.count);
        self.prepare(count);
        let mut sent = Sent::default();
        let mut next = 0;
        while next < count {
            let taken = self.send(socket, next, count);
            sent.packets += taken as u64;
            next += taken;
            if taken == 0 {
                let is_full = std::io::Error::last_os_error().kind() == FULL;
                let lost = if is_full { count - next } else { 1 };
                sent.errors += lost as u64;
                next += lost;
            }
        }
        sent
    }

    fn prepare(&mut self, count: usize) {
        let places = self.buffers.iter_mut().zip(self.receivers.iter_mut());
        let heads = self.headers.iter_mut().zip(self.parts.iter_mut());
        for ((buffer, receiver), (header, part)) in places.zip(heads).take(count) {
            part.iov_base = buffer.as_mut_ptr().cast();
            header.msg_hdr.msg_name = (&raw mut receiver.storage).cast();
            header.msg_hdr.msg_namelen = receiver.length;
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
        }
    }

    /// How many of the packets from `first` on the kernel took.
    fn send(&mut self, socket: &UdpSocket, first: usize, end: usize) -> usize {
        let Some(headers) = self.headers.get_mut(first..end) else {
            return 0;
        };
        // SAFETY: `prepare` has pointed these headers into `parts`, `receivers` and `buffers`,
        // which outlive the call; the lengths are those of what was written there.
        let count = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                headers.len() as libc::c_uint,
                libc::MSG_DONTWAIT,
            )
        };
        usize::try_from(count).unwrap_or(0)
    }
}

/// Packets sent by one call.
pub(in crate::engine) const BATCH: usize = 64;
const FULL: std::io::ErrorKind = std::io::ErrorKind::WouldBlock;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_arrives_in_order_each_at_its_own_address() {
        let here = UdpSocket::bind("127.0.0.1:0").unwrap();
        let peers: Vec<_> = (0..2)
            .map(|_| UdpSocket::bind("127.0.0.1:0").unwrap())
            .collect();
        let mut outbox = Outbox::new();
        for n in 0..BATCH {
            assert!(!outbox.is_full());
            let to = peers[n % 2].local_addr().unwrap();
            assert!(outbox.push(to, &vec![n as u8; n + 1]));
        }
        assert!(outbox.is_full() && !outbox.push(here.local_addr().unwrap(), b"no room"));
        let sent = outbox.flush(&here);
        assert_eq!((sent.packets, sent.errors), (BATCH as u64, 0));
        assert_eq!(outbox.flush(&here), Sent::default());
        let mut buffer = [0; 100];
        for n in 0..BATCH {
            let (length, from) = peers[n % 2].recv_from(&mut buffer).unwrap();
            assert_eq!((length, from), (n + 1, here.local_addr().unwrap()));
            assert_eq!(buffer[..length], vec![n as u8; n + 1]);
        }
    }

    #[test]
    fn a_packet_that_is_refused_takes_none_with_it() {
        let here = UdpSocket::bind("127.0.0.1:0").unwrap();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut outbox = Outbox::new();
        outbox.push(peer.local_addr().unwrap(), b"first");
        // An IPv4 socket reaches no IPv6 address.
        outbox.push("[2001:db8::1]:9".parse().unwrap(), b"nowhere");
        outbox.push(peer.local_addr().unwrap(), b"last");
        let sent = outbox.flush(&here);
        assert_eq!((sent.packets, sent.errors), (2, 1));
        let mut buffer = [0; 100];
        for expected in [&b"first"[..], b"last"] {
            let (length, _) = peer.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], expected);
        }
    }

    #[test]
    fn what_is_longer_than_any_packet_is_not_taken() {
        let mut outbox = Outbox::new();
        let to = "127.0.0.1:9".parse().unwrap();
        assert!(!outbox.push(to, &[0; PACKET_BYTES + 1]));
        assert!(outbox.push(to, &[0; PACKET_BYTES]));
    }
}
