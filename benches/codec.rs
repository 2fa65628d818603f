//! One 20 ms frame through each codec and each sample rate conversion.
#![allow(
    missing_docs,
    reason = "criterion's macros write undocumented functions"
)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use voicebridge::media::codec::{Codec, Decoder, Encoder, PAYLOAD_BYTES_MAX, Repacketizer};
use voicebridge::media::resample::Resampler;
use voicebridge::units::{FRAME_SAMPLES_MAX, SampleRate};

/// One second of frames: a voice of 150 Hz that swells and fades.
fn voice(rate: SampleRate) -> Vec<Vec<i16>> {
    let sample = |n: usize| {
        let t = n as f64 / f64::from(rate.hz());
        let harmonics = (1..=20).map(|k| (t * 942.0 * f64::from(k)).sin() / f64::from(k));
        (harmonics.sum::<f64>() * 6_000.0 * (t * 10.0).sin()) as i16
    };
    let samples = rate.frame_samples();
    (0..50)
        .map(|frame| {
            (frame * samples..(frame + 1) * samples)
                .map(sample)
                .collect()
        })
        .collect()
}

fn packets(codec: Codec) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new(codec).expect("an encoder");
    let mut payload = [0; PAYLOAD_BYTES_MAX];
    voice(codec.sample_rate())
        .iter()
        .map(|frame| {
            let bytes = encoder.encode(frame, &mut payload).expect("a whole frame");
            payload[..bytes].to_vec()
        })
        .collect()
}

fn codecs(criterion: &mut Criterion) {
    for codec in Codec::ALL {
        let frames = voice(codec.sample_rate());
        let mut encoder = Encoder::new(codec).expect("an encoder");
        let mut payload = [0; PAYLOAD_BYTES_MAX];
        let mut frame = frames.iter().cycle();
        criterion.bench_function(&format!("encode {codec:?}"), |bencher| {
            bencher.iter(|| encoder.encode(black_box(frame.next()?), &mut payload).ok());
        });

        let packets = packets(codec);
        let mut decoder = Decoder::new(codec).expect("a decoder");
        let mut pcm = [0; FRAME_SAMPLES_MAX];
        let mut packet = packets.iter().cycle();
        criterion.bench_function(&format!("decode {codec:?}"), |bencher| {
            bencher.iter(|| decoder.decode(black_box(packet.next()?), &mut pcm).ok());
        });

        let shared = Encoder::new(codec).expect("an encoder");
        criterion.bench_function(&format!("copy state {codec:?}"), |bencher| {
            bencher.iter(|| encoder.copy_state_from(black_box(&shared)));
        });
    }
}

fn opus_extras(criterion: &mut Criterion) {
    let packets = packets(Codec::Opus);
    let mut decoder = Decoder::new(Codec::Opus).expect("a decoder");
    let mut pcm = [0; FRAME_SAMPLES_MAX];
    let mut packet = packets.iter().cycle();
    criterion.bench_function("decode FEC Opus", |bencher| {
        bencher.iter(|| decoder.decode_fec(black_box(packet.next()?), &mut pcm).ok());
    });
    criterion.bench_function("conceal Opus", |bencher| {
        bencher.iter(|| decoder.conceal(&mut pcm).ok());
    });
    let mut repacketizer = Repacketizer::new().expect("a repacketizer");
    let mut long = [0; 3 * PAYLOAD_BYTES_MAX + 8];
    let three: Vec<&[u8]> = packets.iter().skip(10).take(3).map(Vec::as_slice).collect();
    criterion.bench_function("merge 3 Opus", |bencher| {
        bencher.iter(|| repacketizer.merge(black_box(&three), &mut long).ok());
    });
}

fn resamplers(criterion: &mut Criterion) {
    for from in SampleRate::ALL {
        for to in SampleRate::ALL.into_iter().filter(|&to| to != from) {
            let mut resampler = Resampler::new(from, to);
            let input: Vec<f32> = voice(from)[5].iter().map(|&sample| sample.into()).collect();
            let mut output = vec![0.0; to.frame_samples()];
            let name = format!("resample {} to {}", from.hz(), to.hz());
            criterion.bench_function(&name, |bencher| {
                bencher.iter(|| resampler.process(black_box(&input), black_box(&mut output)));
            });
        }
    }
}

criterion_group!(benches, codecs, opus_extras, resamplers);
criterion_main!(benches);
