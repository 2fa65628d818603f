//! Opus (RFC 6716), mono at 48 kHz, by libopus. This is the only file of `media` that calls C.
//!
//! libopus lets its caller own the memory of a state. With it in a block of ours, turning from a
//! shared mix to an own one is a copy of bytes, which a handle from `opus_encoder_create` would
//! not allow. That holds because a state points at nothing but libopus' constant tables: its
//! parts find each other by offsets, and the one pointer to data that it has (the energy mask of
//! surround encoding) is null for a mono encoder.
#![deny(clippy::indexing_slicing)]

use std::ffi::c_int;
use std::mem::MaybeUninit;

use opusic_sys as sys;

use super::{CodecError, PAYLOAD_BYTES_MAX, PAYLOAD_SAMPLES_MAX};

/// How an Opus encoder spends bits and time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpusSettings {
    /// Target in bit/s, 6,000 to 510,000; held by constrained VBR (RFC 6716 section 2.1.8). A
    /// 20 ms payload never exceeds [`PAYLOAD_BYTES_MAX`], whatever stands here.
    pub bitrate: u32,
    /// 0 (cheapest) to 10. The engine lowers it under load.
    pub complexity: u8,
    /// Each packet carries a coarse copy of the frame before it (RFC 6716 section 2.1.7), sized
    /// for 10 % loss.
    pub fec: bool,
    /// Almost nothing is sent in silence (RFC 6716 section 2.1.9).
    pub dtx: bool,
}

impl Default for OpusSettings {
    fn default() -> Self {
        Self {
            bitrate: 24_000,
            complexity: 5,
            fec: true,
            dtx: false,
        }
    }
}

/// One encoder, VOIP application.
#[derive(Debug)]
pub(super) struct Encoder(StateBlock);

impl Encoder {
    /// A fresh encoder.
    pub(super) fn new(settings: OpusSettings) -> Result<Self, CodecError> {
        // SAFETY: takes no pointer.
        let mut block = StateBlock::new(unsafe { sys::opus_encoder_get_size(CHANNELS) })?;
        // SAFETY: the block has the size libopus asked for and the alignment of any C object.
        check(unsafe {
            sys::opus_encoder_init(block.as_mut_ptr(), HZ, CHANNELS, sys::OPUS_APPLICATION_VOIP)
        })?;
        let mut encoder = Self(block);
        encoder.set(settings)?;
        Ok(encoder)
    }

    /// Takes effect with the next frame. Settings before a refused one stay changed.
    pub(super) fn set(&mut self, settings: OpusSettings) -> Result<(), CodecError> {
        let bitrate = c_int::try_from(settings.bitrate).unwrap_or(c_int::MAX);
        let loss_percent = if settings.fec {
            LOSS_EXPECTED_PERCENT
        } else {
            0
        };
        self.control(sys::OPUS_SET_BITRATE_REQUEST, bitrate)?;
        self.control(sys::OPUS_SET_VBR_REQUEST, 1)?;
        self.control(sys::OPUS_SET_VBR_CONSTRAINT_REQUEST, 1)?;
        self.control(sys::OPUS_SET_COMPLEXITY_REQUEST, settings.complexity.into())?;
        self.control(sys::OPUS_SET_INBAND_FEC_REQUEST, settings.fec.into())?;
        self.control(sys::OPUS_SET_PACKET_LOSS_PERC_REQUEST, loss_percent)?;
        self.control(sys::OPUS_SET_DTX_REQUEST, settings.dtx.into())
    }

    /// Encodes `pcm` (a frame length of Opus) into at most [`PAYLOAD_BYTES_MAX`] bytes.
    pub(super) fn encode(&mut self, pcm: &[i16], payload: &mut [u8]) -> Result<usize, CodecError> {
        let frame_size = length(pcm.len()).ok_or(CodecError::FrameLength)?;
        let room = length(payload.len().min(PAYLOAD_BYTES_MAX)).ok_or(CodecError::FrameLength)?;
        // SAFETY: the state was initialised in `new`; `frame_size` and `room` are within the
        // slices, which libopus reads and writes only during the call.
        written(unsafe {
            let state = self.0.as_mut_ptr();
            sys::opus_encode(state, pcm.as_ptr(), frame_size, payload.as_mut_ptr(), room)
        })
    }

    /// State and settings of `other`, in one copy.
    pub(super) fn copy_state_from(&mut self, other: &Self) {
        self.0.copy_from(&other.0);
    }

    /// Forgets the signal, keeps the settings.
    pub(super) fn reset(&mut self) {
        // SAFETY: the state was initialised in `new`; this request takes no argument.
        let _ok = unsafe { sys::opus_encoder_ctl(self.0.as_mut_ptr(), sys::OPUS_RESET_STATE) };
    }

    fn control(&mut self, request: c_int, value: c_int) -> Result<(), CodecError> {
        // SAFETY: the state was initialised in `new`; every request used here takes one C int.
        check(unsafe { sys::opus_encoder_ctl(self.0.as_mut_ptr(), request, value) })
    }
}

/// One decoder; stereo packets come out as mono.
#[derive(Debug)]
pub(super) struct Decoder(StateBlock);

impl Decoder {
    /// A fresh decoder.
    pub(super) fn new() -> Result<Self, CodecError> {
        // SAFETY: takes no pointer.
        let mut block = StateBlock::new(unsafe { sys::opus_decoder_get_size(CHANNELS) })?;
        // SAFETY: the block has the size libopus asked for and the alignment of any C object.
        check(unsafe { sys::opus_decoder_init(block.as_mut_ptr(), HZ, CHANNELS) })?;
        Ok(Self(block))
    }

    /// Decodes a whole packet; `pcm` has the room that [`samples_in`] asks for.
    pub(super) fn decode(&mut self, payload: &[u8], pcm: &mut [i16]) -> Result<usize, CodecError> {
        if payload.is_empty() {
            // To libopus no bytes mean a lost packet, not a malformed one.
            return Err(CodecError::Malformed);
        }
        self.run(Some(payload), pcm, false)
    }

    /// Decodes the frame before `next_payload` from the copy in it.
    pub(super) fn decode_fec(
        &mut self,
        next_payload: &[u8],
        pcm: &mut [i16],
    ) -> Result<usize, CodecError> {
        concealable(pcm)?;
        let copied = fec_samples(next_payload)?;
        if copied > pcm.len() {
            // libopus would conceal without saying so.
            return Err(CodecError::NoFec);
        }
        self.run(Some(next_payload), pcm, true)
    }

    /// Fills `pcm` from what was heard before.
    pub(super) fn conceal(&mut self, pcm: &mut [i16]) -> Result<usize, CodecError> {
        concealable(pcm)?;
        self.run(None, pcm, false)
    }

    /// Back to a fresh decoder.
    pub(super) fn reset(&mut self) {
        // SAFETY: the state was initialised in `new`; this request takes no argument.
        let _ok = unsafe { sys::opus_decoder_ctl(self.0.as_mut_ptr(), sys::OPUS_RESET_STATE) };
    }

    fn run(
        &mut self,
        payload: Option<&[u8]>,
        pcm: &mut [i16],
        fec: bool,
    ) -> Result<usize, CodecError> {
        let bytes = length(payload.map_or(0, <[u8]>::len)).ok_or(CodecError::Malformed)?;
        let data = payload.map_or(std::ptr::null(), <[u8]>::as_ptr);
        // More room than the longest packet needs would only cost libopus stack.
        let room = length(pcm.len().min(PAYLOAD_SAMPLES_MAX)).ok_or(CodecError::FrameLength)?;
        // SAFETY: the state was initialised in `new`; `data` is null (a lost packet) or has
        // `bytes` bytes, `pcm` has `room` samples; neither is kept after the call.
        let result = unsafe {
            let state = self.0.as_mut_ptr();
            sys::opus_decode(state, data, bytes, pcm.as_mut_ptr(), room, fec.into())
        };
        written(result)
    }
}

/// The samples at 48 kHz in a packet, from its framing alone (RFC 6716 section 3.2).
pub(super) fn samples_in(payload: &[u8]) -> Option<usize> {
    let bytes = length(payload.len()).filter(|&bytes| bytes > 0)?;
    // SAFETY: `payload` has `bytes` bytes, at least one.
    let samples = unsafe { sys::opus_packet_get_nb_samples(payload.as_ptr(), bytes, HZ) };
    usize::try_from(samples).ok().filter(|&samples| samples > 0)
}

/// Joins the 20 ms packets of one encoder into a longer one (RFC 6716 section 3.2), without
/// coding them anew.
#[derive(Debug)]
pub struct Repacketizer(StateBlock);

impl Repacketizer {
    /// The memory it works in.
    ///
    /// # Errors
    /// [`CodecError::Opus`] if libopus refuses.
    pub fn new() -> Result<Self, CodecError> {
        // SAFETY: takes no pointer.
        Ok(Self(StateBlock::new(unsafe {
            sys::opus_repacketizer_get_size()
        })?))
    }

    /// Writes one packet with all frames of `packets`, in order, and returns its length; up to
    /// 120 ms. [`PAYLOAD_BYTES_MAX`] per packet and 8 more always suffice.
    ///
    /// # Errors
    /// [`CodecError::Mismatch`] if the frames are of different modes or bandwidths, so that they
    /// can't share a packet: the caller sends them one by one. The same for a malformed packet.
    /// [`CodecError::BufferTooSmall`].
    pub fn merge(&mut self, packets: &[&[u8]], output: &mut [u8]) -> Result<usize, CodecError> {
        // SAFETY: the block has the size libopus asked for. This only sets its frame count to 0,
        // so pointers left from an earlier merge are never followed.
        unsafe { sys::opus_repacketizer_init(self.0.as_mut_ptr()) };
        for packet in packets {
            self.add(packet)?;
        }
        let room = length(output.len()).ok_or(CodecError::BufferTooSmall)?;
        // SAFETY: initialised above; it reads from `packets`, still borrowed, and writes at most
        // `room` bytes to `output`, which can't overlap them.
        written(unsafe {
            sys::opus_repacketizer_out(self.0.as_mut_ptr(), output.as_mut_ptr(), room)
        })
    }

    /// Keeps a pointer to `packet` in the block: only for `merge`, which holds the borrow.
    fn add(&mut self, packet: &[u8]) -> Result<(), CodecError> {
        let bytes = length(packet.len()).ok_or(CodecError::Mismatch)?;
        // SAFETY: initialised by `merge`; `packet` has `bytes` bytes and outlives the merge.
        let result =
            unsafe { sys::opus_repacketizer_cat(self.0.as_mut_ptr(), packet.as_ptr(), bytes) };
        check(result).map_err(|_| CodecError::Mismatch)
    }
}

/// Heap memory for one libopus object: aligned for anything it puts there, and copyable by bytes.
#[derive(Debug)]
struct StateBlock(Box<[StateLine]>);

/// A cache line. `MaybeUninit`, for a copy then carries over padding and pointers as they are.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct StateLine([MaybeUninit<u8>; STATE_LINE_BYTES]);

impl StateBlock {
    fn new(bytes: c_int) -> Result<Self, CodecError> {
        let bytes = usize::try_from(bytes).unwrap_or(0);
        if bytes == 0 {
            return Err(CodecError::Opus(sys::OPUS_INTERNAL_ERROR));
        }
        let zero = StateLine([MaybeUninit::new(0); STATE_LINE_BYTES]);
        Ok(Self(
            vec![zero; bytes.div_ceil(STATE_LINE_BYTES)].into_boxed_slice(),
        ))
    }

    const fn as_mut_ptr<T>(&mut self) -> *mut T {
        self.0.as_mut_ptr().cast()
    }

    /// Both blocks hold the same kind of object, so they are equally long.
    fn copy_from(&mut self, other: &Self) {
        debug_assert_eq!(self.0.len(), other.0.len());
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine = *theirs;
        }
    }
}

/// The samples of the lost frame that a packet carries a copy of.
fn fec_samples(payload: &[u8]) -> Result<usize, CodecError> {
    samples_in(payload).ok_or(CodecError::Malformed)?;
    let bytes = length(payload.len()).ok_or(CodecError::Malformed)?;
    // SAFETY: `payload` has `bytes` bytes, at least one, or it would hold no samples.
    match unsafe { sys::opus_packet_has_lbrr(payload.as_ptr(), bytes) } {
        1.. => {}
        0 => return Err(CodecError::NoFec),
        c_int::MIN..0 => return Err(CodecError::Malformed),
    }
    // SAFETY: reads the first byte only, and there is one.
    let samples = unsafe { sys::opus_packet_get_samples_per_frame(payload.as_ptr(), HZ) };
    usize::try_from(samples).map_err(|_| CodecError::Malformed)
}

/// libopus conceals in steps of 2.5 ms.
fn concealable(pcm: &[i16]) -> Result<(), CodecError> {
    let whole = !pcm.is_empty() && pcm.len().is_multiple_of(CONCEALMENT_STEP);
    if whole && pcm.len() <= PAYLOAD_SAMPLES_MAX {
        Ok(())
    } else {
        Err(CodecError::FrameLength)
    }
}

fn length(length: usize) -> Option<c_int> {
    c_int::try_from(length).ok()
}

/// A libopus result that is 0 or an error.
const fn check(result: c_int) -> Result<(), CodecError> {
    if result < 0 {
        Err(error(result))
    } else {
        Ok(())
    }
}

/// A libopus result that is a count or an error.
fn written(result: c_int) -> Result<usize, CodecError> {
    usize::try_from(result).map_err(|_| error(result))
}

const fn error(code: c_int) -> CodecError {
    match code {
        sys::OPUS_BUFFER_TOO_SMALL => CodecError::BufferTooSmall,
        sys::OPUS_INVALID_PACKET => CodecError::Malformed,
        code => CodecError::Opus(code),
    }
}

const HZ: c_int = 48_000;
const CHANNELS: c_int = 1;

/// What FEC is dimensioned for: at 10 % libopus gives the copies enough bits to be understood.
const LOSS_EXPECTED_PERCENT: c_int = 10;

/// 2.5 ms at 48 kHz.
const CONCEALMENT_STEP: usize = 120;

const STATE_LINE_BYTES: usize = 64;
