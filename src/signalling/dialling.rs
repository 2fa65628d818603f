//! Calls to people: a trunk or an Asterisk takes them out, and they count until they are over.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::active_call::{ActiveCall, Awaited, Exit, Line, Media, Negotiation};
use super::asterisk::KIND as ASTERISK;
use super::clock;
use super::gateway::{Gateway, Wake};
use super::occupancy::Peer;
use super::trunks::{Addresses, Gone};
use super::wire_in::{KIND as SIP, Q850_INCOMPATIBLE};
use super::wire_out::keys;
use crate::ari::Dial;
use crate::booking::MeetingId;
use crate::booking::admission::CallId;
use crate::call::roster::{DialOrder, LiveError};
use crate::call::{Arrival, Call, CallInput, Outgoing, RoomNotice, Route};
use crate::config::SrtpPolicy;
use crate::sip::event::{DialogId, TrunkId};
use crate::sip::locate::Fault;
use crate::sip::sdp;
use crate::units::{Language, Voice};

/// Why a call of ours by SIP was not taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Failure {
    /// The answer; 408 and 503 stand for none.
    pub(super) status: u16,
    /// What the network says beside it.
    pub(super) q850: Option<u8>,
    /// Something was heard of the call.
    pub(super) heard: bool,
    /// How long whoever answered wants to be left alone.
    pub(super) pause: Option<Duration>,
}

impl Failure {
    /// It is the trunk that can't, not whom we call: RFC 3263 section 4.3. A 500 may be what a proxy makes of one
    /// server's 503 (RFC 3261 section 16.7, step 6), and says nothing of other calls.
    const fn is_the_trunks(self) -> bool {
        self.status == 503 || !self.heard
    }

    /// How long to wait before the same is asked once more: after two requests that met (RFC 3261 section 14.1), and where
    /// a server says when it will be well again.
    fn worth_another_try(self, random: u64) -> Option<Duration> {
        match (self.status, self.pause) {
            (491, None) => Some(GLARE_MIN + Duration::from_millis(random % GLARE_SPREAD_MS)),
            (491 | 500, Some(pause)) => Some(pause).filter(|pause| *pause <= WORTH_WAITING),
            _ => None,
        }
    }

    /// What it says of the place that the call was sent to.
    const fn fault(self) -> Fault {
        match (self.heard, self.status) {
            (false, 503) => Fault::Closes,
            (false, _) => Fault::NoAnswer,
            (true, status) => Fault::Status(status),
        }
    }

    /// As ITU-T Q.850 has it, after RFC 3398 section 8.2.6.1. What a trunk forbids is not declined by whom we call.
    const fn cause(self) -> u8 {
        match (self.q850, self.status) {
            (Some(cause @ (1..=15 | 17..=127)), _) => cause,
            (_, 404 | 604) => 1,
            (_, 486 | 600) => 17,
            (_, 480) => 18,
            (_, 408 | 487) if self.heard => 19,
            (_, 603) => 21,
            (_, 410) => 22,
            (_, 484) => 28,
            (_, 401..=403 | 407) => 57,
            (_, 415 | 488 | 606) => Q850_INCOMPATIBLE,
            (_, 408 | 504) => 102,
            _ => NO_WAY,
        }
    }
}

impl Gateway {
    /// Begins a call to somebody. Where it is not begun, nobody was asked anything.
    pub(super) fn dial(&mut self, order: DialOrder) -> Result<(), LiveError> {
        if let Some(refused) = self.refusal() {
            self.counters.admission_refused(refused);
            return Err(LiveError::Unavailable);
        }
        if self.is_full_with_called(&order.outgoing) {
            return Err(LiveError::Full);
        }
        let exits = self.exits(clock::now(), order.to.expose())?;
        let id = order.call;
        tracing::info!(call = %id, meeting = %order.outgoing.admission.meeting, "somebody is called");
        let call = Call::new(id, self.call_limits());
        let mut active = ActiveCall::new(call, Line::Ahead, None);
        active.called_out = true;
        active.exits = exits;
        self.calls.insert(id, active);
        let Outgoing {
            admission,
            language,
        } = &order.outgoing;
        let arrival = Arrival {
            kind: SIP,
            caller: order.to,
            number: order.from.unwrap_or_default(),
            voice: Voice {
                language: language.or(admission.language).unwrap_or(Language::English),
                brand: Some(admission.brand.clone()),
            },
            pin: None,
            trusted: false,
            past: None,
            outgoing: Some(Box::new(order.outgoing)),
            trunk: None,
            verstat: None,
            sip_call_id: None,
            asterisk_channel: None,
        };
        self.input(id, CallInput::Arrived(arrival));
        Ok(())
    }

    /// The ways that a call to this number may take now: trunks in their order, Asterisks last.
    fn exits(&mut self, now: Instant, number: &str) -> Result<VecDeque<Exit>, LiveError> {
        let trunks: Vec<TrunkId> = self.trunks.that_take(number).collect();
        let asterisk = self.asterisks.can_dial();
        let some_way = !trunks.is_empty() || asterisk.is_some();
        let there = trunks
            .into_iter()
            .filter(|trunk| self.endpoint.takes_calls(now, *trunk) && !self.is_full(*trunk));
        let mut exits: VecDeque<Exit> = there
            .flat_map(|trunk| {
                let offers = self.trunks.offers(trunk).iter();
                offers.map(move |offer| Exit::Trunk(trunk, *offer))
            })
            .collect();
        exits.extend((asterisk == Some(true)).then_some(Exit::Asterisk));
        match (exits.is_empty(), some_way) {
            (false, _) => Ok(exits),
            (true, true) => Err(LiveError::NoLine),
            (true, false) => Err(LiveError::CannotDial),
        }
    }

    /// Has him rung by the next way that takes the call.
    pub(super) fn ring_out(&mut self, now: Instant, id: CallId) {
        while let Some(exit) = self.next_exit(id) {
            let route = match exit {
                Exit::Trunk(trunk, offer) => self.call_by_trunk(now, id, trunk, offer),
                Exit::Asterisk => self.call_by_asterisk(now, id),
            };
            if let Some(route) = route {
                return self.input(id, CallInput::GoesBy(route));
            }
        }
        let q850 = NO_WAY;
        self.input(id, CallInput::NotReached { q850 });
    }

    fn next_exit(&mut self, id: CallId) -> Option<Exit> {
        let active = self.calls.get_mut(&id)?;
        active.exit = active.exits.pop_front();
        active.exit
    }

    /// Has Asterisk ring him.
    fn call_by_asterisk(&mut self, now: Instant, id: CallId) -> Option<Route> {
        self.count_for(id, None);
        let (line, channel) = self.asterisks.prepare_dial()?;
        let active = self.calls.get_mut(&id)?;
        active.line = Line::Asterisk(line);
        let (summary, media) = (active.call.summary(), active.media.take());
        self.by_line.insert(line, id);
        // What a trunk would have been offered.
        if let Some(media) = media {
            self.by_leg.remove(&media.leg);
            self.engine.close_leg(media.leg);
        }
        let endpoint = self.asterisks.endpoint_of(line, &summary.caller)?;
        let dial = Dial {
            endpoint,
            caller_id: Some(summary.number).filter(|number| !number.is_empty()),
            // Ours comes first; this one is for the case that we are gone.
            timeout: self.settings.call_limits.dial_ring + GIVE_UP_AFTER,
        };
        self.asterisks.dial(now, line, &dial);
        tracing::info!(call = %id, channel, "the call goes out by Asterisk");
        Some(Route {
            kind: ASTERISK,
            trunk: None,
            sip_call_id: None,
            asterisk_channel: Some(channel),
        })
    }

    /// Offers audio to a trunk.
    fn call_by_trunk(
        &mut self,
        now: Instant,
        id: CallId,
        trunk: TrunkId,
        offer: SrtpPolicy,
    ) -> Option<Route> {
        self.count_for(id, None);
        if self.is_full(trunk) {
            return None;
        }
        let summary = self.calls.get(&id)?.call.summary();
        let (to, shown) = (summary.caller.expose(), summary.number.as_str());
        let addresses = self.trunks.addresses(trunk, to, shown)?;
        let sdp = self.offer_audio(id, addresses.peer.ip().to_canonical(), offer)?;
        let Addresses { target, from, peer } = &addresses;
        let begun = self.endpoint.invite_by(now, trunk, target, from, &sdp);
        let name = self.trunks.name(trunk).unwrap_or_default().to_owned();
        let dialog = begun
            .inspect_err(
                |error| tracing::warn!(call = %id, trunk = name, %error, "the call can't go out by it"),
            )
            .ok()?;
        tracing::info!(call = %id, trunk = name, "the call goes out");
        self.by_dialog.insert(dialog, id);
        self.count_for(id, Some(Peer::Trunk(trunk)));
        let active = self.calls.get_mut(&id)?;
        active.sent_to = Some(*peer);
        active.line = Line::Sip {
            dialog,
            offer: None,
        };
        Some(Route {
            kind: SIP,
            trunk: Some(name),
            sip_call_id: self.endpoint.call_id(dialog).map(ToOwned::to_owned),
            asterisk_channel: None,
        })
    }

    /// Our offer to `peer`, for the leg that the call has or is given now.
    fn offer_audio(&mut self, id: CallId, peer: IpAddr, offer: SrtpPolicy) -> Option<Bytes> {
        let keys = keys(offer);
        if keys.is_none() && offer != SrtpPolicy::Off {
            tracing::error!(
                "the system gives no random numbers: a call that must be encrypted is not made"
            );
            return None;
        }
        let mut local = self.local_media(peer, None, keys);
        let opened = self.calls.get(&id)?.media.as_ref();
        let before = opened.and_then(|media| Some((media.leg, media.negotiation.as_ref()?)));
        let (leg, port) = match before {
            Some((leg, negotiation)) => (leg, negotiation.local.rtp_port),
            None => {
                let opened = self.engine.open_leg().inspect_err(|error| {
                    tracing::warn!(%error, "no media for a new call; see media.ports and limits.calls");
                });
                let opened = opened.ok()?;
                self.by_leg.insert(opened.leg, id);
                (opened.leg, opened.rtp.port())
            }
        };
        (local.rtp_port, local.session_id) = (port, leg.0);
        let sdp = sdp::offer(&local);
        let active = self.calls.get_mut(&id)?;
        active.srtp = offer;
        active.media = Some(Media {
            leg,
            agreed: None,
            negotiation: Some(Negotiation {
                local,
                offered: true,
            }),
        });
        active.source = Some(peer);
        Some(sdp)
    }

    /// Whom we call has answered by SIP.
    pub(super) fn call_established(&mut self, now: Instant, dialog: DialogId, sdp: &[u8]) {
        let Some(&id) = self.by_dialog.get(&dialog) else {
            return;
        };
        let media = self.calls.get(&id).and_then(|active| active.media.as_ref());
        if media.is_some_and(|media| media.agreed.is_some()) {
            return self.answered_again(now, id, sdp);
        }
        let active = self.calls.get(&id);
        if let Some(Exit::Trunk(trunk, _)) = active.and_then(|active| active.exit)
            && let Some(peer) = active.and_then(|active| active.sent_to)
        {
            self.trunks.took_a_call(trunk, peer);
        }
        if self.take_answer(now, id, Some(sdp)) {
            return self.input(id, CallInput::PickedUp);
        }
        tracing::info!(call = %id, "the answer has no audio that was offered");
        let q850 = Q850_INCOMPATIBLE;
        self.endpoint.hang_up(now, dialog, q850);
        self.dialog_over(dialog, CallInput::NotReached { q850 });
    }

    /// A call of ours by a trunk has failed: it takes another way, where there is one that may do better.
    pub(super) fn call_failed(&mut self, now: Instant, dialog: DialogId, failure: Failure) {
        let Some(id) = self.by_dialog.remove(&dialog) else {
            return;
        };
        let Some(active) = self.calls.get_mut(&id) else {
            return;
        };
        active.line = Line::Ahead;
        let Some(Exit::Trunk(trunk, offer)) = active.exit else {
            return;
        };
        let plain = active.exits.front() == Some(&Exit::Trunk(trunk, SrtpPolicy::Off));
        let by_trunk = failure.is_the_trunks();
        let sent_to = active.sent_to.filter(|_| by_trunk);
        let wish = sent_to.and_then(|peer| {
            let (fault, pause) = (failure.fault(), failure.pause);
            let wish = self.trunks.seek_elsewhere(trunk, peer, fault, pause)?;
            Some((wish, peer))
        });
        let name = self.trunks.name(trunk);
        let status = failure.status;
        if let (true, Some(pause)) = (by_trunk, failure.pause) {
            let seconds = pause.as_secs();
            tracing::warn!(call = %id, trunk = name, status, seconds, "the trunk wants no calls for so long");
        }
        if let Some((wish, peer)) = wish {
            tracing::info!(call = %id, trunk = name, status, %peer, "the call was not taken there, the trunk is looked for elsewhere");
            active.awaits = Some(Awaited {
                trunk,
                offer,
                wish,
                peer,
                q850: failure.cause(),
            });
            return self.resume(now, trunk);
        }
        let another = match status {
            415 | 488 | 606 if offer == SrtpPolicy::Require => plain,
            _ if by_trunk => {
                let others = |exit: &Exit| !matches!(exit, Exit::Trunk(same, _) if *same == trunk);
                active.exits.retain(others);
                !active.exits.is_empty()
            }
            _ => false,
        };
        tracing::info!(call = %id, trunk = name, status, another, "the call was not taken");
        if another {
            return self.ring_out(now, id);
        }
        let pause = failure.worth_another_try(getrandom::u64().unwrap_or(0));
        if let Some(pause) = pause.filter(|_| !active.tried_again) {
            active.tried_again = true;
            active.exits.push_front(Exit::Trunk(trunk, offer));
            return self.wake_for_another_try(id, pause);
        }
        let q850 = failure.cause();
        self.input(id, CallInput::NotReached { q850 });
    }

    fn wake_for_another_try(&self, id: CallId, pause: Duration) {
        let wakes = self.wakes.clone();
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            let _gateway_gone = wakes.send(Wake::TryAgain(id)).await;
        });
    }

    /// The pause is over; by now he may have been hung up on.
    pub(super) fn try_again(&mut self, now: Instant, id: CallId) {
        let waits = |active: &ActiveCall| matches!(active.line, Line::Ahead);
        if self.calls.get(&id).is_some_and(waits) {
            self.ring_out(now, id);
        }
    }

    /// Calls that wait until their trunk is found elsewhere go on, if that is known.
    pub(super) fn resume(&mut self, now: Instant, trunk: TrunkId) {
        let waits = |active: &ActiveCall| active.awaits.filter(|awaits| awaits.trunk == trunk);
        let waiting = self.calls.iter();
        let waiting: Vec<(CallId, Awaited)> = waiting
            .filter_map(|(id, active)| Some((*id, waits(active)?)))
            .collect();
        for (id, awaited) in waiting {
            let gone = self
                .trunks
                .has_gone_elsewhere(trunk, awaited.wish, awaited.peer);
            let takes_calls = self.endpoint.takes_calls(now, trunk);
            // Its registrar may have to be told of us first.
            let waits = gone == Gone::NotYet || gone == Gone::Elsewhere && !takes_calls;
            let Some(active) = self.calls.get_mut(&id).filter(|_| !waits) else {
                continue;
            };
            active.awaits = None;
            let others = |exit: &Exit| !matches!(exit, Exit::Trunk(same, _) if *same == trunk);
            if gone == Gone::Elsewhere {
                active.exits.push_front(Exit::Trunk(trunk, awaited.offer));
            } else {
                active.exits.retain(others);
            }
            if active.exits.is_empty() {
                let q850 = awaited.q850;
                self.input(id, CallInput::NotReached { q850 });
            } else {
                self.ring_out(now, id);
            }
        }
    }

    /// Who is rung or asked to join a meeting that is over needs no more of that.
    pub(super) fn call_off(&mut self, meeting: MeetingId) {
        let called = self.called_into(meeting);
        for id in called {
            self.input(id, CallInput::Room(RoomNotice::Ended));
        }
    }

    /// Says that the calls that are there go on, and which of them are calls to people.
    pub(super) fn extend_counted(&self) {
        let called = self.calls.iter().filter(|(_, active)| active.called_out);
        let called: Vec<CallId> = called.map(|(id, _)| *id).collect();
        let all: Vec<CallId> = self.calls.keys().copied().collect();
        if all.is_empty() {
            return;
        }
        let bookings = self.bookings.clone();
        tokio::spawn(async move {
            let now = clock::wall();
            let extended = bookings.extend_seats(now, all).await;
            let extended = match extended {
                Ok(()) if called.is_empty() => Ok(()),
                Ok(()) => bookings.extend_dials(now, called).await,
                Err(error) => Err(error),
            };
            if let Err(error) = extended {
                tracing::warn!(%error, "calls that go on could not be counted");
            }
        });
    }

    /// Those who are called into a meeting and aren't in it yet.
    fn called_into(&self, meeting: MeetingId) -> Vec<CallId> {
        let is_called = |(id, active): &(&CallId, &ActiveCall)| {
            active.called_out
                && active.call.summary().meeting == Some(meeting)
                && self.rooms.seat(**id).is_none()
        };
        let all = self.calls.iter().filter(is_called);
        all.map(|(id, _)| *id).collect()
    }

    /// Would those who are there or called leave no seat?
    fn is_full_with_called(&self, outgoing: &Outgoing) -> bool {
        let admission = &outgoing.admission;
        let there = self.rooms.participants(admission.meeting).len();
        let taken = there + self.called_into(admission.meeting).len();
        admission
            .capacity
            .is_some_and(|capacity| taken >= capacity as usize)
    }
}

/// How much later than we Asterisk gives up.
const GIVE_UP_AFTER: Duration = Duration::from_secs(3);
/// Between a request that met another and the next try, for whoever made the Call-ID.
const GLARE_MIN: Duration = Duration::from_millis(2_100);
const GLARE_SPREAD_MS: u64 = 1_900;
/// Whoever is called waits no longer for a server to be well again.
const WORTH_WAITING: Duration = Duration::from_secs(10);
/// Q.850: temporary failure.
const NO_WAY: u8 = 41;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_recorded_as_what_it_means_and_the_network_s_own_word_counts_first() {
        for (status, q850, heard, cause) in [
            (486, None, true, 17),
            (600, None, true, 17),
            (480, None, true, 18),
            (408, None, true, 19),
            (408, None, false, 102),
            (603, None, true, 21),
            (404, None, true, 1),
            (403, None, true, 57),
            (407, None, true, 57),
            (488, None, true, 88),
            (500, None, true, 41),
            (503, None, false, 41),
            (500, Some(17), true, 17),
            (480, Some(16), true, 18),
            (480, Some(0), true, 18),
        ] {
            let failure = Failure {
                status,
                q850,
                heard,
                pause: None,
            };
            assert_eq!(failure.cause(), cause, "{failure:?}");
        }
    }

    #[test]
    fn what_is_but_a_moment_s_trouble_is_worth_another_try() {
        let of = |status, seconds: Option<u64>| Failure {
            status,
            q850: None,
            heard: true,
            pause: seconds.map(Duration::from_secs),
        };
        let pause = |status, seconds| of(status, seconds).worth_another_try(0);
        assert_eq!(pause(491, None), Some(GLARE_MIN));
        assert_eq!(pause(500, Some(3)), Some(Duration::from_secs(3)));
        for (status, seconds) in [(500, None), (500, Some(60)), (486, Some(3)), (404, Some(3))] {
            assert_eq!(pause(status, seconds), None, "{status}");
        }
    }

    #[test]
    fn only_a_503_and_no_answer_at_all_say_something_of_the_trunk_itself() {
        for (status, heard, seconds, expected) in [
            (503, true, Some(30), true),
            (503, true, None, true),
            (503, false, None, true),
            (408, false, None, true),
            (500, true, Some(3), false),
            (500, true, Some(300), false),
            (500, true, None, false),
            (486, true, Some(3), false),
        ] {
            let failure = Failure {
                status,
                q850: None,
                heard,
                pause: seconds.map(Duration::from_secs),
            };
            assert_eq!(failure.is_the_trunks(), expected, "{failure:?}");
        }
    }
}
