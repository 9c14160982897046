//! What a restored database must forget, and the epoch that tells every node that it was restored.

use control::AuditEntry;
use model::Epoch;

use crate::audit::{self, AuditId};
use crate::error::{DatabaseError, ReadError};
use crate::fields::Fields;
use crate::sql::values;
use crate::store::Store;

impl Store {
    /// Raises the epoch after a restore: tokens of both kinds are revoked, as uses and revocations since the backup
    /// are forgotten; sessions end; the change log is of another history. Returns the new epoch.
    pub async fn raise_epoch(&self, entry: &AuditEntry) -> Result<Epoch, ReadError> {
        let at = entry.at.unix_micros();
        let mut transaction = self.database.write().await?;
        for sql in [
            "UPDATE tokens SET revoked_at = $1 WHERE revoked_at IS NULL",
            "UPDATE api_tokens SET revoked_at = $1 WHERE revoked_at IS NULL",
        ] {
            transaction.execute(sql, values![at]).await?;
        }
        for sql in ["DELETE FROM sessions", "DELETE FROM changes", "DELETE FROM setup"] {
            transaction.execute(sql, vec![]).await?;
        }
        let sql = "UPDATE server SET epoch = epoch + 1 WHERE id = 1 RETURNING epoch";
        let row = transaction.optional(sql, vec![]).await?.ok_or(sqlx::Error::RowNotFound);
        let row = row.map_err(DatabaseError::from)?;
        let epoch = Epoch(Fields::of_row("server", "epoch", &row).number("epoch")?);
        audit::append(&mut transaction, AuditId::new(entry.at), entry).await?;
        transaction.commit().await?;
        Ok(epoch)
    }
}
