//! Meetings: booked, read, changed, cancelled, brought back.

use std::sync::PoisonError;

use jiff::Timestamp;
use uuid::Uuid;

use super::pins::may_see;
use super::rooms::without_room;
use super::series::{apart, checked};
use super::{BookingError, Bookings, is_conflict, new_id};
use crate::booking::admission::{MeetingId, OrganisationId, Role};
use crate::booking::change::{Change, FieldError, MeetingChange, PINS_STAY, check_external_id};
use crate::booking::key::{ApiKey, ECHO_ORGANISATION, Organisation};
use crate::booking::meeting::{Meeting, MeetingOptions, MeetingState, Schedule, Zone, kept};
use crate::booking::privacy::Pin;
use crate::booking::store::{
    Claim, Conflict, MeetingFilter, NewBooking, PINS_AT_ONCE_MAX, StoreError,
};

/// An `Idempotency-Key` and what it came with.
#[derive(Debug, Clone)]
pub struct Repetition {
    /// The API key.
    pub key: Uuid,
    /// The text of the header.
    pub name: String,
    /// SHA-256 of the body, in hexadecimal.
    pub body_hash: String,
}

/// Which meetings are asked for.
#[derive(Debug, Clone, Default)]
pub struct MeetingQuestion {
    /// Of whom; `None`: of all.
    pub organisation: Option<OrganisationId>,
    /// Not over by then.
    pub from: Option<Timestamp>,
    /// Begun before then.
    pub to: Option<Timestamp>,
    /// In this state now.
    pub state: Option<MeetingState>,
    /// The meetings somebody is in.
    pub live: Vec<MeetingId>,
    /// After this one.
    pub after: Option<(Timestamp, MeetingId)>,
    /// At most so many.
    pub limit: u32,
}

/// Meetings by start, and where to go on.
#[derive(Debug, Clone)]
pub struct MeetingPage {
    /// The meetings; with `state` they may be fewer than asked for though more follow.
    pub items: Vec<Meeting>,
    /// After which the next page begins.
    pub next: Option<(Timestamp, MeetingId)>,
}

impl Bookings {
    /// Books a meeting; `true` if it was booked before by the same request.
    ///
    /// # Errors
    /// Most of [`BookingError`].
    pub async fn create_meeting(
        &self,
        now: Timestamp,
        organisation: &Organisation,
        change: MeetingChange,
        repetition: Option<Repetition>,
    ) -> Result<(Meeting, bool), BookingError> {
        let _in_flight = repetition
            .as_ref()
            .map(|r| InFlight::claim(self, r))
            .transpose()?;
        if let Some(repetition) = &repetition
            && let Some(meeting) = self.booked_before(now, repetition).await?
        {
            return Ok((meeting, true));
        }
        let options = checked(now, change, None)?;
        let meeting = self
            .book(now, organisation, options, &BOTH_ROLES, repetition)
            .await?;
        Ok((meeting, false))
    }

    /// Books a meeting whose options are checked already.
    ///
    /// # Errors
    /// The store's.
    pub async fn book_meeting(
        &self,
        now: Timestamp,
        organisation: &Organisation,
        options: MeetingOptions,
    ) -> Result<Meeting, BookingError> {
        self.book(now, organisation, options, &BOTH_ROLES, None)
            .await
    }

    /// A meeting that this key may see.
    ///
    /// # Errors
    /// [`BookingError::NotFound`], or the store's.
    pub async fn meeting(&self, key: &ApiKey, id: MeetingId) -> Result<Meeting, BookingError> {
        let found = self.store().meeting(id).await?;
        found
            .filter(|meeting| !meeting.echo && may_see(key, meeting))
            .ok_or(BookingError::NotFound)
    }

    /// A meeting by the booking system's own name for it.
    ///
    /// # Errors
    /// [`BookingError::NotFound`], or the store's.
    pub async fn meeting_by_external_id(
        &self,
        organisation: &Organisation,
        external_id: &str,
    ) -> Result<Meeting, BookingError> {
        let found = self
            .store()
            .meeting_by_external_id(organisation.id, external_id)
            .await?;
        found.ok_or(BookingError::NotFound)
    }

    /// Meetings by start.
    ///
    /// # Errors
    /// The store's.
    pub async fn list_meetings(
        &self,
        now: Timestamp,
        question: MeetingQuestion,
    ) -> Result<MeetingPage, BookingError> {
        let limit = question.limit as usize;
        let filter = MeetingFilter {
            organisation: question.organisation,
            from: question.from,
            to: question.to,
            state: question.state,
            now,
            after: question.after,
            limit: question.limit.saturating_add(1),
        };
        let mut items = match question.state {
            Some(MeetingState::Live) => self.live_meetings(&question, limit + 1).await?,
            Some(_) | None => self.store().meetings(filter).await?,
        };
        let more = items.len() > limit;
        items.truncate(limit);
        let last = items
            .last()
            .map(|meeting| (meeting.options.schedule.starts_at(), meeting.id));
        if let Some(state) = question.state {
            items
                .retain(|meeting| meeting.state(now, question.live.contains(&meeting.id)) == state);
        }
        Ok(MeetingPage {
            items,
            next: last.filter(|_| more),
        })
    }

    /// Changes what is asked and keeps the rest; the PINs stay.
    ///
    /// # Errors
    /// Most of [`BookingError`].
    pub async fn patch_meeting(
        &self,
        now: Timestamp,
        key: &ApiKey,
        id: MeetingId,
        change: MeetingChange,
        expected: Option<i64>,
    ) -> Result<Meeting, BookingError> {
        for _ in 0..ATTEMPTS_MAX {
            let mut meeting = self.meeting(key, id).await?;
            // A request that is wrong in itself is refused as that, whatever it expects (RFC 9110 section 13.2.1).
            let before = meeting.options.clone();
            meeting.options = checked(now, change.clone(), Some(&before))?;
            if change.room != Change::Keep {
                meeting.room = None;
            }
            meeting.let_pins_follow(&before);
            expect_revision(&meeting, expected)?;
            if meeting.cancelled_at.is_some() {
                return Err(BookingError::Cancelled);
            }
            if meeting.is_retired(now) {
                return Err(BookingError::Retired);
            }
            if change.touches_schedule() {
                meeting.ended_at = None;
            }
            if let Some(changed) = self.keep(now, meeting).await? {
                return Ok(changed);
            }
        }
        Err(BookingError::Changed)
    }

    /// Books, replaces or brings back the meeting of this external id; `true` if it is new.
    /// Within the quarantine its PINs stay what they were.
    ///
    /// # Errors
    /// Most of [`BookingError`].
    pub async fn put_meeting(
        &self,
        now: Timestamp,
        organisation: &Organisation,
        external_id: &str,
        mut change: MeetingChange,
        expected: Option<i64>,
    ) -> Result<(Meeting, bool), BookingError> {
        check_external_id(external_id).map_err(|error| BookingError::Invalid(vec![error]))?;
        if matches!(&change.external_id, Change::Set(other) if other != external_id)
            || change.external_id == Change::Clear
        {
            let error = FieldError::new(
                "external_id",
                "invalid",
                "must be left out or be that of the path",
            );
            return Err(BookingError::Invalid(vec![error]));
        }
        change.external_id = Change::Set(external_id.to_owned());
        let options = checked(now, change, None)?;
        for _ in 0..ATTEMPTS_MAX {
            let found = self
                .store()
                .meeting_by_external_id(organisation.id, external_id)
                .await?;
            let done = match found {
                Some(meeting) => {
                    self.replace(now, organisation, meeting, &options, expected)
                        .await?
                }
                None if expected.is_some() => return Err(BookingError::Changed),
                None => {
                    self.book_unless_taken(now, organisation, &options, &BOTH_ROLES)
                        .await?
                }
            };
            if let Some(done) = done {
                return Ok(done);
            }
        }
        Err(BookingError::Changed)
    }

    /// Cancels a meeting: callers are told so. Its PINs belong to nobody else for the quarantine.
    ///
    /// # Errors
    /// [`BookingError::NotFound`], [`BookingError::Changed`], or the store's.
    pub async fn cancel_meeting(
        &self,
        now: Timestamp,
        key: &ApiKey,
        id: MeetingId,
        expected: Option<i64>,
    ) -> Result<(), BookingError> {
        for _ in 0..ATTEMPTS_MAX {
            let mut meeting = self.meeting(key, id).await?;
            expect_revision(&meeting, expected)?;
            if meeting.cancelled_at.is_some() {
                return Ok(());
            }
            meeting.cancelled_at = Some(kept(now));
            if self.keep(now, meeting).await?.is_some() {
                return Ok(());
            }
        }
        Err(BookingError::Changed)
    }

    /// The PIN of the always-open echo meeting for `probe`; booked the first time.
    ///
    /// # Errors
    /// The store's.
    pub async fn ensure_echo_meeting(&self, now: Timestamp) -> Result<Pin, BookingError> {
        let meeting = match self.store().echo_meeting().await? {
            Some(meeting) => meeting,
            None => self.book_echo_meeting(now).await?,
        };
        let pin = meeting.pin_for(Role::Guest).cloned();
        pin.ok_or_else(|| {
            BookingError::Store(StoreError::Corrupt(
                "the echo meeting has no PIN".to_owned(),
            ))
        })
    }

    async fn book_echo_meeting(&self, now: Timestamp) -> Result<Meeting, BookingError> {
        let new = Organisation {
            id: OrganisationId(new_id(now)?),
            name: ECHO_ORGANISATION.to_owned(),
        };
        let organisation = self.store().organisation_or_new(now, new).await?;
        let mut options = MeetingOptions::new("Echo", Schedule::new(now, None, Zone::utc()));
        options.external_id = Some("echo".to_owned());
        let mut meeting = self.new_meeting(now, &organisation, options)?;
        meeting.echo = true;
        let pins = self.new_pins(now, &meeting, &[Role::Guest])?;
        let booking = NewBooking {
            meeting,
            pins,
            mint: self.inner.mint.clone(),
            claim: None,
        };
        match self.store().book(booking).await {
            // Another node starts at the same time, and was first.
            Err(error) if is_conflict(&error, Conflict::ExternalId) => {
                let echo = self.store().echo_meeting().await?;
                echo.ok_or(BookingError::Store(error))
            }
            booked => Ok(booked?),
        }
    }

    async fn book(
        &self,
        now: Timestamp,
        organisation: &Organisation,
        options: MeetingOptions,
        roles: &[Role],
        repetition: Option<Repetition>,
    ) -> Result<Meeting, BookingError> {
        let meeting = self.new_meeting(now, organisation, options)?;
        let mut pins = self.new_pins(now, &meeting, roles)?;
        // Those of later occurrences come right after it.
        pins.truncate(PINS_AT_ONCE_MAX);
        let claim = repetition.map(|r| Claim {
            key: r.key,
            name: r.name,
            body_hash: r.body_hash,
            meeting: meeting.id,
            created_at: now,
        });
        let booking = NewBooking {
            meeting,
            pins,
            mint: self.inner.mint.clone(),
            claim,
        };
        let booked = self.counted(self.store().book(booking).await);
        let meeting = booked.map_err(without_room)?;
        self.count_occurrence_pins(&meeting.pins);
        self.inner.known.learn_all(now, &meeting);
        Ok(self.with_occurrence_pins(now, meeting).await)
    }

    fn new_meeting(
        &self,
        now: Timestamp,
        organisation: &Organisation,
        options: MeetingOptions,
    ) -> Result<Meeting, BookingError> {
        Ok(Meeting {
            id: MeetingId(new_id(now)?),
            organisation: organisation.id,
            organisation_name: organisation.name.clone(),
            options,
            room: None,
            pins: Vec::new(),
            echo: false,
            cancelled_at: None,
            ended_at: None,
            created_at: kept(now),
            updated_at: kept(now),
            revision: 1,
        })
    }

    /// `None`: somebody else booked it meanwhile.
    pub(super) async fn book_unless_taken(
        &self,
        now: Timestamp,
        organisation: &Organisation,
        options: &MeetingOptions,
        roles: &[Role],
    ) -> Result<Option<(Meeting, bool)>, BookingError> {
        match self
            .book(now, organisation, options.clone(), roles, None)
            .await
        {
            Ok(meeting) => Ok(Some((meeting, true))),
            Err(BookingError::Store(error)) if is_conflict(&error, Conflict::ExternalId) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// `None`: somebody else changed it meanwhile.
    async fn replace(
        &self,
        now: Timestamp,
        organisation: &Organisation,
        mut meeting: Meeting,
        options: &MeetingOptions,
        expected: Option<i64>,
    ) -> Result<Option<(Meeting, bool)>, BookingError> {
        expect_revision(&meeting, expected)?;
        if meeting.is_retired(now) {
            // Its PINs are gone: it gives up the name, and a new one is booked.
            meeting.options.external_id = None;
            let gave_up = self.keep(now, meeting).await?.is_some();
            return if gave_up {
                self.book_unless_taken(now, organisation, options, &BOTH_ROLES)
                    .await
            } else {
                Ok(None)
            };
        }
        if options.pins_per != meeting.options.pins_per {
            let error = FieldError::new("pins_per", "invalid", PINS_STAY);
            return Err(BookingError::Invalid(vec![error]));
        }
        let options = &options.clone().with_edits_of(&meeting.options);
        apart(now, options)?;
        let same = meeting.options == *options
            && meeting.cancelled_at.is_none()
            && meeting.ended_at.is_none();
        if same {
            return Ok(Some((meeting, false)));
        }
        let before = std::mem::replace(&mut meeting.options, options.clone());
        meeting.room = None;
        meeting.let_pins_follow(&before);
        meeting.cancelled_at = None;
        meeting.ended_at = None;
        Ok(self
            .keep(now, meeting)
            .await?
            .map(|meeting| (meeting, false)))
    }

    /// Keeps a changed meeting; `None`: somebody else was faster.
    pub(super) async fn keep(
        &self,
        now: Timestamp,
        mut meeting: Meeting,
    ) -> Result<Option<Meeting>, BookingError> {
        meeting.updated_at = kept(now);
        let gets_room = meeting.room.is_none() && meeting.options.room.is_some();
        let changed = self.store().change(meeting.clone()).await;
        if !changed.map_err(without_room)? {
            return Ok(None);
        }
        meeting.revision += 1;
        if gets_room {
            let kept = self.store().meeting(meeting.id).await?;
            meeting = kept.unwrap_or(meeting);
        }
        self.inner.known.learn_all(now, &meeting);
        Ok(Some(self.with_occurrence_pins(now, meeting).await))
    }

    async fn booked_before(
        &self,
        now: Timestamp,
        repetition: &Repetition,
    ) -> Result<Option<Meeting>, BookingError> {
        let Some(claim) = self
            .store()
            .claimed(repetition.key, &repetition.name)
            .await?
        else {
            return Ok(None);
        };
        let forgotten = Claim {
            created_at: now,
            ..claim.clone()
        }
        .expired_before()
            >= claim.created_at;
        if forgotten {
            return Ok(None);
        }
        if claim.body_hash != repetition.body_hash {
            return Err(BookingError::ClaimMismatch);
        }
        Ok(self.store().meeting(claim.meeting).await?)
    }

    /// The live ones among the question's, in its order.
    async fn live_meetings(
        &self,
        question: &MeetingQuestion,
        limit: usize,
    ) -> Result<Vec<Meeting>, BookingError> {
        let mut found = Vec::new();
        for &id in &question.live {
            found.extend(
                self.store()
                    .meeting(id)
                    .await?
                    .filter(|meeting| question.takes(meeting)),
            );
        }
        found.sort_by_key(|meeting| (meeting.options.schedule.starts_at(), meeting.id));
        found.truncate(limit);
        Ok(found)
    }
}

impl MeetingQuestion {
    fn takes(&self, meeting: &Meeting) -> bool {
        let starts_at = meeting.options.schedule.starts_at();
        !meeting.echo
            && self
                .organisation
                .is_none_or(|owner| owner == meeting.organisation)
            && self
                .from
                .is_none_or(|from| meeting.closes_at().is_none_or(|closes| closes > from))
            && self.to.is_none_or(|to| starts_at < to)
            && self
                .after
                .is_none_or(|after| (starts_at, meeting.id) > after)
    }
}

/// A request with an `Idempotency-Key` that is being answered; its end frees the key.
struct InFlight<'a> {
    bookings: &'a Bookings,
    claim: (Uuid, String),
}

impl<'a> InFlight<'a> {
    fn claim(bookings: &'a Bookings, repetition: &Repetition) -> Result<Self, BookingError> {
        let claim = (repetition.key, repetition.name.clone());
        let mut claims = bookings
            .inner
            .claims
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if claims.insert(claim.clone()) {
            Ok(Self { bookings, claim })
        } else {
            Err(BookingError::ClaimInFlight)
        }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.bookings
            .inner
            .claims
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.claim);
    }
}

pub(super) fn expect_revision(
    meeting: &Meeting,
    expected: Option<i64>,
) -> Result<(), BookingError> {
    if expected.is_none_or(|revision| revision == meeting.revision) {
        Ok(())
    } else {
        Err(BookingError::Changed)
    }
}

/// Whom a booked meeting has PINs for.
pub(super) const BOTH_ROLES: [Role; 2] = [Role::Guest, Role::Host];
/// How often a change is tried against others that are made at the same time.
pub(super) const ATTEMPTS_MAX: usize = 8;
