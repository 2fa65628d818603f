//! How late packets are, compared with the fastest ones, and how much delay that asks for.
//!
//! The fastest packets of the last two seconds are the base: following them absorbs the skew between
//! the sender's clock and ours. A histogram of how much slower the others were, with a memory of
//! about five seconds, gives the delay that all but one in a hundred need; what hasn't been seen for
//! ten seconds isn't waited for any more.

use std::time::{Duration, Instant};

use super::trend::Trend;
use crate::media::prefetch::prefetch;

/// Watches arrivals of one stream. All times are in microseconds from the first one.
#[derive(Debug)]
pub(super) struct DelayEstimator {
    tick: TickLength,
    clock: Option<Clock>,
    base: Base,
    trend: Trend,
    histogram: Histogram,
    slowest: Slowest,
    floor: Floor,
}

impl DelayEstimator {
    pub(super) const fn new(clock: u32) -> Self {
        Self {
            tick: TickLength::new(clock),
            clock: None,
            base: Base::EMPTY,
            trend: Trend::EMPTY,
            histogram: Histogram::EMPTY,
            slowest: Slowest::EMPTY,
            floor: Floor { value: 0, since: 0 },
        }
    }

    /// Before a packet is observed.
    pub(super) fn prefetch_arrival(&self) {
        prefetch(&self.trend);
        prefetch(&self.base);
        prefetch(&self.slowest);
        self.histogram.prefetch();
        self.prefetch_clock();
    }

    /// The second step: where the quantile lies.
    pub(super) fn prefetch_quantile(&self) {
        if let Some(weight) = self.histogram.weights.get(self.histogram.quantile) {
            prefetch(weight);
        }
    }

    /// Before it is asked what to aim at.
    pub(super) fn prefetch_playout(&self) {
        prefetch(&self.trend);
        prefetch(&self.base.least);
        prefetch(&self.slowest);
        prefetch(&self.floor);
        prefetch(&self.histogram.quantile);
        self.prefetch_clock();
    }

    fn prefetch_clock(&self) {
        prefetch(&self.clock);
        prefetch(&self.tick);
    }

    /// The stream starts anew after a pause: the path's jitter is remembered, its length is not.
    pub(super) const fn forget_base(&mut self) {
        self.base = Base::EMPTY;
        self.trend = Trend::EMPTY;
    }

    /// Another stream altogether.
    pub(super) const fn reset(&mut self) {
        self.forget_base();
        self.histogram = Histogram::EMPTY;
        self.slowest = Slowest::EMPTY;
        self.floor = Floor { value: 0, since: 0 };
    }

    /// Takes the arrival of a packet; returns how much slower it was than the fastest.
    pub(super) fn observe(&mut self, now: Instant, timestamp: i64) -> i64 {
        let now = self.micros(now);
        let transit = now - self.tick.micros(timestamp);
        let rise = self.base.take(now, transit);
        self.trend.take(now, transit);
        if rise >= JUMP {
            self.histogram.shift_down(bin_of(rise));
        }
        let relative = transit - self.base.value(transit);
        self.histogram.count(bin_of(relative));
        self.slowest.take(now, relative);
        relative
    }

    /// How much slower than the fastest a packet would be that arrived now; `None` without a base.
    pub(super) fn relative(&mut self, now: Instant, timestamp: i64) -> Option<i64> {
        let transit = self.micros(now) - self.tick.micros(timestamp);
        (!self.base.is_empty()).then(|| transit - self.base.value(transit))
    }

    /// The delay to aim at.
    pub(super) fn target(&self, now: i64) -> i64 {
        let most = self.slowest.most();
        self.histogram.delay().min(most).max(self.floor.at(now))
    }

    /// Is a packet that was so much slower one of those that the delay is there for? All of the bin that the target
    /// lies in is: where each other packet is slower by the same, half of what is said lies there.
    pub(super) const fn covers(target: i64, relative: i64) -> bool {
        relative < target + BIN
    }

    /// By how much packets come later for the sender's slow clock, in microseconds per second.
    pub(super) fn later(&self) -> i64 {
        self.trend.later()
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
        self.clock.get_or_insert(Clock::new(now)).micros(now)
    }

    /// So many ticks of the RTP clock.
    pub(super) const fn micros_of(&self, ticks: i64) -> i64 {
        self.tick.micros(ticks)
    }
}

/// Microseconds since the first time that was asked. One packet or frame asks many times for the
/// same moment, so the last answer is kept.
#[derive(Debug, Clone, Copy)]
struct Clock {
    epoch: Instant,
    asked: Instant,
    answer: i64,
}

impl Clock {
    const fn new(epoch: Instant) -> Self {
        Self {
            epoch,
            asked: epoch,
            answer: 0,
        }
    }

    fn micros(&mut self, now: Instant) -> i64 {
        if now != self.asked {
            let since = now.saturating_duration_since(self.epoch);
            self.asked = now;
            self.answer = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
        }
        self.answer
    }
}

/// A tick of the RTP clock in microseconds, as a fraction: telephone clocks need no division.
#[derive(Debug, Clone, Copy)]
struct TickLength {
    numerator: i64,
    denominator: i64,
}

impl TickLength {
    const fn new(clock: u32) -> Self {
        let clock = if clock == 0 { 1 } else { clock as i64 };
        if MICROS % clock == 0 {
            return Self {
                numerator: MICROS / clock,
                denominator: 1,
            };
        }
        Self {
            numerator: MICROS,
            denominator: clock,
        }
    }

    const fn micros(self, ticks: i64) -> i64 {
        let product = ticks.saturating_mul(self.numerator);
        if self.denominator == 1 {
            product
        } else {
            product / self.denominator
        }
    }
}

/// How much slower than the fastest packets were, 1 ms per bin. The n-th packet weighs 1/n of all
/// at first, later 1/`MEMORY`: instead of all others growing lighter, each is heavier than the one
/// before, so that only one bin is touched.
#[derive(Debug)]
struct Histogram {
    weights: [f32; BINS],
    total: f32,
    packets: u32,
    /// The highest bin that at most [`BEYOND_MAX`] of the weight lies above.
    quantile: usize,
    /// What does.
    beyond: f32,
}

impl Histogram {
    const EMPTY: Self = Self {
        weights: [0.0; BINS],
        total: 0.0,
        packets: 0,
        quantile: 0,
        beyond: 0.0,
    };

    /// Where most packets are counted: among the fastest.
    fn prefetch(&self) {
        prefetch(&self.weights[0]);
        prefetch(&self.total);
        prefetch(&self.quantile);
    }

    fn count(&mut self, bin: usize) {
        let weight = match self.packets {
            0 => 1.0,
            others => self.total / others as f32,
        };
        self.packets = (self.packets + 1).min(MEMORY - 1);
        self.total += weight;
        if let Some(place) = self.weights.get_mut(bin) {
            *place += weight;
        }
        if bin > self.quantile {
            self.beyond += weight;
        }
        if self.total > TOTAL_MAX {
            self.rescale();
        }
        self.settle();
    }

    /// The path became longer as a whole: what was slow before is that much less slow now.
    fn shift_down(&mut self, bins: usize) {
        let fastest: f32 = self.weights.iter().take(bins + 1).sum();
        self.weights.copy_within(bins.., 0);
        self.weights
            .iter_mut()
            .rev()
            .take(bins)
            .for_each(|weight| *weight = 0.0);
        if let Some(first) = self.weights.first_mut() {
            *first = fastest;
        }
        self.look_from_above();
    }

    const fn delay(&self) -> i64 {
        self.quantile as i64 * BIN
    }

    fn rescale(&mut self) {
        let factor = 1.0 / self.total;
        self.weights.iter_mut().for_each(|weight| *weight *= factor);
        self.total = 1.0;
        self.look_from_above();
    }

    fn look_from_above(&mut self) {
        self.quantile = BINS - 1;
        self.beyond = 0.0;
        self.settle();
    }

    /// Moves the quantile to where it belongs: by nothing, mostly.
    fn settle(&mut self) {
        let limit = self.total * BEYOND_MAX;
        while self.beyond > limit && self.quantile < BINS - 1 {
            self.quantile += 1;
            self.beyond -= self.weight(self.quantile);
        }
        while self.quantile > 0 && self.beyond + self.weight(self.quantile) <= limit {
            self.beyond += self.weight(self.quantile);
            self.quantile -= 1;
        }
    }

    fn weight(&self, bin: usize) -> f32 {
        self.weights.get(bin).copied().unwrap_or(0.0)
    }
}

fn bin_of(delay: i64) -> usize {
    usize::try_from(delay / BIN).unwrap_or(0).min(BINS - 1)
}

/// How much slower than the fastest the slowest packet of the last seconds was.
#[derive(Debug)]
struct Slowest {
    now: i64,
    /// [`NEVER`] until a whole window has passed.
    before: i64,
    until: i64,
}

impl Slowest {
    const EMPTY: Self = Self {
        now: NEVER,
        before: NEVER,
        until: i64::MIN,
    };

    fn take(&mut self, now: i64, relative: i64) {
        if now >= self.until {
            self.before = self.now;
            self.now = 0;
            self.until = now + SLOWEST_WINDOW;
        }
        self.now = self.now.max(relative);
    }

    fn most(&self) -> i64 {
        self.now.max(self.before)
    }
}

/// The least transit time of the last seconds, by sliding windows.
#[derive(Debug)]
struct Base {
    /// [`NEVER`] where nothing came.
    windows: [i64; WINDOWS],
    least: i64,
    until: i64,
}

impl Base {
    const EMPTY: Self = Self {
        windows: [NEVER; WINDOWS],
        least: NEVER,
        until: i64::MIN,
    };

    /// Returns by how much the base rose because the fastest packets so far are too long ago.
    fn take(&mut self, now: i64, transit: i64) -> i64 {
        let before = self.value(transit);
        if now >= self.until {
            self.windows.rotate_right(1);
            self.windows[0] = NEVER;
            self.until = now + WINDOW;
        }
        self.windows[0] = self.windows[0].min(transit);
        self.least = self.windows.into_iter().fold(NEVER, i64::min);
        self.least - before
    }

    const fn value(&self, otherwise: i64) -> i64 {
        if self.is_empty() {
            otherwise
        } else {
            self.least
        }
    }

    const fn is_empty(&self) -> bool {
        self.least == NEVER
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

const MICROS: i64 = 1_000_000;
/// No transit takes so long.
const NEVER: i64 = i64::MAX;
/// 1 ms.
const BIN: i64 = 1000;
const BINS: usize = 256;
/// Packets.
const MEMORY: u32 = 250;
/// Far from where an `f32` ends; reached once in two minutes.
const TOTAL_MAX: f32 = 1e12;
/// One in a hundred may come too late.
const BEYOND_MAX: f32 = 0.01;
/// Four of half a second: at 2,000 ppm the base lags by at most 4 ms.
const WINDOWS: usize = 4;
const WINDOW: i64 = 500_000;
/// Five seconds.
const SLOWEST_WINDOW: i64 = 5_000_000;
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
    fn jitter_that_is_over_is_forgotten_within_ten_seconds() {
        let mut random = Random::new(1);
        let mut estimator = DelayEstimator::new(8000);
        let asked = target(&mut estimator, 0, 20, |_| 40.0 * f64::from(random.unit()));
        assert!((37..=40).contains(&asked), "{asked}");
        assert!(target(&mut estimator, 20, 4, |_| 0.0) > 30);
        assert_eq!(target(&mut estimator, 24, 7, |_| 0.0), 0);
    }

    #[test]
    fn the_quantile_that_is_kept_is_the_one_that_is_counted() {
        let mut random = Random::new(8);
        let mut histogram = Histogram::EMPTY;
        // Each packet's share of all, worked out the long way.
        let mut shares = [0.0_f64; BINS];
        for n in 1..20_000_u32 {
            let spread = if n / 3_000 % 2 == 0 { 40 } else { 255 };
            let bin = random.below(spread) * random.below(2);
            histogram.count(bin);
            let share = 1.0 / f64::from(n.min(MEMORY));
            shares.iter_mut().for_each(|other| *other *= 1.0 - share);
            shares[bin] += share;
            if n == 10_000 {
                histogram.shift_down(7);
                let fastest = shares[..=7].iter().sum();
                shares.copy_within(7.., 0);
                shares[BINS - 7..].fill(0.0);
                shares[0] = fastest;
            }
            let above = |bin: usize| shares[bin..].iter().sum::<f64>();
            let at = histogram.quantile;
            assert!(above(at + 1) <= 0.0101, "{n}: {} above {at}", above(at + 1));
            assert!(
                at == 0 || above(at) > 0.0099,
                "{n}: only {} from {at}",
                above(at)
            );
        }
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
