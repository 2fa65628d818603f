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
    let code: fn(i16) -> u8 = match law {
        Law::Mu => mu_code,
        Law::A => a_code,
    };
    for (byte, &sample) in payload.iter_mut().zip(pcm) {
        *byte = code(sample);
    }
    pcm.len().min(payload.len())
}

/// Decodes as many samples as both slices hold.
pub(super) fn decode(law: Law, payload: &[u8], pcm: &mut [i16]) {
    let values = match law {
        Law::Mu => &MU_VALUES,
        Law::A => &A_VALUES,
    };
    for (sample, &code) in pcm.iter_mut().zip(payload) {
        *sample = values[usize::from(code)];
    }
}

/// Sign bit of a code word; set for positive samples in both laws.
const POSITIVE: u8 = 0x80;

/// A-law inverts the even bits on the wire (G.711 table 1a, note 2).
const A_EVEN_BITS: u8 = 0x55;

/// Added to a 14 bit magnitude so that every mu-law segment starts at a power of two.
const MU_BIAS: u16 = 33;

/// The magnitude, counting negative samples from -1, so that both signs share one set of
/// decision values.
const fn magnitude(sample: i16) -> u16 {
    (if sample < 0 { !sample } else { sample }) as u16
}

const fn sign_bit(sample: i16) -> u8 {
    if sample < 0 { 0 } else { POSITIVE }
}

const fn mu_code(sample: i16) -> u8 {
    let biased = (magnitude(sample) >> 2) + MU_BIAS;
    let biased = if biased > 0x1FFF { 0x1FFF } else { biased };
    let segment = biased.ilog2() - 5;
    let step = (biased >> (segment + 1)) as u8 & 0x0F;
    // All bits are inverted on the wire (G.711 table 2a), the sign bit is already counted so.
    sign_bit(sample) | (!((segment as u8) << 4 | step) & 0x7F)
}

const fn mu_value(code: u8) -> i16 {
    let bits = !code;
    let segment = (bits >> 4) & 0x07;
    let step = (bits & 0x0F) as i16;
    // The middle of the interval, back in 16 bit.
    let biased = ((step << 1) + MU_BIAS as i16) << segment;
    let magnitude = (biased - MU_BIAS as i16) << 2;
    if code & POSITIVE == 0 {
        -magnitude
    } else {
        magnitude
    }
}

const fn a_code(sample: i16) -> u8 {
    let magnitude = magnitude(sample) >> 4;
    let bits = if magnitude < 32 {
        magnitude as u8
    } else {
        let segment = magnitude.ilog2() - 3;
        ((segment as u8) << 4) | ((magnitude >> (segment - 1)) as u8 & 0x0F)
    };
    (sign_bit(sample) | bits) ^ A_EVEN_BITS
}

const fn a_value(code: u8) -> i16 {
    let bits = code ^ A_EVEN_BITS;
    let segment = (bits >> 4) & 0x07;
    let middle = (((bits & 0x0F) as i16) << 1) + 1;
    let magnitude = if segment == 0 {
        middle
    } else {
        (middle + 32) << (segment - 1)
    };
    if bits & POSITIVE == 0 {
        -(magnitude << 3)
    } else {
        magnitude << 3
    }
}

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
    fn a_second_passage_changes_no_code_but_mu_laws_negative_zero() {
        for code in 0..=255_u8 {
            assert_eq!(a_code(A_VALUES[usize::from(code)]), code);
            let again = mu_code(MU_VALUES[usize::from(code)]);
            assert_eq!(again, if code == 0x7F { 0xFF } else { code });
        }
    }
}
