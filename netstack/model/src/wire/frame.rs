//! The frames, in the order in which a link sees them. Says what travels, not who may send it when.

use minicbor::{Decode, Encode};

use crate::ability::Abilities;
use crate::address::Endpoint;
use crate::id::{DeviceId, TenantId, TokenId};
use crate::key::{AnchorKey, Fingerprint, IdentityKey, Nonce, Proof, PublicKey, Signature};
use crate::patch::Patch;
use crate::refusal::Refusal;
use crate::relay::RelayPass;
use crate::signed::Signed;
use crate::snapshot::{Stamp, Standing};
use crate::time::Timestamp;
use crate::version::Held;
use crate::wire::command::{Command, CommandDone};
use crate::wire::facts::Facts;
pub use crate::wire::hub_key::{KeySealed, SealKey};
use crate::wire::remark::Remark;
use crate::wire::ssh::{CertifyHost, HostCertified, SshInstalled, SshLogins, SshLoginsNoted};

macro_rules! frames {
    ($($kind:literal $variant:ident,)*) => {
        /// One frame.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Frame {
            $(#[doc = concat!("See [`", stringify!($variant), "`].")] $variant($variant),)*
            /// A kind that this version does not know: ignored.
            Unknown(u16),
        }

        impl Frame {
            /// The number that stands before the body.
            pub const fn kind(&self) -> u16 {
                match self { $(Self::$variant(_) => $kind,)* Self::Unknown(kind) => *kind }
            }

            /// For logs and metrics.
            pub const fn name(&self) -> &'static str {
                match self { $(Self::$variant(_) => stringify!($variant),)* Self::Unknown(_) => "Unknown" }
            }

            pub(super) fn encode_body(&self) -> Vec<u8> {
                match self {
                    $(Self::$variant(body) => minicbor::to_vec(body).expect("writing to memory cannot fail"),)*
                    Self::Unknown(_) => Vec::new(),
                }
            }

            pub(super) fn decode_body(kind: u16, body: &[u8]) -> Result<Self, minicbor::decode::Error> {
                Ok(match kind {
                    $($kind => Self::$variant(minicbor::decode(body)?),)*
                    other => Self::Unknown(other),
                })
            }
        }

        $(impl From<$variant> for Frame {
            fn from(body: $variant) -> Self { Self::$variant(body) }
        })*
    };
}

frames! {
    1 Hello,
    2 Welcome,
    3 Enrol,
    4 Enrolled,
    5 Attach,
    6 AttachHub,
    7 Attached,
    8 Whole,
    9 Part,
    10 Patched,
    11 Holding,
    12 Resync,
    13 Heartbeat,
    14 Heard,
    15 Refused,
    16 Retry,
    17 Hint,
    18 Hinted,
    19 Services,
    20 AttachRelay,
    24 CertifyHost,
    25 HostCertified,
    26 SshInstalled,
    30 SealKey,
    31 KeySealed,
    32 SshLogins,
    33 SshLoginsNoted,
    40 Command,
    41 CommandDone,
}

/// Node to server, first: which versions it speaks, whom it expects.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Hello {
    /// Lowest version spoken.
    #[n(0)]
    pub version_min: u16,
    /// Highest version spoken.
    #[n(1)]
    pub version_max: u16,
    /// Fresh.
    #[n(2)]
    pub nonce: Nonce,
    /// The anchor that the server must prove. `None` from a hub, which knows its server by the unix socket.
    #[n(3)]
    pub anchor: Option<Fingerprint>,
    /// Program and version, for the operator.
    #[n(4)]
    pub software: Remark,
}

/// Server to node: proof of the anchor, and what the node signs over.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Welcome {
    /// The version that both speak.
    #[n(0)]
    pub version: u16,
    /// Fresh.
    #[n(1)]
    pub nonce: Nonce,
    /// Fresh X25519 key, for the proof of possession of the node's WireGuard key.
    #[n(2)]
    pub ephemeral: PublicKey,
    /// The anchor and its signature, see [`super::Transcript`]. `None` to a hub.
    #[n(3)]
    pub anchor: Option<(AnchorKey, Signature)>,
}

/// Node to server: the wish to become a device. Idempotent on the identity key.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Enrol {
    /// What the proofs are over.
    #[n(0)]
    pub claim: EnrolClaim,
    /// By the token's seed over the transcript.
    #[n(1)]
    pub token_signature: Signature,
    /// By the identity key over the transcript.
    #[n(2)]
    pub identity_signature: Signature,
    /// Of the WireGuard key over the transcript.
    #[n(3)]
    pub wireguard_proof: Proof,
    /// What the program knows. Outside the claim: a server of before signs over the fields that it knows.
    #[cbor(n(4), default)]
    pub abilities: Abilities,
}

/// The claims of an [`Enrol`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct EnrolClaim {
    /// Which token.
    #[n(0)]
    pub token: TokenId,
    /// The device's identity.
    #[n(1)]
    pub identity: IdentityKey,
    /// The device's WireGuard key.
    #[n(2)]
    pub wireguard: PublicKey,
    /// What the machine calls itself, or what the person asked for. Hostile until parsed.
    #[n(3)]
    pub hostname: Remark,
    /// Operating system, for the operator.
    #[n(4)]
    pub os: Remark,
}

/// Server to node: it is a device now, or was one already. The link goes on as if attached.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Enrolled {
    /// Its id.
    #[n(0)]
    pub device: DeviceId,
    /// Whether an administrator has to approve it.
    #[n(1)]
    pub standing: Standing,
    /// Seconds between heartbeats.
    #[n(2)]
    pub heartbeat_seconds: u16,
}

/// A device attaches. Its identity key alone says whose data it gets.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Attach {
    /// What the signature is over.
    #[n(0)]
    pub claim: AttachClaim,
    /// By the identity key over the transcript.
    #[n(1)]
    pub signature: Signature,
    /// As in [`Enrol`].
    #[cbor(n(2), default)]
    pub abilities: Abilities,
    /// The device's WireGuard key, or the one that is to follow it: the directory takes it over. Outside the claim, as above.
    #[n(3)]
    pub key: Option<KeyClaim>,
}

/// A device has this WireGuard key.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct KeyClaim {
    /// The key.
    #[n(0)]
    pub wireguard: PublicKey,
    /// Of the WireGuard key over the transcript and the identity.
    #[n(1)]
    pub proof: Proof,
    /// By the identity key over the transcript and the key: nobody on the way puts a key of theirs here.
    #[n(2)]
    pub signature: Signature,
}

/// The claims of an [`Attach`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct AttachClaim {
    /// Who attaches.
    #[n(0)]
    pub identity: IdentityKey,
    /// What it holds already.
    #[n(1)]
    pub held: Option<Held>,
    /// Random, made when the agent's state directory was made and again at each start: two alive at once are a cloned disk.
    #[n(2)]
    pub instance: Nonce,
}

/// The hub attaches over the unix socket; the peer credentials say that it may.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct AttachHub {
    /// What the proof is over.
    #[n(0)]
    pub claim: HubClaim,
    /// Of the WireGuard key over the transcript.
    #[n(1)]
    pub wireguard_proof: Proof,
    /// It answers [`SealKey`].
    #[cbor(n(2), default)]
    pub seals: bool,
    /// It keeps interfaces of tenants' own, beside the one that they share.
    #[cbor(n(3), default)]
    pub own_interfaces: bool,
}

/// The claims of an [`AttachHub`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct HubClaim {
    /// The hub's WireGuard key.
    #[n(0)]
    pub wireguard: PublicKey,
    /// The UDP port that it listens on.
    #[n(1)]
    pub listen_port: u16,
    /// What it holds of each tenant.
    #[n(2)]
    pub held: Vec<(TenantId, Held)>,
}

/// Server to node: attached; snapshots follow when there is something newer than what is held.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Attached {
    /// Seconds between heartbeats.
    #[n(0)]
    pub heartbeat_seconds: u16,
    /// For a hub: every tenant that it carries, with the anchor to pin. Sent again when one is created. Empty for a device.
    #[n(1)]
    pub tenants: Vec<(TenantId, AnchorKey)>,
    /// To a device that claimed a WireGuard key: the one that the directory has. Sent again when it took the other.
    #[n(2)]
    pub key: Option<PublicKey>,
}

/// Server to node: a whole snapshot begins; its CBOR follows in [`Part`]s.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Whole {
    /// Version, digest and signature.
    #[n(0)]
    pub stamp: Signed<Stamp>,
    /// Whose directory: which anchor to check the stamp with.
    #[n(1)]
    pub tenant: TenantId,
    /// Bytes of all parts together.
    #[n(2)]
    pub bytes_total: u32,
}

/// Server to node: the next bytes of the snapshot that began last.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Part {
    /// At most [`crate::limits::PART_BYTES_MAX`].
    #[cbor(n(0), with = "minicbor::bytes")]
    pub bytes: Vec<u8>,
}

/// Server to node: the next snapshot as a patch of the one held.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Patched {
    /// Version, digest of the result, and signature.
    #[n(0)]
    pub stamp: Signed<Stamp>,
    /// Whose directory.
    #[n(1)]
    pub tenant: TenantId,
    /// What it is a patch of.
    #[n(2)]
    pub from: Held,
    /// What changed.
    #[n(3)]
    pub patch: Patch,
}

/// Node to server: accepted and on disk.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Holding {
    /// Whose directory.
    #[n(0)]
    pub tenant: TenantId,
    /// Which snapshot.
    #[n(1)]
    pub held: Held,
    /// No change left to make on the host. Sent once more when it becomes true.
    #[n(2)]
    pub settled: bool,
}

/// Node to server: what was sent was refused; send the whole.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Resync {
    /// Whose directory.
    #[n(0)]
    pub tenant: TenantId,
    /// What is still held.
    #[n(1)]
    pub held: Option<Held>,
    /// Why it was refused, for the operator.
    #[n(2)]
    pub reason: Remark,
}

/// Node to server, every [`crate::limits::HEARTBEAT_INTERVAL`] and when something in it changed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Heartbeat {
    /// Counts up; answered by [`Heard`].
    #[n(0)]
    pub sequence: u64,
    /// What the node holds of each tenant, and whether the host is settled.
    #[n(1)]
    pub holding: Vec<Holding>,
    /// Drift repaired since the program started.
    #[n(2)]
    pub drift_total: u64,
    /// What is wrong now, for the operator. Empty when all is well.
    #[n(3)]
    pub problems: Vec<Remark>,
    /// The node's wall clock.
    #[n(4)]
    pub wall: Timestamp,
    /// Which WireGuard carries a hub's packets, for the operator: `kernel`, or `userspace` and more.
    #[n(5)]
    pub engine: Option<Remark>,
    /// What its machine is like, in the first heartbeat of a link and now and then.
    #[n(6)]
    pub facts: Option<Facts>,
}

/// Server to node: the heartbeat arrived.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct Heard {
    /// Of the heartbeat.
    #[n(0)]
    pub sequence: u64,
    /// To a hub whose server is one of several: whether it is the hub now.
    #[n(1)]
    pub lease: Option<HubLease>,
}

/// What a server that is one of several knows of the lease. A hub acts for as long as its own server holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct HubLease {
    /// Grows each time that another holds the lease; a lower one than before is refused.
    #[n(0)]
    pub term: u64,
    /// For so long more the server holds it. The hub counts from when it sent the heartbeat, so that no delay on the way
    /// makes it longer. 0: the hub stands by from now on, whatever the heartbeat.
    #[n(1)]
    pub lasts_millis: u32,
}

/// Device to server: for another device of the tenant, sealed so that only that one can read it. Given on at once or
/// not at all.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Hint {
    /// For whom.
    #[n(0)]
    pub to: DeviceId,
    /// At most [`crate::limits::HINT_BYTES_MAX`].
    #[cbor(n(1), with = "minicbor::bytes")]
    pub sealed: Vec<u8>,
}

/// Server to device: a [`Hint`] for it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Hinted {
    /// From whom: the server knows by the link.
    #[n(0)]
    pub from: DeviceId,
    /// As it was given.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub sealed: Vec<u8>,
}

/// Server to device, once it is enrolled or attached, and again when something in it is another: what else there is for
/// it. A device that does not know the frame does without.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct Services {
    /// Where STUN is answered (RFC 8489), two ports of one machine first: who is behind a NAT learns there what it does.
    #[n(0)]
    pub stun: Vec<Endpoint>,
    /// Lets the device use the tenant's relays on other machines. Replaces the one before.
    #[n(1)]
    pub pass: Option<Signed<RelayPass>>,
    /// What is relayed over this link to [`crate::relay::HUB`] reaches the hub.
    #[cbor(n(2), default)]
    pub leads_to_hub: bool,
}

/// Device to relay, in place of an [`Attach`]: the identity key, and the anchor's word that it may use the tenant's
/// relays. A relay's [`Welcome`] proves no anchor: its TLS key is named in the snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct AttachRelay {
    /// What the signature is over.
    #[n(0)]
    pub claim: AttachClaim,
    /// By the identity key over the transcript.
    #[n(1)]
    pub signature: Signature,
    /// Names the identity.
    #[n(2)]
    pub pass: Signed<RelayPass>,
    /// Signed the pass. The relay knows its fingerprint.
    #[n(3)]
    pub anchor: AnchorKey,
}

/// Either way, last: why the link ends. Changes nothing that is held: only a snapshot does.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Refused {
    /// Why.
    #[n(0)]
    pub refusal: Refusal,
}

/// Server to node, last: come back later.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Retry {
    /// Not before so many milliseconds; jitter is in it already.
    #[n(0)]
    pub after_millis: u32,
}
