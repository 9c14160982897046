//! Packets of the wire out of what the kernel writes to the TUN device.
//!
//! A super-packet is cut as `net/ipv4/tcp_offload.c` and `udp_offload.c` cut it; a packet whose checksum is partial
//! gets its checksum. What is constant in the headers is summed once; each segment adds its own fields and its
//! payload, which is summed while it is copied.

use super::checksum::Sum;
use super::{
    IPV4_BYTES, IPV6_BYTES, Kind, TCP, TCP_BYTES, TCP_CHECKSUM, UDP, UDP_BYTES, UDP_CHECKSUM, VnetHeader,
    double_word, flags, set_word, word,
};

/// Why a packet cannot be cut: its virtio-net header and its own headers contradict each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    /// Neither a packet nor a kind that was asked for.
    #[error("kind {0:#04x} of a super-packet is not known")]
    Kind(u8),
    /// The headers reach beyond the packet, or there is none.
    #[error("a packet of {0} bytes is shorter than its headers")]
    Short(usize),
    /// The place of the checksum is not one, or not that of the kind.
    #[error("a checksum at {start}+{offset}")]
    Checksum { start: u16, offset: u16 },
    /// The IP header is not that of the kind.
    #[error("the IP header is not that of a super-packet")]
    Network,
    /// The TCP header is shorter than it may be.
    #[error("a TCP header of {0} bytes")]
    Transport(usize),
    /// Segments without payload, or longer than IP allows.
    #[error("segments of {0} bytes")]
    Segment(u16),
}

/// A packet of the TUN device, as the packets of the wire that it stands for.
pub(crate) struct Cut<'a> {
    packet: &'a [u8],
    shape: Shape,
}

enum Shape {
    /// As it is.
    Whole,
    /// One packet without its checksum.
    Partial { start: usize, checksum: usize },
    /// Several, most of one size.
    Segments(Segments),
}

/// What the segments have in common.
struct Segments {
    count: usize,
    /// Where the transport header starts, and where the payload.
    transport: usize,
    header: usize,
    /// Payload of each segment but the last.
    stride: usize,
    /// The sum of an IPv4 header but for length, identification and checksum.
    ipv4: Option<(Sum, u16)>,
    /// The sum of pseudo-header and header but for what differs.
    sum: Sum,
    /// Sequence number, and the word of header length and flags. None in UDP.
    tcp: Option<(u32, u16)>,
}

impl<'a> Cut<'a> {
    /// Checks the header against the packet: nothing in either can make the other functions fail.
    pub(crate) fn new(header: &VnetHeader, packet: &'a [u8]) -> Result<Self, Malformed> {
        if packet.is_empty() || usize::from(header.header_bytes) > packet.len() {
            return Err(Malformed::Short(packet.len()));
        }
        let shape = match header.kind().ok_or(Malformed::Kind(header.kind))? {
            Kind::Single if header.needs_checksum() => partial(header, packet)?,
            Kind::Single => Shape::Whole,
            kind => Shape::Segments(Segments::new(kind, header, packet)?),
        };
        Ok(Self { packet, shape })
    }

    /// How many packets there are: at least one.
    pub(crate) fn count(&self) -> usize {
        match &self.shape {
            Shape::Whole | Shape::Partial { .. } => 1,
            Shape::Segments(segments) => segments.count,
        }
    }

    /// Length of a packet from its IP header on. All but the last are equal, and the last is not longer.
    ///
    /// # Panics
    /// If there is no such packet.
    pub(crate) fn bytes(&self, index: usize) -> usize {
        assert!(index < self.count(), "a packet of the {}", self.count());
        match &self.shape {
            Shape::Whole | Shape::Partial { .. } => self.packet.len(),
            Shape::Segments(segments) => segments.header + segments.payload(index, self.packet).len(),
        }
    }

    /// Writes a packet: lengths, identification, sequence number, flags and checksums are its own.
    ///
    /// # Panics
    /// If there is no such packet, or `out` is not as long as it is.
    pub(crate) fn write(&self, index: usize, out: &mut [u8]) {
        assert_eq!(out.len(), self.bytes(index), "room for the packet");
        match &self.shape {
            Shape::Whole => out.copy_from_slice(self.packet),
            Shape::Partial { start, checksum } => {
                out[..*start].copy_from_slice(&self.packet[..*start]);
                let sum = Sum::copying(&self.packet[*start..], &mut out[*start..]);
                out[*checksum..checksum + 2].copy_from_slice(&sum.transport_checksum());
            }
            Shape::Segments(segments) => segments.write(index, self.packet, out),
        }
    }
}

/// A packet whose checksum field holds a part of the sum: the rest is everything from the start on.
fn partial(header: &VnetHeader, packet: &[u8]) -> Result<Shape, Malformed> {
    let (start, offset) = (header.checksum_start, header.checksum_offset);
    let checksum = usize::from(start) + usize::from(offset);
    if checksum + 2 > packet.len() {
        return Err(Malformed::Checksum { start, offset });
    }
    Ok(Shape::Partial { start: start.into(), checksum })
}

impl Segments {
    fn new(kind: Kind, vnet: &VnetHeader, packet: &[u8]) -> Result<Self, Malformed> {
        let transport = usize::from(vnet.checksum_start);
        let protocol = if kind == Kind::Udp { UDP } else { TCP };
        let checksum = if kind == Kind::Udp { UDP_CHECKSUM } else { TCP_CHECKSUM };
        if usize::from(vnet.checksum_offset) != checksum {
            return Err(Malformed::Checksum { start: vnet.checksum_start, offset: vnet.checksum_offset });
        }
        let ipv4 = match (packet[0] >> 4, kind) {
            (4, Kind::Tcp4 | Kind::Udp) => Some(check_ipv4(packet, transport, protocol)?),
            (6, Kind::Tcp6 | Kind::Udp) => check_ipv6(packet, transport, protocol).map(|()| None)?,
            _ => return Err(Malformed::Network),
        };
        let (header, tcp) = transport_header(protocol, packet, transport)?;
        let (stride, payload) = (usize::from(vnet.segment_bytes), packet.len() - header);
        // The length field counts an IPv4 header and does not count an IPv6 header.
        let counted = header + stride.min(payload) - if ipv4.is_some() { 0 } else { IPV6_BYTES };
        if stride == 0 || counted > usize::from(u16::MAX) {
            return Err(Malformed::Segment(vnet.segment_bytes));
        }
        let own = match protocol {
            TCP => Sum::of_header(&packet[transport..transport + 4])
                .and(Sum::of_header(&packet[transport + 8..transport + 12]))
                .and(Sum::of_header(&packet[transport + 14..transport + 16]))
                .and(Sum::of_header(&packet[transport + 18..header])),
            _ => Sum::of_header(&packet[transport..transport + 4]),
        };
        let sum = own.and(pseudo_header(ipv4.is_some(), packet, transport, protocol));
        let count = payload.div_ceil(stride).max(1);
        Ok(Self { count, transport, header, stride, ipv4, sum, tcp })
    }

    fn payload<'a>(&self, index: usize, packet: &'a [u8]) -> &'a [u8] {
        let rest = &packet[self.header + index * self.stride..];
        &rest[..rest.len().min(self.stride)]
    }

    fn write(&self, index: usize, packet: &[u8], out: &mut [u8]) {
        let (header, payload) = out.split_at_mut(self.header);
        header.copy_from_slice(&packet[..self.header]);
        let sum = self.sum.and(Sum::copying(self.payload(index, packet), payload));
        let total = self.header + payload.len();
        let number = u32::try_from(index).expect("a packet has fewer bytes");
        if let Some((sum, first)) = self.ipv4 {
            let (total, identification) = (field(total), first.wrapping_add(field(index & 0xffff)));
            set_word(header, 2, total);
            set_word(header, 4, identification);
            header[10..12].copy_from_slice(&sum.with(total).with(identification).checksum());
        } else {
            set_word(header, 4, field(total - IPV6_BYTES));
        }
        let transport = &mut header[self.transport..];
        let length = field(total - self.transport);
        if let Some((first, mut control)) = self.tcp {
            let sequence =
                first.wrapping_add(number.wrapping_mul(u32::try_from(self.stride).expect("16 bits")));
            if index > 0 {
                control &= !u16::from(flags::CWR);
            }
            if index + 1 < self.count {
                control &= !u16::from(flags::PSH | flags::FIN);
            }
            transport[4..8].copy_from_slice(&sequence.to_be_bytes());
            set_word(transport, 12, control);
            let sum = sum.with(length).with_double(sequence).with(control);
            transport[TCP_CHECKSUM..TCP_CHECKSUM + 2].copy_from_slice(&sum.transport_checksum());
        } else {
            set_word(transport, 4, length);
            let sum = sum.with(length).with(length);
            transport[UDP_CHECKSUM..UDP_CHECKSUM + 2].copy_from_slice(&sum.transport_checksum());
        }
    }
}

/// A number that was checked to fit a field.
fn field(value: usize) -> u16 {
    u16::try_from(value).expect("segments that do not fit were refused")
}

/// What IPv4 segments share: the header's sum without what differs, and the first identification.
fn check_ipv4(packet: &[u8], transport: usize, protocol: u8) -> Result<(Sum, u16), Malformed> {
    let header = usize::from(packet[0] & 0x0f) * 4;
    if header < IPV4_BYTES || header != transport {
        return Err(Malformed::Network);
    }
    if packet.len() < header {
        return Err(Malformed::Short(packet.len()));
    }
    let fragment = word(packet, 6) & 0x3fff != 0;
    if packet[9] != protocol || fragment {
        return Err(Malformed::Network);
    }
    let sum = Sum::of_header(&packet[..2])
        .and(Sum::of_header(&packet[6..10]))
        .and(Sum::of_header(&packet[12..header]));
    Ok((sum, word(packet, 4)))
}

/// Extension headers are copied to each segment, so they are not read.
fn check_ipv6(packet: &[u8], transport: usize, protocol: u8) -> Result<(), Malformed> {
    if packet.len() < IPV6_BYTES {
        return Err(Malformed::Short(packet.len()));
    }
    if transport < IPV6_BYTES || (transport == IPV6_BYTES && packet[6] != protocol) {
        return Err(Malformed::Network);
    }
    Ok(())
}

/// Where the payload starts, and what differs in TCP.
fn transport_header(
    protocol: u8,
    packet: &[u8],
    transport: usize,
) -> Result<(usize, Option<(u32, u16)>), Malformed> {
    let least = transport + if protocol == TCP { TCP_BYTES } else { UDP_BYTES };
    if packet.len() < least {
        return Err(Malformed::Short(packet.len()));
    }
    if protocol != TCP {
        return Ok((least, None));
    }
    let bytes = usize::from(packet[transport + 12] >> 4) * 4;
    if bytes < TCP_BYTES {
        return Err(Malformed::Transport(bytes));
    }
    if packet.len() < transport + bytes {
        return Err(Malformed::Short(packet.len()));
    }
    let tcp = (double_word(packet, transport + 4), word(packet, transport + 12));
    Ok((transport + bytes, Some(tcp)))
}

/// The sum of the pseudo-header without the length.
///
/// Behind extension headers the last destination may not be that of the IPv6 header (RFC 8200, 8.1): there the
/// kernel's own sum, which has the length of the whole, is believed.
fn pseudo_header(ipv4: bool, packet: &[u8], transport: usize, protocol: u8) -> Sum {
    if ipv4 {
        return Sum::of_header(&packet[12..20]).with(protocol.into());
    }
    if transport == IPV6_BYTES {
        return Sum::of_header(&packet[8..40]).with(protocol.into());
    }
    let at = transport + if protocol == TCP { TCP_CHECKSUM } else { UDP_CHECKSUM };
    let length = packet.len() - transport;
    Sum::of_header(&packet[at..at + 2]).without(u16::try_from(length & 0xffff).expect("16 bits"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, any, proptest};

    use super::super::packets::{Packet, any_super, is_valid, naive_sum};
    use super::super::{Cut, VnetHeader};
    use super::Malformed;

    /// Everything that a super-packet is cut into.
    fn cut(header: &VnetHeader, packet: &[u8]) -> Result<Vec<Vec<u8>>, Malformed> {
        let cut = Cut::new(header, packet)?;
        let written = (0..cut.count()).map(|index| {
            let mut out = vec![0xaa; cut.bytes(index)];
            cut.write(index, &mut out);
            out
        });
        Ok(written.collect())
    }

    #[test]
    fn a_whole_packet_is_left_alone() {
        let packet = Packet::tcp(true, 100).build();
        assert_eq!(cut(&VnetHeader::SINGLE, &packet), Ok(vec![packet]));
    }

    #[test]
    fn a_partial_checksum_is_completed() {
        for packet in
            [Packet::tcp(false, 101), Packet::tcp(true, 0), Packet::udp(false, 64), Packet::udp(true, 3)]
        {
            let (header, bytes) = packet.build_super(0);
            assert_eq!(cut(&VnetHeader { kind: 0, ..header }, &bytes), Ok(vec![packet.build()]));
        }
    }

    #[test]
    fn a_checksum_of_zero_is_sent_as_all_ones() {
        let mut packet = Packet::udp(false, 2);
        let (header, bytes) = packet.build_super(0);
        packet.payload = vec![0, 0];
        let sum = naive_sum(&[&bytes[26..28], &bytes[20..26]].concat());
        packet.payload = (!sum).to_be_bytes().to_vec();
        let (_, bytes) = packet.build_super(0);
        let written = cut(&VnetHeader { kind: 0, ..header }, &bytes).unwrap();
        assert_eq!(written[0][26..28], [0xff, 0xff]);
        assert!(is_valid(&written[0]));
    }

    #[test]
    fn the_length_of_the_headers_is_a_hint_that_may_reach_into_the_payload() {
        let packet = Packet::tcp(false, 3000);
        let (header, bytes) = packet.build_super(1000);
        let hint = VnetHeader { header_bytes: 2000, ..header };
        assert_eq!(cut(&hint, &bytes), cut(&header, &bytes));
    }

    #[test]
    fn options_of_ipv4_are_on_every_segment() {
        let (header, plain) = Packet::tcp(false, 3000).build_super(1000);
        let mut bytes = [&plain[..20], &[1, 1, 1, 1], &plain[20..]].concat();
        bytes[0] = 0x46;
        let header = VnetHeader { checksum_start: 24, ..header };
        let segments = cut(&header, &bytes).unwrap();
        let plain = Packet::tcp(false, 3000).segments(1000);
        assert_eq!(segments.len(), plain.len());
        for (segment, plain) in segments.iter().zip(plain) {
            assert_eq!(segment[20..24], [1; 4]);
            assert_eq!(naive_sum(&segment[..24]), 0xffff);
            assert_eq!(segment[24..], plain.build()[20..]);
        }
    }

    #[test]
    fn extension_headers_of_ipv6_are_on_every_segment() {
        let (header, plain) = Packet::udp(true, 2500).build_super(1000);
        let mut bytes = [&plain[..40], &[17, 0, 1, 4, 0, 0, 0, 0], &plain[40..]].concat();
        bytes[6] = 60;
        let header = VnetHeader { checksum_start: 48, ..header };
        let segments = cut(&header, &bytes).unwrap();
        let plain = Packet::udp(true, 2500).segments(1000);
        assert_eq!(segments.len(), plain.len());
        for (segment, plain) in segments.iter().zip(plain) {
            assert_eq!(segment[40..48], bytes[40..48]);
            assert_eq!(usize::from(u16::from_be_bytes([segment[4], segment[5]])), segment.len() - 40);
            assert_eq!(segment[48..], plain.build()[40..]);
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let good = |packet: &Packet| packet.build_super(1000);
        let check = |packet: &Packet, change: &dyn Fn(&mut VnetHeader, &mut Vec<u8>), expect: Malformed| {
            let (mut header, mut bytes) = good(packet);
            change(&mut header, &mut bytes);
            assert_eq!(cut(&header, &bytes), Err(expect), "{header:?}");
        };
        let (tcp4, tcp6, udp) = (Packet::tcp(false, 3000), Packet::tcp(true, 3000), Packet::udp(false, 3000));
        check(&tcp4, &|_, bytes| bytes.clear(), Malformed::Short(0));
        check(&tcp4, &|header, _| header.header_bytes = 4000, Malformed::Short(3052));
        check(&tcp4, &|header, _| header.kind = 3, Malformed::Kind(3));
        check(&tcp4, &|header, _| header.kind = 0x42, Malformed::Kind(0x42));
        check(&tcp4, &|header, _| header.segment_bytes = 0, Malformed::Segment(0));
        check(&tcp4, &|header, _| header.kind = 4, Malformed::Network);
        check(&tcp4, &|header, _| header.kind = 5, Malformed::Checksum { start: 20, offset: 16 });
        check(&udp, &|header, _| (header.kind, header.checksum_offset) = (1, 16), Malformed::Network);
        check(&tcp6, &|header, _| header.kind = 1, Malformed::Network);
        check(&tcp6, &|header, _| header.checksum_start = 39, Malformed::Network);
        check(&tcp4, &|header, _| header.checksum_start = 0, Malformed::Network);
        check(&tcp4, &|header, _| header.checksum_start = 65_535, Malformed::Network);
        check(&tcp6, &|header, _| header.checksum_start = 65_535, Malformed::Short(3072));
        check(&tcp4, &|header, _| header.checksum_offset = 6, Malformed::Checksum { start: 20, offset: 6 });
        check(&tcp4, &|_, bytes| bytes[6] = 0x20, Malformed::Network);
        check(&tcp4, &|_, bytes| bytes[0] = 0x15, Malformed::Network);
        check(&tcp4, &|_, bytes| bytes[32] = 0x40, Malformed::Transport(16));
        for (packet, length) in [(&tcp4, 19), (&tcp4, 39), (&tcp4, 51), (&tcp6, 39), (&tcp6, 59), (&udp, 27)]
        {
            let cropped = |header: &mut VnetHeader, bytes: &mut Vec<u8>| {
                header.header_bytes = 0;
                bytes.truncate(length);
            };
            check(packet, &cropped, Malformed::Short(length));
        }
        let beyond = Malformed::Checksum { start: 3052, offset: 16 };
        check(&tcp4, &|header, _| (header.kind, header.checksum_start) = (0, 3052), beyond);
        let beyond = Malformed::Checksum { start: 65_535, offset: 65_535 };
        check(
            &tcp4,
            &|header, _| (header.kind, header.checksum_start, header.checksum_offset) = (0, 65_535, 65_535),
            beyond,
        );
    }

    #[test]
    fn a_segment_that_no_length_field_can_name_is_refused() {
        let (header, mut bytes) = Packet::tcp(false, 60_000).build_super(65_500);
        bytes.resize(80_000, 0);
        assert_eq!(cut(&header, &bytes), Err(Malformed::Segment(65_500)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn segments_are_the_packets_that_a_stack_would_send((packet, segment) in any_super()) {
            let (header, bytes) = packet.build_super(segment);
            let expected: Vec<_> = packet.segments(segment.into()).iter().map(Packet::build).collect();
            assert!(expected.iter().all(|packet| is_valid(packet)));
            assert_eq!(cut(&header, &bytes), Ok(expected));
        }

        #[test]
        fn random_bytes_never_panic(
            fields in any::<(u8, u16, u16)>(), kind in 0_u8..6, start in 0_u16..70, offset in 0_u16..20,
            version in any::<bool>(), mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            if let Some(first) = bytes.first_mut() {
                *first = if version { 0x45 } else { 0x60 };
            }
            let (flags, header_bytes, segment_bytes) = fields;
            let header = VnetHeader {
                flags, kind, header_bytes: header_bytes % 250, segment_bytes: segment_bytes % 50,
                checksum_start: start, checksum_offset: offset,
            };
            let _ = cut(&header, &bytes);
            let likely = VnetHeader { checksum_start: if version { 20 } else { 40 }, ..header };
            for offset in [6, 16] {
                let _ = cut(&VnetHeader { checksum_offset: offset, header_bytes: 0, ..likely }, &bytes);
            }
        }

        #[test]
        fn damaged_super_packets_never_panic(
            (packet, segment) in any_super(), at in any::<proptest::sample::Index>(), byte: u8, length in any::<proptest::sample::Index>(),
        ) {
            let (header, mut bytes) = packet.build_super(segment);
            let at = at.index(packet.header());
            bytes[at] = byte;
            bytes.truncate(1 + length.index(bytes.len()));
            let _ = cut(&VnetHeader { header_bytes: 0, ..header }, &bytes);
        }
    }
}
