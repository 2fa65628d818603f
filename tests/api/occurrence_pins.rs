//! Series whose occurrences have PINs of their own.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use serde_json::{Value, json};
use voicebridge::booking::KeyRole;

use super::{Answer, Api, NOW, meeting, path_of, set_clock, with};

fn weekly(rule: &str) -> Value {
    let recurrence = json!({"rule": rule});
    with(
        meeting(),
        json!({"recurrence": recurrence, "pins_per": "occurrence"}),
    )
}

async fn booked(api: &Api, key: &str, body: Value) -> Value {
    let answer = api.ask(key, "POST", "/v1/meetings", Some(body)).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.json()
}

async fn occurrences(api: &Api, key: &str, path: &str) -> Vec<Value> {
    let path = format!("{path}/occurrences?limit=1000&to=2028-12-31T00:00:00Z");
    let listed = api.ask(key, "GET", &path, None).await.json();
    listed["items"].as_array().unwrap().clone()
}

/// What a caller would hear with this PIN.
async fn outcome(api: &Api, key: &str, pin: &Value, at: &str) -> String {
    let body = json!({"pin": pin, "at": at});
    let answer = api.ask(key, "POST", "/v1/pins/explain", Some(body)).await;
    answer.json()["outcome"]
        .as_str()
        .unwrap_or_else(|| panic!("{}", answer.text))
        .to_owned()
}

fn refusals(answer: &Answer) -> Vec<String> {
    answer.problem(422);
    answer.errors()
}

#[tokio::test]
async fn each_occurrence_has_its_pins_and_they_open_that_one_alone() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Booking).await;
    let first = booked(&api, &key, weekly("FREQ=WEEKLY;COUNT=4")).await;
    assert_eq!(first["pins_per"], "occurrence");
    let path = path_of(&first);
    let all = occurrences(&api, &key, &path).await;
    assert_eq!(first["pins"], all[0]["pins"], "those of the next one");
    let pins = |role: &str| -> Vec<Value> { all.iter().map(|o| o["pins"][role].clone()).collect() };
    let (guests, hosts) = (pins("guest"), pins("host"));
    let different: BTreeSet<&str> = guests
        .iter()
        .chain(&hosts)
        .map(|pin| pin.as_str().unwrap())
        .collect();
    assert_eq!(different.len(), 8);
    for (n, pin) in guests.iter().enumerate() {
        for (m, other) in all.iter().enumerate() {
            let at = other["starts_at"].as_str().unwrap();
            let expected = match n.cmp(&m) {
                std::cmp::Ordering::Equal => "joined",
                std::cmp::Ordering::Less => "ended",
                std::cmp::Ordering::Greater => "too_early",
            };
            assert_eq!(outcome(&api, &key, pin, at).await, expected, "{n} {m}");
        }
    }
    // Moved: the same PIN, at the new time. Cancelled: told so, and brought back by the same.
    let one = format!("{path}/occurrences/20261130T100000");
    let to = json!({"starts_at": "2026-12-01T15:00:00+01:00"});
    let moved = api.ask(&key, "PATCH", &one, Some(to)).await.json();
    assert_eq!(moved["pins"], all[1]["pins"]);
    assert_eq!(
        outcome(&api, &key, &guests[1], "2026-11-30T09:00:00Z").await,
        "too_early"
    );
    assert_eq!(
        outcome(&api, &key, &guests[1], "2026-12-01T14:30:00Z").await,
        "joined"
    );
    let third = format!("{path}/occurrences/20261207T100000");
    assert_eq!(api.ask(&key, "DELETE", &third, None).await.status, 204);
    assert_eq!(
        outcome(&api, &key, &guests[2], "2026-12-07T09:30:00Z").await,
        "cancelled"
    );
    let back = json!({"cancelled": false});
    api.ask(&key, "PATCH", &third, Some(back)).await;
    assert_eq!(
        outcome(&api, &key, &guests[2], "2026-12-07T09:30:00Z").await,
        "joined"
    );
    // A change of the whole keeps them; one more occurrence gets PINs, one that is gone opens nothing.
    let later =
        json!({"starts_at": "2026-11-23T11:00:00+01:00", "ends_at": "2026-11-23T12:00:00+01:00"});
    let changed = api.ask(&key, "PATCH", &path, Some(later)).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    let longer = json!({"recurrence": {"rule": "FREQ=WEEKLY;COUNT=5", "excluded": ["2026-12-14"]}});
    let changed = api.ask(&key, "PATCH", &path, Some(longer)).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    let after = occurrences(&api, &key, &path).await;
    let left: Vec<&Value> = after.iter().map(|o| &o["pins"]["guest"]).collect();
    assert_eq!(left[..3], [&guests[0], &guests[1], &guests[2]]);
    assert!(left[3].is_string() && !guests.contains(left[3]));
    assert_eq!(
        outcome(&api, &key, &guests[0], "2026-11-23T10:30:00Z").await,
        "joined"
    );
    assert_eq!(
        outcome(&api, &key, &guests[3], "2026-12-14T10:30:00Z").await,
        "cancelled"
    );
    let reader = api.key("demo", KeyRole::Reader).await;
    assert_eq!(
        occurrences(&api, &reader, &path).await[0]["pins"],
        Value::Null
    );
}

#[tokio::test]
async fn what_one_pin_opens_is_said_once_and_stays() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Booking).await;
    let post = async |body: Value| {
        let answer = api.ask(&key, "POST", "/v1/meetings", Some(body)).await;
        refusals(&answer)
    };
    let once = with(meeting(), json!({"pins_per": "occurrence"}));
    assert_eq!(post(once).await, ["pins_per invalid"]);
    let other = with(weekly("FREQ=DAILY"), json!({"pins_per": "call"}));
    assert_eq!(post(other).await, ["pins_per invalid"]);
    let name = "/v1/meetings/by-external-id/a";
    let put = async |body: Value| api.ask(&key, "PUT", name, Some(body)).await;
    let first = put(weekly("FREQ=WEEKLY")).await;
    assert_eq!(first.status, 201, "{}", first.text);
    let path = path_of(&first.json());
    for change in [
        json!({"pins_per": "series"}),
        json!({"pins_per": null}),
        json!({"recurrence": null}),
    ] {
        let refused = api.ask(&key, "PATCH", &path, Some(change)).await;
        assert_eq!(refusals(&refused), ["pins_per invalid"]);
    }
    let series = with(weekly("FREQ=WEEKLY"), json!({"pins_per": "series"}));
    assert_eq!(refusals(&put(series).await), ["pins_per invalid"]);
    let same = put(weekly("FREQ=WEEKLY")).await;
    assert_eq!(
        (same.status.as_u16(), &same.json()["pins"]),
        (200, &first.json()["pins"])
    );
}

#[tokio::test]
async fn an_endless_series_gets_pins_for_a_year_and_a_job_goes_on_with_it() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Booking).await;
    let path = path_of(&booked(&api, &key, weekly("FREQ=WEEKLY")).await);
    let daily = path_of(&booked(&api, &key, weekly("FREQ=DAILY")).await);
    let yearly = path_of(&booked(&api, &key, weekly("FREQ=YEARLY;INTERVAL=2")).await);
    let with_pins = async |path: &str| {
        let all = occurrences(&api, &key, path).await;
        all.iter().filter(|o| o["pins"].is_object()).count()
    };
    assert_eq!(
        (
            with_pins(&path).await,
            with_pins(&daily).await,
            with_pins(&yearly).await
        ),
        (52, 100, 1)
    );
    let tend = async || api.bookings.tend_occurrence_pins(NOW.get()).await.unwrap();
    assert_eq!(tend().await.given, 0);
    let first = occurrences(&api, &key, &path).await[0]["pins"]["guest"].clone();
    let before = occurrences(&api, &key, &path).await;
    NOW.set(NOW.get() + SignedDuration::from_hours(24 * 14));
    // Two nodes do it at once, and each occurrence gets its PINs once.
    let (one, two) = tokio::join!(tend(), tend());
    assert!(one.given >= 4 && two.withdrawn == 0, "{one:?} {two:?}");
    let listed = api
        .ask(&key, "GET", &format!("{path}/pins"), None)
        .await
        .json();
    let each: Vec<String> = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pin| format!("{} {}", pin["occurrence"], pin["role"]))
        .collect();
    let different: BTreeSet<&String> = each.iter().collect();
    assert_eq!((each.len(), different.len()), (108, 108));
    let after = occurrences(&api, &key, &path).await;
    assert_eq!(after[0]["pins"], before[2]["pins"], "what was given stays");
    // 30 days after its occurrence a PIN is nobody's.
    assert_eq!(
        outcome(&api, &key, &first, "2026-12-20T00:00:00Z").await,
        "ended"
    );
    assert_eq!(
        outcome(&api, &key, &first, "2026-12-24T00:00:00Z").await,
        "wrong_pin"
    );
    set_clock("2026-12-24T00:00:00Z");
    assert!(tend().await.withdrawn >= 2);
    assert_eq!(
        outcome(&api, &key, &first, "2026-11-23T09:30:00Z").await,
        "wrong_pin"
    );
    let metrics = api.ask(&key, "GET", "/metrics", None).await;
    assert!(metrics.text.contains("voicebridge_occurrence_pins_total"));
}

#[tokio::test]
async fn a_calendar_shows_each_occurrence_with_its_own_pin() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Booking).await;
    let path = path_of(&booked(&api, &key, weekly("FREQ=WEEKLY;COUNT=3")).await);
    let one = format!("{path}/occurrences/20261130T100000");
    let to = json!({"starts_at": "2026-12-01T15:00:00+01:00"});
    api.ask(&key, "PATCH", &one, Some(to)).await;
    let last = format!("{path}/occurrences/20261207T100000");
    assert_eq!(api.ask(&key, "DELETE", &last, None).await.status, 204);
    let all = occurrences(&api, &key, &path).await;
    let pin = |n: usize| all[n]["pins"]["guest"].as_str().unwrap().to_owned();
    let written = async |query: &str| {
        let path = format!("{path}/invitation{query}");
        let answer = api.ask(&key, "GET", &path, None).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.text.replace("\r\n ", "")
    };
    let calendar = written("?format=ics").await;
    let events: Vec<&str> = calendar.split("BEGIN:VEVENT").skip(1).collect();
    assert_eq!(events.len(), 3, "{calendar}");
    assert!(
        events[0].contains("RRULE") && !events[0].contains(",,"),
        "{}",
        events[0]
    );
    assert!(events[0].contains("EXDATE;TZID=Europe/Rome:20261207T100000"));
    for (n, id, starts) in [
        (0, "20261123T100000", "20261123T100000"),
        (1, "20261130T100000", "20261201T150000"),
    ] {
        let event = events[n + 1];
        assert!(
            event.contains(&format!("RECURRENCE-ID;TZID=Europe/Rome:{id}")),
            "{event}"
        );
        assert!(
            event.contains(&format!("DTSTART;TZID=Europe/Rome:{starts}")),
            "{event}"
        );
        assert!(event.contains(&format!(",,{}%23", pin(n))), "{event}");
    }
    assert!(!calendar.contains(&pin(2)));
    // As text: the next one's, then the one's after it.
    let ungrouped = async || written("").await.replace(' ', "");
    assert!(ungrouped().await.contains(&pin(0)));
    set_clock("2026-11-24T00:00:00Z");
    assert!(ungrouped().await.contains(&pin(1)));
}

#[tokio::test]
async fn occurrences_with_pins_of_their_own_are_never_open_at_the_same_time() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Booking).await;
    // An hour each, a quarter before and an hour after it: 75 minutes must lie between them.
    let near = |added: &str| {
        let mut body = weekly("FREQ=WEEKLY;COUNT=3");
        body["recurrence"]["added"] = json!([added]);
        body
    };
    let post = async |body| api.ask(&key, "POST", "/v1/meetings", Some(body)).await;
    let refused = post(near("2026-11-30T12:14:59")).await;
    assert_eq!(refusals(&refused), ["pins_per out_of_range"]);
    assert!(refused.text.contains("20261130T121459"), "{}", refused.text);
    let fits = post(near("2026-11-30T12:15:00")).await;
    assert_eq!(fits.status, 201, "{}", fits.text);
    let path = path_of(&fits.json());
    let wider = json!({"overrun_minutes": 61});
    let refused = api.ask(&key, "PATCH", &path, Some(wider)).await;
    assert_eq!(refusals(&refused), ["pins_per out_of_range"]);
    let one = format!("{path}/occurrences/20261130T121500");
    let to = json!({"starts_at": "2026-11-30T07:46:00+01:00"});
    let refused = api.ask(&key, "PATCH", &one, Some(to)).await;
    assert_eq!(refusals(&refused), ["pins_per out_of_range"]);
    assert_eq!(api.ask(&key, "DELETE", &one, None).await.status, 204);
    // With one PIN for all of it they are one stay.
    let series = with(near("2026-11-30T11:30:00"), json!({"pins_per": "series"}));
    assert_eq!(post(series).await.status, 201);
}
