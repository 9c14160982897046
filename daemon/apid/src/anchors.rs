//! The tenants' anchors: sealed in the store, open in memory. Knows no directory.

use std::collections::BTreeMap;

use control::Loaded;
use model::{AnchorSecret, TenantId};

use crate::report;
use crate::seal::{SealError, Sealer};

/// Seals and opens anchors.
pub struct Anchors {
    sealer: Sealer,
}

impl Anchors {
    /// With the master key of the process.
    pub const fn new(sealer: Sealer) -> Self {
        Self { sealer }
    }

    /// Seals the anchor of a new tenant.
    pub fn seal(&self, tenant: TenantId, anchor: &AnchorSecret) -> Result<Vec<u8>, SealError> {
        self.sealer.seal(&purpose(tenant), &*anchor.expose_seed())
    }

    /// Opens one; `None`, and an error in the log, if it does not open.
    pub fn open(&self, tenant: TenantId, sealed: &[u8]) -> Option<AnchorSecret> {
        let opened = self.sealer.unseal(&purpose(tenant), sealed);
        let seed = opened.map_err(|error| {
            tracing::error!(%tenant, error = %report::chain(&error), "an anchor does not unseal");
        });
        <[u8; 32]>::try_from(seed.ok()?.as_slice()).ok().map(AnchorSecret::from_seed)
    }

    /// Opens all that do.
    pub fn open_all(&self, loaded: &Loaded) -> BTreeMap<TenantId, AnchorSecret> {
        let one = |rows: &control::TenantRows| {
            let id = rows.tenant.id;
            self.open(id, &rows.sealed_anchor).map(|anchor| (id, anchor))
        };
        loaded.tenants.iter().filter_map(one).collect()
    }
}

fn purpose(tenant: TenantId) -> String {
    format!("anchor {tenant}")
}
