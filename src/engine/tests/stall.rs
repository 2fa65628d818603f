//! The machine stands still for a while: the sound goes on soon, without a burst.

use super::*;

/// Phones go on speaking into the sockets meanwhile.
fn stand_still(world: &mut World, frames: u32) {
    for _ in 0..frames {
        world.phones.iter_mut().for_each(Phone::speak);
        world.ticks += 4;
    }
}

#[test]
fn after_half_a_second_without_time_it_goes_on_within_one_and_sends_no_burst() {
    for is_shared in [false, true] {
        let first_port = if is_shared { 27_000 } else { 27_100 };
        let mut world = World::with(EngineConfig {
            shared: is_shared,
            ..World::config(1, first_port..=first_port + 99)
        });
        let tones = [500.0, 900.0, 1_300.0];
        for hz in tones {
            let phone = if is_shared {
                world.known_call(Some(hz))
            } else {
                world.call(Codec::Pcmu, Some(hz))
            };
            world.control.join(world.leg(phone), BridgeId(1), false);
        }
        world.run(150);
        let counts: Vec<_> = world.phones.iter().map(|p| p.packets.len()).collect();
        stand_still(&mut world, 25);
        world.run(110);
        for (phone, count) in counts.into_iter().enumerate() {
            let after = &world.phones[phone].packets[count..];
            let spacing: Vec<_> = after.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
            // The frame that was overdue comes at once, the next one at its own time.
            assert!((1..=5).contains(&spacing[0]), "{spacing:?}");
            assert!(
                spacing[1..].iter().all(|ticks| (3..=5).contains(ticks)),
                "{spacing:?}"
            );
            assert!((109..=112).contains(&after.len()), "{}", after.len());
            let own = tones[phone];
            for hz in tones.into_iter().filter(|hz| *hz != own) {
                assert!(world.phones[phone].level(hz, 50) > -20.0);
            }
        }
    }
}

impl World {
    /// The delay in the receiver of a phone's leg, by its newest report.
    fn delay_ms(&self, phone: usize) -> f64 {
        let reports = self.events.iter().rev().filter_map(|event| {
            if let EngineEvent::Report { leg, report } = event {
                (*leg == self.leg(phone)).then_some(report.buffer_ms)
            } else {
                None
            }
        });
        reports.take(1).map(f64::from).sum()
    }
}

#[test]
fn after_a_stall_of_ours_the_delay_is_what_it_was_within_a_second() {
    for (is_shared, frames) in [(false, 3), (true, 8), (false, 12), (true, 25), (false, 75)] {
        let first_port = 27_300 + 20 * frames as u16;
        let mut world = World::with(EngineConfig {
            shared: is_shared,
            media_timeout: Duration::from_secs(9),
            ..World::config(1, first_port..=first_port + 19)
        });
        for hz in [500.0, 900.0, 1_300.0] {
            let phone = if is_shared {
                world.known_call(Some(hz))
            } else {
                world.call(Codec::Pcmu, Some(hz))
            };
            world.control.join(world.leg(phone), BridgeId(1), false);
        }
        world.run(250);
        let before: Vec<_> = (0..3).map(|phone| world.delay_ms(phone)).collect();
        stand_still(&mut world, frames);
        world.events.clear();
        // The report of the first second that was whole.
        world.run(100);
        for (phone, before) in before.into_iter().enumerate() {
            let after = world.delay_ms(phone);
            assert!(
                (after - before).abs() <= 10.0,
                "{frames} frames: {after} ms, {before} before"
            );
        }
        for phone in &world.phones {
            let heard = phone.packets.windows(2);
            let number = |packet: &[u8]| u16::from_be_bytes([packet[2], packet[3]]);
            assert!(
                heard
                    .map(|pair| (&pair[0].1, &pair[1].1))
                    .all(|(first, second)| number(second) == number(first).wrapping_add(1))
            );
        }
    }
}
