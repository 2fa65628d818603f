//! Who is summed: at most the eight loudest voices. A voice that has the floor keeps it through
//! short pauses and against anybody who is not clearly louder for a while.

use crate::units::Decibels;

/// Most voices summed at once.
pub const TALKERS_MAX: usize = 8;

/// A voice keeps the floor this many frames after it fell silent (300 ms).
const HANGOVER_FRAMES: u8 = 15;
/// A challenger must be this much louder than the weakest talker …
const CHALLENGE_DB: f32 = 6.0;
/// … for this many frames in a row (100 ms).
const CHALLENGE_FRAMES: u8 = 5;
/// Share of the new level in the smoothed one, rising and falling.
const RISE: f32 = 0.4;
const FALL: f32 = 0.1;
/// Fall of the loudness in pauses, per frame.
const PAUSE_FALL_DB: f32 = 3.0;
const SILENCE_DB: f32 = -127.0;

/// One member's claim to be heard.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Floor {
    on: bool,
    was_on: bool,
    active: bool,
    loudness: f32,
    hangover: u8,
    challenge: u8,
}

/// What a member adds to this tick's sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    /// Nothing.
    Nothing,
    /// Its frame, faded in.
    FadeIn,
    /// Its frame as it is.
    Whole,
    /// Its frame, faded out.
    FadeOut,
}

impl Default for Floor {
    fn default() -> Self {
        Self {
            on: false,
            was_on: false,
            active: false,
            loudness: SILENCE_DB,
            hangover: 0,
            challenge: 0,
        }
    }
}

impl Floor {
    /// Takes this tick's frame into account.
    pub(super) fn hear(&mut self, active: bool, level: Decibels) {
        self.was_on = self.on;
        self.active = active;
        if active {
            self.loudness = self.smoothed(level.0.max(SILENCE_DB));
            self.hangover = HANGOVER_FRAMES;
        } else {
            self.loudness = (self.loudness - PAUSE_FALL_DB).max(SILENCE_DB);
            self.challenge = 0;
            self.hangover = self.hangover.saturating_sub(1);
            self.on &= self.hangover > 0;
        }
    }

    /// Must not be heard: muted, on hold.
    pub(super) fn close(&mut self) {
        *self = Self {
            was_on: self.on,
            ..Self::default()
        };
    }

    /// Was it summed in the tick before?
    #[must_use]
    pub(super) const fn has_it(&self) -> bool {
        self.on
    }

    /// What it adds to this tick's sum.
    #[must_use]
    pub(super) const fn share(&self) -> Share {
        match (self.was_on, self.on) {
            (false, false) => Share::Nothing,
            (false, true) => Share::FadeIn,
            (true, true) => Share::Whole,
            (true, false) => Share::FadeOut,
        }
    }

    fn smoothed(&self, level: f32) -> f32 {
        if self.loudness <= SILENCE_DB {
            return level;
        }
        let share = if level > self.loudness { RISE } else { FALL };
        self.loudness + share * (level - self.loudness)
    }

    /// How well it defends its place: not at all once it is silent.
    const fn defence(&self) -> f32 {
        if self.active {
            self.loudness
        } else {
            SILENCE_DB
        }
    }
}

/// Gives the floor to at most [`TALKERS_MAX`] members, after each has been heard.
pub(super) fn choose(floors: &mut [Floor]) {
    let mut free = TALKERS_MAX.saturating_sub(floors.iter().filter(|floor| floor.on).count());
    while free > 0 {
        let Some(next) = loudest(floors, |floor| floor.active && !floor.on) else {
            break;
        };
        next.on = true;
        next.challenge = 0;
        free -= 1;
    }
    if free == 0 {
        challenge(floors);
    }
}

/// All seats are taken: whoever is clearly louder than the weakest talker counts his frames, and
/// the loudest who has enough of them takes that seat.
fn challenge(floors: &mut [Floor]) {
    let defences = floors.iter().filter(|floor| floor.on).map(Floor::defence);
    let bar = defences.fold(f32::INFINITY, f32::min) + CHALLENGE_DB;
    for floor in floors.iter_mut().filter(|floor| !floor.on) {
        let louder = floor.active && floor.loudness >= bar;
        floor.challenge = if louder {
            floor.challenge.saturating_add(1)
        } else {
            0
        };
    }
    let Some(winner) = loudest(floors, |floor| floor.challenge >= CHALLENGE_FRAMES) else {
        return;
    };
    winner.on = true;
    winner.challenge = 0;
    let was_talking = floors.iter_mut().filter(|floor| floor.on && floor.was_on);
    if let Some(loser) = was_talking.min_by(|a, b| a.defence().total_cmp(&b.defence())) {
        loser.on = false;
    }
}

fn loudest(floors: &mut [Floor], wanted: impl Fn(&Floor) -> bool) -> Option<&mut Floor> {
    let candidates = floors.iter_mut().filter(|floor| wanted(floor));
    candidates.max_by(|a, b| a.loudness.total_cmp(&b.loudness))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick(floors: &mut [Floor], levels: &[f32]) -> Vec<usize> {
        for (floor, level) in floors.iter_mut().zip(levels) {
            floor.hear(*level > -60.0, Decibels(*level));
        }
        choose(floors);
        (0..floors.len()).filter(|n| floors[*n].on).collect()
    }

    #[test]
    fn the_eight_loudest_of_ten_are_heard() {
        let levels = [
            -20.0, -31.0, -22.0, -23.0, -24.0, -30.0, -26.0, -27.0, -28.0, -29.0,
        ];
        let mut floors = [Floor::default(); 10];
        assert_eq!(tick(&mut floors, &levels), [0, 2, 3, 4, 6, 7, 8, 9]);
    }

    #[test]
    fn noise_alone_is_not_summed() {
        let mut floors = [Floor::default(); 3];
        assert_eq!(tick(&mut floors, &[-70.0, -20.0, -65.0]), [1]);
        assert_eq!(floors[0].share(), Share::Nothing);
    }

    #[test]
    fn a_talker_is_not_replaced_by_one_who_is_a_little_louder() {
        let mut floors = [Floor::default(); 9];
        let mut levels = [-30.0; 9];
        levels[8] = -35.0;
        tick(&mut floors, &levels);
        levels[8] = -27.0;
        for _ in 0..200 {
            assert_eq!(tick(&mut floors, &levels), [0, 1, 2, 3, 4, 5, 6, 7]);
        }
    }

    #[test]
    fn a_clearly_louder_voice_takes_the_weakest_seat_after_a_while() {
        let mut floors = [Floor::default(); 9];
        let mut levels = [-30.0; 9];
        levels[3] = -33.0;
        levels[8] = -50.0;
        tick(&mut floors, &levels);
        levels[8] = -15.0;
        let taken = (1..50)
            .find(|_| tick(&mut floors, &levels).contains(&8))
            .unwrap();
        assert!((5..=12).contains(&taken), "after {taken} frames");
        assert_eq!(
            (floors[3].share(), floors[8].share()),
            (Share::FadeOut, Share::FadeIn)
        );
        tick(&mut floors, &levels);
        assert_eq!(
            (floors[3].share(), floors[8].share()),
            (Share::Nothing, Share::Whole)
        );
    }

    #[test]
    fn a_pause_keeps_the_floor_and_a_longer_one_fades_out_once() {
        let mut floors = [Floor::default()];
        tick(&mut floors, &[-20.0]);
        assert_eq!(floors[0].share(), Share::FadeIn);
        for _ in 0..14 {
            tick(&mut floors, &[-90.0]);
            assert_eq!(floors[0].share(), Share::Whole);
        }
        tick(&mut floors, &[-90.0]);
        assert_eq!(floors[0].share(), Share::FadeOut);
        tick(&mut floors, &[-90.0]);
        assert_eq!(floors[0].share(), Share::Nothing);
    }

    #[test]
    fn who_must_not_be_heard_fades_out_and_stays_out() {
        let mut floors = [Floor::default()];
        tick(&mut floors, &[-20.0]);
        floors[0].close();
        choose(&mut floors);
        assert_eq!(floors[0].share(), Share::FadeOut);
        floors[0].close();
        choose(&mut floors);
        assert_eq!(floors[0].share(), Share::Nothing);
    }
}
