//! The engine's system calls: waiting for an absolute time, which sockets have packets, and
//! fetching a batch of them. The only `unsafe` of the engine.

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::{Duration, Instant};

/// Tells which of many sockets have packets.
pub(super) struct Poller {
    epoll: OwnedFd,
    ready: Vec<libc::epoll_event>,
}

impl Poller {
    /// An empty set; `batch` sockets are reported at once.
    pub(super) fn new(batch: usize) -> io::Result<Self> {
        // SAFETY: no pointers; the result is checked before it is used.
        let epoll = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: a fresh descriptor that nobody else owns.
        let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
        Ok(Self {
            epoll,
            ready: vec![libc::epoll_event { events: 0, u64: 0 }; batch],
        })
    }

    /// Watches a socket under a mark.
    pub(super) fn add(&self, socket: &UdpSocket, mark: u64) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: mark,
        };
        self.control(libc::EPOLL_CTL_ADD, socket, &raw mut event)
    }

    /// Watches it no more.
    pub(super) fn remove(&self, socket: &UdpSocket) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, socket, ptr::null_mut())
    }

    /// How many sockets have packets now; never waits.
    pub(super) fn poll(&mut self) -> usize {
        let room = i32::try_from(self.ready.len()).unwrap_or(i32::MAX);
        // SAFETY: `ready` has room for that many events and outlives the call.
        let count =
            unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), self.ready.as_mut_ptr(), room, 0) };
        usize::try_from(count).unwrap_or(0)
    }

    /// The mark of the `index`th of them.
    pub(super) fn mark(&self, index: usize) -> Option<u64> {
        self.ready.get(index).map(|event| event.u64)
    }

    /// Most that [`Self::poll`] reports.
    pub(super) const fn batch(&self) -> usize {
        self.ready.len()
    }

    fn control(
        &self,
        operation: i32,
        socket: &UdpSocket,
        event: *mut libc::epoll_event,
    ) -> io::Result<()> {
        // SAFETY: both descriptors are open, `event` is null or points to a living event.
        check(unsafe {
            libc::epoll_ctl(self.epoll.as_raw_fd(), operation, socket.as_raw_fd(), event)
        })?;
        Ok(())
    }
}

/// Room for one batch of packets from one socket.
pub(super) struct Inbox {
    buffers: Box<[[u8; PACKET_BYTES]; BATCH]>,
    senders: Box<[libc::sockaddr_storage; BATCH]>,
    lengths: [usize; BATCH],
}

impl Inbox {
    pub(super) fn new() -> Self {
        // SAFETY: all zeros is a valid address storage (family "unspecified").
        let nobody: libc::sockaddr_storage = unsafe { mem::zeroed() };
        Self {
            buffers: Box::new([[0; PACKET_BYTES]; BATCH]),
            senders: Box::new([nobody; BATCH]),
            lengths: [0; BATCH],
        }
    }

    /// Fetches up to [`BATCH`] packets without waiting; 0 also where the socket reports an error.
    pub(super) fn receive(&mut self, socket: &UdpSocket) -> usize {
        // SAFETY: all zeros is a valid message header: null pointers, no lengths.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { mem::zeroed() };
        let mut parts: [libc::iovec; BATCH] = std::array::from_fn(|index| libc::iovec {
            iov_base: self.buffers[index].as_mut_ptr().cast(),
            iov_len: PACKET_BYTES,
        });
        for (index, header) in headers.iter_mut().enumerate() {
            header.msg_hdr.msg_name = (&raw mut self.senders[index]).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as u32;
            header.msg_hdr.msg_iov = &raw mut parts[index];
            header.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: the headers point into `parts`, `senders` and `buffers`, which outlive the call
        // and are as long as the headers say; a null timeout is allowed.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as u32,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        for (length, header) in self.lengths.iter_mut().zip(&headers) {
            let cut = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            *length = if cut { 0 } else { header.msg_len as usize };
        }
        usize::try_from(count).unwrap_or(0)
    }

    /// The `index`th packet of the batch and who sent it; `None` for what was larger than any
    /// packet of ours.
    pub(super) fn packet(&self, index: usize) -> Option<(SocketAddr, &[u8])> {
        let length = *self.lengths.get(index)?;
        let from = address(self.senders.get(index)?)?;
        let packet = self.buffers.get(index)?.get(..length)?;
        (length > 0).then_some((from, packet))
    }
}

/// Waits for the ticks of an engine, on the monotonic clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sleeper {
    epoch: Instant,
    at_epoch: Duration,
}

impl Sleeper {
    /// Reads the clock twice, once in either notation.
    #[expect(
        clippy::disallowed_methods,
        reason = "the engine is a shell: it owns the media clock"
    )]
    pub(super) fn new() -> Self {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: `time` is a living timespec.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
        let at_epoch = Duration::new(
            time.tv_sec.unsigned_abs(),
            u32::try_from(time.tv_nsec).unwrap_or(0),
        );
        Self {
            epoch: Instant::now(),
            at_epoch,
        }
    }

    /// The time from which ticks are counted.
    pub(super) const fn epoch(&self) -> Instant {
        self.epoch
    }

    /// Sleeps until `since_epoch`, returns the time then.
    #[expect(
        clippy::disallowed_methods,
        reason = "the engine is a shell: it owns the media clock"
    )]
    pub(super) fn sleep_until(&self, since_epoch: Duration) -> Instant {
        let until = self.at_epoch + since_epoch;
        let time = libc::timespec {
            tv_sec: libc::time_t::try_from(until.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(until.subsec_nanos() as i32),
        };
        // SAFETY: `time` is a living timespec; no remainder is asked for. A signal that ends the
        // sleep early makes an early tick, which does nothing.
        unsafe {
            libc::clock_nanosleep(
                libc::CLOCK_MONOTONIC,
                libc::TIMER_ABSTIME,
                &raw const time,
                ptr::null_mut(),
            )
        };
        Instant::now()
    }
}

fn address(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the kernel wrote an IPv4 address, as the family says; the storage is large
            // enough and aligned for it.
            let v4 = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Some(SocketAddr::new(IpAddr::V4(ip), u16::from_be(v4.sin_port)))
        }
        libc::AF_INET6 => {
            // SAFETY: as above, an IPv6 address.
            let v6 = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            Some(SocketAddr::new(IpAddr::V6(ip), u16::from_be(v6.sin6_port)))
        }
        _ => None,
    }
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Packets fetched by one call.
pub(super) const BATCH: usize = 16;
/// No agreed packet is longer: 60 ms of G.711 with header and extensions, or any Opus packet.
const PACKET_BYTES: usize = 1_600;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ready_socket_is_told_by_its_mark_and_its_packets_come_with_their_sender() {
        let here = UdpSocket::bind("127.0.0.1:0").unwrap();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut poller = Poller::new(4).unwrap();
        poller.add(&here, 77).unwrap();
        assert_eq!(poller.poll(), 0);
        peer.send_to(b"one", here.local_addr().unwrap()).unwrap();
        peer.send_to(b"two!", here.local_addr().unwrap()).unwrap();
        assert_eq!(poller.poll(), 1);
        assert_eq!(poller.mark(0), Some(77));
        let mut inbox = Inbox::new();
        assert_eq!(inbox.receive(&here), 2);
        let from = peer.local_addr().unwrap();
        assert_eq!(inbox.packet(0), Some((from, &b"one"[..])));
        assert_eq!(inbox.packet(1), Some((from, &b"two!"[..])));
        assert_eq!(inbox.receive(&here), 0);
        poller.remove(&here).unwrap();
    }

    #[test]
    fn an_oversized_packet_is_passed_over() {
        let here = UdpSocket::bind("[::1]:0").unwrap();
        let peer = UdpSocket::bind("[::1]:0").unwrap();
        peer.send_to(&[0x80; 3_000], here.local_addr().unwrap())
            .unwrap();
        peer.send_to(b"after", here.local_addr().unwrap()).unwrap();
        let mut inbox = Inbox::new();
        assert_eq!(inbox.receive(&here), 2);
        assert_eq!(inbox.packet(0), None);
        assert_eq!(
            inbox.packet(1),
            Some((peer.local_addr().unwrap(), &b"after"[..]))
        );
    }

    #[test]
    fn sleeping_ends_at_its_time_and_not_before() {
        let sleeper = Sleeper::new();
        let woken = sleeper.sleep_until(Duration::from_millis(12));
        assert!(woken.duration_since(sleeper.epoch()) >= Duration::from_micros(11_900));
    }
}
