//! Which algorithms, and the key that a session's keys are made from.

use std::fmt;

/// What protects a session (RFC 4568 section 6.2, RFC 6188).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// AES-128 in counter mode, tags of 80 bits.
    AesCm128HmacSha1Tag80,
    /// The same with tags of 32 bits on RTP.
    AesCm128HmacSha1Tag32,
    /// AES-256 in counter mode, tags of 80 bits.
    AesCm256HmacSha1Tag80,
    /// The same with tags of 32 bits on RTP.
    AesCm256HmacSha1Tag32,
}

impl Suite {
    /// All, best first.
    pub const ALL: [Self; 4] = [
        Self::AesCm256HmacSha1Tag80,
        Self::AesCm128HmacSha1Tag80,
        Self::AesCm256HmacSha1Tag32,
        Self::AesCm128HmacSha1Tag32,
    ];

    /// Its name in `a=crypto`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AesCm128HmacSha1Tag80 => "AES_CM_128_HMAC_SHA1_80",
            Self::AesCm128HmacSha1Tag32 => "AES_CM_128_HMAC_SHA1_32",
            Self::AesCm256HmacSha1Tag80 => "AES_256_CM_HMAC_SHA1_80",
            Self::AesCm256HmacSha1Tag32 => "AES_256_CM_HMAC_SHA1_32",
        }
    }

    /// The suite of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|suite| suite.name().eq_ignore_ascii_case(name))
    }

    /// Bytes of the master key, without the salt.
    #[must_use]
    pub const fn key_bytes(self) -> usize {
        match self {
            Self::AesCm128HmacSha1Tag80 | Self::AesCm128HmacSha1Tag32 => 16,
            Self::AesCm256HmacSha1Tag80 | Self::AesCm256HmacSha1Tag32 => 32,
        }
    }

    /// Bytes of the tag on RTP; on RTCP it is always ten.
    pub(super) const fn tag_bytes(self) -> usize {
        match self {
            Self::AesCm128HmacSha1Tag80 | Self::AesCm256HmacSha1Tag80 => 10,
            Self::AesCm128HmacSha1Tag32 | Self::AesCm256HmacSha1Tag32 => 4,
        }
    }
}

/// Both directions' keys of one leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SrtpKeys {
    /// What we protect with.
    pub ours: MasterKey,
    /// What the peer protects with.
    pub theirs: MasterKey,
}

/// A master key and its salt. Never shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MasterKey {
    suite: Suite,
    bytes: [u8; KEY_BYTES_MAX + SALT_BYTES],
}

impl MasterKey {
    /// From key and salt, one after the other; `None` where the length is not the suite's.
    #[must_use]
    pub fn new(suite: Suite, key_and_salt: &[u8]) -> Option<Self> {
        let mut bytes = [0; KEY_BYTES_MAX + SALT_BYTES];
        let (key, salt) = key_and_salt.split_at_checked(suite.key_bytes())?;
        bytes.get_mut(..key.len())?.copy_from_slice(key);
        let salt: [u8; SALT_BYTES] = salt.try_into().ok()?;
        *bytes.last_chunk_mut()? = salt;
        Some(Self { suite, bytes })
    }

    /// The same key for a suite whose keys are as long.
    #[must_use]
    pub const fn with(self, suite: Suite) -> Self {
        debug_assert!(suite.key_bytes() == self.suite.key_bytes());
        Self { suite, ..self }
    }

    /// What it is for.
    #[must_use]
    pub const fn suite(&self) -> Suite {
        self.suite
    }

    /// Key and salt, for the peer's eyes only.
    #[must_use]
    pub fn expose(&self) -> Vec<u8> {
        [self.key(), &self.salt()].concat()
    }

    pub(super) fn key(&self) -> &[u8] {
        self.bytes.get(..self.suite.key_bytes()).unwrap_or_default()
    }

    pub(super) fn salt(&self) -> [u8; SALT_BYTES] {
        self.bytes.last_chunk().copied().unwrap_or_default()
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Bytes of a salt (RFC 3711 section 8.2).
pub(super) const SALT_BYTES: usize = 14;
const KEY_BYTES_MAX: usize = 32;
