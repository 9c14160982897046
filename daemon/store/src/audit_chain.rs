//! The audit log as a chain of digests: which entry follows which, where it ends, what was forgotten of its beginning.
//!
//! ```text
//! append (with the change) ─▶ unchained ─ chain_audit, in order, one replica at a time ─▶ 1 ─▶ 2 ─▶ … ─▶ head, sealed
//!                                                                     forgotten ◀─ prune ─┘
//! ```
//!
//! Entries are chained after their transaction, so that edits of different tenants do not wait for each other. Who
//! writes into the database without the sealing key can change no chained entry, and cut neither end, unnoticed.

use model::{Digest, TenantId, Timestamp};

use crate::audit::{self, AUDIT_PAGE_MAX, AuditRow};
use crate::dialect;
use crate::encoded::signed;
use crate::error::{Corrupt, DatabaseError, ReadError};
use crate::fields::{Fields, digest_of};
use crate::sql::{Row, Transaction, values};
use crate::store::Store;

/// Entries of one transaction: SQLite's one writer is free again in some tens of milliseconds.
const BATCH_MAX: u32 = 500;

/// Both ends of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditEnds {
    /// Number of the newest entry; 0 before the first.
    pub sequence: u64,
    /// The chain's digest there.
    pub hash: Digest,
    /// Number of the newest entry that was forgotten.
    pub pruned_sequence: u64,
    /// The chain's digest there.
    pub pruned_hash: Digest,
}

impl AuditEnds {
    const fn new() -> Self {
        let hash = Digest::from_bytes([0; 32]);
        Self { sequence: 0, hash, pruned_sequence: 0, pruned_hash: hash }
    }

    /// What is sealed.
    pub fn to_bytes(&self) -> Vec<u8> {
        let parts: [&[u8]; 4] = [
            &self.sequence.to_be_bytes(),
            self.hash.as_bytes(),
            &self.pruned_sequence.to_be_bytes(),
            self.pruned_hash.as_bytes(),
        ];
        parts.concat()
    }
}

/// What seals the ends, and says whether a seal is of these ends.
pub trait AuditSeal: Send + Sync {
    /// Seals.
    fn seal(&self, ends: &AuditEnds) -> Result<Vec<u8>, String>;
    /// Whether it was sealed so.
    fn fits(&self, ends: &AuditEnds, sealed: &[u8]) -> bool;
}

/// What a look at the whole chain found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditVerdict {
    /// Both ends, as the database has them.
    pub ends: AuditEnds,
    /// Entries that were looked at.
    pub entries: u64,
    /// The first place where the chain does not hold, and why.
    pub broken: Option<(u64, &'static str)>,
}

/// Why the chain did not go on.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// The database.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The seal.
    #[error("the chain's end cannot be sealed: {0}")]
    Seal(String),
}

impl From<DatabaseError> for ChainError {
    fn from(error: DatabaseError) -> Self {
        Self::Read(error.into())
    }
}

impl From<Corrupt> for ChainError {
    fn from(error: Corrupt) -> Self {
        Self::Read(error.into())
    }
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
        let mut ends = held_ends(&mut transaction).await?.0;
        let rows = transaction.all(unchained, values![BATCH_MAX]).await?;
        for row in &rows {
            let id = audit::row(row)?.id;
            ends.sequence += 1;
            ends.hash = next_hash(&ends.hash, ends.sequence, row, Covered::of(row)?)?;
            let sql = "UPDATE audit SET sequence = $1, hash = $2 WHERE id = $3";
            let arguments = values![signed(ends.sequence), &ends.hash.as_bytes()[..], id.to_string()];
            transaction.execute(sql, arguments).await?;
        }
        save_ends(&mut transaction, &ends, seal).await?;
        transaction.commit().await?;
        Ok(u32::try_from(rows.len()).unwrap_or(BATCH_MAX))
    }

    /// Forgets chained entries from the oldest on, up to the first that is not older than that; returns how many.
    pub async fn prune_audit(&self, older_than: Timestamp, seal: &dyn AuditSeal) -> Result<u64, ChainError> {
        let mut transaction = self.database.write().await?;
        let mut ends = held_ends(&mut transaction).await?.0;
        let sql = "SELECT sequence, hash FROM audit WHERE sequence < \
                   (SELECT COALESCE(MIN(sequence), $2) FROM audit WHERE at >= $1 AND sequence IS NOT NULL) \
                   ORDER BY sequence DESC LIMIT 1";
        let after_all = signed(ends.sequence + 1);
        let last = transaction.optional(sql, values![older_than.unix_micros(), after_all]).await?;
        let Some(last) = last else { return Ok(0) };
        let fields = Fields::of_row("audit", "sequence", &last);
        ends.pruned_sequence = fields.number("sequence")?;
        ends.pruned_hash = digest_of(&fields, "hash")?;
        let sql = "DELETE FROM audit WHERE sequence <= $1";
        let pruned = transaction.execute(sql, values![signed(ends.pruned_sequence)]).await?;
        save_ends(&mut transaction, &ends, seal).await?;
        transaction.commit().await?;
        Ok(pruned)
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

    /// Reads the whole chain again.
    pub async fn verify_audit(&self, seal: &dyn AuditSeal) -> Result<AuditVerdict, ReadError> {
        let mut transaction = self.database.read().await?;
        let (ends, sealed) = read_ends(&mut transaction).await?;
        let mut verdict = AuditVerdict { ends, entries: 0, broken: None };
        let (mut at, mut hash) = (ends.pruned_sequence, ends.pruned_hash);
        loop {
            let rows = after(&mut transaction, at, BATCH_MAX).await?;
            for row in &rows {
                verdict.entries += 1;
                let fields = Fields::of_row("audit", "id", row);
                let sequence = fields.number("sequence")?;
                // An entry that does not even read was not written so.
                let kept = digest_of(&fields, "hash");
                let next = Covered::of(row).and_then(|covered| next_hash(&hash, sequence, row, covered));
                let links = next.is_ok_and(|next| kept.as_ref().is_ok_and(|kept| *kept == next));
                hash = kept.unwrap_or(hash);
                verdict.broken = if sequence != at + 1 {
                    Some((at + 1, "an entry is missing"))
                } else if !links {
                    Some((sequence, "an entry is not as it was written"))
                } else {
                    None
                };
                if verdict.broken.is_some() {
                    return Ok(verdict);
                }
                at = sequence;
            }
            if rows.is_empty() {
                break;
            }
        }
        let empty = ends == AuditEnds::new() && sealed.is_empty();
        if (at, hash) != (ends.sequence, ends.hash) {
            verdict.broken = Some((at + 1, "the newest entries are missing"));
        } else if !empty && !seal.fits(&ends, &sealed) {
            verdict.broken = Some((at, "the end is not what the server sealed"));
        }
        Ok(verdict)
    }

    /// Both ends, and whether they are what the server sealed; `None` before the first entry.
    pub async fn audit_ends(&self, seal: &dyn AuditSeal) -> Result<Option<(AuditEnds, bool)>, ReadError> {
        let (ends, sealed) = read_ends(&mut self.database.read().await?).await?;
        Ok((!sealed.is_empty()).then(|| (ends, seal.fits(&ends, &sealed))))
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

async fn after(transaction: &mut Transaction, sequence: u64, limit: u32) -> Result<Vec<Row>, DatabaseError> {
    let sql = "SELECT * FROM audit WHERE sequence > $1 ORDER BY sequence LIMIT $2";
    transaction.all(sql, values![signed(sequence), limit]).await
}

/// The ends, for whoever goes on: others wait until it is done.
async fn held_ends(transaction: &mut Transaction) -> Result<(AuditEnds, Vec<u8>), ReadError> {
    transaction.all(dialect::LOCK_SERVER, vec![]).await?;
    read_ends(transaction).await
}

async fn read_ends(transaction: &mut Transaction) -> Result<(AuditEnds, Vec<u8>), ReadError> {
    let row = transaction.optional("SELECT * FROM audit_head WHERE id = 1", vec![]).await?;
    let Some(row) = row else { return Ok((AuditEnds::new(), Vec::new())) };
    let fields = Fields::of_row("audit_head", "sequence", &row);
    let ends = AuditEnds {
        sequence: fields.number("sequence")?,
        hash: digest_of(&fields, "hash")?,
        pruned_sequence: fields.number("pruned_sequence")?,
        pruned_hash: digest_of(&fields, "pruned_hash")?,
    };
    Ok((ends, fields.bytes("sealed")?))
}

async fn save_ends(
    transaction: &mut Transaction,
    ends: &AuditEnds,
    seal: &dyn AuditSeal,
) -> Result<(), ChainError> {
    let sealed = seal.seal(ends).map_err(ChainError::Seal)?;
    let sql = "INSERT INTO audit_head (id, sequence, hash, pruned_sequence, pruned_hash, sealed) \
               VALUES (1, $1, $2, $3, $4, $5) ON CONFLICT (id) DO UPDATE SET sequence = excluded.sequence, \
               hash = excluded.hash, pruned_sequence = excluded.pruned_sequence, \
               pruned_hash = excluded.pruned_hash, sealed = excluded.sealed";
    let arguments = values![
        signed(ends.sequence),
        &ends.hash.as_bytes()[..],
        signed(ends.pruned_sequence),
        &ends.pruned_hash.as_bytes()[..],
        sealed.as_slice(),
    ];
    transaction.execute(sql, arguments).await?;
    Ok(())
}

/// Which columns a digest is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Covered {
    /// All, of an entry that says where it came from.
    Traced,
    /// Those of before there was such a thing: of every other entry.
    Plain,
}

impl Covered {
    fn of(row: &Row) -> Result<Self, Corrupt> {
        let fields = Fields::of_row("audit", "id", row);
        let traced = fields.text_or_null("source")?.is_some() || fields.text_or_null("request")?.is_some();
        Ok(if traced { Self::Traced } else { Self::Plain })
    }

    const fn domain(self) -> &'static str {
        match self {
            Self::Traced => "warren audit 2",
            Self::Plain => "warren audit 1",
        }
    }

    fn columns(self) -> impl Iterator<Item = &'static str> {
        let traced: &'static [&'static str] = match self {
            Self::Traced => &["source", "request"],
            Self::Plain => &[],
        };
        ["id", "tenant_id", "actor", "action", "target", "refused", "detail"]
            .into_iter()
            .chain(traced.iter().copied())
    }
}

/// The chain's digest at an entry: of the digest before, its number, and every column as it is kept.
fn next_hash(before: &Digest, sequence: u64, row: &Row, covered: Covered) -> Result<Digest, Corrupt> {
    let fields = Fields::of_row("audit", "id", row);
    let at = fields.time("at")?.unix_micros().to_be_bytes();
    let number = sequence.to_be_bytes();
    let mut texts: Vec<Vec<u8>> = Vec::new();
    for column in covered.columns() {
        let text = fields.text_or_null(column)?;
        // What is absent is not what is empty, and no text runs into the next.
        let length = text.as_ref().map_or(u64::MAX, |text| text.len() as u64);
        texts.push([&length.to_be_bytes()[..], text.unwrap_or_default().as_bytes()].concat());
    }
    let parts: Vec<&[u8]> =
        [&before.as_bytes()[..], &number, &at].into_iter().chain(texts.iter().map(Vec::as_slice)).collect();
    Ok(Digest::of(covered.domain(), &parts))
}
