//! What must be kept, though the store may be away: tried again until it is kept.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

/// For [`insist`], where one thing that can't be kept must not hold up all that comes after it: an error that won't
/// pass is an outcome like success.
///
/// # Errors
/// What may pass.
pub fn settled<T, E>(
    outcome: Result<T, E>,
    may_pass: impl FnOnce(&E) -> bool,
) -> Result<Result<T, E>, E> {
    match outcome {
        Err(error) if !may_pass(&error) => Ok(Err(error)),
        other => other.map(Ok),
    }
}

/// Tries again with pauses that grow, until it succeeds. `None`: `is_over` said so after some tries in vain,
/// because nobody can wait any longer. The first failure is told as a warning, with `what` it was; the others
/// would say the same.
pub async fn insist<T, E, F>(
    what: &str,
    is_over: impl Fn() -> bool,
    mut attempt: impl FnMut() -> F,
) -> Option<T>
where
    E: Display,
    F: Future<Output = Result<T, E>>,
{
    let mut pause = PAUSE_MIN;
    let mut failures = 0_u32;
    loop {
        let error = match attempt().await {
            Ok(done) => {
                if failures > 0 {
                    tracing::info!(what, failures, "kept, after some tries in vain");
                }
                return Some(done);
            }
            Err(error) => error,
        };
        failures = failures.saturating_add(1);
        if failures == 1 {
            tracing::warn!(what, %error, "can't be kept now, trying again until it can");
        } else {
            tracing::debug!(what, %error, failures, "can't be kept yet");
        }
        if pause == PAUSE_MAX && is_over() {
            return None;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

const PAUSE_MIN: Duration = Duration::from_millis(200);
/// Short enough that nothing is seen of an outage some seconds after its end.
const PAUSE_MAX: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::booking::StoreError;
    use std::cell::{Cell, RefCell};

    #[tokio::test]
    async fn it_is_tried_until_it_succeeds_with_pauses_that_grow() {
        let times = RefCell::new(Vec::new());
        let kept = insist(
            "it",
            || false,
            || {
                times.borrow_mut().push(tokio::time::Instant::now());
                let done = times.borrow().len() == 4;
                async move { if done { Ok(7) } else { Err("away") } }
            },
        );
        assert_eq!(kept.await, Some(7));
        let times = times.borrow();
        let pauses: Vec<u128> = times
            .windows(2)
            .map(|two| (two[1] - two[0]).as_millis())
            .collect();
        let at_least = [200, 400, 800];
        assert_eq!(pauses.len(), at_least.len());
        let grows = pauses
            .iter()
            .zip(at_least)
            .all(|(had, least)| *had >= least);
        assert!(grows, "{pauses:?}");
    }

    #[tokio::test]
    async fn what_can_never_be_kept_is_tried_once() {
        for (error, tries_least) in [
            (StoreError::Misfit("22021".to_owned()), 1),
            (StoreError::Away("down".to_owned()), 5),
        ] {
            let tries = Cell::new(0);
            let kept = insist(
                "it",
                || true,
                || {
                    tries.set(tries.get() + 1);
                    let outcome: Result<(), _> = Err(error.clone());
                    async move { settled(outcome, StoreError::may_pass) }
                },
            )
            .await;
            assert_eq!(tries.get(), tries_least, "{error}");
            assert_eq!(kept, (tries_least == 1).then_some(Err(error)));
        }
    }

    #[tokio::test]
    async fn who_can_wait_no_longer_has_had_some_tries() {
        let tries = Cell::new(0);
        let kept: Option<()> = insist(
            "it",
            || true,
            || {
                tries.set(tries.get() + 1);
                async { Err("away") }
            },
        )
        .await;
        assert_eq!((kept, tries.get()), (None, 5));
    }
}
