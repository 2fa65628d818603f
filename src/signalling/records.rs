//! Call records on their way to the store: queued, so that a store that is away costs no call.

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::booking::persistence::{insist, settled};
use crate::booking::{BookingError, Bookings, CallRecord};

/// Takes records from the gateway; never waits.
#[derive(Debug)]
pub(super) struct Recorder {
    queue: mpsc::Sender<CallRecord>,
    dropped: u64,
}

impl Recorder {
    /// Starts the task that writes. It ends when the recorder is dropped and the queue is empty.
    pub(super) fn start(bookings: Bookings) -> (Self, JoinHandle<()>) {
        let (queue, records) = mpsc::channel(QUEUE);
        (
            Self { queue, dropped: 0 },
            tokio::spawn(write(bookings, records)),
        )
    }

    /// Keeps a record.
    pub(super) fn keep(&mut self, record: CallRecord) {
        if self.queue.try_send(record).is_err() {
            self.dropped += 1;
            if self.dropped.is_power_of_two() {
                tracing::warn!(
                    dropped = self.dropped,
                    "call records are lost: the store has been away for too long"
                );
            }
        }
    }
}

async fn write(bookings: Bookings, mut records: mpsc::Receiver<CallRecord>) {
    while let Some(record) = records.recv().await {
        let is_over = || records.is_closed();
        let keep = || async {
            let kept = bookings.record_call(&record).await;
            settled(kept, BookingError::may_pass)
        };
        match insist("a call record", is_over, keep).await {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                tracing::error!(call = %record.id, %error, "a call record is lost: it can't be kept");
            }
            None => tracing::warn!(call = %record.id, "a call record is lost: the store is away"),
        }
    }
}

/// Records that wait for the store: some minutes of a busy node.
const QUEUE: usize = 4_096;
