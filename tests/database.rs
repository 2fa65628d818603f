//! The built program and its PostgreSQL: how it is reached, and what it costs when it is away.

#![allow(
    clippy::disallowed_methods,
    reason = "tests of the running program read the clock"
)]

#[path = "sip/ports.rs"]
mod ports;
#[path = "support/postgres.rs"]
mod postgres;
#[allow(dead_code, reason = "the other tests of the program use the rest")]
#[path = "sip/server.rs"]
mod server;

#[path = "database/encryption.rs"]
mod encryption;
#[path = "database/outage.rs"]
mod outage;
