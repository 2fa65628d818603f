//! What offer and answer agreed on for one leg's audio (RFC 3264), as the media side needs it.

use std::net::{IpAddr, SocketAddr};

use crate::media::codec::Codec;
use crate::media::srtp::SrtpKeys;
use crate::units::Ptime;

/// Which way audio flows, seen from voicebridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Both ways.
    SendRecv,
    /// We send only: the peer put us on hold, or only listens.
    SendOnly,
    /// We receive only.
    RecvOnly,
    /// Neither.
    Inactive,
}

impl Direction {
    /// Does voicebridge send audio?
    #[must_use]
    pub const fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// Does voicebridge take the peer's audio?
    #[must_use]
    pub const fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }
}

/// The agreed telephone-event payload (RFC 4733).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TelephoneEvent {
    /// RTP payload type.
    pub payload_type: u8,
    /// RTP clock: 8000, 16000 or 48000.
    pub clock: u32,
}

/// How the keys come that audio is encrypted by, if it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Keying {
    /// By signalling (SDES), or there are none.
    #[default]
    Signalled,
    /// By a handshake in audio's own path (RFC 5764), with who is where signalling says.
    Handshake,
    /// By one with who has shown by checks (ICE, RFC 8445) where he is: media goes there alone.
    CheckedHandshake,
}

/// One leg's agreed audio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaParameters {
    /// The codec both sides send.
    pub codec: Codec,
    /// Its payload type in packets that we send.
    pub payload_type_send: u8,
    /// Its payload type in packets that we receive.
    pub payload_type_receive: u8,
    /// Keys by RFC 4733 in packets that we receive; `None`: in-band detection takes over (G.711, G.722).
    pub telephone_event: Option<TelephoneEvent>,
    /// Comfort noise payload type (RFC 3389), where agreed.
    pub comfort_noise: Option<u8>,
    /// By which identifier the packets that we receive may tell their level (RFC 6464).
    pub audio_level: Option<u8>,
    /// The peer makes use of copies of earlier frames in Opus packets (`useinbandfec`, RFC 7587 section 6.1).
    pub uses_fec: bool,
    /// Packet time that we send with.
    pub ptime: Ptime,
    /// Which way audio flows.
    pub direction: Direction,
    /// Where the peer says it receives RTP.
    pub remote_rtp: SocketAddr,
    /// Where the peer says it receives RTCP; equal to `remote_rtp` when multiplexed (RFC 5761).
    pub remote_rtcp: SocketAddr,
    /// The keys of both sides, where audio is encrypted.
    pub srtp: Option<SrtpKeys>,
    /// How they come: where they come by a handshake, nothing is sent or taken before they are there.
    pub keying: Keying,
    /// The address its signalling came from: a phone behind a NAT sends its media from there too.
    pub signalling_source: Option<IpAddr>,
    /// Where audio may go that nothing has come from.
    pub proven: Proven,
}

/// Where audio may flow freely. Elsewhere what comes from there pays for it, lest somebody has it sent to a third.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proven {
    /// Wherever the peer is: somebody speaks for him.
    Anywhere,
    /// To this address alone, which has shown that what is sent there arrives.
    At(IpAddr),
    /// Nowhere yet.
    Nowhere,
}

impl Proven {
    /// May audio flow there?
    #[must_use]
    pub fn covers(self, address: IpAddr) -> bool {
        match self {
            Self::Anywhere => true,
            Self::At(proven) => proven.to_canonical() == address.to_canonical(),
            Self::Nowhere => false,
        }
    }
}

impl MediaParameters {
    /// The codec both ways and nothing besides: no keys, no encryption, RTCP one port above RTP (RFC 3550
    /// section 11). Opus, which has no payload type of its own, has 96.
    #[must_use]
    pub fn plain(codec: Codec, remote_rtp: SocketAddr) -> Self {
        let payload_type = codec.static_payload_type().unwrap_or(96);
        let rtcp_port = remote_rtp.port().wrapping_add(1);
        Self {
            codec,
            payload_type_send: payload_type,
            payload_type_receive: payload_type,
            telephone_event: None,
            comfort_noise: None,
            audio_level: None,
            uses_fec: false,
            ptime: Ptime::DEFAULT,
            direction: Direction::SendRecv,
            remote_rtp,
            remote_rtcp: SocketAddr::new(remote_rtp.ip(), rtcp_port),
            srtp: None,
            keying: Keying::Signalled,
            signalling_source: None,
            proven: Proven::Anywhere,
        }
    }

    /// The same, but where the codec is, packets come by the payload types of `before`.
    #[must_use]
    pub fn receiving_as(self, before: &Self) -> Self {
        if self.codec != before.codec {
            return self;
        }
        Self {
            payload_type_receive: before.payload_type_receive,
            telephone_event: before.telephone_event,
            comfort_noise: before.comfort_noise,
            ..self
        }
    }

    /// Is audio to be encrypted by keys that aren't there yet?
    #[must_use]
    pub fn awaits_keys(&self) -> bool {
        self.keying != Keying::Signalled && self.srtp.is_none()
    }
}
