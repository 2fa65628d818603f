//! An example of each request body, for the OpenAPI document. Tests send every one of them.

use serde_json::{Value, json};
use utoipa::Modify;
use utoipa::openapi::{OpenApi, RefOr};

use super::document::operations_of;

/// Gives each operation that takes JSON its example.
pub(super) struct Examples;

impl Modify for Examples {
    fn modify(&self, openapi: &mut OpenApi) {
        for operation in openapi.paths.paths.values_mut().flat_map(operations_of) {
            let name = operation.operation_id.clone().unwrap_or_default();
            let Some(RefOr::T(body)) = &mut operation.request_body else {
                continue;
            };
            if let (Some(RefOr::T(content)), Some(example)) =
                (body.content.get_mut("application/json"), example(&name))
            {
                content.example = Some(example);
            }
        }
    }
}

/// Of the operation of this name.
fn example(operation: &str) -> Option<Value> {
    Some(match operation {
        "createMeeting" => json!({
            "title": "Jour fixe",
            "starts_at": "2035-01-08T10:00:00+01:00",
            "ends_at": "2035-01-08T11:00:00+01:00",
            "timezone": "Europe/Rome",
            "recurrence": {"rule": "FREQ=WEEKLY;COUNT=10"},
            "external_id": "booking/4711",
            "capacity": 20,
            "language": "it",
            "metadata": {"room": "B 12"},
        }),
        "changeMeeting" => json!({"title": "Jour fixe, in the large room", "capacity": null}),
        "putMeetingByExternalId" => json!({
            "title": "Consultation hours",
            "starts_at": "2035-01-08T09:00:00+01:00",
            "ends_at": null,
            "timezone": "Europe/Rome",
            "wait_for_host": true,
        }),
        "changeOccurrence" => json!({
            "starts_at": "2035-01-16T10:00:00+01:00",
            "ends_at": "2035-01-16T11:00:00+01:00",
        }),
        "createPin" => json!({"label": "Ada Lovelace", "role": "guest"}),
        "explainPin" => json!({"pin": "4815162342", "at": "2035-01-08T09:05:00Z"}),
        "dial" => json!({"to": "+390612345678", "name": "Ada Lovelace", "language": "en"}),
        "changeParticipant" => json!({"muted": true, "name": "Ada"}),
        "moveParticipant" => json!({"context": "helpdesk", "extension": "100"}),
        "createWebhook" => json!({
            "url": "https://portal.example.org/voicebridge",
            "types": ["meeting.started", "participant.joined"],
        }),
        "changeWebhook" => json!({"types": null, "enabled": true}),
        "replayWebhook" => json!({"from_time": "2035-01-08T09:00:00Z"}),
        "rotateWebhookSecret" => json!({"grace_minutes": 1_440}),
        "createNumber" => json!({
            "number": "+390612345600",
            "language": "it",
            "country": "IT",
            "label": "Roma",
        }),
        "changeNumber" => json!({"label": "Rome", "toll_free": false}),
        "createRoom" => json!({"name": "Aula magna", "capacity": 250}),
        "changeRoom" => json!({"name": "Aula magna, first floor"}),
        "createOrganisation" => json!({
            "name": "University of Example",
            "language": "it",
            "privacy_store": "none",
            "retain_days": 30,
            "callers_max": 200,
            "minutes_per_month": 100_000,
        }),
        "changeOrganisation" => json!({"callers_max": 300, "dial_prefixes": ["+39"]}),
        "createKey" => json!({"role": "booking", "expires_at": "2036-01-01T00:00:00Z"}),
        "rotateKey" => json!({"grace_minutes": 60}),
        "findCaller" => json!({"number": "+390612345678"}),
        "mapConferencePosted" => json!({"conference": "jour-fixe@conference.meet.example.org"}),
        _ => return None,
    })
}
