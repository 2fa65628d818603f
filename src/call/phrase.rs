//! What callers are told, in words that know no language; `prompts` turns them into sound.

use std::sync::Arc;

use jiff::Zoned;

use crate::booking::SpokenDigits;
use crate::media::clip::Rendition;
use crate::media::codec::Codec;
use crate::units::Voice;

/// One thing said to a caller.
#[derive(Debug, Clone, PartialEq)]
pub enum Phrase {
    /// "Welcome."
    Welcome,
    /// "You are invited to a meeting. Press 1 to join."
    Invited,
    /// "Please enter the PIN of your meeting, followed by hash."
    EnterPin,
    /// "Please key in these two digits:"
    KeyInDigits,
    /// "Four, seven."
    Digits(SpokenDigits),
    /// "That PIN is not valid."
    WrongPin,
    /// "Goodbye."
    Goodbye,
    /// "The meeting opens at ..." (the meeting's local time; the day too unless it is `today`).
    OpensAt {
        /// When it opens.
        opens_at: Box<Zoned>,
        /// The meeting opens on the day of the call.
        today: bool,
    },
    /// "This meeting is over."
    MeetingEnded,
    /// "This meeting was cancelled."
    MeetingCancelled,
    /// "This meeting is locked."
    MeetingLocked,
    /// "This meeting is full."
    MeetingFull,
    /// "All of the organiser's lines are taken. Please try again later."
    LinesTaken,
    /// "The organiser's telephone minutes for this month are used up."
    MinutesUsedUp,
    /// "This meeting can't be reached from this number."
    NumberNotAllowed,
    /// "Please try again in a moment."
    TryAgainLater,
    /// "You are the only participant."
    OnlyParticipant,
    /// "There are N others in the meeting" (N >= 1).
    OthersPresent(u32),
    /// "There are N participants" (`*#`; N >= 1, with oneself).
    HeadCount(u32),
    /// "The meeting has not begun yet, please wait."
    WaitForStart,
    /// "Please wait for the host."
    WaitForHost,
    /// "You are muted."
    Muted,
    /// "You are no longer muted."
    Unmuted,
    /// "The host has muted you; press star six to speak" or that it is not allowed.
    UnmuteNotAllowed,
    /// What the keys do (`*1`).
    KeysHelp,
    /// "The meeting ends in N minutes."
    EndsInMinutes(u32),
    /// "The meeting ends now."
    EndsNow,
    /// A call's own time limit is reached.
    TimeLimit,
    /// Short tone for everybody: somebody joined.
    JoinTone,
    /// Short tone for everybody: somebody left.
    LeaveTone,
}

/// Turns phrases into sound. Implemented by `prompts`, handed to `signalling` by `app`.
pub trait Speaker: Send + Sync {
    /// The recordings that say `phrases` in `voice`, ready for `codec`. Never empty-handed: what
    /// has no recording at all is left out and was reported at start.
    fn say(&self, voice: &Voice, phrases: &[Phrase], codec: Codec) -> Vec<Arc<Rendition>>;

    /// Waiting music, one loop.
    fn music(&self, voice: &Voice, codec: Codec) -> Arc<Rendition>;
}
