//! Whether the levels that a sender tells are true (RFC 6464 section 8: they need not be). Each packet
//! that is decoded is compared with what was said of it; who is once found to be much louder than he
//! says is not believed any more.

use crate::media::audio_level::AudioLevel;
use crate::media::voice::energy;
use crate::units::Decibels;

/// One sender's word, held against what he sends.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// Of the packet before, whether it was decoded or not: a decoder is some milliseconds behind.
    before: Option<AudioLevel>,
    credit: Credit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Credit {
    /// So many packets in a row were no louder than told.
    True(u8),
    /// One was.
    Lost,
}

impl Default for Credit {
    fn default() -> Self {
        Self::True(0)
    }
}

impl Claims {
    /// A packet was decoded to `pcm`.
    pub(super) fn compare(&mut self, told: Option<AudioLevel>, pcm: &[i16]) {
        let before = std::mem::replace(&mut self.before, told);
        let (Some(told), Some(before)) = (told, before) else {
            return;
        };
        let Credit::True(times) = self.credit else {
            return;
        };
        let most = told.decibels().0.max(before.decibels().0) + TOLERANCE;
        let mean = energy(pcm, f32::from) / pcm.len().max(1) as f32;
        let level = Decibels::from_power(mean / (32_768.0 * 32_768.0));
        self.credit = if level.0 <= most.max(HARMLESS) {
            Credit::True(times.saturating_add(1))
        } else {
            Credit::Lost
        };
    }

    /// A packet was left out.
    pub(super) const fn note(&mut self, told: Option<AudioLevel>) {
        self.before = told;
    }

    /// What came before this packet isn't known.
    pub(super) const fn interrupt(&mut self) {
        self.before = None;
    }

    /// The level told, where it may be relied on.
    pub(super) fn trusted(&self, told: Option<AudioLevel>) -> Option<Decibels> {
        match self.credit {
            Credit::True(times) if times >= TIMES => told.map(AudioLevel::decibels),
            Credit::True(_) | Credit::Lost => None,
        }
    }
}

/// dB: a full scale defined otherwise, and what coding adds.
const TOLERANCE: f32 = 9.0;
/// dBFS: whatever is told, nobody would hear this, and a coder's own noise lies below.
const HARMLESS: f32 = -70.0;
/// Packets: half a second of 20 ms.
const TIMES: u8 = 25;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::rtp::RtpExtension;

    fn told(below: u8) -> Option<AudioLevel> {
        let data = &[0x10, below, 0, 0];
        AudioLevel::read(
            1,
            RtpExtension {
                profile: 0xBEDE,
                data,
            },
        )
    }

    fn believed(packets: &[(Option<AudioLevel>, i16)]) -> bool {
        let mut claims = Claims::default();
        for (told, amplitude) in packets {
            claims.compare(*told, &[*amplitude; 160]);
        }
        claims.trusted(told(60)).is_some()
    }

    #[test]
    fn a_sender_is_believed_after_half_a_second_of_true_levels_and_never_after_a_false_one() {
        // 58 is -55 dBFS, 3300 is -20 dBFS.
        let honest = vec![(told(55), 58); 26];
        assert!(believed(&honest));
        assert!(!believed(&honest[1..]));
        let liar = [honest.clone(), vec![(told(55), 3_300); 2], honest].concat();
        assert!(!believed(&liar));
    }

    #[test]
    fn the_end_of_a_word_that_comes_out_a_packet_later_is_no_lie() {
        let quiet = vec![(told(55), 58); 26];
        let word = [(told(20), 3_300), (told(55), 1_900)];
        assert!(believed(&[&quiet[..], &word, &quiet].concat()));
        // After a loss nobody knows what came before.
        let loss = [(None, 0), (told(55), 3_300)];
        assert!(believed(&[&quiet[..], &loss, &quiet].concat()));
    }

    #[test]
    fn digital_silence_that_a_decoder_fills_with_a_little_noise_is_no_lie() {
        assert!(believed(&[(told(127), 8); 26]));
        assert!(!believed(&[(told(127), 58); 26]));
    }
}
