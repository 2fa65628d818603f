//! Is the peer still there, does audio come from him while he is sent some, and what changed since it
//! was last told.

use std::time::{Duration, Instant};

/// Is the peer still there?
pub(super) struct Liveness {
    last_heard: Instant,
    state: Alive,
    /// Not yet told: heard (`true`) or lost (`false`).
    pub(super) news: Option<bool>,
    /// Since when audio has been sent to him and none come.
    unanswered: Option<Instant>,
    one_way: bool,
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
            unanswered: None,
            one_way: false,
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

    /// Nobody listened for so long.
    pub(super) fn stand_still(&mut self, absence: Duration) {
        self.last_heard += absence;
        self.unanswered = self.unanswered.map(|since| since + absence);
    }

    /// Audio came, by RTP that could be used.
    pub(super) const fn heard_audio(&mut self) {
        self.unanswered = None;
        self.one_way = false;
    }

    /// Once per frame: is he sent audio now, and should be sending some himself?
    pub(super) fn expect_audio(&mut self, now: Instant, expected: bool) {
        if !expected {
            self.heard_audio();
            return;
        }
        let since = *self.unanswered.get_or_insert(now);
        self.one_way = now.saturating_duration_since(since) >= ONE_WAY_AFTER;
    }

    /// Does audio flow to him only?
    pub(super) const fn is_one_way(&self) -> bool {
        self.one_way
    }

    pub(super) fn check(&mut self, now: Instant, timeout: Duration) {
        if self.state != Alive::Lost && now.saturating_duration_since(self.last_heard) > timeout {
            self.state = Alive::Lost;
            self.news = Some(false);
        }
    }
}

/// Does he talk, as shown to people: not at every cough, and through the pauses between sentences.
#[derive(Debug, Default)]
pub(super) struct Talking {
    current: bool,
    told: bool,
    /// Frames in a row that spoke against what is shown.
    against: u8,
}

impl Talking {
    pub(super) const fn follow(&mut self, voice: bool) {
        if voice == self.current {
            self.against = 0;
            return;
        }
        self.against += 1;
        let enough = if voice {
            FRAMES_TO_BEGIN
        } else {
            FRAMES_TO_END
        };
        if self.against >= enough {
            self.current = voice;
            self.against = 0;
        }
    }

    pub(super) const fn current(&self) -> bool {
        self.current
    }

    pub(super) fn take_change(&mut self) -> Option<bool> {
        let changed = self.current != self.told;
        self.told = self.current;
        changed.then_some(self.current)
    }
}

/// It is to be told within ten seconds, and told once a second.
const ONE_WAY_AFTER: Duration = Duration::from_secs(8);
/// 60 ms, and (with the detector's own 240 ms) about a second.
const FRAMES_TO_BEGIN: u8 = 3;
const FRAMES_TO_END: u8 = 38;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::seeded;

    fn shown(talking: &mut Talking, voice: bool, frames: usize) -> usize {
        (0..frames)
            .filter(|_| {
                talking.follow(voice);
                talking.current()
            })
            .count()
    }

    #[test]
    fn who_was_not_listened_to_is_not_lost_for_it() {
        let start = seeded::start();
        let at = |seconds| start + Duration::from_secs(seconds);
        let timeout = Duration::from_secs(30);
        let mut liveness = Liveness::new(start);
        liveness.expect_audio(at(10), true);
        liveness.stand_still(Duration::from_secs(100));
        liveness.check(at(110), timeout);
        liveness.expect_audio(at(110), true);
        assert_eq!((liveness.news, liveness.is_one_way()), (None, false));
        liveness.check(at(131), timeout);
        liveness.expect_audio(at(119), true);
        assert_eq!((liveness.news, liveness.is_one_way()), (Some(false), true));
    }

    #[test]
    fn a_click_is_no_talk_and_a_pause_is_no_end_of_it() {
        let mut talking = Talking::default();
        assert_eq!(shown(&mut talking, true, 2), 0);
        assert_eq!(shown(&mut talking, false, 1), 0);
        assert_eq!(shown(&mut talking, true, 10), 8);
        assert_eq!(talking.take_change(), Some(true));
        assert_eq!(shown(&mut talking, false, 30), 30);
        assert_eq!(shown(&mut talking, true, 5), 5);
        assert_eq!(talking.take_change(), None);
        assert_eq!(shown(&mut talking, false, 100), 37);
        assert_eq!(talking.take_change(), Some(false));
    }
}
