//! One socket for all participants: each has an address of its own in 127.0.0.0/8, all the same port.
//! Packets are sent and fetched in batches, and the kernel tells when each one came.

use std::io;
use std::mem;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr;

/// The address of the `index`th participant.
pub(crate) fn address_of(index: usize) -> Ipv4Addr {
    let [_, a, b, c] = (index as u32 + FIRST).to_be_bytes();
    Ipv4Addr::new(127, a, b, c)
}

/// Whose address it is.
pub(crate) fn index_of(address: Ipv4Addr) -> usize {
    ((u32::from(address) & 0x00FF_FFFF).wrapping_sub(FIRST)) as usize
}

/// A packet to be sent: its header, and a payload that many share.
#[derive(Clone, Copy)]
pub(crate) struct Outgoing<'a> {
    /// Which participant sends it.
    pub(crate) from: usize,
    /// Whereto.
    pub(crate) to: SocketAddrV4,
    /// RTP header.
    pub(crate) header: Header,
    /// What it carries.
    pub(crate) payload: &'a [u8],
}

/// An RTP header, perhaps with an extension.
#[derive(Clone, Copy)]
pub(crate) struct Header {
    bytes: [u8; HEADER_BYTES],
    length: usize,
}

impl Header {
    /// The first `length` bytes of these.
    pub(crate) const fn new(bytes: [u8; HEADER_BYTES], length: usize) -> Self {
        Self { bytes, length }
    }
}

/// The socket.
pub(crate) struct Fan {
    socket: UdpSocket,
    inbox: Box<Inbox>,
}

struct Inbox {
    buffers: [[u8; PACKET_BYTES]; BATCH],
    control: [Control; BATCH],
}

/// Room for what the kernel tells of a packet, aligned as it must be.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; 128]);

impl Fan {
    /// Binds it on all addresses.
    pub(crate) fn bind(port: u16) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?;
        socket.set_nonblocking(true)?;
        set(&socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
        set(&socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)?;
        // Beyond the system's limit only root may; what there is then is what there is.
        let _forced = set(
            &socket,
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            BUFFER_BYTES,
        );
        let _forced = set(
            &socket,
            libc::SOL_SOCKET,
            libc::SO_SNDBUFFORCE,
            BUFFER_BYTES,
        );
        Ok(Self {
            socket,
            inbox: Box::new(Inbox {
                buffers: [[0; PACKET_BYTES]; BATCH],
                control: [Control([0; 128]); BATCH],
            }),
        })
    }

    /// Where it is bound.
    pub(crate) fn port(&self) -> u16 {
        self.socket.local_addr().map_or(0, |address| address.port())
    }

    /// Sends up to [`BATCH`] packets; how many the kernel took.
    pub(crate) fn send(&self, packets: &[Outgoing<'_>]) -> usize {
        let count = packets.len().min(BATCH);
        let mut names = [empty_name(); BATCH];
        let mut control = [Control([0; 128]); BATCH];
        // SAFETY: all zeros is a valid iovec and a valid message header: null pointers, no lengths.
        let (mut parts, mut headers): ([[libc::iovec; 2]; BATCH], [libc::mmsghdr; BATCH]) =
            unsafe { (mem::zeroed(), mem::zeroed()) };
        for (index, packet) in packets.iter().take(count).enumerate() {
            names[index].sin_port = packet.to.port().to_be();
            names[index].sin_addr.s_addr = u32::from(*packet.to.ip()).to_be();
            parts[index] = [
                part(&packet.header.bytes[..packet.header.length]),
                part(packet.payload),
            ];
            let header = &mut headers[index].msg_hdr;
            header.msg_name = (&raw mut names[index]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
            header.msg_iov = parts[index].as_mut_ptr();
            header.msg_iovlen = 2;
            header.msg_control = (&raw mut control[index]).cast();
            header.msg_controllen = write_source(&mut control[index], address_of(packet.from));
        }
        // SAFETY: the headers point into `names`, `parts`, `control` and the packets, which all outlive the
        // call and are as long as the headers say; sending writes to none of them.
        let sent = unsafe {
            libc::sendmmsg(
                self.socket.as_raw_fd(),
                headers.as_mut_ptr(),
                count as u32,
                0,
            )
        };
        usize::try_from(sent).unwrap_or(0)
    }

    /// Fetches what came, and says for each packet whom it was for, when it came, and what it is. Ends when
    /// there is nothing more, or after a bound.
    pub(crate) fn receive(&mut self, mut take: impl FnMut(usize, u64, &[u8])) {
        for _ in 0..BATCHES_MAX {
            let count = self.fetch(&mut take);
            if count < BATCH {
                return;
            }
        }
    }

    fn fetch(&mut self, take: &mut impl FnMut(usize, u64, &[u8])) -> usize {
        let Inbox { buffers, control } = &mut *self.inbox;
        // SAFETY: all zeros is a valid message header: null pointers, no lengths.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { mem::zeroed() };
        let mut parts: [libc::iovec; BATCH] = std::array::from_fn(|index| part(&buffers[index]));
        for (index, header) in headers.iter_mut().enumerate() {
            header.msg_hdr.msg_iov = &raw mut parts[index];
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = (&raw mut control[index]).cast();
            header.msg_hdr.msg_controllen = size_of::<Control>();
        }
        // SAFETY: the headers point into `parts`, `buffers` and `control`, which outlive the call and are as
        // long as the headers say; a null timeout is allowed.
        let count = unsafe {
            libc::recvmmsg(
                self.socket.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as u32,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).unwrap_or(0);
        for (header, buffer) in headers.iter().zip(buffers.iter()).take(count) {
            if let Some((to, at)) = read_control(&header.msg_hdr) {
                take(
                    index_of(to),
                    at,
                    &buffer[..(header.msg_len as usize).min(PACKET_BYTES)],
                );
            }
        }
        count
    }
}

fn part(bytes: &[u8]) -> libc::iovec {
    libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    }
}

fn empty_name() -> libc::sockaddr_in {
    // SAFETY: all zeros is a valid address of family "unspecified", filled in below.
    let mut name: libc::sockaddr_in = unsafe { mem::zeroed() };
    name.sin_family = libc::AF_INET as u16;
    name
}

/// Asks for a source address; the length of what was written.
fn write_source(control: &mut Control, source: Ipv4Addr) -> usize {
    let info = libc::in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: libc::in_addr {
            s_addr: u32::from(source).to_be(),
        },
        ipi_addr: libc::in_addr { s_addr: 0 },
    };
    let size = size_of::<libc::in_pktinfo>() as u32;
    // SAFETY: CMSG_LEN and CMSG_SPACE only calculate. The block is aligned for a cmsghdr and larger than one
    // with an in_pktinfo, which CMSG_DATA points to the place of.
    unsafe {
        let header = control.0.as_mut_ptr().cast::<libc::cmsghdr>();
        (*header).cmsg_level = libc::IPPROTO_IP;
        (*header).cmsg_type = libc::IP_PKTINFO;
        (*header).cmsg_len = libc::CMSG_LEN(size) as usize;
        libc::CMSG_DATA(header)
            .cast::<libc::in_pktinfo>()
            .write_unaligned(info);
        libc::CMSG_SPACE(size) as usize
    }
}

/// To whom a packet was sent, and when it came (ns of the real-time clock).
fn read_control(header: &libc::msghdr) -> Option<(Ipv4Addr, u64)> {
    let (mut to, mut at) = (None, None);
    // SAFETY: the kernel wrote whole control messages and their total length; the CMSG_ functions stay within
    // it. The data of each is of the type that its level and type say.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while !message.is_null() {
            let data = libc::CMSG_DATA(message);
            match ((*message).cmsg_level, (*message).cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                    to = Some(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)));
                }
                (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS) => {
                    let time = data.cast::<libc::timespec>().read_unaligned();
                    at = Some(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64);
                }
                _ => {}
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    Some((to?, at?))
}

fn set(socket: &UdpSocket, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the value is a living C int, as these options want.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<i32>() as u32,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Of a header with an extension of one word.
pub(crate) const HEADER_BYTES: usize = 20;
/// Packets per system call.
pub(crate) const BATCH: usize = 64;
const BATCHES_MAX: usize = 256;
const PACKET_BYTES: usize = 1_500;
const BUFFER_BYTES: i32 = 64 << 20;
/// 127.1.0.0 and up: nobody else's.
const FIRST: u32 = 0x01_00_00;
