//! Who must prove by a password whose call it is.

use super::*;
use crate::config::{DigestAlgorithm, Secret};
use crate::sip::digest::Challenge;
use crate::sip::{Credentials, Proof};

const PHONE: &str = "192.0.2.61:5060";
/// Phones offer more than the tests' INVITE does.
const PADDING: &str = "Subject: a long offer of many codecs, with all that is said of each of them, of keys, of \
    addresses that lead to the phone, and of what else it would like to do with its peer if only it could; none of \
    which matters here, where it is only as long as it is. A challenge with two algorithms takes some 300 bytes.\r\n";

fn anna() -> Credentials {
    Credentials {
        user: "anna".to_owned(),
        password: Secret::new("hunter2"),
    }
}

/// Two phones of one network, and a trunk that is known by its address.
fn with_phones() -> Bench {
    Bench::of_a_stranger(|config| {
        let phone = |user: &str| TrunkSettings {
            peers: vec!["192.0.2.60/31".parse().unwrap()],
            proves: Some(Proof {
                credentials: Credentials {
                    user: user.to_owned(),
                    ..anna()
                },
                algorithms: vec![DigestAlgorithm::Sha256, DigestAlgorithm::Md5],
            }),
            ..TrunkSettings::default()
        };
        let known = TrunkSettings {
            peers: vec!["192.0.2.7/32".parse().unwrap()],
            ..TrunkSettings::default()
        };
        config.trunks = vec![known, phone("bert"), phone("anna")];
    })
}

fn call(cseq: u32, more: &str) -> String {
    invite()
        .replace("z9hG4bKinv", &format!("z9hG4bK{cseq}"))
        .replace("192.0.2.7:5060", PHONE)
        .replace("CSeq: 1", &format!("CSeq: {cseq}"))
        .replace("Contact:", &format!("{PADDING}{more}Contact:"))
}

fn from(bench: &mut Bench, peer: &str, message: &str) -> Vec<String> {
    bench
        .endpoint
        .handle_datagram(bench.now, udp(peer), message.as_bytes());
    bench.sent()
}

/// The challenges in an answer.
fn challenges(answer: &str) -> Vec<Challenge> {
    let lines = answer.split("\r\n");
    let values = lines.filter_map(|line| line.strip_prefix("WWW-Authenticate: "));
    values
        .filter_map(|value| Challenge::parse(value, false))
        .collect()
}

#[test]
fn a_phone_that_knows_its_password_is_its_trunk_and_what_it_said_once_counts_no_more() {
    let mut bench = with_phones();
    let asked = from(&mut bench, PHONE, &call(1, ""));
    assert_eq!(statuses(&asked), ["401"]);
    let mut both = challenges(&asked[0]);
    let names: Vec<bool> = asked[0]
        .split("\r\n")
        .filter(|line| line.starts_with("WWW-Authenticate"))
        .map(|line| line.contains("SHA-256"))
        .collect();
    assert!(both.len() == 2 && names == [true, false], "{}", asked[0]);
    assert!(bench.events().is_empty());
    let uri = "sip:100@198.51.100.1";
    let (_, value) = both[0].answer(&anna(), "INVITE", uri, "c");
    let proof = format!("Authorization: {value}\r\n");
    assert_eq!(
        statuses(&from(&mut bench, PHONE, &call(2, &proof))),
        ["100"]
    );
    let told = bench.events();
    let [SipEvent::Invite { dialog, invite }] = told.as_slice() else {
        panic!("{told:?}")
    };
    assert_eq!(invite.trunk, Some(TrunkId(2)));
    bench.endpoint.reject(bench.now, *dialog, 486, None, None);
    bench.pass(LONG);
    let again = call(3, &proof).replace("call1", "call2");
    let replayed = from(&mut bench, PHONE, &again);
    assert_eq!(statuses(&replayed), ["401"]);
    assert!(
        challenges(&replayed[0])
            .iter()
            .all(|challenge| challenge.stale)
    );
    let refused = &bench.endpoint.counters().refused;
    assert_eq!(refused.get("replayed credentials"), Some(&1));
    assert_eq!(refused.get("asked who calls"), Some(&1));
}

#[test]
fn whoever_proves_himself_may_call_as_often_as_he_likes_and_guessers_may_not() {
    let mut bench = with_phones();
    let call = |cseq: u32, more: &str| call(cseq, more).replace("call1", &format!("call{cseq}"));
    for number in 0..1_000 {
        let asked = from(&mut bench, PHONE, &call(2 * number + 10, ""));
        assert_eq!(statuses(&asked), ["401"], "{number}");
        let mut challenge = challenges(&asked[0]).remove(0);
        let (_, value) = challenge.answer(&anna(), "INVITE", "sip:100@198.51.100.1", "c");
        let proof = format!("Authorization: {value}\r\n");
        let taken = from(&mut bench, PHONE, &call(2 * number + 11, &proof));
        assert_eq!(statuses(&taken), ["100"], "{number}");
    }
    let answers = |more: &str, bench: &mut Bench| {
        let all = (3_000..3_300).map(|cseq| from(bench, PHONE, &call(cseq, more)));
        let all: Vec<String> = all.flat_map(|sent| statuses(&sent)).collect();
        all.iter().filter(|status| *status == "401").count()
    };
    let guessed = "Authorization: Digest username=\"anna\", realm=\"sip\", nonce=\"n\", uri=\"sip:100@198.51.100.1\", \
                   response=\"r\", qop=auth, nc=00000001, cnonce=\"c\"\r\n";
    assert_eq!(answers(guessed, &mut bench), 200);
}

#[test]
fn who_knows_nothing_is_nobody_and_others_are_not_asked() {
    let mut bench = with_phones();
    let asked = from(&mut bench, PHONE, &call(1, ""));
    let mut challenge = challenges(&asked[0]).remove(0);
    let wrong = Credentials {
        password: Secret::new("hunter3"),
        ..anna()
    };
    let (_, value) = challenge.answer(&wrong, "INVITE", "sip:100@198.51.100.1", "c");
    let refused = from(
        &mut bench,
        PHONE,
        &call(2, &format!("Authorization: {value}\r\n")),
    );
    assert_eq!(statuses(&refused), ["401"]);
    assert!(
        challenges(&refused[0])
            .iter()
            .all(|challenge| !challenge.stale)
    );
    let other = value.replace("qop=auth", "qop=auth-int");
    let refused = from(
        &mut bench,
        PHONE,
        &call(3, &format!("Authorization: {other}\r\n")),
    );
    assert_eq!(statuses(&refused), ["400"]);
    assert!(bench.events().is_empty());
    // A stranger from elsewhere and a trunk with an address of its own.
    for (cseq, peer, trunk) in [(8, "198.51.100.77:5060", None), (9, PEER, Some(TrunkId(0)))] {
        let message = call(cseq, "").replace("call1", peer);
        let at_once = trunk.map(|_| "100".to_owned());
        let sent = from(&mut bench, peer, &message);
        assert_eq!(statuses(&sent), Vec::from_iter(at_once));
        let told = bench.events();
        let [SipEvent::Invite { invite, .. }] = told.as_slice() else {
            panic!("{told:?}")
        };
        assert_eq!(invite.trunk, trunk);
    }
}

#[test]
fn to_be_asked_costs_nobody_more_bytes_than_he_sent() {
    let mut bench = with_phones();
    let usual = call(1, "");
    let short = usual.replace(PADDING, "");
    let tiny = short.replace(
        "Content-Type: application/sdp\r\nContent-Length: 10\r\n\r\nv=0\r\noffer",
        "l: 0\r\n\r\n",
    );
    for (message, least) in [(&short, 1), (&usual, 2)] {
        let answers = from(&mut with_phones(), PHONE, message);
        assert_eq!(statuses(&answers), ["401"]);
        assert!(answers[0].len() <= message.len(), "{}", answers[0]);
        assert!(challenges(&answers[0]).len() >= least, "{}", answers[0]);
    }
    // No answer is of use without a challenge, and his telephone asks again.
    assert!(from(&mut bench, PHONE, &tiny).is_empty());
    let answers = from(&mut bench, PHONE, &tiny);
    assert!(answers[0].len() <= 2 * tiny.len() && !challenges(&answers[0]).is_empty());
}
