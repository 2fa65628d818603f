//! SIP without sockets or clocks (RFC 3261): bytes and `now` in, messages, timers and events out.

pub mod event;
