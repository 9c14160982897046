//! One DNS question over UDP (RFC 1035), as programs send it, to see what a server says. No resolver.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use host::drive::lookup::{kind_text, question, show};
use model::Name;
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// As much as our question says that we take.
const ANSWER_BYTES: usize = 4096;
const HEADER_BYTES: usize = 12;

/// The number of the type of IPv4 addresses.
pub const A: u16 = 1;
/// The number of the type of names of addresses.
pub const PTR: u16 = 12;
const CNAME: u16 = 5;

/// What a server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// It has records of the type for the name: their values.
    Found(Vec<String>),
    /// It has an alias for the name, and none of the records where that leads: that name, and the code.
    Alias(String, u8),
    /// It answers with this code (0: no such records).
    Code(u8),
    /// Nothing in time.
    Nothing,
}

/// Asks a server for the records of a name.
///
/// # Errors
/// The question could not be sent, or the kernel knows that nobody listens.
pub async fn ask(server: SocketAddr, name: &Name, kind: u16, patience: Duration) -> io::Result<Said> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(server).await?;
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(io::Error::other)?;
    let mut query = question(name, kind);
    query[..2].copy_from_slice(&id);
    socket.send(&query).await?;
    let answer = async {
        let mut buffer = [0; ANSWER_BYTES];
        loop {
            let read = socket.recv(&mut buffer).await?;
            if let Some(said) = read_answer(id, kind, &buffer[..read]) {
                return Ok(said);
            }
        }
    };
    timeout(patience, answer).await.unwrap_or(Ok(Said::Nothing))
}

fn read_answer(id: [u8; 2], kind: u16, packet: &[u8]) -> Option<Said> {
    let header = packet.get(..HEADER_BYTES)?;
    let is_answer = header[2] & 0x80 != 0;
    if header[..2] != id || !is_answer {
        return None;
    }
    let code = header[3] & 0x0f;
    // Whatever cannot be read further still has its code.
    let Some(shown) = show(packet) else { return Some(Said::Code(code)) };
    let of = |kind: u16| {
        let kind = kind_text(kind);
        shown.records.iter().filter(move |record| record.kind == kind).map(|record| record.value.clone())
    };
    let found: Vec<String> = of(kind).collect();
    Some(match of(CNAME).next_back() {
        _ if code == 0 && !found.is_empty() => Said::Found(found),
        Some(target) => Said::Alias(target.trim_end_matches('.').into(), code),
        None => Said::Code(code),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: [u8; 2] = [1, 2];
    /// An alias of the question's name: `x`, which has no more than its owner's pointer in front.
    const ALIAS: &[u8] = b"\xc0\x0c\0\x05\0\x01\0\0\0\x1e\0\x03\x01x\0";
    const ADDRESS: &[u8] = b"\xc0\x0c\0\x01\0\x01\0\0\0\x1e\0\x04\xc0\0\x02\x01";

    fn answer(code: u8, records: &[&[u8]]) -> Vec<u8> {
        let count = u8::try_from(records.len()).expect("a few");
        let head = [1, 2, 0x84, code, 0, 1, 0, count, 0, 0, 0, 0];
        [&head, &b"\x04beta\x04home\0\0\x01\0\x01"[..], &records.concat()].concat()
    }

    #[test]
    fn answers_are_told_from_noise_and_from_each_other() {
        let check = |packet: &[u8], expect| assert_eq!(read_answer(ID, A, packet), expect, "{packet:?}");
        check(&answer(0, &[ADDRESS]), Some(Said::Found(vec!["192.0.2.1".into()])));
        check(&answer(0, &[ALIAS, ADDRESS]), Some(Said::Found(vec!["192.0.2.1".into()])));
        check(&answer(3, &[ALIAS]), Some(Said::Alias("x".into(), 3)));
        check(&answer(0, &[]), Some(Said::Code(0)));
        check(&answer(2, &[]), Some(Said::Code(2)));
        check(&[1, 2, 0x84, 5, 0, 1, 0, 1, 0, 0, 0, 0], Some(Said::Code(5)));
        check(&[9, 2, 0x84, 0, 0, 0, 0, 0, 0, 0, 0, 0], None);
        check(&[1, 2, 0x04, 0, 0, 0, 0, 0, 0, 0, 0, 0], None);
        check(&[1, 2, 0x84], None);
    }

    #[tokio::test]
    async fn a_question_asks_for_recursion_as_programs_do() {
        let server = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let name: Name = "beta.home".parse().expect("a name");
        let at = server.local_addr().expect("an address");
        let reply = async {
            let mut buffer = [0; 512];
            let (read, from) = server.recv_from(&mut buffer).await.expect("a question");
            assert_eq!(buffer[2] & 1, 1, "recursion desired");
            buffer[2] |= 0x80;
            buffer[3] = 2;
            server.send_to(&buffer[..read], from).await.expect("an answer");
        };
        let (said, ()) = tokio::join!(ask(at, &name, A, Duration::from_secs(5)), reply);
        assert_eq!(said.expect("it is sent"), Said::Code(2));
    }
}
