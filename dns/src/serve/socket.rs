//! Opens the sockets of an address. Reads and writes none.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use super::Options;
use super::holder::{self, Holder};
use super::limits::{TCP_BACKLOG, UDP_RECEIVE_BUFFER_BYTES, UDP_THREADS_MAX};

/// The sockets of one address, on the same port.
pub(super) struct Sockets {
    pub(super) local: SocketAddr,
    /// One for each thread, at least one. They wait.
    pub(super) udp: Vec<Arc<Socket>>,
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

/// Opens all sockets or none.
pub(super) async fn open(address: SocketAddr, options: &Options) -> Result<Sockets, ListenError> {
    if address.ip().is_unspecified() {
        return Err(ListenError::Unspecified(address));
    }
    match open_all(address, options) {
        Ok(sockets) => Ok(sockets),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let holder = tokio::task::spawn_blocking(move || holder::of(address)).await.unwrap_or_default();
            Err(ListenError::InUse { address, holder })
        }
        Err(source) => Err(ListenError::Open { address, source }),
    }
}

/// TCP first: with port 0 the kernel chooses it there.
fn open_all(address: SocketAddr, options: &Options) -> io::Result<Sockets> {
    let tcp = new(address, Type::STREAM, Protocol::TCP)?;
    // Connections of an earlier run in TIME-WAIT do not keep us out. A UDP socket has none, and there the option
    // would let two resolvers take the same port, of which one is never asked (socket(7)).
    tcp.set_reuse_address(true)?;
    tcp.set_reuse_port(options.shared)?;
    tcp.set_nonblocking(true)?;
    tcp.bind(&address.into())?;
    tcp.listen(TCP_BACKLOG)?;
    let tcp = TcpListener::from_std(tcp.into())?;
    let local = tcp.local_addr()?;
    // Alone unless others are wanted: where somebody else is, that is to be told, and not to be shared.
    let first = open_udp(local, options.shared)?;
    let mut udp = vec![Arc::new(first)];
    for _ in 1..options.threads.clamp(1, UDP_THREADS_MAX) {
        udp[0].set_reuse_port(true)?;
        udp.push(Arc::new(open_udp(local, true)?));
    }
    Ok(Sockets { local, udp, tcp })
}

fn open_udp(local: SocketAddr, shared: bool) -> io::Result<Socket> {
    let udp = new(local, Type::DGRAM, Protocol::UDP)?;
    udp.set_reuse_port(shared)?;
    // Beyond the machine's bound with the capability that daemons have, else up to it.
    if setsockopt(&udp, sockopt::RcvBufForce, &UDP_RECEIVE_BUFFER_BYTES).is_err() {
        udp.set_recv_buffer_size(UDP_RECEIVE_BUFFER_BYTES)?;
    }
    udp.bind(&local.into())?;
    Ok(udp)
}

fn new(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    match address.ip() {
        IpAddr::V4(_) => socket.set_freebind_v4(true)?,
        IpAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_freebind_v6(true)?;
        }
    }
    Ok(socket)
}
