//! Linux hands: what a node's changes mean for interfaces, addresses, routes, firewall and resolver, and the one
//! event loop of a node. Knows no tenant, no token and no database.

pub mod capabilities;
pub mod files;
mod firewall;
mod forwarding;
mod host;
pub mod interface;
mod links;
mod netlink;
pub mod resolver;
pub mod wireguard;

pub use host::{Host, HostConfig, HostError, HostReport, chain};
pub use interface::InterfaceName;
pub use links::ROUTE_PROTOCOL;
pub use netlink::NetlinkError;
