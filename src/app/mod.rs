//! The only place that knows all: the command line, build order, drain, shutdown order.

pub mod cli;
