//! What is asked for a backup, and what verifying and restoring one says.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::key::{Fingerprint, PublicKey};
use crate::name::Label;
use crate::time::Timestamp;

/// The header that says whether the hub's WireGuard key is in a backup: `sealed` or `absent`.
pub const HUB_KEY_HEADER: &str = "warren-hub-key";

/// How much of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BackupContent {
    /// All of it.
    #[default]
    Everything,
    /// The SSH authorities' keys and the anchors, with what opens them.
    SshCa,
}

/// The wish for a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewBackup {
    /// Who alone can open it: a recipient of age, `age1…`.
    pub recipient: String,
    /// How much of the server.
    #[serde(default)]
    pub content: BackupContent,
}

/// The anchor of a tenant in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnchorFound {
    /// Whose.
    pub tenant: Label,
    /// As devices pin it.
    pub fingerprint: Fingerprint,
    /// Whether its private half opens and is that one's.
    pub opens: bool,
}

/// What verifying or restoring found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupReport {
    /// [`super::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// When its rows were read.
    pub made_at: Timestamp,
    /// Program and version.
    pub made_by: String,
    /// The server's public URL.
    pub server: String,
    /// How much is in it.
    pub content: BackupContent,
    /// Of the file.
    pub format: u32,
    /// Newest step of the database's schema.
    pub schema: u32,
    /// `sqlite` or `postgres`. The rows fit both.
    pub database: String,
    /// The epoch that it was made in.
    pub epoch: u32,
    /// Rows of each table.
    pub rows: BTreeMap<String, u64>,
    /// Of each tenant.
    pub anchors: Vec<AnchorFound>,
    /// Keys of SSH authorities that opened and signed.
    pub ssh_keys_opened: u32,
    /// Entries of the audit log's chain.
    pub audit_entries: u64,
    /// Public half of the hub's WireGuard key, which opened.
    pub hub_key: Option<PublicKey>,
    /// What does not hold.
    pub problems: Vec<String>,
    /// Whether nothing does not.
    pub well: bool,
    /// How long all of it took.
    pub took_millis: u64,
    /// The epoch of the restored database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_epoch: Option<u32>,
    /// What was there before, by its new name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moved_aside: Vec<String>,
    /// Keys that were sealed anew, where the backup is of keys alone.
    #[serde(default)]
    pub put_back: u32,
    /// What is left for the operator.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_to_do: Vec<String>,
}
