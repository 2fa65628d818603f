//! PINs of single occurrences in the long run: as many as are needed, given a few at once, and no change of the meeting.

use std::collections::BTreeSet;

use jiff::civil::DateTime;
use jiff::{SignedDuration, Timestamp};

use super::{House, asked, at, booked, house};
use crate::booking::admission::{PinVerdict, Refusal, Role};
use crate::booking::change::{Change, MeetingChange, RecurrenceRequest};
use crate::booking::meeting::Meeting;
use crate::booking::recurrence::RecurrenceId;
use crate::booking::service::OccurrenceChange;
use crate::booking::store::Store;

fn days(n: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * n)
}

fn id(text: &str) -> RecurrenceId {
    text.parse().unwrap()
}

fn each(rule: &str, added: Vec<String>) -> MeetingChange {
    MeetingChange {
        recurrence: Change::Set(RecurrenceRequest {
            rule: rule.to_owned(),
            added,
            ..RecurrenceRequest::default()
        }),
        pins_per: Change::Set("occurrence".to_owned()),
        ..asked()
    }
}

async fn book(house: &House, change: MeetingChange) -> Meeting {
    let bookings = &house.bookings;
    let made = bookings.create_meeting(booked(), &house.organisation, change, None);
    made.await.unwrap().0
}

impl House {
    async fn read(&self, meeting: &Meeting) -> Meeting {
        let found = self.bookings.meeting(&self.key, meeting.id).await;
        found.unwrap()
    }
}

fn guest_of(meeting: &Meeting, occurrence: &str) -> Vec<String> {
    let own = |pin: &&crate::booking::pin::PinRecord| {
        pin.role == Role::Guest && pin.occurrence == Some(id(occurrence))
    };
    let found = meeting.pins.iter().filter(own);
    found.map(|pin| pin.pin.expose().to_owned()).collect()
}

#[tokio::test]
async fn a_series_with_one_every_hour_goes_on_getting_pins() {
    let house = house().await;
    let first: DateTime = "2026-11-23T10:00:00".parse().unwrap();
    let hours = (1..41 * 24_i64).filter(|hour| hour % 24 != 0);
    let added = hours.map(|hour| (first + SignedDuration::from_hours(hour)).to_string());
    let change = MeetingChange {
        ends_at: Change::Set("2026-11-23T10:30:00+01:00".to_owned()),
        early_join_minutes: Change::Set(5),
        overrun_minutes: Change::Set(10),
        ..each("FREQ=DAILY", added.collect())
    };
    let meeting = book(&house, change).await;
    let before = meeting.pins[0].clone();
    for day in (0..46).step_by(2) {
        let now = at("2026-11-23T08:00:00Z") + days(day);
        house.bookings.tend_occurrence_pins(now).await.unwrap();
        let left = house.read(&meeting).await.occurrences_without_pins(now);
        assert_eq!(left, [], "after {day} days");
    }
    let left = house.read(&meeting).await;
    assert!(left.pins.iter().all(|pin| pin.id != before.id));
}

#[tokio::test]
async fn what_a_series_is_given_as_time_goes_by_is_no_change_of_it() {
    let house = house().await;
    let meeting = book(&house, each("FREQ=WEEKLY", Vec::new())).await;
    assert_eq!(meeting.revision, 1);
    let later = booked() + days(20);
    let done = house.bookings.tend_occurrence_pins(later).await.unwrap();
    assert!(done.given >= 4 && done.withdrawn == 0, "{done:?}");
    let now = house.read(&meeting).await;
    assert!(now.pins.len() > meeting.pins.len());
    assert_eq!(
        (now.revision, now.updated_at),
        (meeting.revision, meeting.updated_at)
    );
    // Who read it before may change it; but what is written knows of the new PINs.
    assert!(!house.store.change(meeting.clone()).await.unwrap());
    let title = MeetingChange {
        title: Change::Set("Other".to_owned()),
        ..MeetingChange::default()
    };
    let patched =
        house
            .bookings
            .patch_meeting(later, &house.key, meeting.id, title, Some(meeting.revision));
    let patched = patched.await.unwrap();
    assert_eq!((patched.revision, patched.pins.len()), (2, now.pins.len()));
    // Nor is it given what another version of it was due.
    let steps = crate::booking::store::PinChange {
        meeting: meeting.id,
        at: later,
        mint: house.bookings.inner.mint.clone(),
        steps: Vec::new(),
        due_to: Some(1),
    };
    assert!(house.store.change_pins(steps).await.unwrap().is_none());
}

#[tokio::test]
async fn two_hundred_pins_are_made_a_few_at_once_and_all_of_them() {
    // The store minds how many it is asked for at once.
    let house = house().await;
    let meeting = book(&house, each("FREQ=DAILY", Vec::new())).await;
    assert_eq!((meeting.pins.len(), meeting.revision), (200, 1));
    assert_eq!(house.bookings.occurrence_pins_given(), 200);
    let rotated = house
        .bookings
        .rotate_pins(booked(), &house.key, meeting.id)
        .await;
    let rotated = rotated.unwrap();
    let digits =
        |meeting: &Meeting| -> BTreeSet<String> { super::pins(meeting).into_iter().collect() };
    assert_eq!(digits(&rotated).len(), 200);
    assert!(digits(&rotated).is_disjoint(&digits(&meeting)));
    assert_eq!(guest_of(&rotated, "20261123T100000").len(), 1);
}

#[tokio::test]
async fn a_series_that_begins_later_leaves_those_that_stay_their_own_pins() {
    let house = house().await;
    let meeting = book(&house, each("FREQ=WEEKLY;COUNT=4", Vec::new())).await;
    let cancel = OccurrenceChange {
        cancelled: Some(true),
        ..OccurrenceChange::default()
    };
    let first = id("20261123T100000");
    let cancelled =
        house
            .bookings
            .change_occurrence(booked(), &house.key, meeting.id, first, cancel, None);
    cancelled.await.unwrap();
    let change = MeetingChange {
        starts_at: Change::Set("2026-11-30T10:00:00+01:00".to_owned()),
        ends_at: Change::Set("2026-11-30T11:00:00+01:00".to_owned()),
        ..MeetingChange::default()
    };
    let later = house
        .bookings
        .patch_meeting(booked(), &house.key, meeting.id, change, None);
    later.await.unwrap();
    let later = house.read(&meeting).await;
    for day in ["20261130T100000", "20261207T100000", "20261214T100000"] {
        assert_eq!(guest_of(&later, day), guest_of(&meeting, day), "{day}");
    }
    assert_eq!(guest_of(&later, "20261221T100000").len(), 1);
    // Who was invited to the one that is gone doesn't get into another one's, nor does its end become that one's.
    let during: Timestamp = at("2026-11-30T09:30:00Z");
    let gone = &guest_of(&meeting, "20261123T100000")[0];
    let verdict = house.dial(during, gone, None, "+391").await;
    let cancelled = matches!(verdict, PinVerdict::Refused(Refusal::Cancelled));
    assert!(cancelled, "{verdict:?}");
    let own = &guest_of(&meeting, "20261130T100000")[0];
    let verdict = house.dial(during, own, None, "+392").await;
    assert!(matches!(verdict, PinVerdict::Admitted(_)), "{verdict:?}");
}
