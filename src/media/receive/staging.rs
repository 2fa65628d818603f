//! PCM that is decoded or made up and not yet played: where packets of any length become frames of
//! 20 ms, and where a little is taken out or put in to change the delay.

use super::FrameKind;
use crate::media::jitter::stretch;
use crate::media::prefetch::{prefetch, prefetch_slice};
use crate::units::{Decibels, SampleRate};

/// A short queue of samples, with what each stretch of it is made of.
#[derive(Debug)]
pub(super) struct Staging {
    samples: Box<[i16]>,
    /// Samples staged; the frame taken last, while it lasts, lies before them.
    length: usize,
    frame: usize,
    runs: [Run; RUNS],
    /// A part of the frame taken last was made up because something was lost or late.
    patched: bool,
    /// The sample played or staged last.
    last: i16,
    /// Part that remains of the last sample, sample by sample, where silence begins.
    decay: f32,
    /// 2.5 ms.
    period_min: usize,
}

/// How willing a voice is to be cut into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Willing {
    /// Wait for a pause.
    PauseOnly,
    /// Where a pitch period is clear.
    Voiced,
    /// Anywhere.
    Anywhere,
}

#[derive(Debug, Clone, Copy)]
struct Run {
    kind: FrameKind,
    samples: usize,
}

impl Staging {
    pub(super) fn new(rate: SampleRate) -> Self {
        let per_ms = rate.hz() as usize / 1000;
        Self {
            samples: vec![0; (LONGEST_MS + AROUND_MS) * per_ms].into(),
            length: 0,
            frame: 0,
            runs: [Run::EMPTY; RUNS],
            patched: false,
            last: 0,
            decay: 1.0 - DECAY_PER_S / rate.hz() as f32,
            period_min: per_ms * 5 / 2,
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.length
    }

    pub(super) fn allocated(&self) -> usize {
        size_of_val(&*self.samples)
    }

    /// Where the next samples go; [`Self::commit`] makes them count.
    pub(super) fn room(&mut self) -> &mut [i16] {
        self.samples.get_mut(self.length..).unwrap_or_default()
    }

    /// Of `count` samples in the room, leaves out the first `skip`; returns how many are left.
    pub(super) fn skip(&mut self, count: usize, skip: usize) -> usize {
        if skip > 0 && skip <= count && count <= self.room().len() {
            self.room().copy_within(skip..count, 0);
            return count - skip;
        }
        count
    }

    pub(super) fn commit(&mut self, count: usize, kind: FrameKind) {
        let count = count.min(self.samples.len() - self.length);
        self.length += count;
        self.note_run(kind, count);
        if let Some(last) = self
            .length
            .checked_sub(1)
            .and_then(|last| self.samples.get(last))
        {
            self.last = *last;
        }
    }

    /// Silence that doesn't begin with a step; returns how much there was room for.
    pub(super) fn fill_silence(&mut self, count: usize) -> usize {
        let (mut level, decay) = (f32::from(self.last), self.decay);
        let room = self.room();
        let count = count.min(room.len());
        let mut rest = room.iter_mut().take(count);
        while level.abs() >= 1.0
            && let Some(sample) = rest.next()
        {
            level *= decay;
            *sample = level as i16;
        }
        rest.for_each(|sample| *sample = 0);
        self.commit(count, FrameKind::Silence);
        count
    }

    /// Samples that nobody will hear; returns how many there was room for.
    pub(super) fn skip_over(&mut self, count: usize) -> usize {
        let room = self.room();
        let count = count.min(room.len());
        if let Some(room) = room.get_mut(..count) {
            room.fill(0);
        }
        self.commit(count, FrameKind::Skipped);
        count
    }

    /// Makes the first samples the frame, filled up with silence; says what most of it is made of. A
    /// voice that sets in within silence, or within what was left out or made up, counts however short it is.
    pub(super) fn take(&mut self, samples: usize) -> FrameKind {
        let count = samples.min(self.length);
        if let Some(missing) = self.samples.get_mut(count..samples) {
            missing.fill(0);
        }
        self.frame = samples.min(self.samples.len());
        self.length -= count;
        self.patched = self.is_patched(count);
        self.take_runs(count)
    }

    /// Was a part of the frame taken last made up because something was lost or late?
    pub(super) const fn frame_is_patched(&self) -> bool {
        self.patched
    }

    /// Before a frame is staged: the first of two steps.
    pub(super) fn prefetch(&self) {
        prefetch(self);
    }

    /// The second one.
    pub(super) fn prefetch_samples(&self) {
        let used = self.frame + self.length;
        prefetch_slice(self.samples.get(..used).unwrap_or_default());
    }

    /// The frame taken last.
    pub(super) fn frame(&self) -> &[i16] {
        self.samples.get(..self.frame).unwrap_or_default()
    }

    /// The same, to be changed in place.
    pub(super) fn frame_mut(&mut self) -> &mut [i16] {
        self.samples.get_mut(..self.frame).unwrap_or_default()
    }

    /// What is staged won't be heard.
    pub(super) fn clear(&mut self) {
        self.length = 0;
        self.runs = [Run::EMPTY; RUNS];
    }

    /// The frame taken last is over; what was staged behind it comes to the front.
    pub(super) fn release(&mut self) {
        self.samples
            .copy_within(self.frame..self.frame + self.length, 0);
        self.frame = 0;
    }

    /// How much to cut or insert in the frame at the front so that it isn't heard: all that is
    /// wanted in a pause, a pitch period in a voice; `None`: nothing, now. `exceed`: rather more
    /// than less.
    pub(super) fn period(
        &self,
        frame: usize,
        wanted: usize,
        exceed: bool,
        quiet: Decibels,
        willing: Willing,
    ) -> Option<usize> {
        let pcm = self.samples.get(..frame.min(self.length))?;
        if level(pcm) <= quiet.0 {
            return Some(wanted);
        }
        let longest = if exceed { frame / 2 } else { wanted };
        if willing == Willing::PauseOnly || longest < self.period_min {
            return None;
        }
        let period = stretch::find_period(pcm, self.period_min..=longest)?;
        (period.likeness >= LIKENESS_MIN || willing == Willing::Anywhere).then_some(period.length)
    }

    /// Leaves `period` samples out; returns how many.
    pub(super) fn cut(&mut self, period: usize) -> usize {
        let before = self.length;
        self.length = stretch::cut(self.samples.get_mut(..before).unwrap_or_default(), period);
        let done = before - self.length;
        self.take_runs(done);
        done
    }

    /// Plays `period` samples twice; returns how many.
    pub(super) fn insert(&mut self, period: usize) -> usize {
        let before = self.length;
        self.length = stretch::insert(&mut self.samples, before, period);
        let done = self.length - before;
        if let Some(first) = self.runs.first_mut() {
            first.samples += done;
        }
        done
    }

    fn note_run(&mut self, kind: FrameKind, samples: usize) {
        let used = self.runs.iter().rposition(|run| run.samples > 0);
        if let Some(last) = used
            .and_then(|last| self.runs.get_mut(last))
            .filter(|last| last.kind == kind)
        {
            last.samples += samples;
            return;
        }
        // With no place left, the last run takes it in.
        let place = used.map_or(0, |last| last + 1).min(RUNS - 1);
        if let Some(run) = self.runs.get_mut(place) {
            *run = Run {
                kind,
                samples: run.samples + samples,
            };
        }
    }

    /// Is something made up for a loss among the first `count` samples?
    fn is_patched(&self, count: usize) -> bool {
        let mut before = 0;
        self.runs.iter().any(|run| {
            let within = run.samples > 0 && before < count;
            before += run.samples;
            within && run.kind == FrameKind::Concealed
        })
    }

    fn take_runs(&mut self, mut count: usize) -> FrameKind {
        let (mut most, mut voice) = (Run::EMPTY, false);
        while count > 0 && self.runs[0].samples > 0 {
            let part = self.runs[0].samples.min(count);
            voice |= self.runs[0].kind == FrameKind::Voice;
            if part >= most.samples {
                most = Run {
                    kind: self.runs[0].kind,
                    samples: part,
                };
            }
            count -= part;
            self.runs[0].samples -= part;
            if self.runs[0].samples == 0 {
                self.runs.rotate_left(1);
            }
        }
        let made_up = matches!(
            most.kind,
            FrameKind::Silence | FrameKind::Skipped | FrameKind::ComfortNoise
        );
        if made_up && voice {
            FrameKind::Voice
        } else {
            most.kind
        }
    }
}

impl Run {
    const EMPTY: Self = Self {
        kind: FrameKind::Silence,
        samples: 0,
    };
}

fn level(pcm: &[i16]) -> f32 {
    let power = pcm
        .iter()
        .map(|x| f32::from(*x) * f32::from(*x))
        .sum::<f32>()
        / pcm.len().max(1) as f32;
    Decibels::from_amplitude(power.sqrt() / 32_768.0).0
}

/// Stretches of different making within what is staged at once.
const RUNS: usize = 8;
/// The longest packet.
const LONGEST_MS: usize = 120;
/// Beside the longest packet: a frame, a piece to cut, a piece to insert.
const AROUND_MS: usize = 40;
/// Down to a twentieth within 7.5 ms.
const DECAY_PER_S: f32 = 400.0;
/// A clear pitch.
const LIKENESS_MIN: f32 = 0.75;

#[cfg(test)]
mod tests {
    use super::*;

    fn staged(samples: &[i16], kind: FrameKind) -> Staging {
        let mut staging = Staging::new(SampleRate::Hz8000);
        staging.room()[..samples.len()].copy_from_slice(samples);
        staging.commit(samples.len(), kind);
        staging
    }

    #[test]
    fn samples_come_out_in_frames_as_they_went_in() {
        let input: Vec<i16> = (0..480).collect();
        let mut staging = staged(&input, FrameKind::Voice);
        let mut output = Vec::<i16>::new();
        for _ in 0..3 {
            assert_eq!(staging.take(160), FrameKind::Voice);
            output.extend(staging.frame());
            staging.release();
        }
        assert_eq!(output, input);
        assert_eq!(staging.len(), 0);
    }

    #[test]
    fn a_frame_is_what_most_of_it_is() {
        let mut staging = staged(&[1; 100], FrameKind::Voice);
        staging.commit(60, FrameKind::Concealed);
        staging.commit(160, FrameKind::Concealed);
        for kind in [FrameKind::Voice, FrameKind::Concealed, FrameKind::Silence] {
            assert_eq!(staging.take(160), kind);
            staging.release();
        }
    }

    #[test]
    fn a_word_that_sets_in_within_silence_is_a_voice() {
        for silence in [20, 140] {
            let mut staging = Staging::new(SampleRate::Hz8000);
            staging.fill_silence(silence);
            staging.commit(160 - silence, FrameKind::Voice);
            assert_eq!(staging.take(160), FrameKind::Voice, "{silence}");
        }
    }

    #[test]
    fn silence_begins_without_a_step() {
        let mut staging = staged(&[10_000; 100], FrameKind::Voice);
        staging.fill_silence(400);
        staging.take(500);
        let all = staging.frame();
        assert!(all.windows(2).all(|pair| (pair[0] - pair[1]).abs() <= 501));
        assert_eq!(all[400..], [0; 100]);
    }

    #[test]
    fn the_first_samples_can_be_left_out() {
        let mut staging = Staging::new(SampleRate::Hz8000);
        staging.room()[..5].copy_from_slice(&[1, 2, 3, 4, 5]);
        let left = staging.skip(5, 2);
        staging.commit(left, FrameKind::Voice);
        staging.take(4);
        assert_eq!(staging.frame(), [3, 4, 5, 0]);
    }

    #[test]
    fn a_pause_gives_what_is_wanted_and_a_voice_waits() {
        let quiet = Decibels(-50.0);
        let pause = staged(&[5; 320], FrameKind::Voice);
        assert_eq!(
            pause.period(160, 77, false, quiet, Willing::PauseOnly),
            Some(77)
        );
        let tone: Vec<i16> = (0..320)
            .map(|n| ((n as f32 * 0.157).sin() * 5000.0) as i16)
            .collect();
        let voice = staged(&tone, FrameKind::Voice);
        assert_eq!(
            voice.period(160, 77, false, quiet, Willing::PauseOnly),
            None
        );
        assert_eq!(
            voice.period(160, 77, false, quiet, Willing::Voiced),
            Some(40)
        );
        assert_eq!(voice.period(160, 10, false, quiet, Willing::Anywhere), None);
        assert_eq!(
            voice.period(160, 10, true, quiet, Willing::Voiced),
            Some(40)
        );
    }
}
