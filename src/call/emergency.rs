//! Numbers that are never answered and never dialled: a caller in need must not reach a meeting.

/// Is this dialled number or user part an emergency number, however it is written?
#[must_use]
pub fn is_emergency(number: &str) -> bool {
    // RFC 3966 section 5.1.1: visual separators and parameters don't change a number.
    let main = number.split([';', '@', '?']).next().unwrap_or_default();
    let mut plain: String = main
        .chars()
        .filter(|c| !c.is_whitespace() && !SEPARATORS.contains(c))
        .collect();
    plain.make_ascii_lowercase();
    if is_sos_urn(&plain) {
        return true;
    }
    // A dot separates digits, but belongs to a URN.
    let digits = plain
        .strip_prefix("tel:")
        .unwrap_or(&plain)
        .replace('.', "");
    EMERGENCY_NUMBERS.contains(&digits.trim_start_matches('+'))
}

/// Might this number, dialled by us, reach an emergency service? Behind a country's code, or the digit that gets a
/// line, it may.
#[must_use]
pub fn reaches_emergency(number: &str) -> bool {
    if is_emergency(number) {
        return true;
    }
    // Whatever stands between and around the digits; a word is no number.
    let digits: String = number.chars().filter(char::is_ascii_digit).collect();
    if number.chars().any(char::is_alphabetic) {
        return false;
    }
    let is_international = number.trim_start().starts_with('+') || digits.starts_with("00");
    let before = digits.trim_start_matches('0');
    let mut all = EMERGENCY_NUMBERS.iter();
    all.any(|emergency| {
        before.strip_suffix(emergency).is_some_and(|rest| {
            if is_international {
                rest.len() <= COUNTRY_CODE_MAX
            } else {
                matches!(rest, "" | "9")
            }
        })
    })
}

/// RFC 5031 section 4.2: `urn:service:sos` and its sub-services (`urn:service:sos.fire`).
fn is_sos_urn(plain: &str) -> bool {
    plain
        .strip_prefix("urn:service:sos")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

const EMERGENCY_NUMBERS: [&str; 6] = ["112", "113", "115", "118", "911", "999"];
/// Digits that a country's code has at most, with a zero behind it.
const COUNTRY_CODE_MAX: usize = 4;
const SEPARATORS: [char; 4] = ['-', '(', ')', '/'];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emergency_numbers_are_known_however_they_are_written() {
        for number in [
            "112",
            "113",
            "115",
            "118",
            "911",
            "999",
            "+112",
            " 1 1 2 ",
            "1-1-2",
            "1.1.2",
            "(911)",
            "9 99",
            "112;phone-context=+39",
            "tel:+112",
            "urn:service:sos",
            "URN:Service:SOS.fire",
            "urn:service:sos.police;x=1",
            "112@example.org",
            "\u{a0}118",
        ] {
            assert!(is_emergency(number), "{number}");
        }
    }

    #[test]
    fn nor_are_they_dialled_behind_a_country_s_code_or_the_digit_that_gets_a_line() {
        for number in [
            "112",
            "+112",
            "0112",
            "00112",
            "9911",
            "9112",
            "+39112",
            "+390112",
            "+1911",
            "+353999",
            "+49112",
            "0-112",
            "0.112",
            "9-112",
            "0039112",
            "00-39-112",
            "112#",
            "*112",
        ] {
            assert!(reaches_emergency(number), "{number}");
        }
        for number in [
            "+390612345112",
            "0612345112",
            "7112",
            "11200",
            "+39119",
            "7001",
            "+390611812",
            "desk",
            "room112",
        ] {
            assert!(!reaches_emergency(number), "{number}");
        }
    }

    #[test]
    fn ordinary_numbers_are_not() {
        for number in [
            "",
            "+",
            "1",
            "11",
            "1120",
            "0112",
            "+390612345112",
            "911911",
            "urn:service:sosta",
            "urn:service:counseling",
            "meet",
            "112a",
        ] {
            assert!(!is_emergency(number), "{number}");
        }
    }
}
