//! Our side of the checks that find a way through NATs: ICE-lite (RFC 8445 section 2.5). We ask nothing and
//! answer who knows our password; by what he nominates, media goes.
//!
//! A stranger gets no answer: not even an error, unless he knows the name that we go by in this call.

#![deny(clippy::indexing_slicing)]

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use rtc_dtls::crypto_provider::RTCCryptoProvider;
use rtc_stun::attributes::{
    ATTR_FINGERPRINT, ATTR_ICE_CONTROLLED, ATTR_MESSAGE_INTEGRITY, ATTR_PRIORITY,
    ATTR_UNKNOWN_ATTRIBUTES, ATTR_USE_CANDIDATE, ATTR_USERNAME, AttrType,
};
use rtc_stun::error_code::{
    CODE_BAD_REQUEST, CODE_ROLE_CONFLICT, CODE_UNAUTHORIZED, CODE_UNKNOWN_ATTRIBUTE, ErrorCode,
    ErrorCodeAttribute,
};
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{
    BINDING_ERROR, BINDING_REQUEST, BINDING_SUCCESS, MESSAGE_HEADER_SIZE, Message, Setter as _,
};
use rtc_stun::xoraddr::XorMappedAddress;

/// The name and password that one side's checks are answered by.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    ufrag: String,
    pwd: String,
}

impl Credentials {
    /// Ours, from random bytes, which nobody else may know.
    #[must_use]
    pub fn new(random: &[u8; CREDENTIALS_BYTES]) -> Self {
        let (ufrag, pwd) = random.split_at(UFRAG_BYTES);
        // The alphabet of base64 is that of ICE (RFC 8839 section 5.4).
        Self {
            ufrag: STANDARD_NO_PAD.encode(ufrag),
            pwd: STANDARD_NO_PAD.encode(pwd),
        }
    }

    /// A peer's, from his session description; `None`: not as RFC 8839 section 5.4 wants them.
    #[must_use]
    pub fn parse(ufrag: &str, pwd: &str) -> Option<Self> {
        let is_ice = |text: &str, least: usize| {
            let all = |c: u8| c.is_ascii_alphanumeric() || c == b'+' || c == b'/';
            (least..=CREDENTIAL_CHARS_MAX).contains(&text.len()) && text.bytes().all(all)
        };
        let (ufrag, pwd) = (ufrag.trim(), pwd.trim());
        (is_ice(ufrag, 4) && is_ice(pwd, 22)).then(|| Self {
            ufrag: ufrag.to_owned(),
            pwd: pwd.to_owned(),
        })
    }

    /// `a=ice-ufrag`.
    #[must_use]
    pub fn ufrag(&self) -> &str {
        &self.ufrag
    }

    /// `a=ice-pwd`, for the peer's eyes only.
    #[must_use]
    pub fn expose_pwd(&self) -> &str {
        &self.pwd
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// See the module's text.
pub(super) struct IceLite {
    own: Credentials,
    /// `our ufrag:his ufrag`.
    username: String,
    crypto: Arc<dyn RTCCryptoProvider>,
    /// From where he has shown that he knows our password.
    checked: Vec<Pair>,
    nominated: Option<Pair>,
    last_check: Option<Instant>,
    /// He goes on checking after his nomination (RFC 7675); some do not.
    checks_on: bool,
}

#[derive(Debug, Clone, Copy)]
struct Pair {
    from: SocketAddr,
    priority: u32,
    nominated_at: Instant,
    last: Instant,
}

/// What came of a STUN message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Checked {
    /// What it is answered with.
    pub(super) answer: Option<Vec<u8>>,
    /// It was the peer's.
    pub(super) is_genuine: bool,
    /// Media goes to where it came from, from now on.
    pub(super) nominates: bool,
}

impl Checked {
    const NOTHING: Self = Self {
        answer: None,
        is_genuine: false,
        nominates: false,
    };
}

impl IceLite {
    pub(super) fn new(
        own: Credentials,
        peer: &Credentials,
        crypto: Arc<dyn RTCCryptoProvider>,
    ) -> Self {
        Self {
            username: format!("{}:{}", own.ufrag, peer.ufrag),
            own,
            crypto,
            checked: Vec::new(),
            nominated: None,
            last_check: None,
            checks_on: false,
        }
    }

    /// Begins anew (RFC 8445 section 9); media stays where it is until something else is nominated.
    pub(super) fn restart(&mut self, own: Credentials, peer: &Credentials) {
        self.username = format!("{}:{}", own.ufrag, peer.ufrag);
        self.own = own;
        if let Some(pair) = &mut self.nominated {
            pair.priority = 0;
        }
    }

    /// Takes a STUN message.
    pub(super) fn handle(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) -> Checked {
        let (username, pwd) = (&self.username, self.own.pwd.as_bytes());
        // As in `dtls`: what isn't ours ends no process.
        let request = catch_unwind(AssertUnwindSafe(|| {
            Request::read(datagram, username, pwd, self.crypto.crypto())
        }));
        let Ok(Some(request)) = request else {
            return Checked::NOTHING;
        };
        match request.refusal {
            Some(Refusal::Unauthenticated(code)) => Checked {
                answer: self.error(&request, code, false),
                ..Checked::NOTHING
            },
            Some(Refusal::Authenticated(code)) => Checked {
                answer: self.error(&request, code, true),
                ..Checked::NOTHING
            },
            None => self.take(now, from, &request),
        }
    }

    /// Has he shown from there that he knows our password?
    pub(super) fn has_checked(&self, from: SocketAddr) -> bool {
        self.checked.iter().any(|pair| pair.from == from)
    }

    /// Since when he has said nothing, where he is one who should; `None`: he isn't, or hasn't begun.
    pub(super) fn silent_since(&self) -> Option<Instant> {
        self.last_check.filter(|_| self.checks_on)
    }

    fn take(&mut self, now: Instant, from: SocketAddr, request: &Request) -> Checked {
        self.last_check = Some(now);
        let known = self.checked.iter_mut().find(|pair| pair.from == from);
        let pair = match known {
            Some(pair) => {
                pair.last = now;
                pair.priority = request.priority;
                *pair
            }
            None => {
                let pair = Pair {
                    from,
                    priority: request.priority,
                    nominated_at: now,
                    last: now,
                };
                if self.checked.len() == PAIRS_MAX {
                    // The one that was silent for longest.
                    let place = self.checked.iter().enumerate().min_by_key(|(_, p)| p.last);
                    if let Some((place, _)) = place {
                        self.checked.swap_remove(place);
                    }
                }
                self.checked.push(pair);
                pair
            }
        };
        let nominates = request.nominates && self.nominate(now, pair);
        if let Some(nominated) = self.nominated.as_mut().filter(|pair| pair.from == from) {
            nominated.last = now;
            let since = now.saturating_duration_since(nominated.nominated_at);
            self.checks_on |= since >= CHECKS_ON_AFTER;
        }
        Checked {
            answer: self.success(request, from),
            is_genuine: true,
            nominates,
        }
    }

    /// Who nominates all of his pairs at once means the one of the highest priority that is alive.
    fn nominate(&mut self, now: Instant, pair: Pair) -> bool {
        let is_better = self.nominated.is_none_or(|current| {
            let silent = now.saturating_duration_since(current.last) >= PAIR_SILENT_AFTER;
            current.from != pair.from && (pair.priority >= current.priority || silent)
        });
        if is_better {
            self.nominated = Some(Pair {
                nominated_at: now,
                ..pair
            });
        }
        is_better
    }

    fn success(&self, request: &Request, from: SocketAddr) -> Option<Vec<u8>> {
        let mut answer = request.answer(BINDING_SUCCESS);
        let mapped = XorMappedAddress {
            ip: from.ip(),
            port: from.port(),
        };
        mapped.add_to(&mut answer).ok()?;
        self.signed(answer, true)
    }

    fn error(&self, request: &Request, code: ErrorCode, signed: bool) -> Option<Vec<u8>> {
        let mut answer = request.answer(BINDING_ERROR);
        let error = ErrorCodeAttribute {
            code,
            reason: Vec::new(),
        };
        error.add_to(&mut answer).ok()?;
        if code == CODE_UNKNOWN_ATTRIBUTE {
            let unknown = request.unknown.iter().flat_map(|kind| kind.to_be_bytes());
            answer.add(ATTR_UNKNOWN_ATTRIBUTES, &unknown.collect::<Vec<u8>>());
        }
        self.signed(answer, signed)
    }

    fn signed(&self, mut answer: Message, signed: bool) -> Option<Vec<u8>> {
        if signed {
            let integrity = MessageIntegrity::new_raw_integrity_with_provider(
                self.own.pwd.as_bytes(),
                self.crypto.crypto(),
            );
            integrity.add_to(&mut answer).ok()?;
        }
        FINGERPRINT.add_to(&mut answer).ok()?;
        Some(answer.raw)
    }
}

/// A binding request, to be answered one way or the other.
struct Request {
    message: Message,
    priority: u32,
    nominates: bool,
    /// Attributes that must be understood and aren't.
    unknown: Vec<u16>,
    refusal: Option<Refusal>,
}

enum Refusal {
    /// Anybody may have written it.
    Unauthenticated(ErrorCode),
    /// It is the peer's, but can't be done.
    Authenticated(ErrorCode),
}

impl Request {
    /// `None`: nothing that is answered.
    fn read(
        datagram: &[u8],
        username: &str,
        pwd: &[u8],
        crypto: &dyn rtc_dtls::crypto_provider::RTCCrypto,
    ) -> Option<Self> {
        let mut message = whole(datagram)?;
        if message.typ != BINDING_REQUEST || FINGERPRINT.check(&message).is_err() {
            return None;
        }
        let (ours, _) = username.split_once(':')?;
        let told = message.get(ATTR_USERNAME).ok()?;
        let (called, _) = str::from_utf8(&told).ok()?.split_once(':')?;
        if called != ours {
            return None;
        }
        let refusal = if !message.contains(ATTR_MESSAGE_INTEGRITY) {
            Some(Refusal::Unauthenticated(CODE_BAD_REQUEST))
        } else if told != username.as_bytes()
            || MessageIntegrity::check(&mut message, pwd, crypto).is_err()
        {
            Some(Refusal::Unauthenticated(CODE_UNAUTHORIZED))
        } else {
            None
        };
        Some(Self::understood(message, refusal))
    }

    fn understood(message: Message, refusal: Option<Refusal>) -> Self {
        let kinds = message.attributes.0.iter().map(|attribute| attribute.typ);
        let unknown: Vec<u16> = kinds
            .filter(|kind| kind.0 < OPTIONAL_FROM && !UNDERSTOOD.contains(kind))
            .map(|kind| kind.0)
            .take(UNKNOWN_MAX)
            .collect();
        let conflict = message.contains(ATTR_ICE_CONTROLLED);
        let priority = message.get(ATTR_PRIORITY).ok();
        let priority = priority.and_then(|bytes| bytes.try_into().ok());
        let refusal = refusal.or({
            if !unknown.is_empty() {
                Some(Refusal::Authenticated(CODE_UNKNOWN_ATTRIBUTE))
            } else if conflict {
                Some(Refusal::Authenticated(CODE_ROLE_CONFLICT))
            } else {
                None
            }
        });
        Self {
            priority: priority.map_or(0, u32::from_be_bytes),
            nominates: message.contains(ATTR_USE_CANDIDATE),
            message,
            unknown,
            refusal,
        }
    }

    fn answer(&self, typ: rtc_stun::message::MessageType) -> Message {
        let mut answer = Message::new();
        answer.transaction_id = self.message.transaction_id;
        answer.set_type(typ);
        answer.write_header();
        answer
    }
}

/// A message that is all of the datagram, with a fingerprint as its last attribute and before it, if anywhere,
/// what proves its origin: the library's checks take that for granted, and nothing is proved of what follows.
fn whole(datagram: &[u8]) -> Option<Message> {
    if datagram.len() > MESSAGE_BYTES_MAX {
        return None;
    }
    let mut message = Message::new();
    message.unmarshal_binary(datagram).ok()?;
    let is_all = message.length as usize + MESSAGE_HEADER_SIZE == datagram.len();
    let kinds = || message.attributes.0.iter().map(|attribute| attribute.typ);
    let once = |kind: AttrType| kinds().filter(|other| *other == kind).count() <= 1;
    let ends_well = kinds().next_back() == Some(ATTR_FINGERPRINT);
    let proof_is_last = kinds().nth_back(1) == Some(ATTR_MESSAGE_INTEGRITY)
        || !kinds().any(|kind| kind == ATTR_MESSAGE_INTEGRITY);
    (is_all && ends_well && proof_is_last && once(ATTR_FINGERPRINT) && once(ATTR_MESSAGE_INTEGRITY))
        .then_some(message)
}

/// Bytes that [`Credentials::new`] needs.
pub const CREDENTIALS_BYTES: usize = UFRAG_BYTES + 18;
const UFRAG_BYTES: usize = 6;
/// RFC 8839 section 5.4.
const CREDENTIAL_CHARS_MAX: usize = 256;
const MESSAGE_BYTES_MAX: usize = 1_000;
/// What must be understood begins below this (RFC 8489 section 14).
const OPTIONAL_FROM: u16 = 0x8000;
const UNDERSTOOD: [AttrType; 4] = [
    ATTR_USERNAME,
    ATTR_MESSAGE_INTEGRITY,
    ATTR_PRIORITY,
    ATTR_USE_CANDIDATE,
];
const UNKNOWN_MAX: usize = 8;
/// More addresses than a peer has.
const PAIRS_MAX: usize = 16;
/// Those who go on checking do so every 2.5 s, on average 5 at least (RFC 7675 section 5.1).
const PAIR_SILENT_AFTER: Duration = Duration::from_secs(3);
const CHECKS_ON_AFTER: Duration = Duration::from_secs(4);
