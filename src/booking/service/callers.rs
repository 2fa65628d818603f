//! Callers: told apart without their numbers, found and forgotten when they ask for it.

use std::sync::PoisonError;

use jiff::Timestamp;

use super::pins::{ExplainError, ExplainLog};
use super::{BookingError, Bookings};
use crate::booking::admission::OrganisationId;
use crate::booking::key::{ApiKey, KeyRole};
use crate::booking::pin::NoRandomness;
use crate::booking::privacy::{CallerHash, CallerKey, CallerNumber};
use crate::booking::store::callers::KeptCaller;

impl Bookings {
    /// What tells this caller from others of the organisation. The same on all nodes and after a restart.
    ///
    /// # Errors
    /// The store's, where the key lies in it and was never read.
    pub async fn caller_hash(
        &self,
        organisation: Option<OrganisationId>,
        caller: &CallerNumber,
    ) -> Result<Option<CallerHash>, BookingError> {
        let key = &self.inner.caller_key;
        let key = key.get_or_try_init(|| self.shared_caller_key()).await?;
        Ok(key.hash(organisation, caller))
    }

    /// As [`Self::caller_hash`], for somebody who asks with a key; so that he doesn't try all numbers there are, not too
    /// often.
    ///
    /// # Errors
    /// [`ExplainError`].
    pub async fn ask_caller_hash(
        &self,
        now: Timestamp,
        key: &ApiKey,
        organisation: Option<OrganisationId>,
        caller: &CallerNumber,
    ) -> Result<Option<CallerHash>, ExplainError> {
        self.caller_questions()
            .ask(now, key.id)
            .map_err(|retry_seconds| ExplainError::TooOften { retry_seconds })?;
        Ok(self.caller_hash(organisation, caller).await?)
    }

    /// What is kept of a caller that this key may see: its organisation's own, or any for a platform key.
    ///
    /// # Errors
    /// [`BookingError::NotFound`], or the store's.
    pub async fn kept_of_caller(
        &self,
        key: &ApiKey,
        hash: CallerHash,
    ) -> Result<KeptCaller, BookingError> {
        let kept = self.store().caller(whose(key), hash).await?;
        kept.ok_or(BookingError::NotFound)
    }

    /// Takes a caller out of what is kept of his calls, and tells whose he was. That he called remains, and what came of
    /// it; not who he was.
    ///
    /// # Errors
    /// [`BookingError::NotFound`], or the store's.
    pub async fn erase_caller(
        &self,
        key: &ApiKey,
        hash: CallerHash,
    ) -> Result<Option<OrganisationId>, BookingError> {
        let kept = self.kept_of_caller(key, hash.clone()).await?;
        self.store().erase_caller(whose(key), hash).await?;
        Ok(kept.organisation)
    }

    async fn shared_caller_key(&self) -> Result<CallerKey, BookingError> {
        let mut random = [0_u8; 32];
        getrandom::fill(&mut random).map_err(|_| NoRandomness)?;
        let fresh = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let kept = self.store().secret(CALLER_KEY, fresh).await?;
        Ok(CallerKey::new(kept.as_bytes()))
    }

    fn caller_questions(&self) -> std::sync::MutexGuard<'_, ExplainLog> {
        let questions = self.inner.caller_questions.lock();
        questions.unwrap_or_else(PoisonError::into_inner)
    }
}

fn whose(key: &ApiKey) -> Option<OrganisationId> {
    (key.role != KeyRole::Platform).then_some(key.organisation.id)
}

/// The name of the secret that makes hashes.
const CALLER_KEY: &str = "caller_hash_key";
