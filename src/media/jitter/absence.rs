//! Times at which nobody here fetched packets or played them. What waited meanwhile did not come late
//! by the network's doing, and what was to be heard meanwhile is over.

use std::time::{Duration, Instant};

use super::{JitterBuffer, Position};
use crate::units::RtpTicks;

/// From when to when packets lay in the socket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Absence {
    since: Instant,
    until: Instant,
}

impl JitterBuffer {
    /// Packets that are handed in at `until` may have come at any time after `since`.
    pub const fn note_absence(&mut self, since: Instant, until: Instant) {
        self.absence = Some(Absence { since, until });
    }

    /// When a packet that is handed in at `now` came: at once, unless nobody looked. Then it is
    /// believed to have come as fast as the fastest, as far as that is possible.
    #[must_use]
    pub fn arrival(&mut self, now: Instant, timestamp: RtpTicks) -> Instant {
        let Some(absence) = self.absence.filter(|absence| absence.until == now) else {
            return now;
        };
        let extended = self.reference.map(|reference| reference.extend(timestamp));
        let late = extended.and_then(|extended| self.delay.relative(now, extended));
        let late = Duration::from_micros(late.unwrap_or(0).try_into().unwrap_or(0));
        now.checked_sub(late)
            .map_or(absence.since, |came| came.max(absence.since))
    }

    /// So many ticks were not played when they were due, and won't be. None at all leaves what is late where it is:
    /// it may be gone back to.
    pub fn skip(&mut self, ticks: u32) {
        let Position::Playing(play) = self.position else {
            return;
        };
        if ticks == 0 {
            return;
        }
        let play = play + i64::from(ticks);
        self.position = Position::Playing(play);
        while self.head().is_some_and(|(_, head)| head.end() <= play) {
            self.take_head();
        }
    }
}
