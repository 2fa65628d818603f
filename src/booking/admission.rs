//! What a PIN opens, or why it doesn't, and what is kept of a call afterwards.

use std::fmt;
use std::time::Duration;

use jiff::{Timestamp, Zoned};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::booking::privacy::{CallerNumber, Pin};
use crate::booking::recurrence::RecurrenceId;
use crate::media::treatment::SoundOptions;
use crate::units::{Brand, Key, Language};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A booked meeting.
    MeetingId
}
id! {
    /// An organisation: the owner of meetings, keys and numbers.
    OrganisationId
}
id! {
    /// One call, from its INVITE to its record.
    CallId
}
id! {
    /// One participant of one meeting: a call that got in.
    ParticipantId
}

/// What a PIN makes of its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// May talk.
    Guest,
    /// May talk and steer.
    Host,
    /// Hears only.
    Listener,
    /// A machine: no prompts, no tones, no commands.
    Bridge,
}

/// A question to the bookings: what does this PIN open?
#[derive(Debug, Clone)]
pub struct PinQuery {
    /// The call that asks; its tries are counted together.
    pub call: CallId,
    /// What was keyed in.
    pub pin: Pin,
    /// The dialled number, as configured; `None` where no number is configured.
    pub number: Option<String>,
    /// Who asks, for the failure budget; never for admission.
    pub caller: CallerNumber,
    /// What speaks for him, for the failure budget.
    pub standing: Standing,
}

/// What speaks for a caller while many guess PINs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing but his number.
    Unknown,
    /// In this call he has keyed in two digits that he heard.
    Proven,
    /// His PIN came with the call from a peer that is trusted: nobody keyed it in.
    Trusted,
}

/// Two digits that a caller hears and keys in. Print as `***`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SpokenDigits([u8; 2]);

impl SpokenDigits {
    /// The digits of a number below 100; of others the last two.
    #[must_use]
    pub const fn new(number: u8) -> Self {
        Self([number / 10 % 10, number % 10])
    }

    /// In the order in which they are said.
    #[must_use]
    pub const fn said(self) -> [u8; 2] {
        self.0
    }

    /// Are these keys the ones?
    #[must_use]
    pub fn are(self, first: Key, second: Key) -> bool {
        self.0.map(Some) == [first.digit(), second.digit()]
    }
}

impl fmt::Debug for SpokenDigits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The answer to a [`PinQuery`].
#[derive(Debug, Clone)]
pub enum PinVerdict {
    /// The caller may go in, or wait until it opens.
    Admitted(Box<Admission>),
    /// He may not.
    Refused(Refusal),
}

/// What an accepted PIN grants.
#[derive(Debug, Clone)]
pub struct Admission {
    /// The meeting.
    pub meeting: MeetingId,
    /// Of its booking: what a lower one says is out of date.
    pub revision: i64,
    /// Which occurrence of a series.
    pub occurrence: Option<RecurrenceId>,
    /// Its owner.
    pub organisation: OrganisationId,
    /// Whose recordings are heard in it.
    pub brand: Brand,
    /// What the PIN makes of its user.
    pub role: Role,
    /// The name of a personal PIN.
    pub name: Option<String>,
    /// When the meeting opens; in the future inside the early-join window: wait with music.
    pub opens_at: Timestamp,
    /// The end as booked; `None`: permanent.
    pub ends_at: Option<Timestamp>,
    /// How long the meeting may run over its end.
    pub overrun: Duration,
    /// Most participants at once.
    pub capacity: Option<u32>,
    /// Guests wait for a host.
    pub wait_for_host: bool,
    /// Guests join muted.
    pub mute_on_join: bool,
    /// May guests unmute themselves?
    pub guests_may_unmute: bool,
    /// The language the meeting asks for.
    pub language: Option<Language>,
    /// How voices are treated.
    pub sound: SoundOptions,
    /// The echo meeting for `probe`: each participant hears himself, nothing is counted.
    pub echo: bool,
}

/// Why a PIN does not open a meeting now.
#[derive(Debug, Clone, PartialEq)]
pub enum Refusal {
    /// Unknown, retired or foreign: not to be told apart.
    Wrong,
    /// Valid, but the meeting opens later; local time of the meeting.
    TooEarly {
        /// When callers may come.
        opens_at: Box<Zoned>,
    },
    /// Valid, but over.
    Ended,
    /// Valid, but cancelled.
    Cancelled,
    /// Many guess PINs: it is looked at once he has keyed in these digits, which he hears.
    Unproven(SpokenDigits),
    /// The store is away: "please try again in a moment".
    Unavailable,
    /// Valid, but the organisation may have no more.
    NoLine(NoLine),
}

/// Somebody whose PIN is right, and who can't come in because of a quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoLine {
    /// Which quota.
    pub why: NoLineWhy,
    /// Whose.
    pub organisation: OrganisationId,
    /// Whose recordings he hears.
    pub brand: Brand,
    /// Where he wanted to.
    pub meeting: MeetingId,
    /// Which occurrence of a series.
    pub occurrence: Option<RecurrenceId>,
    /// The language the meeting asks for.
    pub language: Option<Language>,
}

/// The quotas that keep callers out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoLineWhy {
    /// As many callers are in as may be at once.
    Callers,
    /// The month's minutes are used up.
    Minutes,
}

/// How a call ended, in the words of call records, metrics and `explain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Was in the meeting.
    Joined,
    /// Keyed in nothing.
    NoInput,
    /// Three wrong PINs.
    WrongPin,
    /// Did not repeat the spoken digits.
    ChallengeFailed,
    /// Came before the meeting opened.
    TooEarly,
    /// Came after its end.
    Ended,
    /// The meeting was cancelled.
    Cancelled,
    /// The meeting was locked.
    Locked,
    /// The meeting was full.
    Full,
    /// Was not let in from the lobby.
    LobbyDenied,
    /// The dialled number does not serve this meeting.
    NumberNotAllowed,
    /// The node was full.
    Overload,
    /// Called by us: was engaged.
    Busy,
    /// Called by us: did not answer.
    NoAnswer,
    /// Called by us: refused the call, or did not want to join.
    Declined,
    /// Anything else, and hang-ups before any of these.
    Error,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Joined,
        Self::NoInput,
        Self::WrongPin,
        Self::ChallengeFailed,
        Self::TooEarly,
        Self::Ended,
        Self::Cancelled,
        Self::Locked,
        Self::Full,
        Self::LobbyDenied,
        Self::NumberNotAllowed,
        Self::Overload,
        Self::Busy,
        Self::NoAnswer,
        Self::Declined,
        Self::Error,
    ];

    /// The word, as in JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Joined => "joined",
            Self::NoInput => "no_input",
            Self::WrongPin => "wrong_pin",
            Self::ChallengeFailed => "challenge_failed",
            Self::TooEarly => "too_early",
            Self::Ended => "ended",
            Self::Cancelled => "cancelled",
            Self::Locked => "locked",
            Self::Full => "full",
            Self::LobbyDenied => "lobby_denied",
            Self::NumberNotAllowed => "number_not_allowed",
            Self::Overload => "overload",
            Self::Busy => "busy",
            Self::NoAnswer => "no_answer",
            Self::Declined => "declined",
            Self::Error => "error",
        }
    }
}

/// Who called whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Somebody called us.
    #[default]
    In,
    /// We called somebody.
    Out,
}

/// Who ended a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum HangupBy {
    /// The caller, by BYE or CANCEL.
    Caller,
    /// voicebridge: refusal, limit, end of the meeting.
    System,
    /// A host or the API.
    Host,
    /// Media or signalling was lost.
    Network,
    /// Nobody: a host or the API sent the caller on, and his call goes on elsewhere.
    Moved,
}

/// What a trunk said of a caller's number: whether the network found that whoever placed the call may use it (3GPP TS
/// 24.229 section 7.2A.20). It is kept, and nothing goes by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verstat {
    /// TN-Validation-Passed.
    Passed,
    /// TN-Validation-Failed.
    Failed,
    /// No-TN-Validation.
    NotValidated,
}

impl Verstat {
    /// Reads the parameter's value.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let all = [
            ("TN-Validation-Passed", Self::Passed),
            ("TN-Validation-Failed", Self::Failed),
            ("No-TN-Validation", Self::NotValidated),
        ];
        let mut all = all.into_iter();
        let found = all.find(|(name, _)| name.eq_ignore_ascii_case(text));
        found.map(|(_, verstat)| verstat)
    }
}

/// What is kept of every call, also of those that never got in.
#[derive(Debug, Clone)]
pub struct CallRecord {
    /// The call.
    pub id: CallId,
    /// `sip`, later also `asterisk`, `browser`, `link`.
    pub kind: &'static str,
    /// Who called whom.
    pub direction: Direction,
    /// The owner of the meeting it reached.
    pub organisation: Option<OrganisationId>,
    /// The dialled number or user part; of a call by us, the number that was shown.
    pub number: String,
    /// Who called, or was called by us.
    pub caller: CallerNumber,
    /// When it arrived.
    pub started_at: Timestamp,
    /// When it was answered.
    pub answered_at: Option<Timestamp>,
    /// When it was over.
    pub ended_at: Timestamp,
    /// The meeting it reached.
    pub meeting: Option<MeetingId>,
    /// Which occurrence of a series that was.
    pub occurrence: Option<RecurrenceId>,
    /// The participant it became.
    pub participant: Option<ParticipantId>,
    /// How it ended.
    pub outcome: Outcome,
    /// How many PINs were tried.
    pub pin_attempts: u32,
    /// Who hung up.
    pub hangup_by: HangupBy,
    /// The release cause (ITU-T Q.850).
    pub q850: u8,
    /// The trunk that it came by.
    pub trunk: Option<String>,
    /// What that trunk said of the caller's number.
    pub verstat: Option<Verstat>,
    /// The SIP Call-ID.
    pub sip_call_id: Option<String>,
    /// Asterisk's name of its channel, where it came by one.
    pub asterisk_channel: Option<String>,
    /// Media quality, as in the API.
    pub quality: Option<serde_json::Value>,
}
