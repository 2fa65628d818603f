//! The numbers people dial: brought by the configuration once, made, read, changed and deleted by the API.
//!
//! Who takes calls needs them at once and while the store is away: each node keeps them all in memory, and
//! reads them anew when the store says that somebody changed one.

use std::sync::{Arc, PoisonError, RwLock};

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::{BookingError, Bookings, is_conflict, new_id};
use crate::booking::change::{Change, FieldError};
use crate::booking::key::{ApiKey, KeyRole, Organisation};
use crate::booking::number::{DialInNumber, NumberChange, NumberPlan, NumberRecord};
use crate::booking::store::{Conflict, StoreError};

/// The numbers as this node knows them, and how often they had been changed then.
#[derive(Debug, Default)]
pub(super) struct KnownNumbers(RwLock<(i64, Arc<NumberPlan>)>);

impl Bookings {
    /// The numbers as this node knows them; what another node changes is known here about a second later.
    #[must_use]
    pub fn numbers(&self) -> Arc<NumberPlan> {
        self.inner.numbers.get().1
    }

    /// Brings numbers of the configuration that were never brought before; what became of others since is
    /// the API's. Gives those that are not, or not any more, as the configuration says.
    ///
    /// # Errors
    /// The store's.
    pub async fn seed_numbers(
        &self,
        now: Timestamp,
        seeds: Vec<DialInNumber>,
    ) -> Result<Vec<String>, BookingError> {
        let mut records = Vec::with_capacity(seeds.len());
        for (place, number) in (0..).zip(&seeds) {
            // One after the other, so that they stay in this order.
            let created_at = now.saturating_add(SignedDuration::from_micros(place));
            records.push(NumberRecord {
                id: new_id(now)?,
                organisation: None,
                number: number.clone(),
                created_at: crate::booking::meeting::kept(created_at.unwrap_or(now)),
                revision: 1,
            });
        }
        self.store().seed_numbers(records).await?;
        self.read_numbers().await?;
        let plan = self.numbers();
        let others = seeds.into_iter().filter(|seed| {
            let there = plan.find(&seed.number);
            there.is_none_or(|there| {
                DialInNumber {
                    toll_free: seed.toll_free,
                    ..there.clone()
                } != *seed
            })
        });
        Ok(others.map(|seed| seed.number).collect())
    }

    /// Reads the numbers anew if somebody changed one.
    ///
    /// # Errors
    /// The store's; what was known stays.
    pub async fn look_for_numbers(&self) -> Result<(), StoreError> {
        if self.store().numbers_revision().await? != self.inner.numbers.get().0 {
            self.read_numbers().await?;
        }
        Ok(())
    }

    /// Makes a number.
    ///
    /// # Errors
    /// [`BookingError::Invalid`], [`Conflict::NumbersMax`], or the store's.
    pub async fn create_number(
        &self,
        now: Timestamp,
        mut asked: NumberChange,
    ) -> Result<NumberRecord, BookingError> {
        let owner = self.owner_of_number(std::mem::take(&mut asked.organisation));
        let (owner, number) = both(owner.await?, asked.apply(None))?;
        let owner = owner.flatten();
        let new = NumberRecord {
            id: new_id(now)?,
            organisation: owner.as_ref().map(|owner| owner.id),
            number: DialInNumber {
                organisation: owner.map(|owner| owner.name),
                ..number
            },
            created_at: crate::booking::meeting::kept(now),
            revision: 1,
        };
        let done = self.store().new_number(new.clone()).await;
        done.map_err(taken)?;
        self.read_what_changed().await;
        Ok(new)
    }

    /// The numbers that lead to this organisation's meetings, oldest first; `None`: all.
    ///
    /// # Errors
    /// The store's.
    pub async fn list_numbers(
        &self,
        organisation: Option<&Organisation>,
    ) -> Result<Vec<NumberRecord>, BookingError> {
        let mut numbers = self.store().numbers().await?;
        numbers.retain(|record| organisation.is_none_or(|o| record.number.serves(&o.name)));
        Ok(numbers)
    }

    /// A number that this key may see: its organisation's, a shared one, or any for a platform key.
    ///
    /// # Errors
    /// [`BookingError::NotFound`], or the store's.
    pub async fn number(&self, key: &ApiKey, id: Uuid) -> Result<NumberRecord, BookingError> {
        let found = self.store().number(id).await?;
        let sees = |record: &NumberRecord| {
            key.role == KeyRole::Platform || record.number.serves(&key.organisation.name)
        };
        found.filter(sees).ok_or(BookingError::NotFound)
    }

    /// Changes what is asked of a number and keeps the rest. A platform key may change all of it; an
    /// organisation how its own one is shown and greets, but not what is dialled and whose it is.
    ///
    /// # Errors
    /// [`BookingError::Forbidden`], [`BookingError::Invalid`], [`BookingError::Changed`],
    /// [`BookingError::NotFound`], or the store's.
    pub async fn patch_number(
        &self,
        key: &ApiKey,
        id: Uuid,
        mut asked: NumberChange,
        expected: Option<i64>,
    ) -> Result<NumberRecord, BookingError> {
        let record = self.number(key, id).await?;
        let is_own = record.organisation == Some(key.organisation.id);
        if key.role != KeyRole::Platform && (!is_own || asked.moves_it()) {
            return Err(BookingError::Forbidden);
        }
        let owner = self.owner_of_number(std::mem::take(&mut asked.organisation));
        let (owner, number) = both(owner.await?, asked.apply(Some(record.number.clone())))?;
        if expected.is_some_and(|revision| revision != record.revision) {
            return Err(BookingError::Changed);
        }
        let mut changed = NumberRecord { number, ..record };
        if let Some(owner) = owner {
            changed.organisation = owner.as_ref().map(|owner| owner.id);
            changed.number.organisation = owner.map(|owner| owner.name);
        }
        let done = self.store().change_number(changed.clone()).await;
        if !done.map_err(taken)? {
            return Err(BookingError::Changed);
        }
        changed.revision += 1;
        self.read_what_changed().await;
        Ok(changed)
    }

    /// Deletes a number: it leads here no more.
    ///
    /// # Errors
    /// [`Conflict::LastNumber`], or the store's.
    pub async fn delete_number(&self, number: &NumberRecord) -> Result<(), BookingError> {
        self.store().delete_number(number.id).await?;
        self.read_what_changed().await;
        Ok(())
    }

    /// What was asked is done by now; if it can't be read, [`Self::look_for_numbers`] does so within a second.
    async fn read_what_changed(&self) {
        if let Err(error) = self.read_numbers().await {
            tracing::warn!(%error, "the changed numbers could not be read; this node tries again");
        }
    }

    /// The revision is read first: what is changed in between is read again soon.
    async fn read_numbers(&self) -> Result<(), StoreError> {
        let revision = self.store().numbers_revision().await?;
        let numbers = self.store().numbers().await?;
        let plan = NumberPlan::new(numbers.into_iter().map(|record| record.number).collect());
        self.inner.numbers.put(revision, plan);
        Ok(())
    }

    /// Whose a number is to be: `None`: that isn't asked, `Some(None)`: everybody's.
    async fn owner_of_number(
        &self,
        asked: Change<String>,
    ) -> Result<Result<Option<Option<Organisation>>, FieldError>, BookingError> {
        Ok(match asked {
            Change::Keep => Ok(None),
            Change::Clear => Ok(Some(None)),
            Change::Set(name) => match self.store().organisation(&name).await? {
                Some(owner) if owner.name != crate::booking::key::ECHO_ORGANISATION => {
                    Ok(Some(Some(owner)))
                }
                Some(_) | None => Err(FieldError::new(
                    "organisation",
                    "unknown",
                    "there is no such organisation",
                )),
            },
        })
    }
}

impl KnownNumbers {
    fn get(&self) -> (i64, Arc<NumberPlan>) {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Nothing older than what is known.
    fn put(&self, revision: i64, plan: NumberPlan) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if revision >= known.0 {
            *known = (revision, Arc::new(plan));
        }
    }
}

fn both<A, B>(
    one: Result<A, FieldError>,
    other: Result<B, Vec<FieldError>>,
) -> Result<(A, B), BookingError> {
    match (one, other) {
        (Ok(one), Ok(other)) => Ok((one, other)),
        (one, other) => {
            let wrong = other.err().into_iter().flatten().chain(one.err());
            Err(BookingError::Invalid(wrong.collect()))
        }
    }
}

fn taken(error: StoreError) -> BookingError {
    if is_conflict(&error, Conflict::Other) {
        let taken = FieldError::new(
            "number",
            "taken",
            "is another number, however it is written",
        );
        BookingError::Invalid(vec![taken])
    } else {
        error.into()
    }
}
