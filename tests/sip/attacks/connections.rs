//! Connections by the thousand that say nothing, or say it a letter at a time.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;
use socket2::{Domain, Socket, Type};

use crate::asterisk_life::wait_until;
use crate::listeners::Listeners;
use crate::resilience::options;
use crate::server::{Server, open_many_files};
use crate::wire::Target;

#[test]
fn connections_that_say_nothing_are_few_by_source_and_soon_closed() {
    open_many_files();
    let server = Server::start_quiet("");
    let meeting = server.book(&json!({}));
    let listeners = Listeners::join(&server, &meeting, 2);
    let opened = Instant::now();
    let mut silent = Host::opening(1, server.sip_port);
    let mut without_handshake = Host::opening(2, server.tls_port);
    let mut slow = Host::opening(3, server.sip_port);
    let asks_in_vain = options("Content-Length: 0\r\n");
    let mut letters = asks_in_vain.bytes();

    sleep(Duration::from_millis(500));
    for host in [&mut silent, &mut without_handshake, &mut slow] {
        let open = host.count_open();
        assert!((1..=PER_SOURCE).contains(&open), "{open} are open");
    }
    assert_a_call_is_answered_at_once(&server);
    while silent.count_open() + without_handshake.count_open() + slow.count_open() > 0 {
        let time = opened.elapsed();
        assert!(time < HANDSHAKE + UNTIL_TAKEN, "open for {time:?}");
        slow.say(letters.next().expect("it takes longer than that"));
        sleep(Duration::from_millis(200));
    }
    assert_a_call_is_answered_at_once(&server);

    listeners.finish(&server).expect_undisturbed();
    let refused = |reason: &str| {
        server.metric(&format!(
            "voicebridge_admission_refused_total{{reason=\"{reason}\"}}"
        ))
    };
    wait_until("counted", Duration::from_secs(5), || {
        refused("connections") >= 3 * (CONNECTIONS - PER_SOURCE) as u64
            && refused("tls_handshakes") >= 1
            && refused("stream without messages") >= 1
    });
}

/// By somebody from another address, by TCP.
fn assert_a_call_is_answered_at_once(server: &Server) {
    let address = SocketAddr::from(([127, 0, 0, 1], server.sip_port));
    let target = Target {
        address,
        server: None,
    };
    let began = Instant::now();
    let mut wire = target.tcp();
    let call = wire.call("v=0", &[]);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(1), "answered after {took:?}");
    wire.hang_up(&call);
}

/// One address that all these connections come from.
struct Host(Vec<TcpStream>);

impl Host {
    fn opening(number: u8, port: u16) -> Self {
        let from = SocketAddr::from((Ipv4Addr::new(127, 0, 3, number), 0));
        let to = SocketAddr::from(([127, 0, 0, 1], port));
        let open = |_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            socket.bind(&from.into()).expect("an address");
            socket.connect(&to.into()).expect("connected");
            socket.set_nonblocking(true).expect("set");
            TcpStream::from(socket)
        };
        Self((0..CONNECTIONS).map(open).collect())
    }

    /// Those that the other side hasn't closed.
    fn count_open(&mut self) -> usize {
        self.0.retain_mut(|stream| {
            let read = stream.read(&mut [0; 512]);
            read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
        });
        self.0.len()
    }

    fn say(&mut self, letter: u8) {
        for stream in &mut self.0 {
            // It may have been closed meanwhile.
            let _sent = stream.write(&[letter]);
        }
    }
}

const CONNECTIONS: usize = 1_000;
/// What the node takes from one address: as many as it has calls from there (`limits.calls_per_source`).
const PER_SOURCE: usize = 100;
/// What it waits for the first word, the end of a handshake, or of a message.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// All of them are opened before the node gets to the last one.
const UNTIL_TAKEN: Duration = Duration::from_secs(5);
