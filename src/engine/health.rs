//! What a media thread counts about itself. Written by the thread only, read by the control side.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the lateness histogram; what is later still goes into one more bucket.
pub const LATENESS_BOUNDS: [Duration; 8] = [
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(20),
];

/// One media thread's figures since its start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ThreadHealth {
    /// Is it running? Not so: it has panicked.
    pub alive: bool,
    /// Ticks of 5 ms that were run.
    pub ticks: u64,
    /// Ticks that began more than 5 ms after their time.
    pub late: u64,
    /// Ticks that were not run at all: whole frames are missing.
    pub skipped: u64,
    /// Ticks run right behind another to catch up.
    pub doubled: u64,
    /// Wake-ups by lateness, bounds in [`LATENESS_BOUNDS`].
    pub lateness: [u64; LATENESS_BOUNDS.len() + 1],
    /// The same wake-ups' lateness, summed.
    pub lateness_sum: Duration,
    /// Processor time that the thread has used.
    pub cpu: Duration,
    /// Smoothed share of a core that it uses, 0 to 1.
    pub busy: f32,
    /// Legs on this thread.
    pub legs: usize,
    /// Bridges on this thread.
    pub bridges: usize,
    /// Commands that wait for room in the ring.
    pub commands_backlog: usize,
    /// Telemetry that was dropped because the ring was full.
    pub reports_dropped: u64,
    /// Packets received, from whomever.
    pub packets_in: u64,
    /// Packets sent.
    pub packets_out: u64,
    /// Packets the kernel did not take.
    pub send_errors: u64,
    /// Packets at a shared port from an address that belongs to no leg, or no longer.
    pub unknown_sources: u64,
    /// Packets passed on to the thread of their leg.
    pub forwarded: u64,
    /// Packets that found no room on that way.
    pub forwards_dropped: u64,
    /// Packets for a leg that had left its place when they came there.
    pub strays: u64,
    /// How often a tick left packets for the next one because there were too many.
    pub bounds_reached: u64,
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) ticks: Counter,
    pub(super) late: Counter,
    pub(super) skipped: Counter,
    pub(super) doubled: Counter,
    pub(super) lateness: [Counter; LATENESS_BOUNDS.len() + 1],
    pub(super) lateness_micros: Counter,
    pub(super) reports_dropped: Counter,
    pub(super) packets_in: Counter,
    pub(super) packets_out: Counter,
    pub(super) send_errors: Counter,
    pub(super) unknown_sources: Counter,
    pub(super) forwarded: Counter,
    pub(super) forwards_dropped: Counter,
    pub(super) strays: Counter,
    pub(super) bounds_reached: Counter,
}

/// A number with one writer.
#[derive(Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, count: u64) {
        // One writer: no read-modify-write needed.
        self.0
            .store(self.get().wrapping_add(count), Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    pub(super) fn woke(&self, lateness: Duration) {
        self.lateness_micros.add(lateness.as_micros() as u64);
        let bucket = LATENESS_BOUNDS.iter().position(|bound| lateness <= *bound);
        self.lateness[bucket.unwrap_or(LATENESS_BOUNDS.len())].add(1);
    }

    /// The thread's own figures; what only the control side knows is left at zero.
    pub(super) fn read(&self) -> ThreadHealth {
        ThreadHealth {
            alive: true,
            ticks: self.ticks.get(),
            late: self.late.get(),
            skipped: self.skipped.get(),
            doubled: self.doubled.get(),
            lateness: std::array::from_fn(|bucket| self.lateness[bucket].get()),
            lateness_sum: Duration::from_micros(self.lateness_micros.get()),
            cpu: Duration::ZERO,
            busy: 0.0,
            legs: 0,
            bridges: 0,
            commands_backlog: 0,
            reports_dropped: self.reports_dropped.get(),
            packets_in: self.packets_in.get(),
            packets_out: self.packets_out.get(),
            send_errors: self.send_errors.get(),
            unknown_sources: self.unknown_sources.get(),
            forwarded: self.forwarded.get(),
            forwards_dropped: self.forwards_dropped.get(),
            strays: self.strays.get(),
            bounds_reached: self.bounds_reached.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_is_sorted_into_its_buckets() {
        let counters = Counters::default();
        for micros in [0, 100, 101, 5_000, 5_001, 1_000_000] {
            counters.woke(Duration::from_micros(micros));
        }
        assert_eq!(counters.read().lateness, [2, 1, 0, 0, 0, 1, 1, 0, 1]);
    }
}
