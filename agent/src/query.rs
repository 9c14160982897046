//! One DNS question for an IPv4 address over UDP (RFC 1035), to see whether a server answers. No resolver.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use model::Name;
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// An answer to one question for one address is shorter.
const ANSWER_BYTES: usize = 1232;
const HEADER_BYTES: usize = 12;

/// What a server said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// It has records for the name.
    Found,
    /// It answers with this code (0: no such records).
    Code(u8),
    /// Nothing in time.
    Nothing,
}

/// Asks a server for the IPv4 addresses of a name, from `source`.
///
/// # Errors
/// The question could not be sent, or the kernel knows that nobody listens.
pub async fn ask(server: SocketAddr, name: &Name, patience: Duration) -> io::Result<Said> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(server).await?;
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(io::Error::other)?;
    socket.send(&question(id, name)).await?;
    let answer = async {
        let mut buffer = [0; ANSWER_BYTES];
        loop {
            let read = socket.recv(&mut buffer).await?;
            if let Some(said) = read_answer(id, &buffer[..read]) {
                return Ok(said);
            }
        }
    };
    timeout(patience, answer).await.unwrap_or(Ok(Said::Nothing))
}

fn question(id: [u8; 2], name: &Name) -> Vec<u8> {
    let mut packet = vec![id[0], id[1], 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.labels() {
        packet.push(u8::try_from(label.len()).expect("a label has 63 bytes at most"));
        packet.extend_from_slice(label.as_bytes());
    }
    // The root; type A; class IN.
    packet.extend_from_slice(&[0, 0, 1, 0, 1]);
    packet
}

fn read_answer(id: [u8; 2], packet: &[u8]) -> Option<Said> {
    let header = packet.get(..HEADER_BYTES)?;
    let is_answer = header[2] & 0x80 != 0;
    if header[..2] != id || !is_answer {
        return None;
    }
    let code = header[3] & 0x0f;
    let answers = u16::from_be_bytes([header[6], header[7]]);
    Some(if code == 0 && answers > 0 { Said::Found } else { Said::Code(code) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_as_the_rfc_has_it() {
        let name: Name = "beta.home".parse().expect("a name");
        let packet = question([1, 2], &name);
        assert_eq!(packet[..HEADER_BYTES], [1, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(&packet[HEADER_BYTES..], b"\x04beta\x04home\x00\x00\x01\x00\x01");
    }

    #[test]
    fn answers_are_told_from_noise() {
        let check = |packet: &[u8], expect| assert_eq!(read_answer([1, 2], packet), expect, "{packet:?}");
        check(&[1, 2, 0x84, 0, 0, 1, 0, 1, 0, 0, 0, 0], Some(Said::Found));
        check(&[1, 2, 0x84, 0, 0, 1, 0, 0, 0, 0, 0, 0], Some(Said::Code(0)));
        check(&[1, 2, 0x84, 5, 0, 1, 0, 0, 0, 0, 0, 0], Some(Said::Code(5)));
        check(&[9, 2, 0x84, 0, 0, 1, 0, 1, 0, 0, 0, 0], None);
        check(&[1, 2, 0x04, 0, 0, 1, 0, 1, 0, 0, 0, 0], None);
        check(&[1, 2, 0x84], None);
    }
}
