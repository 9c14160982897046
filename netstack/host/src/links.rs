//! Interfaces, their addresses, their routes and the rules that lead to them (`rtnetlink(7)`). Knows what is there and does one step at a
//! time; what should be there is decided elsewhere.

mod routes;
mod rules;

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::pin;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use ipnet::IpNet;
use netlink_packet_core::{NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute};
use nix::errno::Errno;
use rtnetlink::sys::AsyncSocket as _;
use rtnetlink::{AddressMessageBuilder, Handle, LinkUnspec, LinkWireguard};
use tokio::runtime::{self, Runtime};
use tokio::time::timeout;

use crate::interface::InterfaceName;
use crate::netlink::{ANSWER_SECONDS_MAX, DUMP_TRIES_MAX, HEADER_BYTES, NetlinkError, words};

pub use self::routes::{ROUTE_PROTOCOL, ROUTE_TABLE};
pub use self::rules::MARK;

/// The alias of an interface that Warren made (`ip link show` prints it): one without is not Warren's to change.
pub(crate) const ALIAS: &str = "warren";

/// What an interface is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) up: bool,
    pub(crate) mtu: u32,
    pub(crate) kind: Kind,
    pub(crate) alias: Option<String>,
}

/// What made an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Kernel WireGuard.
    Wireguard,
    /// A TUN device.
    Tun,
    /// Anything else; the text is the kernel's word for it.
    Other(String),
}

/// Links, addresses and routes of the network namespace of this thread.
pub(crate) struct Links {
    /// What rtnetlink runs on, for the length of a call.
    runtime: Runtime,
}

impl Links {
    /// The calls of what is opened block, and panic in an asynchronous task.
    pub(crate) fn open() -> Result<Self, NetlinkError> {
        Ok(Self { runtime: runtime::Builder::new_current_thread().enable_all().build()? })
    }

    /// Has one conversation, over a connection of its own: nothing of a lost answer is there in the next one. The
    /// connection's channels are unbounded, but hold at most the answer to one request, which is collected anyway.
    fn converse<T>(
        &self,
        talk: impl AsyncFnOnce(&mut Handle) -> Result<T, NetlinkError>,
    ) -> Result<T, NetlinkError> {
        self.runtime.block_on(async {
            // Strict: lets the kernel filter dumps by interface; else every route of the machine is read.
            let (mut connection, mut handle, _unsolicited) = rtnetlink::new_connection_with_strict_check()?;
            connection.set_forward_done(true);
            let socket = connection.socket_mut().socket_mut();
            socket.set_ext_ack(true)?;
            socket.set_cap_ack(true)?;
            let talk = timeout(Duration::from_secs(ANSWER_SECONDS_MAX), talk(&mut handle));
            tokio::select! {
                said = talk => said.unwrap_or_else(|_| Err(NetlinkError::Answer("there is none".into()))),
                () = connection => Err(io::Error::from(io::ErrorKind::ConnectionAborted).into()),
            }
        })
    }

    /// The interface, if there is one.
    pub(crate) fn find(&self, name: &InterfaceName) -> Result<Option<Link>, NetlinkError> {
        self.converse(async |handle| find(handle, name).await)
    }

    /// All interfaces, as the kernel tells of them.
    pub(crate) fn all(&self) -> Result<Vec<LinkMessage>, NetlinkError> {
        let message = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let answers = self.converse(async |handle| dump(handle, message).await)?;
        let links = answers.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(link) => Some(link),
            _ => None,
        });
        Ok(links.collect())
    }

    /// Creates a kernel WireGuard interface; one that exists is fine.
    pub(crate) fn create_wireguard(&self, name: &InterfaceName) -> Result<(), NetlinkError> {
        let message = LinkWireguard::new(name.as_str()).build();
        fine(self.converse(async |h| Ok(h.link().add(message).execute().await?)), Errno::EEXIST)
    }

    /// Removes an interface; there being none is fine.
    pub(crate) fn remove(&self, index: u32) -> Result<(), NetlinkError> {
        fine(self.converse(async |h| Ok(h.link().del(index).execute().await?)), Errno::ENODEV)
    }

    pub(crate) fn set_mtu(&self, index: u32, mtu: u16) -> Result<(), NetlinkError> {
        self.change(LinkUnspec::new_with_index(index).mtu(u32::from(mtu)).build())
    }

    /// Marks the interface as Warren's.
    pub(crate) fn set_alias(&self, index: u32) -> Result<(), NetlinkError> {
        let alias = LinkAttribute::IfAlias(ALIAS.into());
        self.change(LinkUnspec::new_with_index(index).append_extra_attribute(alias).build())
    }

    pub(crate) fn set_up(&self, index: u32) -> Result<(), NetlinkError> {
        self.change(LinkUnspec::new_with_index(index).up().build())
    }

    fn change(&self, message: LinkMessage) -> Result<(), NetlinkError> {
        self.converse(async |handle| Ok(handle.link().change(message).execute().await?))
    }

    /// The addresses of an interface with their prefix lengths, without the link-local ones that the kernel
    /// gives by itself.
    pub(crate) fn addresses(&self, index: u32) -> Result<BTreeSet<IpNet>, NetlinkError> {
        let mut message = AddressMessage::default();
        message.header.index = index;
        let message = RouteNetlinkMessage::GetAddress(message);
        let answers = self.converse(async |handle| dump(handle, message).await)?;
        let own = answers.iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewAddress(address) if address.header.index == index => {
                read_address(address)
            }
            _ => None,
        });
        Ok(own.filter(|net| !is_link_local(net)).collect())
    }

    /// Adds an address; one that exists is fine.
    pub(crate) fn add_address(&self, index: u32, net: IpNet) -> Result<(), NetlinkError> {
        self.converse(async |handle| {
            let mut request = handle.address().add(index, net.addr(), net.prefix_len()).replace();
            if net.addr().is_ipv6() {
                // Nobody else is on this interface; the address is usable at once.
                request.message_mut().attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
            }
            Ok(request.execute().await?)
        })
    }

    /// Removes an address; there being none is fine.
    pub(crate) fn remove_address(&self, index: u32, net: IpNet) -> Result<(), NetlinkError> {
        let message = match net {
            IpNet::V4(net) => AddressMessageBuilder::<Ipv4Addr>::new()
                .address(net.addr(), net.prefix_len())
                .index(index)
                .build(),
            IpNet::V6(net) => AddressMessageBuilder::<Ipv6Addr>::new()
                .address(net.addr(), net.prefix_len())
                .index(index)
                .build(),
        };
        let removed = self.converse(async |handle| Ok(handle.address().del(message).execute().await?));
        fine(removed, Errno::EADDRNOTAVAIL)
    }
}

/// The interface of a name, if there is one.
pub(crate) async fn find(handle: &Handle, name: &InterfaceName) -> Result<Option<Link>, NetlinkError> {
    let answers = handle.link().get().match_name(name.as_str()).execute();
    match pin!(answers).try_next().await.map_err(NetlinkError::from) {
        Err(error) if error.errno() == Some(Errno::ENODEV as i32) => Ok(None),
        found => Ok(found?.as_ref().map(read_link)),
    }
}

/// All that the kernel has, read again if it changed meanwhile: the flag that says so is in the header, which
/// rtnetlink's own dumps do not hand out.
async fn dump(
    handle: &mut Handle,
    what: RouteNetlinkMessage,
) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
    for _ in 0..DUMP_TRIES_MAX {
        let mut request = NetlinkMessage::from(what.clone());
        request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        let mut answers = pin!(handle.request(request)?);
        let (mut all, mut interrupted, mut done) = (Vec::new(), false, false);
        while let Some(answer) = answers.next().await {
            interrupted |= answer.header.flags & NLM_F_DUMP_INTR != 0;
            match answer.payload {
                NetlinkPayload::InnerMessage(inner) => all.push(inner),
                NetlinkPayload::Error(error) => return Err(rtnetlink::Error::NetlinkError(error).into()),
                NetlinkPayload::Done(end) if end.code < 0 => {
                    return Err(NetlinkError::Refused {
                        errno: end.code.saturating_neg(),
                        said: String::new(),
                    });
                }
                NetlinkPayload::Done(_) => done = true,
                _ => interrupted = true,
            }
        }
        if done && !interrupted {
            return Ok(all);
        }
    }
    Err(NetlinkError::changing())
}

impl From<rtnetlink::Error> for NetlinkError {
    fn from(error: rtnetlink::Error) -> Self {
        match error {
            rtnetlink::Error::NetlinkError(refusal) => {
                // Behind the header of the request, since the rest of it was not asked for.
                let said = words(refusal.header.get(HEADER_BYTES..).unwrap_or_default());
                Self::Refused { errno: refusal.raw_code().saturating_neg(), said }
            }
            other => Self::Answer(other.to_string()),
        }
    }
}

fn fine(result: Result<(), NetlinkError>, already: Errno) -> Result<(), NetlinkError> {
    match result {
        Err(error) if error.errno() == Some(already as i32) => Ok(()),
        other => other,
    }
}

/// The interface of a message.
pub(crate) fn read_link(message: &LinkMessage) -> Link {
    let (mut mtu, mut kind, mut alias) = (0, Kind::Other("plain interface".into()), None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Mtu(value) => mtu = *value,
            LinkAttribute::IfAlias(value) => alias = Some(value.clone()),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Kind(InfoKind::Wireguard) => kind = Kind::Wireguard,
                        LinkInfo::Kind(InfoKind::Tun) => kind = Kind::Tun,
                        LinkInfo::Kind(other) => kind = Kind::Other(other.to_string()),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Link { index: message.header.index, up: message.header.flags.contains(LinkFlags::Up), mtu, kind, alias }
}

fn is_link_local(net: &IpNet) -> bool {
    matches!(net, IpNet::V6(net) if net.addr().is_unicast_link_local())
}

/// The name of an interface.
pub(crate) fn name_of(message: &LinkMessage) -> Option<&str> {
    message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })
}

/// The address of a message with its prefix length.
pub(crate) fn read_address(message: &AddressMessage) -> Option<IpNet> {
    let local = message.attributes.iter().find_map(|a| match a {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let address = message.attributes.iter().find_map(|a| match a {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    IpNet::new(local.or(address)?, message.header.prefix_len).ok()
}

/// The address, if it is one of IP.
pub(crate) const fn to_ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

/// Which interfaces events are about: by index, or by name where one has just appeared.
#[derive(Debug)]
pub(crate) struct Ours {
    name: InterfaceName,
    /// A hub's: those beside it are, too.
    with_beside: bool,
    indices: BTreeSet<u32>,
}

impl Ours {
    /// None of which is known to be there.
    pub(crate) const fn new(name: InterfaceName, with_beside: bool) -> Self {
        Self { name, with_beside, indices: BTreeSet::new() }
    }

    /// The name of the one that there always is.
    pub(crate) const fn name(&self) -> &InterfaceName {
        &self.name
    }

    /// These are all that there are.
    pub(crate) fn are(&mut self, indices: impl IntoIterator<Item = u32>) {
        self.indices = indices.into_iter().collect();
    }

    /// Whether an interface is one of them.
    pub(crate) fn is_named(&self, link: &LinkMessage) -> bool {
        name_of(link).is_some_and(|name| {
            name == self.name.as_str() || self.with_beside && self.name.port_beside(name).is_some()
        })
    }

    /// Whether an event is about one of them. With `others`, addresses of other interfaces count, too.
    pub(crate) fn are_told_of(&mut self, event: &RouteNetlinkMessage, others: bool) -> bool {
        match event {
            RouteNetlinkMessage::NewLink(link) => {
                let named = self.is_named(link);
                let known = if named {
                    !self.indices.insert(link.header.index)
                } else {
                    // Renamed.
                    self.indices.remove(&link.header.index)
                };
                named || known
            }
            RouteNetlinkMessage::DelLink(link) => self.indices.remove(&link.header.index),
            RouteNetlinkMessage::NewAddress(m) | RouteNetlinkMessage::DelAddress(m) => {
                self.indices.contains(&m.header.index)
                    || others && read_address(m).is_some_and(|net| !is_link_local(&net))
            }
            RouteNetlinkMessage::NewRoute(m) | RouteNetlinkMessage::DelRoute(m) => {
                let over =
                    |a: &RouteAttribute| matches!(a, RouteAttribute::Oif(oif) if self.indices.contains(oif));
                m.attributes.iter().any(over)
            }
            // What leads to our routes; others' rules concern us as little as others' routes.
            RouteNetlinkMessage::NewRule(rule) | RouteNetlinkMessage::DelRule(rule) => rules::is_ours(rule),
            _ => false,
        }
    }
}
