//! Whether the sender's clock is slower than ours: then each packet has a little less time than the one
//! before, and a time comes at which it has none. Who sees that come can wait for a pause.

/// The fastest packets of the last quarter of a minute, two seconds at a time. Microseconds.
#[derive(Debug)]
pub(super) struct Trend {
    /// Transit times, the newest first.
    fastest: [i64; WINDOWS],
    filled: usize,
    current: Option<i64>,
    until: i64,
}

impl Trend {
    pub(super) const EMPTY: Self = Self {
        fastest: [0; WINDOWS],
        filled: 0,
        current: None,
        until: i64::MIN,
    };

    /// A packet's transit time.
    pub(super) fn take(&mut self, now: i64, transit: i64) {
        if now >= self.until {
            self.close(now);
            self.until = now + WINDOW;
        }
        self.current = Some(self.current.map_or(transit, |least| least.min(transit)));
    }

    /// By how much packets come later, per second; 0 where they don't, or where that isn't known.
    pub(super) fn later(&self) -> i64 {
        let Some(oldest) = self
            .filled
            .checked_sub(1)
            .filter(|steps| *steps >= STEPS_MIN)
        else {
            return 0;
        };
        let first = self.fastest.get(oldest).copied().unwrap_or(0);
        let rise = (self.fastest[0] - first) * SECOND / (oldest as i64 * WINDOW);
        if rise <= RISE_MAX { rise.max(0) } else { 0 }
    }

    /// A window without packets, or in which the path changed, says nothing of clocks, nor do those
    /// before it.
    fn close(&mut self, now: i64) {
        let whole = self.until > i64::MIN && now < self.until + WINDOW;
        let Some(least) = self.current.take().filter(|_| whole) else {
            self.filled = 0;
            return;
        };
        let jumped = (least - self.fastest[0]).abs() > RISE_MAX * WINDOW / SECOND;
        if self.filled > 0 && jumped {
            self.filled = 0;
        }
        self.fastest.rotate_right(1);
        self.fastest[0] = least;
        self.filled = (self.filled + 1).min(WINDOWS);
    }
}

const SECOND: i64 = 1_000_000;
const WINDOW: i64 = 2 * SECOND;
const WINDOWS: usize = 8;
/// Between windows: what jitter does to the fastest packet of two seconds is little against that.
const STEPS_MIN: usize = 2;
/// 4,000 ppm: no clock is worse than half of that.
const RISE_MAX: i64 = 4_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::seeded::Random;

    /// After so many seconds of packets of 20 ms, with a transit time each.
    fn later(
        trend: &mut Trend,
        from: i64,
        seconds: i64,
        mut transit: impl FnMut(i64) -> i64,
    ) -> i64 {
        for now in (from * SECOND..(from + seconds) * SECOND).step_by(20_000) {
            trend.take(now, transit(now));
        }
        trend.later()
    }

    #[test]
    fn a_slow_clock_is_known_within_seconds_and_to_a_few_ppm_in_spite_of_jitter() {
        for ppm in [100, 2_000] {
            let mut trend = Trend::EMPTY;
            assert_eq!(later(&mut trend, 0, 8, |now| now * ppm / SECOND), ppm);
            let mut random = Random::new(3);
            let mut trend = Trend::EMPTY;
            let jittered = later(&mut trend, 0, 60, |now| {
                now * ppm / SECOND + (random.unit() * 40_000.0) as i64
            });
            assert!((jittered - ppm).abs() < 100, "{jittered}");
        }
    }

    #[test]
    fn a_fast_clock_a_steady_one_and_another_path_bring_nothing_later() {
        let mut trend = Trend::EMPTY;
        assert_eq!(later(&mut trend, 0, 20, |now| -now / 500), 0);
        assert_eq!(later(&mut trend, 20, 20, |_| 0), 0);
        for seconds in [1, 4, 20] {
            assert_eq!(later(&mut trend, 40, seconds, |_| 30_000), 0, "{seconds} s");
        }
    }

    #[test]
    fn what_was_before_a_pause_is_forgotten() {
        let mut trend = Trend::EMPTY;
        assert!(later(&mut trend, 0, 20, |now| now / 500) > 0);
        assert_eq!(later(&mut trend, 60, 3, |now| now / 500), 0);
        assert_eq!(later(&mut trend, 63, 8, |now| now / 500), 2_000);
    }
}
