//! Every packet time that an SDP may ask for, both ways, and keys at every clock.

use super::*;
use crate::media::dtmf::sender::KeySender;
use crate::units::{Key, Ptime};

/// `frames` of 20 ms of a tone, in packets of `ms`, and when each is sent: at its end.
fn packets(phone: &mut Phone, ms: usize, frames: usize, hz: f64) -> Vec<(usize, Vec<u8>)> {
    let whole: Vec<u8> = (0..frames)
        .flat_map(|_| phone.tone_packet(hz)[12..].to_vec())
        .collect();
    (phone.sequence, phone.timestamp) = (65_500, 0);
    let payload_type = phone.codec.static_payload_type().unwrap();
    let pieces = whole.chunks_exact(ms * 8).enumerate();
    pieces
        .map(|(n, payload)| {
            let mut packet = phone.header(payload_type, (n * ms * 8) as u32);
            packet.extend(payload);
            ((n + 1) * ms, packet)
        })
        .collect()
}

#[test]
fn tones_come_through_both_ways_at_every_packet_time() {
    for codec in [Codec::Pcmu, Codec::Pcma, Codec::G722] {
        for ms in [10, 20, 30, 40, 60] {
            let mut world = World::new(1, 27_400..=27_499);
            let (a, b) = (
                world.call(codec, None),
                world.call(Codec::Pcmu, Some(900.0)),
            );
            let parameters = MediaParameters {
                ptime: Ptime::nearest(ms),
                ..world.phones[a].parameters(Direction::SendRecv)
            };
            let leg = world.leg(a);
            world.control.connect_leg(leg, &parameters).unwrap();
            for phone in [a, b] {
                world.control.join(world.leg(phone), BridgeId(1), false);
            }
            let ms = ms as usize;
            let mut sent = packets(&mut world.phones[a], ms, 120, 500.0)
                .into_iter()
                .peekable();
            for tick in 0..480 {
                while let Some((_, packet)) = sent.next_if(|(at, _)| *at <= tick * 5) {
                    let phone = &world.phones[a];
                    phone.rtp.send_to(&packet, phone.to).unwrap();
                }
                world.run_tick();
            }
            let what = format!("{codec:?}, {ms} ms");
            assert!(world.phones[b].level(500.0, 60) > -18.0, "{what}");
            let packets = &world.phones[a].packets;
            assert!(packets.len() >= 2_000 / ms, "{what}: {}", packets.len());
            let time = |p: &[u8]| u32::from_be_bytes([p[4], p[5], p[6], p[7]]);
            for pair in packets.windows(2).skip(2) {
                assert_eq!(pair[0].1.len() - 12, ms * 8, "{what}");
                let step = time(&pair[1].1).wrapping_sub(time(&pair[0].1));
                assert_eq!(step as usize, ms * 8, "{what}");
            }
            let heard = world.phones[a].heard();
            let rate = codec.sample_rate();
            let last = &heard[heard.len() - 60 * rate.frame_samples()..];
            assert!(tone_level(last, rate, 900.0) > -18.0, "{what}");
        }
    }
}

#[test]
fn keys_count_once_at_every_clock_beside_every_codec() {
    for codec in [Codec::Pcmu, Codec::G722, Codec::Opus] {
        for clock in [8_000, 16_000, 48_000] {
            let mut world = World::new(1, 27_500..=27_599);
            let a = world.call(codec, Some(500.0));
            let parameters = MediaParameters {
                telephone_event: Some(TelephoneEvent {
                    payload_type: 101,
                    clock,
                }),
                ..world.phones[a].parameters(Direction::SendRecv)
            };
            let leg = world.leg(a);
            world.control.connect_leg(leg, &parameters).unwrap();
            world.run(20);
            for event in [1, 11, 0, 9] {
                let key = Key::from_event(event).unwrap();
                let length = Duration::from_millis(100);
                let mut press = KeySender::new(key, 101, clock, length);
                let begun = world.phones[a].timestamp;
                world.phones[a].hz = None;
                while let Some(packet) = press.next_packet() {
                    let phone = &mut world.phones[a];
                    let mut bytes = phone.header(101, begun);
                    bytes[1] |= if packet.marker { 0x80 } else { 0 };
                    bytes.extend(packet.payload);
                    phone.rtp.send_to(&bytes, phone.to).unwrap();
                    world.run(1);
                    world.phones[a].timestamp += codec.rtp_clock() / 50;
                }
                world.phones[a].hz = Some(500.0);
                world.run(15);
            }
            assert_eq!(keys(&world), "1#09", "{codec:?} at {clock}");
        }
    }
}

#[test]
fn a_key_whose_last_packets_come_after_a_change_of_codec_counts_once() {
    let mut world = World::new(1, 27_600..=27_699);
    let a = world.call(Codec::Pcmu, Some(500.0));
    let parameters = MediaParameters {
        telephone_event: Some(TelephoneEvent {
            payload_type: 101,
            clock: 8_000,
        }),
        ..world.phones[a].parameters(Direction::SendRecv)
    };
    let leg = world.leg(a);
    world.control.connect_leg(leg, &parameters).unwrap();
    world.run(20);
    world.phones[a].hz = None;
    let begun = world.phones[a].timestamp;
    let mut press = KeySender::new(Key::HASH, 101, 8_000, Duration::from_millis(100));
    let mut ends = 0;
    while let Some(packet) = press.next_packet() {
        ends += u8::from(packet.payload[1] & 0x80 != 0);
        let phone = &mut world.phones[a];
        let mut bytes = phone.header(101, begun);
        bytes.extend(packet.payload);
        phone.rtp.send_to(&bytes, phone.to).unwrap();
        world.run(1);
        if ends == 1 {
            let other = MediaParameters {
                codec: Codec::G722,
                ..parameters
            };
            world.control.connect_leg(leg, &other).unwrap();
            world.run(1);
        }
    }
    assert!(ends > 1);
    world.run(15);
    assert_eq!(keys(&world), "#");
}

fn keys(world: &World) -> String {
    let key = |event: &EngineEvent| {
        if let EngineEvent::Key { key, .. } = event {
            Some(key.as_char())
        } else {
            None
        }
    };
    world.events.iter().filter_map(key).collect()
}
