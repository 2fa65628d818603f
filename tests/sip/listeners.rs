//! Callers who are in a meeting while something happens: was one cut off, and was there a gap in what they hear that
//! this machine doesn't explain?

use std::sync::Arc;
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use tokio::task::LocalSet;
use voicebridge::media::codec::Codec;
use voicebridge::probe::{Heard, Phone, Target};
use voicebridge::units::Key;

use crate::outcomes::wait_for_participants;
use crate::server::{Meeting, Server};
use crate::witnesses::{SLICE, Ticks, Witnesses};

pub(crate) struct Listeners {
    witnesses: Arc<Witnesses>,
    phones: JoinHandle<Vec<Stay>>,
    timers: Vec<JoinHandle<()>>,
    ticks: Ticks,
}

/// How they fared.
#[derive(Debug)]
#[expect(dead_code, reason = "some are there to be printed")]
pub(crate) struct Stays {
    pub(crate) dropped: usize,
    pub(crate) lost: u64,
    /// Fewest packets that one of them got, of those that were due.
    pub(crate) packets_share: f64,
    /// More than 60 ms between two packets, while nothing else on this machine stood still.
    pub(crate) gaps: usize,
    /// And those while something did.
    pub(crate) gaps_explained: usize,
    pub(crate) longest_gap_since_call_began: Duration,
    /// How late the witnesses were at most.
    pub(crate) machine_late: Duration,
    /// Of the node's ticks, and of the bare thread's, more than a tick late.
    pub(crate) late_ticks: f64,
    pub(crate) late_ticks_bare: f64,
    /// Frames in which the one who heard least heard somebody.
    pub(crate) loud_frames: u64,
}

/// What one phone saw since the beginning.
struct Stay {
    up: bool,
    packets: u64,
    lost: u64,
    loud_frames: u64,
    longest_gap: Duration,
    /// When the slices began in which gaps were.
    gaps: Vec<Instant>,
    time: Duration,
}

impl Listeners {
    /// So many call and get in by their PIN; the first one talks, the others listen.
    pub(crate) fn join(server: &Server, meeting: &Meeting, calls: usize) -> Self {
        let witnesses = Arc::new(Witnesses::default());
        let uri = format!("sip:1000@127.0.0.1:{}", server.sip_port);
        let target = Target::parse(&uri).expect("a target");
        let phones = thread::spawn({
            let (witnesses, pin) = (Arc::clone(&witnesses), meeting.guest.clone());
            move || stay_all(&target, &pin, calls, &witnesses)
        });
        let timers = witnesses.watch();
        wait_for_participants(server, &meeting.id, calls);
        // Whoever keys in the last digit is in before his phone is done with the pause behind it.
        sleep(AFTER_KEYS);
        witnesses.begin();
        Self {
            witnesses,
            phones,
            timers,
            ticks: Ticks::told(&server.metrics()),
        }
    }

    /// Are they still there? Then they hang up.
    pub(crate) fn finish(self, server: &Server) -> Stays {
        let ticks = Ticks::told(&server.metrics());
        let witnesses = self.witnesses;
        witnesses.end();
        let stays = self.phones.join().expect("the phones ran to their end");
        for timer in self.timers {
            timer.join().expect("the timer ran to its end");
        }
        let gaps: Vec<Instant> = stays.iter().flat_map(|stay| stay.gaps.clone()).collect();
        let explained = gaps.iter().filter(|gap| witnesses.explain(**gap)).count();
        let stalls = witnesses.all().map(|(_, witness)| witness.stalls());
        let least = |figure: fn(&Stay) -> f64| stays.iter().map(figure).fold(f64::MAX, f64::min);
        Stays {
            dropped: stays.iter().filter(|stay| !stay.up).count(),
            lost: stays.iter().map(|stay| stay.lost).sum(),
            packets_share: least(|stay| {
                stay.packets as f64 / (stay.time.as_secs_f64() * PACKETS_PER_SECOND)
            }),
            gaps: gaps.len() - explained,
            gaps_explained: explained,
            longest_gap_since_call_began: stays
                .iter()
                .map(|s| s.longest_gap)
                .max()
                .unwrap_or_default(),
            machine_late: stalls
                .concat()
                .iter()
                .map(|stall| stall.late)
                .max()
                .unwrap_or_default(),
            late_ticks: ticks.late_share_since(&self.ticks),
            late_ticks_bare: witnesses.bare.late_share(),
            loud_frames: least(|stay| stay.loud_frames as f64) as u64,
        }
    }
}

impl Stays {
    pub(crate) fn expect_undisturbed(&self) {
        assert_eq!(self.dropped, 0, "calls were cut off: {self:?}");
        assert_eq!(
            self.gaps, 0,
            "gaps that the machine does not explain: {self:?}"
        );
        assert_eq!(self.lost, 0, "sequence numbers are missing: {self:?}");
        assert!(self.packets_share > 0.97, "too few packets: {self:?}");
    }

    /// More of the node's ticks are late than of a thread that does nothing else.
    pub(crate) fn late_beyond_the_machine(&self) -> f64 {
        self.late_ticks - self.late_ticks_bare
    }
}

fn stay_all(target: &Target, pin: &str, calls: usize, witnesses: &Arc<Witnesses>) -> Vec<Stay> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        tokio::task::spawn_local(Arc::clone(witnesses).watch_phones());
        let mut phones = Vec::new();
        for seat in 0..calls {
            let stay = stay(target.clone(), pin.to_owned(), seat, Arc::clone(witnesses));
            phones.push(tokio::task::spawn_local(stay));
            tokio::time::sleep(BETWEEN_CALLS).await;
        }
        let mut seen = Vec::new();
        for phone in phones {
            seen.push(phone.await.expect("the phone ran to its end"));
        }
        seen
    })
}

async fn stay(target: Target, pin: String, seat: usize, witnesses: Arc<Witnesses>) -> Stay {
    let tone_hz = 500.0;
    let dialled = Phone::dial(&target, Codec::Pcma, tone_hz).await;
    let mut phone = dialled.expect("answered");
    phone.be_silent(true);
    let mut up = phone.talk(BEFORE_KEYS).await.expect("sockets work");
    phone.press(pin.chars().filter_map(Key::from_char));
    while up && witnesses.began().is_none() {
        up = phone.talk(SLICE).await.expect("sockets work");
    }
    phone.be_silent(seat > 0);
    let (began, first) = (Instant::now(), phone.heard());
    let mut stay = Stay::new(up);
    let mut before = first.clone();
    while stay.up && !witnesses.has_ended() {
        let slice = Instant::now();
        stay.up = phone.talk(SLICE).await.expect("sockets work");
        let after = phone.heard();
        stay.note(slice, &before, &after);
        before = after;
    }
    stay.time = began.elapsed();
    phone.hang_up().await.expect("hung up");
    stay
}

impl Stay {
    const fn new(up: bool) -> Self {
        Self {
            up,
            packets: 0,
            lost: 0,
            loud_frames: 0,
            longest_gap: Duration::ZERO,
            gaps: Vec::new(),
            time: Duration::ZERO,
        }
    }

    fn note(&mut self, slice: Instant, before: &Heard, after: &Heard) {
        self.packets += after.packets - before.packets;
        self.lost += after.lost - before.lost;
        self.loud_frames += after.loud_frames - before.loud_frames;
        let gaps = after.gaps - before.gaps;
        self.gaps.extend((0..gaps).map(|_| slice));
        self.longest_gap = after.longest_gap;
    }
}

const BEFORE_KEYS: Duration = Duration::from_millis(500);
const AFTER_KEYS: Duration = Duration::from_millis(500);
const BETWEEN_CALLS: Duration = Duration::from_millis(20);
const PACKETS_PER_SECOND: f64 = 50.0;
