//! What devices said of their sshd, and the certificates of who is gone. Not part of any directory; decides nothing.

use std::fmt::Display;
use std::str::FromStr;

use control::InstalledRow;
use model::{CaKey, TenantId, Timestamp};

use crate::certificates::{CertificateRow, read};
use crate::error::{Corrupt, DatabaseError, ReadError};
use crate::fields::Fields;
use crate::sql::{Row, values};
use crate::store::Store;

/// Certificates of one sweep: a commit takes as many, and the next sweep the rest.
const ORPHANS_MAX: u32 = 1_000;

impl Store {
    /// Keeps what devices said last. A device that the tenant does not have is passed over.
    pub async fn save_installed(&self, rows: &[InstalledRow]) -> Result<(), DatabaseError> {
        let sql = "INSERT INTO ssh_installed (device_id, tenant_id, people, hosts, presents, said_at) \
                   SELECT id, tenant_id, $3, $4, $5, $6 FROM devices WHERE id = $1 AND tenant_id = $2 \
                   ON CONFLICT (device_id) DO UPDATE SET people = excluded.people, hosts = excluded.hosts, \
                   presents = excluded.presents, said_at = excluded.said_at \
                   WHERE excluded.said_at >= ssh_installed.said_at";
        let mut transaction = self.database.write().await?;
        for row in rows {
            let arguments = values![
                row.device.to_string(),
                row.tenant.to_string(),
                row.people.as_deref().map(json),
                json(&row.hosts),
                row.presents.map(|key| key.to_string()),
                row.said_at.unix_micros(),
            ];
            transaction.execute(sql, arguments).await?;
        }
        transaction.commit().await
    }

    /// What the devices of a tenant said last.
    pub async fn installed(&self, tenant: TenantId) -> Result<Vec<InstalledRow>, ReadError> {
        let sql = "SELECT * FROM ssh_installed WHERE tenant_id = $1 ORDER BY device_id";
        let rows = self.database.read().await?.all(sql, values![tenant.to_string()]).await?;
        Ok(rows.iter().map(installed).collect::<Result<_, Corrupt>>()?)
    }

    /// Certificates that live and were not revoked though their device is, or their person was disabled or removed, or sees
    /// another tenant alone.
    pub async fn orphaned_certificates(&self, now: Timestamp) -> Result<Vec<CertificateRow>, ReadError> {
        let sql = "SELECT certificates.* FROM certificates JOIN devices ON devices.id = device_id \
                   JOIN tenants ON tenants.id = certificates.tenant_id AND tenants.deleted_at IS NULL \
                   LEFT JOIN users ON users.id = user_id \
                   WHERE valid_until > $1 AND certificates.revoked_at IS NULL AND (devices.revoked_at IS NOT NULL \
                   OR (certificates.kind = 'user' AND (users.id IS NULL OR users.disabled_at IS NOT NULL \
                   OR users.tenant_id <> certificates.tenant_id))) \
                   ORDER BY certificates.tenant_id, certificates.kind, serial LIMIT $2";
        let rows = self.database.read().await?.all(sql, values![now.unix_micros(), ORPHANS_MAX]).await?;
        Ok(rows.iter().map(read).collect::<Result<_, Corrupt>>()?)
    }
}

fn json(keys: &[CaKey]) -> String {
    serde_json::Value::from(keys.iter().map(ToString::to_string).collect::<Vec<_>>()).to_string()
}

fn installed(row: &Row) -> Result<InstalledRow, Corrupt> {
    let fields = Fields::of_row("ssh_installed", "device_id", row);
    let people = fields.text_or_null("people")?;
    Ok(InstalledRow {
        tenant: fields.parsed("tenant_id")?,
        device: fields.parsed("device_id")?,
        people: people.map(|text| list(&fields, "people", &text)).transpose()?,
        hosts: list(&fields, "hosts", &fields.text("hosts")?)?,
        presents: fields.parsed_or_null("presents")?,
        said_at: fields.time("said_at")?,
    })
}

/// What a column has as an array of texts.
pub(crate) fn list<T: FromStr<Err: Display>, C: FromIterator<T>>(
    fields: &Fields<'_>,
    column: &'static str,
    text: &str,
) -> Result<C, Corrupt> {
    let texts: Vec<String> = serde_json::from_str(text).map_err(|e| fields.corrupt(column, e))?;
    texts.iter().map(|text| text.parse().map_err(|e| fields.corrupt(column, e))).collect()
}
