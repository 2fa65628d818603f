//! A node under load: 100 calls in one meeting and 25 meetings of four, at the same time.
//!
//! The phones run in this process on the same cores, so what they see late may be their own fault or the
//! machine's: witnesses tell it from the server's.

#![allow(
    clippy::disallowed_methods,
    reason = "tests of the running program read the clock"
)]

#[path = "sip/ports.rs"]
mod ports;
#[allow(dead_code, reason = "the other tests of the program use the rest")]
#[path = "sip/server.rs"]
mod server;
#[path = "support/witnesses.rs"]
mod witnesses;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use serde_json::json;
use server::{Meeting, Server};
use tokio::task::LocalSet;
use voicebridge::media::codec::Codec;
use voicebridge::probe::{Heard, Phone, Target};
use voicebridge::units::Key;
use witnesses::{SLICE, Ticks, Witness, Witnesses};

#[test]
fn a_hundred_in_one_meeting_and_twenty_five_meetings_of_four_are_served_in_time() {
    let server = Server::start("sip.trusted = [\"127.0.0.0/8\"]");
    let wide = server.book(&json!({}));
    let small: Vec<Meeting> = (0..SMALL).map(|_| server.book(&json!({}))).collect();
    let seats: Vec<Seat> = (0..WIDE_SEATS)
        .map(|seat| Seat::new(&server, &wide, seat, WIDE_SEATS / 3))
        .chain(small.iter().flat_map(|meeting| {
            (0..SMALL_SEATS).map(|seat| Seat::new(&server, meeting, seat, SMALL_SEATS))
        }))
        .collect();
    let calls = seats.len();
    let run = Arc::new(Run::default());
    let phones = thread::spawn({
        let run = Arc::clone(&run);
        move || place_all(seats, &run)
    });
    let timers = run.witnesses.watch();
    wait_until_in(&run, &phones, calls);
    run.witnesses.begin();
    let before = Sample::take(&server);
    sleep(WARM_UP);
    let warm = Sample::take(&server);
    sleep(MEASURED - WARM_UP);
    let after = Sample::take(&server);
    let joined: usize = small
        .iter()
        .chain([&wide])
        .map(|meeting| joined(&server, meeting))
        .sum();
    run.witnesses.end();
    let seen = phones.join().expect("the phones ran to their end");
    for timer in timers {
        timer.join().expect("the timer ran to its end");
    }

    let figures = Figures::of(&run, &seen, &before, &warm, &after);
    eprintln!("{figures:#?}");
    run.tell_stalls(&seen);
    assert_eq!(joined, calls, "the server lost calls");
    figures.check(calls);
    check_records(&server, calls);
}

/// One phone's place in a meeting.
struct Seat {
    target: Target,
    pin: String,
    codec: Codec,
    tone_hz: f64,
    /// It talks in every so manieth slot, so that all the time somebody does and the speakers change.
    turn: u64,
    turns: u64,
}

impl Seat {
    fn new(server: &Server, meeting: &Meeting, number: usize, turns: usize) -> Self {
        let uri = format!("sip:1000@127.0.0.1:{}", server.sip_port);
        Self {
            target: Target::parse(&uri).expect("a target"),
            pin: meeting.guest.clone(),
            codec: match number % 10 {
                3 => Codec::G722,
                7 => Codec::Opus,
                1 | 5 => Codec::Pcmu,
                _ => Codec::Pcma,
            },
            tone_hz: 400.0 + 17.0 * number as f64,
            turn: (number % turns) as u64,
            turns: turns as u64,
        }
    }

    async fn call(self, run: Arc<Run>) -> Seen {
        let mut phone = Phone::dial(&self.target, self.codec, self.tone_hz)
            .await
            .expect("answered");
        phone.be_silent(true);
        let mut up = phone.talk(BEFORE_KEYS).await.expect("sockets work");
        let keys: Vec<Key> = self.pin.chars().filter_map(Key::from_char).collect();
        phone.press(keys);
        up = up && phone.talk(KEYING).await.expect("sockets work");
        run.placed.fetch_add(1, Ordering::Relaxed);
        let mut seen = Seen::default();
        while up && !run.witnesses.has_ended() {
            let before = phone.heard();
            let began = Instant::now();
            phone.be_silent(self.is_silent(&run, began));
            up = phone.talk(SLICE).await.expect("sockets work");
            if run.witnesses.is_measured(began) && !run.witnesses.has_ended() {
                seen.add(began, &before, &phone.heard());
            }
        }
        seen.up = up;
        phone.hang_up().await.expect("hung up");
        seen
    }

    fn is_silent(&self, run: &Run, now: Instant) -> bool {
        let Some(begin) = run.witnesses.began() else {
            return true;
        };
        let slot = now.saturating_duration_since(begin).as_secs() / TURN_SECONDS;
        slot % self.turns != self.turn
    }
}

/// What one phone saw while it was measured.
#[derive(Default)]
struct Seen {
    up: bool,
    slices: u64,
    packets: u64,
    lost: u64,
    loud_frames: u64,
    longest: Duration,
    /// When slices began in which a gap ended.
    gaps: Vec<Instant>,
}

impl Seen {
    fn add(&mut self, began: Instant, before: &Heard, after: &Heard) {
        self.slices += 1;
        self.packets += after.packets - before.packets;
        self.lost += after.lost - before.lost;
        self.loud_frames += after.loud_frames - before.loud_frames;
        if after.gaps > before.gaps {
            self.gaps.push(began);
        }
        if after.longest_gap > before.longest_gap {
            self.longest = after.longest_gap;
        }
    }
}

/// What the threads of a run share.
#[derive(Default)]
struct Run {
    placed: AtomicUsize,
    witnesses: Arc<Witnesses>,
}

impl Run {
    /// When it was that anything stood still, and when the phones had gaps.
    fn tell_stalls(&self, seen: &[Seen]) {
        let begin = self.witnesses.began().expect("the run began");
        let offset = |at: Instant| at.saturating_duration_since(begin).as_millis();
        for (name, witness) in self.witnesses.all() {
            for stall in witness.stalls() {
                eprintln!("at {} ms: {name} {:?} late", offset(stall.back), stall.late);
            }
        }
        let mut slices = BTreeMap::new();
        for (index, gap) in seen
            .iter()
            .enumerate()
            .flat_map(|(i, s)| s.gaps.iter().map(move |g| (i, g)))
        {
            let counts: &mut [usize; 2] = slices.entry(offset(*gap) / 50 * 50).or_default();
            counts[usize::from(index >= WIDE_SEATS)] += 1;
        }
        for (slice, [wide, small]) in slices {
            eprintln!(
                "about {slice} ms: gaps at {wide} phones of the wide meeting, {small} of the others"
            );
        }
    }
}

/// All phones on one thread, a few dialling at a time.
fn place_all(seats: Vec<Seat>, run: &Arc<Run>) -> Vec<Seen> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        tokio::task::spawn_local(Arc::clone(&run.witnesses).watch_phones());
        let mut phones = Vec::new();
        for seat in seats {
            phones.push(tokio::task::spawn_local(seat.call(Arc::clone(run))));
            tokio::time::sleep(BETWEEN_CALLS).await;
        }
        let mut seen = Vec::new();
        for phone in phones {
            seen.push(phone.await.expect("the phone ran to its end"));
        }
        seen
    })
}

fn wait_until_in(run: &Run, phones: &thread::JoinHandle<Vec<Seen>>, calls: usize) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while run.placed.load(Ordering::Relaxed) < calls {
        assert!(!phones.is_finished(), "a phone failed");
        assert!(Instant::now() < deadline, "not all calls were placed");
        sleep(Duration::from_millis(100));
    }
}

fn joined(server: &Server, meeting: &Meeting) -> usize {
    let people = server.get(&format!(
        "/v1/meetings/{}/participants?limit=1000",
        meeting.id
    ));
    let items = people["items"].as_array().expect("a list");
    items.iter().filter(|i| i["state"] == "joined").count()
}

/// Each call joined and ended by its phone's own BYE.
fn check_records(server: &Server, calls: usize) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while server.calls().len() < calls && Instant::now() < deadline {
        sleep(Duration::from_millis(100));
    }
    let records = server.calls();
    assert_eq!(records.len(), calls);
    for record in records {
        assert_eq!(record["outcome"], "joined", "{record}");
        assert_eq!(record["hangup_by"], "caller", "{record}");
    }
}

/// The server's own figures at one moment.
struct Sample {
    at: Instant,
    cpu: Duration,
    resident_kib: u64,
    ticks: Ticks,
}

impl Sample {
    fn take(server: &Server) -> Self {
        Self {
            at: Instant::now(),
            cpu: server.cpu(),
            resident_kib: server.resident_kib(),
            ticks: Ticks::told(&server.metrics()),
        }
    }
}

/// What a run found.
#[derive(Debug)]
#[expect(dead_code, reason = "some are there to be printed")]
struct Figures {
    calls_up: usize,
    packets_least: u64,
    packets_due: u64,
    lost: u64,
    loud_share_least: f64,
    gaps: usize,
    gaps_by_server: usize,
    longest_gap_since_call_began: Duration,
    server_ticks: f64,
    server_late_share: f64,
    server_over_20_ms: f64,
    bare_timer_late_share: f64,
    core_timers_late_share: f64,
    phones_timer_late_share: f64,
    witness_stalls: usize,
    resident_kib_warm: u64,
    resident_kib_end: u64,
    cpu_share_of_one_core: f64,
    cpu_micros_per_participant_second: f64,
}

impl Figures {
    fn of(run: &Run, seen: &[Seen], before: &Sample, warm: &Sample, after: &Sample) -> Self {
        let gaps: Vec<Instant> = seen.iter().flat_map(|s| s.gaps.iter().copied()).collect();
        let wakes = after.ticks.all - before.ticks.all;
        let within_20_ms = after.ticks.within_20_ms - before.ticks.within_20_ms;
        let cpu = (after.cpu - before.cpu).as_secs_f64();
        let seconds = (after.at - before.at).as_secs_f64();
        let witnesses = &run.witnesses;
        let stalls = |(_, witness): &(_, &Witness)| witness.stalls().len();
        Self {
            calls_up: seen.iter().filter(|s| s.up).count(),
            packets_least: seen.iter().map(|s| s.packets).min().unwrap_or(0),
            packets_due: (seconds * PACKETS_PER_SECOND) as u64,
            lost: seen.iter().map(|s| s.lost).sum(),
            loud_share_least: seen
                .iter()
                .map(|s| s.loud_frames as f64 / (seconds * PACKETS_PER_SECOND))
                .fold(f64::INFINITY, f64::min),
            gaps: gaps.len(),
            gaps_by_server: gaps.iter().filter(|g| !witnesses.explain(**g)).count(),
            longest_gap_since_call_began: seen.iter().map(|s| s.longest).max().unwrap_or_default(),
            server_ticks: wakes,
            server_late_share: after.ticks.late_share_since(&before.ticks),
            server_over_20_ms: wakes - within_20_ms,
            bare_timer_late_share: witnesses.bare.late_share(),
            core_timers_late_share: witnesses.cores.late_share(),
            phones_timer_late_share: witnesses.phones.late_share(),
            witness_stalls: witnesses.all().iter().map(stalls).sum(),
            resident_kib_warm: warm.resident_kib,
            resident_kib_end: after.resident_kib,
            cpu_share_of_one_core: cpu / seconds,
            cpu_micros_per_participant_second: cpu * 1e6 / seconds / seen.len() as f64,
        }
    }

    fn check(&self, calls: usize) {
        assert_eq!(self.calls_up, calls, "phones were hung up on");
        assert_eq!(self.lost, 0, "sequence numbers are missing");
        assert!(
            self.packets_least as f64 >= self.packets_due as f64 * PACKETS_SHARE_MIN,
            "a phone got too few packets"
        );
        assert!(
            self.loud_share_least > LOUD_SHARE_MIN,
            "a phone heard nobody talk"
        );
        assert_eq!(
            self.gaps_by_server, 0,
            "gaps that the machine does not explain"
        );
        assert!(
            self.server_late_share <= self.bare_timer_late_share + LATE_SHARE_MAX,
            "ticks were late"
        );
        assert!(
            self.resident_kib_end as f64
                <= self.resident_kib_warm as f64 * GROWTH_MAX + GROWTH_KIB_MAX,
            "memory grew"
        );
    }
}

const WIDE_SEATS: usize = 100;
const SMALL: usize = 25;
const SMALL_SEATS: usize = 4;
const MEASURED: Duration = Duration::from_secs(60);
const WARM_UP: Duration = Duration::from_secs(10);
const BEFORE_KEYS: Duration = Duration::from_millis(500);
/// Ten keys of 180 ms, and time to be told who else is there.
const KEYING: Duration = Duration::from_secs(6);
const BETWEEN_CALLS: Duration = Duration::from_millis(20);
const TURN_SECONDS: u64 = 3;
const PACKETS_PER_SECOND: f64 = 50.0;
/// Slices begin and end up to a tenth of a second off at either end, and a machine that stands still for
/// half a second costs a percent.
const PACKETS_SHARE_MIN: f64 = 0.98;
/// In a meeting of four each talks a quarter of the time and then hears silence.
const LOUD_SHARE_MIN: f64 = 0.5;
const LATE_SHARE_MAX: f64 = 0.001;
const GROWTH_MAX: f64 = 1.05;
const GROWTH_KIB_MAX: f64 = 4_096.0;
