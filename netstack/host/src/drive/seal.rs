//! The node's WireGuard key for a backup, which its server asks for and cannot read.

use model::PrivateKey;

use super::Driver;

/// Seals a key for a recipient, unless that is none.
pub type Seal = fn(&PrivateKey, &str) -> Option<Vec<u8>>;

impl Driver {
    pub(super) fn sealed_for(&self, recipient: &str) -> Option<Vec<u8>> {
        self.seals.as_ref().and_then(|(seal, key)| seal(key, recipient))
    }
}
