//! Handshakes for keys, and the checks before them, with callers who may be anybody.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use voicebridge::handshake::{
    CREDENTIALS_BYTES, Credentials, Handshake, Identity, Output, Peer, Role, Whereabouts,
};

use super::start;

/// The first byte says whether the caller checks, and who begins. Then, each: what is done, how long what
/// follows is (two bytes), and that.
pub fn handshake_packets(data: &[u8]) {
    let (how, mut rest) = data.split_first().unwrap_or((&0, &[]));
    let mut call = Call::new(how & 1 == 1, how & 2 == 2);
    for _ in 0..128 {
        let [what, high, low, more @ ..] = rest else {
            return;
        };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (packet, after) = more.split_at_checked(length).unwrap_or((more, &[]));
        rest = after;
        match what % 4 {
            0 => call.ours.handle_packet(call.now, phone(), packet),
            1 => call.ours.handle_packet(call.now, stranger(), packet),
            2 => call.wait(Duration::from_millis(length as u64)),
            _ => {}
        }
        call.exchange(what / 4 % 2 == 1, packet);
    }
}

struct Call {
    now: Instant,
    ours: Handshake,
    phone: Handshake,
    checks: bool,
}

fn phone() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 7], 4_000))
}

fn stranger() -> SocketAddr {
    SocketAddr::from(([203, 0, 113, 66], 4_000))
}

fn node() -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 1], 20_000))
}

fn identities() -> &'static [Identity; 2] {
    static BOTH: OnceLock<[Identity; 2]> = OnceLock::new();
    BOTH.get_or_init(|| [(); 2].map(|()| Identity::generate().expect("random numbers")))
}

impl Call {
    fn new(checks: bool, we_begin: bool) -> Self {
        let now = start();
        let [own, theirs] = identities();
        let credentials = |of| Credentials::new(&[of; CREDENTIALS_BYTES]);
        let roles = match we_begin {
            true => [Role::Active, Role::Passive],
            false => [Role::Passive, Role::Active],
        };
        let side = |own: &Identity, peer: &Identity, ours, there, ice| {
            let peer = Peer {
                fingerprints: vec![peer.fingerprint().clone()],
                ours,
                ice,
            };
            let whereabouts = Whereabouts {
                described: there,
                signalling: None,
            };
            let mut side = Handshake::new(own, peer, &credentials(1), whereabouts);
            side.answered(now);
            side
        };
        let ice = checks.then(|| credentials(2));
        Self {
            now,
            ours: side(own, theirs, roles[0], phone(), ice),
            phone: side(theirs, own, roles[1], node(), None),
            checks,
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        for side in [&mut self.ours, &mut self.phone] {
            if side.poll_timeout().is_some_and(|at| at <= self.now) {
                side.handle_timeout(self.now);
            }
        }
    }

    /// What each side says to the other; the phone's with something changed, where that is asked for.
    fn exchange(&mut self, changed: bool, by: &[u8]) {
        while let Some(output) = self.ours.poll_output() {
            if let Output::Send { to, datagram } = output {
                // Who knows the password may be anywhere.
                assert!(self.checks || to != stranger(), "a stranger is answered");
                self.phone.handle_packet(self.now, node(), &datagram);
            }
        }
        while let Some(output) = self.phone.poll_output() {
            if let Output::Send { mut datagram, .. } = output {
                for (byte, change) in datagram.iter_mut().zip(by).filter(|_| changed) {
                    *byte ^= change;
                }
                self.ours.handle_packet(self.now, phone(), &datagram);
            }
        }
    }
}
