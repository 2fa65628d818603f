//! PostgreSQL is away: what it costs those who are in calls, who book, and who dial in meanwhile.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use tokio::task::LocalSet;
use voicebridge::media::codec::Codec;
use voicebridge::probe::{Phone, Target};
use voicebridge::units::Key;

use crate::postgres;
use crate::server::{Meeting, Server, stamp};

/// How the database is away.
#[derive(Debug, Clone, Copy)]
enum Away {
    /// Its machine doesn't answer any more: connections stay, and nothing comes.
    Frozen,
    /// An administrator ended it, and starts it later.
    Stopped,
}

#[test]
fn a_database_that_freezes_for_some_seconds_costs_no_call_and_no_booking() {
    outage(Away::Frozen, 10, Duration::from_secs(8));
}

#[test]
fn a_database_that_is_restarted_costs_no_call_and_no_booking() {
    outage(Away::Stopped, 10, Duration::from_secs(8));
}

#[test]
#[ignore = "takes two minutes: a measurement, for a quiet machine"]
fn a_database_that_freezes_for_a_minute_under_fifty_calls() {
    outage(Away::Frozen, 50, Duration::from_secs(60));
}

#[test]
#[ignore = "takes two minutes: a measurement, for a quiet machine"]
fn a_database_that_is_stopped_for_a_minute_under_fifty_calls() {
    outage(Away::Stopped, 50, Duration::from_secs(60));
}

fn outage(away: Away, calls: usize, time: Duration) {
    let database = postgres::Server::start();
    let mut server = Server::start(&format!(
        "database.url = \"{}\"\nsip.trusted = [\"127.0.0.0/8\"]",
        database.database()
    ));
    let forgotten = server.book(&json!({}));
    server.kill_and_restart();
    let meeting = server.book(&json!({}));
    let follower = follow(&server, time + Duration::from_secs(30));
    let run = Arc::new(Run::default());
    let phones = Phones::dial(&server, &meeting, calls, &run);
    phones.wait_until_in(&server, &meeting, calls);
    let booker = Booker::start(&server, &run);
    sleep(Duration::from_secs(2));

    let began = Instant::now();
    match away {
        Away::Frozen => database.freeze(),
        Away::Stopped => database.stop(),
    }
    sleep(Duration::from_secs(3));
    // Of those who are in one leaves; one comes whose PIN was used here, and one whose PIN wasn't.
    run.one_leaves.store(true, Ordering::Relaxed);
    let known = Visit::pay(&server, &meeting);
    let unknown = Visit::pay(&server, &forgotten);
    sleep((began + time).saturating_duration_since(Instant::now()));
    match away {
        Away::Frozen => database.thaw(),
        Away::Stopped => database.start_again(),
    }
    let back = Instant::now();
    sleep(Duration::from_secs(7));
    run.ended.store(true, Ordering::Relaxed);
    let bookings = booker.finish();
    let (known, unknown) = (known.finish(), unknown.finish());
    let seen = phones.finish();

    let figures = Figures::of(&bookings, &seen, began, back);
    eprintln!("{away:?} for {time:?}, {calls} calls: {figures:#?}");
    figures.check(&run);
    assert!(known, "who has a PIN that was used here gets in");
    assert!(
        !unknown,
        "the other hears that he may try again in a moment"
    );
    expect_all_bookings(&server, &bookings);
    expect_all_records(&server, calls);
    expect_all_events(&follower.join().expect("followed"), calls);
    let metrics = server.metrics();
    assert!(
        metrics.contains("voicebridge_events_lost_total 0"),
        "{metrics}"
    );
}

/// What the threads of a run share.
#[derive(Default)]
struct Run {
    ended: AtomicBool,
    one_leaves: AtomicBool,
    placed: AtomicUsize,
    /// How late a thread was woken at most that does nothing else: that late anything can be here.
    lateness_micros: AtomicU64,
}

impl Run {
    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    fn watch(&self) {
        while !self.has_ended() {
            let asleep = Instant::now();
            sleep(WITNESS);
            let late = asleep.elapsed().saturating_sub(WITNESS).as_micros() as u64;
            self.lateness_micros.fetch_max(late, Ordering::Relaxed);
        }
    }
}

/// Phones in a meeting, all on one thread.
struct Phones(JoinHandle<Vec<Stay>>, Arc<Run>);

/// How one phone fared.
struct Stay {
    up: bool,
    packets: u64,
    lost: u64,
    gaps: u64,
    longest_gap: Duration,
    time: Duration,
}

impl Phones {
    fn dial(server: &Server, meeting: &Meeting, calls: usize, run: &Arc<Run>) -> Self {
        let (target, pin) = (target(server), meeting.guest.clone());
        let shared = Arc::clone(run);
        let on_one_thread = move || {
            let witness = Arc::clone(&shared);
            let witness = thread::spawn(move || witness.watch());
            let seen = block_on_local(async {
                let mut phones = Vec::new();
                for seat in 0..calls {
                    let stay = stay(target.clone(), pin.clone(), seat, Arc::clone(&shared));
                    phones.push(tokio::task::spawn_local(stay));
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                let mut seen = Vec::new();
                for phone in phones {
                    seen.push(phone.await.expect("the phone ran to its end"));
                }
                seen
            });
            witness.join().expect("the witness ran to its end");
            seen
        };
        Self(thread::spawn(on_one_thread), Arc::clone(run))
    }

    fn wait_until_in(&self, server: &Server, meeting: &Meeting, calls: usize) {
        let path = format!("/v1/meetings/{}/participants?limit=1000", meeting.id);
        let joined = || {
            let people = server.get(&path);
            let items = people["items"].as_array().expect("a list");
            items.iter().filter(|i| i["state"] == "joined").count()
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.1.placed.load(Ordering::Relaxed) < calls || joined() < calls {
            assert!(!self.0.is_finished(), "a phone failed");
            assert!(Instant::now() < deadline, "not all got in");
            sleep(Duration::from_millis(200));
        }
    }

    fn finish(self) -> Vec<Stay> {
        self.0.join().expect("the phones ran to their end")
    }
}

/// A phone that is in until the end, or, the first one, until it is told to leave.
async fn stay(target: Target, pin: String, seat: usize, run: Arc<Run>) -> Stay {
    let tone_hz = 400.0 + 37.0 * seat as f64;
    let dialled = Phone::dial(&target, Codec::Pcma, tone_hz).await;
    let mut phone = dialled.expect("answered");
    phone.be_silent(seat > 1);
    let mut up = key_in(&mut phone, &pin).await;
    run.placed.fetch_add(1, Ordering::Relaxed);
    let (began, before) = (Instant::now(), phone.heard());
    let leaves = || seat == 0 && run.one_leaves.load(Ordering::Relaxed);
    while up && !run.has_ended() && !leaves() {
        up = phone.talk(SLICE).await.expect("sockets work");
    }
    let (time, after) = (began.elapsed(), phone.heard());
    phone.hang_up().await.expect("hung up");
    Stay {
        up,
        packets: after.packets - before.packets,
        lost: after.lost - before.lost,
        gaps: after.gaps - before.gaps,
        longest_gap: after.longest_gap,
        time,
    }
}

/// Keys the PIN in; is the call still up a while later?
async fn key_in(phone: &mut Phone, pin: &str) -> bool {
    let up = phone.talk(Duration::from_millis(500)).await;
    phone.press(pin.chars().filter_map(Key::from_char));
    up.expect("sockets work") && phone.talk(KEYING).await.expect("sockets work")
}

/// Somebody who dials in while the database is away.
struct Visit(JoinHandle<bool>);

impl Visit {
    fn pay(server: &Server, meeting: &Meeting) -> Self {
        let (target, pin) = (target(server), meeting.guest.clone());
        Self(thread::spawn(move || {
            block_on_local(async {
                let dialled = Phone::dial(&target, Codec::Pcma, 900.0).await;
                let mut phone = dialled.expect("answered");
                let up = key_in(&mut phone, &pin).await
                    && phone.talk(GOODBYE).await.expect("sockets work");
                phone.hang_up().await.expect("hung up");
                up
            })
        }))
    }

    /// Was he let in?
    fn finish(self) -> bool {
        self.0.join().expect("the visitor ran to its end")
    }
}

fn target(server: &Server) -> Target {
    let uri = format!("sip:1000@127.0.0.1:{}", server.sip_port);
    Target::parse(&uri).expect("a target")
}

fn block_on_local<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    LocalSet::new().block_on(&runtime, work)
}

/// A booking system that books five times a second, whatever becomes of the booking before.
struct Booker(JoinHandle<Vec<Booking>>);

/// How a booking was answered.
#[derive(Debug)]
struct Booking {
    asked: Instant,
    took: Duration,
    status: u16,
    kind: String,
    retry_after: Option<u32>,
    answer: Value,
}

impl Booker {
    fn start(server: &Server, run: &Arc<Run>) -> Self {
        let (port, key, run) = (server.http_port, server.key.clone(), Arc::clone(run));
        Self(thread::spawn(move || {
            let (made, mut asking) = (Arc::new(Mutex::new(Vec::new())), Vec::new());
            let mut next = Instant::now();
            while !run.has_ended() {
                let (key, made) = (key.clone(), Arc::clone(&made));
                asking.push(thread::spawn(move || {
                    let booking = book(port, &key);
                    made.lock().expect("nobody panics with it").push(booking);
                }));
                next += BETWEEN_BOOKINGS;
                sleep(next.saturating_duration_since(Instant::now()));
            }
            for one in asking {
                one.join().expect("answered");
            }
            let mut made = made.lock().expect("nobody panics with it");
            std::mem::take(&mut *made)
        }))
    }

    fn finish(self) -> Vec<Booking> {
        let mut made = self.0.join().expect("the booker ran to its end");
        made.sort_by_key(|booking| booking.asked);
        made
    }
}

fn book(port: u16, key: &str) -> Booking {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(40)))
        .build()
        .into();
    let now = jiff::Timestamp::now().as_second();
    let body = json!({"title": "B", "timezone": "UTC", "starts_at": stamp(now), "ends_at": stamp(now + 600)});
    let asked = Instant::now();
    let answer = agent
        .post(format!("http://127.0.0.1:{port}/v1/meetings"))
        .header("Authorization", format!("Bearer {key}"))
        .send_json(&body);
    let mut answer = answer.expect("an answer of whatever kind");
    let header = |name: &str| Some(answer.headers().get(name)?.to_str().ok()?.to_owned());
    Booking {
        asked,
        took: asked.elapsed(),
        status: answer.status().as_u16(),
        kind: header("content-type").unwrap_or_default(),
        retry_after: header("retry-after").and_then(|seconds| seconds.parse().ok()),
        answer: answer.body_mut().read_json().unwrap_or_default(),
    }
}

/// What a run found.
#[derive(Debug)]
#[expect(dead_code, reason = "some are there to be printed")]
struct Figures {
    calls_dropped: usize,
    packets_lost: u64,
    packets_share_least: f64,
    gaps: u64,
    longest_gap: Duration,
    booked: usize,
    refused: usize,
    slowest_booking: Duration,
    slowest_refusal: Duration,
    /// Half of those were faster that were asked for when it was known that the database is away.
    median_refusal_later: Duration,
    wrong_refusals: Vec<String>,
    back_after: Option<Duration>,
    refused_after_that: usize,
}

impl Figures {
    fn of(bookings: &[Booking], seen: &[Stay], began: Instant, back: Instant) -> Self {
        let is_booked = |booking: &&Booking| booking.status == 201;
        let refused = || bookings.iter().filter(|booking| booking.status != 201);
        let slowest = |took: Option<Duration>| took.unwrap_or_default();
        let served = |booking: &Booking| booking.asked + booking.took;
        let first = bookings
            .iter()
            .filter(is_booked)
            .map(served)
            .filter(|at| *at > back)
            .min();
        let shares = seen
            .iter()
            .map(|stay| stay.packets as f64 / (stay.time.as_secs_f64() * PACKETS_PER_SECOND));
        Self {
            calls_dropped: seen.iter().filter(|stay| !stay.up).count(),
            packets_lost: seen.iter().map(|stay| stay.lost).sum(),
            packets_share_least: shares.fold(1.0, f64::min),
            gaps: seen.iter().map(|stay| stay.gaps).sum(),
            longest_gap: slowest(seen.iter().map(|stay| stay.longest_gap).max()),
            booked: bookings.iter().filter(is_booked).count(),
            refused: refused().count(),
            slowest_booking: slowest(bookings.iter().filter(is_booked).map(|b| b.took).max()),
            slowest_refusal: slowest(refused().map(|b| b.took).max()),
            median_refusal_later: median(
                refused()
                    .filter(|b| b.asked > began + UNTIL_KNOWN)
                    .map(|b| b.took),
            ),
            wrong_refusals: refused()
                .filter(|b| !is_proper_refusal(b))
                .map(|b| format!("{b:?}"))
                .collect(),
            back_after: first.map(|at| at.duration_since(back)),
            refused_after_that: refused()
                .filter(|b| first.is_some_and(|first| b.asked > first))
                .count(),
        }
    }

    fn check(&self, run: &Run) {
        let lateness = Duration::from_micros(run.lateness_micros.load(Ordering::Relaxed));
        eprintln!("the machine itself was late by up to {lateness:?}");
        assert_eq!((self.calls_dropped, self.packets_lost), (0, 0));
        assert!(self.packets_share_least > 0.97);
        assert!(
            self.longest_gap < GAP_MAX + 2 * lateness,
            "a gap in the sound"
        );
        assert!(self.booked > 10 && self.refused > 10);
        assert!(self.wrong_refusals.is_empty());
        assert!(self.slowest_refusal < REFUSAL_MAX);
        assert!(self.median_refusal_later < REFUSAL_LATER_MAX);
        let back = self.back_after.expect("bookings are taken again");
        assert!(back <= Duration::from_secs(5), "{back:?}");
        assert_eq!(self.refused_after_that, 0, "it is back for all");
    }
}

fn median(all: impl Iterator<Item = Duration>) -> Duration {
    let mut all: Vec<Duration> = all.collect();
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or_default()
}

fn is_proper_refusal(booking: &Booking) -> bool {
    booking.status == 503
        && booking.kind == "application/problem+json"
        && booking.retry_after.is_some()
        && booking.answer["code"] == "store_unavailable"
}

fn expect_all_bookings(server: &Server, bookings: &[Booking]) {
    for booking in bookings.iter().filter(|booking| booking.status == 201) {
        let id = booking.answer["id"].as_str().expect("an id");
        let there = server.get(&format!("/v1/meetings/{id}"));
        assert_eq!(there["pins"], booking.answer["pins"]);
    }
}

/// Of every call, whenever it ended.
fn expect_all_records(server: &Server, calls: usize) {
    let outcomes = |wanted: &str| {
        let records = server.calls();
        records.iter().filter(|r| r["outcome"] == wanted).count()
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while (outcomes("joined"), outcomes("error")) != (calls + 1, 1) {
        assert!(Instant::now() < deadline, "{:?}", server.calls());
        sleep(Duration::from_millis(200));
    }
}

/// Everything that happens from now on, for so long.
fn follow(server: &Server, time: Duration) -> JoinHandle<Vec<Value>> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_recv_body(Some(time + Duration::from_secs(15)))
        .build()
        .into();
    let request = agent
        .get(format!("http://127.0.0.1:{}/v1/events", server.http_port))
        .header("Authorization", format!("Bearer {}", server.key));
    let answer = request.call().expect("answered");
    thread::spawn(move || {
        let lines = BufReader::new(answer.into_body().into_reader()).lines();
        let mut told = Vec::new();
        for line in lines.map_while(Result::ok) {
            let event: Option<Value> = line
                .strip_prefix("data: ")
                .and_then(|data| serde_json::from_str(data).ok());
            let is_last = event.as_ref().is_some_and(|e| e["type"] == "meeting.ended");
            told.extend(event);
            if is_last {
                break;
            }
        }
        told
    })
}

/// Each who was in is told to have come and to have gone, once; the call that was refused too.
fn expect_all_events(told: &[Value], calls: usize) {
    let of = |kind: &str| {
        let told = told.iter().filter(|e| e["type"] == kind);
        let ids = told.map(|e| e["data"]["id"].as_str().unwrap_or_default().to_owned());
        let ids: Vec<String> = ids.collect();
        let different: BTreeSet<&String> = ids.iter().collect();
        assert_eq!(different.len(), ids.len(), "{kind} was told twice");
        ids.len()
    };
    let (joined, left) = (of("participant.joined"), of("participant.left"));
    assert_eq!((joined, left), (calls + 1, calls + 1));
    assert_eq!(of("call.refused"), 1);
    assert_eq!((of("meeting.started"), of("meeting.ended")), (1, 1));
}

const KEYING: Duration = Duration::from_secs(4);
/// By then who isn't let in was told so, and hung up on.
const GOODBYE: Duration = Duration::from_secs(12);
const SLICE: Duration = Duration::from_millis(100);
const WITNESS: Duration = Duration::from_millis(5);
const BETWEEN_BOOKINGS: Duration = Duration::from_millis(200);
const PACKETS_PER_SECOND: f64 = 50.0;
const GAP_MAX: Duration = Duration::from_millis(100);
/// Who is first to find nobody there waits for a while.
const REFUSAL_MAX: Duration = Duration::from_secs(10);
const UNTIL_KNOWN: Duration = Duration::from_secs(3);
const REFUSAL_LATER_MAX: Duration = Duration::from_millis(500);
