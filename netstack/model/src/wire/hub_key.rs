//! The frames by which a server has the hub seal its WireGuard key for a backup.

use minicbor::{Decode, Encode};

use super::remark::Remark;

/// Server to hub, if it answers that: its WireGuard key is wanted for a backup.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SealKey {
    /// Who alone may open it: a recipient of age, `age1…`.
    #[n(0)]
    pub recipient: Remark,
}

/// Hub to server: its WireGuard key, which the server cannot read.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct KeySealed {
    /// Sealed for the recipient. `None`: that is none.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub sealed: Option<Vec<u8>>,
}
