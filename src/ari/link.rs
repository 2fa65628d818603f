//! Is the websocket there, and does Asterisk still live at its other end? Connects, notices silence, backs off.

use std::time::{Duration, Instant};

/// The connection, as far as it can be known without being it.
#[derive(Debug)]
pub(super) struct Link {
    state: State,
    /// Attempts that failed one after the other.
    failures: u32,
    random: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not connected; tries again then.
    Away { again_at: Instant },
    /// The shell is at it.
    Opening { until: Instant },
    /// Connected.
    Open {
        /// When something was heard last.
        heard_at: Instant,
        asked: bool,
    },
    /// Somebody connected under our name; it may have been us. Says nothing until `at`.
    Contested { at: Instant, asked: bool },
    /// Somebody else has our name: we keep away, or we would take it from each other for ever.
    Replaced,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Open a connection.
    Connect,
    /// Ask whether the other end lives.
    Ping,
    /// Ask who has our name.
    AskOwner,
    /// It doesn't: close, it counts as closed now.
    GiveUp,
}

impl Link {
    pub(super) const fn new(now: Instant, random: u64) -> Self {
        Self {
            state: State::Away { again_at: now },
            failures: 0,
            random,
        }
    }

    pub(super) const fn opened(&mut self, now: Instant) {
        self.state = State::Open {
            heard_at: now,
            asked: false,
        };
    }

    /// Something came: the other end lives.
    pub(super) const fn heard(&mut self, now: Instant) {
        if let State::Open { heard_at, asked } = &mut self.state {
            *heard_at = now;
            *asked = false;
            self.failures = 0;
        }
    }

    /// The connection is gone, or never came about.
    pub(super) fn closed(&mut self, now: Instant) {
        if self.state == State::Replaced {
            return;
        }
        let pause = self.pause();
        self.failures = self.failures.saturating_add(1);
        self.state = State::Away {
            again_at: now + pause,
        };
    }

    pub(super) fn contested(&mut self, now: Instant) {
        self.state = State::Contested {
            at: now + OWNER_AFTER,
            asked: false,
        };
    }

    pub(super) const fn is_contested(&self) -> bool {
        matches!(self.state, State::Contested { .. })
    }

    pub(super) const fn replaced(&mut self) {
        self.state = State::Replaced;
    }

    pub(super) const fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Away { again_at } => Some(again_at),
            State::Opening { until } => Some(until),
            State::Open { heard_at, asked } => {
                Some(heard_at + if asked { HUNG_AFTER } else { PING_AFTER })
            }
            State::Contested { at, .. } => Some(at),
            State::Replaced => None,
        }
    }

    /// What is due at `now`.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Option<Due> {
        if self.poll_timeout().is_none_or(|due| now < due) {
            return None;
        }
        match &mut self.state {
            State::Away { .. } => {
                self.state = State::Opening {
                    until: now + CONNECT,
                };
                Some(Due::Connect)
            }
            State::Open { asked, .. } if !*asked => {
                *asked = true;
                Some(Due::Ping)
            }
            State::Contested { at, asked } if !*asked => {
                *asked = true;
                *at = now + HUNG_AFTER;
                Some(Due::AskOwner)
            }
            State::Opening { .. } | State::Open { .. } | State::Contested { .. } => {
                Some(Due::GiveUp)
            }
            State::Replaced => None,
        }
    }

    /// At once after the first failure, then longer and longer; the last fifth by chance, so that the nodes
    /// of a house don't come back in one wave.
    fn pause(&mut self) -> Duration {
        let Some(doublings) = self.failures.checked_sub(1) else {
            return Duration::ZERO;
        };
        let pause = PAUSE_FIRST
            .saturating_mul(1 << doublings.min(8))
            .min(PAUSE_MAX);
        // splitmix64
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed ^= mixed >> 27;
        pause.mul_f64(1.0 - (mixed % 1_000) as f64 / 5_000.0)
    }
}

/// Silence after which Asterisk is asked whether it is there.
const PING_AFTER: Duration = Duration::from_secs(2);
/// Silence after which it is not.
pub(super) const HUNG_AFTER: Duration = Duration::from_secs(4);
/// How long whoever took our name has to write down his.
const OWNER_AFTER: Duration = Duration::from_secs(1);
/// For TCP, TLS and the websocket's handshake together.
const CONNECT: Duration = Duration::from_secs(3);
const PAUSE_FIRST: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_silent_asterisk_is_asked_and_then_given_up() {
        let start = start();
        let mut link = Link::new(start, 1);
        assert_eq!(link.handle_timeout(start), Some(Due::Connect));
        link.opened(start);
        assert_eq!(link.handle_timeout(at(start, 1_999)), None);
        assert_eq!(link.handle_timeout(at(start, 2_000)), Some(Due::Ping));
        link.heard(at(start, 2_500));
        assert_eq!(link.handle_timeout(at(start, 4_000)), None);
        assert_eq!(link.handle_timeout(at(start, 4_500)), Some(Due::Ping));
        assert_eq!(link.handle_timeout(at(start, 6_499)), None);
        assert_eq!(link.handle_timeout(at(start, 6_500)), Some(Due::GiveUp));
    }

    #[test]
    fn attempts_come_at_once_then_ever_rarer_but_never_stop() {
        let start = start();
        let (mut link, mut now, mut pauses) = (Link::new(start, 7), start, Vec::new());
        for _ in 0..12 {
            assert_eq!(link.handle_timeout(now), Some(Due::Connect));
            link.closed(now);
            let again = link.poll_timeout().unwrap();
            pauses.push((again - now).as_millis());
            now = again;
        }
        assert_eq!(pauses[0], 0);
        assert!((200..=250).contains(&pauses[1]), "{pauses:?}");
        assert!((1_600..=2_000).contains(&pauses[11]), "{pauses:?}");
        link.replaced();
        assert_eq!(link.poll_timeout(), None);
    }
}
