//! voicebridge: a telephone gateway for booked meetings.
//!
//! The map, in the order of dependency: a module may import only what stands above it
//! (`tests/architecture.rs` checks that).

pub mod units;
mod token_bucket;
pub mod config;
pub mod media;
pub mod handshake;
pub mod booking;
pub mod sip;
pub mod ari;
pub mod call;
pub mod engine;
pub mod signalling;
pub mod webhooks;
pub mod api;
pub mod prompts;
pub mod probe;
pub mod app;
