//! What no server can make a hub do: the limits that its root-owned configuration sets. Checks, never corrects.

use std::collections::BTreeMap;

use ipnet::IpNet;
use model::limits::HUB_PORT_MIN;
use model::{Block, MeshAddresses, Name, Peer, PublicKey, Snapshot};

/// Limits of a hub. A snapshot outside them is refused whole.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Guard {
    /// A tenant's block must lie inside one of these, in each family.
    pub blocks: Vec<IpNet>,
    /// A tenant's zone must be one of these or end in one.
    pub suffixes: Vec<Name>,
}

/// Which limit a snapshot does not keep.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Breach {
    /// Addresses that the hub's configuration does not give to meshes.
    #[error("block {0} is outside the blocks of the configuration")]
    Block(IpNet),
    /// Names that the hub's configuration does not give to meshes.
    #[error("zone {0} is outside the suffixes of the configuration")]
    Zone(Name),
    /// A peer that would send from addresses that are not its tenant's.
    #[error("peer {key} would send from {net}, outside its tenant's block")]
    Allowed {
        /// Which peer.
        key: PublicKey,
        /// What it would send from.
        net: IpNet,
    },
    /// A peer that would send from more than single addresses.
    #[error("peer {key} would send from {net}, which is more than one address")]
    Wide {
        /// Which peer.
        key: PublicKey,
        /// What it would send from.
        net: IpNet,
    },
    /// A peer that would send from the hub's own addresses.
    #[error("peer {key} would send from {net}, the hub's own")]
    HubAddress {
        /// Which peer.
        key: PublicKey,
        /// What it would send from.
        net: IpNet,
    },
    /// Two peers that would send from one address: WireGuard gives it to the last, whichever that is.
    #[error("peers {first} and {second} would both send from {net}")]
    Shared {
        /// One of them.
        first: PublicKey,
        /// The other.
        second: PublicKey,
        /// What they would send from.
        net: IpNet,
    },
    /// A port for a tenant's own interface that belongs to services of the machine.
    #[error("the tenant's own interface would listen on port {0}, below {HUB_PORT_MIN}")]
    Port(u16),
    /// The hub would have other addresses than the first of the block.
    #[error("the hub would have {} and {}, not the first of its block", .0.v4, .0.v6)]
    Own(MeshAddresses),
}

impl Guard {
    /// Checks block, zone, the hub's own addresses, and the port of an interface that is the tenant's own.
    pub fn check_head(&self, snapshot: &Snapshot) -> Result<(), Breach> {
        for net in snapshot.own.block.nets() {
            if !self.blocks.iter().any(|b| b.contains(&net)) {
                return Err(Breach::Block(net));
            }
        }
        let origin = &snapshot.zone.origin;
        if !self.suffixes.iter().any(|suffix| origin.is_within(suffix)) {
            return Err(Breach::Zone(origin.clone()));
        }
        if let Some(port) = snapshot.own.hub_port.filter(|port| *port < HUB_PORT_MIN) {
            return Err(Breach::Port(port));
        }
        match snapshot.own.addresses {
            Some(addresses) if addresses != snapshot.own.block.hub() => Err(Breach::Own(addresses)),
            Some(_) | None => Ok(()),
        }
    }

    /// Checks one peer of a tenant with this block. That no other peer shares its addresses is
    /// [`Self::check_shared`]'s affair.
    pub fn check_peer(&self, block: &Block, key: &PublicKey, peer: &Peer) -> Result<(), Breach> {
        let (blocks, own) = (block.nets(), block.hub().host_nets());
        for net in &peer.allowed {
            let (key, net) = (*key, *net);
            if !blocks.iter().any(|block| block.contains(&net)) {
                return Err(Breach::Allowed { key, net });
            }
            if net.prefix_len() != net.max_prefix_len() {
                return Err(Breach::Wide { key, net });
            }
            if own.contains(&net) {
                return Err(Breach::HubAddress { key, net });
            }
        }
        Ok(())
    }

    /// Checks that no two peers share an address, as far as one of `touched` is one of them. One walk over all peers.
    pub fn check_shared<'k>(
        &self,
        snapshot: &Snapshot,
        touched: impl IntoIterator<Item = &'k PublicKey>,
    ) -> Result<(), Breach> {
        let mut owners: BTreeMap<IpNet, PublicKey> = BTreeMap::new();
        for key in touched {
            for net in snapshot.peers.get(key).into_iter().flat_map(|peer| &peer.allowed) {
                owners.insert(*net, *key);
            }
        }
        if owners.is_empty() {
            return Ok(());
        }
        for (key, peer) in snapshot.peers.iter() {
            let shared = |net: &&IpNet| owners.get(net).is_some_and(|owner| owner != key);
            if let Some(net) = peer.allowed.iter().find(shared) {
                return Err(Breach::Shared { first: owners[net], second: *key, net: *net });
            }
        }
        Ok(())
    }
}
