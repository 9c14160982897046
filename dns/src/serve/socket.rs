//! Opens the two sockets of an address. Reads and writes none.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};

use super::holder::{self, Holder};
use super::limits::TCP_BACKLOG;

/// Both sockets of one address, on the same port.
pub(super) struct Sockets {
    pub(super) local: SocketAddr,
    pub(super) udp: UdpSocket,
    pub(super) tcp: TcpListener,
}

/// Why an address is not served.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another program has the port, on this address or on all.
    #[error("{address} is taken by {holder}; stop it or keep it off this address")]
    InUse {
        /// Where we wanted to listen.
        address: SocketAddr,
        /// Who listens there.
        holder: Holder,
    },
    /// `0.0.0.0` or `::`: only mesh addresses are served, never the world.
    #[error("{0} means every address of the machine, and names are served on mesh addresses only")]
    Unspecified(SocketAddr),
    /// Anything else, such as no permission for a port below 1024.
    #[error("cannot listen on {address}")]
    Open {
        /// Where we wanted to listen.
        address: SocketAddr,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
}

impl ListenError {
    /// Which address failed.
    pub const fn address(&self) -> SocketAddr {
        match self {
            Self::InUse { address, .. } | Self::Unspecified(address) | Self::Open { address, .. } => *address,
        }
    }
}

/// Opens both sockets or none.
pub(super) async fn open(address: SocketAddr) -> Result<Sockets, ListenError> {
    if address.ip().is_unspecified() {
        return Err(ListenError::Unspecified(address));
    }
    match open_both(address) {
        Ok(sockets) => Ok(sockets),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let holder = tokio::task::spawn_blocking(move || holder::of(address)).await.unwrap_or_default();
            Err(ListenError::InUse { address, holder })
        }
        Err(source) => Err(ListenError::Open { address, source }),
    }
}

/// TCP first: with port 0 the kernel chooses it there.
fn open_both(address: SocketAddr) -> io::Result<Sockets> {
    let tcp = new(address, Type::STREAM, Protocol::TCP)?;
    // Connections of an earlier run in TIME-WAIT do not keep us out. A UDP socket has none, and there the option
    // would let two resolvers take the same port, of which one is never asked (socket(7)).
    tcp.set_reuse_address(true)?;
    tcp.bind(&address.into())?;
    tcp.listen(TCP_BACKLOG)?;
    let tcp = TcpListener::from_std(tcp.into())?;
    let local = tcp.local_addr()?;
    let udp = new(local, Type::DGRAM, Protocol::UDP)?;
    udp.bind(&local.into())?;
    Ok(Sockets { local, udp: UdpSocket::from_std(udp.into())?, tcp })
}

fn new(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    match address.ip() {
        IpAddr::V4(_) => socket.set_freebind_v4(true)?,
        IpAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_freebind_v6(true)?;
        }
    }
    Ok(socket)
}
