//! Calls to people: an Asterisk dials them, and they count until they are over.

use std::time::Instant;

use super::active_call::{ActiveCall, Line};
use super::asterisk::KIND;
use super::clock;
use super::gateway::Gateway;
use crate::ari::Dial;
use crate::booking::MeetingId;
use crate::booking::admission::CallId;
use crate::call::roster::{DialOrder, LiveError};
use crate::call::{Arrival, Call, CallInput, Outgoing, RoomNotice};
use crate::units::{Language, Voice};

impl Gateway {
    /// Begins a call to somebody. Where it is not begun, nobody was asked anything.
    pub(super) fn dial(&mut self, order: DialOrder) -> Result<(), LiveError> {
        if let Some(refused) = self.refusal(None) {
            self.counters.admission_refused(refused);
            return Err(LiveError::Unavailable);
        }
        if self.is_full_with_called(&order.outgoing) {
            return Err(LiveError::Full);
        }
        let (line, channel) = self.asterisks.prepare_dial()?;
        let id = order.call;
        tracing::info!(call = %id, meeting = %order.outgoing.admission.meeting, channel, "somebody is called");
        let call = Call::new(id, self.call_limits());
        let mut active = ActiveCall::new(call, Line::Asterisk(line), None);
        active.called_out = true;
        self.calls.insert(id, active);
        self.by_line.insert(line, id);
        let Outgoing {
            admission,
            language,
        } = &order.outgoing;
        let arrival = Arrival {
            kind: KIND,
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
            sip_call_id: None,
            asterisk_channel: Some(channel),
        };
        self.input(id, CallInput::Arrived(arrival));
        Ok(())
    }

    /// Has Asterisk ring him.
    pub(super) fn ring_out(&mut self, now: Instant, id: CallId) {
        let Some(active) = self.calls.get(&id) else {
            return;
        };
        let Line::Asterisk(line) = active.line else {
            return;
        };
        let summary = active.call.summary();
        let Some(endpoint) = self.asterisks.endpoint_of(line, &summary.caller) else {
            return;
        };
        let dial = Dial {
            endpoint,
            caller_id: Some(summary.number).filter(|number| !number.is_empty()),
            // Ours comes first; this one is for the case that we are gone.
            timeout: self.settings.call_limits.dial_ring + GIVE_UP_AFTER,
        };
        self.asterisks.dial(now, line, &dial);
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
const GIVE_UP_AFTER: std::time::Duration = std::time::Duration::from_secs(3);
