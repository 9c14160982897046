//! Linux hands: what a node's changes mean for interfaces, addresses, routes, firewall and resolver, and the one
//! event loop of a node. Knows no tenant, no token and no database.

pub mod capabilities;
mod chain;
pub mod drive;
mod endpoints;
mod events;
pub mod facts;
pub mod files;
mod firewall;
mod forwarding;
mod guests;
mod hands;
mod host;
pub mod interface;
pub mod keyfile;
mod links;
pub mod metrics;
mod netlink;
pub mod paths;
mod place;
mod pointed;
mod pointer;
pub mod resolver;
mod rootless;
mod route_events;
mod seats;
pub mod sshd;
pub mod wireguard;

pub use chain::chain;
pub use drive::drive;
pub use hands::HandsError;
pub use host::{Host, HostConfig, HostError, HostReport};
pub use interface::InterfaceName;
pub use links::{MARK, ROUTE_PROTOCOL, ROUTE_TABLE};
pub use netlink::NetlinkError;
