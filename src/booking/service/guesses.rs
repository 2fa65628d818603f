//! Guesses at PINs: paid for from this node's share of the failure budget, and that share kept with the store.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::{BookingError, Bookings, new_id};
use crate::booking::admission::SpokenDigits;
use crate::booking::budget::{Attempt, FailureBudget, Guess, HeldBack, Part, Share};
use crate::booking::event::{Event, EventKind};
use crate::booking::pin::NoRandomness;
use crate::booking::store::budget::{Door, ShareClaim};
use crate::booking::store::{Store, StoreError};

/// A failure budget, and how this node shares it with the others.
pub(super) struct SharedBudget {
    pub(super) budget: FailureBudget,
    /// What the store calls the parts in use.
    doors: Vec<(Part, Door)>,
    /// This process.
    holder: Uuid,
    /// One asks at a time; the others hear the answer. How often it was asked.
    asking: Mutex<()>,
    asked: AtomicU64,
}

impl SharedBudget {
    /// Of callers.
    pub(super) fn divided(per_hour: u32, holder: Uuid) -> Result<Self, NoRandomness> {
        let doors = Part::ALL.map(|part| match part {
            Part::Everybody => (part, Door::Callers),
            Part::Regulars => (part, Door::Regulars),
            Part::Peers => (part, Door::Peers),
        });
        Ok(Self::new(
            FailureBudget::new(per_hour)?,
            doors.to_vec(),
            holder,
        ))
    }

    /// Of one door.
    pub(super) fn undivided(door: Door, per_hour: u32, holder: Uuid) -> Result<Self, NoRandomness> {
        let budget = FailureBudget::undivided(per_hour)?;
        Ok(Self::new(budget, vec![(Part::Everybody, door)], holder))
    }

    fn new(budget: FailureBudget, mut doors: Vec<(Part, Door)>, holder: Uuid) -> Self {
        doors.retain(|(part, _)| budget.per_hour(*part) > 0);
        Self {
            budget,
            doors,
            holder,
            asking: Mutex::default(),
            asked: AtomicU64::new(0),
        }
    }

    /// Renews the share: the store is told of guesses, and gives what it can.
    async fn renew(
        &self,
        now: Timestamp,
        store: &dyn Store,
        (part, door): (Part, Door),
    ) -> Result<Share, StoreError> {
        let report = self.budget.report(part, now);
        let claim = ShareClaim {
            door,
            holder: self.holder,
            at: now,
            per_hour: self.budget.per_hour(part),
            report,
        };
        let share = store.share_budget(claim).await;
        match &share {
            Ok(share) => self.budget.take(part, now, report, *share),
            Err(_) => self.budget.go_without(part, now),
        }
        self.asked.fetch_add(1, Ordering::Release);
        share
    }
}

impl Bookings {
    /// A guess that is paid for. Where only others that are being looked at stand in its way, as when a whole
    /// meeting dials in at the hour, they are waited for; where the share is used up, more is asked for.
    pub(super) async fn pay<'a>(
        &'a self,
        now: Timestamp,
        shared: &'a SharedBudget,
        attempt: Attempt<'_>,
    ) -> Result<Guess<'a>, HeldBack> {
        let budget = &shared.budget;
        let turn = async {
            loop {
                let settled = budget.settled();
                let asked = shared.asked.load(Ordering::Acquire);
                match budget.pay(now, attempt) {
                    Err(HeldBack::Unshared(part)) => {
                        self.ask_for_share(now, shared, asked, part).await;
                    }
                    Err(HeldBack::Busy) => settled.await,
                    paid_or_not => return paid_or_not,
                }
            }
        };
        tokio::time::timeout(BUSY_MAX, turn)
            .await
            .unwrap_or(Err(HeldBack::Busy))
    }

    /// Unless somebody else has asked meanwhile.
    async fn ask_for_share(&self, now: Timestamp, shared: &SharedBudget, asked: u64, part: Part) {
        let _turn = shared.asking.lock().await;
        if shared.asked.load(Ordering::Acquire) != asked {
            return;
        }
        for &of in shared.doors.iter().filter(|(each, _)| *each == part) {
            match shared.renew(now, self.store(), of).await {
                Ok(share) => self.tell_if_low(now, shared, of, share).await,
                Err(error) => {
                    tracing::debug!(%error, "no share of the failure budget could be asked for");
                }
            }
        }
    }

    /// Tells the store of wrong PINs, renews this node's shares of the failure budgets, and hears what other nodes
    /// have used up. To be called about once a second.
    ///
    /// # Errors
    /// The store's.
    pub async fn tend_failure_budgets(&self, now: Timestamp) -> Result<(), StoreError> {
        for shared in self.budgets_in_use() {
            let _turn = shared.asking.lock().await;
            for &(part, door) in &shared.doors {
                if shared.budget.report_is_due(part, now) {
                    let share = shared.renew(now, self.store(), (part, door)).await?;
                    self.tell_if_low(now, shared, (part, door), share).await;
                } else {
                    let failed = self.store().failures(door, now).await?;
                    shared.budget.hear(part, now, failed);
                }
            }
        }
        Ok(())
    }

    /// Gives this node's shares back for good: it looks at no more PINs.
    ///
    /// # Errors
    /// The store's. The shares come back by themselves, later.
    pub async fn give_failure_budgets_back(&self, now: Timestamp) -> Result<(), StoreError> {
        for shared in self.budgets_in_use() {
            shared.budget.end();
            let _turn = shared.asking.lock().await;
            for &of in &shared.doors {
                shared.renew(now, self.store(), of).await?;
            }
        }
        Ok(())
    }

    /// Wrong PINs that may still be evaluated within the hour, as far as this node knows.
    #[must_use]
    pub fn failure_budget_remaining(&self) -> u32 {
        self.inner.callers.budget.remaining()
    }

    /// A caller keyed in the digits that he heard, or others, or none.
    pub fn count_challenge(&self, passed: bool) {
        let statistics = &self.inner.statistics;
        let counter = if passed {
            &statistics.challenges_passed
        } else {
            &statistics.challenges_failed
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn budgets_in_use(&self) -> impl Iterator<Item = &SharedBudget> {
        let jitsi =
            Some(&self.inner.conference_guesses).filter(|_| !self.settings().jitsi.is_empty());
        std::iter::once(&self.inner.callers).chain(jitsi)
    }

    /// An alarm, once for all nodes.
    async fn tell_if_low(
        &self,
        now: Timestamp,
        shared: &SharedBudget,
        (part, door): (Part, Door),
        share: Share,
    ) {
        if !share.became_low {
            return;
        }
        let per_hour = shared.budget.per_hour(part);
        let remaining = per_hour.saturating_sub(share.failed_of_all);
        tracing::warn!(
            door = door.word(),
            remaining,
            per_hour,
            "more than half of an hour's wrong PINs are used up: somebody is guessing"
        );
        let told = async {
            let event = Event {
                id: new_id(now)?,
                kind: EventKind::FailureBudgetLow,
                at: now,
                organisation: None,
                meeting: None,
                data: json!({"door": door.word(), "remaining": remaining, "per_hour": per_hour}),
            };
            self.keep_events(vec![event]).await?;
            Ok::<(), BookingError>(())
        };
        if let Err(error) = told.await {
            tracing::warn!(%error, "nobody was told of that but this log");
        }
    }
}

/// Digits that nobody foresees.
pub(super) fn digits_to_say() -> Result<SpokenDigits, NoRandomness> {
    // Of 256 numbers, 200 are twice those below 100.
    loop {
        let mut random = [0_u8];
        getrandom::fill(&mut random).map_err(|_| NoRandomness)?;
        if random[0] < 200 {
            return Ok(SpokenDigits::new(random[0] % 100));
        }
    }
}

/// Look-ups in flight take a few milliseconds; who waits longer is told to try again.
const BUSY_MAX: Duration = Duration::from_secs(5);
