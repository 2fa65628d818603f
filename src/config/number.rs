//! Numbers that callers dial, as configured.

use std::fmt;
use std::str::FromStr;

use crate::units::Language;

/// Numbers that are never answered and never dialled.
pub const EMERGENCY_NUMBERS: [&str; 6] = ["112", "113", "115", "118", "911", "999"];

/// A number that callers dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Number {
    /// E.164 with `+`, an extension, or a name.
    pub number: String,
    /// Where it is a local call.
    pub country: Option<Country>,
    /// What callers are greeted in.
    pub language: Language,
    /// Whose it is; `None`: shared by all.
    pub organisation: Option<String>,
    /// What people call it.
    pub label: Option<String>,
}

/// A text can't be dialled, or must not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadNumber {
    /// Other characters, none at all, or too many.
    #[error(
        "must be a number like \"+390612345678\", an extension like \"7000\" or a name of letters, digits, '-', '.' and '_', at most 64"
    )]
    Form,
    /// It belongs to the emergency services.
    #[error("is an emergency number, which is never answered")]
    Emergency,
}

/// Checks what is to be dialled.
///
/// # Errors
/// [`BadNumber`].
pub fn check_number(text: &str) -> Result<String, BadNumber> {
    let rest = text.strip_prefix('+').unwrap_or(text);
    let digits_only = rest.len() != text.len();
    let in_a_name = |b: u8| b.is_ascii_alphabetic() || b"-._".contains(&b);
    let fits = |b: u8| b.is_ascii_digit() || (!digits_only && in_a_name(b));
    if rest.is_empty() || rest.len() > 64 || !rest.bytes().all(fits) {
        return Err(BadNumber::Form);
    }
    if EMERGENCY_NUMBERS.contains(&rest) {
        return Err(BadNumber::Emergency);
    }
    Ok(text.to_owned())
}

/// A country by its ISO 3166-1 alpha-2 code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Country([u8; 2]);

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|letter| write!(f, "{}", char::from(*letter)))
    }
}

/// A text is not a [`Country`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a country code of two letters, like \"IT\"")]
pub struct BadCountry;

impl FromStr for Country {
    type Err = BadCountry;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let letters: [u8; 2] = text.as_bytes().try_into().map_err(|_| BadCountry)?;
        if letters.iter().all(u8::is_ascii_alphabetic) {
            Ok(Self(letters.map(|b| b.to_ascii_uppercase())))
        } else {
            Err(BadCountry)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_extensions_and_names_can_be_dialled() {
        for good in ["+390612345678", "7000", "demo", "sala-1.roma"] {
            assert_eq!(check_number(good).as_deref(), Ok(good));
        }
        for bad in ["", "+", "+39 06", "a b", "+demo", "x@y"] {
            assert_eq!(check_number(bad), Err(BadNumber::Form), "{bad}");
        }
    }

    #[test]
    fn emergency_numbers_can_not_be_configured() {
        for number in EMERGENCY_NUMBERS {
            assert_eq!(check_number(number), Err(BadNumber::Emergency));
            assert_eq!(
                check_number(&format!("+{number}")),
                Err(BadNumber::Emergency)
            );
        }
    }

    #[test]
    fn a_country_is_two_letters_in_any_case() {
        assert_eq!(
            "it".parse::<Country>().map(|country| country.to_string()),
            Ok("IT".to_owned())
        );
        for bad in ["", "I", "ITA", "1T", "è"] {
            assert_eq!(bad.parse::<Country>(), Err(BadCountry), "{bad}");
        }
    }
}
