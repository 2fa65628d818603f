//! Callers: from their arrival, step by step into their bridges, to their end.

use std::time::Instant;

use super::{AriEvent, CallerId, Endpoint, Pending, What};
use crate::ari::caller::{Caller, Media, News, Progress, Step};
use crate::ari::event::{Channel, IncomingCaller};
use crate::ari::request::Request;

impl Endpoint {
    pub(super) fn arrived(&mut self, at: Instant, incoming: IncomingCaller) {
        if self.by_channel.contains_key(&incoming.channel) {
            return;
        }
        self.last_caller += 1;
        let caller = CallerId(self.last_caller);
        self.by_channel.insert(incoming.channel.clone(), caller);
        let mut entry = Caller::new(incoming.channel.clone(), incoming.dialled);
        if let Some(past) = incoming.past.clone() {
            entry.remember(past);
        }
        self.callers.insert(caller, entry);
        let incoming = Box::new(incoming);
        self.events.push_back(AriEvent::Arrived {
            caller,
            at,
            incoming,
        });
    }

    /// The caller of a channel, unless he is on his way out.
    pub(super) fn staying(&self, channel: &Channel) -> Option<CallerId> {
        let caller = *self.by_channel.get(&channel.id)?;
        let entry = self.callers.get(&caller)?;
        (!entry.is_leaving()).then_some(caller)
    }

    pub(super) fn handle_hold(&mut self, channel: &Channel, held: bool) {
        if let Some(caller) = self.staying(channel) {
            self.events.push_back(AriEvent::Hold { caller, held });
        }
    }

    pub(super) fn step_done(
        &mut self,
        now: Instant,
        caller: CallerId,
        step: Step,
        pending: &Pending,
        body: &str,
    ) {
        let Some(entry) = self.callers.get_mut(&caller) else {
            return;
        };
        match entry.step_done(&self.config.app, step, body) {
            Ok(progress) => self.follow(now, caller, progress),
            Err(_) => self.lost(caller, pending.asked, None),
        }
    }

    pub(super) fn with_caller(
        &mut self,
        now: Instant,
        caller: CallerId,
        step: impl FnOnce(&mut Caller) -> Progress,
    ) {
        if let Some(entry) = self.callers.get_mut(&caller) {
            let progress = step(entry);
            self.follow(now, caller, progress);
        }
    }

    pub(super) fn follow(&mut self, now: Instant, caller: CallerId, progress: Progress) {
        if let Some((step, request)) = progress.next {
            self.ask(now, What::Step(caller, step), request);
        }
        match progress.news {
            Some(News::Media {
                codec,
                remote,
                transcoded,
            }) => {
                self.counters.transcoded += u64::from(transcoded);
                self.events.push_back(AriEvent::Media {
                    caller,
                    codec,
                    remote,
                });
            }
            Some(News::Answered) => self.events.push_back(AriEvent::Answered { caller }),
            None => {}
        }
    }

    /// Tells that a caller can't go on; what was made for him is removed when he leaves.
    pub(super) fn lost(&mut self, caller: CallerId, asked: &'static str, status: Option<u16>) {
        let entry = self.callers.get(&caller);
        if let Some(entry) = entry.filter(|entry| !entry.is_leaving()) {
            self.events.push_back(AriEvent::Lost {
                caller,
                channel: entry.channel.clone(),
                asked,
                status,
            });
        }
    }

    pub(super) fn extension(&mut self, caller: CallerId, exists: Option<String>) {
        let exists = exists.map(|value| value == "1");
        self.events
            .push_back(AriEvent::Extension { caller, exists });
    }

    /// A caller is no longer in our application.
    pub(super) fn forget(&mut self, now: Instant, caller: CallerId) {
        if let Some(entry) = self.callers.remove(&caller) {
            self.by_channel.remove(&entry.channel);
            self.remove_media(now, entry.media().cloned());
        }
    }

    pub(super) fn send_away(&mut self, now: Instant, caller: CallerId) {
        let entry = self.callers.get(&caller);
        if let Some(hang_up) = entry.and_then(Caller::hang_up_request) {
            return self.ask(now, What::HangUp(caller), hang_up);
        }
        let requests = self.callers.get(&caller).map(Caller::parting_requests);
        for request in requests.into_iter().flatten() {
            self.ask(now, What::Notice, request);
        }
    }

    pub(super) fn remove_media(&mut self, now: Instant, media: Option<Media>) {
        if let Some(media) = media {
            self.by_media.remove(&media.channel);
            self.ask(now, What::Notice, Request::delete_channel(&media.channel));
            self.ask(now, What::Notice, Request::delete_bridge(&media.bridge));
        }
    }
}
