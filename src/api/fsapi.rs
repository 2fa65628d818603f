//! `POST /fsapi`: a FreeSWITCH in front asks what to do with a call, as `mod_xml_curl` asks a Scalelite. Off
//! until `[fsapi]` is configured.
//!
//! It asks twice: with the dialled number, and is told to ask the caller for his PIN; then with what was keyed
//! in, and is told to bridge the call to this node, which gets the PIN in a header. What a valid PIN is worth at
//! the moment is said here, to the caller; there only a wrong one is asked for again, `pin.attempts` times in all.
//! A wrong one uses up the failure budget as in a call.

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq as _;
use utoipa::ToSchema;
use uuid::Uuid;

use super::AppState;
use super::body::unread;
use super::problem::{Problem, no_such_path};
use crate::booking::admission::{CallId, PinQuery, PinVerdict, Refusal, Standing};
use crate::booking::{CallerNumber, MeetingId, NumberPlan, Pin};
use crate::config::FsapiConfig;

/// What is looked at of what `mod_xml_curl` sends; it sends much more.
#[derive(ToSchema)]
#[allow(dead_code, reason = "tells the OpenAPI document what `answer` reads")]
pub(super) struct DialplanQuestion {
    /// `dialplan`; anything else is answered with "not found".
    section: String,
    /// What was dialled; after the PIN was asked for, the PIN.
    #[schema(rename = "Caller-Destination-Number")]
    caller_destination_number: String,
    /// What the caller keyed in.
    variable_pin: Option<String>,
    /// Who calls: his wrong PINs are counted together.
    #[schema(rename = "Caller-Caller-ID-Number")]
    caller_caller_id_number: Option<String>,
    /// What he is called.
    #[schema(rename = "Caller-Caller-ID-Name")]
    caller_caller_id_name: Option<String>,
}

/// Tells a FreeSWITCH what to do with a call, as a dialplan.
#[utoipa::path(
    post, operation_id = "askDialplan", path = "/fsapi", tag = "fsapi", security(("fsapi" = [])),
    request_body(content = DialplanQuestion, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, description = "A dialplan, or that there is none", content_type = "text/xml", body = String))
)]
pub(super) async fn answer(
    State(state): State<AppState>,
    request: Request,
) -> Result<Response, Problem> {
    let Some(config) = &state.bookings.settings().fsapi else {
        return Err(no_such_path().await);
    };
    if !is_authorized(request.headers(), config) {
        return Ok(unauthorized());
    }
    let form = Form::read(request.into_body()).await?;
    let document = match form.question() {
        Some(question) => told(&state, config, &form, &question).await,
        None => not_found(),
    };
    let mut response = Body::from(document).into_response();
    let xml = HeaderValue::from_static("text/xml; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, xml);
    Ok(response)
}

/// What was sent.
struct Form(Vec<(String, String)>);

/// What is asked.
struct Question<'a> {
    /// What the dialplan must match.
    destination: &'a str,
    /// What the caller dialled, as far as it is known.
    number: Option<String>,
    /// What he keyed in.
    keyed: Option<&'a str>,
}

impl Form {
    async fn read(body: Body) -> Result<Self, Problem> {
        let body = to_bytes(body, FORM_BYTES_MAX).await;
        let body = body.map_err(|error| unread(&error))?;
        let pairs = url::form_urlencoded::parse(&body);
        Ok(Self(pairs.into_owned().collect()))
    }

    /// What is there, and not empty.
    fn text(&self, name: &str) -> Option<&str> {
        let mut named = self.0.iter().filter(|(other, _)| other == name);
        named.find_map(|(_, text)| (!text.is_empty()).then_some(text.as_str()))
    }

    fn question(&self) -> Option<Question<'_>> {
        let dialplan = self.text("section") == Some("dialplan");
        let destination = self
            .text("Caller-Destination-Number")
            .filter(|_| dialplan)?;
        let harmless = |text: &&str| {
            let fits = |b: u8| b.is_ascii_alphanumeric() || b"+-._".contains(&b);
            text.len() <= NUMBER_BYTES_MAX && text.bytes().all(fits)
        };
        let keyed = self.text("variable_pin");
        // After the PIN the destination is that; what was dialled is remembered by our own first answer.
        let dialled = match keyed {
            None => Some(destination),
            Some(_) => [DIALLED, "variable_sip_req_user", "variable_sip_to_user"]
                .into_iter()
                .find_map(|name| self.text(name)),
        };
        Some(Question {
            destination: Some(destination).filter(harmless)?,
            number: match dialled {
                Some(dialled) => Some(Some(dialled).filter(harmless)?.to_owned()),
                None => None,
            },
            keyed,
        })
    }

    /// What the others see of who calls, as far as he lets them: without the last four digits of a number.
    fn caller_name(&self) -> String {
        let hides = |name: &str| self.text(name) == Some("true");
        let name = self.text("Caller-Caller-ID-Name").unwrap_or_default();
        let is_number = name.chars().all(|c| c.is_ascii_digit() || c == '+');
        let hidden = if is_number {
            hides("Caller-Privacy-Hide-Number")
        } else {
            hides("Caller-Privacy-Hide-Name")
        };
        // A dialplan expands what stands behind a '$'.
        let plain = |c: &char| c.is_alphanumeric() || " +-.@()".contains(*c);
        let name: String = name.chars().filter(plain).take(NAME_CHARS_MAX).collect();
        if hidden || name.trim().is_empty() {
            return "Unavailable".to_owned();
        }
        if is_number {
            let kept = name.len().saturating_sub(4);
            return name
                .chars()
                .take(kept)
                .chain("XXXX".chars().take(name.len()))
                .collect();
        }
        name
    }
}

async fn told(
    state: &AppState,
    config: &FsapiConfig,
    form: &Form,
    question: &Question<'_>,
) -> String {
    let plan = state.bookings.numbers();
    let number = question.number.as_deref();
    if number.is_some_and(|number| !plan.is_empty() && plan.find(number).is_none()) {
        return not_found();
    }
    let Some(keyed) = question.keyed else {
        return match number {
            Some(number) => prompt(state, question, number).await,
            None => not_found(),
        };
    };
    let Ok(pin) = Pin::parse(keyed) else {
        return wrong(state, form, question).await;
    };
    let query = PinQuery {
        call: CallId(Uuid::now_v7()),
        pin: pin.clone(),
        number: number.map(str::to_owned),
        caller: CallerNumber::new(form.text("Caller-Caller-ID-Number").unwrap_or_default()),
        standing: Standing::Unknown,
    };
    let bridge = |pin: Option<&Pin>, meeting| {
        let to = number.map_or_else(|| any_number(&plan), str::to_owned);
        bridged(config, question, &form.caller_name(), &to, pin, meeting)
    };
    match state
        .bookings
        .resolve_pin_beforehand(state.now(), query)
        .await
    {
        PinVerdict::Refused(Refusal::Wrong) => wrong(state, form, question).await,
        // Nothing was looked at: the caller is asked there, and told what is to be told.
        PinVerdict::Refused(Refusal::Unavailable | Refusal::Unproven(_)) => bridge(None, None),
        PinVerdict::Refused(
            Refusal::TooEarly { .. } | Refusal::Ended | Refusal::Cancelled | Refusal::NoLine(_),
        ) => bridge(Some(&pin), None),
        PinVerdict::Admitted(admission) => bridge(Some(&pin), Some(admission.meeting)),
    }
}

async fn prompt(state: &AppState, question: &Question<'_>, number: &str) -> String {
    let mut actions = vec![
        (
            "set",
            format!("{}={number}", DIALLED.trim_start_matches("variable_")),
        ),
        ("answer", String::new()),
        ("sleep", "500".to_owned()),
        ("playback", "ivr/ivr-welcome.wav".to_owned()),
        ("sleep", "200".to_owned()),
    ];
    actions.extend(asked(state));
    dialplan(
        "Match DID and Pin for Conference",
        "match_did_and_prompt_for_pin",
        question,
        &actions,
    )
}

/// Asked again, or told goodbye after as many wrong PINs as a call may have.
async fn wrong(state: &AppState, form: &Form, question: &Question<'_>) -> String {
    let before = form.text(WRONG_PINS).and_then(|count| count.parse().ok());
    let count = before.unwrap_or(0_u32).saturating_add(1);
    if count >= state.bookings.pin_attempts() {
        return goodbye(question);
    }
    let mut actions = vec![
        (
            "set",
            format!("{}={count}", WRONG_PINS.trim_start_matches("variable_")),
        ),
        ("playback", "conference/conf-bad-pin.wav".to_owned()),
        ("sleep", "500".to_owned()),
    ];
    actions.extend(asked(state));
    dialplan(
        "Reprompt Pin for Conference",
        "reprompt_for_pin",
        question,
        &actions,
    )
}

fn goodbye(question: &Question<'_>) -> String {
    let actions = [
        ("playback", "conference/conf-bad-pin.wav".to_owned()),
        ("playback", "conference/conf-goodbye.wav".to_owned()),
        ("hangup", String::new()),
    ];
    dialplan("Too Many Wrong Pins", "goodbye", question, &actions)
}

/// Three tries of seven seconds, and on with what was keyed in.
fn asked(state: &AppState) -> [(&'static str, String); 2] {
    // Without the store: as long as a PIN can be.
    let lengths = state.bookings.pin_lengths();
    let shortest = lengths
        .first()
        .copied()
        .unwrap_or(crate::booking::privacy::PIN_DIGITS_MIN);
    let longest = lengths
        .last()
        .copied()
        .unwrap_or(crate::booking::privacy::PIN_DIGITS_MAX);
    let ask = format!(
        "{shortest} {longest} 3 7000 # conference/conf-enter_conf_pin.wav conference/conf-bad-pin.wav pin \\d+"
    );
    [
        ("play_and_get_digits", ask),
        ("transfer", "${pin} XML public".to_owned()),
    ]
}

fn bridged(
    config: &FsapiConfig,
    question: &Question<'_>,
    caller_name: &str,
    number: &str,
    pin: Option<&Pin>,
    meeting: Option<MeetingId>,
) -> String {
    let mut actions = Vec::new();
    if let Some(meeting) = meeting {
        actions.push(("set", format!("meeting_id={meeting}")));
    }
    actions.push(("set", format!("effective_caller_id_name={caller_name}")));
    if let Some(pin) = pin {
        // For the leg to this node alone.
        actions.push((
            "export",
            format!("nolocal:sip_h_X-Conf-PIN={}", pin.expose()),
        ));
    }
    actions.push((
        "bridge",
        format!("sofia/external/{number}@{}", config.bridge_to),
    ));
    dialplan(
        "Bridge Call to Conference",
        "bridge_to_voicebridge",
        question,
        &actions,
    )
}

/// Where what was dialled isn't known: a number of everybody's, else any, else whatever: it is answered.
fn any_number(plan: &NumberPlan) -> String {
    let shared = plan.serving("").next().or_else(|| plan.first());
    shared.map_or_else(|| "voicebridge".to_owned(), |shared| shared.number.clone())
}

fn dialplan(
    description: &str,
    extension: &str,
    question: &Question<'_>,
    actions: &[(&str, String)],
) -> String {
    let actions: String = actions
        .iter()
        .map(|(application, data)| match data.as_str() {
            "" => format!("<action application=\"{application}\"/>"),
            data => format!(
                "<action application=\"{application}\" data=\"{}\"/>",
                escaped(data)
            ),
        })
        .collect();
    let expression = format!("^{}$", expression_of(question.destination));
    format!(
        "{HEAD}<section name=\"dialplan\" description=\"{description}\"><context name=\"public\"><extension name=\"{extension}\">\
         <condition field=\"destination_number\" expression=\"{}\">{actions}</condition></extension></context></section></document>\n",
        escaped(&expression)
    )
}

fn not_found() -> String {
    format!("{HEAD}<section name=\"result\"><result status=\"not found\"/></section></document>\n")
}

/// A regular expression that matches this alone.
fn expression_of(number: &str) -> String {
    let mut expression = String::with_capacity(number.len() * 2);
    for c in number.chars() {
        if !c.is_ascii_alphanumeric() {
            expression.push('\\');
        }
        expression.push(c);
    }
    expression
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// `Authorization: Basic …` of the user `fsapi` (RFC 7617).
fn is_authorized(headers: &HeaderMap, config: &FsapiConfig) -> bool {
    let given = || {
        let header = headers.get(AUTHORIZATION)?.to_str().ok()?;
        let (scheme, credentials) = header.split_once(' ')?;
        let basic = scheme.eq_ignore_ascii_case("basic");
        STANDARD.decode(credentials.trim()).ok().filter(|_| basic)
    };
    let expected = format!("fsapi:{}", config.password.expose());
    given().is_some_and(|given| given.ct_eq(expected.as_bytes()).into())
}

fn unauthorized() -> Response {
    let detail = "user fsapi and fsapi.password of the configuration are needed";
    let mut response =
        Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail).into_response();
    let basic = HeaderValue::from_static("Basic realm=\"voicebridge\"");
    response.headers_mut().insert(WWW_AUTHENTICATE, basic);
    response
}

const HEAD: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<document type=\"freeswitch/xml\">";
/// A channel variable that our first answer sets, as it comes back.
const DIALLED: &str = "variable_voicebridge_number";
/// Another one, that counts wrong PINs.
const WRONG_PINS: &str = "variable_voicebridge_wrong_pins";
/// `mod_xml_curl` sends all variables of a channel.
const FORM_BYTES_MAX: usize = 256 * 1_024;
const NUMBER_BYTES_MAX: usize = 65;
const NAME_CHARS_MAX: usize = 64;
