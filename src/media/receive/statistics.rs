//! What is counted about a received stream.

use super::PacketVerdict;
use crate::units::ExtSeqNo;

/// Counts since the leg began.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ReceiveStatistics {
    /// Packets, duplicates not counted.
    pub received: u64,
    /// Packets that should have come and haven't (RFC 3550 section 6.4.1).
    pub lost: u64,
    /// Packets that came when their turn was over.
    pub late: u64,
    /// Packets had before.
    pub duplicated: u64,
    /// Not RTP, not decodable, or of an unknown payload type.
    pub malformed: u64,
    /// Packets dropped because too many waited.
    pub overflowed: u64,
    /// Packets of what may have been another stream.
    pub strange: u64,
    /// Frames that were made up, wholly or for the most part.
    pub concealed_frames: u64,
    /// Losses made good from the packet after them.
    pub fec_frames: u64,
    /// Interarrival jitter (RFC 3550 appendix A.8), ms.
    pub jitter_ms: f32,
    /// The delay between arrival of the fastest packets and their turn, ms.
    pub buffer_ms: f32,
    /// Corrections of the delay, each of at most 10 ms.
    pub corrections: u64,
    /// How often another stream, or the same after a jump, took over.
    pub resyncs: u32,
}

/// How many of the last packets were lost, fading.
#[derive(Debug, Default)]
pub(super) struct LossRate {
    highest: Option<ExtSeqNo>,
    share: f32,
}

impl LossRate {
    pub(super) fn note(&mut self, sequence: ExtSeqNo) {
        let highest = *self.highest.get_or_insert(sequence);
        if sequence > highest {
            for _ in 0..(sequence.0 - highest.0 - 1).min(LOSS_RUN_MAX) {
                self.share += (1.0 - self.share) / LOSS_MEMORY;
            }
            self.share -= self.share / LOSS_MEMORY;
            self.highest = Some(sequence);
        }
    }

    pub(super) const fn share(&self) -> f32 {
        self.share
    }
}

/// What verdicts and pulls add up to.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) late: u64,
    pub(super) duplicated: u64,
    pub(super) malformed: u64,
    pub(super) overflowed: u64,
    pub(super) strange: u64,
    pub(super) concealed_frames: u64,
    pub(super) fec_frames: u64,
    pub(super) corrections: u64,
}

impl Counts {
    pub(super) const fn note(&mut self, verdict: PacketVerdict) {
        match verdict {
            PacketVerdict::Accepted | PacketVerdict::Key => {}
            PacketVerdict::Malformed | PacketVerdict::UnknownPayloadType => self.malformed += 1,
            PacketVerdict::Duplicate => self.duplicated += 1,
            PacketVerdict::Late => self.late += 1,
            PacketVerdict::Overflow => self.overflowed += 1,
            PacketVerdict::Strange => self.strange += 1,
        }
    }
}

/// Packets.
const LOSS_MEMORY: f32 = 128.0;
const LOSS_RUN_MAX: u64 = 50;
