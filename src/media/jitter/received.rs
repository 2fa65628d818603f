//! What has come: timestamps extended by their wraps, and which sequence numbers, so that a pause is
//! told from a loss.

use std::ops::Range;
use std::time::Instant;

use crate::units::{ExtSeqNo, RtpTicks};

/// The last timestamp seen, and its extension by its wraps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reference {
    pub(super) timestamp: RtpTicks,
    pub(super) extended: i64,
}

impl Reference {
    pub(super) fn extend(&self, timestamp: RtpTicks) -> i64 {
        self.extended + i64::from(timestamp.since(self.timestamp))
    }
}

/// Which sequence numbers have come, so that a pause is told from a loss.
#[derive(Debug)]
pub(super) struct Received {
    highest: Option<ExtSeqNo>,
    /// Bit n: the n-th before the highest.
    bits: u128,
    /// The last packet handed out, and when.
    pub(super) played: Option<ExtSeqNo>,
    pub(super) last: Option<Instant>,
    /// The sender has said within the audio that silence follows.
    pub(super) paused: bool,
    /// Where the packet handed out last ends, on the extended timestamps.
    end: i64,
    /// The sender has been silent without saying so beforehand, and lost nothing.
    pub(super) pauses_unsaid: bool,
    /// The last packet that wasn't audio.
    other: Option<ExtSeqNo>,
}

impl Received {
    pub(super) const EMPTY: Self = Self {
        highest: None,
        bits: 0,
        played: None,
        last: None,
        paused: false,
        end: 0,
        pauses_unsaid: false,
        other: None,
    };

    pub(super) fn mark(&mut self, sequence: ExtSeqNo, audio: bool) {
        if !audio {
            self.other = self.other.max(Some(sequence));
        }
        let highest = *self.highest.get_or_insert(sequence);
        if sequence >= highest {
            let step = u32::try_from(sequence.0 - highest.0).unwrap_or(u32::MAX);
            self.bits = self.bits.checked_shl(step).unwrap_or(0) | 1;
            self.highest = Some(sequence);
        } else {
            let back = u32::try_from(highest.0 - sequence.0).unwrap_or(u32::MAX);
            self.bits |= 1_u128.checked_shl(back).unwrap_or(0);
        }
    }

    /// All before `next` was had from a copy, up to `end` on the extended timestamps.
    pub(super) fn make_good(&mut self, next: ExtSeqNo, end: i64) {
        let last = next.0.checked_sub(1).map(ExtSeqNo);
        self.played = self.played.max(last);
        self.end = end;
    }

    /// A packet that waited had to go: what it would have filled is missing, not silent.
    pub(super) fn lose(&mut self, sequence: ExtSeqNo) {
        let back = self
            .highest
            .and_then(|highest| highest.0.checked_sub(sequence.0));
        let back = back.and_then(|back| u32::try_from(back).ok());
        if let Some(bit) = back.and_then(|back| 1_u128.checked_shl(back)) {
            self.bits &= !bit;
        }
    }

    /// A packet is handed out, which lies there on the extended timestamps. Who leaves out `pause` ticks or more
    /// without a word, but no number, is one who pauses; less is a clock that isn't even.
    pub(super) fn play(&mut self, now: Instant, sequence: ExtSeqNo, span: Range<i64>, pause: i64) {
        let follows = self.played.is_some_and(|played| sequence.0 == played.0 + 1);
        self.pauses_unsaid |= follows && !self.paused && span.start - self.end >= pause;
        self.played = Some(sequence);
        self.last = Some(now);
        self.paused = false;
        self.end = span.end;
    }

    /// Is no audio to be expected after what was played last? What still waits for its turn when
    /// silence is announced doesn't end it.
    pub(super) fn is_paused(&self) -> bool {
        self.paused || self.other > self.played
    }

    /// Has everything between the packet played last and this one come?
    pub(super) fn is_whole(&self, before: ExtSeqNo) -> bool {
        let (Some(played), Some(highest)) = (self.played, self.highest) else {
            return true;
        };
        (played.0 + 1..before.0).all(|sequence| {
            let back = highest
                .0
                .checked_sub(sequence)
                .and_then(|back| u32::try_from(back).ok());
            back.and_then(|back| self.bits.checked_shr(back))
                .is_some_and(|bits| bits & 1 == 1)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_missing_where_all_in_between_has_come_as_whatever() {
        let mut received = Received {
            played: Some(ExtSeqNo(10)),
            ..Received::EMPTY
        };
        for (sequence, audio) in [(10, true), (13, true), (11, false), (14, true)] {
            received.mark(ExtSeqNo(sequence), audio);
        }
        assert!(received.is_whole(ExtSeqNo(12)));
        assert!(!received.is_whole(ExtSeqNo(13)));
        received.mark(ExtSeqNo(12), false);
        assert!(received.is_whole(ExtSeqNo(15)));
        assert!(!received.is_whole(ExtSeqNo(300)));
        received.mark(ExtSeqNo(400), true);
        assert!(!received.is_whole(ExtSeqNo(400)));
    }

    #[test]
    fn silence_lasts_from_its_announcement_to_the_next_audio_in_whatever_order_they_come() {
        let mut received = Received::EMPTY;
        received.mark(ExtSeqNo(12), false);
        for (played, paused) in [(10, true), (11, true), (13, false)] {
            received.played = Some(ExtSeqNo(played));
            assert_eq!(received.is_paused(), paused, "{played}");
        }
        received.mark(ExtSeqNo(9), false);
        assert!(!received.is_paused());
    }

    #[test]
    fn who_left_time_out_but_no_number_pauses_without_a_word() {
        let now = crate::media::seeded::start();
        for (sequence, begin, paused, unsaid) in [
            (11, 160, false, false),
            (11, 161, false, false),
            (11, 960, true, false),
            (12, 960, false, false),
            (11, 960, false, true),
        ] {
            let mut received = Received::EMPTY;
            received.play(now, ExtSeqNo(10), 0..160, 800);
            received.paused = paused;
            received.play(now, ExtSeqNo(sequence), begin..begin + 160, 800);
            assert_eq!(
                received.pauses_unsaid, unsaid,
                "{sequence} {begin} {paused}"
            );
        }
    }

    #[test]
    fn timestamps_extend_over_the_wrap_both_ways() {
        let reference = Reference {
            timestamp: RtpTicks(0xFFFF_FFF0),
            extended: 100,
        };
        assert_eq!(reference.extend(RtpTicks(0x10)), 132);
        assert_eq!(reference.extend(RtpTicks(0xFFFF_FFE0)), 84);
    }
}
