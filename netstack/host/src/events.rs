//! Tells that something changed on the host: links of ours, addresses, routes and the firewall table, by the kernel's
//! multicast groups (`rtnetlink(7)`). Says "look again", never what to do.

use std::future::pending;
use std::io;
use std::sync::Arc;

use futures_util::TryStreamExt as _;
use netlink_packet_core::NetlinkPayload;
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use crate::firewall;
use crate::interface::InterfaceName;
use crate::links::Ours;
use crate::route_events::{BUFFER_BYTES, RouteEvents};

/// The largest datagram of an event is one message.
const DATAGRAM_BYTES_MAX: usize = 64 * 1024;

/// The sockets, subscribed. What happens from now on is not missed.
pub(crate) struct Events {
    ours: Ours,
    /// Addresses of other interfaces matter, too: who is behind this machine is seen by them.
    others: bool,
    route: RouteEvents,
    netfilter: Option<AsyncFd<Socket>>,
}

impl Events {
    /// Subscribes in the network namespace of this thread; to the firewall's events where there is a firewall, as on a
    /// hub.
    pub(crate) async fn open(interface: &InterfaceName, firewall: bool) -> io::Result<Self> {
        let (mut route, handle) = RouteEvents::open()?;
        let netfilter = if firewall { Some(subscribe_netfilter()?) } else { None };
        let all = handle.link().get().execute().try_collect::<Vec<_>>();
        let all = route.beside(all).await?.map_err(io::Error::other)?;
        let mut ours = Ours::new(interface.clone(), firewall);
        let found: Vec<u32> = all.iter().filter(|link| ours.is_named(link)).map(|l| l.header.index).collect();
        ours.are(found);
        Ok(Self { ours, others: !firewall, route, netfilter })
    }

    /// Notifies until a socket fails.
    pub(crate) async fn watch(mut self, changed: Arc<Notify>) -> io::Error {
        let interface = self.ours.name().clone();
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            let about = tokio::select! {
                message = self.route.next() => message.map(|message| match message.payload {
                    NetlinkPayload::InnerMessage(event) => {
                        self.ours.are_told_of(&event, self.others)
                    }
                    // Events were lost: any of them may have been ours.
                    NetlinkPayload::Overrun(_) => true,
                    _ => false,
                }),
                read = receive(self.netfilter.as_ref(), &mut buffer) => match read {
                    Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => Ok(true),
                    read => read.map(|bytes| firewall::event_is_about(&buffer[..bytes], &interface)),
                },
            };
            match about {
                Ok(true) => changed.notify_one(),
                Ok(false) => {}
                Err(error) => return error,
            }
        }
    }
}

fn subscribe_netfilter() -> io::Result<AsyncFd<Socket>> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.add_membership(firewall::EVENT_GROUP)?;
    socket.set_rx_buf_sz(BUFFER_BYTES)?;
    socket.set_non_blocking(true)?;
    #[expect(unsafe_code, reason = "tokio offers no safe constructor")]
    // SAFETY: the socket owns its descriptor, keeps it until it is dropped, and is not taken out again.
    let socket = unsafe { AsyncFd::register(socket) }?;
    Ok(socket)
}

/// One datagram, of which at most the buffer; without a socket, none ever.
async fn receive(socket: Option<&AsyncFd<Socket>>, buffer: &mut [u8]) -> io::Result<usize> {
    let Some(socket) = socket else { return pending().await };
    loop {
        let mut ready = socket.readable().await?;
        match ready.try_io(|socket| socket.get_ref().recv(&mut &mut buffer[..], 0)) {
            Ok(read) => return read,
            Err(_would_block) => {}
        }
    }
}
