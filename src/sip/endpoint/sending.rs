//! What goes out. To who may be made up (a UDP source that isn't trusted) never more bytes than came from there,
//! until he has shown that what is sent there arrives: by our tag in a request of his, an answer to a request of
//! ours, or audio at the port that only our answer named. A host that shows it does so for its own call alone.

use std::time::Instant;

use bytes::Bytes;

use crate::sip::compose::Reply;
use crate::sip::dialog::{PeerOffer, Stage};
use crate::sip::endpoint::{Endpoint, Purpose};
use crate::sip::event::{DialogId, Flow, Transmit};
use crate::sip::message::{Method, Request};
use crate::sip::transaction::TransactionId;

impl Endpoint {
    /// Audio of this call's peer has come to a port that he knows from our answer.
    pub fn heard(&mut self, dialog: DialogId) {
        if let Some(call) = self.dialogs.get_mut(&dialog) {
            call.reach.note_audio();
        }
    }

    /// Sends what nobody's address had to be believed for.
    pub(super) fn send(&mut self, flow: Flow, bytes: Bytes) {
        self.transmits.push_back(Transmit { flow, bytes });
    }

    /// Sends what belongs to a call, or to none. False: it would be more than came from there.
    pub(super) fn send_in(
        &mut self,
        now: Instant,
        dialog: Option<DialogId>,
        flow: Flow,
        bytes: Bytes,
    ) -> bool {
        let peer = flow.peer().ip();
        if self.is_weighed(dialog, flow) && !self.strangers.spend(now, peer, bytes.len()) {
            self.refuse(flow, "more than came");
            return false;
        }
        self.send(flow, bytes);
        true
    }

    /// Sends again what nobody has answered. To who may be made up nothing goes by itself: where he is there, he
    /// asks again.
    pub(super) fn send_again(&mut self, dialog: Option<DialogId>, flow: Flow, bytes: Bytes) {
        if !self.is_weighed(dialog, flow) {
            self.repeat(flow, bytes);
        }
    }

    /// Sends what nobody has answered once more.
    pub(super) fn repeat(&mut self, flow: Flow, bytes: Bytes) {
        self.counters.retransmissions += 1;
        self.send(flow, bytes);
    }

    /// Sends a request of ours. What belongs to no call that is there yet, nobody has had us send.
    pub(super) fn ask(&mut self, now: Instant, purpose: Purpose, flow: Flow, bytes: Bytes) {
        match self.call_of(purpose) {
            Some(call) => drop(self.send_in(now, Some(call), flow, bytes)),
            None => self.send(flow, bytes),
        }
    }

    /// As [`Self::ask`], once more.
    pub(super) fn ask_repeatedly(&mut self, purpose: Purpose, flow: Flow, bytes: Bytes) {
        match self.call_of(purpose) {
            Some(call) => self.send_again(Some(call), flow, bytes),
            None => self.repeat(flow, bytes),
        }
    }

    fn call_of(&self, purpose: Purpose) -> Option<DialogId> {
        let call = purpose.dialog();
        call.filter(|id| self.dialogs.contains_key(id))
    }

    /// The peer's request came this way: ours go there too from now on. Where he may be made up, that is asked first,
    /// if what is left of what came pays for it, and ours go the way they went; in a trunk's call they do anyhow.
    pub(super) fn follow(&mut self, now: Instant, id: DialogId, flow: Flow) {
        let may_be_made_up = self.is_weighed(Some(id), flow);
        let is_crowded = self.is_crowded();
        let Some(call) = self.dialogs.get_mut(&id) else {
            return;
        };
        if !may_be_made_up || call.flow.is_none() {
            call.flow = Some(flow);
            return;
        }
        let may_move = call.stage == Stage::Confirmed && call.trunk.is_none();
        if !may_move || is_crowded || !call.reach.may_look(now) {
            return;
        }
        let branch = self.tokens.branch();
        let head = call.request(branch, flow, None);
        self.start_other(now, head, "OPTIONS", &[], None, Purpose::Look(id));
    }

    /// Are so many transactions under way that the rest are for who is trusted?
    pub(super) fn is_crowded(&self) -> bool {
        let under_way = self.servers.len() + self.clients.len();
        under_way >= but_the_last_quarter(self.config.limits.transactions)
    }

    /// Must what goes there be paid for by what came from there?
    pub(super) fn is_weighed(&self, dialog: Option<DialogId>, flow: Flow) -> bool {
        let call = dialog.and_then(|id| self.dialogs.get(&id));
        self.may_be_forged(flow) && !call.is_some_and(|call| call.reach.covers(flow))
    }

    /// Could somebody else have sent this, to have our answers sent to that address? Not over a stream, and
    /// not from this host.
    pub(super) fn may_be_forged(&self, flow: Flow) -> bool {
        let peer = flow.peer();
        !flow.is_reliable() && !peer.ip().to_canonical().is_loopback() && !self.is_trusted(flow)
    }

    pub(super) fn is_trusted(&self, flow: Flow) -> bool {
        let peer = flow.peer().ip();
        let trusted = &self.config.trusted;
        trusted.iter().any(|network| network.contains(peer)) || self.trunk_of(flow).is_some()
    }

    /// Answers a request under way. A second final answer is not sent. A stranger is left without provisional
    /// ones that nobody has to have: they would use up what the final one needs, and have him ask no more, which
    /// is all that has it sent again.
    pub(super) fn respond(
        &mut self,
        now: Instant,
        id: TransactionId,
        reply: &Reply<'_>,
    ) -> Option<Bytes> {
        let entry = self.servers.get(&id)?;
        let (flow, dialog) = (entry.flow, entry.dialog);
        let is_weighed = self.is_weighed(dialog, flow);
        if is_weighed && reply.status < 200 && !reply.is_reliable() {
            return None;
        }
        let bytes = self.composed(now, id, reply, is_weighed)?;
        let entry = self.servers.get_mut(&id)?;
        if !entry.machine.respond(now, reply.status, &bytes) {
            return None;
        }
        entry.is_weighed = is_weighed;
        self.send_in(now, dialog, flow, bytes.clone());
        self.settle_server(id);
        Some(bytes)
    }

    /// The answer, in few words where more would be too much.
    fn composed(
        &self,
        now: Instant,
        id: TransactionId,
        reply: &Reply<'_>,
        is_weighed: bool,
    ) -> Option<Bytes> {
        let entry = self.servers.get(&id)?;
        let agent = self.config.user_agent.as_deref();
        let mut headers = reply.headers.to_vec();
        headers.extend(agent.map(|agent| ("Server", agent)));
        let whole = entry.head.compose(&Reply {
            tag: Some(&entry.tag),
            headers: &headers,
            ..*reply
        });
        let peer = entry.flow.peer().ip();
        if !is_weighed || self.strangers.covers(now, peer, whole.len()) {
            return Some(whole);
        }
        headers.retain(|(name, _)| !DISPENSABLE.contains(name));
        Some(entry.head.compose(&Reply {
            tag: Some(&entry.tag),
            headers: &headers,
            compact: true,
            ..*reply
        }))
    }

    /// The 2xx to this INVITE, whose ACK hasn't come.
    pub(super) fn unacknowledged(&self, dialog: DialogId, request: &Request) -> Option<Bytes> {
        match &self.dialogs.get(&dialog)?.peer_offer {
            PeerOffer::Answered(answered)
                if request.method == Method::Invite && answered.cseq == request.cseq =>
            {
                Some(answered.ok.clone())
            }
            PeerOffer::Answered(_) | PeerOffer::None | PeerOffer::Waiting { .. } => None,
        }
    }
}

/// What there is of a limit for who isn't trusted.
pub(super) const fn but_the_last_quarter(all: usize) -> usize {
    all - all / 4
}

/// What an answer may go without.
const DISPENSABLE: [&str; 3] = ["Allow", "Supported", "Server"];
