//! What of a leg's sound gets lost on the way to its peer, and so what loss it is to be encoded for.
//! Copies of frames for the case that they get lost cost everybody bits and us a fifth more time, so they are
//! made only where somebody loses packets: by what he reports, or where he reports nothing, as many as we
//! miss of his.

use std::time::{Duration, Instant};

/// Loss on the way to one peer.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// Of the last reports, fading; 0 to 1.
    share: f32,
    /// When the peer's own report came last.
    told: Option<Instant>,
    /// Copies are worth their price until then.
    until: Option<Instant>,
    /// What was asked for last; written by [`Self::weigh`].
    percent: u8,
}

impl Losses {
    /// The peer tells what it misses of ours, in 256ths.
    pub(super) fn note_told(&mut self, now: Instant, fraction: u8) {
        self.told = Some(now);
        self.take(now, fraction);
    }

    /// We miss that much of its packets, in 256ths: the same is supposed of the way there while it tells
    /// nothing.
    pub(super) fn note_seen(&mut self, now: Instant, fraction: u8) {
        let silent = |told: Instant| now.saturating_duration_since(told) > TOLD_FOR;
        if self.told.is_none_or(silent) {
            self.take(now, fraction);
        }
    }

    /// The loss to encode for from now on, in percent; 0: none.
    pub(super) fn weigh(&mut self, now: Instant) -> u8 {
        let lossy = self.until.is_some_and(|until| now < until);
        self.percent = match lossy {
            false => 0,
            true if self.share < HEAVY => SOME_PERCENT,
            true => HEAVY_PERCENT,
        };
        self.percent
    }

    /// What was weighed last.
    pub(super) const fn percent(&self) -> u8 {
        self.percent
    }

    /// Some reports in a row, or one that is bad enough, begin it; less keeps it up.
    fn take(&mut self, now: Instant, fraction: u8) {
        let share = f32::from(fraction) / 256.0;
        self.share += (share - self.share) / 2.0;
        let lossy = self.until.is_some_and(|until| now < until);
        if fraction > 0 && self.share >= BEGINS || lossy && share >= STAYS {
            self.until = Some(now + KEPT_FOR);
        }
    }
}

/// 2 % twice in a row, or 2.7 % once.
const BEGINS: f32 = 0.0125;
const STAYS: f32 = 0.0075;
const HEAVY: f32 = 0.15;
/// By less libopus makes no copies at our bitrate, or none that can be understood.
const SOME_PERCENT: u8 = 10;
const HEAVY_PERCENT: u8 = 20;
/// Three reports.
const KEPT_FOR: Duration = Duration::from_secs(15);
const TOLD_FOR: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    /// Reports every 4 s, in percent; what is encoded for after each.
    fn after(reports: &[f32]) -> Vec<u8> {
        let mut losses = Losses::default();
        let start = crate::media::seeded::start();
        let mut n = 0;
        let mut told = |percent: &f32| {
            n += 1;
            let now = start + Duration::from_secs(4 * n);
            losses.note_told(now, (percent * 2.56).round() as u8);
            losses.weigh(now)
        };
        reports.iter().map(&mut told).collect()
    }

    #[test]
    fn one_bad_report_or_some_that_are_less_so_begin_it() {
        assert_eq!(after(&[10.0]), [10]);
        assert_eq!(after(&[3.0]), [10]);
        assert_eq!(after(&[2.0, 2.0]), [0, 10]);
        assert_eq!(after(&[0.5; 50]), [0; 50]);
        // A burst that was over at once.
        assert_eq!(after(&[0.0, 2.0, 0.0, 0.0, 2.0, 0.0]), [0; 6]);
        assert_eq!(after(&[40.0, 40.0]), [20, 20]);
    }

    #[test]
    fn it_ends_some_reports_without_loss_later_and_not_between_two_with() {
        assert_eq!(
            after(&[5.0, 0.0, 0.0, 0.0, 0.0]),
            [10, 10, 10, 10, 0],
            "kept for 15 s"
        );
        assert_eq!(after(&[5.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0]), [10; 7]);
    }

    #[test]
    fn what_we_miss_counts_only_while_the_peer_tells_nothing() {
        let start = crate::media::seeded::start();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut losses = Losses::default();
        losses.note_seen(at(4), 26);
        assert_eq!(losses.weigh(at(4)), 10, "it has told nothing yet");
        losses.note_told(at(6), 0);
        for second in 7..26 {
            losses.note_seen(at(second), 26);
        }
        assert_eq!(losses.weigh(at(26)), 0, "it says that all is well");
        losses.note_seen(at(27), 26);
        losses.note_seen(at(31), 26);
        assert_eq!(losses.weigh(at(31)), 10, "it has fallen silent");
    }
}
