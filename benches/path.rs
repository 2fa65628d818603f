//! A media thread's whole frame with real sockets on the loopback device: receive, source check,
//! decode, mix, encode, send, for 3, 50 and 400 G.711 legs in one bridge, two of them talking.

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use voicebridge::engine::{Control, EngineConfig, MediaThread};
use voicebridge::media::codec::Codec;
use voicebridge::media::parameters::Direction;
use voicebridge::units::BridgeId;

#[path = "../tests/phones/mod.rs"]
mod phones;
use phones::Phone;

struct World {
    control: Control,
    thread: MediaThread,
    phones: Vec<Phone>,
    start: Instant,
    ticks: u32,
}

impl World {
    #[expect(
        clippy::disallowed_methods,
        reason = "a beginning; from there on the clock is pushed"
    )]
    fn new(legs: usize) -> Self {
        let config = EngineConfig {
            address: "127.0.0.1".parse().expect("an address"),
            ports: 24_000..=25_999,
            legs_max: legs,
            ..EngineConfig::default()
        };
        let start = Instant::now();
        let (mut control, mut threads) = Control::new(config, start).expect("an engine");
        let phones = (0..legs).map(|index| {
            let opened = control.open_leg().expect("a leg");
            let phone = Phone::new(opened.leg, Codec::Pcmu, opened.rtp, index < 2);
            control
                .connect_leg(opened.leg, &phone.parameters(Direction::SendRecv))
                .expect("a codec");
            control.join(opened.leg, BridgeId(1), false);
            phone
        });
        let phones = phones.collect();
        let thread = threads.remove(0);
        Self {
            control,
            thread,
            phones,
            start,
            ticks: 0,
        }
    }

    /// One frame: the phones speak, four ticks are run and timed.
    fn frame(&mut self) -> Duration {
        self.phones.iter_mut().for_each(Phone::speak);
        let mut total = Duration::ZERO;
        for _ in 0..4 {
            let now = self.start + Duration::from_millis(5) * self.ticks;
            total += timed(|| self.thread.tick(now));
            self.ticks += 1;
        }
        self.control.pump();
        while self.control.poll_event().is_some() {}
        self.phones.iter().for_each(|phone| {
            phone.listen();
        });
        total
    }
}

fn whole_frame(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("path");
    for legs in [3, 50, 400] {
        let mut world = World::new(legs);
        for _ in 0..50 {
            world.frame();
        }
        group.throughput(Throughput::Elements(legs as u64));
        group.bench_function(BenchmarkId::new("g711", legs), |bencher| {
            bencher.iter_custom(|rounds| (0..rounds).map(|_| world.frame()).sum());
        });
    }
    group.finish();
}

#[expect(clippy::disallowed_methods, reason = "a bench is a shell")]
fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

criterion_group!(benches, whole_frame);
criterion_main!(benches);
