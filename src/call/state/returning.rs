//! The way back in for a caller whom another process has lost: without a prompt, a PIN or a tone.

use std::time::Instant;

use crate::booking::{Admission, Outcome, PinVerdict, Refusal, Role};
use crate::call::keypad::Keypad;
use crate::call::state::meeting::Joined;
use crate::call::state::{Call, CallState, Entry, Moment};
use crate::call::voice::Voice;
use crate::call::{CallOutput, MutedBy, Past, Seat, SeatState, WaitFor};
use crate::units::Key;

/// It isn't known yet whether his meeting is still on.
#[derive(Debug)]
pub(super) struct Returning {
    past: Box<Past>,
    pub(super) type_ahead: Vec<Key>,
    /// The bookings are asked again then: they couldn't say, or said nothing.
    ask_at: Instant,
    /// He is told then to try again later.
    until: Instant,
}

impl Returning {
    /// When something is due.
    pub(super) fn due(&self) -> Instant {
        self.ask_at.min(self.until)
    }
}

impl Call {
    /// What whoever finds the caller next has to know; `None`: it is not worth a return, as before the PIN
    /// and in the echo meeting. `seat` is the room's.
    #[must_use]
    pub fn past(&self, seat: &Seat) -> Option<Past> {
        let (muted_by, may_unmute) = match &self.state {
            CallState::Waiting { .. } => (seat.muted_by, true),
            CallState::Joined(joined) if !joined.admission().echo => {
                (joined.muted_by(), joined.may_unmute())
            }
            CallState::New
            | CallState::Ringing { .. }
            | CallState::Dialling { .. }
            | CallState::Inviting(_)
            | CallState::Answering { .. }
            | CallState::CollectingPin(_)
            | CallState::Challenged(_)
            | CallState::Slowed { .. }
            | CallState::LookingUp { .. }
            | CallState::Returning { .. }
            | CallState::Entering { .. }
            | CallState::Joined(_)
            | CallState::SayingGoodbye { .. }
            | CallState::Ended => return None,
        };
        Some(Past {
            call: self.id,
            meeting: self.record.meeting()?,
            participant: seat.participant,
            role: seat.role,
            name: seat.name.clone(),
            state: seat.state,
            since: seat.since,
            muted_by,
            may_unmute,
            hand: seat.hand,
            started_at: self.record.started_at()?,
            answered_at: self.record.answered_at()?,
            pin_attempts: self.record.pin_attempts(),
            called: self.record.called(),
        })
    }

    /// He was in a meeting, or waited for one, and isn't there again yet: what is written down beside him holds.
    #[must_use]
    pub const fn is_on_his_way_back(&self) -> bool {
        matches!(
            self.state,
            CallState::Answering {
                entry: Entry::Past(_),
                ..
            } | CallState::Returning(_)
                | CallState::Entering { past: Some(_), .. }
        )
    }

    /// He hears us again: is his meeting still on?
    pub(super) fn go_back(&mut self, at: Moment, past: Box<Past>) -> CallState {
        self.machine = past.role == Role::Bridge;
        let until = at.now + self.limits.going_back;
        self.ask_about_past(at, until, past, Vec::new())
    }

    fn ask_about_past(
        &mut self,
        at: Moment,
        until: Instant,
        past: Box<Past>,
        type_ahead: Vec<Key>,
    ) -> CallState {
        self.outputs.push_back(CallOutput::LookUpPast(past.clone()));
        CallState::Returning(Returning {
            past,
            type_ahead,
            ask_at: at.now + self.limits.look_up,
            until,
        })
    }

    pub(super) fn on_verdict_on_past(
        &mut self,
        at: Moment,
        returning: Returning,
        verdict: PinVerdict,
    ) -> CallState {
        match verdict {
            PinVerdict::Admitted(admission) => {
                let Returning {
                    past, type_ahead, ..
                } = returning;
                // If he waits for his meeting now, he hears its own.
                self.set_music(false);
                self.admit(&admission);
                self.outputs.push_back(CallOutput::Return {
                    admission: admission.clone(),
                    past: past.clone(),
                });
                CallState::Entering {
                    until: at.now + self.limits.enter,
                    admission,
                    past: Some(past),
                    type_ahead,
                }
            }
            // That the store is away is no reason to send somebody away who was in.
            PinVerdict::Refused(Refusal::Unavailable) => {
                self.set_music(true);
                CallState::Returning(Returning {
                    ask_at: at.now + self.limits.ask_again,
                    ..returning
                })
            }
            PinVerdict::Refused(refusal) => self.on_no_way_back(at, &refusal),
        }
    }

    /// It is time to ask the bookings again, or too late for that.
    pub(super) fn on_return_overdue(&mut self, at: Moment, returning: Returning) -> CallState {
        let Returning {
            past,
            type_ahead,
            until,
            ..
        } = returning;
        if at.now >= until {
            return self.on_no_way_back(at, &Refusal::Unavailable);
        }
        self.set_music(true);
        self.ask_about_past(at, until, past, type_ahead)
    }

    /// The meeting is over, or nobody could say for too long.
    fn on_no_way_back(&mut self, at: Moment, refusal: &Refusal) -> CallState {
        let (outcome, ending, reason) = Self::reason(at, refusal);
        self.record.refused(outcome);
        self.goodbye(at, ending, [reason])
    }

    /// In again, as he was. Who finds nobody there is not told so yet: the others are on their way too.
    pub(super) fn rejoin(
        &mut self,
        at: Moment,
        admission: Box<Admission>,
        others: u32,
        past: &Past,
    ) -> Box<Joined> {
        let voice = Voice::again(past.muted_by, past.may_unmute);
        if voice.muted_by().is_some() {
            self.outputs.push_back(CallOutput::Mute(true));
        }
        let alone = others == 0;
        Box::new(Joined {
            admission,
            voice,
            keypad: Keypad::new(self.limits.half_command),
            alone_until: alone.then(|| at.now + self.limits.alone),
            music_at: alone.then(|| at.now + self.limits.company_returns),
        })
    }

    /// In, who waited before: he is told as everybody is, and has the rights that the meeting gives now.
    pub(super) fn join_at_last(
        &mut self,
        at: Moment,
        admission: Box<Admission>,
        (others, muted): (u32, bool),
        past: &Past,
    ) -> Box<Joined> {
        let mut joined = self.join(at, admission, others, muted);
        if past.muted_by == Some(MutedBy::Himself) {
            // The mute he would have come in with was lifted while he waited.
            self.lift_by_host(&mut joined);
        }
        joined
    }

    /// He waits, or goes on waiting, with music. Who gives up came before the meeting opened.
    pub(super) fn wait_again(
        &mut self,
        until: Instant,
        admission: Box<Admission>,
        wait_for: WaitFor,
    ) -> CallState {
        self.record.refused(Outcome::TooEarly);
        self.set_music(true);
        CallState::Waiting {
            until,
            admission,
            wait_for,
        }
    }
}

/// Where he was is where he is put, also where nobody has opened the meeting since.
impl Past {
    /// Was he in the meeting, or did he wait for it?
    #[must_use]
    pub fn was_in(&self) -> bool {
        self.state == SeatState::Joined
    }
}
