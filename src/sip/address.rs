//! Addresses in headers and request lines: `name-addr`, parameters, URIs.
//!
//! Our own reading, because a display name may hold `<sip:somebody.else>` in quotes and must not be
//! taken for the caller, and because dial strings carry `;` in the user part.

#![deny(clippy::indexing_slicing)]

/// `"Name" <uri>;params` or `uri;params` (RFC 3261 section 20.10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NameAddr {
    pub(crate) uri: String,
    params: String,
}

impl NameAddr {
    /// `None` where quotes or brackets don't close, or no URI is there.
    pub(crate) fn parse(value: &str) -> Option<Self> {
        let value = value.trim();
        let (uri, params) = match find_outside_quotes(value, '<')? {
            Some(open) => {
                let inner = value.get(open + 1..)?;
                let (uri, after) = inner.split_once('>')?;
                (uri, after.trim().strip_prefix(';').unwrap_or_default())
            }
            None => value.split_once(';').unwrap_or((value, "")),
        };
        let uri = uri.trim();
        let plausible = uri.contains(':') && !uri.contains([' ', '"', '<', '>']);
        plausible.then(|| Self {
            uri: uri.to_owned(),
            params: params.to_owned(),
        })
    }

    /// A header parameter; empty for one without value.
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        param(&self.params, name)
    }

    pub(crate) fn tag(&self) -> Option<&str> {
        self.param("tag").filter(|tag| !tag.is_empty())
    }
}

/// The parts of a SIP, SIPS, TEL or URN address that matter to an endpoint.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) scheme: Scheme,
    /// The user part or number, unescaped, without its parameters.
    pub(crate) user: String,
    user_params: String,
    /// `host[:port]` as written; empty for tel and urn.
    pub(crate) host_port: String,
    uri_params: String,
}

/// What we can be called by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Sip,
    /// Every hop over TLS (RFC 3261 section 26.2.2).
    Sips,
    Tel,
    Urn,
}

/// Why a URI is not one of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadTarget {
    Scheme,
    Form,
}

impl Target {
    pub(crate) fn parse(uri: &str) -> Result<Self, BadTarget> {
        let (scheme, rest) = uri.split_once(':').ok_or(BadTarget::Form)?;
        if uri.contains(['<', '>', ' ', '"']) || rest.is_empty() {
            return Err(BadTarget::Form);
        }
        if scheme.eq_ignore_ascii_case("sip") {
            return Self::parse_sip(Scheme::Sip, rest);
        }
        if scheme.eq_ignore_ascii_case("sips") {
            return Self::parse_sip(Scheme::Sips, rest);
        }
        let scheme = if scheme.eq_ignore_ascii_case("tel") {
            Scheme::Tel
        } else if scheme.eq_ignore_ascii_case("urn") {
            Scheme::Urn
        } else {
            return Err(BadTarget::Scheme);
        };
        let (number, params) = rest.split_once(';').unwrap_or((rest, ""));
        let user = match scheme {
            Scheme::Urn => uri.to_ascii_lowercase(),
            Scheme::Tel | Scheme::Sip | Scheme::Sips => unescape(number),
        };
        Ok(Self {
            scheme,
            user,
            user_params: String::new(),
            host_port: String::new(),
            uri_params: params.to_owned(),
        })
    }

    fn parse_sip(scheme: Scheme, rest: &str) -> Result<Self, BadTarget> {
        let (user_info, host) = match rest.rsplit_once('@') {
            Some((user_info, host)) => (user_info, host),
            None => ("", rest),
        };
        let host = host.split('?').next().unwrap_or_default();
        let (host_port, params) = host.split_once(';').unwrap_or((host, ""));
        if !crate::sip::message::is_host_port(host_port) {
            return Err(BadTarget::Form);
        }
        let (user, user_params) = user_info.split_once(';').unwrap_or((user_info, ""));
        let user = user.split(':').next().unwrap_or_default();
        Ok(Self {
            scheme,
            user: unescape(user),
            user_params: user_params.to_owned(),
            host_port: host_port.to_owned(),
            uri_params: params.to_owned(),
        })
    }

    /// Can requests be sent there?
    pub(crate) fn is_sip(&self) -> bool {
        matches!(self.scheme, Scheme::Sip | Scheme::Sips)
    }

    /// A parameter of the URI, or of its user part as dial strings have it.
    pub(crate) fn param(&self, name: &str) -> Option<String> {
        param(&self.uri_params, name)
            .or_else(|| param(&self.user_params, name))
            .map(unescape)
    }
}

/// The value of `name` in `a=b;c;d="e;f"`; empty for one without value.
pub(crate) fn param<'a>(params: &'a str, name: &str) -> Option<&'a str> {
    split_outside_quotes(params, ';')
        .into_iter()
        .find_map(|part| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            key.trim()
                .eq_ignore_ascii_case(name)
                .then(|| value.trim().trim_matches('"'))
        })
}

/// Splits a header value at commas that stand neither in quotes nor in angle brackets.
pub(crate) fn split_list(value: &str) -> Vec<&str> {
    split_outside_quotes(value, ',')
        .into_iter()
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect()
}

/// Splits at `separator` outside of quotes and angle brackets.
pub(crate) fn split_outside_quotes(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let (mut quoted, mut escaped, mut bracket) = (false, false, false);
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
            continue;
        }
        match c {
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '<' if !quoted => bracket = true,
            '>' if !quoted => bracket = false,
            c if c == separator && !quoted && !bracket => {
                parts.extend(text.get(start..at));
                start = at + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.extend(text.get(start..));
    parts
}

/// `None` when a quote doesn't close; else the first position of `wanted` outside of quotes.
#[allow(clippy::option_option)]
fn find_outside_quotes(text: &str, wanted: char) -> Option<Option<usize>> {
    let (mut quoted, mut escaped, mut found) = (false, false, None);
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
            continue;
        }
        match c {
            '\\' if quoted => escaped = true,
            '"' if found.is_none() => quoted = !quoted,
            c if c == wanted && !quoted && found.is_none() => found = Some(at),
            _ => {}
        }
    }
    if quoted { None } else { Some(found) }
}

/// Percent-decoding (RFC 3261 section 19.1.2); what is no escape stays as it is. Control characters become spaces, as
/// they do where they come unescaped: no number or name has any, and not every store takes them.
pub(crate) fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let escaped = match tail {
            [high, low, ..] if *first == b'%' => hex_digit(*high).zip(hex_digit(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                bytes.push(high << 4 | low);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

const fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_character_is_smuggled_in_by_an_escape() {
        assert_eq!(unescape("39%000%0d%0A%7f%C2%85%C3%A9%2B"), "39 0    é+");
    }

    #[test]
    fn a_quoted_address_in_the_display_name_is_not_the_caller() {
        let from =
            NameAddr::parse(r#""x <sip:ceo@bank.example>" <sip:real@evil.example>;tag=7"#).unwrap();
        assert_eq!(
            (from.uri.as_str(), from.tag()),
            ("sip:real@evil.example", Some("7"))
        );
        let from = NameAddr::parse(
            r#""a \" <sip:b@c> \\" <sip:real@evil.example;tag=no>;x="a;tag=b";TAG=8"#,
        )
        .unwrap();
        assert_eq!(
            (from.uri.as_str(), from.tag()),
            ("sip:real@evil.example;tag=no", Some("8"))
        );
    }

    #[test]
    fn bare_addresses_keep_their_header_parameters() {
        let from = NameAddr::parse("sip:a@[2001:db8::1]:5060;tag=9").unwrap();
        assert_eq!(
            (from.uri.as_str(), from.tag()),
            ("sip:a@[2001:db8::1]:5060", Some("9"))
        );
        for bad in [
            "",
            "bob",
            "\"open <sip:a@b>",
            "<sip:a@b",
            "a b <>",
            "sip:a b",
        ] {
            assert_eq!(NameAddr::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn targets_give_user_host_and_parameters() {
        let target =
            Target::parse("sip:%2B39061234;pin=4815@[2001:db8::1]:5070;transport=tcp?X=y").unwrap();
        assert_eq!(
            (target.user.as_str(), target.host_port.as_str()),
            ("+39061234", "[2001:db8::1]:5070")
        );
        assert_eq!(target.param("pin").as_deref(), Some("4815"));
        let target = Target::parse("sips:100@example.com;pin=12345678").unwrap();
        assert_eq!(target.param("PIN").as_deref(), Some("12345678"));
        let target = Target::parse("tel:+39-06-1234;phone-context=x").unwrap();
        assert_eq!(
            (target.user.as_str(), target.scheme),
            ("+39-06-1234", Scheme::Tel)
        );
        assert_eq!(
            Target::parse("urn:service:SOS").unwrap().user,
            "urn:service:sos"
        );
        assert_eq!(Target::parse("sip:192.0.2.1").unwrap().user, "");
    }

    #[test]
    fn other_schemes_and_broken_hosts_are_told_apart() {
        assert_eq!(Target::parse("http://a/").err(), Some(BadTarget::Scheme));
        for bad in [
            "sip:",
            "sip:a@",
            "nonsense",
            "sip:a@b:99999",
            "sip:a@[::1",
            "<sip:a@b>",
        ] {
            assert_eq!(Target::parse(bad).err(), Some(BadTarget::Form), "{bad}");
        }
    }

    #[test]
    fn lists_split_outside_of_quotes_and_brackets() {
        assert_eq!(
            split_list(r#""a,b" <sip:x,y@h>;q=1, <sip:z@h> ,"#),
            [r#""a,b" <sip:x,y@h>;q=1"#, "<sip:z@h>"]
        );
    }
}
