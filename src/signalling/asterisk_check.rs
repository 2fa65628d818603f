//! `voicebridge check` of one Asterisk: what usually is wrong with one, each with what to change. Done under an
//! app name of its own, so that a node that runs keeps its callers.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::net::UdpSocket;
use tokio_tungstenite::tungstenite::Message;

use super::asterisk_link::{Socket, connect, in_words, local_address};
use super::asterisk_rest::{Lane, RestError};
use crate::ari::event::{self, Channel, Event};
use crate::ari::request::Request;
use crate::config::{AsteriskConfig, DialTemplate, RestWay};
use crate::media::codec::Codec;
use crate::media::rtp::RtpHeader;
use crate::units::{RtpTicks, SeqNo, Ssrc};

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AsteriskFinding {
    /// It is as it should be.
    Good(String),
    /// Some callers will miss it.
    Warning(String),
    /// No caller can be served.
    Failed(String),
}

/// Looks at one Asterisk; audio is tried on two of these UDP ports.
pub async fn check_asterisk(
    config: &AsteriskConfig,
    ports: RangeInclusive<u16>,
) -> Vec<AsteriskFinding> {
    let ours = AsteriskConfig {
        app: format!("{}-check", config.app),
        ..config.clone()
    };
    let opened = tokio::time::timeout(PATIENCE, connect(&ours)).await;
    let socket = match opened {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) => return vec![unreachable(config, &in_words(&error))],
        Err(_) => return vec![unreachable(config, "no answer")],
    };
    let mut talk = Talk {
        local: SocketAddr::new(local_address(&socket), 0),
        socket,
        lane: None,
        app: ours.app,
        asked: 0,
        ports,
        shared_port: None,
    };
    let mut found = Vec::new();
    match talk.begin(config).await {
        Ok((200, info)) => found.push(AsteriskFinding::Good(format!(
            "connected to Asterisk {}{}",
            json(&info)["system"]["version"].as_str().unwrap_or("?"),
            match talk.lane {
                Some(_) => ", with requests over HTTP",
                None => "",
            }
        ))),
        Ok((status, _)) => found.push(AsteriskFinding::Failed(format!(
            "asterisk/info says {status}: load res_ari_asterisk.so (modules.conf)"
        ))),
        Err(finding) => return vec![finding],
    }
    let before = found.len();
    found.extend(talk.modules().await);
    found.extend(talk.may_write().await);
    if found.len() == before {
        found.push(talk.audio().await);
    }
    found.extend(talk.contexts(&config.leave_to).await);
    found.extend(talk.opus().await);
    found.extend(talk.endpoint().await);
    if let Some(dial) = &config.dial {
        found.extend(talk.dial(dial).await);
    }
    found
}

fn unreachable(config: &AsteriskConfig, reason: &str) -> AsteriskFinding {
    AsteriskFinding::Failed(format!(
        "{} can't be used: {reason}; is Asterisk running, are http.conf and ari.conf enabled, and is this its address?",
        config.url
    ))
}

/// A conversation, one question at a time.
struct Talk {
    socket: Socket,
    /// Where requests go over HTTP.
    lane: Option<Lane>,
    /// Our end of the connection, without a port.
    local: SocketAddr,
    app: String,
    asked: u64,
    /// Ours for audio.
    ports: RangeInclusive<u16>,
    /// One of these that Asterisk uses too.
    shared_port: Option<u16>,
}

impl Talk {
    /// Finds the way that requests go, by a first one.
    async fn begin(&mut self, config: &AsteriskConfig) -> Result<(u16, String), AsteriskFinding> {
        if config.rest != RestWay::Http {
            match self.ask(&Request::info()).await {
                Some(answer) => return Ok(answer),
                None if config.rest == RestWay::Websocket => {
                    return Err(AsteriskFinding::Failed(
                        "REST over the websocket is not answered: Asterisk 20.14, 21.9, 22.4 or later is needed for asterisk.rest = \"websocket\"; \"auto\" and \"http\" do with any".to_owned(),
                    ));
                }
                None => {}
            }
        }
        let refused = |error: RestError| {
            AsteriskFinding::Failed(format!("REST over HTTP is not answered: {error}"))
        };
        let lane = self.lane.insert(Lane::to(config).map_err(refused)?);
        lane.ask(&Request::info()).await.map_err(refused)
    }

    /// Status and body of the answer; `None`: there is none.
    async fn ask(&mut self, question: &Request) -> Option<(u16, String)> {
        if let Some(lane) = &mut self.lane {
            return lane.ask(question).await.ok();
        }
        self.asked += 1;
        let text = question.to_text(self.asked);
        self.socket.send(Message::text(text)).await.ok()?;
        tokio::time::timeout(PATIENCE, self.answer()).await.ok()?
    }

    /// The answer to the last question.
    async fn answer(&mut self) -> Option<(u16, String)> {
        loop {
            let message = self.socket.next().await?.ok()?;
            let Message::Text(text) = message else {
                continue;
            };
            if let Ok(Event::Response(response)) = event::parse(text.as_str())
                && response.request_id == Some(self.asked)
            {
                return Some((response.status, response.body));
            }
        }
    }

    async fn has_module(&mut self, name: &str) -> bool {
        let answer = self.ask(&Request::module(&format!("{name}.so"))).await;
        answer.is_some_and(|(status, body)| status == 200 && json(&body)["status"] == "Running")
    }

    async fn modules(&mut self) -> Vec<AsteriskFinding> {
        let mut missing = Vec::new();
        for (name, what_for) in MODULES {
            if !self.has_module(name).await {
                missing.push(AsteriskFinding::Failed(format!(
                    "{name}.so doesn't run, which {what_for}: load = {name}.so in modules.conf"
                )));
            }
        }
        missing
    }

    async fn may_write(&mut self) -> Option<AsteriskFinding> {
        match self
            .ask(&Request::set_global("VOICEBRIDGE_CHECK", "1"))
            .await
        {
            Some((200..=299, _)) => None,
            Some((403, _)) => Some(AsteriskFinding::Failed(
                "the user may only read: read_only = no in ari.conf".to_owned(),
            )),
            Some((status, _)) => Some(AsteriskFinding::Failed(format!(
                "a variable can't be set: status {status}"
            ))),
            None => Some(AsteriskFinding::Failed("no answer any more".to_owned())),
        }
    }

    /// Contexts that participants may be sent on into.
    async fn contexts(&mut self, names: &[String]) -> Vec<AsteriskFinding> {
        let mut missing = Vec::new();
        for name in names {
            let answer = self.ask(&Request::is_context(name)).await;
            if answer.is_some_and(|(_, body)| json(&body)["value"] == "0") {
                missing.push(AsteriskFinding::Warning(format!(
                    "the dialplan has no context {name}, which leave_to names: [{name}] in extensions.conf"
                )));
            }
        }
        missing
    }

    async fn opus(&mut self) -> Option<AsteriskFinding> {
        for name in ["codec_opus_open_source", "codec_opus"] {
            if self.has_module(name).await {
                return None;
            }
        }
        Some(AsteriskFinding::Warning(
            "no transcoder for Opus: leave opus out of allow= (pjsip.conf), or callers whose phones choose it hear nothing".to_owned(),
        ))
    }

    /// The endpoint of `asterisk/pjsip.conf`, where the dialplan calls voicebridge by SIP.
    async fn endpoint(&mut self) -> Vec<AsteriskFinding> {
        match self.ask(&Request::endpoint(ENDPOINT)).await {
            Some((200, body)) => endpoint_findings(&json(&body)),
            Some(_) | None => Vec::new(),
        }
    }

    /// What people are called by. A context can't be looked at from here.
    async fn dial(&mut self, dial: &DialTemplate) -> Option<AsteriskFinding> {
        let endpoint = dial.pjsip_endpoint()?;
        let answer = self.ask(&Request::endpoint(endpoint)).await;
        let there = answer.is_some_and(|(status, _)| status == 200);
        (!there).then(|| {
            AsteriskFinding::Failed(format!(
                "dial calls people by the endpoint {endpoint}, which isn't there: add [{endpoint}] with type = endpoint to pjsip.conf, or change dial"
            ))
        })
    }

    /// Sends audio into Asterisk and hears whether it comes back by another channel.
    async fn audio(&mut self) -> AsteriskFinding {
        let mut ends = Vec::new();
        for port in self.ports.clone() {
            let at = SocketAddr::new(self.local.ip(), port);
            ends.extend(UdpSocket::bind(at).await);
            if ends.len() == 2 {
                break;
            }
        }
        let [near, far] = ends.as_slice() else {
            return AsteriskFinding::Warning(
                "audio was not tried: two free ports in media.ports are needed for that".to_owned(),
            );
        };
        // What an earlier check may have left stands in the way.
        self.clear_away().await;
        let heard = self.through(near, far).await;
        self.clear_away().await;
        if let Some(port) = self.shared_port {
            return AsteriskFinding::Failed(format!(
                "Asterisk receives audio on port {port}, which lies in media.ports {}-{} of this machine: move the one (rtpstart and rtpend in rtp.conf) or the other",
                self.ports.start(),
                self.ports.end(),
            ));
        }
        match heard {
            Ok(true) => AsteriskFinding::Good("audio passes in both directions".to_owned()),
            Ok(false) => AsteriskFinding::Failed(format!(
                "audio doesn't pass: open UDP between Asterisk (rtpstart to rtpend in rtp.conf) and media.ports at {}, in both directions",
                self.local.ip()
            )),
            Err(what) => AsteriskFinding::Failed(format!("audio can't be tried: {what}")),
        }
    }

    async fn clear_away(&mut self) {
        for end in ["far", "near"] {
            self.ask(&Request::delete_channel(&self.name(end))).await;
        }
        self.ask(&Request::delete_bridge(&self.name("near"))).await;
    }

    fn name(&self, end: &str) -> String {
        format!("{}.{end}", self.app)
    }

    async fn through(&mut self, near: &UdpSocket, far: &UdpSocket) -> Result<bool, String> {
        let bridge = self.name("near");
        self.must(&Request::create_bridge(&bridge)).await?;
        let mut asterisk = None;
        for (end, socket) in [("far", far), ("near", near)] {
            let at = socket.local_addr().map_err(|error| error.to_string())?;
            let channel = self.name(end);
            let media = Request::external_media(&self.app, &channel, at, Codec::Pcmu);
            let made = self.must(&media).await?;
            let made = Channel::parse(&made).ok();
            asterisk = made.and_then(|channel| channel.media_address());
            self.shared_port = self.shared_port.or(asterisk.and_then(|at| self.clash(at)));
            // It is there before it is in our application.
            tokio::time::sleep(SETTLE).await;
            self.must(&Request::add_to_bridge(&bridge, &[&channel]))
                .await?;
        }
        let asterisk = asterisk.ok_or("Asterisk doesn't say where it receives")?;
        let mut buffer = [0; 2_048];
        for sequence in 0..PACKETS {
            // What can't be sent isn't heard either.
            let _sent = near.send_to(&packet(sequence), asterisk).await;
            let heard = tokio::time::timeout(PACKET, far.recv_from(&mut buffer)).await;
            if heard.is_ok_and(|heard| heard.is_ok()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The port, where it is one of ours on the same machine.
    fn clash(&self, asterisk: SocketAddr) -> Option<u16> {
        let clashes = asterisk.ip() == self.local.ip() && self.ports.contains(&asterisk.port());
        clashes.then(|| asterisk.port())
    }

    async fn must(&mut self, question: &Request) -> Result<String, String> {
        let what = question.path();
        match self.ask(question).await {
            Some((200..=299, body)) => Ok(body),
            Some((status, body)) => {
                let body = json(&body);
                let why = body["message"].as_str().unwrap_or_default();
                Err(format!("{what} says {status} {why}"))
            }
            None => Err(format!("{what} is not answered")),
        }
    }
}

fn json(body: &str) -> Value {
    serde_json::from_str(body).unwrap_or_default()
}

/// What is wrong with an endpoint, as a list of attributes and values.
fn endpoint_findings(attributes: &Value) -> Vec<AsteriskFinding> {
    let all = attributes.as_array().map_or(&[][..], Vec::as_slice);
    let value = |name: &str| {
        let found = all.iter().find(|one| one["attribute"] == name);
        found.and_then(|one| one["value"].as_str())
    };
    let mut found = Vec::new();
    if let Some(allowed) = value("allow")
        && !CODECS
            .iter()
            .any(|codec| names(allowed).any(|name| name == *codec))
    {
        found.push(AsteriskFinding::Failed(format!(
            "endpoint {ENDPOINT} allows {allowed}, none of which voicebridge speaks: allow = opus,g722,alaw,ulaw in pjsip.conf"
        )));
    }
    if value("direct_media") == Some("true") {
        found.push(AsteriskFinding::Warning(format!(
            "endpoint {ENDPOINT} has direct_media = yes: phones that can't reach voicebridge themselves hear nothing; direct_media = no in pjsip.conf, unless all can"
        )));
    }
    if let Some(mode) = value("dtmf_mode")
        && !matches!(mode, "rfc4733" | "auto" | "auto_info")
    {
        found.push(AsteriskFinding::Warning(format!(
            "endpoint {ENDPOINT} sends keys as {mode}: dtmf_mode = rfc4733 in pjsip.conf is the surest"
        )));
    }
    found
}

/// Codecs as Asterisk lists them: `(opus|ulaw)`.
fn names(list: &str) -> impl Iterator<Item = &str> {
    list.trim_matches(['(', ')']).split('|').map(str::trim)
}

/// 20 ms of silence in PCMU.
fn packet(sequence: u16) -> Vec<u8> {
    let mut packet = vec![0xFF; RtpHeader::LEN + 160];
    let header = RtpHeader {
        marker: false,
        payload_type: 0,
        sequence: SeqNo(sequence),
        timestamp: RtpTicks(u32::from(sequence) * 160),
        ssrc: Ssrc(0x76_62_63_6b),
    };
    // It is long enough.
    let _written = header.write(&mut packet);
    packet
}

/// What callers can't do without.
const MODULES: [(&str, &str); 9] = [
    ("app_stasis", "is Stasis() in the dialplan"),
    ("res_ari_applications", "tells who is in our application"),
    ("res_ari_channels", "answers callers"),
    ("res_ari_bridges", "joins callers and their audio"),
    ("chan_rtp", "is externalMedia, their audio"),
    ("res_rtp_asterisk", "carries their audio"),
    ("bridge_simple", "joins callers and their audio"),
    ("codec_ulaw", "turns G.711 into what others speak"),
    ("codec_g722", "serves callers with G.722 and Opus"),
];
/// What `asterisk/pjsip.conf` calls voicebridge.
const ENDPOINT: &str = "voicebridge";
/// What we speak, as Asterisk calls it.
const CODECS: [&str; 4] = ["opus", "g722", "alaw", "ulaw"];
const PATIENCE: Duration = Duration::from_secs(3);
/// Until a new channel is in our application.
const SETTLE: Duration = Duration::from_millis(100);
/// Two seconds of audio.
const PACKETS: u16 = 100;
const PACKET: Duration = Duration::from_millis(20);
