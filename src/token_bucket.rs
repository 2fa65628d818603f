//! How often something may happen: a burst at once, a rate in the long run.

use std::time::Instant;

/// Lets `burst` through at once and `per_second` in the long run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TokenBucket {
    tokens: f64,
    filled: Instant,
}

impl TokenBucket {
    pub(crate) const fn full(now: Instant, burst: f64) -> Self {
        Self {
            tokens: burst,
            filled: now,
        }
    }

    /// One more: is there room for it?
    pub(crate) fn take(&mut self, now: Instant, per_second: f64, burst: f64) -> bool {
        self.tokens = self.level(now, per_second, burst);
        self.filled = now;
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            true
        } else {
            false
        }
    }

    /// What was taken last counts for nothing.
    pub(crate) const fn give_back(&mut self, burst: f64) {
        self.tokens = (self.tokens + 1.0).min(burst);
    }

    /// How many are left, and those that have come since.
    pub(crate) fn level(&self, now: Instant, per_second: f64, burst: f64) -> f64 {
        let elapsed = now.saturating_duration_since(self.filled).as_secs_f64();
        (self.tokens + elapsed * per_second).min(burst)
    }
}
