//! Calling people into meetings: what a number is, which may be dialled, and how often.

use crate::booking::change::{Change, FieldError};
use crate::booking::privacy::CallerNumber;

/// What an organisation may have dialled. `None`: the default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DialRules {
    /// How a number must begin, like `+39`; none: nothing may be dialled.
    pub prefixes: Vec<String>,
    /// Fewest digits of a number.
    pub digits_min: Option<u32>,
    /// Most digits of a number.
    pub digits_max: Option<u32>,
    /// Most calls that ring or go on at once.
    pub at_once_max: Option<u32>,
    /// Most calls begun within an hour, answered or not.
    pub per_hour_max: Option<u32>,
}

/// The rules as they are asked for, or what to change of them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DialRulesChange {
    /// How a number must begin.
    pub prefixes: Change<Vec<String>>,
    /// 3 to 15.
    pub digits_min: Change<i64>,
    /// 3 to 15.
    pub digits_max: Change<i64>,
    /// 0 to 1,000.
    pub at_once_max: Change<i64>,
    /// 0 to 100,000.
    pub per_hour_max: Change<i64>,
}

/// Why an organisation may not have a number dialled now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DialRefusal {
    /// No prefix of the organisation's begins it, or it is too short or too long.
    #[error(
        "the organisation may not have this number dialled; whoever runs the platform allows prefixes (dial_prefixes)"
    )]
    NotAllowed,
    /// As many calls ring or go on as may at once.
    #[error("as many of the organisation's calls go on as may at once (dial_at_once_max)")]
    AtOnce,
    /// As many were begun within the last hour as may be.
    #[error(
        "as many of the organisation's calls were begun within an hour as may be (dial_per_hour_max)"
    )]
    PerHour {
        /// When the first of them is an hour old.
        retry_seconds: u32,
    },
}

/// What was given is not a number that can be dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a telephone number: + and digits (E.164), or digits, at most 15")]
pub struct NotANumber;

impl DialRules {
    /// May this number, as [`normalised`] gives it, be dialled?
    ///
    /// # Errors
    /// [`DialRefusal::NotAllowed`].
    pub fn allow(&self, number: &CallerNumber) -> Result<(), DialRefusal> {
        let number = number.expose();
        let digits = number.trim_start_matches('+').len();
        let fits = (self.digits_min() as usize..=self.digits_max() as usize).contains(&digits);
        let known = self
            .prefixes
            .iter()
            .any(|prefix| !prefix.is_empty() && number.starts_with(prefix.as_str()));
        if fits && known {
            Ok(())
        } else {
            Err(DialRefusal::NotAllowed)
        }
    }

    /// Most calls at once.
    #[must_use]
    pub fn at_once_max(&self) -> u32 {
        self.at_once_max.unwrap_or(AT_ONCE_DEFAULT)
    }

    /// Most calls an hour.
    #[must_use]
    pub fn per_hour_max(&self) -> u32 {
        self.per_hour_max.unwrap_or(PER_HOUR_DEFAULT)
    }

    fn digits_min(&self) -> u32 {
        self.digits_min.unwrap_or(DIGITS_MIN_DEFAULT)
    }

    fn digits_max(&self) -> u32 {
        self.digits_max.unwrap_or(DIGITS_MAX)
    }
}

impl DialRulesChange {
    /// Applied to `base`; what is wrong is added to `wrong`.
    pub(super) fn apply(self, base: DialRules, wrong: &mut Vec<FieldError>) -> DialRules {
        let prefixes = match self.prefixes {
            Change::Keep => base.prefixes,
            Change::Clear => Vec::new(),
            Change::Set(asked) => prefixes(&asked).unwrap_or_else(|must| {
                wrong.push(FieldError::new("dial_prefixes", "invalid", must));
                Vec::new()
            }),
        };
        let mut number = |field, asked, base, most, must| match asked {
            Change::Keep => base,
            Change::Clear => None,
            Change::Set(asked) => {
                let least = if most == DIGITS_MAX { DIGITS_MIN } else { 0 };
                let fits = u32::try_from(asked).ok();
                let fits = fits.filter(|asked| (least..=most).contains(asked));
                if fits.is_none() {
                    wrong.push(FieldError::new(field, "invalid", must));
                }
                fits
            }
        };
        let digits = "must be 3 to 15";
        let rules = DialRules {
            prefixes,
            digits_min: number(
                "dial_digits_min",
                self.digits_min,
                base.digits_min,
                DIGITS_MAX,
                digits,
            ),
            digits_max: number(
                "dial_digits_max",
                self.digits_max,
                base.digits_max,
                DIGITS_MAX,
                digits,
            ),
            at_once_max: number(
                "dial_at_once_max",
                self.at_once_max,
                base.at_once_max,
                AT_ONCE_MAX,
                "must be 0 to 1,000",
            ),
            per_hour_max: number(
                "dial_per_hour_max",
                self.per_hour_max,
                base.per_hour_max,
                PER_HOUR_MAX,
                "must be 0 to 100,000",
            ),
        };
        if rules.digits_min() > rules.digits_max() {
            let must = "must not be less than dial_digits_min (8 where none is set)";
            wrong.push(FieldError::new("dial_digits_max", "invalid", must));
        }
        rules
    }
}

/// The number as it is dialled: `+` and digits, or digits alone. What people write between them goes, and `00` at
/// the beginning becomes `+`.
///
/// # Errors
/// [`NotANumber`].
pub fn normalised(written: &str) -> Result<CallerNumber, NotANumber> {
    let plain = plain(written)?;
    let digits = plain.trim_start_matches('+').len();
    let fits = (1..=DIGITS_MAX as usize).contains(&digits);
    fits.then(|| CallerNumber::new(&plain)).ok_or(NotANumber)
}

fn plain(written: &str) -> Result<String, NotANumber> {
    if written.len() > WRITTEN_MAX {
        return Err(NotANumber);
    }
    let kept: String = written
        .chars()
        .filter(|c| !matches!(c, ' ' | '-' | '.' | '/' | '(' | ')'))
        .collect();
    let kept = kept
        .strip_prefix("00")
        .map_or_else(|| kept.clone(), |rest| format!("+{rest}"));
    let digits = kept.strip_prefix('+').unwrap_or(&kept);
    let fits = digits.bytes().all(|b| b.is_ascii_digit());
    fits.then_some(kept).ok_or(NotANumber)
}

fn prefixes(asked: &[String]) -> Result<Vec<String>, &'static str> {
    let must = "must be at most 100 beginnings of numbers, like +39";
    if asked.len() > PREFIXES_MAX {
        return Err(must);
    }
    let read = |prefix: &String| {
        let prefix = plain(prefix).ok()?;
        let digits = prefix.strip_prefix('+').unwrap_or(&prefix);
        let fits = (1..=DIGITS_MAX as usize).contains(&digits.len());
        fits.then_some(prefix)
    };
    asked.iter().map(read).collect::<Option<_>>().ok_or(must)
}

/// E.164 section 6.1.
const DIGITS_MAX: u32 = 15;
const DIGITS_MIN: u32 = 3;
/// What is shorter is a service or an emergency call somewhere, not a person.
const DIGITS_MIN_DEFAULT: u32 = 8;
const AT_ONCE_DEFAULT: u32 = 10;
const AT_ONCE_MAX: u32 = 1_000;
const PER_HOUR_DEFAULT: u32 = 60;
const PER_HOUR_MAX: u32 = 100_000;
const PREFIXES_MAX: usize = 100;
const WRITTEN_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn number(written: &str) -> Result<String, NotANumber> {
        normalised(written).map(|number| number.expose().to_owned())
    }

    #[test]
    fn a_number_is_dialled_alike_however_it_is_written_and_nothing_else_is() {
        for written in ["+390612345678", "0039 06 1234-5678", "+39 (06) 1234.5678"] {
            assert_eq!(number(written).as_deref(), Ok("+390612345678"), "{written}");
        }
        assert_eq!(number("0612345678").as_deref(), Ok("0612345678"));
        for bad in [
            "",
            "+",
            "00",
            "-",
            "++39061",
            "39+061",
            "+39061234567890123",
            "1234567890123456",
            "anna",
            "+39061@evil",
            "+39061&PJSIP",
            "+39061,1",
            "+39061\n",
            "٣٩٠٦١٢٣٤٥",
            "+39;x=1",
            "*21*123#",
        ] {
            assert_eq!(number(bad), Err(NotANumber), "{bad:?}");
        }
        assert_eq!(number(&" ".repeat(100)), Err(NotANumber));
        assert_eq!(format!("{:?}", normalised("+390612345678")), "Ok(***)");
    }

    #[test]
    fn only_what_a_prefix_allows_is_dialled_and_without_any_nothing() {
        let may =
            |rules: &DialRules, written: &str| rules.allow(&normalised(written).unwrap()).is_ok();
        assert!(!may(&DialRules::default(), "+390612345678"));
        let rules = DialRules {
            prefixes: vec!["+39".to_owned(), "0".to_owned()],
            ..DialRules::default()
        };
        for (written, allowed) in [
            ("+390612345678", true),
            ("00390612345678", true),
            ("0612345678", true),
            ("390612345678", false),
            ("+3906123", false),
            ("+4930123456", false),
            ("+882123456789", false),
        ] {
            assert_eq!(may(&rules, written), allowed, "{written}");
        }
        let short = DialRules {
            digits_min: Some(4),
            digits_max: Some(5),
            prefixes: vec!["7".to_owned()],
            ..DialRules::default()
        };
        assert!(may(&short, "7001") && !may(&short, "700") && !may(&short, "700111"));
    }

    #[test]
    fn wrong_rules_are_all_named_and_what_is_left_out_stays() {
        let asked = DialRulesChange {
            prefixes: Change::Set(vec!["+39".to_owned(), "abc".to_owned()]),
            digits_min: Change::Set(2),
            digits_max: Change::Set(16),
            at_once_max: Change::Set(-1),
            per_hour_max: Change::Set(100_001),
        };
        let mut wrong = Vec::new();
        asked.apply(DialRules::default(), &mut wrong);
        let fields: Vec<&str> = wrong.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "dial_prefixes",
                "dial_digits_min",
                "dial_digits_max",
                "dial_at_once_max",
                "dial_per_hour_max"
            ]
        );
        let asked = DialRulesChange {
            prefixes: Change::Set(vec!["0039 06".to_owned()]),
            ..DialRulesChange::default()
        };
        let base = DialRules {
            per_hour_max: Some(3),
            ..DialRules::default()
        };
        let mut wrong = Vec::new();
        let rules = asked.apply(base, &mut wrong);
        assert_eq!(
            (rules.prefixes, rules.per_hour_max),
            (vec!["+3906".to_owned()], Some(3))
        );
        assert!(wrong.is_empty());
        for bad in [vec![String::new()], vec!["1".to_owned(); 101]] {
            assert!(prefixes(&bad).is_err());
        }
    }
}
