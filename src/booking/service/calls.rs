//! Call records: kept with as much of the caller as the policy allows.

use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::{BookingError, Bookings};
use crate::booking::admission::{CallRecord, Direction, MeetingId, OrganisationId, Outcome};
use crate::booking::event::{Event, EventKind};
use crate::booking::key::ECHO_ORGANISATION;
use crate::booking::privacy::{CallerHash, CallerNumber, PrivacyPolicy};
use crate::booking::store::{CallFilter, StoreError, StoredCall};

/// Which call records are asked for.
#[derive(Debug, Clone, Default)]
pub struct CallQuestion {
    /// Of whom; `None`: of all.
    pub organisation: Option<OrganisationId>,
    /// Arrived then or later.
    pub from: Option<Timestamp>,
    /// Arrived before then.
    pub to: Option<Timestamp>,
    /// That ended so.
    pub outcome: Option<Outcome>,
    /// That reached this meeting.
    pub meeting: Option<MeetingId>,
    /// Of this caller.
    pub caller: Option<CallerHash>,
    /// After this one.
    pub after: Option<(Timestamp, Uuid)>,
    /// At most so many.
    pub limit: u32,
}

impl Bookings {
    /// Keeps a call record. The same record twice is kept once, so a failed attempt may be repeated.
    ///
    /// # Errors
    /// The store's.
    pub async fn record_call(&self, call: &CallRecord) -> Result<(), BookingError> {
        let echo = match call.meeting {
            Some(id) => self.is_echo(id).await?,
            None => false,
        };
        let organisation = match call.organisation {
            Some(known) => Some(known),
            None => self.whose(&call.number).await?,
        };
        let policy = self.privacy_to_keep(call.ended_at, organisation).await?;
        let caller = CallerNumber::new(&policy.store.of(&call.caller));
        let caller_hash = self.caller_hash(organisation, &call.caller).await?;
        let without_number = |name: String| policy.store.scrubbed(&call.caller, name);
        let number = call.number.chars().take(NUMBER_CHARS_MAX).collect();
        let sip_call_id = call
            .sip_call_id
            .as_ref()
            .map(|id| id.chars().take(SIP_CALL_ID_CHARS_MAX).collect());
        let asterisk_channel = call.asterisk_channel.clone().map(without_number);
        let stored = StoredCall {
            kind: call.kind.to_owned(),
            organisation_name: None,
            node: self.inner.settings.node.clone(),
            echo,
            call: CallRecord {
                organisation,
                caller,
                number,
                sip_call_id: sip_call_id.map(without_number),
                asterisk_channel,
                ..call.clone()
            },
            caller_hash,
        };
        let outcome = stored.call.outcome;
        let refused = (!echo && outcome != Outcome::Joined).then(|| refusal(policy, &stored));
        self.store().record_call(stored).await?;
        // Before what may fail on its own: the call is over, and mustn't count as going on.
        if call.direction == Direction::Out {
            self.store().end_dial(call.id).await?;
        }
        self.keep_events(refused.into_iter().collect()).await?;
        if !echo {
            self.inner.calls.count(outcome);
        }
        Ok(())
    }

    /// A booking that can't be read is no reason to lose the record of a call to it.
    async fn is_echo(&self, meeting: MeetingId) -> Result<bool, StoreError> {
        match self.store().meeting(meeting).await {
            Err(error) if !error.may_pass() => Ok(false),
            found => Ok(found?.is_some_and(|meeting| meeting.echo)),
        }
    }

    /// Whose business a call is that reached no meeting: the owner's of the dialled number, or the only
    /// organisation's there is.
    async fn whose(&self, number: &str) -> Result<Option<OrganisationId>, StoreError> {
        let numbers = self.numbers();
        let dialled = numbers.find(number);
        if let Some(owner) = dialled.and_then(|n| n.organisation.as_deref()) {
            return Ok(self
                .store()
                .organisation(owner)
                .await?
                .map(|owner| owner.id));
        }
        let mut all = self.store().organisations().await?;
        all.retain(|organisation| organisation.name != ECHO_ORGANISATION);
        Ok(match all.as_slice() {
            [only] => Some(only.id),
            [] | [_, ..] => None,
        })
    }

    /// How many calls ended how, since start, without those to the echo meeting.
    #[must_use]
    pub fn calls_by_outcome(&self) -> Vec<(Outcome, u64)> {
        self.inner.calls.read()
    }

    /// Call records, latest first, and whether there are more.
    ///
    /// # Errors
    /// The store's.
    pub async fn list_calls(
        &self,
        question: CallQuestion,
    ) -> Result<(Vec<StoredCall>, bool), BookingError> {
        let CallQuestion {
            organisation,
            from,
            to,
            outcome,
            meeting,
            caller,
            after,
            limit,
        } = question;
        let filter = CallFilter {
            organisation,
            from,
            to,
            outcome,
            meeting,
            caller,
            after,
            limit: limit.saturating_add(1),
        };
        let mut calls = self.store().calls(filter).await?;
        let more = calls.len() > limit as usize;
        calls.truncate(limit as usize);
        Ok((calls, more))
    }
}

/// What is told of a call that never got in. Nothing of it that a record may not keep.
fn refusal(policy: PrivacyPolicy, stored: &StoredCall) -> Event {
    let call = &stored.call;
    Event {
        // A call is refused once: told again, it is the same event.
        id: call.id.0,
        kind: EventKind::CallRefused,
        at: call.ended_at,
        organisation: call.organisation,
        meeting: call.meeting,
        data: json!({
            "call_id": call.id.to_string(),
            "kind": stored.kind,
            "direction": call.direction,
            "number": call.number,
            "caller": policy.shown(&call.caller),
            "started_at": call.started_at.to_string(),
            "outcome": call.outcome,
            "occurrence": call.occurrence.map(|id| id.to_string()),
            "pin_attempts": call.pin_attempts,
        }),
    }
}

/// Calls by outcome. Written by [`Bookings::record_call`], read by `/metrics`.
#[derive(Debug, Default)]
pub(super) struct CallCounters([AtomicU64; Outcome::ALL.len()]);

impl CallCounters {
    fn count(&self, outcome: Outcome) {
        let counters = Outcome::ALL.iter().zip(&self.0);
        for (_, counter) in counters.filter(|(o, _)| **o == outcome) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn read(&self) -> Vec<(Outcome, u64)> {
        Outcome::ALL
            .into_iter()
            .zip(self.0.iter().map(|c| c.load(Ordering::Relaxed)))
            .collect()
    }
}

const NUMBER_CHARS_MAX: usize = 128;
const SIP_CALL_ID_CHARS_MAX: usize = 256;
