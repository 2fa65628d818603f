//! How late packets are, compared with the fastest ones, and how much delay that asks for.
//!
//! The fastest packets of the last two seconds are the base: following them absorbs the skew between
//! the sender's clock and ours. A histogram of how much slower the others were, with a memory of
//! about five seconds, gives the delay that all but one in a hundred need.

use std::time::{Duration, Instant};

/// Watches arrivals of one stream. All times are in microseconds from the first one.
#[derive(Debug)]
pub(super) struct DelayEstimator {
    clock: i64,
    epoch: Option<Instant>,
    base: Base,
    histogram: [f32; BINS],
    packets: u32,
    floor: Floor,
}

impl DelayEstimator {
    pub(super) fn new(clock: u32) -> Self {
        Self {
            clock: i64::from(clock.max(1)),
            epoch: None,
            base: Base::EMPTY,
            histogram: [0.0; BINS],
            packets: 0,
            floor: Floor { value: 0, since: 0 },
        }
    }

    /// The stream starts anew after a pause: the path's jitter is remembered, its length is not.
    pub(super) fn forget_base(&mut self) {
        self.base = Base::EMPTY;
    }

    /// Another stream altogether.
    pub(super) fn reset(&mut self) {
        *self = Self {
            epoch: self.epoch,
            ..Self::new(u32::try_from(self.clock).unwrap_or(1))
        };
    }

    /// Takes the arrival of a packet; returns how much slower it was than the fastest.
    pub(super) fn observe(&mut self, now: Instant, timestamp: i64) -> i64 {
        let now = self.micros(now);
        let transit = now - self.timestamp_micros(timestamp);
        let rise = self.base.take(now, transit);
        if rise >= JUMP {
            self.shift_down(rise);
        }
        let relative = transit - self.base.value(transit);
        self.count(relative);
        relative
    }

    /// How much slower than the fastest a packet would be that arrived now; `None` without a base.
    pub(super) fn relative(&mut self, now: Instant, timestamp: i64) -> Option<i64> {
        let transit = self.micros(now) - self.timestamp_micros(timestamp);
        (!self.base.is_empty()).then(|| transit - self.base.value(transit))
    }

    /// The delay to aim at.
    pub(super) fn target(&self, now: i64) -> i64 {
        self.quantile().max(self.floor.at(now))
    }

    /// A packet came so late that the delay had to grow at once: hold that for a while.
    pub(super) fn raise(&mut self, now: i64, to: i64) {
        if to > self.floor.at(now) {
            self.floor = Floor {
                value: to,
                since: now,
            };
        }
    }

    pub(super) fn micros(&mut self, now: Instant) -> i64 {
        let epoch = *self.epoch.get_or_insert(now);
        let since = now.saturating_duration_since(epoch);
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    }

    fn timestamp_micros(&self, timestamp: i64) -> i64 {
        timestamp.saturating_mul(1_000_000) / self.clock
    }

    /// The n-th packet weighs 1/n at first, later 1/`MEMORY`.
    fn count(&mut self, relative: i64) {
        self.packets = (self.packets + 1).min(MEMORY);
        let share = 1.0 / self.packets as f32;
        self.histogram
            .iter_mut()
            .for_each(|weight| *weight *= 1.0 - share);
        let bin = usize::try_from(relative / BIN).unwrap_or(0).min(BINS - 1);
        if let Some(weight) = self.histogram.get_mut(bin) {
            *weight += share;
        }
    }

    /// The path became longer as a whole: what was slow before is that much less slow now.
    fn shift_down(&mut self, by: i64) {
        let bins = usize::try_from(by / BIN).unwrap_or(0).min(BINS - 1);
        let fastest: f32 = self.histogram.iter().take(bins + 1).sum();
        self.histogram.copy_within(bins.., 0);
        self.histogram
            .iter_mut()
            .rev()
            .take(bins)
            .for_each(|weight| *weight = 0.0);
        if let Some(first) = self.histogram.first_mut() {
            *first = fastest;
        }
    }

    fn quantile(&self) -> i64 {
        let mut beyond = 0.0_f32;
        for (bin, weight) in self.histogram.iter().enumerate().rev() {
            beyond += weight;
            if beyond > BEYOND_MAX {
                return bin as i64 * BIN;
            }
        }
        0
    }
}

/// The least transit time of the last seconds, by sliding windows.
#[derive(Debug)]
struct Base {
    windows: [Option<i64>; WINDOWS],
    until: i64,
}

impl Base {
    const EMPTY: Self = Self {
        windows: [None; WINDOWS],
        until: i64::MIN,
    };

    /// Returns by how much the base rose because the fastest packets so far are too long ago.
    fn take(&mut self, now: i64, transit: i64) -> i64 {
        let before = self.value(transit);
        if now >= self.until {
            self.windows.rotate_right(1);
            self.windows[0] = None;
            self.until = now + WINDOW;
        }
        self.windows[0] = Some(self.windows[0].map_or(transit, |least| least.min(transit)));
        self.value(transit) - before
    }

    fn value(&self, otherwise: i64) -> i64 {
        self.windows
            .iter()
            .flatten()
            .min()
            .copied()
            .unwrap_or(otherwise)
    }

    fn is_empty(&self) -> bool {
        self.windows.iter().all(Option::is_none)
    }
}

/// A delay that is held, then let go slowly.
#[derive(Debug, Clone, Copy)]
struct Floor {
    value: i64,
    since: i64,
}

impl Floor {
    const fn at(self, now: i64) -> i64 {
        let over = now - self.since - HOLD;
        let fallen = if over > 0 {
            over / 1000 * FALL_PER_MS
        } else {
            0
        };
        let left = self.value - fallen;
        if left > 0 { left } else { 0 }
    }
}

/// 1 ms.
const BIN: i64 = 1000;
const BINS: usize = 256;
/// Packets.
const MEMORY: u32 = 250;
/// One in a hundred may come too late.
const BEYOND_MAX: f32 = 0.01;
/// Four of half a second: at 2,000 ppm the base lags by at most 4 ms.
const WINDOWS: usize = 4;
const WINDOW: i64 = 500_000;
/// More than skew does within a window.
const JUMP: i64 = 10_000;
/// Two seconds, then 10 ms per second.
const HOLD: i64 = 2_000_000;
const FALL_PER_MS: i64 = 10;

/// A path that is this much off is another one.
pub(super) const PLAUSIBLE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::seeded::{self, Random};

    /// Target after `seconds` of 20 ms packets, each delayed by `delay(ms)` milliseconds.
    fn target(
        estimator: &mut DelayEstimator,
        from: u64,
        seconds: u64,
        mut delay: impl FnMut(u64) -> f64,
    ) -> i64 {
        let start = seeded::start();
        let mut end = 0;
        for ms in (from * 1000..(from + seconds) * 1000).step_by(20) {
            let now = start + Duration::from_secs_f64((ms as f64 + 500.0 + delay(ms)) / 1000.0);
            estimator.observe(now, ms as i64 * 8);
            end = estimator.micros(now);
        }
        estimator.target(end) / 1000
    }

    #[test]
    fn a_clean_path_asks_for_nothing() {
        let mut estimator = DelayEstimator::new(8000);
        assert_eq!(target(&mut estimator, 0, 10, |_| 30.0), 0);
    }

    #[test]
    fn jitter_asks_for_its_highest_percent() {
        let mut random = Random::new(1);
        let mut estimator = DelayEstimator::new(8000);
        let asked = target(&mut estimator, 0, 20, |_| 40.0 * f64::from(random.unit()));
        assert!((37..=40).contains(&asked), "{asked}");
        let calm = target(&mut estimator, 20, 40, |_| 0.0);
        assert_eq!(calm, 0);
    }

    #[test]
    fn skew_is_not_mistaken_for_jitter() {
        for ppm in [2000.0, -2000.0] {
            let mut estimator = DelayEstimator::new(8000);
            let asked = target(&mut estimator, 0, 120, |ms| 1000.0 + ms as f64 * ppm / 1e6);
            assert!(asked <= 4, "{ppm}: {asked} ms");
        }
    }

    #[test]
    fn a_longer_path_is_the_new_base_within_two_seconds() {
        let mut estimator = DelayEstimator::new(8000);
        target(&mut estimator, 0, 10, |_| 0.0);
        assert_eq!(target(&mut estimator, 10, 1, |_| 80.0), 80);
        assert_eq!(target(&mut estimator, 11, 2, |_| 80.0), 0);
    }

    #[test]
    fn a_raised_target_is_held_then_let_go() {
        let mut estimator = DelayEstimator::new(8000);
        estimator.raise(0, 50_000);
        assert_eq!(estimator.target(1_900_000), 50_000);
        assert_eq!(estimator.target(4_000_000), 30_000);
        assert_eq!(estimator.target(8_000_000), 0);
    }
}
