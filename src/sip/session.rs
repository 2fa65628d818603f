//! Session timers (RFC 4028): how long a call may go on without a sign of life, and whose it is to give.

use std::time::{Duration, Instant};

use crate::sip::address;
use crate::sip::message::{Headers, Request};

/// What both sides agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) seconds: u32,
    pub(crate) refresher: Refresher,
}

/// Who gives the sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refresher {
    Peer,
    Us,
}

/// A session interval that can't be agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadInterval {
    Malformed,
    /// Below what we take.
    TooSmall,
}

/// An agreed interval that runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Session {
    pub(crate) terms: Terms,
    refresh: Option<Instant>,
    ends: Instant,
}

/// What a session's timer asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    Refresh,
    Expired,
}

impl Terms {
    /// What a request of the peer's asks for (section 9); where it asks for nothing, what we want ourselves and
    /// see to. `None`: no timer.
    pub(crate) fn asked(
        request: &Request,
        wanted: Option<u32>,
    ) -> Result<Option<Self>, BadInterval> {
        let headers = &request.headers;
        let Some((seconds, said)) = interval(headers)? else {
            let least = least(headers).unwrap_or(MIN_SE);
            return Ok(wanted.map(|seconds| Self {
                seconds: seconds.max(least),
                refresher: Refresher::Us,
            }));
        };
        if seconds < MIN_SE {
            return Err(BadInterval::TooSmall);
        }
        let refresher = match said {
            // Put in by a proxy on the way: the peer itself knows nothing of it.
            _ if !knows_timers(headers) => Refresher::Us,
            Some("uas") => Refresher::Us,
            Some(_) | None => Refresher::Peer,
        };
        Ok(Some(Self { seconds, refresher }))
    }

    /// What the answer to an INVITE of ours settles (section 7.2); where it says nothing, what we want ourselves
    /// and see to. `None`: no timer.
    pub(crate) fn settled(answer: &Headers, wanted: Option<u32>) -> Option<Self> {
        let Some((seconds, said)) = interval(answer).ok()? else {
            return wanted.map(|seconds| Self {
                seconds,
                refresher: Refresher::Us,
            });
        };
        let refresher = match said {
            Some("uas") => Refresher::Peer,
            Some(_) | None => Refresher::Us,
        };
        Some(Self {
            seconds: seconds.max(MIN_SE),
            refresher,
        })
    }

    /// What the peer's answer to a refresh of ours leaves of it: as before where it says nothing.
    pub(crate) fn after(self, answer: &Headers) -> Self {
        let Ok(Some((seconds, said))) = interval(answer) else {
            return self;
        };
        Self {
            seconds: seconds.max(MIN_SE),
            refresher: match said {
                Some("uas") => Refresher::Peer,
                Some(_) | None => Refresher::Us,
            },
        }
    }

    /// At least what a 422 asks for (section 7.4).
    pub(crate) fn at_least(self, answer: &Headers) -> Option<Self> {
        let least = least(answer)?;
        (least > self.seconds).then_some(Self {
            seconds: least,
            ..self
        })
    }

    /// The value of Session-Expires in an answer of ours.
    pub(crate) fn answered(self) -> String {
        let refresher = match self.refresher {
            Refresher::Peer => "uac",
            Refresher::Us => "uas",
        };
        format!("{};refresher={refresher}", self.seconds)
    }

    /// The same in a request of ours.
    pub(crate) fn asked_by_us(self) -> String {
        let refresher = match self.refresher {
            Refresher::Peer => "uas",
            Refresher::Us => "uac",
        };
        format!("{};refresher={refresher}", self.seconds)
    }
}

impl Session {
    pub(crate) fn begin(now: Instant, terms: Terms) -> Self {
        let interval = Duration::from_secs(terms.seconds.into());
        // Who doesn't refresh hangs up a little before the end, the other at it (section 10).
        let margin = (interval / 3).min(Duration::from_secs(32));
        let (refresh, ends) = match terms.refresher {
            Refresher::Peer => (None, now + interval - margin),
            Refresher::Us => (Some(now + interval / 2), now + interval),
        };
        Self {
            terms,
            refresh,
            ends,
        }
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.refresh
            .map_or(self.ends, |refresh| refresh.min(self.ends))
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Due {
        if self.ends <= now {
            return Due::Expired;
        }
        if self.refresh.is_some_and(|at| at <= now) {
            // Again after a while, if this one is refused.
            let rest = self.ends.saturating_duration_since(now);
            self.refresh = Some(now + (rest / 2).max(AGAIN_MIN));
            return Due::Refresh;
        }
        Due::Nothing
    }
}

/// Seconds and who refreshes, as said.
fn interval(headers: &Headers) -> Result<Option<(u32, Option<&str>)>, BadInterval> {
    let Some(value) = headers.first("Session-Expires") else {
        return Ok(None);
    };
    let (seconds, params) = value.split_once(';').unwrap_or((value, ""));
    let seconds = seconds.trim().parse().map_err(|_| BadInterval::Malformed)?;
    let said = address::param(params, "refresher").map(|who| {
        if who.eq_ignore_ascii_case("uas") {
            "uas"
        } else {
            "uac"
        }
    });
    Ok(Some((seconds, said)))
}

/// The value of Session-Expires in an INVITE of ours: whom we call is to give the signs of life, if he can.
pub(crate) fn asked_of_them(seconds: u32) -> String {
    format!("{seconds};refresher=uas")
}

/// What a 422 asks for at least.
pub(crate) fn least(answer: &Headers) -> Option<u32> {
    let least = seconds_of(answer.first("Min-SE")?)?;
    (least <= INTERVAL_MAX).then_some(least)
}

/// The seconds that a Min-SE or Session-Expires begins with.
pub(crate) fn seconds_of(value: &str) -> Option<u32> {
    value.split(';').next()?.trim().parse().ok()
}

/// Does who sends this know of timers?
pub(crate) fn knows_timers(headers: &Headers) -> bool {
    headers.lists_token("Supported", "timer") || headers.lists_token("Require", "timer")
}

/// The shortest session interval we take, seconds (section 4).
pub(crate) const MIN_SE: u32 = 90;
/// What we ask for where we call and nothing else is wanted.
pub(crate) const INTERVAL_WANTED: u32 = 1_800;
/// A day: nobody's calls last longer.
const INTERVAL_MAX: u32 = 86_400;
const AGAIN_MIN: Duration = Duration::from_secs(5);
