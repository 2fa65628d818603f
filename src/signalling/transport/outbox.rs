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
    waiting: Waiting,
}

/// The end of who writes.
#[derive(Debug)]
pub(super) struct Queued {
    messages: mpsc::UnboundedReceiver<Bytes>,
    waiting: Waiting,
}

/// How many bytes wait.
#[derive(Debug, Clone)]
struct Waiting {
    /// Raised by the gateway, lowered by who writes.
    bytes: Arc<AtomicUsize>,
    most: usize,
}

/// For `most` bytes.
pub(super) fn outbox(most: usize) -> (Outbox, Queued) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let bytes = Arc::default();
    let waiting = Waiting { bytes, most };
    let outbox = Outbox {
        messages: sender,
        waiting: waiting.clone(),
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
        let before = self.waiting.bytes.fetch_add(cost, Ordering::Relaxed);
        let has_room = before.saturating_add(cost) <= self.waiting.most;
        if !has_room {
            self.waiting.bytes.fetch_max(GIVEN_UP, Ordering::Relaxed);
        }
        has_room && self.messages.send(message).is_ok()
    }
}

impl Queued {
    /// The next one; `None`: no more is to be written. May be cancelled.
    pub(super) async fn take(&mut self) -> Option<Bytes> {
        let message = self.messages.recv().await?;
        // What waits for a peer who is given up isn't kept for as long as he likes to take it.
        let has_room = self.waiting.bytes.load(Ordering::Relaxed) <= self.waiting.most;
        has_room.then_some(message)
    }

    /// That message waits no more.
    pub(super) fn written(&self, message: &Bytes) {
        self.waiting
            .bytes
            .fetch_sub(cost(message), Ordering::Relaxed);
    }
}

fn cost(message: &Bytes) -> usize {
    message.len().saturating_add(EACH)
}

/// Bytes that may wait for a peer who is known: a BYE with a long way to each of 5,000 calls.
pub(super) const FOR_KNOWN: usize = 16 * 1024 * 1024;
/// For anybody: to each of a hundred calls a good deal more than that.
pub(super) const FOR_ANYBODY: usize = 1024 * 1024;
/// Stands for all that waits once it is too much: more than could be written.
const GIVEN_UP: usize = usize::MAX / 2;
/// What a message takes beside its bytes: answers to keep-alives have two.
pub(super) const EACH: usize = 64;
