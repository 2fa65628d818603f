//! Rooms: random bookings and series, moved, cancelled and restored, are held against a list of all that takes place; many
//! who book at once on two nodes; endless series that go on.

use std::cell::Cell;

use jiff::SignedDuration;
use proptest::prelude::*;
use proptest::test_runner::{Config as ProptestConfig, TestRunner};

use super::*;
use crate::booking::change::RecurrenceRequest;
use crate::booking::recurrence::RecurrenceId;
use crate::booking::room::{Room, RoomChange, RoomRequest, horizon};
use crate::booking::service::OccurrenceChange;

const SEATS: [i64; 3] = [10, 50, 100];

/// From an hour to before an hour, counted from [`zero`]; `false`: cancelled.
type Hours = (i64, i64, bool);

#[derive(Debug, Clone)]
enum Step {
    Book {
        at: i64,
        length: i64,
        every: i64,
        count: Option<i64>,
        seats: u32,
        named: Option<usize>,
    },
    Move {
        which: usize,
        nth: usize,
        by: i64,
    },
    Cancel {
        which: usize,
        nth: usize,
        cancelled: bool,
    },
    CancelAll(usize),
}

/// A meeting with a room, as the list has it.
struct Listed {
    meeting: Meeting,
    room: usize,
    ids: Vec<RecurrenceId>,
    hours: Vec<Hours>,
}

fn zero() -> Timestamp {
    at("2027-01-01T00:00:00Z")
}

fn hour(n: i64) -> Timestamp {
    zero() + SignedDuration::from_hours(n)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let count = prop_oneof![3 => (1_i64..6).prop_map(Some), 1 => Just(None)];
    let every = prop_oneof![2 => Just(0_i64), 3 => 1_i64..9];
    let named = prop::option::weighted(0.3, 0_usize..3);
    let book = (0_i64..240, 1_i64..6, every, count, 1_u32..110, named).prop_map(
        |(at, length, every, count, seats, named)| Step::Book {
            at,
            length,
            every,
            count,
            seats,
            named,
        },
    );
    let moved = (0_usize..20, 0_usize..6, -60_i64..60);
    let moved = moved.prop_map(|(which, nth, by)| Step::Move { which, nth, by });
    let cancel = (0_usize..20, 0_usize..6, any::<bool>());
    let cancel = cancel.prop_map(|(which, nth, cancelled)| Step::Cancel {
        which,
        nth,
        cancelled,
    });
    let one = prop_oneof![
        6 => book,
        3 => moved,
        3 => cancel,
        1 => (0_usize..20).prop_map(Step::CancelAll),
    ];
    prop::collection::vec(one, 6..24)
}

fn request(at: i64, length: i64, every: i64, count: Option<i64>) -> MeetingChange {
    let rule = match count {
        Some(count) => format!("FREQ=DAILY;INTERVAL={every};COUNT={count}"),
        None => format!("FREQ=DAILY;INTERVAL={every}"),
    };
    let series = RecurrenceRequest {
        rule,
        ..RecurrenceRequest::default()
    };
    MeetingChange {
        title: Change::Set("In a room".to_owned()),
        starts_at: Change::Set(hour(at).to_string()),
        ends_at: Change::Set(hour(at + length).to_string()),
        timezone: Change::Set("UTC".to_owned()),
        recurrence: if every > 0 {
            Change::Set(series)
        } else {
            Change::Keep
        },
        ..MeetingChange::default()
    }
}

/// All that takes place, one by one.
fn hours_of(at: i64, length: i64, every: i64, count: Option<i64>) -> Vec<Hours> {
    let until = horizon(booked());
    let all = (0..).map(|n| at + 24 * every * n);
    let some = all.take_while(|&at| hour(at) < until);
    let most = if every == 0 { Some(1) } else { count };
    let most = most.map_or(usize::MAX, |n| usize::try_from(n).unwrap());
    some.take(most).map(|at| (at, at + length, true)).collect()
}

fn overlap(a: Hours, b: Hours) -> bool {
    a.2 && b.2 && a.0 < b.1 && b.0 < a.1
}

fn is_free(listed: &[Listed], room: usize, hours: &[Hours], but: Option<usize>) -> bool {
    let others = listed.iter().enumerate();
    let others = others.filter(|(n, other)| other.room == room && Some(*n) != but);
    let mut others = others.flat_map(|(_, other)| &other.hours);
    !others.any(|&theirs| hours.iter().any(|&ours| overlap(ours, theirs)))
}

fn is_taken<T>(done: &Result<T, BookingError>) -> bool {
    let taken = |conflict: &Conflict| matches!(conflict, Conflict::RoomTaken(_));
    matches!(done, Err(BookingError::Store(StoreError::Conflict(c))) if taken(c))
}

/// An organisation of its own with three rooms.
struct Hall<'a> {
    house: &'a House,
    key: ApiKey,
    rooms: Vec<Room>,
    listed: Vec<Listed>,
}

impl<'a> Hall<'a> {
    async fn new(house: &'a House, name: String) -> Self {
        let new = NewKey {
            organisation: name,
            role: KeyRole::Admin,
            scopes: Vec::new(),
            expires_at: None,
        };
        let (key, _) = house.bookings.create_key(booked(), new).await.unwrap();
        let mut rooms = Vec::new();
        for seats in SEATS {
            rooms.push(room(&house.bookings, &key.organisation, seats).await);
        }
        Self {
            house,
            key,
            rooms,
            listed: Vec::new(),
        }
    }

    async fn take(&mut self, step: Step) -> &'static str {
        let bookings = &self.house.bookings;
        let picked = |which: usize| (!self.listed.is_empty()).then(|| which % self.listed.len());
        match step {
            Step::Book {
                at,
                length,
                every,
                count,
                seats,
                named,
            } => self.book((at, length, every, count), seats, named).await,
            Step::Move { which, nth, by } => match picked(which) {
                None => "nothing",
                Some(n) => {
                    let hours = &self.listed[n].hours;
                    let nth = nth % hours.len();
                    let (from, to, _) = hours[nth];
                    self.edit(n, nth, (from + by, to + by, true), true).await
                }
            },
            Step::Cancel {
                which,
                nth,
                cancelled,
            } => match picked(which) {
                None => "nothing",
                Some(n) => {
                    let hours = &self.listed[n].hours;
                    let nth = nth % hours.len();
                    let (from, to, _) = hours[nth];
                    self.edit(n, nth, (from, to, !cancelled), false).await
                }
            },
            Step::CancelAll(which) => match picked(which) {
                None => "nothing",
                Some(n) => {
                    let gone = self.listed.swap_remove(n);
                    let done = bookings.cancel_meeting(booked(), &self.key, gone.meeting.id, None);
                    done.await.unwrap();
                    "cancelled"
                }
            },
        }
    }

    async fn book(
        &mut self,
        (at, length, every, count): (i64, i64, i64, Option<i64>),
        seats: u32,
        named: Option<usize>,
    ) -> &'static str {
        let hours = hours_of(at, length, every, count);
        let asked = match named {
            Some(n) => RoomRequest::This(self.rooms[n].id),
            None => RoomRequest::AtLeast(seats),
        };
        let would_do = |n: &usize| match named {
            Some(named) => *n == named,
            None => SEATS[*n] >= i64::from(seats),
        };
        let would_do: Vec<usize> = (0..SEATS.len()).filter(would_do).collect();
        let expected = would_do
            .iter()
            .copied()
            .find(|&room| is_free(&self.listed, room, &hours, None));
        let change = MeetingChange {
            room: Change::Set(asked),
            ..request(at, length, every, count)
        };
        let organisation = &self.key.organisation;
        let bookings = &self.house.bookings;
        let done = bookings.create_meeting(booked(), organisation, change, None);
        let done = done.await;
        let Some(room) = expected else {
            assert!(is_taken(&done) || would_do.is_empty(), "{done:?}");
            return "refused";
        };
        let meeting = done.unwrap().0;
        let has = meeting.room.as_ref().map(|room| room.id);
        assert_eq!(has, Some(self.rooms[room].id), "another one than {room}");
        let id = |&(from, _, _): &Hours| {
            let local = jiff::tz::TimeZone::UTC.to_datetime(hour(from));
            RecurrenceId(local)
        };
        self.listed.push(Listed {
            meeting,
            room,
            ids: hours.iter().map(id).collect(),
            hours,
        });
        "booked"
    }

    async fn edit(&mut self, n: usize, nth: usize, to: Hours, moves: bool) -> &'static str {
        let listed = &self.listed[n];
        if listed.meeting.options.recurrence.is_none() {
            return "nothing";
        }
        let free = is_free(&self.listed, listed.room, &[to], Some(n));
        let change = OccurrenceChange {
            starts_at: moves.then(|| hour(to.0)),
            ends_at: moves.then(|| hour(to.1)),
            cancelled: if moves { Some(false) } else { Some(!to.2) },
        };
        let (meeting, id) = (listed.meeting.id, listed.ids[nth]);
        let bookings = &self.house.bookings;
        let done = bookings.change_occurrence(booked(), &self.key, meeting, id, change, None);
        match done.await {
            Ok(_) => {
                assert!(free, "{to:?} is taken");
                self.listed[n].hours[nth] = to;
                "edited"
            }
            // It would overlap another one of its own series.
            Err(BookingError::Invalid(_)) => "nothing",
            refused => {
                assert!(is_taken(&refused) && !free, "{refused:?}");
                "edit refused"
            }
        }
    }
}

async fn room(bookings: &Bookings, organisation: &Organisation, seats: i64) -> Room {
    let asked = RoomChange {
        name: Change::Set(format!("Room for {seats}")),
        capacity: Change::Set(seats),
    };
    bookings
        .create_room(booked(), organisation, asked)
        .await
        .unwrap()
}

#[test]
fn no_two_bookings_ever_overlap_in_a_room_and_none_is_refused_that_would_fit() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let house = runtime.block_on(house());
    let (case, refused, edits) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let usual = ProptestConfig::default();
    let more = std::env::var_os("PROPTEST_CASES").is_some();
    let mut runner = TestRunner::new(ProptestConfig {
        cases: if more { usual.cases } else { 24 },
        failure_persistence: None,
        max_shrink_iters: 200,
        ..usual
    });
    let run = runner.run(&steps(), |steps| {
        case.set(case.get() + 1);
        runtime.block_on(async {
            let mut hall = Hall::new(&house, format!("hall {}", case.get())).await;
            for step in steps {
                match hall.take(step).await {
                    "refused" => refused.set(refused.get() + 1),
                    "edit refused" => edits.set(edits.get() + 1),
                    _ => {}
                }
            }
        });
        Ok(())
    });
    if let Err(failure) = run {
        panic!("{failure}");
    }
    assert!(
        refused.get() + edits.get() > 5,
        "too easy: {} {}",
        refused.get(),
        edits.get()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_who_want_the_last_rooms_at_once_on_two_nodes_each_gets_another_one() {
    let dir = tempfile::tempdir().unwrap();
    let url = if ON_POSTGRES {
        postgres::Server::shared().database()
    } else {
        String::new()
    };
    let mut nodes = Vec::new();
    for _ in 0..2 {
        let store = if ON_POSTGRES {
            SqlStore::postgres(&url).await
        } else {
            SqlStore::sqlite(&dir.path().join("v.db")).await
        };
        let store = Arc::new(store.unwrap());
        nodes.push(Bookings::new(BookingSettings::default(), store).unwrap());
    }
    let new = NewKey {
        organisation: "demo".to_owned(),
        role: KeyRole::Admin,
        scopes: Vec::new(),
        expires_at: None,
    };
    let (key, _) = nodes[0].create_key(booked(), new).await.unwrap();
    for seats in SEATS {
        room(&nodes[1], &key.organisation, seats).await;
    }
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..16 {
        let (node, organisation) = (nodes[n % 2].clone(), key.organisation.clone());
        tasks.spawn(async move {
            let at = i64::try_from(n % 3).unwrap();
            let change = MeetingChange {
                room: Change::Set(RoomRequest::AtLeast(20)),
                ..request(at, 3, 7, None)
            };
            node.create_meeting(booked(), &organisation, change, None)
                .await
        });
    }
    let done = tasks.join_all().await;
    let got = done.iter().filter_map(|done| done.as_ref().ok());
    let got: BTreeSet<Uuid> = got
        .map(|(meeting, _)| meeting.room.as_ref().unwrap().id)
        .collect();
    assert_eq!(got.len(), 2, "{done:?}");
    let refused = done.iter().filter(|done| is_taken(done)).count();
    assert_eq!(refused, 14, "{done:?}");
}

#[tokio::test]
async fn an_endless_series_takes_its_room_further_on_and_spares_who_was_there_before() {
    let house = house().await;
    let hall = Hall::new(&house, "hall".to_owned()).await;
    let bookings = &house.bookings;
    let asked = RoomRequest::This(hall.rooms[0].id);
    let book = async |now, at, every, count| {
        let change = MeetingChange {
            room: Change::Set(asked),
            ..request(at, 1, every, count)
        };
        let organisation = &hall.key.organisation;
        let done = bookings.create_meeting(now, organisation, change, None);
        done.await.map(|(meeting, _)| meeting)
    };
    let weekly = book(booked(), 10, 7, None).await.unwrap();
    let week = 7 * 24;
    let before = book(booked(), 10 + 200 * week, 0, None).await;
    assert!(is_taken(&before));
    let beyond = book(booked(), 10 + 300 * week, 0, None).await.unwrap();
    bookings.roll_rooms(booked()).await.unwrap();
    let at_310 = book(booked(), 10 + 310 * week, 0, None).await.unwrap();
    bookings
        .cancel_meeting(booked(), &hall.key, at_310.id, None)
        .await
        .unwrap();
    let later = booked() + SignedDuration::from_hours(24 * 730);
    bookings.roll_rooms(later).await.unwrap();
    assert_eq!(bookings.rooms_missed(), 1);
    let now_taken = book(later, 10 + 310 * week, 0, None).await;
    assert!(is_taken(&now_taken));
    let title = MeetingChange {
        title: Change::Set("Another".to_owned()),
        ..MeetingChange::default()
    };
    let patched = bookings.patch_meeting(later, &hall.key, weekly.id, title, None);
    assert_eq!(patched.await.unwrap().room, weekly.room);
    let delete = bookings.delete_room(later, hall.rooms[0].clone()).await;
    let in_use = StoreError::Conflict(Conflict::RoomInUse);
    assert_eq!(delete, Err(BookingError::Store(in_use)));
    bookings
        .cancel_meeting(later, &hall.key, beyond.id, None)
        .await
        .unwrap();
    let later = later + SignedDuration::from_hours(24 * 40);
    bookings.roll_rooms(later).await.unwrap();
    assert_eq!(bookings.rooms_missed(), 1);
    assert!(is_taken(&book(later, 10 + 300 * week, 0, None).await));
}
