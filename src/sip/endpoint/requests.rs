//! Requests at the door: duplicates, CANCEL, what is refused without remembering it, and new calls.

use std::time::Instant;

use bytes::Bytes;

use crate::sip::address::{BadTarget, Scheme, Target};
use crate::sip::compose::{ALLOW, RELIABLE, Reply, ReplyHead, SDP, SUPPORTED, TIMER};
use crate::sip::dialog::{Asked, Dialog, PeerOffer, Place, Stage, contact_uri};
use crate::sip::doorkeeper::{Claim, Proof, Verdict};
use crate::sip::endpoint::sending::but_the_last_quarter;
use crate::sip::endpoint::trunks::Trunk;
use crate::sip::endpoint::{Endpoint, ServerEntry, ServerMachine, identity};
use crate::sip::event::{DialogId, Flow, IncomingInvite, SipEvent, TrunkId};
use crate::sip::message::{self, Headers, Method, RawRequest, Request};
use crate::sip::session::{BadInterval, MIN_SE, Terms};
use crate::sip::transaction::TransactionId;
use crate::sip::transaction::server_invite::ServerInvite;
use crate::token_bucket::TokenBucket;

/// An answer that needs no transaction.
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) reason: &'static str,
    pub(super) headers: Vec<(&'static str, String)>,
}

impl Refusal {
    pub(super) const fn plain(status: u16, reason: &'static str) -> Self {
        Self {
            status,
            reason,
            headers: Vec::new(),
        }
    }

    pub(super) fn with(
        status: u16,
        reason: &'static str,
        name: &'static str,
        value: impl Into<String>,
    ) -> Self {
        Self {
            status,
            reason,
            headers: vec![(name, value.into())],
        }
    }
}

impl Endpoint {
    pub(super) fn handle_request(&mut self, now: Instant, flow: Flow, raw: RawRequest) {
        match raw.check() {
            Ok(request) => self.handle_sound_request(now, flow, &request),
            Err(refused) => {
                let (status, raw) = *refused;
                let answerable = raw.method != Method::Ack && raw.headers.first("Via").is_some();
                let refusal = Refusal::plain(status, "malformed");
                if answerable {
                    self.refuse_request(now, None, flow, &raw.headers, &refusal);
                } else {
                    self.refuse(flow, refusal.reason);
                }
            }
        }
    }

    fn handle_sound_request(&mut self, now: Instant, flow: Flow, request: &Request) {
        if let Some(id) = self.server_keys.get(&request.transaction_key()).copied()
            && self.handle_known(now, flow, id, request)
        {
            return;
        }
        if request.method == Method::Ack {
            return self.handle_ack(now, flow, request);
        }
        if let Err(refusal) = screen(request) {
            return self.refuse_request(now, None, flow, &request.headers, &refusal);
        }
        if request.to.tag().is_some() {
            return self.handle_within(now, flow, request);
        }
        let refusal = match request.method {
            Method::Invite => return self.handle_new_invite(now, flow, request),
            Method::Options => return self.handle_options(now, flow, request),
            Method::Bye
            | Method::Info
            | Method::Update
            | Method::Prack
            | Method::Cancel
            | Method::Ack => Refusal::plain(481, "no such call"),
            Method::Refer | Method::Other | Method::Unknown => {
                Refusal::with(405, "method", "Allow", ALLOW)
            }
        };
        self.refuse_request(now, None, flow, &request.headers, &refusal);
    }

    /// A request whose transaction is known. False where it is an ACK for the dialog.
    fn handle_known(
        &mut self,
        now: Instant,
        flow: Flow,
        id: TransactionId,
        request: &Request,
    ) -> bool {
        if self.is_from_elsewhere(flow, id) {
            self.refuse(flow, "repeated from elsewhere");
            return true;
        }
        if request.method == Method::Cancel {
            self.handle_cancel(now, flow, id, request);
            return true;
        }
        let Some(entry) = self.servers.get_mut(&id) else {
            return false;
        };
        let (is_weighed, dialog, first) = (entry.is_weighed, entry.dialog, entry.flow);
        if request.method == Method::Ack {
            let ServerMachine::Invite(machine) = &mut entry.machine else {
                return true;
            };
            let absorbed = machine.handle_ack(now);
            self.settle_server(id);
            return absorbed;
        }
        let again = entry.machine.handle_retransmission();
        self.counters.duplicates += 1;
        if is_weighed && self.is_weighed(dialog, flow) {
            // It is all that has a stranger's answer sent again, if what came pays for that.
            if let Some(bytes) = again.or_else(|| self.unacknowledged(dialog?, request)) {
                self.send_in(now, dialog, first, bytes);
            }
        } else if let Some(bytes) = again {
            self.send(flow, bytes);
        }
        true
    }

    /// Somebody repeats a request from another host than it came from, by whatever transport: our answer is for that
    /// one alone, and tells what only he may know.
    fn is_from_elsewhere(&self, flow: Flow, id: TransactionId) -> bool {
        let first = self.servers.get(&id).map(|entry| entry.flow.host());
        first != Some(flow.host()) && !self.is_trusted(flow)
    }

    /// CANCEL of an INVITE that we know (RFC 3261 section 9.2): 200 in any case, 487 if it came in time.
    fn handle_cancel(&mut self, now: Instant, flow: Flow, id: TransactionId, request: &Request) {
        let Some(entry) = self.servers.get(&id) else {
            return;
        };
        let (tag, dialog, open) = (entry.tag.clone(), entry.dialog, entry.machine.is_open());
        let head = ReplyHead::of(&request.headers, flow.peer());
        let ok = head.compose(&Reply {
            status: 200,
            tag: Some(&tag),
            ..Reply::default()
        });
        self.send_in(now, dialog, flow, ok);
        if !open {
            return;
        }
        self.respond(
            now,
            id,
            &Reply {
                status: 487,
                ..Reply::default()
            },
        );
        let Some(dialog) = dialog else { return };
        let Some(call) = self.dialogs.get_mut(&dialog) else {
            return;
        };
        call.peer_offer = PeerOffer::None;
        if call.stage == Stage::Ringing {
            self.remove_dialog(dialog);
            self.tell(SipEvent::Cancelled { dialog });
        }
    }

    fn handle_options(&mut self, now: Instant, flow: Flow, request: &Request) {
        if !self.accepting {
            return self.refuse_request(now, None, flow, &request.headers, &self.busy("draining"));
        }
        let headers = [("Allow", ALLOW), ("Accept", SDP), ("Supported", SUPPORTED)];
        self.reply_once(now, None, flow, &request.headers, 200, &headers);
    }

    fn handle_new_invite(&mut self, now: Instant, flow: Flow, request: &Request) {
        let trunk = match self.admit(now, flow, request) {
            Ok(trunk) => trunk,
            Err(refusal) => {
                return self.refuse_request(now, None, flow, &request.headers, &refusal);
            }
        };
        // `screen` has looked: both are there.
        let (Ok(target), Some(remote)) = (Target::parse(&request.uri), remote_target(request))
        else {
            return;
        };
        let dialog = self.next_dialog_id();
        let tag = self.tokens.fresh();
        let place = Place {
            tag: tag.clone(),
            target: remote,
            host_port: self.host_port(flow, request, &target),
            flow,
            trunk,
            sips: target.scheme == Scheme::Sips,
        };
        let local = message::host_ip(&place.host_port).filter(|ip| !ip.is_unspecified());
        let transaction = self.open_invite(flow, request, tag, dialog, Some(merge_key(request)));
        let waiting = PeerOffer::Waiting {
            transaction,
            cseq: request.cseq,
            session: self.session_asked(request),
            asked: asked_by(request),
        };
        let mut call = Dialog::incoming(now, dialog, request, place, waiting);
        // Who proved it by an answer to our challenge got that.
        if trunk.is_some() {
            call.reach.note_arrival(flow);
        }
        self.insert_dialog(call);
        self.try_it(now, transaction);
        let source = flow.peer().ip().to_canonical();
        let is_known = trunk.is_some() || self.is_trusted(flow) || source.is_loopback();
        let known = trunk.and_then(|trunk| self.trunk_at(trunk));
        let trusts = known.is_some_and(Trunk::trusts_identity);
        let contact_user = known.and_then(Trunk::contact_user);
        let invite = IncomingInvite {
            pin: identity::pin_of(request, &target),
            number: identity::number_of(request, &target, contact_user),
            diverted_from: trusts.then(|| identity::diverted_from(request)).flatten(),
            caller: identity::caller_of(request, trusts),
            verstat: trusts.then(|| identity::verstat_of(request)).flatten(),
            trunk,
            call_id: request.call_id.clone(),
            sdp: body_of(request),
            source,
            is_stranger: !is_known,
            may_be_made_up: !is_known && self.may_be_forged(flow),
            local,
        };
        self.tell(SipEvent::Invite {
            dialog,
            invite: Box::new(invite),
        });
    }

    /// Opens the transaction of an INVITE.
    pub(super) fn open_invite(
        &mut self,
        flow: Flow,
        request: &Request,
        tag: String,
        dialog: DialogId,
        merge_key: Option<String>,
    ) -> TransactionId {
        self.insert_server(ServerEntry {
            machine: ServerMachine::Invite(ServerInvite::new(
                flow.is_reliable(),
                self.config.timing,
            )),
            head: ReplyHead::of(&request.headers, flow.peer()),
            flow,
            key: request.transaction_key(),
            merge_key,
            dialog: Some(dialog),
            tag,
            is_weighed: false,
        })
    }

    /// Sends 100 at once, so that the peer stops repeating his INVITE.
    pub(super) fn try_it(&mut self, now: Instant, invite: TransactionId) {
        let trying = Reply {
            status: 100,
            ..Reply::default()
        };
        self.respond(now, invite, &trying);
    }

    /// The trunk that a new call comes by, if there is room for it.
    fn admit(
        &mut self,
        now: Instant,
        flow: Flow,
        request: &Request,
    ) -> Result<Option<TrunkId>, Refusal> {
        if self.merge_keys.contains_key(&merge_key(request)) {
            return Err(Refusal::plain(482, "merged"));
        }
        if !self.accepting {
            return Err(self.busy("draining"));
        }
        let trunk = self.whose(now, flow, request);
        let is_newcomer = !self.take_for_known(flow, matches!(trunk, Ok(Some(_))));
        if is_newcomer && !self.sources.admit(now, flow.peer().ip()) {
            return Err(self.busy("source rate"));
        }
        // Who is to prove who he is gets to that, however many others there are.
        let trunk = trunk?;
        if self.lacks_certificate(flow) {
            return Err(Refusal::plain(403, "no certificate of its trunk"));
        }
        if is_newcomer && self.are_too_many(now, flow) {
            return Err(self.busy("newcomers"));
        }
        let limits = self.config.limits;
        let part = |all| {
            if is_newcomer {
                but_the_last_quarter(all)
            } else {
                all
            }
        };
        if self.dialogs.len() >= part(limits.dialogs) {
            return Err(self.busy("dialogs"));
        }
        if self.servers.len() + self.clients.len() >= part(limits.transactions) {
            return Err(self.busy("transactions"));
        }
        Ok(trunk)
    }

    /// Whoever has proven whose call it is has no limit; that he was asked to isn't held against his source either.
    fn take_for_known(&mut self, flow: Flow, is_proven: bool) -> bool {
        let is_trusted = self.is_trusted(flow);
        if is_proven && !is_trusted {
            self.sources.give_back(flow.peer().ip());
        }
        is_proven || is_trusted
    }

    /// Are there too many new calls of strangers? Those whose address may be made up are counted apart.
    fn are_too_many(&mut self, now: Instant, flow: Flow) -> bool {
        let limits = &self.config.limits;
        let (rate, burst) = (limits.newcomers_per_second, limits.newcomers_burst);
        let [by_connection, by_datagram] = &mut self.newcomers;
        let kind = if flow.is_reliable() {
            by_connection
        } else {
            by_datagram
        };
        let all = kind.get_or_insert(TokenBucket::full(now, burst));
        !all.take(now, rate, burst)
    }

    /// The trunk that a call comes by. Where several phones share an address, or anybody may be there, each proves
    /// who it is.
    fn whose(
        &mut self,
        now: Instant,
        flow: Flow,
        request: &Request,
    ) -> Result<Option<TrunkId>, Refusal> {
        if let Some((trunk, _)) = self.trunk_of(flow) {
            return Ok(Some(trunk));
        }
        let known = self.may_prove(flow);
        if known.is_empty() {
            return Ok(None);
        }
        let source = flow.peer().ip();
        let claim = Claim {
            source,
            method: "INVITE",
            uri: &request.uri,
            authorization: request.headers.first("Authorization"),
        };
        let proofs: Vec<&Proof> = known.iter().map(|(_, proof)| proof).collect();
        match self.doorkeeper.judge(now, &claim, &proofs) {
            Verdict::Proven(at) => Ok(known.get(at).map(|(trunk, _)| *trunk)),
            Verdict::Ask { stale, reason } => Err(Refusal {
                status: 401,
                reason,
                headers: self.doorkeeper.challenges(now, source, stale, &proofs),
            }),
            Verdict::Malformed => Err(Refusal::plain(400, "malformed credentials")),
            Verdict::TooOften => Err(self.busy("guesses")),
        }
    }

    fn busy(&self, reason: &'static str) -> Refusal {
        Refusal::with(
            503,
            reason,
            "Retry-After",
            self.config.retry_after.to_string(),
        )
    }

    pub(super) fn refuse_request(
        &mut self,
        now: Instant,
        dialog: Option<DialogId>,
        flow: Flow,
        headers: &Headers,
        refusal: &Refusal,
    ) {
        self.refuse(flow, refusal.reason);
        let extra = refusal.headers.iter();
        let extra: Vec<(&str, &str)> = extra.map(|(name, value)| (*name, value.as_str())).collect();
        self.reply_once(now, dialog, flow, headers, refusal.status, &extra);
    }

    /// Answers without remembering anything: a duplicate gets the same again, an ACK is ignored. Where it would be
    /// more than came from there, first the optional headers go, of several challenges all but the last one, which
    /// everybody understands, then the answer.
    fn reply_once(
        &mut self,
        now: Instant,
        dialog: Option<DialogId>,
        flow: Flow,
        headers: &Headers,
        status: u16,
        extra: &[(&str, &str)],
    ) {
        let head = ReplyHead::of(headers, flow.peer());
        let parts = ["Call-ID", "From", "CSeq"]
            .map(|name| headers.first(name).unwrap_or_default().as_bytes());
        let tag = self.tokens.of(&parts);
        let last = extra
            .get(extra.len().saturating_sub(1)..)
            .unwrap_or_default();
        let composed = |headers, compact| {
            head.compose(&Reply {
                status,
                tag: Some(&tag),
                headers,
                compact,
                ..Reply::default()
            })
        };
        let peer = flow.peer().ip();
        let is_weighed = self.is_weighed(dialog, flow);
        let fits = |bytes: &Bytes| !is_weighed || self.strangers.covers(now, peer, bytes.len());
        let whole = composed(extra, false);
        let bytes = if fits(&whole) {
            whole
        } else {
            // Without a challenge nobody could answer it.
            let least = if status == 401 { last } else { &[] };
            Some(composed(last, true))
                .filter(fits)
                .unwrap_or_else(|| composed(least, true))
        };
        self.send_in(now, dialog, flow, bytes);
    }
}

/// What can be said of a request without knowing any call (RFC 3261 section 8.2).
fn screen(request: &Request) -> Result<(), Refusal> {
    match (request.method, Target::parse(&request.uri)) {
        (_, Err(BadTarget::Form)) => return Err(Refusal::plain(400, "malformed")),
        (Method::Other, _) => return Err(Refusal::with(405, "method", "Allow", ALLOW)),
        (Method::Unknown, _) => return Err(Refusal::with(501, "method", "Allow", ALLOW)),
        (_, Err(BadTarget::Scheme)) => return Err(Refusal::plain(416, "scheme")),
        (_, Ok(_)) => {}
    }
    if request.method == Method::Cancel {
        return Ok(());
    }
    let unsupported: Vec<&str> = request
        .headers
        .list("Require")
        .filter(|tag| {
            let is = |known: &str| tag.eq_ignore_ascii_case(known);
            !is(TIMER) && !is(RELIABLE)
        })
        .collect();
    if !unsupported.is_empty() {
        return Err(Refusal::with(
            420,
            "extension",
            "Unsupported",
            unsupported.join(", "),
        ));
    }
    if !matches!(request.method, Method::Invite | Method::Update) {
        return Ok(());
    }
    screen_content(request)?;
    screen_accept(request)?;
    session_terms(request)?;
    if request.method == Method::Invite && remote_target(request).is_none() {
        return Err(Refusal::plain(400, "no contact"));
    }
    Ok(())
}

fn screen_content(request: &Request) -> Result<(), Refusal> {
    if request.body.is_empty() {
        return Ok(());
    }
    let encoding = request
        .headers
        .first("Content-Encoding")
        .unwrap_or("identity");
    if !encoding.eq_ignore_ascii_case("identity") {
        return Err(Refusal::with(
            415,
            "content encoding",
            "Accept-Encoding",
            "identity",
        ));
    }
    let content_type = request.headers.first("Content-Type").unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    // Some gateways forget to say; what looks like SDP is read as SDP.
    let unsaid_sdp = media_type.is_empty() && request.body.starts_with(b"v=0");
    if unsaid_sdp || media_type.eq_ignore_ascii_case(SDP) {
        Ok(())
    } else {
        Err(Refusal::with(415, "content type", "Accept", SDP))
    }
}

/// Who says what he takes, and SDP isn't among it, can't be answered (RFC 3261 section 20.1).
fn screen_accept(request: &Request) -> Result<(), Refusal> {
    let said = request.headers.first("Accept").is_some();
    let mut accepted = request.headers.list("Accept");
    let takes_sdp = accepted.any(|range| {
        let media_type = range.split(';').next().unwrap_or_default().trim();
        [SDP, "application/*", "*/*"]
            .iter()
            .any(|fits| media_type.eq_ignore_ascii_case(fits))
    });
    if said && !takes_sdp {
        return Err(Refusal::with(406, "accepted type", "Accept", SDP));
    }
    Ok(())
}

/// Where requests of ours in this call go. A peer of RFC 2543's time may leave Contact out: then it is From.
fn remote_target(invite: &Request) -> Option<String> {
    let is_old = !invite.via.is_unique() && invite.headers.first("Contact").is_none();
    contact_uri(&invite.headers).or_else(|| {
        let from = Some(&invite.from.uri).filter(|_| is_old)?;
        Target::parse(from).ok()?.is_sip().then(|| from.clone())
    })
}

fn session_terms(request: &Request) -> Result<(), Refusal> {
    match Terms::asked(request, None) {
        Ok(_) => Ok(()),
        Err(BadInterval::Malformed) => Err(Refusal::plain(400, "malformed")),
        Err(BadInterval::TooSmall) => Err(Refusal::with(
            422,
            "session interval",
            "Min-SE",
            MIN_SE.to_string(),
        )),
    }
}

/// Whether an INVITE offers, or wants our offer.
pub(super) fn asked_by(invite: &Request) -> Asked {
    if invite.body.is_empty() {
        Asked::Offer
    } else {
        Asked::Answer
    }
}

/// The body, if there is one.
pub(super) fn body_of(request: &Request) -> Option<Bytes> {
    (!request.body.is_empty()).then(|| request.body.clone())
}

fn merge_key(request: &Request) -> String {
    format!(
        "{} {} {}",
        request.call_id,
        request.peer_tag(),
        request.cseq
    )
}
