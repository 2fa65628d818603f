//! Requests that come again with the same `Idempotency-Key`: done once, answered alike.

use std::sync::atomic::{AtomicU32, Ordering};

use uuid::Uuid;

use super::{BookingError, Bookings};
use crate::booking::admission::MeetingId;
use crate::booking::key::ApiKey;
use crate::booking::persistence::insist;
use crate::booking::store::{AnswerClaim, AnswerTurn};

/// What a request made that can be deleted again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// A webhook.
    Webhook(Uuid),
    /// A number.
    Number(Uuid),
    /// A room.
    Room(Uuid),
    /// An API key.
    Key(Uuid),
    /// One of a meeting's PINs.
    MeetingPin(MeetingId, Uuid),
}

impl Bookings {
    /// Is there still, for this key, what a request of its made?
    ///
    /// # Errors
    /// [`BookingError::NotFound`], or the store's.
    pub async fn expect_still_there(&self, key: &ApiKey, made: Made) -> Result<(), BookingError> {
        let there = match made {
            Made::Webhook(id) => self.webhook(key, id).await.map(|_| true)?,
            Made::Number(id) => self.number(key, id).await.map(|_| true)?,
            Made::Room(id) => self.room(key, id).await.map(|_| true)?,
            Made::Key(id) => self.key_seen_by(key, id).await?.revoked_at.is_none(),
            Made::MeetingPin(meeting, id) => {
                let meeting = self.meeting(key, meeting).await?;
                meeting.pins.iter().any(|pin| pin.id == id)
            }
        };
        there.then_some(()).ok_or(BookingError::NotFound)
    }

    /// Claims the right to answer a request; the sealed answer if it was answered before.
    ///
    /// # Errors
    /// [`BookingError::ClaimMismatch`] if its key came with another request before,
    /// [`BookingError::ClaimInFlight`] if the first isn't answered yet, or the store's.
    pub async fn claim_answer(&self, claim: &AnswerClaim) -> Result<Option<String>, BookingError> {
        match self.store().claim_answer(claim.clone()).await? {
            AnswerTurn::First => Ok(None),
            AnswerTurn::Answered(sealed) => Ok(Some(sealed)),
            AnswerTurn::InFlight => Err(BookingError::ClaimInFlight),
            AnswerTurn::OtherRequest => Err(BookingError::ClaimMismatch),
        }
    }

    /// Keeps the answer, or gives the claim up where nothing was done.
    ///
    /// # Errors
    /// The store's.
    pub async fn settle_answer(
        &self,
        claim: AnswerClaim,
        sealed: Option<String>,
    ) -> Result<(), BookingError> {
        match sealed {
            Some(sealed) => self.store().keep_answer(claim, sealed).await?,
            None => self.release_answer(claim).await,
        }
        Ok(())
    }

    /// Where the store is away, as soon as it is back: else the next try, which would be the one to succeed, is
    /// told that the first isn't answered yet.
    async fn release_answer(&self, claim: AnswerClaim) {
        let Err(error) = self.store().release_answer(claim.clone()).await else {
            return;
        };
        tracing::debug!(%error, "a request did nothing, which is written down later");
        let (bookings, tries) = (self.clone(), AtomicU32::new(0));
        tokio::spawn(async move {
            // By then others take it for abandoned.
            let is_over = || tries.fetch_add(1, Ordering::Relaxed) >= RELEASE_TRIES_MAX;
            let release = || bookings.store().release_answer(claim.clone());
            insist("the end of a request that did nothing", is_over, release).await;
        });
    }
}

const RELEASE_TRIES_MAX: u32 = 30;
