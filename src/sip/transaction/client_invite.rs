//! The INVITE client transaction (RFC 3261 section 17.1.1, RFC 6026 section 7.2).

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::sip::timers::earliest;
use crate::sip::transaction::{Fired, Timing};

/// Unreliable transports: how long repeated refusals are acknowledged (timer D: at least 32 s).
const TIMER_D: Duration = Duration::from_secs(32);

/// One INVITE of ours.
#[derive(Debug)]
pub(crate) struct ClientInvite {
    timing: Timing,
    reliable: bool,
    request: Bytes,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Repeated until something comes (timers A and B).
    Calling {
        again: Option<Instant>,
        interval: Duration,
        ends: Instant,
    },
    Proceeding,
    /// Refused and acknowledged; repeated refusals are acknowledged again (timer D).
    Completed {
        ack: Bytes,
        ends: Instant,
    },
    /// 2xx came; more of them, also from other branches of a fork, go to the dialogs (timer M).
    Accepted {
        ends: Instant,
    },
    Terminated,
}

/// What a response means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    /// For the dialog: provisional, 2xx, or the first refusal (with the ACK to send).
    News {
        ack: Option<Bytes>,
    },
    /// Seen before: send this ACK again.
    Repeated(Bytes),
    Nothing,
}

impl ClientInvite {
    /// The request has just been sent.
    pub(crate) fn new(now: Instant, request: Bytes, reliable: bool, timing: Timing) -> Self {
        let again = (!reliable).then(|| now + timing.t1);
        let state = State::Calling {
            again,
            interval: timing.t1,
            ends: now + timing.patience(),
        };
        Self {
            timing,
            reliable,
            request,
            state,
        }
    }

    /// `ack` writes the ACK to a refusal.
    pub(crate) fn handle_response(
        &mut self,
        now: Instant,
        status: u16,
        ack: impl FnOnce() -> Bytes,
    ) -> Heard {
        match (&self.state, status) {
            (State::Calling { .. } | State::Proceeding, 100..200) => {
                self.state = State::Proceeding;
                Heard::News { ack: None }
            }
            (State::Calling { .. } | State::Proceeding, 200..300) => {
                self.state = State::Accepted {
                    ends: now + self.timing.patience(),
                };
                Heard::News { ack: None }
            }
            (State::Calling { .. } | State::Proceeding, _) => {
                let ack = ack();
                self.state = if self.reliable {
                    State::Terminated
                } else {
                    State::Completed {
                        ack: ack.clone(),
                        ends: now + TIMER_D.max(self.timing.patience()),
                    }
                };
                Heard::News { ack: Some(ack) }
            }
            (State::Accepted { .. }, 200..300) => Heard::News { ack: None },
            (State::Completed { ack, .. }, 300..) => Heard::Repeated(ack.clone()),
            (State::Completed { .. } | State::Accepted { .. } | State::Terminated, _) => {
                Heard::Nothing
            }
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Fired {
        match &mut self.state {
            State::Calling { ends, .. } if *ends <= now => {
                self.state = State::Terminated;
                Fired::TimedOut
            }
            State::Calling {
                again: Some(again),
                interval,
                ..
            } if *again <= now => {
                *interval *= 2;
                *again = now + *interval;
                Fired::Again(self.request.clone())
            }
            State::Completed { ends, .. } | State::Accepted { ends } if *ends <= now => {
                self.state = State::Terminated;
                Fired::Nothing
            }
            State::Calling { .. }
            | State::Proceeding
            | State::Completed { .. }
            | State::Accepted { .. }
            | State::Terminated => Fired::Nothing,
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Calling { again, ends, .. } => earliest([again, Some(ends)]),
            State::Completed { ends, .. } | State::Accepted { ends } => Some(ends),
            State::Proceeding | State::Terminated => None,
        }
    }

    /// Gives up an INVITE that was cancelled and never answered (RFC 3261 section 9.1).
    pub(crate) fn abandon(&mut self) {
        self.state = State::Terminated;
    }

    /// What was sent.
    pub(crate) const fn request(&self) -> &Bytes {
        &self.request
    }

    pub(crate) fn is_terminated(&self) -> bool {
        matches!(self.state, State::Terminated)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    fn ack() -> Bytes {
        Bytes::from_static(b"ACK")
    }

    #[test]
    fn an_unanswered_invite_is_repeated_seven_times_and_times_out_after_32_s() {
        let start = Instant::now();
        let mut machine = ClientInvite::new(
            start,
            Bytes::from_static(b"INVITE"),
            false,
            Timing::default(),
        );
        let mut times = Vec::new();
        let timed_out = loop {
            let at = machine.deadline().unwrap();
            match machine.handle_timeout(at) {
                Fired::Again(_) => times.push((at - start).as_millis()),
                Fired::TimedOut => break at - start,
                Fired::Nothing => panic!("a timer for nothing"),
            }
        };
        assert_eq!(times, [500, 1500, 3500, 7500, 15500, 31500]);
        assert_eq!(timed_out, Duration::from_secs(32));
        assert!(machine.is_terminated());
    }

    #[test]
    fn a_refusal_is_told_once_and_acknowledged_each_time() {
        let start = Instant::now();
        let mut machine = ClientInvite::new(start, Bytes::new(), false, Timing::default());
        assert_eq!(
            machine.handle_response(start, 180, ack),
            Heard::News { ack: None }
        );
        assert_eq!(machine.deadline(), None);
        assert_eq!(
            machine.handle_response(start, 486, ack),
            Heard::News { ack: Some(ack()) }
        );
        assert_eq!(
            machine.handle_response(start, 486, ack),
            Heard::Repeated(ack())
        );
        assert_eq!(machine.handle_response(start, 180, ack), Heard::Nothing);
        machine.handle_timeout(start + TIMER_D);
        assert!(machine.is_terminated());
    }

    #[test]
    fn every_2xx_goes_to_the_dialogs_until_timer_m() {
        let start = Instant::now();
        let mut machine = ClientInvite::new(start, Bytes::new(), false, Timing::default());
        for _ in 0..3 {
            assert_eq!(
                machine.handle_response(start, 200, ack),
                Heard::News { ack: None }
            );
        }
        assert_eq!(machine.handle_response(start, 486, ack), Heard::Nothing);
        assert_eq!(
            machine.handle_timeout(start + Timing::default().patience()),
            Fired::Nothing
        );
        assert!(machine.is_terminated());
    }
}
