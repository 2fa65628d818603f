//! Ports for whoever a test starts. None is given out twice, and all lie below those that the system gives
//! to whoever asks for any: between being chosen here and being bound nobody else can take one.

use std::net::{TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

/// One for UDP and TCP.
pub(crate) fn port() -> u16 {
    ports(1)
}

/// The first of so many in a row, an even one (RTP and RTCP go in pairs, RFC 3550 section 11).
pub(crate) fn ports(count: u16) -> u16 {
    loop {
        let first = NEXT.fetch_add(count.next_multiple_of(2), Ordering::Relaxed);
        assert!(
            first < END - count,
            "the tests want more ports than there are"
        );
        if (first..first + count).all(is_free) {
            return first;
        }
    }
}

fn is_free(port: u16) -> bool {
    let address = ("127.0.0.1", port);
    UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok()
}

static NEXT: AtomicU16 = AtomicU16::new(6_000);
/// Linux gives out 32,768 and above.
const END: u16 = 32_768;
