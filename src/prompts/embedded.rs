//! The spoken files that ship inside the program, made by `scripts/make-sounds`: raw G.722.

use super::texts::ClipName;
use crate::units::Language;

/// The shipped recording of that name.
#[must_use]
pub(super) fn shipped(language: Language, name: ClipName) -> Option<&'static [u8]> {
    let table = match language {
        Language::Italian => ITALIAN,
        Language::English => ENGLISH,
    };
    table
        .iter()
        .find(|(known, _)| *known == name.as_str())
        .map(|(_, bytes)| *bytes)
}

macro_rules! sounds {
    ($language:literal: $($name:literal)*) => {
        &[$(($name, include_bytes!(concat!("../../sounds/", $language, "/", $name, ".g722")))),*]
    };
}

/// Names and bytes.
type Table = &'static [(&'static str, &'static [u8])];

#[rustfmt::skip]
const ITALIAN: Table = sounds! {
    "it":
    "welcome" "enter-pin" "invited" "key-in-digits" "wrong-pin" "goodbye" "opens-at" "opens-on" "at" "at-one" "at-zero"
    "meeting-ended" "meeting-cancelled" "meeting-locked" "meeting-full" "lines-taken" "minutes-used-up"
    "number-not-allowed"
    "try-again-later" "only-participant" "one-other" "there-are" "others" "participants"
    "wait-for-start" "wait-for-host" "muted" "unmuted" "unmute-not-allowed" "keys-help"
    "ends-in" "ends-in-1-minute" "ends-in-5-minutes" "minutes" "ends-now" "time-limit" "and"
    "one-minute" "number-0" "number-1" "number-2" "number-3" "number-4" "number-5" "number-6"
    "number-7" "number-8" "number-9" "number-10" "number-11" "number-12" "number-13"
    "number-14" "number-15" "number-16" "number-17" "number-18" "number-19" "number-20"
    "number-21" "number-28" "number-30" "number-31" "number-38" "number-40" "number-41"
    "number-48" "number-50" "number-51" "number-58" "number-60" "number-61" "number-68"
    "number-70" "number-71" "number-78" "number-80" "number-81" "number-88" "number-90"
    "number-91" "number-98" "hundred" "thousand" "thousands" "first" "sunday" "monday"
    "tuesday" "wednesday" "thursday" "friday" "saturday" "january" "february" "march" "april"
    "may" "june" "july" "august" "september" "october" "november" "december"
};

#[rustfmt::skip]
const ENGLISH: Table = sounds! {
    "en":
    "welcome" "enter-pin" "invited" "key-in-digits" "wrong-pin" "goodbye" "opens-at" "opens-on" "at" "meeting-ended"
    "meeting-cancelled" "meeting-locked" "meeting-full" "lines-taken" "minutes-used-up"
    "number-not-allowed" "try-again-later"
    "only-participant" "one-other" "there-are" "others" "participants" "wait-for-start"
    "wait-for-host" "muted" "unmuted" "unmute-not-allowed" "keys-help" "ends-in"
    "ends-in-1-minute" "ends-in-5-minutes" "minutes" "ends-now" "time-limit" "oh" "noon" "a-m"
    "p-m" "number-0" "number-1" "number-2" "number-3" "number-4" "number-5" "number-6"
    "number-7" "number-8" "number-9" "number-10" "number-11" "number-12" "number-13"
    "number-14" "number-15" "number-16" "number-17" "number-18" "number-19" "number-20"
    "number-30" "number-40" "number-50" "number-60" "number-70" "number-80" "number-90"
    "hundred" "thousand" "ordinal-1" "ordinal-2" "ordinal-3" "ordinal-4" "ordinal-5"
    "ordinal-6" "ordinal-7" "ordinal-8" "ordinal-9" "ordinal-10" "ordinal-11" "ordinal-12"
    "ordinal-13" "ordinal-14" "ordinal-15" "ordinal-16" "ordinal-17" "ordinal-18" "ordinal-19"
    "ordinal-20" "ordinal-30" "sunday" "monday" "tuesday" "wednesday" "thursday" "friday"
    "saturday" "january" "february" "march" "april" "may" "june" "july" "august" "september"
    "october" "november" "december"
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompts::texts::entries;

    #[test]
    fn every_text_ships_with_a_recording_and_every_recording_has_a_text() {
        for (language, table) in [(Language::Italian, ITALIAN), (Language::English, ENGLISH)] {
            let texts: Vec<_> = entries(language).iter().map(|e| e.name.as_str()).collect();
            let shipped: Vec<_> = table.iter().map(|(name, _)| *name).collect();
            assert_eq!(texts, shipped, "{language}");
        }
    }

    #[test]
    fn shipped_recordings_are_neither_empty_nor_large() {
        let all = || ITALIAN.iter().chain(ENGLISH);
        for (name, bytes) in all() {
            // 8 bytes per ms.
            assert!(
                (8 * 150..8 * 10_000).contains(&bytes.len()),
                "{name}: {} bytes",
                bytes.len()
            );
        }
        let total: usize = all().map(|(_, bytes)| bytes.len()).sum();
        assert!(total < 1_800_000, "{total} bytes");
    }
}
