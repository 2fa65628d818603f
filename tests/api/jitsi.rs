//! What a Jitsi Meet asks.

use voicebridge::booking::Pin;
use voicebridge::booking::admission::{CallId, PinQuery, PinVerdict, Standing};
use voicebridge::config::{JitsiConfig, NumberForm};

use super::*;

const MAPPER: &str = "/jitsi/demo/conferenceMapper";

async fn api_for(number_form: NumberForm) -> Api {
    Api::with(BookingSettings {
        jitsi: vec![JitsiConfig {
            organisation: "demo".to_owned(),
            domains: vec!["conference.meet.example.org".to_owned()],
            number_form,
        }],
        ..BookingSettings::default()
    })
    .await
}

async fn asked(api: &Api, method: &str, path: &str, body: Option<Value>) -> Answer {
    let request = Request::builder().method(method).uri(path);
    let request = match body {
        Some(body) => request
            .header("content-type", "application/json")
            .body(Body::from(body.to_string())),
        None => request.body(Body::empty()),
    };
    api.send(request.unwrap()).await
}

async fn mapped(api: &Api, query: &str) -> Value {
    let answer = asked(api, "GET", &format!("{MAPPER}?{query}"), None).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

async fn opens(api: &Api, pin: &str) -> bool {
    let query = PinQuery {
        call: CallId(Uuid::nil()),
        pin: Pin::parse(pin).unwrap(),
        number: Some("+390601".to_owned()),
        caller: CallerNumber::new("+39061"),
        standing: Standing::Unknown,
    };
    matches!(
        api.bookings.resolve_pin(NOW.get(), query).await,
        PinVerdict::Admitted(_)
    )
}

#[tokio::test]
async fn a_conference_has_one_pin_that_opens_its_meeting_and_leads_back_to_it() {
    let api = api_for(NumberForm::List).await;
    let page = "conference=Riunione%20A@conference.meet.example.org&url=https://meet.example.org/x";
    let answer = asked(&api, "GET", &format!("{MAPPER}?{page}"), None).await;
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    let first = answer.json();
    let id = first["id"].as_u64().unwrap();
    assert_eq!(
        first["conference"],
        "riunione%20a@conference.meet.example.org"
    );
    assert!(opens(&api, &id.to_string()).await);
    for body in [
        json!({"conference": "riunione%20a@conference.meet.example.org"}),
        json!({"room": "RIUNIONE A", "domain": "meet.example.org"}),
        json!({"room": "riunione a"}),
        json!({"id": id}),
        json!({"id": id.to_string()}),
    ] {
        let posted = asked(&api, "POST", MAPPER, Some(body)).await;
        assert_eq!(posted.json(), first);
    }
    for (body, error) in [
        (json!({"room": {}, "more": 1}), "room invalid"),
        (json!({"conference": ["a"]}), "conference invalid"),
        (json!({"room": "a", "domain": 7}), "domain invalid"),
        (json!({"id": -4}), "id invalid"),
    ] {
        let refused = asked(&api, "POST", MAPPER, Some(body)).await;
        assert_eq!(refused.problem(422), "invalid");
        assert_eq!(refused.errors(), [error]);
    }
    assert_eq!(mapped(&api, &format!("id={id}")).await, first);
    let other = mapped(&api, "conference=b@conference.meet.example.org").await;
    assert_ne!(other["id"], first["id"]);
    // Asked again in the second half of its time, it has the same PIN; the clock of who doesn't ask runs out.
    set_clock("2026-11-21T20:00:00Z");
    assert_eq!(mapped(&api, page).await, first);
    set_clock("2026-11-22T20:00:00Z");
    assert!(opens(&api, &id.to_string()).await);
    assert!(!opens(&api, &other["id"].to_string()).await);
    assert_eq!(
        mapped(&api, &format!("id={}", other["id"])).await["conference"],
        false
    );

    let key = api.key("demo", KeyRole::Booking).await;
    let by_name =
        "/v1/meetings/by-external-id/jitsi%3Ariunione%2520a%40conference.meet.example.org";
    let meeting = api.ask(&key, "GET", by_name, None).await.json();
    assert_eq!(
        (&meeting["title"], &meeting["pins"]["guest"]),
        (&json!("riunione a"), &json!(id.to_string()))
    );
    assert_eq!(meeting["pins"]["host"], json!(null), "nobody would get it");
    // Over, its PIN is still its own.
    set_clock("2026-12-05T20:00:00Z");
    assert!(!opens(&api, &id.to_string()).await);
    assert_eq!(mapped(&api, page).await, first);
    assert!(opens(&api, &id.to_string()).await);
}

#[tokio::test]
async fn asking_about_a_conference_undoes_nothing_that_was_done_to_its_meeting() {
    let api = api_for(NumberForm::List).await;
    let key = api.key("demo", KeyRole::Admin).await;
    let path = |room: &str| {
        format!("/v1/meetings/by-external-id/jitsi%3A{room}%40conference.meet.example.org")
    };
    let ask = async |room: &str| {
        let query = format!("conference={room}@conference.meet.example.org");
        mapped(&api, &query).await["id"].to_string()
    };
    let mut pins = Vec::new();
    for room in ["cancelled", "ended", "moved", "named"] {
        pins.push(ask(room).await);
    }
    assert_eq!(
        api.ask(&key, "DELETE", &path("cancelled"), None)
            .await
            .status,
        204
    );
    let read = async |room: &str| api.ask(&key, "GET", &path(room), None).await.json();
    let patch = async |room: &str, change: Value| {
        let one = path_of(&read(room).await);
        let changed = api.ask(&key, "PATCH", &one, Some(change)).await;
        assert_eq!(changed.status, 200, "{}", changed.text);
        changed.json()
    };
    let end = format!("{}/end", path_of(&read("ended").await));
    let ended = api.ask(&key, "POST", &end, None).await;
    assert!(ended.status.is_success(), "{}", ended.text);
    let moved = patch("moved", json!({"ends_at": "2026-11-20T12:00:00Z"})).await;
    patch("named", json!({"title": "Board", "capacity": 5})).await;
    for day in [20, 21, 23] {
        set_clock(&format!("2026-11-{day}T20:00:00Z"));
        assert_eq!(ask("cancelled").await, "false");
        assert_eq!(ask("ended").await, "false");
        assert_eq!(ask("moved").await, pins[2]);
        assert_eq!(ask("named").await, pins[3]);
        assert!(!opens(&api, &pins[0]).await);
        assert!(!opens(&api, &pins[1]).await);
        assert!(!opens(&api, &pins[2]).await);
        assert!(opens(&api, &pins[3]).await);
    }
    assert_eq!(read("moved").await["ends_at"], moved["ends_at"]);
    let named = read("named").await;
    assert_eq!(
        (&named["title"], &named["capacity"]),
        (&json!("Board"), &json!(5))
    );
}

#[tokio::test]
async fn a_meeting_booked_under_a_conferences_name_is_that_conferences() {
    let api = api_for(NumberForm::List).await;
    let key = api.key("demo", KeyRole::Booking).await;
    let by_name = "/v1/meetings/by-external-id/jitsi%3Aboard%40conference.meet.example.org";
    let booked = api.ask(&key, "PUT", by_name, Some(meeting())).await.json();
    let told = mapped(&api, "conference=board@conference.meet.example.org").await;
    assert_eq!(
        told["id"].to_string(),
        booked["pins"]["guest"].as_str().unwrap()
    );
    let read = api.ask(&key, "GET", by_name, None).await.json();
    assert_eq!(read, booked, "it is as it was booked");
    assert_eq!(api.ask(&key, "DELETE", by_name, None).await.status, 204);
    let board = "conference=board@conference.meet.example.org";
    assert_eq!(mapped(&api, board).await["id"], false);
    // Long after, the name is free for a conference of its own.
    set_clock("2027-03-01T08:00:00Z");
    let anew = mapped(&api, board).await["id"].to_string();
    assert_ne!(anew, booked["pins"]["guest"].as_str().unwrap());
    assert!(opens(&api, &anew).await);
}

#[tokio::test]
async fn what_is_unknown_foreign_or_nonsense_is_answered_as_jitsi_expects() {
    let api = api_for(NumberForm::List).await;
    let stranger = api.book(&api.key("other", KeyRole::Booking).await).await;
    let own = api.book(&api.key("demo", KeyRole::Booking).await).await;
    let unknown = |id: &Value| json!({"message": "No conference mapping was found", "id": id, "conference": false});
    for meeting in [&stranger, &own] {
        let pin: Value = meeting["pins"]["guest"]
            .as_str()
            .unwrap()
            .parse::<u64>()
            .unwrap()
            .into();
        assert_eq!(mapped(&api, &format!("id={pin}")).await, unknown(&pin));
    }
    assert_eq!(mapped(&api, "id=12").await, unknown(&json!(12)));
    let nothing =
        json!({"message": "No conference or id provided", "id": false, "conference": false});
    assert_eq!(mapped(&api, "").await, nothing);
    assert_eq!(
        asked(&api, "POST", MAPPER, Some(json!({}))).await.json(),
        nothing
    );
    let elsewhere = mapped(&api, "conference=a@elsewhere.example.org").await;
    assert_eq!(
        (&elsewhere["id"], &elsewhere["conference"]),
        (&json!(false), &json!(false))
    );
    for path in [
        "/jitsi/other/conferenceMapper?id=1",
        "/jitsi/nobody/phoneNumberList",
    ] {
        assert_eq!(
            asked(&api, "GET", path, None).await.problem(404),
            "no_such_path"
        );
    }
    let off = Api::new().await;
    assert_eq!(
        asked(&off, "GET", MAPPER, None).await.problem(404),
        "no_such_path"
    );
}

#[tokio::test]
async fn who_guesses_pins_or_makes_up_conferences_is_held_back_and_callers_are_not() {
    let api = api_for(NumberForm::List).await;
    let known = mapped(&api, "conference=known@conference.meet.example.org").await;
    let mut evaluated = 0;
    for guess in 0..120 {
        let path = format!("{MAPPER}?id={}", 4_000_000_000_u64 + guess);
        match asked(&api, "GET", &path, None).await.status.as_u16() {
            200 => evaluated += 1,
            status => assert_eq!(status, 429),
        }
    }
    assert!((50..=100).contains(&evaluated), "{evaluated}");
    assert_eq!(api.bookings.failure_budget_remaining(), 100);
    assert!(opens(&api, &known["id"].to_string()).await);
    let mut made = 0;
    for room in 0..80 {
        let path = format!("{MAPPER}?conference=r{room}@conference.meet.example.org");
        let answer = asked(&api, "GET", &path, None).await;
        made += usize::from(answer.status == 200);
        assert!(answer.status == 200 || answer.problem(429) == "too_many_requests");
    }
    assert_eq!(made, 59);
    assert_eq!(
        mapped(&api, "conference=known@conference.meet.example.org").await,
        known
    );
}

#[tokio::test]
async fn numbers_are_told_in_both_forms_and_only_those_that_lead_there() {
    let path = "/jitsi/demo/phoneNumberList?conference=a@conference.meet.example.org";
    let list = asked(&api_for(NumberForm::List).await, "GET", path, None)
        .await
        .json();
    let number =
        |number: &str| json!({"countryCode": "IT", "tollFree": false, "formattedNumber": number});
    assert_eq!(list, json!([number("+390600"), number("+390601")]));
    let countries = asked(&api_for(NumberForm::Countries).await, "GET", path, None).await;
    assert_eq!(countries.header("access-control-allow-origin"), "*");
    assert_eq!(
        countries.json(),
        json!({"message": "Dial-In numbers:", "numbers": {"IT": ["+390600", "+390601"]}, "numbersEnabled": true})
    );
}

/// A browser would otherwise tell its page nothing of what went wrong.
#[tokio::test]
async fn errors_may_be_read_from_anywhere_too() {
    let api = api_for(NumberForm::List).await;
    let nobodys = "/jitsi/nobody/phoneNumberList";
    let unknown = asked(&api, "GET", nobodys, None).await;
    assert_eq!(unknown.problem(404), "no_such_path");
    let no_json = asked(&api, "POST", MAPPER, None).await;
    assert_eq!(no_json.problem(415), "unsupported_media_type");
    for answer in [&unknown, &no_json] {
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        assert_eq!(answer.header("cache-control"), "no-store");
    }
}
