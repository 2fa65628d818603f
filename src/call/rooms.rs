//! All meetings of a node: which call sits where, and what is to be done for them. What happens
//! within one meeting is `room`'s.
//!
//! Nothing here knows a call's state: a [`RoomNotice`] tells the call, and the call decides.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use jiff::Timestamp;

use crate::booking::admission::CallId;
use crate::booking::{Admission, MeetingId, ParticipantId};
use crate::call::room::{BridgeIds, Life, Outputs, Room, RoomTerms};
use crate::call::seat::{Seat, SeatState};
use crate::call::{MutedBy, Past, Phrase, RoomNotice, RoomRefusal, RoomVerdict};
use crate::media::treatment::SoundOptions;
use crate::units::{BridgeId, Voice};

/// The meetings of a node in which somebody is or waits.
#[derive(Debug, Default)]
pub struct Rooms {
    rooms: BTreeMap<MeetingId, Room>,
    /// Where to look for a call: each that entered and has not left.
    seats: BTreeMap<CallId, MeetingId>,
    echoes: BTreeSet<CallId>,
    bridges: BridgeIds,
    outputs: VecDeque<RoomOutput>,
    /// Meetings in which something may have changed since somebody looked.
    changed: BTreeSet<MeetingId>,
}

/// What is to be done for the meetings.
#[derive(Debug, Clone, PartialEq)]
pub enum RoomOutput {
    /// Tell a call: `CallInput::Room`.
    Notice {
        /// Which call.
        call: CallId,
        /// What.
        notice: RoomNotice,
    },
    /// Put the call's leg into a bridge.
    JoinBridge {
        /// Whose leg.
        call: CallId,
        /// Which bridge; new if it was never named before.
        bridge: BridgeId,
        /// He hears himself, alone.
        echo: bool,
        /// How his voice is treated there.
        sound: SoundOptions,
    },
    /// The call's voice is treated differently from now on.
    Sound {
        /// Whose.
        call: CallId,
        /// How.
        sound: SoundOptions,
    },
    /// Take the call's leg out of its bridge.
    LeaveBridge {
        /// Whose leg.
        call: CallId,
    },
    /// Play to everybody in a bridge.
    PlayToBridge {
        /// Which bridge.
        bridge: BridgeId,
        /// A tone, or the announcement of the end.
        phrase: Phrase,
        /// The meeting's; tones have no language.
        voice: Voice,
    },
    /// The first participant is in.
    MeetingStarted {
        /// Which meeting.
        meeting: MeetingId,
    },
    /// The last participant left, or the time is over.
    MeetingEnded {
        /// Which meeting.
        meeting: MeetingId,
    },
}

impl Rooms {
    /// No meetings yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A call with an accepted PIN wants in, as `participant` (a fresh id). The capacity is
    /// counted here and nowhere else. Newer terms than the room's replace them.
    pub fn enter(
        &mut self,
        now: Instant,
        wall: Timestamp,
        call: CallId,
        participant: ParticipantId,
        admission: &Admission,
    ) -> RoomVerdict {
        self.leave(now, wall, call);
        let seat = Seat::new(wall, call, participant, admission);
        if admission.echo {
            return self.enter_echo(&seat);
        }
        self.take(now, wall, seat, admission, Room::enter)
    }

    /// One who was in this meeting, or waited for it, when another process lost him is where he was.
    pub fn restore(
        &mut self,
        now: Instant,
        wall: Timestamp,
        call: CallId,
        past: &Past,
        admission: &Admission,
    ) -> RoomVerdict {
        self.leave(now, wall, call);
        let seat = Seat::again(call, past);
        let how = if past.was_in() {
            Room::restore
        } else {
            Room::enter
        };
        self.take(now, wall, seat, admission, how)
    }

    /// Finds or makes the room and lets somebody in by `how`.
    fn take(
        &mut self,
        now: Instant,
        wall: Timestamp,
        seat: Seat,
        admission: &Admission,
        how: fn(&mut Room, Instant, Timestamp, Seat, &mut BridgeIds, &mut Outputs) -> RoomVerdict,
    ) -> RoomVerdict {
        let call = seat.call;
        let terms = RoomTerms::from(admission);
        let meeting = admission.meeting;
        if !self.rooms.contains_key(&meeting) && terms.over_at().is_some_and(|over| over <= wall) {
            return RoomVerdict::Refused(RoomRefusal::Ended);
        }
        self.update(now, wall, meeting, terms.clone());
        let room = self
            .rooms
            .entry(meeting)
            .or_insert_with(|| Room::new(now, wall, meeting, terms));
        let (bridges, outputs) = (&mut self.bridges, &mut self.outputs);
        let verdict = how(room, now, wall, seat, bridges, outputs);
        self.changed.insert(meeting);
        if !matches!(verdict, RoomVerdict::Refused(_)) {
            self.seats.insert(call, meeting);
        }
        self.forget_if_empty(meeting);
        verdict
    }

    /// A call leaves, whether it is in, waits or is unknown.
    pub fn leave(&mut self, now: Instant, _wall: Timestamp, call: CallId) {
        if self.echoes.remove(&call) {
            self.outputs.push_back(RoomOutput::LeaveBridge { call });
        }
        let Some(meeting) = self.seats.remove(&call) else {
            return;
        };
        if let Some(room) = self.rooms.get_mut(&meeting) {
            room.leave(now, call, &mut self.outputs);
        }
        self.changed.insert(meeting);
        self.forget_if_empty(meeting);
    }

    /// The booking was changed while people are there; unknown meetings are no matter.
    pub fn update(&mut self, now: Instant, wall: Timestamp, meeting: MeetingId, terms: RoomTerms) {
        if let Some(room) = self.rooms.get_mut(&meeting) {
            room.update(now, wall, terms, &mut self.bridges, &mut self.outputs);
            self.changed.insert(meeting);
        }
        self.forget_if_empty(meeting);
    }

    /// Ends a meeting for all that are in it or wait, also one that was cancelled; how many that were.
    pub fn end(&mut self, meeting: MeetingId) -> u32 {
        let Some(room) = self.rooms.remove(&meeting) else {
            return 0;
        };
        self.changed.insert(meeting);
        for seat in room.seats() {
            self.seats.remove(&seat.call);
        }
        room.end(&mut self.outputs)
    }

    /// Mutes (`true`), or lets the participant unmute himself again (`false`).
    ///
    /// # Errors
    /// [`NoSuchParticipant`] where he is not in this meeting.
    pub fn set_muted_by_host(
        &mut self,
        meeting: MeetingId,
        participant: ParticipantId,
        muted: bool,
    ) -> Result<(), NoSuchParticipant> {
        let seat = self.seat_mut(meeting, participant)?;
        let call = seat.call;
        match seat.state {
            SeatState::Joined => self.notify(call, RoomNotice::MutedByHost(muted)),
            SeatState::Waiting if muted => seat.muted_by = Some(MutedBy::Host),
            SeatState::Waiting => seat.muted_by = seat.muted_by.map(|_| MutedBy::Himself),
        }
        Ok(())
    }

    /// Changes the name shown to others.
    ///
    /// # Errors
    /// [`NoSuchParticipant`] where he is not in this meeting.
    pub fn rename(
        &mut self,
        meeting: MeetingId,
        participant: ParticipantId,
        name: Option<String>,
    ) -> Result<(), NoSuchParticipant> {
        self.seat_mut(meeting, participant)?.name = name;
        Ok(())
    }

    /// Raises or lowers a hand.
    ///
    /// # Errors
    /// [`NoSuchParticipant`] where he is not in this meeting.
    pub fn set_hand(
        &mut self,
        meeting: MeetingId,
        participant: ParticipantId,
        up: bool,
    ) -> Result<(), NoSuchParticipant> {
        self.seat_mut(meeting, participant)?.hand = up;
        Ok(())
    }

    /// Hangs up on one participant: his call is told, says goodbye and leaves.
    ///
    /// # Errors
    /// [`NoSuchParticipant`] where he is not in this meeting.
    pub fn remove(
        &mut self,
        meeting: MeetingId,
        participant: ParticipantId,
    ) -> Result<(), NoSuchParticipant> {
        let call = self.seat_mut(meeting, participant)?.call;
        self.notify(call, RoomNotice::Removed);
        Ok(())
    }

    /// What a call made of its mute ([`crate::call::Call::muted_by`]), for the roster.
    pub fn set_muted(&mut self, call: CallId, muted_by: Option<MutedBy>) {
        self.change_seat(call, |seat| seat.muted_by = muted_by);
    }

    /// Whether audio flows to a call only, for the roster.
    pub fn set_one_way(&mut self, call: CallId, one_way: bool) {
        self.change_seat(call, |seat| seat.one_way = one_way);
    }

    /// Opens, announces and ends what is due.
    pub fn handle_timeout(&mut self, now: Instant, wall: Timestamp) {
        let meetings: Vec<MeetingId> = self.rooms.keys().copied().collect();
        for meeting in meetings {
            let Some(room) = self.rooms.get_mut(&meeting) else {
                continue;
            };
            self.changed.insert(meeting);
            match room.handle_timeout(now, wall, &mut self.bridges, &mut self.outputs) {
                Life::GoesOn => self.forget_if_empty(meeting),
                Life::IsOver => {
                    self.end(meeting);
                }
            }
        }
    }

    /// When to call [`Self::handle_timeout`]; `None`: nothing is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.rooms.values().filter_map(Room::due).min()
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<RoomOutput> {
        self.outputs.pop_front()
    }

    /// The next meeting in which something may have changed.
    pub fn poll_changed(&mut self) -> Option<MeetingId> {
        self.changed.pop_first()
    }

    /// How many are in the call's meeting, with himself; `None` where he is in none.
    #[must_use]
    pub fn head_count(&self, call: CallId) -> Option<u32> {
        if self.echoes.contains(&call) {
            return Some(1);
        }
        let room = self.rooms.get(self.seats.get(&call)?)?;
        let is_in = room.joined().any(|seat| seat.call == call);
        is_in.then(|| room.head_count())
    }

    /// Everybody in a meeting or waiting for it, in the order they came.
    #[must_use]
    pub fn participants(&self, meeting: MeetingId) -> &[Seat] {
        self.rooms.get(&meeting).map_or(&[], Room::seats)
    }

    /// The seat of a call; `None` where it has none, as in the echo meeting.
    #[must_use]
    pub fn seat(&self, call: CallId) -> Option<&Seat> {
        let room = self.rooms.get(self.seats.get(&call)?)?;
        room.seats().iter().find(|seat| seat.call == call)
    }

    /// The call of a participant.
    #[must_use]
    pub fn call_of(&self, meeting: MeetingId, participant: ParticipantId) -> Option<CallId> {
        let mut seats = self.participants(meeting).iter();
        let seat = seats.find(|seat| seat.participant == participant)?;
        Some(seat.call)
    }

    /// The meetings somebody is in, without the echo meeting.
    pub fn live_meetings(&self) -> impl Iterator<Item = MeetingId> {
        let live = self
            .rooms
            .iter()
            .filter(|(_, room)| room.bridge().is_some());
        live.map(|(meeting, _)| *meeting)
    }

    /// The meetings that somebody is in or waits for, with their bookings' revisions.
    pub fn running(&self) -> impl Iterator<Item = (MeetingId, i64)> {
        self.rooms
            .iter()
            .map(|(meeting, room)| (*meeting, room.revision()))
    }

    /// The bridge of a live meeting.
    #[must_use]
    pub fn bridge(&self, meeting: MeetingId) -> Option<BridgeId> {
        self.rooms.get(&meeting)?.bridge()
    }

    fn enter_echo(&mut self, seat: &Seat) -> RoomVerdict {
        self.echoes.insert(seat.call);
        let bridge = self.bridges.fresh();
        self.outputs.push_back(RoomOutput::JoinBridge {
            call: seat.call,
            bridge,
            echo: true,
            sound: SoundOptions::default(),
        });
        RoomVerdict::Joined {
            participant: seat.participant,
            others: 0,
            muted: seat.muted_by.is_some(),
        }
    }

    fn change_seat(&mut self, call: CallId, change: impl FnOnce(&mut Seat)) {
        let Some(meeting) = self.seats.get(&call) else {
            return;
        };
        let room = self.rooms.get_mut(meeting);
        let seat = room.and_then(|room| room.seats_mut().find(|seat| seat.call == call));
        if let Some(seat) = seat {
            change(seat);
            self.changed.insert(*meeting);
        }
    }

    fn seat_mut(
        &mut self,
        meeting: MeetingId,
        participant: ParticipantId,
    ) -> Result<&mut Seat, NoSuchParticipant> {
        let room = self.rooms.get_mut(&meeting).ok_or(NoSuchParticipant)?;
        self.changed.insert(meeting);
        let mut seats = room.seats_mut();
        seats
            .find(|seat| seat.participant == participant)
            .ok_or(NoSuchParticipant)
    }

    fn notify(&mut self, call: CallId, notice: RoomNotice) {
        self.outputs.push_back(RoomOutput::Notice { call, notice });
    }

    fn forget_if_empty(&mut self, meeting: MeetingId) {
        let room = self.rooms.get(&meeting);
        if room.is_some_and(|room| room.seats().is_empty()) {
            self.rooms.remove(&meeting);
        }
    }
}

/// No such participant in this meeting, or not any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such participant")]
pub struct NoSuchParticipant;
