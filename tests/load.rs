//! A node under load: 100 calls in one meeting and 25 meetings of four, at the same time.
//!
//! The phones run in this process on the same cores, so what they see late may be their own fault or the
//! machine's. Witnesses tell it from the server's: a bare timer thread that the server's ticks are compared
//! with, one more on each core (a virtual core may stand still alone), and a timer on the phones' thread.

#![allow(
    clippy::disallowed_methods,
    reason = "tests of the running program read the clock"
)]

#[path = "sip/ports.rs"]
mod ports;
#[allow(dead_code, reason = "the other tests of the program use the rest")]
#[path = "sip/server.rs"]
mod server;

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use serde_json::json;
use server::{Meeting, Server};
use tokio::task::LocalSet;
use voicebridge::media::codec::Codec;
use voicebridge::probe::{Heard, Phone, Target};
use voicebridge::units::Key;

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
    let mut timers = vec![thread::spawn({
        let run = Arc::clone(&run);
        move || run.bare.watch(&run)
    })];
    timers.extend((0..cores()).map(|core| {
        let run = Arc::clone(&run);
        thread::spawn(move || {
            stay_on(core);
            run.cores.watch(&run);
        })
    }));
    wait_until_in(&run, &phones, calls);
    run.begin();
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
    run.end.set(Instant::now()).expect("set here only");
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
        while up && run.end.get().is_none() {
            let before = phone.heard();
            let began = Instant::now();
            phone.be_silent(self.is_silent(&run, began));
            up = phone.talk(SLICE).await.expect("sockets work");
            if run.is_measured(began) && run.end.get().is_none() {
                seen.add(began, &before, &phone.heard());
            }
        }
        seen.up = up;
        phone.hang_up().await.expect("hung up");
        seen
    }

    fn is_silent(&self, run: &Run, now: Instant) -> bool {
        let Some(begin) = run.begin.get() else {
            return true;
        };
        let slot = now.saturating_duration_since(*begin).as_secs() / TURN_SECONDS;
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
    begin: OnceLock<Instant>,
    end: OnceLock<Instant>,
    bare: Witness,
    cores: Witness,
    phones: Witness,
}

impl Run {
    fn begin(&self) {
        self.begin.set(Instant::now()).expect("set here only");
    }

    fn is_measured(&self, at: Instant) -> bool {
        self.begin.get().is_some_and(|begin| at >= *begin)
    }

    /// Was a witness held up so badly, about the time of this slice, that a gap proves nothing?
    fn machine_stalled(&self, slice: Instant) -> bool {
        self.witnesses().iter().any(|(_, w)| w.stalled(slice))
    }

    const fn witnesses(&self) -> [(&str, &Witness); 3] {
        [
            ("bare timer", &self.bare),
            ("core", &self.cores),
            ("phones", &self.phones),
        ]
    }

    /// When it was that anything stood still, and when the phones had gaps.
    fn tell_stalls(&self, seen: &[Seen]) {
        let begin = *self.begin.get().expect("the run began");
        let offset = |at: Instant| at.saturating_duration_since(begin).as_millis();
        for (name, witness) in self.witnesses() {
            for (woken, lateness) in witness.stalls.lock().expect("ended").iter() {
                eprintln!("at {} ms: {name} {lateness:?} late", offset(*woken));
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

/// A timer that does nothing but notice how late it is woken.
#[derive(Default)]
struct Witness {
    ticks: AtomicU64,
    late: AtomicU64,
    stalls: Mutex<Vec<(Instant, Duration)>>,
}

impl Witness {
    fn watch(&self, run: &Run) {
        let mut next = Instant::now() + TICK;
        while run.end.get().is_none() {
            sleep(next.saturating_duration_since(Instant::now()));
            next = self.woke(run, next);
        }
    }

    async fn watch_phones(run: Arc<Run>) {
        let mut next = Instant::now() + TICK;
        while run.end.get().is_none() {
            tokio::time::sleep_until(next.into()).await;
            next = run.phones.woke(&run, next);
        }
    }

    /// Counts a wake-up, as the engine does: what is missed meanwhile is not counted. The next one's time.
    fn woke(&self, run: &Run, due: Instant) -> Instant {
        let now = Instant::now();
        let lateness = now.saturating_duration_since(due);
        if run.is_measured(due) {
            self.ticks.fetch_add(1, Ordering::Relaxed);
            self.late
                .fetch_add(u64::from(lateness > TICK), Ordering::Relaxed);
            if lateness > STALL {
                let mut stalls = self.stalls.lock().expect("nobody panics with it");
                stalls.push((now, lateness));
            }
        }
        due + TICK * (1 + (lateness.as_nanos() / TICK.as_nanos()) as u32)
    }

    fn stalled(&self, slice: Instant) -> bool {
        let stalls = self.stalls.lock().expect("nobody panics with it");
        stalls.iter().any(|(woken, lateness)| {
            *woken + STALL_REACH >= slice && *woken - *lateness <= slice + SLICE + STALL_REACH
        })
    }

    fn late_share(&self) -> f64 {
        self.late.load(Ordering::Relaxed) as f64 / self.ticks.load(Ordering::Relaxed) as f64
    }
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Binds the calling thread to one core; where that is not allowed it stays free.
fn stay_on(core: usize) {
    // SAFETY: a cpu_set_t of zeros is an empty set; CPU_SET writes inside it, for `core` is below 1,024
    // on any machine that tests run on; the kernel only reads it.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
    }
}

/// All phones on one thread, a few dialling at a time.
fn place_all(seats: Vec<Seat>, run: &Arc<Run>) -> Vec<Seen> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        tokio::task::spawn_local(Witness::watch_phones(Arc::clone(run)));
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
    wakes: f64,
    in_time: f64,
    within_20_ms: f64,
}

impl Sample {
    fn take(server: &Server) -> Self {
        let mut answer = ureq::get(format!("http://127.0.0.1:{}/metrics", server.http_port))
            .call()
            .expect("answered");
        let metrics = answer.body_mut().read_to_string().expect("text");
        // All media threads together.
        let bucket = |bound: &str| -> f64 {
            let name = format!("voicebridge_tick_lateness_seconds_bucket{{le=\"{bound}\",");
            let lines = metrics.lines().filter(|line| line.starts_with(&name));
            let counts = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
            counts
                .reduce(|a, b| a + b)
                .unwrap_or_else(|| panic!("no bucket {bound} in:\n{metrics}"))
        };
        Self {
            at: Instant::now(),
            cpu: cpu(server.pid()),
            resident_kib: resident_kib(server.pid()),
            wakes: bucket("+Inf"),
            in_time: bucket("0.005"),
            within_20_ms: bucket("0.02"),
        }
    }
}

/// User and system time so far: fields 14 and 15 of proc(5)'s stat, after the name in parentheses.
fn cpu(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the server runs");
    let (_, rest) = stat.rsplit_once(')').expect("a name");
    let ticks = rest.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.map(|n| n.parse::<u64>().expect("a number")).sum();
    // SAFETY: sysconf only reads a constant of the system.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Duration::from_secs_f64(ticks as f64 / per_second as f64)
}

fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the server runs");
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let number = line.and_then(|l| l.split_whitespace().next());
    number.and_then(|n| n.parse().ok()).expect("VmRSS in kB")
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
        let wakes = after.wakes - before.wakes;
        let cpu = (after.cpu - before.cpu).as_secs_f64();
        let seconds = (after.at - before.at).as_secs_f64();
        let stalls = |witness: &Witness| witness.stalls.lock().expect("ended").len();
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
            gaps_by_server: gaps.iter().filter(|g| !run.machine_stalled(**g)).count(),
            longest_gap_since_call_began: seen.iter().map(|s| s.longest).max().unwrap_or_default(),
            server_ticks: wakes,
            server_late_share: 1.0 - (after.in_time - before.in_time) / wakes,
            server_over_20_ms: wakes - (after.within_20_ms - before.within_20_ms),
            bare_timer_late_share: run.bare.late_share(),
            core_timers_late_share: run.cores.late_share(),
            phones_timer_late_share: run.phones.late_share(),
            witness_stalls: run.witnesses().iter().map(|(_, w)| stalls(w)).sum(),
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
const SLICE: Duration = Duration::from_millis(100);
const TURN_SECONDS: u64 = 3;
const TICK: Duration = Duration::from_millis(5);
/// A gap of 60 ms is 40 ms more than the packets' own 20; a witness this late was not scheduled either.
const STALL: Duration = Duration::from_millis(20);
const STALL_REACH: Duration = Duration::from_millis(60);
const PACKETS_PER_SECOND: f64 = 50.0;
/// Slices begin and end up to a tenth of a second off at either end, and a machine that stands still for
/// half a second costs a percent.
const PACKETS_SHARE_MIN: f64 = 0.98;
/// In a meeting of four each talks a quarter of the time and then hears silence.
const LOUD_SHARE_MIN: f64 = 0.5;
const LATE_SHARE_MAX: f64 = 0.001;
const GROWTH_MAX: f64 = 1.05;
const GROWTH_KIB_MAX: f64 = 4_096.0;
