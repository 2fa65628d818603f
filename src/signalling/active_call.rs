//! One running call and everything on the wire that belongs to it.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::asterisk::AsteriskCaller;
use super::occupancy::Peer;
use crate::call::roster::LiveError;
use crate::call::{Call, Past, Phrase};
use crate::config::SrtpPolicy;
use crate::engine::LegReport;
use crate::handshake::Handshake;
use crate::media::codec::Codec;
use crate::media::parameters::{MediaParameters, Proven};
use crate::signalling::quality::QualityWindow;
use crate::sip::event::{DialogId, TrunkId};
use crate::sip::sdp::LocalMedia;
use crate::units::{DialplanPlace, LegId, Voice};

/// A call between its arrival and its record.
#[derive(Debug)]
pub(crate) struct ActiveCall {
    /// What decides.
    pub(crate) call: Call,
    /// What it came by.
    pub(crate) line: Line,
    /// Where its signalling comes from; `None`: an Asterisk of ours.
    pub(crate) source: Option<IpAddr>,
    /// Nothing speaks for who calls.
    pub(crate) is_stranger: bool,
    /// Somebody else may have given his address.
    pub(crate) may_be_made_up: bool,
    /// He has shown that what is sent to where he calls from arrives.
    pub(crate) is_reached: bool,
    /// Whom it counts for; `None`: an Asterisk of ours, which has no limit of its own, or nobody yet.
    pub(crate) peer: Option<Peer>,
    /// When it came; `None`: in the life of an earlier process.
    pub(crate) arrived_at: Option<Instant>,
    /// Whether its audio may or must be encrypted.
    pub(crate) srtp: SrtpPolicy,
    /// Its media, from the answer on.
    pub(crate) media: Option<Media>,
    /// Where its keys come from, if not from signalling.
    pub(crate) secured: Option<Box<Secured>>,
    /// What is being said.
    pub(crate) saying: Option<Saying>,
    /// Waiting music is wanted.
    pub(crate) music: bool,
    /// When `call` wants to be woken; mirrors the gateway's table.
    pub(crate) deadline: Option<Instant>,
    /// The last figures from the engine.
    pub(crate) report: Option<LegReport>,
    /// Audio flowed to him only, at least once.
    pub(crate) was_one_way: bool,
    /// What its live quality is counted from.
    pub(crate) window: QualityWindow,
    /// What stands beside the caller for whoever finds him next.
    pub(crate) memory: Option<Past>,
    /// He is to go on elsewhere.
    pub(crate) moving: Option<Moving>,
    /// It is we who called.
    pub(crate) called_out: bool,
    /// The way that it takes, where we call.
    pub(crate) exit: Option<Exit>,
    /// Those that are left to try.
    pub(crate) exits: VecDeque<Exit>,
    /// Where its INVITE was sent, by a trunk.
    pub(crate) sent_to: Option<SocketAddr>,
    /// It has been tried once more where it was asked to come later.
    pub(crate) tried_again: bool,
    /// Its trunk is looked for elsewhere, and it goes on when that is known.
    pub(crate) awaits: Option<Awaited>,
    /// Another process has found him: it keeps the call's record.
    pub(crate) handed_over: bool,
}

/// What a call of ours waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Awaited {
    /// Which trunk.
    pub(crate) trunk: TrunkId,
    /// Its offer there.
    pub(crate) offer: SrtpPolicy,
    /// The wish that its seeker was told.
    pub(crate) wish: u64,
    /// Where it failed.
    pub(crate) peer: SocketAddr,
    /// What it ends with where there is nothing else.
    pub(crate) q850: u8,
}

/// A way that a call of ours may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// By this trunk, with such an offer.
    Trunk(TrunkId, SrtpPolicy),
    /// By the first Asterisk that may dial and is there.
    Asterisk,
}

/// What a call came by. Everything that is asked of a call's signalling goes by this.
#[derive(Debug)]
pub(crate) enum Line {
    /// A SIP dialog.
    Sip {
        /// Which.
        dialog: DialogId,
        /// The offer that is not answered yet.
        offer: Option<Bytes>,
    },
    /// A channel in an Asterisk.
    Asterisk(AsteriskCaller),
    /// Ours, on the way out by none yet.
    Ahead,
    /// Either side ended it.
    Gone,
}

/// On the way from a meeting into Asterisk's dialplan.
#[derive(Debug)]
pub(crate) enum Moving {
    /// Asterisk is asked whether there is such an extension; somebody waits for what becomes of it.
    Asked {
        /// Where to.
        place: DialplanPlace,
        /// Who waits.
        reply: oneshot::Sender<Result<(), LiveError>>,
    },
    /// There is.
    Going(DialplanPlace),
}

/// A call's media.
#[derive(Debug)]
pub(crate) struct Media {
    /// The leg.
    pub(crate) leg: LegId,
    /// What was agreed last; `None` until that is known.
    pub(crate) agreed: Option<MediaParameters>,
    /// Offers and answers, where the line has them.
    pub(crate) negotiation: Option<Negotiation>,
}

/// A handshake that a call's keys come by.
#[derive(Debug)]
pub(crate) struct Secured {
    /// It.
    pub(crate) handshake: Handshake,
    /// When it wants to be woken; mirrors the gateway's table.
    pub(crate) due: Option<Instant>,
    /// The caller has our answer, and is greeted as soon as he can hear it.
    pub(crate) acknowledged: bool,
    /// Where it came to its end: what is sent there arrives.
    pub(crate) shaken_at: Option<IpAddr>,
}

/// SIP's offers and answers (RFC 3264).
#[derive(Debug)]
pub(crate) struct Negotiation {
    /// What we offer and answer with.
    pub(crate) local: LocalMedia,
    /// An offer of ours waits for its answer in the ACK.
    pub(crate) offered: bool,
}

/// Phrases on their way to the caller.
#[derive(Debug, Clone)]
pub(crate) struct Saying {
    /// The engine's token for them.
    pub(crate) token: u32,
    /// In this voice.
    pub(crate) voice: Voice,
    /// What.
    pub(crate) phrases: Vec<Phrase>,
}

impl ActiveCall {
    /// Where audio may be sent freely.
    pub(crate) fn proven(&self) -> Proven {
        let shown = match &self.secured {
            Some(secured) => secured.shaken_at,
            None => self.source.filter(|_| self.is_reached),
        };
        match shown {
            _ if !self.is_stranger => Proven::Anywhere,
            Some(address) => Proven::At(address),
            None => Proven::Nowhere,
        }
    }

    /// Is that the very address that his signalling comes from?
    pub(crate) fn calls_from(&self, address: IpAddr) -> bool {
        self.source.map(|source| source.to_canonical()) == Some(address.to_canonical())
    }

    /// A call that has just arrived.
    pub(crate) fn new(call: Call, line: Line, source: Option<IpAddr>) -> Self {
        Self {
            call,
            line,
            source,
            is_stranger: false,
            may_be_made_up: false,
            is_reached: false,
            peer: None,
            arrived_at: None,
            srtp: SrtpPolicy::default(),
            media: None,
            secured: None,
            saying: None,
            music: false,
            deadline: None,
            report: None,
            was_one_way: false,
            window: QualityWindow::default(),
            memory: None,
            moving: None,
            called_out: false,
            exit: None,
            exits: VecDeque::new(),
            sent_to: None,
            tried_again: false,
            awaits: None,
            handed_over: false,
        }
    }

    /// Another process can take it over where this one stops. Who was called and isn't in the meeting yet is not
    /// kept waiting for that.
    pub(crate) const fn outlives_us(&self) -> bool {
        matches!(self.line, Line::Asterisk(_)) && (!self.called_out || self.can_be_found_again())
    }

    /// What stands beside him brings him back, whoever finds him next.
    pub(crate) const fn can_be_found_again(&self) -> bool {
        self.memory.is_some() || self.call.is_on_his_way_back()
    }

    /// Its SIP dialog, if that is what it came by and it is still there.
    pub(crate) const fn dialog(&self) -> Option<DialogId> {
        match self.line {
            Line::Sip { dialog, .. } => Some(dialog),
            Line::Asterisk(_) | Line::Ahead | Line::Gone => None,
        }
    }

    /// Its leg, once it has one.
    pub(crate) fn leg(&self) -> Option<LegId> {
        self.media.as_ref().map(|media| media.leg)
    }

    /// The codec agreed on.
    pub(crate) fn codec(&self) -> Option<Codec> {
        self.media.as_ref()?.agreed.map(|agreed| agreed.codec)
    }
}
