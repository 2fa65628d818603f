//! How long callers wait for the first word: from a call's arrival to the first byte of its first prompt.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use crate::call::roster::DurationHistogram;
use crate::engine::LegReport;
use crate::units::LegId;

/// Counted since start, by kind of call. Written by the gateway alone.
#[derive(Debug, Clone, Default)]
pub(super) struct SetUps {
    under_way: HashMap<LegId, UnderWay>,
    took: BTreeMap<&'static str, Took>,
}

#[derive(Debug, Clone, Copy)]
struct UnderWay {
    kind: &'static str,
    since: Instant,
}

#[derive(Debug, Clone, Default)]
struct Took {
    sum: Duration,
    counts: [u64; BOUNDS_MS.len() + 1],
}

impl SetUps {
    /// A call that came at `since` has a leg now.
    pub(super) fn begin(&mut self, leg: LegId, kind: &'static str, since: Instant) {
        self.under_way.insert(leg, UnderWay { kind, since });
    }

    /// A leg's figures came.
    pub(super) fn note(&mut self, leg: LegId, report: &LegReport) {
        let Some(at) = report.prompted_at else {
            return;
        };
        if let Some(UnderWay { kind, since }) = self.under_way.remove(&leg) {
            let took = at.saturating_duration_since(since);
            self.took.entry(kind).or_default().note(took);
        }
    }

    /// A leg's last figures came.
    pub(super) fn end(&mut self, leg: LegId, report: &LegReport) {
        self.note(leg, report);
        self.under_way.remove(&leg);
        self.under_way.shrink_to(2 * self.under_way.len());
    }

    pub(super) fn histograms(&self) -> Vec<(&'static str, DurationHistogram)> {
        let all = self.took.iter();
        all.map(|(kind, took)| (*kind, took.histogram())).collect()
    }
}

impl Took {
    fn note(&mut self, took: Duration) {
        self.sum += took;
        let above = |bound: &&u64| took > Duration::from_millis(**bound);
        let bucket = BOUNDS_MS.iter().take_while(above).count();
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
    }

    fn histogram(&self) -> DurationHistogram {
        let bounds = BOUNDS_MS.iter().map(|ms| *ms as f64 / 1_000.0);
        DurationHistogram {
            sum_seconds: self.sum.as_secs_f64(),
            buckets: bounds.chain([f64::INFINITY]).zip(self.counts).collect(),
        }
    }
}

/// Upper bounds. What is above the last one has a bucket of its own.
const BOUNDS_MS: [u64; 12] = [10, 20, 30, 50, 75, 100, 150, 250, 500, 1_000, 2_000, 5_000];

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn each_call_counts_once_when_its_first_prompt_is_known_and_never_without_one() {
        let (start, mut set_ups) = (start(), SetUps::default());
        let prompted_after = |ms| LegReport {
            prompted_at: Some(start + Duration::from_millis(ms)),
            ..LegReport::default()
        };
        for leg in 1..=4 {
            set_ups.begin(LegId(leg), "asterisk", start);
        }
        set_ups.note(LegId(1), &LegReport::default());
        set_ups.note(LegId(1), &prompted_after(30));
        set_ups.end(LegId(1), &prompted_after(30));
        set_ups.end(LegId(2), &prompted_after(31));
        set_ups.end(LegId(3), &prompted_after(9_000));
        set_ups.end(LegId(4), &LegReport::default());
        // One of an earlier process, which nobody began.
        set_ups.end(LegId(5), &prompted_after(1));
        let all = set_ups.histograms();
        let [("asterisk", histogram)] = all.as_slice() else {
            panic!("another kind");
        };
        let counted: Vec<(f64, u64)> = histogram
            .buckets
            .iter()
            .copied()
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(counted, [(0.03, 1), (0.05, 1), (f64::INFINITY, 1)]);
        assert!((histogram.sum_seconds - 9.061).abs() < 1e-9);
        assert!(set_ups.under_way.is_empty());
    }
}
