//! All tenants' names, and whose view an asker gets. Knows no message.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use model::patch::ZonePatch;
use model::{Block, Generation, TenantId, Zone};

use crate::answer::{Answer, Transport, answer};
use crate::view::View;

/// The names of every tenant of this node. Changes come from one place at a time and are visible to all questions
/// that come after; no question waits for a change.
#[derive(Debug, Default)]
pub struct Names {
    tenants: ArcSwap<Tenants>,
    /// Held while something changes, so that no change is lost.
    changing: Mutex<()>,
}

/// Why names were not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NamesError {
    /// Askers are told apart by their address, so blocks may not overlap. Nothing changed.
    #[error("the block of tenant {tenant} overlaps the block of tenant {other}")]
    BlockTaken {
        /// Whose names were to be changed.
        tenant: TenantId,
        /// Who has the block.
        other: TenantId,
    },
    /// There is no zone for the patch.
    #[error("tenant {0} has no names to patch")]
    UnknownTenant(TenantId),
}

/// The tenants and their blocks. Copied when a tenant comes, goes or moves, not when a name changes.
#[derive(Debug, Clone, Default)]
struct Tenants {
    by_id: BTreeMap<TenantId, Arc<ArcSwap<View>>>,
    /// By the first address of the block. Blocks do not overlap.
    by_v4: BTreeMap<Ipv4Addr, TenantId>,
    by_v6: BTreeMap<Ipv6Addr, TenantId>,
}

impl Names {
    /// Nobody's names: everything is refused.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a zone in place of all that the tenant had. Costs the zone.
    ///
    /// # Errors
    /// [`NamesError::BlockTaken`].
    pub fn whole(&self, tenant: TenantId, generation: Generation, zone: &Zone) -> Result<(), NamesError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.place(tenant, || View::new(zone, generation), zone.block)
    }

    /// Changes some names of a tenant. Costs those names; if origin or block change, the zone.
    ///
    /// # Errors
    /// [`NamesError::UnknownTenant`], and [`NamesError::BlockTaken`] if the block changes.
    pub fn patch(
        &self,
        tenant: TenantId,
        generation: Generation,
        patch: &ZonePatch,
    ) -> Result<(), NamesError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let tenants = self.tenants.load();
        let cell = tenants.by_id.get(&tenant).ok_or(NamesError::UnknownTenant(tenant))?;
        match patch.head {
            Some((_, block)) => self.place(tenant, || cell.load().patched(patch, generation), block),
            None => {
                cell.store(Arc::new(cell.load().patched(patch, generation)));
                Ok(())
            }
        }
    }

    /// Forgets a tenant: its devices are refused from now on.
    pub fn gone(&self, tenant: TenantId) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tenants = Tenants::clone(&self.tenants.load());
        tenants.remove(tenant);
        self.tenants.store(Arc::new(tenants));
    }

    /// Answers one query. The tenant is chosen by the source address alone: one inside its block, or, on a node with
    /// a single tenant, loopback. Everybody else is refused. Never panics, whatever the bytes.
    pub fn answer(&self, query: &[u8], source: IpAddr, transport: Transport) -> Answer {
        let tenants = self.tenants.load();
        let view = tenants.of_asker(source.to_canonical()).map(|cell| cell.load());
        answer(view.as_deref().map(|view| &**view), query, transport)
    }

    fn place(&self, tenant: TenantId, view: impl FnOnce() -> View, block: Block) -> Result<(), NamesError> {
        let mut tenants = Tenants::clone(&self.tenants.load());
        tenants.remove(tenant);
        if let Some(other) = tenants.overlapping(&block) {
            return Err(NamesError::BlockTaken { tenant, other });
        }
        tenants.insert(tenant, view(), block);
        self.tenants.store(Arc::new(tenants));
        Ok(())
    }
}

impl Tenants {
    fn insert(&mut self, tenant: TenantId, view: View, block: Block) {
        self.by_id.insert(tenant, Arc::new(ArcSwap::from_pointee(view)));
        self.by_v4.insert(block.v4().addr(), tenant);
        self.by_v6.insert(block.v6().addr(), tenant);
    }

    fn remove(&mut self, tenant: TenantId) {
        self.by_id.remove(&tenant);
        self.by_v4.retain(|_, other| *other != tenant);
        self.by_v6.retain(|_, other| *other != tenant);
    }

    fn overlapping(&self, block: &Block) -> Option<TenantId> {
        let mut others = self.by_id.iter();
        others.find(|(_, cell)| cell.load().block().overlaps(block)).map(|(tenant, _)| *tenant)
    }

    fn of_asker(&self, source: IpAddr) -> Option<&Arc<ArcSwap<View>>> {
        if source.is_loopback() && self.by_id.len() == 1 {
            return self.by_id.values().next();
        }
        let nearest = match source {
            IpAddr::V4(source) => self.by_v4.range(..=source).next_back().map(|(_, tenant)| tenant),
            IpAddr::V6(source) => self.by_v6.range(..=source).next_back().map(|(_, tenant)| tenant),
        };
        self.by_id.get(nearest?).filter(|cell| cell.load().block().contains(source))
    }
}
