//! Recorded sound made ready beforehand: encoded per codec for a leg that hears nothing else,
//! as PCM for a leg or bridge that hears it over the meeting.

use crate::media::codec::{Codec, CodecError, Encoder, PAYLOAD_BYTES_MAX};
use crate::media::resample::Resampler;
use crate::units::{FRAME_SAMPLES_MAX, SampleRate};

/// One recording, ready for one codec. Shared with media threads by `Arc`; the library keeps a
/// reference for the life of the process, so a media thread never drops the last one.
#[derive(Debug)]
pub struct Rendition {
    /// The codec the frames are encoded in; `pcm` is at its sample rate.
    pub codec: Codec,
    /// Payload bytes of all frames, one after the other; each frame is 20 ms.
    pub payload: Box<[u8]>,
    /// End of each frame in `payload`.
    pub frame_ends: Box<[u32]>,
    /// The same sound as PCM; the last frame is padded with silence.
    pub pcm: Box<[i16]>,
}

impl Rendition {
    /// Makes a recording of any length, 16 kHz mono, ready for a codec: resampled, padded with
    /// silence to whole 20 ms frames, encoded by a fresh encoder. Not for a media thread.
    ///
    /// # Errors
    /// [`CodecError`] if there is no encoder to be had, or the payload exceeds 4 GiB.
    pub fn encode(codec: Codec, pcm_16k: &[i16]) -> Result<Self, CodecError> {
        let pcm = resampled(codec.sample_rate(), pcm_16k);
        let mut encoder = Encoder::new(codec)?;
        let mut payload = Vec::new();
        let mut frame_ends = Vec::new();
        for frame in pcm.chunks_exact(codec.sample_rate().frame_samples()) {
            let mut buffer = [0; PAYLOAD_BYTES_MAX];
            let bytes = encoder.encode(frame, &mut buffer)?;
            payload.extend(buffer.iter().take(bytes));
            let end = u32::try_from(payload.len()).map_err(|_| CodecError::BufferTooSmall)?;
            frame_ends.push(end);
        }
        Ok(Self {
            codec,
            payload: payload.into(),
            frame_ends: frame_ends.into(),
            pcm: pcm.into(),
        })
    }

    /// How many 20 ms frames there are.
    #[must_use]
    pub const fn frames(&self) -> usize {
        self.frame_ends.len()
    }

    /// The payload of frame `index`; `None` past the end.
    #[must_use]
    pub fn frame(&self, index: usize) -> Option<&[u8]> {
        let end = *self.frame_ends.get(index)? as usize;
        let start = match index.checked_sub(1) {
            Some(previous) => *self.frame_ends.get(previous)? as usize,
            None => 0,
        };
        self.payload.get(start..end)
    }

    /// The PCM of frame `index`; `None` past the end.
    #[must_use]
    pub fn frame_pcm(&self, index: usize) -> Option<&[i16]> {
        let samples = self.codec.sample_rate().frame_samples();
        let start = index.checked_mul(samples)?;
        self.pcm.get(start..start.checked_add(samples)?)
    }
}

/// Whole frames at `rate`, the last one filled up with silence.
fn resampled(rate: SampleRate, pcm_16k: &[i16]) -> Vec<i16> {
    if rate == RECORDED_AT {
        let mut pcm = pcm_16k.to_vec();
        pcm.resize(pcm.len().next_multiple_of(RECORDED_AT.frame_samples()), 0);
        return pcm;
    }
    let mut resampler = Resampler::new(RECORDED_AT, rate);
    let mut input = [0.0; RECORDED_AT.frame_samples()];
    let mut output = [0.0; FRAME_SAMPLES_MAX];
    let output = &mut output[..rate.frame_samples()];
    let mut pcm = Vec::new();
    for frame in pcm_16k.chunks(input.len()) {
        input.fill(0.0);
        input
            .iter_mut()
            .zip(frame)
            .for_each(|(x, &sample)| *x = sample.into());
        resampler.process(&input, output);
        // A cast saturates where the filter overshoots.
        pcm.extend(output.iter().map(|y| y.round() as i16));
    }
    pcm
}

/// What recordings are kept in before they are made ready.
const RECORDED_AT: SampleRate = SampleRate::Hz16000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::codec::Decoder;

    /// 1 kHz at half of full scale, not a whole number of frames.
    fn recording() -> Vec<i16> {
        (0..320 * 20 + 7)
            .map(|n| ((f64::from(n) * std::f64::consts::PI / 8.0).sin() * 16_384.0) as i16)
            .collect()
    }

    fn rms(pcm: &[i16]) -> f64 {
        let power: f64 = pcm.iter().map(|&s| f64::from(s).powi(2)).sum();
        (power / pcm.len() as f64).sqrt()
    }

    #[test]
    fn a_recording_is_the_same_sound_in_every_codec() {
        for codec in Codec::ALL {
            let rendition = Rendition::encode(codec, &recording()).unwrap();
            assert_eq!(rendition.frames(), 21, "the last one is begun only");
            assert_eq!(rendition.frame(21), None);
            assert_eq!(rendition.frame_pcm(21), None);

            let mut decoder = Decoder::new(codec).unwrap();
            for index in 0..20 {
                let mut decoded = [0; FRAME_SAMPLES_MAX];
                let samples = decoder
                    .decode(rendition.frame(index).unwrap(), &mut decoded)
                    .unwrap();
                let pcm = rendition.frame_pcm(index).unwrap();
                assert_eq!(samples, pcm.len());
                if index >= 10 {
                    let (kept, heard) = (rms(pcm), rms(&decoded[..samples]));
                    assert!((kept / 11_585.0 - 1.0).abs() < 0.02, "{codec:?}: {kept}");
                    assert!((heard / 11_585.0 - 1.0).abs() < 0.1, "{codec:?}: {heard}");
                }
            }
            let last = rendition.frame_pcm(20).unwrap();
            assert!(
                last[last.len() / 2..].iter().all(|&s| s == 0),
                "{codec:?}: padded"
            );
        }
    }

    #[test]
    fn full_scale_saturates_instead_of_wrapping() {
        let square: Vec<i16> = (0..3_200)
            .map(|n| if n % 80 < 40 { i16::MAX } else { i16::MIN })
            .collect();
        let rendition = Rendition::encode(Codec::Opus, &square).unwrap();
        let steps = rendition
            .pcm
            .windows(2)
            .map(|pair| (i32::from(pair[0]) - i32::from(pair[1])).abs());
        assert!(
            steps.max().unwrap() < 40_000,
            "a filtered edge takes several samples"
        );
        assert!(rendition.pcm.contains(&i16::MAX) && rendition.pcm.contains(&i16::MIN));
    }

    #[test]
    fn nothing_recorded_is_no_frame() {
        assert_eq!(Rendition::encode(Codec::Pcma, &[]).unwrap().frames(), 0);
    }
}
