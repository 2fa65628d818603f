//! API keys: made, listed, revoked, recognised.

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::{BookingError, Bookings, new_id};
use crate::booking::admission::OrganisationId;
use crate::booking::change::FieldError;
use crate::booking::key::{ApiKey, ECHO_ORGANISATION, KeyRole, KeySecret, Organisation, Scope};
use crate::booking::organisation::check_organisation_name;
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
    /// For whom a key acts: itself, or whom a platform key names.
    ///
    /// # Errors
    /// [`BookingError::Forbidden`] if another one's name is given, [`BookingError::Invalid`] if a platform
    /// key names nobody or nobody known.
    pub async fn acting_for(
        &self,
        key: &ApiKey,
        named: Option<&str>,
    ) -> Result<Organisation, BookingError> {
        let invalid = |code, message| {
            Err(BookingError::Invalid(vec![FieldError::new(
                "organisation",
                code,
                message,
            )]))
        };
        match (key.role, named) {
            (KeyRole::Platform, None) => invalid(
                "required",
                "a key of role platform names the organisation it acts for",
            ),
            (KeyRole::Platform, Some(name)) => match self.store().organisation(name).await? {
                Some(organisation) => Ok(organisation),
                None => invalid(
                    "unknown",
                    "there is no such organisation; `voicebridge key create` makes one",
                ),
            },
            (KeyRole::Admin | KeyRole::Operator | KeyRole::Booking | KeyRole::Reader, named) => {
                let own = named.is_none_or(|name| name == key.organisation.name);
                if own {
                    Ok(key.organisation.clone())
                } else {
                    Err(BookingError::Forbidden)
                }
            }
        }
    }

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
        self.create_key_for(now, organisation, new).await
    }

    /// Makes a key for an organisation that is there; the name in `new` isn't looked at.
    ///
    /// # Errors
    /// The store's.
    pub async fn create_key_for(
        &self,
        now: Timestamp,
        organisation: Organisation,
        new: NewKey,
    ) -> Result<(ApiKey, KeySecret), BookingError> {
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

    /// The keys that this key may see, oldest first: those of its organisation, or all.
    ///
    /// # Errors
    /// The store's.
    pub async fn keys_seen_by(&self, asker: &ApiKey) -> Result<Vec<ApiKey>, BookingError> {
        let mut keys = self.store().keys().await?;
        keys.retain(|key| may_manage(asker, key) && key.organisation.name != ECHO_ORGANISATION);
        Ok(keys)
    }

    /// A key that this key may see.
    ///
    /// # Errors
    /// [`BookingError::NotFound`], or the store's.
    pub async fn key_seen_by(&self, asker: &ApiKey, id: Uuid) -> Result<ApiKey, BookingError> {
        let found = self.store().key(id).await?;
        found
            .filter(|key| may_manage(asker, key))
            .ok_or(BookingError::NotFound)
    }

    /// Makes a key like this one, which is good for a while yet so that nobody is locked out meanwhile.
    ///
    /// # Errors
    /// [`BookingError::NotFound`] if it is no good any more, or the store's.
    pub async fn rotate_key(
        &self,
        now: Timestamp,
        old: ApiKey,
        grace: SignedDuration,
    ) -> Result<(ApiKey, KeySecret), BookingError> {
        if old.revoked_at.is_some() || old.expires_at.is_some_and(|at| at <= now) {
            return Err(BookingError::NotFound);
        }
        let new = NewKey {
            organisation: old.organisation.name.clone(),
            role: old.role,
            scopes: old.scopes.clone(),
            expires_at: old.expires_at,
        };
        let made = self.create_key_for(now, old.organisation, new).await?;
        let until = now.saturating_add(grace).unwrap_or(now);
        self.store().expire_key(until, old.id).await?;
        Ok(made)
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
        check_organisation_name("organisation", name)
            .map_err(|wrong| BookingError::Invalid(vec![wrong]))?;
        let new = Organisation {
            id: OrganisationId(new_id(now)?),
            name: name.to_owned(),
        };
        Ok(self.store().organisation_or_new(now, new).await?)
    }
}

/// A platform key manages all keys, others those of their organisation, but no platform key.
fn may_manage(asker: &ApiKey, key: &ApiKey) -> bool {
    asker.role == KeyRole::Platform
        || (key.organisation.id == asker.organisation.id && key.role != KeyRole::Platform)
}
