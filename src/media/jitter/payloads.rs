//! The bytes of all payloads held, one behind the other: a buffer has room for the bytes that a
//! stream may have under way, not for as many of the largest packet as there are small ones.

use super::Slot;
use crate::media::prefetch::prefetch_slice;

/// Payloads of any length in one piece of memory.
#[derive(Debug)]
pub(super) struct Payloads {
    bytes: Box<[u8]>,
    /// Behind the payload stored last.
    end: usize,
}

/// Where a payload lies.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    pub(super) start: u32,
    pub(super) length: u32,
}

impl Payloads {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            bytes: vec![0; bytes_max].into(),
            end: 0,
        }
    }

    /// Nothing of what is stored is needed any more; it stays readable until something else is stored.
    pub(super) const fn clear(&mut self) {
        self.end = 0;
    }

    pub(super) const fn has_room(&self, bytes: usize) -> bool {
        self.end + bytes <= self.bytes.len()
    }

    /// Only where there is room; otherwise nothing is stored.
    pub(super) fn store(&mut self, payload: &[u8]) -> Place {
        let start = self.end;
        let Some(room) = self.bytes.get_mut(start..start + payload.len()) else {
            return Place::default();
        };
        room.copy_from_slice(payload);
        self.end += payload.len();
        Place {
            start: u32::try_from(start).unwrap_or(0),
            length: u32::try_from(payload.len()).unwrap_or(0),
        }
    }

    /// What is held, up to a bound.
    pub(super) fn prefetch(&self) {
        prefetch_slice(
            self.bytes
                .get(..self.end.min(BYTES_AHEAD))
                .unwrap_or_default(),
        );
    }

    /// Where the next one goes.
    pub(super) fn prefetch_room(&self) {
        let room = self.bytes.get(self.end..).unwrap_or_default();
        prefetch_slice(room.get(..ROOM_AHEAD).unwrap_or(room));
    }

    pub(super) fn get(&self, place: Place) -> &[u8] {
        self.bytes.get(place.range()).unwrap_or_default()
    }

    /// Moves what `held` names to the front, in the order in which it lies. Once in many packets.
    pub(super) fn close_gaps(&mut self, slots: &mut [Slot], held: &[u8]) {
        let (mut from, mut to) = (0, 0);
        for _ in held {
            let behind = held.iter().filter_map(|index| {
                let place = slots.get(usize::from(*index))?.place;
                (place.start >= from).then_some((place.start, *index))
            });
            let Some(slot) = behind
                .min()
                .and_then(|(_, index)| slots.get_mut(usize::from(index)))
            else {
                break;
            };
            let range = slot.place.range();
            from = slot.place.start + slot.place.length;
            self.bytes.copy_within(range, to as usize);
            slot.place.start = to;
            to += slot.place.length;
        }
        self.end = to as usize;
    }

    pub(super) const fn allocated(&self) -> usize {
        self.bytes.len()
    }
}

impl Place {
    const fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.start as usize + self.length as usize
    }
}

/// 20 ms of G.711.
const ROOM_AHEAD: usize = 160;
/// A few packets of speech.
const BYTES_AHEAD: usize = 640;
