//! What of a jitter buffer is asked for before its turn.

use super::JitterBuffer;
use crate::media::prefetch::{prefetch, prefetch_slice};

impl JitterBuffer {
    /// Before [`Self::insert`].
    pub(in crate::media) fn prefetch_arrival(&self) {
        prefetch(&self.received);
        prefetch(&self.config);
        prefetch(&self.absence);
        prefetch(&self.slots);
        prefetch(&self.order);
        prefetch(&self.count);
        prefetch(&self.reference);
        prefetch(&self.payloads);
        prefetch(&self.position);
        self.delay.prefetch_arrival();
    }

    /// What the former's memory points to.
    pub(in crate::media) fn prefetch_room(&self) {
        if let Some(free) = self.order.get(self.count) {
            prefetch(free);
        }
        prefetch_slice(self.slots.get(..SLOTS_AHEAD).unwrap_or(&self.slots));
        self.payloads.prefetch_room();
        self.delay.prefetch_quantile();
    }

    /// Before [`Self::next`] and [`Self::plan`].
    pub(in crate::media) fn prefetch_playout(&self) {
        prefetch(&self.position);
        prefetch(&self.received);
        prefetch(&self.margin);
        prefetch(&self.config);
        prefetch(&self.slots);
        prefetch(&self.order);
        prefetch(&self.count);
        prefetch(&self.payloads);
        prefetch(&self.extra);
        self.delay.prefetch_playout();
    }

    /// What the former's memory points to.
    pub(in crate::media) fn prefetch_buffers(&self) {
        let held = self.order.get(..self.count).unwrap_or_default();
        prefetch_slice(held);
        prefetch_slice(self.slots.get(..SLOTS_AHEAD).unwrap_or(&self.slots));
        self.payloads.prefetch();
    }
}

/// In a quiet network no more packets than these wait.
const SLOTS_AHEAD: usize = 4;
