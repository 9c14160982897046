//! Where the audit log begins and ends, sealed: what the database says of it and nobody else can have written.

use model::Digest;

use crate::dialect;
use crate::encoded::signed;
use crate::error::{Corrupt, DatabaseError, ReadError};
use crate::fields::{Fields, digest_of};
use crate::sql::{Transaction, values};

/// Entries of one transaction: SQLite's one writer is free again in some tens of milliseconds.
pub(crate) const BATCH_MAX: u32 = 500;

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

/// What seals what the database says of the log, and says whether a seal is of that.
pub trait AuditSeal: Send + Sync {
    /// Seals.
    fn seal(&self, what: &[u8]) -> Result<Vec<u8>, String>;
    /// Whether it was sealed so.
    fn fits(&self, what: &[u8], sealed: &[u8]) -> bool;
}

/// The ends, and what the database has for their seal.
pub(crate) struct Head {
    pub(crate) ends: AuditEnds,
    pub(crate) sealed: Vec<u8>,
    /// Whether it is what the server sealed. What is not is never sealed again, whatever follows: somebody wrote it.
    pub(crate) fits: bool,
}

impl Head {
    pub(crate) async fn read(transaction: &mut Transaction, seal: &dyn AuditSeal) -> Result<Self, ReadError> {
        let (ends, sealed) = read_ends(transaction).await?;
        let is_new = ends == AuditEnds::new() && sealed.is_empty();
        Ok(Self { ends, fits: is_new || seal.fits(&ends.to_bytes(), &sealed), sealed })
    }

    /// For whoever goes on: others wait until it is done.
    pub(crate) async fn hold(transaction: &mut Transaction, seal: &dyn AuditSeal) -> Result<Self, ReadError> {
        transaction.all(dialect::LOCK_SERVER, vec![]).await?;
        Self::read(transaction, seal).await
    }

    pub(crate) async fn save(
        &self,
        transaction: &mut Transaction,
        seal: &dyn AuditSeal,
    ) -> Result<(), ChainError> {
        let Self { ends, sealed, fits } = self;
        let fresh = seal.seal(&ends.to_bytes()).map_err(ChainError::Seal)?;
        let sql = "INSERT INTO audit_head (id, sequence, hash, pruned_sequence, pruned_hash, sealed) \
                   VALUES (1, $1, $2, $3, $4, $5) ON CONFLICT (id) DO UPDATE SET sequence = excluded.sequence, \
                   hash = excluded.hash, pruned_sequence = excluded.pruned_sequence, \
                   pruned_hash = excluded.pruned_hash, sealed = excluded.sealed";
        let arguments = values![
            signed(ends.sequence),
            &ends.hash.as_bytes()[..],
            signed(ends.pruned_sequence),
            &ends.pruned_hash.as_bytes()[..],
            if *fits { fresh.as_slice() } else { sealed.as_slice() },
        ];
        transaction.execute(sql, arguments).await?;
        Ok(())
    }
}

/// Why the chain did not go on.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// The database.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Entries that are not what was chained are evidence.
    #[error("number {0}: {1}; nothing is forgotten from there on")]
    Broken(u64, &'static str),
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

pub(crate) async fn read_ends(transaction: &mut Transaction) -> Result<(AuditEnds, Vec<u8>), ReadError> {
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
