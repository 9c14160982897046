//! What the host should be about one interface, all tenants on it together. Says neither how it got so nor what the host is.

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
    /// The blocks of which snapshots speak, while one is missing: never accepted, or not to be read. What lies
    /// outside is added to, and nothing of it is removed, interface and resolver neither. `None`: snapshots speak
    /// of everything.
    pub spoken_for: Option<BTreeSet<IpNet>>,
}

impl Desired {
    /// Whether something with these networks may be removed from the host.
    pub(crate) fn may_remove<'n>(&self, nets: impl IntoIterator<Item = &'n IpNet>) -> bool {
        let Some(blocks) = &self.spoken_for else { return true };
        nets.into_iter().all(|net| blocks.iter().any(|block| block.contains(net)))
    }
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
