//! What a FreeSWITCH in front asks, as it would ask a Scalelite.

use voicebridge::config::{FsapiConfig, Secret};

use super::*;

async fn api() -> Api {
    Api::with(BookingSettings {
        fsapi: Some(FsapiConfig {
            password: Secret::new("a-long-enough-secret"),
            bridge_to: "sip.example.org:5060".to_owned(),
        }),
        ..BookingSettings::default()
    })
    .await
}

async fn asked(api: &Api, credentials: Option<&str>, form: &[(&str, &str)]) -> Answer {
    use base64::Engine as _;
    let mut body = url::form_urlencoded::Serializer::new(String::new());
    body.extend_pairs(form);
    let mut request =
        Request::post("/fsapi").header("content-type", "application/x-www-form-urlencoded");
    if let Some(credentials) = credentials {
        let coded = base64::engine::general_purpose::STANDARD.encode(credentials);
        request = request.header("authorization", format!("Basic {coded}"));
    }
    api.send(request.body(Body::from(body.finish())).unwrap())
        .await
}

async fn told(api: &Api, more: &[(&str, &str)]) -> String {
    let mut form = vec![
        ("section", "dialplan"),
        ("Caller-Caller-ID-Number", "0612345678"),
    ];
    form.extend(more);
    let answer = asked(api, Some("fsapi:a-long-enough-secret"), &form).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("content-type")),
        (200, "text/xml; charset=utf-8")
    );
    answer.text
}

fn document(inner: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<document type=\"freeswitch/xml\">{inner}</document>\n"
    )
}

fn condition(description: &str, extension: &str, destination: &str, actions: &str) -> String {
    document(&format!(
        "<section name=\"dialplan\" description=\"{description}\"><context name=\"public\"><extension name=\"{extension}\">\
         <condition field=\"destination_number\" expression=\"^{destination}$\">{actions}</condition></extension></context></section>"
    ))
}

const ASK: &str = "<action application=\"play_and_get_digits\" data=\"10 10 3 7000 # conference/conf-enter_conf_pin.wav \
                   conference/conf-bad-pin.wav pin \\d+\"/><action application=\"transfer\" data=\"${pin} XML public\"/>";

#[tokio::test]
async fn a_caller_is_asked_for_his_pin_and_bridged_here_with_it() {
    let api = api().await;
    let key = api.key("demo", KeyRole::Booking).await;
    let meeting = api.book(&key).await;
    let (pin, id) = (
        meeting["pins"]["guest"].as_str().unwrap(),
        meeting["id"].as_str().unwrap(),
    );
    set_clock("2026-11-23T09:30:00Z");
    let dialled = ("Caller-Destination-Number", "+390601");
    let first = told(&api, &[dialled]).await;
    let actions = "<action application=\"set\" data=\"voicebridge_number=+390601\"/><action application=\"answer\"/>\
                   <action application=\"sleep\" data=\"500\"/><action application=\"playback\" data=\"ivr/ivr-welcome.wav\"/>\
                   <action application=\"sleep\" data=\"200\"/>";
    assert_eq!(
        first,
        condition(
            "Match DID and Pin for Conference",
            "match_did_and_prompt_for_pin",
            "\\+390601",
            &format!("{actions}{ASK}")
        )
    );
    let keyed = [
        ("Caller-Destination-Number", pin),
        ("variable_pin", pin),
        ("variable_voicebridge_number", "+390601"),
        ("Caller-Caller-ID-Name", "0612345678"),
    ];
    let bridge = format!(
        "<action application=\"set\" data=\"meeting_id={id}\"/><action application=\"set\" data=\"effective_caller_id_name=061234XXXX\"/>\
         <action application=\"export\" data=\"nolocal:sip_h_X-Conf-PIN={pin}\"/><action application=\"bridge\" data=\"sofia/external/+390601@sip.example.org:5060\"/>"
    );
    assert_eq!(
        told(&api, &keyed).await,
        condition(
            "Bridge Call to Conference",
            "bridge_to_voicebridge",
            pin,
            &bridge
        )
    );

    // It is counted when the caller is here.
    let counted = api.bookings.pin_statistics().results();
    assert!(counted.contains(&("joined", 0)), "{counted:?}");

    // Over: he is told that there. Wrong, or by a number that leads to others: asked again.
    set_clock("2026-11-23T12:30:00Z");
    assert!(
        told(&api, &keyed)
            .await
            .contains(&format!("X-Conf-PIN={pin}"))
    );
    set_clock("2026-11-23T09:30:00Z");
    let again = "<action application=\"set\" data=\"voicebridge_wrong_pins=1\"/><action application=\"playback\" data=\"conference/conf-bad-pin.wav\"/><action application=\"sleep\" data=\"500\"/>";
    let again = condition(
        "Reprompt Pin for Conference",
        "reprompt_for_pin",
        pin,
        &format!("{again}{ASK}"),
    );
    let by_others = [
        keyed[0],
        keyed[1],
        ("variable_voicebridge_number", "+390602"),
    ];
    assert_eq!(told(&api, &by_others).await, again);
    assert_eq!(
        api.bookings.failure_budget_remaining(),
        99,
        "that was a wrong PIN"
    );
    // By a number that isn't here, no PIN is good.
    for number in ["+390699", "+390601 or any"] {
        let foreign = [keyed[0], keyed[1], ("variable_voicebridge_number", number)];
        let nothing = document("<section name=\"result\"><result status=\"not found\"/></section>");
        assert_eq!(told(&api, &foreign).await, nothing);
    }
    let nonsense = told(
        &api,
        &[("Caller-Destination-Number", "12"), ("variable_pin", "12")],
    )
    .await;
    assert!(nonsense.contains("reprompt_for_pin"), "{nonsense}");
}

#[tokio::test]
async fn after_three_wrong_pins_the_caller_hears_goodbye() {
    let api = api().await;
    let wrong = async |before: &str| {
        let keyed = [
            ("Caller-Destination-Number", "4000000000"),
            ("variable_pin", "4000000000"),
            ("variable_voicebridge_number", "+390601"),
            ("variable_voicebridge_wrong_pins", before),
        ];
        told(&api, &keyed).await
    };
    for (before, after) in [("", "=1\""), ("1", "=2\""), ("x", "=1\"")] {
        let again = wrong(before).await;
        let counted = format!("voicebridge_wrong_pins{after}");
        assert!(again.contains(&counted) && again.contains("play_and_get_digits"));
    }
    let goodbye = "<action application=\"playback\" data=\"conference/conf-bad-pin.wav\"/>\
                   <action application=\"playback\" data=\"conference/conf-goodbye.wav\"/><action application=\"hangup\"/>";
    let goodbye = condition("Too Many Wrong Pins", "goodbye", "4000000000", goodbye);
    assert_eq!(wrong("2").await, goodbye);
    assert_eq!(wrong("7").await, goodbye);
    api.bookings.set_pin_attempts(4);
    assert!(wrong("2").await.contains("play_and_get_digits"));
}

#[tokio::test]
async fn what_is_no_question_about_a_call_here_has_no_dialplan() {
    let api = api().await;
    let nothing = document("<section name=\"result\"><result status=\"not found\"/></section>");
    for form in [
        vec![
            ("section", "directory"),
            ("Caller-Destination-Number", "+390601"),
        ],
        vec![],
        vec![("Caller-Destination-Number", "")],
        vec![("Caller-Destination-Number", "+390699")],
        vec![(
            "Caller-Destination-Number",
            "1\"/><action application=\"system\"",
        )],
    ] {
        let mut all = form.clone();
        if !form.iter().any(|(name, _)| *name == "section") {
            all.push(("section", "dialplan"));
        }
        let answer = asked(&api, Some("fsapi:a-long-enough-secret"), &all).await;
        assert_eq!(answer.text, nothing, "{form:?}");
    }
}

#[tokio::test]
async fn a_callers_name_can_not_become_a_command_and_stays_hidden_if_he_wants() {
    let api = api().await;
    let meeting = api.book(&api.key("demo", KeyRole::Booking).await).await;
    let pin = meeting["pins"]["guest"].as_str().unwrap();
    set_clock("2026-11-23T09:30:00Z");
    for (name, hide, shown) in [
        ("Ada <O'Hara>", "Caller-Privacy-Hide-Number", "Ada OHara"),
        ("${system(reboot)}", "x", "system(reboot)"),
        ("+39061234567", "x", "+3906123XXXX"),
        ("123", "x", "XXX"),
        ("Ada", "Caller-Privacy-Hide-Name", "Unavailable"),
        ("0612345678", "Caller-Privacy-Hide-Number", "Unavailable"),
        ("", "x", "Unavailable"),
    ] {
        let asked = [
            ("Caller-Destination-Number", pin),
            ("variable_pin", pin),
            ("Caller-Caller-ID-Name", name),
            (hide, "true"),
        ];
        let answer = told(&api, &asked).await;
        assert!(
            answer.contains(&format!("effective_caller_id_name={shown}\"")),
            "{name}: {answer}"
        );
    }
}

#[tokio::test]
async fn only_who_has_the_password_is_told_anything() {
    let api = api().await;
    for credentials in [
        None,
        Some("fsapi:wrong"),
        Some("root:a-long-enough-secret"),
        Some(""),
    ] {
        let refused = asked(&api, credentials, &[("section", "dialplan")]).await;
        assert_eq!(refused.problem(401), "unauthorized");
        assert_eq!(
            refused.header("www-authenticate"),
            "Basic realm=\"voicebridge\""
        );
    }
    let off = Api::new().await;
    let answer = asked(
        &off,
        Some("fsapi:a-long-enough-secret"),
        &[("section", "dialplan")],
    )
    .await;
    assert_eq!(answer.problem(404), "no_such_path");
}
