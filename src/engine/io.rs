//! The engine's system calls: waiting for an absolute time, which sockets have packets, and, below,
//! fetching and sending them in batches. The only `unsafe` of the engine.

mod address;
mod inbox;
mod options;
mod outbox;
mod realtime;
mod stamp;

use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::thread::JoinHandleExt;
use std::ptr;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub(super) use inbox::{BATCH, Inbox};
pub(super) use options::{RECEIVE_BYTES, enlarge, expedite, keep_whole, packets_kept};
pub(super) use outbox::{Outbox, Sent};
pub(super) use realtime::{lock_memory, prioritise};
pub(super) use stamp::{Moment, stamp};

/// Tells which of many sockets have packets (epoll(7), level-triggered): what is left in a socket is told
/// again. To ask about it once more costs less than a read that finds nothing.
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

    /// How many sockets have packets; never waits.
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
        let at_epoch = read_clock(libc::CLOCK_MONOTONIC);
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
    pub(super) fn sleep_until(&self, since_epoch: Duration) -> Moment {
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
        Moment::read()
    }
}

/// Processor time that a thread has used; zero once it has ended.
pub(super) fn thread_cpu(thread: &JoinHandle<()>) -> Duration {
    let mut clock = 0;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the handle is not joined, so the thread's descriptor is still there, even where the
    // thread has ended; both results are written only on success.
    unsafe {
        if libc::pthread_getcpuclockid(thread.as_pthread_t(), &raw mut clock) == 0 {
            libc::clock_gettime(clock, &raw mut time);
        }
    }
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// What a clock of the system shows.
fn read_clock(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a living timespec.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// No packet that is taken is longer: 120 ms of G.711 with header and extensions, or any Opus packet.
pub(super) const PACKET_BYTES: usize = 1_600;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_with_packets_is_told_by_its_mark() {
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
        for _ in 0..2 {
            assert_eq!(poller.poll(), 1);
            assert_eq!(inbox.receive_one(&here), 1);
        }
        assert_eq!(poller.poll(), 0);
        peer.send_to(b"three", here.local_addr().unwrap()).unwrap();
        poller.remove(&here).unwrap();
        assert_eq!(poller.poll(), 0);
    }

    #[test]
    fn a_thread_s_processor_time_is_its_own() {
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let (worked, ready) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            let mut sum = 0_u64;
            for n in 0..20_000_000 {
                sum = std::hint::black_box(sum + n);
            }
            worked.send(()).unwrap();
            wait.recv().unwrap_err();
        });
        ready.recv().unwrap();
        let used = thread_cpu(&thread);
        assert!(used > Duration::from_micros(500), "{used:?}");
        std::thread::sleep(Duration::from_millis(30));
        let idle = thread_cpu(&thread) - used;
        assert!(idle < Duration::from_millis(5), "{idle:?}");
        drop(done);
        thread.join().unwrap();
    }

    #[test]
    fn sleeping_ends_at_its_time_and_not_before() {
        let sleeper = Sleeper::new();
        let woken = sleeper.sleep_until(Duration::from_millis(12));
        assert!(woken.now().duration_since(sleeper.epoch()) >= Duration::from_micros(11_900));
    }
}
