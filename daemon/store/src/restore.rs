//! What a restored database must forget, and the epoch that tells every node that it was restored.

use control::AuditEntry;
use model::Epoch;

use crate::audit::{self, AuditId};
use crate::encoded::signed;
use crate::error::{DatabaseError, ReadError};
use crate::fields::Fields;
use crate::sql::{Transaction, values};
use crate::store::Store;

/// What the new epoch must be beyond.
#[derive(Debug, Clone, Copy, Default)]
pub struct After {
    /// The epoch is at least this one: another database may have been restored from the same backup before.
    pub epoch_least: Epoch,
    /// Serials of certificates are counted from here on, so that they are none of theirs even if the epoch was.
    pub serials_from: u64,
}

impl Store {
    /// Raises the epoch after a restore: tokens of both kinds are revoked, as uses and revocations since the backup
    /// are forgotten; sessions end; the change log is of another history. Returns the new epoch.
    pub async fn raise_epoch(&self, after: &After, entry: &AuditEntry) -> Result<Epoch, ReadError> {
        let mut transaction = self.database.write().await?;
        let epoch = raise(&mut transaction, after, entry).await?;
        transaction.commit().await?;
        Ok(epoch)
    }
}

/// The same within a transaction.
pub(crate) async fn raise(
    transaction: &mut Transaction,
    after: &After,
    entry: &AuditEntry,
) -> Result<Epoch, ReadError> {
    let at = entry.at.unix_micros();
    for sql in [
        "UPDATE tokens SET revoked_at = $1 WHERE revoked_at IS NULL",
        "UPDATE api_tokens SET revoked_at = $1 WHERE revoked_at IS NULL",
    ] {
        transaction.execute(sql, values![at]).await?;
    }
    for sql in ["DELETE FROM sessions", "DELETE FROM changes", "DELETE FROM setup"] {
        transaction.execute(sql, vec![]).await?;
    }
    let sql = "UPDATE server SET epoch = CASE WHEN epoch < $1 THEN $1 ELSE epoch + 1 END \
               WHERE id = 1 RETURNING epoch";
    let row = transaction.optional(sql, values![after.epoch_least.0]).await?.ok_or(sqlx::Error::RowNotFound);
    let row = row.map_err(DatabaseError::from)?;
    let epoch = Epoch(Fields::of_row("server", "epoch", &row).number("epoch")?);
    let sql = "UPDATE serials SET reserved = $1 WHERE id = 1 AND reserved < $1";
    transaction.execute(sql, values![signed(after.serials_from)]).await?;
    // Terms that began since the backup are forgotten, and a hub believes none that is lower. A lease that was never kept
    // here is kept elsewhere, with terms of its own.
    let sql = "UPDATE lease SET term = CASE WHEN term < $1 THEN $1 ELSE term + 1 END, holder = '', \
               expires_at = 1 WHERE id = 1 AND expires_at > 0";
    transaction.execute(sql, values![i64::from(epoch.0) << 32]).await?;
    audit::append(transaction, AuditId::new(entry.at), entry).await?;
    Ok(epoch)
}
