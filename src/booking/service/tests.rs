//! The rules, on a SQLite file and on PostgreSQL, with a pushed clock.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use jiff::ToSpan;
use tempfile::TempDir;

use super::*;
use crate::booking::admission::{
    CallId, CallRecord, Direction, HangupBy, Outcome, PinQuery, PinVerdict, Refusal, Role, Standing,
};
use crate::booking::change::{Change, MeetingChange};
use crate::booking::event::{EventFilter, EventKind, EventPosition};
use crate::booking::key::{ApiKey, KeyRole, Organisation};
use crate::booking::meeting::{Meeting, MeetingOptions, MeetingState, Schedule, Zone};
use crate::booking::number::DialInNumber;
use crate::booking::organisation::OrganisationChange;
use crate::booking::pin::PinRulesChange;
use crate::booking::privacy::{CallerNumber, Pin};
use crate::booking::store::{NumberStore as _, SqlStore, Store};

#[path = "tests/calendar.rs"]
#[cfg(test)]
mod calendar;
#[path = "tests/rooms.rs"]
#[cfg(test)]
mod rooms;
#[path = "tests/imports.rs"]
#[cfg(test)]
mod imports;
#[path = "tests/occurrence_pins.rs"]
#[cfg(test)]
mod occurrence_pins;
#[path = "../../../tests/support/postgres.rs"]
mod postgres;

/// These tests are compiled twice, the second time as `tests_on_postgres`.
const ON_POSTGRES: bool = module_path!().len() > "voicebridge::booking::service::tests".len();
const START: &str = "2026-11-23T10:00:00+01:00";
const END: &str = "2026-11-23T11:00:00+01:00";

struct House {
    bookings: Bookings,
    store: SqlStore,
    organisation: Organisation,
    key: ApiKey,
    _dir: TempDir,
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn booked() -> Timestamp {
    at("2026-11-20T08:00:00Z")
}

fn during() -> Timestamp {
    at("2026-11-23T09:30:00Z")
}

async fn house_with(settings: BookingSettings) -> House {
    let dir = tempfile::tempdir().unwrap();
    let store = if ON_POSTGRES {
        SqlStore::postgres(&postgres::Server::shared().database()).await
    } else {
        SqlStore::sqlite(&dir.path().join("v.db")).await
    };
    let store = store.unwrap();
    let bookings = Bookings::new(settings, Arc::new(store.clone())).unwrap();
    let new = NewKey {
        organisation: "demo".to_owned(),
        role: KeyRole::Booking,
        scopes: Vec::new(),
        expires_at: None,
    };
    let (key, _) = bookings.create_key(booked(), new).await.unwrap();
    House {
        bookings,
        store,
        organisation: key.organisation.clone(),
        key,
        _dir: dir,
    }
}

async fn house() -> House {
    house_with(BookingSettings::default()).await
}

fn asked() -> MeetingChange {
    let set = |text: &str| Change::Set(text.to_owned());
    MeetingChange {
        title: set("Jour fixe"),
        starts_at: set(START),
        ends_at: set(END),
        timezone: set("Europe/Rome"),
        ..MeetingChange::default()
    }
}

fn permanent() -> MeetingOptions {
    MeetingOptions::new("Always", Schedule::new(booked(), None, Zone::utc()))
}

fn pins(meeting: &Meeting) -> Vec<String> {
    meeting
        .pins
        .iter()
        .map(|p| p.pin.expose().to_owned())
        .collect()
}

fn call_id() -> CallId {
    CallId(new_id(booked()).unwrap())
}

impl House {
    async fn book(&self) -> Meeting {
        let created = self
            .bookings
            .create_meeting(booked(), &self.organisation, asked(), None);
        created.await.unwrap().0
    }

    async fn put(&self, now: Timestamp, change: MeetingChange) -> (Meeting, bool) {
        let put = self
            .bookings
            .put_meeting(now, &self.organisation, "ext/1", change, None);
        put.await.unwrap()
    }

    async fn dial(
        &self,
        now: Timestamp,
        pin: &str,
        number: Option<&str>,
        caller: &str,
    ) -> PinVerdict {
        let query = PinQuery {
            call: call_id(),
            pin: Pin::parse(pin).unwrap(),
            number: number.map(str::to_owned),
            caller: CallerNumber::new(caller),
            standing: Standing::Unknown,
        };
        self.bookings.resolve_pin(now, query).await
    }

    async fn dial_as(
        &self,
        now: Timestamp,
        pin: &str,
        caller: &str,
        standing: Standing,
    ) -> PinVerdict {
        let query = PinQuery {
            call: call_id(),
            pin: Pin::parse(pin).unwrap(),
            number: None,
            caller: CallerNumber::new(caller),
            standing,
        };
        self.bookings.resolve_pin(now, query).await
    }

    async fn refusal(&self, now: Timestamp, pin: &str) -> Refusal {
        match self.dial(now, pin, None, "+39061").await {
            PinVerdict::Refused(refusal) => refusal,
            PinVerdict::Admitted(admission) => panic!("{admission:?}"),
        }
    }
}

/// 10 digits that are no PIN of the meeting.
fn wrong_pin(meeting: &Meeting) -> &'static str {
    let taken = pins(meeting);
    ["4815162342", "4815162343", "4815162344"]
        .into_iter()
        .find(|p| !taken.iter().any(|t| t == p))
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_whole_hall_behind_one_number_gets_in_at_once() {
    let house = Arc::new(house().await);
    let pin = pins(&house.book().await).remove(0);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..300 {
        let (house, pin) = (Arc::clone(&house), pin.clone());
        tasks.spawn(async move { house.dial(during(), &pin, None, "+390612345678").await });
    }
    for verdict in tasks.join_all().await {
        assert!(matches!(verdict, PinVerdict::Admitted(_)), "{verdict:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_bookers_at_once_never_share_or_begin_each_others_pins() {
    let house = house().await;
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..32 {
        // Lengths are mixed, as after a change of pin.length; four digits make collisions common.
        let settings = BookingSettings {
            pin_length: 4 + task % 3,
            ..BookingSettings::default()
        };
        let bookings = Bookings::new(settings, Arc::new(house.store.clone())).unwrap();
        let organisation = house.organisation.clone();
        tasks.spawn(async move {
            let mut all = Vec::new();
            for _ in 0..8 {
                let meeting = bookings
                    .book_meeting(booked(), &organisation, permanent())
                    .await;
                all.extend(pins(&meeting.unwrap()));
            }
            all
        });
    }
    let all: Vec<String> = tasks.join_all().await.into_iter().flatten().collect();
    assert_eq!(all.len(), 32 * 8 * 2);
    let sorted: BTreeSet<&String> = all.iter().collect();
    assert_eq!(sorted.len(), all.len(), "a PIN was given twice");
    for (a, b) in sorted.iter().zip(sorted.iter().skip(1)) {
        assert!(!b.starts_with(a.as_str()), "{a} begins {b}");
    }
    house.bookings.look_for_pin_lengths().await.unwrap();
    assert_eq!(house.bookings.pin_lengths(), [4, 5, 6, 10]);
}

#[tokio::test]
async fn a_longer_pin_is_known_of_once_the_store_is_asked() {
    let house = house().await;
    house.bookings.look_for_pin_lengths().await.unwrap();
    assert_eq!(house.bookings.pin_lengths(), [10]);
    let settings = BookingSettings {
        pin_length: 12,
        ..BookingSettings::default()
    };
    let other_node = Bookings::new(settings, Arc::new(house.store.clone())).unwrap();
    let meeting = other_node.book_meeting(booked(), &house.organisation, permanent());
    meeting.await.unwrap();
    assert_eq!(house.bookings.pin_lengths(), [10]);
    house.bookings.look_for_pin_lengths().await.unwrap();
    assert_eq!(house.bookings.pin_lengths(), [10, 12]);
}

#[tokio::test]
async fn only_conferences_that_nobody_booked_and_that_are_not_over_are_counted() {
    use crate::booking::conference::ConferenceName;
    let house = house().await;
    let jitsi = JitsiConfig {
        organisation: house.organisation.name.clone(),
        domains: vec!["meet.example.org".to_owned()],
        number_form: crate::config::NumberForm::List,
    };
    let name = |room| {
        let name = format!("{room}@meet.example.org");
        ConferenceName::read(&name, &jitsi.domains).unwrap()
    };
    for room in ["a", "b", "c"] {
        let name = name(room);
        let pin = house.bookings.pin_of_conference(booked(), &jitsi, &name);
        assert!(pin.await.unwrap().is_some());
    }
    let by_hand = MeetingOptions {
        external_id: Some(name("d").external_id()),
        ..permanent()
    };
    let by_hand = house
        .bookings
        .book_meeting(booked(), &house.organisation, by_hand);
    by_hand.await.unwrap();
    let organisation = house.organisation.id;
    let live = async |at| house.store.live_conferences(organisation, at).await;
    assert_eq!(live(booked()).await, Ok(3));
    let id = name("a").external_id();
    let a = house
        .bookings
        .meeting_by_external_id(&house.organisation, &id);
    let cancelled = house
        .bookings
        .cancel_meeting(booked(), &house.key, a.await.unwrap().id, None);
    cancelled.await.unwrap();
    assert_eq!(live(booked()).await, Ok(2));
    assert_eq!(live(booked() + SignedDuration::from_hours(50)).await, Ok(0));
}

#[tokio::test]
async fn what_was_answered_survives_a_kill() {
    if ON_POSTGRES {
        return; // Its files are the server's business.
    }
    let house = house().await;
    let meeting = house.book().await;
    let other = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(house._dir.path()).unwrap() {
        let file = file.unwrap();
        // What a killed process leaves: the file and its write-ahead log, never closed.
        if !file.file_name().to_string_lossy().ends_with("-shm") {
            std::fs::copy(file.path(), other.path().join(file.file_name())).unwrap();
        }
    }
    let store = SqlStore::sqlite(&other.path().join("v.db")).await.unwrap();
    let bookings = Bookings::new(BookingSettings::default(), Arc::new(store)).unwrap();
    let found = bookings.meeting(&house.key, meeting.id).await.unwrap();
    assert_eq!(pins(&found), pins(&meeting));
    assert_eq!(found.options, meeting.options);
    assert!(
        bookings
            .check(booked())
            .await
            .iter()
            .all(|finding| !finding.failed)
    );
}

#[tokio::test]
async fn a_short_pin_length_is_refused_long_before_it_is_used_up() {
    let settings = BookingSettings {
        pin_length: 4,
        ..BookingSettings::default()
    };
    let house = house_with(settings).await;
    for _ in 0..250 {
        let booking = house
            .bookings
            .book_meeting(booked(), &house.organisation, permanent());
        booking.await.unwrap();
    }
    let full = house
        .bookings
        .book_meeting(booked(), &house.organisation, permanent());
    assert_eq!(
        full.await.unwrap_err(),
        BookingError::Store(StoreError::Conflict(Conflict::PinsExhausted))
    );
    assert_eq!(house.bookings.pin_statistics().exhausted(), 1);
    let findings = house.bookings.check(booked()).await;
    assert!(
        findings
            .iter()
            .any(|f| f.failed && f.message.contains("raise pin.length")),
        "{findings:?}"
    );
}

#[tokio::test]
async fn rules_that_were_safe_once_are_checked_again() {
    let house = house().await;
    let asked = OrganisationChange {
        name: Change::Set("uni".to_owned()),
        pin: PinRulesChange {
            length: Change::Set(11),
            digits: Change::Set("123456789".to_owned()),
            ..PinRulesChange::default()
        },
        ..OrganisationChange::default()
    };
    let made = house.bookings.create_organisation(booked(), asked).await;
    let uni = made.unwrap().organisation;
    let options = permanent();
    let meeting = house.bookings.book_meeting(booked(), &uni, options).await;
    for pin in pins(&meeting.unwrap()) {
        assert!(pin.len() == 11 && !pin.contains('0'));
    }
    let failed = async |bookings: &Bookings| {
        let findings = bookings.check(booked()).await.into_iter();
        let failed = findings.filter(|f| f.failed).map(|f| f.message);
        failed.collect::<Vec<_>>()
    };
    assert_eq!(failed(&house.bookings).await, Vec::<String>::new());
    let settings = BookingSettings {
        failure_budget: 3_000_000,
        pin_length: 16,
        ..BookingSettings::default()
    };
    let careless = Bookings::new(settings, Arc::new(house.store.clone())).unwrap();
    let told = failed(&careless).await;
    assert!(
        told.len() == 1 && told[0].starts_with("pins of uni:"),
        "{told:?}"
    );
}

#[tokio::test]
async fn pins_are_answered_truthfully_and_what_is_not_valid_is_just_wrong() {
    let house = house().await;
    let meeting = house.book().await;
    let [guest, host] =
        [Role::Guest, Role::Host].map(|r| meeting.pin_for(r).unwrap().expose().to_owned());
    assert_ne!(guest, host);
    for (pin, role) in [(&guest, Role::Guest), (&host, Role::Host)] {
        match house.dial(during(), pin, None, "+39061").await {
            PinVerdict::Admitted(a) => {
                assert_eq!((a.role, a.meeting, a.echo), (role, meeting.id, false))
            }
            other @ PinVerdict::Refused(_) => panic!("{other:?}"),
        }
    }
    let early = house.refusal(at("2026-11-23T08:44:59Z"), &guest).await;
    assert!(matches!(early, Refusal::TooEarly { .. }));
    assert_eq!(
        house.refusal(at("2026-11-23T11:00:00Z"), &guest).await,
        Refusal::Ended
    );
    assert_eq!(house.bookings.failure_budget_remaining(), 100);
    assert_eq!(
        house.refusal(during(), wrong_pin(&meeting)).await,
        Refusal::Wrong
    );
    assert_eq!(house.bookings.failure_budget_remaining(), 99);
}

#[tokio::test]
async fn unknown_retired_and_foreign_pins_are_the_same() {
    let number = |number: &str, organisation: Option<&str>| DialInNumber {
        number: number.to_owned(),
        country: None,
        language: None,
        organisation: organisation.map(str::to_owned),
        label: None,
        toll_free: false,
    };
    let numbers = vec![
        number("7000", None),
        number("7001", Some("demo")),
        number("7002", Some("other")),
    ];
    let house = house().await;
    house
        .bookings
        .seed_numbers(booked(), numbers)
        .await
        .unwrap();
    let meeting = house.book().await;
    let pin = pins(&meeting).remove(0);
    for served in [None, Some("7000"), Some("7001")] {
        assert!(matches!(
            house.dial(during(), &pin, served, "+39061").await,
            PinVerdict::Admitted(_)
        ));
    }
    let wrong = |verdict| {
        assert!(
            matches!(verdict, PinVerdict::Refused(Refusal::Wrong)),
            "{verdict:?}"
        )
    };
    wrong(
        house
            .dial(during(), wrong_pin(&meeting), Some("7000"), "+39062")
            .await,
    );
    wrong(house.dial(during(), &pin, Some("7002"), "+39063").await);
    wrong(house.dial(during(), &pin, Some("7003"), "+39064").await);
    // Also at the wrong time: a foreign PIN does not tell that it is one.
    wrong(house.dial(booked(), &pin, Some("7002"), "+39065").await);
    let retired = at("2026-12-24T00:00:00Z");
    wrong(house.dial(retired, &pin, Some("7000"), "+39066").await);
    let spent = house.bookings.pin_statistics().results();
    assert!(spent.contains(&("wrong_pin", 5)), "{spent:?}");
}

#[tokio::test]
async fn a_flood_of_guesses_is_not_evaluated_beyond_the_budget_and_regulars_still_get_in() {
    let house = house().await;
    let meeting = house.book().await;
    let pin = pins(&meeting).remove(0);
    assert!(matches!(
        house.dial(during(), &pin, None, "+39061").await,
        PinVerdict::Admitted(_)
    ));
    let mut standing = Standing::Unknown;
    let mut digits = BTreeSet::new();
    for n in 0..300 {
        let caller = format!("+3907{n:04}");
        let verdict = house.dial_as(during(), wrong_pin(&meeting), &caller, standing);
        if let PinVerdict::Refused(Refusal::Unproven(said)) = verdict.await {
            digits.insert(said.said());
        }
        // Who hears for himself gets further, but not to the end.
        if n == 149 {
            standing = Standing::Proven;
        }
    }
    let statistics = house.bookings.pin_statistics();
    let results = statistics.results();
    assert!(results.contains(&("wrong_pin", 80)), "{results:?}");
    assert!(results.contains(&("held_back", 110)), "{results:?}");
    assert_eq!(statistics.challenges()[0], ("asked", 110));
    assert!(digits.len() > 30, "always the same digits: {digits:?}");
    // Not looked at: the right PIN and a wrong one get the same answer.
    for pin in [pin.as_str(), wrong_pin(&meeting)] {
        let held = house.dial(during(), pin, None, "+39080").await;
        assert!(
            matches!(held, PinVerdict::Refused(Refusal::Unavailable)),
            "{held:?}"
        );
    }
    assert!(matches!(
        house.dial(during(), &pin, None, "+39061").await,
        PinVerdict::Admitted(_)
    ));
    let trusted = house.dial_as(during(), &pin, "+39081", Standing::Trusted);
    assert!(matches!(trusted.await, PinVerdict::Admitted(_)));
    let later = during().checked_add(61.minutes()).unwrap();
    assert!(matches!(
        house.dial(later, &pin, None, "+39080").await,
        PinVerdict::Admitted(_)
    ));
}

/// How long each of these PINs' refusals takes, in microseconds: asked in no order that repeats.
#[allow(clippy::disallowed_methods, reason = "it measures")]
async fn answer_times(
    house: &House,
    now: Timestamp,
    kinds: &[(&str, &str, &str); 4],
) -> [Vec<f64>; 4] {
    let mut times = [const { Vec::new() }; 4];
    let mut dice = 1_u64;
    for n in 0..40_000 {
        dice = dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let which = (dice >> 40) as usize % 4;
        let (_, pin, number) = kinds[which];
        let query = PinQuery {
            call: call_id(),
            pin: Pin::parse(pin).unwrap(),
            number: Some(number.to_owned()),
            caller: CallerNumber::new("+39061"),
            standing: Standing::Trusted,
        };
        let asked = std::time::Instant::now();
        let verdict = house.bookings.resolve_pin(now, query).await;
        if n > 1_000 {
            times[which].push(asked.elapsed().as_secs_f64() * 1e6);
        }
        assert!(matches!(verdict, PinVerdict::Refused(_)));
    }
    times
}

/// `cargo test --release --lib the_time_of_an_answer -- --ignored --nocapture`
#[tokio::test]
#[ignore = "a minute of one core"]
#[allow(clippy::print_stdout, reason = "figures, for `--nocapture`")]
async fn the_time_of_an_answer_does_not_tell_why_a_pin_opens_nothing() {
    let house = house_with(BookingSettings {
        failure_budget: 1_000_000,
        ..BookingSettings::default()
    })
    .await;
    let number = |number: &str, organisation: &str| DialInNumber {
        number: number.to_owned(),
        country: None,
        language: None,
        organisation: Some(organisation.to_owned()),
        label: None,
        toll_free: false,
    };
    let numbers = vec![number("7000", "demo"), number("7001", "other")];
    house
        .bookings
        .seed_numbers(booked(), numbers)
        .await
        .unwrap();
    let retired = house.book().await;
    let set = |text: &str| Change::Set(text.to_owned());
    let yesterday = MeetingChange {
        starts_at: set("2026-12-23T10:00:00+01:00"),
        ends_at: set("2026-12-23T11:00:00+01:00"),
        ..asked()
    };
    let booking = house
        .bookings
        .create_meeting(booked(), &house.organisation, yesterday, None);
    let (closed, _) = booking.await.unwrap();
    let open = house
        .bookings
        .book_meeting(booked(), &house.organisation, permanent());
    let open = open.await.unwrap();
    let [retired, closed, foreign] =
        [retired, closed, open].map(|meeting| pins(&meeting).remove(0));
    let now = at("2026-12-24T00:00:00Z");
    let kinds = [
        ("unknown", "0123456789", "7000"),
        ("retired", &retired, "7000"),
        ("foreign", &foreign, "7001"),
        ("closed", &closed, "7000"),
    ];
    let mut times = answer_times(&house, now, &kinds).await;
    let mut medians = Vec::new();
    for (times, (kind, ..)) in times.iter_mut().zip(kinds) {
        times.sort_by(f64::total_cmp);
        let at = |part: f64| times[(times.len() as f64 * part) as usize];
        medians.push(at(0.5));
        println!(
            "{kind}: {} answers, median {:.1} us, p90 {:.1}, p99 {:.1}",
            times.len(),
            at(0.5),
            at(0.9),
            at(0.99)
        );
    }
    let apart = medians
        .iter()
        .map(|m| (m - medians[0]).abs())
        .fold(0.0, f64::max);
    println!("medians at most {apart:.1} us apart");
    assert!(apart < 1_000.0);
}

#[tokio::test]
async fn a_change_never_changes_a_pin() {
    let house = house().await;
    let meeting = house.book().await;
    let change = MeetingChange {
        title: Change::Set("Other".to_owned()),
        ..MeetingChange::default()
    };
    let changed =
        house
            .bookings
            .patch_meeting(during(), &house.key, meeting.id, change.clone(), Some(1));
    let changed = changed.await.unwrap();
    assert_eq!(
        (
            changed.options.title.as_str(),
            changed.revision,
            pins(&changed)
        ),
        ("Other", 2, pins(&meeting))
    );
    let stale = house
        .bookings
        .patch_meeting(during(), &house.key, meeting.id, change, Some(1));
    assert_eq!(stale.await.unwrap_err(), BookingError::Changed);
    assert_eq!(
        house
            .bookings
            .meeting(&house.key, meeting.id)
            .await
            .unwrap()
            .revision,
        2
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn changes_at_the_same_time_lose_nothing() {
    let house = house().await;
    let meeting = house.book().await;
    let patch = |change| {
        house
            .bookings
            .patch_meeting(during(), &house.key, meeting.id, change, None)
    };
    let title = MeetingChange {
        title: Change::Set("Both".to_owned()),
        ..MeetingChange::default()
    };
    let capacity = MeetingChange {
        capacity: Change::Set(7),
        ..MeetingChange::default()
    };
    let (a, b) = tokio::join!(patch(title), patch(capacity));
    a.unwrap();
    b.unwrap();
    let both = house
        .bookings
        .meeting(&house.key, meeting.id)
        .await
        .unwrap();
    assert_eq!(
        (
            both.options.title.as_str(),
            both.options.capacity,
            both.revision
        ),
        ("Both", Some(7), 3)
    );
}

#[tokio::test]
async fn delete_and_put_within_the_quarantine_bring_the_same_pins_back() {
    let house = house().await;
    let (meeting, new) = house.put(booked(), asked()).await;
    assert!(new);
    let (same, new) = house.put(booked(), asked()).await;
    assert!(!new);
    assert_eq!(
        (same.id, same.revision, pins(&same)),
        (meeting.id, 1, pins(&meeting))
    );
    house
        .bookings
        .cancel_meeting(booked(), &house.key, meeting.id, None)
        .await
        .unwrap();
    assert_eq!(
        house.refusal(during(), &pins(&meeting)[0]).await,
        Refusal::Cancelled
    );
    let last_moment = at("2026-12-20T07:59:59Z");
    house.bookings.purge(last_moment).await.unwrap();
    let (back, new) = house.put(last_moment, asked()).await;
    assert!(!new);
    assert_eq!((back.id, pins(&back)), (meeting.id, pins(&meeting)));
}

#[tokio::test]
async fn after_the_quarantine_a_name_gets_a_new_meeting_and_the_old_pins_are_nobodys() {
    let house = house().await;
    let (meeting, _) = house.put(booked(), asked()).await;
    house
        .bookings
        .cancel_meeting(booked(), &house.key, meeting.id, None)
        .await
        .unwrap();
    let over = at("2026-12-20T08:00:01Z");
    let purged = house.bookings.purge(over).await.unwrap();
    assert_eq!((purged.pins, purged.meetings), (2, 0));
    let patch =
        house
            .bookings
            .patch_meeting(over, &house.key, meeting.id, MeetingChange::default(), None);
    assert_eq!(patch.await.unwrap_err(), BookingError::Cancelled);
    let (next, new) = house.put(over, asked()).await;
    assert!(new);
    assert_ne!(next.id, meeting.id);
    let old = house
        .bookings
        .meeting(&house.key, meeting.id)
        .await
        .unwrap();
    assert_eq!(
        (old.options.external_id, old.pins.len(), next.pins.len()),
        (None, 0, 2)
    );
}

#[tokio::test]
async fn puts_of_one_name_at_the_same_time_book_once() {
    let house = house().await;
    let put = || house.put(booked(), asked());
    let (a, b, c, d) = tokio::join!(put(), put(), put(), put());
    let all = [a, b, c, d];
    assert_eq!(all.iter().filter(|(_, new)| *new).count(), 1);
    assert!(all.iter().all(|(meeting, _)| meeting.id == all[0].0.id));
}

#[tokio::test]
async fn a_repeated_request_books_once() {
    let house = house().await;
    let repetition = |body: &str| {
        Some(Repetition {
            key: house.key.id,
            name: "abc".to_owned(),
            body_hash: body.to_owned(),
        })
    };
    let create = |now, body: &str| {
        house
            .bookings
            .create_meeting(now, &house.organisation, asked(), repetition(body))
    };
    let (first, repeated) = create(booked(), "x").await.unwrap();
    assert!(!repeated);
    let (second, repeated) = create(booked(), "x").await.unwrap();
    assert_eq!((second.id, repeated), (first.id, true));
    assert_eq!(
        create(booked(), "y").await.unwrap_err(),
        BookingError::ClaimMismatch
    );
    let next_day = at("2026-11-21T08:00:00Z");
    let (third, repeated) = create(next_day, "y").await.unwrap();
    assert!(third.id != first.id && !repeated);
    let _held = InFlightForTest::hold(&house.bookings, house.key.id, "abc");
    assert_eq!(
        create(next_day, "y").await.unwrap_err(),
        BookingError::ClaimInFlight
    );
}

/// Keeps an `Idempotency-Key` as busy as a request that is being answered does.
struct InFlightForTest;

impl InFlightForTest {
    fn hold(bookings: &Bookings, key: Uuid, name: &str) -> Self {
        bookings
            .inner
            .claims
            .lock()
            .unwrap()
            .insert((key, name.to_owned()));
        Self
    }
}

#[tokio::test]
async fn an_ended_meeting_stays_ended_until_its_time_is_changed() {
    let house = house().await;
    let meeting = house.book().await;
    house
        .bookings
        .end_meeting(booked(), meeting.id)
        .await
        .unwrap();
    let found = house
        .bookings
        .meeting(&house.key, meeting.id)
        .await
        .unwrap();
    assert_eq!(found.ended_at, None, "it had not begun");
    house
        .bookings
        .end_meeting(during(), meeting.id)
        .await
        .unwrap();
    let pin = pins(&meeting).remove(0);
    assert_eq!(house.refusal(during(), &pin).await, Refusal::Ended);
    let longer = MeetingChange {
        ends_at: Change::Set("2026-11-23T12:00:00+01:00".to_owned()),
        ..MeetingChange::default()
    };
    house
        .bookings
        .patch_meeting(during(), &house.key, meeting.id, longer, None)
        .await
        .unwrap();
    assert!(matches!(
        house.dial(during(), &pin, None, "+39061").await,
        PinVerdict::Admitted(_)
    ));
    let always = house
        .bookings
        .book_meeting(booked(), &house.organisation, permanent());
    let always = always.await.unwrap();
    house
        .bookings
        .end_meeting(during(), always.id)
        .await
        .unwrap();
    let found = house.bookings.meeting(&house.key, always.id).await.unwrap();
    assert_eq!(found.state(during(), false), MeetingState::Open);
}

#[tokio::test]
async fn the_echo_meeting_is_always_open_and_keeps_its_pin() {
    let house = house().await;
    let pin = house.bookings.ensure_echo_meeting(booked()).await.unwrap();
    assert_eq!(
        house.bookings.ensure_echo_meeting(during()).await.unwrap(),
        pin
    );
    house
        .bookings
        .purge(at("2046-01-01T00:00:00Z"))
        .await
        .unwrap();
    assert_eq!(
        house.bookings.ensure_echo_meeting(during()).await.unwrap(),
        pin
    );
    let verdict = house
        .dial(
            at("2046-01-01T00:00:00Z"),
            pin.expose(),
            Some("any"),
            "+39061",
        )
        .await;
    assert!(matches!(verdict, PinVerdict::Admitted(admission) if admission.echo));
}

#[tokio::test]
async fn the_echo_meeting_is_seen_nowhere() {
    let house = house().await;
    house.bookings.ensure_echo_meeting(booked()).await.unwrap();
    let id = house.store.echo_meeting().await.unwrap().unwrap().id;
    assert_eq!(
        house.bookings.meeting(&house.key, id).await.unwrap_err(),
        BookingError::NotFound
    );
    house
        .bookings
        .record_call(&call(Some(id), "+390612345678"))
        .await
        .unwrap();
    let calls = house
        .bookings
        .list_calls(CallQuestion {
            limit: 10,
            ..CallQuestion::default()
        })
        .await;
    assert!(calls.unwrap().0.is_empty());
    assert!(
        house
            .bookings
            .calls_by_outcome()
            .iter()
            .all(|&(_, n)| n == 0)
    );
    for state in [None, Some(MeetingState::Open), Some(MeetingState::Live)] {
        let question = MeetingQuestion {
            limit: 10,
            live: vec![id],
            state,
            ..MeetingQuestion::default()
        };
        let page = house
            .bookings
            .list_meetings(booked(), question)
            .await
            .unwrap();
        assert!(page.items.is_empty(), "{state:?}");
    }
}

fn call(meeting: Option<crate::booking::MeetingId>, caller: &str) -> CallRecord {
    CallRecord {
        direction: Direction::In,
        id: call_id(),
        kind: "sip",
        organisation: None,
        number: "7000".to_owned(),
        caller: CallerNumber::new(caller),
        started_at: during(),
        answered_at: Some(during()),
        ended_at: during().checked_add(61.seconds()).unwrap(),
        meeting,
        occurrence: None,
        participant: None,
        outcome: Outcome::Joined,
        pin_attempts: 1,
        hangup_by: HangupBy::Caller,
        q850: 16,
        trunk: Some("carrier".to_owned()),
        verstat: None,
        sip_call_id: Some("a@b".to_owned()),
        asterisk_channel: Some("1795253665.8".to_owned()),
        quality: Some(serde_json::json!({ "mos": 4.2 })),
    }
}

#[tokio::test]
async fn bookings_are_told_that_are_newer_than_what_their_meetings_run_by() {
    let house = house().await;
    let (one, other) = (house.book().await, house.book().await);
    let running = [&one, &other].map(|meeting| (meeting.id, meeting.revision));
    let changed = async || {
        let changed = house.bookings.changed_since(running.to_vec()).await;
        let changed = changed.unwrap().into_iter();
        changed
            .map(|meeting| (meeting.id, meeting.revision))
            .collect::<Vec<_>>()
    };
    assert_eq!(changed().await, []);
    let later = MeetingChange {
        ends_at: Change::Set("2026-11-23T12:00:00+01:00".to_owned()),
        ..MeetingChange::default()
    };
    let patched = house
        .bookings
        .patch_meeting(during(), &house.key, other.id, later, None);
    let patched = patched.await.unwrap();
    assert_eq!(changed().await, [(other.id, patched.revision)]);
    let nothing = house.bookings.changed_since(Vec::new()).await;
    assert!(nothing.unwrap().is_empty());
}

#[tokio::test]
async fn a_record_that_the_store_can_never_hold_is_no_reason_to_wait() {
    let house = house().await;
    let odd = CallRecord {
        number: "70\x00".to_owned(),
        ..call(None, "+390612345678")
    };
    let refused = house.bookings.record_call(&odd).await.err();
    // SQLite takes anything.
    assert_eq!(refused.is_some(), ON_POSTGRES, "{refused:?}");
    assert!(refused.is_none_or(|error| !error.may_pass()));
}

#[tokio::test]
async fn a_call_record_is_kept_once_without_what_may_not_be_stored_and_not_for_ever() {
    let house = house().await;
    let record = call(None, "+390612345678");
    for _ in 0..2 {
        house.bookings.record_call(&record).await.unwrap();
    }
    let list = || {
        house.bookings.list_calls(CallQuestion {
            limit: 1,
            ..CallQuestion::default()
        })
    };
    let (calls, more) = list().await.unwrap();
    assert_eq!((calls.len(), more), (1, false));
    let kept = &calls[0];
    assert_eq!(kept.call.caller.expose(), "…5678");
    assert_eq!(
        (kept.kind.as_str(), kept.node.as_str()),
        ("sip", "voicebridge")
    );
    assert_eq!(
        (kept.call.ended_at, kept.call.q850, kept.call.hangup_by),
        (record.ended_at, 16, HangupBy::Caller)
    );
    assert_eq!(kept.call.quality, record.quality);
    house
        .bookings
        .purge(at("2027-02-21T09:00:00Z"))
        .await
        .unwrap();
    assert_eq!(list().await.unwrap().0.len(), 1);
    assert_eq!(
        house
            .bookings
            .purge(at("2027-02-21T10:00:00Z"))
            .await
            .unwrap()
            .calls,
        1
    );
    assert!(list().await.unwrap().0.is_empty());
}

#[tokio::test]
async fn meetings_that_are_over_are_deleted_after_the_retention() {
    let house = house().await;
    let meeting = house.book().await;
    assert_eq!(
        house
            .bookings
            .purge(at("2027-02-21T10:59:59Z"))
            .await
            .unwrap()
            .meetings,
        0
    );
    assert_eq!(
        house
            .bookings
            .purge(at("2027-02-21T11:00:01Z"))
            .await
            .unwrap()
            .meetings,
        1
    );
    assert_eq!(
        house
            .bookings
            .meeting(&house.key, meeting.id)
            .await
            .unwrap_err(),
        BookingError::NotFound
    );
}

#[tokio::test]
async fn keys_are_good_until_they_expire_or_are_revoked() {
    let house = house().await;
    let new = NewKey {
        organisation: "demo".to_owned(),
        role: KeyRole::Reader,
        scopes: vec![crate::booking::Scope::Dial],
        expires_at: Some(during()),
    };
    let (key, secret) = house.bookings.create_key(booked(), new).await.unwrap();
    assert_eq!(key.organisation, house.organisation);
    let auth = |now| house.bookings.authenticate(now, secret.expose());
    let known = auth(booked()).await.unwrap();
    assert_eq!(
        (known.id, known.role, known.scopes),
        (key.id, key.role, key.scopes)
    );
    assert_eq!(auth(during()).await.unwrap_err(), AuthError::BadKey);
    let other = crate::booking::KeySecret::generate().unwrap();
    let forged = format!(
        "{}_{}",
        secret.prefix(),
        other.expose().rsplit('_').next().unwrap()
    );
    for bad in [
        "",
        "vb_",
        secret.prefix(),
        &forged,
        other.expose(),
        &secret.hash(),
    ] {
        assert_eq!(
            house
                .bookings
                .authenticate(booked(), bad)
                .await
                .unwrap_err(),
            AuthError::BadKey
        );
    }
    house.bookings.revoke_key(booked(), key.id).await.unwrap();
    assert_eq!(auth(booked()).await.unwrap_err(), AuthError::BadKey);
    assert_eq!(house.bookings.list_keys().await.unwrap().len(), 2);
    let unknown = house.bookings.revoke_key(booked(), Uuid::nil());
    assert_eq!(unknown.await.unwrap_err(), BookingError::NotFound);
}

fn asking(
    house: &House,
    key: &ApiKey,
    pin: &str,
    when: Timestamp,
) -> impl Future<Output = Result<Explanation, ExplainError>> {
    let (bookings, key, pin) = (
        house.bookings.clone(),
        key.clone(),
        Pin::parse(pin).unwrap(),
    );
    async move { bookings.explain(booked(), &key, &pin, None, when).await }
}

async fn stranger(house: &House) -> ApiKey {
    let new = NewKey {
        organisation: "other".to_owned(),
        role: KeyRole::Admin,
        scopes: Vec::new(),
        expires_at: None,
    };
    house.bookings.create_key(booked(), new).await.unwrap().0
}

#[tokio::test]
async fn explain_tells_owners_the_truth_and_others_nothing() {
    let house = house().await;
    let meeting = house.book().await;
    let pin = pins(&meeting).remove(0);
    let told = asking(&house, &house.key, &pin, during()).await.unwrap();
    assert_eq!(
        (told.outcome, told.meeting, told.role),
        (Outcome::Joined, Some(meeting.id), Some(Role::Guest))
    );
    let told = asking(&house, &house.key, &pin, booked()).await.unwrap();
    assert_eq!(
        (told.outcome, told.opens_at),
        (Outcome::TooEarly, Some(at("2026-11-23T08:45:00Z")))
    );
    let stranger = stranger(&house).await;
    let foreign = asking(&house, &stranger, &pin, during()).await.unwrap();
    let unknown = asking(&house, &stranger, wrong_pin(&meeting), during())
        .await
        .unwrap();
    assert_eq!(foreign, unknown);
    assert_eq!(
        (foreign.outcome, foreign.meeting),
        (Outcome::WrongPin, None)
    );
}

#[tokio::test]
async fn explain_is_no_way_to_search_for_pins() {
    let house = house().await;
    let meeting = house.book().await;
    let stranger = stranger(&house).await;
    for _ in 0..60 {
        asking(&house, &stranger, wrong_pin(&meeting), during())
            .await
            .unwrap();
    }
    let often = asking(&house, &stranger, wrong_pin(&meeting), during())
        .await
        .unwrap_err();
    assert!(
        matches!(often, ExplainError::TooOften { retry_seconds } if retry_seconds > 3_000),
        "{often:?}"
    );
    assert!(
        asking(&house, &house.key, wrong_pin(&meeting), during())
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_call_that_never_got_in_is_shown_to_whose_number_it_was_or_who_is_alone_here() {
    let number = DialInNumber {
        number: "7001".to_owned(),
        country: None,
        language: None,
        organisation: Some("other".to_owned()),
        label: None,
        toll_free: false,
    };
    let house = house().await;
    house.bookings.ensure_echo_meeting(booked()).await.unwrap();
    let record = async |number: &str| {
        let call = CallRecord {
            number: number.to_owned(),
            ..call(None, "+39061")
        };
        house.bookings.record_call(&call).await.unwrap();
        let question = CallQuestion {
            limit: 10,
            ..CallQuestion::default()
        };
        let calls = house.bookings.list_calls(question).await.unwrap().0;
        calls
            .into_iter()
            .find(|c| c.call.id == call.id)
            .unwrap()
            .organisation_name
    };
    assert_eq!(
        record("7000").await.as_deref(),
        Some("demo"),
        "the only organisation"
    );
    stranger(&house).await;
    let seeded = house.bookings.seed_numbers(booked(), vec![number]);
    seeded.await.unwrap();
    assert_eq!(record("7000").await, None, "anybody's");
    assert_eq!(record("7001").await.as_deref(), Some("other"));
    let reserved = house
        .bookings
        .organisation_or_new(booked(), "voicebridge:echo")
        .await;
    assert!(matches!(reserved, Err(BookingError::Invalid(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_server_is_away_known_pins_open_and_others_hear_try_again() {
    if !ON_POSTGRES {
        return; // A file is never away.
    }
    let server = postgres::Server::start();
    let store = SqlStore::postgres(&server.database()).await.unwrap();
    let node = || Bookings::new(BookingSettings::default(), Arc::new(store.clone())).unwrap();
    let (bookings, other_node) = (node(), node());
    let organisation = bookings
        .organisation_or_new(booked(), "demo")
        .await
        .unwrap();
    let book = async |on: &Bookings| {
        let meeting = on.book_meeting(during(), &organisation, permanent()).await;
        meeting.map(|meeting| pins(&meeting).remove(0))
    };
    let dial = async |pin: &str| {
        let query = PinQuery {
            call: call_id(),
            pin: Pin::parse(pin).unwrap(),
            number: None,
            caller: CallerNumber::new("+39061"),
            standing: Standing::Unknown,
        };
        // The call waits ten seconds for an answer.
        tokio::time::timeout(
            Duration::from_secs(5),
            bookings.resolve_pin(during(), query),
        )
        .await
        .unwrap()
    };
    let known = book(&bookings).await.unwrap();
    let unknown = book(&other_node).await.unwrap();
    bookings.tend_failure_budgets(during()).await.unwrap();
    server.stop();
    assert!(matches!(dial(&known).await, PinVerdict::Admitted(_)));
    for pin in [unknown.as_str(), "4815162342"] {
        let refused = dial(pin).await;
        assert!(matches!(refused, PinVerdict::Refused(Refusal::Unavailable)));
    }
    assert_eq!(bookings.failure_budget_remaining(), 98);
    // The others use up the node's share; nothing of that is held against a caller who knows a PIN that it knows.
    for n in 0..6 {
        dial(&format!("481516230{n}")).await;
    }
    assert!(matches!(dial(&known).await, PinVerdict::Admitted(_)));
    let refused = book(&bookings).await.unwrap_err();
    let away = |error: &StoreError| matches!(error, StoreError::Busy | StoreError::Away(_));
    assert!(
        matches!(&refused, BookingError::Store(error) if away(error)),
        "{refused:?}"
    );
    server.start_again();
    let back = async { while bookings.ping().await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(5), back)
        .await
        .unwrap();
    assert!(matches!(dial(&unknown).await, PinVerdict::Admitted(_)));
    book(&bookings).await.unwrap();
}

/// Hands connections on to a server, until those that there are by then hang for ever: as after a failover,
/// when the machine they led to is gone.
async fn failover_of(server: &str, folder: &Path) -> tokio::sync::watch::Sender<bool> {
    let (hang, hangs) = tokio::sync::watch::channel(false);
    let name = ".s.PGSQL.5432";
    let listener = tokio::net::UnixListener::bind(folder.join(name)).unwrap();
    let server = Path::new(server).join(name);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let (mut hangs, server) = (hangs.clone(), server.clone());
            tokio::spawn(async move {
                let mut far = tokio::net::UnixStream::connect(server).await.unwrap();
                let is_new = *hangs.borrow();
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    () = async { drop(hangs.wait_for(|hangs| *hangs && !is_new).await) } => {
                        std::future::pending().await
                    }
                }
            });
        }
    });
    hang
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_hang_for_ever_take_nobody_s_place() {
    if !ON_POSTGRES {
        return; // There are none to a file.
    }
    use sqlx::{Connection as _, Executor as _};
    let direct = postgres::Server::shared().database();
    let (url, server) = direct.split_once("?host=").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let hang = failover_of(server, dir.path()).await;
    let through = format!("{url}?host={}", dir.path().display());
    let store = SqlStore::postgres(&through).await.unwrap();
    let mut locker = sqlx::PgConnection::connect(&direct).await.unwrap();
    let lock = "BEGIN; LOCK TABLE organisations IN ACCESS EXCLUSIVE MODE";
    locker.execute(lock).await.unwrap();
    let asking: Vec<_> = (0..40)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.ping().await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    hang.send_replace(true);
    for asked in asking {
        assert!(asked.await.unwrap().is_err());
    }
    locker.execute("ROLLBACK").await.unwrap();
    let back = async { while store.ping().await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(5), back)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_start_at_once_bring_their_numbers_and_agree_on_the_echo_meeting() {
    for round in 0..20 {
        let house = house().await;
        let node =
            || Bookings::new(BookingSettings::default(), Arc::new(house.store.clone())).unwrap();
        let number = |n: u32| DialInNumber {
            number: format!("+3906{n:04}"),
            country: None,
            language: None,
            organisation: None,
            label: None,
            toll_free: false,
        };
        let numbers: Vec<DialInNumber> = (0..30).map(number).collect();
        let other_way_round = numbers.iter().rev().cloned().collect();
        let start = |numbers: Vec<DialInNumber>| {
            let node = node();
            tokio::spawn(async move {
                node.seed_numbers(booked(), numbers).await.map(drop)?;
                node.ensure_echo_meeting(booked()).await
            })
        };
        let (one, other) = (start(numbers), start(other_way_round));
        let (one, other) = (one.await.unwrap(), other.await.unwrap());
        assert_eq!(one.unwrap(), other.unwrap(), "round {round}");
        assert_eq!(house.store.numbers().await.unwrap().len(), 30);
    }
}

/// Guesses by everybody at once, on nodes that share a store: how many were evaluated.
async fn guess_everywhere(
    nodes: &[Bookings],
    now: Timestamp,
    guesses: u32,
    standing: Standing,
) -> u64 {
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..guesses {
        let bookings = nodes[n as usize % nodes.len()].clone();
        let query = PinQuery {
            call: call_id(),
            // The same one again would be no new guess.
            pin: Pin::parse(&format!("48{:08}", now.as_second() % 100_000_000)).unwrap(),
            number: None,
            caller: CallerNumber::new(&format!("+3907{n:05}")),
            standing,
        };
        tasks.spawn(async move { bookings.resolve_pin(now, query).await });
    }
    let verdicts = tasks.join_all().await;
    let wrong = |verdict: &&PinVerdict| matches!(verdict, PinVerdict::Refused(Refusal::Wrong));
    verdicts.iter().filter(wrong).count() as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_together_never_evaluate_more_wrong_pins_in_an_hour_than_the_budget() {
    let house = house().await;
    let node = || Bookings::new(BookingSettings::default(), Arc::new(house.store.clone())).unwrap();
    let nodes = [house.bookings.clone(), node(), node()];
    let meeting = house.book().await;
    let pin = pins(&meeting).remove(0);
    let mut wrong = guess_everywhere(&nodes, during(), 400, Standing::Proven).await;
    for second in 1..4_i64 {
        let now = during() + second.seconds();
        for node in &nodes {
            node.tend_failure_budgets(now).await.unwrap();
        }
        wrong += guess_everywhere(&nodes, now, 200, Standing::Proven).await;
    }
    assert!((76..=80).contains(&wrong), "{wrong}");
    // A process that is killed refills nothing.
    let later = during() + 10.seconds();
    let reborn = [node()];
    reborn[0].tend_failure_budgets(later).await.unwrap();
    let left = reborn[0].failure_budget_remaining();
    assert!(u64::from(left) <= 100 - wrong + 10, "{left}");
    wrong += guess_everywhere(&reborn, later, 100, Standing::Proven).await;
    assert!(wrong <= 80, "{wrong}");
    // They come back an hour later, without anybody's doing.
    let back = during() + 62.minutes();
    let wrong = guess_everywhere(&nodes, back, 300, Standing::Proven).await;
    assert!((76..=80).contains(&wrong), "{wrong}");
    let much_later = back + 62.minutes();
    for node in &nodes {
        node.tend_failure_budgets(much_later).await.unwrap();
        assert_eq!(node.failure_budget_remaining(), 100);
    }
    let query = PinQuery {
        call: call_id(),
        pin: Pin::parse(&pin).unwrap(),
        number: None,
        caller: CallerNumber::new("+39061"),
        standing: Standing::Unknown,
    };
    let verdict = nodes[1].resolve_pin(during() + 20.seconds(), query).await;
    assert!(matches!(verdict, PinVerdict::Admitted(_)), "{verdict:?}");
}

#[tokio::test]
async fn a_budget_that_runs_low_is_told_once_for_all_nodes() {
    let house = house().await;
    let node = || Bookings::new(BookingSettings::default(), Arc::new(house.store.clone())).unwrap();
    let nodes = [house.bookings.clone(), node()];
    for second in 0..4_i64 {
        let now = during() + second.seconds();
        guess_everywhere(&nodes, now, 30, Standing::Proven).await;
        for node in &nodes {
            node.tend_failure_budgets(now).await.unwrap();
        }
    }
    let filter = EventFilter {
        organisation: None,
        after: EventPosition(0),
        limit: 100,
    };
    let events = house.bookings.events(filter).await.unwrap();
    let low: Vec<_> = events.iter().map(|kept| &kept.event).collect();
    assert_eq!(low.len(), 1, "{low:?}");
    assert_eq!(low[0].kind, EventKind::FailureBudgetLow);
    assert_eq!(low[0].data["door"], "callers");
    assert_eq!(low[0].data["per_hour"], 80);
    assert!(low[0].data["remaining"].as_u64().unwrap() <= 40);
}

#[tokio::test]
async fn who_is_asked_about_beforehand_was_not_asked_for_digits_yet() {
    let house = house().await;
    let settings = BookingSettings {
        failure_budget: 10,
        ..BookingSettings::default()
    };
    let bookings = Bookings::new(settings, Arc::new(house.store.clone())).unwrap();
    let nodes = [bookings.clone()];
    let wrong = guess_everywhere(&nodes, during(), 6, Standing::Unknown).await;
    assert_eq!(wrong, 4, "half of eight");
    let asked = || bookings.pin_statistics().challenges()[0].1;
    let before = asked();
    let query = PinQuery {
        call: call_id(),
        pin: Pin::parse("4815162342").unwrap(),
        number: None,
        caller: CallerNumber::new("+39061"),
        standing: Standing::Unknown,
    };
    let unproven = |verdict| matches!(verdict, PinVerdict::Refused(Refusal::Unproven(_)));
    let beforehand = bookings.resolve_pin_beforehand(during(), query.clone());
    assert!(unproven(beforehand.await));
    assert_eq!(asked(), before);
    assert!(unproven(bookings.resolve_pin(during(), query).await));
    assert_eq!(asked(), before + 1);
}

#[tokio::test]
async fn a_share_that_is_given_back_is_the_others_at_once() {
    let house = house().await;
    let settings = BookingSettings {
        failure_budget: 1,
        ..BookingSettings::default()
    };
    let node = || Bookings::new(settings.clone(), Arc::new(house.store.clone())).unwrap();
    let (first, second) = (node(), node());
    first.tend_failure_budgets(during()).await.unwrap();
    let now = during() + 1.second();
    second.tend_failure_budgets(now).await.unwrap();
    first.give_failure_budgets_back(now).await.unwrap();
    let wrong = guess_everywhere(&[second], now + 1.second(), 2, Standing::Proven).await;
    assert_eq!(wrong, 1);
}

#[tokio::test]
async fn a_store_is_copied_whole_into_an_empty_one_of_the_other_kind() {
    let house = house().await;
    let meeting = house.book().await;
    house.bookings.ensure_echo_meeting(booked()).await.unwrap();
    house
        .bookings
        .record_call(&call(Some(meeting.id), "+390612345678"))
        .await
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let other = if ON_POSTGRES {
        SqlStore::sqlite(&dir.path().join("w.db")).await
    } else {
        SqlStore::postgres(&postgres::Server::shared().database()).await
    };
    let other = other.unwrap();
    let copied = house.store.copy_to(&other).await.unwrap();
    for (table, rows) in [
        ("organisations", 2),
        ("api_keys", 1),
        ("meetings", 2),
        ("pins", 3),
        ("calls", 1),
    ] {
        assert!(copied.contains(&(table, rows)), "{table}: {copied:?}");
    }
    let moved = Bookings::new(BookingSettings::default(), Arc::new(other.clone())).unwrap();
    let found = moved.meeting(&house.key, meeting.id).await.unwrap();
    assert_eq!(
        (pins(&found), &found.options),
        (pins(&meeting), &meeting.options)
    );
    let again = house.store.copy_to(&other).await.unwrap_err();
    assert_eq!(again, StoreError::NotEmpty);
    let back = house_with(BookingSettings::default()).await;
    assert_eq!(
        other.copy_to(&back.store).await.unwrap_err(),
        StoreError::NotEmpty
    );
}

async fn raw(path: &Path) -> sqlx::SqliteConnection {
    use sqlx::{ConnectOptions, sqlite::SqliteConnectOptions};
    SqliteConnectOptions::new()
        .filename(path)
        .connect()
        .await
        .unwrap()
}

#[tokio::test]
async fn a_locked_database_is_told_and_reading_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("v.db");
    let store = SqlStore::sqlite_waiting(&path, Duration::from_millis(50))
        .await
        .unwrap();
    let bookings = Bookings::new(BookingSettings::default(), Arc::new(store)).unwrap();
    let organisation = bookings
        .organisation_or_new(booked(), "demo")
        .await
        .unwrap();
    let mut other = raw(&path).await;
    sqlx::query("BEGIN IMMEDIATE")
        .execute(&mut other)
        .await
        .unwrap();
    let locked = bookings
        .book_meeting(booked(), &organisation, permanent())
        .await
        .unwrap_err();
    assert_eq!(locked, BookingError::Store(StoreError::Locked));
    assert!(locked.to_string().contains("locked by another process"));
    assert!(bookings.check(booked()).await[0].failed);
    assert!(bookings.ping().await.is_ok());
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    bookings
        .book_meeting(booked(), &organisation, permanent())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let garbage = dir.path().join("garbage.db");
    std::fs::write(
        &garbage,
        "no database at all, and long enough to be read as a header".repeat(40),
    )
    .unwrap();
    let refused = SqlStore::sqlite(&garbage).await.unwrap_err();
    assert!(matches!(refused, StoreError::Corrupt(_)), "{refused:?}");
    let newer = dir.path().join("newer.db");
    SqlStore::sqlite(&newer).await.unwrap().close().await;
    let sql = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'later', 1, x'00', 0)";
    sqlx::query(sql)
        .execute(&mut raw(&newer).await)
        .await
        .unwrap();
    assert_eq!(
        SqlStore::sqlite(&newer).await.unwrap_err(),
        StoreError::Newer
    );
    let nowhere = SqlStore::sqlite(&dir.path().join("no/such/folder.db"))
        .await
        .unwrap_err();
    assert!(matches!(nowhere, StoreError::Unavailable(_)), "{nowhere:?}");
}

#[tokio::test]
async fn nothing_printed_shows_a_pin_a_key_or_a_number() {
    let house = house().await;
    let meeting = house.book().await;
    let new = NewKey {
        organisation: "demo".to_owned(),
        role: KeyRole::Admin,
        scopes: Vec::new(),
        expires_at: None,
    };
    let made = house.bookings.create_key(booked(), new).await.unwrap();
    let record = call(None, "+390612345678");
    let pin = pins(&meeting).remove(0);
    let verdict = house.dial(during(), &pin, None, "+390612345678").await;
    let query = PinQuery {
        call: call_id(),
        pin: Pin::parse(&pin).unwrap(),
        number: None,
        caller: CallerNumber::new("+390612345678"),
        standing: Standing::Unknown,
    };
    let stored = house.store.pin(&query.pin).await.unwrap();
    let printed = format!(
        "{meeting:?} {made:?} {record:?} {verdict:?} {query:?} {stored:?} {:?}",
        house.bookings
    );
    for secret in pins(&meeting)
        .into_iter()
        .chain([made.1.expose().to_owned(), "0612345678".to_owned()])
    {
        assert!(!printed.contains(&secret), "{secret}");
    }
}

/// What was told after that position, and of whom.
async fn words_after(house: &House, position: i64) -> Vec<(EventKind, serde_json::Value)> {
    use crate::booking::event::{EventFilter, EventPosition};
    let filter = EventFilter {
        organisation: Some(house.organisation.id),
        after: EventPosition(position),
        limit: 100,
    };
    let told = house.store.events(filter).await.unwrap().into_iter();
    told.map(|told| (told.event.kind, told.event.data["id"].clone()))
        .collect()
}

#[tokio::test]
async fn what_a_process_was_killed_in_is_told_to_its_end_by_the_next_one() {
    use crate::booking::presence::{CutOff, SILENT_FOR};
    let house = house().await;
    let meeting = book_during(&house).await;
    let process =
        || Bookings::new(BookingSettings::default(), Arc::new(house.store.clone())).unwrap();
    let event = |kind: EventKind, data: serde_json::Value| crate::booking::event::Event {
        id: new_id(during()).unwrap(),
        kind,
        at: during(),
        organisation: Some(house.organisation.id),
        meeting: Some(meeting),
        data,
    };
    let phone = || serde_json::json!({"id": Uuid::from_u128(1).to_string(), "kind": "sip"});
    let held = || serde_json::json!({"id": Uuid::from_u128(2).to_string(), "kind": "asterisk"});
    let begun = vec![
        event(EventKind::MeetingStarted, serde_json::json!({})),
        event(EventKind::ParticipantJoined, phone()),
        event(EventKind::ParticipantJoined, held()),
    ];
    let first = process();
    first.keep_events(begun).await.unwrap();
    let told = async || words_after(&house, 3).await;
    let tell = async |by: &Bookings, whom| by.tell_what_was_cut_off(during(), whom).await.unwrap();

    let second = process();
    let (whom, home) = (CutOff::WithTheProcess, Uuid::from_u128(9));
    first.live_alone_in(home);
    first.beat(during()).await.unwrap();
    assert_eq!(tell(&second, whom).await, 0, "the first may live");
    second.live_alone_in(home);
    assert_eq!(
        tell(&second, whom).await,
        1,
        "where it lived nobody does now"
    );
    let gone = (EventKind::ParticipantLeft, phone()["id"].clone());
    assert_eq!(
        told().await,
        std::slice::from_ref(&gone),
        "an Asterisk may hold the other"
    );
    let found_again = vec![
        event(EventKind::MeetingStarted, serde_json::json!({})),
        event(EventKind::ParticipantJoined, held()),
    ];
    second
        .keep_new_events(Vec::new(), found_again)
        .await
        .unwrap();
    assert_eq!(tell(&second, CutOff::All).await, 0, "he was found again");

    let third = process();
    second.beat(during()).await.unwrap();
    assert_eq!(tell(&third, CutOff::All).await, 0, "the second may live");
    let later = during() + SILENT_FOR;
    let told_later = async |whom| third.tell_what_was_cut_off(later, whom).await.unwrap();
    assert_eq!(told_later(CutOff::WithTheProcess).await, 0);
    assert_eq!(told_later(CutOff::All).await, 2);
    assert_eq!(told_later(CutOff::All).await, 0, "told once");
    let ends = [
        gone,
        (EventKind::ParticipantLeft, held()["id"].clone()),
        (EventKind::MeetingEnded, serde_json::Value::Null),
    ];
    assert_eq!(told().await, ends);
}

#[tokio::test]
async fn who_goes_on_at_another_node_is_there_whatever_the_first_one_tells_of_him_later() {
    use crate::booking::presence::{CutOff, SILENT_FOR};
    let house = house().await;
    let meeting = book_during(&house).await;
    let process = |node: &str| {
        let settings = BookingSettings {
            node: node.to_owned(),
            ..BookingSettings::default()
        };
        Bookings::new(settings, Arc::new(house.store.clone())).unwrap()
    };
    let event = |kind: EventKind, data: serde_json::Value| crate::booking::event::Event {
        id: new_id(during()).unwrap(),
        kind,
        at: during(),
        organisation: Some(house.organisation.id),
        meeting: Some(meeting),
        data,
    };
    let held = || serde_json::json!({"id": Uuid::from_u128(2).to_string(), "kind": "asterisk"});
    let begun = || {
        vec![
            event(EventKind::MeetingStarted, serde_json::json!({})),
            event(EventKind::ParticipantJoined, held()),
        ]
    };
    let (one, two) = (process("one"), process("two"));
    one.keep_events(begun()).await.unwrap();
    two.keep_new_events(Vec::new(), begun()).await.unwrap();
    // It hears nothing of him any more, and then that he is elsewhere.
    let updated = event(EventKind::ParticipantUpdated, held());
    one.keep_new_events(Vec::new(), vec![updated])
        .await
        .unwrap();
    let over = vec![
        event(EventKind::ParticipantLeft, held()),
        event(EventKind::MeetingEnded, serde_json::json!({})),
    ];
    one.keep_new_events(Vec::new(), over).await.unwrap();

    // The other one dies.
    let later = during() + SILENT_FOR;
    let told_by = async |node: &str| {
        let next = process(node);
        next.tell_what_was_cut_off(later, CutOff::All)
            .await
            .unwrap()
    };
    assert_eq!(told_by("one").await, 0, "it had let go of him");
    assert_eq!(told_by("two").await, 2);
    let ends = [
        (EventKind::ParticipantLeft, held()["id"].clone()),
        (EventKind::MeetingEnded, serde_json::Value::Null),
    ];
    assert_eq!(words_after(&house, 2).await, ends);
}

async fn book_during(house: &House) -> crate::booking::MeetingId {
    let booked = house
        .bookings
        .book_meeting(booked(), &house.organisation, permanent());
    booked.await.unwrap().id
}
