//! Recorded sound made ready beforehand: encoded per codec for a leg that hears nothing else,
//! as PCM for a leg or bridge that hears it over the meeting.

use crate::media::codec::Codec;

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
