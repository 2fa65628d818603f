//! What Asterisk says over the websocket: exactly the fields that are needed, everything else ignored.

#![deny(clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Deserializer};

use crate::ari::endpoint::is_dialled;
use crate::booking::{CallerNumber, Pin};
use crate::media::codec::Codec;
use crate::units::{Key, Language};

/// One message of Asterisk's.
#[derive(Deserialize)]
#[serde(tag = "type")]
pub(crate) enum Event {
    /// A channel came into our application.
    StasisStart {
        #[serde(default)]
        args: StasisArguments,
        channel: Channel,
    },
    /// A channel left our application: hung up, or gone on in the dialplan.
    StasisEnd { channel: Channel },
    /// A channel is gone.
    ChannelDestroyed {
        /// Why (ITU-T Q.850).
        #[serde(default)]
        cause: u8,
        channel: Channel,
    },
    /// A key was released.
    ChannelDtmfReceived {
        #[serde(deserialize_with = "key")]
        digit: Option<Key>,
        channel: Channel,
    },
    /// The phone put us on hold.
    ChannelHold { channel: Channel },
    /// And took us back.
    ChannelUnhold { channel: Channel },
    /// Somebody else connected under our application's name; nothing more is told to us.
    ApplicationReplaced,
    /// The answer to a request.
    #[serde(rename = "RESTResponse")]
    Response(Response),
    /// Anything else.
    #[serde(other)]
    Other,
}

/// The answer to a request.
#[derive(Deserialize)]
pub(crate) struct Response {
    #[serde(deserialize_with = "number")]
    pub(crate) request_id: Option<u64>,
    #[serde(rename = "status_code")]
    pub(crate) status: u16,
    #[serde(default, rename = "message_body")]
    pub(crate) body: String,
}

/// A channel, as every event shows it.
#[derive(Debug, Deserialize)]
pub(crate) struct Channel {
    pub(super) id: String,
    #[serde(default)]
    caller: Party,
    #[serde(default)]
    language: String,
    #[serde(default)]
    dialplan: Dialplan,
    /// The SIP Call-ID, where the channel is a SIP one.
    #[serde(default)]
    protocol_id: String,
    #[serde(default)]
    channelvars: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
struct Party {
    #[serde(default, deserialize_with = "caller_number")]
    number: Option<CallerNumber>,
}

/// Where in the dialplan the channel is: at our `Stasis(...)`.
#[derive(Debug, Default, Deserialize)]
struct Dialplan {
    #[serde(default)]
    exten: String,
    /// The arguments of `Stasis`, the application's name first.
    #[serde(default)]
    app_data: StasisArguments,
}

/// What the dialplan asks for: `Stasis(app,number=…,language=…,pin=…)`.
#[derive(Debug, Default, Clone)]
pub(crate) struct StasisArguments {
    number: Option<String>,
    language: Option<Language>,
    pin: Option<Pin>,
}

/// A caller who came into the application.
#[derive(Debug, Clone)]
pub struct IncomingCaller {
    /// Asterisk's name of his channel.
    pub channel: String,
    /// Who calls.
    pub caller: CallerNumber,
    /// What was dialled: `number=`, else the extension that the dialplan is at.
    pub number: String,
    /// `language=`.
    pub language: Option<Language>,
    /// What Asterisk itself would speak to him.
    pub channel_language: Option<Language>,
    /// `pin=`: no prompt.
    pub pin: Option<Pin>,
    /// The SIP Call-ID between the phone and Asterisk.
    pub sip_call_id: Option<String>,
    /// He was called, by an earlier life of this program or another node.
    pub dialled: bool,
    /// What [`super::Endpoint::remember`] wrote down beside him in another life of this program.
    pub past: Option<String>,
}

/// A message that can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Reads one message.
pub(crate) fn parse(text: &str) -> Result<Event, Malformed> {
    serde_json::from_str(text).map_err(|_| Malformed)
}

impl Channel {
    /// Reads a channel from the answer to `GET channels/{id}`.
    pub(crate) fn parse(body: &str) -> Result<Self, Malformed> {
        serde_json::from_str(body).map_err(|_| Malformed)
    }

    /// The caller, with the arguments that came with him; without those the dialplan's own.
    pub(super) fn into_caller(
        self,
        arguments: Option<StasisArguments>,
        past: Option<String>,
    ) -> IncomingCaller {
        // Whom we called, sent on into the dialplan, may be sent back: as a caller like any other.
        let sent_back = arguments
            .as_ref()
            .is_some_and(StasisArguments::are_a_dialplan_s);
        let arguments = arguments.unwrap_or(self.dialplan.app_data);
        IncomingCaller {
            dialled: is_dialled(&self.id) && !sent_back,
            channel: self.id,
            caller: self.caller.number.unwrap_or_else(|| CallerNumber::new("")),
            number: arguments.number.unwrap_or(self.dialplan.exten),
            language: arguments.language,
            channel_language: self.language.parse().ok(),
            pin: arguments.pin,
            sip_call_id: Some(self.protocol_id).filter(|id| !id.is_empty()),
            past,
        }
    }

    /// Where an externalMedia channel receives RTP.
    pub(crate) fn media_address(&self) -> Option<SocketAddr> {
        let address: IpAddr = self
            .channelvars
            .get("UNICASTRTP_LOCAL_ADDRESS")?
            .parse()
            .ok()?;
        let port = self
            .channelvars
            .get("UNICASTRTP_LOCAL_PORT")?
            .parse()
            .ok()?;
        Some(SocketAddr::new(address, port))
    }
}

impl StasisArguments {
    /// Every dialplan says what was dialled; whom we called comes in without a word.
    pub(super) const fn are_a_dialplan_s(&self) -> bool {
        self.number.is_some()
    }

    fn read<'a>(arguments: impl Iterator<Item = &'a str>) -> Self {
        let mut read = Self::default();
        for (name, value) in arguments.filter_map(|argument| argument.split_once('=')) {
            let value = value.trim();
            match name.trim() {
                "number" if !value.is_empty() => read.number = Some(value.to_owned()),
                "language" => read.language = value.parse().ok(),
                "pin" => read.pin = Pin::parse(value).ok(),
                _ => {}
            }
        }
        read
    }
}

impl<'de> Deserialize<'de> for StasisArguments {
    /// From the list of an event, or from the dialplan's text.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            List(Vec<String>),
            Text(String),
        }
        Ok(match Written::deserialize(deserializer)? {
            Written::List(list) => Self::read(list.iter().map(String::as_str)),
            Written::Text(text) => Self::read(text.split(',')),
        })
    }
}

/// What our application holds, from `GET applications/{app}`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Application {
    #[serde(default)]
    pub(super) channel_ids: Vec<String>,
}

/// A bridge, from `GET bridges`.
#[derive(Debug, Deserialize)]
pub(super) struct Bridge {
    pub(super) id: String,
}

/// The codec to speak with Asterisk for a caller whose phone speaks `formats`, as
/// `CHANNEL(audionativeformat)` gives them: `(ulaw)`. What RTP can't carry here both ways becomes G.722:
/// `None`.
pub(super) fn codec_of(formats: &str) -> Option<Codec> {
    let first = formats.trim_matches(['(', ')']).split(['|', ',']).next()?;
    match first.trim() {
        "ulaw" => Some(Codec::Pcmu),
        "alaw" => Some(Codec::Pcma),
        "g722" => Some(Codec::G722),
        _ => None,
    }
}

/// The value in the answer to a question for a variable.
pub(super) fn variable(body: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Variable {
        value: String,
    }
    serde_json::from_str::<Variable>(body).ok().map(|v| v.value)
}

fn key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Key>, D::Error> {
    let digit = String::deserialize(deserializer)?;
    let mut characters = digit.chars();
    Ok(match (characters.next(), characters.next()) {
        (Some(only), None) => Key::from_char(only),
        _ => None,
    })
}

fn caller_number<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<CallerNumber>, D::Error> {
    let number = String::deserialize(deserializer)?;
    Ok(Some(CallerNumber::new(&number)))
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok(text.parse().ok())
}
