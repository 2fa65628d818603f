//! Ends: hanging up, connections that close, timers that run out.

use std::time::Instant;

use crate::sip::compose::Reply;
use crate::sip::dialog::{Bye, Cancel, Due, OwnOffer, PeerOffer, Stage};
use crate::sip::endpoint::{ClientMachine, Endpoint, Purpose, ServerMachine, Timer};
use crate::sip::event::{ConnectionId, DialogId, Flow, SipEvent};
use crate::sip::transaction::{Fired, TransactionId};

/// What an INVITE is refused with whose provisional answer was never acknowledged (RFC 3262 section 3).
const NO_PRACK: u16 = 504;
/// Q.850: recovery on timer expiry.
const TIMER_EXPIRED: u8 = 102;

impl Endpoint {
    /// Ends a call in whatever state: BYE with Reason (RFC 3326), CANCEL, or a refusal. Nothing more is heard
    /// of the dialog.
    pub fn hang_up(&mut self, now: Instant, dialog: DialogId, q850: u8) {
        let Some(call) = self.dialogs.get_mut(&dialog) else {
            return;
        };
        match &mut call.stage {
            Stage::Ringing => self.reject(now, dialog, refusal_of(q850), None, None),
            Stage::Calling { cancel, .. } => match cancel {
                Cancel::Unwanted { provisional: true } => self.send_cancel(now, dialog),
                Cancel::Unwanted { provisional: false } => self.cancel_later(now, dialog),
                Cancel::Wanted | Cancel::Sent => {}
            },
            Stage::Confirmed => match call.peer_offer {
                // The called side must not send BYE before the ACK (RFC 3261 section 15).
                PeerOffer::Answered(_) => {
                    let bye = Bye::AfterAck;
                    call.stage = Stage::Leaving { q850, bye };
                }
                PeerOffer::None | PeerOffer::Waiting { .. } => self.send_bye(now, dialog, q850),
            },
            Stage::Leaving { .. } => {}
        }
    }

    /// A connection is closed. Calls that were not set up yet end; those that are go on without signalling
    /// until the peer comes back with a new connection, or hangs up by falling silent: proxies close idle
    /// connections under calls in progress.
    pub fn handle_closed(&mut self, now: Instant, connection: ConnectionId) {
        self.connections.remove(&connection);
        self.proven.remove(&connection);
        self.schedule.set(Timer::Connection(connection), None);
        let gone = |flow: Flow| flow.connection() == Some(connection);
        let clients: Vec<TransactionId> = self
            .clients
            .iter()
            .filter(|(_, entry)| gone(entry.head.flow))
            .map(|(id, _)| *id)
            .collect();
        for id in clients {
            self.fail_client(now, id, 503);
        }
        let servers: Vec<TransactionId> = self
            .servers
            .iter()
            .filter(|(_, entry)| gone(entry.flow))
            .map(|(id, _)| *id)
            .collect();
        for id in servers {
            self.forget_server(id);
        }
        let dialogs: Vec<DialogId> = self
            .dialogs
            .iter()
            .filter(|(_, dialog)| dialog.flow.is_some_and(gone))
            .map(|(id, _)| *id)
            .collect();
        for id in dialogs {
            self.dialog_lost_its_way(id);
        }
        self.trunks_lost(gone);
    }

    /// Is somebody being told that his call is over, or that he isn't called any more, who hasn't answered yet?
    pub fn is_taking_leave(&self) -> bool {
        let mut calls = self.dialogs.values();
        calls.any(|call| {
            matches!(
                call.stage,
                Stage::Leaving { .. }
                    | Stage::Calling {
                        cancel: Cancel::Wanted | Cancel::Sent,
                        ..
                    }
            )
        })
    }

    pub(super) fn send_bye(&mut self, now: Instant, id: DialogId, q850: u8) {
        let branch = self.tokens.branch();
        let patience = self.config.timing.patience();
        let Some(dialog) = self.dialogs.get_mut(&id) else {
            return;
        };
        // However often its ways break: the time for it is counted from the first one on.
        let until = match dialog.stage {
            Stage::Leaving {
                bye: Bye::Sent { until } | Bye::Unsent { until },
                ..
            } => until,
            Stage::Ringing | Stage::Calling { .. } | Stage::Confirmed | Stage::Leaving { .. } => {
                now + patience
            }
        };
        let bye = Bye::Sent { until };
        dialog.stage = Stage::Leaving { q850, bye };
        dialog.set_session(now, None);
        if matches!(dialog.own_offer, OwnOffer::Later { .. }) {
            dialog.own_offer = OwnOffer::None;
        }
        let offer = std::mem::replace(&mut dialog.peer_offer, PeerOffer::None);
        let head = dialog.flow.map(|flow| dialog.request(branch, flow, None));
        if let PeerOffer::Waiting { transaction, .. } = offer {
            self.respond(
                now,
                transaction,
                &Reply {
                    status: 487,
                    ..Reply::default()
                },
            );
        }
        let Some(head) = head else {
            return self.await_way(id);
        };
        let reason = format!("Q.850;cause={q850}");
        self.start_other(
            now,
            head,
            "BYE",
            &[("Reason", &reason)],
            None,
            Purpose::Bye(id),
        );
        self.settle_dialog(id);
    }

    /// Our BYE can't be sent: in a call by a trunk it waits for the next way there.
    fn await_way(&mut self, id: DialogId) {
        let call = self.dialogs.get_mut(&id);
        let Some(call) = call.filter(|call| call.trunk.is_some()) else {
            return self.remove_dialog(id);
        };
        if let Stage::Leaving {
            q850,
            bye: Bye::Sent { until },
        } = call.stage
        {
            let bye = Bye::Unsent { until };
            call.stage = Stage::Leaving { q850, bye };
        }
        self.settle_dialog(id);
    }

    /// The connection that our BYE went by is gone, and maybe our BYE with it.
    fn bye_lost(&mut self, now: Instant, id: DialogId, by: Flow) {
        if self.dialogs.get(&id).and_then(|call| call.flow) == Some(by) {
            self.leave_way(id);
        }
        self.await_way(id);
        self.send_waiting_bye(now, id);
    }

    /// Sends a BYE that has waited for a way, if there is one now.
    pub(super) fn send_waiting_bye(&mut self, now: Instant, id: DialogId) {
        let Some(call) = self.dialogs.get(&id).filter(|call| call.flow.is_some()) else {
            return;
        };
        if let Stage::Leaving {
            q850,
            bye: Bye::Unsent { .. },
        } = call.stage
        {
            self.send_bye(now, id, q850);
        }
    }

    /// Takes an INVITE of ours back (RFC 3261 section 9.1).
    pub(super) fn send_cancel(&mut self, now: Instant, id: DialogId) {
        let patience = self.config.timing.patience();
        let Some(Stage::Calling {
            invite,
            cancel,
            ends,
        }) = self.dialogs.get_mut(&id).map(|d| &mut d.stage)
        else {
            return;
        };
        *cancel = Cancel::Sent;
        *ends = now + patience;
        let invite = *invite;
        self.settle_dialog(id);
        if let Some(head) = self.clients.get(&invite).map(|entry| entry.head.clone()) {
            self.start_other(now, head, "CANCEL", &[], None, Purpose::Anything);
        }
    }

    /// Gives a call up that the other side seems to have forgotten.
    pub(super) fn lose(&mut self, now: Instant, id: DialogId) {
        let Some(dialog) = self.dialogs.get(&id) else {
            return;
        };
        let leaving = matches!(dialog.stage, Stage::Leaving { .. });
        self.send_bye(now, id, TIMER_EXPIRED);
        if !leaving {
            self.tell(SipEvent::Lost { dialog: id });
        }
    }

    pub(super) fn server_timeout(&mut self, now: Instant, id: TransactionId) {
        let Some(entry) = self.servers.get_mut(&id) else {
            return;
        };
        let fired = match &mut entry.machine {
            ServerMachine::Invite(machine) => machine.handle_timeout(now),
            ServerMachine::Other(machine) => machine.handle_timeout(now),
        };
        let (flow, is_weighed) = (entry.flow, entry.is_weighed);
        if let Fired::Again(bytes) = fired
            && !is_weighed
        {
            self.repeat(flow, bytes);
        }
        self.settle_server(id);
    }

    pub(super) fn client_timeout(&mut self, now: Instant, id: TransactionId) {
        let Some(entry) = self.clients.get_mut(&id) else {
            return;
        };
        let fired = match &mut entry.machine {
            ClientMachine::Invite(machine) => machine.handle_timeout(now),
            ClientMachine::Other(machine) => machine.handle_timeout(now),
        };
        let (flow, purpose) = (entry.head.flow, entry.purpose);
        match fired {
            Fired::Nothing => self.settle_client(id),
            Fired::Again(bytes) => {
                self.ask_repeatedly(purpose, flow, bytes);
                self.settle_client(id);
            }
            Fired::TimedOut => self.fail_client(now, id, 408),
        }
    }

    pub(super) fn dialog_timeout(&mut self, now: Instant, id: DialogId) {
        let timing = self.config.timing;
        while let Some(dialog) = self.dialogs.get_mut(&id) {
            let (flow, leaving) = (dialog.flow, dialog.stage.clone());
            match dialog.handle_timeout(now, &timing) {
                Due::Nothing => break,
                Due::Repeat(bytes) => {
                    if let Some(flow) = flow {
                        self.send_again(Some(id), flow, bytes);
                    }
                }
                Due::NoAck if flow.is_some_and(|flow| self.is_weighed(Some(id), flow)) => {
                    self.never_was_there(id);
                }
                Due::NoAck => match leaving {
                    Stage::Leaving { q850, .. } => self.send_bye(now, id, q850),
                    Stage::Ringing | Stage::Calling { .. } | Stage::Confirmed => self.lose(now, id),
                },
                Due::NoPrack => {
                    self.reject(now, id, NO_PRACK, None, None);
                    self.tell(SipEvent::Lost { dialog: id });
                }
                Due::Expired => self.lose(now, id),
                Due::Refresh => self.send_refresh(now, id),
                Due::Reinvite(sdp) => self.reinvite(now, id, sdp),
                Due::NoAnswer(transaction) => {
                    self.abandon_invite(transaction);
                    if leaving == Stage::Confirmed {
                        self.tell(SipEvent::ReinviteFailed {
                            dialog: id,
                            status: 408,
                        });
                    }
                }
                Due::CallingTooLong => self.stop_calling(now, id),
                Due::NoWay => self.remove_dialog(id),
            }
        }
        self.settle_dialog(id);
    }

    /// Nobody has shown that he got our answer: there is nobody to say goodbye to.
    fn never_was_there(&mut self, id: DialogId) {
        let call = self.dialogs.get(&id);
        let is_leaving = call.is_some_and(|call| matches!(call.stage, Stage::Leaving { .. }));
        self.remove_dialog(id);
        if !is_leaving {
            self.tell(SipEvent::Lost { dialog: id });
        }
    }

    /// Our INVITE rang too long: CANCEL. Its CANCEL stayed without effect: forget it.
    fn stop_calling(&mut self, now: Instant, id: DialogId) {
        let Some(Stage::Calling { cancel, invite, .. }) =
            self.dialogs.get(&id).map(|dialog| dialog.stage.clone())
        else {
            return;
        };
        match cancel {
            Cancel::Unwanted { provisional } => {
                if provisional {
                    self.send_cancel(now, id);
                } else {
                    self.cancel_later(now, id);
                }
                self.tell(SipEvent::Failed {
                    dialog: id,
                    status: 408,
                    q850: None,
                    heard: provisional,
                    pause: None,
                });
            }
            Cancel::Wanted | Cancel::Sent => {
                self.abandon_invite(invite);
                self.remove_dialog(id);
            }
        }
    }

    /// Nothing was heard of our INVITE yet: only what will be can be cancelled (RFC 3261 section 9.1).
    fn cancel_later(&mut self, now: Instant, id: DialogId) {
        let patience = self.config.timing.patience();
        if let Some(Stage::Calling { cancel, ends, .. }) =
            self.dialogs.get_mut(&id).map(|call| &mut call.stage)
        {
            *cancel = Cancel::Wanted;
            *ends = now + patience;
        }
    }

    /// Forgets an INVITE of ours that got a provisional answer and will get no final one.
    pub(super) fn abandon_invite(&mut self, id: TransactionId) {
        if let Some(entry) = self.clients.get_mut(&id)
            && let ClientMachine::Invite(machine) = &mut entry.machine
        {
            machine.abandon();
            self.settle_client(id);
        }
    }

    /// A request of ours has no answer and will get none.
    fn fail_client(&mut self, now: Instant, id: TransactionId, status: u16) {
        let Some(entry) = self.clients.remove(&id) else {
            return;
        };
        self.client_keys.remove(&entry.key);
        self.settle_client(id);
        match entry.purpose {
            Purpose::Invite(dialog) => self.invite_refused(dialog, status, None, false, None),
            // After a closed connection the call itself may go on.
            Purpose::Reinvite(dialog) if status == 503 => {
                self.reinvite_refused(now, dialog, status)
            }
            Purpose::Reinvite(dialog) => self.reinvite_refused(now, dialog, 408),
            Purpose::Info(dialog) | Purpose::Refresh(dialog) if status == 408 => {
                self.lose(now, dialog)
            }
            Purpose::Bye(dialog) if status == 503 => self.bye_lost(now, dialog, entry.head.flow),
            Purpose::Bye(dialog) => self.remove_dialog(dialog),
            // What was asked of the place before says nothing of this one.
            Purpose::Register(trunk) | Purpose::Qualify(trunk)
                if !self.leads_to(trunk, entry.head.flow) => {}
            Purpose::Register(trunk) => self.register_unanswered(now, trunk),
            Purpose::Qualify(trunk) => self.not_qualified(now, trunk),
            Purpose::Acknowledge(_)
            | Purpose::Info(_)
            | Purpose::Refresh(_)
            | Purpose::Look(_)
            | Purpose::Branch(_)
            | Purpose::Anything => {}
        }
    }

    fn forget_server(&mut self, id: TransactionId) {
        let Some(entry) = self.servers.remove(&id) else {
            return;
        };
        self.server_keys.remove(&entry.key);
        if let Some(merge_key) = &entry.merge_key {
            self.merge_keys.remove(merge_key);
        }
        self.settle_server(id);
        if let Some(dialog) = entry.dialog.and_then(|id| self.dialogs.get_mut(&id))
            && dialog.stage != Stage::Ringing
            && matches!(dialog.peer_offer, PeerOffer::Waiting { transaction, .. } if transaction == id)
        {
            dialog.peer_offer = PeerOffer::None;
        }
    }

    fn dialog_lost_its_way(&mut self, id: DialogId) {
        let Some(dialog) = self.dialogs.get(&id) else {
            return;
        };
        match dialog.stage {
            Stage::Confirmed => self.leave_way(id),
            Stage::Leaving { .. } if dialog.trunk.is_some() => self.leave_way(id),
            Stage::Leaving { .. } => self.remove_dialog(id),
            Stage::Ringing => {
                self.remove_dialog(id);
                self.tell(SipEvent::Lost { dialog: id });
            }
            Stage::Calling { .. } => self.invite_refused(id, 503, None, false, None),
        }
    }

    /// The way that its trunk is called by is one for a call too; where that is gone itself, the next one.
    fn leave_way(&mut self, id: DialogId) {
        let Some(dialog) = self.dialogs.get_mut(&id) else {
            return;
        };
        let trunk = dialog.trunk.and_then(|trunk| self.trunks.get(trunk.0));
        let way = trunk.and_then(|trunk| trunk.way()).map(|(flow, _)| flow);
        dialog.flow = way.filter(|way| Some(*way) != dialog.flow);
    }
}

/// The refusal that says the same as a Q.850 cause (RFC 3398 section 8.2.6.1, read backwards).
const fn refusal_of(q850: u8) -> u16 {
    match q850 {
        1..=3 => 404,
        17 => 486,
        21 => 603,
        22 | 28 => 410,
        34 | 38 | 41 | 42 | 47 => 503,
        57 | 87 => 403,
        58 | 65 | 70 | 79 | 88 => 488,
        _ => 480,
    }
}
