//! One running call and everything on the wire that belongs to it.

use std::net::IpAddr;
use std::time::Instant;

use bytes::Bytes;

use crate::call::{Call, Phrase};
use crate::engine::LegReport;
use crate::media::codec::Codec;
use crate::media::parameters::MediaParameters;
use crate::signalling::quality::QualityWindow;
use crate::sip::event::DialogId;
use crate::sip::sdp::LocalMedia;
use crate::units::{Language, LegId};

/// A call between its INVITE and its record.
#[derive(Debug)]
pub(crate) struct ActiveCall {
    /// What decides.
    pub(crate) call: Call,
    /// The dialog, until either side ended it.
    pub(crate) dialog: Option<DialogId>,
    /// The offer that is not answered yet.
    pub(crate) offer: Option<Bytes>,
    /// Where its INVITE came from.
    pub(crate) source: IpAddr,
    /// Its media, from the answer on.
    pub(crate) media: Option<Media>,
    /// What is being said.
    pub(crate) saying: Option<Saying>,
    /// Waiting music is wanted.
    pub(crate) music: bool,
    /// When `call` wants to be woken; mirrors the gateway's table.
    pub(crate) deadline: Option<Instant>,
    /// The last figures from the engine.
    pub(crate) report: Option<LegReport>,
    /// What its live quality is counted from.
    pub(crate) window: QualityWindow,
}

/// A call's media.
#[derive(Debug)]
pub(crate) struct Media {
    /// The leg.
    pub(crate) leg: LegId,
    /// What we offer and answer with.
    pub(crate) local: LocalMedia,
    /// What was agreed last; `None` until the first answer to an offer of ours came.
    pub(crate) agreed: Option<MediaParameters>,
    /// An offer of ours waits for its answer in the ACK.
    pub(crate) offered: bool,
}

/// Phrases on their way to the caller.
#[derive(Debug, Clone)]
pub(crate) struct Saying {
    /// The engine's token for them.
    pub(crate) token: u32,
    /// In this language.
    pub(crate) language: Language,
    /// What.
    pub(crate) phrases: Vec<Phrase>,
}

impl ActiveCall {
    /// A call that has just arrived.
    pub(crate) fn new(call: Call, dialog: DialogId, offer: Option<Bytes>, source: IpAddr) -> Self {
        Self {
            call,
            dialog: Some(dialog),
            offer,
            source,
            media: None,
            saying: None,
            music: false,
            deadline: None,
            report: None,
            window: QualityWindow::default(),
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
