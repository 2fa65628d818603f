//! How much of a handshake may come to a leg: strangers can't keep the control side busy, nor take the place of
//! who is where signalling says.

use std::time::Instant;

use crate::token_bucket::TokenBucket;

/// Two buckets, which fill up while time passes.
pub(super) struct Gate {
    known: TokenBucket,
    others: TokenBucket,
}

impl Gate {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            known: TokenBucket::full(now, KNOWN_MOST),
            others: TokenBucket::full(now, OTHERS_MOST),
        }
    }

    /// One more: is there room for it?
    pub(super) fn lets_in(&mut self, now: Instant, is_known: bool) -> bool {
        if is_known {
            self.known.take(now, KNOWN_PER_SECOND, KNOWN_MOST)
        } else {
            self.others.take(now, OTHERS_PER_SECOND, OTHERS_MOST)
        }
    }
}

/// A handshake takes ten datagrams, and all of them again where some are lost.
const KNOWN_MOST: f64 = 100.0;
const KNOWN_PER_SECOND: f64 = 50.0;
/// A browser checks each of its addresses every 50 ms at first.
const OTHERS_MOST: f64 = 60.0;
const OTHERS_PER_SECOND: f64 = 25.0;

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
