//! Which packets ask for a new TCP connection. Trusts nothing of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const TCP: u8 = 6;
const IPV6_HEADER_BYTES: usize = 40;
const TCP_HEADER_BYTES: usize = 20;
const FLAGS: usize = 13;
const FIN_SYN_RST_ACK: u8 = 0x17;
const SYN: u8 = 0x02;

/// Who asks for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Arrival {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
}

/// From where to where, if the packet is a whole first segment of a connection (RFC 9293, 3.5). An IPv6 packet with
/// extension headers is none: no stack sends those with a SYN.
pub(crate) fn first_segment(packet: &[u8]) -> Option<Arrival> {
    let (from, to, segment): (IpAddr, IpAddr, &[u8]) = match packet.first()? >> 4 {
        4 => {
            let header_bytes = usize::from(packet[0] & 0x0f) * 4;
            let is_whole = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]) & 0x3fff == 0;
            if *packet.get(9)? != TCP || header_bytes < 20 || !is_whole {
                return None;
            }
            let address =
                |at| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?).into());
            (address(12)?, address(16)?, packet.get(header_bytes..)?)
        }
        6 => {
            if *packet.get(6)? != TCP {
                return None;
            }
            let address =
                |at| Some(Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?).into());
            (address(8)?, address(24)?, packet.get(IPV6_HEADER_BYTES..)?)
        }
        _ => return None,
    };
    let segment = segment.get(..TCP_HEADER_BYTES)?;
    let port = |at| u16::from_be_bytes([segment[at], segment[at + 1]]);
    let is_first = segment[FLAGS] & FIN_SYN_RST_ACK == SYN && port(0) != 0;
    is_first.then(|| Arrival { from: SocketAddr::new(from, port(0)), to: SocketAddr::new(to, port(2)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(flags: u8) -> Vec<u8> {
        let mut packet = vec![0; 40];
        packet[0] = 0x45;
        packet[9] = TCP;
        packet[12..20].copy_from_slice(&[100, 64, 0, 2, 100, 64, 0, 3]);
        packet[20..24].copy_from_slice(&[0x10, 0, 0, 80]);
        packet[33] = flags;
        packet
    }

    fn v6(flags: u8) -> Vec<u8> {
        let mut packet = vec![0; 60];
        packet[0] = 0x60;
        packet[6] = TCP;
        packet[8] = 0xfd;
        packet[24] = 0xfd;
        packet[39] = 1;
        packet[40..44].copy_from_slice(&[0x10, 0, 0, 80]);
        packet[53] = flags;
        packet
    }

    #[test]
    fn only_a_whole_syn_asks_for_a_connection() {
        let pair =
            |from: &str, to: &str| Some(Arrival { from: from.parse().unwrap(), to: to.parse().unwrap() });
        assert_eq!(first_segment(&v4(SYN)), pair("100.64.0.2:4096", "100.64.0.3:80"));
        assert_eq!(first_segment(&v6(SYN)), pair("[fd00::]:4096", "[fd00::1]:80"));
        // Explicit congestion notification (RFC 3168) sets two more flags.
        assert_eq!(first_segment(&v4(SYN | 0xc0)), pair("100.64.0.2:4096", "100.64.0.3:80"));
        for flags in [0, 0x10, SYN | 0x10, SYN | 0x01, SYN | 0x04] {
            assert_eq!((first_segment(&v4(flags)), first_segment(&v6(flags))), (None, None), "{flags:#x}");
        }
        let mut fragment = v4(SYN);
        fragment[7] = 1;
        let mut udp = v4(SYN);
        udp[9] = 17;
        let mut short = v4(SYN);
        short[0] = 0x44;
        for other in [fragment, udp, short] {
            assert_eq!(first_segment(&other), None);
        }
        for packet in [v4(SYN), v6(SYN)] {
            for length in 0..packet.len() {
                assert_eq!(first_segment(&packet[..length]), None, "cut to {length}");
            }
        }
    }
}
