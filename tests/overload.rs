//! A node without time to spare refuses new calls, and says why wherever somebody may look.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;

use voicebridge::booking::{BookingSettings, Bookings, Outcome, SqlStore};
use voicebridge::call::roster::{LiveCalls, Readiness};
use voicebridge::call::{CallLimits, Phrase, Speaker};
use voicebridge::config::Config;
use voicebridge::engine::{Control, EngineConfig};
use voicebridge::media::clip::Rendition;
use voicebridge::media::codec::Codec;
use voicebridge::signalling::{self, GatewaySettings, Parts, Resolver, Running};
use voicebridge::units::Voice;

/// Has nothing to say: no call gets that far.
struct Mute;

impl Speaker for Mute {
    fn say(&self, _: &Voice, _: &[Phrase], _: Codec) -> Vec<Arc<Rendition>> {
        Vec::new()
    }

    fn music(&self, _: &Voice, codec: Codec) -> Arc<Rendition> {
        Arc::new(Rendition {
            codec,
            payload: Box::default(),
            frame_ends: Box::default(),
            pcm: Box::default(),
        })
    }
}

async fn node(busy_max: f32, ports: std::ops::RangeInclusive<u16>) -> (Running, Bookings) {
    let folder = tempfile::tempdir().unwrap();
    let store = SqlStore::sqlite(&folder.path().join("v.db")).await.unwrap();
    let bookings = Bookings::new(BookingSettings::default(), Arc::new(store)).unwrap();
    let engine = Control::start(EngineConfig {
        address: "127.0.0.1".parse().unwrap(),
        ports,
        busy_max,
        ..EngineConfig::default()
    });
    let parts = Parts {
        settings: GatewaySettings::new(&Config::default(), CallLimits::default()),
        listen: vec!["udp:127.0.0.1:0".parse().unwrap()],
        tls: None,
        advertise: Default::default(),
        trunks: Vec::new(),
        resolver: Resolver::new(&[]),
        asterisks: Vec::new(),
        bookings: bookings.clone(),
        speaker: Arc::new(Mute),
        engine: engine.unwrap(),
        seed: 7,
    };
    (signalling::start(parts).await.unwrap(), bookings)
}

/// The final answer to an INVITE.
async fn invite(running: &Running) -> String {
    let phone = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (here, there) = (phone.local_addr().unwrap(), running.addresses[0]);
    let sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
    let request = format!(
        "INVITE sip:7000@{there} SIP/2.0\r\nVia: SIP/2.0/UDP {here};branch=z9hG4bK-overload\r\n\
         Max-Forwards: 70\r\nFrom: <sip:caller@{here}>;tag=1\r\nTo: <sip:7000@{there}>\r\n\
         Call-ID: overload@{here}\r\nCSeq: 1 INVITE\r\nContact: <sip:caller@{here}>\r\n\
         Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
        sdp.len()
    );
    phone.send_to(request.as_bytes(), there).await.unwrap();
    let mut buffer = [0; 4_000];
    loop {
        let received = tokio::time::timeout(Duration::from_secs(10), phone.recv(&mut buffer));
        let length = received.await.expect("answered").unwrap();
        let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if !answer.starts_with("SIP/2.0 1") {
            return answer;
        }
    }
}

/// Once the gateway has drawn its first picture of itself.
async fn readiness(running: &Running) -> Readiness {
    for _ in 0..100 {
        if running.handle.readiness() != Readiness::Closed {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    running.handle.readiness()
}

#[tokio::test]
async fn a_call_too_many_is_told_to_come_again_later() {
    let (running, bookings) = node(0.0, 28_000..=28_019).await;
    assert_eq!(readiness(&running).await, Readiness::Overloaded);
    let answer = invite(&running).await;
    assert!(answer.starts_with("SIP/2.0 503 "), "{answer}");
    assert!(answer.contains("\r\nRetry-After: "), "{answer}");
    running.handle.shut_down().await;
    running.finished.await.unwrap();
    let ended = bookings.calls_by_outcome();
    assert!(ended.contains(&(Outcome::Overload, 1)), "{ended:?}");
}

#[tokio::test]
async fn the_refusals_are_counted_by_their_reason() {
    let (running, _bookings) = node(0.0, 28_020..=28_039).await;
    assert_eq!(readiness(&running).await, Readiness::Overloaded);
    invite(&running).await;
    let counted = || running.handle.gauges().admission_refused;
    for _ in 0..100 {
        if counted().contains(&("overload", 1)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(counted().contains(&("overload", 1)), "{:?}", counted());
}

#[tokio::test]
async fn a_node_with_time_to_spare_answers() {
    let (running, _bookings) = node(0.7, 28_040..=28_059).await;
    assert_eq!(readiness(&running).await, Readiness::Open);
    let answer = invite(&running).await;
    assert!(answer.starts_with("SIP/2.0 200 "), "{answer}");
    let refused = running.handle.gauges().admission_refused;
    assert!(refused.iter().all(|(reason, _)| *reason != "overload"));
}
