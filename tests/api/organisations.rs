//! Organisations, their keys, the trail of who did what; and that none sees anything of another's.

use super::*;

async fn made(api: &Api, platform: &str, body: Value) -> Value {
    let answer = api
        .ask(platform, "POST", "/v1/organisations", Some(body))
        .await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.json()
}

#[tokio::test]
async fn a_portal_makes_organisations_and_changes_them() {
    let api = Api::new().await;
    let platform = api.key("portal", KeyRole::Platform).await;
    let asked = json!({"name": "uni", "language": "en", "retain_days": 7, "privacy_store": "none"});
    let uni = made(&api, &platform, asked).await;
    let path = format!("/v1/organisations/{}", uni["id"].as_str().unwrap());
    assert_eq!(uni["retain_days"], 7);
    let again = json!({"name": "uni"});
    let taken = api
        .ask(&platform, "POST", "/v1/organisations", Some(again))
        .await;
    assert_eq!(
        (taken.problem(422), taken.errors()),
        ("invalid".to_owned(), vec!["name taken".to_owned()])
    );
    let read = api.ask(&platform, "GET", &path, None).await;
    let etag = read.header("etag").to_owned();
    let change = json!({"retain_days": null, "privacy_show": "none"});
    let patch = |etag: String| {
        let (api, platform, path, change) = (&api, &platform, &path, change.clone());
        async move {
            let headers = [("if-match", etag.as_str())];
            api.ask_with(platform, "PATCH", path, Some(change), &headers)
                .await
        }
    };
    let changed = patch(etag.clone()).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    assert_eq!(changed.json()["retain_days"], Value::Null);
    assert_eq!(changed.json()["language"], "en");
    assert_eq!(patch(etag).await.problem(412), "changed");
    let wrong = json!({"name": "x", "callers_max": "many", "colour": 1});
    let wrong = api.ask(&platform, "PATCH", &path, Some(wrong)).await;
    assert_eq!(
        wrong.errors(),
        ["callers_max invalid", "colour unknown_field"]
    );
    let admin = api.key("uni", KeyRole::Admin).await;
    for (method, path) in [("POST", "/v1/organisations"), ("PATCH", path.as_str())] {
        let answer = api.ask(&admin, method, path, Some(json!({}))).await;
        assert_eq!(answer.problem(403), "forbidden");
    }
    let own = api
        .ask(&admin, "GET", "/v1/organisations", None)
        .await
        .json();
    assert_eq!(own["items"].as_array().unwrap().len(), 1);
    let all = api.ask(&platform, "GET", "/v1/organisations", None).await;
    assert_eq!(all.json()["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn keys_are_made_rotated_and_revoked_and_grow_no_rights() {
    let api = Api::new().await;
    let admin = api.key("demo", KeyRole::Admin).await;
    let create = async |key: &str, body: Value| api.ask(key, "POST", "/v1/keys", Some(body)).await;
    let new = create(
        &admin,
        json!({"role": "booking", "expires_at": "2026-12-01T00:00:00Z"}),
    )
    .await;
    assert_eq!(new.status, 201, "{}", new.text);
    let new = new.json();
    let (secret, id) = (new["key"].as_str().unwrap(), new["id"].as_str().unwrap());
    api.book(secret).await;
    for (body, error) in [
        (json!({"role": "platform"}), "role invalid"),
        (json!({}), "role required"),
        (
            json!({"role": "reader", "scopes": ["dial"]}),
            "scopes invalid",
        ),
        (
            json!({"role": "reader", "expires_at": "2026-01-01T00:00:00Z"}),
            "expires_at out_of_range",
        ),
    ] {
        assert_eq!(create(&admin, body).await.errors(), [error]);
    }
    assert_eq!(
        create(secret, json!({"role": "reader"})).await.problem(403),
        "forbidden"
    );
    let list = api.ask(&admin, "GET", "/v1/keys", None).await;
    assert!(!list.text.contains(secret), "a key is shown once");
    assert_eq!(list.json()["items"].as_array().unwrap().len(), 2);
    let rotate = format!("/v1/keys/{id}/rotate");
    let rotated = api
        .ask(&admin, "POST", &rotate, Some(json!({"grace_minutes": 5})))
        .await;
    let rotated = rotated.json();
    let works = async |key: &str| api.ask(key, "GET", "/v1/meetings", None).await.status == 200;
    assert!(works(secret).await && works(rotated["key"].as_str().unwrap()).await);
    set_clock("2026-11-20T08:06:00Z");
    assert!(!works(secret).await && works(rotated["key"].as_str().unwrap()).await);
    assert_eq!(
        api.ask(&admin, "POST", &rotate, Some(json!({})))
            .await
            .problem(404),
        "not_found"
    );
    let path = format!("/v1/keys/{}", rotated["id"].as_str().unwrap());
    assert_eq!(api.ask(&admin, "DELETE", &path, None).await.status, 204);
    assert!(!works(rotated["key"].as_str().unwrap()).await);
}

#[tokio::test]
async fn the_trail_tells_who_did_what_and_holds_no_secret() {
    let api = Api::new().await;
    let (platform, admin) = (
        api.key("portal", KeyRole::Platform).await,
        api.key("demo", KeyRole::Admin).await,
    );
    let booked = api.book(&admin).await;
    let path = path_of(&booked);
    let pin = booked["pins"]["guest"].as_str().unwrap();
    for (second, (key, method, path, body)) in (1..).zip([
        (
            &admin,
            "POST",
            "/v1/pins/explain",
            Some(json!({"pin": pin})),
        ),
        (
            &admin,
            "PATCH",
            path.as_str(),
            Some(json!({"title": "canary"})),
        ),
        (&admin, "PATCH", path.as_str(), Some(json!({"capacity": 0}))),
        (&platform, "DELETE", path.as_str(), None),
    ]) {
        set_clock(&format!("2026-11-20T08:00:0{second}Z"));
        api.ask(key, method, path, body).await;
    }
    let trail = api.ask(&admin, "GET", "/v1/audit", None).await;
    let deeds: Vec<Value> = trail.json()["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| json!([e["action"], e["subject"], e["role"], e["key_id"].is_null()]))
        .collect();
    assert_eq!(
        deeds,
        [
            json!(["DELETE /v1/meetings/{id}", path, "platform", true]),
            json!(["PATCH /v1/meetings/{id}", path, "admin", false]),
            json!(["POST /v1/pins/explain", "/v1/pins/explain", "admin", false]),
            json!(["POST /v1/meetings", path, "admin", false]),
        ]
    );
    assert!(!trail.text.contains(pin) && !trail.text.contains("canary"));
    let page = api
        .ask(&admin, "GET", "/v1/audit?limit=3", None)
        .await
        .json();
    let next = format!(
        "/v1/audit?limit=3&cursor={}",
        page["next"].as_str().unwrap()
    );
    let rest = api.ask(&admin, "GET", &next, None).await.json();
    assert_eq!(rest["items"].as_array().unwrap().len(), 1);
    let booking = api.key("demo", KeyRole::Booking).await;
    assert_eq!(
        api.ask(&booking, "GET", "/v1/audit", None)
            .await
            .problem(403),
        "forbidden"
    );
    api.bookings
        .purge("2027-02-19T08:00:00Z".parse().unwrap())
        .await
        .unwrap();
    let gone = api.ask(&admin, "GET", "/v1/audit", None).await.json();
    assert_eq!(gone["items"], json!([]));
}

#[tokio::test]
async fn an_organisation_books_no_more_meetings_than_it_may() {
    let api = Api::new().await;
    let platform = api.key("portal", KeyRole::Platform).await;
    made(&api, &platform, json!({"name": "uni", "meetings_max": 2})).await;
    let key = api.key("uni", KeyRole::Booking).await;
    let first = path_of(&api.book(&key).await);
    let named = with(meeting(), json!({"external_id": "b"}));
    let second = path_of(
        &api.ask(&key, "POST", "/v1/meetings", Some(named.clone()))
            .await
            .json(),
    );
    let third = async || api.ask(&key, "POST", "/v1/meetings", Some(meeting())).await;
    assert_eq!(third().await.problem(409), "meetings_max");
    api.book(&api.key("demo", KeyRole::Booking).await).await;
    let title = api
        .ask(&key, "PATCH", &first, Some(json!({"title": "x"})))
        .await;
    assert_eq!(title.status, 200, "what is there may be changed");
    assert_eq!(api.ask(&key, "DELETE", &second, None).await.status, 204);
    assert_eq!(third().await.status, 201, "a cancelled one makes room");
    let back = api
        .ask(&key, "PUT", "/v1/meetings/by-external-id/b", Some(named))
        .await;
    assert_eq!(
        back.problem(409),
        "meetings_max",
        "and comes back only into room"
    );
}

#[tokio::test]
async fn each_organisation_decides_what_is_kept_and_shown_of_callers_and_for_how_long() {
    let api = Api::new().await;
    let platform = api.key("portal", KeyRole::Platform).await;
    let asked =
        json!({"name": "full", "privacy_show": "full", "privacy_store": "full", "retain_days": 10});
    made(&api, &platform, asked).await;
    made(
        &api,
        &platform,
        json!({"name": "none", "privacy_store": "none"}),
    )
    .await;
    made(
        &api,
        &platform,
        json!({"name": "hides", "privacy_show": "none"}),
    )
    .await;
    let cases = [
        ("full", "+390612345678"),
        ("none", "…"),
        ("hides", ""),
        ("demo", "…5678"),
    ];
    for (n, (name, shown)) in (1..).zip(cases) {
        let key = api.key(name, KeyRole::Admin).await;
        let booked = api.book(&key).await;
        let id = MeetingId(booked["id"].as_str().unwrap().parse().unwrap());
        let organisation = api.bookings.authenticate(NOW.get(), &key).await.unwrap();
        let organisation = json!(organisation.organisation.id);
        let record = call(n, Some(&organisation), Some(&booked));
        api.bookings.record_call(&record).await.unwrap();
        let calls = api.ask(&key, "GET", "/v1/calls", None).await.json();
        assert_eq!(calls["items"][0]["caller"], shown, "{name}");
        api.roster.enter(id, "Ada");
        let there = api
            .ask(
                &key,
                "GET",
                &format!("{}/participants", path_of(&booked)),
                None,
            )
            .await;
        let live = if name == "none" { "…5678" } else { shown };
        assert_eq!(there.json()["items"][0]["number"], live, "{name}");
    }
    let count = async |name: &str| {
        let key = api.key(name, KeyRole::Admin).await;
        let calls = api.ask(&key, "GET", "/v1/calls", None).await.json();
        calls["items"].as_array().unwrap().len()
    };
    api.bookings
        .purge("2026-12-05T08:00:00Z".parse().unwrap())
        .await
        .unwrap();
    assert_eq!((count("full").await, count("demo").await), (0, 1));
}

/// Every documented operation is asked by one organisation about the other's things and about things that
/// don't exist: the answers are the same.
#[tokio::test]
async fn nothing_of_another_organisation_can_be_seen_or_guessed() {
    let api = Api::new().await;
    let owner = api.key("demo", KeyRole::Admin).await;
    let named = with(
        meeting(),
        json!({"external_id": "theirs", "title": "canary"}),
    );
    let booked = api
        .ask(&owner, "POST", "/v1/meetings", Some(named))
        .await
        .json();
    let id = booked["id"].as_str().unwrap();
    let person = api.roster.enter(MeetingId(id.parse().unwrap()), "canary");
    let pin = booked["pins"]["guest"].as_str().unwrap();
    let key_id = api.ask(&owner, "GET", "/v1/keys", None).await.json()["items"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let organisation = api
        .ask(&owner, "GET", "/v1/organisations", None)
        .await
        .json()["items"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let made = api.ask(
        &owner,
        "POST",
        "/v1/webhooks",
        Some(json!({"url": "https://example.org/canary"})),
    );
    let hook = made.await.json()["id"].as_str().unwrap().to_owned();
    let numbers = api.ask(&owner, "GET", "/v1/numbers", None).await.json();
    let number = numbers["items"][1]["id"].as_str().unwrap().to_owned();
    let number_path = format!("/v1/numbers/{number}");
    let room = json!({"name": "canary", "capacity": 5});
    let room = api.ask(&owner, "POST", "/v1/rooms", Some(room)).await;
    let room = room.json()["id"].as_str().unwrap().to_owned();
    let label = json!({"label": "canary"});
    let changed = api.ask(&owner, "PATCH", &number_path, Some(label)).await;
    assert_eq!(changed.json()["organisation"], "demo", "{}", changed.text);
    let owner_id = api.bookings.authenticate(NOW.get(), &owner).await.unwrap();
    let theirs = call(1, Some(&json!(owner_id.organisation.id)), Some(&booked));
    api.bookings.record_call(&theirs).await.unwrap();
    let calls = api.ask(&owner, "GET", "/v1/calls", None).await.json();
    let caller = calls["items"][0]["caller_hash"]
        .as_str()
        .unwrap()
        .to_owned();
    let other_pin = if pin == "4815162342" {
        "4815162343"
    } else {
        "4815162342"
    };
    let nobody = Uuid::from_u128(7).to_string();
    // Else whoever follows events would never be answered in full.
    api.bookings.end_event_streams();
    let document = serde_json::to_value(openapi()).unwrap();
    let mut asked = 0;
    for role in [
        KeyRole::Admin,
        KeyRole::Booking,
        KeyRole::Operator,
        KeyRole::Reader,
    ] {
        let stranger = api.key("other", role).await;
        for (path, item) in document["paths"].as_object().unwrap() {
            for method in item.as_object().unwrap().keys() {
                let fill = |theirs: bool| {
                    let pick = |a: &str, b: &str| (if theirs { a } else { b }).to_owned();
                    let named = if path.starts_with("/v1/keys") {
                        pick(&key_id, &nobody)
                    } else if path.starts_with("/v1/webhooks") {
                        pick(&hook, &nobody)
                    } else if path.starts_with("/v1/numbers") {
                        pick(&number, &nobody)
                    } else if path.starts_with("/v1/rooms") {
                        pick(&room, &nobody)
                    } else if path.starts_with("/v1/organisations") {
                        pick(&organisation, &nobody)
                    } else {
                        pick(id, &nobody)
                    };
                    let filled = path
                        .replace("{id}", &named)
                        .replace("{organisation}", &pick("demo", "nobody"))
                        .replace("{external_id}", &pick("theirs", "nobodys"))
                        .replace("{hash}", &pick(&caller, &"0".repeat(32)))
                        .replace("{participant_id}", &pick(&person.to_string(), &nobody));
                    let query = match (method.as_str(), path.as_str()) {
                        ("get", "/v1/calls") => format!("?meeting_id={}", pick(id, &nobody)),
                        _ => String::new(),
                    };
                    let body = match path.as_str() {
                        "/v1/pins/explain" => json!({"pin": pick(pin, other_pin)}),
                        "/v1/callers" => {
                            json!({"organisation": pick("demo", "nobody"), "number": "1"})
                        }
                        "/v1/keys" => {
                            json!({"organisation": pick("demo", "nobody"), "role": "reader"})
                        }
                        "/v1/organisations" => json!({"name": pick("demo", "nobody")}),
                        "/v1/webhooks" => {
                            json!({"organisation": pick("demo", "nobody"), "url": "https://example.org/canary"})
                        }
                        "/v1/numbers" => {
                            json!({"number": pick("+390601", "+390699"), "language": "it"})
                        }
                        "/v1/rooms" => {
                            json!({"organisation": pick("demo", "nobody"), "name": "A", "capacity": 1})
                        }
                        "/v1/meetings" => json!({"organisation": pick("demo", "nobody")}),
                        _ => json!({}),
                    };
                    (format!("{filled}{query}"), body)
                };
                let mut answers = Vec::new();
                for theirs in [true, false] {
                    let (path, body) = fill(theirs);
                    let body = (!matches!(method.as_str(), "get" | "delete")).then_some(body);
                    let answer = api
                        .ask_with(
                            &stranger,
                            &method.to_uppercase(),
                            &path,
                            body,
                            &[("x-request-id", "same")],
                        )
                        .await;
                    answers.push((answer.status, answer.text));
                }
                asked += 1;
                let about = format!("{method} {path} as {}", role.word());
                // Metrics are about the node, not about anybody's things.
                assert!(!answers[0].1.contains("canary"), "{about}: {answers:?}");
                if path.contains('{') || path.contains("/v1/") {
                    assert_eq!(answers[0], answers[1], "{about}");
                }
            }
        }
    }
    assert!(asked >= 4 * 28);
}
