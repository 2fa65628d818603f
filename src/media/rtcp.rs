//! RTCP (RFC 3550 section 6): reads compound packets, writes sender or receiver report with CNAME,
//! and says when the next one is due. Reading is `rtcp-types`; its builders allocate, so writing is
//! done here into a given buffer.
#![deny(clippy::indexing_slicing)]

use std::time::{Duration, Instant};

use rtcp_types::prelude::*;
use rtcp_types::{Bye, Compound, ReceiverReport, ReportBlock, SenderReport, utils};

use crate::units::{RtpTicks, Ssrc};

/// What one compound packet says that matters to a leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtcpReceived {
    /// Who sent the report.
    pub sender: Option<Ssrc>,
    /// From its sender report.
    pub sender_info: Option<SenderInfo>,
    /// Its report about what we send.
    pub about_us: Option<ReceptionReport>,
    /// It says goodbye. Never acted on: only signalling ends a call.
    pub bye: bool,
}

impl RtcpReceived {
    /// Reads one compound packet; `own` is the SSRC that we send with.
    ///
    /// # Errors
    /// [`RtcpError`] when the lengths or a report in it are unsound. Other packet types are passed over.
    pub fn parse(bytes: &[u8], own: Ssrc) -> Result<Self, RtcpError> {
        Compound::parse(bytes).map_err(|_| RtcpError)?;
        let mut found = Self {
            sender: None,
            sender_info: None,
            about_us: None,
            bye: false,
        };
        let mut rest = bytes;
        while rest.len() >= 4 {
            let length = utils::parser::parse_length(rest);
            let (packet, following) = rest.split_at_checked(length).ok_or(RtcpError)?;
            found.take_packet(packet, own)?;
            rest = following;
        }
        Ok(found)
    }

    fn take_packet(&mut self, packet: &[u8], own: Ssrc) -> Result<(), RtcpError> {
        match utils::parser::parse_packet_type(packet) {
            SenderReport::PACKET_TYPE => {
                let report = SenderReport::parse(packet).map_err(|_| RtcpError)?;
                self.sender = Some(Ssrc(report.ssrc()));
                self.sender_info = Some(SenderInfo {
                    ntp: NtpTime(report.ntp_timestamp()),
                    rtp: RtpTicks(report.rtp_timestamp()),
                    packets: report.packet_count(),
                    octets: report.octet_count(),
                });
                self.take_blocks(report.report_blocks(), own);
            }
            ReceiverReport::PACKET_TYPE => {
                let report = ReceiverReport::parse(packet).map_err(|_| RtcpError)?;
                self.sender = Some(Ssrc(report.ssrc()));
                self.take_blocks(report.report_blocks(), own);
            }
            Bye::PACKET_TYPE => {
                Bye::parse(packet).map_err(|_| RtcpError)?;
                self.bye = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn take_blocks<'a>(&mut self, mut blocks: impl Iterator<Item = ReportBlock<'a>>, own: Ssrc) {
        if let Some(block) = blocks.find(|b| b.ssrc() == own.0) {
            self.about_us = Some(ReceptionReport {
                ssrc: own,
                fraction_lost: block.fraction_lost(),
                cumulative_lost: sign_extend_24(block.cumulative_lost()),
                highest_sequence: block.extended_sequence_number(),
                jitter: block.interarrival_jitter(),
                last_sender_report: block.last_sender_report_timestamp(),
                delay_since: block.delay_since_last_sender_report_timestamp(),
            });
        }
    }
}

/// The part of a sender report about its sender (RFC 3550 section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderInfo {
    /// When it was sent.
    pub ntp: NtpTime,
    /// The same moment on the RTP clock.
    pub rtp: RtpTicks,
    /// Packets sent since the SSRC began.
    pub packets: u32,
    /// Payload bytes sent since the SSRC began.
    pub octets: u32,
}

/// One report block: how a source is received (RFC 3550 section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceptionReport {
    /// The source that it is about.
    pub ssrc: Ssrc,
    /// Lost since the last report, in 256ths.
    pub fraction_lost: u8,
    /// Lost since reception began; 24 bit, negative where duplicates outnumber losses.
    pub cumulative_lost: i32,
    /// Highest sequence number received, extended by its wraps.
    pub highest_sequence: u32,
    /// Interarrival jitter in RTP ticks.
    pub jitter: u32,
    /// Middle 32 bits of the last sender report's NTP time; 0: none yet.
    pub last_sender_report: u32,
    /// Since that report came in, in 65,536ths of a second.
    pub delay_since: u32,
}

impl ReceptionReport {
    /// The round trip that a peer's report about us shows; `None` before it has seen a sender
    /// report of ours, or when the figures make no sense.
    #[must_use]
    pub fn round_trip(&self, now: NtpTime) -> Option<Duration> {
        if self.last_sender_report == 0 {
            return None;
        }
        let since = now.middle().wrapping_sub(self.last_sender_report);
        let trip = since.wrapping_sub(self.delay_since) as i32;
        // Clocks of one side only are compared, so a little below zero is rounding (RFC 3550 6.4.1).
        let trip = u64::try_from(trip.max(0)).unwrap_or(0);
        (trip < ROUND_TRIP_MAX).then(|| Duration::from_nanos(trip * 1_000_000_000 / 65_536))
    }

    fn write(&self, out: &mut Writer<'_>) -> Option<()> {
        out.word(self.ssrc.0)?;
        let lost = self.cumulative_lost.clamp(-0x80_0000, 0x7F_FFFF) as u32 & 0xFF_FFFF;
        out.word(u32::from(self.fraction_lost) << 24 | lost)?;
        out.word(self.highest_sequence)?;
        out.word(self.jitter)?;
        out.word(self.last_sender_report)?;
        out.word(self.delay_since)
    }
}

/// A report of our own, ready to be written.
#[derive(Debug, Clone, Copy)]
pub struct RtcpReport<'a> {
    /// The SSRC that we send with.
    pub ssrc: Ssrc,
    /// What we sent; `None` makes it a receiver report.
    pub sender_info: Option<SenderInfo>,
    /// How we receive the peer.
    pub reception: Option<ReceptionReport>,
    /// Our canonical name (RFC 7022: random, no host or user in it), up to 255 bytes.
    pub cname: &'a str,
    /// The last report of this SSRC.
    pub bye: bool,
}

impl RtcpReport<'_> {
    /// Writes the compound packet; returns its length, `None` when `buffer` is too short.
    #[must_use]
    pub fn write(&self, buffer: &mut [u8]) -> Option<usize> {
        let mut out = Writer { buffer, at: 0 };
        self.write_report(&mut out)?;
        self.write_cname(&mut out)?;
        if self.bye {
            out.header(1, Bye::PACKET_TYPE, 1)?;
            out.word(self.ssrc.0)?;
        }
        Some(out.at)
    }

    fn write_report(&self, out: &mut Writer<'_>) -> Option<()> {
        let blocks = u8::from(self.reception.is_some());
        let block_words = u16::from(blocks) * 6;
        if let Some(info) = &self.sender_info {
            out.header(blocks, SenderReport::PACKET_TYPE, 6 + block_words)?;
            out.word(self.ssrc.0)?;
            out.word((info.ntp.0 >> 32) as u32)?;
            out.word(info.ntp.0 as u32)?;
            out.word(info.rtp.0)?;
            out.word(info.packets)?;
            out.word(info.octets)?;
        } else {
            out.header(blocks, ReceiverReport::PACKET_TYPE, 1 + block_words)?;
            out.word(self.ssrc.0)?;
        }
        self.reception
            .as_ref()
            .map_or(Some(()), |block| block.write(out))
    }

    /// One chunk with one item, ended by at least one zero byte (RFC 3550 section 6.5).
    fn write_cname(&self, out: &mut Writer<'_>) -> Option<()> {
        let name = self.cname.as_bytes();
        let length = u8::try_from(name.len()).ok()?;
        let padding = 4 - (2 + name.len()) % 4;
        let words = (4 + 2 + name.len() + padding) / 4;
        out.header(1, SDES, u16::try_from(words).ok()?)?;
        out.word(self.ssrc.0)?;
        out.bytes(&[SDES_CNAME, length])?;
        out.bytes(name)?;
        out.bytes([0; 4].get(..padding)?)
    }
}

/// Seconds since 1900 in 32.32 fixed point (RFC 3550 section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NtpTime(pub u64);

impl NtpTime {
    /// From the time since 1970.
    #[must_use]
    pub const fn from_unix(since_1970: Duration) -> Self {
        let seconds = since_1970.as_secs().wrapping_add(UNIX_TO_NTP_SECONDS);
        let fraction = ((since_1970.subsec_nanos() as u64) << 32) / 1_000_000_000;
        Self(seconds << 32 | fraction)
    }

    /// Later by `duration`.
    #[must_use]
    pub const fn plus(self, duration: Duration) -> Self {
        let fraction = ((duration.subsec_nanos() as u64) << 32) / 1_000_000_000;
        Self(
            self.0
                .wrapping_add(duration.as_secs() << 32)
                .wrapping_add(fraction),
        )
    }

    /// The middle 32 bits: 16.16 fixed point.
    #[must_use]
    pub const fn middle(self) -> u32 {
        (self.0 >> 16) as u32
    }
}

/// Turns the monotonic clock into NTP time: read both clocks once, outside, and count on from there,
/// so that a jump of the wall clock never reaches a report.
#[derive(Debug, Clone, Copy)]
pub struct NtpClock {
    epoch: Instant,
    at_epoch: NtpTime,
}

impl NtpClock {
    /// `now` and `wall` are the same moment.
    #[must_use]
    pub const fn new(now: Instant, wall: NtpTime) -> Self {
        Self {
            epoch: now,
            at_epoch: wall,
        }
    }

    /// NTP time at `now`.
    #[must_use]
    pub fn at(&self, now: Instant) -> NtpTime {
        self.at_epoch
            .plus(now.saturating_duration_since(self.epoch))
    }
}

/// When the next report is due (RFC 3550 sections 6.2 and 6.3.1). With two members and a hundred
/// bytes a report, 5 % of the session's bandwidth never binds: the 5 s minimum does.
#[derive(Debug, Clone)]
pub struct RtcpSchedule {
    due: Instant,
    random: u64,
}

impl RtcpSchedule {
    /// The first report is due after half the interval; `seed` spreads the legs.
    #[must_use]
    pub fn new(now: Instant, seed: u64) -> Self {
        let mut schedule = Self {
            due: now,
            random: seed,
        };
        schedule.due = now + schedule.next_interval() / 2;
        schedule
    }

    /// When it is due.
    #[must_use]
    pub const fn due(&self) -> Instant {
        self.due
    }

    /// True once when a report is due; it must be sent now.
    pub fn take_due(&mut self, now: Instant) -> bool {
        if now < self.due {
            return false;
        }
        self.due = now + self.next_interval();
        true
    }

    /// 0.5 to 1.5 times the minimum, over e - 1.5 for the bias of reconsideration (section 6.3.1).
    fn next_interval(&mut self) -> Duration {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let unit = (self.random >> 40) as f32 / 16_777_216.0;
        INTERVAL_MIN.mul_f32((0.5 + unit) / 1.218_28)
    }
}

/// Big-endian words into a buffer that may end.
struct Writer<'a> {
    buffer: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn bytes(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.at.checked_add(bytes.len())?;
        self.buffer.get_mut(self.at..end)?.copy_from_slice(bytes);
        self.at = end;
        Some(())
    }

    fn word(&mut self, word: u32) -> Option<()> {
        self.bytes(&word.to_be_bytes())
    }

    fn header(&mut self, count: u8, packet_type: u8, words_after: u16) -> Option<()> {
        let [high, low] = words_after.to_be_bytes();
        self.bytes(&[2 << 6 | count, packet_type, high, low])
    }
}

const fn sign_extend_24(value: u32) -> i32 {
    ((value << 8) as i32) >> 8
}

/// Not a compound RTCP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a sound compound RTCP packet")]
pub struct RtcpError;

/// Room enough for any [`RtcpReport`].
pub const REPORT_BYTES_MAX: usize = 28 + 24 + 4 + 4 + 2 + 255 + 4 + 8;

/// RFC 3550 section 6.2.
const INTERVAL_MIN: Duration = Duration::from_secs(5);
/// Packet type and item of the canonical name (RFC 3550 section 6.5).
const SDES: u8 = 202;
const SDES_CNAME: u8 = 1;
const UNIX_TO_NTP_SECONDS: u64 = 2_208_988_800;
/// 60 s in 65,536ths: more is a peer that made its figures up.
const ROUND_TRIP_MAX: u64 = 60 * 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Ssrc = Ssrc(0x0102_0304);

    fn block() -> ReceptionReport {
        ReceptionReport {
            ssrc: Ssrc(0xAABB_CCDD),
            fraction_lost: 13,
            cumulative_lost: -2,
            highest_sequence: 0x0001_FFFF,
            jitter: 40,
            last_sender_report: 0x1234_5678,
            delay_since: 65_536,
        }
    }

    fn report() -> RtcpReport<'static> {
        let ntp = NtpTime(0x8000_0001_4000_0000);
        let info = SenderInfo {
            ntp,
            rtp: RtpTicks(320),
            packets: 2,
            octets: 344,
        };
        RtcpReport {
            ssrc: OWN,
            sender_info: Some(info),
            reception: Some(block()),
            cname: "vb",
            bye: false,
        }
    }

    #[test]
    fn a_sender_report_with_cname_is_literal() {
        let mut out = [0_u8; REPORT_BYTES_MAX];
        let len = report().write(&mut out).unwrap();
        let expected = [
            0x81, 200, 0, 12, 1, 2, 3, 4, 0x80, 0, 0, 1, 0x40, 0, 0, 0, 0, 0, 1, 0x40, 0, 0, 0, 2,
            0, 0, 1, 0x58, // SR
            0xAA, 0xBB, 0xCC, 0xDD, 13, 0xFF, 0xFF, 0xFE, 0, 1, 0xFF, 0xFF, 0, 0, 0,
            40, // block
            0x12, 0x34, 0x56, 0x78, 0, 1, 0, 0, //
            0x81, 202, 0, 3, 1, 2, 3, 4, 1, 2, b'v', b'b', 0, 0, 0, 0, // SDES
        ];
        assert_eq!(out[..len], expected);
    }

    #[test]
    fn what_is_written_reads_back_on_the_other_side() {
        let mut out = [0_u8; REPORT_BYTES_MAX];
        let len = RtcpReport {
            bye: true,
            ..report()
        }
        .write(&mut out)
        .unwrap();
        let read = RtcpReceived::parse(&out[..len], Ssrc(0xAABB_CCDD)).unwrap();
        assert_eq!(read.sender, Some(OWN));
        assert_eq!(read.sender_info, report().sender_info);
        assert_eq!(read.about_us, Some(block()));
        assert!(read.bye);
        let stranger = RtcpReceived::parse(&out[..len], Ssrc(1)).unwrap();
        assert_eq!(stranger.about_us, None);
    }

    #[test]
    fn a_receiver_report_without_blocks_is_as_short_as_can_be() {
        let mut out = [0_u8; REPORT_BYTES_MAX];
        let bare = RtcpReport {
            sender_info: None,
            reception: None,
            cname: "abc",
            ..report()
        };
        let len = bare.write(&mut out).unwrap();
        assert_eq!(
            out[..len],
            [
                0x80, 201, 0, 1, 1, 2, 3, 4, 0x81, 202, 0, 3, 1, 2, 3, 4, 1, 3, b'a', b'b', b'c',
                0, 0, 0
            ]
        );
        assert!(RtcpReceived::parse(&out[..len], OWN).is_ok());
    }

    #[test]
    fn every_length_of_name_gives_a_sound_packet_and_a_short_buffer_none() {
        let name = "x".repeat(255);
        let mut out = [0_u8; REPORT_BYTES_MAX];
        for length in 0..=255 {
            let named = RtcpReport {
                cname: &name[..length],
                bye: true,
                ..report()
            };
            let len = named.write(&mut out).unwrap();
            assert_eq!(len % 4, 0);
            assert!(RtcpReceived::parse(&out[..len], OWN).is_ok(), "{length}");
            assert_eq!(named.write(&mut out[..len - 1]), None);
        }
    }

    #[test]
    fn the_round_trip_is_what_is_left_without_the_peers_delay() {
        // The example of RFC 3550 figure 2: 6.125 s.
        let report = ReceptionReport {
            last_sender_report: 0xB705_2000,
            delay_since: 0x0005_4000,
            ..block()
        };
        let now = NtpTime(0x0000_B710_8000_0000);
        let trip = report.round_trip(now).unwrap();
        assert_eq!(trip, Duration::from_millis(6125));
        assert_eq!(
            ReceptionReport {
                last_sender_report: 0,
                ..report
            }
            .round_trip(now),
            None
        );
    }

    #[test]
    fn ntp_time_counts_from_1900() {
        let time = NtpTime::from_unix(Duration::from_millis(500));
        assert_eq!(time.0, 2_208_988_800 << 32 | 0x8000_0000);
        assert_eq!(
            time.plus(Duration::from_millis(1_500)).0,
            2_208_988_802 << 32
        );
    }

    #[test]
    fn reports_are_due_every_five_seconds_on_average_never_evenly() {
        let start = crate::media::seeded::start();
        let mut schedule = RtcpSchedule::new(start, 7);
        assert!(schedule.due() < start + Duration::from_secs(4));
        let mut sent = Vec::new();
        for ms in (0..500_000).step_by(20) {
            let now = start + Duration::from_millis(ms);
            if schedule.take_due(now) {
                sent.push(ms);
            }
        }
        // 5 s / 1.21828 = 4.1 s on average.
        assert!((110..135).contains(&sent.len()), "{}", sent.len());
        let gaps: Vec<u64> = sent.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.iter().all(|gap| (2_000..6_300).contains(gap)));
        assert!(gaps.iter().max().unwrap() - gaps.iter().min().unwrap() > 2_000);
    }

    #[test]
    fn no_bytes_panic() {
        let mut good = [0_u8; REPORT_BYTES_MAX];
        let len = RtcpReport {
            bye: true,
            ..report()
        }
        .write(&mut good)
        .unwrap();
        let mut random = crate::media::seeded::Random::new(2);
        let mut refused = 0;
        for _ in 0..30_000 {
            let mut bytes = good;
            for _ in 0..=random.below(8) {
                bytes[random.below(len)] = random.next_u32() as u8;
            }
            refused +=
                u32::from(RtcpReceived::parse(&bytes[..random.below(len + 1)], OWN).is_err());
        }
        assert!(refused > 1_000);
    }
}
