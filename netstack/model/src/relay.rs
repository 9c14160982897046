//! What devices, server and relays agree on about relaying: who may, where, and in which form packets travel.

pub mod datagram;
pub mod join;

use minicbor::{Decode, Encode};

use crate::address::Endpoint;
use crate::id::{DeviceId, TenantId};
use crate::key::{Fingerprint, IdentityKey};
use crate::name::Label;
use crate::signed::Statement;
use crate::time::Timestamp;

/// Whom a device names that sends to the hub, over its link to the server: to that alone, and not to a relay on another machine. No
/// device has this id.
pub const HUB: DeviceId = DeviceId::from_bytes([0; 16]);

pub use datagram::{DATAGRAM_BYTES_MAX, HEAD_BYTES, KIND, PAYLOAD_BYTES_MAX, Piece, PieceIds, Relayed};
pub use join::Joiner;

/// The anchor's word that a device may use the tenant's relays: a relay has no directory to look it up in. A device that
/// is revoked keeps it until it expires, and reaches nobody with it: no peer knows its key any more.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct RelayPass {
    /// Whose device.
    #[n(0)]
    pub tenant: TenantId,
    /// Which.
    #[n(1)]
    pub device: DeviceId,
    /// Who shows the pass must prove this key.
    #[n(2)]
    pub identity: IdentityKey,
    /// Refused from then on, see [`crate::limits::RELAY_PASS_LIFE`].
    #[n(3)]
    pub expires_at: Timestamp,
}

impl Statement for RelayPass {
    const DOMAIN: &'static str = "warren relay pass 1";
}

/// A relay as the snapshot announces it. The server itself relays too, over the link, and is not among them.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct RelayPlace {
    /// Its number, from 1; 0 is the server. Never given to another relay.
    #[n(0)]
    pub id: u32,
    /// For people.
    #[n(1)]
    pub name: Label,
    /// Where it listens, over UDP and TCP.
    #[n(2)]
    pub endpoint: Endpoint,
    /// Of its TLS key: what else answers there is not it.
    #[n(3)]
    pub certificate: Fingerprint,
}
