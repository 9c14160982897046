//! The UDP sockets of a device, IPv4 and IPv6 on one port. Knows addresses, no peers.
//!
//! A datagram tells at which of our addresses it came in, and the answer leaves from there (ip(7), ipv6(7)):
//! behind a NAT or a firewall only that one is expected.

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

/// What the kernel holds of a burst while we work. 4 MiB is 25 ms at a Gbit/s.
const BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// How often a free port is chosen anew because the other family has it taken.
const PORT_ATTEMPTS: u32 = 16;

/// Where a peer is, and at which of our addresses it finds us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) remote: SocketAddr,
    /// `None`: the kernel chooses.
    pub(crate) local: Option<IpAddr>,
}

/// Sockets of one port. Closed when the last user lets go.
pub(crate) struct Sockets {
    v4: Option<Socket>,
    v6: Option<Socket>,
    port: u16,
}

impl Sockets {
    /// Binds both families; 0 chooses a port. A machine without one of the families has the other.
    ///
    /// # Errors
    /// `EADDRINUSE` if the port is taken, `EPERM` if the mark is not allowed.
    pub(crate) fn bind(port: u16, mark: u32) -> io::Result<Self> {
        let mut attempts = if port == 0 { PORT_ATTEMPTS } else { 1 };
        loop {
            attempts -= 1;
            match Self::bind_once(port, mark) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempts > 0 => {}
                bound => return bound,
            }
        }
    }

    fn bind_once(port: u16, mark: u32) -> io::Result<Self> {
        let v4 = available(open(Domain::IPV4, port, mark))?;
        let port = if let Some(socket) = &v4 { port_of(socket)? } else { port };
        let v6 = available(open(Domain::IPV6, port, mark))?;
        let port = if let Some(socket) = &v6 { port_of(socket)? } else { port };
        if v4.is_none() && v6.is_none() {
            return Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT));
        }
        Ok(Self { v4, v6, port })
    }

    /// The UDP port.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// The sockets that there are.
    pub(crate) fn each(&self) -> impl Iterator<Item = &Socket> {
        self.v4.iter().chain(&self.v6)
    }

    /// Marks what is sent from now on (`SO_MARK`, socket(7)).
    pub(crate) fn mark(&self, mark: u32) -> io::Result<()> {
        self.each().try_for_each(|socket| socket.set_mark(mark))
    }

    /// Sends a datagram. Answers whether the local address has become unusable and the kernel chose another.
    pub(crate) fn send(&self, datagram: &[u8], to: &Endpoint) -> io::Result<bool> {
        let socket = if to.remote.is_ipv4() { &self.v4 } else { &self.v6 };
        let fd = socket.as_ref().ok_or(io::ErrorKind::Unsupported)?.as_raw_fd();
        match send(fd, datagram, to) {
            Err(_) if to.local.is_some() => {
                send(fd, datagram, &Endpoint { local: None, ..*to }).map(|()| true)
            }
            sent => sent.map(|()| false),
        }
    }
}

/// A family that the machine does not have is no error.
fn available(socket: io::Result<Socket>) -> io::Result<Option<Socket>> {
    match socket {
        Ok(socket) => Ok(Some(socket)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn open(domain: Domain, port: u16, mark: u32) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    // Whatever the path's MTU is said to be, a tunnel packet goes out, in fragments if it must, as in the kernel.
    let any = if domain == Domain::IPV4 {
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        set_integer(&socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT)?;
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))
    } else {
        socket.set_only_v6(true)?;
        setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        set_integer(&socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DONT)?;
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))
    };
    for forced in [
        setsockopt(&socket, sockopt::RcvBufForce, &BUFFER_BYTES),
        setsockopt(&socket, sockopt::SndBufForce, &BUFFER_BYTES),
    ] {
        if let Err(error) = forced {
            tracing::debug!(%error, "socket buffers stay as the system has them");
        }
    }
    if mark != 0 {
        socket.set_mark(mark)?;
    }
    socket.bind(&any.into())?;
    Ok(socket)
}

fn port_of(socket: &Socket) -> io::Result<u16> {
    let address = socket.local_addr()?.as_socket();
    address.map(|a| a.port()).ok_or_else(|| io::ErrorKind::Unsupported.into())
}

fn set_integer(socket: &Socket, level: i32, option: i32, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the options that callers name take an int, and the pointer and length are those of one.
    #[allow(unsafe_code)]
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(&value).cast(),
            length_of::<libc::c_int>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn length_of<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).expect("socket structures are small")
}

/// Room for one control message with the larger of the two kinds of packet information, aligned as cmsg(3) asks.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// One datagram and where it came from, or `WouldBlock`.
pub(crate) fn receive(socket: &Socket, buffer: &mut [u8]) -> io::Result<(usize, Endpoint)> {
    let mut control = Control([0; 64]);
    let mut from = SockAddrStorage::zeroed();
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut message = empty_message();
    message.msg_name = std::ptr::from_mut(&mut from).cast();
    message.msg_namelen = from.size_of();
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len();
    // SAFETY: the message points to the caller's buffer and to locals above, with their lengths; all outlive the call.
    #[allow(unsafe_code)]
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: recvmsg succeeded, so the kernel wrote an address of `msg_namelen` bytes into zeroed storage.
    #[allow(unsafe_code)]
    let from = unsafe { SockAddr::new(from, message.msg_namelen) };
    let remote = from.as_socket().ok_or(io::ErrorKind::InvalidData)?;
    Ok((length, Endpoint { remote, local: local_address(&message) }))
}

/// The packet information of a received message.
fn local_address(message: &libc::msghdr) -> Option<IpAddr> {
    // SAFETY: the header describes the control buffer of `receive`, which is alive, aligned and filled by the kernel;
    // CMSG_FIRSTHDR and CMSG_NXTHDR stay inside it, and the data is read unaligned after its length was compared.
    #[allow(unsafe_code)]
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() {
            let (level, kind, length) = ((*header).cmsg_level, (*header).cmsg_type, (*header).cmsg_len);
            let data = libc::CMSG_DATA(header);
            if (level, kind) == (libc::IPPROTO_IP, libc::IP_PKTINFO)
                && length >= libc::CMSG_LEN(length_of::<libc::in_pktinfo>()) as usize
            {
                let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                return Some(Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr)).into());
            }
            if (level, kind) == (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO)
                && length >= libc::CMSG_LEN(length_of::<libc::in6_pktinfo>()) as usize
            {
                let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                return Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    None
}

fn send(fd: RawFd, datagram: &[u8], to: &Endpoint) -> io::Result<()> {
    let address = SockAddr::from(to.remote);
    let mut control = Control([0; 64]);
    let mut part = libc::iovec { iov_base: datagram.as_ptr().cast_mut().cast(), iov_len: datagram.len() };
    let mut message = empty_message();
    message.msg_name = address.as_ptr().cast_mut().cast();
    message.msg_namelen = address.len();
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    match to.local {
        Some(IpAddr::V4(local)) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from(local).to_be() },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            put(&mut message, &mut control, (libc::IPPROTO_IP, libc::IP_PKTINFO), info);
        }
        Some(IpAddr::V6(local)) => {
            let address = libc::in6_addr { s6_addr: local.octets() };
            let info = libc::in6_pktinfo { ipi6_addr: address, ipi6_ifindex: 0 };
            put(&mut message, &mut control, (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO), info);
        }
        None => {}
    }
    // SAFETY: the message points to the caller's datagram, which sendmsg only reads, and to locals above, with
    // their lengths; all outlive the call.
    #[allow(unsafe_code)]
    let sent = unsafe { libc::sendmsg(fd, &raw const message, libc::MSG_NOSIGNAL) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Puts one control message into the buffer and the buffer into the message.
fn put<T: Copy>(message: &mut libc::msghdr, control: &mut Control, (level, kind): (i32, i32), info: T) {
    // SAFETY: CMSG_SPACE of both kinds of packet information (32 and 40 bytes) is less than the 64 of the aligned,
    // zeroed buffer, so the first header and its data lie inside it.
    #[allow(unsafe_code)]
    unsafe {
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(length_of::<T>()) as usize;
        let header = libc::CMSG_FIRSTHDR(message);
        (*header).cmsg_level = level;
        (*header).cmsg_type = kind;
        (*header).cmsg_len = libc::CMSG_LEN(length_of::<T>()) as usize;
        libc::CMSG_DATA(header).cast::<T>().write_unaligned(info);
    }
}

fn empty_message() -> libc::msghdr {
    // SAFETY: msghdr is made of integers and pointers; all of them may be zero.
    #[allow(unsafe_code)]
    unsafe {
        MaybeUninit::<libc::msghdr>::zeroed().assume_init()
    }
}

const _: () = assert!(align_of::<Control>() >= align_of::<libc::cmsghdr>());

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(socket: &Socket) {
        use std::os::fd::AsFd as _;
        let mut fds = [nix::poll::PollFd::new(socket.as_fd(), nix::poll::PollFlags::POLLIN)];
        assert_eq!(nix::poll::poll(&mut fds, 5000u16), Ok(1), "a datagram comes");
    }

    #[test]
    fn an_answer_leaves_from_the_address_that_was_asked() {
        let (a, b) = (Sockets::bind(0, 0).expect("binds"), Sockets::bind(0, 0).expect("binds"));
        for asked in ["127.0.0.2", "::1"] {
            let asked: IpAddr = asked.parse().expect("an address");
            let to = Endpoint { remote: SocketAddr::new(asked, b.port()), local: None };
            assert!(!a.send(b"question", &to).expect("sends"));
            let mut buffer = [0; 64];
            let b_socket = if asked.is_ipv4() { b.v4.as_ref() } else { b.v6.as_ref() }.expect("bound");
            wait(b_socket);
            let (length, from) = receive(b_socket, &mut buffer).expect("receives");
            assert_eq!((&buffer[..length], from.local), (&b"question"[..], Some(asked)));
            assert!(!b.send(b"answer", &from).expect("sends"));
            let a_socket = if asked.is_ipv4() { a.v4.as_ref() } else { a.v6.as_ref() }.expect("bound");
            wait(a_socket);
            let (_, from) = receive(a_socket, &mut buffer).expect("receives");
            assert_eq!(from.remote.ip(), asked);
        }
    }

    #[test]
    fn a_local_address_that_is_gone_is_reported_and_does_not_stop_the_datagram() {
        let (a, b) = (Sockets::bind(0, 0).expect("binds"), Sockets::bind(0, 0).expect("binds"));
        let gone = Some("192.0.2.1".parse().expect("an address"));
        let to = Endpoint { remote: (Ipv4Addr::LOCALHOST, b.port()).into(), local: gone };
        assert!(a.send(b"x", &to).expect("sends"));
        wait(b.v4.as_ref().expect("bound"));
    }

    #[test]
    fn a_taken_port_is_an_error_and_a_free_one_is_the_same_for_both_families() {
        let first = Sockets::bind(0, 0).expect("binds");
        assert_ne!(first.port(), 0);
        assert!(first.each().all(|socket| port_of(socket).ok() == Some(first.port())));
        let taken = Sockets::bind(first.port(), 0).map(|_| ()).expect_err("taken");
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
    }
}
