//! A task for each trunk that we go to: it looks up where the trunk's name leads, makes a way to the best of those
//! places, and another one where that fails (RFC 3263 section 4.3). What is known already isn't kept waiting by DNS.

use std::future::pending;
use std::pin::Pin;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::sleep_until;

use super::clock;
use super::transport::{Outgoing, Sought, Unreached};
use crate::sip::event::TrunkId;
use crate::sip::locate::{Fault, Found, NotFound, Target, Targets, Wanted};

/// What the gateway has found out about a way.
#[derive(Debug)]
pub(super) enum Wish {
    /// It doesn't serve: another one, where there is one.
    Failed {
        /// Which.
        target: Target,
        /// Why not.
        fault: Fault,
        /// How long it wants to be left alone.
        pause: Option<Duration>,
    },
    /// The connection there is gone.
    Lost(Target),
    /// It serves.
    Works,
}

/// See the module's text.
pub(super) struct Seeker {
    name: String,
    trunk: TrunkId,
    wanted: Wanted,
    outgoing: Outgoing,
    targets: Targets,
    reached_at: Option<Instant>,
    /// Nothing is free: one is tried all the same, after pauses that grow.
    retry_at: Option<Instant>,
    pause: Duration,
    heard: u64,
    /// Under way.
    look_up: Option<LookUp>,
}

type LookUp = Pin<Box<dyn Future<Output = Result<Found, NotFound>> + Send>>;

impl Seeker {
    pub(super) fn new(name: &str, trunk: TrunkId, wanted: Wanted, outgoing: Outgoing) -> Self {
        Self {
            name: name.to_owned(),
            trunk,
            wanted,
            outgoing,
            targets: Targets::default(),
            reached_at: None,
            retry_at: None,
            pause: PAUSE_MIN,
            heard: 0,
            look_up: None,
        }
    }

    /// Runs until nobody wishes for anything any more.
    pub(super) async fn run(mut self, mut wishes: mpsc::Receiver<Wish>) {
        loop {
            self.begin_look_up();
            self.go().await;
            let sought = self.sought(clock::now());
            if !self.outgoing.tell_sought(self.trunk, sought).await {
                return;
            }
            let until = self.deadline(clock::now());
            tokio::select! {
                wish = wishes.recv() => match wish {
                    Some(wish) => self.hear(clock::now(), &wish),
                    None => return,
                },
                found = outcome(&mut self.look_up) => self.end_look_up(clock::now(), found),
                () = sleep_until(until.into()) => {}
            }
            while let Ok(wish) = wishes.try_recv() {
                self.hear(clock::now(), &wish);
            }
        }
    }

    fn begin_look_up(&mut self) {
        if self.look_up.is_none() && self.targets.is_outdated(clock::now()) {
            let (outgoing, wanted) = (self.outgoing.clone(), self.wanted.clone());
            self.look_up = Some(Box::pin(async move { outgoing.look_up(&wanted).await }));
        }
    }

    fn end_look_up(&mut self, now: Instant, found: Result<Found, NotFound>) {
        self.look_up = None;
        match found {
            Ok(found) => {
                let (by, count) = (found.by, found.targets.len());
                tracing::debug!(trunk = self.name, by, count, "looked up");
                self.targets.take(now, found);
            }
            Err(error) => {
                tracing::warn!(trunk = self.name, host = self.wanted.host, %error, "its name can't be looked up, trying again");
                self.targets.not_found(now, self.pause);
                self.pause = (self.pause * 2).min(PAUSE_MAX);
            }
        }
    }

    /// Goes where it is best to go now, unless it is there.
    async fn go(&mut self) {
        while let Some(target) = self.targets.next(clock::now()) {
            if self.reach(target).await {
                return;
            }
        }
        let now = clock::now();
        let waits = self.retry_at.is_some_and(|at| at > now);
        if self.targets.is_empty() || self.targets.current().is_some() || waits {
            return;
        }
        if self.retry_at.take().is_some()
            && let Some(target) = self.targets.least_bad()
            && self.reach(target).await
        {
            return;
        }
        self.retry_at = Some(clock::now() + self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }

    async fn reach(&mut self, target: Target) -> bool {
        let name = self.wanted.host.trim_matches(['[', ']']);
        let reached = self.outgoing.reach(self.trunk, target, name).await;
        let now = clock::now();
        match reached {
            Ok(()) => {
                tracing::info!(trunk = self.name, %target, "goes there from now on");
                self.targets.reached(target);
                (self.reached_at, self.retry_at) = (Some(now), None);
                self.pause = PAUSE_MIN;
                true
            }
            Err(Unreached { fault, error }) => {
                tracing::warn!(trunk = self.name, %target, %error, "it can't be reached, trying again");
                self.targets.failed(now, target, fault, None);
                self.targets.doubt();
                false
            }
        }
    }

    fn hear(&mut self, now: Instant, wish: &Wish) {
        self.heard += 1;
        match *wish {
            Wish::Failed {
                target,
                fault,
                pause,
            } => {
                self.targets.failed(now, target, fault, pause);
                self.targets.doubt();
            }
            Wish::Lost(target) if self.targets.current() == Some(target) => {
                self.targets.lost();
                self.targets.doubt();
                let soon = self.reached_at.is_some_and(|at| now < at + AT_ONCE);
                if soon {
                    self.targets.failed(now, target, Fault::Closes, None);
                    self.retry_at = Some(now + PAUSE_MIN);
                }
            }
            Wish::Lost(_) => {}
            Wish::Works => self.targets.works(),
        }
    }

    fn deadline(&self, now: Instant) -> Instant {
        let targets = match self.look_up {
            None => self.targets.deadline(now),
            Some(_) => self.targets.free_at(now),
        };
        let retry = self.retry_at.filter(|_| self.targets.current().is_none());
        let next = [targets, retry].into_iter().flatten().min();
        next.unwrap_or(now + PAUSE_MAX).max(now)
    }

    fn sought(&self, now: Instant) -> Sought {
        Sought {
            addresses: self.targets.addresses(),
            current: self.targets.current(),
            has_another: self.targets.has_another(now),
            is_doubted: self.targets.is_doubted(),
            left: self.targets.left_alone(now),
            heard: self.heard,
        }
    }
}

async fn outcome(look_up: &mut Option<LookUp>) -> Result<Found, NotFound> {
    match look_up {
        Some(look_up) => look_up.await,
        None => pending().await,
    }
}

const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Who closes a connection sooner than this has no use for it.
const AT_ONCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

    use tokio::time::timeout;

    use super::*;
    use crate::config::SipTransport;
    use crate::signalling::transport::{Inbound, Resolver, Transport};

    #[tokio::test]
    async fn what_is_known_is_gone_to_while_dns_says_nothing() {
        let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let servers = [silent.local_addr().unwrap()];
        let listen = ["udp:127.0.0.1:0".parse().unwrap()];
        let (transport, mut inbound) = Transport::bind(&listen, None).await.unwrap();
        let outgoing = transport.outgoing(Resolver::new(&servers));
        let wanted = Wanted {
            host: "carrier.test".to_owned(),
            port: None,
            transports: vec![SipTransport::Udp],
        };
        let target = |last: u8| Target {
            transport: SipTransport::Udp,
            at: SocketAddr::from(([127, 0, 0, last], 5060)),
        };
        let mut seeker = Seeker::new("carrier", TrunkId(0), wanted, outgoing);
        // Both were found, and it is time to look again.
        let found = Found {
            targets: vec![(target(2), 0), (target(3), 1)],
            ttl: Duration::ZERO,
            complete: true,
            by: "SRV",
        };
        seeker.targets.take(clock::now(), found);
        let (wishes, heard) = mpsc::channel(9);
        let _seeks = tokio::spawn(seeker.run(heard));
        let reached = async |inbound: &mut mpsc::Receiver<Inbound>| {
            loop {
                if let Some(Inbound::Reached { flow, .. }) = inbound.recv().await {
                    return flow.peer();
                }
            }
        };
        let first = timeout(LONG, reached(&mut inbound)).await;
        assert_eq!(first, Ok(target(2).at));
        let failed = Wish::Failed {
            target: target(2),
            fault: Fault::NoAnswer,
            pause: None,
        };
        wishes.send(failed).await.unwrap();
        let second = timeout(LONG, reached(&mut inbound)).await;
        assert_eq!(second, Ok(target(3).at));
    }

    /// Shorter than DNS is waited for.
    const LONG: Duration = Duration::from_secs(5);
}
