//! The phone's audio: a tone and keys out, what comes in measured.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::ProbeError;
use super::sound::{self, Tone};
use crate::media::codec::{Encoder, PAYLOAD_BYTES_MAX};
use crate::media::dtmf::sender::KeySender;
use crate::media::parameters::MediaParameters;
use crate::media::receive::{Receiver, ReceiverConfig};
use crate::media::rtcp::RtcpReceived;
use crate::media::rtp::{RtpHeader, RtpPacket};
use crate::units::{Decibels, FRAME_SAMPLES_MAX, Key, RtpTicks, SeqNo, Ssrc};

/// What the phone heard.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    /// RTP packets that came.
    pub packets: u64,
    /// Sequence numbers that were passed over.
    pub lost: u64,
    /// The longest time between two packets.
    pub longest_gap: Duration,
    /// How often more than 60 ms lay between two packets.
    pub gaps: u64,
    /// 20 ms frames in which there was something to hear (above -50 dBFS).
    pub loud_frames: u64,
    /// 20 ms frames in which the phone's own tone came back, no more than 20 dB below what it sends.
    pub echo_frames: u64,
    /// A receiver report showed that our packets reach the server.
    pub reaches_server: bool,
    last: Option<(Instant, SeqNo)>,
}

/// See the module's text.
pub(super) struct PhoneAudio {
    agreed: MediaParameters,
    encoder: Encoder,
    receiver: Receiver,
    tone: Tone,
    tone_hz: f64,
    pub(super) silent: bool,
    keys: VecDeque<Step>,
    pressing: Option<(KeySender, RtpTicks)>,
    header: RtpHeader,
    pub(super) heard: Heard,
    pub(super) recording: Option<Vec<i16>>,
    packet: [u8; RtpHeader::LEN + PAYLOAD_BYTES_MAX],
}

/// One step of keying in.
#[derive(Debug, Clone, Copy)]
enum Step {
    Press(Key),
    /// So many frames without a key.
    Pause(u32),
}

impl PhoneAudio {
    pub(super) fn new(agreed: MediaParameters, tone_hz: f64) -> Result<Self, ProbeError> {
        let random = super::random()?;
        Ok(Self {
            encoder: Encoder::new(agreed.codec).map_err(|_| ProbeError::Answer)?,
            receiver: Receiver::new(&agreed, ReceiverConfig::default())
                .map_err(|_| ProbeError::Answer)?,
            tone: Tone::new(tone_hz, TONE_LEVEL),
            tone_hz,
            silent: false,
            keys: VecDeque::new(),
            pressing: None,
            header: RtpHeader {
                marker: true,
                payload_type: agreed.payload_type_send,
                sequence: SeqNo(random as u16),
                timestamp: RtpTicks((random >> 16) as u32),
                ssrc: Ssrc((random >> 32) as u32),
            },
            heard: Heard::default(),
            recording: None,
            packet: [0; RtpHeader::LEN + PAYLOAD_BYTES_MAX],
            agreed,
        })
    }

    pub(super) fn press(&mut self, keys: impl IntoIterator<Item = Key>) {
        for key in keys {
            self.keys
                .extend([Step::Press(key), Step::Pause(FRAMES_BETWEEN_KEYS)]);
        }
    }

    pub(super) const fn destination(&self) -> SocketAddr {
        self.agreed.remote_rtp
    }

    pub(super) fn take_rtp(&mut self, now: Instant, bytes: &[u8]) {
        let Ok(packet) = RtpPacket::parse(bytes) else {
            return;
        };
        self.heard.arrived(now, packet.header.sequence);
        // What it can't use it counts itself.
        let _verdict = self.receiver.handle_rtp(now, bytes);
    }

    pub(super) fn take_rtcp(&mut self, bytes: &[u8]) {
        if let Ok(report) = RtcpReceived::parse(bytes, self.header.ssrc) {
            self.heard.reaches_server |= report.about_us.is_some();
        }
    }

    /// 20 ms: listens, and gives the packet to be sent.
    pub(super) fn tick(&mut self, now: Instant) -> &[u8] {
        self.listen(now);
        let length = match self.next_key() {
            Some(length) => length,
            None => self.voice(),
        };
        let step = self.agreed.codec.rtp_clock() / 50;
        self.header.sequence = self.header.sequence.next();
        self.header.timestamp = self.header.timestamp.plus(step);
        self.header.marker = false;
        self.packet.get(..length).unwrap_or_default()
    }

    fn listen(&mut self, now: Instant) {
        let _kind = self.receiver.pull_frame(now);
        let pcm = self.receiver.pcm();
        let rate = self.agreed.codec.sample_rate();
        if sound::level(pcm).0 > LOUD.0 {
            self.heard.loud_frames += 1;
        }
        if sound::level_of(self.tone_hz, rate, pcm).0 > TONE_LEVEL.0 - ECHO_LOSS_DB {
            self.heard.echo_frames += 1;
        }
        if let Some(recording) = &mut self.recording {
            recording.extend_from_slice(pcm);
        }
    }

    fn voice(&mut self) -> usize {
        let rate = self.agreed.codec.sample_rate();
        let mut pcm = [0; FRAME_SAMPLES_MAX];
        let frame = pcm.get_mut(..rate.frame_samples()).unwrap_or_default();
        self.tone.fill(rate, self.silent, frame);
        let header = self.header;
        let payload = self.packet.get_mut(RtpHeader::LEN..).unwrap_or_default();
        let length = self.encoder.encode(frame, payload).unwrap_or(0);
        self.write(header, length)
    }

    /// A packet of the key being pressed, if one is.
    fn next_key(&mut self) -> Option<usize> {
        let event = self.agreed.telephone_event?;
        loop {
            if let Some((sender, began)) = &mut self.pressing {
                let began = *began;
                if let Some(packet) = sender.next_packet() {
                    let header = RtpHeader {
                        marker: packet.marker,
                        payload_type: packet.payload_type,
                        timestamp: began,
                        ..self.header
                    };
                    self.packet
                        .get_mut(RtpHeader::LEN..RtpHeader::LEN + 4)?
                        .copy_from_slice(&packet.payload);
                    return Some(self.write(header, packet.payload.len()));
                }
                self.pressing = None;
            }
            match self.keys.pop_front()? {
                Step::Press(key) => {
                    let sender = KeySender::new(key, event.payload_type, event.clock, KEY_PRESS);
                    self.pressing = Some((sender, self.header.timestamp));
                }
                Step::Pause(0) => {}
                Step::Pause(frames) => {
                    self.keys.push_front(Step::Pause(frames - 1));
                    return None;
                }
            }
        }
    }

    fn write(&mut self, header: RtpHeader, payload: usize) -> usize {
        header
            .write(&mut self.packet)
            .map_or(0, |length| length + payload)
    }
}

impl Heard {
    fn arrived(&mut self, now: Instant, sequence: SeqNo) {
        self.packets += 1;
        if let Some((before, last)) = self.last {
            let gap = now.saturating_duration_since(before);
            self.longest_gap = self.longest_gap.max(gap);
            self.gaps += u64::from(gap > GAP);
            self.lost += u64::from(sequence.0.wrapping_sub(last.0).wrapping_sub(1))
                & if sequence.0.wrapping_sub(last.0) < 0x8000 {
                    u64::MAX
                } else {
                    0
                };
        }
        self.last = Some((now, sequence));
    }
}

/// What the phone talks with.
pub const TONE_LEVEL: Decibels = Decibels(-20.0);
const LOUD: Decibels = Decibels(-50.0);
const ECHO_LOSS_DB: f32 = 20.0;
const GAP: Duration = Duration::from_millis(60);
const KEY_PRESS: Duration = Duration::from_millis(100);
const FRAMES_BETWEEN_KEYS: u32 = 4;
