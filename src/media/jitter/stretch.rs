//! Making audio a little shorter or longer without a step in it: one pitch period (or in a pause,
//! anything) is overlapped with the next one and so left out, or played twice.

use std::ops::RangeInclusive;

/// A repetition within audio.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Period {
    /// Samples.
    pub(crate) length: usize,
    /// 1: the next period is the same; 0: nothing of it.
    pub(crate) likeness: f32,
}

/// The lag at which the beginning of `pcm` is most like what follows; `None` where it is too short.
pub(crate) fn find_period(pcm: &[i16], lags: RangeInclusive<usize>) -> Option<Period> {
    let step = (lags.end() / 40).max(1);
    let coarse = best(pcm, lags.clone().step_by(step), step)?;
    let from = coarse.length.saturating_sub(step - 1).max(*lags.start());
    best(pcm, from..=(coarse.length + step - 1).min(*lags.end()), 1)
}

/// Shortens `pcm` by `period`: returns how much of it is left.
pub(crate) fn cut(pcm: &mut [i16], period: usize) -> usize {
    let length = pcm.len();
    if period == 0 || length < 2 * period {
        return length;
    }
    for n in 0..period {
        pcm[n] = blend(pcm[n], pcm[n + period], n, period);
    }
    pcm.copy_within(2 * period.., period);
    length - period
}

/// Lengthens the first `length` samples of `buffer` by `period`; returns the new length. Does
/// nothing where there is no room.
pub(crate) fn insert(buffer: &mut [i16], length: usize, period: usize) -> usize {
    if period == 0 || length < 2 * period || buffer.len() < length + period {
        return length;
    }
    buffer.copy_within(period..length, 2 * period);
    for n in 0..period {
        buffer[period + n] = blend(buffer[2 * period + n], buffer[n], n, period);
    }
    length + period
}

/// From `a` at 0 to `b` at `of`.
fn blend(a: i16, b: i16, n: usize, of: usize) -> i16 {
    let share = (n as f32 + 0.5) / of as f32;
    (f32::from(a) * (1.0 - share) + f32::from(b) * share).round() as i16
}

fn best(pcm: &[i16], lags: impl Iterator<Item = usize>, step: usize) -> Option<Period> {
    lags.filter_map(|length| {
        Some(Period {
            length,
            likeness: likeness(pcm, length, step)?,
        })
    })
    .max_by(|a, b| a.likeness.total_cmp(&b.likeness))
}

/// Normalised correlation of the first 10 ms or so with what comes `lag` later.
fn likeness(pcm: &[i16], lag: usize, step: usize) -> Option<f32> {
    let later = pcm.get(lag..)?;
    let window = pcm.len() / 2;
    if later.len() < window {
        return None;
    }
    let (mut product, mut a2, mut b2) = (0.0_f32, 1.0_f32, 1.0_f32);
    for (a, b) in pcm.iter().zip(later).take(window).step_by(step) {
        let (a, b) = (f32::from(*a), f32::from(*b));
        product += a * b;
        a2 += a * a;
        b2 += b * b;
    }
    Some(product / (a2 * b2).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f32::consts::TAU;

    fn tone(hz: f32, samples: usize) -> Vec<i16> {
        (0..samples)
            .map(|n| ((n as f32 * hz / 8000.0 * TAU).sin() * 8000.0) as i16)
            .collect()
    }

    fn steepest(pcm: &[i16]) -> i32 {
        pcm.windows(2)
            .map(|p| (i32::from(p[1]) - i32::from(p[0])).abs())
            .max()
            .unwrap()
    }

    #[test]
    fn the_period_of_a_tone_is_found_and_a_cut_or_insertion_there_is_not_heard() {
        for hz in [110.0, 200.0, 317.0, 1000.0] {
            let pcm = tone(hz, 240);
            let period = find_period(&pcm, 20..=80).unwrap();
            assert!(period.likeness > 0.97, "{hz}: {period:?}");
            let mut shorter = pcm.clone();
            let left = cut(&mut shorter, period.length);
            assert_eq!(left, 240 - period.length);
            assert!(steepest(&shorter[..left]) <= steepest(&pcm) + 300, "{hz}");
            let mut longer = pcm.clone();
            longer.resize(400, 0);
            let length = insert(&mut longer, 240, period.length);
            assert_eq!(length, 240 + period.length);
            assert!(steepest(&longer[..length]) <= steepest(&pcm) + 300, "{hz}");
        }
    }

    #[test]
    fn what_does_not_fit_is_left_alone() {
        let mut pcm = tone(300.0, 100);
        assert_eq!(cut(&mut pcm, 51), 100);
        assert_eq!(insert(&mut pcm, 100, 10), 100);
        assert_eq!(insert(&mut pcm, 15, 10), 15);
        assert_eq!(pcm, tone(300.0, 100));
        assert_eq!(find_period(&pcm[..10], 20..=80), None);
    }
}
