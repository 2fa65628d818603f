//! How an engine is set up, and what it can't do.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::media::codec::CodecError;
use crate::media::command::LegKind;
use crate::media::receive::ReceiverConfig;

/// How an engine is set up.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// The address its sockets are bound to.
    pub address: IpAddr,
    /// The ports its sockets may have; a leg takes an even one and the next.
    pub ports: RangeInclusive<u16>,
    /// Media threads.
    pub threads: usize,
    /// Without any packet for this long, media is lost.
    pub media_timeout: Duration,
    /// The same while the call is on hold.
    pub hold_timeout: Duration,
    /// Most legs at once, also per bridge.
    pub legs_max: usize,
    /// Share of a core, 0 to 1, above which the least busy thread takes no further call.
    pub busy_max: f32,
    /// May legs whose peer's address is known beforehand share ports?
    pub shared: bool,
    /// Do the threads run before all other work of the machine, where that is allowed?
    pub realtime: bool,
    /// The jitter buffers.
    pub receiver: ReceiverConfig,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            ports: 20_000..=29_999,
            threads: 1,
            media_timeout: Duration::from_secs(30),
            hold_timeout: Duration::from_secs(300),
            legs_max: 1_000,
            busy_max: 0.70,
            shared: false,
            realtime: false,
            receiver: ReceiverConfig::default(),
        }
    }
}

impl EngineConfig {
    /// Most bridges on one thread: one per leg, and as many that are on their way back.
    pub(super) const fn bridges_max(&self) -> usize {
        self.legs_max.saturating_mul(2)
    }
}

/// What [`Control`](super::Control) can't do, by what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The configured port range is used up: widen `media.ports`.
    #[error("no free pair of ports in the media port range")]
    PortsExhausted,
    /// The configured number of legs is reached.
    #[error("no room for another leg")]
    LegsExhausted,
    /// The leg is closed, or never was.
    #[error("no such leg")]
    UnknownLeg,
    /// Another leg on the same port has this peer.
    #[error("another call has media from the same address")]
    PeerTaken,
    /// Reserved for later.
    #[error("legs of kind {0:?} are not supported yet")]
    Unsupported(LegKind),
    /// A codec could not be made.
    #[error("a codec could not be made: {0}")]
    Codec(#[from] CodecError),
    /// A socket, thread or random number could not be had.
    #[error("media input/output: {0}")]
    Io(#[from] io::Error),
}
