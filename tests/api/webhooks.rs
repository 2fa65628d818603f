//! Webhooks: a real receiver that takes, refuses, hangs, redirects; what it gets, in which order, and what it
//! never gets.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::SignedDuration;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::sleep;
use uuid::Uuid;
use voicebridge::booking::{Bookings, Event, EventKind, KeyRole, MeetingId};
use voicebridge::webhooks::deliver;

use super::{Api, NOW, database, open};

/// What a receiver does with a message.
#[derive(Debug, Clone, PartialEq)]
enum Does {
    /// 204.
    Takes,
    /// 500.
    Fails,
    /// Nothing, for ever.
    Hangs,
    /// 302 to there.
    Redirects(String),
    /// 503, and asks for so many seconds.
    AsksFor(u32),
    /// 410.
    IsGone,
    /// 204, byte by byte.
    TakesSlowly,
}

/// A message that came.
#[derive(Debug, Clone)]
struct Came {
    id: String,
    timestamp: String,
    signature: String,
    body: String,
}

impl Came {
    fn n(&self) -> i64 {
        let event: Value = serde_json::from_str(&self.body).unwrap();
        event["data"]["n"].as_i64().unwrap()
    }
}

#[derive(Clone)]
struct Receiver {
    address: SocketAddr,
    came: Arc<Mutex<Vec<Came>>>,
    /// For the next messages; then it takes them.
    script: Arc<Mutex<VecDeque<Does>>>,
}

impl Receiver {
    async fn at(address: &str) -> Self {
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let receiver = Self {
            address: listener.local_addr().unwrap(),
            came: Arc::default(),
            script: Arc::default(),
        };
        let handler = receiver.clone();
        let router = Router::new().fallback(move |request: Request<Body>| {
            let handler = handler.clone();
            async move { handler.handle(request).await }
        });
        tokio::spawn(async move { axum::serve(listener, router).await });
        receiver
    }

    async fn handle(&self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let header = |name: &str| parts.headers[name].to_str().unwrap().to_owned();
        assert_eq!(header("content-type"), "application/json");
        let mut came = Came {
            id: header("webhook-id"),
            timestamp: header("webhook-timestamp"),
            signature: header("webhook-signature"),
            body: String::new(),
        };
        let body = axum::body::to_bytes(body, 100_000).await;
        came.body = String::from_utf8(body.unwrap().to_vec()).unwrap();
        self.came.lock().unwrap().push(came);
        let does = self.script.lock().unwrap().pop_front();
        let answer = |status: u16| Response::builder().status(status);
        match does.unwrap_or(Does::Takes) {
            Does::Takes => answer(204).body(Body::empty()).unwrap(),
            Does::Fails => answer(500).body(Body::from("x".repeat(100_000))).unwrap(),
            Does::Hangs => std::future::pending().await,
            Does::AsksFor(seconds) => {
                let answer = answer(503).header("retry-after", seconds.to_string());
                answer.body(Body::empty()).unwrap()
            }
            Does::IsGone => answer(410).body(Body::empty()).unwrap(),
            Does::TakesSlowly => {
                sleep(Duration::from_secs(3)).await;
                answer(204).body(Body::empty()).unwrap()
            }
            Does::Redirects(to) => {
                let answer = answer(302).header("location", to);
                answer.body(Body::empty()).unwrap()
            }
        }
    }

    fn url(&self) -> String {
        format!("http://{}/hook?from=us", self.address)
    }

    fn next(&self, does: &[Does]) {
        self.script.lock().unwrap().extend(does.iter().cloned());
    }

    fn came(&self) -> Vec<Came> {
        self.came.lock().unwrap().clone()
    }

    fn numbers(&self) -> Vec<i64> {
        self.came().iter().map(Came::n).collect()
    }

    async fn has(&self, numbers: &[i64]) {
        let wanted = || self.numbers() == numbers;
        until(wanted, || {
            format!("{:?} instead of {numbers:?}", self.numbers())
        })
        .await;
    }
}

async fn until(reached: impl Fn() -> bool, tell: impl Fn() -> String) {
    for _ in 0..1_200 {
        if reached() {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("not within a minute: {}", tell());
}

/// A node's delivery; ends when it is dropped.
struct Delivering {
    _stop: watch::Sender<bool>,
}

impl Delivering {
    fn start(bookings: &Bookings) -> Self {
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(deliver(bookings.clone(), || NOW.get(), stopped));
        Self { _stop: stop }
    }
}

fn pass(time: SignedDuration) {
    NOW.set(NOW.get() + time);
}

impl Api {
    async fn hook(&self, key: &str, url: &str) -> Value {
        let body = json!({"url": url});
        let made = self.ask(key, "POST", "/v1/webhooks", Some(body)).await;
        assert_eq!(made.status, 201, "{}", made.text);
        made.json()
    }

    /// Something of each number happens in that meeting.
    async fn happens_in(&self, meeting: u128, numbers: &[i64]) {
        let owner = self.bookings.organisation_or_new(NOW.get(), "demo");
        let owner = owner.await.unwrap().id;
        let event = |n: &i64| Event {
            id: Uuid::now_v7(),
            kind: EventKind::ParticipantUpdated,
            at: NOW.get(),
            organisation: Some(owner),
            meeting: Some(MeetingId(Uuid::from_u128(meeting))),
            data: json!({"n": n}),
        };
        let events = numbers.iter().map(event).collect();
        self.bookings.keep_events(events).await.unwrap();
    }

    async fn deliveries(&self, key: &str, hook: &Value, query: &str) -> Vec<Value> {
        let path = format!(
            "/v1/webhooks/{}/deliveries{query}",
            hook["id"].as_str().unwrap()
        );
        let page = self.ask(key, "GET", &path, None).await;
        assert_eq!(page.status, 200, "{}", page.text);
        page.json()["items"].as_array().unwrap().clone()
    }
}

#[tokio::test]
async fn a_message_is_signed_and_tells_what_was_asked_for() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Booking).await;
    let receiver = Receiver::at("127.0.0.2").await;
    let _delivering = Delivering::start(&api.bookings);
    api.happens_in(1, &[0]).await;
    let body = json!({"url": receiver.url(), "types": ["participant.updated", "meeting.ended"]});
    let made = api.ask(&key, "POST", "/v1/webhooks", Some(body)).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let hook = made.json();
    let one = made.header("location").to_owned();
    api.happens_in(1, &[1, 2]).await;
    receiver.has(&[1, 2]).await;

    let secret = hook["secret"]
        .as_str()
        .unwrap()
        .strip_prefix("whsec_")
        .unwrap();
    let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &STANDARD.decode(secret).unwrap());
    for came in receiver.came() {
        let signed = format!("{}.{}.{}", came.id, came.timestamp, came.body);
        let tag = STANDARD.encode(ring::hmac::sign(&secret, signed.as_bytes()));
        assert_eq!(came.signature, format!("v1,{tag}"));
        assert_eq!(came.timestamp, NOW.get().as_second().to_string());
        let event: Value = serde_json::from_str(&came.body).unwrap();
        assert_eq!(event["id"], came.id.as_str());
        assert_eq!(event["type"], "participant.updated");
        assert_eq!(event["organisation"], "demo");
    }
    let read = api.ask(&key, "GET", &one, None).await;
    assert!(!read.text.contains("secret") && !read.text.contains("whsec"));
    assert_eq!(
        read.json()["types"],
        json!(["meeting.ended", "participant.updated"])
    );

    // Changed to other types: nothing more of these. Off: nothing at all, also not later.
    let change = async |body: Value| {
        let changed = api.ask(&key, "PATCH", &one, Some(body)).await;
        assert_eq!(changed.status, 200, "{}", changed.text);
    };
    change(json!({"types": ["meeting.ended"]})).await;
    api.happens_in(1, &[3]).await;
    change(json!({"types": null, "enabled": false})).await;
    api.happens_in(1, &[4]).await;
    change(json!({"enabled": true})).await;
    api.happens_in(1, &[5]).await;
    receiver.has(&[1, 2, 5]).await;

    // What it missed it is told by a replay, in order.
    let replay = async |body: Value| {
        let path = format!("{one}/replay");
        api.ask(&key, "POST", &path, Some(body)).await
    };
    let from = receiver.came()[1].id.clone();
    let replayed = replay(json!({"from_event": from})).await;
    assert_eq!(
        (replayed.status.as_u16(), &replayed.json()["events"]),
        (202, &json!(4))
    );
    receiver.has(&[1, 2, 5, 2, 3, 4, 5]).await;
    let replayed = replay(json!({"from_time": "2026-11-20T08:00:00Z"})).await;
    assert_eq!(replayed.json()["events"], 6);
    receiver.has(&[1, 2, 5, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5]).await;
    assert_eq!(replay(json!({})).await.errors(), ["from_event required"]);
    let unknown = json!({"from_event": Uuid::nil()});
    assert_eq!(replay(unknown).await.problem(404), "not_found");
}

#[tokio::test]
async fn a_test_reaches_its_webhook_alone_and_is_seen_among_the_deliveries() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Admin).await;
    let (receiver, other) = (
        Receiver::at("127.0.0.2").await,
        Receiver::at("127.0.0.2").await,
    );
    let _delivering = Delivering::start(&api.bookings);
    let hook = api.hook(&key, &receiver.url()).await;
    api.hook(&key, &other.url()).await;
    let path = format!("/v1/webhooks/{}/test", hook["id"].as_str().unwrap());
    let test = api.ask(&key, "POST", &path, None).await;
    assert_eq!(test.status, 202, "{}", test.text);
    until(|| receiver.came().len() == 1, || "no test".to_owned()).await;
    api.happens_in(1, &[1]).await;
    other.has(&[1]).await;
    until(|| receiver.came().len() == 2, || "no event".to_owned()).await;
    let told = api.deliveries(&key, &hook, "?state=delivered").await;
    let words: Vec<&Value> = told.iter().map(|delivery| &delivery["type"]).collect();
    assert_eq!(words, ["participant.updated", "webhook.test"]);
    assert_eq!(told[1]["event_id"], test.json()["event_id"]);
    assert_eq!(told[1]["status"], 204);
}

#[tokio::test]
async fn an_event_that_cannot_be_read_is_told_as_gone_and_the_others_are_delivered() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Booking).await;
    let receiver = Receiver::at("127.0.0.2").await;
    let hook = api.hook(&key, &receiver.url()).await;
    api.happens_in(1, &[1]).await;
    let pool = database(api.dir.path()).await;
    let spoil = sqlx::query("UPDATE events SET data = '{'");
    spoil.execute(&pool).await.unwrap();
    api.happens_in(2, &[10]).await;
    let _delivering = Delivering::start(&api.bookings);
    receiver.has(&[10]).await;
    let row = "SELECT COUNT(*) FROM deliveries WHERE error = 'gone' AND webhook = $1";
    let failed = async || {
        let count = sqlx::query_scalar(row).bind(hook["id"].as_str().unwrap());
        let count: i64 = count.fetch_one(&pool).await.unwrap();
        count
    };
    for _ in 0..200 {
        if failed().await == 1 {
            break;
        }
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(failed().await, 1, "tried for ever");
    pool.close().await;
}

#[tokio::test]
async fn a_receiver_that_fails_gets_everything_in_order_and_only_its_meeting_waits() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Booking).await;
    let receiver = Receiver::at("127.0.0.2").await;
    let _delivering = Delivering::start(&api.bookings);
    let hook = api.hook(&key, &receiver.url()).await;
    receiver.next(&[Does::Fails]);
    api.happens_in(1, &[1]).await;
    receiver.has(&[1]).await;
    api.happens_in(1, &[2, 3]).await;
    api.happens_in(2, &[10, 11]).await;
    receiver.has(&[1, 10, 11]).await;
    let pending = api.deliveries(&key, &hook, "?state=pending").await;
    assert_eq!(pending.len(), 3);
    let failed = &pending[2];
    assert_eq!(
        (&failed["status"], &failed["error"], &failed["attempts"]),
        (&json!(500), &json!("status"), &json!(1))
    );
    receiver.next(&[Does::Fails]);
    pass(SignedDuration::from_secs(7));
    receiver.has(&[1, 10, 11, 1]).await;
    pass(SignedDuration::from_secs(15));
    sleep(Duration::from_millis(700)).await;
    assert_eq!(receiver.numbers().len(), 4, "not before its time");
    pass(SignedDuration::from_secs(10));
    receiver.has(&[1, 10, 11, 1, 1, 2, 3]).await;
    assert!(
        api.deliveries(&key, &hook, "?state=pending")
            .await
            .is_empty()
    );
    let again = receiver.came();
    assert_eq!(
        (&again[0].id, &again[0].body),
        (&again[4].id, &again[4].body)
    );

    // Down for a day: given up, which is seen, and what comes then is told.
    receiver.next(&vec![Does::Fails; 200]);
    api.happens_in(1, &[4]).await;
    for _ in 0..40 {
        sleep(Duration::from_millis(60)).await;
        pass(SignedDuration::from_mins(70));
    }
    let is_over = async || {
        let failed = api.deliveries(&key, &hook, "?state=failed").await;
        failed.len() == 1
    };
    for _ in 0..100 {
        if is_over().await {
            break;
        }
        pass(SignedDuration::from_mins(70));
        sleep(Duration::from_millis(100)).await;
    }
    assert!(is_over().await);
    receiver.script.lock().unwrap().clear();
    api.happens_in(1, &[5]).await;
    until(
        || receiver.numbers().last() == Some(&5),
        || "nothing after".to_owned(),
    )
    .await;
}

/// Is it signed with each of these secrets, in this order, and with no other?
fn is_signed_with(came: &Came, secrets: &[&str]) -> bool {
    let signature = |secret: &&str| {
        let bytes = STANDARD.decode(secret.strip_prefix("whsec_").unwrap());
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &bytes.unwrap());
        let signed = format!("{}.{}.{}", came.id, came.timestamp, came.body);
        let tag = STANDARD.encode(ring::hmac::sign(&key, signed.as_bytes()));
        format!("v1,{tag}")
    };
    let signatures: Vec<String> = secrets.iter().map(signature).collect();
    came.signature == signatures.join(" ")
}

#[tokio::test]
async fn a_new_secret_counts_at_once_and_the_old_one_for_a_while_yet() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Booking).await;
    let receiver = Receiver::at("127.0.0.2").await;
    let _delivering = Delivering::start(&api.bookings);
    let hook = api.hook(&key, &receiver.url()).await;
    let first = hook["secret"].as_str().unwrap();
    let path = format!("/v1/webhooks/{}/rotate", hook["id"].as_str().unwrap());
    let rotate = async |body: Value| api.ask(&key, "POST", &path, Some(body)).await;
    let rotated = rotate(json!({"grace_minutes": 60})).await;
    assert_eq!(rotated.status, 200, "{}", rotated.text);
    let rotated = rotated.json();
    let second = rotated["secret"].as_str().unwrap();
    assert_ne!(first, second);
    // A round of deliveries that began before may still sign with the old one.
    sleep(Duration::from_millis(1_200)).await;
    api.happens_in(1, &[1]).await;
    receiver.has(&[1]).await;
    assert!(is_signed_with(&receiver.came()[0], &[second, first]));
    pass(SignedDuration::from_mins(61));
    api.happens_in(1, &[2]).await;
    receiver.has(&[1, 2]).await;
    assert!(is_signed_with(&receiver.came()[1], &[second]));
    // Who thinks that it is known to others doesn't wait.
    let rotated = rotate(json!({"grace_minutes": 0})).await.json();
    let third = rotated["secret"].as_str().unwrap();
    sleep(Duration::from_millis(1_200)).await;
    api.happens_in(1, &[3]).await;
    receiver.has(&[1, 2, 3]).await;
    assert!(is_signed_with(&receiver.came()[2], &[third]));
    let asker = api.bookings.authenticate(NOW.get(), &key).await.unwrap();
    let id = hook["id"].as_str().unwrap().parse().unwrap();
    let kept = api.bookings.webhook(&asker, id).await.unwrap();
    assert!(kept.former_secret.is_none(), "the old one isn't kept");
    for wrong in [-1, 43_201] {
        let refused = rotate(json!({"grace_minutes": wrong})).await;
        assert_eq!(refused.errors(), ["grace_minutes out_of_range"]);
    }
}

#[tokio::test]
async fn one_that_asks_for_time_gets_it_and_one_that_is_gone_is_told_nothing_more() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Booking).await;
    let receiver = Receiver::at("127.0.0.2").await;
    let _delivering = Delivering::start(&api.bookings);
    let hook = api.hook(&key, &receiver.url()).await;
    receiver.next(&[Does::AsksFor(600), Does::TakesSlowly, Does::Takes]);
    api.happens_in(1, &[1]).await;
    receiver.has(&[1]).await;
    let is_noted = async || {
        let tried = api.deliveries(&key, &hook, "").await;
        tried[0]["status"] == json!(503)
    };
    while !is_noted().await {
        sleep(Duration::from_millis(20)).await;
    }
    api.happens_in(1, &[2]).await;
    api.happens_in(2, &[10]).await;
    pass(SignedDuration::from_secs(590));
    sleep(Duration::from_millis(1_200)).await;
    assert_eq!(receiver.numbers(), [1], "nothing of any meeting");
    pass(SignedDuration::from_secs(20));
    // Slow, but in time: it arrived, and what comes after it in its meeting waits. Meetings don't wait for each other.
    let first_has = async |wanted: &[i64]| {
        let of_the_first = || -> Vec<i64> {
            let all = receiver.numbers().into_iter();
            all.filter(|n| *n != 10).collect()
        };
        let tell = || format!("{:?} instead of {wanted:?}", of_the_first());
        until(|| of_the_first() == wanted, tell).await;
    };
    first_has(&[1, 1, 2]).await;

    receiver.next(&[Does::IsGone]);
    api.happens_in(1, &[3, 4]).await;
    first_has(&[1, 1, 2, 3]).await;
    assert!(receiver.numbers().contains(&10));
    let path = format!("/v1/webhooks/{}", hook["id"].as_str().unwrap());
    let read = async || api.ask(&key, "GET", &path, None).await.json();
    while read().await["enabled"] == true {
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(read().await["disabled_because"], "gone");
    api.happens_in(1, &[5]).await;
    pass(SignedDuration::from_hours(2));
    sleep(Duration::from_millis(1_200)).await;
    assert_eq!(receiver.numbers().len(), 5, "it wants no more");
    let body = json!({"enabled": true});
    let changed = api.ask(&key, "PATCH", &path, Some(body)).await.json();
    assert_eq!(
        (&changed["enabled"], &changed["disabled_because"]),
        (&json!(true), &Value::Null)
    );
    // What it refused is told first; what happened while it was gone is told by a replay only.
    first_has(&[1, 1, 2, 3, 3, 4]).await;
}

#[tokio::test]
async fn one_that_hangs_holds_up_nobody_else_and_is_tried_again() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Booking).await;
    let (slow, good) = (
        Receiver::at("127.0.0.2").await,
        Receiver::at("127.0.0.2").await,
    );
    let _delivering = Delivering::start(&api.bookings);
    let hook = api.hook(&key, &slow.url()).await;
    api.hook(&key, &good.url()).await;
    slow.next(&vec![Does::Hangs; 4]);
    for meeting in 1..=6 {
        api.happens_in(meeting, &[meeting as i64, 10 + meeting as i64])
            .await;
    }
    let all = until(
        || good.numbers().len() == 12,
        || format!("{:?}", good.numbers()),
    );
    let in_time = tokio::time::timeout(Duration::from_secs(8), all).await;
    assert!(in_time.is_ok(), "it waited for the slow one");
    until(
        || slow.numbers().len() >= 4,
        || format!("{:?}", slow.numbers()),
    )
    .await;
    assert_eq!(slow.numbers().len(), 4, "no more than four at once");
    until(
        || slow.numbers().len() >= 8,
        || format!("{:?}", slow.numbers()),
    )
    .await;
    let late = async || {
        let pending = api.deliveries(&key, &hook, "?state=pending").await;
        let late = pending.iter().filter(|d| d["error"] == "timeout");
        late.count()
    };
    for _ in 0..100 {
        if late().await == 4 {
            break;
        }
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(late().await, 4);
    pass(SignedDuration::from_secs(7));
    until(
        || slow.numbers().len() == 16,
        || format!("{:?}", slow.numbers()),
    )
    .await;
    for meeting in 1..=6 {
        let of_meeting: Vec<i64> = slow
            .numbers()
            .into_iter()
            .filter(|n| n % 10 == meeting)
            .collect();
        assert!(of_meeting.is_sorted(), "{of_meeting:?}");
    }
}

#[tokio::test]
async fn nothing_goes_where_it_may_not_go() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Booking).await;
    // In front of the trap stands nothing but our own care.
    let trap = Receiver::at("127.0.0.1").await;
    let receiver = Receiver::at("127.0.0.2").await;
    let port = trap.address.port();
    for url in [
        format!("http://127.0.0.1:{port}/"),
        format!("https://127.0.0.1:{port}/"),
        format!("https://2130706433:{port}/"),
        format!("https://0x7f000001:{port}/"),
        format!("https://0177.0.0.1:{port}/"),
        format!("https://[::1]:{port}/"),
        format!("https://[::ffff:127.0.0.1]:{port}/"),
        format!("https://0:{port}/"),
        "https://169.254.169.254/latest/meta-data".to_owned(),
        "https://10.0.0.1/".to_owned(),
    ] {
        let body = json!({"url": url});
        let answer = api.ask(&key, "POST", "/v1/webhooks", Some(body)).await;
        assert_eq!(
            (answer.status.as_u16(), answer.errors()),
            (422, vec!["url not_allowed".to_owned()]),
            "{url}"
        );
    }
    for url in [
        "http://localhost/",
        "ftp://example.org/",
        "example.org",
        "https://u:p@example.org/",
    ] {
        let body = json!({"url": url});
        let answer = api.ask(&key, "POST", "/v1/webhooks", Some(body)).await;
        assert_eq!(answer.errors(), ["url invalid"], "{url}");
    }
    let _delivering = Delivering::start(&api.bookings);
    // A name is nobody's promise: it is looked at when it has become an address.
    let named = api.hook(&key, &format!("https://localhost:{port}/")).await;
    let redirected = api.hook(&key, &receiver.url()).await;
    receiver.next(&[Does::Redirects(format!("http://127.0.0.1:{port}/"))]);
    api.happens_in(1, &[1]).await;
    receiver.has(&[1]).await;
    let why = async |hook: &Value| api.deliveries(&key, hook, "").await[0]["error"].clone();
    for _ in 0..100 {
        if !why(&named).await.is_null() && !why(&redirected).await.is_null() {
            break;
        }
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(
        (why(&named).await, why(&redirected).await),
        (json!("not_allowed"), json!("redirect"))
    );
    pass(SignedDuration::from_secs(7));
    receiver.has(&[1, 1]).await;
    assert!(trap.came().is_empty());
}

#[tokio::test]
async fn of_two_nodes_one_delivers_and_the_other_goes_on_where_it_was() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Booking).await;
    let other = open(api.dir.path(), api.bookings.settings().clone()).await;
    let receiver = Receiver::at("127.0.0.2").await;
    api.hook(&key, &receiver.url()).await;
    let first = Delivering::start(&api.bookings);
    sleep(Duration::from_millis(300)).await;
    let _second = Delivering::start(&other);
    let mut all: Vec<i64> = (0..40).collect();
    api.happens_in(1, &all).await;
    other.look_for_events().await.unwrap();
    receiver.has(&all).await;
    drop(first);
    sleep(Duration::from_millis(300)).await;
    api.happens_in(1, &[40, 41]).await;
    other.look_for_events().await.unwrap();
    pass(SignedDuration::from_secs(6));
    all.extend([40, 41]);
    receiver.has(&all).await;
}

#[tokio::test]
async fn webhooks_are_their_organisations_and_no_more_than_twenty() {
    let api = Api::new().await;
    let (key, other) = (
        api.key("demo", KeyRole::Booking).await,
        api.key("other", KeyRole::Admin).await,
    );
    let platform = api.key("ours", KeyRole::Platform).await;
    let hook = api.hook(&key, "https://example.org/1").await;
    let one = format!("/v1/webhooks/{}", hook["id"].as_str().unwrap());
    for (method, path, body) in [
        ("GET", one.clone(), None),
        ("PATCH", one.clone(), Some(json!({"enabled": false}))),
        ("DELETE", one.clone(), None),
        ("POST", format!("{one}/test"), None),
        ("POST", format!("{one}/rotate"), Some(json!({}))),
        ("GET", format!("{one}/deliveries"), None),
        (
            "POST",
            format!("{one}/replay"),
            Some(json!({"from_time": "2026-11-20T08:00:00Z"})),
        ),
    ] {
        let answer = api.ask(&other, method, &path, body.clone()).await;
        assert_eq!(answer.problem(404), "not_found", "{method} {path}");
        for role in [KeyRole::Reader, KeyRole::Operator] {
            let key = api.key("demo", role).await;
            let answer = api.ask(&key, method, &path, body.clone()).await;
            assert_eq!(answer.problem(403), "forbidden", "{method} {path}");
        }
    }
    let count = async |key: &str, query: &str| {
        let path = format!("/v1/webhooks{query}");
        let page = api.ask(key, "GET", &path, None).await.json();
        page["items"].as_array().unwrap().len()
    };
    let counts = (
        count(&key, "").await,
        count(&other, "").await,
        count(&platform, "").await,
        count(&platform, "?organisation=other").await,
    );
    assert_eq!(counts, (1, 0, 1, 0));
    for wrong in [
        json!(["nothing"]),
        json!([]),
        json!("meeting.ended"),
        json!(["webhook.test"]),
    ] {
        let body = json!({"url": "https://example.org/", "types": wrong});
        let answer = api.ask(&key, "POST", "/v1/webhooks", Some(body)).await;
        assert_eq!(answer.errors(), ["types invalid"]);
    }
    for n in 2..=20 {
        api.hook(&key, &format!("https://example.org/{n}")).await;
    }
    let body = json!({"url": "https://example.org/21"});
    let answer = api.ask(&key, "POST", "/v1/webhooks", Some(body)).await;
    assert_eq!(answer.problem(409), "too_many_webhooks");
    assert_eq!(api.ask(&key, "DELETE", &one, None).await.status, 204);
    assert_eq!(
        api.ask(&key, "GET", &one, None).await.problem(404),
        "not_found"
    );
}
