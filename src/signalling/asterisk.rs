//! Asterisks: what their callers do, as inputs for the calls, and what the calls decide, carried out over ARI.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::active_call::{ActiveCall, Line, Media};
use super::asterisk_link::{self, News, Order};
use super::asterisk_rest::Answer;
use super::clock;
use super::gateway::Gateway;
use super::seal;
use super::settings::Dialled;
use crate::ari::{AriEvent, CallerId, Dial, Endpoint, EndpointConfig, IncomingCaller, Transmit};
use crate::booking::admission::CallId;
use crate::booking::{CallerNumber, Outcome};
use crate::call::roster::LiveError;
use crate::call::{Arrival, Call, CallInput, Past, Rejection, is_emergency};
use crate::config::{AsteriskConfig, DialTemplate, Secret};
use crate::engine::KnownPeer;
use crate::media::codec::Codec;
use crate::media::parameters::{Direction, MediaParameters, TelephoneEvent};
use crate::units::DialplanPlace;

/// All Asterisks, and the tasks that hold their connections.
pub(super) struct Asterisks {
    all: Vec<Asterisk>,
    _links: JoinSet<()>,
}

/// One Asterisk.
struct Asterisk {
    name: String,
    endpoint: Endpoint,
    orders: mpsc::Sender<Order>,
    /// Our address on the connection: where it can send audio to as well.
    local: IpAddr,
    /// Its address there.
    remote: IpAddr,
    /// How it dials, if it may.
    dial: Option<DialTemplate>,
    /// Seals what stands beside its callers.
    key: Secret,
    /// Contexts that callers may be sent on into.
    leave_to: Vec<String>,
    /// The last failure was told.
    complained: bool,
    /// Since when nobody listens where it should be.
    dead_since: Option<Instant>,
}

/// A caller of one of the Asterisks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct AsteriskCaller {
    /// By position in the configuration.
    asterisk: usize,
    caller: CallerId,
}

impl Asterisks {
    /// Starts a task for each; it connects when the gateway says so.
    pub(super) fn start(
        configs: Vec<AsteriskConfig>,
        seed: u64,
    ) -> (Self, mpsc::Receiver<(usize, News)>) {
        let (news, told) = mpsc::channel(NEWS);
        let (mut all, mut links) = (Vec::new(), JoinSet::new());
        for (index, config) in configs.into_iter().enumerate() {
            let (orders, ordered) = mpsc::channel(ORDERS);
            let endpoint = EndpointConfig {
                app: config.app.clone(),
                seed: seed.wrapping_add(index as u64),
                take_over: config.take_over.clone(),
            };
            all.push(Asterisk {
                name: config.name.clone(),
                endpoint: Endpoint::new(clock::now(), endpoint),
                orders,
                local: Ipv4Addr::LOCALHOST.into(),
                remote: Ipv4Addr::UNSPECIFIED.into(),
                dial: config.dial.clone(),
                key: config.password.clone(),
                leave_to: config.leave_to.clone(),
                complained: false,
                dead_since: None,
            });
            links.spawn(asterisk_link::run(config, index, ordered, news.clone()));
        }
        let _links = links;
        (Self { all, _links }, told)
    }

    /// What their connections say.
    pub(super) fn handle_news(&mut self, now: Instant, index: usize, news: News) {
        let Some(asterisk) = self.all.get_mut(index) else {
            return;
        };
        match news {
            News::Opened { local, remote } => {
                (asterisk.local, asterisk.remote) = (local, remote);
                asterisk.endpoint.handle_opened(now);
            }
            News::Text(at, text) => asterisk.endpoint.handle_text(at, &text),
            News::Answer(answer) => {
                let Answer { id, status, body } = answer;
                asterisk.endpoint.handle_answer(now, id, status, body);
            }
            News::Closed { reason, dead } => {
                if dead {
                    asterisk.dead_since.get_or_insert(now);
                }
                if !std::mem::replace(&mut asterisk.complained, true) {
                    tracing::warn!(
                        asterisk = asterisk.name,
                        reason,
                        "Asterisk can't be reached, trying again"
                    );
                }
                asterisk.endpoint.handle_closed(now);
            }
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        let due =
            |asterisk: &&mut Asterisk| asterisk.endpoint.poll_timeout().is_some_and(|at| at <= now);
        for asterisk in self.all.iter_mut().filter(due) {
            asterisk.endpoint.handle_timeout(now);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let all = self.all.iter();
        all.filter_map(|asterisk| asterisk.endpoint.poll_timeout())
            .min()
    }

    fn poll_event(&mut self) -> Option<(usize, AriEvent)> {
        let mut all = self.all.iter_mut().enumerate();
        all.find_map(|(index, asterisk)| Some((index, asterisk.endpoint.poll_event()?)))
    }

    /// Passes on what is to be sent. A connection that takes no more loses it: the request is then not
    /// answered, and its caller told lost.
    pub(super) fn transmit(&mut self) {
        for asterisk in &mut self.all {
            while let Some(transmit) = asterisk.endpoint.poll_transmit() {
                let order = match transmit {
                    Transmit::Open => Order::Open,
                    Transmit::Ask(asked) => Order::Ask(asked),
                    Transmit::Close => Order::Close,
                };
                if asterisk.orders.try_send(order).is_err() {
                    tracing::warn!(
                        asterisk = asterisk.name,
                        "Asterisk takes requests too slowly"
                    );
                }
            }
        }
    }

    /// Sends a caller back to the dialplan.
    pub(super) fn leave(
        &mut self,
        now: Instant,
        line: AsteriskCaller,
        outcome: &'static str,
        place: Option<DialplanPlace>,
    ) {
        if let Some(asterisk) = self.all.get_mut(line.asterisk) {
            asterisk.endpoint.leave(now, line.caller, outcome, place);
        }
    }

    /// Asks whether a caller may and can be sent to a place in the dialplan.
    pub(super) fn find_extension(
        &mut self,
        now: Instant,
        line: AsteriskCaller,
        place: &DialplanPlace,
    ) -> Result<(), LiveError> {
        let asterisk = self.all.get_mut(line.asterisk);
        let asterisk = asterisk.ok_or(LiveError::Unavailable)?;
        if !asterisk.leave_to.iter().any(|one| one == place.context()) {
            return Err(LiveError::ContextNotAllowed);
        }
        if !asterisk.endpoint.is_connected() {
            return Err(LiveError::Unavailable);
        }
        asterisk.endpoint.find_extension(now, line.caller, place);
        Ok(())
    }

    pub(super) fn ring(&mut self, now: Instant, line: AsteriskCaller) {
        if let Some(asterisk) = self.all.get_mut(line.asterisk) {
            asterisk.endpoint.ring(now, line.caller);
        }
    }

    /// Is one there that may dial? `None`: none may.
    pub(super) fn can_dial(&self) -> Option<bool> {
        let all = self.all.iter();
        all.filter(|asterisk| asterisk.dial.is_some())
            .map(|asterisk| asterisk.endpoint.is_connected())
            .reduce(|one, other| one || other)
    }

    /// Somebody who is yet to be called, and his channel's name, by the first that may dial and is there.
    pub(super) fn prepare_dial(&mut self) -> Option<(AsteriskCaller, String)> {
        let all = self.all.iter_mut().enumerate();
        let mut may = all.filter(|(_, asterisk)| asterisk.dial.is_some());
        may.find_map(|(index, found)| {
            let (asterisk, caller) = (index, found.endpoint.prepare_dial()?);
            let channel = found.endpoint.channel(caller)?.to_owned();
            Some((AsteriskCaller { asterisk, caller }, channel))
        })
    }

    /// What is dialled to reach a number by this one.
    pub(super) fn endpoint_of(&self, line: AsteriskCaller, to: &CallerNumber) -> Option<String> {
        Some(self.all.get(line.asterisk)?.dial.as_ref()?.of(to.expose()))
    }

    pub(super) fn dial(&mut self, now: Instant, line: AsteriskCaller, dial: &Dial) {
        if let Some(asterisk) = self.all.get_mut(line.asterisk) {
            asterisk.endpoint.dial(now, line.caller, dial);
        }
    }

    fn answer(&mut self, now: Instant, line: AsteriskCaller, port: u16) {
        if let Some(asterisk) = self.all.get_mut(line.asterisk) {
            let rtp = SocketAddr::new(asterisk.local, port);
            asterisk.endpoint.answer(now, line.caller, rtp);
        }
    }

    /// Where the Asterisk of this caller is.
    fn remote(&self, line: AsteriskCaller) -> IpAddr {
        let asterisk = self.all.get(line.asterisk);
        asterisk.map_or(Ipv4Addr::UNSPECIFIED.into(), |asterisk| asterisk.remote)
    }

    /// Has the Asterisk of this caller been dead for so long that silence means that he is gone? One that only
    /// doesn't answer may go on, and he with it.
    fn is_gone(&self, now: Instant, line: AsteriskCaller) -> bool {
        let asterisk = self.all.get(line.asterisk);
        asterisk
            .and_then(|asterisk| asterisk.dead_since)
            .is_some_and(|since| now.saturating_duration_since(since) >= GONE_AFTER)
    }

    /// Writes down beside a caller what another process has to know of him; `None`: nothing.
    fn remember(&mut self, now: Instant, line: AsteriskCaller, past: Option<&Past>) {
        let Some(asterisk) = self.all.get_mut(line.asterisk) else {
            return;
        };
        let channel = asterisk.endpoint.channel(line.caller).unwrap_or_default();
        let sealed =
            past.and_then(|past| seal::seal(asterisk.key.expose(), channel, &past.to_text()));
        asterisk
            .endpoint
            .remember(now, line.caller, sealed.unwrap_or_default());
    }

    /// What was written down beside a caller, if it was us who wrote it.
    fn past_of(&self, line: AsteriskCaller, incoming: &IncomingCaller) -> Option<Box<Past>> {
        let key = self.all.get(line.asterisk)?.key.expose();
        let past = incoming.past.as_ref()?;
        let past = seal::open(key, &incoming.channel, past).and_then(Past::from_text);
        if past.is_none() {
            tracing::warn!(
                channel = incoming.channel,
                "what stands beside a caller can't be read: his PIN is asked again; was the password in ari.conf changed, or the program?"
            );
        }
        past.map(Box::new)
    }

    /// Which of them are connected.
    pub(super) fn connected(&self) -> Vec<(String, bool)> {
        let stands = |one: &Asterisk| (one.name.clone(), one.endpoint.is_connected());
        self.all.iter().map(stands).collect()
    }

    /// What happened with each, since start.
    pub(super) fn events(&self) -> Vec<(String, &'static str, u64)> {
        let each = |asterisk: &Asterisk| {
            let name = asterisk.name.clone();
            let counted = asterisk.endpoint.counters().in_words();
            counted.map(|(event, count)| (name.clone(), event, count))
        };
        self.all.iter().flat_map(each).collect()
    }

    /// Callers who stay are not left in silence.
    pub(super) fn play_music(&mut self, now: Instant) {
        for asterisk in &mut self.all {
            asterisk.endpoint.play_music(now);
        }
    }

    /// Everything was said, and who was sent away is gone.
    pub(super) fn are_done(&self) -> bool {
        let mut all = self.all.iter();
        all.all(|asterisk| asterisk.endpoint.is_settled() || !asterisk.endpoint.is_connected())
    }
}

/// What comes from the Asterisks.
impl Gateway {
    /// Takes one event of theirs; `false`: there is none.
    pub(super) fn handle_asterisks(&mut self) -> bool {
        let Some((index, event)) = self.asterisks.poll_event() else {
            return false;
        };
        let line = |caller| AsteriskCaller {
            asterisk: index,
            caller,
        };
        match event {
            AriEvent::Connected => self.asterisk_connected(index),
            AriEvent::Disconnected => {
                tracing::warn!(
                    asterisk = self.asterisk_name(index),
                    "the connection to Asterisk is lost; callers stay, their audio doesn't need it"
                );
            }
            AriEvent::Replaced => self.asterisk_replaced(index),
            AriEvent::Arrived {
                caller,
                at,
                incoming,
            } => self.handle_arrival(at, line(caller), *incoming),
            AriEvent::PickedUp { caller } => self.line_input(line(caller), CallInput::PickedUp),
            AriEvent::NotReached { caller, q850 } => {
                self.line_over(line(caller), CallInput::NotReached { q850 });
            }
            AriEvent::Media {
                caller,
                codec,
                remote,
            } => self.connect_media(line(caller), codec, remote),
            AriEvent::Answered { caller } => self.line_input(line(caller), CallInput::Answered),
            AriEvent::Key { caller, key } => self.line_input(line(caller), CallInput::Key(key)),
            AriEvent::Hold { caller, held } => self.hold(line(caller), held),
            AriEvent::Extension { caller, exists } => self.extension_found(line(caller), exists),
            AriEvent::HungUp { caller } => self.line_over(line(caller), CallInput::HungUp),
            AriEvent::TakenOver { caller } => self.taken_over(line(caller)),
            AriEvent::NeighbourSilent { app } => {
                tracing::warn!(
                    asterisk = self.asterisk_name(index),
                    app,
                    "another node has fallen silent: its callers are taken over"
                );
            }
            AriEvent::Lost {
                caller,
                channel,
                asked,
                status,
            } => {
                if let Some(call) = self.by_line.get(&line(caller)) {
                    tracing::warn!(%call, channel, asked, status, "Asterisk did not do what a call needs; the call ends");
                }
                self.line_input(line(caller), CallInput::Lost);
            }
        }
        true
    }

    fn asterisk_name(&self, index: usize) -> &str {
        let asterisk = self.asterisks.all.get(index);
        asterisk.map_or("", |asterisk| asterisk.name.as_str())
    }

    fn asterisk_connected(&mut self, index: usize) {
        if let Some(asterisk) = self.asterisks.all.get_mut(index) {
            asterisk.complained = false;
            asterisk.dead_since = None;
            tracing::info!(asterisk = asterisk.name, "connected to Asterisk");
        }
    }

    fn asterisk_replaced(&mut self, index: usize) {
        tracing::error!(
            asterisk = self.asterisk_name(index),
            "another program took over this app name; give each node a name of its own in [[asterisk]] app and start again"
        );
        let its: Vec<AsteriskCaller> = self
            .by_line
            .keys()
            .filter(|line| line.asterisk == index)
            .copied()
            .collect();
        for line in its {
            self.taken_over(line);
        }
    }

    /// Another process has the caller, and finds beside him what it needs; it also keeps the record.
    fn taken_over(&mut self, line: AsteriskCaller) {
        let id = self.by_line.get(&line);
        if let Some(active) = id.and_then(|id| self.calls.get_mut(id)) {
            active.handed_over = active.can_be_found_again();
        }
        self.line_over(line, CallInput::Lost);
    }

    fn handle_arrival(&mut self, at: Instant, line: AsteriskCaller, incoming: IncomingCaller) {
        let past = self.asterisks.past_of(line, &incoming);
        let past = past.filter(|past| !self.calls.contains_key(&past.call));
        if incoming.dialled && past.is_none() {
            // Somebody called him, but not into a meeting that is known any more.
            self.asterisks.leave(at, line, Outcome::Error.word(), None);
            return;
        }
        let fresh = || CallId(uuid::Uuid::now_v7());
        let id = past.as_ref().map_or_else(fresh, |past| past.call);
        let refused = self.refusal().filter(|_| past.is_none());
        let dialled = Dialled::find(&self.bookings.numbers(), &incoming.number);
        let served = dialled.served || past.is_some();
        tracing::info!(call = %id, asterisk = self.asterisk_name(line.asterisk), channel = incoming.channel, back = past.is_some(), "call arrived");
        let call = Call::new(id, self.call_limits());
        let mut active = ActiveCall::new(call, Line::Asterisk(line), None);
        // Who is back is not greeted.
        active.arrived_at = past.is_none().then_some(at);
        active.called_out = incoming.dialled;
        self.calls.insert(id, active);
        self.by_line.insert(line, id);
        let arrival = Arrival {
            kind: KIND,
            caller: incoming.caller,
            voice: dialled.voice(incoming.language, incoming.channel_language),
            number: dialled.number,
            pin: incoming.pin,
            trusted: true,
            past,
            outgoing: None,
            trunk: None,
            verstat: None,
            sip_call_id: incoming.sip_call_id,
            asterisk_channel: Some(incoming.channel),
        };
        let input = match refused {
            _ if is_emergency(&incoming.number) || is_emergency(&arrival.number) => {
                CallInput::Arrived(arrival)
            }
            Some(refused) => {
                self.counters.admission_refused(refused);
                CallInput::Unwanted(arrival, Rejection::Overload)
            }
            None if served => CallInput::Arrived(arrival),
            None => CallInput::Unwanted(arrival, Rejection::UnknownNumber),
        };
        self.input(id, input);
    }

    /// Has what another process would need stand beside a caller whenever it changes.
    pub(super) fn remember(&mut self, now: Instant, id: CallId) {
        let Some(active) = self.calls.get_mut(&id) else {
            return;
        };
        let Line::Asterisk(line) = active.line else {
            return;
        };
        let past = self.rooms.seat(id).and_then(|seat| active.call.past(seat));
        if past != active.memory {
            self.asterisks.remember(now, line, past.as_ref());
            active.memory = past;
        }
    }

    /// Opens the leg and has Asterisk answer.
    pub(super) fn answer_asterisk(&mut self, now: Instant, id: CallId, line: AsteriskCaller) {
        let remote = self.asterisks.remote(line);
        // On this machine nothing stands between that could make another address of the announced one.
        let shares = remote.is_loopback() || self.settings.may_share(remote);
        let opened = if shares {
            self.engine.open_leg_to_be_named()
        } else {
            self.engine.open_leg()
        };
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => {
                tracing::warn!(%error, "no media for a new call; see media.ports and limits.calls");
                self.input(id, CallInput::Lost);
                return;
            }
        };
        self.by_leg.insert(opened.leg, id);
        if let Some(active) = self.calls.get_mut(&id) {
            if let Some(at) = active.arrived_at {
                self.counters.set_up.begin(opened.leg, KIND, at);
            }
            active.media = Some(Media {
                leg: opened.leg,
                agreed: None,
                negotiation: None,
            });
        }
        self.asterisks.answer(now, line, opened.rtp.port());
    }

    /// Asterisk says what to speak and where to.
    fn connect_media(&mut self, line: AsteriskCaller, codec: Codec, remote: SocketAddr) {
        let Some(&id) = self.by_line.get(&line) else {
            return;
        };
        let Some(media) = self.calls.get_mut(&id).and_then(|a| a.media.as_mut()) else {
            return;
        };
        let parameters = parameters(codec, remote);
        media.agreed = Some(parameters);
        let named = match KnownPeer::of(&parameters) {
            Some(peer) => self.engine.name_peer(media.leg, peer),
            None => Ok(()),
        };
        let connected = named.and_then(|()| self.engine.connect_leg(media.leg, &parameters));
        if let Err(error) = connected {
            tracing::warn!(call = %id, %error, "no media for a call");
            self.input(id, CallInput::Lost);
        }
    }

    /// While a phone has us on hold Asterisk plays music into our leg, which nobody is to hear.
    fn hold(&mut self, line: AsteriskCaller, held: bool) {
        let id = self.by_line.get(&line);
        let active = id.and_then(|id| self.calls.get_mut(id));
        let Some(media) = active.and_then(|active| active.media.as_mut()) else {
            return;
        };
        let Some(agreed) = media.agreed.as_mut() else {
            return;
        };
        agreed.direction = if held {
            Direction::SendOnly
        } else {
            Direction::SendRecv
        };
        let changed = *agreed;
        if let Err(error) = self.engine.connect_leg(media.leg, &changed) {
            tracing::warn!(%error, "a leg could not be put on hold");
        }
    }

    /// A leg's figures came. Where neither connection nor audio is left Asterisk itself is gone: nothing else
    /// would tell that this caller is.
    pub(super) fn look_for_life(&mut self, id: CallId, before: u64, received: u64) {
        let Some(Line::Asterisk(line)) = self.calls.get(&id).map(|active| &active.line) else {
            return;
        };
        if received == before && self.asterisks.is_gone(clock::now(), *line) {
            tracing::info!(call = %id, "Asterisk is gone, and the call with it");
            self.input(id, CallInput::Lost);
        }
    }

    fn line_input(&mut self, line: AsteriskCaller, input: CallInput) {
        if let Some(&id) = self.by_line.get(&line) {
            self.input(id, input);
        }
    }

    /// The caller is no longer with us.
    fn line_over(&mut self, line: AsteriskCaller, input: CallInput) {
        let Some(id) = self.by_line.remove(&line) else {
            return;
        };
        if let Some(active) = self.calls.get_mut(&id) {
            active.line = Line::Gone;
        }
        self.input(id, input);
    }
}

/// A leg whose other end is an externalMedia channel.
fn parameters(codec: Codec, remote: SocketAddr) -> MediaParameters {
    MediaParameters {
        // Keys are told as events; in the packets they are only taken out.
        telephone_event: Some(TelephoneEvent {
            payload_type: 101,
            clock: 8_000,
        }),
        signalling_source: Some(remote.ip()),
        ..MediaParameters::plain(codec, remote)
    }
}

pub(super) const KIND: &str = "asterisk";
/// An Asterisk that is dead for so long and sends no audio is gone with its callers.
const GONE_AFTER: Duration = Duration::from_secs(2);
/// Messages of all Asterisks that may wait for the gateway.
const NEWS: usize = 8_192;
/// Messages that may wait for one Asterisk.
const ORDERS: usize = 8_192;
