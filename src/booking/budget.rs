//! The failure budget: how many wrong PINs are evaluated in an hour, over all callers and nodes together.
//!
//! A guess is paid for before it is looked at and paid back if it was right, so however many come at
//! once, no more wrong ones are evaluated in any hour than the budget has. It has three parts ([`Part`]), so that no kind of
//! caller can use up what another lives from:
//!
//! | part | of the budget | who pays from it |
//! |---|---|---|
//! | everybody's | what the others leave: four fifths | whoever comes, down to half of it; who has shown that he hears ([`Standing::Proven`]), down to a quarter; all of it, if he didn't fail within the hour |
//! | regulars' | a tenth | whose number got in before and didn't fail within the hour, where everybody's holds him back |
//! | peers' | a tenth | calls of trusted peers that bring their PIN, likewise |
//!
//! Whoever is held back though he could still show that he hears is asked to; others are answered "please try again in a
//! moment", never "wrong PIN". After ten failures within the hour a number's callers are asked at once. Nothing more is held against a
//! number, for whoever forges it would hold it against its owner. The same wrong PIN from the same number to the same one is no new guess.
//!
//! The whole lies in the store. A node pays from shares of it (`pot`) that the store keeps for this node alone. What it
//! knows of numbers is its own: on three nodes, one fails thirty times before it is asked.

mod pot;

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hmac::{Hmac, Mac};
use jiff::Timestamp;
use sha2::Sha256;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::booking::admission::Standing;
use crate::booking::pin::NoRandomness;
use crate::booking::privacy::{CallerNumber, Pin};
use pot::{Lack, Pot};
pub use pot::{SHARE_LASTS, Share, ShareReport, more_of};

/// One node's view of the budget. Numbers are kept in memory only, and only as keyed hashes.
pub struct FailureBudget {
    key: [u8; 32],
    books: Mutex<Books>,
    settled: Notify,
}

/// What a guess is paid from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Everybody's.
    Everybody,
    /// Of callers who got in before.
    Regulars,
    /// Of trusted peers' calls that bring their PIN.
    Peers,
}

/// A PIN that somebody would like to have looked at.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// Who.
    pub caller: &'a CallerNumber,
    /// The number that he dialled.
    pub number: Option<&'a str>,
    /// The PIN.
    pub pin: &'a Pin,
    /// What speaks for him.
    pub standing: Standing,
}

/// A guess that was paid for. Dropped without a word nobody learnt anything, so nothing is owed.
#[derive(Debug)]
pub struct Guess<'a> {
    budget: &'a FailureBudget,
    /// `None`: it was found wrong within the hour, so this is no new one.
    part: Option<Part>,
    caller: Option<Hash>,
    attempt: Option<Hash>,
    at: Timestamp,
    settled: bool,
}

/// Why a guess is not evaluated now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeldBack {
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
    #[error("nothing is left of this node's share")]
    Unshared(Part),
    /// Nothing is left of this node's share, and the store gave no more just now.
    #[error(
        "other nodes, or processes that were killed within the hour, hold what is left; or the store is away"
    )]
    NoShare,
}

impl Part {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Everybody, Self::Regulars, Self::Peers];
}

impl FailureBudget {
    /// A full budget of `per_hour` wrong guesses of callers.
    ///
    /// # Errors
    /// [`NoRandomness`]: no key for the hashes.
    pub fn new(per_hour: u32) -> Result<Self, NoRandomness> {
        let reserve = per_hour / 10;
        Self::of([per_hour - 2 * reserve, reserve, reserve])
    }

    /// One that is everybody's.
    ///
    /// # Errors
    /// [`NoRandomness`]: no key for the hashes.
    pub fn undivided(per_hour: u32) -> Result<Self, NoRandomness> {
        Self::of([per_hour, 0, 0])
    }

    fn of(parts: [u32; 3]) -> Result<Self, NoRandomness> {
        let mut key = [0_u8; 32];
        getrandom::fill(&mut key).map_err(|_| NoRandomness)?;
        Ok(Self {
            key,
            books: Mutex::new(Books::new(parts)),
            settled: Notify::new(),
        })
    }

    /// Pays for one guess.
    ///
    /// # Errors
    /// [`HeldBack`]: the guess must not be evaluated.
    pub fn pay(&self, now: Timestamp, attempt: Attempt<'_>) -> Result<Guess<'_>, HeldBack> {
        let hashed = self.hash(&[attempt.caller.expose().trim()]);
        let caller = hashed.filter(|_| !attempt.caller.is_withheld());
        let pair = [
            attempt.caller.expose().trim(),
            attempt.number.unwrap_or_default(),
            attempt.pin.expose(),
        ];
        let made = caller.and_then(|_| self.hash(&pair));
        // A trusted peer may show one number for all its calls: they are not counted as one caller's.
        let caller = caller.filter(|_| attempt.standing != Standing::Trusted);
        let mut books = self.books();
        books.forget_before(now);
        let part = if made.is_some_and(|made| books.wrong.contains_key(&made)) {
            None
        } else {
            Some(books.part_for(now, caller, attempt.standing)?)
        };
        if let Some(part) = part {
            books.take_off(part, caller);
        }
        Ok(Guess {
            budget: self,
            part,
            caller,
            attempt: made,
            at: now,
            settled: false,
        })
    }

    /// What to tell the store of a part. One at a time: until its answer is taken, or known to be lost, no other.
    pub fn report(&self, part: Part, now: Timestamp) -> ShareReport {
        self.books().pot(part).report(now)
    }

    /// The store's answer to a report that was made at `asked_at`.
    pub fn take(&self, part: Part, asked_at: Timestamp, report: ShareReport, share: Share) {
        self.books().pot(part).take(asked_at, report, share);
        self.settled.notify_waiters();
    }

    /// The store gave no answer.
    pub fn go_without(&self, part: Part, now: Timestamp) {
        self.books().pot(part).go_without(now);
    }

    /// What the store knows of all nodes' wrong guesses within the hour.
    pub fn hear(&self, part: Part, now: Timestamp, failed_of_all: u32) {
        self.books().pot(part).hear(now, failed_of_all);
    }

    /// The store is to be told something, or the share to be renewed, or it is not what it should be.
    #[must_use]
    pub fn report_is_due(&self, part: Part, now: Timestamp) -> bool {
        self.books().pot(part).report_is_due(now)
    }

    /// From now on nothing is held: the node ends.
    pub fn end(&self) {
        let mut books = self.books();
        for pot in &mut books.pots {
            pot.ended = true;
        }
    }

    /// Wrong guesses that may still be evaluated within the hour, as far as this node knows.
    #[must_use]
    pub fn remaining(&self) -> u32 {
        self.books().pots.iter().map(Pot::spare).sum()
    }

    /// The next guess to be settled, or more of a share; to be asked for before [`Self::pay`], waited for after it.
    pub fn settled(&self) -> Notified<'_> {
        self.settled.notified()
    }

    /// Wrong guesses an hour that are paid from this part.
    #[must_use]
    pub fn per_hour(&self, part: Part) -> u32 {
        self.books().pot(part).per_hour
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settle(&self, guess: &Guess<'_>, settlement: Settlement) {
        let mut books = self.books();
        if let Some(part) = guess.part {
            books.land(part, guess.caller);
            books.settle(part, guess, settlement);
        }
        if matches!(settlement, Settlement::Right)
            && let Some(caller) = guess.caller
        {
            books.remember(caller);
        }
        drop(books);
        self.settled.notify_waiters();
    }

    fn hash(&self, texts: &[&str]) -> Option<Hash> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).ok()?;
        for text in texts {
            mac.update(text.as_bytes());
            mac.update(&[0]);
        }
        let tag = mac.finalize().into_bytes();
        tag.first_chunk::<16>().copied().map(Hash)
    }
}

impl std::fmt::Debug for FailureBudget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FailureBudget").finish_non_exhaustive()
    }
}

impl Guess<'_> {
    /// The PIN was a valid one: nothing is owed.
    pub fn was_right(self) {
        self.settle(Settlement::Right);
    }

    /// It was not.
    pub fn was_wrong(self) {
        self.settle(Settlement::Wrong);
    }

    /// Nobody knows, as the store is away; only that this node doesn't know it. Nothing of that is held against the caller.
    pub fn was_unknown(self) {
        self.settle(Settlement::Unknown);
    }

    fn settle(mut self, settlement: Settlement) {
        self.settled = true;
        self.budget.settle(&self, settlement);
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
    Unknown,
    NeverMade,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Hash([u8; 16]);

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// What this node knows. Bounded: by the budget, and `known` by its own limit.
struct Books {
    /// By [`Part`].
    pots: [Pot; 3],
    /// Of this node, within the last hour.
    failures: VecDeque<Failure>,
    failed_by: HashMap<Hash, u32>,
    /// Attempts that were paid for and not right.
    wrong: HashMap<Hash, u32>,
    in_flight_of: HashMap<Hash, u32>,
    /// Numbers that got in, and when last, in the order of `entered`.
    known: HashMap<Hash, u64>,
    known_order: VecDeque<(Hash, u64)>,
    entered: u64,
}

struct Failure {
    at: Timestamp,
    caller: Option<Hash>,
    attempt: Option<Hash>,
}

impl Books {
    fn new(parts: [u32; 3]) -> Self {
        Self {
            pots: parts.map(Pot::new),
            failures: VecDeque::new(),
            failed_by: HashMap::new(),
            wrong: HashMap::new(),
            in_flight_of: HashMap::new(),
            known: HashMap::new(),
            known_order: VecDeque::new(),
            entered: 0,
        }
    }

    const fn pot(&mut self, part: Part) -> &mut Pot {
        let [everybody, regulars, peers] = &mut self.pots;
        match part {
            Part::Everybody => everybody,
            Part::Regulars => regulars,
            Part::Peers => peers,
        }
    }

    /// What this guess may be paid from.
    fn part_for(
        &self,
        now: Timestamp,
        caller: Option<Hash>,
        standing: Standing,
    ) -> Result<Part, HeldBack> {
        let Err(why) = self.everybodys(now, caller, standing) else {
            return Ok(Part::Everybody);
        };
        if matches!(why, HeldBack::Busy | HeldBack::Unshared(_)) {
            return Err(why);
        }
        let [_, regulars, peers] = &self.pots;
        let known = caller.is_some_and(|c| self.known.contains_key(&c) && self.failed_of(c) == 0);
        let (part, lack) = match standing {
            Standing::Trusted => (Part::Peers, peers.lack(now, 0)),
            Standing::Unknown | Standing::Proven if known => {
                // Another one may be a failure, with which he is nobody any more.
                let alone = caller.is_none_or(|c| self.in_flight_of(c) == 0);
                let busy = Some(Lack::Busy).filter(|_| !alone);
                (Part::Regulars, busy.or(regulars.lack(now, 0)))
            }
            Standing::Unknown | Standing::Proven => return Err(why),
        };
        match lack {
            None => Ok(part),
            Some(Lack::Busy) => Err(HeldBack::Busy),
            Some(Lack::Share) => Err(HeldBack::Unshared(part)),
            Some(Lack::Everything | Lack::Dry) => Err(why),
        }
    }

    fn everybodys(
        &self,
        now: Timestamp,
        caller: Option<Hash>,
        standing: Standing,
    ) -> Result<(), HeldBack> {
        let [pot, ..] = &self.pots;
        let failed = caller.map_or(0, |c| self.failed_of(c));
        let proven_stops = if failed > 0 { pot.per_hour / 4 } else { 0 };
        let stops = match standing {
            Standing::Proven => proven_stops,
            Standing::Unknown | Standing::Trusted => pot.per_hour / 2,
        };
        let is_proven = standing == Standing::Proven;
        let risked = failed + caller.map_or(0, |c| self.in_flight_of(c));
        let lack = pot.lack(now, stops);
        let lack = if is_proven || risked < UNASKED_FAILURES_MAX {
            lack
        } else if failed < UNASKED_FAILURES_MAX {
            lack.or(Some(Lack::Busy))
        } else {
            Some(Lack::Everything)
        };
        match lack {
            None => Ok(()),
            Some(Lack::Everything) if !is_proven && pot.left() > proven_stops => {
                Err(HeldBack::Unproven)
            }
            Some(Lack::Everything) => Err(HeldBack::Everybody),
            Some(Lack::Busy) => Err(HeldBack::Busy),
            Some(Lack::Share) => Err(HeldBack::Unshared(Part::Everybody)),
            Some(Lack::Dry) => Err(HeldBack::NoShare),
        }
    }

    fn failed_of(&self, caller: Hash) -> u32 {
        self.failed_by.get(&caller).copied().unwrap_or(0)
    }

    fn in_flight_of(&self, caller: Hash) -> u32 {
        self.in_flight_of.get(&caller).copied().unwrap_or(0)
    }

    /// Older than an hour, or from before the clock was set back by as much.
    fn forget_before(&mut self, now: Timestamp) {
        let is_old = |failure: &Failure| now.duration_since(failure.at).unsigned_abs() >= HOUR;
        while let Some(failure) = self.failures.pop_front_if(|failure| is_old(failure)) {
            if let Some(caller) = failure.caller {
                take_one(&mut self.failed_by, caller);
            }
            if let Some(attempt) = failure.attempt {
                take_one(&mut self.wrong, attempt);
            }
        }
    }

    fn take_off(&mut self, part: Part, caller: Option<Hash>) {
        self.pot(part).in_flight += 1;
        if let Some(caller) = caller {
            *self.in_flight_of.entry(caller).or_default() += 1;
        }
    }

    fn land(&mut self, part: Part, caller: Option<Hash>) {
        let pot = self.pot(part);
        pot.in_flight = pot.in_flight.saturating_sub(1);
        if let Some(caller) = caller {
            take_one(&mut self.in_flight_of, caller);
        }
    }

    fn settle(&mut self, part: Part, guess: &Guess<'_>, settlement: Settlement) {
        let caller = match settlement {
            Settlement::Right | Settlement::NeverMade => return,
            Settlement::Wrong => guess.caller,
            Settlement::Unknown => None,
        };
        self.pot(part).fail(guess.at);
        let failure = Failure {
            at: guess.at,
            caller,
            attempt: guess.attempt,
        };
        if let Some(caller) = failure.caller {
            *self.failed_by.entry(caller).or_default() += 1;
        }
        if let Some(attempt) = failure.attempt {
            *self.wrong.entry(attempt).or_default() += 1;
        }
        self.failures.push_back(failure);
    }

    /// Who comes again is forgotten later.
    fn remember(&mut self, caller: Hash) {
        self.entered += 1;
        self.known.insert(caller, self.entered);
        self.known_order.push_back((caller, self.entered));
        if self.known_order.len() > 2 * KNOWN_CALLERS_MAX {
            let known = &self.known;
            self.known_order.retain(|(c, n)| known.get(c) == Some(n));
        }
        while self.known.len() > KNOWN_CALLERS_MAX
            && let Some((oldest, entered)) = self.known_order.pop_front()
        {
            if self.known.get(&oldest) == Some(&entered) {
                self.known.remove(&oldest);
            }
        }
    }
}

/// Takes one from a count and forgets counts of nothing.
fn take_one(counts: &mut HashMap<Hash, u32>, of: Hash) {
    if let Some(count) = counts.get_mut(&of) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(&of);
        }
    }
}

/// Wrong guesses an hour over all callers, where the configuration does not say otherwise.
pub const FAILURE_BUDGET_DEFAULT: u32 = 100;
/// After as many wrong guesses of one number within the hour, its callers show that they hear.
const UNASKED_FAILURES_MAX: u32 = 10;
const KNOWN_CALLERS_MAX: usize = 10_000;
const HOUR: Duration = Duration::from_secs(3_600);

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::{SignedDuration, ToSpan};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    /// A caller's number.
    fn caller(n: u32) -> String {
        format!("+39061{n:06}")
    }

    /// Pays for a PIN that nobody has tried before.
    fn pay_as<'a>(
        budget: &'a FailureBudget,
        now: Timestamp,
        caller: &str,
        standing: Standing,
    ) -> Result<Guess<'a>, HeldBack> {
        let mut random = [0_u8; 8];
        getrandom::fill(&mut random).unwrap();
        let pin = format!("{:010}", u64::from_le_bytes(random) % 10_000_000_000);
        pay_for(budget, now, caller, standing, ("1000", &pin))
    }

    fn pay_for<'a>(
        budget: &'a FailureBudget,
        now: Timestamp,
        caller: &str,
        standing: Standing,
        (number, pin): (&str, &str),
    ) -> Result<Guess<'a>, HeldBack> {
        let attempt = Attempt {
            caller: &CallerNumber::new(caller),
            number: Some(number),
            pin: &Pin::parse(pin).unwrap(),
            standing,
        };
        budget.pay(now, attempt)
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
            let held_by_others: u32 = counting.map(|(_, (held, ..))| held).sum();
            let kept = held.saturating_sub(failed as u32);
            let taken = self.failed(now) + held_by_others + kept;
            let free = per_hour.saturating_sub(taken);
            let held = report.wanted.min(kept + more_of(free.into()) as u32);
            self.shares
                .insert(node, (held, report.failed, now + SHARE_LASTS));
            Share {
                held,
                held_by_others,
                failed_of_all: self.failed(now),
                became_low: false,
            }
        }

        fn renew(&mut self, now: Timestamp, node: u32, budget: &FailureBudget, part: Part) {
            let report = budget.report(part, now);
            let share = self.share(now, node, budget.per_hour(part), report);
            budget.take(part, now, report, share);
        }
    }

    /// A node alone, whose store is asked whenever that may help.
    struct Node(FailureBudget, std::cell::RefCell<[Whole; 3]>);

    impl Node {
        fn new(per_hour: u32) -> Self {
            Self(
                FailureBudget::new(per_hour).unwrap(),
                std::cell::RefCell::default(),
            )
        }

        fn renew(&self, now: Timestamp, part: Part) {
            let whole = &mut self.1.borrow_mut()[part as usize];
            whole.renew(now, 0, &self.0, part);
        }

        fn pay(&self, second: i64, n: u32, standing: Standing) -> Result<Guess<'_>, HeldBack> {
            self.pay_by(second, &caller(n), standing)
        }

        fn pay_by(
            &self,
            second: i64,
            caller: &str,
            standing: Standing,
        ) -> Result<Guess<'_>, HeldBack> {
            loop {
                match pay_as(&self.0, at(second), caller, standing) {
                    Err(HeldBack::Unshared(part)) => self.renew(at(second), part),
                    paid_or_not => return paid_or_not,
                }
            }
        }

        /// How many guesses in a row are evaluated, all wrong, each from the next number.
        fn wrong_ones(&self, second: i64, first: u32, standing: Standing) -> usize {
            let guesses = (first..).map_while(|n| self.pay(second, n, standing).ok());
            guesses.map(Guess::was_wrong).count()
        }

        fn remaining(&self, now: Timestamp) -> u32 {
            for part in Part::ALL {
                self.renew(now, part);
            }
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
            let standing = [Standing::Proven, Standing::Trusted][second as usize % 2];
            if second % 60 == 0 {
                for part in Part::ALL {
                    budget.renew(at(second), part);
                }
            }
            if let Ok(guess) = budget.pay(second, second as u32, standing) {
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
                nodes.push((n, FailureBudget::undivided(per_hour).unwrap()));
            }
            let (mut second, mut next) = (0, 3);
            while second < 4 * 3_600 {
                second += [0, 0, 0, 1, 5, 60, 300][dice.roll(7) as usize];
                let now = at(second);
                let which = dice.roll(nodes.len() as u64) as usize;
                let (name, budget) = &nodes[which];
                let mut try_some = || {
                    let n = dice.roll(8);
                    let mut one = || {
                        let caller = caller(dice.roll(1 << 20) as u32);
                        pay_as(budget, now, &caller, Standing::Proven).ok()
                    };
                    (0..n).filter_map(|_| one()).collect::<Vec<_>>()
                };
                let mut guesses = try_some();
                let report = budget.report(Part::Everybody, now);
                // While the store is asked others come.
                guesses.extend(try_some());
                for guess in guesses {
                    if dice.roll(3) > 0 {
                        guess.was_wrong();
                        evaluated.push(second);
                    }
                }
                // A question may be lost, or its answer, or the whole node.
                match dice.roll(10) {
                    0 => budget.go_without(Part::Everybody, now),
                    1 => {
                        whole.share(now, *name, per_hour, report);
                        budget.go_without(Part::Everybody, now);
                    }
                    2 => {
                        nodes[which] = (next, FailureBudget::undivided(per_hour).unwrap());
                        next += 1;
                    }
                    _ => {
                        let share = whole.share(now, *name, per_hour, report);
                        budget.take(Part::Everybody, now, report, share);
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
        let node = Node::new(100);
        node.pay(0, 0, Standing::Proven).unwrap().was_right();
        let pay = |second, n| pay_as(&node.0, at(second), &caller(n), Standing::Proven);
        let late = SHARE_LASTS.as_secs() - 30;
        let unshared = HeldBack::Unshared(Part::Everybody);
        assert_eq!(pay(late, 1).unwrap_err(), unshared);
        let paid = (1..50).map_while(|n| pay(late - 1, n).ok());
        assert_eq!(paid.map(Guess::was_wrong).count(), 8);
        // Once it is asked in vain, nobody waits for it.
        node.0.go_without(Part::Everybody, at(late - 1));
        assert_eq!(pay(late - 1, 60).unwrap_err(), HeldBack::NoShare);
        assert_eq!(pay(late, 60).unwrap_err(), unshared);
    }

    #[test]
    fn a_pin_that_only_this_node_does_not_know_is_paid_for_and_not_held_against_its_caller() {
        let node = Node::new(100);
        node.pay(0, 1, Standing::Unknown).unwrap().was_right();
        for _ in 0..12 {
            node.pay(0, 1, Standing::Unknown).unwrap().was_unknown();
        }
        assert_eq!(node.remaining(at(0)), 88);
        node.pay(1, 1, Standing::Unknown).unwrap().was_right();
        node.wrong_ones(2, 100, Standing::Proven);
        assert!(node.pay(3, 1, Standing::Unknown).is_ok(), "still a regular");
    }

    #[test]
    fn guesses_in_flight_are_paid_for() {
        let node = Node::new(10);
        let guesses: Vec<_> = (0..20)
            .filter_map(|n| node.pay(0, n, Standing::Proven).ok())
            .collect();
        assert_eq!(guesses.len(), 8);
        assert_eq!(
            node.pay(0, 30, Standing::Proven).unwrap_err(),
            HeldBack::Busy
        );
        guesses.into_iter().for_each(Guess::was_wrong);
        assert_eq!(node.remaining(at(1)), 2);
        assert_eq!(node.remaining(at(3_600)), 10);
    }

    #[test]
    fn right_guesses_and_those_nobody_got_an_answer_to_cost_nothing() {
        let node = Node::new(10);
        for n in 0..1_000 {
            node.pay(0, n, Standing::Proven).unwrap().was_right();
            drop(node.pay(0, n, Standing::Proven).unwrap());
        }
        assert_eq!(node.remaining(at(0)), 10);
    }

    #[test]
    fn below_half_whoever_nothing_speaks_for_is_asked_to_show_that_he_hears() {
        let node = Node::new(100);
        assert_eq!(node.wrong_ones(1, 0, Standing::Unknown), 40);
        let asked = node.pay(2, 500, Standing::Unknown).unwrap_err();
        assert_eq!(asked, HeldBack::Unproven);
        node.pay(2, 500, Standing::Proven).unwrap().was_right();
        // Who fails again and again leaves a quarter to those who don't.
        for n in 0..20 {
            node.pay(3, n, Standing::Proven).unwrap().was_wrong();
        }
        let held_back = node.pay(3, 5, Standing::Proven).unwrap_err();
        assert_eq!(held_back, HeldBack::Everybody);
        assert_eq!(
            node.pay(3, 5, Standing::Unknown).unwrap_err(),
            HeldBack::Everybody,
            "nothing is asked of him in vain"
        );
        node.pay(4, 501, Standing::Proven).unwrap().was_right();
        assert_eq!(node.wrong_ones(5, 1_000, Standing::Proven), 20);
        for standing in [Standing::Unknown, Standing::Proven] {
            let held_back = node.pay(6, 502, standing).unwrap_err();
            assert_eq!(held_back, HeldBack::Everybody);
        }
    }

    #[test]
    fn numbers_that_were_right_once_and_are_forged_then_keep_nobody_out() {
        let node = Node::new(100);
        for n in 0..200 {
            node.pay(0, n, Standing::Unknown).unwrap().was_right();
        }
        // Half of everybody's, and the regulars' part.
        assert_eq!(node.wrong_ones(1, 0, Standing::Unknown), 40 + 10);
        let regular = node.pay(2, 150, Standing::Unknown).unwrap_err();
        assert_eq!(regular, HeldBack::Unproven);
        for (n, standing) in [(150, Standing::Proven), (900, Standing::Proven)] {
            node.pay(2, n, standing).unwrap().was_right();
        }
        node.pay(2, 901, Standing::Trusted).unwrap().was_right();
    }

    #[test]
    fn regulars_are_asked_nothing_while_others_guess_unless_they_fail() {
        let node = Node::new(100);
        for n in [900, 901] {
            node.pay(0, n, Standing::Unknown).unwrap().was_right();
        }
        assert_eq!(node.wrong_ones(1, 0, Standing::Proven), 80);
        let first = node.pay(2, 900, Standing::Unknown).unwrap();
        // A second one at the same time waits for what becomes of the first.
        let second = node.pay(2, 900, Standing::Unknown).unwrap_err();
        assert_eq!(second, HeldBack::Busy);
        first.was_right();
        node.pay(2, 900, Standing::Unknown).unwrap().was_wrong();
        assert!(node.pay(2, 900, Standing::Unknown).is_err());
        node.pay(2, 901, Standing::Unknown).unwrap().was_right();
    }

    #[test]
    fn a_trusted_peer_that_brings_wrong_pins_without_end_keeps_no_caller_out() {
        let node = Node::new(100);
        let pbx = caller(7);
        let brought = || node.pay_by(1, &pbx, Standing::Trusted);
        let wrong = std::iter::from_fn(|| brought().ok());
        assert_eq!(wrong.map(Guess::was_wrong).count(), 40 + 10);
        // Its people show that they hear.
        assert_eq!(brought().unwrap_err(), HeldBack::Unproven);
        for n in [7, 8] {
            node.pay(2, n, Standing::Proven).unwrap().was_right();
        }
        // Nor does whoever guesses keep out what peers bring.
        let node = Node::new(100);
        assert_eq!(node.wrong_ones(1, 0, Standing::Proven), 80);
        node.pay_by(2, &pbx, Standing::Trusted).unwrap().was_right();
    }

    #[test]
    fn the_same_wrong_pin_from_the_same_number_to_the_same_one_is_no_new_guess() {
        let node = Node::new(100);
        node.renew(at(0), Part::Everybody);
        let redial = |second, caller: &str, to, standing| {
            let guess = pay_for(&node.0, at(second), caller, standing, (to, "4815162342"));
            guess.unwrap().was_wrong();
        };
        let (machine, other) = (caller(1), caller(2));
        for second in 0..500 {
            redial(second, &machine, "1000", Standing::Trusted);
            redial(second, &other, "1000", Standing::Unknown);
        }
        assert_eq!(node.remaining(at(500)), 98);
        // By another number it may be right.
        redial(500, &machine, "2000", Standing::Trusted);
        assert_eq!(node.remaining(at(500)), 97);
        // Withheld numbers are many people's.
        redial(500, "anonymous", "1000", Standing::Unknown);
        redial(500, "anonymous", "1000", Standing::Unknown);
        assert_eq!(node.remaining(at(500)), 95);
        // An hour later it is a new one.
        assert_eq!(node.remaining(at(4_500)), 100);
        redial(4_500, &machine, "1000", Standing::Trusted);
        assert_eq!(node.remaining(at(4_500)), 99);
    }

    #[test]
    fn after_ten_failures_a_number_is_asked_to_show_that_it_hears_and_never_locked() {
        let node = Node::new(1_000);
        let at_once: Vec<_> = (0..10)
            .map(|_| node.pay(0, 1, Standing::Unknown).unwrap())
            .collect();
        let eleventh = node.pay(0, 1, Standing::Unknown).unwrap_err();
        assert_eq!(eleventh, HeldBack::Busy);
        at_once.into_iter().for_each(Guess::was_wrong);
        let asked = node.pay(1, 1, Standing::Unknown).unwrap_err();
        assert_eq!(asked, HeldBack::Unproven);
        for _ in 0..20 {
            node.pay(1, 1, Standing::Proven).unwrap().was_wrong();
        }
        node.pay(1, 1, Standing::Proven).unwrap().was_right();
        assert!(node.pay(3_601, 1, Standing::Unknown).is_ok());
        for _ in 0..30 {
            let withheld = node.pay_by(0, "Anonymous", Standing::Unknown);
            withheld.unwrap().was_wrong();
        }
    }

    #[test]
    fn however_many_processes_hold_shares_a_new_one_gets_some() {
        let mut whole = Whole::default();
        let nodes: Vec<_> = (0..30)
            .map(|_| FailureBudget::undivided(100).unwrap())
            .collect();
        let share = |whole: &mut Whole, second, node: u32| {
            let budget = &nodes[node as usize];
            whole.renew(at(second), node, budget, Part::Everybody);
            let share = budget.report(Part::Everybody, at(second)).wanted;
            let guess = pay_as(budget, at(second), "", Standing::Unknown);
            guess
                .unwrap_or_else(|why| panic!("{node}: {why:?}"))
                .was_right();
            share
        };
        // The last of many that were killed one after the other.
        let given: Vec<u32> = (0..30).map(|n| share(&mut whole, 0, n)).collect();
        assert_eq!(given[0], 10);
        // All live: what the first have more than the others comes back.
        for second in 1..5 {
            for n in 0..30 {
                share(&mut whole, second, n);
            }
        }
        let held = whole.shares.values().map(|(held, ..)| *held);
        let (least, most) = (held.clone().min().unwrap(), held.max().unwrap());
        assert!(least >= 1 && most < given[0], "{least} to {most}");
    }

    #[test]
    fn what_is_given_back_is_not_paid_from_though_the_answer_is_lost() {
        let budget = FailureBudget::undivided(1_000).unwrap();
        let report = budget.report(Part::Everybody, at(0));
        let share = Share {
            held: 100,
            held_by_others: 0,
            failed_of_all: 0,
            became_low: false,
        };
        budget.take(Part::Everybody, at(0), report, share);
        budget.hear(Part::Everybody, at(1), 900);
        let given_back = budget.report(Part::Everybody, at(1));
        budget.go_without(Part::Everybody, at(1));
        let pay = |n| pay_as(&budget, at(1), &caller(n), Standing::Proven).ok();
        let paid: Vec<_> = (0..100).map_while(pay).collect();
        assert_eq!((given_back.wanted, paid.len()), (10, 10));
    }

    #[test]
    fn who_has_given_its_shares_back_wants_none_again() {
        let node = Node::new(100);
        node.pay(0, 0, Standing::Proven).unwrap().was_right();
        node.0.end();
        node.renew(at(1), Part::Everybody);
        assert!(!node.0.report_is_due(Part::Everybody, at(2)));
        let held_back = node.pay(3, 0, Standing::Proven).unwrap_err();
        assert_eq!(held_back, HeldBack::NoShare);
        assert_eq!(node.1.borrow()[0].shares[&0].0, 0);
    }

    #[test]
    fn a_regular_who_comes_again_is_not_forgotten_before_who_came_once() {
        let node = Node::new(100);
        for n in 0..KNOWN_CALLERS_MAX as u32 + 50 {
            node.pay(0, 900_000, Standing::Unknown).unwrap().was_right();
            node.pay(0, n, Standing::Unknown).unwrap().was_right();
        }
        node.wrong_ones(1, 500_000, Standing::Proven);
        assert!(node.pay(2, 900_000, Standing::Unknown).is_ok());
        assert!(node.pay(2, 1, Standing::Unknown).is_err());
        let books = node.0.books();
        assert_eq!(books.known.len(), KNOWN_CALLERS_MAX);
        assert!(books.known_order.len() <= 2 * KNOWN_CALLERS_MAX);
    }

    #[test]
    fn a_clock_set_back_does_not_open_the_budget() {
        let node = Node::new(10);
        assert_eq!(node.wrong_ones(7_200, 0, Standing::Proven), 8);
        let before = at(7_200).checked_sub(2.hours()).unwrap();
        assert_eq!(node.remaining(before), 2);
    }

    #[test]
    fn what_a_clock_that_was_ahead_saw_counts_for_an_hour() {
        let node = Node::new(100);
        node.pay(86_400, 1, Standing::Unknown).unwrap().was_wrong();
        // It was set right before anything was told.
        node.pay(0, 2, Standing::Unknown).unwrap().was_wrong();
        assert_eq!(node.remaining(at(1)), 98);
        node.pay(10, 3, Standing::Unknown).unwrap().was_wrong();
        assert_eq!(node.remaining(at(11)), 97);
        assert_eq!(node.remaining(at(3_611)), 100);
    }
}
