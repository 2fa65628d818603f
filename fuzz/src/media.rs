//! The way of a packet into a leg: source, encryption, RTP and RTCP, jitter buffer, key events, decoder.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use voicebridge::media::codec::Codec;
use voicebridge::media::command::{LegKind, LegSlot};
use voicebridge::media::leg::{CodecSet, Leg, LegConfig, LegStart, Tick};
use voicebridge::media::parameters::{MediaParameters, TelephoneEvent};
use voicebridge::media::playback::SilenceFrames;
use voicebridge::media::receive::ReceiverConfig;
use voicebridge::media::rtcp::{NtpClock, NtpTime};
use voicebridge::media::sender::{PacketBuffer, RtpOrigin, Transmit};
use voicebridge::media::srtp::{Kind, MasterKey, Srtp, SrtpKeys, Suite};
use voicebridge::units::{LegId, RtpTicks, SeqNo, Ssrc};

use super::start;

/// The first byte chooses the codec. Then, each: what is done, how long what follows is, and that.
pub fn rtp_packets(data: &[u8]) {
    let (codec, rest) = data.split_first().unwrap_or((&0, &[]));
    let mut phone = Phone::new(CODECS[usize::from(*codec) % CODECS.len()], None);
    run(&mut phone, rest);
}

/// The same with encryption. What it is to take is protected by the peer before it is sent, unless it is
/// sent as it is.
pub fn srtp_packets(data: &[u8]) {
    let (suite, rest) = data.split_first().unwrap_or((&0, &[]));
    let suite = [
        Suite::AesCm128HmacSha1Tag80,
        Suite::AesCm128HmacSha1Tag32,
        Suite::AesCm256HmacSha1Tag80,
    ][usize::from(*suite) % 3];
    run(&mut Phone::new(Codec::Pcmu, Some(suite)), rest);
}

fn run(phone: &mut Phone, mut rest: &[u8]) {
    for _ in 0..512 {
        let [what, length, more @ ..] = rest else {
            return;
        };
        let (packet, after) = more
            .split_at_checked(usize::from(*length))
            .unwrap_or((more, &[]));
        rest = after;
        match what % 8 {
            0 => phone.rtp(packet),
            1 => phone.rtcp(packet),
            2 => phone.frames(usize::from(*length)),
            3 => phone.foreign(packet),
            4 => phone.protected(Kind::Rtp, packet),
            5 => phone.protected(Kind::Rtcp, packet),
            6 => phone.audio(packet),
            _ => phone.frames(1),
        }
    }
}

/// One leg and its peer.
pub struct Phone {
    leg: Leg,
    peer: Option<Srtp>,
    now: Instant,
    frame: u64,
    silence: SilenceFrames,
    buffer: PacketBuffer,
    sequence: u16,
    codec: Codec,
}

struct Nowhere;

impl Transmit for Nowhere {
    fn rtp(&mut self, _: LegSlot, _: SocketAddr, packet: &[u8]) {
        assert!(packet.len() >= 12, "RTP without a header");
    }
    fn rtcp(&mut self, _: LegSlot, _: SocketAddr, _: bool, packet: &[u8]) {
        assert!(packet.len() >= 8, "RTCP without a header");
    }
}

impl Phone {
    #[must_use]
    pub fn new(codec: Codec, suite: Option<Suite>) -> Self {
        let key = |fill: u8| {
            let suite = suite?;
            [30, 46]
                .into_iter()
                .find_map(|length| MasterKey::new(suite, &vec![fill; length]))
        };
        let keys = |ours, theirs| {
            let (ours, theirs) = (key(ours)?, key(theirs)?);
            Some(SrtpKeys { ours, theirs })
        };
        let now = start();
        let parameters = MediaParameters {
            telephone_event: Some(TelephoneEvent {
                payload_type: 101,
                clock: codec.rtp_clock(),
            }),
            comfort_noise: Some(13),
            audio_level: Some(1),
            uses_fec: codec == Codec::Opus,
            srtp: keys(1, 2),
            ..MediaParameters::plain(codec, PEER)
        };
        let config = LegConfig {
            media_timeout: Duration::from_secs(30),
            hold_timeout: Duration::from_secs(300),
            clock: NtpClock::new(now, NtpTime(1 << 40)),
        };
        let codecs = CodecSet::new(&parameters, ReceiverConfig::default());
        let leg_start = LegStart {
            parameters,
            origin: RtpOrigin {
                ssrc: Ssrc(9),
                sequence: SeqNo(65_530),
                timestamp: RtpTicks(4_294_967_000),
            },
            codecs: Box::new(codecs.expect("codecs of ours")),
            srtp: parameters.srtp.map(|keys| Box::new(Srtp::new(&keys))),
        };
        Self {
            leg: Leg::new(LegId(1), LegKind::Caller, config, leg_start, now),
            peer: keys(2, 1).map(|keys| Srtp::new(&keys)),
            now,
            frame: 0,
            silence: SilenceFrames::new().expect("codecs of ours"),
            buffer: PacketBuffer::default(),
            sequence: 0,
            codec,
        }
    }

    pub fn rtp(&mut self, packet: &[u8]) {
        self.leg.handle_rtp(self.now, PEER, packet);
    }

    pub fn rtcp(&mut self, packet: &[u8]) {
        self.leg.handle_rtcp(self.now, PEER_RTCP, packet);
    }

    pub fn foreign(&mut self, packet: &[u8]) {
        self.leg.handle_rtp(self.now, STRANGER, packet);
        self.leg.handle_rtcp(self.now, STRANGER, packet);
    }

    pub fn protected(&mut self, kind: Kind, packet: &[u8]) {
        let Self { leg, peer, now, .. } = self;
        let mut arrive = |packet: &[u8]| match kind {
            Kind::Rtp => leg.handle_rtp(*now, PEER, packet),
            Kind::Rtcp => leg.handle_rtcp(*now, PEER_RTCP, packet),
        };
        match peer {
            Some(peer) => peer.protect(kind, packet, arrive),
            None => arrive(packet),
        }
    }

    /// The next packet in order, with this payload.
    pub fn audio(&mut self, payload: &[u8]) {
        let mut packet = vec![0x80, self.codec.static_payload_type().unwrap_or(96)];
        packet.extend(self.sequence.to_be_bytes());
        let ticks = u32::from(self.sequence) * self.codec.rtp_clock() / 50;
        packet.extend(ticks.to_be_bytes());
        packet.extend([0, 0, 0, 7]);
        packet.extend(payload);
        self.sequence = self.sequence.wrapping_add(1);
        self.protected(Kind::Rtp, &packet);
    }

    /// So many times 20 ms go by.
    pub fn frames(&mut self, count: usize) {
        for _ in 0..count {
            self.frame += 1;
            self.now += Duration::from_millis(20);
            let tick = Tick {
                now: self.now,
                number: self.frame * 4,
                silence: &self.silence,
            };
            self.leg
                .lone_tick(&tick, LegSlot(0), &mut self.buffer, &mut Nowhere);
            while self.leg.poll_event().is_some() {}
        }
    }
}

const CODECS: [Codec; 4] = [Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::Opus];
const PEER: SocketAddr = at([192, 0, 2, 7], 4_000);
const PEER_RTCP: SocketAddr = at([192, 0, 2, 7], 4_001);
const STRANGER: SocketAddr = at([203, 0, 113, 9], 4_000);

const fn at(ip: [u8; 4], port: u16) -> SocketAddr {
    let [a, b, c, d] = ip;
    SocketAddr::new(
        std::net::IpAddr::V4(std::net::Ipv4Addr::new(a, b, c, d)),
        port,
    )
}
