//! Which packets make up the stream: one SSRC, sequence numbers near the last, timestamps near the
//! clock. What doesn't fit is another stream, and believed only when it goes on and the old one has
//! fallen silent: a stray or forged packet disturbs nothing. Also keeps the counts that RFC 3550
//! asks for (appendix A.1, A.3, A.8).

use std::time::{Duration, Instant};

use crate::media::rtcp::{NtpTime, ReceptionReport};
use crate::media::rtp::RtpHeader;
use crate::units::{ExtSeqNo, SeqNo, Ssrc};

/// The state of one received stream.
#[derive(Debug, Default)]
pub(super) struct Stream {
    current: Option<Current>,
    candidate: Option<Candidate>,
    /// From streams that are over.
    expected_before: u64,
    received_before: u64,
    restarts: u32,
    reported: Reported,
}

/// What a packet is to the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// The next one, or one near it.
    Fits(ExtSeqNo),
    /// The first of the stream that counts from now on.
    Begins(ExtSeqNo),
    /// Had before.
    Duplicate,
    /// Perhaps another stream's: not to be used yet.
    Strange,
}

impl Stream {
    /// Judges a packet; `plausible` says whether its timestamp can belong to the current stream.
    pub(super) fn check(&mut self, now: Instant, header: &RtpHeader, plausible: bool) -> Fit {
        let Some(current) = &mut self.current else {
            return self.begin(now, header);
        };
        let sequence = header.sequence.extend(current.highest);
        if header.ssrc == current.ssrc && plausible && current.is_near(sequence) {
            self.candidate = None;
            return current.take(now, sequence);
        }
        let silent = now.saturating_duration_since(current.last_heard);
        let between = current.between;
        let packets = match self.candidate {
            Some(candidate) if candidate.is_followed_by(header) => {
                candidate.packets.saturating_add(1)
            }
            Some(_) | None => 1,
        };
        self.candidate = Some(Candidate {
            ssrc: header.ssrc,
            sequence: header.sequence,
            packets,
        });
        // What comes faster than any stream is none, however long the stream itself is silent.
        let most = silent.as_millis() / PACKET_LEAST.as_millis() + u128::from(CANDIDATE_BURST);
        let in_pace = u128::from(packets) <= most;
        let stopped = silent >= SILENT.max(between * 2 + SILENT_MARGIN);
        let goes_on = packets >= CANDIDATE_PACKETS && stopped;
        if in_pace && (goes_on || silent >= LONG_SILENT) {
            self.begin(now, header)
        } else {
            Fit::Strange
        }
    }

    /// RFC 3550 appendix A.8; `transit` is arrival less timestamp, in ticks of which `clock` are a second. It wraps at
    /// 32 bit. Where it jumps, the sender's clock began anew: that is no jitter.
    pub(super) fn note_transit(&mut self, transit: i32, clock: u32) {
        if let Some(current) = &mut self.current {
            let step = current
                .transit
                .map_or(0, |last| transit.wrapping_sub(last).unsigned_abs());
            current.transit = Some(transit);
            if step < clock {
                current.jitter += (step as f32 - current.jitter) / 16.0;
            }
        }
    }

    /// An audio packet was so long: until two more should have come, the stream hasn't stopped.
    pub(super) const fn note_packet_time(&mut self, length: Duration) {
        if let Some(current) = &mut self.current {
            current.between = length;
        }
    }

    /// A sender report came in.
    pub(super) fn note_sender_report(&mut self, now: Instant, ssrc: Ssrc, ntp: NtpTime) {
        if let Some(current) = self.current.as_mut().filter(|current| current.ssrc == ssrc) {
            current.sender_report = Some((now, ntp));
        }
    }

    /// How reception stands, for RTCP; counts the fraction since the last call.
    pub(super) fn report(&mut self, now: Instant) -> Option<ReceptionReport> {
        let current = self.current.as_ref()?;
        let (expected, received) = (current.expected(), current.received);
        let lost = |expected: u64, received: u64| {
            i64::try_from(expected).unwrap_or(0) - i64::try_from(received).unwrap_or(0)
        };
        let expected_since = expected.saturating_sub(self.reported.expected);
        let lost_since = lost(
            expected_since,
            received.saturating_sub(self.reported.received),
        )
        .max(0);
        let fraction = (lost_since * 256)
            .checked_div(i64::try_from(expected_since).unwrap_or(0))
            .unwrap_or(0);
        let (last, delay) = current
            .sender_report
            .map_or((0, Duration::ZERO), |(at, ntp)| {
                (ntp.middle(), now.saturating_duration_since(at))
            });
        let report = ReceptionReport {
            ssrc: current.ssrc,
            fraction_lost: u8::try_from(fraction).unwrap_or(u8::MAX),
            cumulative_lost: i32::try_from(lost(expected, received)).unwrap_or(i32::MAX),
            highest_sequence: current.highest.0.saturating_sub(CYCLE) as u32,
            jitter: current.jitter as u32,
            last_sender_report: last,
            delay_since: u32::try_from(delay.as_nanos() * 65_536 / 1_000_000_000)
                .unwrap_or(u32::MAX),
        };
        self.reported = Reported { expected, received };
        Some(report)
    }

    /// The SSRC of the stream.
    pub(super) fn ssrc(&self) -> Option<Ssrc> {
        self.current.as_ref().map(|current| current.ssrc)
    }

    /// Packets received, duplicates not counted.
    pub(super) fn received(&self) -> u64 {
        self.received_before + self.current.as_ref().map_or(0, |current| current.received)
    }

    /// Packets that should have come and haven't.
    pub(super) fn lost(&self) -> u64 {
        let expected = self.expected_before + self.current.as_ref().map_or(0, Current::expected);
        expected.saturating_sub(self.received())
    }

    /// Interarrival jitter in ticks.
    pub(super) fn jitter(&self) -> f32 {
        self.current.as_ref().map_or(0.0, |current| current.jitter)
    }

    /// How often another stream took over.
    pub(super) const fn restarts(&self) -> u32 {
        self.restarts
    }

    fn begin(&mut self, now: Instant, header: &RtpHeader) -> Fit {
        if let Some(over) = self.current.take() {
            self.expected_before += over.expected();
            self.received_before += over.received;
            self.restarts = self.restarts.saturating_add(1);
        }
        self.candidate = None;
        self.reported = Reported::default();
        let first = ExtSeqNo(u64::from(header.sequence.0) + CYCLE);
        self.current = Some(Current {
            ssrc: header.ssrc,
            first,
            highest: first,
            bits: 1,
            received: 1,
            last_heard: now,
            between: Duration::ZERO,
            transit: None,
            jitter: 0.0,
            sender_report: None,
        });
        Fit::Begins(first)
    }
}

#[derive(Debug)]
struct Current {
    ssrc: Ssrc,
    first: ExtSeqNo,
    highest: ExtSeqNo,
    /// Bit n: the n-th before the highest came.
    bits: u128,
    received: u64,
    last_heard: Instant,
    /// Length of the last audio packet.
    between: Duration,
    transit: Option<i32>,
    jitter: f32,
    sender_report: Option<(Instant, NtpTime)>,
}

impl Current {
    const fn is_near(&self, sequence: ExtSeqNo) -> bool {
        sequence.0 < self.highest.0 + AHEAD_MAX && self.highest.0 < sequence.0 + BEHIND_MAX
    }

    fn take(&mut self, now: Instant, sequence: ExtSeqNo) -> Fit {
        self.last_heard = now;
        if sequence > self.highest {
            let step = u32::try_from(sequence.0 - self.highest.0).unwrap_or(u32::MAX);
            self.bits = self.bits.checked_shl(step).unwrap_or(0) | 1;
            self.highest = sequence;
        } else {
            let bit = 1_u128
                .checked_shl(u32::try_from(self.highest.0 - sequence.0).unwrap_or(u32::MAX))
                .unwrap_or(0);
            if self.bits & bit != 0 {
                return Fit::Duplicate;
            }
            self.bits |= bit;
            self.first = self.first.min(sequence);
        }
        self.received += 1;
        Fit::Fits(sequence)
    }

    const fn expected(&self) -> u64 {
        self.highest.0 - self.first.0 + 1
    }
}

/// A stream that may be the new one.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    ssrc: Ssrc,
    sequence: SeqNo,
    packets: u32,
}

impl Candidate {
    fn is_followed_by(self, header: &RtpHeader) -> bool {
        let step = header.sequence.0.wrapping_sub(self.sequence.0);
        header.ssrc == self.ssrc && (1..=CANDIDATE_STEP_MAX).contains(&step)
    }
}

/// Where the last report left off.
#[derive(Debug, Default, Clone, Copy)]
struct Reported {
    expected: u64,
    received: u64,
}

/// Sequence numbers start above zero, so that going back before the first one never wraps.
const CYCLE: u64 = 1 << 16;
/// A minute of 20 ms packets (RFC 3550 appendix A.1).
const AHEAD_MAX: u64 = 3000;
const BEHIND_MAX: u64 = 100;
/// Packets in a row that make another stream believable.
const CANDIDATE_PACKETS: u32 = 2;
const CANDIDATE_STEP_MAX: u16 = 8;
/// Such a stream may come in a burst, but then no faster than one packet in this time.
const CANDIDATE_BURST: u32 = 16;
const PACKET_LEAST: Duration = Duration::from_millis(5);
/// The old stream must have stopped by then, and two of its packets be missing.
const SILENT: Duration = Duration::from_millis(50);
const SILENT_MARGIN: Duration = Duration::from_millis(10);
/// After this long any packet begins anew.
const LONG_SILENT: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::seeded;
    use crate::units::RtpTicks;

    fn header(ssrc: u32, sequence: u16) -> RtpHeader {
        RtpHeader {
            marker: false,
            payload_type: 0,
            sequence: SeqNo(sequence),
            timestamp: RtpTicks(0),
            ssrc: Ssrc(ssrc),
        }
    }

    struct Scene {
        stream: Stream,
        now: Instant,
    }

    impl Scene {
        fn new() -> Self {
            Self {
                stream: Stream::default(),
                now: seeded::start(),
            }
        }

        fn packet(&mut self, ssrc: u32, sequence: u16, plausible: bool) -> Fit {
            self.now += Duration::from_millis(20);
            self.stream
                .check(self.now, &header(ssrc, sequence), plausible)
        }
    }

    #[test]
    fn loss_and_duplicates_are_counted_over_the_wrap() {
        let mut scene = Scene::new();
        assert_eq!(
            scene.packet(1, 0xFFFE, true),
            Fit::Begins(ExtSeqNo(0x1_FFFE))
        );
        assert_eq!(scene.packet(1, 1, true), Fit::Fits(ExtSeqNo(0x2_0001)));
        assert_eq!(scene.packet(1, 0, true), Fit::Fits(ExtSeqNo(0x2_0000)));
        assert_eq!(scene.packet(1, 1, true), Fit::Duplicate);
        assert_eq!((scene.stream.received(), scene.stream.lost()), (3, 1));
        let report = scene.stream.report(scene.now).unwrap();
        assert_eq!(report.cumulative_lost, 1);
        assert_eq!(report.fraction_lost, 64);
        assert_eq!(report.highest_sequence, 0x1_0001);
        scene.packet(1, 2, true);
        assert_eq!(scene.stream.report(scene.now).unwrap().fraction_lost, 0);
    }

    #[test]
    fn a_stray_packet_is_strange_and_the_stream_goes_on() {
        let mut scene = Scene::new();
        scene.packet(1, 10, true);
        for n in 0..50 {
            assert_eq!(scene.packet(2, 700 + n, true), Fit::Strange);
            assert_eq!(scene.packet(1, 30_000 + n, true), Fit::Strange);
            assert!(matches!(scene.packet(1, 11 + n, true), Fit::Fits(_)));
        }
        assert_eq!(scene.stream.restarts(), 0);
    }

    #[test]
    fn another_ssrc_sequence_or_timestamp_takes_over_within_60_ms_once_the_old_is_silent() {
        for (ssrc, sequence, plausible) in [(2, 11, true), (1, 40_000, true), (1, 11, false)] {
            let mut scene = Scene::new();
            for n in 1..=10 {
                scene.packet(1, n, true);
            }
            assert_eq!(scene.packet(ssrc, sequence, plausible), Fit::Strange);
            assert_eq!(scene.packet(ssrc, sequence + 1, plausible), Fit::Strange);
            assert!(matches!(
                scene.packet(ssrc, sequence + 2, plausible),
                Fit::Begins(_)
            ));
            assert!(matches!(
                scene.packet(ssrc, sequence + 3, true),
                Fit::Fits(_)
            ));
            assert_eq!(scene.stream.lost(), 0);
        }
    }

    #[test]
    fn between_two_packets_of_60_ms_no_stranger_takes_over() {
        let mut scene = Scene::new();
        scene.packet(1, 10, true);
        scene.stream.note_packet_time(Duration::from_millis(60));
        for n in 0..50 {
            // In between two others come, of a stream that goes on.
            assert_eq!(scene.packet(2, 2 * n, true), Fit::Strange);
            assert_eq!(scene.packet(2, 2 * n + 1, true), Fit::Strange);
            assert!(matches!(scene.packet(1, 11 + n, true), Fit::Fits(_)));
        }
        // Once it has stopped, another one is believed before 200 ms are over.
        let begins = (0..9).position(|n| scene.packet(3, n, true) != Fit::Strange);
        assert_eq!(begins, Some(6), "140 ms");
    }

    #[test]
    fn a_flood_is_no_stream_however_long_the_other_is_silent() {
        let mut scene = Scene::new();
        scene.packet(1, 10, true);
        for n in 0..20_000_u16 {
            scene.now += Duration::from_micros(100);
            let flood = scene.stream.check(scene.now, &header(2, n), true);
            assert_eq!(flood, Fit::Strange, "{n}");
        }
        assert!(matches!(scene.packet(1, 11, true), Fit::Fits(_)));
    }

    #[test]
    fn after_half_a_second_of_silence_any_stream_begins_at_once() {
        let mut scene = Scene::new();
        scene.packet(1, 10, true);
        scene.now += Duration::from_millis(600);
        assert!(matches!(scene.packet(2, 7, true), Fit::Begins(_)));
    }

    #[test]
    fn jitter_is_smoothed_as_in_rfc_3550_and_the_sender_report_is_echoed() {
        let mut scene = Scene::new();
        scene.packet(1, 1, true);
        for n in 0..200 {
            scene
                .stream
                .note_transit((n % 2 * 80_i32).wrapping_add(i32::MAX), 8_000);
        }
        assert!((scene.stream.jitter() - 80.0).abs() < 1.0);
        scene.stream.note_transit(-1_000_000, 8_000);
        assert!((scene.stream.jitter() - 80.0).abs() < 1.0);
        scene
            .stream
            .note_sender_report(scene.now, Ssrc(1), NtpTime(0x1122_3344_5566_7788));
        scene
            .stream
            .note_sender_report(scene.now, Ssrc(9), NtpTime(0));
        scene.now += Duration::from_millis(500);
        let report = scene.stream.report(scene.now).unwrap();
        assert_eq!(
            (report.last_sender_report, report.delay_since),
            (0x3344_5566, 32_768)
        );
    }
}
