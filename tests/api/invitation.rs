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
        ("?format=ics", "not_supported"),
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
