//! Sending a participant on into the dialplan.

use serde_json::json;
use voicebridge::booking::KeyRole;
use voicebridge::call::roster::LiveError;
use voicebridge::units::DialplanPlace;

use super::{Api, id_of, meeting};

#[tokio::test]
async fn a_participant_is_sent_where_the_request_says_or_it_is_told_why_not() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Operator).await;
    let booking = api.key("demo", KeyRole::Booking).await;
    let booked = api
        .ask(&booking, "POST", "/v1/meetings", Some(meeting()))
        .await
        .json();
    api.roster.enter(id_of(&booked), "Anna");
    let person = api.roster.people.lock().unwrap()[0].1.id;
    let id = booked["id"].as_str().unwrap();
    let path = format!("/v1/meetings/{id}/participants/{person}/move");
    let ask = async |body| api.ask(&key, "POST", &path, Some(body)).await;

    let there = json!({"context": "desk", "extension": "42"});
    assert_eq!(ask(there.clone()).await.status, 204);
    let there_later = json!({"context": "desk", "extension": "42", "priority": 7});
    assert_eq!(ask(there_later).await.status, 204);
    let places = [1, 7].map(|priority| DialplanPlace::new("desk", "42", priority).unwrap());
    assert_eq!(*api.roster.moved.lock().unwrap(), places);

    for (body, status, code, named) in [
        (json!({}), 422, "invalid", "extension"),
        (
            json!({"context": "desk", "extension": "4,2"}),
            422,
            "invalid",
            "extension",
        ),
        (
            json!({"context": "a b", "extension": "42"}),
            422,
            "invalid",
            "context",
        ),
        (
            json!({"context": "desk", "extension": "42", "priority": 0}),
            422,
            "invalid",
            "priority",
        ),
        (
            json!({"context": "desk", "extension": "42", "priority": 70_000}),
            422,
            "invalid",
            "priority",
        ),
        (
            json!({"context": "desk", "extension": "42", "label": "x"}),
            422,
            "invalid",
            "label",
        ),
        (
            json!({"meeting_id": id}),
            422,
            "not_supported",
            "meeting_id",
        ),
        (
            json!({"context": "desk", "extension": "9112"}),
            403,
            "emergency_number",
            "emergency",
        ),
    ] {
        let answer = ask(body.clone()).await;
        assert_eq!(answer.problem(status), code, "{body}");
        assert!(answer.text.contains(named), "{}", answer.text);
    }
    for (refusal, status, code) in [
        (LiveError::NotByAsterisk, 422, "not_supported"),
        (LiveError::ContextNotAllowed, 403, "not_allowed"),
        (LiveError::NoSuchExtension, 422, "no_such_extension"),
        (LiveError::Unavailable, 503, "unavailable"),
    ] {
        *api.roster.move_refusal.lock().unwrap() = Some(refusal);
        assert_eq!(ask(there.clone()).await.problem(status), code);
    }
    let reader = api.key("demo", KeyRole::Reader).await;
    let answer = api.ask(&reader, "POST", &path, Some(there.clone())).await;
    assert_eq!(answer.problem(403), "forbidden");
    let stranger = api.key("other", KeyRole::Operator).await;
    let answer = api.ask(&stranger, "POST", &path, Some(there)).await;
    assert_eq!(answer.problem(404), "not_found");
    assert_eq!(api.roster.moved.lock().unwrap().len(), 2);
}
