//! One leg's receiving side: from a packet that passed the source check to 20 ms of PCM, with the
//! keys taken out and the voice judged.

mod absence;
mod ahead;
mod claims;
mod comfort;
mod keys;
mod sound;
mod staging;
mod statistics;
mod stream;
mod unheard;

use std::time::{Duration, Instant};

use crate::media::audio_level::AudioLevel;
use crate::media::codec::{Codec, CodecError, Decoder};
pub use crate::media::dtmf::KeyPress;
use crate::media::jitter::{Inserted, JitterBuffer, JitterConfig, Next, Plan};
use crate::media::parameters::MediaParameters;
use crate::media::plc::Concealer;
use crate::media::rtcp::{NtpTime, ReceptionReport};
use crate::media::rtp::RtpPacket;
use crate::media::voice::{Voice, VoiceDetector};
use crate::units::{Decibels, ExtSeqNo, Ssrc};
use claims::Claims;
use comfort::ComfortNoise;
use keys::Keys;
use staging::{Staging, Willing};
pub use statistics::ReceiveStatistics;
use statistics::{Counts, LossRate};
use stream::{Fit, Stream};
use unheard::{Audience, Loudness, Unheard};

/// What may be chosen; the defaults suit telephones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiverConfig {
    /// The longest delay that is built up against jitter.
    pub delay_max: Duration,
}

impl Default for ReceiverConfig {
    fn default() -> Self {
        Self {
            delay_max: Duration::from_millis(200),
        }
    }
}

/// Receives one leg.
#[derive(Debug)]
pub struct Receiver {
    parameters: MediaParameters,
    stream: Stream,
    jitter: JitterBuffer,
    decoder: Decoder,
    /// `None`: the codec conceals its own losses.
    concealer: Option<Concealer>,
    comfort: ComfortNoise,
    keys: Keys,
    voice: VoiceDetector,
    staging: Staging,
    unheard: Unheard,
    claims: Claims,
    kind: FrameKind,
    /// Samples concealed without a break.
    concealed: usize,
    /// Samples that the decoder made up in this pause.
    paused: usize,
    loss: LossRate,
    counts: Counts,
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketVerdict {
    /// Audio or comfort noise: it will be heard.
    Accepted,
    /// A key event: handled.
    Key,
    /// Not RTP, or its payload can't be decoded.
    Malformed,
    /// Nobody agreed on this payload type.
    UnknownPayloadType,
    /// Had before.
    Duplicate,
    /// Its turn was over.
    Late,
    /// Kept, but the oldest one had to go for it.
    Overflow,
    /// Perhaps of another stream, which must prove itself first.
    Strange,
}

/// What a frame is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FrameKind {
    /// Nothing to play: no stream, a pause, a key being pressed.
    Silence,
    /// Silent by the sender's own word, and not even made, for nobody hears it.
    Skipped,
    /// Made up because the sender announced silence.
    ComfortNoise,
    /// Made up because something is lost or late.
    Concealed,
    /// Received, at least in part.
    Voice,
}

impl Receiver {
    /// Allocates all it will ever use.
    ///
    /// # Errors
    /// [`CodecError`] if the decoder can't be had.
    pub fn new(parameters: &MediaParameters, config: ReceiverConfig) -> Result<Self, CodecError> {
        let codec = parameters.codec;
        let rate = codec.sample_rate();
        Ok(Self {
            parameters: *parameters,
            stream: Stream::default(),
            jitter: JitterBuffer::new(jitter_config(codec, config)),
            decoder: Decoder::new(codec)?,
            concealer: (codec != Codec::Opus).then(|| Concealer::new(rate)),
            comfort: ComfortNoise::new(),
            keys: Keys::new(parameters),
            voice: VoiceDetector::new(rate),
            staging: Staging::new(rate),
            unheard: Unheard::new(codec),
            claims: Claims::default(),
            kind: FrameKind::Silence,
            concealed: 0,
            paused: 0,
            loss: LossRate::default(),
            counts: Counts::default(),
        })
    }

    /// Takes one datagram that passed the source check. Whatever it is, it is counted here.
    pub fn handle_rtp(&mut self, now: Instant, packet: &[u8]) -> PacketVerdict {
        let verdict =
            RtpPacket::parse(packet).map_or(PacketVerdict::Malformed, |rtp| self.take(now, &rtp));
        self.counts.note(verdict);
        verdict
    }

    /// Makes the next 20 ms, to be had from [`Self::pcm`]. To be called every 20 ms.
    pub fn pull_frame(&mut self, now: Instant) -> FrameKind {
        let length = self.frame_samples();
        self.unheard.begin_frame();
        self.staging.release();
        self.fill(now, length);
        self.correct(now, length);
        self.kind = self.staging.take(length);
        self.counts.note_frame(self.kind);
        let delay = self.keys.is_pressed().then(|| self.jitter.delay());
        let patched = self.staging.frame_is_patched();
        if self
            .keys
            .listen(now, delay, patched, self.staging.frame_mut())
        {
            self.kind = FrameKind::Silence;
        }
        let voice = match self.kind {
            FrameKind::Skipped => match self.unheard.loudness() {
                Loudness::AsBefore => self.voice.process_skipped(None),
                Loudness::Made(level) => self.voice.process_skipped(Some(level)),
                Loudness::Told(level) => self.voice.process_told(level),
            },
            FrameKind::ComfortNoise => self.voice.process_comfort(self.staging.frame()),
            FrameKind::Silence | FrameKind::Concealed => {
                self.voice.process_made_up(self.staging.frame())
            }
            FrameKind::Voice => self.voice.process(self.staging.frame()),
        };
        self.unheard.end_frame(voice.active);
        self.kind
    }

    /// The frame pulled next will be heard by nobody unless somebody speaks in it: what is silent by
    /// the sender's own word need not be decoded. To be said before each such pull.
    pub const fn note_unheard(&mut self) {
        self.unheard.note(Audience::IfVoice);
    }

    /// The frame pulled next will be heard by nobody, whatever is in it: only keys that come as tones
    /// need it decoded. To be said before each such pull.
    pub const fn note_muted(&mut self) {
        if !self.keys.listens_to_tones() {
            self.unheard.note(Audience::Nobody);
        }
    }

    /// It was agreed on that nothing is sent. To be said for as long as that is so.
    pub const fn note_pause(&mut self) {
        self.jitter.note_pause();
    }

    /// A sender report of the peer's came in by RTCP.
    pub fn handle_sender_report(&mut self, now: Instant, ssrc: Ssrc, ntp: NtpTime) {
        self.stream.note_sender_report(now, ssrc, ntp);
    }

    /// The peer goes on under other parameters: a key that `earlier` was in the middle of counts once.
    pub fn go_on_from(&mut self, now: Instant, earlier: &mut Self) {
        self.keys.go_on_from(now, &mut earlier.keys);
    }

    /// A key that was pressed, once.
    pub fn poll_key(&mut self) -> Option<KeyPress> {
        self.keys.poll()
    }

    /// How the peer is received, for RTCP; `None` before the first packet. Each call begins a new
    /// reporting interval.
    pub fn report_block(&mut self, now: Instant) -> Option<ReceptionReport> {
        self.stream.report(now)
    }

    /// The frame of the last pull, at the codec's sample rate; empty before the first.
    #[must_use]
    pub fn pcm(&self) -> &[i16] {
        self.staging.frame()
    }

    /// What the frame of the last pull is made of.
    #[must_use]
    pub const fn kind(&self) -> FrameKind {
        self.kind
    }

    /// Level and voice activity of the frame of the last pull.
    #[must_use]
    pub const fn voice(&self) -> Voice {
        self.voice.voice()
    }

    /// May nothing come for however long? The sender has announced silence (RFC 3389), or is one of those
    /// who send nothing while nobody talks.
    #[must_use]
    pub const fn may_be_silent(&self) -> bool {
        self.comfort.is_on() || self.jitter.pauses_unsaid()
    }

    /// The SSRC of the peer's stream; `None` before the first packet.
    #[must_use]
    pub fn ssrc(&self) -> Option<Ssrc> {
        self.stream.ssrc()
    }

    /// Counts since the leg began.
    #[must_use]
    pub fn statistics(&self) -> ReceiveStatistics {
        ReceiveStatistics {
            received: self.stream.received(),
            lost: self.stream.lost(),
            loss_runs: self.counts.loss_runs,
            late: self.counts.late,
            duplicated: self.counts.duplicated,
            malformed: self.counts.malformed,
            overflowed: self.counts.overflowed,
            strange: self.counts.strange,
            frames: self.counts.frames,
            concealed_frames: self.counts.concealed_frames,
            fec_frames: self.counts.fec_frames,
            jitter_ms: self.stream.jitter() * 1000.0 / self.parameters.codec.rtp_clock() as f32,
            buffer_ms: self.jitter.delay().as_secs_f32() * 1000.0,
            corrections: self.counts.corrections,
            resyncs: self.stream.restarts(),
        }
    }

    /// Bytes that this receiver takes, the decoder's own state not counted.
    #[must_use]
    pub fn memory(&self) -> usize {
        size_of::<Self>()
            + self.jitter.allocated()
            + self.staging.allocated()
            + self.keys.allocated()
            + self.unheard.allocated()
            + self.concealer.as_ref().map_or(0, Concealer::allocated)
    }

    fn frame_samples(&self) -> usize {
        self.parameters.codec.sample_rate().frame_samples()
    }

    fn take(&mut self, now: Instant, rtp: &RtpPacket<'_>) -> PacketVerdict {
        let Some(meaning) = self.meaning_of(rtp) else {
            return PacketVerdict::UnknownPayloadType;
        };
        let ticks = match meaning {
            Meaning::Audio => match self.ticks_in(rtp.payload) {
                Some(ticks) => ticks,
                None => return PacketVerdict::Malformed,
            },
            Meaning::Key | Meaning::ComfortNoise => 0,
        };
        // Only audio has a timestamp that says when it was made: a key's is that of its beginning.
        let now = match meaning {
            Meaning::Audio => self.jitter.arrival(now, rtp.header.timestamp),
            Meaning::Key | Meaning::ComfortNoise => now,
        };
        let plausible =
            meaning != Meaning::Audio || self.jitter.is_plausible(now, rtp.header.timestamp);
        let sequence = match self.stream.check(now, &rtp.header, plausible) {
            Fit::Fits(sequence) => sequence,
            Fit::Begins(sequence) => {
                self.restart(now);
                sequence
            }
            Fit::Duplicate => return PacketVerdict::Duplicate,
            Fit::Strange => return PacketVerdict::Strange,
        };
        if meaning == Meaning::Audio {
            let micros =
                u64::from(ticks) * 1_000_000 / u64::from(self.parameters.codec.rtp_clock());
            self.stream.note_packet_time(Duration::from_micros(micros));
        }
        self.counts.loss_runs += self.loss.note(sequence);
        match meaning {
            Meaning::Audio => self.take_audio(now, rtp, sequence, ticks),
            Meaning::Key => {
                self.jitter.note_other(sequence);
                self.keys.take_event(now, &rtp.header, rtp.payload);
                PacketVerdict::Key
            }
            Meaning::ComfortNoise => {
                self.jitter.note_other(sequence);
                self.comfort.announce(rtp.payload);
                PacketVerdict::Accepted
            }
        }
    }

    fn meaning_of(&self, rtp: &RtpPacket<'_>) -> Option<Meaning> {
        let payload_type = rtp.header.payload_type;
        let key = self
            .parameters
            .telephone_event
            .map(|event| event.payload_type);
        if payload_type == self.parameters.payload_type_receive {
            Some(Meaning::Audio)
        } else if key == Some(payload_type) {
            Some(Meaning::Key)
        } else if payload_type == self.parameters.comfort_noise.unwrap_or(COMFORT_NOISE) {
            Some(Meaning::ComfortNoise)
        } else {
            None
        }
    }

    /// RTP ticks of a payload: G.722's clock is half its sample rate (RFC 3551 section 4.5.2).
    fn ticks_in(&self, payload: &[u8]) -> Option<u32> {
        let samples = self.decoder.samples_in(payload)?;
        u32::try_from(samples / self.samples_per_tick()).ok()
    }

    const fn samples_per_tick(&self) -> usize {
        let codec = self.parameters.codec;
        (codec.sample_rate().hz() / codec.rtp_clock()) as usize
    }

    fn take_audio(
        &mut self,
        now: Instant,
        rtp: &RtpPacket<'_>,
        sequence: ExtSeqNo,
        ticks: u32,
    ) -> PacketVerdict {
        let header = &rtp.header;
        let level = (self.parameters.audio_level.zip(rtp.extension))
            .and_then(|(id, extension)| AudioLevel::read(id, extension));
        let arrival = self.jitter.ticks_at(now);
        let transit = (arrival as u32)
            .wrapping_sub(header.timestamp.0)
            .cast_signed();
        let clock = self.parameters.codec.rtp_clock();
        self.stream.note_transit(transit, clock);
        match self
            .jitter
            .insert(now, sequence, header.timestamp, ticks, level, rtp.payload)
        {
            Inserted::Stored => PacketVerdict::Accepted,
            Inserted::Late => PacketVerdict::Late,
            Inserted::Overflow => PacketVerdict::Overflow,
            Inserted::Misfit => PacketVerdict::Malformed,
        }
    }

    fn restart(&mut self, now: Instant) {
        self.jitter.restart();
        self.decoder.reset();
        self.unheard.restart();
        self.claims = Claims::default();
        self.comfort.end();
        self.keys.restart(now);
        self.loss = LossRate::default();
    }

    /// Decodes or makes up until `length` samples are staged.
    fn fill(&mut self, now: Instant, length: usize) {
        // Each step stages something; the bound only guards against a mistake here.
        for _ in 0..STEPS_MAX {
            let Some(needed) = length
                .checked_sub(self.staging.len())
                .filter(|needed| *needed > 0)
            else {
                return;
            };
            let staged = u32::try_from(self.staging.len() / self.samples_per_tick()).unwrap_or(0);
            let (next, dropped) = self.jitter.next(now, staged);
            self.counts.late += u64::from(dropped);
            self.play(next, needed);
        }
        self.staging
            .fill_silence(length.saturating_sub(self.staging.len()));
    }

    fn play(&mut self, next: Next, needed: usize) {
        if !matches!(next, Next::Packet { .. }) {
            self.claims.interrupt();
        }
        match next {
            Next::Packet { slot, skip } => {
                self.decode(slot, skip as usize * self.samples_per_tick())
            }
            Next::Missing { ticks, next } => {
                let missing =
                    ticks.map_or(needed, |ticks| ticks as usize * self.samples_per_tick());
                self.make_good(missing, needed, next);
            }
            Next::Pause { ticks } => {
                let pause = ticks.map_or(needed, |ticks| ticks as usize * self.samples_per_tick());
                self.pause(pause.min(needed));
            }
            // Announced silence may last for long.
            Next::Stopped if self.comfort.is_on() => self.pause(needed),
            Next::Stopped => {
                self.fall_silent(needed);
            }
        }
    }

    fn advance(&mut self, samples: usize) {
        self.jitter.advance(self.ticks_of(samples));
    }

    fn ticks_of(&self, samples: usize) -> u32 {
        u32::try_from(samples / self.samples_per_tick()).unwrap_or(0)
    }

    /// Makes the delay longer or shorter by up to 10 ms: in a pause at once, in a voice after some
    /// time and by a pitch period.
    fn correct(&mut self, now: Instant, length: usize) {
        self.jitter.set_extra(self.extra_delay());
        let (insert, left, willing) = match self.jitter.plan(now) {
            Plan::Keep => return,
            Plan::Insert { left, waited } => {
                (true, left, willing(waited, INSERT_AFTER, INSERT_ANYHOW))
            }
            Plan::Remove { left, waited } => {
                (false, left, willing(waited, REMOVE_AFTER, REMOVE_ANYHOW))
            }
        };
        let hz = i64::from(self.parameters.codec.sample_rate().hz());
        let wanted = usize::try_from(left * hz / 1_000_000)
            .unwrap_or(0)
            .clamp(1, length / 2);
        if !insert && !self.stage_more(now, length + length / 2) {
            return;
        }
        let quiet = Decibels(QUIET.max(self.voice.voice().noise_floor.0 + QUIET_ABOVE_FLOOR));
        let Some(period) = self.staging.period(length, wanted, insert, quiet, willing) else {
            return;
        };
        let done = if insert {
            self.staging.insert(period)
        } else {
            self.staging.cut(period)
        };
        if done > 0 {
            self.counts.corrections += 1;
            self.jitter.plan_done(now, done as i64 * 1_000_000 / hz);
        }
    }

    /// Audio can be taken out only where what follows is there already.
    fn stage_more(&mut self, now: Instant, length: usize) -> bool {
        if self.staging.len() < length && self.jitter.has_next() {
            self.fill(now, length);
        }
        self.staging.len() >= length
    }

    /// With losses, one frame more lets the next packet's copy of the lost one be there in time.
    fn extra_delay(&self) -> Duration {
        let useful = self.parameters.codec == Codec::Opus && self.loss.share() > FEC_LOSS_MIN;
        if useful {
            Duration::from_millis(20)
        } else {
            Duration::ZERO
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Audio,
    Key,
    ComfortNoise,
}

const fn jitter_config(codec: Codec, config: ReceiverConfig) -> JitterConfig {
    let (packets_max, payload_max, bytes_max) = match codec {
        // 120 ms at 64 kbit/s; 26 packets of 10 ms; half a second of any.
        Codec::Pcmu | Codec::Pcma | Codec::G722 => (26, 960, 4_096),
        // The largest frame of RFC 6716 section 3.2.1 with its first byte; 26 packets of 10 ms; 320 ms in
        // packets of 200 kbit/s, 120 ms of the largest.
        Codec::Opus => (26, 1_276, 8_192),
    };
    JitterConfig {
        clock: codec.rtp_clock(),
        delay_max: config.delay_max,
        packets_max,
        payload_max,
        bytes_max,
    }
}

/// How willing a voice is to be cut into after a plan has waited so many microseconds for a pause.
const fn willing(waited: i64, voiced: i64, anywhere: i64) -> Willing {
    if waited >= anywhere {
        Willing::Anywhere
    } else if waited >= voiced {
        Willing::Voiced
    } else {
        Willing::PauseOnly
    }
}

/// The static payload type of RFC 3551; some send it without having agreed on it.
const COMFORT_NOISE: u8 = 13;
/// Packets of 10 ms in a frame and a piece to cut, and room for what lies in between.
const STEPS_MAX: usize = 16;
/// From this share of losses on, redundancy is worth 20 ms of delay.
const FEC_LOSS_MIN: f32 = 0.02;
/// Microseconds that a longer delay waits for a pause: packets are about to be late.
const INSERT_AFTER: i64 = 60_000;
const INSERT_ANYHOW: i64 = 300_000;
/// A shorter one has more time.
const REMOVE_AFTER: i64 = 2_000_000;
const REMOVE_ANYHOW: i64 = 6_000_000;
/// dBFS, and dB above the noise floor: nobody hears a cut there.
const QUIET: f32 = -50.0;
const QUIET_ABOVE_FLOOR: f32 = 4.0;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod typed;
