//! Opus (RFC 6716), mono at 48 kHz, by libopus. This is the only file of `media` that calls C.
//!
//! libopus lets its caller own the memory of a state. With it in memory of ours, turning from a
//! shared mix to an own one is a copy of bytes, which a handle from `opus_encoder_create` would
//! not allow. That holds because a state points at nothing but libopus' constant tables: its
//! parts find each other by offsets, and the one pointer to data that it has (the energy mask of
//! surround encoding) is null for a mono encoder.
//!
//! Two encoders that are given the same sound never come into the same state by themselves, but
//! decoders can. Where Opus goes over from SILK to CELT, the last SILK packet ends with 5 ms in CELT, by
//! an encoder that knows nothing but the last milliseconds' sound, for a decoder that was reset (RFC
//! 6716 section 4.5); and SILK's decoder is reset when it comes back. So if two encoders of the same sound
//! go over together and the ends of their packets are the same, then the decoder of one can go on with
//! the other's packets as if it had never had any else ([`Encoder::encode_crossing`], [`have_met`]).
#![deny(clippy::indexing_slicing)]

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

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
    /// For how many lost packets in a hundred each one carries a coarse copy of the frame before it (RFC
    /// 6716 section 2.1.7); 0: none does. From 10 on libopus gives the copies enough bits to be understood.
    pub loss_percent: u8,
    /// Almost nothing is sent in silence (RFC 6716 section 2.1.9).
    pub dtx: bool,
}

impl Default for OpusSettings {
    fn default() -> Self {
        Self {
            bitrate: 24_000,
            complexity: 5,
            loss_percent: 10,
            dtx: false,
        }
    }
}

/// One encoder, VOIP application. Many are made so that whoever begins to speak has one at once, and
/// most are never used: until then only its addresses are taken, no memory.
#[derive(Debug)]
pub(super) struct Encoder {
    pages: Pages,
    settings: OpusSettings,
    /// Is there a state in the pages?
    begun: bool,
}

impl Encoder {
    /// A fresh encoder. Settings that libopus refuses are told by the first frame.
    pub(super) fn new(settings: OpusSettings) -> Result<Self, CodecError> {
        // SAFETY: takes no pointer.
        let pages = Pages::new(unsafe { sys::opus_encoder_get_size(CHANNELS) })?;
        Ok(Self {
            pages,
            settings,
            begun: false,
        })
    }

    /// Takes effect with the next frame. Settings before a refused one stay changed.
    pub(super) fn set(&mut self, settings: OpusSettings) -> Result<(), CodecError> {
        self.begin()?;
        self.apply(settings)?;
        self.settings = settings;
        Ok(())
    }

    /// [`OpusSettings::loss_percent`] from the next frame on. Makes no state where there is none yet.
    pub(super) fn expect_loss(&mut self, percent: u8) -> Result<(), CodecError> {
        if percent == self.settings.loss_percent {
            return Ok(());
        }
        if self.begun {
            self.apply_loss(percent)?;
        }
        self.settings.loss_percent = percent;
        Ok(())
    }

    /// Makes the state, where there is none yet. Doesn't allocate: the pages come from the kernel as they
    /// are touched.
    fn begin(&mut self) -> Result<(), CodecError> {
        if self.begun {
            return Ok(());
        }
        // SAFETY: the pages have the size libopus asked for and more than the alignment of any C object.
        check(unsafe {
            sys::opus_encoder_init(
                self.pages.as_mut_ptr(),
                HZ,
                CHANNELS,
                sys::OPUS_APPLICATION_VOIP,
            )
        })?;
        self.apply(self.settings)?;
        self.begun = true;
        Ok(())
    }

    fn apply(&mut self, settings: OpusSettings) -> Result<(), CodecError> {
        let bitrate = c_int::try_from(settings.bitrate).unwrap_or(c_int::MAX);
        self.control(sys::OPUS_SET_BITRATE_REQUEST, bitrate)?;
        self.control(sys::OPUS_SET_VBR_REQUEST, 1)?;
        self.control(sys::OPUS_SET_VBR_CONSTRAINT_REQUEST, 1)?;
        self.control(sys::OPUS_SET_COMPLEXITY_REQUEST, settings.complexity.into())?;
        self.apply_loss(settings.loss_percent)?;
        self.control(sys::OPUS_SET_DTX_REQUEST, settings.dtx.into())
    }

    fn apply_loss(&mut self, percent: u8) -> Result<(), CodecError> {
        self.control(sys::OPUS_SET_INBAND_FEC_REQUEST, (percent > 0).into())?;
        self.control(sys::OPUS_SET_PACKET_LOSS_PERC_REQUEST, percent.into())
    }

    /// Encodes `pcm` (a frame length of Opus) into at most [`PAYLOAD_BYTES_MAX`] bytes.
    pub(super) fn encode(&mut self, pcm: &[i16], payload: &mut [u8]) -> Result<usize, CodecError> {
        let frame_size = length(pcm.len()).ok_or(CodecError::FrameLength)?;
        let room = length(payload.len().min(PAYLOAD_BYTES_MAX)).ok_or(CodecError::FrameLength)?;
        self.begin()?;
        // SAFETY: the state was initialised by `begin`; `frame_size` and `room` are within the
        // slices, which libopus reads and writes only during the call.
        written(unsafe {
            let state = self.pages.as_mut_ptr();
            sys::opus_encode(state, pcm.as_ptr(), frame_size, payload.as_mut_ptr(), room)
        })
    }

    /// The same, predicting nothing from earlier frames.
    pub(super) fn encode_unpredicted(
        &mut self,
        pcm: &[i16],
        payload: &mut [u8],
    ) -> Result<usize, CodecError> {
        self.begin()?;
        self.control(sys::OPUS_SET_PREDICTION_DISABLED_REQUEST, 1)?;
        let length = self.encode(pcm, payload);
        self.control(sys::OPUS_SET_PREDICTION_DISABLED_REQUEST, 0)?;
        length
    }

    /// The same, by CELT: for two frames in a row. The first of them is the last by SILK.
    pub(super) fn encode_crossing(
        &mut self,
        pcm: &[i16],
        payload: &mut [u8],
    ) -> Result<usize, CodecError> {
        self.begin()?;
        self.control(SET_FORCE_MODE_REQUEST, MODE_CELT_ONLY)?;
        let length = self.encode(pcm, payload);
        self.control(SET_FORCE_MODE_REQUEST, sys::OPUS_AUTO)?;
        length
    }

    /// State and settings of `other`, in one copy.
    pub(super) fn copy_state_from(&mut self, other: &Self) {
        if other.begun {
            self.pages.copy_from(&other.pages);
        }
        self.settings = other.settings;
        self.begun = other.begun;
    }

    /// Forgets the signal, keeps the settings.
    pub(super) fn reset(&mut self) {
        if self.begun {
            // SAFETY: the state was initialised by `begin`; this request takes no argument.
            let _ok =
                unsafe { sys::opus_encoder_ctl(self.pages.as_mut_ptr(), sys::OPUS_RESET_STATE) };
        }
    }

    /// Of a state that was begun.
    fn control(&mut self, request: c_int, value: c_int) -> Result<(), CodecError> {
        // SAFETY: `begin` initialises the state before it or anybody else comes here; every request used
        // here takes one C int.
        check(unsafe { sys::opus_encoder_ctl(self.pages.as_mut_ptr(), request, value) })
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

    /// State of `other`, in one copy.
    #[cfg(test)]
    pub(super) fn copy_state_from(&mut self, other: &Self) {
        self.0.copy_from(&other.0);
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

/// Two encoders went over to CELT, and these are their first packets since: may the decoder of one go on
/// with the packets of the other?
pub(super) fn have_met(one: &[u8], other: &[u8]) -> bool {
    let crosses = |packet: &[u8]| packet.first().is_some_and(|toc| *toc < CELT_ONLY);
    let end = |packet: &[u8]| packet.last_chunk::<CROSSING_BYTES>().copied();
    crosses(one) && crosses(other) && end(one).is_some() && end(one) == end(other)
}

/// The samples at 48 kHz in a packet, from its framing alone (RFC 6716 section 3.2).
pub(super) fn samples_in(payload: &[u8]) -> Option<usize> {
    let bytes = length(payload.len()).filter(|&bytes| bytes > 0)?;
    // SAFETY: `payload` has `bytes` bytes, at least one.
    let samples = unsafe { sys::opus_packet_get_nb_samples(payload.as_ptr(), bytes, HZ) };
    usize::try_from(samples).ok().filter(|&samples| samples > 0)
}

/// Does the sender's own voice detector say that there is no voice in any frame of the packet?
/// `None` where the packet doesn't say: CELT has no such flag. The flags are the first bits of a
/// SILK or hybrid frame and stand there plainly (RFC 6716 sections 4.2.2 and 4.2.3).
pub(super) fn is_voiceless(payload: &[u8]) -> Option<bool> {
    let toc = *payload.first()?;
    if toc >= CELT_ONLY {
        return None;
    }
    let bytes = length(payload.len())?;
    let mut frames = [std::ptr::null(); PACKET_FRAMES_MAX];
    let mut sizes = [0_i16; PACKET_FRAMES_MAX];
    // SAFETY: `payload` has `bytes` bytes; both arrays have the 48 places that libopus may write,
    // and the other results are not asked for.
    let count = unsafe {
        sys::opus_packet_parse(
            payload.as_ptr(),
            bytes,
            std::ptr::null_mut(),
            frames.as_mut_ptr(),
            sizes.as_mut_ptr(),
            std::ptr::null_mut(),
        )
    };
    let count = usize::try_from(count).ok().filter(|&count| count > 0)?;
    let end = payload.len();
    let mut voiceless = true;
    for (frame, size) in frames.iter().zip(sizes).take(count) {
        // Where a frame starts, told by its address within the payload.
        let start = (frame.addr()).checked_sub(payload.as_ptr().addr())?;
        let first = payload.get(start..end)?.first().copied();
        // A frame of at most one byte is a gap that the sender left on purpose.
        voiceless &= size <= 1 || first? & voice_flags(toc) == 0;
    }
    Some(voiceless)
}

/// Which of the first bits of a SILK frame are voice flags: one per 20 ms and channel, each
/// channel's followed by its flag for a copy of the frame before.
const fn voice_flags(toc: u8) -> u8 {
    let is_hybrid = toc >= HYBRID;
    let parts = match (is_hybrid, toc >> 3 & 0x03) {
        (true, _) | (false, 0 | 1) => 1,
        (false, 2) => 2,
        (false, _) => 3,
    };
    let middle = 0xFF_u8 << (8 - parts);
    let side = if toc & STEREO == 0 {
        0
    } else {
        middle >> (parts + 1)
    };
    middle | side
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

/// Memory of an encoder's state, straight from the system: what isn't touched takes none, and all goes back
/// when it is dropped. On the heap it would be cleared, and so be touched, at once.
#[derive(Debug)]
struct Pages {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the mapping belongs to this value alone; moving that to another thread moves the right to use it.
unsafe impl Send for Pages {}

// SAFETY: through a shared reference the pages are only read.
unsafe impl Sync for Pages {}

impl Pages {
    fn new(bytes: c_int) -> Result<Self, CodecError> {
        let bytes = usize::try_from(bytes).unwrap_or(0);
        // SAFETY: a new private mapping that nothing else uses; of no bytes it fails, which is checked.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        NonNull::new(start.cast())
            .filter(|_| start != libc::MAP_FAILED)
            .map(|start| Self { start, bytes })
            .ok_or(CodecError::Opus(sys::OPUS_ALLOC_FAIL))
    }

    const fn as_mut_ptr<T>(&mut self) -> *mut T {
        self.start.as_ptr().cast()
    }

    /// Both hold the same kind of object, so they are equally long.
    fn copy_from(&mut self, other: &Self) {
        debug_assert_eq!(self.bytes, other.bytes);
        let bytes = self.bytes.min(other.bytes);
        // SAFETY: two mappings of at least so many bytes each, which can't overlap.
        unsafe { std::ptr::copy_nonoverlapping(other.start.as_ptr(), self.start.as_ptr(), bytes) };
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made, used by nobody else any more.
        let _unmapped = unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
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
    #[cfg(test)]
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

/// Table-of-contents bytes from here on are hybrid, from there on CELT only (RFC 6716 table 2).
const HYBRID: u8 = 12 << 3;
const CELT_ONLY: u8 = 16 << 3;
/// The bit of the table-of-contents byte that says so.
const STEREO: u8 = 0x04;
/// 120 ms in frames of 2.5 ms (RFC 6716 section 3.2.5).
const PACKET_FRAMES_MAX: usize = 48;

/// What libopus' encoder answers to beside the requests in its public header; its own tests use it.
const SET_FORCE_MODE_REQUEST: c_int = 11_002;
const MODE_CELT_ONLY: c_int = 1_002;
/// The 5 ms in CELT at the end of a packet: what libopus gives them at the default bitrate.
const CROSSING_BYTES: usize = 30;

/// 2.5 ms at 48 kHz.
const CONCEALMENT_STEP: usize = 120;

const STATE_LINE_BYTES: usize = 64;

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::*;

    const FRAME: usize = 960;

    /// Frame `n` of a voice of 130 Hz in syllables, with a little noise.
    fn voice(n: usize) -> Vec<i16> {
        (n * FRAME..(n + 1) * FRAME)
            .map(|i| {
                let t = i as f64 / 48_000.0;
                let harmonics = (1..=30).map(|k| (t * 817.0 * f64::from(k)).sin() / f64::from(k));
                let envelope = (t * 9.0).sin().powi(2);
                let noise = (i.wrapping_mul(2_654_435_761) >> 7 & 0x1FF) as f64 - 256.0;
                (harmonics.sum::<f64>() * 5_000.0 * envelope + noise) as i16
            })
            .collect()
    }

    fn encode(encoder: &mut Encoder, pcm: &[i16]) -> Vec<u8> {
        let mut payload = [0; PAYLOAD_BYTES_MAX];
        let bytes = encoder.encode(pcm, &mut payload).unwrap();
        payload[..bytes].to_vec()
    }

    fn decode(decoder: &mut Decoder, payload: &[u8]) -> Vec<i16> {
        let mut pcm = vec![0; PAYLOAD_SAMPLES_MAX];
        let samples = decoder.decode(payload, &mut pcm).unwrap();
        pcm.truncate(samples);
        pcm
    }

    fn encoder() -> Encoder {
        Encoder::new(OpusSettings::default()).unwrap()
    }

    fn packets(settings: OpusSettings, frames: usize) -> Vec<Vec<u8>> {
        let mut encoder = Encoder::new(settings).unwrap();
        (0..frames)
            .map(|n| encode(&mut encoder, &voice(n)))
            .collect()
    }

    fn error_power(a: &[i16], b: &[i16]) -> f64 {
        assert_eq!(a.len(), b.len());
        a.iter()
            .zip(b)
            .map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2))
            .sum()
    }

    #[test]
    fn an_encoder_that_took_over_the_state_gives_the_same_packets() {
        let mut shared = encoder();
        let mut own = Encoder::new(OpusSettings {
            complexity: 0,
            ..Default::default()
        })
        .unwrap();
        let (mut listener, mut undisturbed) = (Decoder::new().unwrap(), Decoder::new().unwrap());
        for n in 0..50 {
            let packet = encode(&mut shared, &voice(n));
            decode(&mut listener, &packet);
            decode(&mut undisturbed, &packet);
            encode(&mut own, &voice(n + 500));
        }
        own.copy_state_from(&shared);
        for n in 50..150 {
            let packet = encode(&mut shared, &voice(n));
            let own_packet = encode(&mut own, &voice(n));
            assert_eq!(packet, own_packet, "frame {n}");
            // The listener is turned to the own mix's packets and must not notice.
            assert_eq!(
                decode(&mut listener, &own_packet),
                decode(&mut undisturbed, &packet)
            );
        }
    }

    /// Pages of its state that are in memory.
    fn resident(encoder: &Encoder) -> usize {
        let pages = &encoder.pages;
        let mut touched = vec![0; pages.bytes.div_ceil(4_096)];
        // SAFETY: the whole mapping, and room for a byte per page of 4 KiB or more.
        let result = unsafe {
            libc::mincore(
                pages.start.as_ptr().cast(),
                pages.bytes,
                touched.as_mut_ptr(),
            )
        };
        assert_eq!(result, 0);
        touched.into_iter().filter(|page| page & 1 == 1).count()
    }

    #[test]
    fn an_encoder_takes_no_memory_before_it_is_used() {
        let (mut idle, mut used) = (encoder(), encoder());
        idle.reset();
        assert_eq!(resident(&idle), 0);
        encode(&mut used, &voice(0));
        assert!(resident(&used) >= 4, "{}", resident(&used));
        // What was never used is as good as fresh, whoever takes it over.
        used.copy_state_from(&idle);
        let fresh = packets(OpusSettings::default(), 1);
        assert_eq!(encode(&mut used, &voice(0)), fresh[0]);
        assert_eq!(resident(&idle), 0);
        idle.copy_state_from(&used);
        assert_eq!(encode(&mut idle, &voice(1)), encode(&mut used, &voice(1)));
    }

    #[test]
    fn where_two_encoders_met_the_decoder_of_one_goes_on_with_the_packets_of_the_other() {
        let (mut met_after, mut missed) = (Vec::new(), 0);
        for seed in 0..12 {
            let mut encoders = [encoder(), encoder()];
            let mut decoders = [(); 2].map(|()| Decoder::new().unwrap());
            let mut both = |n: usize, crosses: bool, other: bool| {
                let pcm = [voice(n), voice(if other { n + 333 } else { n })];
                let mut packets = [[0; PAYLOAD_BYTES_MAX]; 2].map(Vec::from);
                for ((encoder, pcm), packet) in encoders.iter_mut().zip(pcm).zip(&mut packets) {
                    let length = if crosses {
                        encoder.encode_crossing(&pcm, packet)
                    } else {
                        encoder.encode(&pcm, packet)
                    };
                    packet.truncate(length.unwrap());
                }
                packets
            };
            let begin = 37 * seed;
            for n in begin..begin + 40 {
                let packets = both(n, false, n < begin + 20);
                for (decoder, packet) in decoders.iter_mut().zip(packets) {
                    decode(decoder, &packet);
                }
            }
            let mut met = None;
            for n in begin + 40..begin + 200 {
                let step = (n - begin - 40) % 12;
                let [one, other] = both(n, step < 2, false);
                let heard = decode(&mut decoders[0], &one);
                let there = decode(&mut decoders[1], if met.is_some() { &one } else { &other });
                if let Some(met) = met {
                    assert_eq!(heard, there, "frame {n}, met in {met}");
                } else if step == 0 && have_met(&one, &other) {
                    met = Some(n);
                    met_after.push(n - begin - 40);
                }
            }
            missed += usize::from(met.is_none());
        }
        assert!(
            missed <= 1,
            "{missed} never, the others after {met_after:?}"
        );
    }

    #[test]
    fn the_copy_and_its_original_are_independent_afterwards() {
        let mut original = encoder();
        (0..20).for_each(|n| drop(encode(&mut original, &voice(n))));
        let mut copy = encoder();
        copy.copy_state_from(&original);
        let expected: Vec<_> = (20..40).map(|n| encode(&mut original, &voice(n))).collect();
        // The original has moved on and is gone: nothing in the copy may point into it.
        drop(original);
        let copied: Vec<_> = (20..40).map(|n| encode(&mut copy, &voice(n))).collect();
        assert_eq!(copied, expected);
        let fresh = packets(OpusSettings::default(), 1);
        assert_ne!(
            encode(&mut encoder(), &voice(20)),
            expected[0],
            "a fresh encoder differs"
        );
        copy.reset();
        assert_eq!(
            encode(&mut copy, &voice(0)),
            fresh[0],
            "after a reset it is fresh"
        );
    }

    #[test]
    fn a_payload_never_outgrows_the_limit() {
        let settings = OpusSettings {
            bitrate: 510_000,
            complexity: 5,
            loss_percent: 10,
            dtx: false,
        };
        let mut encoder = Encoder::new(settings).unwrap();
        let mut noise = 1_u32;
        for _ in 0..50 {
            let pcm: Vec<i16> = (0..FRAME)
                .map(|_| {
                    noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (noise >> 16) as i16
                })
                .collect();
            let mut payload = [0; 1_000];
            let bytes = encoder.encode(&pcm, &mut payload).unwrap();
            assert!(
                bytes <= PAYLOAD_BYTES_MAX && bytes > PAYLOAD_BYTES_MAX / 2,
                "{bytes}"
            );
        }
    }

    #[test]
    fn settings_hold_the_bitrate_and_can_change_on_the_way() {
        let bytes = |packets: &[Vec<u8>]| packets.iter().map(Vec::len).sum::<usize>();
        let default = bytes(&packets(OpusSettings::default(), 100));
        // 24 kbit/s are 6,000 byte in 2 s.
        assert!((4_000..=6_600).contains(&default), "{default}");

        let mut encoder = encoder();
        encoder
            .set(OpusSettings {
                bitrate: 64_000,
                ..Default::default()
            })
            .unwrap();
        let faster: usize = (0..100)
            .map(|n| encode(&mut encoder, &voice(n)).len())
            .sum();
        assert!(faster > default * 2, "{faster}");

        let refused = encoder.set(OpusSettings {
            complexity: 11,
            ..Default::default()
        });
        assert_eq!(refused, Err(CodecError::Opus(sys::OPUS_BAD_ARG)));
    }

    #[test]
    fn dtx_sends_almost_nothing_in_silence() {
        let settings = OpusSettings {
            dtx: true,
            ..Default::default()
        };
        let mut encoder = Encoder::new(settings).unwrap();
        let sizes: Vec<_> = (0..50)
            .map(|_| encode(&mut encoder, &[0; FRAME]).len())
            .collect();
        assert!(
            sizes[40..].iter().filter(|&&bytes| bytes <= 2).count() >= 8,
            "{sizes:?}"
        );
    }

    #[test]
    fn a_lost_frame_comes_back_out_of_the_packet_after_it() {
        let packets = packets(OpusSettings::default(), 100);
        let (mut fec_error, mut conceal_error) = (0.0, 0.0);
        // The encoder spends no copy on a pause.
        let has_copy = |&lost: &usize| fec_samples(&packets[lost + 1]).is_ok();
        let losses: Vec<usize> = (30..99).filter(has_copy).collect();
        assert!(losses.len() > 40, "{}", losses.len());
        for lost in losses.into_iter().step_by(4) {
            let mut decoders: Vec<_> = (0..3).map(|_| Decoder::new().unwrap()).collect();
            for packet in &packets[..lost] {
                decoders
                    .iter_mut()
                    .for_each(|decoder| drop(decode(decoder, packet)));
            }
            let whole = decode(&mut decoders[0], &packets[lost]);
            let (mut fec, mut concealed) = ([1; FRAME], [1; FRAME]);
            assert_eq!(
                decoders[1].decode_fec(&packets[lost + 1], &mut fec),
                Ok(FRAME)
            );
            assert_eq!(decoders[2].conceal(&mut concealed), Ok(FRAME));
            fec_error += error_power(&whole, &fec);
            conceal_error += error_power(&whole, &concealed);
        }
        assert!(
            fec_error < conceal_error / 2.0,
            "{fec_error} {conceal_error}"
        );
    }

    #[test]
    fn without_a_copy_forward_error_correction_says_so_and_leaves_the_decoder_alone() {
        let packets = packets(
            OpusSettings {
                loss_percent: 0,
                ..Default::default()
            },
            12,
        );
        let (mut decoder, mut other) = (Decoder::new().unwrap(), Decoder::new().unwrap());
        for packet in &packets[..10] {
            decode(&mut decoder, packet);
            decode(&mut other, packet);
        }
        assert_eq!(
            decoder.decode_fec(&packets[11], &mut [0; FRAME]),
            Err(CodecError::NoFec)
        );
        assert_eq!(
            decoder.decode_fec(&[], &mut [0; FRAME]),
            Err(CodecError::Malformed)
        );
        assert_eq!(
            decoder.decode_fec(&packets[11], &mut [0; 7]),
            Err(CodecError::FrameLength)
        );
        assert_eq!(
            decode(&mut decoder, &packets[10]),
            decode(&mut other, &packets[10])
        );
    }

    #[test]
    fn copies_come_and_go_with_the_loss_that_is_expected() {
        let mut encoder = encoder();
        let mut copies = |percent: u8, from: usize| {
            encoder.expect_loss(percent).unwrap();
            (from..from + 50)
                .filter(|n| fec_samples(&encode(&mut encoder, &voice(*n))).is_ok())
                .count()
        };
        // Before the first frame, when there is no state yet, and on the way.
        assert_eq!(copies(0, 0), 0);
        assert!(copies(10, 50) > 25);
        assert!(copies(20, 100) > 25);
        // The copy of the last frame before is on its way already.
        assert_eq!(copies(0, 150), 1);
    }

    #[test]
    fn a_gap_shorter_than_the_copy_is_not_taken_for_recovered() {
        let packets = packets(OpusSettings::default(), 40);
        let mut decoder = Decoder::new().unwrap();
        packets[..30]
            .iter()
            .for_each(|packet| drop(decode(&mut decoder, packet)));
        assert_eq!(
            decoder.decode_fec(&packets[31], &mut [0; FRAME / 2]),
            Err(CodecError::NoFec)
        );
    }

    #[test]
    fn concealment_takes_steps_of_two_and_a_half_milliseconds() {
        let mut decoder = Decoder::new().unwrap();
        for packet in packets(OpusSettings::default(), 20) {
            decode(&mut decoder, &packet);
        }
        let mut pcm = [0; PAYLOAD_SAMPLES_MAX + 120];
        for samples in [0, 1, 121, PAYLOAD_SAMPLES_MAX + 120] {
            assert_eq!(
                decoder.conceal(&mut pcm[..samples]),
                Err(CodecError::FrameLength)
            );
        }
        for samples in [120, 480, FRAME, PAYLOAD_SAMPLES_MAX] {
            assert_eq!(decoder.conceal(&mut pcm[..samples]), Ok(samples));
        }
        decoder.reset();
        decoder.conceal(&mut pcm[..FRAME]).unwrap();
        assert!(
            pcm[..FRAME].iter().all(|&sample| sample == 0),
            "nothing heard, nothing made up"
        );
    }

    #[test]
    fn samples_are_counted_from_the_framing() {
        // RFC 6716 table 2: configuration 15 is 20 ms, 3 is 60 ms, 16 is 2.5 ms.
        assert_eq!(samples_in(&[0x78]), Some(960));
        assert_eq!(samples_in(&[0x79, 0, 0]), Some(1_920));
        assert_eq!(samples_in(&[0x7B, 3]), Some(2_880));
        assert_eq!(samples_in(&[0x19]), Some(5_760));
        assert_eq!(samples_in(&[0x80]), Some(120));
        assert_eq!(samples_in(&[0x1B, 3]), None, "180 ms");
        assert_eq!(samples_in(&[0x7B]), None, "the frame count is missing");
        assert_eq!(samples_in(&[0x7B, 0]), None, "no frames");
        assert_eq!(samples_in(&[]), None);
    }

    #[test]
    fn a_packet_tells_whether_there_is_a_voice_in_it() {
        let mut encoder = encoder();
        let mut noise = 1_u32;
        let mut told = |n: usize, speaks: bool| {
            let room = |sample: i16| {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                sample / 4 * i16::from(speaks) + (noise >> 16) as i16 / 330
            };
            let pcm: Vec<i16> = voice(n).into_iter().map(room).collect();
            is_voiceless(&encode(&mut encoder, &pcm))
        };
        let speech = (0..100).filter(|n| told(*n, true) == Some(false)).count();
        assert!(speech >= 70, "{speech} of 100 frames of syllables");
        // A voice that has just ended is still suspected for a while.
        let room = (0..200).filter(|n| told(*n, false) == Some(true)).count();
        assert!(room >= 180, "{room} of 200 frames of a room");
    }

    #[test]
    fn voice_flags_are_found_in_every_frame_and_channel() {
        // 20 ms of SILK; two such frames of one byte more than a gap; 60 ms; stereo.
        assert_eq!(is_voiceless(&[0x48, 0x7F, 1]), Some(true));
        assert_eq!(is_voiceless(&[0x48, 0x80, 1]), Some(false));
        assert_eq!(is_voiceless(&[0x49, 0x40, 1, 0x80, 1]), Some(false));
        assert_eq!(is_voiceless(&[0x49, 0x40, 1, 0x40, 1]), Some(true));
        assert_eq!(is_voiceless(&[0x58, 0x20, 1]), Some(false));
        assert_eq!(is_voiceless(&[0x58, 0x10, 1]), Some(true));
        assert_eq!(is_voiceless(&[0x4C, 0x20, 1]), Some(false));
        assert_eq!(is_voiceless(&[0x4C, 0x50, 1]), Some(true));
        // Hybrid, a gap, CELT, nothing, a broken frame count.
        assert_eq!(is_voiceless(&[0x78, 0x80, 1]), Some(false));
        assert_eq!(is_voiceless(&[0x48]), Some(true));
        assert_eq!(is_voiceless(&[0x80, 0, 1]), None);
        assert_eq!(is_voiceless(&[]), None);
        assert_eq!(is_voiceless(&[0x4B]), None);
    }

    #[test]
    fn a_merged_packet_sounds_like_its_parts() {
        let packets = packets(OpusSettings::default(), 60);
        let mut repacketizer = Repacketizer::new().unwrap();
        let (mut one_by_one, mut merged) = (Decoder::new().unwrap(), Decoder::new().unwrap());
        for three in packets.chunks_exact(3) {
            let parts: Vec<&[u8]> = three.iter().map(Vec::as_slice).collect();
            let mut long = [0; 3 * PAYLOAD_BYTES_MAX + 8];
            let bytes = repacketizer.merge(&parts, &mut long).unwrap();
            assert_eq!(samples_in(&long[..bytes]), Some(3 * FRAME));
            let expected: Vec<i16> = three
                .iter()
                .flat_map(|packet| decode(&mut one_by_one, packet))
                .collect();
            assert_eq!(decode(&mut merged, &long[..bytes]), expected);
        }
    }

    #[test]
    fn packets_that_cannot_be_merged_are_refused() {
        let mut repacketizer = Repacketizer::new().unwrap();
        let mut long = [0; 100];
        let refused = |packets: &[&[u8]], output: &mut [u8], r: &mut Repacketizer| {
            r.merge(packets, output).unwrap_err()
        };
        let mismatch: &[&[u8]] = &[&[0x78, 1], &[0x80, 1]];
        assert_eq!(
            refused(mismatch, &mut long, &mut repacketizer),
            CodecError::Mismatch
        );
        assert_eq!(
            refused(&[&[]], &mut long, &mut repacketizer),
            CodecError::Mismatch
        );
        let fine: &[&[u8]] = &[&[0x78, 1, 2], &[0x78, 3, 4]];
        assert_eq!(
            refused(fine, &mut long[..4], &mut repacketizer),
            CodecError::BufferTooSmall
        );
        // Code 1: two frames of equal length (RFC 6716 section 3.2.3).
        assert_eq!(repacketizer.merge(fine, &mut long), Ok(5));
        assert_eq!(long[..5], [0x79, 1, 2, 3, 4]);
    }

    #[test]
    fn stereo_comes_out_as_mono() {
        // SAFETY: as in `Encoder::new`, for two channels.
        let mut block = StateBlock::new(unsafe { sys::opus_encoder_get_size(2) }).unwrap();
        // SAFETY: as in `Encoder::new`.
        check(unsafe {
            sys::opus_encoder_init(block.as_mut_ptr(), HZ, 2, sys::OPUS_APPLICATION_AUDIO)
        })
        .unwrap();
        let mut decoder = Decoder::new().unwrap();
        let mut loudest = [0; 2];
        for n in 0..20 {
            // The voice on the left only.
            let pcm: Vec<i16> = voice(n)
                .into_iter()
                .flat_map(|sample| [sample, 0])
                .collect();
            let mut payload = [0; 1_000];
            // SAFETY: 960 samples for two channels, 1,000 bytes of room.
            let bytes = unsafe {
                let state = block.as_mut_ptr();
                sys::opus_encode(state, pcm.as_ptr(), 960, payload.as_mut_ptr(), 1_000)
            };
            let payload = &payload[..usize::try_from(bytes).unwrap()];
            assert_eq!(samples_in(payload), Some(FRAME));
            let mono = decode(&mut decoder, payload);
            assert_eq!(mono.len(), FRAME);
            let peak = |pcm: &[i16]| pcm.iter().map(|&s| i32::from(s).abs()).max().unwrap();
            loudest = [loudest[0].max(peak(&pcm)), loudest[1].max(peak(&mono))];
        }
        let ratio = f64::from(loudest[1]) / f64::from(loudest[0]);
        assert!(
            (0.35..0.65).contains(&ratio),
            "half of the left channel: {ratio}"
        );
    }
}
