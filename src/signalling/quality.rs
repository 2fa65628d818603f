//! A leg's figures as the API and the call record give them, worked out on the control side from
//! what the media threads count.

use crate::call::roster::{EchoQuality, Quality};
use crate::engine::LegReport;
use crate::media::codec::Codec;

/// The last ten to twenty seconds of a leg, so that what is shown is what is heard now.
#[derive(Debug, Default)]
pub(crate) struct QualityWindow {
    older: LegReport,
    newer: LegReport,
    last: LegReport,
    reports: u32,
}

impl QualityWindow {
    /// Takes a report, of which one comes every second.
    pub(crate) fn note(&mut self, report: &LegReport) {
        self.last = *report;
        self.reports += 1;
        if self.reports.is_multiple_of(REPORTS_PER_HALF) {
            self.older = std::mem::replace(&mut self.newer, *report);
        }
    }

    /// The live figures.
    pub(crate) fn quality(&self) -> Quality {
        if self.reports == 0 {
            Quality::default()
        } else {
            between(&self.older, &self.last)
        }
    }
}

/// The figures of a whole call, for its record.
pub(super) fn as_json(report: &LegReport) -> serde_json::Value {
    serde_json::to_value(between(&LegReport::default(), report)).unwrap_or_default()
}

fn between(before: &LegReport, now: &LegReport) -> Quality {
    let since = |now: u64, before: u64| now.saturating_sub(before) as f32;
    let received = since(now.received, before.received);
    let lost = since(now.lost, before.lost);
    let late = since(now.late + now.overflowed, before.late + before.overflowed);
    let expected = (received + lost).max(1.0);
    let loss = lost / expected;
    let burst_ratio = burst_ratio(lost, since(now.loss_runs, before.loss_runs), loss);
    let delay_ms = now.buffer_ms + now.round_trip_ms.unwrap_or(0.0) / 2.0;
    let frames = since(now.frames, before.frames);
    let concealed = since(now.concealed_frames, before.concealed_frames);
    Quality {
        loss,
        jitter_ms: now.jitter_ms,
        delay_ms,
        buffer_ms: now.buffer_ms,
        round_trip_ms: now.round_trip_ms,
        burst_ratio,
        concealed: concealed / frames.max(1.0),
        one_way: now.one_way,
        mos: mos((lost + late) / expected, burst_ratio, delay_ms, now.codec),
        gain_db: now.gain.0,
        echo: now.echo.map(|echo| EchoQuality {
            delay_ms: echo.delay_ms,
            level_db: echo.level.0,
            damped: echo.damped,
        }),
    }
}

/// BurstR of ITU-T G.107: how long the runs of losses are, against what chance would make of them.
fn burst_ratio(lost: f32, runs: f32, loss: f32) -> f32 {
    if runs < 1.0 {
        return 1.0;
    }
    (lost / runs * (1.0 - loss)).max(1.0)
}

/// Mean opinion score by the E-model (ITU-T G.107) with its default values, in which only what is
/// lost (`loss` 0 to 1, and how much in bursts) and the one-way `delay_ms` differ.
fn mos(loss: f32, burst_ratio: f32, delay_ms: f32, codec: Option<Codec>) -> f32 {
    let rating = BASE - delay_impairment(delay_ms) - loss_impairment(loss, burst_ratio, codec);
    let rating = rating.clamp(0.0, 100.0);
    (1.0 + 0.035 * rating + rating * (rating - 60.0) * (100.0 - rating) * 7e-6).clamp(1.0, 4.5)
}

/// Ie,eff of G.107 section 3.5. Bpl of G.711 with concealment is that of G.113 appendix I; G.722's and
/// Opus's aren't standardised for this scale and are set by what their concealment is worth.
fn loss_impairment(loss: f32, burst_ratio: f32, codec: Option<Codec>) -> f32 {
    let robustness = match codec {
        Some(Codec::Opus) => 20.0,
        Some(Codec::G722) => 10.0,
        Some(Codec::Pcmu | Codec::Pcma) | None => 25.1,
    };
    let percent = loss * 100.0;
    95.0 * percent / (percent / burst_ratio + robustness)
}

/// Idd of G.107 section 3.4: nothing up to 100 ms.
fn delay_impairment(delay_ms: f32) -> f32 {
    if delay_ms <= 100.0 {
        return 0.0;
    }
    let x = (delay_ms / 100.0).log2();
    let bend = |x: f32| (1.0 + x.powi(6)).powf(1.0 / 6.0);
    25.0 * (bend(x) - 3.0 * bend(x / 3.0) + 2.0)
}

/// R with all defaults and no delay.
const BASE: f32 = 93.2;
/// Seconds, since a report comes every second.
const REPORTS_PER_HALF: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    const PCMA: Option<Codec> = Some(Codec::Pcma);

    #[test]
    fn the_e_models_own_numbers_come_out() {
        // R = 93.2 is 4.41; Idd is 3.0 at 200 ms and 24.1 at 400 ms.
        assert!((mos(0.0, 1.0, 0.0, PCMA) - 4.41).abs() < 0.01);
        assert!((delay_impairment(200.0) - 3.05).abs() < 0.1);
        assert!((delay_impairment(400.0) - 24.1).abs() < 0.1);
        // 5 % random loss on concealed G.711: 95 * 5 / (5 + 25.1) = 15.8.
        assert!((loss_impairment(0.05, 1.0, PCMA) - 15.78).abs() < 0.01);
    }

    #[test]
    fn loss_delay_and_bursts_cost() {
        let clean = mos(0.0, 1.0, 30.0, PCMA);
        let lossy = mos(0.05, 1.0, 30.0, PCMA);
        let bursty = mos(0.05, 3.0, 30.0, PCMA);
        let late = mos(0.0, 1.0, 400.0, PCMA);
        assert!(lossy < clean - 0.4, "{lossy}");
        assert!(bursty < lossy - 0.05, "{bursty}");
        assert!(late < clean - 0.8, "{late}");
        assert!(mos(1.0, 1.0, 1_000.0, PCMA) >= 1.0);
    }

    #[test]
    fn losses_in_a_row_are_a_burst_and_single_ones_are_not() {
        let single = LegReport {
            received: 950,
            lost: 50,
            loss_runs: 50,
            ..LegReport::default()
        };
        let burst = LegReport {
            loss_runs: 10,
            ..single
        };
        let none = LegReport::default();
        assert_eq!(between(&none, &single).burst_ratio, 1.0);
        assert!((between(&none, &burst).burst_ratio - 4.75).abs() < 0.01);
        assert!(between(&none, &burst).mos < between(&none, &single).mos);
    }

    #[test]
    fn what_is_concealed_is_a_share_of_the_time_however_long_the_packets_are() {
        for packets in [50, 17] {
            let report = LegReport {
                received: packets,
                frames: 50,
                concealed_frames: 5,
                ..LegReport::default()
            };
            assert_eq!(between(&LegReport::default(), &report).concealed, 0.1);
        }
    }

    #[test]
    fn trouble_that_is_over_is_shown_no_more() {
        let mut window = QualityWindow::default();
        assert_eq!(window.quality(), Quality::default());
        let mut report = LegReport::default();
        for second in 1..=40 {
            report.received += 50;
            report.lost += if second <= 5 { 10 } else { 0 };
            window.note(&report);
            if second == 5 {
                assert!(window.quality().loss > 0.15);
            }
        }
        assert_eq!(window.quality().loss, 0.0);
        assert!(as_json(&report)["loss"].as_f64().unwrap() > 0.02);
    }
}
