//! Phones on the loopback device, for tests and benches of the engine.
#![allow(dead_code, reason = "not every user of this module needs all of it")]

use std::cell::Cell;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use voicebridge::media::clip::Rendition;
use voicebridge::media::codec::{Codec, Encoder};
use voicebridge::media::parameters::{Direction, MediaParameters, TelephoneEvent};
use voicebridge::units::LegId;

/// The other end of a leg.
pub(crate) struct Phone {
    pub(crate) leg: LegId,
    pub(crate) codec: Codec,
    pub(crate) talks: bool,
    pub(crate) to: SocketAddr,
    pub(crate) rtp: UdpSocket,
    rtcp: UdpSocket,
    encoder: Encoder,
    sequence: u16,
    timestamp: u32,
    /// Whose packets come.
    ssrc: Cell<[u8; 4]>,
}

impl Phone {
    pub(crate) fn new(leg: LegId, codec: Codec, to: SocketAddr, talks: bool) -> Self {
        let rtp = UdpSocket::bind("127.0.0.1:0").expect("the loopback device works");
        let rtcp = UdpSocket::bind("127.0.0.1:0").expect("the loopback device works");
        rtp.set_nonblocking(true)
            .expect("the loopback device works");
        rtcp.set_nonblocking(true)
            .expect("the loopback device works");
        let encoder = Encoder::new(codec).expect("the loopback device works");
        Self {
            leg,
            codec,
            talks,
            to,
            rtp,
            rtcp,
            encoder,
            sequence: 65_500,
            timestamp: 0,
            ssrc: Cell::default(),
        }
    }

    /// Another codec from now on, from the same address.
    pub(crate) fn change(&mut self, codec: Codec) {
        self.codec = codec;
        self.encoder = Encoder::new(codec).expect("the loopback device works");
    }

    pub(crate) fn parameters(&self, direction: Direction) -> MediaParameters {
        MediaParameters {
            telephone_event: Some(TelephoneEvent {
                payload_type: 101,
                clock: self.codec.rtp_clock(),
            }),
            uses_fec: self.codec == Codec::Opus,
            direction,
            remote_rtcp: self.rtcp.local_addr().expect("the loopback device works"),
            ..MediaParameters::plain(
                self.codec,
                self.rtp.local_addr().expect("the loopback device works"),
            )
        }
    }

    /// Sends 20 ms of a tone, or of silence.
    pub(crate) fn speak(&mut self) {
        let packet = self.audio_packet();
        self.rtp
            .send_to(&packet, self.to)
            .expect("the loopback device works");
    }

    /// 20 ms of a tone, or of silence.
    pub(crate) fn audio_packet(&mut self) -> Vec<u8> {
        let rate = f64::from(self.codec.sample_rate().hz());
        let hz = 300.0 + 37.0 * (self.leg.0 % 40) as f64;
        let amplitude = if self.talks { 5_000.0 } else { 0.0 };
        let first = f64::from(self.timestamp) / f64::from(self.codec.rtp_clock());
        let pcm: Vec<i16> = (0..self.codec.sample_rate().frame_samples())
            .map(|i| {
                (amplitude * (hz * (first + i as f64 / rate) * std::f64::consts::TAU).sin()) as i16
            })
            .collect();
        let mut payload = [0; 400];
        let length = self
            .encoder
            .encode(&pcm, &mut payload)
            .expect("the loopback device works");
        let mut packet = self.header(self.codec.static_payload_type().unwrap_or(96));
        packet.extend(&payload[..length]);
        self.timestamp = self.timestamp.wrapping_add(self.codec.rtp_clock() / 50);
        packet
    }

    /// Presses a key for 100 ms (RFC 4733).
    pub(crate) fn press(&mut self, event: u8) {
        for (end, duration) in [
            (0, 160_u16),
            (0, 480),
            (0x80, 800),
            (0x80, 800),
            (0x80, 800),
        ] {
            let mut packet = self.header(101);
            packet.extend([event, end | 10]);
            let ticks = duration * (self.codec.rtp_clock() / 8_000) as u16;
            packet.extend(ticks.to_be_bytes());
            self.rtp
                .send_to(&packet, self.to)
                .expect("the loopback device works");
        }
    }

    /// A receiver report that a tenth of ours is lost (RFC 3550 section 6.4.2), with a CNAME.
    pub(crate) fn report(&self) {
        let mut packet = vec![0x81, 201, 0, 7, 0, 0, 0, 7]; // RR
        packet.extend(self.ssrc.get());
        packet.extend([26, 0, 0, 0]); // a tenth lost
        packet.extend([0; 16]);
        packet.extend([0x81, 202, 0, 2, 0, 0, 0, 7, 1, 1, b'a', 0]); // SDES
        let to = SocketAddr::new(self.to.ip(), self.to.port() + 1);
        self.rtcp
            .send_to(&packet, to)
            .expect("the loopback device works");
    }

    /// How many packets have come since the last call.
    pub(crate) fn listen(&self) -> usize {
        let mut buffer = [0; 2_000];
        let mut count = 0;
        while let Ok((length, _)) = self.rtp.recv_from(&mut buffer) {
            if let Some(ssrc) = buffer[..length].get(8..12) {
                self.ssrc.set([ssrc[0], ssrc[1], ssrc[2], ssrc[3]]);
            }
            count += 1;
        }
        while self.rtcp.recv_from(&mut buffer).is_ok() {}
        count
    }

    fn header(&mut self, payload_type: u8) -> Vec<u8> {
        let mut packet = vec![0x80, payload_type];
        packet.extend(self.sequence.to_be_bytes());
        packet.extend(self.timestamp.to_be_bytes());
        packet.extend([0, 0, 0, 7]);
        self.sequence = self.sequence.wrapping_add(1);
        packet
    }
}

/// A recording of so many frames.
pub(crate) fn rendition(codec: Codec, frames: usize) -> Arc<Rendition> {
    let rate = codec.sample_rate();
    let pcm: Vec<i16> = (0..frames * rate.frame_samples())
        .map(|i| ((i * 97) % 4_000) as i16 - 2_000)
        .collect();
    let mut encoder = Encoder::new(codec).expect("the loopback device works");
    let (mut payload, mut frame_ends) = (Vec::new(), Vec::new());
    for frame in pcm.chunks(rate.frame_samples()) {
        let mut bytes = [0; 400];
        let length = encoder
            .encode(frame, &mut bytes)
            .expect("the loopback device works");
        payload.extend(&bytes[..length]);
        frame_ends.push(payload.len() as u32);
    }
    Arc::new(Rendition {
        codec,
        payload: payload.into(),
        frame_ends: frame_ends.into(),
        pcm: pcm.into(),
    })
}
