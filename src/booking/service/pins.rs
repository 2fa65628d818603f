//! What a PIN opens: asked by callers, who pay for wrong guesses, and by booking systems, who ask about
//! their own.

use std::collections::{HashMap, VecDeque};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::guesses::digits_to_say;
use super::{BookingError, Bookings, is_conflict};
use crate::booking::admission::{
    MeetingId, OrganisationId, Outcome, PinQuery, PinVerdict, Refusal, Role, Standing,
};
use crate::booking::budget::{Attempt, Guess, HeldBack};
use crate::booking::key::ApiKey;
use crate::booking::meeting::{Meeting, MeetingState};
use crate::booking::pin::PinRecord;
use crate::booking::privacy::{CallerNumber, Pin};
use crate::booking::store::{Conflict, StoreError};

/// What became of PINs that were keyed in, since start. For `/metrics`.
#[derive(Debug, Default)]
pub struct PinStatistics {
    admitted: AtomicU64,
    wrong: AtomicU64,
    too_early: AtomicU64,
    ended: AtomicU64,
    cancelled: AtomicU64,
    held_back: AtomicU64,
    unavailable: AtomicU64,
    challenges_asked: AtomicU64,
    pub(super) challenges_passed: AtomicU64,
    pub(super) challenges_failed: AtomicU64,
    exhausted: AtomicU64,
    /// Second of the last alarm.
    alarmed_at: AtomicI64,
}

/// What a PIN opens, told to somebody who may know.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// What a caller would get.
    pub outcome: Outcome,
    /// The meeting.
    pub meeting: Option<MeetingId>,
    /// What the PIN makes of its user.
    pub role: Option<Role>,
    /// From when callers may come.
    pub opens_at: Option<Timestamp>,
    /// From when nobody may come any more.
    pub closes_at: Option<Timestamp>,
}

/// Why a PIN, or a conference, is not explained.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// This key asked too often, or named too many PINs that aren't there.
    #[error("asked too often")]
    TooOften {
        /// When to try again.
        retry_seconds: u32,
    },
    /// Anything else.
    #[error(transparent)]
    Booking(#[from] BookingError),
}

impl Bookings {
    /// Answers a caller's PIN. Unknown, retired and foreign PINs take the same queries and give the same
    /// answer; a valid one is answered truthfully.
    ///
    /// What the failure budget holds back is not looked at and answered [`Refusal::Unavailable`], be it
    /// right or wrong: "please try again in a moment" is true for both and tells a guesser nothing. So does
    /// [`Refusal::Unproven`], after which he may ask again.
    pub async fn resolve_pin(&self, now: Timestamp, query: PinQuery) -> PinVerdict {
        let verdict = self.evaluate(now, query).await;
        self.inner.statistics.count(&verdict);
        verdict
    }

    /// As [`Self::resolve_pin`], for a gateway that then sends the caller here with the same PIN, unless it is wrong:
    /// what is answered again is counted then.
    pub async fn resolve_pin_beforehand(&self, now: Timestamp, query: PinQuery) -> PinVerdict {
        let verdict = self.evaluate(now, query).await;
        if matches!(verdict, PinVerdict::Refused(Refusal::Wrong)) {
            self.inner.statistics.count(&verdict);
        }
        verdict
    }

    async fn evaluate(&self, now: Timestamp, query: PinQuery) -> PinVerdict {
        let callers = &self.inner.callers;
        let attempt = Attempt {
            caller: &query.caller,
            number: query.number.as_deref(),
            pin: &query.pin,
            standing: query.standing,
        };
        let mut guess = match self.pay(now, callers, attempt).await {
            Ok(guess) => guess,
            Err(held_back) => return PinVerdict::Refused(self.hold_back(now, held_back)),
        };
        let found = match self.store().pin(&query.pin).await {
            Ok(found) => {
                self.remember(now, &query.pin, found.as_ref());
                found
            }
            Err(error) => {
                tracing::error!(call = %query.call, %error, "a PIN could not be looked up");
                match self.recall(now, &query.pin, guess) {
                    Some((known, again)) => {
                        guess = again;
                        Some(known)
                    }
                    None => {
                        let unavailable = &self.inner.statistics.unavailable;
                        unavailable.fetch_add(1, Ordering::Relaxed);
                        return PinVerdict::Refused(Refusal::Unavailable);
                    }
                }
            }
        };
        let verdict = self.verdict(now, found, query.number.as_deref());
        let verdict = self.in_its_language(now, verdict).await;
        match &verdict {
            PinVerdict::Refused(Refusal::Wrong) => guess.was_wrong(),
            PinVerdict::Admitted(_) | PinVerdict::Refused(_) => guess.was_right(),
        }
        verdict
    }

    /// What is told to a caller whose PIN is not looked at.
    fn hold_back(&self, now: Timestamp, why: HeldBack) -> Refusal {
        let statistics = &self.inner.statistics;
        if why == HeldBack::Unproven
            && let Ok(digits) = digits_to_say()
        {
            return Refusal::Unproven(digits);
        }
        statistics.held_back.fetch_add(1, Ordering::Relaxed);
        if statistics.alarm_is_due(now) {
            tracing::warn!(%why, "PINs are not looked at; the metrics tell how many");
        }
        Refusal::Unavailable
    }

    /// What somebody may who was let in before and only lost the process that held his call. No PIN is
    /// asked, so none is guessed; but a meeting that is over or cancelled is that for him too.
    pub async fn readmit(
        &self,
        now: Timestamp,
        meeting: MeetingId,
        role: Role,
        name: Option<&str>,
    ) -> PinVerdict {
        let verdict = match self.store().meeting(meeting).await {
            Ok(Some(found)) => found.grants(now, role, name),
            Ok(None) => PinVerdict::Refused(Refusal::Ended),
            Err(error) => {
                // All who return ask again and again.
                if self.inner.statistics.alarm_is_due(now) {
                    tracing::error!(%meeting, %error, "a meeting could not be looked up for a caller who returns");
                }
                PinVerdict::Refused(Refusal::Unavailable)
            }
        };
        self.in_its_language(now, verdict).await
    }

    /// Tells a booking system what a PIN of its own opens at a given time. PINs of others are unknown
    /// to it.
    ///
    /// # Errors
    /// [`ExplainError`].
    pub async fn explain(
        &self,
        now: Timestamp,
        key: &ApiKey,
        pin: &Pin,
        number: Option<&str>,
        at: Timestamp,
    ) -> Result<Explanation, ExplainError> {
        self.explains()
            .ask(now, key.id)
            .map_err(|retry_seconds| ExplainError::TooOften { retry_seconds })?;
        let found = self.store().pin(pin).await.map_err(BookingError::Store)?;
        let owned = found.filter(|(_, meeting)| !meeting.echo && may_see(key, meeting));
        let owned = owned.filter(|(record, meeting)| !meeting.has_lost(at, record));
        let Some((record, meeting)) = owned else {
            self.explains().fail(now, key.id);
            return Ok(Explanation {
                outcome: Outcome::WrongPin,
                meeting: None,
                role: None,
                opens_at: None,
                closes_at: None,
            });
        };
        let session = meeting.session_of(at, record.occurrence);
        let outcome = match session.phase {
            MeetingState::Cancelled => Outcome::Cancelled,
            MeetingState::Ended => Outcome::Ended,
            MeetingState::Open | MeetingState::Scheduled | MeetingState::Live
                if !self.serves(number, &meeting) =>
            {
                Outcome::NumberNotAllowed
            }
            MeetingState::Scheduled => Outcome::TooEarly,
            MeetingState::Open | MeetingState::Live => Outcome::Joined,
        };
        Ok(Explanation {
            outcome,
            meeting: Some(meeting.id),
            role: Some(record.role),
            opens_at: Some(session.opens_at),
            closes_at: session.closes_at,
        })
    }

    /// The lengths that PINs have, shortest first, and that of new ones: how many digits to wait for. As
    /// [`Self::look_for_pin_lengths`] last found them.
    #[must_use]
    pub fn pin_lengths(&self) -> Vec<usize> {
        self.lengths().clone()
    }

    /// Asks the store how long PINs are now. To be called every second: an organisation may have longer ones
    /// from one moment to the next.
    ///
    /// # Errors
    /// The store's; what was found last stays.
    pub async fn look_for_pin_lengths(&self) -> Result<(), StoreError> {
        let mut lengths = self.store().pin_lengths().await?;
        lengths.push(self.inner.mint.length());
        lengths.sort_unstable();
        lengths.dedup();
        *self.lengths() = lengths;
        Ok(())
    }

    fn lengths(&self) -> std::sync::MutexGuard<'_, Vec<usize>> {
        let lengths = self.inner.pin_lengths.lock();
        lengths.unwrap_or_else(PoisonError::into_inner)
    }

    /// Wrong PINs in one call before it is ended.
    #[must_use]
    pub fn pin_attempts(&self) -> u32 {
        self.inner.pin_attempts.load(Ordering::Relaxed)
    }

    /// From now on as many wrong PINs in one call.
    pub fn set_pin_attempts(&self, attempts: u32) {
        self.inner.pin_attempts.store(attempts, Ordering::Relaxed);
    }

    /// What became of PINs since start.
    #[must_use]
    pub fn pin_statistics(&self) -> &PinStatistics {
        &self.inner.statistics
    }

    /// A meeting that asks for no language speaks its organisation's.
    pub(super) async fn in_its_language(
        &self,
        now: Timestamp,
        mut verdict: PinVerdict,
    ) -> PinVerdict {
        if let PinVerdict::Admitted(admission) = &mut verdict
            && admission.language.is_none()
        {
            let settings = self.settings_of(now, admission.organisation).await;
            admission.language = settings.and_then(|settings| settings.language);
        }
        verdict
    }

    fn remember(&self, now: Timestamp, pin: &Pin, found: Option<&(PinRecord, Meeting)>) {
        match found {
            Some((record, meeting)) => self.inner.known.learn(now, record, meeting),
            None => self.inner.known.forget(pin),
        }
    }

    /// While the store is away: a PIN that was seen lately. One that wasn't is answered as if nothing had
    /// been looked at, but that it isn't among those is an answer too, so it is paid for, from this node's share.
    /// It is not held against the caller: it may be right.
    pub(super) fn recall<'a>(
        &self,
        now: Timestamp,
        pin: &Pin,
        guess: Guess<'a>,
    ) -> Option<((PinRecord, Meeting), Guess<'a>)> {
        match self.inner.known.recall(now, pin) {
            Some(known) => Some((known, guess)),
            None => {
                guess.was_unknown();
                None
            }
        }
    }

    fn verdict(
        &self,
        now: Timestamp,
        found: Option<(PinRecord, Meeting)>,
        number: Option<&str>,
    ) -> PinVerdict {
        match found {
            Some((record, meeting))
                if !meeting.has_lost(now, &record) && self.serves(number, &meeting) =>
            {
                meeting.verdict(now, &record)
            }
            Some(_) | None => PinVerdict::Refused(Refusal::Wrong),
        }
    }

    /// Does the dialled number lead to this meeting? The echo meeting answers on every number.
    fn serves(&self, number: Option<&str>, meeting: &Meeting) -> bool {
        let numbers = self.numbers();
        let Some(dialled) = number.filter(|_| !numbers.is_empty() && !meeting.echo) else {
            return true;
        };
        numbers
            .find(dialled)
            .is_some_and(|number| number.serves(&meeting.organisation_name))
    }

    /// Counts that an organisation imports a PIN, which may tell of another one's, and pays for that as for a guess of
    /// somebody for whom nothing speaks: half of the budget stays with callers, and no organisation is refused more
    /// often in an hour than a caller.
    pub(super) async fn pay_for_import(
        &self,
        now: Timestamp,
        organisation: OrganisationId,
        pin: &Pin,
    ) -> Result<Guess<'_>, ExplainError> {
        self.count_import(now, organisation)
            .map_err(|retry_seconds| ExplainError::TooOften { retry_seconds })?;
        let asker = CallerNumber::new(&format!("organisation {organisation}"));
        let attempt = Attempt {
            caller: &asker,
            number: None,
            pin,
            standing: Standing::Unknown,
        };
        let guess = self.pay(now, &self.inner.callers, attempt);
        guess.await.map_err(|_| ExplainError::TooOften {
            retry_seconds: IMPORT_PAUSE_SECONDS,
        })
    }

    fn count_import(&self, now: Timestamp, organisation: OrganisationId) -> Result<(), u32> {
        let mut explains = self.explains();
        explains.ask(now, organisation.0)?;
        explains.fail(now, organisation.0);
        Ok(())
    }

    /// Counts that no PIN could be given.
    pub(super) fn counted<T>(&self, done: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error) = &done
            && is_conflict(error, Conflict::PinsExhausted)
        {
            let statistics = &self.inner.statistics;
            statistics.exhausted.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                "no PIN was given: a twentieth of those there can be is in use; raise pin.length, or the organisation's pin_length"
            );
        }
        done
    }

    fn explains(&self) -> std::sync::MutexGuard<'_, ExplainLog> {
        self.inner
            .explains
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl PinStatistics {
    /// `(result, how many)`; the words are those of call records where there is one.
    #[must_use]
    pub fn results(&self) -> [(&'static str, u64); 7] {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("joined", read(&self.admitted)),
            ("wrong_pin", read(&self.wrong)),
            ("too_early", read(&self.too_early)),
            ("ended", read(&self.ended)),
            ("cancelled", read(&self.cancelled)),
            ("held_back", read(&self.held_back)),
            ("error", read(&self.unavailable)),
        ]
    }

    /// PINs that were asked for and not given, because too many are in use.
    #[must_use]
    pub fn exhausted(&self) -> u64 {
        self.exhausted.load(Ordering::Relaxed)
    }

    /// Callers who were asked to key in what they hear, `(result, how many)`.
    #[must_use]
    pub fn challenges(&self) -> [(&'static str, u64); 3] {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("asked", read(&self.challenges_asked)),
            ("passed", read(&self.challenges_passed)),
            ("failed", read(&self.challenges_failed)),
        ]
    }

    /// Counts a PIN that was looked at, or digits that were asked for instead.
    fn count(&self, verdict: &PinVerdict) {
        let counter = match verdict {
            PinVerdict::Admitted(_) => &self.admitted,
            PinVerdict::Refused(Refusal::Wrong) => &self.wrong,
            PinVerdict::Refused(Refusal::TooEarly { .. }) => &self.too_early,
            PinVerdict::Refused(Refusal::Ended) => &self.ended,
            PinVerdict::Refused(Refusal::Cancelled) => &self.cancelled,
            PinVerdict::Refused(Refusal::Unproven(_)) => &self.challenges_asked,
            // Counted where it was held back.
            PinVerdict::Refused(Refusal::Unavailable | Refusal::NoLine(_)) => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Once a minute at most: a flood of guesses must not become a flood of log lines.
    fn alarm_is_due(&self, now: Timestamp) -> bool {
        let last = self.alarmed_at.load(Ordering::Relaxed);
        let due = now.as_second().saturating_sub(last).saturating_abs() >= ALARM_SECONDS_MIN;
        due && self
            .alarmed_at
            .compare_exchange(last, now.as_second(), Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }
}

/// How often each key asked, and asked in vain, and each organisation imported. Bounded by the number of keys and the limits.
#[derive(Default)]
pub(super) struct ExplainLog {
    asked: HashMap<Uuid, VecDeque<Timestamp>>,
    failed: HashMap<Uuid, VecDeque<Timestamp>>,
}

impl ExplainLog {
    /// Counts a question, or says in how many seconds to come again.
    pub(super) fn ask(&mut self, now: Timestamp, key: Uuid) -> Result<(), u32> {
        let failed = self.failed.entry(key).or_default();
        room(failed, now, EXPLAIN_FAILURES_WINDOW, EXPLAIN_FAILURES_MAX)?;
        let asked = self.asked.entry(key).or_default();
        room(asked, now, EXPLAIN_WINDOW, EXPLAIN_MAX)?;
        asked.push_back(now);
        Ok(())
    }

    fn fail(&mut self, now: Timestamp, key: Uuid) {
        self.failed.entry(key).or_default().push_back(now);
    }
}

/// Forgets what is older than the window; an error says in how many seconds there is room again.
pub(super) fn room(
    times: &mut VecDeque<Timestamp>,
    now: Timestamp,
    window: SignedDuration,
    max: usize,
) -> Result<(), u32> {
    while times
        .front()
        .is_some_and(|&at| now.duration_since(at) >= window)
    {
        times.pop_front();
    }
    match times.front() {
        Some(&oldest) if times.len() >= max => {
            let wait = window - now.duration_since(oldest);
            Err(u32::try_from(wait.as_secs()).unwrap_or(0) + 1)
        }
        Some(_) | None => Ok(()),
    }
}

pub(super) fn may_see(key: &ApiKey, meeting: &Meeting) -> bool {
    key.role == crate::booking::key::KeyRole::Platform
        || key.organisation.id == meeting.organisation
}

/// Questions of one key in a minute.
const EXPLAIN_MAX: usize = 60;
const EXPLAIN_WINDOW: SignedDuration = SignedDuration::from_mins(1);
/// Questions of one key about PINs that aren't there, in an hour.
const EXPLAIN_FAILURES_MAX: usize = 60;
const EXPLAIN_FAILURES_WINDOW: SignedDuration = SignedDuration::from_mins(60);
/// Where too many imports were refused, by one or by all.
const IMPORT_PAUSE_SECONDS: u32 = 600;
const ALARM_SECONDS_MIN: i64 = 60;
