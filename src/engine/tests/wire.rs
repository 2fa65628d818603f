//! Jitter, loss and a clock that is off, from socket to socket: when a word leaves a talker's phone, and
//! when it is in a packet to a listener's.

use super::*;

/// What is between the talker's phone and us.
#[derive(Debug, Clone, Copy)]
struct Way {
    jitter_ms: f64,
    loss: f64,
    skew_ppm: f64,
}

/// What came of it.
struct Figures {
    delay_p50: f64,
    delay_p95: f64,
    /// The median of the last third of the delays less that of the first.
    growth: f64,
    /// Packets that came and were too late, of all sent.
    late: f64,
}

const HZ: f64 = 500.0;
/// Of each second, the first 300 ms are silence.
const SILENT_FRAMES: usize = 15;

impl Way {
    /// When the `n`th packet's last sample is spoken, by our clock in ms.
    fn spoken(self, n: usize) -> f64 {
        (n as f64 + 1.0) * 20.0 / (1.0 + self.skew_ppm / 1e6)
    }

    /// A talker speaks in bursts for so many seconds; somebody listens.
    fn measure(self, seconds: usize) -> Figures {
        let mut world = World::new(1, 27_600..=27_699);
        let (talker, listener) = (world.call(Codec::Pcmu, None), world.call(Codec::Pcmu, None));
        for phone in [talker, listener] {
            world.control.join(world.leg(phone), BridgeId(1), false);
        }
        world.run(5);
        let begun = world.ticks;
        let now_ms = |ticks: u32| f64::from(ticks - begun) * 5.0;
        let mut random = Random::new(3);
        let mut under_way: Vec<(f64, Vec<u8>)> = Vec::new();
        let (mut next, mut lost_first) = (0, vec![false; seconds + 1]);
        while next < seconds * 50 || !under_way.is_empty() {
            let now = now_ms(world.ticks);
            while next < seconds * 50 && self.spoken(next) <= now {
                let is_tone = next % 50 >= SILENT_FRAMES;
                let hz = if is_tone { HZ } else { 0.0 };
                let packet = world.phones[talker].tone_packet(hz);
                let delay = f64::from(random.unit()) * self.jitter_ms;
                if f64::from(random.unit()) >= self.loss {
                    under_way.push((self.spoken(next) + delay, packet));
                } else if next % 50 == SILENT_FRAMES {
                    lost_first[next / 50] = true;
                }
                next += 1;
            }
            under_way.retain(|(at, packet)| {
                let phone = &world.phones[talker];
                let arrives = *at <= now;
                if arrives {
                    phone.rtp.send_to(packet, phone.to).unwrap();
                }
                !arrives
            });
            world.run_tick();
        }
        world.run(55);
        let delays = (5..seconds)
            .filter(|second| !lost_first[*second])
            .filter_map(|second| {
                let left = self.spoken(second * 50 + SILENT_FRAMES);
                Some(heard_after(&world.phones[listener], begun, left)? - left)
            });
        self.figures(delays.collect(), late(&world, talker), seconds * 50)
    }

    fn figures(self, delays: Vec<f64>, late: u64, sent: usize) -> Figures {
        let percentile = |of: &[f64], percent: usize| {
            let mut sorted = of.to_vec();
            sorted.sort_by(f64::total_cmp);
            sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
        };
        let third = delays.len() / 3;
        let last = percentile(&delays[2 * third..], 50);
        Figures {
            delay_p50: percentile(&delays, 50),
            delay_p95: percentile(&delays, 95),
            growth: last - percentile(&delays[..third], 50),
            late: late as f64 / sent as f64,
        }
    }
}

/// When the phone is sent the beginning of a tone that left somebody at `left`, in ms from `begun` on.
fn heard_after(phone: &Phone, begun: u32, left: f64) -> Option<f64> {
    let at = |tick: u32| f64::from(tick) * 5.0 - f64::from(begun) * 5.0;
    let from = phone
        .packets
        .partition_point(|(tick, _)| at(*tick) < left - 100.0);
    let mut decoder = Decoder::new(phone.codec).unwrap();
    phone.packets[from..]
        .iter()
        .take(30)
        .find_map(|(tick, packet)| {
            let mut pcm = [0; 5_760];
            let length = decoder.decode(&packet[12..], &mut pcm).unwrap();
            let onset = pcm[..length].iter().position(|x| x.abs() > 1_500)?;
            Some(at(*tick) + onset as f64 / 8.0)
        })
}

fn late(world: &World, phone: usize) -> u64 {
    let leg = world.leg(phone);
    let told = world.events.iter().rev().find_map(|event| {
        if let EngineEvent::Report { leg: of, report } = event
            && *of == leg
        {
            Some(report.late)
        } else {
            None
        }
    });
    told.unwrap()
}

fn judge(way: Way, seconds: usize) {
    let f = way.measure(seconds);
    let what = format!(
        "{way:?}: delay p50 {:.1} p95 {:.1} ms, grows by {:.1} ms, {:.2} % late",
        f.delay_p50,
        f.delay_p95,
        f.growth,
        f.late * 100.0
    );
    eprintln!("{what}");
    assert!(f.late <= 0.003, "{what}");
    assert!(f.growth.abs() <= 10.0, "{what}");
    // A packet waits for its frame, and that for its place in the 20 ms.
    assert!(f.delay_p95 <= way.jitter_ms + 35.0, "{what}");
}

const WAYS: [Way; 5] = [
    way(0.0, 0.0, 0.0),
    way(40.0, 0.02, 0.0),
    way(60.0, 0.0, 0.0),
    way(0.0, 0.0, 2_000.0),
    way(0.0, 0.0, -2_000.0),
];

const fn way(jitter_ms: f64, loss: f64, skew_ppm: f64) -> Way {
    Way {
        jitter_ms,
        loss,
        skew_ppm,
    }
}

#[test]
fn jitter_loss_and_skew_on_the_wire_delay_a_word_no_more_than_they_must() {
    for way in WAYS {
        judge(way, 40);
    }
}

#[test]
#[ignore = "a measurement: ten minutes of each"]
fn ten_minutes_of_jitter_loss_and_skew_on_the_wire() {
    for way in WAYS {
        judge(way, 600);
    }
}
