//! How fast meetings are booked over the API while 32 ask at once, and how fast PINs are found among a million:
//! `cargo bench --bench bookings -- --meetings 20000`, `-- --postgres --meetings 100000`, and either with
//! `--stored 1000000` for what is there before. Every PIN that was given out is compared with all others.
//!
//! Each client has a connection of its own and asks again as soon as it was answered.
#![allow(clippy::disallowed_methods, reason = "a bench is a shell")]
#![allow(clippy::print_stdout, reason = "this is what the program is for")]
#![allow(
    clippy::unwrap_used,
    reason = "a measurement that can't go on may panic"
)]

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use jiff::Timestamp;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use voicebridge::booking::admission::{CallId, PinQuery, PinVerdict, Standing};
use voicebridge::booking::{BookingSettings, Bookings, CallerNumber, Pin, SqlStore};

#[path = "../tests/support/postgres.rs"]
mod postgres;

#[derive(Parser)]
struct Options {
    /// How many are booked
    #[arg(long, default_value_t = 2_000)]
    meetings: usize,
    /// How many ask at once
    #[arg(long, default_value_t = 32)]
    clients: usize,
    /// How many are there before, two PINs each
    #[arg(long, default_value_t = 0)]
    stored: usize,
    /// On a PostgreSQL of Debian's that is started for this, instead of SQLite
    #[arg(long)]
    postgres: bool,
    /// What cargo passes
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let options = Options::parse();
    let folder = tempfile::tempdir().unwrap();
    let server = options.postgres.then(postgres::Server::start);
    let file = folder.path().join("voicebridge.db");
    let url = server.as_ref().map_or_else(
        || format!("sqlite:{}", file.display()),
        postgres::Server::database,
    );
    let node = Node::start(folder.path(), &url);
    let key = node.key("booking");
    let template = node.book(&agent(), &key, "Template");
    if options.stored > 0 {
        let took = Instant::now();
        store(&url, &template, options.stored, options.postgres);
        println!(
            "{} stored in {:.0} s",
            options.stored,
            took.elapsed().as_secs_f64()
        );
    }
    book_all(&node, &key, &options);
    if options.stored > 0 {
        explain_many(&node, options.stored);
        look_up_many(&url, options.stored, options.postgres);
    }
}

/// Books all of them and tells how long each took; no PIN may be another's or its beginning.
fn book_all(node: &Node, key: &str, options: &Options) {
    let next = AtomicUsize::new(0);
    let begun = Instant::now();
    let booked: Vec<(Duration, Value)> = thread::scope(|scope| {
        let client = || {
            let agent = agent();
            let mut booked = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= options.meetings {
                    return booked;
                }
                let asked = Instant::now();
                let meeting = node.book(&agent, key, &format!("Meeting {number}"));
                booked.push((asked.elapsed(), meeting));
            }
        };
        let clients: Vec<_> = (0..options.clients).map(|_| scope.spawn(client)).collect();
        clients
            .into_iter()
            .flat_map(|c| c.join().unwrap())
            .collect()
    });
    let took = begun.elapsed().as_secs_f64();
    let (mut times, mut pins) = (Vec::new(), Vec::new());
    for (time, meeting) in booked {
        times.push(time);
        for role in ["guest", "host"] {
            pins.push(meeting["pins"][role].as_str().unwrap().to_owned());
        }
    }
    pins.sort_unstable();
    let clashes = pins
        .windows(2)
        .filter(|two| two[1].starts_with(&two[0]))
        .count();
    let is_right = |pin: &&String| pin.len() == 10 && pin.bytes().all(|b| b.is_ascii_digit());
    let wrong = pins.len() - pins.iter().filter(is_right).count();
    println!(
        "{} booked by {} at once: {:.0} a second, {}; {} PINs, {clashes} duplicates or beginnings, {wrong} against the rules",
        times.len(),
        options.clients,
        times.len() as f64 / took,
        percentiles(&mut times),
        pins.len(),
    );
}

/// Has PINs explained over the API, as many as one key after the other may ask for.
fn explain_many(node: &Node, stored: usize) {
    let agent = agent();
    let mut times = Vec::new();
    for asker in 0..EXPLAINERS {
        let key = node.key("booking");
        for question in 0..EXPLAINED_BY_EACH {
            let digits = digits_of(pick(asker * EXPLAINED_BY_EACH + question, stored));
            let asked = Instant::now();
            let (status, answer) =
                node.post(&agent, &key, "/v1/pins/explain", &json!({"pin": digits}));
            times.push(asked.elapsed());
            assert_eq!(
                (status, &answer["outcome"]),
                (200, &json!("joined")),
                "{answer}"
            );
        }
    }
    println!("explain over the API: {}", percentiles(&mut times));
}

/// Looks PINs up as a call does, in a process that knows none of them yet.
fn look_up_many(url: &str, stored: usize, is_postgres: bool) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut times = runtime.block_on(async {
        let store = if is_postgres {
            SqlStore::postgres(url).await.unwrap()
        } else {
            SqlStore::sqlite(Path::new(url.strip_prefix("sqlite:").unwrap()))
                .await
                .unwrap()
        };
        let bookings = Bookings::new(BookingSettings::default(), Arc::new(store)).unwrap();
        let mut times = Vec::new();
        for number in 0..LOOKED_UP {
            let digits = digits_of(pick(number, stored));
            let query = PinQuery {
                call: CallId(uuid::Uuid::from_u128(number as u128 + 1)),
                pin: Pin::parse(&digits).unwrap(),
                caller: CallerNumber::new("+390649622000"),
                standing: Standing::Unknown,
                number: None,
            };
            let asked = Instant::now();
            let verdict = bookings.resolve_pin(Timestamp::now(), query).await;
            times.push(asked.elapsed());
            assert!(matches!(verdict, PinVerdict::Admitted(_)));
        }
        times
    });
    println!("look-up by a call: {}", percentiles(&mut times));
}

/// The built program, over an empty database.
struct Node {
    process: Child,
    config: String,
    api: String,
}

impl Node {
    fn start(folder: &Path, url: &str) -> Self {
        let port = || {
            std::net::TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port()
        };
        let (http, sip) = (port(), port());
        let config = folder.join("voicebridge.toml").display().to_string();
        let text = format!(
            "node.data_dir = '{}'\nsip.listen = ['tcp:127.0.0.1:{sip}']\nhttp.listen = '127.0.0.1:{http}'\ndatabase.url = '{url}'\n",
            folder.display(),
        );
        fs::write(&config, text).unwrap();
        let log = fs::File::create(folder.join("log")).unwrap();
        let process = Command::new(PROGRAM)
            .args(["serve", "--config", &config])
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let node = Self {
            process,
            config,
            api: format!("http://127.0.0.1:{http}"),
        };
        for _ in 0..200 {
            if ureq::get(format!("{}/readyz", node.api)).call().is_ok() {
                return node;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!(
            "it doesn't start: {}",
            fs::read_to_string(folder.join("log")).unwrap()
        );
    }

    fn key(&self, role: &str) -> String {
        let output = Command::new(PROGRAM)
            .args([
                "key",
                "create",
                "--organisation",
                "bench",
                "--role",
                role,
                "--config",
                &self.config,
            ])
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn book(&self, agent: &ureq::Agent, key: &str, title: &str) -> Value {
        let body = json!({
            "title": title, "starts_at": Timestamp::now().to_string(), "ends_at": null, "timezone": "Europe/Rome",
        });
        let (status, meeting) = self.post(agent, key, "/v1/meetings", &body);
        assert_eq!(status, 201, "{meeting}");
        meeting
    }

    fn post(&self, agent: &ureq::Agent, key: &str, path: &str, body: &Value) -> (u16, Value) {
        let request = agent
            .post(format!("{}{path}", self.api))
            .header("Authorization", format!("Bearer {key}"));
        let mut answer = request.send_json(body).unwrap();
        (
            answer.status().as_u16(),
            answer.body_mut().read_json().unwrap(),
        )
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .into()
}

/// Puts copies of a meeting into the database, each with two PINs of its own.
fn store(url: &str, template: &Value, count: usize, is_postgres: bool) {
    let padded = |number: &str, digits: usize| {
        let zeros = "0".repeat(digits);
        if is_postgres {
            format!("right('{zeros}' || ({number}), {digits})")
        } else {
            format!("substr('{zeros}' || ({number}), -{digits})")
        }
    };
    let numbers = format!(
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {}) ",
        count - 1
    );
    let meeting = |i: &str| format!("'00000000-0000-4000-8000-' || {}", padded(i, 12));
    let id = template["id"].as_str().unwrap();
    let columns = "organisation, echo, title, timezone, starts_local, starts_at, opens_at, wait_for_host, mute_on_join,
        guests_may_unmute, early_join_minutes, overrun_minutes, created_at, updated_at, revision";
    let meetings = format!(
        "{numbers} INSERT INTO meetings (id, {columns}) SELECT {}, {columns} FROM n, meetings WHERE meetings.id = '{id}'",
        meeting("n.i"),
    );
    let digits = padded(&format!("(n.i * 2 + role.r) * {STEP} % 10000000000"), 10);
    let pins = format!(
        "{numbers} INSERT INTO pins (id, meeting, digits, role, created_at)
         SELECT '00000000-0000-4000-9000-' || {}, {}, {digits}, role.name, 0
         FROM n, (SELECT 0 AS r, 'guest' AS name UNION ALL SELECT 1, 'host') role",
        padded("n.i * 2 + role.r", 12),
        meeting("n.i"),
    );
    let (meetings, pins) = if is_postgres {
        (meetings, pins)
    } else {
        // SQLite wants INSERT first.
        let turned = |text: &str| {
            let rest = text.strip_prefix(&numbers).unwrap();
            rest.replacen("SELECT", &format!("{numbers} SELECT"), 1)
        };
        (turned(&meetings), turned(&pins))
    };
    sqlx::any::install_default_drivers();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let pool = sqlx::any::AnyPoolOptions::new()
            .max_connections(1)
            .connect(url)
            .await
            .unwrap();
        for statement in [meetings, pins] {
            sqlx::raw_sql(AssertSqlSafe(statement))
                .execute(&pool)
                .await
                .unwrap();
        }
        sqlx::raw_sql("ANALYZE").execute(&pool).await.unwrap();
        pool.close().await;
    });
}

/// One of those that were stored, all over the place.
fn pick(number: usize, stored: usize) -> usize {
    number * 7_919 % stored
}

/// The guest PIN of a stored meeting.
fn digits_of(meeting: usize) -> String {
    format!("{:010}", meeting as u64 * 2 * STEP % 10_000_000_000)
}

fn percentiles(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3;
    format!(
        "p50 {:.2} ms, p99 {:.2} ms, most {:.1} ms",
        at(50),
        at(99),
        at(100)
    )
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_voicebridge");
/// Odd and no multiple of five: steps through all PINs of ten digits before it meets one again.
const STEP: u64 = 3_141_592_653;
const EXPLAINERS: usize = 20;
/// A key may ask 60 times in a minute.
const EXPLAINED_BY_EACH: usize = 50;
const LOOKED_UP: usize = 5_000;
