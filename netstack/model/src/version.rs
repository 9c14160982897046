//! Where a directory stands: epoch and generation. They only grow.

use std::fmt;

use crate::key::Digest;

/// The directory's counter within an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, minicbor::Encode, minicbor::Decode)]
#[cbor(transparent)]
pub struct Generation(#[n(0)] pub u64);

impl Generation {
    /// The one after.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Grows when a database is restored, and so orders generations across the restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, minicbor::Encode, minicbor::Decode)]
#[cbor(transparent)]
pub struct Epoch(#[n(0)] pub u32);

/// Epoch first, generation second: the order of everything that a tenant ever was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Version {
    /// Raised by a restore.
    #[n(0)]
    pub epoch: Epoch,
    /// Raised by an edit.
    #[n(1)]
    pub generation: Generation,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch.0, self.generation.0)
    }
}

/// What a node holds of a tenant: the version and the digest of its snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Held {
    /// Of the snapshot.
    #[n(0)]
    pub version: Version,
    /// Of the snapshot, see [`crate::Snapshot::digest`].
    #[n(1)]
    pub digest: Digest,
}
