//! Ports for whoever a test starts. None is given out twice until all were once, which no test lasts for, and
//! all lie below those that the system gives to whoever asks for any: between being chosen here and being bound
//! nobody else can take one.

use std::net::{TcpListener, UdpSocket};
use std::sync::{Mutex, PoisonError};

/// One for UDP and TCP.
pub(crate) fn port() -> u16 {
    ports(1)
}

/// The first of so many in a row, an even one (RTP and RTCP go in pairs, RFC 3550 section 11).
pub(crate) fn ports(count: u16) -> u16 {
    let mut free = (0..TRIES).map(|_| next(count));
    let found = free.find(|first| (*first..first + count).all(is_free));
    found.expect("somebody has all ports")
}

fn next(count: u16) -> u16 {
    let count = count.next_multiple_of(2);
    let mut next = NEXT.lock().unwrap_or_else(PoisonError::into_inner);
    let first = if *next + count > END { FIRST } else { *next };
    *next = first + count;
    first
}

fn is_free(port: u16) -> bool {
    let address = ("127.0.0.1", port);
    UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok()
}

static NEXT: Mutex<u16> = Mutex::new(FIRST);
const FIRST: u16 = 6_000;
/// Linux gives out 32,768 and above.
const END: u16 = 32_768;
const TRIES: usize = 10_000;
