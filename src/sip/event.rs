//! What the SIP endpoint tells the gateway, and what the gateway hands it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;

use crate::booking::{CallerNumber, Pin, Verstat};
use crate::sip::limits::host_of;
use crate::sip::registration::Refused;

/// One INVITE dialog, ours or theirs. Never reused within a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DialogId(pub u64);

/// A connection, numbered by the shell. Never reused within a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// A trunk, by its place in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrunkId(pub usize);

/// How a trunk's registration stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrunkState {
    /// Its registrar knows where we are.
    Up,
    /// Its registrar refuses us, or doesn't answer; asked again later. A registration from before may still
    /// be good until it lapses.
    Refused(Refused),
    /// It doesn't know us any more.
    Lapsed,
    /// The connection to it is gone: a new way is to be found and told by `trunk_reached`.
    Cut,
    /// It answers OPTIONS, for the first time or again.
    Reachable {
        /// How long that took.
        round_trip: Duration,
    },
    /// It answers OPTIONS no more.
    Unreachable,
}

/// Where a message came from or goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flow {
    /// A datagram between one of our sockets (by position in `sip.listen`) and a peer.
    Udp {
        /// Which of our sockets.
        socket: usize,
        /// The peer.
        peer: SocketAddr,
    },
    /// A stream; the peer's address stands beside it for logs and limits.
    Stream {
        /// Which connection.
        connection: ConnectionId,
        /// The peer.
        peer: SocketAddr,
        /// What it runs over.
        over: StreamTransport,
    },
}

/// What carries a stream of SIP messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StreamTransport {
    /// Plain.
    Tcp,
    /// TLS over TCP.
    Tls,
}

impl Flow {
    /// The peer's address.
    #[must_use]
    pub const fn peer(self) -> SocketAddr {
        match self {
            Self::Udp { peer, .. } | Self::Stream { peer, .. } => peer,
        }
    }

    /// What the peer counts as, of all sources.
    pub(crate) fn host(self) -> IpAddr {
        host_of(self.peer().ip())
    }

    /// The connection, of a stream.
    #[must_use]
    pub const fn connection(self) -> Option<ConnectionId> {
        match self {
            Self::Udp { .. } => None,
            Self::Stream { connection, .. } => Some(connection),
        }
    }

    /// Does it deliver what is sent, without our sending it again?
    #[must_use]
    pub const fn is_reliable(self) -> bool {
        matches!(self, Self::Stream { .. })
    }

    /// What a Contact of ours adds, so that the peer's requests come the same way (RFC 3261 section 19.1.1).
    #[must_use]
    pub(crate) const fn contact_param(self) -> &'static str {
        match self {
            Self::Udp { .. } => "",
            Self::Stream {
                over: StreamTransport::Tcp,
                ..
            } => ";transport=tcp",
            Self::Stream {
                over: StreamTransport::Tls,
                ..
            } => ";transport=tls",
        }
    }

    /// Its name in Via (RFC 3261 section 20.42).
    #[must_use]
    pub const fn via_transport(self) -> &'static str {
        match self {
            Self::Udp { .. } => "UDP",
            Self::Stream {
                over: StreamTransport::Tcp,
                ..
            } => "TCP",
            Self::Stream {
                over: StreamTransport::Tls,
                ..
            } => "TLS",
        }
    }
}

/// Bytes to send.
#[derive(Debug, Clone)]
pub struct Transmit {
    /// Whereto. A stream that is gone is reported by `handle_closed`.
    pub flow: Flow,
    /// One whole message.
    pub bytes: Bytes,
}

/// An INVITE that asks to be answered.
#[derive(Debug, Clone)]
pub struct IncomingInvite {
    /// The user part of the request URI, unescaped: the dialled number.
    pub number: String,
    /// The number that was dialled at first, where a trunk that is trusted for that says so.
    pub diverted_from: Option<String>,
    /// The user or number of From; of P-Asserted-Identity where the trunk is trusted for that.
    pub caller: CallerNumber,
    /// What a trunk that is trusted for that says of his number.
    pub verstat: Option<Verstat>,
    /// `;pin=` of the request URI or `X-Conf-PIN`.
    pub pin: Option<Pin>,
    /// Call-ID.
    pub call_id: String,
    /// The offer; `None`: we offer in the 200 and the answer comes with the ACK.
    pub sdp: Option<Bytes>,
    /// The trunk it came by.
    pub trunk: Option<TrunkId>,
    /// Where it came from.
    pub source: IpAddr,
    /// Nothing speaks for who calls: neither his address nor a proof.
    pub is_stranger: bool,
    /// Somebody else may have given his address.
    pub may_be_made_up: bool,
    /// The local address it arrived at, for SDP where no `media.address` is set.
    pub local: Option<IpAddr>,
}

/// What the endpoint tells.
#[derive(Debug, Clone)]
pub enum SipEvent {
    /// A new call. Answer with `ring`, `answer` or `reject`.
    Invite {
        /// The dialog it opens.
        dialog: DialogId,
        /// What was asked.
        invite: Box<IncomingInvite>,
    },
    /// CANCEL before the answer; 487 is already on its way. The dialog is gone.
    Cancelled {
        /// Which.
        dialog: DialogId,
    },
    /// The 2xx was acknowledged; the SDP is the answer to an offer of ours. Told once for the call, and
    /// again for each re-INVITE without SDP.
    Acknowledged {
        /// Which.
        dialog: DialogId,
        /// The answer in the ACK.
        sdp: Option<Bytes>,
    },
    /// re-INVITE or UPDATE in the dialog. Answer with `answer_reinvite` or `reject_reinvite`.
    Reinvite {
        /// Which.
        dialog: DialogId,
        /// The new offer; `None`: offer in the 200.
        sdp: Option<Bytes>,
    },
    /// INFO with a body; already answered 200.
    Info {
        /// Which.
        dialog: DialogId,
        /// Content-Type.
        content_type: String,
        /// Body.
        body: Bytes,
    },
    /// BYE; already answered 200. The dialog is gone.
    Bye {
        /// Which.
        dialog: DialogId,
        /// Q.850 cause of a Reason header (RFC 3326).
        q850: Option<u8>,
    },
    /// No ACK came for the 2xx, the session was not refreshed, or the peer does not know the call any more;
    /// BYE was sent. Or the connection closed before the call was up. The dialog is gone.
    Lost {
        /// Which.
        dialog: DialogId,
    },
    /// There was a sign of life, by us or by the peer, in a call that has a session timer (RFC 4028).
    Refreshed {
        /// Which.
        dialog: DialogId,
    },
    /// Our own INVITE: a provisional answer.
    Provisional {
        /// Which.
        dialog: DialogId,
        /// 101 to 199.
        status: u16,
    },
    /// Our own INVITE was answered with 2xx; the ACK is already on its way.
    Established {
        /// Which.
        dialog: DialogId,
        /// The answer.
        sdp: Bytes,
    },
    /// Our own INVITE failed. The dialog is gone.
    Failed {
        /// Which.
        dialog: DialogId,
        /// 300 to 699; 408 where nobody answered, 503 where the connection broke.
        status: u16,
        /// Q.850 cause of a Reason header (RFC 3326).
        q850: Option<u8>,
        /// Something was heard of it, were it only 100; else it may as well go another way.
        heard: bool,
        /// How long it is to be left alone, by the answer (Retry-After).
        pause: Option<Duration>,
    },
    /// News of a trunk.
    Trunk {
        /// Which.
        trunk: TrunkId,
        /// How it stands now.
        state: TrunkState,
    },
    /// Whoever takes a trunk's calls asks for credentials of another realm than ours are for, and gets none.
    OtherRealm {
        /// Which.
        trunk: TrunkId,
        /// What was asked for.
        asked: String,
        /// What we have some for.
        ours: String,
    },
    /// A re-INVITE of ours was refused; the call goes on as before. (One that was taken is told as
    /// `Established`.)
    ReinviteFailed {
        /// Which.
        dialog: DialogId,
        /// 300 to 699.
        status: u16,
    },
}
