//! Where a node's changes are made, as the thread that makes them sees it. Chooses no change.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use engine::{Change, Observed};
use model::PublicKey;

use crate::host::{Host, HostError, HostReport};
use crate::wireguard::PeerState;

/// What changes are made to: a machine, or what stands for one.
pub(crate) trait Place {
    fn report(&self) -> HostReport;
    fn observe(&mut self) -> Result<Observed, HostError>;
    fn apply(&mut self, change: &Change) -> Result<(), HostError>;
    fn peers(&mut self) -> Result<BTreeMap<PublicKey, PeerState>, HostError>;
    /// Names are answered at these addresses of the node now, and at no others.
    fn serve(&mut self, served: BTreeSet<IpAddr>) -> Result<(), HostError>;
    fn glance(&mut self) -> u64;
    fn leave(&mut self) -> Result<(), HostError>;
}

impl Place for Host {
    fn report(&self) -> HostReport {
        self.report()
    }

    fn observe(&mut self) -> Result<Observed, HostError> {
        self.observe()
    }

    fn apply(&mut self, change: &Change) -> Result<(), HostError> {
        self.apply(change)
    }

    fn peers(&mut self) -> Result<BTreeMap<PublicKey, PeerState>, HostError> {
        self.peers()
    }

    fn serve(&mut self, served: BTreeSet<IpAddr>) -> Result<(), HostError> {
        self.serve(served)
    }

    fn glance(&mut self) -> u64 {
        self.glance()
    }

    fn leave(&mut self) -> Result<(), HostError> {
        self.leave()
    }
}
