//! How many calls each peer has at once: a trunk, or the host that calls come from where no trunk brings them.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::sip::event::TrunkId;
use crate::sip::limits::host_of;

/// Whom a call counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Peer {
    /// An IPv4 address, or the /64 that one IPv6 host has all of.
    Host(IpAddr),
    /// A trunk, from whichever of its addresses, and whoever called.
    Trunk(TrunkId),
}

impl Peer {
    /// What brings a call: its trunk, else where it comes from.
    pub(super) fn of(trunk: Option<TrunkId>, source: IpAddr) -> Self {
        trunk.map_or_else(|| Self::Host(host_of(source)), Self::Trunk)
    }
}

/// The calls that there are, by peer; those with none are not in it.
#[derive(Debug, Default)]
pub(super) struct Occupancy(HashMap<Peer, usize>);

impl Occupancy {
    /// How many calls it has.
    pub(super) fn of(&self, peer: Peer) -> usize {
        self.0.get(&peer).copied().unwrap_or(0)
    }

    /// Gives back what it had room for when there were more.
    pub(super) fn shrink(&mut self) {
        self.0.shrink_to(2 * self.0.len());
    }

    /// A call counts for another peer now, or for none.
    pub(super) fn change(&mut self, before: Option<Peer>, after: Option<Peer>) {
        if let Some(after) = after {
            *self.0.entry(after).or_insert(0) += 1;
        }
        let Some(before) = before else { return };
        if let Some(count) = self.0.get_mut(&before) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&before);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_all_of_its_64_and_a_trunk_all_of_its_addresses() {
        let at = |text: &str| text.parse::<IpAddr>().unwrap();
        let trunk = Some(TrunkId(3));
        let mut occupancy = Occupancy::default();
        for (trunk, source) in [
            (None, "192.0.2.1"),
            (None, "::ffff:192.0.2.1"),
            (None, "2001:db8::1"),
            (None, "2001:db8::ffff:0:0:2"),
            (trunk, "192.0.2.1"),
            (trunk, "192.0.2.2"),
        ] {
            occupancy.change(None, Some(Peer::of(trunk, at(source))));
        }
        let of = |occupancy: &Occupancy, trunk, source| occupancy.of(Peer::of(trunk, at(source)));
        assert_eq!(of(&occupancy, None, "192.0.2.1"), 2);
        assert_eq!(of(&occupancy, None, "2001:db8::3"), 2);
        assert_eq!(of(&occupancy, None, "2001:db8:0:1::1"), 0);
        assert_eq!(of(&occupancy, trunk, "198.51.100.1"), 2);
        // From a trunk to another way.
        let host = Peer::of(None, at("192.0.2.1"));
        occupancy.change(Some(Peer::Trunk(TrunkId(3))), Some(host));
        assert_eq!(of(&occupancy, None, "192.0.2.1"), 3);
        assert_eq!(of(&occupancy, trunk, "192.0.2.1"), 1);
        occupancy.change(Some(Peer::Trunk(TrunkId(3))), None);
        (0..3).for_each(|_| occupancy.change(Some(host), None));
        assert_eq!(occupancy.0.len(), 1, "only the host of IPv6 is left");
    }
}
