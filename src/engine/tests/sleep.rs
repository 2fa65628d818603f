//! A thread isn't woken for ticks in which it has nothing to mix, unless others wait for what it receives or there
//! is more of it than calls send.

use super::*;

/// Two are in one bridge for a second, while a stranger sends one of them so many packets in a frame: how often each
/// thread was woken, in ticks.
fn shares_awake(is_shared: bool, strangers: usize) -> Vec<f64> {
    let first_port = 23_900 + if is_shared { 30 } else { 0 } + if strangers > 0 { 60 } else { 0 };
    let mut control = Control::start(EngineConfig {
        address: "127.0.0.1".parse().unwrap(),
        ports: first_port..=first_port + 29,
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
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut listen = |control: &mut Control, frames: u32| {
        for frame in 0..frames {
            for _ in 0..strangers {
                stranger.send_to(&[0x80; 172], phones[0].to).unwrap();
            }
            std::thread::sleep(2 * TEN_MS);
            control.pump();
            phones.iter_mut().for_each(|phone| phone.listen(frame));
        }
    };
    let wakes = |control: &Control| -> Vec<u64> {
        let health = control.health();
        health.iter().map(|it| it.lateness.iter().sum()).collect()
    };
    // Until what was asked for is done.
    listen(&mut control, 15);
    let (before, begin) = (wakes(&control), now());
    listen(&mut control, 50);
    let passed = (now() - begin).as_secs_f64() / 0.005;
    let after = wakes(&control);
    control.shutdown();
    assert!(phones.iter().all(|phone| phone.packets.len() > 20));
    let shares = after.iter().zip(before);
    shares
        .map(|(after, before)| (after - before) as f64 / passed)
        .collect()
}

#[test]
fn ticks_that_mix_nothing_are_slept_through() {
    let shares = shares_awake(false, 0);
    assert!(
        shares.iter().all(|share| (0.1..0.35).contains(share)),
        "{shares:?}"
    );
}

#[test]
fn who_receives_for_others_is_awake_for_every_tick() {
    let shares = shares_awake(true, 0);
    assert!(shares.iter().all(|share| *share > 0.6), "{shares:?}");
}

#[test]
fn who_is_flooded_is_awake_for_every_tick() {
    let shares = shares_awake(false, 200);
    assert!(shares.iter().any(|share| *share > 0.6), "{shares:?}");
}
