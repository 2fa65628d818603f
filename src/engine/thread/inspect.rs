//! What the exhaustive test of the protocol sees of a thread, and by which small steps it drives it.

use std::time::Instant;

use super::MediaThread;
use crate::engine::io::Moment;
use crate::media::command::{BridgeSlot, LegCommand, LegSlot, MixerCommand, Returned};
use crate::units::LegId;

/// What is on its way in a ring, in so far as it matters to where things are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::engine) enum Passing {
    Adopt(LegSlot, LegId),
    Leg(LegSlot, Asked),
    OpenBridge(BridgeSlot),
    CloseBridge(BridgeSlot),
    FitBridge(BridgeSlot),
    PlayToBridge(BridgeSlot),
    Closed(LegSlot, LegId),
    Released(LegSlot, LegId),
    Bridge(BridgeSlot),
    /// Of a shared port.
    Way,
    /// Something to be dropped.
    Scrap,
}

/// A [`LegCommand`], without what it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::engine) enum Asked {
    Release,
    Close,
    Update,
    /// Under which token.
    Play(u32),
    StopPlaying,
    Music,
    Mute(bool),
    Sound,
    Rewire,
    Join(BridgeSlot),
    Echo,
    Leave,
}

impl Asked {
    pub(in crate::engine) const fn of(command: &LegCommand) -> Self {
        match command {
            LegCommand::Release => Self::Release,
            LegCommand::Close => Self::Close,
            LegCommand::Update(_) => Self::Update,
            LegCommand::Play(playlist) => Self::Play(playlist.token),
            LegCommand::StopPlaying => Self::StopPlaying,
            LegCommand::Music(_) => Self::Music,
            LegCommand::Mute(muted) => Self::Mute(*muted),
            LegCommand::Sound { .. } => Self::Sound,
            LegCommand::Rewire(_) => Self::Rewire,
            LegCommand::Join(bridge) => Self::Join(*bridge),
            LegCommand::Echo => Self::Echo,
            LegCommand::Leave => Self::Leave,
        }
    }

    /// As [`LegCommand::is_place`].
    pub(in crate::engine) const fn is_place(self) -> bool {
        matches!(self, Self::Join(_) | Self::Echo | Self::Leave)
    }
}

impl Passing {
    pub(in crate::engine) fn command(command: &MixerCommand) -> Self {
        match command {
            MixerCommand::Adopt { slot, leg, .. } => Self::Adopt(*slot, leg.id()),
            MixerCommand::Leg { slot, command } => Self::Leg(*slot, Asked::of(command)),
            MixerCommand::OpenPort { .. } | MixerCommand::Route { .. } => Self::Way,
            MixerCommand::OpenBridge { bridge, .. } => Self::OpenBridge(*bridge),
            MixerCommand::CloseBridge { bridge } => Self::CloseBridge(*bridge),
            MixerCommand::FitBridge { bridge, .. } => Self::FitBridge(*bridge),
            MixerCommand::PlayToBridge { bridge, .. } => Self::PlayToBridge(*bridge),
        }
    }

    pub(in crate::engine) fn returned(returned: &Returned) -> Self {
        match returned {
            Returned::Closed { slot, leg, .. } => Self::Closed(*slot, leg.id()),
            Returned::Released { slot, leg, .. } => Self::Released(*slot, leg.id()),
            Returned::Bridge { slot, .. } => Self::Bridge(*slot),
            Returned::Playlist(_)
            | Returned::Rendition(_)
            | Returned::Clip(_)
            | Returned::Port(_)
            | Returned::Denoiser(_)
            | Returned::Fitting(_)
            | Returned::Update(_) => Self::Scrap,
        }
    }
}

impl MediaThread {
    /// The next command in the ring.
    pub(in crate::engine) fn next_command(&self) -> Option<Passing> {
        self.rings.commands.peek().ok().map(Passing::command)
    }

    pub(in crate::engine) fn commands_waiting(&mut self) -> Vec<Passing> {
        let waiting = self.rings.commands.slots();
        let chunk = self.rings.commands.read_chunk(waiting).unwrap();
        let (first, rest) = chunk.as_slices();
        first.iter().chain(rest).map(Passing::command).collect()
    }

    /// Could it carry out a command now?
    pub(in crate::engine) fn can_obey(&self) -> bool {
        !self.rings.commands.is_empty() && self.rings.returned.slots() >= super::RETURNS_PER_COMMAND
    }

    /// One command; `false`: there was none, or no room for what it gives back.
    pub(in crate::engine) fn step(&mut self, now: Instant) -> bool {
        self.obey_one(now)
    }

    /// Fetches what its sockets have.
    pub(in crate::engine) fn hear(&mut self, now: Instant) {
        self.inlet.receive(
            Moment::pushed(now),
            &mut self.legs,
            &self.ports,
            &self.counters,
        );
    }

    pub(in crate::engine) fn can_tell(&self) -> bool {
        !self.rings.events.is_full()
    }

    /// Tells what its legs hold, as far as there is room.
    pub(in crate::engine) fn tell_all(&mut self) {
        let legs = self.legs.iter_mut().flatten();
        legs.for_each(|leg| self.rings.tell(leg));
    }

    /// Who lives in a slot.
    pub(in crate::engine) fn leg_at(&self, slot: LegSlot) -> Option<LegId> {
        Some(self.legs.get(slot.0 as usize)?.as_ref()?.id())
    }

    /// Who lives here, where, and in which bridge.
    pub(in crate::engine) fn residents(
        &self,
    ) -> impl Iterator<Item = (LegSlot, LegId, Option<BridgeSlot>)> + '_ {
        (0..)
            .map(LegSlot)
            .zip(&self.legs)
            .filter_map(|(slot, leg)| Some((slot, leg.as_ref()?.id(), self.phases.bridge_of(slot))))
    }

    /// Is every member's bridge fitted for its codec?
    pub(in crate::engine) fn is_all_fitted(&self) -> bool {
        self.residents().all(|(slot, _, bridge)| {
            let leg = self.legs[slot.0 as usize].as_ref();
            let bridge = bridge.and_then(|bridge| self.bridges[bridge.0 as usize].as_ref());
            let (Some(leg), Some(bridge)) = (leg, bridge) else {
                return true;
            };
            bridge.is_fitted_for(leg.parameters().codec)
        })
    }

    /// The bridges here and their members.
    pub(in crate::engine) fn bridges(
        &self,
    ) -> impl Iterator<Item = (BridgeSlot, Vec<LegSlot>)> + '_ {
        (0..)
            .map(BridgeSlot)
            .zip(&self.bridges)
            .filter_map(|(slot, bridge)| Some((slot, bridge.as_ref()?.members().collect())))
    }
}
