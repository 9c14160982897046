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
use crate::audit_links::{Place, is_there, links_after};
use crate::encoded::signed;
use crate::error::{Corrupt, ReadError};
use crate::fields::Fields;
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
        loop {
            let batch = self.prune_oldest(kept.all, seal).await?;
            pruned += batch;
            if batch == 0 {
                return Ok(pruned);
            }
        }
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

    /// Forgets some links before the first entry that stays; returns how many. Each is looked at first: when an entry was
    /// written the database says, and who changes that must not have the rest done by us.
    async fn prune_oldest(&self, kept_from: Timestamp, seal: &dyn AuditSeal) -> Result<u64, ChainError> {
        let mut transaction = self.database.write().await?;
        let mut head = Head::hold(&mut transaction, seal).await?;
        let forgotten = forgotten(&mut transaction, seal).await?;
        let begin = Place { sequence: head.ends.pruned_sequence, hash: head.ends.pruned_hash };
        let (mut place, mut broken) = (begin, None);
        for row in &links_after(&mut transaction, begin.sequence, BATCH_MAX).await? {
            let at = Fields::of_row("audit", "id", row).time("at")?;
            if is_there(row) && at >= kept_from {
                break;
            }
            match place.next(row, &forgotten) {
                Ok(next) => place = next,
                Err((number, why)) => {
                    broken = Some(ChainError::Broken(number, why));
                    break;
                }
            }
        }
        if place == begin {
            return broken.map_or(Ok(0), Err);
        }
        (head.ends.pruned_sequence, head.ends.pruned_hash) = (place.sequence, place.hash);
        for forget in
            ["DELETE FROM audit WHERE sequence <= $1", "DELETE FROM audit_forgotten WHERE sequence <= $1"]
        {
            transaction.execute(forget, values![signed(place.sequence)]).await?;
        }
        head.save(&mut transaction, seal).await?;
        transaction.commit().await?;
        Ok(place.sequence - begin.sequence)
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
