//! WAV files that operators bring: PCM of 16 bit, A-law or mu-law, any number of channels, 8 to
//! 48 kHz. Own parser, because it must take any garbage and says what is wrong with it.
#![deny(clippy::indexing_slicing)]

use super::sound::decoded;
use crate::media::codec::Codec;

/// A recording as it is in its file, mixed to one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wav {
    /// Samples per second.
    pub rate: u32,
    /// One channel.
    pub samples: Vec<i16>,
}

impl Wav {
    /// Reads a RIFF WAVE file. A last chunk that is cut short counts as far as it goes.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(file: &[u8]) -> Result<Self, WavError> {
        let rest = file.strip_prefix(b"RIFF").ok_or(WavError::NotWave)?;
        let mut rest = rest
            .get(4..)
            .and_then(|r| r.strip_prefix(b"WAVE"))
            .ok_or(WavError::NotWave)?;
        let mut format = None;
        while let Some((id, body, after)) = chunk(rest) {
            match &id {
                b"fmt " => format = Some(Format::parse(body)?),
                b"data" => return format.ok_or(WavError::NoFormat)?.read(body),
                _ => {}
            }
            rest = after;
        }
        Err(WavError::NoData)
    }
}

/// The fields of a `fmt ` chunk that are needed.
struct Format {
    coding: Coding,
    channels: u16,
    rate: u32,
}

enum Coding {
    Pcm16,
    Companded(Codec),
}

impl Format {
    fn parse(body: &[u8]) -> Result<Self, WavError> {
        let field = |at: usize| {
            body.get(at..at + 2)
                .and_then(|b| b.try_into().ok())
                .map(u16::from_le_bytes)
        };
        let cut_short = WavError::NoFormat;
        let mut tag = field(0).ok_or(cut_short)?;
        if tag == EXTENSIBLE {
            // The sub-format's GUID begins with the tag that it stands for.
            tag = field(24).ok_or(cut_short)?;
        }
        let channels = field(2).ok_or(cut_short)?;
        let rate =
            u32::from(field(4).ok_or(cut_short)?) | u32::from(field(6).ok_or(cut_short)?) << 16;
        let bits = field(14).ok_or(cut_short)?;
        let coding = match (tag, bits) {
            (1, 16) => Coding::Pcm16,
            (6, 8) => Coding::Companded(Codec::Pcma),
            (7, 8) => Coding::Companded(Codec::Pcmu),
            _ => return Err(WavError::Coding { tag, bits }),
        };
        if channels == 0 || channels > CHANNELS_MAX {
            return Err(WavError::Channels(channels));
        }
        if !(8_000..=48_000).contains(&rate) {
            return Err(WavError::Rate(rate));
        }
        Ok(Self {
            coding,
            channels,
            rate,
        })
    }

    fn read(self, data: &[u8]) -> Result<Wav, WavError> {
        let interleaved: Vec<i16> = match self.coding {
            Coding::Pcm16 => data
                .chunks_exact(2)
                .filter_map(|pair| pair.try_into().ok())
                .map(i16::from_le_bytes)
                .collect(),
            Coding::Companded(codec) => decoded(codec, data),
        };
        let samples: Vec<i16> = interleaved
            .chunks_exact(usize::from(self.channels))
            .map(one_channel)
            .collect();
        if samples.is_empty() {
            return Err(WavError::NoData);
        }
        Ok(Wav {
            rate: self.rate,
            samples,
        })
    }
}

/// The mean of all channels.
fn one_channel(samples: &[i16]) -> i16 {
    let sum: i32 = samples.iter().map(|&s| i32::from(s)).sum();
    let count = i32::try_from(samples.len()).unwrap_or(i32::MAX).max(1);
    (sum / count) as i16
}

/// The first chunk: its name, its body and what comes after it. Bodies are padded to even length.
fn chunk(bytes: &[u8]) -> Option<([u8; 4], &[u8], &[u8])> {
    let (id, rest) = bytes.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let length = (u32::from_le_bytes(*length) as usize).min(rest.len());
    let (body, after) = rest.split_at_checked(length)?;
    Some((*id, body, after.get(length % 2..).unwrap_or_default()))
}

/// What is wrong with a WAV file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum WavError {
    /// Something else with that ending.
    #[error("not a WAV file")]
    NotWave,
    /// No usable `fmt ` chunk before the sound.
    #[error("it does not say how it is coded")]
    NoFormat,
    /// No `data` chunk, or nothing in it.
    #[error("there is no sound in it")]
    NoData,
    /// Neither PCM of 16 bit nor G.711.
    #[error(
        "its coding (format {tag}, {bits} bit) is not known here; known are 16 bit PCM, A-law and mu-law"
    )]
    Coding {
        /// The format tag.
        tag: u16,
        /// Bits per sample.
        bits: u16,
    },
    /// None, or too many.
    #[error("{0} channels; 1 to {CHANNELS_MAX} are allowed")]
    Channels(u16),
    /// Too slow or too fast.
    #[error("{0} samples per second; 8000 to 48000 are allowed")]
    Rate(u32),
}

/// `WAVE_FORMAT_EXTENSIBLE`.
const EXTENSIBLE: u16 = 0xFFFE;

const CHANNELS_MAX: u16 = 8;

#[cfg(test)]
pub(in crate::prompts) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A WAV file of these fields.
    pub(in crate::prompts) fn file(
        tag: u16,
        channels: u16,
        rate: u32,
        bits: u16,
        data: &[u8],
    ) -> Vec<u8> {
        let block = channels * bits / 8;
        let mut file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0".to_vec();
        file.extend(tag.to_le_bytes());
        file.extend(channels.to_le_bytes());
        file.extend(rate.to_le_bytes());
        file.extend((rate * u32::from(block)).to_le_bytes());
        file.extend(block.to_le_bytes());
        file.extend(bits.to_le_bytes());
        file.extend(b"LIST\x03\0\0\0abc\0data");
        file.extend((data.len() as u32).to_le_bytes());
        file.extend(data);
        file
    }

    #[test]
    fn pcm_is_read_and_stereo_mixed() {
        let mono = Wav::parse(&file(1, 1, 16_000, 16, &[1, 0, 0xFF, 0xFF, 7])).unwrap();
        assert_eq!(
            mono,
            Wav {
                rate: 16_000,
                samples: vec![1, -1]
            }
        );
        let stereo =
            Wav::parse(&file(1, 2, 44_100, 16, &[100, 0, 50, 0, 0, 0x80, 0, 0x80])).unwrap();
        assert_eq!(
            stereo,
            Wav {
                rate: 44_100,
                samples: vec![75, -32_768]
            }
        );
    }

    #[test]
    fn a_law_and_mu_law_are_read() {
        // G.711 tables 1a and 2a: the smallest positive value of A-law is 1/4096, mu-law's 0xFF is 0.
        assert_eq!(
            Wav::parse(&file(6, 1, 8_000, 8, &[0xD5, 0x55]))
                .unwrap()
                .samples,
            [8, -8]
        );
        assert_eq!(
            Wav::parse(&file(7, 1, 8_000, 8, &[0xFF, 0x80]))
                .unwrap()
                .samples,
            [0, 32_124]
        );
    }

    #[test]
    fn the_extensible_header_is_read() {
        let mut file = file(0xFFFE, 1, 8_000, 16, &[]);
        let extension = [
            22, 0, 16, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 16, 0, 128, 0, 0, 170, 0, 56, 155, 113,
        ];
        file.truncate(36);
        file[16] = 40;
        file.extend(extension);
        file.extend(b"data\x02\0\0\0\x05\0");
        assert_eq!(
            Wav::parse(&file),
            Ok(Wav {
                rate: 8_000,
                samples: vec![5]
            })
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(Wav::parse(b"ID3\x03"), Err(WavError::NotWave));
        assert_eq!(Wav::parse(b""), Err(WavError::NotWave));
        assert_eq!(
            Wav::parse(&file(3, 1, 8_000, 32, &[0; 8])),
            Err(WavError::Coding { tag: 3, bits: 32 })
        );
        assert_eq!(
            Wav::parse(&file(1, 0, 8_000, 16, &[0; 8])),
            Err(WavError::Channels(0))
        );
        assert_eq!(
            Wav::parse(&file(1, 1, 96_000, 16, &[0; 8])),
            Err(WavError::Rate(96_000))
        );
        assert_eq!(
            Wav::parse(&file(1, 1, 8_000, 16, &[])),
            Err(WavError::NoData)
        );
        assert_eq!(
            Wav::parse(b"RIFF\0\0\0\0WAVEdata\x02\0\0\0ab"),
            Err(WavError::NoFormat)
        );
        assert_eq!(
            Wav::parse(b"RIFF\0\0\0\0WAVEfmt \x02\0\0\0\x01\0"),
            Err(WavError::NoFormat)
        );
    }

    #[test]
    fn a_file_cut_short_counts_as_far_as_it_goes() {
        let whole = file(1, 1, 8_000, 16, &[9; 400]);
        assert_eq!(
            Wav::parse(&whole[..whole.len() - 300])
                .unwrap()
                .samples
                .len(),
            50
        );
    }

    proptest! {
        #[test]
        fn no_file_makes_it_panic(mut bytes: Vec<u8>, cut: usize, changed: usize, to: u8) {
            let _ = Wav::parse(&bytes);
            let mut good = file(1, 2, 8_000, 16, &bytes);
            let changed = changed % good.len();
            good[changed] = to;
            good.truncate(cut % (good.len() + 1));
            let _ = Wav::parse(&good);
            bytes.splice(0..0, *b"RIFF\0\0\0\0WAVEfmt ");
            let _ = Wav::parse(&bytes);
        }
    }
}
