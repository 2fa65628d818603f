//! When packets came, by the kernel's own stamps: what lay in a socket until its thread looked is not
//! late by the network's doing.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use super::options::set;

/// Asks for stamps on what comes in at a socket. Where the kernel refuses, a packet is taken to have
/// come when it was fetched.
pub(in crate::engine) fn stamp(socket: &UdpSocket) {
    let _unstamped = set(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1);
}

/// A moment on both clocks: ours, and the one that the kernel stamps packets with.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct Moment {
    now: Instant,
    /// Since 1970; `None`: stamps are not to be believed.
    wall: Option<Duration>,
    /// What was there before then was fetched then.
    fetched: Option<Instant>,
}

impl Moment {
    /// All packets come when they are fetched.
    pub(in crate::engine) const fn pushed(now: Instant) -> Self {
        Self {
            now,
            wall: None,
            fetched: None,
        }
    }

    /// Reads both clocks.
    #[expect(
        clippy::disallowed_methods,
        reason = "the engine is a shell: it owns the media clock"
    )]
    pub(super) fn read() -> Self {
        Self {
            now: Instant::now(),
            wall: Some(super::read_clock(libc::CLOCK_REALTIME)),
            fetched: None,
        }
    }

    /// At which is fetched what came after `fetched`, when that was done last.
    pub(in crate::engine) const fn after(self, fetched: Option<Instant>) -> Self {
        Self { fetched, ..self }
    }

    /// The time now, where that is `at_least` later; never where time is pushed.
    pub(in crate::engine) fn later(self, at_least: Duration) -> Option<Self> {
        self.wall?;
        let later = Self::read();
        (later.now.saturating_duration_since(self.now) >= at_least).then_some(later)
    }

    /// Do packets say themselves when they came?
    pub(in crate::engine) const fn is_stamped(self) -> bool {
        self.wall.is_some()
    }

    pub(in crate::engine) const fn now(self) -> Instant {
        self.now
    }

    /// When a packet came that bears this stamp. The wall clock may be set at any time: what it says to
    /// be later than now or long ago is taken to have come now, what it says to have been left the last time,
    /// then.
    pub(in crate::engine) fn came(self, stamp: Option<Duration>) -> Instant {
        let age = self
            .wall
            .zip(stamp)
            .and_then(|(wall, stamp)| wall.checked_sub(stamp))
            .filter(|age| *age < LONG_AGO);
        age.and_then(|age| self.now.checked_sub(age))
            .map(|came| self.fetched.map_or(came, |fetched| came.max(fetched)))
            .unwrap_or(self.now)
    }
}

/// Room for one stamp, aligned as the kernel wants it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct StampRoom([u8; STAMP_BYTES]);

impl StampRoom {
    pub(super) const EMPTY: Self = Self([0; STAMP_BYTES]);

    pub(super) const fn as_mut_ptr(&mut self) -> *mut libc::c_void {
        (&raw mut self.0).cast()
    }
}

/// The stamp that came with a packet.
pub(super) fn stamp_of(header: &libc::msghdr) -> Option<Duration> {
    // SAFETY: the header was filled in by the kernel: what it says of its control messages is true, and
    // they lie in a living [`StampRoom`].
    let message = unsafe { libc::CMSG_FIRSTHDR(header).as_ref()? };
    // SAFETY: only calculates.
    let length = unsafe { libc::CMSG_LEN(size_of::<libc::timespec>() as u32) };
    if message.cmsg_level != libc::SOL_SOCKET
        || message.cmsg_type != libc::SCM_TIMESTAMPNS
        || message.cmsg_len < length as usize
    {
        return None;
    }
    // SAFETY: a whole message of this type carries a timespec, aligned or not.
    let time = unsafe {
        libc::CMSG_DATA(message)
            .cast::<libc::timespec>()
            .read_unaligned()
    };
    let seconds = u64::try_from(time.tv_sec).ok()?;
    let nanos = u32::try_from(time.tv_nsec).ok()?;
    Some(Duration::new(seconds, nanos))
}

/// A header and a timespec.
pub(super) const STAMP_BYTES: usize = 32;
/// What a thread that stood still may find in its sockets.
const LONG_AGO: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::super::Inbox;
    use super::*;

    #[test]
    fn time_goes_on_only_where_it_is_the_systems() {
        let (read, pushed) = (Moment::read(), Moment::pushed(Moment::read().now()));
        std::thread::sleep(Duration::from_millis(3));
        let later = read.later(Duration::from_millis(2)).unwrap();
        assert!(later.now() - read.now() >= Duration::from_millis(3));
        assert!(read.later(Duration::from_secs(60)).is_none());
        assert!(pushed.later(Duration::ZERO).is_none());
    }

    #[test]
    fn a_packet_came_when_the_kernel_took_it_not_when_it_was_fetched() {
        let here = UdpSocket::bind("127.0.0.1:0").unwrap();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut inbox = Inbox::new();
        for stamped in [false, true] {
            if stamped {
                stamp(&here);
            }
            let before = Moment::read().now();
            peer.send_to(b"one", here.local_addr().unwrap()).unwrap();
            let after = Moment::read().now();
            std::thread::sleep(Duration::from_millis(30));
            let fetched = Moment::read();
            assert_eq!(inbox.receive(&here, 4), 1);
            let came = fetched.came(inbox.stamp(0));
            // The clocks are read one after the other.
            let little = Duration::from_millis(1);
            if stamped {
                assert!(came + little >= before && came <= after + little);
            } else {
                assert_eq!(came, fetched.now());
            }
            assert_eq!(Moment::pushed(after).came(inbox.stamp(0)), after);
            assert_eq!(inbox.stamp(1), None);
        }
    }

    #[test]
    fn a_wall_clock_that_was_set_meanwhile_is_not_believed() {
        let moment = Moment::read();
        let wall = moment.wall.unwrap();
        let hour = Duration::from_secs(3_600);
        for wrong in [wall + hour, wall - hour, Duration::ZERO] {
            assert_eq!(moment.came(Some(wrong)), moment.now());
        }
        let age = Duration::from_millis(900);
        assert_eq!(moment.came(Some(wall - age)), moment.now() - age);
        let fetched = moment.now() - Duration::from_millis(20);
        assert_eq!(
            moment.after(Some(fetched)).came(Some(wall - age)),
            fetched,
            "by half a second, say"
        );
    }
}
