//! What goes out: prompts, music and the mix, under the leg's own header, and its reports.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use crate::media::command::LegSlot;
use crate::media::leg::consent::Consent;
use crate::media::leg::{Hears, Leg, Tick};
use crate::media::parameters::{MediaParameters, Proven};
use crate::media::rtcp::{REPORT_BYTES_MAX, RtcpReport, SenderInfo};
use crate::media::sender::{PacketBuffer, Transmit};
use crate::media::srtp::{Kind, Srtp};

impl Leg {
    /// Sends what is encoded already: the prompt, else music, else silence.
    pub(in crate::media) fn send_solo(
        &mut self,
        tick: &Tick<'_>,
        slot: LegSlot,
        frame: &mut PacketBuffer,
        sink: &mut impl Transmit,
    ) {
        self.hears = Hears::Fresh;
        self.fill_solo(tick, frame);
        if self.player.is_playing() && self.player.at_start() {
            self.packetiser.mark();
        }
        self.advance_player(tick.now);
        self.send(frame, slot, sink);
    }

    /// Sends an encoded frame under this leg's header, where audio flows that way.
    pub(in crate::media) fn send(
        &mut self,
        frame: &mut PacketBuffer,
        slot: LegSlot,
        sink: &mut impl Transmit,
    ) {
        let Some(to) = self.destination() else {
            self.packetiser.skip_frames(1, |_| {});
            return;
        };
        let (sent, srtp) = (&mut self.sent, &mut self.srtp);
        let mut account = Account::of(&mut self.consent, &self.parameters, to);
        self.packetiser.send_frame(frame, |packet| {
            *sent += 1;
            account.note(packet);
            protected(srtp, Kind::Rtp, packet, |packet| sink.rtp(slot, to, packet));
        });
    }

    /// Sends an RTCP report where one is due.
    pub(in crate::media) fn send_report(
        &mut self,
        now: Instant,
        slot: LegSlot,
        sink: &mut impl Transmit,
    ) {
        if !self.rtcp.schedule.take_due(now) {
            return;
        }
        let reception = self.codecs.receiver.report_block(now);
        if let Some(report) = &reception {
            self.rtcp.losses.note_seen(now, report.fraction_lost);
        }
        let to = self.rtcp.destination(self.source.destination());
        let Some(to) = to.filter(|to| self.may_send_to(to.ip())) else {
            return;
        };
        let sender_info = (self.packetiser.packets() > 0).then(|| SenderInfo {
            ntp: self.config.clock.at(now),
            rtp: self.packetiser.timestamp(),
            packets: self.packetiser.packets(),
            octets: self.packetiser.octets(),
        });
        let report = RtcpReport {
            ssrc: self.packetiser.ssrc(),
            sender_info,
            reception,
            cname: self.rtcp.cname.as_str(),
            bye: false,
        };
        let mut buffer = [0; REPORT_BYTES_MAX];
        if let Some(packet) = report
            .write(&mut buffer)
            .and_then(|length| buffer.get(..length))
        {
            let muxed = self.rtcp.muxed;
            Account::of(&mut self.consent, &self.parameters, to).note(packet);
            protected(&mut self.srtp, Kind::Rtcp, packet, |packet| {
                sink.rtcp(slot, to, muxed, packet);
            });
        }
    }

    pub(super) fn skip(&mut self, frames: u32, slot: LegSlot, sink: &mut impl Transmit) {
        let Some(to) = self.destination() else {
            self.packetiser.skip_frames(frames, |_| {});
            return;
        };
        let srtp = &mut self.srtp;
        let mut account = Account::of(&mut self.consent, &self.parameters, to);
        self.packetiser.skip_frames(frames, |packet| {
            account.note(packet);
            protected(srtp, Kind::Rtp, packet, |packet| sink.rtp(slot, to, packet));
        });
    }

    pub(super) fn destination(&self) -> Option<SocketAddr> {
        let to = self.source.destination();
        let may = self.parameters.direction.sends() && self.may_send();
        let usable = may && to.port() != 0 && !to.ip().is_unspecified();
        usable.then_some(to)
    }

    /// May audio be sent to where the peer is?
    pub(super) fn may_send(&self) -> bool {
        self.may_send_to(self.source.destination().ip())
    }

    /// Are the keys there, where there are to be some? And is it known that somebody is there who wants it?
    fn may_send_to(&self, address: IpAddr) -> bool {
        let is_wanted =
            self.parameters.proven.covers(address) || self.consent.covers(address.to_canonical());
        is_wanted && !self.parameters.awaits_keys()
    }

    fn fill_solo(&mut self, tick: &Tick<'_>, frame: &mut PacketBuffer) {
        let codec = self.parameters.codec;
        let prompt = self.player.current();
        if let Some(payload) = prompt
            .filter(|(r, _)| r.codec == codec)
            .and_then(|(r, n)| r.frame(n))
        {
            frame.set_payload(payload);
            return;
        }
        let same_rate = prompt.filter(|(r, _)| r.codec.sample_rate() == codec.sample_rate());
        if let Some(pcm) = same_rate.and_then(|(r, n)| r.frame_pcm(n)) {
            self.codecs.encode(pcm, frame);
            return;
        }
        let music = self
            .music
            .as_ref()
            .filter(|music| prompt.is_none() && music.codec == codec);
        let payload = music.and_then(|music| {
            let position = tick.frame().checked_rem(music.frames() as u64)?;
            music.frame(usize::try_from(position).ok()?)
        });
        frame.set_payload(payload.unwrap_or_else(|| tick.silence.payload(codec)));
    }
}

/// What packets to one address are charged to, if to anything.
struct Account<'a> {
    consent: Option<&'a mut Consent>,
    host: IpAddr,
}

impl<'a> Account<'a> {
    fn of(consent: &'a mut Consent, parameters: &MediaParameters, to: SocketAddr) -> Self {
        Self {
            consent: (parameters.proven != Proven::Anywhere).then_some(consent),
            host: to.ip().to_canonical(),
        }
    }

    fn note(&mut self, packet: &[u8]) {
        if let Some(consent) = &mut self.consent {
            consent.spend(self.host, packet.len());
        }
    }
}

/// A packet as it goes onto the wire.
fn protected(srtp: &mut Option<Box<Srtp>>, kind: Kind, packet: &[u8], send: impl FnOnce(&[u8])) {
    match srtp {
        Some(srtp) => srtp.protect(kind, packet, send),
        None => send(packet),
    }
}
