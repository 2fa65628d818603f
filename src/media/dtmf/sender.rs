//! Pressing a key by RFC 4733: the packets of one press, one every 20 ms.

use std::time::Duration;

use crate::units::Key;

/// The packets of one press. The caller sends one per 20 ms, all with the RTP timestamp of the
/// first and rising sequence numbers, instead of audio.
#[derive(Debug)]
pub struct KeySender {
    key: Key,
    payload_type: u8,
    /// Ticks in 20 ms.
    step: u32,
    duration: u32,
    elapsed: u32,
    ends_left: u8,
    started: bool,
}

/// One packet's worth of a press.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyPacket {
    /// First packet of the press.
    pub marker: bool,
    /// RTP payload type.
    pub payload_type: u8,
    /// RFC 4733 section 2.3.
    pub payload: [u8; 4],
}

impl KeySender {
    /// A press of `key` lasting `duration`, rounded up to 20 ms, at most what 16 bits of ticks hold.
    #[must_use]
    pub fn new(key: Key, payload_type: u8, clock: u32, duration: Duration) -> Self {
        let step = clock / 50;
        let frames = duration
            .as_millis()
            .div_ceil(20)
            .max(2)
            .min(u128::from(DURATION_MAX / step.max(1)));
        let duration = u32::try_from(frames).unwrap_or(2) * step;
        Self {
            key,
            payload_type,
            step,
            duration,
            elapsed: 0,
            ends_left: END_PACKETS,
            started: false,
        }
    }

    /// The next packet; `None` when the press is over. The duration grows by 20 ms each, the last
    /// three packets carry the end bit and the whole duration (section 2.5.1.4).
    pub fn next_packet(&mut self) -> Option<KeyPacket> {
        self.elapsed = (self.elapsed + self.step).min(self.duration);
        let end = self.elapsed == self.duration;
        if end {
            self.ends_left = self.ends_left.checked_sub(1)?;
        }
        let marker = !std::mem::replace(&mut self.started, true);
        let [high, low] = u16::try_from(self.elapsed)
            .unwrap_or(u16::MAX)
            .to_be_bytes();
        let flags = if end { END_BIT | VOLUME } else { VOLUME };
        Some(KeyPacket {
            marker,
            payload_type: self.payload_type,
            payload: [self.key.event(), flags, high, low],
        })
    }
}

/// The end is sent three times (section 2.5.1.4).
const END_PACKETS: u8 = 3;
const END_BIT: u8 = 0x80;
/// -10 dBm0.
const VOLUME: u8 = 10;
/// Longer presses would need segments.
const DURATION_MAX: u32 = 0xFFFF;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_press_of_60_ms_is_literal() {
        let mut sender = KeySender::new(Key::HASH, 101, 8000, Duration::from_millis(60));
        let packets: Vec<_> = std::iter::from_fn(|| sender.next_packet())
            .map(|p| (p.marker, p.payload))
            .collect();
        assert_eq!(
            packets,
            [
                (true, [11, 10, 0, 160]),
                (false, [11, 10, 1, 64]),
                (false, [11, 0x8A, 1, 224]),
                (false, [11, 0x8A, 1, 224]),
                (false, [11, 0x8A, 1, 224]),
            ]
        );
    }

    #[test]
    fn at_48_khz_durations_count_in_that_clock_and_never_overflow() {
        let mut sender = KeySender::new(Key::STAR, 110, 48_000, Duration::from_secs(60));
        let packets: Vec<_> = std::iter::from_fn(|| sender.next_packet()).collect();
        assert_eq!(packets[0].payload, [10, 10, 3, 192]);
        assert_eq!(packets[0].payload_type, 110);
        let last = packets.last().unwrap().payload;
        assert_eq!(u16::from_be_bytes([last[2], last[3]]), 68 * 960);
    }
}
