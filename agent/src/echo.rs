//! ICMP echo (RFC 792, RFC 4443): one socket for one target. Knows no names and no mesh.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

/// Tells our echoes from those of others: random, in every packet.
type Cookie = [u8; 16];

const HEADER_BYTES: usize = 8;
const PACKET_BYTES: usize = HEADER_BYTES + size_of::<Cookie>();
/// An IPv4 header with all its options, and what is read of the packet.
const READ_BYTES: usize = 60 + PACKET_BYTES;

/// Echoes to one address.
pub struct Echo {
    /// tokio has no type for such sockets; sending and receiving are the same calls for all that are connected.
    socket: UdpSocket,
    /// A raw IPv4 socket gives packets with their IP header (raw(7)).
    has_ip_header: bool,
    is_v6: bool,
    cookie: Cookie,
}

impl Echo {
    /// Opens a socket for echoes: one that everybody in `ping_group_range` may open (icmp(7)), else a raw one.
    ///
    /// # Errors
    /// Neither may be opened, or there is no route to the target.
    pub fn open(target: IpAddr) -> io::Result<Self> {
        let (domain, protocol) = match target {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
        };
        let (socket, raw) = match Socket::new(domain, Type::DGRAM, Some(protocol)) {
            Ok(socket) => (socket, false),
            Err(_) => (Socket::new(domain, Type::RAW, Some(protocol))?, true),
        };
        socket.set_nonblocking(true)?;
        socket.connect(&SocketAddr::new(target, 0).into())?;
        let mut cookie = [0; 16];
        getrandom::fill(&mut cookie).map_err(io::Error::other)?;
        let socket = UdpSocket::from_std(socket.into())?;
        Ok(Self { socket, has_ip_header: raw && target.is_ipv4(), is_v6: target.is_ipv6(), cookie })
    }

    /// Sends one echo and waits for its reply; `None` if there was none in time.
    ///
    /// # Errors
    /// It could not be sent, or the kernel knows that it did not arrive.
    pub async fn send(&self, sequence: u16, patience: Duration) -> io::Result<Option<Duration>> {
        let began = Instant::now();
        self.socket.send(&request(self.is_v6, sequence, &self.cookie)).await?;
        let mut buffer = [0; READ_BYTES];
        loop {
            let Ok(read) = timeout_at(began + patience, self.socket.recv(&mut buffer)).await else {
                return Ok(None);
            };
            let packet = &buffer[..read?];
            let packet = if self.has_ip_header { after_ip_header(packet) } else { packet };
            if is_reply(packet, self.is_v6, sequence, &self.cookie) {
                return Ok(Some(began.elapsed()));
            }
        }
    }
}

/// An echo request. The kernel fills in the checksum of ICMPv6, and the identifier of sockets that are not raw.
fn request(is_v6: bool, sequence: u16, cookie: &Cookie) -> [u8; PACKET_BYTES] {
    let mut packet = [0; PACKET_BYTES];
    packet[0] = if is_v6 { 128 } else { 8 };
    packet[4..6].copy_from_slice(&cookie[..2]);
    packet[6..8].copy_from_slice(&sequence.to_be_bytes());
    packet[HEADER_BYTES..].copy_from_slice(cookie);
    if !is_v6 {
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

fn is_reply(packet: &[u8], is_v6: bool, sequence: u16, cookie: &Cookie) -> bool {
    let kind = if is_v6 { 129 } else { 0 };
    packet.len() >= PACKET_BYTES
        && packet[..2] == [kind, 0]
        && packet[6..8] == sequence.to_be_bytes()
        && packet[HEADER_BYTES..PACKET_BYTES] == *cookie
}

/// The Internet checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    #[expect(clippy::cast_possible_truncation, reason = "folded into 16 bits")]
    let folded = sum as u16;
    !folded
}

fn after_ip_header(packet: &[u8]) -> &[u8] {
    let length = packet.first().map_or(0, |first| usize::from(first & 0x0f) * 4);
    packet.get(length..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn the_checksum_of_a_packet_with_its_checksum_is_zero() {
        for sequence in [0, 1, 0xffff] {
            assert_eq!(checksum(&request(false, sequence, &[0xa5; 16])), 0);
        }
    }

    #[test]
    fn only_the_reply_to_this_echo_counts() {
        let cookie = [7; 16];
        let mut reply = request(false, 3, &cookie);
        assert!(!is_reply(&reply, false, 3, &cookie), "a request is no reply");
        reply[0] = 0;
        assert!(is_reply(&reply, false, 3, &cookie));
        assert!(!is_reply(&reply, false, 4, &cookie));
        assert!(!is_reply(&reply, true, 3, &cookie));
        assert!(!is_reply(&reply, false, 3, &[8; 16]));
        assert!(!is_reply(&reply[..20], false, 3, &cookie));
        assert!(!is_reply(&[], false, 3, &cookie));
    }

    #[test]
    fn ip_headers_are_skipped() {
        assert_eq!(after_ip_header(&[0x46; 30]), [0x46; 6]);
        assert_eq!(after_ip_header(&[0x4f; 8]), [0; 0]);
        assert_eq!(after_ip_header(&[]), [0; 0]);
    }

    /// Needs what the agent needs: CAP_NET_RAW, or a group in `ping_group_range`.
    #[tokio::test]
    async fn this_machine_answers_itself() {
        for target in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            let echo = match Echo::open(target) {
                Ok(echo) => echo,
                Err(error) => {
                    assert!(!nix::unistd::Uid::effective().is_root(), "{target}: {error}");
                    continue;
                }
            };
            for sequence in 1..=3 {
                let trip = echo.send(sequence, Duration::from_secs(5)).await.expect("sent");
                assert!(trip.is_some(), "{target} does not answer");
            }
        }
    }
}
