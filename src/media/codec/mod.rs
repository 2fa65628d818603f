//! Codecs: payload to PCM and back, 20 ms at a time on the sending side, 10 to 120 ms on the receiving
//! side. Nothing allocates after `new`.

mod g711;
mod g722;
mod opus;

pub use opus::{OpusSettings, Repacketizer};

use crate::media::prefetch::prefetch;
use crate::units::SampleRate;

/// The largest payload that an [`Encoder`] gives for 20 ms. Three of them and an RTP header still
/// fit into one Ethernet frame.
pub const PAYLOAD_BYTES_MAX: usize = 240;

/// The most PCM samples that one payload can hold: 120 ms of Opus (RFC 6716 section 2).
pub const PAYLOAD_SAMPLES_MAX: usize = 5_760;

/// The longest payload that is decoded, in units of [`crate::units::FRAME`].
const PAYLOAD_FRAMES_MAX: usize = 6;

/// The codecs legs speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Codec {
    /// G.711 mu-law, payload type 0.
    Pcmu,
    /// G.711 A-law, payload type 8.
    Pcma,
    /// G.722, payload type 9; its RTP clock is 8000 though it samples at 16 kHz (RFC 3551 section 4.5.2).
    G722,
    /// Opus, mono, 48 kHz (RFC 7587).
    Opus,
}

impl Codec {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Pcmu, Self::Pcma, Self::G722, Self::Opus];

    /// The rate its PCM has here.
    #[must_use]
    pub const fn sample_rate(self) -> SampleRate {
        match self {
            Self::Pcmu | Self::Pcma => SampleRate::Hz8000,
            Self::G722 => SampleRate::Hz16000,
            Self::Opus => SampleRate::Hz48000,
        }
    }

    /// The rate its RTP timestamps count at.
    #[must_use]
    pub const fn rtp_clock(self) -> u32 {
        match self {
            Self::Pcmu | Self::Pcma | Self::G722 => 8_000,
            Self::Opus => 48_000,
        }
    }

    /// The encoding name in `a=rtpmap` (RFC 3551, RFC 7587).
    #[must_use]
    pub const fn encoding_name(self) -> &'static str {
        match self {
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
            Self::G722 => "G722",
            Self::Opus => "opus",
        }
    }

    /// The payload type RFC 3551 assigns; Opus has none.
    #[must_use]
    pub const fn static_payload_type(self) -> Option<u8> {
        match self {
            Self::Pcmu => Some(0),
            Self::Pcma => Some(8),
            Self::G722 => Some(9),
            Self::Opus => None,
        }
    }
}

/// PCM to payloads. Carries all state of the stream, so two encoders in the same state give the
/// same packets for the same input.
#[derive(Debug)]
pub struct Encoder(Encoding);

#[derive(Debug)]
enum Encoding {
    Pcmu,
    Pcma,
    G722(g722::Encoder),
    Opus(opus::Encoder),
}

impl Encoder {
    /// A fresh encoder; Opus with the default [`OpusSettings`].
    ///
    /// # Errors
    /// [`CodecError::Opus`] if libopus refuses.
    pub fn new(codec: Codec) -> Result<Self, CodecError> {
        Ok(Self(match codec {
            Codec::Pcmu => Encoding::Pcmu,
            Codec::Pcma => Encoding::Pcma,
            Codec::G722 => Encoding::G722(g722::Encoder::new()),
            Codec::Opus => Encoding::Opus(opus::Encoder::new(OpusSettings::default())?),
        }))
    }

    /// Changes an Opus encoder's settings from the next frame on; the other codecs have none.
    ///
    /// # Errors
    /// [`CodecError::Mismatch`] on another codec, [`CodecError::Opus`] on a value libopus refuses.
    pub fn set_opus(&mut self, settings: OpusSettings) -> Result<(), CodecError> {
        match &mut self.0 {
            Encoding::Opus(opus) => opus.set(settings),
            Encoding::Pcmu | Encoding::Pcma | Encoding::G722(_) => Err(CodecError::Mismatch),
        }
    }

    /// Changes [`OpusSettings::loss_percent`] from the next frame on; the other codecs carry no copies.
    ///
    /// # Errors
    /// [`CodecError::Opus`] on a value libopus refuses: above 100.
    pub fn expect_loss(&mut self, percent: u8) -> Result<(), CodecError> {
        match &mut self.0 {
            Encoding::Opus(opus) => opus.expect_loss(percent),
            Encoding::Pcmu | Encoding::Pcma | Encoding::G722(_) => Ok(()),
        }
    }

    /// Encodes exactly one 20 ms frame and returns the bytes written. `payload` must have room
    /// for [`PAYLOAD_BYTES_MAX`]. With DTX an Opus payload of up to 2 bytes need not be sent.
    ///
    /// # Errors
    /// [`CodecError::FrameLength`], [`CodecError::BufferTooSmall`], or [`CodecError::Opus`].
    pub fn encode(&mut self, pcm: &[i16], payload: &mut [u8]) -> Result<usize, CodecError> {
        self.encode_with(pcm, payload, Manner::Plain)
    }

    /// The same, predicting nothing from earlier frames where the codec is Opus: the decoder of another
    /// encoder of the same sound can go on from here.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_unpredicted(
        &mut self,
        pcm: &[i16],
        payload: &mut [u8],
    ) -> Result<usize, CodecError> {
        self.encode_with(pcm, payload, Manner::Unpredicted)
    }

    /// The same, two frames in a row, where the codec is Opus: if another encoder of the same sound does so
    /// too, the decoder of one may be able to go on with the second of the other's packets
    /// ([`have_met`]).
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_crossing(
        &mut self,
        pcm: &[i16],
        payload: &mut [u8],
    ) -> Result<usize, CodecError> {
        self.encode_with(pcm, payload, Manner::Crossing)
    }

    fn encode_with(
        &mut self,
        pcm: &[i16],
        payload: &mut [u8],
        manner: Manner,
    ) -> Result<usize, CodecError> {
        if pcm.len() != self.codec().sample_rate().frame_samples() {
            return Err(CodecError::FrameLength);
        }
        let payload = payload
            .get_mut(..PAYLOAD_BYTES_MAX)
            .ok_or(CodecError::BufferTooSmall)?;
        match &mut self.0 {
            Encoding::Pcmu => Ok(g711::encode(g711::Law::Mu, pcm, payload)),
            Encoding::Pcma => Ok(g711::encode(g711::Law::A, pcm, payload)),
            Encoding::G722(g722) => Ok(g722.encode(pcm, payload)),
            Encoding::Opus(opus) => match manner {
                Manner::Plain => opus.encode(pcm, payload),
                Manner::Unpredicted => opus.encode_unpredicted(pcm, payload),
                Manner::Crossing => opus.encode_crossing(pcm, payload),
            },
        }
    }

    /// Takes over the other encoder's state and settings, without allocating: from here on both
    /// give identical packets for identical input.
    ///
    /// # Errors
    /// [`CodecError::Mismatch`] if the codecs differ; nothing is changed then.
    pub fn copy_state_from(&mut self, other: &Self) -> Result<(), CodecError> {
        match (&mut self.0, &other.0) {
            (Encoding::Pcmu, Encoding::Pcmu) | (Encoding::Pcma, Encoding::Pcma) => {}
            (Encoding::G722(mine), Encoding::G722(theirs)) => mine.clone_from(theirs),
            (Encoding::Opus(mine), Encoding::Opus(theirs)) => mine.copy_state_from(theirs),
            (
                Encoding::Pcmu | Encoding::Pcma | Encoding::G722(_) | Encoding::Opus(_),
                Encoding::Pcmu | Encoding::Pcma | Encoding::G722(_) | Encoding::Opus(_),
            ) => return Err(CodecError::Mismatch),
        }
        Ok(())
    }

    /// Where it is before a frame, for those who are to follow it; `None` where that can't be done.
    #[must_use]
    pub fn course(&self) -> Option<Course> {
        match &self.0 {
            Encoding::G722(g722) => Some(Course(g722.clone())),
            Encoding::Pcmu | Encoding::Pcma | Encoding::Opus(_) => None,
        }
    }

    /// Instead of [`Self::encode`], for a decoder that has heard this encoder until now and is to go over
    /// to another one, which was at `leader` and has encoded a frame as `theirs`: writes as many bytes,
    /// and comes nearer to its state. True: they are `theirs`, for by them nothing else would be heard. After
    /// some such frames in a row the states are one for all that can be heard. `haste` brings that about
    /// sooner, by more noise.
    ///
    /// # Errors
    /// [`CodecError::Mismatch`], [`CodecError::BufferTooSmall`].
    pub fn follow(
        &mut self,
        leader: &Course,
        theirs: &[u8],
        haste: u8,
        payload: &mut [u8],
    ) -> Result<bool, CodecError> {
        let payload = payload
            .get_mut(..theirs.len())
            .ok_or(CodecError::BufferTooSmall)?;
        match &mut self.0 {
            Encoding::G722(g722) => Ok(g722.follow(&leader.0, theirs, haste, payload)),
            Encoding::Pcmu | Encoding::Pcma | Encoding::Opus(_) => Err(CodecError::Mismatch),
        }
    }

    /// It has followed `other` and parts from it: what it encodes next is the continuation of what
    /// that one was given.
    pub fn continue_from(&mut self, other: &Self) {
        if let (Encoding::G722(mine), Encoding::G722(theirs)) = (&mut self.0, &other.0) {
            mine.continue_from(theirs);
        }
    }

    /// Back to the state of a fresh encoder; Opus keeps its settings.
    pub fn reset(&mut self) {
        match &mut self.0 {
            Encoding::Pcmu | Encoding::Pcma => {}
            Encoding::G722(g722) => *g722 = g722::Encoder::new(),
            Encoding::Opus(opus) => opus.reset(),
        }
    }

    /// What it encodes to.
    #[must_use]
    pub const fn codec(&self) -> Codec {
        match self.0 {
            Encoding::Pcmu => Codec::Pcmu,
            Encoding::Pcma => Codec::Pcma,
            Encoding::G722(_) => Codec::G722,
            Encoding::Opus(_) => Codec::Opus,
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Manner {
    Plain,
    Unpredicted,
    Crossing,
}

/// Two encoders of Opus have each encoded the first of two frames by [`Encoder::encode_crossing`], as
/// `one` and `other`. True: from here on the decoder of one hears the same by the packets of the
/// other as that one's decoder does.
#[must_use]
pub fn have_met(one: &[u8], other: &[u8]) -> bool {
    opus::have_met(one, other)
}

/// Where an encoder was before a frame ([`Encoder::course`]).
#[derive(Debug)]
pub struct Course(g722::Encoder);

/// Payloads to PCM. Any bytes are safe to hand in.
#[derive(Debug)]
pub struct Decoder(Decoding);

#[derive(Debug)]
enum Decoding {
    Pcmu,
    Pcma,
    G722(g722::Decoder),
    Opus(opus::Decoder),
}

impl Decoder {
    /// Before a payload comes.
    pub(super) fn prefetch(&self) {
        prefetch(&self.0);
    }

    /// A fresh decoder.
    ///
    /// # Errors
    /// [`CodecError::Opus`] if libopus refuses.
    pub fn new(codec: Codec) -> Result<Self, CodecError> {
        Ok(Self(match codec {
            Codec::Pcmu => Decoding::Pcmu,
            Codec::Pcma => Decoding::Pcma,
            Codec::G722 => Decoding::G722(g722::Decoder::new()),
            Codec::Opus => Decoding::Opus(opus::Decoder::new()?),
        }))
    }

    /// Decodes a payload of up to 120 ms and returns the samples written; stereo Opus comes out as
    /// mono.
    ///
    /// # Errors
    /// [`CodecError::Malformed`] if the payload is not decodable, [`CodecError::BufferTooSmall`]
    /// if `pcm` is shorter than [`Self::samples_in`] says. After an error the caller conceals.
    pub fn decode(&mut self, payload: &[u8], pcm: &mut [i16]) -> Result<usize, CodecError> {
        let samples = self.samples_in(payload).ok_or(CodecError::Malformed)?;
        let pcm = pcm.get_mut(..samples).ok_or(CodecError::BufferTooSmall)?;
        match &mut self.0 {
            Decoding::Pcmu => g711::decode(g711::Law::Mu, payload, pcm),
            Decoding::Pcma => g711::decode(g711::Law::A, payload, pcm),
            Decoding::G722(g722) => g722.decode(payload, pcm),
            Decoding::Opus(opus) => return opus.decode(payload, pcm),
        }
        Ok(samples)
    }

    /// Decodes the copy of a lost frame that the packet after it carries (RFC 6716 section 2.1.7).
    /// `pcm` must be as long as what was lost, a multiple of 2.5 ms up to 120 ms; its last 20 ms
    /// come from the copy, what is before that is concealed.
    ///
    /// # Errors
    /// [`CodecError::NoFec`] if there is no copy or the codec has none; the decoder is unchanged
    /// then. [`CodecError::FrameLength`], [`CodecError::Malformed`].
    pub fn decode_fec(
        &mut self,
        next_payload: &[u8],
        pcm: &mut [i16],
    ) -> Result<usize, CodecError> {
        match &mut self.0 {
            Decoding::Opus(opus) => opus.decode_fec(next_payload, pcm),
            Decoding::Pcmu | Decoding::Pcma | Decoding::G722(_) => Err(CodecError::NoFec),
        }
    }

    /// Fills `pcm` with the codec's own concealment; a multiple of 2.5 ms up to 120 ms.
    ///
    /// # Errors
    /// [`CodecError::NoPlc`] for all but Opus, [`CodecError::FrameLength`].
    pub fn conceal(&mut self, pcm: &mut [i16]) -> Result<usize, CodecError> {
        match &mut self.0 {
            Decoding::Opus(opus) => opus.conceal(pcm),
            Decoding::Pcmu | Decoding::Pcma | Decoding::G722(_) => Err(CodecError::NoPlc),
        }
    }

    /// Goes on where `other`, of the same codec, is.
    #[cfg(test)]
    pub(in crate::media) fn copy_state_from(&mut self, other: &Self) {
        match (&mut self.0, &other.0) {
            (Decoding::G722(mine), Decoding::G722(theirs)) => mine.clone_from(theirs),
            (Decoding::Opus(mine), Decoding::Opus(theirs)) => mine.copy_state_from(theirs),
            (
                Decoding::Pcmu | Decoding::Pcma | Decoding::G722(_) | Decoding::Opus(_),
                Decoding::Pcmu | Decoding::Pcma | Decoding::G722(_) | Decoding::Opus(_),
            ) => {}
        }
    }

    /// Back to the state of a fresh decoder.
    pub fn reset(&mut self) {
        match &mut self.0 {
            Decoding::Pcmu | Decoding::Pcma => {}
            Decoding::G722(g722) => *g722 = g722::Decoder::new(),
            Decoding::Opus(opus) => opus.reset(),
        }
    }

    /// The PCM samples that a payload holds, at the codec's sample rate; `None` if it can't be
    /// decoded: empty, longer than 120 ms, or not Opus. A payload with good framing may still
    /// turn out malformed when decoded.
    #[must_use]
    pub fn samples_in(&self, payload: &[u8]) -> Option<usize> {
        let samples = match self.0 {
            Decoding::Pcmu | Decoding::Pcma => payload.len(),
            Decoding::G722(_) => payload.len().checked_mul(2)?,
            Decoding::Opus(_) => opus::samples_in(payload)?,
        };
        let max = self.codec().sample_rate().frame_samples() * PAYLOAD_FRAMES_MAX;
        (1..=max).contains(&samples).then_some(samples)
    }

    /// Does the packet itself say that nobody speaks in it? True only where the sender's own
    /// voice detector found no voice in any of its frames (SILK and hybrid Opus); such a packet
    /// may hold noise all the same.
    #[must_use]
    pub fn is_voiceless(&self, payload: &[u8]) -> bool {
        match self.0 {
            Decoding::Pcmu | Decoding::Pcma | Decoding::G722(_) => false,
            Decoding::Opus(_) => opus::is_voiceless(payload) == Some(true),
        }
    }

    /// What it decodes from.
    #[must_use]
    pub const fn codec(&self) -> Codec {
        match self.0 {
            Decoding::Pcmu => Codec::Pcmu,
            Decoding::Pcma => Codec::Pcma,
            Decoding::G722(_) => Codec::G722,
            Decoding::Opus(_) => Codec::Opus,
        }
    }
}

/// Why a codec call did nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The PCM is not one frame long, or not a length the codec can fill.
    #[error("PCM is not a whole frame")]
    FrameLength,
    /// The output does not fit.
    #[error("output buffer too small")]
    BufferTooSmall,
    /// The payload can't be decoded.
    #[error("malformed payload")]
    Malformed,
    /// The packet carries no copy of the frame before it, or the codec has none.
    #[error("no forward error correction in this packet")]
    NoFec,
    /// The codec has no concealment of its own; `media::plc` does it.
    #[error("codec has no concealment")]
    NoPlc,
    /// The two sides speak different codecs, or Opus frames of different kinds can't share a packet.
    #[error("codecs or frame kinds differ")]
    Mismatch,
    /// libopus refused, with its error code.
    #[error("libopus error {0}")]
    Opus(i32),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(codec: Codec, frame: usize) -> Vec<i16> {
        let samples = codec.sample_rate().frame_samples();
        (frame * samples..(frame + 1) * samples)
            .map(|n| {
                let t = n as f64 / f64::from(codec.sample_rate().hz());
                ((t * 440.0 * std::f64::consts::TAU).sin() * 10_000.0) as i16
            })
            .collect()
    }

    #[test]
    fn every_codec_carries_a_tone_at_its_level() {
        for codec in Codec::ALL {
            let (mut encoder, mut decoder) =
                (Encoder::new(codec).unwrap(), Decoder::new(codec).unwrap());
            let samples = codec.sample_rate().frame_samples();
            let mut power = 0.0;
            for frame in 0..50 {
                let mut payload = [0; PAYLOAD_BYTES_MAX];
                let bytes = encoder.encode(&tone(codec, frame), &mut payload).unwrap();
                let mut pcm = [0; PAYLOAD_SAMPLES_MAX];
                assert_eq!(decoder.samples_in(&payload[..bytes]), Some(samples));
                assert_eq!(decoder.decode(&payload[..bytes], &mut pcm), Ok(samples));
                if frame >= 25 {
                    power += pcm[..samples]
                        .iter()
                        .map(|&s| f64::from(s).powi(2))
                        .sum::<f64>();
                }
            }
            let rms = (power / (25 * samples) as f64).sqrt();
            let level = 20.0 * (rms / 10_000.0 * std::f64::consts::SQRT_2).log10();
            assert!(level.abs() < 0.5, "{codec:?}: {level} dB");
        }
    }

    #[test]
    fn an_encoder_takes_over_another_ones_state_but_not_another_codecs() {
        for codec in Codec::ALL {
            let mut shared = Encoder::new(codec).unwrap();
            let mut own = Encoder::new(codec).unwrap();
            let (mut ours, mut theirs) = ([0; PAYLOAD_BYTES_MAX], [0; PAYLOAD_BYTES_MAX]);
            for frame in 0..20 {
                shared.encode(&tone(codec, frame), &mut ours).unwrap();
            }
            own.copy_state_from(&shared).unwrap();
            for frame in 20..40 {
                let our_bytes = shared.encode(&tone(codec, frame), &mut ours).unwrap();
                let their_bytes = own.encode(&tone(codec, frame), &mut theirs).unwrap();
                assert_eq!(
                    ours[..our_bytes],
                    theirs[..their_bytes],
                    "{codec:?} {frame}"
                );
            }
            for other in Codec::ALL.into_iter().filter(|&other| other != codec) {
                let other = Encoder::new(other).unwrap();
                assert_eq!(own.copy_state_from(&other), Err(CodecError::Mismatch));
            }
        }
    }

    #[test]
    fn a_reset_makes_fresh() {
        for codec in Codec::ALL {
            let mut encoder = Encoder::new(codec).unwrap();
            let mut decoder = Decoder::new(codec).unwrap();
            let mut run = || {
                let mut payload = [0; PAYLOAD_BYTES_MAX];
                let mut pcm = [0; PAYLOAD_SAMPLES_MAX];
                (0..10)
                    .map(|frame| {
                        let bytes = encoder.encode(&tone(codec, frame), &mut payload).unwrap();
                        let samples = decoder.decode(&payload[..bytes], &mut pcm).unwrap();
                        (payload[..bytes].to_vec(), pcm[..samples].to_vec())
                    })
                    .collect::<Vec<_>>()
            };
            let first = run();
            let second = run();
            assert_eq!(
                first == second,
                matches!(codec, Codec::Pcmu | Codec::Pcma),
                "{codec:?}"
            );
            encoder.reset();
            decoder.reset();
            let mut payload = [0; PAYLOAD_BYTES_MAX];
            let bytes = encoder.encode(&tone(codec, 0), &mut payload).unwrap();
            let mut pcm = [0; PAYLOAD_SAMPLES_MAX];
            let samples = decoder.decode(&payload[..bytes], &mut pcm).unwrap();
            assert_eq!(
                (&payload[..bytes], &pcm[..samples]),
                (&*first[0].0, &*first[0].1)
            );
        }
    }

    #[test]
    fn wrong_lengths_are_refused() {
        for codec in Codec::ALL {
            let samples = codec.sample_rate().frame_samples();
            let mut encoder = Encoder::new(codec).unwrap();
            let mut payload = [0; PAYLOAD_BYTES_MAX];
            let short = encoder.encode(&vec![0; samples - 1], &mut payload);
            assert_eq!(short, Err(CodecError::FrameLength));
            let narrow = encoder.encode(&vec![0; samples], &mut payload[1..]);
            assert_eq!(narrow, Err(CodecError::BufferTooSmall));

            let bytes = encoder.encode(&vec![0; samples], &mut payload).unwrap();
            let mut decoder = Decoder::new(codec).unwrap();
            let mut pcm = vec![0; samples - 1];
            assert_eq!(
                decoder.decode(&payload[..bytes], &mut pcm),
                Err(CodecError::BufferTooSmall)
            );
            assert_eq!(decoder.decode(&[], &mut pcm), Err(CodecError::Malformed));
        }
        let decoder = Decoder::new(Codec::Pcma).unwrap();
        assert_eq!(decoder.samples_in(&[0; 960]), Some(960));
        assert_eq!(decoder.samples_in(&[0; 961]), None, "longer than 120 ms");
    }

    #[test]
    fn garbage_never_does_more_than_sound_bad() {
        let mut random = 7_u64;
        let mut next = || {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (random >> 33) as usize
        };
        let mut decoders = Codec::ALL.map(|codec| Decoder::new(codec).unwrap());
        let mut repacketizer = Repacketizer::new().unwrap();
        let mut pcm = [0; PAYLOAD_SAMPLES_MAX];
        let mut decoded = 0;
        for round in 0..20_000 {
            let mut payload = vec![0; next() % [4, 40, 300, 1_500][round % 4]];
            payload.iter_mut().for_each(|byte| *byte = next() as u8);
            let room = next() % (PAYLOAD_SAMPLES_MAX + 1);
            for decoder in &mut decoders {
                let samples = decoder.samples_in(&payload);
                if let Ok(written) = decoder.decode(&payload, &mut pcm[..room]) {
                    assert_eq!(Some(written), samples);
                    decoded += 1;
                }
                let lost = room / 120 * 120;
                let _ = decoder.decode_fec(&payload, &mut pcm[..lost]);
                if round % 16 == 0 {
                    let _ = decoder.conceal(&mut pcm[..lost]);
                }
            }
            let (left, right) = payload.split_at(payload.len() / 2);
            let mut output = [0; 1_600];
            let _ = repacketizer.merge(&[left, right], &mut output[..room.min(1_600)]);
        }
        assert!(
            decoded > 20_000,
            "most of it is audio to someone: {decoded}"
        );
    }
}
