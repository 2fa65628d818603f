//! What the calls and rooms decided, carried out: SIP, engine, bookings, records.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::active_call::{ActiveCall, Line, Media, Moving, Negotiation, Saying};
use super::clock;
use super::gateway::{Gateway, Wake};
use super::transport::any_address;
use super::wire_in::KIND as SIP;
use crate::booking::admission::{CallId, ParticipantId};
use crate::booking::{Admission, CallRecord, Pin, PinQuery, PinVerdict, Refusal, Standing};
use crate::call::{
    CallInput, CallOutput, Outgoing, Past, Phrase, Rejection, RoomNotice, RoomOutput, RoomVerdict,
};
use crate::config::SrtpPolicy;
use crate::engine::{EngineError, OpenedLeg};
use crate::media::codec::Codec;
use crate::media::parameters::{Direction, MediaParameters};
use crate::sip::event::DialogId;
use crate::sip::sdes::{LocalKeys, RANDOM_BYTES};
use crate::sip::sdp::{self, LocalMedia};
use crate::units::{LegId, Voice};

impl Gateway {
    pub(super) fn carry_out(&mut self, now: Instant, id: CallId, output: CallOutput) {
        match output {
            CallOutput::Dial => self.ring_out(now, id),
            CallOutput::Ring => self.ring(now, id),
            CallOutput::Answer => self.answer(now, id),
            CallOutput::Reject(rejection) => self.reject(now, id, rejection),
            CallOutput::Say { voice, phrases } => self.say(id, voice, phrases),
            CallOutput::StopSaying => self.stop_saying(id),
            CallOutput::Music(on) => self.music(id, on),
            CallOutput::LookUpPin { pin, standing } => self.look_up_pin(id, pin, standing),
            CallOutput::Challenged(passed) => self.bookings.count_challenge(passed),
            CallOutput::LookUpPast(past) => self.look_up_past(id, *past),
            CallOutput::LookUpInvited(outgoing) => self.look_up_invited(id, *outgoing),
            CallOutput::Enter(admission) => self.enter(now, id, &admission),
            CallOutput::Return { admission, past } => self.restore(now, id, &admission, &past),
            CallOutput::Mute(muted) => self.mute(id, muted),
            CallOutput::AskHeadCount => {
                let count = self.rooms.head_count(id).unwrap_or(1);
                self.input(id, CallInput::Room(RoomNotice::HeadCount(count)));
            }
            CallOutput::Leave => self.leave(now, id),
            CallOutput::HangUp { q850 } => self.hang_up(now, id, q850),
            CallOutput::Record(record) => self.finish(now, id, record),
        }
    }

    /// What that changes is told while the call can still tell how it was.
    fn leave(&mut self, now: Instant, id: CallId) {
        let active = self.calls.get(&id);
        let handed_over = active.is_some_and(|active| active.handed_over);
        if handed_over {
            // What happened before is news all the same.
            self.report();
        }
        self.rooms.leave(now, clock::wall(), id);
        if handed_over {
            self.report_handed_over();
        } else {
            self.report();
        }
    }

    fn mute(&mut self, id: CallId, muted: bool) {
        let Some(active) = self.calls.get(&id) else {
            return;
        };
        self.rooms.set_muted(id, active.call.muted_by());
        if let Some(leg) = active.leg() {
            self.engine.mute(leg, muted);
        }
    }

    fn ring(&mut self, now: Instant, id: CallId) {
        match self.calls.get(&id).map(|active| &active.line) {
            Some(Line::Sip { dialog, .. }) => self.endpoint.ring(now, *dialog),
            Some(Line::Asterisk(line)) => self.asterisks.ring(now, *line),
            Some(Line::Ahead | Line::Gone) | None => {}
        }
    }

    fn answer(&mut self, now: Instant, id: CallId) {
        match self.calls.get_mut(&id).map(|active| &mut active.line) {
            // Called by us, he is connected already.
            Some(Line::Sip { dialog, .. }) if self.endpoint.is_ours(*dialog) => {
                self.input(id, CallInput::Answered);
            }
            Some(Line::Sip { dialog, offer }) => {
                let (dialog, offer) = (*dialog, offer.take());
                self.answer_sip(now, id, dialog, offer.as_deref());
            }
            Some(Line::Asterisk(line)) => {
                let line = *line;
                self.answer_asterisk(now, id, line);
            }
            Some(Line::Ahead | Line::Gone) | None => {}
        }
    }

    /// Opens the leg and answers; a call that can't have media is refused instead.
    fn answer_sip(&mut self, now: Instant, id: CallId, dialog: DialogId, offer: Option<&[u8]>) {
        let Some((source, srtp)) = self
            .calls
            .get(&id)
            .and_then(|active| Some((active.source?, active.srtp)))
        else {
            return;
        };
        let keys = keys(srtp);
        if keys.is_none() && srtp == SrtpPolicy::Require {
            tracing::error!(
                "the system gives no random numbers: a call that must be encrypted is refused"
            );
            self.endpoint.reject(now, dialog, 503, Some(10), None);
            return self.refuse_unanswered(id);
        }
        let mut local = self.local_media(source, offer, keys);
        local.handshake = self.local_handshake(srtp);
        let opened = match self.open_leg(source, offer, &local) {
            Ok(opened) => opened,
            Err(error) => {
                tracing::warn!(%error, "no media for a new call; see media.ports and limits.calls");
                self.endpoint.reject(now, dialog, 503, Some(10), None);
                self.refuse_unanswered(id);
                return;
            }
        };
        local.rtp_port = opened.rtp.port();
        local.session_id = opened.leg.0;
        self.by_leg.insert(opened.leg, id);
        if let Some(at) = self.calls.get(&id).and_then(|active| active.arrived_at) {
            self.counters.set_up.begin(opened.leg, SIP, at);
        }
        let negotiated = match offer {
            Some(offer) => {
                sdp::answer(offer, &local).map(|(agreed, answer)| (Some(agreed), answer))
            }
            None => Ok((None, sdp::offer(&local))),
        };
        let peer = offer.and_then(|offer| sdp::handshake(offer, &local));
        match negotiated {
            Ok(_) if peer.is_some() && self.shakes_too_many_hands(id, source) => {
                self.engine.close_leg(opened.leg);
                self.endpoint.reject(now, dialog, 503, Some(10), None);
                self.refuse_unanswered(id);
            }
            Ok((agreed, body)) => {
                self.take_up(id, opened.leg, local, agreed.as_ref());
                self.endpoint.answer(now, dialog, body);
                if let Some(mut agreed) = agreed {
                    agreed.signalling_source = Some(source);
                    // The leg was opened a moment ago with this engine, so it is there.
                    let _connected = self.connect(now, id, agreed, peer);
                }
            }
            Err(error) => {
                tracing::info!(call = %id, %error, "offer refused");
                self.engine.close_leg(opened.leg);
                self.endpoint
                    .reject(now, dialog, error.status(), None, None);
                self.refuse_unanswered(id);
            }
        }
    }

    /// The call has a leg, and something is agreed on or offered.
    fn take_up(
        &mut self,
        id: CallId,
        leg: LegId,
        mut local: LocalMedia,
        agreed: Option<&MediaParameters>,
    ) {
        if let Some(agreed) = agreed {
            local.agreed(agreed);
        }
        if let Some(active) = self.calls.get_mut(&id) {
            active.media = Some(Media {
                leg,
                negotiation: Some(Negotiation {
                    local,
                    offered: agreed.is_none(),
                }),
                agreed: None,
            });
        }
    }

    /// What we offer and answer to calls from there; its port and name come with the leg.
    pub(super) fn local_media(
        &self,
        source: IpAddr,
        offer: Option<&[u8]>,
        keys: Option<LocalKeys>,
    ) -> LocalMedia {
        let address = self.settings.own_address(source);
        let address = address.unwrap_or(any_address(source));
        LocalMedia {
            address,
            other: offer.and_then(|offer| self.settings.other_address(address, offer)),
            by_other: false,
            rtp_port: 0,
            codecs: CODECS.to_vec(),
            session_id: 0,
            session_version: 1,
            direction: Direction::SendRecv,
            prefer_own_order: false,
            keys,
            handshake: None,
        }
    }

    /// A leg with sockets of its own, unless the offer comes from a peer that sends from what it
    /// announces.
    fn open_leg(
        &mut self,
        source: IpAddr,
        offer: Option<&[u8]>,
        local: &LocalMedia,
    ) -> Result<OpenedLeg, EngineError> {
        let known = offer
            .filter(|_| self.settings.may_share(source))
            .and_then(|offer| sdp::answer(offer, local).ok())
            .and_then(|(agreed, _)| self.settings.known_peer(source, &agreed));
        match known {
            Some(peer) => self.engine.open_leg_for(peer),
            None => self.engine.open_leg(),
        }
    }

    /// The stack has already refused: the call has no dialog any more.
    fn refuse_unanswered(&mut self, id: CallId) {
        if let Some(dialog) = self.calls.get(&id).and_then(ActiveCall::dialog) {
            self.part_from_dialog(dialog);
        }
        self.input(id, CallInput::Lost);
    }

    fn reject(&mut self, now: Instant, id: CallId, rejection: Rejection) {
        if rejection == Rejection::Emergency {
            tracing::warn!(call = %id, "an emergency number was dialled here and refused with 404; check the routing of the trunk or PBX that sent it");
        }
        // A SIP call that finds the node full has been refused already; one that came by Asterisk goes back to
        // the dialplan with its record.
        if let Some(dialog) = self.calls.get(&id).and_then(ActiveCall::dialog) {
            self.endpoint.reject(now, dialog, 404, None, None);
            self.part_from_dialog(dialog);
        }
    }

    fn say(&mut self, id: CallId, voice: Voice, phrases: Vec<Phrase>) {
        self.last_token = self.last_token.wrapping_add(1);
        let token = self.last_token;
        let Some(active) = self.calls.get_mut(&id) else {
            return;
        };
        let (Some(leg), Some(codec)) = (active.leg(), active.codec()) else {
            self.input(id, CallInput::SayFinished);
            return;
        };
        let renditions = self.speaker.say(&voice, &phrases, codec);
        if renditions.is_empty() {
            active.saying = None;
            self.input(id, CallInput::SayFinished);
            return;
        }
        active.saying = Some(Saying {
            token,
            voice,
            phrases,
        });
        self.engine.play(leg, renditions, token);
    }

    /// The codec changed while something was said: say it again in the new one.
    pub(super) fn say_again(&mut self, id: CallId) {
        let Some(active) = self.calls.get_mut(&id) else {
            return;
        };
        let music = active.music;
        if let Some(saying) = active.saying.take() {
            self.say(id, saying.voice, saying.phrases);
        }
        if music {
            self.music(id, true);
        }
    }

    fn stop_saying(&mut self, id: CallId) {
        if let Some(active) = self.calls.get_mut(&id)
            && active.saying.take().is_some()
            && let Some(leg) = active.leg()
        {
            self.engine.stop_playing(leg);
        }
    }

    fn music(&mut self, id: CallId, on: bool) {
        let Some(active) = self.calls.get_mut(&id) else {
            return;
        };
        active.music = on;
        if let (Some(leg), Some(codec)) = (active.leg(), active.codec()) {
            let music = on.then(|| self.speaker.music(active.call.voice(), codec));
            self.engine.music(leg, music);
        }
    }

    fn look_up_pin(&mut self, id: CallId, pin: Pin, standing: Standing) {
        let Some(active) = self.calls.get(&id) else {
            return;
        };
        let summary = active.call.summary();
        let query = PinQuery {
            call: id,
            pin,
            number: Some(summary.number),
            caller: summary.caller,
            standing,
        };
        let bookings = self.bookings.clone();
        self.await_verdict(id, async move {
            let verdict = bookings.resolve_pin(clock::wall(), query).await;
            bookings.seat(clock::wall(), id, verdict).await
        });
    }

    fn look_up_past(&self, id: CallId, past: Past) {
        let bookings = self.bookings.clone();
        self.await_verdict(id, async move {
            let (now, name) = (clock::wall(), past.name.as_deref());
            let verdict = bookings.readmit(now, past.meeting, past.role, name);
            bookings.seat_again(now, id, verdict.await).await
        });
    }

    fn look_up_invited(&self, id: CallId, outgoing: Outgoing) {
        let bookings = self.bookings.clone();
        self.await_verdict(id, async move {
            let verdict = bookings.admit_called(clock::wall(), &outgoing.admission);
            bookings.seat(clock::wall(), id, verdict.await).await
        });
    }

    /// The call goes on when the bookings have answered; where they don't in time, without them.
    fn await_verdict(&self, id: CallId, answer: impl Future<Output = PinVerdict> + Send + 'static) {
        let wakes = self.wakes.clone();
        tokio::spawn(async move {
            let answered = tokio::time::timeout(LOOK_UP, answer).await;
            let verdict = answered.unwrap_or(PinVerdict::Refused(Refusal::Unavailable));
            // The gateway is only gone when the process ends.
            let _sent = wakes.send(Wake::PinVerdict(id, verdict)).await;
        });
    }

    /// He has hung up meanwhile, and his record may have been kept before he was seated.
    pub(super) fn give_seat_back(&self, id: CallId, verdict: &PinVerdict) {
        if !matches!(verdict, PinVerdict::Admitted(_)) {
            return;
        }
        let bookings = self.bookings.clone();
        tokio::spawn(async move {
            if let Err(error) = bookings.leave_seat(id).await {
                tracing::debug!(call = %id, %error, "a caller's place is free in three minutes");
            }
        });
    }

    fn restore(&mut self, now: Instant, id: CallId, admission: &Admission, past: &Past) {
        self.report();
        let verdict = self.rooms.restore(now, clock::wall(), id, past, admission);
        let is_where_he_was = match &verdict {
            RoomVerdict::Joined { .. } => past.was_in(),
            RoomVerdict::Wait(_) => !past.was_in(),
            RoomVerdict::Refused(_) => false,
        };
        if is_where_he_was {
            self.report_nothing();
        }
        self.input(id, CallInput::RoomVerdict(verdict));
    }

    fn enter(&mut self, now: Instant, id: CallId, admission: &Admission) {
        let participant = ParticipantId(uuid::Uuid::now_v7());
        tracing::debug!(call = %id, %participant, "to the meeting");
        let verdict = self
            .rooms
            .enter(now, clock::wall(), id, participant, admission);
        // Keys may have brought him here without any audio.
        let report = self.calls.get(&id).and_then(|active| active.report);
        let one_way = report.is_some_and(|report| report.one_way);
        self.rooms.set_one_way(id, one_way);
        self.input(id, CallInput::RoomVerdict(verdict));
    }

    /// A call that came by Asterisk goes back to the dialplan, which wants to know the outcome: with its record.
    fn hang_up(&mut self, now: Instant, id: CallId, q850: u8) {
        if let Some(active) = self.calls.get_mut(&id)
            && let Some(dialog) = active.dialog()
        {
            active.line = Line::Gone;
            self.by_dialog.remove(&dialog);
            self.endpoint.hang_up(now, dialog, q850);
        }
    }

    /// The call is over: its leg is closed, its record waits for the leg's last figures.
    fn finish(&mut self, now: Instant, id: CallId, record: Box<CallRecord>) {
        tracing::info!(call = %id, outcome = record.outcome.word(), "call ended");
        let Some(active) = self.forget(id) else {
            return;
        };
        if let Line::Asterisk(line) = active.line {
            let place = match &active.moving {
                Some(Moving::Going(place)) => Some(place.clone()),
                Some(Moving::Asked { .. }) | None => None,
            };
            let outcome = record.outcome.word();
            self.asterisks.leave(now, line, outcome, place);
        }
        let leg = active.leg();
        if let Some(leg) = leg {
            self.engine.close_leg(leg);
        }
        match leg {
            _ if active.handed_over => {}
            Some(leg) => drop(self.parting.insert(leg, record)),
            None => self.recorder.keep(*record),
        }
    }

    pub(super) fn handle_room(&mut self, output: RoomOutput) {
        match output {
            RoomOutput::Notice { call, notice } => self.input(call, CallInput::Room(notice)),
            RoomOutput::JoinBridge {
                call,
                bridge,
                echo,
                sound,
            } => {
                if let Some(leg) = self.calls.get(&call).and_then(|active| active.leg()) {
                    self.engine.set_sound(leg, sound);
                    self.engine.join(leg, bridge, echo);
                }
            }
            RoomOutput::Sound { call, sound } => {
                if let Some(leg) = self.calls.get(&call).and_then(|active| active.leg()) {
                    self.engine.set_sound(leg, sound);
                }
            }
            RoomOutput::LeaveBridge { call } => {
                if let Some(leg) = self.calls.get(&call).and_then(|active| active.leg()) {
                    self.engine.leave(leg);
                }
            }
            RoomOutput::PlayToBridge {
                bridge,
                phrase,
                voice,
            } => {
                let renditions = BRIDGE_RATES
                    .into_iter()
                    .flat_map(|codec| {
                        self.speaker
                            .say(&voice, std::slice::from_ref(&phrase), codec)
                    })
                    .collect();
                self.engine.play_to_bridge(bridge, renditions);
            }
            RoomOutput::MeetingStarted { meeting } => tracing::info!(%meeting, "meeting started"),
            RoomOutput::MeetingEnded { meeting } => tracing::info!(%meeting, "meeting ended"),
        }
    }
}

/// What a leg encrypts with; where the system has no random numbers, it doesn't.
pub(super) fn keys(srtp: SrtpPolicy) -> Option<LocalKeys> {
    let mut random = [0; RANDOM_BYTES];
    getrandom::fill(&mut random).ok()?;
    let keys = LocalKeys::new(&random)?;
    match srtp {
        SrtpPolicy::Off => None,
        SrtpPolicy::Offer => Some(keys),
        SrtpPolicy::Require => Some(keys.required()),
    }
}

/// What we speak, best first.
const CODECS: [Codec; 4] = [Codec::Opus, Codec::G722, Codec::Pcma, Codec::Pcmu];
/// How long the bookings have to answer before the caller hears that he should try again: the store may be
/// away for all three things that they ask it.
const LOOK_UP: Duration = Duration::from_secs(9);
/// One codec per sample rate in use: what a bridge hears is mixed in as PCM.
const BRIDGE_RATES: [Codec; 3] = [Codec::Pcmu, Codec::G722, Codec::Opus];
