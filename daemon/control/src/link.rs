//! What the shell says of a link: its name and where it comes from. Knows no frame.

use std::net::IpAddr;

/// One link, named by the shell; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkId(pub u64);

/// Where a link comes from, as the shell saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The local socket of the hub, whose peer credentials were checked.
    Hub,
    /// The network.
    Network(IpAddr),
}
