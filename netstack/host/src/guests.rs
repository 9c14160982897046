//! Networks of the containers and virtual machines on this machine, whose names it resolves as its own programs': they
//! get a copy of its resolver's file. Knows no container runtime, only what they have the kernel make.

use std::collections::BTreeSet;

use ipnet::IpNet;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};

use crate::links::Links;
use crate::netlink::NetlinkError;

/// More networks than a machine has for its guests. Each question from outside the mesh is compared with them.
const NETWORKS_MAX: usize = 64;

/// The networks that reach no further than this machine: those of bridges whose ports are all virtual, but of none that
/// leads on to a default route. A wire into another network namespace (`veth(4)`) without a bridge may as well be this
/// machine's way out, if it is a container itself.
pub(crate) fn networks(links: &Links) -> Result<BTreeSet<IpNet>, NetlinkError> {
    let all = links.all()?;
    let mut networks = BTreeSet::new();
    for index in inner(&all) {
        if links.main_routes(index)?.iter().any(|net| net.prefix_len() == 0) {
            continue;
        }
        let nets = links.addresses(index)?;
        networks.extend(
            nets.into_iter().filter(|net| net.prefix_len() < net.max_prefix_len()).map(|n| n.trunc()),
        );
    }
    Ok(networks.into_iter().take(NETWORKS_MAX).collect())
}

/// Bridges behind which there is nothing but this machine.
fn inner(all: &[LinkMessage]) -> Vec<u32> {
    let ports = |of: u32| all.iter().filter(move |link| controller(link) == Some(of));
    let is_inner = |link: &&LinkMessage| {
        let is_virtual = |port| matches!(kind(port), Some(InfoKind::Veth | InfoKind::Tun));
        matches!(kind(link), Some(InfoKind::Bridge)) && ports(link.header.index).all(is_virtual)
    };
    all.iter().filter(is_inner).map(|link| link.header.index).collect()
}

fn kind(link: &LinkMessage) -> Option<&InfoKind> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos.iter().find_map(|info| match info {
            LinkInfo::Kind(kind) => Some(kind),
            _ => None,
        }),
        _ => None,
    })
}

fn controller(link: &LinkMessage) -> Option<u32> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Controller(index) => Some(*index),
        _ => None,
    })
}
