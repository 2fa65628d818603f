//! Echo that a leg returns (a speakerphone, a hybrid): what it was sent comes back after a while.
//! The loudness of both is compared over delays up to half a second, 10 ms at a time, which
//! coders and small loudspeakers can't disguise. Found, it is damped for as long as nothing
//! louder comes, which would be the leg's own voice.

use crate::media::prefetch::prefetch;
use crate::media::voice::energy;
use crate::units::Decibels;

/// How loud something was of late: 10 ms per value, the newest first, dBFS.
#[derive(Debug, Clone)]
pub struct Envelope([f32; BLOCKS]);

/// Looks for the echo of one leg.
#[derive(Debug, Clone)]
pub(super) struct EchoFinder {
    sums: Sums,
    found: Option<Found>,
    /// Judgements in a row that spoke for the same delay, or against what was found.
    votes: u8,
    candidate: usize,
    until_judgement: u8,
    /// Frames for which its own voice keeps it open.
    open: u8,
}

/// Echo that a leg returns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Echo {
    /// From what it was sent to what came back, through its network and jitter buffers.
    pub delay_ms: f32,
    /// How much louder (mostly: softer, below 0) it comes back than it was sent.
    pub level: Decibels,
    /// Is it damped right now, because nothing else has come since?
    pub damped: bool,
}

#[derive(Debug, Clone, Copy)]
struct Found {
    lag: usize,
    /// What comes back is seldom louder than what was sent and this.
    gain: f32,
    damped: bool,
}

/// Fading sums for a correlation at each delay.
#[derive(Debug, Clone)]
struct Sums {
    weight: f32,
    y: f32,
    yy: f32,
    x: [f32; LAGS],
    xx: [f32; LAGS],
    xy: [f32; LAGS],
}

impl Envelope {
    /// Silence.
    #[must_use]
    pub const fn new() -> Self {
        Self([SILENT; BLOCKS])
    }

    /// Takes 20 ms of sound: the two halves' loudness.
    pub fn push(&mut self, halves: [f32; 2]) {
        self.0.copy_within(..BLOCKS - 2, 2);
        let [older, newer] = halves;
        self.0[0] = newer;
        self.0[1] = older;
    }

    /// Was there anything that could come back by now?
    fn is_sounding(&self) -> bool {
        self.0.iter().any(|level| *level > AUDIBLE)
    }

    /// The loudest that may come back in a block: what was sent `lag` before, or shortly before
    /// that, with the room's decay.
    fn expected(&self, newest: usize) -> f32 {
        let from = newest.saturating_sub(1);
        let tail = self.0.iter().skip(from).take(TAIL).enumerate();
        tail.map(|(n, level)| level - DECAY * n.saturating_sub(2) as f32)
            .fold(SILENT, f32::max)
    }
}

impl Default for Envelope {
    fn default() -> Self {
        Self::new()
    }
}

impl EchoFinder {
    pub(super) const fn new() -> Self {
        Self {
            sums: Sums::new(),
            found: None,
            votes: 0,
            candidate: 0,
            until_judgement: JUDGE_EVERY,
            open: 0,
        }
    }

    /// Takes a frame in which the leg returned something: the loudness of its halves, the older
    /// first. True: it is nothing but echo.
    pub(super) fn hear(&mut self, sent: &Envelope, returned: [f32; 2]) -> bool {
        if sent.is_sounding() {
            for (half, level) in returned.into_iter().enumerate() {
                self.sums.add(&sent.0, 1 - half, level);
            }
            self.until_judgement -= 1;
            if self.until_judgement == 0 {
                self.until_judgement = JUDGE_EVERY;
                self.judge();
            }
        }
        self.is_only_echo(sent, returned)
    }

    /// Before a frame of somebody who returns nothing.
    pub(super) fn prefetch(&self) {
        prefetch(&self.found);
    }

    pub(super) const fn is_found(&self) -> bool {
        self.found.is_some()
    }

    /// The leg returned nothing that counts. True: what there is of it stays damped.
    pub(super) fn rest(&self) -> bool {
        self.found.is_some_and(|found| found.damped)
    }

    pub(super) fn echo(&self) -> Option<Echo> {
        self.found.map(|found| Echo {
            delay_ms: (found.lag + 2) as f32 * 10.0,
            level: Decibels(found.gain),
            damped: found.damped,
        })
    }

    fn judge(&mut self) {
        let (lag, likeness) = self.sums.best();
        match &mut self.found {
            None => {
                let again = lag.abs_diff(self.candidate) <= 1 || self.votes == 0;
                let sure = self.sums.weight >= WEIGHT_LEAST && likeness >= LIKE;
                self.candidate = lag;
                self.votes = if sure && again { self.votes + 1 } else { 0 };
                if self.votes >= VOTES_TO_FIND {
                    self.votes = 0;
                    self.found = Some(Found {
                        lag,
                        gain: self.sums.difference(lag) + SPREAD,
                        damped: false,
                    });
                }
            }
            Some(found) if likeness >= LIKE => {
                found.lag = lag;
                if likeness >= NOTHING_ELSE {
                    found.gain = found.gain.max(self.sums.difference(lag));
                }
                self.votes = 0;
            }
            Some(_) => {
                self.votes = if likeness < UNLIKE { self.votes + 1 } else { 0 };
                if self.votes >= VOTES_TO_LOSE {
                    self.votes = 0;
                    self.found = None;
                }
            }
        }
    }

    fn is_only_echo(&mut self, sent: &Envelope, returned: [f32; 2]) -> bool {
        let Some(found) = &mut self.found else {
            return false;
        };
        let mut own = false;
        for (half, level) in returned.into_iter().enumerate() {
            let expected = sent.expected(found.lag + 1 - half);
            let above = level - expected - found.gain;
            own |= above > MARGIN && level > OWN_LEAST;
            if expected > AUDIBLE && above <= MARGIN && self.open == 0 {
                found.gain += if above > 0.0 { LEARN_UP } else { -LEARN_DOWN };
            }
        }
        self.open = if own {
            HOLD_FRAMES
        } else {
            self.open.saturating_sub(1)
        };
        found.damped = self.open == 0;
        found.damped
    }
}

impl Sums {
    const fn new() -> Self {
        Self {
            weight: 0.0,
            y: 0.0,
            yy: 0.0,
            x: [0.0; LAGS],
            xx: [0.0; LAGS],
            xy: [0.0; LAGS],
        }
    }

    /// Takes one block of what came back; what was sent begins at `newest` of `sent`.
    fn add(&mut self, sent: &[f32; BLOCKS], newest: usize, returned: f32) {
        let y = scaled(returned);
        self.weight = self.weight * FADE + 1.0;
        self.y = self.y * FADE + y;
        self.yy = self.yy * FADE + y * y;
        let sums = self.x.iter_mut().zip(&mut self.xx).zip(&mut self.xy);
        let sent = sent.get(newest..).unwrap_or_default();
        for (((sum, squares), products), level) in sums.zip(sent) {
            let x = scaled(*level);
            *sum = *sum * FADE + x;
            *squares = *squares * FADE + x * x;
            *products = *products * FADE + x * y;
        }
    }

    /// The delay at which both are most alike, and how much (a correlation coefficient).
    fn best(&self) -> (usize, f32) {
        let likeness = (0..LAGS).map(|lag| (lag, self.likeness(lag)));
        likeness
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .unwrap_or((0, 0.0))
    }

    fn likeness(&self, lag: usize) -> f32 {
        let n = self.weight;
        let spread_x = self.xx[lag] * n - self.x[lag] * self.x[lag];
        let spread_y = self.yy * n - self.y * self.y;
        if spread_x <= LEAST_SPREAD * n * n || spread_y <= LEAST_SPREAD * n * n {
            return 0.0;
        }
        (self.xy[lag] * n - self.x[lag] * self.y) / (spread_x * spread_y).sqrt()
    }

    /// Mean loudness returned less mean loudness sent, dB.
    fn difference(&self, lag: usize) -> f32 {
        (self.y - self.x[lag]) / self.weight * SCALE
    }
}

/// The loudness of the halves of 20 ms, dBFS.
pub(in crate::media) fn halves<S: Copy>(pcm: &[S], value: impl Fn(S) -> f32) -> [f32; 2] {
    let (older, newer) = pcm.split_at(pcm.len() / 2);
    [older, newer].map(|half| {
        let power = energy(half, &value) / half.len().max(1) as f32 / (32_768.0 * 32_768.0);
        Decibels::from_power(power).0.clamp(SILENT, 0.0)
    })
}

/// Around zero and of the order of one, so that sums of squares stay exact.
fn scaled(level: f32) -> f32 {
    (level - MIDDLE) / SCALE
}

/// dBFS: what is softer can't be heard to come back.
const SILENT: f32 = -65.0;
const AUDIBLE: f32 = -45.0;
const MIDDLE: f32 = -45.0;
const SCALE: f32 = 10.0;
/// 20 to 510 ms.
const LAGS: usize = 50;
/// Delays, and what rings on in a room.
const BLOCKS: usize = LAGS + TAIL + 4;
const TAIL: usize = 12;
/// dB per 10 ms: a room's echo dies by 60 dB in 400 ms.
const DECAY: f32 = 1.5;
/// Per block: half is forgotten after 4.6 s.
const FADE: f32 = 0.9985;
/// Blocks heard before anything is said.
const WEIGHT_LEAST: f32 = 250.0;
/// Frames: twice a second and a half.
const JUDGE_EVERY: u8 = 10;
/// Correlation of what is an echo; two people who talk at once stay far below it.
const LIKE: f32 = 0.65;
const UNLIKE: f32 = 0.3;
/// He himself has said nothing for a while.
const NOTHING_ELSE: f32 = 0.9;
/// Judgements, of a fifth of a second each.
const VOTES_TO_FIND: u8 = 6;
const VOTES_TO_LOSE: u8 = 40;
/// Variance (in units of `SCALE`) below which nothing can be compared.
const LEAST_SPREAD: f32 = 0.02;
/// dB: an echo's blocks lie this far above their mean, and seldom this far above what is learnt.
const SPREAD: f32 = 3.0;
const MARGIN: f32 = 6.0;
/// dBFS: nobody speaks more softly.
const OWN_LEAST: f32 = -52.0;
/// dB per block: one in five is louder than what is learnt.
const LEARN_UP: f32 = 0.16;
const LEARN_DOWN: f32 = 0.04;
/// 160 ms: the soft sounds within words.
const HOLD_FRAMES: u8 = 8;
