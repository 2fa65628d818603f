//! The torture messages of RFC 4475 and RFC 5118, and what they ask for.
//!
//! They lie in `torture/`, in the notation of RFC 4475 section 2: `<hex>` for bytes, `<repeat count=N>`, and
//! each line ends with CRLF on the wire. Lines are whole where the RFC breaks them with `<allOneLine>`.

use std::fs;
use std::path::Path;

use crate::wire::{Answer, Target, Wire};

#[test]
fn torture_messages_by_datagram_get_what_the_rfcs_ask_for() {
    let target = Target::find();
    let wrong: Vec<String> = CASES
        .iter()
        .filter_map(|case| case.fails_by(&mut target.udp(), case.by_datagram))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    target.takes_a_call();
}

#[test]
fn torture_messages_over_a_stream_get_what_the_rfcs_ask_for() {
    let target = Target::find();
    let wrong: Vec<String> = CASES
        .iter()
        // It announces 10,000 bytes: all that follows is its body.
        .filter(|case| case.name != "rfc4475-3.1.2.2-clerr")
        .filter_map(|case| {
            let wire = &mut target.tcp();
            let wrong = case.fails_by(wire, case.over_stream());
            let ended = ENDS_THE_STREAM.contains(&case.name);
            match wrong {
                None if wire.closed != ended => {
                    Some(format!("{}: closed: {}", case.name, wire.closed))
                }
                other => other,
            }
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    target.takes_a_call();
}

#[test]
fn all_of_them_are_there() {
    let folder = Path::new(FOLDER);
    let files = fs::read_dir(folder).expect("a folder").count();
    assert_eq!((files, CASES.len()), (61, 61));
}

struct Case {
    name: &'static str,
    /// The final answers that are right; none: no answer is.
    by_datagram: &'static [u16],
}

const fn case(name: &'static str, by_datagram: &'static [u16]) -> Case {
    Case { name, by_datagram }
}

impl Case {
    /// Over a stream a message without a length, or with several, has no end (RFC 3261 section 18.3); a
    /// second one in the same bytes is looked at there.
    fn over_stream(&self) -> &'static [u16] {
        match self.name {
            "rfc4475-3.4.1-inv2543" => &[400],
            _ => self.by_datagram,
        }
    }

    /// What is wrong with how it was answered.
    fn fails_by(&self, wire: &mut Wire, expected: &[u16]) -> Option<String> {
        let text = fs::read_to_string(format!("{FOLDER}/{}.txt", self.name)).expect("a message");
        let bytes = expand(&text);
        let mut answers = wire.answers_to(&bytes);
        let invites = bytes.starts_with(b"INVITE");
        if invites && answers.iter().any(|answer| answer.status() == 100) {
            let last = answers.iter().rfind(|answer| answer.is_final_of("INVITE"));
            let last = last
                .cloned()
                .unwrap_or_else(|| wire.wait_for(self.name, |answer| answer.is_final_of("INVITE")));
            wire.send(last.acknowledgement().as_bytes());
            if last.status() < 300 {
                wire.hang_up(&last);
            }
            answers = vec![last];
        }
        let statuses: Vec<u16> = answers.iter().map(Answer::status).collect();
        let right = match (expected, statuses.as_slice()) {
            ([], got) => got.is_empty(),
            (_, [got]) => expected.contains(got),
            // Both of two messages are answered over a stream, the first one as expected.
            (_, [got, _]) => self.name.ends_with("dblreq") && expected.contains(got),
            (_, _) => false,
        };
        let told = answers.first().is_none_or(says_why);
        (!right || !told).then(|| format!("{}: {expected:?} expected: {answers:?}", self.name))
    }
}

/// The header that a refusal of this kind needs is there.
fn says_why(answer: &Answer) -> bool {
    let needed = match answer.status() {
        405 | 501 => "Allow",
        406 | 415 => "Accept",
        420 => "Unsupported",
        _ => return true,
    };
    answer.header(needed).is_some()
}

/// The bytes of a message in the RFC's notation.
fn expand(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, tag)) = rest.split_once('<') {
        bytes.extend(before.replace('\n', "\r\n").bytes());
        if let Some((hex, after)) = tag
            .strip_prefix("hex>")
            .and_then(|tag| tag.split_once("</hex>"))
        {
            let digit = |at| hex.get(at..at + 2).expect("two digits");
            let byte = |at| u8::from_str_radix(digit(at), 16).expect("hexadecimal");
            bytes.extend((0..hex.len()).step_by(2).map(byte));
            rest = after;
        } else if let Some((repeat, after)) = tag
            .strip_prefix("repeat count=")
            .and_then(|tag| tag.split_once("</repeat>"))
        {
            let (count, what) = repeat.split_once('>').expect("a count");
            bytes.extend(what.repeat(count.parse().expect("a number")).bytes());
            rest = after;
        } else {
            bytes.push(b'<');
            rest = tag;
        }
    }
    bytes.extend(rest.replace('\n', "\r\n").bytes());
    bytes
}

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sip/torture");

/// After these nobody knows where the next message begins.
const ENDS_THE_STREAM: &[&str] = &[
    "rfc4475-3.1.2.3-ncl",
    "rfc4475-3.3.9-mcl01",
    "rfc4475-3.4.1-inv2543",
];

const CASES: &[Case] = &[
    // Well-formed. This one is for a call that nobody knows.
    case("rfc4475-3.1.1.1-wsinv", &[481]),
    case("rfc4475-3.1.1.2-intmeth", &[501]),
    case("rfc4475-3.1.1.3-esc01", &[200]),
    // We are no registrar.
    case("rfc4475-3.1.1.4-escnull", &[405]),
    case("rfc4475-3.1.1.5-esc02", &[501]),
    case("rfc4475-3.1.1.6-lwsdisp", &[200]),
    case("rfc4475-3.1.1.7-longreq", &[200]),
    case("rfc4475-3.1.1.8-dblreq", &[405]),
    case("rfc4475-3.1.1.9-semiuri", &[200]),
    case("rfc4475-3.1.1.10-transports", &[200]),
    case("rfc4475-3.1.1.11-mpart01", &[405]),
    case("rfc4475-3.1.1.12-unreason", &[]),
    case("rfc4475-3.1.1.13-noreason", &[]),
    // Malformed; two statuses where the RFC lets the receiver be liberal.
    case("rfc4475-3.1.2.1-badinv01", &[400]),
    case("rfc4475-3.1.2.2-clerr", &[400]),
    case("rfc4475-3.1.2.3-ncl", &[400]),
    case("rfc4475-3.1.2.4-scalar02", &[400]),
    case("rfc4475-3.1.2.5-scalarlg", &[]),
    case("rfc4475-3.1.2.6-quotbal", &[400]),
    case("rfc4475-3.1.2.7-ltgtruri", &[400]),
    case("rfc4475-3.1.2.8-lwsruri", &[400, 481]),
    case("rfc4475-3.1.2.9-lwsstart", &[400, 200]),
    case("rfc4475-3.1.2.10-trws", &[400, 200]),
    case("rfc4475-3.1.2.11-escruri", &[400, 200]),
    case("rfc4475-3.1.2.12-baddate", &[400, 200]),
    case("rfc4475-3.1.2.13-regbadct", &[400, 405]),
    case("rfc4475-3.1.2.14-badaspec", &[400, 200]),
    case("rfc4475-3.1.2.15-baddn", &[400, 200]),
    case("rfc4475-3.1.2.16-badvers", &[505]),
    case("rfc4475-3.1.2.17-mismatch01", &[400]),
    case("rfc4475-3.1.2.18-mismatch02", &[400, 501]),
    case("rfc4475-3.1.2.19-bigcode", &[]),
    // Transactions, then the application's concern.
    case("rfc4475-3.2.1-badbranch", &[200]),
    case("rfc4475-3.3.1-insuf", &[400]),
    case("rfc4475-3.3.2-unkscm", &[416]),
    case("rfc4475-3.3.3-novelsc", &[416]),
    case("rfc4475-3.3.4-unksm2", &[400, 405]),
    case("rfc4475-3.3.5-bext01", &[420]),
    case("rfc4475-3.3.6-invut", &[415]),
    case("rfc4475-3.3.7-regaut01", &[401, 405]),
    case("rfc4475-3.3.8-multi01", &[400]),
    case("rfc4475-3.3.9-mcl01", &[400]),
    case("rfc4475-3.3.10-bcast", &[]),
    case("rfc4475-3.3.11-zeromf", &[200]),
    case("rfc4475-3.3.12-cparam01", &[405]),
    case("rfc4475-3.3.13-cparam02", &[405]),
    case("rfc4475-3.3.14-regescrt", &[405]),
    case("rfc4475-3.3.15-sdp01", &[406]),
    case("rfc4475-3.4.1-inv2543", &[200]),
    // IPv6.
    case("rfc5118-4.1-ipv6-good", &[405]),
    case("rfc5118-4.2-ipv6-bad", &[400]),
    case("rfc5118-4.3-port-ambiguous", &[405]),
    case("rfc5118-4.4-port-unambiguous", &[405]),
    case("rfc5118-4.5-via-received-param-no-delim", &[200]),
    case("rfc5118-4.5-via-received-param-with-delim", &[481]),
    // Well-formed, but G.726 alone is offered.
    case("rfc5118-4.6-ipv6-in-sdp", &[488]),
    case("rfc5118-4.7-mult-ip-in-header", &[481]),
    case("rfc5118-4.8-mult-ip-in-sdp", &[200]),
    case("rfc5118-4.9-ipv4-mapped-ipv6", &[488]),
    case("rfc5118-4.10-ipv6-bug-abnf-3-colons", &[400, 200]),
    case("rfc5118-4.10-ipv6-correct-abnf-2-colons", &[200]),
];
