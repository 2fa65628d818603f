//! PINs seen lately: what callers go on with while the store is away.
//!
//! Not a cache: as long as the store answers, it alone is asked. What is remembered is what this node
//! looked up, booked or changed within the hour; a change made by another node meanwhile is not known
//! here, which is why nothing older counts.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

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
    meeting: Meeting,
}

impl KnownPins {
    /// What the store said of this PIN just now.
    pub(super) fn learn(&self, now: Timestamp, record: &PinRecord, meeting: &Meeting) {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        memory.forget_old(now);
        let digits: Box<str> = record.pin.expose().into();
        let known = Known {
            learnt_at: now,
            record: record.clone(),
            meeting: meeting.clone(),
        };
        memory.pins.insert(digits.clone(), known);
        memory.order.push_back((now, digits));
    }

    /// All PINs of a meeting that was booked or changed just now.
    pub(super) fn learn_all(&self, now: Timestamp, meeting: &Meeting) {
        for record in &meeting.pins {
            self.learn(now, record, meeting);
        }
    }

    /// The store knows no such PIN any more.
    pub(super) fn forget(&self, pin: &Pin) {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        memory.pins.remove(pin.expose());
    }

    /// What is remembered of this PIN.
    pub(super) fn recall(&self, now: Timestamp, pin: &Pin) -> Option<(PinRecord, Meeting)> {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        memory.forget_old(now);
        let known = memory.pins.get(pin.expose())?;
        Some((known.record.clone(), known.meeting.clone()))
    }
}

impl Memory {
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

const KNOWN_MAX: usize = 20_000;
const AGE_MAX: SignedDuration = SignedDuration::from_hours(1);
