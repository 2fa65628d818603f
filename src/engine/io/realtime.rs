//! What keeps a media thread on time on a machine that has other work: a real-time priority, and memory that
//! is never swapped out. Both need a right that most users don't have.

use std::io;
use std::os::unix::thread::JoinHandleExt;
use std::thread::JoinHandle;

/// Lets a thread run before all that isn't real-time, first come first served (sched(7), `SCHED_FIFO`).
///
/// # Errors
/// `EPERM` without `CAP_SYS_NICE` and with an `RLIMIT_RTPRIO` below the priority.
pub(in crate::engine) fn prioritise(thread: &JoinHandle<()>) -> io::Result<()> {
    let parameters = libc::sched_param {
        sched_priority: PRIORITY,
    };
    // SAFETY: the handle is not joined, so the thread's descriptor is still there; the parameters outlive the
    // call.
    let error = unsafe {
        libc::pthread_setschedparam(
            thread.as_pthread_t(),
            libc::SCHED_FIFO,
            &raw const parameters,
        )
    };
    if error == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(error))
    }
}

/// Keeps in memory whatever this process has touched or will touch (mlockall(2)).
///
/// # Errors
/// `ENOMEM` or `EPERM` without `CAP_IPC_LOCK` and with a small `RLIMIT_MEMLOCK`.
pub(in crate::engine) fn lock_memory() -> io::Result<()> {
    // SAFETY: no pointers. Pages are locked once they are used, so that a thread's unused stack costs nothing.
    super::check(unsafe {
        libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT)
    })?;
    Ok(())
}

/// Above all that isn't real-time, below the kernel's own threads for interrupts (50).
const PRIORITY: libc::c_int = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_runs_first_or_one_is_told_why_not() {
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            let _closed = wait.recv();
        });
        let prioritised = prioritise(&thread);
        let (mut policy, mut parameters) = (0, libc::sched_param { sched_priority: 0 });
        // SAFETY: the thread is not joined; both places outlive the call.
        unsafe {
            libc::pthread_getschedparam(
                thread.as_pthread_t(),
                &raw mut policy,
                &raw mut parameters,
            );
        }
        match prioritised {
            Ok(()) => assert_eq!((policy, parameters.sched_priority), (libc::SCHED_FIFO, 10)),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
                assert_eq!(policy, libc::SCHED_OTHER);
            }
        }
        drop(done);
        thread.join().unwrap();
    }
}
