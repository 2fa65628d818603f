//! One bridge's tick without sockets: packets in, packets out, for 3, 50 and 400 legs of which
//! two talk; a fixed share of G.711, G.722 and Opus, and all of one codec.

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use voicebridge::media::codec::{Codec, Encoder};
use voicebridge::media::command::{LegKind, LegSlot};
use voicebridge::media::leg::{CodecSet, Leg, LegConfig, LegStart, Tick};
use voicebridge::media::mixer::Bridge;
use voicebridge::media::parameters::{Direction, MediaParameters};
use voicebridge::media::playback::SilenceFrames;
use voicebridge::media::receive::ReceiverConfig;
use voicebridge::media::rtcp::{NtpClock, NtpTime};
use voicebridge::media::sender::{RtpOrigin, Transmit};
use voicebridge::units::{LegId, Ptime, RtpTicks, SeqNo, Ssrc};

struct Nowhere(usize);

impl Transmit for Nowhere {
    fn rtp(&mut self, _: LegSlot, _: SocketAddr, packet: &[u8]) {
        self.0 += black_box(packet).len();
    }
    fn rtcp(&mut self, _: LegSlot, _: SocketAddr, _: bool, _: &[u8]) {}
}

struct World {
    bridge: Bridge,
    legs: Vec<Option<Box<Leg>>>,
    peers: Vec<(Codec, Encoder, SocketAddr)>,
    silence: SilenceFrames,
    start: Instant,
    frame: u64,
}

impl World {
    #[expect(
        clippy::disallowed_methods,
        reason = "a beginning; from there on the clock is pushed"
    )]
    fn new(codecs: impl Iterator<Item = Codec>) -> Self {
        let codecs: Vec<_> = codecs.collect();
        let start = Instant::now();
        let mut bridge = Bridge::new(codecs.len()).expect("codecs");
        let mut legs = Vec::new();
        let mut peers = Vec::new();
        for (index, codec) in (0_u32..).zip(codecs) {
            let address = SocketAddr::from(([127, 0, 0, 1], 2_000 + 2 * index as u16));
            legs.push(Some(Box::new(leg(index, codec, address, start))));
            peers.push((codec, Encoder::new(codec).expect("codec"), address));
            bridge.join(LegSlot(index));
        }
        Self {
            bridge,
            legs,
            peers,
            silence: SilenceFrames::new().expect("codecs"),
            start,
            frame: 0,
        }
    }

    /// Every peer sends 20 ms; the first two talk.
    fn speak(&mut self) {
        let now = self.now();
        for (index, ((codec, encoder, address), leg)) in
            self.peers.iter_mut().zip(&mut self.legs).enumerate()
        {
            let rate = codec.sample_rate();
            let amplitude = if index < 2 { 6_000.0 } else { 0.0 };
            let sample = |i: usize| {
                let t = self.frame as f64 / 50.0 + i as f64 / f64::from(rate.hz());
                (amplitude * (t * (400.0 + 300.0 * index as f64) * std::f64::consts::TAU).sin())
                    as i16
            };
            let pcm: Vec<i16> = (0..rate.frame_samples()).map(sample).collect();
            let mut packet = vec![0x80, codec.static_payload_type().unwrap_or(96)];
            packet.extend((self.frame as u16).to_be_bytes());
            packet.extend((self.frame as u32 * codec.rtp_clock() / 50).to_be_bytes());
            packet.extend([0, 0, 0, 9]);
            let mut payload = [0; 400];
            let length = encoder.encode(&pcm, &mut payload).expect("a frame");
            packet.extend(&payload[..length]);
            if let Some(leg) = leg {
                leg.handle_rtp(now, *address, &packet);
            }
        }
    }

    fn mix(&mut self) -> usize {
        let tick = Tick {
            now: self.now(),
            number: 4 * self.frame,
            silence: &self.silence,
        };
        let mut sent = Nowhere(0);
        self.bridge.mix_tick(&tick, &mut self.legs, &mut sent);
        self.frame += 1;
        sent.0
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_millis(20 * self.frame)
    }
}

fn leg(index: u32, codec: Codec, address: SocketAddr, start: Instant) -> Leg {
    let payload_type = codec.static_payload_type().unwrap_or(96);
    let parameters = MediaParameters {
        codec,
        payload_type_send: payload_type,
        payload_type_receive: payload_type,
        telephone_event: None,
        comfort_noise: None,
        ptime: Ptime::DEFAULT,
        direction: Direction::SendRecv,
        remote_rtp: address,
        remote_rtcp: SocketAddr::new(address.ip(), address.port() + 1),
        signalling_source: None,
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
        },
        start,
    )
}

fn mix_tick(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mix_tick");
    let mixed = [
        Codec::Pcmu,
        Codec::Pcma,
        Codec::Pcmu,
        Codec::G722,
        Codec::Opus,
    ];
    for (name, codecs) in [
        ("g711", &[Codec::Pcmu][..]),
        ("g722", &[Codec::G722]),
        ("opus", &[Codec::Opus]),
        ("mixed", &mixed),
    ] {
        for legs in [3, 50, 400] {
            let mut world = World::new(codecs.iter().copied().cycle().take(legs));
            for _ in 0..50 {
                world.speak();
                world.mix();
            }
            group.throughput(Throughput::Elements(legs as u64));
            group.bench_function(BenchmarkId::new(name, legs), |bencher| {
                bencher.iter_custom(|rounds| {
                    let mut total = Duration::ZERO;
                    for _ in 0..rounds {
                        world.speak();
                        total += timed(|| world.mix());
                    }
                    total
                });
            });
        }
    }
    group.finish();
}

#[expect(clippy::disallowed_methods, reason = "a bench is a shell")]
fn timed(work: impl FnOnce() -> usize) -> Duration {
    let start = Instant::now();
    black_box(work());
    start.elapsed()
}

criterion_group!(benches, mix_tick);
criterion_main!(benches);
