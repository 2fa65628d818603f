//! The numbers people dial: who makes, sees and changes them, and what follows from that.

use super::*;

async fn made(api: &Api, platform: &str, body: Value) -> Value {
    let answer = api.ask(platform, "POST", "/v1/numbers", Some(body)).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.json()
}

async fn listed(api: &Api, key: &str, query: &str) -> Vec<String> {
    let path = format!("/v1/numbers{query}");
    let list = api.ask(key, "GET", &path, None).await.json();
    let items = list["items"].as_array().unwrap().iter();
    items
        .map(|n| n["number"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_number_leads_to_whom_it_was_given_from_the_moment_it_is_changed() {
    let api = Api::new().await;
    let platform = api.key("portal", KeyRole::Platform).await;
    let admin = api.key("demo", KeyRole::Admin).await;
    api.key("other", KeyRole::Admin).await;
    let asked = json!({
        "number": "+390699", "language": "it", "country": "it", "organisation": "demo", "label": "Roma", "toll_free": true,
    });
    let number = made(&api, &platform, asked).await;
    assert_eq!(
        (
            &number["country"],
            &number["organisation"],
            &number["toll_free"]
        ),
        (&json!("IT"), &json!("demo"), &json!(true))
    );
    let path = format!("/v1/numbers/{}", number["id"].as_str().unwrap());
    let meeting = api.book(&admin).await;
    let pin = meeting["pins"]["guest"].as_str().unwrap();
    let leads_here = async || {
        let asked = json!({"pin": pin, "number": "0039-0699", "at": "2026-11-23T09:30:00Z"});
        let told = api
            .ask(&admin, "POST", "/v1/pins/explain", Some(asked))
            .await;
        let one = api
            .ask(&admin, "GET", &path_of(&meeting), None)
            .await
            .json();
        let shown = one["numbers"].to_string().contains("+390699");
        let invitation = format!("{}/invitation", path_of(&meeting));
        let invited = api.ask(&admin, "GET", &invitation, None).await.text;
        assert_eq!(shown, invited.contains("Roma: +390699"), "{invited}");
        (told.json()["outcome"].as_str().unwrap().to_owned(), shown)
    };
    assert_eq!(leads_here().await, ("joined".to_owned(), true));
    let give = async |owner: Value| {
        let change = json!({"organisation": owner});
        let changed = api.ask(&platform, "PATCH", &path, Some(change)).await;
        assert_eq!(changed.status, 200, "{}", changed.text);
    };
    give(json!("other")).await;
    assert_eq!(leads_here().await, ("number_not_allowed".to_owned(), false));
    give(json!(null)).await;
    assert_eq!(leads_here().await, ("joined".to_owned(), true));
    assert_eq!(api.ask(&platform, "DELETE", &path, None).await.status, 204);
    assert_eq!(leads_here().await, ("number_not_allowed".to_owned(), false));
    assert_eq!(
        api.ask(&platform, "GET", &path, None).await.problem(404),
        "not_found"
    );
    let trail = api.ask(&platform, "GET", "/v1/audit", None).await.json();
    let count = |action: &str| {
        let deeds = trail["items"].as_array().unwrap().iter();
        deeds
            .filter(|deed| deed["action"] == action && deed["subject"] == path.as_str())
            .count()
    };
    let counted = [
        "POST /v1/numbers",
        "PATCH /v1/numbers/{id}",
        "DELETE /v1/numbers/{id}",
    ]
    .map(count);
    assert_eq!(counted, [1, 2, 1]);
}

#[tokio::test]
async fn an_organisation_changes_how_its_own_numbers_look_and_nothing_else() {
    let api = Api::new().await;
    let platform = api.key("portal", KeyRole::Platform).await;
    let admin = api.key("demo", KeyRole::Admin).await;
    api.key("other", KeyRole::Admin).await;
    let all = api.ask(&platform, "GET", "/v1/numbers", None).await.json();
    let path = |number: &str| {
        let mut items = all["items"].as_array().unwrap().iter();
        let found = items.find(|n| n["number"] == number).unwrap();
        format!("/v1/numbers/{}", found["id"].as_str().unwrap())
    };
    let (shared, own, foreign) = (path("+390600"), path("+390601"), path("+390602"));
    assert_eq!(listed(&api, &admin, "").await, ["+390600", "+390601"]);
    assert_eq!(
        listed(&api, &platform, "?organisation=other").await,
        ["+390600", "+390602"]
    );
    let page = api
        .ask(&platform, "GET", "/v1/numbers?limit=2", None)
        .await
        .json();
    let rest = format!("?limit=2&cursor={}", page["next"].as_str().unwrap());
    assert_eq!(listed(&api, &platform, &rest).await, ["+390602"]);

    let patch =
        async |key: &str, path: &str, body: Value| api.ask(key, "PATCH", path, Some(body)).await;
    let look = json!({"label": "Roma", "language": "en", "country": null});
    let changed = patch(&admin, &own, look.clone()).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    assert_eq!(
        (
            &changed.json()["language"],
            &changed.json()["country"],
            &changed.json()["number"]
        ),
        (&json!("en"), &json!(null), &json!("+390601"))
    );
    assert_eq!(
        api.bookings
            .numbers()
            .find("+390601")
            .unwrap()
            .label
            .as_deref(),
        Some("Roma")
    );
    for body in [
        json!({"number": "+390603"}),
        json!({"organisation": null}),
        json!({"organisation": "other"}),
    ] {
        assert_eq!(patch(&admin, &own, body).await.problem(403), "forbidden");
    }
    assert_eq!(
        patch(&admin, &shared, look.clone()).await.problem(403),
        "forbidden"
    );
    assert_eq!(
        patch(&admin, &foreign, look.clone()).await.problem(404),
        "not_found"
    );
    assert_eq!(
        api.ask(&admin, "GET", &foreign, None).await.problem(404),
        "not_found"
    );
    assert_eq!(
        api.ask(&admin, "DELETE", &own, None).await.problem(403),
        "forbidden"
    );
    let booking = api.key("demo", KeyRole::Booking).await;
    assert_eq!(patch(&booking, &own, look).await.problem(403), "forbidden");
    let asked = json!({"number": "+390699", "language": "it"});
    for key in [&admin, &booking] {
        let refused = api
            .ask(key, "POST", "/v1/numbers", Some(asked.clone()))
            .await;
        assert_eq!(refused.problem(403), "forbidden");
    }
    let read = api.ask(&platform, "GET", &own, None).await;
    let headers = [("if-match", "\"1\"")];
    let stale = api
        .ask_with(&admin, "PATCH", &own, Some(json!({"label": "x"})), &headers)
        .await;
    assert_eq!(
        (read.header("etag"), stale.problem(412)),
        ("\"2\"", "changed".to_owned())
    );
}

#[tokio::test]
async fn a_number_that_is_wrong_or_there_already_is_refused_and_so_are_too_many() {
    let api = Api::new().await;
    let platform = api.key("portal", KeyRole::Platform).await;
    let create = async |body: Value| api.ask(&platform, "POST", "/v1/numbers", Some(body)).await;
    for (body, errors) in [
        (json!({}), vec!["number required", "language required"]),
        (
            json!({"number": "112", "language": "it"}),
            vec!["number invalid"],
        ),
        (
            json!({"number": "+39 06", "language": "xx", "country": "ITA", "label": "", "organisation": "nobody"}),
            vec![
                "number invalid",
                "language invalid",
                "country invalid",
                "label invalid",
                "organisation unknown",
            ],
        ),
        (
            json!({"number": "7000", "language": "it", "colour": 1}),
            vec!["colour unknown_field"],
        ),
        (
            json!({"number": "00390601", "language": "it"}),
            vec!["number taken"],
        ),
        (
            json!({"number": "39.0601", "language": "it"}),
            vec!["number taken"],
        ),
    ] {
        let refused = create(body).await;
        refused.problem(422);
        assert_eq!(refused.errors(), errors);
    }
    let number = |n: u32| DialInNumber {
        number: n.to_string(),
        country: None,
        language: None,
        organisation: None,
        label: None,
        toll_free: false,
    };
    let many = api
        .bookings
        .seed_numbers(NOW.get(), (7000..7996).map(number).collect());
    many.await.unwrap();
    let last = made(&api, &platform, json!({"number": "8000", "language": "it"})).await;
    let one_more = json!({"number": "8001", "language": "it"});
    assert_eq!(create(one_more.clone()).await.problem(409), "numbers_max");
    let last = format!("/v1/numbers/{}", last["id"].as_str().unwrap());
    assert_eq!(api.ask(&platform, "DELETE", &last, None).await.status, 204);
    assert_eq!(create(one_more).await.status, 201);
}

#[tokio::test]
async fn the_configuration_brings_a_number_once_and_then_the_api_has_it_on_every_node() {
    let api = Api::new().await;
    let platform = api.key("portal", KeyRole::Platform).await;
    let other_node = open(api.dir.path(), BookingSettings::default()).await;
    other_node.look_for_numbers().await.unwrap();
    let seed = |number: &str, label: Option<&str>| DialInNumber {
        number: number.to_owned(),
        country: Some("IT".to_owned()),
        language: None,
        organisation: None,
        label: label.map(str::to_owned),
        toll_free: false,
    };
    let all = api.ask(&platform, "GET", "/v1/numbers", None).await.json();
    let shared = format!("/v1/numbers/{}", all["items"][0]["id"].as_str().unwrap());
    assert_eq!(
        api.ask(&platform, "DELETE", &shared, None).await.status,
        204
    );
    assert!(other_node.numbers().find("+390600").is_some());
    other_node.look_for_numbers().await.unwrap();
    assert!(
        other_node.numbers().find("+390600").is_none(),
        "it heard of it"
    );

    // The next start, with one number more.
    set_clock("2026-11-20T08:01:00Z");
    let seeds = vec![seed("+390600", None), seed("7000", Some("Roma"))];
    let not_as_written = other_node
        .seed_numbers(NOW.get(), seeds.clone())
        .await
        .unwrap();
    assert_eq!(not_as_written, ["+390600"]);
    assert!(other_node.numbers().find("7000").is_some());
    api.bookings.look_for_numbers().await.unwrap();
    assert_eq!(
        listed(&api, &platform, "").await,
        ["+390601", "+390602", "7000"]
    );
    let again = api.bookings.seed_numbers(NOW.get(), seeds).await.unwrap();
    assert_eq!(again, ["+390600"]);
}

#[tokio::test]
async fn the_last_number_can_not_be_deleted_for_then_any_would_be_answered() {
    let api = Api::new().await;
    let platform = api.key("portal", KeyRole::Platform).await;
    let all = api.ask(&platform, "GET", "/v1/numbers", None).await.json();
    let numbers = all["items"].as_array().unwrap().iter();
    let paths: Vec<String> = numbers
        .map(|number| format!("/v1/numbers/{}", number["id"].as_str().unwrap()))
        .collect();
    let (last, others) = paths.split_last().unwrap();
    for other in others {
        assert_eq!(api.ask(&platform, "DELETE", other, None).await.status, 204);
    }
    let refused = api.ask(&platform, "DELETE", last, None).await;
    assert_eq!(refused.problem(409), "last_number");
    assert_eq!(api.ask(&platform, "GET", last, None).await.status, 200);
    made(&api, &platform, json!({"number": "7000", "language": "it"})).await;
    assert_eq!(api.ask(&platform, "DELETE", last, None).await.status, 204);
}
