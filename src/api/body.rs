//! Bodies: JSON objects, read field by field so that everything wrong with them is told at once and a
//! misspelt field is never silently ignored.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::problem::Problem;
use crate::booking::change::{Change, FieldError, MeetingChange, RecurrenceRequest};
use crate::booking::room::RoomRequest;

/// A JSON object from a request, with what was wrong so far.
#[derive(Debug)]
pub(super) struct Fields {
    map: Map<String, Value>,
    errors: Vec<FieldError>,
    hash: String,
}

impl Fields {
    /// SHA-256 of the body as it came.
    pub(super) fn hash(&self) -> String {
        self.hash.clone()
    }

    pub(super) fn text(&mut self, name: &str) -> Change<String> {
        self.take(name, "must be a string", |value| {
            value.as_str().map(str::to_owned)
        })
    }

    pub(super) fn number(&mut self, name: &str) -> Change<i64> {
        self.take(name, "must be a whole number", Value::as_i64)
    }

    pub(super) fn flag(&mut self, name: &str) -> Change<bool> {
        self.take(name, "must be true or false", Value::as_bool)
    }

    pub(super) fn texts(&mut self, name: &str) -> Change<Vec<String>> {
        self.take(name, "must be a list of strings", |value| {
            let texts = value.as_array()?.iter();
            texts.map(|text| text.as_str().map(str::to_owned)).collect()
        })
    }

    pub(super) fn any(&mut self, name: &str) -> Change<Value> {
        self.take(name, "", |value| Some(value.clone()))
    }

    /// An object of a rule and lists of times.
    fn recurrence(&mut self) -> Change<RecurrenceRequest> {
        let must = "must be an object of rule, excluded and added: a text and two lists of texts";
        self.take("recurrence", must, |value| {
            let object = value.as_object()?;
            let known = |name: &String| ["rule", "excluded", "added"].contains(&name.as_str());
            let texts = |name: &str| match object.get(name) {
                None | Some(Value::Null) => Some(Vec::new()),
                Some(value) => {
                    let texts = value.as_array()?.iter();
                    texts.map(|text| text.as_str().map(str::to_owned)).collect()
                }
            };
            let request = RecurrenceRequest {
                rule: object.get("rule")?.as_str()?.to_owned(),
                excluded: texts("excluded")?,
                added: texts("added")?,
            };
            object.keys().all(known).then_some(request)
        })
    }

    /// An object of a room's id, or of how many it is to hold.
    fn room(&mut self) -> Change<RoomRequest> {
        let must = "must be an object of id, a UUID, or of min_capacity, a whole number";
        self.take("room", must, |value| {
            let object = value.as_object().filter(|object| object.len() == 1)?;
            match (object.get("id"), object.get("min_capacity")) {
                (Some(id), _) => Some(RoomRequest::This(id.as_str()?.parse().ok()?)),
                (None, Some(least)) => {
                    let least = u32::try_from(least.as_i64()?.max(0)).ok();
                    Some(RoomRequest::AtLeast(least.unwrap_or(u32::MAX)))
                }
                (None, None) => None,
            }
        })
    }

    /// Refuses options that aren't enforced yet, unless they ask for nothing.
    pub(super) fn not_supported(&mut self, names: &[&str]) {
        for name in names {
            if let Some(value) = self.map.remove(*name)
                && !matches!(value, Value::Null | Value::Bool(false))
            {
                self.errors.push(FieldError::new(
                    name,
                    "not_supported",
                    "is not supported yet",
                ));
            }
        }
    }

    /// As [`Self::finish`], where what is left is none of our business.
    pub(super) fn finish_with_others(self) -> Result<(), Problem> {
        if self.errors.is_empty() {
            Ok(())
        } else {
            Err(Problem::invalid(self.errors))
        }
    }

    /// To be called when every field was taken: what is left isn't known.
    pub(super) fn finish(mut self) -> Result<(), Problem> {
        for name in self.map.keys() {
            let shown: String = name
                .chars()
                .filter(|c| !c.is_control())
                .take(FIELD_NAME_CHARS_MAX)
                .collect();
            self.errors.push(FieldError::new(
                &shown,
                "unknown_field",
                "is not known here; check its spelling",
            ));
        }
        self.finish_with_others()
    }

    /// A PIN, as text or as a number.
    pub(super) fn written_pin(&mut self, name: &str) -> Change<String> {
        self.take(name, "must be a PIN, as text or as a number", |value| {
            let text = value.as_str().map(str::to_owned);
            text.or_else(|| value.as_u64().map(|number| number.to_string()))
        })
    }

    fn take<T>(&mut self, name: &str, must: &str, read: impl Fn(&Value) -> Option<T>) -> Change<T> {
        match self.map.remove(name) {
            None => Change::Keep,
            Some(Value::Null) => Change::Clear,
            Some(value) => read(&value).map_or_else(
                || {
                    self.errors.push(FieldError::new(name, "invalid", must));
                    Change::Keep
                },
                Change::Set,
            ),
        }
    }
}

impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let content_type = request
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        if !content_type.is_some_and(is_json) {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "Content-Type must be application/json",
            ));
        }
        let body = axum::body::to_bytes(request.into_body(), BODY_BYTES_MAX)
            .await
            .map_err(|error| unread(&error))?;
        parse(&body)
    }
}

/// Reads a meeting as it is asked for, and the organisation it is asked for.
pub(super) fn meeting(mut fields: Fields) -> Result<(MeetingChange, Option<String>), Problem> {
    fields.not_supported(&MEETING_FIELDS_LATER);
    let organisation = fields.text("organisation");
    let change = MeetingChange {
        title: fields.text("title"),
        starts_at: fields.text("starts_at"),
        ends_at: fields.text("ends_at"),
        timezone: fields.text("timezone"),
        recurrence: fields.recurrence(),
        room: fields.room(),
        capacity: fields.number("capacity"),
        language: fields.text("language"),
        external_id: fields.text("external_id"),
        metadata: fields.any("metadata"),
        wait_for_host: fields.flag("wait_for_host"),
        mute_on_join: fields.flag("mute_on_join"),
        guests_may_unmute: fields.flag("guests_may_unmute"),
        early_join_minutes: fields.number("early_join_minutes"),
        overrun_minutes: fields.number("overrun_minutes"),
        automatic_gain: fields.flag("automatic_gain"),
        noise_suppression: fields.flag("noise_suppression"),
        pins_per: fields.text("pins_per"),
    };
    fields.finish()?;
    Ok((change, given(organisation)))
}

/// What was given, if anything was.
pub(super) fn given<T>(change: Change<T>) -> Option<T> {
    match change {
        Change::Set(value) => Some(value),
        Change::Keep | Change::Clear => None,
    }
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

pub(super) fn unread(error: &axum::Error) -> Problem {
    let too_large =
        std::error::Error::source(error).is_some_and(|source| source.to_string().contains("limit"));
    if too_large {
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            format!("a body has at most {BODY_BYTES_MAX} bytes"),
        )
    } else {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "bad_request",
            "the body can't be read",
        )
    }
}

/// serde_json's messages name places, and of the body's content nothing.
fn parse(body: &Bytes) -> Result<Fields, Problem> {
    let malformed = |place: String| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "malformed_json",
            format!("the body is not JSON: {place}"),
        )
    };
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| malformed(format!("line {} column {}", error.line(), error.column())))?;
    match value {
        Value::Object(map) => {
            let hash = Sha256::digest(body)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            Ok(Fields {
                map,
                errors: Vec::new(),
                hash,
            })
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(Problem::invalid(vec![FieldError::new(
                "",
                "invalid",
                "the body must be a JSON object",
            )]))
        }
    }
}

/// Most bytes of a body.
pub(super) const BODY_BYTES_MAX: usize = 64 * 1_024;
const FIELD_NAME_CHARS_MAX: usize = 64;
/// Named by the API, not enforced yet: refused, never stored silently.
const MEETING_FIELDS_LATER: [&str; 2] = ["lobby", "recording"];
