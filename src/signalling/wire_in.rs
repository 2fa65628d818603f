//! What arrives, as inputs for the calls: SIP events, keys and the engine's news.

use std::net::IpAddr;
use std::time::Instant;

use bytes::Bytes;

use super::active_call::{ActiveCall, Line};
use super::counters::Refused;
use super::dialling::Failure;
use super::gateway::Gateway;
use super::handshakes;
use super::occupancy::Peer;
use super::settings::Dialled;
use crate::booking::admission::CallId;
use crate::call::{Arrival, Call, CallInput, CallLimits, Rejection, is_emergency};
use crate::engine::{EngineEvent, KnownPeer, LegReport};
use crate::media::parameters::MediaParameters;
use crate::sip::dtmf_info;
use crate::sip::event::{DialogId, IncomingInvite, SipEvent, TrunkId};
use crate::sip::sdp::{self, LocalMedia};
use crate::units::{Key, LegId};

impl Gateway {
    pub(super) fn handle_sip(&mut self, now: Instant, event: SipEvent) {
        match event {
            SipEvent::Invite { dialog, invite } => self.handle_invite(now, dialog, *invite),
            SipEvent::Acknowledged { dialog, sdp } => self.handle_acknowledged(now, dialog, sdp),
            SipEvent::Reinvite { dialog, sdp } => self.handle_reinvite(now, dialog, sdp),
            SipEvent::Info {
                dialog,
                content_type,
                body,
            } => {
                if let (Some(&call), Some(key)) = (
                    self.by_dialog.get(&dialog),
                    dtmf_info::parse(&content_type, &body),
                ) {
                    self.input(call, CallInput::Key(key));
                }
            }
            SipEvent::Cancelled { dialog } | SipEvent::Bye { dialog, .. } => {
                self.dialog_over(dialog, CallInput::HungUp);
            }
            SipEvent::Lost { dialog } => self.dialog_over(dialog, CallInput::Lost),
            SipEvent::Failed {
                dialog,
                status,
                q850,
                heard,
                pause,
            } => self.call_failed(
                now,
                dialog,
                Failure {
                    status,
                    q850,
                    heard,
                    pause,
                },
            ),
            SipEvent::Established { dialog, sdp } => self.call_established(now, dialog, &sdp),
            SipEvent::Refreshed { dialog } => {
                if let Some(id) = self.by_dialog.get(&dialog) {
                    tracing::debug!(call = %id, "a sign of life in its session");
                }
            }
            SipEvent::Trunk { trunk, state } => {
                self.handle_trunk(trunk, state);
                self.resume(now, trunk);
            }
            SipEvent::OtherRealm { trunk, asked, ours } => {
                let trunk = self.trunks.name(trunk);
                tracing::warn!(
                    trunk,
                    asked,
                    ours,
                    "it asks for credentials of another realm than ours are for; none are given"
                );
            }
            // It rings, which the caller hears of by nobody; and what we offer anew is what stands.
            SipEvent::Provisional { .. } | SipEvent::ReinviteFailed { .. } => {}
        }
    }

    fn handle_invite(&mut self, now: Instant, dialog: DialogId, invite: IncomingInvite) {
        let id = CallId(uuid::Uuid::now_v7());
        let source = invite.source;
        let trunk = invite.trunk;
        let peer = Peer::of(trunk, source);
        let refused = self
            .refusal()
            .or_else(|| self.refusal_to(peer, source, invite.may_be_made_up));
        let dialled = self.dialled(&invite);
        let number = Dialled::find(&self.bookings.numbers(), dialled);
        let served = number.served && self.trunks.brings(trunk, dialled);
        let by = trunk.and_then(|trunk| self.trunks.name(trunk));
        tracing::info!(call = %id, %source, trunk = by, "call arrived");
        let by = by.map(ToOwned::to_owned);
        let call = Call::new(id, self.call_limits());
        let line = Line::Sip {
            dialog,
            offer: invite.sdp,
        };
        let mut active = ActiveCall::new(call, line, Some(source));
        active.arrived_at = Some(now);
        active.srtp = self.trunks.srtp(trunk);
        active.is_stranger = invite.is_stranger;
        active.may_be_made_up = invite.may_be_made_up;
        self.calls.insert(id, active);
        self.count_for(id, Some(peer));
        self.by_dialog.insert(dialog, id);
        let arrival = Arrival {
            kind: KIND,
            caller: invite.caller,
            voice: number.voice(None, None),
            number: number.number,
            pin: invite.pin,
            trusted: trunk.is_some() || self.settings.is_trusted(source),
            past: None,
            outgoing: None,
            trunk: by,
            verstat: invite.verstat,
            sip_call_id: Some(invite.call_id),
            asterisk_channel: None,
        };
        // Emergency numbers are the call's to refuse, whether or not there is room for the call.
        let input = match refused {
            _ if is_emergency(&invite.number) || is_emergency(&arrival.number) => {
                CallInput::Arrived(arrival)
            }
            Some(refused) => {
                self.refuse(now, dialog, refused);
                CallInput::Unwanted(arrival, Rejection::Overload)
            }
            None if served => CallInput::Arrived(arrival),
            None => CallInput::Unwanted(arrival, Rejection::UnknownNumber),
        };
        self.input(id, input);
    }

    /// What was dialled: where the request line names no number of ours, the one that the call was sent on from,
    /// if that is.
    fn dialled<'a>(&self, invite: &'a IncomingInvite) -> &'a str {
        let numbers = self.bookings.numbers();
        let is_ours = |number: &str| Dialled::find(&numbers, number).served;
        let first = invite
            .diverted_from
            .as_deref()
            .filter(|first| is_ours(first));
        first
            .filter(|_| !is_ours(&invite.number))
            .unwrap_or(&invite.number)
    }

    /// What bounds a call that begins now.
    pub(super) fn call_limits(&self) -> CallLimits {
        CallLimits {
            pin_length_auto: self.bookings.pin_lengths().last().copied(),
            ..self.settings.call_limits.clone()
        }
    }

    fn refuse(&mut self, now: Instant, dialog: DialogId, refused: Refused) {
        self.counters.admission_refused(refused);
        self.endpoint.reject(
            now,
            dialog,
            refused.status(),
            Some(RETRY_AFTER_SECONDS),
            None,
        );
        self.part_from_dialog(dialog);
    }

    /// The stack is done with this dialog; its call is not.
    pub(super) fn part_from_dialog(&mut self, dialog: DialogId) {
        let id = self.by_dialog.remove(&dialog);
        if let Some(active) = id.and_then(|id| self.calls.get_mut(&id)) {
            active.line = Line::Gone;
        }
    }

    /// Why no further call can be taken.
    pub(super) fn refusal(&mut self) -> Option<Refused> {
        if self.draining {
            return Some(Refused::Draining);
        }
        if self.calls.len() >= self.settings.calls_max {
            return Some(Refused::Calls);
        }
        if self.engine.overload().is_some() {
            return Some(Refused::Overload);
        }
        None
    }

    /// Why this peer, who calls from `source`, can have no further call.
    fn refusal_to(&self, peer: Peer, source: IpAddr, may_be_made_up: bool) -> Option<Refused> {
        match peer {
            Peer::Trunk(trunk) => self.is_full(trunk).then_some(Refused::CallsPerTrunk),
            Peer::Host(_) => {
                let most = self.settings.calls_per_source_max;
                if self.settings.is_trusted(source) {
                    return None;
                }
                let quarter = self.settings.calls_max / 4;
                let is_full = self.calls.len() >= self.settings.calls_max - quarter;
                if is_full || may_be_made_up && self.unshown() > quarter {
                    return Some(Refused::Calls);
                }
                (self.occupancy.of(peer) >= most).then_some(Refused::CallsPerSource)
            }
        }
    }

    /// Calls whose callers may be made up, and haven't shown yet that they aren't.
    fn unshown(&self) -> usize {
        let unshown = |active: &&ActiveCall| active.may_be_made_up && !active.is_reached;
        self.calls.values().filter(unshown).count()
    }

    /// Has this trunk as many calls as it may have, both ways together?
    pub(super) fn is_full(&self, trunk: TrunkId) -> bool {
        let most = self.trunks.calls_max(trunk);
        most.is_some_and(|most| self.occupancy.of(Peer::Trunk(trunk)) >= most)
    }

    fn handle_acknowledged(&mut self, now: Instant, dialog: DialogId, sdp: Option<Bytes>) {
        let Some(&id) = self.by_dialog.get(&dialog) else {
            return;
        };
        self.note_reached(now, id);
        if !self.take_answer(now, id, sdp.as_deref()) {
            self.endpoint.hang_up(now, dialog, Q850_INCOMPATIBLE);
            self.dialog_over(dialog, CallInput::Lost);
            return;
        }
        if self.is_heard(now, id) {
            self.input(id, CallInput::Answered);
        }
    }

    /// What we send to where he calls from arrives: audio too, if that is where he is.
    fn note_reached(&mut self, now: Instant, id: CallId) {
        let Some(active) = self.calls.get_mut(&id) else {
            return;
        };
        active.is_reached = true;
        let agreed = active.media.as_ref().and_then(|media| media.agreed);
        if let Some(agreed) = agreed.filter(|agreed| agreed.proven != active.proven()) {
            // The leg that this agreement was made for is there.
            let _connected = self.connect(now, id, agreed, None);
        }
    }

    /// The answer to our own offer, from an ACK; `false`: the call has no audio and can't go on. Where an
    /// earlier agreement stands, a bad answer changes nothing.
    pub(super) fn take_answer(&mut self, now: Instant, id: CallId, sdp: Option<&[u8]>) -> bool {
        let Some(active) = self.calls.get_mut(&id) else {
            return false;
        };
        let source = active.source;
        let codec_before = active.codec();
        let Some(media) = active.media.as_mut() else {
            return false;
        };
        let Some(negotiation) = media.negotiation.as_mut() else {
            return false;
        };
        if !std::mem::take(&mut negotiation.offered) {
            return true;
        }
        let Some(Ok(agreed)) = sdp.map(|answer| sdp::accept(answer, &negotiation.local)) else {
            return media.agreed.is_some();
        };
        let agreed = MediaParameters {
            signalling_source: source,
            ..agreed
        };
        negotiation.local.agreed(&agreed);
        let peer = sdp.and_then(|answer| sdp::handshake(answer, &negotiation.local));
        let connected = self.connect(now, id, agreed, peer);
        if codec_before.is_some_and(|before| before != agreed.codec) {
            self.say_again(id);
        }
        connected
    }

    fn handle_reinvite(&mut self, now: Instant, dialog: DialogId, offer: Option<Bytes>) {
        let Some(&id) = self.by_dialog.get(&dialog) else {
            return;
        };
        let Some(active) = self.calls.get_mut(&id) else {
            return;
        };
        let codec_before = active.codec();
        let leg = active.leg();
        let negotiation = active.media.as_mut().and_then(|m| m.negotiation.as_mut());
        let (Some(leg), Some(negotiation)) = (leg, negotiation) else {
            self.endpoint.reject_reinvite(now, dialog, 500);
            return;
        };
        negotiation.local.session_version += 1;
        let Some(offer) = offer else {
            // Where the peer will send from is not known before its answer.
            if let Ok(port) = self.engine.readdress(leg, None) {
                negotiation.local.rtp_port = port;
            }
            negotiation.offered = true;
            let offered = sdp::offer(&negotiation.local);
            self.endpoint.answer_reinvite(now, dialog, offered);
            return;
        };
        match self.renegotiate(now, id, Description::Offer(&offer)) {
            Ok((agreed, answer)) => {
                self.endpoint.answer_reinvite(now, dialog, answer);
                if codec_before != Some(agreed.codec) {
                    self.say_again(id);
                }
            }
            Err(status) => self.endpoint.reject_reinvite(now, dialog, status),
        }
    }

    /// The answer to a re-INVITE of ours, which says nothing new: it may.
    pub(super) fn answered_again(&mut self, now: Instant, id: CallId, answer: &[u8]) {
        let before = self.calls.get(&id).and_then(ActiveCall::codec);
        match self.renegotiate(now, id, Description::Answer(answer)) {
            Ok((agreed, _)) if before == Some(agreed.codec) => {}
            Ok(_) => self.say_again(id),
            Err(status) => {
                tracing::info!(call = %id, status, "what a caller says to what stands is not to be understood; it goes on standing");
            }
        }
    }

    /// Another description by the peer: what is agreed now, and our answer, which may name another port of
    /// ours. Else the status that refuses it.
    fn renegotiate(
        &mut self,
        now: Instant,
        id: CallId,
        description: Description<'_>,
    ) -> Result<(MediaParameters, Bytes), u16> {
        let (Description::Offer(offer) | Description::Answer(offer)) = description;
        let active = self.calls.get_mut(&id).ok_or(500_u16)?;
        let source = active.source.ok_or(500_u16)?;
        let media = active.media.as_mut().ok_or(500_u16)?;
        let local = &mut media.negotiation.as_mut().ok_or(500_u16)?.local;
        if local.other.is_none() {
            local.other = self.settings.other_address(local.address, offer);
        }
        let peer = sdp::handshake(offer, local);
        if let Some((peer, _)) = &peer
            && active
                .secured
                .as_ref()
                .is_some_and(|secured| secured.handshake.is_restarted_by(peer))
        {
            handshakes::renew_credentials(local);
        }
        let answered =
            |local: &LocalMedia| sdp::answer(offer, local).map_err(|error| error.status());
        let (mut agreed, mut answer) = answered(local)?;
        // Hold in the style of RFC 2543 says nothing about where the peer is.
        if KnownPeer::of(&agreed).is_some() || peer.is_some() {
            let known = self.settings.known_peer(source, &agreed);
            let port = self.engine.readdress(media.leg, known);
            let port = port.map_err(|_| 500_u16)?;
            if port != local.rtp_port {
                local.rtp_port = port;
                (agreed, answer) = answered(local)?;
            }
        }
        agreed.signalling_source = Some(source);
        if let (Description::Answer(_), Some(before)) = (description, &media.agreed) {
            agreed = agreed.receiving_as(before);
        }
        local.agreed(&agreed);
        if !self.connect(now, id, agreed, peer) {
            return Err(500);
        }
        // Who had our first answer has this one too.
        self.is_heard(now, id);
        Ok((agreed, answer))
    }

    /// The peer, or the stack on his behalf, ended the dialog.
    pub(super) fn dialog_over(&mut self, dialog: DialogId, input: CallInput) {
        let Some(id) = self.by_dialog.remove(&dialog) else {
            return;
        };
        if let Some(active) = self.calls.get_mut(&id) {
            active.line = Line::Gone;
        }
        self.input(id, input);
    }

    pub(super) fn handle_engine(&mut self, now: Instant, event: EngineEvent) {
        match event {
            EngineEvent::Key { leg, key } => self.key_in_audio(leg, key),
            EngineEvent::PlayFinished { leg, token } => self.play_finished(leg, token),
            EngineEvent::Handshake {
                leg,
                from,
                datagram,
            } => self.shake_hands(now, leg, from, &datagram),
            // Who still checks is there, and silent.
            EngineEvent::MediaLost { leg } if self.has_consent(now, leg) => {}
            EngineEvent::MediaLost { leg } => {
                tracing::info!(leg = leg.0, "no media for too long, ending the call");
                self.leg_input(leg, CallInput::Lost);
            }
            EngineEvent::MediaStarted { leg, from } => self.audio_came(leg, from),
            EngineEvent::Talking { .. } => {}
            EngineEvent::Report { leg, report } => {
                let Some(&id) = self.by_leg.get(&leg) else {
                    return;
                };
                if self.counters.leg_told(leg, &report) {
                    tracing::warn!(call = %id, "packets from elsewhere, or by another key, come to the audio port of a call; they are dropped");
                }
                if let Some(active) = self.calls.get_mut(&id) {
                    active.window.note(&report);
                    let before = active.report.replace(report).unwrap_or_default();
                    if let Some(secured) = &mut active.secured
                        && report.received > before.received
                    {
                        secured.handshake.note_media(now);
                    }
                    self.look_for_life(id, before.received, report.received);
                    if before.one_way != report.one_way {
                        self.one_way_audio(id, &report);
                    }
                }
            }
            EngineEvent::LegClosed { leg, report } => {
                self.by_leg.remove(&leg);
                self.counters.leg_closed(leg, &report);
                if let Some(mut record) = self.parting.remove(&leg) {
                    record.quality = Some(super::quality::as_json(&report));
                    self.recorder.keep(*record);
                }
            }
        }
    }

    /// Audio comes to the port that only our answer named: from where he calls, then he has got that.
    fn audio_came(&mut self, leg: LegId, from: IpAddr) {
        let active = self.by_leg.get(&leg).and_then(|id| self.calls.get(id));
        let Some(active) = active else { return };
        if let (Line::Sip { dialog, .. }, true) = (&active.line, active.calls_from(from)) {
            self.endpoint.heard(*dialog);
        }
    }

    /// Audio has begun to flow to a caller only, or comes from him again.
    fn one_way_audio(&mut self, id: CallId, report: &LegReport) {
        let (received, one_way) = (report.received, report.one_way);
        if one_way {
            let refused = report.refused.total();
            let active = self.calls.get_mut(&id);
            // Who mutes himself by sending nothing comes and goes.
            if active.is_some_and(|active| !std::mem::replace(&mut active.was_one_way, true)) {
                tracing::warn!(call = %id, received, refused, "no audio comes from a caller who is sent some");
                self.counters.one_way_found();
            } else {
                tracing::info!(call = %id, received, refused, "no audio comes from the caller once more");
            }
        } else {
            tracing::info!(call = %id, received, "audio comes from the caller again, or needn't");
        }
        self.rooms.set_one_way(id, one_way);
        self.report();
    }

    fn play_finished(&mut self, leg: LegId, token: u32) {
        let Some(&id) = self.by_leg.get(&leg) else {
            return;
        };
        let Some(active) = self.calls.get_mut(&id) else {
            return;
        };
        if active
            .saying
            .as_ref()
            .is_some_and(|saying| saying.token == token)
        {
            active.saying = None;
            self.input(id, CallInput::SayFinished);
        }
    }

    /// An Asterisk tells keys itself; what it passes on in the audio is the same key again.
    fn key_in_audio(&mut self, leg: LegId, key: Key) {
        let active = self.by_leg.get(&leg).and_then(|id| self.calls.get(id));
        if !active.is_some_and(|active| matches!(active.line, Line::Asterisk(_))) {
            self.leg_input(leg, CallInput::Key(key));
        }
    }

    fn leg_input(&mut self, leg: LegId, input: CallInput) {
        if let Some(&id) = self.by_leg.get(&leg) {
            self.input(id, input);
        }
    }
}

pub(super) const KIND: &str = "sip";
/// A peer's description of what he sends and takes.
#[derive(Clone, Copy)]
enum Description<'a> {
    /// We answer it.
    Offer(&'a [u8]),
    /// He answers what we said again: we go on receiving by the payload types that stand there (RFC 3264
    /// section 6.1).
    Answer(&'a [u8]),
}

const RETRY_AFTER_SECONDS: u32 = 30;
/// Q.850 cause 88, incompatible destination.
pub(super) const Q850_INCOMPATIBLE: u8 = 88;
