//! PINs seen lately: what callers go on with while the store is away.
//!
//! Not a cache: as long as the store answers, it alone is asked. What is remembered is what this node
//! looked up, booked or changed within the hour; a change made by another node meanwhile is not known
//! here, which is why nothing older counts.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

use crate::booking::meeting::Meeting;
use crate::booking::pin::PinRecord;
use crate::booking::privacy::Pin;

/// The PINs, bounded in number and age. Never printed.
#[derive(Default)]
pub(super) struct KnownPins(Mutex<Memory>);

#[derive(Default)]
struct Memory {
    pins: HashMap<Box<str>, Known>,
    /// By age; a PIN that was renewed stands here more than once.
    order: VecDeque<(Timestamp, Box<str>)>,
}

struct Known {
    learnt_at: Timestamp,
    record: PinRecord,
    /// Without its PINs, and one for all of them: there may be a thousand.
    meeting: Arc<Meeting>,
}

impl KnownPins {
    /// What the store said of this PIN just now.
    pub(super) fn learn(&self, now: Timestamp, record: &PinRecord, meeting: &Meeting) {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        memory.put(now, record, &Arc::new(without_pins(meeting)));
    }

    /// All PINs of a meeting that was booked or changed just now.
    pub(super) fn learn_all(&self, now: Timestamp, meeting: &Meeting) {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all_of_it = Arc::new(without_pins(meeting));
        for record in &meeting.pins {
            memory.put(now, record, &all_of_it);
        }
    }

    /// The store knows no such PIN any more.
    pub(super) fn forget(&self, pin: &Pin) {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        memory.pins.remove(pin.expose());
    }

    /// What is remembered of this PIN; the meeting with no other one.
    pub(super) fn recall(&self, now: Timestamp, pin: &Pin) -> Option<(PinRecord, Meeting)> {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        memory.forget_old(now);
        let known = memory.pins.get(pin.expose())?;
        let mut meeting = Meeting::clone(&known.meeting);
        meeting.pins.push(known.record.clone());
        Some((known.record.clone(), meeting))
    }
}

impl Memory {
    fn put(&mut self, now: Timestamp, record: &PinRecord, meeting: &Arc<Meeting>) {
        self.forget_old(now);
        let digits: Box<str> = record.pin.expose().into();
        let known = Known {
            learnt_at: now,
            record: record.clone(),
            meeting: Arc::clone(meeting),
        };
        self.pins.insert(digits.clone(), known);
        self.order.push_back((now, digits));
    }

    fn forget_old(&mut self, now: Timestamp) {
        while let Some((at, digits)) = self.order.front() {
            let too_old = now.duration_since(*at) > AGE_MAX;
            if !too_old && self.order.len() < KNOWN_MAX {
                return;
            }
            let renewed = self.pins.get(digits).is_some_and(|k| k.learnt_at > *at);
            if !renewed {
                self.pins.remove(digits);
            }
            self.order.pop_front();
        }
    }
}

fn without_pins(meeting: &Meeting) -> Meeting {
    Meeting {
        id: meeting.id,
        organisation: meeting.organisation,
        organisation_name: meeting.organisation_name.clone(),
        options: meeting.options.clone(),
        room: meeting.room.clone(),
        pins: Vec::new(),
        echo: meeting.echo,
        cancelled_at: meeting.cancelled_at,
        ended_at: meeting.ended_at,
        created_at: meeting.created_at,
        updated_at: meeting.updated_at,
        revision: meeting.revision,
    }
}

const KNOWN_MAX: usize = 20_000;
const AGE_MAX: SignedDuration = SignedDuration::from_hours(1);

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::booking::admission::{MeetingId, OrganisationId, Role};
    use crate::booking::meeting::{MeetingOptions, Schedule, Zone};

    fn with_pins(count: u128) -> Meeting {
        let now = Timestamp::UNIX_EPOCH;
        let pins = (0..count).map(|n| PinRecord {
            id: Uuid::from_u128(n),
            pin: Pin::parse(&format!("{}", 4_000_000_000 + n)).unwrap(),
            role: Role::Guest,
            label: None,
            occurrence: None,
        });
        Meeting {
            id: MeetingId(Uuid::nil()),
            organisation: OrganisationId(Uuid::nil()),
            organisation_name: "demo".to_owned(),
            options: MeetingOptions::new("Known", Schedule::new(now, None, Zone::utc())),
            room: None,
            pins: pins.collect(),
            echo: false,
            cancelled_at: None,
            ended_at: None,
            created_at: now,
            updated_at: now,
            revision: 1,
        }
    }

    #[test]
    fn a_thousand_pins_of_a_meeting_remember_it_once() {
        let (known, meeting) = (KnownPins::default(), with_pins(1_000));
        let now = Timestamp::UNIX_EPOCH;
        known.learn_all(now, &meeting);
        for record in &meeting.pins {
            let (found, of) = known.recall(now, &record.pin).unwrap();
            assert_eq!(
                (found.id, of.pins[0].id, of.pins.len()),
                (record.id, record.id, 1)
            );
            assert!(!of.has_lost(now, record));
        }
        let memory = known.0.lock().unwrap();
        let kept: usize = memory.pins.values().map(|k| k.meeting.pins.len()).sum();
        let first = &memory.pins.values().next().unwrap().meeting;
        assert_eq!((kept, Arc::strong_count(first)), (0, 1_000));
    }
}
