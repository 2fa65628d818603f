//! Two endpoints over a link that loses, delays, reorders and duplicates, for hundreds of seeds: whatever
//! the network does, both sides come to an end, are told of it once, and keep nothing.

#![allow(clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::*;
use crate::config::PerFamily;

mod carrier;

const CALLS: u64 = 4;

/// xorshift64*: the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }
}

/// What one side was told of a call.
#[derive(Debug, Default)]
struct Heard {
    started: u32,
    confirmed: u32,
    ended: u32,
    we_ended: bool,
}

struct Side {
    endpoint: Endpoint,
    flow: Flow,
    calls: BTreeMap<DialogId, Heard>,
}

/// Things that happen at a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Happens {
    Arrives {
        at: usize,
        bytes: Vec<u8>,
    },
    Call,
    Answer(DialogId),
    Refuse(DialogId),
    HangUp {
        side: usize,
        dialog: DialogId,
    },
    Offer {
        side: usize,
        dialog: DialogId,
    },
    /// The caller's audio reaches the called side.
    Audio {
        call_id: String,
    },
}

struct World {
    now: Instant,
    sides: [Side; 2],
    agenda: BTreeSet<(Instant, u64, Happens)>,
    order: u64,
    dice: Dice,
    loss_percent: u64,
    infos: HashMap<DialogId, u32>,
    /// Everybody wants the call and stays.
    steady: bool,
}

impl World {
    fn new(seed: u64, loss_percent: u64) -> Self {
        let flow = |peer: &str| Flow::Udp {
            socket: 0,
            peer: peer.parse().unwrap(),
        };
        let side = |own: &str, flow, seed| Side {
            endpoint: Endpoint::new(
                EndpointConfig {
                    udp_contacts: vec![PerFamily::both(own.to_owned())],
                    ..EndpointConfig::default()
                },
                seed,
            ),
            flow,
            calls: BTreeMap::new(),
        };
        let (a, b) = ("192.0.2.1:5060", "192.0.2.2:5060");
        Self {
            now: Instant::now(),
            sides: [side(a, flow(b), seed), side(b, flow(a), seed + 1_000_000)],
            agenda: BTreeSet::new(),
            order: 0,
            dice: Dice(seed * 2 + 1),
            loss_percent,
            infos: HashMap::new(),
            steady: false,
        }
    }

    fn plan(&mut self, delay_ms: u64, what: Happens) {
        self.order += 1;
        self.agenda
            .insert((self.now + Duration::from_millis(delay_ms), self.order, what));
    }

    /// Runs until nothing is left to happen.
    fn run(&mut self) {
        for _ in 0..100_000 {
            let timers = [0, 1].map(|side: usize| self.sides[side].endpoint.poll_timeout());
            let agenda = self.agenda.first().map(|(at, ..)| *at);
            let Some(next) = timers.into_iter().chain([agenda]).flatten().min() else {
                return;
            };
            self.now = self.now.max(next);
            for (side, timer) in timers.into_iter().enumerate() {
                if timer.is_some_and(|at| at <= self.now) {
                    self.sides[side].endpoint.handle_timeout(self.now);
                    self.drain(side);
                }
            }
            if agenda.is_some_and(|at| at <= self.now)
                && let Some((_, _, what)) = self.agenda.pop_first()
            {
                self.happen(what);
            }
        }
        panic!("it never ends");
    }

    fn happen(&mut self, what: Happens) {
        let now = self.now;
        match what {
            Happens::Arrives { at, bytes } => {
                let side = &mut self.sides[at];
                side.endpoint.handle_datagram(now, side.flow, &bytes);
                self.drain(at);
            }
            Happens::Call => self.call(),
            Happens::Answer(dialog) => {
                self.sides[1]
                    .endpoint
                    .answer(now, dialog, Bytes::from_static(b"v=0\r\n"));
                self.drain(1);
            }
            Happens::Refuse(dialog) => {
                let side = &mut self.sides[1];
                if side.endpoint.ringing(dialog).is_some() {
                    side.calls.entry(dialog).or_default().we_ended = true;
                }
                side.endpoint.reject(now, dialog, 486, None, None);
                self.drain(1);
            }
            Happens::HangUp { side, dialog } => {
                let party = &mut self.sides[side];
                let call = party.calls.entry(dialog).or_default();
                if call.ended == 0 {
                    call.we_ended = true;
                }
                party.endpoint.hang_up(now, dialog, 16);
                self.drain(side);
            }
            Happens::Audio { call_id } => {
                let endpoint = &mut self.sides[1].endpoint;
                let mut calls = endpoint.dialogs.values();
                let call = calls.find(|call| call.key.call_id == call_id);
                if let Some(dialog) = call.map(|call| call.id) {
                    endpoint.heard(dialog);
                }
            }
            Happens::Offer { side, dialog } => {
                let endpoint = &mut self.sides[side].endpoint;
                endpoint.reinvite(now, dialog, Bytes::from_static(b"v=0\r\n"));
                endpoint.info(
                    now,
                    dialog,
                    "application/dtmf-relay",
                    Bytes::from_static(b"Signal=1"),
                );
                self.drain(side);
            }
        }
    }

    /// Side 0 calls; some callers lose patience, before or after the answer.
    fn call(&mut self) {
        let now = self.now;
        let side = &mut self.sides[0];
        let sdp = Some(Bytes::from_static(b"v=0\r\n"));
        let dialog = side
            .endpoint
            .invite(
                now,
                side.flow,
                "sip:100@192.0.2.2",
                "<sip:a@192.0.2.1>",
                sdp,
                &[],
            )
            .unwrap();
        side.calls.entry(dialog).or_default().started += 1;
        if !self.steady && self.dice.roll(4) == 0 {
            let delay = self.dice.roll(3000);
            self.plan(delay, Happens::HangUp { side: 0, dialog });
        }
        self.drain(0);
    }

    fn drain(&mut self, side: usize) {
        while let Some(transmit) = self.sides[side].endpoint.poll_transmit() {
            for _ in 0..=u64::from(self.dice.roll(10) == 0) {
                if self.dice.roll(100) >= self.loss_percent {
                    let delay = 5 + self.dice.roll(60) * self.dice.roll(10);
                    self.plan(
                        delay,
                        Happens::Arrives {
                            at: 1 - side,
                            bytes: transmit.bytes.to_vec(),
                        },
                    );
                }
            }
        }
        while let Some(event) = self.sides[side].endpoint.poll_event() {
            self.hear(side, &event);
        }
    }

    fn hear(&mut self, side: usize, event: &SipEvent) {
        let (SipEvent::Invite { dialog, .. }
        | SipEvent::Cancelled { dialog }
        | SipEvent::Acknowledged { dialog, .. }
        | SipEvent::Reinvite { dialog, .. }
        | SipEvent::Info { dialog, .. }
        | SipEvent::Bye { dialog, .. }
        | SipEvent::Lost { dialog }
        | SipEvent::Provisional { dialog, .. }
        | SipEvent::Established { dialog, .. }
        | SipEvent::Failed { dialog, .. }
        | SipEvent::ReinviteFailed { dialog, .. }) = event
        else {
            panic!("there are no trunks here: {event:?}")
        };
        let dialog = *dialog;
        let call = self.sides[side].calls.entry(dialog).or_default();
        assert_eq!(call.ended, 0, "{event:?} after the end");
        assert!(!call.we_ended, "{event:?} after we ended it");
        match event {
            SipEvent::Invite { .. } => {
                call.started += 1;
                self.meet(dialog);
            }
            SipEvent::Established { .. } => {
                call.confirmed = 1;
                let call = &self.sides[side].endpoint.dialogs[&dialog];
                let call_id = call.key.call_id.clone();
                self.plan(100, Happens::Audio { call_id });
                self.live(side, dialog);
            }
            SipEvent::Acknowledged { .. } => {
                call.confirmed += 1;
                self.live(side, dialog);
            }
            SipEvent::Cancelled { .. }
            | SipEvent::Bye { .. }
            | SipEvent::Lost { .. }
            | SipEvent::Failed { .. } => {
                call.ended += 1;
            }
            SipEvent::Reinvite { .. } => {
                let endpoint = &mut self.sides[side].endpoint;
                endpoint.answer_reinvite(self.now, dialog, Bytes::from_static(b"v=0\r\n"));
            }
            SipEvent::Info { .. } => *self.infos.entry(dialog).or_default() += 1,
            SipEvent::Provisional { .. }
            | SipEvent::Refreshed { .. }
            | SipEvent::ReinviteFailed { .. }
            | SipEvent::OtherRealm { .. }
            | SipEvent::Trunk { .. } => {}
        }
    }

    /// The called side rings and answers, refuses, or does nothing until the caller gives up.
    fn meet(&mut self, dialog: DialogId) {
        self.sides[1].endpoint.ring(self.now, dialog);
        let delay = self.dice.roll(2000);
        if self.steady {
            return self.plan(delay, Happens::Answer(dialog));
        }
        match self.dice.roll(8) {
            0 => self.plan(delay, Happens::Refuse(dialog)),
            // His own patience, for who gives up without a word.
            1 => self.plan(100_000, Happens::Refuse(dialog)),
            2 => self.plan(delay, Happens::HangUp { side: 1, dialog }),
            _ => self.plan(delay, Happens::Answer(dialog)),
        }
    }

    /// Some offers from both sides, then one side or both hang up, maybe at the same time.
    fn live(&mut self, side: usize, dialog: DialogId) {
        if self.steady {
            return self.plan(60_000, Happens::HangUp { side, dialog });
        }
        for _ in 0..self.dice.roll(3) {
            let delay = self.dice.roll(4000);
            self.plan(delay, Happens::Offer { side, dialog });
        }
        if side == 0 || self.dice.roll(2) == 0 {
            let delay = self.dice.roll(8000);
            self.plan(delay, Happens::HangUp { side, dialog });
        }
    }

    fn assert_settled(&self, seed: u64) {
        for (position, side) in self.sides.iter().enumerate() {
            for (id, call) in &side.calls {
                let seen = format!("seed {seed}, side {position}, {id:?}: {call:?}");
                assert_eq!(call.started, 1, "{seen}");
                assert!(call.confirmed <= 1, "{seen}");
                assert_eq!(call.ended + u32::from(call.we_ended), 1, "{seen}");
            }
            let endpoint = &side.endpoint;
            let counters = endpoint.counters();
            assert_eq!(
                (counters.dialogs, counters.transactions),
                (0, 0),
                "seed {seed}"
            );
            let keys = endpoint.dialog_keys.len()
                + endpoint.server_keys.len()
                + endpoint.client_keys.len();
            assert_eq!(
                (keys, endpoint.merge_keys.len(), endpoint.schedule.len()),
                (0, 0, 0),
                "seed {seed}"
            );
        }
    }
}

fn simulate(seed: u64, loss_percent: u64) -> World {
    simulate_in(World::new(seed, loss_percent), seed)
}

fn simulate_in(mut world: World, seed: u64) -> World {
    for call in 0..CALLS {
        world.plan(call * 700, Happens::Call);
    }
    world.run();
    world.assert_settled(seed);
    world
}

#[test]
fn every_call_ends_once_on_both_sides_whatever_the_network_does() {
    for seed in 1..=400 {
        simulate(seed, seed % 5 * 10);
    }
}

#[test]
fn without_loss_every_invite_arrives_once_and_calls_do_get_established() {
    let mut established = 0;
    for seed in 1..=50 {
        let world = simulate(seed, 0);
        assert_eq!(world.sides[1].calls.len() as u64, CALLS, "seed {seed}");
        established += world.sides[0]
            .calls
            .values()
            .filter(|call| call.confirmed == 1)
            .count();
        let answered = world.sides[1]
            .calls
            .values()
            .filter(|call| call.confirmed == 1)
            .count();
        assert!(
            world.sides[0].calls.values().all(|call| call.started == 1)
                && answered <= CALLS as usize
        );
    }
    assert!(established > 80, "{established} of 200");
}

/// Neither side trusts the other: each weighs what it sends.
#[test]
fn strangers_lose_no_call_to_a_line_that_loses_packets() {
    for loss_percent in [5, 10, 20] {
        for seed in 1..=50 {
            let mut world = World::new(seed, loss_percent);
            world.steady = true;
            let world = simulate_in(world, seed);
            for side in &world.sides {
                let up = side.calls.values().filter(|call| call.confirmed == 1);
                assert_eq!(up.count() as u64, CALLS, "{loss_percent} %, seed {seed}");
            }
        }
    }
}
