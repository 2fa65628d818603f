//! Is the server there? Known from how those fared who asked it: nobody asks for the sake of knowing.
//!
//! Who finds no server waits for some seconds. That once was enough: until somebody is answered again, one at
//! a time asks, and the others are told at once that there is no answer. So while it is away nobody waits
//! long, a server that comes back isn't stormed, and it is in use again as soon as the next one has asked.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::booking::store::StoreError;

/// What is known of the server. Written by all who ask it.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// How often it has answered, be it with an error.
    answers: AtomicU64,
    is_away: AtomicBool,
    is_tried: AtomicBool,
}

impl Watch {
    /// Asks, and gives up after some time.
    ///
    /// # Errors
    /// What was answered; [`StoreError::Away`] where nothing was.
    pub(super) async fn ask<T>(
        &self,
        patience: Duration,
        question: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let is_away = self.is_away.load(Ordering::Acquire);
        let attempt = is_away.then(|| Attempt::begin(self));
        if matches!(attempt, Some(None)) {
            return Err(away("it is being looked for"));
        }
        let patience = if is_away { PATIENCE_AWAY } else { patience };
        let before = self.answers.load(Ordering::Acquire);
        let answer = tokio::time::timeout(patience, question)
            .await
            .unwrap_or_else(|_| Err(away("no answer in time")));
        if matches!(answer, Err(StoreError::Away(_) | StoreError::Busy)) {
            self.was_not_there(before);
        } else {
            self.answered();
        }
        answer
    }

    fn answered(&self) {
        self.answers.fetch_add(1, Ordering::AcqRel);
        if self.is_away.swap(false, Ordering::AcqRel) {
            tracing::info!("the database answers again");
        }
    }

    /// Unless it has answered somebody else meanwhile: then it was there, and only too slow.
    fn was_not_there(&self, before: u64) {
        let is_news = self.answers.load(Ordering::Acquire) == before
            && !self.is_away.swap(true, Ordering::AcqRel);
        if is_news {
            tracing::warn!("the database doesn't answer; calls go on, bookings are refused");
        }
    }
}

/// The right to ask while the server is away; free again when it is dropped.
struct Attempt<'a>(&'a Watch);

impl<'a> Attempt<'a> {
    fn begin(watch: &'a Watch) -> Option<Self> {
        let is_mine = !watch.is_tried.swap(true, Ordering::AcqRel);
        is_mine.then(|| Self(watch))
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.0.is_tried.store(false, Ordering::Release);
    }
}

fn away(why: &str) -> StoreError {
    StoreError::Away(why.to_owned())
}

/// No question takes longer than this, whatever the network does.
pub(super) const PATIENCE: Duration = Duration::from_secs(8);
/// A caller listens to silence meanwhile. His look-up asks this, and after it two more things.
pub(super) const PATIENCE_OF_A_CALLER: Duration = Duration::from_secs(3);
/// A little longer than it takes to find no connection.
const PATIENCE_AWAY: Duration = Duration::from_millis(2_500);

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    async fn fails(watch: &Watch) {
        let failed = watch
            .ask(PATIENCE, ready(Err::<(), _>(StoreError::Busy)))
            .await;
        assert_eq!(failed, Err(StoreError::Busy));
    }

    #[tokio::test]
    async fn while_it_is_away_one_asks_and_the_others_hear_so_at_once() {
        let watch = Watch::default();
        fails(&watch).await;
        let asks = watch.ask(PATIENCE, pending::<Result<(), _>>());
        tokio::pin!(asks);
        assert!(futures_util::poll!(&mut asks).is_pending());
        let other = watch.ask(PATIENCE, ready(Ok(()))).await;
        assert_eq!(other, Err(away("it is being looked for")));
        assert_eq!(asks.await, Err(away("no answer in time")));
        assert_eq!(watch.ask(PATIENCE, ready(Ok(1))).await, Ok(1));
        let (one, two) = tokio::join!(
            watch.ask(PATIENCE, ready(Ok(1))),
            watch.ask(PATIENCE, ready(Ok(2)))
        );
        assert_eq!((one, two), (Ok(1), Ok(2)), "it is back for all");
    }

    #[tokio::test]
    async fn who_has_less_patience_finds_out_for_all() {
        let watch = Watch::default();
        let little = Duration::from_millis(1);
        let asked = watch.ask(little, pending::<Result<(), _>>());
        assert_eq!(asked.await, Err(away("no answer in time")));
        assert!(watch.is_away.load(Ordering::Acquire));
        let look_up = PATIENCE_OF_A_CALLER + 2 * PATIENCE_AWAY;
        assert!(look_up < Duration::from_secs(9), "what a look-up has");
    }

    #[tokio::test]
    async fn who_gives_up_leaves_the_turn_to_the_next() {
        let watch = Watch::default();
        fails(&watch).await;
        {
            let asks = watch.ask(PATIENCE, pending::<Result<(), _>>());
            tokio::pin!(asks);
            assert!(futures_util::poll!(&mut asks).is_pending());
        }
        let refusal = StoreError::Conflict(crate::booking::store::Conflict::Other);
        let refused = watch
            .ask(PATIENCE, ready(Err::<(), _>(refusal.clone())))
            .await;
        assert_eq!(refused, Err(refusal), "an error is an answer too");
        assert_eq!(watch.ask(PATIENCE, ready(Ok(1))).await, Ok(1));
    }

    #[tokio::test]
    async fn one_slow_question_is_no_outage_while_others_are_answered() {
        let watch = Watch::default();
        let (release, wait) = tokio::sync::oneshot::channel::<()>();
        let slow = watch.ask(PATIENCE, async move {
            let _released = wait.await;
            Err::<(), _>(StoreError::Busy)
        });
        tokio::pin!(slow);
        assert!(futures_util::poll!(&mut slow).is_pending());
        assert_eq!(watch.ask(PATIENCE, ready(Ok(1))).await, Ok(1));
        drop(release);
        assert_eq!(slow.await, Err(StoreError::Busy));
        let asks = watch.ask(PATIENCE, pending::<Result<(), _>>());
        tokio::pin!(asks);
        assert!(futures_util::poll!(&mut asks).is_pending());
        assert_eq!(
            watch.ask(PATIENCE, ready(Ok(1))).await,
            Ok(1),
            "all may ask"
        );
    }
}
