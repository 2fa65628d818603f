//! One DTLS association (RFC 6347) for the keys of SRTP (RFC 5764).
//!
//! `rtc-dtls` does the handshake. What it leaves open is done here: it sends a flight no more again once the
//! peer has repeated his, so flights are kept and repeated here; it takes what anybody may have written before
//! there are keys, so alerts of that time and datagrams that aren't whole are not shown to it; and it bounds
//! neither messages nor bytes.

#![deny(clippy::indexing_slicing)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;

use crate::handshake::fingerprint::Fingerprint;
use crate::handshake::identity::Identity;
use crate::media::srtp::{MasterKey, SrtpKeys, Suite};

/// Who begins (RFC 8842): our part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The peer sends the first message.
    Passive,
    /// We do.
    Active,
}

/// See the module's text.
pub(super) struct Association {
    endpoint: Endpoint,
    role: Role,
    state: State,
    /// What was sent last, to be sent again while nothing comes back.
    flight: Vec<BytesMut>,
    again_at: Option<Instant>,
    interval: Duration,
    datagrams: u32,
    /// The peer has shown that he is where he says: by the cookie that went there, or by answering what we began.
    is_there: bool,
    /// What waits to be sent.
    outgoing: Vec<BytesMut>,
    /// The peer said that it gives up; anybody may have said it.
    pub(super) refused_with: Option<u8>,
}

/// What became of an association.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// On the way.
    Shaking,
    /// Both have the keys, and the peer is who signalling said.
    Done(SrtpKeys),
    /// It came to an end, but with somebody else, or without keys.
    Unvouched,
    /// It can't come to an end any more.
    Broken,
}

impl Association {
    /// One that has yet to begin.
    pub(super) fn new(identity: &Identity, role: Role, now: Instant) -> Self {
        let server = (role == Role::Passive).then(|| identity.server.clone());
        let mut endpoint = Endpoint::new(HERE, Default::default(), server);
        let begun = match role {
            Role::Passive => Ok(()),
            Role::Active => endpoint.connect(now, THERE, identity.client.clone(), None),
        };
        let mut new = Self {
            endpoint,
            role,
            state: if begun.is_ok() {
                State::Shaking
            } else {
                State::Broken
            },
            flight: Vec::new(),
            again_at: None,
            interval: FIRST_INTERVAL,
            datagrams: 0,
            is_there: role == Role::Active,
            outgoing: Vec::new(),
            refused_with: None,
        };
        new.collect(now);
        new
    }

    /// Takes a datagram of the peer's. `false`: it was of no use.
    pub(super) fn handle(
        &mut self,
        now: Instant,
        datagram: &[u8],
        vouched: &[Fingerprint],
    ) -> bool {
        let Some(shape) = Shape::of(datagram) else {
            return false;
        };
        if let Some(alert) = shape.alert {
            self.refused_with = Some(alert);
        }
        if shape.is_alert || self.datagrams >= DATAGRAMS_MAX {
            return false;
        }
        self.datagrams += 1;
        match self.state {
            State::Broken | State::Unvouched => return false,
            State::Shaking | State::Done(_) => {}
        }
        // A reader of strangers' bytes that isn't ours: its panic ends this handshake, not the process.
        let read = catch_unwind(AssertUnwindSafe(|| {
            let datagram = BytesMut::from(datagram);
            self.endpoint.read(now, THERE, None, datagram)
        }));
        let done = |event: &EndpointEvent| matches!(event, EndpointEvent::HandshakeComplete);
        match read {
            Ok(Ok(events)) if self.state == State::Shaking && events.iter().any(done) => {
                self.state = self.finished(vouched);
            }
            Ok(Ok(_)) => {}
            // What comes after the handshake needn't be understood.
            Ok(Err(_)) if self.state != State::Shaking => {}
            Ok(Err(_)) | Err(_) => self.state = State::Broken,
        }
        self.collect(now);
        true
    }

    /// Sends again what may have been lost.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|at| at > now) {
            return;
        }
        if self.librarys_timeout().is_some() {
            if self.endpoint.handle_timeout(THERE, now).is_err() {
                self.state = State::Broken;
            }
            self.collect(now);
        } else {
            self.outgoing.clone_from(&self.flight);
            self.interval = (self.interval * 2).min(LAST_INTERVAL);
            self.again_at = Some(now + self.interval);
        }
    }

    /// When something is to be sent again.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let at = self.librarys_timeout().or(self.again_at);
        at.filter(|_| self.state == State::Shaking)
    }

    /// What we begin, the library repeats as a new message, as the peer's last flight has to be asked for; an old
    /// one would be dropped as a replay. In the other part it waits for longer than a caller would.
    fn librarys_timeout(&self) -> Option<Instant> {
        let at = self.endpoint.poll_timeout(&THERE);
        at.filter(|_| self.role == Role::Active)
    }

    /// What is to be sent.
    pub(super) fn take_outgoing(&mut self) -> Vec<BytesMut> {
        std::mem::take(&mut self.outgoing)
    }

    /// Has the peer shown that he is where he says?
    pub(super) const fn is_there(&self) -> bool {
        self.is_there
    }

    pub(super) const fn state(&self) -> State {
        self.state
    }

    fn collect(&mut self, now: Instant) {
        let sent: Vec<BytesMut> =
            std::iter::from_fn(|| Some(self.endpoint.poll_transmit()?.message)).collect();
        if sent.is_empty() {
            return;
        }
        // Until the peer has shown that he is where he says, he is answered, but never twice.
        let repeats = self.state == State::Shaking
            && !sent
                .iter()
                .any(|datagram| is_hello_verify_request(datagram));
        self.is_there |= repeats;
        if repeats {
            self.flight.clone_from(&sent);
            self.interval = FIRST_INTERVAL;
            self.again_at = Some(now + FIRST_INTERVAL);
        } else {
            self.flight.clear();
            self.again_at = None;
        }
        self.outgoing.extend(sent);
    }

    /// Holds the peer's certificate against the fingerprints, and takes the keys out.
    fn finished(&self, vouched: &[Fingerprint]) -> State {
        let Some(state) = self.endpoint.get_connection_state(THERE) else {
            return State::Broken;
        };
        let shown = state.peer_certificates.first();
        if !shown.is_some_and(|der| Fingerprint::any_is_of(vouched, der)) {
            return State::Unvouched;
        }
        let profile = state.srtp_protection_profile();
        if profile != SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 {
            return State::Unvouched;
        }
        let bytes = state.export_keying_material(LABEL, &[], KEYS_BYTES);
        let keys = bytes
            .ok()
            .and_then(|bytes| keys(&bytes.into_bytes(), self.role));
        keys.map_or(State::Broken, State::Done)
    }
}

/// Client's key, server's key, client's salt, server's salt (RFC 5764 section 4.2).
fn keys(material: &[u8], ours: Role) -> Option<SrtpKeys> {
    let (client_key, rest) = material.split_at_checked(KEY_BYTES)?;
    let (server_key, rest) = rest.split_at_checked(KEY_BYTES)?;
    let (client_salt, server_salt) = rest.split_at_checked(SALT_BYTES)?;
    let key = |key: &[u8], salt: &[u8]| {
        MasterKey::new(Suite::AesCm128HmacSha1Tag80, &[key, salt].concat())
    };
    let client = key(client_key, client_salt)?;
    let server = key(server_key, server_salt)?;
    Some(match ours {
        Role::Active => SrtpKeys {
            ours: client,
            theirs: server,
        },
        Role::Passive => SrtpKeys {
            ours: server,
            theirs: client,
        },
    })
}

/// What a datagram is made of, as far as can be seen without keys.
#[derive(Default)]
struct Shape {
    /// It has an alert that isn't encrypted, and this is it.
    alert: Option<u8>,
    is_alert: bool,
}

impl Shape {
    /// `None`: it isn't made of whole records of DTLS, or of more messages than any peer's.
    fn of(datagram: &[u8]) -> Option<Self> {
        let (mut rest, mut shape, mut messages) = (datagram, Self::default(), 0);
        if rest.is_empty() {
            return None;
        }
        while !rest.is_empty() {
            let (header, after) = rest.split_first_chunk::<RECORD_HEADER_BYTES>()?;
            let [kind, major, _, epoch_high, epoch_low, .., high, low] = *header;
            let length = usize::from(u16::from_be_bytes([high, low]));
            let (body, after) = after.split_at_checked(length)?;
            let is_plain = [epoch_high, epoch_low] == [0, 0];
            if major != DTLS_MAJOR || !KINDS.contains(&kind) || body.is_empty() {
                return None;
            }
            // Nothing a peer sends, and the library would break off with an alert of its own.
            let is_forged = match kind {
                CHANGE_OF_CIPHERS => body != [1],
                APPLICATION_DATA => true,
                _ => false,
            };
            if is_plain && is_forged {
                return None;
            }
            if is_plain && kind == ALERT {
                shape.is_alert = true;
                shape.alert = body.get(1).copied();
            }
            if is_plain && kind == HANDSHAKE {
                messages += messages_in(body)?;
            }
            rest = after;
        }
        (messages <= MESSAGES_MAX).then_some(shape)
    }
}

/// How many handshake messages, or parts of such, a record has.
fn messages_in(mut body: &[u8]) -> Option<usize> {
    let mut messages = 0;
    while !body.is_empty() {
        let (header, rest) = body.split_first_chunk::<MESSAGE_HEADER_BYTES>()?;
        let [.., a, b, c] = *header;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        body = rest.get(length..)?;
        messages += 1;
    }
    Some(messages)
}

/// The stateless question (RFC 6347 section 4.2.1), which goes to who may not be there.
fn is_hello_verify_request(datagram: &[u8]) -> bool {
    datagram.first() == Some(&HANDSHAKE)
        && datagram.get(RECORD_HEADER_BYTES) == Some(&HELLO_VERIFY_REQUEST)
}

/// The library tells associations by address; here each has a library of its own, and its peer may come from
/// several addresses (ICE).
const HERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
const THERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2);
const LABEL: &str = "EXTRACTOR-dtls_srtp";
const KEY_BYTES: usize = 16;
const SALT_BYTES: usize = 14;
const KEYS_BYTES: usize = 2 * (KEY_BYTES + SALT_BYTES);
const RECORD_HEADER_BYTES: usize = 13;
const MESSAGE_HEADER_BYTES: usize = 12;
const DTLS_MAJOR: u8 = 254;
const CHANGE_OF_CIPHERS: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const HELLO_VERIFY_REQUEST: u8 = 3;
/// Change of ciphers, alert, handshake, application data.
const KINDS: std::ops::RangeInclusive<u8> = 20..=23;
/// A flight has five messages, each in a few parts where its certificate is long.
const MESSAGES_MAX: usize = 16;
/// A handshake takes some ten; the library keeps what it is shown.
const DATAGRAMS_MAX: u32 = 64;
/// Ten times a bad round trip; RFC 6347 section 4.2.4.1 asks for a second at first, which a caller would
/// hear, and allows less.
const FIRST_INTERVAL: Duration = Duration::from_millis(400);
const LAST_INTERVAL: Duration = Duration::from_millis(1_600);
