//! The INVITE server transaction (RFC 3261 section 17.2.1, RFC 6026 section 7.1).

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::sip::transaction::{Fired, Timing};

/// One INVITE of the peer.
#[derive(Debug)]
pub(crate) struct ServerInvite {
    timing: Timing,
    reliable: bool,
    last: Option<Bytes>,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Proceeding,
    /// Refused; repeated until the ACK (timers G and H).
    Completed {
        again: Option<Instant>,
        interval: Duration,
        ends: Instant,
    },
    /// The ACK came; its duplicates are absorbed (timer I).
    Confirmed {
        ends: Instant,
    },
    /// Answered 2xx; INVITE duplicates are absorbed (timer L), the dialog repeats the 2xx.
    Accepted {
        ends: Instant,
    },
    Terminated,
}

impl ServerInvite {
    pub(crate) fn new(reliable: bool, timing: Timing) -> Self {
        Self {
            timing,
            reliable,
            last: None,
            state: State::Proceeding,
        }
    }

    /// Notes an answer that is being sent. False once a final one went out: then it must not be sent.
    pub(crate) fn respond(&mut self, now: Instant, status: u16, bytes: &Bytes) -> bool {
        if self.state != State::Proceeding {
            return false;
        }
        self.last = Some(bytes.clone());
        let ends = now + self.timing.patience();
        self.state = match status {
            100..200 => State::Proceeding,
            200..300 => State::Accepted { ends },
            _ => {
                let again = (!self.reliable).then(|| now + self.timing.t1);
                State::Completed {
                    again,
                    interval: self.timing.t1,
                    ends,
                }
            }
        };
        true
    }

    /// The INVITE came again: what to send again, if anything.
    pub(crate) fn handle_retransmission(&self) -> Option<Bytes> {
        match self.state {
            State::Proceeding | State::Completed { .. } => self.last.clone(),
            State::Confirmed { .. } | State::Accepted { .. } | State::Terminated => None,
        }
    }

    /// An ACK with the INVITE's branch: true where it ends here, false where it is for the dialog.
    pub(crate) fn handle_ack(&mut self, now: Instant) -> bool {
        match self.state {
            State::Completed { .. } => {
                self.state = if self.reliable {
                    State::Terminated
                } else {
                    State::Confirmed {
                        ends: now + self.timing.t4,
                    }
                };
                true
            }
            State::Confirmed { .. } => true,
            State::Proceeding | State::Accepted { .. } | State::Terminated => false,
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Fired {
        match &mut self.state {
            State::Completed { ends, .. }
            | State::Confirmed { ends }
            | State::Accepted { ends }
                if *ends <= now =>
            {
                self.state = State::Terminated;
                Fired::Nothing
            }
            State::Completed {
                again: Some(again),
                interval,
                ..
            } if *again <= now => {
                *interval = (*interval * 2).min(self.timing.t2);
                *again = now + *interval;
                self.last.clone().map_or(Fired::Nothing, Fired::Again)
            }
            State::Proceeding
            | State::Completed { .. }
            | State::Confirmed { .. }
            | State::Accepted { .. }
            | State::Terminated => Fired::Nothing,
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Completed { again, ends, .. } => {
                Some(again.map_or(ends, |again| again.min(ends)))
            }
            State::Confirmed { ends } | State::Accepted { ends } => Some(ends),
            State::Proceeding | State::Terminated => None,
        }
    }

    /// No final answer has been given yet.
    pub(crate) fn is_open(&self) -> bool {
        self.state == State::Proceeding
    }

    pub(crate) fn is_terminated(&self) -> bool {
        self.state == State::Terminated
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    /// Runs the timers up to `seconds` and lists when something was sent, in milliseconds.
    fn sent(machine: &mut ServerInvite, start: Instant, seconds: u64) -> Vec<u128> {
        let mut times = Vec::new();
        while let Some(at) = machine
            .deadline()
            .filter(|at| *at <= start + Duration::from_secs(seconds))
        {
            if let Fired::Again(_) = machine.handle_timeout(at) {
                times.push((at - start).as_millis());
            }
        }
        times
    }

    #[test]
    fn a_refusal_is_repeated_until_the_ack_and_given_up_after_64_t1() {
        let start = Instant::now();
        let mut machine = ServerInvite::new(false, Timing::default());
        assert!(machine.respond(start, 486, &Bytes::from_static(b"486")));
        assert!(!machine.respond(start, 200, &Bytes::from_static(b"200")));
        assert_eq!(
            sent(&mut machine, start, 40),
            [
                500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500
            ]
        );
        assert!(machine.is_terminated());
    }

    #[test]
    fn an_ack_stops_the_repetition_and_its_duplicates_are_absorbed() {
        let start = Instant::now();
        let mut machine = ServerInvite::new(false, Timing::default());
        machine.respond(start, 404, &Bytes::from_static(b"404"));
        assert!(machine.handle_retransmission().is_some());
        assert!(machine.handle_ack(start));
        assert!(machine.handle_ack(start));
        assert_eq!(machine.handle_retransmission(), None);
        assert_eq!(sent(&mut machine, start, 40), [0u128; 0]);
        assert!(machine.is_terminated());
    }

    #[test]
    fn over_a_stream_nothing_is_repeated_and_the_ack_ends_it() {
        let start = Instant::now();
        let mut machine = ServerInvite::new(true, Timing::default());
        machine.respond(start, 503, &Bytes::from_static(b"503"));
        assert_eq!(machine.deadline(), Some(start + Duration::from_secs(32)));
        assert!(machine.handle_ack(start));
        assert!(machine.is_terminated());
    }

    #[test]
    fn after_a_2xx_duplicates_of_the_invite_vanish_and_acks_go_to_the_dialog() {
        let start = Instant::now();
        let mut machine = ServerInvite::new(false, Timing::default());
        assert!(machine.respond(start, 180, &Bytes::from_static(b"180")));
        assert_eq!(
            machine.handle_retransmission().as_deref(),
            Some(&b"180"[..])
        );
        assert!(machine.respond(start, 200, &Bytes::from_static(b"200")));
        assert_eq!(machine.handle_retransmission(), None);
        assert!(!machine.handle_ack(start));
        assert_eq!(sent(&mut machine, start, 40), [0u128; 0]);
        assert!(machine.is_terminated());
    }
}
