//! The keys of a PIN, one after the other, until they make up a PIN or can't any more.

use std::fmt;

use crate::booking::Pin;
use crate::booking::privacy::{NotAPin, PIN_DIGITS_MAX};
use crate::units::Key;

/// What was keyed in so far. Prints as `***`.
#[derive(Clone, Default)]
pub(super) struct PinEntry {
    /// Never more than one digit longer than a PIN, so that too long an entry stays too long.
    digits: String,
}

/// What a key makes of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryStep {
    /// A digit more; others may follow.
    More,
    /// It reached the longest length in use: complete without `#`.
    CompletedItself,
    /// `#` after digits: complete.
    Completed,
    /// `#` without digits.
    Empty,
    /// `*`: from the beginning.
    StartedOver,
    /// A key that no telephone has (A to D).
    Ignored,
}

impl PinEntry {
    /// Takes a key; `longest` is the longest PIN in use, where known.
    pub(super) fn press(&mut self, key: Key, longest: Option<usize>) -> EntryStep {
        if key == Key::STAR {
            self.digits.clear();
            return EntryStep::StartedOver;
        }
        if key == Key::HASH {
            return if self.is_empty() {
                EntryStep::Empty
            } else {
                EntryStep::Completed
            };
        }
        if key.digit().is_none() {
            return EntryStep::Ignored;
        }
        if self.digits.len() <= PIN_DIGITS_MAX {
            self.digits.push(key.as_char());
        }
        if longest == Some(self.digits.len()) {
            EntryStep::CompletedItself
        } else {
            EntryStep::More
        }
    }

    /// Nothing keyed in, or nothing since `*`.
    pub(super) fn is_empty(&self) -> bool {
        self.digits.is_empty()
    }

    /// As a PIN, if it has the form of one.
    pub(super) fn pin(&self) -> Result<Pin, NotAPin> {
        Pin::parse(&self.digits)
    }
}

impl fmt::Debug for PinEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PinEntry(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press_all(entry: &mut PinEntry, keys: &str, longest: Option<usize>) -> EntryStep {
        let mut last = EntryStep::Ignored;
        for key in keys.chars().filter_map(Key::from_char) {
            last = entry.press(key, longest);
        }
        last
    }

    #[test]
    fn keys_make_up_a_pin() {
        use EntryStep::{Completed, CompletedItself, Empty, Ignored, More, StartedOver};
        let cases = [
            ("1234", None, More, Some("1234")),
            ("1234#", None, Completed, Some("1234")),
            ("999*1234#", None, Completed, Some("1234")),
            ("1234*", None, StartedOver, None),
            ("#", None, Empty, None),
            ("12*#", None, Empty, None),
            ("12A", None, Ignored, None),
            ("12345", Some(6), More, Some("12345")),
            ("123456", Some(6), CompletedItself, Some("123456")),
            ("123#", None, Completed, None),
            (
                "1234567890123456",
                Some(16),
                CompletedItself,
                Some("1234567890123456"),
            ),
            ("1234567890123456", None, More, Some("1234567890123456")),
            ("12345678901234567#", None, Completed, None),
            ("1234567890123456789012345#", Some(10), Completed, None),
        ];
        for (keys, longest, step, pin) in cases {
            let mut entry = PinEntry::default();
            assert_eq!(press_all(&mut entry, keys, longest), step, "{keys}");
            assert_eq!(entry.pin().ok().as_ref().map(Pin::expose), pin, "{keys}");
        }
    }

    #[test]
    fn an_entry_prints_as_stars() {
        let mut entry = PinEntry::default();
        press_all(&mut entry, "48151623", None);
        assert_eq!(format!("{entry:?}"), "PinEntry(***)");
    }
}
