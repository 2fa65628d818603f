//! Invitations over the API.

use serde_json::json;
use voicebridge::booking::KeyRole;

use super::{Api, meeting, with};

#[tokio::test]
async fn an_invitation_says_when_what_to_dial_and_the_pin_in_the_readers_language() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Booking).await;
    let body = with(
        meeting(),
        json!({
            "title": "Prova <&> \"fine\"", "starts_at": "2026-11-23T10:00:00+01:00", "ends_at": "2026-11-23T11:30:00+01:00",
            "timezone": "Europe/Rome", "language": null,
        }),
    );
    let booked = api
        .ask(&key, "POST", "/v1/meetings", Some(body))
        .await
        .json();
    let pin = booked["pins"]["guest"].as_str().unwrap();
    let grouped = format!("{} {} {}", &pin[..3], &pin[3..6], &pin[6..]);
    let path = format!("/v1/meetings/{}/invitation", booked["id"].as_str().unwrap());
    let read = async |query: &str| api.ask(&key, "GET", &format!("{path}{query}"), None).await;

    let text = read("?language=it").await;
    assert_eq!(
        (text.status.as_u16(), text.header("content-type")),
        (200, "text/plain; charset=utf-8")
    );
    assert_eq!(
        text.text,
        format!(
            "Prova <&> \"fine\"\nlunedì 23 novembre 2026, 10:00–11:30 (Europe/Rome)\n\nPer partecipare per telefono, chiamare:\n  \
             +390600  (+390600,,{pin}#)\n  +390601  (+390601,,{pin}#)\nPIN: {grouped} #\n"
        )
    );
    let english = read("").await.text;
    assert!(
        english.contains("Monday 23 November 2026, 10:00–11:30 (Europe/Rome)"),
        "{english}"
    );

    let html = read("?format=html").await;
    assert_eq!(html.header("content-type"), "text/html; charset=utf-8");
    assert!(
        html.text.contains("Prova &lt;&amp;&gt; &quot;fine&quot;"),
        "{}",
        html.text
    );
    assert!(
        html.text
            .contains(&format!("<a href=\"tel:+390601,,{pin}%23\">")),
        "{}",
        html.text
    );

    let welcome = read("?format=bbb-welcome&language=it").await.text;
    assert_eq!(
        welcome,
        format!(
            "Per partecipare per telefono, chiamare: <b>+390600</b>, PIN <b>{grouped}</b>&nbsp;#"
        )
    );
    for (query, code) in [
        ("?format=pdf", "invalid"),
        ("?language=xx", "invalid"),
        ("?country=ITA", "invalid"),
        ("?lang=it", "unknown_parameter"),
    ] {
        let refused = read(query).await;
        refused.problem(400);
        let errors = refused.errors();
        assert!(
            errors[0].ends_with(&format!(" {code}")),
            "{query}: {errors:?}"
        );
    }

    // A key that doesn't see PINs sees no invitation, a stranger not even the meeting.
    let reader = api.key("demo", KeyRole::Reader).await;
    assert_eq!(
        api.ask(&reader, "GET", &path, None).await.problem(403),
        "forbidden"
    );
    let stranger = api.key("other", KeyRole::Admin).await;
    assert_eq!(
        api.ask(&stranger, "GET", &path, None).await.problem(404),
        "not_found"
    );
    let one = format!("/v1/meetings/{}", booked["id"].as_str().unwrap());
    assert_eq!(api.ask(&key, "DELETE", &one, None).await.status, 204);
    assert_eq!(read("").await.problem(409), "cancelled");
}

#[tokio::test]
async fn the_invitation_to_a_series_names_its_next_occurrence_and_a_permanent_meeting_is_always_open()
 {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Booking).await;
    for (change, expected) in [
        (
            json!({
                "starts_at": "2026-11-16T22:00:00+01:00", "ends_at": "2026-11-17T01:00:00+01:00", "timezone": "Europe/Rome",
                "recurrence": {"rule": "FREQ=WEEKLY"},
            }),
            "Next: Monday 23 November 2026, 22:00–Tuesday 24 November 2026, 01:00 (Europe/Rome)",
        ),
        (json!({"ends_at": null}), "Always open"),
    ] {
        let body = with(
            with(meeting(), json!({"language": "en", "external_id": null})),
            change,
        );
        let booked = api
            .ask(&key, "POST", "/v1/meetings", Some(body))
            .await
            .json();
        let path = format!("/v1/meetings/{}/invitation", booked["id"].as_str().unwrap());
        let text = api.ask(&key, "GET", &path, None).await.text;
        assert_eq!(text.lines().nth(1), Some(expected), "{text}");
    }
}

/// The document with its lines unfolded, each of which was short enough and ended as it must.
fn unfolded(document: &str) -> Vec<String> {
    assert!(document.ends_with("\r\n"));
    assert!(
        document
            .split("\r\n")
            .all(|line| line.len() <= 75 && !line.contains('\n'))
    );
    let whole = document.replace("\r\n ", "");
    whole.split_terminator("\r\n").map(str::to_owned).collect()
}

#[tokio::test]
async fn a_calendar_shows_the_series_as_it_is_and_what_to_dial() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Booking).await;
    let body = with(
        meeting(),
        json!({
            "title": "Consiglio; \u{e0}, \\ e poi ancora molto altro perch\u{e9} le righe siano spezzate a dovere\u{2026}",
            "language": "it",
            "starts_at": "2026-11-23T10:00:00+01:00", "ends_at": "2026-11-23T11:30:00+01:00", "timezone": "Europe/Rome",
            "recurrence": {"rule": "FREQ=WEEKLY;UNTIL=20270630", "excluded": ["2026-11-30T10:00:00"], "added": ["2026-12-02T15:00:00"]},
        }),
    );
    let booked = api.ask(&key, "POST", "/v1/meetings", Some(body)).await;
    assert_eq!(booked.status, 201, "{}", booked.text);
    let booked = booked.json();
    let (id, pin) = (
        booked["id"].as_str().unwrap(),
        booked["pins"]["guest"].as_str().unwrap(),
    );
    let at = |occurrence: &str| format!("/v1/meetings/{id}/occurrences/{occurrence}");
    let moved =
        json!({"starts_at": "2027-04-06T09:00:00+02:00", "ends_at": "2027-04-06T10:00:00+02:00"});
    let done = api
        .ask(&key, "PATCH", &at("20270405T100000"), Some(moved))
        .await;
    assert_eq!(done.status, 200, "{}", done.text);
    assert_eq!(
        api.ask(&key, "DELETE", &at("20261207T100000"), None)
            .await
            .status,
        204
    );
    let answer = api
        .ask(
            &key,
            "GET",
            &format!("/v1/meetings/{id}/invitation?format=ics"),
            None,
        )
        .await;
    assert_eq!(
        answer.header("content-type"),
        "text/calendar; charset=utf-8"
    );
    let grouped = format!("{} {} {}", &pin[..3], &pin[3..6], &pin[6..]);
    let conference = |number: &str| {
        format!(
            "CONFERENCE;VALUE=URI;FEATURE=AUDIO,PHONE;LABEL={number};LANGUAGE=it:tel:{number},,{pin}%23"
        )
    };
    let about = [
        "SUMMARY:Consiglio\\; \u{e0}\\, \\\\ e poi ancora molto altro perch\u{e9} le righe siano spezzate a dovere\u{2026}".to_owned(),
        format!("DESCRIPTION:Per partecipare per telefono\\, chiamare:\\n  +390600\\n  +390601\\nPIN: {grouped} #"),
        conference("+390600"),
        conference("+390601"),
        "END:VEVENT".to_owned(),
    ];
    let event = |lines: &[&str]| {
        let head = [
            "BEGIN:VEVENT".to_owned(),
            format!("UID:{id}@voicebridge"),
            "DTSTAMP:20261120T080000Z".to_owned(),
            "LAST-MODIFIED:20261120T080000Z".to_owned(),
            "SEQUENCE:2".to_owned(),
        ];
        let lines = lines.iter().map(|line| (*line).to_owned());
        head.into_iter()
            .chain(lines)
            .chain(about.clone())
            .collect::<Vec<String>>()
    };
    let zone = [
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "PRODID:-//voicebridge//voicebridge//EN",
        "CALSCALE:GREGORIAN",
        "BEGIN:VTIMEZONE",
        "TZID:Europe/Rome",
        "BEGIN:STANDARD",
        "DTSTART:20261025T030000",
        "RRULE:FREQ=YEARLY;BYMONTH=10;BYDAY=-1SU",
        "TZOFFSETFROM:+0200",
        "TZOFFSETTO:+0100",
        "TZNAME:CET",
        "END:STANDARD",
        "BEGIN:DAYLIGHT",
        "DTSTART:20270328T020000",
        "RRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU",
        "TZOFFSETFROM:+0100",
        "TZOFFSETTO:+0200",
        "TZNAME:CEST",
        "END:DAYLIGHT",
        "END:VTIMEZONE",
    ];
    let mut expected: Vec<String> = zone.iter().map(|line| (*line).to_owned()).collect();
    expected.extend(event(&[
        "DTSTART;TZID=Europe/Rome:20261123T100000",
        "DTEND;TZID=Europe/Rome:20261123T113000",
        "RRULE:FREQ=WEEKLY;UNTIL=20270628T080000Z",
        "EXDATE;TZID=Europe/Rome:20261130T100000,20261207T100000",
        "RDATE;TZID=Europe/Rome:20261202T150000",
    ]));
    expected.extend(event(&[
        "DTSTART;TZID=Europe/Rome:20270406T090000",
        "DTEND;TZID=Europe/Rome:20270406T100000",
        "RECURRENCE-ID;TZID=Europe/Rome:20270405T100000",
    ]));
    expected.push("END:VCALENDAR".to_owned());
    assert_eq!(unfolded(&answer.text), expected);
}

#[tokio::test]
async fn a_calendar_knows_zones_that_are_regular_irregular_or_never_changed() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Booking).await;
    for (zone, has, has_not) in [
        ("UTC", "DTSTART:20261123T090000Z", "VTIMEZONE"),
        ("Asia/Kolkata", "TZOFFSETTO:+0530", "DAYLIGHT"),
        ("Africa/Casablanca", "RDATE:2028", "RRULE"),
        (
            "America/New_York",
            "RRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=2SU",
            "RDATE",
        ),
    ] {
        let body = with(meeting(), json!({"timezone": zone}));
        let booked = api
            .ask(&key, "POST", "/v1/meetings", Some(body))
            .await
            .json();
        let path = format!(
            "/v1/meetings/{}/invitation?format=ics",
            booked["id"].as_str().unwrap()
        );
        let lines = unfolded(&api.ask(&key, "GET", &path, None).await.text).join("\n");
        assert!(
            lines.contains(has) && !lines.contains(has_not),
            "{zone}:\n{lines}"
        );
    }
    let permanent = with(meeting(), json!({"ends_at": null}));
    let booked = api
        .ask(&key, "POST", "/v1/meetings", Some(permanent))
        .await
        .json();
    let path = format!(
        "/v1/meetings/{}/invitation?format=ics",
        booked["id"].as_str().unwrap()
    );
    let refused = api.ask(&key, "GET", &path, None).await;
    refused.problem(400);
    assert_eq!(refused.errors(), ["format not_supported"]);
}

/// The zone is told from there on where the first occurrence is, be it one that was added.
#[tokio::test]
async fn a_day_added_before_the_series_has_its_zone_too() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Booking).await;
    let body = with(
        meeting(),
        json!({"recurrence": {"rule": "FREQ=WEEKLY;COUNT=3", "added": ["2026-07-06T10:00:00"]}}),
    );
    let booked = api.ask(&key, "POST", "/v1/meetings", Some(body)).await;
    assert_eq!(booked.status, 201, "{}", booked.text);
    let id = booked.json()["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/meetings/{id}/invitation?format=ics");
    let lines = unfolded(&api.ask(&key, "GET", &path, None).await.text).join("\n");
    assert!(
        lines.contains("RDATE;TZID=Europe/Rome:20260706T100000"),
        "{lines}"
    );
    assert!(
        lines.contains("BEGIN:DAYLIGHT\nDTSTART:20260329T020000"),
        "{lines}"
    );
}
