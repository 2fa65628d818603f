//! The floor: a process that takes in every packet and sends one to every participant each 20 ms, the cheapest
//! way the kernel offers, and does nothing else. Whoever mixes pays this too.
//!
//! The server's half of this file runs in a process of its own: this program, started with `--floor`.

use std::io;
use std::mem;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::ptr;
use std::time::Duration;

use crate::call::Answered;
use crate::generator::FRAME;
use crate::scenario::{Scenario, Seat};
use crate::server::{MEDIA_PORTS, Process, Server, free_port};
use crate::system;
use crate::wire::{BATCH, address_of};

/// What the floor's process is told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Orders {
    shared: bool,
    participants: usize,
    rtp_port: u16,
    ready_port: u16,
    payload_bytes: usize,
}

/// The floor, seen from the outside.
pub(crate) struct Floor {
    shared: bool,
    seats: Vec<Seat>,
    payload_bytes: usize,
    process: Option<Process>,
    log: tempfile::NamedTempFile,
    idle: Process,
}

impl Floor {
    pub(crate) fn start(shared: bool, scenario: &Scenario) -> anyhow::Result<Self> {
        let log = tempfile::NamedTempFile::new()?;
        // Something to look at before there are calls: where participants are is known only then.
        let idle = Process::start(Command::new("sleep").arg("600"), log.path())?;
        Ok(Self {
            shared,
            seats: scenario.seats(),
            payload_bytes: if scenario.has_opus() {
                OPUS_BYTES
            } else {
                G711_BYTES
            },
            process: None,
            log,
            idle,
        })
    }
}

impl Server for Floor {
    fn pid(&self) -> u32 {
        self.process.as_ref().unwrap_or(&self.idle).pid()
    }

    fn call(&mut self, rtp_port: u16, answered: &mut dyn FnMut(Answered)) -> anyhow::Result<()> {
        let ready_port = free_port()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--floor").arg(format!(
            "{},{},{rtp_port},{ready_port},{}",
            u8::from(self.shared),
            self.seats.len(),
            self.payload_bytes
        ));
        let mut process = Process::start(&mut command, self.log.path())?;
        process.wait_for_port(ready_port, self.log.path())?;
        self.process = Some(process);
        for seat in &self.seats {
            let port = if self.shared {
                MEDIA_PORTS.0
            } else {
                own_port(seat.index)
            };
            answered(Answered {
                index: seat.index,
                to: SocketAddrV4::new(HERE, port),
                payload_type: 0,
                levels: false,
            });
        }
        Ok(())
    }

    fn hold(&mut self, duration: Duration) -> anyhow::Result<usize> {
        std::thread::sleep(duration);
        Ok(0)
    }

    fn hang_up(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
}

impl Orders {
    /// As the floor's process is given them.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let numbers: Vec<usize> = text.split(',').map_while(|n| n.parse().ok()).collect();
        let [shared, participants, rtp_port, ready_port, payload_bytes] = numbers[..] else {
            return None;
        };
        Some(Self {
            shared: shared == 1,
            participants,
            rtp_port: rtp_port as u16,
            ready_port: ready_port as u16,
            payload_bytes,
        })
    }

    /// Is the floor until it is killed.
    pub(crate) fn obey(self) -> io::Result<()> {
        system::allow_many_sockets();
        let here = |port| {
            let socket = UdpSocket::bind((HERE, port))?;
            keep_whole(&socket);
            Ok::<_, io::Error>(socket)
        };
        let peer = |index| SocketAddrV4::new(address_of(index), self.rtp_port);
        let sockets: Vec<UdpSocket> = if self.shared {
            vec![here(MEDIA_PORTS.0)?]
        } else {
            (0..self.participants)
                .map(|index| {
                    let socket = here(own_port(index))?;
                    socket.set_nonblocking(true)?;
                    socket.connect(peer(index))?;
                    Ok(socket)
                })
                .collect::<io::Result<_>>()?
        };
        let peers: Vec<SocketAddrV4> = (0..self.participants).map(peer).collect();
        let mut packets = Packets::new(self.participants, self.payload_bytes);
        let _ready = std::net::TcpListener::bind(("127.0.0.1", self.ready_port))?;
        let mut due = system::now();
        loop {
            due += FRAME;
            system::sleep_until(due);
            if self.shared {
                packets.receive_all(&sockets[0]);
                packets.send_all(&sockets[0], &peers);
            } else {
                packets.receive_each(&sockets);
                packets.send_each(&sockets);
            }
            packets.next_frame();
        }
    }
}

/// One packet per participant to be sent, and room for what comes.
struct Packets {
    outgoing: Vec<Vec<u8>>,
    room: Vec<[u8; 400]>,
    sequence: u16,
}

impl Packets {
    fn new(participants: usize, payload_bytes: usize) -> Self {
        let packet = |index: usize| {
            let mut packet = vec![
                0x80,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                (index >> 8) as u8,
                index as u8,
            ];
            packet.resize(12 + payload_bytes, 0xD5);
            packet
        };
        Self {
            outgoing: (0..participants).map(packet).collect(),
            room: vec![[0; 400]; BATCH],
            sequence: 0,
        }
    }

    fn next_frame(&mut self) {
        self.sequence = self.sequence.wrapping_add(1);
        for packet in &mut self.outgoing {
            packet[2..4].copy_from_slice(&self.sequence.to_be_bytes());
        }
    }

    fn receive_all(&mut self, socket: &UdpSocket) {
        while self.fetch(socket) == BATCH {}
    }

    /// One came since the last time; should it be two, the second one waits.
    fn receive_each(&mut self, sockets: &[UdpSocket]) {
        for socket in sockets {
            let _none = socket.recv(&mut self.room[0]);
        }
    }

    fn fetch(&mut self, socket: &UdpSocket) -> usize {
        // SAFETY: all zeros is a valid message header: null pointers, no lengths.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { mem::zeroed() };
        let mut parts: [libc::iovec; BATCH] = std::array::from_fn(|index| libc::iovec {
            iov_base: self.room[index].as_mut_ptr().cast(),
            iov_len: self.room[index].len(),
        });
        for (header, part) in headers.iter_mut().zip(&mut parts) {
            header.msg_hdr.msg_iov = &raw mut *part;
            header.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: the headers point into `parts` and `room`, which outlive the call and are as long as they
        // say; no more than the headers there are is asked for; a null timeout is allowed.
        let count = unsafe {
            let socket = socket.as_raw_fd();
            libc::recvmmsg(
                socket,
                headers.as_mut_ptr(),
                BATCH as u32,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        usize::try_from(count).unwrap_or(0)
    }

    fn send_all(&mut self, socket: &UdpSocket, peers: &[SocketAddrV4]) {
        for (packets, peers) in self.outgoing.chunks(BATCH).zip(peers.chunks(BATCH)) {
            // SAFETY: all zeros is a valid message header, iovec and address.
            let (mut headers, mut parts, mut names): (
                [libc::mmsghdr; BATCH],
                [libc::iovec; BATCH],
                [libc::sockaddr_in; BATCH],
            ) = unsafe { (mem::zeroed(), mem::zeroed(), mem::zeroed()) };
            for (index, (packet, peer)) in packets.iter().zip(peers).enumerate() {
                names[index].sin_family = libc::AF_INET as u16;
                names[index].sin_port = peer.port().to_be();
                names[index].sin_addr.s_addr = u32::from(*peer.ip()).to_be();
                parts[index].iov_base = packet.as_ptr().cast_mut().cast();
                parts[index].iov_len = packet.len();
                let header = &mut headers[index].msg_hdr;
                header.msg_name = (&raw mut names[index]).cast();
                header.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
                header.msg_iov = &raw mut parts[index];
                header.msg_iovlen = 1;
            }
            let count = packets.len() as u32;
            // SAFETY: the headers point into `parts`, `names` and the packets, which outlive the call; sending
            // writes to none of them.
            unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count, 0) };
        }
    }

    fn send_each(&self, sockets: &[UdpSocket]) {
        for (socket, packet) in sockets.iter().zip(&self.outgoing) {
            // What the kernel doesn't take is lost.
            let _sent = socket.send(packet);
        }
    }
}

/// Spares the kernel a number for each packet, by which its pieces would be known.
fn keep_whole(socket: &UdpSocket) {
    let mode = libc::IP_PMTUDISC_PROBE;
    // SAFETY: the option's value is a living int.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            (&raw const mode).cast(),
            size_of_val(&mode) as u32,
        )
    };
}

/// Even ports, as calls have them.
fn own_port(index: usize) -> u16 {
    MEDIA_PORTS.0 + 2 * index as u16
}

/// An address that others on this machine hardly use, so that its ports are free.
const HERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const G711_BYTES: usize = 160;
/// 24 kbit/s.
const OPUS_BYTES: usize = 60;
