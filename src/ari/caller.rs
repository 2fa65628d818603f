//! One caller's way from his `StasisStart` into a bridge with his media. Asterisk takes one step after the
//! other: answer; ask what his phone speaks; make an externalMedia channel of that codec; wait until that is in
//! our application (a channel that isn't can't be joined); join both in a bridge of their own.

use std::net::SocketAddr;

use crate::ari::event::{self, Channel};
use crate::ari::request::Request;
use crate::media::codec::Codec;
use crate::units::DialplanPlace;

/// A caller in our application.
pub(super) struct Caller {
    /// Asterisk's name of his channel.
    pub(super) channel: String,
    /// What is to stand beside him for whoever finds him next; `None`: nothing was ever written.
    past: Option<String>,
    /// He was called by us: there is no dialplan to send him back to.
    dialled: bool,
    stage: Stage,
}

enum Stage {
    /// Is to be called, or rings.
    Dialling,
    /// Nothing was asked for him yet.
    Arrived,
    /// On his way.
    Settling(Settling),
    /// In his bridge.
    Up(Media),
    /// Sent back to the dialplan with this outcome, or hung up on, and not gone yet.
    Leaving(Leaving),
}

struct Leaving {
    outcome: &'static str,
    /// Where he goes on; `None`: behind `Stasis(...)`.
    place: Option<DialplanPlace>,
}

/// What was made for him in Asterisk.
#[derive(Debug, Clone)]
pub(super) struct Media {
    /// His externalMedia channel.
    pub(super) channel: String,
    /// The bridge of both.
    pub(super) bridge: String,
}

struct Settling {
    media: Media,
    /// Where we receive.
    rtp: SocketAddr,
    codec: Option<Codec>,
    /// Where Asterisk receives.
    address: Option<SocketAddr>,
    bridge_made: bool,
    media_in_stasis: bool,
    joining: bool,
}

/// A request whose answer leads on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Dial,
    Answer,
    Format,
    Media,
    Bridge,
    Join,
}

/// What a step brought.
#[derive(Default)]
pub(super) struct Progress {
    pub(super) news: Option<News>,
    pub(super) next: Option<(Step, Request)>,
}

/// What the call is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// His audio: what to speak, and where to.
    Media {
        codec: Codec,
        remote: SocketAddr,
        /// His phone speaks what can't be had from Asterisk by RTP.
        transcoded: bool,
    },
    /// He hears us.
    Answered,
}

/// An answer that says no, or nothing that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StepFailed;

impl Caller {
    pub(super) const fn new(channel: String, dialled: bool) -> Self {
        Self {
            dialled,
            channel,
            past: None,
            stage: Stage::Arrived,
        }
    }

    /// One who is yet to be called.
    pub(super) const fn to_be_called(channel: String) -> Self {
        Self {
            channel,
            past: None,
            dialled: true,
            stage: Stage::Dialling,
        }
    }

    /// His channel came in; `true`: he was rung until now.
    pub(super) fn picked_up(&mut self) -> bool {
        let rang = self.rings();
        if rang {
            self.stage = Stage::Arrived;
        }
        rang
    }

    /// Begins to bring him in.
    pub(super) fn answer(&mut self, rtp: SocketAddr, media: Media) -> [(Step, Request); 2] {
        let requests = [
            (Step::Answer, Request::answer(&self.channel)),
            (Step::Bridge, Request::create_bridge(&media.bridge)),
        ];
        self.stage = Stage::Settling(Settling {
            media,
            rtp,
            codec: None,
            address: None,
            bridge_made: false,
            media_in_stasis: false,
            joining: false,
        });
        requests
    }

    /// A step was answered with success.
    pub(super) fn step_done(
        &mut self,
        app: &str,
        step: Step,
        body: &str,
    ) -> Result<Progress, StepFailed> {
        let Stage::Settling(settling) = &mut self.stage else {
            return Ok(Progress::default());
        };
        match step {
            Step::Dial => Ok(Progress::default()),
            Step::Answer => Ok(Progress {
                next: Some((Step::Format, Request::native_format(&self.channel))),
                ..Progress::default()
            }),
            Step::Format => {
                let formats = event::variable(body).ok_or(StepFailed)?;
                let codec = event::codec_of(&formats).unwrap_or(Codec::Opus);
                settling.codec = Some(codec);
                let request =
                    Request::external_media(app, &settling.media.channel, settling.rtp, codec);
                Ok(Progress {
                    next: Some((Step::Media, request)),
                    ..Progress::default()
                })
            }
            Step::Media => {
                let channel = Channel::parse(body).map_err(|_| StepFailed)?;
                let remote = channel.media_address().ok_or(StepFailed)?;
                settling.address = Some(remote);
                Ok(Progress {
                    news: settling.media_news(remote),
                    next: settling.join(&self.channel),
                })
            }
            Step::Bridge => {
                settling.bridge_made = true;
                Ok(Progress {
                    next: settling.join(&self.channel),
                    ..Progress::default()
                })
            }
            Step::Join => {
                self.stage = Stage::Up(settling.media.clone());
                Ok(Progress {
                    news: Some(News::Answered),
                    ..Progress::default()
                })
            }
        }
    }

    /// His externalMedia channel came into our application.
    pub(super) fn media_in_stasis(&mut self) -> Progress {
        let Stage::Settling(settling) = &mut self.stage else {
            return Progress::default();
        };
        settling.media_in_stasis = true;
        Progress {
            next: settling.join(&self.channel),
            ..Progress::default()
        }
    }

    /// He is to go on in the dialplan; what was made for him comes back, to be deleted.
    pub(super) fn leave(
        &mut self,
        outcome: &'static str,
        place: Option<DialplanPlace>,
    ) -> Option<Media> {
        let leaving = Stage::Leaving(Leaving { outcome, place });
        match std::mem::replace(&mut self.stage, leaving) {
            Stage::Settling(settling) => Some(settling.media),
            Stage::Up(media) => Some(media),
            Stage::Dialling | Stage::Arrived => None,
            before @ Stage::Leaving(_) => {
                self.stage = before;
                None
            }
        }
    }

    /// What was made for him.
    pub(super) const fn media(&self) -> Option<&Media> {
        match &self.stage {
            Stage::Settling(settling) => Some(&settling.media),
            Stage::Up(media) => Some(media),
            Stage::Dialling | Stage::Arrived | Stage::Leaving(_) => None,
        }
    }

    /// Something else is to stand beside him.
    pub(super) fn remember(&mut self, past: String) {
        self.past = Some(past);
    }

    /// The request that writes down what is to stand beside him. The dialplan may bring him back, to be asked
    /// again: nothing must then be left of what was.
    pub(super) fn memory_request(&self) -> Option<Request> {
        let past = self.past.as_ref()?;
        let past = if self.is_leaving() { "" } else { past };
        Some(Request::set_variable(&self.channel, PAST, past))
    }

    /// The requests that send him back to the dialplan, if that is where he is to go.
    pub(super) fn parting_requests(&self) -> Vec<Request> {
        let Stage::Leaving(Leaving { outcome, place }) = &self.stage else {
            return Vec::new();
        };
        if self.dialled && place.is_none() {
            return Vec::new();
        }
        let last = [
            Request::set_variable(&self.channel, OUTCOME, outcome),
            match place {
                Some(place) => Request::go_on_at(&self.channel, place),
                None => Request::go_on_in_dialplan(&self.channel),
            },
        ];
        self.memory_request().into_iter().chain(last).collect()
    }

    /// The request that hangs up on one whom we called, if that is what is to become of him: he can be sent on, but
    /// there is nothing behind `Stasis(...)` for him.
    pub(super) fn hang_up_request(&self) -> Option<Request> {
        let Stage::Leaving(Leaving { place: None, .. }) = self.stage else {
            return None;
        };
        self.dialled.then(|| Request::delete_channel(&self.channel))
    }

    /// He is yet to be called, or rings.
    pub(super) const fn rings(&self) -> bool {
        matches!(self.stage, Stage::Dialling)
    }

    /// He is half way in: that can't go on once the connection was away.
    pub(super) const fn is_settling(&self) -> bool {
        matches!(self.stage, Stage::Settling(_))
    }

    pub(super) const fn is_leaving(&self) -> bool {
        matches!(self.stage, Stage::Leaving(_))
    }
}

impl Settling {
    fn media_news(&self, remote: SocketAddr) -> Option<News> {
        let codec = self.codec?;
        let transcoded = codec == Codec::Opus;
        Some(News::Media {
            codec: if transcoded { Codec::G722 } else { codec },
            remote,
            transcoded,
        })
    }

    /// Joins caller and media as soon as both and the bridge are there.
    fn join(&mut self, channel: &str) -> Option<(Step, Request)> {
        let ready = self.bridge_made && self.media_in_stasis && self.address.is_some();
        if !ready || std::mem::replace(&mut self.joining, true) {
            return None;
        }
        let channels = [channel, &self.media.channel];
        Some((
            Step::Join,
            Request::add_to_bridge(&self.media.bridge, &channels),
        ))
    }
}

/// What the next life of this program finds.
pub(super) const PAST: &str = "VOICEBRIDGE_STATE";
/// What the dialplan finds on return: the outcome of the call's record.
const OUTCOME: &str = "VOICEBRIDGE_OUTCOME";
