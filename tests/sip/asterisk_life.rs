//! What callers by Asterisk notice when one of the two sides dies, hangs or is cut off: nothing, or one end.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::asterisk::{Asterisk, text};
use crate::baresip::{LEVEL_ERROR_DB, PCMA, PCMU, Phone, SENT_DBFS, SEPARATION_DB, Voice};
use crate::outcomes::wait_for_participants;
use crate::server::{Meeting, Server};
use crate::sipp::{Running, Scenario};

#[test]
fn callers_by_asterisk_are_back_in_their_meetings_whatever_becomes_of_the_process() {
    let asterisk = Asterisk::start();
    let mut server = asterisk.server(PATIENT);
    let (meetings, phones, quiet, before) = gather(&server, &asterisk, 4);

    server.kill_and_restart();
    assert_back(&server, &meetings, &before, "after kill -9");
    let adopted = "voicebridge_asterisk_events_total{name=\"pbx\",event=\"adopted\"} 10";
    wait_until("all counted", Duration::from_secs(2), || {
        server.metrics().contains(adopted)
    });
    let (_, success) = server.terminate();
    assert!(success);
    let channels = asterisk.cli("core show channels");
    let with_music = channels.matches("Announcer/ARI_MOH").count() / 2;
    assert_eq!(with_music, 10, "nobody is left in silence: {channels}");
    server.start_again();
    assert_back(&server, &meetings, &before, "after SIGTERM and a start");

    let database = server.database();
    let second = asterisk.server(&format!(
        "database.url = \"sqlite:{}\"\n{PATIENT}",
        database.display()
    ));
    assert_back(
        &second,
        &meetings,
        &before,
        "with another process of the same name",
    );
    wait_until("in one process only", Duration::from_secs(3), || {
        let mut ids = meetings.iter().map(|meeting| &meeting.id);
        ids.all(|id| people(&server, id).is_empty())
    });
    // Back for good: one sweep later they are still there, and nothing is there twice.
    sleep(TALK);
    assert_back(&second, &meetings, &before, "and they stay");
    asterisk.assert_channels_and_bridges(20, 10);
    asterisk.assert_ports_are_shared(10);

    assert_only_the_other_is_heard(phones);
    for meeting in &meetings {
        second.delete(&format!("/v1/meetings/{}", meeting.id));
    }
    for calls in quiet {
        calls.finish("told goodbye at the end of the meeting");
    }
    asterisk.assert_nothing_is_left();
    wait_until("all records kept", Duration::from_secs(5), || {
        second.calls().len() >= 10
    });
    let records = second.calls();
    let mut participants: Vec<&str> = records.iter().map(|r| text(&r["participant_id"])).collect();
    participants.sort_unstable();
    participants.dedup();
    assert_eq!((records.len(), participants.len()), (10, 10), "{records:?}");
    let complete = |r: &Value| r["outcome"] == "joined" && !text(&r["asterisk_channel"]).is_empty();
    assert!(records.iter().all(complete), "{records:?}");
}

#[test]
#[ignore = "a measurement of a minute and more, for a quiet machine; --ignored --nocapture shows its figures"]
fn a_hundred_callers_in_ten_meetings_are_back_after_each_of_twenty_kills() {
    let asterisk = Asterisk::start();
    let mut server = asterisk.server(PATIENT);
    let meetings: Vec<Meeting> = (0..10).map(|_| server.book(&json!({}))).collect();
    let mut calls = Vec::new();
    for meeting in &meetings {
        // One after the other: all call from one number, and too many of its PINs at once are held back.
        calls.push(stays(&server, &asterisk, meeting, 10));
        wait_for_participants(&server, &meeting.id, 10);
        let muted = &people(&server, &meeting.id)[0];
        steer(&server, meeting, muted, &json!({"muted": true}));
    }
    let before = all_people(&server, &meetings);
    let (mut slowest, mut slowest_from_kill) = (Duration::ZERO, Duration::ZERO);
    for kill in 1..=20 {
        let killed = Instant::now();
        server.kill_and_restart();
        let took = assert_back(&server, &meetings, &before, &format!("kill {kill}"));
        slowest = slowest.max(took);
        slowest_from_kill = slowest_from_kill.max(killed.elapsed());
    }
    eprintln!(
        "the slowest of 20: {slowest:?} from the first answer, {slowest_from_kill:?} from the kill"
    );
    asterisk.assert_channels_and_bridges(200, 100);
    for meeting in &meetings {
        server.delete(&format!("/v1/meetings/{}", meeting.id));
    }
    for call in calls {
        call.finish("told goodbye at the end of the meeting");
    }
    asterisk.assert_nothing_is_left();
    wait_until("all records kept", Duration::from_secs(10), || {
        server.calls().len() == 100
    });
}

#[test]
fn callers_by_asterisk_outlast_a_cut_and_a_hang_and_leave_no_ghosts_when_it_dies() {
    let asterisk = Asterisk::start();
    let wire = Wire::to(asterisk.http);
    let server = asterisk.server_by(wire.port, PATIENT);
    let meeting = server.book(&json!({}));
    let by_asterisk = stays(&server, &asterisk, &meeting, 2);
    let direct = Scenario::new("uac-stays")
        .key("pin", &meeting.guest)
        .start(&server);
    wait_for_participants(&server, &meeting.id, 3);
    let before = people(&server, &meeting.id);

    wire.cut.store(true, Ordering::Relaxed);
    assert_unchanged(&server, &meeting, &before, Duration::from_secs(10));
    assert!(!is_up(&server), "a hung connection is noticed");
    wire.cut.store(false, Ordering::Relaxed);
    wait_until("connected again", Duration::from_secs(6), || is_up(&server));
    assert_unchanged(&server, &meeting, &before, Duration::from_secs(1));

    asterisk.signal("STOP");
    assert_unchanged(&server, &meeting, &before, Duration::from_secs(10));
    assert!(!is_up(&server));
    asterisk.signal("CONT");
    wait_until("connected again", Duration::from_secs(6), || is_up(&server));
    assert_unchanged(&server, &meeting, &before, Duration::from_secs(1));
    asterisk.assert_channels_and_bridges(4, 2);

    asterisk.signal("KILL");
    let killed = Instant::now();
    wait_until(
        "only the direct caller is left",
        Duration::from_secs(5),
        || people(&server, &meeting.id).len() == 1,
    );
    eprintln!(
        "Asterisk killed: its callers were gone after {:?}",
        killed.elapsed()
    );
    assert_eq!(people(&server, &meeting.id)[0]["kind"], "sip");
    by_asterisk.kill();
    asterisk.start_again();
    wait_until("connected again", Duration::from_secs(6), || is_up(&server));
    let again = stays(&server, &asterisk, &meeting, 1);
    wait_for_participants(&server, &meeting.id, 2);
    server.delete(&format!("/v1/meetings/{}", meeting.id));
    for call in [direct, again] {
        call.finish("told goodbye at the end of the meeting");
    }
    asterisk.assert_nothing_is_left();
}

/// Two meetings with so many quiet callers each, and two phones in the first, the first of them muted. One of the
/// second is renamed. With them comes who is in each.
pub(crate) fn gather(
    server: &Server,
    asterisk: &Asterisk,
    quiet: u32,
) -> ([Meeting; 2], [Phone; 2], [Running; 2], Vec<Vec<Value>>) {
    let meetings = [server.book(&json!({})), server.book(&json!({}))];
    let number = format!("2{}", meetings[0].guest);
    let mut phones = VOICES.map(|voice| Phone::calling(server, &voice, asterisk.sip, &number));
    phones[0].dial();
    wait_for_participants(server, &meetings[0].id, 1);
    let muted = &people(server, &meetings[0].id)[0];
    steer(server, &meetings[0], muted, &json!({"muted": true}));
    phones[1].dial();
    let running = meetings
        .each_ref()
        .map(|meeting| stays(server, asterisk, meeting, quiet));
    wait_for_participants(server, &meetings[0].id, quiet as usize + 2);
    wait_for_participants(server, &meetings[1].id, quiet as usize);
    let renamed = &people(server, &meetings[1].id)[0];
    // As long as one may be, of characters that take the most room on the way to Asterisk and back.
    let name = json!({"name": format!("Zoë, \"${{x}}\" {}", "𝄞".repeat(88))});
    steer(server, &meetings[1], renamed, &name);
    let before = all_people(server, &meetings);
    (meetings, phones, running, before)
}

/// Callers without a voice who are there until they are sent away.
pub(crate) fn stays(
    server: &Server,
    asterisk: &Asterisk,
    meeting: &Meeting,
    calls: u32,
) -> Running {
    let number = format!("2{}", meeting.guest);
    Scenario::new("uac-stays")
        .key("pin", "0")
        .number(&number)
        .calls(calls)
        .by(asterisk.sip)
        .start(server)
}

pub(crate) fn steer(server: &Server, meeting: &Meeting, person: &Value, change: &Value) {
    let path = format!(
        "/v1/meetings/{}/participants/{}",
        meeting.id,
        text(&person["id"])
    );
    server.patch(&path, change);
}

/// Everybody in a meeting, by id, with what must outlast a process.
pub(crate) fn people(server: &Server, meeting: &str) -> Vec<Value> {
    let list = server.get(&format!("/v1/meetings/{meeting}/participants"));
    let mut all: Vec<Value> = list["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|person| {
            let kept = [
                "id",
                "name",
                "role",
                "kind",
                "state",
                "number",
                "muted",
                "muted_by",
                "hand",
                "joined_at",
                "codec",
            ];
            kept.map(|name| (name.to_owned(), person[name].clone()))
                .into_iter()
                .collect()
        })
        .collect();
    all.sort_by_key(|person| text(&person["id"]).to_owned());
    all
}

/// Everybody is where he was; how long that took from now.
pub(crate) fn assert_back(
    server: &Server,
    meetings: &[Meeting],
    before: &[Vec<Value>],
    when: &str,
) -> Duration {
    let start = Instant::now();
    loop {
        let now = all_people(server, meetings);
        if now == *before {
            let took = start.elapsed();
            eprintln!("{when}: all were back {took:?} after the API answered");
            return took;
        }
        assert!(
            start.elapsed() < BACK,
            "{when}: {}\ninstead of {}",
            json!(now),
            json!(before),
        );
        sleep(Duration::from_millis(20));
    }
}

pub(crate) fn all_people(server: &Server, meetings: &[Meeting]) -> Vec<Vec<Value>> {
    let all = meetings.iter();
    all.map(|meeting| people(server, &meeting.id)).collect()
}

pub(crate) fn assert_unchanged(
    server: &Server,
    meeting: &Meeting,
    before: &[Value],
    during: Duration,
) {
    let start = Instant::now();
    while start.elapsed() < during {
        assert_eq!(
            people(server, &meeting.id),
            before,
            "after {:?}",
            start.elapsed()
        );
        sleep(Duration::from_millis(250));
    }
}

pub(crate) fn is_up(server: &Server) -> bool {
    server
        .metrics()
        .contains("voicebridge_asterisk_up{name=\"pbx\"} 1")
}

pub(crate) fn wait_until(what: &str, at_most: Duration, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < at_most, "not {what} after {at_most:?}");
        sleep(Duration::from_millis(20));
    }
}

/// Ends their calls. At the end of what they recorded the one who is muted heard the other, and the other
/// heard nobody.
pub(crate) fn assert_only_the_other_is_heard(mut phones: [Phone; 2]) {
    for phone in &mut phones {
        phone.write("\n/quit\n");
    }
    let [heard_by_muted, heard_by_other] = phones.map(|phone| {
        let recording = phone.finish();
        VOICES.map(|voice| recording.level_between(&voice, TALK.as_secs_f64() - 1.0, 0.5))
    });
    eprintln!("heard by the muted {heard_by_muted:.1?}, by the other {heard_by_other:.1?} dBFS");
    let silence = SENT_DBFS - SEPARATION_DB;
    assert!(heard_by_muted[0] < silence && (heard_by_muted[1] - SENT_DBFS).abs() <= LEVEL_ERROR_DB);
    assert!(heard_by_other.iter().all(|level| *level < silence));
}

/// What stands between voicebridge and Asterisk's HTTP server, and can be cut: connections stay, and nothing
/// passes any more.
pub(crate) struct Wire {
    pub(crate) port: u16,
    pub(crate) cut: Arc<AtomicBool>,
}

impl Wire {
    pub(crate) fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let wire = Self {
            port: listener.local_addr().expect("bound").port(),
            cut: Arc::default(),
        };
        let cut = Arc::clone(&wire.cut);
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let far = TcpStream::connect(("127.0.0.1", port));
                // Where nobody listens behind it, nobody listens here.
                let Ok(far) = far else { continue };
                pass_on(&near, &far, &cut);
                pass_on(&far, &near, &cut);
            }
        });
        wire
    }
}

fn pass_on(from: &TcpStream, to: &TcpStream, cut: &Arc<AtomicBool>) {
    let (mut from, mut to) = (
        from.try_clone().expect("cloned"),
        to.try_clone().expect("cloned"),
    );
    let cut = Arc::clone(cut);
    from.set_read_timeout(Some(Duration::from_millis(100)))
        .expect("a timeout");
    thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => {
                    while cut.load(Ordering::Relaxed) {
                        sleep(Duration::from_millis(20));
                    }
                    if to.write_all(&buffer[..length]).is_err() {
                        break;
                    }
                }
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => break,
            }
        }
        let _gone = to.shutdown(std::net::Shutdown::Both);
    });
}

pub(crate) const VOICES: [Voice; 2] = [PCMU, PCMA];

/// Callers without a voice are not taken for lost.
pub(crate) const PATIENT: &str = "limits.media_timeout_seconds = 300\n";
/// How long they may take to be back once the new process answers.
const BACK: Duration = Duration::from_secs(2);
pub(crate) const TALK: Duration = Duration::from_secs(5);
