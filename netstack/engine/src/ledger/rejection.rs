//! Why a snapshot or a patch was refused. Each has a stable code.

use model::key::Digest;
use model::{NodeId, PublicKey, TenantId, Version};

use crate::guard::Breach;

/// Why a snapshot or a patch was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// No anchor is pinned for the tenant.
    #[error("no anchor is pinned for tenant {0}")]
    TenantUnknown(TenantId),
    /// The stamp is not the pinned anchor's.
    #[error("the stamp is not to be trusted: {0}")]
    Untrusted(model::signed::Untrusted),
    /// Of another tenant than it was said to be, or than the device's own.
    #[error("it is of tenant {0}")]
    ForeignTenant(TenantId),
    /// For another node.
    #[error("it is for node {0}")]
    ForeignNode(NodeId),
    /// Older than what is held.
    #[error("{offered} is older than {held}, which is held")]
    Stale {
        /// What is held.
        held: Version,
        /// What came.
        offered: Version,
    },
    /// Two different snapshots have one version: the directory forked.
    #[error("{0} is held with other contents")]
    Forked(Version),
    /// A patch of something else than what is held.
    #[error("the patch is of {0}, which is not held")]
    Base(Version),
    /// The contents are not those that the stamp names.
    #[error("the contents have digest {0}, not that of the stamp")]
    Digest(Digest),
    /// The parts are no snapshot.
    #[error("the contents cannot be read: {0}")]
    Unreadable(String),
    /// More bytes than a snapshot may have, or than were announced.
    #[error("{0} bytes are too many")]
    TooLong(usize),
    /// The contents contradict each other.
    #[error("the contents contradict each other: {0}")]
    Inconsistent(&'static str),
    /// A hub key that the anchor did not name.
    #[error("the anchor did not name the hub key {0}")]
    HubKey(PublicKey),
    /// The statement of hub keys is not the anchor's, or of another tenant.
    #[error("the statement of hub keys is not to be trusted")]
    HubKeysUntrusted,
    /// An older statement of hub keys than one seen before.
    #[error("hub keys {offered} are older than {seen}, seen before")]
    HubKeysStale {
        /// The serial seen before.
        seen: u64,
        /// The serial that came.
        offered: u64,
    },
    /// Most peers would go, and the server does not confirm it.
    #[error("{gone} of {of} peers would go, unconfirmed")]
    MassRemoval {
        /// How many would go.
        gone: usize,
        /// Of how many.
        of: usize,
    },
    /// Two tenants of one hub would share addresses.
    #[error("its block overlaps that of tenant {0}")]
    Overlap(TenantId),
    /// Outside the hub's own limits.
    #[error("it is outside this hub's limits: {0}")]
    Guard(Breach),
}

impl Rejection {
    /// A stable code for logs, metrics and the server.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TenantUnknown(_) => "tenant-unknown",
            Self::Untrusted(_) => "untrusted",
            Self::ForeignTenant(_) => "foreign-tenant",
            Self::ForeignNode(_) => "foreign-node",
            Self::Stale { .. } => "stale",
            Self::Forked(_) => "forked",
            Self::Base(_) => "base-mismatch",
            Self::Digest(_) => "digest-mismatch",
            Self::Unreadable(_) => "unreadable",
            Self::TooLong(_) => "too-long",
            Self::Inconsistent(_) => "inconsistent",
            Self::HubKey(_) => "hub-key-unnamed",
            Self::HubKeysUntrusted => "hub-keys-untrusted",
            Self::HubKeysStale { .. } => "hub-keys-stale",
            Self::MassRemoval { .. } => "mass-removal",
            Self::Overlap(_) => "block-overlap",
            Self::Guard(_) => "guard",
        }
    }
}
