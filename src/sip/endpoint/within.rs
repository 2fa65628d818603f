//! Requests inside of dialogs (RFC 3261 section 12.2.2).

use std::time::Instant;

use crate::sip::address;
use crate::sip::compose::{ALLOW, Reply, ReplyHead, SDP, SUPPORTED};
use crate::sip::dialog::{
    Asked, Bye, DialogKey, MEDIA_CHANGES_BURST, MEDIA_CHANGES_PER_SECOND, OwnOffer, PeerOffer,
    REQUESTS_BURST, REQUESTS_PER_SECOND, Stage,
};
use crate::sip::endpoint::requests::{Refusal, asked_by, body_of};
use crate::sip::endpoint::{Endpoint, ServerEntry, ServerMachine};
use crate::sip::event::{DialogId, Flow, SipEvent};
use crate::sip::message::{Headers, Method, Request};
use crate::sip::transaction::TransactionId;
use crate::sip::transaction::server::Server;

impl Endpoint {
    pub(super) fn handle_within(&mut self, now: Instant, flow: Flow, request: &Request) {
        let Some(id) = self.find_dialog(request) else {
            let refusal = Refusal::plain(481, "no such call");
            return self.refuse_request(now, None, flow, &request.headers, &refusal);
        };
        let Some(dialog) = self.dialogs.get_mut(&id) else {
            return;
        };
        dialog.reach.note_request(flow);
        let last = *dialog.remote_cseq_of(request.peer_tag());
        if last.is_some_and(|last| request.cseq <= last) {
            let refusal = Refusal::plain(500, "old CSeq");
            return self.refuse_request(now, Some(id), flow, &request.headers, &refusal);
        }
        let ends = request.method == Method::Bye;
        let is_stranger = dialog.trunk.is_none() && !self.is_trusted(flow);
        if !ends && is_stranger && self.is_crowded() {
            let refusal = Refusal::with(500, "transactions", "Retry-After", "1");
            return self.refuse_request(now, Some(id), flow, &request.headers, &refusal);
        }
        let Some(dialog) = self.dialogs.get_mut(&id) else {
            return;
        };
        if !ends
            && !dialog
                .requests
                .take(now, REQUESTS_PER_SECOND, REQUESTS_BURST)
        {
            let refusal = Refusal::with(500, "requests in one call", "Retry-After", "1");
            return self.refuse_request(now, Some(id), flow, &request.headers, &refusal);
        }
        // Gaps are fine (section 12.2.2).
        *dialog.remote_cseq_of(request.peer_tag()) = Some(request.cseq);
        if matches!(dialog.stage, Stage::Calling { .. }) {
            return self.handle_early(now, flow, request, id);
        }
        let leaving = matches!(dialog.stage, Stage::Leaving { .. });
        match request.method {
            Method::Bye => self.handle_bye(now, flow, request, id),
            _ if leaving => self.answer_within(now, flow, request, id, 481, &[]),
            Method::Invite => self.handle_reinvite(now, flow, request, id),
            Method::Update => self.handle_update(now, flow, request, id),
            Method::Prack => self.handle_prack(now, flow, request, id),
            Method::Info => self.handle_info(now, flow, request, id),
            Method::Options => self.tell_abilities(now, flow, request, id),
            Method::Refer => self.answer_within(now, flow, request, id, 603, &[]),
            Method::Cancel => self.answer_within(now, flow, request, id, 481, &[]),
            Method::Ack | Method::Other | Method::Unknown => {}
        }
        // His request pays for its answer first.
        if !ends {
            self.follow(now, id, flow);
            self.send_waiting_bye(now, id);
        }
    }

    /// In an early dialog of an INVITE of ours (RFC 3261 section 12.1). 481 to what may be asked there would end the
    /// call; BYE is not for the called side (section 15).
    fn handle_early(&mut self, now: Instant, flow: Flow, request: &Request, id: DialogId) {
        let has_offer = !request.body.is_empty();
        let call = self.dialogs.get(&id);
        let is_answered = call.is_some_and(|call| call.is_answered_early(request.peer_tag()));
        match request.method {
            // The gateway takes no offers before the call is up (RFC 3311 section 5.2).
            Method::Update if has_offer && is_answered => {
                let seconds = self.tokens.below(11).to_string();
                let headers = [("Retry-After", seconds.as_str())];
                self.counters.refuse("offer pending");
                self.answer_within(now, flow, request, id, 500, &headers);
            }
            // It meets our offer: 491.
            Method::Update if has_offer => self.handle_update(now, flow, request, id),
            Method::Invite => self.handle_reinvite(now, flow, request, id),
            // Session timers are settled by the answer to our INVITE.
            Method::Update => {
                let transaction = self.open_other(flow, request, id);
                self.answer_refresh(now, id, transaction, None);
            }
            Method::Info => self.answer_within(now, flow, request, id, 200, &[]),
            Method::Options => self.tell_abilities(now, flow, request, id),
            Method::Refer => self.answer_within(now, flow, request, id, 603, &[]),
            Method::Bye | Method::Prack | Method::Cancel => {
                self.answer_within(now, flow, request, id, 481, &[]);
            }
            Method::Ack | Method::Other | Method::Unknown => {}
        }
    }

    /// An ACK that ended no transaction: for a 2xx, or for an answer we don't remember.
    pub(super) fn handle_ack(&mut self, now: Instant, flow: Flow, request: &Request) {
        let Some(id) = self.find_dialog(request) else {
            return;
        };
        let Some(dialog) = self.dialogs.get_mut(&id) else {
            return;
        };
        dialog.reach.note_request(flow);
        let news = match &dialog.peer_offer {
            PeerOffer::Answered(answered) if answered.cseq == request.cseq => answered.news,
            PeerOffer::Answered(_) | PeerOffer::None | PeerOffer::Waiting { .. } => return,
        };
        dialog.peer_offer = PeerOffer::None;
        let stage = dialog.stage.clone();
        self.follow(now, id, flow);
        self.settle_dialog(id);
        let sdp = body_of(request);
        match stage {
            Stage::Leaving {
                q850,
                bye: Bye::AfterAck,
            } => self.send_bye(now, id, q850),
            Stage::Leaving { .. } => {}
            Stage::Ringing | Stage::Calling { .. } | Stage::Confirmed if news || sdp.is_some() => {
                self.tell(SipEvent::Acknowledged { dialog: id, sdp });
            }
            Stage::Ringing | Stage::Calling { .. } | Stage::Confirmed => {}
        }
    }

    fn find_dialog(&self, request: &Request) -> Option<DialogId> {
        let key = DialogKey {
            call_id: request.call_id.clone(),
            local_tag: request.to.tag()?.to_owned(),
            remote_tag: request.peer_tag().to_owned(),
        };
        if let Some(id) = self.dialog_keys.get(&key) {
            return Some(*id);
        }
        // While our INVITE rings, its dialog stands under nobody's tag.
        let remote_tag = String::new();
        let id = self.dialog_keys.get(&DialogKey { remote_tag, ..key })?;
        let call = self.dialogs.get(id)?;
        call.rings_at(request.peer_tag()).then_some(*id)
    }

    fn handle_bye(&mut self, now: Instant, flow: Flow, request: &Request, id: DialogId) {
        self.answer_within(now, flow, request, id, 200, &[]);
        let Some(dialog) = self.dialogs.get(&id) else {
            return;
        };
        let leaving = matches!(dialog.stage, Stage::Leaving { .. });
        if let PeerOffer::Waiting { transaction, .. } = dialog.peer_offer {
            self.respond(
                now,
                transaction,
                &Reply {
                    status: 487,
                    ..Reply::default()
                },
            );
        }
        self.remove_dialog(id);
        if !leaving {
            self.tell(SipEvent::Bye {
                dialog: id,
                q850: q850_of(&request.headers),
            });
        }
    }

    /// RFC 3262 section 3. Ours bring no offer and no answer: there is nothing that a body could be about.
    fn handle_prack(&mut self, now: Instant, flow: Flow, request: &Request, id: DialogId) {
        let Some(dialog) = self.dialogs.get_mut(&id) else {
            return;
        };
        let known = dialog.provisional.acknowledge(request);
        self.settle_dialog(id);
        let status = match (known, request.body.is_empty()) {
            (false, _) => 481,
            (true, false) => 488,
            (true, true) => 200,
        };
        self.answer_within(now, flow, request, id, status, &[]);
    }

    fn handle_info(&mut self, now: Instant, flow: Flow, request: &Request, id: DialogId) {
        self.answer_within(now, flow, request, id, 200, &[]);
        if let Some(body) = body_of(request) {
            let content_type = request
                .headers
                .first("Content-Type")
                .unwrap_or_default()
                .to_owned();
            self.tell(SipEvent::Info {
                dialog: id,
                content_type,
                body,
            });
        }
    }

    fn handle_reinvite(&mut self, now: Instant, flow: Flow, request: &Request, id: DialogId) {
        let tag = self.local_tag(id);
        let transaction = self.open_invite(flow, request, tag, id, None);
        self.try_it(now, transaction);
        self.offer_to_gateway(now, request, id, transaction, asked_by(request));
    }

    /// UPDATE (RFC 3311): with SDP like a re-INVITE, without only a refresh of target and session.
    fn handle_update(&mut self, now: Instant, flow: Flow, request: &Request, id: DialogId) {
        let transaction = self.open_other(flow, request, id);
        if !request.body.is_empty() {
            return self.offer_to_gateway(now, request, id, transaction, Asked::AnswerWithoutAck);
        }
        let session = self.session_asked(request);
        if let Some(dialog) = self.dialogs.get_mut(&id) {
            dialog.refresh_target(&request.headers);
        }
        self.answer_refresh(now, id, transaction, session);
    }

    /// One offer at a time (RFC 3261 section 14.2, RFC 3311 section 5.2), and not too many a second.
    fn offer_to_gateway(
        &mut self,
        now: Instant,
        request: &Request,
        id: DialogId,
        transaction: TransactionId,
        asked: Asked,
    ) {
        let session = self.session_asked(request);
        let Some(dialog) = self.dialogs.get_mut(&id) else {
            return;
        };
        let own_pending = matches!(dialog.own_offer, OwnOffer::Pending { .. })
            || matches!(dialog.stage, Stage::Calling { .. });
        let peer_pending = !matches!(dialog.peer_offer, PeerOffer::None);
        let refused = if own_pending {
            Some((491, "0"))
        } else if peer_pending
            || !dialog
                .media_changes
                .take(now, MEDIA_CHANGES_PER_SECOND, MEDIA_CHANGES_BURST)
        {
            Some((500, "1"))
        } else {
            None
        };
        if let Some((status, seconds)) = refused {
            let retry = [("Retry-After", seconds)];
            let headers = if status == 500 { &retry[..] } else { &[] };
            self.counters.refuse("offer pending");
            self.respond(
                now,
                transaction,
                &Reply {
                    status,
                    headers,
                    ..Reply::default()
                },
            );
            return;
        }
        dialog.refresh_target(&request.headers);
        dialog.peer_offer = PeerOffer::Waiting {
            transaction,
            cseq: request.cseq,
            session,
            asked,
        };
        self.tell(SipEvent::Reinvite {
            dialog: id,
            sdp: body_of(request),
        });
    }

    fn answer_within(
        &mut self,
        now: Instant,
        flow: Flow,
        request: &Request,
        id: DialogId,
        status: u16,
        headers: &[(&str, &str)],
    ) {
        let transaction = self.open_other(flow, request, id);
        self.respond(
            now,
            transaction,
            &Reply {
                status,
                headers,
                ..Reply::default()
            },
        );
    }

    fn tell_abilities(&mut self, now: Instant, flow: Flow, request: &Request, id: DialogId) {
        let headers = [("Allow", ALLOW), ("Accept", SDP), ("Supported", SUPPORTED)];
        self.answer_within(now, flow, request, id, 200, &headers);
    }

    fn open_other(&mut self, flow: Flow, request: &Request, id: DialogId) -> TransactionId {
        let entry = ServerEntry {
            machine: ServerMachine::Other(Server::new(flow.is_reliable(), self.config.timing)),
            head: ReplyHead::of(&request.headers, flow.peer()),
            flow,
            key: request.transaction_key(),
            merge_key: None,
            dialog: Some(id),
            tag: self.local_tag(id),
            is_weighed: false,
        };
        self.insert_server(entry)
    }

    fn local_tag(&self, id: DialogId) -> String {
        self.dialogs
            .get(&id)
            .map(|dialog| dialog.key.local_tag.clone())
            .unwrap_or_default()
    }
}

/// `Reason: Q.850;cause=16` (RFC 3326).
pub(super) fn q850_of(headers: &Headers) -> Option<u8> {
    headers.list("Reason").find_map(|reason| {
        let (protocol, params) = reason.split_once(';')?;
        let is_q850 = protocol.trim().eq_ignore_ascii_case("Q.850");
        address::param(params, "cause")
            .filter(|_| is_q850)?
            .parse()
            .ok()
    })
}
