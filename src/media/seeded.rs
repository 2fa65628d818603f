//! Seeded randomness for tests, so that every failure can be had again.

use std::sync::LazyLock;
use std::time::Instant;

/// A small linear congruential generator (Knuth's MMIX constants), the high half used.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x1234_5678)
    }

    pub(crate) const fn next_u32(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    /// From 0 to `limit` - 1.
    pub(crate) const fn below(&mut self, limit: usize) -> usize {
        self.next_u32() as usize % limit
    }

    /// From 0 to 1.
    pub(crate) fn unit(&mut self) -> f32 {
        self.next_u32() as f32 / 4_294_967_296.0
    }
}

/// Where a test's pushed clock begins: the same moment whenever it is asked for.
#[expect(
    clippy::disallowed_methods,
    reason = "an Instant can't be made otherwise; tests count on from here"
)]
pub(crate) fn start() -> Instant {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    *START
}
