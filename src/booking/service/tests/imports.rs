//! Static PINs that are imported: a refusal tells no more than a wrong PIN does, and costs as much.

use super::{House, booked, house, house_with, pins, stranger};
use crate::booking::admission::Role;
use crate::booking::change::Change;
use crate::booking::key::{ApiKey, KeyRole};
use crate::booking::meeting::Meeting;
use crate::booking::organisation::OrganisationChange;
use crate::booking::pin::PinRulesChange;
use crate::booking::service::pins::ExplainError;
use crate::booking::service::{BookingError, BookingSettings, NewKey};
use crate::booking::store::{Conflict, StoreError};

/// An admin's key of an organisation, and a meeting to import to.
async fn admin(house: &House, organisation: &str) -> (ApiKey, Meeting) {
    let key = admin_key(house, organisation).await;
    let made = house
        .bookings
        .book_meeting(booked(), &key.organisation, super::permanent());
    let meeting = made.await.unwrap();
    (key, meeting)
}

async fn admin_key(house: &House, organisation: &str) -> ApiKey {
    let new = NewKey {
        organisation: organisation.to_owned(),
        role: KeyRole::Admin,
        scopes: Vec::new(),
        expires_at: None,
    };
    house.bookings.create_key(booked(), new).await.unwrap().0
}

async fn import(
    house: &House,
    (key, meeting): (&ApiKey, &Meeting),
    pin: &str,
) -> Result<(), ExplainError> {
    let who = (Role::Guest, "Sala A");
    let done = house
        .bookings
        .import_pin(booked(), key, meeting.id, who, pin);
    done.await.map(drop)
}

fn is_taken(done: &Result<(), ExplainError>) -> bool {
    let taken = StoreError::Conflict(Conflict::PinTaken);
    *done == Err(ExplainError::Booking(BookingError::Store(taken)))
}

fn is_too_often(done: &Result<(), ExplainError>) -> bool {
    matches!(done, Err(ExplainError::TooOften { retry_seconds }) if *retry_seconds > 0)
}

/// PINs of somebody else's, each another one: the same again would be no new guess.
async fn taken(house: &House, how_many: usize) -> Vec<String> {
    let mut taken = Vec::new();
    while taken.len() < how_many {
        taken.extend(pins(&house.book().await));
    }
    taken
}

#[tokio::test]
async fn a_refused_import_is_a_wrong_pin_of_its_organisation_whatever_key_it_came_with() {
    let house = house().await;
    let taken = taken(&house, 11).await;
    let (first, meeting) = admin(&house, "other").await;
    for pin in ["1111111111", "2222222222"] {
        import(&house, (&first, &meeting), pin).await.unwrap();
    }
    let before = house.bookings.failure_budget_remaining();
    for (n, pin) in (1..=10).zip(&taken) {
        let key = admin_key(&house, "other").await;
        for _ in 0..2 {
            let refused = import(&house, (&key, &meeting), pin).await;
            assert!(is_taken(&refused), "{n}: {refused:?}");
        }
        let left = house.bookings.failure_budget_remaining();
        assert_eq!(left, before - n, "what was given, or asked again, is free");
    }
    let key = stranger(&house).await;
    for pin in [taken[10].as_str(), "3333333333"] {
        let refused = import(&house, (&key, &meeting), pin).await;
        assert!(is_too_often(&refused), "{refused:?}");
    }
    let (key, meeting) = admin(&house, "third").await;
    import(&house, (&key, &meeting), "3333333333")
        .await
        .unwrap();
}

#[tokio::test]
async fn imports_leave_callers_half_of_the_failure_budget() {
    let settings = BookingSettings {
        failure_budget: 20,
        ..BookingSettings::default()
    };
    let house = house_with(settings).await;
    let (one, its) = admin(&house, "one").await;
    let (two, theirs) = admin(&house, "two").await;
    let mut evaluated = 0;
    for (n, pin) in taken(&house, 20).await.iter().enumerate() {
        let from = if n % 2 == 0 {
            (&one, &its)
        } else {
            (&two, &theirs)
        };
        let refused = import(&house, from, pin).await;
        assert!(is_taken(&refused) || is_too_often(&refused), "{refused:?}");
        evaluated += u32::from(is_taken(&refused));
    }
    let left = house.bookings.failure_budget_remaining();
    assert_eq!(left, 20 - evaluated);
    assert!((10..=12).contains(&left), "{left}");
}

#[tokio::test]
async fn an_organisations_admin_keeps_many_imports_an_hour_for_all_its_keys() {
    let house = house().await;
    let (key, meeting) = admin(&house, "other").await;
    for n in 0..60 {
        let pin = format!("{}", 4_000_000_007_u64 + n * 1_000_003);
        let done = import(&house, (&key, &meeting), &pin).await;
        assert_eq!(done, Ok(()), "{n}");
    }
    let another = admin_key(&house, "other").await;
    let refused = import(&house, (&another, &meeting), "4999999999").await;
    assert!(is_too_often(&refused), "{refused:?}");
}

#[tokio::test]
async fn how_long_others_pins_are_and_how_many_there_are_is_told_to_nobody() {
    let house = house().await;
    let (long, _) = admin(&house, "long").await;
    let patch = async |key: &ApiKey, length: i64, digits: Option<&str>| {
        let asked = OrganisationChange {
            pin: PinRulesChange {
                length: Change::Set(length),
                digits: digits.map_or(Change::Keep, |d| Change::Set(d.to_owned())),
                ..PinRulesChange::default()
            },
            ..OrganisationChange::default()
        };
        let organisation = key.organisation.id;
        let patched = house
            .bookings
            .patch_organisation(booked(), key, organisation, asked, None);
        patched.await.map(drop)
    };
    patch(&long, 16, None).await.unwrap();
    let (_, its) = admin(&house, "long").await;
    assert_eq!(pins(&its)[0].len(), 16);
    let (key, meeting) = admin(&house, "other").await;
    import(&house, (&key, &meeting), "1111111111")
        .await
        .unwrap();
    let short = import(&house, (&key, &meeting), "111111111").await;
    let ExplainError::Booking(BookingError::Invalid(errors)) = short.unwrap_err() else {
        panic!("not refused as that");
    };
    assert!(errors[0].message.contains("10 digits"), "{errors:?}");
    // One's own rules count.
    let short = import(&house, (&long, &its), "5555555555").await;
    assert!(matches!(
        short,
        Err(ExplainError::Booking(BookingError::Invalid(_)))
    ));
    let weak = patch(&key, 6, Some("12")).await.unwrap_err();
    let BookingError::Invalid(errors) = weak else {
        panic!("{weak:?}");
    };
    let told = &errors[0].message;
    assert!(
        !told.contains("in use") && !told.contains("tries an hour"),
        "{told}"
    );
}
