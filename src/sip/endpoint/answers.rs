//! What the gateway does with calls that came in.

use std::time::Instant;

use bytes::Bytes;

use crate::sip::compose::{ALLOW, RELIABLE, Reply, SDP, SUPPORTED, TIMER};
use crate::sip::dialog::{Asked, Dialog, OwnOffer, PeerOffer, Stage};
use crate::sip::endpoint::Endpoint;
use crate::sip::event::{DialogId, Flow};
use crate::sip::provisional::Provisional;
use crate::sip::session::{Refresher, Terms};
use crate::sip::transaction::TransactionId;

impl Endpoint {
    /// 180 Ringing. To who requires that it arrives (RFC 3262), repeated until his PRACK; not at all if he
    /// left the offer to us, since the first answer that arrives would have to bring it (section 5).
    pub fn ring(&mut self, now: Instant, id: DialogId) {
        let Some((transaction, contact)) = self.ringing(id) else {
            return;
        };
        let Some(dialog) = self.dialogs.get(&id) else {
            return;
        };
        let (number, cseq) = match (&dialog.provisional, &dialog.peer_offer) {
            (Provisional::Unreliable, _) => (None, 0),
            (Provisional::Required, PeerOffer::Waiting { cseq, asked, .. })
                if *asked != Asked::Offer =>
            {
                let random = self.tokens.below(1 << 31) as u32;
                (Some(random.max(1)), *cseq)
            }
            (Provisional::Required | Provisional::Sent(_), _) => return,
        };
        let rseq = number.map(|number| number.to_string());
        let mut headers = vec![("Contact", contact.as_str()), ("Allow", ALLOW)];
        if let Some(rseq) = &rseq {
            headers.extend([("Require", RELIABLE), ("RSeq", rseq.as_str())]);
        }
        let reply = Reply {
            status: 180,
            headers: &headers,
            opens_dialog: true,
            ..Reply::default()
        };
        let sent = self.respond(now, transaction, &reply);
        let timing = self.config.timing;
        if let (Some(bytes), Some(number), Some(dialog)) = (sent, number, self.dialogs.get_mut(&id))
        {
            dialog.provisional = Provisional::sent(now, number, cseq, bytes, &timing);
        }
        self.settle_dialog(id);
    }

    /// 200 with our answer, or with our offer where the INVITE had none. Repeated until the ACK, which is
    /// told as [`SipEvent::Acknowledged`]; without one the call is [`SipEvent::Lost`].
    ///
    /// [`SipEvent::Acknowledged`]: crate::sip::event::SipEvent::Acknowledged
    /// [`SipEvent::Lost`]: crate::sip::event::SipEvent::Lost
    pub fn answer(&mut self, now: Instant, dialog: DialogId, sdp: Bytes) {
        if self.ringing(dialog).is_some() {
            self.accept_offer(now, dialog, sdp);
        }
    }

    /// Refuses a call with 300 to 699. The dialog is gone. `warning` is a text for whoever traces the call.
    pub fn reject(
        &mut self,
        now: Instant,
        dialog: DialogId,
        status: u16,
        retry_after: Option<u32>,
        warning: Option<&str>,
    ) {
        let Some((transaction, _)) = self.ringing(dialog) else {
            return;
        };
        let host = self
            .dialogs
            .get(&dialog)
            .map(|dialog| dialog.host_port.clone())
            .unwrap_or_default();
        let retry_after = retry_after.map(|seconds| seconds.to_string());
        let warning = warning.map(|text| {
            let text: String = text
                .chars()
                .filter(|c| !c.is_control() && !matches!(c, '"' | '\\'))
                .collect();
            format!("399 {host} \"{text}\"")
        });
        let headers: Vec<(&str, &str)> = [("Retry-After", &retry_after), ("Warning", &warning)]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.as_deref()?)))
            .collect();
        let status = if (300..700).contains(&status) {
            status
        } else {
            500
        };
        self.respond(
            now,
            transaction,
            &Reply {
                status,
                headers: &headers,
                ..Reply::default()
            },
        );
        self.remove_dialog(dialog);
    }

    /// 200 to a re-INVITE or UPDATE.
    pub fn answer_reinvite(&mut self, now: Instant, dialog: DialogId, sdp: Bytes) {
        if self.reinviting(dialog).is_some() {
            self.accept_offer(now, dialog, sdp);
        }
    }

    /// Refuses a re-INVITE or UPDATE; the call goes on as before.
    pub fn reject_reinvite(&mut self, now: Instant, dialog: DialogId, status: u16) {
        let Some(transaction) = self.reinviting(dialog) else {
            return;
        };
        if let Some(call) = self.dialogs.get_mut(&dialog) {
            call.peer_offer = PeerOffer::None;
        }
        let status = if (300..700).contains(&status) {
            status
        } else {
            488
        };
        self.respond(
            now,
            transaction,
            &Reply {
                status,
                ..Reply::default()
            },
        );
    }

    /// 200 to an UPDATE without SDP.
    pub(super) fn answer_refresh(
        &mut self,
        now: Instant,
        id: DialogId,
        transaction: TransactionId,
        session: Option<Terms>,
    ) {
        let Some(dialog) = self.dialogs.get_mut(&id) else {
            return;
        };
        dialog.set_session(now, session);
        let (contact, expires) = (contact_of(dialog), session.map(Terms::answered));
        let mut headers = vec![("Contact", contact.as_str()), ("Supported", SUPPORTED)];
        if let Some(expires) = &expires {
            headers.push(("Session-Expires", expires.as_str()));
        }
        // Who is to refresh must know how (RFC 4028 section 9).
        if session.is_some_and(|terms| terms.refresher == Refresher::Peer) {
            headers.push(("Require", TIMER));
        }
        self.respond(
            now,
            transaction,
            &Reply {
                status: 200,
                headers: &headers,
                ..Reply::default()
            },
        );
        if session.is_some() {
            self.note_refresh(id);
        }
        self.settle_dialog(id);
    }

    fn accept_offer(&mut self, now: Instant, id: DialogId, sdp: Bytes) {
        let timing = self.config.timing;
        let Some(dialog) = self.dialogs.get_mut(&id) else {
            return;
        };
        let PeerOffer::Waiting {
            transaction,
            cseq,
            session,
            asked,
        } = dialog.peer_offer
        else {
            return;
        };
        dialog.peer_offer = PeerOffer::None;
        let (contact, expires) = (contact_of(dialog), session.map(Terms::answered));
        let mut headers = vec![
            ("Contact", contact.as_str()),
            ("Allow", ALLOW),
            ("Supported", SUPPORTED),
            ("Content-Type", SDP),
        ];
        if let Some(expires) = &expires {
            headers.push(("Session-Expires", expires.as_str()));
        }
        // Who is to refresh must know how (RFC 4028 section 9).
        if session.is_some_and(|terms| terms.refresher == Refresher::Peer) {
            headers.push(("Require", TIMER));
        }
        let reply = Reply {
            status: 200,
            headers: &headers,
            body: Some(&sdp),
            opens_dialog: true,
            ..Reply::default()
        };
        let sent = self.respond(now, transaction, &reply);
        let Some(dialog) = self.dialogs.get_mut(&id) else {
            return;
        };
        let is_refresh = session.is_some() && dialog.stage == Stage::Confirmed;
        if let Some(bytes) = sent {
            dialog.set_session(now, session);
            // An offer of ours that waits its turn would take back what is agreed now.
            if let OwnOffer::Later { sdp: waits, .. } = &mut dialog.own_offer {
                *waits = sdp.clone();
            }
            dialog.described = sdp;
            if asked != Asked::AnswerWithoutAck {
                dialog.await_ack(now, cseq, asked, bytes, &timing);
            }
            if dialog.stage == Stage::Ringing {
                dialog.stage = Stage::Confirmed;
            }
        }
        if is_refresh {
            self.note_refresh(id);
        }
        self.settle_dialog(id);
    }

    /// The INVITE of a call that rings, and our Contact.
    pub(super) fn ringing(&self, id: DialogId) -> Option<(TransactionId, String)> {
        let dialog = self
            .dialogs
            .get(&id)
            .filter(|dialog| dialog.stage == Stage::Ringing)?;
        Some((waiting(dialog)?, contact_of(dialog)))
    }

    fn reinviting(&self, id: DialogId) -> Option<TransactionId> {
        waiting(
            self.dialogs
                .get(&id)
                .filter(|dialog| dialog.stage == Stage::Confirmed)?,
        )
    }
}

fn waiting(dialog: &Dialog) -> Option<TransactionId> {
    match dialog.peer_offer {
        PeerOffer::Waiting { transaction, .. } => Some(transaction),
        PeerOffer::None | PeerOffer::Answered(_) => None,
    }
}

/// Our Contact in this dialog.
pub(super) fn contact_of(dialog: &Dialog) -> String {
    let transport = dialog.flow.map_or("", Flow::contact_param);
    let scheme = if dialog.sips { "sips" } else { "sip" };
    format!("<{scheme}:{}{transport}>", dialog.host_port)
}
