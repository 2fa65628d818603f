//! What goes out. To who may be made up (a UDP source that isn't trusted) never more bytes than came from there,
//! until he has shown that what is sent there arrives: by our tag in a request of his, an answer to a request of
//! ours, or audio at the port that only our answer named. A host that shows it does so for its own call alone.

use std::time::Instant;

use bytes::Bytes;

use crate::sip::compose::Reply;
use crate::sip::dialog::PeerOffer;
use crate::sip::endpoint::{Endpoint, Purpose};
use crate::sip::event::{DialogId, Flow, Transmit};
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

    /// Sends again what nobody has answered.
    pub(super) fn send_again(
        &mut self,
        now: Instant,
        dialog: Option<DialogId>,
        flow: Flow,
        bytes: Bytes,
    ) {
        if self.send_in(now, dialog, flow, bytes) {
            self.counters.retransmissions += 1;
        }
    }

    /// Sends a request of ours. What isn't for a call that came in, nobody has asked us for.
    pub(super) fn ask(&mut self, now: Instant, purpose: Purpose, flow: Flow, bytes: Bytes) {
        let call = purpose.dialog().and_then(|id| self.dialogs.get(&id));
        match call.filter(|call| !call.ours).map(|call| call.id) {
            Some(theirs) => drop(self.send_in(now, Some(theirs), flow, bytes)),
            None => self.send(flow, bytes),
        }
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
    /// ones that nobody has to have: they would use up what the final one needs, and he asks again if it is long
    /// in coming.
    pub(super) fn respond(
        &mut self,
        now: Instant,
        id: TransactionId,
        reply: &Reply<'_>,
    ) -> Option<Bytes> {
        let entry = self.servers.get(&id)?;
        let (flow, dialog) = (entry.flow, entry.dialog);
        let bytes = self.composed(now, id, reply, self.is_weighed(dialog, flow))?;
        let entry = self.servers.get_mut(&id)?;
        if !entry.machine.respond(now, reply.status, &bytes) {
            return None;
        }
        let can_wait = reply.status < 200 && !reply.is_reliable();
        if !(can_wait && self.is_weighed(dialog, flow)) {
            self.send_in(now, dialog, flow, bytes.clone());
        }
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

    /// The 2xx of a call that hasn't shown yet that it got it: its INVITE has come again, and pays for it.
    pub(super) fn unpaid(&self, dialog: Option<DialogId>, flow: Flow) -> Option<Bytes> {
        let call = self.dialogs.get(&dialog?)?;
        match &call.peer_offer {
            PeerOffer::Answered(answered) if self.is_weighed(dialog, flow) => {
                Some(answered.ok.clone())
            }
            PeerOffer::Answered(_) | PeerOffer::None | PeerOffer::Waiting { .. } => None,
        }
    }
}

/// What an answer may go without.
const DISPENSABLE: [&str; 3] = ["Allow", "Supported", "Server"];
