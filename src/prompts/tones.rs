//! Sounds that are no words, computed at start: tones and waiting music, 16 kHz mono. They keep
//! clear of the keypad: no frequency here is one of its upper group (1,209 to 1,633 Hz), without
//! which no detector finds a key.

use std::f32::consts::{PI, TAU};

use super::sound::{RATE, SAMPLES_PER_MS, faded_edges, to_i16, with_level};

/// Somebody came: two notes, rising.
#[must_use]
pub(super) fn join_tone() -> Vec<i16> {
    two_notes(C5, E5)
}

/// Somebody left: the same two notes, falling.
#[must_use]
pub(super) fn leave_tone() -> Vec<i16> {
    two_notes(E5, C5)
}

/// One note, to draw attention.
#[must_use]
pub(super) fn beep() -> Vec<i16> {
    let mut sound = vec![0.0; 200 * SAMPLES_PER_MS];
    add_note(&mut sound, &Note::new(0, 200, E5, 1.0), swell);
    finished(sound, TONE_DBFS)
}

/// One loop of waiting music: eight soft chords of three seconds, each fading into the next, with
/// slow broken notes over them. All of it begins and ends in silence, so that the end joins the
/// beginning.
#[must_use]
pub(super) fn music() -> Vec<i16> {
    let mut sound = vec![0.0; (CHORDS.len() * CHORD_MS + OVERLAP_MS) * SAMPLES_PER_MS];
    for (index, chord) in CHORDS.iter().enumerate() {
        let start_ms = index * CHORD_MS;
        let length_ms = CHORD_MS + OVERLAP_MS;
        for &hz in chord {
            add_note(&mut sound, &Note::new(start_ms, length_ms, hz, 0.4), swell);
        }
        for (step, voice) in BROKEN.into_iter().enumerate() {
            let hz = chord.get(voice).copied().unwrap_or(C4) * 2.0;
            let start_ms = start_ms + step * STEP_MS;
            add_note(
                &mut sound,
                &Note::new(start_ms, 2 * STEP_MS, hz, 0.5),
                pluck,
            );
        }
    }
    finished(sound, MUSIC_DBFS)
}

struct Note {
    start_ms: usize,
    length_ms: usize,
    hz: f32,
    gain: f32,
}

impl Note {
    const fn new(start_ms: usize, length_ms: usize, hz: f32, gain: f32) -> Self {
        Self {
            start_ms,
            length_ms,
            hz,
            gain,
        }
    }
}

fn two_notes(first: f32, second: f32) -> Vec<i16> {
    let mut sound = vec![0.0; 260 * SAMPLES_PER_MS];
    add_note(&mut sound, &Note::new(0, 130, first, 1.0), swell);
    add_note(&mut sound, &Note::new(130, 130, second, 1.0), swell);
    finished(sound, TONE_DBFS)
}

/// Adds one note. `shape` gives its loudness at 0.0 (start) to 1.0 (end) and is zero at both.
fn add_note(sound: &mut [f32], note: &Note, shape: fn(f32) -> f32) {
    let length = note.length_ms * SAMPLES_PER_MS;
    let step = TAU * note.hz / RATE as f32;
    let samples = sound
        .iter_mut()
        .skip(note.start_ms * SAMPLES_PER_MS)
        .take(length);
    for (index, sample) in samples.enumerate() {
        let at = index as f32 / length as f32;
        *sample += LOUD * note.gain * shape(at) * (index as f32 * step).sin();
    }
}

/// Rises and falls over a sixth of the note each.
fn swell(at: f32) -> f32 {
    let edge = (at.min(1.0 - at) * 6.0).min(1.0);
    0.5 - 0.5 * (PI * edge).cos()
}

/// Sounds at once and dies away.
fn pluck(at: f32) -> f32 {
    (at * 40.0).min(1.0) * (1.0 - at) * (-3.0 * at).exp()
}

fn finished(sound: Vec<f32>, dbfs: f32) -> Vec<i16> {
    let mut sound = with_level(sound, dbfs);
    faded_edges(&mut sound);
    to_i16(&sound)
}

/// A note's peak before all is brought to its level.
const LOUD: f32 = 4_000.0;

pub(super) const TONE_DBFS: f32 = -20.0;
pub(super) const MUSIC_DBFS: f32 = -26.0;
const CHORD_MS: usize = 3_000;
/// So long a chord still sounds under the next.
const OVERLAP_MS: usize = 500;
const STEP_MS: usize = 500;

/// Which of a chord's notes follow each other, an octave up.
const BROKEN: [usize; 5] = [0, 1, 2, 1, 0];

const C4: f32 = 261.63;
const C5: f32 = 523.25;
const E5: f32 = 659.26;

/// C, A minor, F, G, E minor, A minor, F, C; nothing above 523 Hz, so that the octave over it stays
/// below 1,050 Hz: easy on old ears, and all within a telephone's band.
const CHORDS: [[f32; 3]; 8] = [
    [261.63, 329.63, 392.00],
    [261.63, 329.63, 440.00],
    [261.63, 349.23, 440.00],
    [293.66, 392.00, 493.88],
    [246.94, 329.63, 392.00],
    [261.63, 329.63, 440.00],
    [261.63, 349.23, 440.00],
    [261.63, 329.63, 392.00],
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompts::sound::tests::{dbfs, goertzel_dbfs};

    const COLUMNS: [f32; 4] = [1_209.0, 1_336.0, 1_477.0, 1_633.0];
    const ROWS: [f32; 4] = [697.0, 770.0, 852.0, 941.0];

    #[test]
    fn joining_rises_and_leaving_falls() {
        for (tone, first, second) in [(join_tone(), C5, E5), (leave_tone(), E5, C5)] {
            assert_eq!(tone.len(), 260 * 16);
            let (early, late) = tone.split_at(tone.len() / 2);
            assert!(goertzel_dbfs(early, first) > goertzel_dbfs(early, second) + 15.0);
            assert!(goertzel_dbfs(late, second) > goertzel_dbfs(late, first) + 15.0);
        }
    }

    #[test]
    fn tones_and_music_have_the_level_they_were_given() {
        for (sound, target) in [
            (join_tone(), -20.0),
            (leave_tone(), -20.0),
            (beep(), -20.0),
            (music(), -26.0),
        ] {
            let level = dbfs(&sound);
            assert!((level - target).abs() < 1.5, "{level} instead of {target}");
        }
    }

    #[test]
    fn no_tone_is_taken_for_a_key() {
        for (name, sound) in [
            ("join", join_tone()),
            ("leave", leave_tone()),
            ("beep", beep()),
            ("music", music()),
        ] {
            // 25 ms blocks, as a detector would look.
            for block in sound.chunks_exact(400) {
                let column = COLUMNS
                    .map(|hz| goertzel_dbfs(block, hz))
                    .into_iter()
                    .fold(-120.0, f32::max);
                let row = ROWS
                    .map(|hz| goertzel_dbfs(block, hz))
                    .into_iter()
                    .fold(-120.0, f32::max);
                assert!(
                    column < -36.0,
                    "{name}: {column} dBFS in the upper group, {row} in the lower"
                );
            }
        }
    }

    #[test]
    fn the_loop_of_music_joins_itself_without_a_click() {
        let music = music();
        assert!(music.len() >= 20 * 16_000);
        assert_eq!(music.len() % 320, 0, "whole frames");
        let steps = music
            .windows(2)
            .map(|w| (i32::from(w[0]) - i32::from(w[1])).abs());
        let largest = steps.max().unwrap();
        let seam = (i32::from(music[0]) - i32::from(*music.last().unwrap())).abs();
        assert!(seam <= 2 && seam < largest, "a step of {seam} at the seam");
        assert!(
            dbfs(&music[music.len() - 160..]) < -50.0,
            "the last 10 ms are silent"
        );
        assert!(dbfs(&music[..16]) < -50.0, "the first ms is silent");
        assert!(dbfs(&music[8_000..24_000]) > -32.0, "not silent within");
    }
}
