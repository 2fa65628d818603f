//! What is done to a recording before it is encoded: to 16 kHz, silence trimmed, one loudness,
//! edges faded. Done once per recording, so clarity goes before speed.

use std::f32::consts::PI;

use crate::media::codec::{Codec, Decoder};

/// The rate everything is kept at.
pub(super) const RATE: u32 = 16_000;
pub(super) const SAMPLES_PER_MS: usize = RATE as usize / 1_000;

/// The loudness of speech, whoever recorded it.
pub(super) const SPEECH_DBFS: f32 = -23.0;

/// Decodes a whole file of G.722 or G.711.
#[must_use]
pub(super) fn decoded(codec: Codec, bytes: &[u8]) -> Vec<i16> {
    let Ok(mut decoder) = Decoder::new(codec) else {
        return Vec::new();
    };
    let mut frame = [0; 2 * DECODE_BYTES];
    let mut samples = Vec::with_capacity(bytes.len() * 2);
    for chunk in bytes.chunks(DECODE_BYTES) {
        let count = decoder.decode(chunk, &mut frame).unwrap_or(0);
        samples.extend(frame.iter().take(count));
    }
    samples
}

/// Converts to 16 kHz from any rate: a polyphase filter with one phase per position that the two
/// rates' ratio knows (Kaiser window, cut off below the lower of the two bands).
#[must_use]
pub(super) fn at_16_khz(samples: &[i16], rate: u32) -> Vec<f32> {
    if rate == RATE || rate == 0 {
        return samples.iter().map(|&s| f32::from(s)).collect();
    }
    let divisor = greatest_common_divisor(rate, RATE);
    let (up, down) = ((RATE / divisor) as usize, (rate / divisor) as usize);
    let filter = Polyphase::new(up, down);
    let count = samples.len() * up / down;
    (0..count)
        .map(|n| filter.value(samples, n * down))
        .collect()
}

/// A spoken recording out of its parts: each trimmed, one after the other, at speech level.
#[must_use]
pub(super) fn speech(parts: Vec<Vec<f32>>) -> Vec<i16> {
    let mut sound: Vec<f32> = Vec::new();
    for part in parts {
        let mut part = trimmed(&part);
        faded_edges(&mut part);
        sound.extend(part);
    }
    to_i16(&with_level(sound, SPEECH_DBFS))
}

/// A sound that is no speech: nothing trimmed, so that a loop stays one.
#[must_use]
pub(super) fn plain(mut sound: Vec<f32>, dbfs: f32) -> Vec<i16> {
    sound = with_level(sound, dbfs);
    faded_edges(&mut sound);
    to_i16(&sound)
}

/// The first `keep_ms`, faded out over the last 30 ms of it: a cut within running speech.
#[must_use]
pub(super) fn beginning(mut sound: Vec<f32>, keep_ms: u32) -> Vec<f32> {
    sound.truncate(keep_ms as usize * SAMPLES_PER_MS);
    fade(sound.iter_mut().rev(), 30 * SAMPLES_PER_MS);
    sound
}

/// Fades 3 ms at both ends, so that joins don't click.
pub(super) fn faded_edges(sound: &mut [f32]) {
    fade(sound.iter_mut(), EDGE_MS * SAMPLES_PER_MS);
    fade(sound.iter_mut().rev(), EDGE_MS * SAMPLES_PER_MS);
}

/// Brings what sounds to `dbfs` (root mean square against full scale). Gain stays within bounds, so
/// that noise is not blown up, and leaves a decibel under full scale.
#[must_use]
pub(super) fn with_level(mut sound: Vec<f32>, dbfs: f32) -> Vec<f32> {
    let peak = sound.iter().fold(0.0_f32, |peak, s| peak.max(s.abs()));
    let level = active_level(&sound);
    if peak < 1.0 || level < 1.0 {
        return sound;
    }
    let wanted = FULL_SCALE * amplitude(dbfs) / level;
    let gain = wanted
        .min(amplitude(GAIN_DB_MAX))
        .min(FULL_SCALE * amplitude(-1.0) / peak);
    for sample in &mut sound {
        *sample *= gain;
    }
    sound
}

/// Rounds; what would not fit is held at the limit.
#[must_use]
pub(super) fn to_i16(sound: &[f32]) -> Vec<i16> {
    sound
        .iter()
        .map(|s| s.round().clamp(f32::from(i16::MIN), f32::from(i16::MAX)) as i16)
        .collect()
}

/// Cuts silence off, but leaves the breath before a word and after it, always of the same length:
/// that is what makes a row of recordings sound like one sentence.
fn trimmed(sound: &[f32]) -> Vec<f32> {
    let window = 10 * SAMPLES_PER_MS;
    let levels: Vec<f32> = sound.chunks(window).map(root_mean_square).collect();
    let loudest = levels.iter().copied().fold(0.0, f32::max);
    let threshold = (loudest * amplitude(-40.0)).max(FULL_SCALE * amplitude(-60.0));
    let (Some(first), Some(last)) = (
        levels.iter().position(|&l| l > threshold),
        levels.iter().rposition(|&l| l > threshold),
    ) else {
        return Vec::new();
    };
    let (lead, tail) = (LEAD_MS * SAMPLES_PER_MS, TAIL_MS * SAMPLES_PER_MS);
    let (start, end) = (first * window, ((last + 1) * window).min(sound.len()));
    let mut kept = vec![0.0; lead.saturating_sub(start)];
    kept.extend(
        sound
            .iter()
            .take(end + tail)
            .skip(start.saturating_sub(lead)),
    );
    kept.resize(lead + (end - start) + tail, 0.0);
    kept
}

fn fade<'a>(samples: impl Iterator<Item = &'a mut f32>, length: usize) {
    for (index, sample) in samples.take(length).enumerate() {
        *sample *= 0.5 - 0.5 * (PI * index as f32 / length as f32).cos();
    }
}

/// The level of what sounds: pauses don't count.
fn active_level(sound: &[f32]) -> f32 {
    let levels: Vec<f32> = sound
        .chunks(20 * SAMPLES_PER_MS)
        .map(root_mean_square)
        .collect();
    let loudest = levels.iter().copied().fold(0.0, f32::max);
    let active: Vec<f32> = levels
        .into_iter()
        .filter(|l| *l > loudest * amplitude(-25.0))
        .collect();
    root_mean_square(&active)
}

fn root_mean_square(sound: &[f32]) -> f32 {
    let power: f32 = sound.iter().map(|s| s * s).sum();
    (power / sound.len().max(1) as f32).sqrt()
}

fn amplitude(db: f32) -> f32 {
    crate::units::Decibels(db).as_amplitude()
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}

/// A low pass in `up` phases; see [`at_16_khz`].
struct Polyphase {
    up: usize,
    reach: usize,
    taps: Vec<f32>,
}

impl Polyphase {
    fn new(up: usize, down: usize) -> Self {
        // The cut-off in units of the input's rate, a little below the lower band's end.
        let cutoff = 0.475 * (up as f32 / down as f32).min(1.0);
        let reach = (16.0 / (2.0 * cutoff)).ceil() as usize;
        let taps = (0..up)
            .flat_map(|phase| (0..2 * reach).map(move |tap| (phase, tap)))
            .map(|(phase, tap)| {
                let x = phase as f32 / up as f32 + reach as f32 - 1.0 - tap as f32;
                2.0 * cutoff * sinc(2.0 * cutoff * x) * kaiser(x / reach as f32)
            })
            .collect();
        Self { up, reach, taps }
    }

    /// The value at input position `position / up`.
    fn value(&self, samples: &[i16], position: usize) -> f32 {
        let (whole, phase) = (position / self.up, position % self.up);
        let taps = self
            .taps
            .iter()
            .skip(phase * 2 * self.reach)
            .take(2 * self.reach);
        let before = self.reach - 1;
        let missing = before.saturating_sub(whole);
        let present = samples.iter().skip(whole.saturating_sub(before));
        taps.skip(missing)
            .zip(present)
            .map(|(tap, &sample)| tap * f32::from(sample))
            .sum()
    }
}

fn sinc(x: f32) -> f32 {
    if x.abs() < 1e-6 {
        1.0
    } else {
        (PI * x).sin() / (PI * x)
    }
}

/// The Kaiser window with beta 7, at -1.0 to 1.0.
fn kaiser(x: f32) -> f32 {
    let inside = (1.0 - x * x).max(0.0).sqrt();
    bessel_i0(7.0 * inside) / bessel_i0(7.0)
}

/// The modified Bessel function of order zero, as its power series.
fn bessel_i0(x: f32) -> f32 {
    let quarter = x * x / 4.0;
    let mut term = 1.0;
    let mut sum = 1.0;
    for k in 1..=24_u8 {
        term *= quarter / (f32::from(k) * f32::from(k));
        sum += term;
    }
    sum
}

const FULL_SCALE: f32 = 32_768.0;

/// Bytes handed to a decoder at once: 20 ms.
const DECODE_BYTES: usize = 160;

/// A very quiet recording is raised by so much at most.
const GAIN_DB_MAX: f32 = 15.0;

const EDGE_MS: usize = 3;

/// Silence before the first and after the last sound of a recording.
const LEAD_MS: usize = 20;
const TAIL_MS: usize = 60;

#[cfg(test)]
pub(in crate::prompts) mod tests {
    use std::f32::consts::TAU;

    use super::*;

    /// Root mean square of all of it, against full scale.
    pub(in crate::prompts) fn dbfs(sound: &[i16]) -> f32 {
        let sound: Vec<f32> = sound.iter().map(|&s| f32::from(s)).collect();
        20.0 * (root_mean_square(&sound) / FULL_SCALE).max(1e-6).log10()
    }

    /// The level of one frequency, against full scale (Goertzel).
    pub(in crate::prompts) fn goertzel_dbfs(sound: &[i16], hz: f32) -> f32 {
        let coefficient = 2.0 * (TAU * hz / RATE as f32).cos();
        let (mut s1, mut s2) = (0.0_f32, 0.0_f32);
        let count = sound.len() as f32;
        for (index, &sample) in sound.iter().enumerate() {
            // A Hann window, so that a tone beside `hz` does not leak into it.
            let window = 1.0 - (TAU * (index as f32 + 0.5) / count).cos();
            let s0 = f32::from(sample) * window + coefficient * s1 - s2;
            (s2, s1) = (s1, s0);
        }
        let power = s1 * s1 + s2 * s2 - coefficient * s1 * s2;
        10.0 * (2.0 * power / (count * count * FULL_SCALE * FULL_SCALE))
            .max(1e-12)
            .log10()
    }

    fn sine(rate: u32, hz: f32, dbfs: f32, ms: u32) -> Vec<i16> {
        let peak = FULL_SCALE * amplitude(dbfs) * 2.0_f32.sqrt();
        let count = rate * ms / 1_000;
        (0..count)
            .map(|n| (peak * (TAU * hz * n as f32 / rate as f32).sin()) as i16)
            .collect()
    }

    #[test]
    fn any_rate_becomes_16_khz_with_pitch_and_level_kept() {
        for rate in [8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000] {
            let sound = to_i16(&at_16_khz(&sine(rate, 1_000.0, -20.0, 1_000), rate));
            assert!(
                sound.len().abs_diff(16_000) <= 2,
                "{rate}: {} samples",
                sound.len()
            );
            let middle = &sound[1_000..15_000];
            let level = goertzel_dbfs(middle, 1_000.0);
            assert!((level + 20.0).abs() < 0.3, "{rate}: {level}");
            assert!(
                (dbfs(middle) + 20.0).abs() < 0.3,
                "{rate}: nothing else in it"
            );
        }
    }

    #[test]
    fn what_16_khz_can_not_hold_does_not_come_back_as_another_tone() {
        let sound = to_i16(&at_16_khz(&sine(48_000, 11_000.0, -12.0, 500), 48_000));
        assert!(dbfs(&sound[400..7_000]) < -60.0);
    }

    #[test]
    fn silence_around_a_word_becomes_a_breath_of_fixed_length() {
        let word: Vec<f32> = sine(16_000, 400.0, -20.0, 300)
            .into_iter()
            .map(f32::from)
            .collect();
        for silence_ms in [0, 5, 700] {
            let silence = vec![0.0; silence_ms * SAMPLES_PER_MS];
            let sound = trimmed(&[silence.clone(), word.clone(), silence].concat());
            let expected = (LEAD_MS + 300 + TAIL_MS) * SAMPLES_PER_MS;
            let off = sound.len().abs_diff(expected) / SAMPLES_PER_MS;
            assert!(off <= 20, "{silence_ms} ms of silence: {off} ms off");
            assert!(root_mean_square(&sound[sound.len() - 20 * SAMPLES_PER_MS..]) < 1.0);
        }
        assert_eq!(trimmed(&[0.0; 5_000]), Vec::<f32>::new());
    }

    #[test]
    fn quiet_and_loud_recordings_come_out_equally_loud() {
        for level in [-34.0, -23.0, -8.0] {
            let word: Vec<f32> = sine(16_000, 400.0, level, 500)
                .into_iter()
                .map(f32::from)
                .collect();
            let sound = speech(vec![word]);
            let middle = dbfs(&sound[1_600..6_400]);
            assert!(
                (middle - SPEECH_DBFS).abs() < 0.7,
                "{level} became {middle}"
            );
        }
    }

    #[test]
    fn a_recording_of_hiss_is_not_blown_up_and_a_peak_not_clipped() {
        let hiss: Vec<f32> = sine(16_000, 3_000.0, -60.0, 500)
            .into_iter()
            .map(f32::from)
            .collect();
        assert!(dbfs(&to_i16(&with_level(hiss, SPEECH_DBFS))) < -44.0);
        let mut spiky: Vec<f32> = sine(16_000, 400.0, -40.0, 500)
            .into_iter()
            .map(f32::from)
            .collect();
        spiky[4_000] = 30_000.0;
        let peak = with_level(spiky, SPEECH_DBFS)
            .into_iter()
            .fold(0.0, f32::max);
        assert!(peak <= 29_300.0, "{peak}");
    }

    #[test]
    fn joins_begin_and_end_at_zero() {
        let loud: Vec<f32> = vec![8_000.0; 4_800];
        for sound in [
            speech(vec![loud.clone(), loud.clone()]),
            plain(loud.clone(), -23.0),
        ] {
            assert_eq!(sound[0], 0);
            assert_eq!(*sound.last().unwrap(), 0);
        }
        let cut = beginning(loud, 200);
        assert_eq!(cut.len(), 200 * SAMPLES_PER_MS);
        assert!(cut[cut.len() - 1].abs() < 1.0 && cut[cut.len() - 16 * 31] > 7_000.0);
    }
}
