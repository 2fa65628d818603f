//! What a bridge is fitted with as it needs it, made on the control side: a shared encoder for each codec
//! that is spoken in it, and room for its members.

use crate::media::codec::{Codec, CodecError, Encoder};
use crate::media::command::LegSlot;
use crate::media::leg::Leg;
use crate::media::mixer::LegTable;
use crate::media::mixer::select::Floor;
use crate::media::prefetch::prefetch_slice;

/// Something that a bridge is fitted with.
pub enum Fitting {
    /// What encodes for all who hear the same by this codec.
    Encoder(Codec, Box<Encoder>),
    /// More room for members.
    Seats(Seats),
}

/// A bridge's members.
pub struct Seats {
    /// In the order they came, which is the order they are sent to: even spacing for each.
    pub(super) members: Vec<Member>,
    pub(super) floors: Vec<Floor>,
}

#[derive(Clone, Copy)]
pub(super) struct Member {
    pub(super) slot: LegSlot,
    /// Has a frame in this tick; not so for the first one or two ticks after it came.
    pub(super) due: bool,
}

impl Fitting {
    /// An encoder. Allocates.
    ///
    /// # Errors
    /// What the codec reports.
    pub fn encoder(codec: Codec) -> Result<Self, CodecError> {
        Ok(Self::Encoder(codec, Box::new(Encoder::new(codec)?)))
    }

    /// Room for so many members. Allocates.
    #[must_use]
    pub fn seats(count: usize) -> Self {
        Self::Seats(Seats::new(count))
    }
}

impl Seats {
    pub(super) fn new(count: usize) -> Self {
        Self {
            members: Vec::with_capacity(count),
            floors: Vec::with_capacity(count),
        }
    }

    /// Everybody goes over to `wider`, if there is room for them; returns what is not needed.
    pub(super) fn widen(&mut self, mut wider: Self) -> Self {
        if wider.capacity() > self.capacity() {
            wider.members.append(&mut self.members);
            wider.floors.append(&mut self.floors);
            std::mem::swap(self, &mut wider);
        }
        wider
    }

    /// One more. `false` where there is no room.
    pub(super) fn take(&mut self, slot: LegSlot) -> bool {
        let room = self.members.len() < self.capacity();
        if room && !self.members.iter().any(|member| member.slot == slot) {
            self.members.push(Member { slot, due: false });
            self.floors.push(Floor::default());
        }
        room
    }

    /// One less; returns its claim.
    pub(super) fn leave(&mut self, slot: LegSlot) -> Option<Floor> {
        let index = self.members.iter().position(|it| it.slot == slot)?;
        self.members.remove(index);
        Some(self.floors.remove(index))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Member, &Floor)> {
        self.members.iter().zip(&self.floors)
    }

    pub(super) fn get_mut(&mut self, index: usize) -> Option<(&mut Member, &mut Floor)> {
        Some((self.members.get_mut(index)?, self.floors.get_mut(index)?))
    }

    pub(super) fn leg<'a>(&self, index: usize, legs: &'a LegTable) -> Option<&'a Leg> {
        let member = self.members.get(index)?;
        legs.get(member.slot.0 as usize)?.as_deref()
    }

    /// Before a member's turn: the memory of those who come after it.
    pub(super) fn prefetch(&self, index: usize, legs: &LegTable) {
        if let Some(leg) = self.leg(index + 1, legs) {
            leg.prefetch_buffers();
        }
        if let Some(leg) = self.leg(index + 2, legs) {
            leg.prefetch_codecs();
        }
        if let Some(leg) = self.leg(index + AHEAD, legs) {
            leg.prefetch_frame();
        }
    }

    pub(super) fn prefetch_members(&self) {
        prefetch_slice(&self.members);
        prefetch_slice(&self.floors);
    }

    pub(super) fn first<'a>(
        &'a self,
        count: usize,
        legs: &'a LegTable,
    ) -> impl Iterator<Item = &'a Leg> {
        (0..count).filter_map(|index| self.leg(index, legs))
    }

    /// The same before a member is asked what has happened, which takes no time.
    pub(super) fn prefetch_news(&self, index: usize, legs: &LegTable) {
        if let Some(leg) = self.leg(index + FAR_AHEAD / 2, legs) {
            leg.prefetch_keys();
        }
        if let Some(leg) = self.leg(index + FAR_AHEAD, legs) {
            leg.prefetch_news();
        }
    }

    fn capacity(&self) -> usize {
        self.members.capacity().min(self.floors.capacity())
    }
}

/// Legs between asking for a leg's memory and using it.
pub(super) const AHEAD: usize = 3;
/// The same where little is done with each.
const FAR_AHEAD: usize = 8;
