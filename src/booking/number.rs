//! The numbers people dial: what each is like, whose meetings it leads to, and what may be asked of it.

use std::collections::HashMap;

use jiff::Timestamp;
use uuid::Uuid;

use crate::booking::admission::OrganisationId;
use crate::booking::change::{Change, FieldError};
use crate::config::{BadNumber, Country, EMERGENCY_NUMBERS, check_number};
use crate::units::Language;

/// A number that leads here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialInNumber {
    /// E.164 or an extension, as dialled.
    pub number: String,
    /// ISO 3166 alpha-2.
    pub country: Option<String>,
    /// The language callers are greeted in.
    pub language: Option<Language>,
    /// The organisation whose meetings it serves; `None`: everybody's.
    pub organisation: Option<String>,
    /// For people: "Rome".
    pub label: Option<String>,
    /// Calling it costs nothing.
    pub toll_free: bool,
}

/// It, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberRecord {
    /// Names it in the API.
    pub id: Uuid,
    /// Whose it is; `None`: everybody's, or that one isn't there yet. Read from the store, where its name stands.
    pub organisation: Option<OrganisationId>,
    /// What it is like.
    pub number: DialInNumber,
    /// When it was made.
    pub created_at: Timestamp,
    /// Counts the changes, from 1.
    pub revision: i64,
}

/// A number as it is asked for, or what to change of it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NumberChange {
    /// E.164 or an extension, as dialled.
    pub number: Change<String>,
    /// ISO 3166 alpha-2.
    pub country: Change<String>,
    /// `it` or `en`.
    pub language: Change<String>,
    /// By name; cleared: everybody's.
    pub organisation: Change<String>,
    /// For people.
    pub label: Change<String>,
    /// Calling it costs nothing.
    pub toll_free: Change<bool>,
}

/// All numbers at one moment. Without any, whatever is dialled leads here.
#[derive(Debug, Default)]
pub struct NumberPlan {
    numbers: Vec<DialInNumber>,
    /// By their significant part.
    places: HashMap<String, usize>,
}

impl DialInNumber {
    /// Does it lead to meetings of this organisation?
    #[must_use]
    pub fn serves(&self, organisation: &str) -> bool {
        self.organisation
            .as_deref()
            .is_none_or(|owner| owner == organisation)
    }
}

impl NumberPlan {
    /// Of these; of two that can't be told apart, the first.
    #[must_use]
    pub fn new(numbers: Vec<DialInNumber>) -> Self {
        let mut places = HashMap::with_capacity(numbers.len());
        for (place, number) in numbers.iter().enumerate() {
            places.entry(significant(&number.number)).or_insert(place);
        }
        Self { numbers, places }
    }

    /// The number that was dialled: equal in all letters and digits, whatever stands between them, with or
    /// without the leading `+` or `00`.
    #[must_use]
    pub fn find(&self, dialled: &str) -> Option<&DialInNumber> {
        self.numbers.get(*self.places.get(&significant(dialled))?)
    }

    /// Is whatever is dialled answered?
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// The oldest.
    #[must_use]
    pub fn first(&self) -> Option<&DialInNumber> {
        self.numbers.first()
    }

    /// Those that lead to meetings of this organisation, oldest first.
    pub fn serving<'a>(&'a self, organisation: &'a str) -> impl Iterator<Item = &'a DialInNumber> {
        self.numbers.iter().filter(|n| n.serves(organisation))
    }
}

impl NumberChange {
    /// Does it touch what only who runs the platform may change?
    #[must_use]
    pub fn moves_it(&self) -> bool {
        self.number != Change::Keep || self.organisation != Change::Keep
    }

    /// Applied to `base`, or to nothing; whose it is stays.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn apply(self, base: Option<DialInNumber>) -> Result<DialInNumber, Vec<FieldError>> {
        let mut wrong = Vec::new();
        let (number, language) = match &base {
            Some(base) => (Some(base.number.clone()), base.language),
            None => (None, None),
        };
        let number = match self.number {
            Change::Set(text) => dialled(&text).map_err(|bad| ("number", bad.to_string())),
            Change::Keep => number.ok_or_else(|| ("number", "is required".to_owned())),
            Change::Clear => Err(("number", "is required".to_owned())),
        };
        let language = match self.language {
            Change::Set(code) => code
                .parse::<Language>()
                .map(Some)
                .map_err(|_| ("language", "must be it or en".to_owned())),
            Change::Keep if base.is_some() => Ok(language),
            Change::Keep | Change::Clear => Err(("language", "is required".to_owned())),
        };
        let country = optional(
            self.country,
            base.as_ref().and_then(|b| b.country.clone()),
            |code| {
                let country = code.parse::<Country>().map(|country| country.to_string());
                country.map_err(|bad| bad.to_string())
            },
        );
        let label = optional(
            self.label,
            base.as_ref().and_then(|b| b.label.clone()),
            check_label,
        );
        let number = noted(number, &mut wrong);
        let language = noted(language, &mut wrong);
        let country = noted(country.map_err(|must| ("country", must)), &mut wrong);
        let label = noted(label.map_err(|must| ("label", must)), &mut wrong);
        let toll_free = match self.toll_free {
            Change::Set(free) => free,
            Change::Keep => base.as_ref().is_some_and(|base| base.toll_free),
            Change::Clear => false,
        };
        match (number, language, country, label) {
            (Some(number), Some(language), Some(country), Some(label)) => Ok(DialInNumber {
                number,
                language,
                country,
                label,
                toll_free,
                organisation: base.and_then(|base| base.organisation),
            }),
            (_, _, _, _) => Err(wrong),
        }
    }
}

/// What tells a number from others: its letters and digits, without a leading `00`.
#[must_use]
pub fn significant(number: &str) -> String {
    let kept: String = number.chars().filter(char::is_ascii_alphanumeric).collect();
    let international = kept.strip_prefix("00").map(str::to_owned);
    international.unwrap_or(kept)
}

fn dialled(text: &str) -> Result<String, BadNumber> {
    let number = check_number(text)?;
    let what_counts = significant(&number);
    if what_counts.is_empty() {
        Err(BadNumber::Form)
    } else if EMERGENCY_NUMBERS.contains(&what_counts.as_str()) {
        Err(BadNumber::Emergency)
    } else {
        Ok(number)
    }
}

fn check_label(label: String) -> Result<String, String> {
    let trimmed = !label.is_empty() && label.trim() == label;
    if trimmed && label.chars().count() <= LABEL_CHARS_MAX && !label.chars().any(char::is_control) {
        Ok(label)
    } else {
        Err(format!(
            "must be 1 to {LABEL_CHARS_MAX} characters, no control characters, no space at either end"
        ))
    }
}

fn optional(
    asked: Change<String>,
    base: Option<String>,
    read: impl FnOnce(String) -> Result<String, String>,
) -> Result<Option<String>, String> {
    match asked {
        Change::Keep => Ok(base),
        Change::Clear => Ok(None),
        Change::Set(text) => read(text).map(Some),
    }
}

fn noted<T>(read: Result<T, (&'static str, String)>, wrong: &mut Vec<FieldError>) -> Option<T> {
    read.map_err(|(field, must)| {
        let code = if must == "is required" {
            "required"
        } else {
            "invalid"
        };
        wrong.push(FieldError::new(field, code, must));
    })
    .ok()
}

/// Most numbers there may be.
pub const NUMBERS_MAX: u64 = 1_000;
const LABEL_CHARS_MAX: usize = 100;

#[cfg(test)]
impl NumberPlan {
    /// Everybody's numbers, greeted in Italian.
    pub(crate) fn in_italian(numbers: &[&str]) -> Self {
        let number = |number: &&str| DialInNumber {
            number: (*number).to_owned(),
            country: None,
            language: Some(Language::Italian),
            organisation: None,
            label: None,
            toll_free: false,
        };
        Self::new(numbers.iter().map(number).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_however_it_was_written() {
        let plan = NumberPlan::in_italian(&["+390612345678", "7000", "demo"]);
        for (dialled, number) in [
            ("+390612345678", "+390612345678"),
            ("00390612345678", "+390612345678"),
            ("390612345678", "+390612345678"),
            ("+39-06.1234-5678", "+390612345678"),
            ("7000", "7000"),
            ("demo", "demo"),
        ] {
            let found = plan.find(dialled).unwrap();
            assert_eq!(found.number, number, "{dialled}");
        }
        assert_eq!(plan.find("7001"), None);
    }

    #[test]
    fn everything_wrong_is_told_and_what_is_left_out_stays() {
        let set = |text: &str| Change::Set(text.to_owned());
        let asked = NumberChange {
            number: set("+39 06"),
            country: set("ITA"),
            language: set("de"),
            label: set(" x"),
            ..NumberChange::default()
        };
        let wrong = asked.apply(None).unwrap_err();
        let fields: Vec<&str> = wrong.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["number", "language", "country", "label"]);
        for bad in ["-", "00", "00112", "+911"] {
            let asked = NumberChange {
                number: set(bad),
                language: set("it"),
                ..NumberChange::default()
            };
            assert!(asked.apply(None).is_err(), "{bad}");
        }
        let base = DialInNumber {
            number: "7000".to_owned(),
            country: Some("IT".to_owned()),
            language: Some(Language::Italian),
            organisation: Some("demo".to_owned()),
            label: Some("Roma".to_owned()),
            toll_free: true,
        };
        let same = NumberChange::default().apply(Some(base.clone()));
        assert_eq!(same, Ok(base.clone()));
        let cleared = NumberChange {
            country: Change::Clear,
            label: set("Milano"),
            ..NumberChange::default()
        };
        let cleared = cleared.apply(Some(base)).unwrap();
        assert_eq!(
            (cleared.country, cleared.label.as_deref()),
            (None, Some("Milano"))
        );
    }
}
