//! How much time the fastest packets have before they are needed, and what follows from it: when to
//! make the delay longer or shorter, by how much.
//!
//! Frames are pulled on a grid of 20 ms, so a packet's time moves in steps of a whole frame: adding
//! delay helps only once the packet's first sample falls into the next frame, and where every packet
//! begins some way into a frame, that much can be taken away at no cost.

/// Watches the packets as they are played. All times are in microseconds.
#[derive(Debug)]
pub(super) struct Margin {
    now: Window,
    before: Window,
    until: i64,
    intent: Option<Intent>,
}

/// A change of the delay, to be made in short pieces. Microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// The delay is right.
    Keep,
    /// Insert so much.
    Insert {
        /// What is left to insert.
        left: i64,
        /// For how long this has been so.
        waited: i64,
    },
    /// Remove so much.
    Remove {
        /// What is left to remove.
        left: i64,
        /// For how long this has been so.
        waited: i64,
    },
}

#[derive(Debug, Clone, Copy)]
struct Window {
    packets: u32,
    /// The least time that a packet as fast as the fastest had, and where in the frame it began.
    least: i64,
    least_offset: i64,
    /// The earliest that any packet began within its frame.
    offset: i64,
}

impl Margin {
    pub(super) const fn new() -> Self {
        Self {
            now: Window::EMPTY,
            before: Window::EMPTY,
            until: i64::MIN,
            intent: None,
        }
    }

    pub(super) const fn reset(&mut self) {
        *self = Self::new();
    }

    /// A packet was taken at `now`; as fast as the fastest it would have waited for `slack`; it
    /// begins `offset` into the frame. One that was taken ahead of its frame, to cut into what lies
    /// before it, had until that frame.
    pub(super) fn take(&mut self, now: i64, slack: i64, offset: i64) {
        let ahead = offset - offset % FRAME;
        let (slack, offset) = (slack + ahead, offset - ahead);
        if now >= self.until {
            self.before = self.now;
            self.now = Window::EMPTY;
            self.until = now + WINDOW;
        }
        self.now.take(slack, offset);
    }

    /// What to do so that the fastest packets have `target` time, and have it still in a while if they
    /// come so much `later` each second. Once begun, a change is finished before anything else is
    /// looked at, unless no occasion comes for it.
    pub(super) fn plan(&mut self, now: i64, target: i64, later: i64) -> Plan {
        let begun = self.intent.filter(|intent| {
            intent
                .begun
                .is_some_and(|begun| now - begun < FINISH_WITHIN)
        });
        let intent = begun.or_else(|| {
            self.judge(target, later)
                .map(|verdict| self.intend(now, verdict))
        });
        self.intent = intent;
        match intent {
            None => Plan::Keep,
            Some(Intent {
                insert: true,
                left,
                since,
                ..
            }) => Plan::Insert {
                left,
                waited: now - since,
            },
            Some(Intent {
                insert: false,
                left,
                since,
                ..
            }) => Plan::Remove {
                left,
                waited: now - since,
            },
        }
    }

    /// So much of the plan was carried out. At its end, what was measured before is void.
    pub(super) fn done(&mut self, now: i64, piece: i64) {
        let Some(intent) = &mut self.intent else {
            return;
        };
        intent.left -= piece;
        intent.begun.get_or_insert(now);
        if intent.left < CRUMB {
            self.reset();
        }
    }

    /// The same intent as before keeps its age; one that has time has none yet.
    fn intend(&self, now: i64, verdict: Verdict) -> Intent {
        let before = self.intent.filter(|intent| {
            intent.insert == verdict.insert && intent.begun.is_none() && verdict.is_due
        });
        Intent {
            insert: verdict.insert,
            left: verdict.left,
            since: before.map_or(now, |before| before.since),
            begun: None,
        }
    }

    fn judge(&self, target: i64, later: i64) -> Option<Verdict> {
        let both = self.before.with(self.now);
        if both.packets < PACKETS_MIN {
            return None;
        }
        let excess = both.least - target;
        // What the fastest packets of the last seconds show is somewhat behind.
        let now = later + BEHIND_MAX.min(2 * later);
        let soon = now + LOOK_AHEAD_S * later;
        if excess < soon {
            return Some(Verdict {
                insert: true,
                left: FRAME - both.least_offset,
                is_due: excess < now,
            });
        }
        if self.before.packets < PACKETS_MIN {
            return None; // there is time
        }
        let beyond = excess - FRAME - soon;
        let (left, is_due) = if both.offset >= OFFSET_MIN {
            (both.offset, true)
        } else {
            (FRAME, beyond >= HYSTERESIS)
        };
        (is_due || beyond >= PAUSE_HYSTERESIS).then_some(Verdict {
            insert: false,
            left,
            is_due,
        })
    }
}

/// What the fastest packets' time asks for.
#[derive(Debug, Clone, Copy)]
struct Verdict {
    insert: bool,
    /// How much to insert or remove.
    left: i64,
    /// Now, rather than at the next occasion.
    is_due: bool,
}

#[derive(Debug, Clone, Copy)]
struct Intent {
    insert: bool,
    left: i64,
    since: i64,
    /// When the first piece was carried out.
    begun: Option<i64>,
}

impl Window {
    const EMPTY: Self = Self {
        packets: 0,
        least: i64::MAX,
        least_offset: 0,
        offset: i64::MAX,
    };

    fn take(&mut self, slack: i64, offset: i64) {
        self.packets += 1;
        if slack < self.least {
            self.least = slack;
            self.least_offset = offset;
        }
        self.offset = self.offset.min(offset);
    }

    fn with(self, other: Self) -> Self {
        let tighter = if other.least < self.least {
            other
        } else {
            self
        };
        Self {
            packets: self.packets + other.packets,
            least: tighter.least,
            least_offset: tighter.least_offset,
            offset: self.offset.min(other.offset),
        }
    }
}

/// The pull grid.
const FRAME: i64 = 20_000;
/// Half a second.
const WINDOW: i64 = 500_000;
/// Packets that must have been seen before anything is changed: 10 of 60 ms fit into a second.
const PACKETS_MIN: u32 = 5;
/// What must remain beyond a whole frame before one is taken away.
const HYSTERESIS: i64 = 5_000;
/// The same in a pause, where a mistake isn't heard.
const PAUSE_HYSTERESIS: i64 = 1_500;
/// Seconds. How long before a slow clock has used up all time a pause is looked for.
const LOOK_AHEAD_S: i64 = 3;
/// What a target in whole milliseconds may lack.
const BEHIND_MAX: i64 = 1_000;
/// An offset worth taking away; shorter than the shortest pitch period it can't be done in a voice.
const OFFSET_MIN: i64 = 2_500;
/// A change in the middle of which no occasion comes is left as it is.
const FINISH_WITHIN: i64 = 2_000_000;
/// Less than a sample at 8 kHz.
const CRUMB: i64 = 125;

#[cfg(test)]
mod tests {
    use super::*;

    fn after(slack: i64, offset: i64, target: i64) -> Plan {
        let mut margin = Margin::new();
        for n in 0..50 {
            margin.take(n * 20_000, slack, offset);
        }
        margin.plan(1_000_000, target, 0)
    }

    const NOW: i64 = 1_000_000;

    #[test]
    fn enough_and_not_too_much_is_kept() {
        assert_eq!(after(0, 0, 0), Plan::Keep);
        assert_eq!(after(21_000, 0, 0), Plan::Keep);
        assert_eq!(after(35_000, 2_000, 20_000), Plan::Keep);
    }

    #[test]
    fn a_little_more_than_a_frame_too_much_can_wait_for_a_pause_for_ever() {
        let mut margin = Margin::new();
        for n in 0..500 {
            margin.take(n * 20_000, 24_000, 0);
            let plan = margin.plan(n * 20_000, 0, 0);
            let removal = Plan::Remove {
                left: 20_000,
                waited: 0,
            };
            assert_eq!(plan, if n < 25 { Plan::Keep } else { removal }, "{n}");
        }
    }

    #[test]
    fn too_little_time_asks_for_what_moves_the_packet_to_the_next_frame() {
        assert_eq!(
            after(3_000, 0, 4_000),
            Plan::Insert {
                left: 20_000,
                waited: 0
            }
        );
        assert_eq!(
            after(3_000, 15_000, 4_000),
            Plan::Insert {
                left: 5_000,
                waited: 0
            }
        );
    }

    #[test]
    fn a_frame_too_many_is_removed_and_so_is_an_offset() {
        assert_eq!(
            after(25_000, 0, 0),
            Plan::Remove {
                left: 20_000,
                waited: 0
            }
        );
        assert_eq!(
            after(6_000, 10_000, 5_000),
            Plan::Remove {
                left: 10_000,
                waited: 0
            }
        );
    }

    #[test]
    fn a_packet_taken_ahead_of_its_frame_asks_for_no_more_time() {
        let mut margin = Margin::new();
        for n in 0..50 {
            margin.take(n * 20_000, 26_000, 0);
        }
        margin.take(NOW, 6_000, 20_000);
        assert_eq!(
            margin.plan(NOW, 0, 0),
            Plan::Remove {
                left: 20_000,
                waited: 0
            }
        );
    }

    #[test]
    fn a_plan_is_carried_out_in_pieces_and_then_measured_anew() {
        let mut margin = Margin::new();
        for n in 0..50 {
            margin.take(n * 20_000, 30_000, 0);
        }
        assert_eq!(
            margin.plan(NOW, 0, 0),
            Plan::Remove {
                left: 20_000,
                waited: 0
            }
        );
        margin.done(NOW, 7_500);
        assert_eq!(
            margin.plan(NOW, 0, 0),
            Plan::Remove {
                left: 12_500,
                waited: 0
            }
        );
        margin.done(NOW, 12_500);
        assert_eq!(margin.plan(NOW, 0, 0), Plan::Keep);
    }
}
