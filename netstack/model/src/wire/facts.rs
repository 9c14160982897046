//! What a device says of its machine now and then, for the operator. Never part of a snapshot.

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::wire::remark::Remark;

/// A machine as its agent sees it. Hostile, as everything that a device says: nothing is decided by it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode, Serialize, Deserialize, ToSchema)]
#[cbor(map)]
pub struct Facts {
    /// Such as `Debian GNU/Linux 12 (bookworm), x86_64`.
    #[n(0)]
    pub os: Remark,
    /// The kernel's release.
    #[n(1)]
    pub kernel: Remark,
    /// Since the machine started.
    #[n(2)]
    pub uptime_seconds: u64,
    /// Load average of the last minute, in hundredths.
    #[n(3)]
    pub load_hundredths: u32,
    /// All memory.
    #[n(4)]
    pub memory_bytes: u64,
    /// Memory that programs can have without swapping.
    #[n(5)]
    pub memory_available_bytes: u64,
}
