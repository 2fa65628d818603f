//! What the exhaustive test of the protocol sees of the control side, and by which small steps it
//! drives it: the parts of [`Control::pump`], in any order.

use std::sync::Arc;
use std::time::Instant;

use super::{Control, LegState};
use crate::engine::config::{EngineConfig, EngineError};
use crate::engine::port::{RingSizes, ThreadPort};
use crate::engine::thread::{Asked, MediaThread};
use crate::media::codec::Codec;
use crate::media::command::{BridgeSlot, LegSlot};
use crate::media::playback::SilenceFrames;
use crate::units::{BridgeId, LegId};

/// A leg, as the control side believes it to be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::engine) struct Believed {
    pub(in crate::engine) leg: LegId,
    pub(in crate::engine) thread: usize,
    pub(in crate::engine) bridge: Option<BridgeId>,
    pub(in crate::engine) state: State,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::engine) enum State {
    Opened(Vec<Asked>),
    Living(LegSlot),
    Moving(Vec<Asked>),
    Closing,
}

impl Control {
    pub(in crate::engine) fn sides(
        config: EngineConfig,
        epoch: Instant,
        silence: &Arc<SilenceFrames>,
        room: RingSizes,
    ) -> Result<(Self, Vec<MediaThread>), EngineError> {
        Self::with_rings(config, epoch, silence, room)
    }

    pub(in crate::engine) fn port(&mut self, thread: usize) -> &mut ThreadPort {
        &mut self.threads[thread]
    }

    /// The part of [`Control::pump`] that takes events.
    pub(in crate::engine) fn hear_events(&mut self, thread: usize) {
        self.collect_events(thread);
    }

    /// The part of [`Control::pump`] that takes one thing back.
    pub(in crate::engine) fn take_one_back(&mut self, thread: usize) {
        self.take_next_back(thread);
    }

    /// Events that were collected, without collecting more.
    pub(in crate::engine) fn collected(&mut self) -> Vec<super::EngineEvent> {
        self.events.drain(..).collect()
    }

    /// The number of a shared port that a thread is the home of.
    pub(in crate::engine) fn shared_port_at(&self, home: usize) -> Option<u16> {
        self.shared.any_at(home).map(|port| self.shared.rtp(port))
    }

    /// In the order of their names.
    pub(in crate::engine) fn believed(&self) -> Vec<Believed> {
        let asked = |waiting: &[_]| waiting.iter().map(Asked::of).collect();
        let mut legs: Vec<_> = self
            .legs
            .iter()
            .map(|(leg, entry)| Believed {
                leg: *leg,
                thread: entry.thread,
                bridge: entry.bridge,
                state: match &entry.state {
                    LegState::Opened { waiting, .. } => State::Opened(asked(waiting)),
                    LegState::Living { slot } => State::Living(*slot),
                    LegState::Moving { waiting } => State::Moving(asked(waiting)),
                    LegState::Closing => State::Closing,
                },
            })
            .collect();
        legs.sort_by_key(|believed| believed.leg.0);
        legs
    }

    /// Where each bridge is, in the order of their names.
    pub(in crate::engine) fn bridges_believed(&self) -> Vec<(BridgeId, usize, BridgeSlot, usize)> {
        let mut bridges: Vec<_> = self
            .bridges
            .iter()
            .map(|(bridge, entry)| (*bridge, entry.thread, entry.slot, entry.members))
            .collect();
        bridges.sort_by_key(|(bridge, ..)| bridge.0);
        bridges
    }

    /// What each bridge was fitted for, in the order of their names.
    pub(in crate::engine) fn fitted(&self) -> Vec<(BridgeId, [bool; Codec::ALL.len()])> {
        let mut fitted: Vec<_> = self
            .bridges
            .iter()
            .map(|(bridge, entry)| (*bridge, entry.codecs))
            .collect();
        fitted.sort_by_key(|(bridge, _)| bridge.0);
        fitted
    }
}
