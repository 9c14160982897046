//! What the host should be, all tenants together. Says neither how it got so nor what the host is.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use model::PublicKey;

use crate::change::{Firewall, PeerSetting, ResolverSetting};

/// What the host should be. The default is a host without a mesh.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Desired {
    /// The interface. `None`: there should be none.
    pub interface: Option<DesiredInterface>,
    /// The firewall table of ours. `None`: there should be none.
    pub firewall: Option<Firewall>,
    /// Packets must be forwarded. `false`: as the machine likes.
    pub forwarding: bool,
    /// The resolver. `None`: as it was before.
    pub resolver: Option<ResolverSetting>,
}

/// What the interface should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredInterface {
    /// The public half of the node's key.
    pub public_key: PublicKey,
    /// UDP. `None`: any.
    pub listen_port: Option<u16>,
    /// In bytes.
    pub mtu: u16,
    /// The node's addresses.
    pub addresses: BTreeSet<IpNet>,
    /// The tenants' blocks.
    pub routes: BTreeSet<IpNet>,
    /// The peers.
    pub peers: BTreeMap<PublicKey, PeerSetting>,
}
