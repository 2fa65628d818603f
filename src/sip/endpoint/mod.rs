//! The SIP endpoint: one value that holds all transactions and dialogs of a node.
//!
//! Feed it with `handle_*` and the actions; after each, drain `poll_transmit`, `poll_event` and
//! `poll_close`, then ask `poll_timeout` when to call `handle_timeout`. It never opens a connection and
//! never sends to an address out of a message: answers go to where the request came from, requests of
//! ours go back over the flow their call came by.
//!
//! `reject` and `hang_up` are final: nothing more is heard of that dialog.
//!
//! - `requests`: what comes in from outside of dialogs, and what is refused at the door
//! - `within`: what comes in inside of dialogs
//! - `answers`: what the gateway does with calls that came in
//! - `contact`: what peers are told to send to
//! - `identity`: who calls whom
//! - `refreshing`: signs of life that we give
//! - `calling`: calls that go out
//! - `calls`: the answers to them, and requests of ours within calls
//! - `again`: what is asked once more, with credentials or on other terms
//! - `qualify`: whether trunks are there
//! - `trunks`: registrations, and whose calls are believed more
//! - `parting`: hanging up, lost connections, timers
//! - `sending`: what goes out, and to whom how much of it

mod again;
mod answers;
mod calling;
mod calls;
mod config;
mod contact;
mod identity;
mod parting;
mod qualify;
mod refreshing;
mod requests;
mod sending;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod trunks;
mod within;

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use bytes::Bytes;

pub use calling::InviteError;
pub use config::{Counters, EndpointConfig, SipLimits};
pub use qualify::{QualifySettings, TrunkReach};
pub use trunks::{RegistrarSettings, TrunkSettings};

use crate::config::Network;
use crate::sip::compose::{ReplyHead, RequestHead};
use crate::sip::dialog::{Dialog, DialogKey, OwnOffer};
use crate::sip::doorkeeper::Doorkeeper;
use crate::sip::event::{ConnectionId, DialogId, Flow, SipEvent, Transmit, TrunkId};
use crate::sip::framing::{Frame, StreamFramer};
use crate::sip::guard::{self, Caps, Guarded};
use crate::sip::limits::SourceLimits;
use crate::sip::message::Message;
use crate::sip::strangers::Strangers;
use crate::sip::timers::Schedule;
use crate::sip::token::Tokens;
use crate::sip::transaction::TransactionId;
use crate::sip::transaction::client::Client;
use crate::sip::transaction::client_invite::ClientInvite;
use crate::sip::transaction::server::Server;
use crate::sip::transaction::server_invite::ServerInvite;
use crate::token_bucket::TokenBucket;
use trunks::Trunk;

/// All SIP of a node, without sockets and clock.
pub struct Endpoint {
    config: EndpointConfig,
    caps: Caps,
    tokens: Tokens,
    connections: HashMap<ConnectionId, Connection>,
    /// Whose certificate was shown on a connection.
    proven: HashMap<ConnectionId, Vec<TrunkId>>,
    servers: HashMap<TransactionId, ServerEntry>,
    server_keys: HashMap<String, TransactionId>,
    /// Call-ID, From tag and CSeq of INVITEs under way: a second way to us is a loop (section 8.2.2.2).
    merge_keys: HashMap<String, TransactionId>,
    clients: HashMap<TransactionId, ClientEntry>,
    client_keys: HashMap<String, TransactionId>,
    dialogs: HashMap<DialogId, Dialog>,
    dialog_keys: HashMap<DialogKey, DialogId>,
    trunks: Vec<Trunk>,
    schedule: Schedule<Timer>,
    sources: SourceLimits,
    /// New calls of all sources together that are not trusted: by connections, and by datagrams, which anybody can
    /// make up.
    newcomers: [Option<TokenBucket>; 2],
    strangers: Strangers,
    doorkeeper: Doorkeeper,
    counters: Counters,
    accepting: bool,
    last_dialog: u64,
    last_transaction: u64,
    transmits: VecDeque<Transmit>,
    events: VecDeque<SipEvent>,
    closes: VecDeque<ConnectionId>,
}

struct Connection {
    framer: StreamFramer,
    flow: Flow,
}

/// Whose deadline it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Timer {
    Server(TransactionId),
    Client(TransactionId),
    Dialog(DialogId),
    Connection(ConnectionId),
    Trunk(TrunkId),
}

struct ServerEntry {
    machine: ServerMachine,
    head: ReplyHead,
    flow: Flow,
    key: String,
    merge_key: Option<String>,
    /// The dialog whose answer it waits for.
    dialog: Option<DialogId>,
    tag: String,
    /// What was answered had to be paid for by what came.
    is_weighed: bool,
}

enum ServerMachine {
    Invite(ServerInvite),
    Other(Server),
}

struct ClientEntry {
    machine: ClientMachine,
    head: RequestHead,
    key: String,
    purpose: Purpose,
    /// The same was asked so often before, in other words.
    repeats: u8,
    /// ACKs to the 2xx of each branch, to be repeated when the 2xx is.
    acks: Vec<(String, Bytes)>,
    /// The trunk of its call, and the number that this used last, as they were when the first branch answered: others
    /// may answer when it is over.
    trunk: Option<TrunkId>,
    last_cseq: u32,
}

enum ClientMachine {
    Invite(ClientInvite),
    Other(Client),
}

/// What a request of ours was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Invite(DialogId),
    Reinvite(DialogId),
    /// PRACK.
    Acknowledge(DialogId),
    Info(DialogId),
    Refresh(DialogId),
    /// OPTIONS: is he where his requests come from?
    Look(DialogId),
    Bye(DialogId),
    Register(TrunkId),
    /// OPTIONS.
    Qualify(TrunkId),
    /// BYE to another branch of a fork, by this trunk.
    Branch(Option<TrunkId>),
    /// CANCEL: whatever the answer is.
    Anything,
}

impl Endpoint {
    /// `seed`: from the system's random source; tags, branches and Call-IDs come of it.
    #[must_use]
    pub fn new(config: EndpointConfig, seed: u64) -> Self {
        let limits = config.limits;
        let mut tokens = Tokens::new(seed);
        let trunks = config.trunks.iter().cloned();
        let trunks = trunks
            .map(|settings| Trunk::new(settings, || tokens.fresh()))
            .collect();
        Self {
            caps: Caps {
                datagram: limits.datagram_bytes,
                head: limits.head_bytes,
                headers: limits.headers,
            },
            sources: SourceLimits::new(
                limits.source_invites_per_second,
                limits.source_invites_burst,
                limits.sources,
            ),
            newcomers: [None, None],
            strangers: Strangers::new(limits.sources),
            doorkeeper: Doorkeeper::new(seed, limits.sources),
            config,
            tokens,
            trunks,
            connections: HashMap::new(),
            proven: HashMap::new(),
            servers: HashMap::new(),
            server_keys: HashMap::new(),
            merge_keys: HashMap::new(),
            clients: HashMap::new(),
            client_keys: HashMap::new(),
            dialogs: HashMap::new(),
            dialog_keys: HashMap::new(),
            schedule: Schedule::new(),
            counters: Counters::default(),
            accepting: true,
            last_dialog: 0,
            last_transaction: 0,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            closes: VecDeque::new(),
        }
    }

    /// A datagram came.
    pub fn handle_datagram(&mut self, now: Instant, flow: Flow, bytes: &[u8]) {
        if self.may_be_forged(flow) {
            self.strangers.credit(now, flow.peer().ip(), bytes.len());
        }
        match guard::inspect_datagram(bytes, &self.caps) {
            Ok(guarded) => self.handle_guarded(now, flow, guarded),
            Err(guard::Unreadable::Empty) => {}
            Err(guard::Unreadable::NotSip) => self.refuse(flow, "not SIP"),
        }
    }

    /// Bytes of a connection came.
    pub fn handle_stream(&mut self, now: Instant, flow: Flow, bytes: &[u8]) {
        let Some(connection) = flow.connection() else {
            return self.handle_datagram(now, flow, bytes);
        };
        let (head_max, message_max) = (
            self.config.limits.head_bytes,
            self.config.limits.stream_bytes,
        );
        self.connections
            .entry(connection)
            .or_insert_with(|| Connection {
                framer: StreamFramer::new(head_max, message_max),
                flow,
            })
            .framer
            .push(now, bytes);
        while let Some(frame) = self
            .connections
            .get_mut(&connection)
            .and_then(|c| c.framer.next_frame(now))
        {
            self.handle_frame(now, flow, connection, frame);
        }
        let deadline = self
            .connections
            .get(&connection)
            .and_then(|c| c.framer.deadline());
        self.schedule.set(Timer::Connection(connection), deadline);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.schedule.pop_due(now) {
            match timer {
                Timer::Server(id) => self.server_timeout(now, id),
                Timer::Client(id) => self.client_timeout(now, id),
                Timer::Dialog(id) => self.dialog_timeout(now, id),
                Timer::Connection(id) => self.connection_timeout(id),
                Timer::Trunk(id) => self.trunk_timeout(now, id),
            }
        }
    }

    /// When to call [`Self::handle_timeout`] next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.schedule.next()
    }

    /// Something to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// Something that happened.
    pub fn poll_event(&mut self) -> Option<SipEvent> {
        self.events.pop_front()
    }

    /// A connection to be closed, after what is to be sent over it; `handle_closed` is still expected.
    pub fn poll_close(&mut self) -> Option<ConnectionId> {
        self.closes.pop_front()
    }

    /// What was counted.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Whether new calls are taken; while not, they and OPTIONS pings get 503 with Retry-After.
    pub fn set_accepting(&mut self, accepting: bool) {
        self.accepting = accepting;
    }

    /// Networks whose callers are known, from now on: calls that are up are theirs too.
    pub fn set_trusted(&mut self, trusted: Vec<Network>) {
        self.config.trusted = trusted;
    }

    fn handle_frame(&mut self, now: Instant, flow: Flow, connection: ConnectionId, frame: Frame) {
        match frame {
            Frame::Ping => self.send(flow, Bytes::from_static(b"\r\n")),
            Frame::Message { head, body, fault } => {
                match guard::inspect_frame(&head, body, &self.caps) {
                    Ok(mut guarded) => {
                        guarded.fault = fault.or(guarded.fault);
                        self.handle_guarded(now, flow, guarded);
                    }
                    // Framed, but no SIP: somebody talks another protocol.
                    Err(_) => self.give_up(flow, connection),
                }
            }
            Frame::Lost { head } => {
                if let Some(Ok(mut guarded)) =
                    head.map(|head| guard::inspect_frame(&head, Bytes::new(), &self.caps))
                {
                    guarded.fault.get_or_insert(guard::Fault::ContentLength);
                    self.handle_guarded(now, flow, guarded);
                }
                self.give_up(flow, connection);
            }
        }
    }

    fn give_up(&mut self, flow: Flow, connection: ConnectionId) {
        self.refuse(flow, "stream without messages");
        if let Some(connection) = self.connections.get_mut(&connection) {
            connection.framer.lose(None);
        }
        self.closes.push_back(connection);
    }

    fn connection_timeout(&mut self, id: ConnectionId) {
        if let Some(flow) = self.connections.get(&id).map(|connection| connection.flow) {
            self.give_up(flow, id);
        }
    }

    fn handle_guarded(&mut self, now: Instant, flow: Flow, guarded: Guarded) {
        match Message::parse(guarded) {
            Message::Request(raw) => {
                self.counters.requests += 1;
                self.handle_request(now, flow, raw);
            }
            Message::Response(response) => {
                self.counters.responses += 1;
                self.handle_response(now, flow, &response);
            }
            Message::BadResponse => self.refuse(flow, "bad response"),
        }
    }

    /// Counts, and tells who looks closely. Never what the message said.
    fn refuse(&mut self, flow: Flow, reason: &'static str) {
        tracing::debug!(peer = %flow.peer(), reason, "refused");
        self.counters.refuse(reason);
    }

    fn tell(&mut self, event: SipEvent) {
        self.events.push_back(event);
    }

    fn next_dialog_id(&mut self) -> DialogId {
        self.last_dialog += 1;
        DialogId(self.last_dialog)
    }

    fn next_transaction_id(&mut self) -> TransactionId {
        self.last_transaction += 1;
        TransactionId(self.last_transaction)
    }

    fn insert_server(&mut self, entry: ServerEntry) -> TransactionId {
        let id = self.next_transaction_id();
        self.server_keys.insert(entry.key.clone(), id);
        if let Some(merge_key) = &entry.merge_key {
            self.merge_keys.insert(merge_key.clone(), id);
        }
        self.servers.insert(id, entry);
        self.count_now();
        id
    }

    fn insert_client(&mut self, entry: ClientEntry) -> TransactionId {
        let id = self.next_transaction_id();
        self.client_keys.insert(entry.key.clone(), id);
        self.clients.insert(id, entry);
        self.settle_client(id);
        id
    }

    fn insert_dialog(&mut self, dialog: Dialog) {
        self.dialog_keys.insert(dialog.key.clone(), dialog.id);
        let id = dialog.id;
        self.dialogs.insert(id, dialog);
        self.settle_dialog(id);
    }

    fn remove_dialog(&mut self, id: DialogId) {
        if let Some(dialog) = self.dialogs.remove(&id) {
            if self.dialog_keys.get(&dialog.key) == Some(&id) {
                self.dialog_keys.remove(&dialog.key);
            }
            // The peer will not answer a re-INVITE of a call that is over.
            if let OwnOffer::Pending { transaction, .. } = dialog.own_offer {
                self.abandon_invite(transaction);
            }
        }
        self.settle_dialog(id);
    }

    /// Tables that many calls have made large become small again. To be called now and then.
    pub fn give_room_back(&mut self) {
        self.servers.shrink_to(2 * self.servers.len());
        self.server_keys.shrink_to(2 * self.server_keys.len());
        self.merge_keys.shrink_to(2 * self.merge_keys.len());
        self.clients.shrink_to(2 * self.clients.len());
        self.client_keys.shrink_to(2 * self.client_keys.len());
        self.dialogs.shrink_to(2 * self.dialogs.len());
        self.dialog_keys.shrink_to(2 * self.dialog_keys.len());
        self.schedule.give_room_back();
    }

    /// After each touch: the deadline is noted, and what has ended is forgotten.
    fn settle_server(&mut self, id: TransactionId) {
        let ended = self
            .servers
            .get(&id)
            .is_none_or(|entry| entry.machine.is_terminated());
        if ended && let Some(entry) = self.servers.remove(&id) {
            self.server_keys.remove(&entry.key);
            if let Some(merge_key) = &entry.merge_key {
                self.merge_keys.remove(merge_key);
            }
        }
        let deadline = self
            .servers
            .get(&id)
            .and_then(|entry| entry.machine.deadline());
        self.schedule.set(Timer::Server(id), deadline);
        self.count_now();
    }

    /// As [`Self::settle_server`].
    fn settle_client(&mut self, id: TransactionId) {
        let ended = self
            .clients
            .get(&id)
            .is_none_or(|entry| entry.machine.is_terminated());
        if ended && let Some(entry) = self.clients.remove(&id) {
            self.client_keys.remove(&entry.key);
        }
        let deadline = self
            .clients
            .get(&id)
            .and_then(|entry| entry.machine.deadline());
        self.schedule.set(Timer::Client(id), deadline);
        self.count_now();
    }

    /// As [`Self::settle_server`]; a dialog ends by `remove_dialog`.
    fn settle_dialog(&mut self, id: DialogId) {
        let deadline = self.dialogs.get(&id).and_then(Dialog::deadline);
        self.schedule.set(Timer::Dialog(id), deadline);
        self.count_now();
    }

    fn count_now(&mut self) {
        self.counters.dialogs = self.dialogs.len();
        self.counters.transactions = self.servers.len() + self.clients.len();
    }
}

impl ServerMachine {
    fn handle_retransmission(&self) -> Option<Bytes> {
        match self {
            Self::Invite(machine) => machine.handle_retransmission(),
            Self::Other(machine) => machine.handle_retransmission(),
        }
    }

    fn respond(&mut self, now: Instant, status: u16, bytes: &Bytes) -> bool {
        match self {
            Self::Invite(machine) => machine.respond(now, status, bytes),
            Self::Other(machine) => machine.respond(now, bytes),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Invite(machine) => machine.deadline(),
            Self::Other(machine) => machine.deadline(),
        }
    }

    fn is_open(&self) -> bool {
        match self {
            Self::Invite(machine) => machine.is_open(),
            Self::Other(machine) => machine.is_open(),
        }
    }

    fn is_terminated(&self) -> bool {
        match self {
            Self::Invite(machine) => machine.is_terminated(),
            Self::Other(machine) => machine.is_terminated(),
        }
    }
}

impl ClientMachine {
    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Invite(machine) => machine.deadline(),
            Self::Other(machine) => machine.deadline(),
        }
    }

    fn is_terminated(&self) -> bool {
        match self {
            Self::Invite(machine) => machine.is_terminated(),
            Self::Other(machine) => machine.is_terminated(),
        }
    }

    fn request(&self) -> &Bytes {
        match self {
            Self::Invite(machine) => machine.request(),
            Self::Other(machine) => machine.request(),
        }
    }
}
