//! `/v1/events`: what happens, to whom it is told, and where one goes on who was away.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::Request;
use futures_util::StreamExt;
use jiff::Timestamp;
use serde_json::{Value, json};
use tower::ServiceExt;
use uuid::Uuid;
use voicebridge::booking::admission::CallId;
use voicebridge::booking::event::{EventFilter, EventPosition};
use voicebridge::booking::{
    Bookings, CallRecord, Event, EventKind, KeyRole, MeetingId, Outcome, StoreError,
};

use super::{Answer, Api, NOW, call, open, set_clock};

/// A connection that follows events.
struct Followed {
    body: BodyDataStream,
    text: String,
}

impl Followed {
    /// The next event: its id and its document. Comments are passed over.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            while let Some((message, rest)) = self.text.split_once("\n\n") {
                let (message, rest) = (message.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name: &str| {
                    let mut lines = message.lines();
                    lines.find_map(|line| line.strip_prefix(name).map(str::to_owned))
                };
                if let Some(data) = field("data: ") {
                    let document: Value = serde_json::from_str(&data).unwrap();
                    assert_eq!(document["type"], field("event: ").unwrap());
                    let id = field("id: ").unwrap();
                    assert_eq!(document["id"], id);
                    return Some((id, document));
                }
            }
            let chunk = self.body.next().await?.unwrap();
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// `n` of `data` of the next events.
    async fn numbers(&mut self, how_many: usize) -> Vec<i64> {
        let mut numbers = Vec::new();
        while numbers.len() < how_many {
            let (_, event) = self.next().await.unwrap();
            numbers.push(event["data"]["n"].as_i64().unwrap());
        }
        numbers
    }

    async fn is_quiet(&mut self) -> bool {
        let next = tokio::time::timeout(Duration::from_millis(200), self.next());
        next.await.is_err()
    }
}

impl Api {
    async fn follow(&self, key: &str, query: &str, last: Option<&str>) -> Followed {
        let mut request = Request::get(format!("/v1/events{query}"))
            .header("authorization", format!("Bearer {key}"));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let request = request.body(Body::empty()).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Followed {
            body: response.into_body().into_data_stream(),
            text: String::new(),
        }
    }

    async fn follow_from(&self, key: &str, last: &str) -> Answer {
        let headers = [("last-event-id", last)];
        self.ask_with(key, "GET", "/v1/events", None, &headers)
            .await
    }

    async fn happen(&self, organisation: &str, numbers: std::ops::Range<i64>) {
        let events = self.events(organisation, numbers).await;
        self.bookings.keep_events(events).await.unwrap();
    }

    async fn events(&self, organisation: &str, numbers: std::ops::Range<i64>) -> Vec<Event> {
        let owner = self.bookings.organisation_or_new(NOW.get(), organisation);
        let owner = owner.await.unwrap().id;
        let event = |n: i64| Event {
            id: Uuid::now_v7(),
            kind: EventKind::ParticipantUpdated,
            at: NOW.get(),
            organisation: Some(owner),
            meeting: Some(MeetingId(Uuid::from_u128(5))),
            data: json!({"n": n}),
        };
        numbers.map(event).collect()
    }
}

#[tokio::test]
async fn everybody_follows_his_own_events_and_goes_on_where_he_was() {
    let api = Api::new().await;
    let reader = api.key("demo", KeyRole::Reader).await;
    let other = api.key("other", KeyRole::Admin).await;
    let platform = api.key("ours", KeyRole::Platform).await;
    api.happen("demo", 0..1).await;
    let mut own = api.follow(&reader, "", None).await;
    let mut theirs = api.follow(&other, "", None).await;
    let mut all = api.follow(&platform, "", None).await;
    let mut one = api.follow(&platform, "?organisation=other", None).await;
    api.happen("demo", 1..3).await;
    api.happen("other", 10..11).await;

    let (first, event) = own.next().await.unwrap();
    assert_eq!(event["organisation"], "demo");
    assert_eq!(event["meeting_id"], Uuid::from_u128(5).to_string());
    assert_eq!(
        event["time"],
        NOW.get().to_string().replace("456789Z", "456Z")
    );
    assert_eq!(event["data"], json!({"n": 1}), "what was before isn't told");
    assert_eq!(own.numbers(1).await, [2]);
    assert_eq!(all.numbers(3).await, [1, 2, 10]);
    assert_eq!(one.numbers(1).await, [10]);
    let (foreign, _) = theirs.next().await.unwrap();
    assert!(own.is_quiet().await && theirs.is_quiet().await && one.is_quiet().await);

    drop((own, theirs));
    api.happen("demo", 3..250).await;
    let mut again = api.follow(&reader, "", Some(&first)).await;
    assert_eq!(again.numbers(248).await, (2..250).collect::<Vec<_>>());
    for unknown in [foreign, Uuid::nil().to_string()] {
        let answer = api.follow_from(&reader, &unknown).await;
        assert_eq!(answer.problem(410), "events_gone");
    }
    let answer = api.follow_from(&reader, "7").await;
    assert_eq!(answer.problem(400), "invalid_parameter");

    // The node ends: what there is is told, and then no more.
    api.happen("demo", 250..252).await;
    api.bookings.end_event_streams();
    assert_eq!(again.numbers(2).await, [250, 251]);
    assert!(again.next().await.is_none());
}

#[tokio::test]
async fn after_a_day_one_begins_anew_and_after_three_events_are_deleted() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Booking).await;
    let mut followed = api.follow(&key, "", None).await;
    api.happen("demo", 0..2).await;
    let (id, _) = followed.next().await.unwrap();
    set_clock("2026-11-21T08:00:00Z");
    assert_eq!(api.follow(&key, "", Some(&id)).await.numbers(1).await, [1]);
    set_clock("2026-11-21T08:00:01Z");
    assert_eq!(api.follow_from(&key, &id).await.problem(410), "events_gone");
    let kept = async || {
        let filter = EventFilter {
            organisation: None,
            after: EventPosition::default(),
            limit: 10,
        };
        api.bookings.events(filter).await.unwrap().len()
    };
    api.bookings.purge(NOW.get()).await.unwrap();
    assert_eq!(kept().await, 2);
    set_clock("2026-11-23T08:00:01Z");
    api.bookings.purge(NOW.get()).await.unwrap();
    assert_eq!(kept().await, 0);
}

#[tokio::test]
async fn a_key_follows_ten_times_and_no_more() {
    let api = Api::new().await;
    let (key, other) = (
        api.key("demo", KeyRole::Reader).await,
        api.key("demo", KeyRole::Reader).await,
    );
    let mut streams = Vec::new();
    for _ in 0..10 {
        streams.push(api.follow(&key, "", None).await);
    }
    let refused = api.ask(&key, "GET", "/v1/events", None).await;
    assert_eq!(refused.problem(429), "too_many_streams");
    api.follow(&other, "", None).await;
    streams.pop();
    api.follow(&key, "", None).await;
}

#[tokio::test]
async fn a_call_that_never_got_in_is_told_once_with_no_more_of_its_number_than_may_be_shown() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Booking).await;
    let mut followed = api.follow(&key, "", None).await;
    let refused = call(7, None, None);
    for _ in 0..2 {
        api.bookings.record_call(&refused).await.unwrap();
    }
    let (id, event) = followed.next().await.unwrap();
    assert_eq!(
        (id, &event["type"]),
        (refused.id.0.to_string(), &json!("call.refused"))
    );
    assert_eq!(event["data"]["outcome"], "wrong_pin");
    assert_eq!(event["data"]["caller"], "…5678");
    assert!(!event.to_string().contains("0612345678"));
    let joined = CallRecord {
        id: CallId(Uuid::from_u128(77)),
        outcome: Outcome::Joined,
        ..refused
    };
    api.bookings.record_call(&joined).await.unwrap();
    assert!(followed.is_quiet().await);
}

#[tokio::test]
async fn two_nodes_that_tell_at_once_are_heard_in_one_order_and_nothing_is_passed_over() {
    let api = Api::new().await;
    let settings = api.bookings.settings().clone();
    let other = open(api.dir.path(), settings).await;
    let owner = other.organisation_or_new(Timestamp::UNIX_EPOCH, "demo");
    let owner = owner.await.unwrap().id;
    let tell = async |bookings: &Bookings, node: i64| {
        for n in 0..100 {
            let event = Event {
                id: Uuid::now_v7(),
                kind: EventKind::ParticipantUpdated,
                at: Timestamp::UNIX_EPOCH,
                organisation: Some(owner),
                meeting: None,
                data: json!({"n": 1_000 * node + n}),
            };
            let mut kept = Err(StoreError::Busy);
            while kept.is_err() {
                kept = bookings.keep_events(vec![event.clone()]).await;
            }
        }
    };
    let follow = async |bookings: Bookings| {
        let (mut seen, mut after) = (Vec::new(), EventPosition::default());
        while seen.len() < 200 {
            let filter = EventFilter {
                organisation: Some(owner),
                after,
                limit: 7,
            };
            for kept in bookings.events(filter).await.unwrap() {
                after = kept.position;
                seen.push(kept.event.data["n"].as_i64().unwrap());
            }
        }
        seen
    };
    let read = tokio::time::timeout(Duration::from_secs(60), follow(other.clone()));
    let (_, _, seen) = tokio::join!(tell(&api.bookings, 0), tell(&other, 1), read);
    let seen = seen.unwrap();
    for node in 0..2 {
        let of_node: Vec<i64> = seen.iter().copied().filter(|n| n / 1_000 == node).collect();
        assert_eq!(
            of_node,
            (1_000 * node..1_000 * node + 100).collect::<Vec<_>>()
        );
    }
    // What one kept, the other hears of when it looks.
    let latest = api.bookings.look_for_events().await.unwrap();
    assert_eq!(api.bookings.follow_events().borrow().latest, latest);
}
