//! What the system knows: clocks, a process' time and memory, cores, the machine.

use std::fs;
use std::io;
use std::mem;
use std::process::Command;
use std::time::Duration;

/// Nanoseconds of the clock that packets are stamped with.
pub(crate) fn now() -> u64 {
    read_clock(libc::CLOCK_REALTIME)
}

/// Sleeps until a time of that clock.
pub(crate) fn sleep_until(at: u64) {
    let time = libc::timespec {
        tv_sec: (at / SECOND) as i64,
        tv_nsec: (at % SECOND) as i64,
    };
    // SAFETY: `time` is a living timespec; no remainder is asked for.
    unsafe {
        libc::clock_nanosleep(
            libc::CLOCK_REALTIME,
            libc::TIMER_ABSTIME,
            &raw const time,
            std::ptr::null_mut(),
        );
    }
}

fn read_clock(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a living timespec.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec as u64 * SECOND + time.tv_nsec as u64
}

/// Binds the calling thread, and what it starts from then on, to one core. It stays free where the system
/// does not let it.
pub(crate) fn stay_on(core: usize) {
    // SAFETY: a cpu_set_t of zeros is an empty set; CPU_SET writes inside it, for the cores named here are few;
    // the kernel only reads it.
    unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
    }
}

/// Asks that a command run on one core.
pub(crate) fn bind_to_core(command: &mut Command, core: usize) -> &mut Command {
    use std::os::unix::process::CommandExt as _;
    let bind = move || {
        stay_on(core);
        Ok(())
    };
    // SAFETY: between fork and exec only a system call is made and memory of its own is written.
    unsafe { command.pre_exec(bind) }
}

/// As many descriptors as this process may have, for it and what it starts.
pub(crate) fn allow_many_sockets() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a living rlimit, written by one call and read by the other.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
    }
}

/// User and system time of a process, also of its threads that have ended meanwhile, by its own clock (ns).
pub(crate) fn cpu_time(pid: u32) -> io::Result<Duration> {
    let mut clock = 0;
    // SAFETY: `clock` is a living clockid_t, which the call writes.
    let error = unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &raw mut clock) };
    match error {
        0 => Ok(Duration::from_nanos(read_clock(clock))),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Resident memory of a process, KiB.
pub(crate) fn resident_kib(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.and_then(|n| n.parse().ok()).unwrap_or(0))
}

/// All its cores together: time that was used by anybody, and time that went by (clock ticks).
pub(crate) fn machine_time() -> (u64, u64) {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let fields: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .take(8)
        .filter_map(|n| n.parse().ok())
        .collect();
    let idle: u64 = fields.iter().skip(3).take(2).sum();
    let all: u64 = fields.iter().sum();
    (all - idle, all)
}

/// Processor, cores, memory and kernel, in a line.
pub(crate) fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let value = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key));
        let value = line.and_then(|line| line.split_once(':'));
        value.map_or("?".into(), |(_, value)| value.trim().to_owned())
    };
    // Of all cores, not only of the one that this program stays on.
    let processors = read("/proc/cpuinfo");
    let cores = processors
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let memory = value(&read("/proc/meminfo"), "MemTotal");
    let memory: u64 = memory
        .split(' ')
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    format!(
        "{} ({cores} cores), {} GiB, Linux {}",
        value(&read("/proc/cpuinfo"), "model name"),
        (memory + (1 << 19)) >> 20,
        read("/proc/sys/kernel/osrelease").trim(),
    )
}

/// Nanoseconds.
pub(crate) const SECOND: u64 = 1_000_000_000;
/// Nanoseconds.
pub(crate) const MILLISECOND: u64 = 1_000_000;
