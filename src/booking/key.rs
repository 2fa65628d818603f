//! Who may ask for what: organisations and their API keys. A key is shown once, when it is made; kept is
//! a hash of it.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::booking::admission::OrganisationId;
use crate::booking::pin::NoRandomness;

/// The owner of meetings, keys and numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Organisation {
    /// Names it for ever.
    pub id: OrganisationId,
    /// Names it for people and in requests of platform keys; unique.
    pub name: String,
}

/// An API key without its secret.
#[derive(Debug, Clone)]
pub struct ApiKey {
    /// Names it, to revoke it.
    pub id: Uuid,
    /// Whose it is.
    pub organisation: Organisation,
    /// What it may do.
    pub role: KeyRole,
    /// What it may do besides.
    pub scopes: Vec<Scope>,
    /// Its first characters, by which it is looked up.
    pub prefix: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when it is good.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum KeyRole {
    /// Everything, for every organisation; names the organisation it acts for.
    Platform,
    /// Everything in its organisation.
    Admin,
    /// Looks after meetings that run: sees all, steers participants, ends meetings; books nothing.
    Operator,
    /// A booking system: books, changes, cancels, and all an operator may.
    Booking,
    /// Reads, but no PINs and no join URLs.
    Reader,
}

/// What a key may do besides its role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Have the gateway call somebody.
    Dial,
}

/// What an answer to a request needs the key to be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Permission {
    /// Read meetings, participants, calls, numbers.
    Read,
    /// See PINs and join URLs, and ask what a PIN opens.
    SeePins,
    /// Mute, rename, remove participants; end meetings.
    Steer,
    /// Book, change, cancel meetings.
    Book,
    /// Make and revoke keys, read who did what.
    Manage,
}

/// A role, scope or other word that isn't known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what}; allowed: {allowed}")]
pub struct UnknownWord {
    what: &'static str,
    allowed: &'static str,
}

/// An API key as its owner presents it. Prints as `***`.
#[derive(Clone)]
pub struct KeySecret(String);

impl KeyRole {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Platform,
        Self::Admin,
        Self::Operator,
        Self::Booking,
        Self::Reader,
    ];

    /// May it do that?
    #[must_use]
    pub const fn may(self, permission: Permission) -> bool {
        match self {
            Self::Platform | Self::Admin => true,
            Self::Booking => !matches!(permission, Permission::Manage),
            Self::Operator => !matches!(permission, Permission::Book | Permission::Manage),
            Self::Reader => matches!(permission, Permission::Read),
        }
    }

    /// The word, as on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Booking => "booking",
            Self::Reader => "reader",
        }
    }
}

impl FromStr for KeyRole {
    type Err = UnknownWord;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let unknown = UnknownWord {
            what: "role",
            allowed: "platform, admin, operator, booking, reader",
        };
        Self::ALL
            .into_iter()
            .find(|role| role.word() == s)
            .ok_or(unknown)
    }
}

impl Scope {
    /// The word, as on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Dial => "dial",
        }
    }
}

impl FromStr for Scope {
    type Err = UnknownWord;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        if s == Self::Dial.word() {
            Ok(Self::Dial)
        } else {
            Err(UnknownWord {
                what: "scope",
                allowed: "dial",
            })
        }
    }
}

impl KeySecret {
    /// A new key: `vb_`, 12 characters to look it up by, `_`, 256 random bits.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn generate() -> Result<Self, NoRandomness> {
        let mut bytes = [0_u8; PREFIX_BYTES + SECRET_BYTES];
        getrandom::fill(&mut bytes).map_err(|_| NoRandomness)?;
        let (prefix, secret) = bytes.split_at(PREFIX_BYTES);
        Ok(Self(format!("{MARK}{}_{}", hex(prefix), hex(secret))))
    }

    /// As presented in a request; `None` if it doesn't look like a key at all.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (prefix, secret) = text.strip_prefix(MARK)?.split_once('_')?;
        let is_hex = |s: &str| s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let fits = prefix.len() == 2 * PREFIX_BYTES && secret.len() == 2 * SECRET_BYTES;
        (fits && is_hex(prefix) && is_hex(secret)).then(|| Self(text.to_owned()))
    }

    /// The part by which it is looked up; tells nothing of the rest.
    #[must_use]
    pub fn prefix(&self) -> &str {
        self.0
            .get(..MARK.len() + 2 * PREFIX_BYTES)
            .unwrap_or_default()
    }

    /// What is kept of it. 256 random bits need no slow hash.
    #[must_use]
    pub fn hash(&self) -> String {
        hex(&Sha256::digest(self.0.as_bytes()))
    }

    /// Is this the key that was hashed? In constant time.
    #[must_use]
    pub fn matches(&self, hash: &str) -> bool {
        self.hash().as_bytes().ct_eq(hash.as_bytes()).into()
    }

    /// The key itself: for its owner, once.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for KeySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for KeySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Checks the name of an organisation.
#[must_use]
pub fn is_organisation_name(name: &str) -> bool {
    let trimmed = !name.is_empty() && name.trim() == name;
    trimmed
        && name != ECHO_ORGANISATION
        && name.chars().count() <= ORGANISATION_CHARS_MAX
        && !name.chars().any(char::is_control)
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The owner of the echo meeting; nobody's name.
pub const ECHO_ORGANISATION: &str = "voicebridge:echo";
/// Most characters of an organisation's name.
pub const ORGANISATION_CHARS_MAX: usize = 100;
const MARK: &str = "vb_";
const PREFIX_BYTES: usize = 6;
const SECRET_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_recognised_by_its_hash_and_by_nothing_else() {
        let (key, other) = (
            KeySecret::generate().unwrap(),
            KeySecret::generate().unwrap(),
        );
        let read = KeySecret::parse(key.expose()).unwrap();
        assert!(read.matches(&key.hash()) && !other.matches(&key.hash()));
        assert_eq!(read.prefix(), key.prefix());
        assert_eq!(key.expose().len(), 3 + 12 + 1 + 64);
        for bad in [
            "",
            "vb_",
            "vb_12_34",
            &key.expose().to_uppercase(),
            &key.expose()[1..],
            "é",
        ] {
            assert!(KeySecret::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_key_prints_as_stars() {
        let key = KeySecret::generate().unwrap();
        assert_eq!(format!("{key} {key:?}"), "*** ***");
    }

    #[test]
    fn roles_grow_from_reader_to_platform() {
        use Permission::{Book, Manage, Read, SeePins, Steer};
        let may = |role: KeyRole| [Read, SeePins, Steer, Book, Manage].map(|p| role.may(p));
        assert_eq!(may(KeyRole::Reader), [true, false, false, false, false]);
        assert_eq!(may(KeyRole::Operator), [true, true, true, false, false]);
        assert_eq!(may(KeyRole::Booking), [true, true, true, true, false]);
        for role in [KeyRole::Admin, KeyRole::Platform] {
            assert_eq!(may(role), [true; 5]);
        }
        assert!(
            "root"
                .parse::<KeyRole>()
                .unwrap_err()
                .to_string()
                .contains("platform, admin")
        );
    }
}
