//! Callers by an Asterisk that takes no requests over its websocket: all goes over HTTP, and they notice nothing.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

use serde_json::json;

use crate::asterisk::{Asterisk, text};
use crate::asterisk_life::{
    PATIENT, TALK, all_people, assert_back, assert_only_the_other_is_heard, assert_unchanged,
    gather, is_up, wait_until,
};
use crate::sipp::Scenario;

#[test]
fn two_dozen_callers_by_http_are_back_after_a_kill_and_outlast_a_silent_websocket() {
    let mut asterisk = Asterisk::start();
    asterisk.rest = "http";
    let old = Old::before(asterisk.http);
    let mut server = asterisk.server_by(old.port, PATIENT);
    let (meetings, phones, quiet, before) = gather(&server, &asterisk, 11);

    server.kill_and_restart();
    assert_back(&server, &meetings, &before, "after kill -9");
    asterisk.assert_channels_and_bridges(48, 24);
    old.silent.store(true, Ordering::Relaxed);
    wait_until("seen to be silent", Duration::from_secs(6), || {
        !is_up(&server)
    });
    assert_unchanged(&server, &meetings[0], &before[0], Duration::from_secs(1));
    old.silent.store(false, Ordering::Relaxed);
    wait_until("connected again", Duration::from_secs(6), || is_up(&server));
    sleep(TALK);
    assert_eq!(all_people(&server, &meetings), before);
    assert_only_the_other_is_heard(phones);
    for meeting in &meetings {
        server.delete(&format!("/v1/meetings/{}", meeting.id));
    }
    for calls in quiet {
        calls.finish("told goodbye at the end of the meeting");
    }
    asterisk.assert_nothing_is_left();
    wait_until("all records kept", Duration::from_secs(5), || {
        server.calls().len() == 24
    });
    let records = server.calls();
    assert!(
        records.iter().all(|r| r["outcome"] == "joined"),
        "{records:?}"
    );
    assert_eq!(old.ignored.load(Ordering::Relaxed), 0, "nothing is tried");
    let metrics = server.metrics();
    for event in ["refused", "unanswered", "malformed"] {
        let none = format!("{{name=\"pbx\",event=\"{event}\"}} 0\n");
        assert!(metrics.contains(&none), "{event}");
    }
}

#[test]
fn an_asterisk_that_ignores_requests_over_the_websocket_is_asked_over_http() {
    let asterisk = Asterisk::start();
    let old = Old::before(asterisk.http);
    let server = asterisk.server_by(old.port, "");
    let meeting = server.book(&json!({}));
    let scenario = Scenario::new("uac-right-pin").key("pin", &meeting.guest);
    scenario.by(asterisk.sip).run(&server);
    let call = server.call_after(0);
    assert_eq!(text(&call["outcome"]), "joined", "{call}");
    assert!(server.log().contains("they go over HTTP"));
    assert_eq!(old.ignored.load(Ordering::Relaxed), 1, "one question");
    asterisk.assert_nothing_is_left();
    drop(server);
    // The same Asterisk without that in between has them over the websocket.
    let server = asterisk.server("");
    assert!(!server.log().contains("they go over HTTP"));
}

/// What makes an Asterisk an old one: requests over the websocket vanish before it.
pub(crate) struct Old {
    pub(crate) port: u16,
    /// Messages that vanished.
    ignored: Arc<AtomicUsize>,
    /// Nothing at all passes on websockets.
    silent: Arc<AtomicBool>,
}

impl Old {
    pub(crate) fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let old = Self {
            port: listener.local_addr().expect("bound").port(),
            ignored: Arc::default(),
            silent: Arc::default(),
        };
        let (ignored, silent) = (Arc::clone(&old.ignored), Arc::clone(&old.silent));
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(("127.0.0.1", port)) else {
                    continue;
                };
                let (ignored, silent) = (Arc::clone(&ignored), Arc::clone(&silent));
                thread::spawn(move || pass(&near, &far, &ignored, silent));
            }
        });
        old
    }
}

fn pass(near: &TcpStream, far: &TcpStream, ignored: &AtomicUsize, silent: Arc<AtomicBool>) {
    let mut from = BufReader::new(near.try_clone().expect("cloned"));
    let mut to = far.try_clone().expect("cloned");
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && from.read_line(&mut head).is_ok_and(|read| read > 0) {}
    let upgrades = head.to_lowercase().contains("upgrade: websocket");
    let wait = move || {
        while upgrades && silent.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(20));
        }
    };
    let waits = wait.clone();
    let (mut back_from, mut back_to) = (
        far.try_clone().expect("cloned"),
        near.try_clone().expect("cloned"),
    );
    thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok(length @ 1..) = back_from.read(&mut buffer) {
            waits();
            if back_to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        let _gone = back_to.shutdown(std::net::Shutdown::Both);
    });
    let mut sent = to.write_all(head.as_bytes());
    if !upgrades {
        let _passed = std::io::copy(&mut from, &mut to);
    }
    while upgrades && sent.is_ok() {
        let Some(frame) = frame(&mut from) else { break };
        wait();
        // RFC 6455 section 5.2: control frames have the highest bit of the opcode.
        if frame[0] & 0x08 == 0 {
            ignored.fetch_add(1, Ordering::Relaxed);
        } else {
            sent = to.write_all(&frame);
        }
    }
    let _gone = to.shutdown(std::net::Shutdown::Both);
}

/// One frame of a client's, whole.
fn frame(from: &mut impl Read) -> Option<Vec<u8>> {
    let mut frame = vec![0; 2];
    from.read_exact(&mut frame).ok()?;
    let extended = match frame[1] & 0x7F {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let mut more = |frame: &mut Vec<u8>, count: usize| {
        let start = frame.len();
        frame.resize(start + count, 0);
        from.read_exact(&mut frame[start..]).ok()
    };
    more(&mut frame, extended)?;
    let length = match extended {
        0 => usize::from(frame[1] & 0x7F),
        _ => frame[2..]
            .iter()
            .fold(0, |sum, byte| sum << 8 | usize::from(*byte)),
    };
    // With its mask.
    more(&mut frame, 4 + length)?;
    Some(frame)
}
