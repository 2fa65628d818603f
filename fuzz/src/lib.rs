//! What is fuzzed: every reader of bytes from a network, a file or a user, and the call state machine.
//!
//! `make fuzz TARGET=... SECONDS=...` runs one; `tests/corpus.rs` replays what lies in `corpus/` in every
//! `make test`. A target panics where something is wrong, and returns otherwise.

mod calls;
mod handshake;
mod media;
mod sip;
mod words;

pub use calls::{ari_messages, call_events};
pub use handshake::handshake_packets;
pub use media::{Phone, rtp_packets, srtp_packets};
pub use sip::{Node, sdp_answers, sdp_offers, sip_datagrams, sip_registrar, sip_stream};
pub use words::{configuration, recurrences, single_words};

/// One of them.
pub type Target = fn(&[u8]);

/// All, by the names of their corpora.
pub const TARGETS: &[(&str, Target)] = &[
    ("sip_datagrams", sip_datagrams),
    ("sip_stream", sip_stream),
    ("sip_registrar", sip_registrar),
    ("sdp_offers", sdp_offers),
    ("sdp_answers", sdp_answers),
    ("rtp_packets", rtp_packets),
    ("srtp_packets", srtp_packets),
    ("handshake_packets", handshake_packets),
    ("ari_messages", ari_messages),
    ("call_events", call_events),
    ("configuration", configuration),
    ("recurrences", recurrences),
    ("single_words", single_words),
];

/// Between the messages of one input.
const RECORD: u8 = 0x1e;

fn records(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    data.split(|byte| *byte == RECORD)
}

/// A place to count time from.
#[allow(clippy::disallowed_methods, reason = "only a place to count from")]
fn start() -> std::time::Instant {
    std::time::Instant::now()
}
