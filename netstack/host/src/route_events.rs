//! What the kernel tells of links, addresses, routes and routing rules (`rtnetlink(7)`). Judges none of it.

use std::io;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use netlink_packet_core::NetlinkMessage;
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::proto::Connection;
use rtnetlink::sys::AsyncSocket as _;
use rtnetlink::{Handle, MulticastGroup};

const GROUPS: [MulticastGroup; 7] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
];
/// A router with a full table churns; what does not fit is told as [`netlink_packet_core::NetlinkPayload::Overrun`], a
/// reason to look all the same.
pub(crate) const BUFFER_BYTES: u32 = 1 << 20;

/// Messages come out only while the connection is polled, which puts them into a channel without a bound. Here both
/// are polled by one task, which empties the channel before it lets the connection read on; tokio's budget ends such
/// a read after some hundred datagrams. A flood that is faster than this loop overruns the socket, not the memory.
pub(crate) struct RouteEvents {
    connection: Connection<RouteNetlinkMessage>,
    messages: BoxStream<'static, NetlinkMessage<RouteNetlinkMessage>>,
}

impl RouteEvents {
    /// Subscribes in the network namespace of this thread: what happens from now on is not missed. Questions by the handle
    /// are answered within [`Self::beside`].
    pub(crate) fn open() -> io::Result<(Self, Handle)> {
        let (mut connection, handle, messages) = rtnetlink::new_multicast_connection(&GROUPS)?;
        connection.socket_mut().socket_mut().set_rx_buf_sz(BUFFER_BYTES)?;
        Ok((Self { connection, messages: messages.map(|(message, _)| message).boxed() }, handle))
    }

    /// The next message. Cancel-safe.
    pub(crate) async fn next(&mut self) -> io::Result<NetlinkMessage<RouteNetlinkMessage>> {
        tokio::select! {
            biased;
            Some(message) = self.messages.next() => Ok(message),
            () = &mut self.connection => Err(closed()),
        }
    }

    /// Does this while the connection is served.
    pub(crate) async fn beside<T>(&mut self, asked: impl Future<Output = T>) -> io::Result<T> {
        tokio::select! {
            answer = asked => Ok(answer),
            () = &mut self.connection => Err(closed()),
        }
    }
}

fn closed() -> io::Error {
    io::Error::from(io::ErrorKind::ConnectionAborted)
}
