//! PINs of single people and machines over the API.

use jiff::SignedDuration;
use serde_json::{Value, json};
use voicebridge::booking::admission::CallId;
use voicebridge::booking::{
    CallerNumber, KeyRole, Pin, PinQuery, PinVerdict, Refusal, Role, Standing,
};

use super::{Api, NOW, path_of, set_clock, with};

/// What a caller gets now: role and name, or `None` for a wrong PIN.
async fn dial(api: &Api, pin: &Value) -> Option<(Role, Option<String>)> {
    let query = PinQuery {
        call: CallId(uuid::Uuid::nil()),
        pin: Pin::parse(pin.as_str().unwrap()).unwrap(),
        number: None,
        caller: CallerNumber::new("+390612345678"),
        standing: Standing::Unknown,
    };
    match api.bookings.resolve_pin(NOW.get(), query).await {
        PinVerdict::Admitted(admission) => Some((admission.role, admission.name)),
        PinVerdict::Refused(Refusal::Wrong) => None,
        PinVerdict::Refused(other) => panic!("{other:?}"),
    }
}

async fn give(api: &Api, key: &str, path: &str, label: &str, role: &str) -> Value {
    let body = json!({"label": label, "role": role});
    let answer = api.ask(key, "POST", path, Some(body)).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_eq!(answer.header("cache-control"), "no-store");
    answer.json()
}

#[tokio::test]
async fn a_personal_pin_lets_its_owner_in_by_name_and_role_until_it_is_withdrawn() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Booking).await;
    let booked = api.book(&key).await;
    let path = format!("{}/pins", path_of(&booked));
    let mut given = Vec::new();
    for (label, name, role, expected) in [
        ("Ada Lovelace", "Ada Lovelace", "guest", Role::Guest),
        (" Bo ", "Bo", "host", Role::Host),
        (
            "Ufficio stampa",
            "Ufficio stampa",
            "listener",
            Role::Listener,
        ),
        ("Sala 3", "Sala 3", "bridge", Role::Bridge),
    ] {
        let pin = give(&api, &key, &path, label, role).await;
        assert_eq!((&pin["label"], &pin["role"]), (&json!(name), &json!(role)));
        given.push((pin, name, expected));
    }
    let listed = api.ask(&key, "GET", &path, None).await.json();
    let items = listed["items"].as_array().unwrap();
    assert_eq!((items.len(), &listed["next"]), (6, &Value::Null));
    assert!(
        given.iter().all(|(pin, ..)| items.contains(pin)),
        "{listed}"
    );
    // The booked ones are still those for everybody.
    let read = api.ask(&key, "GET", &path_of(&booked), None).await;
    assert_eq!(read.json()["pins"], booked["pins"]);
    assert_ne!(read.header("etag"), "\"1\"");

    set_clock("2026-11-23T09:05:00Z");
    for (pin, name, role) in &given {
        assert_eq!(
            dial(&api, &pin["pin"]).await,
            Some((*role, Some((*name).to_owned())))
        );
    }
    let (ada, ..) = &given[0];
    let one = format!("{path}/{}", ada["id"].as_str().unwrap());
    assert_eq!(api.ask(&key, "DELETE", &one, None).await.status, 204);
    assert_eq!(dial(&api, &ada["pin"]).await, None);
    assert!(dial(&api, &given[1].0["pin"]).await.is_some());
    let asked = json!({"pin": ada["pin"]});
    let explained = api.ask(&key, "POST", "/v1/pins/explain", Some(asked)).await;
    assert_eq!(explained.json()["outcome"], "wrong_pin");
    assert_eq!(
        api.ask(&key, "DELETE", &one, None).await.problem(404),
        "not_found"
    );
    let left = api.ask(&key, "GET", &path, None).await.json();
    assert_eq!(left["items"].as_array().unwrap().len(), 5);

    // Nobody gets it within the quarantine; afterwards it is gone, those in use are not.
    let purged = async |days: i64| {
        let then = NOW.get() + SignedDuration::from_hours(24 * days);
        api.bookings.purge(then).await.unwrap().pins
    };
    let permanent = json!({"ends_at": null});
    api.ask(&key, "PATCH", &path_of(&booked), Some(permanent))
        .await;
    assert_eq!((purged(29).await, purged(31).await), (0, 1));
    assert!(dial(&api, &given[1].0["pin"]).await.is_some());
}

#[tokio::test]
async fn rotated_pins_keep_their_roles_and_names_and_the_old_ones_are_wrong() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Booking).await;
    let booked = api.book(&key).await;
    let path = format!("{}/pins", path_of(&booked));
    give(&api, &key, &path, "Ada", "guest").await;
    let before = api.ask(&key, "GET", &path, None).await.json();
    let rotated = api.ask(&key, "POST", &format!("{path}/rotate"), None).await;
    assert_eq!(rotated.status, 200, "{}", rotated.text);
    let after = rotated.json();
    let (old, new) = (
        before["items"].as_array().unwrap(),
        after["items"].as_array().unwrap(),
    );
    let whose = |pins: &[Value]| {
        let mut whose: Vec<String> = pins
            .iter()
            .map(|pin| format!("{} {}", pin["role"], pin["label"]))
            .collect();
        whose.sort();
        whose
    };
    assert_eq!(whose(old), whose(new));
    set_clock("2026-11-23T09:05:00Z");
    for pin in old {
        assert_eq!(dial(&api, &pin["pin"]).await, None);
    }
    for pin in new {
        assert!(dial(&api, &pin["pin"]).await.is_some());
    }
    let read = api.ask(&key, "GET", &path_of(&booked), None).await.json();
    let guest = new
        .iter()
        .find(|pin| pin["role"] == "guest" && pin["label"].is_null());
    assert_eq!(read["pins"]["guest"], guest.unwrap()["pin"]);

    // One stays.
    for (at, pin) in new.iter().enumerate() {
        let one = format!("{path}/{}", pin["id"].as_str().unwrap());
        let answer = api.ask(&key, "DELETE", &one, None).await;
        if at + 1 < new.len() {
            assert_eq!(answer.status, 204, "{}", answer.text);
        } else {
            assert_eq!(answer.problem(409), "last_pin");
        }
    }
    assert!(dial(&api, &new[new.len() - 1]["pin"]).await.is_some());
}

#[tokio::test]
async fn pins_are_for_those_who_may_see_or_give_them_and_asked_for_as_documented() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Booking).await;
    let booked = api.book(&key).await;
    let path = format!("{}/pins", path_of(&booked));
    let pin = give(&api, &key, &path, "Ada", "guest").await;
    let one = format!("{path}/{}", pin["id"].as_str().unwrap());
    let rotate = format!("{path}/rotate");
    let body = json!({"label": "Eve", "role": "host"});
    let reader = api.key("demo", KeyRole::Reader).await;
    let stranger = api.key("other", KeyRole::Admin).await;
    let other = api.book(&stranger).await;
    for (key, status, code) in [(&reader, 403, "forbidden"), (&stranger, 404, "not_found")] {
        for (method, path, body) in [
            ("GET", &path, None),
            ("POST", &path, Some(body.clone())),
            ("POST", &rotate, None),
            ("DELETE", &one, None),
        ] {
            let answer = api.ask(key, method, path, body).await;
            assert_eq!(answer.problem(status), code, "{method} {path}");
        }
    }
    let elsewhere = format!("{}/pins/{}", path_of(&other), pin["id"].as_str().unwrap());
    for (key, path) in [(&stranger, &elsewhere), (&key, &format!("{path}/no-id"))] {
        let answer = api.ask(key, "DELETE", path, None).await;
        assert_eq!(answer.problem(404), "not_found", "{path}");
    }
    for (change, errors) in [
        (json!({"label": null}), "label required"),
        (json!({"label": "  "}), "label invalid"),
        (json!({"label": "a\nb"}), "label invalid"),
        (json!({"label": "è".repeat(101)}), "label invalid"),
        (json!({"role": null}), "role required"),
        (json!({"role": "Guest"}), "role invalid"),
        (json!({"pim": "1234567890"}), "pim unknown_field"),
    ] {
        let refused = api
            .ask(&key, "POST", &path, Some(with(body.clone(), change)))
            .await;
        refused.problem(422);
        assert_eq!(refused.errors(), [errors]);
    }
    let nothing = api.ask(&key, "POST", &path, Some(json!({}))).await;
    assert_eq!(nothing.errors(), ["label required", "role required"]);
    assert_eq!(
        api.ask(&key, "DELETE", &path_of(&booked), None)
            .await
            .status,
        204
    );
    let wrong = with(body.clone(), json!({"label": "  "}));
    let wrong = api.ask(&key, "POST", &path, Some(wrong)).await;
    assert_eq!(wrong.errors(), ["label invalid"]);
    for (method, path, body) in [
        ("POST", &path, Some(body.clone())),
        ("POST", &rotate, None),
        ("DELETE", &one, None),
    ] {
        assert_eq!(
            api.ask(&key, method, path, body).await.problem(409),
            "cancelled"
        );
    }
}

#[tokio::test]
async fn an_organisation_gets_pins_by_its_own_rules() {
    let api = Api::new().await;
    let platform = api.key("portal", KeyRole::Platform).await;
    let admin = api.key("demo", KeyRole::Admin).await;
    let own = api
        .ask(&admin, "GET", "/v1/organisations", None)
        .await
        .json();
    let path = format!(
        "/v1/organisations/{}",
        own["items"][0]["id"].as_str().unwrap()
    );
    let rules = json!({
        "pin_length": 12, "pin_digits": "9876543210", "pin_forbidden": ["runs", "same_digit", "repeated_pairs", "0390"],
    });
    let changed = api.ask(&admin, "PATCH", &path, Some(rules)).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    let changed = changed.json();
    assert_eq!(
        (
            &changed["pin_length"],
            &changed["pin_digits"],
            &changed["pin_forbidden"]
        ),
        (
            &json!(12),
            &Value::Null,
            &json!(["same_digit", "runs", "repeated_pairs", "0390"])
        )
    );
    let keeps = |pin: &Value| {
        let digits: Vec<i32> = pin
            .as_str()
            .unwrap()
            .bytes()
            .map(|b| i32::from(b - b'0'))
            .collect();
        let step = |w: &[i32]| (w[1] - w[0]).rem_euclid(10);
        let follow = |w: &[i32]| step(&w[..2]) == step(&w[1..]) && [0, 1, 9].contains(&step(w));
        digits.len() == 12
            && !digits.windows(3).any(follow)
            && !digits.windows(4).any(|w| w[..2] == w[2..])
            && !pin.as_str().unwrap().contains("0390")
    };
    for _ in 0..40 {
        let booked = api.book(&admin).await;
        let rotate = format!("{}/pins/rotate", path_of(&booked));
        let rotated = api.ask(&admin, "POST", &rotate, None).await.json();
        let items = rotated["items"].as_array().unwrap().iter();
        let all = items
            .map(|pin| &pin["pin"])
            .chain([&booked["pins"]["guest"], &booked["pins"]["host"]]);
        for pin in all {
            assert!(keeps(pin), "{pin}");
        }
    }
    // Others have the configuration's.
    let other = api.key("other", KeyRole::Booking).await;
    let theirs = api.book(&other).await;
    assert_eq!(theirs["pins"]["guest"].as_str().unwrap().len(), 10);

    // Rules that leave too little to guessing are refused, with the figure.
    for (change, figure) in [
        (json!({"pin_length": 9}), "PINs of 9 digits"),
        (json!({"pin_length": 10, "pin_digits": "123"}), "5870 PINs"),
        (json!({"pin_digits": "12"}), "74 PINs of 12 digits"),
        (
            json!({"pin_length": 16, "pin_digits": "12"}),
            "one in a hundred",
        ),
        (json!({"pin_length": 6, "pin_forbidden": []}), "900000 PINs"),
    ] {
        let refused = api.ask(&admin, "PATCH", &path, Some(change.clone())).await;
        assert_eq!(refused.problem(422), "invalid", "{change}");
        assert_eq!(refused.errors(), ["pin_length out_of_range"]);
        assert!(refused.text.contains(figure), "{change} {}", refused.text);
    }
    // An admin changes the rules for PINs, and nothing else; others not even these.
    let more = json!({"pin_length": 11, "meetings_max": 7});
    let refused = api.ask(&admin, "PATCH", &path, Some(more.clone())).await;
    assert_eq!(refused.problem(403), "forbidden");
    let booking = api.key("demo", KeyRole::Booking).await;
    let stranger = api.key("other", KeyRole::Admin).await;
    let mild = json!({"pin_length": 11});
    for (key, status) in [(&booking, 403), (&stranger, 404)] {
        let refused = api.ask(key, "PATCH", &path, Some(mild.clone())).await;
        assert_eq!(refused.status.as_u16(), status);
    }
    assert_eq!(
        api.ask(&platform, "PATCH", &path, Some(more)).await.status,
        200
    );
    // And back to the configuration's.
    let none = json!({"pin_length": null, "pin_forbidden": null});
    assert_eq!(
        api.ask(&admin, "PATCH", &path, Some(none)).await.json()["pin_forbidden"],
        json!([])
    );
    let wrong =
        json!({"name": "new", "pin_length": 17, "pin_digits": "112", "pin_forbidden": ["x"]});
    let refused = api
        .ask(&platform, "POST", "/v1/organisations", Some(wrong))
        .await;
    assert_eq!(
        refused.errors(),
        [
            "pin_length invalid",
            "pin_digits invalid",
            "pin_forbidden invalid"
        ]
    );
}

#[tokio::test]
async fn a_pin_that_people_know_is_taken_over_unless_it_is_or_begins_another_one() {
    let api = Api::new().await;
    let platform = api.key("portal", KeyRole::Platform).await;
    let admin = api.key("demo", KeyRole::Admin).await;
    let booking = api.key("demo", KeyRole::Booking).await;
    let stranger = api.key("other", KeyRole::Booking).await;
    let path = format!("{}/pins", path_of(&api.book(&admin).await));
    let taken = api.book(&stranger).await["pins"]["guest"].clone();
    let taken = taken.as_str().unwrap();
    let import = async |key: &str, pin: &str| {
        let body = json!({"label": "Sala A", "role": "guest", "pin": pin});
        api.ask(key, "POST", &path, Some(body)).await
    };
    // Static ones need not be hard to guess; but they do need to be somebody's alone.
    let known = import(&admin, "1111111111").await;
    assert_eq!(known.status, 201, "{}", known.text);
    assert_eq!(known.json()["pin"], "1111111111");
    set_clock("2026-11-23T09:05:00Z");
    assert_eq!(
        dial(&api, &json!("1111111111")).await,
        Some((Role::Guest, Some("Sala A".to_owned())))
    );
    let longer = format!("{taken}7");
    for pin in ["1111111111", "11111111112", taken, &longer] {
        let refused = import(&admin, pin).await;
        assert_eq!(refused.problem(409), "pin_taken", "{pin}");
        assert!(!refused.text.contains(pin));
    }
    // A shorter one would tell of all that it begins.
    let short = import(&admin, &taken[..6]).await;
    assert_eq!(short.errors(), ["pin out_of_range"]);
    assert_eq!(
        import(&platform, &taken[..6]).await.problem(409),
        "pin_taken"
    );
    assert_eq!(import(&platform, "2222").await.status, 201);
    assert_eq!(
        import(&booking, "3333333333").await.problem(403),
        "forbidden"
    );
    for bad in ["333", "33333333x3", ""] {
        assert_eq!(import(&admin, bad).await.errors(), ["pin invalid"], "{bad}");
    }
    // A withdrawn one is nobody's for 30 days, also not its owner's.
    let one = format!("{path}/{}", known.json()["id"].as_str().unwrap());
    assert_eq!(api.ask(&admin, "DELETE", &one, None).await.status, 204);
    assert_eq!(import(&admin, "1111111111").await.problem(409), "pin_taken");
    // Nobody searches for others' PINs like this.
    let mut tries = 0;
    while import(&admin, taken).await.status == 409 {
        tries += 1;
        assert!(tries < 61);
    }
    assert_eq!(
        import(&admin, "4444444444").await.problem(429),
        "too_many_requests"
    );
    assert_eq!(import(&platform, "4444444444").await.status, 201);
}
