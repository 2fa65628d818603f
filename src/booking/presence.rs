//! Who is in which meeting, as far as it was told: what a process that is killed leaves behind, so that its
//! next one can tell the end of it.

use jiff::SignedDuration;
use serde_json::Value;
use uuid::Uuid;

use crate::booking::admission::MeetingId;

/// Who tells what happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Teller {
    /// `node.name`.
    pub node: String,
    /// Another one after each start.
    pub process: Uuid,
    /// Where it lives, if it lives there alone: all others that lived there are dead.
    pub home: Option<Uuid>,
}

/// Of a meeting, what an earlier process of this node told the beginning of and not the end.
#[derive(Debug, Clone, PartialEq)]
pub struct LeftBehind {
    /// Which meeting.
    pub meeting: MeetingId,
    /// Who was in it or waited, as was told of him last.
    pub participants: Vec<Value>,
    /// It was live.
    pub was_live: bool,
}

/// Whose end is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutOff {
    /// Of those whose calls ended with the process. An Asterisk may still hold its own.
    WithTheProcess,
    /// Of all: whoever was to be found again has been.
    All,
}

impl LeftBehind {
    /// Takes out those who may still be found again; while there are any, the meeting may go on.
    #[must_use]
    pub fn of(mut self, whom: CutOff) -> Self {
        if whom == CutOff::WithTheProcess {
            let before = self.participants.len();
            let is_held = |one: &Value| one["kind"] == HELD_BY_ASTERISK;
            self.participants.retain(|one| !is_held(one));
            self.was_live &= self.participants.len() == before;
        }
        self
    }
}

/// Who hasn't said for so long that he lives doesn't.
pub const SILENT_FOR: SignedDuration = SignedDuration::from_secs(10);
const HELD_BY_ASTERISK: &str = "asterisk";

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn whom_an_asterisk_may_hold_is_not_gone_yet_nor_is_his_meeting() {
        let (phone, held) = (json!({"kind": "sip"}), json!({"kind": "asterisk"}));
        let left = |participants: Vec<Value>| LeftBehind {
            meeting: MeetingId(Uuid::nil()),
            participants,
            was_live: true,
        };
        let both = left(vec![phone.clone(), held]);
        let now = both.clone().of(CutOff::WithTheProcess);
        assert_eq!(
            (now.participants, now.was_live),
            (vec![phone.clone()], false)
        );
        assert_eq!(both.clone().of(CutOff::All), both);
        let phones = left(vec![phone]);
        assert_eq!(phones.clone().of(CutOff::WithTheProcess), phones);
    }
}
