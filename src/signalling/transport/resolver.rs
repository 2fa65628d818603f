//! DNS: one resolver for the process, which answers what a look-up asks.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::{TokioResolver, lookup::Lookup};
use tokio::time::timeout;

use super::{clock, local_address};
use crate::sip::locate::{self, Answer, Found, NotFound, Query, RECORDS_MAX, Wanted};

/// See the module's text. Cheap to clone.
#[derive(Clone)]
pub struct Resolver(Result<TokioResolver, String>);

impl Resolver {
    /// Asks these servers; where there is none, those that the system is configured for.
    #[must_use]
    pub fn new(servers: &[SocketAddr]) -> Self {
        let builder = if servers.is_empty() {
            TokioResolver::builder_tokio()
        } else {
            let servers = servers.iter().map(server).collect();
            let config = ResolverConfig::from_parts(None, Vec::new(), servers);
            let provider = TokioRuntimeProvider::default();
            Ok(TokioResolver::builder_with_config(config, provider))
        };
        let built = builder.and_then(|mut builder| {
            let options = builder.options_mut();
            // How long an answer is good for is the look-ups' to say.
            options.cache_size = 0;
            options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
            options.try_tcp_on_error = true;
            builder.build()
        });
        Self(built.map_err(|error| format!("no DNS server is known: {error}")))
    }

    /// Asks all that this look-up wants to know; `seed` decides among equals.
    pub(crate) async fn look_up(&self, wanted: &Wanted, seed: u64) -> Result<Found, NotFound> {
        let until = clock::now() + PATIENCE_IN_ALL;
        let mut lookup = locate::Lookup::new(wanted.clone(), seed);
        loop {
            if let Some(outcome) = lookup.outcome() {
                return outcome;
            }
            let Some(query) = lookup.query() else {
                return Err(NotFound::NoAddress);
            };
            lookup.handle_answer(self.ask(&query, until).await);
        }
    }

    async fn ask(&self, query: &Query, until: Instant) -> Result<Answer, String> {
        let resolver = self.0.as_ref().map_err(Clone::clone)?;
        let asked = async {
            match query {
                Query::Naptr(name) => resolver.lookup(absolute(name), RecordType::NAPTR).await,
                Query::Srv(name) => resolver.lookup(absolute(name), RecordType::SRV).await,
                Query::Addresses(name) => {
                    let found = resolver.lookup_ip(absolute(name)).await;
                    found.map(|found| found.as_lookup().clone())
                }
            }
        };
        let patience = PATIENCE.min(until.saturating_duration_since(clock::now()));
        match timeout(patience, asked).await {
            Ok(Ok(lookup)) => Ok(answer(&lookup)),
            Ok(Err(error)) if error.is_no_records_found() => Ok(Answer::default()),
            Ok(Err(error)) => Err(in_words(&error)),
            Err(_) => Err("no answer".to_owned()),
        }
    }
}

fn server(at: &SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(at.ip());
    for connection in &mut server.connections {
        let connection: &mut ConnectionConfig = connection;
        connection.port = at.port();
    }
    server
}

/// A name with dots is one of the whole world; others may be completed as the system is configured for.
fn absolute(name: &str) -> String {
    if name.contains('.') && !name.ends_with('.') {
        format!("{name}.")
    } else {
        name.to_owned()
    }
}

fn answer(lookup: &Lookup) -> Answer {
    let records = lookup.answers().iter();
    Answer {
        records: in_order(records.filter_map(|record| read(&record.data)), is_routed),
        ttl: lookup.valid_until().saturating_duration_since(clock::now()),
    }
}

/// Addresses that nothing leads to from here come last. To find that out costs a socket each, so it is asked for few, and
/// once each.
fn in_order(
    records: impl Iterator<Item = locate::Record>,
    mut is_routed: impl FnMut(IpAddr) -> bool,
) -> Vec<locate::Record> {
    let mut records: Vec<locate::Record> = records.take(RECORDS_MAX).collect();
    records.sort_by_cached_key(|record| match record {
        locate::Record::Address(ip) => !is_routed(*ip),
        locate::Record::Naptr { .. } | locate::Record::Srv { .. } => false,
    });
    records
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever else stands beside what was asked for"
)]
fn read(data: &RData) -> Option<locate::Record> {
    match data {
        RData::A(ip) => Some(locate::Record::Address(ip.0.into())),
        RData::AAAA(ip) => Some(locate::Record::Address(ip.0.into())),
        RData::SRV(srv) => Some(locate::Record::Srv {
            priority: srv.priority,
            weight: srv.weight,
            port: srv.port,
            target: srv.target.to_ascii(),
        }),
        RData::NAPTR(naptr) => Some(locate::Record::Naptr {
            order: naptr.order,
            preference: naptr.preference,
            flags: String::from_utf8_lossy(&naptr.flags).into_owned(),
            service: String::from_utf8_lossy(&naptr.services).into_owned(),
            replacement: naptr.replacement.to_ascii(),
        }),
        _ => None,
    }
}

fn is_routed(ip: IpAddr) -> bool {
    local_address(ip).is_ok()
}

fn in_words(error: &NetError) -> String {
    if matches!(error, NetError::Timeout) {
        "no answer".to_owned()
    } else {
        error.to_string()
    }
}

/// For one question, whichever servers are asked.
const PATIENCE: Duration = Duration::from_secs(6);
/// For all questions of one look-up; what isn't known then counts as not answered.
const PATIENCE_IN_ALL: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_many_addresses_there_are_few_are_tried_and_once_each() {
        let mut tried = Vec::new();
        let all = (0..4_000_u32).map(|n| locate::Record::Address(IpAddr::V4(n.into())));
        let even = |ip: IpAddr| matches!(ip, IpAddr::V4(ip) if ip.to_bits().is_multiple_of(2));
        let ordered = in_order(all, |ip| {
            tried.push(ip);
            even(ip)
        });
        assert_eq!((ordered.len(), tried.len()), (RECORDS_MAX, RECORDS_MAX));
        let routed = ordered
            .iter()
            .take_while(|record| matches!(record, locate::Record::Address(ip) if even(*ip)));
        assert_eq!(routed.count(), RECORDS_MAX / 2);
    }
}
