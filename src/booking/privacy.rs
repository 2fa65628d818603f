//! Personal data as types: what they hold never reaches a log, a label or an error by accident.

use std::fmt;

use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::booking::admission::OrganisationId;

/// Most digits a PIN may have.
pub const PIN_DIGITS_MAX: usize = 16;
/// Fewest digits a PIN may have.
pub const PIN_DIGITS_MIN: usize = 4;

/// A meeting's dial-in PIN: 4 to 16 digits. Prints as `***`, compares in constant time.
#[derive(Clone, Eq)]
pub struct Pin(Box<str>);

/// What was given is not a PIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a PIN has 4 to 16 digits and nothing else")]
pub struct NotAPin;

impl Pin {
    /// Checks the form only.
    ///
    /// # Errors
    /// [`NotAPin`] for anything but 4 to 16 ASCII digits.
    pub fn parse(digits: &str) -> Result<Self, NotAPin> {
        let length_ok = (PIN_DIGITS_MIN..=PIN_DIGITS_MAX).contains(&digits.len());
        if length_ok && digits.bytes().all(|b| b.is_ascii_digit()) {
            Ok(Self(digits.into()))
        } else {
            Err(NotAPin)
        }
    }

    /// The digits, for the store, an authorised API answer or an invitation; nowhere else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Pin {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A caller's number or SIP user as signalled. Prints as `***`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CallerNumber(Box<str>);

impl CallerNumber {
    /// Takes what was signalled, as it is.
    #[must_use]
    pub fn new(number: &str) -> Self {
        Self(number.into())
    }

    /// The whole number: for matching and for organisations whose policy is `full`.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The last four characters behind dots; nothing of a number that has no more than four.
    #[must_use]
    pub fn last4(&self) -> String {
        let length = self.0.chars().count();
        if length <= 4 {
            return "…".to_owned();
        }
        let tail: String = self.0.chars().skip(length - 4).collect();
        format!("…{tail}")
    }
}

impl CallerNumber {
    /// Signalling put a word in place of a number that isn't shown: many people share it.
    #[must_use]
    pub fn is_withheld(&self) -> bool {
        let number = self.0.trim();
        WITHHELD
            .iter()
            .any(|word| number.eq_ignore_ascii_case(word))
    }

    /// It without what is only for the eye, and without a leading `+` or `00`; who isn't called by a number, as he is.
    fn significant(&self) -> String {
        let is_decoration = |c: char| matches!(c, ' ' | '+' | '-' | '.' | '(' | ')' | '/');
        let digits: String = self.0.chars().filter(|c| !is_decoration(*c)).collect();
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return self.0.trim().to_ascii_lowercase();
        }
        match digits.strip_prefix("00") {
            Some(international) => international.to_owned(),
            None => digits,
        }
    }
}

impl fmt::Debug for CallerNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for CallerNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What tells one caller of an organisation from another without his number: 32 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct CallerHash(Box<str>);

/// What was given is no [`CallerHash`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a caller's hash has 32 hexadecimal digits")]
pub struct NotACallerHash;

impl CallerHash {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CallerHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for CallerHash {
    type Error = NotACallerHash;

    fn try_from(text: String) -> Result<Self, NotACallerHash> {
        let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == HASH_DIGITS && text.bytes().all(is_digit) {
            Ok(Self(text.into()))
        } else {
            Err(NotACallerHash)
        }
    }
}

/// Makes callers' hashes. Without it a hash tells nothing; with it, numbers can be tried out. Prints as `***`.
#[derive(Clone)]
pub struct CallerKey(Box<[u8]>);

impl CallerKey {
    /// Of a secret.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self(secret.into())
    }

    /// The caller's hash among the callers of this organisation, or among those who reached none. The same number has
    /// another one elsewhere, so that nobody finds his callers again at somebody else's. `None`: he withheld it.
    #[must_use]
    pub fn hash(
        &self,
        organisation: Option<OrganisationId>,
        caller: &CallerNumber,
    ) -> Option<CallerHash> {
        if caller.is_withheld() {
            return None;
        }
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        let owner = organisation.map_or([0; 16], |id| *id.0.as_bytes());
        mac.update(&owner);
        mac.update(caller.significant().as_bytes());
        let tag = mac.finalize().into_bytes();
        let digits = tag.iter().take(HASH_DIGITS / 2);
        let text: String = digits.map(|byte| format!("{byte:02x}")).collect();
        Some(CallerHash(text.into()))
    }
}

impl fmt::Debug for CallerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// How much of a caller's number is kept or shown.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Disclosure {
    /// Nothing.
    None,
    /// The last four characters behind dots.
    #[default]
    Last4,
    /// All of it.
    Full,
}

impl Disclosure {
    /// What remains of the number.
    #[must_use]
    pub fn of(self, number: &CallerNumber) -> String {
        match self {
            Self::None => String::new(),
            Self::Last4 => number.last4(),
            Self::Full => number.expose().to_owned(),
        }
    }

    /// A name that others gave the call, without the number: they may have made it of that.
    #[must_use]
    pub fn scrubbed(self, number: &CallerNumber, name: String) -> String {
        let (kept, lower) = (number.significant(), name.to_ascii_lowercase());
        if self == Self::Full || kept.is_empty() {
            return name;
        }
        let mut parts = lower.split(|c: char| !c.is_ascii_alphanumeric());
        // A trunk may write a long number in another form than the name has it: what counts is how it ends.
        let length = kept.chars().count();
        let tail: String = kept
            .chars()
            .skip(length.saturating_sub(TELLING_DIGITS))
            .collect();
        let ends_alike = length >= TELLING_DIGITS && lower.contains(&tail);
        if !ends_alike && !parts.any(|part| part == kept) {
            return name;
        }
        "…".to_owned()
    }
}

/// What is kept and shown of callers, and for how long (`privacy.*` of the configuration).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrivacyPolicy {
    /// In API answers.
    pub show: Disclosure,
    /// In call records.
    pub store: Disclosure,
    /// Days until a call record or a meeting that is over is deleted.
    pub retain_days: u32,
}

impl Default for PrivacyPolicy {
    fn default() -> Self {
        Self {
            show: Disclosure::Last4,
            store: Disclosure::Last4,
            retain_days: 90,
        }
    }
}

impl PrivacyPolicy {
    /// What holds while nobody knows what an organisation wants: no number is shown or kept.
    #[must_use]
    pub fn strictest(self) -> Self {
        Self {
            show: Disclosure::None,
            store: Disclosure::None,
            ..self
        }
    }

    /// A number as an API answer shows it. One that was masked when it was stored stays as it is.
    #[must_use]
    pub fn shown(&self, number: &CallerNumber) -> String {
        let masked_before = number.expose().starts_with('…');
        match self.show {
            Disclosure::Last4 if masked_before => number.expose().to_owned(),
            Disclosure::Last4 | Disclosure::None | Disclosure::Full => self.show.of(number),
        }
    }
}

const HASH_DIGITS: usize = 32;
/// So many last digits of a number are taken for it.
const TELLING_DIGITS: usize = 6;
/// What signalling puts in place of a number that is not shown.
const WITHHELD: [&str; 6] = [
    "",
    "anonymous",
    "unknown",
    "unavailable",
    "restricted",
    "private",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_one_persons_at_one_organisation_under_one_key() {
        let key = CallerKey::new(b"the store's");
        let of = |organisation: u128, number: &str| {
            let organisation = OrganisationId(uuid::Uuid::from_u128(organisation));
            key.hash(Some(organisation), &CallerNumber::new(number))
        };
        let ada = of(1, "+390612345678").unwrap();
        assert_eq!(CallerHash::try_from(ada.to_string()), Ok(ada.clone()));
        for same in ["00390612345678", "+39 06 1234-5678", "390612345678"] {
            assert_eq!(of(1, same), Some(ada.clone()), "{same}");
        }
        for other in [of(2, "+390612345678"), of(1, "+390612345679"), of(1, "ada")] {
            assert_ne!(other, Some(ada.clone()));
        }
        assert_eq!(of(1, "Ada"), of(1, "ada"));
        let foreign = CallerKey::new(b"another").hash(None, &CallerNumber::new("+390612345678"));
        assert_ne!(foreign, key.hash(None, &CallerNumber::new("+390612345678")));
        for withheld in ["", " ", "Anonymous", "restricted"] {
            assert_eq!(of(1, withheld), None);
        }
        for bad in ["", "0123", &"g".repeat(32), &"A".repeat(32)] {
            assert_eq!(CallerHash::try_from(bad.to_owned()), Err(NotACallerHash));
        }
        assert_eq!(format!("{key:?}"), "***");
    }

    #[test]
    fn names_that_others_made_of_the_number_are_left_out() {
        let caller = CallerNumber::new("+390612345678");
        let scrubbed = |name: &str| Disclosure::Last4.scrubbed(&caller, name.to_owned());
        assert_eq!(scrubbed("PJSIP/trunk-00000012"), "PJSIP/trunk-00000012");
        for telling in ["Local/0612345678@out-0001;1", "390612345678-17@host"] {
            assert_eq!(scrubbed(telling), "…", "{telling}");
            let full = Disclosure::Full.scrubbed(&caller, telling.to_owned());
            assert_eq!(full, telling);
        }
        let of = |caller: &str, name: &str| {
            Disclosure::None.scrubbed(&CallerNumber::new(caller), name.to_owned())
        };
        assert_eq!(of("1234", "PJSIP/1234-0001"), "…");
        assert_eq!(of("1234", "PJSIP/trunk-00012341"), "PJSIP/trunk-00012341");
        assert_eq!(of("Ada", "a84b@ada.example.org"), "…");
    }

    #[test]
    fn a_pin_is_four_to_sixteen_digits() {
        assert!(Pin::parse("1234").is_ok());
        assert!(Pin::parse("1234567890123456").is_ok());
        for bad in ["", "123", "12345678901234567", "12a4", "12 4", "１２３４"] {
            assert_eq!(Pin::parse(bad).unwrap_err(), NotAPin);
        }
    }

    #[test]
    fn personal_data_prints_as_stars() {
        let pin = Pin::parse("48151623").unwrap();
        let caller = CallerNumber::new("+390612345678");
        assert_eq!(
            format!("{pin} {pin:?} {caller} {caller:?}"),
            "*** *** *** ***"
        );
        assert_eq!(caller.last4(), "…5678");
        assert_eq!(CallerNumber::new("1234").last4(), "…");
    }

    #[test]
    fn a_policy_shows_no_more_than_it_says_and_masks_once() {
        let caller = CallerNumber::new("+390612345678");
        let stored = CallerNumber::new(&Disclosure::Last4.of(&caller));
        let policy = |show| PrivacyPolicy {
            show,
            ..PrivacyPolicy::default()
        };
        assert_eq!(policy(Disclosure::Last4).shown(&caller), "…5678");
        assert_eq!(policy(Disclosure::Last4).shown(&stored), "…5678");
        assert_eq!(policy(Disclosure::Full).shown(&stored), "…5678");
        assert_eq!(policy(Disclosure::None).shown(&caller), "");
        assert_eq!(policy(Disclosure::Full).shown(&caller), "+390612345678");
    }
}
