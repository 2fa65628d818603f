//! The built program on the wire: sipp plays the caller, the API says what became of it.

mod outcomes;
mod resilience;
mod server;
mod sipp;
