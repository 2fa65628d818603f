//! Changed messages at the node's sockets, and changed packets at a call's port, beside people in a meeting: nobody
//! notices, nothing waits for long, nothing is kept, and the next call is taken.

#![allow(clippy::print_stdout, reason = "what was measured is told")]

use std::net::UdpSocket;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::asterisk_life::wait_until;
use crate::changed::{change_bytes, changed, message_seeds, packet_seeds};
use crate::listeners::Listeners;
use crate::seeded::Random;
use crate::server::{Meeting, Server};
use crate::wire::{OFFER, Target, Wire};

#[test]
fn changed_messages_and_packets_on_the_wire_are_noticed_by_nobody() {
    run(20_000);
}

#[test]
#[ignore = "takes minutes: a measurement, for a quiet machine"]
fn a_million_changed_messages_and_a_million_changed_packets_on_the_wire() {
    let told = run(1_000_000);
    assert!(told.worst < HANG, "{told:?}");
    assert!(told.kib_late < told.kib_early + GROWTH_KIB_MAX, "{told:?}");
}

/// What a run has seen.
#[derive(Debug)]
#[expect(dead_code, reason = "some are there to be printed")]
struct Told {
    /// The longest that an OPTIONS waited behind a batch of messages.
    worst: Duration,
    messages_took: Duration,
    packets_took: Duration,
    /// Resident after a tenth of the messages, and in the end.
    kib_early: u64,
    kib_late: u64,
    packets_refused: u64,
}

fn run(count: u32) -> Told {
    let server = Server::start_for(CALLS, &format!("{CONFIG}limits.calls = {CALLS}\n"));
    let meeting = server.book(&json!({}));
    let listeners = Listeners::join(&server, &meeting, 3);
    let target = Target::of(server);
    let server = target.server.as_ref().expect("our own");
    let began = Instant::now();
    send_packets(&target, &meeting, count);
    let packets_took = began.elapsed();
    let (mut kib_early, began) = (0, Instant::now());
    let worst = send_messages(&target, count, || kib_early = server.resident_kib());
    let messages_took = began.elapsed();
    let stays = listeners.finish(server);
    wait_until("packets were refused", Duration::from_secs(10), || {
        refused(server) > 0
    });
    // What a changed INVITE began is given up after 32 s, and its BYE 32 s later.
    if count > FEW {
        let tables = ["voicebridge_sip_dialogs", "voicebridge_sip_transactions"];
        wait_until("empty", Duration::from_secs(100), || {
            sleep(Duration::from_secs(1));
            tables.iter().all(|name| server.metric(name) == 0)
        });
        sleep(GIVEN_BACK);
    }
    let told = Told {
        worst,
        messages_took,
        packets_took,
        kib_early,
        kib_late: server.resident_kib(),
        packets_refused: refused(server),
    };
    println!("{told:#?}\n{stays:#?}");
    stays.expect_undisturbed();
    target.takes_a_call();
    told
}

/// By datagrams, and one batch in four over a connection; how long an OPTIONS waited at most behind one.
fn send_messages(target: &Target, count: u32, mut after_a_tenth: impl FnMut()) -> Duration {
    let (seeds, mut random) = (message_seeds(), Random::new(17));
    let (mut sender, mut watch) = (target.udp(), target.udp());
    let mut worst = Duration::ZERO;
    for batch in 0..count / BATCH {
        let mut over_stream = (batch % 4 == 0).then(|| target.tcp());
        for _ in 0..BATCH {
            let message = unlike(changed(&mut random, &seeds), random.next());
            match &mut over_stream {
                Some(stream) => stream.send(&message),
                None => sender.send(&message),
            }
        }
        let asked = Instant::now();
        watch.catch_up(|_| ());
        worst = worst.max(asked.elapsed());
        if batch == count / BATCH / 10 {
            after_a_tenth();
        }
    }
    worst
}

/// With a branch of its own, not to be taken for the last one's repetition.
fn unlike(message: Vec<u8>, number: u32) -> Vec<u8> {
    match String::from_utf8(message) {
        Ok(text) => text
            .replacen(COOKIE, &format!("{COOKIE}{number}"), 1)
            .into_bytes(),
        Err(strange) => strange.into_bytes(),
    }
}

/// To calls of each codec, from where their audio comes from.
fn send_packets(target: &Target, meeting: &Meeting, count: u32) {
    let mut wire = target.udp();
    let mut calls: Vec<Call> = CODECS
        .iter()
        .map(|codec| Call::begin(&mut wire, meeting, codec))
        .collect();
    let (seeds, mut random) = (packet_seeds(), Random::new(19));
    for number in 0..count {
        let mut packet = seeds[random.below(seeds.len())].clone();
        for _ in 0..random.below(4) {
            change_bytes(&mut random, &mut packet);
        }
        let call = &calls[number as usize % CODECS.len()];
        let port = call.port + u16::from(random.below(8) == 0);
        // What there is no room for was one packet less.
        let _sent = call.audio.send_to(&packet, ("127.0.0.1", port));
        if number % BATCH == 0 {
            sleep(BETWEEN_BATCHES);
        }
    }
    for call in &mut calls {
        call.hears();
        wire.hang_up(&call.ok);
    }
}

/// One that is in the meeting.
struct Call {
    audio: UdpSocket,
    port: u16,
    ok: crate::wire::Answer,
}

impl Call {
    fn begin(wire: &mut Wire, meeting: &Meeting, codec: &str) -> Self {
        let audio = UdpSocket::bind("127.0.0.1:0").expect("a port");
        audio.set_read_timeout(Some(HEARD_WITHIN)).expect("set");
        let here = audio.local_addr().expect("bound").port();
        let offer = OFFER.replace(
            "audio 9 RTP/AVP 0 8 101",
            &format!("audio {here} RTP/AVP {codec}"),
        );
        let ok = wire.call(&offer, &[&format!("X-Conf-PIN: {}", meeting.guest)]);
        let line = ok
            .body()
            .lines()
            .find_map(|line| line.strip_prefix("m=audio "));
        let port = line.and_then(|line| line.split(' ').next()?.parse().ok());
        Self {
            audio,
            port: port.expect("audio in the answer"),
            ok,
        }
    }

    /// Is audio still sent to it?
    fn hears(&self) {
        let mut buffer = [0; 2_000];
        // What has been waiting since the beginning is no sign of it.
        self.audio.set_nonblocking(true).expect("set");
        while self.audio.recv(&mut buffer).is_ok() {}
        self.audio.set_nonblocking(false).expect("set");
        assert!(
            self.audio.recv(&mut buffer).is_ok(),
            "nothing is sent to it any more"
        );
    }
}

/// Packets of all calls, for whatever reason.
fn refused(server: &Server) -> u64 {
    let all = server.metrics();
    let lines = all.lines().filter(|line| line.starts_with(REFUSED));
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

const REFUSED: &str = "voicebridge_media_packets_refused_total{";
/// Nothing that is changed is to be refused for where it comes from.
const CONFIG: &str = "sip.trusted = [\"127.0.0.0/8\"]\n";
/// More than changed INVITEs begin in every run.
const CALLS: u16 = 600;
const CODECS: [&str; 4] = [
    "0 101",
    "8 13 101",
    "9 101",
    "96 101\r\na=rtpmap:96 opus/48000/2",
];
/// What branches begin with (RFC 3261 section 8.1.1.7).
const COOKIE: &str = "z9hG4bK";
const BATCH: u32 = 50;
/// 20,000 packets a second.
const BETWEEN_BATCHES: Duration = Duration::from_micros(2_500);
const HANG: Duration = Duration::from_millis(100);
const GROWTH_KIB_MAX: u64 = 16 * 1_024;
const GIVEN_BACK: Duration = Duration::from_secs(12);
const HEARD_WITHIN: Duration = Duration::from_secs(2);
/// So many are sent in every run.
const FEW: u32 = 100_000;
