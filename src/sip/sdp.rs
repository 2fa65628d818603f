//! Offers and answers (RFC 8866, RFC 3264): one audio line, one codec, telephone-event beside it.
//!
//! Choices made here: the first usable audio line is taken and all other lines are refused with port 0;
//! the offerer's order of codecs decides; RTCP is multiplexed where the peer offers that (RFC 5761) and
//! has its own port otherwise; RTP/SAVP is answered with keys (RFC 4568), UDP/TLS/RTP/SAVP with what a handshake
//! needs (`dtls`), and each is offered once it is in use.

#![deny(clippy::indexing_slicing)]

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use sdp_types::{Attribute, Connection, Media, Origin, Session};

use crate::handshake::Peer;
use crate::media::codec::Codec;
use crate::media::parameters::{Direction, Keying, MediaParameters, Proven, TelephoneEvent};
use crate::media::srtp::SrtpKeys;
use crate::sip::connection;
use crate::sip::dtls::{self, InUse, LocalHandshake};
use crate::sip::extmap;
use crate::sip::fmtp;
use crate::sip::formats;
use crate::sip::sdes::{Crypto, LocalKeys};
use crate::units::Ptime;

/// Dynamic payload types of our own offers.
const OPUS_PAYLOAD_TYPE: u8 = 107;
const EVENT_8000_PAYLOAD_TYPE: u8 = 101;
const EVENT_48000_PAYLOAD_TYPE: u8 = 102;
/// More lines than any offer of a phone or browser has.
const MEDIA_LINES_MAX: usize = 32;

/// Our side of a session.
#[derive(Debug, Clone)]
pub struct LocalMedia {
    /// Where we receive: what offers name.
    pub address: IpAddr,
    /// The same of the other family, for peers who name an address of that one.
    pub other: Option<IpAddr>,
    /// It is in use: offers name it.
    pub by_other: bool,
    /// The port for RTP; RTCP comes to the next one unless multiplexed.
    pub rtp_port: u16,
    /// What we speak, best first.
    pub codecs: Vec<Codec>,
    /// `o=` session id: the same for the whole dialog.
    pub session_id: u64,
    /// `o=` session version: one more for each new description (RFC 3264 section 8).
    pub session_version: u64,
    /// What we would like to do; the peer may narrow it.
    pub direction: Direction,
    /// Our order of codecs decides instead of the offerer's.
    pub prefer_own_order: bool,
    /// What we encrypt with; `None`: nothing is encrypted by keys in the description.
    pub keys: Option<LocalKeys>,
    /// Who we are in handshakes; `None`: none are made.
    pub handshake: Option<LocalHandshake>,
}

impl LocalMedia {
    /// Where a peer at this address sends to; `None`: it can't reach us. One who holds in the style of RFC 2543
    /// names no address at all.
    pub(crate) fn towards(&self, peer: IpAddr) -> Option<IpAddr> {
        let reaches = |own: &IpAddr| own.is_ipv4() == peer.is_ipv4() || peer.is_unspecified();
        let (first, second) = if self.by_other {
            (self.other, Some(self.address))
        } else {
            (Some(self.address), self.other)
        };
        [first, second].into_iter().flatten().find(reaches)
    }

    /// What was agreed on is offered again from now on: the family of addresses; encrypted, or not.
    pub fn agreed(&mut self, parameters: &MediaParameters) {
        let peer = parameters.remote_rtp.ip();
        if !peer.is_unspecified() {
            self.by_other = self.towards(peer) == self.other && self.other.is_some();
        }
        if let Some(keys) = &mut self.keys {
            let signalled = parameters.keying == Keying::Signalled;
            let srtp = parameters.srtp.filter(|_| signalled);
            keys.in_use = srtp.map(|keys| keys.ours.suite());
        }
        if parameters.keying == Keying::Signalled
            && let Some(handshake) = &mut self.handshake
        {
            handshake.in_use = None;
        }
    }
}

/// Why a description gives no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    /// Not SDP.
    #[error("the session description cannot be read")]
    Malformed,
    /// No audio line that is on.
    #[error("no audio offered")]
    NoAudio,
    /// Audio only by a profile that is not spoken here.
    #[error("only secured or unknown transports offered")]
    Transport,
    /// Audio that isn't encrypted, where it must be.
    #[error("only audio without encryption offered")]
    Plain,
    /// Encrypted audio only by ciphers that are not spoken here.
    #[error("no cipher in common")]
    Cipher,
    /// Audio whose keys come by a handshake, with RTCP on a port of its own.
    #[error("a handshake is offered without multiplexed RTCP (a=rtcp-mux)")]
    NotMultiplexed,
    /// Audio only in unknown codecs.
    #[error("no codec in common")]
    Codec,
    /// No address to send to: a host name, a multicast group, a family that isn't spoken here.
    #[error("no usable address")]
    Address,
}

impl SdpError {
    /// The SIP answer to an offer with this fault.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::NoAudio
            | Self::Transport
            | Self::Plain
            | Self::Cipher
            | Self::NotMultiplexed
            | Self::Codec
            | Self::Address => 488,
        }
    }
}

/// Writes our offer.
#[must_use]
pub fn offer(local: &LocalMedia) -> Bytes {
    let mut payload_types = Vec::new();
    let mut attributes = Vec::new();
    for codec in &local.codecs {
        let payload_type = offered_payload_type(*codec);
        payload_types.push(payload_type);
        attributes.extend(codec_attributes(*codec, payload_type));
    }
    let clocks = [
        (8000, EVENT_8000_PAYLOAD_TYPE),
        (48_000, EVENT_48000_PAYLOAD_TYPE),
    ];
    for (clock, payload_type) in clocks {
        if local.codecs.iter().any(|codec| codec.rtp_clock() == clock) {
            payload_types.push(payload_type);
            attributes.extend(event_attributes(TelephoneEvent {
                payload_type,
                clock,
            }));
        }
    }
    attributes.push(Attribute::with_value("ptime", Ptime::DEFAULT.ms()));
    attributes.push(Attribute::new(direction_word(local.direction)));
    attributes.extend(level_attribute(local.direction, Some(extmap::OFFERED_ID)));
    let (profile, security, head) = offered_security(local);
    attributes.extend(security);
    let media = audio_line(local.rtp_port, profile, &payload_types, attributes);
    let address = local.other.filter(|_| local.by_other);
    write(local, address.unwrap_or(local.address), head, vec![media])
}

/// The profile of our offer, what its line says of keys, and what its head says.
fn offered_security(local: &LocalMedia) -> (&'static str, Vec<Attribute>, Vec<Attribute>) {
    if let Some(by_handshake) = dtls::offered(local) {
        return by_handshake;
    }
    let crypto = local.keys.and_then(|keys| {
        let key = keys.key(keys.in_use?);
        Some(Crypto { tag: 1, key })
    });
    match crypto {
        Some(crypto) => ("RTP/SAVP", vec![crypto_attribute(crypto)], Vec::new()),
        None => ("RTP/AVP", Vec::new(), Vec::new()),
    }
}

/// What a description says of the handshake that its audio's keys come by; `None`: they don't, or it isn't
/// taken.
#[must_use]
pub fn handshake(description: &[u8], local: &LocalMedia) -> Option<(Peer, InUse)> {
    let session = parse(description).ok()?;
    let (chosen, _) = choose(&session, local).ok()?;
    let media = session.medias.get(chosen)?;
    let peer = dtls::peer(&session, media, local).ok()??;
    let in_use = InUse {
        ours: peer.ours,
        by_ice: peer.ice.is_some(),
        feedback: media.proto.to_ascii_uppercase().ends_with('F'),
    };
    Some((peer, in_use))
}

/// Takes what we can of an offer and writes the answer.
///
/// # Errors
/// Nothing can be taken, see [`SdpError`].
pub fn answer(offer: &[u8], local: &LocalMedia) -> Result<(MediaParameters, Bytes), SdpError> {
    let session = parse(offer)?;
    let (chosen, parameters) = choose(&session, local)?;
    let medias = session
        .medias
        .iter()
        .enumerate()
        .map(|(position, media)| {
            if position == chosen {
                answered(&session, media, &parameters, local)
            } else {
                refused(media)
            }
        })
        .collect();
    let own = local.towards(parameters.remote_rtp.ip());
    let head = session.medias.get(chosen);
    let head = head.map(|media| dtls::answer_head(&session, media, local));
    let head = head.unwrap_or_default();
    let answer = write(local, own.unwrap_or(local.address), head, medias);
    Ok((parameters, answer))
}

/// Reads the answer to our offer.
///
/// # Errors
/// The peer took nothing of it, see [`SdpError`].
pub fn accept(answer: &[u8], local: &LocalMedia) -> Result<MediaParameters, SdpError> {
    let (_, mut parameters) = choose(&parse(answer)?, local)?;
    let in_use = local.handshake.as_ref().and_then(|own| own.in_use);
    let offered = local.keys.and_then(|keys| keys.in_use);
    let offered = offered.filter(|_| in_use.is_none());
    let by_handshake = parameters.keying != Keying::Signalled;
    if parameters.srtp.map(|keys| keys.ours.suite()) != offered || by_handshake != in_use.is_some()
    {
        return Err(SdpError::Cipher);
    }
    // We receive what we have offered, and send what the peer asks for (RFC 3264 section 6.1).
    parameters.payload_type_receive = offered_payload_type(parameters.codec);
    parameters.comfort_noise = None;
    parameters.telephone_event = parameters.telephone_event.and_then(|event| {
        let payload_type = match event.clock {
            8000 => EVENT_8000_PAYLOAD_TYPE,
            48_000 => EVENT_48000_PAYLOAD_TYPE,
            // Nobody offered that.
            _ => return None,
        };
        Some(TelephoneEvent {
            payload_type,
            ..event
        })
    });
    Ok(parameters)
}

/// The first audio line that can be used, and what comes of it; else the last reason why not.
fn choose(session: &Session, local: &LocalMedia) -> Result<(usize, MediaParameters), SdpError> {
    let mut problem = SdpError::NoAudio;
    for (position, media) in session.medias.iter().enumerate() {
        if !media.media.eq_ignore_ascii_case("audio") || media.port == 0 {
            continue;
        }
        match negotiate(session, media, local) {
            Ok(parameters) => return Ok((position, parameters)),
            Err(error) => problem = error,
        }
    }
    Err(problem)
}

fn negotiate(
    session: &Session,
    media: &Media,
    local: &LocalMedia,
) -> Result<MediaParameters, SdpError> {
    let peer = dtls::peer(session, media, local)?;
    let srtp = match &peer {
        Some(_) => None,
        None => srtp_keys(media, local)?,
    };
    let keying = dtls::keying(peer.as_ref());
    let formats = formats::of(media);
    let (codec, payload_type) = formats::pick_codec(&formats, local).ok_or(SdpError::Codec)?;
    let address = connection::address(session, media, local).ok_or(SdpError::Address)?;
    let remote_rtp = SocketAddr::new(address, media.port);
    let mut direction = direction(session, media, local.direction);
    if address.is_unspecified() && keying != Keying::CheckedHandshake {
        // The old way to put on hold (RFC 3264 section 8.4); with ICE, nothing is known yet.
        direction = narrow(direction, Direction::RecvOnly);
    }
    Ok(MediaParameters {
        codec,
        payload_type_send: payload_type,
        payload_type_receive: payload_type,
        telephone_event: formats::pick_event(&formats, codec),
        comfort_noise: formats::pick_comfort_noise(&formats, codec),
        audio_level: extmap::peers_level(
            values(&media.attributes, "extmap").chain(values(&session.attributes, "extmap")),
        ),
        uses_fec: codec == Codec::Opus
            && fmtp::uses_fec(values(&media.attributes, "fmtp"), payload_type),
        ptime: packet_time(session, media, codec),
        direction,
        remote_rtp,
        remote_rtcp: connection::rtcp_address(media, remote_rtp),
        srtp,
        keying,
        signalling_source: None,
        proven: Proven::Anywhere,
    })
}

/// Both sides' keys, where the profile is an encrypted one.
fn srtp_keys(media: &Media, local: &LocalMedia) -> Result<Option<SrtpKeys>, SdpError> {
    let is = |names: [&str; 2]| {
        names
            .iter()
            .any(|name| media.proto.eq_ignore_ascii_case(name))
    };
    if is(["RTP/AVP", "RTP/AVPF"]) {
        let required = local.keys.is_some_and(|keys| keys.required);
        return if required {
            Err(SdpError::Plain)
        } else {
            Ok(None)
        };
    }
    let keys = local
        .keys
        .filter(|_| is(["RTP/SAVP", "RTP/SAVPF"]))
        .ok_or(SdpError::Transport)?;
    let theirs = offered_crypto(media).ok_or(SdpError::Cipher)?.key;
    let ours = keys.key(theirs.suite());
    Ok(Some(SrtpKeys { ours, theirs }))
}

fn offered_crypto(media: &Media) -> Option<Crypto> {
    Crypto::choose(values(&media.attributes, "crypto"))
}

fn crypto_attribute(crypto: Crypto) -> Attribute {
    Attribute::with_value("crypto", crypto.written())
}

fn packet_time(session: &Session, media: &Media, codec: Codec) -> Ptime {
    let number = |name| {
        let mut all = values(&media.attributes, name).chain(values(&session.attributes, name));
        all.next()
            .and_then(|value| value.trim().split('.').next()?.parse::<u32>().ok())
    };
    let wanted = number("ptime").map_or(Ptime::DEFAULT, Ptime::nearest);
    let longest = number("maxptime").filter(|ms| *ms > 0).unwrap_or(u32::MAX);
    let ms = [60, 40, 30, 20, 10]
        .into_iter()
        // An Opus frame has no 30 ms.
        .filter(|ms| codec != Codec::Opus || *ms != 30)
        .find(|ms| *ms <= wanted.ms().min(longest))
        .unwrap_or(10);
    Ptime::nearest(ms)
}

/// What we do: the mirror of what the peer does, narrowed to what we would like.
fn direction(session: &Session, media: &Media, wish: Direction) -> Direction {
    let written = [&media.attributes, &session.attributes]
        .into_iter()
        .find_map(|attributes| {
            attributes
                .iter()
                .find_map(|attribute| match attribute.attribute.trim() {
                    "sendrecv" => Some(Direction::SendRecv),
                    "sendonly" => Some(Direction::RecvOnly),
                    "recvonly" => Some(Direction::SendOnly),
                    "inactive" => Some(Direction::Inactive),
                    _ => None,
                })
        });
    narrow(written.unwrap_or(Direction::SendRecv), wish)
}

const fn narrow(a: Direction, b: Direction) -> Direction {
    match (a.sends() && b.sends(), a.receives() && b.receives()) {
        (true, true) => Direction::SendRecv,
        (true, false) => Direction::SendOnly,
        (false, true) => Direction::RecvOnly,
        (false, false) => Direction::Inactive,
    }
}

const fn direction_word(direction: Direction) -> &'static str {
    match direction {
        Direction::SendRecv => "sendrecv",
        Direction::SendOnly => "sendonly",
        Direction::RecvOnly => "recvonly",
        Direction::Inactive => "inactive",
    }
}

fn answered(
    session: &Session,
    media: &Media,
    parameters: &MediaParameters,
    local: &LocalMedia,
) -> Media {
    let mut payload_types = vec![parameters.payload_type_receive];
    let mut attributes = codec_attributes(parameters.codec, parameters.payload_type_receive);
    if let Some(event) = parameters.telephone_event {
        payload_types.push(event.payload_type);
        attributes.extend(event_attributes(event));
    }
    if let Some(payload_type) = parameters.comfort_noise {
        payload_types.push(payload_type);
        let encoding = formats::comfort_noise(payload_type, parameters.codec);
        attributes.push(Attribute::with_value("rtpmap", encoding));
    }
    attributes.push(Attribute::with_value("ptime", parameters.ptime.ms()));
    attributes.push(Attribute::new(direction_word(parameters.direction)));
    attributes.extend(level_attribute(
        parameters.direction,
        parameters.audio_level,
    ));
    if media.has_attribute("rtcp-mux") {
        attributes.push(Attribute::new("rtcp-mux"));
    }
    if let (Some(keys), Some(offered)) = (parameters.srtp, offered_crypto(media)) {
        attributes.push(crypto_attribute(Crypto {
            tag: offered.tag,
            key: keys.ours,
        }));
    }
    attributes.extend(dtls::answer_attributes(session, media, local));
    audio_line(local.rtp_port, &media.proto, &payload_types, attributes)
}

/// The same line with port 0 (RFC 3264 section 6).
fn refused(media: &Media) -> Media {
    let mut line = audio_line(0, &media.proto, &[], Vec::new());
    media.media.clone_into(&mut line.media);
    media.fmt.clone_into(&mut line.fmt);
    line
}

fn audio_line(port: u16, proto: &str, payload_types: &[u8], attributes: Vec<Attribute>) -> Media {
    let formats: Vec<String> = payload_types.iter().map(u8::to_string).collect();
    Media {
        media: "audio".to_owned(),
        port,
        num_ports: None,
        proto: proto.to_owned(),
        fmt: formats.join(" "),
        media_title: None,
        connections: Vec::new(),
        bandwidths: Vec::new(),
        key: None,
        attributes,
    }
}

fn codec_attributes(codec: Codec, payload_type: u8) -> Vec<Attribute> {
    let (name, clock) = (codec.encoding_name(), codec.rtp_clock());
    let map = |channels: &str| {
        Attribute::with_value("rtpmap", format!("{payload_type} {name}/{clock}{channels}"))
    };
    match codec {
        // Always two channels in the map (RFC 7587 section 7), though we send and want one.
        Codec::Opus => vec![
            map("/2"),
            Attribute::with_value(
                "fmtp",
                format!("{payload_type} useinbandfec=1;stereo=0;sprop-stereo=0"),
            ),
        ],
        Codec::Pcmu | Codec::Pcma | Codec::G722 => vec![map("")],
    }
}

fn event_attributes(event: TelephoneEvent) -> [Attribute; 2] {
    let TelephoneEvent {
        payload_type,
        clock,
    } = event;
    [
        Attribute::with_value("rtpmap", format!("{payload_type} telephone-event/{clock}")),
        Attribute::with_value("fmtp", format!("{payload_type} 0-15")),
    ]
}

/// Taken only where we receive: a header extension can't flow where its stream doesn't (RFC 8285 section 6).
fn level_attribute(direction: Direction, id: Option<u8>) -> Option<Attribute> {
    let id = id.filter(|_| direction.receives())?;
    Some(Attribute::with_value("extmap", extmap::our_level(id)))
}

fn offered_payload_type(codec: Codec) -> u8 {
    codec.static_payload_type().unwrap_or(OPUS_PAYLOAD_TYPE)
}

pub(super) fn values<'a>(
    attributes: &'a [Attribute],
    name: &'static str,
) -> impl Iterator<Item = &'a str> {
    attributes
        .iter()
        .filter(move |a| a.attribute.eq_ignore_ascii_case(name))
        .filter_map(|a| a.value.as_deref())
}

/// The origin's address stays what it was, whichever is sent to (RFC 3264 section 8).
fn write(
    local: &LocalMedia,
    address: IpAddr,
    attributes: Vec<Attribute>,
    medias: Vec<Media>,
) -> Bytes {
    let mut session = Session::new(
        Origin::with_ip_addr(local.session_id, local.session_version, local.address),
        "-",
    );
    session.connection = Some(Connection::from_ip_addr(address));
    session.times = vec![sdp_types::Time::new(0, 0)];
    session.attributes = attributes;
    session.medias = medias;
    let mut bytes = Vec::with_capacity(512);
    // Writing to a Vec cannot fail.
    let _ = session.write(&mut bytes);
    bytes.into()
}

pub(super) fn parse(description: &[u8]) -> Result<Session, SdpError> {
    let session = Session::parse(clean(description).as_bytes()).map_err(|_| SdpError::Malformed)?;
    if session.medias.len() > MEDIA_LINES_MAX {
        Err(SdpError::Malformed)
    } else {
        Ok(session)
    }
}

/// Only the lines that matter here, in valid UTF-8, so that an odd title or bandwidth costs nothing. An
/// `o=` with spaces in its user name is put right.
fn clean(description: &[u8]) -> String {
    let text = String::from_utf8_lossy(description);
    let mut kept = String::with_capacity(text.len());
    for line in text.split(['\r', '\n']) {
        let line = line.trim_end();
        if line.starts_with("o=") {
            let fields: Vec<&str> = line.split_ascii_whitespace().rev().take(5).collect();
            kept.push_str("o=-");
            for field in fields.iter().rev() {
                kept.push(' ');
                kept.push_str(field);
            }
        } else if ["v=", "s=", "c=", "m=", "a="]
            .iter()
            .any(|key| line.starts_with(key))
        {
            kept.extend(line.chars().filter(|c| !c.is_control()));
        } else {
            continue;
        }
        kept.push_str("\r\n");
    }
    kept
}

#[cfg(test)]
pub(super) mod tests;
