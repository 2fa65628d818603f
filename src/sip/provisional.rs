//! Provisional answers that must arrive (RFC 3262), on the called side: only who requires them gets them, and
//! each is repeated until its PRACK.

#![deny(clippy::indexing_slicing)]

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::sip::compose::RELIABLE;
use crate::sip::message::Request;
use crate::sip::transaction::Timing;

/// How a call that came in is told that it rings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Provisional {
    /// Once; it may get lost.
    Unreliable,
    /// The caller requires that it arrives; nothing was sent yet.
    Required,
    /// It was sent.
    Sent(Reliable),
}

/// A provisional answer with a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reliable {
    rseq: u32,
    /// Of the INVITE.
    cseq: u32,
    progress: Progress,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Progress {
    Repeating {
        bytes: Bytes,
        again: Instant,
        interval: Duration,
        ends: Instant,
    },
    /// The final answer is out: not repeated any more, but its PRACK may still come.
    Overtaken,
    Acknowledged,
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    Repeat(Bytes),
    /// Nobody acknowledges: the call is to be refused.
    GiveUp,
}

impl Provisional {
    pub(crate) fn asked_by(invite: &Request) -> Self {
        if invite.headers.lists_token("Require", RELIABLE) {
            Self::Required
        } else {
            Self::Unreliable
        }
    }

    pub(crate) fn sent(now: Instant, rseq: u32, cseq: u32, bytes: Bytes, timing: &Timing) -> Self {
        Self::Sent(Reliable {
            rseq,
            cseq,
            progress: Progress::Repeating {
                bytes,
                again: now + timing.t1,
                interval: timing.t1,
                ends: now + timing.patience(),
            },
        })
    }

    /// A PRACK came. False: it is for nothing that waits for one.
    pub(crate) fn acknowledge(&mut self, prack: &Request) -> bool {
        let Self::Sent(sent) = self else {
            return false;
        };
        let expected = match sent.progress {
            Progress::Repeating { .. } | Progress::Overtaken => true,
            Progress::Acknowledged => false,
        };
        let fits = expected && acknowledged_by(prack) == Some((sent.rseq, sent.cseq));
        if fits {
            sent.progress = Progress::Acknowledged;
        }
        fits
    }

    /// The final answer goes out.
    pub(crate) fn stop(&mut self) {
        if let Self::Sent(sent) = self
            && matches!(sent.progress, Progress::Repeating { .. })
        {
            sent.progress = Progress::Overtaken;
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let Self::Sent(sent) = self else {
            return None;
        };
        match sent.progress {
            Progress::Repeating { again, ends, .. } => Some(again.min(ends)),
            Progress::Overtaken | Progress::Acknowledged => None,
        }
    }

    /// The interval doubles each time, without a bound (RFC 3262 section 3).
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Due {
        let Self::Sent(sent) = self else {
            return Due::Nothing;
        };
        match &mut sent.progress {
            Progress::Repeating { ends, .. } if *ends <= now => {
                sent.progress = Progress::Overtaken;
                Due::GiveUp
            }
            Progress::Repeating {
                bytes,
                again,
                interval,
                ..
            } if *again <= now => {
                *interval *= 2;
                *again = now + *interval;
                Due::Repeat(bytes.clone())
            }
            Progress::Repeating { .. } | Progress::Overtaken | Progress::Acknowledged => {
                Due::Nothing
            }
        }
    }
}

/// `RAck: 776656 1 INVITE` (RFC 3262 section 7.2): the answer's number and the CSeq of its INVITE.
fn acknowledged_by(prack: &Request) -> Option<(u32, u32)> {
    let mut words = prack.headers.single("RAck")?.split_ascii_whitespace();
    let rseq = words.next()?.parse().ok()?;
    let cseq = words.next()?.parse().ok()?;
    (words.next() == Some("INVITE") && words.next().is_none()).then_some((rseq, cseq))
}
