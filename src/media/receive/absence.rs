//! What a receiver is told when it isn't pulled as before: the thread that it lives on stood still, or
//! its leg has moved.

use std::time::Instant;

use super::Receiver;

impl Receiver {
    /// Nobody fetched packets from `since` to `until`: what is handed in now came sometime between.
    pub const fn note_absence(&mut self, since: Instant, until: Instant) {
        self.jitter.note_absence(since, until);
    }

    /// So many frames were not made when they were due: what was to be heard then is over.
    pub fn skip_frames(&mut self, frames: u32) {
        let ticks = self.frame_samples() / self.samples_per_tick();
        let ticks = u32::try_from(ticks).unwrap_or(0);
        self.jitter.skip(frames.saturating_mul(ticks));
    }

    /// The next frame is pulled at another time within the 20 ms than those before, by somebody who
    /// hasn't heard them.
    pub fn reseat(&mut self, now: Instant) {
        if self.jitter.reseat(now) {
            self.staging.clear();
        }
    }
}
