//! Signs of life in calls (RFC 4028). Ours are an UPDATE without SDP, or, to who doesn't take that, a re-INVITE that
//! says again what stands: nobody needs to know timers for either.

use std::time::Instant;

use crate::sip::compose::TIMER;
use crate::sip::dialog::OwnOffer;
use crate::sip::endpoint::answers::contact_of;
use crate::sip::endpoint::{Endpoint, Purpose};
use crate::sip::event::{DialogId, SipEvent};
use crate::sip::message::{Request, Response};
use crate::sip::session::Terms;

impl Endpoint {
    pub(super) fn send_refresh(&mut self, now: Instant, id: DialogId) {
        let Some(dialog) = self.dialogs.get(&id) else {
            return;
        };
        if dialog.takes_update {
            return self.send_update(now, id);
        }
        let described = dialog.described.clone();
        // An INVITE without SDP would ask the peer for an offer.
        if !described.is_empty() {
            self.reinvite(now, id, described);
        }
    }

    fn send_update(&mut self, now: Instant, id: DialogId) {
        let branch = self.tokens.branch();
        let Some(dialog) = self.dialogs.get_mut(&id) else {
            return;
        };
        // Without a way it is tried again later: the peer may come back, or the media end the call.
        let (Some(flow), Some(terms)) = (dialog.flow, dialog.session_terms()) else {
            return;
        };
        let (contact, expires) = (contact_of(dialog), terms.asked_by_us());
        let head = dialog.request(branch, flow, None);
        let headers = [
            ("Contact", contact.as_str()),
            ("Supported", TIMER),
            ("Session-Expires", expires.as_str()),
        ];
        self.start_other(now, head, "UPDATE", &headers, None, Purpose::Refresh(id));
    }

    pub(super) fn refresh_answered(&mut self, now: Instant, id: DialogId, response: &Response) {
        let Some(dialog) = self.dialogs.get_mut(&id) else {
            return;
        };
        let Some(terms) = dialog.session_terms() else {
            return;
        };
        match response.status {
            200..300 => {
                dialog.refresh_target(&response.headers);
                dialog.set_session(now, Some(terms.after(&response.headers)));
                self.note_refresh(id);
            }
            422 => {
                if let Some(terms) = terms.at_least(&response.headers) {
                    dialog.set_session(now, Some(terms));
                    self.send_update(now, id);
                }
            }
            // The peer knows nothing of the call, or is gone (RFC 3261 section 12.2.1.2).
            408 | 481 => return self.lose(now, id),
            // It doesn't take what its Allow says.
            405 | 501 => {
                dialog.takes_update = false;
                self.send_refresh(now, id);
            }
            // Busy just now: tried again before the session ends.
            _ => self.count_as_life(now, id),
        }
        self.settle_dialog(id);
    }

    /// A re-INVITE whose session interval the peer won't have.
    pub(super) fn reinvite_too_short(&mut self, now: Instant, id: DialogId, response: &Response) {
        let longer = self.dialogs.get_mut(&id).and_then(|dialog| {
            let terms = dialog.session_terms()?.at_least(&response.headers)?;
            let OwnOffer::Pending { sdp, .. } = dialog.own_offer.clone() else {
                return None;
            };
            dialog.own_offer = OwnOffer::None;
            dialog.set_session(now, Some(terms));
            Some(sdp)
        });
        match longer {
            Some(sdp) => self.reinvite(now, id, sdp),
            None => self.reinvite_refused(now, id, response.status),
        }
    }

    /// A refresh was refused. Who knows timers is asked again before the session ends; of who doesn't, that
    /// he answers is all that we want to know.
    pub(super) fn count_as_life(&mut self, now: Instant, id: DialogId) {
        let Some(dialog) = self
            .dialogs
            .get_mut(&id)
            .filter(|dialog| !dialog.knows_timers)
        else {
            return;
        };
        if let Some(terms) = dialog.session_terms() {
            dialog.set_session(now, Some(terms));
            self.settle_dialog(id);
        }
    }

    pub(super) fn note_refresh(&mut self, id: DialogId) {
        self.tell(SipEvent::Refreshed { dialog: id });
    }

    /// The session timer that a request asks for, or that we want.
    pub(super) fn session_asked(&self, request: &Request) -> Option<Terms> {
        Terms::asked(request, self.config.session_interval).unwrap_or_default()
    }
}
