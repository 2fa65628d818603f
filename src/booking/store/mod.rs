//! Where bookings are kept. One trait, so that one node can live on a file and several on a server.
//!
//! What must hold together is one method here, so that every store can make it one transaction.

pub mod budget;
pub mod callers;
mod error;
pub mod numbers;
pub mod quotas;
pub mod rooms;
mod sql;
pub mod statistics;
pub mod webhooks;

use std::future::Future;
use std::pin::Pin as Pinned;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::booking::admission::{CallId, CallRecord, MeetingId, OrganisationId, Outcome};
use crate::booking::audit::{AuditEntry, AuditFilter};
use crate::booking::event::{Event, EventFilter, EventPosition, KeptEvent};
use crate::booking::key::{ApiKey, Organisation};
use crate::booking::meeting::{Meeting, MeetingState};
use crate::booking::organisation::OrganisationRecord;
use crate::booking::pin::{PinMint, PinRecord};
use crate::booking::presence::{LeftBehind, Teller};
use crate::booking::privacy::{CallerHash, Pin};
use crate::booking::recurrence::RecurrenceId;

pub use budget::BudgetStore;
pub use callers::CallerStore;
pub use error::{Conflict, StoreError};
pub use numbers::NumberStore;
pub use quotas::QuotaStore;
pub use rooms::RoomStore;
pub use sql::SqlStore;
pub use statistics::StatisticsStore;
pub use webhooks::WebhookStore;

/// A boxed answer: keeps [`Store`] usable behind `Arc<dyn …>`.
pub type StoreFuture<'a, T> = Pinned<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// What the bookings need of a store. A future that is dropped leaves nothing half done.
pub trait Store:
    WebhookStore + NumberStore + BudgetStore + CallerStore + StatisticsStore + QuotaStore + RoomStore
{
    /// Answers if the store can be read now.
    fn ping(&self) -> StoreFuture<'_, ()>;

    /// Can it be read and written, and is it sound? Slow. How it is reached, for people; `None`: it is a file.
    fn check(&self) -> StoreFuture<'_, Option<String>>;

    /// The organisation of this name.
    fn organisation(&self, name: &str) -> StoreFuture<'_, Option<Organisation>>;

    /// All organisations, by name.
    fn organisations(&self) -> StoreFuture<'_, Vec<Organisation>>;

    /// The organisation of this name, made now if there is none.
    fn organisation_or_new(
        &self,
        now: Timestamp,
        new: Organisation,
    ) -> StoreFuture<'_, Organisation>;

    /// Keeps a meeting, gives it a PIN for each of `roles`, and remembers the claim: all or nothing.
    fn book(&self, booking: NewBooking) -> StoreFuture<'_, Meeting>;

    /// A meeting by its id.
    fn meeting(&self, id: MeetingId) -> StoreFuture<'_, Option<Meeting>>;

    /// The revisions of those of these meetings that there are.
    fn revisions(&self, meetings: Vec<MeetingId>) -> StoreFuture<'_, Vec<(MeetingId, i64)>>;

    /// A meeting by the booking system's name for it.
    fn meeting_by_external_id(
        &self,
        organisation: OrganisationId,
        external_id: &str,
    ) -> StoreFuture<'_, Option<Meeting>>;

    /// Meetings by start and id, without the echo meeting.
    fn meetings(&self, filter: MeetingFilter) -> StoreFuture<'_, Vec<Meeting>>;

    /// The echo meeting.
    fn echo_meeting(&self) -> StoreFuture<'_, Option<Meeting>>;

    /// Replaces everything but owner and PINs, and which occurrences these open, if the revision is still `meeting.revision`; counts it up.
    /// `false`: somebody else changed it meanwhile.
    fn change(&self, meeting: Meeting) -> StoreFuture<'_, bool>;

    /// Adds, withdraws and replaces PINs of a meeting, and counts its revision up if somebody asked for that: all or
    /// nothing. Gives the meeting as it is then; `None`: there is none.
    fn change_pins(&self, change: PinChange) -> StoreFuture<'_, Option<Meeting>>;

    /// The PIN with these digits and its meeting. The same work whether there is one or not.
    fn pin(&self, pin: &Pin) -> StoreFuture<'_, Option<(PinRecord, Meeting)>>;

    /// Series whose occurrences have PINs of their own and that were not over then, by id, after this one.
    fn series_with_occurrence_pins(
        &self,
        not_over_by: Timestamp,
        after: Option<MeetingId>,
        limit: u32,
    ) -> StoreFuture<'_, Vec<Meeting>>;

    /// The lengths PINs have, shortest first.
    fn pin_lengths(&self) -> StoreFuture<'_, Vec<usize>>;

    /// How many PINs open a meeting that is neither over nor cancelled.
    fn live_pins(&self, now: Timestamp) -> StoreFuture<'_, u64>;

    /// How many meetings of this organisation that were made for conferences, not booked, aren't over.
    fn live_conferences(
        &self,
        organisation: OrganisationId,
        now: Timestamp,
    ) -> StoreFuture<'_, u64>;

    /// Keeps a key and the hash of its secret.
    fn insert_key(&self, key: ApiKey, hash: String) -> StoreFuture<'_, ()>;

    /// A key and the hash of its secret, by its prefix.
    fn key_by_prefix(&self, prefix: &str) -> StoreFuture<'_, Option<(ApiKey, String)>>;

    /// All keys, oldest first.
    fn keys(&self) -> StoreFuture<'_, Vec<ApiKey>>;

    /// Revokes a key; `false` if there is none. The time of the first revocation stays.
    fn revoke_key(&self, now: Timestamp, id: Uuid) -> StoreFuture<'_, bool>;

    /// What a claim was used for, if it is remembered.
    fn claimed(&self, key: Uuid, name: &str) -> StoreFuture<'_, Option<Claim>>;

    /// Keeps a call record; the second of the same id changes nothing.
    fn record_call(&self, call: StoredCall) -> StoreFuture<'_, ()>;

    /// Call records, latest first, without calls to the echo meeting.
    fn calls(&self, filter: CallFilter) -> StoreFuture<'_, Vec<StoredCall>>;

    /// An organisation with its settings.
    fn organisation_record(
        &self,
        id: OrganisationId,
    ) -> StoreFuture<'_, Option<OrganisationRecord>>;

    /// All organisations with their settings, oldest first, without that of the echo meeting.
    fn organisation_records(&self) -> StoreFuture<'_, Vec<OrganisationRecord>>;

    /// Keeps a new organisation; [`Conflict::Other`] if there is one of this name.
    fn new_organisation(&self, new: OrganisationRecord) -> StoreFuture<'_, ()>;

    /// Replaces the settings, if the revision is still that; counts it up. `false`: it isn't.
    fn change_organisation(&self, changed: OrganisationRecord) -> StoreFuture<'_, bool>;

    /// A key by its id.
    fn key(&self, id: Uuid) -> StoreFuture<'_, Option<ApiKey>>;

    /// Lets a key expire then, if it doesn't earlier.
    fn expire_key(&self, at: Timestamp, id: Uuid) -> StoreFuture<'_, ()>;

    /// Keeps that something was done.
    fn audit(&self, entry: AuditEntry) -> StoreFuture<'_, ()>;

    /// What was done, latest first.
    fn audit_entries(&self, filter: AuditFilter) -> StoreFuture<'_, Vec<AuditEntry>>;

    /// Keeps events, all or none, after all that are kept; one that is kept already stays as it is. Gives the
    /// position of the last. What they say of who is where is noted with them.
    fn keep_events(&self, new: NewEvents) -> StoreFuture<'_, EventPosition>;

    /// What earlier processes of this node noted the beginning of and not the end.
    fn left_behind(
        &self,
        teller: Teller,
        silent_since: Timestamp,
    ) -> StoreFuture<'_, Vec<LeftBehind>>;

    /// This process lives.
    fn beat(&self, teller: Teller, now: Timestamp) -> StoreFuture<'_, ()>;

    /// The highest position an event has or had.
    fn last_event(&self) -> StoreFuture<'_, EventPosition>;

    /// Where an event stands that happened then or later.
    fn event_position(
        &self,
        id: Uuid,
        organisation: Option<OrganisationId>,
        since: Timestamp,
    ) -> StoreFuture<'_, Option<EventPosition>>;

    /// Events, oldest first.
    fn events(&self, filter: EventFilter) -> StoreFuture<'_, Vec<KeptEvent>>;

    /// Claims the right to answer a request; of all who do so at once, one is [`AnswerTurn::First`].
    fn claim_answer(&self, claim: AnswerClaim) -> StoreFuture<'_, AnswerTurn>;

    /// Keeps the answer that a claim was made for.
    fn keep_answer(&self, claim: AnswerClaim, sealed: String) -> StoreFuture<'_, ()>;

    /// Gives a claim up: nothing was done.
    fn release_answer(&self, claim: AnswerClaim) -> StoreFuture<'_, ()>;

    /// Claims that a call is begun; however many do so at once, no more than the limits allow get it.
    fn claim_dial(&self, claim: DialClaim) -> StoreFuture<'_, DialTurn>;

    /// Lets calls that were begun count until then, but for those that are over.
    fn extend_dials(&self, calls: Vec<CallId>, until: Timestamp) -> StoreFuture<'_, ()>;

    /// A call that was begun is over.
    fn end_dial(&self, call: CallId) -> StoreFuture<'_, ()>;

    /// A call that was claimed was never begun.
    fn release_dial(&self, call: CallId) -> StoreFuture<'_, ()>;

    /// Deletes what is over for longer than it may be kept; of calls and audit entries at most [`PURGE_BATCH`] at once.
    fn purge(&self, before: PurgeBefore) -> StoreFuture<'_, Purged>;
}

/// What happened.
#[derive(Debug, Clone)]
pub struct NewEvents {
    /// To be told.
    pub events: Vec<Event>,
    /// What nobody is told, as it was told before, by another process: who is where is noted all the same.
    pub untold: Vec<Event>,
    /// Who tells.
    pub teller: Teller,
}

/// PINs that are made in one transaction, at most: each takes a lock in the server, which has a few thousand for all.
pub const PINS_AT_ONCE_MAX: usize = 32;

/// A meeting to keep, with what belongs to it.
#[derive(Debug, Clone)]
pub struct NewBooking {
    /// The meeting; its `pins` are not looked at.
    pub meeting: Meeting,
    /// Its PINs, at most [`PINS_AT_ONCE_MAX`].
    pub pins: Vec<NewPin>,
    /// Makes the PINs, where the organisation has no rules of its own.
    pub mint: PinMint,
    /// The request it answers, so that a repetition books nothing.
    pub claim: Option<Claim>,
}

/// What is to become of a meeting's PINs.
#[derive(Debug, Clone)]
pub struct PinChange {
    /// The meeting.
    pub meeting: MeetingId,
    /// The present.
    pub at: Timestamp,
    /// Makes the PINs, where the organisation has no rules of its own.
    pub mint: PinMint,
    /// In this order; at most [`PINS_AT_ONCE_MAX`] PINs are made.
    pub steps: Vec<PinStep>,
    /// Nobody asked for it: it is what the meeting of this revision is due. That isn't counted as a change, isn't done
    /// if it was changed meanwhile, and may leave it without a PIN for a moment.
    pub due_to: Option<i64>,
}

/// What is to become of one PIN.
#[derive(Debug, Clone)]
pub enum PinStep {
    /// One more.
    Add(NewPin),
    /// Opens nothing any more.
    Withdraw(Uuid),
    /// The first is withdrawn, and the second takes its place.
    Replace(Uuid, NewPin),
}

/// A PIN to be made.
#[derive(Debug, Clone)]
pub struct NewPin {
    /// Names it in the API.
    pub id: Uuid,
    /// What it makes of its user.
    pub role: crate::booking::Role,
    /// Whose it is.
    pub label: Option<String>,
    /// These digits, or a conflict; `None`: allocated.
    pub digits: Option<Pin>,
    /// The occurrence that it opens, of which there is no such PIN yet; else nothing is made.
    pub occurrence: Option<RecurrenceId>,
}

/// An `Idempotency-Key` in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The API key it came with.
    pub key: Uuid,
    /// Its text.
    pub name: String,
    /// SHA-256 of the request's body.
    pub body_hash: String,
    /// What was booked.
    pub meeting: MeetingId,
    /// When.
    pub created_at: Timestamp,
}

impl Claim {
    /// Claims made by then are forgotten when this one is made.
    #[must_use]
    pub fn expired_before(&self) -> Timestamp {
        self.created_at
            .saturating_sub(CLAIM_LIFETIME)
            .unwrap_or(Timestamp::MIN)
    }
}

/// A request that came with an `Idempotency-Key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerClaim {
    /// The API key it came with.
    pub key: Uuid,
    /// The text of the `Idempotency-Key`.
    pub name: String,
    /// SHA-256 of method, path and body, in hexadecimal.
    pub request: String,
    /// When it came.
    pub created_at: Timestamp,
}

impl AnswerClaim {
    /// Answers to what was asked by then are forgotten.
    #[must_use]
    pub fn expired_before(&self) -> Timestamp {
        let at = self.created_at.saturating_sub(CLAIM_LIFETIME);
        at.unwrap_or(Timestamp::MIN)
    }

    /// What was asked by then and isn't answered yet never will be: its node went away.
    #[must_use]
    pub fn abandoned_before(&self) -> Timestamp {
        let at = self.created_at.saturating_sub(CLAIM_ABANDONED_AFTER);
        at.unwrap_or(Timestamp::MIN)
    }
}

/// What becomes of a request with an `Idempotency-Key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnswerTurn {
    /// It is to be answered now.
    First,
    /// The first of them isn't answered yet.
    InFlight,
    /// The key came with another request before.
    OtherRequest,
    /// It was answered with this, sealed.
    Answered(String),
}

/// A call that somebody wants to be begun.
#[derive(Debug, Clone)]
pub struct DialClaim {
    /// The call.
    pub call: CallId,
    /// Whose.
    pub organisation: OrganisationId,
    /// When.
    pub at: Timestamp,
    /// Until when it counts as going on, unless more is heard of it.
    pub counts_until: Timestamp,
    /// Most that may go on at once.
    pub at_once_max: u32,
    /// Most that may be begun within an hour.
    pub per_hour_max: u32,
}

/// What becomes of a [`DialClaim`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DialTurn {
    /// It may be begun.
    Granted,
    /// As many go on as may.
    AtOnce,
    /// As many were begun within the last hour as may be.
    PerHour {
        /// When the first of them was.
        first_at: Option<Timestamp>,
    },
}

/// Which meetings, from where on, how many.
#[derive(Debug, Clone)]
pub struct MeetingFilter {
    /// Of whom; `None`: of all.
    pub organisation: Option<OrganisationId>,
    /// Not over by then.
    pub from: Option<Timestamp>,
    /// Begun before then.
    pub to: Option<Timestamp>,
    /// In this state at `now`; live ones are counted as open.
    pub state: Option<MeetingState>,
    /// The present.
    pub now: Timestamp,
    /// After this one.
    pub after: Option<(Timestamp, MeetingId)>,
    /// At most so many.
    pub limit: u32,
}

/// Which calls, from where on, how many.
#[derive(Debug, Clone, Default)]
pub struct CallFilter {
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

/// A call record with what the bookings add. Its caller is as much as may be stored.
#[derive(Debug, Clone)]
pub struct StoredCall {
    /// The record.
    pub call: CallRecord,
    /// `sip`, later also `asterisk`, `browser`, `link`.
    pub kind: String,
    /// The name of the organisation.
    pub organisation_name: Option<String>,
    /// The node that took the call.
    pub node: String,
    /// It was a call to the echo meeting.
    pub echo: bool,
    /// What tells its caller from others; `None`: he withheld his number, or was erased.
    pub caller_hash: Option<CallerHash>,
}

/// What is deleted: all that was over before these times.
#[derive(Debug, Clone, Copy)]
pub struct PurgeBefore {
    /// Whose calls, events, meetings and audit entries; `None`: nobody's, and of all the PINs and the claims. To be
    /// asked for last: what was deleted is then overwritten where that is the store's business.
    pub organisation: Option<OrganisationId>,
    /// Audit entries.
    pub audit: Timestamp,
    /// Calls.
    pub calls: Timestamp,
    /// Events, and what webhooks were told.
    pub events: Timestamp,
    /// Meetings, with their PINs.
    pub meetings: Timestamp,
    /// PINs alone: their quarantine is over.
    pub pins: Timestamp,
    /// Remembered `Idempotency-Key`s.
    pub claims: Timestamp,
}

/// How much was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Purged {
    /// Calls.
    pub calls: u64,
    /// Audit entries.
    pub audit: u64,
    /// Meetings.
    pub meetings: u64,
    /// PINs of meetings that are kept.
    pub pins: u64,
}

/// Most rows of a kind that are deleted in one go: a store has other things to do.
pub const PURGE_BATCH: u64 = 10_000;
/// How long an `Idempotency-Key` is remembered.
pub const CLAIM_LIFETIME: SignedDuration = SignedDuration::from_hours(24);
/// Longer than a request may take.
const CLAIM_ABANDONED_AFTER: SignedDuration = SignedDuration::from_secs(60);
