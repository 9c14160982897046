//! Forms of the audit log.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::AuditId;
use crate::key::Digest;
use crate::name::Label;
use crate::time::Timestamp;

/// One entry: what somebody did, or was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Its id.
    pub id: AuditId,
    /// Its place in the chain; absent for a moment after it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// The chain's digest there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<Digest>,
    /// When it was decided.
    pub at: Timestamp,
    /// Whose, where it is one tenant's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Label>,
    /// Who wanted it, such as `user:ada`.
    pub actor: String,
    /// A dotted name, such as `device.revoke`.
    pub action: String,
    /// What it was about: a name or an id.
    pub target: String,
    /// `done` or `refused`.
    pub outcome: String,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What happened.
    pub detail: String,
    /// The address that it came from, if it came over the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub source: Option<IpAddr>,
    /// The id of the request, as its answer and the server's log show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

/// Whether the audit log is as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditVerdict {
    /// Whether all holds.
    pub holds: bool,
    /// Entries that were looked at.
    pub entries: u64,
    /// The newest that was forgotten for its age.
    pub forgotten_to: u64,
    /// The newest.
    pub newest: u64,
    /// The chain's digest there, to be compared with what a sink was told.
    pub hash: Digest,
    /// Where it does not hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken_at: Option<u64>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}
