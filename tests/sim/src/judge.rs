//! The invariants, checked at every step. Watches; changes nothing and is asked by nobody but the world.

mod answers;
mod frames;
mod nodes;
mod pace;
mod rows;
mod secrets;

use std::collections::{BTreeMap, BTreeSet};

use model::key::Digest;
use model::{AnchorKey, Label, MeshAddresses, Mono, NodeId, PublicKey, TenantId, Version};

pub use nodes::{Applying, Removing};

/// An invariant that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Its name, which stays the same from run to run.
    pub invariant: &'static str,
    /// When, in virtual time.
    pub at: Mono,
    /// Who and what.
    pub detail: String,
}

/// A key that may not be a peer any more.
struct Retired {
    version: Version,
    addresses: Option<MeshAddresses>,
    name: Label,
}

/// What is known of the run so far, as far as the invariants need it.
#[derive(Default)]
pub struct Judge {
    verdict: Option<Violation>,
    /// The last version that the store took.
    stored: BTreeMap<TenantId, Version>,
    anchors: BTreeMap<TenantId, AnchorKey>,
    /// What each version of each node's snapshot was.
    digests: BTreeMap<(TenantId, NodeId, Version), Digest>,
    /// Since when a WireGuard key is an active device's.
    active: BTreeMap<(TenantId, PublicKey), Version>,
    /// Since when it is not any more.
    retired: BTreeMap<(TenantId, PublicKey), Retired>,
    hub_keys: BTreeMap<TenantId, BTreeSet<PublicKey>>,
    secrets: secrets::Secrets,
    paces: BTreeMap<String, pace::Pace>,
}

impl Judge {
    /// The first invariant that did not hold.
    pub const fn verdict(&self) -> Option<&Violation> {
        self.verdict.as_ref()
    }

    /// Notes that an invariant does not hold.
    pub fn accuse(&mut self, at: Mono, invariant: &'static str, detail: String) {
        if self.verdict.is_none() {
            self.verdict = Some(Violation { invariant, at, detail });
        }
    }

    fn expect(&mut self, holds: bool, at: Mono, invariant: &'static str, detail: impl FnOnce() -> String) {
        if !holds {
            self.accuse(at, invariant, detail());
        }
    }
}
