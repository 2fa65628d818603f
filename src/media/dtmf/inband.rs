//! Keys as tones in the audio, for callers without telephone-event. Follows ITU-T Q.23 (which
//! tones) and Q.24 (what a receiver accepts): two tones of the right frequencies and about the same
//! level, nothing much beside them, no second harmonics, 40 ms on, 40 ms off.
//!
//! A window of 20 ms is judged every 10 ms. As soon as one looks like a key the whole frame is
//! silenced, so that at most what fits beside a window, less than 20 ms, gets through.
//!
//! Where a packet was lost, and shortly after, silence or another sound says nothing: such a window is no
//! end of a key yet. What is heard after it decides. G.722's decoder has lost step with its encoder then, and
//! plays one of two tones up to 12 dB louder than the other until both have met again.

use std::f32::consts::TAU;
use std::time::Duration;

use super::KeyPress;
use crate::units::{Key, SampleRate};

/// Listens for keys in one leg's audio, at 8 or 16 kHz.
#[derive(Debug)]
pub struct InbandDetector {
    bank: Bank,
    /// The second half of the frame before, then the frame.
    window: [f32; WINDOW_MAX],
    half: usize,
    state: State,
    /// Windows since the last that was made up.
    since_loss: u8,
    /// The frame before was let through: the cut needs a short fade.
    open: bool,
}

impl InbandDetector {
    /// For frames at `rate`; other than 8 and 16 kHz it hears nothing.
    #[must_use]
    pub fn new(rate: SampleRate) -> Self {
        Self {
            bank: Bank::new(rate),
            window: [0.0; WINDOW_MAX],
            half: rate.frame_samples() / 2,
            state: State::Quiet,
            since_loss: u8::MAX,
            open: true,
        }
    }

    /// Listens to one 20 ms frame and silences it where a key may be in it. Returns the key that
    /// was let go. `patched`: a part of the frame was made up because something was lost.
    pub fn process(&mut self, frame: &mut [i16], patched: bool) -> Option<KeyPress> {
        let samples = self.half * 2;
        if frame.len() != samples || samples + self.half > self.window.len() {
            return None;
        }
        self.window.copy_within(samples..samples + self.half, 0);
        for (slot, sample) in self.window[self.half..].iter_mut().zip(frame.iter()) {
            *slot = f32::from(*sample);
        }
        let first = self.step(0, patched);
        let suspect_first = self.state.is_suspicious();
        let second = self.step(self.half, patched);
        let mute = suspect_first || self.state.is_suspicious();
        self.silence(frame, mute);
        first.or(second)
    }

    /// Is a key being pressed, or may it be? Its audio is silenced then.
    #[must_use]
    pub const fn is_pressed(&self) -> bool {
        self.state.is_suspicious()
    }

    fn step(&mut self, from: usize, patched: bool) -> Option<KeyPress> {
        let window = self.window.get(from..from + self.half * 2)?;
        self.since_loss = if patched {
            0
        } else {
            self.since_loss.saturating_add(1)
        };
        let out_of_step = self.since_loss <= self.bank.out_of_step;
        let heard = self.bank.key_in(window, out_of_step);
        let goes_on = heard.is_some_and(|heard| self.state.is_of(heard.key));
        let (state, press) = if self.since_loss <= self.bank.spoilt && !goes_on {
            self.state.next_unknown()
        } else {
            self.state.next(heard)
        };
        self.state = state;
        press
    }

    fn silence(&mut self, frame: &mut [i16], mute: bool) {
        if !mute {
            self.open = true;
            return;
        }
        let fade = if std::mem::replace(&mut self.open, false) {
            self.half / FADE_PART
        } else {
            0
        };
        for (n, sample) in frame.iter_mut().enumerate() {
            let gain = if n < fade {
                1.0 - (n + 1) as f32 / (fade + 1) as f32
            } else {
                0.0
            };
            *sample = (f32::from(*sample) * gain) as i16;
        }
    }
}

/// Windows counted, one per 10 ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Quiet,
    /// It looked like a key, not yet long enough.
    Suspect(Run),
    /// It is one.
    Pressed(Run),
}

/// A key's windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    key: Key,
    hits: u16,
    /// Since the last hit.
    misses: u8,
    /// Since the last hit, while there was no miss: nobody knows what was in them.
    unknown: u8,
    pure: bool,
}

impl State {
    const fn is_suspicious(self) -> bool {
        !matches!(self, Self::Quiet)
    }

    /// Is it of this key, or of none yet?
    fn is_of(self, key: Key) -> bool {
        match self {
            Self::Quiet => true,
            Self::Suspect(run) | Self::Pressed(run) => run.key == key,
        }
    }

    fn next(self, heard: Option<Heard>) -> (Self, Option<KeyPress>) {
        match (self, heard) {
            (Self::Quiet, None) => (Self::Quiet, None),
            (Self::Quiet, Some(heard)) => (Self::Suspect(Run::new(heard)), None),
            (Self::Suspect(run), Some(heard)) if heard.key == run.key => {
                let run = run.hit(heard);
                let believed = run.hits >= HITS_TO_BELIEVE && run.pure;
                let state = if believed {
                    Self::Pressed
                } else {
                    Self::Suspect
                };
                (state(run), None)
            }
            (Self::Pressed(run), Some(heard)) if heard.key == run.key => {
                (Self::Pressed(run.hit(heard)), None)
            }
            (Self::Suspect(_), Some(heard)) => (Self::Suspect(Run::new(heard)), None),
            (Self::Pressed(run), Some(heard)) => {
                (Self::Suspect(Run::new(heard)), Some(run.press()))
            }
            (Self::Suspect(_) | Self::Pressed(_), None) => self.miss(),
        }
    }

    /// After a window that a loss has spoilt.
    fn next_unknown(self) -> (Self, Option<KeyPress>) {
        match self {
            Self::Quiet => (self, None),
            // The tone was over already: what is missing belongs to the gap.
            Self::Suspect(run) | Self::Pressed(run) if run.misses > 0 => self.miss(),
            Self::Suspect(run) | Self::Pressed(run) if run.unknown >= UNKNOWN_MAX => self.miss(),
            Self::Suspect(run) => (Self::Suspect(run.unknown()), None),
            Self::Pressed(run) => (Self::Pressed(run.unknown()), None),
        }
    }

    fn miss(self) -> (Self, Option<KeyPress>) {
        match self {
            Self::Quiet => (self, None),
            Self::Suspect(run) => match run.miss(MISSES_TO_DOUBT) {
                Some(run) => (Self::Suspect(run), None),
                None => (Self::Quiet, None),
            },
            Self::Pressed(run) => match run.miss(MISSES_TO_END) {
                Some(run) => (Self::Pressed(run), None),
                None => (Self::Quiet, Some(run.press())),
            },
        }
    }
}

impl Run {
    const fn new(heard: Heard) -> Self {
        Self {
            key: heard.key,
            hits: 1,
            misses: 0,
            unknown: 0,
            pure: heard.pure,
        }
    }

    /// The tone goes on; it was there in what is unknown, too.
    const fn hit(self, heard: Heard) -> Self {
        Self {
            hits: self.hits.saturating_add(1 + self.unknown as u16),
            misses: 0,
            unknown: 0,
            pure: self.pure || heard.pure,
            ..self
        }
    }

    /// `None` once there are `most`; what was unknown before belonged to the gap.
    const fn miss(self, most: u8) -> Option<Self> {
        let misses = self.misses + self.unknown + 1;
        let run = Self {
            misses,
            unknown: 0,
            ..self
        };
        if misses < most { Some(run) } else { None }
    }

    const fn unknown(self) -> Self {
        Self {
            unknown: self.unknown + 1,
            ..self
        }
    }

    /// Windows of 20 ms, 10 ms apart.
    const fn press(self) -> KeyPress {
        KeyPress {
            key: self.key,
            duration: Duration::from_millis(self.hits as u64 * 10 + 10),
        }
    }
}

/// What a window holds.
#[derive(Debug, Clone, Copy)]
struct Heard {
    key: Key,
    /// Next to nothing but the two tones.
    pure: bool,
}

/// Goertzel filters for the eight tones, a little to either side of them, and their doubles.
#[derive(Debug)]
struct Bank {
    rows: [Tone; 4],
    columns: [Tone; 4],
    /// Windows after a loss in which silence says nothing.
    spoilt: u8,
    /// Windows after a loss in which the decoder may play one tone louder than the other.
    out_of_step: u8,
}

impl Bank {
    fn new(rate: SampleRate) -> Self {
        let hz = rate.hz() as f32;
        Self {
            rows: ROWS.map(|f| Tone::new(f, hz)),
            columns: COLUMNS.map(|f| Tone::new(f, hz)),
            // G.711 has no memory: only the window has, which is two halves long.
            spoilt: if rate == SampleRate::Hz8000 { 1 } else { 4 },
            out_of_step: if rate == SampleRate::Hz8000 { 0 } else { 16 },
        }
    }

    /// The key that fills this window, if one does. `out_of_step`: one of its tones may be much louder.
    fn key_in(&self, window: &[f32], out_of_step: bool) -> Option<Heard> {
        let total = window.iter().map(|x| x * x).sum::<f32>() / window.len() as f32;
        if total < POWER_MIN {
            return None;
        }
        let (row, low) = strongest(&self.rows, window)?;
        let (column, high) = strongest(&self.columns, window)?;
        let (low, high) = (
            self.rows[row].fine_power(window, low),
            self.columns[column].fine_power(window, high),
        );
        let (high_max, low_max) = if out_of_step {
            (TWIST_OUT_OF_STEP_MAX, TWIST_OUT_OF_STEP_MAX)
        } else {
            (TWIST_HIGH_MAX, TWIST_LOW_MAX)
        };
        let twist_fits = high <= low * high_max && low <= high * low_max;
        if !twist_fits || low.min(high) < POWER_MIN / 4.0 || low + high < total * SHARE_MIN {
            return None;
        }
        if self.doubles(row, column, window) > (low + high) * HARMONIC_MAX {
            return None;
        }
        let key = Key::from_char(KEYS[row][column])?;
        Some(Heard {
            key,
            pure: low + high >= total * SHARE_PURE,
        })
    }

    /// Power of the second harmonics; the low tone's is left out where the high tone covers it.
    fn doubles(&self, row: usize, column: usize, window: &[f32]) -> f32 {
        let covered = (2.0 * ROWS[row] - COLUMNS[column]).abs() < COVERED_HZ;
        let low = if covered {
            0.0
        } else {
            self.rows[row].double_power(window)
        };
        low + self.columns[column].double_power(window)
    }
}

/// The strongest of a group, if it stands out from the others.
fn strongest(tones: &[Tone; 4], window: &[f32]) -> Option<(usize, f32)> {
    let powers = tones.each_ref().map(|tone| goertzel(window, tone.centre));
    let best = (0..4).max_by(|a, b| powers[*a].total_cmp(&powers[*b]))?;
    let clear = (0..4).all(|n| n == best || powers[n] * STAND_OUT <= powers[best]);
    clear.then_some((best, powers[best]))
}

#[derive(Debug)]
struct Tone {
    centre: f32,
    below: f32,
    above: f32,
    double: f32,
}

impl Tone {
    fn new(frequency: f32, rate: f32) -> Self {
        let coefficient = |f: f32| 2.0 * (TAU * f / rate).cos();
        Self {
            centre: coefficient(frequency),
            below: coefficient(frequency * (1.0 - DETUNED)),
            above: coefficient(frequency * (1.0 + DETUNED)),
            double: coefficient(frequency * 2.0),
        }
    }

    /// The tone's power when it may be a little off.
    fn fine_power(&self, window: &[f32], centre: f32) -> f32 {
        centre
            .max(goertzel(window, self.below))
            .max(goertzel(window, self.above))
    }

    fn double_power(&self, window: &[f32]) -> f32 {
        goertzel(window, self.double)
    }
}

/// Power of one frequency: a sine gives the square of its RMS.
fn goertzel(window: &[f32], coefficient: f32) -> f32 {
    let (mut one, mut two) = (0.0_f32, 0.0_f32);
    for sample in window {
        let next = sample + coefficient * one - two;
        two = one;
        one = next;
    }
    let length = window.len() as f32;
    (one * one + two * two - coefficient * one * two) * 2.0 / (length * length)
}

/// ITU-T Q.23.
const ROWS: [f32; 4] = [697.0, 770.0, 852.0, 941.0];
const COLUMNS: [f32; 4] = [1209.0, 1336.0, 1477.0, 1633.0];
const KEYS: [[char; 4]; 4] = [
    ['1', '2', '3', 'A'],
    ['4', '5', '6', 'B'],
    ['7', '8', '9', 'C'],
    ['*', '0', '#', 'D'],
];

/// 30 ms at 16 kHz.
const WINDOW_MAX: usize = 480;
/// -40 dBFS for both tones together.
const POWER_MIN: f32 = 32768.0 * 32768.0 * 1e-4;
/// The high tone may be 8 dB above the low one, the low one 6 dB above the high one: Q.24's range
/// with some more for lines that lose the highs.
const TWIST_HIGH_MAX: f32 = 6.3;
const TWIST_LOW_MAX: f32 = 4.0;
/// 12 dB.
const TWIST_OUT_OF_STEP_MAX: f32 = 16.0;
/// How much of all power the two tones are. Speech has more beside any two tones.
const SHARE_MIN: f32 = 0.70;
/// One window of a press at least lies within it and has this share: noise 10 dB below is allowed.
const SHARE_PURE: f32 = 0.90;
/// Two window's resolutions.
const COVERED_HZ: f32 = 120.0;
/// 6 dB above the others of the group.
const STAND_OUT: f32 = 4.0;
/// Second harmonics 13 dB below the tones: voiced speech has strong ones, a keypad none.
const HARMONIC_MAX: f32 = 0.05;
/// Q.24 accepts 1.5 % off; a window of 20 ms needs help with that for the high tones.
const DETUNED: f32 = 0.013;
/// Three windows in a row: 40 ms of tone give that wherever they fall, 25 ms don't.
const HITS_TO_BELIEVE: u16 = 3;
/// One window that doesn't look like the key may be a click.
const MISSES_TO_DOUBT: u8 = 2;
/// A gap of 10 ms doesn't split a press; 40 ms do.
const MISSES_TO_END: u8 = 3;
/// A tone is believed to go on for this long unheard.
const UNKNOWN_MAX: u8 = 6;
/// The fade at a cut is this part of 10 ms.
const FADE_PART: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::seeded::Random;

    const HZ8000: SampleRate = SampleRate::Hz8000;

    fn tones(key: char, rate: SampleRate, ms: usize, levels: (f32, f32), off: f32) -> Vec<f32> {
        let (row, column) = (0..16)
            .map(|n| (n / 4, n % 4))
            .find(|(r, c)| KEYS[*r][*c] == key)
            .unwrap();
        let hz = rate.hz() as f32;
        (0..ms * rate.hz() as usize / 1000)
            .map(|n| {
                let t = n as f32 / hz * TAU * (1.0 + off);
                let (low, high) = levels;
                (t * ROWS[row]).sin() * amplitude(low)
                    + (t * COLUMNS[column]).sin() * amplitude(high)
            })
            .collect()
    }

    /// Of a sine whose RMS is `dbfs` below full scale.
    fn amplitude(dbfs: f32) -> f32 {
        32768.0 * 10.0_f32.powf(dbfs / 20.0) * std::f32::consts::SQRT_2
    }

    fn silence(rate: SampleRate, ms: usize) -> Vec<f32> {
        vec![0.0; ms * rate.hz() as usize / 1000]
    }

    /// Keys heard, and the audio that got through.
    fn listen(rate: SampleRate, audio: &[f32]) -> (String, Vec<i16>) {
        let mut detector = InbandDetector::new(rate);
        let (mut keys, mut through) = (String::new(), Vec::new());
        for chunk in audio.chunks_exact(rate.frame_samples()) {
            let mut frame: Vec<i16> = chunk
                .iter()
                .map(|x| x.clamp(-32768.0, 32767.0) as i16)
                .collect();
            keys.extend(
                detector
                    .process(&mut frame, false)
                    .map(|press| press.key.as_char()),
            );
            through.extend(frame);
        }
        (keys, through)
    }

    const LEVELS: (f32, f32) = (-15.0, -13.0);

    #[test]
    fn all_sixteen_keys_are_heard_at_both_rates_wherever_they_begin() {
        for rate in [HZ8000, SampleRate::Hz16000] {
            for offset in 0..20 {
                let mut audio = silence(rate, 40 + offset);
                for key in KEYS.concat() {
                    audio.extend(tones(key, rate, 40, LEVELS, 0.0));
                    audio.extend(silence(rate, 40));
                }
                audio.extend(silence(rate, 100));
                assert_eq!(
                    listen(rate, &audio).0,
                    "123A456B789C*0#D",
                    "{rate:?} {offset} ms"
                );
            }
        }
    }

    #[test]
    fn the_same_key_twice_counts_twice_and_a_drop_out_of_10_ms_does_not_split_it() {
        let mut audio = tones('5', HZ8000, 60, LEVELS, 0.0);
        audio.extend(silence(HZ8000, 40));
        audio.extend(tones('5', HZ8000, 60, LEVELS, 0.0));
        audio.extend(silence(HZ8000, 10));
        audio.extend(tones('5', HZ8000, 60, LEVELS, 0.0));
        audio.extend(silence(HZ8000, 100));
        assert_eq!(listen(HZ8000, &audio).0, "55");
    }

    #[test]
    fn less_than_20_ms_of_a_key_is_heard_by_others() {
        for rate in [HZ8000, SampleRate::Hz16000] {
            for offset in 0..40 {
                for ms in [40, 65, 200, 1000] {
                    let mut audio = silence(rate, 40 + offset);
                    audio.extend(tones('8', rate, ms, LEVELS, 0.0));
                    audio.extend(silence(rate, 200));
                    let loud = listen(rate, &audio)
                        .1
                        .iter()
                        .filter(|x| x.unsigned_abs() > 100)
                        .count();
                    let heard_ms = loud as f32 * 1000.0 / rate.hz() as f32;
                    assert!(
                        heard_ms < 20.0,
                        "{rate:?} offset {offset} of {ms}: {heard_ms} ms"
                    );
                }
            }
        }
    }

    #[test]
    fn frequencies_levels_and_twist_are_accepted_as_in_q_24() {
        let heard = |levels, off| {
            let mut audio = silence(HZ8000, 33);
            for key in KEYS.concat() {
                audio.extend(tones(key, HZ8000, 50, levels, off));
                audio.extend(silence(HZ8000, 50));
            }
            audio.extend(silence(HZ8000, 100));
            listen(HZ8000, &audio).0.len()
        };
        assert_eq!(heard(LEVELS, 0.015), 16);
        assert_eq!(heard(LEVELS, -0.015), 16);
        assert_eq!(heard((-6.5, -6.5), 0.0), 16);
        assert_eq!(heard((-35.0, -33.0), 0.0), 16);
        assert_eq!(heard((-20.0, -13.0), 0.0), 16);
        assert_eq!(heard((-13.0, -18.0), 0.0), 16);
        assert_eq!(heard((-10.0, -22.0), 0.0), 0, "too much twist");
        assert_eq!(heard((-24.0, -12.0), 0.0), 0, "too much twist");
        assert_eq!(heard((-50.0, -50.0), 0.0), 0, "too faint");
    }

    #[test]
    fn tones_too_short_single_or_with_harmonics_are_no_keys() {
        let mut audio = Vec::new();
        for key in KEYS.concat() {
            audio.extend(tones(key, HZ8000, 22, LEVELS, 0.0));
            audio.extend(silence(HZ8000, 58));
        }
        for f in ROWS
            .iter()
            .chain(&COLUMNS)
            .chain(&[440.0, 425.0, 1000.0, 1100.0, 2100.0])
        {
            audio.extend((0..4000).map(|n| (n as f32 / 8000.0 * TAU * f).sin() * amplitude(-10.0)));
        }
        let rich = tones('5', HZ8000, 200, LEVELS, 0.0);
        let double = |n: usize| (n as f32 / 8000.0 * TAU * 2.0 * 770.0).sin() * amplitude(-18.0);
        audio.extend(rich.iter().enumerate().map(|(n, x)| x + double(n)));
        audio.extend(silence(HZ8000, 200));
        assert_eq!(listen(HZ8000, &audio).0, "");
    }

    #[test]
    fn keys_are_heard_through_noise_15_db_below() {
        let mut random = Random::new(5);
        let mut audio = Vec::new();
        let typed = "0123456789*#".repeat(5);
        for key in typed.chars() {
            audio.extend(tones(key, HZ8000, 60, LEVELS, 0.0));
            audio.extend(silence(HZ8000, 60));
        }
        audio.extend(silence(HZ8000, 100));
        // Uniform noise: its RMS is its peak over the root of three.
        let peak = 32768.0 * 10.0_f32.powf((-11.0 - 15.0) / 20.0) * 3.0_f32.sqrt();
        audio
            .iter_mut()
            .for_each(|x| *x += (random.unit() * 2.0 - 1.0) * peak);
        assert_eq!(listen(HZ8000, &audio).0, typed);
    }

    /// Worse than a voice: pitch pulses or noise through three narrow, gliding formants, so that two
    /// of them often stand where a key's tones would.
    fn babble(seed: u64, seconds: usize) -> Vec<f32> {
        let mut random = Random::new(seed);
        let mut out = Vec::with_capacity(seconds * 8000);
        let mut formants = [Formant::default(); 3];
        while out.len() < seconds * 8000 {
            let pitch = 80.0 + random.unit() * 180.0;
            let glide = 1.0 + (random.unit() - 0.5) * 0.4;
            let targets = [
                250.0 + random.unit() * 650.0,
                800.0 + random.unit() * 1600.0,
                2300.0 + random.unit() * 900.0,
            ];
            let samples = 400 + random.below(2400);
            let voiced = random.below(4) > 0;
            let mut phase = 0.0_f32;
            for n in 0..samples {
                let part = n as f32 / samples as f32;
                phase += pitch * (1.0 + (glide - 1.0) * part) / 8000.0;
                let pulse = if phase >= 1.0 { 1.0 } else { 0.0 };
                phase = phase.fract();
                let noise = random.unit() - 0.5;
                let mut x = if voiced {
                    pulse * 8.0 + noise * 0.05
                } else {
                    noise * 0.6
                };
                for (formant, target) in formants.iter_mut().zip(targets) {
                    x = formant.filter(x, target);
                }
                out.push(x * 12_000.0 * (part * std::f32::consts::PI).sin());
            }
        }
        out
    }

    #[derive(Clone, Copy, Default)]
    struct Formant(f32, f32);

    impl Formant {
        fn filter(&mut self, x: f32, frequency: f32) -> f32 {
            let radius = 0.97_f32;
            let y = x * 0.3 + 2.0 * radius * (TAU * frequency / 8000.0).cos() * self.0
                - radius * radius * self.1;
            self.1 = self.0;
            self.0 = y;
            y
        }
    }

    #[test]
    fn ten_minutes_of_babble_press_no_key_and_lose_almost_nothing() {
        let audio = babble(6, 600);
        let rms = (audio.iter().map(|x| x * x).sum::<f32>() / audio.len() as f32).sqrt();
        assert!((500.0..12_000.0).contains(&rms), "{rms}");
        let (keys, through) = listen(HZ8000, &audio);
        assert_eq!(keys, "");
        let muted = through
            .chunks(160)
            .zip(audio.chunks(160))
            .filter(|(frame, source)| {
                frame.iter().skip(8).all(|x| *x == 0) && source.iter().any(|x| x.abs() > 200.0)
            });
        let muted = muted.count();
        assert!(muted <= 300, "{muted} of 30,000 frames");
    }
}
