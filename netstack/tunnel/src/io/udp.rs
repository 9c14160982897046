//! The UDP sockets of a device, IPv4 and IPv6 on one port. Knows addresses, no peers.
//!
//! A datagram tells at which of our addresses it came in, and the answer leaves from there (ip(7), ipv6(7)):
//! behind a NAT or a firewall only that one is expected. Nothing here blocks.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

pub(crate) mod inbox;
pub(crate) mod kernel;
mod message;
pub(crate) mod outbox;
mod system;

/// What the kernel holds of a burst while we work. 4 MiB is 25 ms at a Gbit/s; that no queue stands there is looked
/// after by [`crate::codel`].
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

/// Whether the kernel is to cut and join datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Offload {
    /// `UDP_SEGMENT` on the way out.
    pub(crate) gso: bool,
    /// `UDP_GRO` on the way in.
    pub(crate) gro: bool,
}

/// Sockets of one port. Closed when the last user lets go.
pub(crate) struct Sockets {
    v4: Option<Socket>,
    v6: Option<Socket>,
    port: u16,
    gso: AtomicBool,
}

impl Sockets {
    /// Binds both families; 0 chooses a port. A machine without one of the families has the other.
    ///
    /// # Errors
    /// `EADDRINUSE` if the port is taken, `EPERM` if the mark is not allowed.
    pub(crate) fn bind(port: u16, mark: u32, offload: Offload) -> io::Result<Self> {
        let mut attempts = if port == 0 { PORT_ATTEMPTS } else { 1 };
        loop {
            attempts -= 1;
            match Self::bind_once(port, mark) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempts > 0 => {}
                bound => {
                    return bound.inspect(|sockets| {
                        sockets.set_offload(offload);
                    });
                }
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
        Ok(Self { v4, v6, port, gso: AtomicBool::new(false) })
    }

    /// The UDP port.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// The sockets that there are.
    pub(crate) fn each(&self) -> impl Iterator<Item = &Socket> {
        self.v4.iter().chain(&self.v6)
    }

    /// The socket of the address's family.
    pub(crate) fn towards(&self, remote: &SocketAddr) -> Option<&Socket> {
        if remote.is_ipv4() { self.v4.as_ref() } else { self.v6.as_ref() }
    }

    /// Marks what is sent from now on (`SO_MARK`, socket(7)).
    pub(crate) fn mark(&self, mark: u32) -> io::Result<()> {
        self.each().try_for_each(|socket| socket.set_mark(mark))
    }

    /// Switches offloads from the next datagram on, and answers which are in force: a kernel without `UDP_GRO` (before
    /// Linux 5.0) goes on without. It is tried again at the next call and at every binding.
    pub(crate) fn set_offload(&self, wanted: Offload) -> Offload {
        self.gso.store(wanted.gso, Ordering::Relaxed);
        let mut gro = wanted.gro;
        for socket in self.each() {
            let value = libc::c_int::from(wanted.gro);
            if let Err(error) = system::set_integer(socket, libc::SOL_UDP, libc::UDP_GRO, value) {
                tracing::debug!(%error, "datagrams come in one by one");
                gro = false;
            }
        }
        Offload { gso: wanted.gso, gro }
    }

    /// Whether datagrams may leave in super-packets.
    pub(crate) fn segments(&self) -> bool {
        self.gso.load(Ordering::Relaxed)
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
        let level = libc::IPPROTO_IP;
        system::set_integer(&socket, level, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT)?;
        system::set_integer(&socket, level, libc::IP_RECVTOS, 1)?;
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))
    } else {
        socket.set_only_v6(true)?;
        setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        let level = libc::IPPROTO_IPV6;
        system::set_integer(&socket, level, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DONT)?;
        system::set_integer(&socket, level, libc::IPV6_RECVTCLASS, 1)?;
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
    if let Err(error) = system::set_integer(&socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1) {
        tracing::debug!(%error, "how long datagrams wait is not known");
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

#[cfg(test)]
mod tests;
