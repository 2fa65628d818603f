//! Keys by RFC 4733: many packets, some of them lost or late, become one press each.
#![deny(clippy::indexing_slicing)]

use std::time::{Duration, Instant};

use super::KeyPress;
use crate::units::{Key, RtpTicks};

/// Puts presses together from telephone-event packets.
#[derive(Debug)]
pub struct EventReceiver {
    clock: u32,
    current: Option<Press>,
    /// The last presses that are over, so that late and repeated packets don't count again.
    over: [Option<Over>; OVER],
}

impl EventReceiver {
    /// `clock` is the RTP clock of the telephone-event payload type.
    #[must_use]
    pub const fn new(clock: u32) -> Self {
        Self {
            clock,
            current: None,
            over: [None; OVER],
        }
    }

    /// Takes one telephone-event payload; returns the press that it ends. Malformed ones and events
    /// that are no keys (RFC 4733 section 3: tones, hook flash) end and begin nothing.
    pub fn handle_event(
        &mut self,
        now: Instant,
        timestamp: RtpTicks,
        marker: bool,
        payload: &[u8],
    ) -> Option<KeyPress> {
        let event = Event::parse(payload)?;
        if let Some(current) = self
            .current
            .as_mut()
            .filter(|press| press.is_same(timestamp, marker, event, self.clock))
        {
            current.extend(now, timestamp, event);
            return if event.end { self.finish(now) } else { None };
        }
        if self.is_over(now, timestamp, event.key) {
            return None;
        }
        let finished = self.finish(now);
        self.current = Some(Press::new(now, timestamp, event));
        // An end without its beginning is still one press. With another one just finished there is
        // no place to report both: it waits for its repetition or for `poll`.
        if event.end && finished.is_none() {
            self.finish(now)
        } else {
            finished
        }
    }

    /// Ends a press whose end was lost; call it every frame.
    pub fn poll(&mut self, now: Instant) -> Option<KeyPress> {
        let last = self.current.as_ref()?.last_heard;
        if now.saturating_duration_since(last) > END_LOST_AFTER {
            self.finish(now)
        } else {
            None
        }
    }

    /// Is a key being pressed?
    #[must_use]
    pub const fn is_pressed(&self) -> bool {
        self.current.is_some()
    }

    /// The stream starts anew: of old presses the timestamps tell nothing any more but, for a moment, that a
    /// packet is one of theirs. Returns the press that ends so.
    pub fn restart(&mut self, now: Instant) -> Option<KeyPress> {
        let was_pressed = self.is_pressed();
        let finished = self.finish(now);
        if was_pressed && finished.is_none() {
            // Too short to count until now, but there may be more of it.
            self.over.rotate_left(1);
            if let Some(place) = self.over.last_mut() {
                *place = None;
            }
        }
        for over in self.over.iter_mut().flatten() {
            over.is_earlier = true;
        }
        finished
    }

    /// Another one received until now: what is repeated of its presses doesn't count again. Returns the press
    /// that it was in the middle of.
    pub fn go_on_from(&mut self, now: Instant, earlier: &mut Self) -> Option<KeyPress> {
        let finished = earlier.restart(now);
        self.over = earlier.over;
        finished
    }

    fn finish(&mut self, now: Instant) -> Option<KeyPress> {
        let press = self.current.take()?;
        self.over.rotate_right(1);
        if let Some(slot) = self.over.first_mut() {
            *slot = Some(Over {
                key: press.key,
                timestamp: press.timestamp,
                at: now,
                is_earlier: false,
            });
        }
        let duration = press.duration(self.clock);
        (duration >= DURATION_MIN).then_some(KeyPress {
            key: press.key,
            duration,
        })
    }

    /// A repetition of a press that is over, or a packet from before it.
    fn is_over(&mut self, now: Instant, timestamp: RtpTicks, key: Key) -> bool {
        self.over.iter_mut().flatten().any(|over| {
            let since = now.saturating_duration_since(over.at);
            if over.is_earlier {
                let repeats = timestamp == over.timestamp && key == over.key;
                let is_over = repeats && since < REPEATED_WITHIN;
                if is_over {
                    over.at = now;
                }
                return is_over;
            }
            let recent = since < STALE_WITHIN;
            let before = timestamp.since(over.timestamp) < 0;
            timestamp == over.timestamp && (key == over.key || recent) || (before && recent)
        })
    }
}

/// One telephone-event payload (RFC 4733 section 2.3).
#[derive(Debug, Clone, Copy)]
struct Event {
    key: Key,
    end: bool,
    duration: u16,
}

impl Event {
    fn parse(payload: &[u8]) -> Option<Self> {
        let &[event, flags, high, low] = payload.first_chunk::<4>()?;
        Some(Self {
            key: Key::from_event(event)?,
            end: flags & END_BIT != 0,
            duration: u16::from_be_bytes([high, low]),
        })
    }
}

#[derive(Debug)]
struct Press {
    key: Key,
    /// Of the first segment.
    timestamp: RtpTicks,
    /// Of the segment that is running (RFC 4733 section 2.5.1.3 splits long ones).
    segment: RtpTicks,
    ticks: u32,
    first_heard: Instant,
    last_heard: Instant,
}

impl Press {
    const fn new(now: Instant, timestamp: RtpTicks, event: Event) -> Self {
        Self {
            key: event.key,
            timestamp,
            segment: timestamp,
            ticks: event.duration as u32,
            first_heard: now,
            last_heard: now,
        }
    }

    /// The same press: the same timestamp, the next segment of a long one, or a sender that moves
    /// the timestamp with every packet, against section 2.1, but without marker and gap.
    fn is_same(&self, timestamp: RtpTicks, marker: bool, event: Event, clock: u32) -> bool {
        if event.key != self.key {
            return false;
        }
        let ahead = timestamp.since(self.segment);
        let reach = i64::from(self.segment_ticks()) + i64::from(clock) * SEGMENT_GAP_MS / 1000;
        ahead == 0
            || timestamp == self.timestamp
            || (!marker && ahead > 0 && i64::from(ahead) <= reach)
    }

    fn extend(&mut self, now: Instant, timestamp: RtpTicks, event: Event) {
        self.last_heard = now;
        if timestamp.since(self.segment) > 0 {
            self.segment = timestamp;
        }
        let base = u32::try_from(self.segment.since(self.timestamp)).unwrap_or(0);
        self.ticks = self
            .ticks
            .max(base.saturating_add(u32::from(event.duration)));
    }

    fn segment_ticks(&self) -> u32 {
        self.ticks
            .saturating_sub(u32::try_from(self.segment.since(self.timestamp)).unwrap_or(0))
    }

    /// By its own account or by the clock, whichever saw more.
    fn duration(&self, clock: u32) -> Duration {
        let told =
            Duration::from_micros(u64::from(self.ticks) * 1_000_000 / u64::from(clock.max(1)));
        told.max(self.last_heard.saturating_duration_since(self.first_heard))
    }
}

#[derive(Debug, Clone, Copy)]
struct Over {
    key: Key,
    timestamp: RtpTicks,
    at: Instant,
    /// Of a stream before this one.
    is_earlier: bool,
}

/// Presses that are remembered.
const OVER: usize = 4;
/// The E bit (RFC 4733 section 2.3.2).
const END_BIT: u8 = 0x80;
/// Packets come every 20 to 50 ms; three missing ones are an end that was lost.
const END_LOST_AFTER: Duration = Duration::from_millis(120);
/// Less is a packet gone astray, not a finger.
const DURATION_MIN: Duration = Duration::from_millis(20);
/// A packet from before a finished press is a late one for this long.
const STALE_WITHIN: Duration = Duration::from_secs(2);
/// What is repeated of an earlier stream's press comes as close as this. Where each key has a stream of its own the same
/// timestamp may be that of the next key.
const REPEATED_WITHIN: Duration = Duration::from_millis(300);
/// What may lie between two segments of one press.
const SEGMENT_GAP_MS: i64 = 50;

#[cfg(test)]
mod tests {
    use super::super::sender::KeySender;
    use super::*;
    use crate::media::seeded::{self, Random};

    struct Scene {
        receiver: EventReceiver,
        now: Instant,
        pressed: Vec<KeyPress>,
    }

    impl Scene {
        fn new(clock: u32) -> Self {
            Self {
                receiver: EventReceiver::new(clock),
                now: seeded::start(),
                pressed: Vec::new(),
            }
        }

        fn packet(&mut self, timestamp: u32, marker: bool, payload: &[u8]) {
            let press = self
                .receiver
                .handle_event(self.now, RtpTicks(timestamp), marker, payload);
            self.pressed.extend(press);
        }

        fn wait(&mut self, ms: u64) {
            for _ in 0..ms / 20 {
                self.now += Duration::from_millis(20);
                self.pressed.extend(self.receiver.poll(self.now));
            }
        }

        fn keys(&self) -> String {
            self.pressed
                .iter()
                .map(|press| press.key.as_char())
                .collect()
        }
    }

    fn press(scene: &mut Scene, key: char, timestamp: u32, ms: u64, lost: impl Fn(usize) -> bool) {
        let key = Key::from_char(key).unwrap();
        let mut sender = KeySender::new(key, 101, scene.receiver.clock, Duration::from_millis(ms));
        let mut index = 0;
        while let Some(packet) = sender.next_packet() {
            if !lost(index) {
                scene.packet(timestamp, packet.marker, &packet.payload);
            }
            scene.wait(20);
            index += 1;
        }
    }

    #[test]
    fn a_literal_press_with_three_ends_counts_once_with_its_duration() {
        let mut scene = Scene::new(8000);
        scene.packet(1600, true, &[5, 0x0A, 0, 160]);
        scene.packet(1600, false, &[5, 0x0A, 1, 64]);
        for _ in 0..3 {
            scene.packet(1600, false, &[5, 0x8A, 3, 32]);
        }
        scene.wait(500);
        let key = Key::from_char('5').unwrap();
        assert_eq!(
            scene.pressed,
            [KeyPress {
                key,
                duration: Duration::from_millis(100)
            }]
        );
    }

    #[test]
    fn a_pin_at_both_clocks_comes_out_as_typed() {
        for clock in [8000, 48_000] {
            let mut scene = Scene::new(clock);
            for (n, key) in "1223#".chars().enumerate() {
                press(
                    &mut scene,
                    key,
                    0xFFFF_F000_u32.wrapping_add(n as u32 * clock / 5),
                    100,
                    |_| false,
                );
            }
            assert_eq!(scene.keys(), "1223#");
            let duration = scene.pressed[0].duration;
            assert!(
                duration.abs_diff(Duration::from_millis(100)) <= Duration::from_millis(40),
                "{duration:?}"
            );
        }
    }

    #[test]
    fn a_press_counts_once_with_start_or_all_ends_lost() {
        let mut scene = Scene::new(8000);
        press(&mut scene, '7', 0, 100, |packet| packet < 3);
        scene.wait(200);
        press(&mut scene, '7', 8000, 100, |packet| packet >= 4);
        scene.wait(200);
        press(&mut scene, '7', 16_000, 100, |packet| packet != 6);
        scene.wait(200);
        assert_eq!(scene.keys(), "777");
    }

    #[test]
    fn a_late_or_repeated_packet_after_the_end_counts_nothing() {
        let mut scene = Scene::new(8000);
        press(&mut scene, '7', 8000, 100, |_| false);
        scene.packet(8000, false, &[7, 0x0A, 1, 64]);
        scene.packet(7000, true, &[6, 0x0A, 1, 64]);
        scene.wait(2000);
        scene.packet(8000, false, &[7, 0x8A, 3, 32]);
        scene.wait(200);
        assert_eq!(scene.keys(), "7");
    }

    /// The peer goes on under other parameters: from here on another receiver has its packets, the first of
    /// which begins a stream.
    fn change(scene: &mut Scene, clock: u32) {
        let mut earlier = std::mem::replace(&mut scene.receiver, EventReceiver::new(clock));
        let press = scene.receiver.go_on_from(scene.now, &mut earlier);
        scene.pressed.extend(press);
        scene.pressed.extend(scene.receiver.restart(scene.now));
    }

    #[test]
    fn what_is_repeated_of_an_earlier_receiver_s_press_counts_nothing() {
        for clock in [8_000, 48_000] {
            let mut scene = Scene::new(8_000);
            press(&mut scene, '7', 8_000, 100, |_| false);
            change(&mut scene, clock);
            scene.packet(8_000, false, &[7, 0x8A, 3, 32]);
            assert_eq!(scene.keys(), "7", "{clock}");
            // Timestamps begin anywhere.
            press(&mut scene, '7', 160, 100, |_| false);
            press(&mut scene, '6', 9_600, 100, |_| false);
            assert_eq!(scene.keys(), "776", "{clock}");
        }
    }

    #[test]
    fn a_press_counts_once_wherever_in_it_the_receiver_changes() {
        for at in 0..12 {
            let mut scene = Scene::new(8_000);
            let key = Key::from_char('4').unwrap();
            let mut sender = KeySender::new(key, 101, 8_000, Duration::from_millis(160));
            let mut index = 0;
            while let Some(packet) = sender.next_packet() {
                if index == at {
                    change(&mut scene, 8_000);
                }
                scene.packet(800, packet.marker, &packet.payload);
                scene.wait(20);
                index += 1;
            }
            scene.wait(500);
            assert_eq!(scene.keys(), "4", "before packet {at} of {index}");
        }
    }

    #[test]
    fn what_was_pressed_is_told_where_the_next_receiver_hears_no_more_of_it() {
        let mut scene = Scene::new(8_000);
        scene.packet(800, true, &[3, 0x0A, 0, 160]);
        scene.wait(20);
        scene.packet(800, false, &[3, 0x0A, 1, 64]);
        change(&mut scene, 48_000);
        scene.wait(500);
        assert_eq!(scene.keys(), "3");
    }

    #[test]
    fn keys_with_a_stream_each_all_count() {
        let mut scene = Scene::new(8_000);
        for key in "11223#".chars() {
            scene.pressed.extend(scene.receiver.restart(scene.now));
            press(&mut scene, key, 0, 100, |_| false);
            scene.wait(320);
        }
        assert_eq!(scene.keys(), "11223#");
    }

    #[test]
    fn a_long_press_in_segments_is_one() {
        let mut scene = Scene::new(8000);
        scene.packet(0, true, &[1, 0x0A, 0xFF, 0xFF]);
        scene.packet(0xFFFF, false, &[1, 0x0A, 0x10, 0]);
        scene.packet(0xFFFF, false, &[1, 0x8A, 0x20, 0]);
        scene.wait(500);
        assert_eq!(scene.keys(), "1");
        assert_eq!(scene.pressed[0].duration.as_millis(), 9_215);
    }

    #[test]
    fn a_sender_that_moves_the_timestamp_presses_once() {
        let mut scene = Scene::new(8000);
        for n in 0..6_u32 {
            scene.packet(n * 160, n == 0, &[1, 0x0A, 0, 160]);
            scene.wait(20);
        }
        scene.wait(500);
        assert_eq!(scene.keys(), "1");
    }

    #[test]
    fn events_that_are_no_keys_stray_packets_and_short_payloads_count_nothing() {
        let mut scene = Scene::new(8000);
        scene.packet(0, true, &[16, 0x8A, 3, 32]);
        scene.packet(0, true, &[255, 0x8A, 3, 32]);
        scene.packet(0, true, &[1, 0x8A, 3]);
        scene.packet(0, true, &[]);
        scene.packet(0, true, &[1, 0x0A, 0, 0]);
        scene.wait(500);
        assert_eq!(scene.keys(), "");
    }

    #[test]
    fn keys_survive_a_link_that_loses_every_fifth_packet() {
        let mut random = Random::new(3);
        let mut scene = Scene::new(8000);
        let typed = "9081726354*#".repeat(20);
        for (n, key) in typed.chars().enumerate() {
            let lost: Vec<bool> = (0..20).map(|_| random.below(5) == 0).collect();
            press(&mut scene, key, n as u32 * 2400, 120, |packet| lost[packet]);
            scene.wait(120);
        }
        assert_eq!(scene.keys(), typed);
    }

    #[test]
    fn no_bytes_panic() {
        let mut random = Random::new(4);
        let mut scene = Scene::new(8000);
        for _ in 0..30_000 {
            let payload = random.next_u32().to_be_bytes();
            let len = random.below(5);
            let timestamp = random.next_u32() >> random.below(32);
            scene.packet(timestamp, random.below(2) == 0, &payload[..len]);
            scene.now += Duration::from_millis(random.below(40) as u64);
            scene.pressed.clear();
        }
    }
}
