//! The state machine of one call. Each state owns its data; an input takes the state and gives the
//! next one. Here: the states, the doors in and out, the answer and the end; `collecting` is the
//! way to an accepted PIN, `challenge` what stands in that way while many guess, `inviting` that of somebody whom we call, `meeting` everything behind both, `returning`
//! the way back after a loss; `summary` is a call at a glance.

mod challenge;
mod collecting;
mod inviting;
mod meeting;
mod returning;
mod summary;

use std::collections::VecDeque;
use std::mem;
use std::time::Instant;

use jiff::Timestamp;

use crate::booking::admission::CallId;
use crate::booking::{Admission, CallerNumber, Outcome, Pin, Standing};
use crate::call::record::{Ending, RecordDraft};
use crate::call::{
    Arrival, CallInput, CallLimits, CallOutput, Outgoing, Past, Phrase, Rejection, WaitFor,
    is_emergency, reaches_emergency,
};
use crate::units::{Key, Language, Voice};
use challenge::Challenged;
use collecting::{CollectingPin, Tries};
use inviting::Inviting;
use meeting::Joined;
use returning::Returning;

pub use summary::{CallPhase, CallSummary};

/// One call, from its arrival to its record.
#[derive(Debug)]
pub struct Call {
    id: CallId,
    limits: CallLimits,
    /// The number's; the meeting's once the PIN is accepted.
    voice: Voice,
    /// What he is spoken to in whatever the meeting says.
    asked_language: Option<Language>,
    /// His PIN says that he is a machine: it is told nothing and commands nothing.
    machine: bool,
    music: bool,
    /// A `#` until then still belongs to a PIN that completed itself.
    late_hash: Option<Instant>,
    /// The longest the whole call may last; from its answer.
    call_until: Option<Instant>,
    record: RecordDraft,
    state: CallState,
    outputs: VecDeque<CallOutput>,
}

#[derive(Debug)]
enum CallState {
    /// Not even arrived.
    New,
    /// Rings until then.
    Ringing { until: Instant, entry: Entry },
    /// We ring him until then.
    Dialling {
        until: Instant,
        outgoing: Box<Outgoing>,
    },
    /// Answered, not acknowledged.
    Answering {
        until: Instant,
        entry: Entry,
        type_ahead: Vec<Key>,
    },
    /// Called by us, answered: is asked whether he wants to join.
    Inviting(Inviting),
    /// Greeted; PINs are keyed in.
    CollectingPin(CollectingPin),
    /// Keys in two digits that he hears.
    Challenged(Box<Challenged>),
    /// The bookings are asked later.
    Slowed {
        until: Instant,
        tries: Tries,
        pin: Pin,
        type_ahead: Vec<Key>,
    },
    /// The bookings are asked.
    LookingUp {
        until: Instant,
        tries: Tries,
        /// What they are asked about; `None`: of whom we called.
        pin: Option<Pin>,
        type_ahead: Vec<Key>,
    },
    /// The bookings are asked about the meeting that he was in.
    Returning(Returning),
    /// The room is asked.
    Entering {
        until: Instant,
        admission: Box<Admission>,
        /// Set for one who returns.
        past: Option<Box<Past>>,
        type_ahead: Vec<Key>,
    },
    /// Hears music until the meeting opens.
    Waiting {
        until: Instant,
        admission: Box<Admission>,
        wait_for: WaitFor,
    },
    /// In.
    Joined(Box<Joined>),
    /// Hears why it ends.
    SayingGoodbye { until: Instant, ending: Ending },
    /// Over.
    Ended,
}

/// How a caller gets in once he is answered.
#[derive(Debug)]
enum Entry {
    /// He is asked for a PIN.
    Asked,
    /// His PIN came with the call; what speaks for it.
    Pin(Pin, Standing),
    /// He was in before.
    Past(Box<Past>),
    /// We called him.
    Outgoing(Box<Outgoing>),
}

/// Both clocks at an input: the monotonic one for everything that lasts, the wall clock for what is
/// said and recorded.
#[derive(Debug, Clone, Copy)]
struct Moment {
    now: Instant,
    wall: Timestamp,
}

impl Call {
    /// A call that has yet to arrive.
    #[must_use]
    pub const fn new(id: CallId, limits: CallLimits) -> Self {
        Self {
            id,
            limits,
            voice: Voice::everybodys(Language::English),
            asked_language: None,
            machine: false,
            music: false,
            late_hash: None,
            call_until: None,
            record: RecordDraft::new(id),
            state: CallState::New,
            outputs: VecDeque::new(),
        }
    }

    /// Takes what happened. An input that does not fit the state changes nothing.
    pub fn handle_input(&mut self, now: Instant, wall: Timestamp, input: CallInput) {
        let at = Moment { now, wall };
        let state = mem::replace(&mut self.state, CallState::New);
        self.state = match input {
            CallInput::Arrived(arrival) => self.on_arrived(at, state, arrival),
            CallInput::Unwanted(arrival, why) => self.on_unwanted(at, state, arrival, why),
            CallInput::GoesBy(route) => self.on_goes_by(state, route),
            CallInput::PickedUp => self.on_picked_up(at, state),
            CallInput::NotReached { q850 } => self.on_not_reached(at, state, q850),
            CallInput::Answered => self.on_answered(at, state),
            CallInput::Key(key) => self.on_key(at, state, key),
            CallInput::SayFinished => self.on_say_finished(at, state),
            CallInput::PinVerdict(verdict) => self.on_pin_verdict(at, state, verdict),
            CallInput::RoomVerdict(verdict) => self.on_room_verdict(at, state, verdict),
            CallInput::Room(notice) => self.on_notice(at, state, notice),
            CallInput::HungUp => self.on_hung_up(at, &state),
            CallInput::Lost => self.cut(at, &state, Ending::LOST),
            CallInput::Unsecured => self.cut(at, &state, Ending::UNSECURED),
            CallInput::Drop(by) => self.cut(at, &state, Ending::dropped(by)),
        };
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant, wall: Timestamp) {
        let at = Moment { now, wall };
        if self.poll_timeout().is_none_or(|due| now < due) {
            return;
        }
        let state = mem::replace(&mut self.state, CallState::New);
        self.state = if self.call_is_too_long(now, &state) {
            self.leave_if_in(&state);
            self.goodbye(at, Ending::LIMIT, [Phrase::TimeLimit])
        } else {
            self.on_timeout(at, state)
        };
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<CallOutput> {
        self.outputs.pop_front()
    }

    /// When to call [`Self::handle_timeout`]; `None` before the arrival and after the end.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = match &self.state {
            CallState::New | CallState::Ended => return None,
            CallState::SayingGoodbye { until, .. } => return Some(*until),
            CallState::Ringing { until, .. }
            | CallState::Dialling { until, .. }
            | CallState::Answering { until, .. }
            | CallState::Slowed { until, .. }
            | CallState::LookingUp { until, .. }
            | CallState::Entering { until, .. }
            | CallState::Waiting { until, .. } => Some(*until),
            CallState::Returning(returning) => Some(returning.due()),
            CallState::CollectingPin(collecting) => Some(collecting.due()),
            CallState::Challenged(challenged) => Some(challenged.due()),
            CallState::Inviting(inviting) => Some(inviting.due()),
            CallState::Joined(joined) => joined.due(),
        };
        due.into_iter().chain(self.call_until).min()
    }
}

/// From the arrival to the greeting.
impl Call {
    fn on_arrived(&mut self, at: Moment, state: CallState, arrival: Arrival) -> CallState {
        let CallState::New = state else { return state };
        let reaches = |called: &CallerNumber| reaches_emergency(called.expose());
        let outgoing = arrival.outgoing.clone();
        if is_emergency(&arrival.number) || (outgoing.is_some() && reaches(&arrival.caller)) {
            return self.reject(at, arrival, Rejection::Emergency);
        }
        self.voice = arrival.voice.clone();
        let past = arrival.past.clone();
        let (pin, trusted) = (arrival.pin.clone(), arrival.trusted);
        self.record.arrived(at.wall, arrival);
        if let Some(past) = past {
            self.record.resumed(&past);
            return self.answer(at, Entry::Past(past));
        }
        if let Some(outgoing) = outgoing {
            return self.call_out(at, outgoing);
        }
        let standing = if trusted {
            Standing::Trusted
        } else {
            Standing::Unknown
        };
        let entry = pin.map_or(Entry::Asked, |pin| Entry::Pin(pin, standing));
        if self.limits.ring.is_zero() {
            return self.answer(at, entry);
        }
        self.outputs.push_back(CallOutput::Ring);
        CallState::Ringing {
            until: at.now + self.limits.ring,
            entry,
        }
    }

    fn on_unwanted(
        &mut self,
        at: Moment,
        state: CallState,
        arrival: Arrival,
        why: Rejection,
    ) -> CallState {
        let CallState::New = state else { return state };
        let emergency = is_emergency(&arrival.number);
        self.reject(
            at,
            arrival,
            if emergency { Rejection::Emergency } else { why },
        )
    }

    fn reject(&mut self, at: Moment, arrival: Arrival, why: Rejection) -> CallState {
        let (outcome, ending) = match why {
            Rejection::Emergency | Rejection::UnknownNumber => {
                (Outcome::Error, Ending::UNALLOCATED)
            }
            Rejection::Overload => (Outcome::Overload, Ending::CONGESTION),
        };
        self.record.arrived(at.wall, arrival);
        self.record.refused(outcome);
        self.outputs.push_back(CallOutput::Reject(why));
        self.finish(at, ending)
    }

    fn answer(&mut self, at: Moment, entry: Entry) -> CallState {
        self.outputs.push_back(CallOutput::Answer);
        CallState::Answering {
            until: at.now + self.limits.acknowledge,
            entry,
            type_ahead: Vec::new(),
        }
    }

    fn on_answered(&mut self, at: Moment, state: CallState) -> CallState {
        let CallState::Answering {
            entry, type_ahead, ..
        } = state
        else {
            return state;
        };
        let answered_at = self.record.answered(at.wall);
        let lasts = at.wall.duration_since(answered_at).unsigned_abs();
        self.call_until = Some(at.now + self.limits.call.saturating_sub(lasts));
        let tries = Tries::until(at.now + self.limits.before_pin);
        let state = match entry {
            Entry::Pin(pin, standing) => self.look_up(at, tries, pin, standing),
            Entry::Asked => self.prompt(tries, 0, [Phrase::Welcome, Phrase::EnterPin]),
            Entry::Past(past) => self.go_back(at, past),
            Entry::Outgoing(outgoing) => return self.invite(at, outgoing),
        };
        type_ahead
            .into_iter()
            .fold(state, |state, key| self.on_key(at, state, key))
    }
}

/// What each state makes of keys, silence and time.
impl Call {
    fn on_key(&mut self, at: Moment, state: CallState, key: Key) -> CallState {
        let late_hash = self.late_hash.take();
        if key == Key::HASH && late_hash.is_some_and(|until| at.now < until) {
            return state;
        }
        let mut state = state;
        if let Some(keys) = state.type_ahead() {
            if keys.len() < self.limits.type_ahead {
                keys.push(key);
            }
            return state;
        }
        match state {
            CallState::CollectingPin(collecting) => self.on_pin_key(at, collecting, key),
            CallState::Challenged(challenged) => self.on_challenge_key(at, *challenged, key),
            CallState::Inviting(inviting) => self.on_invited_key(at, inviting, key),
            CallState::Joined(mut joined) => {
                self.on_meeting_key(at, &mut joined, key);
                CallState::Joined(joined)
            }
            CallState::New
            | CallState::Ringing { .. }
            | CallState::Dialling { .. }
            | CallState::Answering { .. }
            | CallState::Slowed { .. }
            | CallState::LookingUp { .. }
            | CallState::Returning { .. }
            | CallState::Entering { .. }
            | CallState::Waiting { .. }
            | CallState::SayingGoodbye { .. }
            | CallState::Ended => state,
        }
    }

    fn on_say_finished(&mut self, at: Moment, state: CallState) -> CallState {
        match state {
            CallState::CollectingPin(collecting) => {
                CallState::CollectingPin(collecting.prompted(at.now + self.limits.silence))
            }
            CallState::Challenged(challenged) => {
                CallState::Challenged(Box::new(challenged.prompted(at.now + self.limits.silence)))
            }
            CallState::Inviting(inviting) => {
                CallState::Inviting(inviting.prompted(at.now + self.limits.silence))
            }
            CallState::SayingGoodbye { ending, .. } => self.hang_up(at, ending),
            CallState::New
            | CallState::Ringing { .. }
            | CallState::Dialling { .. }
            | CallState::Answering { .. }
            | CallState::Slowed { .. }
            | CallState::LookingUp { .. }
            | CallState::Returning { .. }
            | CallState::Entering { .. }
            | CallState::Waiting { .. }
            | CallState::Joined(_)
            | CallState::Ended => state,
        }
    }

    fn on_timeout(&mut self, at: Moment, state: CallState) -> CallState {
        match state {
            CallState::Ringing { entry, .. } => self.answer(at, entry),
            CallState::Dialling { outgoing, .. } => self.on_rung_in_vain(at, &outgoing),
            CallState::Inviting(inviting) => self.on_invited_silence(at, inviting),
            CallState::Answering { .. } => self.cut(at, &state, Ending::LOST),
            CallState::CollectingPin(collecting) => self.on_pin_silence(at, &collecting),
            CallState::Challenged(challenged) => self.on_challenge_silence(at, *challenged),
            CallState::Slowed {
                tries,
                pin,
                type_ahead,
                ..
            } => self.ask_bookings(at, tries, pin, tries.standing(), type_ahead),
            CallState::LookingUp { tries, .. } => self.on_unavailable(at, tries),
            CallState::Returning(returning) => self.on_return_overdue(at, returning),
            CallState::Joined(mut joined) if joined.music_is_due(at.now) => {
                joined.music_at = None;
                self.set_music(true);
                CallState::Joined(joined)
            }
            CallState::Entering { .. } => {
                self.record.refused(Outcome::Error);
                self.leave_if_in(&state);
                self.goodbye(at, Ending::UNAVAILABLE, [Phrase::TryAgainLater])
            }
            CallState::Waiting { .. } | CallState::Joined(_) => {
                self.leave_if_in(&state);
                self.goodbye(at, Ending::LIMIT, [Phrase::TimeLimit])
            }
            CallState::SayingGoodbye { ending, .. } => self.hang_up(at, ending),
            CallState::New | CallState::Ended => state,
        }
    }

    fn call_is_too_long(&self, now: Instant, state: &CallState) -> bool {
        let leaving = matches!(state, CallState::SayingGoodbye { .. } | CallState::Ended);
        !leaving && self.call_until.is_some_and(|until| now >= until)
    }
}

/// Speech, and the end.
impl Call {
    /// How he is spoken to.
    #[must_use]
    pub const fn voice(&self) -> &Voice {
        &self.voice
    }

    fn say(&mut self, phrases: impl IntoIterator<Item = Phrase>) {
        if !self.machine {
            let phrases = phrases.into_iter().collect();
            self.outputs.push_back(CallOutput::Say {
                voice: self.voice.clone(),
                phrases,
            });
        }
    }

    fn set_music(&mut self, on: bool) {
        if self.music != on && !self.machine {
            self.music = on;
            self.outputs.push_back(CallOutput::Music(on));
        }
    }

    fn leave_if_in(&mut self, state: &CallState) {
        if state.is_in_room() {
            self.outputs.push_back(CallOutput::Leave);
        }
    }

    /// Says why and goodbye; the call ends when that was heard.
    fn goodbye(
        &mut self,
        at: Moment,
        ending: Ending,
        reason: impl IntoIterator<Item = Phrase>,
    ) -> CallState {
        if self.machine {
            return self.hang_up(at, ending);
        }
        self.set_music(false);
        self.say(reason.into_iter().chain([Phrase::Goodbye]));
        CallState::SayingGoodbye {
            until: at.now + self.limits.goodbye,
            ending,
        }
    }

    /// The caller hung up.
    fn on_hung_up(&mut self, at: Moment, state: &CallState) -> CallState {
        if state.is_ended() {
            return CallState::Ended;
        }
        self.leave_if_in(state);
        self.finish(at, Ending::CALLER)
    }

    /// Ends it without a word.
    fn cut(&mut self, at: Moment, state: &CallState, ending: Ending) -> CallState {
        if state.is_ended() {
            return CallState::Ended;
        }
        self.record.not_silent();
        self.leave_if_in(state);
        self.hang_up(at, ending)
    }

    fn hang_up(&mut self, at: Moment, ending: Ending) -> CallState {
        self.outputs
            .push_back(CallOutput::HangUp { q850: ending.q850 });
        self.finish(at, ending)
    }

    fn finish(&mut self, at: Moment, ending: Ending) -> CallState {
        let record = Box::new(self.record.finish(at.wall, ending));
        self.outputs.push_back(CallOutput::Record(record));
        CallState::Ended
    }
}

impl CallState {
    const fn is_ended(&self) -> bool {
        matches!(self, Self::Ended)
    }

    /// The room may know him: it was asked, or he waits, or he is in.
    const fn is_in_room(&self) -> bool {
        matches!(
            self,
            Self::Entering { .. } | Self::Waiting { .. } | Self::Joined(_)
        )
    }

    fn admission(&self) -> Option<&Admission> {
        match self {
            Self::Entering { admission, .. } | Self::Waiting { admission, .. } => Some(admission),
            Self::Joined(joined) => Some(joined.admission()),
            Self::New
            | Self::Ringing { .. }
            | Self::Dialling { .. }
            | Self::Answering { .. }
            | Self::Inviting(_)
            | Self::CollectingPin(_)
            | Self::Challenged(_)
            | Self::Slowed { .. }
            | Self::LookingUp { .. }
            | Self::Returning { .. }
            | Self::SayingGoodbye { .. }
            | Self::Ended => None,
        }
    }

    /// Where keys are kept until it is known what they are for.
    const fn type_ahead(&mut self) -> Option<&mut Vec<Key>> {
        match self {
            Self::Answering { type_ahead, .. }
            | Self::Slowed { type_ahead, .. }
            | Self::LookingUp { type_ahead, .. }
            | Self::Entering { type_ahead, .. } => Some(type_ahead),
            Self::Returning(returning) => Some(&mut returning.type_ahead),
            Self::New
            | Self::Ringing { .. }
            | Self::Dialling { .. }
            | Self::Inviting(_)
            | Self::CollectingPin(_)
            | Self::Challenged(_)
            | Self::Waiting { .. }
            | Self::Joined(_)
            | Self::SayingGoodbye { .. }
            | Self::Ended => None,
        }
    }
}
