//! What people do to the ports of other people's calls: every packet takes the way that a phone's does,
//! by socket, source check, SRTP, jitter buffer and mix, and what comes of it is judged by ear.

use super::*;
use crate::media::parameters::Keying;
use crate::media::srtp::{Kind, MasterKey, Srtp, SrtpKeys, Suite};

/// Somebody at an address of his own who sends a tone.
struct Attacker {
    phone: Phone,
    received: usize,
}

/// 10,000 packets a second.
const SPRAY_PER_TICK: usize = 50;
/// What a phone sends.
const IN_PACE: usize = 1;
const ATTACKERS_HZ: f64 = 1_500.0;
const PHONES_HZ: f64 = 500.0;
const AUDIBLE_DB: f64 = -45.0;
const SAME_HOST: &str = "127.0.0.1";
const ELSEWHERE: &str = "127.0.0.66";

impl Attacker {
    fn new(victim: &Phone, ip: &str) -> Self {
        let mut phone = Phone::new(victim.leg, victim.codec, victim.to, None);
        phone.rtp = UdpSocket::bind((ip, 0)).unwrap();
        phone.rtp.set_nonblocking(true).unwrap();
        Self { phone, received: 0 }
    }

    /// So many packets of his tone, each under the next number.
    fn spray(&mut self, packets: usize) {
        for _ in 0..packets {
            let packet = self.phone.tone_packet(ATTACKERS_HZ);
            self.send(&packet);
        }
    }

    fn send(&self, packet: &[u8]) {
        // His own socket may be full: a flood is one all the same.
        let _dropped = self.phone.rtp.send_to(packet, self.phone.to);
    }

    fn listen(&mut self) {
        let mut buffer = [0; 2_000];
        while self.phone.rtp.recv_from(&mut buffer).is_ok() {
            self.received += 1;
        }
    }
}

/// A caller who is attacked, and somebody who listens to him.
struct Scene {
    world: World,
    victim: usize,
    listener: usize,
    attacker: Attacker,
}

impl Scene {
    /// The caller's phone is silent at first and behind a NAT where `described` isn't its address.
    fn new(ports: RangeInclusive<u16>, described: Option<&str>, attackers_ip: &str) -> Self {
        let mut world = World::new(1, ports);
        let victim = world.call(Codec::Pcmu, None);
        let listener = world.call(Codec::Pcmu, None);
        for phone in [victim, listener] {
            world.control.join(world.leg(phone), BridgeId(1), false);
        }
        let attacker = Attacker::new(&world.phones[victim], attackers_ip);
        let mut scene = Self {
            world,
            victim,
            listener,
            attacker,
        };
        scene.describe(described);
        scene
    }

    /// Signalling says where the phone is, from where the phone really is.
    fn describe(&mut self, described: Option<&str>) {
        let phone = &self.world.phones[self.victim];
        let own = phone.parameters(Direction::SendRecv);
        let parameters = MediaParameters {
            remote_rtp: described.map_or(own.remote_rtp, |text| text.parse().unwrap()),
            signalling_source: Some(SAME_HOST.parse().unwrap()),
            ..own
        };
        self.world
            .control
            .connect_leg(phone.leg, &parameters)
            .unwrap();
    }

    fn speak(&mut self, speaks: bool) {
        self.world.phones[self.victim].hz = speaks.then_some(PHONES_HZ);
    }

    /// Runs for so many 20 ms while the attacker sends so many packets in each 5 ms.
    fn run(&mut self, frames: u32, per_tick: usize) {
        for frame in 0..frames * 4 {
            if per_tick != IN_PACE || frame % 4 == 0 {
                self.attacker.spray(per_tick);
            }
            self.world.run_tick();
            self.attacker.listen();
        }
    }

    /// In how many of the last frames the listener hears the attacker, and the phone.
    fn heard(&self, frames: usize) -> (usize, usize) {
        let tones = [ATTACKERS_HZ, PHONES_HZ, 0.0, 0.0];
        let levels = self.world.phones[self.listener].frame_levels(tones);
        let last = &levels[levels.len().saturating_sub(frames)..];
        let count = |tone: usize| last.iter().filter(|db| db[tone] > AUDIBLE_DB).count();
        (count(0), count(1))
    }

    fn refused(&mut self, why: Refusal) -> u64 {
        self.world.run(55);
        let leg = self.world.leg(self.victim);
        let told = self.world.events.iter().rev().find_map(|event| {
            if let EngineEvent::Report { leg: of, report } = event
                && *of == leg
            {
                Some(report.refused.of(why))
            } else {
                None
            }
        });
        told.unwrap()
    }

    fn keys(&self) -> usize {
        self.world
            .count(|event| matches!(event, EngineEvent::Key { .. }))
    }
}

#[test]
fn who_sprays_before_the_phone_speaks_is_not_mixed_nor_sent_anything() {
    for (described, ip) in [
        (None, ELSEWHERE),
        (None, SAME_HOST),
        // Nobody knows where it is: as with a private address in its SDP.
        (Some("0.0.0.0:4000"), ELSEWHERE),
        (Some("0.0.0.0:4000"), SAME_HOST),
    ] {
        let mut scene = Scene::new(24_000..=24_099, described, ip);
        scene.run(50, SPRAY_PER_TICK);
        scene.speak(true);
        scene.run(100, SPRAY_PER_TICK);
        let what = format!("{described:?} {ip}: {:?}", scene.heard(150));
        let (mixed, _) = scene.heard(150);
        assert!(mixed <= 5, "{what}");
        let (after, voice) = scene.heard(90);
        assert_eq!((after, voice), (0, 90), "{what}");
        assert!(scene.attacker.received < 5, "{}", scene.attacker.received);
        let [foreign, unproven] = [Refusal::Foreign, Refusal::Unproven].map(|r| scene.refused(r));
        assert!(foreign + unproven >= 29_000, "{foreign} {unproven}");
    }
}

#[test]
fn who_speaks_like_a_phone_from_elsewhere_comes_second_to_where_signalling_came_from() {
    let mut scene = Scene::new(24_100..=24_199, Some("0.0.0.0:4000"), ELSEWHERE);
    scene.speak(true);
    scene.run(100, IN_PACE);
    let (mixed, voice) = scene.heard(100);
    assert!(mixed == 0 && voice >= 90, "{mixed} {voice}");
    assert!(scene.attacker.received < 5, "{}", scene.attacker.received);
}

#[test]
fn who_sprays_during_the_call_is_not_mixed_whatever_he_knows_of_it() {
    let mut scene = Scene::new(24_200..=24_299, None, SAME_HOST);
    scene.speak(true);
    scene.run(50, 0);
    // With the SSRC and the numbers of the phone, from another port of its host.
    scene.run(100, SPRAY_PER_TICK);
    assert_eq!(scene.heard(100), (0, 100));
    // From its very address, as who forges addresses does, but of a stream of his own.
    for _ in 0..400 {
        for _ in 0..SPRAY_PER_TICK {
            let mut packet = scene.attacker.phone.tone_packet(ATTACKERS_HZ);
            packet[8..12].copy_from_slice(&[9, 9, 9, 9]);
            let phone = &scene.world.phones[scene.victim];
            let _dropped = phone.rtp.send_to(&packet, phone.to);
        }
        scene.world.run_tick();
    }
    let (mixed, voice) = scene.heard(100);
    assert!(mixed == 0 && voice >= 98, "{mixed} {voice}");
    assert_eq!(scene.attacker.received, 0);
    assert!(scene.refused(Refusal::Foreign) >= 19_000);
    assert!(scene.refused(Refusal::Strange) >= 19_000);
}

#[test]
fn silence_moves_nothing_nor_does_a_re_invite_that_says_the_same() {
    for (described, ip) in [
        (None, SAME_HOST),
        (None, ELSEWHERE),
        (Some("0.0.0.0:4000"), ELSEWHERE),
    ] {
        let mut scene = Scene::new(24_300..=24_399, described, ip);
        scene.speak(true);
        scene.run(200, 0);
        for silent in [25, 100, 1_500] {
            scene.speak(false);
            scene.run(silent, 0);
            scene.run(100, IN_PACE);
            scene.run(20, SPRAY_PER_TICK);
            assert_eq!(scene.heard(120).0, 0, "{described:?} {ip} {silent}");
            scene.speak(true);
            scene.run(60, 0);
            assert_eq!(scene.heard(50), (0, 50), "{described:?} {ip} {silent}");
        }
        // From elsewhere not even a hold in between lets anybody in.
        if ip == ELSEWHERE {
            scene.speak(false);
            scene.describe(described);
            scene.run(200, IN_PACE);
            assert_eq!(scene.heard(200).0, 0);
        }
        assert_eq!(scene.attacker.received, 0);
    }
}

#[test]
fn keys_that_somebody_else_presses_are_none() {
    let mut scene = Scene::new(24_400..=24_499, None, SAME_HOST);
    scene.speak(true);
    scene.run(50, 0);
    let own = scene.world.phones[scene.victim].rtp.try_clone().unwrap();
    for round in 0..60_u16 {
        scene.attacker.phone.press(5);
        // From the phone's own address: under another SSRC, and far from its numbers.
        for (ssrc, far) in [(9, 0), (7, 20_000)] {
            let phone = &mut scene.world.phones[scene.victim];
            let (sequence, timestamp) = (phone.sequence, phone.timestamp);
            for part in 0..6_u16 {
                let mut packet = vec![0x80, 101];
                packet.extend((sequence.wrapping_add(far + round * 6 + part)).to_be_bytes());
                packet.extend(timestamp.to_be_bytes());
                packet.extend([0, 0, 0, ssrc, 5, 0x8A, 3, 0x20]);
                own.send_to(&packet, phone.to).unwrap();
            }
        }
        scene.run(1, 0);
    }
    assert_eq!(scene.keys(), 0);
    scene.world.phones[scene.victim].press(7);
    scene.run(10, 0);
    assert_eq!(scene.keys(), 1, "those of the phone are some");
}

#[test]
fn reports_and_goodbyes_remove_nobody_and_an_ssrc_may_be_anybodys() {
    let mut scene = Scene::new(24_500..=24_599, None, ELSEWHERE);
    scene.speak(true);
    scene.world.phones[scene.listener].hz = Some(900.0);
    scene.run(50, 0);
    // Everybody in this meeting sends under the SSRC 7; these packets also have that of what we send.
    let ours = scene.world.phones[scene.victim].packets[0].1[8..12].to_vec();
    for ssrc in [vec![0, 0, 0, 7], ours] {
        let mut sender_report = vec![0x80, 200, 0, 6];
        sender_report.extend(&ssrc);
        sender_report.extend([0xFF; 20]);
        let mut goodbye = vec![0x81, 203, 0, 1];
        goodbye.extend(&ssrc);
        let mut both = sender_report.clone();
        both.extend(&goodbye);
        let phone = &scene.world.phones[scene.victim];
        let rtcp_port = SocketAddr::new(phone.to.ip(), phone.to.port() + 1);
        for packet in [&sender_report, &goodbye, &both] {
            scene.attacker.send(packet);
            for to in [rtcp_port, phone.to] {
                phone.rtcp.send_to(packet, to).unwrap();
            }
        }
        scene.run(60, 0);
        assert_eq!(scene.heard(50), (0, 50));
        let lost = scene.world.count(|event| {
            matches!(
                event,
                EngineEvent::MediaLost { .. } | EngineEvent::LegClosed { .. }
            )
        });
        assert_eq!(lost, 0);
    }
    assert!(scene.world.phones[scene.victim].level(900.0, 40) > -18.0);
    assert_eq!(scene.attacker.received, 0);
}

#[test]
fn who_reports_from_the_phones_host_is_sent_no_reports() {
    let mut scene = Scene::new(26_720..=26_799, None, SAME_HOST);
    scene.speak(true);
    let rtp = scene.world.phones[scene.victim].to;
    let to = SocketAddr::new(rtp.ip(), rtp.port() + 1);
    for _ in 0..30 {
        scene.run(25, 0);
        let report = [0x80, 201, 0, 1, 0, 0, 0, 7];
        let phone = &scene.world.phones[scene.victim];
        phone.rtcp.send_to(&report, to).unwrap();
        scene.attacker.phone.rtp.send_to(&report, to).unwrap();
    }
    assert_eq!(scene.attacker.received, 0);
    let mut buffer = [0; 500];
    let phone = &scene.world.phones[scene.victim];
    assert!(phone.rtcp.recv(&mut buffer).is_ok(), "the phone is");
}

fn keys() -> (SrtpKeys, Srtp) {
    let suite = Suite::AesCm128HmacSha1Tag80;
    let [ours, theirs] = [3, 5].map(|byte| MasterKey::new(suite, &[byte; 30]).unwrap());
    let phone = SrtpKeys {
        ours: theirs,
        theirs: ours,
    };
    (SrtpKeys { ours, theirs }, Srtp::new(&phone))
}

/// A call by SRTP, whose phone speaks only through [`Self::say`].
struct Protected {
    scene: Scene,
    phone: Srtp,
    parameters: MediaParameters,
    recorded: Vec<Vec<u8>>,
}

impl Protected {
    fn new(ports: RangeInclusive<u16>) -> Self {
        let scene = Scene::new(ports, None, ELSEWHERE);
        let (keys, phone) = keys();
        let victim = &scene.world.phones[scene.victim];
        let parameters = MediaParameters {
            srtp: Some(keys),
            ..victim.parameters(Direction::SendRecv)
        };
        let mut this = Self {
            scene,
            phone,
            parameters,
            recorded: Vec::new(),
        };
        this.describe();
        this
    }

    fn describe(&mut self) {
        let leg = self.scene.world.leg(self.scene.victim);
        let control = &mut self.scene.world.control;
        control.connect_leg(leg, &self.parameters).unwrap();
    }

    /// 20 ms of the phone's voice under this SSRC, while an attacker does his.
    fn say(
        &mut self,
        frames: usize,
        ssrc: u8,
        mut attack: impl FnMut(&Attacker, usize, &[Vec<u8>]),
    ) {
        for frame in 0..frames {
            let phone = &mut self.scene.world.phones[self.scene.victim];
            let mut packet = phone.tone_packet(PHONES_HZ);
            packet[11] = ssrc;
            let mut wire = Vec::new();
            self.phone
                .protect(Kind::Rtp, &packet, |bytes| wire = bytes.to_vec());
            phone.rtp.send_to(&wire, phone.to).unwrap();
            self.recorded.push(wire);
            for _ in 0..4 {
                self.scene.world.run_tick();
                attack(&self.scene.attacker, frame, &self.recorded);
                self.scene.attacker.listen();
            }
        }
    }

    fn sent_to_phone(&self) -> usize {
        self.scene.world.phones[self.scene.victim].packets.len()
    }
}

#[test]
fn a_flood_of_bad_srtp_is_dropped_and_the_call_goes_on() {
    let mut call = Protected::new(24_600..=24_699);
    call.say(50, 7, |_, _, _| ());
    let mut random = Random::new(41);
    let memory = call.scene.world.control.health()[0].legs;
    call.say(200, 7, |attacker, frame, recorded| {
        for n in 0..SPRAY_PER_TICK {
            let mut packet = recorded.last().unwrap().clone();
            match n % 4 {
                // Valid but for its tag, under the phone's SSRC and under many others.
                0 => *packet.last_mut().unwrap() ^= 1,
                1 => packet[8..12].copy_from_slice(&random.next_u32().to_be_bytes()),
                2 => {
                    packet = (0..random.below(300))
                        .map(|_| random.below(256) as u8)
                        .collect()
                }
                _ => packet[2] ^= frame as u8 | 1,
            }
            attacker.send(&packet);
        }
    });
    let (mixed, voice) = call.scene.heard(200);
    assert!(mixed == 0 && voice >= 198, "{mixed} {voice}");
    assert_eq!(call.scene.attacker.received, 0);
    assert!(call.sent_to_phone() >= 245);
    let [forged, replayed] = [Refusal::Forged, Refusal::Replayed].map(|r| call.scene.refused(r));
    assert!(
        forged >= 25_000 && forged + replayed >= 38_000,
        "{forged} {replayed}"
    );
    assert_eq!(call.scene.world.control.health()[0].legs, memory);
}

#[test]
fn what_was_recorded_of_an_encrypted_call_is_neither_mixed_again_nor_answered() {
    let mut call = Protected::new(24_700..=24_799);
    for ssrc in [7, 8, 9] {
        call.say(40, ssrc, |_, _, _| ());
    }
    let before = call.sent_to_phone();
    call.say(100, 9, |attacker, frame, recorded| {
        for packet in recorded.iter().cycle().skip(frame).take(SPRAY_PER_TICK) {
            attacker.send(packet);
        }
    });
    assert_eq!(call.scene.attacker.received, 0);
    assert!(call.sent_to_phone() >= before + 99);
    let (_, voice) = call.scene.heard(100);
    assert_eq!(voice, 100);
    assert!(call.scene.refused(Refusal::Replayed) >= 15_000);
}

#[test]
fn an_encrypted_call_whose_nat_forgot_it_goes_on_from_its_new_address_at_once() {
    let mut call = Protected::new(24_800..=24_899);
    call.say(50, 7, |_, _, _| ());
    let phone = &mut call.scene.world.phones[call.scene.victim];
    phone.rtp = UdpSocket::bind("127.0.0.77:0").unwrap();
    phone.rtp.set_nonblocking(true).unwrap();
    let before = phone.packets.len();
    call.say(50, 7, |_, _, _| ());
    assert!(call.sent_to_phone() >= before + 48);
    let (_, voice) = call.scene.heard(45);
    assert_eq!(voice, 45);
    // A packet of before that somebody kept back and sends from elsewhere moves nothing.
    let phone = &mut call.scene.world.phones[call.scene.victim];
    let kept = phone.tone_packet(PHONES_HZ);
    let mut wire = Vec::new();
    call.phone
        .protect(Kind::Rtp, &kept, |bytes| wire = bytes.to_vec());
    let before = call.sent_to_phone();
    call.say(20, 7, |_, _, _| ());
    call.scene.attacker.send(&wire);
    call.scene.world.run(20);
    call.scene.attacker.listen();
    assert_eq!(call.scene.attacker.received, 0);
    assert!(call.sent_to_phone() >= before + 38);
}

#[test]
fn a_phone_whose_nat_forgot_it_is_heard_again_after_a_re_invite_and_not_by_itself() {
    let mut scene = Scene::new(24_900..=24_999, Some("0.0.0.0:4000"), ELSEWHERE);
    scene.speak(true);
    scene.run(250, 0);
    let phone = &mut scene.world.phones[scene.victim];
    phone.rtp = UdpSocket::bind("127.0.0.1:0").unwrap();
    phone.rtp.set_nonblocking(true).unwrap();
    let sent = phone.packets.len();
    scene.run(100, 0);
    assert_eq!(scene.heard(80), (0, 0));
    scene.describe(Some("0.0.0.0:4000"));
    scene.run(50, 0);
    // 80 ms to learn it by, then all.
    assert_eq!(scene.heard(40), (0, 40));
    assert!(scene.world.phones[scene.victim].packets.len() >= sent + 40);
}

/// What came of handshakes, to the control side.
fn passed_on(scene: &Scene) -> usize {
    let leg = scene.world.leg(scene.victim);
    let is_its = |event: &&EngineEvent| matches!(event, EngineEvent::Handshake { leg: of, .. } if *of == leg);
    scene.world.events.iter().filter(is_its).count()
}

#[test]
fn before_there_are_keys_nothing_is_heard_or_sent_and_then_only_who_has_them_counts() {
    let mut call = Protected::new(25_000..=25_099);
    let keys = call.parameters.srtp.take();
    call.parameters.keying = Keying::Handshake;
    call.describe();
    call.scene.speak(true);
    call.scene.run(5, 0);
    let before = call.sent_to_phone();
    call.scene.run(100, IN_PACE);
    let (mixed, voice) = call.scene.heard(95);
    assert_eq!((mixed, voice, call.scene.attacker.received), (0, 0, 0));
    assert_eq!(call.sent_to_phone(), before, "audio without keys");
    call.scene.speak(false);
    // Of what a stranger sends, as much as he might need; of the phone's, all.
    let hello = [22, 254, 253, 0];
    for _ in 0..500 {
        call.scene.attacker.send(&hello);
    }
    call.scene.run(1, 0);
    let strangers = passed_on(&call.scene);
    assert!((50..=70).contains(&strangers), "{strangers}");
    for _ in 0..50 {
        let phone = &call.scene.world.phones[call.scene.victim];
        phone.rtp.send_to(&hello, phone.to).unwrap();
    }
    call.scene.run(1, 0);
    assert_eq!(passed_on(&call.scene), strangers + 50);
    // Of the rest the kernel keeps what it has room for.
    assert!(call.scene.refused(Refusal::Excess) >= 50);
    call.parameters.srtp = keys;
    call.describe();
    call.say(200, 7, |attacker, _, _| {
        attacker.send(&[0x80; 172]);
    });
    let (mixed, voice) = call.scene.heard(150);
    assert!(mixed == 0 && voice >= 148, "{mixed} {voice}");
    assert_eq!(call.scene.attacker.received, 0);
    assert!(call.sent_to_phone() >= before + 190);
}

#[test]
fn who_says_by_checks_where_he_is_is_sent_audio_nowhere_else_whoever_sends_his_packets_on() {
    for (keying, moves) in [(Keying::Handshake, true), (Keying::CheckedHandshake, false)] {
        let mut call = Protected::new(25_100..=25_199);
        call.parameters.keying = keying;
        call.describe();
        call.say(20, 7, |_, _, _| ());
        let phone = &mut call.scene.world.phones[call.scene.victim];
        let mut packet = phone.tone_packet(PHONES_HZ);
        packet[11] = 7;
        let attacker = &call.scene.attacker;
        call.phone
            .protect(Kind::Rtp, &packet, |bytes| attacker.send(bytes));
        call.scene.run(10, 0);
        assert_eq!(call.scene.attacker.received > 0, moves, "{keying:?}");
    }
}
