//! Quotas: how many callers an organisation may have at once, and minutes in a month. Who is in stays in.

use jiff::{SignedDuration, Timestamp};

use super::{BookingError, Bookings};
use crate::booking::admission::{CallId, NoLine, NoLineWhy, PinVerdict, Refusal};
use crate::booking::organisation::{OrganisationRecord, OrganisationSettings};
use crate::booking::store::StoreError;
use crate::booking::store::quotas::{SeatClaim, SeatTurn, Used};

impl Bookings {
    /// Who may come in by his PIN comes in if his organisation may have one more caller, and counts from then on: until
    /// his call's record is kept, or nobody has said for a while that it goes on ([`Self::extend_seats`]). While the
    /// store is away nobody is counted, and nobody kept out.
    pub async fn seat(&self, now: Timestamp, call: CallId, verdict: PinVerdict) -> PinVerdict {
        self.seat_within(now, call, verdict, true).await
    }

    /// As [`Self::seat`], for whoever was in before and only lost the process that held his call: he counts, and is kept
    /// out by no quota.
    pub async fn seat_again(
        &self,
        now: Timestamp,
        call: CallId,
        verdict: PinVerdict,
    ) -> PinVerdict {
        self.seat_within(now, call, verdict, false).await
    }

    /// These calls go on. To be said at least once a minute.
    ///
    /// # Errors
    /// The store's.
    pub async fn extend_seats(&self, now: Timestamp, calls: Vec<CallId>) -> Result<(), StoreError> {
        self.store().extend_seats(calls, later(now)).await
    }

    /// This call is over, and no record of it is to come.
    ///
    /// # Errors
    /// The store's.
    pub async fn leave_seat(&self, call: CallId) -> Result<(), StoreError> {
        self.store().leave_seat(call).await
    }

    /// What an organisation uses now, of what it may.
    ///
    /// # Errors
    /// The store's.
    pub async fn used_by(
        &self,
        now: Timestamp,
        organisation: &OrganisationRecord,
    ) -> Result<Used, BookingError> {
        Ok(self.store().used(organisation.organisation.id, now).await?)
    }

    async fn seat_within(
        &self,
        now: Timestamp,
        call: CallId,
        verdict: PinVerdict,
        limited: bool,
    ) -> PinVerdict {
        let admission = match verdict {
            PinVerdict::Admitted(admission) if !admission.echo => admission,
            PinVerdict::Admitted(_) | PinVerdict::Refused(_) => return verdict,
        };
        let claim = SeatClaim {
            call,
            organisation: admission.organisation,
            at: now,
            counts_until: later(now),
            limited,
        };
        let settings = self.settings_of(now, admission.organisation).await;
        let has_none = |settings: OrganisationSettings| {
            settings.callers_max.is_none() && settings.minutes_per_month.is_none()
        };
        // Where nobody knows, whoever counts him looks.
        if settings.is_some_and(has_none) {
            // He is counted, but needn't wait until that is written down.
            let bookings = self.clone();
            tokio::spawn(async move {
                if let Err(error) = bookings.take_seat(claim).await {
                    tracing::warn!(%call, %error, "a caller could not be counted");
                }
            });
            return PinVerdict::Admitted(admission);
        }
        let why = match self.take_seat(claim).await {
            Ok(SeatTurn::Taken) => return PinVerdict::Admitted(admission),
            Ok(SeatTurn::CallersMax) => NoLineWhy::Callers,
            Ok(SeatTurn::MinutesUsedUp) => NoLineWhy::Minutes,
            Err(error) => {
                tracing::warn!(%call, %error, "a caller could not be counted");
                return PinVerdict::Admitted(admission);
            }
        };
        PinVerdict::Refused(Refusal::NoLine(NoLine {
            why,
            organisation: admission.organisation,
            brand: admission.brand,
            meeting: admission.meeting,
            occurrence: admission.occurrence,
            language: admission.language,
        }))
    }
}

impl Bookings {
    /// A store that has too much to do at once isn't away.
    async fn take_seat(&self, claim: SeatClaim) -> Result<SeatTurn, StoreError> {
        let mut tries = TRIES;
        loop {
            tries -= 1;
            match self.store().take_seat(claim).await {
                Err(StoreError::Busy | StoreError::Locked) if tries > 0 => {}
                done => return done,
            }
        }
    }
}

fn later(now: Timestamp) -> Timestamp {
    now.saturating_add(COUNTS_ON).unwrap_or(Timestamp::MAX)
}

/// How long a caller counts of whom nothing is heard any more.
const COUNTS_ON: SignedDuration = SignedDuration::from_secs(180);
const TRIES: u32 = 3;
