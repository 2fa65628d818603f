//! The built program on the wire: sipp plays the caller, the API says what became of it.

#![allow(
    clippy::disallowed_methods,
    reason = "tests of the running program read the clock"
)]

mod asterisk;
mod asterisk_check;
mod asterisk_hold;
mod asterisk_http;
mod asterisk_life;
mod asterisk_load;
mod asterisk_moving;
mod asterisk_nodes;
mod attacks;
mod bare_phone;
mod baresip;
mod client;
mod conformance;
mod crowd;
mod dialogs;
mod dialling;
mod dialplans;
mod dtls;
mod events;
mod families;
mod guessing;
mod interop;
mod kamailio;
mod listeners;
mod locating;
mod mutations;
mod mutual_tls;
mod neighbours;
mod one_way;
mod outcomes;
mod ports;
mod proving;
mod rate;
mod resilience;
mod server;
mod sipp;
mod switch;
mod tls;
mod torture;
mod trunk_calls;
mod trunks;
mod wire;
#[path = "../support/changed.rs"]
mod changed;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../seeded/mod.rs"]
mod seeded;
#[allow(dead_code, reason = "the load test uses the rest")]
#[path = "../support/witnesses.rs"]
mod witnesses;
