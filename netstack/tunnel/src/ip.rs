//! What the engine reads of an IP packet, and the one thing it writes: congestion.
//!
//! Field offsets follow RFC 791 and RFC 8200.

use std::net::IpAddr;

/// Not ECN-capable.
pub(crate) const NOT_ECT: u8 = 0;
/// The traffic class of handshakes: AF41 and not ECN-capable, as in the kernel (`HANDSHAKE_DSCP`).
pub(crate) const HANDSHAKE_CLASS: u8 = 0x88;
/// Capable of ECN.
const ECT_0: u8 = 2;
/// Congestion experienced.
const CE: u8 = 3;

/// Where the packet goes.
pub(crate) fn destination(packet: &[u8]) -> Option<IpAddr> {
    address(packet, 16, 24)
}

/// Where the packet comes from.
pub(crate) fn source(packet: &[u8]) -> Option<IpAddr> {
    address(packet, 12, 8)
}

fn address(packet: &[u8], v4: usize, v6: usize) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(packet.get(v4..v4 + 4)?).ok()?)),
        6 => Some(IpAddr::from(<[u8; 16]>::try_from(packet.get(v6..v6 + 16)?).ok()?)),
        _ => None,
    }
}

/// The length that the packet says it has, without the padding behind it. `None` if it is no IP packet, or says more
/// than there is.
pub(crate) fn length(packet: &[u8]) -> Option<usize> {
    let said = match packet.first()? >> 4 {
        4 if packet.len() >= 20 => usize::from(u16::from_be_bytes([packet[2], packet[3]])),
        6 if packet.len() >= 40 => 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]])),
        _ => return None,
    };
    let least = if packet[0] >> 4 == 4 { 20 } else { 40 };
    (least..=packet.len()).contains(&said).then_some(said)
}

/// The ECN bits (RFC 3168, section 5); of something shorter than a header, none.
fn ecn(packet: &[u8]) -> u8 {
    match packet {
        [first, second, ..] if first >> 4 == 4 => second & 3,
        [first, second, ..] if first >> 4 == 6 => (second >> 4) & 3,
        _ => NOT_ECT,
    }
}

/// What the outer packet says of the inner one's: congestion is not told twice, as in the kernel
/// (`INET_ECN_encapsulate`; RFC 3168, section 9.1.1).
pub(crate) fn encapsulated_ecn(packet: &[u8]) -> u8 {
    match ecn(packet) {
        CE => ECT_0,
        other => other,
    }
}

/// What the outer packet met is told to the inner one, if its sender understands. Otherwise it is delivered all the same,
/// as by the kernel, where RFC 6040, section 4.2 would have it dropped: some middleboxes set these bits on everything.
pub(crate) fn decapsulate_ecn(outer: u8, packet: &mut [u8]) {
    if outer == CE {
        mark_congestion(packet);
    }
}

/// Says that the packet met congestion. False if its sender does not understand that.
pub(crate) fn mark_congestion(packet: &mut [u8]) -> bool {
    match ecn(packet) {
        NOT_ECT => return false,
        CE => return true,
        _ => {}
    }
    if packet[0] >> 4 == 4 {
        let before = u16::from_be_bytes([packet[0], packet[1]]);
        packet[1] |= CE;
        let after = u16::from_be_bytes([packet[0], packet[1]]);
        let checksum = u16::from_be_bytes([packet[10], packet[11]]);
        let checksum = update_checksum(checksum, before, after);
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    } else {
        packet[1] |= CE << 4;
    }
    true
}

/// RFC 1624, equation 3.
fn update_checksum(checksum: u16, before: u16, after: u16) -> u16 {
    let mut sum = u32::from(!checksum) + u32::from(!before) + u32::from(after);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    !u16::try_from(sum).expect("carries are folded")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(tos: u8, length: u16, bytes: usize) -> Vec<u8> {
        let mut packet = vec![0; bytes];
        packet[..2].copy_from_slice(&[0x45, tos]);
        packet[2..4].copy_from_slice(&length.to_be_bytes());
        packet[12..16].copy_from_slice(&[192, 0, 2, 1]);
        packet[16..20].copy_from_slice(&[192, 0, 2, 2]);
        let sum: u32 = packet[..20].chunks(2).map(|b| u32::from(u16::from_be_bytes([b[0], b[1]]))).sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        packet[10..12].copy_from_slice(&(!(folded as u16)).to_be_bytes());
        packet
    }

    fn v6(class: u8, payload: u16, bytes: usize) -> Vec<u8> {
        let mut packet = vec![0; bytes];
        packet[..2].copy_from_slice(&[0x60 | (class >> 4), class << 4]);
        packet[4..6].copy_from_slice(&payload.to_be_bytes());
        packet[23] = 1;
        packet[39] = 2;
        packet
    }

    fn checksum_is_right(packet: &[u8]) -> bool {
        let sum: u32 = packet[..20].chunks(2).map(|b| u32::from(u16::from_be_bytes([b[0], b[1]]))).sum();
        (sum & 0xffff) + (sum >> 16) == 0xffff
    }

    #[test]
    fn addresses_and_lengths_are_read_from_both_families() {
        let (a, b) = (v4(0, 24, 32), v6(0, 8, 64));
        assert_eq!((source(&a), destination(&a)), ("192.0.2.1".parse().ok(), "192.0.2.2".parse().ok()));
        assert_eq!((source(&b), destination(&b)), ("::1".parse().ok(), "::2".parse().ok()));
        assert_eq!((length(&a), length(&b)), (Some(24), Some(48)));
        for short in [&a[..19], &b[..39], &[0x15; 60][..], &[]] {
            assert_eq!(length(short), None);
        }
        assert_eq!(length(&v4(0, 33, 32)), None, "more than there is");
        assert_eq!(length(&v4(0, 19, 32)), None, "less than its header");
    }

    #[test]
    fn the_outer_packet_may_meet_congestion_if_the_inner_one_may() {
        for (inner, outer) in [(0, 0), (1, 1), (2, 2), (CE, 2)] {
            assert_eq!(encapsulated_ecn(&v4(0xb8 | inner, 20, 20)), outer);
            assert_eq!(encapsulated_ecn(&v6(0xb8 | inner, 0, 40)), outer);
        }
        assert_eq!(encapsulated_ecn(&[0x45]), NOT_ECT);
    }

    #[test]
    fn congestion_is_told_to_who_understands() {
        for (inner, outer, after) in
            [(0, 0, 0), (0, 1, 0), (0, CE, 0), (1, CE, CE), (2, CE, CE), (2, 0, 2), (CE, 0, CE)]
        {
            for mut packet in [v4(0xb8 | inner, 20, 20), v6(0xb8 | inner, 0, 40)] {
                decapsulate_ecn(outer, &mut packet);
                assert_eq!(ecn(&packet), after, "inner {inner}, outer {outer}");
                if packet.len() == 20 {
                    assert!(checksum_is_right(&packet));
                }
            }
        }
    }
}
