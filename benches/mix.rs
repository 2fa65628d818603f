//! One bridge's frame without sockets, for 3, 50, 400 and 2,000 legs of which two talk: all G.711, all
//! G.722, all Opus, and a fixed share of each; and what it takes to receive the packets before.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use voicebridge::media::codec::Codec;

mod sound;
mod world;
use sound::Sound;
use world::{Cast, World};

fn frames(criterion: &mut Criterion) {
    let mixed = [
        Codec::Pcmu,
        Codec::Pcma,
        Codec::Pcmu,
        Codec::G722,
        Codec::Opus,
    ];
    for (name, codecs, listeners) in [
        ("g711", &[Codec::Pcmu][..], Sound::Room),
        ("g722", &[Codec::G722], Sound::Room),
        ("opus", &[Codec::Opus], Sound::Room),
        ("opus dtx", &[Codec::Opus], Sound::RoomDtx),
        ("mixed", &mixed, Sound::Room),
    ] {
        for legs in [3, 50, 400, 2_000] {
            let mut world = World::new(&Cast {
                bridges: 1,
                legs,
                codecs,
                talkers: 2,
                listeners,
            });
            for _ in 0..50 {
                world.receive();
                world.mix();
            }
            measure(criterion, name, legs, &mut world);
        }
    }
}

fn measure(criterion: &mut Criterion, name: &str, legs: usize, world: &mut World) {
    for (step, timed_step) in [("receive", 0), ("mix_tick", 1)] {
        let mut group = criterion.benchmark_group(step);
        group.throughput(Throughput::Elements(legs as u64));
        group.bench_function(BenchmarkId::new(name, legs), |bencher| {
            bencher.iter_custom(|rounds| {
                let mut total = Duration::ZERO;
                for _ in 0..rounds {
                    let received = timed(|| world.receive());
                    let mixed = timed(|| {
                        black_box(world.mix());
                    });
                    total += [received, mixed][timed_step];
                }
                total
            });
        });
        group.finish();
    }
}

#[expect(clippy::disallowed_methods, reason = "a bench is a shell")]
fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

criterion_group!(benches, frames);
criterion_main!(benches);
