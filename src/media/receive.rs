//! TEMPORARY DOUBLE
#![allow(missing_docs)]
use crate::media::codec::*;
use crate::media::parameters::MediaParameters;
use crate::media::rtcp::*;
use crate::media::rtp::RtpPacket;
use crate::units::*;
use std::time::{Duration, Instant};
#[derive(Debug, Clone, Copy, Default)]
pub struct ReceiverConfig {}
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    Voice,
    Concealed,
    ComfortNoise,
    Silence,
}
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketVerdict {
    Accepted,
    Malformed,
}
#[derive(Debug, Clone, Copy)]
pub struct Voice {
    pub level: Decibels,
    pub active: bool,
    pub noise_floor: Decibels,
}
#[derive(Debug, Clone, Copy, Default)]
pub struct ReceiveStatistics {
    pub received: u64,
    pub lost: u64,
    pub late: u64,
    pub duplicated: u64,
    pub malformed: u64,
    pub concealed_frames: u64,
    pub fec_frames: u64,
    pub jitter_ms: f32,
    pub buffer_ms: f32,
    pub resyncs: u64,
}
pub struct KeyPress {
    pub key: Key,
    pub duration: Duration,
}
pub struct Receiver {
    decoder: Decoder,
    queue: [([u8; 400], usize); 16],
    head: usize,
    len: usize,
    pcm: Box<[i16; 5760]>,
    level: Decibels,
    st: ReceiveStatistics,
    pt: u8,
    te: Option<u8>,
    key: Option<u8>,
    last: u32,
    hang: u8,
}
impl Receiver {
    pub fn new(p: &MediaParameters, _c: ReceiverConfig) -> Result<Self, CodecError> {
        Ok(Self {
            decoder: Decoder::new(p.codec)?,
            queue: [([0; 400], 0); 16],
            head: 0,
            len: 0,
            pcm: Box::new([0; 5760]),
            level: Decibels(-127.0),
            st: Default::default(),
            pt: p.payload_type_receive,
            te: p.telephone_event.map(|t| t.payload_type),
            key: None,
            last: 0,
            hang: 0,
        })
    }
    pub fn handle_rtp(&mut self, _now: Instant, packet: &[u8]) -> PacketVerdict {
        let Ok(p) = RtpPacket::parse(packet) else {
            self.st.malformed += 1;
            return PacketVerdict::Malformed;
        };
        self.st.received += 1;
        if Some(p.header.payload_type) == self.te {
            if p.header.timestamp.0 != self.last {
                self.last = p.header.timestamp.0;
                self.key = p.payload.first().copied();
            }
            return PacketVerdict::Accepted;
        }
        if p.header.payload_type == self.pt && self.len < 16 {
            let at = (self.head + self.len) % 16;
            self.queue[at].0[..p.payload.len()].copy_from_slice(p.payload);
            self.queue[at].1 = p.payload.len();
            self.len += 1;
        }
        PacketVerdict::Accepted
    }
    pub fn handle_sender_report(&mut self, _now: Instant, _ssrc: Ssrc, _ntp: NtpTime) {}
    pub fn pull_frame(&mut self, _now: Instant) -> FrameKind {
        let n = self.decoder.codec().sample_rate().frame_samples();
        if self.len == 0 {
            self.pcm[..n].fill(0);
            self.level = Decibels(-127.0);
            self.hang = self.hang.saturating_sub(1);
            return FrameKind::Silence;
        }
        let (b, l) = self.queue[self.head];
        self.head = (self.head + 1) % 16;
        self.len -= 1;
        let _ = self.decoder.decode(&b[..l], &mut self.pcm[..]);
        let e: f32 = self.pcm[..n]
            .iter()
            .map(|s| (*s as f32).powi(2))
            .sum::<f32>()
            / n as f32;
        self.level = Decibels::from_amplitude(e.sqrt() / 32768.0);
        if self.level.0 > -50.0 {
            self.hang = 10
        } else {
            self.hang = self.hang.saturating_sub(1)
        }
        FrameKind::Voice
    }
    pub fn pcm(&self) -> &[i16] {
        &self.pcm[..self.decoder.codec().sample_rate().frame_samples()]
    }
    pub fn poll_key(&mut self) -> Option<KeyPress> {
        self.key
            .take()
            .and_then(Key::from_event)
            .map(|key| KeyPress {
                key,
                duration: Duration::from_millis(100),
            })
    }
    pub fn voice(&self) -> Voice {
        Voice {
            level: self.level,
            active: self.hang > 0,
            noise_floor: Decibels(-60.0),
        }
    }
    pub fn statistics(&self) -> ReceiveStatistics {
        self.st
    }
    pub fn report_block(&mut self, _now: Instant) -> Option<ReceptionReport> {
        None
    }
}
