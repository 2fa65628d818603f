//! A thread isn't woken for ticks in which it has nothing to mix, unless others wait for what it receives.

use super::*;

/// Two are in one bridge for a second: the share of its ticks that each thread was awake for.
fn shares_awake(is_shared: bool) -> Vec<f64> {
    let first_port = if is_shared { 23_900 } else { 23_950 };
    let mut control = Control::start(EngineConfig {
        address: "127.0.0.1".parse().unwrap(),
        ports: first_port..=first_port + 49,
        threads: 2,
        legs_max: 4,
        shared: is_shared,
        ..EngineConfig::default()
    })
    .unwrap();
    let mut phones: Vec<_> = (0..2)
        .map(|_| {
            if is_shared {
                arrival::known_phone(&mut control)
            } else {
                arrival::phone(&mut control)
            }
        })
        .collect();
    for phone in &phones {
        control.join(phone.leg, BridgeId(1), false);
    }
    let mut listen = |control: &mut Control, frames: u32| {
        for frame in 0..frames {
            phones.iter_mut().for_each(Phone::speak);
            std::thread::sleep(2 * TEN_MS);
            control.pump();
            phones.iter_mut().for_each(|phone| phone.listen(frame));
        }
    };
    let ticks = |control: &Control| -> Vec<u64> {
        let health = control.health();
        health.iter().map(|it| it.ticks + it.skipped).collect()
    };
    // Until what was asked for is done.
    listen(&mut control, 15);
    let (before, begin) = (ticks(&control), now());
    listen(&mut control, 50);
    let passed = (now() - begin).as_secs_f64() / 0.005;
    let after = ticks(&control);
    control.shutdown();
    assert!(phones.iter().all(|phone| phone.packets.len() > 20));
    let shares = after.iter().zip(before);
    shares
        .map(|(after, before)| (after - before) as f64 / passed)
        .collect()
}

#[test]
fn ticks_that_mix_nothing_are_slept_through() {
    let shares = shares_awake(false);
    assert!(
        shares.iter().all(|share| (0.1..0.6).contains(share)),
        "{shares:?}"
    );
}

#[test]
fn who_receives_for_others_is_awake_for_every_tick() {
    let shares = shares_awake(true);
    assert!(shares.iter().any(|share| *share > 0.8), "{shares:?}");
}
