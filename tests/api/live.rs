//! What a change of a booking does to those who are in the meeting.

use serde_json::json;
use voicebridge::booking::KeyRole;

use super::{Api, id_of, meeting, set_clock, with};

#[tokio::test]
async fn a_change_reaches_the_live_meeting_at_once() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Booking).await;
    let body = with(
        meeting(),
        json!({"starts_at": "2026-11-23T10:00:00+01:00", "ends_at": "2026-11-23T11:00:00+01:00"}),
    );
    let path = "/v1/meetings/by-external-id/live";
    let booked = api.ask(&key, "PUT", path, Some(body.clone())).await.json();
    let (one, id) = (
        format!("/v1/meetings/{}", booked["id"].as_str().unwrap()),
        id_of(&booked),
    );
    set_clock("2026-11-23T10:30:00+01:00");
    api.roster.enter(id, "Anna");
    let terms = || api.roster.terms.lock().unwrap().last().cloned();
    let is_in = || !api.roster.people.lock().unwrap().is_empty();

    let longer =
        json!({"ends_at": "2026-11-23T12:00:00+01:00", "capacity": 7, "wait_for_host": true});
    assert_eq!(api.ask(&key, "PATCH", &one, Some(longer)).await.status, 200);
    let (whose, told) = terms().unwrap();
    assert_eq!(
        (whose, told.capacity, told.wait_for_host),
        (id, Some(7), true)
    );
    assert_eq!(told.ends_at.unwrap().to_string(), "2026-11-23T11:00:00Z");

    // Put back as it was: everybody stays, on those terms.
    assert_eq!(api.ask(&key, "PUT", path, Some(body)).await.status, 200);
    assert_eq!((terms().unwrap().1.capacity, is_in()), (None, true));

    // Where the calls can't be reached, the change is kept all the same.
    *api.roster.away.lock().unwrap() = true;
    let kept = api
        .ask(&key, "PATCH", &one, Some(json!({"capacity": 3})))
        .await;
    assert_eq!(
        (kept.status.as_u16(), &kept.json()["capacity"]),
        (200, &json!(3))
    );
    *api.roster.away.lock().unwrap() = false;

    // Moved to another day: nobody's PIN opens it now, so it is over for those who are in.
    let moved =
        json!({"starts_at": "2026-11-24T10:00:00+01:00", "ends_at": "2026-11-24T11:00:00+01:00"});
    assert_eq!(api.ask(&key, "PATCH", &one, Some(moved)).await.status, 200);
    assert!(!is_in());
}

#[tokio::test]
async fn a_cancelled_meeting_ends_for_those_who_are_in_it() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Booking).await;
    for external in [false, true] {
        let path = format!("/v1/meetings/by-external-id/{external}");
        let booked = api.ask(&key, "PUT", &path, Some(meeting())).await.json();
        api.roster.enter(id_of(&booked), "Anna");
        let one = format!("/v1/meetings/{}", booked["id"].as_str().unwrap());
        let path = if external { &path } else { &one };
        assert_eq!(api.ask(&key, "DELETE", path, None).await.status, 204);
        assert!(api.roster.people.lock().unwrap().is_empty(), "{path}");
    }
}

#[tokio::test]
async fn a_cancelled_occurrence_ends_for_those_who_are_in_it_and_another_one_does_not() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Booking).await;
    let body = with(
        meeting(),
        json!({
            "starts_at": "2026-11-23T10:00:00+01:00", "ends_at": "2026-11-23T11:00:00+01:00", "timezone": "Europe/Rome",
            "recurrence": {"rule": "FREQ=DAILY"},
        }),
    );
    let booked = api
        .ask(&key, "POST", "/v1/meetings", Some(body))
        .await
        .json();
    set_clock("2026-11-24T10:30:00+01:00");
    api.roster.enter(id_of(&booked), "Anna");
    let cancel = async |id: &str| {
        let path = format!(
            "/v1/meetings/{}/occurrences/{id}",
            booked["id"].as_str().unwrap()
        );
        assert_eq!(api.ask(&key, "DELETE", &path, None).await.status, 204);
        api.roster.people.lock().unwrap().len()
    };
    assert_eq!(cancel("20261125T100000").await, 1);
    assert_eq!(cancel("20261124T100000").await, 0);
}
