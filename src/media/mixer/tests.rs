use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::media::clip::Rendition;
use crate::media::codec::{Decoder, Encoder};
use crate::media::command::LegKind;
use crate::media::leg::{CodecSet, Hears, LegConfig, LegStart};
use crate::media::parameters::MediaParameters;
use crate::media::playback::{Playlist, SilenceFrames};
use crate::media::receive::ReceiverConfig;
use crate::media::rtcp::{NtpClock, NtpTime};
use crate::media::sender::{PacketBuffer, RtpOrigin};
use crate::units::{LegId, RtpTicks, SeqNo, Ssrc};

mod losses;
mod smooth;
mod speech;

/// A bridge with its legs, a pushed clock and what each leg was sent.
struct World {
    bridge: Bridge,
    desk: Desk,
    legs: Vec<Option<Box<Leg>>>,
    peers: Vec<Peer>,
    silence: SilenceFrames,
    start: Instant,
    frame: u64,
    sent: Sent,
    /// Whose packet of the next frame doesn't come.
    lost_from: Option<usize>,
    /// Of the last frame: who was sent his packet one after the other, and after how many of them there
    /// was no more waiting.
    order: Vec<u32>,
    hastened: Vec<usize>,
}

#[expect(
    clippy::disallowed_methods,
    reason = "a beginning; from there on the clock is pushed"
)]
fn now() -> Instant {
    Instant::now()
}

/// The phone at the other end of a leg.
struct Peer {
    codec: Codec,
    encoder: Encoder,
    decoder: Decoder,
    address: SocketAddr,
    sequence: u16,
    timestamp: u32,
    /// All that it was sent and has heard.
    packets: Vec<Vec<u8>>,
    heard: Vec<i16>,
}

/// For any codec.
fn bridge(seats: usize) -> Bridge {
    let mut bridge = Bridge::new(seats);
    for codec in Codec::ALL {
        assert!(bridge.fit(Fitting::encoder(codec).unwrap()).is_none());
    }
    bridge
}

/// What was sent, and after how many packets it was said that the next one takes long.
#[derive(Default)]
struct Sent(Vec<(LegSlot, SocketAddr, Vec<u8>)>, Vec<usize>);

impl Transmit for Sent {
    fn rtp(&mut self, leg: LegSlot, to: SocketAddr, packet: &[u8]) {
        self.0.push((leg, to, packet.to_vec()));
    }
    fn rtcp(&mut self, _: LegSlot, _: SocketAddr, _: bool, _: &[u8]) {}
    fn hasten(&mut self) {
        self.1.push(self.0.len());
    }
}

impl World {
    fn new(codecs: &[Codec]) -> Self {
        let start = now();
        let mut world = Self {
            bridge: bridge(codecs.len()),
            desk: Desk::new(),
            legs: Vec::new(),
            peers: Vec::new(),
            silence: SilenceFrames::new().unwrap(),
            start,
            frame: 0,
            sent: Sent::default(),
            lost_from: None,
            order: Vec::new(),
            hastened: Vec::new(),
        };
        for codec in codecs {
            world.add(*codec);
        }
        world
    }

    fn add(&mut self, codec: Codec) {
        let index = self.peers.len() as u16;
        let address = SocketAddr::new("127.0.0.1".parse().unwrap(), 4000 + 2 * index);
        let parameters = MediaParameters {
            uses_fec: codec == Codec::Opus,
            ..MediaParameters::plain(codec, address)
        };
        let config = LegConfig {
            media_timeout: Duration::from_secs(30),
            hold_timeout: Duration::from_secs(300),
            clock: NtpClock::new(self.start, NtpTime(0)),
        };
        let origin = RtpOrigin {
            ssrc: Ssrc(u32::from(index) + 1),
            sequence: SeqNo(0),
            timestamp: RtpTicks(0),
        };
        let codecs = Box::new(CodecSet::new(&parameters, ReceiverConfig::default()).unwrap());
        let leg = Leg::new(
            LegId(u64::from(index)),
            LegKind::Caller,
            config,
            LegStart {
                parameters,
                origin,
                codecs,
                srtp: None,
            },
            self.start,
        );
        self.legs.push(Some(Box::new(leg)));
        self.bridge.join(LegSlot(u32::from(index)));
        self.peers.push(Peer {
            codec,
            encoder: Encoder::new(codec).unwrap(),
            decoder: Decoder::new(codec).unwrap(),
            address,
            sequence: 0,
            timestamp: 0,
            packets: Vec::new(),
            heard: Vec::new(),
        });
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_millis(20 * self.frame)
    }

    /// One frame: each peer says what `speech` gives (at its own rate), then the bridge mixes, and who is
    /// outside has its frame as a leg alone has.
    fn run(&mut self, frames: u64, speech: impl Fn(usize, usize, f64) -> f64) {
        for _ in 0..frames {
            for index in 0..self.peers.len() {
                self.speak(index, &speech);
            }
            let tick = Tick {
                now: self.now(),
                number: 4 * self.frame,
                silence: &self.silence,
            };
            self.bridge
                .mix_tick(&tick, &mut self.legs, &mut self.desk, &mut self.sent);
            for (index, leg) in self.legs.iter_mut().enumerate() {
                let slot = LegSlot(index as u32);
                if let Some(leg) = leg
                    && !self.bridge.members().any(|member| member == slot)
                {
                    leg.lone_tick(&tick, slot, &mut PacketBuffer::default(), &mut self.sent);
                }
            }
            self.hear();
            self.frame += 1;
        }
    }

    fn speak(&mut self, index: usize, speech: &impl Fn(usize, usize, f64) -> f64) {
        let now = self.now();
        let peer = &mut self.peers[index];
        let rate = peer.codec.sample_rate();
        let first = self.frame as usize * rate.frame_samples();
        let pcm: Vec<i16> = (first..first + rate.frame_samples())
            .map(|i| speech(index, i, i as f64 / f64::from(rate.hz())).round() as i16)
            .collect();
        let packet = peer.packet(&pcm);
        if self.lost_from == Some(index) {
            return;
        }
        self.legs[index]
            .as_mut()
            .unwrap()
            .handle_rtp(now, peer.address, &packet);
    }

    fn hear(&mut self) {
        for (slot, to, packet) in &self.sent.0 {
            let peer = &mut self.peers[slot.0 as usize];
            assert_eq!(*to, peer.address);
            let mut pcm = [0; 5760];
            let length = peer.decoder.decode(&packet[12..], &mut pcm).unwrap();
            peer.heard.extend(&pcm[..length]);
            peer.packets.push(packet.clone());
        }
        self.order = self.sent.0.drain(..).map(|(slot, ..)| slot.0).collect();
        self.hastened = std::mem::take(&mut self.sent.1);
    }

    fn leg(&mut self, index: usize) -> &mut Leg {
        self.legs[index].as_mut().unwrap()
    }

    /// Level of a tone in the last `frames` frames that a peer heard, dB re full scale amplitude.
    fn level(&self, peer: usize, hz: f64, frames: usize) -> f64 {
        let peer = &self.peers[peer];
        let rate = peer.codec.sample_rate();
        let tail = &peer.heard[peer.heard.len() - frames * rate.frame_samples()..];
        goertzel(tail, rate, hz)
    }
}

impl Peer {
    fn packet(&mut self, pcm: &[i16]) -> Vec<u8> {
        let mut payload = [0; 400];
        let length = self.encoder.encode(pcm, &mut payload).unwrap();
        let mut packet = vec![0x80, self.codec.static_payload_type().unwrap_or(96)];
        packet.extend(self.sequence.to_be_bytes());
        packet.extend(self.timestamp.to_be_bytes());
        packet.extend([9, 9, 9, 9]);
        packet.extend(&payload[..length]);
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(self.codec.rtp_clock() / 50);
        packet
    }
}

fn goertzel(samples: &[i16], rate: SampleRate, hz: f64) -> f64 {
    let (mut re, mut im) = (0.0, 0.0);
    for (i, sample) in samples.iter().enumerate() {
        let phase = hz * i as f64 / f64::from(rate.hz()) * std::f64::consts::TAU;
        re += f64::from(*sample) * phase.cos();
        im += f64::from(*sample) * phase.sin();
    }
    20.0 * (2.0 * (re * re + im * im).sqrt() / samples.len() as f64 / 32_768.0)
        .max(1e-7)
        .log10()
}

fn sine(amplitude: f64, hz: f64, seconds: f64) -> f64 {
    amplitude * (hz * seconds * std::f64::consts::TAU).sin()
}

const TONES: [f64; 4] = [500.0, 800.0, 1_250.0, 1_900.0];

#[test]
fn a_muted_leg_is_decoded_only_where_its_keys_are_tones() {
    // Keys come as events or not at all in Opus, as tones in G.711 without events.
    let mut world = World::new(&[Codec::Opus, Codec::Pcmu, Codec::Pcmu]);
    for index in 0..2 {
        world.leg(index).set_muted(true);
    }
    world.run(80, |_, _, _| 0.0);
    let quiet = world.leg(0).report().level;
    world.run(60, |_, _, t| sine(9_000.0, 700.0, t));
    assert_eq!(world.leg(0).report().level, quiet);
    assert!(world.leg(1).report().level.0 > -20.0);
    assert!(world.level(1, 700.0, 50) > -30.0 && world.level(2, 700.0, 50) < -60.0);
    world.leg(0).set_muted(false);
    world.run(20, |peer, _, t| {
        sine(if peer == 0 { 9_000.0 } else { 0.0 }, 700.0, t)
    });
    assert!(world.level(2, 700.0, 10) > -20.0);
}

#[test]
fn who_listens_by_opus_does_not_wait_for_what_is_encoded_for_talkers_alone() {
    let order = |codec: Codec| {
        let mut world = World::new(&[codec; 4]);
        world.run(60, |peer, _, t| {
            sine(if peer < 2 { 6_000.0 } else { 0.0 }, TONES[peer], t)
        });
        (world.order, world.hastened)
    };
    assert_eq!(order(Codec::Opus), (vec![2, 3, 0, 1], vec![2, 3]));
    // Where that takes no time the order is always the same: for even spacing.
    assert_eq!(order(Codec::G722), (vec![0, 1, 2, 3], vec![]));
}

#[test]
fn everybody_hears_the_others_and_not_himself() {
    let mut world = World::new(&[Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::Opus]);
    world.run(100, |peer, _, t| sine(6_000.0, TONES[peer], t));
    for (listener, tone) in TONES.into_iter().enumerate() {
        let own = world.level(listener, tone, 50);
        let others: Vec<_> = (0..4)
            .filter(|n| *n != listener)
            .map(|n| world.level(listener, TONES[n], 50))
            .collect();
        let loudest = others.iter().copied().fold(f64::MIN, f64::max);
        let quietest = others.iter().copied().fold(f64::MAX, f64::min);
        assert!(
            loudest - quietest <= 3.0,
            "listener {listener} hears {others:?}"
        );
        assert!(
            quietest - own >= 30.0,
            "listener {listener} hears himself at {own}, others at {others:?}"
        );
        let expected = 20.0 * (6_000.0_f64 / 32_768.0).log10();
        assert!(
            (quietest - expected).abs() < 1.5,
            "listener {listener}: {quietest} instead of {expected}"
        );
    }
}

#[test]
fn all_rates_hear_each_other_at_the_right_level() {
    for from in Codec::ALL {
        for to in Codec::ALL {
            let mut world = World::new(&[from, to]);
            world.run(80, |peer, _, t| {
                if peer == 0 {
                    sine(8_000.0, 1_000.0, t)
                } else {
                    0.0
                }
            });
            let heard = world.level(1, 1_000.0, 40);
            let expected = 20.0 * (8_000.0_f64 / 32_768.0).log10();
            assert!(
                (heard - expected).abs() <= 0.5,
                "{from:?} to {to:?}: {heard:.2} dB instead of {expected:.2}"
            );
        }
    }
}

#[test]
fn full_scale_speakers_never_wrap() {
    for speakers in [2, 4] {
        let mut world = World::new(&[Codec::Pcmu; 5]);
        // The same tone from each: the sums add up to twice and four times full scale.
        world.run(60, |peer, _, t| {
            if peer < speakers {
                sine(32_000.0, 400.0, t)
            } else {
                0.0
            }
        });
        let heard = &world.peers[4].heard;
        let tail = &heard[heard.len() - 20 * 160..];
        // A wrapped or clipped sine has energy beside its own frequency.
        let energy = tail.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>() / tail.len() as f64;
        let tone = 10.0_f64.powf(goertzel(tail, SampleRate::Hz8000, 400.0) / 20.0) * 32_768.0;
        let rest = 10.0 * ((energy - tone * tone / 2.0).max(1.0) / (tone * tone / 2.0)).log10();
        assert!(
            rest < -25.0,
            "{speakers} speakers: {rest} dB beside the tone"
        );
        assert!(tone > 29_000.0, "{speakers} speakers: amplitude {tone}");
    }
}

#[test]
fn given_packets_give_given_packets() {
    let mut world = World::new(&[Codec::Pcma, Codec::Pcma, Codec::Pcma]);
    let voice = |peer: usize, i: usize, _: f64| {
        if peer == 2 {
            0.0
        } else {
            (((i * 37 + peer * 11) % 400) as f64 - 200.0) * 40.0
        }
    };
    world.run(20, voice);
    for index in 0..3 {
        world.speak(index, &voice);
    }
    let tick = Tick {
        now: world.now(),
        number: 4 * world.frame,
        silence: &world.silence,
    };
    let mut sent = Sent::default();
    world
        .bridge
        .mix_tick(&tick, &mut world.legs, &mut world.desk, &mut sent);
    let speech: Vec<Vec<i16>> = (0..2)
        .map(|peer| world.leg(peer).speech().unwrap().to_vec())
        .collect();
    assert!(speech.iter().flatten().any(|sample| *sample != 0));
    assert_eq!(sent.0.len(), 3);
    let mut encoder = Encoder::new(Codec::Pcma).unwrap();
    for (listener, (slot, to, packet)) in sent.0.iter().enumerate() {
        assert_eq!(
            (slot.0 as usize, *to),
            (listener, world.peers[listener].address)
        );
        let others = || {
            speech
                .iter()
                .enumerate()
                .filter(|(peer, _)| *peer != listener)
        };
        let mix: Vec<i16> = (0..160)
            .map(|i| others().map(|(_, pcm)| pcm[i]).sum())
            .collect();
        let mut expected = vec![0x80, 8];
        expected.extend((world.frame as u16).to_be_bytes());
        expected.extend((world.frame as u32 * 160).to_be_bytes());
        expected.extend((listener as u32 + 1).to_be_bytes());
        expected.resize(12 + 400, 0);
        let length = encoder.encode(&mix, &mut expected[12..]).unwrap();
        expected.truncate(12 + length);
        assert_eq!(*packet, expected, "listener {listener}");
    }
}

#[test]
fn at_most_the_eight_loudest_are_heard() {
    let mut world = World::new(&[Codec::Pcmu; 12]);
    let hz = |peer: usize| 400.0 + 250.0 * peer as f64;
    // Ten talk, the later the louder; 10 listens, 11 too.
    world.run(100, |peer, _, t| {
        if peer < 10 {
            sine(800.0 + 200.0 * peer as f64, hz(peer), t)
        } else {
            0.0
        }
    });
    for peer in 0..10 {
        let heard = world.level(10, hz(peer), 50);
        let own = 20.0 * ((800.0 + 200.0 * peer as f64) / 32_768.0).log10();
        assert_eq!(
            peer >= 2,
            heard > own - 3.0,
            "speaker {peer} is heard at {heard}"
        );
    }
    assert!(world.desk.talkers.count <= TALKERS_MAX);
}

#[test]
fn who_is_muted_or_on_hold_is_not_heard() {
    let mut world = World::new(&[Codec::Pcmu; 4]);
    let talk = |peer: usize, _: usize, t: f64| {
        if peer < 3 {
            sine(6_000.0, TONES[peer], t)
        } else {
            0.0
        }
    };
    world.leg(0).set_muted(true);
    world.run(60, talk);
    assert!(world.level(3, TONES[0], 40) < -60.0);
    assert!(world.level(3, TONES[1], 40) > -20.0);
    assert!(
        world.level(0, TONES[1], 40) > -20.0,
        "the muted one hears the others"
    );
    world.leg(0).set_muted(false);
    world.run(60, talk);
    assert!(world.level(3, TONES[0], 40) > -20.0);
}

#[test]
fn a_whisper_is_heard_by_one_and_disturbs_nobody() {
    let mut world = World::new(&[Codec::Pcmu, Codec::G722, Codec::G722, Codec::G722]);
    let talk = |peer: usize, _: usize, t: f64| {
        if peer == 0 {
            sine(3_000.0, 500.0, t)
        } else {
            0.0
        }
    };
    world.run(40, talk);
    let whisper = rendition(Codec::G722, 50, |t| sine(3_000.0, 1_250.0, t));
    world.leg(1).play(Playlist {
        items: vec![whisper],
        token: 5,
    });
    world.run(49, talk);
    assert!(world.leg(1).poll_finished().is_none());
    world.run(1, talk);
    assert_eq!(world.leg(1).poll_finished().unwrap().token, 5);
    assert!(world.level(1, 1_250.0, 40) > -24.0 && world.level(1, 500.0, 40) > -24.0);
    assert!(world.level(2, 1_250.0, 40) < -60.0 && world.level(2, 500.0, 40) > -24.0);
    world.run(40, talk);
    assert!(world.level(1, 1_250.0, 30) < -60.0);
}

#[test]
fn an_opus_listener_hears_a_whisper_alone_and_no_encoder_of_his_own_afterwards() {
    let mut world = World::new(&[Codec::Pcmu, Codec::Opus, Codec::Opus]);
    let talk = |peer: usize, _: usize, t: f64| {
        if peer == 0 {
            sine(3_000.0, 500.0, t)
        } else {
            0.0
        }
    };
    world.run(40, talk);
    world.leg(1).play(Playlist {
        items: vec![rendition(Codec::Opus, 50, |t| sine(3_000.0, 1_250.0, t))],
        token: 5,
    });
    world.run(50, talk);
    assert_eq!(world.leg(1).poll_finished().unwrap().token, 5);
    assert!(world.level(1, 1_250.0, 40) > -24.0 && world.level(1, 500.0, 40) < -50.0);
    assert!(world.level(2, 1_250.0, 40) < -60.0 && world.level(2, 500.0, 40) > -24.0);
    world.run(1, talk);
    assert_eq!(world.leg(1).hears(), Hears::Shared);
    world.run(40, talk);
    assert!(world.level(1, 1_250.0, 30) < -60.0 && world.level(1, 500.0, 30) > -24.0);
}

#[test]
fn a_clip_is_heard_by_everybody_and_ends() {
    let mut world = World::new(&[Codec::Pcmu, Codec::Opus]);
    world.run(10, |_, _, _| 0.0);
    let clip = BridgeClip::new(vec![
        rendition(Codec::Pcmu, 30, |t| sine(5_000.0, 700.0, t)),
        rendition(Codec::Opus, 30, |t| sine(5_000.0, 700.0, t)),
    ]);
    assert!(world.bridge.play(Box::new(clip)).is_none());
    world.run(30, |_, _, _| 0.0);
    assert!(world.bridge.poll_finished().is_some());
    assert!(world.level(0, 700.0, 20) > -18.0 && world.level(1, 700.0, 20) > -18.0);
    world.run(30, |_, _, _| 0.0);
    assert!(world.level(0, 700.0, 20) < -60.0 && world.level(1, 700.0, 20) < -60.0);
}

#[test]
fn alone_in_a_bridge_one_hears_music_until_somebody_comes() {
    let mut world = World::new(&[Codec::Pcmu]);
    world.leg(0).set_music(Some(rendition(Codec::Pcmu, 25, |t| {
        sine(4_000.0, 600.0, t)
    })));
    world.run(60, |_, _, _| 0.0);
    assert!(world.level(0, 600.0, 40) > -20.0);
    world.bridge = {
        let mut bridge = bridge(2);
        bridge.join(LegSlot(0));
        bridge
    };
    world.add(Codec::Pcmu);
    world.run(40, |_, _, _| 0.0);
    assert!(world.level(0, 600.0, 30) < -60.0);
}

fn rendition(codec: Codec, frames: usize, sound: impl Fn(f64) -> f64) -> Arc<Rendition> {
    let rate = codec.sample_rate();
    let pcm: Vec<i16> = (0..frames * rate.frame_samples())
        .map(|i| sound(i as f64 / f64::from(rate.hz())) as i16)
        .collect();
    let mut encoder = Encoder::new(codec).unwrap();
    let (mut payload, mut frame_ends) = (Vec::new(), Vec::new());
    for frame in pcm.chunks(rate.frame_samples()) {
        let mut bytes = [0; 400];
        let length = encoder.encode(frame, &mut bytes).unwrap();
        payload.extend(&bytes[..length]);
        frame_ends.push(payload.len() as u32);
    }
    Arc::new(Rendition {
        codec,
        payload: payload.into(),
        frame_ends: frame_ends.into(),
        pcm: pcm.into(),
    })
}
