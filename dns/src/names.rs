//! All tenants' names, and whose view an asker gets. Knows no message.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};
use ipnet::IpNet;
use model::patch::ZonePatch;
use model::{Block, Generation, Name, TenantId, Zone};

use crate::answer::{Answer, Transport, answer};
use crate::explain::{Explanation, explain};
use crate::hash::Seed;
use crate::hot::{Hot, answer_in_place};
use crate::tenants::Tenants;
use crate::view::View;

/// The names of every tenant of this node. Changes come from one place at a time and are visible to all questions
/// that come after; no question waits for a change.
#[derive(Debug)]
pub struct Names {
    tenants: ArcSwap<Tenants>,
    seed: Seed,
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

impl Names {
    /// Nobody's names: everything is refused. The seed, 32 random bytes, keeps others from choosing names that are slow
    /// to find.
    pub fn new(seed: [u8; 32]) -> Self {
        Self { tenants: ArcSwap::default(), seed: Seed::new(&seed), changing: Mutex::default() }
    }

    /// Puts a zone in place of all that the tenant had. Costs the zone.
    ///
    /// # Errors
    /// [`NamesError::BlockTaken`].
    pub fn whole(&self, tenant: TenantId, generation: Generation, zone: &Zone) -> Result<(), NamesError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.place(tenant, || View::new(zone, generation, self.seed), zone.block)
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
        let held = tenants.of_id(tenant).ok_or(NamesError::UnknownTenant(tenant))?;
        let patched = || held.view.load().patched(patch, generation);
        match patch.head {
            Some((_, block)) => self.place(tenant, patched, block),
            None => {
                held.view.store(Arc::new(patched()));
                Ok(())
            }
        }
    }

    /// Forgets a tenant: its devices are refused from now on.
    pub fn gone(&self, tenant: TenantId) {
        self.change(|tenants| {
            tenants.remove(tenant);
            tenants.see(tenant, &[]);
        });
    }

    /// Lets the askers of a tenant see the names of other tenants too, by their whole names; not whose addresses are
    /// whose. What they saw of others before, they see no more. Lasts until the tenant is gone.
    pub fn see(&self, tenant: TenantId, also: &[TenantId]) {
        self.change(|tenants| tenants.see(tenant, also));
    }

    /// Networks of this machine's own guests, such as its containers: on a node with a single tenant they see what the
    /// machine sees. Each question from outside the mesh is compared with all of them.
    pub fn guests(&self, networks: impl IntoIterator<Item = IpNet>) {
        self.change(|tenants| tenants.set_guests(networks.into_iter().collect()));
    }

    /// Somebody else is asked where aliases lead out of the zones, from now on: such answers are [`Answer::Away`].
    pub fn hand_over_aliases(&self) {
        self.change(Tenants::hand_over_aliases);
    }

    /// Answers one query. The tenant is chosen by the source address alone: one inside its block, or, on a node with
    /// a single tenant, loopback and [`Self::guests`]. Everybody else is refused. Never panics, whatever the bytes.
    pub fn answer(&self, query: &[u8], source: IpAddr, transport: Transport) -> Answer {
        answer(self.tenants.load().sight(source), query, transport)
    }

    /// Answers the query in the first bytes of a buffer in its place, as [`Self::answer`] does over UDP to the last bit,
    /// or leaves it as it is. Takes no lock and no memory; most queries are answered here. The buffer must have room for
    /// [`crate::HOT_BUFFER_BYTES`].
    pub fn answer_in_place(&self, buffer: &mut [u8], length: usize, source: IpAddr) -> Hot {
        answer_in_place(self.tenants.load().sight(source), buffer, length)
    }

    /// What [`Self::answer`] says to a question of a type, and why.
    pub fn explain(&self, name: &Name, kind: u16, source: IpAddr) -> Explanation {
        explain(self.tenants.load().sight(source), name, kind)
    }

    pub(crate) fn tenants(&self) -> Guard<Arc<Tenants>> {
        self.tenants.load()
    }

    fn change(&self, change: impl FnOnce(&mut Tenants)) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tenants = Tenants::clone(&self.tenants.load());
        change(&mut tenants);
        self.tenants.store(Arc::new(tenants));
    }

    fn place(&self, tenant: TenantId, view: impl FnOnce() -> View, block: Block) -> Result<(), NamesError> {
        let mut tenants = Tenants::clone(&self.tenants.load());
        tenants.remove(tenant);
        if let Some(other) = tenants.overlapping(&block) {
            return Err(NamesError::BlockTaken { tenant, other });
        }
        tenants.insert(tenant, view());
        self.tenants.store(Arc::new(tenants));
        Ok(())
    }
}
