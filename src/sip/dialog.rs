//! Dialogs (RFC 3261 section 12): who talks to whom, in which state, and what is under way.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::sip::address::{self, NameAddr};
use crate::sip::compose::RequestHead;
use crate::sip::early::Early;
use crate::sip::event::{DialogId, Flow, TrunkId};
use crate::sip::message::{Headers, Request, Response};
use crate::sip::provisional::{self, Provisional};
use crate::sip::session::{self, Refresher, Session, Terms};
use crate::sip::strangers::Reach;
use crate::sip::timers::earliest;
use crate::sip::transaction::{Timing, TransactionId};
use crate::token_bucket::TokenBucket;

/// What tells dialogs apart (RFC 3261 section 12): Call-ID and both tags.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct DialogKey {
    pub(crate) call_id: String,
    pub(crate) local_tag: String,
    pub(crate) remote_tag: String,
}

/// One call's signalling.
pub(crate) struct Dialog {
    pub(crate) id: DialogId,
    pub(crate) key: DialogKey,
    /// Our address with our tag, as a header value.
    local: String,
    /// The peer's address with its tag.
    remote: String,
    /// Where the peer's Contact says requests go; only ever written into the request line.
    target: String,
    routes: Vec<String>,
    /// `host:port` of our Via and Contact.
    pub(crate) host_port: String,
    /// The way back to the peer; `None` once its connection is closed.
    pub(crate) flow: Option<Flow>,
    /// Called by a SIPS URI: ours is one too (RFC 3261 section 12.1.1).
    pub(crate) sips: bool,
    pub(crate) reach: Reach,
    local_cseq: u32,
    pub(crate) remote_cseq: Option<u32>,
    pub(crate) stage: Stage,
    pub(crate) peer_offer: PeerOffer,
    pub(crate) own_offer: OwnOffer,
    pub(crate) provisional: Provisional,
    /// We placed the call (the owner of the Call-ID waits longer after a glare, section 14.1).
    pub(crate) ours: bool,
    /// The trunk that it came or goes by: whose challenges are answered.
    pub(crate) trunk: Option<TrunkId>,
    /// Early dialogs of an INVITE of ours that isn't answered yet.
    pub(crate) early: Vec<Early>,
    session: Option<Session>,
    /// The peer takes UPDATE, as it says.
    pub(crate) takes_update: bool,
    /// The peer knows session timers, as it says.
    pub(crate) knows_timers: bool,
    /// What we offered or answered last: said again by a re-INVITE that only gives a sign of life.
    pub(crate) described: Bytes,
    pub(crate) media_changes: TokenBucket,
    /// All requests of the peer: each is remembered for 32 s.
    pub(crate) requests: TokenBucket,
}

/// How far the call is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Their INVITE waits for our answer.
    Ringing,
    /// Our INVITE waits for theirs.
    Calling {
        invite: TransactionId,
        cancel: Cancel,
        ends: Instant,
    },
    /// A 2xx went out or came in.
    Confirmed,
    /// We hung up, for this cause; the gateway hears no more of it.
    Leaving { q850: u8, bye: Bye },
}

/// What has become of our BYE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bye {
    /// It is sent when the ACK has come, which the called side must wait for (RFC 3261 section 15).
    AfterAck,
    /// It is under way. If its connection breaks, it goes once more by the next one, until then.
    Sent { until: Instant },
    /// Nothing leads to the trunk: it goes by the next way there, until then.
    Unsent { until: Instant },
}

/// Of an INVITE of ours that is to be taken back: only after a provisional answer (section 9.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cancel {
    Unwanted { provisional: bool },
    Wanted,
    Sent,
}

/// An INVITE or UPDATE of the peer that is not over.
#[derive(Debug, Clone)]
pub(crate) enum PeerOffer {
    None,
    /// Waits for the gateway.
    Waiting {
        transaction: TransactionId,
        cseq: u32,
        session: Option<Terms>,
        asked: Asked,
    },
    /// Our 2xx waits for its ACK and is repeated (section 13.3.1.4).
    Answered(Answered),
}

/// What the peer's request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// An answer to its offer.
    Answer,
    /// Our offer; its answer comes with the ACK.
    Offer,
    /// An answer to the offer of an UPDATE, which has no ACK.
    AnswerWithoutAck,
}

/// A 2xx that is repeated until its ACK.
#[derive(Debug, Clone)]
pub(crate) struct Answered {
    pub(crate) cseq: u32,
    /// The ACK is news for the gateway: the call is up, or our offer is answered.
    pub(crate) news: bool,
    pub(crate) ok: Bytes,
    again: Instant,
    interval: Duration,
    ends: Instant,
}

/// A re-INVITE of ours that is not over.
#[derive(Debug, Clone)]
pub(crate) enum OwnOffer {
    None,
    Pending {
        transaction: TransactionId,
        sdp: Bytes,
        /// A provisional answer stops the transaction's own clock; this one goes on.
        ends: Instant,
    },
    /// It met one of the peer: once more at this time.
    Later {
        at: Instant,
        sdp: Bytes,
    },
}

/// What a dialog's timer asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    /// Send the 2xx again.
    Repeat(Bytes),
    /// The 2xx was never acknowledged.
    NoAck,
    /// A provisional answer that must arrive was never acknowledged.
    NoPrack,
    /// The session was not refreshed.
    Expired,
    /// It is for us to refresh the session, now.
    Refresh,
    /// Send the re-INVITE now.
    Reinvite(Bytes),
    /// Our re-INVITE found no final answer.
    NoAnswer(TransactionId),
    /// Our INVITE rang, or its CANCEL was ignored, for too long.
    CallingTooLong,
    /// No way was found for our BYE.
    NoWay,
}

/// What the 2xx to an INVITE settles for the caller's side.
pub(crate) struct Origin {
    pub(crate) uri: String,
    /// Passed by what is sent before it.
    pub(crate) routes: Vec<String>,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) call_id: String,
    pub(crate) tag: String,
    pub(crate) cseq: u32,
}

impl Dialog {
    /// Of an INVITE that came in.
    pub(crate) fn incoming(
        now: Instant,
        id: DialogId,
        request: &Request,
        place: Place,
        waiting: PeerOffer,
    ) -> Self {
        let key = DialogKey {
            call_id: request.call_id.clone(),
            local_tag: place.tag,
            remote_tag: request.peer_tag().to_owned(),
        };
        let to = request.headers.first("To").unwrap_or_default();
        let mut dialog = Self {
            id,
            local: format!("{to};tag={}", key.local_tag),
            key,
            remote: request.headers.first("From").unwrap_or_default().to_owned(),
            target: place.target,
            routes: request
                .headers
                .list("Record-Route")
                .map(ToOwned::to_owned)
                .collect(),
            host_port: place.host_port,
            sips: place.sips,
            flow: Some(place.flow),
            reach: Reach::of_a_caller(place.flow),
            local_cseq: 0,
            remote_cseq: Some(request.cseq),
            stage: Stage::Ringing,
            peer_offer: waiting,
            own_offer: OwnOffer::None,
            provisional: Provisional::asked_by(request),
            ours: false,
            trunk: place.trunk,
            early: Vec::new(),
            session: None,
            takes_update: false,
            knows_timers: false,
            described: Bytes::new(),
            media_changes: TokenBucket::full(now, MEDIA_CHANGES_BURST),
            requests: TokenBucket::full(now, REQUESTS_BURST),
        };
        dialog.learn(&request.headers);
        dialog
    }

    /// Of an INVITE of ours.
    pub(crate) fn outgoing(
        now: Instant,
        id: DialogId,
        origin: Origin,
        flow: Flow,
        host_port: String,
        stage: Stage,
    ) -> Self {
        Self {
            id,
            key: DialogKey {
                call_id: origin.call_id,
                local_tag: origin.tag,
                remote_tag: String::new(),
            },
            local: origin.from,
            remote: origin.to,
            target: origin.uri,
            routes: origin.routes,
            host_port,
            sips: false,
            flow: Some(flow),
            reach: Reach::of_a_callee(flow),
            local_cseq: origin.cseq,
            remote_cseq: None,
            stage,
            peer_offer: PeerOffer::None,
            own_offer: OwnOffer::None,
            provisional: Provisional::Unreliable,
            ours: true,
            trunk: None,
            early: Vec::new(),
            session: None,
            takes_update: false,
            knows_timers: false,
            described: Bytes::new(),
            media_changes: TokenBucket::full(now, MEDIA_CHANGES_BURST),
            requests: TokenBucket::full(now, REQUESTS_BURST),
        }
    }

    /// The dialog that a 2xx to our INVITE makes of this one (RFC 3261 section 12.1.2); for each branch of a
    /// fork another.
    pub(crate) fn adopt(&mut self, response: &Response) {
        let tag = response.to.tag().unwrap_or_default();
        self.remote_cseq = *self.remote_cseq_of(tag);
        self.key.remote_tag = tag.to_owned();
        self.remote = response.headers.first("To").unwrap_or_default().to_owned();
        self.routes = response
            .headers
            .list("Record-Route")
            .map(ToOwned::to_owned)
            .collect();
        self.routes.reverse();
        self.refresh_target(&response.headers);
        self.learn(&response.headers);
    }

    /// What the peer says of itself; who says nothing can't.
    fn learn(&mut self, headers: &Headers) {
        self.takes_update = headers.lists_token("Allow", "UPDATE");
        self.knows_timers = session::knows_timers(headers);
    }

    /// A throw-away dialog with another branch of this INVITE's fork, whose last request of ours had this number.
    /// It needs nothing of the call, which may be over.
    pub(crate) fn branch_of(
        now: Instant,
        id: DialogId,
        invite: &RequestHead,
        last_cseq: u32,
        response: &Response,
    ) -> Self {
        let origin = Origin {
            uri: invite.uri.clone(),
            routes: Vec::new(),
            from: invite.from.clone(),
            to: String::new(),
            call_id: invite.call_id.clone(),
            tag: String::new(),
            cseq: last_cseq,
        };
        let host_port = invite.sent_by.clone();
        let stage = Stage::Confirmed;
        let mut branch = Self::outgoing(now, id, origin, invite.flow, host_port, stage);
        branch.adopt(response);
        branch
    }

    /// The head of a request in the early dialog that this provisional answer belongs to (RFC 3261 section
    /// 12.1.2).
    pub(crate) fn early_request(
        &mut self,
        now: Instant,
        invite: &RequestHead,
        answer: &Response,
        branch: String,
    ) -> RequestHead {
        let mut early = Self::branch_of(now, self.id, invite, self.local_cseq, answer);
        let head = early.request(branch, invite.flow, None);
        self.local_cseq = early.local_cseq;
        head
    }

    /// The number of our last request.
    pub(crate) const fn last_cseq(&self) -> u32 {
        self.local_cseq
    }

    /// The number of our next request.
    pub(crate) const fn next_cseq(&mut self) -> u32 {
        self.local_cseq += 1;
        self.local_cseq
    }

    /// Target refresh by INVITE, UPDATE and their 2xx (RFC 3261 section 12.2).
    pub(crate) fn refresh_target(&mut self, headers: &Headers) {
        if let Some(target) = contact_uri(headers) {
            self.target = target;
        }
    }

    /// The head of our next request. `cseq`: ACK repeats the INVITE's.
    pub(crate) fn request(&mut self, branch: String, flow: Flow, cseq: Option<u32>) -> RequestHead {
        let cseq = cseq.unwrap_or_else(|| self.next_cseq());
        let (uri, routes) = self.route();
        RequestHead {
            uri,
            flow,
            sent_by: self.host_port.clone(),
            branch,
            routes,
            from: self.local.clone(),
            to: self.remote.clone(),
            call_id: self.key.call_id.clone(),
            cseq,
        }
    }

    /// Request line and Route headers; a first proxy without `lr` routes strictly (section 12.2.1.1).
    fn route(&self) -> (String, Vec<String>) {
        let strict = self
            .routes
            .first()
            .and_then(|first| NameAddr::parse(first))
            .filter(|first| {
                address::param(first.uri.split_once(';').map_or("", |(_, p)| p), "lr").is_none()
            });
        match strict {
            None => (self.target.clone(), self.routes.clone()),
            Some(first) => {
                let rest = self.routes.iter().skip(1).cloned();
                (
                    first.uri,
                    rest.chain([format!("<{}>", self.target)]).collect(),
                )
            }
        }
    }

    /// The 2xx to an INVITE has been sent and waits for its ACK.
    pub(crate) fn await_ack(
        &mut self,
        now: Instant,
        cseq: u32,
        asked: Asked,
        ok: Bytes,
        timing: &Timing,
    ) {
        let news = self.stage == Stage::Ringing || asked == Asked::Offer;
        self.provisional.stop();
        self.peer_offer = PeerOffer::Answered(Answered {
            cseq,
            news,
            ok,
            again: now + timing.t1,
            interval: timing.t1,
            ends: now + timing.patience(),
        });
    }

    /// Starts, restarts or stops the session timer, as the 2xx says.
    pub(crate) fn set_session(&mut self, now: Instant, terms: Option<Terms>) {
        self.session = terms.map(|terms| Session::begin(now, terms));
    }

    pub(crate) fn session_terms(&self) -> Option<Terms> {
        self.session.map(|session| session.terms)
    }

    /// How long to wait after 491 (section 14.1), `random` being below 1,000.
    pub(crate) fn glare_wait(&self, random: u64) -> Duration {
        if self.ours {
            Duration::from_millis(2100 + random * 19 / 10)
        } else {
            Duration::from_millis(10 + random * 2)
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let answered = match &self.peer_offer {
            PeerOffer::Answered(answered) => Some(answered.again.min(answered.ends)),
            PeerOffer::None | PeerOffer::Waiting { .. } => None,
        };
        let own = match &self.own_offer {
            OwnOffer::Later { at, .. } => Some(*at),
            OwnOffer::Pending { ends, .. } => Some(*ends),
            OwnOffer::None => None,
        };
        let stage = match self.stage {
            Stage::Calling { ends, .. } => Some(ends),
            Stage::Leaving {
                bye: Bye::Unsent { until },
                ..
            } => Some(until),
            Stage::Ringing | Stage::Confirmed | Stage::Leaving { .. } => None,
        };
        earliest([
            answered,
            self.provisional.deadline(),
            own,
            stage,
            self.session.map(|session| session.deadline()),
        ])
    }

    /// One thing that is due; call again until nothing is.
    pub(crate) fn handle_timeout(&mut self, now: Instant, timing: &Timing) -> Due {
        if let PeerOffer::Answered(answered) = &mut self.peer_offer {
            if answered.ends <= now {
                self.peer_offer = PeerOffer::None;
                return Due::NoAck;
            }
            if answered.again <= now {
                answered.interval = (answered.interval * 2).min(timing.t2);
                answered.again = now + answered.interval;
                return Due::Repeat(answered.ok.clone());
            }
        }
        match self.provisional.handle_timeout(now) {
            provisional::Due::Nothing => {}
            provisional::Due::Repeat(bytes) => return Due::Repeat(bytes),
            provisional::Due::GiveUp => return Due::NoPrack,
        }
        match &self.own_offer {
            OwnOffer::Later { at, sdp } if *at <= now => {
                let sdp = sdp.clone();
                self.own_offer = OwnOffer::None;
                return Due::Reinvite(sdp);
            }
            OwnOffer::Pending {
                transaction, ends, ..
            } if *ends <= now => {
                let transaction = *transaction;
                self.own_offer = OwnOffer::None;
                return Due::NoAnswer(transaction);
            }
            OwnOffer::None | OwnOffer::Pending { .. } | OwnOffer::Later { .. } => {}
        }
        if let Some(session) = &mut self.session {
            match session.handle_timeout(now) {
                session::Due::Nothing => {}
                session::Due::Refresh => return Due::Refresh,
                session::Due::Expired => {
                    let terms = session.terms;
                    // Without a way we could say nothing: whether anybody is there, the media tell.
                    let is_cut_off = self.flow.is_none() && terms.refresher == Refresher::Us;
                    self.session = is_cut_off.then(|| Session::begin(now, terms));
                    if !is_cut_off {
                        return Due::Expired;
                    }
                }
            }
        }
        match self.stage {
            Stage::Calling { ends, .. } if ends <= now => Due::CallingTooLong,
            Stage::Leaving {
                bye: Bye::Unsent { until },
                ..
            } if until <= now => Due::NoWay,
            Stage::Ringing | Stage::Calling { .. } | Stage::Confirmed | Stage::Leaving { .. } => {
                Due::Nothing
            }
        }
    }
}

/// Where a dialog stands in the world.
pub(crate) struct Place {
    pub(crate) tag: String,
    pub(crate) target: String,
    pub(crate) host_port: String,
    pub(crate) flow: Flow,
    pub(crate) sips: bool,
    pub(crate) trunk: Option<TrunkId>,
}

/// The URI of the one Contact of a request or response; only SIP addresses count.
pub(crate) fn contact_uri(headers: &Headers) -> Option<String> {
    let contact = NameAddr::parse(headers.list("Contact").next()?)?;
    let target = address::Target::parse(&contact.uri).ok()?;
    target.is_sip().then_some(contact.uri)
}

/// re-INVITEs and UPDATEs a peer may send at once, and per second: each stops and starts media.
pub(crate) const MEDIA_CHANGES_BURST: f64 = 5.0;
pub(crate) const MEDIA_CHANGES_PER_SECOND: f64 = 1.0;

/// Requests within one call, at once and per second: keys by INFO come at ten a second.
pub(crate) const REQUESTS_BURST: f64 = 100.0;
pub(crate) const REQUESTS_PER_SECOND: f64 = 20.0;
