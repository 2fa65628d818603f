//! Units and identifiers: what would otherwise be a bare number crossing a module.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// The mixing grid: every bridge mixes 20 ms at a time.
pub const FRAME: Duration = Duration::from_millis(20);

/// Samples in the longest 20 ms frame (48 kHz).
pub const FRAME_SAMPLES_MAX: usize = 960;

/// A sampling rate that legs and sums use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SampleRate {
    /// 8 kHz: G.711.
    Hz8000,
    /// 16 kHz: G.722.
    Hz16000,
    /// 48 kHz: Opus.
    Hz48000,
}

impl SampleRate {
    /// All rates, narrowest first.
    pub const ALL: [Self; 3] = [Self::Hz8000, Self::Hz16000, Self::Hz48000];

    /// Samples per second.
    #[must_use]
    pub const fn hz(self) -> u32 {
        match self {
            Self::Hz8000 => 8_000,
            Self::Hz16000 => 16_000,
            Self::Hz48000 => 48_000,
        }
    }

    /// Samples in one 20 ms frame.
    #[must_use]
    pub const fn frame_samples(self) -> usize {
        self.hz() as usize / 50
    }

    /// Position in [`Self::ALL`], for tables kept per rate.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Hz8000 => 0,
            Self::Hz16000 => 1,
            Self::Hz48000 => 2,
        }
    }
}

/// An RTP sequence number (RFC 3550 section 5.1), wrapping at 16 bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SeqNo(pub u16);

impl SeqNo {
    /// The next number on the wire.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }

    /// Extends to 64 bit by the shortest way from `last`.
    #[must_use]
    pub const fn extend(self, last: ExtSeqNo) -> ExtSeqNo {
        let step = self.0.wrapping_sub(last.0 as u16) as i16;
        ExtSeqNo(last.0.wrapping_add_signed(step as i64))
    }
}

/// A sequence number extended by its wraps (RFC 3550 appendix A.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExtSeqNo(pub u64);

/// A duration or position in ticks of an RTP clock; the clock belongs to the payload type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RtpTicks(pub u32);

impl RtpTicks {
    /// Advances, wrapping at 32 bit.
    #[must_use]
    pub const fn plus(self, ticks: u32) -> Self {
        Self(self.0.wrapping_add(ticks))
    }

    /// Signed distance from `earlier`, by the shortest way.
    #[must_use]
    pub const fn since(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0) as i32
    }
}

/// An RTP synchronisation source (RFC 3550 section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ssrc(pub u32);

/// A level or gain in decibels.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Decibels(pub f32);

impl Decibels {
    /// No change.
    pub const IDENTITY: Self = Self(0.0);

    /// As a factor on amplitudes.
    #[must_use]
    pub fn as_amplitude(self) -> f32 {
        10.0_f32.powf(self.0 / 20.0)
    }

    /// From a factor on powers, to a ten-thousandth of a dB: the same as [`Self::from_amplitude`] of
    /// its root, at a tenth of the time.
    #[must_use]
    pub fn from_power(factor: f32) -> Self {
        if factor <= 2.0e-13 {
            return Self(-127.0);
        }
        // factor = mantissa * 2^exponent with the mantissa around 1, where the series for the
        // logarithm, 2 (t + t^3/3 + t^5/5 ...), is short.
        let bits = factor.to_bits() as i32;
        let exponent = (bits - ROOT_HALF_BITS) >> 23;
        let mantissa = f32::from_bits((bits - (exponent << 23)) as u32);
        let t = (mantissa - 1.0) / (mantissa + 1.0);
        let square = t * t;
        let logarithm = t * (2.0 + square * (2.0 / 3.0 + square * 0.4));
        Self(exponent as f32 * DB_PER_OCTAVE + logarithm * DB_PER_NEPER)
    }

    /// From a factor on amplitudes; zero gives -127 dB, the floor of RFC 6464.
    #[must_use]
    pub fn from_amplitude(factor: f32) -> Self {
        if factor <= 4.5e-7 {
            Self(-127.0)
        } else {
            Self(20.0 * factor.log10())
        }
    }
}

/// The bits of the root of one half as `f32`.
const ROOT_HALF_BITS: i32 = 0x3F35_04F3;
/// 10 log10(2) and 10 log10(e).
const DB_PER_OCTAVE: f32 = 3.010_3;
const DB_PER_NEPER: f32 = 4.342_945;

/// Packet time: how much audio a packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ptime(u8);

impl Ptime {
    /// What is used where the peer does not ask for another.
    pub const DEFAULT: Self = Self(20);

    /// Rounds to the nearest of 10, 20, 30, 40, 60 ms.
    #[must_use]
    pub const fn nearest(ms: u32) -> Self {
        Self(match ms {
            0..=14 => 10,
            15..=24 => 20,
            25..=34 => 30,
            35..=49 => 40,
            _ => 60,
        })
    }

    /// Milliseconds.
    #[must_use]
    pub const fn ms(self) -> u32 {
        self.0 as u32
    }
}

/// A leg: one participant's media, from opening to closing. Never reused within a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LegId(pub u64);

/// A bridge: the mix of one meeting on one node. Never reused within a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BridgeId(pub u64);

/// A key of the telephone keypad (RFC 4733 events 0 to 15). Prints as `***`: keys make up PINs.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key(u8);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(***)")
    }
}

impl Key {
    /// `*`
    pub const STAR: Self = Self(10);
    /// `#`
    pub const HASH: Self = Self(11);

    /// From an RFC 4733 event code; only the keypad's 16.
    #[must_use]
    pub const fn from_event(event: u8) -> Option<Self> {
        if event < 16 { Some(Self(event)) } else { None }
    }

    /// From the character printed on the key.
    #[must_use]
    pub const fn from_char(c: char) -> Option<Self> {
        match c {
            '0'..='9' => Some(Self(c as u8 - b'0')),
            '*' => Some(Self::STAR),
            '#' => Some(Self::HASH),
            'A'..='D' => Some(Self(c as u8 - b'A' + 12)),
            'a'..='d' => Some(Self(c as u8 - b'a' + 12)),
            _ => None,
        }
    }

    /// The RFC 4733 event code.
    #[must_use]
    pub const fn event(self) -> u8 {
        self.0
    }

    /// 0 to 9 for the digits, `None` for the rest.
    #[must_use]
    pub const fn digit(self) -> Option<u8> {
        if self.0 < 10 { Some(self.0) } else { None }
    }

    /// The character printed on the key.
    #[must_use]
    pub const fn as_char(self) -> char {
        match self.0 {
            0..=9 => (b'0' + self.0) as char,
            10 => '*',
            11 => '#',
            n => (b'A' + n - 12) as char,
        }
    }
}

/// A language that callers are spoken to in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Language {
    /// Italian.
    Italian,
    /// English.
    English,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Italian, Self::English];

    /// ISO 639-1.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Italian => "it",
            Self::English => "en",
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// A language that is not spoken here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown language; allowed: it, en")]
pub struct UnknownLanguage;

impl FromStr for Language {
    type Err = UnknownLanguage;

    /// Accepts `it`, `it-IT`, `it_IT`, any case.
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let primary = s.split(['-', '_']).next().unwrap_or_default();
        Self::ALL
            .into_iter()
            .find(|l| l.code().eq_ignore_ascii_case(primary))
            .ok_or(UnknownLanguage)
    }
}

/// Whose recordings are heard before all others: an organisation's, by its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Brand(Arc<str>);

impl Brand {
    /// Of the organisation of this name.
    #[must_use]
    pub fn of(organisation: &str) -> Self {
        Self(organisation.into())
    }

    /// The organisation's name.
    #[must_use]
    pub fn organisation(&self) -> &str {
        &self.0
    }
}

/// How somebody is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voice {
    /// In which language.
    pub language: Language,
    /// With whose recordings; `None`: with those that are everybody's.
    pub brand: Option<Brand>,
}

impl Voice {
    /// With recordings that are everybody's.
    #[must_use]
    pub const fn everybodys(language: Language) -> Self {
        Self {
            language,
            brand: None,
        }
    }

    /// Goes on in this language, where one is asked for.
    pub const fn speak(&mut self, language: Option<Language>) {
        if let Some(language) = language {
            self.language = language;
        }
    }
}

/// A place in an Asterisk's dialplan. The extension may be somebody's number: it prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct DialplanPlace {
    context: String,
    extension: String,
    priority: u16,
}

impl DialplanPlace {
    /// What a context may be called.
    pub const CONTEXT: &'static str = "must be 1 to 79 letters, digits, '.', '-' or '_'";
    /// What an extension may be.
    pub const EXTENSION: &'static str =
        "must be 1 to 79 letters, digits, '*', '#', '+', '.', '-' or '_'";
    /// The highest priority, and what is said of one out of range.
    pub const PRIORITY: (u16, &'static str) = (9_999, "must be 1 to 9999");

    /// `None`: one of them isn't what Asterisk takes for one. No character is allowed that means something else
    /// there, such as a comma.
    #[must_use]
    pub fn new(context: &str, extension: &str, priority: u16) -> Option<Self> {
        let fits = Self::is_context(context)
            && Self::is_extension(extension)
            && (1..=Self::PRIORITY.0).contains(&priority);
        fits.then(|| Self {
            context: context.to_owned(),
            extension: extension.to_owned(),
            priority,
        })
    }

    /// May a context be called that?
    #[must_use]
    pub fn is_context(text: &str) -> bool {
        is_of(text, b".-_")
    }

    /// Can it be dialled? A leading `_` would make a pattern of it.
    #[must_use]
    pub fn is_extension(text: &str) -> bool {
        is_of(text, b"*#+.-_") && !text.starts_with('_')
    }

    /// The context.
    #[must_use]
    pub fn context(&self) -> &str {
        &self.context
    }

    /// The extension in it.
    #[must_use]
    pub fn extension(&self) -> &str {
        &self.extension
    }

    /// The priority in that, from 1.
    #[must_use]
    pub const fn priority(&self) -> u16 {
        self.priority
    }
}

fn is_of(text: &str, more: &[u8]) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || more.contains(&b);
    (1..=79).contains(&text.len()) && text.bytes().all(fits)
}

impl fmt::Debug for DialplanPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},***,{}", self.context, self.priority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_the_dialplan_has_nothing_in_it_that_asterisk_reads_as_more() {
        let place = DialplanPlace::new("reception", "+39*12#", 1).unwrap();
        assert_eq!(format!("{place:?}"), "reception,***,1");
        for (context, extension, priority) in [
            ("", "1", 1),
            ("a b", "1", 1),
            ("a,b", "1", 1),
            ("a", "", 1),
            ("a", "1,2", 1),
            ("a", "${EXTEN}", 1),
            ("a", "1)", 1),
            ("a", "_X.", 1),
            ("a", "1@b", 1),
            ("a", "1", 0),
            ("a", "1", 10_000),
        ] {
            let place = DialplanPlace::new(context, extension, priority);
            assert_eq!(place, None, "{context},{extension},{priority}");
        }
        assert_eq!(DialplanPlace::new(&"a".repeat(80), "1", 1), None);
    }

    #[test]
    fn sequence_numbers_extend_over_the_wrap_both_ways() {
        assert_eq!(SeqNo(2).extend(ExtSeqNo(0xFFFE)), ExtSeqNo(0x1_0002));
        assert_eq!(SeqNo(0xFFFE).extend(ExtSeqNo(0x1_0002)), ExtSeqNo(0xFFFE));
    }

    #[test]
    fn powers_have_the_level_of_their_roots() {
        for exponent in -128..2_000 {
            let amplitude = 1.007_f32.powi(-exponent);
            let slow = Decibels::from_amplitude(amplitude).0;
            let fast = Decibels::from_power(amplitude * amplitude).0;
            assert!((slow - fast).abs() < 2e-4, "{amplitude}: {slow}, {fast}");
        }
        assert_eq!(Decibels::from_power(0.0), Decibels(-127.0));
    }

    #[test]
    fn keys_round_trip_through_their_characters() {
        for event in 0..16 {
            let key = Key::from_event(event).unwrap();
            assert_eq!(Key::from_char(key.as_char()), Some(key));
        }
        assert_eq!(Key::from_event(16), None);
    }

    #[test]
    fn languages_are_found_by_their_primary_tag() {
        assert_eq!("it-IT".parse(), Ok(Language::Italian));
        assert_eq!("EN_us".parse(), Ok(Language::English));
        assert_eq!("xx".parse::<Language>(), Err(UnknownLanguage));
    }
}
