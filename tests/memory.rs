//! What a leg takes of the system's memory, and that it comes back after the calls: alone in its process, so
//! that nothing else is counted.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![cfg(target_os = "linux")]

use std::thread::sleep;
use std::time::{Duration, Instant};

use voicebridge::engine::{Control, EngineConfig};
use voicebridge::media::codec::Codec;
use voicebridge::media::parameters::Direction;
use voicebridge::units::BridgeId;

mod phones;
use phones::Phone;

struct Scene {
    control: Control,
    /// Of a faster clock, for what the control side does now and then.
    now: Instant,
}

impl Scene {
    /// For so many times 20 ms.
    fn run(&mut self, times: u32, phones: &mut [Phone]) {
        for _ in 0..times {
            phones.iter_mut().for_each(Phone::speak);
            sleep(Duration::from_millis(20));
            self.control.pump();
            while self.control.poll_event().is_some() {}
        }
    }

    fn watch(&mut self) {
        self.now += Duration::from_secs(2);
        self.control.watch_load(self.now);
    }

    fn call(&mut self, codec: Codec, number: usize) -> Phone {
        let opened = self.control.open_leg().unwrap();
        let phone = Phone::new(opened.leg, codec, opened.rtp, number < 2);
        let parameters = phone.parameters(Direction::SendRecv);
        self.control.connect_leg(opened.leg, &parameters).unwrap();
        self.control.join(opened.leg, BridgeId(1), false);
        phone
    }

    /// Calls, talks, hangs up; returns KiB per leg while they lasted, and what is left of them at the end.
    fn calls(&mut self, codec: Codec, count: usize) -> (f64, f64) {
        let before = resident_kib();
        self.watch();
        let mut phones: Vec<Phone> = (0..count).map(|n| self.call(codec, n)).collect();
        // Phones of a test have encoders as well.
        let phones_kib = phones.len() as f64 * if codec == Codec::Opus { 32.0 } else { 1.0 };
        self.run(50, &mut phones);
        self.watch();
        assert_eq!(self.control.legs(), count);
        let during = resident_kib() - before - phones_kib;
        for phone in &phones {
            self.control.close_leg(phone.leg);
        }
        drop(phones);
        self.run(10, &mut []);
        assert_eq!(self.control.legs(), 0);
        self.watch();
        self.watch();
        sleep(Duration::from_millis(300));
        let per_leg = |kib: f64| kib / count as f64;
        (per_leg(during), per_leg(resident_kib() - before))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a beginning; from there on it is pushed"
)]
fn now() -> Instant {
    Instant::now()
}

/// Without what is only mapped, as the program itself is.
fn resident_kib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.split_whitespace().next())
        .and_then(|kib| kib.parse().ok())
        .unwrap()
}

#[test]
fn a_leg_takes_no_more_than_it_may_and_all_of_it_comes_back() {
    let control = Control::start(EngineConfig {
        address: "127.0.0.1".parse().unwrap(),
        ports: 24_000..=25_999,
        threads: 1,
        ..EngineConfig::default()
    });
    let mut scene = Scene {
        control: control.unwrap(),
        now: now(),
    };
    // What is made but once stays.
    scene.calls(Codec::Pcmu, 40);
    scene.calls(Codec::Opus, 40);
    for (codec, most) in [(Codec::Pcmu, 48.0), (Codec::Opus, 96.0)] {
        let (during, left) = scene.calls(codec, 200);
        assert!(during <= most, "{codec:?}: {during:.1} KiB per leg");
        assert!(
            left <= during / 8.0,
            "{codec:?}: {left:.1} KiB left of {during:.1}"
        );
    }
}
