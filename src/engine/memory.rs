//! What calls took is given back to the system when many of them have ended. The allocator alone keeps it:
//! what is free lies between blocks that stay, and it returns only what lies at the end.

use std::time::{Duration, Instant};

/// Says when there is something to be given back. Without a clock: whoever observes says when.
#[derive(Debug, Default)]
pub(super) struct MemoryWatch {
    /// The most legs since many went.
    most: usize,
    /// Legs that had ended when that was counted last.
    ended: u64,
    /// When the legs are dropped, and when signalling has forgotten their calls too.
    due: [Option<Instant>; 2],
}

impl MemoryWatch {
    /// Is now the time, with so many legs left and so many that have ended since the start?
    pub(super) fn observe(&mut self, now: Instant, legs: usize, ended: u64) -> bool {
        self.most = self.most.max(legs);
        let many_went = self.most - legs >= LEGS_LEAST.max(self.most / 2);
        // A flood of short calls: never many at once, but each is remembered for half a minute.
        let many_passed = ended - self.ended >= ENDED_LEAST && self.due[1].is_none();
        if many_went || many_passed {
            self.most = legs;
            self.ended = ended;
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
/// Their calls take some 20 MB.
const ENDED_LEAST: u64 = 1_000;
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
            .filter(|(n, legs)| watch.observe(at(*n), *legs, 0))
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
    fn memory_is_given_back_after_a_flood_of_short_calls() {
        let mut watch = MemoryWatch::default();
        let start = crate::media::seeded::start();
        // Fifty a second for a minute.
        let given: Vec<u64> = (0..150)
            .filter(|&second| {
                let ended = second.min(60) * 50;
                watch.observe(start + Duration::from_secs(second), 12, ended)
            })
            .collect();
        assert_eq!(given, [21, 60, 62, 101]);
    }

    #[test]
    fn the_coming_and_going_of_every_day_does_nothing() {
        assert_eq!(given_back((0..500).map(|n| 200 + n % 60)), [0; 0]);
        assert_eq!(given_back((0..500).map(|n| n % 31)), [0; 0]);
    }
}
