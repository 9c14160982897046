//! What the anchor says of the hub's WireGuard keys. Agents refuse any hub key that it did not name.

use minicbor::{Decode, Encode};

use crate::id::TenantId;
use crate::key::PublicKey;
use crate::signed::Statement;

/// The hub's keys: the one in use, the one that may come, the one that may still answer.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct HubKeys {
    /// Whose hub.
    #[n(0)]
    pub tenant: TenantId,
    /// Grows with each statement; a lower one is refused.
    #[n(1)]
    pub serial: u64,
    /// In use now.
    #[n(2)]
    pub active: PublicKey,
    /// Announced, so that a rotation finds everybody prepared.
    #[n(3)]
    pub next: Option<PublicKey>,
    /// Was in use; trusted until nobody needs it.
    #[n(4)]
    pub retiring: Option<PublicKey>,
}

impl HubKeys {
    /// Whether the anchor named this key.
    pub fn names(&self, key: &PublicKey) -> bool {
        [Some(self.active), self.next, self.retiring].contains(&Some(*key))
    }
}

impl Statement for HubKeys {
    const DOMAIN: &'static str = "warren hub keys 1";
}
