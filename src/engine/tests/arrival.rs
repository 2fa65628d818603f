//! A packet counts from when it came, not from when its thread looked.

use super::*;

#[test]
fn what_waits_in_a_socket_for_the_next_tick_is_no_jitter() {
    for is_shared in [false, true] {
        let config = EngineConfig {
            address: "127.0.0.1".parse().unwrap(),
            ports: if is_shared {
                23_800..=23_849
            } else {
                23_850..=23_899
            },
            threads: 1,
            legs_max: 4,
            shared: is_shared,
            ..EngineConfig::default()
        };
        let mut control = Control::start(config).unwrap();
        let mut phone = if is_shared {
            known_phone(&mut control)
        } else {
            phone(&mut control)
        };
        let (begin, mut jitter) = (now(), Vec::new());
        for _ in 0..180 {
            // Against the ticks at all places; the timestamp says exactly when.
            std::thread::sleep(Duration::from_millis(13));
            let timestamp = (now() - begin).as_micros() as u32 / 125;
            let mut packet = phone.header(0, timestamp);
            packet.extend([0x7F; 104]);
            phone.rtp.send_to(&packet, phone.to).unwrap();
            control.pump();
            let events = std::iter::from_fn(|| control.poll_event());
            for event in events {
                if let EngineEvent::Report { report, .. } = event
                    && report.received > 50
                {
                    jitter.push(report.jitter_ms);
                }
            }
        }
        control.shutdown();
        let least = jitter.iter().copied().fold(f32::INFINITY, f32::min);
        // What waiting for the next tick would add is 1.7 ms on average and more.
        assert!(least < 0.8, "shared {is_shared}: {jitter:?} ms");
    }
}

pub(super) fn phone(control: &mut Control) -> Phone {
    let opened = control.open_leg().unwrap();
    let phone = Phone::new(opened.leg, Codec::Pcmu, opened.rtp, None);
    let parameters = phone.parameters(Direction::SendRecv);
    control.connect_leg(opened.leg, &parameters).unwrap();
    phone
}

pub(super) fn known_phone(control: &mut Control) -> Phone {
    let mut phone = Phone::new(LegId(0), Codec::Pcmu, "127.0.0.1:9".parse().unwrap(), None);
    let parameters = phone.parameters(Direction::SendRecv);
    let peer = KnownPeer::of(&parameters).unwrap();
    let opened = control.open_leg_for(peer).unwrap();
    control.connect_leg(opened.leg, &parameters).unwrap();
    (phone.leg, phone.to) = (opened.leg, opened.rtp);
    phone
}
