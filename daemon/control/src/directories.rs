//! The directories of all tenants, and those that are withheld because their rows cannot be right, or their keys stay sealed.
//! Publishes nothing.

use std::collections::BTreeMap;

use model::relay::RelayPlace;
use model::{AnchorKey, AnchorSecret, Code, Fingerprint, Refusal, TenantId, Version};

use crate::directory::{BadRows, Directory};
use crate::rows::{Tenant, TenantRows};

enum Entry {
    Whole(Box<Directory>),
    /// Known to exist; nothing of it is served, so that its nodes stay as they are.
    Withheld(Tenant, Withheld),
}

/// Why nothing of a tenant is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Withheld {
    /// Its rows cannot be right.
    Rows,
    /// Nothing opens its anchor.
    Sealed,
}

impl Withheld {
    /// What whoever asks for the tenant is told.
    pub fn refusal(self) -> Refusal {
        match self {
            Self::Rows => Refusal::new(Code::StoreUnavailable, "the tenant's directory is withheld"),
            Self::Sealed => Refusal::new(
                Code::SignerSealed,
                "the server was started without what opens its keys, and serves no tenant",
            ),
        }
    }
}

/// Every tenant that the store has, deleted ones too.
#[derive(Default)]
pub(crate) struct Directories {
    entries: BTreeMap<TenantId, Entry>,
    by_anchor: BTreeMap<Fingerprint, TenantId>,
    relays: Vec<RelayPlace>,
}

impl Directories {
    /// None yet; all will announce these relays.
    pub(crate) fn new(relays: Vec<RelayPlace>) -> Self {
        Self { relays, ..Self::default() }
    }

    /// Takes the rows of a tenant. Rows that cannot be right replace no directory that is.
    pub(crate) fn insert(&mut self, rows: TenantRows, anchor: AnchorSecret) -> Result<(), BadRows> {
        let tenant = rows.tenant.clone();
        self.by_anchor.insert(tenant.anchor.fingerprint(), tenant.id);
        match Directory::new(rows, anchor) {
            Ok(mut directory) => {
                directory.set_relays(&self.relays);
                self.entries.insert(tenant.id, Entry::Whole(Box::new(directory)));
                Ok(())
            }
            Err(reason) => {
                self.entries.entry(tenant.id).or_insert(Entry::Withheld(tenant, Withheld::Rows));
                Err(reason)
            }
        }
    }

    /// Notes a tenant of which nothing can be served, as its anchor does not open.
    pub(crate) fn insert_withheld(&mut self, tenant: Tenant) {
        self.by_anchor.insert(tenant.anchor.fingerprint(), tenant.id);
        self.entries.entry(tenant.id).or_insert(Entry::Withheld(tenant, Withheld::Sealed));
    }

    /// Serves nothing of the tenant until its rows are read again.
    pub(crate) fn withhold(&mut self, id: TenantId) {
        if let Some(Entry::Whole(directory)) = self.entries.get(&id) {
            let tenant = directory.tenant().clone();
            self.entries.insert(id, Entry::Withheld(tenant, Withheld::Rows));
        }
    }

    /// Forgets a tenant that there is no more.
    pub(crate) fn remove(&mut self, id: TenantId) {
        self.entries.remove(&id);
        self.by_anchor.retain(|_, tenant| *tenant != id);
    }

    pub(crate) fn by_anchor(&self, fingerprint: &Fingerprint) -> Option<TenantId> {
        self.by_anchor.get(fingerprint).copied()
    }

    pub(crate) fn contains(&self, id: TenantId) -> bool {
        self.entries.contains_key(&id)
    }

    /// The tenant's directory, unless it is withheld.
    pub(crate) fn whole(&self, id: TenantId) -> Option<&Directory> {
        match self.entries.get(&id)? {
            Entry::Whole(directory) => Some(directory),
            Entry::Withheld(..) => None,
        }
    }

    pub(crate) fn whole_mut(&mut self, id: TenantId) -> Option<&mut Directory> {
        match self.entries.get_mut(&id)? {
            Entry::Whole(directory) => Some(directory),
            Entry::Withheld(..) => None,
        }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Directory> {
        self.entries.values().filter_map(|entry| match entry {
            Entry::Whole(directory) => Some(&**directory),
            Entry::Withheld(..) => None,
        })
    }

    pub(crate) fn tenants(&self) -> impl Iterator<Item = &Tenant> + Clone {
        self.entries.values().map(|entry| match entry {
            Entry::Whole(directory) => directory.tenant(),
            Entry::Withheld(tenant, _) => tenant,
        })
    }

    /// Tenants that wait for their rows to be read again.
    pub(crate) fn withheld(&self) -> impl Iterator<Item = (&Tenant, Withheld)> {
        self.entries.values().filter_map(|entry| match entry {
            Entry::Withheld(tenant, why) => Some((tenant, *why)),
            Entry::Whole(_) => None,
        })
    }

    /// Why nothing of a tenant that there is can be served; of one that is served, that it was not a moment ago.
    pub(crate) fn why_withheld(&self, id: TenantId) -> Refusal {
        let why = match self.entries.get(&id) {
            Some(Entry::Withheld(_, why)) => *why,
            Some(Entry::Whole(_)) | None => Withheld::Rows,
        };
        why.refusal()
    }

    pub(crate) fn version(&self, id: TenantId) -> Option<Version> {
        self.whole(id).map(Directory::version)
    }

    /// What a hub is told to carry: every tenant that is not deleted, and the deleted ones that it still holds.
    pub(crate) fn carried(&self, holds: impl Fn(TenantId) -> bool) -> Vec<(TenantId, AnchorKey)> {
        let carried = self.tenants().filter(|tenant| tenant.deleted_at.is_none() || holds(tenant.id));
        carried.map(|tenant| (tenant.id, tenant.anchor)).collect()
    }
}
