//! Which room somebody asks for.

use super::{Change, MeetingOptions, Wrong};
use crate::booking::meeting::CAPACITY_MAX;
use crate::booking::room::RoomRequest;

impl Wrong {
    pub(super) fn room(
        &mut self,
        change: Change<RoomRequest>,
        base: Option<&MeetingOptions>,
    ) -> Option<RoomRequest> {
        let asked = match change {
            Change::Keep => return base.and_then(|base| base.room),
            Change::Clear => return None,
            Change::Set(asked) => asked,
        };
        if let RoomRequest::AtLeast(least) = asked
            && !(1..=CAPACITY_MAX).contains(&least)
        {
            let must = format!("min_capacity must be a whole number from 1 to {CAPACITY_MAX}");
            self.add("room", "out_of_range", must);
        }
        Some(asked)
    }
}
