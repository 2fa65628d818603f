//! Quotas: callers at once and minutes a month, over all nodes. Who is in stays in.

use voicebridge::booking::admission::{OrganisationId, PinQuery, PinVerdict};
use voicebridge::booking::store::QuotaStore;
use voicebridge::booking::store::quotas::{SeatClaim, SeatTurn};
use voicebridge::booking::{NoLineWhy, Pin, Refusal, Standing};

use super::*;

const OPEN: &str = "2026-11-23T09:30:00Z";

struct House {
    api: Api,
    platform: String,
    admin: String,
    pin: String,
    booked: Value,
    path: String,
}

/// An organisation with these quotas, and a meeting of its that is open.
async fn house(quotas: Value) -> House {
    let api = Api::new().await;
    let platform = api.key("portal", KeyRole::Platform).await;
    let made = with(json!({"name": "uni"}), quotas);
    let made = api
        .ask(&platform, "POST", "/v1/organisations", Some(made))
        .await;
    assert_eq!(made.status, 201, "{}", made.text);
    let path = format!("/v1/organisations/{}", made.json()["id"].as_str().unwrap());
    let admin = api.key("uni", KeyRole::Admin).await;
    let booked = api.book(&admin).await;
    let pin = booked["pins"]["guest"].as_str().unwrap().to_owned();
    set_clock(OPEN);
    House {
        api,
        platform,
        admin,
        pin,
        booked,
        path,
    }
}

impl House {
    async fn comes(&self, bookings: &Bookings, n: u128) -> Result<(), NoLineWhy> {
        let id = CallId(Uuid::from_u128(n));
        let query = PinQuery {
            call: id,
            pin: Pin::parse(&self.pin).unwrap(),
            number: Some("+390600".to_owned()),
            caller: CallerNumber::new("+390612345678"),
            standing: Standing::Unknown,
        };
        let verdict = bookings.resolve_pin(NOW.get(), query).await;
        match bookings.seat(NOW.get(), id, verdict).await {
            PinVerdict::Admitted(_) => Ok(()),
            PinVerdict::Refused(Refusal::NoLine(no_line)) => {
                assert_eq!(no_line.meeting, id_of(&self.booked));
                Err(no_line.why)
            }
            PinVerdict::Refused(other) => panic!("{other:?}"),
        }
    }

    async fn goes(&self, n: u128, seconds: i64) {
        let record = CallRecord {
            answered_at: Some(NOW.get() - jiff::SignedDuration::from_secs(seconds)),
            outcome: Outcome::Joined,
            ..call(n, Some(&json!(self.id().await)), Some(&self.booked))
        };
        self.api.bookings.record_call(&record).await.unwrap();
    }

    async fn id(&self) -> Uuid {
        let bookings = &self.api.bookings;
        let key = bookings.authenticate(NOW.get(), &self.admin).await.unwrap();
        key.organisation.id.0
    }

    async fn used(&self) -> Value {
        let path = format!("{}/usage", self.path);
        let answer = self.api.ask(&self.admin, "GET", &path, None).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let used = answer.json();
        let of = |what: &str| json!([used[what]["used"], used[what]["most"]]);
        json!([of("meetings"), of("callers"), of("minutes")])
    }
}

#[tokio::test]
async fn a_quota_holds_also_for_whom_first_nobody_could_read_it() {
    let house = house(json!({"callers_max": 1})).await;
    let fresh = open(house.api.dir.path(), BookingSettings::default()).await;
    let pool = database(house.api.dir.path()).await;
    // Enough to count callers by, not enough to tell what else the organisation has.
    for sql in [
        "ALTER TABLE organisations RENAME TO elsewhere",
        "CREATE VIEW organisations AS SELECT id, name, callers_max, minutes_per_month FROM elsewhere",
    ] {
        sqlx::query(sql).execute(&pool).await.unwrap();
    }
    assert_eq!(house.comes(&fresh, 1).await, Ok(()));
    assert_eq!(house.comes(&fresh, 2).await, Err(NoLineWhy::Callers));
    pool.close().await;
}

#[tokio::test]
async fn no_more_callers_come_in_than_may_and_who_is_in_stays() {
    let house = house(json!({"callers_max": 2, "meetings_max": 5})).await;
    let bookings = &house.api.bookings;
    let other_node = open(house.api.dir.path(), BookingSettings::default()).await;
    assert_eq!(house.comes(bookings, 1).await, Ok(()));
    assert_eq!(house.comes(&other_node, 2).await, Ok(()));
    assert_eq!(house.comes(bookings, 3).await, Err(NoLineWhy::Callers));
    assert_eq!(house.comes(&other_node, 4).await, Err(NoLineWhy::Callers));
    assert_eq!(house.comes(bookings, 1).await, Ok(()), "he is in already");
    assert_eq!(house.used().await, json!([[1, 5], [2, 2], [0, null]]));
    house.goes(1, 30).await;
    assert_eq!(house.comes(&other_node, 3).await, Ok(()), "one has left");
    // Fewer from now on: who is in stays in, and goes on counting while his node says so.
    let fewer = Some(json!({"callers_max": 1}));
    house
        .api
        .ask(&house.platform, "PATCH", &house.path, fewer)
        .await;
    assert_eq!(house.used().await, json!([[1, 5], [2, 1], [0, null]]));
    set_clock("2026-11-23T09:32:00Z");
    let there = vec![CallId(Uuid::from_u128(2))];
    bookings.extend_seats(NOW.get(), there).await.unwrap();
    set_clock("2026-11-23T09:34:00Z");
    assert_eq!(
        house.used().await[1],
        json!([1, 1]),
        "the other one's node is gone"
    );
    assert_eq!(house.comes(bookings, 5).await, Err(NoLineWhy::Callers));
    // Who lost only the process that held his call is let in, whatever the quota, and counts.
    let id = CallId(Uuid::from_u128(3));
    let (meeting, role) = (id_of(&house.booked), Role::Guest);
    let back = bookings.readmit(NOW.get(), meeting, role, None).await;
    let back = bookings.seat_again(NOW.get(), id, back).await;
    assert!(matches!(back, PinVerdict::Admitted(_)));
    assert_eq!(house.used().await[1], json!([2, 1]));
    let anybody = json!({"callers_max": null});
    house
        .api
        .ask(&house.platform, "PATCH", &house.path, Some(anybody))
        .await;
    assert_eq!(house.comes(bookings, 6).await, Ok(()));
    // Without a quota nobody waits until he is counted.
    for _ in 0..500 {
        if house.used().await[1] == json!([3, null]) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("he is not counted");
}

/// Two nodes with connections of their own. Whom a store that has too much to do gives no answer asks again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn however_many_come_at_once_on_two_nodes_no_more_get_in() {
    let house = house(json!({"callers_max": 7})).await;
    let stores = [
        Arc::new(store(house.api.dir.path()).await),
        Arc::new(store(house.api.dir.path()).await),
    ];
    let (at, owner) = (NOW.get(), OrganisationId(house.id().await));
    let mut all = tokio::task::JoinSet::new();
    for n in 0..32_usize {
        let store = Arc::clone(&stores[n % 2]);
        let claim = SeatClaim {
            call: CallId(Uuid::from_u128(100 + n as u128)),
            organisation: owner,
            at,
            counts_until: at + jiff::SignedDuration::from_mins(3),
            limited: true,
        };
        all.spawn(async move {
            loop {
                if let Ok(turn) = store.take_seat(claim).await {
                    return turn;
                }
            }
        });
    }
    let turns = all.join_all().await;
    let in_now = turns.iter().filter(|turn| **turn == SeatTurn::Taken);
    assert_eq!(in_now.count(), 7);
    assert_eq!(house.used().await[1], json!([7, 7]));
}

#[tokio::test]
async fn when_the_months_minutes_are_used_up_nobody_more_comes_in() {
    let house = house(json!({"minutes_per_month": 10})).await;
    let bookings = &house.api.bookings;
    assert_eq!(house.comes(bookings, 1).await, Ok(()));
    set_clock("2026-11-23T09:36:00Z");
    bookings
        .extend_seats(NOW.get(), vec![CallId(Uuid::from_u128(1))])
        .await
        .unwrap();
    assert_eq!(house.comes(bookings, 2).await, Ok(()), "six minutes of ten");
    house.goes(1, 360).await;
    house.goes(1, 360).await;
    assert_eq!(
        house.used().await[2],
        json!([6, 10]),
        "a record counts once"
    );
    set_clock("2026-11-23T09:40:00Z");
    let there = vec![CallId(Uuid::from_u128(2))];
    bookings.extend_seats(NOW.get(), there).await.unwrap();
    assert_eq!(
        house.used().await[2],
        json!([10, 10]),
        "with those who talk now"
    );
    assert_eq!(house.comes(bookings, 3).await, Err(NoLineWhy::Minutes));
    house.goes(2, 240).await;
    // Records are deleted sooner than the month is over; the minutes stay used.
    let days = json!({"retain_days": 1});
    house
        .api
        .ask(&house.platform, "PATCH", &house.path, Some(days))
        .await;
    let purged = bookings
        .purge("2026-11-26T00:00:00Z".parse().unwrap())
        .await;
    assert_eq!(purged.unwrap().calls, 2);
    assert_eq!(house.comes(bookings, 4).await, Err(NoLineWhy::Minutes));
    assert_eq!(house.used().await[2], json!([10, 10]));
    set_clock("2026-12-01T00:00:00Z");
    assert_eq!(house.used().await[2], json!([0, 10]), "another month");
}

#[tokio::test]
async fn quotas_are_the_platforms_to_set_and_the_admins_to_read() {
    let house = house(json!({"callers_max": 3, "minutes_per_month": 100})).await;
    let api = &house.api;
    let read = api.ask(&house.admin, "GET", &house.path, None).await.json();
    assert_eq!(
        (&read["callers_max"], &read["minutes_per_month"]),
        (&json!(3), &json!(100))
    );
    let more = json!({"callers_max": 4});
    let refused = api
        .ask(&house.admin, "PATCH", &house.path, Some(more))
        .await;
    assert_eq!(refused.problem(403), "forbidden");
    let wrong = json!({"callers_max": -1, "minutes_per_month": 1.5});
    let wrong = api
        .ask(&house.platform, "PATCH", &house.path, Some(wrong))
        .await;
    assert_eq!(wrong.errors(), ["minutes_per_month invalid"]);
    let wrong = json!({"callers_max": -1, "minutes_per_month": 1_000_000_001_u64});
    let wrong = api
        .ask(&house.platform, "PATCH", &house.path, Some(wrong))
        .await;
    assert_eq!(
        wrong.errors(),
        ["callers_max invalid", "minutes_per_month invalid"]
    );
    let path = format!("{}/usage", house.path);
    assert_eq!(house.used().await, json!([[1, null], [0, 3], [0, 100]]));
    let by_platform = api.ask(&house.platform, "GET", &path, None).await.json();
    assert_eq!(by_platform["month"], "2026-11");
    let stranger = api.key("demo", KeyRole::Admin).await;
    assert_eq!(
        api.ask(&stranger, "GET", &path, None).await.problem(404),
        "not_found"
    );
    let booking = api.key("uni", KeyRole::Booking).await;
    assert_eq!(
        api.ask(&booking, "GET", &path, None).await.problem(403),
        "forbidden"
    );
}
