//! What is answered to calls that go out, and requests of ours inside of dialogs.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::sip::compose::{ALLOW, RequestHead, SDP, SUPPORTED, header_of};
use crate::sip::dialog::{Cancel, Dialog, OwnOffer, PeerOffer, Stage};
use crate::sip::endpoint::answers::contact_of;
use crate::sip::endpoint::within::q850_of;
use crate::sip::endpoint::{ClientEntry, ClientMachine, Endpoint, Purpose};
use crate::sip::event::{DialogId, Flow, SipEvent};
use crate::sip::message::Response;
use crate::sip::registration::retry_after;
use crate::sip::session::Terms;
use crate::sip::transaction::TransactionId;
use crate::sip::transaction::client::Client;
use crate::sip::transaction::client_invite::{ClientInvite, Heard};

/// Branches of a fork that are acknowledged; no sane proxy makes more.
const FORKS_MAX: usize = 8;

impl Endpoint {
    /// Offers anew within a call. Told later: [`SipEvent::Established`] with the answer, or
    /// [`SipEvent::ReinviteFailed`]. Where it meets an offer of the peer it waits its turn.
    pub fn reinvite(&mut self, now: Instant, dialog: DialogId, sdp: Bytes) {
        let random = self.tokens.below(1000);
        let Some(call) = self
            .dialogs
            .get_mut(&dialog)
            .filter(|call| call.stage == Stage::Confirmed)
        else {
            return;
        };
        let busy = !matches!(call.peer_offer, PeerOffer::None)
            || matches!(call.own_offer, OwnOffer::Pending { .. });
        let Some(flow) = call.flow else { return };
        if busy {
            let at = now + call.glare_wait(random);
            call.own_offer = match &call.own_offer {
                OwnOffer::Pending { .. } => call.own_offer.clone(),
                OwnOffer::None | OwnOffer::Later { .. } => OwnOffer::Later { at, sdp },
            };
            return self.settle_dialog(dialog);
        }
        let branch = self.tokens.branch();
        let Some(call) = self.dialogs.get_mut(&dialog) else {
            return;
        };
        let (head, contact) = (call.request(branch, flow, None), contact_of(call));
        let expires = call.session_terms().map(Terms::asked_by_us);
        let mut extra = vec![("Supported", SUPPORTED)];
        extra.extend(expires.as_deref().map(|value| ("Session-Expires", value)));
        let purpose = Purpose::Reinvite(dialog);
        let transaction = self.start_invite(now, head, &contact, &extra, Some(&sdp), purpose);
        let ends = now + self.config.timing.patience();
        if let Some(call) = self.dialogs.get_mut(&dialog) {
            call.own_offer = OwnOffer::Pending {
                transaction,
                sdp,
                ends,
            };
        }
        self.settle_dialog(dialog);
    }

    /// Sends INFO within a call, for keys (`application/dtmf-relay`). Whether it was taken is not told.
    pub fn info(&mut self, now: Instant, dialog: DialogId, content_type: &str, body: Bytes) {
        let branch = self.tokens.branch();
        let Some(call) = self
            .dialogs
            .get_mut(&dialog)
            .filter(|call| call.stage == Stage::Confirmed)
        else {
            return;
        };
        let Some(flow) = call
            .flow
            .filter(|_| !content_type.contains(char::is_control))
        else {
            return;
        };
        let head = call.request(branch, flow, None);
        let headers = [("Content-Type", content_type)];
        self.start_other(
            now,
            head,
            "INFO",
            &headers,
            Some(&body),
            Purpose::Info(dialog),
        );
    }

    pub(super) fn start_other(
        &mut self,
        now: Instant,
        head: RequestHead,
        method: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
        purpose: Purpose,
    ) {
        let bytes = head.compose(method, headers, body);
        self.launch(now, head, method, bytes, purpose, 0);
    }

    /// Sends a request and begins its transaction; it is one of those that `repeats` came before.
    pub(super) fn launch(
        &mut self,
        now: Instant,
        head: RequestHead,
        method: &str,
        bytes: Bytes,
        purpose: Purpose,
        repeats: u8,
    ) -> TransactionId {
        let (reliable, timing) = (head.flow.is_reliable(), self.config.timing);
        let machine = if method == "INVITE" {
            ClientMachine::Invite(ClientInvite::new(now, bytes.clone(), reliable, timing))
        } else {
            ClientMachine::Other(Client::new(now, bytes.clone(), reliable, timing))
        };
        self.ask(now, purpose, head.flow, bytes);
        let key = format!("{} {method}", head.branch);
        let last_cseq = head.cseq;
        self.insert_client(ClientEntry {
            machine,
            head,
            key,
            purpose,
            repeats,
            acks: Vec::new(),
            trunk: None,
            last_cseq,
        })
    }

    pub(super) fn start_invite(
        &mut self,
        now: Instant,
        head: RequestHead,
        contact: &str,
        extra: &[(&str, &str)],
        sdp: Option<&[u8]>,
        purpose: Purpose,
    ) -> TransactionId {
        let agent = self.config.user_agent.clone();
        let mut headers = vec![("Contact", contact), ("Allow", ALLOW)];
        headers.extend_from_slice(extra);
        headers.extend(agent.as_deref().map(|agent| ("User-Agent", agent)));
        if sdp.is_some() {
            headers.push(("Content-Type", SDP));
        }
        let bytes = head.compose("INVITE", &headers, sdp);
        self.launch(now, head, "INVITE", bytes, purpose, 0)
    }

    pub(super) fn handle_response(&mut self, now: Instant, from: Flow, response: &Response) {
        let key = format!("{} {}", response.branch, response.cseq_method);
        let Some(id) = self.client_keys.get(&key).copied() else {
            return self.counters.refuse("stray response");
        };
        if self.is_strangers_challenge(id, from, response.status) {
            return self.counters.refuse("challenge from elsewhere");
        }
        let Some(entry) = self.clients.get_mut(&id) else {
            return;
        };
        let (purpose, flow) = (entry.purpose, entry.head.flow);
        // Who knows nothing of the call isn't its peer, and any server may want to know more of who asks.
        let is_known = matches!(
            response.status,
            200..300 | 405 | 415 | 488 | 491 | 500 | 501
        );
        let is_from_there = from.host() == flow.host();
        let call = purpose.dialog().and_then(|id| self.dialogs.get_mut(&id));
        if let Some(call) = call.filter(|_| is_known && is_from_there) {
            call.reach.note_arrival(flow);
            if matches!(purpose, Purpose::Look(_)) {
                call.flow = Some(flow);
            }
        }
        match &mut entry.machine {
            ClientMachine::Other(machine) => {
                let news = machine.handle_response(now, response.status);
                if news && !self.ask_again(now, id, from, response) {
                    self.other_answered(now, purpose, response);
                }
                self.settle_client(id);
            }
            ClientMachine::Invite(machine) => {
                let head = &entry.head;
                let heard = machine
                    .handle_response(now, response.status, || acknowledge_refusal(head, response));
                match heard {
                    Heard::News { ack } => {
                        if let Some(ack) = ack {
                            self.send(flow, ack);
                        }
                        if !(self.is_wanted(purpose) && self.ask_again(now, id, from, response)) {
                            self.invite_answered(now, id, purpose, response);
                        }
                    }
                    Heard::Repeated(ack) => self.send(flow, ack),
                    Heard::Nothing => {}
                }
                self.settle_client(id);
            }
        }
    }

    fn other_answered(&mut self, now: Instant, purpose: Purpose, response: &Response) {
        match purpose {
            Purpose::Register(trunk) => self.register_answered(now, trunk, response),
            Purpose::Qualify(trunk) => self.qualified(now, trunk),
            Purpose::Refresh(dialog) => self.refresh_answered(now, dialog, response),
            Purpose::Bye(dialog) => self.remove_dialog(dialog),
            // The peer knows nothing of the call, or is gone (RFC 3261 section 12.2.1.2).
            Purpose::Info(dialog) if matches!(response.status, 408 | 481) => self.lose(now, dialog),
            Purpose::Info(_)
            | Purpose::Look(_)
            | Purpose::Branch(_)
            | Purpose::Anything
            | Purpose::Acknowledge(_)
            | Purpose::Invite(_)
            | Purpose::Reinvite(_) => {}
        }
    }

    /// Does the gateway still want what this request of ours asks for?
    fn is_wanted(&self, purpose: Purpose) -> bool {
        let call = purpose
            .dialog()
            .and_then(|dialog| self.dialogs.get(&dialog));
        call.is_some_and(|call| match &call.stage {
            Stage::Calling { cancel, .. } => matches!(cancel, Cancel::Unwanted { .. }),
            Stage::Confirmed => true,
            Stage::Ringing | Stage::Leaving { .. } => false,
        })
    }

    fn invite_answered(
        &mut self,
        now: Instant,
        id: TransactionId,
        purpose: Purpose,
        response: &Response,
    ) {
        match (purpose, response.status) {
            (Purpose::Invite(dialog), 100..200) => {
                self.invite_progressed(now, dialog, response);
                self.acknowledge_early(now, id, dialog, response);
            }
            (Purpose::Invite(dialog), 200..300) => self.invite_accepted(now, id, dialog, response),
            (Purpose::Invite(dialog), status) => {
                let trunk = self.dialogs.get(&dialog).and_then(|call| call.trunk);
                // A proxy passes on as 500 what one server behind it says of itself (RFC 3261 section 16.7, step 6).
                if let (503, Some(trunk)) = (status, trunk) {
                    self.spare(now, trunk, response);
                }
                let q850 = q850_of(&response.headers);
                let pause = retry_after(&response.headers);
                self.invite_refused(dialog, status, q850, true, pause);
            }
            (Purpose::Reinvite(dialog), 200..300) => {
                self.reinvite_accepted(now, id, dialog, response)
            }
            (Purpose::Reinvite(dialog), 422) => self.reinvite_too_short(now, dialog, response),
            (Purpose::Reinvite(dialog), status @ 300..) => {
                self.reinvite_refused(now, dialog, status)
            }
            (
                Purpose::Reinvite(_)
                | Purpose::Acknowledge(_)
                | Purpose::Info(_)
                | Purpose::Refresh(_)
                | Purpose::Look(_)
                | Purpose::Bye(_)
                | Purpose::Register(_)
                | Purpose::Qualify(_)
                | Purpose::Branch(_)
                | Purpose::Anything,
                _,
            ) => {}
        }
    }

    fn invite_progressed(&mut self, now: Instant, id: DialogId, response: &Response) {
        let status = response.status;
        let rings_until = now + self.config.timing.patience() + self.config.ring_time_max;
        let Some(Stage::Calling { cancel, ends, .. }) =
            self.dialogs.get_mut(&id).map(|dialog| &mut dialog.stage)
        else {
            return;
        };
        match cancel {
            Cancel::Unwanted { provisional } => {
                if !std::mem::replace(provisional, true) {
                    *ends = rings_until;
                    self.settle_dialog(id);
                }
                if status > 100 {
                    self.tell(SipEvent::Provisional { dialog: id, status });
                }
            }
            Cancel::Wanted => self.send_cancel(now, id),
            Cancel::Sent => {}
        }
    }

    /// PRACK, where a provisional answer wants one (RFC 3262 section 4).
    fn acknowledge_early(
        &mut self,
        now: Instant,
        id: TransactionId,
        dialog: DialogId,
        response: &Response,
    ) {
        let (Some(entry), Some(call)) = (self.clients.get(&id), self.dialogs.get_mut(&dialog))
        else {
            return;
        };
        if !matches!(call.stage, Stage::Calling { .. }) || !call.note_early(response) {
            return;
        }
        let number = response.headers.first("RSeq").unwrap_or_default().trim();
        let acknowledged = format!("{number} {} INVITE", entry.head.cseq);
        let head = call.early_request(now, &entry.head, response, self.tokens.branch());
        let headers = [("RAck", acknowledged.as_str())];
        let purpose = Purpose::Acknowledge(dialog);
        self.start_other(now, head, "PRACK", &headers, None, purpose);
    }

    /// A 2xx to our INVITE: the first opens the dialog, others come from branches of a fork and are ended, be the call
    /// itself over or not.
    fn invite_accepted(
        &mut self,
        now: Instant,
        id: TransactionId,
        dialog: DialogId,
        response: &Response,
    ) {
        let Some(entry) = self.clients.get_mut(&id) else {
            return;
        };
        let (flow, cseq) = (entry.head.flow, entry.head.cseq);
        let invite = entry.machine.request().clone();
        let tag = response.to.tag().unwrap_or_default();
        if let Some((_, ack)) = entry.acks.iter().find(|(known, _)| known == tag) {
            let ack = ack.clone();
            return self.send(flow, ack);
        }
        if entry.acks.len() >= FORKS_MAX {
            return self.counters.refuse("forks");
        }
        let is_first = entry.acks.is_empty();
        let wanted = self.config.session_interval;
        let branch = self.tokens.branch();
        let Some(call) = self.dialogs.get_mut(&dialog).filter(|_| is_first) else {
            return self.end_branch(now, id, dialog, response);
        };
        (entry.trunk, entry.last_cseq) = (call.trunk, call.last_cseq());
        let cancelled = matches!(
            call.stage,
            Stage::Calling {
                cancel: Cancel::Wanted | Cancel::Sent,
                ..
            }
        );
        self.dialog_keys.remove(&call.key);
        let sdp = call.description(response);
        call.adopt(response);
        call.stage = Stage::Confirmed;
        call.early = Vec::new();
        call.set_session(now, Terms::settled(&response.headers, wanted));
        self.dialog_keys.insert(call.key.clone(), dialog);
        let ack = acknowledge(&call.request(branch, flow, Some(cseq)), &invite);
        self.acknowledge(id, tag, ack, flow);
        self.settle_dialog(dialog);
        if cancelled {
            return self.send_bye(now, dialog, 16);
        }
        self.tell(SipEvent::Established { dialog, sdp });
    }

    fn end_branch(&mut self, now: Instant, id: TransactionId, dialog: DialogId, answer: &Response) {
        let (branch, bye_branch) = (self.tokens.branch(), self.tokens.branch());
        let Some(entry) = self.clients.get(&id) else {
            return;
        };
        let (flow, cseq, trunk) = (entry.head.flow, entry.head.cseq, entry.trunk);
        let mut other = Dialog::branch_of(now, dialog, &entry.head, entry.last_cseq, answer);
        let ack = other.request(branch, flow, Some(cseq));
        let ack = acknowledge(&ack, entry.machine.request());
        let bye = other.request(bye_branch, flow, None);
        self.acknowledge(id, answer.to.tag().unwrap_or_default(), ack, flow);
        self.start_other(now, bye, "BYE", &[], None, Purpose::Branch(trunk));
    }

    fn acknowledge(&mut self, id: TransactionId, tag: &str, ack: Bytes, flow: Flow) {
        if let Some(entry) = self.clients.get_mut(&id) {
            entry.acks.push((tag.to_owned(), ack.clone()));
        }
        self.send(flow, ack);
    }

    pub(super) fn invite_refused(
        &mut self,
        id: DialogId,
        status: u16,
        q850: Option<u8>,
        heard: bool,
        pause: Option<Duration>,
    ) {
        let Some(Stage::Calling { cancel, .. }) = self.dialogs.get(&id).map(|dialog| &dialog.stage)
        else {
            return;
        };
        let (wanted, heard) = match cancel {
            Cancel::Unwanted { provisional } => (true, heard || *provisional),
            Cancel::Wanted | Cancel::Sent => (false, heard),
        };
        self.remove_dialog(id);
        if wanted {
            self.tell(SipEvent::Failed {
                dialog: id,
                status,
                q850,
                heard,
                pause,
            });
        }
    }

    fn reinvite_accepted(
        &mut self,
        now: Instant,
        id: TransactionId,
        dialog: DialogId,
        response: &Response,
    ) {
        let Some(entry) = self.clients.get_mut(&id) else {
            return;
        };
        let (flow, cseq) = (entry.head.flow, entry.head.cseq);
        let invite = entry.machine.request().clone();
        if let Some((_, ack)) = entry.acks.first() {
            let ack = ack.clone();
            return self.send(flow, ack);
        }
        let branch = self.tokens.branch();
        let Some(call) = self.dialogs.get_mut(&dialog) else {
            return;
        };
        call.refresh_target(&response.headers);
        if let OwnOffer::Pending { sdp, .. } =
            std::mem::replace(&mut call.own_offer, OwnOffer::None)
        {
            call.described = sdp;
        }
        let confirmed = call.stage == Stage::Confirmed;
        // A 2xx to our own re-INVITE refreshes the session too (RFC 4028 section 10).
        let terms = call.session_terms().filter(|_| confirmed);
        if let Some(terms) = terms {
            call.set_session(now, Some(terms.after(&response.headers)));
        }
        let ack = acknowledge(&call.request(branch, flow, Some(cseq)), &invite);
        self.acknowledge(id, "", ack, flow);
        self.settle_dialog(dialog);
        if terms.is_some() {
            self.note_refresh(dialog);
        }
        if confirmed {
            self.tell(SipEvent::Established {
                dialog,
                sdp: response.body.clone(),
            });
        }
    }

    pub(super) fn reinvite_refused(&mut self, now: Instant, id: DialogId, status: u16) {
        let random = self.tokens.below(1000);
        let Some(call) = self
            .dialogs
            .get_mut(&id)
            .filter(|call| call.stage == Stage::Confirmed)
        else {
            return;
        };
        let OwnOffer::Pending { sdp, .. } = std::mem::replace(&mut call.own_offer, OwnOffer::None)
        else {
            return;
        };
        match status {
            491 => {
                call.own_offer = OwnOffer::Later {
                    at: now + call.glare_wait(random),
                    sdp,
                };
                self.settle_dialog(id);
            }
            408 | 481 => self.lose(now, id),
            _ => {
                self.count_as_life(now, id);
                self.tell(SipEvent::ReinviteFailed { dialog: id, status });
            }
        }
    }
}

/// The ACK to a 2xx: nobody can ask for credentials by an answer to it, so it has those of its INVITE (RFC 3261
/// section 22.1).
fn acknowledge(head: &RequestHead, invite: &[u8]) -> Bytes {
    let names = ["Authorization", "Proxy-Authorization"];
    let credentials: Vec<(&str, &str)> = names
        .into_iter()
        .filter_map(|name| Some((name, header_of(invite, name)?)))
        .collect();
    head.compose("ACK", &credentials, None)
}

/// The ACK to a refusal goes the INVITE's way, branch included (RFC 3261 section 17.1.1.3).
fn acknowledge_refusal(invite: &RequestHead, response: &Response) -> Bytes {
    let to = response.headers.first("To").unwrap_or_default().to_owned();
    RequestHead {
        to,
        ..invite.clone()
    }
    .compose("ACK", &[], None)
}
