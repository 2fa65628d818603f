//! Chance drawn from a seed, and a place to count time from: a run is the same wherever it is made.

use std::time::Instant;

/// A linear congruential generator, its high half used.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5DEE_CE66)
    }

    pub(crate) const fn next(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    #[allow(dead_code, reason = "not every test draws whole numbers")]
    pub(crate) const fn below(&mut self, limit: usize) -> usize {
        self.next() as usize % limit
    }

    /// From 0 to 1.
    pub(crate) fn unit(&mut self) -> f64 {
        f64::from(self.next()) / 4_294_967_296.0
    }
}

#[expect(clippy::disallowed_methods, reason = "only a place to count from")]
pub(crate) fn start() -> Instant {
    Instant::now()
}
