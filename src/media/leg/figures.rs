//! A leg's figures since its beginning.

use super::Leg;
use crate::media::command::{LegReport, Refusal, Refusals};

/// Counts that outlive a change of codec.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Received {
    packets: u64,
    lost: u64,
    loss_runs: u64,
    late: u64,
    duplicated: u64,
    overflowed: u64,
    strange: u64,
    malformed: u64,
    frames: u64,
    concealed_frames: u64,
}

impl Leg {
    /// Its figures.
    #[must_use]
    pub fn report(&self) -> LegReport {
        let statistics = self.codecs.receiver.statistics();
        let received = self.received();
        LegReport {
            codec: Some(self.parameters.codec),
            received: received.packets,
            lost: received.lost,
            loss_runs: received.loss_runs,
            late: received.late,
            duplicated: received.duplicated,
            overflowed: received.overflowed,
            refused: self.refusals(&received),
            frames: received.frames,
            concealed_frames: received.concealed_frames,
            sent: self.sent,
            prompted_at: self.prompted_at,
            jitter_ms: statistics.jitter_ms,
            buffer_ms: statistics.buffer_ms,
            round_trip_ms: self.rtcp.round_trip.map(|time| time.as_secs_f32() * 1000.0),
            level: self.voice().level,
            talking: self.talking.current(),
            one_way: self.liveness.is_one_way(),
            gain: self.treatment.gain(),
            echo: self.treatment.echo(),
        }
    }

    /// Since the leg's beginning, whatever codecs it had.
    pub(super) fn received(&self) -> Received {
        let now = self.codecs.receiver.statistics();
        Received {
            packets: self.earlier.packets + now.received,
            lost: self.earlier.lost + now.lost,
            loss_runs: self.earlier.loss_runs + now.loss_runs,
            late: self.earlier.late + now.late,
            duplicated: self.earlier.duplicated + now.duplicated,
            overflowed: self.earlier.overflowed + now.overflowed,
            strange: self.earlier.strange + now.strange,
            malformed: self.earlier.malformed + now.malformed,
            frames: self.earlier.frames + now.frames,
            concealed_frames: self.earlier.concealed_frames + now.concealed_frames,
        }
    }

    /// What was refused at the door, and what the receiver refused.
    fn refusals(&self, received: &Received) -> Refusals {
        let mut refused = self.refused;
        refused.add(Refusal::Strange, received.strange);
        refused.add(Refusal::Malformed, received.malformed);
        refused
    }
}
