//! Trunks: a task each looks for the way to its registrar, or to where calls of ours go; the endpoint registers
//! over it.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::clock;
use super::gateway::Gateway;
use super::transport::{Destination, Outgoing};
use crate::booking::number::significant;
use crate::call::roster::TrunkStanding;
use crate::config::{HostPort, SipTransport, SrtpPolicy, TrunkConfig};
use crate::sip::event::{Flow, TrunkId, TrunkState};
use crate::sip::{
    Credentials, QualifySettings, Refused, RegistrarSettings, TrunkReach, TrunkSettings,
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
    pub(super) peer: IpAddr,
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
    peer: Option<IpAddr>,
    /// Counts up each time a way is wanted.
    wanted: Option<watch::Sender<u64>>,
}

impl Trunks {
    /// Starts to look for those that are to be registered with.
    pub(super) fn start(configs: Vec<TrunkConfig>, outgoing: &Outgoing) -> Self {
        let mut seekers = JoinSet::new();
        let all = configs
            .into_iter()
            .enumerate()
            .map(|(at, config)| {
                let wanted = destination(TrunkId(at), &config).map(|to| {
                    let (wanted, asked) = watch::channel(0);
                    let name = config.name.clone();
                    seekers.spawn(seek(name, to, outgoing.clone(), asked));
                    wanted
                });
                let known = wanted.is_none();
                Trunk {
                    config,
                    known,
                    answers: None,
                    since: clock::wall(),
                    peer: None,
                    wanted,
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
        match (trunk.config.srtp, trunk.config.transport) {
            (SrtpPolicy::Require, _) => &[SrtpPolicy::Require],
            // Keys that anybody on the way may read would hide nothing.
            (SrtpPolicy::Off, _) | (SrtpPolicy::Offer, SipTransport::Udp | SipTransport::Tcp) => {
                &[SrtpPolicy::Off]
            }
            (SrtpPolicy::Offer, SipTransport::Tls) => &[SrtpPolicy::Require, SrtpPolicy::Off],
        }
    }

    /// It doesn't answer: its name may lead elsewhere by now. Where a connection is gone, that tells of itself; one that
    /// is there has other calls.
    pub(super) fn seek_again(&self, trunk: TrunkId) {
        let by_datagrams = |trunk: &&Trunk| trunk.config.transport == SipTransport::Udp;
        let trunk = self.get(trunk).filter(by_datagrams);
        if let Some(wanted) = trunk.and_then(|trunk| trunk.wanted.as_ref()) {
            wanted.send_modify(|times| *times += 1);
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

    /// How each stands; `reach` is what the endpoint knows of it.
    pub(super) fn standing(
        &self,
        reach: impl Fn(TrunkId) -> Option<TrunkReach>,
    ) -> Vec<TrunkStanding> {
        let all = self.all.iter().enumerate();
        all.map(|(at, trunk)| trunk.standing(reach(TrunkId(at))))
            .collect()
    }
}

impl Trunk {
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

    fn standing(&self, reach: Option<TrunkReach>) -> TrunkStanding {
        let round_trip = reach.and_then(|reach| reach.round_trip);
        TrunkStanding {
            name: self.config.name.clone(),
            up: self.is_up(),
            registered: self.config.registrar.as_ref().map(|_| self.known),
            reachable: self.answers,
            since: self.since.to_string(),
            round_trip_ms: round_trip.map(|took| took.as_secs_f64() * 1_000.0),
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
            trunk.peer = Some(flow.peer().ip().to_canonical());
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
        // Who answers is where he was; who doesn't may have moved.
        let lost = matches!(
            state,
            TrunkState::Cut | TrunkState::Unreachable | TrunkState::Refused(Refused::Status(408))
        );
        if let (true, Some(wanted)) = (lost, &trunk.wanted) {
            wanted.send_modify(|times| *times += 1);
        }
    }
}

/// What the endpoint needs to know of a trunk.
pub(super) fn settings(config: &TrunkConfig) -> TrunkSettings {
    let credentials = config.user.clone().zip(config.password.clone());
    TrunkSettings {
        peers: config.peers.clone(),
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

pub(super) fn destination(trunk: TrunkId, config: &TrunkConfig) -> Option<Destination> {
    let usual = match config.transport {
        SipTransport::Udp | SipTransport::Tcp => SIP_PORT,
        SipTransport::Tls => SIPS_PORT,
    };
    let HostPort { host, port } = way_to(config)?;
    Some(Destination {
        trunk,
        host: host.clone(),
        port: port.unwrap_or(usual),
        transport: config.transport,
    })
}

/// Looks for a way at the start, and each time that one is wanted, with growing pauses.
async fn seek(name: String, to: Destination, outgoing: Outgoing, mut asked: watch::Receiver<u64>) {
    for turn in 0.. {
        let mut pause = PAUSE_MIN;
        while let Err(error) = outgoing.reach(&to, turn).await {
            tracing::warn!(trunk = name, %error, "it can't be reached, trying again");
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
        if asked.changed().await.is_err() {
            return;
        }
        sleep(PAUSE_MIN).await;
    }
}

/// Who calls where neither a number nor a user is known.
const NOBODY: &str = "voicebridge";
/// RFC 3261 section 19.1.2.
const SIP_PORT: u16 = 5_060;
const SIPS_PORT: u16 = 5_061;
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
