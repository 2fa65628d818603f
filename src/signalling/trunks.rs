//! Trunks: a task each looks for the way to its registrar, or to where calls of ours go (`seeking`); the endpoint
//! registers over it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::clock;
use super::gateway::Gateway;
use super::seeking::{Seeker, Wish};
use super::transport::{Outgoing, Sought};
use crate::booking::number::significant;
use crate::call::roster::{TargetLeft, TrunkStanding};
use crate::config::{HostPort, SipTransport, SrtpPolicy, TrunkConfig};
use crate::sip::event::{Flow, TrunkId, TrunkState};
use crate::sip::locate::{Fault, LeftAlone, Wanted};
use crate::sip::{
    Credentials, Proof, QualifySettings, Refused, RegistrarSettings, TrunkReach, TrunkSettings,
};

/// All trunks of a gateway.
pub(super) struct Trunks {
    all: Vec<Trunk>,
    /// Ends with the gateway.
    _seekers: JoinSet<()>,
}

/// Of a call of ours.
pub(super) struct Addresses {
    pub(super) target: String,
    pub(super) from: String,
    /// Where it goes.
    pub(super) peer: SocketAddr,
}

struct Trunk {
    config: TrunkConfig,
    /// Its registrar knows us; where it has none, a way leads there.
    known: bool,
    /// It answers OPTIONS, if it is asked.
    answers: Option<bool>,
    /// Since when it is up, or isn't.
    since: Timestamp,
    /// Where it was reached last.
    peer: Option<SocketAddr>,
    /// Tells the seeker what is found out; `None`: nothing leads there.
    wishes: Option<mpsc::Sender<Wish>>,
    /// So many were told.
    wished: u64,
    sought: Sought,
}

impl Trunks {
    /// Starts to look for those that are to be registered with.
    pub(super) fn start(configs: Vec<TrunkConfig>, outgoing: &Outgoing) -> Self {
        let mut seekers = JoinSet::new();
        let all = configs
            .into_iter()
            .enumerate()
            .map(|(at, config)| {
                let wishes = wanted(&config).map(|wanted| {
                    let (wishes, heard) = mpsc::channel(WISHES);
                    let trunk = TrunkId(at);
                    let seeker = Seeker::new(&config.name, trunk, wanted, outgoing.clone());
                    seekers.spawn(seeker.run(heard));
                    wishes
                });
                let known = wishes.is_none();
                Trunk {
                    config,
                    known,
                    answers: None,
                    since: clock::wall(),
                    peer: None,
                    wishes,
                    wished: 0,
                    sought: Sought::default(),
                }
            })
            .collect();
        Self {
            all,
            _seekers: seekers,
        }
    }

    fn get(&self, trunk: TrunkId) -> Option<&Trunk> {
        self.all.get(trunk.0)
    }

    /// What it is called.
    pub(super) fn name(&self, trunk: TrunkId) -> Option<&str> {
        Some(self.get(trunk)?.config.name.as_str())
    }

    /// Whether its audio is encrypted.
    pub(super) fn srtp(&self, trunk: Option<TrunkId>) -> SrtpPolicy {
        let trunk = trunk.and_then(|trunk| self.get(trunk));
        trunk.map_or_else(SrtpPolicy::default, |trunk| trunk.config.srtp)
    }

    /// How many calls it may have at once; `None`: as many as there is room for.
    pub(super) fn calls_max(&self, trunk: TrunkId) -> Option<usize> {
        self.get(trunk)?.config.calls
    }

    /// Those that calls to this number go out by, in their order.
    pub(super) fn that_take(&self, number: &str) -> impl Iterator<Item = TrunkId> {
        let takes = |trunk: &Trunk| {
            let dial = trunk.config.dial.as_ref();
            dial.is_some_and(|dial| dial.takes(number))
        };
        let all = self.all.iter().enumerate();
        all.filter(move |(_, trunk)| takes(trunk))
            .map(|(at, _)| TrunkId(at))
    }

    /// What a call by it is called to reach a number, and who calls.
    pub(super) fn addresses(&self, trunk: TrunkId, to: &str, shown: &str) -> Option<Addresses> {
        let trunk = self.get(trunk)?;
        let dial = trunk.config.dial.as_ref()?;
        let is_plain = |b: u8| b.is_ascii_digit() || b == b'+';
        let shown = Some(shown).filter(|shown| !shown.is_empty() && shown.bytes().all(is_plain));
        let own = trunk.config.user.as_deref().unwrap_or(NOBODY);
        let user = shown.unwrap_or(own);
        Some(Addresses {
            target: dial.of(to),
            from: format!("<sip:{user}@{}>", dial.host.host),
            peer: trunk.peer?,
        })
    }

    /// How a call by it is offered: the first of these that is taken.
    pub(super) fn offers(&self, trunk: TrunkId) -> &'static [SrtpPolicy] {
        let Some(trunk) = self.get(trunk) else {
            return &[];
        };
        match (trunk.config.srtp, trunk.config.transports.as_slice()) {
            (SrtpPolicy::Require, _) => &[SrtpPolicy::Require],
            (SrtpPolicy::Offer, [SipTransport::Tls]) => &[SrtpPolicy::Require, SrtpPolicy::Off],
            // Keys that anybody on the way may read would hide nothing.
            (SrtpPolicy::Off | SrtpPolicy::Offer, _) => &[SrtpPolicy::Off],
        }
    }

    /// A call that was sent to `peer` found nobody there, or nobody who takes it: the trunk is looked for elsewhere. The
    /// number of that wish, where there is another place to look at.
    pub(super) fn seek_elsewhere(
        &mut self,
        trunk: TrunkId,
        peer: SocketAddr,
        fault: Fault,
        pause: Option<Duration>,
    ) -> Option<u64> {
        let trunk = self.all.get_mut(trunk.0)?;
        // It has gone elsewhere since.
        if trunk.peer != Some(peer) {
            return Some(trunk.wished);
        }
        let target = trunk.sought.current?;
        let others = trunk.sought.has_another;
        // A connection that is there has other calls; that it is gone tells of itself.
        if others || target.transport == SipTransport::Udp {
            trunk.wish(Wish::Failed {
                target,
                fault,
                pause,
            });
        }
        others.then_some(trunk.wished)
    }

    /// A call that was sent to `peer` was taken: what was held against that place is forgotten.
    pub(super) fn took_a_call(&mut self, trunk: TrunkId, peer: SocketAddr) {
        let trunk = self.all.get_mut(trunk.0);
        if let Some(trunk) = trunk.filter(|trunk| trunk.sought.is_doubted)
            && trunk.sought.current.is_some_and(|target| target.at == peer)
        {
            trunk.wish(Wish::Works);
        }
    }

    /// Has the seeker seen to this wish, and gone elsewhere than to `peer`?
    pub(super) fn has_gone_elsewhere(&self, trunk: TrunkId, wish: u64, peer: SocketAddr) -> Gone {
        let Some(trunk) = self.get(trunk) else {
            return Gone::Nowhere;
        };
        match trunk.peer {
            Some(now) if now != peer => Gone::Elsewhere,
            Some(_) | None if trunk.sought.heard < wish => Gone::NotYet,
            Some(_) | None => Gone::Nowhere,
        }
    }

    /// Does it bring calls to this number?
    pub(super) fn brings(&self, trunk: Option<TrunkId>, number: &str) -> bool {
        let Some(trunk) = trunk.and_then(|trunk| self.get(trunk)) else {
            return true;
        };
        let numbers = &trunk.config.numbers;
        let dialled = significant(number);
        numbers.is_empty() || numbers.iter().any(|own| significant(own) == dialled)
    }

    /// How each stands; `reach` is what the endpoint knows of it, `calls` how many it has.
    pub(super) fn standing(
        &self,
        reach: impl Fn(TrunkId) -> Option<TrunkReach>,
        calls: impl Fn(TrunkId) -> usize,
    ) -> Vec<TrunkStanding> {
        let all = self.all.iter().enumerate();
        let all = all.map(|(at, trunk)| (TrunkId(at), trunk));
        all.map(|(id, trunk)| trunk.standing(reach(id), calls(id)))
            .collect()
    }
}

impl Trunk {
    fn wish(&mut self, wish: Wish) {
        // One that hears of so much doesn't miss this.
        if let Some(wishes) = &self.wishes
            && wishes.try_send(wish).is_ok()
        {
            self.wished += 1;
        }
    }

    const fn is_up(&self) -> bool {
        self.known && !matches!(self.answers, Some(false))
    }

    /// Something is known better now.
    fn change(&mut self, change: impl FnOnce(&mut Self)) {
        let before = self.is_up();
        change(self);
        if self.is_up() != before {
            self.since = clock::wall();
        }
    }

    fn standing(&self, reach: Option<TrunkReach>, calls: usize) -> TrunkStanding {
        let round_trip = reach.and_then(|reach| reach.round_trip);
        let left = self.sought.left.iter();
        TrunkStanding {
            name: self.config.name.clone(),
            up: self.is_up(),
            registered: self.config.registrar.as_ref().map(|_| self.known),
            reachable: self.answers,
            since: self.since.to_string(),
            calls,
            calls_max: self.config.calls,
            round_trip_ms: round_trip.map(|took| took.as_secs_f64() * 1_000.0),
            target: self.sought.current.map(|target| target.to_string()),
            left_alone: left.map(TargetLeft::from).collect(),
        }
    }
}

/// What has become of a search for another way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gone {
    /// It goes on.
    NotYet,
    /// There is another one.
    Elsewhere,
    /// There is none.
    Nowhere,
}

impl From<&LeftAlone> for TargetLeft {
    fn from(left: &LeftAlone) -> Self {
        Self {
            target: left.target.to_string(),
            fault: left.fault.to_string(),
            seconds: left.rest.as_secs(),
        }
    }
}

impl Gateway {
    /// A trunk can be reached.
    pub(super) fn trunk_reached(
        &mut self,
        now: Instant,
        trunk: TrunkId,
        flow: Flow,
        local: SocketAddr,
    ) {
        self.endpoint
            .trunk_reached(now, trunk, flow, &local.to_string());
        if let Some(trunk) = self.trunks.all.get_mut(trunk.0) {
            trunk.peer = Some(flow.peer());
            // Nobody is asked whether he knows us.
            trunk.change(|trunk| trunk.known |= trunk.config.registrar.is_none());
        }
    }

    /// How a trunk stands has changed.
    pub(super) fn handle_trunk(&mut self, trunk: TrunkId, state: TrunkState) {
        let Some(trunk) = self.trunks.all.get_mut(trunk.0) else {
            return;
        };
        let name = trunk.config.name.as_str();
        match state {
            TrunkState::Up => tracing::info!(trunk = name, "registered"),
            TrunkState::Refused(why) => {
                tracing::warn!(trunk = name, %why, "not registered; asking again later");
            }
            TrunkState::Lapsed => tracing::warn!(trunk = name, "the registration has lapsed"),
            TrunkState::Cut => {
                tracing::warn!(trunk = name, "the connection is gone, looking for another");
            }
            TrunkState::Reachable { round_trip } => {
                let ms = round_trip.as_secs_f64() * 1_000.0;
                tracing::info!(trunk = name, round_trip_ms = ms, "it answers");
            }
            // Nor at another of its addresses.
            TrunkState::Unreachable if trunk.answers == Some(false) => {}
            TrunkState::Unreachable => tracing::warn!(trunk = name, "it answers no more"),
        }
        trunk.change(|trunk| match state {
            TrunkState::Up => trunk.known = true,
            TrunkState::Lapsed => trunk.known = false,
            TrunkState::Cut => (trunk.known, trunk.answers) = (false, None),
            // The registration from before may be good for a while.
            TrunkState::Refused(_) => {}
            TrunkState::Reachable { .. } => trunk.answers = Some(true),
            TrunkState::Unreachable => trunk.answers = Some(false),
        });
        let Some(target) = trunk.sought.current else {
            return;
        };
        let failed = |fault| {
            Some(Wish::Failed {
                target,
                fault,
                pause: None,
            })
        };
        let wish = match state {
            TrunkState::Up | TrunkState::Reachable { .. } => Some(Wish::Works),
            TrunkState::Cut => Some(Wish::Lost(target)),
            // Who doesn't answer may have moved.
            TrunkState::Unreachable | TrunkState::Refused(Refused::Status(408)) => {
                failed(Fault::NoAnswer)
            }
            TrunkState::Refused(Refused::Status(503)) => failed(Fault::Status(503)),
            TrunkState::Refused(_) | TrunkState::Lapsed => None,
        };
        if let Some(wish) = wish {
            trunk.wish(wish);
        }
    }

    /// The search for ways to a trunk has come to rest.
    pub(super) fn handle_sought(&mut self, now: Instant, trunk: TrunkId, sought: Sought) {
        self.endpoint.trunk_located(trunk, &sought.addresses);
        if let Some(trunk) = self.trunks.all.get_mut(trunk.0) {
            trunk.sought = sought;
        }
        self.resume(now, trunk);
    }
}

/// What the endpoint needs to know of a trunk.
pub(super) fn settings(config: &TrunkConfig) -> TrunkSettings {
    let credentials = config.user.clone().zip(config.password.clone());
    TrunkSettings {
        peers: config.peers.clone(),
        needs_certificate: config.tls.required,
        proves: config.proves.clone().map(|proof| Proof {
            credentials: Credentials {
                user: proof.user,
                password: proof.password,
            },
            algorithms: proof.algorithms,
        }),
        trust_identity: config.trust_identity,
        registrar: config
            .registrar
            .as_ref()
            .map(|registrar| RegistrarSettings {
                host_port: registrar.host.to_string(),
                user: registrar.user.clone(),
            }),
        credentials: credentials.map(|(user, password)| Credentials { user, password }),
        realm: config.realm.clone(),
        dial_realm: config.dial_realm.clone(),
        qualify: config
            .qualify_frequency
            .zip(way_to(config))
            .map(|(every, host)| QualifySettings {
                every,
                uri: format!("sip:{host}"),
            }),
        asks_only: false,
    }
}

/// Its registrar, else where calls of ours go.
fn way_to(config: &TrunkConfig) -> Option<&HostPort> {
    let registrar = config.registrar.as_ref().map(|registrar| &registrar.host);
    registrar.or_else(|| Some(&config.dial.as_ref()?.host))
}

/// What is looked up for it; `None`: nothing leads there.
pub(super) fn wanted(config: &TrunkConfig) -> Option<Wanted> {
    let HostPort { host, port } = way_to(config)?;
    Some(Wanted {
        host: host.clone(),
        port: *port,
        transports: config.transports.clone(),
    })
}

/// Who calls where neither a number nor a user is known.
const NOBODY: &str = "voicebridge";
/// That may wait for a seeker who is at work.
const WISHES: usize = 64;
