//! The vocabulary: ids, keys, names, addresses, time, snapshots, patches, zones, limits and the wire.
//!
//! Everything is parsed at the door and trusted afterwards. This crate knows no socket, file, clock, random
//! source or database; time and randomness reach it as arguments.

pub mod ability;
pub mod address;
pub mod api;
pub mod buckets;
pub mod command;
pub mod host_key;
pub mod hub;
pub mod id;
pub mod key;
pub mod limits;
pub mod name;
pub mod patch;
pub mod refusal;
pub mod relay;
pub mod role;
pub mod signed;
pub mod snapshot;
pub mod ssh;
mod text;
pub mod time;
pub mod token;
pub mod trust;
pub mod version;
pub mod vouch;
pub mod wire;
pub mod zone;

pub use ability::Abilities;
pub use address::{Block, Endpoint, EndpointHost, MeshAddresses};
pub use buckets::Buckets;
pub use command::CommandKind;
pub use host_key::HostKey;
pub use id::{DeviceId, NodeId, TenantId, TokenId};
pub use key::{
    AnchorKey, AnchorSecret, CheckpointKey, CheckpointSecret, Digest, Fingerprint, IdentityKey,
    IdentitySecret, Nonce, PrivateKey, PublicKey, Signature,
};
pub use name::{Label, Name};
pub use patch::Patch;
pub use refusal::{Code, Refusal};
pub use role::Role;
pub use signed::{Signed, Statement, Trusted};
pub use snapshot::{Own, Peer, Snapshot, Stamp, Standing};
pub use ssh::{CaKey, CaKind, CertificateId, Login, Revoked, SshIdentity, SshSerial};
pub use time::{Mono, Now, Timestamp};
pub use trust::{Grant, LoginGrants, OwnSsh, SshPatch, SshTrust, TrustedKey};
pub use version::{Epoch, Generation, Held, Version};
pub use zone::{Record, RecordData, RecordSet, Zone};
