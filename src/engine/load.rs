//! Can the media threads take more? New calls are refused before the sound of those that are there
//! suffers.
//!
//! A thread is measured by the processor time it uses, and by how late it wakes up. A machine that
//! stands still for a while makes one wake-up very late; only one that is short of time makes many
//! late, second after second.

use std::time::{Duration, Instant};

use crate::engine::health::{LATENESS_BOUNDS, ThreadHealth};
use crate::engine::thread::TICK;

/// Watches all threads of an engine. Without a clock: whoever observes says when.
#[derive(Debug)]
pub(super) struct LoadWatch {
    busy_max: f32,
    last: Option<Instant>,
    threads: Vec<ThreadLoad>,
    overload: Option<Overload>,
}

/// Why no further call is taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Overload {
    /// With one leg more this thread would use more than its share of a core.
    Busy {
        /// Which.
        thread: usize,
        /// The share that it would use, 0 to 1.
        share: f32,
    },
    /// This thread is woken too late again and again, or so late that frames are left out.
    Late {
        /// Which.
        thread: usize,
        /// The share of its wake-ups that are, or of the time that is left out, 0 to 1.
        share: f32,
    },
}

/// What became of the overload.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Change {
    Began(Overload),
    Ended,
}

/// One thread, as it was observed last.
#[derive(Debug, Clone, Copy, Default)]
struct ThreadLoad {
    cpu: Duration,
    wakes: u64,
    late: u64,
    skipped: u64,
    /// Smoothed share of a core.
    busy: f32,
    /// Smoothed share of a core for each leg; `None` while there are few.
    cost: Option<f32>,
    /// Legs that it was measured with.
    legs: usize,
    late_share: f32,
    /// Observations in a row with too many late wake-ups.
    late_in_a_row: u32,
}

impl LoadWatch {
    /// Nothing is measured yet. Above a share of `busy_max` the least busy thread takes no more.
    pub(super) const fn new(busy_max: f32) -> Self {
        Self {
            busy_max,
            last: None,
            threads: Vec::new(),
            overload: None,
        }
    }

    /// Takes a measurement, at least [`WINDOW`] after the last one.
    pub(super) fn observe(&mut self, now: Instant, threads: &[ThreadHealth]) -> Option<Change> {
        let Some(last) = self.last else {
            self.last = Some(now);
            self.threads = threads.iter().map(ThreadLoad::begin).collect();
            return None;
        };
        let passed = now.saturating_duration_since(last);
        if passed < WINDOW {
            return None;
        }
        self.last = Some(now);
        for (load, health) in self.threads.iter_mut().zip(threads) {
            load.measure(passed, health);
        }
        let legs: Vec<usize> = threads.iter().map(|thread| thread.legs).collect();
        self.judge(&legs)
    }

    /// Looks at legs that came since the last measurement, each expected to cost what the others
    /// do.
    pub(super) fn judge(&mut self, legs: &[usize]) -> Option<Change> {
        // What has begun ends only well below the limit.
        let slack = if self.overload.is_some() { SLACK } else { 0.0 };
        let found = self.late().or_else(|| self.busy(legs, slack));
        match (self.overload, found) {
            (None, Some(overload)) => {
                self.overload = found;
                Some(Change::Began(overload))
            }
            (Some(_), None) => {
                self.overload = None;
                Some(Change::Ended)
            }
            (Some(_), Some(_)) | (None, None) => {
                self.overload = found;
                None
            }
        }
    }

    /// Why no further call is taken now, if so.
    pub(super) const fn overload(&self) -> Option<Overload> {
        self.overload
    }

    /// What a thread is expected to use with so many legs.
    pub(super) fn expected(&self, thread: usize, legs: usize) -> f32 {
        let load = self.threads.get(thread).copied().unwrap_or_default();
        let more = legs.saturating_sub(load.legs) as f32;
        // Of legs that have just come the smoothed share doesn't know all yet.
        let cost = load.cost_per_leg();
        load.busy.max(load.legs as f32 * cost) + more * cost
    }

    /// Smoothed share of a core that a thread uses.
    pub(super) fn busy_share(&self, thread: usize) -> f32 {
        self.threads.get(thread).map_or(0.0, |load| load.busy)
    }

    fn late(&self) -> Option<Overload> {
        let late = |load: &ThreadLoad| load.late_in_a_row >= LATE_WINDOWS;
        let thread = self.threads.iter().position(late)?;
        let share = self.threads.get(thread)?.late_share;
        Some(Overload::Late { thread, share })
    }

    /// The next leg begins on the least busy thread, but its meeting may be on any other.
    fn busy(&self, legs: &[usize], slack: f32) -> Option<Overload> {
        let expected = legs.iter().enumerate().map(|(thread, legs)| {
            let share = self.expected(thread, legs + 1);
            (thread, share)
        });
        let by_share = |a: &(usize, f32), b: &(usize, f32)| a.1.total_cmp(&b.1);
        let (thread, share) = expected.clone().max_by(by_share)?;
        let least = expected.min_by(by_share)?;
        if share > self.busy_max + RESERVE - slack {
            return Some(Overload::Busy { thread, share });
        }
        let (thread, share) = least;
        (share > self.busy_max - slack).then_some(Overload::Busy { thread, share })
    }
}

impl ThreadLoad {
    fn begin(health: &ThreadHealth) -> Self {
        let mut load = Self::default();
        load.take(health);
        load
    }

    fn take(&mut self, health: &ThreadHealth) {
        self.cpu = health.cpu;
        self.wakes = health.lateness.iter().sum();
        self.late = late_wakes(health);
        self.skipped = health.skipped;
        self.legs = health.legs;
    }

    fn measure(&mut self, passed: Duration, health: &ThreadHealth) {
        let before = *self;
        self.take(health);
        let used = self.cpu.saturating_sub(before.cpu).as_secs_f32() / passed.as_secs_f32();
        self.busy += (used - self.busy) * SMOOTHING;
        self.learn_cost(used, before.legs);
        let wakes = self.wakes.saturating_sub(before.wakes).max(1);
        let late = self.late.saturating_sub(before.late);
        let late = if late >= LATE_WAKES_MIN { late } else { 0 };
        let skipped = self.skipped.saturating_sub(before.skipped) as f32;
        let left_out = skipped * TICK.as_secs_f32() / passed.as_secs_f32();
        self.late_share = left_out.max(late as f32 / wakes as f32);
        let is_late = self.late_share > LATE_SHARE_MAX;
        self.late_in_a_row = if is_late { self.late_in_a_row + 1 } else { 0 };
    }

    /// What one leg more costs: what those there do, or a guess while there are few.
    fn cost_per_leg(&self) -> f32 {
        self.cost.unwrap_or(COST_GUESSED)
    }

    /// So much was used since there were `before` legs. Where many have come or gone meanwhile nobody knows for
    /// how many it was: not for fewer than the least, nor for more than the most.
    fn learn_cost(&mut self, used: f32, before: usize) {
        if self.legs < LEGS_TO_LEARN_FROM {
            self.cost = None;
            return;
        }
        let (least, most) = (before.min(self.legs), before.max(self.legs));
        let per_leg = |legs: usize| used / legs as f32;
        let old = self.cost_per_leg();
        let is_steady = (most - least) * CHANGED_LEAST <= most;
        self.cost = Some(if is_steady {
            let weight = self.cost.map_or(1.0, |_| SMOOTHING);
            old + (per_leg(self.legs) - old) * weight
        } else if least == 0 {
            old.max(per_leg(most))
        } else {
            old.clamp(per_leg(most), per_leg(least))
        });
    }
}

/// Wake-ups more than a whole frame late.
fn late_wakes(health: &ThreadHealth) -> u64 {
    health.lateness[LATENESS_BOUNDS.len()]
}

/// Between two measurements.
const WINDOW: Duration = Duration::from_millis(500);
/// Weight of the newest measurement.
const SMOOTHING: f32 = 0.5;
/// How much more any one thread may be used before it refuses for all: whoever calls may belong to
/// a meeting there.
const RESERVE: f32 = 0.15;
/// How far below a limit overload ends.
const SLACK: f32 = 0.10;
/// Share of wake-ups in one measurement that may be more than a frame late, and of the time that may be left out.
const LATE_SHARE_MAX: f32 = 0.10;
/// One stop of the machine makes one late wake-up, or a few.
const LATE_WAKES_MIN: u64 = 5;
/// Measurements in a row with more than that: three seconds.
const LATE_WINDOWS: u32 = 6;
/// With fewer legs a thread says little about what one costs.
const LEGS_TO_LEARN_FROM: usize = 8;
/// A tenth of them is many.
const CHANGED_LEAST: usize = 10;
/// Share of a core for a leg: five of G.711, a tenth of one that talks in Opus.
const COST_GUESSED: f32 = 0.001;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::health::Counters;
    use crate::media::seeded;

    /// Threads with given figures, measured every half second.
    struct Scene {
        watch: LoadWatch,
        now: Instant,
        threads: Vec<ThreadHealth>,
    }

    impl Scene {
        fn new(threads: usize) -> Self {
            let mut scene = Self {
                watch: LoadWatch::new(0.7),
                now: seeded::start(),
                threads: vec![Counters::default().read(); threads],
            };
            assert_eq!(scene.watch.observe(scene.now, &scene.threads), None);
            scene
        }

        /// Half a second in which each thread uses that share and is woken 100 times.
        fn pass(&mut self, shares: &[f32], late: u64) -> Option<Change> {
            self.now += WINDOW;
            for (thread, share) in self.threads.iter_mut().zip(shares) {
                thread.cpu += WINDOW.mul_f32(*share);
                thread.lateness[0] += 100 - late;
                thread.lateness[LATENESS_BOUNDS.len()] += late;
            }
            self.watch.observe(self.now, &self.threads)
        }

        /// So many legs that use that share, for long enough to know it.
        fn settle(&mut self, legs: &[usize], shares: &[f32]) {
            self.legs(legs);
            for _ in 0..10 {
                self.pass(shares, 0);
            }
        }

        fn legs(&mut self, legs: &[usize]) {
            for (thread, legs) in self.threads.iter_mut().zip(legs) {
                thread.legs = *legs;
            }
        }

        fn judge(&mut self, legs: &[usize]) -> bool {
            self.watch.judge(legs);
            self.watch.overload().is_some()
        }
    }

    #[test]
    fn a_busy_thread_refuses_before_it_is_full_and_says_begin_and_end_once() {
        let mut scene = Scene::new(1);
        scene.legs(&[600]);
        for _ in 0..10 {
            assert_eq!(scene.pass(&[0.6], 0), None);
        }
        let began = std::iter::repeat_with(|| scene.pass(&[0.75], 0))
            .take(10)
            .flatten()
            .collect::<Vec<_>>();
        assert!(
            matches!(began[..], [Change::Began(Overload::Busy { thread: 0, share })] if share > 0.7),
            "{began:?}"
        );
        for _ in 0..10 {
            assert_eq!(scene.pass(&[0.65], 0), None, "not yet well below");
        }
        let ended: Vec<_> = (0..10).filter_map(|_| scene.pass(&[0.5], 0)).collect();
        assert_eq!(ended, [Change::Ended]);
    }

    #[test]
    fn calls_that_came_since_the_measurement_count_as_much_as_the_others() {
        let mut scene = Scene::new(1);
        scene.settle(&[500], &[0.5]);
        assert!(!scene.judge(&[690]));
        assert!(scene.judge(&[701]), "a thousandth each");
    }

    #[test]
    fn an_idle_node_takes_a_burst_but_not_any() {
        let mut scene = Scene::new(1);
        scene.pass(&[0.01], 0);
        assert!(!scene.judge(&[600]));
        assert!(scene.judge(&[800]));
    }

    #[test]
    fn one_busy_thread_of_several_leaves_room_for_meetings_elsewhere_up_to_a_point() {
        let mut scene = Scene::new(2);
        scene.legs(&[800, 100]);
        for _ in 0..10 {
            assert_eq!(scene.pass(&[0.8, 0.1], 0), None);
        }
        let change = (0..10).find_map(|_| scene.pass(&[0.9, 0.1], 0));
        assert!(
            matches!(
                change,
                Some(Change::Began(Overload::Busy { thread: 0, .. }))
            ),
            "{change:?}"
        );
    }

    #[test]
    fn late_again_and_again_is_overload_and_a_machine_that_stood_still_is_not() {
        let mut scene = Scene::new(1);
        for _ in 0..3 {
            assert_eq!(scene.pass(&[0.1], 100), None, "a second and a half");
        }
        assert_eq!(scene.pass(&[0.1], 0), None);
        // Stops of seconds: a single wake-up each, however long it was.
        for _ in 0..20 {
            scene.now += Duration::from_secs(3);
            assert_eq!(scene.pass(&[0.1], 1), None);
        }
        let changes: Vec<_> = (0..10).filter_map(|_| scene.pass(&[0.1], 30)).collect();
        assert_eq!(
            changes,
            [Change::Began(Overload::Late {
                thread: 0,
                share: 0.3
            })]
        );
        assert_eq!(scene.pass(&[0.1], 0), Some(Change::Ended));
    }

    #[test]
    fn whoever_is_kept_from_running_a_part_of_the_time_is_late_however_rarely_he_wakes() {
        // Stopped for 50 of every 100 ms, and for 80 of every 150.
        for (late, skipped) in [(5, 35), (3, 42)] {
            let mut scene = Scene::new(1);
            let changes: Vec<_> = (0..10)
                .filter_map(|_| {
                    scene.threads[0].skipped += skipped;
                    scene.pass(&[0.1], late)
                })
                .collect();
            let share = skipped as f32 / 100.0;
            let began = Change::Began(Overload::Late { thread: 0, share });
            assert_eq!(changes, [began]);
            assert_eq!(scene.pass(&[0.1], 0), Some(Change::Ended));
        }
    }

    #[test]
    fn when_most_have_left_the_few_that_stay_are_not_taken_for_dear() {
        let mut scene = Scene::new(1);
        scene.settle(&[600], &[0.6]);
        scene.legs(&[10]);
        scene.pass(&[0.5], 0);
        assert!(!scene.judge(&[80]));
        scene.pass(&[0.02], 0);
        assert!(!scene.judge(&[80]));
    }

    #[test]
    fn when_many_cheap_ones_come_they_are_not_taken_for_as_dear_as_the_few_before() {
        let mut scene = Scene::new(1);
        scene.settle(&[8], &[0.08]);
        for legs in (17..200).step_by(9) {
            scene.legs(&[legs]);
            let used = 0.08 + legs as f32 * 0.0002;
            assert_eq!(scene.pass(&[used], 0), None, "{legs}");
        }
        assert!(scene.watch.expected(0, 200) < 0.25);
    }

    #[test]
    fn who_comes_in_a_storm_is_counted_before_it_is_measured() {
        let mut scene = Scene::new(1);
        scene.pass(&[0.0], 0);
        // 500 within half a second, of which half had to be served on average.
        scene.legs(&[500]);
        scene.pass(&[0.25], 0);
        assert!(scene.watch.expected(0, 600) > 0.55);
        assert!(scene.judge(&[720]));
    }

    #[test]
    fn measurements_too_close_together_are_not_taken() {
        let mut scene = Scene::new(1);
        scene.threads[0].cpu += Duration::from_secs(1);
        scene.now += Duration::from_millis(10);
        assert_eq!(scene.watch.observe(scene.now, &scene.threads), None);
        assert!(scene.watch.busy_share(0) < 0.01);
    }

    #[test]
    fn what_a_thread_is_expected_to_use_follows_its_legs() {
        let mut scene = Scene::new(2);
        scene.legs(&[100, 100]);
        for _ in 0..12 {
            scene.pass(&[0.2, 0.4], 0);
        }
        assert!(scene.watch.expected(0, 150) < scene.watch.expected(1, 100));
        assert!(scene.watch.expected(0, 250) > scene.watch.expected(1, 100));
    }
}
