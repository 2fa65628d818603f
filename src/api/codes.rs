//! Every code that a problem document may have: what programs can rely on, and what the OpenAPI document says of each
//! operation's errors.

use utoipa::Modify;
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{Content, OpenApi, Ref, RefOr, ResponseBuilder};

use super::document::operations_of;

/// A status, a code that comes with it, and what it means. Codes may be added; none changes.
pub const PROBLEM_CODES: &[(u16, &str, &str)] = &[
    (400, "bad_request", "the request can't be read"),
    (400, "malformed_json", "the body is no JSON"),
    (
        400,
        "invalid_parameter",
        "a parameter or header breaks a rule; see `errors`",
    ),
    (
        401,
        "unauthorized",
        "no key, or one that isn't good any more",
    ),
    (403, "forbidden", "the key may not do that"),
    (
        403,
        "not_allowed",
        "the organisation, or the configuration, doesn't allow that",
    ),
    (
        403,
        "emergency_number",
        "emergency numbers are never dialled",
    ),
    (
        404,
        "not_found",
        "there is no such thing, or it is somebody else's",
    ),
    (404, "no_such_path", "there is nothing under this path"),
    (
        405,
        "method_not_allowed",
        "the path doesn't take this method",
    ),
    (
        409,
        "external_id_taken",
        "another meeting has this `external_id`",
    ),
    (
        409,
        "idempotency_key_in_flight",
        "the first request with this `Idempotency-Key` isn't answered yet",
    ),
    (
        409,
        "pins_exhausted",
        "too many PINs of this length are in use",
    ),
    (
        409,
        "pins_max",
        "the meeting has as many PINs as it may have",
    ),
    (
        409,
        "pin_taken",
        "another meeting has this PIN, or one that begins with it or that it begins with",
    ),
    (
        409,
        "last_pin",
        "nobody could come any more without this PIN",
    ),
    (
        409,
        "meetings_max",
        "the organisation has as many meetings as it may have",
    ),
    (
        409,
        "numbers_max",
        "there are as many numbers as there may be",
    ),
    (
        409,
        "last_number",
        "without any number, whatever is dialled would be answered",
    ),
    (
        409,
        "room_taken",
        "no such room is free at that time; see `next_free`",
    ),
    (409, "room_in_use", "bookings ahead need the room as it is"),
    (
        409,
        "rooms_max",
        "the organisation has as many rooms as it may have",
    ),
    (
        409,
        "too_many_webhooks",
        "the organisation has as many webhooks as it may have",
    ),
    (409, "retired", "the meeting has been over for too long"),
    (409, "cancelled", "the meeting is cancelled"),
    (409, "not_open", "the meeting isn't open now"),
    (409, "full", "the meeting is full"),
    (409, "conflict", "something like it is there already"),
    (410, "events_gone", "events are not kept that long"),
    (
        410,
        "deleted_meanwhile",
        "what the first request made was deleted since",
    ),
    (
        412,
        "changed",
        "it was changed meanwhile, or isn't what `If-Match` says",
    ),
    (413, "too_large", "the body is too large"),
    (415, "unsupported_media_type", "the body must be JSON"),
    (422, "invalid", "the request breaks rules; see `errors`"),
    (
        422,
        "not_supported",
        "what is asked for isn't done here, or not yet",
    ),
    (
        422,
        "idempotency_key_reused",
        "this `Idempotency-Key` came with another request before",
    ),
    (
        422,
        "no_such_extension",
        "the dialplan has no such extension",
    ),
    (
        429,
        "too_many_requests",
        "asked too often; see `Retry-After`",
    ),
    (429, "too_many_streams", "too many follow events already"),
    (
        429,
        "dial_limit",
        "the organisation has as many calls to people as it may have; see `Retry-After`",
    ),
    (
        500,
        "internal",
        "something went wrong here; the log tells more under `request_id`",
    ),
    (503, "timeout", "the request took too long"),
    (
        503,
        "unavailable",
        "it can't be done now; see `Retry-After`",
    ),
    (503, "no_line", "nothing that can dial is there now"),
    (503, "not_accepting", "the node starts or drains"),
    (
        503,
        "overloaded",
        "the media threads are as busy as they may be",
    ),
    (503, "store_unavailable", "the store can't be used now"),
    (503, "store_locked", "another process holds the store"),
    (503, "store_full", "the disk of the store is full"),
    (503, "store_read_only", "the store can't be written"),
];

/// Tells the OpenAPI document which errors each operation may be answered with, besides those that it tells itself.
pub(super) struct EveryError;

impl Modify for EveryError {
    fn modify(&self, openapi: &mut OpenApi) {
        for (path, item) in &mut openapi.paths.paths {
            for operation in operations_of(item) {
                for status in expected(path, operation) {
                    tell(operation, status);
                }
            }
        }
        let components = openapi.components.as_mut();
        let problem = components.and_then(|c| c.schemas.get_mut("ProblemDocument"));
        if let Some(RefOr::T(Schema::Object(problem))) = problem
            && let Some(RefOr::T(Schema::Object(code))) = problem.properties.get_mut("code")
        {
            let list = PROBLEM_CODES
                .iter()
                .map(|(status, code, meaning)| format!("\n- `{code}` ({status}): {meaning}"));
            let all: String = list.collect();
            let told = format!("A word for programs; stable. More may come. By now:{all}");
            code.description = Some(told);
        }
    }
}

/// What any operation of this form may be answered with.
fn expected(path: &str, operation: &Operation) -> Vec<u16> {
    if !path.starts_with("/v1/") {
        return Vec::new();
    }
    let has = |place: &ParameterIn| {
        let parameters = operation.parameters.iter().flatten();
        let mut places = parameters.filter_map(|parameter| match parameter {
            RefOr::T(parameter) => Some(&parameter.parameter_in),
            RefOr::Ref(_) => None,
        });
        places.any(|other| other == place)
    };
    let mut statuses = vec![401, 403, 503];
    if has(&ParameterIn::Path) {
        statuses.push(404);
    }
    if operation.request_body.is_some() {
        statuses.extend([400, 413, 415, 422]);
    } else if has(&ParameterIn::Query) {
        statuses.push(400);
    }
    statuses
}

fn tell(operation: &mut Operation, status: u16) {
    let mut codes = PROBLEM_CODES
        .iter()
        .filter(|(other, _, _)| *other == status);
    let first = codes.next().map_or("", |(_, _, meaning)| meaning);
    let content = Content::new(Some(Ref::from_schema_name("ProblemDocument")));
    let problem = ResponseBuilder::new()
        .description(capitalised(first))
        .content("application/problem+json", content)
        .build();
    let responses = &mut operation.responses.responses;
    responses
        .entry(status.to_string())
        .or_insert_with(|| problem.into());
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_tells_its_usual_errors_and_keeps_its_own_words() {
        let document = serde_json::to_value(super::super::openapi()).unwrap();
        let of = |path: &str, method: &str| {
            let responses = document["paths"][path][method]["responses"].clone();
            let statuses: Vec<String> = responses.as_object().unwrap().keys().cloned().collect();
            (responses, statuses.join(" "))
        };
        let (dial, statuses) = of("/v1/meetings/{id}/dial", "post");
        assert_eq!(
            statuses,
            "202 400 401 403 404 409 413 415 422 429 503 default"
        );
        let own = dial["403"]["description"].as_str().unwrap();
        assert!(own.contains("scope `dial`"), "{own}");
        assert_eq!(of("/v1/calls", "get").1, "200 400 401 403 503 default");
        assert_eq!(of("/healthz", "get").1, "200 default");
    }

    #[test]
    fn no_code_is_told_twice() {
        let codes: std::collections::BTreeSet<(u16, &str)> = PROBLEM_CODES
            .iter()
            .map(|(status, code, _)| (*status, *code))
            .collect();
        assert_eq!(codes.len(), PROBLEM_CODES.len());
    }
}
