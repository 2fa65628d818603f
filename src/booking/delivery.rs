//! In what order and when a webhook is told: what is due, what waits for what, when to give up.
//!
//! One queue per webhook, without I/O and clock. Ask [`DeliveryQueue::next`] for what is to be sent now until
//! there is nothing, and tell it by [`DeliveryQueue::settle`] how each went. Of one meeting (and of what
//! belongs to none) the next is only sent when the one before was delivered or given up; meetings don't wait
//! for each other.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::booking::admission::MeetingId;
use crate::booking::event::EventPosition;

/// What one webhook is still to be told.
#[derive(Debug)]
pub struct DeliveryQueue {
    lanes: BTreeMap<Lane, BTreeMap<EventPosition, Pending>>,
    in_flight: BTreeSet<EventPosition>,
    /// The receiver asked not to be told anything before.
    quiet_until: Option<Timestamp>,
    seed: u64,
}

/// What must be told in order.
type Lane = Option<MeetingId>;

/// One delivery that is outstanding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pending {
    /// Of which event.
    pub position: EventPosition,
    /// Of which meeting.
    pub meeting: Option<MeetingId>,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was first to be sent.
    pub created_at: Timestamp,
    /// When it is to be tried next.
    pub due_at: Timestamp,
}

/// How a try went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// It was taken.
    Arrived,
    /// It wasn't.
    Failed {
        /// The receiver asked not to be told anything before (`Retry-After`).
        not_before: Option<Timestamp>,
    },
}

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It arrived.
    Delivered,
    /// It is tried again then.
    Again {
        /// When.
        due_at: Timestamp,
    },
    /// It was tried for long enough.
    GivenUp,
}

impl DeliveryQueue {
    /// An empty one; `seed` spreads its repetitions.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self {
            lanes: BTreeMap::new(),
            in_flight: BTreeSet::new(),
            quiet_until: None,
            seed,
        }
    }

    /// One more, or what is known of one anew. What is being sent stays as it is.
    pub fn add(&mut self, pending: Pending) {
        if !self.in_flight.contains(&pending.position) {
            let lane = self.lanes.entry(pending.meeting).or_default();
            lane.insert(pending.position, pending);
        }
    }

    /// What is to be sent now: of those that are due and wait for no other, the oldest.
    pub fn next(&mut self, now: Timestamp) -> Option<Pending> {
        let is_quiet = self.quiet_until.is_some_and(|until| now < until);
        if is_quiet || self.in_flight.len() >= IN_FLIGHT_MAX {
            return None;
        }
        let due = self.heads().filter(|head| head.due_at <= now);
        let next = due.min_by_key(|head| head.position).copied()?;
        self.in_flight.insert(next.position);
        Some(next)
    }

    /// How the sending of one went.
    pub fn settle(&mut self, now: Timestamp, sent: &Pending, attempt: Attempt) -> Settled {
        self.in_flight.remove(&sent.position);
        let (delivered, not_before) = match attempt {
            Attempt::Arrived => (true, None),
            Attempt::Failed { not_before } => (false, not_before),
        };
        let quiet_until = not_before.map(|until| until.min(later(now, PAUSE_MAX)));
        self.quiet_until = self.quiet_until.max(quiet_until);
        let Some(lane) = self.lanes.get_mut(&sent.meeting) else {
            return Settled::Delivered;
        };
        let again = next_try(now, sent, self.seed).filter(|_| !delivered);
        let again = again.map(|due_at| quiet_until.map_or(due_at, |until| due_at.max(until)));
        if let Some((due_at, pending)) = again.zip(lane.get_mut(&sent.position)) {
            pending.attempts = sent.attempts.saturating_add(1);
            pending.due_at = due_at;
            return Settled::Again { due_at };
        }
        lane.remove(&sent.position);
        if lane.is_empty() {
            self.lanes.remove(&sent.meeting);
        }
        if delivered {
            Settled::Delivered
        } else {
            Settled::GivenUp
        }
    }

    /// How many are outstanding.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lanes.values().map(BTreeMap::len).sum()
    }

    /// Is nothing outstanding?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// The first of each lane, unless it is being sent.
    fn heads(&self) -> impl Iterator<Item = &Pending> {
        let heads = self.lanes.values().filter_map(|lane| lane.values().next());
        heads.filter(|head| !self.in_flight.contains(&head.position))
    }
}

/// When to try again what has just failed; `None`: it was tried for long enough.
fn next_try(now: Timestamp, sent: &Pending, seed: u64) -> Option<Timestamp> {
    let step = usize::try_from(sent.attempts).unwrap_or(usize::MAX);
    let pause = PAUSES.get(step).copied().unwrap_or(PAUSE_MAX);
    let spread = spread(seed ^ sent.position.0.unsigned_abs() ^ (u64::from(sent.attempts) << 48));
    let due_at = now.checked_add(pause.checked_mul(spread)? / 100).ok()?;
    let give_up_at = sent.created_at.checked_add(PATIENCE).ok()?;
    (due_at <= give_up_at).then_some(due_at)
}

fn later(now: Timestamp, time: SignedDuration) -> Timestamp {
    now.saturating_add(time).unwrap_or(now)
}

/// 80 to 120 per cent, so that not all come back at the same moment.
fn spread(seed: u64) -> i32 {
    // SplitMix64's output step: neighbours are far apart.
    let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    80 + i32::try_from((mixed ^ (mixed >> 31)) % 41).unwrap_or(20)
}

/// How many are sent to one webhook at once, each of another meeting.
const IN_FLIGHT_MAX: usize = 4;
/// From one try to the next.
const PAUSES: [SignedDuration; 6] = [
    SignedDuration::from_secs(5),
    SignedDuration::from_secs(20),
    SignedDuration::from_mins(1),
    SignedDuration::from_mins(5),
    SignedDuration::from_mins(15),
    SignedDuration::from_mins(30),
];
const PAUSE_MAX: SignedDuration = SignedDuration::from_hours(1);
/// How long something is tried.
const PATIENCE: SignedDuration = SignedDuration::from_hours(24);

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn pending(position: i64, meeting: u128) -> Pending {
        Pending {
            position: EventPosition(position),
            meeting: (meeting > 0).then(|| MeetingId(Uuid::from_u128(meeting))),
            attempts: 0,
            created_at: at(0),
            due_at: at(0),
        }
    }

    fn queue(all: &[(i64, u128)]) -> DeliveryQueue {
        let mut queue = DeliveryQueue::new(7);
        for (position, meeting) in all {
            queue.add(pending(*position, *meeting));
        }
        queue
    }

    fn positions(sent: &[Pending]) -> Vec<i64> {
        sent.iter().map(|pending| pending.position.0).collect()
    }

    const FAILED: Attempt = Attempt::Failed { not_before: None };

    fn all_due(queue: &mut DeliveryQueue, now: Timestamp) -> Vec<Pending> {
        std::iter::from_fn(|| queue.next(now)).collect()
    }

    #[test]
    fn a_failure_holds_back_its_own_meeting_only() {
        let mut queue = queue(&[(1, 1), (2, 2), (3, 1), (4, 2), (5, 0)]);
        let sent = all_due(&mut queue, at(0));
        assert_eq!(positions(&sent), [1, 2, 5], "one of each meeting");
        let Settled::Again { due_at } = queue.settle(at(1), &sent[0], FAILED) else {
            panic!("given up at once");
        };
        assert_eq!(
            queue.settle(at(1), &sent[1], Attempt::Arrived),
            Settled::Delivered
        );
        assert_eq!(positions(&all_due(&mut queue, at(1))), [4]);
        assert!((at(5)..=at(7)).contains(&due_at), "{due_at}");
        let just_before = due_at - SignedDuration::from_millis(1);
        assert!(queue.next(just_before).is_none());
        let again = all_due(&mut queue, due_at);
        assert_eq!((positions(&again), again[0].attempts), (vec![1], 1));
        queue.settle(due_at, &again[0], Attempt::Arrived);
        assert_eq!(positions(&all_due(&mut queue, due_at)), [3]);
    }

    #[test]
    fn it_is_tried_for_a_day_ever_more_rarely_and_then_given_up() {
        let mut queue = queue(&[(1, 1), (2, 1)]);
        let (mut now, mut pauses) = (at(0), Vec::new());
        loop {
            let sent = queue.next(now).unwrap();
            assert_eq!(sent.position.0, 1, "the second waits");
            match queue.settle(now, &sent, FAILED) {
                Settled::Again { due_at } => {
                    assert!(
                        queue
                            .next(due_at - SignedDuration::from_millis(1))
                            .is_none()
                    );
                    pauses.push(due_at.duration_since(now).as_secs());
                    now = due_at;
                }
                Settled::GivenUp => break,
                Settled::Delivered => panic!("it failed"),
            }
        }
        assert!((20..40).contains(&pauses.len()), "{pauses:?}");
        assert!(now > at(22 * 3_600) && now <= at(24 * 3_600), "{now}");
        assert!(pauses.iter().all(|pause| *pause <= 4_320), "{pauses:?}");
        // The second had its day too while it waited, but is sent once at least.
        let second = queue.next(now).unwrap();
        assert_eq!(queue.settle(at(90_000), &second, FAILED), Settled::GivenUp);
        assert!(queue.is_empty());
    }

    #[test]
    fn what_is_told_again_keeps_its_place_and_what_is_being_sent_is_not_sent_twice() {
        let mut queue = queue(&[(5, 1), (6, 1)]);
        let sent = queue.next(at(0)).unwrap();
        queue.add(pending(5, 1));
        queue.add(pending(4, 1));
        assert_eq!(queue.len(), 3);
        // The older one, replayed, may go now: nothing newer is delivered meanwhile.
        assert_eq!(queue.next(at(0)).map(|next| next.position.0), Some(4));
        assert_eq!(
            queue.settle(at(0), &sent, Attempt::Arrived),
            Settled::Delivered
        );
        assert!(queue.next(at(0)).is_none(), "4 is on its way");
    }

    #[test]
    fn who_asks_for_a_pause_is_told_nothing_meanwhile_for_an_hour_at_most() {
        let mut queue = queue(&[(1, 1), (2, 2), (3, 1)]);
        let sent = all_due(&mut queue, at(0));
        let asked = |seconds| Attempt::Failed {
            not_before: Some(at(seconds)),
        };
        let settled = queue.settle(at(1), &sent[0], asked(100));
        assert_eq!(settled, Settled::Again { due_at: at(100) });
        queue.settle(at(2), &sent[1], FAILED);
        assert!(queue.next(at(99)).is_none(), "the other meeting waits too");
        let again = all_due(&mut queue, at(100));
        assert_eq!(positions(&again), [1, 2]);
        let settled = queue.settle(at(100), &again[0], asked(100_000));
        assert_eq!(settled, Settled::Again { due_at: at(3_700) });
        // A pause that is shorter than ours changes nothing.
        let Settled::Again { due_at } = queue.settle(at(100), &again[1], asked(101)) else {
            panic!("given up at once");
        };
        assert!(due_at > at(110), "{due_at}");
        assert!(queue.next(at(3_699)).is_none());
    }

    #[test]
    fn no_more_than_four_are_on_their_way() {
        let mut queue = queue(&[(1, 1), (2, 2), (3, 3), (4, 4), (5, 5)]);
        let sent = all_due(&mut queue, at(0));
        assert_eq!(positions(&sent), [1, 2, 3, 4]);
        queue.settle(at(0), &sent[3], Attempt::Arrived);
        assert_eq!(positions(&all_due(&mut queue, at(0))), [5]);
    }
}
