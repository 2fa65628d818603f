//! What happens in the meetings, on its way to the store: queued, so that a store that is away costs no call.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::clock;
use super::gateway::Gateway;
use crate::booking::persistence::{insist, settled};
use crate::booking::service::EventOwner;
use crate::booking::{
    Bookings, CallerNumber, Event, EventKind, MeetingId, PrivacyPolicy, StoreError,
};
use crate::call::Happening;
use crate::call::roster::{Participant, ParticipantView};

/// Takes what happens from the gateway; never waits.
#[derive(Debug)]
pub(super) struct Reporter {
    queue: mpsc::Sender<Report>,
    bookings: Bookings,
    lost: u64,
}

/// Something that happened.
#[derive(Debug)]
struct Report {
    id: Uuid,
    at: Timestamp,
    meeting: MeetingId,
    what: Happening,
    /// Another process told it before: nobody is told again.
    is_old: bool,
}

impl Reporter {
    /// Starts the task that writes. It ends when the reporter is dropped and the queue is empty.
    pub(super) fn start(bookings: Bookings) -> (Self, JoinHandle<()>) {
        let (queue, reports) = mpsc::channel(QUEUE);
        let reporter = Self {
            queue,
            bookings: bookings.clone(),
            lost: 0,
        };
        (reporter, tokio::spawn(write(bookings, reports)))
    }

    fn tell(&mut self, at: Timestamp, meeting: MeetingId, what: Happening, is_old: bool) {
        let report = Report {
            id: Uuid::now_v7(),
            at,
            meeting,
            what,
            is_old,
        };
        if self.queue.try_send(report).is_err() {
            self.lost += 1;
            self.bookings.count_lost_events(1);
            if self.lost.is_power_of_two() {
                let lost = self.lost;
                tracing::warn!(
                    lost,
                    "events are lost: the store has been away for too long"
                );
            }
        }
    }
}

impl Gateway {
    /// Tells what has happened in the meetings since the last time.
    pub(super) fn report(&mut self) {
        self.report_as(false);
    }

    /// Who came back from a process that lost him was never gone: nothing of that is told, only noted.
    pub(super) fn report_nothing(&mut self) {
        self.report_as(true);
    }

    /// Nor was who is with another process now: that one notes where he is. Here it is only noted that a meeting is
    /// no longer live on this node.
    pub(super) fn report_handed_over(&mut self) {
        while let Some((meeting, happened)) = self.look() {
            let at = clock::wall();
            for what in happened.into_iter().filter(outlasts_a_hand_over) {
                self.reporter.tell(at, meeting, what, true);
            }
        }
    }

    fn report_as(&mut self, is_old: bool) {
        while let Some((meeting, happened)) = self.look() {
            let at = clock::wall();
            for what in happened {
                self.reporter.tell(at, meeting, what, is_old);
            }
        }
    }

    fn look(&mut self) -> Option<(MeetingId, Vec<Happening>)> {
        let meeting = self.rooms.poll_changed()?;
        let live = self.rooms.bridge(meeting).is_some();
        let mut observer = std::mem::take(&mut self.observer);
        let happened = observer.look(meeting, live, self.rooms.participants(meeting), |seat| {
            let is_there = self.calls.contains_key(&seat.call);
            is_there.then(|| self.participant(seat))
        });
        self.observer = observer;
        Some((meeting, happened))
    }
}

/// Who was handed over hasn't left.
const fn outlasts_a_hand_over(what: &Happening) -> bool {
    !matches!(what, Happening::Left(_))
}

async fn write(bookings: Bookings, mut reports: mpsc::Receiver<Report>) {
    let mut batch = Vec::with_capacity(BATCH);
    while reports.recv_many(&mut batch, BATCH).await > 0 {
        let is_over = || reports.is_closed();
        let mut left = VecDeque::from([batch.as_slice()]);
        while let Some(some) = left.pop_front() {
            let attempt = || async { settled(keep(&bookings, some).await, StoreError::may_pass) };
            match insist("events", is_over, attempt).await {
                Some(Ok(())) => {}
                // One of them can't be, and the others are kept without it.
                Some(Err(_)) if some.len() > 1 => left.extend(some.chunks(1)),
                Some(Err(error)) => {
                    tracing::error!(%error, "an event is lost: it can't be kept");
                    bookings.count_lost_events(1);
                }
                None => bookings.count_lost_events(some.len() as u64),
            }
        }
        batch.clear();
    }
}

async fn keep(bookings: &Bookings, batch: &[Report]) -> Result<(), StoreError> {
    let mut owners = HashMap::new();
    let (mut events, mut untold) = (Vec::with_capacity(batch.len()), Vec::new());
    for report in batch {
        let owner = match owners.entry(report.meeting) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(bookings.event_owner(report.meeting).await?),
        };
        if let Some(owner) = owner {
            let whose = Some(owner.organisation);
            let policy = bookings.privacy_to_keep(report.at, whose).await?;
            let one = event(report, owner, policy);
            if report.is_old {
                untold.push(one);
            } else {
                events.push(one);
            }
        }
    }
    bookings.keep_new_events(events, untold).await
}

fn event(report: &Report, owner: &EventOwner, policy: PrivacyPolicy) -> Event {
    let (kind, data) = match &report.what {
        Happening::Started => (EventKind::MeetingStarted, owner.of_meeting()),
        Happening::Ended => (EventKind::MeetingEnded, owner.of_meeting()),
        Happening::Waiting(who) => (EventKind::ParticipantWaiting, of(who, policy)),
        Happening::Joined(who) => (EventKind::ParticipantJoined, of(who, policy)),
        Happening::Left(who) => (EventKind::ParticipantLeft, of(who, policy)),
        Happening::Updated(who) => (EventKind::ParticipantUpdated, of(who, policy)),
    };
    Event {
        id: report.id,
        kind,
        at: report.at,
        organisation: Some(owner.organisation),
        meeting: Some(report.meeting),
        data,
    }
}

/// Events are kept: of a number no more goes in than may be stored, nor more than may be shown.
fn of(who: &Participant, policy: PrivacyPolicy) -> Value {
    let number = CallerNumber::new(&policy.store.of(&who.number));
    let who = Participant {
        number,
        ..who.clone()
    };
    serde_json::to_value(ParticipantView::new(policy, who)).unwrap_or_default()
}

/// Events that wait for the store: some minutes of a busy node.
const QUEUE: usize = 16_384;
/// Events written in one go.
const BATCH: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::booking::admission::CallId;
    use crate::booking::{ParticipantId, Role};
    use crate::call::roster::{ParticipantState, Quality};
    use crate::call::{Observer, Seat, SeatState};

    #[test]
    fn who_is_handed_over_has_not_left_but_his_meeting_is_no_longer_here() {
        let seat = Seat {
            participant: ParticipantId(Uuid::from_u128(1)),
            call: CallId(Uuid::from_u128(1)),
            role: Role::Guest,
            name: None,
            state: SeatState::Joined,
            since: Timestamp::UNIX_EPOCH,
            muted_by: None,
            hand: false,
            one_way: false,
        };
        let describe = |seat: &Seat| {
            Some(Participant {
                id: seat.participant,
                name: None,
                role: seat.role,
                kind: "asterisk",
                state: ParticipantState::Joined,
                number: CallerNumber::new("+390612345678"),
                muted: false,
                muted_by: None,
                hand: false,
                talking: false,
                level_db: -127.0,
                joined_at: seat.since,
                codec: "PCMA",
                quality: Quality::default(),
            })
        };
        let (mut observer, meeting) = (Observer::default(), MeetingId(Uuid::from_u128(1)));
        observer.look(meeting, true, &[seat], describe);
        let happened = observer.look(meeting, false, &[], describe);
        assert!(matches!(
            happened.as_slice(),
            [Happening::Left(_), Happening::Ended]
        ));
        let noted: Vec<Happening> = happened.into_iter().filter(outlasts_a_hand_over).collect();
        assert!(matches!(noted.as_slice(), [Happening::Ended]), "{noted:?}");
    }
}
