//! How much may be sent to where nobody has shown yet that he is: little more than comes from there, until a report
//! tells that ours arrives (RFC 3550 section 6.4.2).

/// What packets from there have paid for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Consent {
    frames: u16,
    is_given: bool,
    /// The peer has been elsewhere, and knows by what name (SSRC) to report on us.
    has_moved: bool,
}

impl Consent {
    /// Audio came from there.
    pub(super) fn note_packet(&mut self) {
        self.frames = (self.frames + FRAMES_PER_PACKET).min(FRAMES_MAX);
    }

    /// A report came from there, on what only who got it can name.
    pub(super) const fn note_report(&mut self) {
        self.is_given = !self.has_moved;
    }

    /// Signalling names another place.
    pub(super) const fn move_on(&mut self) {
        *self = Self {
            frames: 0,
            is_given: false,
            has_moved: true,
        };
    }

    /// May a frame be sent?
    pub(super) const fn covers_a_frame(&self) -> bool {
        self.is_given || self.frames > 0
    }

    /// One was.
    pub(super) const fn spend(&mut self) {
        self.frames = self.frames.saturating_sub(1);
    }
}

/// Packets of 60 ms are three frames, and a telephone may be silent while nobody speaks.
const FRAMES_PER_PACKET: u16 = 6;
/// Five seconds.
const FRAMES_MAX: u16 = 250;

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(consent: &mut Consent) -> usize {
        let one = |consent: &mut Consent| consent.covers_a_frame().then(|| consent.spend());
        (0..1_000).map_while(|_| one(consent)).count()
    }

    #[test]
    fn packets_pay_for_a_few_frames_each_and_a_report_for_all() {
        let mut consent = Consent::default();
        assert_eq!(sent(&mut consent), 0);
        consent.note_packet();
        assert_eq!(sent(&mut consent), 6);
        (0..500).for_each(|_| consent.note_packet());
        assert_eq!(sent(&mut consent), 250);
        consent.note_report();
        assert_eq!(sent(&mut consent), 1_000);
        // He knows us now, and says that he is somewhere else.
        consent.move_on();
        consent.note_report();
        assert_eq!(sent(&mut consent), 0);
        consent.note_packet();
        assert_eq!(sent(&mut consent), 6);
    }
}
