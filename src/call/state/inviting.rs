//! Somebody whom we call: rung, asked whether he wants to join, and then let in like everybody else. Who doesn't
//! press 1 stays out: it may be a machine that takes calls, and nobody wants its greeting in a meeting.

use std::time::Instant;

use jiff::Timestamp;

use crate::booking::Outcome;
use crate::call::record::Ending;
use crate::call::state::collecting::Tries;
use crate::call::state::{Call, CallState, Entry, Moment};
use crate::call::{CallOutput, Outgoing, Phrase, RoomTerms, Route};
use crate::units::Key;

/// He is asked, and hasn't said yet.
#[derive(Debug)]
pub(super) struct Inviting {
    outgoing: Box<Outgoing>,
    /// He is not asked any longer than that.
    until: Instant,
    /// Prompts that he didn't react to.
    silent_prompts: u32,
    /// When silence means something; `None` while the prompt plays.
    quiet_until: Option<Instant>,
}

impl Inviting {
    /// When something is due.
    pub(super) fn due(&self) -> Instant {
        self.quiet_until
            .map_or(self.until, |quiet| quiet.min(self.until))
    }

    /// The prompt was heard to its end; silence counts from now.
    pub(super) fn prompted(mut self, quiet_until: Instant) -> Self {
        self.quiet_until.get_or_insert(quiet_until);
        self
    }
}

impl Call {
    /// Rings him, no longer than his meeting lasts.
    pub(super) fn call_out(&mut self, at: Moment, outgoing: Box<Outgoing>) -> CallState {
        self.record.called_out(&outgoing.admission);
        self.asked_language = outgoing.language;
        self.outputs.push_back(CallOutput::Dial);
        let rings = self.limits.dial_ring;
        let lasts = over_at(&outgoing).map(|over| over.duration_since(at.wall));
        let lasts = lasts.map(|lasts| lasts.try_into().unwrap_or_default());
        let until = at.now + lasts.map_or(rings, |lasts| rings.min(lasts));
        CallState::Dialling { until, outgoing }
    }

    /// What is recorded is the way by which he was had in the end.
    pub(super) fn on_goes_by(&mut self, state: CallState, route: Route) -> CallState {
        if matches!(state, CallState::Dialling { .. }) {
            self.record.goes_by(route);
        }
        state
    }

    pub(super) fn on_picked_up(&mut self, at: Moment, state: CallState) -> CallState {
        let CallState::Dialling { outgoing, .. } = state else {
            return state;
        };
        self.answer(at, Entry::Outgoing(outgoing))
    }

    /// He didn't answer in time, or his meeting is over.
    pub(super) fn on_rung_in_vain(&mut self, at: Moment, outgoing: &Outgoing) -> CallState {
        if over_at(outgoing).is_some_and(|over| over <= at.wall) {
            return self.on_invited_to_nothing(at);
        }
        self.record.refused(Outcome::NoAnswer);
        self.hang_up(at, Ending::NO_ANSWER)
    }

    /// The network says why he can't be had (ITU-T Q.850).
    pub(super) fn on_not_reached(&mut self, at: Moment, state: CallState, q850: u8) -> CallState {
        let CallState::Dialling { .. } = state else {
            return state;
        };
        let (outcome, ending) = match q850 {
            17 => (Outcome::Busy, Ending::by_called(q850)),
            18 | 19 => (Outcome::NoAnswer, Ending::by_called(q850)),
            21 => (Outcome::Declined, Ending::by_called(q850)),
            _ => (Outcome::Error, Ending::by_network(q850)),
        };
        self.record.refused(outcome);
        self.finish(at, ending)
    }

    /// His meeting has ended while he was rung.
    pub(super) fn on_invited_to_nothing(&mut self, at: Moment) -> CallState {
        self.record.refused(Outcome::Ended);
        self.hang_up(at, Ending::TOLD)
    }

    /// He hears us. What he pressed before he was asked is no answer.
    pub(super) fn invite(&mut self, at: Moment, outgoing: Box<Outgoing>) -> CallState {
        self.record.refused(Outcome::NoInput);
        self.ask(Inviting {
            outgoing,
            until: at.now + self.limits.before_pin,
            silent_prompts: 0,
            quiet_until: None,
        })
    }

    fn ask(&mut self, inviting: Inviting) -> CallState {
        self.say([Phrase::Invited]);
        CallState::Inviting(Inviting {
            quiet_until: None,
            ..inviting
        })
    }

    pub(super) fn on_invited_key(&mut self, at: Moment, inviting: Inviting, key: Key) -> CallState {
        if inviting.quiet_until.is_none() {
            self.outputs.push_back(CallOutput::StopSaying);
        }
        if key.digit() != Some(JOIN) {
            self.record.refused(Outcome::Declined);
            return self.goodbye(at, Ending::TOLD, []);
        }
        self.record.refused(Outcome::Error);
        self.outputs
            .push_back(CallOutput::LookUpInvited(inviting.outgoing));
        CallState::LookingUp {
            pin: None,
            until: at.now + self.limits.look_up,
            tries: Tries::until(at.now),
            type_ahead: Vec::new(),
        }
    }

    /// He presses nothing.
    pub(super) fn on_invited_silence(&mut self, at: Moment, inviting: Inviting) -> CallState {
        let silent_prompts = inviting.silent_prompts + 1;
        if at.now >= inviting.until || silent_prompts >= self.limits.silent_prompts {
            return self.goodbye(at, Ending::LIMIT, []);
        }
        self.ask(Inviting {
            silent_prompts,
            ..inviting
        })
    }

    /// His meeting has ended while he was asked.
    pub(super) fn on_asked_too_late(&mut self, at: Moment) -> CallState {
        self.record.refused(Outcome::Ended);
        self.goodbye(at, Ending::TOLD, [Phrase::MeetingEnded])
    }
}

/// When nobody may be in his meeting any more; `None`: never.
fn over_at(outgoing: &Outgoing) -> Option<Timestamp> {
    RoomTerms::from(outgoing.admission.as_ref()).over_at()
}

/// The key that says that he wants to.
const JOIN: u8 = 1;
