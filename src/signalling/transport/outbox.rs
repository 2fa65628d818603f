//! What waits to be written to a connection. It is bounded by its bytes: a big meeting's end is thousands of messages
//! at once to one trunk, and who reads takes them in a moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;

/// The gateway's end. Without it the connection is closed, after what waits.
#[derive(Debug)]
pub(crate) struct Outbox {
    messages: mpsc::UnboundedSender<Bytes>,
    waiting: Arc<AtomicUsize>,
}

/// The end of who writes.
#[derive(Debug)]
pub(super) struct Queued {
    messages: mpsc::UnboundedReceiver<Bytes>,
    /// In bytes. Raised by the gateway, lowered by who writes.
    waiting: Arc<AtomicUsize>,
}

pub(super) fn outbox() -> (Outbox, Queued) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let waiting: Arc<AtomicUsize> = Arc::default();
    let outbox = Outbox {
        messages: sender,
        waiting: Arc::clone(&waiting),
    };
    let queued = Queued {
        messages: receiver,
        waiting,
    };
    (outbox, queued)
}

impl Outbox {
    /// False: too much waits already, or the connection is gone. Nothing more is taken then.
    pub(super) fn put(&self, message: Bytes) -> bool {
        let cost = cost(&message);
        let before = self.waiting.fetch_add(cost, Ordering::Relaxed);
        let has_room = before.saturating_add(cost) <= WAITING_MAX;
        if !has_room {
            self.waiting.fetch_max(GIVEN_UP, Ordering::Relaxed);
        }
        has_room && self.messages.send(message).is_ok()
    }
}

impl Queued {
    /// The next one; `None`: no more is to be written. May be cancelled.
    pub(super) async fn take(&mut self) -> Option<Bytes> {
        let message = self.messages.recv().await?;
        // What waits for a peer who is given up isn't kept for as long as he likes to take it.
        let has_room = self.waiting.load(Ordering::Relaxed) <= WAITING_MAX;
        has_room.then_some(message)
    }

    /// That message waits no more.
    pub(super) fn written(&self, message: &Bytes) {
        self.waiting.fetch_sub(cost(message), Ordering::Relaxed);
    }
}

fn cost(message: &Bytes) -> usize {
    message.len().saturating_add(EACH)
}

/// Bytes that may wait: a BYE to each of 5,000 calls.
pub(super) const WAITING_MAX: usize = 4 * 1024 * 1024;
/// Stands for all that waits once it is too much: more than could be written.
const GIVEN_UP: usize = usize::MAX / 2;
/// What a message takes beside its bytes: answers to keep-alives have two.
pub(super) const EACH: usize = 64;
