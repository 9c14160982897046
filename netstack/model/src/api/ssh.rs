//! Forms about SSH: certificates of people, authorities and their rotations.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::DeviceId;
use crate::name::Label;
use crate::ssh::{CaKey, CaKind, Login, Revoked, SshIdentity, SshSerial};
use crate::time::Timestamp;
use crate::vouch::SignedVouch;

/// A person wants a certificate. Whose it is, the login says; on which device, the device says itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewCertificate {
    /// One line of OpenSSH.
    pub public_key: String,
    /// The word of the device's agent that the key is on it.
    pub vouch: SignedVouch,
    /// How long; a working day if absent, or what the person's roles allow if that is less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub life_seconds: Option<u64>,
}

/// A person's certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IssuedCertificate {
    /// One line of OpenSSH, for the file beside the key.
    pub certificate: String,
    /// Its number.
    pub serial: SshSerial,
    /// The one principal.
    pub principal: String,
    /// Until when it is valid.
    pub valid_until: Timestamp,
    /// The key that signed it.
    pub signer: CaKey,
}

/// An authority of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Authority {
    /// Whose certificates.
    pub kind: CaKind,
    /// `standby`, `in_progress` or `rollback`.
    pub state: String,
    /// `standby`, `init`, `update_clients`, `update_servers` or `rollback`.
    pub phase: String,
    /// Since when.
    pub since: Timestamp,
    /// The keys that are trusted, oldest first.
    pub keys: Vec<AuthorityKey>,
    /// Certificates that live and were not revoked.
    pub living: usize,
    /// Who or what the next step waits for. Empty: it can be taken.
    pub missing: Vec<String>,
    /// The devices among them.
    #[serde(default)]
    pub missing_devices: Vec<MissingDevice>,
}

/// A device that a rotation waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MissingDevice {
    /// Which.
    pub device: DeviceId,
    /// When it last said what it has installed; null if it never did.
    pub said_at: Option<Timestamp>,
}

/// A key of an authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuthorityKey {
    /// The first is 1.
    pub generation: u32,
    /// One line of OpenSSH.
    pub public_key: CaKey,
    /// Whether it signs now.
    pub signs: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it is due to be replaced. It goes on signing: only a rotation ends that.
    pub due_at: Timestamp,
    /// Whether people are to think of that: 90 days before and from then on, while it signs.
    pub is_due: bool,
}

/// A rotation is to begin.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotate {
    /// The key is in the wrong hands: nothing but the new one is trusted from now on. Certificates of the former open nothing
    /// more, and nobody is waited for.
    #[serde(default)]
    pub emergency: bool,
}

/// A rotation is to go on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Advance {
    /// Devices that nobody waits for in this rotation, by name or id.
    #[serde(default)]
    pub except: Vec<String>,
}

/// What a role says: who may be whom on which hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleWish {
    /// Whether whoever administers the tenant has it.
    #[serde(default)]
    pub administrators: bool,
    /// Who else has it: `u:NAME`, `s:NAME`.
    #[serde(default)]
    pub identities: Vec<SshIdentity>,
    /// Whether each may be the login of its own name.
    #[serde(default)]
    pub own_login: bool,
    /// Which logins each may be besides.
    #[serde(default)]
    pub logins: Vec<Login>,
    /// On hosts with all of these tags; on every host if there are none.
    #[serde(default)]
    pub tags: Vec<Label>,
    /// And with all of these labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, String>)]
    pub labels: BTreeMap<Label, Label>,
    /// How long a certificate of theirs lives at most.
    pub max_session_ttl_seconds: u64,
    /// What their certificates permit besides a terminal: `permit-port-forwarding`, `permit-agent-forwarding`.
    #[serde(default)]
    pub permits: Vec<String>,
}

/// A role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = SshRole)]
pub struct Role {
    /// Unique in the tenant.
    pub name: Label,
    /// What it says.
    #[serde(flatten)]
    pub wish: RoleWish,
}

/// Certificates are to be taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRevocation {
    /// Of which authority.
    pub kind: CaKind,
    /// Which.
    pub what: Vec<Revoked>,
    /// Also what the server does not know: a restored one has forgotten some.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unknown: bool,
}

/// What was taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Revocations {
    /// How many revocations are new.
    pub revoked: usize,
    /// How many living certificates are refused from now on.
    #[serde(default)]
    pub certificates: usize,
    /// Until when: of a person or a host every certificate is refused until then, a new one too.
    #[serde(default)]
    pub until: Timestamp,
}

/// What is revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Revocation {
    /// Of which authority.
    pub kind: CaKind,
    /// Which.
    pub what: Revoked,
    /// Since when.
    pub since: Timestamp,
    /// Until when it is listed, but for a quarter of an hour: of a person or a host every certificate is refused until then.
    pub until: Timestamp,
    /// Who did it: `server` where it follows from a device or a person that is gone. Null if a version of before did, which did not
    /// write it down.
    pub by: Option<String>,
}

/// What was taken back is to be good again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Unrevoke {
    /// Which, as the list of revocations names it.
    pub what: Vec<Revoked>,
}

/// What is good again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GivenBack {
    /// How many lines of the list are gone.
    pub given_back: usize,
}

/// What is revoked of one authority, as sshd reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RevocationList {
    /// Of which authority.
    pub kind: CaKind,
    /// Grows with every change of the tenant.
    pub version: u64,
    /// How many entries it has.
    pub entries: usize,
    /// The list in base64.
    krl: String,
}

impl RevocationList {
    /// A list of these bytes.
    pub fn new(kind: CaKind, version: u64, entries: usize, bytes: &[u8]) -> Self {
        Self { kind, version, entries, krl: STANDARD.encode(bytes) }
    }

    /// The bytes; `None` if what came is none.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        STANDARD.decode(&self.krl).ok()
    }
}
