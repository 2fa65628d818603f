//! One participant's media: source check and receiving on one side, what it hears on the other.
//! Owned by one media thread at a time; moved, never shared.

mod ahead;
mod codecs;
mod consent;
mod figures;
mod gate;
mod hold;
mod inbound;
mod liveness;
mod losses;
mod outbound;
mod reporting;
mod treated;

pub use codecs::CodecSet;
pub use inbound::Sifted;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::media::clip::Rendition;
use crate::media::codec::Codec;
use crate::media::command::{EngineEvent, LegKind, LegSlot, Refusals};
use crate::media::leg::consent::Consent;
use crate::media::leg::figures::Received;
use crate::media::leg::gate::Gate;
use crate::media::leg::hold::Hold;
use crate::media::leg::liveness::{Liveness, Talking};
use crate::media::leg::reporting::Reporting;
use crate::media::parameters::MediaParameters;
use crate::media::playback::{Player, Playlist, SilenceFrames};
use crate::media::receive::FrameKind;
use crate::media::rtcp::NtpClock;
use crate::media::sender::{PacketBuffer, Packetiser, RtpOrigin, Transmit};
use crate::media::source::SourceLock;
use crate::media::srtp::Srtp;
use crate::media::treatment::Treatment;
use crate::media::voice::Voice;
use crate::units::{FRAME, LegId};

/// One participant's media.
pub struct Leg {
    id: LegId,
    kind: LegKind,
    config: LegConfig,
    parameters: MediaParameters,
    source: SourceLock,
    srtp: Option<Box<Srtp>>,
    codecs: Box<CodecSet>,
    packetiser: Packetiser,
    player: Player,
    music: Option<Arc<Rendition>>,
    echo: bool,
    muted: bool,
    hears: Hears,
    frame: FrameKind,
    last_tick: Option<u64>,
    /// Has another place in the 20 ms since its last frame.
    reseated: bool,
    liveness: Liveness,
    talking: Talking,
    hold: Hold,
    treatment: Treatment,
    rtcp: Reporting,
    /// What receivers before this one had counted.
    earlier: Received,
    sent: u64,
    /// Since when it has been played something.
    prompted_at: Option<Instant>,
    refused: Refusals,
    gate: Gate,
    consent: Consent,
}

/// Where the sound comes from that a leg in a bridge is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hears {
    /// Nothing of the bridge yet: no encoder state binds it.
    Fresh,
    /// What everybody hears who has its codec.
    Shared,
    /// The same, by an encoder of its own that is on the way to the state of the shared one.
    Following {
        /// For so many frames.
        frames: u8,
        /// Frames in a row in which the shared packet would do.
        taken: u8,
    },
    /// Its own mix.
    Own {
        /// Frames in a row in which that was the same as the shared one.
        same: u8,
        /// Its peer's decoder would go on with the shared packets as if it had never had any else.
        met: bool,
    },
}

impl Hears {
    /// Does it hear what all others do?
    pub(super) const fn is_common(self) -> bool {
        matches!(self, Self::Shared | Self::Following { .. })
    }
}

/// What all legs of an engine have in common.
#[derive(Debug, Clone, Copy)]
pub struct LegConfig {
    /// Without any packet for this long, media is lost.
    pub media_timeout: Duration,
    /// The same while the peer has no reason to send.
    pub hold_timeout: Duration,
    /// For sender reports.
    pub clock: NtpClock,
}

/// Another agreement with the peer, made ready on the control side.
pub struct LegUpdate {
    /// What was agreed.
    pub parameters: MediaParameters,
    /// Used where the RTP clock changes.
    pub origin: RtpOrigin,
    /// New codecs; `None`: those there are go on.
    pub codecs: Option<Box<CodecSet>>,
    /// By the keys of `parameters`.
    pub srtp: Option<Box<Srtp>>,
}

/// The first agreement with the peer, made ready on the control side.
pub struct LegStart {
    /// What was agreed.
    pub parameters: MediaParameters,
    /// Random beginnings.
    pub origin: RtpOrigin,
    /// Receiver and encoder.
    pub codecs: Box<CodecSet>,
    /// By the keys of `parameters`.
    pub srtp: Option<Box<Srtp>>,
}

/// One 5 ms tick of a thread.
pub struct Tick<'a> {
    /// Now.
    pub now: Instant,
    /// Counted from the engine's start, the same on all its threads.
    pub number: u64,
    /// What is sent while nothing plays.
    pub silence: &'a SilenceFrames,
}

impl Tick<'_> {
    /// The position in music that all legs share: frames since the engine's start.
    #[must_use]
    pub const fn frame(&self) -> u64 {
        self.number / TICKS_PER_FRAME
    }
}

impl Leg {
    /// A leg whose first agreement is made.
    #[must_use]
    pub fn new(id: LegId, kind: LegKind, config: LegConfig, start: LegStart, now: Instant) -> Self {
        let LegStart {
            parameters,
            origin,
            codecs,
            srtp,
        } = start;
        Self {
            id,
            kind,
            config,
            source: SourceLock::new(&parameters),
            srtp,
            packetiser: Packetiser::new(&parameters, origin),
            codecs,
            player: Player::default(),
            music: None,
            echo: false,
            muted: false,
            hears: Hears::Fresh,
            frame: FrameKind::Silence,
            last_tick: None,
            reseated: false,
            liveness: Liveness::new(now),
            talking: Talking::default(),
            hold: Hold::new(parameters.direction),
            treatment: Treatment::new(),
            rtcp: Reporting::new(now, &parameters, origin),
            earlier: Received::default(),
            sent: 0,
            prompted_at: None,
            refused: Refusals::default(),
            gate: Gate::new(now),
            consent: Consent::default(),
            parameters,
        }
    }

    /// Another agreement. What it replaces is left in `update`.
    pub fn update(&mut self, now: Instant, update: &mut LegUpdate) {
        if let Some(codecs) = &mut update.codecs {
            self.earlier = self.received();
            let earlier = &mut self.codecs.receiver;
            codecs.receiver.go_on_from(now, earlier);
            std::mem::swap(&mut self.codecs, codecs);
            self.hears = Hears::Fresh;
        }
        if let (Some(fresh), Some(earlier)) = (&mut update.srtp, &mut self.srtp) {
            fresh.go_on_from(earlier);
        }
        std::mem::swap(&mut self.srtp, &mut update.srtp);
        self.packetiser.change(&update.parameters, update.origin);
        self.source.expect(&update.parameters);
        self.hold.update(update.parameters.direction);
        self.liveness.begin(now);
        self.rtcp.described = update.parameters.remote_rtcp;
        self.rtcp.muxed = update.parameters.remote_rtcp == update.parameters.remote_rtp;
        self.rtcp.heard_from = None;
        self.parameters = update.parameters;
    }

    /// Plays from the next frame on; returns what it replaces.
    pub fn play(&mut self, playlist: Playlist) -> Option<Playlist> {
        self.player.start(playlist)
    }

    /// Plays no more; returns what was playing.
    pub fn stop_playing(&mut self) -> Option<Playlist> {
        self.player.stop()
    }

    /// Takes other music to wait with; returns what it replaces.
    pub const fn set_music(&mut self, music: Option<Arc<Rendition>>) -> Option<Arc<Rendition>> {
        std::mem::replace(&mut self.music, music)
    }

    /// Hears itself, or no more.
    pub fn set_echo(&mut self, echo: bool) {
        if echo && !self.echo {
            self.codecs.restart();
        }
        self.echo = echo;
    }

    /// Its next frame comes at another place in the 20 ms.
    pub const fn reseat(&mut self) {
        self.reseated = true;
    }

    /// Nobody fetched its packets from `since` to `until`: they didn't come late by the network's doing, nor did the
    /// peer fall silent.
    pub fn note_absence(&mut self, since: Instant, until: Instant) {
        self.codecs.receiver.note_absence(since, until);
        self.liveness
            .stand_still(until.saturating_duration_since(since));
    }

    /// Not summed, or summed again.
    pub const fn set_muted(&mut self, muted: bool) {
        self.muted = muted;
    }

    /// What the control side must hear of, one at a time. Whoever polls has room for it.
    pub fn poll_event(&mut self) -> Option<EngineEvent> {
        let leg = self.id;
        if let Some(press) = self.codecs.receiver.poll_key() {
            return Some(EngineEvent::Key {
                leg,
                key: press.key,
            });
        }
        if let Some(alive) = self.liveness.news.take() {
            return Some(if alive {
                EngineEvent::MediaStarted {
                    leg,
                    from: self.source.destination().ip(),
                }
            } else {
                EngineEvent::MediaLost { leg }
            });
        }
        self.talking
            .take_change()
            .map(|talking| EngineEvent::Talking { leg, talking })
    }

    /// A playlist whose last frame was sent.
    pub fn poll_finished(&mut self) -> Option<Playlist> {
        self.player.take_finished()
    }

    /// Is a frame due in this tick? Time that was missed is skipped in the timestamps. A leg that
    /// has just changed its place in the 20 ms waits rather than send two frames together.
    pub(super) fn begin_frame(
        &mut self,
        tick: &Tick<'_>,
        slot: LegSlot,
        sink: &mut impl Transmit,
    ) -> bool {
        let passed = self
            .last_tick
            .map_or(TICKS_PER_FRAME, |last| tick.number.saturating_sub(last));
        if passed < TICKS_PER_FRAME - 1 {
            return false;
        }
        self.last_tick = Some(tick.number);
        // Another seat may lie a whole frame later: that is delay, not a gap.
        let reseated = std::mem::take(&mut self.reseated);
        let grace = u64::from(reseated);
        let missed = (passed.saturating_sub(grace) / TICKS_PER_FRAME).saturating_sub(1);
        let missed = u32::try_from(missed).unwrap_or(u32::MAX);
        self.skip(missed, slot, sink);
        self.codecs.receiver.skip_frames(missed);
        if reseated {
            self.codecs.receiver.reseat(tick.now);
        }
        self.hold.next_frame();
        if reseated || !self.may_speak() {
            self.treatment.interrupt();
        }
        if !self.may_speak() && !self.echo {
            self.codecs.receiver.note_muted();
        }
        // On hold some play music, and some send nothing.
        let is_to_send = self.parameters.direction.receives() && !self.hold.is_agreed();
        if !is_to_send {
            self.codecs.receiver.note_pause();
        }
        self.frame = self.codecs.receiver.pull_frame(tick.now);
        let voice = self.voice();
        let talks = voice.active && self.may_speak() && !self.treatment.is_only_echo();
        self.talking.follow(talks);
        let sends = is_to_send && !self.codecs.receiver.may_be_silent();
        let timeout = if sends {
            self.config.media_timeout
        } else {
            self.config.hold_timeout
        };
        self.liveness.check(tick.now, timeout);
        let expected = sends && self.destination().is_some();
        self.liveness.expect_audio(tick.now, expected);
        true
    }

    /// One whole frame of a leg that is in no bridge.
    pub fn lone_tick(
        &mut self,
        tick: &Tick<'_>,
        slot: LegSlot,
        frame: &mut PacketBuffer,
        sink: &mut impl Transmit,
    ) {
        if !self.begin_frame(tick, slot, sink) {
            return;
        }
        if self.echo && !self.player.is_playing() {
            self.codecs.encode_echo(frame);
            self.send(frame, slot, sink);
        } else {
            self.send_solo(tick, slot, frame, sink);
        }
        self.send_report(tick.now, slot, sink);
    }

    /// The whisper's sound for this frame, at the leg's own rate, and the player goes on.
    pub(super) fn whisper(&self) -> Option<&[i16]> {
        let (rendition, frame) = self.player.current()?;
        let same_rate = rendition.codec.sample_rate() == self.parameters.codec.sample_rate();
        rendition.frame_pcm(frame).filter(|_| same_rate)
    }

    /// The player goes one frame on.
    pub(super) fn advance_player(&mut self, now: Instant) {
        // Who isn't sent anything yet is told it when he is.
        if self.player.is_playing() && self.may_send() {
            if self.destination().is_some() {
                self.prompted_at.get_or_insert(now);
            }
            self.player.advance();
        }
    }

    /// This frame's voice, where it may be heard.
    pub(super) fn speech(&self) -> Option<&[i16]> {
        let heard = self.may_speak() && self.frame != FrameKind::Silence;
        heard.then(|| self.codecs.receiver.pcm())
    }

    /// May this leg be heard at all?
    pub(super) const fn may_speak(&self) -> bool {
        !self.muted && self.parameters.direction.receives() && !self.hold.is_on()
    }

    /// Level and activity of this frame.
    pub(super) fn voice(&self) -> Voice {
        self.codecs.receiver.voice()
    }

    /// Does it play what is encoded already, in a codec that would be dear to encode for it alone? Then
    /// that is all it is sent meanwhile.
    pub(super) fn plays_alone(&self) -> bool {
        let encoded = |(rendition, frame): (&Rendition, usize)| {
            rendition.codec == Codec::Opus && rendition.frame(frame).is_some()
        };
        self.parameters.codec == Codec::Opus && self.player.current().is_some_and(encoded)
    }

    pub(super) fn is_playing(&self) -> bool {
        self.player.is_playing()
    }

    /// Judges anew what loss it is to be encoded for, in percent.
    pub(super) fn weigh_losses(&mut self, now: Instant) -> u8 {
        if self.parameters.uses_fec {
            self.rtcp.losses.weigh(now)
        } else {
            0
        }
    }

    /// What was judged last.
    pub(super) const fn loss_percent(&self) -> u8 {
        self.rtcp.losses.percent()
    }

    pub(super) const fn codecs_mut(&mut self) -> &mut CodecSet {
        &mut self.codecs
    }

    pub(super) const fn hears(&self) -> Hears {
        self.hears
    }

    pub(super) const fn set_hears(&mut self, hears: Hears) {
        self.hears = hears;
    }

    /// Which leg this is.
    #[must_use]
    pub const fn id(&self) -> LegId {
        self.id
    }

    /// What it leads to.
    #[must_use]
    pub const fn kind(&self) -> LegKind {
        self.kind
    }

    /// What was agreed.
    #[must_use]
    pub const fn parameters(&self) -> &MediaParameters {
        &self.parameters
    }
}

/// Ticks of 5 ms in a frame.
pub const TICKS_PER_FRAME: u64 = FRAME.as_millis() as u64 / 5;
