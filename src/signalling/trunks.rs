//! Trunks: a task each looks for the way to its registrar, the endpoint registers over it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::gateway::Gateway;
use super::transport::{Destination, Outgoing};
use crate::booking::number::significant;
use crate::config::{RegistrarConfig, SipTransport, SrtpPolicy, TrunkConfig};
use crate::sip::event::{Flow, TrunkId, TrunkState};
use crate::sip::{Credentials, Refused, RegistrarSettings, TrunkSettings};

/// All trunks of a gateway.
pub(super) struct Trunks {
    all: Vec<Trunk>,
    /// Ends with the gateway.
    _seekers: JoinSet<()>,
}

struct Trunk {
    config: TrunkConfig,
    up: bool,
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
                let wanted = config.registrar.as_ref().map(|registrar| {
                    let (wanted, asked) = watch::channel(0);
                    let to = destination(TrunkId(at), registrar);
                    let name = config.name.clone();
                    seekers.spawn(seek(name, to, outgoing.clone(), asked));
                    wanted
                });
                let up = wanted.is_none();
                Trunk { config, up, wanted }
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

    /// Does it bring calls to this number?
    pub(super) fn brings(&self, trunk: Option<TrunkId>, number: &str) -> bool {
        let Some(trunk) = trunk.and_then(|trunk| self.get(trunk)) else {
            return true;
        };
        let numbers = &trunk.config.numbers;
        let dialled = significant(number);
        numbers.is_empty() || numbers.iter().any(|own| significant(own) == dialled)
    }

    /// Name and whether it is up, for metrics.
    pub(super) fn gauges(&self) -> Vec<(String, bool)> {
        let all = self.all.iter();
        all.map(|trunk| (trunk.config.name.clone(), trunk.up))
            .collect()
    }
}

impl Gateway {
    /// A trunk's registrar can be reached.
    pub(super) fn trunk_reached(
        &mut self,
        now: Instant,
        trunk: TrunkId,
        flow: Flow,
        local: SocketAddr,
    ) {
        self.endpoint
            .trunk_reached(now, trunk, flow, &local.to_string());
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
        }
        match state {
            TrunkState::Up => trunk.up = true,
            TrunkState::Lapsed | TrunkState::Cut => trunk.up = false,
            // The registration from before may be good for a while.
            TrunkState::Refused(_) => {}
        }
        // Who answers is where he was; who doesn't may have moved.
        let lost = matches!(
            state,
            TrunkState::Cut | TrunkState::Refused(Refused::Status(408))
        );
        if let (true, Some(wanted)) = (lost, &trunk.wanted) {
            wanted.send_modify(|times| *times += 1);
        }
    }
}

/// What the endpoint needs to know of a trunk.
pub(super) fn settings(config: &TrunkConfig) -> TrunkSettings {
    TrunkSettings {
        peers: config.peers.clone(),
        trust_identity: config.trust_identity,
        registrar: config.registrar.as_ref().map(|registrar| {
            let password = registrar.password.clone();
            RegistrarSettings {
                host_port: match registrar.host.port {
                    Some(port) => format!("{}:{port}", registrar.host.host),
                    None => registrar.host.host.clone(),
                },
                user: registrar.user.clone(),
                credentials: password.map(|password| Credentials {
                    user: registrar.user.clone(),
                    password,
                }),
            }
        }),
    }
}

fn destination(trunk: TrunkId, registrar: &RegistrarConfig) -> Destination {
    let usual = match registrar.transport {
        SipTransport::Udp | SipTransport::Tcp => SIP_PORT,
        SipTransport::Tls => SIPS_PORT,
    };
    Destination {
        trunk,
        host: registrar.host.host.clone(),
        port: registrar.host.port.unwrap_or(usual),
        transport: registrar.transport,
    }
}

/// Looks for a way at the start, and each time that one is wanted, with growing pauses.
async fn seek(name: String, to: Destination, outgoing: Outgoing, mut asked: watch::Receiver<u64>) {
    loop {
        let mut pause = PAUSE_MIN;
        while let Err(error) = outgoing.reach(&to).await {
            tracing::warn!(trunk = name, %error, "its registrar can't be reached, trying again");
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
        if asked.changed().await.is_err() {
            return;
        }
        sleep(PAUSE_MIN).await;
    }
}

/// RFC 3261 section 19.1.2.
const SIP_PORT: u16 = 5_060;
const SIPS_PORT: u16 = 5_061;
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
