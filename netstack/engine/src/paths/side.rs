//! Side sockets: many that stand beside WireGuard's, behind a NAT that gives each its own port. Each with whom it talks to is an address of
//! its own here, so that a path over one is a path as any other. Opens nothing.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};

/// Which side socket. None is given twice in one life of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SideId(pub u32);

/// Addresses that no packet comes from or gets to (RFC 6666).
const NOWHERE: [u16; 4] = [0x100, 0, 0, 0];

/// The address that stands for another one as a side socket talks to it. [`super::Way::Direct`] and [`super::PathOutput::Probe`] may name
/// it.
pub fn place(side: SideId, remote: SocketAddrV4) -> SocketAddr {
    let [a, b, c, d] = NOWHERE;
    let half = |bits: u32| [bits >> 16, bits & 0xFFFF].map(|half| u16::try_from(half).expect("16 bits"));
    let ([e, f], [g, h]) = (half(side.0), half(remote.ip().to_bits()));
    SocketAddr::new(Ipv6Addr::new(a, b, c, d, e, f, g, h).into(), remote.port())
}

/// Which side socket talks to whom, if the address is a [`place`].
pub fn side(place: SocketAddr) -> Option<(SideId, SocketAddr)> {
    let SocketAddr::V6(address) = place else { return None };
    let [a, b, c, d, e, f, g, h] = address.ip().segments().map(u32::from);
    let is_place = [a, b, c, d] == NOWHERE.map(u32::from);
    let remote = Ipv4Addr::from_bits(g << 16 | h);
    is_place.then(|| (SideId(e << 16 | f), SocketAddr::new(remote.into(), address.port())))
}

/// The address as it is outside, of a [`place`] or of any other.
pub fn real(address: SocketAddr) -> SocketAddr {
    side(address).map_or(address, |(_, remote)| remote)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_says_which_socket_talks_to_whom_and_nothing_else_is_one() {
        for id in [0, 1, 0xFFFF, 0x1_0000, u32::MAX] {
            let remote: SocketAddrV4 = "203.0.113.10:41641".parse().expect("an address");
            let place = place(SideId(id), remote);
            assert_eq!(side(place), Some((SideId(id), remote.into())));
            assert_eq!(real(place), remote.into());
        }
        for other in ["203.0.113.10:7", "[2001:db8::1]:7", "[100:0:0:1::1]:7", "[::ffff:203.0.113.10]:7"] {
            let other: SocketAddr = other.parse().expect("an address");
            assert_eq!((side(other), real(other)), (None, other));
        }
    }
}
