//! G.722 at 64 kbit/s (mode 1): two sub-bands of 8 kHz each, the lower in 6 bit ADPCM, the upper
//! in 2 bit ADPCM, split and joined by a 24 tap quadrature mirror filter.
//!
//! The arithmetic is the 16 bit one of the recommendation (chapter 6), for encoder and decoder
//! run the same adaptation and must never drift apart. Names in capitals in comments are the
//! recommendation's.

/// PCM at 16 kHz to one byte per two samples.
#[derive(Debug, Clone)]
pub(super) struct Encoder {
    history: QmfHistory,
    bands: Bands,
}

impl Encoder {
    /// A fresh encoder.
    pub(super) const fn new() -> Self {
        Self {
            history: QmfHistory::new(),
            bands: Bands::new(),
        }
    }

    /// Encodes as many pairs of samples as both slices hold and returns the bytes written.
    pub(super) fn encode(&mut self, pcm: &[i16], payload: &mut [u8]) -> usize {
        let (pairs, _odd) = pcm.as_chunks();
        for (byte, &pair) in payload.iter_mut().zip(pairs) {
            *byte = self.encode_pair(pair);
        }
        pairs.len().min(payload.len())
    }

    /// On the way to the state of `leader`, which was that before it encoded a frame as `theirs`. True:
    /// the payload is `theirs`, for a decoder in this state hears the same by it, and comes nearer to
    /// that one. Else it is what that decoder should hear, by codes that bring the states together.
    /// The more `haste`, the sooner and the less exactly.
    pub(super) fn follow(
        &mut self,
        leader: &Self,
        theirs: &[u8],
        haste: u8,
        payload: &mut [u8],
    ) -> bool {
        let mut their = leader.bands.clone();
        if let Some(after) = self.bands.after(their.clone(), theirs) {
            self.bands = after;
            for (byte, their) in payload.iter_mut().zip(theirs) {
                *byte = *their;
            }
            return true;
        }
        for (byte, code) in payload.iter_mut().zip(theirs) {
            *byte = self.bands.follow(&mut their, *code, haste.into());
        }
        false
    }

    /// Goes on from the sound that `other` was given, in its own state.
    pub(super) const fn continue_from(&mut self, other: &Self) {
        self.history.0 = other.history.0;
    }

    /// Figure 4 of the recommendation: split, then each band by itself.
    fn encode_pair(&mut self, pair: [i16; 2]) -> u8 {
        let (low_input, high_input) = self.history.split(pair);
        let Bands { low, high } = &self.bands;
        let low_code = low_code(saturate(low_input - low.prediction()), low.step());
        let high_code = high_code(saturate(high_input - high.prediction()), high.step());
        let byte = (high_code << 6) | low_code;
        self.bands.advance(byte);
        byte
    }
}

/// One byte to two samples of PCM at 16 kHz.
#[derive(Debug, Clone)]
pub(super) struct Decoder {
    history: QmfHistory,
    bands: Bands,
}

impl Decoder {
    /// A fresh decoder.
    pub(super) const fn new() -> Self {
        Self {
            history: QmfHistory::new(),
            bands: Bands::new(),
        }
    }

    /// Decodes as many bytes as both slices hold.
    pub(super) fn decode(&mut self, payload: &[u8], pcm: &mut [i16]) {
        let (pairs, _odd) = pcm.as_chunks_mut();
        for (pair, &byte) in pairs.iter_mut().zip(payload) {
            *pair = self.decode_byte(byte);
        }
    }

    /// Figure 5 of the recommendation: each band by itself, then join.
    fn decode_byte(&mut self, byte: u8) -> [i16; 2] {
        let [low, high] = self.bands.heard(byte);
        self.bands.advance(byte);
        // Both within 15 bit, so sum and difference fit 16.
        let (sum, difference) = self
            .history
            .push([(low + high) as i16, (low - high) as i16]);
        [
            narrow(difference >> SYNTHESIS_SHIFT),
            narrow(sum >> SYNTHESIS_SHIFT),
        ]
    }
}

/// The delay line of the quadrature mirror filter, in pairs, the newest pair first.
#[derive(Debug, Clone)]
struct QmfHistory([[i16; 2]; QMF_PAIRS]);

impl QmfHistory {
    const fn new() -> Self {
        Self([[0; 2]; QMF_PAIRS])
    }

    /// The next samples of the lower and the upper band (transmit QMF).
    fn split(&mut self, pair: [i16; 2]) -> (i32, i32) {
        let (even, odd) = self.push(pair);
        (
            limit15((odd + even) >> ANALYSIS_SHIFT),
            limit15((odd - even) >> ANALYSIS_SHIFT),
        )
    }

    /// Takes in a pair and gives both halves of the filter: over the first and over the second
    /// elements of all pairs.
    fn push(&mut self, pair: [i16; 2]) -> (i32, i32) {
        self.0.copy_within(..QMF_PAIRS - 1, 1);
        self.0[0] = pair;
        // The coefficients' magnitudes add up to less than 2^14, so nothing wraps; saying so lets
        // the compiler use vectors in a build with overflow checks.
        let (mut first, mut second) = (0_i32, 0_i32);
        for (&[a, b], &[even, odd]) in self.0.iter().zip(&QMF_COEFFICIENTS) {
            first = first.wrapping_add(i32::from(a).wrapping_mul(odd));
            second = second.wrapping_add(i32::from(b).wrapping_mul(even));
        }
        (first, second)
    }
}

/// Both sub-bands: all that encoder and decoder must agree on.
#[derive(Debug, Clone)]
struct Bands {
    low: Band,
    high: Band,
}

impl Bands {
    const fn new() -> Self {
        Self {
            low: Band::low(),
            high: Band::high(),
        }
    }

    /// What a decoder makes of a byte. All 6 bits of the lower band are heard; its adaptation sees only the
    /// upper 4 (INVQAL), so that it survives a network that takes bits for data.
    fn heard(&self, byte: u8) -> [i32; 2] {
        [
            self.low.heard(LOW_OUTPUT[usize::from(byte & 0x3F)]),
            self.high.heard(HIGH_OUTPUT[usize::from(byte >> 6)]),
        ]
    }

    fn advance(&mut self, byte: u8) {
        self.low.advance_low(byte & 0x3F);
        self.high.advance_high(byte >> 6);
    }

    /// The state after the bytes that `leader` made, unless something else would be heard by them here.
    fn after(&self, mut leader: Self, bytes: &[u8]) -> Option<Self> {
        let mut after = self.clone();
        let (mut signal, mut error) = (0_i64, 0_i64);
        for &byte in bytes {
            for (here, there) in after.heard(byte).into_iter().zip(leader.heard(byte)) {
                signal += i64::from(there).pow(2);
                error += i64::from(here - there).pow(2);
            }
            after.advance(byte);
            leader.advance(byte);
        }
        let floor = FOLLOW_FLOOR * bytes.len() as i64;
        (error * FOLLOW_ALIKE <= signal + floor).then_some(after)
    }

    /// A byte for what `leader` is heard as by its own.
    fn follow(&mut self, leader: &mut Self, their: u8, haste: i32) -> u8 {
        let [low_target, high_target] = leader.heard(their);
        let near =
            |step: i32, near: i16| scaled(step, near) * (HASTE_DOUBLES + haste) / HASTE_DOUBLES;
        let low_near = near(leader.low.step(), LOW_NEAR);
        let high_near = near(leader.high.step(), HIGH_NEAR);
        let low = self.low.follow_low(their & 0x3F, low_target, low_near);
        let high = self.high.follow_high(their >> 6, high_target, high_near);
        let byte = (high << 6) | low;
        leader.advance(their);
        self.advance(byte);
        byte
    }
}

/// One sub-band's adaptive quantiser and predictor: the same in encoder and decoder.
#[derive(Debug, Clone)]
struct Band {
    /// Quantiser scale factor (DET), linear.
    step: i16,
    /// Its logarithm (NB), 11 bit behind the point.
    log_step: i16,
    predictor: Predictor,
}

impl Band {
    const fn low() -> Self {
        Self {
            step: 32,
            log_step: 0,
            predictor: Predictor::new(),
        }
    }

    const fn high() -> Self {
        Self {
            step: 8,
            log_step: 0,
            predictor: Predictor::new(),
        }
    }

    fn step(&self) -> i32 {
        self.step.into()
    }

    fn prediction(&self) -> i32 {
        self.predictor.output.into()
    }

    /// What a decoder makes of a level of its tables (RECONS, LIMIT).
    fn heard(&self, level: i16) -> i32 {
        limit15(saturate(self.prediction() + scaled(self.step(), level)))
    }

    /// The lower band's code for `target`: if one that adapts like `their` is near, that one. Those are
    /// the codes with the same upper 4 bits.
    fn follow_low(&self, their: u8, target: i32, near: i32) -> u8 {
        let off = |code: u8| (self.heard(LOW_OUTPUT[usize::from(code)]) - target).abs();
        let alike = (their & !3)..=(their | 3);
        alike
            .min_by_key(|code| (off(*code), *code != their))
            .filter(|code| off(*code) <= near)
            .unwrap_or_else(|| low_code(saturate(target - self.prediction()), self.step()))
    }

    /// The same for the upper band, where no two codes adapt alike.
    fn follow_high(&self, their: u8, target: i32, near: i32) -> u8 {
        let heard = self.heard(HIGH_OUTPUT[usize::from(their)]);
        if (heard - target).abs() <= near {
            their
        } else {
            high_code(saturate(target - self.prediction()), self.step())
        }
    }

    /// Blocks 2L to 4L: INVQAL, LOGSCL, SCALEL, then the predictor.
    fn advance_low(&mut self, code: u8) {
        let core = usize::from(code >> 2);
        let difference = scaled(self.step(), LOW_CORE_OUTPUT[core]);
        self.adapt_step(LOW_STEP_CHANGE[core], LOW_LOG_MAX, LOW_LOG_OFFSET);
        self.predictor.advance(difference);
    }

    /// Blocks 2H to 4H: INVQAH, LOGSCH, SCALEH, then the predictor.
    fn advance_high(&mut self, code: u8) {
        let code = usize::from(code);
        let difference = scaled(self.step(), HIGH_OUTPUT[code]);
        self.adapt_step(HIGH_STEP_CHANGE[code], HIGH_LOG_MAX, 0);
        self.predictor.advance(difference);
    }

    /// LOGSC and SCALE: the logarithm leaks by 1/128 and moves by what the code says.
    fn adapt_step(&mut self, change: i16, log_max: i32, log_offset: i32) {
        let leaked = times(self.log_step.into(), LEAK_128TH);
        let log = (leaked + i32::from(change)).clamp(0, log_max);
        self.log_step = log as i16;
        self.step = exponential(log + log_offset);
    }
}

/// Two poles and six zeros, adapted by signs only (chapter 6.2.1.4, blocks 4L and 4H).
#[derive(Debug, Clone)]
struct Predictor {
    /// Pole coefficients (A), 14 bit behind the point.
    poles: [i16; 2],
    /// Zero coefficients (B), newest first, 14 bit behind the point.
    zeros: [i16; ZEROS],
    /// Quantised differences (D), newest first.
    differences: [i16; ZEROS],
    /// Partially reconstructed signal (P), newest first.
    partials: [i16; 2],
    /// Reconstructed signal (R), newest first.
    reconstructed: [i16; 2],
    /// The zeros' share of the prediction (SZ).
    zero_output: i16,
    /// The prediction (S).
    output: i16,
}

impl Predictor {
    const fn new() -> Self {
        Self {
            poles: [0; 2],
            zeros: [0; ZEROS],
            differences: [0; ZEROS],
            partials: [0; 2],
            reconstructed: [0; 2],
            zero_output: 0,
            output: 0,
        }
    }

    /// Takes in the quantised difference of this sample and predicts the next one.
    fn advance(&mut self, difference: i32) {
        let partial = narrow(difference + i32::from(self.zero_output));
        let reconstructed = narrow(difference + i32::from(self.output));
        self.adapt_zeros(difference as i16);
        self.adapt_poles(partial);

        self.differences.copy_within(..ZEROS - 1, 1);
        self.differences[0] = difference as i16;
        self.partials = [partial, self.partials[0]];
        self.reconstructed = [reconstructed, self.reconstructed[0]];

        let zero_output = filter(&self.differences, &self.zeros);
        self.zero_output = zero_output as i16;
        self.output = narrow(zero_output + filter(&self.reconstructed, &self.poles));
    }

    /// UPZERO: each coefficient leaks and moves by the sign of the correlation.
    fn adapt_zeros(&mut self, difference: i16) {
        let gain = if difference == 0 { 0 } else { 128 };
        for (zero, &earlier) in self.zeros.iter_mut().zip(&self.differences) {
            let move_by = if same_sign(difference, earlier) {
                gain
            } else {
                -gain
            };
            *zero = narrow(move_by + times((*zero).into(), LEAK_256TH));
        }
    }

    /// UPPOL2, then UPPOL1 with its bound from the new second coefficient, which keeps the poles
    /// inside the unit circle.
    fn adapt_poles(&mut self, partial: i16) {
        let [first, second] = self.poles.map(i32::from);
        let same_as_last = same_sign(partial, self.partials[0]);
        let same_as_second_last = same_sign(partial, self.partials[1]);

        let feedback = saturate(first << 2);
        let feedback = saturate(if same_as_last { -feedback } else { feedback }) >> 7;
        let gain = if same_as_second_last { 128 } else { -128 };
        let second = feedback + gain + times(second, LEAK_128TH);
        let second = second.clamp(-POLE_2_MAX, POLE_2_MAX);

        let gain = if same_as_last { 192 } else { -192 };
        let bound = POLE_SUM_MAX - second;
        let first = (gain + times(first, LEAK_256TH)).clamp(-bound, bound);
        self.poles = [first as i16, second as i16];
    }
}

/// FILTEP and FILTEZ: signals are doubled as coefficients have one bit less behind the point than
/// [`times`] expects. Summed oldest first, saturating at every step.
fn filter<const N: usize>(signal: &[i16; N], coefficients: &[i16; N]) -> i32 {
    let products = signal.iter().zip(coefficients).rev();
    products.fold(0, |sum, (&sample, &coefficient)| {
        saturate(sum + times(saturate(i32::from(sample) * 2), coefficient.into()))
    })
}

/// QUANTL: 60 levels in 6 bit. Codes 0 to 3 are never sent, so that no run of zeros gets so long that
/// a digital line loses its clock.
fn low_code(difference: i32, step: i32) -> u8 {
    let magnitude = one_complement_magnitude(difference);
    let passed = LOW_THRESHOLDS.partition_point(|&level| magnitude >= scaled(step, level));
    let level = passed as u8 + 1;
    match (difference < 0, level) {
        (true, 1..=2) => 64 - level,
        (true, _) => 34 - level,
        (false, _) => 62 - level,
    }
}

/// QUANTH: 4 levels in 2 bit.
fn high_code(difference: i32, step: i32) -> u8 {
    let outer = one_complement_magnitude(difference) >= scaled(step, HIGH_THRESHOLD);
    let sign = if difference < 0 { 0 } else { 2 };
    sign | u8::from(!outer)
}

/// Zero counts as positive, so negative magnitudes count from 0 at -1.
const fn one_complement_magnitude(value: i32) -> i32 {
    if value < 0 { !value } else { value }
}

/// SCALEL and SCALEH: the linear scale factor of a logarithm, by a table for the fraction and a
/// shift for the rest.
fn exponential(log: i32) -> i16 {
    let mantissa = i32::from(EXPONENTIAL[((log >> 6) & 0x1F) as usize]);
    let octave = log >> 11;
    // The lower band's largest step is one octave above the table.
    let value = if octave > 10 {
        mantissa << 1
    } else {
        mantissa >> (10 - octave)
    };
    (value << 2) as i16
}

/// A level of the quantisers' tables (12 bit behind the point) times the scale factor.
fn scaled(step: i32, level: i16) -> i32 {
    times(step, (level as i32) << 3)
}

/// The recommendation's product of 16 bit numbers, 15 bit behind the point, rounded down.
fn times(a: i32, b: i32) -> i32 {
    // 16 bit factors can't wrap 32 bit. Only the two most negative ones give more than 16 bit.
    (a.wrapping_mul(b) >> 15).min(i16::MAX.into())
}

/// SUBTRA, ADDA, …: what 16 bit hold.
fn saturate(value: i32) -> i32 {
    value.clamp(i16::MIN.into(), i16::MAX.into())
}

fn narrow(value: i32) -> i16 {
    saturate(value) as i16
}

/// LIMIT: sub-band signals have 15 bit.
fn limit15(value: i32) -> i32 {
    value.clamp(-16_384, 16_383)
}

/// Zero counts as positive.
const fn same_sign(a: i16, b: i16) -> bool {
    (a ^ b) >= 0
}

/// The decoder's output level for each 6 bit code (table 14, output values of Q6). The four codes
/// that are never sent are heard as the smallest negative level.
static LOW_OUTPUT: [i16; 64] = {
    let magnitudes = LOW_MAGNITUDES;
    let mut table = [0; 64];
    let mut code = 0;
    while code < 64 {
        table[code] = match code {
            0..4 => -magnitudes[0],
            4..32 => -magnitudes[33 - code],
            32..62 => magnitudes[61 - code],
            _ => -magnitudes[63 - code],
        };
        code += 1;
    }
    table
};

/// Table 14: magnitudes of the 30 levels per sign, smallest first.
const LOW_MAGNITUDES: [i16; 30] = [
    17, 54, 91, 130, 170, 211, 254, 300, 347, 396, 447, 501, 558, 618, 682, 750, 822, 899, 982,
    1072, 1170, 1279, 1399, 1535, 1689, 1873, 2088, 2376, 2738, 3101,
];

/// Table 14: decision levels between them.
static LOW_THRESHOLDS: [i16; 29] = [
    35, 72, 110, 150, 190, 233, 276, 323, 370, 422, 473, 530, 587, 650, 714, 786, 858, 940, 1023,
    1121, 1219, 1339, 1458, 1612, 1765, 1980, 2195, 2557, 2919,
];

/// Levels that the lower band's adaptation uses, by the upper 4 bits of the code (QQ4).
static LOW_CORE_OUTPUT: [i16; 16] = [
    0, -2557, -1612, -1121, -786, -530, -323, -150, 2557, 1612, 1121, 786, 530, 323, 150, 0,
];

/// What each of them does to the logarithm of the scale factor (WL).
static LOW_STEP_CHANGE: [i16; 16] = [
    -60, 3042, 1198, 538, 334, 172, 58, -30, 3042, 1198, 538, 334, 172, 58, -30, -60,
];

/// The upper band's levels (QQ2), decision level (Q2) and scale factor changes (WH).
static HIGH_OUTPUT: [i16; 4] = [-926, -202, 926, 202];
const HIGH_THRESHOLD: i16 = 564;
static HIGH_STEP_CHANGE: [i16; 4] = [798, -214, 798, -214];

/// How far from what a leader is heard as by its code a code that adapts alike may be heard, in the
/// units of the tables above, without haste: some levels.
const LOW_NEAR: i16 = 120;
const HIGH_NEAR: i16 = 300;
/// So much haste doubles that.
const HASTE_DOUBLES: i32 = 16;
/// A leader's frame is taken where what differs is 33 dB below what is heard …
const FOLLOW_ALIKE: i64 = 2_000;
/// … or a unit of 15 bit in each band.
const FOLLOW_FLOOR: i64 = 2 * FOLLOW_ALIKE;

const LOW_LOG_MAX: i32 = 18_432;
const HIGH_LOG_MAX: i32 = 22_528;

/// The lower band's scale factor is two octaves above the upper band's for the same logarithm.
const LOW_LOG_OFFSET: i32 = 2 << 11;

/// One octave in 32 steps (ILB).
static EXPONENTIAL: [i16; 32] = [
    2048, 2093, 2139, 2186, 2233, 2282, 2332, 2383, 2435, 2489, 2543, 2599, 2656, 2714, 2774, 2834,
    2896, 2960, 3025, 3091, 3158, 3228, 3298, 3371, 3444, 3520, 3597, 3676, 3756, 3838, 3922, 4008,
];

/// 127/128 and 255/256 for [`times`].
const LEAK_128TH: i32 = 32_512;
const LEAK_256TH: i32 = 32_640;

/// 0.75, and 15/16, of 14 bit behind the point.
const POLE_2_MAX: i32 = 12_288;
const POLE_SUM_MAX: i32 = 15_360;

const ZEROS: usize = 6;

/// Table 11, 13 bit behind the point, by pairs: even and odd coefficients.
static QMF_COEFFICIENTS: [[i32; 2]; QMF_PAIRS] = [
    [3, -11],
    [-11, 53],
    [12, -156],
    [32, 362],
    [-210, -805],
    [951, 3876],
    [3876, 951],
    [-805, -210],
    [362, 32],
    [-156, 12],
    [53, -11],
    [-11, 3],
];
const QMF_PAIRS: usize = 12;

/// From 13 bit behind the point and 16 bit input to the 15 bit of a sub-band.
const ANALYSIS_SHIFT: u32 = 14;

/// And back, with the factor 2 of the interpolation.
const SYNTHESIS_SHIFT: u32 = 11;

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that no codec made, and the noise in [`saw_with_noise`].
    struct Lcg(u32);

    impl Lcg {
        fn next(&mut self) -> u32 {
            self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            self.0
        }
    }

    /// One second: a saw tooth of all frequencies with noise, growing four times from nothing.
    fn saw_with_noise() -> Vec<i16> {
        let mut noise = Lcg(1);
        (0..16_000)
            .map(|i: i32| {
                let noise = (noise.next() >> 16) as i32 - 32_768;
                let saw = (i * 37 % 256) * 64 - 8_192;
                ((saw + noise.div_euclid(4)) * (i % 4_000)).div_euclid(4_000) as i16
            })
            .collect()
    }

    fn encode(pcm: &[i16]) -> Vec<u8> {
        let mut payload = vec![0; pcm.len() / 2];
        assert_eq!(Encoder::new().encode(pcm, &mut payload), payload.len());
        payload
    }

    fn decode(payload: &[u8]) -> Vec<i16> {
        let mut pcm = vec![0; payload.len() * 2];
        Decoder::new().decode(payload, &mut pcm);
        pcm
    }

    /// FNV-1a, to compare long outputs.
    fn digest(bytes: impl IntoIterator<Item = u8>) -> u64 {
        bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        })
    }

    fn pcm_digest(pcm: &[i16]) -> u64 {
        digest(pcm.iter().flat_map(|sample| sample.to_le_bytes()))
    }

    /// Power of `pcm` over the power of its difference to `decoded`, which is 22 samples late.
    fn signal_to_noise_db(pcm: &[i16], decoded: &[i16]) -> f64 {
        let square = |x: i32| f64::from(x).powi(2);
        let signal: f64 = pcm.iter().map(|&x| square(x.into())).sum();
        let pairs = pcm.iter().zip(decoded.iter().skip(22));
        let noise: f64 = pairs
            .map(|(&x, &y)| square(i32::from(x) - i32::from(y)))
            .sum();
        10.0 * (signal / noise).log10()
    }

    // The expectations of the next two tests are the output of FFmpeg 5.1's encoder and decoder
    // for the same input. The PyPI package G722 1.2.8 gives the same in both; spandsp 0.0.6 gives
    // the same in the first, its decoder wraps where random bytes drive it beyond 16 bit.

    #[test]
    fn encodes_and_decodes_bit_exactly_like_independent_implementations() {
        let pcm = saw_with_noise();
        assert_eq!(pcm_digest(&pcm), 0xdd9c_0817_9682_1409, "the input itself");
        let payload = encode(&pcm);
        let expected = [
            0xDF, 0x66, 0xB8, 0xD9, 0xB5, 0x94, 0x7A, 0xF7, 0x3D, 0x0E, 0x52, 0x3A, 0x79, 0x74,
            0xBC, 0xEE, 0xCF, 0xD8, 0xEB, 0xB2, 0x79, 0xF1, 0x71, 0x53, 0x3D, 0x52, 0xFE, 0x91,
        ];
        assert_eq!(payload[1920..][..28], expected);
        assert_eq!(digest(payload.iter().copied()), 0xd8b1_28f7_57be_9080);

        let decoded = decode(&payload);
        let expected = [
            10974, 8069, -4813, -8300, -6722, -8172, 7797, 1399, 8735, 432, -7705, -2302, -667,
            8597, 13267, 11665, -6480, -7199, -5380, 5843, -3218, 7990, -6425, -5744, 1941, 2353,
        ];
        assert_eq!(decoded[3840..][..26], expected);
        assert_eq!(pcm_digest(&decoded), 0x6164_edeb_e8f5_3417);
    }

    #[test]
    fn decodes_any_bytes_bit_exactly_like_independent_implementations() {
        let mut random = Lcg(2);
        let payload: Vec<u8> = (0..20_000).map(|_| (random.next() >> 24) as u8).collect();
        assert_eq!(pcm_digest(&decode(&payload)), 0x708c_980b_0f67_65cc);
    }

    #[test]
    fn overload_is_limited_to_the_sub_bands_15_bit() {
        // The input that drives a band furthest: full scale with the sign of each coefficient.
        let full_scale = |sign: i32| if sign < 0 { i16::MIN } else { i16::MAX };
        let oldest_first = QMF_COEFFICIENTS.iter().rev();
        let up: Vec<[i16; 2]> = oldest_first
            .map(|&[even, odd]| [full_scale(odd), full_scale(even)])
            .collect();
        let last_of = |input: &[[i16; 2]]| {
            let mut history = QmfHistory::new();
            input.iter().map(|&pair| history.split(pair)).last()
        };
        let down: Vec<[i16; 2]> = up.iter().map(|pair| pair.map(|sample| !sample)).collect();
        assert_eq!(last_of(&up).unwrap().0, 16_383);
        assert_eq!(last_of(&down).unwrap().0, -16_384);
        let alternate: Vec<[i16; 2]> = up.iter().map(|&[first, second]| [!first, second]).collect();
        assert_eq!(last_of(&alternate).unwrap().1, 16_383);
    }

    #[test]
    fn a_sine_comes_back_with_little_noise() {
        let pcm: Vec<i16> = (0..16_000)
            .map(|n| ((f64::from(n) * 0.39).sin() * 8_000.0) as i16)
            .collect();
        let snr = signal_to_noise_db(&pcm, &decode(&encode(&pcm)));
        assert!(snr > 33.0, "{snr} dB");
    }

    #[test]
    fn a_voice_like_sound_comes_back_with_little_noise() {
        // 25 harmonics of 140 Hz falling by 12 dB per octave, in syllables of a quarter second.
        let pcm: Vec<i16> = (0..32_000)
            .map(|n| {
                let t = f64::from(n) / 16_000.0;
                let voice: f64 = (1..=25)
                    .map(|k| (t * 880.0 * f64::from(k)).sin() / f64::from(k * k))
                    .sum();
                (voice * 6_000.0 * (t * 12.6).sin().powi(2)) as i16
            })
            .collect();
        let snr = signal_to_noise_db(&pcm, &decode(&encode(&pcm)));
        assert!(snr > 25.0, "{snr} dB");
    }

    #[test]
    fn a_follower_comes_into_its_leaders_state_and_is_heard_alike_on_the_way() {
        for seed in 0..20 {
            // A second of different sound, then the same, in syllables.
            let mut noise = Lcg(seed);
            let mut sound = |n: i32, other: bool| {
                let t = f64::from(n) / 16_000.0;
                let turns = f64::from(seed).mul_add(10.0, 100.0) * t * std::f64::consts::TAU;
                let voice: f64 = (1..=25)
                    .map(|k| (turns * f64::from(k)).sin() / f64::from(k))
                    .sum();
                let hiss = (noise.next() >> 20) as f64 / 16.0;
                let word = if other { (t * 7_000.0).sin() } else { 0.0 };
                (5_000.0 * voice * (t * 12.6).sin().powi(2) + 4_000.0 * word + hiss) as i16
            };
            let (mut leader, mut follower) = (Encoder::new(), Encoder::new());
            let (mut there, mut here) = (Decoder::new(), Decoder::new());
            let (mut row, mut frames, mut worst) = (0, 0, f64::INFINITY);
            for frame in 0..170 {
                let first = frame * 320;
                let other = frame < 50;
                let pcm = [false, other].map(|other| -> Vec<i16> {
                    (first..first + 320).map(|n| sound(n, other)).collect()
                });
                let (mut theirs, mut mine) = ([0; 160], [0; 160]);
                let before = leader.clone();
                leader.encode(&pcm[0], &mut theirs);
                let mut taken = false;
                if other {
                    follower.encode(&pcm[1], &mut mine);
                } else if row < 10 {
                    taken = follower.follow(
                        &before,
                        &theirs,
                        u8::saturating_sub(frames, 25),
                        &mut mine,
                    );
                    row = if taken { row + 1 } else { 0 };
                    frames += 1;
                } else {
                    (mine, taken) = (theirs, true);
                }
                let (mut heard, mut should) = ([0; 320], [0; 320]);
                here.decode(&mine, &mut heard);
                there.decode(&theirs, &mut should);
                assert!(!taken || mine == theirs);
                let power = |pairs: &mut dyn Iterator<Item = i32>| -> f64 {
                    pairs.map(|x| f64::from(x).powi(2)).sum()
                };
                let signal = power(&mut should.iter().map(|x| (*x).into()));
                let pairs = heard.iter().zip(should);
                let error = power(&mut pairs.map(|(a, b)| i32::from(*a) - i32::from(b)));
                // The first frame's beginning is what both filters still hold.
                if taken && row > 1 {
                    worst = f64::min(worst, 10.0 * (signal / error.max(1.0)).log10());
                }
            }
            assert!(row >= 10, "seed {seed}: not in {frames} frames");
            assert!(worst > 30.0, "seed {seed}: {worst} dB");
        }
    }

    #[test]
    fn a_cloned_encoder_goes_on_identically() {
        let pcm = saw_with_noise();
        let mut encoder = Encoder::new();
        encoder.encode(&pcm[..8_000], &mut [0; 4_000]);
        let mut clone = encoder.clone();
        let (mut ours, mut theirs) = ([0; 4_000], [0; 4_000]);
        encoder.encode(&pcm[8_000..], &mut ours);
        clone.encode(&pcm[8_000..], &mut theirs);
        assert_eq!(ours, theirs);
        assert_ne!(ours[..], encode(&pcm[8_000..])[..], "a fresh one does not");
    }
}
