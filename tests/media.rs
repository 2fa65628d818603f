//! The receive path from end to end: a sender, a lossy, jittery link drawn from a seed, two clocks
//! that disagree, and a receiver that is pulled every 20 ms. No socket, and no clock but a pushed one.

#![expect(clippy::unwrap_used, reason = "a test")]
#![expect(clippy::print_stdout, reason = "figures, for `--nocapture`")]

mod links;
mod seeded;

use std::f64::consts::TAU;
use std::time::Duration;

use voicebridge::media::codec::{Codec, Decoder, Encoder, PAYLOAD_BYTES_MAX};
use voicebridge::media::dtmf::sender::KeySender;
use voicebridge::media::parameters::{MediaParameters, TelephoneEvent};
use voicebridge::media::receive::{
    FrameKind, PacketVerdict, ReceiveStatistics, Receiver, ReceiverConfig,
};
use voicebridge::media::rtcp::RtcpReceived;
use voicebridge::media::rtp::RtpHeader;
use voicebridge::media::source::SourceLock;
use voicebridge::units::{Key, RtpTicks, SeqNo, Ssrc};

use seeded::{Random, start};

const EVENTS: u8 = 101;

fn parameters(codec: Codec) -> MediaParameters {
    let payload_type = codec.static_payload_type().unwrap_or(111);
    MediaParameters {
        payload_type_send: payload_type,
        payload_type_receive: payload_type,
        telephone_event: Some(TelephoneEvent {
            payload_type: EVENTS,
            clock: codec.rtp_clock(),
        }),
        ..MediaParameters::plain(codec, "198.51.100.7:4000".parse().unwrap())
    }
}

/// One packet: when it was sent by the sender's clock, in ms, and what it is.
#[derive(Clone)]
struct Sent {
    at: f64,
    bytes: Vec<u8>,
}

fn packet(header: RtpHeader, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; RtpHeader::LEN];
    header.write(&mut bytes).unwrap();
    bytes.extend_from_slice(payload);
    bytes
}

/// A sender's running header; sequence and timestamp begin just before their wraps.
struct Sender {
    header: RtpHeader,
    clock: u32,
}

impl Sender {
    fn new(codec: Codec) -> Self {
        Self {
            header: RtpHeader {
                marker: false,
                payload_type: codec.static_payload_type().unwrap_or(111),
                sequence: SeqNo(65_300),
                timestamp: RtpTicks(0xFFFF_0000),
                ssrc: Ssrc(0x1234_5678),
            },
            clock: codec.rtp_clock(),
        }
    }

    /// A packet of `ms`, sent when its last sample was spoken.
    fn audio(&mut self, at: f64, ms: f64, payload: &[u8]) -> Sent {
        let bytes = packet(self.header, payload);
        self.count(1);
        self.pass(ms);
        Sent { at: at + ms, bytes }
    }

    fn count(&mut self, packets: u16) {
        self.header.sequence.0 = self.header.sequence.0.wrapping_add(packets);
    }

    fn pass(&mut self, ms: f64) {
        let ticks = (ms * f64::from(self.clock) / 1000.0).round() as u32;
        self.header.timestamp.0 = self.header.timestamp.0.wrapping_add(ticks);
    }
}

/// Encodes what `sample(n)` gives in frames of 20 ms; one payload each.
fn encode(codec: Codec, frames: usize, mut sample: impl FnMut(usize) -> f64) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new(codec).unwrap();
    let samples = codec.sample_rate().frame_samples();
    let mut payload = [0; PAYLOAD_BYTES_MAX];
    (0..frames)
        .map(|frame| {
            let pcm: Vec<i16> = (0..samples)
                .map(|n| sample(frame * samples + n).clamp(-32768.0, 32767.0) as i16)
                .collect();
            let length = encoder.encode(&pcm, &mut payload).unwrap();
            payload[..length].to_vec()
        })
        .collect()
}

/// Packets of 20 ms.
fn packets(codec: Codec, payloads: &[Vec<u8>]) -> Vec<Sent> {
    let mut sender = Sender::new(codec);
    payloads
        .iter()
        .enumerate()
        .map(|(n, payload)| sender.audio(n as f64 * 20.0, 20.0, payload))
        .collect()
}

/// What the network does.
#[derive(Debug, Clone, Copy)]
struct Link {
    seed: u64,
    loss: f64,
    /// Delay is uniform from 50 ms to so much more.
    jitter_ms: f64,
    /// By how much the sender's clock is faster.
    skew_ppm: f64,
}

impl Link {
    const CLEAN: Self = Self {
        seed: 1,
        loss: 0.0,
        jitter_ms: 0.0,
        skew_ppm: 0.0,
    };

    /// Arrivals by our clock, in ms, in order.
    fn carry(&self, sent: &[Sent]) -> Vec<(f64, Vec<u8>)> {
        let mut random = Random::new(self.seed);
        let mut arrivals: Vec<_> = sent
            .iter()
            .filter_map(|packet| {
                let (lost, delay) = (random.unit() < self.loss, random.unit() * self.jitter_ms);
                let at = self.ours(packet.at) + delay;
                (!lost).then(|| (at, packet.bytes.clone()))
            })
            .collect();
        arrivals.sort_by(|a, b| a.0.total_cmp(&b.0));
        arrivals
    }

    /// When the fastest packet sent at `at` arrives.
    fn ours(&self, at: f64) -> f64 {
        at / (1.0 + self.skew_ppm / 1e6) + DELAY_MS
    }
}

/// The way there, and a phase to the pulls that is no round number.
const DELAY_MS: f64 = 57.3;

/// All that came out.
struct Heard {
    pcm: Vec<i16>,
    kinds: Vec<FrameKind>,
    active: Vec<bool>,
    keys: Vec<(f64, Key)>,
    verdicts: Vec<PacketVerdict>,
    statistics: ReceiveStatistics,
    /// After each pull.
    corrections: Vec<u64>,
    buffer_ms: Vec<f32>,
}

/// Lets a receiver hear `arrivals`, pulled every 20 ms.
fn hear(parameters: &MediaParameters, arrivals: &[(f64, Vec<u8>)]) -> Heard {
    let mut receiver = Receiver::new(parameters, ReceiverConfig::default()).unwrap();
    let begin = start();
    let mut heard = Heard {
        pcm: Vec::new(),
        kinds: Vec::new(),
        active: Vec::new(),
        keys: Vec::new(),
        verdicts: Vec::new(),
        statistics: ReceiveStatistics::default(),
        corrections: Vec::new(),
        buffer_ms: Vec::new(),
    };
    let mut waiting = arrivals.iter().peekable();
    let end = arrivals.last().map_or(0.0, |last| last.0);
    for pull in 0..(end / 20.0) as u32 + 2 {
        let now = f64::from(pull) * 20.0;
        while let Some((at, bytes)) = waiting.next_if(|(at, _)| *at <= now) {
            let at = begin + Duration::from_secs_f64(at / 1000.0);
            heard.verdicts.push(receiver.handle_rtp(at, bytes));
        }
        let kind = receiver.pull_frame(begin + Duration::from_secs_f64(now / 1000.0));
        heard.kinds.push(kind);
        heard.pcm.extend_from_slice(receiver.pcm());
        heard.active.push(receiver.voice().active);
        while let Some(press) = receiver.poll_key() {
            heard.keys.push((now, press.key));
        }
        let statistics = receiver.statistics();
        heard.corrections.push(statistics.corrections);
        heard.buffer_ms.push(statistics.buffer_ms);
        heard.statistics = statistics;
    }
    heard
}

/// Power of `hz` in `pcm`: a sine gives the square of its RMS.
fn goertzel(pcm: &[i16], hz: f64, rate: f64) -> f64 {
    let turn = 2.0 * (TAU * hz / rate).cos();
    let (mut one, mut two) = (0.0, 0.0);
    for sample in pcm {
        (one, two) = (f64::from(*sample) + turn * one - two, one);
    }
    let length = pcm.len() as f64;
    (one * one + two * two - turn * one * two) * 2.0 / (length * length)
}

fn power(pcm: &[i16]) -> f64 {
    pcm.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / pcm.len().max(1) as f64
}

fn decibels(power: f64) -> f64 {
    10.0 * (power.max(1e-9) / (32768.0 * 32768.0)).log10()
}

/// Of a sine whose RMS is `dbfs`.
fn amplitude(dbfs: f64) -> f64 {
    32768.0 * 10.0_f64.powf(dbfs / 20.0) * 2.0_f64.sqrt()
}

fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values
        .get((values.len() * percent / 100).min(values.len().saturating_sub(1)))
        .copied()
        .unwrap_or(f64::NAN)
}

const TONE_HZ: f64 = 400.0;
const TONE_DBFS: f64 = -20.0;

fn tone(codec: Codec, frames: usize) -> Vec<Vec<u8>> {
    let rate = f64::from(codec.sample_rate().hz());
    encode(codec, frames, |n| {
        (n as f64 * TONE_HZ / rate * TAU).sin() * amplitude(TONE_DBFS)
    })
}

/// Every second begins with 300 ms of silence, the rest is a tone.
fn bursts(codec: Codec, seconds: usize) -> Vec<Vec<u8>> {
    let rate = codec.sample_rate().hz() as usize;
    encode(codec, seconds * 50, |n| {
        if n % rate < rate * 3 / 10 {
            0.0
        } else {
            (n as f64 * TONE_HZ / rate as f64 * TAU).sin() * amplitude(TONE_DBFS)
        }
    })
}

/// How much later than the fastest way each burst begins to be heard, in ms; the ear's own clock.
fn burst_delays(codec: Codec, link: &Link, pcm: &[i16], seconds: usize) -> Vec<f64> {
    (0..seconds)
        .filter_map(|second| {
            // A packet is sent when its last sample was spoken, and heard from its first one on.
            let ideal = link.ours(second as f64 * 1000.0 + 320.0);
            burst_delay(codec, pcm, ideal)
        })
        .collect()
}

/// How much later than at `ideal` a burst begins to be heard, both in ms; `None`: within 400 ms it doesn't.
fn burst_delay(codec: Codec, pcm: &[i16], ideal: f64) -> Option<f64> {
    let per_ms = codec.sample_rate().hz() as usize / 1000;
    let at = |ms: f64| ((ms.max(0.0) * per_ms as f64) as usize).min(pcm.len());
    let from = at(ideal - 100.0);
    let found = pcm[from..at(ideal + 400.0)]
        .iter()
        .position(|x| f64::from(*x).abs() > amplitude(TONE_DBFS) / 3.0)?;
    Some((from + found) as f64 / per_ms as f64 - ideal)
}

#[test]
fn on_a_clean_network_every_sample_is_the_sent_one_and_hardly_delayed() {
    for phase in [0.0, 0.5, 7.0, 13.1, 19.9] {
        let mut random = Random::new(2);
        let payloads: Vec<Vec<u8>> = (0..3000)
            .map(|_| (0..160).map(|_| random.next() as u8).collect())
            .collect();
        let mut plain = Decoder::new(Codec::Pcmu).unwrap();
        let mut sent = vec![0; 160 * payloads.len()];
        for (payload, pcm) in payloads.iter().zip(sent.chunks_mut(160)) {
            plain.decode(payload, pcm).unwrap();
        }
        let arrivals: Vec<_> = packets(Codec::Pcmu, &payloads)
            .into_iter()
            .map(|packet| (packet.at + phase, packet.bytes))
            .collect();
        let heard = hear(&parameters(Codec::Pcmu), &arrivals);
        let first = heard
            .kinds
            .iter()
            .position(|kind| *kind == FrameKind::Voice)
            .unwrap();
        let waited = first as f64 * 20.0 - (20.0 + phase);
        assert!((0.0..20.0).contains(&waited), "{phase}: {waited} ms");
        assert_eq!(heard.pcm[first * 160..][..sent.len()], sent, "{phase}");
        assert_eq!(heard.statistics.corrections, 0);
    }
}

/// What a link did to a tone, and to the moment at which bursts are heard.
struct Figures {
    late_percent: f64,
    concealed_percent: f64,
    silent_frames: usize,
    tone_db: f64,
    rest_db: f64,
    frequency: f64,
    steepest: i32,
    delay_p50: f64,
    delay_p95: f64,
    correction_most: u64,
    fec: u64,
}

const SECONDS: usize = 60;

fn measure(codec: Codec, link: Link, tones: &[Vec<u8>], talk: &[Vec<u8>]) -> Figures {
    let rate = f64::from(codec.sample_rate().hz());
    let frame = codec.sample_rate().frame_samples();
    let heard = hear(&parameters(codec), &link.carry(&packets(codec, tones)));
    // The first two seconds are for getting to know the network.
    let frames = 100..tones.len() - 10;
    let pcm = &heard.pcm[frames.start * frame..frames.end * frame];
    let level = |hz: f64| {
        pcm.chunks(frame)
            .map(|pcm| goertzel(pcm, hz, rate))
            .sum::<f64>()
            / frames.len() as f64
    };
    let whole = level(TONE_HZ);
    let frequency = [-20.0, -10.0, 0.0, 10.0, 20.0]
        .map(|off| TONE_HZ + off)
        .into_iter()
        .max_by(|a, b| level(*a).total_cmp(&level(*b)))
        .unwrap_or(0.0);
    let steepest = pcm
        .windows(2)
        .map(|pair| (i32::from(pair[1]) - i32::from(pair[0])).abs())
        .max()
        .unwrap_or(0);
    let spoken = hear(&parameters(codec), &link.carry(&packets(codec, talk)));
    let mut delays = burst_delays(codec, &link, &spoken.pcm, SECONDS);
    delays.drain(..2);
    Figures {
        late_percent: 100.0 * heard.statistics.late as f64 / tones.len() as f64,
        concealed_percent: 100.0 * heard.statistics.concealed_frames as f64 / tones.len() as f64,
        silent_frames: heard.kinds[frames.clone()]
            .iter()
            .filter(|kind| **kind == FrameKind::Silence)
            .count(),
        tone_db: decibels(whole) - TONE_DBFS,
        rest_db: decibels(power(pcm) - whole) - TONE_DBFS,
        frequency,
        steepest,
        delay_p50: percentile(&mut delays, 50),
        delay_p95: percentile(&mut delays, 95),
        correction_most: heard
            .corrections
            .windows(2)
            .map(|pair| pair[1] - pair[0])
            .max()
            .unwrap_or(0),
        fec: heard.statistics.fec_frames,
    }
}

/// Every loss with every jitter and skew.
fn measure_all(codec: Codec, mut judge: impl FnMut(&Link, &Figures)) {
    let (tones, talk) = (tone(codec, SECONDS * 50), bursts(codec, SECONDS));
    for loss in [0.0, 0.01, 0.05, 0.1, 0.2] {
        for jitter_ms in [0.0, 20.0, 40.0] {
            for skew_ppm in [-2000.0, 0.0, 2000.0] {
                let link = Link {
                    seed: 5,
                    loss,
                    jitter_ms,
                    skew_ppm,
                };
                let f = measure(codec, link, &tones, &talk);
                println!(
                    "{codec:?} loss {:>2.0} % jitter {jitter_ms:>2} ms skew {skew_ppm:>5} ppm: \
                     late {:.2} % concealed {:>4.1} % fec {:>3} silent {} tone {:>4.1} dB \
                     rest {:>5.1} dB at {} Hz step {} delay p50 {:.1} p95 {:.1} ms",
                    loss * 100.0,
                    f.late_percent,
                    f.concealed_percent,
                    f.fec,
                    f.silent_frames,
                    f.tone_db,
                    f.rest_db,
                    f.frequency,
                    f.steepest,
                    f.delay_p50,
                    f.delay_p95
                );
                judge(&link, &f);
            }
        }
    }
}

fn is_tolerable(link: &Link, f: &Figures, extra_ms: f64) {
    assert!(f.late_percent <= 0.3, "late");
    assert!((f.frequency - TONE_HZ).abs() < 1.0, "frequency");
    assert!(f.correction_most <= 1, "one correction a frame");
    // Two packets in a row lost are faded, five are silence.
    let fades = [(0.01, -0.3), (0.05, -1.0), (0.1, -1.7), (1.0, -3.5)];
    let least = fades
        .iter()
        .find(|(loss, _)| link.loss <= *loss)
        .map_or(-9.0, |(_, db)| *db);
    assert!((least..=0.3).contains(&f.tone_db), "level");
    // The pulls' grid costs up to 20 ms, a burst whose first packet is lost begins 20 ms later.
    assert!(f.delay_p50 <= link.jitter_ms + 30.0 + extra_ms, "delay p50");
    let lost_ms = if link.loss > 0.1 { 40.0 } else { 0.0 };
    assert!(
        f.delay_p95 <= link.jitter_ms + 66.0 + lost_ms + extra_ms,
        "delay p95"
    );
}

#[test]
fn pcmu_over_any_link_stays_level_in_tune_and_in_time() {
    measure_all(Codec::Pcmu, |link, figures| {
        is_tolerable(link, figures, 0.0)
    });
}

#[test]
fn opus_over_any_link_stays_level_in_tune_and_in_time() {
    measure_all(Codec::Opus, |link, figures| {
        // libopus looks ahead by 6.5 ms; the copy of a lost packet comes with the next one.
        let copy_ms = if link.loss > 0.0 { 20.0 } else { 0.0 };
        is_tolerable(link, figures, 6.5 + copy_ms);
    });
}

#[test]
fn a_sender_whose_clock_is_off_is_followed_for_minutes_within_10_ms() {
    for codec in [Codec::Pcmu, Codec::Opus] {
        let (talk, tones) = (bursts(codec, 300), tone(codec, 6000));
        for skew_ppm in [-2000.0, -200.0, 200.0, 2000.0] {
            for jitter_ms in [0.0, 40.0] {
                let link = Link {
                    jitter_ms,
                    skew_ppm,
                    ..Link::CLEAN
                };
                let heard = hear(&parameters(codec), &link.carry(&packets(codec, &talk)));
                let delays = burst_delays(codec, &link, &heard.pcm, 300);
                // As the pulls' grid slides over the arrivals, up to 20 ms come and go.
                let mut early = delays[10..70].to_vec();
                let mut late = delays[240..].to_vec();
                let growth = percentile(&mut late, 50) - percentile(&mut early, 50);
                let most = percentile(&mut late, 100);
                println!(
                    "{codec:?} {skew_ppm} ppm, jitter {jitter_ms} ms: growth {growth:.1} ms, \
                     most {most:.1} ms, {} corrections, {} concealed, {} late",
                    heard.statistics.corrections,
                    heard.statistics.concealed_frames,
                    heard.statistics.late
                );
                assert!(growth.abs() <= 10.0);
                assert!(heard.statistics.concealed_frames <= 1);
                assert!(most <= jitter_ms + 45.0);
                // A voice that never pauses is cut into after all.
                let heard = hear(&parameters(codec), &link.carry(&packets(codec, &tones)));
                let buffered = heard.buffer_ms[1000..].iter().copied().fold(0.0, f32::max);
                println!("    without pauses: at most {buffered:.1} ms");
                assert!(f64::from(buffered) <= jitter_ms + 40.0);
            }
        }
    }
}

#[test]
fn any_packet_time_is_heard_sample_by_sample() {
    for codec in [Codec::Pcmu, Codec::Pcma] {
        let mut random = Random::new(3);
        let codes: Vec<u8> = (0..8000 * 12).map(|_| random.next() as u8).collect();
        let mut sent = vec![0; codes.len()];
        let mut plain = Decoder::new(codec).unwrap();
        for (codes, pcm) in codes.chunks(160).zip(sent.chunks_mut(160)) {
            plain.decode(codes, pcm).unwrap();
        }
        for ptime in [10, 20, 30, 40, 60] {
            let mut sender = Sender::new(codec);
            let stream: Vec<Sent> = codes
                .chunks(ptime * 8)
                .enumerate()
                .map(|(n, codes)| sender.audio((n * ptime) as f64, ptime as f64, codes))
                .collect();
            let heard = hear(&parameters(codec), &Link::CLEAN.carry(&stream));
            // Whatever was done at the beginning, the second half is flawless.
            let tail = &heard.pcm[heard.pcm.len() / 2..heard.pcm.len() - 2000];
            let at = sent
                .windows(80)
                .position(|window| window == &tail[..80])
                .unwrap_or_else(|| panic!("{codec:?}, {ptime} ms: not found"));
            assert!(sent[at..].starts_with(tail), "{codec:?}, {ptime} ms");
            let delay =
                (heard.pcm.len() / 2) as f64 / 8.0 - at as f64 / 8.0 - DELAY_MS - ptime as f64;
            println!("{codec:?}, {ptime} ms: {delay:.1} ms after arrival");
            assert!(delay <= 45.0, "{codec:?}, {ptime} ms: {delay}");
        }
    }
}

#[test]
fn any_packet_time_survives_loss_and_jitter() {
    for codec in [Codec::Pcmu, Codec::G722] {
        let rate = f64::from(codec.sample_rate().hz());
        let codes: Vec<u8> = tone(codec, 3000).concat();
        for ptime in [10, 20, 30, 40, 60] {
            let mut sender = Sender::new(codec);
            let stream: Vec<Sent> = codes
                .chunks(ptime * 8)
                .enumerate()
                .map(|(n, codes)| sender.audio((n * ptime) as f64, ptime as f64, codes))
                .collect();
            let link = Link {
                loss: 0.05,
                jitter_ms: 30.0,
                ..Link::CLEAN
            };
            let heard = hear(&parameters(codec), &link.carry(&stream));
            let frame = codec.sample_rate().frame_samples();
            let tail = &heard.pcm[100 * frame..2900 * frame];
            let level = tail
                .chunks(frame)
                .map(|pcm| goertzel(pcm, TONE_HZ, rate))
                .sum::<f64>()
                / 2800.0;
            let level = decibels(level) - TONE_DBFS;
            let late = 100.0 * heard.statistics.late as f64 / stream.len() as f64;
            println!("{codec:?}, {ptime} ms: {level:.1} dB, late {late:.2} %");
            assert!((-2.0..=0.3).contains(&level), "{codec:?}, {ptime} ms");
            assert!(late <= 0.3, "{codec:?}, {ptime} ms");
        }
    }
}

/// Two seconds of random codes, something happens to the header, two seconds more.
fn disturbed(disturb: impl Fn(&mut Sender)) -> (Vec<i16>, Heard) {
    let mut random = Random::new(7);
    let mut sender = Sender::new(Codec::Pcmu);
    let mut plain = Decoder::new(Codec::Pcmu).unwrap();
    let (mut sent, mut stream) = (vec![0; 160 * 200], Vec::new());
    for (n, pcm) in sent.chunks_mut(160).enumerate() {
        if n == 100 {
            disturb(&mut sender);
        }
        let payload: Vec<u8> = (0..160).map(|_| random.next() as u8).collect();
        plain.decode(&payload, pcm).unwrap();
        stream.push(sender.audio(n as f64 * 20.0, 20.0, &payload));
    }
    let heard = hear(&parameters(Codec::Pcmu), &Link::CLEAN.carry(&stream));
    (sent, heard)
}

/// Within 200 ms of the change all is heard again, in order, no later than before.
fn recovers(sent: &[i16], heard: &Heard, what: &str) {
    let changed = 2000.0 + DELAY_MS + 20.0;
    let from = ((changed + 200.0) / 20.0).ceil() as usize * 160;
    let tail = &heard.pcm[from..heard.pcm.len() - 640];
    let at = sent
        .windows(80)
        .position(|window| window == &tail[..80])
        .unwrap_or_else(|| panic!("{what}: nothing is heard after 200 ms"));
    assert!(sent[at..].starts_with(tail), "{what}: in order");
    let delay = (from - at) as f64 / 8.0 - DELAY_MS - 20.0;
    assert!((0.0..=40.0).contains(&delay), "{what}: {delay} ms");
    assert_eq!(heard.statistics.overflowed, 0, "{what}");
}

#[test]
fn another_ssrc_sequence_or_timestamp_is_heard_within_200_ms_without_a_burst() {
    let jump = |ticks: u32| {
        move |sender: &mut Sender| {
            sender.header.timestamp.0 = sender.header.timestamp.0.wrapping_add(ticks);
        }
    };
    for (what, (sent, heard)) in [
        ("nothing", disturbed(|_| {})),
        (
            "another SSRC",
            disturbed(|sender| sender.header.ssrc.0 ^= 0xFFFF),
        ),
        (
            "another SSRC with all its own numbers",
            disturbed(|sender| {
                sender.header.ssrc.0 = 1;
                sender.header.sequence.0 ^= 0x8000;
                sender.header.timestamp.0 ^= 0x8000_0000;
            }),
        ),
        ("2^31 on", disturbed(jump(0x8000_0000))),
        ("2^31 - 1 on", disturbed(jump(0x7FFF_FFFF))),
        ("2^31 - 1 back", disturbed(jump(0x8000_0001))),
        ("an hour on", disturbed(jump(8000 * 3600))),
        (
            "an hour back",
            disturbed(jump((8000_u32 * 3600).wrapping_neg())),
        ),
        ("another sequence", disturbed(|sender| sender.count(0x8000))),
    ] {
        recovers(&sent, &heard, what);
    }
}

#[test]
fn a_payload_type_nobody_agreed_on_is_not_heard_and_the_agreed_one_is_again_at_once() {
    let mut sender = Sender::new(Codec::Pcmu);
    let mut stream = Vec::new();
    for (n, payload) in tone(Codec::Pcmu, 300).iter().enumerate() {
        sender.header.payload_type = if (100..200).contains(&n) { 97 } else { 0 };
        stream.push(sender.audio(n as f64 * 20.0, 20.0, payload));
    }
    let heard = hear(&parameters(Codec::Pcmu), &Link::CLEAN.carry(&stream));
    let level = |frame: usize| decibels(power(&heard.pcm[frame * 160..][..160]));
    assert!((50..100).all(|n| level(n) > -22.0));
    assert!((115..200).all(|n| level(n) < -80.0));
    assert!((214..300).all(|n| level(n) > -22.0));
    assert_eq!(heard.statistics.malformed, 100);
}

#[test]
fn a_sender_that_pauses_is_heard_in_full_and_not_later_for_it() {
    for jitter_ms in [0.0, 30.0] {
        let mut random = Random::new(11);
        let payloads = tone(Codec::Pcmu, 50);
        let mut sender = Sender::new(Codec::Pcmu);
        let (mut stream, mut spurts, mut at) = (Vec::new(), Vec::new(), 0.0);
        for _ in 0..60 {
            spurts.push(at);
            sender.header.marker = true;
            for payload in &payloads[..10 + random.below(40)] {
                stream.push(sender.audio(at, 20.0, payload));
                sender.header.marker = false;
                at += 20.0;
            }
            let pause = 100.0 + 20.0 * random.below(100) as f64;
            sender.pass(pause);
            at += pause;
        }
        let link = Link {
            jitter_ms,
            ..Link::CLEAN
        };
        let heard = hear(&parameters(Codec::Pcmu), &link.carry(&stream));
        let mut delays: Vec<f64> = spurts[3..]
            .iter()
            .map(|spurt| {
                let ideal = link.ours(spurt + 20.0);
                let from = ((ideal - 60.0).max(0.0) * 8.0) as usize;
                let found = heard.pcm[from..]
                    .iter()
                    .position(|x| f64::from(*x).abs() > amplitude(TONE_DBFS) / 3.0);
                found.map_or(f64::INFINITY, |found| (from + found) as f64 / 8.0 - ideal)
            })
            .collect();
        let loud = heard
            .pcm
            .chunks(160)
            .filter(|pcm| decibels(power(pcm)) > -23.0)
            .count();
        println!(
            "jitter {jitter_ms}: onset p50 {:.1} p95 {:.1} ms, {loud} of {} frames loud, {} concealed",
            percentile(&mut delays, 50),
            percentile(&mut delays, 95),
            stream.len(),
            heard.statistics.concealed_frames,
        );
        assert!(percentile(&mut delays, 95) <= jitter_ms + 45.0);
        // A pause shows only by nothing coming: up to 60 ms are made up at the end of each spurt.
        let frames = stream.len() as f64;
        assert!((frames * 0.97..frames + 60.0 * 4.0).contains(&(loud as f64)));
    }
}

#[test]
fn announced_silence_is_comfort_noise_until_the_voice_comes_back() {
    for jitter_ms in [0.0, 40.0] {
        let payloads = tone(Codec::Pcmu, 100);
        let mut sender = Sender::new(Codec::Pcmu);
        let (mut stream, mut at) = (Vec::new(), 0.0);
        for _ in 0..3 {
            for payload in &payloads {
                stream.push(sender.audio(at, 20.0, payload));
                at += 20.0;
            }
            // RFC 3389: once, 50 dB below full scale; then nothing for three seconds.
            sender.header.payload_type = 13;
            let announced = sender.audio(at, 3000.0, &[50]);
            stream.push(Sent {
                at: at + 20.0,
                ..announced
            });
            sender.header.payload_type = 0;
            at += 3000.0;
        }
        stream.push(sender.audio(at, 20.0, &payloads[0]));
        let link = Link {
            jitter_ms,
            ..Link::CLEAN
        };
        let heard = hear(&parameters(Codec::Pcmu), &link.carry(&stream));
        for pause in 0..3 {
            // From 100 ms after the last packet's turn to the next voice.
            let from = (f64::from(pause) * 5000.0 + 2000.0 + DELAY_MS + 160.0) / 20.0;
            let frames = from as usize..from as usize + 135;
            for frame in frames {
                let level = decibels(power(&heard.pcm[frame * 160..][..160]));
                assert_eq!(
                    heard.kinds[frame],
                    FrameKind::ComfortNoise,
                    "jitter {jitter_ms}, pause {pause}, frame {frame}"
                );
                assert!((-53.0..-47.0).contains(&level), "{level} dBFS");
            }
        }
        println!(
            "jitter {jitter_ms}: {} concealed",
            heard.statistics.concealed_frames
        );
        assert!(heard.statistics.concealed_frames <= 6);
    }
}

#[test]
fn comfort_noise_at_any_level_is_no_voice() {
    for level in [0, 40, 47, 50, 55, 127] {
        let payloads = tone(Codec::Pcmu, 100);
        let mut sender = Sender::new(Codec::Pcmu);
        let mut stream: Vec<Sent> = payloads
            .iter()
            .enumerate()
            .map(|(n, payload)| sender.audio(n as f64 * 20.0, 20.0, payload))
            .collect();
        sender.header.payload_type = 13;
        let announced = sender.audio(2000.0, 20.0, &[level]);
        stream.push(announced.clone());
        // The clock goes on; nothing is sent.
        stream.push(Sent {
            at: 5000.0,
            ..announced
        });
        let heard = hear(&parameters(Codec::Pcmu), &Link::CLEAN.carry(&stream));
        assert!(heard.active[110]);
        // The hangover is 240 ms.
        assert!(
            heard.active[125..].iter().all(|active| !active),
            "-{level} dBFS"
        );
    }
}

/// A buzz of 120 Hz with two formants that comes and goes in syllables, which Opus takes for speech.
fn speech(n: usize, rate: f64) -> f64 {
    let t = n as f64 / rate;
    let pitch = 120.0 + 15.0 * (t * TAU * 0.7).sin();
    let syllable = (t * TAU * 2.0).sin().abs().sqrt();
    let weight = |hz: f64, formant: f64, width: f64| (-((hz - formant) / width).powi(2)).exp();
    let voiced: f64 = (1..25)
        .map(|harmonic| {
            let hz = pitch * f64::from(harmonic);
            let loud = weight(hz, 500.0, 200.0) + weight(hz, 1500.0, 300.0) * 0.4 + 0.02;
            (TAU * 120.0 * f64::from(harmonic) * t).sin() * loud
        })
        .sum();
    voiced * syllable * amplitude(-24.0)
}

#[test]
fn losses_in_opus_speech_are_made_good_from_the_packet_after_them() {
    let payloads = encode(Codec::Opus, 3000, |n| speech(n, 48_000.0));
    for (loss, jitter_ms) in [(0.05, 0.0), (0.1, 20.0), (0.2, 40.0)] {
        let link = Link {
            loss,
            jitter_ms,
            ..Link::CLEAN
        };
        let arrivals = link.carry(&packets(Codec::Opus, &payloads));
        let heard = hear(&parameters(Codec::Opus), &arrivals);
        let lost = payloads.len() - arrivals.len();
        let statistics = heard.statistics;
        println!(
            "loss {loss} jitter {jitter_ms}: {lost} lost, {} made good, {} concealed, {} late, buffer {:.1} ms",
            statistics.fec_frames,
            statistics.concealed_frames,
            statistics.late,
            statistics.buffer_ms
        );
        // All but those followed by another loss.
        let least = lost as f64 * (1.0 - loss) * 0.7;
        assert!(statistics.fec_frames as f64 > least);
    }
}

#[test]
fn keys_by_rfc_4733_under_20_percent_loss_count_once_each() {
    for codec in [Codec::Pcmu, Codec::Opus] {
        for seed in 0..5 {
            let mut random = Random::new(100 + seed);
            let payloads = tone(codec, 50);
            let mut sender = Sender::new(codec);
            let (mut stream, mut keys, mut at) = (Vec::new(), Vec::new(), 0.0);
            let audio_type = sender.header.payload_type;
            for _ in 0..200 {
                for payload in &payloads[..5 + random.below(20)] {
                    stream.push(sender.audio(at, 20.0, payload));
                    at += 20.0;
                }
                let key = Key::from_event(random.below(16) as u8).unwrap();
                keys.push(key.as_char());
                let length = Duration::from_millis(80 + 20 * random.below(8) as u64);
                let mut press = KeySender::new(key, EVENTS, codec.rtp_clock(), length);
                let begun = at;
                sender.header.payload_type = EVENTS;
                while let Some(event) = press.next_packet() {
                    sender.header.marker = event.marker;
                    let bytes = packet(sender.header, &event.payload);
                    stream.push(Sent {
                        at: at + 20.0,
                        bytes,
                    });
                    sender.count(1);
                    at += 20.0;
                }
                sender.header.payload_type = audio_type;
                sender.header.marker = false;
                sender.pass(at - begun);
            }
            for payload in &payloads {
                stream.push(sender.audio(at, 20.0, payload));
                at += 20.0;
            }
            let link = Link {
                seed,
                loss: 0.2,
                jitter_ms: 40.0,
                skew_ppm: 0.0,
            };
            let heard = hear(&parameters(codec), &link.carry(&stream));
            let pressed: Vec<char> = heard.keys.iter().map(|key| key.1.as_char()).collect();
            assert_eq!(pressed, keys, "{codec:?}, seed {seed}");
        }
    }
}

/// ITU-T Q.23.
fn key_tones(key: char) -> (f64, f64) {
    let place = "123A456B789C*0#D".find(key).unwrap();
    (
        [697.0, 770.0, 852.0, 941.0][place / 4],
        [1209.0, 1336.0, 1477.0, 1633.0][place % 4],
    )
}

#[test]
fn keys_as_tones_in_noise_are_found_once_each_and_at_most_20_ms_are_heard() {
    for codec in [Codec::Pcmu, Codec::Pcma, Codec::G722] {
        let rate = f64::from(codec.sample_rate().hz());
        let mut random = Random::new(21);
        let (mut presses, mut at) = (Vec::new(), 500.0);
        for n in 0..160 {
            let length = 60.0 + 80.0 * random.unit();
            let key = char::from(b"123A456B789C*0#D"[n % 16]);
            presses.push((at, at + length, key));
            at += length + 70.0 + 200.0 * random.unit();
        }
        let mut noise = Random::new(22);
        let payloads = encode(codec, (at / 20.0) as usize + 25, |n| {
            let ms = n as f64 * 1000.0 / rate;
            let press = presses.partition_point(|press| press.0 <= ms);
            let tones = press
                .checked_sub(1)
                .map(|last| presses[last])
                .filter(|press| ms < press.1)
                .map_or(0.0, |(_, _, key)| {
                    let (low, high) = key_tones(key);
                    let t = n as f64 / rate * TAU;
                    ((t * low).sin() + (t * high).sin()) * amplitude(-13.0)
                });
            tones + (noise.unit() * 2.0 - 1.0) * amplitude(-30.0) * 1.22
        });
        let parameters = MediaParameters {
            telephone_event: None,
            ..parameters(codec)
        };
        let heard = hear(&parameters, &Link::CLEAN.carry(&packets(codec, &payloads)));
        let found: String = heard.keys.iter().map(|key| key.1.as_char()).collect();
        let wanted: String = presses.iter().map(|press| press.2).collect();
        assert_eq!(found, wanted, "{codec:?}");
        // Milliseconds that are louder than the noise ever is.
        let per_ms = rate as usize / 1000;
        let loud: Vec<bool> = heard
            .pcm
            .chunks(per_ms)
            .map(|pcm| decibels(power(pcm)) > -22.0)
            .collect();
        let longest = presses
            .iter()
            .map(|press| {
                let from = Link::CLEAN.ours(press.0) as usize;
                let until = (press.1 - press.0) as usize + from + 70;
                loud[from..until].iter().filter(|loud| **loud).count()
            })
            .max()
            .unwrap();
        println!("{codec:?}: of no press are more than {longest} ms heard");
        assert!(longest <= 20, "{codec:?}: {longest} ms");
    }
}

#[test]
fn a_steady_tone_is_a_voice_from_300_ms_to_10_s() {
    for codec in [Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::Opus] {
        let rate = f64::from(codec.sample_rate().hz());
        for hz in [300.0, 440.0, 1000.0, 3000.0] {
            for frames in [15, 50, 500] {
                let payloads = encode(codec, 50 + frames + 50, |n| {
                    let frame = n / codec.sample_rate().frame_samples();
                    if (50..50 + frames).contains(&frame) {
                        (n as f64 / rate * hz * TAU).sin() * amplitude(-20.0)
                    } else {
                        0.0
                    }
                });
                let stream = packets(codec, &payloads);
                let heard = hear(&parameters(codec), &Link::CLEAN.carry(&stream));
                // 20 ms of packet, the way, up to 20 ms until the pull.
                let first = 50 + 4;
                let active = &heard.active[first..first + frames];
                let missed = active.iter().filter(|active| !**active).count();
                assert!(missed <= 1, "{codec:?} {hz} Hz {frames}: {missed} missed");
                assert!(!heard.active[..50].contains(&true), "{codec:?}");
                assert!(!heard.active[first + frames + 18], "{codec:?}");
            }
        }
    }
}

/// A sound packet with some of its bits turned, its end cut off, or its numbers drawn anew.
fn spoilt(random: &mut Random, whole: &[u8]) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    match random.below(6) {
        0 => {
            bytes = (0..random.below(1600))
                .map(|_| random.next() as u8)
                .collect();
        }
        1 => bytes.truncate(random.below(bytes.len())),
        2 => {
            for _ in 0..1 + random.below(8) {
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << random.below(8);
            }
        }
        3 => {
            let at = 2 + random.below(10);
            bytes[at] = random.next() as u8;
        }
        4 => {
            for byte in &mut bytes[12..] {
                *byte = random.next() as u8;
            }
            bytes[1] = [0, 8, 9, 13, EVENTS, 111][random.below(6)];
        }
        _ => bytes.extend((0..random.below(400)).map(|_| random.next() as u8)),
    }
    bytes
}

#[test]
fn garbage_never_panics_and_what_follows_is_heard() {
    for codec in [Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::Opus] {
        for telephone_event in [None, parameters(codec).telephone_event] {
            let parameters = MediaParameters {
                telephone_event,
                ..parameters(codec)
            };
            let mut random = Random::new(31);
            let mut receiver = Receiver::new(&parameters, ReceiverConfig::default()).unwrap();
            let mut source = SourceLock::new(&parameters);
            let mut now = start();
            let mut sender = Sender::new(codec);
            let payloads = tone(codec, 100);
            for n in 0..30_000 {
                let sound = sender.audio(0.0, 20.0, &payloads[n % 100]);
                let bytes = spoilt(&mut random, &sound.bytes);
                source.check(now, parameters.remote_rtp, &bytes);
                receiver.handle_rtp(now, &bytes);
                let _ = RtcpReceived::parse(&bytes, Ssrc(1));
                if n % 3 == 0 {
                    receiver.pull_frame(now);
                    receiver.report_block(now);
                    while receiver.poll_key().is_some() {}
                    now += Duration::from_millis(20);
                }
            }
            now += Duration::from_secs(1);
            let mut heard = Vec::new();
            for n in 0..100 {
                let sound = sender.audio(0.0, 20.0, &payloads[n % 100]);
                receiver.handle_rtp(now, &sound.bytes);
                receiver.pull_frame(now);
                heard.extend_from_slice(receiver.pcm());
                now += Duration::from_millis(20);
            }
            let level = decibels(power(&heard[heard.len() / 2..]));
            assert!((level - TONE_DBFS).abs() < 1.0, "{codec:?}: {level}");
        }
    }
}
