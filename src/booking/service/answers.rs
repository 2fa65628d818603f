//! Requests that come again with the same `Idempotency-Key`: done once, answered alike.

use super::{BookingError, Bookings};
use crate::booking::store::{AnswerClaim, AnswerTurn};

impl Bookings {
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
            None => self.store().release_answer(claim).await?,
        }
        Ok(())
    }
}
