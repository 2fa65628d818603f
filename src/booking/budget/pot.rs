//! A part of the budget, and this node's share of it.
//!
//! A guess needs no question to the store: [`Pot::report`] says what this node's callers
//! guessed wrong and how large a share it would like, [`Pot::take`] what it got: a tenth of what nobody holds, at least
//! one, so the more nodes there are the less each has. A share is used for [`SHARE_LASTS`] at most unless renewed, and counts as guessed
//! wrong for an hour after that: whatever becomes of the node, the whole is never exceeded. While the store is away
//! the share is all there is.

use jiff::{SignedDuration, Timestamp};

/// What a node tells the store, and what it would like to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareReport {
    /// Wrong guesses since the process began.
    pub failed: u64,
    /// As many of them as the store knows of, as far as the node knows.
    pub told: u64,
    /// When the last of them was.
    pub failed_at: Timestamp,
    /// Guesses the node would like to hold. It doesn't use more of its share from now on.
    pub wanted: u32,
}

/// What the store keeps for a node, and what it knows of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Guesses that nobody else gets.
    pub held: u32,
    /// What others hold.
    pub held_by_others: u32,
    /// Wrong guesses within the hour, of all nodes.
    pub failed_of_all: u32,
    /// With what this node reported just now, half of the part or less is left, for the first time since there was
    /// more than three quarters.
    pub became_low: bool,
}

/// How much more of a part a node may hold than it does, with so much that nobody holds.
#[must_use]
pub fn more_of(free: u64) -> u64 {
    (free / 10).max(1).min(free)
}

pub(super) struct Pot {
    pub(super) per_hour: u32,
    pub(super) in_flight: u32,
    /// Wrong guesses of this node since its process began.
    failed: u64,
    failed_at: Timestamp,
    /// As many of them as the store knows of.
    told: u64,
    /// Within the hour, of all nodes, as far as the store knew.
    failed_of_all: u32,
    held_by_others: u32,
    /// This node's share. What is in flight or not told yet is part of it.
    held: u32,
    usable_until: Timestamp,
    /// When the store was asked last, in vain or not.
    asked_at: Option<Timestamp>,
    /// It had no more, or gave no answer.
    dry: bool,
    /// Nothing is wanted any more.
    pub(super) ended: bool,
}

/// Why nothing can be paid.
pub(super) enum Lack {
    /// There is none that he may have.
    Everything,
    /// Guesses in flight may come back.
    Busy,
    /// The store may give more, or know of more.
    Share,
    /// It gave none just now.
    Dry,
}

impl Pot {
    pub(super) fn new(per_hour: u32) -> Self {
        Self {
            per_hour,
            in_flight: 0,
            failed: 0,
            failed_at: Timestamp::default(),
            told: 0,
            failed_of_all: 0,
            held_by_others: 0,
            held: 0,
            usable_until: Timestamp::default(),
            asked_at: None,
            dry: false,
            ended: false,
        }
    }

    pub(super) fn fail(&mut self, at: Timestamp) {
        self.failed += 1;
        self.failed_at = self.failed_at.max(at);
    }

    pub(super) fn report(&mut self, now: Timestamp) -> ShareReport {
        let wanted = self.in_flight + self.spare_share();
        // What is given back isn't used any more, whatever becomes of the report.
        self.held = self.held.min(wanted.saturating_add(self.untold()));
        // A clock that was ahead is not believed for ever.
        self.failed_at = self.failed_at.min(now);
        ShareReport {
            failed: self.failed,
            told: self.told,
            failed_at: self.failed_at,
            wanted,
        }
    }

    pub(super) fn take(&mut self, asked_at: Timestamp, report: ShareReport, share: Share) {
        self.told = report.failed;
        self.held = share.held;
        self.held_by_others = share.held_by_others;
        self.failed_of_all = share.failed_of_all;
        let lasts = SHARE_LASTS - UNUSED_AT_LAST;
        self.usable_until = asked_at.saturating_add(lasts).unwrap_or(Timestamp::MAX);
        self.asked_at = Some(asked_at);
        self.dry = self.unused_share(asked_at) == 0;
    }

    pub(super) const fn go_without(&mut self, now: Timestamp) {
        self.asked_at = Some(now);
        self.dry = true;
    }

    pub(super) const fn hear(&mut self, now: Timestamp, failed_of_all: u32) {
        self.asked_at = Some(now);
        self.failed_of_all = failed_of_all;
    }

    /// What keeps a guess from being paid for, if so many are kept for others.
    pub(super) fn lack(&self, now: Timestamp, kept: u32) -> Option<Lack> {
        let just_asked = |at: Timestamp| now.duration_since(at).abs() < ASKED_AGAIN_AFTER;
        let just_asked = self.asked_at.is_some_and(just_asked);
        if self.left() <= kept {
            return Some(if just_asked {
                Lack::Everything
            } else {
                Lack::Share
            });
        }
        if self.spare() <= kept {
            return Some(Lack::Busy);
        }
        if self.unused_share(now) > 0 {
            return None;
        }
        Some(if !(self.dry && just_asked) {
            Lack::Share
        } else if self.in_flight > 0 {
            Lack::Busy
        } else {
            Lack::Dry
        })
    }

    pub(super) fn report_is_due(&self, now: Timestamp) -> bool {
        let renewal = SHARE_LASTS / 2 - UNUSED_AT_LAST;
        let should = self.spare_share();
        let unused = self.unused_share(now);
        self.failed > self.told
            || self.usable_until.duration_since(now) < renewal
            || unused > should + should / 4
            || unused < should - should / 4
    }

    /// Wrong guesses that the store doesn't know of.
    fn untold(&self) -> u32 {
        u32::try_from(self.failed.saturating_sub(self.told)).unwrap_or(u32::MAX)
    }

    /// Guesses in flight not counted.
    pub(super) fn left(&self) -> u32 {
        let known = self.failed_of_all.saturating_add(self.untold());
        self.per_hour.saturating_sub(known)
    }

    /// What is left whatever becomes of the guesses in flight.
    pub(super) fn spare(&self) -> u32 {
        self.left().saturating_sub(self.in_flight)
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
    fn spare_share(&self) -> u32 {
        if self.ended {
            return 0;
        }
        let free = self.spare().saturating_sub(self.held_by_others);
        // One even of none: some may have come back by then.
        (free / 10).clamp(1, SPARE_SHARE_MAX)
    }
}

/// A node that doesn't renew its share may use it for so long.
pub const SHARE_LASTS: SignedDuration = SignedDuration::from_mins(10);
/// Not paid from at the end of that, so that what is in flight is settled when it is over.
const UNUSED_AT_LAST: SignedDuration = SignedDuration::from_secs(30);
const ASKED_AGAIN_AFTER: SignedDuration = SignedDuration::from_secs(1);
const SPARE_SHARE_MAX: u32 = 1_000;
