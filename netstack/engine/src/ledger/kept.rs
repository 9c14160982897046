//! An accepted snapshot as it is kept: ready to use, and as the bytes that the file will have.
//!
//! The bytes are the last whole and the patches since, so that a ledger of ten thousand peers is written after a
//! one-peer patch by copying, not by encoding them all again.

use minicbor::bytes::ByteVec;
use model::key::Digest;
use model::snapshot::Stamp;
use model::{Held, Patch, Signed, Snapshot};

/// More patches than this are folded into the whole: each is applied again when the ledger is loaded.
const PATCHES_MAX: usize = 256;
/// So are more bytes than a quarter of the whole and this: a file is never much larger than its snapshot.
const PATCH_BYTES_FLOOR: usize = 64 * 1024;

/// An accepted snapshot.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    /// Of the snapshot as it is now.
    pub(super) stamp: Signed<Stamp>,
    pub(super) held: Held,
    pub(super) snapshot: Snapshot,
    /// A snapshot in CBOR.
    pub(super) base: Vec<u8>,
    /// What turns that into `snapshot`, in CBOR.
    pub(super) patches: Vec<ByteVec>,
    patch_bytes: usize,
}

/// Why bytes are no snapshot.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadBytes {
    #[error("{0}")]
    Unreadable(#[from] minicbor::decode::Error),
    #[error("they have digest {0}, not that of the stamp")]
    Digest(Digest),
}

impl Kept {
    pub(super) fn new(stamp: Signed<Stamp>, held: Held, snapshot: Snapshot, base: Vec<u8>) -> Self {
        Self { stamp, held, snapshot, base, patches: Vec::new(), patch_bytes: 0 }
    }

    /// The snapshot that bytes from a file stand for; `held` is what a verified stamp says.
    pub(super) fn from_bytes(
        stamp: Signed<Stamp>,
        held: Held,
        base: Vec<u8>,
        patches: Vec<ByteVec>,
    ) -> Result<Self, BadBytes> {
        let mut snapshot: Snapshot = minicbor::decode(&base)?;
        for patch in &patches {
            minicbor::decode::<Patch>(patch)?.apply(&mut snapshot);
        }
        let digest = snapshot.digest();
        if digest != held.digest {
            return Err(BadBytes::Digest(digest));
        }
        let patch_bytes = patches.iter().map(|p| p.len()).sum();
        Ok(Self { stamp, held, snapshot, base, patches, patch_bytes })
    }

    /// Notes that the snapshot became another by a patch, given in CBOR.
    pub(super) fn patched(&mut self, stamp: Signed<Stamp>, held: Held, patch: Vec<u8>) {
        (self.stamp, self.held) = (stamp, held);
        self.patch_bytes += patch.len();
        self.patches.push(patch.into());
        if self.patches.len() > PATCHES_MAX || self.patch_bytes > PATCH_BYTES_FLOOR + self.base.len() / 4 {
            self.base = minicbor::to_vec(&self.snapshot).expect("writing to memory cannot fail");
            self.patches.clear();
            self.patch_bytes = 0;
        }
    }

    /// About how many bytes it takes in a file.
    pub(super) fn bytes_len(&self) -> usize {
        const STAMP_AND_FRAMING: usize = 512;
        self.base.len() + self.patch_bytes + self.patches.len() * 8 + STAMP_AND_FRAMING
    }
}
