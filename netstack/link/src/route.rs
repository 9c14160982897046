//! The way over which a link was dialled, and whether it can still lead anywhere. Sends nothing.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// See the top of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    remote: SocketAddr,
    /// The link's own address, where it has but one: TCP's. QUIC follows the machine within its family.
    own: Option<IpAddr>,
    /// Of the link's sockets (`SO_MARK`, socket(7)).
    mark: Option<u32>,
}

impl Route {
    pub(crate) const fn new(remote: SocketAddr, own: Option<IpAddr>, mark: Option<u32>) -> Self {
        Self { remote, own, mark }
    }

    /// Why nothing can go this way any more, as far as the kernel knows. `None`: something may.
    pub fn dead(&self) -> Option<&'static str> {
        if self.own.is_some_and(|own| !is_ours(own)) {
            return Some("the link's own address is gone");
        }
        self.connect().is_err().then_some("no route leads to the server")
    }

    /// Asks the kernel for a route: a UDP socket that is connected sends nothing.
    pub(crate) fn connect(&self) -> io::Result<()> {
        self.socket()?.connect(self.remote)
    }

    /// A UDP socket for it that has no address yet.
    pub(crate) fn socket(&self) -> io::Result<UdpSocket> {
        let any = if self.remote.is_ipv4() { any_v4() } else { any_v6() };
        let udp = UdpSocket::bind((any, 0))?;
        if let Some(mark) = self.mark {
            socket2::SockRef::from(&udp).set_mark(mark)?;
        }
        Ok(udp)
    }
}

/// Whether an address is this machine's: nobody binds to another. What fails for another reason says nothing.
fn is_ours(address: IpAddr) -> bool {
    !UdpSocket::bind((address, 0)).is_err_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable)
}

const fn any_v4() -> IpAddr {
    IpAddr::V4(Ipv4Addr::UNSPECIFIED)
}

const fn any_v6() -> IpAddr {
    IpAddr::V6(Ipv6Addr::UNSPECIFIED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_not_ours_leads_nowhere() {
        let remote = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        let dead = |own: Option<&str>| {
            Route::new(remote, own.map(|own| own.parse().expect("an address")), None).dead()
        };
        assert_eq!((dead(None), dead(Some("127.0.0.1"))), (None, None));
        assert_eq!(dead(Some("192.0.2.1")), Some("the link's own address is gone"));
    }
}
