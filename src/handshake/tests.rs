//! Two sides over a link that loses, under a pushed clock.

use super::*;
use crate::media::seeded::{self, Random};

/// A handshake, and where it is.
struct Side {
    at: SocketAddr,
    handshake: Handshake,
    said: Vec<Output>,
}

impl Side {
    fn new(
        at: &str,
        own: &Identity,
        peer: &Identity,
        ours: Role,
        there: &str,
        now: Instant,
    ) -> Self {
        Self::vouched(at, own, vec![peer.fingerprint().clone()], ours, there, now)
    }

    fn vouched(
        at: &str,
        own: &Identity,
        fingerprints: Vec<Fingerprint>,
        ours: Role,
        there: &str,
        now: Instant,
    ) -> Self {
        let peer = Peer {
            fingerprints,
            ours,
            ice: None,
        };
        let whereabouts = Whereabouts {
            described: there.parse().unwrap(),
            signalling: None,
        };
        let mut handshake = Handshake::new(own, peer, &credentials(1), whereabouts);
        handshake.answered(now);
        Self {
            at: at.parse().unwrap(),
            handshake,
            said: Vec::new(),
        }
    }

    /// What it sends now; all else is kept.
    fn sends(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        let all: Vec<Output> = std::iter::from_fn(|| self.handshake.poll_output()).collect();
        let mut sent = Vec::new();
        for output in all {
            match output {
                Output::Send { to, datagram } => sent.push((to, datagram)),
                Output::Agreed | Output::Failed(_) | Output::Lost => self.said.push(output),
            }
        }
        sent
    }
}

fn credentials(of: u8) -> Credentials {
    Credentials::new(&[of; CREDENTIALS_BYTES])
}

fn identity() -> Identity {
    Identity::generate().unwrap()
}

/// Runs for so long, 50 ms from one side to the other; a share of what is sent gets lost. When both had keys.
fn run(
    now: &mut Instant,
    sides: &mut [Side; 2],
    loss: usize,
    random: &mut Random,
    for_ms: u64,
) -> Option<u64> {
    for elapsed in (0..for_ms).step_by(50) {
        *now += Duration::from_millis(50);
        let mut under_way = Vec::new();
        for side in sides.iter_mut() {
            if side.handshake.poll_timeout().is_some_and(|at| at <= *now) {
                side.handshake.handle_timeout(*now);
            }
            let from = side.at;
            under_way.extend(
                side.sends()
                    .into_iter()
                    .map(|(to, datagram)| (from, to, datagram)),
            );
        }
        for (from, to, datagram) in under_way {
            let lost = random.below(100) < loss;
            if let Some(side) = sides.iter_mut().find(|side| side.at == to && !lost) {
                side.handshake.handle_packet(*now, from, &datagram);
            }
        }
        if sides.iter().all(|side| side.handshake.keys().is_some()) {
            return Some(elapsed);
        }
    }
    None
}

/// Us and a caller, who begins.
fn both(we: &Identity, caller: &Identity, now: Instant) -> [Side; 2] {
    [
        Side::new(OURS, we, caller, Role::Passive, CALLER, now),
        Side::new(CALLER, caller, we, Role::Active, OURS, now),
    ]
}

const CALLER: &str = "192.0.2.7:4000";
const OURS: &str = "198.51.100.1:20000";

#[test]
fn both_sides_have_each_others_keys_whoever_begins() {
    let (we, caller) = (identity(), identity());
    for (ours, theirs) in [(Role::Passive, Role::Active), (Role::Active, Role::Passive)] {
        let mut now = seeded::start();
        let mut sides = [
            Side::new(OURS, &we, &caller, ours, CALLER, now),
            Side::new(CALLER, &caller, &we, theirs, OURS, now),
        ];
        let took = run(&mut now, &mut sides, 0, &mut Random::new(1), 2_000);
        assert!(took.is_some_and(|ms| ms < 600), "{took:?}");
        let [we, caller] = sides.map(|mut side| {
            side.sends();
            (
                side.handshake.keys().unwrap(),
                side.said,
                side.handshake.remote(),
            )
        });
        assert!(we.0.ours == caller.0.theirs && we.0.theirs == caller.0.ours);
        assert!(we.0.ours != we.0.theirs);
        assert_eq!(
            (we.1, we.2),
            (vec![Output::Agreed], Some(CALLER.parse().unwrap()))
        );
    }
}

#[test]
fn a_handshake_comes_to_an_end_where_a_fifth_is_lost() {
    let (we, caller) = (identity(), identity());
    let (mut done, mut slowest) = (0, 0);
    for seed in 0..60 {
        let mut now = seeded::start();
        let mut sides = both(&we, &caller, now);
        if let Some(ms) = run(&mut now, &mut sides, 20, &mut Random::new(seed), 10_000) {
            done += 1;
            slowest = slowest.max(ms);
        }
    }
    eprintln!("{done} of 60 handshakes, the slowest {slowest} ms");
    assert_eq!(done, 60);
}

#[test]
fn who_isnt_vouched_for_gets_no_keys_and_ends_the_call() {
    let (we, caller, other) = (identity(), identity(), identity());
    let mut now = seeded::start();
    let mut sides = [
        Side::new(OURS, &we, &other, Role::Passive, CALLER, now),
        Side::new(CALLER, &caller, &we, Role::Active, OURS, now),
    ];
    assert_eq!(
        run(&mut now, &mut sides, 0, &mut Random::new(1), 2_000),
        None
    );
    let [we, _] = sides;
    assert_eq!(we.said, [Output::Failed(Failure::Unvouched)]);
    assert_eq!(we.handshake.keys(), None);
}

#[test]
fn who_says_nothing_is_given_ten_seconds_from_our_answer() {
    let (we, caller) = (identity(), identity());
    let start = seeded::start();
    let mut side = Side::new(OURS, &we, &caller, Role::Passive, CALLER, start);
    let due = side.handshake.poll_timeout().unwrap();
    assert_eq!(due - start, PATIENCE);
    side.handshake
        .handle_timeout(due - Duration::from_millis(1));
    assert!(side.sends().is_empty() && side.said.is_empty());
    side.handshake.handle_timeout(due);
    assert!(
        side.sends().is_empty(),
        "nothing is sent to who may not be there"
    );
    assert_eq!(side.said, [Output::Failed(Failure::TimedOut)]);
    assert_eq!(side.handshake.poll_timeout(), None);
}

/// A ClientHello with the ciphers `TLS_NULL_WITH_NULL_NULL`.
fn null_hello() -> Vec<u8> {
    let mut body = vec![254, 253];
    body.extend([7; 32]);
    body.extend([0, 0, 0, 2, 0, 0, 1, 0]);
    let length = body.len() as u8;
    let mut message = vec![1, 0, 0, length, 0, 0, 0, 0, 0, 0, 0, length];
    message.extend(body);
    let mut record = vec![22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, message.len() as u8];
    record.extend(message);
    record
}

#[test]
fn a_strangers_hello_that_comes_first_changes_nothing() {
    let (we, caller) = (identity(), identity());
    let mut now = seeded::start();
    let mut sides = both(&we, &caller, now);
    let [stranger, neighbour] =
        ["203.0.113.66:4000", "192.0.2.7:4001"].map(|at| at.parse().unwrap());
    for _ in 0..20 {
        sides[0]
            .handshake
            .handle_packet(now, stranger, &null_hello());
    }
    assert_eq!(sides[0].sends(), [], "a stranger is sent nothing");
    assert_eq!(sides[0].handshake.take_dropped().foreign, 20);
    // One who shares the caller's address breaks his own handshakes only.
    for _ in 0..20 {
        sides[0]
            .handshake
            .handle_packet(now, neighbour, &null_hello());
        assert!(sides[0].sends().iter().all(|(to, _)| *to == neighbour));
    }
    assert!(run(&mut now, &mut sides, 0, &mut Random::new(1), 2_000).is_some());
}

/// The first message of a caller who begins.
fn hello(of: &Identity, now: Instant) -> Vec<u8> {
    let mut caller = Side::new(CALLER, of, of, Role::Active, OURS, now);
    let (_, hello) = caller.sends().swap_remove(0);
    hello
}

#[test]
fn whoever_cannot_be_asked_takes_no_place() {
    let (we, caller, other) = (identity(), identity(), identity());
    let mut now = seeded::start();
    let mut sides = [
        Side::new(OURS, &we, &caller, Role::Passive, "10.0.0.7:4000", now),
        Side::new(CALLER, &caller, &we, Role::Active, OURS, now),
    ];
    // His NAT has another address than he knows: all that we have is where his signalling comes from.
    sides[0].handshake.whereabouts.signalling = Some("192.0.2.7".parse().unwrap());
    for port in 5_000..5_064 {
        let forged = SocketAddr::new("192.0.2.7".parse().unwrap(), port);
        let hello = hello(&other, now);
        sides[0].handshake.handle_packet(now, forged, &hello);
        let asked = sides[0].sends();
        assert!(
            asked
                .iter()
                .all(|(to, datagram)| *to == forged && datagram.len() < hello.len())
        );
    }
    assert!(sides[0].handshake.associations.len() <= AT_ONCE_MAX);
    assert!(run(&mut now, &mut sides, 0, &mut Random::new(1), 2_000).is_some());
}

#[test]
fn no_more_handshakes_are_worked_for_than_a_call_needs() {
    let (we, caller) = (identity(), identity());
    let mut now = seeded::start();
    let mut us = Side::new(OURS, &we, &caller, Role::Passive, CALLER, now);
    let (mut worked, mut tries) = (0, 0);
    while tries < 3 * PAID_FOR_MAX {
        tries += 1;
        let mut he = Side::new(CALLER, &caller, &we, Role::Active, OURS, now);
        // As far as our certificate, and not on.
        for _ in 0..2 {
            for (_, datagram) in he.sends() {
                us.handshake.handle_packet(now, he.at, &datagram);
            }
            for (_, datagram) in us.sends() {
                worked += usize::from(datagram.len() > 200);
                he.handshake.handle_packet(now, us.at, &datagram);
            }
            now += Duration::from_millis(10);
        }
        us.handshake.associations.clear();
    }
    assert!(
        (1..=4 * PAID_FOR_MAX).contains(&worked),
        "{worked} datagrams"
    );
    assert_eq!(us.handshake.paid_for.his, PAID_FOR_MAX);
}

#[test]
fn records_that_no_peer_sends_in_the_clear_break_nothing() {
    let (we, caller) = (identity(), identity());
    for (kind, body) in [(23, 7), (20, 2)] {
        let mut now = seeded::start();
        let mut sides = both(&we, &caller, now);
        run(&mut now, &mut sides, 0, &mut Random::new(1), 150);
        assert_eq!(sides[0].handshake.keys(), None);
        let forged = [kind, 254, 253, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, body];
        sides[0]
            .handshake
            .handle_packet(now, CALLER.parse().unwrap(), &forged);
        assert!(sides[0].handshake.take_dropped().useless > 0);
        assert!(run(&mut now, &mut sides, 0, &mut Random::new(1), 2_000).is_some());
    }
}

#[test]
fn where_we_begin_nothing_is_sent_before_the_peer_has_our_answer() {
    let (we, caller) = (identity(), identity());
    let peer = Peer {
        fingerprints: vec![caller.fingerprint().clone()],
        ours: Role::Active,
        ice: None,
    };
    let whereabouts = Whereabouts {
        described: CALLER.parse().unwrap(),
        signalling: None,
    };
    let now = seeded::start();
    let mut handshake = Handshake::new(&we, peer, &credentials(1), whereabouts);
    handshake.handle_timeout(now + Duration::from_secs(5));
    assert_eq!(handshake.poll_output(), None);
    handshake.answered(now);
    assert!(matches!(handshake.poll_output(), Some(Output::Send { .. })));
}

#[test]
fn an_offer_without_checks_or_with_new_ones_keeps_the_keys() {
    let (we, caller) = (identity(), identity());
    let mut now = seeded::start();
    let mut sides = both(&we, &caller, now);
    run(&mut now, &mut sides, 0, &mut Random::new(1), 2_000).unwrap();
    let [mut side, _] = sides;
    let there = side.handshake.whereabouts;
    let mut peer = side.handshake.peer().clone();
    let keys = side.handshake.keys();
    for ice in [Some(credentials(2)), None] {
        peer.ice = ice;
        assert!(side.handshake.goes_on(&peer, &credentials(1), there));
        assert!(side.handshake.keys() == keys);
        assert_eq!(side.handshake.ice.is_some(), peer.ice.is_some());
    }
    assert_eq!(side.handshake.remote(), None, "what is described now holds");
}

#[test]
fn an_alert_that_anybody_can_write_ends_nothing_but_is_told_where_nothing_follows() {
    let (we, caller) = (identity(), identity());
    let alert = [21, 254, 253, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40];
    let mut now = seeded::start();
    let mut sides = both(&we, &caller, now);
    sides[0]
        .handshake
        .handle_packet(now, CALLER.parse().unwrap(), &alert);
    assert!(run(&mut now, &mut sides, 0, &mut Random::new(1), 2_000).is_some());
    let start = seeded::start();
    let mut side = Side::new(OURS, &we, &caller, Role::Passive, CALLER, start);
    side.handshake
        .handle_packet(start, CALLER.parse().unwrap(), &alert);
    side.handshake.handle_timeout(start + PATIENCE);
    assert!(side.sends().is_empty());
    assert_eq!(side.said, [Output::Failed(Failure::Refused)]);
}

#[test]
fn another_offer_keeps_the_handshake_unless_its_certificate_changes() {
    let (we, caller, other) = (identity(), identity(), identity());
    let mut now = seeded::start();
    let mut sides = both(&we, &caller, now);
    run(&mut now, &mut sides, 0, &mut Random::new(1), 2_000).unwrap();
    let [mut side, _] = sides;
    let peer = side.handshake.peer().clone();
    let there = side.handshake.whereabouts;
    let moved = Whereabouts {
        described: "192.0.2.8:4000".parse().unwrap(),
        ..there
    };
    assert!(side.handshake.goes_on(&peer, &credentials(1), there));
    assert_eq!(side.handshake.remote(), Some(CALLER.parse().unwrap()));
    assert!(side.handshake.goes_on(&peer, &credentials(1), moved));
    assert_eq!(side.handshake.remote(), None);
    assert!(side.handshake.keys().is_some());
    let another = Peer {
        fingerprints: vec![other.fingerprint().clone()],
        ..peer
    };
    assert!(!side.handshake.goes_on(&another, &credentials(1), moved));
}

mod checks {
    use rtc_stun::attributes::{ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME, AttrType};
    use rtc_stun::error_code::ErrorCodeAttribute;
    use rtc_stun::fingerprint::FINGERPRINT;
    use rtc_stun::integrity::MessageIntegrity;
    use rtc_stun::message::{BINDING_REQUEST, Getter as _, Message, Setter as _};
    use rtc_stun::xoraddr::XorMappedAddress;

    use super::*;

    /// A caller who checks, as far as can be seen of him.
    struct Checker {
        we: Handshake,
        own: Credentials,
        theirs: Credentials,
        crypto: std::sync::Arc<dyn rtc_dtls::crypto_provider::RTCCryptoProvider>,
    }

    struct Asked<'a> {
        username: &'a str,
        pwd: Option<&'a str>,
        priority: u32,
        more: &'a [(AttrType, &'a [u8])],
    }

    impl Checker {
        fn new(now: Instant, ours: Role) -> (Self, Identity) {
            let (we, caller) = (identity(), identity());
            let (own, theirs) = (credentials(1), credentials(2));
            let peer = Peer {
                fingerprints: vec![caller.fingerprint().clone()],
                ours,
                ice: Some(theirs.clone()),
            };
            let whereabouts = Whereabouts {
                described: "10.0.0.7:9".parse().unwrap(),
                signalling: None,
            };
            let mut handshake = Handshake::new(&we, peer, &own, whereabouts);
            handshake.answered(now);
            let checker = Self {
                we: handshake,
                own,
                theirs,
                crypto: we.crypto.clone(),
            };
            (checker, caller)
        }

        fn username(&self) -> String {
            format!("{}:{}", self.own.ufrag(), self.theirs.ufrag())
        }

        fn request(&self, asked: &Asked<'_>) -> Vec<u8> {
            let mut message = Message::new();
            message.new_transaction_id().unwrap();
            message.set_type(BINDING_REQUEST);
            message.write_header();
            message.add(ATTR_USERNAME, asked.username.as_bytes());
            message.add(ATTR_PRIORITY, &asked.priority.to_be_bytes());
            for (kind, value) in asked.more {
                message.add(*kind, value);
            }
            if let Some(pwd) = asked.pwd {
                let crypto = self.crypto.crypto();
                MessageIntegrity::new_raw_integrity_with_provider(pwd.as_bytes(), crypto)
                    .add_to(&mut message)
                    .unwrap();
            }
            FINGERPRINT.add_to(&mut message).unwrap();
            message.raw
        }

        fn good(&self, priority: u32, nominates: bool) -> Vec<u8> {
            let more: &[(AttrType, &[u8])] = &[(ATTR_USE_CANDIDATE, &[])];
            self.request(&Asked {
                username: &self.username(),
                pwd: Some(self.own.expose_pwd()),
                priority,
                more: if nominates { more } else { &[] },
            })
        }

        /// What a datagram from there is answered with.
        fn asks(&mut self, now: Instant, from: &str, datagram: &[u8]) -> Vec<Vec<u8>> {
            let from = from.parse().unwrap();
            self.we.handle_packet(now, from, datagram);
            let all = std::iter::from_fn(|| self.we.poll_output());
            let sent = all.filter_map(|output| match output {
                Output::Send { to, datagram } => {
                    assert_eq!(to, from, "answers go where the question came from");
                    Some(datagram)
                }
                Output::Agreed | Output::Failed(_) | Output::Lost => None,
            });
            sent.collect()
        }
    }

    fn error_of(answer: &[u8]) -> u16 {
        let mut message = Message::new();
        message.unmarshal_binary(answer).unwrap();
        let mut error = ErrorCodeAttribute::default();
        error.get_from(&message).unwrap();
        error.code.0
    }

    const FIRST: &str = "203.0.113.7:5000";
    const SECOND: &str = "203.0.113.7:5001";

    #[test]
    fn a_check_is_answered_with_where_it_came_from_and_signed() {
        let now = seeded::start();
        let (mut caller, _) = Checker::new(now, Role::Passive);
        let question = caller.good(1, false);
        let answers = caller.asks(now, FIRST, &question);
        let mut answer = Message::new();
        answer.unmarshal_binary(&answers[0]).unwrap();
        let mut mapped = XorMappedAddress::default();
        mapped.get_from(&answer).unwrap();
        assert_eq!(mapped.to_string(), FIRST);
        FINGERPRINT.check(&answer).unwrap();
        let pwd = caller.own.expose_pwd().as_bytes();
        MessageIntegrity::check(&mut answer, pwd, caller.crypto.crypto()).unwrap();
        assert_eq!(answer.raw[8..20], question[8..20], "the transaction's name");
        assert_eq!(caller.we.remote(), None, "not nominated yet");
    }

    #[test]
    fn who_doesnt_know_the_password_gets_nothing_but_an_error_and_a_stranger_not_even_that() {
        let now = seeded::start();
        let (mut caller, _) = Checker::new(now, Role::Passive);
        let (username, pwd) = (caller.username(), caller.own.expose_pwd().to_owned());
        let mut ask = |username: &str, pwd: Option<&str>, kind: u16| {
            let more: &[(AttrType, &[u8])] = &[(AttrType(kind), &[])];
            let asked = Asked {
                username,
                pwd,
                priority: 9,
                more,
            };
            let question = caller.request(&asked);
            let answers = caller.asks(now, FIRST, &question);
            assert!(
                answers
                    .iter()
                    .all(|answer| answer.len() <= question.len() + 24)
            );
            let unsigned = answers.iter().filter(|answer| answer.len() <= 36).count();
            (answers.first().map(|answer| error_of(answer)), unsigned)
        };
        let use_candidate = ATTR_USE_CANDIDATE.0;
        assert_eq!(ask("stranger:x", Some(&pwd), use_candidate), (None, 0));
        assert_eq!(ask("", None, use_candidate), (None, 0));
        assert_eq!(ask(&username, None, use_candidate), (Some(400), 1));
        assert_eq!(ask(&username, Some("wrong"), use_candidate), (Some(401), 1));
        let other = format!("{}:other", username.split(':').next().unwrap());
        assert_eq!(ask(&other, Some(&pwd), use_candidate), (Some(401), 1));
        // He is who he says, but asks for what isn't known, or for our part.
        assert_eq!(ask(&username, Some(&pwd), 0x7F00).0, Some(420));
        assert_eq!(ask(&username, Some(&pwd), 0x8029).0, Some(487));
        assert_eq!(caller.we.remote(), None, "nothing of it nominated");
    }

    #[test]
    fn what_was_changed_or_added_on_the_way_is_not_answered() {
        let now = seeded::start();
        let (mut caller, _) = Checker::new(now, Role::Passive);
        let good = caller.good(1, false);
        for at in 0..good.len() {
            let mut changed = good.clone();
            changed[at] ^= 1;
            assert_eq!(caller.asks(now, FIRST, &changed), [[0; 0]; 0], "byte {at}");
        }
        // Nobody has signed what comes after the signature.
        let mut added = Message::new();
        added.unmarshal_binary(&good[..good.len() - 8]).ok();
        added.raw = good[..good.len() - 8].to_vec();
        added.length = (good.len() - 28) as u32;
        added.add(ATTR_USE_CANDIDATE, &[]);
        FINGERPRINT.add_to(&mut added).unwrap();
        assert_eq!(caller.asks(now, FIRST, &added.raw), [[0; 0]; 0]);
        assert_eq!(caller.we.remote(), None);
    }

    #[test]
    fn media_goes_where_was_nominated_and_elsewhere_only_by_a_better_nomination() {
        let now = seeded::start();
        let (mut caller, _) = Checker::new(now, Role::Passive);
        let remote = |caller: &Checker| caller.we.remote().map(|at| at.to_string());
        for (from, priority, nominates, after) in [
            (FIRST, 10, false, None),
            (SECOND, 10, true, Some(SECOND)),
            (FIRST, 9, true, Some(SECOND)),
            (FIRST, 11, false, Some(SECOND)),
            (FIRST, 11, true, Some(FIRST)),
        ] {
            let question = caller.good(priority, nominates);
            caller.asks(now, from, &question);
            assert_eq!(remote(&caller).as_deref(), after, "{from} {priority}");
        }
        // Who changes his network nominates what he has left, though it is worth less.
        let later = now + Duration::from_secs(4);
        let question = caller.good(5, true);
        caller.asks(later, "198.51.100.9:7", &question);
        assert_eq!(remote(&caller).as_deref(), Some("198.51.100.9:7"));
    }

    #[test]
    fn hands_are_shaken_only_with_who_has_checked_and_the_peer_may_change_his_address_meanwhile() {
        let mut now = seeded::start();
        let (mut caller, identity) = Checker::new(now, Role::Passive);
        for from in [FIRST, "10.0.0.7:9"] {
            let answers = caller.asks(now, from, &null_hello());
            assert_eq!(answers, [[0; 0]; 0], "he hasn't checked");
        }
        assert_eq!(caller.we.take_dropped().foreign, 2);
        let own = caller.we.identity.clone();
        let mut phone = Side::new(FIRST, &identity, &own, Role::Active, OURS, now);
        for step in 0..40 {
            now += Duration::from_millis(50);
            if step == 0 || step == 6 {
                phone.at = if step == 0 { FIRST } else { SECOND }.parse().unwrap();
                let question = caller.good(10 + step, true);
                caller.we.handle_packet(now, phone.at, &question);
            }
            if phone.handshake.poll_timeout().is_some_and(|at| at <= now) {
                phone.handshake.handle_timeout(now);
            }
            for (_, datagram) in phone.sends() {
                caller.we.handle_packet(now, phone.at, &datagram);
            }
            while let Some(output) = caller.we.poll_output() {
                if let Output::Send { to, datagram } = output
                    && to == phone.at
                    && !(0..=3).contains(&datagram[0])
                {
                    phone
                        .handshake
                        .handle_packet(now, OURS.parse().unwrap(), &datagram);
                }
            }
        }
        let keys = caller.we.keys().unwrap();
        assert!(phone.handshake.keys().unwrap().ours == keys.theirs);
        assert_eq!(caller.we.remote(), Some(SECOND.parse().unwrap()));
    }

    #[test]
    fn who_checks_and_stops_is_gone_after_half_a_minute_unless_he_is_heard() {
        let start = seeded::start();
        let (mut caller, _) = Checker::new(start, Role::Passive);
        let question = caller.good(1, true);
        caller.asks(start, FIRST, &question);
        let after = |seconds| start + Duration::from_secs(seconds);
        // One check alone: he may be one who makes no more of them.
        assert_eq!(caller.we.silent_at(), None);
        let question = caller.good(1, true);
        caller.asks(after(5), FIRST, &question);
        assert_eq!(caller.we.silent_at(), Some(after(35)));
        assert!(caller.we.has_consent(after(34)) && !caller.we.has_consent(after(35)));
        caller.we.note_media(after(20));
        assert_eq!(caller.we.silent_at(), Some(after(50)));
        caller.we.give_up_at = None;
        caller.we.handle_timeout(after(49));
        assert_eq!(caller.we.poll_output(), None);
        caller.we.handle_timeout(after(50));
        assert_eq!(caller.we.poll_output(), Some(Output::Lost));
        caller.we.handle_timeout(after(60));
        assert_eq!(caller.we.poll_output(), None);
    }

    #[test]
    fn a_restart_has_another_password_and_media_stays_until_something_else_is_nominated() {
        let now = seeded::start();
        let (mut caller, _) = Checker::new(now, Role::Passive);
        let old = caller.good(7, true);
        caller.asks(now, FIRST, &old);
        let again = Peer {
            ice: Some(credentials(4)),
            ..caller.we.peer().clone()
        };
        assert!(caller.we.is_restarted_by(&again));
        let whereabouts = caller.we.whereabouts;
        assert!(caller.we.goes_on(&again, &credentials(3), whereabouts));
        assert_eq!(caller.we.remote(), Some(FIRST.parse().unwrap()));
        assert_eq!(
            caller.asks(now, FIRST, &old),
            [[0; 0]; 0],
            "of an earlier name"
        );
        (caller.own, caller.theirs) = (credentials(3), credentials(4));
        let fresh = caller.good(1, true);
        caller.asks(now, SECOND, &fresh);
        assert_eq!(caller.we.remote(), Some(SECOND.parse().unwrap()));
    }
}
