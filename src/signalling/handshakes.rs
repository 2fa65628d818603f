//! Keys by a handshake with the caller himself (DTLS-SRTP), behind his checks by ICE: what `handshake` decides,
//! carried out. A caller is greeted once he can hear it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use super::active_call::{ActiveCall, Line, Secured};
use super::counters::HandshakeEnd;
use super::gateway::Gateway;
use super::occupancy;
use crate::booking::admission::CallId;
use crate::call::CallInput;
use crate::config::SrtpPolicy;
use crate::handshake::{
    CREDENTIALS_BYTES, Credentials, Failure, Handshake, Output, Peer, Whereabouts,
};
use crate::media::parameters::{Keying, MediaParameters};
use crate::sip::dtls::{InUse, LocalHandshake};
use crate::sip::sdp::LocalMedia;
use crate::units::LegId;

impl Gateway {
    /// Who we are in the handshakes of a call; `None`: there are to be none.
    pub(super) fn local_handshake(&self, srtp: SrtpPolicy) -> Option<LocalHandshake> {
        let identity = self.identity.as_ref();
        let identity = identity.filter(|_| srtp != SrtpPolicy::Off)?;
        Some(LocalHandshake {
            fingerprint: identity.fingerprint().clone(),
            credentials: credentials()?,
            in_use: None,
        })
    }

    /// Are as many handshakes under way as may be, in all or with that caller's host?
    pub(super) fn shakes_too_many_hands(&mut self, id: CallId, source: IpAddr) -> bool {
        let under_way = |active: &&ActiveCall| {
            let secured = active.secured.as_ref();
            secured.is_some_and(|secured| secured.handshake.is_under_way())
        };
        let peer = self.calls.get(&id).and_then(|active| active.peer);
        let (mut all, mut with_peer) = (0, 0);
        for active in self.calls.values().filter(under_way) {
            all += 1;
            with_peer += usize::from(active.peer == peer);
        }
        let is_host = matches!(peer, Some(occupancy::Peer::Host(_)));
        let is_stranger = is_host && !self.settings.is_trusted(source);
        let too_many = if is_stranger {
            all >= UNDER_WAY_OF_STRANGERS_MAX || with_peer >= UNDER_WAY_PER_HOST_MAX
        } else {
            all >= UNDER_WAY_MAX
        };
        if too_many {
            self.counters.handshake_ended(HandshakeEnd::TooMany);
        }
        too_many
    }

    /// What was agreed on goes to the leg, with keys and address from the handshake where it has one. `false`: it
    /// can't.
    pub(super) fn connect(
        &mut self,
        now: Instant,
        id: CallId,
        agreed: MediaParameters,
        peer: Option<(Peer, InUse)>,
    ) -> bool {
        self.agree_on_handshake(id, &agreed, peer);
        let Some(active) = self.calls.get_mut(&id) else {
            return false;
        };
        let secured = active.secured.as_ref();
        let agreed = secured.map_or(agreed, |secured| by(&secured.handshake, agreed));
        let agreed = MediaParameters {
            proven: active.proven(),
            ..agreed
        };
        let Some(media) = active.media.as_mut() else {
            return false;
        };
        media.agreed = Some(agreed);
        let connected = self.engine.connect_leg(media.leg, &agreed).is_ok();
        self.carry_out_handshake(now, id);
        connected
    }

    /// The caller has our answer. `true`: and hears us; else he is greeted when he does.
    pub(super) fn is_heard(&mut self, now: Instant, id: CallId) -> bool {
        let active = self.calls.get_mut(&id);
        let Some(secured) = active.and_then(|active| active.secured.as_mut()) else {
            return true;
        };
        secured.handshake.answered(now);
        let waits = secured.handshake.is_under_way();
        secured.acknowledged |= waits;
        self.carry_out_handshake(now, id);
        !waits
    }

    /// A datagram of a handshake, or of the checks before it.
    pub(super) fn shake_hands(
        &mut self,
        now: Instant,
        leg: LegId,
        from: SocketAddr,
        datagram: &[u8],
    ) {
        let Some(&id) = self.by_leg.get(&leg) else {
            return;
        };
        let active = self.calls.get_mut(&id);
        if let Some(secured) = active.and_then(|active| active.secured.as_mut()) {
            secured.handshake.handle_packet(now, from, datagram);
            self.carry_out_handshake(now, id);
        }
    }

    /// Does what is due.
    pub(super) fn look_after_handshakes(&mut self, now: Instant) {
        while let Some(&(at, id)) = self.handshakes_due.first().filter(|(at, _)| *at <= now) {
            self.handshakes_due.remove(&(at, id));
            let active = self.calls.get_mut(&id);
            if let Some(secured) = active.and_then(|active| active.secured.as_mut()) {
                secured.due = None;
                secured.handshake.handle_timeout(now);
                self.carry_out_handshake(now, id);
            }
        }
    }

    /// Is the peer of that leg known to be there, though no audio comes?
    pub(super) fn has_consent(&self, now: Instant, leg: LegId) -> bool {
        let active = self.by_leg.get(&leg).and_then(|id| self.calls.get(id));
        let secured = active.and_then(|active| active.secured.as_ref());
        secured.is_some_and(|secured| secured.handshake.has_consent(now))
    }

    /// The handshake that there is goes on, or there is another one, or none any more.
    fn agree_on_handshake(
        &mut self,
        id: CallId,
        agreed: &MediaParameters,
        peer: Option<(Peer, InUse)>,
    ) {
        let Some(active) = self.calls.get_mut(&id) else {
            return;
        };
        let negotiation = active.media.as_mut().and_then(|m| m.negotiation.as_mut());
        let own = negotiation.and_then(|negotiation| negotiation.local.handshake.as_mut());
        let (Some((peer, in_use)), Some(own), Some(identity)) = (peer, own, &self.identity) else {
            let Some(secured) = active.secured.take() else {
                return;
            };
            if let Some(at) = secured.due {
                self.handshakes_due.remove(&(at, id));
            }
            // He waits for keys no more.
            if secured.acknowledged {
                self.input(id, CallInput::Answered);
            }
            return;
        };
        own.in_use = Some(in_use);
        let whereabouts = Whereabouts {
            described: agreed.remote_rtp,
            signalling: agreed.signalling_source,
        };
        if let Some(secured) = &mut active.secured
            && secured
                .handshake
                .goes_on(&peer, &own.credentials, whereabouts)
        {
            return;
        }
        let handshake = Handshake::new(identity, peer, &own.credentials, whereabouts);
        match &mut active.secured {
            Some(secured) => secured.handshake = handshake,
            None => {
                active.secured = Some(Box::new(Secured {
                    handshake,
                    due: None,
                    acknowledged: false,
                    shaken_at: None,
                }));
            }
        }
    }

    fn carry_out_handshake(&mut self, now: Instant, id: CallId) {
        while let Some(output) = self.next_of_handshake(id) {
            match output {
                Output::Send { to, datagram } => {
                    let leg = self.calls.get(&id).and_then(ActiveCall::leg);
                    // One that isn't taken is lost like one on the way.
                    let _sent =
                        leg.is_some_and(|leg| self.engine.send_handshake(leg, to, &datagram));
                }
                Output::Agreed => self.agreed_by_handshake(id),
                Output::Failed(failure) => self.handshake_failed(id, failure),
                Output::Lost => {
                    tracing::info!(call = %id, "the caller checks no more that he hears us, ending the call");
                    self.input(id, CallInput::Lost);
                }
            }
        }
        self.note_handshake(now, id);
    }

    fn next_of_handshake(&mut self, id: CallId) -> Option<Output> {
        let secured = self.calls.get_mut(&id)?.secured.as_mut()?;
        secured.handshake.poll_output()
    }

    /// There are keys, or media goes elsewhere.
    fn agreed_by_handshake(&mut self, id: CallId) {
        let Some(active) = self.calls.get_mut(&id) else {
            return;
        };
        let Some(secured) = &mut active.secured else {
            return;
        };
        let has_keys = secured.handshake.keys().is_some();
        let remote = secured.handshake.remote().map(|remote| remote.ip());
        if has_keys {
            secured.shaken_at = secured.shaken_at.or(remote);
        }
        let proven = active.proven();
        let is_his = remote.is_some_and(|remote| active.calls_from(remote));
        let (Some(secured), Some(media)) = (&mut active.secured, &mut active.media) else {
            return;
        };
        if let Some(agreed) = &mut media.agreed {
            let are_new = has_keys && agreed.srtp.is_none();
            *agreed = MediaParameters {
                proven,
                ..by(&secured.handshake, *agreed)
            };
            // Whatever it says of itself, it is there until the call is over.
            let _connected = self.engine.connect_leg(media.leg, agreed);
            if are_new {
                tracing::debug!(call = %id, "keys by a handshake");
                self.counters.handshake_ended(HandshakeEnd::Completed);
                if let (Line::Sip { dialog, .. }, true) = (&active.line, is_his) {
                    self.endpoint.heard(*dialog);
                }
            }
        }
        if !secured.handshake.is_under_way() && std::mem::take(&mut secured.acknowledged) {
            self.input(id, CallInput::Answered);
        }
    }

    fn handshake_failed(&mut self, id: CallId, failure: Failure) {
        tracing::warn!(call = %id, %failure, "no keys for a call's audio, ending it");
        self.counters.handshake_ended(match failure {
            Failure::TimedOut => HandshakeEnd::TimedOut,
            Failure::Refused => HandshakeEnd::Refused,
            Failure::Unvouched => HandshakeEnd::Unvouched,
        });
        self.input(id, CallInput::Unsecured);
    }

    /// When it is next looked after, and what of it came to nothing.
    fn note_handshake(&mut self, now: Instant, id: CallId) {
        let active = self.calls.get_mut(&id);
        let Some(secured) = active.and_then(|active| active.secured.as_mut()) else {
            return;
        };
        let dropped = secured.handshake.take_dropped();
        self.counters.handshake_packets_dropped(&dropped);
        let next = secured.handshake.poll_timeout().map(|at| at.max(now));
        if next != secured.due {
            if let Some(at) = secured.due {
                self.handshakes_due.remove(&(at, id));
            }
            self.handshakes_due.extend(next.map(|at| (at, id)));
            secured.due = next;
        }
    }
}

/// With what the handshake says of keys, and of where media goes. Who checks is sent nothing before he has
/// said where.
fn by(handshake: &Handshake, agreed: MediaParameters) -> MediaParameters {
    let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    let otherwise = match agreed.keying {
        Keying::CheckedHandshake => nowhere,
        Keying::Signalled | Keying::Handshake => agreed.remote_rtp,
    };
    let remote = handshake.remote().unwrap_or(otherwise);
    MediaParameters {
        srtp: handshake.keys(),
        remote_rtp: remote,
        remote_rtcp: remote,
        ..agreed
    }
}

/// Another name and password of ours, as the peer has others.
pub(super) fn renew_credentials(local: &mut LocalMedia) {
    if let (Some(own), Some(fresh)) = (&mut local.handshake, credentials()) {
        own.credentials = fresh;
    }
}

/// `None`: the system gives no random numbers.
fn credentials() -> Option<Credentials> {
    let mut random = [0; CREDENTIALS_BYTES];
    getrandom::fill(&mut random).ok()?;
    Some(Credentials::new(&random))
}

/// Each costs some 2 ms of the gateway's time, within ten seconds.
const UNDER_WAY_MAX: usize = 1_000;
/// A quarter is kept for who is trusted.
const UNDER_WAY_OF_STRANGERS_MAX: usize = UNDER_WAY_MAX / 4 * 3;
const UNDER_WAY_PER_HOST_MAX: usize = 50;
