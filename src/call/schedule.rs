//! Booked times are wall times, time-outs are monotonic. A booked time is converted once and counts
//! only when both clocks have reached it: a wall clock that jumps ends nothing early.

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// A booked time to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Alarm {
    at: Timestamp,
    due: Instant,
}

impl Alarm {
    /// Rings at `at`; `None` if that is not in the future.
    pub(super) fn set(now: Instant, wall: Timestamp, at: Timestamp) -> Option<Self> {
        (wall < at).then(|| Self {
            at,
            due: now + until(wall, at),
        })
    }

    /// Have both clocks reached it? Where the wall clock lags, looks again when it should be there.
    pub(super) fn rings(&mut self, now: Instant, wall: Timestamp) -> bool {
        if now < self.due {
            return false;
        }
        if wall < self.at {
            self.due = now + until(wall, self.at);
            return false;
        }
        true
    }

    /// When to look.
    pub(super) const fn due(&self) -> Instant {
        self.due
    }
}

/// What happens towards the end of a meeting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndStage {
    /// "The meeting ends in 5 minutes."
    FiveMinutes,
    /// "The meeting ends in 1 minute."
    OneMinute,
    /// It is over.
    Over,
}

impl EndStage {
    const ALL: [Self; 3] = [Self::FiveMinutes, Self::OneMinute, Self::Over];

    const fn next(self) -> Self {
        match self {
            Self::FiveMinutes => Self::OneMinute,
            Self::OneMinute | Self::Over => Self::Over,
        }
    }

    const fn before_end(self) -> Duration {
        match self {
            Self::FiveMinutes => Duration::from_secs(5 * 60),
            Self::OneMinute => Duration::from_secs(60),
            Self::Over => Duration::ZERO,
        }
    }
}

/// The way to the end of a meeting that has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EndSchedule {
    end: Timestamp,
    alarm_at: Instant,
    left_then: Duration,
    next: EndStage,
}

impl EndSchedule {
    /// Of a meeting that is over at `end`. What should have been announced already is left out.
    pub(super) fn new(now: Instant, wall: Timestamp, end: Timestamp) -> Self {
        let left = until(wall, end);
        let next = EndStage::ALL
            .into_iter()
            .find(|stage| stage.before_end() <= left);
        Self {
            end,
            alarm_at: now,
            left_then: left,
            next: next.unwrap_or(EndStage::Over),
        }
    }

    /// The stage that is reached now, if one is.
    pub(super) fn step(&mut self, now: Instant, wall: Timestamp) -> Option<EndStage> {
        if now < self.due() {
            return None;
        }
        if until(wall, self.end) > self.next.before_end() {
            *self = Self::new(now, wall, self.end);
            return None;
        }
        // After a long stall only the last of several stages counts.
        let mut reached = self.next;
        while reached != EndStage::Over
            && now >= self.due_of(reached.next())
            && until(wall, self.end) <= reached.next().before_end()
        {
            reached = reached.next();
        }
        self.next = reached.next();
        Some(reached)
    }

    /// When to look.
    pub(super) fn due(&self) -> Instant {
        self.due_of(self.next)
    }

    fn due_of(&self, stage: EndStage) -> Instant {
        self.alarm_at + self.left_then.saturating_sub(stage.before_end())
    }
}

/// From `wall` to `at`; zero if that has passed. Bounded, because a monotonic clock is: whoever
/// waits looks at the wall clock again.
fn until(wall: Timestamp, at: Timestamp) -> Duration {
    let left = Duration::try_from(at.duration_since(wall)).unwrap_or(Duration::ZERO);
    left.min(LOOK_AHEAD_MAX)
}

const LOOK_AHEAD_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(
        clippy::disallowed_methods,
        reason = "any instant will do to count from"
    )]
    fn start() -> (Instant, Timestamp) {
        (Instant::now(), "2026-03-02T10:00:00Z".parse().unwrap())
    }

    fn minutes(n: u64) -> Duration {
        Duration::from_secs(n * 60)
    }

    #[test]
    fn an_alarm_needs_both_clocks() {
        let (now, wall) = start();
        let mut alarm = Alarm::set(now, wall, wall + minutes(10)).unwrap();
        assert!(
            !alarm.rings(now + minutes(9), wall + minutes(600)),
            "the wall clock jumped ahead"
        );
        assert!(
            !alarm.rings(now + minutes(10), wall + minutes(4)),
            "it was set back"
        );
        assert_eq!(alarm.due(), now + minutes(16));
        assert!(alarm.rings(now + minutes(16), wall + minutes(10)));
        assert_eq!(Alarm::set(now, wall, wall), None);
    }

    #[test]
    fn the_end_comes_in_three_stages() {
        let (now, wall) = start();
        let mut schedule = EndSchedule::new(now, wall, wall + minutes(60));
        for (minute, stage) in [
            (55, EndStage::FiveMinutes),
            (59, EndStage::OneMinute),
            (60, EndStage::Over),
        ] {
            let just_before = minutes(minute) - Duration::from_millis(1);
            assert_eq!(schedule.step(now + just_before, wall + just_before), None);
            assert_eq!(schedule.due(), now + minutes(minute));
            let step = schedule.step(now + minutes(minute), wall + minutes(minute));
            assert_eq!(step, Some(stage));
        }
    }

    #[test]
    fn what_is_past_is_not_announced() {
        let (now, wall) = start();
        let due = |left: u64| EndSchedule::new(now, wall, wall + Duration::from_secs(left)).due();
        assert_eq!(due(300), now, "exactly five minutes are announced");
        assert_eq!(due(299), now + Duration::from_secs(239));
        assert_eq!(due(59), now + Duration::from_secs(59));
        assert_eq!(EndSchedule::new(now, wall, wall - minutes(3)).due(), now);
    }

    #[test]
    fn a_jump_of_the_wall_clock_ends_nothing_early() {
        let (now, wall) = start();
        let mut schedule = EndSchedule::new(now, wall, wall + minutes(60));
        let ahead = wall + minutes(1_000);
        assert_eq!(schedule.step(now + minutes(54), ahead), None);
        assert_eq!(
            schedule.step(now + minutes(55), ahead),
            Some(EndStage::FiveMinutes)
        );
        assert_eq!(schedule.step(now + minutes(56), ahead), None);
        assert_eq!(
            schedule.step(now + minutes(59), ahead),
            Some(EndStage::OneMinute)
        );
        assert_eq!(
            schedule.step(now + minutes(60), ahead),
            Some(EndStage::Over)
        );
    }

    #[test]
    fn a_wall_clock_set_back_puts_the_end_off() {
        let (now, wall) = start();
        let mut schedule = EndSchedule::new(now, wall, wall + minutes(60));
        assert_eq!(schedule.step(now + minutes(55), wall + minutes(25)), None);
        assert_eq!(schedule.due(), now + minutes(85));
    }

    #[test]
    fn after_a_stall_only_the_last_stage_counts() {
        let (now, wall) = start();
        let mut schedule = EndSchedule::new(now, wall, wall + minutes(60));
        let step = schedule.step(now + minutes(61), wall + minutes(61));
        assert_eq!(step, Some(EndStage::Over));
    }
}
