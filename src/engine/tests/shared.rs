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

    /// The port that a thread is the home of.
    fn port_at(&self, home: usize) -> u16 {
        self.control.shared_port_at(home).unwrap()
    }

    /// One thread alone goes on, and the control side.
    fn tick_thread(&mut self, thread: usize) {
        let now = self.start + Duration::from_millis(5) * self.ticks;
        self.threads[thread].tick(now);
        self.control.pump();
        self.events
            .extend(std::iter::from_fn(|| self.control.poll_event()));
        self.ticks += 1;
    }

    /// A call whose peer sends from elsewhere than it says.
    fn call_behind_nat(&mut self) -> LegId {
        let opened = self.control.open_leg().unwrap();
        let mut parameters = self.phones[0].parameters(Direction::SendRecv);
        parameters.remote_rtp.set_port(9);
        parameters.remote_rtcp.set_port(9);
        self.control.connect_leg(opened.leg, &parameters).unwrap();
        opened.leg
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
fn a_leg_whose_peer_is_named_later_shares_a_port_and_a_second_one_of_that_name_does_not() {
    let mut world = world(1, 27_900..=27_949);
    let a = world.known_call(Some(500.0));
    let mut phone = Phone::new(LegId(0), Codec::Pcmu, nowhere(), Some(900.0));
    let parameters = phone.parameters(Direction::SendRecv);
    let peer = KnownPeer::of(&parameters).unwrap();
    let opened = world.control.open_leg_to_be_named().unwrap();
    let never_named = world.control.open_leg_to_be_named().unwrap();
    assert_eq!(opened.rtp.port(), world.port(a));
    (phone.leg, phone.to) = (opened.leg, opened.rtp);
    world.phones.push(phone);
    world.run(30);
    assert!(
        world.sum(|thread| thread.unknown_sources) > 0,
        "nobody's yet"
    );
    world.control.name_peer(opened.leg, peer).unwrap();
    let taken = world.control.name_peer(never_named.leg, peer);
    assert!(matches!(taken, Err(EngineError::PeerTaken)));
    world.control.connect_leg(opened.leg, &parameters).unwrap();
    world.control.close_leg(never_named.leg);
    for phone in [a, a + 1] {
        world.control.join(world.leg(phone), BridgeId(1), false);
    }
    // What comes before the thread knows of it is dropped.
    world.run(2);
    let before = world.sum(|thread| thread.unknown_sources);
    world.run(100);
    assert!(world.phones[a].level(900.0, 40) > -20.0);
    assert!(world.phones[a + 1].level(500.0, 40) > -20.0);
    assert_eq!(world.sum(|thread| thread.unknown_sources), before);
    world.control.close_leg(opened.leg);
    world.run(30);
    let again = world.control.open_leg_to_be_named().unwrap();
    world.control.name_peer(again.leg, peer).unwrap();
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

#[test]
fn a_packet_for_a_caller_who_has_left_never_reaches_the_next_one_in_his_place() {
    let mut world = world(2, 26_900..=26_999);
    let a = world.known_call(None);
    let b = world.known_call(None);
    // Both are on the second one's thread now.
    world.control.join(world.leg(b), BridgeId(1), false);
    world.run(2);
    world.control.join(world.leg(a), BridgeId(1), false);
    world.run(4);
    let home = usize::from(world.threads[1].residents().count() == 0);
    let owner = 1 - home;
    let residents: Vec<_> = world.threads[owner].residents().collect();
    assert_eq!(residents.len(), 2, "{residents:?}");
    let moved = if world.port(a) == world.port_at(home) {
        a
    } else {
        b
    };
    let slot_of = |world: &World, leg| {
        let mut residents = world.threads[owner].residents();
        residents.find(|(_, id, _)| *id == leg).map(|it| it.0)
    };
    let place = slot_of(&world, world.leg(moved));
    // The home has more to do, so that the next call comes to the owner.
    world.call_behind_nat();
    world.call_behind_nat();
    world.run(2);
    // The owner hears of the end before the home does; a phone behind a NAT takes the place.
    world.control.close_leg(world.leg(moved));
    world.tick_thread(owner);
    let next = world.call_behind_nat();
    world.tick_thread(owner);
    assert_eq!(slot_of(&world, next), place, "the place is not used again");
    for _ in 0..10 {
        let packet = world.phones[moved].tone_packet(700.0);
        let phone = &world.phones[moved];
        phone.rtp.send_to(&packet, phone.to).unwrap();
    }
    world.tick_thread(home);
    world.tick_thread(owner);
    assert_eq!(world.sum(|thread| thread.strays), 10);
    assert_eq!(
        world.count(|event| matches!(event, EngineEvent::MediaStarted { leg, .. } if *leg == next)),
        0
    );
}

#[test]
fn whoever_moves_and_closes_in_whatever_order_no_key_is_taken_for_another_caller_s() {
    for seed in 0..6 {
        let mut random = Random::new(seed);
        let mut world = world(3, 27_200..=27_299);
        let mut living: Vec<usize> = Vec::new();
        let mut pressed = 0;
        for _ in 0..600 {
            let one = living
                .get(random.below(living.len().max(1)))
                .map(|phone| (*phone, world.leg(*phone)));
            match (random.below(10), one) {
                (0, _) if living.len() < 8 => living.push(world.known_call(None)),
                (1, _) if living.len() < 8 => living.push(world.call(Codec::Pcmu, None)),
                (2 | 3, Some((_, leg))) => {
                    let bridge = BridgeId(random.below(3) as u64);
                    world.control.join(leg, bridge, false);
                }
                (4, Some((_, leg))) => world.control.leave(leg),
                (5, Some((phone, leg))) => {
                    world.control.close_leg(leg);
                    living.retain(|other| *other != phone);
                }
                (6..=8, Some((phone, leg))) => {
                    world.phones[phone].timestamp += 8_000;
                    world.phones[phone].press((leg.0 % 10) as u8);
                    pressed += 1;
                }
                _ => {}
            }
            world.tick_thread(random.below(3));
        }
        let told = world.events.iter().filter_map(|event| {
            if let EngineEvent::Key { leg, key } = event {
                Some((leg.0 % 10, key.as_char()))
            } else {
                None
            }
        });
        let told: Vec<_> = told.collect();
        assert!(
            told.iter()
                .all(|(digit, key)| key.to_digit(10).map(u64::from) == Some(*digit)),
            "{told:?}"
        );
        assert!(2 * told.len() > pressed, "{} of {pressed}", told.len());
        assert!(world.sum(|thread| thread.forwarded) > 100);
    }
}
