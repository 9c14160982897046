//! Interfaces, their addresses and their routes (`rtnetlink(7)`). Knows what is there and does one step at a
//! time; what should be there is decided elsewhere.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{
    NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;

use crate::interface::InterfaceName;
use crate::netlink::{Netlink, NetlinkError, align};

/// Our routes carry this protocol number, so that they are told from an administrator's (`ip route show proto
/// 155`). Free in `/etc/iproute2/rt_protos` and in the list of the IETF's routing daemons.
pub const ROUTE_PROTOCOL: u8 = 155;

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

/// The route socket of a network namespace.
pub(crate) struct Links {
    netlink: Netlink,
}

impl Links {
    pub(crate) fn open() -> Result<Self, NetlinkError> {
        Ok(Self { netlink: Netlink::open(netlink_sys::protocols::NETLINK_ROUTE)? })
    }

    /// The interface, if there is one.
    pub(crate) fn find(&mut self, name: &InterfaceName) -> Result<Option<Link>, NetlinkError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_string()));
        let answers = match self.netlink.request(RouteNetlinkMessage::GetLink(message), 0) {
            Err(error) if error.errno() == Some(Errno::ENODEV as i32) => return Ok(None),
            other => other?,
        };
        Ok(answers.into_iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(link) => Some(read_link(&link)),
            _ => None,
        }))
    }

    /// Creates a kernel WireGuard interface; one that exists is fine.
    pub(crate) fn create_wireguard(&mut self, name: &InterfaceName) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_string()));
        message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Wireguard)]));
        fine(self.change(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL), Errno::EEXIST)
    }

    /// Removes an interface; there being none is fine.
    pub(crate) fn remove(&mut self, index: u32) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        fine(self.change(RouteNetlinkMessage::DelLink(message), 0), Errno::ENODEV)
    }

    pub(crate) fn set_mtu(&mut self, index: u32, mtu: u16) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(LinkAttribute::Mtu(u32::from(mtu)));
        self.change(RouteNetlinkMessage::SetLink(message), 0)
    }

    /// Marks the interface as Warren's.
    pub(crate) fn set_alias(&mut self, index: u32) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(LinkAttribute::IfAlias(ALIAS.into()));
        self.change(RouteNetlinkMessage::SetLink(message), 0)
    }

    pub(crate) fn set_up(&mut self, index: u32) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.change(RouteNetlinkMessage::SetLink(message), 0)
    }

    /// The addresses of an interface with their prefix lengths, without the link-local ones that the kernel
    /// gives by itself.
    pub(crate) fn addresses(&mut self, index: u32) -> Result<BTreeSet<IpNet>, NetlinkError> {
        let mut message = AddressMessage::default();
        message.header.index = index;
        let answers = self.netlink.request(RouteNetlinkMessage::GetAddress(message), NLM_F_DUMP)?;
        let own = answers.iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewAddress(address) if address.header.index == index => {
                read_address(address)
            }
            _ => None,
        });
        Ok(own.filter(|net| !is_link_local(net)).collect())
    }

    /// Adds an address; one that exists is fine.
    pub(crate) fn add_address(&mut self, index: u32, net: IpNet) -> Result<(), NetlinkError> {
        let message = address_message(index, net);
        self.change(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Removes an address; there being none is fine.
    pub(crate) fn remove_address(&mut self, index: u32, net: IpNet) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::DelAddress(address_message(index, net));
        fine(self.change(message, 0), Errno::EADDRNOTAVAIL)
    }

    /// The routes over an interface, without those that the kernel or a router advertisement made.
    pub(crate) fn routes(&mut self, index: u32) -> Result<BTreeSet<IpNet>, NetlinkError> {
        let mut nets = BTreeSet::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            message.header.table = RouteHeader::RT_TABLE_MAIN;
            message.attributes.push(RouteAttribute::Oif(index));
            for answer in self.netlink.request(RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP)? {
                if let RouteNetlinkMessage::NewRoute(route) = answer {
                    nets.extend(read_route(&route, index));
                }
            }
        }
        Ok(nets)
    }

    /// Adds a route over an interface; one that exists is fine. A route to the same network over another
    /// interface is refused, not taken over.
    pub(crate) fn add_route(&mut self, index: u32, net: IpNet) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::NewRoute(route_message(index, net));
        match self.change(message, NLM_F_CREATE | NLM_F_EXCL) {
            Err(error)
                if error.errno() == Some(Errno::EEXIST as i32) && self.routes(index)?.contains(&net) =>
            {
                Ok(())
            }
            other => other,
        }
    }

    /// Removes the route over the interface, whoever made it; there being none is fine.
    pub(crate) fn remove_route(&mut self, index: u32, net: IpNet) -> Result<(), NetlinkError> {
        let mut message = route_message(index, net);
        message.header.protocol = RouteProtocol::Unspec;
        message.header.scope = RouteScope::NoWhere;
        fine(self.change(RouteNetlinkMessage::DelRoute(message), 0), Errno::ESRCH)
    }

    fn change(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<(), NetlinkError> {
        self.netlink.request(message, flags).map(|_| ())
    }
}

fn fine(result: Result<(), NetlinkError>, already: Errno) -> Result<(), NetlinkError> {
    match result {
        Err(error) if error.errno() == Some(already as i32) => Ok(()),
        other => other,
    }
}

fn read_link(message: &LinkMessage) -> Link {
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

fn family_of(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn is_link_local(net: &IpNet) -> bool {
    matches!(net, IpNet::V6(net) if net.addr().is_unicast_link_local())
}

fn address_message(index: u32, net: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.family = family_of(net.addr());
    message.header.prefix_len = net.prefix_len();
    message.header.scope = AddressScope::Universe;
    message.attributes.push(AddressAttribute::Address(net.addr()));
    message.attributes.push(AddressAttribute::Local(net.addr()));
    if net.addr().is_ipv6() {
        // Nobody else is on this interface; the address is usable at once.
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    message
}

fn read_address(message: &AddressMessage) -> Option<IpNet> {
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

fn route_message(index: u32, net: IpNet) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family_of(net.addr());
    message.header.destination_prefix_length = net.prefix_len();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Other(ROUTE_PROTOCOL);
    message.header.scope = if net.addr().is_ipv4() { RouteScope::Link } else { RouteScope::Universe };
    message.header.kind = RouteType::Unicast;
    message.attributes.push(RouteAttribute::Destination(match net.network() {
        IpAddr::V4(address) => RouteAddress::Inet(address),
        IpAddr::V6(address) => RouteAddress::Inet6(address),
    }));
    message.attributes.push(RouteAttribute::Oif(index));
    message
}

fn read_route(message: &RouteMessage, index: u32) -> Option<IpNet> {
    let automatic = [RouteProtocol::Kernel, RouteProtocol::Ra, RouteProtocol::IcmpRedirect];
    let counts = !automatic.contains(&message.header.protocol)
        && message.header.kind == RouteType::Unicast
        && message.header.table == RouteHeader::RT_TABLE_MAIN
        && message.attributes.contains(&RouteAttribute::Oif(index));
    counts.then_some(())?;
    let destination = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(a)) => Some(IpAddr::V4(*a)),
        RouteAttribute::Destination(RouteAddress::Inet6(a)) => Some(IpAddr::V6(*a)),
        _ => None,
    });
    // A default route has no destination.
    let any = match message.header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        _ => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    IpNet::new(destination.unwrap_or(any), message.header.destination_prefix_length).ok()
}

/// Whether a route socket's event is about an interface: by index, or by name where it has just appeared. Keeps
/// the index.
pub(crate) fn event_is_about(datagram: &[u8], index: &mut Option<u32>, name: &InterfaceName) -> bool {
    let mut about = false;
    let mut rest = datagram;
    while let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest) {
        let length = message.header.length as usize;
        if let NetlinkPayload::InnerMessage(inner) = message.payload {
            about |= message_is_about(&inner, index, name);
        }
        match rest.get(align(length)..) {
            Some(next) if length > 0 && !next.is_empty() => rest = next,
            _ => break,
        }
    }
    about
}

fn message_is_about(message: &RouteNetlinkMessage, index: &mut Option<u32>, name: &InterfaceName) -> bool {
    let is_ours = |number: u32, index: &Option<u32>| *index == Some(number);
    match message {
        RouteNetlinkMessage::NewLink(link) => {
            let named = link.attributes.contains(&LinkAttribute::IfName(name.to_string()));
            let known = is_ours(link.header.index, index);
            match (named, known) {
                (true, _) => *index = Some(link.header.index),
                // Renamed.
                (false, true) => *index = None,
                (false, false) => {}
            }
            named || known
        }
        RouteNetlinkMessage::DelLink(link) => {
            let gone = is_ours(link.header.index, index);
            if gone {
                *index = None;
            }
            gone
        }
        RouteNetlinkMessage::NewAddress(m) | RouteNetlinkMessage::DelAddress(m) => {
            is_ours(m.header.index, index)
        }
        RouteNetlinkMessage::NewRoute(m) | RouteNetlinkMessage::DelRoute(m) => {
            m.attributes.iter().any(|a| matches!(a, RouteAttribute::Oif(oif) if is_ours(*oif, index)))
        }
        _ => false,
    }
}
