//! The server's side of SOCKS5 (RFC 1928): CONNECT, without authentication. Names go to the zone unresolved.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use model::Code;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{REQUEST_PATIENCE, SOCKS5, Way, carry};

const NO_AUTHENTICATION: u8 = 0;
const NO_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// Replies (RFC 1928, section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Reply {
    Succeeded = 0,
    Failed = 1,
    NotAllowed = 2,
    NetworkUnreachable = 3,
    HostUnreachable = 4,
    ConnectionRefused = 5,
    CommandUnknown = 7,
    AddressUnknown = 8,
}

/// Where a program wants to go.
#[derive(Debug, PartialEq, Eq)]
struct Destination {
    host: String,
    port: u16,
}

pub(super) async fn serve(mut stream: TcpStream, way: &Way) -> io::Result<()> {
    let asked =
        timeout(REQUEST_PATIENCE, request(&mut stream)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let destination = match asked {
        Ok(destination) => destination,
        Err(reply) => return answer(&mut stream, reply, None).await,
    };
    match way.open(&destination.host, destination.port).await {
        Ok(reached) => {
            answer(&mut stream, Reply::Succeeded, Some(reached.address)).await?;
            carry(stream, reached).await
        }
        Err(refusal) => {
            tracing::debug!(code = %refusal.code, detail = refusal.detail, "a program's wish is refused");
            answer(&mut stream, reply_to(refusal.code), None).await
        }
    }
}

const fn reply_to(code: Code) -> Reply {
    match code {
        Code::OutsideMesh => Reply::NotAllowed,
        Code::NameUnknown | Code::ConnectionTimedOut => Reply::HostUnreachable,
        Code::ConnectionRefused => Reply::ConnectionRefused,
        Code::NotEnrolled | Code::DeviceDown | Code::DevicePending | Code::DeviceRevoked => {
            Reply::NetworkUnreachable
        }
        _ => Reply::Failed,
    }
}

/// The two questions of a program. The inner error is the reply to what it may not ask.
async fn request(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> io::Result<Result<Destination, Reply>> {
    let [version, count] = read(stream).await?;
    expect_version(version)?;
    let mut methods = vec![0; count.into()];
    stream.read_exact(&mut methods).await?;
    if !methods.contains(&NO_AUTHENTICATION) {
        stream.write_all(&[SOCKS5, NO_METHOD]).await?;
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the program wants to authenticate itself"));
    }
    stream.write_all(&[SOCKS5, NO_AUTHENTICATION]).await?;
    let [version, command, _reserved, kind] = read(stream).await?;
    expect_version(version)?;
    let host = match kind {
        IPV4 => IpAddr::V4(Ipv4Addr::from(read::<4>(stream).await?)).to_string(),
        IPV6 => IpAddr::V6(Ipv6Addr::from(read::<16>(stream).await?)).to_string(),
        NAME => {
            let [length] = read(stream).await?;
            let mut name = vec![0; length.into()];
            stream.read_exact(&mut name).await?;
            match String::from_utf8(name) {
                Ok(name) => name,
                Err(_) => return Ok(Err(Reply::HostUnreachable)),
            }
        }
        _ => return Ok(Err(Reply::AddressUnknown)),
    };
    let port = u16::from_be_bytes(read(stream).await?);
    Ok(if command == CONNECT { Ok(Destination { host, port }) } else { Err(Reply::CommandUnknown) })
}

async fn read<const N: usize>(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

fn expect_version(version: u8) -> io::Result<()> {
    if version == SOCKS5 { Ok(()) } else { Err(io::Error::new(io::ErrorKind::InvalidData, "no SOCKS5")) }
}

async fn answer(
    stream: &mut (impl AsyncWrite + Unpin),
    reply: Reply,
    address: Option<SocketAddr>,
) -> io::Result<()> {
    let mut message = vec![SOCKS5, reply as u8, 0];
    match address.unwrap_or_else(|| SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0)) {
        SocketAddr::V4(address) => {
            message.push(IPV4);
            message.extend(address.ip().octets());
            message.extend(address.port().to_be_bytes());
        }
        SocketAddr::V6(address) => {
            message.push(IPV6);
            message.extend(address.ip().octets());
            message.extend(address.port().to_be_bytes());
        }
    }
    stream.write_all(&message).await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a program that sends these bytes is understood to want, and what it is sent meanwhile.
    async fn check(bytes: &[u8], expect: Option<Result<(&str, u16), Reply>>, sent: &[u8]) {
        let (mut program, mut ours) = tokio::io::duplex(1024);
        program.write_all(bytes).await.expect("there is room");
        program.shutdown().await.expect("it is open");
        let asked = request(&mut ours).await.ok();
        let expect = expect.map(|e| e.map(|(host, port)| Destination { host: host.into(), port }));
        assert_eq!(asked, expect, "{bytes:?}");
        drop(ours);
        let mut got = Vec::new();
        program.read_to_end(&mut got).await.expect("readable");
        assert_eq!(got, sent, "{bytes:?}");
    }

    #[tokio::test]
    async fn requests_are_read_as_the_rfc_has_them() {
        let hello = [5, 2, 2, 0];
        let ask = |rest: &[u8]| [&hello[..], rest].concat();
        check(&ask(b"\x05\x01\x00\x03\x04beta\x00\x50"), Some(Ok(("beta", 80))), &[5, 0]).await;
        check(&ask(&[5, 1, 0, 1, 100, 64, 0, 2, 0, 22]), Some(Ok(("100.64.0.2", 22))), &[5, 0]).await;
        let v6 = [&[5, 1, 0, 4, 0xfd][..], &[0; 14], &[2, 0, 22]].concat();
        check(&ask(&v6), Some(Ok(("fd00::2", 22))), &[5, 0]).await;
        check(&ask(&[5, 2, 0, 1, 1, 2, 3, 4, 0, 22]), Some(Err(Reply::CommandUnknown)), &[5, 0]).await;
        check(&ask(&[5, 1, 0, 2, 1, 2]), Some(Err(Reply::AddressUnknown)), &[5, 0]).await;
        check(&ask(&[5, 1, 0, 3, 1, 0xff, 0, 22]), Some(Err(Reply::HostUnreachable)), &[5, 0]).await;
        check(&ask(&[4, 1, 0, 1]), None, &[5, 0]).await;
        check(&ask(&[5, 1]), None, &[5, 0]).await;
        check(&[5, 1, 2], None, &[5, 0xff]).await;
        check(&[4, 1, 0], None, &[]).await;
    }

    #[tokio::test]
    async fn replies_are_written_as_the_rfc_has_them() {
        let written = |reply, address: Option<&'static str>| async move {
            let mut bytes = Vec::new();
            let address = address.map(|a| a.parse().expect("an address"));
            answer(&mut bytes, reply, address).await.expect("memory");
            bytes
        };
        assert_eq!(
            written(Reply::Succeeded, Some("100.64.0.2:80")).await,
            [5, 0, 0, 1, 100, 64, 0, 2, 0, 80]
        );
        assert_eq!(written(reply_to(Code::OutsideMesh), None).await, [5, 2, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(written(reply_to(Code::ConnectionRefused), None).await[1], 5);
        assert_eq!(written(Reply::Succeeded, Some("[fd00::2]:80")).await.len(), 22);
    }
}
