//! Conferences of a Jitsi Meet: each gets a PIN when it is first asked about, once and for all nodes.
//!
//! Nobody proves who he is here, so what can be learnt and used up is bounded: an hour's wrong PINs as for
//! callers, in a budget of their own so that callers can't be kept out this way; and a minute's new names, and how many
//! there are at once.

use std::collections::{HashMap, VecDeque};
use std::sync::PoisonError;

use jiff::{SignedDuration, Timestamp};

use super::meetings::ATTEMPTS_MAX;
use super::pins::{ExplainError, room};
use super::{BookingError, Bookings};
use crate::booking::admission::{self, OrganisationId, Role};
use crate::booking::budget::Attempt;
use crate::booking::conference::{ConferenceName, Standing};
use crate::booking::meeting::{Meeting, MeetingState};
use crate::booking::privacy::{CallerNumber, Pin};
use crate::booking::store::StoreError;
use crate::config::JitsiConfig;

/// When conferences got their meetings, by organisation. Bounded by what is configured.
pub(super) type ConferenceLog = HashMap<String, VecDeque<Timestamp>>;

impl Bookings {
    /// The `[[jitsi]]` of this organisation.
    #[must_use]
    pub fn jitsi(&self, organisation: &str) -> Option<&JitsiConfig> {
        let mut all = self.settings().jitsi.iter();
        all.find(|jitsi| jitsi.organisation == organisation)
    }

    /// The PIN for guests of a conference. Asked again it is the same, until nobody has asked for days.
    /// `None`: somebody cancelled or ended its meeting.
    ///
    /// # Errors
    /// [`ExplainError`]: too many new ones, too many at all, or the store's.
    pub async fn pin_of_conference(
        &self,
        now: Timestamp,
        jitsi: &JitsiConfig,
        name: &ConferenceName,
    ) -> Result<Option<Pin>, ExplainError> {
        for _ in 0..ATTEMPTS_MAX {
            match self.meeting_of_conference(now, jitsi, name).await? {
                Asked::Open(pin) => return Ok(Some(pin)),
                Asked::Closed => return Ok(None),
                Asked::Changed => {}
            }
        }
        Err(BookingError::Changed.into())
    }

    /// The conference that a PIN leads to; `None`: unknown, somebody else's, of no conference, or over.
    ///
    /// # Errors
    /// [`ExplainError`]: too many wrong ones, or the store's.
    pub async fn conference_of_pin(
        &self,
        now: Timestamp,
        jitsi: &JitsiConfig,
        pin: &Pin,
    ) -> Result<Option<ConferenceName>, ExplainError> {
        let nobody = CallerNumber::new("");
        // A browser can't be asked to key in what it hears.
        let guesses = &self.inner.conference_guesses;
        let attempt = Attempt {
            caller: &nobody,
            number: None,
            pin,
            standing: admission::Standing::Proven,
        };
        let guess = self.pay(now, guesses, attempt).await;
        let guess = guess.map_err(|_| ExplainError::TooOften {
            retry_seconds: HELD_BACK_SECONDS,
        })?;
        let found = self.store().pin(pin).await.map_err(BookingError::Store)?;
        let name = found.and_then(|(_, meeting)| {
            let theirs = meeting.organisation_name == jitsi.organisation && !meeting.echo;
            let over = matches!(
                meeting.state(now, false),
                MeetingState::Cancelled | MeetingState::Ended
            );
            ConferenceName::of(&meeting).filter(|_| theirs && !over && !meeting.is_retired(now))
        });
        match name {
            Some(_) => guess.was_right(),
            None => guess.was_wrong(),
        }
        Ok(name)
    }

    async fn meeting_of_conference(
        &self,
        now: Timestamp,
        jitsi: &JitsiConfig,
        name: &ConferenceName,
    ) -> Result<Asked, ExplainError> {
        let found = self.found_conference(jitsi, name).await;
        let Some(mut meeting) = found.map_err(BookingError::Store)? else {
            return self.book_conference(now, jitsi, name).await;
        };
        match Standing::of(&meeting, now) {
            Standing::Stays => Ok(Asked::of(&meeting)),
            Standing::Closed => Ok(Asked::Closed),
            Standing::Renewed(options) => {
                if meeting.closes_at().is_some_and(|closes| closes <= now) {
                    self.expect_few_live(now, meeting.organisation).await?;
                }
                meeting.options = *options;
                let kept = self.keep(now, meeting).await?;
                Ok(kept.as_ref().map_or(Asked::Changed, Asked::of))
            }
            Standing::Retired => {
                meeting.options.external_id = None;
                match self.keep(now, meeting).await? {
                    Some(_) => self.book_conference(now, jitsi, name).await,
                    None => Ok(Asked::Changed),
                }
            }
        }
    }

    /// Writes nothing: anybody may ask.
    async fn found_conference(
        &self,
        jitsi: &JitsiConfig,
        name: &ConferenceName,
    ) -> Result<Option<Meeting>, StoreError> {
        let Some(organisation) = self.store().organisation(&jitsi.organisation).await? else {
            return Ok(None);
        };
        let id = name.external_id();
        self.store()
            .meeting_by_external_id(organisation.id, &id)
            .await
    }

    /// With a PIN for guests alone: nobody would get another one.
    async fn book_conference(
        &self,
        now: Timestamp,
        jitsi: &JitsiConfig,
        name: &ConferenceName,
    ) -> Result<Asked, ExplainError> {
        self.expect_few_new(now, jitsi)?;
        let organisation = self.organisation_or_new(now, &jitsi.organisation).await?;
        self.expect_few_live(now, organisation.id).await?;
        let options = name.meeting(now);
        let booked = self.book_unless_taken(now, &organisation, &options, &[Role::Guest]);
        let booked = booked.await?;
        Ok(booked.map_or(Asked::Changed, |(meeting, _)| Asked::of(&meeting)))
    }

    async fn expect_few_live(
        &self,
        now: Timestamp,
        organisation: OrganisationId,
    ) -> Result<(), ExplainError> {
        let live = self.store().live_conferences(organisation, now).await;
        if live.map_err(BookingError::Store)? < LIVE_MAX {
            Ok(())
        } else {
            Err(ExplainError::TooOften {
                retry_seconds: FULL_SECONDS,
            })
        }
    }

    fn expect_few_new(&self, now: Timestamp, jitsi: &JitsiConfig) -> Result<(), ExplainError> {
        let log = &self.inner.conferences;
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        let times = log.entry(jitsi.organisation.clone()).or_default();
        room(times, now, NEW_WINDOW, NEW_MAX)
            .map_err(|retry_seconds| ExplainError::TooOften { retry_seconds })?;
        times.push_back(now);
        Ok(())
    }
}

/// What asking about a conference came to.
enum Asked {
    /// Guests come with this.
    Open(Pin),
    /// It has a meeting that nobody may enter.
    Closed,
    /// Somebody else was faster.
    Changed,
}

impl Asked {
    fn of(meeting: &Meeting) -> Self {
        let pin = meeting.pin_for(Role::Guest).cloned();
        pin.map_or(Self::Closed, Self::Open)
    }
}

/// Most conferences of one organisation at once that nobody booked. Each has a PIN that can be guessed.
const LIVE_MAX: u64 = 2_000;
const FULL_SECONDS: u32 = 600;
/// New conferences of one organisation in a minute.
const NEW_MAX: usize = 60;
const NEW_WINDOW: SignedDuration = SignedDuration::from_mins(1);
const HELD_BACK_SECONDS: u32 = 60;
