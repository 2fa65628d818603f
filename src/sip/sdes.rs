//! Keys for SRTP in a session description: `a=crypto` (RFC 4568).

#![deny(clippy::indexing_slicing)]

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use crate::media::srtp::{MasterKey, Suite};

/// What one leg of ours protects with: drawn when it opens, the same until it closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalKeys {
    short: MasterKey,
    long: MasterKey,
    /// What is in use, and is offered again; `None`: nothing yet.
    pub in_use: Option<Suite>,
    /// Nothing is taken that isn't encrypted.
    pub(crate) required: bool,
}

impl LocalKeys {
    /// From random bytes, which nobody else may know.
    #[must_use]
    pub fn new(random: &[u8; RANDOM_BYTES]) -> Option<Self> {
        let (short, long) = random.split_at(SHORT_BYTES);
        Some(Self {
            short: MasterKey::new(Suite::AesCm128HmacSha1Tag80, short)?,
            long: MasterKey::new(Suite::AesCm256HmacSha1Tag80, long)?,
            in_use: None,
            required: false,
        })
    }

    /// The same, and nothing else: what isn't encrypted is neither offered nor taken.
    #[must_use]
    pub const fn required(self) -> Self {
        Self {
            in_use: Some(Suite::AesCm128HmacSha1Tag80),
            required: true,
            ..self
        }
    }

    /// Our key for `suite`.
    pub(crate) fn key(&self, suite: Suite) -> MasterKey {
        let key = match suite {
            Suite::AesCm128HmacSha1Tag80 | Suite::AesCm128HmacSha1Tag32 => self.short,
            Suite::AesCm256HmacSha1Tag80 | Suite::AesCm256HmacSha1Tag32 => self.long,
        };
        key.with(suite)
    }
}

/// One `a=crypto` line that we can do as it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Crypto {
    /// Its number among the offered ones; the answer repeats it.
    pub(crate) tag: u32,
    /// What its sender protects with.
    pub(crate) key: MasterKey,
}

impl Crypto {
    /// The first of `lines`, in the offerer's order, that we can do with.
    pub(crate) fn choose<'a>(lines: impl Iterator<Item = &'a str>) -> Option<Self> {
        lines.take(LINES_MAX).find_map(Self::parse)
    }

    /// `1 AES_CM_128_HMAC_SHA1_80 inline:KEY|2^20`. A line with several keys, with a key identifier in
    /// the packets (MKI) or with session parameters that change the packets is none for us.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let tag = words.next()?.parse().ok().filter(|tag| *tag < TAG_END)?;
        let suite = Suite::named(words.next()?)?;
        let key = inline_key(suite, words.next()?)?;
        words.all(is_harmless).then_some(Self { tag, key })
    }

    /// The line as its sender writes it.
    pub(crate) fn written(&self) -> String {
        let (suite, key) = (self.key.suite().name(), STANDARD.encode(self.key.expose()));
        format!("{} {suite} inline:{key}", self.tag)
    }
}

fn inline_key(suite: Suite, parameters: &str) -> Option<MasterKey> {
    let (method, info) = parameters.split_once(':')?;
    if !method.eq_ignore_ascii_case("inline") || info.contains(';') {
        return None;
    }
    let mut fields = info.split('|');
    let key = fields.next()?.trim_end_matches('=');
    // What may follow is a lifetime, which no call reaches, or an MKI, told by its colon.
    if fields.any(|field| field.contains(':')) {
        return None;
    }
    let mut bytes = [0; KEY_BYTES_MAX];
    let length = STANDARD_NO_PAD.decode_slice(key, &mut bytes).ok()?;
    MasterKey::new(suite, bytes.get(..length)?)
}

/// Does a session parameter (RFC 4568 section 6.3) leave the packets as they are?
fn is_harmless(parameter: &str) -> bool {
    parameter == "KDR=0" || parameter.starts_with("WSH=")
}

/// Bytes that [`LocalKeys::new`] needs: a key and a salt for AES-128, and for AES-256.
pub const RANDOM_BYTES: usize = SHORT_BYTES + 32 + 14;
const SHORT_BYTES: usize = 16 + 14;
/// More lines than any phone offers.
const LINES_MAX: usize = 32;
/// A tag has at most nine digits (RFC 4568 section 9.1).
const TAG_END: u32 = 1_000_000_000;
/// The longest suite's key and salt, rounded up to what base64 decodes in one go.
const KEY_BYTES_MAX: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";

    fn suite_of(lines: &[&str]) -> Option<(u32, Suite)> {
        let crypto = Crypto::choose(lines.iter().copied())?;
        Some((crypto.tag, crypto.key.suite()))
    }

    #[test]
    fn the_first_line_that_we_can_do_is_taken() {
        let long = format!("inline:{}", STANDARD.encode([7; 46]));
        let lines = [
            format!("1 AEAD_AES_128_GCM {KEY}"),
            format!("2 AES_256_CM_HMAC_SHA1_80 {long}|2^20"),
            format!("3 AES_CM_128_HMAC_SHA1_80 {KEY}|2^31"),
        ];
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        assert_eq!(suite_of(&lines), Some((2, Suite::AesCm256HmacSha1Tag80)));
        assert_eq!(
            suite_of(&lines[2..]),
            Some((3, Suite::AesCm128HmacSha1Tag80))
        );
    }

    #[test]
    fn what_would_change_the_packets_is_not_taken() {
        for line in [
            format!("1 AES_CM_128_HMAC_SHA1_80 {KEY}|2^20|1:4"),
            format!("1 AES_CM_128_HMAC_SHA1_80 {KEY};{KEY}"),
            format!("1 AES_CM_128_HMAC_SHA1_80 {KEY} UNENCRYPTED_SRTP"),
            format!("1 AES_CM_128_HMAC_SHA1_80 {KEY} KDR=3"),
            "1 AES_CM_128_HMAC_SHA1_80 inline:c2hvcnQ=".to_owned(),
            "1 AES_CM_128_HMAC_SHA1_80 inline:%%%%".to_owned(),
            format!("1234567890 AES_CM_128_HMAC_SHA1_80 {KEY}"),
            "1 AES_CM_128_HMAC_SHA1_80".to_owned(),
            String::new(),
        ] {
            assert_eq!(suite_of(&[&line]), None, "{line}");
        }
        let harmless = format!("1 AES_CM_128_HMAC_SHA1_80 {KEY} KDR=0 WSH=64");
        assert!(suite_of(&[&harmless]).is_some());
    }

    #[test]
    fn a_line_is_written_as_it_is_read() {
        let line = format!("4 AES_CM_128_HMAC_SHA1_32 {KEY}");
        let crypto = Crypto::choose([line.as_str()].into_iter()).unwrap();
        assert_eq!(crypto.written(), line);
        assert!(!format!("{crypto:?}").contains("WVNf"));
    }
}
