use super::*;
use crate::media::codec::{Encoder, PAYLOAD_BYTES_MAX};
use crate::media::dtmf::sender::KeySender;
use crate::media::parameters::TelephoneEvent;
use crate::media::rtp::RtpHeader;
use crate::media::seeded::{self, Random};
use crate::units::{Key, RtpTicks, SeqNo};

fn parameters(codec: Codec) -> MediaParameters {
    MediaParameters {
        payload_type_send: codec.static_payload_type().unwrap_or(111),
        payload_type_receive: codec.static_payload_type().unwrap_or(111),
        telephone_event: Some(TelephoneEvent {
            payload_type: 101,
            clock: codec.rtp_clock(),
        }),
        ..MediaParameters::plain(codec, "198.51.100.7:4000".parse().unwrap())
    }
}

/// A sender and a receiver on a perfect link.
struct Scene {
    receiver: Receiver,
    now: Instant,
    sequence: u16,
    timestamp: u32,
    payload_type: u8,
}

impl Scene {
    fn new(parameters: &MediaParameters) -> Self {
        Self {
            receiver: Receiver::new(parameters, ReceiverConfig::default()).unwrap(),
            now: seeded::start(),
            sequence: 65_500,
            timestamp: 0xFFFF_F000,
            payload_type: parameters.payload_type_receive,
        }
    }

    fn packet(&mut self, payload_type: u8, marker: bool, payload: &[u8]) -> PacketVerdict {
        let header = RtpHeader {
            marker,
            payload_type,
            sequence: SeqNo(self.sequence),
            timestamp: RtpTicks(self.timestamp),
            ssrc: Ssrc(7),
        };
        self.sequence = self.sequence.wrapping_add(1);
        let mut bytes = vec![0; 12];
        header.write(&mut bytes).unwrap();
        bytes.extend_from_slice(payload);
        self.receiver.handle_rtp(self.now, &bytes)
    }

    fn audio(&mut self, payload: &[u8], ticks: u32) -> PacketVerdict {
        let verdict = self.packet(self.payload_type, false, payload);
        self.timestamp = self.timestamp.wrapping_add(ticks);
        verdict
    }

    fn pull(&mut self) -> FrameKind {
        self.receiver.skip_frames(0);
        let kind = self.receiver.pull_frame(self.now);
        self.now += Duration::from_millis(20);
        kind
    }
}

#[test]
fn every_code_that_is_sent_is_heard_and_nothing_else() {
    let mut scene = Scene::new(&parameters(Codec::Pcmu));
    let mut random = Random::new(1);
    let mut plain = Decoder::new(Codec::Pcmu).unwrap();
    for _ in 0..3000 {
        let payload: Vec<u8> = (0..160).map(|_| random.next_u32() as u8).collect();
        assert_eq!(scene.audio(&payload, 160), PacketVerdict::Accepted);
        assert_eq!(scene.pull(), FrameKind::Voice);
        let mut expected = [0; 160];
        plain.decode(&payload, &mut expected).unwrap();
        assert_eq!(scene.receiver.pcm(), expected);
    }
    let statistics = scene.receiver.statistics();
    assert_eq!(
        (statistics.received, statistics.lost, statistics.corrections),
        (3000, 0, 0)
    );
    assert!(statistics.buffer_ms < 1.0);
}

#[test]
fn the_noise_of_a_line_is_no_voice_after_a_key_was_pressed_on_it() {
    let mut scene = Scene::new(&parameters(Codec::Pcmu));
    let (mut encoder, mut random) = (Encoder::new(Codec::Pcmu).unwrap(), Random::new(7));
    let mut hiss = |scene: &mut Scene| {
        let noise: Vec<i16> = (0..160)
            .map(|_| (random.unit() * 720.0 - 360.0) as i16)
            .collect();
        let mut payload = [0; PAYLOAD_BYTES_MAX];
        let length = encoder.encode(&noise, &mut payload).unwrap();
        scene.audio(&payload[..length], 160);
        assert_eq!(scene.pull(), FrameKind::Voice);
        scene.receiver.voice().active
    };
    for _ in 0..1_000 {
        hiss(&mut scene);
    }
    let mut sender = KeySender::new(Key::HASH, 101, 8000, Duration::from_millis(200));
    while let Some(packet) = sender.next_packet() {
        scene.packet(101, packet.marker, &packet.payload);
        assert_eq!(scene.pull(), FrameKind::Silence);
    }
    scene.timestamp = scene.timestamp.wrapping_add(160 * 12);
    let heard = (0..200).filter(|_| hiss(&mut scene)).count();
    assert_eq!(heard, 0, "frames at -44 dBFS that are taken for a voice");
}

/// Plays A-law packets whose lengths in ms `length` gives, each leaving when its last sample was
/// spoken. Returns what was sent and what was heard, and the concealed frames of the second half.
fn play_packets(
    packets: usize,
    length: impl Fn(usize) -> usize,
) -> (Vec<i16>, Vec<i16>, u64, ReceiveStatistics) {
    let mut scene = Scene::new(&parameters(Codec::Pcma));
    let mut plain = Decoder::new(Codec::Pcma).unwrap();
    let mut random = Random::new(2);
    let (mut sent, mut heard, mut elapsed, mut pulled, mut halfway) =
        (Vec::new(), Vec::new(), 0, 0, 0);
    let start = scene.now;
    for n in 0..packets {
        let ms = length(n);
        let payload: Vec<u8> = (0..ms * 8).map(|_| random.next_u32() as u8).collect();
        let mut pcm = vec![0; ms * 8];
        plain.decode(&payload, &mut pcm).unwrap();
        sent.extend(pcm);
        elapsed += ms as u64;
        while pulled + 20 <= elapsed {
            pulled += 20;
            scene
                .receiver
                .pull_frame(start + Duration::from_millis(pulled));
            heard.extend_from_slice(scene.receiver.pcm());
        }
        scene.now = start + Duration::from_millis(elapsed);
        assert_eq!(
            scene.audio(&payload, (ms * 8) as u32),
            PacketVerdict::Accepted
        );
        if n == packets / 2 {
            halfway = scene.receiver.statistics().concealed_frames;
        }
    }
    let statistics = scene.receiver.statistics();
    (
        sent,
        heard,
        statistics.concealed_frames - halfway,
        statistics,
    )
}

#[test]
fn any_packet_time_comes_out_sample_by_sample() {
    for ms in [10, 20, 30, 40, 60] {
        let (sent, heard, concealed, statistics) = play_packets(300, |_| ms);
        assert_eq!(
            (concealed, statistics.corrections),
            (0, 0),
            "{ms} ms: {statistics:?}"
        );
        assert!(statistics.buffer_ms <= 20.0, "{ms} ms: {statistics:?}");
        // Silence before the first packet, then what was sent.
        let tail = &heard[heard.len() / 2..];
        let at = sent.windows(100).position(|window| window == &tail[..100]);
        assert!(at.is_some_and(|at| sent[at..].starts_with(tail)), "{ms} ms");
    }
}

#[test]
fn packet_times_that_change_all_the_time_cost_delay_but_no_audio() {
    let (.., concealed, statistics) = play_packets(1500, |n| [10, 20, 30, 40, 60][n / 3 % 5]);
    assert_eq!(
        (concealed, statistics.late, statistics.overflowed),
        (0, 0, 0),
        "{statistics:?}"
    );
    assert!(statistics.buffer_ms <= 80.0, "{statistics:?}");
}

#[test]
fn opus_and_g722_keep_a_tones_level_and_frequency() {
    for codec in [Codec::G722, Codec::Opus] {
        let mut scene = Scene::new(&parameters(codec));
        let mut encoder = Encoder::new(codec).unwrap();
        let rate = codec.sample_rate();
        let mut heard = Vec::new();
        for frame in 0..150 {
            let tone = |n: usize| {
                let phase =
                    ((frame * rate.frame_samples() + n) as f32 * 1000.0 / rate.hz() as f32).fract();
                ((phase * std::f32::consts::TAU).sin() * 8000.0) as i16
            };
            let pcm: Vec<i16> = (0..rate.frame_samples()).map(tone).collect();
            let mut payload = [0; PAYLOAD_BYTES_MAX];
            let length = encoder.encode(&pcm, &mut payload).unwrap();
            scene.audio(&payload[..length], codec.rtp_clock() / 50);
            assert_eq!(scene.pull(), FrameKind::Voice);
            heard.extend(scene.receiver.pcm().iter().map(|x| f32::from(*x)));
        }
        let tail = &heard[heard.len() / 2..];
        let at = |hz: f32| {
            let turn = std::f32::consts::TAU * hz / rate.hz() as f32;
            let (re, im) = tail
                .iter()
                .enumerate()
                .fold((0.0_f32, 0.0_f32), |(re, im), (n, x)| {
                    (
                        re + x * (turn * n as f32).cos(),
                        im + x * (turn * n as f32).sin(),
                    )
                });
            (re * re + im * im).sqrt() * 2.0 / tail.len() as f32
        };
        assert!(
            (6500.0..9500.0).contains(&at(1000.0)),
            "{codec:?}: {}",
            at(1000.0)
        );
        assert!(at(1300.0) < 200.0, "{codec:?}");
    }
}

#[test]
fn a_key_press_is_silence_not_loss_and_is_reported_once() {
    let mut scene = Scene::new(&parameters(Codec::Pcmu));
    for _ in 0..50 {
        scene.audio(&[0x55; 160], 160);
        scene.pull();
    }
    let mut sender = KeySender::new(Key::HASH, 101, 8000, Duration::from_millis(200));
    while let Some(packet) = sender.next_packet() {
        assert_eq!(
            scene.packet(101, packet.marker, &packet.payload),
            PacketVerdict::Key
        );
        assert_eq!(scene.pull(), FrameKind::Silence);
    }
    scene.timestamp = scene.timestamp.wrapping_add(160 * 12);
    for _ in 0..50 {
        scene.audio(&[0x55; 160], 160);
        assert_eq!(scene.pull(), FrameKind::Voice);
    }
    let press = scene.receiver.poll_key().unwrap();
    assert_eq!(
        (press.key, press.duration),
        (Key::HASH, Duration::from_millis(200))
    );
    assert_eq!(scene.receiver.poll_key(), None);
    let statistics = scene.receiver.statistics();
    assert_eq!((statistics.lost, statistics.concealed_frames), (0, 0));
}

#[test]
fn tones_are_keys_only_where_no_events_were_agreed_on() {
    let tone = |n: usize| {
        let t = n as f32 / 8000.0 * std::f32::consts::TAU;
        (((t * 770.0).sin() + (t * 1336.0).sin()) * 5000.0) as i16
    };
    for (telephone_event, expected) in [
        (None, Some('5')),
        (parameters(Codec::Pcmu).telephone_event, None),
    ] {
        let mut scene = Scene::new(&MediaParameters {
            telephone_event,
            ..parameters(Codec::Pcmu)
        });
        let mut encoder = Encoder::new(Codec::Pcmu).unwrap();
        let mut audible = 0;
        for frame in 0..30 {
            let pcm: Vec<i16> = (0..160)
                .map(|n| {
                    if (5..15).contains(&frame) {
                        tone(frame * 160 + n)
                    } else {
                        0
                    }
                })
                .collect();
            let mut payload = [0; PAYLOAD_BYTES_MAX];
            let length = encoder.encode(&pcm, &mut payload).unwrap();
            scene.audio(&payload[..length], 160);
            scene.pull();
            audible += scene
                .receiver
                .pcm()
                .iter()
                .filter(|x| x.abs() > 300)
                .count();
        }
        let key = scene.receiver.poll_key().map(|press| press.key.as_char());
        assert_eq!(key, expected);
        assert_eq!(audible < 160, expected.is_some(), "{audible}");
    }
}

#[test]
fn comfort_noise_fills_the_pause_it_announces() {
    let mut scene = Scene::new(&parameters(Codec::Pcmu));
    for _ in 0..10 {
        scene.audio(&[0x10; 160], 160);
        scene.pull();
    }
    assert_eq!(scene.packet(13, false, &[60]), PacketVerdict::Accepted);
    for _ in 0..10 {
        assert_eq!(scene.pull(), FrameKind::ComfortNoise);
        let level = scene.receiver.voice().level.0;
        assert!((level + 60.0).abs() < 3.0, "{level}");
    }
    scene.timestamp = scene.timestamp.wrapping_add(1600);
    scene.audio(&[0x10; 160], 160);
    assert_eq!(scene.pull(), FrameKind::Voice);
    assert_eq!(scene.receiver.statistics().concealed_frames, 0);
}

#[test]
fn comfort_noise_comes_by_the_payload_type_that_was_agreed_on() {
    for codec in [Codec::Pcma, Codec::G722] {
        let agreed = MediaParameters {
            comfort_noise: Some(98),
            ..parameters(codec)
        };
        let mut scene = Scene::new(&agreed);
        for _ in 0..10 {
            scene.audio(&[0x10; 160], 160);
            scene.pull();
        }
        let stray = scene.packet(13, false, &[60]);
        assert_eq!(stray, PacketVerdict::UnknownPayloadType);
        assert_eq!(scene.packet(98, false, &[50]), PacketVerdict::Accepted);
        assert!(scene.receiver.may_be_silent());
        for _ in 0..10 {
            scene.pull();
        }
        assert_eq!(scene.receiver.kind(), FrameKind::ComfortNoise);
        let level = scene.receiver.voice().level.0;
        assert!((level + 50.0).abs() < 3.0, "{level}");
    }
}

#[test]
fn a_lost_packet_is_concealed_and_an_opus_one_made_good_from_the_next() {
    let mut scene = Scene::new(&parameters(Codec::Pcmu));
    for n in 0..20 {
        if n == 10 {
            scene.sequence = scene.sequence.wrapping_add(1);
            scene.timestamp = scene.timestamp.wrapping_add(160);
        } else {
            scene.audio(&[0x10; 160], 160);
        }
        assert_eq!(
            scene.pull(),
            if n == 10 {
                FrameKind::Concealed
            } else {
                FrameKind::Voice
            }
        );
    }
    let statistics = scene.receiver.statistics();
    assert_eq!((statistics.lost, statistics.concealed_frames), (1, 1));
}

#[test]
fn jumps_of_ssrc_timestamp_and_sequence_are_over_within_200_ms() {
    for (sequence, timestamp) in [
        (0, 0x8000_0000_u32),
        (0, 0x7FFF_FFFF),
        (30_000, 0),
        (0, 0x10_0000),
    ] {
        let mut scene = Scene::new(&parameters(Codec::Pcmu));
        for _ in 0..50 {
            scene.audio(&[0x10; 160], 160);
            scene.pull();
        }
        scene.sequence = scene.sequence.wrapping_add(sequence);
        scene.timestamp = scene.timestamp.wrapping_add(timestamp);
        let kinds: Vec<FrameKind> = (0..50)
            .map(|_| {
                scene.audio(&[0x20; 160], 160);
                scene.pull()
            })
            .collect();
        let silent = kinds
            .iter()
            .filter(|kind| **kind != FrameKind::Voice)
            .count();
        assert!(silent <= 5, "{kinds:?}");
        assert!(kinds[10..].iter().all(|kind| *kind == FrameKind::Voice));
        let statistics = scene.receiver.statistics();
        assert_eq!(statistics.resyncs, 1);
        assert!(statistics.buffer_ms < 20.0, "{statistics:?}");
    }
}

#[test]
fn a_thread_that_stood_still_for_a_second_discards_the_burst() {
    let mut scene = Scene::new(&parameters(Codec::Pcmu));
    for _ in 0..50 {
        scene.audio(&[0x10; 160], 160);
        scene.pull();
    }
    for _ in 0..50 {
        scene.audio(&[0x10; 160], 160);
        scene.now += Duration::from_millis(20);
    }
    for _ in 0..100 {
        scene.audio(&[0x10; 160], 160);
        assert_eq!(scene.pull(), FrameKind::Voice);
    }
    let statistics = scene.receiver.statistics();
    assert!(statistics.buffer_ms <= 60.0, "{statistics:?}");
}

#[test]
fn foreign_payload_types_garbage_and_repetitions_are_counted_and_not_heard() {
    let mut scene = Scene::new(&parameters(Codec::Pcmu));
    assert_eq!(scene.audio(&[0x10; 160], 160), PacketVerdict::Accepted);
    scene.sequence -= 1;
    assert_eq!(scene.audio(&[0x10; 160], 160), PacketVerdict::Duplicate);
    assert_eq!(
        scene.packet(96, false, &[1; 160]),
        PacketVerdict::UnknownPayloadType
    );
    assert_eq!(scene.packet(0, false, &[]), PacketVerdict::Malformed);
    let now = scene.now;
    assert_eq!(
        scene.receiver.handle_rtp(now, b"OPTIONS sip:x SIP/2.0"),
        PacketVerdict::Malformed
    );
    let statistics = scene.receiver.statistics();
    assert_eq!((statistics.duplicated, statistics.malformed), (1, 3));
}

#[test]
fn a_leg_stays_within_its_memory() {
    let memory = |codec| {
        Receiver::new(&parameters(codec), ReceiverConfig::default())
            .unwrap()
            .memory()
    };
    let inband = MediaParameters {
        telephone_event: None,
        ..parameters(Codec::Pcmu)
    };
    let largest = Receiver::new(&inband, ReceiverConfig::default())
        .unwrap()
        .memory();
    assert!(memory(Codec::Pcmu) <= 24 * 1024, "{}", memory(Codec::Pcmu));
    assert!(largest <= 26 * 1024, "{largest}");
    assert!(memory(Codec::G722) <= 30 * 1024, "{}", memory(Codec::G722));
    assert!(memory(Codec::Opus) <= 42 * 1024, "{}", memory(Codec::Opus));
}

#[test]
fn no_bytes_panic_and_every_pull_gives_a_frame() {
    for codec in Codec::ALL {
        let mut random = Random::new(9);
        let mut scene = Scene::new(&parameters(codec));
        for _ in 0..8_000 {
            let length = random.below(600);
            let mut bytes: Vec<u8> = (0..length).map(|_| random.next_u32() as u8).collect();
            // Mostly packets that get past the first checks.
            for (at, value) in [
                (0, 0x80),
                (1, scene.payload_type),
                (8, 0),
                (9, 0),
                (10, 0),
                (11, 7),
            ] {
                if random.below(50) > 0 && at < bytes.len() {
                    bytes[at] = value;
                }
            }
            if random.below(3) > 0 && bytes.len() > 8 {
                scene.sequence = scene.sequence.wrapping_add(1);
                scene.timestamp = scene.timestamp.wrapping_add(random.below(3000) as u32);
                bytes[2..4].copy_from_slice(&scene.sequence.to_be_bytes());
                bytes[4..8].copy_from_slice(&scene.timestamp.to_be_bytes());
            }
            let now = scene.now;
            scene.receiver.handle_rtp(now, &bytes);
            if random.below(3) > 0 {
                scene.pull();
                assert_eq!(
                    scene.receiver.pcm().len(),
                    codec.sample_rate().frame_samples()
                );
            }
        }
    }
}

#[test]
fn packets_of_up_to_120_ms_are_heard_whole() {
    for codec in [Codec::Pcmu, Codec::G722] {
        for frames in 4..=6 {
            let mut scene = Scene::new(&parameters(codec));
            let payload: Vec<u8> = (0..160 * frames).map(|n| (n * 7) as u8).collect();
            for n in 0..60 {
                if n % frames == 0 {
                    let verdict = scene.audio(&payload, 160 * frames as u32);
                    assert_eq!(verdict, PacketVerdict::Accepted, "{codec:?} {frames}");
                }
                let kind = scene.pull();
                assert_eq!(kind, FrameKind::Voice, "{codec:?} {frames} {n}");
            }
            assert_eq!(scene.receiver.statistics().concealed_frames, 0);
        }
    }
}

#[test]
fn a_hold_that_was_agreed_on_makes_nobody_one_who_pauses_unsaid() {
    for agreed in [true, false] {
        let mut scene = Scene::new(&parameters(Codec::Pcmu));
        for _ in 0..50 {
            scene.audio(&[0x55; 160], 160);
            scene.pull();
        }
        for _ in 0..500 {
            if agreed {
                scene.receiver.note_pause();
            }
            scene.pull();
        }
        scene.timestamp = scene.timestamp.wrapping_add(500 * 160);
        for _ in 0..50 {
            scene.audio(&[0x55; 160], 160);
            scene.pull();
        }
        assert_eq!(scene.receiver.kind(), FrameKind::Voice);
        assert_eq!(scene.receiver.may_be_silent(), !agreed);
    }
}
