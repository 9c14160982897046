//! Addresses at which a device may be reached, and what is known of them before a packet went there. Sends nothing.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use minicbor::{Decode, Encode};

use super::side::side;

/// Where an address comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum CandidateKind {
    /// An address of an interface of the device.
    #[n(0)]
    Local,
    /// The address that the device's packets have when they come to the server (RFC 8489: server-reflexive).
    #[n(1)]
    Reflexive,
    /// A port that the device's router opened for it when asked (RFC 6886, RFC 6887, UPnP IGD).
    #[n(2)]
    Mapped,
    /// The address that a peer's packets came from (RFC 8445: peer-reflexive).
    #[n(3)]
    Seen,
}

impl fmt::Display for CandidateKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Local => "local",
            Self::Reflexive => "reflexive",
            Self::Mapped => "mapped",
            Self::Seen => "seen",
        })
    }
}

/// How a NAT gives out ports (RFC 4787, section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum Mapping {
    /// There is no NAT: packets leave with an address of the device.
    #[n(0)]
    None,
    /// One port for all whom the device talks to.
    #[n(1)]
    EndpointIndependent,
    /// A port for each address and port that the device talks to: "symmetric".
    #[n(2)]
    PortDependent,
    /// UDP does not come through: a server is reached, and not over UDP.
    #[n(3)]
    Blocked,
}

impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "no NAT",
            Self::EndpointIndependent => "a NAT that keeps its port",
            Self::PortDependent => "a symmetric NAT",
            Self::Blocked => "no UDP",
        })
    }
}

/// Whether packets of WireGuard may be sent there at all: a hint comes from a device of the tenant, which is no reason to
/// let it point us at ourselves, at everybody, or at nothing.
pub(super) fn may_be_reached(address: SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    let refused = match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_broadcast() || ip.is_link_local() || ip.octets()[0] == 0,
        // Link-local ones mean nothing without the interface.
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local(),
    };
    !refused && !ip.is_multicast() && !ip.is_unspecified() && address.port() != 0 && side(address).is_none()
}

/// Whether what comes from an address came over the internet, as far as numbers say.
pub fn is_beyond(address: SocketAddr) -> bool {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => is_public(ip),
        IpAddr::V6(ip) => may_be_reached(address) && !ip.is_unique_local(),
    }
}

/// Whether an address is one of a private network (RFC 1918) or of a provider's (RFC 6598): the internet knows who has it by another one.
pub fn is_private(ip: Ipv4Addr) -> bool {
    let [first, second, ..] = ip.octets();
    ip.is_private() || (first == 100 && second & 0xC0 == 64)
}

/// Whether an address is one of the internet, as far as numbers say: neither private nor reserved. Many packets go nowhere else.
pub(super) fn is_public(ip: Ipv4Addr) -> bool {
    may_be_reached((ip, 1).into()) && !is_private(ip) && ip.octets()[0] < 224
}

/// As WireGuard's sockets name it: IPv4 as itself.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_pointed_at_what_is_no_peer() {
        let check = |text: &str, expect| {
            assert_eq!(may_be_reached(text.parse().expect("an address")), expect, "{text}");
        };
        check("192.0.2.1:51820", true);
        check("192.168.1.2:1", true);
        check("100.64.0.1:41641", true);
        check("[2001:db8::1]:51820", true);
        check("[fd00::1]:51820", true);
        check("[::ffff:192.0.2.1]:51820", true);
        check("127.0.0.1:53", false);
        check("[::ffff:127.0.0.1]:53", false);
        check("0.0.0.0:53", false);
        check("0.1.2.3:53", false);
        check("255.255.255.255:53", false);
        check("224.0.0.1:53", false);
        check("169.254.169.254:80", false);
        check("[::1]:53", false);
        check("[::]:53", false);
        check("[fe80::1]:53", false);
        check("[ff02::1]:53", false);
        check("192.0.2.1:0", false);
        // Stands for a side socket of our own.
        check("[100::7:c000:201]:5", false);
    }

    #[test]
    fn many_packets_go_to_addresses_of_the_internet_alone() {
        let check = |text: &str, expect| {
            let ip = text.parse().expect("an address");
            assert_eq!(is_public(ip), expect, "{text}");
            assert!(!(expect && is_private(ip)), "{text}");
        };
        check("203.0.113.1", true);
        check("100.63.255.255", true);
        check("100.128.0.1", true);
        check("10.0.0.1", false);
        check("172.31.255.1", false);
        check("192.168.1.1", false);
        check("100.64.0.1", false);
        check("127.0.0.1", false);
        check("169.254.0.1", false);
        check("0.0.0.0", false);
        check("224.0.0.1", false);
        check("240.0.0.1", false);
        check("255.255.255.255", false);
    }

    #[test]
    fn a_nat_is_to_be_expected_before_private_networks_and_a_providers() {
        let check = |text: &str, expect| {
            assert_eq!(is_private(text.parse().expect("an address")), expect, "{text}");
        };
        check("10.255.0.1", true);
        check("172.16.0.1", true);
        check("172.32.0.1", false);
        check("192.168.1.1", true);
        check("100.64.0.0", true);
        check("100.127.255.255", true);
        check("100.63.255.255", false);
        check("100.128.0.0", false);
        check("203.0.113.1", false);
        check("127.0.0.1", false);
        check("169.254.0.1", false);
    }
}
