//! Every certificate that was signed: written, with its audit entry, before anybody gets it. Signs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use ca::KeyGeneration;
use control::AuditEntry;
use model::id::UserId;
use model::{CaKind, CertificateId, DeviceId, Epoch, SshSerial, TenantId, Timestamp};

use crate::audit::{self, AuditId};
use crate::dialect;
use crate::encoded::signed;
use crate::error::{Corrupt, DatabaseError, ReadError};
use crate::fields::Fields;
use crate::sql::{Row, Transaction, values};
use crate::store::Store;

/// Certificates of one list at most.
pub const CERTIFICATES_MAX: u32 = 10_000;

/// A certificate that was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateRow {
    /// Whose authority.
    pub tenant: TenantId,
    /// Which.
    pub kind: CaKind,
    /// Unique within the authority.
    pub serial: SshSerial,
    /// Which of the authority's keys signed.
    pub generation: KeyGeneration,
    /// What it is called.
    pub id: CertificateId,
    /// Of the key that is certified.
    pub fingerprint: String,
    /// Whom it names.
    pub principals: Vec<String>,
    /// The person that it is for; `None` for a host.
    pub user: Option<UserId>,
    /// The device that asked.
    pub device: DeviceId,
    /// When it was signed.
    pub issued_at: Timestamp,
    /// From when it is valid.
    pub valid_from: Timestamp,
    /// Until when it is valid.
    pub valid_until: Timestamp,
    /// When it was revoked, if it was.
    pub revoked_at: Option<Timestamp>,
}

/// Why a certificate was not recorded; nobody may get it then.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Meanwhile the device or the person was removed, or another key signs.
    #[error("the device, the person or the key is no longer what it was")]
    Withdrawn,
    /// The database did not do it.
    #[error("the database is unavailable")]
    Database(#[from] DatabaseError),
}

/// Which certificates are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificatesOf {
    /// All of an authority.
    Kind(CaKind),
    /// Those that a device asked for, of both authorities.
    Device(DeviceId),
    /// Those of a person.
    User(UserId),
}

impl Store {
    /// Takes so many serials for this process alone. What it does not use is never used.
    pub async fn reserve_serials(&self, count: u32) -> Result<(Epoch, Range<u64>), ReadError> {
        let mut transaction = self.database.write().await?;
        let sql = "UPDATE serials SET reserved = reserved + $1 WHERE id = 1 \
                   RETURNING reserved, (SELECT epoch FROM server WHERE id = 1) AS epoch";
        let row = transaction.optional(sql, values![count]).await?;
        let absent =
            || Corrupt { table: "serials", id: "1".into(), column: "reserved", why: "is not there".into() };
        let row = row.ok_or_else(absent)?;
        let fields = Fields::of_row("serials", "id", &row);
        let (end, epoch): (u64, u32) = (fields.number("reserved")?, fields.number("epoch")?);
        transaction.commit().await?;
        // 0 is no serial.
        Ok((Epoch(epoch), end - u64::from(count) + 1..end + 1))
    }

    /// Writes a certificate and its audit entry, if device, person and key are still what they were when it was signed.
    pub async fn record_certificate(
        &self,
        row: &CertificateRow,
        entry: &AuditEntry,
    ) -> Result<(), RecordError> {
        let mut transaction = self.database.write().await?;
        let sql = "UPDATE authorities SET recorded = recorded + 1 WHERE tenant_id = $1 AND kind = $2 AND signs = $3";
        let key = values![row.tenant.to_string(), row.kind.as_str(), row.generation.0];
        let signs = transaction.execute(sql, key).await? == 1;
        let device = values![row.device.to_string(), row.tenant.to_string()];
        let device = transaction.optional(dialect::HOLD_DEVICE, device).await?.is_some();
        let user = match row.user {
            Some(user) => {
                transaction.optional(dialect::HOLD_USER, values![user.to_string()]).await?.is_some()
            }
            None => true,
        };
        if !(signs && device && user) {
            return Err(RecordError::Withdrawn);
        }
        insert(&mut transaction, row).await?;
        audit::append(&mut transaction, AuditId::new(entry.at), entry).await?;
        Ok(transaction.commit().await?)
    }

    /// When the last certificate of each key ends that lives at this time, was not revoked and is needed: a host that shows
    /// one of another key needs those that it had before no more. Those that these devices asked for
    /// do not count.
    pub async fn certificates_until(
        &self,
        tenant: TenantId,
        kind: CaKind,
        now: Timestamp,
        except: &BTreeSet<DeviceId>,
    ) -> Result<BTreeMap<KeyGeneration, Timestamp>, ReadError> {
        let sql = "SELECT certificates.generation, certificates.device_id, MAX(valid_until) AS until FROM certificates \
                   JOIN authority_keys ON authority_keys.tenant_id = certificates.tenant_id \
                   AND authority_keys.kind = certificates.kind \
                   AND authority_keys.generation = certificates.generation \
                   LEFT JOIN ssh_installed ON ssh_installed.device_id = certificates.device_id \
                   WHERE certificates.tenant_id = $1 AND certificates.kind = $2 AND valid_until > $3 \
                   AND revoked_at IS NULL AND (certificates.kind = 'user' OR ssh_installed.presents IS NULL \
                   OR ssh_installed.presents = authority_keys.public_key) \
                   GROUP BY certificates.generation, certificates.device_id";
        let arguments = values![tenant.to_string(), kind.as_str(), now.unix_micros()];
        let rows = self.database.read().await?.all(sql, arguments).await?;
        let read = |row: &Row| {
            let fields = Fields::of_row("certificates", "generation", row);
            let of_key = (KeyGeneration(fields.number("generation")?), fields.time("until")?);
            Ok((fields.parsed::<DeviceId>("device_id")?, of_key))
        };
        let mut ends = BTreeMap::new();
        for (device, (key, until)) in rows.iter().map(read).collect::<Result<Vec<_>, Corrupt>>()? {
            if !except.contains(&device) {
                let end = ends.entry(key).or_insert(until);
                *end = until.max(*end);
            }
        }
        Ok(ends)
    }

    /// The certificate of this number.
    pub async fn certificate(
        &self,
        tenant: TenantId,
        kind: CaKind,
        serial: SshSerial,
    ) -> Result<Option<CertificateRow>, ReadError> {
        let sql = "SELECT * FROM certificates WHERE tenant_id = $1 AND kind = $2 AND serial = $3";
        let arguments = values![tenant.to_string(), kind.as_str(), signed(serial.number())];
        let row = self.database.read().await?.optional(sql, arguments).await?;
        Ok(row.as_ref().map(read).transpose()?)
    }

    /// How many certificates of this id live at this time and were not revoked.
    pub async fn living_of(
        &self,
        tenant: TenantId,
        kind: CaKind,
        id: &CertificateId,
        now: Timestamp,
    ) -> Result<u64, ReadError> {
        let sql = "SELECT COUNT(*) AS living FROM certificates WHERE tenant_id = $1 AND kind = $2 \
                   AND certificate_id = $3 AND valid_until > $4 AND revoked_at IS NULL";
        let arguments = values![tenant.to_string(), kind.as_str(), id.to_string(), now.unix_micros()];
        let row = self.database.read().await?.optional(sql, arguments).await?;
        let living = row.map(|row| Fields::of_row("certificates", "living", &row).number("living"));
        Ok(living.transpose()?.unwrap_or_default())
    }

    /// Certificates that live at this time and were not revoked, the newest first; at most [`CERTIFICATES_MAX`].
    pub async fn living_certificates(
        &self,
        tenant: TenantId,
        of: CertificatesOf,
        now: Timestamp,
    ) -> Result<Vec<CertificateRow>, ReadError> {
        let (kind, device, user) = match of {
            CertificatesOf::Kind(kind) => (Some(kind.as_str()), None, None),
            CertificatesOf::Device(device) => (None, Some(device.to_string()), None),
            CertificatesOf::User(user) => (None, None, Some(user.to_string())),
        };
        let sql = "SELECT * FROM certificates WHERE tenant_id = $1 AND valid_until > $2 AND revoked_at IS NULL \
                   AND ($3 IS NULL OR kind = $3) AND ($4 IS NULL OR device_id = $4) AND ($5 IS NULL OR user_id = $5) \
                   ORDER BY issued_at DESC, serial DESC LIMIT $6";
        let arguments = values![tenant.to_string(), now.unix_micros(), kind, device, user, CERTIFICATES_MAX];
        let rows = self.database.read().await?.all(sql, arguments).await?;
        Ok(rows.iter().map(read).collect::<Result<_, Corrupt>>()?)
    }
}

async fn insert(transaction: &mut Transaction, row: &CertificateRow) -> Result<(), DatabaseError> {
    let sql = "INSERT INTO certificates (tenant_id, kind, serial, generation, certificate_id, fingerprint, principals, \
               user_id, device_id, issued_at, valid_from, valid_until, revoked_at) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, NULL)";
    let arguments = values![
        row.tenant.to_string(),
        row.kind.as_str(),
        signed(row.serial.number()),
        row.generation.0,
        row.id.to_string(),
        row.fingerprint.as_str(),
        serde_json::Value::from(row.principals.clone()).to_string(),
        row.user.map(|user| user.to_string()),
        row.device.to_string(),
        row.issued_at.unix_micros(),
        row.valid_from.unix_micros(),
        row.valid_until.unix_micros(),
    ];
    transaction.execute(sql, arguments).await?;
    Ok(())
}

pub(crate) fn read(row: &Row) -> Result<CertificateRow, Corrupt> {
    let fields = Fields::of_row("certificates", "certificate_id", row);
    let serial = SshSerial::from_number(fields.number("serial")?);
    let principals = serde_json::from_str(&fields.text("principals")?);
    Ok(CertificateRow {
        tenant: fields.parsed("tenant_id")?,
        kind: fields.parsed("kind")?,
        serial: serial.ok_or_else(|| fields.corrupt("serial", "is no serial"))?,
        generation: KeyGeneration(fields.number("generation")?),
        id: fields.parsed("certificate_id")?,
        fingerprint: fields.text("fingerprint")?,
        principals: principals.map_err(|e| fields.corrupt("principals", e))?,
        user: fields.parsed_or_null("user_id")?,
        device: fields.parsed("device_id")?,
        issued_at: fields.time("issued_at")?,
        valid_from: fields.time("valid_from")?,
        valid_until: fields.time("valid_until")?,
        revoked_at: fields.time_or_null("revoked_at")?,
    })
}
