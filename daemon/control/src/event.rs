//! What happened, as data: the shell logs it, counts it and decides what an operator hears.

use std::net::IpAddr;

use model::wire::Remark;
use model::{Code, DeviceId, NodeId, Refusal, TenantId, Version};

use crate::directory::BadRows;
use crate::link::LinkId;

/// Something worth a line in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A node attached.
    Attached {
        /// Over which link.
        link: LinkId,
        /// Of which tenant; `None` for the hub, which carries all.
        tenant: Option<TenantId>,
        /// Which node.
        node: NodeId,
        /// Its program and version.
        software: Remark,
    },
    /// A node's link ended.
    Detached {
        /// Which link.
        link: LinkId,
        /// Which node.
        node: NodeId,
        /// Why.
        why: &'static str,
    },
    /// A node was turned away.
    LinkRefused {
        /// Which link.
        link: LinkId,
        /// Where from; `None` from the local socket.
        from: Option<IpAddr>,
        /// Why.
        refusal: Refusal,
    },
    /// A node said why it leaves.
    NodeRefused {
        /// Which link.
        link: LinkId,
        /// Its reason.
        refusal: Refusal,
    },
    /// A device enrolled.
    Enrolled {
        /// Whose.
        tenant: TenantId,
        /// Which device.
        device: DeviceId,
    },
    /// Two machines present one identity.
    IdentityCloned {
        /// Whose.
        tenant: TenantId,
        /// Which device.
        device: DeviceId,
    },
    /// A node refused what it was sent.
    ResyncAsked {
        /// Whose.
        tenant: TenantId,
        /// Which node.
        node: NodeId,
        /// Its reason.
        reason: Remark,
    },
    /// A node did not acknowledge a snapshot for long, though it lives: it is sent again.
    HoldingOverdue {
        /// Whose.
        tenant: TenantId,
        /// Which node.
        node: NodeId,
    },
    /// A node holds a version that this server has not reached: the database is older than the mesh. Nothing is sent.
    NodeAhead {
        /// Whose.
        tenant: TenantId,
        /// Which node.
        node: NodeId,
        /// What it holds.
        held: Version,
        /// What the server has.
        here: Version,
    },
    /// A node holds the current version with other contents. Nothing is sent that it would refuse.
    NodeForked {
        /// Whose.
        tenant: TenantId,
        /// Which node.
        node: NodeId,
        /// The version of both.
        version: Version,
    },
    /// A directory is not published, because its rows cannot be right.
    DirectoryWithheld {
        /// Whose.
        tenant: TenantId,
        /// Why.
        reason: BadRows,
    },
    /// A tenant whose anchor could not be opened: the seal's key is another.
    AnchorSealed {
        /// Whose.
        tenant: TenantId,
    },
    /// A read had an older version than the directory, in the same epoch: it is not taken.
    StoreBehind {
        /// Whose.
        tenant: TenantId,
        /// What was read.
        read: Version,
        /// What the directory has.
        here: Version,
    },
    /// The database was put back from a backup and has no such tenant: nothing of it is served any more.
    TenantLost {
        /// Which.
        tenant: TenantId,
    },
    /// An edit is decided again, because somebody else was faster.
    CommitConflict {
        /// Whose; `None` for a new tenant.
        tenant: Option<TenantId>,
        /// How often by now.
        attempts: u32,
    },
    /// An edit was refused.
    EditRefused {
        /// Whose.
        tenant: Option<TenantId>,
        /// Which, as in the audit log.
        action: &'static str,
        /// Why.
        code: Code,
    },
    /// An edit is in the store.
    EditDone {
        /// Whose.
        tenant: TenantId,
        /// Which, as in the audit log.
        action: &'static str,
        /// The generation that it made.
        version: Version,
    },
    /// The store did not do what was asked.
    StoreUnavailable {
        /// Whose directory; `None` for a poll.
        tenant: Option<TenantId>,
        /// What it said.
        reason: String,
    },
}
