//! What a commit does to authorities beyond their rows: private keys come and go, certificates are marked as revoked.
//! Opens no seal.

use ca::{KeyGeneration, KeyName};
use control::{AuditEntry, Commit, NewKey, SshFact};
use model::{CaKind, Revoked, TenantId, Timestamp};

use crate::audit::{self, AuditId};
use crate::encoded::signed;
use crate::error::{DatabaseError, ReadError};
use crate::fields::Fields;
use crate::sql::{Transaction, values};
use crate::store::Store;

/// The secrets of a commit, sealed by the caller.
#[derive(Debug, Clone, Default)]
pub struct Sealed {
    /// The anchor of a new tenant.
    pub anchor: Option<Vec<u8>>,
    /// The commit's new keys, in its order.
    pub keys: Vec<Vec<u8>>,
}

impl Store {
    /// The private half of an authority's key, as it was sealed; `None` once it was erased.
    pub async fn sealed_key(
        &self,
        tenant: TenantId,
        kind: CaKind,
        generation: KeyGeneration,
    ) -> Result<Option<Vec<u8>>, ReadError> {
        let sql =
            "SELECT sealed FROM authority_secrets WHERE tenant_id = $1 AND kind = $2 AND generation = $3";
        let arguments = values![tenant.to_string(), kind.as_str(), generation.0];
        let row = self.database.read().await?.optional(sql, arguments).await?;
        let bytes = row.map(|row| Fields::of_row("authority_secrets", "kind", &row).bytes("sealed"));
        Ok(bytes.transpose()?)
    }
}

/// Keys that a server has back, sealed anew.
#[derive(Debug, Default)]
pub struct SealedBack {
    /// Anchors.
    pub anchors: Vec<(TenantId, Vec<u8>)>,
    /// Keys of SSH authorities.
    pub keys: Vec<(KeyName, Vec<u8>)>,
}

impl Store {
    /// Puts sealed keys in the place of what does not open.
    pub async fn put_back(&self, back: &SealedBack, entry: &AuditEntry) -> Result<(), DatabaseError> {
        let mut transaction = self.database.write().await?;
        for (tenant, sealed) in &back.anchors {
            let sql = "UPDATE directories SET sealed_anchor = $1 WHERE tenant_id = $2";
            transaction.execute(sql, values![&sealed[..], tenant.to_string()]).await?;
        }
        for (key, sealed) in &back.keys {
            let sql = "INSERT INTO authority_secrets (tenant_id, kind, generation, sealed) VALUES ($1, $2, $3, $4) \
                       ON CONFLICT (tenant_id, kind, generation) DO UPDATE SET sealed = excluded.sealed";
            let row = values![key.tenant.to_string(), key.kind.as_str(), key.generation.0, &sealed[..]];
            transaction.execute(sql, row).await?;
        }
        audit::append(&mut transaction, AuditId::new(entry.at), entry).await?;
        transaction.commit().await
    }
}

/// Stores the private halves of the commit's new keys, after their rows.
pub(crate) async fn keep_keys(
    transaction: &mut Transaction,
    commit: &Commit,
    sealed: &[Vec<u8>],
) -> Result<(), DatabaseError> {
    debug_assert_eq!(commit.new_keys.len(), sealed.len(), "every new key is sealed");
    let sql = "INSERT INTO authority_secrets (tenant_id, kind, generation, sealed) VALUES ($1, $2, $3, $4)";
    for (NewKey { kind, generation, .. }, sealed) in commit.new_keys.iter().zip(sealed) {
        let arguments = values![commit.tenant.to_string(), kind.as_str(), generation.0, sealed.as_slice()];
        transaction.execute(sql, arguments).await?;
    }
    Ok(())
}

/// What else is so once the fact is: an erased key is gone, revoked certificates count no longer, and those that are given back
/// count again.
pub(crate) async fn follow(
    transaction: &mut Transaction,
    tenant: TenantId,
    fact: &SshFact,
    at: Timestamp,
) -> Result<(), DatabaseError> {
    let tenant = tenant.to_string();
    match fact {
        SshFact::Key(key) if key.erased_at.is_some() => {
            let sql = "DELETE FROM authority_secrets WHERE tenant_id = $1 AND kind = $2 AND generation = $3";
            transaction.execute(sql, values![tenant, key.kind.as_str(), key.generation.0]).await?;
        }
        SshFact::Revocation(row) => {
            let (kind, at) = (row.kind.as_str(), row.revoked_at.unix_micros());
            let (sql, arguments) = match &row.what {
                Revoked::Serial(serial) => (
                    "UPDATE certificates SET revoked_at = $1 \
                     WHERE tenant_id = $2 AND kind = $3 AND serial = $4 AND revoked_at IS NULL",
                    values![at, tenant, kind, signed(serial.number())],
                ),
                Revoked::Id(id) => (
                    "UPDATE certificates SET revoked_at = $1 \
                     WHERE tenant_id = $2 AND kind = $3 AND certificate_id = $4 AND revoked_at IS NULL",
                    values![at, tenant, kind, id.to_string()],
                ),
            };
            transaction.execute(sql, arguments).await?;
        }
        SshFact::RevocationGone { kind, what } => {
            let (serial, id) = match what {
                Revoked::Serial(serial) => (Some(signed(serial.number())), None),
                Revoked::Id(id) => (None, Some(id.to_string())),
            };
            // Another row may name the same certificate.
            let sql = "UPDATE certificates SET revoked_at = NULL WHERE tenant_id = $1 AND kind = $2 \
                       AND (serial = $3 OR certificate_id = $4) AND valid_until > $5 \
                       AND NOT EXISTS (SELECT 1 FROM revocations WHERE revocations.tenant_id = $1 \
                       AND revocations.kind = $2 AND (what = 'serial:' || serial OR what = 'id:' || certificate_id))";
            let arguments = values![tenant, kind.as_str(), serial, id, at.unix_micros()];
            transaction.execute(sql, arguments).await?;
        }
        SshFact::Key(_)
        | SshFact::Authority(_)
        | SshFact::Role(_)
        | SshFact::RoleGone { .. }
        | SshFact::Administrators(_)
        | SshFact::HostKey { .. } => {}
    }
    Ok(())
}
