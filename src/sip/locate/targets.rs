//! Which of the places that a name leads to is used, and which are left alone because they failed.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::{Found, Target};
use crate::config::SipTransport;
use crate::sip::timers::earliest;

/// See the module's text. One of them is used at a time; a better one takes its place once it may be tried again.
#[derive(Debug, Default)]
pub struct Targets {
    /// The best first.
    found: Vec<(Target, u16)>,
    left: Vec<Left>,
    current: Option<Target>,
    /// Those that were reached.
    shown: Vec<Target>,
    looked_at: Option<Instant>,
    look_again: Option<Instant>,
}

/// Why a target is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Nothing came back.
    #[error("no answer")]
    NoAnswer,
    /// It wants no more for now.
    #[error("answered {0}")]
    Status(u16),
    /// Nobody takes connections there.
    #[error("connection refused")]
    Refused,
    /// It isn't whom we want, or speaks TLS in another way.
    #[error("TLS failed")]
    Tls,
    /// It hangs up at once.
    #[error("it closes the connection")]
    Closes,
    /// No socket of ours, or no route, leads there.
    #[error("no way there from here")]
    NoWay,
}

/// A target that isn't used for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftAlone {
    /// Which.
    pub target: Target,
    /// What happened there last.
    pub fault: Fault,
    /// How long it is left alone from now on.
    pub rest: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Left {
    target: Target,
    fault: Fault,
    until: Instant,
    /// In a row.
    times: u32,
}

impl Targets {
    /// A look-up has come back. An incomplete one takes nothing away from what is known.
    pub fn take(&mut self, now: Instant, found: Found) {
        self.looked_at = Some(now);
        self.look_again = Some(now + found.ttl);
        if !found.complete && !self.found.is_empty() {
            return;
        }
        self.found = found.targets;
        let found = &self.found;
        let is_found = |target: Target| found.iter().any(|(found, _)| *found == target);
        self.left.retain(|left| is_found(left.target));
        self.shown.retain(|target| is_found(*target));
    }

    /// A look-up has failed: what was found before stays good, and is looked for again after `pause`.
    pub fn not_found(&mut self, now: Instant, pause: Duration) {
        self.looked_at = Some(now);
        self.look_again = Some(now + pause);
    }

    /// Is the name to be looked up?
    #[must_use]
    pub fn is_outdated(&self, now: Instant) -> bool {
        self.look_again.is_none_or(|at| at <= now)
    }

    /// What is known has proven wrong: it is looked up as soon as nobody is asked too often.
    pub fn doubt(&mut self) {
        let soon = self.looked_at.map(|at| at + DOUBT_AFTER);
        self.look_again = earliest([self.look_again, soon]);
    }

    /// Nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// What is used.
    #[must_use]
    pub const fn current(&self) -> Option<Target> {
        self.current
    }

    /// Every address that the name leads to, as far as DNS is to be believed: where a certificate is to be shown what
    /// counts is who has shown it, and hasn't failed since. Whoever forges DNS answers can't.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        let all = self.found.iter().map(|(target, _)| *target);
        let is_believed = |target: &Target| match target.transport {
            SipTransport::Udp | SipTransport::Tcp => true,
            SipTransport::Tls => self.shown.contains(target),
        };
        let mut all: Vec<IpAddr> = all
            .filter(is_believed)
            .map(|target| target.at.ip().to_canonical())
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The one to go to now, where that isn't the one that is used: that one is gone or left alone, or a better one may
    /// be tried.
    #[must_use]
    pub fn next(&self, now: Instant) -> Option<Target> {
        let mut free = self.found.iter().filter(|(to, _)| !self.is_left(now, *to));
        let (best, class) = *free.next()?;
        let Some(current) = self.current else {
            return Some(best);
        };
        let known = self.found.iter().find(|(target, _)| *target == current);
        let stays = known.is_some_and(|(_, own)| *own <= class && !self.is_left(now, current));
        (!stays).then_some(best)
    }

    /// Could it go elsewhere, should the one that is used fail?
    #[must_use]
    pub fn has_another(&self, now: Instant) -> bool {
        let mut all = self.found.iter();
        all.any(|(target, _)| Some(*target) != self.current && !self.is_left(now, *target))
    }

    /// All are left alone: the one whose time is up first.
    #[must_use]
    pub fn least_bad(&self) -> Option<Target> {
        let left = self.left.iter().min_by_key(|left| left.until);
        let first = self.found.first().map(|(target, _)| *target);
        left.map(|left| left.target).or(first)
    }

    /// A way leads there now.
    pub fn reached(&mut self, target: Target) {
        self.current = Some(target);
        if !self.shown.contains(&target) {
            self.shown.push(target);
        }
    }

    /// The way there is gone; nothing is held against it.
    pub fn lost(&mut self) {
        self.current = None;
    }

    /// It has answered: what was held against it is forgotten.
    pub fn works(&mut self) {
        let current = self.current;
        self.left.retain(|left| Some(left.target) != current);
    }

    /// It failed and is left alone, longer each time; `wish` is how long it asked for itself.
    pub fn failed(&mut self, now: Instant, target: Target, fault: Fault, wish: Option<Duration>) {
        if fault == Fault::Tls {
            self.shown.retain(|shown| *shown != target);
        }
        let before = self.left.iter().position(|left| left.target == target);
        let before = before.map(|at| self.left.swap_remove(at));
        // The same failure, told by several.
        let again = before.filter(|before| before.until > now);
        if let (Some(again), None) = (again, wish) {
            return self.left.push(again);
        }
        let before = before.map_or(0, |before| before.times);
        let times = again.map_or(before.saturating_add(1), |again| again.times);
        let pause = REST_MIN
            .saturating_mul(1 << (times - 1).min(6))
            .min(REST_MAX);
        let pause = wish.map_or(pause, |wish| wish.clamp(pause.min(REST_MIN), WISH_MAX));
        self.left.push(Left {
            target,
            fault,
            until: now + pause,
            times,
        });
    }

    /// When to look at it all again.
    #[must_use]
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        earliest([self.look_again, self.free_at(now)])
    }

    /// When the next one is left alone no more.
    #[must_use]
    pub fn free_at(&self, now: Instant) -> Option<Instant> {
        let left = self.left.iter().map(|left| left.until);
        left.filter(|until| *until > now).min()
    }

    /// Something is held against the one that is used, from before.
    #[must_use]
    pub fn is_doubted(&self) -> bool {
        let mut left = self.left.iter();
        left.any(|left| Some(left.target) == self.current)
    }

    /// Those that are left alone.
    #[must_use]
    pub fn left_alone(&self, now: Instant) -> Vec<LeftAlone> {
        let left = self.left.iter().filter(|left| left.until > now);
        left.map(|left| LeftAlone {
            target: left.target,
            fault: left.fault,
            rest: left.until.saturating_duration_since(now),
        })
        .collect()
    }

    fn is_left(&self, now: Instant, target: Target) -> bool {
        let mut left = self.left.iter();
        left.any(|left| left.target == target && left.until > now)
    }
}

/// How long a target is left alone at first.
const REST_MIN: Duration = Duration::from_secs(60);
/// However often it failed.
const REST_MAX: Duration = Duration::from_secs(3_600);
/// However long it wished.
const WISH_MAX: Duration = Duration::from_secs(600);
/// After a look-up its outcome is believed for so long, whatever happens.
const DOUBT_AFTER: Duration = Duration::from_secs(10);

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    fn target(last: u8) -> Target {
        Target {
            transport: SipTransport::Udp,
            at: SocketAddr::from(([192, 0, 2, last], 5060)),
        }
    }

    use std::net::SocketAddr;

    fn found(targets: &[(u8, u16)], complete: bool) -> Found {
        Found {
            targets: targets
                .iter()
                .map(|(last, class)| (target(*last), *class))
                .collect(),
            ttl: Duration::from_secs(300),
            complete,
            by: "SRV",
        }
    }

    fn known(now: Instant, targets: &[(u8, u16)]) -> Targets {
        let mut all = Targets::default();
        assert!(all.is_outdated(now) && all.is_empty());
        all.take(now, found(targets, true));
        all
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn who_fails_is_left_alone_and_comes_back_when_his_time_is_up() {
        let start = Instant::now();
        let mut all = known(start, &[(1, 0), (2, 1), (3, 1)]);
        assert_eq!(all.next(start), Some(target(1)));
        all.reached(target(1));
        assert_eq!((all.next(start), all.has_another(start)), (None, true));
        all.failed(start, target(1), Fault::NoAnswer, None);
        assert_eq!(all.next(start), Some(target(2)));
        all.reached(target(2));
        assert_eq!(all.next(start), None);
        let left = all.left_alone(start);
        assert_eq!((left.len(), left[0].target), (1, target(1)));
        assert_eq!(left[0].fault.to_string(), "no answer");
        assert_eq!(all.deadline(start), Some(start + seconds(60)));
        // Back to the better one; it fails again, and is left alone for longer.
        let later = start + seconds(60);
        assert_eq!(all.next(later), Some(target(1)));
        all.failed(later, target(1), Fault::Refused, None);
        assert_eq!(all.next(later + seconds(119)), None);
        assert_eq!(all.next(later + seconds(120)), Some(target(1)));
        all.reached(target(1));
        all.works();
        all.failed(later + seconds(120), target(1), Fault::Refused, None);
        assert_eq!(all.next(later + seconds(180)), None, "in use already");
        assert_eq!(all.left_alone(later + seconds(180)), []);
    }

    #[test]
    fn many_calls_that_are_refused_at_once_are_one_failure_and_one_that_is_taken_ends_it() {
        let start = Instant::now();
        let mut all = known(start, &[(1, 0), (2, 1)]);
        all.reached(target(1));
        assert!(!all.is_doubted());
        for _ in 0..10 {
            all.failed(start, target(1), Fault::Status(503), Some(seconds(1)));
        }
        let later = start + seconds(60);
        assert_eq!(all.next(later), None, "it is used, and free again");
        assert!(all.is_doubted());
        all.failed(later, target(1), Fault::NoAnswer, None);
        let rest = all.left_alone(later)[0].rest;
        assert_eq!(rest, seconds(120), "the second one");
        all.works();
        assert!(!all.is_doubted());
    }

    #[test]
    fn where_all_fail_one_stays_and_the_first_that_is_free_is_next() {
        let start = Instant::now();
        let mut all = known(start, &[(1, 0), (2, 0)]);
        all.reached(target(1));
        all.failed(start, target(1), Fault::Status(503), Some(seconds(300)));
        all.reached(target(2));
        all.failed(start, target(2), Fault::NoAnswer, None);
        assert_eq!((all.next(start), all.has_another(start)), (None, false));
        assert_eq!(all.least_bad(), Some(target(2)));
        assert_eq!(
            all.next(start + seconds(60)),
            None,
            "it is used, and free again"
        );
        all.failed(start + seconds(60), target(2), Fault::NoAnswer, None);
        all.failed(start + seconds(61), target(2), Fault::Tls, None);
        assert_eq!(
            all.left_alone(start + seconds(61))[0].fault,
            Fault::Status(503)
        );
        assert_eq!(all.next(start + seconds(299)), None);
        // Whoever wishes for a year is asked again all the same.
        all.failed(start, target(1), Fault::Status(503), Some(seconds(1 << 30)));
        assert_eq!(all.next(start + seconds(179)), None);
        all.lost();
        assert_eq!(all.next(start + seconds(601)), Some(target(1)));
    }

    #[test]
    fn what_a_name_leads_to_may_change_but_not_by_a_failure_to_ask() {
        let start = Instant::now();
        let mut all = known(start, &[(1, 0), (2, 1)]);
        all.reached(target(1));
        assert!(!all.is_outdated(start + seconds(299)) && all.is_outdated(start + seconds(300)));
        all.take(start, found(&[(9, 0)], false));
        assert_eq!(all.next(start), None);
        all.not_found(start, seconds(30));
        assert_eq!((all.next(start), all.current()), (None, Some(target(1))));
        all.take(start, found(&[(3, 0), (2, 0)], true));
        assert_eq!(all.next(start), Some(target(3)));
        let addresses = all.addresses();
        assert_eq!(addresses, [target(2).at.ip(), target(3).at.ip()]);
        all.doubt();
        assert_eq!(all.deadline(start), Some(start + seconds(10)));
    }

    #[test]
    fn by_tls_only_those_count_as_the_names_that_have_shown_its_certificate() {
        let start = Instant::now();
        let tls = |last: u8| Target {
            transport: SipTransport::Tls,
            ..target(last)
        };
        let mut answer = found(&[], true);
        answer.targets = vec![(tls(1), 0), (tls(2), 0), (target(3), 0)];
        let mut all = Targets::default();
        all.take(start, answer.clone());
        assert_eq!(all.addresses(), [target(3).at.ip()]);
        all.reached(tls(1));
        all.reached(tls(2));
        assert_eq!(all.addresses().len(), 3);
        all.failed(start, tls(1), Fault::Tls, None);
        assert_eq!(all.addresses(), [target(2).at.ip(), target(3).at.ip()]);
        answer.targets.remove(1);
        all.take(start, answer);
        assert_eq!(all.addresses(), [target(3).at.ip()]);
    }
}
