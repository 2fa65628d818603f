//! One meeting: who is in, who waits, and what everybody hears of the others.
//!
//! A meeting is *waiting* until its start and, where it asks for one, its host have come; the first
//! who gets in makes it *live* and gives it a fresh bridge; the last who leaves ends that.

use std::collections::VecDeque;
use std::mem;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::booking::admission::CallId;
use crate::booking::{Admission, MeetingId, Role};
use crate::call::schedule::{Alarm, EndSchedule, EndStage};
use crate::call::seat::{Seat, SeatState};
use crate::call::{Phrase, RoomNotice, RoomOutput, RoomRefusal, RoomVerdict, WaitFor};
use crate::media::treatment::SoundOptions;
use crate::units::{Brand, BridgeId, Language, Voice};

/// What of a booking governs its room. Everything else of an [`Admission`] is the participant's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomTerms {
    /// Of the booking.
    pub revision: i64,
    /// When the meeting opens.
    pub opens_at: Timestamp,
    /// The end as booked; `None`: permanent.
    pub ends_at: Option<Timestamp>,
    /// How long the meeting may run over its end.
    pub overrun: Duration,
    /// Most participants at once.
    pub capacity: Option<u32>,
    /// Guests wait for a host.
    pub wait_for_host: bool,
    /// The language announcements to all are made in; `None`: each hears his own.
    pub language: Option<Language>,
    /// Whose recordings they are.
    pub brand: Brand,
    /// How its voices are treated.
    pub sound: SoundOptions,
}

impl From<&Admission> for RoomTerms {
    fn from(admission: &Admission) -> Self {
        Self {
            revision: admission.revision,
            opens_at: admission.opens_at,
            ends_at: admission.ends_at,
            overrun: admission.overrun,
            capacity: admission.capacity,
            wait_for_host: admission.wait_for_host,
            language: admission.language,
            brand: admission.brand.clone(),
            sound: admission.sound,
        }
    }
}

impl RoomTerms {
    /// How all are spoken to together.
    fn voice(&self, language: Language) -> Voice {
        Voice {
            language,
            brand: Some(self.brand.clone()),
        }
    }

    /// When nobody may stay any longer; `None`: never.
    pub(super) fn over_at(&self) -> Option<Timestamp> {
        let ends_at = self.ends_at?;
        Some(ends_at.checked_add(self.overrun).unwrap_or(Timestamp::MAX))
    }

    fn seats(&self) -> usize {
        self.capacity.map_or(usize::MAX, |capacity| {
            usize::try_from(capacity).unwrap_or(usize::MAX)
        })
    }
}

/// One meeting. Has a seat at least, except within a method of `Rooms`.
#[derive(Debug)]
pub(super) struct Room {
    meeting: MeetingId,
    terms: RoomTerms,
    phase: Phase,
    end: Option<EndSchedule>,
    /// In the order they came.
    seats: Vec<Seat>,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// For the start; once that has come (`None`), for the host.
    Waiting { start: Option<Alarm> },
    /// People are in.
    Live {
        bridge: BridgeId,
        /// What is played to all until then would be cut off by a tone.
        quiet_until: Option<Instant>,
    },
}

pub(super) enum Life {
    GoesOn,
    IsOver,
}

pub(super) type Outputs = VecDeque<RoomOutput>;

impl Room {
    pub(super) fn new(now: Instant, wall: Timestamp, meeting: MeetingId, terms: RoomTerms) -> Self {
        Self {
            meeting,
            phase: Phase::Waiting {
                start: Alarm::set(now, wall, terms.opens_at),
            },
            end: terms
                .over_at()
                .map(|over| EndSchedule::new(now, wall, over)),
            terms,
            seats: Vec::new(),
        }
    }

    pub(super) fn enter(
        &mut self,
        now: Instant,
        wall: Timestamp,
        mut seat: Seat,
        bridges: &mut BridgeIds,
        out: &mut Outputs,
    ) -> RoomVerdict {
        if self.is_full_for(seat.role) {
            return RoomVerdict::Refused(RoomRefusal::Full);
        }
        if let Phase::Live { bridge, .. } = self.phase {
            // Who waited until now in another process comes in now, too.
            seat.since = wall;
            return self.sit_down(Some(now), bridge, seat, out);
        }
        // A host opens the meeting for all, also before its start.
        match self.waits_for().filter(|_| seat.role != Role::Host) {
            Some(wait_for) => {
                self.seats.push(seat);
                RoomVerdict::Wait(wait_for)
            }
            None => self.open_for(now, wall, seat, bridges, out),
        }
    }

    /// Puts one back who was in before this process was. He had a seat, so there is one; and the meeting was
    /// open, so it is. Nobody is told: he was never gone.
    pub(super) fn restore(
        &mut self,
        now: Instant,
        wall: Timestamp,
        mut seat: Seat,
        bridges: &mut BridgeIds,
        out: &mut Outputs,
    ) -> RoomVerdict {
        seat.state = SeatState::Joined;
        if let Phase::Live { bridge, .. } = self.phase {
            return self.sit_down(None, bridge, seat, out);
        }
        self.open_for(now, wall, seat, bridges, out)
    }

    /// Makes it live for the one who comes, and for those who wait.
    fn open_for(
        &mut self,
        now: Instant,
        wall: Timestamp,
        seat: Seat,
        bridges: &mut BridgeIds,
        out: &mut Outputs,
    ) -> RoomVerdict {
        let (call, participant, muted) = (seat.call, seat.participant, seat.muted_by.is_some());
        self.seats.push(seat);
        self.open(now, wall, Some(call), bridges, out);
        RoomVerdict::Joined {
            participant,
            others: self.head_count().saturating_sub(1),
            muted,
        }
    }

    /// Lets one more into a live meeting; the others hear the tone where it has a time.
    fn sit_down(
        &mut self,
        tone_at: Option<Instant>,
        bridge: BridgeId,
        mut seat: Seat,
        out: &mut Outputs,
    ) -> RoomVerdict {
        if let Some(lonely) = self.lonely() {
            out.push_back(RoomOutput::Notice {
                call: lonely,
                notice: RoomNotice::Company,
            });
        }
        if let Some(now) = tone_at {
            self.tone(now, Phrase::JoinTone, seat.role, out);
        }
        out.push_back(RoomOutput::JoinBridge {
            call: seat.call,
            bridge,
            echo: false,
            sound: self.terms.sound,
        });
        seat.state = SeatState::Joined;
        let others = self.head_count();
        let (participant, muted) = (seat.participant, seat.muted_by.is_some());
        self.seats.push(seat);
        RoomVerdict::Joined {
            participant,
            others,
            muted,
        }
    }

    /// Makes it live and lets in who waits. `entering` gets a verdict instead of a notice.
    fn open(
        &mut self,
        now: Instant,
        wall: Timestamp,
        entering: Option<CallId>,
        bridges: &mut BridgeIds,
        out: &mut Outputs,
    ) {
        self.refuse_surplus(out);
        if self.seats.is_empty() {
            return;
        }
        let bridge = bridges.fresh();
        self.phase = Phase::Live {
            bridge,
            quiet_until: None,
        };
        out.push_back(RoomOutput::MeetingStarted {
            meeting: self.meeting,
        });
        let others = count(self.seats.len()).saturating_sub(1);
        let sound = self.terms.sound;
        for seat in &mut self.seats {
            if seat.state == SeatState::Waiting {
                seat.since = wall;
            }
            seat.state = SeatState::Joined;
            out.push_back(RoomOutput::JoinBridge {
                call: seat.call,
                bridge,
                echo: false,
                sound,
            });
            if entering != Some(seat.call) {
                seat.tell_opened(others, out);
            }
        }
        if others > 0 {
            self.tone(now, Phrase::JoinTone, Role::Guest, out);
        }
    }

    /// More may wait than there are seats, because a host must not be kept out by those who wait
    /// for him. The last who came are told.
    fn refuse_surplus(&mut self, out: &mut Outputs) {
        while self.seats.len() > self.terms.seats() {
            let may_go = |seat: &Seat| seat.role != Role::Host && seat.state == SeatState::Waiting;
            let Some(last) = self.seats.iter().rposition(may_go) else {
                return;
            };
            let call = self.seats.remove(last).call;
            let notice = RoomNotice::Refused(RoomRefusal::Full);
            out.push_back(RoomOutput::Notice { call, notice });
        }
    }

    pub(super) fn leave(&mut self, now: Instant, call: CallId, out: &mut Outputs) {
        let Some(position) = self.seats.iter().position(|seat| seat.call == call) else {
            return;
        };
        let seat = self.seats.remove(position);
        if seat.state == SeatState::Waiting {
            return;
        }
        out.push_back(RoomOutput::LeaveBridge { call });
        if self.seats.is_empty() {
            out.push_back(RoomOutput::MeetingEnded {
                meeting: self.meeting,
            });
            return;
        }
        self.tone(now, Phrase::LeaveTone, seat.role, out);
        if let Some(lonely) = self.lonely() {
            out.push_back(RoomOutput::Notice {
                call: lonely,
                notice: RoomNotice::Alone,
            });
        }
    }

    /// The last act: everybody out at once, without tones.
    pub(super) fn end(self, out: &mut Outputs) -> u32 {
        for seat in &self.seats {
            if seat.state == SeatState::Joined {
                out.push_back(RoomOutput::LeaveBridge { call: seat.call });
            }
            out.push_back(RoomOutput::Notice {
                call: seat.call,
                notice: RoomNotice::Ended,
            });
        }
        if self.bridge().is_some() {
            out.push_back(RoomOutput::MeetingEnded {
                meeting: self.meeting,
            });
        }
        count(self.seats.len())
    }

    /// Out-of-date terms, of an answer that was on its way while the booking was changed, change nothing.
    pub(super) fn update(
        &mut self,
        now: Instant,
        wall: Timestamp,
        terms: RoomTerms,
        bridges: &mut BridgeIds,
        out: &mut Outputs,
    ) {
        if terms.revision < self.terms.revision {
            return;
        }
        let old = mem::replace(&mut self.terms, terms);
        if old.over_at() != self.terms.over_at() {
            self.end = self
                .terms
                .over_at()
                .map(|over| EndSchedule::new(now, wall, over));
        }
        if old.sound != self.terms.sound {
            let sound = self.terms.sound;
            out.extend(self.joined().map(|seat| RoomOutput::Sound {
                call: seat.call,
                sound,
            }));
        }
        let waited_for = match &mut self.phase {
            Phase::Live { .. } => return,
            Phase::Waiting { start } if old.opens_at != self.terms.opens_at => {
                let waited_for = start.map_or(WaitFor::Host, |_| WaitFor::Start);
                *start = Alarm::set(now, wall, self.terms.opens_at);
                waited_for
            }
            Phase::Waiting { start } => start.map_or(WaitFor::Host, |_| WaitFor::Start),
        };
        self.review(now, wall, waited_for, bridges, out);
    }

    /// Opens the room or tells those who wait that they wait for something else now.
    fn review(
        &mut self,
        now: Instant,
        wall: Timestamp,
        waited_for: WaitFor,
        bridges: &mut BridgeIds,
        out: &mut Outputs,
    ) {
        match self.waits_for() {
            None => self.open(now, wall, None, bridges, out),
            Some(wait_for) if wait_for == waited_for => {}
            Some(wait_for) => {
                let notice = RoomNotice::Wait(wait_for);
                out.extend(self.seats.iter().map(|seat| seat.notice(notice)));
            }
        }
    }

    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        wall: Timestamp,
        bridges: &mut BridgeIds,
        out: &mut Outputs,
    ) -> Life {
        match self.end.as_mut().and_then(|end| end.step(now, wall)) {
            Some(EndStage::Over) => return Life::IsOver,
            Some(EndStage::FiveMinutes) => self.announce_end(now, 5, out),
            Some(EndStage::OneMinute) => self.announce_end(now, 1, out),
            None => {}
        }
        if let Phase::Waiting { start } = &mut self.phase
            && start.as_mut().is_some_and(|alarm| alarm.rings(now, wall))
        {
            *start = None;
            self.review(now, wall, WaitFor::Start, bridges, out);
        }
        Life::GoesOn
    }

    /// To the whole bridge where the meeting has a language, else to each in his own.
    fn announce_end(&mut self, now: Instant, minutes: u32, out: &mut Outputs) {
        let Phase::Live {
            bridge,
            quiet_until,
        } = &mut self.phase
        else {
            return;
        };
        let bridge = *bridge;
        match self.terms.language {
            Some(language) => {
                *quiet_until = Some(now + ANNOUNCEMENT);
                let voice = self.terms.voice(language);
                let phrase = Phrase::EndsInMinutes(minutes);
                out.push_back(RoomOutput::PlayToBridge {
                    bridge,
                    phrase,
                    voice,
                });
            }
            None => {
                let notice = RoomNotice::EndsIn { minutes };
                out.extend(self.seats.iter().map(|seat| seat.notice(notice)));
            }
        }
    }

    /// A tone for everybody, unless it announces a machine or follows another, or an announcement, too closely.
    fn tone(&mut self, now: Instant, phrase: Phrase, of: Role, out: &mut Outputs) {
        let Phase::Live {
            bridge,
            quiet_until,
        } = &mut self.phase
        else {
            return;
        };
        let too_soon = quiet_until.is_some_and(|until| now < until);
        if of == Role::Bridge || too_soon {
            return;
        }
        *quiet_until = Some(now + TONE_GAP);
        let language = self.terms.language.unwrap_or(Language::English);
        out.push_back(RoomOutput::PlayToBridge {
            bridge: *bridge,
            phrase,
            voice: self.terms.voice(language),
        });
    }

    /// What newcomers wait for; `None`: nothing.
    fn waits_for(&self) -> Option<WaitFor> {
        match &self.phase {
            Phase::Live { .. } => None,
            Phase::Waiting { start: Some(_) } => Some(WaitFor::Start),
            Phase::Waiting { start: None } => self.terms.wait_for_host.then_some(WaitFor::Host),
        }
    }

    fn is_full_for(&self, role: Role) -> bool {
        let taken = match (&self.phase, role) {
            (Phase::Waiting { .. }, Role::Host) => 0,
            (Phase::Waiting { .. }, Role::Guest | Role::Listener | Role::Bridge)
            | (Phase::Live { .. }, _) => self.seats.len(),
        };
        taken >= self.terms.seats()
    }

    /// Of the booking that it runs by.
    pub(super) const fn revision(&self) -> i64 {
        self.terms.revision
    }

    /// The bridge, once people are in.
    pub(super) const fn bridge(&self) -> Option<BridgeId> {
        match self.phase {
            Phase::Waiting { .. } => None,
            Phase::Live { bridge, .. } => Some(bridge),
        }
    }

    /// Everybody who is in or waits, in the order they came.
    pub(super) fn seats(&self) -> &[Seat] {
        &self.seats
    }

    pub(super) fn seats_mut(&mut self) -> impl Iterator<Item = &mut Seat> {
        self.seats.iter_mut()
    }

    pub(super) fn joined(&self) -> impl Iterator<Item = &Seat> {
        self.seats
            .iter()
            .filter(|seat| seat.state == SeatState::Joined)
    }

    pub(super) fn head_count(&self) -> u32 {
        count(self.joined().count())
    }

    /// The only one in a live meeting, where there is only one.
    fn lonely(&self) -> Option<CallId> {
        match self.seats.as_slice() {
            [only] if self.bridge().is_some() => Some(only.call),
            _ => None,
        }
    }

    pub(super) fn due(&self) -> Option<Instant> {
        let start = match &self.phase {
            Phase::Waiting { start } => start.as_ref().map(Alarm::due),
            Phase::Live { .. } => None,
        };
        start
            .into_iter()
            .chain(self.end.as_ref().map(EndSchedule::due))
            .min()
    }
}

/// Numbers bridges; never gives one twice.
#[derive(Debug, Default)]
pub(super) struct BridgeIds(u64);

impl BridgeIds {
    pub(super) const fn fresh(&mut self) -> BridgeId {
        self.0 += 1;
        BridgeId(self.0)
    }
}

fn count(people: usize) -> u32 {
    u32::try_from(people).unwrap_or(u32::MAX)
}

/// A crowd that comes at once is one tone a second.
const TONE_GAP: Duration = Duration::from_secs(1);
/// Longer than what is said of the end, also by an organisation's own recordings.
const ANNOUNCEMENT: Duration = Duration::from_secs(5);
