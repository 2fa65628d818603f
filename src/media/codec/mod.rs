//! Codecs: payload to PCM and back, 20 ms at a time on the sending side, 10 to 60 ms (Opus up to
//! 120 ms) on the receiving side. Nothing allocates after `new`.

use crate::units::SampleRate;

/// The codecs legs speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Codec {
    /// G.711 mu-law, payload type 0.
    Pcmu,
    /// G.711 A-law, payload type 8.
    Pcma,
    /// G.722, payload type 9; its RTP clock is 8000 though it samples at 16 kHz (RFC 3551 section 4.5.2).
    G722,
    /// Opus, mono, 48 kHz (RFC 7587).
    Opus,
}

impl Codec {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Pcmu, Self::Pcma, Self::G722, Self::Opus];

    /// The rate its PCM has here.
    #[must_use]
    pub const fn sample_rate(self) -> SampleRate {
        match self {
            Self::Pcmu | Self::Pcma => SampleRate::Hz8000,
            Self::G722 => SampleRate::Hz16000,
            Self::Opus => SampleRate::Hz48000,
        }
    }

    /// The rate its RTP timestamps count at.
    #[must_use]
    pub const fn rtp_clock(self) -> u32 {
        match self {
            Self::Pcmu | Self::Pcma | Self::G722 => 8_000,
            Self::Opus => 48_000,
        }
    }

    /// The encoding name in `a=rtpmap` (RFC 3551, RFC 7587).
    #[must_use]
    pub const fn encoding_name(self) -> &'static str {
        match self {
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
            Self::G722 => "G722",
            Self::Opus => "opus",
        }
    }

    /// The payload type RFC 3551 assigns; Opus has none.
    #[must_use]
    pub const fn static_payload_type(self) -> Option<u8> {
        match self {
            Self::Pcmu => Some(0),
            Self::Pcma => Some(8),
            Self::G722 => Some(9),
            Self::Opus => None,
        }
    }
}
