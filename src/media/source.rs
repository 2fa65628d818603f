//! The source lock: whose packets are this leg's. Plain RTP carries no proof of origin, so the
//! address is all there is, and it is learnt once, narrowly, and then held:
//!
//! - the address in the peer's SDP locks at once;
//! - another one (a phone behind a NAT) locks only after a run of packets that look like this
//!   leg's stream and keep its pace while the SDP address is silent, and only from an IP that can be
//!   the peer's; one that nothing speaks for but that must wait longest;
//! - for 3 s after such a lock a better-founded address still takes over;
//! - afterwards silence, hold and even the right SSRC move nothing: only signalling does.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::media::parameters::MediaParameters;
use crate::media::prefetch::prefetch;
use crate::media::rtp::RtpPacket;
use crate::units::{SeqNo, Ssrc};

/// Decides per packet whether it is the peer's.
#[derive(Debug)]
pub struct SourceLock {
    peer: Peer,
    state: State,
    candidates: [Option<Candidate>; CANDIDATES],
}

/// What to do with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceVerdict {
    /// The peer's: use it.
    Own,
    /// Perhaps the peer's: don't use it yet.
    Learning,
    /// The peer's, and the lock has just (re)settled on its address: use it.
    Locked,
    /// Somebody else's: count and drop it, never answer it.
    Foreign,
}

impl SourceLock {
    /// Nothing is locked yet.
    #[must_use]
    pub fn new(parameters: &MediaParameters) -> Self {
        Self {
            peer: Peer::new(parameters),
            state: State::Waiting,
            candidates: [None; CANDIDATES],
        }
    }

    /// Judges one datagram from the RTP socket.
    pub fn check(&mut self, now: Instant, from: SocketAddr, packet: &[u8]) -> SourceVerdict {
        let from = canonical(from);
        let least = match &mut self.state {
            State::Locked {
                source, last_heard, ..
            } if *source == from => {
                *last_heard = now;
                return SourceVerdict::Own;
            }
            State::Waiting => Some(Rank::Anywhere),
            State::Locked { .. } => self.replaceable_from(now),
        };
        let rank = self
            .peer
            .rank(from)
            .filter(|rank| least.is_some_and(|least| *rank >= least));
        match rank {
            None => SourceVerdict::Foreign,
            Some(Rank::Described) => self.lock(now, from, Rank::Described),
            Some(rank @ (Rank::Anywhere | Rank::SameHost)) => self.learn(now, from, rank, packet),
        }
    }

    /// Signalling described the peer anew (first answer after early media, re-INVITE, UPDATE).
    ///
    /// A new address is locked like the first one. An unchanged one keeps its lock, but for 3 s
    /// another port of the same host may take over from a source that fell silent: that is how a
    /// phone behind a NAT that lost its mapping comes back.
    pub fn expect(&mut self, parameters: &MediaParameters) {
        let described = self.peer.described;
        self.peer = Peer::new(parameters);
        self.candidates = [None; CANDIDATES];
        if self.peer.described.ip().is_unspecified() {
            // Hold in the style of RFC 2543 says nothing about where the peer is.
            self.peer.described = described;
        }
        if self.peer.described == described {
            if let State::Locked { reopened, .. } = &mut self.state {
                *reopened = Reopened::Asked;
            }
        } else {
            self.state = State::Waiting;
        }
    }

    /// A packet from there proved by its key that it is the peer's: wherever a phone goes on from, behind
    /// whatever NAT, it is answered there.
    pub fn trust(&mut self, now: Instant, from: SocketAddr) {
        let from = canonical(from);
        match &mut self.state {
            State::Locked {
                source, last_heard, ..
            } if *source == from => *last_heard = now,
            State::Locked { .. } | State::Waiting => {
                let _locked = self.lock(now, from, Rank::Described);
            }
        }
    }

    /// Judges a datagram from the RTCP socket: only the locked host's is used.
    #[must_use]
    pub fn check_rtcp(&self, from: SocketAddr) -> bool {
        matches!(self.state, State::Locked { source, .. } if source.ip() == canonical(from).ip())
    }

    /// Where to send RTP: the locked source, before that the address from SDP.
    #[must_use]
    pub const fn destination(&self) -> SocketAddr {
        match self.state {
            State::Locked { source, .. } => source,
            State::Waiting => self.peer.described,
        }
    }

    /// Does signalling, or an earlier lock, speak for that address?
    #[must_use]
    pub fn is_told_of(&self, from: SocketAddr) -> bool {
        let from = canonical(from);
        let rank = self.peer.rank(from);
        from == self.destination() || rank.is_some_and(|rank| rank >= Rank::SameHost)
    }

    /// Before a packet is judged, or sent.
    pub(super) fn prefetch(&self) {
        prefetch(&self.state);
    }

    /// Is a source locked?
    #[must_use]
    pub const fn is_locked(&self) -> bool {
        matches!(self.state, State::Locked { .. })
    }

    /// The lowest rank that may take over from the locked source now; `None`: nothing may.
    fn replaceable_from(&mut self, now: Instant) -> Option<Rank> {
        let State::Locked {
            since,
            rank,
            last_heard,
            reopened,
            ..
        } = &mut self.state
        else {
            return None;
        };
        let silent = now.saturating_duration_since(*last_heard) >= SILENT_AFTER;
        if reopened.is_open(now) && silent {
            return Some(Rank::SameHost);
        }
        if now.saturating_duration_since(*since) < TAKEOVER {
            rank.next()
        } else {
            None
        }
    }

    fn learn(
        &mut self,
        now: Instant,
        from: SocketAddr,
        rank: Rank,
        packet: &[u8],
    ) -> SourceVerdict {
        let Ok(parsed) = RtpPacket::parse(packet) else {
            return SourceVerdict::Foreign;
        };
        let header = parsed.header;
        if !self.peer.payload_types.contains(&Some(header.payload_type)) {
            return SourceVerdict::Foreign;
        }
        let Some(candidate) = self.candidate(now, from, rank) else {
            return SourceVerdict::Foreign;
        };
        candidate.take(now, header.ssrc, header.sequence);
        if candidate.is_convincing(now) {
            return self.lock(now, from, rank);
        }
        SourceVerdict::Learning
    }

    /// The candidate for `from`, else a free place, else the oldest of no higher rank.
    fn candidate(&mut self, now: Instant, from: SocketAddr, rank: Rank) -> Option<&mut Candidate> {
        let known = self
            .candidates
            .iter()
            .position(|c| c.is_some_and(|c| c.from == from));
        let place = known
            .or_else(|| self.candidates.iter().position(Option::is_none))
            .or_else(|| {
                let weaker = self
                    .candidates
                    .iter()
                    .enumerate()
                    .filter(|(_, c)| c.is_some_and(|c| c.rank <= rank));
                weaker
                    .min_by_key(|(_, c)| c.map(|c| c.last))
                    .map(|(place, _)| place)
            })?;
        let slot = self.candidates.get_mut(place)?;
        if known.is_none() {
            *slot = Some(Candidate {
                from,
                rank,
                first: now,
                last: now,
                run: None,
            });
        }
        slot.as_mut()
    }

    fn lock(&mut self, now: Instant, source: SocketAddr, rank: Rank) -> SourceVerdict {
        self.candidates = [None; CANDIDATES];
        self.state = State::Locked {
            source,
            since: now,
            rank,
            last_heard: now,
            reopened: Reopened::No,
        };
        SourceVerdict::Locked
    }
}

#[derive(Debug, Clone, Copy)]
enum State {
    Waiting,
    Locked {
        source: SocketAddr,
        since: Instant,
        rank: Rank,
        last_heard: Instant,
        /// Has signalling confirmed an unchanged address?
        reopened: Reopened,
    },
}

#[derive(Debug, Clone, Copy)]
enum Reopened {
    No,
    /// Since the last packet; the time counts from the next one.
    Asked,
    At(Instant),
}

impl Reopened {
    fn is_open(&mut self, now: Instant) -> bool {
        if matches!(self, Self::Asked) {
            *self = Self::At(now);
        }
        matches!(self, Self::At(at) if now.saturating_duration_since(*at) < TAKEOVER)
    }
}

/// How well-founded an address is, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Anybody, where the SDP has an address that can't be reached: the NAT's is not known.
    Anywhere,
    /// The IP of the SDP or of the signalling, another port.
    SameHost,
    /// The very address in the SDP.
    Described,
}

impl Rank {
    const fn next(self) -> Option<Self> {
        match self {
            Self::Anywhere => Some(Self::SameHost),
            Self::SameHost => Some(Self::Described),
            Self::Described => None,
        }
    }
}

/// What signalling says about the peer.
#[derive(Debug, Clone, Copy)]
struct Peer {
    described: SocketAddr,
    signalling: Option<IpAddr>,
    payload_types: [Option<u8>; 3],
}

impl Peer {
    fn new(parameters: &MediaParameters) -> Self {
        Self {
            described: canonical(parameters.remote_rtp),
            signalling: parameters.signalling_source.map(|ip| ip.to_canonical()),
            payload_types: [
                Some(parameters.payload_type_receive),
                parameters.telephone_event.map(|event| event.payload_type),
                parameters.comfort_noise,
            ],
        }
    }

    fn rank(&self, from: SocketAddr) -> Option<Rank> {
        let described = self.described.ip();
        if from == self.described {
            Some(Rank::Described)
        } else if from.ip() == described || Some(from.ip()) == self.signalling {
            Some(Rank::SameHost)
        } else if is_unreachable(described) && self.signalling != Some(described) {
            // Signalling from the private address itself would mean that no NAT is in between.
            Some(Rank::Anywhere)
        } else {
            None
        }
    }
}

/// An address that may turn out to be the peer's.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    from: SocketAddr,
    rank: Rank,
    first: Instant,
    last: Instant,
    run: Option<Run>,
}

#[derive(Debug, Clone, Copy)]
struct Run {
    ssrc: Ssrc,
    sequence: SeqNo,
    packets: u32,
}

impl Candidate {
    fn take(&mut self, now: Instant, ssrc: Ssrc, sequence: SeqNo) {
        let pause = now.saturating_duration_since(self.last);
        self.last = now;
        let goes_on = |run: &Run| {
            run.ssrc == ssrc && rises(run.sequence, sequence) && pause <= PAUSE_WITHIN_RUN
        };
        let packets = match self.run.filter(goes_on) {
            Some(run) => run.packets.saturating_add(1),
            None => {
                self.first = now;
                1
            }
        };
        self.run = Some(Run {
            ssrc,
            sequence,
            packets,
        });
    }

    /// A run that keeps the pace of a real stream: a spray over one port is faster, one over all ports
    /// slower. Who nothing but that speaks for must keep it up until the peer himself, whose address
    /// is known from signalling, has had the time to speak.
    fn is_convincing(&self, now: Instant) -> bool {
        let lasted = now.saturating_duration_since(self.first);
        let enough = match self.rank {
            Rank::Anywhere => ANYWHERE_AFTER,
            Rank::SameHost | Rank::Described => PACE_MIN,
        };
        let most = lasted.as_millis() / PACKET_LEAST.as_millis() + u128::from(PACKETS_TO_LEARN);
        self.run.is_some_and(|run| {
            run.packets >= PACKETS_TO_LEARN && u128::from(run.packets) <= most && lasted >= enough
        })
    }
}

fn rises(from: SeqNo, to: SeqNo) -> bool {
    (1..=SEQUENCE_STEP_MAX).contains(&to.0.wrapping_sub(from.0))
}

/// IPv4 on an IPv6 socket is IPv4.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Addresses that mean nothing outside their own network. Loopback is an ordinary one.
fn is_unreachable(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            let shared = a == 100 && (64..128).contains(&b); // RFC 6598
            ip.is_private() || ip.is_link_local() || ip.is_unspecified() || shared
        }
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_unspecified(),
    }
}

/// Addresses that are watched at once.
const CANDIDATES: usize = 4;
/// Packets in a row before an address other than the SDP's is believed.
const PACKETS_TO_LEARN: u32 = 4;
/// Losses within a run that are forgiven.
const SEQUENCE_STEP_MAX: u16 = 16;
/// Four packets of 10 ms take at least this long.
const PACE_MIN: Duration = Duration::from_millis(30);
/// No stream has more packets than one in this time; the shortest packet time is 10 ms.
const PACKET_LEAST: Duration = Duration::from_millis(5);
/// Keys come every 50 ms at most, and some are lost.
const PAUSE_WITHIN_RUN: Duration = Duration::from_millis(250);
/// A phone that was answered has sent four packets of 60 ms by then.
const ANYWHERE_AFTER: Duration = Duration::from_millis(400);
/// How long a better-founded address may still take over.
const TAKEOVER: Duration = Duration::from_secs(3);
/// A stream that pauses this long is silent.
const SILENT_AFTER: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::codec::Codec;
    use crate::media::parameters::TelephoneEvent;
    use crate::media::rtp::RtpHeader;
    use crate::media::seeded;
    use crate::units::RtpTicks;

    const SDP: &str = "198.51.100.7:4000";
    const STRANGER: &str = "203.0.113.66:4000";

    fn parameters(remote: &str, signalling: Option<&str>) -> MediaParameters {
        MediaParameters {
            telephone_event: Some(TelephoneEvent {
                payload_type: 101,
                clock: 8000,
            }),
            remote_rtcp: remote.parse().unwrap(),
            signalling_source: signalling.map(|ip| ip.parse().unwrap()),
            ..MediaParameters::plain(Codec::Pcmu, remote.parse().unwrap())
        }
    }

    fn packet(ssrc: u32, sequence: u16, payload_type: u8) -> [u8; 13] {
        let mut bytes = [0x55; 13];
        let header = RtpHeader {
            marker: false,
            payload_type,
            sequence: SeqNo(sequence),
            timestamp: RtpTicks(u32::from(sequence) * 160),
            ssrc: Ssrc(ssrc),
        };
        header.write(&mut bytes).unwrap();
        bytes
    }

    /// A lock, a clock, and streams that keep their sequence numbers.
    struct Scene {
        lock: SourceLock,
        now: Instant,
        sequence: u16,
    }

    impl Scene {
        fn new(parameters: &MediaParameters) -> Self {
            Self {
                lock: SourceLock::new(parameters),
                now: seeded::start(),
                sequence: 65_530,
            }
        }

        fn stream(&mut self, from: &str, ssrc: u32, count: usize) -> Vec<SourceVerdict> {
            let from = from.parse().unwrap();
            (0..count)
                .map(|_| {
                    self.now += Duration::from_millis(20);
                    self.sequence = self.sequence.wrapping_add(1);
                    self.lock
                        .check(self.now, from, &packet(ssrc, self.sequence, 0))
                })
                .collect()
        }

        fn wait(&mut self, ms: u64) {
            self.now += Duration::from_millis(ms);
        }
    }

    use SourceVerdict::{Foreign, Learning, Locked, Own};

    #[test]
    fn who_proves_by_key_to_be_the_peer_is_answered_wherever_he_is() {
        let mut scene = Scene::new(&parameters(SDP, None));
        scene.stream(SDP, 1, 3);
        scene.wait(60_000);
        scene.lock.trust(scene.now, STRANGER.parse().unwrap());
        assert_eq!(
            scene.lock.destination(),
            STRANGER.parse::<SocketAddr>().unwrap()
        );
        assert_eq!(scene.stream(STRANGER, 1, 1), [Own]);
    }

    #[test]
    fn the_sdp_address_locks_at_once_and_its_destination_is_known_before() {
        let mut scene = Scene::new(&parameters(SDP, None));
        assert_eq!(scene.lock.destination(), SDP.parse::<SocketAddr>().unwrap());
        assert_eq!(scene.stream(SDP, 1, 3), [Locked, Own, Own]);
        assert!(scene.lock.is_locked());
    }

    #[test]
    fn a_stranger_who_sprays_before_the_peer_speaks_is_never_locked() {
        let mut scene = Scene::new(&parameters(SDP, Some("198.51.100.9")));
        assert_eq!(scene.stream(STRANGER, 1, 50), vec![Foreign; 50]);
        assert_eq!(scene.lock.destination(), SDP.parse::<SocketAddr>().unwrap());
        assert_eq!(scene.stream(SDP, 1, 1), [Locked]);
    }

    #[test]
    fn a_stranger_who_sprays_after_the_lock_with_the_right_ssrc_changes_nothing() {
        let mut scene = Scene::new(&parameters(SDP, None));
        scene.stream(SDP, 77, 10);
        assert_eq!(scene.stream(STRANGER, 77, 50), vec![Foreign; 50]);
        assert_eq!(scene.stream("198.51.100.7:4002", 77, 50), vec![Foreign; 50]);
        assert_eq!(scene.stream(SDP, 77, 1), [Own]);
    }

    #[test]
    fn silence_then_a_stranger_moves_nothing() {
        let mut scene = Scene::new(&parameters("192.168.1.5:4000", Some("198.51.100.7")));
        scene.stream("198.51.100.7:31000", 1, 4);
        scene.wait(30_000);
        assert_eq!(scene.stream(STRANGER, 1, 50), vec![Foreign; 50]);
        assert_eq!(scene.stream("198.51.100.7:31002", 1, 50), vec![Foreign; 50]);
        assert_eq!(scene.stream("198.51.100.7:31000", 1, 1), [Own]);
    }

    #[test]
    fn a_phone_behind_a_nat_is_learnt_after_four_packets_in_a_row() {
        let mut scene = Scene::new(&parameters("192.168.1.5:4000", Some("198.51.100.7")));
        assert_eq!(
            scene.stream("198.51.100.7:31000", 1, 5),
            [Learning, Learning, Learning, Locked, Own]
        );
        assert_eq!(
            scene.lock.destination(),
            "198.51.100.7:31000".parse::<SocketAddr>().unwrap()
        );
    }

    #[test]
    fn another_port_of_the_sdp_host_is_learnt() {
        let mut scene = Scene::new(&parameters(SDP, None));
        assert_eq!(
            scene.stream("198.51.100.7:4010", 1, 4),
            [Learning, Learning, Learning, Locked]
        );
    }

    #[test]
    fn the_sdp_address_takes_over_within_three_seconds_and_not_later() {
        for (wait, expected) in [(2_500, Locked), (3_500, Foreign)] {
            let mut scene = Scene::new(&parameters(SDP, None));
            scene.stream("198.51.100.7:4010", 1, 4);
            scene.wait(wait);
            assert_eq!(scene.stream(SDP, 2, 1), [expected]);
        }
    }

    #[test]
    fn packets_that_do_not_look_like_the_stream_teach_nothing() {
        let mut scene = Scene::new(&parameters(SDP, None));
        let from = "198.51.100.7:4010".parse().unwrap();
        for n in 0..40_u16 {
            // Another SSRC each, falling sequence numbers, foreign payload type, not RTP at all.
            assert_ne!(
                scene
                    .lock
                    .check(scene.now, from, &packet(u32::from(n), n, 0)),
                Locked
            );
            assert_ne!(
                scene.lock.check(scene.now, from, &packet(9, 1000 - n, 0)),
                Locked
            );
            assert_eq!(
                scene.lock.check(scene.now, from, &packet(9, n, 96)),
                Foreign
            );
            assert_eq!(scene.lock.check(scene.now, from, &[0x80]), Foreign);
        }
        assert!(!scene.lock.is_locked());
    }

    #[test]
    fn keys_pressed_before_any_audio_teach_too() {
        let mut scene = Scene::new(&parameters(SDP, None));
        let from = "198.51.100.7:4010".parse().unwrap();
        let verdicts: Vec<_> = (0..4)
            .map(|n| {
                scene.wait(50);
                scene.lock.check(scene.now, from, &packet(1, n, 101))
            })
            .collect();
        assert_eq!(verdicts, [Learning, Learning, Learning, Locked]);
    }

    #[test]
    fn sprays_from_many_addresses_do_not_keep_the_phone_out() {
        let mut scene = Scene::new(&parameters("10.0.0.5:4000", Some("198.51.100.7")));
        let phone = "198.51.100.7:31000".parse().unwrap();
        let mut last = Foreign;
        for n in 0..4_u16 {
            for stranger in 0..40_u16 {
                let from = SocketAddr::new("203.0.113.1".parse().unwrap(), 1000 + stranger);
                assert_ne!(scene.lock.check(scene.now, from, &packet(5, n, 0)), Locked);
            }
            last = scene.lock.check(scene.now, phone, &packet(1, n, 0));
            scene.wait(10);
        }
        assert_eq!(last, Locked);
    }

    #[test]
    fn an_unknown_nat_address_must_keep_the_pace_of_a_stream_and_yields_to_the_signalling_host() {
        let private = parameters("10.0.0.5:4000", Some("198.51.100.7"));
        let mut scene = Scene::new(&private);
        assert_eq!(scene.stream(STRANGER, 1, 20), vec![Learning; 20]);
        assert_eq!(scene.stream(STRANGER, 1, 1), [Locked]);
        assert_eq!(
            scene.stream("198.51.100.7:31000", 2, 4),
            [Learning, Learning, Learning, Locked]
        );
        assert_eq!(scene.stream(STRANGER, 1, 4), vec![Foreign; 4]);
    }

    /// From `from`, one packet each so many microseconds for five seconds.
    fn spray(scene: &mut Scene, from: &str, micros: u64) -> Vec<SourceVerdict> {
        let from = from.parse().unwrap();
        (0..5_000_000 / micros)
            .map(|n| {
                scene.now += Duration::from_micros(micros);
                scene.lock.check(scene.now, from, &packet(5, n as u16, 0))
            })
            .collect()
    }

    #[test]
    fn sprays_faster_or_slower_than_any_stream_are_never_locked() {
        for (sdp, from) in [
            ("10.0.0.5:4000", STRANGER),
            (SDP, "198.51.100.7:4010"),
            ("10.0.0.5:4000", "198.51.100.7:4010"),
        ] {
            // 10,000 a second at one port; 3 a second, which is 30,000 over all ports.
            for micros in [100, 333_333] {
                let mut scene = Scene::new(&parameters(sdp, Some("198.51.100.7")));
                let verdicts = spray(&mut scene, from, micros);
                assert!(verdicts.iter().all(|verdict| *verdict == Learning));
                assert!(!scene.lock.is_locked(), "{sdp} {from} {micros}");
            }
        }
    }

    #[test]
    fn a_phone_in_our_own_private_network_admits_no_strangers() {
        let mut scene = Scene::new(&parameters("10.0.0.5:4000", Some("10.0.0.5")));
        assert_eq!(scene.stream(STRANGER, 1, 50), vec![Foreign; 50]);
    }

    #[test]
    fn loopback_is_an_ordinary_address() {
        let mut scene = Scene::new(&parameters("127.0.0.1:4000", None));
        assert_eq!(scene.stream("127.0.0.2:4000", 1, 10), vec![Foreign; 10]);
        assert_eq!(scene.stream("[::ffff:127.0.0.1]:4000", 1, 1), [Locked]);
    }

    #[test]
    fn a_re_invite_moves_the_lock_and_the_old_address_is_a_stranger_then() {
        let mut scene = Scene::new(&parameters(SDP, None));
        scene.stream(SDP, 1, 10);
        scene.lock.expect(&parameters("198.51.100.200:5000", None));
        assert_eq!(
            scene.lock.destination(),
            "198.51.100.200:5000".parse::<SocketAddr>().unwrap()
        );
        assert_eq!(scene.stream(SDP, 1, 5), vec![Foreign; 5]);
        assert_eq!(scene.stream("198.51.100.200:5000", 2, 2), [Locked, Own]);
    }

    #[test]
    fn hold_by_re_invite_keeps_the_lock_and_opens_no_door_to_strangers() {
        let mut scene = Scene::new(&parameters("192.168.1.5:4000", Some("198.51.100.7")));
        scene.stream("198.51.100.7:31000", 1, 10);
        for remote in ["192.168.1.5:4000", "0.0.0.0:4000"] {
            scene.lock.expect(&parameters(remote, Some("198.51.100.7")));
            scene.wait(500);
            assert_eq!(scene.stream(STRANGER, 1, 20), vec![Foreign; 20]);
            assert_eq!(scene.stream("198.51.100.7:31000", 1, 1), [Own]);
        }
    }

    #[test]
    fn after_a_re_invite_a_lost_nat_mapping_is_learnt_anew_from_the_same_host() {
        let nat = parameters("192.168.1.5:4000", Some("198.51.100.7"));
        let mut scene = Scene::new(&nat);
        scene.stream("198.51.100.7:31000", 1, 10);
        scene.wait(5_000);
        scene.lock.expect(&nat);
        assert_eq!(
            scene.stream("198.51.100.7:40000", 1, 4),
            [Learning, Learning, Learning, Locked]
        );
    }

    #[test]
    fn rtcp_counts_only_from_the_locked_host() {
        let mut scene = Scene::new(&parameters(SDP, None));
        assert!(!scene.lock.check_rtcp("198.51.100.7:4001".parse().unwrap()));
        scene.stream(SDP, 1, 1);
        assert!(scene.lock.check_rtcp("198.51.100.7:4001".parse().unwrap()));
        assert!(!scene.lock.check_rtcp(STRANGER.parse().unwrap()));
    }
}
