//! Who has the application's name: us, another process, or a connection of our own that was given up long ago
//! and reached Asterisk after all. Asterisk gives the name to whoever connects last and tells the one before;
//! so each of us writes down his own name on connecting, and who is replaced looks whose stands there.

use std::time::Instant;

use super::{AriEvent, Endpoint, Pending, Transmit, What};
use crate::ari::event::{self, Response};
use crate::ari::request::Request;

impl Endpoint {
    pub(super) fn write_down_owner(&mut self, now: Instant) {
        let request = Request::set_global(&self.owner_variable(), &self.owner());
        self.ask(now, What::Notice, request);
    }

    /// Somebody connected under our name. Until it is known who, nothing is asked of Asterisk.
    pub(super) fn handle_replaced(&mut self, now: Instant) {
        self.link.contested(now);
        self.connection_lost();
    }

    /// Asks who that was; he has had the time to write it down.
    pub(super) fn ask_owner(&mut self, now: Instant) {
        let request = Request::global(&self.owner_variable());
        self.pass_on(now, What::Owner, request);
    }

    /// An answer came while the name was contested: of interest is whose it is.
    pub(super) fn handle_contested(&mut self, now: Instant, response: &Response) {
        let pending = response.request_id.and_then(|id| self.pending.remove(&id));
        if !matches!(
            pending,
            Some(Pending {
                what: What::Owner,
                ..
            })
        ) {
            return;
        }
        self.transmits.push_back(Transmit::Close);
        if event::variable(&response.body) == Some(self.owner()) {
            self.link.closed(now);
        } else {
            self.yield_name();
        }
    }

    fn yield_name(&mut self) {
        self.link.replaced();
        self.neighbours.stop();
        self.pending.clear();
        self.callers.clear();
        self.by_channel.clear();
        self.by_media.clear();
        self.events.push_back(AriEvent::Replaced);
    }

    fn owner(&self) -> String {
        format!("{:x}", self.config.seed)
    }

    fn owner_variable(&self) -> String {
        format!("VOICEBRIDGE_OWNER_{}", self.config.app)
    }
}
