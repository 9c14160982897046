//! Tells that something changed on the host: links, addresses, routes and the firewall table, by the kernel's
//! multicast groups (`rtnetlink(7)`). Says "look again", never what to do.

use std::io;
use std::sync::Arc;

use netlink_sys::Socket;
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use nix::errno::Errno;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use crate::firewall;
use crate::interface::InterfaceName;
use crate::links::{self, Links};

/// RTNLGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE.
const ROUTE_GROUPS: [u32; 5] = [1, 5, 7, 9, 11];
/// A router with a full table churns; what does not fit is told as "look again" all the same.
const BUFFER_BYTES: u32 = 1 << 20;
/// The largest datagram of an event is one message.
const DATAGRAM_BYTES_MAX: usize = 64 * 1024;

/// The sockets, subscribed. What happens from now on is not missed.
pub(crate) struct Events {
    interface: InterfaceName,
    index: Option<u32>,
    route: AsyncFd<Socket>,
    netfilter: Option<AsyncFd<Socket>>,
}

impl Events {
    /// Subscribes in the network namespace of this thread; to the firewall's events where there is a firewall.
    pub(crate) fn open(interface: &InterfaceName, firewall: bool) -> io::Result<Self> {
        let route = subscribe(NETLINK_ROUTE, &ROUTE_GROUPS)?;
        let netfilter =
            if firewall { Some(subscribe(NETLINK_NETFILTER, &[firewall::EVENT_GROUP])?) } else { None };
        let find = Links::open().and_then(|mut links| links.find(interface));
        let index = find.map_err(io::Error::other)?.map(|link| link.index);
        Ok(Self { interface: interface.clone(), index, route, netfilter })
    }

    /// Notifies until a socket fails.
    pub(crate) async fn watch(mut self, changed: Arc<Notify>) -> io::Error {
        let table = firewall::table_name(&self.interface);
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            let read = match &self.netfilter {
                None => receive(&self.route, &mut buffer).await.map(|bytes| (bytes, false)),
                Some(netfilter) => {
                    let mut other = [0; 16 * 1024];
                    tokio::select! {
                        read = receive(&self.route, &mut buffer) => read.map(|bytes| (bytes, false)),
                        read = receive(netfilter, &mut other) => read.map(|bytes| {
                            buffer[..bytes.min(other.len())].copy_from_slice(&other[..bytes.min(other.len())]);
                            (bytes, true)
                        }),
                    }
                }
            };
            match read {
                Ok((bytes, of_firewall)) => {
                    let datagram = &buffer[..bytes.min(DATAGRAM_BYTES_MAX)];
                    let about = if of_firewall {
                        firewall::event_is_about(datagram, &table)
                    } else {
                        links::event_is_about(datagram, &mut self.index, &self.interface)
                    };
                    if about {
                        changed.notify_one();
                    }
                }
                // Events were lost: any of them may have been ours.
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => changed.notify_one(),
                Err(error) => return error,
            }
        }
    }
}

fn subscribe(family: isize, groups: &[u32]) -> io::Result<AsyncFd<Socket>> {
    let mut socket = Socket::new(family)?;
    socket.bind_auto()?;
    for group in groups {
        socket.add_membership(*group)?;
    }
    socket.set_rx_buf_sz(BUFFER_BYTES)?;
    socket.set_non_blocking(true)?;
    #[expect(unsafe_code, reason = "tokio offers no safe constructor")]
    // SAFETY: the socket owns its descriptor, keeps it until it is dropped, and is not taken out again.
    let socket = unsafe { AsyncFd::register(socket) }?;
    Ok(socket)
}

async fn receive(socket: &AsyncFd<Socket>, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        let mut ready = socket.readable().await?;
        match ready.try_io(|socket| socket.get_ref().recv(&mut &mut buffer[..], 0)) {
            Ok(read) => return read,
            Err(_would_block) => {}
        }
    }
}
