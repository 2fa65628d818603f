//! Requests of ours that are sent once more because of what was answered: with credentials, or with a longer
//! session interval.
//!
//! Credentials go into a request of a call by a trunk only where the request went to that trunk, the challenge
//! came from there, and it is for the trunk's realm: the one that is configured, or the one that its registrar
//! has proven to be its own. Whoever else asks for them gets none, whatever he says he is.

use std::time::Instant;

use crate::sip::compose::{has_header, header_of};
use crate::sip::dialog::{Cancel, OwnOffer, Stage};
use crate::sip::digest::Challenge;
use crate::sip::endpoint::calling::UNHEARD_MAX;
use crate::sip::endpoint::{ClientEntry, Endpoint, Purpose};
use crate::sip::event::{DialogId, Flow, SipEvent, TrunkId};
use crate::sip::message::Response;
use crate::sip::session;
use crate::sip::transaction::TransactionId;

impl Purpose {
    /// The dialog that it is for, if it is for one.
    pub(super) const fn dialog(self) -> Option<DialogId> {
        match self {
            Self::Invite(dialog)
            | Self::Reinvite(dialog)
            | Self::Acknowledge(dialog)
            | Self::Info(dialog)
            | Self::Refresh(dialog)
            | Self::Look(dialog)
            | Self::Bye(dialog) => Some(dialog),
            Self::Register(_) | Self::Qualify(_) | Self::Branch(_) | Self::Anything => None,
        }
    }
}

impl Endpoint {
    /// A final answer came by `flow`; true: what was asked is asked again.
    pub(super) fn ask_again(
        &mut self,
        now: Instant,
        id: TransactionId,
        flow: Flow,
        response: &Response,
    ) -> bool {
        let purpose = self.clients.get(&id).map(|entry| entry.purpose);
        // Registrations see to themselves, and what is for no trunk has nothing to answer with.
        if purpose.is_none_or(|purpose| self.trunk_for(purpose).is_none()) {
            return false;
        }
        let replaced = match response.status {
            401 | 407 => self.credentials(id, flow, response),
            422 => self.longer_session(id, response),
            _ => return false,
        };
        match replaced {
            Some(replaced) => self.send_again_as_another(now, id, &replaced),
            None => {
                self.counters.refuse("answer to a request of ours");
                false
            }
        }
    }

    /// In a call by a trunk: does somebody ask for credentials whom nothing was sent to? He isn't listened to, and
    /// whoever was asked may still answer.
    pub(super) fn is_strangers_challenge(
        &self,
        id: TransactionId,
        from: Flow,
        status: u16,
    ) -> bool {
        let Some(asked) = self.clients.get(&id) else {
            return false;
        };
        matches!(status, 401 | 407)
            && self.trunk_for(asked.purpose).is_some()
            && asked.head.flow.peer() != from.peer()
    }

    /// The trunk of the call that a request is for.
    fn trunk_for(&self, purpose: Purpose) -> Option<TrunkId> {
        if let Purpose::Branch(trunk) = purpose {
            return trunk;
        }
        self.dialogs.get(&purpose.dialog()?)?.trunk
    }

    fn credentials(
        &mut self,
        id: TransactionId,
        flow: Flow,
        response: &Response,
    ) -> Option<Vec<(&'static str, String)>> {
        let cnonce = self.tokens.fresh();
        let entry = self.clients.get(&id)?;
        let asks = self.trunk_for(entry.purpose)?;
        let trunk = self.trunks.get(asks.0)?;
        if !(trunk.is_at(entry.head.flow) && trunk.is_at(flow)) {
            return None;
        }
        let (credentials, realm) = trunk.credentials()?;
        let find = |realm| Challenge::find(response.status, &response.headers, realm);
        let challenge = find(Some(realm));
        if let (None, Some(other)) = (&challenge, find(None)) {
            let (asked, ours) = (other.realm, realm.to_owned());
            self.tell(SipEvent::OtherRealm {
                trunk: asks,
                asked,
                ours,
            });
            return None;
        }
        let mut challenge = challenge?;
        let was_answered = has_header(entry.machine.request(), challenge.header());
        if entry.repeats >= REPEATS_MAX || (was_answered && !challenge.stale) {
            return None;
        }
        let method = response.cseq_method.as_str();
        Some(vec![challenge.answer(
            credentials,
            method,
            &entry.head.uri,
            &cnonce,
        )])
    }

    /// RFC 4028 section 7.4.
    fn longer_session(
        &self,
        id: TransactionId,
        response: &Response,
    ) -> Option<Vec<(&'static str, String)>> {
        let entry = self.clients.get(&id)?;
        let least = session::least(&response.headers)?;
        let asked = header_of(entry.machine.request(), "Session-Expires");
        let is_longer = least > asked.and_then(session::seconds_of)?;
        let is_invite = matches!(entry.purpose, Purpose::Invite(_));
        (is_invite && is_longer && entry.repeats < REPEATS_MAX).then(|| {
            vec![
                ("Session-Expires", session::asked_of_them(least)),
                ("Min-SE", least.to_string()),
            ]
        })
    }

    fn send_again_as_another(
        &mut self,
        now: Instant,
        id: TransactionId,
        replaced: &[(&'static str, String)],
    ) -> bool {
        let branch = self.tokens.branch();
        let Some(ClientEntry {
            head,
            purpose,
            repeats,
            machine,
            key,
            ..
        }) = self.clients.get(&id)
        else {
            return false;
        };
        let (purpose, repeats) = (*purpose, repeats + 1);
        let call = purpose.dialog().map(|dialog| self.dialogs.get_mut(&dialog));
        let cseq = match call {
            Some(Some(call)) => call.next_cseq(),
            // It was over before it was answered.
            Some(None) => return false,
            // A branch has no other requests than this one.
            None => head.cseq + 1,
        };
        let method = key.split_once(' ').map_or("", |(_, method)| method);
        let (mut head, method) = (head.clone(), method.to_owned());
        (head.branch, head.cseq) = (branch, cseq);
        let replaced: Vec<(&str, &str)> = replaced
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let bytes = head.compose_again(&method, machine.request(), &replaced);
        let next = self.launch(now, head, &method, bytes, purpose, repeats);
        self.note_next(now, purpose, next);
        true
    }

    /// The call goes on with another transaction in its INVITE's place.
    fn note_next(&mut self, now: Instant, purpose: Purpose, next: TransactionId) {
        let for_ever = self.config.timing.patience() + self.config.ring_time_max;
        let Some(call) = purpose
            .dialog()
            .and_then(|dialog| self.dialogs.get_mut(&dialog))
        else {
            return;
        };
        let unheard = call.trunk.map_or(for_ever, |_| UNHEARD_MAX);
        let ends = now + unheard;
        match (purpose, &mut call.own_offer) {
            (Purpose::Invite(_), _) => {
                call.early.clear();
                call.stage = Stage::Calling {
                    invite: next,
                    cancel: Cancel::Unwanted { provisional: false },
                    ends,
                };
            }
            (Purpose::Reinvite(_), OwnOffer::Pending { transaction, .. }) => *transaction = next,
            (
                Purpose::Reinvite(_)
                | Purpose::Acknowledge(_)
                | Purpose::Info(_)
                | Purpose::Refresh(_)
                | Purpose::Look(_)
                | Purpose::Bye(_)
                | Purpose::Register(_)
                | Purpose::Qualify(_)
                | Purpose::Branch(_)
                | Purpose::Anything,
                _,
            ) => {}
        }
        let id = call.id;
        self.settle_dialog(id);
    }
}

/// How often one request is sent anew: a proxy's challenge, the peer's, an old nonce, a longer session.
const REPEATS_MAX: u8 = 4;
