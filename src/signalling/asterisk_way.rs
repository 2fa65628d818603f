//! The way that requests go to one Asterisk: over its websocket, or, where it doesn't take them there, over HTTP.
//! One that doesn't answers nothing, so it is asked a question by both ways at once: whichever is answered is
//! the way, and the websocket's answer has a little longer.

use std::time::{Duration, Instant};

use super::asterisk_rest::{Answer, Lanes, RestError};
use super::clock;
use crate::ari::event::{self, Event};
use crate::ari::{Asked, Request};
use crate::config::{AsteriskConfig, RestWay};

/// See the module's text.
pub(super) enum Way {
    /// Over the websocket.
    Websocket,
    /// Over HTTP.
    Http(ByHttp),
    /// Not known yet.
    Unknown(Unknown),
}

/// Over HTTP: what is answered there says nothing of the websocket, which is asked by itself.
pub(super) struct ByHttp {
    lanes: Lanes,
    /// When something came by the websocket last.
    heard_at: Instant,
    asked: bool,
}

pub(super) struct Unknown {
    name: String,
    lanes: Lanes,
    waiting: Vec<Asked>,
    /// HTTP was answered: until then the websocket may be.
    until: Option<Instant>,
}

/// What is to be done with a request.
pub(super) enum Taken {
    /// Send it over the websocket.
    Send(Asked),
    /// Nothing; an answer is that there will be none.
    Passed(Option<Answer>),
}

/// What comes of waiting.
pub(super) enum Turn {
    Answer(Answer),
    /// Ask the websocket whether it lives.
    Ping,
    /// It doesn't.
    Dead,
    /// Go on.
    Nothing,
}

impl Way {
    /// As it is configured.
    pub(super) fn new(config: &AsteriskConfig) -> Result<Self, RestError> {
        Ok(match config.rest {
            RestWay::Websocket => Self::Websocket,
            RestWay::Http => Self::http(Lanes::start(config)?),
            RestWay::Auto => {
                let lanes = Lanes::start(config)?;
                // The first of all is not one too many.
                let _asked = lanes.ask(question());
                Self::Unknown(Unknown {
                    name: config.name.clone(),
                    lanes,
                    waiting: Vec::new(),
                    until: None,
                })
            }
        })
    }

    fn http(lanes: Lanes) -> Self {
        Self::Http(ByHttp {
            lanes,
            heard_at: clock::now(),
            asked: false,
        })
    }

    /// What the websocket is to be asked first.
    pub(super) fn question(&self) -> Option<String> {
        match self {
            Self::Unknown(_) => Some(text(&question())),
            Self::Websocket | Self::Http(_) => None,
        }
    }

    /// Takes a request.
    pub(super) fn take(&mut self, asked: Asked) -> Taken {
        match self {
            Self::Websocket => Taken::Send(asked),
            Self::Http(http) => Taken::Passed(http.lanes.ask(asked)),
            Self::Unknown(unknown) if unknown.waiting.len() < WAITING => {
                unknown.waiting.push(asked);
                Taken::Passed(None)
            }
            Self::Unknown(_) => Taken::Passed(Some(Answer::none(asked.id))),
        }
    }

    /// Something came by the websocket.
    pub(super) fn heard(&mut self, now: Instant) {
        if let Self::Http(http) = self {
            (http.heard_at, http.asked) = (now, false);
        }
    }

    /// Is that the answer to our own question? `Some`: it is, and these go over the websocket now.
    pub(super) fn was_for_us(&mut self, text: &str) -> Option<Vec<Asked>> {
        let Self::Unknown(unknown) = self else {
            return None;
        };
        let Ok(Event::Response(response)) = event::parse(text) else {
            return None;
        };
        if response.request_id != Some(QUESTION) {
            return None;
        }
        if !(200..300).contains(&response.status) {
            return Some(Vec::new());
        }
        let waiting = std::mem::take(&mut unknown.waiting);
        *self = Self::Websocket;
        Some(waiting)
    }

    /// The next thing that happens without the websocket. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Turn {
        match self {
            Self::Websocket => std::future::pending().await,
            Self::Http(http) => http.next().await,
            Self::Unknown(unknown) => {
                let until = unknown.until.unwrap_or_else(|| clock::now() + FOR_EVER);
                tokio::select! {
                    answer = unknown.lanes.next() => {
                        if answer.status.is_some_and(|status| (200..300).contains(&status)) {
                            unknown.until = Some(clock::now() + LEAD);
                        }
                    }
                    () = tokio::time::sleep_until(until.into()) => self.go_by_http(),
                }
                Turn::Nothing
            }
        }
    }

    fn go_by_http(&mut self) {
        *self = match std::mem::replace(self, Self::Websocket) {
            Self::Unknown(unknown) => {
                tracing::info!(
                    asterisk = unknown.name,
                    "this Asterisk takes no requests over its websocket: they go over HTTP"
                );
                for asked in unknown.waiting {
                    // Fewer than a connection takes.
                    let _passed = unknown.lanes.ask(asked);
                }
                Self::http(unknown.lanes)
            }
            known @ (Self::Websocket | Self::Http(_)) => known,
        };
    }
}

impl ByHttp {
    async fn next(&mut self) -> Turn {
        let due = self.heard_at + if self.asked { DEAD_AFTER } else { PING_AFTER };
        tokio::select! {
            answer = self.lanes.next() => Turn::Answer(answer),
            () = tokio::time::sleep_until(due.into()) => {
                if std::mem::replace(&mut self.asked, true) {
                    Turn::Dead
                } else {
                    Turn::Ping
                }
            }
        }
    }
}

/// As it goes over the websocket.
pub(super) fn text(asked: &Asked) -> String {
    asked.request.to_text(asked.id)
}

fn question() -> Asked {
    Asked {
        id: QUESTION,
        whose: None,
        request: Request::ping(),
    }
}

/// No request of the gateway's has this name.
const QUESTION: u64 = u64::MAX;
/// By how much the websocket's answer may be later than HTTP's.
const LEAD: Duration = Duration::from_millis(300);
const FOR_EVER: Duration = Duration::from_secs(3_600);
/// Requests that wait for the way to be known.
const WAITING: usize = 1_024;
/// Silence of the websocket after which it is asked whether it lives, and after which it doesn't.
const PING_AFTER: Duration = Duration::from_secs(2);
const DEAD_AFTER: Duration = Duration::from_secs(4);
