//! Probes at the port of the kernel's WireGuard: sent as if from its socket, and read beside it. The kernel drops what is not
//! WireGuard's without a word, and gives raw sockets a copy (raw(7)). Knows no peer.
//!
//! A NAT maps a port: a path that was probed from another one would say nothing of WireGuard's.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::libc;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::net::UdpSocket;

/// RFC 768: two ports, length, checksum.
const HEADER_BYTES: usize = 8;
const CHECKSUM_AT: usize = 6;
/// The longest datagram with the longest header of IPv4 (RFC 791, section 3.1).
const PACKET_BYTES_MAX: usize = 65_535;
/// The first byte of a probe of ours.
const PROBE: u32 = 0xD7;
/// STUN's cookie, and where it is (RFC 8489, section 5).
const COOKIE: u32 = 0x2112_A442;
const COOKIE_AT: u32 = 4;

/// A route to one address may change without a word that reaches us ([`Raw::moved`] is for the others). What leaves with an address that is not ours
/// any more is lost, as probes may be.
const SOURCE_LIFE: Duration = Duration::from_secs(1);
/// Addresses remembered: more than are asked within that time.
const SOURCES_MAX: usize = 4096;

/// Raw sockets of one port. They hear nothing else.
pub(crate) struct Raw {
    v4: UdpSocket,
    /// `None` where the machine has no IPv6.
    v6: Option<UdpSocket>,
    port: u16,
    mark: u32,
    /// With which address of ours packets leave to each other one: to learn it takes a socket.
    sources: Mutex<BTreeMap<Ipv4Addr, (Ipv4Addr, Instant)>>,
}

/// Whether this process may have such sockets (CAP_NET_RAW in capabilities(7)).
pub(crate) fn may() -> io::Result<()> {
    Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP)).map(drop)
}

impl Raw {
    /// Needs a tokio runtime.
    pub(crate) fn open(port: u16, mark: u32) -> io::Result<Self> {
        let v6 = match open(Domain::IPV6, port, mark) {
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => None,
            other => Some(other?),
        };
        Ok(Self { v4: open(Domain::IPV4, port, mark)?, v6, port, mark, sources: Mutex::default() })
    }

    /// Sends a datagram from the port. What there is no room for is lost.
    pub(crate) fn send(&self, to: SocketAddr, payload: &[u8]) -> io::Result<()> {
        let length = u16::try_from(HEADER_BYTES + payload.len()).map_err(io::Error::other)?;
        let mut datagram = Vec::with_capacity(length.into());
        for field in [self.port, to.port(), length, 0] {
            datagram.extend_from_slice(&field.to_be_bytes());
        }
        datagram.extend_from_slice(payload);
        let socket = match to.ip() {
            IpAddr::V4(ip) => {
                let sum = checksum(self.source(ip)?, ip, &datagram);
                datagram[CHECKSUM_AT..HEADER_BYTES].copy_from_slice(&sum.to_be_bytes());
                &self.v4
            }
            // There the kernel fills it in.
            IpAddr::V6(_) => {
                self.v6.as_ref().ok_or_else(|| io::Error::from_raw_os_error(libc::EAFNOSUPPORT))?
            }
        };
        // The port of a raw socket's address is a protocol (ipv6(7)); 0 is the socket's.
        socket.try_send_to(&datagram, SocketAddr::new(to.ip(), 0)).map(drop)
    }

    /// The machine is on another network.
    pub(crate) fn moved(&self) {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The address of ours that packets to there leave with.
    fn source(&self, to: Ipv4Addr) -> io::Result<Ipv4Addr> {
        let now = Instant::now();
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((own, at)) = sources.get(&to)
            && now.saturating_duration_since(*at) < SOURCE_LIFE
        {
            return Ok(*own);
        }
        let own = self.look_up(to)?;
        if sources.len() == SOURCES_MAX {
            sources.clear();
        }
        sources.insert(to, (own, now));
        Ok(own)
    }

    fn look_up(&self, to: Ipv4Addr) -> io::Result<Ipv4Addr> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_mark(self.mark)?;
        socket.connect(&SocketAddr::new(to.into(), self.port).into())?;
        let own = socket.local_addr()?.as_socket_ipv4();
        own.map(|own| *own.ip()).ok_or_else(|| io::Error::from_raw_os_error(libc::EADDRNOTAVAIL))
    }

    /// Gives `heard` what comes, for as long as it is polled.
    pub(crate) async fn hear(&self, heard: impl Fn(&[u8], SocketAddr)) {
        let of_v4 = read(&self.v4, |packet, from| {
            // The kernel leaves the header on, of IPv4 alone.
            let head_bytes = packet.first().map_or(0, |first| usize::from(first & 0xF) * 4);
            take(packet.get(head_bytes..).unwrap_or_default(), from, &heard);
        });
        let of_v6 = async {
            if let Some(socket) = &self.v6 {
                read(socket, |datagram, from| take(datagram, from, &heard)).await;
            }
        };
        tokio::join!(of_v4, of_v6);
    }
}

async fn read(socket: &UdpSocket, took: impl Fn(&[u8], IpAddr)) {
    let mut buffer = vec![0; PACKET_BYTES_MAX];
    loop {
        // A raw socket has no error that lasts; what the network says of a probe is no answer.
        if let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            took(buffer.get(..length).unwrap_or_default(), from.ip());
        }
    }
}

fn take(datagram: &[u8], from: IpAddr, heard: &impl Fn(&[u8], SocketAddr)) {
    if let Some((header, payload)) = datagram.split_first_chunk::<HEADER_BYTES>() {
        heard(payload, SocketAddr::new(from, u16::from_be_bytes([header[0], header[1]])));
    }
}

fn open(domain: Domain, port: u16, mark: u32) -> io::Result<UdpSocket> {
    let socket = Socket::new(domain, Type::RAW, Some(Protocol::UDP))?;
    socket.attach_filter(&filter(port, domain == Domain::IPV4))?;
    socket.set_nonblocking(true)?;
    socket.set_mark(mark)?;
    // In fragments if they must, as WireGuard's packets are sent.
    if domain == Domain::IPV4 {
        set(&socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT)?;
    } else {
        set(&socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DONT)?;
        let place = libc::c_int::try_from(CHECKSUM_AT).expect("a small number");
        set(&socket, libc::IPPROTO_IPV6, libc::IPV6_CHECKSUM, place)?;
    }
    UdpSocket::from_std(socket.into())
}

pub(super) fn set(
    socket: &Socket,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of_val(&value)).expect("an integer is short");
    #[expect(unsafe_code, reason = "nobody has a safe call for these options")]
    // SAFETY: the kernel reads an integer that outlives the call, of the length that is said.
    let done = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, std::ptr::from_ref(&value).cast(), length)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A program for the kernel (linux/filter.h, and its Documentation/networking/filter.rst) that passes on what is at the port and
/// may be a probe or STUN's. What ends before it is looked at is dropped.
fn filter(port: u16, has_header: bool) -> [SockFilter; 9] {
    // Loads of two, one and four bytes at a place behind the index register.
    const HALF: u16 = 0x48;
    const BYTE: u16 = 0x50;
    const WORD: u16 = 0x40;
    const EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const PAYLOAD: u32 = 8;
    let load = |what, at| SockFilter::new(what, 0, 0, at);
    let equal = |value, skip_if, skip_else| SockFilter::new(EQUAL, skip_if, skip_else, value);
    // The index register: four times the last four bits of an IPv4 header's first byte, or nothing.
    let begin = if has_header { 0xB1 } else { 0x01 };
    [
        SockFilter::new(begin, 0, 0, 0),
        load(HALF, 2),
        equal(port.into(), 0, 5),
        load(BYTE, PAYLOAD),
        equal(PROBE, 2, 0),
        load(WORD, PAYLOAD + COOKIE_AT),
        equal(COOKIE, 0, 1),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

/// Of a datagram over IPv4 (RFC 768): never 0, which says that there is none.
fn checksum(from: Ipv4Addr, to: Ipv4Addr, datagram: &[u8]) -> u16 {
    let length = u32::try_from(datagram.len()).unwrap_or(u32::MAX);
    let pairs = |bytes: &[u8]| -> u32 {
        let pair = |pair: &[u8]| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low));
        bytes.chunks(2).map(pair).sum()
    };
    let udp = libc::IPPROTO_UDP.unsigned_abs();
    let mut sum = pairs(&from.octets()) + pairs(&to.octets()) + udp + length + pairs(datagram);
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    let sum = u16::try_from(sum).expect("it was folded");
    if sum == u16::MAX { sum } else { !sum }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn a_checksum_is_as_the_standard_says() {
        let (from, to) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(198, 51, 100, 2));
        let mut datagram = [0x30, 0x39, 0x00, 0x35, 0, 11, 0, 0, 1, 2, 3];
        let sum = checksum(from, to, &datagram);
        datagram[CHECKSUM_AT..HEADER_BYTES].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(checksum(from, to, &datagram), u16::MAX, "with it all adds up to nothing");
    }

    /// Needs root.
    #[tokio::test]
    async fn our_own_address_is_looked_up_once_until_that_is_old_or_the_network_is_another() {
        let raw = Raw::open(1, 0).expect("raw sockets");
        let (here, elsewhere) = (Ipv4Addr::LOCALHOST, Ipv4Addr::new(192, 0, 2, 7));
        assert_eq!(raw.source(here).expect("a route"), here);
        let pretend = |at| raw.sources.lock().expect("nobody panicked").insert(here, (elsewhere, at));
        pretend(Instant::now() + SOURCE_LIFE);
        assert_eq!(raw.source(here).expect("known"), elsewhere, "nobody looks again");
        raw.moved();
        assert_eq!(raw.source(here).expect("a route"), here);
        pretend(Instant::now().checked_sub(SOURCE_LIFE).expect("the machine is up for longer"));
        assert_eq!(raw.source(here).expect("a route"), here);
    }

    /// Needs root.
    #[tokio::test]
    async fn probes_come_and_go_at_a_port_of_somebody_else_and_nothing_else_is_heard() {
        for home in ["127.0.0.1", "::1"] {
            let home: IpAddr = home.parse().expect("an address");
            let theirs = UdpSocket::bind(SocketAddr::new(home, 0)).await.expect("a port");
            let there = theirs.local_addr().expect("bound");
            let raw = Arc::new(Raw::open(there.port(), 0).expect("raw sockets"));
            let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
            let hearing = Arc::clone(&raw);
            let hear = async move {
                hearing.hear(move |bytes, from| drop(told.send((bytes.to_vec(), from)))).await;
            };
            let hearing = tokio::spawn(hear);

            let peer = UdpSocket::bind(SocketAddr::new(home, 0)).await.expect("a port");
            let from = peer.local_addr().expect("bound");
            let probe = [&[0xD7, 1][..], &[7; 64]].concat();
            let answer = stun::reply(&stun::request(&[7; 12]), there).expect("an answer").bytes;
            for ignored in [&[1; 148][..], &[4; 32], &[5]] {
                peer.send_to(ignored, there).await.expect("sent");
            }
            peer.send_to(&probe, from).await.expect("sent to another port");
            for bytes in [&probe, &answer] {
                peer.send_to(bytes, there).await.expect("sent");
                let came = timeout(PATIENCE, heard.recv()).await.expect("in time");
                assert_eq!(came, Some((bytes.clone(), from)));
            }

            raw.send(from, &probe).expect("sent");
            let mut buffer = [0; 200];
            // Its own, which it sent above, is the first.
            for source in [from, there] {
                let came = timeout(PATIENCE, peer.recv_from(&mut buffer)).await.expect("in time");
                assert_eq!((came.expect("it comes"), &buffer[..66]), ((66, source), &probe[..]));
            }
            hearing.abort();
        }
    }
}
