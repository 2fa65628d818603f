//! From the accepted PIN to the end of the meeting: entering, waiting, being in.

use std::time::Instant;

use crate::booking::{Admission, Outcome, Role};
use crate::call::keypad::{Command, Keypad};
use crate::call::record::Ending;
use crate::call::state::{Call, CallState, Entry, Moment};
use crate::call::voice::{Toggled, Voice};
use crate::call::{CallOutput, MutedBy, Phrase, RoomNotice, RoomRefusal, RoomVerdict, WaitFor};
use crate::units::Key;

/// He is in.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) admission: Box<Admission>,
    pub(super) voice: Voice,
    pub(super) keypad: Keypad,
    /// Set while he is alone.
    pub(super) alone_until: Option<Instant>,
    /// Set while he came back alone and those who were there may still follow: when he is given music.
    pub(super) music_at: Option<Instant>,
}

impl Joined {
    pub(super) const fn admission(&self) -> &Admission {
        &self.admission
    }

    pub(super) const fn muted_by(&self) -> Option<MutedBy> {
        self.voice.muted_by()
    }

    pub(super) const fn may_unmute(&self) -> bool {
        self.voice.may_unmute()
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.alone_until.into_iter().chain(self.music_at).min()
    }

    /// He came back and nobody followed.
    pub(super) fn music_is_due(&self, now: Instant) -> bool {
        self.music_at.is_some_and(|at| at <= now)
    }
}

impl Call {
    pub(super) fn on_room_verdict(
        &mut self,
        at: Moment,
        state: CallState,
        verdict: RoomVerdict,
    ) -> CallState {
        let CallState::Entering {
            admission,
            past,
            type_ahead,
            ..
        } = state
        else {
            return state;
        };
        match verdict {
            RoomVerdict::Joined {
                participant,
                others,
                muted,
            } => {
                self.record.joined(participant);
                let mut joined = match past {
                    Some(past) if past.was_in() => self.rejoin(at, admission, others, &past),
                    Some(past) => self.join_at_last(at, admission, (others, muted), &past),
                    None => self.join(at, admission, others, muted),
                };
                for key in type_ahead {
                    self.on_meeting_key(at, &mut joined, key);
                }
                CallState::Joined(joined)
            }
            RoomVerdict::Wait(wait_for) => {
                let until = at.now + self.limits.waiting;
                match past {
                    Some(_) => self.wait_again(until, admission, wait_for),
                    None => self.wait(until, admission, wait_for),
                }
            }
            RoomVerdict::Refused(refusal) => self.on_room_refused(at, refusal),
        }
    }

    pub(super) fn on_notice(
        &mut self,
        at: Moment,
        state: CallState,
        notice: RoomNotice,
    ) -> CallState {
        match state {
            CallState::Waiting {
                until,
                admission,
                wait_for,
            } => self.on_notice_waiting(at, (until, admission, wait_for), notice),
            CallState::Joined(joined) => self.on_notice_joined(at, joined, notice),
            CallState::Dialling { .. }
            | CallState::Answering {
                entry: Entry::Outgoing(_),
                ..
            } if notice == RoomNotice::Ended => self.on_invited_to_nothing(at),
            CallState::Inviting(_) if notice == RoomNotice::Ended => self.on_asked_too_late(at),
            CallState::New
            | CallState::Ringing { .. }
            | CallState::Dialling { .. }
            | CallState::Answering { .. }
            | CallState::Inviting(_)
            | CallState::CollectingPin(_)
            | CallState::Challenged(_)
            | CallState::Slowed { .. }
            | CallState::LookingUp { .. }
            | CallState::Returning { .. }
            | CallState::Entering { .. }
            | CallState::SayingGoodbye { .. }
            | CallState::Ended => state,
        }
    }

    pub(super) fn on_meeting_key(&mut self, at: Moment, joined: &mut Joined, key: Key) {
        if self.machine {
            return;
        }
        let Some(command) = joined.keypad.press(at.now, key) else {
            return;
        };
        match command {
            Command::Mute => self.toggle_mute(joined),
            Command::Help => self.say([Phrase::KeysHelp]),
            Command::HeadCount => self.outputs.push_back(CallOutput::AskHeadCount),
            // Not offered yet: known as commands, so that their keys never mean anything else.
            Command::Hand
            | Command::RollCall
            | Command::Quieter
            | Command::Louder
            | Command::VoiceQuieter
            | Command::VoiceLouder
            | Command::Language
            | Command::EndForAll
            | Command::MuteGuests
            | Command::Lock
            | Command::AdmitLobby
            | Command::Recording
            | Command::DropLast
            | Command::Tones => {}
        }
    }

    fn on_notice_waiting(
        &mut self,
        at: Moment,
        (until, admission, wait_for): (Instant, Box<Admission>, WaitFor),
        notice: RoomNotice,
    ) -> CallState {
        match notice {
            RoomNotice::Opened {
                participant,
                others,
                muted,
            } => {
                self.record.joined(participant);
                CallState::Joined(self.join(at, admission, others, muted))
            }
            RoomNotice::Wait(wait_for) => self.wait(until, admission, wait_for),
            RoomNotice::Refused(refusal) => {
                self.outputs.push_back(CallOutput::Leave);
                self.on_room_refused(at, refusal)
            }
            RoomNotice::Ended => {
                self.outputs.push_back(CallOutput::Leave);
                self.on_room_refused(at, RoomRefusal::Ended)
            }
            RoomNotice::Removed => {
                self.record.refused(Outcome::LobbyDenied);
                self.outputs.push_back(CallOutput::Leave);
                self.goodbye(at, Ending::REMOVED, [])
            }
            RoomNotice::Alone
            | RoomNotice::Company
            | RoomNotice::HeadCount(_)
            | RoomNotice::MutedByHost(_)
            | RoomNotice::EndsIn { .. } => CallState::Waiting {
                until,
                admission,
                wait_for,
            },
        }
    }

    fn on_notice_joined(
        &mut self,
        at: Moment,
        mut joined: Box<Joined>,
        notice: RoomNotice,
    ) -> CallState {
        match notice {
            RoomNotice::Alone => {
                joined.alone_until = Some(at.now + self.limits.alone);
                joined.music_at = None;
                self.say([Phrase::OnlyParticipant]);
                self.set_music(true);
            }
            RoomNotice::Company => {
                joined.alone_until = None;
                joined.music_at = None;
                self.set_music(false);
            }
            RoomNotice::HeadCount(people) => self.say([Phrase::HeadCount(people.max(1))]),
            RoomNotice::MutedByHost(true) => self.mute_by_host(&mut joined),
            RoomNotice::MutedByHost(false) => self.lift_by_host(&mut joined),
            RoomNotice::EndsIn { minutes } => self.say([Phrase::EndsInMinutes(minutes)]),
            RoomNotice::Ended => {
                self.outputs.push_back(CallOutput::Leave);
                return self.goodbye(at, Ending::TOLD, [Phrase::EndsNow]);
            }
            RoomNotice::Removed => {
                self.outputs.push_back(CallOutput::Leave);
                return self.goodbye(at, Ending::REMOVED, []);
            }
            RoomNotice::Opened { .. } | RoomNotice::Wait(_) | RoomNotice::Refused(_) => {}
        }
        CallState::Joined(joined)
    }

    fn on_room_refused(&mut self, at: Moment, refusal: RoomRefusal) -> CallState {
        let (outcome, reason) = match refusal {
            RoomRefusal::Full => (Outcome::Full, Phrase::MeetingFull),
            RoomRefusal::Locked => (Outcome::Locked, Phrase::MeetingLocked),
            RoomRefusal::Ended => (Outcome::Ended, Phrase::MeetingEnded),
            RoomRefusal::NumberNotAllowed => (Outcome::NumberNotAllowed, Phrase::NumberNotAllowed),
        };
        self.record.refused(outcome);
        self.goodbye(at, Ending::TOLD, [reason])
    }

    fn wait(&mut self, until: Instant, admission: Box<Admission>, wait_for: WaitFor) -> CallState {
        self.say([match wait_for {
            WaitFor::Start => Phrase::WaitForStart,
            WaitFor::Host => Phrase::WaitForHost,
        }]);
        self.wait_again(until, admission, wait_for)
    }

    pub(super) fn join(
        &mut self,
        at: Moment,
        admission: Box<Admission>,
        others: u32,
        muted: bool,
    ) -> Box<Joined> {
        let voice = Voice::at_join(&admission, muted);
        if voice.muted_by().is_some() {
            self.outputs.push_back(CallOutput::Mute(true));
        }
        let alone = others == 0;
        if !alone {
            self.set_music(false);
        }
        if !admission.echo {
            self.greet(&admission, others, voice);
            self.set_music(alone);
        }
        Box::new(Joined {
            admission,
            voice,
            keypad: Keypad::new(self.limits.half_command),
            alone_until: alone.then(|| at.now + self.limits.alone),
            music_at: None,
        })
    }

    /// Who else is there, and that he can't be heard; a listener knows.
    fn greet(&mut self, admission: &Admission, others: u32, voice: Voice) {
        let company = match others {
            0 => Phrase::OnlyParticipant,
            others => Phrase::OthersPresent(others),
        };
        let muted = voice.muted_by().is_some() && admission.role != Role::Listener;
        self.say([company].into_iter().chain(muted.then_some(Phrase::Muted)));
    }

    fn toggle_mute(&mut self, joined: &mut Joined) {
        let phrase = match joined.voice.toggle() {
            Toggled::Muted => Phrase::Muted,
            Toggled::Unmuted => Phrase::Unmuted,
            Toggled::NotAllowed => return self.say([Phrase::UnmuteNotAllowed]),
        };
        self.tell_mute(joined);
        self.say([phrase]);
    }

    fn mute_by_host(&mut self, joined: &mut Joined) {
        let silenced = joined.voice.mute_by_host(joined.admission.role);
        self.tell_mute(joined);
        if silenced {
            self.say([Phrase::Muted]);
        }
    }

    pub(super) fn lift_by_host(&mut self, joined: &mut Joined) {
        joined.voice.lift_by_host(joined.admission.role);
        self.tell_mute(joined);
    }

    fn tell_mute(&mut self, joined: &Joined) {
        self.outputs
            .push_back(CallOutput::Mute(joined.muted_by().is_some()));
    }
}
