//! What the audit log forgets: entries that are too old, and of some classes those that are too old for theirs.
//!
//! ```text
//! 1 2 3 4 5 6 7 8 9      all before the first that stays go wholly: the chain begins behind them
//! ∙ ∙ ∙ 4 · 6 · · 9      of others that go, what the chain needs stays: when, which class, two digests
//! ```

use std::collections::BTreeMap;

use control::AuditClass;
use model::Timestamp;

use crate::audit_head::{AuditSeal, BATCH_MAX, ChainError, Head};
use crate::encoded::signed;
use crate::error::{Corrupt, ReadError};
use crate::fields::{Fields, digest_of};
use crate::sql::{Transaction, values};
use crate::store::Store;

/// From when on entries stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRetention {
    /// All of them.
    pub all: Timestamp,
    /// Those of a class, where that is later.
    pub classes: BTreeMap<AuditClass, Timestamp>,
}

impl Store {
    /// Forgets chained entries that are too old; returns how many.
    pub async fn prune_audit(&self, kept: &AuditRetention, seal: &dyn AuditSeal) -> Result<u64, ChainError> {
        let mut pruned = 0;
        for (class, from) in kept.classes.iter().filter(|(_, from)| **from > kept.all) {
            loop {
                let batch = self.prune_class(*class, *from, seal).await?;
                pruned += batch;
                if batch < u64::from(BATCH_MAX) {
                    break;
                }
            }
        }
        Ok(pruned + self.prune_oldest(kept.all, seal).await?)
    }

    /// Forgets some entries of one class from before then, and keeps what the chain needs of them.
    async fn prune_class(
        &self,
        class: AuditClass,
        before: Timestamp,
        seal: &dyn AuditSeal,
    ) -> Result<u64, ChainError> {
        let mut transaction = self.database.write().await?;
        Head::hold(&mut transaction, seal).await?;
        let last = "SELECT MAX(sequence) AS sequence FROM (SELECT sequence FROM audit WHERE class = $1 AND at < $2 \
                    ORDER BY sequence LIMIT $3) AS oldest";
        let (name, before_at) = (class.as_str(), before.unix_micros());
        let last = transaction.optional(last, values![name, before_at, BATCH_MAX]).await?;
        let last =
            last.map(|row| Fields::of_row("audit", "sequence", &row).number_or_null::<i64>("sequence"));
        let Some(last) = last.transpose()?.flatten() else { return Ok(0) };
        let keep = "INSERT INTO audit_forgotten (sequence, at, class, content, hash) \
                    SELECT sequence, at, class, content, hash FROM audit WHERE class = $1 AND at < $2 AND sequence <= $3";
        transaction.execute(keep, values![name, before_at, last]).await?;
        let forget = "DELETE FROM audit WHERE class = $1 AND at < $2 AND sequence <= $3";
        let gone = transaction.execute(forget, values![name, before_at, last]).await?;
        let known = forgotten(&mut transaction, seal).await?.get(&class).copied();
        let until = known.map_or(before, |known| known.max(before));
        let sealed = seal.seal(&what_is_sealed(class, until)).map_err(ChainError::Seal)?;
        let sql = "INSERT INTO audit_classes (class, forgotten_until, sealed) VALUES ($1, $2, $3) ON CONFLICT (class) \
                   DO UPDATE SET forgotten_until = excluded.forgotten_until, sealed = excluded.sealed";
        transaction.execute(sql, values![name, until.unix_micros(), sealed.as_slice()]).await?;
        transaction.commit().await?;
        Ok(gone)
    }

    /// Forgets everything up to the first entry that stays.
    async fn prune_oldest(&self, kept_from: Timestamp, seal: &dyn AuditSeal) -> Result<u64, ChainError> {
        let mut transaction = self.database.write().await?;
        let mut head = Head::hold(&mut transaction, seal).await?;
        let ends = &mut head.ends;
        let first = "SELECT MIN(sequence) AS sequence FROM audit WHERE at >= $1 AND sequence IS NOT NULL";
        let first = transaction.optional(first, values![kept_from.unix_micros()]).await?;
        let first =
            first.map(|row| Fields::of_row("audit", "sequence", &row).number_or_null::<i64>("sequence"));
        let first = first.transpose()?.flatten().unwrap_or_else(|| signed(ends.sequence + 1));
        let last = "SELECT sequence, hash FROM audit WHERE sequence < $1 UNION ALL \
                    SELECT sequence, hash FROM audit_forgotten WHERE sequence < $1 ORDER BY sequence DESC LIMIT 1";
        let Some(last) = transaction.optional(last, values![first]).await? else { return Ok(0) };
        let fields = Fields::of_row("audit", "sequence", &last);
        ends.pruned_sequence = fields.number("sequence")?;
        ends.pruned_hash = digest_of(&fields, "hash")?;
        let pruned = transaction.execute("DELETE FROM audit WHERE sequence < $1", values![first]).await?;
        transaction.execute("DELETE FROM audit_forgotten WHERE sequence < $1", values![first]).await?;
        head.save(&mut transaction, seal).await?;
        transaction.commit().await?;
        Ok(pruned)
    }
}

/// Until when entries are forgotten, by class, as far as the server sealed it.
pub(crate) async fn forgotten(
    transaction: &mut Transaction,
    seal: &dyn AuditSeal,
) -> Result<BTreeMap<AuditClass, Timestamp>, ReadError> {
    let rows = transaction.all("SELECT * FROM audit_classes", vec![]).await?;
    let mut known = BTreeMap::new();
    for row in &rows {
        let fields = Fields::of_row("audit_classes", "class", row);
        let read = || -> Result<_, Corrupt> {
            Ok((fields.parsed("class")?, fields.time("forgotten_until")?, fields.bytes("sealed")?))
        };
        let (class, until, sealed) = read()?;
        if seal.fits(&what_is_sealed(class, until), &sealed) {
            known.insert(class, until);
        }
    }
    Ok(known)
}

fn what_is_sealed(class: AuditClass, until: Timestamp) -> Vec<u8> {
    [format!("forgotten {} ", class.as_str()).as_bytes(), &until.unix_micros().to_be_bytes()].concat()
}
