//! A node: everything that runs, in the order it is built and, the other way round, ended.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::home::Home;
use crate::api;
use crate::booking::persistence::insist;
use crate::booking::presence::{CutOff, SILENT_FOR};
use crate::booking::{BookingError, Bookings};
use crate::call::{CallLimits, roster};
use crate::config::{Config, Reloaded};
use crate::engine::{Control, EngineConfig};
use crate::prompts::Prompts;
use crate::signalling::{
    self, GatewayHandle, GatewaySettings, Parts, Resolver, Running, TlsIdentity,
};
use crate::webhooks;

/// See the module's text.
pub(super) struct Node {
    _home: Option<Home>,
    bookings: Bookings,
    tls: Option<Arc<TlsIdentity>>,
    gateway: Running,
    servers: JoinSet<()>,
    stop_serving: watch::Sender<bool>,
}

impl Node {
    /// Builds it: store, voice, engine, gateway, API.
    pub(super) async fn start(config: &Config) -> anyhow::Result<Self> {
        let bookings = super::store::open(config).await?;
        bookings
            .ensure_echo_meeting(wall())
            .await
            .context("booking the echo meeting")?;
        let home = Home::enter(&config.node.data_dir);
        if let Some(home) = &home {
            bookings.live_alone_in(home.id);
        }
        tell_what_was_cut_off(&bookings, CutOff::WithTheProcess)
            .await
            .context("telling the end of what the last process left")?;
        seed_numbers(config, &bookings).await?;
        bookings
            .look_for_pin_lengths()
            .await
            .context("reading how long PINs are")?;
        let http = bind_http(config).await?;
        let tls = match &config.sip.tls {
            Some(_) => Some(Arc::new(TlsIdentity::load(&config.sip)?)),
            None => None,
        };
        let prompts = load_prompts(config);
        let engine = Control::start(engine_config(config)).context("starting the media threads")?;
        let gateway = signalling::start(Parts {
            settings: GatewaySettings::new(config, call_limits(config)),
            listen: config.sip.listen.clone(),
            tls: tls.clone(),
            advertise: config.sip.advertise.clone(),
            trunks: config.sip.trunks.clone(),
            resolver: Resolver::new(&config.sip.dns_servers),
            asterisks: config.asterisks.clone(),
            bookings: bookings.clone(),
            speaker: prompts,
            engine,
            seed: seed()?,
        })
        .await?;
        let live = signalling::live_calls(&gateway.handle);
        let (stop_serving, stopped) = watch::channel(false);
        let mut servers = JoinSet::new();
        for (listener, router) in http
            .into_iter()
            .zip(api::routers(config, &bookings, live, wall))
        {
            servers.spawn(serve(listener, router, stopped.clone()));
        }
        servers.spawn(webhooks::deliver(bookings.clone(), wall, stopped.clone()));
        servers.spawn(tell_the_rest(bookings.clone(), stopped.clone()));
        let calls = gateway.handle.clone();
        servers.spawn(look_at_the_store(bookings.clone(), calls, stopped.clone()));
        servers.spawn(purge(bookings.clone(), stopped));
        Ok(Self {
            _home: home,
            bookings,
            tls,
            gateway,
            servers,
            stop_serving,
        })
    }

    /// Takes over what may change while running.
    pub(super) async fn reload(&self, reloaded: Reloaded) -> Config {
        for section in &reloaded.restart_needed {
            tracing::warn!("[{section}] was changed; some of it waits for the next start");
        }
        let limits = call_limits(&reloaded.config);
        let settings = GatewaySettings::new(&reloaded.config, limits);
        self.gateway.handle.reload(settings).await;
        self.bookings.set_pin_attempts(reloaded.config.pin.attempts);
        if let Err(error) = seed_numbers(&reloaded.config, &self.bookings).await {
            tracing::warn!("the numbers were not reloaded: {error:#}");
        }
        if let Some(identity) = &self.tls
            && let Err(error) = identity.reload(&reloaded.config.sip)
        {
            tracing::warn!("the certificate was not reloaded, the old one stays: {error}");
        }
        tracing::info!("configuration reloaded");
        reloaded.config
    }

    /// Takes no new calls and waits until the last one is over.
    pub(super) async fn drained(&self) {
        self.gateway.handle.drain().await;
    }

    /// Ends what is left: calls first, so that their records are kept, the API last.
    pub(super) async fn stop(mut self) {
        self.gateway.handle.shut_down().await;
        if tokio::time::timeout(LAST_RECORDS, self.gateway.finished)
            .await
            .is_err()
        {
            tracing::warn!("the store did not take the last call records in time");
        }
        if let Err(error) = self.bookings.give_failure_budgets_back(wall()).await {
            tracing::info!(%error, "this node's share of the failure budget comes back in an hour");
        }
        self.bookings.end_event_streams();
        self.stop_serving.send_replace(true);
        let all = async { while self.servers.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_ANSWERS, all).await.is_err() {
            tracing::info!("some API requests were cut off");
        }
    }
}

async fn bind_http(config: &Config) -> anyhow::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    let admin = config.http.admin_listen.map(|at| ("http.admin_listen", at));
    for (key, at) in std::iter::once(("http.listen", config.http.listen)).chain(admin) {
        let listener = TcpListener::bind(at).await.with_context(|| {
            format!("{key}: cannot listen on {at}; is another server running there?")
        })?;
        listeners.push(listener);
    }
    Ok(listeners)
}

async fn serve(listener: TcpListener, router: axum::Router, mut stopped: watch::Receiver<bool>) {
    let stop = async move {
        // An error means that the node is gone.
        let _gone = stopped.wait_for(|stopped| *stopped).await;
    };
    if let Err(error) = axum::serve(listener, router)
        .with_graceful_shutdown(stop)
        .await
    {
        tracing::warn!(%error, "the HTTP server ended");
    }
}

/// Tells the end of what an earlier process was killed in.
async fn tell_what_was_cut_off(bookings: &Bookings, whom: CutOff) -> Result<(), BookingError> {
    let told = bookings.tell_what_was_cut_off(wall(), whom).await?;
    if told > 0 {
        tracing::info!(told, "told the end of what the last process was killed in");
    }
    Ok(())
}

/// Of what an earlier process was killed in that wasn't known to be dead at the start: those whose calls ended
/// with it, once it must be dead. Whom an Asterisk held while no process was there has been found again later, or is
/// gone.
async fn tell_the_rest(bookings: Bookings, mut stopped: watch::Receiver<bool>) {
    let told = async {
        for (after, whom) in [
            (DEAD_FOR_CERTAIN, CutOff::WithTheProcess),
            (FOUND_AGAIN, CutOff::All),
        ] {
            tokio::time::sleep(after).await;
            let tell = || tell_what_was_cut_off(&bookings, whom);
            insist("the end of what the last process left", || false, tell).await;
        }
    };
    tokio::select! {
        _ = stopped.changed() => {}
        () = told => {}
    }
}

/// Deletes what has been kept long enough, every hour.
async fn purge(bookings: Bookings, mut stopped: watch::Receiver<bool>) {
    let mut hourly = tokio::time::interval(PURGE);
    loop {
        tokio::select! {
            _ = stopped.changed() => return,
            _ = hourly.tick() => match bookings.purge(wall()).await {
                Ok(purged) => tracing::debug!(?purged, "old records deleted"),
                Err(error) => tracing::warn!(%error, "old records could not be deleted, trying again in an hour"),
            },
        }
        if let Err(error) = bookings.roll_rooms(wall()).await {
            tracing::warn!(%error, "endless series could not take their rooms further on, trying again in an hour");
        }
        match bookings.tend_occurrence_pins(wall()).await {
            Ok(done) => tracing::debug!(?done, "occurrences have their PINs"),
            Err(error) => {
                tracing::warn!(%error, "occurrences could not be given their PINs, trying again in an hour")
            }
        }
    }
}

/// Brings the configuration's numbers that were never brought before.
async fn seed_numbers(config: &Config, bookings: &Bookings) -> anyhow::Result<()> {
    let seeds = super::store::numbers(config);
    let others = bookings.seed_numbers(wall(), seeds).await;
    for number in others.context("[[number]]: bringing them to the store")? {
        tracing::info!(
            number,
            "was changed or deleted by the API, which counts; its [[number]] can go"
        );
    }
    Ok(())
}

/// Hears of what other nodes have told the store, every second.
async fn look_at_the_store(
    bookings: Bookings,
    calls: GatewayHandle,
    mut stopped: watch::Receiver<bool>,
) {
    let mut every_second = tokio::time::interval(LOOK);
    every_second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = stopped.changed() => return,
            _ = every_second.tick() => {
                if let Err(error) = bookings.look_for_events().await {
                    tracing::debug!(%error, "the store can't be asked for events");
                }
                if let Err(error) = bookings.tend_failure_budgets(wall()).await {
                    tracing::debug!(%error, "the store can't be told of wrong PINs");
                }
                if let Err(error) = bookings.beat(wall()).await {
                    tracing::debug!(%error, "the store can't be told that this process lives");
                }
                if let Err(error) = bookings.look_for_pin_lengths().await {
                    tracing::debug!(%error, "the store can't be asked for the lengths of PINs");
                }
                if let Err(error) = bookings.look_for_numbers().await {
                    tracing::debug!(%error, "the store can't be asked for numbers");
                }
                follow_bookings(&bookings, &calls).await;
            }
        }
    }
}

/// Brings bookings that were changed, wherever that was, to the calls of this node.
async fn follow_bookings(bookings: &Bookings, calls: &GatewayHandle) {
    let changed = match bookings.changed_since(calls.running()).await {
        Ok(changed) => changed,
        Err(error) => {
            tracing::debug!(%error, "the store can't be asked for changed meetings");
            return;
        }
    };
    for meeting in changed {
        if let Err(error) = roster::follow(calls, &meeting, wall()).await {
            tracing::debug!(meeting = %meeting.id, %error, "a change doesn't reach the calls in the meeting yet");
        }
    }
}

/// Loads the voice; what is missing is told and gone on without.
fn load_prompts(config: &Config) -> Arc<Prompts> {
    let (prompts, problems) = Prompts::load(&super::prompt_folders(config));
    for problem in problems {
        tracing::warn!("{problem}");
    }
    let prompts = Arc::new(prompts);
    let warming = Arc::clone(&prompts);
    // Encoding everything beforehand takes seconds; whoever calls meanwhile has his phrases encoded first.
    tokio::task::spawn_blocking(move || warming.warm_up());
    prompts
}

/// All addresses: of both families where IPv6 is spoken.
pub(super) fn media_bind_address(config: &Config) -> IpAddr {
    if config.has_ipv6() {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    }
}

fn engine_config(config: &Config) -> EngineConfig {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    EngineConfig {
        ports: config.media.ports.range(),
        threads: config.media.threads.map_or(cores, std::num::NonZero::get),
        media_timeout: config.limits.media_timeout,
        hold_timeout: config.limits.hold_timeout,
        legs_max: config.limits.calls,
        shared: !config.media.shared.is_empty() || !config.asterisks.is_empty(),
        realtime: config.media.realtime,
        address: media_bind_address(config),
        ..EngineConfig::default()
    }
}

/// The longest PIN is the bookings' to say, for each call anew.
fn call_limits(config: &Config) -> CallLimits {
    CallLimits {
        ring: config.limits.ring,
        dial_ring: config.limits.dial_ring,
        before_pin: config.limits.pin_wait,
        wrong_pins: config.pin.attempts,
        waiting: config.limits.wait,
        alone: config.limits.alone,
        call: config.limits.call,
        ..CallLimits::default()
    }
}

fn seed() -> anyhow::Result<u64> {
    getrandom::u64().context("the operating system gives no random numbers")
}

#[expect(clippy::disallowed_methods, reason = "the API's clock")]
fn wall() -> Timestamp {
    Timestamp::now()
}

const LAST_RECORDS: Duration = Duration::from_secs(5);
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// Longer than a process is silent before it is taken for dead.
const DEAD_FOR_CERTAIN: Duration = Duration::from_secs(SILENT_FOR.as_secs() as u64 + 2);
/// Asterisk's callers are found within seconds of its connection, which may take some tries.
const FOUND_AGAIN: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_secs(1);
const PURGE: Duration = Duration::from_secs(3_600);
