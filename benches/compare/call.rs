//! Placing calls over SIP: all participants behind one socket, as many phones behind one PBX.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use voicebridge::config::PerFamily;
use voicebridge::media::codec::Codec;
use voicebridge::media::parameters::Direction;
use voicebridge::sip::event::{DialogId, Flow, SipEvent};
use voicebridge::sip::sdp::{self, LocalMedia};
use voicebridge::sip::{Endpoint, EndpointConfig};

use crate::wire::address_of;

/// A call to be placed.
#[derive(Clone)]
pub(crate) struct Dial {
    /// Whose.
    pub(crate) index: usize,
    /// Where.
    pub(crate) uri: String,
    /// What it may be let in by.
    pub(crate) pin: Option<String>,
    /// The one codec that is offered.
    pub(crate) codec: Codec,
    /// It would tell the level of each packet (RFC 6464).
    pub(crate) levels: bool,
}

/// What was agreed on.
#[derive(Clone, Copy)]
pub(crate) struct Answered {
    /// Whose call.
    pub(crate) index: usize,
    /// Where it sends its packets.
    pub(crate) to: SocketAddrV4,
    /// Of which payload type.
    pub(crate) payload_type: u8,
    /// The server wants to know each packet's level.
    pub(crate) levels: bool,
}

/// A SIP endpoint with all the calls of a run.
pub(crate) struct Lines {
    socket: UdpSocket,
    flow: Flow,
    endpoint: Endpoint,
    rtp_port: u16,
    dialled: HashMap<DialogId, (Dial, LocalMedia)>,
    /// What was said on our side in the calls that are up.
    agreed: HashMap<DialogId, (Dial, LocalMedia)>,
    /// Refused for now, to be dialled again.
    again: Vec<(Instant, Dial)>,
    up: Vec<DialogId>,
    lost: usize,
}

impl Lines {
    /// For calls to one server, whose audio comes to `rtp_port` of each participant's own address.
    pub(crate) fn new(server: SocketAddr, rtp_port: u16) -> anyhow::Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_read_timeout(Some(Duration::from_millis(2)))?;
        socket.connect(server)?;
        let config = EndpointConfig {
            udp_contacts: vec![PerFamily::both(socket.local_addr()?.to_string())],
            ..EndpointConfig::default()
        };
        Ok(Self {
            socket,
            flow: Flow::Udp {
                socket: 0,
                peer: server,
            },
            endpoint: Endpoint::new(config, u64::from(rtp_port) << 16 | u64::from(server.port())),
            rtp_port,
            dialled: HashMap::new(),
            agreed: HashMap::new(),
            again: Vec::new(),
            up: Vec::new(),
            lost: 0,
        })
    }

    /// Places all calls, a few at a time; tells of each when it is answered.
    pub(crate) fn place(
        &mut self,
        dials: impl Iterator<Item = Dial>,
        mut answered: impl FnMut(Answered),
    ) -> anyhow::Result<()> {
        let mut dials = dials.peekable();
        let deadline = now() + Duration::from_secs(60);
        while dials.peek().is_some() || !self.dialled.is_empty() || !self.again.is_empty() {
            if now() > deadline {
                bail!("not all calls were answered within a minute");
            }
            while self.dialled.len() < AT_ONCE
                && let Some(dial) = dials.next()
            {
                self.dial(dial)?;
            }
            let due = |(at, _): &mut (Instant, Dial)| *at <= now();
            for (_, dial) in self.again.extract_if(.., due).collect::<Vec<_>>() {
                self.dial(dial)?;
            }
            self.step(&mut answered)?;
        }
        Ok(())
    }

    /// Answers what the server asks for so long; how many calls it has ended meanwhile.
    pub(crate) fn hold(&mut self, duration: Duration) -> anyhow::Result<usize> {
        let until = now() + duration;
        while now() < until {
            self.step(&mut |_| {})?;
        }
        Ok(self.lost)
    }

    /// The same, telling where calls are sent to instead.
    pub(crate) fn follow(
        &mut self,
        duration: Duration,
        mut answered: impl FnMut(Answered),
    ) -> anyhow::Result<()> {
        let until = now() + duration;
        while now() < until {
            self.step(&mut answered)?;
        }
        Ok(())
    }

    /// Ends all calls.
    pub(crate) fn hang_up(&mut self) -> anyhow::Result<()> {
        for dialogs in std::mem::take(&mut self.up).chunks(AT_ONCE) {
            for dialog in dialogs {
                self.endpoint.hang_up(now(), *dialog, NORMAL_CLEARING);
            }
            self.hold(Duration::from_millis(20))?;
        }
        self.hold(Duration::from_millis(200)).map(|_| ())
    }

    fn dial(&mut self, dial: Dial) -> anyhow::Result<()> {
        let local = LocalMedia {
            address: IpAddr::V4(address_of(dial.index)),
            other: None,
            by_other: false,
            rtp_port: self.rtp_port,
            codecs: vec![dial.codec],
            session_id: 1_000 + dial.index as u64,
            session_version: 1,
            direction: Direction::SendRecv,
            prefer_own_order: false,
            keys: None,
            handshake: None,
        };
        let from = format!("sip:caller{}@127.0.0.1", dial.index);
        let pin = dial.pin.clone().unwrap_or_default();
        let headers = [("X-Conf-PIN", pin.as_str())];
        let headers = if pin.is_empty() {
            &[][..]
        } else {
            &headers[..]
        };
        let mut offer = sdp::offer(&local).to_vec();
        if dial.levels {
            offer.extend_from_slice(LEVELS_OFFERED);
        }
        let offer = Some(offer.into());
        let dialog = self
            .endpoint
            .invite(now(), self.flow, &dial.uri, &from, offer, headers)
            .map_err(|error| anyhow::anyhow!("{error:?}"))?;
        self.dialled.insert(dialog, (dial, local));
        Ok(())
    }

    fn step(&mut self, answered: &mut impl FnMut(Answered)) -> anyhow::Result<()> {
        self.flush()?;
        let mut buffer = [0; 4_096];
        // A time-out is the usual way for this to end.
        if let Ok(length) = self.socket.recv(&mut buffer) {
            self.endpoint
                .handle_datagram(now(), self.flow, &buffer[..length]);
        }
        if self.endpoint.poll_timeout().is_some_and(|at| at <= now()) {
            self.endpoint.handle_timeout(now());
        }
        while let Some(event) = self.endpoint.poll_event() {
            self.take(event, answered)?;
        }
        self.flush()
    }

    fn take(&mut self, event: SipEvent, answered: &mut impl FnMut(Answered)) -> anyhow::Result<()> {
        match event {
            SipEvent::Established { dialog, sdp } => {
                if let Some((dial, local)) = self.dialled.remove(&dialog) {
                    let agreed = sdp::accept(&sdp, &local).context("an unusable answer")?;
                    let SocketAddr::V4(to) = agreed.remote_rtp else {
                        bail!("the answer names an IPv6 address");
                    };
                    self.up.push(dialog);
                    answered(Answered {
                        index: dial.index,
                        to,
                        payload_type: agreed.payload_type_send,
                        levels: sdp.windows(LEVELS.len()).any(|part| part == LEVELS),
                    });
                    self.agreed.insert(dialog, (dial, local));
                }
            }
            SipEvent::Failed {
                dialog,
                status: 503,
                ..
            } => {
                if let Some((dial, _)) = self.dialled.remove(&dialog) {
                    self.again.push((now() + AGAIN_AFTER, dial));
                }
            }
            SipEvent::Failed { status, .. } => bail!("a call was refused with {status}"),
            SipEvent::Bye { .. } | SipEvent::Lost { .. } | SipEvent::Cancelled { .. } => {
                self.lost += 1;
            }
            SipEvent::Reinvite { dialog, sdp } => match self.sent_elsewhere(dialog, sdp) {
                Some((there, body)) => {
                    self.endpoint.answer_reinvite(now(), dialog, body);
                    answered(there);
                }
                None => self.endpoint.reject_reinvite(now(), dialog, 488),
            },
            SipEvent::Invite { .. }
            | SipEvent::Provisional { .. }
            | SipEvent::Acknowledged { .. }
            | SipEvent::Info { .. }
            | SipEvent::OtherRealm { .. }
            | SipEvent::ReinviteFailed { .. }
            | SipEvent::Refreshed { .. }
            | SipEvent::Trunk { .. } => {}
        }
        Ok(())
    }

    /// Another offer of the server's: where its call is sent to from now on, and what we say to that.
    fn sent_elsewhere(&self, dialog: DialogId, offer: Option<Bytes>) -> Option<(Answered, Bytes)> {
        let (dial, local) = self.agreed.get(&dialog)?;
        let (agreed, body) = sdp::answer(&offer?, local).ok()?;
        let SocketAddr::V4(to) = agreed.remote_rtp else {
            return None;
        };
        let there = Answered {
            index: dial.index,
            to,
            payload_type: agreed.payload_type_send,
            levels: dial.levels,
        };
        Some((there, body))
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        while let Some(transmit) = self.endpoint.poll_transmit() {
            // What is lost here is sent again by the endpoint.
            let _sent = self.socket.send(&transmit.bytes);
        }
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "a bench is a shell")]
fn now() -> Instant {
    Instant::now()
}

/// The only audio line is the last, so that this belongs to it. Our own stack's offer, which only receives
/// levels, comes before and under another number.
const LEVELS_OFFERED: &[u8] =
    b"a=extmap:2/sendonly urn:ietf:params:rtp-hdrext:ssrc-audio-level vad=on\r\n";
const LEVELS: &[u8] = b"a=extmap:2/recvonly urn:ietf:params:rtp-hdrext:ssrc-audio-level";
/// Before a call is placed again that was one too many for the moment.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Calls that ring at the same time.
const AT_ONCE: usize = 16;
/// Q.850.
const NORMAL_CLEARING: u8 = 16;
