//! Personal data as types: what they hold never reaches a log, a label or an error by accident.

use std::fmt;

use subtle::ConstantTimeEq;

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

#[cfg(test)]
mod tests {
    use super::*;

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
