//! How busy the threads are: who gets the next leg, and whether there is room for one at all.

use std::time::Instant;

use super::Control;
use crate::engine::health::ThreadHealth;
use crate::engine::load::{Change, Overload};
use crate::engine::memory;

impl Control {
    /// Each thread's figures.
    #[must_use]
    pub fn health(&self) -> Vec<ThreadHealth> {
        let threads = self.threads.iter().enumerate();
        threads
            .map(|(index, thread)| ThreadHealth {
                busy: self.load.busy_share(index),
                ..thread.health()
            })
            .collect()
    }

    /// Measures the threads, and gives back what ended calls took of the system's memory. To be called
    /// about twice a second.
    pub fn watch_load(&mut self, now: Instant) {
        let ended = (self.next_leg - 1).saturating_sub(self.legs.len() as u64);
        if self.memory.observe(now, self.legs.len(), ended) {
            self.legs.shrink_to(2 * self.legs.len());
            memory::give_back();
        }
        let health = self.health();
        let change = self.load.observe(now, &health);
        tell(change);
    }

    /// Why no further call should be taken now: with it, the sound of those that are there would
    /// suffer.
    pub fn overload(&mut self) -> Option<Overload> {
        let legs: Vec<usize> = self.threads.iter().map(|thread| thread.legs).collect();
        let change = self.load.judge(&legs);
        tell(change);
        self.load.overload()
    }

    /// By what a leg more would make of them, then by legs; `near` counts as one less, for the leg
    /// that is there already.
    pub(super) fn least_loaded(&self, near: Option<usize>) -> usize {
        let load = |index: usize| {
            let here = usize::from(near == Some(index));
            let legs = self.threads[index].legs.saturating_sub(here);
            let percent = (self.load.expected(index, legs + 1) * 100.0) as u32;
            (percent, legs)
        };
        let order = near.into_iter().chain(0..self.threads.len());
        order.min_by_key(|index| load(*index)).unwrap_or(0)
    }
}

fn tell(change: Option<Change>) {
    match change {
        Some(Change::Began(Overload::Busy { thread, share })) => tracing::warn!(
            thread,
            percent = (share * 100.0) as u32,
            "the media threads are as busy as they may be: new calls are refused"
        ),
        Some(Change::Began(Overload::Late { thread, share })) => tracing::warn!(
            thread,
            percent = (share * 100.0) as u32,
            "a media thread is woken too late again and again, the machine is short of time: new calls are refused"
        ),
        Some(Change::Ended) => tracing::info!("new calls are taken again"),
        None => {}
    }
}
