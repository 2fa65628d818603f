//! Keys in INFO bodies: `application/dtmf-relay` (`Signal=5`) and `application/dtmf` (`5`), as phones and
//! PBXs send them; no RFC defines either.

#![deny(clippy::indexing_slicing)]

use crate::units::Key;

/// The key an INFO body carries; `None` for any other content.
#[must_use]
pub fn parse(content_type: &str, body: &[u8]) -> Option<Key> {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let text = std::str::from_utf8(body).ok()?;
    if media_type.eq_ignore_ascii_case("application/dtmf-relay") {
        key(text.lines().find_map(signal)?)
    } else if media_type.eq_ignore_ascii_case("application/dtmf") {
        key(text)
    } else {
        None
    }
}

fn signal(line: &str) -> Option<&str> {
    let (name, value) = line.split_once('=')?;
    name.trim().eq_ignore_ascii_case("signal").then_some(value)
}

/// The key itself, or its RFC 4733 event code: some send 10 and 11 for star and hash.
fn key(text: &str) -> Option<Key> {
    let text = text.trim();
    let mut characters = text.chars();
    match (characters.next(), characters.next()) {
        (Some(only), None) => Key::from_char(only),
        _ => Key::from_event(text.parse().ok()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_in_both_kinds_of_body() {
        let relay = "application/dtmf-relay";
        assert_eq!(
            parse(relay, b"Signal=5\r\nDuration=160\r\n"),
            Key::from_char('5')
        );
        assert_eq!(
            parse(relay, b"Duration=160\r\nsignal = #\r\n"),
            Some(Key::HASH)
        );
        assert_eq!(parse(relay, b"Signal=10\r\n"), Some(Key::STAR));
        assert_eq!(
            parse("Application/DTMF; charset=utf-8", b"*\n"),
            Some(Key::STAR)
        );
    }

    #[test]
    fn anything_else_is_no_key() {
        let relay = "application/dtmf-relay";
        for body in [
            &b""[..],
            b"Signal=",
            b"Signal=16",
            b"Signal=x",
            b"Signal",
            b"\xff\xfe",
            b"Duration=5",
        ] {
            assert_eq!(parse(relay, body), None, "{body:?}");
        }
        assert_eq!(parse("text/plain", b"5"), None);
    }
}
