//! Which of the four ticks in a frame each bridge and lone leg has, so that the work is spread
//! evenly over the 20 ms, and where each leg sits.

use crate::media::command::{BridgeSlot, LegSlot};
use crate::media::leg::TICKS_PER_FRAME;

/// Ticks in a frame.
pub(super) const PHASES: u64 = TICKS_PER_FRAME;

/// The seating plan of one thread.
pub(super) struct Phases {
    phases: [Phase; PHASES as usize],
    /// By leg slot.
    seats: Box<[Seat]>,
    /// By bridge slot: its phase.
    homes: Box<[usize]>,
}

struct Phase {
    lone: Vec<LegSlot>,
    bridges: Vec<BridgeSlot>,
    /// Legs in all, in bridges too.
    load: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Seat {
    Nowhere,
    Alone { phase: usize },
    In { bridge: BridgeSlot },
}

impl Phases {
    pub(super) fn new(legs_max: usize, bridges_max: usize) -> Self {
        let phase = || Phase {
            lone: Vec::with_capacity(legs_max),
            bridges: Vec::with_capacity(bridges_max),
            load: 0,
        };
        Self {
            phases: std::array::from_fn(|_| phase()),
            seats: vec![Seat::Nowhere; legs_max].into(),
            homes: vec![0; bridges_max].into(),
        }
    }

    /// Seats a leg in no bridge, in the emptiest phase; one that is seated so already stays.
    pub(super) fn seat_alone(&mut self, slot: LegSlot) {
        if matches!(self.seat(slot), Seat::Alone { .. }) {
            return;
        }
        self.unseat(slot);
        let phase = self.emptiest();
        self.phases[phase].lone.push(slot);
        self.phases[phase].load += 1;
        self.set(slot, Seat::Alone { phase });
    }

    pub(super) fn seat_in(&mut self, slot: LegSlot, bridge: BridgeSlot) {
        self.unseat(slot);
        let phase = self.home(bridge);
        self.phases[phase].load += 1;
        self.set(slot, Seat::In { bridge });
    }

    pub(super) fn unseat(&mut self, slot: LegSlot) {
        match self.seat(slot) {
            Seat::Nowhere => return,
            Seat::Alone { phase } => {
                self.phases[phase].lone.retain(|lone| *lone != slot);
                self.phases[phase].load -= 1;
            }
            Seat::In { bridge } => {
                let phase = self.home(bridge);
                self.phases[phase].load -= 1;
            }
        }
        self.set(slot, Seat::Nowhere);
    }

    /// Gives a bridge the emptiest phase.
    pub(super) fn seat_bridge(&mut self, bridge: BridgeSlot) {
        let phase = self.emptiest();
        self.phases[phase].bridges.push(bridge);
        if let Some(home) = self.homes.get_mut(bridge.0 as usize) {
            *home = phase;
        }
    }

    pub(super) fn unseat_bridge(&mut self, bridge: BridgeSlot) {
        let phase = self.home(bridge);
        self.phases[phase]
            .bridges
            .retain(|seated| *seated != bridge);
    }

    pub(super) fn bridge_of(&self, slot: LegSlot) -> Option<BridgeSlot> {
        match self.seat(slot) {
            Seat::In { bridge } => Some(bridge),
            Seat::Nowhere | Seat::Alone { .. } => None,
        }
    }

    /// The bridges that mix in a tick.
    pub(super) fn bridges(&self, tick: u64) -> &[BridgeSlot] {
        &self.phases[(tick % PHASES) as usize].bridges
    }

    /// The legs in no bridge that have their frame in a tick.
    pub(super) fn lone(&self, tick: u64) -> impl Iterator<Item = LegSlot> + '_ {
        self.phases[(tick % PHASES) as usize].lone.iter().copied()
    }

    /// The first tick from `tick` on that has something to mix; the fourth where none has.
    pub(super) fn next_used(&self, tick: u64) -> u64 {
        let is_used = |tick: &u64| {
            let phase = &self.phases[(*tick % PHASES) as usize];
            !phase.lone.is_empty() || !phase.bridges.is_empty()
        };
        let last = tick + PHASES - 1;
        (tick..last).find(is_used).unwrap_or(last)
    }

    /// Legs in all.
    pub(super) fn legs(&self) -> usize {
        self.phases.iter().map(|phase| phase.load).sum()
    }

    /// By legs, then by bridges: those will fill.
    fn emptiest(&self) -> usize {
        let load = |index: &usize| (self.phases[*index].load, self.phases[*index].bridges.len());
        (0..self.phases.len()).min_by_key(load).unwrap_or(0)
    }

    fn seat(&self, slot: LegSlot) -> Seat {
        self.seats
            .get(slot.0 as usize)
            .copied()
            .unwrap_or(Seat::Nowhere)
    }

    fn set(&mut self, slot: LegSlot, seat: Seat) {
        if let Some(place) = self.seats.get_mut(slot.0 as usize) {
            *place = seat;
        }
    }

    fn home(&self, bridge: BridgeSlot) -> usize {
        self.homes.get(bridge.0 as usize).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legs_and_bridges_are_spread_over_the_frame() {
        let mut phases = Phases::new(16, 16);
        for n in 0..8 {
            phases.seat_alone(LegSlot(n));
        }
        for tick in 0..4 {
            assert_eq!(phases.lone(tick).count(), 2);
        }
        for n in 0..4 {
            phases.seat_bridge(BridgeSlot(n));
        }
        for tick in 4..8 {
            assert_eq!(phases.bridges(tick).len(), 1);
        }
    }

    #[test]
    fn ticks_without_anything_to_mix_are_passed_over_but_never_a_whole_frame() {
        let mut phases = Phases::new(4, 4);
        assert_eq!(phases.next_used(8), 11);
        phases.seat_bridge(BridgeSlot(0));
        assert_eq!([8, 9, 12].map(|tick| phases.next_used(tick)), [8, 12, 12]);
        phases.seat_in(LegSlot(0), BridgeSlot(0));
        phases.seat_alone(LegSlot(1));
        assert_eq!([8, 9, 10].map(|tick| phases.next_used(tick)), [8, 9, 12]);
        assert_eq!(phases.legs(), 2);
        phases.unseat(LegSlot(1));
        assert_eq!((phases.next_used(9), phases.legs()), (12, 1));
    }

    #[test]
    fn a_leg_sits_in_one_place_only() {
        let mut phases = Phases::new(4, 4);
        phases.seat_bridge(BridgeSlot(2));
        phases.seat_alone(LegSlot(1));
        phases.seat_in(LegSlot(1), BridgeSlot(2));
        assert_eq!(phases.bridge_of(LegSlot(1)), Some(BridgeSlot(2)));
        assert!((0..4).all(|tick| phases.lone(tick).count() == 0));
        phases.unseat(LegSlot(1));
        phases.unseat_bridge(BridgeSlot(2));
        assert!(
            phases
                .phases
                .iter()
                .all(|phase| phase.load == 0 && phase.bridges.is_empty())
        );
    }
}
