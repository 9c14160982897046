//! Packets for tests, and checksums as a textbook has them: nothing is shared with what is tested.

use proptest::prelude::{Just, Strategy, any, prop_oneof};

use super::VnetHeader;

/// RFC 1071, two bytes at a time.
pub(super) fn naive_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u64;
    for pair in bytes.chunks(2) {
        sum += u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |byte| u64::from(*byte));
    }
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    u16::try_from(sum).unwrap()
}

/// A TCP or UDP packet, field by field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) v6: bool,
    pub(super) udp: bool,
    pub(super) source: u8,
    pub(super) ports: (u16, u16),
    pub(super) tos: u8,
    pub(super) ttl: u8,
    pub(super) label: u16,
    pub(super) identification: u16,
    pub(super) frozen: bool,
    pub(super) sequence: u32,
    pub(super) acknowledged: u32,
    pub(super) flags: u8,
    pub(super) window: u16,
    pub(super) options: Vec<u8>,
    pub(super) payload: Vec<u8>,
}

impl Packet {
    pub(super) fn tcp(v6: bool, bytes: usize) -> Self {
        Self {
            v6,
            udp: false,
            source: 1,
            ports: (5000, 80),
            tos: 2,
            ttl: 64,
            label: 7,
            identification: 100,
            frozen: false,
            sequence: 1000,
            acknowledged: 77,
            flags: 0x10,
            window: 500,
            options: vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
            payload: numbered(bytes),
        }
    }

    pub(super) fn udp(v6: bool, bytes: usize) -> Self {
        Self { udp: true, options: Vec::new(), ..Self::tcp(v6, bytes) }
    }

    pub(super) fn transport(&self) -> usize {
        if self.v6 { 40 } else { 20 }
    }

    pub(super) fn header(&self) -> usize {
        self.transport() + if self.udp { 8 } else { 20 + self.options.len() }
    }

    pub(super) fn checksum_offset(&self) -> usize {
        if self.udp { 6 } else { 16 }
    }

    /// With right checksums.
    pub(super) fn build(&self) -> Vec<u8> {
        let (mut packet, pseudo) = self.without_checksum();
        let transport = self.transport();
        let sum = naive_sum(&[&pseudo[..], &packet[transport..]].concat());
        let checksum = if sum == 0xffff { 0xffff } else { !sum };
        let at = transport + self.checksum_offset();
        packet[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
        packet
    }

    /// As the kernel writes it to a TUN device, to be cut at `segment`.
    pub(super) fn build_super(&self, segment: u16) -> (VnetHeader, Vec<u8>) {
        let (mut packet, pseudo) = self.without_checksum();
        let at = self.transport() + self.checksum_offset();
        packet[at..at + 2].copy_from_slice(&naive_sum(&pseudo).to_be_bytes());
        let kind = match (self.udp, self.v6) {
            (true, _) => 5,
            (false, true) => 4,
            (false, false) => 1,
        };
        let ecn = if !self.udp && self.flags & 0x80 != 0 { 0x80 } else { 0 };
        let header = VnetHeader {
            flags: 1,
            kind: kind | ecn,
            header_bytes: self.header().try_into().unwrap(),
            segment_bytes: segment,
            checksum_start: self.transport().try_into().unwrap(),
            checksum_offset: self.checksum_offset().try_into().unwrap(),
        };
        (header, packet)
    }

    /// What a super-packet is to be cut into.
    pub(super) fn segments(&self, segment: usize) -> Vec<Self> {
        let count = self.payload.len().div_ceil(segment);
        let each = self.payload.chunks(segment).enumerate().map(|(index, payload)| {
            let mut packet = Self { payload: payload.to_vec(), ..self.clone() };
            packet.identification = self.identification.wrapping_add(u16::try_from(index).unwrap());
            packet.sequence = self.sequence.wrapping_add(u32::try_from(index * segment).unwrap());
            if index > 0 {
                packet.flags &= 0x7f;
            }
            if index + 1 < count {
                packet.flags &= 0xf6;
            }
            packet
        });
        each.collect()
    }

    /// The packet with zero in its transport's checksum, and its pseudo-header.
    fn without_checksum(&self) -> (Vec<u8>, Vec<u8>) {
        let mut transport = [self.ports.0.to_be_bytes(), self.ports.1.to_be_bytes()].concat();
        if self.udp {
            transport.extend(u16::try_from(8 + self.payload.len()).unwrap().to_be_bytes());
            transport.extend([0, 0]);
        } else {
            transport.extend(self.sequence.to_be_bytes());
            transport.extend(self.acknowledged.to_be_bytes());
            transport.extend([u8::try_from(5 + self.options.len() / 4).unwrap() << 4, self.flags]);
            transport.extend(self.window.to_be_bytes());
            transport.extend([0; 4]);
            transport.extend(&self.options);
        }
        transport.extend(&self.payload);
        let protocol = if self.udp { 17 } else { 6 };
        let length = u16::try_from(transport.len()).unwrap();
        let (mut packet, addresses) = self.network(protocol, length);
        let pseudo = [&addresses[..], &length.to_be_bytes(), &[0, protocol]].concat();
        packet.extend(transport);
        (packet, pseudo)
    }

    /// The IP header, and the addresses in it.
    fn network(&self, protocol: u8, length: u16) -> (Vec<u8>, Vec<u8>) {
        if self.v6 {
            let first = 6 << 28 | u32::from(self.tos) << 20 | u32::from(self.label);
            let mut header = first.to_be_bytes().to_vec();
            header.extend(length.to_be_bytes());
            header.extend([protocol, self.ttl]);
            let mut addresses = [[0; 16], [0; 16]].concat();
            for at in [0, 16] {
                addresses[at..at + 2].copy_from_slice(&[0xfd, 0x77]);
            }
            (addresses[15], addresses[31]) = (self.source, 200);
            header.extend(&addresses);
            return (header, addresses);
        }
        let addresses = vec![10, 77, 0, self.source, 10, 77, 0, 200];
        let mut header = vec![0x45, self.tos];
        header.extend((length + 20).to_be_bytes());
        header.extend(self.identification.to_be_bytes());
        header.extend([if self.frozen { 0x40 } else { 0 }, 0, self.ttl, protocol, 0, 0]);
        header.extend(&addresses);
        let checksum = !naive_sum(&header);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        (header, addresses)
    }
}

/// Whether lengths and checksums of a packet without IP options are right.
pub(super) fn is_valid(packet: &[u8]) -> bool {
    let word = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    let (network_is_valid, protocol, transport, addresses) = if packet[0] >> 4 == 6 {
        (usize::from(word(4)) + 40 == packet.len(), packet[6], 40, &packet[8..40])
    } else {
        let valid = usize::from(word(2)) == packet.len() && naive_sum(&packet[..20]) == 0xffff;
        (valid, packet[9], 20, &packet[12..20])
    };
    let length = u16::try_from(packet.len() - transport).unwrap();
    let pseudo = [addresses, &length.to_be_bytes(), &[0, protocol], &packet[transport..]].concat();
    network_is_valid && naive_sum(&pseudo) == 0xffff && (protocol != 17 || word(transport + 4) == length)
}

/// Bytes that differ from place to place.
pub(super) fn numbered(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| u8::try_from((i * 7 + i / 251) % 256).unwrap()).collect()
}

/// Any packet that may be a super-packet, with the size of its segments: at most 64.
pub(super) fn any_super() -> impl Strategy<Value = (Packet, u16)> {
    let sizes = prop_oneof![1_u16..=64, 500_u16..=1500, Just(1368)]
        .prop_flat_map(|segment| (Just(segment), 1..=(usize::from(segment) * 64).min(65_535 - 120)));
    let network =
        (any::<bool>(), any::<bool>(), any::<u8>(), any::<u8>(), any::<u16>(), any::<u16>(), any::<bool>());
    let transport = (any::<u32>(), any::<u32>(), any::<u16>(), any::<u16>(), any::<u16>());
    let flags = proptest::bits::u8::masked(0xc9);
    let options = proptest::collection::vec(any::<[u8; 4]>(), 0..=10);
    (sizes, network, transport, flags, options, any::<u64>()).prop_map(
        |(sizes, network, transport, flags, options, seed)| {
            let (segment, bytes) = sizes;
            let (v6, udp, tos, ttl, label, identification, frozen) = network;
            let (sequence, acknowledged, from, to, window) = transport;
            let mut state = seed | 1;
            let payload = std::iter::repeat_with(|| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                state.to_be_bytes()[0]
            });
            let packet = Packet {
                v6,
                udp,
                source: 1,
                ports: (from, to),
                tos,
                ttl,
                label,
                identification,
                frozen,
                sequence,
                acknowledged,
                flags: 0x10 | flags,
                window,
                options: if udp { Vec::new() } else { options.concat() },
                payload: payload.take(bytes).collect(),
            };
            (packet, segment)
        },
    )
}
