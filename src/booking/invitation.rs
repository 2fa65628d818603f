//! What people are told to dial: the block that a booking system puts under its invitation.

mod calendar;

use jiff::Zoned;
use jiff::civil::Date;

use crate::booking::meeting::{Meeting, Session};
use crate::booking::number::{DialInNumber, NumberPlan};
use crate::booking::privacy::Pin;
use crate::units::Language;

pub use calendar::Timeless;

/// An invitation to a meeting, or to the occurrence of a series that is open or next.
#[derive(Debug, Clone)]
pub struct Invitation<'a> {
    meeting: &'a Meeting,
    session: Session,
    pin: &'a Pin,
    numbers: Vec<&'a DialInNumber>,
    language: Language,
    /// It is about one occurrence, which this PIN alone opens.
    is_of_one: bool,
}

/// What it is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvitationFormat {
    /// Plain text.
    Text,
    /// A fragment of HTML.
    Html,
    /// iCalendar.
    Calendar,
    /// One line for BigBlueButton's welcome message, which takes HTML.
    BbbWelcome,
}

impl<'a> Invitation<'a> {
    /// For guests. Numbers of `country`, or where none is given of the language's, come first, then those
    /// that greet in the language.
    #[must_use]
    pub fn new(
        meeting: &'a Meeting,
        session: Session,
        pin: &'a Pin,
        numbers: &'a NumberPlan,
        language: Language,
        country: Option<&str>,
    ) -> Self {
        let home = country.or(match language {
            Language::Italian => Some("IT"),
            Language::English => None,
        });
        let is_home = |number: &DialInNumber| match (home, number.country.as_deref()) {
            (Some(home), Some(country)) => home.eq_ignore_ascii_case(country),
            (Some(_) | None, _) => false,
        };
        let mut numbers: Vec<&DialInNumber> = numbers.serving(&meeting.organisation_name).collect();
        // Stable: within a group they stay in the order in which they were made.
        numbers.sort_by_key(|number| (!is_home(number), number.language != Some(language)));
        Self {
            meeting,
            session,
            pin,
            numbers,
            language,
            is_of_one: false,
        }
    }

    /// Written out.
    ///
    /// # Errors
    /// [`Timeless`], as iCalendar.
    pub fn write(&self, format: InvitationFormat) -> Result<String, Timeless> {
        match format {
            InvitationFormat::Text => Ok(self.text()),
            InvitationFormat::Html => Ok(self.html()),
            InvitationFormat::Calendar => self.calendar(),
            InvitationFormat::BbbWelcome => Ok(self.welcome()),
        }
    }

    fn text(&self) -> String {
        let words = Words::of(self.language);
        let title = &self.meeting.options.title;
        let mut lines = vec![title.clone(), self.when(), String::new()];
        if !self.numbers.is_empty() {
            lines.push(format!("{}:", words.dial));
            lines.extend(self.numbers.iter().map(|number| {
                let tap = self.one_tap(number).map(|tap| format!("  ({tap})"));
                format!("  {}{}", shown(number), tap.unwrap_or_default())
            }));
        }
        lines.push(format!("{}: {} #", words.pin, self.grouped_pin()));
        lines.join("\n") + "\n"
    }

    fn html(&self) -> String {
        let words = Words::of(self.language);
        let numbers: String = self
            .numbers
            .iter()
            .map(|number| {
                let name = escaped(&shown(number));
                match self.one_tap(number) {
                    Some(tap) => {
                        let link = tap.replace('#', "%23");
                        format!("<li><a href=\"tel:{link}\">{name}</a></li>")
                    }
                    None => format!("<li>{name}</li>"),
                }
            })
            .collect();
        let dial = if numbers.is_empty() {
            String::new()
        } else {
            format!("<p>{}:</p><ul>{numbers}</ul>", words.dial)
        };
        format!(
            "<p><strong>{}</strong><br>{}</p>{dial}<p>{}: <strong>{}</strong>&nbsp;#</p>\n",
            escaped(&self.meeting.options.title),
            escaped(&self.when()),
            words.pin,
            self.grouped_pin(),
        )
    }

    fn welcome(&self) -> String {
        let words = Words::of(self.language);
        let number = self.numbers.first().map(|number| {
            let number = escaped(&number.number);
            format!("{}: <b>{number}</b>, ", words.dial)
        });
        format!(
            "{}{} <b>{}</b>&nbsp;#",
            number.unwrap_or_default(),
            words.pin,
            self.grouped_pin()
        )
    }

    /// "lunedì 23 novembre 2026, 10:00–11:00 (Europe/Rome)".
    fn when(&self) -> String {
        let words = Words::of(self.language);
        let schedule = &self.meeting.options.schedule;
        let zone = schedule.time_zone();
        let starts = self.session.starts_at.to_zoned(zone.clone());
        let time = |at: &Zoned| at.strftime("%H:%M").to_string();
        let Some(ends) = self.session.ends_at else {
            return words.always.to_owned();
        };
        let ends = ends.to_zoned(zone.clone());
        let until = if ends.date() == starts.date() {
            time(&ends)
        } else {
            format!("{}, {}", words.date(ends.date()), time(&ends))
        };
        let series = self.session.occurrence.map_or("", |_| words.next);
        let (date, start) = (words.date(starts.date()), time(&starts));
        format!("{series}{date}, {start}–{until} ({})", schedule.zone_name())
    }

    /// In groups of three, for the eye.
    fn grouped_pin(&self) -> String {
        grouped(self.pin.expose())
    }

    /// What a telephone dials by itself: the number, a pause, the PIN. Only of numbers that are the same
    /// everywhere.
    fn one_tap(&self, number: &DialInNumber) -> Option<String> {
        let everywhere = number.number.starts_with('+');
        everywhere.then(|| format!("{},,{}#", number.number, self.pin.expose()))
    }
}

/// What is said in one language.
struct Words {
    dial: &'static str,
    pin: &'static str,
    always: &'static str,
    each: &'static str,
    next: &'static str,
    days: [&'static str; 7],
    months: [&'static str; 12],
}

impl Words {
    const fn of(language: Language) -> &'static Self {
        match language {
            Language::Italian => &ITALIAN,
            Language::English => &ENGLISH,
        }
    }

    fn date(&self, date: Date) -> String {
        let name = |names: &[&'static str], at: i8| {
            let at = usize::try_from(at).ok();
            at.and_then(|at| names.get(at).copied()).unwrap_or_default()
        };
        let weekday = name(&self.days, date.weekday().to_monday_zero_offset());
        let month = name(&self.months, date.month() - 1);
        format!("{weekday} {} {month} {}", date.day(), date.year())
    }
}

/// "Roma: +390612345678", or the number alone.
fn shown(number: &DialInNumber) -> String {
    match &number.label {
        Some(label) => format!("{label}: {}", number.number),
        None => number.number.clone(),
    }
}

/// Groups of three; a digit that would be alone stays with the group before it.
fn grouped(digits: &str) -> String {
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && at % 3 == 0 && at + 1 < digits.len() {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

static ITALIAN: Words = Words {
    dial: "Per partecipare per telefono, chiamare",
    pin: "PIN",
    always: "Sempre aperta",
    each: "Ogni data ha un suo PIN: vedi la data.",
    next: "Il prossimo appuntamento: ",
    days: [
        "lunedì",
        "martedì",
        "mercoledì",
        "giovedì",
        "venerdì",
        "sabato",
        "domenica",
    ],
    months: [
        "gennaio",
        "febbraio",
        "marzo",
        "aprile",
        "maggio",
        "giugno",
        "luglio",
        "agosto",
        "settembre",
        "ottobre",
        "novembre",
        "dicembre",
    ],
};

static ENGLISH: Words = Words {
    dial: "To join by phone, dial",
    pin: "PIN",
    always: "Always open",
    each: "Each date has a PIN of its own: see there.",
    next: "Next: ",
    days: [
        "Monday",
        "Tuesday",
        "Wednesday",
        "Thursday",
        "Friday",
        "Saturday",
        "Sunday",
    ],
    months: [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_grouped_for_the_eye() {
        for (digits, shown) in [
            ("4815", "4815"),
            ("48151", "481 51"),
            ("481516", "481 516"),
            ("4815162", "481 5162"),
            ("4815162342", "481 516 2342"),
            ("48151623424", "481 516 234 24"),
        ] {
            assert_eq!(grouped(digits), shown);
        }
    }
}
