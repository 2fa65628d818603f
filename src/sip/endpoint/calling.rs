//! Calls that go out: to an address over a flow that is known, or by a trunk.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::sip::address::{NameAddr, Target};
use crate::sip::compose::SUPPORTED;
use crate::sip::dialog::{Cancel, Dialog, Origin, Stage};
use crate::sip::endpoint::answers::contact_of;
use crate::sip::endpoint::{Endpoint, Purpose};
use crate::sip::event::{DialogId, Flow, TrunkId};
use crate::sip::guard::is_token;
use crate::sip::session;
use crate::sip::transaction::TransactionId;

/// Why an INVITE was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InviteError {
    /// The target is no SIP URI.
    #[error("the target must be a SIP URI such as sip:100@192.0.2.1")]
    Target,
    /// From is no address.
    #[error("From must be an address such as <sip:probe@192.0.2.2>")]
    From,
    /// A header's name or value can't be written.
    #[error("a header has a name that is no token, or control characters in its value")]
    Header,
    /// The limit of dialogs is reached.
    #[error("too many calls")]
    Full,
    /// No way leads to the trunk.
    #[error("the trunk can't be reached")]
    NoWay,
}

/// Where a call of ours goes and how long it may take.
struct Outward {
    flow: Flow,
    /// Of our Via and Contact.
    host_port: String,
    trunk: Option<TrunkId>,
    /// What the INVITE has to pass on its way (RFC 3608).
    routes: Vec<String>,
    /// How long nothing at all may be heard of it.
    unheard: Duration,
}

impl Endpoint {
    /// Calls `target` over `flow`. `from` is an address without tag; `sdp` our offer. Told later:
    /// [`SipEvent::Provisional`], then [`SipEvent::Established`] or [`SipEvent::Failed`].
    ///
    /// [`SipEvent::Provisional`]: crate::sip::event::SipEvent::Provisional
    /// [`SipEvent::Established`]: crate::sip::event::SipEvent::Established
    /// [`SipEvent::Failed`]: crate::sip::event::SipEvent::Failed
    ///
    /// # Errors
    /// Nothing was sent, see [`InviteError`].
    pub fn invite(
        &mut self,
        now: Instant,
        flow: Flow,
        target: &str,
        from: &str,
        sdp: Option<Bytes>,
        headers: &[(&str, &str)],
    ) -> Result<DialogId, InviteError> {
        let host_port = self
            .advertised(flow)
            .unwrap_or("voicebridge.invalid")
            .to_owned();
        let outward = Outward {
            flow,
            host_port,
            trunk: None,
            routes: Vec::new(),
            unheard: self.config.timing.patience() + self.config.ring_time_max,
        };
        let from = check_invite(target, from, headers)?;
        self.begin_call(now, outward, target, &from, sdp.as_deref(), headers)
    }

    /// Calls `target` by a trunk, which is where the INVITE goes whatever host `target` names. Told later: as by
    /// [`Self::invite`].
    ///
    /// # Errors
    /// Nothing was sent, see [`InviteError`].
    pub fn invite_by(
        &mut self,
        now: Instant,
        trunk: TrunkId,
        target: &str,
        from: &str,
        sdp: &[u8],
    ) -> Result<DialogId, InviteError> {
        let (flow, host_port) = self.way_to(trunk).ok_or(InviteError::NoWay)?;
        let outward = Outward {
            flow,
            host_port,
            trunk: Some(trunk),
            routes: self.service_route(now, trunk),
            unheard: UNHEARD_MAX,
        };
        let wanted = self.config.session_interval;
        let expires = session::asked_of_them(wanted.unwrap_or(session::INTERVAL_WANTED));
        let least = session::MIN_SE.to_string();
        let headers = [("Session-Expires", expires.as_str()), ("Min-SE", &least)];
        let from = check_invite(target, from, &headers)?;
        self.begin_call(now, outward, target, &from, Some(sdp), &headers)
    }

    /// Is it we who called?
    #[must_use]
    pub fn is_ours(&self, dialog: DialogId) -> bool {
        self.dialogs.get(&dialog).is_some_and(|dialog| dialog.ours)
    }

    /// The Call-ID of a dialog.
    #[must_use]
    pub fn call_id(&self, dialog: DialogId) -> Option<&str> {
        Some(self.dialogs.get(&dialog)?.key.call_id.as_str())
    }

    fn begin_call(
        &mut self,
        now: Instant,
        outward: Outward,
        target: &str,
        from: &NameAddr,
        sdp: Option<&[u8]>,
        headers: &[(&str, &str)],
    ) -> Result<DialogId, InviteError> {
        if self.dialogs.len() >= self.config.limits.dialogs {
            return Err(InviteError::Full);
        }
        let (id, flow) = (self.next_dialog_id(), outward.flow);
        let tag = self.tokens.fresh();
        let origin = Origin {
            uri: target.to_owned(),
            routes: outward.routes,
            from: format!("<{}>;tag={tag}", from.uri),
            to: format!("<{target}>"),
            call_id: self.tokens.fresh(),
            tag,
            cseq: 0,
        };
        let calling = |invite| Stage::Calling {
            invite,
            cancel: Cancel::Unwanted { provisional: false },
            ends: now + outward.unheard,
        };
        let stage = calling(TransactionId(0));
        let mut dialog = Dialog::outgoing(now, id, origin, flow, outward.host_port.clone(), stage);
        dialog.trunk = outward.trunk;
        dialog.described = sdp.map(Bytes::copy_from_slice).unwrap_or_default();
        let head = dialog.request(self.tokens.branch(), flow, None);
        let contact = contact_of(&dialog);
        let headers = [&[("Supported", SUPPORTED)], headers].concat();
        let purpose = Purpose::Invite(id);
        let invite = self.start_invite(now, head, &contact, &headers, sdp, purpose);
        dialog.stage = calling(invite);
        self.insert_dialog(dialog);
        Ok(id)
    }
}

fn check_invite(
    target: &str,
    from: &str,
    headers: &[(&str, &str)],
) -> Result<NameAddr, InviteError> {
    let printable = |text: &str| !text.contains(char::is_control);
    match Target::parse(target) {
        Ok(parsed) if parsed.is_sip() && printable(target) => {}
        Ok(_) | Err(_) => return Err(InviteError::Target),
    }
    if !headers
        .iter()
        .all(|(name, value)| is_token(name) && printable(value))
    {
        return Err(InviteError::Header);
    }
    let from = NameAddr::parse(from)
        .filter(|from| printable(&from.uri))
        .ok_or(InviteError::From)?;
    match Target::parse(&from.uri) {
        Ok(_) => Ok(from),
        Err(_) => Err(InviteError::From),
    }
}

/// How long a trunk may say nothing at all to a call; whoever is there says 100 at once.
pub(super) const UNHEARD_MAX: Duration = Duration::from_secs(8);
