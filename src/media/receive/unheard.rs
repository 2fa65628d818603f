//! Packets that are silent by their sender's own word are not decoded while nobody hears the leg. The
//! last of them are kept and replayed into the decoder before it is heard again: a decoder predicts
//! from what came before, and speech that follows would set in wrong.

use super::sound::OPUS_DTX_BYTES;
use crate::media::codec::{Codec, Decoder};
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
    /// Said of the next frame, and of this one.
    next: bool,
    now: bool,
    /// Frames without a voice, in a row.
    quiet: u16,
    /// Packets left out since the last one decoded.
    skipped: u16,
    /// This sender's voice detector has been seen to find a voice: its word counts.
    trusted: bool,
    level: Option<Decibels>,
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
            Codec::Opus => PAST,
            Codec::Pcmu | Codec::Pcma | Codec::G722 => 0,
        };
        Self {
            past: vec![Past::EMPTY; places].into(),
            first: 0,
            count: 0,
            gaps: 0,
            next: false,
            now: false,
            quiet: 0,
            skipped: 0,
            trusted: false,
            level: None,
        }
    }

    /// Nobody hears the next frame.
    pub(super) const fn note(&mut self) {
        self.next = true;
    }

    pub(super) const fn begin_frame(&mut self) {
        self.now = self.next;
        self.next = false;
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
        self.skipped = 0;
        self.trusted = false;
    }

    /// Nobody hears this frame, nor was there anything to hear for a while.
    pub(super) const fn is_quiet(&self) -> bool {
        self.now && self.quiet >= QUIET_FRAMES
    }

    /// May this packet be left out? Now and then one is decoded all the same, so that level and
    /// noise floor stay true, and a sender whose word is wrong is found out.
    pub(super) fn may_skip(&self, decoder: &Decoder, payload: &[u8]) -> bool {
        self.is_quiet()
            && !self.past.is_empty()
            && payload.len() <= PAYLOAD_MAX
            && self.skipped < LOOK_EVERY
            && (payload.len() <= OPUS_DTX_BYTES || self.trusted && decoder.is_voiceless(payload))
    }

    /// A packet, or where it is empty a gap, is left out.
    pub(super) fn keep(&mut self, payload: &[u8]) {
        self.level = None;
        if !payload.is_empty() {
            self.skipped = self.skipped.saturating_add(1);
        }
        let is_gap = payload.len() <= OPUS_DTX_BYTES;
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
    pub(super) fn catch_up(&mut self, decoder: &mut Decoder, room: &mut [i16]) {
        for n in 0..self.count {
            let Some(past) = self.past.get((self.first + n) % self.past.len()) else {
                break;
            };
            let payload = past.bytes.get(..past.length.into()).unwrap_or_default();
            // What can't be decoded would have been left out as well.
            let _told = if payload.is_empty() {
                let frame = decoder.codec().sample_rate().frame_samples();
                decoder.conceal(room.get_mut(..frame).unwrap_or_default())
            } else {
                decoder.decode(payload, room)
            };
        }
        self.count = 0;
        self.gaps = 0;
    }

    /// This packet is decoded.
    pub(super) fn note_decoded(&mut self, decoder: &Decoder, payload: &[u8]) {
        self.skipped = 0;
        let flagged = !self.past.is_empty() && payload.first().is_some_and(|toc| *toc < CELT_ONLY);
        if !self.trusted && flagged && payload.len() > OPUS_DTX_BYTES {
            self.trusted = !decoder.is_voiceless(payload);
        }
    }

    /// How loud what was left out is said to be.
    pub(super) const fn show(&mut self, level: Option<Decibels>) {
        self.level = level;
    }

    /// How loud what was left out is, where that is known.
    pub(super) const fn level(&self) -> Option<Decibels> {
        self.level
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

/// Packets replayed.
const PAST: usize = 4;
/// Of these without sound.
const GAPS_KEPT: usize = 2;
/// Bytes of a packet that can be kept: 20 ms at 64 kbit/s.
const PAYLOAD_MAX: usize = 160;
/// 300 ms, beside the hangover of the voice detector: longer than a leg keeps the floor.
const QUIET_FRAMES: u16 = 15;
/// Packets: 2 s of 20 ms.
const LOOK_EVERY: u16 = 100;
/// From here on a packet's first byte says that it has no voice flags (RFC 6716 table 2).
const CELT_ONLY: u8 = 16 << 3;

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::media::codec::{Encoder, OpusSettings, PAYLOAD_BYTES_MAX};
    use crate::media::parameters::{Direction, MediaParameters};
    use crate::media::receive::{FrameKind, ReceiveStatistics, Receiver, ReceiverConfig};
    use crate::media::rtp::RtpHeader;
    use crate::media::seeded::{self, Random};
    use crate::units::{Ptime, RtpTicks, SeqNo, Ssrc};

    fn parameters() -> MediaParameters {
        MediaParameters {
            codec: Codec::Opus,
            payload_type_send: 111,
            payload_type_receive: 111,
            telephone_event: None,
            comfort_noise: None,
            ptime: Ptime::DEFAULT,
            direction: Direction::SendRecv,
            remote_rtp: "198.51.100.7:4000".parse().unwrap(),
            remote_rtcp: "198.51.100.7:4001".parse().unwrap(),
            srtp: None,
            signalling_source: None,
        }
    }

    /// The same packets for a receiver that leaves out what it may and one that never does.
    struct Scene {
        thrifty: Receiver,
        thorough: Receiver,
        now: Instant,
        quiet: u32,
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
                bytes.extend(payload);
                self.sequence = self.sequence.wrapping_add(1);
                if !lost {
                    self.thrifty.handle_rtp(self.now, &bytes);
                    self.thorough.handle_rtp(self.now, &bytes);
                }
            }
            self.timestamp += 960;
            // As in a bridge, which keeps the floor for 300 ms and tells of it a frame later.
            if self.quiet > 16 {
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
            (self.sends_all || length > OPUS_DTX_BYTES).then(|| payload[..length].to_vec())
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
                (true, false, false, 5),
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

    #[test]
    fn a_sender_whose_flags_never_told_of_a_voice_is_not_believed() {
        let mut silence = Unheard::new(Codec::Opus);
        let decoder = Decoder::new(Codec::Opus).unwrap();
        let (voiceless, voiced) = ([0x48, 0x7F, 1], [0x48, 0x80, 1]);
        for _ in 0..30 {
            silence.note();
            silence.begin_frame();
            assert!(!silence.may_skip(&decoder, &voiceless));
            silence.note_decoded(&decoder, &voiceless);
            silence.end_frame(false);
        }
        silence.note_decoded(&decoder, &voiced);
        assert!(silence.may_skip(&decoder, &voiceless));
        assert!(!silence.may_skip(&decoder, &voiced));
        // Nor for ever.
        let skipped = (0..1_000).take_while(|_| {
            let may = silence.may_skip(&decoder, &voiceless);
            silence.keep(&voiceless);
            may
        });
        assert_eq!(skipped.count(), usize::from(LOOK_EVERY));
    }
}
