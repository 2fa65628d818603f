//! Every example of the OpenAPI document is sent as it stands there, and is answered as it says.

use voicebridge::booking::Scope;
use voicebridge::config::{JitsiConfig, NumberForm};

use super::*;

/// The document's requests with a JSON body: name, method, path, example.
fn bodies() -> Vec<(String, String, String, Value)> {
    let document = serde_json::to_value(openapi()).unwrap();
    let mut bodies = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let content = &operation["requestBody"]["content"]["application/json"];
            if content.is_null() {
                continue;
            }
            let name = operation["operationId"].as_str().unwrap().to_owned();
            assert!(!content["example"].is_null(), "{name} has no example");
            let example = content["example"].clone();
            bodies.push((name, method.to_uppercase(), path.clone(), example));
        }
    }
    bodies
}

#[tokio::test]
async fn every_example_runs() {
    let api = Api::with(BookingSettings {
        jitsi: vec![JitsiConfig {
            organisation: "demo".to_owned(),
            domains: vec!["conference.meet.example.org".to_owned()],
            number_form: NumberForm::List,
        }],
        ..BookingSettings::default()
    })
    .await;
    set_clock("2035-01-08T09:05:00Z");
    let admin = api.key("demo", KeyRole::Admin).await;
    let platform = api.key("portal", KeyRole::Platform).await;
    let dialler = NewKey {
        organisation: "demo".to_owned(),
        role: KeyRole::Operator,
        scopes: vec![Scope::Dial],
        expires_at: None,
    };
    let dialler = api.bookings.create_key(NOW.get(), dialler).await.unwrap();
    let dialler = dialler.1.expose().to_owned();
    let own = api.ask(&admin, "GET", "/v1/organisations", None).await;
    let organisation = own.json()["items"][0]["id"].as_str().unwrap().to_owned();
    let bodies = bodies();
    let (made, acted): (Vec<_>, Vec<_>) = bodies.iter().partition(|(name, ..)| {
        name.starts_with("create") && name != "createPin" || name == "changeOrganisation"
    });
    let mut ids = std::collections::BTreeMap::new();
    let mut asked = 0;
    for (name, method, path, example) in made.into_iter().chain(acted) {
        let collection = path.split("/{").next().unwrap();
        let id = match name.as_str() {
            "changeOrganisation" => organisation.clone(),
            _ => ids.get(collection).cloned().unwrap_or_default(),
        };
        let mut path = path
            .replace("{id}", &id)
            .replace("{external_id}", "consultation")
            .replace("{organisation}", "demo")
            .replace("{recurrence_id}", "20350115T100000");
        if path.contains("{participant_id}") {
            let meeting = MeetingId(id.parse().unwrap());
            let person = api.roster.enter(meeting, "Ada").to_string();
            path = path.replace("{participant_id}", &person);
        }
        let key = match name.as_str() {
            "createOrganisation" | "changeOrganisation" | "createNumber" | "changeNumber" => {
                &platform
            }
            "dial" => &dialler,
            _ => &admin,
        };
        let answer = api.ask(key, method, &path, Some(example.clone())).await;
        assert!(answer.status.is_success(), "{name} {path}: {}", answer.text);
        if answer.status == 201 && name.starts_with("create") {
            let id = answer.json()["id"].as_str().unwrap().to_owned();
            ids.entry(collection.to_owned()).or_insert(id);
        }
        asked += 1;
    }
    assert_eq!(asked, 23);
}

/// What a client may make of parameters by the examples of single fields.
#[test]
fn every_problem_has_a_code_that_the_document_explains() {
    let document = serde_json::to_value(openapi()).unwrap();
    let code = &document["components"]["schemas"]["ProblemDocument"]["properties"]["code"];
    let told = code["description"].as_str().unwrap();
    for (status, code, _) in PROBLEM_CODES {
        assert!(told.contains(&format!("`{code}` ({status})")), "{code}");
    }
}
