//! Events: kept, announced to who follows them on this node, read again by who was away.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use super::{BookingError, Bookings};
use crate::booking::admission::{MeetingId, OrganisationId};
use crate::booking::delivery::Settled;
use crate::booking::event::{Event, EventFilter, EventPosition, KeptEvent, RESUMABLE_FOR};
use crate::booking::store::StoreError;

/// What those who follow events share.
#[derive(Debug, Default)]
pub(super) struct EventFeed {
    news: watch::Sender<FeedNews>,
    kept: AtomicU64,
    lost: AtomicU64,
    delivered: AtomicU64,
    again: AtomicU64,
    given_up: AtomicU64,
    pub(super) webhooks_changed: Notify,
    streams: Arc<Mutex<HashMap<Uuid, usize>>>,
}

/// How far the events have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FeedNews {
    /// The last that is known of.
    pub latest: EventPosition,
    /// No more will be told here: the node ends.
    pub ended: bool,
}

/// Whose a meeting is, and what an event says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventOwner {
    /// Whose.
    pub organisation: OrganisationId,
    /// For people.
    pub title: String,
    /// The booking system's name for it.
    pub external_id: Option<String>,
}

/// The events of this node since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EventCounts {
    /// Kept.
    pub kept: u64,
    /// Not kept: the store was away for too long.
    pub lost: u64,
    /// Who follows them now.
    pub streams: u64,
    /// Tries to tell a webhook, that arrived.
    pub delivered: u64,
    /// That are made again.
    pub again: u64,
    /// That were the last in vain.
    pub given_up: u64,
}

/// One of the places for those who follow events; free again when it is dropped.
#[derive(Debug)]
pub struct StreamPlace {
    key: Uuid,
    streams: Arc<Mutex<HashMap<Uuid, usize>>>,
}

impl Bookings {
    /// Keeps events, all or none, in this order. The same once more is no harm.
    ///
    /// # Errors
    /// The store's.
    pub async fn keep_events(&self, events: Vec<Event>) -> Result<(), StoreError> {
        self.keep_new_events(events, Vec::new()).await
    }

    /// Keeps events, and of those that are told to nobody who is where: another process told them before.
    ///
    /// # Errors
    /// The store's.
    pub async fn keep_new_events(
        &self,
        events: Vec<Event>,
        untold: Vec<Event>,
    ) -> Result<(), StoreError> {
        if events.is_empty() && untold.is_empty() {
            return Ok(());
        }
        let how_many = events.len() as u64;
        let new = self.by_us(events, untold);
        let latest = self.store().keep_events(new).await?;
        self.inner
            .events
            .kept
            .fetch_add(how_many, Ordering::Relaxed);
        self.inner.events.announce(latest);
        Ok(())
    }

    /// Looks for what other nodes have kept. To be called about once a second.
    ///
    /// # Errors
    /// The store's.
    pub async fn look_for_events(&self) -> Result<EventPosition, StoreError> {
        let latest = self.store().last_event().await?;
        self.inner.events.announce(latest);
        Ok(latest)
    }

    /// Hears when there are more events.
    #[must_use]
    pub fn follow_events(&self) -> watch::Receiver<FeedNews> {
        self.inner.events.news.subscribe()
    }

    /// Who follows events is let go, once he has read what there is.
    pub fn end_event_streams(&self) {
        let end = |news: &mut FeedNews| news.ended = true;
        self.inner.events.news.send_modify(end);
    }

    /// A place to follow events from; `None`: too many are taken, by this key or in all.
    #[must_use]
    pub fn take_stream(&self, key: Uuid) -> Option<StreamPlace> {
        let streams = &self.inner.events.streams;
        let mut taken = streams.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = taken.values().sum();
        let of_key = taken.entry(key).or_default();
        if *of_key >= STREAMS_PER_KEY || all >= STREAMS_MAX {
            return None;
        }
        *of_key += 1;
        Some(StreamPlace {
            key,
            streams: Arc::clone(streams),
        })
    }

    /// Where the event of this id stands; `None`: it is none of theirs, or too old to go on from.
    ///
    /// # Errors
    /// The store's.
    pub async fn event_position(
        &self,
        now: Timestamp,
        organisation: Option<OrganisationId>,
        id: Uuid,
    ) -> Result<Option<EventPosition>, BookingError> {
        let since = now.saturating_sub(RESUMABLE_FOR);
        let since = since.unwrap_or(Timestamp::MIN);
        Ok(self.store().event_position(id, organisation, since).await?)
    }

    /// Events after a position, oldest first.
    ///
    /// # Errors
    /// The store's.
    pub async fn events(&self, filter: EventFilter) -> Result<Vec<KeptEvent>, StoreError> {
        self.store().events(filter).await
    }

    /// Is this key still good? Asked now and then by whoever serves it for long.
    ///
    /// # Errors
    /// The store's.
    pub async fn key_is_good(&self, now: Timestamp, id: Uuid) -> Result<bool, StoreError> {
        let key = self.store().key(id).await?;
        Ok(key.is_some_and(|key| {
            key.revoked_at.is_none() && key.expires_at.is_none_or(|at| at > now)
        }))
    }

    /// Whose a meeting is; `None`: there is no such meeting any more.
    ///
    /// # Errors
    /// The store's.
    pub async fn event_owner(&self, meeting: MeetingId) -> Result<Option<EventOwner>, StoreError> {
        let found = self.store().meeting(meeting).await?;
        Ok(found.map(|found| EventOwner {
            organisation: found.organisation,
            title: found.options.title,
            external_id: found.options.external_id,
        }))
    }

    /// Counts events that could not be kept.
    pub fn count_lost_events(&self, how_many: u64) {
        self.inner
            .events
            .lost
            .fetch_add(how_many, Ordering::Relaxed);
    }

    /// The events of this node since its start.
    #[must_use]
    pub fn event_counts(&self) -> EventCounts {
        let events = &self.inner.events;
        let streams = events
            .streams
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        EventCounts {
            kept: events.kept.load(Ordering::Relaxed),
            lost: events.lost.load(Ordering::Relaxed),
            streams: streams.values().sum::<usize>() as u64,
            delivered: events.delivered.load(Ordering::Relaxed),
            again: events.again.load(Ordering::Relaxed),
            given_up: events.given_up.load(Ordering::Relaxed),
        }
    }
}

impl EventOwner {
    /// What `meeting.*` says.
    #[must_use]
    pub fn of_meeting(&self) -> Value {
        json!({"title": self.title, "external_id": self.external_id})
    }
}

impl EventFeed {
    pub(super) fn count_try(&self, settled: Settled) {
        let counter = match settled {
            Settled::Delivered => &self.delivered,
            Settled::Again { .. } => &self.again,
            Settled::GivenUp => &self.given_up,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn announce(&self, latest: EventPosition) {
        self.news.send_if_modified(|news| {
            let later = latest > news.latest;
            news.latest = news.latest.max(latest);
            later
        });
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        let mut taken = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.key);
            }
        }
    }
}

/// Most who follow events with one key.
pub const STREAMS_PER_KEY: usize = 10;
/// Most who follow events on this node.
const STREAMS_MAX: usize = 200;
