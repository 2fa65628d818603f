//! What Asterisk is asked: REST, which the shell speaks over the websocket (Asterisk 20.14, 21.9 and 22.4 have
//! that) or over HTTP.

use std::fmt::{self, Write as _};
use std::net::SocketAddr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::ari::endpoint::Dial;
use crate::media::codec::Codec;
use crate::units::DialplanPlace;

/// One request. Values may be personal: it prints as what it is for.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    method: &'static str,
    uri: String,
    /// The channel or bridge that it is about.
    subject: Option<String>,
    purpose: &'static str,
    body: Option<String>,
}

impl Request {
    fn new(method: &'static str, path: &[&str], purpose: &'static str) -> Self {
        let escaped = path.iter().map(|part| escape(part));
        let subject = match path {
            ["channels" | "bridges", id, ..] => Some((*id).to_owned()),
            _ => None,
        };
        Self {
            method,
            uri: escaped.collect::<Vec<_>>().join("/"),
            subject,
            purpose,
            body: None,
        }
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        let separator = if self.uri.contains('?') { '&' } else { '?' };
        let written = write!(self.uri, "{separator}{name}={}", escape(value));
        debug_assert!(written.is_ok(), "a String takes everything");
        self
    }

    /// That makes what it is about.
    fn making(mut self, id: &str) -> Self {
        self.subject = Some(id.to_owned());
        self
    }

    pub(crate) fn ping() -> Self {
        Self::new("GET", &["asterisk", "ping"], "whether it is there")
    }

    /// Events that are of no use here are not even sent: a burst of them makes Asterisk refuse calls.
    pub(super) fn filter_events(app: &str) -> Self {
        let types: Vec<_> = UNWANTED
            .iter()
            .map(|name| serde_json::json!({ "type": name }))
            .collect();
        let body = serde_json::json!({ "disallowed": types }).to_string();
        Self {
            body: Some(body),
            ..Self::new(
                "PUT",
                &["applications", app, "eventFilter"],
                "the event filter",
            )
        }
    }

    pub(super) fn application(app: &str) -> Self {
        Self::new("GET", &["applications", app], "what the application holds")
    }

    pub(super) fn bridges() -> Self {
        Self::new("GET", &["bridges"], "its bridges")
    }

    pub(super) fn channel(channel: &str) -> Self {
        Self::new("GET", &["channels", channel], "who the channel is")
    }

    pub(super) fn ring(channel: &str) -> Self {
        Self::new("POST", &["channels", channel, "ring"], "ringing")
    }

    pub(super) fn answer(channel: &str) -> Self {
        Self::new("POST", &["channels", channel, "answer"], "the answer")
    }

    /// Calls somebody; his channel comes into the application when he answers.
    pub(super) fn dial(app: &str, channel: &str, dial: &Dial) -> Self {
        let request = Self::new("POST", &["channels", channel], "a call to somebody")
            .with("endpoint", &dial.endpoint)
            .with("app", app)
            .with("timeout", &dial.timeout.as_secs().to_string());
        match &dial.caller_id {
            Some(number) => request.with("callerId", number),
            None => request,
        }
    }

    pub(super) fn native_format(channel: &str) -> Self {
        Self::new(
            "GET",
            &["channels", channel, "variable"],
            "the phone's codec",
        )
        .with("variable", "CHANNEL(audionativeformat)")
    }

    pub(crate) fn external_media(app: &str, id: &str, rtp: SocketAddr, codec: Codec) -> Self {
        Self::new(
            "POST",
            &["channels", "externalMedia"],
            "an externalMedia channel",
        )
        .making(id)
        .with("app", app)
        .with("channelId", id)
        .with("external_host", &rtp.to_string())
        .with("format", format_name(codec))
    }

    /// Keeps keys as events also where it would otherwise pass packets straight through.
    pub(crate) fn create_bridge(id: &str) -> Self {
        Self::new("POST", &["bridges"], "a bridge")
            .making(id)
            .with("type", "mixing,dtmf_events")
            .with("bridgeId", id)
    }

    pub(crate) fn add_to_bridge(bridge: &str, channels: &[&str]) -> Self {
        Self::new(
            "POST",
            &["bridges", bridge, "addChannel"],
            "joining caller and media",
        )
        .with("channel", &channels.join(","))
    }

    /// Music on hold, until the bridge is gone.
    pub(super) fn music(bridge: &str) -> Self {
        Self::new("POST", &["bridges", bridge, "moh"], "music")
    }

    pub(super) fn variable(channel: &str, name: &str) -> Self {
        Self::new(
            "GET",
            &["channels", channel, "variable"],
            "a channel variable",
        )
        .with("variable", name)
    }

    pub(super) fn set_variable(channel: &str, name: &str, value: &str) -> Self {
        Self::new(
            "POST",
            &["channels", channel, "variable"],
            "a channel variable",
        )
        .with("variable", name)
        .with("value", value)
    }

    pub(super) fn global(name: &str) -> Self {
        Self::new("GET", &["asterisk", "variable"], "a global variable").with("variable", name)
    }

    pub(crate) fn set_global(name: &str, value: &str) -> Self {
        Self::new("POST", &["asterisk", "variable"], "a global variable")
            .with("variable", name)
            .with("value", value)
    }

    pub(super) fn go_on_in_dialplan(channel: &str) -> Self {
        Self::new(
            "POST",
            &["channels", channel, "continue"],
            "going on in the dialplan",
        )
    }

    pub(super) fn go_on_at(channel: &str, place: &DialplanPlace) -> Self {
        Self::go_on_in_dialplan(channel)
            .with("context", place.context())
            .with("extension", place.extension())
            .with("priority", &place.priority().to_string())
    }

    /// `1` or `0`.
    pub(super) fn is_in_dialplan(channel: &str, place: &DialplanPlace) -> Self {
        let (context, extension) = (place.context(), place.extension());
        let priority = place.priority();
        let question = format!("DIALPLAN_EXISTS({context},{extension},{priority})");
        Self {
            purpose: "whether an extension exists",
            ..Self::variable(channel, &question)
        }
    }

    /// `1` or `0`.
    pub(crate) fn is_context(name: &str) -> Self {
        Self::global(&format!("DIALPLAN_EXISTS({name})"))
    }

    pub(crate) fn delete_channel(channel: &str) -> Self {
        Self::new("DELETE", &["channels", channel], "the end of a channel")
    }

    pub(crate) fn delete_bridge(bridge: &str) -> Self {
        Self::new("DELETE", &["bridges", bridge], "the end of a bridge")
    }

    /// Into another application, with all that it is in.
    pub(super) fn move_to(channel: &str, app: &str) -> Self {
        Self::new(
            "POST",
            &["channels", channel, "move"],
            "another node's caller",
        )
        .with("app", app)
    }

    /// Its version and settings.
    pub(crate) fn info() -> Self {
        Self::new("GET", &["asterisk", "info"], "what it is")
    }

    pub(crate) fn module(file: &str) -> Self {
        Self::new("GET", &["asterisk", "modules", file], "a module")
    }

    /// An endpoint of pjsip.conf, as it was read.
    pub(crate) fn endpoint(name: &str) -> Self {
        Self::new(
            "GET",
            &[
                "asterisk",
                "config",
                "dynamic",
                "res_pjsip",
                "endpoint",
                name,
            ],
            "an endpoint",
        )
    }

    /// What is asked, without the values.
    pub(crate) fn path(&self) -> &str {
        self.uri.split('?').next().unwrap_or_default()
    }

    /// What it is for, in words for a log.
    pub(super) const fn purpose(&self) -> &'static str {
        self.purpose
    }

    /// The channel or bridge that it is about.
    pub(super) fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    pub(crate) const fn method(&self) -> &'static str {
        self.method
    }

    /// What comes after `ari/`.
    pub(crate) fn uri(&self) -> &str {
        &self.uri
    }

    /// JSON.
    pub(crate) fn body(&self) -> Option<&str> {
        self.body.as_deref()
    }

    /// As it goes over the websocket.
    pub(crate) fn to_text(&self, id: u64) -> String {
        let mut message = serde_json::json!({
            "type": "RESTRequest",
            "request_id": id.to_string(),
            "method": self.method,
            "uri": self.uri,
        });
        if let Some(body) = &self.body {
            message["content_type"] = "application/json".into();
            message["message_body"] = body.as_str().into();
        }
        message.to_string()
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.purpose)
    }
}

fn escape(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

const fn format_name(codec: Codec) -> &'static str {
    match codec {
        Codec::Pcmu => "ulaw",
        Codec::Pcma => "alaw",
        // An Opus packet of ours would be dropped without a word: Asterisk's RTP channel knows no dynamic
        // payload type.
        Codec::G722 | Codec::Opus => "g722",
    }
}

/// Everything but the characters that RFC 3986 section 2.3 leaves alone.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

const UNWANTED: [&str; 12] = [
    "ChannelVarset",
    "ChannelDialplan",
    "ChannelCallerId",
    "ChannelConnectedLine",
    "ChannelStateChange",
    "ChannelHangupRequest",
    "ChannelEnteredBridge",
    "ChannelLeftBridge",
    "BridgeCreated",
    "BridgeDestroyed",
    "DeviceStateChanged",
    "Dial",
];
