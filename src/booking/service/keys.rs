//! API keys: made, listed, revoked, recognised.

use jiff::Timestamp;
use uuid::Uuid;

use super::{BookingError, Bookings, new_id};
use crate::booking::admission::OrganisationId;
use crate::booking::change::FieldError;
use crate::booking::key::{
    ApiKey, KeyRole, KeySecret, ORGANISATION_CHARS_MAX, Organisation, Scope, is_organisation_name,
};
use crate::booking::store::StoreError;

/// A key to be made.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// The organisation's name; it is made if there is none.
    pub organisation: String,
    /// What the key may do.
    pub role: KeyRole,
    /// What it may do besides.
    pub scopes: Vec<Scope>,
    /// Until when it is good.
    pub expires_at: Option<Timestamp>,
}

/// Why a request is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Unknown, revoked or expired: not to be told apart.
    #[error("unknown, revoked or expired key")]
    BadKey,
    /// The store can't be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Bookings {
    /// Makes a key. The secret is in the answer and nowhere else.
    ///
    /// # Errors
    /// [`BookingError::Invalid`], or the store's.
    pub async fn create_key(
        &self,
        now: Timestamp,
        new: NewKey,
    ) -> Result<(ApiKey, KeySecret), BookingError> {
        if new.expires_at.is_some_and(|at| at <= now) {
            return Err(BookingError::Invalid(vec![FieldError::new(
                "expires",
                "out_of_range",
                "must be in the future",
            )]));
        }
        let organisation = self.organisation_or_new(now, &new.organisation).await?;
        let secret = KeySecret::generate()?;
        let key = ApiKey {
            id: new_id(now)?,
            organisation,
            role: new.role,
            scopes: new.scopes,
            prefix: secret.prefix().to_owned(),
            created_at: now,
            expires_at: new.expires_at,
            revoked_at: None,
        };
        self.store().insert_key(key.clone(), secret.hash()).await?;
        Ok((key, secret))
    }

    /// All keys, oldest first.
    ///
    /// # Errors
    /// The store's.
    pub async fn list_keys(&self) -> Result<Vec<ApiKey>, BookingError> {
        Ok(self.store().keys().await?)
    }

    /// Revokes a key at once and for ever.
    ///
    /// # Errors
    /// [`BookingError::NotFound`], or the store's.
    pub async fn revoke_key(&self, now: Timestamp, id: Uuid) -> Result<(), BookingError> {
        if self.store().revoke_key(now, id).await? {
            Ok(())
        } else {
            Err(BookingError::NotFound)
        }
    }

    /// Recognises a key as presented.
    ///
    /// # Errors
    /// [`AuthError`].
    pub async fn authenticate(&self, now: Timestamp, presented: &str) -> Result<ApiKey, AuthError> {
        let secret = KeySecret::parse(presented).ok_or(AuthError::BadKey)?;
        let found = self.store().key_by_prefix(secret.prefix()).await?;
        let (key, hash) = found.ok_or(AuthError::BadKey)?;
        let expired = key.expires_at.is_some_and(|at| at <= now);
        if secret.matches(&hash) && key.revoked_at.is_none() && !expired {
            Ok(key)
        } else {
            Err(AuthError::BadKey)
        }
    }

    /// The organisation of this name, made now if there is none.
    ///
    /// # Errors
    /// [`BookingError::Invalid`], or the store's.
    pub async fn organisation_or_new(
        &self,
        now: Timestamp,
        name: &str,
    ) -> Result<Organisation, BookingError> {
        if !is_organisation_name(name) {
            let allowed = format!(
                "1 to {ORGANISATION_CHARS_MAX} characters, no control characters, no space at either end"
            );
            return Err(BookingError::Invalid(vec![FieldError::new(
                "organisation",
                "invalid",
                allowed,
            )]));
        }
        let new = Organisation {
            id: OrganisationId(new_id(now)?),
            name: name.to_owned(),
        };
        Ok(self.store().organisation_or_new(now, new).await?)
    }
}
