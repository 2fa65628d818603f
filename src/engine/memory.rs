//! What calls took is given back to the system when many of them have ended. The allocator alone keeps it:
//! what is free lies between blocks that stay, and it returns only what lies at the end.

use std::time::{Duration, Instant};

/// Says when there is something to be given back. Without a clock: whoever observes says when.
#[derive(Debug, Default)]
pub(super) struct MemoryWatch {
    /// The most legs since many went.
    most: usize,
    /// When the legs are dropped, and when signalling has forgotten their calls too.
    due: [Option<Instant>; 2],
}

impl MemoryWatch {
    /// Is now the time, with so many legs left?
    pub(super) fn observe(&mut self, now: Instant, legs: usize) -> bool {
        self.most = self.most.max(legs);
        if self.most - legs >= LEGS_LEAST.max(self.most / 2) {
            self.most = legs;
            self.due = [Some(now + DROPPED_AFTER), Some(now + FORGOTTEN_AFTER)];
        }
        let is_due = |due: &mut Option<Instant>| due.take_if(|at| *at <= now).is_some();
        let [first, second] = &mut self.due;
        is_due(first) | is_due(second)
    }
}

/// Returns free memory, on a thread of its own: it takes milliseconds, and no media thread ever waits for
/// the allocator.
pub(super) fn give_back() {
    let thread = std::thread::Builder::new().name("memory".to_owned());
    if let Err(error) = thread.spawn(trim) {
        tracing::debug!(%error, "no thread to give memory back on");
    }
}

#[cfg(target_env = "gnu")]
fn trim() {
    // SAFETY: takes no pointer, may be called from any thread at any time (malloc_trim(3)).
    unsafe { libc::malloc_trim(0) };
}

/// Other allocators have no such call.
#[cfg(not(target_env = "gnu"))]
const fn trim() {}

/// Less isn't worth it.
const LEGS_LEAST: usize = 32;
const DROPPED_AFTER: Duration = Duration::from_secs(1);
/// Transactions last 32 s (RFC 3261 section 17).
const FORGOTTEN_AFTER: Duration = Duration::from_secs(40);

#[cfg(test)]
mod tests {
    use super::*;

    /// Half-seconds at which memory is given back, with so many legs in each.
    fn given_back(legs: impl IntoIterator<Item = usize>) -> Vec<u32> {
        let mut watch = MemoryWatch::default();
        let start = crate::media::seeded::start();
        let at = |n: u32| start + Duration::from_millis(500) * n;
        (0..)
            .zip(legs)
            .filter(|(n, legs)| watch.observe(at(*n), *legs))
            .map(|(n, _)| n)
            .collect()
    }

    #[test]
    fn memory_is_given_back_after_many_calls_have_ended_and_once_more_when_they_are_forgotten() {
        let legs = [400; 20].into_iter().chain([0; 200]);
        assert_eq!(given_back(legs), [22, 100]);
        // As they hang up one after the other.
        let legs = (0..=400).rev().chain([0; 200]);
        let given = given_back(legs);
        assert!((3..=10).contains(&given.len()), "{given:?}");
    }

    #[test]
    fn the_coming_and_going_of_every_day_does_nothing() {
        assert_eq!(given_back((0..500).map(|n| 200 + n % 60)), [0; 0]);
        assert_eq!(given_back((0..500).map(|n| n % 31)), [0; 0]);
    }
}
