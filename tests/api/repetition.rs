//! `Idempotency-Key` on every POST: done once, answered alike.

use super::*;

async fn post(api: &Api, key: &str, path: &str, name: &str, body: Option<Value>) -> Answer {
    let headers = [("idempotency-key", name)];
    api.ask_with(key, "POST", path, body, &headers).await
}

async fn count(api: &Api, key: &str, path: &str) -> usize {
    let list = api.ask(key, "GET", path, None).await.json();
    list["items"].as_array().unwrap().len()
}

#[tokio::test]
async fn every_post_is_done_once_and_answered_alike() {
    let api = Api::new().await;
    let platform = api.key("platform", KeyRole::Platform).await;
    let before = count(&api, &platform, "/v1/organisations").await;
    let body = Some(json!({"name": "acme"}));
    let first = post(&api, &platform, "/v1/organisations", "o1", body.clone()).await;
    let again = post(&api, &platform, "/v1/organisations", "o1", body.clone()).await;
    assert_eq!((first.status.as_u16(), again.status.as_u16()), (201, 201));
    assert_eq!(first.text, again.text);
    for name in ["location", "etag", "content-type"] {
        assert_eq!(first.header(name), again.header(name), "{name}");
    }
    assert_eq!(
        count(&api, &platform, "/v1/organisations").await,
        before + 1
    );
    let other = Some(json!({"name": "other"}));
    let mismatch = post(&api, &platform, "/v1/organisations", "o1", other).await;
    assert_eq!(mismatch.problem(422), "idempotency_key_reused");
    let elsewhere = post(&api, &platform, "/v1/keys", "o1", body.clone()).await;
    assert_eq!(elsewhere.problem(422), "idempotency_key_reused");

    let refused = post(&api, &platform, "/v1/organisations", "o2", body).await;
    assert_eq!(refused.status, 422, "the name is taken");
    let better = Some(json!({"name": "better"}));
    let tried_again = post(&api, &platform, "/v1/organisations", "o2", better).await;
    assert_eq!(tried_again.status, 201, "a refused request holds nothing");

    let bad = post(&api, &platform, "/v1/pins/explain", "has space", None).await;
    assert_eq!(bad.errors(), ["Idempotency-Key invalid"]);
    let stranger = post(&api, "nonsense", "/v1/keys", "o1", None).await;
    assert_eq!(stranger.problem(401), "unauthorized");
}

#[tokio::test]
async fn a_new_key_is_shown_again_to_who_repeats_and_stored_for_nobody() {
    let api = Api::new().await;
    let admin = api.key("demo", KeyRole::Admin).await;
    let body = Some(json!({"role": "reader"}));
    let first = post(&api, &admin, "/v1/keys", "k1", body.clone()).await;
    assert_eq!(first.status, 201, "{}", first.text);
    let keys = count(&api, &admin, "/v1/keys").await;
    assert_eq!(
        post(&api, &admin, "/v1/keys", "k1", body.clone())
            .await
            .text,
        first.text
    );
    assert_eq!(count(&api, &admin, "/v1/keys").await, keys);
    let secret = first.json()["key"].as_str().unwrap().to_owned();
    let seen = api.ask(&secret, "GET", "/v1/meetings", None).await;
    assert_eq!(seen.status, 200);
    let colleague = api.key("demo", KeyRole::Admin).await;
    let theirs = post(&api, &colleague, "/v1/keys", "k1", body.clone()).await;
    assert_ne!(
        theirs.json()["key"],
        secret,
        "names belong to the key they came with"
    );
    if !ON_POSTGRES {
        for file in ["v.db", "v.db-wal"] {
            let bytes = std::fs::read(api.dir.path().join(file)).unwrap_or_default();
            let found = bytes
                .windows(secret.len())
                .any(|part| part == secret.as_bytes());
            assert!(!found, "{file} holds the key");
        }
    }

    let id = first.json()["id"].as_str().unwrap().to_owned();
    let rotate = format!("/v1/keys/{id}/rotate");
    let rotated = post(&api, &admin, &rotate, "r1", Some(json!({}))).await;
    assert_eq!(rotated.status, 201, "{}", rotated.text);
    let again = post(&api, &admin, &rotate, "r1", Some(json!({}))).await;
    assert_eq!(again.text, rotated.text);
    let more = ["the colleague's", "what he made", "the rotated one"];
    assert_eq!(
        count(&api, &admin, "/v1/keys").await,
        keys + more.len(),
        "{more:?}"
    );
}

#[tokio::test]
async fn who_repeats_what_was_deleted_meanwhile_is_told_so_and_makes_nothing_twice() {
    let api = Api::new().await;
    let (admin, platform) = (
        api.key("demo", KeyRole::Admin).await,
        api.key("demo", KeyRole::Platform).await,
    );
    let meeting = json!({"title": "A", "starts_at": "2026-11-23T09:00:00Z", "ends_at": null, "timezone": "UTC"});
    let meeting = api.ask(&admin, "POST", "/v1/meetings", Some(meeting)).await;
    assert_eq!(meeting.status, 201, "{}", meeting.text);
    let meeting = format!("/v1/meetings/{}", meeting.json()["id"].as_str().unwrap());
    for (key, path, body) in [
        (
            &admin,
            "/v1/webhooks".to_owned(),
            json!({"url": "https://example.org/"}),
        ),
        (
            &platform,
            "/v1/numbers".to_owned(),
            json!({"number": "+390677", "language": "it"}),
        ),
        (&admin, "/v1/keys".to_owned(), json!({"role": "reader"})),
        (
            &admin,
            "/v1/rooms".to_owned(),
            json!({"name": "A", "capacity": 5}),
        ),
        (
            &admin,
            format!("{meeting}/pins"),
            json!({"role": "guest", "label": "Anna"}),
        ),
    ] {
        let (once, anew) = (format!("1{path}"), format!("2{path}"));
        let made = post(&api, key, &path, &once, Some(body.clone())).await;
        assert_eq!(made.status, 201, "{path}: {}", made.text);
        let again = post(&api, key, &path, &once, Some(body.clone())).await;
        assert_eq!(again.text, made.text, "{path}");
        let have = count(&api, key, &path).await;
        let one = format!("{path}/{}", made.json()["id"].as_str().unwrap());
        assert_eq!(
            api.ask(key, "DELETE", &one, None).await.status,
            204,
            "{path}"
        );
        for _ in 0..2 {
            let again = post(&api, key, &path, &once, Some(body.clone())).await;
            assert_eq!(again.problem(410), "deleted_meanwhile", "{path}");
            assert!(!again.text.contains("whsec_") && !again.text.contains("vb_"));
        }
        // A revoked key stays in the list.
        let left = have - usize::from(path != "/v1/keys");
        assert_eq!(count(&api, key, &path).await, left, "{path}");
        let anew = post(&api, key, &path, &anew, Some(body)).await;
        assert_eq!(anew.status, 201, "{path}: {}", anew.text);
    }
    let body = json!({"title": "B", "starts_at": "2026-11-23T09:00:00Z", "ends_at": null, "timezone": "UTC"});
    let made = post(&api, &admin, "/v1/meetings", "m", Some(body.clone())).await;
    let one = format!("/v1/meetings/{}", made.json()["id"].as_str().unwrap());
    assert_eq!(api.ask(&admin, "DELETE", &one, None).await.status, 204);
    let again = post(&api, &admin, "/v1/meetings", "m", Some(body)).await;
    assert_eq!(again.status, 201, "it is there, and can be brought back");
}

#[tokio::test]
async fn a_repetition_is_remembered_for_a_day() {
    let api = Api::new().await;
    set_clock("2026-11-20T08:00:00Z");
    let admin = api.key("demo", KeyRole::Admin).await;
    let body = || Some(json!({"role": "reader"}));
    let first = post(&api, &admin, "/v1/keys", "k1", body()).await;
    set_clock("2026-11-21T07:59:59Z");
    assert_eq!(
        post(&api, &admin, "/v1/keys", "k1", body()).await.text,
        first.text
    );
    set_clock("2026-11-21T08:00:00Z");
    let anew = post(&api, &admin, "/v1/keys", "k1", body()).await;
    assert_eq!(anew.status, 201);
    assert_ne!(anew.text, first.text);
}

#[tokio::test]
async fn of_many_who_ask_at_once_one_is_served() {
    let api = Api::new().await;
    let admin = api.key("demo", KeyRole::Admin).await;
    let before = count(&api, &admin, "/v1/keys").await;
    let ask = || {
        post(
            &api,
            &admin,
            "/v1/keys",
            "k1",
            Some(json!({"role": "reader"})),
        )
    };
    let (a, b, c, d) = tokio::join!(ask(), ask(), ask(), ask());
    let mut made = Vec::new();
    for answer in [a, b, c, d] {
        if answer.status == 201 {
            made.push(answer.text);
        } else {
            assert_eq!(answer.problem(409), "idempotency_key_in_flight");
        }
    }
    made.dedup();
    assert_eq!(made.len(), 1, "who isn't told to wait gets the same answer");
    assert_eq!(count(&api, &admin, "/v1/keys").await, before + 1);
}

#[tokio::test]
async fn who_has_no_good_key_learns_nothing_of_the_header() {
    let api = Api::new().await;
    let admin = api.key("demo", KeyRole::Admin).await;
    let body = || Some(json!({"role": "reader"}));
    let ask = async |key: &str, name: &str| post(&api, key, "/v1/keys", name, body()).await.status;
    assert_eq!(ask("vb_nobody", "not visible").await, 401);
    assert_eq!(ask(&admin, "not visible").await, 400);
    assert_eq!(ask(&admin, "visible").await, 201);
}

#[test]
fn the_openapi_document_names_the_header_on_every_post() {
    let document = serde_json::to_value(openapi()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let ours = paths.iter().filter(|(path, _)| path.starts_with("/v1/"));
    let posts = ours.filter(|(_, item)| item["post"].is_object());
    let mut seen = 0;
    for (path, item) in posts {
        let parameters = item["post"]["parameters"].as_array().unwrap();
        let named = parameters.iter().filter(|p| p["name"] == "Idempotency-Key");
        assert_eq!(named.count(), 1, "{path}");
        let responses = &item["post"]["responses"];
        assert!(responses["409"].is_object(), "{path}");
        assert_eq!(
            responses["410"].is_object(),
            responses["201"].is_object(),
            "{path}"
        );
        seen += 1;
    }
    assert!(seen >= 6, "{seen}");
}
