//! What is counted about a received stream.

use super::{FrameKind, PacketVerdict};
use crate::units::ExtSeqNo;

/// Counts since the leg began.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ReceiveStatistics {
    /// Packets, duplicates not counted.
    pub received: u64,
    /// Packets that should have come and haven't (RFC 3550 section 6.4.1).
    pub lost: u64,
    /// Runs of lost packets, however long each was.
    pub loss_runs: u64,
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
    /// Frames of 20 ms that something was to be heard in.
    pub frames: u64,
    /// Of these, those that were made up, wholly or for the most part.
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

/// How many of the last packets were lost, fading. One is lost when enough later ones have come: on
/// a path with jitter packets overtake each other.
#[derive(Debug)]
pub(super) struct LossRate {
    highest: Option<ExtSeqNo>,
    /// Bit n: the n-th before the highest came.
    recent: u16,
    share: f32,
    /// The packet that was judged last is lost.
    in_run: bool,
}

impl Default for LossRate {
    fn default() -> Self {
        Self {
            highest: None,
            recent: u16::MAX,
            share: 0.0,
            in_run: false,
        }
    }
}

impl LossRate {
    /// Takes a packet; returns how many runs of lost ones turned out to have begun.
    pub(super) fn note(&mut self, sequence: ExtSeqNo) -> u64 {
        let mut runs = 0;
        let highest = *self.highest.get_or_insert(sequence);
        for _ in 0..sequence.0.saturating_sub(highest.0).min(LOSS_RUN_MAX) {
            let lost = self.recent & OVERTAKEN == 0;
            runs += u64::from(lost && !self.in_run);
            self.in_run = lost;
            self.share += (f32::from(u8::from(lost)) - self.share) / LOSS_MEMORY;
            self.recent <<= 1;
        }
        let back = u32::try_from(highest.0.saturating_sub(sequence.0)).unwrap_or(u32::MAX);
        self.recent |= 1_u16.checked_shl(back).unwrap_or(0);
        self.highest = Some(highest.max(sequence));
        runs
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
    pub(super) frames: u64,
    pub(super) concealed_frames: u64,
    pub(super) fec_frames: u64,
    pub(super) corrections: u64,
    pub(super) loss_runs: u64,
}

impl Counts {
    pub(super) const fn note_frame(&mut self, kind: FrameKind) {
        match kind {
            FrameKind::Silence | FrameKind::ComfortNoise => {}
            FrameKind::Skipped | FrameKind::Voice => self.frames += 1,
            FrameKind::Concealed => {
                self.frames += 1;
                self.concealed_frames += 1;
            }
        }
    }

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
/// Packets that overtook another one for good: 160 ms of them.
const OVERTAKEN: u16 = 1 << 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn share(sequences: impl Iterator<Item = u64>) -> f32 {
        let mut loss = LossRate::default();
        sequences.for_each(|sequence| {
            loss.note(ExtSeqNo(sequence));
        });
        loss.share()
    }

    #[test]
    fn packets_that_overtake_each_other_are_not_lost() {
        let mixed = (0..1000).map(|n| 100 + (n / 3) * 3 + (2 - n % 3));
        assert_eq!(share(mixed), 0.0);
    }

    #[test]
    fn losses_in_a_row_are_one_run() {
        let mut loss = LossRate::default();
        let came = (0..1000).filter(|n| n % 50 > 3);
        let runs: u64 = came.map(|n| loss.note(ExtSeqNo(100 + n))).sum();
        assert_eq!(runs, 19);
    }

    #[test]
    fn every_tenth_that_never_comes_is_ten_percent() {
        let holes = (0..2000).filter(|n| n % 10 != 0);
        let share = share(holes);
        assert!((0.07..0.13).contains(&share), "{share}");
    }
}
