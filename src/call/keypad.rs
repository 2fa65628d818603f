//! Commands of the keypad: every command is two keys, so one lost key never makes another command.

use std::time::{Duration, Instant};

use crate::units::Key;

/// What two keys ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    /// `*6`: mute or unmute myself.
    Mute,
    /// `*1`: what do the keys do?
    Help,
    /// `*#`: how many are here?
    HeadCount,
    /// `*9`: raise or lower my hand.
    Hand,
    /// `*3`: who is here?
    RollCall,
    /// `#4`: the others quieter.
    Quieter,
    /// `#6`: the others louder.
    Louder,
    /// `#7`: my own voice quieter.
    VoiceQuieter,
    /// `#9`: my own voice louder.
    VoiceLouder,
    /// `*8`: another language.
    Language,
    /// `##`: end the meeting for all (host).
    EndForAll,
    /// `*5`: mute or unmute all guests (host).
    MuteGuests,
    /// `*7`: lock or unlock (host).
    Lock,
    /// `*4`: admit the lobby (host).
    AdmitLobby,
    /// `#5`: recording on or off (host).
    Recording,
    /// `#3`: drop the last who came (host).
    DropLast,
    /// `#0`: tones on or off (host).
    Tones,
}

impl Command {
    const fn from_keys(first: Key, second: Key) -> Option<Self> {
        Some(match (first.as_char(), second.as_char()) {
            ('*', '6') => Self::Mute,
            ('*', '1') => Self::Help,
            ('*', '#') => Self::HeadCount,
            ('*', '9') => Self::Hand,
            ('*', '3') => Self::RollCall,
            ('#', '4') => Self::Quieter,
            ('#', '6') => Self::Louder,
            ('#', '7') => Self::VoiceQuieter,
            ('#', '9') => Self::VoiceLouder,
            ('*', '8') => Self::Language,
            ('#', '#') => Self::EndForAll,
            ('*', '5') => Self::MuteGuests,
            ('*', '7') => Self::Lock,
            ('*', '4') => Self::AdmitLobby,
            ('#', '5') => Self::Recording,
            ('#', '3') => Self::DropLast,
            ('#', '0') => Self::Tones,
            _ => return None,
        })
    }
}

/// The keys of one participant.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keypad {
    half_command: Duration,
    half: Option<(Key, Instant)>,
}

impl Keypad {
    /// A keypad whose half commands live for `half_command`.
    pub(super) const fn new(half_command: Duration) -> Self {
        Self {
            half_command,
            half: None,
        }
    }

    /// Takes a key; a command when it completes one. `*` or `#` that completes nothing begins anew.
    pub(super) fn press(&mut self, now: Instant, key: Key) -> Option<Command> {
        let half = self.half.take();
        let first = half.filter(|(_, at)| now.saturating_duration_since(*at) < self.half_command);
        let command = first.and_then(|(first, _)| Command::from_keys(first, key));
        if command.is_none() && (key == Key::STAR || key == Key::HASH) {
            self.half = Some((key, now));
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(keys: &str, gap: Duration) -> Vec<Command> {
        #[expect(
            clippy::disallowed_methods,
            reason = "any instant will do to count from"
        )]
        let mut now = Instant::now();
        let mut keypad = Keypad::new(Duration::from_secs(3));
        let keys = keys.chars().filter_map(Key::from_char);
        keys.filter_map(|key| {
            now += gap;
            keypad.press(now, key)
        })
        .collect()
    }

    #[test]
    fn two_keys_make_a_command() {
        use Command::*;
        let second = Duration::from_secs(1);
        let cases: [(&str, &[Command]); 12] = [
            ("*6", &[Mute]),
            ("*1*#", &[Help, HeadCount]),
            (
                "*9*3*8*5*7*4",
                &[Hand, RollCall, Language, MuteGuests, Lock, AdmitLobby],
            ),
            ("#4#6#7#9", &[Quieter, Louder, VoiceQuieter, VoiceLouder]),
            ("###5#3#0", &[EndForAll, Recording, DropLast, Tones]),
            ("6", &[]),
            ("6*", &[]),
            ("*26", &[]),
            ("**6", &[Mute]),
            ("#*6", &[Mute]),
            ("*A6", &[]),
            ("1234567890", &[]),
        ];
        for (keys, expected) in cases {
            assert_eq!(commands(keys, second), expected, "{keys}");
        }
    }

    #[test]
    fn half_a_command_expires_after_three_seconds() {
        assert_eq!(
            commands("*6", Duration::from_millis(2_999)),
            [Command::Mute]
        );
        assert_eq!(commands("*6", Duration::from_secs(3)), []);
        assert_eq!(commands("*#6", Duration::from_secs(3)), []);
    }
}
