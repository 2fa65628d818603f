//! What the gateway needs to know of the configuration.

use std::net::IpAddr;
use std::time::Duration;

use crate::booking::NumberPlan;
use crate::call::CallLimits;
use crate::config::{Config, Network, PerFamily};
use crate::engine::KnownPeer;
use crate::media::parameters::{Keying, MediaParameters};
use crate::signalling::transport::local_address;
use crate::sip::connection;
use crate::units::{Brand, Language, Voice};

/// The gateway's part of the configuration.
#[derive(Debug, Clone)]
pub struct GatewaySettings {
    pub(super) call_limits: CallLimits,
    pub(super) calls_max: usize,
    pub(super) calls_per_source_max: usize,
    pub(super) trusted: Vec<Network>,
    /// Where trunks are, as far as that is configured.
    pub(super) trunk_peers: Vec<Network>,
    pub(super) session_timer: Option<Duration>,
    pub(super) media_address: PerFamily<Option<IpAddr>>,
    /// Audio is received by IPv6 too.
    pub(super) has_ipv6: bool,
    pub(super) media_shared: Vec<Network>,
}

/// A dialled number as the gateway knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dialled {
    /// As configured, else as dialled.
    pub(super) number: String,
    /// What it greets in, where that is configured.
    pub(super) language: Option<Language>,
    /// With whose recordings.
    pub(super) brand: Option<Brand>,
    /// It is answered.
    pub(super) served: bool,
}

impl Dialled {
    /// How it greets: in what is `asked` for, in its own language, in what is `spoken` there.
    pub(super) fn voice(&self, asked: Option<Language>, spoken: Option<Language>) -> Voice {
        let language = asked.or(self.language).or(spoken);
        Voice {
            language: language.unwrap_or(Language::English),
            brand: self.brand.clone(),
        }
    }

    /// Finds a dialled user part among the numbers.
    pub(super) fn find(numbers: &NumberPlan, dialled: &str) -> Self {
        match numbers.find(dialled) {
            Some(number) => Self {
                number: number.number.clone(),
                language: number.language,
                brand: number.organisation.as_deref().map(Brand::of),
                served: true,
            },
            None => Self {
                number: dialled.to_owned(),
                language: None,
                brand: None,
                served: numbers.is_empty(),
            },
        }
    }
}

impl GatewaySettings {
    /// From the configuration; `call_limits` bounds every call.
    #[must_use]
    pub fn new(config: &Config, call_limits: CallLimits) -> Self {
        let trunk_peers = config.sip.trunks.iter().flat_map(|trunk| &trunk.peers);
        Self {
            call_limits,
            calls_max: config.limits.calls,
            calls_per_source_max: config.limits.calls_per_source,
            trusted: config.sip.trusted.clone(),
            trunk_peers: trunk_peers.copied().collect(),
            session_timer: config.sip.session_timer,
            media_address: config.media.address,
            has_ipv6: config.has_ipv6(),
            media_shared: config.media.shared.clone(),
        }
    }

    /// The networks of those for whom the configuration speaks.
    pub(super) fn known(&self) -> Vec<Network> {
        [&self.trusted[..], &self.trunk_peers].concat()
    }

    /// Is the address in a trusted network?
    pub(super) fn is_trusted(&self, source: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(source))
    }

    /// Is signalling from there a peer's that sends audio from what it announces?
    pub(super) fn may_share(&self, source: IpAddr) -> bool {
        self.media_shared
            .iter()
            .any(|network| network.contains(source))
    }

    /// Where a peer at this address sends audio to: as configured, else the address of ours that it is reached
    /// from. `None`: it can't.
    pub(super) fn own_address(&self, peer: IpAddr) -> Option<IpAddr> {
        let spoken = self.has_ipv6 || peer.to_canonical().is_ipv4();
        let configured = *self.media_address.of(peer);
        configured
            .or_else(|| local_address(peer).ok())
            .filter(|_| spoken)
    }

    /// The same of the family that `address` isn't of, where the offer names an address of that one.
    pub(super) fn other_address(&self, address: IpAddr, offer: &[u8]) -> Option<IpAddr> {
        let announced = connection::announced(offer).into_iter();
        let mut others = announced.filter(|peer| peer.is_ipv4() != address.is_ipv4());
        others
            .find(|peer| !peer.is_unspecified())
            .and_then(|peer| self.own_address(peer))
    }

    /// The peer's address, where it is known beforehand: signalling and audio both come from networks
    /// whose peers send from what they announce.
    pub(super) fn known_peer(
        &self,
        source: IpAddr,
        parameters: &MediaParameters,
    ) -> Option<KnownPeer> {
        if parameters.keying != Keying::Signalled {
            return None;
        }
        let peer = KnownPeer::of(parameters)?;
        [source, peer.rtp.ip(), peer.rtcp.ip()]
            .into_iter()
            .all(|ip| self.may_share(ip))
            .then_some(peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::codec::Codec;
    use crate::media::parameters::Direction;
    use crate::sip::sdp::{self, LocalMedia};

    #[test]
    fn a_peer_is_known_only_where_signalling_and_audio_both_come_from_shared_networks() {
        let mut config = Config::default();
        config.media.shared = vec!["192.0.2.0/24".parse().unwrap()];
        let settings = GatewaySettings::new(&config, CallLimits::default());
        let offer = |rtp: &str, rtcp: &str| {
            let sdp = format!(
                "v=0\r\no=- 1 1 IN IP4 192.0.2.7\r\ns=-\r\nc=IN IP4 {rtp}\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\na=rtcp:4009 IN IP4 {rtcp}\r\n"
            );
            let local = LocalMedia {
                address: "192.0.2.1".parse().unwrap(),
                other: None,
                by_other: false,
                rtp_port: 0,
                codecs: vec![Codec::Pcmu],
                session_id: 0,
                session_version: 0,
                direction: Direction::SendRecv,
                prefer_own_order: false,
                keys: None,
                handshake: None,
            };
            sdp::answer(sdp.as_bytes(), &local).unwrap().0
        };
        let known = |source: &str, rtp: &str, rtcp: &str| {
            settings.known_peer(source.parse().unwrap(), &offer(rtp, rtcp))
        };
        let peer = known("192.0.2.9", "192.0.2.7", "192.0.2.8").unwrap();
        assert_eq!(
            peer.rtp,
            "192.0.2.7:4000".parse::<std::net::SocketAddr>().unwrap()
        );
        assert_eq!(
            peer.rtcp,
            "192.0.2.8:4009".parse::<std::net::SocketAddr>().unwrap()
        );
        assert_eq!(known("198.51.100.7", "192.0.2.7", "192.0.2.7"), None);
        assert_eq!(known("192.0.2.9", "198.51.100.7", "192.0.2.7"), None);
        assert_eq!(known("192.0.2.9", "192.0.2.7", "198.51.100.7"), None);
        assert_eq!(known("192.0.2.9", "0.0.0.0", "192.0.2.7"), None);
    }

    #[test]
    fn other_numbers_are_served_only_where_there_is_none() {
        let (some, none) = (
            NumberPlan::in_italian(&["+3906"]),
            NumberPlan::in_italian(&[]),
        );
        let found = Dialled::find(&some, "003906");
        assert_eq!((found.number.as_str(), found.served), ("+3906", true));
        assert_eq!(found.language, Some(Language::Italian));
        assert!(!Dialled::find(&some, "7001").served);
        let spoken = [Some(Language::English), Some(Language::Italian)];
        let voices = [
            found.voice(None, spoken[0]),
            found.voice(spoken[0], None),
            Dialled::find(&some, "7001").voice(None, spoken[1]),
            Dialled::find(&some, "7001").voice(None, None),
        ];
        let [italian, english] = [Language::Italian, Language::English];
        assert_eq!(
            voices.map(|voice| voice.language),
            [italian, english, italian, english]
        );
        let mut theirs = some.find("+3906").unwrap().clone();
        theirs.organisation = Some("demo".to_owned());
        let theirs = Dialled::find(&NumberPlan::new(vec![theirs]), "+3906");
        assert_eq!(theirs.voice(None, None).brand, Some(Brand::of("demo")));
        assert_eq!(found.voice(None, None).brand, None);
        let any = Dialled::find(&none, "whatever");
        assert_eq!((any.number.as_str(), any.served), ("whatever", true));
    }
}
