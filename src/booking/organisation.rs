//! What an organisation may have differently from what the configuration says for all.

use jiff::Timestamp;

use crate::booking::change::{Change, FieldError};
use crate::booking::dial::{DialRules, DialRulesChange};
use crate::booking::key::{ORGANISATION_CHARS_MAX, Organisation, is_organisation_name};
use crate::booking::pin::{PinRules, PinRulesChange};
use crate::booking::privacy::{Disclosure, PrivacyPolicy};
use crate::units::Language;

/// An organisation with its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrganisationRecord {
    /// Who.
    pub organisation: Organisation,
    /// What it has differently.
    pub settings: OrganisationSettings,
    /// When it was made.
    pub created_at: Timestamp,
    /// Counts the changes, from 1.
    pub revision: i64,
}

/// `None` everywhere: as the configuration says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OrganisationSettings {
    /// What callers are spoken to in, in meetings that ask for no language.
    pub language: Option<Language>,
    /// How much of callers' numbers API answers show.
    pub show: Option<Disclosure>,
    /// How much of callers' numbers call records keep.
    pub store: Option<Disclosure>,
    /// Days until call records and meetings that are over are deleted.
    pub retain_days: Option<u32>,
    /// Most meetings that are neither over nor cancelled; `None`: no limit.
    pub meetings_max: Option<u32>,
    /// Most callers at once; `None`: no limit.
    pub callers_max: Option<u32>,
    /// Most minutes of calls in a month; `None`: no limit.
    pub minutes_per_month: Option<u32>,
    /// What it may have dialled.
    pub dial: DialRules,
    /// Which PINs it gets.
    pub pin: PinRules,
}

/// An organisation as it is asked for, or what to change of it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OrganisationChange {
    /// Its name; it can't be changed.
    pub name: Change<String>,
    /// `it` or `en`.
    pub language: Change<String>,
    /// `none`, `last4` or `full`.
    pub show: Change<String>,
    /// `none`, `last4` or `full`.
    pub store: Change<String>,
    /// 1 to 3,650.
    pub retain_days: Change<i64>,
    /// 0 to 10,000,000.
    pub meetings_max: Change<i64>,
    /// 0 to 1,000,000.
    pub callers_max: Change<i64>,
    /// 0 to 1,000,000,000.
    pub minutes_per_month: Change<i64>,
    /// What it may have dialled.
    pub dial: DialRulesChange,
    /// Which PINs it gets.
    pub pin: PinRulesChange,
}

impl OrganisationSettings {
    /// What holds for it where the configuration says `base`.
    #[must_use]
    pub fn privacy(&self, base: PrivacyPolicy) -> PrivacyPolicy {
        PrivacyPolicy {
            show: self.show.unwrap_or(base.show),
            store: self.store.unwrap_or(base.store),
            retain_days: self.retain_days.unwrap_or(base.retain_days),
        }
    }
}

impl OrganisationChange {
    /// Does it ask for nothing but other rules for PINs?
    #[must_use]
    pub fn is_of_pins_alone(&self) -> bool {
        let rest = Self {
            pin: PinRulesChange::default(),
            ..self.clone()
        };
        rest == Self::default() && !self.pin.is_none()
    }

    /// Applied to `base`.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn apply(
        self,
        base: OrganisationSettings,
    ) -> Result<OrganisationSettings, Vec<FieldError>> {
        let mut wrong = Vec::new();
        let language = pick(self.language, base.language, |text| {
            text.parse().map_err(|_| "must be it or en")
        });
        let show = pick(self.show, base.show, disclosure);
        let store = pick(self.store, base.store, disclosure);
        let retain_days = pick(self.retain_days, base.retain_days, |days| {
            within(days, 1..=RETAIN_DAYS_MAX, "must be 1 to 3,650")
        });
        let meetings_max = pick(self.meetings_max, base.meetings_max, |most| {
            within(most, 0..=MEETINGS_MAX, "must be 0 to 10,000,000")
        });
        let callers_max = pick(self.callers_max, base.callers_max, |most| {
            within(most, 0..=CALLERS_MAX, "must be 0 to 1,000,000")
        });
        let minutes = pick(self.minutes_per_month, base.minutes_per_month, |most| {
            within(most, 0..=MINUTES_MAX, "must be 0 to 1,000,000,000")
        });
        let settings = OrganisationSettings {
            language: noted("language", language, &mut wrong),
            show: noted("privacy_show", show, &mut wrong),
            store: noted("privacy_store", store, &mut wrong),
            retain_days: noted("retain_days", retain_days, &mut wrong),
            meetings_max: noted("meetings_max", meetings_max, &mut wrong),
            callers_max: noted("callers_max", callers_max, &mut wrong),
            minutes_per_month: noted("minutes_per_month", minutes, &mut wrong),
            dial: self.dial.apply(base.dial, &mut wrong),
            pin: self.pin.apply(base.pin, &mut wrong),
        };
        if wrong.is_empty() {
            Ok(settings)
        } else {
            Err(wrong)
        }
    }
}

/// Checks the name of an organisation.
///
/// # Errors
/// What is wrong with it.
pub fn check_organisation_name(field: &str, name: &str) -> Result<(), FieldError> {
    if is_organisation_name(name) {
        return Ok(());
    }
    let allowed = format!(
        "1 to {ORGANISATION_CHARS_MAX} characters, no control characters, no space at either end"
    );
    Err(FieldError::new(field, "invalid", allowed))
}

fn pick<A, T>(
    change: Change<A>,
    base: Option<T>,
    read: impl FnOnce(A) -> Result<T, &'static str>,
) -> Result<Option<T>, &'static str> {
    match change {
        Change::Keep => Ok(base),
        Change::Clear => Ok(None),
        Change::Set(asked) => read(asked).map(Some),
    }
}

fn noted<T>(
    field: &str,
    read: Result<Option<T>, &'static str>,
    wrong: &mut Vec<FieldError>,
) -> Option<T> {
    read.unwrap_or_else(|must| {
        wrong.push(FieldError::new(field, "invalid", must));
        None
    })
}

fn disclosure(word: String) -> Result<Disclosure, &'static str> {
    serde_json::from_value(serde_json::Value::String(word))
        .map_err(|_| "must be none, last4 or full")
}

fn within(
    number: i64,
    allowed: std::ops::RangeInclusive<u32>,
    must: &'static str,
) -> Result<u32, &'static str> {
    u32::try_from(number)
        .ok()
        .filter(|number| allowed.contains(number))
        .ok_or(must)
}

const RETAIN_DAYS_MAX: u32 = 3_650;
const MEETINGS_MAX: u32 = 10_000_000;
const CALLERS_MAX: u32 = 1_000_000;
const MINUTES_MAX: u32 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_wrong_is_told_and_what_is_left_out_stays() {
        let set = |text: &str| Change::Set(text.to_owned());
        let asked = OrganisationChange {
            language: set("de"),
            show: set("some"),
            retain_days: Change::Set(0),
            meetings_max: Change::Set(-1),
            ..OrganisationChange::default()
        };
        let wrong = asked.apply(OrganisationSettings::default()).unwrap_err();
        let fields: Vec<&str> = wrong.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(
            fields,
            ["language", "privacy_show", "retain_days", "meetings_max"]
        );
        let base = OrganisationSettings {
            language: Some(Language::English),
            retain_days: Some(7),
            ..OrganisationSettings::default()
        };
        let asked = OrganisationChange {
            retain_days: Change::Clear,
            store: set("none"),
            ..OrganisationChange::default()
        };
        let settings = asked.apply(base).unwrap();
        assert_eq!(settings.language, Some(Language::English));
        let policy = settings.privacy(PrivacyPolicy::default());
        assert_eq!((policy.store, policy.retain_days), (Disclosure::None, 90));
    }
}
