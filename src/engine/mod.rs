//! The engine: dedicated threads that own sockets, legs and bridges.
//!
//! [`Control`] is the control side's only door. It is owned by one task (the gateway), holds the
//! producing ends of the command rings and the consuming ends of the event rings, and keeps a
//! backlog where a ring is full: a command or a key is never dropped, only telemetry may be.
//!
//! 1. `control`: what the gateway calls
//! 2. `port`: the control side's end of one thread: rings, backlog, slots
//! 3. `sockets`: RTP and RTCP sockets out of the configured range
//! 4. `shared`: which peer sends to which shared port
//! 5. `thread`: the tick
//! 6. `inlet`: what comes in; by `routes` to its leg, by a `link` to its thread
//! 7. `phases`: which quarter of the frame each leg and bridge has
//! 8. `outlet`: what goes out
//! 9. `io`: the system calls
//! 10. `health`: what a thread counts about itself
//! 11. `load`: can they take more
//! 12. `memory`: gives back what ended calls took
//! 13. `sound`: how voices are treated: makes what that takes
//! 14. `config`: how it is set up, and what can't be done

mod config;
mod control;
mod health;
mod inlet;
mod io;
mod link;
mod load;
mod memory;
mod outlet;
mod phases;
mod port;
mod routes;
mod shared;
mod sockets;
mod sound;
mod thread;

pub use config::{EngineConfig, EngineError};
pub use control::{Control, OpenedLeg};
pub use health::{LATENESS_BOUNDS, ThreadHealth};
pub use load::Overload;
pub use shared::KnownPeer;
pub use thread::MediaThread;

pub use crate::media::command::{EngineEvent, LegKind, LegReport};

#[cfg(test)]
mod interleavings;
#[cfg(test)]
mod tests;
