//! The service the rest of the house talks to: every rule about bookings, keys, PINs and call records.

mod answers;
mod callers;
mod calls;
mod conferences;
mod dials;
mod events;
mod guesses;
mod keys;
mod known;
mod meeting_pins;
mod meetings;
mod numbers;
mod occurrence_pins;
mod organisations;
mod pins;
mod presence;
mod quotas;
mod rooms;
mod running;
mod series;
mod statistics;
mod webhooks;

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock};

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::booking::budget::FAILURE_BUDGET_DEFAULT;
use crate::booking::change::FieldError;
use crate::booking::dial::DialRefusal;
use crate::booking::key::ECHO_ORGANISATION;
use crate::booking::pin::{
    NoRandomness, PIN_LENGTH_DEFAULT, PinMint, PinRules, expected_wrong_joins, pin_length_is_enough,
};
use crate::booking::privacy::{CallerKey, PrivacyPolicy};
use crate::booking::reach::Reach;
use crate::booking::store::budget::Door;
use crate::booking::store::{
    CLAIM_LIFETIME, Conflict, PURGE_BATCH, PurgeBefore, Purged, Store, StoreError,
};
use crate::config::{FsapiConfig, JitsiConfig};
use guesses::SharedBudget;

pub use answers::Made;
pub use calls::CallQuestion;
pub use dials::{DialPermit, DialRequest};
pub use events::{EventCounts, EventOwner, FeedNews, STREAMS_PER_KEY, StreamPlace};
pub use keys::{AuthError, NewKey};
pub use meetings::{MeetingPage, MeetingQuestion, Repetition};
pub use occurrence_pins::OccurrencePins;
pub use pins::{ExplainError, Explanation, PinStatistics};
pub use series::OccurrenceChange;
pub use webhooks::{LEASE, ReplayFrom, WebhookChange};

/// A handle on the bookings; clones share everything.
#[derive(Clone)]
pub struct Bookings {
    inner: Arc<Inner>,
}

/// What the configuration says about bookings.
#[derive(Debug, Clone)]
pub struct BookingSettings {
    /// `node.name`, for call records.
    pub node: String,
    /// `pin.length`: digits of new PINs.
    pub pin_length: usize,
    /// `pin.attempts`: wrong PINs in one call, at start.
    pub pin_attempts: u32,
    /// `pin.failure_budget`: wrong PINs evaluated in an hour.
    pub failure_budget: u32,
    /// `privacy.*`.
    pub privacy: PrivacyPolicy,
    /// `privacy.hash_key`; `None`: one that lies in the store.
    pub caller_key: Option<CallerKey>,
    /// `webhooks.allow`.
    pub reach: Reach,
    /// `[[jitsi]]`.
    pub jitsi: Vec<JitsiConfig>,
    /// `[fsapi]`.
    pub fsapi: Option<FsapiConfig>,
}

impl Default for BookingSettings {
    fn default() -> Self {
        Self {
            node: "voicebridge".to_owned(),
            pin_length: PIN_LENGTH_DEFAULT,
            pin_attempts: PIN_ATTEMPTS_DEFAULT,
            failure_budget: FAILURE_BUDGET_DEFAULT,
            privacy: PrivacyPolicy::default(),
            caller_key: None,
            reach: Reach::default(),
            jitsi: Vec::new(),
            fsapi: None,
        }
    }
}

/// Why the bookings did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BookingError {
    /// What was asked breaks these rules.
    #[error("{}", all(.0))]
    Invalid(Vec<FieldError>),
    /// There is no such thing, or it belongs to somebody else.
    #[error("not found")]
    NotFound,
    /// The key may not do that.
    #[error("the key may not do that")]
    Forbidden,
    /// It isn't what the caller thinks it is any more (`If-Match`).
    #[error("it was changed meanwhile")]
    Changed,
    /// The `Idempotency-Key` came with another body before.
    #[error("this Idempotency-Key came with another body before")]
    ClaimMismatch,
    /// The first request with this `Idempotency-Key` isn't answered yet.
    #[error("the first request with this Idempotency-Key is not answered yet")]
    ClaimInFlight,
    /// Its PINs are lost to it: it has been over for longer than the quarantine.
    #[error("the meeting has been over for too long; book a new one")]
    Retired,
    /// The organisation has as many webhooks as it may have.
    #[error("the organisation has 20 webhooks, and can't have more; delete one")]
    TooManyWebhooks,
    /// It was cancelled; a PUT by external id brings it back.
    #[error("the meeting is cancelled; PUT it by its external_id to bring it back")]
    Cancelled,
    /// The organisation may not have somebody called now.
    #[error(transparent)]
    Dial(DialRefusal),
    /// Nobody may come into the meeting now.
    #[error("the meeting isn't open now")]
    NotOpen,
    /// The store did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operating system gives no random numbers.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

impl BookingError {
    /// May the same succeed later?
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        !matches!(self, Self::Store(error) if !error.may_pass())
    }
}

/// One finding of [`Bookings::check`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Does it keep the node from working as it should?
    pub failed: bool,
    /// A line for the operator, with what to change.
    pub message: String,
}

impl Bookings {
    /// Over a store that is open.
    ///
    /// # Errors
    /// [`BookingError::NoRandomness`].
    pub fn new(settings: BookingSettings, store: Arc<dyn Store>) -> Result<Self, BookingError> {
        let mut process = [0; 16];
        getrandom::fill(&mut process).map_err(|_| NoRandomness)?;
        let process = uuid::Builder::from_random_bytes(process).into_uuid();
        let per_hour = settings.failure_budget;
        let callers = SharedBudget::divided(per_hour, process)?;
        let conference_guesses = SharedBudget::undivided(Door::Jitsi, per_hour, process)?;
        let mint = PinMint::new(settings.pin_length);
        let pin_attempts = AtomicU32::new(settings.pin_attempts);
        let caller_key = tokio::sync::OnceCell::new_with(settings.caller_key.clone());
        let inner = Inner {
            settings,
            store,
            callers,
            mint,
            claims: Mutex::default(),
            explains: Mutex::default(),
            caller_questions: Mutex::default(),
            caller_key,
            conferences: Mutex::default(),
            conference_guesses,
            statistics: PinStatistics::default(),
            occurrence_pins: AtomicU64::new(0),
            rooms_missed: AtomicU64::new(0),
            pin_lengths: Mutex::default(),
            pin_attempts,
            known: known::KnownPins::default(),
            numbers: numbers::KnownNumbers::default(),
            settings_read: organisations::SettingsRead::default(),
            calls: calls::CallCounters::default(),
            events: events::EventFeed::default(),
            process,
            home: OnceLock::new(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// What the configuration says.
    #[must_use]
    pub fn settings(&self) -> &BookingSettings {
        &self.inner.settings
    }

    /// Answers if the store can be read now.
    ///
    /// # Errors
    /// Why it can't.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.store().ping().await
    }

    /// For `voicebridge check`: is the store sound and writable, are the PINs long enough for the
    /// meetings that are booked?
    pub async fn check(&self, now: Timestamp) -> Vec<Finding> {
        let store = match self.store().check().await {
            Ok(reached) => Finding {
                failed: false,
                message: match reached {
                    None => "store: readable, writable, sound".to_owned(),
                    Some(reached) => format!("store: readable, writable, sound, {reached}"),
                },
            },
            Err(error) => {
                return vec![Finding {
                    failed: true,
                    message: format!("store: {error}"),
                }];
            }
        };
        let unreadable = |error: StoreError| {
            vec![Finding {
                failed: true,
                message: format!("store: {error}"),
            }]
        };
        let pins = self.check_pins(now).await.unwrap_or_else(unreadable);
        std::iter::once(store).chain(pins).collect()
    }

    /// The configuration's length, and each organisation's rules: what was safe when it was set may not be any more.
    async fn check_pins(&self, now: Timestamp) -> Result<Vec<Finding>, StoreError> {
        let live = self.store().live_pins(now).await?;
        let mut findings = vec![self.check_pin_length(live)];
        for record in self.store().organisation_records().await? {
            let rules = record.settings.pin;
            if rules == PinRules::default() {
                continue;
            }
            let mint = self.inner.mint.under(rules);
            if let Some(expected) = mint.too_many_wrong_joins(self.tries_an_hour(), live) {
                let name = record.organisation.name;
                let possible = mint.possible();
                findings.push(Finding {
                    failed: true,
                    message: format!(
                        "pins of {name}: its rules leave {possible}: {expected:.1e} wrong joins in 30 days to be expected of an attacker; at most 1e-2 is safe: raise its pin_length or lower pin.failure_budget"
                    ),
                });
            }
        }
        Ok(findings)
    }

    /// Deletes what may not be kept any longer: call records and meetings after `privacy.retain_days`,
    /// PINs after their quarantine, `Idempotency-Key`s after a day. To be called once an hour or so.
    ///
    /// # Errors
    /// The store's.
    pub async fn purge(&self, now: Timestamp) -> Result<Purged, BookingError> {
        let ago = |duration| now.saturating_sub(duration).unwrap_or(Timestamp::MIN);
        let quarantine = crate::booking::meeting::QUARANTINE;
        let before = |organisation, retain_days: u32| {
            let retained = SignedDuration::from_hours(24 * i64::from(retain_days));
            PurgeBefore {
                organisation,
                calls: ago(retained),
                events: ago(retained.min(EVENTS_KEPT)),
                audit: ago(retained),
                meetings: ago(retained.max(quarantine)),
                pins: ago(quarantine),
                claims: ago(CLAIM_LIFETIME),
            }
        };
        let base = self.inner.settings.privacy;
        let mut purged = Purged::default();
        for record in self.store().organisation_records().await? {
            let days = record.settings.privacy(base).retain_days;
            let of_it = before(Some(record.organisation.id), days);
            self.purge_all(of_it, &mut purged).await?;
        }
        // Who only comes to the echo meeting belongs to nobody's organisation but the program's own.
        let echo = self.store().organisation(ECHO_ORGANISATION).await?;
        if let Some(echo) = echo {
            let of_it = PurgeBefore {
                meetings: Timestamp::MIN,
                ..before(Some(echo.id), base.retain_days)
            };
            self.purge_all(of_it, &mut purged).await?;
        }
        self.purge_all(before(None, base.retain_days), &mut purged)
            .await?;
        Ok(purged)
    }

    /// In as many goes as it takes.
    async fn purge_all(
        &self,
        before: PurgeBefore,
        purged: &mut Purged,
    ) -> Result<(), BookingError> {
        loop {
            let more = self.store().purge(before).await?;
            purged.calls += more.calls;
            purged.audit += more.audit;
            purged.meetings += more.meetings;
            purged.pins += more.pins;
            if more.calls.max(more.audit) < PURGE_BATCH {
                return Ok(());
            }
        }
    }

    fn check_pin_length(&self, live: u64) -> Finding {
        let settings = &self.inner.settings;
        let pin_length = settings.pin_length;
        let failure_budget = self.tries_an_hour();
        let enough = pin_length_is_enough(pin_length, failure_budget, live);
        let expected = expected_wrong_joins(pin_length, failure_budget, live);
        let figures = format!(
            "pins: {live} in use, {pin_length} digits, {failure_budget} wrong tries an hour: {expected:.1e} wrong joins in 30 days to be expected of an attacker"
        );
        let message = if enough {
            figures
        } else {
            format!("{figures}; at most 1e-2 is safe: raise pin.length or lower pin.failure_budget")
        };
        Finding {
            failed: !enough,
            message,
        }
    }

    /// Wrong PINs that are evaluated in an hour. A Jitsi Meet's guesses have a budget of their own.
    fn tries_an_hour(&self) -> u32 {
        let settings = &self.inner.settings;
        let doors = if settings.jitsi.is_empty() { 1 } else { 2 };
        settings.failure_budget.saturating_mul(doors)
    }

    fn store(&self) -> &dyn Store {
        self.inner.store.as_ref()
    }
}

impl std::fmt::Debug for Bookings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bookings")
            .field("settings", &self.inner.settings)
            .finish_non_exhaustive()
    }
}

/// What the clones share.
struct Inner {
    settings: BookingSettings,
    store: Arc<dyn Store>,
    /// Wrong PINs of callers.
    callers: SharedBudget,
    mint: PinMint,
    /// `Idempotency-Key`s whose first request isn't answered yet.
    claims: Mutex<HashSet<(Uuid, String)>>,
    /// How often each key asked what a PIN opens.
    explains: Mutex<pins::ExplainLog>,
    /// How often each key asked for a number's hash.
    caller_questions: Mutex<pins::ExplainLog>,
    /// Makes callers' hashes, once it was read.
    caller_key: tokio::sync::OnceCell<CallerKey>,
    conferences: Mutex<conferences::ConferenceLog>,
    /// Wrong PINs that a Jitsi Meet asked about.
    conference_guesses: SharedBudget,
    statistics: PinStatistics,
    /// PINs of single occurrences that were given.
    occurrence_pins: AtomicU64,
    /// Occurrences of endless series that found their rooms taken.
    rooms_missed: AtomicU64,
    pin_lengths: Mutex<Vec<usize>>,
    /// `pin.attempts`, as it was read last.
    pin_attempts: AtomicU32,
    known: known::KnownPins,
    numbers: numbers::KnownNumbers,
    settings_read: organisations::SettingsRead,
    calls: calls::CallCounters,
    events: events::EventFeed,
    /// Another one after each start.
    process: Uuid,
    /// Where it lives alone.
    home: OnceLock<Uuid>,
}

/// A new id that sorts by time (RFC 9562 section 5.7).
fn new_id(now: Timestamp) -> Result<Uuid, NoRandomness> {
    let mut random = [0_u8; 10];
    getrandom::fill(&mut random).map_err(|_| NoRandomness)?;
    let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
    Ok(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
}

const PIN_ATTEMPTS_DEFAULT: u32 = 3;
/// Longer than who was away can go on from, so that webhooks can be replayed after a weekend.
const EVENTS_KEPT: SignedDuration = SignedDuration::from_hours(72);

/// Everything that is wrong, in one line.
fn all(errors: &[FieldError]) -> String {
    let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
    all.join("; ")
}

/// Is this the conflict?
fn is_conflict(error: &StoreError, conflict: Conflict) -> bool {
    *error == StoreError::Conflict(conflict)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
#[path = "tests.rs"]
#[allow(clippy::duplicate_mod, reason = "the same tests on the other database")]
mod tests_on_postgres;
