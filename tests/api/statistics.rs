//! `/v1/statistics`: what went on, for whom, in which period.

use super::*;

/// A call from then on, of so many seconds.
struct Went<'a> {
    at: &'a str,
    seconds: i64,
    outcome: Outcome,
    number: &'a str,
    quality: Option<(f64, f64)>,
}

async fn went(api: &Api, n: u128, owner: Option<&Value>, booked: Option<&Value>, went: Went<'_>) {
    let at: Timestamp = went.at.parse().unwrap();
    let record = CallRecord {
        number: went.number.to_owned(),
        started_at: at,
        answered_at: Some(at),
        ended_at: at + jiff::SignedDuration::from_secs(went.seconds),
        occurrence: None,
        outcome: went.outcome,
        quality: went
            .quality
            .map(|(loss, mos)| json!({"loss": loss, "mos": mos})),
        ..call(n, owner, booked)
    };
    api.bookings.record_call(&record).await.unwrap();
}

async fn id_of_owner(api: &Api, key: &str) -> Value {
    let key = api.bookings.authenticate(NOW.get(), key).await.unwrap();
    json!(key.organisation.id)
}

#[tokio::test]
async fn what_went_on_is_counted_by_day_for_each_organisation() {
    let api = Api::new().await;
    let (key, other) = (
        api.key("demo", KeyRole::Admin).await,
        api.key("other", KeyRole::Admin).await,
    );
    let platform = api.key("portal", KeyRole::Platform).await;
    let reader = api.key("demo", KeyRole::Reader).await;
    let (first, second) = (api.book(&key).await, api.book(&key).await);
    let theirs = api.book(&other).await;
    let (demo, foreign) = (
        id_of_owner(&api, &key).await,
        id_of_owner(&api, &other).await,
    );
    let joined = |at, seconds, number, quality| Went {
        at,
        seconds,
        outcome: Outcome::Joined,
        number,
        quality,
    };
    let refused = |at, outcome| Went {
        at,
        seconds: 20,
        outcome,
        number: "+390600",
        quality: None,
    };
    let demo = Some(&demo);
    // Three at once for a minute; who comes when another one goes is no fourth.
    let (a, b) = ("+390600", "+390601");
    went(
        &api,
        1,
        demo,
        Some(&first),
        joined("2026-11-23T09:00:00Z", 600, a, Some((0.0, 4.4))),
    )
    .await;
    went(
        &api,
        2,
        demo,
        Some(&first),
        joined("2026-11-23T09:02:00Z", 480, a, Some((0.02, 4.1))),
    )
    .await;
    went(
        &api,
        3,
        demo,
        Some(&second),
        joined("2026-11-23T09:08:00Z", 120, b, Some((0.2, 2.0))),
    )
    .await;
    went(
        &api,
        4,
        demo,
        Some(&second),
        joined("2026-11-23T09:10:00Z", 30, b, None),
    )
    .await;
    went(
        &api,
        5,
        demo,
        None,
        refused("2026-11-23T10:00:00Z", Outcome::WrongPin),
    )
    .await;
    went(
        &api,
        6,
        demo,
        Some(&first),
        refused("2026-11-23T10:00:00Z", Outcome::Full),
    )
    .await;
    // In Rome this is the next day, into which the call reaches; it goes on after the last one arrived.
    went(
        &api,
        7,
        demo,
        Some(&first),
        joined("2026-11-23T22:59:00Z", 7_200, a, None),
    )
    .await;
    went(
        &api,
        8,
        demo,
        Some(&second),
        joined("2026-11-24T00:30:00Z", 60, a, None),
    )
    .await;
    went(
        &api,
        9,
        Some(&foreign),
        Some(&theirs),
        joined("2026-11-23T09:08:30Z", 60, a, None),
    )
    .await;
    went(
        &api,
        10,
        None,
        None,
        refused("2026-11-23T11:00:00Z", Outcome::NoInput),
    )
    .await;

    let period = "from=2026-11-22T23:00:00Z&to=2026-11-24T23:00:00Z&timezone=europe/rome";
    let by_day = format!("/v1/statistics?{period}&by=day");
    let answer = api.ask(&reader, "GET", &by_day, None).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let counted = answer.json();
    assert_eq!(
        (&counted["organisation"], &counted["timezone"]),
        (&json!("demo"), &json!("Europe/Rome"))
    );
    let days = counted["items"].as_array().unwrap();
    assert_eq!(days.len(), 2);
    let monday = &days[0];
    assert_eq!(monday["from"], "2026-11-23T00:00:00+01:00");
    assert_eq!(monday["to"], "2026-11-24T00:00:00+01:00");
    let figures = |day: &Value| {
        json!([
            day["calls"],
            day["joined"],
            day["meetings"],
            day["callers_peak"],
            day["minutes"]
        ])
    };
    assert_eq!(figures(monday), json!([7, 5, 2, 3, 140.5]));
    assert_eq!(
        (
            &monday["refusals"]["wrong_pin"],
            &monday["refusals"]["full"],
            &monday["refusals"]["busy"]
        ),
        (&json!(1), &json!(1), &json!(0))
    );
    assert_eq!(monday["refusals"]["joined"], Value::Null);
    assert_eq!(
        monday["numbers"],
        json!([
            {"number": a, "joined": 3, "minutes": 138.0},
            {"number": b, "joined": 2, "minutes": 2.5},
        ])
    );
    let quality = &monday["quality"];
    assert_eq!(
        (&quality["measured"], &quality["loss"], &quality["mos"]),
        (&json!(3), &json!([1, 0, 1, 0, 1]), &json!([1, 1, 0, 0, 1]))
    );
    let near = |value: &Value, to: f64| (value.as_f64().unwrap() - to).abs() < 1e-6;
    assert!(near(&quality["loss_mean"], 0.22 / 3.0) && near(&quality["mos_mean"], 3.5));
    assert_eq!(
        figures(&days[1]),
        json!([1, 1, 1, 2, 1.0]),
        "who came before is there too"
    );
    assert_eq!(days[1]["quality"]["loss_mean"], Value::Null);

    let whole = format!("/v1/statistics?{period}");
    let of = async |key: &str, query: &str| {
        let answer = api.ask(key, "GET", &format!("{whole}{query}"), None).await;
        figures(&answer.json()["items"][0])
    };
    assert_eq!(of(&key, "").await, json!([8, 6, 2, 3, 141.5]));
    assert_eq!(of(&key, "&by=month").await, json!([8, 6, 2, 3, 141.5]));
    assert_eq!(of(&other, "").await, json!([1, 1, 1, 1, 1.0]));
    assert_eq!(of(&platform, "").await, json!([10, 7, 3, 4, 142.5]));
    assert_eq!(
        of(&platform, "&organisation=other").await,
        json!([1, 1, 1, 1, 1.0])
    );

    let csv = [("accept", "text/csv")];
    let csv = api.ask_with(&key, "GET", &by_day, None, &csv).await;
    assert!(csv.header("content-type").starts_with("text/csv"));
    let rows: Vec<Vec<&str>> = csv
        .text
        .lines()
        .map(|row| row.split(',').collect())
        .collect();
    assert_eq!(rows.len(), 1 + 3 + 2);
    assert!(
        rows.iter().all(|row| row.len() == rows[0].len()),
        "{}",
        csv.text
    );
    let at =
        |row: usize, column: &str| rows[row][rows[0].iter().position(|c| *c == column).unwrap()];
    assert_eq!(
        (at(1, "number"), at(1, "minutes"), at(1, "callers_peak")),
        ("", "140.50", "3")
    );
    assert_eq!(
        (at(2, "number"), at(2, "minutes"), at(2, "calls")),
        (a, "138.00", "")
    );
    assert_eq!(
        (at(1, "wrong_pin"), at(1, "loss_none"), at(1, "mos_mean")),
        ("1", "1", "3.5000")
    );

    set_clock("2026-11-23T09:05:00Z");
    let lately = api.ask(&key, "GET", "/v1/statistics", None).await.json();
    assert_eq!(lately["items"][0]["to"], "2026-11-23T09:05:00+00:00");
    assert_eq!(lately["items"][0]["calls"], 2, "the last thirty days");
    for (query, error) in [
        ("by=week", "by invalid"),
        ("timezone=Rome", "timezone invalid"),
        (
            "to=2026-01-01T00:00:00Z&from=2026-01-01T00:00:00Z",
            "to out_of_range",
        ),
        (
            "to=2026-06-01T00:00:00Z&from=2026-01-01T00:00:00Z&by=day",
            "to out_of_range",
        ),
        (
            "to=9999-06-01T00:00:00Z&from=0001-01-01T00:00:00Z",
            "to out_of_range",
        ),
        ("step=day", "step unknown_parameter"),
    ] {
        let refused = api
            .ask(&key, "GET", &format!("/v1/statistics?{query}"), None)
            .await;
        refused.problem(400);
        assert_eq!(refused.errors(), [error]);
    }
}
