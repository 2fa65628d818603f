//! Is the peer still there, and what changed since it was last told.

use std::time::{Duration, Instant};

/// Is the peer still there?
pub(super) struct Liveness {
    last_heard: Instant,
    state: Alive,
    /// Not yet told: heard (`true`) or lost (`false`).
    pub(super) news: Option<bool>,
}

#[derive(PartialEq)]
enum Alive {
    NotYet,
    Heard,
    Lost,
}

impl Liveness {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            last_heard: now,
            state: Alive::NotYet,
            news: None,
        }
    }

    /// Waits anew from now on.
    pub(super) fn begin(&mut self, now: Instant) {
        self.last_heard = now;
        if self.state == Alive::Lost {
            self.state = Alive::NotYet;
        }
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.last_heard = now;
        if self.state != Alive::Heard {
            self.state = Alive::Heard;
            self.news = Some(true);
        }
    }

    pub(super) fn check(&mut self, now: Instant, timeout: Duration) {
        if self.state != Alive::Lost && now.saturating_duration_since(self.last_heard) > timeout {
            self.state = Alive::Lost;
            self.news = Some(false);
        }
    }
}

/// A value and what was last told of it.
pub(super) struct Told<T> {
    pub(super) current: T,
    told: T,
}

impl<T: Copy + PartialEq> Told<T> {
    pub(super) const fn new(value: T) -> Self {
        Self {
            current: value,
            told: value,
        }
    }

    pub(super) const fn set(&mut self, value: T) {
        self.current = value;
    }

    pub(super) fn take_change(&mut self) -> Option<T> {
        let changed = self.current != self.told;
        self.told = self.current;
        changed.then_some(self.current)
    }
}
