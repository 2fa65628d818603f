//! Early dialogs (RFC 3261 section 12.1): what those say at whom an INVITE of ours rings, before one of them answers
//! it. Until then one [`Dialog`] stands for all of them.

#![deny(clippy::indexing_slicing)]

use bytes::Bytes;

use crate::sip::dialog::Dialog;
use crate::sip::message::{Headers, Response};

/// What one branch of an INVITE of ours has said before its final answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Early {
    tag: String,
    /// The number of the last answer that was acknowledged.
    acknowledged: Option<u32>,
    sdp: Option<Bytes>,
    /// CSeq of its last request.
    remote_cseq: Option<u32>,
}

impl Dialog {
    /// Takes note of a provisional answer; true: it is to be acknowledged (RFC 3262 section 4). Those that come
    /// before their turn aren't, so they come again.
    pub(crate) fn note_early(&mut self, answer: &Response) -> bool {
        let tag = answer.to.tag().unwrap_or_default();
        let known = self.early.iter().position(|early| early.tag == tag);
        let place = known.unwrap_or(self.early.len());
        if known.is_none() {
            if place >= EARLY_MAX || tag.is_empty() {
                return false;
            }
            self.early.push(Early {
                tag: tag.to_owned(),
                acknowledged: None,
                sdp: None,
                remote_cseq: None,
            });
        }
        let Some(early) = self.early.get_mut(place) else {
            return false;
        };
        let number = reliable_number(&answer.headers);
        let is_next = number.is_some_and(|number| {
            let last = early.acknowledged;
            last.is_none_or(|last| last.checked_add(1) == Some(number))
        });
        if is_next {
            early.acknowledged = number;
        }
        if (is_next || number.is_none()) && !answer.body.is_empty() {
            early.sdp = Some(answer.body.clone());
        }
        is_next
    }

    /// The description that came with a final answer, or with a provisional one of the same branch: who has sent
    /// it there reliably needn't repeat it (RFC 3262 section 5).
    pub(crate) fn description(&self, answer: &Response) -> Bytes {
        let tag = answer.to.tag().unwrap_or_default();
        match self.branch(tag).and_then(|early| early.sdp.clone()) {
            Some(sdp) if answer.body.is_empty() => sdp,
            Some(_) | None => answer.body.clone(),
        }
    }

    /// Does our INVITE ring at who has this tag?
    pub(crate) fn rings_at(&self, tag: &str) -> bool {
        self.branch(tag).is_some()
    }

    /// Has he answered our offer before the call? Only what must arrive counts (RFC 3262 section 5).
    pub(crate) fn is_answered_early(&self, tag: &str) -> bool {
        self.branch(tag)
            .is_some_and(|early| early.acknowledged.is_some() && early.sdp.is_some())
    }

    /// CSeq of the last request of who has this tag: each branch counts for itself until one has answered.
    pub(crate) fn remote_cseq_of(&mut self, tag: &str) -> &mut Option<u32> {
        match self.early.iter_mut().find(|early| early.tag == tag) {
            Some(early) => &mut early.remote_cseq,
            None => &mut self.remote_cseq,
        }
    }

    fn branch(&self, tag: &str) -> Option<&Early> {
        self.early.iter().find(|early| early.tag == tag)
    }
}

/// The number of a provisional answer that wants to be acknowledged (RFC 3262 section 7.1).
fn reliable_number(headers: &Headers) -> Option<u32> {
    if !headers.lists_token("Require", "100rel") {
        return None;
    }
    headers.first("RSeq")?.trim().parse().ok()
}

/// Branches of a fork whose provisional answers are looked at.
const EARLY_MAX: usize = 8;
