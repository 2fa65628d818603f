//! Keys of the telephone keypad on their way in: as RTP events ([`event`], RFC 4733) or as tones in
//! the audio ([`inband`]), and on their way out ([`sender`]).

pub mod event;
pub mod inband;
pub mod sender;

use std::time::Duration;

use crate::units::Key;

/// A key that was pressed and let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyPress {
    /// Which key.
    pub key: Key,
    /// How long, as far as it was received.
    pub duration: Duration,
}
