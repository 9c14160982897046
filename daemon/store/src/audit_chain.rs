//! The audit log as a chain of digests: which entry follows which, where it ends, what was forgotten of its beginning.
//!
//! ```text
//! append (with the change) ─▶ unchained ─ chain_audit, in order, one replica at a time ─▶ 1 ─▶ 2 ─▶ … ─▶ head, sealed
//!                                       forgotten: all up to a number, and of a class up to a time ◀─┘ audit_retention.rs
//! ```
//!
//! Entries are chained after their transaction, so that edits of different tenants do not wait for each other. Who
//! writes into the database without the sealing key can change no chained entry, cut neither end, and have none
//! forgotten before its time, unnoticed.

use model::{Digest, TenantId};

use crate::audit::{self, AUDIT_PAGE_MAX, AuditRow};
use crate::audit_head::{AuditEnds, AuditSeal, BATCH_MAX, ChainError, Head, read_ends};
use crate::audit_links::{self, Link, Place, is_there, links_after};
use crate::audit_retention;
use crate::encoded::signed;
use crate::error::{DatabaseError, ReadError};
use crate::fields::{Fields, digest_of};
use crate::sql::values;
use crate::store::Store;

/// What a look at the whole chain found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditVerdict {
    /// Both ends, as the database has them.
    pub ends: AuditEnds,
    /// Entries that were looked at.
    pub entries: u64,
    /// Numbers between them of which the entry was forgotten for its class and age.
    pub forgotten: u64,
    /// The first place where the chain does not hold, and why.
    pub broken: Option<(u64, &'static str)>,
}

impl Store {
    /// Numbers and chains some entries that are not yet, and returns how many. Fewer than [`BATCH_MAX`] were the last.
    pub async fn chain_audit(&self, seal: &dyn AuditSeal) -> Result<u32, ChainError> {
        let unchained = "SELECT * FROM audit WHERE sequence IS NULL ORDER BY at, id LIMIT $1";
        // A look that waits for nobody: most of the time there is nothing to do.
        if self.database.read().await?.all(unchained, values![1_i64]).await?.is_empty() {
            return Ok(0);
        }
        let mut transaction = self.database.write().await?;
        let mut head = Head::hold(&mut transaction, seal).await?;
        let ends = &mut head.ends;
        let rows = transaction.all(unchained, values![BATCH_MAX]).await?;
        for row in &rows {
            let AuditRow { id, entry, .. } = audit::row(row)?;
            ends.sequence += 1;
            let link = Link { at: entry.at, class: entry.class(), content: audit_links::content(row)? };
            ends.hash = link.hash(&ends.hash, ends.sequence);
            let sql = "UPDATE audit SET sequence = $1, hash = $2, class = $3, content = $4 WHERE id = $5";
            let arguments = values![
                signed(ends.sequence),
                &ends.hash.as_bytes()[..],
                link.class.as_str(),
                &link.content.as_bytes()[..],
                id.to_string(),
            ];
            transaction.execute(sql, arguments).await?;
        }
        head.save(&mut transaction, seal).await?;
        transaction.commit().await?;
        Ok(u32::try_from(rows.len()).unwrap_or(BATCH_MAX))
    }

    /// Chained entries after a number, of one tenant or of all, oldest first. `limit` is 1 to [`AUDIT_PAGE_MAX`].
    pub async fn audit_after(
        &self,
        tenant: Option<TenantId>,
        sequence: u64,
        limit: u32,
    ) -> Result<Vec<AuditRow>, ReadError> {
        let sql = "SELECT * FROM audit WHERE sequence > $1 AND ($2 IS NULL OR tenant_id = $2) \
                   ORDER BY sequence LIMIT $3";
        let limit = limit.clamp(1, AUDIT_PAGE_MAX);
        let arguments = values![signed(sequence), tenant.map(|t| t.to_string()), limit];
        let rows = self.database.read().await?.all(sql, arguments).await?;
        Ok(rows.iter().map(audit::row).collect::<Result<_, _>>()?)
    }

    /// The chain's digest at a number; `None` where that is not there any more, or not yet.
    pub async fn audit_digest(&self, sequence: u64) -> Result<Option<Digest>, ReadError> {
        let sql = "SELECT hash FROM audit WHERE sequence = $1 UNION ALL \
                   SELECT hash FROM audit_forgotten WHERE sequence = $1";
        let mut transaction = self.database.read().await?;
        if let Some(row) = transaction.all(sql, values![signed(sequence)]).await?.first() {
            return Ok(Some(digest_of(&Fields::of_row("audit", "sequence", row), "hash")?));
        }
        let ends = read_ends(&mut transaction).await?.0;
        Ok((sequence == ends.pruned_sequence).then_some(ends.pruned_hash))
    }

    /// Reads the whole chain again.
    pub async fn verify_audit(&self, seal: &dyn AuditSeal) -> Result<AuditVerdict, ReadError> {
        let mut transaction = self.database.read().await?;
        let Head { ends, fits, .. } = Head::read(&mut transaction, seal).await?;
        let forgotten = audit_retention::forgotten(&mut transaction, seal).await?;
        let mut place = Place { sequence: ends.pruned_sequence, hash: ends.pruned_hash };
        let mut verdict = AuditVerdict { ends, entries: 0, forgotten: 0, broken: None };
        loop {
            let rows = links_after(&mut transaction, place.sequence, BATCH_MAX).await?;
            if rows.is_empty() {
                break;
            }
            for row in &rows {
                place = match place.next(row, &forgotten) {
                    Ok(next) => next,
                    Err(broken) => return Ok(AuditVerdict { broken: Some(broken), ..verdict }),
                };
                *(if is_there(row) { &mut verdict.entries } else { &mut verdict.forgotten }) += 1;
            }
        }
        if (place.sequence, place.hash) != (ends.sequence, ends.hash) {
            verdict.broken = Some((place.sequence + 1, "the newest entries are missing"));
        } else if !fits {
            verdict.broken = Some((place.sequence, "the end is not what the server sealed"));
        }
        Ok(verdict)
    }

    /// Both ends, and whether they are what the server sealed; `None` before the first entry.
    pub async fn audit_ends(&self, seal: &dyn AuditSeal) -> Result<Option<(AuditEnds, bool)>, ReadError> {
        let Head { ends, sealed, fits } = Head::read(&mut self.database.read().await?, seal).await?;
        Ok((!sealed.is_empty()).then_some((ends, fits)))
    }

    /// How far a sink was told; from now on if it is new.
    pub async fn audit_sink(&self, name: &str) -> Result<u64, ReadError> {
        let known = "SELECT * FROM audit_sinks WHERE name = $1";
        let mut transaction = self.database.read().await?;
        if let Some(row) = transaction.optional(known, values![name]).await? {
            return Ok(Fields::of_row("audit_sinks", "name", &row).number("sequence")?);
        }
        drop(transaction);
        let mut transaction = self.database.write().await?;
        let sql = "INSERT INTO audit_sinks (name, sequence) \
                   SELECT $1, COALESCE((SELECT pruned_sequence FROM audit_head WHERE id = 1), 0) WHERE TRUE \
                   ON CONFLICT (name) DO NOTHING";
        transaction.execute(sql, values![name]).await?;
        let row = transaction.optional(known, values![name]).await?;
        transaction.commit().await?;
        let row = row.ok_or(sqlx::Error::RowNotFound).map_err(DatabaseError::from)?;
        Ok(Fields::of_row("audit_sinks", "name", &row).number("sequence")?)
    }

    /// A sink goes on from where it was under another name.
    pub async fn rename_audit_sink(&self, former: &str, name: &str) -> Result<(), DatabaseError> {
        let mut transaction = self.database.write().await?;
        let sql = "UPDATE audit_sinks SET name = $2 WHERE name = $1 \
                   AND NOT EXISTS (SELECT 1 FROM audit_sinks WHERE name = $2)";
        transaction.execute(sql, values![former, name]).await?;
        transaction.commit().await
    }

    /// A sink was told up to there; nothing happens if another replica told it meanwhile.
    pub async fn audit_told(&self, name: &str, before: u64, now: u64) -> Result<(), DatabaseError> {
        let mut transaction = self.database.write().await?;
        let sql = "UPDATE audit_sinks SET sequence = $1 WHERE name = $2 AND sequence = $3";
        transaction.execute(sql, values![signed(now), name, signed(before)]).await?;
        transaction.commit().await
    }
}
