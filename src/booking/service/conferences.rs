//! Conferences of a Jitsi Meet: each gets a PIN when it is first asked about, once and for all nodes.
//!
//! Nobody proves who he is here, so what can be learnt and used up is bounded: an hour's wrong PINs as for
//! callers, in a budget of their own so that callers can't be kept out this way; and a minute's new names.

use std::collections::{HashMap, VecDeque};
use std::sync::PoisonError;

use jiff::{SignedDuration, Timestamp};

use super::meetings::ATTEMPTS_MAX;
use super::pins::{ExplainError, room};
use super::{BookingError, Bookings};
use crate::booking::admission::Role;
use crate::booking::conference::ConferenceName;
use crate::booking::meeting::{Meeting, MeetingState};
use crate::booking::privacy::{CallerNumber, Pin};
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

    /// The PIN for guests of a conference. Asked again it is the same, until nobody has asked for months.
    ///
    /// # Errors
    /// [`ExplainError`]: too many new ones, the meeting was cancelled by who booked it, or the store's.
    pub async fn pin_of_conference(
        &self,
        now: Timestamp,
        jitsi: &JitsiConfig,
        name: &ConferenceName,
    ) -> Result<Pin, ExplainError> {
        for _ in 0..ATTEMPTS_MAX {
            if let Some(meeting) = self.meeting_of_conference(now, jitsi, name).await? {
                let open = meeting.cancelled_at.is_none() && !meeting.is_retired(now);
                let pin = meeting.pin_for(Role::Guest).filter(|_| open).cloned();
                return Ok(pin.ok_or(BookingError::NotFound)?);
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
        let guess = self.inner.conference_guesses.pay(now, &nobody);
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

    /// `None`: somebody else was faster.
    async fn meeting_of_conference(
        &self,
        now: Timestamp,
        jitsi: &JitsiConfig,
        name: &ConferenceName,
    ) -> Result<Option<Meeting>, ExplainError> {
        let organisation = self.organisation_or_new(now, &jitsi.organisation).await?;
        let id = name.external_id();
        let found = self.store().meeting_by_external_id(organisation.id, &id);
        let found = found.await.map_err(BookingError::Store)?;
        let done = match found {
            Some(meeting) if ConferenceName::is_still_good(&meeting, now) => {
                return Ok(Some(meeting));
            }
            Some(meeting) => {
                let options = name.meeting(now);
                self.replace(now, &organisation, meeting, &options, None)
                    .await?
            }
            None => {
                self.expect_few_new(now, jitsi)?;
                self.book_unless_taken(now, &organisation, &name.meeting(now))
                    .await?
            }
        };
        Ok(done.map(|(meeting, _)| meeting))
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

/// New conferences of one organisation in a minute.
const NEW_MAX: usize = 60;
const NEW_WINDOW: SignedDuration = SignedDuration::from_mins(1);
const HELD_BACK_SECONDS: u32 = 60;
