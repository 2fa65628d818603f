//! The payload types of a line, and what they stand for: by `a=rtpmap` (RFC 8866 section 6.6), else by RFC 3551.

#![deny(clippy::indexing_slicing)]

use sdp_types::Media;

use crate::media::codec::Codec;
use crate::media::parameters::TelephoneEvent;
use crate::sip::sdp::{self, LocalMedia};

/// A payload type and what it stands for.
pub(super) struct Format {
    payload_type: u8,
    name: String,
    clock: u32,
}

/// The payload types of a line that say what they are.
pub(super) fn of(media: &Media) -> Vec<Format> {
    media
        .fmt
        .split_ascii_whitespace()
        .filter_map(|text| text.parse().ok().filter(|payload_type| *payload_type < 128))
        .filter_map(|payload_type| mapped(media, payload_type).or_else(|| assigned(payload_type)))
        .collect()
}

/// By `a=rtpmap`.
fn mapped(media: &Media, payload_type: u8) -> Option<Format> {
    sdp::values(&media.attributes, "rtpmap").find_map(|value| {
        let (number, encoding) = value.trim().split_once(' ')?;
        if number.parse() != Ok(payload_type) {
            return None;
        }
        let mut parts = encoding.trim().split('/');
        let name = parts.next()?.to_owned();
        let clock = parts.next()?.trim().parse().ok()?;
        Some(Format {
            payload_type,
            name,
            clock,
        })
    })
}

/// By RFC 3551 table 4.
fn assigned(payload_type: u8) -> Option<Format> {
    if payload_type == COMFORT_NOISE {
        return Some(Format {
            payload_type,
            name: COMFORT_NOISE_NAME.to_owned(),
            clock: 8000,
        });
    }
    let codec = Codec::ALL
        .into_iter()
        .find(|codec| codec.static_payload_type() == Some(payload_type))?;
    Some(Format {
        payload_type,
        name: codec.encoding_name().to_owned(),
        clock: codec.rtp_clock(),
    })
}

impl Format {
    fn codec(&self) -> Option<Codec> {
        Codec::ALL.into_iter().find(|codec| {
            // Some write G722/16000, which RFC 3551 section 4.5.2 forbids but everybody understands.
            let clock_fits =
                self.clock == codec.rtp_clock() || (*codec == Codec::G722 && self.clock == 16_000);
            clock_fits && self.name.eq_ignore_ascii_case(codec.encoding_name())
        })
    }
}

/// The codec that is spoken, and its payload type.
pub(super) fn pick_codec(formats: &[Format], local: &LocalMedia) -> Option<(Codec, u8)> {
    let known: Vec<(Codec, u8)> = formats
        .iter()
        .filter_map(|format| Some((format.codec()?, format.payload_type)))
        .filter(|(codec, _)| local.codecs.contains(codec))
        .collect();
    if !local.prefer_own_order {
        return known.first().copied();
    }
    local
        .codecs
        .iter()
        .find_map(|own| known.iter().find(|(codec, _)| codec == own))
        .copied()
}

/// telephone-event with the codec's clock (RFC 4733 section 2.1), else with 8000 or 16000, which some offer
/// alone.
pub(super) fn pick_event(formats: &[Format], codec: Codec) -> Option<TelephoneEvent> {
    let with_clock = |clock: u32| {
        formats
            .iter()
            .find(|format| {
                format.clock == clock && format.name.eq_ignore_ascii_case("telephone-event")
            })
            .map(|format| TelephoneEvent {
                payload_type: format.payload_type,
                clock,
            })
    };
    with_clock(codec.rtp_clock())
        .or_else(|| with_clock(8000))
        .or_else(|| with_clock(16_000))
}

/// RFC 3389, of the codec's clock; Opus has silence of its own.
pub(super) fn pick_comfort_noise(formats: &[Format], codec: Codec) -> Option<u8> {
    let found = formats.iter().find(|format| {
        format.clock == codec.rtp_clock() && format.name.eq_ignore_ascii_case(COMFORT_NOISE_NAME)
    });
    Some(found?.payload_type)
}

/// Comfort noise beside a codec, as `a=rtpmap` has it.
pub(super) fn comfort_noise(payload_type: u8, codec: Codec) -> String {
    format!("{payload_type} {COMFORT_NOISE_NAME}/{}", codec.rtp_clock())
}

/// RFC 3389 section 4.
const COMFORT_NOISE_NAME: &str = "CN";
/// By RFC 3551 table 4, at 8000.
const COMFORT_NOISE: u8 = 13;
