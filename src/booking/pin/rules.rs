//! Which PINs an organisation gets: how long, of which digits, without which patterns; and how many that leaves.

use std::collections::VecDeque;

use crate::booking::change::{Change, FieldError};
use crate::booking::privacy::{PIN_DIGITS_MAX, PIN_DIGITS_MIN};

/// The rules for new PINs; those that are there stay.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct PinRules {
    /// How many digits; `None`: `pin.length`.
    pub length: Option<u32>,
    /// The digits they are made of, each once, ascending; `None`: all ten.
    pub digits: Option<String>,
    /// What none of them holds.
    pub forbidden: Vec<Forbidden>,
}

/// What no PIN holds, anywhere in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Forbidden {
    /// The same digit three times in a row.
    SameDigit,
    /// Three digits that follow each other, up or down, 0 after 9.
    Runs,
    /// Two digits, and the same two again.
    RepeatedPairs,
    /// These digits.
    Digits(String),
}

/// Rules as they are asked for, or what to change of them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PinRulesChange {
    /// 4 to 16.
    pub length: Change<i64>,
    /// Two different digits at least.
    pub digits: Change<String>,
    /// `same_digit`, `runs`, `repeated_pairs`, or 2 to 16 digits.
    pub forbidden: Change<Vec<String>>,
}

impl PinRules {
    /// Does this PIN, whose length isn't looked at, keep to them?
    #[must_use]
    pub fn allow(&self, pin: &str) -> bool {
        let known = |digit: char| {
            self.digits
                .as_ref()
                .is_none_or(|digits| digits.contains(digit))
        };
        pin.chars().all(known) && !self.forbidden.iter().any(|what| what.is_in(pin))
    }

    /// The digits that PINs are made of.
    pub fn alphabet(&self) -> &[u8] {
        self.digits.as_ref().map_or(b"0123456789", String::as_bytes)
    }

    /// How many PINs of this length there can be; none begins with 0.
    #[must_use]
    pub fn possible(&self, length: usize) -> u64 {
        let automaton = Automaton::new(self.forbidden.iter().flat_map(Forbidden::texts));
        let mut counts = vec![0_u64; automaton.states.len()];
        if let Some(begin) = counts.first_mut() {
            *begin = 1;
        }
        for place in 0..length {
            let mut after = vec![0_u64; counts.len()];
            for (state, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                for &digit in self.alphabet() {
                    let next = automaton.step(state, digit);
                    if (place > 0 || digit != b'0')
                        && let Some(next) = next
                        && let Some(sum) = after.get_mut(next)
                    {
                        *sum = sum.saturating_add(count);
                    }
                }
            }
            counts = after;
        }
        counts.iter().sum()
    }
}

impl PinRulesChange {
    /// Does it ask for anything?
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Applied to `base`; what is wrong is added to `wrong`.
    pub(in crate::booking) fn apply(self, base: PinRules, wrong: &mut Vec<FieldError>) -> PinRules {
        let mut refuse = |field, must: String| {
            wrong.push(FieldError::new(field, "invalid", must));
        };
        let length = match self.length {
            Change::Keep => base.length,
            Change::Clear => None,
            Change::Set(asked) => {
                let fits = usize::try_from(asked).ok();
                let fits = fits.filter(|n| (PIN_DIGITS_MIN..=PIN_DIGITS_MAX).contains(n));
                if fits.is_none() {
                    let must = format!("must be {PIN_DIGITS_MIN} to {PIN_DIGITS_MAX}");
                    refuse("pin_length", must);
                }
                fits.and_then(|n| u32::try_from(n).ok())
            }
        };
        let digits = match self.digits {
            Change::Keep => base.digits,
            Change::Clear => None,
            Change::Set(asked) => {
                let read = alphabet(&asked);
                if read.is_none() {
                    let must = "must be 2 to 10 different digits, one of them not 0";
                    refuse("pin_digits", must.to_owned());
                }
                read
            }
        };
        let forbidden = match self.forbidden {
            Change::Keep => base.forbidden,
            Change::Clear => Vec::new(),
            Change::Set(asked) => Forbidden::read_all(&asked).unwrap_or_else(|| {
                let must = format!(
                    "must be at most {FORBIDDEN_MAX} of same_digit, runs, repeated_pairs and texts of 2 to {PIN_DIGITS_MAX} digits"
                );
                refuse("pin_forbidden", must);
                Vec::new()
            }),
        };
        PinRules {
            length,
            digits: digits.filter(|digits| digits.len() < 10),
            forbidden,
        }
    }
}

impl Forbidden {
    /// `None`: one of them is none of those that there are, or there are too many.
    #[must_use]
    pub fn read_all(words: &[String]) -> Option<Vec<Self>> {
        if words.len() > FORBIDDEN_MAX {
            return None;
        }
        let read: Option<Vec<Self>> = words.iter().map(|word| Self::read(word)).collect();
        let mut read = read?;
        read.sort();
        read.dedup();
        Some(read)
    }

    /// As it is written.
    #[must_use]
    pub fn word(&self) -> &str {
        match self {
            Self::SameDigit => "same_digit",
            Self::Runs => "runs",
            Self::RepeatedPairs => "repeated_pairs",
            Self::Digits(digits) => digits,
        }
    }

    fn read(word: &str) -> Option<Self> {
        match word {
            "same_digit" => Some(Self::SameDigit),
            "runs" => Some(Self::Runs),
            "repeated_pairs" => Some(Self::RepeatedPairs),
            digits => {
                let fits = (2..=PIN_DIGITS_MAX).contains(&digits.len())
                    && digits.bytes().all(|b| b.is_ascii_digit());
                fits.then(|| Self::Digits(digits.to_owned()))
            }
        }
    }

    fn is_in(&self, pin: &str) -> bool {
        let bytes = pin.as_bytes();
        let follow = |step: u8| {
            let after = move |a: u8, b: u8| (b + 10 - a) % 10 == step;
            let mut threes = bytes.windows(3);
            threes.any(|w| matches!(w, [a, b, c] if after(*a, *b) && after(*b, *c)))
        };
        match self {
            Self::SameDigit => follow(0),
            Self::Runs => follow(1) || follow(9),
            Self::RepeatedPairs => bytes
                .windows(4)
                .any(|w| matches!(w, [a, b, c, d] if a == c && b == d)),
            Self::Digits(digits) => pin.contains(digits.as_str()),
        }
    }

    /// All texts that it forbids.
    fn texts(&self) -> Vec<String> {
        let three = |step: u8| {
            (0..10).map(move |a| {
                let text = [a, (a + step) % 10, (a + 2 * step) % 10];
                text.map(|digit| char::from(b'0' + digit)).iter().collect()
            })
        };
        match self {
            Self::SameDigit => three(0).collect(),
            Self::Runs => three(1).chain(three(9)).collect(),
            Self::RepeatedPairs => (0..100).map(|pair| format!("{pair:02}{pair:02}")).collect(),
            Self::Digits(digits) => vec![digits.clone()],
        }
    }
}

/// Reads digits one by one and knows what of the forbidden texts it has before it (Aho and Corasick's).
struct Automaton {
    states: Vec<State>,
}

#[derive(Default, Clone)]
struct State {
    next: [Option<usize>; 10],
    /// A forbidden text ends here.
    ends: bool,
}

impl Automaton {
    fn new(texts: impl Iterator<Item = String>) -> Self {
        let mut automaton = Self {
            states: vec![State::default()],
        };
        for text in texts {
            automaton.add(&text);
        }
        automaton.link();
        automaton
    }

    /// `None`: that ends a forbidden text.
    fn step(&self, state: usize, digit: u8) -> Option<usize> {
        let next = self.next(state, usize::from(digit.saturating_sub(b'0')));
        let ends = next.and_then(|next| self.states.get(next));
        next.filter(|_| ends.is_some_and(|state| !state.ends))
    }

    fn next(&self, state: usize, digit: usize) -> Option<usize> {
        *self.states.get(state)?.next.get(digit)?
    }

    fn add(&mut self, text: &str) {
        let mut at = 0;
        for digit in text.bytes().map(|b| usize::from(b.saturating_sub(b'0'))) {
            at = self.next(at, digit).unwrap_or_else(|| {
                let new = self.states.len();
                self.states.push(State::default());
                self.set(at, digit, new);
                new
            });
        }
        if let Some(state) = self.states.get_mut(at) {
            state.ends = true;
        }
    }

    fn set(&mut self, state: usize, digit: usize, next: usize) {
        let state = self.states.get_mut(state);
        if let Some(place) = state.and_then(|state| state.next.get_mut(digit)) {
            *place = Some(next);
        }
    }

    /// Breadth first: where no text goes on, the longest end of what was read that begins one does.
    fn link(&mut self) {
        let mut fallbacks = vec![0; self.states.len()];
        let mut queue = VecDeque::from([0]);
        while let Some(state) = queue.pop_front() {
            let fallback: usize = fallbacks.get(state).copied().unwrap_or(0);
            for digit in 0..10 {
                let instead = if state == 0 {
                    0
                } else {
                    self.next(fallback, digit).unwrap_or(0)
                };
                match self.next(state, digit) {
                    None => self.set(state, digit, instead),
                    Some(next) => {
                        let ends = self.states.get(instead).is_some_and(|state| state.ends);
                        if let Some(next) = self.states.get_mut(next) {
                            next.ends |= ends;
                        }
                        if let Some(place) = fallbacks.get_mut(next) {
                            *place = instead;
                        }
                        queue.push_back(next);
                    }
                }
            }
        }
    }
}

fn alphabet(asked: &str) -> Option<String> {
    let mut digits: Vec<char> = asked.chars().collect();
    digits.sort_unstable();
    digits.dedup();
    let fits = digits.len() == asked.len()
        && (2..=10).contains(&digits.len())
        && digits.iter().all(char::is_ascii_digit);
    fits.then(|| digits.into_iter().collect())
}

const FORBIDDEN_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(digits: Option<&str>, forbidden: &[&str]) -> PinRules {
        let words: Vec<String> = forbidden.iter().map(|&word| word.to_owned()).collect();
        PinRules {
            length: None,
            digits: digits.map(str::to_owned),
            forbidden: Forbidden::read_all(&words).unwrap(),
        }
    }

    #[test]
    fn the_pins_that_rules_leave_are_counted_as_one_would_by_hand() {
        for rules in [
            rules(None, &[]),
            rules(Some("123456789"), &[]),
            rules(Some("02468"), &["same_digit"]),
            rules(None, &["same_digit", "runs", "repeated_pairs"]),
            rules(None, &["12", "121", "2112", "0390", "90"]),
            rules(Some("19"), &["same_digit", "repeated_pairs"]),
        ] {
            for length in [4_usize, 5] {
                let all = 10_u32.pow(length as u32 - 1)..10_u32.pow(length as u32);
                let by_hand = all.filter(|n| rules.allow(&n.to_string())).count();
                assert_eq!(rules.possible(length), by_hand as u64, "{rules:?} {length}");
            }
        }
        assert_eq!(rules(None, &[]).possible(16), 9 * 10_u64.pow(15));
    }

    #[test]
    fn what_is_forbidden_is_so_anywhere_in_a_pin() {
        let all = rules(None, &["same_digit", "runs", "repeated_pairs", "0390"]);
        for bad in [
            "4811159", "4789159", "4321815", "4818185", "4803905", "8901",
        ] {
            assert!(!all.allow(bad), "{bad}");
        }
        for good in ["4815162359", "1122334455", "4812481"] {
            assert!(all.allow(good), "{good}");
        }
    }

    #[test]
    fn everything_wrong_is_told() {
        let asked = PinRulesChange {
            length: Change::Set(3),
            digits: Change::Set("0".to_owned()),
            forbidden: Change::Set(vec!["birthdays".to_owned()]),
        };
        let mut wrong = Vec::new();
        asked.apply(PinRules::default(), &mut wrong);
        let fields: Vec<&str> = wrong.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["pin_length", "pin_digits", "pin_forbidden"]);
        for bad in ["11", "12a", "1", ""] {
            assert_eq!(alphabet(bad), None, "{bad}");
        }
        for bad in ["7", "12345678901234567", "1 2", ""] {
            assert_eq!(Forbidden::read(bad), None, "{bad}");
        }
    }
}
