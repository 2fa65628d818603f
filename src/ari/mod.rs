//! ARI, the Asterisk REST Interface, without I/O: what the websocket says goes in, requests and news of
//! callers come out.
//!
//! 1. `event`: what Asterisk says, as far as it matters here
//! 2. `request`: what Asterisk is asked; whether REST goes over the same websocket or over HTTP is the shell's affair
//! 3. `link`: is the connection there, does the other end still live
//! 4. `caller`: one caller's way into a bridge with his media, step by step; `endpoint::dial` is that of one whom we call
//! 5. [`Endpoint`]: one Asterisk: the steps of all callers, and order after the connection was away
//!
//! Driven like [`crate::sip::Endpoint`]: after each `handle_…` and each method that asks for something drain
//! `poll_transmit` and `poll_event`, then ask `poll_timeout` when to call `handle_timeout`.

mod caller;
mod counters;
mod endpoint;
pub(crate) mod event;
mod link;
pub(crate) mod request;
#[cfg(test)]
mod simulation;

pub use counters::AriCounters;
pub use endpoint::{AriEvent, Asked, CallerId, Dial, Endpoint, EndpointConfig, Transmit};
pub use event::IncomingCaller;
pub use request::Request;
