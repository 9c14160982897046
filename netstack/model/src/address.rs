//! Mesh addresses, a tenant's block, and where a hub can be reached. Resolves nothing.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::id::TenantId;
use crate::key::Digest;
use crate::name::Name;
use crate::text::{cbor_as_text, serde_as_text};

/// Why addresses or an endpoint were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// Not `a.b.c.d/len` with host bits zero, or a length outside 8 to 29.
    #[error("an IPv4 block is a network such as 100.64.0.0/16, between /8 and /29")]
    Block,
    /// Multicast, loopback, link-local or this-network.
    #[error("{0} cannot be used for a mesh")]
    NotForMesh(Ipv4Net),
    /// Not `host:port`.
    #[error("an endpoint is host:port, such as vpn.example.org:51820 or [2001:db8::1]:51820")]
    Endpoint,
}

/// A tenant's addresses: an IPv4 block and a /48 ULA (RFC 4193).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    v4: Ipv4Net,
    v6: Ipv6Net,
}

impl Block {
    /// The block of a tenant; its ULA is derived from the tenant's id.
    pub fn new(v4: Ipv4Net, tenant: TenantId) -> Result<Self, BadAddress> {
        Self::from_nets(v4, ula(tenant))
    }

    /// A block from its two networks, as stored or received.
    pub fn from_nets(v4: Ipv4Net, v6: Ipv6Net) -> Result<Self, BadAddress> {
        if v4.trunc() != v4
            || !(8..=29).contains(&v4.prefix_len())
            || v6.trunc() != v6
            || v6.prefix_len() != 48
        {
            return Err(BadAddress::Block);
        }
        let first = v4.addr();
        if first.is_loopback()
            || first.is_multicast()
            || first.is_link_local()
            || matches!(first.octets()[0], 0 | 240..)
        {
            return Err(BadAddress::NotForMesh(v4));
        }
        Ok(Self { v4, v6 })
    }

    /// The IPv4 network.
    pub const fn v4(&self) -> Ipv4Net {
        self.v4
    }

    /// The IPv6 network.
    pub const fn v6(&self) -> Ipv6Net {
        self.v6
    }

    /// Both networks.
    pub fn nets(&self) -> [IpNet; 2] {
        [IpNet::V4(self.v4), IpNet::V6(self.v6)]
    }

    /// Whether an address is the tenant's.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(a) => self.v4.contains(&a),
            IpAddr::V6(a) => self.v6.contains(&a),
        }
    }

    /// Whether two blocks share an address.
    pub fn overlaps(&self, other: &Self) -> bool {
        let contains_v4 = self.v4.contains(&other.v4.addr()) || other.v4.contains(&self.v4.addr());
        contains_v4 || self.v6 == other.v6
    }

    /// How many hosts fit, the hub among them (network and broadcast address are not used).
    pub fn hosts(&self) -> u32 {
        (1u32 << (32 - self.v4.prefix_len())) - 2
    }

    /// The addresses of host `number`: 1 is the hub, devices follow, up to [`Self::hosts`]. `None` outside.
    pub fn host(&self, number: u32) -> Option<MeshAddresses> {
        if number == 0 || number > self.hosts() {
            return None;
        }
        let v4 = Ipv4Addr::from(u32::from(self.v4.addr()) + number);
        let v6 = Ipv6Addr::from(u128::from(self.v6.addr()) + u128::from(number));
        Some(MeshAddresses { v4, v6 })
    }

    /// The addresses of the hub.
    pub fn hub(&self) -> MeshAddresses {
        self.host(1).expect("a /29 has at least six hosts")
    }

    /// Which host has this IPv4 address; the inverse of [`Self::host`].
    pub fn number_of(&self, address: Ipv4Addr) -> Option<u32> {
        let number = u32::from(address).checked_sub(u32::from(self.v4.addr()))?;
        (self.v4.contains(&address) && (1..=self.hosts()).contains(&number)).then_some(number)
    }
}

/// RFC 4193, section 3.2: fd00::/8 and 40 bits that nobody else has, here from the tenant's id.
fn ula(tenant: TenantId) -> Ipv6Net {
    let digest = Digest::of("warren ula 1", &[tenant.as_bytes()]);
    let mut octets = [0u8; 16];
    octets[0] = 0xfd;
    octets[1..6].copy_from_slice(&digest.as_bytes()[..5]);
    Ipv6Net::new(Ipv6Addr::from(octets), 48).expect("48 is a prefix length")
}

/// The two addresses of one node in its tenant's block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MeshAddresses {
    /// In the tenant's IPv4 block.
    pub v4: Ipv4Addr,
    /// In the tenant's ULA.
    pub v6: Ipv6Addr,
}

impl MeshAddresses {
    /// Both, as host routes: what a peer may send from.
    pub fn host_nets(&self) -> [IpNet; 2] {
        [IpNet::from(IpAddr::V4(self.v4)), IpNet::from(IpAddr::V6(self.v6))]
    }

    /// Both addresses.
    pub fn both(&self) -> [IpAddr; 2] {
        [self.v4.into(), self.v6.into()]
    }
}

/// Where a hub's WireGuard answers: an address or a name, and a UDP port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// An address, or a name outside the mesh.
    pub host: EndpointHost,
    /// UDP port, not 0.
    pub port: u16,
}

/// The host part of an [`Endpoint`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum EndpointHost {
    /// Ready to use.
    Address(IpAddr),
    /// To be resolved by the machine's own resolver, never by Warren's.
    Name(Name),
}

impl From<SocketAddr> for Endpoint {
    fn from(a: SocketAddr) -> Self {
        Self { host: EndpointHost::Address(a.ip()), port: a.port() }
    }
}

impl Endpoint {
    /// The socket address, if no name has to be resolved.
    pub fn socket_address(&self) -> Option<SocketAddr> {
        match self.host {
            EndpointHost::Address(ip) => Some(SocketAddr::new(ip, self.port)),
            EndpointHost::Name(_) => None,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            EndpointHost::Address(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            EndpointHost::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

impl FromStr for Endpoint {
    type Err = BadAddress;
    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let endpoint = if let Ok(address) = text.parse::<SocketAddr>() {
            address.into()
        } else {
            let (host, port) = text.rsplit_once(':').ok_or(BadAddress::Endpoint)?;
            let port = port.parse().map_err(|_| BadAddress::Endpoint)?;
            Self { host: EndpointHost::Name(host.parse().map_err(|_| BadAddress::Endpoint)?), port }
        };
        if endpoint.port == 0 { Err(BadAddress::Endpoint) } else { Ok(endpoint) }
    }
}

cbor_as_text!(Endpoint);
serde_as_text!(Endpoint);

/// CBOR for the address types of the standard library and of ipnet: 4 or 16 bytes, then the prefix length.
pub(crate) mod cbor {
    use super::{Block, IpNet, Ipv4Addr, Ipv4Net, Ipv6Addr, Ipv6Net, MeshAddresses};
    use minicbor::decode::Error as DecodeError;
    use minicbor::encode::{Error as EncodeError, Write};
    use minicbor::{Decode, Decoder, Encode, Encoder};

    impl<C> Encode<C> for MeshAddresses {
        fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), EncodeError<W::Error>> {
            e.array(2)?.bytes(&self.v4.octets())?.bytes(&self.v6.octets())?.ok()
        }
    }

    impl<'b, C> Decode<'b, C> for MeshAddresses {
        fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, DecodeError> {
            array_of_two(d)?;
            Ok(Self { v4: Ipv4Addr::from(octets::<4>(d)?), v6: Ipv6Addr::from(octets::<16>(d)?) })
        }
    }

    impl<C> Encode<C> for Block {
        fn encode<W: Write>(&self, e: &mut Encoder<W>, c: &mut C) -> Result<(), EncodeError<W::Error>> {
            e.array(2)?;
            net::encode(&IpNet::V4(self.v4), e, c)?;
            net::encode(&IpNet::V6(self.v6), e, c)
        }
    }

    impl<'b, C> Decode<'b, C> for Block {
        fn decode(d: &mut Decoder<'b>, c: &mut C) -> Result<Self, DecodeError> {
            array_of_two(d)?;
            match (net::decode(d, c)?, net::decode(d, c)?) {
                (IpNet::V4(v4), IpNet::V6(v6)) => Self::from_nets(v4, v6).map_err(DecodeError::message),
                _ => Err(DecodeError::message("a block is an IPv4 and an IPv6 network")),
            }
        }
    }

    /// For `#[cbor(with = …)]` on a field of type `IpNet`.
    pub(crate) mod net {
        use super::{
            DecodeError, Decoder, EncodeError, Encoder, IpNet, Ipv4Net, Ipv6Net, Write, array_of_two,
        };

        pub(crate) fn encode<C, W: Write>(
            n: &IpNet,
            e: &mut Encoder<W>,
            _: &mut C,
        ) -> Result<(), EncodeError<W::Error>> {
            e.array(2)?;
            match n {
                IpNet::V4(n) => e.bytes(&n.addr().octets())?,
                IpNet::V6(n) => e.bytes(&n.addr().octets())?,
            };
            e.u8(n.prefix_len())?.ok()
        }

        pub(crate) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<IpNet, DecodeError> {
            array_of_two(d)?;
            let bytes = d.bytes()?.to_vec();
            let length = d.u8()?;
            let net = if let Ok(v4) = <[u8; 4]>::try_from(&*bytes) {
                Ipv4Net::new(v4.into(), length).map(IpNet::V4)
            } else if let Ok(v6) = <[u8; 16]>::try_from(&*bytes) {
                Ipv6Net::new(v6.into(), length).map(IpNet::V6)
            } else {
                return Err(DecodeError::message("an address has 4 or 16 bytes"));
            };
            net.map_err(|_| DecodeError::message("prefix length out of range"))
        }
    }

    /// For `#[cbor(with = …)]` on a field of type `Vec<IpNet>`.
    pub(crate) mod nets {
        use super::{DecodeError, Decoder, EncodeError, Encoder, IpNet, Write, net};

        pub(crate) fn encode<C, W: Write>(
            n: &[IpNet],
            e: &mut Encoder<W>,
            c: &mut C,
        ) -> Result<(), EncodeError<W::Error>> {
            e.array(n.len() as u64)?;
            n.iter().try_for_each(|n| net::encode(n, e, c))
        }

        pub(crate) fn decode<C>(d: &mut Decoder<'_>, c: &mut C) -> Result<Vec<IpNet>, DecodeError> {
            let count = d.array()?.ok_or_else(|| DecodeError::message("indefinite array"))?;
            (0..count).map(|_| net::decode(d, c)).collect()
        }
    }

    fn array_of_two(d: &mut Decoder<'_>) -> Result<(), DecodeError> {
        if d.array()? == Some(2) { Ok(()) } else { Err(DecodeError::message("expected an array of two")) }
    }

    pub(crate) fn octets<const N: usize>(d: &mut Decoder<'_>) -> Result<[u8; N], DecodeError> {
        d.bytes()?.try_into().map_err(|_| DecodeError::message("an address of the wrong length"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(v4: &str) -> Result<Block, BadAddress> {
        Block::new(v4.parse().expect("a network"), TenantId::from_bytes([7; 16]))
    }

    #[test]
    fn hosts_are_numbered_both_ways() {
        let block = block("100.64.0.0/16").expect("a block");
        let hub = block.hub();
        assert_eq!(hub.v4, Ipv4Addr::new(100, 64, 0, 1));
        assert!(block.contains(hub.v6.into()) && hub.v6.octets()[0] == 0xfd);
        assert_eq!(block.number_of(hub.v4), Some(1));
        assert_eq!(block.host(0), None);
        assert_eq!(block.host(65_534).map(|a| a.v4), Some(Ipv4Addr::new(100, 64, 255, 254)));
        assert_eq!(block.host(65_535), None, "the broadcast address");
    }

    #[test]
    fn blocks_that_cannot_serve_are_refused() {
        for bad in
            ["100.64.0.1/16", "127.0.0.0/8", "224.0.0.0/8", "169.254.0.0/16", "10.0.0.0/30", "0.0.0.0/8"]
        {
            assert!(block(bad).is_err(), "{bad}");
        }
        assert!(block("10.1.0.0/16").is_ok());
    }

    #[test]
    fn endpoints_are_addresses_or_names() {
        let check = |text: &str, ok: bool| assert_eq!(text.parse::<Endpoint>().is_ok(), ok, "{text}");
        check("203.0.113.1:51820", true);
        check("[2001:db8::1]:51820", true);
        check("vpn.example.org:51820", true);
        check("vpn.example.org", false);
        check("vpn.example.org:0", false);
        check("bad host:1", false);
    }
}
