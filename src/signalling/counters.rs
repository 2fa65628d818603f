//! What the gateway counts, and the picture of it that others read without asking.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::set_up::SetUps;
use crate::call::roster::{DurationHistogram, Gauges};
use crate::engine::{LATENESS_BOUNDS, LegReport, ThreadHealth};
use crate::handshake::Dropped;
use crate::media::command::{Refusal, Refusals};
use crate::units::LegId;

/// Why a call was not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Refused {
    /// The node drains.
    Draining,
    /// `limits.calls` is reached.
    Calls,
    /// `limits.calls_per_source` is reached.
    CallsPerSource,
    /// `calls` of its `[[sip.trunk]]` is reached.
    CallsPerTrunk,
    /// The media threads are as busy as they may be.
    Overload,
}

impl Refused {
    /// The SIP status it is answered with: one peer that has enough lines in use is busy, a node that is
    /// full is unavailable.
    pub(super) const fn status(self) -> u16 {
        match self {
            Self::Draining | Self::Calls | Self::Overload => 503,
            Self::CallsPerSource | Self::CallsPerTrunk => 486,
        }
    }

    /// The word in metrics.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Draining => "draining",
            Self::Calls => "calls",
            Self::CallsPerSource => "calls_per_source",
            Self::CallsPerTrunk => "calls_per_trunk",
            Self::Overload => "overload",
        }
    }
}

/// What became of a handshake that a call's keys were to come by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum HandshakeEnd {
    /// There are keys.
    Completed,
    /// Nobody came to an end of it in time.
    TimedOut,
    /// The caller broke it off.
    Refused,
    /// Another certificate than signalling vouched for.
    Unvouched,
    /// It was not begun: too many were under way.
    TooMany,
}

impl HandshakeEnd {
    const ALL: [Self; 5] = [
        Self::Completed,
        Self::TimedOut,
        Self::Refused,
        Self::Unvouched,
        Self::TooMany,
    ];

    /// The word in metrics.
    const fn word(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::TimedOut => "timed_out",
            Self::Refused => "refused",
            Self::Unvouched => "unvouched",
            Self::TooMany => "too_many",
        }
    }
}

/// Counted since start. Written by the gateway alone.
#[derive(Debug, Clone, Default)]
pub(super) struct Counters {
    refused: BTreeMap<Refused, u64>,
    concealed_frames: u64,
    one_way_audio: u64,
    packets_refused: Refusals,
    handshakes: [u64; HandshakeEnd::ALL.len()],
    handshake_packets: Dropped,
    /// What each leg that is open had told of these.
    told: HashMap<LegId, Told>,
    pub(super) set_up: SetUps,
}

/// What a leg counts since it was opened.
#[derive(Debug, Clone, Default)]
struct Told {
    refused: Refusals,
    concealed_frames: u64,
}

impl Counters {
    pub(super) fn admission_refused(&mut self, refused: Refused) {
        *self.refused.entry(refused).or_insert(0) += 1;
    }

    /// The part of the metrics that is counted here.
    pub(super) fn gauges(&self) -> Gauges {
        Gauges {
            concealed_frames: self.concealed_frames,
            one_way_audio: self.one_way_audio,
            packets_refused: Refusal::ALL
                .map(|why| (why.word(), self.packets_refused.of(why)))
                .to_vec(),
            handshakes: HandshakeEnd::ALL
                .map(|end| (end.word(), self.handshakes[end as usize]))
                .to_vec(),
            handshake_packets_dropped: vec![
                ("foreign", self.handshake_packets.foreign),
                ("unproven", self.handshake_packets.unproven),
                ("useless", self.handshake_packets.useless),
            ],
            set_up: self.set_up.histograms(),
            admission_refused: self
                .refused
                .iter()
                .map(|(why, count)| (why.word(), *count))
                .collect(),
            ..Gauges::default()
        }
    }

    /// Takes in what a leg tells once a second; true where it turns out that much comes to its port from
    /// elsewhere than its peer, or by another key.
    pub(super) fn leg_told(&mut self, leg: LegId, report: &LegReport) -> bool {
        self.set_up.note(leg, report);
        let told = Told {
            refused: report.refused,
            concealed_frames: report.concealed_frames,
        };
        let before = self.told.insert(leg, told).unwrap_or_default();
        self.packets_refused
            .add_since(&before.refused, &report.refused);
        let concealed = report.concealed_frames;
        self.concealed_frames += concealed.saturating_sub(before.concealed_frames);
        let strangers = |refused: &Refusals| STRANGERS.map(|why| refused.of(why)).iter().sum();
        let is_beset = |packets: u64| packets >= BESET_FROM_PACKETS;
        is_beset(strangers(&report.refused)) && !is_beset(strangers(&before.refused))
    }

    pub(super) const fn handshake_ended(&mut self, end: HandshakeEnd) {
        self.handshakes[end as usize] += 1;
    }

    pub(super) const fn handshake_packets_dropped(&mut self, dropped: &Dropped) {
        self.handshake_packets.foreign += dropped.foreign;
        self.handshake_packets.unproven += dropped.unproven;
        self.handshake_packets.useless += dropped.useless;
    }

    pub(super) const fn one_way_found(&mut self) {
        self.one_way_audio += 1;
    }

    pub(super) fn leg_closed(&mut self, leg: LegId, report: &LegReport) {
        self.leg_told(leg, report);
        self.told.remove(&leg);
        self.set_up.end(leg, report);
    }
}

/// What nobody sends by mistake for long.
const STRANGERS: [Refusal; 4] = [
    Refusal::Foreign,
    Refusal::Forged,
    Refusal::Replayed,
    Refusal::Strange,
];
/// A phone that changes its keys or its stream has some under way.
const BESET_FROM_PACKETS: u64 = 200;

/// A thread's wake-ups as a histogram.
pub(super) fn lateness(thread: &ThreadHealth) -> DurationHistogram {
    let bounds = LATENESS_BOUNDS
        .iter()
        .map(Duration::as_secs_f64)
        .chain([f64::INFINITY]);
    DurationHistogram {
        buckets: bounds.zip(thread.lateness).collect(),
        sum_seconds: thread.lateness_sum.as_secs_f64(),
    }
}

/// Packets that belong to no call, or found no way to it.
pub(super) fn packets_dropped(threads: &[ThreadHealth]) -> Vec<(&'static str, u64)> {
    let sum = |figure: fn(&ThreadHealth) -> u64| threads.iter().map(figure).sum();
    vec![
        ("unknown_source", sum(|thread| thread.unknown_sources)),
        ("forward", sum(|thread| thread.forwards_dropped)),
        ("stray", sum(|thread| thread.strays)),
        ("send", sum(|thread| thread.send_errors)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_concealed_counts_while_the_call_lasts_and_once() {
        let mut counters = Counters::default();
        let report = |concealed_frames| LegReport {
            concealed_frames,
            ..LegReport::default()
        };
        let mut counted = Vec::new();
        for (leg, concealed) in [(1, 3), (2, 10), (1, 5), (1, 5)] {
            counters.leg_told(LegId(leg), &report(concealed));
            counted.push(counters.gauges().concealed_frames);
        }
        counters.leg_closed(LegId(1), &report(6));
        counted.push(counters.gauges().concealed_frames);
        // A leg that nothing was told of before.
        counters.leg_closed(LegId(3), &report(2));
        counted.push(counters.gauges().concealed_frames);
        assert_eq!(counted, [3, 13, 15, 15, 16, 18]);
    }
}
