//! What Magic DNS was told, and what to tell it next. Answers nothing.

use std::collections::BTreeMap;

use model::patch::ZonePatch;
use model::{Held, MeshAddresses, Snapshot, Standing, TenantId};

use crate::output::NamesUpdate;

/// The tenants whose names are served, and where.
#[derive(Debug, Default)]
pub(crate) struct Names {
    served: BTreeMap<TenantId, MeshAddresses>,
}

impl Names {
    /// Serves a tenant's names as the snapshot has them, or not at all where the node takes no part.
    pub(crate) fn whole(&mut self, tenant: TenantId, held: Held, snapshot: &Snapshot) -> Option<NamesUpdate> {
        let own = &snapshot.own;
        let Some(listen) = own.addresses.filter(|_| own.standing == Standing::Active) else {
            return self.gone(tenant);
        };
        self.served.insert(tenant, listen);
        let (generation, zone) = (held.version.generation, snapshot.zone.clone());
        Some(NamesUpdate::Whole { tenant, generation, zone, listen })
    }

    /// Serves what changed, where the tenant is served.
    pub(crate) fn patch(&self, tenant: TenantId, held: Held, patch: ZonePatch) -> Option<NamesUpdate> {
        let generation = held.version.generation;
        self.served.contains_key(&tenant).then_some(NamesUpdate::Patch { tenant, generation, patch })
    }

    /// Serves a tenant no more.
    pub(crate) fn gone(&mut self, tenant: TenantId) -> Option<NamesUpdate> {
        self.served.remove(&tenant).map(|_| NamesUpdate::Gone { tenant })
    }

    /// Serves nobody any more.
    pub(crate) fn all_gone(&mut self) -> impl Iterator<Item = NamesUpdate> {
        std::mem::take(&mut self.served).into_keys().map(|tenant| NamesUpdate::Gone { tenant })
    }
}
