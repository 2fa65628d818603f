//! Organisations: made, read, changed; and the trail of who did what.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

use super::{BookingError, Bookings, new_id};
use crate::booking::admission::OrganisationId;
use crate::booking::audit::{AuditEntry, AuditFilter, Deed};
use crate::booking::change::{Change, FieldError};
use crate::booking::key::{ApiKey, KeyRole, Organisation};
use crate::booking::organisation::{
    OrganisationChange, OrganisationRecord, OrganisationSettings, check_organisation_name,
};
use crate::booking::pin::{LIVE_PINS_PLANNED, PinRules};
use crate::booking::privacy::PrivacyPolicy;
use crate::booking::store::{Conflict, StoreError};

/// Settings read lately; another node's change counts after a moment.
#[derive(Debug, Default)]
pub(super) struct SettingsRead(Mutex<HashMap<OrganisationId, (Timestamp, OrganisationSettings)>>);

impl Bookings {
    /// Makes an organisation.
    ///
    /// # Errors
    /// [`BookingError::Invalid`], a conflict if there is one of this name, or the store's.
    pub async fn create_organisation(
        &self,
        now: Timestamp,
        mut asked: OrganisationChange,
    ) -> Result<OrganisationRecord, BookingError> {
        let name = match std::mem::take(&mut asked.name) {
            Change::Set(name) => Ok(name),
            Change::Keep | Change::Clear => Err(FieldError::new("name", "required", "is required")),
        };
        let name = name.and_then(|name| check_organisation_name("name", &name).map(|()| name));
        let settings = asked.apply(OrganisationSettings::default());
        let (name, settings) = match (name, settings) {
            (Ok(name), Ok(settings)) => (name, settings),
            (name, settings) => {
                let wrong = name
                    .err()
                    .into_iter()
                    .chain(settings.err().into_iter().flatten());
                return Err(BookingError::Invalid(wrong.collect()));
            }
        };
        let own = PinRules::default();
        self.expect_safe_pins(now, KeyRole::Platform, &own, &settings.pin)
            .await?;
        let new = OrganisationRecord {
            organisation: Organisation {
                id: OrganisationId(new_id(now)?),
                name,
            },
            settings,
            created_at: crate::booking::meeting::kept(now),
            revision: 1,
        };
        match self.store().new_organisation(new.clone()).await {
            Err(StoreError::Conflict(Conflict::Other)) => {
                let taken = FieldError::new("name", "taken", "is the name of another organisation");
                Err(BookingError::Invalid(vec![taken]))
            }
            done => Ok(done.map(|()| new)?),
        }
    }

    /// An organisation that this key may see: its own, or any for a platform key.
    ///
    /// # Errors
    /// [`BookingError::NotFound`], or the store's.
    pub async fn organisation(
        &self,
        key: &ApiKey,
        id: OrganisationId,
    ) -> Result<OrganisationRecord, BookingError> {
        if key.role != KeyRole::Platform && key.organisation.id != id {
            return Err(BookingError::NotFound);
        }
        let found = self.store().organisation_record(id).await?;
        found
            .filter(|found| found.organisation.name != crate::booking::key::ECHO_ORGANISATION)
            .ok_or(BookingError::NotFound)
    }

    /// The organisations that this key may see, oldest first.
    ///
    /// # Errors
    /// The store's.
    pub async fn list_organisations(
        &self,
        key: &ApiKey,
    ) -> Result<Vec<OrganisationRecord>, BookingError> {
        if key.role == KeyRole::Platform {
            return Ok(self.store().organisation_records().await?);
        }
        Ok(vec![self.organisation(key, key.organisation.id).await?])
    }

    /// Changes what is asked of an organisation and keeps the rest.
    ///
    /// # Errors
    /// [`BookingError::Invalid`], [`BookingError::Changed`], [`BookingError::NotFound`], or the store's.
    pub async fn patch_organisation(
        &self,
        now: Timestamp,
        key: &ApiKey,
        id: OrganisationId,
        asked: OrganisationChange,
        expected: Option<i64>,
    ) -> Result<OrganisationRecord, BookingError> {
        let mut record = self.organisation(key, id).await?;
        if asked.name != Change::Keep {
            let fixed = FieldError::new("name", "invalid", "can't be changed");
            return Err(BookingError::Invalid(vec![fixed]));
        }
        // A request that is wrong in itself is refused as that, whatever it expects (RFC 9110 section 13.2.1).
        let before = record.settings.pin.clone();
        record.settings = asked
            .apply(record.settings)
            .map_err(BookingError::Invalid)?;
        self.expect_safe_pins(now, key.role, &before, &record.settings.pin)
            .await?;
        if expected.is_some_and(|revision| revision != record.revision) {
            return Err(BookingError::Changed);
        }
        if !self.store().change_organisation(record.clone()).await? {
            return Err(BookingError::Changed);
        }
        record.revision += 1;
        self.inner.settings_read.forget(id);
        Ok(record)
    }

    /// Rules that leave so few PINs that guessing pays are refused; whoever runs the platform is told with what figures,
    /// which tell of all organisations.
    async fn expect_safe_pins(
        &self,
        now: Timestamp,
        asker: KeyRole,
        before: &PinRules,
        rules: &PinRules,
    ) -> Result<(), BookingError> {
        if rules == before || *rules == PinRules::default() {
            return Ok(());
        }
        let live = self.store().live_pins(now).await?.max(LIVE_PINS_PLANNED);
        let mint = self.inner.mint.under(rules.clone());
        let why = if mint.is_starved() {
            let possible = mint.possible();
            format!(
                "would leave {possible} PINs, fewer than one in a hundred of those that its digits make; forbid less"
            )
        } else if let Some(expected) = mint.too_many_wrong_joins(self.tries_an_hour(), live) {
            let possible = mint.possible();
            let length = mint.length();
            if asker != KeyRole::Platform {
                return Err(unsafe_pins(format!(
                    "would leave {possible} PINs of {length} digits, so few that somebody who guesses may find one; raise pin_length, allow more digits or forbid less"
                )));
            }
            format!(
                "would leave {possible} PINs of {length} digits; with {live} in use and {} wrong tries an hour {expected:.1e} wrong joins in 30 days are to be expected of an attacker, and at most 1e-2 is safe; raise pin_length, allow more digits or forbid less",
                self.tries_an_hour(),
            )
        } else {
            return Ok(());
        };
        Err(unsafe_pins(why))
    }

    /// What an organisation has differently. While the store is away: what was read last; `None`: never, so nobody knows.
    pub(super) async fn settings_of(
        &self,
        now: Timestamp,
        id: OrganisationId,
    ) -> Option<OrganisationSettings> {
        let settings = self.settings_now(now, id).await;
        settings.ok().or_else(|| {
            let read = self.inner.settings_read.get(id);
            read.map(|(_, settings)| settings)
        })
    }

    /// As of some seconds ago at the earliest.
    async fn settings_now(
        &self,
        now: Timestamp,
        id: OrganisationId,
    ) -> Result<OrganisationSettings, StoreError> {
        if let Some((at, settings)) = self.inner.settings_read.get(id)
            && now.duration_since(at).abs() < SETTINGS_FRESH
        {
            return Ok(settings);
        }
        let record = self.store().organisation_record(id).await?;
        let settings = record.map(|record| record.settings).unwrap_or_default();
        self.inner.settings_read.put(now, id, settings.clone());
        Ok(settings)
    }

    /// What is shown of callers of this organisation, nothing while nobody knows; `None`: of callers that reached nobody.
    pub async fn privacy_of(
        &self,
        now: Timestamp,
        organisation: Option<OrganisationId>,
    ) -> PrivacyPolicy {
        let base = self.inner.settings.privacy;
        let Some(id) = organisation else {
            return base;
        };
        let settings = self.settings_of(now, id).await;
        settings.map_or_else(|| base.strictest(), |settings| settings.privacy(base))
    }

    /// What is kept of them. What can't be known now is to be asked again, as what is kept stays: no number that the
    /// organisation wants nobody to keep, and none left out that it needs. Nothing, where asking again wouldn't help.
    ///
    /// # Errors
    /// The store's.
    pub async fn privacy_to_keep(
        &self,
        now: Timestamp,
        organisation: Option<OrganisationId>,
    ) -> Result<PrivacyPolicy, StoreError> {
        let base = self.inner.settings.privacy;
        match organisation {
            Some(id) => match self.settings_now(now, id).await {
                Err(StoreError::Corrupt(_)) => Ok(base.strictest()),
                settings => Ok(settings?.privacy(base)),
            },
            None => Ok(base),
        }
    }

    /// Keeps that something was done.
    ///
    /// # Errors
    /// The store's.
    pub async fn audit(&self, now: Timestamp, deed: Deed) -> Result<(), BookingError> {
        let entry = AuditEntry {
            id: new_id(now)?,
            at: crate::booking::meeting::kept(now),
            deed,
        };
        Ok(self.store().audit(entry).await?)
    }

    /// Who did what, latest first, and whether there is more.
    ///
    /// # Errors
    /// The store's.
    pub async fn audit_trail(
        &self,
        mut filter: AuditFilter,
    ) -> Result<(Vec<AuditEntry>, bool), BookingError> {
        let limit = filter.limit as usize;
        filter.limit = filter.limit.saturating_add(1);
        let mut entries = self.store().audit_entries(filter).await?;
        let more = entries.len() > limit;
        entries.truncate(limit);
        Ok((entries, more))
    }
}

impl SettingsRead {
    fn get(&self, id: OrganisationId) -> Option<(Timestamp, OrganisationSettings)> {
        let read = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        read.get(&id).cloned()
    }

    fn put(&self, now: Timestamp, id: OrganisationId, settings: OrganisationSettings) {
        let mut read = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if read.len() >= SETTINGS_READ_MAX {
            read.clear();
        }
        read.insert(id, (now, settings));
    }

    fn forget(&self, id: OrganisationId) {
        let mut read = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        read.remove(&id);
    }
}

fn unsafe_pins(why: String) -> BookingError {
    BookingError::Invalid(vec![FieldError::new("pin_length", "out_of_range", why)])
}

const SETTINGS_FRESH: SignedDuration = SignedDuration::from_secs(10);
const SETTINGS_READ_MAX: usize = 10_000;
