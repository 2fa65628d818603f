//! A stream that is pulled at other times within the 20 ms than before, by somebody who has not heard
//! it yet: it begins anew with the delay that the network asks for, rather than the old one and what
//! the new times add.

use std::time::Instant;

use super::{JitterBuffer, Position};

impl JitterBuffer {
    /// Frames are pulled at other times from `now` on, and nothing is heard of the first cut. What is
    /// known of the network stays known. `false`: nothing is held, all stays as it is.
    pub fn reseat(&mut self, now: Instant) -> bool {
        if self.is_empty() {
            return false;
        }
        let micros = self.delay.micros(now);
        let target = self.target(micros);
        while let Some((_, next)) = self.held(1)
            && self.delay.relative(now, next.timestamp).unwrap_or(0) >= target
        {
            self.take_head();
        }
        self.position = Position::Stopped;
        self.margin.reset();
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::Scene;
    use crate::media::jitter::Next;

    #[test]
    fn at_another_place_in_the_frame_no_more_waits_than_must() {
        for later in 0..40 {
            let mut scene = Scene::new();
            for number in 0..20 {
                scene.insert(number);
                scene.played();
            }
            // Packets go on coming at the old times.
            let base = scene.now;
            let end = base + Duration::from_millis(later);
            let mut number = 20;
            while base + Duration::from_millis(20 * (number - 20)) <= end {
                scene.now = base + Duration::from_millis(20 * (number - 20));
                scene.insert(number);
                number += 1;
            }
            scene.now = end;
            assert!(scene.buffer.reseat(end));
            assert_eq!(scene.played(), Some(number as u8 - 1), "{later} ms");
            let delay = scene.buffer.delay();
            assert_eq!(delay, Duration::from_millis(later % 20), "{later} ms");
        }
    }

    #[test]
    fn jitter_that_is_known_is_waited_for_at_the_new_place_too() {
        let mut scene = Scene::new();
        // Each fifth packet is 30 ms slow.
        let mut due: Vec<(u64, u64)> = (0..200)
            .map(|n| (1_000 + 20 * n + if n % 5 == 0 { 30 } else { 0 }, n))
            .collect();
        due.sort_unstable();
        let begin = scene.now;
        let mut due = due.into_iter().peekable();
        for ms in (1_000..4_900).step_by(5) {
            scene.now = begin + Duration::from_millis(ms);
            while let Some((_, number)) = due.next_if(|(at, _)| *at <= ms) {
                scene.insert(number);
            }
            let moved = ms >= 3_000;
            if ms == 3_010 {
                assert!(scene.buffer.reseat(scene.now));
            }
            let wanted = if moved { 10 } else { 0 };
            if ms % 20 == wanted && !scene.buffer.is_empty() {
                let next = scene.pull();
                let settled = ms > 2_000 && !(3_000..3_060).contains(&ms);
                let whole = matches!(next[..], [Next::Packet { skip: 0, .. }]);
                assert!(whole || !settled, "{ms}: {next:?}");
            }
        }
        assert!(scene.buffer.delay() < Duration::from_millis(51));
    }
}
