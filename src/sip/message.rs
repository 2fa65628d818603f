//! The one place that knows the parser: guarded bytes in, our small views of requests and responses out.
//!
//! The parser is the one `rsipstack` exports. It reads the header lines, host names and Via; methods
//! (a closed set there) and addresses (which it reads without quotes) are ours.

#![deny(clippy::indexing_slicing)]

use bytes::Bytes;
use rsipstack::rsip;

use crate::sip::address::{self, NameAddr};
use crate::sip::guard::{Fault, Guarded, StartLine};

/// Header fields under their long names, in order.
#[derive(Clone)]
pub(crate) struct Headers(Vec<(String, String)>);

impl Headers {
    /// Of a head that went through the guard.
    fn parse(head: &str) -> Self {
        // The parser wants a whole message; the real start line has been read already, and a bad one must
        // not cost the headers, which the answer needs.
        let text = format!("OPTIONS sip:h SIP/2.0\r\n{head}\r\n");
        let fields = match rsip::parser::parse_message(text.as_bytes()) {
            Ok(rsip::SipMessage::Request(request)) => request.headers,
            Ok(rsip::SipMessage::Response(_)) | Err(_) => rsip::Headers::default(),
        };
        Self(
            fields
                .iter()
                .map(|field| (field.name().to_owned(), field.value().to_owned()))
                .collect(),
        )
    }

    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn first(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The only one; `None` also where there are several.
    pub(crate) fn single(&self, name: &str) -> Option<&str> {
        let mut all = self.0.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        let (_, value) = all.next()?;
        all.next().is_none().then_some(value.as_str())
    }

    /// All elements of a comma-separated header, over all its lines.
    pub(crate) fn list<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.all(name).flat_map(address::split_list)
    }

    pub(crate) fn lists_token(&self, name: &str, token: &str) -> bool {
        self.list(name)
            .any(|element| element.eq_ignore_ascii_case(token))
    }
}

/// The methods that mean something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Invite,
    Ack,
    Bye,
    Cancel,
    Options,
    Info,
    Update,
    Refer,
    Prack,
    /// Of SIP, but nothing that we take part in: answered 405.
    Other,
    /// Of nothing that we know of: answered 501.
    Unknown,
}

impl Method {
    /// Methods are case-sensitive (RFC 3261 section 7.1).
    pub(crate) fn from_token(token: &str) -> Self {
        match token {
            "INVITE" => Self::Invite,
            "ACK" => Self::Ack,
            "BYE" => Self::Bye,
            "CANCEL" => Self::Cancel,
            "OPTIONS" => Self::Options,
            "INFO" => Self::Info,
            "UPDATE" => Self::Update,
            "REFER" => Self::Refer,
            "PRACK" => Self::Prack,
            "REGISTER" | "SUBSCRIBE" | "NOTIFY" | "MESSAGE" | "PUBLISH" => Self::Other,
            _ => Self::Unknown,
        }
    }
}

/// A message as it came.
pub(crate) enum Message {
    Request(RawRequest),
    Response(Response),
    /// A response that can't be used; nothing is answered to a response.
    BadResponse,
}

impl Message {
    pub(crate) fn parse(guarded: Guarded) -> Self {
        let headers = Headers::parse(&guarded.head);
        match guarded.start {
            StartLine::Request {
                method,
                uri,
                version,
            } => Self::Request(RawRequest {
                method: Method::from_token(&method),
                token: method,
                uri,
                version,
                headers,
                body: guarded.body,
                fault: guarded.fault,
            }),
            StartLine::Response { version, status }
                if guarded.fault.is_none() && is_version_2(&version) =>
            {
                Response::parse(status, headers, guarded.body)
                    .map_or(Self::BadResponse, Self::Response)
            }
            StartLine::Response { .. } => Self::BadResponse,
        }
    }
}

/// A request of which nothing is sure but that it can be looked at.
pub(crate) struct RawRequest {
    pub(crate) method: Method,
    pub(crate) token: String,
    pub(crate) uri: String,
    pub(crate) version: String,
    pub(crate) headers: Headers,
    pub(crate) body: Bytes,
    pub(crate) fault: Option<Fault>,
}

impl RawRequest {
    /// Has what every request must have (RFC 3261 section 8.1.1), readable.
    ///
    /// # Errors
    /// The status to answer with, beside the request.
    pub(crate) fn check(self) -> Result<Request, Box<(u16, Self)>> {
        if let Some(fault) = self.fault {
            return Err(Box::new((fault.status(), self)));
        }
        if !is_version_2(&self.version) {
            return Err(Box::new((505, self)));
        }
        match self.essentials() {
            Some((via, from, to, call_id, cseq)) => Ok(Request {
                method: self.method,
                uri: self.uri,
                headers: self.headers,
                body: self.body,
                via,
                from,
                to,
                call_id,
                cseq,
            }),
            None => Err(Box::new((400, self))),
        }
    }

    fn essentials(&self) -> Option<(TopVia, NameAddr, NameAddr, String, u32)> {
        if !self.headers.all("Via").all(has_only_hops) {
            return None;
        }
        let via = TopVia::parse(self.headers.list("Via").next()?)?;
        let from = NameAddr::parse(self.headers.single("From")?)?;
        let to = NameAddr::parse(self.headers.single("To")?)?;
        let call_id = self
            .headers
            .single("Call-ID")
            .filter(|id| is_word(id))?
            .to_owned();
        let (cseq, method) = parse_cseq(self.headers.single("CSeq")?)?;
        let hops_ok = match self.headers.first("Max-Forwards") {
            Some(hops) => {
                self.headers.single("Max-Forwards").is_some() && hops.parse::<u8>().is_ok()
            }
            None => true,
        };
        (method == self.token && hops_ok).then_some((via, from, to, call_id, cseq))
    }
}

/// A request with everything a transaction and a dialog need.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) uri: String,
    pub(crate) headers: Headers,
    pub(crate) body: Bytes,
    pub(crate) via: TopVia,
    pub(crate) from: NameAddr,
    pub(crate) to: NameAddr,
    pub(crate) call_id: String,
    pub(crate) cseq: u32,
}

impl Request {
    /// RFC 2543 peers send no From tag; then it is empty (RFC 3261 section 12.1.1).
    pub(crate) fn peer_tag(&self) -> &str {
        self.from.tag().unwrap_or_default()
    }

    /// The transaction it belongs to (RFC 3261 section 17.2.3). CANCEL and ACK find the INVITE's.
    pub(crate) fn transaction_key(&self) -> String {
        let method = match self.method {
            Method::Ack | Method::Cancel => Method::Invite,
            Method::Invite
            | Method::Bye
            | Method::Options
            | Method::Info
            | Method::Update
            | Method::Refer
            | Method::Prack
            | Method::Other
            | Method::Unknown => self.method,
        };
        let sent_by = self.via.sent_by.to_ascii_lowercase();
        match &self.via.branch {
            Some(branch) if self.via.is_unique() => {
                format!("{method:?} {branch} {sent_by}")
            }
            // RFC 2543: no unique branch. The To tag is left out, since the ACK has one and the INVITE not.
            Some(_) | None => {
                format!(
                    "{method:?} {} {} {} {sent_by}",
                    self.call_id,
                    self.cseq,
                    self.peer_tag()
                )
            }
        }
    }
}

/// A response that may belong to a request of ours.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Headers,
    pub(crate) body: Bytes,
    pub(crate) branch: String,
    pub(crate) to: NameAddr,
    pub(crate) cseq_method: String,
}

impl Response {
    fn parse(status: u16, headers: Headers, body: Bytes) -> Option<Self> {
        // More than one Via: it was not for us (RFC 3261 section 8.1.3.3).
        let mut vias = headers.list("Via");
        let branch = TopVia::parse(vias.next()?)?.branch?;
        if vias.next().is_some() {
            return None;
        }
        drop(vias);
        let to = NameAddr::parse(headers.single("To")?)?;
        let (_, cseq_method) = parse_cseq(headers.single("CSeq")?)?;
        Some(Self {
            status,
            headers,
            body,
            branch,
            to,
            cseq_method,
        })
    }
}

/// What of the topmost Via matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopVia {
    pub(crate) branch: Option<String>,
    pub(crate) sent_by: String,
}

impl TopVia {
    /// A branch as RFC 3261 has it, which tells transactions apart: the cookie, and something after it.
    pub(crate) fn is_unique(&self) -> bool {
        let after = self.branch.as_deref().and_then(|b| b.strip_prefix(COOKIE));
        after.is_some_and(|unique| !unique.is_empty())
    }

    fn parse(value: &str) -> Option<Self> {
        let via = rsip::typed::Via::parse(value).ok()?;
        let branch = via.params.iter().find_map(|param| {
            if let rsip::Param::Branch(branch) = param {
                Some(branch.value().to_owned())
            } else {
                None
            }
        });
        Some(Self {
            branch: branch.filter(|b| !b.is_empty()),
            sent_by: via.uri.host_with_port.to_string(),
        })
    }
}

/// A line of Via in which each element says by whom it was sent.
fn has_only_hops(via: &str) -> bool {
    let elements = address::split_outside_quotes(via, ',');
    let mut sent_by = elements.iter().map(|hop| hop.split(';').next());
    sent_by.all(|by| by.is_some_and(|by| !by.trim().is_empty()))
}

/// RFC 3261 section 8.1.1.7.
const COOKIE: &str = "z9hG4bK";

/// `host`, `host:port`, `[v6]`, `[v6]:port`.
pub(crate) fn is_host_port(text: &str) -> bool {
    if text.is_empty()
        || text.contains([' ', '/', ','])
        || (text.starts_with('[') != text.contains(']'))
    {
        return false;
    }
    match rsip::HostWithPort::try_from(text) {
        Ok(parsed) => match parsed.host {
            rsip::Host::IpAddr(_) => true,
            rsip::Host::Domain(name) => !name.0.is_empty() && !name.0.contains([':', '[', ']']),
        },
        Err(_) => false,
    }
}

/// The IP address of `host[:port]`, where it is one.
pub(crate) fn host_ip(host_port: &str) -> Option<std::net::IpAddr> {
    match rsip::HostWithPort::try_from(host_port).ok()?.host {
        rsip::Host::IpAddr(ip) => Some(ip),
        rsip::Host::Domain(_) => None,
    }
}

fn is_version_2(version: &str) -> bool {
    version.eq_ignore_ascii_case("SIP/2.0")
}

/// Number below 2^31 and method (RFC 3261 section 8.1.1.5).
fn parse_cseq(value: &str) -> Option<(u32, String)> {
    let (number, method) = value.trim().split_once(char::is_whitespace)?;
    let plain = number.bytes().all(|b| b.is_ascii_digit());
    let number: u32 = number.parse().ok().filter(|n| plain && *n < 1 << 31)?;
    Some((number, method.trim().to_owned()))
}

/// A Call-ID: no spaces, not empty.
fn is_word(text: &str) -> bool {
    !text.is_empty() && !text.contains(char::is_whitespace)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::sip::guard::{Caps, inspect_datagram};

    pub(crate) fn parse(text: &str) -> Message {
        Message::parse(
            inspect_datagram(
                text.as_bytes(),
                &Caps {
                    datagram: 8192,
                    head: 8192,
                    headers: 100,
                },
            )
            .unwrap(),
        )
    }

    fn request(text: &str) -> Result<Request, u16> {
        match parse(text) {
            Message::Request(raw) => raw.check().map_err(|refused| refused.0),
            Message::Response(_) | Message::BadResponse => panic!("a response"),
        }
    }

    const GOOD: &str = "INVITE sip:100@192.0.2.1 SIP/2.0\r\n\
        v: SIP/2.0/UDP [2001:db8::9]:5061;branch=z9hG4bKabc;rport, SIP/2.0/TCP second.example\r\n\
        f: \"a <sip:x@y>\" <sip:alice@example.com>;tag=ft\r\nt: <sip:100@192.0.2.1>\r\ni: c1@h\r\n\
        CSeq: 7 INVITE\r\nm: <sip:alice@192.0.2.9>\r\nMax-Forwards: 70\r\n\r\n";

    #[test]
    fn compact_forms_and_ipv6_are_read() {
        let request = request(GOOD).unwrap();
        assert_eq!(request.via.branch.as_deref(), Some("z9hG4bKabc"));
        assert_eq!(request.via.sent_by, "[2001:db8::9]:5061");
        assert_eq!(request.from.uri, "sip:alice@example.com");
        assert_eq!(
            (request.peer_tag(), request.call_id.as_str(), request.cseq),
            ("ft", "c1@h", 7)
        );
        assert_eq!(
            request.headers.first("Contact"),
            Some("<sip:alice@192.0.2.9>")
        );
        assert_eq!(request.headers.list("Via").count(), 2);
    }

    #[test]
    fn missing_or_garbled_mandatory_headers_are_400_and_other_versions_505() {
        for (from, to) in [
            ("CSeq: 7 INVITE", "CSeq: 7 BYE"),
            ("CSeq: 7 INVITE", "CSeq: 36893488147419103232 INVITE"),
            ("CSeq: 7 INVITE", "CSeq: INVITE"),
            ("CSeq: 7 INVITE", "CSeq: +7 INVITE"),
            ("CSeq: 7 INVITE\r\n", ""),
            ("i: c1@h\r\n", ""),
            ("i: c1@h", "i: "),
            ("i: c1@h", "i: c1@h\r\nCall-ID: c2@h"),
            ("t: <sip:100@192.0.2.1>\r\n", ""),
            ("t: <sip:100@192.0.2.1>", "t: <sip:100@192.0.2.1"),
            ("f: \"a <sip:x@y>\"", "f: \"a <sip:x@y>"),
            ("Max-Forwards: 70", "Max-Forwards: 300"),
            ("Max-Forwards: 70", "Max-Forwards: many"),
        ] {
            assert!(GOOD.contains(from));
            assert_eq!(request(&GOOD.replace(from, to)).err(), Some(400), "{to}");
        }
        assert_eq!(
            request(&GOOD.replace(" SIP/2.0\r\nv", " SIP/7.0\r\nv")).err(),
            Some(505)
        );
    }

    #[test]
    fn ack_and_cancel_find_the_invite_and_nothing_else_does() {
        let invite = request(GOOD).unwrap().transaction_key();
        let other = |method: &str| {
            request(&GOOD.replace("INVITE", method))
                .unwrap()
                .transaction_key()
        };
        assert_eq!(other("ACK"), invite);
        assert_eq!(other("CANCEL"), invite);
        assert_ne!(other("BYE"), invite);
    }

    #[test]
    fn responses_with_two_vias_are_not_ours() {
        let text = "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nTo: <sip:a@b>;tag=t\r\nFrom: <sip:c@d>;tag=f\r\n\
            Call-ID: x\r\nCSeq: 1 INVITE\r\n\r\n";
        let Message::Response(response) = parse(text) else {
            panic!("not read")
        };
        assert_eq!(
            (response.status, response.branch.as_str(), response.to.tag()),
            (200, "z9hG4bK1", Some("t"))
        );
        assert_eq!(response.cseq_method, "INVITE");
        let two = text.replace("branch=z9hG4bK1", "branch=z9hG4bK1, SIP/2.0/UDP i");
        assert!(matches!(parse(&two), Message::BadResponse));
    }
}
