//! From a name to places: NAPTR, then SRV, then A and AAAA, as far as each is there (RFC 3263 section 4).
//!
//! The transports that are allowed bound all of it. Where a name's owner names TLS first nothing else is taken,
//! whatever fails: who can make records unreadable must not be able to make a connection readable.

#![deny(clippy::indexing_slicing)]

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{Answer, Query, Record, Target, Wanted, usual_port};
use crate::config::SipTransport;
use crate::sip::token::Tokens;

/// See the module's text. Ask what [`Self::query`] says, hand the answer in, until [`Self::outcome`] is there.
#[derive(Debug)]
pub struct Lookup {
    wanted: Wanted,
    step: Step,
    tokens: Tokens,
    ttl: Duration,
    /// Something was not answered.
    complete: bool,
    /// How it was found.
    by: &'static str,
}

/// What a name leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// In the order in which they are to be tried, each with its class: those of a lower one are always better.
    pub targets: Vec<(Target, u16)>,
    /// When to look again.
    pub ttl: Duration,
    /// Everything that was asked was answered.
    pub complete: bool,
    /// Which records it goes by: "NAPTR", "SRV" or "address".
    pub by: &'static str,
}

/// Why a name leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotFound {
    /// DNS was asked in vain.
    #[error("DNS says nothing of it: {0}")]
    Unanswered(String),
    /// There is no such name, or it has no address.
    #[error("the name has no address")]
    NoAddress,
    /// Its SRV records say that there is none, or NAPTR leads to none.
    #[error("by its DNS records it isn't served over the transport that is allowed")]
    NoService,
}

#[derive(Debug)]
enum Step {
    Naptr,
    Srv {
        /// The one that is asked about is in front.
        services: VecDeque<Service>,
        /// NAPTR led here: the name's own addresses don't.
        chosen: bool,
        /// A service was said not to be there.
        denied: bool,
    },
    Addresses {
        transport: SipTransport,
        /// The one that is asked about is in front.
        places: VecDeque<Place>,
        found: Vec<(Target, u16)>,
        failed: Option<String>,
    },
    Done(Result<Vec<(Target, u16)>, NotFound>),
}

#[derive(Debug, Clone)]
struct Service {
    name: String,
    transport: SipTransport,
}

#[derive(Debug)]
struct Place {
    host: String,
    port: u16,
    class: u16,
}

impl Lookup {
    /// `seed` decides who comes first among equals.
    #[must_use]
    pub fn new(wanted: Wanted, seed: u64) -> Self {
        let mut lookup = Self {
            step: Step::Naptr,
            tokens: Tokens::new(seed),
            ttl: TTL_MAX,
            complete: true,
            by: "address",
            wanted,
        };
        let host = lookup.wanted.host.trim_matches(['[', ']']).to_owned();
        let transport = lookup.default_transport();
        let port = lookup.wanted.port;
        match (host.parse::<IpAddr>(), port) {
            (Ok(ip), _) => {
                let at = SocketAddr::new(ip, port.unwrap_or(usual_port(transport)));
                lookup.step = Step::Done(Ok(vec![(Target { transport, at }, 0)]));
            }
            (Err(_), Some(port)) => lookup.step = addresses_of(host, port, transport),
            (Err(_), None) => {}
        }
        lookup.wanted.host = lookup.wanted.host.trim_end_matches('.').to_owned();
        lookup
    }

    /// What is to be asked now; `None`: it is done.
    #[must_use]
    pub fn query(&self) -> Option<Query> {
        match &self.step {
            Step::Naptr => Some(Query::Naptr(self.wanted.host.clone())),
            Step::Srv { services, .. } => Some(Query::Srv(services.front()?.name.clone())),
            Step::Addresses { places, .. } => Some(Query::Addresses(places.front()?.host.clone())),
            Step::Done(_) => None,
        }
    }

    /// What [`Self::query`] was answered with, or why it wasn't.
    pub fn handle_answer(&mut self, answer: Result<Answer, String>) {
        if let Ok(answer) = &answer
            && !answer.records.is_empty()
        {
            self.ttl = self.ttl.min(answer.ttl);
        }
        let answer = answer.map(|answer| answer.records);
        self.step = match std::mem::replace(&mut self.step, Step::Naptr) {
            Step::Naptr => self.after_naptr(answer),
            Step::Srv {
                services,
                chosen,
                denied,
            } => self.after_srv(services, chosen, denied, answer),
            Step::Addresses {
                transport,
                places,
                found,
                failed,
            } => self.after_addresses(transport, places, found, failed, answer),
            done @ Step::Done(_) => done,
        };
    }

    /// Where the name leads, once nothing is to be asked any more.
    #[must_use]
    pub fn outcome(&self) -> Option<Result<Found, NotFound>> {
        let Step::Done(outcome) = &self.step else {
            return None;
        };
        let ttl = if self.complete { self.ttl } else { TTL_MIN };
        Some(outcome.clone().map(|targets| Found {
            targets,
            ttl: ttl.clamp(TTL_MIN, TTL_MAX),
            complete: self.complete,
            by: self.by,
        }))
    }

    fn after_naptr(&mut self, answer: Result<Vec<Record>, String>) -> Step {
        let records = match answer {
            Ok(records) => records,
            // Whatever it would have said, the transport is settled.
            Err(_) if self.wanted.transports.len() == 1 => {
                self.complete = false;
                Vec::new()
            }
            Err(error) => return Step::Done(Err(NotFound::Unanswered(error))),
        };
        let mut usable: Vec<((u16, u16), Service)> = records
            .into_iter()
            .take(RECORDS_MAX)
            .filter_map(|record| self.service_of(record))
            .collect();
        usable.sort_by_key(|(order, _)| *order);
        let mut services: VecDeque<Service> = usable.into_iter().map(|(_, one)| one).collect();
        if services.front().is_some_and(is_secured) {
            services.retain(is_secured);
        }
        let chosen = !services.is_empty();
        if chosen {
            self.by = "NAPTR";
        } else {
            services = self.usual_services();
        }
        Step::Srv {
            services,
            chosen,
            denied: false,
        }
    }

    /// The service that a NAPTR record names, where it is allowed.
    fn service_of(&self, record: Record) -> Option<((u16, u16), Service)> {
        let Record::Naptr {
            order,
            preference,
            flags,
            service,
            replacement,
        } = record
        else {
            return None;
        };
        let transport = match service.to_ascii_uppercase().as_str() {
            "SIP+D2U" => SipTransport::Udp,
            "SIP+D2T" => SipTransport::Tcp,
            "SIPS+D2T" => SipTransport::Tls,
            _ => return None,
        };
        let name = replacement.trim_end_matches('.').to_owned();
        let leads = flags.eq_ignore_ascii_case("s") && !name.is_empty();
        let allowed = self.wanted.transports.contains(&transport);
        (leads && allowed).then_some(((order, preference), Service { name, transport }))
    }

    /// Where there is no NAPTR record (RFC 3263 section 4.1), the safest first.
    fn usual_services(&self) -> VecDeque<Service> {
        let all = [
            (SipTransport::Tls, "_sips._tcp"),
            (SipTransport::Tcp, "_sip._tcp"),
            (SipTransport::Udp, "_sip._udp"),
        ];
        let allowed = all
            .into_iter()
            .filter(|(transport, _)| self.wanted.transports.contains(transport));
        allowed
            .map(|(transport, prefix)| Service {
                name: format!("{prefix}.{}", self.wanted.host),
                transport,
            })
            .collect()
    }

    fn after_srv(
        &mut self,
        mut services: VecDeque<Service>,
        chosen: bool,
        denied: bool,
        answer: Result<Vec<Record>, String>,
    ) -> Step {
        let transport = services
            .pop_front()
            .map_or(self.default_transport(), |service| service.transport);
        let records = match answer {
            Ok(records) => records,
            Err(_) if !chosen && self.wanted.transports.len() == 1 => {
                self.complete = false;
                Vec::new()
            }
            Err(error) => return Step::Done(Err(NotFound::Unanswered(error))),
        };
        let places = self.in_order(records);
        let (there, not_there): (Vec<Place>, Vec<Place>) =
            places.into_iter().partition(|place| !place.host.is_empty());
        if !there.is_empty() {
            if !chosen {
                self.by = "SRV";
            }
            return Step::Addresses {
                transport,
                places: there.into(),
                found: Vec::new(),
                failed: None,
            };
        }
        let denied = denied || !not_there.is_empty();
        match (services.is_empty(), chosen || denied) {
            (false, _) => Step::Srv {
                services,
                chosen,
                denied,
            },
            (true, true) => Step::Done(Err(NotFound::NoService)),
            (true, false) => {
                let transport = self.default_transport();
                let host = self.wanted.host.clone();
                addresses_of(host, usual_port(transport), transport)
            }
        }
    }

    /// RFC 2782: by priority, and by chance among those of one, in proportion to their weights.
    fn in_order(&mut self, records: Vec<Record>) -> Vec<Place> {
        let mut left: Vec<(u16, u16, Place)> = records
            .into_iter()
            .take(RECORDS_MAX)
            .filter_map(|record| match record {
                Record::Srv {
                    priority,
                    weight,
                    port,
                    target,
                } => {
                    let host = target.trim_end_matches('.').to_owned();
                    let class = priority;
                    Some((priority, weight, Place { host, port, class }))
                }
                Record::Naptr { .. } | Record::Address(_) => None,
            })
            .collect();
        // Those without weight come first in the sum, so that they have a chance at all.
        left.sort_by_key(|(priority, weight, _)| (*priority, *weight));
        let mut ordered = Vec::with_capacity(left.len());
        while let Some(&(first, ..)) = left.first() {
            let alike = left.iter().take_while(|(priority, ..)| *priority == first);
            let weights: Vec<u64> = alike.map(|(_, weight, _)| u64::from(*weight)).collect();
            let drawn = self.tokens.below(weights.iter().sum::<u64>() + 1);
            let mut sum = 0;
            let chosen = weights.iter().position(|weight| {
                sum += weight;
                sum >= drawn
            });
            let (_, _, place) = left.remove(chosen.unwrap_or(0));
            ordered.push(place);
        }
        ordered
    }

    fn after_addresses(
        &mut self,
        transport: SipTransport,
        mut places: VecDeque<Place>,
        mut found: Vec<(Target, u16)>,
        mut failed: Option<String>,
        answer: Result<Vec<Record>, String>,
    ) -> Step {
        let Some(place) = places.pop_front() else {
            return Step::Done(Err(NotFound::NoAddress));
        };
        match answer {
            Ok(records) => {
                let addresses = records.into_iter().filter_map(|record| match record {
                    Record::Address(ip) => Some(ip),
                    Record::Naptr { .. } | Record::Srv { .. } => None,
                });
                let targets = addresses.map(|ip| Target {
                    transport,
                    at: SocketAddr::new(ip, place.port),
                });
                for target in targets {
                    if found.len() < TARGETS_MAX && !found.iter().any(|(one, _)| *one == target) {
                        found.push((target, place.class));
                    }
                }
            }
            Err(error) => {
                self.complete = false;
                failed = Some(error);
            }
        }
        if !places.is_empty() && found.len() < TARGETS_MAX {
            return Step::Addresses {
                transport,
                places,
                found,
                failed,
            };
        }
        Step::Done(match failed {
            _ if !found.is_empty() => Ok(found),
            Some(error) => Err(NotFound::Unanswered(error)),
            None => Err(NotFound::NoAddress),
        })
    }

    /// Where nothing says otherwise (RFC 3263 section 4.1).
    fn default_transport(&self) -> SipTransport {
        let all = [SipTransport::Udp, SipTransport::Tcp, SipTransport::Tls];
        all.into_iter()
            .find(|transport| self.wanted.transports.contains(transport))
            .unwrap_or(SipTransport::Udp)
    }
}

fn addresses_of(host: String, port: u16, transport: SipTransport) -> Step {
    let class = 0;
    Step::Addresses {
        transport,
        places: VecDeque::from([Place { host, port, class }]),
        found: Vec::new(),
        failed: None,
    }
}

fn is_secured(service: &Service) -> bool {
    service.transport == SipTransport::Tls
}

/// However short records are good for, nobody is asked more often.
const TTL_MIN: Duration = Duration::from_secs(10);
/// However long, they are looked at again after this.
const TTL_MAX: Duration = Duration::from_secs(3_600);
/// Of one kind; more are not looked at.
pub const RECORDS_MAX: usize = 32;
/// Addresses with ports that one name leads to.
const TARGETS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::SipTransport::{Tcp, Tls, Udp};
    use super::*;

    fn naptr(order: u16, preference: u16, service: &str, replacement: &str) -> Record {
        Record::Naptr {
            order,
            preference,
            flags: "s".to_owned(),
            service: service.to_owned(),
            replacement: replacement.to_owned(),
        }
    }

    fn srv(priority: u16, weight: u16, port: u16, target: &str) -> Record {
        Record::Srv {
            priority,
            weight,
            port,
            target: target.to_owned(),
        }
    }

    fn address(text: &str) -> Record {
        Record::Address(text.parse().unwrap())
    }

    /// What a name server would hold, and what it was asked.
    #[derive(Default)]
    struct Zone {
        records: Vec<(&'static str, Vec<Record>)>,
        /// Names that aren't answered for.
        silent: Vec<&'static str>,
        asked: Vec<Query>,
    }

    impl Zone {
        fn look_up(
            &mut self,
            host: &str,
            port: Option<u16>,
            transports: &[SipTransport],
            seed: u64,
        ) -> Result<Found, NotFound> {
            let mut lookup = Lookup::new(
                Wanted {
                    host: host.to_owned(),
                    port,
                    transports: transports.to_vec(),
                },
                seed,
            );
            while let Some(query) = lookup.query() {
                let (kind, name) = match &query {
                    Query::Naptr(name) => ("naptr ", name),
                    Query::Srv(name) => ("srv ", name),
                    Query::Addresses(name) => ("a ", name),
                };
                let key = format!("{kind}{name}");
                let silent = self.silent.contains(&key.as_str());
                let found = self.records.iter().find(|(name, _)| *name == key);
                let records = found.map(|(_, records)| records.clone());
                let ttl = Duration::from_secs(300);
                let records = records.unwrap_or_default();
                lookup.handle_answer(match silent {
                    true => Err("timed out".to_owned()),
                    false => Ok(Answer { records, ttl }),
                });
                self.asked.push(query);
                assert!(self.asked.len() < 100, "it asks for ever");
            }
            lookup.outcome().expect("it is done")
        }
    }

    fn places(found: &Found) -> Vec<String> {
        let all = found.targets.iter();
        all.map(|(target, _)| target.to_string()).collect()
    }

    #[test]
    fn an_address_or_a_port_asks_for_no_service() {
        let mut zone = Zone {
            records: vec![
                ("a sip.test", vec![address("192.0.2.1")]),
                ("srv _sip._udp.sip.test", vec![srv(1, 1, 9, "other.test")]),
            ],
            ..Zone::default()
        };
        let found = zone.look_up("[2001:db8::1]", None, &[Tls], 1).unwrap();
        assert_eq!(places(&found), ["tls:[2001:db8::1]:5061"]);
        let found = zone.look_up("192.0.2.7", Some(5070), &[Tcp], 1).unwrap();
        assert_eq!(places(&found), ["tcp:192.0.2.7:5070"]);
        assert_eq!(zone.asked, []);
        let found = zone.look_up("sip.test", Some(5080), &[Udp], 1).unwrap();
        assert_eq!(places(&found), ["udp:192.0.2.1:5080"]);
        assert_eq!(zone.asked, [Query::Addresses("sip.test".to_owned())]);
        // RFC 3263 section 4.1: UDP where nothing says otherwise.
        let found = zone.look_up("192.0.2.7", None, &[Tls, Tcp, Udp], 1);
        assert_eq!(places(&found.unwrap()), ["udp:192.0.2.7:5060"]);
    }

    #[test]
    fn the_example_of_rfc_3263_leads_to_its_two_servers() {
        let mut zone = Zone {
            records: vec![
                (
                    "naptr example.com",
                    vec![
                        naptr(90, 50, "SIP+D2U", "_sip._udp.example.com"),
                        naptr(50, 50, "SIPS+D2T", "_sips._tcp.example.com."),
                        naptr(90, 50, "SIP+D2T", "_sip._tcp.example.com"),
                    ],
                ),
                (
                    "srv _sip._tcp.example.com",
                    vec![
                        srv(1, 1, 5060, "server2.example.com."),
                        srv(0, 1, 5060, "server1.example.com."),
                    ],
                ),
                ("a server1.example.com", vec![address("192.0.2.1")]),
                (
                    "a server2.example.com",
                    vec![address("192.0.2.2"), address("2001:db8::2")],
                ),
            ],
            ..Zone::default()
        };
        let found = zone.look_up("example.com", None, &[Tcp], 1).unwrap();
        assert_eq!(
            places(&found),
            [
                "tcp:192.0.2.1:5060",
                "tcp:192.0.2.2:5060",
                "tcp:[2001:db8::2]:5060"
            ]
        );
        assert_eq!((found.by, found.complete), ("NAPTR", true));
        assert_eq!(found.ttl, Duration::from_secs(300));
        let classes: Vec<u16> = found.targets.iter().map(|(_, class)| *class).collect();
        assert_eq!(classes, [0, 1, 1]);
    }

    #[test]
    fn tls_that_a_name_asks_for_is_never_given_up_for_less() {
        let all = [Tls, Tcp, Udp];
        let mut zone = Zone {
            records: vec![
                (
                    "naptr sip.test",
                    vec![
                        naptr(1, 1, "SIPS+D2T", "_sips._tcp.sip.test"),
                        naptr(2, 1, "SIP+D2U", "_sip._udp.sip.test"),
                    ],
                ),
                ("srv _sip._udp.sip.test", vec![srv(1, 1, 5060, "a.test")]),
                ("a a.test", vec![address("192.0.2.1")]),
                ("a sip.test", vec![address("192.0.2.9")]),
            ],
            ..Zone::default()
        };
        let found = zone.look_up("sip.test", None, &all, 1);
        assert_eq!(found, Err(NotFound::NoService));
        zone.silent = vec!["srv _sips._tcp.sip.test"];
        let unanswered = Err(NotFound::Unanswered("timed out".to_owned()));
        assert_eq!(zone.look_up("sip.test", None, &all, 1), unanswered);
        // Nor where who chooses can't be asked.
        zone.silent = vec!["naptr sip.test"];
        assert_eq!(zone.look_up("sip.test", None, &all, 1), unanswered);
        // An operator who allows UDP alone gets UDP, one who allows TLS alone gets TLS.
        let found = zone.look_up("sip.test", None, &[Udp], 1).unwrap();
        assert_eq!(places(&found), ["udp:192.0.2.1:5060"]);
        zone.silent = Vec::new();
        let found = zone.look_up("sip.test", None, &[Tls], 1);
        assert_eq!(found, Err(NotFound::NoService));
        zone.records.remove(0);
        let found = zone.look_up("sip.test", None, &[Tls], 1).unwrap();
        assert_eq!(places(&found), ["tls:192.0.2.9:5061"]);
    }

    #[test]
    fn without_naptr_the_safest_service_that_is_there_is_taken_and_without_any_the_address() {
        let all = [Udp, Tcp, Tls];
        let mut zone = Zone {
            records: vec![
                ("srv _sip._udp.sip.test", vec![srv(1, 1, 5070, "a.test")]),
                ("srv _sip._tcp.sip.test", vec![srv(1, 1, 5080, "a.test")]),
                ("a a.test", vec![address("192.0.2.1")]),
                ("a sip.test", vec![address("192.0.2.9")]),
            ],
            ..Zone::default()
        };
        let found = zone.look_up("sip.test", None, &all, 1).unwrap();
        assert_eq!(places(&found), ["tcp:192.0.2.1:5080"]);
        assert_eq!(found.by, "SRV");
        zone.records.drain(..2);
        let found = zone.look_up("sip.test.", None, &all, 1).unwrap();
        assert_eq!(places(&found), ["udp:192.0.2.9:5060"]);
        assert_eq!(found.by, "address");
        let nobody = zone.look_up("elsewhere.test", None, &all, 1);
        assert_eq!(nobody, Err(NotFound::NoAddress));
        zone.records
            .push(("srv _sip._udp.sip.test", vec![srv(0, 0, 0, ".")]));
        let denied = zone.look_up("sip.test", None, &[Udp], 1);
        assert_eq!(denied, Err(NotFound::NoService));
    }

    #[test]
    fn what_is_not_answered_leaves_the_rest_and_is_asked_again_soon() {
        let mut zone = Zone {
            records: vec![
                (
                    "srv _sip._udp.sip.test",
                    vec![srv(1, 1, 5060, "a.test"), srv(2, 1, 5060, "b.test")],
                ),
                ("a b.test", vec![address("192.0.2.2")]),
                ("a sip.test", vec![address("192.0.2.9")]),
            ],
            silent: vec!["a a.test", "naptr sip.test"],
            ..Zone::default()
        };
        let found = zone.look_up("sip.test", None, &[Udp], 1).unwrap();
        assert_eq!(places(&found), ["udp:192.0.2.2:5060"]);
        assert_eq!((found.complete, found.ttl), (false, TTL_MIN));
        zone.silent = vec!["naptr sip.test", "srv _sip._udp.sip.test"];
        let found = zone.look_up("sip.test", None, &[Udp], 1).unwrap();
        assert_eq!(places(&found), ["udp:192.0.2.9:5060"]);
        assert!(!found.complete);
        zone.silent.push("a sip.test");
        let found = zone.look_up("sip.test", None, &[Udp], 1);
        assert_eq!(found, Err(NotFound::Unanswered("timed out".to_owned())));
    }

    #[test]
    fn weights_say_how_often_one_comes_first() {
        let mut zone = Zone {
            records: vec![
                (
                    "srv _sip._udp.sip.test",
                    vec![
                        srv(1, 0, 1, "a.test"),
                        srv(1, 30, 2, "a.test"),
                        srv(1, 70, 3, "a.test"),
                        srv(0, 0, 4, "a.test"),
                    ],
                ),
                ("a a.test", vec![address("192.0.2.1")]),
            ],
            ..Zone::default()
        };
        let mut seconds = [0_u32; 4];
        for seed in 0..1_000 {
            zone.asked.clear();
            let found = zone.look_up("sip.test", None, &[Udp], seed).unwrap();
            let ports: Vec<u16> = found.targets.iter().map(|(to, _)| to.at.port()).collect();
            assert_eq!((ports.len(), ports[0]), (4, 4), "{ports:?}");
            seconds[usize::from(ports[1])] += 1;
        }
        assert!((1..40).contains(&seconds[1]), "{seconds:?}");
        assert!((240..360).contains(&seconds[2]), "{seconds:?}");
        assert!((630..760).contains(&seconds[3]), "{seconds:?}");
    }

    #[test]
    fn a_zone_without_end_is_cut_short_and_records_of_another_kind_are_nothing() {
        let many = (0..200).map(|n| srv(1, 1, n, "a.test")).collect();
        let addresses = (0..200).map(|n| address(&format!("192.0.2.{n}"))).collect();
        let mut zone = Zone {
            records: vec![
                ("naptr sip.test", vec![address("192.0.2.9")]),
                ("srv _sip._udp.sip.test", many),
                ("a a.test", addresses),
            ],
            ..Zone::default()
        };
        let found = zone.look_up("sip.test", None, &[Udp], 1).unwrap();
        assert_eq!(found.targets.len(), TARGETS_MAX);
        assert!(zone.asked.len() < 40, "{}", zone.asked.len());
    }
}
