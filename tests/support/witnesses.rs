//! What this machine did while something was measured on it, to be told from what the node did. The phones run in the
//! test's own process, on the node's cores; so do timers that do nothing but notice how late they are woken: a bare
//! one that the node's ticks are compared with, one more on each core (a virtual core may stand still alone), and one
//! on the phones' thread.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

#[derive(Debug, Default)]
pub(crate) struct Witnesses {
    begin: OnceLock<Instant>,
    end: OnceLock<Instant>,
    pub(crate) bare: Witness,
    pub(crate) cores: Witness,
    pub(crate) phones: Witness,
}

/// A timer, or several that stand for the same.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    ticks: AtomicU64,
    late: AtomicU64,
    stalls: Mutex<Vec<Stall>>,
}

/// A timer came back, and so much too late.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stall {
    pub(crate) back: Instant,
    pub(crate) late: Duration,
}

impl Witnesses {
    /// Those with threads of their own, until the end.
    pub(crate) fn watch(self: &Arc<Self>) -> Vec<JoinHandle<()>> {
        let on = |core: Option<usize>| {
            let all = Arc::clone(self);
            thread::spawn(move || {
                if let Some(core) = core {
                    stay_on(core);
                }
                let witness = if core.is_some() {
                    &all.cores
                } else {
                    &all.bare
                };
                let mut next = Instant::now() + TICK;
                while !all.has_ended() {
                    sleep(next.saturating_duration_since(Instant::now()));
                    next = witness.woke(&all, next);
                }
            })
        };
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let cores = (0..cores).map(Some);
        std::iter::once(None).chain(cores).map(on).collect()
    }

    /// The one on the thread that runs it.
    pub(crate) async fn watch_phones(self: Arc<Self>) {
        let mut next = Instant::now() + TICK;
        while !self.has_ended() {
            tokio::time::sleep_until(next.into()).await;
            next = self.phones.woke(&self, next);
        }
    }

    pub(crate) fn begin(&self) {
        self.begin.set(Instant::now()).expect("it begins once");
    }

    pub(crate) fn end(&self) {
        self.end.set(Instant::now()).expect("it ends once");
    }

    pub(crate) fn began(&self) -> Option<Instant> {
        self.begin.get().copied()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.end.get().is_some()
    }

    pub(crate) fn is_measured(&self, at: Instant) -> bool {
        self.began().is_some_and(|began| at >= began)
    }

    /// Was one of them held up so badly, about the time of this slice, that a gap proves nothing?
    pub(crate) fn explain(&self, slice: Instant) -> bool {
        self.all().iter().any(|(_, w)| w.stalled(slice))
    }

    pub(crate) const fn all(&self) -> [(&str, &Witness); 3] {
        [
            ("bare timer", &self.bare),
            ("core", &self.cores),
            ("phones", &self.phones),
        ]
    }
}

impl Witness {
    /// Counts a wake-up, as the engine does: what is missed meanwhile is not counted. The next one's time.
    fn woke(&self, all: &Witnesses, due: Instant) -> Instant {
        let back = Instant::now();
        let late = back.saturating_duration_since(due);
        if all.is_measured(due) {
            self.ticks.fetch_add(1, Ordering::Relaxed);
            self.late
                .fetch_add(u64::from(late > TICK), Ordering::Relaxed);
            if late > STALL {
                let mut stalls = self.stalls.lock().expect("nobody panics with it");
                stalls.push(Stall { back, late });
            }
        }
        due + TICK * (1 + (late.as_nanos() / TICK.as_nanos()) as u32)
    }

    fn stalled(&self, slice: Instant) -> bool {
        self.stalls().iter().any(|stall| {
            stall.back + STALL_REACH >= slice
                && stall.back - stall.late <= slice + SLICE + STALL_REACH
        })
    }

    pub(crate) fn stalls(&self) -> Vec<Stall> {
        self.stalls.lock().expect("nobody panics with it").clone()
    }

    pub(crate) fn late_share(&self) -> f64 {
        self.late.load(Ordering::Relaxed) as f64 / self.ticks.load(Ordering::Relaxed) as f64
    }
}

/// The node's ticks so far, of all media threads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticks {
    pub(crate) all: f64,
    pub(crate) in_time: f64,
    pub(crate) within_20_ms: f64,
}

impl Ticks {
    /// As `/metrics` tell them.
    pub(crate) fn told(metrics: &str) -> Self {
        let bucket = |bound: &str| -> f64 {
            let name = format!("voicebridge_tick_lateness_seconds_bucket{{le=\"{bound}\",");
            let lines = metrics.lines().filter(|line| line.starts_with(&name));
            let counts = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
            counts
                .reduce(|a, b| a + b)
                .unwrap_or_else(|| panic!("no bucket {bound} in:\n{metrics}"))
        };
        Self {
            all: bucket("+Inf"),
            in_time: bucket("0.005"),
            within_20_ms: bucket("0.02"),
        }
    }

    pub(crate) fn late_share_since(&self, before: &Self) -> f64 {
        1.0 - (self.in_time - before.in_time) / (self.all - before.all)
    }
}

/// Binds the calling thread to one core; where that is not allowed it stays free.
pub(crate) fn stay_on(core: usize) {
    // SAFETY: a cpu_set_t of zeros is an empty set; CPU_SET writes inside it, for `core` is below 1,024
    // on any machine that tests run on; the kernel only reads it.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
    }
}

/// What phones listen for at a time.
pub(crate) const SLICE: Duration = Duration::from_millis(100);
const TICK: Duration = Duration::from_millis(5);
/// A gap of 60 ms is 40 ms more than the packets' own 20; a witness this late was not scheduled either.
const STALL: Duration = Duration::from_millis(20);
const STALL_REACH: Duration = Duration::from_millis(60);
