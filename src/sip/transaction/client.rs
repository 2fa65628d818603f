//! The client transaction of all other methods (RFC 3261 section 17.1.2).

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::sip::timers::earliest;
use crate::sip::transaction::{Fired, Timing};

/// One request of ours that is no INVITE.
#[derive(Debug)]
pub(crate) struct Client {
    timing: Timing,
    reliable: bool,
    request: Bytes,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Repeated until a final answer (timers E and F).
    Trying {
        again: Option<Instant>,
        interval: Duration,
        ends: Instant,
    },
    /// Answered; repeated answers are absorbed (timer K).
    Completed {
        ends: Instant,
    },
    Terminated,
}

impl Client {
    /// The request has just been sent.
    pub(crate) fn new(now: Instant, request: Bytes, reliable: bool, timing: Timing) -> Self {
        let again = (!reliable).then(|| now + timing.t1);
        let state = State::Trying {
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

    /// True for the first final answer.
    pub(crate) fn handle_response(&mut self, now: Instant, status: u16) -> bool {
        match &mut self.state {
            State::Trying { interval, .. } if status < 200 => {
                // From now on repeated every T2 (section 17.1.2.2, Proceeding).
                *interval = self.timing.t2;
                false
            }
            State::Trying { .. } => {
                self.state = if self.reliable {
                    State::Terminated
                } else {
                    State::Completed {
                        ends: now + self.timing.t4,
                    }
                };
                true
            }
            State::Completed { .. } | State::Terminated => false,
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Fired {
        match &mut self.state {
            State::Trying { ends, .. } if *ends <= now => {
                self.state = State::Terminated;
                Fired::TimedOut
            }
            State::Trying {
                again: Some(again),
                interval,
                ..
            } if *again <= now => {
                *interval = (*interval * 2).min(self.timing.t2);
                *again = now + *interval;
                Fired::Again(self.request.clone())
            }
            State::Completed { ends } if *ends <= now => {
                self.state = State::Terminated;
                Fired::Nothing
            }
            State::Trying { .. } | State::Completed { .. } | State::Terminated => Fired::Nothing,
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Trying { again, ends, .. } => earliest([again, Some(ends)]),
            State::Completed { ends } => Some(ends),
            State::Terminated => None,
        }
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

    #[test]
    fn a_request_is_repeated_up_to_every_t2_and_times_out_after_64_t1() {
        let start = Instant::now();
        let mut machine = Client::new(start, Bytes::from_static(b"BYE"), false, Timing::default());
        let mut times = Vec::new();
        while let Some(at) = machine.deadline() {
            if machine.handle_timeout(at) != Fired::TimedOut {
                times.push((at - start).as_millis());
            }
        }
        assert_eq!(
            times,
            [
                500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500
            ]
        );
    }

    #[test]
    fn only_the_first_final_answer_counts() {
        let start = Instant::now();
        let mut machine = Client::new(start, Bytes::from_static(b"BYE"), false, Timing::default());
        assert!(!machine.handle_response(start, 100));
        assert!(machine.handle_response(start, 200));
        assert!(!machine.handle_response(start, 200));
        assert_eq!(
            machine.handle_timeout(start + Timing::default().t4),
            Fired::Nothing
        );
        assert!(machine.is_terminated());
    }
}
