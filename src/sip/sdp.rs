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
use crate::media::parameters::{Direction, Keying, MediaParameters, TelephoneEvent};
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
pub(super) mod tests {
    use super::*;
    use crate::media::srtp::{MasterKey, Suite};
    use crate::sip::sdes::RANDOM_BYTES;

    pub(in crate::sip) fn local() -> LocalMedia {
        LocalMedia {
            address: "198.51.100.1".parse().unwrap(),
            other: None,
            by_other: false,
            rtp_port: 20_000,
            codecs: vec![Codec::Opus, Codec::G722, Codec::Pcma, Codec::Pcmu],
            session_id: 42,
            session_version: 1,
            direction: Direction::SendRecv,
            prefer_own_order: false,
            keys: LocalKeys::new(&[9; RANDOM_BYTES]),
            handshake: None,
        }
    }

    fn offered(media: &str) -> String {
        format!("v=0\r\no=- 1 1 IN IP4 192.0.2.7\r\ns=-\r\nc=IN IP4 192.0.2.7\r\nt=0 0\r\n{media}")
    }

    fn answer_to(media: &str) -> (MediaParameters, String) {
        let (parameters, bytes) = answer(offered(media).as_bytes(), &local()).unwrap();
        (parameters, String::from_utf8(bytes.to_vec()).unwrap())
    }

    fn refusal_of(media: &str) -> SdpError {
        answer(offered(media).as_bytes(), &local()).unwrap_err()
    }

    #[test]
    fn a_plain_phone_gets_its_first_codec_and_its_keys() {
        let (parameters, text) = answer_to(
            "m=audio 4000 RTP/AVP 8 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:30\r\n",
        );
        assert_eq!(
            text,
            "v=0\r\no=- 42 1 IN IP4 198.51.100.1\r\ns=-\r\nc=IN IP4 198.51.100.1\r\nt=0 0\r\n\
             m=audio 20000 RTP/AVP 8 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n\
             a=fmtp:101 0-15\r\na=ptime:30\r\na=sendrecv\r\n"
        );
        let expected = MediaParameters {
            codec: Codec::Pcma,
            payload_type_send: 8,
            payload_type_receive: 8,
            telephone_event: Some(TelephoneEvent {
                payload_type: 101,
                clock: 8000,
            }),
            comfort_noise: None,
            audio_level: None,
            uses_fec: false,
            ptime: Ptime::nearest(30),
            direction: Direction::SendRecv,
            remote_rtp: "192.0.2.7:4000".parse().unwrap(),
            remote_rtcp: "192.0.2.7:4001".parse().unwrap(),
            srtp: None,
            keying: Keying::Signalled,
            signalling_source: None,
        };
        assert_eq!(parameters, expected);
    }

    #[test]
    fn opus_keeps_the_offered_payload_type_and_takes_the_keys_of_its_clock() {
        let offer = "m=audio 4000 RTP/AVPF 96 97 98\r\na=rtpmap:96 OPUS/48000/2\r\n\
            a=rtpmap:97 telephone-event/8000\r\na=rtpmap:98 telephone-event/48000\r\na=rtcp-mux\r\na=ptime:30\r\n";
        let (parameters, text) = answer_to(offer);
        assert_eq!(
            (parameters.codec, parameters.payload_type_send),
            (Codec::Opus, 96)
        );
        assert_eq!(
            parameters.telephone_event,
            Some(TelephoneEvent {
                payload_type: 98,
                clock: 48_000
            })
        );
        assert_eq!(parameters.remote_rtcp, parameters.remote_rtp);
        assert_eq!(parameters.ptime, Ptime::nearest(20));
        assert!(text.contains("m=audio 20000 RTP/AVPF 96 98\r\n"), "{text}");
        assert!(
            text.contains(
                "a=rtpmap:96 opus/48000/2\r\na=fmtp:96 useinbandfec=1;stereo=0;sprop-stereo=0\r\n"
            ),
            "{text}"
        );
        assert!(text.contains("a=rtcp-mux\r\n"), "{text}");
        assert!(!parameters.uses_fec);
        let (parameters, _) = answer_to(&format!("{offer}a=fmtp:96 useinbandfec=1\r\n"));
        assert!(parameters.uses_fec);
        // Only keys at 16000, or at 8000 offered: better than none.
        let wide = offer
            .replace("telephone-event/48000", "telephone-event/16000")
            .replace("telephone-event/8000", "x/1");
        let (parameters, text) = answer_to(&wide);
        let event = parameters.telephone_event.map(|event| event.clock);
        assert_eq!(event, Some(16_000));
        assert!(
            text.contains("a=rtpmap:98 telephone-event/16000\r\n"),
            "{text}"
        );
        let (parameters, _) = answer_to(&offer.replace("telephone-event/48000", "x/1"));
        assert_eq!(
            parameters.telephone_event,
            Some(TelephoneEvent {
                payload_type: 97,
                clock: 8000
            })
        );
    }

    #[test]
    fn comfort_noise_is_taken_where_it_is_offered_for_the_codec() {
        for (offer, line, payload_type) in [
            ("m=audio 4000 RTP/AVP 8 13\r\n", "8 13", Some(13)),
            (
                "m=audio 4000 RTP/AVP 0 101 13\r\na=rtpmap:13 cn/8000\r\n",
                "0 13",
                Some(13),
            ),
            (
                "m=audio 4000 RTP/AVP 9 98\r\na=rtpmap:98 CN/8000\r\n",
                "9 98",
                Some(98),
            ),
            (
                "m=audio 4000 RTP/AVP 9 98\r\na=rtpmap:98 CN/16000\r\n",
                "9",
                None,
            ),
            (
                "m=audio 4000 RTP/AVP 96 13\r\na=rtpmap:96 opus/48000/2\r\n",
                "96",
                None,
            ),
        ] {
            let (parameters, text) = answer_to(offer);
            assert_eq!(parameters.comfort_noise, payload_type, "{offer}");
            let line = format!("m=audio 20000 RTP/AVP {line}\r\n");
            assert!(text.contains(&line), "{text}");
            let named = payload_type.map(|number| format!("a=rtpmap:{number} CN/8000\r\n"));
            assert_eq!(text.contains(" CN/"), named.is_some(), "{text}");
            assert!(named.is_none_or(|named| text.contains(&named)), "{text}");
        }
    }

    #[test]
    fn a_peer_that_tells_levels_is_asked_for_them_and_others_are_not() {
        let line = |text: &str| {
            text.lines()
                .find(|line| line.starts_with("a=extmap"))
                .map(str::to_owned)
        };
        let urn = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
        let audio = "m=audio 4000 RTP/AVP 0\r\n";
        for offer in [
            format!("{audio}a=extmap:2 urn:x\r\na=extmap:5 {urn} vad=off\r\n"),
            format!("a=extmap:5/sendonly {urn}\r\n{audio}"),
        ] {
            let (parameters, text) = answer_to(&offer);
            assert_eq!(parameters.audio_level, Some(5), "{offer}");
            assert_eq!(line(&text), Some(format!("a=extmap:5/recvonly {urn}")));
        }
        let (parameters, text) = answer_to(&format!("{audio}a=extmap:5/recvonly {urn}\r\n"));
        assert_eq!((parameters.audio_level, line(&text)), (None, None));
        // Who only listens to us tells nothing; what was agreed on holds when he speaks again.
        let (parameters, text) = answer_to(&format!("{audio}a=recvonly\r\na=extmap:5 {urn}\r\n"));
        assert_eq!((parameters.audio_level, line(&text)), (Some(5), None));
        let text = String::from_utf8(offer(&local()).to_vec()).unwrap();
        assert_eq!(line(&text), Some(format!("a=extmap:1/recvonly {urn}")));
        let taken = offered(&format!("{audio}a=extmap:1/sendonly {urn}\r\n"));
        assert_eq!(
            accept(taken.as_bytes(), &local()).unwrap().audio_level,
            Some(1)
        );
        assert_eq!(
            accept(offered(audio).as_bytes(), &local())
                .unwrap()
                .audio_level,
            None
        );
    }

    const CRYPTO: &str = "a=crypto:3 AES_CM_128_HMAC_SHA1_32 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^20\r\n";

    #[test]
    fn an_encrypted_line_is_answered_with_a_key_of_ours_for_the_same_cipher() {
        let (parameters, text) = answer_to(&format!("m=audio 4000 RTP/SAVP 0\r\n{CRYPTO}"));
        let keys = parameters.srtp.unwrap();
        let suite = Suite::AesCm128HmacSha1Tag32;
        assert_eq!(keys.ours, MasterKey::new(suite, &[9; 30]).unwrap());
        assert_eq!(keys.theirs.suite(), suite);
        assert_ne!(keys.theirs, keys.ours);
        assert!(text.contains("m=audio 20000 RTP/SAVP 0\r\n"), "{text}");
        let ours = "a=crypto:3 AES_CM_128_HMAC_SHA1_32 inline:CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJ\r\n";
        assert!(text.contains(ours), "{text}");
    }

    #[test]
    fn once_encrypted_our_own_offers_are_too_and_take_no_plain_answer() {
        let mut local = local();
        let offer = offered(&format!("m=audio 4000 RTP/SAVP 0\r\n{CRYPTO}"));
        local.agreed(&answer(offer.as_bytes(), &local).unwrap().0);
        let text = String::from_utf8(super::offer(&local).to_vec()).unwrap();
        assert!(text.contains("m=audio 20000 RTP/SAVP "), "{text}");
        assert!(
            text.contains("a=crypto:1 AES_CM_128_HMAC_SHA1_32 "),
            "{text}"
        );
        let taken = |line: &str| accept(offered(line).as_bytes(), &local);
        let plain = taken("m=audio 4000 RTP/AVP 0\r\n");
        assert_eq!(plain.unwrap_err(), SdpError::Cipher);
        let secured = taken(&format!("m=audio 4000 RTP/SAVP 0\r\n{CRYPTO}"));
        assert!(secured.is_ok());
        let other = taken(&format!(
            "m=audio 4000 RTP/SAVP 0\r\n{}",
            CRYPTO.replace("_32", "_80")
        ));
        assert_eq!(other.unwrap_err(), SdpError::Cipher);
    }

    #[test]
    fn who_has_no_keys_speaks_no_encrypted_audio() {
        let plain = LocalMedia {
            keys: None,
            ..local()
        };
        let offer = offered(&format!("m=audio 4000 RTP/SAVP 0\r\n{CRYPTO}"));
        assert_eq!(
            answer(offer.as_bytes(), &plain).unwrap_err(),
            SdpError::Transport
        );
    }

    #[test]
    fn who_must_encrypt_takes_and_offers_nothing_else() {
        let strict = LocalMedia {
            keys: local().keys.map(LocalKeys::required),
            ..local()
        };
        let plain = offered("m=audio 4000 RTP/AVP 0\r\n");
        assert_eq!(
            answer(plain.as_bytes(), &strict).unwrap_err(),
            SdpError::Plain
        );
        let both = offered(&format!(
            "m=audio 4000 RTP/AVP 0\r\nm=audio 4002 RTP/SAVP 0\r\n{CRYPTO}"
        ));
        let (parameters, text) = answer(both.as_bytes(), &strict).unwrap();
        assert!(parameters.srtp.is_some() && parameters.remote_rtp.port() == 4002);
        assert!(String::from_utf8_lossy(&text).contains("m=audio 0 RTP/AVP 0"));
        let text = String::from_utf8(offer(&strict).to_vec()).unwrap();
        assert!(
            text.contains("RTP/SAVP") && text.contains("a=crypto:1 "),
            "{text}"
        );
        let refused = "m=audio 4000 RTP/AVP 0\r\n";
        assert_eq!(
            accept(offered(refused).as_bytes(), &strict).unwrap_err(),
            SdpError::Plain
        );
    }

    #[test]
    fn the_offerers_order_decides_unless_told_otherwise() {
        let offer = offered("m=audio 4000 RTP/AVP 18 0 9 96\r\na=rtpmap:96 opus/48000/2\r\n");
        let codec = |local: &LocalMedia| answer(offer.as_bytes(), local).unwrap().0.codec;
        assert_eq!(codec(&local()), Codec::Pcmu);
        assert_eq!(
            codec(&LocalMedia {
                prefer_own_order: true,
                ..local()
            }),
            Codec::Opus
        );
        assert_eq!(
            codec(&LocalMedia {
                codecs: vec![Codec::G722],
                ..local()
            }),
            Codec::G722
        );
    }

    #[test]
    fn other_lines_are_refused_in_order() {
        let (_, text) = answer_to(
            "m=video 5000 RTP/AVP 31\r\nm=audio 0 RTP/AVP 0\r\nm=audio 4000 RTP/SAVP 0\r\nm=audio 4002 RTP/AVP 0\r\n\
             m=audio 4004 RTP/AVP 8\r\nm=image 6000 udptl t38\r\nm=application 7000 UDP/DTLS/SCTP webrtc-datachannel\r\n",
        );
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("m=")).collect();
        assert_eq!(
            lines,
            [
                "m=video 0 RTP/AVP 31",
                "m=audio 0 RTP/AVP 0",
                "m=audio 0 RTP/SAVP 0",
                "m=audio 20000 RTP/AVP 0",
                "m=audio 0 RTP/AVP 8",
                "m=image 0 udptl t38",
                "m=application 0 UDP/DTLS/SCTP webrtc-datachannel",
            ]
        );
    }

    #[test]
    fn offers_without_a_way_say_why() {
        assert_eq!(refusal_of(""), SdpError::NoAudio);
        assert_eq!(refusal_of("m=audio 0 RTP/AVP 0\r\n"), SdpError::NoAudio);
        assert_eq!(refusal_of("m=audio 4000 RTP/SAVP 0\r\n"), SdpError::Cipher);
        assert_eq!(
            refusal_of("m=audio 4000 UDP/TLS/RTP/SAVPF 0\r\n"),
            SdpError::Transport
        );
        assert_eq!(
            refusal_of("m=audio 4000 RTP/AVP 18 3 101\r\na=rtpmap:101 telephone-event/8000\r\n"),
            SdpError::Codec
        );
        assert_eq!(
            refusal_of("m=audio 4000 RTP/AVP 0\r\nc=IN IP4 media.example\r\n"),
            SdpError::Address
        );
        assert_eq!(
            refusal_of("m=audio 4000 RTP/AVP 0\r\nc=IN IP4 224.0.1.1/127\r\n"),
            SdpError::Address
        );
        assert_eq!(
            refusal_of("m=audio 70000 RTP/AVP 0\r\n"),
            SdpError::Malformed
        );
        assert_eq!(answer(b"nonsense", &local()).unwrap_err().status(), 400);
        assert_eq!(SdpError::Codec.status(), 488);
    }

    #[test]
    fn directions_are_mirrored_at_both_levels_and_hold_by_address_is_understood() {
        for (session, media, ours, word) in [
            ("", "", Direction::SendRecv, "sendrecv"),
            ("", "a=sendonly\r\n", Direction::RecvOnly, "recvonly"),
            ("", "a=recvonly\r\n", Direction::SendOnly, "sendonly"),
            ("", "a=inactive\r\n", Direction::Inactive, "inactive"),
            ("a=sendonly\r\n", "", Direction::RecvOnly, "recvonly"),
            (
                "a=inactive\r\n",
                "a=sendrecv\r\n",
                Direction::SendRecv,
                "sendrecv",
            ),
            ("", "c=IN IP4 0.0.0.0\r\n", Direction::RecvOnly, "recvonly"),
            (
                "",
                "c=IN IP4 0.0.0.0\r\na=sendonly\r\n",
                Direction::RecvOnly,
                "recvonly",
            ),
            (
                "",
                "c=IN IP4 0.0.0.0\r\na=recvonly\r\n",
                Direction::Inactive,
                "inactive",
            ),
        ] {
            let (parameters, text) =
                answer_to(&format!("{session}m=audio 4000 RTP/AVP 0\r\n{media}"));
            assert_eq!(parameters.direction, ours, "{session}{media}");
            assert!(text.contains(&format!("a={word}\r\n")), "{text}");
        }
        let listener = LocalMedia {
            direction: Direction::SendOnly,
            ..local()
        };
        let offer = offered("m=audio 4000 RTP/AVP 0\r\n");
        assert_eq!(
            answer(offer.as_bytes(), &listener).unwrap().0.direction,
            Direction::SendOnly
        );
    }

    #[test]
    fn packet_times_are_rounded_and_capped() {
        for (attributes, ms) in [
            ("", 20),
            ("a=ptime:10\r\n", 10),
            ("a=ptime:40\r\na=maxptime:30\r\n", 30),
            ("a=maxptime:10\r\n", 10),
            ("a=ptime:20\r\na=maxptime:150\r\n", 20),
            ("a=ptime:999\r\n", 60),
            ("a=ptime:x\r\n", 20),
            ("a=maxptime:0\r\n", 20),
            ("a=ptime:5\r\na=maxptime:5\r\n", 10),
        ] {
            let (parameters, _) = answer_to(&format!("m=audio 4000 RTP/AVP 0\r\n{attributes}"));
            assert_eq!(parameters.ptime.ms(), ms, "{attributes}");
        }
    }

    #[test]
    fn rtcp_has_its_own_port_where_it_is_written() {
        let rtcp = |attributes: &str| {
            answer_to(&format!("m=audio 4000 RTP/AVP 0\r\n{attributes}"))
                .0
                .remote_rtcp
                .to_string()
        };
        assert_eq!(rtcp(""), "192.0.2.7:4001");
        assert_eq!(rtcp("a=rtcp:5001\r\n"), "192.0.2.7:5001");
        assert_eq!(rtcp("a=rtcp:5001 IN IP4 192.0.2.8\r\n"), "192.0.2.8:5001");
        assert_eq!(rtcp("a=rtcp:0\r\n"), "192.0.2.7:4001");
    }

    #[test]
    fn untidy_descriptions_are_read() {
        for text in [
            "v=0\r\nc=IN IP4 192.0.2.7\r\nm=audio 4000 RTP/AVP 0\r\n",
            "v=0\no=- 1 1 IN IP4 192.0.2.7\nc=IN IP4 192.0.2.7\nm=audio 4000 RTP/AVP 0\n",
            "v=0\r\no=Some Body 1 1 IN IP4 192.0.2.7\r\ns=\r\nc=IN IP4 192.0.2.7\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0 \r\n",
            "v=0\r\no=- 99999999999999999999999 1 IN IP4 x\r\ns=a\r\ni=b\r\nb=x\r\nc=IN IP4 192.0.2.7\r\nz=?\r\nm=audio 4000/1 RTP/AVP 0\r\ny=1\r\n",
        ] {
            let (parameters, _) = answer(text.as_bytes(), &local()).unwrap();
            assert_eq!(
                parameters.remote_rtp.to_string(),
                "192.0.2.7:4000",
                "{text}"
            );
        }
        let latin_1 = [
            &b"v=0\r\no=Jos\xe9 1 1 IN IP4 192.0.2.7\r\ns=Caff\xe9\r\nc=IN IP4 192.0.2.7\r\n"[..],
            b"m=audio 4000 RTP/AVP 0\r\n",
        ];
        assert!(answer(&latin_1.concat(), &local()).is_ok());
    }

    #[test]
    fn ipv6_is_written_and_read() {
        let local = LocalMedia {
            address: "2001:db8::1".parse().unwrap(),
            ..local()
        };
        let offer = "v=0\r\no=- 1 1 IN IP6 2001:db8::7\r\ns=-\r\nc=IN IP6 2001:db8::7\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
        let (parameters, text) = answer(offer.as_bytes(), &local).unwrap();
        assert_eq!(parameters.remote_rtp.to_string(), "[2001:db8::7]:4000");
        assert!(String::from_utf8_lossy(&text).contains("c=IN IP6 2001:db8::1\r\n"));
    }

    #[test]
    fn our_offer_and_the_answer_to_it_agree() {
        let caller = LocalMedia {
            codecs: vec![Codec::Opus, Codec::Pcmu],
            rtp_port: 30_000,
            ..local()
        };
        let text = String::from_utf8(offer(&caller).to_vec()).unwrap();
        assert!(
            text.contains("m=audio 30000 RTP/AVP 107 0 101 102\r\n"),
            "{text}"
        );
        let (called, reply) = answer(text.as_bytes(), &local()).unwrap();
        let calling = accept(&reply, &caller).unwrap();
        assert_eq!((called.codec, calling.codec), (Codec::Opus, Codec::Opus));
        assert_eq!(calling.telephone_event, called.telephone_event);
        assert_eq!(calling.remote_rtp.to_string(), "198.51.100.1:20000");
        // A peer that answers with another payload type: we send its, and receive ours.
        let other =
            offered("m=audio 4000 RTP/AVP 120\r\na=rtpmap:120 opus/48000/2\r\na=recvonly\r\n");
        let calling = accept(other.as_bytes(), &caller).unwrap();
        assert_eq!(
            (calling.payload_type_send, calling.payload_type_receive),
            (120, 107)
        );
        // Said again within the call: what we described goes on holding for what we receive.
        let (again, _) = answer(other.as_bytes(), &caller).unwrap();
        assert_eq!(again.payload_type_receive, 120);
        let again = again.receiving_as(&calling);
        assert_eq!(
            (again.payload_type_send, again.payload_type_receive),
            (120, 107)
        );
        let pcmu = offered("m=audio 4000 RTP/AVP 0\r\n");
        let (pcmu, _) = answer(pcmu.as_bytes(), &caller).unwrap();
        assert_eq!(pcmu.receiving_as(&calling).payload_type_receive, 0);
        assert_eq!(
            (calling.direction, calling.telephone_event),
            (Direction::SendOnly, None)
        );
        assert_eq!(
            accept(offered("m=audio 0 RTP/AVP 0\r\n").as_bytes(), &caller),
            Err(SdpError::NoAudio)
        );
    }

    #[test]
    fn broken_descriptions_never_panic() {
        let good = offered(
            "m=audio 4000 RTP/AVP 96 9 8 0 101\r\nc=IN IP4 192.0.2.9\r\na=rtpmap:96 opus/48000/2\r\n\
             a=rtpmap:101 telephone-event/8000\r\na=ptime:20\r\na=maxptime:60\r\na=rtcp:4001 IN IP4 192.0.2.9\r\nm=video 5 RTP/AVP 31\r\n",
        );
        let mut state = 0x5D9_u64;
        let mut roll = |bound: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % bound
        };
        let mut readable = 0;
        for _ in 0..30_000 {
            let mut bytes = good.clone().into_bytes();
            for _ in 0..=roll(5) {
                if bytes.is_empty() {
                    break;
                }
                let at = roll(bytes.len());
                match roll(4) {
                    0 => bytes[at] = roll(256) as u8,
                    1 => drop(bytes.drain(at..(at + roll(8)).min(bytes.len()).max(at))),
                    2 => bytes.insert(at, b"=/: 9\r\n"[roll(7)]),
                    _ => bytes.truncate(at.max(8)),
                }
            }
            readable += usize::from(answer(&bytes, &local()).is_ok());
            let _ = accept(&bytes, &local());
        }
        assert!((5_000..30_000).contains(&readable), "{readable}");
    }
}
