//! Whose hand is on a participant's mute. Nobody is ever unmuted from afar: a host who lifts his
//! mute only lets the participant unmute himself.

use crate::booking::{Admission, Role};
use crate::call::MutedBy;

/// A participant's voice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Voice {
    /// It is heard.
    Open,
    /// It is not.
    Muted { by: MutedBy, may_unmute: bool },
}

/// What `*6` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Toggled {
    /// The voice is no longer heard.
    Muted,
    /// It is heard again.
    Unmuted,
    /// He may not unmute himself.
    NotAllowed,
}

impl Voice {
    /// As he comes in.
    pub(super) const fn at_join(admission: &Admission, muted: bool) -> Self {
        let may_unmute = match admission.role {
            Role::Host => true,
            Role::Guest => admission.guests_may_unmute,
            Role::Listener | Role::Bridge => false,
        };
        // A listener is muted whatever the room says.
        if muted || matches!(admission.role, Role::Listener) {
            Self::Muted {
                by: MutedBy::Host,
                may_unmute,
            }
        } else {
            Self::Open
        }
    }

    /// As he was before.
    pub(super) fn again(muted_by: Option<MutedBy>, may_unmute: bool) -> Self {
        muted_by.map_or(Self::Open, |by| Self::Muted { by, may_unmute })
    }

    /// `*6` would let him be heard; a voice that is heard needs nobody's leave.
    pub(super) const fn may_unmute(self) -> bool {
        match self {
            Self::Open => true,
            Self::Muted { may_unmute, .. } => may_unmute,
        }
    }

    /// `*6`.
    pub(super) const fn toggle(&mut self) -> Toggled {
        match *self {
            Self::Open => {
                *self = Self::Muted {
                    by: MutedBy::Himself,
                    may_unmute: true,
                };
                Toggled::Muted
            }
            Self::Muted {
                may_unmute: true, ..
            } => {
                *self = Self::Open;
                Toggled::Unmuted
            }
            Self::Muted {
                may_unmute: false, ..
            } => Toggled::NotAllowed,
        }
    }

    /// A host or the API mutes; tells whether that silenced him. Hosts may undo it themselves.
    pub(super) fn mute_by_host(&mut self, role: Role) -> bool {
        let was_open = *self == Self::Open;
        *self = Self::Muted {
            by: MutedBy::Host,
            may_unmute: role == Role::Host,
        };
        was_open
    }

    /// A host or the API lifts the mute: he stays muted until he presses `*6` himself.
    pub(super) fn lift_by_host(&mut self, role: Role) {
        if *self != Self::Open && role != Role::Listener {
            *self = Self::Muted {
                by: MutedBy::Himself,
                may_unmute: true,
            };
        }
    }

    /// Who muted it; `None`: it is heard.
    pub(super) const fn muted_by(self) -> Option<MutedBy> {
        match self {
            Self::Open => None,
            Self::Muted { by, .. } => Some(by),
        }
    }
}
