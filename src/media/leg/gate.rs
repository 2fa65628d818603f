//! How much of a handshake may come to a leg: strangers can't keep the control side busy, nor take the place of
//! who is where signalling says.

use std::time::{Duration, Instant};

/// Two buckets, which fill up while time passes.
pub(super) struct Gate {
    known: Bucket,
    others: Bucket,
}

struct Bucket {
    left: f32,
    most: f32,
    per_second: f32,
    at: Instant,
}

impl Gate {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            known: Bucket::full(now, KNOWN_MOST, KNOWN_PER_SECOND),
            others: Bucket::full(now, OTHERS_MOST, OTHERS_PER_SECOND),
        }
    }

    /// One more: is there room for it?
    pub(super) fn lets_in(&mut self, now: Instant, is_known: bool) -> bool {
        if is_known {
            self.known.take(now)
        } else {
            self.others.take(now)
        }
    }
}

impl Bucket {
    const fn full(at: Instant, most: f32, per_second: f32) -> Self {
        Self {
            left: most,
            most,
            per_second,
            at,
        }
    }

    fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).min(REFILL_MAX);
        self.at = now;
        self.left = (self.left + passed.as_secs_f32() * self.per_second).min(self.most);
        let has_room = self.left >= 1.0;
        self.left -= f32::from(u8::from(has_room));
        has_room
    }
}

/// A handshake takes ten datagrams, and all of them again where some are lost.
const KNOWN_MOST: f32 = 100.0;
const KNOWN_PER_SECOND: f32 = 50.0;
/// A browser checks each of its addresses every 50 ms at first.
const OTHERS_MOST: f32 = 60.0;
const OTHERS_PER_SECOND: f32 = 25.0;
const REFILL_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::seeded;

    #[test]
    fn strangers_use_up_their_own_share_only_and_it_comes_back() {
        let start = seeded::start();
        let mut gate = Gate::new(start);
        let taken = (0..1_000).filter(|_| gate.lets_in(start, false)).count();
        assert_eq!(taken, 60);
        assert!(gate.lets_in(start, true));
        let later = start + Duration::from_secs(1);
        let taken = (0..1_000).filter(|_| gate.lets_in(later, false)).count();
        assert_eq!(taken, 25);
    }
}
