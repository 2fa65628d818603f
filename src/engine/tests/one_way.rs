//! A caller who is sent audio and from whom none comes; how long anybody may be silent; and who must speak first.

use super::*;
use crate::media::parameters::Proven;

/// Is the leg's audio one way, by its last report?
fn is_one_way(world: &World, leg: LegId) -> bool {
    let told = world.events.iter().rev().find_map(|event| {
        if let EngineEvent::Report { leg: of, report } = event
            && *of == leg
        {
            Some(report.one_way)
        } else {
            None
        }
    });
    told.unwrap_or(false)
}

fn lost(world: &World) -> usize {
    world.count(|event| matches!(event, EngineEvent::MediaLost { .. }))
}

fn patient(ports: RangeInclusive<u16>) -> World {
    World::with(EngineConfig {
        media_timeout: EngineConfig::default().media_timeout,
        hold_timeout: EngineConfig::default().hold_timeout,
        ..World::config(1, ports)
    })
}

/// Seconds of frames.
const fn seconds(seconds: u32) -> u32 {
    50 * seconds
}

#[test]
fn who_is_sent_audio_and_sends_none_is_found_within_ten_seconds() {
    let mut world = patient(27_000..=27_049);
    let phone = world.call(Codec::Pcmu, None);
    let leg = world.leg(phone);
    world.run(seconds(7));
    assert!(!is_one_way(&world, leg));
    world.run(seconds(3));
    assert!(is_one_way(&world, leg), "ten seconds after the answer");
    world.phones[phone].hz = Some(500.0);
    world.run(seconds(2));
    assert!(!is_one_way(&world, leg), "he is heard");
    world.phones[phone].hz = None;
    world.run(seconds(10));
    assert!(is_one_way(&world, leg), "he fell silent in mid-call");
    assert_eq!(lost(&world), 0);
}

#[test]
fn reports_and_what_cannot_be_used_are_no_audio() {
    let mut world = patient(27_050..=27_099);
    let phone = world.call(Codec::Pcmu, None);
    let leg = world.leg(phone);
    for _ in 0..10 {
        let phone = &mut world.phones[phone];
        let rtcp = SocketAddr::new(phone.to.ip(), phone.to.port() + 1);
        phone
            .rtcp
            .send_to(&[0x80, 201, 0, 1, 0, 0, 0, 7], rtcp)
            .unwrap();
        let mut packet = phone.header(97, 0);
        packet.extend([0x55; 160]);
        phone.rtp.send_to(&packet, phone.to).unwrap();
        world.run(seconds(1));
    }
    assert!(is_one_way(&world, leg));
}

/// RFC 3389: at -60 dBFS from now on.
fn announce_silence(world: &mut World, phone: usize) {
    let phone = &mut world.phones[phone];
    let mut noise = phone.header(13, 8_000);
    noise.push(60);
    phone.rtp.send_to(&noise, phone.to).unwrap();
    phone.hz = None;
}

/// Talks twice and falls silent: who leaves out time but no packet sends only while he talks.
fn pause_unsaid(world: &mut World, phone: usize) {
    world.phones[phone].hz = Some(500.0);
    world.run(50);
    world.phones[phone].hz = None;
    world.run(50);
    world.phones[phone].timestamp += 8_000;
    world.phones[phone].hz = Some(500.0);
    world.run(50);
    world.phones[phone].hz = None;
}

#[test]
fn who_is_on_hold_or_has_announced_his_silence_is_not_missed() {
    let mut world = patient(27_300..=27_349);
    let phone = world.call(Codec::Pcmu, Some(500.0));
    let leg = world.leg(phone);
    world.run(50);
    announce_silence(&mut world, phone);
    world.run(seconds(12));
    assert!(!is_one_way(&world, leg), "announced");
    for held in [
        Direction::SendOnly,
        Direction::RecvOnly,
        Direction::Inactive,
    ] {
        world.phones[phone].hz = Some(500.0);
        let parameters = world.phones[phone].parameters(Direction::SendRecv);
        world.control.connect_leg(leg, &parameters).unwrap();
        world.run(50);
        let parameters = world.phones[phone].parameters(held);
        world.control.connect_leg(leg, &parameters).unwrap();
        world.phones[phone].hz = None;
        world.run(seconds(12));
        assert!(!is_one_way(&world, leg), "{held:?}");
    }
    let parameters = world.phones[phone].parameters(Direction::SendRecv);
    world.control.connect_leg(leg, &parameters).unwrap();
    pause_unsaid(&mut world, phone);
    world.run(seconds(12));
    assert!(!is_one_way(&world, leg), "unannounced");
}

#[test]
fn who_has_announced_his_silence_may_keep_it_for_as_long_as_who_is_on_hold() {
    let mut world = World::new(1, 27_700..=27_749);
    let phone = world.call(Codec::G722, Some(500.0));
    world.run(50);
    announce_silence(&mut world, phone);
    world.run(seconds(3));
    assert_eq!(
        lost(&world),
        0,
        "two seconds are for who says nothing of it"
    );
    world.run(seconds(2));
    assert_eq!(lost(&world), 1);
}

#[test]
fn who_sends_only_while_he_talks_may_be_silent_for_as_long_too() {
    let mut world = World::new(1, 27_750..=27_799);
    let phone = world.call(Codec::Pcmu, Some(500.0));
    pause_unsaid(&mut world, phone);
    world.run(seconds(3));
    assert_eq!(lost(&world), 0);
    world.run(seconds(2));
    assert_eq!(lost(&world), 1);
}

#[test]
fn by_default_a_silent_call_is_lost_after_30_seconds_and_after_300_on_hold() {
    let mut world = patient(27_350..=27_399);
    let phone = world.call(Codec::Pcmu, Some(500.0));
    let leg = world.leg(phone);
    world.run(50);
    world.phones[phone].hz = None;
    let held = world.phones[phone].parameters(Direction::SendOnly);
    world.control.connect_leg(leg, &held).unwrap();
    world.run(seconds(299));
    assert_eq!(lost(&world), 0, "on hold");
    world.run(seconds(2));
    assert_eq!(lost(&world), 1, "on hold for too long");
    let resumed = world.phones[phone].parameters(Direction::SendRecv);
    world.control.connect_leg(leg, &resumed).unwrap();
    world.run(seconds(29));
    assert_eq!(lost(&world), 1);
    world.run(seconds(2));
    assert_eq!(lost(&world), 2);
}

#[test]
fn who_was_on_hold_is_missed_as_soon_as_anybody_once_he_is_back() {
    let ports = [27_800..=27_849, 27_850..=27_899, 28_000..=28_049];
    let held = [
        Direction::SendOnly,
        Direction::RecvOnly,
        Direction::Inactive,
    ];
    for (held, ports) in held.into_iter().zip(ports) {
        let mut world = World::new(1, ports);
        let phone = world.call(Codec::Pcmu, Some(500.0));
        let leg = world.leg(phone);
        world.run(50);
        world.phones[phone].hz = None;
        let parameters = world.phones[phone].parameters(held);
        world.control.connect_leg(leg, &parameters).unwrap();
        world.run(seconds(3));
        assert_eq!(lost(&world), 0, "{held:?}");
        let parameters = world.phones[phone].parameters(Direction::SendRecv);
        world.control.connect_leg(leg, &parameters).unwrap();
        world.phones[phone].timestamp += 24_000;
        world.phones[phone].hz = Some(500.0);
        world.run(50);
        world.phones[phone].hz = None;
        world.run(seconds(1));
        assert_eq!(lost(&world), 0, "{held:?}");
        world.run(seconds(2));
        assert_eq!(lost(&world), 1, "{held:?}");
    }
}

/// The phone's report on what came to it (RFC 3550 section 6.4.2).
fn report_from(world: &World, phone: usize) {
    let phone = &world.phones[phone];
    let received = phone.packets.last().unwrap();
    let rtcp_port = SocketAddr::new(phone.to.ip(), phone.to.port() + 1);
    let mut report = vec![0x81, 201, 0, 7, 0, 0, 0, 7];
    report.extend(&received.1[8..12]);
    report.extend([0; 20]);
    phone.rtcp.send_to(&report, rtcp_port).unwrap();
}

/// What came to a phone in the next so many frames.
fn sent_to(world: &mut World, phone: usize, frames: u32) -> usize {
    let before = world.phones[phone].packets.len();
    world.run(frames);
    world.phones[phone].packets.len() - before
}

#[test]
fn where_nobody_has_shown_that_he_is_there_nothing_is_sent_before_something_comes() {
    let mut world = patient(27_300..=27_349);
    let phone = world.call(Codec::Pcmu, None);
    let leg = world.leg(phone);
    let unproven = MediaParameters {
        proven: Proven::Nowhere,
        ..world.phones[phone].parameters(Direction::SendRecv)
    };
    world.control.connect_leg(leg, &unproven).unwrap();
    world.run(3);
    assert_eq!(sent_to(&mut world, phone, seconds(6)), 0);
    world.phones[phone].hz = Some(500.0);
    world.run(3);
    assert!(sent_to(&mut world, phone, 50) >= 49, "he has spoken");
    world.phones[phone].hz = None;
    let sent = sent_to(&mut world, phone, 400);
    assert!((100..=112).contains(&sent), "and is silent now: {sent}");
    report_from(&world, phone);
    world.run(1);
    assert!(sent_to(&mut world, phone, 400) >= 399, "he has got it");
    // Signalling names another place: it is for who is there to begin.
    let elsewhere = UdpSocket::bind("127.0.0.2:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let moved = MediaParameters {
        remote_rtp: elsewhere.local_addr().unwrap(),
        ..unproven
    };
    world.control.connect_leg(leg, &moved).unwrap();
    world.run(50);
    assert!(elsewhere.recv_from(&mut [0; 2_000]).is_err());
    // Or it shows that he is there.
    let shown = MediaParameters {
        proven: Proven::At(elsewhere.local_addr().unwrap().ip()),
        ..moved
    };
    world.control.connect_leg(leg, &shown).unwrap();
    world.run(50);
    assert!(elsewhere.recv_from(&mut [0; 2_000]).is_ok());
}

#[test]
fn who_calls_from_behind_a_nat_hears_all_though_he_describes_another_address_and_is_silent() {
    let mut world = patient(27_400..=27_449);
    let phone = world.call(Codec::Pcmu, None);
    let leg = world.leg(phone);
    let here = world.phones[phone].parameters(Direction::SendRecv);
    let outside = here.remote_rtp.ip();
    let described = MediaParameters {
        remote_rtp: "192.168.1.5:4000".parse().unwrap(),
        remote_rtcp: "192.168.1.5:4001".parse().unwrap(),
        signalling_source: Some(outside),
        proven: Proven::At(outside),
        ..here
    };
    world.control.connect_leg(leg, &described).unwrap();
    world.run(3);
    assert_eq!(
        sent_to(&mut world, phone, 50),
        0,
        "nobody knows where he is"
    );
    world.phones[phone].hz = Some(500.0);
    world.run(20);
    world.phones[phone].hz = None;
    assert!(sent_to(&mut world, phone, 600) >= 599);
}
