//! How PINs are made, and how long they must be.
//!
//! A PIN comes from the operating system's random generator, never from a meeting system: what can be
//! computed from a meeting's number can be computed by others too.

mod rules;

use std::sync::Arc;

use crate::booking::admission::Role;
use crate::booking::privacy::{PIN_DIGITS_MAX, PIN_DIGITS_MIN, Pin};
use crate::booking::recurrence::RecurrenceId;
use uuid::Uuid;

pub use rules::{Forbidden, PinRules, PinRulesChange};

/// A PIN of one meeting, as it is kept.
#[derive(Debug, Clone)]
pub struct PinRecord {
    /// Names it in the API.
    pub id: Uuid,
    /// The digits.
    pub pin: Pin,
    /// What it makes of its user.
    pub role: Role,
    /// Whose it is, for personal PINs.
    pub label: Option<String>,
    /// The occurrence of a series that it opens; `None`: all of it.
    pub occurrence: Option<RecurrenceId>,
}

/// Makes candidates for PINs of one length, by one organisation's rules; the store takes the first that is free.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PinMint {
    length: usize,
    rules: Arc<PinRules>,
}

/// The operating system gave no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no random numbers")]
pub struct NoRandomness;

impl PinMint {
    /// For PINs of `length` digits, held to 4..=16.
    #[must_use]
    pub fn new(length: usize) -> Self {
        Self {
            length: length.clamp(PIN_DIGITS_MIN, PIN_DIGITS_MAX),
            rules: Arc::default(),
        }
    }

    /// By rules; what they leave open is as it is here.
    #[must_use]
    pub fn under(&self, rules: PinRules) -> Self {
        let length = rules.length.and_then(|length| usize::try_from(length).ok());
        Self {
            rules: Arc::new(rules),
            ..Self::new(length.unwrap_or(self.length))
        }
    }

    /// How many digits.
    #[must_use]
    pub const fn length(&self) -> usize {
        self.length
    }

    /// A random PIN: no leading zero, not trivially guessable. May be taken already.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn candidate(&self) -> Result<Pin, NoRandomness> {
        let all = self.rules.alphabet();
        let first = all.strip_prefix(b"0").unwrap_or(all);
        loop {
            let mut digits = String::with_capacity(self.length);
            digits.push(one_of(first)?);
            while digits.len() < self.length {
                digits.push(one_of(all)?);
            }
            if !is_trivial(&digits)
                && self.rules.allow(&digits)
                && let Ok(pin) = Pin::parse(&digits)
            {
                return Ok(pin);
            }
        }
    }

    /// How many PINs of this length may be in use at once: a twentieth of all that the rules leave. Beyond that
    /// random search slows down and a random guess hits too often.
    #[must_use]
    pub fn in_use_max(&self) -> u64 {
        let length = u32::try_from(self.length).unwrap_or(u32::MAX);
        let possible = if *self.rules == PinRules::default() {
            10_u64.saturating_pow(length)
        } else {
            self.possible()
        };
        possible / 100 * PIN_SPACE_PERCENT_MAX
    }

    /// How many PINs the rules leave.
    #[must_use]
    pub fn possible(&self) -> u64 {
        self.rules.possible(self.length)
    }

    /// Do the rules leave so little of what their digits could make that a candidate is hard to find?
    #[must_use]
    pub fn is_starved(&self) -> bool {
        let digits = u64::try_from(self.rules.alphabet().len()).unwrap_or(10);
        let length = u32::try_from(self.length).unwrap_or(u32::MAX);
        self.possible() < digits.saturating_pow(length) / STARVED_BELOW_ONE_IN
    }

    /// Wrong joins to be expected in 30 days of somebody who guesses among the PINs that the rules leave, as
    /// [`expected_wrong_joins`]; `None`: they are few enough.
    #[must_use]
    pub fn too_many_wrong_joins(&self, budget_per_hour: u32, live_pins: u64) -> Option<f64> {
        let guesses = f64::from(budget_per_hour) * HOURS_IN_30_DAYS;
        let expected = guesses * live_pins as f64 / self.possible() as f64;
        (expected > WRONG_JOINS_MAX).then_some(expected)
    }
}

/// Wrong joins to be expected in 30 days when somebody guesses all the time and each hour's failure
/// budget is used up: guesses × live PINs ÷ PINs there could be.
#[must_use]
pub fn expected_wrong_joins(length: usize, budget_per_hour: u32, live_pins: u64) -> f64 {
    let length = i32::try_from(length).unwrap_or(i32::MAX);
    f64::from(budget_per_hour) * HOURS_IN_30_DAYS * live_pins as f64 / 10_f64.powi(length)
}

/// Is this length enough for so many PINs that open something at the same time? The bar: at most one
/// wrong join in a hundred times 30 days of guessing.
#[must_use]
pub fn pin_length_is_enough(length: usize, budget_per_hour: u32, live_pins: u64) -> bool {
    expected_wrong_joins(length, budget_per_hour, live_pins) <= WRONG_JOINS_MAX
}

/// What people try first: one digit repeated, straight runs up or down, a block said twice or more.
#[must_use]
pub fn is_trivial(digits: &str) -> bool {
    let bytes = digits.as_bytes();
    let step_is = |step: u8| {
        bytes
            .windows(2)
            .all(|w| matches!(w, [a, b] if (b + 10 - a) % 10 == step))
    };
    let repeats = |block: usize| {
        bytes.len().is_multiple_of(block) && bytes.chunks(block).all(|c| bytes.starts_with(c))
    };
    step_is(0) || step_is(1) || step_is(9) || (1..=bytes.len() / 2).any(repeats)
}

/// An even random number below `limit`: bytes above the last whole multiple are thrown away.
fn random_below(limit: u8) -> Result<u8, NoRandomness> {
    let fair = u8::MAX - u8::MAX % limit;
    loop {
        let mut byte = [0_u8; 1];
        getrandom::fill(&mut byte).map_err(|_| NoRandomness)?;
        if byte[0] < fair {
            return Ok(byte[0] % limit);
        }
    }
}

fn one_of(digits: &[u8]) -> Result<char, NoRandomness> {
    let count = u8::try_from(digits.len()).unwrap_or(1).max(1);
    let drawn = usize::from(random_below(count)?);
    Ok(digits.get(drawn).map_or('1', |&digit| char::from(digit)))
}

/// Digits of a PIN where the configuration does not say otherwise.
pub const PIN_LENGTH_DEFAULT: usize = 10;
const PIN_SPACE_PERCENT_MAX: u64 = 5;
const HOURS_IN_30_DAYS: f64 = 24.0 * 30.0;
const WRONG_JOINS_MAX: f64 = 1e-2;
const STARVED_BELOW_ONE_IN: u64 = 100;
/// PINs that are counted on to be live at once, where fewer are.
pub const LIVE_PINS_PLANNED: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sizing_table_holds() {
        assert!((expected_wrong_joins(10, 100, 1_000) - 7.2e-3).abs() < 1e-12);
        assert!((expected_wrong_joins(9, 100, 1_000) - 7.2e-2).abs() < 1e-12);
        assert!(pin_length_is_enough(PIN_LENGTH_DEFAULT, 100, 1_000));
        assert!(!pin_length_is_enough(9, 100, 1_000));
        assert!(!pin_length_is_enough(10, 100, 2_000));
        assert!(pin_length_is_enough(11, 100, 2_000));
    }

    #[test]
    fn what_people_try_first_is_never_given() {
        for bad in [
            "1111",
            "1234567890",
            "9876",
            "7890",
            "121212",
            "123123",
            "48154815",
            "8901234567",
        ] {
            assert!(is_trivial(bad), "{bad}");
        }
        for good in ["4815", "1235", "1212121213", "4815162342"] {
            assert!(!is_trivial(good), "{good}");
        }
    }

    #[test]
    fn candidates_have_the_length_no_leading_zero_and_every_digit_evenly() {
        let mut counts = [0_u32; 10];
        for length in [PIN_DIGITS_MIN, PIN_LENGTH_DEFAULT, PIN_DIGITS_MAX] {
            for _ in 0..1_000 {
                let pin = PinMint::new(length).candidate().unwrap();
                assert_eq!(pin.expose().len(), length);
                assert!(!pin.expose().starts_with('0') && !is_trivial(pin.expose()));
                for digit in pin.expose().bytes().skip(1) {
                    counts[usize::from(digit - b'0')] += 1;
                }
            }
        }
        let expected = f64::from(counts.iter().sum::<u32>()) / 10.0;
        assert!(
            counts
                .iter()
                .all(|&n| (f64::from(n) - expected).abs() < 0.1 * expected),
            "{counts:?}"
        );
    }

    #[test]
    fn a_short_length_is_full_long_before_every_pin_is_taken() {
        assert_eq!(PinMint::new(4).in_use_max(), 500);
        assert_eq!(PinMint::new(10).in_use_max(), 500_000_000);
    }
}
