//! One packet on its way to the TUN device: whose flow it is of, and whether it may continue another packet.
//!
//! The rules are those of the kernel's GRO, with two exceptions. A TCP window that changed is not lost by joining,
//! as it is in the kernel. The identification of a packet that must not be fragmented says nothing (RFC 6864) and is
//! not compared. It knows no table and no batch.

use super::checksum::Sum;
use super::{
    IPV4_BYTES, IPV6_BYTES, Kind, TCP, TCP_BYTES, TCP_CHECKSUM, UDP, UDP_BYTES, UDP_CHECKSUM, double_word,
    flags, word,
};

/// Which packets may be joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Joins {
    /// TCP, of both families.
    pub(crate) tcp: bool,
    /// UDP, of both families: the kernel takes it from 6.2 on.
    pub(crate) udp: bool,
}

/// Packets of one key do not overtake each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    ports: [u8; 4],
    version: u8,
    protocol: u8,
    /// Source and destination; those of IPv4 are followed by zeros.
    addresses: [u8; 32],
}

/// Where the parts of a packet are, none of which has options in its IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) kind: Kind,
    /// Where the transport header starts.
    pub(super) transport: usize,
    /// Where the payload starts.
    pub(super) header: usize,
}

/// What can be done with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Candidate {
    /// Neither TCP nor UDP, or a fragment, or something with options: it may be of the flow of any group that
    /// [`Key::may_be_of`] names.
    Unknown,
    /// Of a flow, but never part of a super-packet.
    Alone(Key),
    /// A segment with payload.
    Joinable(Key, Layout),
}

impl Key {
    /// Whether a packet whose ports are not known may be of this flow.
    pub(super) fn may_be_of(&self, packet: &[u8]) -> bool {
        match packet.first().map(|first| first >> 4) {
            Some(4) if packet.len() >= IPV4_BYTES => {
                self.version == 4 && self.protocol == packet[9] && self.addresses[..8] == packet[12..20]
            }
            Some(6) if packet.len() >= IPV6_BYTES => self.version == 6 && self.addresses == packet[8..40],
            _ => false,
        }
    }
}

impl Candidate {
    /// Looks at the headers, not at the checksums: most packets that find no company need none.
    pub(super) fn of(packet: &[u8], joins: Joins) -> Self {
        let Some((transport, protocol)) = network(packet) else { return Self::Unknown };
        let known = match protocol {
            TCP => tcp(packet, transport),
            UDP => udp(packet, transport),
            _ => None,
        };
        let Some((header, joinable)) = known else { return Self::Unknown };
        let mut key = Key { ports: [0; 4], version: packet[0] >> 4, protocol, addresses: [0; 32] };
        key.ports.copy_from_slice(&packet[transport..transport + 4]);
        let addresses = if key.version == 4 { &packet[12..20] } else { &packet[8..40] };
        key.addresses[..addresses.len()].copy_from_slice(addresses);
        let (kind, wanted) = match (protocol, key.version) {
            (TCP, 4) => (Kind::Tcp4, joins.tcp),
            (TCP, _) => (Kind::Tcp6, joins.tcp),
            _ => (Kind::Udp, joins.udp),
        };
        if joinable && wanted && packet.len() > header {
            Self::Joinable(key, Layout { kind, transport, header })
        } else {
            Self::Alone(key)
        }
    }
}

/// Where the transport header starts, and its protocol: of packets without options, fragments and trailing bytes.
fn network(packet: &[u8]) -> Option<(usize, u8)> {
    match *packet.first()? {
        0x45 => {
            let header = packet.first_chunk::<IPV4_BYTES>()?;
            let whole = word(header, 6) & !DO_NOT_FRAGMENT == 0;
            (whole && usize::from(word(header, 2)) == packet.len()).then_some((IPV4_BYTES, header[9]))
        }
        first if first >> 4 == 6 => {
            let header = packet.first_chunk::<IPV6_BYTES>()?;
            (usize::from(word(header, 4)) + IPV6_BYTES == packet.len()).then_some((IPV6_BYTES, header[6]))
        }
        _ => None,
    }
}

/// The bit of an IPv4 header.
const DO_NOT_FRAGMENT: u16 = 0x4000;

/// Where the payload starts, and whether the flags allow company.
fn tcp(packet: &[u8], transport: usize) -> Option<(usize, bool)> {
    let header = packet[transport..].first_chunk::<TCP_BYTES>()?;
    let bytes = usize::from(header[12] >> 4) * 4;
    if bytes < TCP_BYTES || packet.len() < transport + bytes {
        return None;
    }
    let company = header[13] & (flags::SYN | flags::RST | flags::URG | flags::ACK) == flags::ACK;
    Some((transport + bytes, company))
}

/// Where the payload starts, and whether length and checksum allow company.
fn udp(packet: &[u8], transport: usize) -> Option<(usize, bool)> {
    let header = packet[transport..].first_chunk::<UDP_BYTES>()?;
    let company = usize::from(word(header, 4)) == packet.len() - transport && word(header, UDP_CHECKSUM) != 0;
    Some((transport + UDP_BYTES, company))
}

impl Layout {
    /// Whether this is IPv4.
    pub(super) fn is_ipv4(self) -> bool {
        self.transport == IPV4_BYTES
    }

    /// Where the checksum is in the transport header.
    pub(super) fn checksum(self) -> usize {
        if self.kind == Kind::Udp { UDP_CHECKSUM } else { TCP_CHECKSUM }
    }

    /// The flags of TCP; none in UDP.
    pub(super) fn flags(self, packet: &[u8]) -> u8 {
        if self.kind == Kind::Udp { 0 } else { packet[self.transport + 13] }
    }

    /// The sequence number of TCP; zero in UDP.
    pub(super) fn sequence(self, packet: &[u8]) -> u32 {
        if self.kind == Kind::Udp { 0 } else { double_word(packet, self.transport + 4) }
    }

    /// The sum of the pseudo-header of a transport of so many bytes.
    pub(super) fn pseudo_header(self, packet: &[u8], length: u16) -> Sum {
        let addresses = if self.is_ipv4() { &packet[12..20] } else { &packet[8..40] };
        let protocol = if self.kind == Kind::Udp { UDP } else { TCP };
        Sum::of_header(addresses).with(protocol.into()).with(length)
    }

    /// Whether both checksums of the packet are right.
    pub(super) fn is_valid(self, packet: &[u8]) -> bool {
        let transport = &packet[self.transport..];
        let Ok(length) = u16::try_from(transport.len()) else { return false };
        (!self.is_ipv4() || Sum::of_header(&packet[..IPV4_BYTES]).is_valid())
            && self.pseudo_header(packet, length).and(Sum::of(transport)).is_valid()
    }

    /// Whether a packet of the same flow differs from the first of a super-packet only in what [`super::Cut`] would
    /// write, checksums and the sequence number aside. `index`: how many packets are before it.
    pub(super) fn continues(self, first: &[u8], packet: &[u8], index: u16) -> bool {
        self.network_continues(first, packet, index)
            && (self.kind == Kind::Udp || self.tcp_continues(first, packet))
    }

    fn network_continues(self, first: &[u8], packet: &[u8], index: u16) -> bool {
        if !self.is_ipv4() {
            // Traffic class with ECN, flow label; hop limit.
            return first[..4] == packet[..4] && first[7] == packet[7];
        }
        let numbered =
            word(first, 6) == DO_NOT_FRAGMENT || word(packet, 4) == word(first, 4).wrapping_add(index);
        // Type of service with ECN; the bit against fragments; time to live.
        first[..2] == packet[..2] && first[6..9] == packet[6..9] && numbered
    }

    fn tcp_continues(self, first: &[u8], packet: &[u8]) -> bool {
        let (first, packet) = (&first[self.transport..self.header], &packet[self.transport..]);
        let may_differ = flags::CWR | flags::FIN | flags::PSH;
        packet.len() > first.len()
            && (first[13] ^ packet[13]) & !may_differ == 0
            && packet[13] & flags::CWR == 0
            // Acknowledged; header length and reserved bits; window.
            && first[8..13] == packet[8..13]
            && first[14..16] == packet[14..16]
            // The urgent pointer and the options.
            && first[18..] == packet[18..first.len()]
    }
}
