//! The HTTP API, driven through its router on a SQLite file or on PostgreSQL, without a port.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]
#![allow(
    clippy::too_many_lines,
    reason = "a test tells one story from beginning to end"
)]

#[path = "api/dial.rs"]
mod dial;
#[path = "api/events.rs"]
mod events;
#[path = "api/examples.rs"]
mod examples;
#[path = "api/fsapi.rs"]
mod fsapi;
#[path = "api/invitation.rs"]
mod invitation;
#[path = "api/jitsi.rs"]
mod jitsi;
#[path = "api/live.rs"]
mod live;
#[path = "api/moving.rs"]
mod moving;
#[path = "api/numbers.rs"]
mod numbers;
#[path = "api/occurrence_pins.rs"]
mod occurrence_pins;
#[path = "api/pins.rs"]
mod pins;
#[path = "api/privacy.rs"]
mod privacy;
#[path = "api/quotas.rs"]
mod quotas;
#[path = "api/repetition.rs"]
mod repetition;
#[path = "api/rooms.rs"]
mod rooms;
#[path = "api/series.rs"]
mod series;
#[path = "api/statistics.rs"]
mod statistics;
#[path = "api/webhooks.rs"]
mod webhooks;

use std::cell::Cell;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;
use uuid::Uuid;
use voicebridge::api::{AppState, PROBLEM_CODES, openapi, router};
use voicebridge::booking::admission::CallId;
use voicebridge::booking::service::NewKey;
use voicebridge::booking::{
    BookingSettings, Bookings, CallRecord, CallerNumber, DialInNumber, Direction, HangupBy,
    KeyRole, MeetingId, Outcome, ParticipantId, Reach, Role, SqlStore, Verstat,
};
use voicebridge::call::RoomTerms;
use voicebridge::call::roster::{
    DialOrder, DurationHistogram, Gauges, LiveCalls, LiveError, LiveFuture, MutedBy, Participant,
    ParticipantState, Quality, Readiness, SipTraffic, TargetLeft, TrunkStanding,
};

use voicebridge::units::DialplanPlace;

#[path = "api/organisations.rs"]
mod organisations;
#[path = "support/postgres.rs"]
mod postgres;

/// These tests are compiled twice: by themselves, and as a part of `api_postgres`.
const ON_POSTGRES: bool = module_path!().len() > "api".len();

thread_local! {
    /// Each test runs on a thread of its own, and its requests with it.
    static NOW: Cell<Timestamp> = const { Cell::new(Timestamp::UNIX_EPOCH) };
}

fn set_clock(text: &str) {
    NOW.set(text.parse().unwrap());
}

/// People in meetings, without calls.
#[derive(Default)]
struct Roster {
    people: Mutex<Vec<(MeetingId, Participant)>>,
    away: Mutex<bool>,
    /// The terms that meetings were given.
    terms: Mutex<Vec<(MeetingId, RoomTerms)>>,
    readiness: Mutex<Readiness>,
    /// Who was to be called.
    dialled: Mutex<Vec<DialOrder>>,
    dial_refusal: Mutex<Option<LiveError>>,
    move_refusal: Mutex<Option<LiveError>>,
    /// Where participants were sent on to.
    moved: Mutex<Vec<DialplanPlace>>,
}

impl Roster {
    fn enter(&self, meeting: MeetingId, name: &str) -> ParticipantId {
        let id = ParticipantId(Uuid::from_u128(
            self.people.lock().unwrap().len() as u128 + 1,
        ));
        let participant = Participant {
            id,
            name: Some(name.to_owned()),
            role: Role::Guest,
            kind: "sip",
            state: ParticipantState::Joined,
            number: CallerNumber::new("+390612345678"),
            muted: false,
            muted_by: None,
            hand: false,
            talking: true,
            level_db: -20.0,
            joined_at: NOW.get(),
            codec: "PCMA",
            quality: Quality::default(),
        };
        self.people.lock().unwrap().push((meeting, participant));
        id
    }

    fn with<T>(
        &self,
        id: ParticipantId,
        change: impl FnOnce(&mut Participant) -> T,
    ) -> Result<T, LiveError> {
        if *self.away.lock().unwrap() {
            return Err(LiveError::Unavailable);
        }
        let mut people = self.people.lock().unwrap();
        let found = people.iter_mut().find(|(_, p)| p.id == id);
        found
            .map(|(_, p)| change(p))
            .ok_or(LiveError::NoSuchParticipant)
    }
}

impl LiveCalls for Roster {
    fn participants(&self, meeting: MeetingId) -> LiveFuture<'_, Vec<Participant>> {
        Box::pin(async move {
            if *self.away.lock().unwrap() {
                return Err(LiveError::Unavailable);
            }
            let people = self.people.lock().unwrap();
            Ok(people
                .iter()
                .filter(|(m, _)| *m == meeting)
                .map(|(_, p)| p.clone())
                .collect())
        })
    }

    fn set_muted(
        &self,
        _meeting: MeetingId,
        participant: ParticipantId,
        muted: bool,
    ) -> LiveFuture<'_, ()> {
        Box::pin(async move {
            self.with(participant, |p| {
                p.muted = muted;
                p.muted_by = muted.then_some(MutedBy::Host);
            })
        })
    }

    fn rename(
        &self,
        _meeting: MeetingId,
        participant: ParticipantId,
        name: Option<String>,
    ) -> LiveFuture<'_, ()> {
        Box::pin(async move { self.with(participant, |p| p.name = name) })
    }

    fn remove(&self, _meeting: MeetingId, participant: ParticipantId) -> LiveFuture<'_, ()> {
        Box::pin(async move {
            self.with(participant, |_| ())?;
            self.people
                .lock()
                .unwrap()
                .retain(|(_, p)| p.id != participant);
            Ok(())
        })
    }

    fn move_on(
        &self,
        _meeting: MeetingId,
        participant: ParticipantId,
        place: DialplanPlace,
    ) -> LiveFuture<'_, ()> {
        Box::pin(async move {
            self.with(participant, |_| ())?;
            if let Some(refusal) = *self.move_refusal.lock().unwrap() {
                return Err(refusal);
            }
            self.moved.lock().unwrap().push(place);
            Ok(())
        })
    }

    fn end_meeting(&self, meeting: MeetingId) -> LiveFuture<'_, u32> {
        Box::pin(async move {
            let mut people = self.people.lock().unwrap();
            let before = people.len();
            people.retain(|(m, _)| *m != meeting);
            Ok((before - people.len()) as u32)
        })
    }

    fn update_meeting(&self, meeting: MeetingId, terms: RoomTerms) -> LiveFuture<'_, ()> {
        Box::pin(async move {
            if *self.away.lock().unwrap() {
                return Err(LiveError::Unavailable);
            }
            self.terms.lock().unwrap().push((meeting, terms));
            Ok(())
        })
    }

    fn dial(&self, order: DialOrder) -> LiveFuture<'_, ()> {
        Box::pin(async move {
            let refusal = *self.dial_refusal.lock().unwrap();
            self.dialled.lock().unwrap().push(order);
            refusal.map_or(Ok(()), Err)
        })
    }

    fn live_meetings(&self) -> Vec<MeetingId> {
        self.people
            .lock()
            .unwrap()
            .iter()
            .map(|(meeting, _)| *meeting)
            .collect()
    }

    fn readiness(&self) -> Readiness {
        *self.readiness.lock().unwrap()
    }

    fn gauges(&self) -> Gauges {
        assert!(!*self.away.lock().unwrap(), "a panic for the guard");
        Gauges {
            legs: vec![("sip", self.people.lock().unwrap().len() as u64)],
            meetings_live: 1,
            tick_lateness: vec![
                DurationHistogram::default(),
                DurationHistogram {
                    sum_seconds: 0.5,
                    buckets: vec![(0.001, 90), (0.005, 9), (f64::INFINITY, 1)],
                },
            ],
            set_up: vec![(
                "asterisk",
                DurationHistogram {
                    sum_seconds: 0.25,
                    buckets: vec![(0.02, 9), (0.05, 1)],
                },
            )],
            media_busy: vec![0.25, 0.5],
            packets_dropped: vec![("unknown_source", 3)],
            concealed_frames: 7,
            sip: SipTraffic {
                dialogs: 2,
                transactions: 5,
                retransmissions: 6,
            },
            trunks: vec![TrunkStanding {
                name: "carrier".to_owned(),
                up: true,
                registered: Some(true),
                reachable: Some(true),
                since: "2026-11-23T09:00:00Z".to_owned(),
                calls: 4,
                calls_max: Some(30),
                round_trip_ms: Some(12.5),
                target: Some("tls:192.0.2.7:5061".to_owned()),
                left_alone: vec![TargetLeft {
                    target: "tls:192.0.2.8:5061".to_owned(),
                    fault: "connection refused".to_owned(),
                    seconds: 59,
                }],
            }],
            ..Gauges::default()
        }
    }
}

struct Api {
    router: Router,
    bookings: Bookings,
    roster: Arc<Roster>,
    dir: TempDir,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {}", self.text))
    }

    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .unwrap_or_else(|| panic!("no {name}"))
            .to_str()
            .unwrap()
    }

    /// Checks that it is a problem document, whole and consistent, and gives its code.
    fn problem(&self, status: u16) -> String {
        let problem = self.json();
        assert_eq!(self.status.as_u16(), status, "{problem}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(problem["status"], status);
        assert_eq!(problem["request_id"], self.header("x-request-id"));
        for field in ["type", "title", "detail"] {
            assert!(
                problem[field].as_str().is_some_and(|text| !text.is_empty()),
                "{problem}"
            );
        }
        let code = problem["code"].as_str().unwrap();
        let told = |known: &&(u16, &str, &str)| (known.0, known.1) == (status, code);
        assert!(
            PROBLEM_CODES.iter().any(|known| told(&known)),
            "{status} {code} is not documented"
        );
        code.to_owned()
    }

    /// `field code` of each of `errors`.
    fn errors(&self) -> Vec<String> {
        let problem = self.json();
        let word = |e: &Value, name: &str| e[name].as_str().unwrap().to_owned();
        let errors = problem["errors"]
            .as_array()
            .unwrap_or_else(|| panic!("{problem}"));
        errors
            .iter()
            .map(|e| format!("{} {}", word(e, "field"), word(e, "code")))
            .collect()
    }
}

impl Api {
    async fn new() -> Self {
        Self::with(BookingSettings::default()).await
    }

    async fn with(settings: BookingSettings) -> Self {
        // Finer than what is kept.
        set_clock("2026-11-20T08:00:00.123456789Z");
        let dir = tempfile::tempdir().unwrap();
        let number = |number: &str, organisation: Option<&str>| DialInNumber {
            number: number.to_owned(),
            country: Some("IT".to_owned()),
            language: None,
            organisation: organisation.map(str::to_owned),
            label: None,
            toll_free: false,
        };
        let numbers = vec![
            number("+390600", None),
            number("+390601", Some("demo")),
            number("+390602", Some("other")),
        ];
        let settings = BookingSettings {
            reach: Reach::new(&["127.0.0.2".parse().unwrap()]),
            ..settings
        };
        let bookings = open(dir.path(), settings).await;
        let seeded = bookings.seed_numbers(NOW.get(), numbers);
        assert_eq!(seeded.await, Ok(Vec::new()));
        // As a node does at its start.
        bookings.look_for_pin_lengths().await.unwrap();
        let roster = Arc::new(Roster::default());
        *roster.readiness.lock().unwrap() = Readiness::Open;
        let state = AppState {
            bookings: bookings.clone(),
            live: roster.clone(),
            clock: || NOW.get(),
        };
        Self {
            router: router(state),
            bookings,
            roster,
            dir,
        }
    }

    async fn key(&self, organisation: &str, role: KeyRole) -> String {
        let new = NewKey {
            organisation: organisation.to_owned(),
            role,
            scopes: Vec::new(),
            expires_at: None,
        };
        self.bookings
            .create_key(NOW.get(), new)
            .await
            .unwrap()
            .1
            .expose()
            .to_owned()
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, 10_000_000).await.unwrap();
        Answer {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    async fn ask(&self, key: &str, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.ask_with(key, method, path, body, &[]).await
    }

    async fn ask_with(
        &self,
        key: &str,
        method: &str,
        path: &str,
        body: Option<Value>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {key}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = match body {
            Some(body) => request
                .header("content-type", "application/json")
                .body(Body::from(body.to_string())),
            None => request.body(Body::empty()),
        };
        self.send(request.unwrap()).await
    }

    async fn book(&self, key: &str) -> Value {
        let answer = self.ask(key, "POST", "/v1/meetings", Some(meeting())).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        answer.json()
    }
}

async fn open(dir: &Path, settings: BookingSettings) -> Bookings {
    Bookings::new(settings, Arc::new(store(dir).await)).unwrap()
}

async fn store(dir: &Path) -> SqlStore {
    let store = if ON_POSTGRES {
        // Opened again in the same folder it is the same database, as it is with a file.
        let url = dir.join("url");
        if !url.exists() {
            std::fs::write(&url, postgres::Server::shared().database()).unwrap();
        }
        SqlStore::postgres(&std::fs::read_to_string(url).unwrap()).await
    } else {
        SqlStore::sqlite(&dir.join("v.db")).await
    };
    store.unwrap()
}

/// The database below it.
async fn database(dir: &Path) -> sqlx::AnyPool {
    let url = if ON_POSTGRES {
        std::fs::read_to_string(dir.join("url")).unwrap()
    } else {
        format!("sqlite:{}", dir.join("v.db").display())
    };
    sqlx::AnyPool::connect(&url).await.unwrap()
}

fn meeting() -> Value {
    json!({
        "title": "Jour fixe",
        "starts_at": "2026-11-23T10:00:00+01:00",
        "ends_at": "2026-11-23T11:00:00+01:00",
        "timezone": "Europe/Rome",
    })
}

fn with(mut object: Value, changes: Value) -> Value {
    object
        .as_object_mut()
        .unwrap()
        .extend(changes.as_object().unwrap().clone());
    object
}

fn path_of(meeting: &Value) -> String {
    format!("/v1/meetings/{}", meeting["id"].as_str().unwrap())
}

fn id_of(meeting: &Value) -> MeetingId {
    MeetingId(meeting["id"].as_str().unwrap().parse().unwrap())
}

#[tokio::test]
async fn a_meeting_is_booked_read_changed_and_cancelled() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Booking).await;
    let asked = with(
        meeting(),
        json!({
            "capacity": 12, "language": "it", "external_id": "a/b è", "metadata": {"room": [1, 2]}, "wait_for_host": true,
            "mute_on_join": true, "guests_may_unmute": false, "early_join_minutes": 5, "overrun_minutes": 0,
            "automatic_gain": false, "noise_suppression": true,
        }),
    );
    let created = api
        .ask(&key, "POST", "/v1/meetings", Some(asked.clone()))
        .await;
    assert_eq!(created.status, 201, "{}", created.text);
    let booked = created.json();
    assert_eq!(created.header("location"), path_of(&booked));
    for (name, value) in asked.as_object().unwrap() {
        assert_eq!(&booked[name], value, "{name}");
    }
    assert_eq!(
        (booked["state"].as_str(), booked["organisation"].as_str()),
        (Some("scheduled"), Some("demo"))
    );
    assert_eq!(
        (&booked["opens_at"], &booked["closes_at"]),
        (&json!("2026-11-23T09:55:00+01:00"), &asked["ends_at"])
    );
    let numbers: Vec<&str> = booked["numbers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| n["number"].as_str().unwrap())
        .collect();
    assert_eq!(numbers, ["+390600", "+390601"]);
    for role in ["guest", "host"] {
        assert_eq!(booked["pins"][role].as_str().unwrap().len(), 10);
    }

    let read = api.ask(&key, "GET", &path_of(&booked), None).await;
    assert_eq!((read.status.as_u16(), read.json()), (200, booked.clone()));
    let by_name = "/v1/meetings/by-external-id/a%2Fb%20%C3%A8";
    assert_eq!(api.ask(&key, "GET", by_name, None).await.json(), booked);

    let patch = json!({"capacity": null, "timezone": "Asia/Tokyo"});
    let patched = api
        .ask(&key, "PATCH", &path_of(&booked), Some(patch))
        .await
        .json();
    assert_eq!(
        (&patched["capacity"], &patched["pins"]),
        (&Value::Null, &booked["pins"])
    );
    assert_eq!(
        patched["starts_at"], "2026-11-23T10:00:00+09:00",
        "local times stay"
    );

    let replaced = api.ask(&key, "PUT", by_name, Some(meeting())).await;
    assert_eq!(replaced.status, 200);
    let replaced = replaced.json();
    assert_eq!(
        (&replaced["id"], &replaced["pins"]),
        (&booked["id"], &booked["pins"])
    );
    assert_eq!(
        (
            &replaced["metadata"],
            &replaced["guests_may_unmute"],
            &replaced["automatic_gain"],
            &replaced["noise_suppression"]
        ),
        (&Value::Null, &json!(true), &json!(true), &json!(false))
    );

    for _ in 0..2 {
        assert_eq!(api.ask(&key, "DELETE", by_name, None).await.status, 204);
    }
    assert_eq!(
        api.ask(&key, "GET", by_name, None).await.json()["state"],
        "cancelled"
    );
    assert_eq!(
        api.ask(&key, "PATCH", &path_of(&booked), Some(json!({})))
            .await
            .problem(409),
        "cancelled"
    );
    let back = api.ask(&key, "PUT", by_name, Some(meeting())).await.json();
    assert_eq!(
        (&back["state"], &back["pins"], &back["id"]),
        (&json!("scheduled"), &booked["pins"], &booked["id"])
    );
    assert_eq!(
        api.ask(
            &key,
            "PUT",
            "/v1/meetings/by-external-id/new",
            Some(meeting())
        )
        .await
        .status,
        201
    );
    let taken = with(meeting(), json!({"external_id": "new"}));
    assert_eq!(
        api.ask(&key, "POST", "/v1/meetings", Some(taken))
            .await
            .problem(409),
        "external_id_taken"
    );
}

#[tokio::test]
async fn everything_wrong_with_a_meeting_is_named() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Booking).await;
    let wrong = json!({"titel": "x", "title": 7, "capacity": "many", "wait_for_host": "yes", "starts_at": null});
    let answer = api.ask(&key, "POST", "/v1/meetings", Some(wrong)).await;
    assert_eq!(answer.problem(422), "invalid");
    assert_eq!(
        answer.errors(),
        [
            "title invalid",
            "capacity invalid",
            "wait_for_host invalid",
            "titel unknown_field"
        ]
    );
    let answer = api.ask(&key, "POST", "/v1/meetings", Some(json!({}))).await;
    assert_eq!(
        answer.errors(),
        [
            "title required",
            "timezone required",
            "starts_at required",
            "ends_at required"
        ]
    );
    assert_eq!(answer.json()["errors"][0]["pointer"], "/title");
    for (name, value) in [("lobby", json!(true)), ("recording", json!(true))] {
        let answer = api
            .ask(
                &key,
                "POST",
                "/v1/meetings",
                Some(with(meeting(), json!({name: value}))),
            )
            .await;
        assert_eq!(
            (answer.problem(422), answer.errors()),
            (
                "not_supported".to_owned(),
                vec![format!("{name} not_supported")]
            )
        );
    }
    let off = with(meeting(), json!({"recurrence": null, "lobby": false}));
    assert_eq!(
        api.ask(&key, "POST", "/v1/meetings", Some(off))
            .await
            .status,
        201
    );
    let path = path_of(&api.book(&key).await);
    assert_eq!(
        api.ask(&key, "PATCH", &path, Some(json!({"organisation": "demo"})))
            .await
            .errors(),
        ["organisation invalid"]
    );
    let put = api
        .ask(
            &key,
            "PUT",
            "/v1/meetings/by-external-id/a",
            Some(with(meeting(), json!({"external_id": "b"}))),
        )
        .await;
    assert_eq!(put.errors(), ["external_id invalid"]);
}

#[tokio::test]
async fn what_axum_refuses_is_a_problem_document_too() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Booking).await;
    assert_eq!(
        api.ask(&key, "GET", "/v2/meetings", None)
            .await
            .problem(404),
        "no_such_path"
    );
    let method = api.ask(&key, "PUT", "/v1/meetings", None).await;
    assert_eq!(method.problem(405), "method_not_allowed");
    assert!(method.header("allow").contains("POST"));
    assert_eq!(
        api.ask(&key, "POST", "/v1/meetings", None)
            .await
            .problem(415),
        "unsupported_media_type"
    );
    let post = |body: String| {
        let request =
            Request::post("/v1/meetings").header("authorization", format!("Bearer {key}"));
        request
            .header("content-type", "application/json; charset=utf-8")
            .body(Body::from(body))
            .unwrap()
    };
    let malformed = api.send(post("{\"title\": 4815162342".to_owned())).await;
    assert_eq!(malformed.problem(400), "malformed_json");
    assert!(malformed.text.contains("line 1") && !malformed.text.contains("4815162342"));
    assert_eq!(
        api.send(post("[]".to_owned())).await.problem(422),
        "invalid"
    );
    assert_eq!(
        api.send(post(format!("{{\"title\": \"{}\"}}", "x".repeat(70_000))))
            .await
            .problem(413),
        "too_large"
    );
    let deep = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
    assert_eq!(api.send(post(deep)).await.problem(400), "malformed_json");
    let invalid = api
        .ask(&key, "GET", "/v1/meetings/by-external-id/%FF", None)
        .await;
    assert_eq!(invalid.problem(400), "bad_request");
    for path in [
        "/v1/meetings/nonsense",
        &format!("/v1/meetings/{}", Uuid::nil()),
        "/v1/meetings/by-external-id/none",
    ] {
        assert_eq!(
            api.ask(&key, "GET", path, None).await.problem(404),
            "not_found"
        );
    }
    *api.roster.away.lock().unwrap() = true;
    assert_eq!(
        api.ask(&key, "GET", "/metrics", None).await.problem(500),
        "internal"
    );
}

#[tokio::test]
async fn a_body_of_another_kind_or_size_is_refused_wherever_one_is_taken() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Admin).await;
    let path = path_of(&api.book(&key).await);
    let occurrence = format!("{path}/occurrences/20261123T100000");
    let pins = format!("{path}/pins");
    let doors = [
        ("POST", "/v1/meetings"),
        ("PUT", "/v1/meetings/by-external-id/a"),
        ("PATCH", &path),
        ("PATCH", &occurrence),
        ("POST", &pins),
        ("POST", "/v1/pins/explain"),
        ("POST", "/v1/webhooks"),
    ];
    for (method, path) in doors {
        let send = async |kind: &str, body: String| {
            let request = Request::builder()
                .method(method)
                .uri(path)
                .header("authorization", format!("Bearer {key}"))
                .header("content-type", kind);
            api.send(request.body(Body::from(body)).unwrap()).await
        };
        for kind in [
            "text/plain",
            "text/json",
            "application/xml",
            "application/jsonl",
            "application/merge-patch+json",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "",
        ] {
            let refused = send(kind, "{}".to_owned()).await;
            assert_eq!(
                refused.problem(415),
                "unsupported_media_type",
                "{method} {path} {kind}"
            );
        }
        let fits = format!("{{\"x\": \"{}\"}}", "x".repeat(64 * 1_024 - 9));
        assert_eq!(fits.len(), 64 * 1_024);
        let over = format!("{fits} ");
        let known = send("Application/JSON", fits).await;
        assert!(
            known.text.contains("unknown_field") || known.status == 404,
            "{method} {path} {}",
            known.text
        );
        let refused = send("application/json", over).await;
        assert_eq!(refused.problem(413), "too_large", "{method} {path}");
    }
}

#[tokio::test]
async fn a_time_zone_that_is_none_is_refused_in_whatever_is_booked_or_changed() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Booking).await;
    let path = path_of(&api.book(&key).await);
    for zone in [
        "Mars/Olympus",
        "Rome",
        "CET+1",
        "+02:00",
        "Europe/Rome ",
        "",
        "../../etc/passwd",
    ] {
        let body = with(meeting(), json!({ "timezone": zone }));
        for (method, path, body) in [
            ("POST", "/v1/meetings", body.clone()),
            ("PUT", "/v1/meetings/by-external-id/a", body),
            ("PATCH", &path, json!({ "timezone": zone })),
        ] {
            let refused = api.ask(&key, method, path, Some(body)).await;
            assert_eq!(refused.problem(422), "invalid", "{method} {zone}");
            assert_eq!(refused.errors(), ["timezone invalid"], "{method} {zone}");
        }
    }
}

#[tokio::test]
async fn two_organisations_may_have_the_same_name_for_a_meeting_and_neither_hears_of_it() {
    let api = Api::new().await;
    let platform = api.key("platform", KeyRole::Platform).await;
    let ours = api.key("demo", KeyRole::Booking).await;
    let theirs = api.key("other", KeyRole::Booking).await;
    let name = "/v1/meetings/by-external-id/jour%20fixe";
    let named = with(meeting(), json!({"external_id": "jour fixe"}));
    let first = api.ask(&ours, "PUT", name, Some(meeting())).await;
    let second = api.ask(&theirs, "PUT", name, Some(meeting())).await;
    assert_eq!(
        (first.status.as_u16(), second.status.as_u16()),
        (201, 201),
        "{}",
        second.text
    );
    let (first, second) = (first.json(), second.json());
    assert_ne!(first["id"], second["id"]);
    assert_ne!(first["pins"], second["pins"]);
    for key in [&ours, &theirs] {
        let taken = api.ask(key, "POST", "/v1/meetings", Some(named.clone()));
        assert_eq!(taken.await.problem(409), "external_id_taken");
    }
    assert_eq!(api.ask(&ours, "DELETE", name, None).await.status, 204);
    let left = api.ask(&theirs, "GET", name, None).await.json();
    assert_eq!(
        (&left["id"], &left["state"]),
        (&second["id"], &json!("scheduled"))
    );
    for (organisation, meeting) in [("demo", &first), ("other", &second)] {
        let path = format!("{name}?organisation={organisation}");
        let found = api.ask(&platform, "GET", &path, None).await.json();
        assert_eq!(found["id"], meeting["id"]);
    }
}

#[tokio::test]
async fn a_clock_that_is_set_back_or_off_by_minutes_loses_nothing() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Booking).await;
    let once = [("idempotency-key", "k1")];
    let book = async || {
        let body = Some(meeting());
        api.ask_with(&key, "POST", "/v1/meetings", body, &once)
            .await
    };
    let booked = book().await.json();
    let (path, pin) = (path_of(&booked), booked["pins"]["guest"].clone());
    // A node whose clock is ten minutes behind, then one that is ten minutes ahead.
    for clock in ["2026-11-20T07:50:00Z", "2026-11-20T08:10:00Z"] {
        set_clock(clock);
        let again = book().await;
        assert_eq!(
            (again.status.as_u16(), &again.json()["id"]),
            (201, &booked["id"]),
            "{clock}"
        );
        let changed = json!({ "title": clock });
        let changed = api.ask(&key, "PATCH", &path, Some(changed)).await;
        assert_eq!(changed.json()["pins"], booked["pins"], "{}", changed.text);
        let listed = api.ask(&key, "GET", "/v1/meetings", None).await.json();
        assert_eq!(listed["items"][0]["title"], clock);
    }
    // Whatever the clock was when it was booked, the door opens by the time of who is asked.
    for (clock, outcome) in [
        ("2026-11-23T08:44:59Z", "too_early"),
        ("2026-11-23T08:45:00Z", "joined"),
        ("2026-11-23T08:44:59Z", "too_early"),
    ] {
        set_clock(clock);
        let asked = Some(json!({ "pin": pin }));
        let told = api.ask(&key, "POST", "/v1/pins/explain", asked).await;
        assert_eq!(told.json()["outcome"], outcome, "{clock} {}", told.text);
    }
    // Set back behind its own booking, it purges nothing and still knows its keys.
    set_clock("2026-11-19T08:00:00Z");
    assert_eq!(api.bookings.purge(NOW.get()).await.unwrap().pins, 0);
    assert_eq!(api.ask(&key, "GET", &path, None).await.status, 200);
}

#[tokio::test]
async fn a_request_id_is_taken_over_if_it_is_harmless() {
    let api = Api::new().await;
    let ask = |id: &str| {
        let request = Request::get("/healthz")
            .header("x-request-id", id)
            .body(Body::empty())
            .unwrap();
        api.send(request)
    };
    assert_eq!(ask("abc-1.2_3").await.header("x-request-id"), "abc-1.2_3");
    for bad in ["a b", "<script>", &"x".repeat(65), ""] {
        assert_ne!(ask(bad).await.header("x-request-id"), bad);
    }
}

#[tokio::test]
async fn without_a_good_key_nothing_is_told() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Admin).await;
    let ask = |header: Option<String>| {
        let request = header
            .into_iter()
            .fold(Request::get("/v1/meetings"), |r, h| {
                r.header("authorization", h)
            });
        api.send(request.body(Body::empty()).unwrap())
    };
    for header in [
        None,
        Some("Bearer".to_owned()),
        Some("Bearer x".to_owned()),
        Some(format!("Basic {key}")),
        Some(key.clone()),
    ] {
        let answer = ask(header).await;
        assert_eq!(answer.problem(401), "unauthorized");
        assert!(answer.header("www-authenticate").starts_with("Bearer"));
    }
    assert_eq!(ask(Some(format!("bearer {key}"))).await.status, 200);
    let id = api.bookings.list_keys().await.unwrap()[0].id;
    api.bookings.revoke_key(NOW.get(), id).await.unwrap();
    assert_eq!(
        ask(Some(format!("Bearer {key}"))).await.problem(401),
        "unauthorized"
    );
}

#[tokio::test]
async fn each_role_may_do_its_part_and_no_more() {
    let api = Api::new().await;
    let booking = api.key("demo", KeyRole::Booking).await;
    let booked = api.book(&booking).await;
    let path = path_of(&booked);
    let pin = booked["pins"]["guest"].clone();
    // What the roles get for: read, explain, end, change, cancel.
    let matrix = [
        (KeyRole::Reader, [200, 403, 403, 403, 403]),
        (KeyRole::Operator, [200, 200, 200, 403, 403]),
        (KeyRole::Booking, [200, 200, 200, 200, 204]),
        (KeyRole::Admin, [200, 200, 200, 409, 204]),
        (KeyRole::Platform, [200, 200, 200, 409, 204]),
    ];
    for (role, expected) in matrix {
        let key = api.key("demo", role).await;
        let requests = [
            ("GET", path.clone(), None),
            (
                "POST",
                "/v1/pins/explain".to_owned(),
                Some(json!({"pin": pin})),
            ),
            ("POST", format!("{path}/end"), None),
            ("PATCH", path.clone(), Some(json!({"title": "b"}))),
            ("DELETE", path.clone(), None),
        ];
        for ((method, path, body), expected) in requests.into_iter().zip(expected) {
            let answer = api.ask(&key, method, &path, body).await;
            assert_eq!(
                answer.status.as_u16(),
                expected,
                "{role:?} {method} {path} {}",
                answer.text
            );
        }
        let seen = api.ask(&key, "GET", &path, None).await.json();
        assert_eq!(seen["pins"].is_null(), role == KeyRole::Reader, "{role:?}");
    }
}

#[tokio::test]
async fn readers_see_no_pin_anywhere() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Booking).await;
    let booked = api
        .ask(
            &key,
            "PUT",
            "/v1/meetings/by-external-id/a",
            Some(meeting()),
        )
        .await
        .json();
    let reader = api.key("demo", KeyRole::Reader).await;
    for path in [
        path_of(&booked),
        "/v1/meetings".to_owned(),
        "/v1/meetings/by-external-id/a".to_owned(),
        "/metrics".to_owned(),
    ] {
        let answer = api.ask(&reader, "GET", &path, None).await;
        assert_eq!(answer.status, 200);
        for role in ["guest", "host"] {
            assert!(
                !answer.text.contains(booked["pins"][role].as_str().unwrap()),
                "{path}"
            );
        }
    }
}

#[tokio::test]
async fn what_belongs_to_others_is_not_there() {
    let api = Api::new().await;
    let ours = api.key("demo", KeyRole::Admin).await;
    let theirs = api.key("other", KeyRole::Admin).await;
    let platform = api.key("platform", KeyRole::Platform).await;
    let booked = api
        .ask(
            &ours,
            "PUT",
            "/v1/meetings/by-external-id/a",
            Some(meeting()),
        )
        .await
        .json();
    let path = path_of(&booked);
    let participant = api.roster.enter(id_of(&booked), "Ada");
    for (method, path, body) in [
        ("GET", path.clone(), None),
        ("PATCH", path.clone(), Some(json!({}))),
        ("DELETE", path.clone(), None),
        ("POST", format!("{path}/end"), None),
        ("GET", format!("{path}/participants"), None),
        (
            "PATCH",
            format!("{path}/participants/{participant}"),
            Some(json!({"muted": true})),
        ),
        ("DELETE", format!("{path}/participants/{participant}"), None),
        ("GET", "/v1/meetings/by-external-id/a".to_owned(), None),
        ("DELETE", "/v1/meetings/by-external-id/a".to_owned(), None),
    ] {
        assert_eq!(
            api.ask(&theirs, method, &path, body).await.problem(404),
            "not_found",
            "{method} {path}"
        );
    }
    assert_eq!(
        api.ask(&theirs, "GET", "/v1/meetings", None).await.json()["items"],
        json!([])
    );
    let named = with(meeting(), json!({"organisation": "demo"}));
    assert_eq!(
        api.ask(&theirs, "POST", "/v1/meetings", Some(named.clone()))
            .await
            .problem(403),
        "forbidden"
    );
    assert_eq!(
        api.ask(&theirs, "GET", "/v1/meetings?organisation=demo", None)
            .await
            .problem(403),
        "forbidden"
    );
    assert_eq!(
        api.ask(&ours, "POST", "/v1/meetings", Some(named.clone()))
            .await
            .status,
        201
    );

    assert_eq!(api.ask(&platform, "GET", &path, None).await.status, 200);
    assert_eq!(
        api.ask(&platform, "POST", "/v1/meetings", Some(meeting()))
            .await
            .errors(),
        ["organisation required"]
    );
    let unknown = with(meeting(), json!({"organisation": "nobody"}));
    assert_eq!(
        api.ask(&platform, "POST", "/v1/meetings", Some(unknown))
            .await
            .errors(),
        ["organisation unknown"]
    );
    assert_eq!(
        api.ask(&platform, "POST", "/v1/meetings", Some(named))
            .await
            .json()["organisation"],
        "demo"
    );
    let count = |answer: Answer| answer.json()["items"].as_array().unwrap().len();
    assert_eq!(
        count(api.ask(&platform, "GET", "/v1/meetings", None).await),
        3
    );
    assert_eq!(
        count(
            api.ask(&platform, "GET", "/v1/meetings?organisation=other", None)
                .await
        ),
        0
    );
    let by_name = "/v1/meetings/by-external-id/a";
    assert_eq!(
        api.ask(&platform, "GET", by_name, None).await.errors(),
        ["organisation required"]
    );
    let found = api
        .ask(
            &platform,
            "GET",
            &format!("{by_name}?organisation=demo"),
            None,
        )
        .await
        .json();
    assert_eq!(found["id"], booked["id"]);
    let numbers = api.ask(&theirs, "GET", "/v1/numbers", None).await.json();
    assert_eq!(numbers["items"][1]["number"], "+390602");
    assert_eq!(
        count(api.ask(&platform, "GET", "/v1/numbers", None).await),
        3
    );
}

#[tokio::test]
async fn a_repeated_post_books_once() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Booking).await;
    let post = |body: Value, name: &'static str| {
        let (api, key) = (&api, &key);
        async move {
            api.ask_with(
                key,
                "POST",
                "/v1/meetings",
                Some(body),
                &[("idempotency-key", name)],
            )
            .await
        }
    };
    let first = post(meeting(), "k1").await;
    let second = post(meeting(), "k1").await;
    assert_eq!((first.status.as_u16(), second.status.as_u16()), (201, 201));
    assert_eq!(first.json(), second.json());
    let other = post(with(meeting(), json!({"title": "x"})), "k1").await;
    assert_eq!(other.problem(422), "idempotency_key_reused");
    assert_ne!(post(meeting(), "k2").await.json()["id"], first.json()["id"]);
    let (a, b) = tokio::join!(post(meeting(), "k3"), post(meeting(), "k3"));
    // Who comes while the other is being answered is told so, who comes a moment later gets its answer.
    match [a.status.as_u16(), b.status.as_u16()] {
        [201, 201] => assert_eq!(a.text, b.text),
        [201, 409] => assert_eq!(b.problem(409), "idempotency_key_in_flight"),
        [409, 201] => assert_eq!(a.problem(409), "idempotency_key_in_flight"),
        other => panic!("{other:?}"),
    }
    let all = api.ask(&key, "GET", "/v1/meetings", None).await.json();
    assert_eq!(all["items"].as_array().unwrap().len(), 3, "k1, k2 and k3");
    assert_eq!(
        post(meeting(), "has space").await.errors(),
        ["Idempotency-Key invalid"]
    );
    let failed = post(json!({}), "k4").await;
    assert_eq!(failed.status, 422);
    assert_eq!(
        post(meeting(), "k4").await.status,
        201,
        "a refused request books nothing and holds nothing"
    );
    let stranger = api.key("demo", KeyRole::Booking).await;
    let theirs = api
        .ask_with(
            &stranger,
            "POST",
            "/v1/meetings",
            Some(meeting()),
            &[("idempotency-key", "k1")],
        )
        .await;
    assert_ne!(theirs.json()["id"], first.json()["id"]);
}

#[tokio::test]
async fn a_change_is_refused_if_somebody_was_faster() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Booking).await;
    let path = path_of(&api.book(&key).await);
    let etag = api
        .ask(&key, "GET", &path, None)
        .await
        .header("etag")
        .to_owned();
    let patch = |etag: String| {
        let (api, key, path) = (&api, &key, &path);
        async move {
            api.ask_with(
                key,
                "PATCH",
                path,
                Some(json!({"title": "b"})),
                &[("if-match", &etag)],
            )
            .await
        }
    };
    let changed = patch(etag.clone()).await;
    assert_eq!(changed.status, 200);
    assert_ne!(changed.header("etag"), etag);
    assert_eq!(patch(etag.clone()).await.problem(412), "changed");
    assert_eq!(
        patch("\"nonsense\"".to_owned()).await.problem(412),
        "changed"
    );
    assert_eq!(
        patch(format!("W/{}", changed.header("etag")))
            .await
            .problem(412),
        "changed"
    );
    assert_eq!(
        patch("\"1\", \"2\"".to_owned()).await.problem(400),
        "invalid_parameter"
    );
    assert_eq!(patch("*".to_owned()).await.status, 200);
    let delete = api
        .ask_with(&key, "DELETE", &path, None, &[("if-match", &etag)])
        .await;
    assert_eq!(delete.problem(412), "changed");
}

#[tokio::test]
async fn lists_are_paged_and_filtered() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Booking).await;
    let mut booked = Vec::new();
    for hour in [12, 10, 11, 10, 13] {
        let times = json!({"starts_at": format!("2026-11-23T{hour}:00:00Z"), "ends_at": format!("2026-11-23T{hour}:30:00Z"), "overrun_minutes": 0});
        booked.push(
            api.ask(&key, "POST", "/v1/meetings", Some(with(meeting(), times)))
                .await
                .json(),
        );
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = api
            .ask(&key, "GET", &format!("/v1/meetings?limit=2{cursor}"), None)
            .await
            .json();
        seen.extend(page["items"].as_array().unwrap().clone());
        assert!(page["items"].as_array().unwrap().len() <= 2);
        let Some(next) = page["next"].as_str() else {
            break;
        };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen.len(), 5);
    let starts: Vec<&str> = seen
        .iter()
        .map(|m| m["starts_at"].as_str().unwrap())
        .collect();
    assert!(starts.is_sorted(), "{starts:?}");
    let count = |query: &'static str| {
        let (api, key) = (&api, &key);
        async move {
            let answer = api
                .ask(key, "GET", &format!("/v1/meetings?{query}"), None)
                .await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            answer.json()["items"].as_array().unwrap().len()
        }
    };
    assert_eq!(
        count("from=2026-11-23T11:00:00Z&to=2026-11-23T13:00:00Z").await,
        2
    );
    assert_eq!(count("from=2026-11-23T12:00:00%2B01:00").await, 3);
    set_clock("2026-11-23T11:50:00Z");
    api.roster.enter(id_of(&booked[2]), "Ada");
    assert_eq!(
        api.ask(&key, "DELETE", &path_of(&booked[4]), None)
            .await
            .status,
        204
    );
    for (state, expected) in [
        ("ended", 2),
        ("live", 1),
        ("open", 1),
        ("scheduled", 0),
        ("cancelled", 1),
    ] {
        let query = format!("/v1/meetings?state={state}");
        let page = api.ask(&key, "GET", &query, None).await.json();
        let items = page["items"].as_array().unwrap();
        assert_eq!(items.len(), expected, "{state} {items:?}");
        assert!(items.iter().all(|m| m["state"] == state));
    }
    for (query, error) in [
        ("limit=0", "limit out_of_range"),
        ("limit=1001", "limit out_of_range"),
        ("cursor=x", "cursor invalid"),
        ("from=yesterday", "from invalid"),
        ("state=running", "state invalid"),
        ("sate=open", "sate unknown_parameter"),
        ("limit=1&limit=2", "limit invalid"),
    ] {
        let answer = api
            .ask(&key, "GET", &format!("/v1/meetings?{query}"), None)
            .await;
        assert_eq!(
            (answer.problem(400), answer.errors()),
            ("invalid_parameter".to_owned(), vec![error.to_owned()])
        );
    }
}

#[tokio::test]
async fn participants_are_shown_masked_and_steered() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Operator).await;
    let booked = api.book(&api.key("demo", KeyRole::Booking).await).await;
    set_clock("2026-11-23T09:30:00Z");
    let path = format!("{}/participants", path_of(&booked));
    assert_eq!(
        api.ask(&key, "GET", &path, None).await.json(),
        json!({"items": [], "next": null})
    );
    let id = api.roster.enter(id_of(&booked), "Ada");
    let list = api.ask(&key, "GET", &path, None).await;
    assert!(!list.text.contains("0612345678"));
    let quality = json!({
        "loss": 0.0, "jitter_ms": 0.0, "delay_ms": 0.0, "buffer_ms": 0.0, "round_trip_ms": null, "burst_ratio": 0.0, "concealed": 0.0,
        "mos": 0.0, "gain_db": 0.0, "echo": null, "one_way": false,
    });
    let ada = json!({
        "id": id, "name": "Ada", "role": "guest", "kind": "sip", "state": "joined", "number": "…5678", "muted": false, "muted_by": null,
        "hand": false, "talking": true, "level_db": -20.0, "joined_at": "2026-11-23T09:30:00Z", "codec": "PCMA", "quality": quality,
    });
    assert_eq!(list.json()["items"], json!([ada]));
    assert_eq!(
        api.ask(&key, "GET", &path_of(&booked), None).await.json()["state"],
        "live"
    );
    let one = format!("{path}/{id}");
    let muted = api
        .ask(
            &key,
            "PATCH",
            &one,
            Some(json!({"muted": true, "name": null})),
        )
        .await
        .json();
    assert_eq!(
        (&muted["muted"], &muted["muted_by"], &muted["name"]),
        (&json!(true), &json!("host"), &Value::Null)
    );
    assert_eq!(
        api.ask(&key, "PATCH", &one, Some(json!({"volume_db": 3})))
            .await
            .problem(422),
        "not_supported"
    );
    assert_eq!(
        api.ask(&key, "PATCH", &one, Some(json!({"name": "a\nb"})))
            .await
            .errors(),
        ["name invalid"]
    );
    assert_eq!(
        api.ask(
            &key,
            "PATCH",
            &format!("{path}/{}", Uuid::nil()),
            Some(json!({"muted": true}))
        )
        .await
        .problem(404),
        "not_found"
    );
    assert_eq!(api.ask(&key, "DELETE", &one, None).await.status, 204);
    assert_eq!(
        api.ask(&key, "DELETE", &one, None).await.problem(404),
        "not_found"
    );
    api.roster.enter(id_of(&booked), "Bob");
    let ended = api
        .ask(&key, "POST", &format!("{}/end", path_of(&booked)), None)
        .await;
    assert_eq!(
        (ended.status.as_u16(), &ended.json()["state"]),
        (200, &json!("ended"))
    );
    *api.roster.away.lock().unwrap() = true;
    let away = api.ask(&key, "GET", &path, None).await;
    assert_eq!(
        (away.problem(503).as_str(), away.header("retry-after")),
        ("unavailable", "5")
    );
}

fn call(n: u128, organisation: Option<&Value>, api_meeting: Option<&Value>) -> CallRecord {
    CallRecord {
        direction: Direction::In,
        id: CallId(Uuid::from_u128(n)),
        kind: "sip",
        organisation: organisation.map(|id| serde_json::from_value(id.clone()).unwrap()),
        number: "=+390600".to_owned(),
        caller: CallerNumber::new("+390612345678"),
        started_at: NOW.get(),
        answered_at: None,
        ended_at: NOW.get(),
        meeting: api_meeting.map(id_of),
        occurrence: organisation.and("20261123T100000".parse().ok()),
        participant: None,
        outcome: Outcome::WrongPin,
        pin_attempts: 3,
        hangup_by: HangupBy::System,
        q850: 16,
        trunk: None,
        verstat: (n < 4).then_some(Verstat::NotValidated),
        sip_call_id: None,
        asterisk_channel: None,
        quality: None,
    }
}

#[tokio::test]
async fn calls_are_listed_as_json_and_csv_without_the_callers_number() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Reader).await;
    let platform = api.key("platform", KeyRole::Platform).await;
    let demo = api
        .bookings
        .authenticate(NOW.get(), &key)
        .await
        .unwrap()
        .organisation
        .id;
    let booked = api.book(&api.key("demo", KeyRole::Booking).await).await;
    for n in 1..=3 {
        api.bookings
            .record_call(&call(n, Some(&json!(demo)), Some(&booked)))
            .await
            .unwrap();
    }
    api.bookings
        .record_call(&call(4, None, None))
        .await
        .unwrap();
    let page = api.ask(&key, "GET", "/v1/calls?limit=2", None).await.json();
    let first = &page["items"][0];
    assert_eq!(first["id"], json!(Uuid::from_u128(3)));
    assert_eq!(first["verstat"], "not_validated");
    assert_eq!(
        (&first["caller"], &first["outcome"], &first["hangup_by"]),
        (&json!("…5678"), &json!("wrong_pin"), &json!("system"))
    );
    assert_eq!(
        (&first["organisation"], &first["meeting_id"]),
        (&json!("demo"), &booked["id"])
    );
    let next = page["next"].as_str().unwrap();
    let last = api
        .ask(
            &key,
            "GET",
            &format!("/v1/calls?limit=2&cursor={next}"),
            None,
        )
        .await
        .json();
    assert_eq!(
        (last["items"].as_array().unwrap().len(), &last["next"]),
        (1, &Value::Null)
    );
    assert_eq!(
        api.ask(&platform, "GET", "/v1/calls", None).await.json()["items"]
            .as_array()
            .unwrap()
            .len(),
        4
    );
    assert_eq!(
        api.ask(&key, "GET", "/v1/calls?outcome=joined", None)
            .await
            .json()["items"],
        json!([])
    );
    assert_eq!(
        api.ask(&key, "GET", "/v1/calls?outcome=lost", None)
            .await
            .errors(),
        ["outcome invalid"]
    );

    let csv = api
        .ask_with(
            &key,
            "GET",
            "/v1/calls?limit=2&outcome=wrong_pin",
            None,
            &[("accept", "text/csv")],
        )
        .await;
    assert!(csv.header("content-type").starts_with("text/csv"));
    let lines: Vec<&str> = csv.text.split("\r\n").collect();
    assert_eq!((lines.len(), lines[3]), (4, ""));
    assert!(lines[0].starts_with("id,kind,organisation,number,caller,"));
    assert!(
        lines[1].contains(",sip,demo,'=+390600,…5678,"),
        "{}",
        lines[1]
    );
    assert_eq!(
        csv.header("link"),
        format!("</v1/calls?limit=2&outcome=wrong_pin&cursor={next}>; rel=\"next\"")
    );
}

#[tokio::test]
async fn a_pin_is_explained_and_too_many_questions_are_refused() {
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Booking).await;
    let booked = api.book(&key).await;
    let explain = |body: Value| {
        let (api, key) = (&api, &key);
        async move { api.ask(key, "POST", "/v1/pins/explain", Some(body)).await }
    };
    let pin = &booked["pins"]["host"];
    let early = explain(json!({"pin": pin})).await.json();
    assert_eq!(
        (&early["outcome"], &early["meeting_id"], &early["role"]),
        (&json!("too_early"), &booked["id"], &json!("host"))
    );
    assert_eq!(early["opens_at"], "2026-11-23T08:45:00Z");
    let then = "2026-11-23T10:00:00+01:00";
    assert_eq!(
        explain(json!({"pin": pin, "at": then})).await.json()["outcome"],
        "joined"
    );
    let foreign = json!({"pin": pin, "at": then, "number": "+390602"});
    assert_eq!(
        explain(foreign).await.json()["outcome"],
        "number_not_allowed"
    );
    let unknown = explain(json!({"pin": "4815162342"})).await.json();
    assert_eq!(
        (&unknown["outcome"], &unknown["meeting_id"]),
        (&json!("wrong_pin"), &Value::Null)
    );
    for (body, error) in [
        (json!({}), "pin required"),
        (json!({"pin": 12}), "pin invalid"),
        (json!({"pin": "12"}), "pin invalid"),
        (json!({"pin": pin, "at": "now"}), "at invalid"),
        (json!({"pin": pin, "when": 1}), "when unknown_field"),
    ] {
        assert_eq!(explain(body).await.errors(), [error]);
    }
    let mut last = explain(json!({"pin": pin})).await;
    for _ in 0..60 {
        last = explain(json!({"pin": pin})).await;
    }
    assert_eq!(last.problem(429), "too_many_requests");
    assert_eq!(last.header("retry-after"), "61");
}

#[tokio::test]
async fn health_and_metrics_tell_the_truth_without_a_key() {
    let api = Api::new().await;
    let get = |path: &'static str| api.send(Request::get(path).body(Body::empty()).unwrap());
    assert_eq!(get("/healthz").await.text, "ok\n");
    assert_eq!(get("/readyz").await.status, 200);
    *api.roster.readiness.lock().unwrap() = Readiness::Overloaded;
    assert_eq!(get("/readyz").await.problem(503), "overloaded");
    *api.roster.readiness.lock().unwrap() = Readiness::Closed;
    assert_eq!(get("/readyz").await.problem(503), "not_accepting");
    api.bookings
        .record_call(&call(1, None, None))
        .await
        .unwrap();
    let metrics = get("/metrics").await;
    assert!(
        metrics
            .header("content-type")
            .starts_with("application/openmetrics-text")
    );
    for line in [
        "voicebridge_legs{kind=\"sip\"} 0",
        "voicebridge_meetings_live 1",
        "voicebridge_calls_total{outcome=\"wrong_pin\"} 1",
        "voicebridge_calls_total{outcome=\"joined\"} 0",
        "voicebridge_pin_attempts_total{result=\"wrong_pin\"} 0",
        "voicebridge_pin_challenges_total{result=\"asked\"} 0",
        "voicebridge_failure_budget_remaining 100",
        "voicebridge_tick_lateness_seconds_sum{thread=\"1\"} 0.5",
        "voicebridge_tick_lateness_seconds_bucket{le=\"0.001\",thread=\"1\"} 90",
        "voicebridge_tick_lateness_seconds_bucket{le=\"0.005\",thread=\"1\"} 99",
        "voicebridge_tick_lateness_seconds_bucket{le=\"+Inf\",thread=\"1\"} 100",
        "voicebridge_media_thread_busy_ratio{thread=\"0\"} 0.25",
        "voicebridge_media_packets_dropped_total{reason=\"unknown_source\"} 3",
        "voicebridge_concealed_frames_total 7",
        "voicebridge_one_way_audio_total 0",
        "voicebridge_sip_dialogs 2",
        "voicebridge_sip_transactions 5",
        "voicebridge_sip_retransmissions_total 6",
        "voicebridge_trunk_up{name=\"carrier\"} 1",
        "voicebridge_trunk_calls{name=\"carrier\"} 4",
        "voicebridge_trunk_round_trip_seconds{name=\"carrier\"} 0.0125",
        "voicebridge_store_up 1",
        "# EOF",
    ] {
        assert!(
            metrics.text.lines().any(|l| l == line),
            "{line} is not in\n{}",
            metrics.text
        );
    }
}

#[tokio::test]
async fn a_database_that_is_locked_or_gone_is_told() {
    use sqlx::{ConnectOptions, Connection};
    if ON_POSTGRES {
        return; // A server has no file to lock.
    }
    let api = Api::new().await;
    let key = api.key("demo", KeyRole::Booking).await;
    let file = api.dir.path().join("v.db");
    let mut other = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(&file)
        .connect()
        .await
        .unwrap();
    sqlx::query("BEGIN IMMEDIATE")
        .execute(&mut other)
        .await
        .unwrap();
    let locked = api.ask(&key, "POST", "/v1/meetings", Some(meeting())).await;
    assert_eq!(locked.problem(503), "store_locked");
    assert_eq!(
        api.ask(&key, "GET", "/v1/meetings", None).await.status,
        200,
        "reading goes on"
    );
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    for table in [
        "PRAGMA foreign_keys = off",
        "DROP TABLE meetings",
        "DROP TABLE organisations",
    ] {
        sqlx::query(table).execute(&mut other).await.unwrap();
    }
    assert_eq!(
        api.ask(&key, "GET", "/readyz", None).await.problem(503),
        "store_unavailable"
    );
    let metrics = api.ask(&key, "GET", "/metrics", None).await;
    assert!(metrics.text.contains("voicebridge_store_up 0"));
    other.close().await.unwrap();
}

#[tokio::test]
async fn the_openapi_document_is_served_and_names_what_requests_may_hold() {
    let api = Api::new().await;
    let served = api
        .send(Request::get("/openapi.json").body(Body::empty()).unwrap())
        .await
        .json();
    assert_eq!(served, serde_json::to_value(openapi()).unwrap());
    let properties = |name: &str| -> Vec<String> {
        let schema = served["components"]["schemas"][name]["properties"].as_object();
        schema
            .unwrap_or_else(|| panic!("no schema {name}"))
            .keys()
            .cloned()
            .collect()
    };
    let key = api.key("demo", KeyRole::Booking).await;
    let path = path_of(&api.book(&key).await);
    // Every documented field is known; a wrong type is told as such, not as an unknown field.
    for (method, path, schema) in [
        ("POST", "/v1/meetings".to_owned(), "MeetingRequest"),
        ("PATCH", path.clone(), "MeetingPatch"),
        (
            "PATCH",
            format!("{path}/participants/{}", Uuid::nil()),
            "ParticipantPatch",
        ),
        ("POST", "/v1/pins/explain".to_owned(), "ExplainRequest"),
    ] {
        for name in properties(schema) {
            let wrong = if name == "metadata" {
                json!(7)
            } else {
                json!([])
            };
            let answer = api
                .ask(&key, method, &path, Some(json!({name.as_str(): wrong})))
                .await;
            assert!(
                answer.errors().contains(&format!("{name} invalid")),
                "{schema} {}",
                answer.text
            );
        }
    }
    let booked = api.book(&key).await;
    let mut answered: Vec<&String> = booked.as_object().unwrap().keys().collect();
    let documented = properties("Meeting");
    let mut documented: Vec<&String> = documented.iter().collect();
    answered.sort();
    documented.sort();
    assert_eq!(answered, documented);
    for (path, methods) in served["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            if path == "/fsapi" {
                continue; // Off here; its own tests ask for its password.
            }
            let open = ["/healthz", "/readyz", "/metrics", "/openapi.json"]
                .contains(&path.as_str())
                || path.starts_with("/jitsi/");
            assert_eq!(operation["security"].is_null(), open, "{method} {path}");
            let concrete = path
                .replace("{id}", &Uuid::nil().to_string())
                .replace("{organisation}", "x")
                .replace("{external_id}", "x");
            let concrete = concrete.replace("{participant_id}", &Uuid::nil().to_string());
            let request = Request::builder()
                .method(method.to_uppercase().as_str())
                .uri(concrete);
            let answer = api.send(request.body(Body::empty()).unwrap()).await;
            assert_eq!(
                answer.status.as_u16() == 401,
                !open,
                "{method} {path}: {}",
                answer.status
            );
        }
    }
}
