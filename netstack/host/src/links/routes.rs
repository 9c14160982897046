//! Routes over an interface. Ours are in a table of their own, where [rules](super::rules) lead the mesh's packets and never
//! those that carry it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use rtnetlink::RouteMessageBuilder;

use super::{Links, dump, fine, to_ip};
use crate::netlink::NetlinkError;

/// Our routes carry this protocol number, so that they are told from an administrator's (`ip route show proto
/// 155`). Free in `/etc/iproute2/rt_protos` and in the list of the IETF's routing daemons.
pub const ROUTE_PROTOCOL: u8 = 155;
/// Where our routes are (`ip route show table 155`): the number of their protocol, which no table of the system has.
pub const ROUTE_TABLE: u8 = ROUTE_PROTOCOL;

pub(super) const FAMILIES: [AddressFamily; 2] = [AddressFamily::Inet, AddressFamily::Inet6];

/// A route as far as it matters here.
struct Route {
    net: IpNet,
    interface: u32,
    /// Neither the kernel nor a router advertisement made it.
    is_set: bool,
}

impl Links {
    /// The routes over an interface to which the mesh's packets are led, without those that the kernel made.
    pub(crate) fn routes(&self, index: u32) -> Result<BTreeSet<IpNet>, NetlinkError> {
        let mut nets = BTreeSet::new();
        for family in FAMILIES {
            if self.are_rules_set(family)? {
                nets.extend(self.routes_over(index, family, ROUTE_TABLE)?);
            }
        }
        Ok(nets)
    }

    /// The routes over an interface that are in the main table, where the underlay's packets find them, too.
    pub(crate) fn main_routes(&self, index: u32) -> Result<BTreeSet<IpNet>, NetlinkError> {
        let mut nets = BTreeSet::new();
        for family in FAMILIES {
            nets.extend(self.routes_over(index, family, RouteHeader::RT_TABLE_MAIN)?);
        }
        Ok(nets)
    }

    /// Adds a route over an interface, and what leads to it; one that exists is fine. A route to the same network over
    /// another interface goes before ours, and is refused.
    pub(crate) fn add_route(&self, index: u32, net: IpNet) -> Result<(), NetlinkError> {
        let family = family_of(&net);
        // A default route of the machine's gives way to ours.
        let others = match net.prefix_len() {
            0 => Vec::new(),
            _ => self.table(family, RouteHeader::RT_TABLE_MAIN, None)?,
        };
        if others.iter().any(|route| route.net == net && route.interface != index) {
            let said = "another interface has it".into();
            return Err(NetlinkError::Refused { errno: Errno::EEXIST as i32, said });
        }
        self.set_rules(family)?;
        let message = message(index, net)?;
        match self.converse(async |handle| Ok(handle.route().add(message).execute().await?)) {
            Err(error)
                if error.errno() == Some(Errno::EEXIST as i32) && self.routes(index)?.contains(&net) =>
            {
                Ok(())
            }
            other => other,
        }
    }

    /// Removes the route over the interface, whoever made it; there being none is fine.
    pub(crate) fn remove_route(&self, index: u32, net: IpNet) -> Result<(), NetlinkError> {
        self.remove_from(ROUTE_TABLE, index, net)
    }

    /// As [`Self::remove_route`], from the main table.
    pub(crate) fn remove_stray(&self, index: u32, net: IpNet) -> Result<(), NetlinkError> {
        self.remove_from(RouteHeader::RT_TABLE_MAIN, index, net)
    }

    fn remove_from(&self, table: u8, index: u32, net: IpNet) -> Result<(), NetlinkError> {
        let mut message = message(index, net)?;
        message.header.table = table;
        message.header.protocol = RouteProtocol::Unspec;
        message.header.scope = RouteScope::NoWhere;
        fine(self.converse(async |handle| Ok(handle.route().del(message).execute().await?)), Errno::ESRCH)
    }

    fn routes_over(
        &self,
        index: u32,
        family: AddressFamily,
        table: u8,
    ) -> Result<BTreeSet<IpNet>, NetlinkError> {
        let routes = self.table(family, table, Some(index))?;
        Ok(routes.into_iter().filter(|route| route.is_set).map(|route| route.net).collect())
    }

    /// Whether our table has a route over another interface than this one.
    pub(super) fn is_table_used(
        &self,
        family: AddressFamily,
        but: Option<u32>,
    ) -> Result<bool, NetlinkError> {
        Ok(self.table(family, ROUTE_TABLE, None)?.iter().any(|route| Some(route.interface) != but))
    }

    fn table(&self, family: AddressFamily, table: u8, over: Option<u32>) -> Result<Vec<Route>, NetlinkError> {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        message.header.table = table;
        message.attributes.extend(over.map(RouteAttribute::Oif));
        let message = RouteNetlinkMessage::GetRoute(message);
        let answers = match self.converse(async |handle| dump(handle, message).await) {
            // A table that nothing was ever in.
            Err(error) if error.errno() == Some(Errno::ENOENT as i32) => return Ok(Vec::new()),
            answers => answers?,
        };
        let routes = answers.iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewRoute(route) if route.header.table == table => read(route),
            _ => None,
        });
        Ok(routes.filter(|route| over.is_none_or(|index| route.interface == index)).collect())
    }
}

const fn family_of(net: &IpNet) -> AddressFamily {
    match net {
        IpNet::V4(_) => AddressFamily::Inet,
        IpNet::V6(_) => AddressFamily::Inet6,
    }
}

fn message(index: u32, net: IpNet) -> Result<RouteMessage, NetlinkError> {
    let to = RouteMessageBuilder::<IpAddr>::new().destination_prefix(net.network(), net.prefix_len());
    let scope = if net.addr().is_ipv4() { RouteScope::Link } else { RouteScope::Universe };
    let to = to.map_err(|e| NetlinkError::Answer(e.to_string()))?;
    let mut message =
        to.output_interface(index).protocol(RouteProtocol::Other(ROUTE_PROTOCOL)).scope(scope).build();
    message.header.table = ROUTE_TABLE;
    Ok(message)
}

fn read(message: &RouteMessage) -> Option<Route> {
    if message.header.kind != RouteType::Unicast {
        return None;
    }
    let automatic = [RouteProtocol::Kernel, RouteProtocol::Ra, RouteProtocol::IcmpRedirect];
    let is_set = !automatic.contains(&message.header.protocol);
    let interface = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    });
    let destination = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(address) => to_ip(address),
        _ => None,
    });
    // A default route has no destination.
    let any = match message.header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        _ => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let net = IpNet::new(destination.unwrap_or(any), message.header.destination_prefix_length).ok()?;
    Some(Route { net, interface: interface?, is_set })
}
