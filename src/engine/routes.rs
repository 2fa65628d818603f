//! Whose packets they are that come to a shared port: a fixed table from source addresses to legs.
//! Open addressing with linear probing; what is removed leaves no grave, for the entries behind it
//! move up.

use std::net::SocketAddr;

use crate::media::command::{Route, SharedSource};
use crate::media::prefetch::prefetch;

/// The routes of one thread's shared ports.
pub(super) struct Routes {
    /// A power of two of them, at least twice as many as are ever used.
    places: Box<[Option<Entry>]>,
    used: usize,
    used_max: usize,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    source: SharedSource,
    route: Route,
}

impl Routes {
    /// Room for `used_max` routes. Allocates all it will ever need.
    pub(super) fn new(used_max: usize) -> Self {
        let places = (2 * used_max).max(1).next_power_of_two();
        Self {
            places: vec![None; places].into(),
            used: 0,
            used_max,
        }
    }

    /// Whose are the packets from there?
    pub(super) fn find(&self, source: SharedSource) -> Route {
        let at = self.position(source.canonical());
        self.entry(at).map_or(Route::Nowhere, |entry| entry.route)
    }

    /// That is about to be asked.
    pub(super) fn prefetch(&self, source: SharedSource) {
        if let Some(place) = self.places.get(self.home(source.canonical())) {
            prefetch(place);
        }
    }

    /// Says whose they are from now on. `false`: there is no room.
    pub(super) fn set(&mut self, source: SharedSource, route: Route) -> bool {
        let source = source.canonical();
        let at = self.position(source);
        let known = self.entry(at).is_some();
        if route == Route::Nowhere {
            if known {
                self.remove(at);
            }
            return true;
        }
        if !known && self.used == self.used_max {
            return false;
        }
        self.used += usize::from(!known);
        if let Some(place) = self.places.get_mut(at) {
            *place = Some(Entry { source, route });
        }
        true
    }

    /// Where it is, or where it would be put. The table is never full, so the search ends.
    fn position(&self, source: SharedSource) -> usize {
        let mut at = self.home(source);
        while self.entry(at).is_some_and(|entry| entry.source != source) {
            at = self.after(at);
        }
        at
    }

    /// Empties a place and moves up those behind it that would no longer be found.
    fn remove(&mut self, at: usize) {
        self.used -= 1;
        let mut hole = at;
        let mut next = self.after(at);
        while let Some(entry) = self.entry(next) {
            if self.distance(self.home(entry.source), next) >= self.distance(hole, next) {
                self.put(hole, Some(entry));
                hole = next;
            }
            next = self.after(next);
        }
        self.put(hole, None);
    }

    fn put(&mut self, at: usize, entry: Option<Entry>) {
        if let Some(place) = self.places.get_mut(at) {
            *place = entry;
        }
    }

    fn entry(&self, at: usize) -> Option<Entry> {
        self.places.get(at).copied().flatten()
    }

    fn after(&self, at: usize) -> usize {
        (at + 1) & (self.places.len() - 1)
    }

    /// Steps from one place to a later one, around the end.
    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & (self.places.len() - 1)
    }

    fn home(&self, source: SharedSource) -> usize {
        mixed(source) as usize & (self.places.len() - 1)
    }
}

impl SharedSource {
    /// IPv4 on an IPv6 socket is IPv4.
    pub(super) fn canonical(self) -> Self {
        Self {
            from: SocketAddr::new(self.from.ip().to_canonical(), self.from.port()),
            ..self
        }
    }
}

/// All bits of an address in each bit of the result (the finaliser of SplitMix64). Only peers in
/// configured networks get into the table, so it needn't withstand an attacker.
fn mixed(source: SharedSource) -> u64 {
    let ip = match source.from.ip() {
        std::net::IpAddr::V4(v4) => u64::from(v4.to_bits()),
        std::net::IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64 ^ (v6.to_bits() as u64),
    };
    let channel = u64::from(source.port.0) << 1 | u64::from(source.is_rtcp);
    let mut bits = ip ^ u64::from(source.from.port()) << 32 ^ channel << 48;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::media::command::{LegSlot, SharedPort};
    use crate::media::seeded;
    use crate::units::LegId;

    fn source(n: u32) -> SharedSource {
        SharedSource {
            port: SharedPort((n % 3) as u16),
            is_rtcp: n.is_multiple_of(2),
            from: SocketAddr::from(([192, 0, 2, (n / 64) as u8], 4_000 + (n % 64) as u16)),
        }
    }

    fn to(slot: u32) -> Route {
        Route::To {
            thread: 1,
            slot: LegSlot(slot),
            leg: LegId(7),
        }
    }

    #[test]
    fn it_agrees_with_a_hash_map_through_thousands_of_changes() {
        let mut routes = Routes::new(40);
        let mut model: HashMap<SharedSource, Route> = HashMap::new();
        let mut random = seeded::Random::new(7);
        for step in 0..20_000 {
            let key = source(random.below(120) as u32);
            let route = if random.below(2) == 0 {
                Route::Nowhere
            } else {
                to(step)
            };
            let fits = route == Route::Nowhere || model.contains_key(&key) || model.len() < 40;
            assert_eq!(routes.set(key, route), fits);
            if route == Route::Nowhere {
                model.remove(&key);
            } else if fits {
                model.insert(key, route);
            }
            let asked = source(random.below(120) as u32);
            let expected = model.get(&asked).copied().unwrap_or(Route::Nowhere);
            assert_eq!(routes.find(asked), expected);
        }
        for n in 0..120 {
            let expected = model.get(&source(n)).copied().unwrap_or(Route::Nowhere);
            assert_eq!(routes.find(source(n)), expected);
        }
    }

    #[test]
    fn an_ipv4_peer_on_an_ipv6_socket_is_the_same_peer() {
        let mut routes = Routes::new(4);
        let plain = source(5);
        let mapped = SharedSource {
            from: "[::ffff:192.0.2.0]:4005".parse().unwrap(),
            ..plain
        };
        assert!(routes.set(plain, to(3)));
        assert_eq!(routes.find(mapped), to(3));
        assert!(routes.set(mapped, Route::Nowhere));
        assert_eq!(routes.find(plain), Route::Nowhere);
    }

    #[test]
    fn ports_and_channels_are_kept_apart() {
        let mut routes = Routes::new(4);
        let rtp = source(1);
        assert!(routes.set(rtp, to(3)));
        let rtcp = SharedSource {
            is_rtcp: !rtp.is_rtcp,
            ..rtp
        };
        let elsewhere = SharedSource {
            port: SharedPort(9),
            ..rtp
        };
        assert_eq!(routes.find(rtcp), Route::Nowhere);
        assert_eq!(routes.find(elsewhere), Route::Nowhere);
    }

    #[test]
    fn an_empty_table_knows_nobody_and_takes_nobody() {
        let mut routes = Routes::new(0);
        assert_eq!(routes.find(source(1)), Route::Nowhere);
        assert!(!routes.set(source(1), to(1)));
        assert!(routes.set(source(1), Route::Nowhere));
    }
}
