//! What stands in front of the parser: sizes, line structure, encoding and Content-Length are settled
//! here, so that the parser only ever sees a short, folded-out, valid UTF-8 head, and one odd line
//! never costs the message.
//!
//! Only CRLF ends a line. A bare CR or LF is how headers get smuggled past one parser into another, so
//! such a message is answered 400 (with the bytes blanked), never guessed at.

#![deny(clippy::indexing_slicing)]

use std::borrow::Cow;

use bytes::Bytes;

/// Size limits of one message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caps {
    pub(crate) datagram: usize,
    pub(crate) head: usize,
    pub(crate) headers: usize,
}

/// A message that may be parsed, or at least answered.
#[derive(Debug, Clone)]
pub(crate) struct Guarded {
    pub(crate) start: StartLine,
    /// `Name: value` lines, unfolded, each with CRLF.
    pub(crate) head: String,
    pub(crate) body: Bytes,
    /// What is wrong with it; an answer says so.
    pub(crate) fault: Option<Fault>,
}

/// The first line, taken apart but not judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StartLine {
    Request {
        method: String,
        uri: String,
        version: String,
    },
    Response {
        version: String,
        status: u16,
    },
}

/// Why a message that looks like SIP is not taken as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    TooLarge,
    TooManyHeaders,
    BareLineBreak,
    NotAHeader,
    ContentLength,
    StartLine,
    NoEndOfHead,
}

impl Fault {
    /// The answer to a request with this fault.
    pub(crate) const fn status(self) -> u16 {
        match self {
            Self::TooLarge => 513,
            Self::TooManyHeaders
            | Self::BareLineBreak
            | Self::NotAHeader
            | Self::ContentLength
            | Self::StartLine
            | Self::NoEndOfHead => 400,
        }
    }
}

/// Nothing that could be answered: no start line of SIP, or no bytes at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    Empty,
    NotSip,
}

/// What Content-Length says, all occurrences taken together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeclaredLength {
    Absent,
    Bytes(usize),
    /// Twice the same: the frame is known, the message is refused.
    Repeated(usize),
    /// Not a number, or two that differ.
    Unusable,
}

/// Reads a datagram: the body is what Content-Length says, or the rest (RFC 3261 section 18.3).
pub(crate) fn inspect_datagram(bytes: &[u8], caps: &Caps) -> Result<Guarded, Unreadable> {
    let bytes = skip_line_breaks(bytes);
    let too_large = bytes.len() > caps.datagram;
    let bytes = bytes.get(..caps.datagram).unwrap_or(bytes);
    let (head, rest) = split_head(bytes);
    let mut guarded = inspect_head(head, caps)?;
    if too_large {
        guarded.fault = Some(Fault::TooLarge);
        return Ok(guarded);
    }
    let Some(rest) = rest else {
        guarded.fault.get_or_insert(Fault::NoEndOfHead);
        return Ok(guarded);
    };
    match declared_length(head) {
        DeclaredLength::Absent => guarded.body = Bytes::copy_from_slice(rest),
        DeclaredLength::Bytes(length) => match rest.get(..length) {
            Some(body) => guarded.body = Bytes::copy_from_slice(body),
            None => guarded.fault = Some(Fault::ContentLength),
        },
        DeclaredLength::Repeated(_) | DeclaredLength::Unusable => {
            guarded.fault = Some(Fault::ContentLength)
        }
    }
    Ok(guarded)
}

/// Reads the head (without its empty line) of a message whose body the framing has found.
pub(crate) fn inspect_frame(head: &[u8], body: Bytes, caps: &Caps) -> Result<Guarded, Unreadable> {
    let mut guarded = inspect_head(head, caps)?;
    guarded.body = body;
    Ok(guarded)
}

/// Content-Length from the raw head, `l` and folded lines included.
pub(crate) fn declared_length(head: &[u8]) -> DeclaredLength {
    let mut seen = DeclaredLength::Absent;
    let mut lines = lines(head).skip(1).peekable();
    while let Some(line) = lines.next() {
        let mut field = Cow::Borrowed(line);
        while let Some(more) = lines.next_if(|line| matches!(line.first(), Some(b' ' | b'\t'))) {
            field.to_mut().extend_from_slice(more);
        }
        let Some((name, value)) = split_at(&field, b':') else {
            continue;
        };
        let name = name.trim_ascii();
        if !name.eq_ignore_ascii_case(b"Content-Length") && !name.eq_ignore_ascii_case(b"l") {
            continue;
        }
        seen = match (seen, parse_length(value.trim_ascii())) {
            (DeclaredLength::Absent, Some(length)) => DeclaredLength::Bytes(length),
            (DeclaredLength::Bytes(first) | DeclaredLength::Repeated(first), Some(length))
                if first == length =>
            {
                DeclaredLength::Repeated(first)
            }
            _ => return DeclaredLength::Unusable,
        };
    }
    seen
}

/// Where the head ends: the position of its closing CRLF CRLF.
pub(crate) fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|w| w == b"\r\n\r\n")
}

/// Drops CRLFs in front of a start line (RFC 3261 section 7.5).
pub(crate) fn skip_line_breaks(mut bytes: &[u8]) -> &[u8] {
    while let Some(rest) = bytes.strip_prefix(b"\r\n") {
        bytes = rest;
    }
    bytes
}

/// A token of RFC 3261 section 25.1.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b))
}

fn split_head(bytes: &[u8]) -> (&[u8], Option<&[u8]>) {
    match head_end(bytes).and_then(|end| Some((bytes.get(..end)?, bytes.get(end + 4..)?))) {
        Some((head, rest)) => (head, Some(rest)),
        None => (bytes, None),
    }
}

fn inspect_head(head: &[u8], caps: &Caps) -> Result<Guarded, Unreadable> {
    if head.is_empty() {
        return Err(Unreadable::Empty);
    }
    let mut fault = None;
    let too_large = head.len() > caps.head;
    let mut lines = lines(head.get(..caps.head).unwrap_or(head));
    let (start, well_formed) = start_line(lines.next().unwrap_or_default(), &mut fault)?;
    if !well_formed {
        fault.get_or_insert(Fault::StartLine);
    }
    let fields = unfold(lines, &mut fault);
    let mut text = String::with_capacity(head.len() + 64);
    for field in fields.iter().take(caps.headers) {
        append_field(&mut text, field, &mut fault);
    }
    if fields.len() > caps.headers {
        fault = Some(Fault::TooManyHeaders);
    }
    if too_large {
        fault = Some(Fault::TooLarge);
    }
    Ok(Guarded {
        start,
        head: text,
        body: Bytes::new(),
        fault,
    })
}

fn append_field(text: &mut String, field: &str, fault: &mut Option<Fault>) {
    match field.split_once(':') {
        Some((name, value)) if is_token(name.trim()) => {
            text.push_str(name.trim());
            text.push_str(": ");
            text.push_str(value.trim());
            text.push_str("\r\n");
        }
        Some(_) | None => {
            fault.get_or_insert(Fault::NotAHeader);
        }
    }
}

/// Joins continuation lines to the line before (RFC 3261 section 7.3.1).
fn unfold<'a>(lines: impl Iterator<Item = &'a [u8]>, fault: &mut Option<Fault>) -> Vec<String> {
    let mut fields: Vec<String> = Vec::new();
    for line in lines {
        let text = clean(line, fault);
        if !text.starts_with([' ', '\t']) {
            fields.push(text);
        } else if let Some(field) = fields.last_mut() {
            field.push(' ');
            field.push_str(text.trim());
        } else {
            fault.get_or_insert(Fault::NotAHeader);
        }
    }
    fields
}

/// Valid UTF-8 without control characters; what was not is replaced, never cut off.
fn clean(line: &[u8], fault: &mut Option<Fault>) -> String {
    if line.iter().any(|b| matches!(b, b'\r' | b'\n')) {
        fault.get_or_insert(Fault::BareLineBreak);
    }
    let text = String::from_utf8_lossy(line);
    if text.chars().any(char::is_control) {
        text.chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect()
    } else {
        text.into_owned()
    }
}

/// The start line and whether it has the exact form of RFC 3261 section 25.1.
fn start_line(line: &[u8], fault: &mut Option<Fault>) -> Result<(StartLine, bool), Unreadable> {
    let text = clean(line, fault);
    if let Some((version, rest)) = text.split_once(' ')
        && is_sip_version(version)
    {
        let status: u16 = rest
            .get(..3)
            .and_then(|s| s.parse().ok())
            .ok_or(Unreadable::NotSip)?;
        let form =
            (100..700).contains(&status) && rest.as_bytes().get(3).is_none_or(|b| *b == b' ');
        return Ok((
            StartLine::Response {
                version: version.to_owned(),
                status,
            },
            form,
        ));
    }
    let (method, rest) = text.split_once(' ').ok_or(Unreadable::NotSip)?;
    let (uri, version) = rest.trim_end().rsplit_once(' ').ok_or(Unreadable::NotSip)?;
    if !is_token(method) || !is_sip_version(version) {
        return Err(Unreadable::NotSip);
    }
    let exact = rest.trim_end() == rest && !uri.is_empty() && !uri.contains(' ');
    Ok((
        StartLine::Request {
            method: method.to_owned(),
            uri: uri.trim().to_owned(),
            version: version.to_owned(),
        },
        exact,
    ))
}

/// `SIP/` and two numbers.
fn is_sip_version(text: &str) -> bool {
    let Some((name, numbers)) = text.split_once('/') else {
        return false;
    };
    let Some((major, minor)) = numbers.split_once('.') else {
        return false;
    };
    let number = |n: &str| !n.is_empty() && n.len() <= 3 && n.bytes().all(|b| b.is_ascii_digit());
    name.eq_ignore_ascii_case("SIP") && number(major) && number(minor)
}

fn parse_length(digits: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(digits).ok()?;
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(head);
    std::iter::from_fn(move || {
        let current = rest?;
        match current.windows(2).position(|w| w == b"\r\n") {
            Some(end) => {
                rest = current.get(end + 2..);
                current.get(..end)
            }
            None => {
                rest = None;
                Some(current)
            }
        }
    })
}

fn split_at(line: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = line.iter().position(|b| *b == separator)?;
    Some((line.get(..at)?, line.get(at + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPS: Caps = Caps {
        datagram: 8192,
        head: 8192,
        headers: 100,
    };

    fn datagram(bytes: &[u8]) -> Guarded {
        inspect_datagram(bytes, &CAPS).unwrap()
    }

    #[test]
    fn a_latin_1_byte_costs_neither_its_line_nor_those_after_it() {
        let guarded = datagram(
            b"OPTIONS sip:a@b SIP/2.0\r\nFrom: Jos\xe9 <sip:j@h>;tag=1\r\nCall-ID: x\r\n\r\n",
        );
        assert_eq!(guarded.fault, None);
        assert_eq!(
            guarded.head,
            "From: Jos\u{fffd} <sip:j@h>;tag=1\r\nCall-ID: x\r\n"
        );
    }

    #[test]
    fn folded_lines_and_spaces_before_the_colon_are_straightened() {
        let guarded = datagram(
            b"OPTIONS sip:a@b SIP/2.0\r\nSubject : one\r\n\ttwo\r\n  three\r\nl: 0\r\n\r\n",
        );
        assert_eq!(guarded.fault, None);
        assert_eq!(guarded.head, "Subject: one two three\r\nl: 0\r\n");
    }

    #[test]
    fn without_content_length_the_rest_of_the_datagram_is_the_body() {
        assert_eq!(
            &datagram(b"INVITE sip:a@b SIP/2.0\r\nCall-ID: x\r\n\r\nv=0\r\n").body[..],
            b"v=0\r\n"
        );
        assert_eq!(
            &datagram(b"INVITE sip:a@b SIP/2.0\r\nl: 3\r\n\r\nv=0\r\n").body[..],
            b"v=0"
        );
    }

    #[test]
    fn content_length_that_lies_is_a_fault() {
        for head in [
            "Content-Length: 6\r\n",
            "Content-Length: 18446744073709551615\r\n",
            "Content-Length: 99999999999999999999999\r\n",
            "Content-Length: -1\r\n",
            "Content-Length: +3\r\n",
            "Content-Length: 3\r\nl: 3\r\n",
            "Content-Length: 3\r\nContent-Length: 4\r\n",
            "Content-Length: 3 3\r\n",
            "Content-Length:\r\n",
        ] {
            let message = format!("INVITE sip:a@b SIP/2.0\r\n{head}\r\nv=0\r\n");
            assert_eq!(
                datagram(message.as_bytes()).fault,
                Some(Fault::ContentLength),
                "{head}"
            );
        }
    }

    #[test]
    fn a_folded_content_length_counts() {
        for head in ["l:\r\n 3", "Content-Length\r\n\t: 3", "l: \r\n \r\n 3"] {
            let message = format!("INVITE sip:a@b SIP/2.0\r\n{head}\r\n\r\nv=0\r\n");
            assert_eq!(&datagram(message.as_bytes()).body[..], b"v=0", "{head}");
        }
        assert_eq!(
            declared_length(b"BYE sip:a@b SIP/2.0\r\nl: 1\r\n 2"),
            DeclaredLength::Unusable
        );
    }

    #[test]
    fn bare_line_breaks_are_a_fault_and_never_make_a_header() {
        for hidden in [
            "Subject: a\nContact: <sip:evil>",
            "Subject: a\rContact: <sip:evil>",
        ] {
            let guarded =
                datagram(format!("OPTIONS sip:a@b SIP/2.0\r\n{hidden}\r\n\r\n").as_bytes());
            assert_eq!(guarded.fault, Some(Fault::BareLineBreak));
            assert_eq!(guarded.head, "Subject: a Contact: <sip:evil>\r\n");
        }
    }

    #[test]
    fn caps_hold_and_leave_an_answerable_message() {
        let many = format!(
            "OPTIONS sip:a@b SIP/2.0\r\nCall-ID: x\r\n{}\r\n",
            "X: y\r\n".repeat(100)
        );
        let guarded = datagram(many.as_bytes());
        assert_eq!(guarded.fault, Some(Fault::TooManyHeaders));
        assert_eq!(guarded.head.lines().count(), 100);
        let long = format!(
            "OPTIONS sip:a@b SIP/2.0\r\nCall-ID: x\r\nX: {}\r\n\r\n",
            "y".repeat(9000)
        );
        let guarded = datagram(long.as_bytes());
        assert_eq!(guarded.fault, Some(Fault::TooLarge));
        assert!(guarded.head.starts_with("Call-ID: x\r\n"));
    }

    #[test]
    fn start_lines_are_taken_apart_and_bad_spacing_is_a_fault() {
        let start = datagram(b"\r\n\r\nINVITE tel:+390612345 SIP/2.0\r\n\r\n").start;
        let expected = StartLine::Request {
            method: "INVITE".to_owned(),
            uri: "tel:+390612345".to_owned(),
            version: "SIP/2.0".to_owned(),
        };
        assert_eq!(start, expected);
        assert_eq!(
            datagram(b"INVITE  sip:a@b SIP/2.0\r\n\r\n").fault,
            Some(Fault::StartLine)
        );
        assert_eq!(
            datagram(b"INVITE sip:a@b; lr SIP/2.0\r\n\r\n").fault,
            Some(Fault::StartLine)
        );
        assert_eq!(
            datagram(b"SIP/2.0 180 Ringing\r\n\r\n").start,
            StartLine::Response {
                version: "SIP/2.0".to_owned(),
                status: 180
            }
        );
    }

    #[test]
    fn what_is_not_sip_is_not_answered() {
        let empty: [&[u8]; 2] = [b"", b"\r\n\r\n"];
        for bytes in empty {
            assert_eq!(
                inspect_datagram(bytes, &CAPS).unwrap_err(),
                Unreadable::Empty
            );
        }
        let garbage: [&[u8]; 6] = [
            b"\n",
            b"\0\0\0\0",
            b"GET / HTTP/1.1\r\n\r\n",
            b"SIP/2.0\r\n\r\n",
            b"SIP/2.0 abc\r\n\r\n",
            b"\x80\x08\x00\x01",
        ];
        for bytes in garbage {
            assert_eq!(
                inspect_datagram(bytes, &CAPS).unwrap_err(),
                Unreadable::NotSip
            );
        }
    }
}
