//! What a node remembers: whom it trusts, who it is, what it accepted last. Knows no file and no link.

mod accept;
mod contents;
mod file;
mod kept;
mod rejection;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use ipnet::IpNet;
use model::limits::TENANTS_MAX;
use model::relay::RelayPass;
use model::token::OnboardingToken;
use model::wire::Remark;
use model::{AnchorKey, DeviceId, Endpoint, Held, NodeId, PublicKey, Signed, Snapshot, TenantId};

use crate::guard::Guard;
use contents::Scope;
use kept::Kept;

pub use accept::{Accepted, Delta, Freshness, Offer};
pub use file::LedgerError;
pub use rejection::Rejection;

/// What a node remembers. Snapshots get in by [`Self::accept`] and [`Self::load`] alone, and both verify them.
#[derive(Debug, Clone)]
pub struct Ledger {
    /// Whether the node is to take part.
    pub(crate) up: bool,
    /// The wish to join, until it is answered.
    pub(crate) joining: Option<Joining>,
    /// Who a device is. `None` for a hub.
    pub(crate) enrolment: Option<Enrolment>,
    /// What is pinned and held, by tenant: one at most for a device.
    pins: BTreeMap<TenantId, Pin>,
    /// Where named endpoints were found last.
    pub(crate) addresses: BTreeMap<Endpoint, SocketAddr>,
    /// The highest term of the lease that a hub was told of. `None`: it is the only hub.
    pub(crate) hub_term: Option<u64>,
    /// The last pass to relays: kept, as they are needed most while there is no server that gives another.
    pub(crate) pass: Option<Signed<RelayPass>>,
}

/// A wish to join. The token is kept so that a crash in the midst of it needs nobody's help, and forgotten with the
/// server's answer.
#[derive(Debug, Clone)]
pub(crate) struct Joining {
    pub(crate) token: OnboardingToken,
    pub(crate) hostname: Remark,
    pub(crate) os: Remark,
}

/// Who a device is, and whom it trusts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Enrolment {
    pub(crate) anchor: AnchorKey,
    pub(crate) device: DeviceId,
}

/// What a node trusts of one tenant, and what it accepted last.
#[derive(Debug, Clone)]
struct Pin {
    anchor: AnchorKey,
    /// Of the hub keys seen last.
    hub_serial: u64,
    kept: Option<Kept>,
    /// What was held of it does not keep the hub's limits any more. Not written to disk.
    ruled_out: bool,
    /// The server listed its tenants, and this one is none of them. Not written to disk.
    unlisted: bool,
}

/// Why an anchor is not pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unpinned {
    /// Another one is, and stays.
    Other,
    /// So many are that there is no room.
    Full,
}

/// What every snapshot is checked against.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// Who the node is.
    pub node: NodeId,
    /// The node's own WireGuard key, which no other node has.
    pub wireguard: PublicKey,
    /// The limits of a hub.
    pub guard: Option<&'a Guard>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            up: true,
            joining: None,
            enrolment: None,
            pins: BTreeMap::new(),
            addresses: BTreeMap::new(),
            hub_term: None,
            pass: None,
        }
    }
}

impl Ledger {
    /// The ledger of a node that remembers nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The id of the device, once enrolled.
    pub fn device(&self) -> Option<DeviceId> {
        self.enrolment.map(|e| e.device)
    }

    /// The snapshot held of a tenant.
    pub fn snapshot(&self, tenant: TenantId) -> Option<&Snapshot> {
        self.kept(tenant).map(|kept| &kept.snapshot)
    }

    /// Version and digest of the snapshot held of a tenant.
    pub fn held(&self, tenant: TenantId) -> Option<Held> {
        self.kept(tenant).map(|kept| kept.held)
    }

    /// Everything that is held, by tenant.
    pub fn holdings(&self) -> impl Iterator<Item = (TenantId, Held, &Snapshot)> {
        self.pins.iter().filter_map(|(tenant, pin)| {
            let kept = pin.kept.as_ref()?;
            Some((*tenant, kept.held, &kept.snapshot))
        })
    }

    /// The anchor that is pinned for a tenant. A device has one anchor, whose tenant it learns from the first stamp.
    pub fn anchor(&self, tenant: TenantId) -> Option<AnchorKey> {
        match self.pins.get(&tenant) {
            Some(pin) => Some(pin.anchor),
            None => self.enrolment.map(|e| e.anchor),
        }
    }

    /// Pins the anchor of a hub's tenant, at first sight. `Ok` says whether it was new.
    ///
    /// # Errors
    /// See [`Unpinned`]; nothing changed.
    pub(crate) fn pin(&mut self, tenant: TenantId, anchor: AnchorKey) -> Result<bool, Unpinned> {
        match self.pins.get(&tenant) {
            Some(pin) if pin.anchor == anchor => Ok(false),
            Some(_) => Err(Unpinned::Other),
            None if self.pins.len() >= TENANTS_MAX => Err(Unpinned::Full),
            None => {
                self.pins.insert(
                    tenant,
                    Pin { anchor, hub_serial: 0, kept: None, ruled_out: false, unlisted: false },
                );
                Ok(true)
            }
        }
    }

    /// The blocks of which snapshots speak, while one is missing of which a former life may have left something on
    /// the host: it was never accepted, or could not be read. `None`: snapshots speak of everything.
    pub(crate) fn spoken_for(&self, is_hub: bool) -> Option<BTreeSet<IpNet>> {
        let missing = |pin: &Pin| pin.kept.is_none() && !pin.ruled_out;
        let awaited = |pin: &Pin| missing(pin) && !pin.unlisted;
        let any_missing = match self.enrolment {
            // A list without a single snapshot may be that of a server that lost everything.
            _ if is_hub => self.pins.values().all(missing) || self.pins.values().any(awaited),
            Some(_) => self.pins.values().all(missing),
            None => false,
        };
        any_missing.then(|| self.holdings().flat_map(|(_, _, snapshot)| snapshot.own.block.nets()).collect())
    }

    /// Notes which tenants a hub's server has: nothing more is heard of one that was deleted.
    pub(crate) fn list(&mut self, listed: &BTreeSet<TenantId>) {
        self.pins.iter_mut().for_each(|(tenant, pin)| pin.unlisted = !listed.contains(tenant));
    }

    /// The tenants that a hub pinned.
    pub(crate) fn tenants(&self) -> impl Iterator<Item = TenantId> {
        self.pins.keys().copied()
    }

    /// Forgets a tenant.
    pub(crate) fn forget(&mut self, tenant: TenantId) {
        self.pins.remove(&tenant);
    }

    /// Lets go of every snapshot that does not keep the rules, which may be stricter than when it was accepted.
    pub(crate) fn recheck(&mut self, rules: &Rules<'_>) -> Vec<(TenantId, Rejection)> {
        let mut rejected = Vec::new();
        for tenant in self.tenants().collect::<Vec<_>>() {
            if let Err(rejection) = self.recheck_tenant(tenant, rules) {
                let ruled_out = matches!(rejection, Rejection::Guard(_) | Rejection::Overlap(_));
                self.pins.entry(tenant).and_modify(|pin| (pin.kept, pin.ruled_out) = (None, ruled_out));
                rejected.push((tenant, rejection));
            }
        }
        rejected
    }

    fn recheck_tenant(&self, tenant: TenantId, rules: &Rules<'_>) -> Result<(), Rejection> {
        let Some(kept) = self.kept(tenant) else { return Ok(()) };
        let (stamp, _) = self.check_stamp(tenant, &kept.stamp, rules)?;
        self.contents(&stamp, rules)?.check(&kept.snapshot, &Scope::All).map(|_| ())
    }

    fn kept(&self, tenant: TenantId) -> Option<&Kept> {
        self.pins.get(&tenant)?.kept.as_ref()
    }
}
