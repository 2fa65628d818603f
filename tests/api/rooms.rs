//! Rooms, and meetings that are booked into them.

use super::*;

async fn room(api: &Api, key: &str, name: &str, capacity: u32) -> Value {
    let body = json!({"name": name, "capacity": capacity});
    let answer = api.ask(key, "POST", "/v1/rooms", Some(body)).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.json()
}

/// A meeting on this day of December, from hour to hour.
fn on(day: u32, from: u32, to: u32, more: Value) -> Value {
    let at = |hour| format!("2026-12-{day:02}T{hour:02}:00:00Z");
    let booking =
        json!({"title": "A", "starts_at": at(from), "ends_at": at(to), "timezone": "UTC"});
    with(booking, more)
}

async fn book(api: &Api, key: &str, body: Value) -> Answer {
    api.ask(key, "POST", "/v1/meetings", Some(body)).await
}

async fn has_room(api: &Api, key: &str, body: Value) -> String {
    let answer = book(api, key, body).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.json()["room"]["name"].as_str().unwrap().to_owned()
}

fn starts(taken: &Answer) -> Vec<String> {
    assert_eq!(taken.problem(409), "room_taken", "{}", taken.text);
    let slots = taken.json()["next_free"].as_array().unwrap().clone();
    let start = |slot: &Value| slot["starts_at"].as_str().unwrap().to_owned();
    slots.iter().map(start).collect()
}

#[tokio::test]
async fn rooms_are_made_read_changed_and_deleted_by_whom_they_belong_to() {
    let api = Api::new().await;
    let admin = api.key("demo", KeyRole::Admin).await;
    let platform = api.key("portal", KeyRole::Platform).await;
    let other = api.key("other", KeyRole::Admin).await;
    let made = room(&api, &admin, "Aula magna", 250).await;
    assert_eq!(
        (&made["organisation"], &made["capacity"]),
        (&json!("demo"), &json!(250))
    );
    let path = format!("/v1/rooms/{}", made["id"].as_str().unwrap());
    for role in [KeyRole::Booking, KeyRole::Operator, KeyRole::Reader] {
        let key = api.key("demo", role).await;
        let body = Some(json!({"name": "B", "capacity": 2}));
        let refused = api.ask(&key, "POST", "/v1/rooms", body).await;
        assert_eq!(refused.problem(403), "forbidden");
        let refused = api.ask(&key, "DELETE", &path, None).await;
        assert_eq!(refused.problem(403), "forbidden");
        assert_eq!(api.ask(&key, "GET", &path, None).await.status, 200);
    }
    for (method, body) in [("GET", None), ("PATCH", Some(json!({}))), ("DELETE", None)] {
        let hidden = api.ask(&other, method, &path, body).await;
        assert_eq!(hidden.problem(404), "not_found", "{method}");
    }
    let listed = api.ask(&other, "GET", "/v1/rooms", None).await.json();
    assert_eq!(listed["items"], json!([]));
    for (body, errors) in [
        (json!({}), vec!["name required", "capacity required"]),
        (
            json!({"name": " x", "capacity": 0}),
            vec!["name invalid", "capacity out_of_range"],
        ),
        (
            json!({"name": "x", "capacity": 2_001}),
            vec!["capacity out_of_range"],
        ),
        (
            json!({"name": "Aula magna", "capacity": 2}),
            vec!["name taken"],
        ),
    ] {
        let wrong = api.ask(&admin, "POST", "/v1/rooms", Some(body)).await;
        assert_eq!(wrong.errors(), errors);
    }
    let same_elsewhere = json!({"organisation": "other", "name": "Aula magna", "capacity": 5});
    let made = api.ask(&platform, "POST", "/v1/rooms", Some(same_elsewhere));
    assert_eq!(made.await.json()["organisation"], "other");
    // Of two made at the same moment either may come first.
    set_clock("2026-11-20T08:00:01Z");
    let small = room(&api, &admin, "Small", 4).await;
    let page = api.ask(&admin, "GET", "/v1/rooms?limit=1", None).await;
    let next = page.json()["next"].as_str().unwrap().to_owned();
    let page = format!("/v1/rooms?cursor={next}");
    let page = api.ask(&admin, "GET", &page, None).await.json();
    assert_eq!(
        (page["items"][0]["id"].clone(), page["next"].clone()),
        (small["id"].clone(), Value::Null)
    );
    let read = api.ask(&admin, "GET", &path, None).await;
    let etag = read.header("etag").to_owned();
    let change = async |body: Value| {
        let headers = [("if-match", etag.as_str())];
        api.ask_with(&admin, "PATCH", &path, Some(body), &headers)
            .await
    };
    let changed = change(json!({"name": "Aula"})).await.json();
    assert_eq!(
        (&changed["name"], &changed["capacity"]),
        (&json!("Aula"), &json!(250))
    );
    let late = change(json!({"name": "Aula 2"})).await;
    assert_eq!(late.problem(412), "changed");
    let taken = api.ask(&admin, "PATCH", &path, Some(json!({"name": "Small"})));
    assert_eq!(taken.await.errors(), ["name taken"]);
    assert_eq!(api.ask(&admin, "DELETE", &path, None).await.status, 204);
    let gone = api.ask(&admin, "GET", &path, None).await;
    assert_eq!(gone.problem(404), "not_found");
    let trail = api.ask(&admin, "GET", "/v1/audit", None).await.text;
    for deed in [
        "POST /v1/rooms",
        "PATCH /v1/rooms/{id}",
        "DELETE /v1/rooms/{id}",
    ] {
        assert!(trail.contains(deed), "{deed}");
    }
}

#[tokio::test]
async fn an_organisation_has_200_rooms_at_most() {
    let api = Api::new().await;
    let admin = api.key("demo", KeyRole::Admin).await;
    for n in 0..200 {
        room(&api, &admin, &n.to_string(), 5).await;
    }
    let body = Some(json!({"name": "one more", "capacity": 2}));
    let more = api.ask(&admin, "POST", "/v1/rooms", body).await;
    assert_eq!(more.problem(409), "rooms_max");
    let other = api.key("other", KeyRole::Admin).await;
    room(&api, &other, "one more", 2).await;
}

#[tokio::test]
async fn a_meeting_gets_the_smallest_free_room_that_is_large_enough() {
    let api = Api::new().await;
    let admin = api.key("demo", KeyRole::Admin).await;
    let large = room(&api, &admin, "Large", 100).await;
    room(&api, &admin, "Small", 10).await;
    room(&api, &admin, "Middle", 50).await;
    let any = |least: u32| json!({"room": {"min_capacity": least}});
    assert_eq!(has_room(&api, &admin, on(1, 9, 10, any(10))).await, "Small");
    assert_eq!(has_room(&api, &admin, on(1, 9, 10, any(5))).await, "Middle");
    // What follows at once is no overlap.
    assert_eq!(has_room(&api, &admin, on(1, 10, 11, any(5))).await, "Small");
    let seats = with(any(5), json!({"capacity": 11}));
    assert_eq!(has_room(&api, &admin, on(1, 10, 11, seats)).await, "Middle");
    assert_eq!(has_room(&api, &admin, on(1, 9, 11, any(1))).await, "Large");
    let taken = book(&api, &admin, on(1, 9, 10, any(1))).await;
    assert_eq!(
        starts(&taken),
        [
            "2026-12-01T11:00:00Z",
            "2026-12-01T12:00:00Z",
            "2026-12-01T13:00:00Z"
        ]
    );
    let next = &taken.json()["next_free"][0]["ends_at"];
    assert_eq!(next, "2026-12-01T12:00:00Z");
    let named = json!({"room": {"id": large["id"]}});
    let meeting = book(&api, &admin, on(2, 9, 10, named.clone())).await.json();
    let room = json!({"id": large["id"], "name": "Large", "capacity": 100});
    assert_eq!(
        (&meeting["room"], &meeting["capacity"]),
        (&room, &json!(100))
    );
    let pin = json!({"pin": meeting["pins"]["guest"], "at": "2026-12-02T09:30:00Z"});
    let told = api.ask(&admin, "POST", "/v1/pins/explain", Some(pin)).await;
    assert_eq!(told.json()["outcome"], "joined");
    let fewer = on(3, 9, 10, with(named.clone(), json!({"capacity": 7})));
    assert_eq!(book(&api, &admin, fewer).await.json()["capacity"], 7);
    let more = on(4, 9, 10, with(named.clone(), json!({"capacity": 101})));
    let more = book(&api, &admin, more).await;
    assert_eq!(more.errors(), ["capacity out_of_range"]);
    let change = Some(json!({"capacity": 101}));
    let more = api.ask(&admin, "PATCH", &path_of(&meeting), change).await;
    assert_eq!(more.errors(), ["capacity out_of_range"]);
    for (room, error) in [
        (json!({"id": Uuid::nil()}), "room unknown"),
        (json!({"min_capacity": 101}), "room out_of_range"),
        (json!({"min_capacity": 0}), "room out_of_range"),
        (
            json!({"id": large["id"], "min_capacity": 1}),
            "room invalid",
        ),
        (json!({}), "room invalid"),
        (json!("Large"), "room invalid"),
    ] {
        let wrong = book(&api, &admin, on(5, 9, 10, json!({"room": room}))).await;
        assert_eq!(wrong.errors(), [error]);
    }
    let stranger = api.key("other", KeyRole::Admin).await;
    let theirs = book(&api, &stranger, on(6, 9, 10, named)).await;
    assert_eq!(theirs.errors(), ["room unknown"]);
}

#[tokio::test]
async fn a_meeting_keeps_its_room_and_changes_look_again() {
    let api = Api::new().await;
    let admin = api.key("demo", KeyRole::Admin).await;
    let small = room(&api, &admin, "Small", 10).await;
    let small_path = format!("/v1/rooms/{}", small["id"].as_str().unwrap());
    let least = json!({"room": {"min_capacity": 5}});
    let put = async |name: &str, body: Value| {
        let path = format!("/v1/meetings/by-external-id/{name}");
        api.ask(&admin, "PUT", &path, Some(body)).await
    };
    let first = put("a", on(1, 9, 10, least.clone())).await;
    assert_eq!(first.status, 201, "{}", first.text);
    room(&api, &admin, "Smaller", 5).await;
    let again = put("a", on(1, 9, 10, least.clone())).await;
    assert_eq!(again.json()["room"]["name"], "Small");
    assert_eq!(again.header("etag"), first.header("etag"));
    // It stays also where the time is another.
    let moved = put("a", on(1, 9, 11, least.clone())).await;
    assert_eq!(moved.json()["room"]["name"], "Small");
    let in_small = json!({"room": {"id": small["id"]}});
    let second = book(&api, &admin, on(1, 11, 12, in_small.clone())).await;
    let path = path_of(&second.json());
    let patch = async |body: Value| api.ask(&admin, "PATCH", &path, Some(body)).await;
    let earlier = json!({"starts_at": "2026-12-01T10:30:00Z"});
    assert_eq!(
        starts(&patch(earlier.clone()).await)[0],
        "2026-12-01T11:00:00Z"
    );
    let another = with(earlier.clone(), json!({"room": {"min_capacity": 1}}));
    let another = patch(another).await.json();
    assert_eq!(another["room"]["name"], "Smaller");
    let back = patch(with(in_small, json!({"starts_at": "2026-12-01T11:00:00Z"}))).await;
    assert_eq!(back.json()["room"]["name"], "Small");
    let in_use = api.ask(&admin, "DELETE", &small_path, None).await;
    assert_eq!(in_use.problem(409), "room_in_use");
    let shrink = Some(json!({"capacity": 4}));
    let shrunk = api.ask(&admin, "PATCH", &small_path, shrink.clone()).await;
    assert_eq!(shrunk.problem(409), "room_in_use");
    // Cancelled, it gives its room up, and looks for one again when it comes back.
    assert_eq!(
        api.ask(&admin, "DELETE", "/v1/meetings/by-external-id/a", None)
            .await
            .status,
        204
    );
    assert_eq!(patch(earlier).await.json()["room"]["name"], "Small");
    let back = put("a", on(1, 9, 11, least.clone())).await;
    assert_eq!(back.json()["room"]["name"], "Smaller");
    let without = patch(json!({"room": null})).await.json();
    assert_eq!(
        (&without["room"], &without["capacity"]),
        (&Value::Null, &Value::Null)
    );
    let shrunk = api.ask(&admin, "PATCH", &small_path, shrink).await;
    assert_eq!(shrunk.status, 200, "{}", shrunk.text);
    assert_eq!(
        api.ask(&admin, "DELETE", &small_path, None).await.status,
        204
    );
}

#[tokio::test]
async fn a_series_takes_its_room_each_time_and_single_ones_look_again() {
    let api = Api::new().await;
    let admin = api.key("demo", KeyRole::Admin).await;
    room(&api, &admin, "Only", 10).await;
    let least = json!({"room": {"min_capacity": 5}});
    let endless = json!({"recurrence": {"rule": "FREQ=DAILY"}});
    let series = on(1, 9, 10, with(least.clone(), endless));
    let series = book(&api, &admin, series).await.json();
    assert_eq!(series["room"]["name"], "Only");
    let taken = book(&api, &admin, on(20, 9, 10, least.clone())).await;
    assert_eq!(
        starts(&taken),
        [
            "2026-12-20T10:00:00Z",
            "2026-12-20T11:00:00Z",
            "2026-12-20T12:00:00Z"
        ]
    );
    let weekly = json!({"recurrence": {"rule": "FREQ=WEEKLY;COUNT=3"}});
    let weekly = on(3, 8, 12, with(least.clone(), weekly));
    assert_eq!(
        starts(&book(&api, &admin, weekly).await)[0],
        "2026-12-03T10:00:00Z"
    );
    let one = format!("{}/occurrences/20261220T090000", path_of(&series));
    let change = async |body: Value| api.ask(&admin, "PATCH", &one, Some(body)).await;
    assert_eq!(api.ask(&admin, "DELETE", &one, None).await.status, 204);
    let single = book(&api, &admin, on(20, 9, 10, least.clone())).await;
    assert_eq!(single.status, 201, "{}", single.text);
    let single = path_of(&single.json());
    assert_eq!(
        starts(&change(json!({"cancelled": false})).await)[0],
        "2026-12-20T10:00:00Z"
    );
    let elsewhere = json!({"cancelled": false, "starts_at": "2026-12-20T09:30:00Z"});
    assert_eq!(change(elsewhere).await.problem(409), "room_taken");
    let later = json!({"cancelled": false, "starts_at": "2026-12-20T10:00:00Z"});
    assert_eq!(change(later).await.status, 200);
    let longer = Some(json!({"ends_at": "2026-12-20T10:30:00Z"}));
    let longer = api.ask(&admin, "PATCH", &single, longer).await;
    assert_eq!(starts(&longer)[0], "2026-12-20T11:00:00Z");
    assert_eq!(
        api.ask(&admin, "DELETE", &path_of(&series), None)
            .await
            .status,
        204
    );
    let free = book(&api, &admin, on(20, 10, 23, least)).await;
    assert_eq!(free.status, 201, "{}", free.text);
}
