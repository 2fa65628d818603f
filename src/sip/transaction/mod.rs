//! The four transaction state machines of RFC 3261 section 17, with the Accepted state of RFC 6026.
//!
//! Each is a value: messages and `now` in, bytes to send again out. They know nothing of dialogs.

pub(crate) mod client;
pub(crate) mod client_invite;
pub(crate) mod server;
pub(crate) mod server_invite;

use std::time::Duration;

use bytes::Bytes;

/// The timers all others are made of (RFC 3261 section 17.1.1.1 and table 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// The round-trip estimate; the first retransmission comes after this.
    pub t1: Duration,
    /// The longest interval between retransmissions.
    pub t2: Duration,
    /// The longest time a message stays in the network.
    pub t4: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
        }
    }
}

impl Timing {
    /// 64 × T1: when waiting for the other side ends.
    pub(crate) fn patience(&self) -> Duration {
        self.t1 * 64
    }
}

/// One transaction. Never reused within a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TransactionId(pub(crate) u64);

/// What a timer did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fired {
    Nothing,
    /// Send these bytes again.
    Again(Bytes),
    /// Nobody answered.
    TimedOut,
}
