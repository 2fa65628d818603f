//! What happens in a meeting, as a booking system is told of it while the server dies.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::outcomes::wait_for_participants;
use crate::server::{CALLER, Meeting, Server};
use crate::sipp::Scenario;

/// What is told within so many seconds, after that event or from now on.
pub(crate) fn events(server: &Server, last: Option<&str>, seconds: u64) -> Vec<Value> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_recv_body(Some(Duration::from_secs(seconds)))
        .build()
        .into();
    let mut request = agent
        .get(format!("http://127.0.0.1:{}/v1/events", server.http_port))
        .header("Authorization", format!("Bearer {}", server.key));
    if let Some(last) = last {
        request = request.header("Last-Event-ID", last);
    }
    let answer = request.call().expect("answered");
    let lines = BufReader::new(answer.into_body().into_reader()).lines();
    lines
        .map_while(Result::ok)
        .filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok())
        .collect()
}

/// Renames the only participant to each of these numbers.
fn rename(server: &Server, meeting: &Meeting, names: std::ops::Range<u32>) {
    let path = format!("/v1/meetings/{}/participants", meeting.id);
    let people = server.get(&path);
    let id = people["items"][0]["id"]
        .as_str()
        .expect("somebody")
        .to_owned();
    for name in names {
        server.patch(&format!("{path}/{id}"), &json!({"name": name.to_string()}));
    }
}

/// The names that the participants were given, in the order in which that was told. That nothing is heard of
/// them, who send nothing, is told in between.
fn names(events: &[Value]) -> Vec<u32> {
    let updated = events.iter().filter(|e| e["type"] == "participant.updated");
    let told = updated.filter_map(|e| Some((e["data"]["name"].as_str()?, one_way(e))));
    let mut told: Vec<(u32, bool)> = told
        .map(|(name, one_way)| (name.parse().expect("a number"), one_way))
        .collect();
    told.dedup_by(|next, before| next.0 == before.0 && next.1 != before.1);
    told.into_iter().map(|(name, _)| name).collect()
}

fn one_way(event: &Value) -> bool {
    event["data"]["quality"]["one_way"] == Value::Bool(true)
}

#[test]
fn what_happens_is_told_in_order_and_survives_kill_9() {
    let mut server = Server::start("webhooks.allow = [\"127.0.0.1\"]");
    let meeting = server.book(&json!({"external_id": "room 7"}));
    let receiver = Receiver::start();
    let hook = json!({"url": format!("http://127.0.0.1:{}/", receiver.port)});
    ureq::post(format!("http://127.0.0.1:{}/v1/webhooks", server.http_port))
        .header("Authorization", format!("Bearer {}", server.key))
        .send_json(&hook)
        .expect("a webhook");
    let (told_first, call) = std::thread::scope(|scope| {
        let told = scope.spawn(|| events(&server, None, 6));
        std::thread::sleep(Duration::from_millis(500));
        let call = Scenario::new("uac-stays")
            .key("pin", &meeting.guest)
            .start(&server);
        wait_for_participants(&server, &meeting.id, 1);
        (told.join().expect("followed"), call)
    });
    let told = &told_first;
    let types: Vec<&str> = told.iter().filter_map(|e| e["type"].as_str()).collect();
    assert_eq!(types, ["meeting.started", "participant.joined"]);
    assert_eq!(
        told[0]["data"],
        json!({"title": "Test", "external_id": "room 7"})
    );
    assert_eq!(told[1]["data"]["number"], "…5678");
    assert_eq!(told[1]["meeting_id"], meeting.id.as_str());
    assert!(!told[1].to_string().contains(CALLER));

    rename(&server, &meeting, 0..500);
    let first = told[0]["id"].as_str();
    let before = receiver.came().len();
    server.kill_and_restart();
    call.kill();
    let call = Scenario::new("uac-stays")
        .key("pin", &meeting.guest)
        .start(&server);
    wait_for_participants(&server, &meeting.id, 1);
    rename(&server, &meeting, 500..1_000);
    server.delete(&format!("/v1/meetings/{}", meeting.id));
    call.finish("the caller of the second meeting");

    let after = events(&server, first, 3);
    let told = names(&after);
    // What was not kept yet when the process was killed is gone with the call itself: some milliseconds.
    let kept = told.iter().filter(|name| **name < 500).count() as u32;
    assert!(kept >= 480, "{kept} of 500 were kept");
    assert_eq!(told, (0..kept).chain(500..1_000).collect::<Vec<_>>());
    let others: Vec<&str> = after.iter().filter_map(|e| e["type"].as_str()).collect();
    let others: Vec<&&str> = others
        .iter()
        .filter(|t| **t != "participant.updated")
        .collect();
    // Its next process told the end of what the first was killed in, before anything else.
    let again = [
        "participant.joined",
        "participant.left",
        "meeting.ended",
        "meeting.started",
        "participant.joined",
        "participant.left",
        "meeting.ended",
    ];
    assert_eq!(others, again.iter().collect::<Vec<_>>());

    // The webhook was told all of it, once at least, in the same order.
    let id = |event: &Value| event["id"].as_str().expect("an id").to_owned();
    let wanted: Vec<String> = told_first.iter().take(1).chain(&after).map(id).collect();
    assert!(
        before < wanted.len() - 100,
        "{before}: it was killed in the middle"
    );
    receiver.wait_for(wanted.len());
    assert_eq!(receiver.came(), wanted);
}

/// Takes messages, one after the other, and not fast.
struct Receiver {
    port: u16,
    came: Arc<Mutex<Vec<String>>>,
}

impl Receiver {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let receiver = Self {
            port: listener.local_addr().expect("bound").port(),
            came: Arc::default(),
        };
        let came = Arc::clone(&receiver.came);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                std::thread::sleep(Duration::from_millis(10));
                came.lock().expect("no panic").extend(take(&stream));
            }
        });
        receiver
    }

    fn wait_for(&self, how_many: usize) {
        for _ in 0..400 {
            if self.came().len() >= how_many {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The ids of what came, each where it came first.
    fn came(&self) -> Vec<String> {
        let mut seen = std::collections::HashSet::new();
        let mut all = self.came.lock().expect("no panic").clone();
        all.retain(|id| seen.insert(id.clone()));
        all
    }
}

/// Reads one message and takes it; its id. `None`: its sender died in the middle of it.
fn take(mut stream: &TcpStream) -> Option<String> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let headers: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    let id = headers
        .iter()
        .find_map(|line| line.strip_prefix("webhook-id: "))?;
    stream
        .write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        .ok()?;
    Some(id.to_owned())
}
