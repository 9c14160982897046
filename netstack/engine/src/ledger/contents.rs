//! What the contents of a snapshot must be: at one with themselves, with the anchor's hub keys and with a hub's limits.
//!
//! Knows neither stamp nor digest: those were checked before.

use std::collections::BTreeSet;

use model::hub::HubKeys;
use model::{AnchorKey, Block, Name, NodeId, Patch, Peer, PublicKey, Snapshot, Standing, TenantId, Trusted};

use super::{Rejection, Rules};

/// IPv6 needs so much (RFC 8200, section 5).
const MTU_MIN: u16 = 1280;
/// What WireGuard leaves of the largest packet: 65 535 bytes less 80 for IPv6, UDP and its own header.
const MTU_MAX: u16 = u16::MAX - 80;

/// What the contents of one tenant's snapshot are checked against.
pub(super) struct Contents<'a> {
    pub(super) tenant: TenantId,
    pub(super) anchor: AnchorKey,
    /// Of the hub keys seen last.
    pub(super) hub_serial: u64,
    pub(super) rules: &'a Rules<'a>,
    /// The blocks of a hub's other tenants.
    pub(super) others: Vec<(TenantId, Block)>,
}

/// What of a snapshot has to be checked.
pub(super) enum Scope {
    All,
    /// What a patch set, while the node's own part and the head of the zone stayed.
    Touched {
        peers: BTreeSet<PublicKey>,
        names: BTreeSet<Name>,
    },
}

impl Scope {
    pub(super) fn of(patch: &Patch) -> Self {
        if patch.own.is_some() || patch.zone.head.is_some() {
            return Self::All;
        }
        Self::Touched {
            peers: patch.peers_set.iter().map(|(key, _)| *key).collect(),
            names: patch.zone.set.iter().map(|(name, _)| name.clone()).collect(),
        }
    }
}

impl Contents<'_> {
    /// Checks the contents, and says the serial of the hub keys that were seen last now.
    pub(super) fn check(&self, snapshot: &Snapshot, scope: &Scope) -> Result<u64, Rejection> {
        if matches!(scope, Scope::All) {
            self.check_own(snapshot)?;
        }
        let hub_keys = self.hub_keys(snapshot)?;
        match scope {
            Scope::All => {
                check_names(snapshot, snapshot.zone.names.keys())?;
                let mut peers = snapshot.peers.iter();
                peers.try_for_each(|(key, peer)| self.check_peer(snapshot, hub_keys.as_ref(), key, peer))?;
                self.check_shared(snapshot, snapshot.peers.keys())?;
            }
            Scope::Touched { peers, names } => {
                check_names(snapshot, names)?;
                let mut found = peers.iter().filter_map(|key| Some((key, snapshot.peers.get(key)?)));
                found.try_for_each(|(key, peer)| self.check_peer(snapshot, hub_keys.as_ref(), key, peer))?;
                self.check_shared(snapshot, peers)?;
            }
        }
        Ok(hub_keys.map_or(self.hub_serial, |keys| keys.serial))
    }

    fn check_own(&self, snapshot: &Snapshot) -> Result<(), Rejection> {
        let own = &snapshot.own;
        if own.tenant != self.tenant {
            return Err(Rejection::ForeignTenant(own.tenant));
        }
        if own.node != self.rules.node {
            return Err(Rejection::ForeignNode(own.node));
        }
        let active = own.standing == Standing::Active;
        let ours = |a: model::MeshAddresses| a.both().into_iter().all(|a| own.block.contains(a));
        check(active == own.addresses.is_some(), "an active node has addresses, any other has none")?;
        check(active || snapshot.peers.is_empty(), "a node that is not active has no peers")?;
        check(own.addresses.is_none_or(ours), "the node's addresses are outside its block")?;
        check(snapshot.zone.block == own.block, "zone and node have different blocks")?;
        check((MTU_MIN..=MTU_MAX).contains(&own.mtu), "the MTU is out of range")?;
        let Some(guard) = self.rules.guard else { return Ok(()) };
        guard.check_head(snapshot).map_err(Rejection::Guard)?;
        match self.others.iter().find(|(_, block)| block.overlaps(&own.block)) {
            Some((tenant, _)) => Err(Rejection::Overlap(*tenant)),
            None => Ok(()),
        }
    }

    fn hub_keys(&self, snapshot: &Snapshot) -> Result<Option<Trusted<HubKeys>>, Rejection> {
        let Some(signed) = &snapshot.own.hub_keys else { return Ok(None) };
        let keys = signed.verify(&self.anchor).map_err(|_| Rejection::HubKeysUntrusted)?;
        if keys.tenant != self.tenant {
            return Err(Rejection::HubKeysUntrusted);
        }
        if keys.serial < self.hub_serial {
            return Err(Rejection::HubKeysStale { seen: self.hub_serial, offered: keys.serial });
        }
        Ok(Some(keys))
    }

    fn check_peer(
        &self,
        snapshot: &Snapshot,
        hub_keys: Option<&Trusted<HubKeys>>,
        key: &PublicKey,
        peer: &Peer,
    ) -> Result<(), Rejection> {
        // Devices share one list of peers, so each finds itself in it, as what it is.
        let is_own = *key == self.rules.wireguard;
        check(!is_own || peer.node == self.rules.node, "the node's key is another's")?;
        if peer.node == NodeId::Hub && !hub_keys.is_some_and(|keys| keys.names(key)) {
            return Err(Rejection::HubKey(*key));
        }
        match self.rules.guard {
            Some(guard) => guard.check_peer(&snapshot.own.block, key, peer).map_err(Rejection::Guard),
            None => Ok(()),
        }
    }

    fn check_shared<'k>(
        &self,
        snapshot: &Snapshot,
        touched: impl IntoIterator<Item = &'k PublicKey>,
    ) -> Result<(), Rejection> {
        match self.rules.guard {
            Some(guard) => guard.check_shared(snapshot, touched).map_err(Rejection::Guard),
            None => Ok(()),
        }
    }
}

fn check_names<'n>(snapshot: &Snapshot, names: impl IntoIterator<Item = &'n Name>) -> Result<(), Rejection> {
    let mut names = names.into_iter();
    check(names.all(|name| name.is_within(&snapshot.zone.origin)), "a name is outside its zone")
}

fn check(holds: bool, otherwise: &'static str) -> Result<(), Rejection> {
    if holds { Ok(()) } else { Err(Rejection::Inconsistent(otherwise)) }
}
