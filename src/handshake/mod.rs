//! Keys by a handshake in the path of the audio: DTLS-SRTP (RFC 5763, RFC 5764), behind checks by ICE where the
//! peer makes such (RFC 8445; we are its lite side).
//!
//! 1. A datagram that is no audio comes here by its first byte ([`crate::media::rtp::is_handshake`]).
//! 2. `ice`: who knows the password of this call may shake hands, and media goes where he nominates. Without
//!    checks, who is at the address that signalling told, or that it came from, may.
//! 3. `dtls`: the handshake itself, with the [`Identity`] of this process.
//! 4. Whose certificate has the `fingerprint` that signalling told is the peer, and nobody else.
//!
//! Driven like a call: after each [`Handshake::handle_packet`] and [`Handshake::handle_timeout`] drain
//! [`Handshake::poll_output`], then ask [`Handshake::poll_timeout`].

mod dtls;
mod fingerprint;
mod ice;
mod identity;
#[cfg(test)]
mod tests;

pub use dtls::Role;
pub use fingerprint::{Fingerprint, Hash};
pub use ice::{CREDENTIALS_BYTES, Credentials};
pub use identity::{Identity, IdentityError};

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::media::srtp::SrtpKeys;
use dtls::{Association, State};
use ice::IceLite;

/// One call's.
pub struct Handshake {
    identity: Identity,
    peer: Peer,
    whereabouts: Whereabouts,
    ice: Option<IceLite>,
    /// By where they come from. With checks there is one, wherever it comes from.
    associations: Vec<(SocketAddr, Association)>,
    /// How many had us work with keys: from where the peer said that he is, and from elsewhere.
    paid_for: Paid,
    keys: Option<SrtpKeys>,
    /// Where media goes.
    remote: Option<SocketAddr>,
    /// Without keys by then, it has failed.
    give_up_at: Option<Instant>,
    is_over: bool,
    /// Media of the peer was heard.
    heard_at: Option<Instant>,
    dropped: Dropped,
    outputs: VecDeque<Output>,
}

/// What signalling says of the peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Of his certificates.
    pub fingerprints: Vec<Fingerprint>,
    /// What we are to him.
    pub ours: Role,
    /// His name and password, where he checks.
    pub ice: Option<Credentials>,
}

/// Where the peer may be, where he doesn't check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whereabouts {
    /// As his description says.
    pub described: SocketAddr,
    /// Where his signalling comes from.
    pub signalling: Option<IpAddr>,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this through the audio's own socket.
    Send {
        /// Where to.
        to: SocketAddr,
        /// What.
        datagram: Vec<u8>,
    },
    /// Keys, or where media goes, are as they were not before: see [`Handshake::keys`], [`Handshake::remote`].
    Agreed,
    /// It came to nothing: the call can't go on. The last output but for answers to checks.
    Failed(Failure),
    /// The peer has fallen silent (RFC 7675). Once.
    Lost,
}

/// Why a handshake came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Failure {
    /// Nobody came to an end of it in time.
    #[error("no handshake in time")]
    TimedOut,
    /// The same, and an alert says that the peer doesn't want to; anybody may have said so.
    #[error("the peer broke the handshake off")]
    Refused,
    /// The peer has another certificate than his signalling says, or can't do our SRTP.
    #[error("not the certificate that was vouched for")]
    Unvouched,
}

/// Datagrams that came to nothing, by why, since they were last asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    /// From where the peer can't be, or hasn't been checked to be.
    pub foreign: u64,
    /// Checks without the call's name or password.
    pub unproven: u64,
    /// Not to be read, or after the end.
    pub useless: u64,
}

impl Handshake {
    /// Begins with what offer and answer agreed on; `own` answers the peer's checks.
    #[must_use]
    pub fn new(
        identity: &Identity,
        peer: Peer,
        own: &Credentials,
        whereabouts: Whereabouts,
    ) -> Self {
        let crypto = || identity.crypto.clone();
        let ice = peer.ice.as_ref();
        Self {
            ice: ice.map(|theirs| IceLite::new(own.clone(), theirs, crypto())),
            identity: identity.clone(),
            peer,
            whereabouts: whereabouts.canonical(),
            associations: Vec::new(),
            paid_for: Paid::default(),
            keys: None,
            remote: None,
            give_up_at: None,
            is_over: false,
            heard_at: None,
            dropped: Dropped::default(),
            outputs: VecDeque::new(),
        }
    }

    /// The peer has our answer: from now on he has [`PATIENCE`], and where it is our part we begin. Not before: anybody
    /// may have written an offer, with anybody's address.
    pub fn answered(&mut self, now: Instant) {
        if self.keys.is_none() && self.give_up_at.is_none() {
            self.give_up_at = Some(now + PATIENCE);
        }
        if self.ice.is_none() {
            self.call_on(now, self.whereabouts.described);
        }
    }

    /// Another offer and answer. `false`: they need another handshake than this one (RFC 8842 section 4).
    pub fn goes_on(&mut self, peer: &Peer, own: &Credentials, whereabouts: Whereabouts) -> bool {
        let is_same = self.peer.fingerprints == peer.fingerprints && self.peer.ours == peer.ours;
        if !is_same {
            return false;
        }
        match (&mut self.ice, &peer.ice) {
            (Some(ice), Some(theirs)) if self.peer.ice.as_ref() != Some(theirs) => {
                ice.restart(own.clone(), theirs);
            }
            (Some(_), Some(_)) | (None, None) => {}
            // Media stays where it is until he nominates something.
            (None, Some(theirs)) => {
                let crypto = self.identity.crypto.clone();
                self.ice = Some(IceLite::new(own.clone(), theirs, crypto));
            }
            // Somebody between us speaks for him now.
            (Some(_), None) => (self.ice, self.remote) = (None, None),
        }
        let whereabouts = whereabouts.canonical();
        let moved = whereabouts.described != self.whereabouts.described;
        if moved && self.ice.is_none() && !whereabouts.described.ip().is_unspecified() {
            self.remote = None;
        }
        self.whereabouts = whereabouts;
        self.peer = peer.clone();
        true
    }

    /// Does what is described need another name and password of ours (RFC 8839 section 4.4.1.1.1)?
    #[must_use]
    pub fn is_restarted_by(&self, peer: &Peer) -> bool {
        self.peer.ice.is_some() && peer.ice.is_some() && self.peer.ice != peer.ice
    }

    /// Takes a datagram that came to the audio's socket.
    pub fn handle_packet(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let from = canonical(from);
        match datagram.first() {
            Some(first) if STUN.contains(first) => self.take_check(now, from, datagram),
            Some(first) if DTLS.contains(first) => self.take_record(now, from, datagram),
            Some(_) | None => self.dropped.useless += 1,
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        for (to, association) in &mut self.associations {
            association.handle_timeout(now);
            send(&mut self.outputs, *to, association);
        }
        if self.give_up_at.is_some_and(|at| at <= now) {
            let refused = |(_, one): &(_, Association)| one.refused_with.is_some();
            self.fail(if self.associations.iter().any(refused) {
                Failure::Refused
            } else {
                Failure::TimedOut
            });
        }
        if self.silent_at().is_some_and(|at| at <= now) && !self.is_over {
            self.is_over = true;
            self.outputs.push_back(Output::Lost);
        }
    }

    /// When [`Self::handle_timeout`] is to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let all = self.associations.iter();
        let again = all.filter_map(|(_, association)| association.poll_timeout());
        let silent = self.silent_at().filter(|_| !self.is_over);
        again.chain(self.give_up_at).chain(silent).min()
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Media of the peer came that proved to be his.
    pub const fn note_media(&mut self, now: Instant) {
        self.heard_at = Some(now);
    }

    /// Is the peer known to be there, whatever media says?
    #[must_use]
    pub fn has_consent(&self, now: Instant) -> bool {
        let silent = self.ice.as_ref().and_then(IceLite::silent_since);
        silent.is_some_and(|since| now.saturating_duration_since(since) < CONSENT)
    }

    /// What media is protected by; `None`: not yet agreed on.
    #[must_use]
    pub const fn keys(&self) -> Option<SrtpKeys> {
        self.keys
    }

    /// Where media goes; `None`: not yet known.
    #[must_use]
    pub const fn remote(&self) -> Option<SocketAddr> {
        self.remote
    }

    /// Does it still go on?
    #[must_use]
    pub const fn is_under_way(&self) -> bool {
        self.keys.is_none() && !self.is_over
    }

    /// What signalling says of the peer.
    #[must_use]
    pub const fn peer(&self) -> &Peer {
        &self.peer
    }

    /// What came to nothing since this was last asked.
    pub const fn take_dropped(&mut self) -> Dropped {
        std::mem::replace(
            &mut self.dropped,
            Dropped {
                foreign: 0,
                unproven: 0,
                useless: 0,
            },
        )
    }

    fn take_check(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let Some(ice) = &mut self.ice else {
            self.dropped.useless += 1;
            return;
        };
        let checked = ice.handle(now, from, datagram);
        self.dropped.unproven += u64::from(!checked.is_genuine);
        if let Some(datagram) = checked.answer {
            let to = from;
            self.outputs.push_back(Output::Send { to, datagram });
        }
        if checked.nominates {
            self.remote = Some(from);
            for (to, _) in &mut self.associations {
                *to = from;
            }
            self.outputs.push_back(Output::Agreed);
            self.call_on(now, from);
        }
    }

    fn take_record(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        if !self.may_shake_hands(from) {
            self.dropped.foreign += 1;
            return;
        }
        let by_ice = self.ice.is_some();
        let is_from = |(there, one): &(SocketAddr, Association)| {
            (by_ice || *there == from) && one.state() != State::Broken
        };
        let place = self.associations.iter().position(is_from);
        let Some(place) = place.or_else(|| self.begin(now, from, Role::Passive)) else {
            self.dropped.useless += 1;
            return;
        };
        let is_his = self.is_his(from);
        let Some((there, association)) = self.associations.get_mut(place) else {
            return;
        };
        let paid_for = self.paid_for.by(is_his);
        if !association.is_there() && *paid_for >= PAID_FOR_MAX {
            self.dropped.useless += 1;
            return;
        }
        if by_ice && self.remote.is_none() {
            *there = from;
        }
        let before = association.state();
        let was_there = association.is_there();
        let used = association.handle(now, datagram, &self.peer.fingerprints);
        self.dropped.useless += u64::from(!used);
        if !was_there && association.is_there() {
            *paid_for += 1;
        }
        let (to, after) = (*there, association.state());
        send(&mut self.outputs, to, association);
        if before == State::Shaking {
            self.judge(to, after);
        }
    }

    /// What became of an association that was under way.
    fn judge(&mut self, from: SocketAddr, state: State) {
        match state {
            State::Shaking | State::Broken => {}
            State::Done(keys) if self.keys.is_none() => {
                self.keys = Some(keys);
                self.give_up_at = None;
                self.remote.get_or_insert(from);
                self.associations
                    .retain(|(_, one)| matches!(one.state(), State::Done(_)));
                self.outputs.push_back(Output::Agreed);
            }
            State::Done(_) => {}
            // A neighbour of the peer's may try; the peer himself, as far as can be told, may not.
            State::Unvouched => {
                if self.ice.is_some() || from == self.whereabouts.described {
                    self.fail(Failure::Unvouched);
                }
            }
        }
    }

    /// We begin, where that is our part.
    fn call_on(&mut self, now: Instant, to: SocketAddr) {
        let is_ours = self.peer.ours == Role::Active && self.associations.is_empty();
        if is_ours
            && !to.ip().is_unspecified()
            && let Some(place) = self.begin(now, to, Role::Active)
            && let Some((to, association)) = self.associations.get_mut(place)
        {
            send(&mut self.outputs, *to, association);
        }
    }

    /// A new association; `None`: there have been enough, or it isn't the peer's to begin one.
    fn begin(&mut self, now: Instant, from: SocketAddr, role: Role) -> Option<usize> {
        self.associations
            .retain(|(_, one)| one.state() != State::Broken);
        if self.peer.ours != role || !self.is_under_way() {
            return None;
        }
        // Who shares the peer's address can't take his place, nor can who hasn't shown that he is where he says.
        if self.associations.len() >= AT_ONCE_MAX {
            let others =
                |(at, one): &(SocketAddr, Association)| !self.is_his(*at) && !one.is_there();
            match self.associations.iter().position(others) {
                Some(oldest) => drop(self.associations.remove(oldest)),
                None if self.is_his(from) => {}
                None => return None,
            }
        }
        let association = Association::new(&self.identity, role, now);
        self.associations.push((from, association));
        Some(self.associations.len() - 1)
    }

    /// Is it the peer, as far as can be told before a handshake?
    fn is_his(&self, at: SocketAddr) -> bool {
        self.ice.is_some() || at == self.whereabouts.described
    }

    fn may_shake_hands(&self, from: SocketAddr) -> bool {
        match &self.ice {
            Some(ice) => ice.has_checked(from),
            None => self.whereabouts.may_be(from.ip()),
        }
    }

    fn fail(&mut self, failure: Failure) {
        self.give_up_at = None;
        if !std::mem::replace(&mut self.is_over, true) {
            self.outputs.push_back(Output::Failed(failure));
        }
    }

    /// When a peer who checks will have been silent for too long.
    fn silent_at(&self) -> Option<Instant> {
        let since = self.ice.as_ref()?.silent_since()?;
        Some(since.max(self.heard_at.unwrap_or(since)) + CONSENT)
    }
}

/// See [`PAID_FOR_MAX`].
#[derive(Debug, Default)]
struct Paid {
    his: usize,
    others: usize,
}

impl Paid {
    const fn by(&mut self, is_his: bool) -> &mut usize {
        if is_his {
            &mut self.his
        } else {
            &mut self.others
        }
    }
}

impl std::fmt::Debug for Handshake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handshake")
            .field("under_way", &self.is_under_way())
            .field("remote", &self.remote)
            .finish_non_exhaustive()
    }
}

impl Whereabouts {
    fn canonical(self) -> Self {
        Self {
            described: canonical(self.described),
            signalling: self.signalling.map(|ip| ip.to_canonical()),
        }
    }

    fn may_be(&self, from: IpAddr) -> bool {
        from == self.described.ip() || Some(from) == self.signalling
    }
}

fn send(outputs: &mut VecDeque<Output>, to: SocketAddr, association: &mut Association) {
    let all = association.take_outgoing().into_iter();
    outputs.extend(all.map(|datagram| Output::Send {
        to,
        datagram: datagram.to_vec(),
    }));
}

/// IPv4 on an IPv6 socket is IPv4.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// How long a peer who has our answer may take for his handshake.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Without a check for so long, a peer who makes such is gone (RFC 7675 section 5.1).
pub const CONSENT: Duration = Duration::from_secs(30);
const STUN: std::ops::RangeInclusive<u8> = 0..=3;
const DTLS: std::ops::RangeInclusive<u8> = 20..=63;
/// Associations at once; that of the peer himself always has room.
const AT_ONCE_MAX: usize = 4;
/// Associations that may have us work with keys, some 2 ms each: of the peer, and as many of his neighbours.
const PAID_FOR_MAX: usize = 8;
