//! Trunks are asked by OPTIONS whether they are there, as Asterisk's `qualify_frequency` does: whatever they answer,
//! they are; who says nothing for some seconds isn't.

use std::time::{Duration, Instant};

use crate::sip::compose::{RequestHead, SDP};
use crate::sip::endpoint::trunks::Trunk;
use crate::sip::endpoint::{Endpoint, Purpose};
use crate::sip::event::{SipEvent, TrunkId, TrunkState};
use crate::sip::timers::earliest;

/// How a trunk is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QualifySettings {
    /// How often.
    pub every: Duration,
    /// The URI that is asked.
    pub uri: String,
}

/// Whether a trunk answers, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrunkReach {
    /// It does.
    pub answers: bool,
    /// Since when it does, or doesn't.
    pub since: Instant,
    /// From the last question to its answer.
    pub round_trip: Option<Duration>,
}

/// What is asked and known of one trunk.
#[derive(Debug, Default)]
pub(super) struct Qualify {
    next: Option<Instant>,
    /// When the last question was sent.
    asked: Option<Instant>,
    /// When the first one was that isn't answered yet: others may follow before its time is up.
    silent_since: Option<Instant>,
    /// That time is up.
    overdue: bool,
    /// The way is another one than before: that it leads nowhere either is news.
    is_another: bool,
    reach: Option<TrunkReach>,
}

impl Qualify {
    /// There is a way to it: asked at once.
    pub(super) fn begin(&mut self, now: Instant, is_another: bool) {
        let reach = self.reach;
        *self = Self {
            next: Some(now),
            reach,
            is_another,
            ..Self::default()
        };
    }

    /// There is none any more.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let silent_since = self.silent_since.filter(|_| !self.overdue);
        let gives_up = silent_since.map(|at| at + TIMEOUT);
        earliest([self.next, gives_up])
    }

    pub(super) const fn reach(&self) -> Option<TrunkReach> {
        self.reach
    }

    /// True: it was noted that it answers no more.
    fn give_up(&mut self, now: Instant) -> bool {
        let due = self.silent_since.is_some_and(|at| at + TIMEOUT <= now);
        if !due || std::mem::replace(&mut self.overdue, true) {
            return false;
        }
        let is_another = std::mem::take(&mut self.is_another);
        self.note(now, false, None) || is_another
    }

    /// True: that is news.
    fn note(&mut self, now: Instant, answers: bool, round_trip: Option<Duration>) -> bool {
        let is_news = self.reach.is_none_or(|reach| reach.answers != answers);
        let since = match self.reach {
            Some(reach) if !is_news => reach.since,
            Some(_) | None => now,
        };
        self.reach = Some(TrunkReach {
            answers,
            since,
            round_trip,
        });
        is_news
    }
}

impl Endpoint {
    /// Whether a trunk answers; `None`: it isn't asked, or nothing is known yet.
    #[must_use]
    pub fn reach(&self, trunk: TrunkId) -> Option<TrunkReach> {
        self.trunks.get(trunk.0)?.qualify.reach()
    }

    pub(super) fn qualify_timeout(&mut self, now: Instant, id: TrunkId) {
        let Some(trunk) = self.trunks.get_mut(id.0) else {
            return;
        };
        if trunk.qualify.give_up(now) {
            let state = TrunkState::Unreachable;
            self.tell(SipEvent::Trunk { trunk: id, state });
        }
        let Some(trunk) = self.trunks.get_mut(id.0) else {
            return;
        };
        if trunk.qualify.next.is_some_and(|at| at <= now) {
            self.ask_whether_it_is_there(now, id);
        }
    }

    /// It has answered OPTIONS, whatever.
    pub(super) fn qualified(&mut self, now: Instant, id: TrunkId) {
        let Some(qualify) = self.trunks.get_mut(id.0).map(|trunk| &mut trunk.qualify) else {
            return;
        };
        let Some(asked) = qualify.asked.take() else {
            return;
        };
        (qualify.silent_since, qualify.overdue) = (None, false);
        let round_trip = now.saturating_duration_since(asked);
        if qualify.note(now, true, Some(round_trip)) {
            let state = TrunkState::Reachable { round_trip };
            self.tell(SipEvent::Trunk { trunk: id, state });
        }
        self.settle_trunk(id);
    }

    /// The question found nobody, or couldn't be sent.
    pub(super) fn not_qualified(&mut self, now: Instant, id: TrunkId) {
        let Some(trunk) = self.trunks.get_mut(id.0) else {
            return;
        };
        // A way that is gone is told otherwise; an answer to a later question says more.
        let silent = trunk.way().is_some() && trunk.qualify.silent_since.is_some();
        let news = silent && trunk.qualify.note(now, false, None);
        if news {
            let state = TrunkState::Unreachable;
            self.tell(SipEvent::Trunk { trunk: id, state });
        }
        self.settle_trunk(id);
    }

    fn ask_whether_it_is_there(&mut self, now: Instant, id: TrunkId) {
        let (branch, call_id, tag) = (
            self.tokens.branch(),
            self.tokens.fresh(),
            self.tokens.fresh(),
        );
        let Some(trunk) = self.trunks.get_mut(id.0) else {
            return;
        };
        let Some((head, every)) = question(trunk, branch, call_id, &tag) else {
            return trunk.qualify.end();
        };
        let qualify = &mut trunk.qualify;
        (qualify.next, qualify.asked) = (Some(now + every), Some(now));
        qualify.silent_since.get_or_insert(now);
        let contact = format!("<sip:{}{}>", head.sent_by, head.flow.contact_param());
        let headers = [("Contact", contact.as_str()), ("Accept", SDP)];
        let purpose = Purpose::Qualify(id);
        self.start_other(now, head, "OPTIONS", &headers, None, purpose);
    }
}

fn question(
    trunk: &Trunk,
    branch: String,
    call_id: String,
    tag: &str,
) -> Option<(RequestHead, Duration)> {
    let (settings, (flow, local)) = (trunk.qualify_settings()?, trunk.way()?);
    let head = RequestHead {
        uri: settings.uri.clone(),
        flow,
        sent_by: local.to_owned(),
        branch,
        routes: Vec::new(),
        from: format!("<sip:{local}>;tag={tag}"),
        to: format!("<{}>", settings.uri),
        call_id,
        cseq: 1,
    };
    Some((head, settings.every))
}

/// As Asterisk's `qualify_timeout` is by default.
const TIMEOUT: Duration = Duration::from_secs(3);
