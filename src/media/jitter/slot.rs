//! A packet that waits for its turn.

use super::payloads::Place;
use crate::media::audio_level::AudioLevel;
use crate::units::ExtSeqNo;

/// What is known of it; its bytes lie among the [`Payloads`](super::Payloads).
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) sequence: ExtSeqNo,
    pub(super) timestamp: i64,
    pub(super) ticks: u32,
    pub(super) place: Place,
    pub(super) level: Option<AudioLevel>,
    /// How much slower than the fastest, in microseconds.
    pub(super) relative: i64,
}

impl Slot {
    pub(super) const EMPTY: Self = Self {
        sequence: ExtSeqNo(0),
        timestamp: 0,
        ticks: 0,
        place: Place {
            start: 0,
            length: 0,
        },
        level: None,
        relative: 0,
    };

    pub(super) const fn end(&self) -> i64 {
        self.timestamp + self.ticks as i64
    }
}
