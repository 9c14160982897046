//! Packets of the interface: what one super-packet is cut into, and what a batch is joined to.

use tunnel::fuzzed::{cut, join};

/// Before each packet of the interface (`struct virtio_net_hdr`).
const HEADER_BYTES: usize = 10;

/// Whatever header stands before whatever packet, the segments have its payload in order; and whatever is joined is
/// cut into what it was joined from.
pub(crate) fn check(bytes: &[u8]) {
    if let Some((header, packet)) = bytes.split_first_chunk::<HEADER_BYTES>() {
        check_cut(header, packet);
    }
    check_join(bytes);
}

fn check_cut(header: &[u8; HEADER_BYTES], packet: &[u8]) {
    let Some(segments) = cut(header, packet) else { return };
    let (last, others) = segments.split_last().expect("a packet is one packet at least");
    let Some(first) = others.first() else { return assert_eq!(last.len(), packet.len()) };
    assert!(others.iter().all(|segment| segment.len() == first.len()) && last.len() <= first.len());
    // Bytes 4 and 5 are those of payload in each segment but the last.
    let payload_bytes = usize::from(u16::from_ne_bytes([header[4], header[5]]));
    let headers = first.len() - payload_bytes;
    let payload: Vec<u8> = segments.iter().flat_map(|segment| segment[headers..].to_vec()).collect();
    assert_eq!(payload, packet[headers..]);
}

/// Each packet has two bytes of length before it.
fn check_join(mut bytes: &[u8]) {
    let mut packets = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (packet, rest) = rest.split_at(length);
        packets.extend(trimmed(packet));
        bytes = rest;
    }
    let mut apart = Vec::new();
    for (header, packet) in join(&packets) {
        let segments = cut(&header, &packet).expect("what was joined can be cut");
        apart.extend(segments.into_iter().map(|segment| without_number(&segment)));
    }
    let mut expected: Vec<Vec<u8>> = packets.iter().map(|packet| without_number(packet)).collect();
    // Flows may overtake each other.
    apart.sort_unstable();
    expected.sort_unstable();
    assert_eq!(apart, expected);
}

/// Without what is behind the length that the header tells.
fn trimmed(packet: &[u8]) -> Option<&[u8]> {
    let (least, said) = match packet.first()? >> 4 {
        4 => (20, u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]).into()),
        6 => (40, 40 + usize::from(u16::from_be_bytes([*packet.get(4)?, *packet.get(5)?]))),
        _ => return None,
    };
    (said >= least && packet.len() >= least).then(|| packet.get(..said)).flatten()
}

/// Packets that must not be fragmented are numbered anew (RFC 6864), which changes their header's checksum too.
fn without_number(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet[0] >> 4 == 4 && packet[6] & 0x40 != 0 {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
    packet
}
