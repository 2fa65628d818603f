//! From the greeting to an accepted PIN, or to the third that was wrong.

use std::time::Instant;

use crate::booking::{Admission, NoLineWhy, Outcome, Pin, PinVerdict, Refusal, Role, Standing};
use crate::call::pin::{EntryStep, PinEntry};
use crate::call::record::Ending;
use crate::call::state::{Call, CallState, Moment};
use crate::call::{CallOutput, Phrase};
use crate::units::Key;

/// What goes on from PIN to PIN.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tries {
    wrong: u32,
    /// No PIN is taken after that.
    until: Instant,
    /// What speaks for who keys in the next.
    standing: Standing,
    challenges_failed: u32,
}

impl Tries {
    /// None yet, and none after `until`.
    pub(super) const fn until(until: Instant) -> Self {
        Self {
            wrong: 0,
            until,
            standing: Standing::Unknown,
            challenges_failed: 0,
        }
    }

    pub(super) const fn end(&self) -> Instant {
        self.until
    }

    pub(super) const fn standing(&self) -> Standing {
        self.standing
    }

    pub(super) const fn with(self, standing: Standing) -> Self {
        Self { standing, ..self }
    }

    /// How many he has failed with this one.
    pub(super) const fn fail_challenge(&mut self) -> u32 {
        self.challenges_failed += 1;
        self.challenges_failed
    }
}

/// A PIN is being keyed in.
#[derive(Debug)]
pub(super) struct CollectingPin {
    tries: Tries,
    entry: PinEntry,
    /// Prompts that nobody reacted to.
    silent_prompts: u32,
    /// When silence means something; `None` while the prompt plays.
    quiet_until: Option<Instant>,
}

impl CollectingPin {
    /// When something is due.
    pub(super) fn due(&self) -> Instant {
        self.quiet_until
            .map_or(self.tries.until, |quiet| quiet.min(self.tries.until))
    }

    /// The prompt was heard to its end; silence counts from now. Keys may have come before.
    pub(super) fn prompted(mut self, quiet_until: Instant) -> Self {
        self.quiet_until.get_or_insert(quiet_until);
        self
    }
}

impl Call {
    /// Asks for a PIN, from the beginning.
    pub(super) fn prompt<const N: usize>(
        &mut self,
        tries: Tries,
        silent_prompts: u32,
        phrases: [Phrase; N],
    ) -> CallState {
        self.say(phrases);
        let entry = PinEntry::default();
        CallState::CollectingPin(CollectingPin {
            tries,
            entry,
            silent_prompts,
            quiet_until: None,
        })
    }

    pub(super) fn on_pin_key(
        &mut self,
        at: Moment,
        mut collecting: CollectingPin,
        key: Key,
    ) -> CallState {
        let step = collecting.entry.press(key, self.limits.pin_length_auto);
        if step == EntryStep::Ignored {
            return CallState::CollectingPin(collecting);
        }
        self.record.not_silent();
        if collecting.quiet_until.is_none() {
            self.outputs.push_back(CallOutput::StopSaying);
        }
        collecting.silent_prompts = 0;
        let patience = match step {
            EntryStep::More => self.limits.between_digits,
            EntryStep::StartedOver | EntryStep::Ignored => self.limits.silence,
            EntryStep::Empty => return self.prompt(collecting.tries, 0, [Phrase::EnterPin]),
            EntryStep::Completed => return self.evaluate(at, &collecting),
            EntryStep::CompletedItself => {
                self.late_hash = Some(at.now + self.limits.late_hash);
                return self.evaluate(at, &collecting);
            }
        };
        collecting.quiet_until = Some(at.now + patience);
        CallState::CollectingPin(collecting)
    }

    /// Nothing was keyed in for too long.
    pub(super) fn on_pin_silence(&mut self, at: Moment, collecting: &CollectingPin) -> CallState {
        if at.now >= collecting.tries.until {
            self.record.gave_no_pin();
            return self.goodbye(at, Ending::LIMIT, [Phrase::TimeLimit]);
        }
        if !collecting.entry.is_empty() {
            return self.evaluate(at, collecting);
        }
        let silent_prompts = collecting.silent_prompts + 1;
        if silent_prompts >= self.limits.silent_prompts {
            self.record.gave_no_pin();
            return self.goodbye(at, Ending::LIMIT, []);
        }
        self.prompt(collecting.tries, silent_prompts, [Phrase::EnterPin])
    }

    /// What has not the form of a PIN is as wrong as any other wrong PIN.
    fn evaluate(&mut self, at: Moment, collecting: &CollectingPin) -> CallState {
        match collecting.entry.pin() {
            Ok(pin) => self.look_up(at, collecting.tries, pin, collecting.tries.standing),
            Err(_) => {
                self.record.pin_tried();
                self.on_refused(at, collecting.tries, &Refusal::Wrong)
            }
        }
    }

    pub(super) fn look_up(
        &mut self,
        at: Moment,
        tries: Tries,
        pin: Pin,
        standing: Standing,
    ) -> CallState {
        self.record.pin_tried();
        match standing {
            Standing::Proven if tries.wrong > 0 => CallState::Slowed {
                until: at.now + self.limits.slowed * tries.wrong,
                tries,
                pin,
                type_ahead: Vec::new(),
            },
            Standing::Unknown | Standing::Proven | Standing::Trusted => {
                self.ask_bookings(at, tries, pin, standing, Vec::new())
            }
        }
    }

    pub(super) fn ask_bookings(
        &mut self,
        at: Moment,
        tries: Tries,
        pin: Pin,
        standing: Standing,
        type_ahead: Vec<Key>,
    ) -> CallState {
        self.outputs.push_back(CallOutput::LookUpPin {
            pin: pin.clone(),
            standing,
        });
        CallState::LookingUp {
            until: at.now + self.limits.look_up,
            tries,
            pin: Some(pin),
            type_ahead,
        }
    }

    pub(super) fn on_pin_verdict(
        &mut self,
        at: Moment,
        state: CallState,
        verdict: PinVerdict,
    ) -> CallState {
        let (tries, pin, type_ahead) = match state {
            CallState::LookingUp {
                tries,
                pin,
                type_ahead,
                ..
            } => (tries, pin, type_ahead),
            CallState::Returning(returning) => {
                return self.on_verdict_on_past(at, returning, verdict);
            }
            CallState::New
            | CallState::Ringing { .. }
            | CallState::Dialling { .. }
            | CallState::Inviting(_)
            | CallState::Answering { .. }
            | CallState::CollectingPin(_)
            | CallState::Challenged(_)
            | CallState::Slowed { .. }
            | CallState::Entering { .. }
            | CallState::Waiting { .. }
            | CallState::Joined(_)
            | CallState::SayingGoodbye { .. }
            | CallState::Ended => return state,
        };
        match (verdict, pin) {
            // Keys typed ahead are forgotten: they were meant for the meeting, not for a next PIN.
            (PinVerdict::Refused(Refusal::Unproven(digits)), Some(pin)) => {
                self.challenge(tries, pin, digits)
            }
            (PinVerdict::Refused(refusal), _) => self.on_refused(at, tries, &refusal),
            (PinVerdict::Admitted(admission), _) => self.on_admitted(at, admission, type_ahead),
        }
    }

    /// The bookings gave no answer in time.
    pub(super) fn on_unavailable(&mut self, at: Moment, tries: Tries) -> CallState {
        self.on_refused(at, tries, &Refusal::Unavailable)
    }

    fn on_refused(&mut self, at: Moment, mut tries: Tries, refusal: &Refusal) -> CallState {
        self.reach(refusal);
        let (outcome, ending, reason) = Self::reason(at, refusal);
        self.record.refused(outcome);
        if outcome == Outcome::WrongPin {
            tries.wrong += 1;
            if tries.wrong < self.limits.wrong_pins {
                return self.prompt(tries, 0, [Phrase::WrongPin, Phrase::EnterPin]);
            }
        }
        self.goodbye(at, ending, [reason])
    }

    /// What a refusal is in the record, and what the caller is told.
    pub(super) fn reason(at: Moment, refusal: &Refusal) -> (Outcome, Ending, Phrase) {
        match refusal {
            Refusal::Wrong => (Outcome::WrongPin, Ending::TOLD, Phrase::WrongPin),
            Refusal::TooEarly { opens_at } => {
                let today = at.wall.to_zoned(opens_at.time_zone().clone()).date();
                let today = today == opens_at.date();
                let phrase = Phrase::OpensAt {
                    opens_at: opens_at.clone(),
                    today,
                };
                (Outcome::TooEarly, Ending::TOLD, phrase)
            }
            Refusal::Ended => (Outcome::Ended, Ending::TOLD, Phrase::MeetingEnded),
            Refusal::Cancelled => (Outcome::Cancelled, Ending::TOLD, Phrase::MeetingCancelled),
            Refusal::Unproven(_) => (
                Outcome::ChallengeFailed,
                Ending::TOLD,
                Phrase::TryAgainLater,
            ),
            Refusal::Unavailable => (Outcome::Error, Ending::UNAVAILABLE, Phrase::TryAgainLater),
            Refusal::NoLine(no_line) => {
                let phrase = match no_line.why {
                    NoLineWhy::Callers => Phrase::LinesTaken,
                    NoLineWhy::Minutes => Phrase::MinutesUsedUp,
                };
                (Outcome::Full, Ending::TOLD, phrase)
            }
        }
    }

    /// Who finds no line has found his meeting: his record names it, and he is told in its language.
    fn reach(&mut self, refusal: &Refusal) {
        if let Refusal::NoLine(no_line) = refusal {
            self.record.found(no_line);
            let language = self.asked_language.or(no_line.language);
            self.voice.speak(language);
            self.voice.brand = Some(no_line.brand.clone());
        }
    }

    fn on_admitted(
        &mut self,
        at: Moment,
        admission: Box<Admission>,
        type_ahead: Vec<Key>,
    ) -> CallState {
        self.admit(&admission);
        self.outputs.push_back(CallOutput::Enter(admission.clone()));
        CallState::Entering {
            until: at.now + self.limits.enter,
            admission,
            past: None,
            type_ahead,
        }
    }

    pub(super) fn admit(&mut self, admission: &Admission) {
        self.record.admitted(admission);
        let language = self.asked_language.or(admission.language);
        self.voice.speak(language);
        self.voice.brand = Some(admission.brand.clone());
        self.machine = admission.role == Role::Bridge;
    }
}
