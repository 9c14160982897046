//! What a node is told once: its role, its keys, its name for itself. Read by binaries, not here.

use model::wire::Remark;
use model::{IdentitySecret, Name, Nonce, PrivateKey};

use crate::guard::Guard;

/// What a node is told once.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Device or hub.
    pub role: Role,
    /// The node's WireGuard key.
    pub wireguard: PrivateKey,
    /// Program and version, for the operator.
    pub software: Remark,
}

/// Which end of a mesh the node is.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "there is one")]
pub enum Role {
    /// A machine of a tenant.
    Device {
        /// Authenticates every link.
        identity: IdentitySecret,
        /// Fresh at each start, see [`model::wire::AttachClaim::instance`].
        instance: Nonce,
        /// UDP port of its WireGuard; any free one if absent.
        listen_port: Option<u16>,
        /// Searched for names besides the tenant's zone, such as what the zones of several tenants end in.
        search: Vec<Name>,
    },
    /// The server end, for all tenants at once.
    Hub {
        /// UDP port of its WireGuard.
        listen_port: u16,
        /// What no server can make it do.
        guard: Guard,
    },
}
