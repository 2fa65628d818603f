//! While many PINs are guessed: a caller keys in two digits that he hears before his PIN is looked at. It is his PIN
//! first, then the digits, so that a telephone that dials a PIN after the number needn't know of them.

use std::time::Instant;

use crate::booking::admission::{SpokenDigits, Standing};
use crate::booking::{Outcome, Pin};
use crate::call::record::Ending;
use crate::call::state::collecting::Tries;
use crate::call::state::{Call, CallState, Moment};
use crate::call::{CallOutput, Phrase};
use crate::units::Key;

/// Two digits are being keyed in.
#[derive(Debug)]
pub(super) struct Challenged {
    tries: Tries,
    /// Looked at afterwards.
    pin: Pin,
    digits: SpokenDigits,
    /// The first of them.
    first: Option<Key>,
    /// When silence means something; `None` while the prompt plays.
    quiet_until: Option<Instant>,
}

impl Challenged {
    /// When something is due.
    pub(super) fn due(&self) -> Instant {
        self.quiet_until
            .map_or(self.tries.end(), |quiet| quiet.min(self.tries.end()))
    }

    /// The digits were heard; silence counts from now.
    pub(super) fn prompted(mut self, quiet_until: Instant) -> Self {
        self.quiet_until.get_or_insert(quiet_until);
        self
    }
}

impl Call {
    /// The bookings won't look at his PIN before he has shown that he hears.
    pub(super) fn challenge(&mut self, tries: Tries, pin: Pin, digits: SpokenDigits) -> CallState {
        self.record.refused(Outcome::ChallengeFailed);
        self.say_digits(Challenged {
            tries,
            pin,
            digits,
            first: None,
            quiet_until: None,
        })
    }

    fn say_digits(&mut self, challenged: Challenged) -> CallState {
        self.say([Phrase::KeyInDigits, Phrase::Digits(challenged.digits)]);
        CallState::Challenged(Box::new(Challenged {
            first: None,
            quiet_until: None,
            ..challenged
        }))
    }

    pub(super) fn on_challenge_key(
        &mut self,
        at: Moment,
        mut challenged: Challenged,
        key: Key,
    ) -> CallState {
        if key == Key::STAR || (key == Key::HASH && challenged.first.is_none()) {
            return self.say_digits(challenged);
        }
        if key != Key::HASH && key.digit().is_none() {
            return CallState::Challenged(Box::new(challenged));
        }
        if challenged.quiet_until.is_none() {
            self.outputs.push_back(CallOutput::StopSaying);
        }
        let Some(first) = challenged.first else {
            challenged.first = Some(key);
            challenged.quiet_until = Some(at.now + self.limits.between_digits);
            return CallState::Challenged(Box::new(challenged));
        };
        // Who ends everything with a hash does so here too.
        self.late_hash = Some(at.now + self.limits.late_hash);
        if challenged.digits.are(first, key) {
            self.pass(at, challenged)
        } else {
            self.fail(at, challenged)
        }
    }

    /// Nothing was keyed in for too long.
    pub(super) fn on_challenge_silence(&mut self, at: Moment, challenged: Challenged) -> CallState {
        if at.now >= challenged.tries.end() {
            self.outputs.push_back(CallOutput::Challenged(false));
            return self.goodbye(at, Ending::LIMIT, [Phrase::TimeLimit]);
        }
        self.fail(at, challenged)
    }

    fn pass(&mut self, at: Moment, challenged: Challenged) -> CallState {
        self.record.undecided();
        self.outputs.push_back(CallOutput::Challenged(true));
        let tries = challenged.tries.with(Standing::Proven);
        self.ask_bookings(at, tries, challenged.pin, Standing::Proven, Vec::new())
    }

    /// Other digits next time; by then none may be needed any more.
    fn fail(&mut self, at: Moment, mut challenged: Challenged) -> CallState {
        self.outputs.push_back(CallOutput::Challenged(false));
        if challenged.tries.fail_challenge() >= self.limits.challenges {
            return self.goodbye(at, Ending::TOLD, [Phrase::TryAgainLater]);
        }
        let standing = challenged.tries.standing();
        self.ask_bookings(at, challenged.tries, challenged.pin, standing, Vec::new())
    }
}
