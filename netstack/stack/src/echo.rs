//! One ICMP echo (RFC 792, RFC 4443). Echoes of others are answered by smoltcp itself.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use smoltcp::iface::SocketHandle;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::icmp::{self, Endpoint, PacketBuffer, PacketMetadata};
use smoltcp::wire::{Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, Ipv6Address};
use tokio::time::timeout;

use crate::core::{Shared, random};
use crate::limits::{DATAGRAM_BYTES_MAX, DATAGRAMS_MAX};

const PAYLOAD_BYTES: usize = 8;
const SEQUENCE: u16 = 1;

/// Tells our echoes from those of others.
#[derive(Clone, Copy)]
struct Question {
    ident: u16,
    payload: [u8; PAYLOAD_BYTES],
}

struct Asking {
    shared: Arc<Shared>,
    handle: SocketHandle,
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.shared.lock().remove_question(self.handle);
    }
}

pub(crate) async fn echo(
    shared: Arc<Shared>,
    to: IpAddr,
    patience: Duration,
) -> io::Result<Option<Duration>> {
    let payload = random().to_be_bytes();
    let question = Question { ident: u16::from_be_bytes([payload[0], payload[1]]), payload };
    let asking = open(shared, to, question)?;
    asking.shared.stirred.notify_one();
    let began = Instant::now();
    let reply = poll_fn(|context| {
        let mut core = asking.shared.lock();
        let socket = core.icmp(asking.handle);
        while let Ok((packet, from)) = socket.recv() {
            if IpAddr::from(from) == to && is_reply(packet, to, question) {
                return Poll::Ready(began.elapsed());
            }
        }
        socket.register_recv_waker(context.waker());
        Poll::Pending
    });
    Ok(timeout(patience, reply).await.ok())
}

fn open(shared: Arc<Shared>, to: IpAddr, question: Question) -> io::Result<Asking> {
    let mut core = shared.lock();
    let from = core.source_for(to)?;
    let buffer =
        || PacketBuffer::new(vec![PacketMetadata::EMPTY; DATAGRAMS_MAX], vec![0; DATAGRAM_BYTES_MAX]);
    let mut socket = icmp::Socket::new(buffer(), buffer());
    socket.bind(Endpoint::Ident(question.ident)).expect("the socket is new");
    let packet = request(from, to, question);
    socket.send_slice(&packet, to.into()).expect("the socket is empty");
    let handle = core.add_icmp(socket)?;
    drop(core);
    Ok(Asking { shared, handle })
}

fn request(from: IpAddr, to: IpAddr, question: Question) -> Vec<u8> {
    let checksums = ChecksumCapabilities::default();
    let Question { ident, payload } = question;
    match (from, to) {
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let echo = Icmpv6Repr::EchoRequest { ident, seq_no: SEQUENCE, data: &payload };
            let mut bytes = vec![0; echo.buffer_len()];
            echo.emit(&from, &to, &mut Icmpv6Packet::new_unchecked(&mut bytes), &checksums);
            bytes
        }
        _ => {
            let echo = Icmpv4Repr::EchoRequest { ident, seq_no: SEQUENCE, data: &payload };
            let mut bytes = vec![0; echo.buffer_len()];
            echo.emit(&mut Icmpv4Packet::new_unchecked(&mut bytes), &checksums);
            bytes
        }
    }
}

/// The socket has let in only what has our identifier; the checksum was verified before.
fn is_reply(packet: &[u8], to: IpAddr, question: Question) -> bool {
    let unchecked = ChecksumCapabilities::ignored();
    if to.is_ipv4() {
        let packet = Icmpv4Packet::new_checked(packet);
        let echo = packet.and_then(|packet| match Icmpv4Repr::parse(&packet, &unchecked)? {
            Icmpv4Repr::EchoReply { data, .. } => Ok(data == question.payload),
            _ => Ok(false),
        });
        return echo.unwrap_or(false);
    }
    let any = Ipv6Address::UNSPECIFIED;
    let packet = Icmpv6Packet::new_checked(packet);
    let echo = packet.and_then(|packet| match Icmpv6Repr::parse(&any, &any, &packet, &unchecked)? {
        Icmpv6Repr::EchoReply { data, .. } => Ok(data == question.payload),
        _ => Ok(false),
    });
    echo.unwrap_or(false)
}
