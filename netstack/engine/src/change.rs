//! One step nearer to the snapshot, as plain data that prints on one line. Knows neither why nor how it is done.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use model::{Name, PublicKey};

/// One step nearer to the snapshot. Each is idempotent: done twice, it is as if done once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Make the WireGuard interface. Its name is the shell's affair.
    CreateInterface,
    /// Remove the interface with everything on it.
    RemoveInterface,
    /// Give the interface the node's private key, which the shell holds, and the UDP port to listen on.
    SetDevice {
        /// `None`: any port will do, the one in use stays.
        listen_port: Option<u16>,
    },
    /// Set the MTU, in bytes.
    SetMtu(u16),
    /// Set the interface up.
    SetUp,
    /// Add an address of the node, as a host network (/32 or /128).
    AddAddress(IpNet),
    /// Remove an address.
    RemoveAddress(IpNet),
    /// Add a route through the interface.
    AddRoute(IpNet),
    /// Remove a route through the interface.
    RemoveRoute(IpNet),
    /// Remove a route through the interface that is not where ours are, so that the underlay's own packets would take it.
    RemoveStray(IpNet),
    /// Make or replace a peer; what it may send from replaces what it might.
    SetPeer(PeerSetting),
    /// Remove a peer.
    RemovePeer(PublicKey),
    /// Replace the firewall table of ours, as one transaction.
    SetFirewall(Firewall),
    /// Remove the firewall table of ours.
    RemoveFirewall,
    /// Forward packets between interfaces, both families. Never asked to be switched off: others may need it.
    SetForwarding(bool),
    /// Send questions for the mesh's names to the node's own resolver.
    SetResolver(ResolverSetting),
    /// Leave the machine's resolver as it was before.
    ClearResolver,
}

/// A WireGuard peer as it should be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerSetting {
    /// Its public key.
    pub key: PublicKey,
    /// What it may send from, and what is sent to it; replaces what was set.
    pub allowed: BTreeSet<IpNet>,
    /// Where it answers. `None` leaves the endpoint alone.
    pub endpoint: Option<SocketAddr>,
    /// Seconds between keepalives; 0 is none.
    pub keepalive_seconds: u16,
}

/// What a hub forwards: packets that come in by the interface and leave by it again, within one tenant. Everything
/// else through the interface is dropped.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Firewall {
    /// The IPv4 and the IPv6 block of each tenant: source and destination must be of the same pair.
    pub blocks: BTreeSet<[IpNet; 2]>,
}

/// How the machine's resolver finds the mesh's names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolverSetting {
    /// The node's own mesh addresses, port 53, IPv4 first.
    pub servers: Vec<IpAddr>,
    /// Searched for short names, and routed to the servers.
    pub domain: Name,
    /// Searched after it, and routed to the servers: what the administrator of the machine adds.
    pub search: Vec<Name>,
    /// The tenant's block: PTR questions for it are routed to the servers.
    pub reverse: Vec<IpNet>,
}

/// What a change is about. At most one change per subject is under way, and the order is the order of work: what
/// protects comes before what it protects, what carries before what it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The firewall table, while it is wanted: packets must not pass before it is there.
    Firewall,
    /// That the interface exists.
    Interface,
    /// Key and port.
    Device,
    /// The MTU.
    Mtu,
    /// One address.
    Address(IpNet),
    /// That the interface is up.
    Up,
    /// One peer.
    Peer(PublicKey),
    /// One route.
    Route(IpNet),
    /// One route where none of ours is.
    Stray(IpNet),
    /// Packet forwarding.
    Forwarding,
    /// The machine's resolver.
    Resolver,
    /// That the interface is gone.
    InterfaceGone,
    /// That the firewall table is gone: after the interface that it guards.
    FirewallGone,
}

impl Change {
    /// What the change is about.
    pub fn subject(&self) -> Subject {
        match self {
            Self::CreateInterface => Subject::Interface,
            Self::RemoveInterface => Subject::InterfaceGone,
            Self::SetDevice { .. } => Subject::Device,
            Self::SetMtu(_) => Subject::Mtu,
            Self::SetUp => Subject::Up,
            Self::AddAddress(net) | Self::RemoveAddress(net) => Subject::Address(*net),
            Self::AddRoute(net) | Self::RemoveRoute(net) => Subject::Route(*net),
            Self::RemoveStray(net) => Subject::Stray(*net),
            Self::SetPeer(peer) => Subject::Peer(peer.key),
            Self::RemovePeer(key) => Subject::Peer(*key),
            Self::SetFirewall(_) => Subject::Firewall,
            Self::RemoveFirewall => Subject::FirewallGone,
            Self::SetForwarding(_) => Subject::Forwarding,
            Self::SetResolver(_) | Self::ClearResolver => Subject::Resolver,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateInterface => f.write_str("create interface"),
            Self::RemoveInterface => f.write_str("remove interface"),
            Self::SetDevice { listen_port: Some(port) } => write!(f, "set key and listen port {port}"),
            Self::SetDevice { listen_port: None } => f.write_str("set key"),
            Self::SetMtu(mtu) => write!(f, "set mtu {mtu}"),
            Self::SetUp => f.write_str("set interface up"),
            Self::AddAddress(net) => write!(f, "add address {net}"),
            Self::RemoveAddress(net) => write!(f, "remove address {net}"),
            Self::AddRoute(net) => write!(f, "add route {net}"),
            Self::RemoveRoute(net) => write!(f, "remove route {net}"),
            Self::RemoveStray(net) => write!(f, "remove stray route {net}"),
            Self::SetPeer(peer) => write!(f, "set peer {peer}"),
            Self::RemovePeer(key) => write!(f, "remove peer {key}"),
            Self::SetFirewall(firewall) => write!(f, "set firewall for {} tenants", firewall.blocks.len()),
            Self::RemoveFirewall => f.write_str("remove firewall"),
            Self::SetForwarding(on) => write!(f, "set forwarding {}", if *on { "on" } else { "off" }),
            Self::SetResolver(setting) => write!(f, "set resolver for {}", setting.domain),
            Self::ClearResolver => f.write_str("clear resolver"),
        }
    }
}

impl fmt::Display for PeerSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} allowed", self.key)?;
        for (n, net) in self.allowed.iter().enumerate() {
            write!(f, "{}{net}", if n == 0 { " " } else { "," })?;
        }
        if let Some(endpoint) = self.endpoint {
            write!(f, " endpoint {endpoint}")?;
        }
        write!(f, " keepalive {} s", self.keepalive_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_print_on_one_line() {
        let key = PublicKey::from_bytes([0; 32]);
        let peer = PeerSetting {
            key,
            allowed: ["100.64.0.2/32", "fd00::2/128"].map(|n| n.parse().expect("a net")).into(),
            endpoint: "192.0.2.1:51820".parse().ok(),
            keepalive_seconds: 25,
        };
        assert_eq!(
            Change::SetPeer(peer).to_string(),
            format!(
                "set peer {key} allowed 100.64.0.2/32,fd00::2/128 endpoint 192.0.2.1:51820 keepalive 25 s"
            )
        );
        assert_eq!(Change::SetDevice { listen_port: None }.to_string(), "set key");
    }
}
