//! One round: a server is started, called, measured and ended.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::bail;
use serde::{Deserialize, Serialize};
use voicebridge::media::codec::Codec;

use crate::call::Answered;
use crate::delay::{Delay, Voice};
use crate::generator::{self, Caller, Generator, Outcome, Window};
use crate::histogram::Histogram;
use crate::scenario::{Scenario, Seat, Sounds};
use crate::server::{Kind, SERVER_CORE, Server};
use crate::system::{self, SECOND};
use crate::wire::Fan;

/// What one round found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) scenario: String,
    pub(crate) kind: Kind,
    pub(crate) participants: usize,
    /// The server's user and system time per participant and second, us.
    pub(crate) cpu_us: f64,
    /// What of that is the Asterisk's in front of it.
    #[serde(default)]
    pub(crate) front_us: Option<f64>,
    /// Share of its core.
    pub(crate) core: f64,
    /// Deviation of the spacing of packets from 20 ms: p50, p99, most, ms.
    pub(crate) spacing: [f64; 3],
    /// Lateness of a bare timer on the server's core, likewise.
    pub(crate) bare: [f64; 3],
    /// Lateness of the generator: p99, ms.
    pub(crate) generator: f64,
    /// One-way delays that were found, ms.
    pub(crate) delays: Vec<f32>,
    /// How far the delay moved from the first to the last quarter of the round, ms.
    pub(crate) drift: Option<f32>,
    /// Packets missing among those that came, by their numbers, share.
    pub(crate) lost: f64,
    /// Packets that should have come and didn't, share.
    pub(crate) missing: f64,
    /// Gaps of more than 60 ms.
    pub(crate) gaps: u64,
    /// Resident memory per participant, KiB.
    pub(crate) memory_kib: f64,
    /// What is left of it half a second after the calls, KiB per participant.
    pub(crate) left_kib: f64,
    /// Frames that the server made up, share of those that it was owed.
    pub(crate) concealed: Option<f64>,
    /// Ticks of the server that began more than 2 ms after their time, share of all.
    #[serde(default)]
    pub(crate) late: Option<f64>,
    /// How busy the whole machine was, share.
    pub(crate) machine: f64,
}

/// Runs one round.
pub(crate) fn run(
    scenario: &Scenario,
    kind: Kind,
    seconds: u64,
    sounds: &mut Sounds,
) -> anyhow::Result<Found> {
    let folder = tempfile::tempdir()?;
    let mut server = kind.start(scenario, folder.path())?;
    let seats = scenario.seats();
    let (fan, window) = (Fan::bind(0)?, Arc::new(Window::default()));
    let rtp_port = fan.port();
    // RTCP has to go somewhere; nobody reads it.
    let _rtcp = std::net::UdpSocket::bind(("0.0.0.0", rtp_port + 1));
    let (adopt, new) = channel();
    let generator = Generator::new(fan, seats.len(), scenario.network);
    let work = thread::spawn({
        let window = Arc::clone(&window);
        move || generator.run(&new, &window)
    });
    let timer = thread::spawn({
        let window = Arc::clone(&window);
        move || generator::bare_timer(SERVER_CORE, &window)
    });
    let measured = measure(
        &mut *server,
        kind,
        &seats,
        seconds,
        sounds,
        &adopt,
        rtp_port,
        &window,
    );
    window.stop.store(true, Ordering::Release);
    let outcome = work.join().expect("the generator doesn't panic");
    let bare = timer.join().expect("the timer doesn't panic");
    let measured = measured?;
    if outcome.unsent > 0 {
        bail!("the generator couldn't send {} packets", outcome.unsent);
    }
    Ok(measured.summarise(scenario, kind, &seats, sounds, &outcome, &bare))
}

/// What was read from the system around a round.
struct Measured {
    /// Of both, where an Asterisk is in front.
    cpu: Duration,
    front: Option<Duration>,
    seconds: f64,
    memory_kib: f64,
    left_kib: f64,
    concealed: Option<f64>,
    late: Option<f64>,
    machine: f64,
}

#[expect(clippy::too_many_arguments, reason = "all that a round consists of")]
fn measure(
    server: &mut dyn Server,
    kind: Kind,
    seats: &[Seat],
    seconds: u64,
    sounds: &mut Sounds,
    adopt: &Sender<Caller>,
    rtp_port: u16,
    window: &Window,
) -> anyhow::Result<Measured> {
    wait_until_idle(server.pid())?;
    let empty = system::resident_kib(server.pid())?;
    server.call(rtp_port, &mut |answered| {
        // The generator outlives the calls.
        let _adopted = adopt.send(caller(&seats[answered.index], answered, sounds));
    })?;
    server.hold(settling(kind))?;
    let begin = system::now();
    window.begin.store(begin, Ordering::Release);
    window
        .end
        .store(begin + seconds * SECOND, Ordering::Release);
    let (cpu, counts, machine) = (cpu_time(server)?, server.counts(), system::machine_time());
    let ended = server.hold(Duration::from_secs(seconds))?;
    let passed = (system::now() - begin) as f64 / 1e9;
    let (cpu_after, machine_after) = (cpu_time(server)?, system::machine_time());
    let counted = server.counts().zip(counts);
    let full = system::resident_kib(server.pid())?;
    if ended > 0 {
        bail!("{ended} calls were ended by the server");
    }
    server.hang_up()?;
    server.hold(Duration::from_millis(500))?;
    let left = system::resident_kib(server.pid())?;
    let per_seat = |kib: u64| (kib as f64 - empty as f64) / seats.len() as f64;
    Ok(Measured {
        cpu: (cpu_after.0 + cpu_after.1).saturating_sub(cpu.0 + cpu.1),
        front: server.front().map(|_| cpu_after.1.saturating_sub(cpu.1)),
        seconds: passed,
        memory_kib: per_seat(full),
        left_kib: per_seat(left),
        concealed: counted.map(|(after, before)| after.concealed - before.concealed),
        late: counted.map(|(after, before)| {
            1.0 - (after.punctual - before.punctual) / (after.ticks - before.ticks)
        }),
        machine: (machine_after.0 - machine.0) as f64 / (machine_after.1 - machine.1).max(1) as f64,
    })
}

/// What the server has used so far, and the Asterisk in front of it.
fn cpu_time(server: &dyn Server) -> anyhow::Result<(Duration, Duration)> {
    let front = server
        .front()
        .map_or(Ok(Duration::ZERO), system::cpu_time)?;
    Ok((system::cpu_time(server.pid())?, front))
}

/// Lets a server finish what it does at its start, preparing announcements for example; half a minute at most. One
/// that does as much for its empty meetings all the time is as idle as it gets.
fn wait_until_idle(pid: u32) -> anyhow::Result<()> {
    let (mut before, mut alike) = (Duration::ZERO, 0);
    for _ in 0..60 {
        let begin = system::cpu_time(pid)?;
        thread::sleep(Duration::from_millis(500));
        let used = system::cpu_time(pid)?.saturating_sub(begin);
        let is_alike = used < Duration::from_millis(100) && used.abs_diff(before) < used / 4;
        alike = if is_alike { alike + 1 } else { 0 };
        if used < Duration::from_millis(10) || alike == 6 {
            return Ok(());
        }
        before = used;
    }
    bail!("the server isn't idle before its first call")
}

fn caller(seat: &Seat, answered: Answered, sounds: &mut Sounds) -> Caller {
    Caller {
        index: seat.index,
        to: answered.to,
        payload_type: answered.payload_type,
        levels: answered.levels,
        step: seat.codec.rtp_clock() / 50,
        sound: sounds.get(seat.codec, seat.sound),
        offset: seat.offset,
        skew_ppm: seat.skew_ppm,
        phase: seat.phase,
        logged: seat.is_marked(),
        taped: seat.is_taped(),
    }
}

impl Seat {
    /// Its voice is what delays are measured by.
    fn is_marked(&self) -> bool {
        self.place == 0
    }

    /// What it hears is kept: the first listener of each meeting.
    fn is_taped(&self) -> bool {
        self.place == 2
    }
}

impl Measured {
    fn summarise(
        &self,
        scenario: &Scenario,
        kind: Kind,
        seats: &[Seat],
        sounds: &mut Sounds,
        outcome: &Outcome,
        bare: &Histogram,
    ) -> Found {
        let count = seats.len() as f64;
        let packets: u64 = outcome.seen.iter().map(|seen| seen.packets).sum();
        let lost: u64 = outcome.seen.iter().map(|seen| seen.lost).sum();
        let due = count * 50.0 * self.seconds;
        let delays = if kind.is_floor() {
            Vec::new()
        } else {
            delays(seats, sounds, outcome)
        };
        let cpu = self.cpu.as_secs_f64() / self.seconds;
        let three = |h: &Histogram| [h.quantile(0.5), h.quantile(0.99), h.max()];
        Found {
            scenario: scenario.name.to_owned(),
            kind,
            participants: seats.len(),
            cpu_us: cpu * 1e6 / count,
            front_us: self
                .front
                .map(|front| front.as_secs_f64() / self.seconds * 1e6 / count),
            core: cpu,
            spacing: three(&outcome.spacing),
            bare: three(bare),
            generator: outcome.lateness.quantile(0.99),
            drift: drift(&delays),
            delays: delays.iter().map(|delay| delay.ms).collect(),
            lost: lost as f64 / (packets + lost).max(1) as f64,
            missing: (1.0 - packets as f64 / due).max(0.0),
            gaps: outcome.seen.iter().map(|seen| seen.gaps).sum(),
            memory_kib: self.memory_kib,
            left_kib: self.left_kib,
            concealed: self.concealed.map(|frames| frames / due),
            late: self.late,
            machine: self.machine,
        }
    }
}

/// From each meeting's first talker to its first listener.
fn delays(seats: &[Seat], sounds: &mut Sounds, outcome: &Outcome) -> Vec<Delay> {
    let mut all = Vec::new();
    for listener in seats.iter().filter(|seat| seat.is_taped()) {
        let talker = seats
            .iter()
            .find(|s| s.meeting == listener.meeting && s.is_marked());
        let Some(talker) = talker else { continue };
        let sound = sounds.get(talker.codec, talker.sound);
        let said = &outcome.seen[talker.index];
        let voice = Voice::new(talker.codec, &sound, talker.offset, said);
        all.extend(voice.delays(listener.codec, &outcome.seen[listener.index].tape));
    }
    all.sort_by_key(|delay| delay.at);
    all
}

/// From the mean of the first quarter to that of the last.
fn drift(delays: &[Delay]) -> Option<f32> {
    let quarter = delays.len() / 4;
    let mean = |some: &[Delay]| some.iter().map(|d| d.ms).sum::<f32>() / some.len() as f32;
    (quarter >= 4).then(|| mean(&delays[delays.len() - quarter..]) - mean(&delays[..quarter]))
}

/// Until nothing but the meeting is heard: voicebridge tells everybody how many are there.
const fn settling(kind: Kind) -> Duration {
    match kind {
        Kind::FloorShared | Kind::FloorSeparate => Duration::from_millis(500),
        Kind::OwnSockets | Kind::KnownAddresses | Kind::Ari | Kind::DirectMedia => {
            Duration::from_millis(8_000)
        }
        Kind::ConfBridge | Kind::ConfBridgeBuffered | Kind::Janus => Duration::from_millis(1_500),
    }
}

/// Keeps the sounds' codecs in one place.
pub(crate) fn prepare(scenario: &Scenario, sounds: &mut Sounds) {
    let mut known: Vec<Codec> = Vec::new();
    for seat in scenario.seats() {
        if !known.contains(&seat.codec) || seat.place < 4 {
            known.push(seat.codec);
            sounds.get(seat.codec, seat.sound);
        }
    }
}
