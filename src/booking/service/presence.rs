//! The end of what a process that was killed told the beginning of.

use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::events::EventOwner;
use super::{BookingError, Bookings, new_id};
use crate::booking::event::{Event, EventKind};
use crate::booking::presence::{CutOff, LeftBehind, SILENT_FOR, Teller};
use crate::booking::store::{NewEvents, StoreError};

impl Bookings {
    /// Tells that those are gone, and their meetings over, whom an earlier process of this node told to be there
    /// and this one doesn't know. Not of one that still lives, or was heard of within some seconds: two nodes may
    /// have one name by mistake. How many events that were.
    ///
    /// # Errors
    /// The store's; what was told before stays told, and isn't told twice.
    pub async fn tell_what_was_cut_off(
        &self,
        now: Timestamp,
        whom: CutOff,
    ) -> Result<usize, BookingError> {
        let mut how_many = 0;
        let silent_since = now.saturating_sub(SILENT_FOR).unwrap_or(now);
        for left in self
            .store()
            .left_behind(self.teller(), silent_since)
            .await?
        {
            let left = left.of(whom);
            let owner = self.event_owner(left.meeting).await?;
            let ends = ends_of(now, left, owner.as_ref())?;
            let (events, untold) = match owner {
                Some(_) => (ends, Vec::new()),
                // Nobody is left to be told.
                None => (Vec::new(), ends),
            };
            how_many += events.len();
            self.keep_new_events(events, untold).await?;
        }
        Ok(how_many)
    }

    /// Of those that ever lived there this is the only process that does.
    pub fn live_alone_in(&self, home: Uuid) {
        // Nobody moves.
        let _already = self.inner.home.set(home);
    }

    /// This process lives. To be said every second.
    ///
    /// # Errors
    /// The store's.
    pub async fn beat(&self, now: Timestamp) -> Result<(), StoreError> {
        self.store().beat(self.teller(), now).await
    }

    pub(super) fn teller(&self) -> Teller {
        Teller {
            node: self.inner.settings.node.clone(),
            process: self.inner.process,
            home: self.inner.home.get().copied(),
        }
    }

    pub(super) fn by_us(&self, events: Vec<Event>, untold: Vec<Event>) -> NewEvents {
        NewEvents {
            events,
            untold,
            teller: self.teller(),
        }
    }
}

fn ends_of(
    now: Timestamp,
    left: LeftBehind,
    owner: Option<&EventOwner>,
) -> Result<Vec<Event>, BookingError> {
    let end = |kind: EventKind, data: Value| {
        Ok(Event {
            id: new_id(now)?,
            kind,
            at: now,
            organisation: owner.map(|owner| owner.organisation),
            meeting: Some(left.meeting),
            data,
        })
    };
    let gone = left.participants.into_iter();
    let gone = gone.map(|who| end(EventKind::ParticipantLeft, who));
    let over = left.was_live.then(|| {
        let data = owner.map(EventOwner::of_meeting).unwrap_or_default();
        end(EventKind::MeetingEnded, data)
    });
    gone.chain(over).collect()
}
