//! Legs that share ports.

use super::*;

fn world(threads: usize, ports: RangeInclusive<u16>) -> World {
    World::with(EngineConfig {
        shared: true,
        ..World::config(threads, ports)
    })
}

impl World {
    /// A call whose peer sends from the address that it announces.
    pub(super) fn known_call(&mut self, hz: Option<f64>) -> usize {
        let mut phone = Phone::new(LegId(0), Codec::Pcmu, nowhere(), hz);
        let parameters = phone.parameters(Direction::SendRecv);
        let peer = KnownPeer::of(&parameters).unwrap();
        let opened = self.control.open_leg_for(peer).unwrap();
        self.control.connect_leg(opened.leg, &parameters).unwrap();
        (phone.leg, phone.to) = (opened.leg, opened.rtp);
        self.phones.push(phone);
        self.phones.len() - 1
    }

    fn port(&self, phone: usize) -> u16 {
        self.phones[phone].to.port()
    }

    fn sum(&self, figure: impl Fn(&ThreadHealth) -> u64) -> u64 {
        self.control.health().iter().map(figure).sum()
    }

    fn received(&self, phone: usize) -> u64 {
        let reports = self.events.iter().rev().filter_map(|event| {
            if let EngineEvent::Report { leg, report } = event {
                (*leg == self.leg(phone)).then_some(report.received)
            } else {
                None
            }
        });
        reports.take(1).sum()
    }
}

fn nowhere() -> SocketAddr {
    "127.0.0.1:9".parse().unwrap()
}

#[test]
fn many_callers_on_one_port_hear_each_other_and_never_themselves() {
    let mut world = world(1, 26_000..=26_099);
    let tones = [500.0, 900.0, 1_300.0];
    for hz in tones {
        world.known_call(Some(hz));
        let phone = world.phones.len() - 1;
        world.control.join(world.leg(phone), BridgeId(1), false);
    }
    world.run(100);
    for (phone, own) in tones.into_iter().enumerate() {
        assert_eq!(world.port(phone), world.port(0));
        for hz in tones {
            let level = world.phones[phone].level(hz, 40);
            let heard = if hz == own {
                level < -60.0
            } else {
                level > -20.0
            };
            assert!(heard, "phone {phone} hears {hz} Hz at {level} dB");
        }
        world.phones[phone].assert_unbroken();
    }
    assert_eq!(world.sum(|thread| thread.unknown_sources), 0);
    assert_eq!(world.sum(|thread| thread.forwarded), 0);
}

#[test]
fn an_unknown_source_is_counted_dropped_and_never_answered() {
    let mut world = world(1, 26_100..=26_199);
    let a = world.known_call(Some(500.0));
    world.run(2);
    let mut stranger = Phone::new(world.leg(a), Codec::Pcmu, world.phones[a].to, None);
    for _ in 0..30 {
        let packet = stranger.tone_packet(1_500.0);
        stranger.rtp.send_to(&packet, stranger.to).unwrap();
        world.run(1);
        stranger.listen(0);
    }
    assert!(stranger.packets.is_empty());
    assert_eq!(world.sum(|thread| thread.unknown_sources), 30);
    world.run(60);
    assert!(world.received(a) >= 50);
}

#[test]
fn a_leg_that_moves_to_another_thread_is_reached_through_the_port_it_has() {
    let mut world = world(2, 26_200..=26_299);
    let a = world.known_call(Some(500.0));
    let b = world.known_call(Some(900.0));
    assert_ne!(world.port(a), world.port(b), "one port per thread");
    world.run(30);
    for phone in [a, b] {
        world.control.join(world.leg(phone), BridgeId(1), false);
    }
    world.run(100);
    assert!(world.phones[a].level(900.0, 40) > -18.0);
    assert!(world.phones[b].level(500.0, 40) > -18.0);
    assert!(world.sum(|thread| thread.forwarded) >= 90);
    for lost in [
        world.sum(|thread| thread.forwards_dropped),
        world.sum(|thread| thread.unknown_sources),
    ] {
        assert_eq!(lost, 0);
    }
    for phone in [a, b] {
        world.phones[phone].assert_unbroken();
        world.control.leave(world.leg(phone));
    }
    let sent = u64::from(world.ticks / 4);
    world.run(60);
    assert!(world.received(a) >= sent && world.received(b) >= sent);
}

#[test]
fn two_calls_from_one_address_have_ports_of_their_own() {
    let mut world = world(1, 26_300..=26_399);
    let a = world.known_call(None);
    let parameters = world.phones[a].parameters(Direction::SendRecv);
    let peer = KnownPeer::of(&parameters).unwrap();
    let mut ports = vec![world.port(a)];
    for _ in 0..12 {
        ports.push(world.control.open_leg_for(peer).unwrap().rtp.port());
    }
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 13, "eight shared ones, then their own");
    let leg = world.leg(a);
    world.control.close_leg(leg);
    world.run(2);
    let again = world.control.open_leg_for(peer).unwrap();
    assert_eq!(again.rtp.port(), world.port(a));
}

#[test]
fn another_address_by_re_invite_is_served_and_the_old_one_is_a_stranger() {
    let mut world = world(2, 26_400..=26_499);
    let a = world.known_call(Some(500.0));
    let b = world.known_call(Some(900.0));
    for phone in [a, b] {
        world.control.join(world.leg(phone), BridgeId(1), false);
    }
    world.run(40);
    let to = world.phones[a].to;
    let old = std::mem::replace(
        &mut world.phones[a],
        Phone::new(LegId(0), Codec::Pcmu, to, Some(700.0)),
    );
    world.phones[a].leg = old.leg;
    let parameters = world.phones[a].parameters(Direction::SendRecv);
    let port = world.control.readdress(old.leg, KnownPeer::of(&parameters));
    assert_eq!(port.unwrap(), to.port());
    world.control.connect_leg(old.leg, &parameters).unwrap();
    world.run(80);
    assert!(world.phones[b].level(700.0, 40) > -18.0);
    assert!(world.phones[b].level(500.0, 40) < -60.0);
    assert!(world.phones[a].level(900.0, 40) > -18.0);
    let before = world.sum(|thread| thread.unknown_sources);
    old.rtp.send_to(&[0x80; 172], to).unwrap();
    world.run(1);
    assert_eq!(world.sum(|thread| thread.unknown_sources), before + 1);
}

#[test]
fn an_address_that_must_be_learnt_gets_a_leg_sockets_of_its_own() {
    let mut world = world(2, 26_500..=26_599);
    let a = world.known_call(Some(500.0));
    let b = world.known_call(Some(900.0));
    for phone in [a, b] {
        world.control.join(world.leg(phone), BridgeId(1), false);
    }
    // One of them is still on its way to the other's thread.
    world.run(1);
    for phone in [a, b] {
        let leg = world.leg(phone);
        let port = world.control.readdress(leg, None).unwrap();
        assert_ne!(port, world.port(phone));
        world.phones[phone].to.set_port(port);
        assert_eq!(world.control.readdress(leg, None).unwrap(), port);
    }
    world
        .phones
        .iter_mut()
        .for_each(|phone| phone.packets.clear());
    world.run(100);
    assert!(world.phones[a].level(900.0, 40) > -18.0);
    assert!(world.phones[b].level(500.0, 40) > -18.0);
    for phone in [a, b] {
        let leg = world.leg(phone);
        world.control.close_leg(leg);
    }
    world.run(3);
    assert_eq!(world.control.legs(), 0);
}

#[test]
fn reports_come_to_the_port_above() {
    let mut world = world(1, 26_600..=26_699);
    let a = world.known_call(Some(500.0));
    world.run(250);
    let mut buffer = [0; 500];
    let (_, from) = world.phones[a].rtcp.recv_from(&mut buffer).unwrap();
    assert_eq!(from.port(), world.port(a) + 1);
    let mut report = vec![0x81, 201, 0, 7, 0, 0, 0, 7];
    report.extend(&buffer[4..8]);
    report.extend([0; 12]);
    report.extend(&buffer[10..14]);
    report.extend([0; 4]);
    world.phones[a].rtcp.send_to(&report, from).unwrap();
    world.run(60);
    let figures = world.events.iter().rev().find_map(|event| {
        if let EngineEvent::Report { report, .. } = event {
            Some(*report)
        } else {
            None
        }
    });
    assert!(figures.unwrap().round_trip_ms.is_some());
}

#[test]
fn legs_that_close_while_they_move_leave_nothing_behind() {
    let mut world = world(2, 26_700..=26_707);
    for round in 0..20 {
        let phones: Vec<_> = (0..2).map(|_| world.known_call(Some(500.0))).collect();
        for phone in &phones {
            world
                .control
                .join(world.leg(*phone), BridgeId(round), false);
        }
        if round % 2 == 0 {
            world.run(1);
        }
        for phone in &phones {
            world.control.close_leg(world.leg(*phone));
        }
        world.run(2);
        world.phones.clear();
        assert_eq!(world.control.legs(), 0);
    }
    assert_eq!(world.sum(|thread| thread.forwards_dropped), 0);
}

#[test]
fn without_shared_ports_a_known_peer_gets_its_own() {
    let mut world = World::new(1, 26_800..=26_899);
    let (a, b) = (world.known_call(Some(500.0)), world.known_call(Some(900.0)));
    assert_ne!(world.port(a), world.port(b));
    world.run(60);
    assert!(world.received(a) > 40);
}
