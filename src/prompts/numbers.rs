//! Numbers, clock times and dates as sequences of recordings. Pure functions.

use jiff::Zoned;

use super::texts::ClipName;
use crate::units::Language;

/// The recordings that say the cardinal number `n`. From a million on digit by digit.
#[must_use]
pub fn say_number(language: Language, n: u32) -> Vec<ClipName> {
    let mut said = Vec::new();
    if n >= 1_000_000 {
        push_digits(n, &mut said);
        return said;
    }
    let (thousands, rest) = (n / 1_000, n % 1_000);
    if thousands > 0 {
        push_thousands(language, thousands, &mut said);
    }
    if rest > 0 || n == 0 {
        push_below_thousand(language, rest, &mut said);
    }
    said
}

/// The recordings that say "at" a time of day: 24 hours in Italian, a.m. and p.m. in English.
#[must_use]
pub fn say_time(language: Language, hour: u32, minute: u32) -> Vec<ClipName> {
    match language {
        Language::Italian => italian_time(hour, minute),
        Language::English => english_time(hour, minute),
    }
}

/// The recordings that say weekday, day and month.
#[must_use]
pub fn say_date(language: Language, date: &Zoned) -> Vec<ClipName> {
    let weekday = nth(
        &WEEKDAYS,
        date.weekday().to_sunday_zero_offset().unsigned_abs().into(),
    );
    let month = nth(
        &MONTHS,
        u32::from(date.month().unsigned_abs()).saturating_sub(1),
    );
    let day = u32::from(date.day().unsigned_abs());
    match language {
        Language::Italian => join([vec![weekday], italian_day(day), vec![month]]),
        Language::English => join([vec![weekday, month], english_day(day)]),
    }
}

fn push_digits(n: u32, said: &mut Vec<ClipName>) {
    if n >= 10 {
        push_digits(n / 10, said);
    }
    said.push(nth(&TO_TWENTY, n % 10));
}

/// Italian: mille, but duemila; English: one thousand, two thousand.
fn push_thousands(language: Language, thousands: u32, said: &mut Vec<ClipName>) {
    match language {
        Language::Italian if thousands == 1 => said.push(THOUSAND),
        Language::Italian => {
            push_below_thousand(language, thousands, said);
            said.push(THOUSANDS);
        }
        Language::English => {
            push_below_thousand(language, thousands, said);
            said.push(THOUSAND);
        }
    }
}

/// Italian: cento, duecento; English: one hundred, two hundred, without an "and".
fn push_below_thousand(language: Language, n: u32, said: &mut Vec<ClipName>) {
    let (hundreds, rest) = (n / 100, n % 100);
    if hundreds > 1 || (hundreds == 1 && language == Language::English) {
        said.push(nth(&TO_TWENTY, hundreds));
    }
    if hundreds > 0 {
        said.push(HUNDRED);
    }
    if rest > 0 || n == 0 {
        push_below_hundred(language, rest, said);
    }
}

/// Italian drops the ten's vowel before uno and otto (ventuno, ventotto): recordings of their own.
fn push_below_hundred(language: Language, n: u32, said: &mut Vec<ClipName>) {
    let (tens, unit) = (n / 10, n % 10);
    match (language, unit) {
        _ if n <= 20 => said.push(nth(&TO_TWENTY, n)),
        (Language::Italian | Language::English, 0) => said.push(nth(&TENS, tens)),
        (Language::Italian, 1) => said.push(nth(&ITALIAN_AND_ONE, tens)),
        (Language::Italian, 8) => said.push(nth(&ITALIAN_AND_EIGHT, tens)),
        (Language::Italian | Language::English, _) => {
            said.extend([nth(&TENS, tens), nth(&TO_TWENTY, unit)]);
        }
    }
}

/// "alle quindici e trenta", "all'una", "alle ore zero" (midnight would leave the day open).
fn italian_time(hour: u32, minute: u32) -> Vec<ClipName> {
    let mut said = match (hour, minute) {
        (0, 0) => vec![AT_ZERO],
        (1, _) => vec![AT_ONE],
        _ => join([vec![AT], say_number(Language::Italian, hour)]),
    };
    match minute {
        0 => {}
        1 => said.extend([AND, ONE_MINUTE]),
        _ => {
            said.push(AND);
            said.extend(say_number(Language::Italian, minute));
        }
    }
    said
}

/// "at three thirty p.m.", "at nine oh five a.m.", "at twelve noon".
fn english_time(hour: u32, minute: u32) -> Vec<ClipName> {
    let on_the_dial = match hour % 12 {
        0 => 12,
        other => other,
    };
    let minutes = match minute {
        0 => vec![],
        1..=9 => join([vec![OH], say_number(Language::English, minute)]),
        _ => say_number(Language::English, minute),
    };
    let half_of_day = match (hour, minute) {
        (12, 0) => NOON,
        (0..=11, _) => A_M,
        _ => P_M,
    };
    join([
        vec![AT],
        say_number(Language::English, on_the_dial),
        minutes,
        vec![half_of_day],
    ])
}

/// The first of a month is an ordinal, all other days are cardinals.
fn italian_day(day: u32) -> Vec<ClipName> {
    if day == 1 {
        vec![FIRST]
    } else {
        say_number(Language::Italian, day)
    }
}

/// "twenty" "first" is said in two.
fn english_day(day: u32) -> Vec<ClipName> {
    match day {
        0..=20 => vec![nth(&ORDINALS, day)],
        30 => vec![THIRTIETH],
        _ => vec![nth(&TENS, day / 10), nth(&ORDINALS, day % 10)],
    }
}

fn join<const N: usize>(parts: [Vec<ClipName>; N]) -> Vec<ClipName> {
    parts.into_iter().flatten().collect()
}

/// A table's entry. Every caller stays within its table; past the end there is nothing to say, and
/// zero says so.
fn nth(table: &[&'static str], index: u32) -> ClipName {
    ClipName(table.get(index as usize).copied().unwrap_or("number-0"))
}

const HUNDRED: ClipName = ClipName("hundred");
const THOUSAND: ClipName = ClipName("thousand");
const THOUSANDS: ClipName = ClipName("thousands");
pub(super) const AT: ClipName = ClipName("at");
const AT_ONE: ClipName = ClipName("at-one");
const AT_ZERO: ClipName = ClipName("at-zero");
const AND: ClipName = ClipName("and");
const ONE_MINUTE: ClipName = ClipName("one-minute");
const OH: ClipName = ClipName("oh");
const NOON: ClipName = ClipName("noon");
const A_M: ClipName = ClipName("a-m");
const P_M: ClipName = ClipName("p-m");
const FIRST: ClipName = ClipName("first");
const THIRTIETH: ClipName = ClipName("ordinal-30");

const TO_TWENTY: [&str; 21] = [
    "number-0",
    "number-1",
    "number-2",
    "number-3",
    "number-4",
    "number-5",
    "number-6",
    "number-7",
    "number-8",
    "number-9",
    "number-10",
    "number-11",
    "number-12",
    "number-13",
    "number-14",
    "number-15",
    "number-16",
    "number-17",
    "number-18",
    "number-19",
    "number-20",
];

/// By tens; 0 and 10 stand here so that the digit is the index.
const TENS: [&str; 10] = [
    "number-0",
    "number-10",
    "number-20",
    "number-30",
    "number-40",
    "number-50",
    "number-60",
    "number-70",
    "number-80",
    "number-90",
];

const ITALIAN_AND_ONE: [&str; 10] = [
    "number-1",
    "number-11",
    "number-21",
    "number-31",
    "number-41",
    "number-51",
    "number-61",
    "number-71",
    "number-81",
    "number-91",
];

const ITALIAN_AND_EIGHT: [&str; 10] = [
    "number-8",
    "number-18",
    "number-28",
    "number-38",
    "number-48",
    "number-58",
    "number-68",
    "number-78",
    "number-88",
    "number-98",
];

/// English ordinals; no month has a zeroth day.
const ORDINALS: [&str; 21] = [
    "number-0",
    "ordinal-1",
    "ordinal-2",
    "ordinal-3",
    "ordinal-4",
    "ordinal-5",
    "ordinal-6",
    "ordinal-7",
    "ordinal-8",
    "ordinal-9",
    "ordinal-10",
    "ordinal-11",
    "ordinal-12",
    "ordinal-13",
    "ordinal-14",
    "ordinal-15",
    "ordinal-16",
    "ordinal-17",
    "ordinal-18",
    "ordinal-19",
    "ordinal-20",
];

const WEEKDAYS: [&str; 7] = [
    "sunday",
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
];

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::prompts::texts::entries;

    /// What a caller would hear, in words.
    fn spoken(language: Language, clips: &[ClipName]) -> String {
        let texts: HashMap<_, _> = entries(language)
            .into_iter()
            .map(|e| (e.name, e.text))
            .collect();
        clips.iter().map(|c| texts[c]).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn numbers_are_said_as_italians_say_them() {
        for (n, words) in [
            (0, "zero"),
            (1, "uno"),
            (8, "otto"),
            (17, "diciassette"),
            (20, "venti"),
            (21, "ventuno"),
            (22, "venti due"),
            (28, "ventotto"),
            (38, "trentotto"),
            (91, "novantuno"),
            (99, "novanta nove"),
            (100, "cento"),
            (101, "cento uno"),
            (180, "cento ottanta"),
            (200, "due cento"),
            (921, "nove cento ventuno"),
            (1_000, "mille"),
            (1_001, "mille uno"),
            (1_100, "mille cento"),
            (2_000, "due mila"),
            (2_028, "due mila ventotto"),
            (9_999, "nove mila nove cento novanta nove"),
            (21_000, "ventuno mila"),
        ] {
            assert_eq!(
                spoken(Language::Italian, &say_number(Language::Italian, n)),
                words,
                "{n}"
            );
        }
    }

    #[test]
    fn numbers_are_said_as_english_speakers_say_them() {
        for (n, words) in [
            (0, "zero"),
            (1, "one"),
            (13, "thirteen"),
            (20, "twenty"),
            (21, "twenty one"),
            (28, "twenty eight"),
            (90, "ninety"),
            (100, "one hundred"),
            (101, "one hundred one"),
            (1_000, "one thousand"),
            (1_010, "one thousand ten"),
            (2_000, "two thousand"),
            (9_999, "nine thousand nine hundred ninety nine"),
            (1_000_000, "one zero zero zero zero zero zero"),
        ] {
            assert_eq!(
                spoken(Language::English, &say_number(Language::English, n)),
                words,
                "{n}"
            );
        }
    }

    #[test]
    fn every_number_a_meeting_can_count_has_its_recordings_and_its_own_words() {
        for language in Language::ALL {
            let mut seen = HashMap::new();
            for n in 0..=9_999 {
                let said = say_number(language, n);
                assert!(!spoken(language, &said).is_empty());
                if let Some(other) = seen.insert(said, n) {
                    panic!("{language}: {other} and {n} sound alike");
                }
            }
        }
    }

    #[test]
    fn times_are_said_as_italians_say_them() {
        for (hour, minute, words) in [
            (15, 30, "alle quindici e trenta"),
            (1, 0, "all'una"),
            (1, 21, "all'una e ventuno"),
            (0, 0, "alle ore zero"),
            (0, 30, "alle zero e trenta"),
            (9, 5, "alle nove e cinque"),
            (9, 1, "alle nove e un minuto"),
            (21, 0, "alle ventuno"),
            (23, 59, "alle venti tre e cinquanta nove"),
        ] {
            assert_eq!(
                spoken(
                    Language::Italian,
                    &say_time(Language::Italian, hour, minute)
                ),
                words
            );
        }
    }

    #[test]
    fn times_are_said_as_english_speakers_say_them() {
        for (hour, minute, words) in [
            (15, 30, "at three thirty P M"),
            (9, 5, "at nine oh five A M"),
            (10, 0, "at ten A M"),
            (12, 0, "at twelve noon"),
            (12, 1, "at twelve oh one P M"),
            (0, 0, "at twelve A M"),
            (0, 15, "at twelve fifteen A M"),
            (23, 59, "at eleven fifty nine P M"),
        ] {
            assert_eq!(
                spoken(
                    Language::English,
                    &say_time(Language::English, hour, minute)
                ),
                words
            );
        }
    }

    #[test]
    fn dates_are_said_with_weekday_day_and_month() {
        for (date, italian, english) in [
            ("2026-03-01", "domenica primo marzo", "Sunday March first"),
            (
                "2026-12-21",
                "lunedì ventuno dicembre",
                "Monday December twenty first",
            ),
            (
                "2026-05-30",
                "sabato trenta maggio",
                "Saturday May thirtieth",
            ),
            (
                "2026-01-31",
                "sabato trentuno gennaio",
                "Saturday January thirty first",
            ),
            (
                "2026-09-20",
                "domenica venti settembre",
                "Sunday September twentieth",
            ),
        ] {
            let zoned: Zoned = format!("{date}T10:00[Europe/Rome]").parse().unwrap();
            let it = say_date(Language::Italian, &zoned);
            assert_eq!(spoken(Language::Italian, &it), italian);
            let en = say_date(Language::English, &zoned);
            assert_eq!(spoken(Language::English, &en), english);
        }
    }
}
