//! What is measured: how many meet, what they speak and send, what the network does to it.

use std::collections::HashMap;
use std::sync::Arc;

use voicebridge::media::codec::Codec;

use crate::generator::{FRAME, Network, SoundLoop};
use crate::server::Kind;
use crate::sound::{Sound, levels, payloads};

/// One block of the table.
pub(crate) struct Scenario {
    /// As `--only` takes it.
    pub(crate) name: &'static str,
    /// In words.
    pub(crate) about: &'static str,
    /// How many meetings.
    pub(crate) meetings: usize,
    /// Participants in each; the first two talk.
    pub(crate) participants: usize,
    /// What they speak, in turn.
    pub(crate) codecs: &'static [Codec],
    /// What the others send.
    pub(crate) listeners: Sound,
    /// Do all offer to tell the level of each packet?
    pub(crate) levels: bool,
    /// What lies between.
    pub(crate) network: Network,
    /// Every other participant's clock is off by so much one way, the rest the other way.
    pub(crate) skew_ppm: i64,
    /// What is measured.
    pub(crate) kinds: &'static [Kind],
    /// How often, unless told otherwise.
    pub(crate) rounds: usize,
    /// The same for peers, which can't serve the largest meetings on one core anyway.
    pub(crate) peer_rounds: usize,
    /// For how long.
    pub(crate) seconds: u64,
}

/// One participant's place.
#[derive(Clone)]
pub(crate) struct Seat {
    /// Counted over all meetings.
    pub(crate) index: usize,
    /// Where.
    pub(crate) meeting: usize,
    /// Counted in its meeting.
    pub(crate) place: usize,
    /// What it speaks.
    pub(crate) codec: Codec,
    /// What it sends.
    pub(crate) sound: Sound,
    /// Offers to tell the level of each packet.
    pub(crate) levels: bool,
    /// From which frame of it on.
    pub(crate) offset: usize,
    /// When it sends within the 20 ms, ns.
    pub(crate) phase: u64,
    /// How far its clock is off.
    pub(crate) skew_ppm: i64,
}

impl Scenario {
    /// All there are.
    #[expect(clippy::too_many_lines, reason = "a flat table")]
    pub(crate) fn all() -> Vec<Self> {
        vec![
            one("g711-400", "one meeting of 400, G.711", 400, G711),
            one("g711-4", "one meeting of 4, G.711", 4, G711).rounds(3, 3),
            one("g711-50", "one meeting of 50, G.711", 50, G711).rounds(3, 3),
            one("g711-100", "one meeting of 100, G.711", 100, G711).of(OURS),
            one("g711-200", "one meeting of 200, G.711", 200, G711).rounds(3, 2),
            one("g711-1000", "one meeting of 1,000, G.711", 1_000, G711).rounds(5, 1),
            one("g711-2000", "one meeting of 2,000, G.711", 2_000, G711).of(OURS),
            many("g711-50x4", "50 meetings of 4, G.711", 50, G711).rounds(3, 2),
            many("g711-250x4", "250 meetings of 4, G.711", 250, G711).of(OURS),
            one("opus-50", "one meeting of 50, Opus", 50, OPUS).rounds(3, 3),
            one("opus-50-dtx", "one meeting of 50, Opus with DTX", 50, OPUS)
                .dtx()
                .rounds(3, 3),
            one(
                "opus-50-levels",
                "one meeting of 50, Opus, each packet's level told",
                50,
                OPUS,
            )
            .levels()
            .rounds(3, 3),
            one("opus-400", "one meeting of 400, Opus", 400, OPUS)
                .of(OURS)
                .rounds(3, 3),
            one(
                "opus-400-dtx",
                "one meeting of 400, Opus with DTX",
                400,
                OPUS,
            )
            .dtx()
            .of(OURS)
            .rounds(3, 3),
            many("opus-10x4", "10 meetings of 4, Opus", 10, OPUS).rounds(3, 3),
            many("opus-100x4", "100 meetings of 4, Opus", 100, OPUS).rounds(2, 1),
            one(
                "half-50",
                "one meeting of 50, half G.711, half Opus",
                50,
                HALF,
            )
            .rounds(3, 3),
            one(
                "half-400",
                "one meeting of 400, half G.711, half Opus",
                400,
                HALF,
            )
            .of(OURS)
            .rounds(2, 1),
            one(
                "asterisk-50",
                "50 phones of an Asterisk in one meeting, G.711",
                50,
                G711,
            )
            .of(BEHIND_ASTERISK)
            .rounds(3, 3),
            one(
                "asterisk-200",
                "200 phones of an Asterisk in one meeting, G.711",
                200,
                G711,
            )
            .of(BEHIND_ASTERISK)
            .rounds(3, 3),
            groups("delay-g711", "40 meetings of 3, G.711", 40, G711)
                .of(DELAY)
                .rounds(3, 2),
            groups("delay-opus", "12 meetings of 3, Opus", 12, OPUS)
                .of(DELAY)
                .rounds(5, 2),
            groups(
                "delay-mixed",
                "12 meetings of 3, half G.711, half Opus",
                12,
                HALF,
            )
            .of(DELAY)
            .rounds(5, 2),
            groups(
                "jitter",
                "40 meetings of 3, G.711, jitter 0 to 40 ms and 2 % loss",
                40,
                G711,
            )
            .of(DELAY)
            .over(Network {
                jitter_ms: 40,
                loss_permille: 20,
            })
            .for_seconds(15)
            .rounds(2, 1),
            groups(
                "skew",
                "40 meetings of 3, G.711, clocks 2,000 ppm fast and slow",
                40,
                G711,
            )
            .of(&[Kind::OwnSockets])
            .skewed(2_000)
            .for_seconds(60)
            .rounds(1, 1),
        ]
    }

    /// How many take part.
    pub(crate) const fn count(&self) -> usize {
        self.meetings * self.participants
    }

    /// Does anybody speak Opus?
    pub(crate) fn has_opus(&self) -> bool {
        self.codecs.contains(&Codec::Opus)
    }

    /// Rounds of one kind, `most` at most.
    pub(crate) fn rounds_of(&self, kind: Kind, most: usize) -> usize {
        let own = if kind.is_peer() {
            self.peer_rounds
        } else {
            self.rounds
        };
        own.min(most)
    }

    /// Everybody's place, the meetings' first participants first: a meeting fills while others do.
    pub(crate) fn seats(&self) -> Vec<Seat> {
        let seat = |index: usize| {
            let (place, meeting) = (index / self.meetings, index % self.meetings);
            let talks = place < TALKERS;
            Seat {
                index,
                meeting,
                place,
                // So that in every other meeting who is measured speaks another codec than who listens, the one
                // way or the other.
                codec: self.codecs[(place + place / 2 + meeting) % self.codecs.len()],
                sound: if talks {
                    Sound::Voice(place as u32)
                } else {
                    self.listeners
                },
                levels: self.levels,
                offset: 61 * index,
                // The golden section spreads any number of them evenly.
                phase: (index as u64 * 12_360_680) % FRAME,
                skew_ppm: if place.is_multiple_of(2) {
                    self.skew_ppm
                } else {
                    -self.skew_ppm
                },
            }
        };
        (0..self.count()).map(seat).collect()
    }

    fn of(mut self, kinds: &'static [Kind]) -> Self {
        self.kinds = kinds;
        self
    }

    const fn rounds(mut self, ours: usize, peers: usize) -> Self {
        (self.rounds, self.peer_rounds) = (ours, peers);
        self
    }

    const fn dtx(mut self) -> Self {
        self.listeners = Sound::RoomDtx;
        self
    }

    const fn levels(mut self) -> Self {
        self.levels = true;
        self
    }

    const fn over(mut self, network: Network) -> Self {
        self.network = network;
        self
    }

    const fn skewed(mut self, ppm: i64) -> Self {
        self.skew_ppm = ppm;
        self
    }

    const fn for_seconds(mut self, seconds: u64) -> Self {
        self.seconds = seconds;
        self
    }
}

/// Sounds that were encoded already.
#[derive(Default)]
pub(crate) struct Sounds(HashMap<(&'static str, u32), Arc<SoundLoop>>);

impl Sounds {
    /// What somebody sends.
    pub(crate) fn get(&mut self, codec: Codec, sound: Sound) -> Arc<SoundLoop> {
        let number = match sound {
            Sound::Voice(number) => number,
            Sound::Room => u32::MAX,
            Sound::RoomDtx => u32::MAX - 1,
            Sound::Silence => u32::MAX - 2,
        };
        let made = self.0.entry((codec.encoding_name(), number));
        let make = || Arc::new(SoundLoop::new(payloads(codec, sound), levels(codec, sound)));
        Arc::clone(made.or_insert_with(make))
    }
}

fn one(
    name: &'static str,
    about: &'static str,
    participants: usize,
    codecs: &'static [Codec],
) -> Scenario {
    Scenario {
        name,
        about,
        meetings: 1,
        participants,
        codecs,
        listeners: Sound::Room,
        levels: false,
        network: Network {
            jitter_ms: 0,
            loss_permille: 0,
        },
        skew_ppm: 0,
        kinds: &Kind::ALL,
        rounds: 5,
        peer_rounds: 5,
        seconds: 4,
    }
    .of(WITHOUT_BUFFER)
}

fn many(
    name: &'static str,
    about: &'static str,
    meetings: usize,
    codecs: &'static [Codec],
) -> Scenario {
    Scenario {
        meetings,
        ..one(name, about, 4, codecs)
    }
}

/// Small meetings at many phases against their talkers.
fn groups(
    name: &'static str,
    about: &'static str,
    meetings: usize,
    codecs: &'static [Codec],
) -> Scenario {
    Scenario {
        meetings,
        ..one(name, about, 3, codecs)
    }
}

const TALKERS: usize = 2;
const G711: &[Codec] = &[Codec::Pcmu];
const OPUS: &[Codec] = &[Codec::Opus];
const HALF: &[Codec] = &[Codec::Pcmu, Codec::Opus];
const OURS: &[Kind] = &[
    Kind::FloorShared,
    Kind::FloorSeparate,
    Kind::KnownAddresses,
    Kind::OwnSockets,
];
const WITHOUT_BUFFER: &[Kind] = &[
    Kind::FloorShared,
    Kind::FloorSeparate,
    Kind::KnownAddresses,
    Kind::OwnSockets,
    Kind::ConfBridge,
    Kind::Janus,
];
const BEHIND_ASTERISK: &[Kind] = &[Kind::ConfBridge, Kind::Ari, Kind::DirectMedia];
const DELAY: &[Kind] = &[
    Kind::KnownAddresses,
    Kind::OwnSockets,
    Kind::ConfBridge,
    Kind::ConfBridgeBuffered,
    Kind::Janus,
];
