//! Signs of life that are ours to give (RFC 4028 section 10): UPDATE without SDP.

use std::time::Instant;

use crate::sip::compose::TIMER;
use crate::sip::endpoint::answers::contact_of;
use crate::sip::endpoint::{Endpoint, Purpose};
use crate::sip::event::DialogId;
use crate::sip::message::Response;

impl Endpoint {
    pub(super) fn send_refresh(&mut self, now: Instant, id: DialogId) {
        let branch = self.tokens.branch();
        let Some(dialog) = self.dialogs.get_mut(&id) else {
            return;
        };
        // Without a way the session lapses, unless the peer comes back by then.
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
            }
            422 => {
                if let Some(terms) = terms.at_least(&response.headers) {
                    dialog.set_session(now, Some(terms));
                    self.send_refresh(now, id);
                }
            }
            // The peer knows nothing of the call, or is gone (RFC 3261 section 12.2.1.2).
            408 | 481 => return self.lose(now, id),
            // Busy just now: tried again before the session ends.
            _ => {}
        }
        self.settle_dialog(id);
    }
}
