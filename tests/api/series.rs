//! Series over the API: booked, listed, moved, cancelled, refused.

use serde_json::{Value, json};
use voicebridge::booking::KeyRole;

use super::{Api, meeting, set_clock, with};

fn weekly(rule: &str) -> Value {
    with(
        meeting(),
        json!({
            "starts_at": "2026-11-23T10:00:00+01:00", "ends_at": "2026-11-23T11:00:00+01:00", "timezone": "Europe/Rome",
            "recurrence": {"rule": rule},
        }),
    )
}

async fn explain(api: &Api, key: &str, pin: &Value, at: &str) -> Value {
    let body = json!({"pin": pin, "at": at});
    let answer = api.ask(key, "POST", "/v1/pins/explain", Some(body)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

#[tokio::test]
async fn a_series_has_one_pin_and_occurrences_that_are_moved_and_cancelled_one_by_one() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Booking).await;
    let mut body = weekly("RRULE:FREQ=WEEKLY;COUNT=4");
    body["recurrence"]["excluded"] = json!(["2026-11-30"]);
    body["recurrence"]["added"] = json!(["2026-12-24T16:00:00", "2026-12-28T09:00:00Z"]);
    let booked = api.ask(&key, "POST", "/v1/meetings", Some(body)).await;
    assert_eq!(booked.status, 201, "{}", booked.text);
    let (etag, booked) = (booked.header("etag").to_owned(), booked.json());
    assert_eq!(
        booked["recurrence"],
        json!({
            "rule": "FREQ=WEEKLY;COUNT=4", "excluded": ["2026-11-30T10:00:00+01:00"],
            "added": ["2026-12-24T16:00:00+01:00", "2026-12-28T10:00:00+01:00"],
        })
    );
    let path = format!(
        "/v1/meetings/{}/occurrences",
        booked["id"].as_str().unwrap()
    );
    let list = async |query: &str| {
        let answer = api.ask(&key, "GET", &format!("{path}{query}"), None).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()
    };
    let ids = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().unwrap().iter();
        items
            .map(|o| o["recurrence_id"].as_str().unwrap().to_owned())
            .collect()
    };
    let all = [
        "20261123T100000",
        "20261207T100000",
        "20261214T100000",
        "20261224T160000",
        "20261228T100000",
    ];
    assert_eq!(ids(&list("").await), all);
    let first = list("?limit=2").await;
    assert_eq!(ids(&first), all[..2]);
    let rest = list(&format!(
        "?limit=3&cursor={}",
        first["next"].as_str().unwrap()
    ))
    .await;
    assert_eq!(
        (ids(&rest), &rest["next"]),
        (
            all[2..].iter().map(|&s| s.to_owned()).collect(),
            &Value::Null
        )
    );
    assert_eq!(
        ids(&list("?from=2026-12-14T10:59:59%2B01:00&to=2026-12-28T09:00:00Z").await),
        all[2..4]
    );

    // Moved: the PIN opens at the new time, and no longer at the old one.
    let one = format!("{path}/20261207T100000");
    let to = json!({"starts_at": "2026-12-08T15:00:00+01:00"});
    let stale = api
        .ask_with(
            &key,
            "PATCH",
            &one,
            Some(to.clone()),
            &[("if-match", "\"9\"")],
        )
        .await;
    assert_eq!(stale.problem(412), "changed");
    let moved = api
        .ask_with(&key, "PATCH", &one, Some(to), &[("if-match", &etag)])
        .await;
    assert_eq!(
        (moved.status.as_u16(), moved.header("etag")),
        (200, "\"2\""),
        "{}",
        moved.text
    );
    assert_eq!(
        moved.json(),
        json!({
            "recurrence_id": "20261207T100000", "starts_at": "2026-12-08T15:00:00+01:00", "ends_at": "2026-12-08T16:00:00+01:00",
            "state": "scheduled", "moved": true, "pins": booked["pins"],
        })
    );
    let pin = &booked["pins"]["guest"];
    let at = async |time| explain(&api, &key, pin, time).await["outcome"].clone();
    assert_eq!(at("2026-12-07T10:00:00+01:00").await, "too_early");
    assert_eq!(at("2026-12-08T14:45:00+01:00").await, "joined");

    // Cancelled: told so at its time; the rest stays.
    let cancelled = api
        .ask(&key, "DELETE", &format!("{path}/20261214T100000"), None)
        .await;
    assert_eq!(cancelled.status, 204);
    assert_eq!(at("2026-12-14T10:00:00+01:00").await, "cancelled");
    assert_eq!(at("2026-12-24T16:00:00+01:00").await, "joined");
    assert_eq!(at("2026-12-28T13:00:00+01:00").await, "ended");
    assert_eq!(list("").await["items"][2]["state"], "cancelled");

    // A change of the whole keeps PINs and what became of single occurrences.
    let one = format!("/v1/meetings/{}", booked["id"].as_str().unwrap());
    let body = json!({"starts_at": "2026-11-23T09:00:00+01:00"});
    let changed = api.ask(&key, "PATCH", &one, Some(body)).await;
    assert_eq!(
        (changed.status.as_u16(), &changed.json()["pins"]),
        (200, &booked["pins"]),
        "{}",
        changed.text
    );
    assert_eq!(at("2026-12-14T09:00:00+01:00").await, "cancelled");
    assert_eq!(at("2026-12-08T14:45:00+01:00").await, "joined");
    assert_eq!(at("2026-11-30T09:00:00+01:00").await, "too_early");
    let once = api
        .ask(&key, "PATCH", &one, Some(json!({"recurrence": null})))
        .await;
    assert_eq!(
        (once.status.as_u16(), &once.json()["recurrence"]),
        (200, &Value::Null)
    );
    assert_eq!(ids(&list("").await), Vec::<String>::new());
}

#[tokio::test]
async fn a_put_of_the_same_series_keeps_what_became_of_its_occurrences() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Booking).await;
    let path = "/v1/meetings/by-external-id/jour-fixe";
    let first = api
        .ask(&key, "PUT", path, Some(weekly("FREQ=WEEKLY")))
        .await;
    assert_eq!(first.status, 201, "{}", first.text);
    let id = first.json()["id"].as_str().unwrap().to_owned();
    let one = format!("/v1/meetings/{id}/occurrences/20261130T100000");
    assert_eq!(api.ask(&key, "DELETE", &one, None).await.status, 204);
    let again = api
        .ask(&key, "PUT", path, Some(weekly("FREQ=WEEKLY")))
        .await;
    assert_eq!(
        (again.status.as_u16(), again.header("etag")),
        (200, "\"2\"")
    );
    let pin = &first.json()["pins"]["guest"];
    assert_eq!(
        explain(&api, &key, pin, "2026-11-30T10:00:00+01:00").await["outcome"],
        "cancelled"
    );
    // Endless: it is open in sixty years, too.
    let far = explain(&api, &key, pin, "2086-11-25T10:00:00+01:00").await;
    assert_eq!(
        (&far["outcome"], &far["closes_at"]),
        (&json!("joined"), &json!("2086-11-25T11:00:00Z"))
    );
}

#[tokio::test]
async fn a_series_that_can_not_be_meant_is_refused_and_told_why() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Booking).await;
    let refused = async |body: Value| {
        let answer = api.ask(&key, "POST", "/v1/meetings", Some(body)).await;
        answer.problem(422);
        answer.errors().join(" ")
    };
    for (rule, code) in [
        ("FREQ=WEEKLY;COUNT=10000", "out_of_range"),
        ("FREQ=DAILY;UNTIL=21991231T000000Z", "out_of_range"),
        ("FREQ=WEEKLY;BYDAY=TU", "out_of_range"),
        ("FREQ=MINUTELY", "not_supported"),
        ("FREQ=DAILY;BYHOUR=1,2,3", "not_supported"),
        ("every monday", "invalid"),
        ("", "invalid"),
    ] {
        assert_eq!(
            refused(weekly(rule)).await,
            format!("recurrence {code}"),
            "{rule}"
        );
    }
    let other = |recurrence: Value| with(weekly(""), json!({ "recurrence": recurrence }));
    for recurrence in [
        json!("FREQ=DAILY"),
        json!({}),
        json!({"rule": "FREQ=DAILY", "excluded": "2026-11-24"}),
        json!({"rule": "FREQ=DAILY", "exdate": []}),
        json!({"rule": "FREQ=DAILY", "added": ["tomorrow"]}),
        json!({"rule": "FREQ=DAILY", "added": ["0001-01-01"]}),
    ] {
        assert_eq!(
            refused(other(recurrence.clone())).await,
            "recurrence invalid",
            "{recurrence}"
        );
    }
    let overlapping =
        json!({"starts_at": "2026-11-23T10:00:00+01:00", "ends_at": "2026-11-24T10:30:00+01:00"});
    assert_eq!(
        refused(with(weekly("FREQ=DAILY"), overlapping)).await,
        "recurrence out_of_range"
    );
    let permanent = with(weekly("FREQ=DAILY"), json!({"ends_at": null}));
    assert_eq!(refused(permanent).await, "recurrence invalid");
    set_clock("2027-11-20T08:00:00Z");
    assert_eq!(
        refused(weekly("FREQ=WEEKLY;COUNT=3")).await,
        "recurrence out_of_range"
    );
}

#[tokio::test]
async fn an_occurrence_is_only_found_where_there_is_one() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Booking).await;
    let stranger = api.key("other", KeyRole::Admin).await;
    let single = api.book(&key).await;
    let booked = api
        .ask(&key, "POST", "/v1/meetings", Some(weekly("FREQ=WEEKLY")))
        .await
        .json();
    let path = |meeting: &Value, id: &str| {
        format!(
            "/v1/meetings/{}/occurrences{id}",
            meeting["id"].as_str().unwrap()
        )
    };
    for (key, path) in [
        (&key, path(&single, "/20261123T100000")),
        (&key, path(&booked, "/20261124T100000")),
        (&key, path(&booked, "/monday")),
        (&stranger, path(&booked, "/20261123T100000")),
    ] {
        assert_eq!(
            api.ask(key, "DELETE", &path, None).await.problem(404),
            "not_found",
            "{path}"
        );
        assert_eq!(
            api.ask(key, "PATCH", &path, Some(json!({})))
                .await
                .problem(404),
            "not_found",
            "{path}"
        );
    }
    assert_eq!(
        api.ask(&stranger, "GET", &path(&booked, ""), None)
            .await
            .problem(404),
        "not_found"
    );
    assert_eq!(
        api.ask(&key, "GET", &path(&single, ""), None).await.json(),
        json!({"items": [], "next": null})
    );
    let reader = api.key("demo", KeyRole::Reader).await;
    assert_eq!(
        api.ask(&reader, "DELETE", &path(&booked, "/20261123T100000"), None)
            .await
            .problem(403),
        "forbidden"
    );
    let onto = json!({"starts_at": "2026-11-30T10:30:00+01:00"});
    let refused = api
        .ask(
            &key,
            "PATCH",
            &path(&booked, "/20261123T100000"),
            Some(onto),
        )
        .await;
    assert_eq!(
        (refused.problem(422), refused.errors()),
        (
            "invalid".to_owned(),
            vec!["recurrence out_of_range".to_owned()]
        )
    );
}
