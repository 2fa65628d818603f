//! What is kept and shown of callers: no more than the policy says, no longer than it says, nothing of who was forgotten.

use std::cell::RefCell;
use std::io::Write;

use sqlx::Row as _;
use voicebridge::booking::admission::OrganisationId;
use voicebridge::booking::event::{EventFilter, EventPosition};
use voicebridge::booking::{CallerKey, Disclosure, Event, EventDocument, EventKind, PrivacyPolicy};

use super::*;

const NUMBER: &str = "+390699887733";
/// What would tell the number in whichever form it were written.
const CANARY: &str = "0699887733";
const LAST4: &str = "…7733";

/// Everything that the store holds, as text; of a file, also what isn't used of it any more.
async fn dump(api: &Api) -> String {
    if !ON_POSTGRES {
        let mut all = Vec::new();
        for file in std::fs::read_dir(api.dir.path()).unwrap() {
            all.extend(std::fs::read(file.unwrap().path()).unwrap());
        }
        return String::from_utf8_lossy(&all).into_owned();
    }
    let pool = database(api.dir.path()).await;
    let tables = sqlx::query(
        "SELECT table_name::text FROM information_schema.tables WHERE table_schema = current_schema()",
    );
    let mut text = String::new();
    for table in tables.fetch_all(&pool).await.unwrap() {
        let table: String = table.get(0);
        let rows = sqlx::AssertSqlSafe(format!("SELECT t::text FROM {table} t"));
        for row in sqlx::query(rows).fetch_all(&pool).await.unwrap() {
            text.push_str(row.get(0));
            text.push('\n');
        }
    }
    pool.close().await;
    text
}

async fn organisation(api: &Api, key: &str) -> OrganisationId {
    let key = api.bookings.authenticate(NOW.get(), key).await.unwrap();
    key.organisation.id
}

/// A call of the canary's, as the gateway would have it recorded.
async fn calls(api: &Api, n: u128, owner: Option<OrganisationId>, booked: Option<&Value>) {
    let record = CallRecord {
        caller: CallerNumber::new(NUMBER),
        trunk: Some("carrier".to_owned()),
        verstat: None,
        sip_call_id: Some(format!("{CANARY}-{n}@192.0.2.7")),
        asterisk_channel: Some(format!("Local/{NUMBER}@out-0000000{n};1")),
        participant: Some(ParticipantId(Uuid::from_u128(1_000 + n))),
        ..call(n, owner.map(|id| json!(id)).as_ref(), booked)
    };
    api.bookings.record_call(&record).await.unwrap();
}

async fn told(api: &Api) -> String {
    let filter = EventFilter {
        organisation: None,
        after: EventPosition::default(),
        limit: 1_000,
    };
    let events = api.bookings.events(filter).await.unwrap();
    let documents: Vec<EventDocument> = events.into_iter().map(EventDocument::from).collect();
    serde_json::to_string(&documents).unwrap()
}

thread_local! {
    /// What this thread logs, once somebody wants to know.
    static LOGGED: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// The log of the thread that writes. A subscriber of one thread alone would miss what others asked for first.
struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOGGED.with_borrow_mut(|logged| logged.iter_mut().for_each(|log| log.extend(bytes)));
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn under_every_policy_a_number_is_where_it_may_be_and_nowhere_else() {
    use Disclosure::{Full, Last4, None as Nothing};
    let logged = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(|| Log)
        .finish();
    tracing::subscriber::set_global_default(logged).unwrap();
    LOGGED.set(Some(Vec::new()));
    for store in [Nothing, Last4, Full] {
        for show in [Nothing, Last4, Full] {
            let about = format!("store {store:?}, show {show:?}");
            let privacy = PrivacyPolicy {
                store,
                show,
                ..PrivacyPolicy::default()
            };
            let settings = BookingSettings {
                privacy,
                ..BookingSettings::default()
            };
            let api = Api::with(settings).await;
            let key = api.key("demo", KeyRole::Admin).await;
            let platform = api.key("portal", KeyRole::Platform).await;
            let booked = api.book(&key).await;
            let owner = organisation(&api, &key).await;
            calls(&api, 1, Some(owner), Some(&booked)).await;
            calls(&api, 2, None, None).await;

            let kept = dump(&api).await;
            assert_eq!(kept.contains(CANARY), store == Full, "{about}");
            assert_eq!(
                kept.contains(LAST4),
                store == Last4 || (store, show) == (Full, Last4),
                "{about}"
            );
            let mut exports = vec![told(&api).await];
            for key in [&key, &platform] {
                let list = api.ask(key, "GET", "/v1/calls", None).await;
                let hash = list.json()["items"][0]["caller_hash"].clone();
                let hash = hash.as_str().unwrap().to_owned();
                let csv = [("accept", "text/csv")];
                let csv = api.ask_with(key, "GET", "/v1/calls", None, &csv).await;
                assert!(csv.text.contains(&hash), "{about}: {}", csv.text);
                let path = format!("/v1/callers/{hash}");
                let caller = api.ask(key, "GET", &path, None).await;
                assert_eq!(caller.json()["calls"], 1, "{about}");
                let metrics = api.ask(key, "GET", "/metrics", None).await;
                let audit = api.ask(key, "GET", "/v1/audit", None).await;
                exports.extend([list.text, csv.text, caller.text, metrics.text, audit.text]);
            }
            for export in &exports {
                let full = (store, show) == (Full, Full);
                assert!(full || !export.contains(CANARY), "{about}: {export}");
                let hidden = store == Nothing || show == Nothing;
                assert!(!hidden || !export.contains(LAST4), "{about}: {export}");
                let tells_calls = export.contains("wrong_pin") && !export.contains("# HELP");
                assert!(
                    !(full && tells_calls) || export.contains(NUMBER),
                    "{about}: {export}"
                );
            }
        }
    }
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Admin).await;
    let pin = json!({"pin": CANARY});
    api.ask(&key, "POST", "/v1/pins/explain", Some(pin)).await;
    let log = String::from_utf8(LOGGED.take().unwrap()).unwrap();
    assert!(
        log.contains("a PIN was explained"),
        "something is logged: {log}"
    );
    assert!(!log.contains(CANARY) && !log.contains(LAST4));
}

#[tokio::test]
async fn callers_are_told_apart_by_a_hash_that_stays() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Admin).await;
    let other = api.key("other", KeyRole::Admin).await;
    let platform = api.key("portal", KeyRole::Platform).await;
    let owner = organisation(&api, &key).await;
    for n in 1..=2 {
        calls(&api, n, Some(owner), None).await;
    }
    let withheld = CallRecord {
        caller: CallerNumber::new("anonymous"),
        ..call(3, Some(&json!(owner)), None)
    };
    api.bookings.record_call(&withheld).await.unwrap();
    let list = api.ask(&key, "GET", "/v1/calls", None).await.json();
    let hashes = |n: usize| list["items"][n]["caller_hash"].clone();
    assert_eq!((hashes(0), hashes(1)), (Value::Null, hashes(2)));
    let hash = hashes(1).as_str().unwrap().to_owned();

    let find = async |key: &str, body: Value| api.ask(key, "POST", "/v1/callers", Some(body)).await;
    let found = find(&key, json!({"number": "0039 06 99887733"})).await;
    assert_eq!(found.json(), json!({"hash": hash}), "{}", found.text);
    let by_platform = json!({"number": NUMBER, "organisation": "demo"});
    assert_eq!(find(&platform, by_platform).await.json()["hash"], hash);
    let elsewhere = find(&other, json!({"number": NUMBER})).await.json();
    assert_ne!(
        elsewhere["hash"], hash,
        "nobody finds his callers at others'"
    );
    for (body, error) in [
        (json!({}), "number required"),
        (json!({"number": " "}), "number invalid"),
        (json!({"number": "1".repeat(129)}), "number too_long"),
    ] {
        assert_eq!(find(&key, body).await.errors(), [error]);
    }
    let one = format!("/v1/calls?caller_hash={hash}");
    let his = api.ask(&key, "GET", &one, None).await.json();
    assert_eq!(his["items"].as_array().unwrap().len(), 2);
    let wrong = api.ask(&key, "GET", "/v1/calls?caller_hash=x", None).await;
    assert_eq!(wrong.errors(), ["caller_hash invalid"]);
    let booking = api.key("demo", KeyRole::Booking).await;
    assert_eq!(
        find(&booking, json!({"number": "1"})).await.problem(403),
        "forbidden"
    );

    // Another process on the same store, or the same one after a restart.
    let again = open(api.dir.path(), BookingSettings::default()).await;
    let number = CallerNumber::new(NUMBER);
    let hashed = again.caller_hash(Some(owner), &number).await.unwrap();
    assert_eq!(hashed.unwrap().as_str(), hash);
    let own = BookingSettings {
        caller_key: Some(CallerKey::new(b"a key that doesn't lie in the store")),
        ..BookingSettings::default()
    };
    let configured = open(api.dir.path(), own).await;
    let hashed = configured.caller_hash(Some(owner), &number).await.unwrap();
    assert_ne!(hashed.unwrap().as_str(), hash);
    // 5 were asked above, two of which were refused before that.
    let mut asked = 0;
    while find(&key, json!({"number": "1"})).await.status == 200 {
        asked += 1;
        assert!(asked < 61, "numbers can be tried out");
    }
    let refused = find(&key, json!({"number": "1"})).await;
    assert_eq!(refused.problem(429), "too_many_requests");
    assert!(asked > 50 && refused.header("retry-after") != "0");
}

/// Numbers are kept and shown in full.
fn showing_all() -> BookingSettings {
    BookingSettings {
        privacy: PrivacyPolicy {
            show: Disclosure::Full,
            store: Disclosure::Full,
            ..PrivacyPolicy::default()
        },
        ..BookingSettings::default()
    }
}

#[tokio::test]
async fn who_asks_to_be_forgotten_is_and_his_calls_still_count() {
    let api = Api::with(showing_all()).await;
    let key = api.key("demo", KeyRole::Admin).await;
    let other = api.key("other", KeyRole::Admin).await;
    let booked = api.book(&key).await;
    let (owner, foreign) = (
        organisation(&api, &key).await,
        organisation(&api, &other).await,
    );
    for n in 1..=3 {
        calls(&api, n, Some(owner), Some(&booked)).await;
    }
    let in_the_meeting = |n: u128, name: &str, number: &str| Event {
        id: Uuid::from_u128(5_000 + n),
        kind: EventKind::ParticipantJoined,
        at: NOW.get(),
        organisation: Some(owner),
        meeting: Some(id_of(&booked)),
        data: json!({"id": ParticipantId(Uuid::from_u128(1_000 + n)), "name": name, "number": number}),
    };
    let events = vec![
        in_the_meeting(1, "Forgotten Person", NUMBER),
        in_the_meeting(77, "Somebody Else", "+390611112222"),
    ];
    api.bookings.keep_events(events).await.unwrap();
    let hash = |list: Value| list["items"][0]["caller_hash"].as_str().unwrap().to_owned();
    let hash = hash(api.ask(&key, "GET", "/v1/calls", None).await.json());
    let path = format!("/v1/callers/{hash}");
    let read = api.ask(&key, "GET", &path, None).await.json();
    let now = "2026-11-20T08:00:00.123456Z";
    assert_eq!(
        read,
        json!({
            "hash": hash, "organisation": "demo", "numbers": [NUMBER], "calls": 3, "first_call_at": now,
            "last_call_at": now, "meetings": 1, "events": 4,
        })
    );
    let theirs = api.ask(&other, "DELETE", &path, None).await;
    assert_eq!(theirs.problem(404), "not_found");
    calls(&api, 9, Some(foreign), None).await;
    let before = dump(&api).await;
    assert!(before.contains("Forgotten Person") && before.contains(&hash));

    set_clock("2026-11-20T08:00:01Z");
    assert_eq!(api.ask(&key, "DELETE", &path, None).await.status, 204);
    let after = dump(&api).await;
    assert!(!after.contains("Forgotten Person") && !after.contains(&hash));
    assert!(after.contains("Somebody Else") && after.contains("+390611112222"));
    assert!(
        after.contains(NUMBER),
        "the other organisation's caller is another one"
    );
    let list = api.ask(&key, "GET", "/v1/calls", None).await.json();
    let gone: Vec<Value> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|call| {
            json!([
                call["caller"],
                call["caller_hash"],
                call["sip_call_id"],
                call["asterisk_channel"],
                call["outcome"]
            ])
        })
        .collect();
    assert_eq!(gone, vec![json!(["", null, null, null, "wrong_pin"]); 3]);
    let told = told(&api).await;
    assert_eq!(
        told.matches("\"outcome\":\"wrong_pin\"").count(),
        4,
        "{told}"
    );
    for method in ["GET", "DELETE"] {
        assert_eq!(
            api.ask(&key, method, &path, None).await.problem(404),
            "not_found"
        );
    }
    let trail = api.ask(&key, "GET", "/v1/audit?limit=1", None).await.json();
    assert_eq!(
        (&trail["items"][0]["action"], &trail["items"][0]["subject"]),
        (
            &json!("DELETE /v1/callers/{hash}"),
            &json!("/v1/callers/{hash}")
        )
    );
    // A platform key may as well, for whomever he called.
    let platform = api.key("portal", KeyRole::Platform).await;
    let theirs = api
        .ask(&platform, "GET", "/v1/calls?organisation=other", None)
        .await
        .json();
    let path = format!(
        "/v1/callers/{}",
        theirs["items"][0]["caller_hash"].as_str().unwrap()
    );
    assert_eq!(api.ask(&platform, "DELETE", &path, None).await.status, 204);
    assert!(!dump(&api).await.contains(CANARY));
}

#[tokio::test]
async fn whose_calls_reached_nobody_is_found_and_forgotten_too() {
    let api = Api::new().await;
    let admin = api.key("demo", KeyRole::Admin).await;
    let platform = api.key("portal", KeyRole::Platform).await;
    calls(&api, 1, None, None).await;
    let asked = json!({"number": "0039 06 99887733"});
    let find = async |key: &str| {
        let found = api.ask(key, "POST", "/v1/callers", Some(asked.clone()));
        let found = found.await;
        assert_eq!(found.status, 200, "{}", found.text);
        format!("/v1/callers/{}", found.json()["hash"].as_str().unwrap())
    };
    let (path, of_demo) = (find(&platform).await, find(&admin).await);
    assert_ne!(path, of_demo, "he is nobody's caller");
    let kept = api.ask(&platform, "GET", &path, None).await.json();
    assert_eq!(
        (
            &kept["organisation"],
            &kept["numbers"],
            &kept["calls"],
            &kept["events"]
        ),
        (&Value::Null, &json!([LAST4]), &json!(1), &json!(1))
    );
    for method in ["GET", "DELETE"] {
        let theirs = api.ask(&admin, method, &path, None).await;
        assert_eq!(theirs.problem(404), "not_found");
    }
    assert!(dump(&api).await.contains(LAST4));
    let gone = api.ask(&platform, "DELETE", &path, None).await;
    assert_eq!(gone.status, 204);
    assert!(!dump(&api).await.contains(LAST4));
    let again = api.ask(&platform, "GET", &path, None).await;
    assert_eq!(again.problem(404), "not_found");
}

/// How many calls of one number a company's permanent room had.
const MANY: usize = 3_000;

#[tokio::test]
async fn a_company_s_number_is_found_and_forgotten_in_time_whatever_went_on_in_its_room() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Admin).await;
    let booked = api.book(&key).await;
    let owner = organisation(&api, &key).await;
    calls(&api, 1, Some(owner), Some(&booked)).await;
    let first = api.ask(&key, "GET", "/v1/calls", None).await.json();
    let hash = first["items"][0]["caller_hash"].as_str().unwrap();
    let path = format!("/v1/callers/{hash}");
    let pool = database(api.dir.path()).await;
    let more = "INSERT INTO calls (id, participant, kind, organisation, number, caller, started_at, ended_at, meeting,
            outcome, pin_attempts, hangup_by, q850, node, echo, caller_hash)
        WITH RECURSIVE n (i) AS (SELECT 100000000001 UNION ALL SELECT i + 1 FROM n WHERE i < 100000000000 + $1)
        SELECT CAST(n.i AS TEXT), '00000000-0000-0000-0000-' || CAST(n.i AS TEXT), kind, organisation, number, caller,
            started_at, ended_at, meeting, outcome, pin_attempts, hangup_by, q850, node, echo, caller_hash FROM calls, n";
    sqlx::query(more)
        .bind(MANY as i64)
        .execute(&pool)
        .await
        .unwrap();
    let events: Vec<Event> = (1..=MANY)
        .map(|n| Event {
            id: Uuid::from_u128(10_000 + n as u128),
            kind: EventKind::ParticipantLeft,
            at: NOW.get(),
            organisation: Some(owner),
            meeting: Some(id_of(&booked)),
            data: json!({
                "codec": "PCMA", "name": "Forgotten Person", "number": LAST4, "role": "guest",
                "id": format!("00000000-0000-0000-0000-{}", 100_000_000_000 + n),
            }),
        })
        .collect();
    for events in events.chunks(500) {
        api.bookings.keep_events(events.to_vec()).await.unwrap();
    }
    // As of a version that didn't write down of whom they tell.
    let clear = sqlx::query("UPDATE events SET participant = NULL");
    clear.execute(&pool).await.unwrap();
    let migration = include_str!("../../migrations/0133_event_participant.sql");
    let fill = &migration[migration.find("WITH").unwrap()..migration.find("CREATE").unwrap()];
    sqlx::query(sqlx::AssertSqlSafe(fill.to_owned()))
        .execute(&pool)
        .await
        .unwrap();

    let in_time = async |method: &str| {
        let answer = api.ask(&key, method, &path, None);
        let within = std::time::Duration::from_secs(2);
        tokio::time::timeout(within, answer).await.expect(method)
    };
    let kept = in_time("GET").await.json();
    assert_eq!(
        (&kept["calls"], &kept["events"]),
        (&json!(MANY + 1), &json!(MANY + 1))
    );
    assert_eq!(in_time("DELETE").await.status, 204);
    let told = told(&api).await;
    assert!(told.contains("PCMA") && !told.contains("Forgotten Person") && !told.contains(LAST4));
    pool.close().await;
}

#[tokio::test]
async fn what_an_organisation_wants_kept_is_not_guessed_while_nobody_can_read_it() {
    let settings = showing_all();
    let api = Api::with(settings.clone()).await;
    let platform = api.key("portal", KeyRole::Platform).await;
    let strict = json!({"name": "strict", "privacy_store": "none"});
    api.ask(&platform, "POST", "/v1/organisations", Some(strict))
        .await;
    let owner = organisation(&api, &api.key("strict", KeyRole::Admin).await).await;
    let record = CallRecord {
        caller: CallerNumber::new(NUMBER),
        ..call(1, Some(&json!(owner)), None)
    };

    let fresh = open(api.dir.path(), settings).await;
    let pool = database(api.dir.path()).await;
    let away = sqlx::query("ALTER TABLE organisations RENAME TO elsewhere");
    away.execute(&pool).await.unwrap();
    let shown = fresh.privacy_of(NOW.get(), Some(owner)).await;
    assert_eq!(shown.show, Disclosure::None, "nothing until it is known");
    fresh.record_call(&record).await.unwrap_err();
    let back = sqlx::query("ALTER TABLE elsewhere RENAME TO organisations");
    back.execute(&pool).await.unwrap();
    pool.close().await;
    fresh.record_call(&record).await.unwrap();
    let shown = fresh.privacy_of(NOW.get(), Some(owner)).await;
    assert_eq!(
        (shown.show, shown.store),
        (Disclosure::Full, Disclosure::None)
    );
    let list = api.ask(&platform, "GET", "/v1/calls", None).await.json();
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    assert!(!dump(&api).await.contains(CANARY));
}

#[tokio::test]
async fn what_was_kept_long_enough_is_gone_from_the_tables_and_from_the_file() {
    let api = Api::with(showing_all()).await;
    let platform = api.key("portal", KeyRole::Platform).await;
    let short = json!({"name": "short", "retain_days": 10});
    api.ask(&platform, "POST", "/v1/organisations", Some(short))
        .await;
    let (demo, short) = (
        api.key("demo", KeyRole::Admin).await,
        api.key("short", KeyRole::Admin).await,
    );
    let hook = json!({"url": "https://example.org/hook"});
    for key in [&demo, &short] {
        api.ask(key, "POST", "/v1/webhooks", Some(hook.clone()))
            .await;
        let owner = organisation(&api, key).await;
        let booked = api.book(key).await;
        let offset = if key == &demo { 0 } else { 50 };
        for n in 1..=3 {
            calls(&api, offset + n, Some(owner), Some(&booked)).await;
        }
    }
    calls(&api, 99, None, None).await;
    let count = async |key: &str| {
        let calls = api.ask(key, "GET", "/v1/calls", None).await.json();
        calls["items"].as_array().unwrap().len()
    };
    let purge = async |at: &str| api.bookings.purge(at.parse().unwrap()).await.unwrap();
    assert_eq!(purge("2026-11-30T07:59:59Z").await.calls, 0);
    assert_eq!(
        (
            count(&demo).await,
            count(&short).await,
            count(&platform).await
        ),
        (3, 3, 7)
    );
    assert_eq!(purge("2026-11-30T08:00:01Z").await.calls, 3);
    assert_eq!(
        (
            count(&demo).await,
            count(&short).await,
            count(&platform).await
        ),
        (3, 0, 4)
    );
    let kept = dump(&api).await;
    assert!(kept.contains(CANARY), "of those with longer retention");
    assert_eq!(told(&api).await, "[]", "events are gone sooner");
    assert_eq!(purge("2027-02-18T08:00:01Z").await.calls, 4);
    let kept = dump(&api).await;
    assert!(!kept.contains(CANARY), "no number is left");
    let audit = api.ask(&platform, "GET", "/v1/audit", None).await.json();
    assert_eq!(audit["items"], json!([]));
}
