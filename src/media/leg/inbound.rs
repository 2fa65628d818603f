//! From the wire into a leg: whose packet it is, decrypted where it must be, then to the receiver.

use std::net::SocketAddr;
use std::time::Instant;

use crate::media::command::Refusal;
use crate::media::leg::Leg;
use crate::media::parameters::Keying;
use crate::media::receive::PacketVerdict;
use crate::media::rtcp::RtcpReceived;
use crate::media::rtp::{is_handshake, is_rtcp};
use crate::media::source::SourceVerdict;
use crate::media::srtp::{Kind, SrtpError};

/// What a datagram is to a leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sifted {
    /// Audio or a report, or nothing at all.
    Media,
    /// Of the handshake.
    Handshake,
    /// The same, but more than anybody needs.
    Excess,
}

impl Leg {
    /// A datagram from the RTP socket.
    pub fn handle_rtp(&mut self, now: Instant, from: SocketAddr, packet: &[u8]) {
        if is_rtcp(packet) {
            self.handle_rtcp(now, from, packet);
            return;
        }
        if self.parameters.awaits_keys() {
            self.refused.note(Refusal::Unproven);
            return;
        }
        if self.srtp.is_some() {
            let by_checks = self.parameters.keying == Keying::CheckedHandshake;
            self.lay_open(Kind::Rtp, packet, |leg, packet, is_newest| {
                // The key is a better proof of who sent it than any address; but what comes late may have
                // been kept back by somebody on the way. Who checks says himself where he is.
                if is_newest && !by_checks {
                    leg.source.trust(now, from);
                }
                leg.receive(now, from, packet);
            });
            return;
        }
        match self.source.check(now, from, packet) {
            SourceVerdict::Own | SourceVerdict::Locked => self.receive(now, from, packet),
            SourceVerdict::Learning => self.refused.note(Refusal::Unproven),
            SourceVerdict::Foreign => self.refused.note(Refusal::Foreign),
        }
    }

    /// A datagram from the RTCP socket, or RTCP from the RTP socket (RFC 5761).
    pub fn handle_rtcp(&mut self, now: Instant, from: SocketAddr, packet: &[u8]) {
        if self.parameters.awaits_keys() {
            self.refused.note(Refusal::Unproven);
        } else if self.srtp.is_some() {
            self.lay_open(Kind::Rtcp, packet, |leg, packet, _| {
                leg.take_report(now, from, packet);
            });
        } else if self.source.check_rtcp(from) {
            self.take_report(now, from, packet);
        } else {
            self.refused.note(Refusal::Foreign);
        }
    }

    /// Is that a datagram of the handshake that this leg's keys come by, or of the checks before it? Then it is
    /// to be passed on; what is too much is counted, and dropped.
    pub fn sift(&mut self, now: Instant, from: SocketAddr, packet: &[u8]) -> Sifted {
        if self.parameters.keying == Keying::Signalled || !is_handshake(packet) {
            return Sifted::Media;
        }
        let known = self.source.is_told_of(from);
        if self.gate.lets_in(now, known) {
            return Sifted::Handshake;
        }
        self.refused.note(Refusal::Excess);
        Sifted::Excess
    }

    /// Decrypts; what the peer did not write is counted and dropped.
    fn lay_open(&mut self, kind: Kind, packet: &[u8], take: impl FnOnce(&mut Self, &[u8], bool)) {
        let Some(mut srtp) = self.srtp.take() else {
            return;
        };
        match srtp.open(kind, packet, |plain, newest| take(self, plain, newest)) {
            Ok(()) => {}
            Err(SrtpError::Replayed) => self.refused.note(Refusal::Replayed),
            Err(SrtpError::Forged | SrtpError::Malformed) => self.refused.note(Refusal::Forged),
        }
        self.srtp = Some(srtp);
    }

    fn take_report(&mut self, now: Instant, from: SocketAddr, packet: &[u8]) {
        let Ok(received) = RtcpReceived::parse(packet, self.packetiser.ssrc()) else {
            self.refused.note(Refusal::Malformed);
            return;
        };
        self.rtcp.note_source(from, self.parameters.srtp.is_some());
        self.liveness.heard(now);
        if let (Some(ssrc), Some(info)) = (received.sender, received.sender_info) {
            self.codecs
                .receiver
                .handle_sender_report(now, ssrc, info.ntp);
        }
        let Some(report) = received.about_us else {
            return;
        };
        self.consent.note_report(from.ip().to_canonical());
        self.rtcp.losses.note_told(now, report.fraction_lost);
        if let Some(round_trip) = report.round_trip(self.config.clock.at(now)) {
            self.rtcp.round_trip = Some(round_trip);
        }
    }

    fn receive(&mut self, now: Instant, from: SocketAddr, packet: &[u8]) {
        self.let_pay(from, packet);
        if !self.parameters.direction.receives() {
            self.liveness.heard(now);
            return;
        }
        match self.codecs.receiver.handle_rtp(now, packet) {
            PacketVerdict::Accepted
            | PacketVerdict::Key
            | PacketVerdict::Duplicate
            | PacketVerdict::Late
            | PacketVerdict::Overflow => {
                self.liveness.heard(now);
                self.liveness.heard_audio();
            }
            PacketVerdict::Malformed
            | PacketVerdict::UnknownPayloadType
            | PacketVerdict::Strange => {}
        }
    }

    /// It pays for what is sent there, where that is to be paid for.
    fn let_pay(&mut self, from: SocketAddr, packet: &[u8]) {
        let host = from.ip().to_canonical();
        let is_free = self.parameters.proven.covers(host);
        if !is_free && self.source.destination().ip() == host {
            self.consent.note_packet(host, packet.len());
        }
    }
}
