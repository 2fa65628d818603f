//! What the exhaustive test of the protocol sees of the control side's end of a thread.

use super::ThreadPort;
use crate::engine::thread::Passing;
use crate::media::command::{BridgeSlot, EngineEvent, LegSlot};
use crate::units::LegId;

impl ThreadPort {
    pub(in crate::engine) fn backlog(&self) -> impl Iterator<Item = Passing> + '_ {
        self.backlog.iter().map(Passing::command)
    }

    /// Would [`Self::flush`] do anything?
    pub(in crate::engine) fn can_flush(&self) -> bool {
        !self.backlog.is_empty() && !self.commands.is_full()
    }

    pub(in crate::engine) fn returned_waiting(&mut self) -> Vec<Passing> {
        let waiting = self.returned.slots();
        let chunk = self.returned.read_chunk(waiting).unwrap();
        let (first, rest) = chunk.as_slices();
        first.iter().chain(rest).map(Passing::returned).collect()
    }

    /// Whose key it is, for each event in the ring.
    pub(in crate::engine) fn events_waiting(&mut self) -> Vec<Option<LegId>> {
        let waiting = self.events.slots();
        let chunk = self.events.read_chunk(waiting).unwrap();
        let (first, rest) = chunk.as_slices();
        let of_key = |event: &EngineEvent| match event {
            EngineEvent::Key { leg, .. } => Some(*leg),
            EngineEvent::PlayFinished { .. }
            | EngineEvent::MediaStarted { .. }
            | EngineEvent::MediaLost { .. }
            | EngineEvent::Talking { .. }
            | EngineEvent::Handshake { .. }
            | EngineEvent::Report { .. }
            | EngineEvent::LegClosed { .. } => None,
        };
        first.iter().chain(rest).map(of_key).collect()
    }

    pub(in crate::engine) fn free_legs(&self) -> &[LegSlot] {
        &self.free_legs
    }

    pub(in crate::engine) fn free_bridges(&self) -> &[BridgeSlot] {
        &self.free_bridges
    }
}
