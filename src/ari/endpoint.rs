//! One Asterisk: its connection, the requests that are under way, and in `callers` those who came; `order` sees to
//! it that nothing is left lying, `owner` that no two processes are at it, `neighbours` that the callers of a node
//! that has died come to us.

mod callers;
mod dial;
mod neighbours;
mod order;
mod owner;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

pub use self::dial::Dial;
pub(crate) use self::dial::is_dialled;
use self::neighbours::Neighbours;
use crate::ari::caller::{Caller, Media, Step};
use crate::ari::counters::AriCounters;
use crate::ari::event::{self, Bridge, Channel, Event, IncomingCaller, Response};
use crate::ari::link::{Due, Link};
use crate::ari::request::Request;
use crate::media::codec::Codec;
use crate::units::{DialplanPlace, Key};

/// See the module's text.
pub struct Endpoint {
    config: EndpointConfig,
    link: Link,
    callers: BTreeMap<CallerId, Caller>,
    by_channel: HashMap<String, CallerId>,
    /// By the name of the externalMedia channel.
    by_media: HashMap<String, CallerId>,
    last_caller: u64,
    /// In the order of their deadlines: all have the same time to be answered.
    pending: BTreeMap<u64, Pending>,
    last_request: u64,
    sweep_at: Option<Instant>,
    /// What was written beside callers may not have arrived.
    memory_unsure: bool,
    neighbours: Neighbours,
    counters: AriCounters,
    transmits: VecDeque<Transmit>,
    events: VecDeque<AriEvent>,
}

/// Who we are to an Asterisk.
#[derive(Debug, Clone)]
pub struct EndpointConfig {
    /// The application's name in `Stasis(...)`: letters, digits, `-` and `_`.
    pub app: String,
    /// Random, another one at each start: names of channels and bridges begin with it.
    pub seed: u64,
    /// The names of other nodes' applications, whose callers we take over when those fall silent.
    pub take_over: Vec<String>,
}

/// A caller, from his arrival to his end. Never reused within an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallerId(pub u64);

/// What the shell is to do with the connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Transmit {
    /// Open it; then [`Endpoint::handle_opened`], or [`Endpoint::handle_closed`] if that fails.
    Open,
    /// Pass on a request; its answer comes back by [`Endpoint::handle_text`] or [`Endpoint::handle_answer`].
    Ask(Asked),
    /// Drop it; no `handle_closed` is wanted.
    Close,
}

/// A request on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Its name, never used again.
    pub id: u64,
    /// Whom it concerns: requests for one are to reach Asterisk in the order in which they are given out, and
    /// so are those for nobody.
    pub whose: Option<u64>,
    /// What is asked.
    pub request: Request,
}

/// What an endpoint tells.
#[derive(Debug, Clone)]
pub enum AriEvent {
    /// The connection is there.
    Connected,
    /// It is away. Callers are kept: their audio doesn't pass it.
    Disconnected,
    /// Another program connected under our application's name. Its callers are gone, and no attempt is made
    /// to take them back.
    Replaced,
    /// A caller came in. Answer with `answer` or `leave`.
    Arrived {
        /// His name from now on.
        caller: CallerId,
        /// When that was told.
        at: Instant,
        /// Who he is.
        incoming: Box<IncomingCaller>,
    },
    /// Whom we call has answered. Answer with `answer` or `leave`.
    PickedUp {
        /// Who.
        caller: CallerId,
    },
    /// Whom we call can't be had. He is gone.
    NotReached {
        /// Who.
        caller: CallerId,
        /// Why (ITU-T Q.850).
        q850: u8,
    },
    /// What to speak with Asterisk for him.
    Media {
        /// Whom.
        caller: CallerId,
        /// G.711 or G.722.
        codec: Codec,
        /// Where Asterisk receives his audio and sends from.
        remote: SocketAddr,
    },
    /// He hears us.
    Answered {
        /// Who.
        caller: CallerId,
    },
    /// He pressed a key.
    Key {
        /// Who.
        caller: CallerId,
        /// Which. Prints as `***`.
        key: Key,
    },
    /// His phone put us on hold (`true`) or took us back.
    Hold {
        /// Whose.
        caller: CallerId,
        /// On hold.
        held: bool,
    },
    /// Does the extension exist that was asked for? `None`: Asterisk doesn't say.
    Extension {
        /// For whom.
        caller: CallerId,
        /// It does.
        exists: Option<bool>,
    },
    /// He hung up, or was sent elsewhere. He is gone.
    HungUp {
        /// Who.
        caller: CallerId,
    },
    /// Another node has him, in the belief that we are dead. He is gone.
    TakenOver {
        /// Who.
        caller: CallerId,
    },
    /// Another node is dead, or cut off from Asterisk; its callers come to us.
    NeighbourSilent {
        /// Its application's name.
        app: String,
    },
    /// Asterisk refused something that he needs, gave no answer, or doesn't know him any more.
    Lost {
        /// Who.
        caller: CallerId,
        /// Asterisk's name of his channel.
        channel: String,
        /// What was asked, in words.
        asked: &'static str,
        /// What Asterisk answered; `None`: nothing.
        status: Option<u16>,
    },
}

struct Pending {
    what: What,
    asked: &'static str,
    deadline: Instant,
}

/// What an answer is for.
enum What {
    Step(CallerId, Step),
    /// What stands beside a channel in our application that nobody told us of.
    Stranger(String),
    /// Who that is, and what stands beside him.
    Found(Option<String>),
    /// All that is in our application; of callers, those up to this one were there already.
    Application(u64),
    Bridges,
    /// Who has our application's name.
    Owner,
    /// What a neighbour said last.
    Beat(usize),
    /// What is in its application; `true`: and is to be cleared away.
    Left(usize, bool),
    /// All bridges, for those that a neighbour left.
    LeftBridges(usize),
    /// One whom we called is hung up on.
    HangUp(CallerId),
    /// A channel of a neighbour's comes to us.
    Moved(String),
    /// Whether there is an extension that he could go on at.
    Extension(CallerId),
    /// Which application has a caller who left ours.
    Whereabouts(CallerId),
    /// Nothing follows from it.
    Notice,
}

impl Pending {
    fn new(now: Instant, what: What, request: &Request) -> Self {
        Self {
            what,
            asked: request.purpose(),
            deadline: now + ANSWER,
        }
    }
}

/// From the wire.
impl Endpoint {
    /// Not connected; asks for a connection at the first `handle_timeout`.
    #[must_use]
    pub fn new(now: Instant, config: EndpointConfig) -> Self {
        Self {
            link: Link::new(now, config.seed),
            neighbours: Neighbours::new(&config.take_over),
            config,
            callers: BTreeMap::new(),
            by_channel: HashMap::new(),
            by_media: HashMap::new(),
            last_caller: 0,
            pending: BTreeMap::new(),
            last_request: 0,
            sweep_at: None,
            memory_unsure: false,
            counters: AriCounters::default(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// The connection is there.
    pub fn handle_opened(&mut self, now: Instant) {
        self.link.opened(now);
        self.counters.connections += 1;
        self.events.push_back(AriEvent::Connected);
        self.write_down_owner(now);
        self.ask(now, What::Notice, Request::filter_events(&self.config.app));
        self.neighbours.begin(now);
        self.ask_after_the_departed(now);
        self.beat(now);
        self.sweep(now);
    }

    /// A text message came.
    pub fn handle_text(&mut self, now: Instant, text: &str) {
        let event = event::parse(text);
        if let Ok(Event::Response(response)) = &event
            && self.link.is_contested()
        {
            self.handle_contested(now, response);
        }
        if !self.link.is_open() {
            return;
        }
        self.link.heard(now);
        match event {
            Ok(event) => self.handle_event(now, event),
            Err(event::Malformed) => self.counters.malformed += 1,
        }
    }

    /// The answer to a request came by itself; `status` is `None` where there will be none.
    pub fn handle_answer(&mut self, now: Instant, id: u64, status: Option<u16>, body: String) {
        let Some(status) = status else {
            if let Some(pending) = self.pending.remove(&id).filter(|_| self.link.is_open()) {
                self.counters.unanswered += 1;
                self.handle_refusal(now, pending, None);
            }
            return;
        };
        let response = Response {
            request_id: Some(id),
            status,
            body,
        };
        if self.link.is_contested() {
            self.handle_contested(now, &response);
        } else if self.link.is_open() {
            self.link.heard(now);
            self.handle_response(now, &response);
        }
    }

    /// The connection is gone, or could not be made.
    pub fn handle_closed(&mut self, now: Instant) {
        let was_open = self.link.is_open();
        self.link.closed(now);
        if was_open {
            self.connection_lost();
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.link.handle_timeout(now) {
            Some(Due::Connect) => self.transmits.push_back(Transmit::Open),
            Some(Due::AskOwner) => self.ask_owner(now),
            Some(Due::Ping) => self.ask(now, What::Notice, Request::ping()),
            Some(Due::GiveUp) => {
                self.handle_closed(now);
                self.transmits.push_back(Transmit::Close);
            }
            None => {}
        }
        while let Some(late) = self
            .pending
            .first_entry()
            .filter(|e| e.get().deadline <= now)
        {
            let pending = late.remove();
            self.counters.unanswered += 1;
            self.handle_refusal(now, pending, None);
        }
        self.beat(now);
        if self.sweep_at.is_some_and(|at| at <= now) {
            self.sweep(now);
        }
    }

    /// When to call [`Self::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let first = self.pending.values().next().map(|pending| pending.deadline);
        let beat = self.neighbours.poll_timeout();
        [self.link.poll_timeout(), first, self.sweep_at, beat]
            .into_iter()
            .flatten()
            .min()
    }

    /// The next thing to do with the connection.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// The next thing to know.
    pub fn poll_event(&mut self) -> Option<AriEvent> {
        self.events.pop_front()
    }

    fn handle_event(&mut self, now: Instant, event: Event) {
        match event {
            Event::StasisStart { args, channel } => match self.by_media.get(&channel.id).copied() {
                Some(caller) => self.with_caller(now, caller, Caller::media_in_stasis),
                None if self.is_our_media(&channel.id) => self.remove_channel(now, &channel.id),
                None if self.picked_up(&channel.id) || self.came(now, &channel.id) => {}
                None if !args.are_a_dialplan_s() && self.let_go(now, &channel.id) => {}
                None => self.arrived(now, channel.into_caller(Some(args), None)),
            },
            Event::StasisEnd { channel } => self.handle_left(now, &channel.id),
            Event::ChannelDestroyed { cause, channel } => self.destroyed(now, &channel.id, cause),
            Event::ChannelDtmfReceived { digit, channel } => {
                if let (Some(key), Some(caller)) = (digit, self.staying(&channel)) {
                    self.events.push_back(AriEvent::Key { caller, key });
                }
            }
            Event::ChannelHold { channel } => self.handle_hold(&channel, true),
            Event::ChannelUnhold { channel } => self.handle_hold(&channel, false),
            Event::ApplicationReplaced => self.handle_replaced(now),
            Event::Response(response) => self.handle_response(now, &response),
            Event::Other => self.counters.ignored += 1,
        }
    }

    /// A channel left our application: a caller, or an externalMedia channel.
    fn handle_left(&mut self, now: Instant, channel: &str) {
        if let Some(&caller) = self.by_channel.get(channel) {
            let told = self.callers.get(&caller).is_some_and(Caller::is_leaving);
            self.forget(now, caller);
            if !told {
                self.gone(now, caller, channel);
            }
        } else if let Some(&caller) = self.by_media.get(channel) {
            self.lost(caller, "his externalMedia channel", None);
        }
    }

    fn handle_response(&mut self, now: Instant, response: &Response) {
        let pending = response.request_id.and_then(|id| self.pending.remove(&id));
        let Some(pending) = pending else {
            self.counters.stray += 1;
            return;
        };
        if !(200..300).contains(&response.status) {
            self.handle_refusal(now, pending, Some(response.status));
            return;
        }
        let body = response.body.as_str();
        match pending.what {
            What::Step(caller, step) => self.step_done(now, caller, step, &pending, body),
            What::Stranger(channel) => self.ask_who(now, &channel, event::variable(body)),
            What::Found(past) => match Channel::parse(body) {
                Ok(channel) => self.adopt(now, channel, past),
                Err(event::Malformed) => self.counters.malformed += 1,
            },
            What::Application(up_to) => match serde_json::from_str(body) {
                Ok(application) => self.compare(now, &application, up_to),
                Err(_) => self.counters.malformed += 1,
            },
            What::Bridges => match serde_json::from_str::<Vec<Bridge>>(body) {
                Ok(bridges) => self.remove_orphaned_bridges(now, &bridges),
                Err(_) => self.counters.malformed += 1,
            },
            What::Beat(index) => self.heard_beat(now, index, event::variable(body)),
            What::Left(index, clears) => match serde_json::from_str(body) {
                Ok(left) => self.take_over(now, index, clears, &left),
                Err(_) => self.counters.malformed += 1,
            },
            What::LeftBridges(index) => match serde_json::from_str::<Vec<Bridge>>(body) {
                Ok(bridges) => self.remove_left_bridges(now, index, &bridges),
                Err(_) => self.counters.malformed += 1,
            },
            What::Extension(caller) => self.extension(caller, event::variable(body)),
            What::Whereabouts(caller) => self.found_whereabouts(caller, event::variable(body)),
            What::Moved(_) | What::HangUp(_) | What::Owner | What::Notice => {}
        }
    }

    fn handle_refusal(&mut self, now: Instant, pending: Pending, status: Option<u16>) {
        // What is no longer there needs nothing more.
        let gone = matches!(status, Some(404 | 409));
        match pending.what {
            What::Step(caller, _) => {
                self.counters.refused += 1;
                self.lost(caller, pending.asked, status);
            }
            What::Stranger(channel) if gone => self.ask_who(now, &channel, None),
            What::Stranger(_) | What::Found(_) | What::Application(_) | What::Bridges if !gone => {
                self.counters.refused += 1;
                self.sweep_at = Some(now + SWEEP_AGAIN);
            }
            What::Extension(caller) => self.extension(caller, None),
            What::Whereabouts(caller) => self.found_whereabouts(caller, None),
            What::Beat(index) => self.heard_beat(now, index, None),
            What::Moved(channel) => self.did_not_come(now, &channel),
            What::HangUp(caller) if gone => self.forget(now, caller),
            What::Notice | What::HangUp(_) if !gone => self.counters.refused += 1,
            What::Stranger(_)
            | What::Found(_)
            | What::Application(_)
            | What::Bridges
            | What::Left(..)
            | What::LeftBridges(_)
            | What::HangUp(_)
            | What::Owner
            | What::Notice => {}
        }
    }
}

/// What the calls ask for.
impl Endpoint {
    /// Lets him hear that it rings.
    pub fn ring(&mut self, now: Instant, caller: CallerId) {
        if let Some(entry) = self.callers.get(&caller) {
            let request = Request::ring(&entry.channel);
            self.ask(now, What::Notice, request);
        }
    }

    /// Answers; his audio is to come to `rtp`. `Media` and `Answered` follow, or `Lost`.
    pub fn answer(&mut self, now: Instant, caller: CallerId, rtp: SocketAddr) {
        let media = Media {
            channel: self.name_of("media", caller),
            bridge: self.name_of("bridge", caller),
        };
        let Some(entry) = self.callers.get_mut(&caller) else {
            return;
        };
        self.by_media.insert(media.channel.clone(), caller);
        for (step, request) in entry.answer(rtp, media) {
            self.ask(now, What::Step(caller, step), request);
        }
        if !self.link.is_open() {
            self.lost(caller, "the connection", None);
        }
    }

    /// Writes down beside him what whoever finds him next has to know ([`IncomingCaller::past`]); an empty
    /// text takes it away.
    pub fn remember(&mut self, now: Instant, caller: CallerId, past: String) {
        let Some(entry) = self.callers.get_mut(&caller) else {
            return;
        };
        entry.remember(past);
        if let Some(request) = entry.memory_request() {
            self.ask(now, What::Notice, request);
        }
    }

    /// Has Asterisk play its music to everybody who is in: we go, and whoever finds them next ends it by giving
    /// them bridges of his own.
    pub fn play_music(&mut self, now: Instant) {
        let all = self.callers.values().filter_map(Caller::media);
        let requests: Vec<Request> = all.map(|media| Request::music(&media.bridge)).collect();
        for request in requests {
            self.ask(now, What::Notice, request);
        }
    }

    /// Asterisk's name of his channel.
    #[must_use]
    pub fn channel(&self, caller: CallerId) -> Option<&str> {
        let entry = self.callers.get(&caller)?;
        Some(&entry.channel)
    }

    /// Asks whether there is such an extension; `Extension` follows, also where the connection is lost.
    pub fn find_extension(&mut self, now: Instant, caller: CallerId, place: &DialplanPlace) {
        if let Some(entry) = self.callers.get(&caller) {
            let request = Request::is_in_dialplan(&entry.channel, place);
            self.ask(now, What::Extension(caller), request);
        }
    }

    /// Sends him back to the dialplan, which finds `outcome` in `VOICEBRIDGE_OUTCOME`: to a place there, or
    /// behind the `Stasis(...)` that brought him. He is told of no more.
    pub fn leave(
        &mut self,
        now: Instant,
        caller: CallerId,
        outcome: &'static str,
        place: Option<DialplanPlace>,
    ) {
        let Some(entry) = self.callers.get_mut(&caller) else {
            return;
        };
        let media = entry.leave(outcome, place);
        self.send_away(now, caller);
        self.remove_media(now, media);
    }

    /// Is the connection there?
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        self.link.is_open()
    }

    /// The counters.
    #[must_use]
    pub const fn counters(&self) -> AriCounters {
        self.counters
    }

    /// Callers that are there, also those on their way out.
    #[must_use]
    pub fn callers(&self) -> usize {
        self.callers.len()
    }

    /// Nobody is on his way out, and everything that was asked is answered.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.pending.is_empty() && !self.callers.values().any(Caller::is_leaving)
    }

    /// Asks, if there is somebody to ask; what isn't asked for want of a connection is found again by the
    /// sweep.
    fn ask(&mut self, now: Instant, what: What, request: Request) {
        if !self.link.is_open() {
            return;
        }
        self.pass_on(now, what, request);
    }

    fn pass_on(&mut self, now: Instant, what: What, request: Request) {
        self.last_request += 1;
        let id = self.last_request;
        self.pending.insert(id, Pending::new(now, what, &request));
        let whose = request.subject().map(|subject| self.whose(subject));
        self.transmits
            .push_back(Transmit::Ask(Asked { id, whose, request }));
    }
}

/// How long a request may take. Asterisk answers in a millisecond; when it doesn't it is in trouble.
const ANSWER: Duration = Duration::from_secs(5);
/// And again, when it did not tell.
const SWEEP_AGAIN: Duration = Duration::from_secs(1);
