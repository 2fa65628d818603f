//! Which packets were had before (RFC 3711 section 3.3.2).

/// The highest index, and which of those just below it were had.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReplayWindow {
    highest: u64,
    /// Bit n: the index n below the highest.
    had: u128,
}

impl ReplayWindow {
    /// Has had `index` only.
    pub(super) const fn starting(index: u64) -> Self {
        Self {
            highest: index,
            had: 1,
        }
    }

    pub(super) const fn highest(&self) -> u64 {
        self.highest
    }

    /// May it be a new packet? What lies too far below can't be told and may not.
    pub(super) fn may_be_new(&self, index: u64) -> bool {
        let Some(below) = self.highest.checked_sub(index) else {
            return true;
        };
        below < WINDOW && self.had & (1 << below) == 0
    }

    /// Has now had `index`.
    pub(super) fn note(&mut self, index: u64) {
        if let Some(below) = self.highest.checked_sub(index) {
            if below < WINDOW {
                self.had |= 1 << below;
            }
            return;
        }
        let step = index - self.highest;
        let shift = u32::try_from(step).unwrap_or(u32::MAX);
        self.had = self.had.checked_shl(shift).unwrap_or(0) | 1;
        self.highest = index;
    }
}

const WINDOW: u64 = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_index_is_new_once_and_too_old_ones_never() {
        let mut window = ReplayWindow::starting(1_000);
        for index in [1_001, 1_003, 1_002, 990, 874 + 2, 5_000] {
            assert!(window.may_be_new(index), "{index}");
            window.note(index);
            assert!(!window.may_be_new(index), "{index}");
        }
        assert!(!window.may_be_new(4_872));
        assert!(window.may_be_new(4_873));
        assert!(!window.may_be_new(1_001), "long ago");
    }

    #[test]
    fn a_leap_of_the_whole_window_leaves_nothing_had_behind() {
        let mut window = ReplayWindow::starting(7);
        window.note(7 + 128);
        assert!(window.may_be_new(8));
        assert!(!window.may_be_new(7));
        window.note(7 + 128 + (1 << 40));
        assert_eq!(window.highest(), 7 + 128 + (1 << 40));
    }
}
