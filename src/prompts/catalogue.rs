//! Which recordings say which phrase. Sentences are put together so that they are right in order
//! and grammar both with Debian's recordings and with our own.

use jiff::Zoned;

use super::numbers::{AT, say_date, say_number, say_time};
use super::texts::ClipName;
use crate::call::Phrase;
use crate::units::Language;

/// The names of the sounds that are no words: one for all languages, made by `tones`.
pub(super) const JOIN_TONE: ClipName = ClipName("join-tone");
pub(super) const LEAVE_TONE: ClipName = ClipName("leave-tone");
pub(super) const BEEP: ClipName = ClipName("beep");
pub(super) const MUSIC: ClipName = ClipName("music");
pub(super) const GENERATED: [ClipName; 4] = [JOIN_TONE, LEAVE_TONE, BEEP, MUSIC];

/// The recordings that say `phrase`, one after the other.
#[must_use]
pub fn clips(language: Language, phrase: &Phrase) -> Vec<ClipName> {
    let name = match phrase {
        Phrase::OpensAt { opens_at, today } => return opens_at_clips(language, opens_at, *today),
        Phrase::OthersPresent(count) => return others(language, *count),
        Phrase::HeadCount(count) => return head_count(language, *count),
        Phrase::EndsInMinutes(minutes) => return ends_in(language, *minutes),
        Phrase::Digits(digits) => return digits_clips(language, digits.said()),
        Phrase::KeyInDigits => "key-in-digits",
        Phrase::Welcome => "welcome",
        Phrase::Invited => "invited",
        Phrase::EnterPin => "enter-pin",
        Phrase::WrongPin => "wrong-pin",
        Phrase::Goodbye => "goodbye",
        Phrase::MeetingEnded => "meeting-ended",
        Phrase::MeetingCancelled => "meeting-cancelled",
        Phrase::MeetingLocked => "meeting-locked",
        Phrase::MeetingFull => "meeting-full",
        Phrase::LinesTaken => "lines-taken",
        Phrase::MinutesUsedUp => "minutes-used-up",
        Phrase::NumberNotAllowed => "number-not-allowed",
        Phrase::TryAgainLater => "try-again-later",
        Phrase::OnlyParticipant => "only-participant",
        Phrase::WaitForStart => "wait-for-start",
        Phrase::WaitForHost => "wait-for-host",
        Phrase::Muted => "muted",
        Phrase::Unmuted => "unmuted",
        Phrase::UnmuteNotAllowed => "unmute-not-allowed",
        Phrase::KeysHelp => "keys-help",
        Phrase::EndsNow => "ends-now",
        Phrase::TimeLimit => "time-limit",
        Phrase::JoinTone => return vec![JOIN_TONE],
        Phrase::LeaveTone => return vec![LEAVE_TONE],
    };
    vec![ClipName(name)]
}

/// What nearly every call hears; made ready first, and never synthetic where Debian's recordings
/// are installed.
#[must_use]
pub(super) fn everyday() -> Vec<Phrase> {
    let mut phrases = vec![
        Phrase::Welcome,
        Phrase::EnterPin,
        Phrase::WrongPin,
        Phrase::Goodbye,
        Phrase::OnlyParticipant,
        Phrase::Muted,
        Phrase::Unmuted,
        Phrase::JoinTone,
        Phrase::LeaveTone,
    ];
    phrases.extend((1..=99).map(Phrase::OthersPresent));
    phrases.extend((1..=99).map(Phrase::HeadCount));
    phrases
}

/// "The meeting opens at ...", "The meeting opens on Monday ... at ...".
fn opens_at_clips(language: Language, opens_at: &Zoned, today: bool) -> Vec<ClipName> {
    let hour = u32::from(opens_at.hour().unsigned_abs());
    let minute = u32::from(opens_at.minute().unsigned_abs());
    let mut said = vec![ClipName("opens-on")];
    if !today {
        said.extend(say_date(language, opens_at));
    }
    said.extend(say_time(language, hour, minute));
    // "The meeting opens" and "at" are one recording where they meet: it sounds better.
    if let [first, second, ..] = said.as_mut_slice()
        && *second == AT
    {
        *first = ClipName("opens-at");
        said.remove(1);
    }
    said
}

/// Digit by digit, as they are keyed in.
fn digits_clips(language: Language, digits: [u8; 2]) -> Vec<ClipName> {
    let digits = digits.into_iter().map(u32::from);
    digits
        .flat_map(|digit| say_number(language, digit))
        .collect()
}

fn others(language: Language, count: u32) -> Vec<ClipName> {
    match count {
        0 => clips(language, &Phrase::OnlyParticipant),
        1 => vec![ClipName("one-other")],
        _ => counted(language, ClipName("there-are"), count, ClipName("others")),
    }
}

fn head_count(language: Language, count: u32) -> Vec<ClipName> {
    match count {
        0 | 1 => clips(language, &Phrase::OnlyParticipant),
        _ => counted(
            language,
            ClipName("there-are"),
            count,
            ClipName("participants"),
        ),
    }
}

fn ends_in(language: Language, minutes: u32) -> Vec<ClipName> {
    match minutes {
        0 => clips(language, &Phrase::EndsNow),
        1 => vec![ClipName("ends-in-1-minute")],
        5 => vec![ClipName("ends-in-5-minutes")],
        _ => counted(language, ClipName("ends-in"), minutes, ClipName("minutes")),
    }
}

fn counted(language: Language, before: ClipName, count: u32, after: ClipName) -> Vec<ClipName> {
    let mut said = vec![before];
    said.extend(say_number(language, count));
    said.push(after);
    said
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;
    use crate::booking::SpokenDigits;
    use crate::prompts::texts::entries;

    fn zoned(time: &str) -> Box<Zoned> {
        Box::new(format!("{time}[Europe/Rome]").parse().unwrap())
    }

    /// One of each, and the forms that differ.
    pub(in crate::prompts) fn one_of_each() -> Vec<Phrase> {
        let mut all = vec![
            Phrase::Invited,
            Phrase::MeetingEnded,
            Phrase::MeetingCancelled,
            Phrase::MeetingLocked,
            Phrase::MeetingFull,
            Phrase::LinesTaken,
            Phrase::MinutesUsedUp,
            Phrase::NumberNotAllowed,
            Phrase::TryAgainLater,
            Phrase::WaitForStart,
            Phrase::WaitForHost,
            Phrase::UnmuteNotAllowed,
            Phrase::KeysHelp,
            Phrase::EndsNow,
            Phrase::TimeLimit,
            Phrase::OthersPresent(0),
            Phrase::HeadCount(0),
            Phrase::HeadCount(4_321),
        ];
        all.extend(everyday());
        all.push(Phrase::KeyInDigits);
        all.extend([7, 40, 55].map(|n| Phrase::Digits(SpokenDigits::new(n))));
        all.extend([0, 1, 2, 5, 10].map(Phrase::EndsInMinutes));
        for today in [true, false] {
            for time in ["2026-03-01T00:00", "2026-12-28T01:00", "2026-05-21T15:30"] {
                all.push(Phrase::OpensAt {
                    opens_at: zoned(time),
                    today,
                });
            }
        }
        all
    }

    fn heard(language: Language, phrase: &Phrase) -> String {
        let texts: HashMap<_, _> = entries(language)
            .into_iter()
            .map(|e| (e.name, e.text))
            .collect();
        clips(language, phrase)
            .iter()
            .map(|c| texts[c])
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn every_phrase_has_recordings_that_the_texts_know() {
        for language in Language::ALL {
            let mut known: HashSet<_> = entries(language).into_iter().map(|e| e.name).collect();
            known.extend([JOIN_TONE, LEAVE_TONE]);
            for phrase in one_of_each() {
                let clips = clips(language, &phrase);
                assert!(!clips.is_empty(), "{language} {phrase:?}");
                for clip in clips {
                    assert!(known.contains(&clip), "{language} {phrase:?}: {clip}");
                }
            }
        }
    }

    #[test]
    fn one_other_is_singular_and_more_are_plural() {
        for (count, italian, english) in [
            (
                0,
                "Al momento sei l'unico partecipante.",
                "You are currently the only participant.",
            ),
            (
                1,
                "C'è un altro partecipante.",
                "There is one other participant.",
            ),
            (
                2,
                "Ci sono due altri partecipanti.",
                "There are two other participants.",
            ),
            (
                21,
                "Ci sono ventuno altri partecipanti.",
                "There are twenty one other participants.",
            ),
        ] {
            assert_eq!(
                heard(Language::Italian, &Phrase::OthersPresent(count)),
                italian
            );
            assert_eq!(
                heard(Language::English, &Phrase::OthersPresent(count)),
                english
            );
        }
        assert_eq!(
            heard(Language::English, &Phrase::HeadCount(3)),
            "There are three participants."
        );
        let alone = heard(Language::Italian, &Phrase::HeadCount(1));
        assert_eq!(alone, "Al momento sei l'unico partecipante.");
    }

    #[test]
    fn an_opening_time_names_the_day_only_when_it_is_not_today() {
        for (time, today, italian, english) in [
            (
                "2026-05-21T15:30",
                true,
                "La riunione si apre alle quindici e trenta",
                "The meeting opens at three thirty P M",
            ),
            (
                "2026-05-21T01:00",
                true,
                "La riunione si apre all'una",
                "The meeting opens at one A M",
            ),
            (
                "2026-05-21T15:30",
                false,
                "La riunione si apre giovedì ventuno maggio alle quindici e trenta",
                "The meeting opens on Thursday May twenty first at three thirty P M",
            ),
            (
                "2026-03-01T00:00",
                false,
                "La riunione si apre domenica primo marzo alle ore zero",
                "The meeting opens on Sunday March first at twelve A M",
            ),
        ] {
            let phrase = Phrase::OpensAt {
                opens_at: zoned(time),
                today,
            };
            assert_eq!(heard(Language::Italian, &phrase), italian);
            assert_eq!(heard(Language::English, &phrase), english);
        }
    }

    #[test]
    fn two_digits_are_said_one_by_one() {
        let phrase = Phrase::Digits(SpokenDigits::new(40));
        assert_eq!(heard(Language::Italian, &phrase), "quattro zero");
        assert_eq!(heard(Language::English, &phrase), "four zero");
    }

    #[test]
    fn the_last_minute_is_singular() {
        for (minutes, italian, english) in [
            (
                1,
                "La riunione termina tra un minuto.",
                "The meeting ends in one minute.",
            ),
            (
                5,
                "La riunione termina tra cinque minuti.",
                "The meeting ends in five minutes.",
            ),
            (
                10,
                "La riunione termina tra dieci minuti.",
                "The meeting ends in ten minutes.",
            ),
        ] {
            assert_eq!(
                heard(Language::Italian, &Phrase::EndsInMinutes(minutes)),
                italian
            );
            assert_eq!(
                heard(Language::English, &Phrase::EndsInMinutes(minutes)),
                english
            );
        }
    }

    #[test]
    fn the_everyday_path_is_named_after_human_recordings_in_every_language() {
        for language in Language::ALL {
            let entries: HashMap<_, _> =
                entries(language).into_iter().map(|e| (e.name, e)).collect();
            for phrase in everyday() {
                for clip in clips(language, &phrase) {
                    let human = entries.get(&clip).is_some_and(|e| !e.recordings.is_empty());
                    let tone = clip == JOIN_TONE || clip == LEAVE_TONE;
                    assert!(
                        human || tone,
                        "{language} {phrase:?}: {clip} would be synthetic"
                    );
                }
            }
        }
    }

    #[test]
    fn no_text_is_written_for_nobody() {
        for language in Language::ALL {
            let mut used: HashSet<ClipName> = HashSet::new();
            used.extend(one_of_each().iter().flat_map(|p| clips(language, p)));
            used.extend((0..=9_999).flat_map(|n| say_number(language, n)));
            for day in 0..366 {
                let start: Zoned = "2028-01-01T00:00[UTC]".parse().unwrap();
                let date = start.checked_add(jiff::Span::new().days(day)).unwrap();
                used.extend(say_date(language, &date));
            }
            for minute in 0..24 * 60 {
                used.extend(say_time(language, minute / 60, minute % 60));
            }
            for entry in entries(language) {
                assert!(
                    used.contains(&entry.name),
                    "{language}: {} is never said",
                    entry.name
                );
            }
        }
    }
}
