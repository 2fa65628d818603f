//! What has happened in a meeting since it was last looked at.
//!
//! The rooms know nothing of who is told: whatever changes a seat, the difference is what happened. So
//! nothing that a room learns to do can be forgotten here.

use std::collections::BTreeMap;

use crate::booking::{MeetingId, ParticipantId};
use crate::call::Seat;
use crate::call::roster::{Participant, ParticipantState};

/// Remembers the meetings as it saw them last.
#[derive(Debug, Default)]
pub struct Observer {
    meetings: BTreeMap<MeetingId, Seen>,
}

/// Something that happened in a meeting.
#[derive(Debug, Clone)]
pub enum Happening {
    /// The first participant is in.
    Started,
    /// Nobody is in any more.
    Ended,
    /// Somebody waits.
    Waiting(Box<Participant>),
    /// Somebody is in.
    Joined(Box<Participant>),
    /// Somebody is gone who was in or waited.
    Left(Box<Participant>),
    /// Somebody is called, muted, heard or seen differently.
    Updated(Box<Participant>),
}

#[derive(Debug, Default)]
struct Seen {
    live: bool,
    people: BTreeMap<ParticipantId, SeenPerson>,
}

#[derive(Debug)]
struct SeenPerson {
    seat: Seat,
    last: Participant,
}

impl Observer {
    /// Looks at a meeting: is it live, who sits there? `describe` tells more of a seat; `None`: its call is gone
    /// already. Gives what happened since the last look, in the order in which it makes sense.
    pub fn look(
        &mut self,
        meeting: MeetingId,
        live: bool,
        seats: &[Seat],
        describe: impl Fn(&Seat) -> Option<Participant>,
    ) -> Vec<Happening> {
        let mut before = self.meetings.remove(&meeting).unwrap_or_default();
        let mut happened = Vec::new();
        if live && !before.live {
            happened.push(Happening::Started);
        }
        let (mut people, mut came) = (BTreeMap::new(), Vec::new());
        for seat in seats {
            let was = before.people.remove(&seat.participant);
            let seen = look_at(seat, was, &describe, &mut came);
            people.extend(seen.map(|seen| (seat.participant, seen)));
        }
        for gone in before.people.into_values() {
            let last = describe(&gone.seat).unwrap_or(gone.last);
            happened.push(Happening::Left(Box::new(last)));
        }
        happened.append(&mut came);
        if before.live && !live {
            happened.push(Happening::Ended);
        }
        if live || !people.is_empty() {
            self.meetings.insert(meeting, Seen { live, people });
        }
        happened
    }
}

/// Compares a seat with what it was.
fn look_at(
    seat: &Seat,
    was: Option<SeenPerson>,
    describe: impl Fn(&Seat) -> Option<Participant>,
    happened: &mut Vec<Happening>,
) -> Option<SeenPerson> {
    if was.as_ref().is_some_and(|was| was.seat == *seat) {
        return was;
    }
    // A call that is gone leaves its seat with its next step.
    let Some(now) = describe(seat) else {
        return was;
    };
    let boxed = Box::new(now.clone());
    let moved = was.is_none_or(|was| was.seat.state != seat.state);
    happened.push(match (moved, now.state) {
        (false, _) => Happening::Updated(boxed),
        (true, ParticipantState::Joined | ParticipantState::Reconnecting) => {
            Happening::Joined(boxed)
        }
        (true, ParticipantState::Waiting | ParticipantState::Lobby) => Happening::Waiting(boxed),
    });
    Some(SeenPerson {
        seat: seat.clone(),
        last: now,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::booking::admission::CallId;
    use crate::booking::{CallerNumber, Role};
    use crate::call::roster::Quality;
    use crate::call::{MutedBy, SeatState};
    use jiff::Timestamp;
    use uuid::Uuid;

    const MEETING: MeetingId = MeetingId(Uuid::from_u128(1));

    fn seat(number: u128, state: SeatState) -> Seat {
        Seat {
            participant: ParticipantId(Uuid::from_u128(number)),
            call: CallId(Uuid::from_u128(number)),
            role: Role::Guest,
            name: None,
            state,
            since: Timestamp::UNIX_EPOCH,
            muted_by: None,
            hand: false,
            one_way: false,
        }
    }

    fn describe(seat: &Seat) -> Option<Participant> {
        Some(Participant {
            id: seat.participant,
            name: seat.name.clone(),
            role: seat.role,
            kind: "sip",
            state: match seat.state {
                SeatState::Waiting => ParticipantState::Waiting,
                SeatState::Joined => ParticipantState::Joined,
            },
            number: CallerNumber::new("+390612345678"),
            muted: seat.muted_by.is_some(),
            muted_by: seat.muted_by,
            hand: seat.hand,
            talking: false,
            level_db: -127.0,
            joined_at: seat.since,
            codec: "PCMA",
            quality: Quality::default(),
        })
    }

    fn words(happened: &[Happening]) -> Vec<String> {
        let of = |word: &str, participant: &Participant| {
            format!("{word} {}", participant.id.0.as_u128())
        };
        let word = |happening: &Happening| match happening {
            Happening::Started => "started".to_owned(),
            Happening::Ended => "ended".to_owned(),
            Happening::Waiting(who) => of("waiting", who),
            Happening::Joined(who) => of("joined", who),
            Happening::Left(who) => of("left", who),
            Happening::Updated(who) => of("updated", who),
        };
        happened.iter().map(word).collect()
    }

    #[test]
    fn a_meeting_is_told_from_its_first_guest_to_its_last() {
        use SeatState::{Joined, Waiting};
        let mut observer = Observer::default();
        let mut look = |live, seats: &[Seat]| words(&observer.look(MEETING, live, seats, describe));
        assert_eq!(look(false, &[seat(1, Waiting)]), ["waiting 1"]);
        assert!(look(false, &[seat(1, Waiting)]).is_empty());
        let both = [seat(1, Joined), seat(2, Joined)];
        assert_eq!(look(true, &both), ["started", "joined 1", "joined 2"]);
        let mut muted = both.clone();
        muted[0].muted_by = Some(MutedBy::Host);
        assert_eq!(look(true, &muted), ["updated 1"]);
        muted[0].one_way = true;
        assert_eq!(look(true, &muted), ["updated 1"]);
        assert_eq!(look(true, &muted[1..]), ["left 1"]);
        // One is gone before anybody looked, another came.
        assert_eq!(look(true, &[seat(3, Joined)]), ["left 2", "joined 3"]);
        assert_eq!(look(false, &[]), ["left 3", "ended"]);
        assert!(look(false, &[]).is_empty());
    }

    #[test]
    fn who_is_gone_is_told_as_he_was_seen_last() {
        let mut observer = Observer::default();
        let seats = [seat(1, SeatState::Joined)];
        observer.look(MEETING, true, &seats, describe);
        let told = observer.look(MEETING, false, &[], |_| None);
        let [Happening::Left(who), Happening::Ended] = &told[..] else {
            panic!("{told:?}");
        };
        assert_eq!(who.codec, "PCMA");
    }
}
