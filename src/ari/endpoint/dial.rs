//! Callers whom we call: their channels are ours from the beginning, and go when they do.

use std::time::{Duration, Instant};

use super::{AriEvent, CallerId, Endpoint, What};
use crate::ari::caller::{Caller, Step};
use crate::ari::request::Request;

/// How somebody is called. Holds his number, so it has no `Debug`.
pub struct Dial {
    /// What Asterisk's `Dial` would be given: technology and resource.
    pub endpoint: String,
    /// The number that he is shown.
    pub caller_id: Option<String>,
    /// When Asterisk itself gives up.
    pub timeout: Duration,
}

impl Endpoint {
    /// A caller who is yet to be called; `None`: there is no connection.
    pub fn prepare_dial(&mut self) -> Option<CallerId> {
        if !self.link.is_open() {
            return None;
        }
        self.last_caller += 1;
        let caller = CallerId(self.last_caller);
        let channel = self.name_of(DIAL, caller);
        self.by_channel.insert(channel.clone(), caller);
        self.callers.insert(caller, Caller::to_be_called(channel));
        Some(caller)
    }

    /// Calls him. `PickedUp`, `NotReached` or `Lost` follow, unless [`Self::leave`] comes first.
    pub fn dial(&mut self, now: Instant, caller: CallerId, dial: &Dial) {
        let Some(entry) = self.callers.get(&caller) else {
            return;
        };
        let request = Request::dial(&self.config.app, &entry.channel, dial);
        self.ask(now, What::Step(caller, Step::Dial), request);
        if !self.link.is_open() {
            self.lost(caller, "the connection", None);
        }
    }

    /// A channel came into our application: was it called by us, and has answered?
    pub(super) fn picked_up(&mut self, channel: &str) -> bool {
        let Some(&caller) = self.by_channel.get(channel) else {
            return false;
        };
        let entry = self.callers.get_mut(&caller);
        let picked_up = entry.is_some_and(Caller::picked_up);
        if picked_up {
            self.events.push_back(AriEvent::PickedUp { caller });
        }
        picked_up
    }

    /// A channel came into our application: was it called by a process that is no more, before it answered?
    pub(super) fn let_go(&mut self, now: Instant, channel: &str) -> bool {
        let strange = is_dialled(channel) && !self.by_channel.contains_key(channel);
        if strange {
            self.counters.orphans += 1;
            self.remove_channel(now, channel);
        }
        strange
    }

    /// A channel is gone that may never have come into our application.
    pub(super) fn destroyed(&mut self, now: Instant, channel: &str, q850: u8) {
        let Some(&caller) = self.by_channel.get(channel) else {
            return;
        };
        let (rang, leaves) = self
            .callers
            .get(&caller)
            .map_or((false, false), |entry| (entry.rings(), entry.is_leaving()));
        if rang || leaves {
            self.forget(now, caller);
        }
        if rang {
            self.events.push_back(AriEvent::NotReached { caller, q850 });
        }
    }
}

/// Is this a channel that was called by us, or by another life of this program, or another node?
pub(crate) fn is_dialled(channel: &str) -> bool {
    let rest = channel.split_once('.').map(|(_, rest)| rest);
    rest.and_then(|rest| rest.strip_prefix(DIAL))
        .is_some_and(|rest| rest.starts_with('.'))
}

/// Is this the far half of a call by `Local/...`? Asterisk names it after ours, and it comes and goes with that.
pub(super) fn is_far_half(channel: &str) -> bool {
    is_dialled(channel) && channel.ends_with(FAR)
}

const FAR: &str = ";2";
const DIAL: &str = "dial";
