//! Why a host could not be read or changed.

use ipnet::IpNet;

use crate::forwarding::ForwardingError;
use crate::interface::InterfaceName;
use crate::netlink::NetlinkError;
use crate::resolver::ResolverError;
use crate::wireguard::WireguardError;

/// Why the host could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A socket to the kernel could not be opened.
    #[error("netlink")]
    Netlink(#[source] NetlinkError),
    /// The interface could not be read or set.
    #[error("{what} of {interface}")]
    Interface {
        /// What of it.
        what: &'static str,
        /// Which.
        interface: InterfaceName,
        /// The kernel's words.
        source: NetlinkError,
    },
    /// An address or a route.
    #[error("{what} {net} on {interface}")]
    Net {
        /// Address or route.
        what: &'static str,
        /// Which.
        net: IpNet,
        /// Where.
        interface: InterfaceName,
        /// The kernel's words.
        source: NetlinkError,
    },
    /// There is no interface to change.
    #[error("there is no interface {0}")]
    Missing(InterfaceName),
    /// The interface is somebody else's.
    #[error("{interface} is not Warren's but {what}; remove it, or configure another interface name")]
    Occupied {
        /// Which.
        interface: InterfaceName,
        /// What it is.
        what: String,
    },
    /// WireGuard.
    #[error("{0}")]
    Wireguard(InterfaceName, #[source] WireguardError),
    /// The firewall table.
    #[error("firewall table of {0}")]
    Firewall(InterfaceName, #[source] NetlinkError),
    /// Policy rules.
    #[error("routing rules")]
    Rules(#[source] NetlinkError),
    /// A pair of blocks is not one of IPv4 and one of IPv6.
    #[error("a tenant's blocks must be one of IPv4 and one of IPv6, not {0} and {1}")]
    Blocks(IpNet, IpNet),
    /// Packet forwarding.
    #[error("forwarding")]
    Forwarding(#[from] ForwardingError),
    /// The machine's resolver.
    #[error("resolver")]
    Resolver(#[from] ResolverError),
}
