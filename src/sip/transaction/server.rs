//! The server transaction of all other methods (RFC 3261 section 17.2.2).

use std::time::Instant;

use bytes::Bytes;

use crate::sip::transaction::{Fired, Timing};

/// One request of the peer that is no INVITE.
#[derive(Debug)]
pub(crate) struct Server {
    timing: Timing,
    reliable: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    Trying,
    /// Answered; duplicates get the same answer (timer J).
    Completed {
        last: Bytes,
        ends: Instant,
    },
    Terminated,
}

impl Server {
    pub(crate) fn new(reliable: bool, timing: Timing) -> Self {
        Self {
            timing,
            reliable,
            state: State::Trying,
        }
    }

    /// Notes the final answer; false where one was given before.
    pub(crate) fn respond(&mut self, now: Instant, bytes: &Bytes) -> bool {
        if !self.is_open() {
            return false;
        }
        self.state = if self.reliable {
            State::Terminated
        } else {
            State::Completed {
                last: bytes.clone(),
                ends: now + self.timing.patience(),
            }
        };
        true
    }

    /// The request came again: what to send again, if anything.
    pub(crate) fn handle_retransmission(&self) -> Option<Bytes> {
        match &self.state {
            State::Completed { last, .. } => Some(last.clone()),
            State::Trying | State::Terminated => None,
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Fired {
        if self.deadline().is_some_and(|ends| ends <= now) {
            self.state = State::Terminated;
        }
        Fired::Nothing
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Completed { ends, .. } => Some(ends),
            State::Trying | State::Terminated => None,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, State::Trying)
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
    fn duplicates_get_the_same_answer_until_timer_j() {
        let start = Instant::now();
        let mut machine = Server::new(false, Timing::default());
        assert_eq!(machine.handle_retransmission(), None);
        assert!(machine.respond(start, &Bytes::from_static(b"200")));
        assert!(!machine.respond(start, &Bytes::from_static(b"500")));
        assert_eq!(
            machine.handle_retransmission().as_deref(),
            Some(&b"200"[..])
        );
        let ends = machine.deadline().unwrap();
        assert_eq!(ends - start, Timing::default().patience());
        machine.handle_timeout(ends);
        assert!(machine.is_terminated());
    }

    #[test]
    fn over_a_stream_the_answer_ends_it() {
        let mut machine = Server::new(true, Timing::default());
        machine.respond(Instant::now(), &Bytes::from_static(b"200"));
        assert!(machine.is_terminated());
    }
}
