//! SIP without sockets or clocks (RFC 3261): bytes and `now` in, messages, timers and events out.
//!
//! The way of a message, from the wire inwards:
//!
//! 1. `framing`: messages out of a TCP stream
//! 2. `guard`: sizes, lines, encoding, Content-Length; what the parser gets is harmless
//! 3. `message` (with `address`): the parser's only adapter; requests and responses as we see them
//! 4. `transaction`: the four machines of RFC 3261 section 17: duplicates, retransmissions, time-outs
//! 5. `dialog`: the state of one call's signalling
//! 6. `endpoint`: all of them together, behind one set of `handle_*`, actions and `poll_*`
//!
//! `registration` makes us known to a trunk's registrar, `digest` answers its challenges, `doorkeeper` challenges those who call us.
//! `provisional` repeats answers that must arrive before the final one, `early` knows what those say at whom a call of ours rings. `session` says whose turn it is to show that a call lives. `compose` writes what goes out, `sdp` reads and writes offers and answers, `connection` whereto, `sdes` their keys, `formats` what their payload types stand for, `extmap` their header
//! extensions, `limits` says how much a source may ask for, `strangers` how much may be sent to it. `locate` says where a name leads (RFC 3263).

mod address;
mod compose;
pub mod connection;
mod dialog;
mod digest;
pub mod dtls;
mod doorkeeper;
pub mod dtmf_info;
mod early;
pub mod endpoint;
pub mod event;
mod extmap;
mod fmtp;
mod formats;
mod framing;
mod guard;
pub(crate) mod limits;
pub mod locate;
mod message;
mod provisional;
mod registration;
pub mod sdp;
pub mod sdes;
mod service_route;
mod session;
mod strangers;
mod timers;
mod token;
mod transaction;

pub use digest::Credentials;
pub use doorkeeper::Proof;
pub use endpoint::{
    Counters, Endpoint, EndpointConfig, InviteError, QualifySettings, RegistrarSettings, SipLimits,
    TrunkReach, TrunkSettings,
};
pub use registration::Refused;
pub use transaction::Timing;
