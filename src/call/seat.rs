//! A participant's place in a meeting: who he is there, and how.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::booking::admission::CallId;
use crate::booking::{Admission, ParticipantId, Role};
use crate::call::room::Outputs;
use crate::call::{MutedBy, Past, RoomNotice, RoomOutput};

/// One participant of a meeting, or one who waits for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// Names him in the API.
    pub participant: ParticipantId,
    /// His call.
    pub call: CallId,
    /// What his PIN made of him.
    pub role: Role,
    /// His name: of his personal PIN, or given by the API.
    pub name: Option<String>,
    /// Is he in?
    pub state: SeatState,
    /// When he came in, or began to wait.
    pub since: Timestamp,
    /// Who muted him; `None`: he is not muted. Written by `Rooms::set_muted`.
    pub muted_by: Option<MutedBy>,
    /// Has his hand up.
    pub hand: bool,
    /// No audio comes from him. Written by `Rooms::set_one_way`.
    pub one_way: bool,
}

/// Where somebody is on his way into a meeting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SeatState {
    /// He waits.
    Waiting,
    /// He is in.
    Joined,
}

impl Seat {
    /// For a newcomer.
    pub(super) fn new(
        wall: Timestamp,
        call: CallId,
        participant: ParticipantId,
        admission: &Admission,
    ) -> Self {
        let muted = match admission.role {
            Role::Listener => true,
            Role::Guest => admission.mute_on_join,
            Role::Host | Role::Bridge => false,
        };
        Self {
            participant,
            call,
            role: admission.role,
            name: admission.name.clone(),
            state: SeatState::Waiting,
            since: wall,
            muted_by: muted.then_some(MutedBy::Host),
            hand: false,
            one_way: false,
        }
    }

    /// For one who had it before.
    pub(super) fn again(call: CallId, past: &Past) -> Self {
        Self {
            participant: past.participant,
            call,
            role: past.role,
            name: past.name.clone(),
            state: past.state,
            since: past.since,
            muted_by: past.muted_by,
            hand: past.hand,
            one_way: false,
        }
    }

    pub(super) const fn notice(&self, notice: RoomNotice) -> RoomOutput {
        RoomOutput::Notice {
            call: self.call,
            notice,
        }
    }

    pub(super) fn tell_opened(&self, others: u32, out: &mut Outputs) {
        let (participant, muted) = (self.participant, self.muted_by.is_some());
        out.push_back(self.notice(RoomNotice::Opened {
            participant,
            others,
            muted,
        }));
        if self.muted_by == Some(MutedBy::Himself) {
            // The mute he would have come in with was lifted while he waited.
            out.push_back(self.notice(RoomNotice::MutedByHost(false)));
        }
    }
}
