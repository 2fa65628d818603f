//! Messages and packets as the fuzzers' corpora hold them, and what may be changed in them.

use std::fs;
use std::path::Path;

use crate::seeded::Random;

/// The messages of all inputs for datagrams.
pub(crate) fn message_seeds() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/sip_datagrams");
    let files = fs::read_dir(folder).expect("a folder");
    let mut files: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    files.sort();
    let mut seeds = Vec::new();
    for file in files {
        let input = fs::read(file).expect("an input");
        let messages = input.split(|byte| *byte == BETWEEN_MESSAGES);
        seeds.extend(messages.filter(|m| !m.is_empty()).map(<[u8]>::to_vec));
    }
    seeds
}

/// A seed with something changed: lines of it, values, bytes.
pub(crate) fn changed(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(4) {
        if random.below(2) == 0 {
            change_bytes(random, &mut bytes);
        } else {
            change_lines(random, &mut bytes, seeds);
        }
    }
    bytes
}

pub(crate) fn change_bytes(random: &mut Random, bytes: &mut Vec<u8>) {
    let at = random.below(bytes.len() + 1);
    let end = (at + random.below(12)).min(bytes.len());
    match random.below(6) {
        0 => drop(bytes.drain(at..end)),
        1 => drop(bytes.splice(at..at, SPICES[random.below(SPICES.len())].bytes())),
        2 => {
            let copy = bytes[at..end].to_vec();
            bytes.splice(at..at, copy);
        }
        3 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = random.next() as u8;
            }
        }
        4 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        _ => {
            let spice = SPICES[random.below(SPICES.len())].repeat(1 + random.below(40));
            bytes.splice(at..end, spice.into_bytes());
        }
    }
}

/// By the grammar: a line goes, comes twice, comes from elsewhere, changes its place, gets another value,
/// is folded; a number becomes a remarkable one.
fn change_lines(random: &mut Random, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let mut lines: Vec<String> = text.split("\r\n").map(ToOwned::to_owned).collect();
    let at = random.below(lines.len());
    match random.below(8) {
        0 => drop(lines.remove(at)),
        1 => lines.insert(at, lines[at].clone()),
        2 => {
            let other = String::from_utf8_lossy(&seeds[random.below(seeds.len())]).into_owned();
            let others: Vec<&str> = other.split("\r\n").collect();
            lines.insert(at, others[random.below(others.len())].to_owned());
        }
        3 => {
            let to = random.below(lines.len());
            lines.swap(at, to);
        }
        4 => {
            let spice = SPICES[random.below(SPICES.len())];
            if let Some((name, _)) = lines[at].split_once(':') {
                lines[at] = format!("{name}: {spice}");
            }
        }
        5 => lines[at] = lines[at].replacen(' ', "\r\n ", 1),
        6 => lines[at] = lines[at].to_ascii_uppercase(),
        _ => {
            let number = NUMBERS[random.below(NUMBERS.len())];
            let digits = lines[at].find(|c: char| c.is_ascii_digit());
            if let Some(begin) = digits {
                let rest = lines[at][begin..].trim_start_matches(|c: char| c.is_ascii_digit());
                lines[at] = format!("{}{number}{rest}", &lines[at][..begin]);
            }
        }
    }
    *bytes = lines.join("\r\n").into_bytes();
}

/// Audio, key events, comfort noise, extensions; reports; STUN, DTLS and nothing.
pub(crate) fn packet_seeds() -> Vec<Vec<u8>> {
    let rtp = |first: u8, payload_type: u8, rest: &[u8]| {
        [
            &[first, payload_type, 0, 9, 0, 0, 0, 160, 0, 0, 0, 7][..],
            rest,
        ]
        .concat()
    };
    let stun = [
        &[0, 1, 0, 8, 0x21, 0x12, 0xA4, 0x42][..],
        &[7; 12],
        &[0, 6, 0, 3, b'a', b':', b'b', 0],
    ]
    .concat();
    vec![
        rtp(0x80, 0, &[0xff; 160]),
        rtp(0x80, 8, &[0xd5; 160]),
        rtp(0x80, 9, &[0x7c; 160]),
        rtp(0x80, 96, &[0xf8, 0xff, 0xfe]),
        rtp(0x80, 101, &[5, 0x0a, 0, 160]),
        rtp(0x80, 101, &[5, 0x8a, 3, 32]),
        rtp(0x80, 13, &[70]),
        rtp(0x90, 0, &[0xbe, 0xde, 0, 1, 0x10, 0x45, 0, 0, 1, 2, 3, 4]),
        rtp(
            0xb0,
            0,
            &[0, 0, 0, 8, 0xbe, 0xde, 0, 1, 0x10, 0x45, 0, 0, 1, 2, 0, 2],
        ),
        vec![
            0x80, 200, 0, 6, 0, 0, 0, 7, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 160, 0, 0, 0, 9, 0, 0, 1,
            0,
        ],
        vec![
            0x81, 201, 0, 7, 0, 0, 0, 7, 0, 0, 0, 9, 26, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, 9, 0, 0, 0,
            0, 0, 0, 0, 0, 0x81, 202, 0, 2, 0, 0, 0, 7, 1, 1, b'a', 0,
        ],
        vec![0x81, 203, 0, 1, 0, 0, 0, 7],
        vec![0x81, 204, 0, 2, 0, 0, 0, 7, b'n', b'a', b'm', b'e'],
        stun,
        vec![22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0],
        Vec::new(),
    ]
}

const SPICES: &[&str] = &[
    "\r\n",
    "\r\n\r\n",
    "\n",
    "\r",
    "\0",
    "\"",
    "<",
    ">",
    ";",
    ",",
    ":",
    "=",
    "%",
    "%00",
    "[",
    "]",
    "@",
    "\\",
    " ",
    "\t",
    "\u{e9}",
    "\u{1e}",
    "sip:",
    "sips:a@[::1]:5061",
    "tel:+390612345678",
    "<sip:a@b>;tag=",
    "z9hG4bK",
    "timer",
    "100rel",
    "SIP/2.0",
    "application/sdp",
    "inline:",
    "a=rtpmap:0 PCMU/8000",
    "m=audio 1 RTP/AVP 0",
    "c=IN IP6 ::1",
    "FREQ=YEARLY;COUNT=3",
    "true",
    "\"\"\"",
    "[[",
    "null",
    "{}",
    "xxxxxxxxxxxxxxxx",
];

const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "00000000000",
    "90",
    "255",
    "256",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775808",
    "18446744073709551616",
    "1e9",
    "0x7f",
    "99999999999999999999999999999",
];

/// In an input of several.
const BETWEEN_MESSAGES: u8 = 0x1e;
