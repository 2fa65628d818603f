//! Whether a trunk would work, looked at before anybody calls: is there a way to it, does it answer, does it take user
//! and password. Nothing changes there: it is asked for our registrations, not given one.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::clock;
use super::transport::{Inbound, Outgoing, Resolver, TlsIdentity, Transport};
use super::trunks::{settings, wanted};
use crate::config::{ListenAddress, SipTransport, TrunkConfig};
use crate::sip::event::{SipEvent, TrunkId, TrunkState};
use crate::sip::locate::{Fault, Target, Wanted};
use crate::sip::{Endpoint, EndpointConfig, QualifySettings, TrunkSettings};

/// Looks at one trunk; `identity` is who we are over TLS.
///
/// # Errors
/// What keeps calls from it, or to it.
pub async fn check_trunk(
    config: &TrunkConfig,
    identity: Option<&Arc<TlsIdentity>>,
    resolver: &Resolver,
) -> Result<String, String> {
    let Some(to) = wanted(config) else {
        return Ok("takes calls from its peers; nothing leads there".to_owned());
    };
    let (transport, inbound) = Transport::bind(&anywhere(&config.transports), identity)
        .await
        .map_err(|error| error.to_string())?;
    let asked = TrunkSettings {
        qualify: Some(QualifySettings {
            every: OFTEN_ENOUGH,
            uri: format!("sip:{}", to.host),
        }),
        asks_only: true,
        ..settings(config)
    };
    let endpoint = EndpointConfig {
        trunks: vec![asked],
        ..EndpointConfig::default()
    };
    let seed = getrandom::u64().map_err(|error| error.to_string())?;
    let outgoing = transport.outgoing(resolver.clone());
    let reached = find_way(&outgoing, &to).await?;
    let mut look = Look {
        endpoint: Endpoint::new(endpoint, seed),
        transport,
        inbound,
        reached,
        answers: None,
        known: config.registrar.as_ref().map(|_| None),
    };
    look.until_known().await;
    look.in_words(config)
}

struct Look {
    endpoint: Endpoint,
    transport: Transport,
    inbound: mpsc::Receiver<Inbound>,
    /// Where, and what else there is.
    reached: String,
    answers: Option<Option<Duration>>,
    /// `None`: it isn't registered with.
    known: Option<Option<Result<(), String>>>,
}

impl Look {
    async fn until_known(&mut self) {
        let until = clock::now() + PATIENCE;
        while clock::now() < until && !(self.answers.is_some() && self.knows_registration()) {
            let wake = self.endpoint.poll_timeout().unwrap_or(until).min(until);
            tokio::select! {
                Some(message) = self.inbound.recv() => self.take(message),
                () = tokio::time::sleep_until(wake.into()) => {}
            }
            self.endpoint.handle_timeout(clock::now());
            self.settle();
        }
    }

    const fn knows_registration(&self) -> bool {
        !matches!(self.known, Some(None))
    }

    fn take(&mut self, message: Inbound) {
        let now = clock::now();
        match message {
            Inbound::Datagram(flow, bytes) => self.endpoint.handle_datagram(now, flow, &bytes),
            Inbound::Opened(connection, writer) => self.transport.opened(connection, writer),
            Inbound::Stream(flow, bytes) => self.endpoint.handle_stream(now, flow, &bytes),
            Inbound::Closed(connection) => {
                self.transport.close(connection);
                self.endpoint.handle_closed(now, connection);
            }
            Inbound::Reached { trunk, flow, local } => {
                self.endpoint
                    .trunk_reached(now, trunk, flow, &local.to_string());
            }
            Inbound::Sought { .. } | Inbound::Proven(..) => {}
        }
    }

    fn settle(&mut self) {
        while let Some(transmit) = self.endpoint.poll_transmit() {
            // What can't be sent gets no answer.
            let _sent = self.transport.send(transmit);
        }
        while let Some(event) = self.endpoint.poll_event() {
            let SipEvent::Trunk { state, .. } = event else {
                continue;
            };
            let registered = match state {
                TrunkState::Up => Some(Ok(())),
                TrunkState::Refused(why) => Some(Err(why.to_string())),
                TrunkState::Cut => Some(Err("it closes the connection".to_owned())),
                TrunkState::Lapsed => None,
                TrunkState::Reachable { round_trip } => {
                    self.answers = Some(Some(round_trip));
                    None
                }
                TrunkState::Unreachable => {
                    self.answers = Some(None);
                    None
                }
            };
            if let (Some(known @ None), Some(registered)) = (&mut self.known, registered) {
                *known = Some(registered);
            }
        }
    }

    fn in_words(&self, config: &TrunkConfig) -> Result<String, String> {
        let at = &self.reached;
        let registered = match &self.known {
            None => "",
            Some(Some(Ok(()))) => ", would register",
            Some(Some(Err(why))) => {
                return Err(format!(
                    "{at}, would not register: {why}; look at user, password and realm"
                ));
            }
            Some(None) => return Err(format!("{at}, its registrar doesn't answer; a firewall?")),
        };
        match self.answers {
            Some(Some(round_trip)) => {
                let ms = round_trip.as_millis();
                Ok(format!("{at}, answers OPTIONS after {ms} ms{registered}"))
            }
            // Some that take calls don't; who asks them takes them for dead.
            Some(None) | None if config.qualify_frequency.is_none() && !registered.is_empty() => {
                Ok(format!(
                    "{at}, doesn't answer OPTIONS{registered}; leave qualify_frequency out"
                ))
            }
            Some(None) | None => Err(format!(
                "{at}, doesn't answer OPTIONS; a firewall, or is something else there?"
            )),
        }
    }
}

/// Makes a way to the first of the places that a name leads to which can be reached; says which, and what is wrong with
/// those before it.
async fn find_way(outgoing: &Outgoing, to: &Wanted) -> Result<String, String> {
    let found = outgoing.look_up(to).await;
    let found = found.map_err(|error| format!("can't be looked up: {error}"))?;
    let mut left = Vec::new();
    let mut targets = found.targets.iter().map(|(target, _)| *target);
    while let Some(target) = targets.next() {
        let name = to.host.trim_matches(['[', ']']);
        let way = outgoing.reach(TrunkId(0), target, name);
        let Target { transport, at } = target;
        let fault = match tokio::time::timeout(PATIENCE, way).await {
            Ok(Ok(())) => {
                let mut words = format!("reached at {at} over {transport}");
                if found.targets.len() > 1 {
                    let (by, others) = (found.by, targets.len());
                    words += &format!(" (by {by} records, {others} more to go to)");
                }
                if !left.is_empty() {
                    words += &format!(", not at {}", left.join(" nor at "));
                }
                return Ok(words);
            }
            Ok(Err(unreached)) => format!("{}: {}", unreached.fault, unreached.error),
            Err(_) => Fault::NoAnswer.to_string(),
        };
        left.push(format!("{at} over {transport} ({fault})"));
    }
    Err(format!("can't be reached at {}", left.join(" nor at ")))
}

/// Ports that nobody needs; where a running node listens isn't free.
fn anywhere(transports: &[SipTransport]) -> Vec<ListenAddress> {
    let any = [
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    ];
    let v6 = std::net::UdpSocket::bind(any[1]).is_ok();
    let families = any.into_iter().take(if v6 { 2 } else { 1 });
    families
        .flat_map(|address| {
            let all = transports.iter();
            all.map(move |&transport| ListenAddress { transport, address })
        })
        .collect()
}

/// Once is enough.
const OFTEN_ENOUGH: Duration = Duration::from_secs(3_600);
/// For all of it: longer than a question may go without an answer.
const PATIENCE: Duration = Duration::from_secs(6);
