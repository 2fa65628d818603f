use super::*;
use crate::media::seeded;

const PTIME: u32 = 160;

/// A buffer for G.711 and a pushed clock.
pub(super) struct Scene {
    pub(super) buffer: JitterBuffer,
    pub(super) now: Instant,
}

impl Scene {
    pub(super) fn new() -> Self {
        let config = JitterConfig {
            clock: 8000,
            delay_max: Duration::from_millis(200),
            packets_max: 32,
            payload_max: 480,
            bytes_max: 32 * 160,
        };
        Self {
            buffer: JitterBuffer::new(config),
            now: seeded::start(),
        }
    }

    pub(super) fn insert(&mut self, number: u64) -> Inserted {
        self.insert_at(number, number as u32 * PTIME)
    }

    fn insert_at(&mut self, number: u64, timestamp: u32) -> Inserted {
        self.insert_of(number, timestamp, PTIME)
    }

    fn insert_of(&mut self, number: u64, timestamp: u32, ticks: u32) -> Inserted {
        self.buffer.insert(
            self.now,
            ExtSeqNo(number),
            RtpTicks(timestamp),
            ticks,
            None,
            &[number as u8; 160],
        )
    }

    /// Pulls one frame's worth, fills in what is missing, and says what it was.
    pub(super) fn pull(&mut self) -> Vec<Next> {
        self.buffer.skip(0);
        let (mut staged, mut all) = (0, Vec::new());
        while staged < PTIME {
            let (next, _) = self.buffer.next(self.now, staged);
            all.push(next);
            let ticks = match next {
                Next::Packet { slot, skip } => self.buffer.slots[slot].ticks - skip,
                Next::Missing { ticks, .. } | Next::Pause { ticks } => {
                    let ticks = ticks.unwrap_or(PTIME).min(PTIME - staged);
                    self.buffer.advance(ticks);
                    ticks
                }
                Next::Stopped => PTIME,
            };
            staged += ticks;
        }
        self.now += Duration::from_millis(20);
        all
    }

    /// The packet that fills the next frame, by the byte its payload is made of.
    pub(super) fn played(&mut self) -> Option<u8> {
        match self.pull()[..] {
            [Next::Packet { slot, skip: 0 }] => self.buffer.payload(slot).first().copied(),
            _ => None,
        }
    }
}

#[test]
fn packets_come_out_in_order_without_added_delay() {
    let mut scene = Scene::new();
    for number in 0..100 {
        assert_eq!(scene.insert(number), Inserted::Stored);
        assert_eq!(scene.played(), Some(number as u8));
    }
    assert_eq!(scene.buffer.delay(), Duration::ZERO);
}

#[test]
fn a_swapped_pair_is_put_in_order_where_there_is_time() {
    let mut scene = Scene::new();
    scene.insert(1);
    scene.insert(0);
    scene.insert(2);
    let order: Vec<u8> = (0..5).filter_map(|_| scene.played()).collect();
    assert_eq!(order, [0, 1, 2]);
}

#[test]
fn a_lost_packet_is_missing_for_its_length_and_the_next_one_is_named() {
    let mut scene = Scene::new();
    scene.insert(0);
    scene.insert(2);
    assert_eq!(scene.played(), Some(0));
    let missing = scene.pull();
    assert!(
        matches!(
            missing[..],
            [Next::Missing {
                ticks: Some(PTIME),
                next: Some(_)
            }]
        ),
        "{missing:?}"
    );
    assert_eq!(scene.played(), Some(2));
}

#[test]
fn what_was_made_good_from_a_copy_is_not_played_again_when_it_comes_after_all() {
    let mut scene = Scene::new();
    scene.insert(0);
    scene.insert(2);
    assert_eq!(scene.played(), Some(0));
    let (next, _) = scene.buffer.next(scene.now, 0);
    let Next::Missing {
        ticks: Some(ticks),
        next: Some(slot),
    } = next
    else {
        panic!("{next:?}");
    };
    scene.buffer.made_good(ticks, slot);
    scene.now += Duration::from_millis(5);
    assert_eq!(scene.insert(1), Inserted::Late);
    scene.now += Duration::from_millis(15);
    assert_eq!(scene.played(), Some(2));
    assert!(!scene.buffer.pauses_unsaid());
}

#[test]
fn what_had_to_go_for_others_is_missing_and_no_pause() {
    let mut scene = Scene::new();
    scene.insert_of(0, 0, 8);
    let (next, _) = scene.buffer.next(scene.now, 0);
    assert!(matches!(next, Next::Packet { .. }), "{next:?}");
    for number in 1..=32 {
        let inserted = scene.insert_of(number, number as u32 * 8, 8);
        assert_eq!(inserted, Inserted::Stored);
    }
    assert_eq!(scene.insert_of(33, 33 * 8, 8), Inserted::Overflow);
    let (next, _) = scene.buffer.next(scene.now, 0);
    assert!(matches!(next, Next::Missing { .. }), "{next:?}");
}

#[test]
fn a_gap_in_timestamps_alone_is_a_pause() {
    let mut scene = Scene::new();
    scene.insert_at(0, 0);
    scene.insert_at(1, 3 * PTIME);
    assert_eq!(scene.played(), Some(0));
    assert_eq!(
        scene.pull(),
        [Next::Pause {
            ticks: Some(2 * PTIME)
        }]
    );
    assert_eq!(scene.pull(), [Next::Pause { ticks: Some(PTIME) }]);
    assert_eq!(scene.played(), Some(1));
}

#[test]
fn keys_in_between_are_no_loss() {
    let mut scene = Scene::new();
    scene.insert(0);
    assert_eq!(scene.played(), Some(0));
    for number in 1..6 {
        scene.buffer.note_other(ExtSeqNo(number));
        assert_eq!(scene.pull(), [Next::Pause { ticks: None }]);
    }
    scene.insert(6);
    assert_eq!(scene.played(), Some(6));
}

#[test]
fn a_late_packet_is_played_after_all_when_there_is_nothing_else() {
    let mut scene = Scene::new();
    scene.insert(0);
    assert_eq!(scene.played(), Some(0));
    assert_eq!(
        scene.pull(),
        [Next::Missing {
            ticks: None,
            next: None
        }]
    );
    assert_eq!(scene.insert(1), Inserted::Stored);
    assert_eq!(scene.played(), Some(1));
    assert_eq!(scene.buffer.delay(), Duration::from_millis(20));
}

#[test]
fn a_late_packet_whose_successor_is_there_is_dropped() {
    let mut scene = Scene::new();
    for number in 0..150 {
        scene.insert(number);
        scene.played();
    }
    scene.pull();
    scene.insert(150);
    scene.insert(151);
    let (next, dropped) = scene.buffer.next(scene.now, 0);
    assert_eq!(dropped, 1);
    assert!(matches!(next, Next::Packet { slot, skip: 0 } if scene.buffer.payload(slot)[0] == 151));
    assert_eq!(scene.insert(149), Inserted::Late);
}

#[test]
fn a_stall_is_followed_by_all_that_it_held_back_up_to_the_longest_delay() {
    let mut scene = Scene::new();
    for number in 0..50 {
        scene.insert(number);
        scene.played();
    }
    for _ in 0..7 {
        scene.pull();
    }
    for number in 50..58 {
        scene.insert(number);
    }
    for number in 50..58 {
        assert_eq!(scene.played(), Some(number));
    }
}

#[test]
fn a_backlog_beyond_the_longest_delay_is_skipped() {
    let mut scene = Scene::new();
    scene.insert(0);
    assert_eq!(scene.played(), Some(0));
    for number in 1..=30 {
        scene.insert(number);
    }
    let (_, dropped) = scene.buffer.next(scene.now, 0);
    assert!(dropped >= 20, "{dropped}");
    assert!(scene.buffer.len() <= 10);
}

#[test]
fn a_full_buffer_drops_the_oldest() {
    let mut scene = Scene::new();
    for number in 0..32 {
        assert_eq!(scene.insert(number), Inserted::Stored);
    }
    assert_eq!(scene.insert(32), Inserted::Overflow);
    assert_eq!(scene.buffer.len(), 32);
}

#[test]
fn payloads_of_all_lengths_come_out_as_they_went_in() {
    let mut random = seeded::Random::new(4);
    let mut scene = Scene::new();
    let (mut played, mut late, mut most) = (0, 0, 0);
    for frame in 0..2_000_u64 {
        // Two packets of 10 ms, of any length, the second one often first.
        let swapped = random.below(2) as u64;
        for number in [2 * frame + swapped, 2 * frame + 1 - swapped] {
            let payload = vec![number as u8; 1 + (number * 7_919 % 480) as usize];
            let timestamp = RtpTicks(number as u32 * 80);
            let sequence = ExtSeqNo(number + 1_000);
            let taken = scene
                .buffer
                .insert(scene.now, sequence, timestamp, 80, None, &payload);
            assert_ne!(taken, Inserted::Misfit);
        }
        most = most.max(scene.buffer.len());
        scene.now += Duration::from_millis(20);
        if frame % 40 < 8 {
            continue;
        }
        let mut staged = 0;
        while staged < 160 {
            let (next, dropped) = scene.buffer.next(scene.now, staged);
            late += dropped;
            let Next::Packet { slot, skip } = next else {
                scene.buffer.advance(160 - staged);
                break;
            };
            let payload = scene.buffer.payload(slot);
            let number = u64::from(payload[0]);
            assert!(payload.iter().all(|byte| u64::from(*byte) == number));
            assert!(
                (0..20).any(|n| 1 + ((number + 256 * n) * 7_919 % 480) as usize == payload.len())
            );
            staged += 80 - skip;
            played += 1;
        }
    }
    assert!(
        played > 2_000 && most > 10,
        "{played} played, {late} late, {most} held"
    );
}

#[test]
fn a_buffer_full_of_bytes_drops_the_oldest_too() {
    let mut scene = Scene::new();
    for number in 0..10 {
        let taken = scene.buffer.insert(
            scene.now,
            ExtSeqNo(number),
            RtpTicks(number as u32 * 480),
            480,
            None,
            &[number as u8; 480],
        );
        assert_eq!(taken, Inserted::Stored, "{number}");
    }
    let (number, timestamp) = (ExtSeqNo(10), RtpTicks(4_800));
    let taken = scene
        .buffer
        .insert(scene.now, number, timestamp, 480, None, &[10; 480]);
    assert_eq!((taken, scene.buffer.len()), (Inserted::Overflow, 10));
    for n in 0..10 {
        let (slot, _) = scene.buffer.held(n).unwrap();
        assert_eq!(scene.buffer.payload(slot), [n as u8 + 1; 480]);
    }
}

#[test]
fn what_does_not_fit_a_slot_is_refused() {
    let mut scene = Scene::new();
    let now = scene.now;
    assert_eq!(
        scene
            .buffer
            .insert(now, ExtSeqNo(0), RtpTicks(0), 481, None, &[0; 481]),
        Inserted::Misfit
    );
    assert_eq!(
        scene
            .buffer
            .insert(now, ExtSeqNo(0), RtpTicks(0), 160, None, &[]),
        Inserted::Misfit
    );
}

#[test]
fn a_timestamp_far_from_the_clock_is_not_plausible() {
    let mut scene = Scene::new();
    assert!(scene.buffer.is_plausible(scene.now, RtpTicks(77)));
    for number in 0..10 {
        scene.insert(number);
        scene.played();
    }
    let now = scene.now;
    assert!(scene.buffer.is_plausible(now, RtpTicks(10 * PTIME)));
    for jump in [
        0x8000_0000_u32,
        0x7FFF_FFFF,
        16_000,
        16_000_u32.wrapping_neg(),
    ] {
        assert!(
            !scene
                .buffer
                .is_plausible(now, RtpTicks((10 * PTIME).wrapping_add(jump))),
            "{jump}"
        );
    }
}

#[test]
fn a_stream_that_stopped_begins_anew_without_a_gap() {
    let mut scene = Scene::new();
    scene.insert(0);
    scene.played();
    for _ in 0..30 {
        scene.pull();
    }
    assert_eq!(scene.pull(), [Next::Stopped]);
    scene.insert_at(1, 400 * PTIME);
    assert_eq!(scene.played(), Some(1));
}

/// A phone that wakes up every 4 ms sends every other packet of 10 ms two milliseconds late.
#[test]
fn whose_every_other_packet_is_slower_is_heard_whole_wherever_in_the_frame_they_come() {
    for slower in (0..6_000).step_by(170) {
        for phase in (0..20_000).step_by(1_000) {
            let missing = missing_in_ten_seconds(slower, phase);
            assert!(missing <= 10, "{slower} us, {phase} us: {missing}");
        }
    }
}

/// Of packets of 10 ms, each other one so much slower, pulled so long after the first: holes from the third second on.
fn missing_in_ten_seconds(slower: u64, phase: u64) -> usize {
    let mut scene = Scene::new();
    let begin = scene.now;
    let (mut number, mut missing) = (0, 0);
    for frame in 0..650 {
        let pulled = 20_000 * frame + phase;
        while 10_000 * number + slower * (number % 2) <= pulled {
            scene.now = begin + Duration::from_micros(10_000 * number + slower * (number % 2));
            scene.insert_of(number, number as u32 * PTIME / 2, PTIME / 2);
            number += 1;
        }
        scene.now = begin + Duration::from_micros(pulled);
        let holes = scene.pull().into_iter();
        let holes = holes
            .filter(|next| matches!(next, Next::Missing { .. }))
            .count();
        missing += if frame >= 150 { holes } else { 0 };
    }
    missing
}
