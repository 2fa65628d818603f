//! Bridges and their legs without sockets: packets in, packets out, under a pushed clock. What the legs'
//! peers send is encoded beforehand, so that nothing but the engine's own work is in the figures.
#![allow(dead_code, reason = "not every bench needs all of it")]

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use voicebridge::media::codec::Codec;
use voicebridge::media::command::{LegKind, LegSlot};
use voicebridge::media::leg::{CodecSet, Leg, LegConfig, LegStart, Tick};
use voicebridge::media::mixer::{Bridge, Desk, Fitting};
use voicebridge::media::parameters::{MediaParameters, TelephoneEvent};
use voicebridge::media::playback::SilenceFrames;
use voicebridge::media::receive::ReceiverConfig;
use voicebridge::media::rtcp::{NtpClock, NtpTime};
use voicebridge::media::rtp::RtpHeader;
use voicebridge::media::sender::{RtpOrigin, Transmit};
use voicebridge::units::{LegId, RtpTicks, SeqNo, Ssrc};

use crate::sound::{Sound, payloads};

/// What a world consists of.
pub(crate) struct Cast<'a> {
    /// How many bridges.
    pub(crate) bridges: usize,
    /// Legs in each.
    pub(crate) legs: usize,
    /// Their codecs, in turn.
    pub(crate) codecs: &'a [Codec],
    /// How many talk in each bridge.
    pub(crate) talkers: usize,
    /// What the others send.
    pub(crate) listeners: Sound,
}

/// Bridges, their legs and the legs' peers.
pub(crate) struct World {
    bridges: Vec<Bridge>,
    desk: Desk,
    legs: Vec<Option<Box<Leg>>>,
    peers: Vec<Peer>,
    loops: Vec<Vec<Option<Vec<u8>>>>,
    silence: SilenceFrames,
    start: Instant,
    frame: u64,
}

struct Peer {
    /// Which of the prepared sounds, and from which frame on.
    sound: usize,
    offset: usize,
    address: SocketAddr,
    clock: u32,
    header: RtpHeader,
    packet: Vec<u8>,
}

struct Nowhere(usize);

impl Transmit for Nowhere {
    fn rtp(&mut self, _: LegSlot, _: SocketAddr, packet: &[u8]) {
        self.0 += black_box(packet).len();
    }
    fn rtcp(&mut self, _: LegSlot, _: SocketAddr, _: bool, _: &[u8]) {}
}

impl World {
    /// All legs in their bridges, nothing heard yet.
    #[expect(
        clippy::disallowed_methods,
        reason = "a beginning; from there on the clock is pushed"
    )]
    pub(crate) fn new(cast: &Cast<'_>) -> Self {
        let mut world = Self {
            bridges: Vec::new(),
            desk: Desk::new(),
            legs: Vec::new(),
            peers: Vec::new(),
            loops: Vec::new(),
            silence: SilenceFrames::new().expect("codecs"),
            start: Instant::now(),
            frame: 0,
        };
        let mut known: Vec<(Codec, Sound)> = Vec::new();
        for _ in 0..cast.bridges {
            let mut bridge = Bridge::new(cast.legs);
            for codec in cast.codecs {
                bridge.fit(Fitting::encoder(*codec).expect("a codec"));
            }
            for seat in 0..cast.legs {
                let codec = cast.codecs[seat % cast.codecs.len()];
                let sound = if seat < cast.talkers {
                    Sound::Voice(seat as u32)
                } else {
                    cast.listeners
                };
                let found = known.iter().position(|k| *k == (codec, sound));
                let sound = found.unwrap_or_else(|| {
                    known.push((codec, sound));
                    world.loops.push(payloads(codec, sound));
                    known.len() - 1
                });
                bridge.join(world.seat(codec, sound));
            }
            world.bridges.push(bridge);
        }
        world
    }

    fn seat(&mut self, codec: Codec, sound: usize) -> LegSlot {
        let index = self.legs.len() as u32;
        let [_, _, high, low] = index.to_be_bytes();
        let address = SocketAddr::from(([127, 0, high, low], 4_000));
        let payload_type = codec.static_payload_type().unwrap_or(96);
        self.legs
            .push(Some(Box::new(leg(index, codec, address, self.start))));
        self.peers.push(Peer {
            sound,
            offset: 37 * index as usize,
            address,
            clock: codec.rtp_clock(),
            header: RtpHeader {
                marker: false,
                payload_type,
                sequence: SeqNo(0),
                timestamp: RtpTicks(0),
                ssrc: Ssrc(9 + index),
            },
            packet: vec![0; RtpHeader::LEN + 400],
        });
        LegSlot(index)
    }

    /// What all peers send in 20 ms arrives.
    #[inline(never)]
    pub(crate) fn receive(&mut self) {
        let now = self.now();
        for (peer, leg) in self.peers.iter_mut().zip(&mut self.legs) {
            let sound = &self.loops[peer.sound];
            let payload = &sound[(peer.offset + self.frame as usize) % sound.len()];
            let length = payload.as_ref().map(|payload| peer.write(payload));
            peer.header.timestamp = peer.header.timestamp.plus(peer.clock / 50);
            if let (Some(leg), Some(length)) = (leg, length) {
                leg.handle_rtp(now, peer.address, &peer.packet[..length]);
            }
        }
    }

    /// Each bridge's frame; how many bytes were sent.
    #[inline(never)]
    pub(crate) fn mix(&mut self) -> usize {
        let tick = Tick {
            now: self.now(),
            number: 4 * self.frame,
            silence: &self.silence,
        };
        let mut sent = Nowhere(0);
        for bridge in &mut self.bridges {
            bridge.mix_tick(&tick, &mut self.legs, &mut self.desk, &mut sent);
        }
        self.frame += 1;
        sent.0
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_millis(20 * self.frame)
    }
}

impl Peer {
    fn write(&mut self, payload: &[u8]) -> usize {
        self.header.write(&mut self.packet).expect("room");
        self.header.sequence = self.header.sequence.next();
        let end = RtpHeader::LEN + payload.len();
        self.packet[RtpHeader::LEN..end].copy_from_slice(payload);
        end
    }
}

fn leg(index: u32, codec: Codec, address: SocketAddr, start: Instant) -> Leg {
    let parameters = MediaParameters {
        telephone_event: Some(TelephoneEvent {
            payload_type: 101,
            clock: codec.rtp_clock(),
        }),
        ..MediaParameters::plain(codec, address)
    };
    let config = LegConfig {
        media_timeout: Duration::from_secs(30),
        hold_timeout: Duration::from_secs(300),
        clock: NtpClock::new(start, NtpTime(0)),
    };
    let origin = RtpOrigin {
        ssrc: Ssrc(index),
        sequence: SeqNo(0),
        timestamp: RtpTicks(0),
    };
    let codecs = Box::new(CodecSet::new(&parameters, ReceiverConfig::default()).expect("codecs"));
    Leg::new(
        LegId(u64::from(index)),
        LegKind::Caller,
        config,
        LegStart {
            parameters,
            origin,
            codecs,
            srtp: None,
        },
        start,
    )
}
