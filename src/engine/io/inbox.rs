//! Fetching packets, a batch at a time.

use std::mem;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr;
use std::time::Duration;

use super::PACKET_BYTES;
use super::address::RawAddress;
use super::stamp::{STAMP_BYTES, StampRoom, stamp_of};

/// Room for one batch of packets from one socket.
pub(in crate::engine) struct Inbox {
    buffers: Box<[[u8; PACKET_BYTES]; BATCH]>,
    senders: Box<[RawAddress; BATCH]>,
    stamps: Box<[StampRoom; BATCH]>,
    parts: Box<[libc::iovec; BATCH]>,
    headers: Box<[libc::mmsghdr; BATCH]>,
    count: usize,
}

// SAFETY: the raw pointers in `parts` and `headers` are written before each call, lead into this
// inbox's own boxes, and are read by nobody else.
unsafe impl Send for Inbox {}

impl Inbox {
    pub(in crate::engine) fn new() -> Self {
        let part = libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        };
        // SAFETY: all zeros is a valid message header: null pointers, no lengths.
        let header: libc::mmsghdr = unsafe { mem::zeroed() };
        Self {
            buffers: Box::new([[0; PACKET_BYTES]; BATCH]),
            senders: Box::new([RawAddress::empty(); BATCH]),
            stamps: Box::new([StampRoom::EMPTY; BATCH]),
            parts: Box::new([part; BATCH]),
            headers: Box::new([header; BATCH]),
            count: 0,
        }
    }

    /// Fetches up to `most` packets, [`BATCH`] at most, without waiting; 0 also where the socket
    /// reports an error.
    pub(in crate::engine) fn receive(&mut self, socket: &UdpSocket, most: usize) -> usize {
        let most = most.min(BATCH);
        self.prepare(most);
        // SAFETY: the first `most` headers point into `parts`, `senders`, `stamps` and `buffers`, which
        // outlive the call and are as long as the headers say; a null timeout is allowed.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                most as libc::c_uint,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        self.count = usize::try_from(count).unwrap_or(0);
        self.count
    }

    /// Fetches one packet, as [`Self::receive`] would: without asking for a second one, which costs a
    /// quarter as much.
    pub(in crate::engine) fn receive_one(&mut self, socket: &UdpSocket) -> usize {
        self.prepare(1);
        let header = &mut self.headers[0];
        // SAFETY: the header points into the first of `parts`, `senders`, `stamps` and `buffers`, which
        // outlive the call and are as long as it says.
        let length = unsafe {
            libc::recvmsg(
                socket.as_raw_fd(),
                &raw mut header.msg_hdr,
                libc::MSG_DONTWAIT,
            )
        };
        header.msg_len = u32::try_from(length).unwrap_or(0);
        self.count = usize::from(length >= 0);
        self.count
    }

    /// The `index`th packet of the batch and who sent it; `None` for what was larger than any
    /// packet of ours.
    pub(in crate::engine) fn packet(&self, index: usize) -> Option<(SocketAddr, &[u8])> {
        let header = self.headers.get(index).filter(|_| index < self.count)?;
        let is_cut = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
        let from = self.senders.get(index)?.get()?;
        let packet = self.buffers.get(index)?.get(..header.msg_len as usize)?;
        (!is_cut && !packet.is_empty()).then_some((from, packet))
    }

    /// When the kernel took the `index`th packet of the batch in, by the wall clock; `None` where the
    /// socket doesn't [`stamp`](super::stamp()).
    pub(in crate::engine) fn stamp(&self, index: usize) -> Option<Duration> {
        let header = self.headers.get(index).filter(|_| index < self.count)?;
        stamp_of(&header.msg_hdr)
    }

    fn prepare(&mut self, most: usize) {
        let places = self.buffers.iter_mut().zip(self.senders.iter_mut());
        let places = places.zip(self.stamps.iter_mut());
        let heads = self.headers.iter_mut().zip(self.parts.iter_mut());
        for (((buffer, sender), stamp), (header, part)) in places.zip(heads).take(most) {
            part.iov_base = buffer.as_mut_ptr().cast();
            part.iov_len = PACKET_BYTES;
            header.msg_hdr.msg_name = (&raw mut sender.storage).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = stamp.as_mut_ptr();
            header.msg_hdr.msg_controllen = STAMP_BYTES as _;
            header.msg_hdr.msg_flags = 0;
        }
    }
}

/// Packets fetched by one call.
pub(in crate::engine) const BATCH: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_come_with_their_sender_and_not_more_than_asked_for() {
        let here = UdpSocket::bind("127.0.0.1:0").unwrap();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        for packet in [&b"one"[..], b"two!", b"three"] {
            peer.send_to(packet, here.local_addr().unwrap()).unwrap();
        }
        let mut inbox = Inbox::new();
        let from = peer.local_addr().unwrap();
        assert_eq!(inbox.receive(&here, 2), 2);
        assert_eq!(inbox.packet(0), Some((from, &b"one"[..])));
        assert_eq!(inbox.packet(1), Some((from, &b"two!"[..])));
        assert_eq!(inbox.receive(&here, BATCH), 1);
        assert_eq!(inbox.packet(0), Some((from, &b"three"[..])));
        assert_eq!(inbox.packet(1), None, "of the batch before");
        assert_eq!(inbox.receive(&here, 1), 0);
    }

    #[test]
    fn an_oversized_packet_is_passed_over() {
        let here = UdpSocket::bind("[::1]:0").unwrap();
        let peer = UdpSocket::bind("[::1]:0").unwrap();
        peer.send_to(&[0x80; 3_000], here.local_addr().unwrap())
            .unwrap();
        peer.send_to(b"after", here.local_addr().unwrap()).unwrap();
        let mut inbox = Inbox::new();
        assert_eq!(inbox.receive(&here, BATCH), 2);
        assert_eq!(inbox.packet(0), None);
        assert_eq!(
            inbox.packet(1),
            Some((peer.local_addr().unwrap(), &b"after"[..]))
        );
    }
}
