//! Bridges, seen from the control side: where they are, and what they have been fitted with. A bridge gets
//! what it needs before the leg that needs it comes: both go by the same ring.

use super::Control;
use crate::engine::config::EngineError;
use crate::media::codec::Codec;
use crate::media::command::{BridgeSlot, MixerCommand};
use crate::media::mixer::{Bridge, Fitting};
use crate::media::playback::codec_index;
use crate::units::BridgeId;

pub(super) struct BridgeEntry {
    pub(super) thread: usize,
    pub(super) slot: BridgeSlot,
    /// Those who are in it or on their way, never fewer than its thread knows.
    pub(super) members: usize,
    seats: usize,
    /// Has it an encoder for all who hear the same, by codec?
    pub(super) codecs: [bool; Codec::ALL.len()],
}

impl Control {
    /// Finds a bridge, or makes it: on the thread of its first leg, unless others have less to do.
    pub(super) fn bridge_for(
        &mut self,
        bridge: BridgeId,
        near: usize,
    ) -> Result<(usize, BridgeSlot), EngineError> {
        if let Some(entry) = self.bridges.get(&bridge) {
            return Ok((entry.thread, entry.slot));
        }
        let thread = self.least_loaded(Some(near));
        let new = Box::new(Bridge::new(SEATS_AT_FIRST));
        let port = &mut self.threads[thread];
        let slot = port.take_bridge_slot().ok_or(EngineError::LegsExhausted)?;
        port.bridges += 1;
        port.push(MixerCommand::OpenBridge { bridge: slot, new });
        self.bridges.insert(
            bridge,
            BridgeEntry {
                thread,
                slot,
                members: 0,
                seats: SEATS_AT_FIRST,
                codecs: Default::default(),
            },
        );
        Ok((thread, slot))
    }

    /// Somebody in this bridge is going to speak a codec. Where no encoder can be made, each of them
    /// has a mix of his own.
    pub(super) fn fit_codec(&mut self, bridge: Option<BridgeId>, codec: Option<Codec>) {
        let (Some(bridge), Some(codec)) = (bridge, codec) else {
            return;
        };
        let Some(entry) = self.bridges.get_mut(&bridge) else {
            return;
        };
        if std::mem::replace(&mut entry.codecs[codec_index(codec)], true) {
            return;
        }
        match Fitting::encoder(codec) {
            Ok(fitting) => self.fit(bridge, fitting),
            Err(error) => {
                tracing::warn!(bridge = bridge.0, %error, "a meeting has no shared encoder");
            }
        }
    }

    /// One member more.
    pub(super) fn fit_one_more(&mut self, bridge: BridgeId) {
        let Some(entry) = self.bridges.get_mut(&bridge) else {
            return;
        };
        entry.members += 1;
        if entry.members > entry.seats {
            entry.seats *= 2;
            let seats = Fitting::seats(entry.seats);
            self.fit(bridge, seats);
        }
    }

    /// One member less; the last one closes the bridge.
    pub(super) fn leave_bridge(&mut self, bridge: Option<BridgeId>) {
        let Some(id) = bridge else { return };
        let Some(entry) = self.bridges.get_mut(&id) else {
            return;
        };
        entry.members = entry.members.saturating_sub(1);
        if entry.members == 0 {
            let port = &mut self.threads[entry.thread];
            port.bridges -= 1;
            port.push(MixerCommand::CloseBridge { bridge: entry.slot });
            self.bridges.remove(&id);
        }
    }

    fn fit(&mut self, bridge: BridgeId, fitting: Fitting) {
        if let Some(entry) = self.bridges.get(&bridge) {
            self.threads[entry.thread].push(MixerCommand::FitBridge {
                bridge: entry.slot,
                fitting,
            });
        }
    }
}

/// Most meetings have no more members.
const SEATS_AT_FIRST: usize = 4;
