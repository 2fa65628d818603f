//! Who puts the meeting on hold often plays music to it (RFC 3264 section 8.4). Nobody in the meeting is to
//! hear that, nor what of it is still on its way when the call is taken up again.

use crate::media::parameters::Direction;

/// Is the leg on hold?
pub(super) struct Hold {
    direction: Direction,
    /// What is no hold: how it began, until both ways were agreed on.
    usual: Direction,
    on: bool,
    /// Frames that what was sent before may still take to arrive and be played.
    settling: u8,
}

impl Hold {
    /// A leg that only sends from the beginning is no hold: it is a source.
    pub(super) const fn new(direction: Direction) -> Self {
        Self {
            direction,
            usual: direction,
            on: false,
            settling: 0,
        }
    }

    pub(super) fn update(&mut self, direction: Direction) {
        if direction != self.direction {
            let was_on = self.on;
            if direction == Direction::SendRecv {
                self.usual = direction;
            }
            self.on = direction != self.usual;
            self.direction = direction;
            if was_on && !self.on {
                self.settling = SETTLING_FRAMES;
            }
        }
    }

    pub(super) const fn next_frame(&mut self) {
        self.settling = self.settling.saturating_sub(1);
    }

    /// Is it on by what was agreed on last?
    pub(super) const fn is_agreed(&self) -> bool {
        self.on
    }

    /// Is nothing of the leg to be heard yet?
    pub(super) const fn is_on(&self) -> bool {
        self.on || self.settling > 0
    }
}

/// 300 ms: the way of our answer to the peer, of its last music to us, and the jitter buffer.
const SETTLING_FRAMES: u8 = 15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn music_on_hold_is_not_heard_nor_its_end_after_the_hold() {
        let mut hold = Hold::new(Direction::SendRecv);
        for held in [
            Direction::RecvOnly,
            Direction::SendOnly,
            Direction::Inactive,
        ] {
            hold.update(held);
            assert!(hold.is_on());
        }
        hold.update(Direction::SendRecv);
        let silent = (0..100)
            .take_while(|_| {
                hold.next_frame();
                hold.is_on()
            })
            .count();
        assert_eq!(silent, 14);
    }

    #[test]
    fn a_source_that_never_listened_is_heard_also_after_a_pause() {
        let mut hold = Hold::new(Direction::RecvOnly);
        hold.update(Direction::RecvOnly);
        assert!(!hold.is_on());
        hold.update(Direction::Inactive);
        assert!(hold.is_on());
        hold.update(Direction::RecvOnly);
        (0..SETTLING_FRAMES).for_each(|_| hold.next_frame());
        assert!(!hold.is_on());
        // Who has listened once and then only sends plays music.
        hold.update(Direction::SendRecv);
        hold.update(Direction::RecvOnly);
        assert!(hold.is_on());
    }
}
