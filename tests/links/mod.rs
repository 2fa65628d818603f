//! What each kind of network does to each codec, through the whole receive path, held against what is
//! promised. The table of docs/networks.md is printed by
//! `cargo test --release --test media -- --ignored --nocapture table_of_networks`.

use super::*;

/// What a network does to the packets that it carries.
#[derive(Debug, Clone, Copy)]
struct Network {
    name: &'static str,
    loss: f64,
    /// How many packets are lost in a row, on average.
    run: f64,
    /// Delay is uniform up to this.
    jitter_ms: f64,
    /// Share of packets that the next one or two overtake.
    reordered: f64,
    /// Share that comes twice.
    doubled: f64,
    skew_ppm: f64,
    /// Nothing gets through from then on, for two seconds.
    outage_at_ms: Option<f64>,
}

const CLEAN: Network = Network {
    name: "clean",
    loss: 0.0,
    run: 1.0,
    jitter_ms: 0.0,
    reordered: 0.0,
    doubled: 0.0,
    skew_ppm: 0.0,
    outage_at_ms: None,
};

const fn losing(name: &'static str, loss: f64) -> Network {
    Network {
        name,
        loss,
        ..CLEAN
    }
}

const NETWORKS: [Network; 13] = [
    CLEAN,
    losing("1 % lost", 0.01),
    losing("5 % lost", 0.05),
    losing("10 % lost", 0.10),
    losing("20 % lost", 0.20),
    Network {
        name: "5 % lost, three in a row",
        loss: 0.05,
        run: 3.0,
        ..CLEAN
    },
    Network {
        name: "jitter 60 ms",
        jitter_ms: 60.0,
        ..CLEAN
    },
    Network {
        name: "5 % overtaken",
        reordered: 0.05,
        ..CLEAN
    },
    Network {
        name: "2 % twice",
        doubled: 0.02,
        ..CLEAN
    },
    Network {
        name: "skew -2,000 ppm",
        skew_ppm: -2000.0,
        ..CLEAN
    },
    Network {
        name: "skew +2,000 ppm",
        skew_ppm: 2000.0,
        ..CLEAN
    },
    Network {
        name: "jitter 30 ms, 5 % lost, 5 % overtaken, 2 % twice",
        loss: 0.05,
        jitter_ms: 30.0,
        reordered: 0.05,
        doubled: 0.02,
        ..CLEAN
    },
    Network {
        name: "nothing for 2 s",
        outage_at_ms: Some(OUTAGE_AT_MS),
        ..CLEAN
    },
];

const OUTAGE_MS: f64 = 2000.0;
/// Somewhere within the tone of the tenth second.
const OUTAGE_AT_MS: f64 = 10_470.0;
/// An overtaken packet comes so much later.
const OVERTAKEN_MS: f64 = 25.0;

/// What came of the sent packets.
struct Carried {
    arrivals: Vec<(f64, Vec<u8>)>,
    /// By the number of the sent packet: how much longer than the fastest it took.
    delays: Vec<Option<f64>>,
}

impl Network {
    fn link(&self) -> Link {
        Link {
            skew_ppm: self.skew_ppm,
            ..Link::CLEAN
        }
    }

    fn carry(&self, sent: &[Sent]) -> Carried {
        let (mut random, mut losing) = (Random::new(17), false);
        let (mut arrivals, mut delays) = (Vec::new(), Vec::new());
        for packet in sent {
            let [fate, jitter, order, twice] = [(); 4].map(|()| random.unit());
            // Two states (Gilbert): runs end by chance, and begin so often that the share is right.
            losing = if losing {
                fate >= 1.0 / self.run
            } else {
                fate < self.loss / self.run / (1.0 - self.loss)
            };
            let out = |at: f64| (at..at + OUTAGE_MS).contains(&packet.at);
            if losing && self.run > 1.0
                || self.run <= 1.0 && fate < self.loss
                || self.outage_at_ms.is_some_and(out)
            {
                delays.push(None);
                continue;
            }
            let late = if order < self.reordered {
                OVERTAKEN_MS
            } else {
                0.0
            };
            let delay = jitter * self.jitter_ms + late;
            let at = self.link().ours(packet.at) + delay;
            arrivals.push((at, packet.bytes.clone()));
            if twice < self.doubled {
                arrivals.push((at + 11.0, packet.bytes.clone()));
            }
            delays.push(Some(delay));
        }
        arrivals.sort_by(|a, b| a.0.total_cmp(&b.0));
        Carried { arrivals, delays }
    }
}

/// One row of the table.
struct Row {
    network: Network,
    lost: f64,
    concealed: f64,
    longest_gap_ms: usize,
    /// 99 of 100 packets took no longer than the fastest and this.
    jitter_p99: f64,
    delay_p50: f64,
    delay_p95: f64,
    /// The median of the last third's delays less that of the first.
    growth: f64,
    /// From the first packet after an outage to the first frame with it.
    recovery_ms: Option<f64>,
    doubled: u64,
}

/// What is spoken and how long.
struct Speech {
    codec: Codec,
    seconds: usize,
    /// Bursts of a tone, which tell when something is heard.
    bursts: Vec<Sent>,
    /// Something like a voice, for which Opus makes copies of frames.
    voice: Vec<Sent>,
}

impl Speech {
    fn new(codec: Codec, seconds: usize) -> Self {
        let rate = f64::from(codec.sample_rate().hz());
        let voice = encode(codec, seconds * 50, |n| speech(n, rate));
        Self {
            codec,
            seconds,
            bursts: packets(codec, &bursts(codec, seconds)),
            voice: packets(codec, &voice),
        }
    }

    fn through(&self, network: Network) -> Row {
        let voice = network.carry(&self.voice);
        let heard = hear(&parameters(self.codec), &voice.arrivals);
        let sent = self.voice.len() as f64;
        let lost = voice.delays.iter().filter(|delay| delay.is_none()).count() as f64;
        let mut jitter: Vec<f64> = voice.delays.iter().copied().flatten().collect();
        let (first, last) = whole_of(&heard.kinds);
        let frames = &heard.kinds[first..=last];
        let gaps = frames.split(|kind| *kind == FrameKind::Voice);
        let concealed: usize = gaps.clone().map(<[FrameKind]>::len).sum();
        let (delay_p50, delay_p95, growth) = self.delays(network);
        Row {
            network,
            lost: lost / sent,
            concealed: concealed as f64 / frames.len() as f64,
            longest_gap_ms: gaps.map(<[FrameKind]>::len).max().unwrap_or(0) * 20,
            jitter_p99: percentile(&mut jitter, 99),
            delay_p50,
            delay_p95,
            growth,
            recovery_ms: network
                .outage_at_ms
                .map(|at| recovery(&network, &self.voice, at, &heard.kinds)),
            doubled: heard.statistics.duplicated,
        }
    }

    /// By ear, of bursts whose first packet came.
    fn delays(&self, network: Network) -> (f64, f64, f64) {
        let carried = network.carry(&self.bursts);
        let heard = hear(&parameters(self.codec), &carried.arrivals);
        let came: Vec<_> = (2..self.seconds)
            .filter(|second| carried.delays[second * 50 + 15].is_some())
            .collect();
        let delays: Vec<f64> = came
            .iter()
            .filter_map(|second| {
                let ideal = network.link().ours(*second as f64 * 1000.0 + 320.0);
                burst_delay(self.codec, &heard.pcm, ideal)
            })
            .collect();
        // Next to none is lost to what hides a loss.
        assert!(
            delays.len() * 100 >= came.len() * 95 && !came.is_empty(),
            "{} of {} were heard",
            delays.len(),
            came.len()
        );
        let third = delays.len() / 3;
        let median = |part: &[f64]| percentile(&mut part.to_vec(), 50);
        let growth = median(&delays[2 * third..]) - median(&delays[..third]);
        let mut all = delays;
        (percentile(&mut all, 50), percentile(&mut all, 95), growth)
    }
}

/// The first and the last frame with a voice.
fn whole_of(kinds: &[FrameKind]) -> (usize, usize) {
    let is_voice = |kind: &FrameKind| *kind == FrameKind::Voice;
    let first = kinds.iter().position(is_voice).unwrap();
    (first, kinds.iter().rposition(is_voice).unwrap())
}

fn recovery(network: &Network, sent: &[Sent], at: f64, kinds: &[FrameKind]) -> f64 {
    let first = sent
        .iter()
        .find(|packet| packet.at >= at + OUTAGE_MS)
        .unwrap();
    let arrived = network.link().ours(first.at);
    let pull = (arrived / 20.0).ceil() as usize;
    let waits = kinds[pull..]
        .iter()
        .position(|kind| *kind == FrameKind::Voice)
        .unwrap();
    (pull + waits) as f64 * 20.0 - arrived
}

/// What libopus' encoder looks ahead is no delay of ours.
fn own_delay(codec: Codec) -> f64 {
    if codec == Codec::Opus { 6.5 } else { 0.0 }
}

fn judge(codec: Codec, row: &Row) {
    let what = format!("{codec:?}, {}", row.network.name);
    let lossy = row.network.loss > 0.0 || row.network.outage_at_ms.is_some();
    if row.network.loss <= 0.05 && row.network.outage_at_ms.is_none() {
        assert!(row.concealed <= 0.06, "{what}: {} concealed", row.concealed);
        let most = if row.network.run > 1.0 { 260 } else { 60 };
        assert!(
            row.longest_gap_ms <= most,
            "{what}: {} ms",
            row.longest_gap_ms
        );
    }
    // Hardly more than what the network lost; where it loses nothing, hardly anything.
    assert!(
        row.concealed <= row.lost * 1.1 + 0.004,
        "{what}: {}",
        row.concealed
    );
    // Copies are waited for from 2 % on, and help against single losses.
    if codec == Codec::Opus && row.network.loss > 0.02 && row.network.run <= 1.0 {
        assert!(
            row.concealed <= row.lost * 0.5,
            "{what}: {} by copies",
            row.concealed
        );
    }
    let (p95, own) = (row.delay_p95, own_delay(codec));
    // For a copy that comes with the packet after, Opus waits 20 ms longer where packets get lost; where
    // clocks differ, the arrivals slide over the frames, and one has to be in hand.
    let copy = if codec == Codec::Opus && lossy {
        20.0
    } else {
        0.0
    };
    let slide = if row.network.skew_ppm == 0.0 {
        0.0
    } else {
        20.0
    };
    let most = row.jitter_p99 + 20.0 + own + copy + slide;
    // Where more is lost, a word's second packet is missing now and then, too.
    if row.network.loss <= 0.05 {
        assert!(p95 <= most, "{what}: p95 {p95} of {most} ms");
    }
    assert!(row.growth.abs() <= 21.0, "{what}: grows by {}", row.growth);
    if let Some(recovery) = row.recovery_ms {
        assert!(recovery <= 200.0, "{what}: back after {recovery} ms");
    }
    if row.network.doubled > 0.0 {
        assert!(row.doubled > 0, "{what}");
    }
}

#[test]
fn no_network_does_more_to_g_711_than_it_must() {
    let speech = Speech::new(Codec::Pcmu, 30);
    for network in NETWORKS {
        judge(Codec::Pcmu, &speech.through(network));
    }
}

#[test]
fn no_network_does_more_to_g_722_than_it_must() {
    let speech = Speech::new(Codec::G722, 30);
    for network in NETWORKS {
        judge(Codec::G722, &speech.through(network));
    }
}

#[test]
fn no_network_does_more_to_opus_than_it_must() {
    let speech = Speech::new(Codec::Opus, 30);
    for network in NETWORKS {
        judge(Codec::Opus, &speech.through(network));
    }
}

#[test]
fn what_comes_twice_or_in_another_order_is_played_once_and_in_its_place() {
    let mut random = Random::new(23);
    let payloads: Vec<Vec<u8>> = (0..1500)
        .map(|_| (0..160).map(|_| random.next() as u8).collect())
        .collect();
    let mut plain = Decoder::new(Codec::Pcmu).unwrap();
    let mut sent = vec![0; 160 * payloads.len()];
    for (payload, pcm) in payloads.iter().zip(sent.chunks_mut(160)) {
        plain.decode(payload, pcm).unwrap();
    }
    let network = Network {
        reordered: 0.05,
        doubled: 0.2,
        ..CLEAN
    };
    let carried = network.carry(&packets(Codec::Pcmu, &payloads));
    let heard = hear(&parameters(Codec::Pcmu), &carried.arrivals);
    let twice = carried.arrivals.len() - payloads.len();
    assert!(twice > 200);
    assert_eq!(heard.statistics.duplicated, twice as u64);
    assert_eq!(heard.statistics.received, payloads.len() as u64);
    // From where the buffer has grown to what the order asks for, all is what was sent.
    let tail = &heard.pcm[heard.pcm.len() / 3..heard.pcm.len() - 1600];
    let at = sent
        .windows(80)
        .position(|window| window == &tail[..80])
        .unwrap();
    assert!(sent[at..].starts_with(tail));
}

/// A tone in packets of 20 ms, then of another length.
fn with_another_packet_time(codec: Codec, ptime: usize) -> Heard {
    let mut sender = Sender::new(codec);
    let (frames, mut stream) = (tone(codec, 300), Vec::new());
    for (n, payload) in frames[..150].iter().enumerate() {
        stream.push(sender.audio(n as f64 * 20.0, 20.0, payload));
    }
    // G.711 and G.722 may be cut anywhere; two frames of Opus go into one packet by code 2 of RFC 6716
    // section 3.2.4, behind the length of the first.
    if codec == Codec::Opus {
        for (n, pair) in frames[150..].chunks_exact(2).enumerate() {
            let at = 3000.0 + n as f64 * 40.0;
            assert_eq!(pair[0][0], pair[1][0], "the same mode and bandwidth");
            let head = [pair[0][0] | 2, (pair[0].len() - 1) as u8];
            let whole = [&head, &pair[0][1..], &pair[1][1..]].concat();
            stream.push(sender.audio(at, 40.0, &whole));
        }
    } else {
        let rest = frames[150..].concat();
        for (n, payload) in rest.chunks_exact(ptime * 8).enumerate() {
            stream.push(sender.audio(3000.0 + (n * ptime) as f64, ptime as f64, payload));
        }
    }
    hear(&parameters(codec), &Link::CLEAN.carry(&stream))
}

#[test]
fn another_packet_time_in_the_middle_is_heard_within_200_ms_and_makes_no_noise() {
    for codec in [Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::Opus] {
        for ptime in [10, 30, 40, 60] {
            if codec == Codec::Opus && ptime != 40 {
                continue;
            }
            let heard = with_another_packet_time(codec, ptime);
            settles(&format!("{codec:?} {ptime} ms"), codec, &heard);
        }
    }
}

/// After a change at 3 s the tone is whole again within 200 ms, with no more than 100 ms of noise.
fn settles(what: &str, codec: Codec, heard: &Heard) {
    let frame = codec.sample_rate().frame_samples();
    let rate = f64::from(codec.sample_rate().hz());
    let changed = ((3000.0 + DELAY_MS) / 20.0) as usize;
    let settled = &heard.kinds[changed + 10..290];
    let all_voice = settled.iter().all(|kind| *kind == FrameKind::Voice);
    assert!(all_voice, "{what}");
    let mut noisy = 0;
    for (n, pcm) in heard.pcm.chunks(frame).enumerate().take(290).skip(100) {
        let (whole, voice) = (power(pcm), goertzel(pcm, TONE_HZ, rate));
        let noise = decibels((whole - voice).max(0.0)) - TONE_DBFS;
        let level = decibels(voice) - TONE_DBFS;
        assert!(level <= 1.0, "{what}, frame {n}: {level}");
        if (changed..changed + 10).contains(&n) {
            noisy += usize::from(noise > -12.0);
        } else {
            assert!(noise <= -12.0, "{what}, frame {n}: {noise} dB");
            assert!(level >= -1.0, "{what}, frame {n}: {level}");
        }
    }
    assert!(noisy <= 5, "{what}: {noisy} frames of noise");
}

/// What changes, and how.
type Change = (&'static str, fn(&mut Sender));

#[test]
fn other_numbers_in_the_middle_are_followed_within_200_ms_in_every_codec() {
    let changes: [Change; 5] = [
        ("SSRC", |sender| sender.header.ssrc.0 ^= 1),
        ("sequence", |sender| sender.header.sequence.0 ^= 0x8000),
        ("2^31 on", |sender| sender.header.timestamp.0 ^= 0x8000_0000),
        ("an hour back", |sender| {
            let hour = sender.clock.wrapping_mul(3600);
            sender.header.timestamp.0 = sender.header.timestamp.0.wrapping_sub(hour);
        }),
        ("all of it", |sender| {
            sender.header.ssrc.0 = 1;
            sender.header.sequence.0 = 65_535;
            sender.header.timestamp.0 = 7;
        }),
    ];
    for codec in [Codec::Pcmu, Codec::G722, Codec::Opus] {
        for (what, change) in changes {
            let (mut sender, mut stream) = (Sender::new(codec), Vec::new());
            for (n, payload) in tone(codec, 300).iter().enumerate() {
                if n == 150 {
                    change(&mut sender);
                }
                stream.push(sender.audio(n as f64 * 20.0, 20.0, payload));
            }
            let heard = hear(&parameters(codec), &Link::CLEAN.carry(&stream));
            settles(&format!("{codec:?}, {what}"), codec, &heard);
        }
    }
}

#[test]
#[ignore = "a measurement; prints the table of docs/networks.md"]
fn table_of_networks() {
    for codec in [Codec::Pcmu, Codec::G722, Codec::Opus] {
        let speech = Speech::new(codec, 120);
        println!("\n### {}\n", codec.encoding_name());
        println!(
            "| network | lost | made up | longest gap | jitter p99 | delay p50 | delay p95 | grows by | back after |"
        );
        println!("|---|---|---|---|---|---|---|---|---|");
        for network in NETWORKS {
            let row = speech.through(network);
            println!(
                "| {} | {:.1} % | {:.1} % | {} ms | {:.0} ms | {:.0} ms | {:.0} ms | {:.0} ms | {} |",
                network.name,
                row.lost * 100.0,
                row.concealed * 100.0,
                row.longest_gap_ms,
                row.jitter_p99,
                row.delay_p50,
                row.delay_p95,
                row.growth.abs(),
                row.recovery_ms
                    .map_or("-".to_owned(), |ms| format!("{ms:.0} ms"))
            );
            judge(codec, &row);
        }
    }
}
