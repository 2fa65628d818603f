//! Trunks: who calls by them is believed more, their registrars are told where we are, and calls of ours go out by
//! them.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::sip::compose::RequestHead;
use crate::sip::dialog::Stage;
use crate::sip::digest::Credentials;
use crate::sip::doorkeeper::Proof;
use crate::sip::endpoint::qualify::{Qualify, QualifySettings};
use crate::sip::endpoint::{Endpoint, Purpose, Timer};
use crate::sip::event::{ConnectionId, Flow, SipEvent, StreamTransport, TrunkId, TrunkState};
use crate::sip::message::Response;
use crate::sip::registration::{Meaning, Registration, retry_after};
use crate::sip::timers::earliest;

/// A trunk, as signalling needs it.
#[derive(Debug, Clone, Default)]
pub struct TrunkSettings {
    /// Networks that its calls come from, beside its registrar's address.
    pub peers: Vec<crate::config::Network>,
    /// Its address alone doesn't make a call its: it must come over a connection that has shown its certificate, or that
    /// leads from us to it.
    pub needs_certificate: bool,
    /// Its address alone doesn't make a call its: it must prove to know these.
    pub proves: Option<Proof>,
    /// P-Asserted-Identity from there says who calls (RFC 3325 section 9.1).
    pub trust_identity: bool,
    /// Who is told where we are; `None`: nobody.
    pub registrar: Option<RegistrarSettings>,
    /// For challenges of its registrar, and of whoever takes our calls there.
    pub credentials: Option<Credentials>,
    /// What the credentials are for; `None`: for the realm by which the registrar has challenged us and taken our
    /// answer.
    pub realm: Option<String>,
    /// The same for whoever takes our calls, where that is another one.
    pub dial_realm: Option<String>,
    /// How it is asked whether it is there; `None`: it isn't.
    pub qualify: Option<QualifySettings>,
    /// Its registrar is only asked what it knows of us (RFC 3261 section 10.2.3), nothing is changed there.
    pub asks_only: bool,
}

/// Who is told where we are.
#[derive(Debug, Clone)]
pub struct RegistrarSettings {
    /// `host[:port]` as it stands in the request line.
    pub host_port: String,
    /// The user part of our address there.
    pub user: String,
}

/// One trunk's state.
pub(super) struct Trunk {
    settings: TrunkSettings,
    registrar: Option<Registrar>,
    way: Option<Way>,
    /// Everywhere that its registrar's name leads to.
    addresses: Vec<IpAddr>,
    /// It has asked for no calls until then.
    not_before: Option<Instant>,
    /// Where it was reached last, even if it can't be now.
    last_peer: Option<SocketAddr>,
    pub(super) qualify: Qualify,
}

struct Registrar {
    settings: RegistrarSettings,
    registration: Registration,
    call_id: String,
    tag: String,
    cseq: u32,
    asks_only: bool,
    /// What was told last.
    up: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Way {
    flow: Flow,
    /// `host:port` of our Contact.
    local: String,
}

impl Trunk {
    pub(super) fn new(settings: TrunkSettings, mut token: impl FnMut() -> String) -> Self {
        let registrar = settings.registrar.clone().map(|registrar| Registrar {
            registration: Registration::new(settings.credentials.clone(), settings.realm.clone()),
            asks_only: settings.asks_only,
            settings: registrar,
            call_id: token(),
            tag: token(),
            cseq: 0,
            up: false,
        });
        Self {
            settings,
            registrar,
            way: None,
            addresses: Vec::new(),
            not_before: None,
            last_peer: None,
            qualify: Qualify::default(),
        }
    }

    /// Does a call from there come by this trunk, as far as addresses tell?
    fn carries(&self, flow: Flow) -> bool {
        let peer = flow.peer().ip();
        self.settings
            .peers
            .iter()
            .any(|network| network.contains(peer))
            || self.registrar.is_some() && self.may_be_its_registrar(peer)
    }

    fn may_be_its_registrar(&self, peer: IpAddr) -> bool {
        self.addresses.contains(&peer.to_canonical())
            || self.way.as_ref().is_some_and(|way| way.is_from(peer))
    }

    fn is_known_by_address(&self, flow: Flow) -> bool {
        let settings = &self.settings;
        self.owns(flow) || !settings.needs_certificate && settings.proves.is_none()
    }

    /// Is this the connection that we opened to it?
    fn owns(&self, flow: Flow) -> bool {
        let over_tls = |flow: Flow| {
            matches!(
                flow,
                Flow::Stream {
                    over: StreamTransport::Tls,
                    ..
                }
            )
        };
        let way = self.way.as_ref();
        way.is_some_and(|way| over_tls(flow) && way.flow == flow)
    }

    /// Is its own end at the other end of this flow? Whoever may forge addresses must at least know the port.
    pub(super) fn is_at(&self, flow: Flow) -> bool {
        let own = self.way.as_ref().map(|way| (way, way.flow.is_reliable()));
        match own {
            Some((way, false)) => !flow.is_reliable() && way.flow.peer() == flow.peer(),
            Some((way, true)) => flow.is_reliable() && way.is_from(flow.peer().ip()),
            None => false,
        }
    }

    /// What challenges of calls by it are answered with, and for which realm.
    pub(super) fn credentials(&self) -> Option<(&Credentials, &str)> {
        let proven = || self.registrar.as_ref()?.registration.proven_realm();
        let settings = &self.settings;
        let configured = settings.dial_realm.as_deref().or(settings.realm.as_deref());
        let realm = configured.or_else(proven)?;
        Some((self.settings.credentials.as_ref()?, realm))
    }

    /// May calls of ours go out by it now?
    fn takes_calls(&self, now: Instant) -> bool {
        let knows_us = self
            .registrar
            .as_ref()
            .is_none_or(|registrar| registrar.registration.is_registered(now));
        let answers = self.qualify.reach().is_none_or(|reach| reach.answers);
        let wants_calls = self.not_before.is_none_or(|at| at <= now);
        self.way.is_some() && knows_us && answers && wants_calls
    }

    pub(super) const fn qualify_settings(&self) -> Option<&QualifySettings> {
        self.settings.qualify.as_ref()
    }

    /// The way there, and our address on it.
    pub(super) fn way(&self) -> Option<(Flow, &str)> {
        let way = self.way.as_ref()?;
        Some((way.flow, way.local.as_str()))
    }

    pub(super) const fn trusts_identity(&self) -> bool {
        self.settings.trust_identity
    }

    /// The user part that the registrar calls us by, whatever number was dialled.
    pub(super) fn contact_user(&self) -> Option<&str> {
        self.registrar
            .as_ref()
            .map(|registrar| registrar.settings.user.as_str())
    }
}

impl Way {
    fn is_from(&self, peer: IpAddr) -> bool {
        self.flow.peer().ip().to_canonical() == peer.to_canonical()
    }
}

impl Registrar {
    /// The URI of our Contact.
    fn contact(&self, way: &Way) -> String {
        let transport = way.flow.contact_param();
        format!("sip:{}@{}{transport}", self.settings.user, way.local)
    }

    fn head(&mut self, way: &Way, branch: String) -> RequestHead {
        self.cseq += 1;
        let RegistrarSettings {
            host_port, user, ..
        } = &self.settings;
        RequestHead {
            uri: format!("sip:{host_port}"),
            flow: way.flow,
            sent_by: way.local.clone(),
            branch,
            routes: Vec::new(),
            from: format!("<sip:{user}@{host_port}>;tag={}", self.tag),
            to: format!("<sip:{user}@{host_port}>"),
            call_id: self.call_id.clone(),
            cseq: self.cseq,
        }
    }
}

impl Endpoint {
    /// A trunk is reached over `flow`; `local` is the `host:port` that calls are to come to. Told later: [`SipEvent::Trunk`].
    pub fn trunk_reached(&mut self, now: Instant, trunk: TrunkId, flow: Flow, local: &str) {
        let local = self.advertised(flow).unwrap_or(local).to_owned();
        let Some(reached) = self.trunks.get_mut(trunk.0) else {
            return;
        };
        let last = reached.last_peer.replace(flow.peer());
        let is_elsewhere = last.is_some_and(|last| last != flow.peer());
        let before = reached.way.replace(Way { flow, local });
        if let Some(registrar) = &mut reached.registrar {
            registrar.registration.connected(now, is_elsewhere);
        }
        if reached.settings.qualify.is_some() {
            let peer = |way: &Way| way.flow.peer();
            let is_another = before.as_ref().map(peer) != Some(flow.peer());
            reached.qualify.begin(now, is_another);
        }
        // What another server wished for says nothing of this one.
        if is_elsewhere {
            reached.not_before = None;
        }
        let before = before.and_then(|way| way.flow.connection());
        let before = before.filter(|connection| flow.connection() != Some(*connection));
        if !self.move_calls(now, trunk, before, flow, is_elsewhere) {
            self.closes.extend(before);
        }
        self.settle_trunk(trunk);
    }

    /// Calls by a trunk that are up and whose connection is lost, or was this one, go on by another; those that were
    /// to be ended meanwhile are. True: some are still being set up by it, or another server has them, so it is left
    /// open.
    fn move_calls(
        &mut self,
        now: Instant,
        trunk: TrunkId,
        before: Option<ConnectionId>,
        to: Flow,
        is_elsewhere: bool,
    ) -> bool {
        let mut is_needed = false;
        let mut leaving = Vec::new();
        let calls = self.dialogs.values_mut();
        for call in calls.filter(|call| call.trunk == Some(trunk)) {
            let is_left = call
                .flow
                .is_none_or(|flow| before.is_some() && flow.connection() == before);
            match call.stage {
                Stage::Confirmed if is_left && is_elsewhere && call.flow.is_some() => {
                    is_needed = true;
                }
                Stage::Confirmed if is_left => call.flow = Some(to),
                Stage::Leaving { .. } if call.flow.is_none() => {
                    call.flow = Some(to);
                    leaving.push(call.id);
                }
                Stage::Ringing | Stage::Calling { .. } | Stage::Leaving { .. } => {
                    is_needed |= is_left;
                }
                Stage::Confirmed => {}
            }
        }
        for id in leaving {
            self.send_waiting_bye(now, id);
        }
        is_needed
    }

    /// Where a trunk's name leads to: calls from there are its calls, if it is registered with.
    pub fn trunk_located(&mut self, trunk: TrunkId, addresses: &[IpAddr]) {
        if let Some(trunk) = self.trunks.get_mut(trunk.0) {
            trunk.addresses = addresses.to_vec();
        }
    }

    /// Is this where the trunk's requests go now?
    pub(super) fn leads_to(&self, trunk: TrunkId, flow: Flow) -> bool {
        let trunk = self.trunks.get(trunk.0);
        let way = trunk.and_then(|trunk| trunk.way.as_ref());
        way.is_none_or(|way| way.flow.peer() == flow.peer())
    }

    /// Takes our address back from all registrars: no more calls are wanted.
    pub fn leave_trunks(&mut self, now: Instant) {
        for trunk in (0..self.trunks.len()).map(TrunkId) {
            let known = self
                .registrar_mut(trunk)
                .is_some_and(|registrar| registrar.registration.leave());
            if known {
                self.send_register(now, trunk);
            }
            self.settle_trunk(trunk);
        }
    }

    /// Has a registrar yet to say that it has forgotten us?
    #[must_use]
    pub fn is_parting(&self) -> bool {
        let registrars = self
            .trunks
            .iter()
            .filter_map(|trunk| trunk.registrar.as_ref());
        registrars
            .into_iter()
            .any(|registrar| registrar.registration.is_parting())
    }

    /// Whoever opened this connection has shown a certificate of these trunks.
    pub fn handle_proven(&mut self, connection: ConnectionId, trunks: Vec<TrunkId>) {
        self.proven.insert(connection, trunks);
    }

    /// The trunk that somebody on this flow calls by: by his certificate, else by his address.
    pub(super) fn trunk_of(&self, flow: Flow) -> Option<(TrunkId, &Trunk)> {
        let connection = flow.connection();
        let proven = connection.and_then(|connection| self.proven.get(&connection)?.first());
        let by_address = || {
            let mut all = self.trunks.iter();
            all.position(|trunk| trunk.carries(flow) && trunk.is_known_by_address(flow))
        };
        let found = proven.map(|trunk| trunk.0).or_else(by_address)?;
        Some((TrunkId(found), self.trunks.get(found)?))
    }

    /// Whose calls may come on this flow, if they prove it.
    pub(super) fn may_prove(&self, flow: Flow) -> Vec<(TrunkId, Proof)> {
        let all = self.trunks.iter().enumerate();
        all.filter(|(_, trunk)| !trunk.settings.needs_certificate && trunk.carries(flow))
            .filter_map(|(at, trunk)| Some((TrunkId(at), trunk.settings.proves.clone()?)))
            .collect()
    }

    /// One of them, by its place.
    pub(super) fn trunk_at(&self, trunk: TrunkId) -> Option<&Trunk> {
        self.trunks.get(trunk.0)
    }

    /// He comes from where a trunk does, without the certificate that it must have.
    pub(super) fn lacks_certificate(&self, flow: Flow) -> bool {
        let mut all = self.trunks.iter();
        self.trunk_of(flow).is_none()
            && all.any(|trunk| trunk.settings.needs_certificate && trunk.carries(flow))
    }

    /// Would a call of ours by this trunk reach it now, as far as is known?
    #[must_use]
    pub fn takes_calls(&self, now: Instant, trunk: TrunkId) -> bool {
        let trunk = self.trunks.get(trunk.0);
        trunk.is_some_and(|trunk| trunk.takes_calls(now))
    }

    /// The way to a trunk, and our address on it.
    pub(super) fn way_to(&self, trunk: TrunkId) -> Option<(Flow, String)> {
        let (flow, local) = self.trunks.get(trunk.0)?.way()?;
        Some((flow, local.to_owned()))
    }

    /// What its registrar wants our calls by it to pass (RFC 3608).
    pub(super) fn service_route(&self, now: Instant, trunk: TrunkId) -> Vec<String> {
        let trunk = self.trunks.get(trunk.0);
        let registrar = trunk.and_then(|trunk| trunk.registrar.as_ref());
        registrar.map_or_else(Vec::new, |registrar| {
            registrar.registration.service_route(now).to_vec()
        })
    }

    /// A call of ours by it was answered 503: it wants no more for a while, if it says so (RFC 3261 section 21.5.4).
    pub(super) fn spare(&mut self, now: Instant, trunk: TrunkId, response: &Response) {
        let pause = retry_after(&response.headers).map(|pause| pause.min(SPARED_MAX));
        if let (Some(trunk), Some(pause)) = (self.trunks.get_mut(trunk.0), pause) {
            trunk.not_before = Some(now + pause);
        }
    }

    pub(super) fn trunk_timeout(&mut self, now: Instant, trunk: TrunkId) {
        self.qualify_timeout(now, trunk);
        let Some(registrar) = self.registrar_mut(trunk) else {
            return self.settle_trunk(trunk);
        };
        let due = registrar.registration.handle_timeout(now);
        let lapsed = registrar.up && !registrar.registration.is_registered(now);
        if lapsed {
            registrar.up = false;
            self.tell(SipEvent::Trunk {
                trunk,
                state: TrunkState::Lapsed,
            });
        }
        if due {
            self.send_register(now, trunk);
        }
        self.settle_trunk(trunk);
    }

    pub(super) fn register_answered(&mut self, now: Instant, trunk: TrunkId, response: &Response) {
        let random = self.tokens.below(1_000);
        let Some(trunk_now) = self.trunks.get_mut(trunk.0) else {
            return;
        };
        let (Some(registrar), Some(way)) = (&mut trunk_now.registrar, &trunk_now.way) else {
            return;
        };
        let ours = registrar.contact(way);
        let meaning = if registrar.asks_only && (200..300).contains(&response.status) {
            Meaning::Registered
        } else {
            registrar
                .registration
                .handle_response(now, response, &ours, random)
        };
        self.act_on(now, trunk, meaning);
    }

    pub(super) fn register_unanswered(&mut self, now: Instant, trunk: TrunkId) {
        let random = self.tokens.below(1_000);
        let Some(registrar) = self.registrar_mut(trunk) else {
            return;
        };
        let meaning = registrar.registration.unanswered(now, random);
        self.act_on(now, trunk, meaning);
    }

    /// A connection is gone: so are the ways that led over it.
    pub(super) fn trunks_lost(&mut self, gone: impl Fn(Flow) -> bool) {
        for trunk in (0..self.trunks.len()).map(TrunkId) {
            let Some(lost) = self
                .trunks
                .get_mut(trunk.0)
                .filter(|trunk| trunk.way.as_ref().is_some_and(|way| gone(way.flow)))
            else {
                continue;
            };
            lost.way = None;
            lost.qualify.end();
            if let Some(registrar) = &mut lost.registrar {
                registrar.registration.cut();
                registrar.up = false;
            }
            self.tell(SipEvent::Trunk {
                trunk,
                state: TrunkState::Cut,
            });
            self.settle_trunk(trunk);
        }
    }

    fn act_on(&mut self, now: Instant, trunk: TrunkId, meaning: Meaning) {
        match meaning {
            Meaning::Again => self.send_register(now, trunk),
            Meaning::Registered => self.tell_trunk(trunk, true, TrunkState::Up),
            Meaning::Refused(why) => {
                // A registration that is still good goes on; the next try may succeed before it ends.
                let up = self
                    .registrar_mut(trunk)
                    .is_some_and(|registrar| registrar.registration.is_registered(now));
                let state = TrunkState::Refused(why);
                self.tell_trunk(trunk, up, state);
            }
            Meaning::Nothing => {}
        }
        self.settle_trunk(trunk);
    }

    /// Refusals are told each time, that it is up only once.
    fn tell_trunk(&mut self, trunk: TrunkId, up: bool, state: TrunkState) {
        let Some(registrar) = self.registrar_mut(trunk) else {
            return;
        };
        let before = std::mem::replace(&mut registrar.up, up);
        if !(before && up && state == TrunkState::Up) {
            self.tell(SipEvent::Trunk { trunk, state });
        }
    }

    fn send_register(&mut self, now: Instant, trunk: TrunkId) {
        let (branch, cnonce) = (self.tokens.branch(), self.tokens.fresh());
        let agent = self.config.user_agent.clone();
        let Some(asked) = self.trunks.get_mut(trunk.0) else {
            return;
        };
        let (Some(registrar), Some(way)) = (&mut asked.registrar, asked.way.clone()) else {
            return;
        };
        let head = registrar.head(&way, branch);
        let contact = format!("<{}>", registrar.contact(&way));
        let expires = registrar.registration.expires().to_string();
        let authorization = registrar
            .registration
            .authorization("REGISTER", &head.uri, &cnonce);
        let mut headers = Vec::new();
        if !registrar.asks_only {
            headers.extend([("Contact", contact.as_str()), ("Expires", expires.as_str())]);
        }
        headers.extend(
            authorization
                .as_ref()
                .map(|(name, value)| (*name, value.as_str())),
        );
        headers.extend(agent.as_deref().map(|agent| ("User-Agent", agent)));
        self.start_other(
            now,
            head,
            "REGISTER",
            &headers,
            None,
            Purpose::Register(trunk),
        );
    }

    fn registrar_mut(&mut self, trunk: TrunkId) -> Option<&mut Registrar> {
        self.trunks.get_mut(trunk.0)?.registrar.as_mut()
    }

    pub(super) fn settle_trunk(&mut self, trunk: TrunkId) {
        let Some(settled) = self.trunks.get(trunk.0) else {
            return;
        };
        let registrar = settled.registrar.as_ref();
        let registration = registrar.and_then(|registrar| registrar.registration.deadline());
        let deadline = earliest([registration, settled.qualify.deadline()]);
        self.schedule.set(Timer::Trunk(trunk), deadline);
    }
}

/// However long a trunk wants no calls, it is asked again after this.
const SPARED_MAX: Duration = Duration::from_secs(600);
