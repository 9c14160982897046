//! What one operator would tell another about a node, as data: the shell logs and counts it.

use std::time::Duration;

use model::id::CommandId;
use model::{DeviceId, PublicKey, Refusal, Standing, TenantId, Version};

use crate::change::Change;
use crate::ledger::Rejection;
use crate::seat::Seat;

/// Something worth a line in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The server made this machine a device, or said that it is one.
    Joined {
        /// Its id.
        device: DeviceId,
        /// Whether an administrator has to approve it.
        standing: Standing,
    },
    /// The wish to join was refused for good and is forgotten.
    JoinRefused(Refusal),
    /// The link is up and both sides know each other.
    Attached,
    /// The link is down.
    Detached {
        /// Why.
        reason: String,
    },
    /// No link could be made. Said once for as long as the reason stays.
    Unreachable {
        /// Why.
        reason: String,
    },
    /// The server refused the link. What is held stays.
    ServerRefused(Refusal),
    /// The server could not prove the anchor, or said what no server says. What is held stays.
    ServerUntrusted {
        /// Why.
        reason: &'static str,
    },
    /// A hub was told another anchor for a tenant than the one it pinned. The pin stays.
    AnchorChanged {
        /// Whose.
        tenant: TenantId,
    },
    /// A hub was told of more tenants than it takes. Those that it has stay.
    TenantsTooMany {
        /// One that it does not take.
        refused: TenantId,
    },
    /// A newer snapshot is in force.
    Accepted {
        /// Whose directory.
        tenant: TenantId,
        /// Which.
        version: Version,
        /// Whether the node may take part.
        standing: Standing,
    },
    /// A snapshot or patch was refused. What is held stays.
    Rejected {
        /// Whose directory it was said to be of.
        tenant: TenantId,
        /// Why.
        rejection: Rejection,
    },
    /// Two tenants name one WireGuard key: the first keeps it.
    PeerTwice {
        /// The key.
        key: PublicKey,
        /// Who keeps it.
        kept: TenantId,
        /// Whose peer is left out.
        refused: TenantId,
    },
    /// Somebody else changed the host; it is being repaired.
    Drift {
        /// Of which interface.
        seat: Seat,
        /// How many changes it takes.
        changes: u64,
        /// The first of them.
        first: Change,
    },
    /// A change could not be made and will be tried again.
    ChangeFailed {
        /// Which.
        change: Change,
        /// What the host said.
        reason: String,
        /// When it is tried again, counted from now.
        retry_after: Duration,
    },
    /// The host could not be read; tried again.
    ObserveFailed {
        /// What the host said.
        reason: String,
    },
    /// The ledger could not be written; tried again. Nothing is acknowledged to the server meanwhile.
    PersistFailed {
        /// What the host said.
        reason: String,
    },
    /// A hub among several acts from now on.
    Leads {
        /// Of the lease.
        term: u64,
    },
    /// A hub among several does not act any more: its server does not hold the lease, or does not say so.
    StandsBy {
        /// The last that was heard of.
        term: u64,
    },
    /// The server wants the program to begin anew.
    RestartAsked {
        /// By which device command; [`crate::Input::Restarted`] ends it.
        command: CommandId,
    },
    /// The server wants the device to have another WireGuard key.
    RekeyAsked {
        /// By which device command; [`crate::Input::NextKey`] follows, or [`crate::Input::CommandFailed`].
        command: CommandId,
    },
    /// The server has taken the key that is to follow: the node is to be begun with it, and told [`crate::Input::Restarted`].
    Rekeyed {
        /// Because of which device command, if it is known.
        command: Option<CommandId>,
    },
    /// No change is left to make.
    Settled,
}

impl Event {
    /// A constant message for the log.
    pub const fn message(&self) -> &'static str {
        match self {
            Self::Joined { .. } => "joined",
            Self::JoinRefused(_) => "join refused",
            Self::Attached => "attached",
            Self::Detached { .. } => "detached",
            Self::Unreachable { .. } => "server cannot be reached",
            Self::ServerRefused(_) => "refused by the server",
            Self::ServerUntrusted { .. } => "server is not to be trusted",
            Self::AnchorChanged { .. } => "another anchor was offered",
            Self::TenantsTooMany { .. } => "too many tenants",
            Self::Accepted { .. } => "snapshot accepted",
            Self::Rejected { .. } => "snapshot rejected",
            Self::PeerTwice { .. } => "two tenants name one key",
            Self::Drift { .. } => "drift",
            Self::ChangeFailed { .. } => "change failed",
            Self::ObserveFailed { .. } => "host could not be read",
            Self::PersistFailed { .. } => "ledger could not be written",
            Self::Leads { .. } => "is the hub",
            Self::StandsBy { .. } => "stands by",
            Self::RestartAsked { .. } => "a restart is asked for",
            Self::RekeyAsked { .. } => "another key is asked for",
            Self::Rekeyed { .. } => "the server has the other key",
            Self::Settled => "settled",
        }
    }

    /// Whether somebody should look today.
    pub const fn is_warning(&self) -> bool {
        match self {
            Self::Joined { .. }
            | Self::Attached
            | Self::Detached { .. }
            | Self::Unreachable { .. }
            | Self::Accepted { .. }
            | Self::Drift { .. }
            | Self::Leads { .. }
            | Self::StandsBy { .. }
            | Self::RestartAsked { .. }
            | Self::RekeyAsked { .. }
            | Self::Rekeyed { .. }
            | Self::Settled => false,
            Self::JoinRefused(_)
            | Self::ServerRefused(_)
            | Self::ServerUntrusted { .. }
            | Self::AnchorChanged { .. }
            | Self::TenantsTooMany { .. }
            | Self::Rejected { .. }
            | Self::PeerTwice { .. }
            | Self::ChangeFailed { .. }
            | Self::ObserveFailed { .. }
            | Self::PersistFailed { .. } => true,
        }
    }
}
