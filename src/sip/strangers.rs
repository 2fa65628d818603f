//! What came from hosts that may be made up, byte for byte: no more than that goes to them. Whoever writes
//! somebody else's address into his datagrams has nothing multiplied by us.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::sip::event::Flow;
use crate::sip::limits::host_of;

/// One account for each host; those that there is no room for share one.
#[derive(Debug)]
pub(crate) struct Strangers {
    accounts: HashMap<IpAddr, Account>,
    others: Account,
    hosts_max: usize,
    swept: Option<Instant>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Account {
    bytes: usize,
    touched: Option<Instant>,
}

impl Strangers {
    pub(crate) fn new(hosts_max: usize) -> Self {
        Self {
            accounts: HashMap::new(),
            others: Account::default(),
            hosts_max,
            swept: None,
        }
    }

    /// So many bytes came from there.
    pub(crate) fn credit(&mut self, now: Instant, source: IpAddr, bytes: usize) {
        let source = host_of(source);
        if !self.accounts.contains_key(&source) && self.accounts.len() >= self.hosts_max {
            self.sweep(now);
        }
        let has_room = self.accounts.len() < self.hosts_max;
        let account = if has_room || self.accounts.contains_key(&source) {
            self.accounts.entry(source).or_default()
        } else {
            &mut self.others
        };
        account.credit(now, bytes);
    }

    /// May so many bytes go there?
    pub(crate) fn covers(&self, now: Instant, source: IpAddr, bytes: usize) -> bool {
        let account = self.accounts.get(&host_of(source));
        account.unwrap_or(&self.others).covers(now, bytes)
    }

    /// May so many bytes go there? Then they are taken off.
    pub(crate) fn spend(&mut self, now: Instant, source: IpAddr, bytes: usize) -> bool {
        let account = self.accounts.get_mut(&host_of(source));
        account.unwrap_or(&mut self.others).spend(now, bytes)
    }

    /// Forgets accounts that nothing happened on for long; at most once a second, since it looks at all of them.
    fn sweep(&mut self, now: Instant) {
        let since = |at: Instant| now.saturating_duration_since(at);
        if self.swept.is_some_and(|at| since(at) < SWEEP_EVERY) {
            return;
        }
        self.swept = Some(now);
        self.accounts.retain(|_, account| account.is_fresh(now));
    }
}

impl Account {
    fn credit(&mut self, now: Instant, bytes: usize) {
        let before = if self.is_fresh(now) { self.bytes } else { 0 };
        self.bytes = before.saturating_add(bytes).min(BYTES_MAX);
        self.touched = Some(now);
    }

    fn spend(&mut self, now: Instant, bytes: usize) -> bool {
        let covers = self.covers(now, bytes);
        if covers {
            self.bytes -= bytes;
        }
        covers
    }

    fn covers(&self, now: Instant, bytes: usize) -> bool {
        self.is_fresh(now) && self.bytes >= bytes
    }

    fn is_fresh(&self, now: Instant) -> bool {
        let unused = |at: Instant| now.saturating_duration_since(at);
        self.touched.is_some_and(|at| unused(at) < KEPT_FOR)
    }
}

/// Whether what is sent to the peer of a call is known to arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reach {
    /// The host that was told our tag first: who repeats it from there has got it.
    told: IpAddr,
    /// The one that has shown that what is sent there arrives.
    shown: Option<IpAddr>,
    looked: Option<Instant>,
}

impl Reach {
    /// We call: nobody has us do it.
    pub(crate) fn of_a_callee(flow: Flow) -> Self {
        Self {
            told: flow.host(),
            shown: Some(flow.host()),
            looked: None,
        }
    }

    pub(crate) fn of_a_caller(flow: Flow) -> Self {
        Self {
            told: flow.host(),
            shown: None,
            looked: None,
        }
    }

    /// A request of the peer came this way, with our tag. Wherever it comes from, who was told that has got it. From
    /// somebody else's address it shows nothing of that: the peer knows our tag by now.
    pub(crate) fn note_request(&mut self, flow: Flow) {
        if self.told == flow.host() {
            self.note_arrival(flow);
        } else {
            self.shown.get_or_insert(self.told);
        }
    }

    /// May it be asked now whether he is there? Once in a while.
    pub(crate) fn may_look(&mut self, now: Instant) -> bool {
        let is_due = |at: Instant| now.saturating_duration_since(at) >= LOOK_EVERY;
        let may = self.looked.is_none_or(is_due);
        if may {
            self.looked = Some(now);
        }
        may
    }

    /// Audio of the peer came from there to the port that only our answer named.
    pub(crate) fn note_audio(&mut self) {
        self.shown.get_or_insert(self.told);
    }

    /// What was sent this way arrived.
    pub(crate) fn note_arrival(&mut self, flow: Flow) {
        self.shown = Some(flow.host());
    }

    /// Does what is sent this way go to nobody who didn't ask for it?
    pub(crate) fn covers(&self, flow: Flow) -> bool {
        self.shown == Some(flow.host())
    }
}

/// What is kept of a host that has sent more: nobody can save up for one burst.
const BYTES_MAX: usize = 64 * 1024;
/// As long as an answer may be repeated, twice.
const KEPT_FOR: Duration = Duration::from_secs(64);
/// As long as its answer may take (RFC 3261 section 17.1.2.2).
const LOOK_EVERY: Duration = Duration::from_secs(32);
const SWEEP_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    fn ip(n: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, n])
    }

    #[test]
    fn no_host_gets_more_than_came_from_it() {
        let now = Instant::now();
        let mut strangers = Strangers::new(9);
        assert!(!strangers.spend(now, ip(1), 1));
        strangers.credit(now, ip(1), 500);
        strangers.credit(now, ip(1), 400);
        assert!(!strangers.spend(now, ip(2), 1));
        assert!(!strangers.spend(now, ip(1), 901));
        assert!(strangers.spend(now, ip(1), 600));
        assert!(strangers.spend(now, ip(1), 300));
        assert!(!strangers.spend(now, ip(1), 1));
    }

    #[test]
    fn nothing_is_saved_up() {
        let now = Instant::now();
        let mut strangers = Strangers::new(9);
        for _ in 0..1000 {
            strangers.credit(now, ip(1), 8000);
        }
        assert!(!strangers.spend(now, ip(1), BYTES_MAX + 1));
        assert!(strangers.spend(now, ip(1), BYTES_MAX));
        strangers.credit(now, ip(1), 100);
        assert!(!strangers.spend(now + KEPT_FOR, ip(1), 100));
    }

    #[test]
    fn a_full_table_has_one_account_for_the_rest_and_forgets_who_is_gone() {
        let now = Instant::now();
        let mut strangers = Strangers::new(2);
        for n in 1..=4 {
            strangers.credit(now, ip(n), 100);
        }
        assert_eq!(strangers.accounts.len(), 2);
        assert!(strangers.spend(now, ip(1), 100));
        assert!(strangers.spend(now, ip(3), 200));
        assert!(!strangers.spend(now, ip(4), 1));
        let later = now + KEPT_FOR;
        strangers.credit(later, ip(5), 100);
        assert_eq!(strangers.accounts.len(), 1);
    }
}
