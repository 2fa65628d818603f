//! What Asterisk has, compared with what should be there: after the connection was away, after another life of
//! this program, and now and then.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, Instant};

use super::dial::is_far_half;
use super::{AriEvent, CallerId, Endpoint, What, is_dialled};
use crate::ari::caller::{Caller, PAST};
use crate::ari::event::{Application, Bridge, Channel};
use crate::ari::request::Request;

impl Endpoint {
    /// Nothing that was asked will be answered. Who was half way in has to begin again, and who waits to hear of an
    /// extension is told that nothing is heard of it.
    pub(super) fn connection_lost(&mut self) {
        self.neighbours.stop();
        let unanswered = std::mem::take(&mut self.pending);
        self.transmits.clear();
        self.sweep_at = None;
        self.memory_unsure = true;
        self.events.push_back(AriEvent::Disconnected);
        for pending in unanswered.into_values() {
            if let What::Extension(caller) = pending.what {
                self.extension(caller, None);
            }
        }
        let half_way: Vec<CallerId> = self
            .callers
            .iter()
            .filter(|(_, caller)| caller.is_settling())
            .map(|(id, _)| *id)
            .collect();
        for caller in half_way {
            self.lost(caller, "the connection", None);
        }
    }

    /// Looks at everything of ours that Asterisk has: at once after connecting, and now and then.
    pub(super) fn sweep(&mut self, now: Instant) {
        let up_to = self.last_caller;
        let application = Request::application(&self.config.app);
        self.ask(now, What::Application(up_to), application);
        self.ask(now, What::Bridges, Request::bridges());
        self.sweep_at = Some(now + SWEEP);
    }

    /// Compares what is in our application with what should be.
    pub(super) fn compare(&mut self, now: Instant, application: &Application, up_to: u64) {
        let ours = |channel: &&String| !is_far_half(channel);
        for channel in application.channel_ids.iter().filter(ours) {
            if self.is_our_media(channel) {
                if !self.by_media.contains_key(channel) {
                    self.counters.orphans += 1;
                    self.remove_channel(now, channel);
                }
            } else if let Some(&caller) = self.by_channel.get(channel) {
                self.send_away(now, caller);
            } else {
                let stranger = What::Stranger(channel.clone());
                self.ask(now, stranger, Request::variable(channel, PAST));
            }
        }
        if std::mem::take(&mut self.memory_unsure) {
            self.write_down_again(now);
        }
        let there: HashSet<&String> = application.channel_ids.iter().collect();
        let is_gone = |(id, caller): &(&CallerId, &Caller)| {
            id.0 <= up_to && !caller.rings() && !there.contains(&caller.channel)
        };
        let gone: Vec<CallerId> = self
            .callers
            .iter()
            .filter(is_gone)
            .map(|(id, _)| *id)
            .collect();
        for caller in gone {
            self.missed(now, caller);
        }
    }

    /// A caller of whose end we weren't told.
    fn missed(&mut self, now: Instant, caller: CallerId) {
        let channel = self
            .callers
            .get(&caller)
            .filter(|caller| !caller.is_leaving());
        let channel = channel.map(|caller| caller.channel.clone());
        match channel {
            Some(channel) if !self.neighbours.is_empty() => {
                self.forget(now, caller);
                self.gone(now, caller, &channel);
            }
            Some(_) | None => {
                self.lost(caller, "whether he is still there", None);
                self.forget(now, caller);
            }
        }
    }

    fn write_down_again(&mut self, now: Instant) {
        let all = self.callers.values().filter(|caller| !caller.is_leaving());
        let requests: Vec<Request> = all.filter_map(Caller::memory_request).collect();
        for request in requests {
            self.ask(now, What::Notice, request);
        }
    }

    pub(super) fn remove_orphaned_bridges(&mut self, now: Instant, bridges: &[Bridge]) {
        let prefix = self.prefix("bridge");
        let media = self.callers.values().filter_map(Caller::media);
        let used: HashSet<&String> = media.map(|media| &media.bridge).collect();
        let orphans = bridges
            .iter()
            .filter(|bridge| bridge.id.starts_with(&prefix) && !used.contains(&bridge.id));
        let requests: Vec<Request> = orphans
            .map(|bridge| Request::delete_bridge(&bridge.id))
            .collect();
        for request in requests {
            self.counters.orphans += 1;
            self.ask(now, What::Notice, request);
        }
    }

    pub(super) fn ask_who(&mut self, now: Instant, channel: &str, past: Option<String>) {
        let past = past.filter(|past| !past.is_empty());
        // Who was rung or asked when his process ended, and not in a meeting yet.
        if past.is_none() && is_dialled(channel) {
            self.counters.orphans += 1;
            return self.remove_channel(now, channel);
        }
        self.ask(now, What::Found(past), Request::channel(channel));
    }

    /// One who was in our application before we were.
    pub(super) fn adopt(&mut self, now: Instant, channel: Channel, past: Option<String>) {
        if !self.by_channel.contains_key(&channel.id) {
            self.counters.adopted += 1;
            self.arrived(now, channel.into_caller(None, past));
        }
    }

    pub(super) fn remove_channel(&mut self, now: Instant, channel: &str) {
        self.ask(now, What::Notice, Request::delete_channel(channel));
    }

    /// The name of something that is made for a caller; unlike any other, also of an earlier life. Of a fixed
    /// width: Asterisk 22 takes a name for used already where another one only begins with it.
    pub(super) fn name_of(&self, kind: &str, caller: CallerId) -> String {
        format!(
            "{}{:x}-{:010}",
            self.prefix(kind),
            self.config.seed,
            caller.0
        )
    }

    /// Whom a channel or bridge belongs to, as far as the order of requests goes: a caller's own channel and
    /// what was made for him are one, and everything else is by itself.
    pub(super) fn whose(&self, subject: &str) -> u64 {
        let made = || {
            let rest = subject.strip_prefix(self.config.app.as_str())?;
            let (_, number) = rest.strip_prefix('.')?.rsplit_once('-')?;
            number.parse().ok()
        };
        let caller = self.by_channel.get(subject).map(|caller| caller.0);
        caller.or_else(made).unwrap_or_else(|| {
            let mut hasher = DefaultHasher::new();
            subject.hash(&mut hasher);
            hasher.finish()
        })
    }

    fn prefix(&self, kind: &str) -> String {
        format!("{}.{kind}.", self.config.app)
    }

    pub(super) fn is_our_media(&self, channel: &str) -> bool {
        let rest = channel.strip_prefix(self.config.app.as_str());
        rest.is_some_and(|rest| rest.starts_with(".media."))
    }
}

/// How often Asterisk is compared with what should be there.
const SWEEP: Duration = Duration::from_secs(20);
