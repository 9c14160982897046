//! The tenants' keys, people's second factors, the ends of the audit log: sealed in the store, open in memory. Knows no directory and signs nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use ca::{CaSecret, KeyName};
use control::{Commit, Loaded, NewKey};
use model::id::UserId;
use model::{AnchorSecret, CheckpointSecret, TenantId};
use store::{AuditSeal, KeyedRequest, Sealed};
use zeroize::Zeroizing;

use crate::report;
use crate::seal::{SealError, Sealer};
use crate::second_factor::SECRET_BYTES;

/// Seals and opens anchors and the keys of SSH authorities. Clones share the master key.
#[derive(Clone)]
pub struct Keys {
    sealer: Arc<Sealer>,
}

impl Keys {
    /// With the master key of the process.
    pub fn new(sealer: Sealer) -> Self {
        Self { sealer: Arc::new(sealer) }
    }

    /// Seals what a commit makes.
    pub fn seal(&self, commit: &Commit) -> Result<Sealed, SealError> {
        let anchor = commit.new_anchor.as_ref();
        let anchor = anchor.map(|anchor| self.seal_anchor(commit.tenant, anchor));
        let key = |NewKey { kind, generation, secret }: &NewKey| {
            let key = KeyName { tenant: commit.tenant, kind: *kind, generation: *generation };
            self.seal_authority(key, secret)
        };
        Ok(Sealed {
            anchor: anchor.transpose()?,
            keys: commit.new_keys.iter().map(key).collect::<Result<_, _>>()?,
        })
    }

    /// Opens an anchor; `None`, and an error in the log, if it does not open.
    pub fn open_anchor(&self, tenant: TenantId, sealed: &[u8]) -> Option<AnchorSecret> {
        let seed = self.open(&of_anchor(tenant), sealed).map_err(|error| {
            tracing::error!(%tenant, error = %report::chain(&error), "an anchor does not unseal");
        });
        Some(AnchorSecret::from_seed(seed.ok()?))
    }

    /// Whether there is a master key.
    pub fn check(&self) -> Result<(), SealError> {
        self.sealer.expose_master().map(drop)
    }

    /// The master key, for a backup.
    pub fn expose_master(&self) -> Result<Zeroizing<Vec<u8>>, SealError> {
        Ok(Zeroizing::new(self.sealer.expose_master()?.to_vec()))
    }

    /// Whether a master key opens this anchor.
    pub fn fits(sealer: &Sealer, tenant: TenantId, sealed: &[u8]) -> bool {
        sealer.unseal(&of_anchor(tenant), sealed).is_ok()
    }

    /// Opens all anchors that do.
    pub fn open_anchors(&self, loaded: &Loaded) -> BTreeMap<TenantId, AnchorSecret> {
        let one = |rows: &control::TenantRows| {
            let id = rows.tenant.id;
            self.open_anchor(id, &rows.sealed_anchor).map(|anchor| (id, anchor))
        };
        loaded.tenants.iter().filter_map(one).collect()
    }

    /// Seals an anchor anew.
    pub fn seal_anchor(&self, tenant: TenantId, anchor: &AnchorSecret) -> Result<Vec<u8>, SealError> {
        self.sealer.seal(&of_anchor(tenant), &*anchor.expose_seed())
    }

    /// Seals the key of an SSH authority anew.
    pub fn seal_authority(&self, key: KeyName, secret: &CaSecret) -> Result<Vec<u8>, SealError> {
        self.sealer.seal(&of_authority(key), &*secret.expose_seed())
    }

    /// Opens the key of an SSH authority.
    pub fn open_authority(&self, key: KeyName, sealed: &[u8]) -> Result<CaSecret, SealError> {
        self.open(&of_authority(key), sealed).map(CaSecret::from_seed)
    }

    /// Seals the shared secret of a person's second factor.
    pub fn seal_factor(&self, user: UserId, secret: &[u8; SECRET_BYTES]) -> Result<Vec<u8>, SealError> {
        self.sealer.seal(&of_factor(user), secret)
    }

    /// Opens it.
    pub fn open_factor(
        &self,
        user: UserId,
        sealed: &[u8],
    ) -> Result<Zeroizing<[u8; SECRET_BYTES]>, SealError> {
        let purpose = of_factor(user);
        let plain = self.sealer.unseal(&purpose, sealed)?;
        plain.as_slice().try_into().map(Zeroizing::new).map_err(|_| SealError::Wrong(purpose))
    }

    /// Seals what was asked, or answered, under a key of the sender's.
    pub fn seal_keyed(
        &self,
        part: KeyedPart,
        request: &KeyedRequest,
        plain: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        self.sealer.seal(&of_keyed(part, request), plain)
    }

    /// Opens it.
    pub fn open_keyed(
        &self,
        part: KeyedPart,
        request: &KeyedRequest,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        self.sealer.unseal(&of_keyed(part, request), sealed)
    }

    /// What the audit log's checkpoints are signed with.
    pub fn checkpoint_secret(&self) -> Result<CheckpointSecret, SealError> {
        Ok(CheckpointSecret::from_seed(*self.sealer.derive(OF_CHECKPOINTS)?))
    }

    fn open(&self, purpose: &str, sealed: &[u8]) -> Result<[u8; 32], SealError> {
        let plain = self.sealer.unseal(purpose, sealed)?;
        plain.as_slice().try_into().map_err(|_| SealError::Wrong(purpose.into()))
    }
}

/// What of a request is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyedPart {
    /// A digest of the question.
    Asked,
    /// The answer.
    Answer,
}

/// What the ends of the audit log, and what it forgot, are sealed for.
const OF_AUDIT: &str = "audit ends";
/// What the key of its checkpoints is derived for; nothing is sealed with that one.
const OF_CHECKPOINTS: &str = "audit checkpoints";

impl AuditSeal for Keys {
    fn seal(&self, what: &[u8]) -> Result<Vec<u8>, String> {
        self.sealer.seal(OF_AUDIT, what).map_err(|error| report::chain(&error))
    }

    fn fits(&self, what: &[u8], sealed: &[u8]) -> bool {
        self.sealer.unseal(OF_AUDIT, sealed).is_ok_and(|plain| plain.as_slice() == what)
    }
}

fn of_anchor(tenant: TenantId) -> String {
    format!("anchor {tenant}")
}

fn of_keyed(part: KeyedPart, KeyedRequest { holder, key }: &KeyedRequest) -> String {
    format!("{part:?} {holder} {key}")
}

fn of_factor(user: UserId) -> String {
    format!("second factor {user}")
}

fn of_authority(key: KeyName) -> String {
    format!("ssh authority {key}")
}
