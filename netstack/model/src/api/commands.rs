//! Forms of device commands.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::command::CommandKind;
use crate::id::CommandId;
use crate::name::Label;
use crate::time::Timestamp;

/// The wish for a device command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewCommand {
    /// `resync`, `report` or `restart`.
    pub kind: CommandKind,
    /// A device that does not do it within so many seconds need not any more: 1 to 86400; 300 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
}

/// A device command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceCommand {
    /// Its id.
    pub id: CommandId,
    /// For which device.
    pub device: Label,
    /// `resync`, `report` or `restart`.
    pub kind: CommandKind,
    /// `queued`, `sent`, `done`, `failed` or `expired`.
    pub state: String,
    /// When it was wanted.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// From then on the device need not do it.
    pub expires_at: Timestamp,
    /// When it was sent first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<Timestamp>,
    /// When it ended, however.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}
