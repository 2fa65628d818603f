//! What the OpenAPI document says of all operations alike: which form parameters have that mean the same
//! everywhere, and how what one operation answers names the thing that others act upon.

use std::collections::{BTreeMap, BTreeSet};

use utoipa::Modify;
use utoipa::openapi::link::Link;
use utoipa::openapi::path::{Operation, Parameter, ParameterIn, PathItem};
use utoipa::openapi::request_body::RequestBody;
use utoipa::openapi::schema::{
    AdditionalProperties, Object, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type,
};
use utoipa::openapi::{OpenApi, RefOr, Response};

use super::query::{LIMIT_DEFAULT, LIMIT_MAX};

/// Gives parameters the form that their names stand for.
pub(super) struct CommonParameters;

impl Modify for CommonParameters {
    fn modify(&self, openapi: &mut OpenApi) {
        let items = openapi.paths.paths.values_mut();
        let parameters = items
            .flat_map(operations_of)
            .filter_map(|operation| operation.parameters.as_mut())
            .flatten();
        for parameter in parameters {
            let RefOr::T(parameter) = parameter else {
                continue;
            };
            if let Some(form) = form_of(parameter) {
                parameter.schema = Some(RefOr::T(Schema::Object(form)));
            }
        }
    }
}

/// Says that requests hold nothing that isn't named: a misspelt field is refused.
pub(super) struct ClosedRequests;

impl Modify for ClosedRequests {
    fn modify(&self, openapi: &mut OpenApi) {
        let items = openapi.paths.paths.iter_mut();
        // What others ask in words of their own may hold more.
        let items = items.filter(|(path, _)| path.starts_with("/v1/"));
        let bodies = items
            .map(|(_, item)| item)
            .flat_map(operations_of)
            .filter_map(|operation| operation.request_body.as_ref());
        let names: BTreeSet<String> = bodies.flat_map(schemas_of).collect();
        let Some(components) = &mut openapi.components else {
            return;
        };
        for (name, schema) in &mut components.schemas {
            if let RefOr::T(Schema::Object(object)) = schema
                && names.contains(name)
            {
                object.additional_properties =
                    Some(Box::new(AdditionalProperties::FreeForm(false)));
            }
        }
    }
}

/// The names of the schemas that a body is of.
fn schemas_of(body: &RefOr<RequestBody>) -> Vec<String> {
    let RefOr::T(body) = body else {
        return Vec::new();
    };
    let contents = body.content.values().filter_map(|content| match content {
        RefOr::T(content) => content.schema.as_ref(),
        RefOr::Ref(_) => None,
    });
    let name = |schema: &RefOr<Schema>| match schema {
        RefOr::Ref(reference) => reference.ref_location.rsplit('/').next().map(str::to_owned),
        RefOr::T(_) => None,
    };
    contents.filter_map(name).collect()
}

/// Links each answer that tells of one thing, or of a page of them, to what can be done with it.
pub(super) struct Links;

impl Modify for Links {
    fn modify(&self, openapi: &mut OpenApi) {
        let known: BTreeMap<String, Vec<String>> = openapi
            .paths
            .paths
            .iter_mut()
            .map(|(path, item)| (path.clone(), names_of(item)))
            .collect();
        for (path, item) in &mut openapi.paths.paths {
            let targets: Vec<Target> = targets(path, &known).collect();
            let (made, listed) = ("$response.body#", "$response.body#/items/0");
            for (operation, status, body) in [
                (&mut item.post, "201", made),
                (&mut item.get, "200", listed),
            ] {
                let responses = operation.as_mut().map(|it| &mut it.responses.responses);
                if let Some(RefOr::T(response)) = responses.and_then(|it| it.get_mut(status)) {
                    link(response, path, body, &targets);
                }
            }
        }
    }
}

/// Something that can be done with one of the things of a collection.
struct Target<'a> {
    /// The operation's name.
    name: &'a str,
    /// The parameter that names the thing.
    parameter: &'a str,
}

/// The operations under `collection/{parameter}` that need no other parameter.
fn targets<'a>(
    collection: &'a str,
    known: &'a BTreeMap<String, Vec<String>>,
) -> impl Iterator<Item = Target<'a>> {
    known.iter().flat_map(move |(path, names)| {
        let rest = path.strip_prefix(collection).unwrap_or_default();
        let parameter = rest
            .strip_prefix("/{")
            .and_then(|rest| rest.split_once('}'))
            .filter(|(_, rest)| !rest.contains('{'))
            .map(|(parameter, _)| parameter);
        let target = move |name| {
            let parameter = parameter?;
            Some(Target { name, parameter })
        };
        names.iter().map(String::as_str).filter_map(target)
    })
}

fn link(response: &mut Response, path: &str, body: &str, targets: &[Target]) {
    for target in targets {
        // What names an occurrence is its recurrence id; everything else is named by its id.
        let field = match target.parameter {
            named @ "recurrence_id" => named,
            _ => "id",
        };
        let outer = path.split('{').skip(1).filter_map(|part| {
            let (name, _) = part.split_once('}')?;
            Some((name, format!("$request.path.{name}")))
        });
        let link = Link::builder()
            .operation_id(target.name)
            .parameter(target.parameter, format!("{body}/{field}"));
        let link = outer.fold(link, |link, (name, value)| link.parameter(name, value));
        let link = RefOr::T(link.build());
        response.links.insert(target.name.to_owned(), link);
    }
}

/// `None` for a parameter that has a form of its own, or none.
fn form_of(parameter: &Parameter) -> Option<Object> {
    let is_plain =
        !matches!(&parameter.schema, Some(RefOr::T(Schema::Object(own))) if own.format.is_some());
    let text = || ObjectBuilder::new().schema_type(SchemaType::Type(Type::String));
    let formed = |format: &str| text().format(Some(SchemaFormat::Custom(format.to_owned())));
    let form = match (&parameter.parameter_in, parameter.name.as_str()) {
        (ParameterIn::Path, "id" | "participant_id" | "pin_id")
        | (ParameterIn::Query, "meeting_id") => formed("uuid"),
        (ParameterIn::Path, "hash") | (ParameterIn::Query, "caller_hash") => {
            text().pattern(Some("^[0-9a-f]{32}$"))
        }
        (ParameterIn::Path, "recurrence_id") => text().pattern(Some("^[0-9]{8}(T[0-9]{6}Z?)?$")),
        (ParameterIn::Query, "from" | "to") => formed("date-time"),
        (ParameterIn::Query, "cursor") if is_plain => text().pattern(Some(CURSOR)),
        (ParameterIn::Query, "language") => text().enum_values(Some(["it", "en"])),
        (ParameterIn::Query, "format") => text().enum_values(Some(INVITATION_FORMATS)),
        (ParameterIn::Query, "country") => text().pattern(Some("^[A-Za-z]{2}$")),
        (ParameterIn::Query, "timezone") => text().pattern(Some(ZONE)),
        (ParameterIn::Query, "limit") => ObjectBuilder::new()
            .schema_type(SchemaType::Type(Type::Integer))
            .minimum(Some(1))
            .maximum(Some(LIMIT_MAX))
            .default(Some(LIMIT_DEFAULT.into())),
        (ParameterIn::Header, "If-Match") => text().pattern(Some(ETAG)),
        _ => return None,
    };
    Some(form.build())
}

/// What is done under a path.
pub(super) fn operations_of(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [
        &mut item.get,
        &mut item.put,
        &mut item.post,
        &mut item.delete,
        &mut item.patch,
    ]
    .into_iter()
    .flatten()
}

fn names_of(item: &mut PathItem) -> Vec<String> {
    operations_of(item)
        .filter_map(|operation| operation.operation_id.clone())
        .collect()
}

/// One entity tag, or any (RFC 9110 section 13.1.1); what is no tag of ours matches nothing.
const ETAG: &str = "^[^,]+$";
const INVITATION_FORMATS: [&str; 4] = ["text", "html", "ics", "bbb-welcome"];
/// As names of time zones look; which there are changes now and then.
const ZONE: &str = "^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$";
/// As [`super::query::cursor`] makes them.
const CURSOR: &str = "^[0-9]{1,16}[.][0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$";

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    fn operation(path: &str, method: &str) -> Value {
        let document = serde_json::to_value(super::super::openapi()).unwrap();
        document["paths"][path][method].clone()
    }

    #[test]
    fn what_was_made_leads_to_what_can_be_done_with_it() {
        let made = operation("/v1/meetings", "post");
        let links = &made["responses"]["201"]["links"];
        assert_eq!(
            links["cancelMeeting"],
            json!({"operationId": "cancelMeeting", "parameters": {"id": "$response.body#/id"}})
        );
        assert!(links["createPin"].is_object() && links["deletePin"].is_null());
        let told = operation("/v1/callers", "post");
        assert!(
            told["responses"]["200"]["links"].is_null(),
            "who has a hash needn't ever have called"
        );
        let made = operation("/v1/meetings/{id}/pins", "post");
        assert_eq!(
            made["responses"]["201"]["links"]["deletePin"]["parameters"],
            json!({"id": "$request.path.id", "pin_id": "$response.body#/id"})
        );
        let listed = operation("/v1/meetings/{id}/occurrences", "get");
        assert_eq!(
            listed["responses"]["200"]["links"]["changeOccurrence"]["parameters"],
            json!({"id": "$request.path.id", "recurrence_id": "$response.body#/items/0/recurrence_id"})
        );
    }

    #[test]
    fn requests_hold_nothing_else() {
        let document = serde_json::to_value(super::super::openapi()).unwrap();
        let schemas = &document["components"]["schemas"];
        assert_eq!(schemas["MeetingRequest"]["additionalProperties"], false);
        assert!(schemas["Meeting"]["additionalProperties"].is_null());
    }

    #[test]
    fn parameters_say_which_form_they_have() {
        let named = |path: &str, name: &str| {
            let operation = operation(path, "get");
            let all = operation["parameters"].as_array().unwrap();
            let found = all.iter().find(|parameter| parameter["name"] == name);
            found.unwrap()["schema"].clone()
        };
        assert_eq!(
            named("/v1/meetings", "limit"),
            json!({"type": "integer", "minimum": 1, "maximum": 1_000, "default": 100})
        );
        assert_eq!(named("/v1/meetings", "from")["format"], "date-time");
        let invitation = |name| named("/v1/meetings/{id}/invitation", name);
        assert_eq!(
            invitation("format")["enum"],
            json!(["text", "html", "ics", "bbb-welcome"])
        );
        assert_eq!(invitation("country")["pattern"], "^[A-Za-z]{2}$");
        assert_eq!(named("/v1/statistics", "timezone")["pattern"], super::ZONE);
    }
}
