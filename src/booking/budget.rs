//! The failure budget: how many wrong PINs are evaluated in an hour, over all callers together.
//!
//! A guess is paid for before it is looked at and paid back if it was right, so however many come at
//! once, no more wrong ones are evaluated in any hour than the budget has. The last parts are kept
//! for callers of good standing, so that a flood of guesses doesn't keep people out:
//! who failed within the hour gets nothing from the last 30 %, and the last 10 % are for callers that
//! got in before. One number fails at most ten times an hour; who forges it uses up its owner's ten
//! too, so what is held back is answered "please try again in a moment", never "wrong PIN".

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hmac::{Hmac, Mac};
use jiff::Timestamp;
use sha2::Sha256;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::booking::pin::NoRandomness;
use crate::booking::privacy::CallerNumber;

/// The budget of one node. Numbers are kept in memory only, and only as keyed hashes.
pub struct FailureBudget {
    key: [u8; 32],
    per_hour: u32,
    books: Mutex<Books>,
    settled: Notify,
}

/// A guess that was paid for. Dropped without a word nobody learnt anything, so nothing is owed.
#[derive(Debug)]
pub struct Guess<'a> {
    budget: &'a FailureBudget,
    caller: Option<CallerHash>,
    at: Timestamp,
    settled: bool,
}

/// Why a guess is not evaluated now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeldBack {
    /// This caller failed too often within the hour.
    #[error("too many wrong ones from one caller within the hour")]
    Caller,
    /// What is left of the budget is kept for callers of better standing.
    #[error("too many wrong ones within the hour")]
    Everybody,
    /// Guesses that are being looked at may use it up. Once one of them is settled, this one may be paid for.
    #[error("too many at the same time")]
    Busy,
}

impl FailureBudget {
    /// A full budget of `per_hour` wrong guesses.
    ///
    /// # Errors
    /// [`NoRandomness`]: no key for the hashes.
    pub fn new(per_hour: u32) -> Result<Self, NoRandomness> {
        let mut key = [0_u8; 32];
        getrandom::fill(&mut key).map_err(|_| NoRandomness)?;
        Ok(Self {
            key,
            per_hour,
            books: Mutex::default(),
            settled: Notify::new(),
        })
    }

    /// Pays for one guess.
    ///
    /// # Errors
    /// [`HeldBack`]: the guess must not be evaluated.
    pub fn pay(&self, now: Timestamp, caller: &CallerNumber) -> Result<Guess<'_>, HeldBack> {
        let caller = self.hash(caller);
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        books.forget_before(now);
        let failed = caller.map_or(0, |c| books.failed_of(c));
        if failed >= FAILURES_PER_CALLER_MAX {
            return Err(HeldBack::Caller);
        }
        if books.left(self.per_hour) <= self.kept_from(&books, caller, failed) {
            return Err(HeldBack::Everybody);
        }
        let risked = failed + caller.map_or(0, |c| books.in_flight_of(c));
        let spare = books.spare(self.per_hour);
        if risked >= FAILURES_PER_CALLER_MAX || spare <= self.kept_from(&books, caller, risked) {
            return Err(HeldBack::Busy);
        }
        books.in_flight += 1;
        if let Some(caller) = caller {
            *books.in_flight_of.entry(caller).or_default() += 1;
        }
        Ok(Guess {
            budget: self,
            caller,
            at: now,
            settled: false,
        })
    }

    /// Wrong guesses that may still be evaluated within the hour.
    #[must_use]
    pub fn remaining(&self, now: Timestamp) -> u32 {
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        books.forget_before(now);
        books.spare(self.per_hour)
    }

    /// The next guess to be settled; to be asked for before [`Self::pay`], waited for after it.
    pub fn settled(&self) -> Notified<'_> {
        self.settled.notified()
    }

    /// Wrong guesses an hour, as configured.
    #[must_use]
    pub const fn per_hour(&self) -> u32 {
        self.per_hour
    }

    /// What stays in the budget for callers of better standing than this one.
    fn kept_from(&self, books: &Books, caller: Option<CallerHash>, failures: u32) -> u32 {
        match caller {
            Some(_) if failures > 0 => self.per_hour * 3 / 10,
            Some(c) if books.known.contains(&c) => 0,
            Some(_) | None => self.per_hour / 10,
        }
    }

    fn settle(&self, guess: &Guess<'_>, settlement: Settlement) {
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        books.in_flight = books.in_flight.saturating_sub(1);
        if let Some(caller) = guess.caller {
            books.land(caller);
        }
        match (settlement, guess.caller) {
            (Settlement::Right, Some(caller)) => books.remember(caller),
            (Settlement::Wrong, caller) => books.fail(guess.at, caller),
            (Settlement::Right, None) | (Settlement::NeverMade, _) => {}
        }
        drop(books);
        self.settled.notify_waiters();
    }

    /// `None` for withheld numbers: many people share those, so they are never counted as one.
    fn hash(&self, caller: &CallerNumber) -> Option<CallerHash> {
        let number = caller.expose().trim();
        if WITHHELD.iter().any(|w| number.eq_ignore_ascii_case(w)) {
            return None;
        }
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).ok()?;
        mac.update(number.as_bytes());
        let tag = mac.finalize().into_bytes();
        tag.first_chunk::<16>().copied().map(CallerHash)
    }
}

impl std::fmt::Debug for FailureBudget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FailureBudget")
            .field("per_hour", &self.per_hour)
            .finish_non_exhaustive()
    }
}

impl Guess<'_> {
    /// The PIN was a valid one: nothing is owed.
    pub fn was_right(mut self) {
        self.settled = true;
        self.budget.settle(&self, Settlement::Right);
    }

    /// It was not.
    pub fn was_wrong(mut self) {
        self.settled = true;
        self.budget.settle(&self, Settlement::Wrong);
    }
}

impl Drop for Guess<'_> {
    fn drop(&mut self) {
        if !self.settled {
            self.budget.settle(self, Settlement::NeverMade);
        }
    }
}

#[derive(Clone, Copy)]
enum Settlement {
    Right,
    Wrong,
    NeverMade,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct CallerHash([u8; 16]);

impl std::fmt::Debug for CallerHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// What happened within the last hour. Bounded: by the budget, and `known` by its own limit.
#[derive(Default)]
struct Books {
    failures: VecDeque<(Timestamp, Option<CallerHash>)>,
    failed: HashMap<CallerHash, u32>,
    in_flight: u32,
    in_flight_of: HashMap<CallerHash, u32>,
    known: HashSet<CallerHash>,
    known_order: VecDeque<CallerHash>,
}

impl Books {
    /// Guesses in flight not counted.
    fn left(&self, per_hour: u32) -> u32 {
        per_hour.saturating_sub(u32::try_from(self.failures.len()).unwrap_or(u32::MAX))
    }

    /// What is left whatever becomes of the guesses in flight.
    fn spare(&self, per_hour: u32) -> u32 {
        self.left(per_hour).saturating_sub(self.in_flight)
    }

    fn failed_of(&self, caller: CallerHash) -> u32 {
        self.failed.get(&caller).copied().unwrap_or(0)
    }

    fn in_flight_of(&self, caller: CallerHash) -> u32 {
        self.in_flight_of.get(&caller).copied().unwrap_or(0)
    }

    fn forget_before(&mut self, now: Timestamp) {
        let is_old = |at: Timestamp| now.duration_since(at).unsigned_abs() >= HOUR && at < now;
        while self.failures.front().is_some_and(|&(at, _)| is_old(at)) {
            if let Some((_, Some(caller))) = self.failures.pop_front() {
                take_one(&mut self.failed, caller);
            }
        }
    }

    fn fail(&mut self, at: Timestamp, caller: Option<CallerHash>) {
        self.failures.push_back((at, caller));
        if let Some(caller) = caller {
            *self.failed.entry(caller).or_default() += 1;
        }
    }

    fn land(&mut self, caller: CallerHash) {
        take_one(&mut self.in_flight_of, caller);
    }

    fn remember(&mut self, caller: CallerHash) {
        if self.known.insert(caller) {
            self.known_order.push_back(caller);
        }
        if self.known_order.len() > KNOWN_CALLERS_MAX
            && let Some(oldest) = self.known_order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

/// Takes one from a count and forgets counts of nothing.
fn take_one(counts: &mut HashMap<CallerHash, u32>, caller: CallerHash) {
    if let Some(count) = counts.get_mut(&caller) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(&caller);
        }
    }
}

/// Wrong guesses an hour over all callers, where the configuration does not say otherwise.
pub const FAILURE_BUDGET_DEFAULT: u32 = 100;
/// Wrong guesses an hour of one number.
pub const FAILURES_PER_CALLER_MAX: u32 = 10;
const KNOWN_CALLERS_MAX: usize = 10_000;
const HOUR: Duration = Duration::from_secs(3_600);
/// What signalling puts in place of a number that is not shown.
const WITHHELD: [&str; 6] = [
    "",
    "anonymous",
    "unknown",
    "unavailable",
    "restricted",
    "private",
];

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::ToSpan;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn caller(n: u32) -> CallerNumber {
        CallerNumber::new(&format!("+39061{n:06}"))
    }

    #[test]
    fn never_more_wrong_guesses_are_evaluated_in_any_hour_than_the_budget() {
        let budget = FailureBudget::new(100).unwrap();
        let mut evaluated = Vec::new();
        for second in 0..4 * 3_600 {
            if let Ok(guess) = budget.pay(at(second), &caller(second as u32)) {
                guess.was_wrong();
                evaluated.push(second);
            }
        }
        for (i, &start) in evaluated.iter().enumerate() {
            let within = evaluated[i..]
                .iter()
                .take_while(|&&s| s < start + 3_600)
                .count();
            assert!(within <= 100, "{within} from {start}");
        }
        assert!(
            evaluated.len() >= 300,
            "the budget comes back: {}",
            evaluated.len()
        );
    }

    #[test]
    fn guesses_in_flight_are_paid_for() {
        let budget = FailureBudget::new(10).unwrap();
        let guesses: Vec<_> = (0..20)
            .filter_map(|n| budget.pay(at(0), &caller(n)).ok())
            .collect();
        assert_eq!(guesses.len(), 9);
        guesses.into_iter().for_each(Guess::was_wrong);
        assert_eq!(budget.remaining(at(1)), 1);
        assert_eq!(budget.remaining(at(3_600)), 10);
    }

    #[test]
    fn guesses_that_are_looked_at_hold_back_others_only_until_they_are_settled() {
        let budget = FailureBudget::new(100).unwrap();
        let desk = caller(7);
        let mut guesses: Vec<_> = (0..10).map(|_| budget.pay(at(0), &desk).unwrap()).collect();
        assert_eq!(budget.pay(at(0), &desk).unwrap_err(), HeldBack::Busy);
        guesses.pop().unwrap().was_right();
        guesses.push(budget.pay(at(0), &desk).unwrap());
        guesses.into_iter().for_each(Guess::was_wrong);
        assert_eq!(budget.pay(at(0), &desk).unwrap_err(), HeldBack::Caller);
    }

    #[test]
    fn right_guesses_and_those_nobody_got_an_answer_to_cost_nothing() {
        let budget = FailureBudget::new(10).unwrap();
        for n in 0..1_000 {
            budget.pay(at(0), &caller(n)).unwrap().was_right();
            drop(budget.pay(at(0), &caller(n)).unwrap());
        }
        assert_eq!(budget.remaining(at(0)), 10);
    }

    #[test]
    fn callers_of_good_standing_still_get_in_during_an_attack() {
        let budget = FailureBudget::new(100).unwrap();
        let (regular, stranger) = (caller(900_000), caller(900_001));
        budget.pay(at(0), &regular).unwrap().was_right();
        for n in 0..70 {
            budget.pay(at(1), &caller(n)).unwrap().was_wrong();
        }
        assert_eq!(
            budget.pay(at(2), &caller(5)).unwrap_err(),
            HeldBack::Everybody
        );
        budget.pay(at(2), &stranger).unwrap().was_right();
        for n in 100..120 {
            budget.pay(at(3), &caller(n)).unwrap().was_wrong();
        }
        assert_eq!(
            budget.pay(at(4), &caller(200)).unwrap_err(),
            HeldBack::Everybody
        );
        budget.pay(at(4), &regular).unwrap().was_right();
    }

    #[test]
    fn one_number_fails_ten_times_an_hour_and_withheld_numbers_are_nobody() {
        let budget = FailureBudget::new(1_000).unwrap();
        for _ in 0..10 {
            budget.pay(at(0), &caller(1)).unwrap().was_wrong();
        }
        assert_eq!(budget.pay(at(1), &caller(1)).unwrap_err(), HeldBack::Caller);
        assert!(budget.pay(at(3_600), &caller(1)).is_ok());
        for _ in 0..30 {
            budget
                .pay(at(0), &CallerNumber::new("Anonymous"))
                .unwrap()
                .was_wrong();
        }
    }

    #[test]
    fn a_clock_set_back_does_not_open_the_budget() {
        let budget = FailureBudget::new(10).unwrap();
        for n in 0..9 {
            budget.pay(at(7_200), &caller(n)).unwrap().was_wrong();
        }
        let before = at(7_200).checked_sub(2.hours()).unwrap();
        assert_eq!(budget.remaining(before), 1);
    }
}
