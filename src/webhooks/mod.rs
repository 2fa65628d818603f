//! Tells webhooks what happened: the shell around [`crate::booking::delivery`], which says what is due.
//!
//! One task per node. It holds the leases of some webhooks, all of them where the node is alone; makes
//! deliveries of new events, sends what is due, and writes down how that went. What is written down goes
//! on after a `kill -9`: sent and not yet written is sent again.

mod sender;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::booking::delivery::{Attempt, DeliveryQueue, Pending, Settled};
use crate::booking::event::EventPosition;
use crate::booking::persistence::{insist, settled};
use crate::booking::store::webhooks::{TakeEvents, Tried};
use crate::booking::{Bookings, EventDocument, StoreError, Webhook};

use sender::{Answer, Message, SendError, Sender};

/// Delivers until it is told to stop, and gives its leases back.
pub async fn deliver(
    bookings: Bookings,
    clock: fn() -> Timestamp,
    mut stopped: watch::Receiver<bool>,
) {
    let sender = match Sender::new(bookings.settings().reach.clone()) {
        Ok(sender) => sender,
        Err(error) => {
            tracing::error!(%error, "webhooks are not told: TLS can't be used");
            return;
        }
    };
    let mut deliverer = Deliverer {
        news: bookings.follow_events(),
        bookings,
        clock,
        sender,
        holder: Uuid::now_v7(),
        held: BTreeMap::new(),
        leased_at: None,
        is_changed: false,
        sending: JoinSet::new(),
    };
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => break,
            () = deliverer.turn() => {}
        }
    }
    if let Err(error) = deliverer.bookings.release_webhooks(deliverer.holder).await {
        tracing::debug!(%error, "the leases of webhooks run out by themselves");
    }
}

struct Deliverer {
    bookings: Bookings,
    clock: fn() -> Timestamp,
    sender: Sender,
    holder: Uuid,
    held: BTreeMap<Uuid, Held>,
    leased_at: Option<Timestamp>,
    /// Somebody has changed a webhook.
    is_changed: bool,
    news: watch::Receiver<crate::booking::service::FeedNews>,
    sending: JoinSet<Sent>,
}

/// A webhook that this process delivers to.
struct Held {
    webhook: Webhook,
    queue: DeliveryQueue,
    /// Up to where its pending deliveries are in the queue.
    read_to: EventPosition,
    /// There is more than the queue may hold.
    more: bool,
}

/// A message that was sent, or not.
struct Sent {
    webhook: Uuid,
    pending: Pending,
    answer: Result<Answer, SendError>,
}

impl Deliverer {
    /// Does what is to be done now, and waits until there is more. Dropped in its waiting it loses nothing.
    async fn turn(&mut self) {
        let now = (self.clock)();
        if let Err(error) = self.look(now).await {
            tracing::debug!(%error, "webhooks wait for the store");
        }
        self.send_due(now);
        tokio::select! {
            Some(Ok(sent)) = self.sending.join_next() => self.settle(sent).await,
            changed = self.news.changed() => if changed.is_err() {
                std::future::pending().await
            },
            () = self.bookings.webhooks_changed() => self.is_changed = true,
            () = tokio::time::sleep(NAP) => {}
        }
    }

    /// Renews the leases, makes deliveries of what is new, and reads what is pending.
    async fn look(&mut self, now: Timestamp) -> Result<(), StoreError> {
        if self.is_changed || self.leased_longer_than(now, RENEW) {
            self.lease(now).await?;
        }
        let latest = self.news.borrow_and_update().latest;
        let holder = self.holder;
        let mut lost = Vec::new();
        for (id, held) in &mut self.held {
            if held.webhook.position < latest {
                let take = TakeEvents {
                    webhook: *id,
                    holder,
                    to: latest,
                    at: now,
                };
                if !self.bookings.take_events(take).await? {
                    lost.push(*id);
                    continue;
                }
                held.webhook.position = latest;
                held.more = true;
            }
            if held.more && held.queue.len() <= QUEUE / 2 {
                held.read_on(&self.bookings).await?;
            }
        }
        for id in lost {
            self.held.remove(&id);
        }
        Ok(())
    }

    async fn lease(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let leased = match self.bookings.lease_webhooks(now, self.holder).await {
            Ok(leased) => leased,
            Err(error) => {
                if self.leased_longer_than(now, SAFE) {
                    // Somebody else may have them by now.
                    self.held.clear();
                }
                return Err(error);
            }
        };
        let mut before = std::mem::take(&mut self.held);
        for webhook in leased {
            let id = webhook.id;
            let held = match before.remove(&id) {
                Some(held) if held.webhook.revision == webhook.revision => held,
                // Something was changed or is to be told again: all that is pending is read anew.
                Some(held) => Held {
                    queue: held.queue,
                    ..Held::new(webhook)
                },
                None => Held::new(webhook),
            };
            self.held.insert(id, held);
        }
        self.leased_at = Some(now);
        self.is_changed = false;
        Ok(())
    }

    /// Was it so long ago, or never, that the leases were renewed?
    fn leased_longer_than(&self, now: Timestamp, time: jiff::SignedDuration) -> bool {
        let since = self.leased_at.map(|at| now.duration_since(at).abs());
        since.is_none_or(|since| since >= time)
    }

    /// Sends what is due, to each webhook in its turn.
    fn send_due(&mut self, now: Timestamp) {
        let mut more = true;
        while more {
            more = false;
            for held in self.held.values_mut() {
                if self.sending.len() >= SENDING_MAX {
                    return;
                }
                let Some(pending) = held.queue.next(now) else {
                    continue;
                };
                more = true;
                let (bookings, sender) = (self.bookings.clone(), self.sender.clone());
                let (webhook, clock) = (held.webhook.clone(), self.clock);
                self.sending.spawn(async move {
                    let answer = send(&bookings, &sender, &webhook, pending, clock).await;
                    Sent {
                        webhook: webhook.id,
                        pending,
                        answer,
                    }
                });
            }
        }
    }

    async fn settle(&mut self, sent: Sent) {
        let now = (self.clock)();
        let (status, error, retry_after) = match sent.answer {
            Ok(answer) => (
                Some(answer.status),
                status_error(answer.status),
                answer.retry_after,
            ),
            Err(error) => (None, Some(error.word()), None),
        };
        let attempt = match error {
            None => Attempt::Arrived,
            Some(_) => Attempt::Failed {
                not_before: retry_after.and_then(|text| retry_at(now, &text)),
            },
        };
        let settled = match self.held.get_mut(&sent.webhook) {
            Some(held) => held.queue.settle(now, &sent.pending, attempt),
            // Switched off meanwhile; what arrived has arrived.
            None if attempt == Attempt::Arrived => Settled::Delivered,
            None => return,
        };
        let tried = Tried {
            webhook: sent.webhook,
            holder: self.holder,
            position: sent.pending.position,
            at: now,
            settled,
            status,
            error,
        };
        let settle = || self.bookings.settle_delivery(tried.clone());
        insist("what became of a delivery", || false, settle).await;
        if status == Some(GONE) {
            self.switch_off(sent.webhook).await;
        }
    }

    /// The receiver said that it wants no more.
    async fn switch_off(&mut self, webhook: Uuid) {
        tracing::info!(%webhook, "a webhook answered 410 and is told nothing any more");
        let disable = || self.bookings.webhook_is_gone(webhook, self.holder);
        insist("that a webhook wants no more", || false, disable).await;
        self.held.remove(&webhook);
    }
}

impl Held {
    fn new(webhook: Webhook) -> Self {
        let seed = webhook.id.as_u64_pair();
        Self {
            queue: DeliveryQueue::new(seed.0 ^ seed.1),
            read_to: EventPosition::default(),
            more: true,
            webhook,
        }
    }

    /// Reads what is pending into the queue, as much as it may hold.
    async fn read_on(&mut self, bookings: &Bookings) -> Result<(), StoreError> {
        let limit = u32::try_from(QUEUE - self.queue.len()).unwrap_or(0);
        let pending = bookings.pending_deliveries(self.webhook.id, self.read_to, limit);
        let pending = pending.await?;
        self.more = pending.len() >= limit as usize;
        for one in pending {
            self.read_to = one.position;
            self.queue.add(one);
        }
        Ok(())
    }
}

/// What is wrong with an answer of that status.
const fn status_error(status: u16) -> Option<&'static str> {
    match status {
        200..=299 => None,
        300..=399 => Some("redirect"),
        _ => Some("status"),
    }
}

/// When to come again (RFC 9110 section 10.2.3): in so many seconds, or then.
fn retry_at(now: Timestamp, text: &str) -> Option<Timestamp> {
    if let Ok(seconds) = text.parse::<u32>() {
        let time = jiff::SignedDuration::from_secs(seconds.into());
        return now.checked_add(time).ok();
    }
    httpdate::parse_http_date(text).ok()?.try_into().ok()
}

async fn send(
    bookings: &Bookings,
    sender: &Sender,
    webhook: &Webhook,
    pending: Pending,
    clock: fn() -> Timestamp,
) -> Result<Answer, SendError> {
    let read = || async {
        settled(
            bookings.event_at(pending.position).await,
            StoreError::may_pass,
        )
    };
    let event = insist("an event to tell of", || false, read).await;
    let event = event.unwrap_or(Ok(None)).unwrap_or_else(|error| {
        let (webhook, position) = (webhook.id, pending.position.0);
        tracing::error!(%error, %webhook, position, "a webhook can't be told of an event, which can't be read");
        None
    });
    let event = event.ok_or(SendError::Gone)?;
    let id = event.event.id;
    let body = serde_json::to_string(&EventDocument::from(event)).unwrap_or_default();
    let at = clock();
    let message = Message {
        url: webhook.url.clone(),
        id: id.to_string(),
        timestamp: at.as_second().to_string(),
        signature: webhook.sign(id, at, &body),
        body,
    };
    sender.send(message).await
}

/// 410: what is asked for is gone, and won't come back.
const GONE: u16 = 410;
/// Deliveries of one webhook that are kept in memory; more wait in the store.
const QUEUE: usize = 10_000;
/// Messages on their way at once, to all webhooks together.
const SENDING_MAX: usize = 256;
/// How long nothing is looked at while nothing happens.
const NAP: Duration = Duration::from_millis(500);
/// How often leases are renewed.
const RENEW: jiff::SignedDuration = jiff::SignedDuration::from_secs(5);
/// How long after the last renewal nobody else can have them, with some room for clocks that differ.
const SAFE: jiff::SignedDuration = jiff::SignedDuration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_says_in_seconds_or_by_a_date_when_to_come_again() {
        let now: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
        let at = |text| retry_at(now, text).map(|at| at.to_string());
        assert_eq!(at("120").as_deref(), Some("2026-11-23T10:02:00Z"));
        let date = at("Mon, 23 Nov 2026 11:00:00 GMT");
        assert_eq!(date.as_deref(), Some("2026-11-23T11:00:00Z"));
        for nonsense in ["", "-1", "soon", "1.5", "99999999999"] {
            assert_eq!(at(nonsense), None, "{nonsense}");
        }
    }
}
