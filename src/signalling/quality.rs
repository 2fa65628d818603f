//! A leg's figures as the API and the call record give them.

use crate::call::roster::Quality;
use crate::engine::LegReport;
use crate::media::codec::Codec;

/// The live figures.
pub(super) fn of(report: &LegReport) -> Quality {
    let expected = (report.received + report.lost).max(1) as f32;
    let frames = (report.received).max(1) as f32;
    let loss = report.lost as f32 / expected;
    let delay_ms = report.buffer_ms + report.round_trip_ms.unwrap_or(0.0) / 2.0;
    Quality {
        loss,
        jitter_ms: report.jitter_ms,
        delay_ms,
        concealed: (report.concealed_frames as f32 / frames).min(1.0),
        mos: mos(loss, delay_ms, report.codec),
    }
}

/// The figures of a whole call, for its record.
pub(super) fn as_json(report: &LegReport) -> serde_json::Value {
    serde_json::to_value(of(report)).unwrap_or_default()
}

/// Mean opinion score by the E-model (ITU-T G.107, defaults of its section 7; Ie and Bpl of G.113):
/// `loss` 0 to 1, one-way `delay_ms`.
fn mos(loss: f32, delay_ms: f32, codec: Option<Codec>) -> f32 {
    let (impairment, robustness) = match codec {
        Some(Codec::Opus) => (0.0, 20.0),
        Some(Codec::G722) => (0.0, 10.0),
        Some(Codec::Pcmu | Codec::Pcma) | None => (0.0, 25.1),
    };
    let percent = loss * 100.0;
    let equipment = impairment + (95.0 - impairment) * percent / (percent + robustness);
    let delay = 0.024 * delay_ms + 0.11 * (delay_ms - 177.3).max(0.0);
    let rating = (93.2 - equipment - delay).clamp(0.0, 100.0);
    (1.0 + 0.035 * rating + rating * (rating - 60.0) * (100.0 - rating) * 7e-6).clamp(1.0, 4.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_call_scores_over_four_and_loss_costs() {
        let clean = mos(0.0, 30.0, Some(Codec::Pcma));
        let lossy = mos(0.05, 30.0, Some(Codec::Pcma));
        let late = mos(0.0, 400.0, Some(Codec::Pcma));
        assert!(clean > 4.3 && clean <= 4.5, "{clean}");
        assert!(lossy < clean - 0.4, "{lossy}");
        assert!(late < clean - 0.8, "{late}");
    }
}
