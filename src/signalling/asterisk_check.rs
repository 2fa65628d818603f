//! `voicebridge check` of one Asterisk: what usually is wrong with one, each with what to change. Done under an
//! app name of its own, so that a node that runs keeps its callers.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::UdpSocket;
use tokio_tungstenite::tungstenite::Message;

use super::asterisk_link::{Socket, connect, in_words, local_address};
use crate::config::AsteriskConfig;

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
        app: ours.app,
        asked: 0,
    };
    let mut found = Vec::new();
    match talk.ask("GET", "asterisk/info").await {
        Some((200, info)) => found.push(AsteriskFinding::Good(format!(
            "connected to Asterisk {}",
            info["system"]["version"].as_str().unwrap_or("?")
        ))),
        Some((status, _)) => found.push(AsteriskFinding::Failed(format!(
            "asterisk/info says {status}: load res_ari_asterisk.so (modules.conf)"
        ))),
        None => {
            return vec![AsteriskFinding::Failed(
                "REST over the websocket is not answered: Asterisk 20.14, 21.9, 22.4 or later is needed".to_owned(),
            )];
        }
    }
    let before = found.len();
    found.extend(talk.modules().await);
    found.extend(talk.may_write().await);
    if found.len() == before {
        found.push(talk.audio(ports).await);
    }
    found.extend(talk.opus().await);
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
    /// Our end of the connection, without a port.
    local: SocketAddr,
    app: String,
    asked: u32,
}

impl Talk {
    /// Status and body of the answer; `None`: there is none.
    async fn ask(&mut self, method: &str, uri: &str) -> Option<(u16, Value)> {
        self.asked += 1;
        let id = self.asked.to_string();
        let question =
            json!({"type": "RESTRequest", "request_id": id, "method": method, "uri": uri});
        self.socket
            .send(Message::text(question.to_string()))
            .await
            .ok()?;
        tokio::time::timeout(PATIENCE, self.answer(&id))
            .await
            .ok()?
    }

    async fn answer(&mut self, id: &str) -> Option<(u16, Value)> {
        loop {
            let message = self.socket.next().await?.ok()?;
            let Message::Text(text) = message else {
                continue;
            };
            let said: Value = serde_json::from_str(text.as_str()).ok()?;
            if said["type"] == "RESTResponse" && said["request_id"] == id {
                let status = said["status_code"].as_u64()?;
                let body = said["message_body"].as_str().unwrap_or_default();
                let body = serde_json::from_str(body).unwrap_or_default();
                return Some((u16::try_from(status).ok()?, body));
            }
        }
    }

    async fn has_module(&mut self, name: &str) -> bool {
        let answer = self
            .ask("GET", &format!("asterisk/modules/{name}.so"))
            .await;
        answer.is_some_and(|(status, body)| status == 200 && body["status"] == "Running")
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
        let uri = "asterisk/variable?variable=VOICEBRIDGE_CHECK&value=1";
        match self.ask("POST", uri).await {
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

    /// Sends audio into Asterisk and hears whether it comes back by another channel.
    async fn audio(&mut self, ports: RangeInclusive<u16>) -> AsteriskFinding {
        let mut ends = Vec::new();
        for port in ports {
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
        for (kind, end) in [
            ("channels", "far"),
            ("channels", "near"),
            ("bridges", "near"),
        ] {
            let uri = format!("{kind}/{}.{end}", self.app);
            self.ask("DELETE", &uri).await;
        }
    }

    async fn through(&mut self, near: &UdpSocket, far: &UdpSocket) -> Result<bool, String> {
        let bridge = format!("{}.near", self.app);
        self.must(&format!(
            "bridges?type=mixing,dtmf_events&bridgeId={bridge}"
        ))
        .await?;
        let mut asterisk = None;
        for (name, socket) in [("far", far), ("near", near)] {
            let at = socket.local_addr().map_err(|error| error.to_string())?;
            let channel = format!("{}.{name}", self.app);
            let made = self
                .must(&format!(
                    "channels/externalMedia?app={}&channelId={channel}&external_host={at}&format=ulaw",
                    self.app
                ))
                .await?;
            asterisk = media_address(&made);
            // It is there before it is in our application.
            tokio::time::sleep(SETTLE).await;
            self.must(&format!("bridges/{bridge}/addChannel?channel={channel}"))
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

    async fn must(&mut self, uri: &str) -> Result<Value, String> {
        let what = uri.split('?').next().unwrap_or_default();
        match self.ask("POST", uri).await {
            Some((200..=299, body)) => Ok(body),
            Some((status, body)) => {
                let why = body["message"].as_str().unwrap_or_default();
                Err(format!("{what} says {status} {why}"))
            }
            None => Err(format!("{what} is not answered")),
        }
    }
}

fn media_address(channel: &Value) -> Option<SocketAddr> {
    let variables = &channel["channelvars"];
    let ip = variables["UNICASTRTP_LOCAL_ADDRESS"].as_str()?;
    let port = variables["UNICASTRTP_LOCAL_PORT"].as_str()?;
    Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok()?))
}

/// 20 ms of silence in PCMU (RFC 3550 section 5.1).
fn packet(sequence: u16) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend(sequence.to_be_bytes());
    packet.extend((u32::from(sequence) * 160).to_be_bytes());
    packet.extend(0x76_62_63_6b_u32.to_be_bytes());
    packet.resize(12 + 160, 0xFF);
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
const PATIENCE: Duration = Duration::from_secs(3);
/// Until a new channel is in our application.
const SETTLE: Duration = Duration::from_millis(100);
/// Two seconds of audio.
const PACKETS: u16 = 100;
const PACKET: Duration = Duration::from_millis(20);
