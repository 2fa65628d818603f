//! The path of a call: one sans-IO state machine from ringing to call record, for every way a call
//! comes in. It knows nothing of SIP or ARI.
//!
//! 1. [`Call`] (`state`, `state/collecting`, `state/inviting`, `state/meeting`): one per call. `emergency` turns away what must never be answered, `pin`
//!    collects the keys of a PIN, `keypad` makes commands of pairs of keys, `voice` knows who muted
//!    whom, `state/challenge` asks for two spoken digits while many guess, `record` gathers what is kept afterwards, `limits` names every duration and count. `past` is what
//!    brings a caller back into his meeting when another process has lost him (`state/returning`).
//! 2. [`Rooms`] (`rooms`): all meetings of the node, each a `room` with a `seat` for each who is in or
//!    waits; `schedule` turns the booked times into monotonic ones.
//!
//! 3. [`Observer`] (`observer`): tells what has happened in a meeting since it was last looked at.
//!
//! The first two are driven alike: after each [`CallInput`] (or method of [`Rooms`]) and each
//! `handle_timeout` drain `poll_output`, then ask `poll_timeout` when to call `handle_timeout`. The
//! shell owes the machines three things: an answer to every [`CallOutput::LookUpPin`],
//! [`CallOutput::LookUpPast`], [`CallOutput::LookUpInvited`], [`CallOutput::Enter`] and [`CallOutput::Return`], no [`CallInput::SayFinished`] for speech that was stopped or replaced,
//! and [`Rooms::leave`] for every [`CallOutput::Leave`] (also for one that is no longer needed).

mod emergency;
mod keypad;
mod limits;
mod observer;
mod past;
mod pin;
mod record;
mod room;
mod rooms;
mod schedule;
mod seat;
mod state;
mod voice;

pub mod phrase;
pub mod roster;

#[cfg(test)]
mod room_scenarios;
#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod walk;

pub use emergency::{is_emergency, reaches_emergency};
pub use limits::CallLimits;
pub use observer::{Happening, Observer};
pub use past::{Called, Past};
pub use phrase::{Phrase, Speaker};
pub use room::RoomTerms;
pub use rooms::{NoSuchParticipant, RoomOutput, Rooms};
pub use roster::MutedBy;
pub use seat::{Seat, SeatState};
pub use state::{Call, CallPhase, CallSummary};

use crate::booking::{
    Admission, CallRecord, CallerNumber, HangupBy, ParticipantId, Pin, PinVerdict, Standing,
    Verstat,
};
use crate::units::{Key, Language, Voice};

/// How a call arrived, or what it is to be if we make it.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// `sip` or `asterisk`.
    pub kind: &'static str,
    /// Who calls, or is to be called.
    pub caller: CallerNumber,
    /// The dialled number or user part; of a call by us, the number that is shown.
    pub number: String,
    /// How the number greets.
    pub voice: Voice,
    /// A PIN that came with the call (`;pin=`, `X-Conf-PIN`): no prompt.
    pub pin: Option<Pin>,
    /// Whoever sent the call, and that PIN with it, is trusted.
    pub trusted: bool,
    /// He was in a meeting already when another process lost him: he goes back there, whatever the PIN.
    pub past: Option<Box<Past>>,
    /// It is we who call.
    pub outgoing: Option<Box<Outgoing>>,
    /// The trunk that it came by.
    pub trunk: Option<String>,
    /// What that trunk said of the caller's number.
    pub verstat: Option<Verstat>,
    /// The SIP Call-ID.
    pub sip_call_id: Option<String>,
    /// Asterisk's name of its channel, where it came by one.
    pub asterisk_channel: Option<String>,
}

/// Somebody whom we call, and what he is called into.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// What he may, if he wants to. The bookings are asked once more when he does.
    pub admission: Box<Admission>,
    /// What he is spoken to in, also in the meeting; `None`: as the meeting says.
    pub language: Option<Language>,
}

/// The way that a call of ours takes.
#[derive(Debug, Clone)]
pub struct Route {
    /// `sip` or `asterisk`.
    pub kind: &'static str,
    /// The trunk that it goes out by.
    pub trunk: Option<String>,
    /// The SIP Call-ID.
    pub sip_call_id: Option<String>,
    /// Asterisk's name of its channel, where one dials.
    pub asterisk_channel: Option<String>,
}

/// What happens to a call.
#[derive(Debug, Clone)]
pub enum CallInput {
    /// It arrived; the first input.
    Arrived(Arrival),
    /// It arrived, but the gateway can't take it; the first and last input. Leaves a record.
    Unwanted(Arrival, Rejection),
    /// Our call goes out this way; once more where it takes another one instead.
    GoesBy(Route),
    /// Whom we call has answered; his audio is yet to be set up.
    PickedUp,
    /// Whom we call can't be had, for this reason (ITU-T Q.850).
    NotReached {
        /// 17 busy, 19 no answer, ...
        q850: u8,
    },
    /// The caller hears us: 2xx was acknowledged.
    Answered,
    /// A key, from any of its four sources.
    Key(Key),
    /// The phrases of the last `Say` were heard to their end.
    SayFinished,
    /// The bookings' answer to `LookUpPin`, `LookUpPast` or `LookUpInvited`.
    PinVerdict(PinVerdict),
    /// The room's answer to `Enter` or `Return`.
    RoomVerdict(RoomVerdict),
    /// What the room tells a participant later.
    Room(RoomNotice),
    /// The caller hung up or cancelled.
    HungUp,
    /// No media for too long, or signalling gave up (no ACK).
    Lost,
    /// His audio was to be encrypted, and there are no keys for it.
    Unsecured,
    /// The node drains and its time is over, or an operator or the API hangs up.
    Drop(HangupBy),
}

/// May the caller come in?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoomVerdict {
    /// He is in; so many others are there already.
    Joined {
        /// Who he is in the meeting.
        participant: ParticipantId,
        /// Head count without himself.
        others: u32,
        /// He starts muted.
        muted: bool,
    },
    /// He waits with music; `Room(RoomNotice::Opened)` follows.
    Wait(WaitFor),
    /// Not now.
    Refused(RoomRefusal),
}

/// What a waiting caller waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitFor {
    /// The booked start.
    Start,
    /// The host.
    Host,
}

/// Why a room takes nobody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoomRefusal {
    /// Capacity is reached.
    Full,
    /// A host locked it.
    Locked,
    /// It ended meanwhile.
    Ended,
    /// The dialled number does not serve this meeting.
    NumberNotAllowed,
}

/// What a room tells one of its participants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoomNotice {
    /// Waiting is over: he is in.
    Opened {
        /// Who he is in the meeting.
        participant: ParticipantId,
        /// Head count without himself.
        others: u32,
        /// He starts muted.
        muted: bool,
    },
    /// He goes on waiting, now for this: the booked start has come, the host has not.
    Wait(WaitFor),
    /// Waiting was in vain.
    Refused(RoomRefusal),
    /// Everybody else left.
    Alone,
    /// Somebody came to a lonely participant.
    Company,
    /// How many are there, in answer to `AskHeadCount`.
    HeadCount(u32),
    /// A host or the API muted or allowed to unmute.
    MutedByHost(bool),
    /// The end is near.
    EndsIn {
        /// 5 or 1.
        minutes: u32,
    },
    /// The meeting is over.
    Ended,
    /// A host or the API removed him.
    Removed,
}

/// What is to be done for a call.
#[derive(Debug)]
pub enum CallOutput {
    /// Call him; answered by `GoesBy` and then by `PickedUp` or `NotReached`.
    Dial,
    /// Let it ring (180).
    Ring,
    /// Answer it (200).
    Answer,
    /// Refuse it before the answer.
    Reject(Rejection),
    /// Say this; replaces what is being said. `SayFinished` follows unless stopped or replaced.
    Say {
        /// In this voice.
        voice: Voice,
        /// One after the other.
        phrases: Vec<Phrase>,
    },
    /// Be quiet at once (barge-in).
    StopSaying,
    /// Waiting music on or off; it sounds whenever nothing is said.
    Music(bool),
    /// Ask the bookings.
    LookUpPin {
        /// What it opens.
        pin: Pin,
        /// What speaks for the caller.
        standing: Standing,
    },
    /// Whether he keyed in the digits that he heard; to be counted.
    Challenged(bool),
    /// Ask the bookings whether the meeting he was in is still on; answered by a `PinVerdict`. Asked again while
    /// they can't say.
    LookUpPast(Box<Past>),
    /// Ask the bookings whether who was called may still come in; answered by a `PinVerdict`.
    LookUpInvited(Box<Outgoing>),
    /// Ask the room.
    Enter(Box<Admission>),
    /// Ask the room to put him back where he was.
    Return {
        /// What the bookings say of the meeting now.
        admission: Box<Admission>,
        /// Where he was.
        past: Box<Past>,
    },
    /// The voice is silenced (`true`) or heard; tell the leg, and the room by [`Rooms::set_muted`]
    /// with [`Call::muted_by`].
    Mute(bool),
    /// `*#`: answer with `RoomNotice::HeadCount`.
    AskHeadCount,
    /// Leave the room, if in or waiting.
    Leave,
    /// Hang up with this cause (Q.850); a call not yet answered gets a final response instead.
    HangUp {
        /// 16 normal clearing, 102 recovery on timer expiry, ...
        q850: u8,
    },
    /// The call is over; keep this. Always the last output, exactly once.
    Record(Box<CallRecord>),
}

/// Why a call is not even answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// An emergency number: 404, and an alarm.
    Emergency,
    /// No such number here: 404.
    UnknownNumber,
    /// The node is full: 503 with Retry-After.
    Overload,
}
