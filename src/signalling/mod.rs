//! The shell around the calls: what comes off the wire becomes inputs for the state machines, what they
//! decide becomes messages on the wire and commands for the engine.
//!
//! The path of a call, top to bottom:
//! 1. `transport`: bytes from sockets
//! 2. [`crate::sip::Endpoint`]: messages, transactions, dialogs
//! 3. `wire_in`: SIP and engine events as [`crate::call::CallInput`]s; `asterisk_link` (with `asterisk_way`
//!    and `asterisk_rest`) and `asterisk` do the same for callers who come by [`crate::ari`]
//! 4. [`crate::call`]: what is to be done
//! 5. `wire_out`: answers, prompts, PIN look-ups, rooms, records; `events` tells what happened in the meetings
//!
//! `handshakes` gets keys for audio from the callers themselves, `moving` sends callers by ARI on, `dialling` makes the calls that we make ourselves.
//! `trunks` keeps the ways to trunks, which `seeking` looks for. `gateway` is the one task that runs it, `requests` the door for the API. `asterisk_check` looks at an Asterisk
//! before anybody calls, `trunk_check` at a trunk.

mod active_call;
mod asterisk;
mod asterisk_check;
mod asterisk_link;
mod asterisk_rest;
mod asterisk_way;
mod clock;
mod counters;
mod dialling;
mod events;
mod gateway;
mod handshakes;
mod moving;
mod occupancy;
mod quality;
mod records;
mod requests;
mod seal;
mod seeking;
mod set_up;
mod settings;
mod transport;
mod trunk_check;
mod trunks;
mod wire_in;
mod wire_out;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

pub use asterisk_check::{AsteriskFinding, check_asterisk};
pub use requests::{GatewayHandle, live_calls};
pub use settings::GatewaySettings;
pub use transport::{ListenError, Resolver, TlsError, TlsIdentity};
pub use trunk_check::check_trunk;

use crate::booking::Bookings;
use crate::call::Speaker;
use crate::config::{AsteriskConfig, HostPort, ListenAddress, PerFamily, TrunkConfig};
use crate::engine::Control;
use crate::handshake::Identity;
use crate::sip::{Endpoint, EndpointConfig, SipLimits};
use asterisk::Asterisks;
use events::Reporter;
use gateway::{Ears, Gateway, Machines};
use records::Recorder;
use transport::Transport;
use trunks::Trunks;

/// What a gateway is made of.
pub struct Parts {
    /// Its limits and numbers.
    pub settings: GatewaySettings,
    /// Where SIP is listened for.
    pub listen: Vec<ListenAddress>,
    /// Who we are over TLS.
    pub tls: Option<Arc<TlsIdentity>>,
    /// What peers are told to send to.
    pub advertise: PerFamily<Option<HostPort>>,
    /// Trunks that calls come by.
    pub trunks: Vec<TrunkConfig>,
    /// Who says where their names lead.
    pub resolver: Resolver,
    /// Asterisks whose callers come over ARI.
    pub asterisks: Vec<AsteriskConfig>,
    /// PINs and records.
    pub bookings: Bookings,
    /// The voice.
    pub speaker: Arc<dyn Speaker>,
    /// The media threads.
    pub engine: Control,
    /// Random: tags and branches are made from it.
    pub seed: u64,
}

/// A gateway that runs.
pub struct Running {
    /// The door to it.
    pub handle: GatewayHandle,
    /// Where SIP is listened for, with the ports that the system chose.
    pub addresses: Vec<SocketAddr>,
    /// Ends when the gateway has stopped and every record is kept.
    pub finished: JoinHandle<()>,
}

/// Binds the sockets and starts the gateway.
///
/// # Errors
/// [`ListenError`] names the address that is taken or not ours.
pub async fn start(parts: Parts) -> Result<Running, ListenError> {
    let Parts {
        settings,
        listen,
        tls,
        advertise,
        trunks,
        resolver,
        asterisks,
        bookings,
        speaker,
        engine,
        seed,
    } = parts;
    let (transport, inbound) = Transport::bind(&listen, tls.as_ref()).await?;
    transport.admit(settings.known(), settings.calls_per_source_max);
    let addresses = [
        transport.udp_addresses(),
        transport.tcp_addresses().to_vec(),
        transport.tls_addresses().to_vec(),
    ]
    .concat();
    let endpoint = Endpoint::new(
        endpoint_config(&settings, &transport, &advertise, &trunks),
        seed,
    );
    let trunks = Trunks::start(trunks, &transport.outgoing(resolver));
    let (asterisks, asterisk_news) = Asterisks::start(asterisks, seed);
    let (recorder, recording) = Recorder::start(bookings.clone());
    let (reporter, reporting) = Reporter::start(bookings.clone());
    let (wakes, woken) = mpsc::channel(WAKES);
    let (requests, asked) = mpsc::channel(REQUESTS);
    let (picture, seen) = watch::channel(requests::Picture::default());
    let identity = Identity::generate().inspect_err(|error| {
        tracing::error!(%error, "calls whose keys come by a handshake (DTLS) are refused");
    });
    let machines = Machines {
        identity: identity.ok(),
        settings,
        bookings,
        speaker,
        endpoint,
        transport,
        engine,
        recorder,
        reporter,
        asterisks,
        trunks,
    };
    let gateway = Gateway::new(machines, wakes, picture);
    let ears = Ears {
        inbound,
        asterisks: asterisk_news,
        wakes: woken,
        requests: asked,
    };
    let finished = tokio::spawn(async move {
        gateway.run(ears).await;
        if recording.await.is_err() || reporting.await.is_err() {
            tracing::warn!("the writer of call records or that of events stopped early");
        }
    });
    Ok(Running {
        handle: GatewayHandle::new(requests, seen),
        addresses,
        finished,
    })
}

fn endpoint_config(
    settings: &GatewaySettings,
    transport: &Transport,
    advertise: &PerFamily<Option<HostPort>>,
    trunks: &[TrunkConfig],
) -> EndpointConfig {
    let udp = transport.udp_addresses();
    let all = |bound| contacts(bound, advertise);
    EndpointConfig {
        udp_contacts: udp
            .iter()
            .map(|one| all(std::slice::from_ref(one)))
            .collect(),
        tcp_contact: all(transport.tcp_addresses()),
        tls_contact: all(transport.tls_addresses()),
        own_address: Some(|peer| transport::local_address(peer).ok()),
        trusted: settings.trusted.clone(),
        // A day at most.
        session_interval: settings
            .session_timer
            .and_then(|timer| u32::try_from(timer.as_secs()).ok()),
        trunks: trunks.iter().map(trunks::settings).collect(),
        limits: limits(settings.calls_max),
        ..EndpointConfig::default()
    }
}

/// A call that rings or parts is a dialog too.
fn limits(calls: usize) -> SipLimits {
    let usual = SipLimits::default();
    SipLimits {
        dialogs: usual.dialogs.max(calls + calls / 2),
        ..usual
    }
}

/// The `host:port` that peers of either family are told for what is bound: the first of their family, or one of
/// IPv6 that takes both.
fn contacts(bound: &[SocketAddr], advertise: &PerFamily<Option<HostPort>>) -> PerFamily<String> {
    let any = |is_ipv4| match is_ipv4 {
        true => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        false => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let contact = |name: &Option<HostPort>, is_ipv4: bool| {
        let own = bound.iter().find(|at| at.is_ipv4() == is_ipv4);
        let at = own.or_else(|| bound.iter().find(|at| at.ip().is_unspecified()))?;
        match name {
            Some(name) => Some(format!("{}:{}", name.host, name.port.unwrap_or(at.port()))),
            None if own.is_none() => Some(SocketAddr::new(any(is_ipv4), at.port()).to_string()),
            None => own.map(SocketAddr::to_string),
        }
    };
    PerFamily {
        v4: contact(&advertise.v4, true).unwrap_or_default(),
        v6: contact(&advertise.v6, false).unwrap_or_default(),
    }
}

/// PIN look-ups that may have come back at once.
const WAKES: usize = 1_024;
/// Requests of the API that may wait.
const REQUESTS: usize = 256;
