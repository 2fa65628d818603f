//! The receive path of one leg: 20 ms of packets in, one frame out, on a clean link and on one with
//! loss and jitter.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use voicebridge::media::codec::{Codec, Encoder, PAYLOAD_BYTES_MAX};
use voicebridge::media::parameters::{MediaParameters, TelephoneEvent};
use voicebridge::media::receive::{Receiver, ReceiverConfig};
use voicebridge::media::rtp::RtpHeader;
use voicebridge::units::{RtpTicks, SeqNo, Ssrc};

/// One second of a buzz, over and over, to one receiver under a pushed clock.
struct Leg {
    receiver: Receiver,
    payloads: Vec<Vec<u8>>,
    header: RtpHeader,
    ticks: u32,
    now: Instant,
    /// In percent and milliseconds.
    loss: u32,
    jitter: u32,
    random: u32,
    /// When each packet under way arrives.
    waiting: Vec<(Instant, Vec<u8>)>,
}

impl Leg {
    #[expect(
        clippy::disallowed_methods,
        reason = "a beginning; from there on the clock is pushed"
    )]
    fn new(codec: Codec, events: bool, loss: u32, jitter: u32) -> Self {
        let payload_type = codec.static_payload_type().unwrap_or(111);
        let parameters = MediaParameters {
            payload_type_send: payload_type,
            payload_type_receive: payload_type,
            telephone_event: events.then_some(TelephoneEvent {
                payload_type: 101,
                clock: codec.rtp_clock(),
            }),
            ..MediaParameters::plain(codec, SocketAddr::from(([127, 0, 0, 1], 4_000)))
        };
        Self {
            receiver: Receiver::new(&parameters, ReceiverConfig::default()).expect("a codec"),
            payloads: buzz(codec),
            header: RtpHeader {
                marker: false,
                payload_type,
                sequence: SeqNo(0),
                timestamp: RtpTicks(0),
                ssrc: Ssrc(1),
            },
            ticks: codec.rtp_clock() / 50,
            now: Instant::now(),
            loss,
            jitter,
            random: 1,
            waiting: Vec::new(),
        }
    }

    /// What the sender and the network do in 20 ms.
    fn send(&mut self) {
        let payload = &self.payloads[usize::from(self.header.sequence.0) % self.payloads.len()];
        let mut bytes = vec![0; RtpHeader::LEN];
        self.header.write(&mut bytes).expect("room");
        bytes.extend_from_slice(payload);
        self.header.sequence.0 = self.header.sequence.0.wrapping_add(1);
        self.header.timestamp.0 = self.header.timestamp.0.wrapping_add(self.ticks);
        if self.draw() % 100 >= self.loss {
            let delay = Duration::from_millis(u64::from(self.draw() % (self.jitter + 1)));
            self.waiting.push((self.now + delay, bytes));
            self.waiting.sort_by_key(|(at, _)| *at);
        }
        self.now += Duration::from_millis(20);
    }

    /// What is measured: all that arrived by now, then a frame.
    fn receive(&mut self) {
        let arrived = self.waiting.partition_point(|(at, _)| *at <= self.now);
        for (at, bytes) in &self.waiting[..arrived] {
            self.receiver.handle_rtp(*at, bytes);
        }
        self.receiver.pull_frame(self.now);
        self.waiting.drain(..arrived);
    }

    const fn draw(&mut self) -> u32 {
        self.random = self
            .random
            .wrapping_mul(1_664_525)
            .wrapping_add(1_013_904_223);
        self.random >> 8
    }
}

/// Pulses at 125 Hz.
fn buzz(codec: Codec) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new(codec).expect("a codec");
    let rate = codec.sample_rate();
    let period = rate.hz() as usize / 125;
    let pcm: Vec<i16> = (0..rate.frame_samples())
        .map(|n| {
            let fade = 1.0 - (n % period) as f32 / period as f32;
            (fade * fade * 6000.0) as i16
        })
        .collect();
    let mut payload = [0; PAYLOAD_BYTES_MAX];
    (0..50)
        .map(|_| {
            let length = encoder.encode(&pcm, &mut payload).expect("a frame");
            payload[..length].to_vec()
        })
        .collect()
}

fn receiving(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("receive");
    group.throughput(Throughput::Elements(1));
    for (name, codec, events) in [
        ("pcmu", Codec::Pcmu, true),
        ("pcmu in-band keys", Codec::Pcmu, false),
        ("g722", Codec::G722, true),
        ("opus", Codec::Opus, true),
    ] {
        for (link, loss, jitter) in [("clean", 0, 0), ("5 % loss, 40 ms jitter", 5, 40)] {
            let mut leg = Leg::new(codec, events, loss, jitter);
            for _ in 0..250 {
                leg.send();
                leg.receive();
            }
            group.bench_function(BenchmarkId::new(name, link), |bencher| {
                bencher.iter_custom(|rounds| {
                    (0..rounds)
                        .map(|_| {
                            leg.send();
                            timed(|| leg.receive())
                        })
                        .sum()
                });
            });
        }
    }
    group.finish();
}

#[expect(clippy::disallowed_methods, reason = "a bench is a shell")]
fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

criterion_group!(benches, receiving);
criterion_main!(benches);
