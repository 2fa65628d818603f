//! One ordered list of deadlines for everything that waits, so that the next one is found at once.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Instant;

/// At most one deadline per key; setting replaces.
#[derive(Debug)]
pub(crate) struct Schedule<K> {
    order: BTreeSet<(Instant, K)>,
    by_key: HashMap<K, Instant>,
}

impl<K: Ord + Hash + Copy> Schedule<K> {
    pub(crate) fn new() -> Self {
        Self {
            order: BTreeSet::new(),
            by_key: HashMap::new(),
        }
    }

    /// Sets, moves or (with `None`) removes the deadline of `key`.
    pub(crate) fn set(&mut self, key: K, at: Option<Instant>) {
        let before = match at {
            Some(at) => self.by_key.insert(key, at),
            None => self.by_key.remove(&key),
        };
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.order.remove(&(before, key));
        }
        if let Some(at) = at {
            self.order.insert((at, key));
        }
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes the earliest key that is due.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<K> {
        let (at, key) = *self.order.first()?;
        if at > now {
            return None;
        }
        self.order.remove(&(at, key));
        self.by_key.remove(&key);
        Some(key)
    }

    /// Takes no more room than about twice what there is.
    pub(crate) fn give_room_back(&mut self) {
        self.by_key.shrink_to(2 * self.by_key.len());
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }
}

/// The earlier of two deadlines, where there are any.
pub(crate) fn earliest(deadlines: impl IntoIterator<Item = Option<Instant>>) -> Option<Instant> {
    deadlines.into_iter().flatten().min()
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_deadline_that_is_moved_fires_once_at_the_new_time() {
        let start = Instant::now();
        let mut schedule = Schedule::new();
        schedule.set(7u64, Some(start));
        schedule.set(7, Some(start + Duration::from_secs(1)));
        schedule.set(8, Some(start + Duration::from_secs(2)));
        assert_eq!(schedule.pop_due(start), None);
        assert_eq!(schedule.next(), Some(start + Duration::from_secs(1)));
        assert_eq!(schedule.pop_due(start + Duration::from_secs(1)), Some(7));
        schedule.set(8, None);
        assert_eq!(schedule.pop_due(start + Duration::from_secs(9)), None);
        assert_eq!((schedule.next(), schedule.len()), (None, 0));
    }
}
