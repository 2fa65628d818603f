//! Digest authentication, the side that is asked (RFC 7616, RFC 8760 for SIP).
//!
//! What answers a challenge goes only to whom the credentials are for: a trunk's registrar, and whoever takes
//! our calls by that trunk, at the same address and for the same realm. The endpoint sees to that.

#![deny(clippy::indexing_slicing)]

use std::fmt::Write;

use md5::Md5;
use sha2::{Digest as _, Sha256};

use crate::config::Secret;
use crate::sip::address::split_outside_quotes;
use crate::sip::message::Headers;

/// Who we are to a registrar or proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user name, as it stands in the answer.
    pub user: String,
    /// The password.
    pub password: Secret,
}

/// A challenge that we can answer, and how often we did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    pub(crate) realm: String,
    /// The credentials were right, the nonce had grown old (RFC 7616 section 3.3).
    pub(crate) stale: bool,
    nonce: String,
    opaque: Option<String>,
    algorithm: Algorithm,
    /// Its name as it was written; `None`: it wasn't.
    algorithm_name: Option<String>,
    /// `qop=auth` was offered.
    counts: bool,
    by_proxy: bool,
    used: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Algorithm {
    hash: Hash,
    /// The session variant hashes the nonces into the secret.
    session: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hash {
    Md5,
    Sha256,
}

impl Challenge {
    /// The first one of a 401 or 407 that we know how to answer: the order is the server's wish
    /// (RFC 8760 section 2.4). With `realm`, for that one only.
    pub(crate) fn find(status: u16, headers: &Headers, realm: Option<&str>) -> Option<Self> {
        let by_proxy = status == 407;
        let name = if by_proxy {
            "Proxy-Authenticate"
        } else {
            "WWW-Authenticate"
        };
        headers
            .all(name)
            .take(CHALLENGES_MAX)
            .filter_map(|value| Self::parse(value, by_proxy))
            .find(|challenge| realm.is_none_or(|realm| challenge.realm == realm))
    }

    /// The header that answers go in.
    pub(crate) const fn header(&self) -> &'static str {
        if self.by_proxy {
            "Proxy-Authorization"
        } else {
            "Authorization"
        }
    }

    pub(super) fn parse(value: &str, by_proxy: bool) -> Option<Self> {
        let params = Params::parse(value)?;
        let param = |wanted: &str| params.get(wanted);
        let qops = param("qop");
        let offers_auth = |qops: &str| {
            qops.split(',')
                .any(|q| q.trim().eq_ignore_ascii_case("auth"))
        };
        if qops.is_some_and(|qops| !offers_auth(qops)) {
            return None;
        }
        let algorithm_name = param("algorithm").map(ToOwned::to_owned);
        Some(Self {
            realm: param("realm")?.to_owned(),
            stale: param("stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true")),
            nonce: param("nonce")?.to_owned(),
            opaque: param("opaque").map(ToOwned::to_owned),
            algorithm: Algorithm::parse(algorithm_name.as_deref().unwrap_or("MD5"))?,
            algorithm_name,
            counts: qops.is_some(),
            by_proxy,
            used: 0,
        })
    }

    /// The header that answers it in a request; `cnonce` is random. Each answer counts the nonce up.
    pub(crate) fn answer(
        &mut self,
        credentials: &Credentials,
        method: &str,
        uri: &str,
        cnonce: &str,
    ) -> (&'static str, String) {
        self.used = self.used.saturating_add(1);
        let response = self.response(credentials, method, uri, cnonce);
        let mut value = format!(
            "Digest username=\"{}\", realm=\"{}\", nonce=\"{}\", uri=\"{uri}\", response=\"{response}\"",
            credentials.user, self.realm, self.nonce
        );
        // Writing to a String cannot fail.
        if let Some(name) = &self.algorithm_name {
            let _ = write!(value, ", algorithm={name}");
        }
        if let Some(opaque) = &self.opaque {
            let _ = write!(value, ", opaque=\"{opaque}\"");
        }
        if self.counts || self.algorithm.session {
            let _ = write!(value, ", cnonce=\"{cnonce}\"");
        }
        if self.counts {
            let _ = write!(value, ", qop=auth, nc={:08x}", self.used);
        }
        (self.header(), value)
    }

    fn response(&self, credentials: &Credentials, method: &str, uri: &str, cnonce: &str) -> String {
        let count = format!("{:08x}", self.used);
        let asked = Asked {
            realm: &self.realm,
            nonce: &self.nonce,
            method,
            uri,
            count: self.counts.then_some(count.as_str()),
            cnonce,
        };
        response(self.algorithm, credentials, &asked)
    }
}

/// What stands in a challenge, or in an answer to one.
pub(super) struct Params<'a>(Vec<&'a str>);

impl<'a> Params<'a> {
    /// `None`: by another scheme than Digest, or longer than any.
    pub(super) fn parse(value: &'a str) -> Option<Self> {
        let (scheme, params) = value.trim().split_once(' ')?;
        let is_digest = scheme.eq_ignore_ascii_case("digest") && value.len() <= PARAMS_BYTES_MAX;
        is_digest.then(|| Self(split_outside_quotes(params, ',')))
    }

    /// Without its quotes.
    pub(super) fn get(&self, wanted: &str) -> Option<&'a str> {
        self.0.iter().find_map(|part| {
            let (name, value) = part.split_once('=')?;
            (name.trim().eq_ignore_ascii_case(wanted)).then(|| unquote(value))
        })
    }
}

/// What a response answers, beside the credentials.
pub(super) struct Asked<'a> {
    pub(super) realm: &'a str,
    pub(super) nonce: &'a str,
    pub(super) method: &'a str,
    pub(super) uri: &'a str,
    /// The nonce count as it is written; `None`: in the old way, without.
    pub(super) count: Option<&'a str>,
    pub(super) cnonce: &'a str,
}

/// RFC 7616 section 3.4.1.
pub(super) fn response(
    Algorithm { hash, session }: Algorithm,
    credentials: &Credentials,
    asked: &Asked<'_>,
) -> String {
    let (user, password) = (&credentials.user, credentials.password.expose());
    let Asked {
        realm,
        nonce,
        method,
        uri,
        count,
        cnonce,
    } = asked;
    let mut secret = hash.hex(&format!("{user}:{realm}:{password}"));
    if session {
        secret = hash.hex(&format!("{secret}:{nonce}:{cnonce}"));
    }
    let asked = hash.hex(&format!("{method}:{uri}"));
    match count {
        Some(count) => hash.hex(&format!("{secret}:{nonce}:{count}:{cnonce}:auth:{asked}")),
        None => hash.hex(&format!("{secret}:{nonce}:{asked}")),
    }
}

impl Algorithm {
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (base, session) = match name
            .len()
            .checked_sub(5)
            .map(|at| name.split_at_checked(at))
        {
            Some(Some((base, end))) if end.eq_ignore_ascii_case("-sess") => (base, true),
            Some(Some(_) | None) | None => (name, false),
        };
        let hash = if base.eq_ignore_ascii_case("MD5") {
            Hash::Md5
        } else if base.eq_ignore_ascii_case("SHA-256") {
            Hash::Sha256
        } else {
            return None;
        };
        Some(Self { hash, session })
    }
}

impl Hash {
    fn hex(self, text: &str) -> String {
        let digest: Vec<u8> = match self {
            Self::Md5 => Md5::digest(text).to_vec(),
            Self::Sha256 => Sha256::digest(text).to_vec(),
        };
        let mut hex = String::with_capacity(digest.len() * 2);
        for byte in digest {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
        }
        hex
    }
}

pub(super) fn unquote(value: &str) -> &str {
    let value = value.trim();
    value
        .strip_prefix('"')
        .and_then(|inner| inner.strip_suffix('"'))
        .unwrap_or(value)
}

/// Challenges looked at in one answer.
const CHALLENGES_MAX: usize = 8;
/// No server sends more; what it sends is sent back.
const PARAMS_BYTES_MAX: usize = 2_048;

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(user: &str, password: &str) -> Credentials {
        Credentials {
            user: user.to_owned(),
            password: Secret::new(password),
        }
    }

    fn response_in(value: &str) -> &str {
        let (_, rest) = value.split_once("response=\"").unwrap();
        rest.split_once('"').unwrap().0
    }

    #[test]
    fn the_examples_of_rfc_7616_come_out() {
        // Section 3.9.1: one request, challenged with both algorithms.
        for (algorithm, expected) in [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            (
                "SHA-256",
                "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
            ),
        ] {
            let challenge = format!(
                "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", algorithm={algorithm}, \
                 nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", \
                 opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
            );
            let mut challenge = Challenge::parse(&challenge, false).unwrap();
            let (name, value) = challenge.answer(
                &credentials("Mufasa", "Circle of Life"),
                "GET",
                "/dir/index.html",
                "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
            );
            assert_eq!((name, response_in(&value)), ("Authorization", expected));
            assert!(
                value.contains("nc=00000001") && value.contains(&format!("algorithm={algorithm}"))
            );
        }
    }

    #[test]
    fn the_example_of_rfc_2617_and_one_without_qop_come_out() {
        let text = "Digest realm=\"testrealm@host.com\", qop=\"auth,auth-int\", \
                    nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", opaque=\"5ccc069c403ebaf9f0171e9517f40e41\"";
        let mut challenge = Challenge::parse(text, false).unwrap();
        let mufasa = credentials("Mufasa", "Circle Of Life");
        let (_, value) = challenge.answer(&mufasa, "GET", "/dir/index.html", "0a4f113b");
        assert_eq!(response_in(&value), "6629fae49393a05397450978507c4ef1");
        assert!(!value.contains("algorithm"), "it wasn't named: {value}");
        let mut old = Challenge::parse("Digest realm=\"r\", nonce=\"n\"", true).unwrap();
        let (name, value) = old.answer(&credentials("u", "p"), "REGISTER", "sip:r", "c");
        // md5("md5(u:r:p):n:md5(REGISTER:sip:r)"), by hand.
        let expected = Hash::Md5.hex(&format!(
            "{}:n:{}",
            Hash::Md5.hex("u:r:p"),
            Hash::Md5.hex("REGISTER:sip:r")
        ));
        assert_eq!(
            (name, response_in(&value)),
            ("Proxy-Authorization", expected.as_str())
        );
        assert!(!value.contains("cnonce") && !value.contains("nc="));
    }

    #[test]
    fn the_nonce_is_counted_and_the_first_algorithm_we_know_is_taken() {
        let mut challenge = Challenge::parse(
            "digest realm=\"a, b\",nonce=\"n\",qop=auth,algorithm=sha-256-sess",
            false,
        )
        .unwrap();
        assert_eq!(challenge.realm, "a, b");
        assert!(challenge.algorithm.session);
        let who = credentials("u", "p");
        let first = challenge.answer(&who, "REGISTER", "sip:r", "c").1;
        let second = challenge.answer(&who, "REGISTER", "sip:r", "c").1;
        assert!(first.contains("nc=00000001") && second.contains("nc=00000002"));
        assert_ne!(response_in(&first), response_in(&second));
        for unknown in [
            "Digest realm=\"r\", nonce=\"n\", algorithm=SHA-512-256",
            "Digest realm=\"r\", nonce=\"n\", qop=\"auth-int\"",
            "Digest realm=\"r\"",
            "Digest nonce=\"n\"",
            "Basic realm=\"r\"",
            "Digest",
            "",
        ] {
            assert_eq!(Challenge::parse(unknown, false), None, "{unknown}");
        }
    }

    #[test]
    fn nothing_prints_the_password() {
        let text = format!("{:?}", credentials("trunk", "hunter2"));
        assert!(
            text.contains("trunk") && !text.contains("hunter2"),
            "{text}"
        );
    }
}
