//! `/v1/calls`: call records as JSON, or as CSV (RFC 4180) for spreadsheets.

use axum::Json;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE, LINK};
use axum::http::{HeaderMap, HeaderValue, Uri};
use axum::response::{IntoResponse, Response};

use super::AppState;
use super::auth::Asker;
use super::meetings::scope;
use super::problem::Problem;
use super::query::{Parameters, cursor};
use super::view::{CallView, Page};
use crate::booking::service::CallQuestion;
use crate::booking::{MeetingId, Outcome, Permission};

/// Lists calls, latest first, also those that never got in.
#[utoipa::path(
    get, operation_id = "listCalls", path = "/v1/calls", tag = "calls", security(("key" = [])),
    params(
        ("from" = Option<String>, Query, description = "Arrived then or later; RFC 3339"),
        ("to" = Option<String>, Query, description = "Arrived before then; RFC 3339"),
        ("outcome" = Option<Outcome>, Query, description = "That ended so"),
        ("meeting_id" = Option<String>, Query, description = "That reached this meeting"),
        ("caller_hash" = Option<String>, Query, description = "Of this caller, by the hash of his number"),
        ("organisation" = Option<String>, Query, description = "For keys of role platform; left out: all, with those that reached no meeting"),
        ("cursor" = Option<String>, Query, description = "The `next` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 1,000; default 100"),
    ),
    responses((status = 200, description = "A page; CSV with `Accept: text/csv`, its next page in `Link`",
        content((Page<CallView> = "application/json"), (String = "text/csv"))))
)]
pub(super) async fn list(
    State(state): State<AppState>,
    asker: Asker,
    uri: Uri,
    headers: HeaderMap,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    asker.must(Permission::Read)?;
    let organisation = scope(&state, &asker, &mut parameters).await?;
    let question = CallQuestion {
        organisation: organisation.map(|organisation| organisation.id),
        from: parameters.time("from")?,
        to: parameters.time("to")?,
        outcome: parameters.word("outcome", "the outcomes of call records")?,
        meeting: parameters.uuid("meeting_id")?.map(MeetingId),
        caller: parameters.caller_hash()?,
        after: parameters.cursor()?,
        limit: parameters.limit()?,
    };
    parameters.finish()?;
    let (calls, more) = state.bookings.list_calls(question).await?;
    let last = calls
        .last()
        .map(|stored| cursor(stored.call.started_at, stored.call.id.0));
    let next = last.filter(|_| more);
    let mut items: Vec<CallView> = Vec::with_capacity(calls.len());
    for stored in calls {
        let owner = stored.call.organisation;
        let policy = state.bookings.privacy_of(state.now(), owner).await;
        items.push(CallView::new(policy, stored));
    }
    if wants_csv(&headers) {
        Ok(csv_answer(&items, &uri, next.as_deref()))
    } else {
        Ok(Json(Page { items, next }).into_response())
    }
}

pub(super) fn wants_csv(headers: &HeaderMap) -> bool {
    let accept = headers
        .get(ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    accept.split(',').any(|range| {
        range
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .eq_ignore_ascii_case("text/csv")
    })
}

fn csv_answer(calls: &[CallView], uri: &Uri, next: Option<&str>) -> Response {
    let mut response = csv(calls).into_response();
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/csv; charset=utf-8; header=present"),
    );
    let query = uri.query().unwrap_or_default();
    let kept: String = query
        .split('&')
        .filter(|p| !p.is_empty() && !p.starts_with("cursor="))
        .flat_map(|p| [p, "&"])
        .collect();
    let link = next.map(|next| format!("<{}?{kept}cursor={next}>; rel=\"next\"", uri.path()));
    if let Some(link) = link.and_then(|link| HeaderValue::from_str(&link).ok()) {
        response.headers_mut().insert(LINK, link);
    }
    response
}

fn csv(calls: &[CallView]) -> String {
    let mut text = format!("{}\r\n", CSV_COLUMNS.join(","));
    for call in calls {
        let value = serde_json::to_value(call).unwrap_or_default();
        let cells: Vec<String> = CSV_COLUMNS
            .iter()
            .map(|column| cell(value.get(column)))
            .collect();
        text.push_str(&cells.join(","));
        text.push_str("\r\n");
    }
    text
}

/// One cell. What a caller or a trunk could have written must not run as a formula in a spreadsheet.
pub(super) fn cell(value: Option<&serde_json::Value>) -> String {
    let text = match value {
        None | Some(serde_json::Value::Null) => String::new(),
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let number = text
        .strip_prefix('+')
        .is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
    let formula = !number && text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let safe = if formula { format!("'{text}") } else { text };
    if safe.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", safe.replace('"', "\"\""))
    } else {
        safe
    }
}

const CSV_COLUMNS: [&str; 23] = [
    "id",
    "kind",
    "organisation",
    "number",
    "caller",
    "started_at",
    "answered_at",
    "ended_at",
    "meeting_id",
    "occurrence",
    "participant_id",
    "outcome",
    "pin_attempts",
    "hangup_by",
    "q850",
    "node",
    "trunk",
    "sip_call_id",
    "asterisk_channel",
    "quality",
    "direction",
    "caller_hash",
    "verstat",
];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cells_are_quoted_and_never_formulas() {
        let of = |value: serde_json::Value| cell(Some(&value));
        assert_eq!(of(json!("a,b\"c")), "\"a,b\"\"c\"");
        assert_eq!(of(json!("=HYPERLINK(1)")), "'=HYPERLINK(1)");
        assert_eq!(of(json!("+cmd|1")), "'+cmd|1");
        assert_eq!(of(json!("+390612345678")), "+390612345678");
        assert_eq!(
            (of(json!(null)), of(json!(16)), cell(None)),
            (String::new(), "16".to_owned(), String::new())
        );
    }
}
