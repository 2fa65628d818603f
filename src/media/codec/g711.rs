//! G.711: 8 bit per sample at 8 kHz, mu-law and A-law. Samples here are 16 bit, so mu-law's
//! 14 bit and A-law's 13 bit values stand in the upper bits.

/// The two companding laws.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Law {
    /// North America and Japan.
    Mu,
    /// Everywhere else.
    A,
}

/// Encodes as many samples as both slices hold and returns how many.
pub(super) fn encode(law: Law, pcm: &[i16], payload: &mut [u8]) -> usize {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has what the function asks for.
        unsafe { encode_avx2(law, pcm, payload) };
        return pcm.len().min(payload.len());
    }
    encode_law(law, pcm, payload);
    pcm.len().min(payload.len())
}

/// Decodes as many samples as both slices hold.
pub(super) fn decode(law: Law, payload: &[u8], pcm: &mut [i16]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has what the function asks for.
        unsafe { decode_avx2(law, payload, pcm) };
        return;
    }
    let values = match law {
        Law::Mu => &MU_VALUES,
        Law::A => &A_VALUES,
    };
    for (sample, &code) in pcm.iter_mut().zip(payload) {
        *sample = values[usize::from(code)];
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn encode_avx2(law: Law, pcm: &[i16], payload: &mut [u8]) {
    encode_law(law, pcm, payload);
}

#[inline(always)]
fn encode_law(law: Law, pcm: &[i16], payload: &mut [u8]) {
    match law {
        Law::Mu => encode_by(mu_code, pcm, payload),
        Law::A => encode_by(a_code, pcm, payload),
    }
}

/// Written so that the compiler uses vectors: no branch, no table, and arithmetic that says that it
/// can't overflow in a build that checks.
#[inline(always)]
fn encode_by(code: impl Fn(i16) -> u8, pcm: &[i16], payload: &mut [u8]) {
    for (byte, &sample) in payload.iter_mut().zip(pcm) {
        *byte = code(sample);
    }
}

/// With vectors of eight values, to work a value out is cheaper than to look it up.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn decode_avx2(law: Law, payload: &[u8], pcm: &mut [i16]) {
    match law {
        Law::Mu => decode_by(mu_value, payload, pcm),
        Law::A => decode_by(a_value, payload, pcm),
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn decode_by(value: impl Fn(u8) -> i16, payload: &[u8], pcm: &mut [i16]) {
    for (sample, &code) in pcm.iter_mut().zip(payload) {
        *sample = value(code);
    }
}

/// Sign bit of a code word; set for positive samples in both laws.
const POSITIVE: u8 = 0x80;

/// A-law inverts the even bits on the wire (G.711 table 1a, note 2).
const A_EVEN_BITS: u8 = 0x55;

/// Added to a 14 bit magnitude so that every mu-law segment starts at a power of two.
const MU_BIAS: i32 = 33;

/// The magnitude, counting negative samples from -1, so that both signs share one set of
/// decision values.
#[inline(always)]
const fn magnitude(sample: i16) -> i32 {
    (sample ^ (sample >> 15)) as i32
}

#[inline(always)]
const fn sign_bit(sample: i16) -> u8 {
    !(sample >> 8) as u8 & POSITIVE
}

/// Segment and step of a magnitude whose first segment starts at `2^octave` are the exponent and
/// the first four bits behind the point of the same number as `f32`.
#[inline(always)]
const fn segment_and_step(magnitude: i32, octave: u32) -> u32 {
    let bits = (magnitude as f32).to_bits() >> STEP_SHIFT;
    bits.wrapping_sub((EXPONENT_BIAS + octave) << STEP_BITS)
}

/// The other way round, in the middle of the interval.
#[inline(always)]
const fn middle(segment_and_step: u32, octave: u32) -> i32 {
    let bits = segment_and_step.wrapping_add((EXPONENT_BIAS + octave) << STEP_BITS);
    let value = f32::from_bits(bits << STEP_SHIFT | HALF_STEP);
    // Added to 2^23, a whole number stands in the last bits.
    (value + WHOLE).to_bits().wrapping_sub(WHOLE.to_bits()) as i32
}

#[inline(always)]
const fn mu_code(sample: i16) -> u8 {
    let biased = (magnitude(sample) >> 2).wrapping_add(MU_BIAS);
    let biased = if biased > 0x1FFF { 0x1FFF } else { biased };
    // All bits are inverted on the wire (G.711 table 2a), the sign bit is already counted so.
    sign_bit(sample) | (!segment_and_step(biased, 5) as u8 & 0x7F)
}

#[inline(always)]
const fn mu_value(code: u8) -> i16 {
    let biased = middle(!code as u32 & 0x7F, 5);
    signed(code, biased.wrapping_sub(MU_BIAS) << 2)
}

#[inline(always)]
const fn a_code(sample: i16) -> u8 {
    let magnitude = magnitude(sample) >> 4;
    // The first two segments are one straight line.
    let bits = if magnitude < 16 {
        magnitude as u32
    } else {
        segment_and_step(magnitude, 3)
    };
    (sign_bit(sample) | bits as u8) ^ A_EVEN_BITS
}

#[inline(always)]
const fn a_value(code: u8) -> i16 {
    let bits = (code ^ A_EVEN_BITS) as u32 & 0x7F;
    let (bits, below) = if bits < 16 {
        (bits + 16, 32)
    } else {
        (bits, 0)
    };
    signed(code, (middle(bits, 4) - below) << 3)
}

#[inline(always)]
const fn signed(code: u8, magnitude: i32) -> i16 {
    if code & POSITIVE == 0 {
        magnitude.wrapping_neg() as i16
    } else {
        magnitude as i16
    }
}

/// Where an `f32` keeps its exponent, and the four bits after it.
const STEP_BITS: u32 = 4;
const STEP_SHIFT: u32 = 23 - STEP_BITS;
const EXPONENT_BIAS: u32 = 127;
const HALF_STEP: u32 = 1 << (STEP_SHIFT - 1);
const WHOLE: f32 = 8_388_608.0;

static MU_VALUES: [i16; 256] = values(Law::Mu);
static A_VALUES: [i16; 256] = values(Law::A);

const fn values(law: Law) -> [i16; 256] {
    let mut table = [0; 256];
    let mut code = 0;
    while code < table.len() {
        table[code] = match law {
            Law::Mu => mu_value(code as u8),
            Law::A => a_value(code as u8),
        };
        code += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where each segment of 16 intervals begins and how wide its intervals are
    /// (G.711 tables 1a and 2a, positive half, in the table's own units).
    const A_SEGMENTS: [(u16, u16); 8] = [
        (0, 2),
        (32, 2),
        (64, 4),
        (128, 8),
        (256, 16),
        (512, 32),
        (1024, 64),
        (2048, 128),
    ];
    const MU_SEGMENTS: [(u16, u16); 8] = [
        (0, 2),
        (31, 4),
        (95, 8),
        (223, 16),
        (479, 32),
        (991, 64),
        (2015, 128),
        (4063, 256),
    ];

    /// The lower decision value of each of the 128 intervals.
    fn decision_values(segments: [(u16, u16); 8]) -> Vec<u16> {
        segments
            .iter()
            .flat_map(|&(start, step)| (0..16).map(move |n| start + n * step))
            .collect()
    }

    /// Mu-law's first interval is half as wide as the rest of its segment.
    fn mu_decision_values() -> Vec<u16> {
        let mut values = decision_values(MU_SEGMENTS);
        values[1..16].iter_mut().for_each(|v| *v -= 1);
        values
    }

    /// Searches the recommendation's table of decision values, as it is printed.
    fn by_table(decisions: &[u16], sample: i16, unit_bits: u32) -> u8 {
        let magnitude = u16::try_from(if sample < 0 { !sample } else { sample }).unwrap();
        let interval = decisions.partition_point(|&d| d << unit_bits <= magnitude) - 1;
        u8::try_from(interval).unwrap()
    }

    #[test]
    fn every_sample_falls_into_the_interval_of_the_recommendations_table() {
        let (mu, a) = (mu_decision_values(), decision_values(A_SEGMENTS));
        for sample in i16::MIN..=i16::MAX {
            let positive = if sample < 0 { 0 } else { 0x80 };
            // 16 bit samples: mu-law's table counts in units of 4, A-law's in units of 8.
            assert_eq!(
                mu_code(sample),
                positive | (0x7F - by_table(&mu, sample, 2)),
                "{sample}"
            );
            assert_eq!(
                a_code(sample),
                (positive | by_table(&a, sample, 3)) ^ 0x55,
                "{sample}"
            );
        }
    }

    #[test]
    fn decoding_gives_the_values_printed_in_the_recommendation() {
        // Table 2a, y_n of 14 bit; table 1a, y_n of 13 bit; both signs.
        for (code, value) in [(0x80, 8031), (0x8F, 4191), (0xEF, 33), (0xFE, 2), (0xFF, 0)] {
            assert_eq!(MU_VALUES[code], value * 4);
            assert_eq!(MU_VALUES[code & 0x7F], -value * 4);
        }
        for (bits, value) in [
            (0xFF, 4032),
            (0xF0, 2112),
            (0xB0, 132),
            (0x9F, 63),
            (0x80, 1),
        ] {
            let code = bits ^ 0x55;
            assert_eq!(A_VALUES[code], value * 8);
            assert_eq!(A_VALUES[code ^ 0x80], -value * 8);
        }
    }

    #[test]
    fn what_is_worked_out_is_what_is_looked_up_at_every_length() {
        let codes: Vec<u8> = (0..=255).chain(0..=255).collect();
        for (law, values) in [(Law::Mu, &MU_VALUES), (Law::A, &A_VALUES)] {
            for length in [0, 1, 7, 80, 160, 163, 480] {
                for start in 0..32 {
                    let payload = &codes[start..start + length];
                    let mut pcm = vec![1; length + 1];
                    decode(law, payload, &mut pcm);
                    let looked_up = payload.iter().map(|code| values[usize::from(*code)]);
                    assert!(pcm[..length].iter().copied().eq(looked_up));
                    assert_eq!(pcm[length], 1);
                    let mut again = vec![1; length + 1];
                    assert_eq!(encode(law, &pcm[..length], &mut again), length);
                    assert_eq!(again[length], 1);
                    let mut plain = vec![1; length + 1];
                    encode_law(law, &pcm[..length], &mut plain);
                    assert_eq!(again, plain);
                }
            }
        }
    }

    #[test]
    fn a_second_passage_changes_no_code_but_mu_laws_negative_zero() {
        for code in 0..=255_u8 {
            assert_eq!(a_code(A_VALUES[usize::from(code)]), code);
            let again = mu_code(MU_VALUES[usize::from(code)]);
            assert_eq!(again, if code == 0x7F { 0xFF } else { code });
        }
    }
}
