//! Messages that we write.

#![deny(clippy::indexing_slicing)]

use std::fmt::Write;
use std::net::SocketAddr;

use bytes::Bytes;

use crate::sip::address::split_outside_quotes;
use crate::sip::event::Flow;
use crate::sip::message::{Headers, host_ip};

/// What we take part in.
pub(crate) const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, PRACK";
/// The extensions that callers may use, and whom we call: session timers (RFC 4028), provisional answers that arrive (RFC 3262).
pub(crate) const SUPPORTED: &str = "timer, 100rel";
/// RFC 4028.
pub(crate) const TIMER: &str = "timer";
/// RFC 3262.
pub(crate) const RELIABLE: &str = "100rel";
/// The only body type that INVITE and UPDATE may carry.
pub(crate) const SDP: &str = "application/sdp";

/// The headers every answer repeats from its request (RFC 3261 section 8.2.6.2).
#[derive(Clone)]
pub(crate) struct ReplyHead {
    vias: Vec<String>,
    from: Option<String>,
    to: Option<String>,
    to_is_tagged: bool,
    call_id: Option<String>,
    cseq: Option<String>,
    record_routes: Vec<String>,
}

/// What one answer says.
#[derive(Default)]
pub(crate) struct Reply<'a> {
    pub(crate) status: u16,
    pub(crate) tag: Option<&'a str>,
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) body: Option<&'a [u8]>,
    /// Repeats Record-Route (RFC 3261 section 12.1.1).
    pub(crate) opens_dialog: bool,
    /// Every byte counts: compact header names (RFC 3261 section 7.3.3).
    pub(crate) compact: bool,
}

impl Reply<'_> {
    /// Is it a provisional answer that is repeated until its PRACK (RFC 3262)?
    pub(crate) fn is_reliable(&self) -> bool {
        self.headers.iter().any(|(name, _)| *name == "RSeq")
    }
}

impl ReplyHead {
    pub(crate) fn of(headers: &Headers, peer: SocketAddr) -> Self {
        let own = |name| headers.first(name).map(ToOwned::to_owned);
        let mut vias: Vec<String> = headers.all("Via").map(ToOwned::to_owned).collect();
        if let Some(top) = vias.first_mut() {
            *top = mark_source(top, peer);
        }
        let to = own("To");
        let to_is_tagged = to.as_deref().is_some_and(|to| {
            crate::sip::address::NameAddr::parse(to).is_none_or(|to| to.tag().is_some())
        });
        Self {
            vias,
            from: own("From"),
            to,
            to_is_tagged,
            call_id: own("Call-ID"),
            cseq: own("CSeq"),
            record_routes: headers.all("Record-Route").map(ToOwned::to_owned).collect(),
        }
    }

    pub(crate) fn compose(&self, reply: &Reply<'_>) -> Bytes {
        let mut text = String::with_capacity(512);
        line(
            &mut text,
            format_args!("SIP/2.0 {} {}", reply.status, reason_phrase(reply.status)),
        );
        let [via_name, from_name, to_name, call_id_name, length_name] = if reply.compact {
            ["v", "f", "t", "i", "l"]
        } else {
            ["Via", "From", "To", "Call-ID", "Content-Length"]
        };
        for via in &self.vias {
            line(&mut text, format_args!("{via_name}: {via}"));
        }
        let tag = reply
            .tag
            .filter(|_| !self.to_is_tagged && reply.status != 100)
            .map_or(String::new(), |tag| format!(";tag={tag}"));
        for (name, value, tag) in [
            (from_name, &self.from, ""),
            (to_name, &self.to, &tag),
            (call_id_name, &self.call_id, ""),
            ("CSeq", &self.cseq, ""),
        ] {
            if let Some(value) = value {
                line(&mut text, format_args!("{name}: {value}{tag}"));
            }
        }
        if reply.opens_dialog {
            for route in &self.record_routes {
                line(&mut text, format_args!("Record-Route: {route}"));
            }
        }
        finish(text, reply.headers, length_name, reply.body)
    }
}

/// The headers of a request of ours (RFC 3261 section 8.1.1).
#[derive(Clone)]
pub(crate) struct RequestHead {
    pub(crate) uri: String,
    pub(crate) flow: Flow,
    pub(crate) sent_by: String,
    pub(crate) branch: String,
    pub(crate) routes: Vec<String>,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) call_id: String,
    pub(crate) cseq: u32,
}

impl RequestHead {
    pub(crate) fn compose(
        &self,
        method: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Bytes {
        finish(self.written(method), headers, "Content-Length", body)
    }

    /// The same request once more, as another one, with `replaced` in place of its headers of those names.
    pub(crate) fn compose_again(
        &self,
        method: &str,
        before: &[u8],
        replaced: &[(&str, &str)],
    ) -> Bytes {
        let mut text = self.written(method);
        for (name, value) in replaced {
            line(&mut text, format_args!("{name}: {value}"));
        }
        let (head, body) = split_head(before);
        // What stands behind CSeq is the request's own; what stands before it, `written` has written.
        let own = head
            .split("\r\n")
            .skip_while(|line| !line.starts_with("CSeq: "))
            .skip(1);
        for kept in own.filter(|line| !replaced.iter().any(|(name, _)| names(line, name))) {
            line(&mut text, format_args!("{kept}"));
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(body);
        bytes.into()
    }

    /// Up to CSeq.
    fn written(&self, method: &str) -> String {
        let transport = self.flow.via_transport();
        let mut text = String::with_capacity(512);
        line(&mut text, format_args!("{method} {} SIP/2.0", self.uri));
        line(
            &mut text,
            format_args!(
                "Via: SIP/2.0/{transport} {};branch={};rport",
                self.sent_by, self.branch
            ),
        );
        for route in &self.routes {
            line(&mut text, format_args!("Route: {route}"));
        }
        line(&mut text, format_args!("Max-Forwards: 70"));
        line(&mut text, format_args!("From: {}", self.from));
        line(&mut text, format_args!("To: {}", self.to));
        line(&mut text, format_args!("Call-ID: {}", self.call_id));
        line(&mut text, format_args!("CSeq: {} {method}", self.cseq));
        text
    }
}

/// Has a request of ours a header of this name?
pub(crate) fn has_header(request: &[u8], name: &str) -> bool {
    split_head(request)
        .0
        .split("\r\n")
        .any(|line| names(line, name))
}

/// The value of the header of this name in a request of ours.
pub(crate) fn header_of<'a>(request: &'a [u8], name: &str) -> Option<&'a str> {
    let mut lines = split_head(request).0.split("\r\n");
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn names(line: &str, name: &str) -> bool {
    line.strip_prefix(name)
        .is_some_and(|rest| rest.starts_with(':'))
}

/// The head, without the empty line, and the body of a message that we have written.
fn split_head(message: &[u8]) -> (&str, &[u8]) {
    let at = message
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap_or(message.len());
    let head = message.get(..at).unwrap_or_default();
    let body = message.get(at + 4..).unwrap_or_default();
    (std::str::from_utf8(head).unwrap_or_default(), body)
}

/// Writes where the request really came from into its Via (RFC 3261 section 18.2.1, RFC 3581 section 4).
fn mark_source(via: &str, peer: SocketAddr) -> String {
    let entries = split_outside_quotes(via, ',');
    let (top, others) = entries
        .split_first()
        .map_or(("", &[][..]), |(top, others)| (*top, others));
    let mut parts = split_outside_quotes(top, ';').into_iter().map(str::trim);
    let sent_by = parts.next().unwrap_or_default();
    let named = |part: &str, name: &str| {
        part.split('=')
            .next()
            .unwrap_or_default()
            .trim()
            .eq_ignore_ascii_case(name)
    };
    let mut text = sent_by.to_owned();
    let mut wants_port = false;
    for part in parts {
        if named(part, "rport") {
            wants_port = true;
        } else if !named(part, "received") {
            text.push(';');
            text.push_str(part);
        }
    }
    let host = sent_by.rsplit(' ').next().unwrap_or_default();
    let source = peer.ip().to_canonical();
    if wants_port || host_ip(host) != Some(source) {
        // Writing to a String cannot fail.
        let _ = write!(text, ";received={source}");
    }
    if wants_port {
        let _ = write!(text, ";rport={}", peer.port());
    }
    for other in others {
        text.push(',');
        text.push_str(other);
    }
    text
}

fn finish(mut text: String, headers: &[(&str, &str)], length: &str, body: Option<&[u8]>) -> Bytes {
    for (name, value) in headers {
        line(&mut text, format_args!("{name}: {value}"));
    }
    let body = body.unwrap_or_default();
    line(&mut text, format_args!("{length}: {}", body.len()));
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body);
    bytes.into()
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = text.write_fmt(content);
    text.push_str("\r\n");
}

/// Short on purpose: an answer must not be longer than what asked for it.
const fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        180 => "Ringing",
        183 => "Session Progress",
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        415 => "Unsupported Media Type",
        416 => "Unsupported URI Scheme",
        420 => "Bad Extension",
        422 => "Session Interval Too Small",
        480 => "Temporarily Unavailable",
        481 => "Call Does Not Exist",
        482 => "Loop Detected",
        483 => "Too Many Hops",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        491 => "Request Pending",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "Version Not Supported",
        513 => "Message Too Large",
        600 => "Busy Everywhere",
        603 => "Decline",
        101..=199 => "Progress",
        201..=299 => "OK",
        300..=399 => "Redirected",
        401..=499 => "Refused",
        502 | 504 | 506..=512 | 514..=599 => "Server Failure",
        _ => "Global Failure",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(via: &str, peer: &str) -> String {
        mark_source(via, peer.parse().unwrap())
    }

    #[test]
    fn a_request_that_is_sent_anew_keeps_what_isnt_replaced() {
        let mut head = RequestHead {
            uri: "sip:a@b".to_owned(),
            flow: Flow::Udp {
                socket: 0,
                peer: "192.0.2.1:5060".parse().unwrap(),
            },
            sent_by: "c".to_owned(),
            branch: "z9hG4bK1".to_owned(),
            routes: vec!["<sip:p;lr>".to_owned()],
            from: "<sip:x@y>;tag=1".to_owned(),
            to: "<sip:a@b>".to_owned(),
            call_id: "i".to_owned(),
            cseq: 7,
        };
        let headers = [("Contact", "<sip:c>"), ("Authorization", "Digest old")];
        let before = head.compose("INVITE", &headers, Some(b"v=0\r\n\r\nCSeq: 1"));
        assert!(has_header(&before, "Authorization") && !has_header(&before, "Author"));
        assert_eq!(header_of(&before, "Authorization"), Some("Digest old"));
        assert_eq!(header_of(&before, "Author"), None);
        (head.cseq, head.branch) = (8, "z9hG4bK2".to_owned());
        let again = head.compose_again("INVITE", &before, &[("Authorization", "Digest new")]);
        let expected = head.compose(
            "INVITE",
            &[("Authorization", "Digest new"), ("Contact", "<sip:c>")],
            Some(b"v=0\r\n\r\nCSeq: 1"),
        );
        assert_eq!(again, expected);
    }

    #[test]
    fn the_source_is_written_into_the_topmost_via_only() {
        assert_eq!(
            marked(
                "SIP/2.0/UDP 10.0.0.1:5060;rport;branch=z9hG4bKa, SIP/2.0/UDP b;rport",
                "192.0.2.7:4444"
            ),
            "SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bKa;received=192.0.2.7;rport=4444, SIP/2.0/UDP b;rport"
        );
        assert_eq!(
            marked(
                "SIP/2.0/UDP host.example;received=9.9.9.9;branch=z9hG4bKa",
                "[2001:db8::5]:5060"
            ),
            "SIP/2.0/UDP host.example;branch=z9hG4bKa;received=2001:db8::5"
        );
        let same = "SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bKa";
        assert_eq!(marked(same, "192.0.2.7:5060"), same);
    }
}
