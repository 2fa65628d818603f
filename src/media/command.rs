//! All that crosses the line between the control side and a media thread: commands in, events and
//! what is finished out. Things are made and dropped on the control side; a media thread only
//! takes them over and gives them back.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Instant;

use crate::media::clip::Rendition;
use crate::media::codec::Codec;
use crate::media::leg::{Leg, LegUpdate};
use crate::media::mixer::{Bridge, Fitting};
use crate::media::playback::{BridgeClip, Playlist};
use crate::media::treatment::{Denoiser, Echo};
use crate::units::{Decibels, Key, LegId};

/// A leg's place in its thread's table, given out by the control side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LegSlot(pub u32);

/// A bridge's place in its thread's table, given out by the control side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BridgeSlot(pub u32);

/// What a leg leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LegKind {
    /// A participant.
    Caller,
    /// The same meeting on another media thread (cascade). Hears everybody but what came from
    /// itself, and is summed whatever its level; relays are never sent to relays, so that no
    /// loop can form. Reserved.
    Relay,
    /// The same meeting on another node. As a relay. Reserved.
    Trunk,
}

/// How a leg reaches its peer.
#[derive(Debug)]
pub enum LegPort {
    /// By sockets of its own, which travel with it: the peer's address may have to be learnt.
    Own(LegSockets),
    /// By a shared port, which stays on its thread: the peer's address is known beforehand.
    Shared(SharedPort),
}

/// A shared port's place in every thread's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SharedPort(pub u16);

/// Whose packets they are that come to a shared port from one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Those of a leg.
    To {
        /// The thread it lives on.
        thread: usize,
        /// Its place there.
        slot: LegSlot,
        /// It. Home and owner learn of a move at different times: by then the place may be another's.
        leg: LegId,
    },
    /// Those of a leg that is on its way from one thread to another: they are kept a moment.
    Parked,
    /// Nobody's, any more.
    Nowhere,
}

/// An address that sends to a shared port: what tells one leg's packets from another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SharedSource {
    /// To which port.
    pub port: SharedPort,
    /// To its RTCP socket?
    pub is_rtcp: bool,
    /// From where.
    pub from: SocketAddr,
}

/// A pair of sockets: one leg's, or a shared port.
#[derive(Debug)]
pub struct LegSockets {
    /// RTP, on an even port. The control side sends what belongs to a handshake through it.
    pub rtp: Arc<UdpSocket>,
    /// RTCP, on the port above.
    pub rtcp: UdpSocket,
}

/// What the control side asks of a media thread.
pub enum MixerCommand {
    /// A leg comes to live here.
    Adopt {
        /// Its place.
        slot: LegSlot,
        /// It.
        leg: Box<Leg>,
        /// Its way to the peer.
        port: LegPort,
    },
    /// A shared port is there, to be received from by its home thread and sent through by all.
    OpenPort {
        /// Its place.
        port: SharedPort,
        /// Its sockets.
        sockets: Arc<LegSockets>,
        /// Is this thread its home?
        is_home: bool,
    },
    /// Whose packets from an address are, on the home thread of a shared port.
    Route {
        /// From where.
        source: SharedSource,
        /// Whose.
        route: Route,
    },
    /// Something for one leg.
    Leg {
        /// Which.
        slot: LegSlot,
        /// What.
        command: LegCommand,
    },
    /// A bridge comes to live here.
    OpenBridge {
        /// Its place.
        bridge: BridgeSlot,
        /// It.
        new: Box<Bridge>,
    },
    /// An empty bridge is over: it comes back as [`Returned::Bridge`].
    CloseBridge {
        /// Which.
        bridge: BridgeSlot,
    },
    /// A bridge gets what it needs for who comes next.
    FitBridge {
        /// Which.
        bridge: BridgeSlot,
        /// With what.
        fitting: Fitting,
    },
    /// Plays to everybody in a bridge, instead of what is playing there.
    PlayToBridge {
        /// Where.
        bridge: BridgeSlot,
        /// What.
        clip: Box<BridgeClip>,
    },
}

/// What the control side asks of one leg.
pub enum LegCommand {
    /// It is to move to another thread: it comes back as [`Returned::Released`].
    Release,
    /// It is over: it comes back as [`Returned::Closed`].
    Close,
    /// Another agreement with the peer.
    Update(Box<LegUpdate>),
    /// Plays to it, instead of what is playing.
    Play(Playlist),
    /// Plays no more to it.
    StopPlaying,
    /// What it hears while it waits; `None`: silence.
    Music(Option<Arc<Rendition>>),
    /// Its voice is not summed, or is again.
    Mute(bool),
    /// It reaches its peer another way from now on.
    Rewire(LegPort),
    /// How its meeting wants its voice treated.
    Sound {
        /// Brought to the common loudness?
        automatic_gain: bool,
        /// For its sample rate; `None`: its noise stays.
        denoiser: Option<Box<Denoiser>>,
    },
    /// It goes into a bridge of its thread.
    Join(BridgeSlot),
    /// It hears itself.
    Echo,
    /// It goes back to prompts only.
    Leave,
}

impl LegCommand {
    /// Does it say where the leg is to be? Only the last of these matters to a leg on its way.
    #[must_use]
    pub const fn is_place(&self) -> bool {
        match self {
            Self::Join(_) | Self::Echo | Self::Leave => true,
            Self::Release
            | Self::Close
            | Self::Update(_)
            | Self::Play(_)
            | Self::StopPlaying
            | Self::Music(_)
            | Self::Mute(_)
            | Self::Rewire(_)
            | Self::Sound { .. } => false,
        }
    }
}

/// What comes back from a media thread to be dropped, or passed on, on the control side.
pub enum Returned {
    /// A closed leg.
    Closed {
        /// Its place, free now.
        slot: LegSlot,
        /// It.
        leg: Box<Leg>,
        /// Its way to the peer.
        port: LegPort,
    },
    /// A leg on its way to another thread.
    Released {
        /// Its place, free now.
        slot: LegSlot,
        /// It.
        leg: Box<Leg>,
        /// Its way to the peer.
        port: LegPort,
    },
    /// What a leg no longer reaches its peer by.
    Port(LegPort),
    /// A closed bridge.
    Bridge {
        /// Its place, free now.
        slot: BridgeSlot,
        /// It.
        bridge: Box<Bridge>,
    },
    /// A playlist that is finished, replaced or stopped.
    Playlist(Playlist),
    /// Music that is no longer waited with.
    Rendition(Arc<Rendition>),
    /// A clip that is finished or replaced.
    Clip(Box<BridgeClip>),
    /// What an update replaced.
    Update(Box<LegUpdate>),
    /// A denoiser that is no longer used.
    Denoiser(Box<Denoiser>),
    /// What a bridge has no use for.
    Fitting(Fitting),
}

/// What the engine tells the gateway.
#[derive(Debug, Clone, PartialEq)]
pub enum EngineEvent {
    /// A key was pressed; once per press.
    Key {
        /// By whom.
        leg: LegId,
        /// Which. Prints as `***`.
        key: Key,
    },
    /// The last frame of a playlist was sent. Not when it was stopped or replaced.
    PlayFinished {
        /// To whom.
        leg: LegId,
        /// As given to `play`.
        token: u32,
    },
    /// The first packet of the peer was accepted, also after media was lost.
    MediaStarted {
        /// Whose.
        leg: LegId,
        /// Where it comes from.
        from: IpAddr,
    },
    /// Nothing was heard of the peer for the configured time. Told once.
    MediaLost {
        /// Whose.
        leg: LegId,
    },
    /// A participant began or ended to speak.
    Talking {
        /// Who.
        leg: LegId,
        /// Began?
        talking: bool,
    },
    /// A datagram of the handshake that a leg's keys come by, or of the checks before it. Never made by a media
    /// thread, which passes its bytes on by a ring.
    Handshake {
        /// Whose.
        leg: LegId,
        /// From where.
        from: SocketAddr,
        /// What came.
        datagram: Vec<u8>,
    },
    /// Telemetry, about once a second; dropped where the ring is full.
    Report {
        /// Whose.
        leg: LegId,
        /// The figures.
        report: LegReport,
    },
    /// A leg is closed; nothing more comes from it.
    LegClosed {
        /// Which.
        leg: LegId,
        /// Its last figures.
        report: LegReport,
    },
}

/// One leg's figures since its opening.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LegReport {
    /// Its codec; `None` before anything was agreed.
    pub codec: Option<Codec>,
    /// Packets accepted.
    pub received: u64,
    /// Packets that never came (RFC 3550).
    pub lost: u64,
    /// Runs of packets that never came, however long each was.
    pub loss_runs: u64,
    /// Packets that came too late to be played.
    pub late: u64,
    /// Packets that came twice.
    pub duplicated: u64,
    /// Packets that were dropped because too many waited.
    pub overflowed: u64,
    /// Frames of 20 ms that something was to be heard in.
    pub frames: u64,
    /// Of these, those that were concealed.
    pub concealed_frames: u64,
    /// Packets neither used nor answered.
    pub refused: Refusals,
    /// Packets sent.
    pub sent: u64,
    /// When its first prompt began: the tick that sent its first frame.
    pub prompted_at: Option<Instant>,
    /// Interarrival jitter (RFC 3550).
    pub jitter_ms: f32,
    /// What waits in the jitter buffer.
    pub buffer_ms: f32,
    /// Round-trip time by RTCP.
    pub round_trip_ms: Option<f32>,
    /// Level of the last frame, dBFS.
    pub level: Decibels,
    /// Speaking now?
    pub talking: bool,
    /// Has it been sent audio for some seconds, and none come from it?
    pub one_way: bool,
    /// Automatic gain on the way into the meeting.
    pub gain: Decibels,
    /// Echo of the meeting that it returns.
    pub echo: Option<Echo>,
}

/// Why a packet that came to a leg's port was not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// From an address that isn't the peer's.
    Foreign,
    /// From where the peer may be, but it hasn't shown yet that it is him.
    Unproven,
    /// Not protected by the peer's key.
    Forged,
    /// Protected by it, but had before.
    Replayed,
    /// Of what may be another stream than the peer's.
    Strange,
    /// Could not be read, or of a payload type that nobody agreed on.
    Malformed,
    /// Of a handshake, but more than a handshake takes.
    Excess,
}

impl Refusal {
    /// All of them, in the order of [`Refusals`].
    pub const ALL: [Self; 7] = [
        Self::Foreign,
        Self::Unproven,
        Self::Forged,
        Self::Replayed,
        Self::Strange,
        Self::Malformed,
        Self::Excess,
    ];

    /// The word in metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Foreign => "foreign",
            Self::Unproven => "unproven",
            Self::Forged => "forged",
            Self::Replayed => "replayed",
            Self::Strange => "strange",
            Self::Malformed => "malformed",
            Self::Excess => "excess",
        }
    }
}

/// How many packets were refused, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refusals([u64; Refusal::ALL.len()]);

impl Refusals {
    /// One more.
    pub(in crate::media) const fn note(&mut self, why: Refusal) {
        self.add(why, 1);
    }

    /// So many more.
    pub(in crate::media) const fn add(&mut self, why: Refusal, packets: u64) {
        self.0[why as usize] += packets;
    }

    /// Of one reason.
    #[must_use]
    pub const fn of(&self, why: Refusal) -> u64 {
        self.0[why as usize]
    }

    /// Of all reasons.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Takes in what came since `before`.
    pub fn add_since(&mut self, before: &Self, now: &Self) {
        for why in Refusal::ALL {
            self.add(why, now.of(why).saturating_sub(before.of(why)));
        }
    }
}

impl Default for LegReport {
    fn default() -> Self {
        Self {
            codec: None,
            received: 0,
            lost: 0,
            loss_runs: 0,
            late: 0,
            duplicated: 0,
            overflowed: 0,
            frames: 0,
            concealed_frames: 0,
            refused: Refusals::default(),
            sent: 0,
            prompted_at: None,
            jitter_ms: 0.0,
            buffer_ms: 0.0,
            round_trip_ms: None,
            level: Decibels(-127.0),
            talking: false,
            one_way: false,
            gain: Decibels::IDENTITY,
            echo: None,
        }
    }
}
