//! The failure budget: how many wrong PINs are evaluated in an hour, over all callers and nodes together.
//!
//! A guess is paid for before it is looked at and paid back if it was right, so however many come at
//! once, no more wrong ones are evaluated in any hour than the budget has. So that a flood of guesses
//! doesn't keep people out, the less is left the more must speak for a caller ([`FailureBudget::kept_from`]):
//!
//! | left | whose PINs are looked at |
//! |---|---|
//! | more than half | everybody's |
//! | down to 30 % | of who has shown that he hears ([`Standing::Proven`]); others are asked to first |
//! | down to 10 % | as before, but nobody's who failed within the hour |
//! | the last 10 % | of callers that got in before, and of trusted peers' calls that bring their PIN |
//!
//! The last two kinds are never asked to show anything. Whatever is held back is answered "please try again in a moment",
//! never "wrong PIN". One number fails at most ten times an hour; who forges it uses up its owner's ten too.
//!
//! The whole lies in the store. A node pays from a share of it that the store keeps for this node alone, so
//! that a guess needs no question to the store: [`FailureBudget::report`] says what this node's callers
//! guessed wrong and how large a share it would like, [`FailureBudget::take`] what it got. A share is
//! used for [`SHARE_LASTS`] at most unless renewed, and counts as guessed wrong for an hour after that: whatever becomes of the node, the whole is never
//! exceeded. While the store is away the share is all there is.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hmac::{Hmac, Mac};
use jiff::{SignedDuration, Timestamp};
use sha2::Sha256;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::booking::admission::Standing;
use crate::booking::pin::NoRandomness;
use crate::booking::privacy::CallerNumber;

/// One node's view of the budget. Numbers are kept in memory only, and only as keyed hashes.
pub struct FailureBudget {
    key: [u8; 32],
    per_hour: u32,
    books: Mutex<Books>,
    settled: Notify,
}

/// What a node tells the store, and what it would like to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareReport {
    /// Wrong guesses since the process began.
    pub failed: u64,
    /// As many of them as the store knows of, as far as the node knows.
    pub told: u64,
    /// When the last of them was.
    pub failed_at: Timestamp,
    /// Parts the node would like to hold. It doesn't use more of its share from now on.
    pub wanted: u32,
    /// Parts that must be left to be given for others, who may have the last ones.
    pub keeps: u32,
}

/// What a node wants a share for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Whoever comes.
    Anybody,
    /// A caller who may have the last parts of the budget.
    Best,
    /// Nothing more: the node ends.
    End,
}

/// What the store keeps for a node, and what it knows of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Parts that nobody else gets.
    pub held: u32,
    /// Wrong guesses within the hour, of all nodes.
    pub failed_of_all: u32,
    /// With what this node reported just now, half of the budget or less is left, for the first time since there was
    /// more than three quarters.
    pub became_low: bool,
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
    /// He may show that he hears what is said; then it may be evaluated.
    #[error("many wrong ones within the hour, and nothing speaks for the caller")]
    Unproven,
    /// Guesses that are being looked at may use it up. Once one of them is settled, this one may be paid for.
    #[error("too many at the same time")]
    Busy,
    /// Nothing is left of this node's share. With more from the store this one may be paid for.
    #[error("too many at the same time on all nodes")]
    NoShare {
        /// This caller may have the last parts of the budget.
        last: bool,
    },
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
    pub fn pay(
        &self,
        now: Timestamp,
        caller: &CallerNumber,
        standing: Standing,
    ) -> Result<Guess<'_>, HeldBack> {
        // A trusted peer may show one number for all its calls: they are not counted as one caller's.
        let caller = self.hash(caller).filter(|_| standing != Standing::Trusted);
        let mut books = self.books();
        books.forget_before(now);
        let failed = caller.map_or(0, |c| books.failed_of(c));
        if failed >= FAILURES_PER_CALLER_MAX {
            return Err(HeldBack::Caller);
        }
        let left = books.left(self.per_hour);
        if left <= self.kept_from(&books, caller, failed, standing) {
            let proven = self.kept_from(&books, caller, failed, Standing::Proven);
            return Err(if left > proven && standing == Standing::Unknown {
                HeldBack::Unproven
            } else {
                HeldBack::Everybody
            });
        }
        let risked = failed + caller.map_or(0, |c| books.in_flight_of(c));
        let spare = books.spare(self.per_hour);
        let kept = self.kept_from(&books, caller, risked, standing);
        if risked >= FAILURES_PER_CALLER_MAX || spare <= kept {
            return Err(HeldBack::Busy);
        }
        if books.unused_share(now) == 0 {
            let last = kept == 0;
            return Err(HeldBack::NoShare { last });
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

    /// What to tell the store. One at a time: until its answer is taken, or known to be lost, no other.
    pub fn report(&self, purpose: Purpose) -> ShareReport {
        let mut books = self.books();
        let (spare, keeps) = match purpose {
            Purpose::Anybody => (books.spare_share(self.per_hour), self.per_hour / 10),
            Purpose::Best => (1, 0),
            Purpose::End => (0, 0),
        };
        let wanted = books.in_flight + spare;
        // What is given back isn't used any more, whatever becomes of the report.
        books.held = books.held.min(wanted.saturating_add(books.untold()));
        ShareReport {
            failed: books.failed,
            told: books.told,
            failed_at: books.failed_at,
            wanted,
            keeps,
        }
    }

    /// The store's answer to a report that was made at `asked_at`.
    pub fn take(&self, asked_at: Timestamp, report: ShareReport, share: Share) {
        let mut books = self.books();
        books.asked_at = Some(asked_at);
        books.told = report.failed;
        books.held = share.held;
        books.failed_of_all = share.failed_of_all;
        let dry = share.held < report.wanted;
        books.dry = dry;
        books.dry_to_the_last = dry && report.keeps == 0;
        let lasts = SHARE_LASTS - UNUSED_AT_LAST;
        books.usable_until = asked_at.saturating_add(lasts).unwrap_or(Timestamp::MAX);
        drop(books);
        self.settled.notify_waiters();
    }

    /// The store gave no answer.
    pub fn go_without(&self, now: Timestamp) {
        let mut books = self.books();
        books.asked_at = Some(now);
        books.dry = true;
        books.dry_to_the_last = true;
    }

    /// Asking for more may help: there was more the last time, or that was a second ago.
    #[must_use]
    pub fn may_ask(&self, now: Timestamp, purpose: Purpose) -> bool {
        let books = self.books();
        let dry = match purpose {
            Purpose::Anybody | Purpose::End => books.dry,
            Purpose::Best => books.dry_to_the_last,
        };
        drop(books);
        !dry || self.is_stale(now)
    }

    /// What the store knows of all nodes' wrong guesses within the hour.
    pub fn hear(&self, now: Timestamp, failed_of_all: u32) {
        let mut books = self.books();
        books.asked_at = Some(now);
        books.failed_of_all = failed_of_all;
    }

    /// The store is to be told something, or the share to be renewed, or it is not what it should be.
    #[must_use]
    pub fn report_is_due(&self, now: Timestamp) -> bool {
        let books = self.books();
        let renewal = SHARE_LASTS / 2 - UNUSED_AT_LAST;
        let should = books.spare_share(self.per_hour);
        let unused = books.unused_share(now);
        books.failed > books.told
            || books.usable_until.duration_since(now) < renewal
            || unused > should + should / 4
            || unused < should - should / 4
    }

    /// What is known of all nodes is a second old.
    #[must_use]
    pub fn is_stale(&self, now: Timestamp) -> bool {
        let fresh = |at: Timestamp| now.duration_since(at).abs() < STALE_AFTER;
        !self.books().asked_at.is_some_and(fresh)
    }

    /// Wrong guesses that may still be evaluated within the hour, as far as this node knows.
    #[must_use]
    pub fn remaining(&self) -> u32 {
        self.books().spare(self.per_hour)
    }

    /// The next guess to be settled, or more of a share; to be asked for before [`Self::pay`], waited for after it.
    pub fn settled(&self) -> Notified<'_> {
        self.settled.notified()
    }

    /// Wrong guesses an hour, as configured.
    #[must_use]
    pub const fn per_hour(&self) -> u32 {
        self.per_hour
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What stays in the budget for callers of better standing than this one.
    fn kept_from(
        &self,
        books: &Books,
        caller: Option<CallerHash>,
        failures: u32,
        standing: Standing,
    ) -> u32 {
        let known = caller.is_some_and(|c| books.known.contains(&c));
        match standing {
            Standing::Trusted => 0,
            Standing::Unknown | Standing::Proven if known && failures == 0 => 0,
            Standing::Unknown => self.per_hour / 2,
            Standing::Proven if failures > 0 => self.per_hour * 3 / 10,
            Standing::Proven => self.per_hour / 10,
        }
    }

    fn settle(&self, guess: &Guess<'_>, settlement: Settlement) {
        let mut books = self.books();
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
        if caller.is_withheld() {
            return None;
        }
        let number = caller.expose().trim();
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

/// What this node knows. Bounded: by the budget, and `known` by its own limit.
#[derive(Default)]
struct Books {
    /// Of this node, within the last hour.
    failures: VecDeque<(Timestamp, Option<CallerHash>)>,
    failed_by: HashMap<CallerHash, u32>,
    in_flight: u32,
    in_flight_of: HashMap<CallerHash, u32>,
    known: HashSet<CallerHash>,
    known_order: VecDeque<CallerHash>,
    /// Wrong guesses of this node since its process began.
    failed: u64,
    failed_at: Timestamp,
    /// As many of them as the store knows of.
    told: u64,
    /// Within the hour, of all nodes, as far as the store knew.
    failed_of_all: u32,
    /// This node's share. What is in flight or not told yet is part of it.
    held: u32,
    usable_until: Timestamp,
    /// The store had less than was wanted, or wasn't there.
    dry: bool,
    /// Even for those who may have the last parts.
    dry_to_the_last: bool,
    /// When the store was asked last, in vain or not.
    asked_at: Option<Timestamp>,
}

impl Books {
    /// Wrong guesses that the store doesn't know of.
    fn untold(&self) -> u32 {
        u32::try_from(self.failed.saturating_sub(self.told)).unwrap_or(u32::MAX)
    }

    /// Guesses in flight not counted.
    fn left(&self, per_hour: u32) -> u32 {
        let known = self.failed_of_all.saturating_add(self.untold());
        per_hour.saturating_sub(known)
    }

    /// What is left whatever becomes of the guesses in flight.
    fn spare(&self, per_hour: u32) -> u32 {
        self.left(per_hour).saturating_sub(self.in_flight)
    }

    /// What may still be paid from the share.
    fn unused_share(&self, now: Timestamp) -> u32 {
        let held = if now < self.usable_until {
            self.held
        } else {
            0
        };
        held.saturating_sub(self.untold())
            .saturating_sub(self.in_flight)
    }

    /// How much of a share a node should have beyond what is in flight: enough to ask the store seldom, and to go
    /// on without it for a while; less the less there is, so that it doesn't lie idle where it isn't needed.
    fn spare_share(&self, per_hour: u32) -> u32 {
        let left = self.left(per_hour);
        (left / 10).clamp(1, SPARE_SHARE_MAX).min(left)
    }

    fn failed_of(&self, caller: CallerHash) -> u32 {
        self.failed_by.get(&caller).copied().unwrap_or(0)
    }

    fn in_flight_of(&self, caller: CallerHash) -> u32 {
        self.in_flight_of.get(&caller).copied().unwrap_or(0)
    }

    fn forget_before(&mut self, now: Timestamp) {
        let is_old = |at: Timestamp| now.duration_since(at).unsigned_abs() >= HOUR && at < now;
        while self.failures.front().is_some_and(|&(at, _)| is_old(at)) {
            if let Some((_, Some(caller))) = self.failures.pop_front() {
                take_one(&mut self.failed_by, caller);
            }
        }
    }

    fn fail(&mut self, at: Timestamp, caller: Option<CallerHash>) {
        self.failures.push_back((at, caller));
        self.failed += 1;
        self.failed_at = self.failed_at.max(at);
        if let Some(caller) = caller {
            *self.failed_by.entry(caller).or_default() += 1;
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
/// A node that doesn't renew its share may use it for so long.
pub const SHARE_LASTS: SignedDuration = SignedDuration::from_mins(10);
/// Not paid from at the end of that, so that what is in flight is settled when it is over.
const UNUSED_AT_LAST: SignedDuration = SignedDuration::from_secs(30);
const STALE_AFTER: SignedDuration = SignedDuration::from_secs(1);
const SPARE_SHARE_MAX: u32 = 1_000;
const KNOWN_CALLERS_MAX: usize = 10_000;
const HOUR: Duration = Duration::from_secs(3_600);

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

    /// The store's side, to the second.
    #[derive(Default)]
    struct Whole {
        failures: Vec<(Timestamp, u64)>,
        /// By node: held, told, usable until.
        shares: HashMap<u32, (u32, u64, Timestamp)>,
    }

    impl Whole {
        fn failed(&self, now: Timestamp) -> u32 {
            let counts = |at: Timestamp| now.duration_since(at) < SignedDuration::from_hours(1);
            let counted = self.failures.iter().filter(|(at, _)| counts(*at));
            counted.map(|(_, n)| *n as u32).sum()
        }

        fn share(
            &mut self,
            now: Timestamp,
            node: u32,
            per_hour: u32,
            report: ShareReport,
        ) -> Share {
            let (held, told, _) = self
                .shares
                .get(&node)
                .copied()
                .unwrap_or((0, report.told, now));
            let failed = report.failed - told;
            self.failures.push((report.failed_at, failed));
            let others = self.shares.iter().filter(|(n, _)| **n != node);
            let counting = others.filter(|(_, (.., until))| {
                now.duration_since(*until) < SignedDuration::from_hours(1)
            });
            let others: u32 = counting.map(|(_, (held, ..))| held).sum();
            let kept = held.saturating_sub(failed as u32);
            let taken = self.failed(now) + others + kept + report.keeps;
            let free = per_hour.saturating_sub(taken);
            let held = report.wanted.min(kept + free);
            self.shares
                .insert(node, (held, report.failed, now + SHARE_LASTS));
            Share {
                held,
                failed_of_all: self.failed(now),
                became_low: false,
            }
        }

        fn renew(&mut self, now: Timestamp, budget: &FailureBudget, purpose: Purpose) {
            let report = budget.report(purpose);
            let share = self.share(now, 0, budget.per_hour(), report);
            budget.take(now, report, share);
        }
    }

    /// A node alone, whose store is asked whenever that may help.
    struct Node(FailureBudget, std::cell::RefCell<Whole>);

    impl Node {
        fn new(per_hour: u32) -> Self {
            Self(
                FailureBudget::new(per_hour).unwrap(),
                std::cell::RefCell::default(),
            )
        }

        fn pay(&self, now: Timestamp, caller: &CallerNumber) -> Result<Guess<'_>, HeldBack> {
            self.pay_as(now, caller, Standing::Proven)
        }

        fn pay_as(
            &self,
            now: Timestamp,
            caller: &CallerNumber,
            standing: Standing,
        ) -> Result<Guess<'_>, HeldBack> {
            if self.0.is_stale(now) {
                self.1.borrow_mut().renew(now, &self.0, Purpose::Anybody);
            }
            match self.0.pay(now, caller, standing) {
                Err(HeldBack::NoShare { last }) => {
                    let purpose = [Purpose::Anybody, Purpose::Best][usize::from(last)];
                    self.1.borrow_mut().renew(now, &self.0, purpose);
                    self.0.pay(now, caller, standing)
                }
                paid_or_not => paid_or_not,
            }
        }

        fn remaining(&self, now: Timestamp) -> u32 {
            self.1.borrow_mut().renew(now, &self.0, Purpose::Anybody);
            self.0.remaining()
        }
    }

    fn assert_never_above(evaluated: &[i64], most: usize) {
        for (i, &start) in evaluated.iter().enumerate() {
            let within = evaluated[i..].iter().take_while(|&&s| s < start + 3_600);
            let within = within.count();
            assert!(within <= most, "{within} from {start}");
        }
    }

    #[test]
    fn never_more_wrong_guesses_are_evaluated_in_any_hour_than_the_budget() {
        let budget = Node::new(100);
        let mut evaluated = Vec::new();
        for second in 0..4 * 3_600 {
            if let Ok(guess) = budget.pay(at(second), &caller(second as u32)) {
                guess.was_wrong();
                evaluated.push(second);
            }
        }
        assert_never_above(&evaluated, 100);
        assert!(
            evaluated.len() >= 300,
            "the budget comes back: {}",
            evaluated.len()
        );
    }

    #[test]
    fn whatever_becomes_of_nodes_and_answers_the_whole_is_never_exceeded() {
        for seed in 0..60 {
            let mut dice = Dice(seed);
            let per_hour = [5, 20, 100][dice.roll(3) as usize];
            let mut whole = Whole::default();
            let mut nodes: Vec<(u32, FailureBudget)> = Vec::new();
            let mut evaluated = Vec::new();
            for n in 0..3 {
                nodes.push((n, FailureBudget::new(per_hour).unwrap()));
            }
            let (mut second, mut next) = (0, 3);
            while second < 4 * 3_600 {
                second += [0, 0, 0, 1, 5, 60, 300][dice.roll(7) as usize];
                let now = at(second);
                let which = dice.roll(nodes.len() as u64) as usize;
                let (name, budget) = &nodes[which];
                let guesses: Vec<_> = (0..dice.roll(8))
                    .filter_map(|_| {
                        let caller = caller(dice.roll(1 << 20) as u32);
                        budget.pay(now, &caller, Standing::Trusted).ok()
                    })
                    .collect();
                let purpose = [Purpose::Anybody, Purpose::Best][dice.roll(2) as usize];
                let report = budget.report(purpose);
                for guess in guesses {
                    if dice.roll(3) > 0 {
                        guess.was_wrong();
                        evaluated.push(second);
                    }
                }
                // A question may be lost, or its answer, or the whole node.
                match dice.roll(10) {
                    0 => budget.go_without(now),
                    1 => {
                        whole.share(now, *name, per_hour, report);
                        budget.go_without(now);
                    }
                    2 => {
                        nodes[which] = (next, FailureBudget::new(per_hour).unwrap());
                        next += 1;
                    }
                    _ => {
                        let share = whole.share(now, *name, per_hour, report);
                        budget.take(now, report, share);
                    }
                }
            }
            assert_never_above(&evaluated, per_hour as usize);
            assert!(
                evaluated.len() >= per_hour as usize / 2,
                "seed {seed}: {}",
                evaluated.len()
            );
        }
    }

    /// SplitMix64.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, sides: u64) -> u64 {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            (z ^ (z >> 31)) % sides
        }
    }

    #[test]
    fn without_the_store_a_node_goes_on_with_its_share_and_no_longer_than_that_lasts() {
        let budget = Node::new(100);
        budget.pay(at(0), &caller(0)).unwrap().was_right();
        let paid = |second| {
            let guesses =
                (1..50).map_while(|n| budget.0.pay(at(second), &caller(n), Standing::Proven).ok());
            guesses.map(Guess::was_wrong).count()
        };
        let late = SHARE_LASTS.as_secs() - 30;
        assert_eq!(
            budget
                .0
                .pay(at(late), &caller(1), Standing::Proven)
                .unwrap_err(),
            HeldBack::NoShare { last: false }
        );
        assert_eq!(paid(late - 1), 10);
    }

    #[test]
    fn guesses_in_flight_are_paid_for() {
        let budget = Node::new(10);
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
        let budget = Node::new(100);
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
        let budget = Node::new(10);
        for n in 0..1_000 {
            budget.pay(at(0), &caller(n)).unwrap().was_right();
            drop(budget.pay(at(0), &caller(n)).unwrap());
        }
        assert_eq!(budget.remaining(at(0)), 10);
    }

    #[test]
    fn callers_of_good_standing_still_get_in_during_an_attack() {
        let budget = Node::new(100);
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
    fn below_half_whoever_nothing_speaks_for_is_asked_to_show_that_he_hears() {
        let budget = Node::new(100);
        let pay = |second, n, standing| budget.pay_as(at(second), &caller(n), standing);
        pay(0, 900, Standing::Unknown).unwrap().was_right();
        let wrong = (0..80).map_while(|n| pay(1, n, Standing::Unknown).ok());
        assert_eq!(wrong.map(Guess::was_wrong).count(), 50);
        assert_eq!(
            pay(2, 500, Standing::Unknown).unwrap_err(),
            HeldBack::Unproven
        );
        pay(2, 500, Standing::Proven).unwrap().was_right();
        pay(2, 900, Standing::Unknown).unwrap().was_right();
        // Who passes by himself gets no further than the last tenth.
        let wrong = (100..200).map_while(|n| pay(3, n, Standing::Proven).ok());
        assert_eq!(wrong.map(Guess::was_wrong).count(), 40);
        for standing in [Standing::Unknown, Standing::Proven] {
            assert_eq!(pay(4, 501, standing).unwrap_err(), HeldBack::Everybody);
        }
        pay(4, 900, Standing::Unknown).unwrap().was_right();
        pay(4, 0, Standing::Trusted).unwrap().was_right();
        let wrong = (200..300).map_while(|n| pay(5, n, Standing::Trusted).ok());
        assert_eq!(wrong.map(Guess::was_wrong).count(), 10);
    }

    #[test]
    fn one_number_fails_ten_times_an_hour_and_withheld_numbers_are_nobody() {
        let budget = Node::new(1_000);
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
        let budget = Node::new(10);
        for n in 0..9 {
            budget.pay(at(7_200), &caller(n)).unwrap().was_wrong();
        }
        let before = at(7_200).checked_sub(2.hours()).unwrap();
        assert_eq!(budget.remaining(before), 1);
    }
}
