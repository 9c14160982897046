//! What no server can make a hub do: the limits that its root-owned configuration sets. Checks, never corrects.

use ipnet::IpNet;
use model::{Block, Name, Peer, PublicKey, Snapshot};

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
}

impl Guard {
    /// Checks block and zone.
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
        Ok(())
    }

    /// Checks one peer of a tenant with this block.
    pub fn check_peer(&self, block: &Block, key: &PublicKey, peer: &Peer) -> Result<(), Breach> {
        match peer.allowed.iter().find(|net| !block.nets().iter().any(|b| b.contains(*net))) {
            Some(net) => Err(Breach::Allowed { key: *key, net: *net }),
            None => Ok(()),
        }
    }
}
