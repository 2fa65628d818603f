//! The engine: dedicated threads that own sockets, legs and bridges.
//!
//! [`Control`] is the control side's only door. It is owned by one task (the gateway), holds the
//! producing ends of the command rings and the consuming ends of the event rings, and keeps a
//! backlog where a ring is full: a command or a key is never dropped, only telemetry may be.

