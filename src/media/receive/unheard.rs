//! Packets that nobody would hear are not decoded: all of a muted leg's, and while a leg hasn't the floor,
//! those that are silent by their sender's own word. The last of them are kept and replayed into the
//! decoder before it is heard again: a decoder predicts from what came before, and speech that follows
//! would set in wrong.

use super::sound::OPUS_DTX_BYTES;
use crate::media::codec::{Codec, Decoder};
use crate::media::plc::Concealer;
use crate::units::Decibels;

/// What is left out, and what is kept of it.
#[derive(Debug)]
pub(super) struct Unheard {
    /// A ring, the oldest at `first`. Without places nothing is ever left out.
    past: Box<[Past]>,
    first: usize,
    count: usize,
    /// Of these the newest so many without sound.
    gaps: usize,
    /// Of the next frame, and of this one.
    next: Audience,
    now: Audience,
    /// Frames without a voice, in a row.
    quiet: u16,
    /// Frames that nobody could hear, in a row.
    muted: u16,
    /// Frames since a packet was last decoded.
    since: u16,
    /// This sender's voice detector has been seen to find a voice: its word counts.
    trusted: bool,
    loudness: Loudness,
}

/// Who hears a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Audience {
    /// Somebody does.
    Somebody,
    /// Somebody does if a voice is in it.
    IfVoice,
    /// Nobody does, whatever is in it.
    Nobody,
}

/// What is to become of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is heard.
    Decode,
    /// It is left out.
    Skip,
    /// It is decoded only to see whether its sender tells the truth: that needs nothing replayed.
    Look,
}

/// How loud what was left out is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Loudness {
    /// Nobody knows: as what was decoded last.
    AsBefore,
    /// As loud as noise would have been made.
    Made(Decibels),
    /// As its sender says.
    Told(Decibels),
}

/// A payload, or where it is empty a gap of 20 ms.
#[derive(Debug, Clone, Copy)]
struct Past {
    length: u8,
    bytes: [u8; PAYLOAD_MAX],
}

impl Unheard {
    pub(super) fn new(codec: Codec) -> Self {
        let places = match codec {
            Codec::Opus | Codec::Pcmu | Codec::Pcma => PAST,
            // Its decoder adapts too slowly for a few packets to bring it up to date.
            Codec::G722 => 0,
        };
        Self {
            past: vec![Past::EMPTY; places].into(),
            first: 0,
            count: 0,
            gaps: 0,
            next: Audience::Somebody,
            now: Audience::Somebody,
            quiet: 0,
            muted: 0,
            since: 0,
            trusted: false,
            loudness: Loudness::AsBefore,
        }
    }

    /// Who hears the next frame.
    pub(super) const fn note(&mut self, audience: Audience) {
        self.next = audience;
    }

    pub(super) const fn begin_frame(&mut self) {
        self.now = self.next;
        self.next = Audience::Somebody;
        self.since = self.since.saturating_add(1);
        self.muted = match self.now {
            Audience::Nobody => self.muted.saturating_add(1),
            Audience::Somebody | Audience::IfVoice => 0,
        };
    }

    pub(super) const fn end_frame(&mut self, active: bool) {
        self.quiet = if active {
            0
        } else {
            self.quiet.saturating_add(1)
        };
    }

    /// Another stream, another sender.
    pub(super) const fn restart(&mut self) {
        self.count = 0;
        self.gaps = 0;
        self.quiet = 0;
        self.since = 0;
        self.trusted = false;
    }

    /// Nobody hears this frame, nor was there anything to be heard for a while.
    pub(super) const fn is_quiet(&self) -> bool {
        match self.now {
            Audience::Somebody => false,
            Audience::IfVoice => self.quiet >= QUIET_FRAMES,
            Audience::Nobody => self.muted >= MUTED_FRAMES,
        }
    }

    /// What is to become of this packet, which is no voice if its level is `told` truly? Now and then
    /// one is decoded all the same, so that level and noise floor stay true, and a sender whose word is
    /// wrong is found out.
    pub(super) fn turn(&self, decoder: &Decoder, payload: &[u8], told: bool) -> Turn {
        if !self.is_quiet() || self.past.is_empty() || payload.len() > PAYLOAD_MAX {
            return Turn::Decode;
        }
        let is_gap = is_gap(decoder.codec(), payload);
        let flagged = is_gap || self.trusted && decoder.is_voiceless(payload);
        let unheard = flagged || self.now == Audience::Nobody;
        let most = match (unheard, told) {
            (true, _) => LOOK_EVERY,
            (false, true) => LOOK_EVERY_TOLD,
            (false, false) => 0,
        };
        if self.since < most {
            Turn::Skip
        } else if told && !is_gap {
            Turn::Look
        } else {
            Turn::Decode
        }
    }

    /// A packet is left out.
    pub(super) fn skip(&mut self, codec: Codec, payload: &[u8], loudness: Loudness) {
        self.loudness = loudness;
        self.keep(payload, is_gap(codec, payload));
    }

    /// Nothing came, nor was anything sent.
    pub(super) fn skip_gap(&mut self) {
        self.loudness = Loudness::AsBefore;
        self.keep(&[], true);
    }

    /// A packet is decoded out of its turn.
    pub(super) fn look(&mut self, payload: &[u8]) {
        self.since = 0;
        self.keep(payload, false);
    }

    fn keep(&mut self, payload: &[u8], is_gap: bool) {
        self.gaps = if is_gap { self.gaps + 1 } else { 0 };
        // However long a pause is, what came before it isn't forgotten.
        if self.gaps > GAPS_KEPT {
            return;
        }
        let places = self.past.len();
        let at = (self.first + self.count).checked_rem(places).unwrap_or(0);
        let (Some(past), Ok(length)) = (self.past.get_mut(at), u8::try_from(payload.len())) else {
            return;
        };
        past.length = length;
        if let Some(bytes) = past.bytes.get_mut(..payload.len()) {
            bytes.copy_from_slice(payload);
        }
        if self.count < places {
            self.count += 1;
        } else {
            self.first = (self.first + 1) % places;
        }
    }

    /// The decoder is about to be used: it hears what was kept, into `room`, where it is dropped.
    pub(super) fn catch_up(
        &mut self,
        decoder: &mut Decoder,
        mut concealer: Option<&mut Concealer>,
        room: &mut [i16],
    ) {
        for n in 0..self.count {
            let Some(past) = self.past.get((self.first + n) % self.past.len()) else {
                break;
            };
            let payload = past.bytes.get(..past.length.into()).unwrap_or_default();
            // What can't be decoded would have been left out as well.
            let replayed = if payload.is_empty() {
                let frame = decoder.codec().sample_rate().frame_samples();
                decoder.conceal(room.get_mut(..frame).unwrap_or_default())
            } else {
                decoder.decode(payload, room)
            };
            if let (Some(concealer), Ok(samples)) = (&mut concealer, replayed) {
                concealer.good(room.get_mut(..samples).unwrap_or_default());
            }
        }
        self.count = 0;
        self.gaps = 0;
    }

    /// This packet is decoded.
    pub(super) fn note_decoded(&mut self, decoder: &Decoder, payload: &[u8]) {
        self.since = 0;
        let flagged = decoder.codec() == Codec::Opus
            && payload.len() > OPUS_DTX_BYTES
            && payload.first().is_some_and(|toc| *toc < CELT_ONLY);
        if !self.trusted && flagged {
            self.trusted = !decoder.is_voiceless(payload);
        }
    }

    /// Noise is not made that would have been so loud.
    pub(super) const fn skip_noise(&mut self, level: Option<Decibels>) {
        self.loudness = match level {
            Some(level) => Loudness::Made(level),
            None => Loudness::AsBefore,
        };
    }

    /// How loud what was left out is.
    pub(super) const fn loudness(&self) -> Loudness {
        self.loudness
    }

    pub(super) fn allocated(&self) -> usize {
        size_of_val(&*self.past)
    }
}

impl Past {
    const EMPTY: Self = Self {
        length: 0,
        bytes: [0; PAYLOAD_MAX],
    };
}

/// Does this packet only say that there is nothing?
const fn is_gap(codec: Codec, payload: &[u8]) -> bool {
    matches!(codec, Codec::Opus) && payload.len() <= OPUS_DTX_BYTES
}

/// Packets replayed.
const PAST: usize = 4;
/// Of these without sound.
const GAPS_KEPT: usize = 2;
/// Bytes of a packet that can be kept: 20 ms at 64 kbit/s.
const PAYLOAD_MAX: usize = 160;
/// 300 ms, beside the hangover of the voice detector: longer than a leg keeps the floor.
const QUIET_FRAMES: u16 = 15;
/// 1 s: who is muted for less is as he was.
const MUTED_FRAMES: u16 = 50;
/// Frames: 2 s, and half a second of packets whose level alone speaks for leaving them out: that is how
/// long a sender who says too little of it may go unheard.
const LOOK_EVERY: u16 = 100;
const LOOK_EVERY_TOLD: u16 = 25;
/// From here on a packet's first byte says that it has no voice flags (RFC 6716 table 2).
const CELT_ONLY: u8 = 16 << 3;

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::media::codec::{Encoder, OpusSettings, PAYLOAD_BYTES_MAX};
    use crate::media::parameters::MediaParameters;
    use crate::media::receive::{FrameKind, ReceiveStatistics, Receiver, ReceiverConfig};
    use crate::media::rtp::RtpHeader;
    use crate::media::seeded::{self, Random};
    use crate::units::{RtpTicks, SeqNo, Ssrc};

    fn parameters() -> MediaParameters {
        MediaParameters {
            payload_type_send: 111,
            payload_type_receive: 111,
            audio_level: Some(LEVEL_ID),
            ..MediaParameters::plain(Codec::Opus, "198.51.100.7:4000".parse().unwrap())
        }
    }

    /// The same packets for a receiver that leaves out what it may and one that never does.
    struct Scene {
        thrifty: Receiver,
        thorough: Receiver,
        now: Instant,
        quiet: u32,
        /// dB below overload, as told.
        level: Option<u8>,
        muted: bool,
        sequence: u16,
        timestamp: u32,
        /// Of frames since the last call of `kinds`.
        kinds: Vec<FrameKind>,
        /// dB, frame by frame.
        likeness: Vec<f32>,
    }

    impl Scene {
        fn new() -> Self {
            let receiver = || Receiver::new(&parameters(), ReceiverConfig::default()).unwrap();
            Self {
                thrifty: receiver(),
                thorough: receiver(),
                now: seeded::start(),
                quiet: 0,
                level: None,
                muted: false,
                sequence: 0,
                timestamp: 0,
                kinds: Vec::new(),
                likeness: Vec::new(),
            }
        }

        /// 20 ms; `None`: nothing was sent, `lost`: it was, but doesn't arrive.
        fn frame(&mut self, payload: Option<&[u8]>, lost: bool) {
            if let Some(payload) = payload {
                let mut bytes = vec![0; 12];
                let header = RtpHeader {
                    marker: false,
                    payload_type: 111,
                    sequence: SeqNo(self.sequence),
                    timestamp: RtpTicks(self.timestamp),
                    ssrc: Ssrc(7),
                };
                header.write(&mut bytes).unwrap();
                if let Some(level) = self.level {
                    bytes[0] |= 0x10;
                    // The voice flag is set, as some senders always do.
                    bytes.extend([0xBE, 0xDE, 0, 1, LEVEL_ID << 4, 0x80 | level, 0, 0]);
                }
                bytes.extend(payload);
                self.sequence = self.sequence.wrapping_add(1);
                if !lost {
                    self.thrifty.handle_rtp(self.now, &bytes);
                    self.thorough.handle_rtp(self.now, &bytes);
                }
            }
            self.timestamp += 960;
            // As in a bridge, which keeps the floor for 300 ms and tells of it a frame later.
            if self.muted {
                self.thrifty.note_muted();
            } else if self.quiet > 16 {
                self.thrifty.note_unheard();
            }
            self.kinds.push(self.thrifty.pull_frame(self.now));
            self.thorough.pull_frame(self.now);
            self.quiet = if self.thrifty.voice().active {
                0
            } else {
                self.quiet + 1
            };
            self.likeness
                .push(snr(self.thorough.pcm(), self.thrifty.pcm()));
            self.now += Duration::from_millis(20);
        }

        fn skipped(&mut self) -> usize {
            let skipped = self
                .kinds
                .iter()
                .filter(|k| **k == FrameKind::Skipped)
                .count();
            self.kinds.clear();
            self.likeness.clear();
            skipped
        }

        fn assert_counts_alike(&self) {
            let counts = |of: ReceiveStatistics| {
                (
                    of.received,
                    of.lost,
                    of.concealed_frames,
                    of.fec_frames,
                    of.late,
                )
            };
            assert_eq!(
                counts(self.thrifty.statistics()),
                counts(self.thorough.statistics())
            );
        }
    }

    fn snr(expected: &[i16], got: &[i16]) -> f32 {
        let energy = |difference: &dyn Fn(i16, i16) -> f32| -> f32 {
            expected
                .iter()
                .zip(got)
                .map(|(a, b)| difference(*a, *b).powi(2))
                .sum()
        };
        let noise = energy(&|a, b| f32::from(a) - f32::from(b));
        let signal = energy(&|a, _| f32::from(a));
        if noise == 0.0 {
            f32::INFINITY
        } else {
            10.0 * (signal / noise).log10()
        }
    }

    /// A caller: syllables, and between them a room.
    struct Caller {
        encoder: Encoder,
        random: Random,
        sample: usize,
        room: f32,
        /// Also the packets of DTX that have no sound.
        sends_all: bool,
        loses: bool,
    }

    impl Caller {
        fn new(settings: OpusSettings, room_dbfs: f32) -> Self {
            let mut encoder = Encoder::new(Codec::Opus).unwrap();
            encoder.set_opus(settings).unwrap();
            Self {
                encoder,
                random: Random::new(5),
                sample: 0,
                room: 32_768.0 * 10.0_f32.powf(room_dbfs / 20.0) * 3.0_f32.sqrt(),
                sends_all: false,
                loses: false,
            }
        }

        fn payload(&mut self, talks: bool) -> Option<Vec<u8>> {
            self.payload_and_level(talks).0
        }

        /// The level in dB below overload.
        fn payload_and_level(&mut self, talks: bool) -> (Option<Vec<u8>>, u8) {
            let pcm: Vec<i16> = (0..960)
                .map(|_| {
                    let t = self.sample as f32 / 48_000.0;
                    self.sample += 1;
                    let noise = (self.random.unit() * 2.0 - 1.0) * self.room;
                    let turn = t * std::f32::consts::TAU * (120.0 + 10.0 * (t * 2.0).sin());
                    let voice: f32 = (1..14).map(|k| (turn * k as f32).sin() / k as f32).sum();
                    let envelope = 0.2 + (t * 9.0).sin().powi(2);
                    (noise
                        + if talks {
                            4_000.0 * voice * envelope
                        } else {
                            0.0
                        }) as i16
                })
                .collect();
            let mut payload = [0; PAYLOAD_BYTES_MAX];
            let length = self.encoder.encode(&pcm, &mut payload).unwrap();
            // As libopus tells its users to: what has no more than two bytes is not sent.
            let power = pcm.iter().map(|x| f32::from(*x).powi(2)).sum::<f32>() / 960.0;
            let level = Decibels::from_amplitude(power.sqrt() / 32_768.0);
            let sent =
                (self.sends_all || length > OPUS_DTX_BYTES).then(|| payload[..length].to_vec());
            (sent, (-level.0).clamp(0.0, 127.0) as u8)
        }
    }

    fn word_after_silence(scene: &mut Scene, mut caller: Caller, silent: usize) -> (usize, f32) {
        for n in 0..100 + silent {
            let payload = caller.payload(n < 100);
            scene.frame(payload.as_deref(), caller.loses && n % 37 == 36);
        }
        let skipped = scene.skipped();
        for _ in 0..20 {
            let payload = caller.payload(true);
            scene.frame(payload.as_deref(), false);
        }
        let worst = scene.likeness.iter().skip(1).copied();
        (skipped, worst.fold(f32::INFINITY, f32::min))
    }

    #[test]
    fn the_first_word_after_silence_that_was_left_out_is_whole() {
        for (bitrate, room, least) in [
            (16_000, -58.0, 100),
            (24_000, -62.0, 100),
            (64_000, -58.0, 100),
        ] {
            // Noise is sent; or almost nothing is, and that is said or not.
            for (dtx, sends_all, loses, least) in [
                (false, true, false, 3 * least / 2),
                (false, true, true, least / 2),
                (true, true, false, least),
                (true, false, false, least),
            ] {
                let settings = OpusSettings {
                    bitrate,
                    dtx,
                    ..OpusSettings::default()
                };
                let caller = Caller {
                    sends_all,
                    loses,
                    ..Caller::new(settings, room)
                };
                let mut scene = Scene::new();
                let (skipped, likeness) = word_after_silence(&mut scene, caller, 203);
                let case = format!("{bitrate} {dtx} {sends_all} {loses}: {skipped}, {likeness} dB");
                assert!(skipped >= least, "{case}");
                assert!(likeness >= 40.0, "{case}");
                if sends_all {
                    scene.assert_counts_alike();
                } else {
                    // Nobody knows of the first pause what it is.
                    let concealed = scene.thrifty.statistics().concealed_frames;
                    assert!(concealed <= 6, "{case}, {concealed} concealed");
                }
            }
        }
    }

    #[test]
    fn a_voice_on_the_floor_is_always_decoded() {
        let mut scene = Scene::new();
        let mut caller = Caller::new(OpusSettings::default(), -58.0);
        for n in 0..150 {
            let payload = caller.payload(n < 100);
            scene.quiet = 0;
            scene.frame(payload.as_deref(), false);
        }
        assert_eq!(scene.skipped(), 0);
    }

    #[test]
    fn the_level_and_the_noise_floor_stay_those_of_the_room() {
        let mut scene = Scene::new();
        let mut caller = Caller::new(OpusSettings::default(), -55.0);
        for n in 0..400 {
            let payload = caller.payload(n < 100);
            scene.frame(payload.as_deref(), false);
        }
        assert!(scene.skipped() > 200);
        let (thrifty, thorough) = (scene.thrifty.voice(), scene.thorough.voice());
        assert!(
            (thrifty.level.0 - thorough.level.0).abs() < 4.0,
            "{thrifty:?} {thorough:?}"
        );
        let floors = thrifty.noise_floor.0 - thorough.noise_floor.0;
        assert!(floors.abs() < 4.0, "{thrifty:?} {thorough:?}");
    }

    /// Room noise in which the sender's own detector hears a voice often enough.
    const ROOM: f32 = -55.0;
    const LEVEL_ID: u8 = 5;

    /// 100 frames of voice, then of noise, levels told; returns what was left out of the noise.
    fn told_silence(scene: &mut Scene, caller: &mut Caller, silent: usize) -> usize {
        for n in 0..100 + silent {
            let (payload, level) = caller.payload_and_level(n < 100);
            scene.level = Some(level);
            scene.frame(payload.as_deref(), caller.loses && n % 37 == 36);
        }
        scene.skipped()
    }

    fn worst_of_a_word(scene: &mut Scene, caller: &mut Caller) -> f32 {
        for _ in 0..20 {
            let (payload, level) = caller.payload_and_level(true);
            scene.level = Some(level);
            scene.frame(payload.as_deref(), false);
        }
        let worst = scene.likeness.iter().skip(1).copied();
        worst.fold(f32::INFINITY, f32::min)
    }

    #[test]
    fn noise_that_is_told_to_be_quiet_is_left_out_and_the_word_after_it_is_whole() {
        for (bitrate, loses, silent) in [
            (16_000, false, 200),
            (24_000, false, 203),
            (24_000, true, 201),
            (64_000, false, 207),
        ] {
            let settings = OpusSettings {
                bitrate,
                ..OpusSettings::default()
            };
            let mut caller = Caller {
                loses,
                ..Caller::new(settings, ROOM)
            };
            let mut scene = Scene::new();
            let skipped = told_silence(&mut scene, &mut caller, silent);
            let voice = (scene.thrifty.voice(), scene.thorough.voice());
            let likeness = worst_of_a_word(&mut scene, &mut caller);
            let case = format!("{bitrate} {loses} {silent}: {skipped}, {likeness} dB, {voice:?}");
            assert!(skipped >= if loses { 110 } else { 150 }, "{case}");
            assert!(likeness >= 40.0, "{case}");
            assert!((voice.0.level.0 - ROOM).abs() < 2.0, "{case}");
            let floors = voice.0.noise_floor.0 - voice.1.noise_floor.0;
            assert!(floors.abs() < 4.0, "{case}");
            scene.assert_counts_alike();
        }
    }

    #[test]
    fn a_talker_whose_phone_tells_silence_is_heard_within_a_second_and_from_then_on() {
        for lie in [127, 70, 55] {
            let mut scene = Scene::new();
            let mut caller = Caller::new(OpusSettings::default(), ROOM);
            assert!(told_silence(&mut scene, &mut caller, 150) > 50);
            let speak = |scene: &mut Scene, caller: &mut Caller, frames| {
                for _ in 0..frames {
                    let payload = caller.payload(true);
                    scene.level = Some(lie);
                    scene.frame(payload.as_deref(), false);
                }
                scene.skipped()
            };
            let missed = speak(&mut scene, &mut caller, 50);
            assert!((1..=40).contains(&missed), "{lie}: {missed} frames");
            assert!(scene.thrifty.voice().active);
            // Pauses, then speaks again: his phone isn't believed a second time.
            for _ in 0..100 {
                let payload = caller.payload(false);
                scene.frame(payload.as_deref(), false);
            }
            scene.skipped();
            assert_eq!(speak(&mut scene, &mut caller, 50), 0, "{lie}");
        }
    }

    #[test]
    fn levels_speak_for_who_never_spoke_but_only_by_the_identifier_agreed_on() {
        let left_out = |audio_level| {
            let parameters = MediaParameters {
                audio_level,
                ..parameters()
            };
            let mut scene = Scene::new();
            scene.thrifty = Receiver::new(&parameters, ReceiverConfig::default()).unwrap();
            let mut caller = Caller::new(OpusSettings::default(), -65.0);
            for _ in 0..200 {
                let (payload, level) = caller.payload_and_level(false);
                scene.level = Some(level);
                scene.frame(payload.as_deref(), false);
            }
            scene.skipped()
        };
        assert!(left_out(Some(LEVEL_ID)) > 150);
        assert_eq!(left_out(Some(LEVEL_ID + 1)), 0);
        assert_eq!(left_out(None), 0);
    }

    #[test]
    fn nothing_of_a_muted_voice_is_decoded_and_once_it_is_heard_it_is_whole() {
        let mut scene = Scene::new();
        let mut caller = Caller::new(OpusSettings::default(), ROOM);
        for n in 0..403 {
            scene.muted = n >= 100;
            let payload = caller.payload(true);
            scene.frame(payload.as_deref(), false);
        }
        let skipped = scene.skipped();
        assert!(skipped >= 245, "{skipped}");
        scene.muted = false;
        let likeness = worst_of_a_word(&mut scene, &mut caller);
        assert!(likeness >= 40.0, "{likeness} dB");
        assert!(scene.thrifty.voice().active);
        scene.assert_counts_alike();
    }

    #[test]
    fn a_sender_whose_flags_never_told_of_a_voice_is_not_believed() {
        let mut silence = Unheard::new(Codec::Opus);
        let decoder = Decoder::new(Codec::Opus).unwrap();
        let (voiceless, voiced) = ([0x48, 0x7F, 1], [0x48, 0x80, 1]);
        for _ in 0..30 {
            silence.note(Audience::IfVoice);
            silence.begin_frame();
            assert_eq!(silence.turn(&decoder, &voiceless, false), Turn::Decode);
            silence.note_decoded(&decoder, &voiceless);
            silence.end_frame(false);
        }
        silence.note_decoded(&decoder, &voiced);
        assert_eq!(silence.turn(&decoder, &voiceless, false), Turn::Skip);
        assert_eq!(silence.turn(&decoder, &voiced, false), Turn::Decode);
    }

    #[test]
    fn what_is_left_out_is_looked_at_every_two_seconds_however_long_its_packets_are() {
        let decoder = Decoder::new(Codec::Opus).unwrap();
        let (voiceless, voiced) = ([0x48, 0x7F, 1], [0x48, 0x80, 1]);
        for frames in [1, 3] {
            let mut silence = Unheard::new(Codec::Opus);
            let pass = |silence: &mut Unheard, frames| {
                for _ in 0..frames {
                    silence.note(Audience::IfVoice);
                    silence.begin_frame();
                    silence.end_frame(false);
                }
            };
            pass(&mut silence, usize::from(QUIET_FRAMES) + 1);
            for _ in 0..3 {
                silence.note_decoded(&decoder, &voiced);
                let mut left_out = 0;
                loop {
                    pass(&mut silence, frames);
                    if silence.turn(&decoder, &voiceless, false) != Turn::Skip {
                        break;
                    }
                    silence.skip(Codec::Opus, &voiceless, Loudness::AsBefore);
                    left_out += frames;
                }
                assert!((97..=99).contains(&left_out), "{frames}: {left_out}");
            }
        }
    }
}
