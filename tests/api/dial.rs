//! Calling people into meetings: who may, whom, and how often.

use futures_util::future::join_all;
use voicebridge::booking::Scope;

use super::*;

/// A meeting of `demo` that is open, a key that may dial, and what the platform allows.
struct House {
    api: Api,
    key: String,
    meeting: Value,
    path: String,
}

impl House {
    async fn new(rules: Value) -> Self {
        let api = Api::new().await;
        let booking = api.key("demo", KeyRole::Booking).await;
        let meeting = api.book(&booking).await;
        set_clock("2026-11-23T10:05:00+01:00");
        let new = NewKey {
            organisation: "demo".to_owned(),
            role: KeyRole::Operator,
            scopes: vec![Scope::Dial],
            expires_at: None,
        };
        let (_, key) = api.bookings.create_key(NOW.get(), new).await.unwrap();
        let path = format!("/v1/meetings/{}/dial", meeting["id"].as_str().unwrap());
        let house = Self {
            key: key.expose().to_owned(),
            api,
            meeting,
            path,
        };
        house.allow(rules).await;
        house
    }

    async fn allow(&self, rules: Value) {
        let platform = self.api.key("portal", KeyRole::Platform).await;
        let all = self
            .api
            .ask(&platform, "GET", "/v1/organisations", None)
            .await;
        let all = all.json();
        let items = all["items"].as_array().unwrap().iter();
        let demo = items.clone().find(|item| item["name"] == "demo").unwrap();
        let path = format!("/v1/organisations/{}", demo["id"].as_str().unwrap());
        let changed = self.api.ask(&platform, "PATCH", &path, Some(rules)).await;
        assert_eq!(changed.status, 200, "{}", changed.text);
    }

    async fn dial(&self, body: Value) -> Answer {
        self.api
            .ask(&self.key, "POST", &self.path, Some(body))
            .await
    }

    fn dialled(&self) -> usize {
        self.api.roster.dialled.lock().unwrap().len()
    }
}

fn italian() -> Value {
    json!({"dial_prefixes": ["0039"]})
}

#[tokio::test]
async fn who_may_has_somebody_called_who_becomes_what_was_asked() {
    let house = House::new(italian()).await;
    let body = json!({
        "to": "0039 06 1234-5678", "from": "+390601", "name": "Anna", "language": "it", "role": "listener",
    });
    // The trail is in the order of time.
    set_clock("2026-11-23T10:05:01+01:00");
    let answer = house.dial(body).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    let order = house.api.roster.dialled.lock().unwrap().pop().unwrap();
    assert_eq!(answer.json()["call_id"], order.call.to_string());
    assert_eq!(order.to.expose(), "+390612345678");
    assert_eq!(order.from.as_deref(), Some("+390601"));
    let admission = &order.outgoing.admission;
    assert_eq!(admission.meeting, id_of(&house.meeting));
    assert_eq!(
        (admission.role, admission.name.as_deref()),
        (Role::Listener, Some("Anna"))
    );
    assert!(order.outgoing.language.is_some());

    let admin = house.api.key("demo", KeyRole::Admin).await;
    let trail = house.api.ask(&admin, "GET", "/v1/audit", None).await;
    let entry = trail.json()["items"][0].clone();
    assert_eq!(entry["action"], "POST /v1/meetings/{id}/dial");
    assert_eq!(
        (&entry["subject"], &entry["status"]),
        (&json!(house.path), &json!(202))
    );
    assert!(!trail.text.contains("0612345678"), "{}", trail.text);
}

#[tokio::test]
async fn a_repeated_request_dials_once() {
    let house = House::new(italian()).await;
    let headers = [("idempotency-key", "once")];
    let mut answers = Vec::new();
    for _ in 0..2 {
        let body = Some(json!({"to": "+390612345678"}));
        let (key, path) = (&house.key, &house.path);
        answers.push(house.api.ask_with(key, "POST", path, body, &headers).await);
    }
    assert_eq!(answers[0].status, 202, "{}", answers[0].text);
    assert_eq!(answers[0].text, answers[1].text);
    assert_eq!(house.dialled(), 1);
}

#[tokio::test]
async fn nothing_is_dialled_that_is_not_allowed() {
    let house = House::new(json!({"dial_prefixes": null})).await;
    let to = |number: &str| json!({"to": number});
    let nothing = house.dial(to("+390612345678")).await;
    assert_eq!(nothing.problem(403), "not_allowed");
    // As wide as can be: what is never dialled is not dialled all the same.
    let wide = json!({"dial_prefixes": ["+1", "+3", "+4", "0", "1", "9"], "dial_digits_min": 3});
    house.allow(wide).await;
    for number in ["112", "+39112", "0112", "9-911", "+1 911", "999"] {
        let answer = house.dial(to(number)).await;
        assert_eq!(answer.problem(403), "emergency_number", "{number}");
    }
    assert_eq!(house.dial(to("2000")).await.problem(403), "not_allowed");
    house
        .allow(with(italian(), json!({"dial_digits_min": null})))
        .await;
    for number in ["+4930123456", "0612345678", "+39061"] {
        let answer = house.dial(to(number)).await;
        assert_eq!(answer.problem(403), "not_allowed", "{number}");
        assert!(!answer.text.contains(number), "{}", answer.text);
    }
    for (body, errors) in [
        (json!({}), vec!["to required"]),
        (to("anna"), vec!["to invalid"]),
        (to("+39061@evil"), vec!["to invalid"]),
        (json!({"to": 39}), vec!["to invalid"]),
        (
            json!({"to": "x", "role": "bridge", "language": "de"}),
            vec!["to invalid", "language invalid", "role invalid"],
        ),
        (
            json!({"to": "+390612345678", "colour": 1}),
            vec!["colour unknown_field"],
        ),
        (
            json!({"to": "+390612345678", "name": " "}),
            vec!["name invalid"],
        ),
        // Another organisation's number, and nobody's.
        (
            json!({"to": "+390612345678", "from": "+390602"}),
            vec!["from not_allowed"],
        ),
        (
            json!({"to": "+390612345678", "from": "112"}),
            vec!["from not_allowed"],
        ),
    ] {
        let answer = house.dial(body.clone()).await;
        assert_eq!(answer.status, 422, "{body}");
        assert_eq!(answer.errors(), errors, "{body}");
    }
    assert_eq!(house.dialled(), 0);
}

#[tokio::test]
async fn only_a_key_with_the_scope_dials_and_only_into_its_own_open_meeting() {
    let house = House::new(italian()).await;
    let body = || Some(json!({"to": "+390612345678"}));
    for role in [KeyRole::Admin, KeyRole::Booking, KeyRole::Reader] {
        let key = house.api.key("demo", role).await;
        let answer = house.api.ask(&key, "POST", &house.path, body()).await;
        assert_eq!(answer.problem(403), "forbidden", "{role:?}");
    }
    let with_scope = async |organisation: &str, role| {
        let new = NewKey {
            organisation: organisation.to_owned(),
            role,
            scopes: vec![Scope::Dial],
            expires_at: None,
        };
        let (_, key) = house.api.bookings.create_key(NOW.get(), new).await.unwrap();
        key.expose().to_owned()
    };
    let stranger = with_scope("other", KeyRole::Admin).await;
    let answer = house.api.ask(&stranger, "POST", &house.path, body()).await;
    assert_eq!(answer.problem(404), "not_found");
    let reader = with_scope("demo", KeyRole::Reader).await;
    let host = Some(json!({"to": "+390612345678", "role": "host"}));
    let answer = house.api.ask(&reader, "POST", &house.path, host).await;
    assert_eq!(answer.problem(403), "forbidden");
    let answer = house.api.ask(&reader, "POST", &house.path, body()).await;
    assert_eq!(answer.status, 202, "{}", answer.text);

    for (time, when) in [
        ("2026-11-23T08:00:00+01:00", "early"),
        ("2026-11-23T23:00:00+01:00", "late"),
    ] {
        set_clock(time);
        let answer = house.dial(json!({"to": "+390612345678"})).await;
        assert_eq!(answer.problem(409), "not_open", "{when}");
    }
    assert_eq!(house.dialled(), 1);
}

#[tokio::test]
async fn what_could_not_be_begun_is_told_and_does_not_count() {
    let house = House::new(
        json!({"dial_prefixes": ["+39"], "dial_at_once_max": 1, "dial_per_hour_max": 1}),
    )
    .await;
    let body = || json!({"to": "+390612345678"});
    for (refusal, status, code) in [
        (LiveError::CannotDial, 422, "not_supported"),
        (LiveError::NoLine, 503, "no_line"),
        (LiveError::Unavailable, 503, "unavailable"),
        (LiveError::Full, 409, "full"),
    ] {
        *house.api.roster.dial_refusal.lock().unwrap() = Some(refusal);
        assert_eq!(house.dial(body()).await.problem(status), code);
    }
    *house.api.roster.dial_refusal.lock().unwrap() = None;
    assert_eq!(house.dial(body()).await.status, 202);
    assert_eq!(house.dial(body()).await.problem(429), "dial_limit");
}

#[tokio::test]
async fn however_many_ask_at_once_no_more_are_begun_than_may_be() {
    let house = House::new(json!({"dial_prefixes": ["+39"], "dial_at_once_max": 5})).await;
    let all = (0..32).map(|_| house.dial(json!({"to": "+390612345678"})));
    let answers = join_all(all).await;
    let begun = answers.iter().filter(|answer| answer.status == 202).count();
    assert_eq!((begun, house.dialled()), (5, 5));
    for answer in answers.iter().filter(|answer| answer.status != 202) {
        assert_eq!(answer.problem(429), "dial_limit");
        assert_eq!(answer.header("retry-after"), "30");
    }
}

#[tokio::test]
async fn a_call_counts_while_it_goes_on_and_for_its_hour() {
    let house = House::new(
        json!({"dial_prefixes": ["+39"], "dial_at_once_max": 1, "dial_per_hour_max": 3}),
    )
    .await;
    let dial = || house.dial(json!({"to": "+390612345678"}));
    let over = async |outcome| {
        let order = house
            .api
            .roster
            .dialled
            .lock()
            .unwrap()
            .last()
            .cloned()
            .unwrap();
        let record = CallRecord {
            direction: Direction::Out,
            organisation: Some(order.outgoing.admission.organisation),
            outcome,
            ..call(order.call.0.as_u128(), None, None)
        };
        house.api.bookings.record_call(&record).await.unwrap();
    };
    assert_eq!(dial().await.status, 202);
    assert_eq!(dial().await.problem(429), "dial_limit");
    over(Outcome::NoAnswer).await;
    assert_eq!(dial().await.status, 202);
    // Its node says that it goes on, for longer than it would count else.
    let going_on = house
        .api
        .roster
        .dialled
        .lock()
        .unwrap()
        .last()
        .unwrap()
        .call;
    for minute in 6..12 {
        set_clock(&format!("2026-11-23T10:{minute:02}:00+01:00"));
        house
            .api
            .bookings
            .extend_dials(NOW.get(), vec![going_on])
            .await
            .unwrap();
    }
    assert_eq!(dial().await.problem(429), "dial_limit");
    // Its node has died.
    set_clock("2026-11-23T10:20:00+01:00");
    assert_eq!(dial().await.status, 202);
    over(Outcome::Busy).await;
    let late = going_on;
    house.api.bookings.release_dial(late).await.unwrap();
    assert_eq!(dial().await.status, 202);
    over(Outcome::Declined).await;
    let full = dial().await;
    assert_eq!(full.problem(429), "dial_limit");
    // The first of them is twenty-five minutes old by then.
    assert_eq!(full.header("retry-after"), (45 * 60).to_string());
    set_clock("2026-11-23T11:05:01+01:00");
    assert_eq!(dial().await.status, 202);

    let admin = house.api.key("demo", KeyRole::Admin).await;
    let calls = house
        .api
        .ask(&admin, "GET", "/v1/calls?outcome=declined", None)
        .await
        .json();
    assert_eq!(calls["items"][0]["direction"], "out");
    assert_eq!(calls["items"][0]["caller"], "…5678");
}

#[tokio::test]
async fn the_platform_alone_says_what_may_be_dialled() {
    let house = House::new(italian()).await;
    let admin = house.api.key("demo", KeyRole::Admin).await;
    let own = house
        .api
        .ask(&admin, "GET", "/v1/organisations", None)
        .await
        .json();
    let own = &own["items"][0];
    assert_eq!(own["dial_prefixes"], json!(["+39"]));
    assert_eq!(own["dial_digits_min"], Value::Null);
    let path = format!("/v1/organisations/{}", own["id"].as_str().unwrap());
    let wider = Some(json!({"dial_prefixes": ["+4"]}));
    let answer = house.api.ask(&admin, "PATCH", &path, wider).await;
    assert_eq!(answer.problem(403), "forbidden");
    let platform = house.api.key("portal", KeyRole::Platform).await;
    let wrong =
        Some(json!({"dial_prefixes": ["+"], "dial_digits_min": 1, "dial_per_hour_max": -1}));
    let wrong = house.api.ask(&platform, "PATCH", &path, wrong).await;
    assert_eq!(
        wrong.errors(),
        [
            "dial_prefixes invalid",
            "dial_digits_min invalid",
            "dial_per_hour_max invalid"
        ]
    );
}
