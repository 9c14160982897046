//! Sockets to listen on: `[::]` is both families, whatever the system makes of it. Accepts nothing.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::errno::Errno;
use socket2::{Domain, Socket, Type};

/// Connections that wait to be accepted; the system may allow fewer (listen(2)).
const BACKLOG: i32 = 1024;

/// A TCP socket that listens, and does not block. On `[::]` it takes IPv4 too (ipv6(7), `IPV6_V6ONLY`), and where the machine
/// has no IPv6 it takes IPv4 alone.
///
/// # Errors
/// What socket(2), bind(2) and listen(2) say.
pub fn tcp(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = bound(address, Type::STREAM)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A UDP socket that does not block, as [`tcp`].
///
/// # Errors
/// What socket(2) and bind(2) say.
pub fn udp(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    bound(address, Type::DGRAM).map(Into::into)
}

/// Whom an address is counted as: whoever has one IPv6 address has the whole /64 (RFC 6177).
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    }
}

fn bound(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    match open(address, kind) {
        Err(error)
            if address.ip().is_unspecified() && error.raw_os_error() == Some(Errno::EAFNOSUPPORT as i32) =>
        {
            open(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())), kind)
        }
        other => other,
    }
}

fn open(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    if kind == Type::STREAM {
        // A server that is started again need not wait for connections of before.
        socket.set_reuse_address(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// An address as people write it: IPv4 as itself, also where a socket of both families says it (RFC 4291, section 2.5.5.2).
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unspecified_address_of_ipv6_takes_both_families() {
        let listener = tcp("[::]:0".parse().expect("an address")).expect("a port");
        let port = listener.local_addr().expect("it is bound").port();
        listener.set_nonblocking(false).expect("it may wait");
        for address in ["127.0.0.1", "::1"] {
            let ip = address.parse().expect("an address");
            let _client = std::net::TcpStream::connect(SocketAddr::new(ip, port)).expect(address);
            let (_, from) = listener.accept().expect("it came");
            assert_eq!(canonical(from).ip(), ip);
        }
    }

    #[test]
    fn an_address_of_ipv4_takes_nothing_else() {
        let socket = udp("0.0.0.0:0".parse().expect("an address")).expect("a port");
        let port = socket.local_addr().expect("it is bound").port();
        let other = udp(SocketAddr::new("::1".parse().expect("an address"), port));
        assert!(other.is_ok(), "IPv6 is left to others: {other:?}");
    }
}
