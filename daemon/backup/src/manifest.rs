//! What a backup says of itself: first in the file what it is, last what was in it.

use std::collections::BTreeMap;

use model::{Fingerprint, Label, PublicKey, Timestamp};
use serde::{Deserialize, Serialize};

use crate::error::BackupError;

/// The newest format that is known. Fields and parts that an older program may pass over do not raise it.
pub const FORMAT: u32 = 1;

/// How much of the server is in a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// All of it.
    Everything,
    /// The SSH authorities' keys and the anchors, with what opens them.
    SshCa,
}

/// What opens the keys in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SealedBy {
    /// `seal.key`, which is in the backup.
    KeyFile,
    /// A passphrase, which is not.
    Passphrase,
}

/// A tenant's anchor. Nobody but the server has its private half, and devices pin it: a backup whose anchor opens is that
/// server's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// Whose.
    pub tenant: Label,
    /// As devices pin it.
    pub fingerprint: Fingerprint,
}

/// The database as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseFacts {
    /// `sqlite` or `postgres`. The rows fit both.
    pub engine: String,
    /// Newest step of its schema.
    pub schema: u32,
    /// How often it was restored before, so to say.
    pub epoch: u32,
}

/// What a backup is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Of the file.
    pub format: u32,
    /// Program and version.
    pub made_by: String,
    /// When its rows were read.
    pub made_at: Timestamp,
    /// How much is in it.
    pub content: Content,
    /// The server's public URL.
    pub server: String,
    /// Of each tenant.
    pub anchors: Vec<Anchor>,
    /// The database.
    pub database: DatabaseFacts,
    /// What opens its keys.
    pub sealed_by: SealedBy,
    /// Public half of the hub's WireGuard key; none where warren-netd was not there to seal it.
    pub hub_key: Option<PublicKey>,
}

/// What was in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sums {
    /// SHA-256 of each part.
    pub parts: BTreeMap<String, String>,
    /// Rows of each table.
    pub rows: BTreeMap<String, u64>,
}

impl Manifest {
    /// Reads one. The format comes first: of a newer one nothing else is looked at.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, BackupError> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let bad = |error: serde_json::Error| BackupError::Damaged(format!("its manifest: {error}"));
        let head: Head = serde_json::from_slice(bytes).map_err(bad)?;
        if head.format > FORMAT {
            return Err(BackupError::Newer { found: head.format, known: FORMAT });
        }
        serde_json::from_slice(bytes).map_err(bad)
    }
}
